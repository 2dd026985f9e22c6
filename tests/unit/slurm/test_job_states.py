"""Test the state of a task, from its status file, the queue and its log."""

import dataclasses
import json
import time
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from slurmmaker import submission

from bids_sr.cli.console import table_text
from bids_sr.config import UsageError
from bids_sr.notices import Notice, record
from bids_sr.slurm.commands import ACTIVE
from bids_sr.slurm.job_states import (
    State,
    _find_log_state,
    _find_state,
    _read_status,
    _StatusFile,
    find_job_statuses,
    format_summary,
    format_table,
    make_failure_notices,
)
from bids_sr.slurm.manage import read_current_overview, read_overview
from bids_sr.slurm.scripts import write_scripts
from bids_sr.slurm.submission import Submission, latest_submissions, load, submissions


def job_status(state: str, code: int | None = None, **fields: object) -> _StatusFile:
    return _StatusFile(participant="sub-01", state=state, exit_code=code, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "queue_state", "state", "why"),
    [
        (None, "PENDING", State.PENDING, ""),
        (None, "RUNNING", State.RUNNING, ""),
        (None, "", State.FAILED, "unknown"),
        (None, "CANCELLED", State.FAILED, "cancelled"),
        (None, "NODE_FAIL", State.FAILED, "node"),
        (job_status("running"), "RUNNING", State.RUNNING, ""),
        (job_status("running"), "PENDING", State.REQUEUED, ""),
        (job_status("running"), "", State.FAILED, "killed"),
        (job_status("running"), "COMPLETED", State.FAILED, "killed"),
        (job_status("running"), "OUT_OF_MEMORY", State.FAILED, "memory"),
        (job_status("running"), "TIMEOUT", State.FAILED, "time"),
        (job_status("running"), "CANCELLED", State.FAILED, "cancelled"),
        (job_status("requeued", 130), "PENDING", State.REQUEUED, ""),
        (job_status("requeued", 130), "COMPLETING", State.REQUEUED, ""),
        (job_status("requeued", 130), "CANCELLED", State.FAILED, "cancelled"),
        (job_status("done", 0), "", State.DONE, ""),
        (job_status("done", 0, oom_kills=1), "OUT_OF_MEMORY", State.DONE, ""),
        (job_status("failed", 1), "", State.FAILED, "crashed"),
        (job_status("failed", 1), "RUNNING", State.FAILED, "crashed"),
        # a node failed; SLURM starts it again
        (job_status("failed", 1), "PENDING", State.REQUEUED, ""),
        (job_status("failed", 1, oom_kills=2), "FAILED", State.FAILED, "memory"),
        (job_status("failed", 137, oom_kills=1), "", State.FAILED, "memory"),
        (job_status("failed", 137), "OUT_OF_MEMORY", State.FAILED, "memory"),
        (job_status("failed", 137), "FAILED", State.FAILED, "killed"),
        (job_status("failed", 2), "", State.FAILED, "refused"),
        (job_status("failed", 3), "", State.FAILED, "left-out"),
        (job_status("failed", 127), "", State.FAILED, "absent"),
        (job_status("failed", 130), "", State.FAILED, "interrupted"),
        (job_status("failed", 130, stopped="limit"), "", State.FAILED, "time"),
        (job_status("failed", 130, stopped="cancel"), "CANCELLED", State.FAILED, "cancelled"),
        (job_status("failed", None, stopped="cancel"), "", State.FAILED, "cancelled"),
    ],
)
def test_state_and_reason_follow_from_status_file_and_queue(
    status: _StatusFile | None, queue_state: str, state: State, why: str
) -> None:
    assert _find_state(status, queue_state) == (state, why)


@given(
    st.none()
    | st.builds(
        job_status,
        st.sampled_from(["running", "requeued", "failed"]),
        st.none() | st.integers(0, 255),
        oom_kills=st.integers(0, 2),
        stopped=st.sampled_from(["", "limit", "cancel"]),
    ),
    st.sampled_from(
        [*sorted(ACTIVE), "", "FAILED", "TIMEOUT", "CANCELLED", "COMPLETED", "SOMETHING_NEW"]
    ),
)
def test_exactly_the_failures_have_a_reason(status: _StatusFile | None, queue_state: str) -> None:
    state, why = _find_state(status, queue_state)
    assert (state is State.FAILED) == bool(why)
    assert state is not State.DONE
    if queue_state not in ACTIVE:
        assert state is State.FAILED  # A job that has vanished is never waited for.


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
def test_slurm_messages_in_the_log_are_recognized(text: str, state: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("x\n" * 20_000 + text + "\nlast line \xff\n", encoding="latin-1")
    assert _find_log_state(log) == state
    assert _find_log_state(tmp_path / "absent") == ""


def note(sent: Submission, name: str, **values: object) -> None:
    file = sent.folder / "status" / f"{name}.json"
    file.write_text(json.dumps({"participant": name, **values}))


@pytest.fixture
def sent_jobs(tmp_path: Path) -> Submission:
    unsent = submission(tmp_path, ("sub-01", "sub-02", "sub-03"))
    write_scripts(unsent, "")
    numbered = zip(unsent.jobs, ("7", "8"), strict=True)
    jobs = tuple(dataclasses.replace(job, number=number) for job, number in numbered)
    return dataclasses.replace(unsent, jobs=jobs)


def test_the_table_names_failed_participants_and_the_remedy(sent_jobs: Submission) -> None:
    note(sent_jobs, "sub-01", state="done", exit_code=0, started=0, ended=90)
    note(
        sent_jobs,
        "sub-02",
        state="failed",
        exit_code=137,
        oom_kills=1,
        restarts=1,
        started=0,
        ended=30,
    )
    all_fates = find_job_statuses(sent_jobs, {"7_3": "PENDING", "8": "PENDING"})
    lines = table_text(format_table(all_fates)).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["sub-01", "done", "0", "1", "1.5", "7_1", "-"],
        ["sub-02", "failed", "137", "2", "0.5", "7_2", "out", "of", "memory"],
        ["sub-03", "pending", "-", "0", "-", "7_3", "-"],
        ["group", "pending", "-", "0", "-", "8", "-"],
    ]
    assert (
        format_summary(all_fates)
        == "3 participants: 1 pending, 1 done, 1 failed, group level pending"
    )
    (failure,) = make_failure_notices(all_fates, sent_jobs.output_dir)
    assert (failure.what, failure.subject, failure.code) == ("sub-02", "02", "memory")
    assert failure.why.startswith(
        "out of memory (resources requested per start of the job: 4.0 GB and "
    )
    assert failure.file == str(sent_jobs.folder / "logs" / "array-1_2.log")


