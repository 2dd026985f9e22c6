"""Test the digests of settings, and the jobs of an output in the queue."""

import dataclasses
from pathlib import Path

import pytest
from slurmmaker import program, submission

from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings
from bids_sr.slurm.records import _WITHOUT_EFFECT, compute_digests, find_open_jobs
from bids_sr.slurm.scripts import write_scripts


def settings(*options: str) -> Settings:
    return parse_settings(["/data", "/out", "participant", *options]).resolve(run_uuid="")


@pytest.mark.parametrize(
    ("options", "same_participant", "same_group"),
    [
        (("--nprocs", "3", "--mem", "9", "-w", "/else", "-v"), True, True),
        (("--participant-label", "01", "02"), True, False),
        (("--random-seed", "4"), False, False),
        (("--task-id", "rest"), False, False),
        (("--level", "full"), False, False),
    ],
)
def test_digests_depend_on_settings_that_change_outputs(
    options: tuple[str, ...], same_participant: bool, same_group: bool
) -> None:
    participant, group = compute_digests(settings())
    other_participant, other_group = compute_digests(settings(*options))
    assert (participant == other_participant, group == other_group) == (
        same_participant,
        same_group,
    )


def test_settings_that_were_stored_have_the_same_digests(tmp_path: Path) -> None:
    original = settings("--participant-label", "02", "--sr-method", "srgan", "--smoothing", "2")
    (tmp_path / "settings.toml").write_text(original.to_toml())
    stored = Settings.from_toml(tmp_path / "settings.toml")
    assert compute_digests(stored) == compute_digests(original)


def test_ignored_settings_exist() -> None:
    names = {
        f"{group.name}.{item.name}"
        for group in dataclasses.fields(Settings)
        for item in dataclasses.fields(getattr(settings(), group.name))
    }
    assert names >= _WITHOUT_EFFECT


def test_tasks_of_the_queue_are_participants_of_their_submission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = settings("--participant-label", "01", "02", "03")
    for identifier in ("first", "second"):
        write_scripts(
            submission(
                tmp_path,
                (("sub-01", "sub-02"), (f"sub-{identifier}",)),
                id=identifier,
                settings_toml=call.to_toml(),
            )
        )
    rows = "7_2|RUNNING|bids-sr-first\n8_1|PENDING|bids-sr-second\n9|PENDING|bids-sr-second\n"
    program(tmp_path / "bin" / "squeue", f"echo \"$@\" >{tmp_path}/call; printf '{rows}'")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    jobs = {job.number: job for job in find_open_jobs(tmp_path / "out")}
    assert {number: job.names for number, job in jobs.items()} == {
        "7_2": ("sub-first",),
        "8_1": ("sub-01", "sub-02"),
        "9": ("group",),
    }
    assert jobs["9"].is_group
    assert jobs["7_2"].digests == compute_digests(call)
    arguments = (tmp_path / "call").read_text().split()
    assert "--array" in arguments  # pending tasks are otherwise listed as 8_[1-4]
    assert "--name=bids-sr-first,bids-sr-second" in arguments


def test_an_output_without_submissions_has_no_jobs(tmp_path: Path) -> None:
    assert find_open_jobs(tmp_path) == []
