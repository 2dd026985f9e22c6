"""Odd inputs with known results: run the program on altered small data sets and check each result.

python benchmarks/odd_inputs.py FOLDER [--model 300] [--end 200] [--seed 0] [--only KIND ...]
[--case NUMBER] [--report]

A simulated run with known effects is altered in one to three ways (`_odd_inputs_kinds.py`, a row
per kind). Each kind defines the expected result: maps equal to the unaltered maps times a known
factor, maps with the known effects, an error with its reason before any work, or a notice.
`--model` cases go through preflight, all voxels included, and through the steps that the maps of
the acquired series need; `--end` cases through the whole command. Every result is appended to
FOLDER/cases.jsonl at once. The same command resumes after an interruption and ends with the same
table; --again repeats the cases of other commits.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from _odd_inputs_kinds import KINDS, Depth
from _odd_inputs_run import Outcome, kinds_of, run_case, warm_up
from _table import commit, keep

RESULTS = ("equal", "known effects", "refused", "accepted, with the notice", "accepted")
DEPTHS: tuple[Depth, ...] = ("model", "end")
Outcomes = dict[tuple[Depth, int], Outcome]
"""Outcomes by depth and number of the case."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="scratch folder, with the results so far")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], help="kinds that a case begins with")
    parser.add_argument("--case", type=int, help="run one case, print it and keep its folder")
    parser.add_argument("--again", action="store_true", help="repeat cases of other commits")
    parser.add_argument("--report", action="store_true", help="write the table of what was run")
    parser.add_argument("--model", type=int, default=300, help="cases through the model")
    parser.add_argument("--end", type=int, default=200, help="cases to the end")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "cases.jsonl"
    counts: dict[Depth, int] = {"model": arguments.model, "end": arguments.end}
    done = recorded(record, arguments.seed)
    if arguments.report:
        return report(done, counts, arguments.seed)
    version = commit()
    warm_up(folder)
    for depth in DEPTHS:
        numbers = [arguments.case] if arguments.case is not None else list(range(counts[depth]))
        for number in numbers if counts[depth] else ():
            chosen = kinds_of(number, arguments.seed, depth)
            if arguments.only and chosen[0].name not in arguments.only:
                continue
            if is_done(done.get((depth, number)), version, arguments):
                continue
            outcome = run_case(number, arguments.seed, depth, folder)
            done[depth, number] = replace(outcome, commit=version)
            append(record, arguments.seed, done[depth, number])
            show(outcome, always=arguments.case is not None)
    if arguments.case is not None:
        return 0
    return report(done, counts, arguments.seed)


def report(done: Outcomes, counts: dict[Depth, int], seed: int) -> int:
    """Write the table of kinds and results; return 1 if a case was wrong."""
    outcomes = [
        outcome for (depth, number), outcome in sorted(done.items()) if number < counts[depth]
    ]
    rows = [_row(name, outcomes) for name in KINDS]
    rows = [row for row in rows if row["cases"]]
    total = _row("all cases, each once", outcomes)
    ran = {depth: sum(outcome.depth == depth for outcome in outcomes) for depth in DEPTHS}
    title = (
        f"Odd inputs: {ran['model']} of {counts['model']} cases through the model and"
        f" {ran['end']} of {counts['end']} to the end, seed {seed}"
    )
    remarks = [
        "A case with several kinds counts in the row of each. `wrong`: silent wrong results,"
        " crashes, and refusals without reason. All other cases were not run, and kinds without"
        " a row are in none of these.",
        *describe_outcomes(outcomes),
    ]
    keep("odd_inputs", title, [*rows, total], remarks=remarks)
    return int(any(outcome.wrong for outcome in outcomes))


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


def _row(name: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the counts of a kind; of all cases for any other name."""
    kind_outcomes = [outcome for outcome in outcomes if name in outcome.kinds or name not in KINDS]
    right = Counter(outcome.result for outcome in kind_outcomes if not outcome.wrong)
    return {
        "kind": name,
        "model": sum(outcome.depth == "model" for outcome in kind_outcomes),
        "end": sum(outcome.depth == "end" for outcome in kind_outcomes),
        "cases": len(kind_outcomes),
        **{result: right[result] for result in RESULTS},
        "wrong": sum(bool(outcome.wrong) for outcome in kind_outcomes),
        "known fault": KINDS[name].fault if name in KINDS else "",
    }


if __name__ == "__main__":
    sys.exit(main())
