"""Submitting, retrying, cancelling and waiting, against programs that stand for those of SLURM."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
from slurmmaker import program, submission

from bids_sr.config import UsageError
from bids_sr.slurm import calls, manage
from bids_sr.slurm.job_states import State, failures
from bids_sr.slurm.submission import Submission, submissions


class Cluster:
    """Programs in a folder: `sbatch` counts and keeps its arguments, `squeue` shows a file,
    `scancel` keeps its own.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        keep = 'printf "%s\\n" "$@" >>"{0}/{1}"; echo end >>"{0}/{1}"'
        self.queue = root / "queue"
        self.queue.write_text("")
        refuse = (
            f'[ ! -e "{root}/refuse" ] || {{ echo "sbatch: error: $(cat "{root}/refuse")" >&2;'
            " exit 1; }"
        )
        count = f'n=$(grep -c ^end "{root}/sbatch"); echo "$((n + 10));cluster"'
        last = f'[ "${{!#}}" = "${{!#%group.sbatch}}" ] || {refuse}'
        program(root / "bin" / "sbatch", f"{last}\n{keep.format(root, 'sbatch')}\n{count}")
        program(root / "bin" / "squeue", f'[ ! -e "{root}/down" ] || exit 1; cat "{root}/queue"')
        program(root / "bin" / "scancel", keep.format(root, "scancel"))
        program(root / "bin" / "scontrol", "echo 'MaxArraySize            = 1001'")

    def kept(self, name: str) -> list[list[str]]:
        """The arguments of each call."""
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
    return manage.submit(submission(tmp_path, NAMES), "[run]\n", after=["5"])


def note(made: Submission, name: str, state: str, code: int | None, **more: object) -> None:
    values = {
        "participant": name,
        "state": state,
        "exit_code": code,
        "started": 0,
        "ended": 60,
        **more,
    }
    (made.folder / "status" / f"{name}.json").write_text(json.dumps(values))


def broken(made: Submission) -> None:
    """One done, one out of memory, one timed out, one crashed; the group level done."""
    note(made, "sub-01", "done", 0)
    note(made, "sub-02", "failed", 137, oom_kills=1)
    note(made, "sub-03", "failed", 130, stopped="limit")
    note(made, "sub-04", "failed", 1)
    note(made, "group", "done", 0)


def test_the_group_job_waits_for_the_array_and_for_what_ran_before(
    sent: Submission, cluster: Cluster
) -> None:
    assert tuple(job.number for job in sent.jobs) == ("11", "12")
    assert submissions(sent.output_dir) == [sent]
    assert "--dependency=afterany:11:5" in cluster.kept("sbatch")[1]
    assert (sent.folder / "array-1.txt").read_text().split() == list(NAMES)


def test_all_jobs_or_none(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "refuse").write_text("invalid partition")
    with pytest.raises(calls.SlurmError, match="invalid partition"):
        manage.submit(submission(tmp_path), "")
    assert cluster.kept("scancel") == [["11"]]
    assert not submissions(tmp_path / "out")


def test_retry_asks_for_more_where_there_was_too_little(
    sent: Submission, cluster: Cluster
) -> None:
    broken(sent)
    ((again, text),) = manage.retries(manage.overview(sent.output_dir))
    assert text == "[run]\n"
    asked = {
        array.tasks: (array.request.memory_mb, array.request.minutes) for array in again.arrays
    }
    assert asked == {
        (("sub-02",),): (8192, 30),
        (("sub-03",),): (4096, 60),
        (("sub-04",),): (4096, 30),
    }
    later = manage.submit(dataclasses.replace(again, id="20990101-000000-000000"), text)
    assert "--dependency=afterany:13:14:15" in cluster.kept("sbatch")[-1]
    cluster.queue.write_text(
        "13_1|RUNNING|None\n14_1|PENDING|Priority\n15_1|PENDING|Priority\n16|PENDING|Dependency\n"
    )
    seen = manage.overview(sent.output_dir)
    assert {fate.participant: fate.state for fate in seen.fates} == {
        "sub-01": State.DONE,
        "sub-02": State.RUNNING,
        "sub-03": State.PENDING,
        "sub-04": State.PENDING,
        "group": State.PENDING,
    }
    assert seen.open_jobs == ("13", "14", "15", "16")
    for array in later.arrays:
        note(later, array.tasks[0][0], "done", 0)
    note(later, "group", "done", 0)
    cluster.queue.write_text("")
    with pytest.raises(UsageError, match="nothing to retry"):
        manage.retries(manage.overview(sent.output_dir))


def test_retry_of_those_named_with_what_is_given(sent: Submission) -> None:
    broken(sent)
    seen = manage.overview(sent.output_dir)
    ((again, _),) = manage.retries(seen, ["sub-02"], mem=8, minutes=7)
    assert again.participants == ("sub-02",)
    assert (again.arrays[0].request.memory_mb, again.arrays[0].request.minutes) == (10056, 7)
    with pytest.raises(UsageError, match="sub-01: there is nothing to retry"):
        manage.retries(seen, ["sub-01"])


