"""Calls of sbatch, squeue, sacct and scancel, repeated while the controller is busy or restarting.

Nothing goes through a shell: names with spaces, percent signs or quotes are arguments like any
other.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from bids_sr.slurm.calls import ACTIVE, QUEUE_FORMAT, SlurmError, call, chunks, job_number, rows
from bids_sr.slurm.job_endings import code_of

_SILENT = re.compile(
    r"unable to contact|connection (refused|timed out|reset|failure)|timed out|not available at"
    r" the moment|temporarily"
    r"|zero bytes|standby|munge|authentication|transport endpoint|not responding|unexpected"
    r" message",
    re.IGNORECASE,
)
_CROWDED = re.compile(
    r"SubmitJobs?\w*Limit|GrpSubmit|maximum number of jobs|MaxJobCount", re.IGNORECASE
)


class Unreachable(SlurmError):
    """The controller has not answered for longer than was to be waited."""


class Refused(SlurmError):
    """SLURM does not take a job, and would not take it later."""


def _code_of_end(state: str, exit_code: str) -> str:
    """Why a job of a step failed, as a code of `CODES`.

    `exit_code`: of the program and, behind a colon, the signal that ended it.
    """
    code, _, signal = exit_code.partition(":")
    killed = state.rstrip("+") == "FAILED" and signal in ("9", "125")
    return code_of(state, 137 if killed else int(code or 1) or 1)


@dataclass(kw_only=True, slots=True)
class Queue:
    """SLURM's queue of one user.

    The settings are how long the controller may be silent, and the first pause before a new try
    (s).
    """

    patience: float
    pause: float = 1.0
    _silent_since: float | None = field(default=None, init=False)

    def submit(self, name: str, arguments: Sequence[str], *, alive: Callable[[], bool]) -> str:
        """Submit a job and return its identifier.

        This waits where SLURM is silent or the user has too many jobs.

        `name`: no other job ever had it: a job whose submission was not answered is recognized by
        it. `alive`: whether jobs are under way that will make room.
        """
        pause, tried = self.pause, False
        while True:
            if tried and (known := self._named_exactly(name)):
                self._heard()
                return known
            done = call("sbatch", "--parsable", f"--job-name={name}", *arguments)
            said = done.stderr.strip()
            if done.returncode == 0:
                self._heard()
                return job_number(done.stdout)
            tried = True
            if _CROWDED.search(said) and alive():
                self._heard()
                _LOGGER.info("waiting because the maximum number of jobs of this user is reached")
            elif _CROWDED.search(said) or _SILENT.search(said):
                self._silent(said)
            else:
                raise Refused(said or f"sbatch failed with exit code {done.returncode}")
            time.sleep(pause)
            pause = min(2 * pause, 30.0)

    def states(self, jobs: Collection[str]) -> dict[str, tuple[str, str]] | None:
        """State and reason of the jobs that are still in the queue; None where SLURM is silent.

        Raises `Unreachable` when it has been silent for too long.
        """
        by_job: dict[str, tuple[str, str]] = {}
        for part in chunks(sorted(jobs)):
            done = call(
                "squeue", "--noheader", f"--format={QUEUE_FORMAT}", f"--jobs={','.join(part)}"
            )
            if done.returncode and "invalid job id" not in done.stderr.lower():
                self._silent(done.stderr.strip())
                return None
            by_job |= {job: (state, reason) for job, state, reason in rows(done.stdout)}
        self._heard()
        return by_job

    def end_of(self, job: str) -> tuple[str, str, str]:
        """Ask how a job ended that is no longer in the queue.

        Returns its state, ``UNKNOWN`` where SLURM has forgotten it, with what else is known; the
        code of `_code_of_end`; and the host that it ran on.
        """
        done = call("scontrol", "--oneliner", "show", "job", job)
        said = dict(re.findall(r"\b(JobState|Reason|ExitCode|NodeList)=(\S*)", done.stdout))
        state, exit_code = said.get("JobState", "UNKNOWN"), said.get("ExitCode", "")
        reason = said.get("Reason", "").replace("None", "")
        host = said.get("NodeList", "").replace("(null)", "")
        details = ", ".join(filter(None, (reason, exit_code and f"exit code {exit_code}", host)))
        told = f"{state} ({details})" if details else state
        return told, _code_of_end(state, exit_code), host

    def named(self, belongs: Callable[[str], bool]) -> list[str]:
        """Return jobs of this user that are under way and whose name belongs to what is sought.

        Returns SLURM's identifiers of the jobs; empty also where SLURM is silent.
        """
        done = call(
            "squeue", "--noheader", f"--user={os.getuid()}", "--format=%i|%T|%j", seconds=20
        )
        return [job for job, state, name in rows(done.stdout) if state in ACTIVE and belongs(name)]

    def cancel(self, jobs: Iterable[str]) -> None:
        """End jobs, whether they run or wait."""
        for part in chunks(sorted(set(jobs))):
            call("scancel", "--quiet", *part, seconds=5)

    def _named_exactly(self, name: str) -> str:
        """Find the job of this name in any state.

        A submission without an answer may still have been accepted.
        """
        done = call("squeue", "--noheader", "--states=all", f"--name={name}", "--format=%i")
        return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else ""

    def _heard(self) -> None:
        self._silent_since = None

    def _silent(self, said: str) -> None:
        now = time.monotonic()
        if self._silent_since is None:
            self._silent_since = now
            _LOGGER.warning(
                "SLURM does not respond (%s). Retrying for %.0f s", said, self.patience
            )
        if now - self._silent_since >= self.patience:
            raise Unreachable(
                f"SLURM has not responded for {now - self._silent_since:.0f} s. The last message"
                f" was: {said}"
            )


_LOGGER = logging.getLogger(__name__)
