"""What became of a task, from what it wrote, what the queue says and what stands in its log."""

import dataclasses
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slurmmaker import submission

from bids_sr.cli.console import table_text
from bids_sr.config import UsageError
from bids_sr.notices import Notice, record
from bids_sr.slurm.calls import ACTIVE
from bids_sr.slurm.job_states import (
    State,
    _JobStatus,
    _message_in,
    _read_status,
    _state_of,
    failures,
    fates,
    summary,
    table,
)
from bids_sr.slurm.manage import open_now, overview
from bids_sr.slurm.scripts import write_scripts
from bids_sr.slurm.submission import Submission, latest, load, submissions


def wrote(state: str, code: int | None = None, **more: object) -> _JobStatus:
    return _JobStatus(participant="sub-01", state=state, exit_code=code, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "seen", "state", "why"),
    [
        (None, "PENDING", State.PENDING, ""),
        (None, "RUNNING", State.RUNNING, ""),
        (None, "", State.FAILED, "unknown"),
        (None, "CANCELLED", State.FAILED, "cancelled"),
        (None, "NODE_FAIL", State.FAILED, "node"),
        (wrote("running"), "RUNNING", State.RUNNING, ""),
        (wrote("running"), "PENDING", State.REQUEUED, ""),
        (wrote("running"), "", State.FAILED, "killed"),
        (wrote("running"), "COMPLETED", State.FAILED, "killed"),
        (wrote("running"), "OUT_OF_MEMORY", State.FAILED, "memory"),
        (wrote("running"), "TIMEOUT", State.FAILED, "time"),
        (wrote("running"), "CANCELLED", State.FAILED, "cancelled"),
        (wrote("requeued", 130), "PENDING", State.REQUEUED, ""),
        (wrote("requeued", 130), "COMPLETING", State.REQUEUED, ""),
        (wrote("requeued", 130), "CANCELLED", State.FAILED, "cancelled"),
        (wrote("done", 0), "", State.DONE, ""),
        (wrote("done", 0, oom_kills=1), "OUT_OF_MEMORY", State.DONE, ""),
        (wrote("failed", 1), "", State.FAILED, "crashed"),
        (wrote("failed", 1), "RUNNING", State.FAILED, "crashed"),
        # a node failed; SLURM starts it again
        (wrote("failed", 1), "PENDING", State.REQUEUED, ""),
        (wrote("failed", 1, oom_kills=2), "FAILED", State.FAILED, "memory"),
        (wrote("failed", 137, oom_kills=1), "", State.FAILED, "memory"),
        (wrote("failed", 137), "OUT_OF_MEMORY", State.FAILED, "memory"),
        (wrote("failed", 137), "FAILED", State.FAILED, "killed"),
        (wrote("failed", 2), "", State.FAILED, "refused"),
        (wrote("failed", 3), "", State.FAILED, "left-out"),
        (wrote("failed", 127), "", State.FAILED, "absent"),
        (wrote("failed", 130), "", State.FAILED, "interrupted"),
        (wrote("failed", 130, stopped="limit"), "", State.FAILED, "time"),
        (wrote("failed", 130, stopped="cancel"), "CANCELLED", State.FAILED, "cancelled"),
        (wrote("failed", None, stopped="cancel"), "", State.FAILED, "cancelled"),
    ],
)
def test_state_and_reason(status: _JobStatus | None, seen: str, state: State, why: str) -> None:
    assert _state_of(status, seen) == (state, why)


@given(
    st.none()
    | st.builds(
        wrote,
        st.sampled_from(["running", "requeued", "failed"]),
        st.none() | st.integers(0, 255),
        oom_kills=st.integers(0, 2),
        stopped=st.sampled_from(["", "limit", "cancel"]),
    ),
    st.sampled_from(
        [*sorted(ACTIVE), "", "FAILED", "TIMEOUT", "CANCELLED", "COMPLETED", "SOMETHING_NEW"]
    ),
)
def test_every_failure_has_a_reason_and_nothing_else_has(
    status: _JobStatus | None, seen: str
) -> None:
    state, why = _state_of(status, seen)
    assert (state is State.FAILED) == bool(why)
    assert state is not State.DONE
    if seen not in ACTIVE:
        assert state is State.FAILED  # nothing waits for ever for a job that is gone


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (
            (
                "slurmstepd: error: *** JOB 3 ON n1 CANCELLED AT 2026-11-20T14:31:26 DUE TO TIME"
                " LIMIT ***"
            ),
            "TIMEOUT",
        ),
        (
            "slurmstepd-n1: error: *** JOB 3 ON n1 CANCELLED AT 2026-11-20T14:31:26 ***",
            "CANCELLED",
        ),
        (
            "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=5.batch. Some of your",
            "OUT_OF_MEMORY",
        ),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=5.batch.", "OUT_OF_MEMORY"),
        ("slurmstepd: error: Job 9 exceeded memory limit (9 > 8), being killed", "OUT_OF_MEMORY"),
        ("the program says: DUE TO TIME LIMIT", ""),
        ("", ""),
    ],
)
def test_messages_of_slurm(text: str, state: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("x\n" * 20_000 + text + "\nlast line \xff\n", encoding="latin-1")
    assert _message_in(log) == state
    assert _message_in(tmp_path / "absent") == ""


def note(made: Submission, name: str, **values: object) -> None:
    file = made.folder / "status" / f"{name}.json"
    file.write_text(json.dumps({"participant": name, **values}))


@pytest.fixture
def made(tmp_path: Path) -> Submission:
    sent = submission(tmp_path, ("sub-01", "sub-02", "sub-03"))
    write_scripts(sent, "")
    numbered = zip(sent.jobs, ("7", "8"), strict=True)
    jobs = tuple(dataclasses.replace(job, number=number) for job, number in numbered)
    return dataclasses.replace(sent, jobs=jobs)


def test_the_table_names_who_failed_and_what_to_do(made: Submission) -> None:
    note(made, "sub-01", state="done", exit_code=0, started=0, ended=90)
    note(
        made, "sub-02", state="failed", exit_code=137, oom_kills=1, restarts=1, started=0, ended=30
    )
    found = fates(made, {"7_3": "PENDING", "8": "PENDING"})
    lines = table_text(table(found)).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["sub-01", "done", "0", "1", "1.5", "7_1", "-"],
        ["sub-02", "failed", "137", "2", "0.5", "7_2", "out", "of", "memory"],
        ["sub-03", "pending", "-", "0", "-", "7_3", "-"],
        ["group", "pending", "-", "0", "-", "8", "-"],
    ]
    assert summary(found) == "3 participants: 1 pending, 1 done, 1 failed, group level pending"
    (told,) = failures(found, made.output_dir)
    assert (told.what, told.subject, told.code) == ("sub-02", "02", "memory")
    assert told.why.startswith(
        "out of memory (resources requested per start of the job: 4.0 GB and "
    )
    assert told.file == str(made.folder / "logs" / "array-1_2.log")


