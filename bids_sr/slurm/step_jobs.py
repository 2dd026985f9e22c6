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
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.config.plugin import Plugin
from bids_sr.execution.node_job import CANCELLED_FILE
from bids_sr.execution.outcomes import NodeOutcome
from bids_sr.execution.usage import THREAD_VARIABLES
from bids_sr.notices import Notice
from bids_sr.slurm.commands import ACTIVE, SlurmError
from bids_sr.slurm.queue import JobRejected, Queue, SlurmUnreachable

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node

_LOGGER = logging.getLogger(__name__)
_NEVER = {
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
"""Reasons of pending jobs that will never start."""

_LOOK_SECONDS, _GONE_SECONDS, _ORPHAN_SECONDS = 0.5, 5.0, 90.0


@dataclass(kw_only=True, slots=True)
class _NodeJob:
    """Job of one step, with its SLURM ID (empty if not accepted)."""

    node: "Node"
    folder: Path
    slurm_id: str = ""
    blocked_reason: str = ""  # reason why the job will never start
    # s (monotonic), first time that the job was out of the queue, and of its answer
    start_time: float | None = None
    answer_time: float | None = None
    ending: NodeOutcome | None = None


@dataclass(kw_only=True, slots=True)
class Jobs:
    """Jobs of one run, in a separate directory in `root`."""

    root: Path
    options: Plugin
    queue: Queue = field(init=False)
    token: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    unreachable: SlurmUnreachable | None = field(default=None, init=False)
    _jobs: dict[int, _NodeJob] = field(default_factory=dict, init=False)
    _count: int = field(default=0, init=False)
    _look_time: float = field(default=0.0, init=False)
    _poll_time: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.queue = Queue(patience=self.options.patience_seconds)

    @property
    def folder(self) -> Path:
        """Directory of this run's jobs."""
        return self.root / self.token

    def cancel_orphans(self, names: Collection[str]) -> None:
        """Cancel jobs of an earlier, killed run in the same working directory.

        These jobs would write to the directories of this run.

        Parameters
        ----------
        names : Collection[str]
            Full names of the steps of this run; jobs of other participants are not cancelled.

        Raises
        ------
        SlurmError
            The jobs do not end.
        """
        (self.folder / "answers").mkdir(parents=True)
        tokens = {entry.name for entry in self.root.iterdir()} - {self.token}
        step_names = {_plain(name) for name in names}

        def orphaned(name: str) -> bool:
            step, _, token = name.rpartition(".")
            return token in tokens and step.rpartition(".")[0] in step_names

        if not tokens or not (orphans := self.queue.find_jobs(orphaned)):
            return
        _LOGGER.warning(
            "cancelling %d jobs of an earlier run that are still in the queue", len(orphans)
        )
        self.queue.cancel(orphans)
        if not self._wait_for_end(orphaned, _ORPHAN_SECONDS):
            raise SlurmError(
                f"the jobs {', '.join(orphans)} could not be cancelled",
                "these jobs belong to an earlier run with the same working directory",
                "cancel these jobs with scancel",
            )

    def start(self, node: "Node", *, updatehash: bool) -> int:
        """Submit the job of a step and return its number in this run.

        A job that SLURM rejects ends at once.

        Parameters
        ----------
        node : Node
            Node of the step.
        updatehash : bool
            Whether to update the hash of the step without running it.

        Raises
        ------
        SlurmUnreachable
            SLURM did not respond for too long.
        """
        from nipype.utils.filemanip import savepkl

        self._count += 1
        number = self._count
        folder = self.folder / f"{number:06d}"
        folder.mkdir()
        savepkl(str(folder / "node.pklz"), node)
        order = {
            "number": number,
            "answer": str(self._answer(number)),
            "updatehash": updatehash,
            "grace": self.options.grace_seconds,
            "level": logging.getLogger("nipype.workflow").getEffectiveLevel(),
        }
        (folder / "order.json").write_text(json.dumps(order))
        (folder / "job.sh").write_text(_script(folder, self.options.template))
        job = self._jobs[number] = _NodeJob(node=node, folder=folder)
        arguments = [*_requests(node, folder, self.options), str(folder / "job.sh")]
        name = f"{_plain(node.fullname)}.{number}.{self.token}"
        try:
            job.slurm_id = self.queue.submit(name, arguments, alive=self._any_alive)
        except JobRejected as error:
            job.ending = self._is_lost(
                job, f"SLURM rejected the job for {_name(job)}: {error}.", "refused"
            )
        except SlurmUnreachable as error:
            self.unreachable = SlurmUnreachable(
                f"{error}. The job for {_name(job)} could not be submitted"
            )
            raise self.unreachable from None
        return number

    def outcome(self, number: int) -> NodeOutcome | None:
        """Return the outcome of a job, or None while it is active.

        Files and queue are checked only at intervals.
        """
        self._look()
        return self._jobs[number].ending

    def forget(self, number: int) -> None:
        """Remove a job; the files of a failed job are kept."""
        job = self._jobs.pop(number)
        if job.ending is not None and not job.ending["traceback"]:
            shutil.rmtree(job.folder, ignore_errors=True)
            self._answer(number).unlink(missing_ok=True)

    def cancel_all(self) -> None:
        """Cancel all jobs of this run, which takes a few seconds.

        Jobs whose submission was interrupted are included.
        """
        if not self.folder.exists():
            return
        (self.folder / CANCELLED_FILE).touch()
        self.queue.cancel(job.slurm_id for job in self._is_waiting().values())
        self.queue.cancel(self.queue.find_jobs(self._is_own))
        if not self._wait_for_end(self._is_own, _GONE_SECONDS):
            _LOGGER.warning(
                "the jobs %s were cancelled but have not terminated yet",
                ", ".join(self.queue.find_jobs(self._is_own)),
            )

    def tidy(self) -> None:
        """Remove the directory of this run unless it contains files of a failed job."""
        if not self._jobs and not any(self.folder.glob("[0-9]*")):
            shutil.rmtree(self.folder, ignore_errors=True)

    def _is_own(self, name: str) -> bool:
        return name.endswith(f".{self.token}")

    def _wait_for_end(self, belongs: Callable[[str], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.queue.find_jobs(belongs):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)
        return True

    def _any_alive(self) -> bool:
        self._look()
        return bool(self._is_waiting())

    def _is_waiting(self) -> dict[int, _NodeJob]:
        return {
            number: job
            for number, job in self._jobs.items()
            if job.slurm_id and job.ending is None
        }

    def _answer(self, number: int) -> Path:
        return self.folder / "answers" / f"{number:06d}.json"

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._look_time < _LOOK_SECONDS:
            return
        self._look_time = now
        # listing a directory is up to date on NFS, unlike a test for a name
        answer_files = set(os.listdir(self.folder / "answers"))
        for number, job in self._is_waiting().items():
            if f"{number:06d}.json" in answer_files:
                self._take(number, job)
        waiting = {
            number: job for number, job in self._is_waiting().items() if job.answer_time is None
        }
        if waiting and now - self._poll_time >= self.options.poll_seconds:
            self._poll(waiting)
            self._poll_time = time.monotonic()

    def _take(self, number: int, job: _NodeJob) -> None:
        """Read the answer of a job, and wait until its result file is visible on this computer."""
        answer = json.loads(self._answer(number).read_text())
        if answer["traceback"]:
            failed = answer["failed"] or _name(job)
            head = f"{failed} failed in SLURM job {job.slurm_id} on {answer['host']}\n"
            notice = Notice(**answer["notice"]) if answer.get("notice") else None
            lines = [head, *answer["traceback"]]
            job.ending = {**answer, "failed": failed, "traceback": lines, "notice": notice}
            return
        job.answer_time = job.answer_time or time.monotonic()
        if f"result_{job.node.name}.pklz" in _listed(job.node):
            job.ending = answer
        elif time.monotonic() - job.answer_time > self.options.grace_seconds:
            text = (
                f"SLURM job {job.slurm_id} completed {_name(job)} on {answer['host']}, but the"
                " result is not visible on this computer."
            )
            job.ending = self._is_lost(job, text, "unseen")

    def _poll(self, waiting: Mapping[int, _NodeJob]) -> None:
        try:
            states = self.queue.states([job.slurm_id for job in waiting.values()])
        except SlurmUnreachable as error:
            self.unreachable = error
            raise
        if states is None:
            return
        now = time.monotonic()
        for number, job in waiting.items():
            state, reason = states.get(job.slurm_id, ("", ""))
            job.blocked_reason = reason if state == "PENDING" and reason in _NEVER else ""
            if state in ACTIVE and not job.blocked_reason:
                job.start_time = None
            elif job.start_time is None:
                job.start_time = now
            elif (
                now - job.start_time >= self.options.grace_seconds
                and not self._answer(number).exists()
            ):
                job.ending = self._classify_lost_job(job)

    def _classify_lost_job(self, job: _NodeJob) -> NodeOutcome:
        """Return an answer with the reason why a job has no result."""
        if job.blocked_reason:
            self.queue.cancel([job.slurm_id])
            text = f"SLURM job {job.slurm_id} for {_name(job)} cannot start: {job.blocked_reason}."
            return self._is_lost(job, text, "refused")
        state_text, code, host = self.queue.final_state(job.slurm_id)
        text = f"SLURM job {job.slurm_id} for {_name(job)} ended {state_text} without a result."
        return self._is_lost(job, text, "ended" if code == "crashed" else code, host=host)

    def _is_lost(self, job: _NodeJob, text: str, code: str, host: str = "") -> NodeOutcome:
        node = job.node
        resources = [
            option
            for option in _requests(node, job.folder, self.options)
            if option.startswith(("--mem", "--time"))
        ]
        lines = (
            *_tail(job.folder / "log.txt"),
            f"Requested resources: {' '.join(resources) or 'the partition defaults'}.\n",
            f"Memory declared by the step: {node.mem_gb:.2f} GB.\n",
            f"{text}\n",
        )
        notice = Notice(what="", why=text, code=code)
        return {"failed": node.fullname, "traceback": lines, "notice": notice, "host": host}


def _name(job: _NodeJob) -> str:
    return str(job.node.fullname)


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)


def _listed(node: "Node") -> Collection[str]:
    try:
        return os.listdir(node.output_dir())
    except OSError:
        return ()


def _tail(log: Path) -> list[str]:
    try:
        text = log.read_text(errors="replace").splitlines()[-30:]
    except OSError:
        return []
    return (
        [f"Last lines of the job output ({log}):\n", *(f"  {line}\n" for line in text)]
        if text
        else []
    )


_HANDED_ON = (*THREAD_VARIABLES, "PYTHONPATH", "TEMPLATEFLOW_HOME", "MPLCONFIGDIR")
"""Variables that are set in a job even if sbatch exports no environment."""


def _requests(node: "Node", folder: Path, options: Plugin) -> list[str]:
    """Return the arguments of ``sbatch`` for a job, without the script.

    Arguments of the user have precedence.
    """
    extra = shlex.split(node.plugin_args.get("sbatch_args", ""))
    on_gpu = getattr(node.interface.inputs, "device", "cpu") in ("auto", "cuda")
    gpu = options.gpu_args if on_gpu else ()
    requested = [*options.sbatch_args, *gpu, *extra]
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
        for option in requested
    ):
        gigabytes = node.mem_gb + options.memory_extra_gb
        default_arguments.append(f"--mem={int(gigabytes * 1e9 / 2**20) + 1}M")
    default_arguments.append(f"--cpus-per-task={node.n_procs}")
    if options.time_minutes is not None:
        seconds = round(60 * options.time_minutes)
        default_arguments.append(f"--time={seconds // 60}:{seconds % 60:02d}")
    return [*default_arguments, *requested]


def is_small(node: "Node") -> bool:
    """Return whether a step only handles a few small tables, faster than a job can start.

    The result is also True for steps that nipype runs without submission.
    """
    return bool(
        node.run_without_submitting
        or getattr(getattr(node.interface, "step", None), "small", False)
    )


def _script(folder: Path, template: str) -> str:
    """Return the script of a job.

    The script consists of the template and the command of the job, which replaces the shell so
    that it receives signals.
    """
    lines = [*([] if template.startswith("#!") else ["#!/bin/bash"]), *template.splitlines()]
    lines += [
        f"export {key}={shlex.quote(os.environ[key])}" for key in _HANDED_ON if key in os.environ
    ]
    command = shlex.join(["exec", sys.executable, "-m", "bids_sr.execution.node_job", str(folder)])
    return "\n".join([*lines, "export NIPYPE_NO_ET=1", command]) + "\n"
