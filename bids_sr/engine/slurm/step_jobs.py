"""Submission, monitoring and classification of SLURM jobs, including jobs without a result.

A job is done if it has written its answer. It is lost if SLURM has removed it from the queue, the
file system had time to synchronize, and there is still no answer. Its state in SLURM alone is not
decisive: if the controller does not respond or has forgotten the job, a finished step does not
fail, and a result of an earlier run does not count for a failed job.
"""

import json
import logging
import os
import re
import shlex
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.engine.node_job import CANCELLED_FILE
from bids_sr.engine.outcomes import NodeOutcome
from bids_sr.engine.slurm.commands import ACTIVE, SlurmError
from bids_sr.engine.slurm.job_options import JobOptions
from bids_sr.engine.slurm.queue import JobRejected, Queue, SlurmUnreachable
from bids_sr.io.notices import Notice

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node

_LOGGER = logging.getLogger(__name__)
# reasons of pending jobs that will never start
_PERMANENT_REASONS = {
    "DependencyNeverSatisfied",
    "BadConstraints",
    "InvalidAccount",
    "InvalidQOS",
    "PartitionConfig",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "AccountNotAllowed",
    "QOSNotAllowed",
    "JobHoldMaxRequeue",
}

_CHECK_INTERVAL_S = 0.5  # s between checks of answers and queue
# time (s) for cancelled jobs to end, of this run and of an earlier run
_CANCEL_TIMEOUT_S, _ORPHAN_TIMEOUT_S = 5.0, 90.0
_LOG_LINES = 30  # number of lines at the end of a job's log that a crash file contains
# variables that are set in a job even if sbatch exports no environment
_EXPORTED_VARIABLES = ("PYTHONPATH", "TEMPLATEFLOW_HOME", "MPLCONFIGDIR", "MPLBACKEND")


@dataclass(kw_only=True, slots=True)
class _NodeJob:
    """Job of one step, with its SLURM ID (empty if not accepted).

    Its files are in `folder`, and it writes `answer_file` when it ends. `blocked_reason` is the
    reason why the job will never start. `absence_time` is the monotonic time (s) when the job was
    first found out of the queue, and `answer_time` when its answer was found.
    """

    node: "Node"
    folder: Path
    answer_file: Path
    slurm_id: str = ""
    blocked_reason: str = ""
    absence_time: float | None = None
    answer_time: float | None = None
    outcome: NodeOutcome | None = None

    @property
    def step_name(self) -> str:
        """Full name of the step."""
        return str(self.node.fullname)


