"""What became of a task, from what it wrote, what the queue says and what stands in its log."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slurmmaker import submission

from bids_sr.config import UsageError
from bids_sr.slurm.job_endings import Why
from bids_sr.slurm.job_states import (
    ACTIVE,
    State,
    Status,
    fates,
    message_in,
    read_status,
    remedies,
    state_of,
    summary,
    table,
)
from bids_sr.slurm.sbatch_scripts import write_scripts
from bids_sr.slurm.submission import Submission, latest, load, submissions


def wrote(state: str, code: int | None = None, **more: object) -> Status:
    return Status(participant="sub-01", state=state, exit_code=code, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "seen", "state", "why"),
    [
        (None, "PENDING", State.PENDING, Why.NOTHING),
        (None, "RUNNING", State.RUNNING, Why.NOTHING),
        (None, "", State.FAILED, Why.UNKNOWN),
        (None, "CANCELLED", State.FAILED, Why.CANCELLED),
        (None, "NODE_FAIL", State.FAILED, Why.NODE),
        (wrote("running"), "RUNNING", State.RUNNING, Why.NOTHING),
        (wrote("running"), "PENDING", State.REQUEUED, Why.NOTHING),
        (wrote("running"), "", State.FAILED, Why.KILLED),
        (wrote("running"), "COMPLETED", State.FAILED, Why.KILLED),
        (wrote("running"), "OUT_OF_MEMORY", State.FAILED, Why.MEMORY),
        (wrote("running"), "TIMEOUT", State.FAILED, Why.TIME),
        (wrote("running"), "CANCELLED", State.FAILED, Why.CANCELLED),
        (wrote("requeued", 130), "PENDING", State.REQUEUED, Why.NOTHING),
        (wrote("requeued", 130), "COMPLETING", State.REQUEUED, Why.NOTHING),
        (wrote("requeued", 130), "CANCELLED", State.FAILED, Why.CANCELLED),
        (wrote("done", 0), "", State.DONE, Why.NOTHING),
        (wrote("done", 0, oom_kills=1), "OUT_OF_MEMORY", State.DONE, Why.NOTHING),
        (wrote("failed", 1), "", State.FAILED, Why.CRASHED),
        (wrote("failed", 1), "RUNNING", State.FAILED, Why.CRASHED),
        # a node failed; SLURM starts it again
        (wrote("failed", 1), "PENDING", State.REQUEUED, Why.NOTHING),
        (wrote("failed", 1, oom_kills=2), "FAILED", State.FAILED, Why.MEMORY),
        (wrote("failed", 137, oom_kills=1), "", State.FAILED, Why.MEMORY),
        (wrote("failed", 137), "OUT_OF_MEMORY", State.FAILED, Why.MEMORY),
        (wrote("failed", 137), "FAILED", State.FAILED, Why.KILLED),
        (wrote("failed", 2), "", State.FAILED, Why.REFUSED),
        (wrote("failed", 127), "", State.FAILED, Why.ABSENT),
        (wrote("failed", 130), "", State.FAILED, Why.STOPPED),
        (wrote("failed", 130, stopped="limit"), "", State.FAILED, Why.TIME),
        (wrote("failed", 130, stopped="cancel"), "CANCELLED", State.FAILED, Why.CANCELLED),
        (wrote("failed", None, stopped="cancel"), "", State.FAILED, Why.CANCELLED),
    ],
)
def test_state_and_reason(status: Status | None, seen: str, state: State, why: Why) -> None:
    assert state_of(status, seen) == (state, why)


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
def test_every_failure_has_a_reason_and_nothing_else_has(status: Status | None, seen: str) -> None:
    state, why = state_of(status, seen)
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
    assert message_in(log) == state
    assert message_in(tmp_path / "absent") == ""


def note(made: Submission, name: str, **values: object) -> None:
    file = made.folder / "status" / f"{name}.json"
    file.write_text(json.dumps({"participant": name, **values}))


@pytest.fixture
def made(tmp_path: Path) -> Submission:
    sent = submission(tmp_path, ("sub-01", "sub-02", "sub-03"))
    write_scripts(sent, "")
    array = sent.arrays[0]
    return dataclasses.replace(sent, arrays=(dataclasses.replace(array, job="7"),), group_job="8")


def test_the_table_names_who_failed_and_what_to_do(made: Submission) -> None:
    note(made, "sub-01", state="done", exit_code=0, started=0, ended=90)
    note(
        made, "sub-02", state="failed", exit_code=137, oom_kills=1, restarts=1, started=0, ended=30
    )
    found = fates(made, {"7_3": "PENDING", "8": "PENDING"})
    lines = table(found).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["sub-01", "done", "0", "1", "1.5", "7_1", "-"],
        ["sub-02", "failed", "137", "2", "0.5", "7_2", "out", "of", "memory"],
        ["sub-03", "pending", "-", "0", "-", "7_3", "-"],
        ["group", "pending", "-", "0", "-", "8", "-"],
    ]
    assert summary(found) == "3 participants: 1 pending, 1 done, 1 failed, group level pending"
    (text,) = remedies(found, Path("/o ut"))
    assert (
        "sub-02: out of memory; it had 4.0 GB, `bids-sr-slurm retry '/o ut'` asks for 8.0" in text
    )
    assert str(made.folder / "logs" / "array-1_2.log") in text


def test_what_the_group_job_saw_counts_when_slurm_has_forgotten(made: Submission) -> None:
    note(made, "sub-01", state="running", started=0)
    note(made, "sub-02", state="running", started=0)
    (made.folder / "ended.txt").write_text("7_1|TIMEOUT|TimeLimit\n7_2|COMPLETING|None\n")
    assert [fate.why for fate in fates(made, {})] == [
        Why.TIME,
        Why.KILLED,
        Why.UNKNOWN,
        Why.UNKNOWN,
    ]


def test_the_log_counts_when_nothing_else_tells(made: Submission) -> None:
    note(made, "sub-01", state="running", started=0)
    made.log_of("sub-01").write_text(
        "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=5.batch.\n"
    )
    assert fates(made, {"7_1": "FAILED"})[0].why is Why.MEMORY


def test_half_a_status_file_counts_as_none(tmp_path: Path) -> None:
    for text in (
        "",
        "{",
        "[]",
        '{"participant": "x"}',
        '{"participant": "x", "state": "done", "more": 1}',
    ):
        (tmp_path / "x.json").write_text(text)
        assert read_status(tmp_path / "x.json") is None


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


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 99}', '{"format": 1, "site": {}}'])
def test_a_record_that_cannot_be_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "submission.json").write_text(text)
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path / "submission.json")


def test_no_record(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no submissions"):
        submissions(tmp_path)
