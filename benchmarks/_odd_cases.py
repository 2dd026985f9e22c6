"""Record of the cases of `odd_inputs.py` and `odd_groups.py`, and parts of their tables."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from _odd_inputs_kinds import Depth
from _odd_inputs_run import Outcome

Outcomes = dict[tuple[Depth, int], Outcome]
"""Outcomes by depth and number of the case."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of both programs."""
    parser.add_argument("folder", type=Path, help="scratch folder, with the results so far")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], help="kinds that a case begins with")
    parser.add_argument("--case", type=int, help="run one case, print it and keep its folder")
    parser.add_argument("--again", action="store_true", help="repeat cases of other commits")
    parser.add_argument("--report", action="store_true", help="write the table of what was run")


def recorded(record: Path, seed: int) -> Outcomes:
    """Read the cases of a seed that were run so far; the last line of a case counts."""
    done = {}
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    for line in lines:
        try:
            fields = json.loads(line)
        except ValueError:  # the line that was written when the call was killed
            continue
        if fields.pop("seed") == seed:
            outcome = Outcome(**{**fields, "kinds": tuple(fields["kinds"])})
            done[outcome.depth, outcome.number] = outcome
    return done


def append(record: Path, seed: int, outcome: Outcome) -> None:
    """Append the outcome of a case to the record."""
    with record.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"seed": seed, **json.loads(outcome.line())}) + "\n")


def is_done(earlier: Outcome | None, version: str, arguments: argparse.Namespace) -> bool:
    """Return whether a case need not be run again; `version` is the commit of the program."""
    if earlier is None or arguments.case is not None:
        return False
    return not (arguments.again and earlier.commit != version)


def show(outcome: Outcome, *, always: bool) -> None:
    """Print the outcome of a case, if it is wrong or `always`."""
    if outcome.wrong or always:
        text = outcome.wrong or outcome.result
        print(f"{outcome.depth} {outcome.number} {'+'.join(outcome.kinds)}: {text}", flush=True)


def count_results(
    name: str, outcomes: Sequence[Outcome], names: Collection[str], results: Sequence[str]
) -> dict[str, Any]:
    """Return the number of cases of a kind, by result; of all cases for a name not in `names`."""
    kind_outcomes = [outcome for outcome in outcomes if name in outcome.kinds or name not in names]
    right = Counter(outcome.result for outcome in kind_outcomes if not outcome.wrong)
    return {
        "cases": len(kind_outcomes),
        **{result: right[result] for result in results},
        "wrong": sum(bool(outcome.wrong) for outcome in kind_outcomes),
    }


def describe_outcomes(outcomes: Sequence[Outcome]) -> list[str]:
    """Return remarks on commits, processor time and wrong cases."""
    versions = Counter(outcome.commit for outcome in outcomes)
    return [
        "Commits of the cases: "
        + ", ".join(f"{count} at {name}" for name, count in versions.items())
        + ".",
        f"Processor time: {sum(outcome.seconds for outcome in outcomes) / 60:.0f} min.",
        *(
            f"- wrong, {outcome.depth} {outcome.number} ({' + '.join(outcome.kinds)}):"
            f" {outcome.wrong}"
            for outcome in outcomes
            if outcome.wrong
        ),
    ]