@dataclass(kw_only=True, slots=True)
class Jobs:
    """Jobs of one run, in a separate directory in `root`."""

    root: Path
    options: JobOptions
    queue: Queue = field(init=False)
    token: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    unreachable: SlurmUnreachable | None = field(default=None, init=False)
    _jobs: dict[int, _NodeJob] = field(default_factory=dict, init=False)
    _count: int = field(default=0, init=False)
    _check_time: float = field(default=0.0, init=False)
    _poll_time: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        variables = self.options.inherited_variables
        self.queue = Queue(patience=self.options.patience_seconds, variables=variables)

    @property
    def folder(self) -> Path:
        """Directory of this run's jobs."""
        return self.root / self.token

    def cancel_orphans(self, names: Collection[str]) -> None:
        """Cancel jobs of an earlier, killed run in the same working directory.

        These jobs would write to the directories of this run. `names` are the full names of the
        steps of this run; jobs of other participants are not cancelled. Raises `SlurmError` if the
        jobs do not end.
        """
        self._answer_dir.mkdir(parents=True)
        tokens = {entry.name for entry in self.root.iterdir()} - {self.token}
        step_names = {_make_job_name(name) for name in names}

        def is_orphan(name: str) -> bool:
            step, _, token = name.rpartition(".")
            return token in tokens and step.rpartition(".")[0] in step_names

        if not tokens or not (orphans := self.queue.find_jobs(is_orphan)):
            return
        _LOGGER.warning(
            "cancelling %d jobs of an earlier run that are still in the queue", len(orphans)
        )
        self.queue.cancel(orphans)
        if not self._wait_for_end(is_orphan, _ORPHAN_TIMEOUT_S):
            raise SlurmError(
                f"the jobs {', '.join(orphans)} could not be cancelled",
                "these jobs belong to an earlier run with the same working directory",
                "cancel these jobs with scancel",
            )

    def start(self, node: "Node", *, updatehash: bool) -> int:
        """Submit the job of a step and return its number in this run.

        A job that SLURM rejects ends at once. `updatehash` is whether to update the hash of the
        step without running it. Raises `SlurmUnreachable` if SLURM did not respond for too long.
        """
        from nipype.utils.filemanip import savepkl

        self._count += 1
        number = self._count
        folder = self.folder / f"{number:06d}"
        job = _NodeJob(
            node=node, folder=folder, answer_file=self._answer_dir / f"{folder.name}.json"
        )
        folder.mkdir()
        savepkl(str(folder / "node.pklz"), node)
        order = {
            "number": number,
            "answer": str(job.answer_file),
            "updatehash": updatehash,
            "grace": self.options.grace_seconds,
            "level": logging.getLogger("nipype.workflow").getEffectiveLevel(),
        }
        (folder / "order.json").write_text(json.dumps(order))
        script = folder / "job.sh"
        script.write_text(_make_script(folder, self.options.template))
        self._jobs[number] = job
        arguments = [*_make_sbatch_arguments(node, folder, self.options), str(script)]
        name = f"{_make_job_name(job.step_name)}.{number}.{self.token}"
        try:
            job.slurm_id = self.queue.submit(
                name, arguments, has_active_jobs=self._has_active_jobs
            )
        except JobRejected as error:
            job.outcome = self._make_lost_outcome(
                job, f"SLURM rejected the job for {job.step_name}: {error}.", "refused"
            )
        except SlurmUnreachable as error:
            self.unreachable = SlurmUnreachable(
                f"{error}. The job for {job.step_name} could not be submitted"
            )
            raise self.unreachable from None
        return number

    def _has_active_jobs(self) -> bool:
        """Return whether submitted jobs have not ended."""
        self._check_jobs()
        return bool(self._find_waiting())

    def outcome(self, number: int) -> NodeOutcome | None:
        """Return the outcome of a job, or None while it is active.

        Files and queue are checked only at intervals.
        """
        self._check_jobs()
        return self._jobs[number].outcome

    def _check_jobs(self) -> None:
        """Read the answers of ended jobs and check the queue, each at most once per interval."""
        now = time.monotonic()
        if now - self._check_time < _CHECK_INTERVAL_S:
            return
        self._check_time = now
        # listing a directory is up to date on NFS, unlike a test for a name
        answer_names = set(os.listdir(self._answer_dir))
        for job in self._find_waiting():
            if job.answer_file.name in answer_names:
                self._read_answer(job)
        waiting = [job for job in self._find_waiting() if job.answer_time is None]
        if waiting and now - self._poll_time >= self.options.poll_seconds:
            self._poll(waiting)
            self._poll_time = time.monotonic()

    @property
    def _answer_dir(self) -> Path:
        """Directory of the answers of this run's jobs."""
        return self.folder / "answers"

    def _read_answer(self, job: _NodeJob) -> None:
        """Read the answer of a job, and wait until its result file is visible on this computer."""
        answer = json.loads(job.answer_file.read_text())
        if answer["traceback"]:
            failed = answer["failed"] or job.step_name
            heading = f"{failed} failed in SLURM job {job.slurm_id} on {answer['host']}\n"
            job.outcome = {
                **answer,
                "failed": failed,
                "traceback": [heading, *answer["traceback"]],
                "notice": Notice(**answer["notice"]) if answer.get("notice") else None,
            }
            return
        job.answer_time = job.answer_time or time.monotonic()
        if f"result_{job.node.name}.pklz" in _list_output(job.node):
            job.outcome = answer
        elif time.monotonic() - job.answer_time > self.options.grace_seconds:
            text = (
                f"SLURM job {job.slurm_id} completed {job.step_name} on {answer['host']}, but the"
                " result is not visible on this computer."
            )
            job.outcome = self._make_lost_outcome(job, text, "unseen")

    def _poll(self, waiting: Sequence[_NodeJob]) -> None:
        """Check the queue for jobs that ended without an answer or will never start."""
        try:
            states = self.queue.states([job.slurm_id for job in waiting])
        except SlurmUnreachable as error:
            self.unreachable = error
            raise
        if states is None:
            return
        now = time.monotonic()
        for job in waiting:
            state, reason = states.get(job.slurm_id, ("", ""))
            job.blocked_reason = (
                reason if state == "PENDING" and reason in _PERMANENT_REASONS else ""
            )
            if state in ACTIVE and not job.blocked_reason:
                job.absence_time = None
            elif job.absence_time is None:
                job.absence_time = now
            elif (
                now - job.absence_time >= self.options.grace_seconds
                and not job.answer_file.exists()
            ):
                job.outcome = self._classify_lost_job(job)

    def _classify_lost_job(self, job: _NodeJob) -> NodeOutcome:
        """Return an answer with the reason why a job has no result."""
        if job.blocked_reason:
            self.queue.cancel([job.slurm_id])
            text = (
                f"SLURM job {job.slurm_id} for {job.step_name} cannot start: {job.blocked_reason}."
            )
            return self._make_lost_outcome(job, text, "refused")
        state_text, code, host = self.queue.final_state(job.slurm_id)
        text = f"SLURM job {job.slurm_id} for {job.step_name} ended {state_text} without a result."
        return self._make_lost_outcome(
            job, text, "ended" if code == "crashed" else code, host=host
        )

    def _make_lost_outcome(
        self, job: _NodeJob, text: str, code: str, host: str = ""
    ) -> NodeOutcome:
        """Return the outcome of a job without a result, with the end of its log.

        `text` is the reason, and `code` a key of `CODES`.
        """
        node = job.node
        resources = [
            option
            for option in _make_sbatch_arguments(node, job.folder, self.options)
            if option.startswith(("--mem", "--time"))
        ]
        lines = (
            *_read_log_end(job.folder / "log.txt"),
            f"Requested resources: {' '.join(resources) or 'the partition defaults'}.\n",
            f"Memory declared by the step: {node.mem_gb:.2f} GB.\n",
            f"{text}\n",
        )
        notice = Notice(what="", why=text, code=code)
        return {"failed": node.fullname, "traceback": lines, "notice": notice, "host": host}

    def forget(self, number: int) -> None:
        """Remove a job; the files of a failed job are kept."""
        job = self._jobs.pop(number)
        if job.outcome is not None and not job.outcome["traceback"]:
            shutil.rmtree(job.folder, ignore_errors=True)
            job.answer_file.unlink(missing_ok=True)

    def cancel_all(self) -> None:
        """Cancel all jobs of this run, which takes a few seconds.

        Jobs whose submission was interrupted are included.
        """
        if not self.folder.exists():
            return
        (self.folder / CANCELLED_FILE).touch()
        self.queue.cancel(job.slurm_id for job in self._find_waiting())
        self.queue.cancel(self.queue.find_jobs(self._is_own))
        if not self._wait_for_end(self._is_own, _CANCEL_TIMEOUT_S):
            _LOGGER.warning(
                "the jobs %s were cancelled but have not terminated yet",
                ", ".join(self.queue.find_jobs(self._is_own)),
            )

    def _find_waiting(self) -> list[_NodeJob]:
        """Return the submitted jobs without an outcome."""
        return [job for job in self._jobs.values() if job.slurm_id and job.outcome is None]

    def _is_own(self, name: str) -> bool:
        """Return whether a job belongs to this run."""
        return name.endswith(f".{self.token}")

    def _wait_for_end(self, is_match: Callable[[str], bool], seconds: float) -> bool:
        """Wait until matching jobs have ended; return False if `seconds` were not enough."""
        deadline = time.monotonic() + seconds
        while self.queue.find_jobs(is_match):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)
        return True

    def tidy(self) -> None:
        """Remove the directory of this run unless it contains files of a failed job."""
        if not self._jobs and not any(self.folder.glob("[0-9]*")):
            shutil.rmtree(self.folder, ignore_errors=True)


