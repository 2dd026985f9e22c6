"""Test submitting, retrying, canceling and waiting with scripts that replace the SLURM
commands.
"""

import dataclasses
import json
import os
from pathlib import Path

import pytest
from slurmmaker import program, submission

from bids_sr.config import UsageError
from bids_sr.slurm import commands, manage
from bids_sr.slurm.job_states import State, make_failure_notices
from bids_sr.slurm.submission import Submission, submissions


class Cluster:
    """Scripts in a folder: `sbatch` numbers jobs and records its arguments, `squeue` prints a
    file, `scancel` records its arguments.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        record_arguments = 'printf "%s\\n" "$@" >>"{0}/{1}"; echo end >>"{0}/{1}"'
        self.queue = root / "queue"
        self.queue.write_text("")
        refuse = (
            f'[ ! -e "{root}/refuse" ] || {{ echo "sbatch: error: $(cat "{root}/refuse")" >&2;'
            " exit 1; }"
        )
        count = f'n=$(grep -c ^end "{root}/sbatch"); echo "$((n + 10));cluster"'
        last = f'[ "${{!#}}" = "${{!#%group.sbatch}}" ] || {refuse}'
        program(
            root / "bin" / "sbatch", f"{last}\n{record_arguments.format(root, 'sbatch')}\n{count}"
        )
        program(root / "bin" / "squeue", f'[ ! -e "{root}/down" ] || exit 1; cat "{root}/queue"')
        program(root / "bin" / "scancel", record_arguments.format(root, "scancel"))
        program(root / "bin" / "scontrol", "echo 'MaxArraySize            = 1001'")

    def recorded_calls(self, name: str) -> list[list[str]]:
        """Return the arguments of each call of a command."""
        text = (self.root / name).read_text() if (self.root / name).exists() else ""
        return [part.splitlines() for part in text.split("end\n")[:-1]]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("LOGNAME", raising=False)
    return Cluster(tmp_path)


NAMES = ("sub-01", "sub-02", "sub-03", "sub-04")


@pytest.fixture
def sent(cluster: Cluster, tmp_path: Path) -> Submission:
    return manage.submit(submission(tmp_path, NAMES), "[run]\n", open_jobs=["5"])


def note(sent: Submission, name: str, state: str, code: int | None, **fields: object) -> None:
    values = {
        "participant": name,
        "state": state,
        "exit_code": code,
        "started": 0,
        "ended": 60,
        **fields,
    }
    (sent.folder / "status" / f"{name}.json").write_text(json.dumps(values))


def write_mixed_states(sent: Submission) -> None:
    """Record a finished participant, an out-of-memory one, a timeout, a crash, and a finished
    group level.
    """
    note(sent, "sub-01", "done", 0)
    note(sent, "sub-02", "failed", 137, oom_kills=1)
    note(sent, "sub-03", "failed", 130, stopped="limit")
    note(sent, "sub-04", "failed", 1)
    note(sent, "group", "done", 0)


def test_the_group_job_waits_for_the_array_and_for_earlier_jobs(
    sent: Submission, cluster: Cluster
) -> None:
    assert tuple(job.number for job in sent.jobs) == ("11", "12")
    assert submissions(sent.output_dir) == [sent]
    assert "--dependency=afterany:11:5" in cluster.recorded_calls("sbatch")[1]
    assert (sent.folder / "array-1.txt").read_text().split() == list(NAMES)


def test_the_array_is_canceled_if_the_group_job_is_rejected(
    cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "refuse").write_text("invalid partition")
    with pytest.raises(commands.SlurmError, match="invalid partition"):
        manage.submit(submission(tmp_path), "")
    assert cluster.recorded_calls("scancel") == [["11"]]
    assert not submissions(tmp_path / "out")


def test_retry_requests_more_of_the_exceeded_resource(sent: Submission, cluster: Cluster) -> None:
    write_mixed_states(sent)
    ((retry, text),) = manage.make_retries(manage.read_overview(sent.output_dir))
    assert text == "[run]\n"
    requests = {
        array.tasks: (array.request.memory_mb, array.request.minutes) for array in retry.arrays
    }
    assert requests == {
        (("sub-02",),): (8192, 30),
        (("sub-03",),): (4096, 60),
        (("sub-04",),): (4096, 30),
    }
    later = manage.submit(dataclasses.replace(retry, id="20990101-000000-000000"), text)
    assert "--dependency=afterany:13:14:15" in cluster.recorded_calls("sbatch")[-1]
    cluster.queue.write_text(
        "13_1|RUNNING|None\n14_1|PENDING|Priority\n15_1|PENDING|Priority\n16|PENDING|Dependency\n"
    )
    overview = manage.read_overview(sent.output_dir)
    assert {fate.participant: fate.state for fate in overview.statuses} == {
        "sub-01": State.DONE,
        "sub-02": State.RUNNING,
        "sub-03": State.PENDING,
        "sub-04": State.PENDING,
        "group": State.PENDING,
    }
    assert overview.open_jobs == ("13", "14", "15", "16")
    for array in later.arrays:
        note(later, array.tasks[0][0], "done", 0)
    note(later, "group", "done", 0)
    cluster.queue.write_text("")
    with pytest.raises(UsageError, match="nothing to retry"):
        manage.make_retries(manage.read_overview(sent.output_dir))


def test_retry_of_named_participants_with_given_resources(sent: Submission) -> None:
    write_mixed_states(sent)
    overview = manage.read_overview(sent.output_dir)
    ((retry, _),) = manage.make_retries(overview, ["sub-02"], mem=8, minutes=7)
    assert retry.participants == ("sub-02",)
    assert (retry.arrays[0].request.memory_mb, retry.arrays[0].request.minutes) == (10056, 7)
    with pytest.raises(UsageError, match="sub-01: there is nothing to retry"):
        manage.make_retries(overview, ["sub-01"])


def test_a_first_retry_requests_a_quarter_more_than_slurm_measured(
    sent: Submission, cluster: Cluster
) -> None:
    """Double the request in the second retry."""
    write_mixed_states(sent)
    sacct_script = (
        f'echo "$@" >>"{cluster.root}/sacct"\n'
        'printf "11_2|\\n11_2.batch|4129.39M\\n11_2.extern|1.02M\\n11_3.batch|9999M\\n"'
    )
    program(cluster.root / "bin" / "sacct", sacct_script)
    ((retry, text),) = manage.make_retries(manage.read_overview(sent.output_dir), ["sub-02"])
    assert retry.arrays[0].request.memory_mb == 5632
    messages = [
        str(failure)
        for failure in make_failure_notices(manage.read_overview(sent.output_dir).statuses, Path())
    ]
    assert "resumes processing with 5.5 GB" in messages[0]
    assert "--jobs=11_2" in (cluster.root / "sacct").read_text().splitlines()[0].split()
    later = manage.submit(dataclasses.replace(retry, id="20990101-000000-000000"), text)
    note(later, "sub-02", "failed", 137, oom_kills=1)
    ((second_retry, _),) = manage.make_retries(manage.read_overview(sent.output_dir), ["sub-02"])
    assert second_retry.arrays[0].request.memory_mb == 2 * 5632


def test_retry_of_only_the_group_level(sent: Submission) -> None:
    for name in NAMES:
        note(sent, name, "done", 0)
    note(sent, "group", "failed", 137, oom_kills=1)
    ((retry, _),) = manage.make_retries(manage.read_overview(sent.output_dir))
    assert retry.arrays == ()
    assert retry.group is not None
    assert retry.group.request.memory_mb == 8192


def test_cancel_one_task_and_then_the_remaining_ones(sent: Submission, cluster: Cluster) -> None:
    cluster.queue.write_text(
        "".join(f"11_{task}|RUNNING|None\n" for task in range(1, 5)) + "12|PENDING|Dependency\n"
    )
    assert manage.cancel(manage.read_overview(sent.output_dir), ["sub-03"]) == ["sub-03"]
    assert cluster.recorded_calls("scancel") == [["11_3"]]
    cluster.queue.write_text("11_1|RUNNING|None\n12|PENDING|Dependency\n")
    overview = manage.read_overview(sent.output_dir)
    # sub-03 never started and SLURM has forgotten it, but its cancellation was recorded.
    assert {fate.participant: fate.code for fate in overview.failed} == {
        "sub-02": "unknown",
        "sub-03": "cancelled",
        "sub-04": "unknown",
    }
    with pytest.raises(UsageError, match="sub-03: there is nothing to cancel"):
        manage.cancel(overview, ["sub-03"])
    assert manage.cancel(overview) == ["sub-01", "group"]
    assert cluster.recorded_calls("scancel")[-1] == ["11_1", "12"]


def test_waiting_reports_each_change_once_and_checks_twice_for_vanished_jobs(
    sent: Submission, cluster: Cluster
) -> None:
    cluster.queue.write_text("11_1|RUNNING|None\n12|PENDING|Dependency\n")
    for name in NAMES[1:]:
        note(sent, name, "done", 0)
    messages: list[str] = []
    delays: list[float] = []

    def sleep(seconds: float) -> None:
        delays.append(seconds)
        if len(delays) == 1:
            (cluster.root / "down").touch()
        elif len(delays) == 2:
            (cluster.root / "down").unlink()
            cluster.queue.write_text("")
        elif len(delays) == 3:  # The status file arrives late, as on a network file system.
            note(sent, "sub-01", "done", 0)
            note(sent, "group", "done", 0)

    final_fates = manage.wait(sent.output_dir, messages.append, sleep=sleep)
    assert {fate.state for fate in final_fates} == {State.DONE}
    assert messages[-3:] == [
        "SLURM does not respond (squeue failed with exit code 1); waiting for an answer",
        "sub-01: done",
        "group: done",
    ]
    assert not [line for line in messages if "failed" in line and not line.startswith("SLURM")]
    assert len(messages) == len(set(messages))


def test_printed_scripts_count_once_they_are_submitted(cluster: Cluster, tmp_path: Path) -> None:
    scripts, lines = manage.print_scripts(submission(tmp_path), "")
    assert not (tmp_path / "sbatch").exists()
    assert [script.name for script in scripts] == ["array-1.sbatch", "group.sbatch"]
    out = tmp_path / "out"
    assert {fate.state for fate in manage.read_overview(out).statuses} == {State.UNSENT}
    assert os.system(f"bash '{lines}'") == 0  # the command printed for the user
    assert cluster.recorded_calls("sbatch")[1][0] == "--dependency=afterany:11"
    note(submissions(out)[0], "sub-01", "running", None, job="11_1", ended=None)
    cluster.queue.write_text("11_1|RUNNING|None\n")
    assert manage.read_overview(out).statuses[0].state is State.RUNNING


def test_a_missing_slurm_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(commands.SlurmError, match="the command squeue was not found"):
        commands.queue(["x"])


def test_the_largest_array_index_and_a_user_without_a_name(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert commands.read_largest_index() == 1000
    program(
        cluster.root / "bin" / "sbatch",
        'echo "${LOGNAME:?}" >"' + str(cluster.root) + '/name"; echo 5',
    )
    monkeypatch.setattr("getpass.getuser", lambda: (_ for _ in ()).throw(KeyError("uid")))
    assert commands.submit([]) == "5"
    assert (cluster.root / "name").read_text().strip() == str(os.getuid())


def test_sbatch_without_a_job_number_is_an_error(cluster: Cluster) -> None:
    program(cluster.root / "bin" / "sbatch", "echo later")
    with pytest.raises(commands.SlurmError, match="did not return a job number"):
        commands.submit([])
