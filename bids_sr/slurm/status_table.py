"""The status table, and what to do about each failure."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bids_sr.slurm.job_requests import RAISE, time_text
from bids_sr.slurm.job_states import Fate, State, Why
from bids_sr.slurm.submission import GROUP

HEADS = ("participant", "state", "exit", "starts", "minutes", "job", "why")


def table(found: Sequence[Fate]) -> str:
    """A line each, columns aligned."""
    rows = [HEADS, *(_row(fate) for fate in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(fate: Fate) -> tuple[str, ...]:
    return (
        fate.participant,
        fate.state,
        "-" if fate.exit_code is None else str(fate.exit_code),
        str(fate.starts),
        "-" if fate.minutes is None else f"{fate.minutes:.1f}",
        fate.job or "-",
        fate.why or "-",
    )


def summary(found: Sequence[Fate]) -> str:
    """How many are where."""
    people = [fate for fate in found if fate.participant != GROUP]
    counts = Counter(fate.state for fate in people)
    parts = [f"{counts[state]} {state}" for state in State if counts[state]]
    group = [f"group level {fate.state}" for fate in found if fate.participant == GROUP]
    return f"{len(people)} participants: {', '.join([*parts, *group])}"


def remedies(found: Sequence[Fate], output_dir: Path) -> list[str]:
    """For each failure what to do, and where its log is."""
    retry = f"bids-sr-slurm retry {shlex.quote(str(output_dir))}"
    return [
        f"{fate.participant}: {fate.why}; {_remedy(fate, retry)}; log: {fate.log}"
        for fate in found
        if fate.state is State.FAILED
    ]


def _remedy(fate: Fate, retry: str) -> str:
    asked = fate.request
    texts = {
        Why.MEMORY: f"it had {asked.memory_mb / 1024:.1f} GB, `{retry}` asks for {asked.memory_mb * RAISE / 1024:.1f}",
        Why.TIME: f"it had {time_text(asked.minutes)} for each start, `{retry}` asks for "
        f"{time_text(asked.minutes * RAISE)} and goes on from where it stopped",
        Why.REFUSED: f"the log says what is to be mended; then `{retry}`",
        Why.CRASHED: f"the log names the step and its crash file; then `{retry}`",
        Why.ABSENT: "the node does not find the program; submit again with --setup FILE that makes it known, or "
        "--container IMAGE",
    }
    return texts.get(fate.why, f"`{retry}` goes on from there")