def _make_job_name(name: str) -> str:
    """Return the name of a step with characters that SLURM accepts in names of jobs."""
    return re.sub(r"[^\w.-]", "_", name)


def _make_script(folder: Path, template: str) -> str:
    """Return the script of a job.

    The script consists of the template and the command of the job, which replaces the shell so
    that it receives signals.
    """
    lines = [*([] if template.startswith("#!") else ["#!/bin/bash"]), *template.splitlines()]
    lines += [
        f"export {key}={shlex.quote(os.environ[key])}"
        for key in _EXPORTED_VARIABLES
        if key in os.environ
    ]
    command = shlex.join(["exec", sys.executable, "-m", "bids_sr.engine.node_job", str(folder)])
    return "\n".join([*lines, "export NIPYPE_NO_ET=1", command]) + "\n"


def _make_sbatch_arguments(node: "Node", folder: Path, options: JobOptions) -> list[str]:
    """Return the arguments of ``sbatch`` for a job, without the script.

    Arguments of the user have precedence.
    """
    node_arguments = shlex.split(node.plugin_args.get("sbatch_args", ""))
    uses_gpu = getattr(node.interface.inputs, "device", "cpu") in ("auto", "cuda")
    gpu_arguments = options.gpu_args if uses_gpu else ()
    user_arguments = [*options.sbatch_args, *gpu_arguments, *node_arguments]
    # doubled percent signs are not replaced by SLURM
    escaped_folder = str(folder).replace("%", "%%")
    default_arguments = [
        "--no-requeue",
        "--nodes=1",
        "--ntasks=1",
        f"--chdir={folder}",
        f"--output={escaped_folder}/log.txt",
    ]
    if not any(
        option.partition("=")[0] in ("--mem", "--mem-per-cpu", "--mem-per-gpu")
        for option in user_arguments
    ):
        gigabytes = node.mem_gb + options.memory_extra_gb
        default_arguments.append(f"--mem={int(gigabytes * 1e9 / 2**20) + 1}M")
    default_arguments.append(f"--cpus-per-task={node.n_procs}")
    if options.time_minutes is not None:
        seconds = round(60 * options.time_minutes)
        default_arguments.append(f"--time={seconds // 60}:{seconds % 60:02d}")
    return [*default_arguments, *user_arguments]


def _list_output(node: "Node") -> Collection[str]:
    """Return the names of the files in the directory of a step; empty if it does not exist."""
    try:
        return os.listdir(node.output_dir())
    except OSError:
        return ()


def _read_log_end(log: Path) -> list[str]:
    """Return the last lines of the log of a job after a title; empty if there is no log."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    except OSError:
        return []
    if not lines:
        return []
    return [f"Last lines of the job output ({log}):\n", *(f"  {line}\n" for line in lines)]


def is_small(node: "Node") -> bool:
    """Return whether a step only handles a few small tables, faster than a job can start.

    The result is also True for steps that nipype runs without submission.
    """
    return bool(
        node.run_without_submitting
        or getattr(getattr(node.interface, "step", None), "small", False)
    )