OTHERS: tuple[dict[str, str], ...] = ({"subject": "02"}, {"code": "left-out"})


def test_of_a_task_that_crashed_the_recorded_steps_are_told(made: Submission) -> None:
    logs = made.output_dir / "logs"
    fit = Notice(what="wf.fit", why="ValueError: x", subject="01", code="crashed")
    for name, notices in (
        ("20250101", [dataclasses.replace(fit, why="an older one")]),
        ("20250102", [fit, *(dataclasses.replace(fit, **each) for each in OTHERS)]),
    ):
        (logs / name).mkdir(parents=True)
        record(logs / name, notices)
    note(made, "sub-01", state="failed", exit_code=1, started=0, ended=90)
    note(made, "sub-02", state="failed", exit_code=137, started=0, ended=90)
    found = failures(fates(made, {"7_3": "PENDING", "8": "PENDING"}), made.output_dir)
    assert [(each.what, each.code) for each in found] == [
        ("sub-01", "crashed"),
        ("wf.fit", "crashed"),
        ("sub-02", "killed"),
    ]
    assert found[0].file == str(made.folder / "logs" / "array-1_1.log")
    assert found[1].why == "ValueError: x"
    # it failed again, and this time no step is at fault
    later = int(time.time()) + 60
    note(made, "sub-01", state="failed", exit_code=1, started=later, ended=later + 90)
    found = failures(fates(made, {"7_3": "PENDING", "8": "PENDING"}), made.output_dir)
    assert [each.what for each in found] == ["sub-01", "sub-02"]


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("cancelled", "{retry} resumes processing with 4.0 GB and 0-00:30:00."),
        ("memory", "{retry} resumes processing with 8.0 GB and 0-00:30:00."),
        ("time", "{retry} resumes processing with 4.0 GB and 0-01:00:00."),
        (
            "refused",
            "Correct the problem that is reported in the log. Then {retry} resumes processing"
            " with 4.0 GB and 0-00:30:00.",
        ),
    ],
)
def test_the_remedy_is_a_command(code: str, remedy: str, made: Submission) -> None:
    found = dataclasses.replace(fates(made, {})[0], state=State.FAILED, code=code)
    (told,) = failures([found], Path("my out"))
    assert told.remedy == remedy.format(retry="`bids-sr-slurm retry 'my out'`")


def test_what_the_group_job_saw_counts_when_slurm_has_forgotten(made: Submission) -> None:
    note(made, "sub-01", state="running", started=0)
    note(made, "sub-02", state="running", started=0)
    (made.folder / "ended.txt").write_text("7_1|TIMEOUT|TimeLimit\n7_2|COMPLETING|None\n")
    assert [fate.code for fate in fates(made, {})] == [
        "time",
        "killed",
        "unknown",
        "unknown",
    ]


def test_the_log_counts_when_nothing_else_tells(made: Submission) -> None:
    note(made, "sub-01", state="running", started=0)
    (made.folder / "logs" / "array-1_1.log").write_text(
        "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=5.batch.\n"
    )
    assert fates(made, {"7_1": "FAILED"})[0].code == "memory"


def test_half_a_status_file_counts_as_none(tmp_path: Path) -> None:
    for text in (
        "",
        "{",
        "[]",
        '{"participant": "x"}',
        '{"participant": "x", "state": "done", "more": 1}',
    ):
        (tmp_path / "x.json").write_text(text)
        assert _read_status(tmp_path / "x.json") is None


def test_records_come_back_and_the_last_counts(made: Submission, tmp_path: Path) -> None:
    later = dataclasses.replace(submission(tmp_path, ("sub-02",)), id="20260102-000000-000000")
    made.save()
    later.save()
    assert submissions(made.output_dir) == [made, later]
    assert {name: each.id for name, each in latest([made, later]).items()} == {
        "sub-01": made.id,
        "sub-02": later.id,
        "sub-03": made.id,
    }


def test_records_that_cannot_be_read_are_not_taken_for_none(tmp_path: Path) -> None:
    assert open_now(tmp_path) is None
    path = tmp_path / "logs" / "slurm" / "x" / "submission.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"format": 99}')
    with pytest.raises(UsageError, match="another version"):
        open_now(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 99}', '{"format": 1, "site": {}}'])
def test_a_record_that_cannot_be_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "submission.json").write_text(text)
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path / "submission.json")


def test_no_record(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no submitted jobs"):
        overview(tmp_path)
