"""Odd inputs with known results: run the program on altered small data sets and check each result.

python benchmarks/odd_inputs.py FOLDER [--model 300] [--end 200] [--seed 0] [--only KIND ...]
[--case NUMBER] [--report]

A simulated run with known effects is altered in one to three ways (`tests/oddkinds.py`, a row per
kind). Each kind defines the expected result: maps equal to the unaltered maps times a known
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

from _table import commit, keep
from oddcases import Outcome, kinds_of, run_case, warm_up
from oddkinds import KINDS, Depth

RESULTS = ("equal", "known effects", "refused", "accepted, with the notice", "accepted")
DEPTHS: tuple[Depth, ...] = ("model", "end")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="scratch folder, with the results so far")
    parser.add_argument("--model", type=int, default=300, help="cases through the model")
    parser.add_argument("--end", type=int, default=200, help="cases to the end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], help="kinds that a case begins with")
    parser.add_argument("--case", type=int, help="run one case, print it and keep its folder")
    parser.add_argument("--again", action="store_true", help="repeat cases of other commits")
    parser.add_argument("--report", action="store_true", help="write the table of what was run")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    record = arguments.folder / "cases.jsonl"
    counts: dict[Depth, int] = {"model": arguments.model, "end": arguments.end}
    done = recorded(record, arguments.seed)
    if arguments.report:
        return report(done, counts, arguments.seed)
    version = commit()
    warm_up(arguments.folder)
    for depth in DEPTHS:
        numbers = [arguments.case] if arguments.case is not None else list(range(counts[depth]))
        for number in numbers if counts[depth] else ():
            earlier = done.get((depth, number))
            stale = earlier is not None and arguments.again and earlier.commit != version
            chosen = kinds_of(number, arguments.seed, depth)
            if arguments.only and chosen[0].name not in arguments.only:
                continue
            if earlier is not None and not stale and arguments.case is None:
                continue
            outcome = run_case(number, arguments.seed, depth, arguments.folder)
            outcome = replace(outcome, commit=version)
            with record.open("a", encoding="utf-8") as file:
                file.write(
                    json.dumps({"seed": arguments.seed, **json.loads(outcome.line())}) + "\n"
                )
            done[depth, number] = outcome
            if outcome.wrong:
                print(f"{depth} {number} {'+'.join(outcome.kinds)}: {outcome.wrong}", flush=True)
            elif arguments.case is not None:
                print(f"{depth} {number} {'+'.join(outcome.kinds)}: {outcome.result}", flush=True)
    if arguments.case is not None:
        return 0
    return report(done, counts, arguments.seed)


def recorded(record: Path, seed: int) -> dict[tuple[Depth, int], Outcome]:
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


def report(done: dict[tuple[Depth, int], Outcome], counts: dict[Depth, int], seed: int) -> int:
    """Write the table of kinds and results; return 1 if a case was wrong."""
    outcomes = [
        outcome for (depth, number), outcome in sorted(done.items()) if number < counts[depth]
    ]
    rows = [_row(name, outcomes) for name in KINDS]
    rows = [row for row in rows if row["cases"]]
    total = _row("all cases, each once", outcomes)
    versions = Counter(outcome.commit for outcome in outcomes)
    ran = {depth: sum(outcome.depth == depth for outcome in outcomes) for depth in DEPTHS}
    title = (
        f"Odd inputs: {ran['model']} of {counts['model']} cases through the model and"
        f" {ran['end']} of {counts['end']} to the end, seed {seed}"
    )
    wrong = [outcome for outcome in outcomes if outcome.wrong]
    remarks = [
        "A case with several kinds counts in the row of each. `wrong`: silent wrong results,"
        " crashes, and refusals without reason. All other cases were not run, and kinds without"
        " a row are in none of these.",
        "Commits of the cases: "
        + ", ".join(f"{count} at {name}" for name, count in versions.items())
        + ".",
        f"Processor time: {sum(outcome.seconds for outcome in outcomes) / 60:.0f} min.",
        *(
            f"- wrong, {outcome.depth} {outcome.number} ({' + '.join(outcome.kinds)}):"
            f" {outcome.wrong}"
            for outcome in wrong
        ),
    ]
    keep("odd_inputs", title, [*rows, total], remarks=remarks)
    return int(bool(wrong))


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
