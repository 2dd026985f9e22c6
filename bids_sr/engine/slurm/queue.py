"""Calls of sbatch, squeue, scontrol and scancel; submission is repeated if the controller is busy.

No shell is used, so names may contain spaces, percent signs or quotes.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bids_sr.engine.slurm.commands import (
    ACTIVE,
    QUEUE_FORMAT,
    SlurmError,
    call,
    divide_into_chunks,
    get_code,
    parse_job_id,
    parse_squeue,
)

_LOGGER = logging.getLogger(__name__)
_UNAVAILABLE_PATTERN = re.compile(
    r"unable to contact|connection (refused|timed out|reset|failure)|timed out|not available at"
    r" the moment|temporarily"
    r"|zero bytes|standby|munge|authentication|transport endpoint|not responding|unexpected"
    r" message",
    re.IGNORECASE,
)
_LIMIT_PATTERN = re.compile(
    r"SubmitJobs?\w*Limit|GrpSubmit|maximum number of jobs|MaxJobCount", re.IGNORECASE
)


class SlurmUnreachable(SlurmError):
    """Error for a controller that has not responded within the time limit."""


class JobRejected(SlurmError):
    """Error for a job that SLURM rejects permanently."""


@dataclass(kw_only=True, slots=True)
class Queue:
    """SLURM queue of the current user.

    `patience` is the longest time without a response of the controller (s), and `pause` the first
    pause before a call is repeated (s). `variables` are variables of ``sbatch``.
    """

    patience: float
    variables: Mapping[str, str] = field(default_factory=dict)
    pause: float = 1.0
    _silent_since: float | None = field(default=None, init=False)

    def submit(
        self, name: str, arguments: Sequence[str], *, has_active_jobs: Callable[[], bool]
    ) -> str:
        """Submit a job and return its identifier.

        The function waits if SLURM does not respond or the user has too many jobs. `name` is
        unique. If a submission was not answered, the job is searched by name. `arguments` are
        further arguments of ``sbatch``. `has_active_jobs` returns whether active jobs exist, whose
        end allows further submissions. Raises `JobRejected` if SLURM rejects the job, and
        `SlurmUnreachable` if SLURM did not respond for too long.
        """
        pause, is_repeated = self.pause, False
        while True:
            if is_repeated and (existing := self._find_job(name)):
                self._reset_silence()
                return existing
            result = call(
                "sbatch",
                "--parsable",
                f"--job-name={name}",
                *arguments,
                variables=self.variables,
            )
            message = result.stderr.strip()
            if result.returncode == 0:
                self._reset_silence()
                return parse_job_id(result.stdout)
            is_repeated = True
            if _LIMIT_PATTERN.search(message) and has_active_jobs():
                self._reset_silence()
                _LOGGER.info("waiting because the maximum number of jobs of this user is reached")
            elif _LIMIT_PATTERN.search(message) or _UNAVAILABLE_PATTERN.search(message):
                self._check_silence(message)
            else:
                raise JobRejected(message or f"sbatch failed with exit code {result.returncode}")
            time.sleep(pause)
            pause = min(2 * pause, 30.0)

    def states(self, jobs: Collection[str]) -> dict[str, tuple[str, str]] | None:
        """Return state and reason of jobs in the queue, or None if SLURM does not respond.

        Raises `SlurmUnreachable` if SLURM did not respond for too long.
        """
        state_by_job: dict[str, tuple[str, str]] = {}
        for chunk in divide_into_chunks(sorted(jobs)):
            result = call(
                "squeue",
                "--noheader",
                "--all",
                f"--format={QUEUE_FORMAT}",
                f"--jobs={','.join(chunk)}",
            )
            if result.returncode and "invalid job id" not in result.stderr.lower():
                self._check_silence(result.stderr.strip())
                return None
            state_by_job |= {
                job: (state, reason) for job, state, reason in parse_squeue(result.stdout)
            }
        self._reset_silence()
        return state_by_job

    def final_state(self, job: str) -> tuple[str, str, str]:
        """Return how a job ended that is no longer in the queue.

        Return the state with details (``UNKNOWN`` if SLURM has forgotten the job), the code of
        `get_code`, and the host.
        """
        result = call("scontrol", "--all", "--oneliner", "show", "job", job)
        fields = dict(re.findall(r"\b(JobState|Reason|ExitCode|NodeList)=(\S*)", result.stdout))
        state, exit_code = fields.get("JobState", "UNKNOWN"), fields.get("ExitCode", "")
        reason = fields.get("Reason", "").replace("None", "")
        host = fields.get("NodeList", "").replace("(null)", "")
        details = ", ".join(filter(None, (reason, exit_code and f"exit code {exit_code}", host)))
        text = f"{state} ({details})" if details else state
        return text, get_code(state, exit_code), host

    def find_jobs(self, is_match: Callable[[str], bool]) -> list[str]:
        """Return identifiers of this user's active jobs whose name satisfies a condition.

        The list is also empty if SLURM does not respond.
        """
        result = call(
            "squeue",
            "--noheader",
            "--all",
            f"--user={os.getuid()}",
            "--format=%i|%T|%j",
            seconds=20,
        )
        return [
            job
            for job, state, name in parse_squeue(result.stdout)
            if state in ACTIVE and is_match(name)
        ]

    def cancel(self, jobs: Iterable[str]) -> None:
        """Cancel pending and running jobs."""
        for chunk in divide_into_chunks(sorted(set(jobs))):
            call("scancel", "--quiet", *chunk, seconds=5)

    def _find_job(self, name: str) -> str:
        """Return the identifier of the job with this name in any state, or "".

        A submission without an answer may have been accepted.
        """
        result = call(
            "squeue", "--noheader", "--all", "--states=all", f"--name={name}", "--format=%i"
        )
        return result.stdout.strip().partition("\n")[0] if result.returncode == 0 else ""

    def _reset_silence(self) -> None:
        """Record that SLURM has responded."""
        self._silent_since = None

    def _check_silence(self, message: str) -> None:
        """Record that SLURM does not respond; raise `SlurmUnreachable` after the time limit."""
        now = time.monotonic()
        if self._silent_since is None:
            self._silent_since = now
            _LOGGER.warning(
                "SLURM does not respond (%s). Retrying for %.0f s", message, self.patience
            )
        if now - self._silent_since >= self.patience:
            raise SlurmUnreachable(
                f"SLURM has not responded for {now - self._silent_since:.0f} s. The last"
                f" message was: {message}"
            )
