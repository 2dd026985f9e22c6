"""Odd groups with known results: run the group level on made-up outputs and check its results.

python benchmarks/odd_groups.py FOLDER [--cases 200] [--seed 0] [--only KIND ...] [--case NUMBER]
[--report]

Outputs of 2 to 12 participants are written with one to three properties of `_odd_groups_kinds.py`,
a row per kind. Which participants each group map includes, why the others are not included, and
all values are computed from the description of the group by the documented rules, without the
program. Every result is appended to FOLDER/cases.jsonl at once. The same command resumes after an
interruption and ends with the same table; --again repeats the cases of other commits.
"""

import argparse
import shutil
import sys
from dataclasses import replace

from _odd_cases import (
    Outcomes,
    add_options,
    append,
    count_results,
    describe_outcomes,
    is_done,
    recorded,
    show,
)
from _odd_groups_kinds import KINDS, kinds_of, run_case, warm_up
from _table import commit, keep

RESULTS = ("maps", "no map", "refused")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--cases", type=int, default=200)
    arguments = parser.parse_args()
    # the program changes to other folders
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "cases.jsonl"
    done = recorded(record, arguments.seed)
    if arguments.report:
        return report(done, arguments.cases, arguments.seed)
    version = commit()
    warm_up(folder)
    is_single = arguments.case is not None
    for number in [arguments.case] if is_single else range(arguments.cases):
        chosen = kinds_of(number, arguments.seed)
        if arguments.only and chosen[0].name not in arguments.only:
            continue
        if is_done(done.get(("group", number)), version, arguments):
            continue
        outcome = replace(run_case(number, arguments.seed, folder), commit=version)
        done["group", number] = outcome
        append(record, arguments.seed, outcome)
        show(outcome, always=is_single)
        if not is_single:
            shutil.rmtree(folder / f"case-{number}")
    return 0 if is_single else report(done, arguments.cases, arguments.seed)


def report(done: Outcomes, count: int, seed: int) -> int:
    """Write the table of kinds and results; return 1 if a case was wrong."""
    outcomes = [
        outcome
        for (depth, number), outcome in sorted(done.items())
        if depth == "group" and number < count
    ]
    rows = [{"kind": name, **count_results(name, outcomes, KINDS, RESULTS)} for name in KINDS]
    rows = [row for row in rows if row["cases"]]
    name = "all cases, each once"
    total = {"kind": name, **count_results(name, outcomes, KINDS, RESULTS)}
    remarks = [
        "A case with several kinds counts in the row of each. `wrong`: another map, participant,"
        " file or exit code than the rules give, a participant who is left out without a word, or"
        " a crash.",
        *describe_outcomes(outcomes),
    ]
    title = f"Odd groups: {len(outcomes)} of {count} cases, seed {seed}"
    keep("odd_groups", title, [*rows, total], remarks=remarks)
    return int(any(outcome.wrong for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
