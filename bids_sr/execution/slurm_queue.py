"""Calls of sbatch, squeue, sacct and scancel, repeated while the controller is busy or restarting.

Nothing goes through a shell: names with spaces, percent signs or quotes are arguments like any other.
"""

import logging
import os
import re
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from bids_sr.frozen import frozen
from bids_sr.slurm.slurm_calls import ACTIVE, chunks

LOGGER = logging.getLogger(__name__)

_SILENT = re.compile(
    r"unable to contact|connection (refused|timed out|reset|failure)|timed out|not available at the moment|temporarily"
    r"|zero bytes|standby|munge|authentication|transport endpoint|not responding|unexpected message",
    re.IGNORECASE,
)
_CROWDED = re.compile(r"SubmitJobs?\w*Limit|GrpSubmit|maximum number of jobs|MaxJobCount", re.IGNORECASE)
_OF_THE_DRIVER = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT")
_COMMAND_SECONDS = 60.0


class ClusterError(RuntimeError):
    """The cluster cannot be used as it was asked for."""


class Unreachable(ClusterError):
    """The controller has not answered for longer than was to be waited."""


class Refused(ClusterError):
    """SLURM does not take a job, and would not take it later."""


@frozen
class Epitaph:
    """What SLURM says of a job that has ended; ``UNKNOWN`` where it has forgotten it."""

    state: str = "UNKNOWN"
    reason: str = ""
    exit_code: str = ""
    host: str = ""


@dataclass(kw_only=True, slots=True)
class Queue:
    """SLURM's queue of one user: how long the controller may be silent, and the first pause before a new try (s)."""

    patience: float
    pause: float = 1.0
    _silent_since: float | None = field(default=None, init=False)

    def submit(self, name: str, arguments: Sequence[str], *, alive: Callable[[], bool]) -> str:
        """Submit a job and return its identifier; waits where SLURM is silent or the user has too many jobs.

        Parameters
        ----------
        name : no other job ever had it: a job whose submission was not answered is recognized by it
        arguments : of ``sbatch``, the script last
        alive : whether jobs are under way that will make room

        Raises `Refused` when SLURM will not take this job, `Unreachable` when it did not answer for too long.
        """
        pause, tried = self.pause, False
        while True:
            if tried and (known := self._named_exactly(name)):
                self._heard()
                return known
            done = _command("sbatch", "--parsable", f"--job-name={name}", *arguments)
            said = done.stderr.strip()
            if done.returncode == 0:
                self._heard()
                return done.stdout.strip().splitlines()[-1].partition(";")[0]
            tried = True
            if _CROWDED.search(said) and alive():
                self._heard()
                LOGGER.info("SLURM takes no more jobs of this user now; waiting")
            elif _CROWDED.search(said) or _SILENT.search(said):
                self._silent(said)
            else:
                raise Refused(said or f"sbatch ended with {done.returncode}")
            time.sleep(pause)
            pause = min(2 * pause, 30.0)

    def states(self, jobs: Collection[str]) -> dict[str, tuple[str, str]] | None:
        """State and reason of the jobs that are still in the queue; None where SLURM is silent.

        Raises `Unreachable` when it has been silent for too long.
        """
        found: dict[str, tuple[str, str]] = {}
        for part in chunks(sorted(jobs)):
            done = _command("squeue", "--noheader", "--format=%i|%T|%r", f"--jobs={','.join(part)}")
            if done.returncode and "invalid job id" not in done.stderr.lower():
                self._silent(done.stderr.strip())
                return None
            found |= {job: (state, reason) for job, state, reason in _rows(done.stdout)}
        self._heard()
        return found

    def epitaph(self, job: str) -> Epitaph:
        """What is known of a job that is no longer in the queue."""
        done = _command("scontrol", "--oneliner", "show", "job", job)
        said = dict(re.findall(r"\b(JobState|Reason|ExitCode|NodeList)=(\S*)", done.stdout))
        return Epitaph(
            state=said.get("JobState", "UNKNOWN"),
            reason=said.get("Reason", "").replace("None", ""),
            exit_code=said.get("ExitCode", ""),
            host=said.get("NodeList", "").replace("(null)", ""),
        )

    def named(self, belongs: Callable[[str], bool]) -> list[str]:
        """Jobs of this user that are under way and whose name belongs to what is looked for."""
        done = _command("squeue", "--noheader", f"--user={os.getuid()}", "--format=%i|%T|%j", seconds=20)
        return [job for job, state, name in _rows(done.stdout) if state in ACTIVE and belongs(name)]

    def cancel(self, jobs: Iterable[str]) -> None:
        """End jobs, whether they run or wait."""
        for part in chunks(sorted(set(jobs))):
            _command("scancel", "--quiet", *part, seconds=5)

    def _named_exactly(self, name: str) -> str:
        """The job of this name, whatever its state: an unanswered submission may have been heard."""
        done = _command("squeue", "--noheader", "--states=all", f"--name={name}", "--format=%i")
        return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else ""

    def _heard(self) -> None:
        self._silent_since = None

    def _silent(self, said: str) -> None:
        now = time.monotonic()
        if self._silent_since is None:
            self._silent_since = now
            LOGGER.warning("SLURM does not answer (%s); trying again for %.0f s", said, self.patience)
        if now - self._silent_since >= self.patience:
            raise Unreachable(f"SLURM has not answered for {now - self._silent_since:.0f} s; it last said: {said}")


def _rows(listed: str) -> list[list[str]]:
    """Lines of three columns as `squeue` writes them."""
    rows = (line.split("|", 2) for line in listed.splitlines())
    return [[cell.strip() for cell in row] for row in rows if len(row) == 3]


def _command(*words: str, seconds: float | None = None) -> "subprocess.CompletedProcess[str]":
    """Run one command of SLURM; one that hangs counts as silent.

    It gets a session of its own, so that Ctrl-C at the terminal does not end it between submitting and telling.  What
    a job hands down to the jobs that it submits, its own memory and processors, is left out of the environment.
    """
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("SLURM_") or key in _OF_THE_DRIVER
    }
    seconds = _COMMAND_SECONDS if seconds is None else seconds
    try:
        return subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=seconds, start_new_session=True,
            env={**environment, "LC_ALL": "C"}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 1, "", f"{words[0]} timed out after {seconds:.0f} s")
    except FileNotFoundError:
        raise ClusterError(
            f"{words[0]} is not on the PATH; run where SLURM's commands are, or without --use-plugin"
        ) from None