OTHER_NOTICES: tuple[dict[str, str], ...] = ({"subject": "02"}, {"code": "left-out"})


def test_a_crashed_task_reports_its_failed_steps(sent_jobs: Submission) -> None:
    logs = sent_jobs.output_dir / "logs"
    fit = Notice(what="wf.fit", why="ValueError: x", subject="01", code="crashed")
    for name, notices in (
        ("20250101", [dataclasses.replace(fit, why="an older one")]),
        ("20250102", [fit, *(dataclasses.replace(fit, **fields) for fields in OTHER_NOTICES)]),
    ):
        (logs / name).mkdir(parents=True)
        record(logs / name, notices)
    note(sent_jobs, "sub-01", state="failed", exit_code=1, started=0, ended=90)
    note(sent_jobs, "sub-02", state="failed", exit_code=137, started=0, ended=90)
    failed = make_failure_notices(
        find_job_statuses(sent_jobs, {"7_3": "PENDING", "8": "PENDING"}), sent_jobs.output_dir
    )
    assert [(notice.what, notice.code) for notice in failed] == [
        ("sub-01", "crashed"),
        ("wf.fit", "crashed"),
        ("sub-02", "killed"),
    ]
    assert failed[0].file == str(sent_jobs.folder / "logs" / "array-1_1.log")
    assert failed[1].why == "ValueError: x"
    # The task failed again, without a failed step.
    later = int(time.time()) + 60
    note(sent_jobs, "sub-01", state="failed", exit_code=1, started=later, ended=later + 90)
    failed = make_failure_notices(
        find_job_statuses(sent_jobs, {"7_3": "PENDING", "8": "PENDING"}), sent_jobs.output_dir
    )
    assert [notice.what for notice in failed] == ["sub-01", "sub-02"]


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
def test_the_remedy_is_a_command(code: str, remedy: str, sent_jobs: Submission) -> None:
    fate = dataclasses.replace(find_job_statuses(sent_jobs, {})[0], state=State.FAILED, code=code)
    (failure,) = make_failure_notices([fate], Path("my out"))
    assert failure.remedy == remedy.format(retry="`bids-sr-slurm retry 'my out'`")


def test_states_recorded_by_the_group_job_are_used_if_slurm_has_forgotten_the_job(
    sent_jobs: Submission,
) -> None:
    note(sent_jobs, "sub-01", state="running", started=0)
    note(sent_jobs, "sub-02", state="running", started=0)
    (sent_jobs.folder / "ended.txt").write_text("7_1|TIMEOUT|TimeLimit\n7_2|COMPLETING|None\n")
    assert [fate.code for fate in find_job_statuses(sent_jobs, {})] == [
        "time",
        "killed",
        "unknown",
        "unknown",
    ]


def test_the_log_is_used_if_no_other_source_has_a_reason(sent_jobs: Submission) -> None:
    note(sent_jobs, "sub-01", state="running", started=0)
    (sent_jobs.folder / "logs" / "array-1_1.log").write_text(
        "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=5.batch.\n"
    )
    assert find_job_statuses(sent_jobs, {"7_1": "FAILED"})[0].code == "memory"


def test_an_incomplete_status_file_is_ignored(tmp_path: Path) -> None:
    for text in (
        "",
        "{",
        "[]",
        '{"participant": "x"}',
        '{"participant": "x", "state": "done", "more": 1}',
    ):
        (tmp_path / "x.json").write_text(text)
        assert _read_status(tmp_path / "x.json") is None


def test_records_are_read_back_and_the_latest_counts(
    sent_jobs: Submission, tmp_path: Path
) -> None:
    later = dataclasses.replace(submission(tmp_path, ("sub-02",)), id="20260102-000000-000000")
    sent_jobs.save()
    later.save()
    assert submissions(sent_jobs.output_dir) == [sent_jobs, later]
    assert {name: sent.id for name, sent in latest_submissions([sent_jobs, later]).items()} == {
        "sub-01": sent_jobs.id,
        "sub-02": later.id,
        "sub-03": sent_jobs.id,
    }


def test_unreadable_records_are_an_error(tmp_path: Path) -> None:
    assert read_current_overview(tmp_path) is None
    path = tmp_path / "logs" / "slurm" / "x" / "submission.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"format": 99}')
    with pytest.raises(UsageError, match="another version"):
        read_current_overview(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 99}', '{"format": 1, "site": {}}'])
def test_an_unreadable_record_is_rejected(text: str, tmp_path: Path) -> None:
    (tmp_path / "submission.json").write_text(text)
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path / "submission.json")


def test_an_overview_without_records_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no submitted jobs"):
        read_overview(tmp_path)