def test_a_first_retry_asks_for_a_quarter_more_than_slurm_saw(
    sent: Submission, cluster: Cluster
) -> None:
    """The second doubles what the first had."""
    broken(sent)
    seen = (
        f'echo "$@" >>"{cluster.root}/sacct"\n'
        'printf "11_2|\\n11_2.batch|4129.39M\\n11_2.extern|1.02M\\n11_3.batch|9999M\\n"'
    )
    program(cluster.root / "bin" / "sacct", seen)
    ((again, text),) = manage.retries(manage.overview(sent.output_dir), ["sub-02"])
    assert again.arrays[0].request.memory_mb == 5632
    told = [str(each) for each in failures(manage.overview(sent.output_dir).fates, Path())]
    assert "resumes processing with 5.5 GB" in told[0]
    assert "--jobs=11_2" in (cluster.root / "sacct").read_text().splitlines()[0].split()
    later = manage.submit(dataclasses.replace(again, id="20990101-000000-000000"), text)
    note(later, "sub-02", "failed", 137, oom_kills=1)
    ((third, _),) = manage.retries(manage.overview(sent.output_dir), ["sub-02"])
    assert third.arrays[0].request.memory_mb == 2 * 5632


def test_retry_of_the_group_level_alone(sent: Submission) -> None:
    for name in NAMES:
        note(sent, name, "done", 0)
    note(sent, "group", "failed", 137, oom_kills=1)
    ((again, _),) = manage.retries(manage.overview(sent.output_dir))
    assert again.arrays == ()
    assert again.group is not None
    assert again.group.request.memory_mb == 8192


def test_cancel_one_task_and_then_the_rest(sent: Submission, cluster: Cluster) -> None:
    cluster.queue.write_text(
        "".join(f"11_{task}|RUNNING|None\n" for task in range(1, 5)) + "12|PENDING|Dependency\n"
    )
    assert manage.cancel(manage.overview(sent.output_dir), ["sub-03"]) == ["sub-03"]
    assert cluster.kept("scancel") == [["11_3"]]
    cluster.queue.write_text("11_1|RUNNING|None\n12|PENDING|Dependency\n")
    seen = manage.overview(sent.output_dir)
    # it never started, and SLURM has forgotten it: what was cancelled from here is known
    assert {fate.participant: fate.code for fate in seen.failed} == {
        "sub-02": "unknown",
        "sub-03": "cancelled",
        "sub-04": "unknown",
    }
    with pytest.raises(UsageError, match="sub-03: there is nothing to cancel"):
        manage.cancel(seen, ["sub-03"])
    assert manage.cancel(seen) == ["sub-01", "group"]
    assert cluster.kept("scancel")[-1] == ["11_1", "12"]


def test_waiting_tells_each_change_once_and_looks_twice_at_who_is_lost(
    sent: Submission, cluster: Cluster
) -> None:
    cluster.queue.write_text("11_1|RUNNING|None\n12|PENDING|Dependency\n")
    for name in NAMES[1:]:
        note(sent, name, "done", 0)
    said: list[str] = []
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            (cluster.root / "down").touch()
        elif len(slept) == 2:
            (cluster.root / "down").unlink()
            cluster.queue.write_text("")
        elif len(slept) == 3:  # its status file comes late, as over a network
            note(sent, "sub-01", "done", 0)
            note(sent, "group", "done", 0)

    found = manage.wait(sent.output_dir, said.append, sleep=sleep)
    assert {fate.state for fate in found} == {State.DONE}
    assert said[-3:] == [
        "SLURM does not respond (squeue failed with exit code 1); waiting for an answer",
        "sub-01: done",
        "group: done",
    ]
    assert not [line for line in said if "failed" in line and not line.startswith("SLURM")]
    assert len(said) == len(set(said))


def test_printed_scripts_count_once_somebody_submits_them(
    cluster: Cluster, tmp_path: Path
) -> None:
    scripts, lines = manage.print_scripts(submission(tmp_path), "")
    assert not (tmp_path / "sbatch").exists()
    assert [script.name for script in scripts] == ["array-1.sbatch", "group.sbatch"]
    out = tmp_path / "out"
    assert {fate.state for fate in manage.overview(out).fates} == {State.UNSENT}
    assert os.system(f"bash '{lines}'") == 0  # what the user is told to call
    assert cluster.kept("sbatch")[1][0] == "--dependency=afterany:11"
    note(submissions(out)[0], "sub-01", "running", None, job="11_1", ended=None)
    cluster.queue.write_text("11_1|RUNNING|None\n")
    assert manage.overview(out).fates[0].state is State.RUNNING


def test_no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(calls.SlurmError, match="the command squeue was not found"):
        calls.queue(["x"])


def test_the_largest_array_and_a_user_without_a_name(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert calls.largest_index() == 1000
    program(
        cluster.root / "bin" / "sbatch",
        'echo "${LOGNAME:?}" >"' + str(cluster.root) + '/name"; echo 5',
    )
    monkeypatch.setattr("getpass.getuser", lambda: (_ for _ in ()).throw(KeyError("uid")))
    assert calls.submit([]) == "5"
    assert (cluster.root / "name").read_text().strip() == str(os.getuid())


def test_sbatch_that_says_no_number(cluster: Cluster) -> None:
    program(cluster.root / "bin" / "sbatch", "echo later")
    with pytest.raises(calls.SlurmError, match="did not return a job number"):
        calls.submit([])
