"""Test which participants and which group job remain to be submitted."""

from pathlib import Path

import pytest

from bids_sr.config import UsageError
from bids_sr.slurm.records import OpenJob, find_records_dir
from bids_sr.slurm.remaining import find_remaining

NAMES = ("sub-01", "sub-02", "sub-03")
DIGESTS = ("p", "g")


def record(out: Path, *names: str, digest: str = "p") -> None:
    folder = find_records_dir(out)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(f"{digest}\n")
        (out / name).mkdir(exist_ok=True)


def job(number: str, *names: str, digests: tuple[str, str] = DIGESTS) -> OpenJob:
    return OpenJob(number=number, names=names, digests=digests)


def test_participants_that_are_neither_done_nor_in_the_queue_remain(tmp_path: Path) -> None:
    record(tmp_path, "sub-01")
    remaining = find_remaining(tmp_path, NAMES, DIGESTS, [job("4_1", "sub-02")])
    assert (remaining.done, remaining.active, remaining.participants) == (
        ("sub-01",),
        ("sub-02",),
        ("sub-03",),
    )


def test_a_finished_task_that_is_still_in_the_queue_is_done(tmp_path: Path) -> None:
    record(tmp_path, *NAMES)
    remaining = find_remaining(tmp_path, NAMES, DIGESTS, [job("4_1", "sub-01")])
    assert remaining.done == NAMES
    assert remaining.active == ()


def test_all_tasks_of_the_queue_are_dependencies_of_the_group_job(tmp_path: Path) -> None:
    jobs = [job("4_1", "sub-01"), job("4_2", "sub-02"), job("5", "group")]
    remaining = find_remaining(tmp_path, NAMES, DIGESTS, jobs)
    assert remaining.open_numbers == ("4", "5")
    assert remaining.needs_group
    assert remaining.replaced_groups == ("5",)


def test_other_settings_are_not_done(tmp_path: Path) -> None:
    record(tmp_path, *NAMES, digest="earlier")
    assert find_remaining(tmp_path, NAMES, DIGESTS, []).participants == NAMES


def test_a_deleted_output_is_not_done(tmp_path: Path) -> None:
    record(tmp_path, *NAMES)
    (tmp_path / "sub-02").rmdir()
    assert find_remaining(tmp_path, NAMES, DIGESTS, []).participants == ("sub-02",)


def test_a_job_in_the_queue_with_other_settings_is_refused(tmp_path: Path) -> None:
    jobs = [job("4_2", "sub-02", digests=("other", "g")), job("4_1", "sub-01")]
    with pytest.raises(
        UsageError, match=r"sub-02: pending or running with other.*\n.*\n.*scancel 4"
    ):
        find_remaining(tmp_path, NAMES, DIGESTS, jobs)
    record(tmp_path, "sub-02")
    find_remaining(tmp_path, NAMES, DIGESTS, jobs)
    # a participant that this call does not select
    find_remaining(tmp_path, ("sub-01",), DIGESTS, jobs)


@pytest.mark.parametrize(
    ("group_record", "jobs", "needs_group"),
    [
        ("", [], True),
        ("g", [], False),
        ("other", [], True),
        ("", [job("5", "group")], False),
        ("", [job("5", "group", digests=("p", "other"))], True),
    ],
)
def test_the_group_level_is_submitted_unless_done_or_in_the_queue(
    group_record: str, jobs: list[OpenJob], needs_group: bool, tmp_path: Path
) -> None:
    record(tmp_path, *NAMES)
    (find_records_dir(tmp_path) / "group").write_text(group_record)
    assert find_remaining(tmp_path, NAMES, DIGESTS, jobs).needs_group == needs_group


def test_a_group_level_before_the_end_of_all_tasks_is_not_current(tmp_path: Path) -> None:
    record(tmp_path, "sub-01", "sub-02")
    (find_records_dir(tmp_path) / "group").write_text("g")
    assert find_remaining(tmp_path, NAMES, DIGESTS, [job("4_1", "sub-03")]).needs_group


def test_one_participant_has_no_group_level(tmp_path: Path) -> None:
    assert not find_remaining(tmp_path, NAMES[:1], DIGESTS, []).needs_group
