"""Test at half the resolution in simulated worlds: what the rule says, and what is true.

python benchmarks/tested_worlds.py OUT SEED[:SLICES,...[:KIND,...]] ...

OUT has the draws of `drawn_worlds.py` with the same seeds and slices. The rule of the program is
applied to the stored effects, so that a new rule needs no new draws. The true explained variance
compares the effect at the final resolution with the known activity.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from _table import keep
from _worlds_draws import METHOD, Draw, load_draw
from _worlds_kinds import DRAWN, FACTOR, KNOWN, NEW, NYQUIST, WORLDS
from _worlds_people import CONTRAST, PEOPLE
from drawn_worlds import Job, list_draws

from bids_sr.engine.metric_rows import MetricRow, metric_rows
from bids_sr.evaluation.detail_support import (
    MIN_FINENESS,
    MIN_FOLLOWING,
    SMOOTHNESS,
    RegionResult,
    classify_detail,
)
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.tested_detail import FINENESS, FOLLOWING, iterate_tested_detail

REGIONS = ("active", "brain")
SLAB = 5
"""Number of slices of slabs, which have rows of their own."""
_ACCURATE = 0.2  # true explained variance that should be recovered


def classify_draw(file: Path) -> dict[str, Any]:
    """Apply the rule of the program to a stored draw."""
    return classify_effects(load_draw(file))


def classify_effects(draw: Draw) -> dict[str, Any]:
    """Return the true value, the result of the rule, and the tested value, in both regions."""
    rows = [
        *iterate_tested_detail(
            draw.reconstructed,
            draw.acquired,
            {0.0: {"stimulus": draw.active_t}},
            {"stimulus": CONTRAST},
            FACTOR,
            task_free=draw.task_free,
        ),
        *metric_rows(METHOD, {SMOOTHNESS: draw.facts["smoothness"]}, region="brain"),
    ]
    support = classify_detail(rows, METHOD, ["stimulus"])["stimulus"]
    return {"fineness decides": _is_left_to_fineness(rows, support.active)} | {
        f"{region}, {name}": cell
        for region, result in zip(REGIONS, (support.active, support.brain), strict=True)
        for name, cell in (
            ("true", draw.facts[f"true, {region}"]),
            ("state", result.state),
            ("tested", math.nan if result.row is None else result.row.value),
            ("lower", math.nan if result.row is None else result.row.lower),
        )
    }


def _is_left_to_fineness(rows: Sequence[MetricRow], result: RegionResult) -> bool:
    """Return whether only the interval of the fineness refuses the detail in active voxels."""
    decided, tested = result.deciding_row, result.row
    following = next(
        (row.value for row in rows if (row.statistic, row.region) == (FOLLOWING, ACQUIRED_ACTIVE)),
        math.nan,
    )
    return (
        result.state == "not testable"
        and decided is not None
        and tested is not None
        and decided.statistic == FINENESS
        and decided.value > MIN_FINENESS
        and following >= MIN_FOLLOWING * tested.value
    )


def count_states(draws: pd.DataFrame) -> dict[str, Any]:
    """Return how many false and true draws the rule accepts and contradicts, by region."""
    cells: dict[str, Any] = {"draws": len(draws)}
    for region in REGIONS:
        state, true = draws[f"{region}, state"], draws[f"{region}, true"]
        for name, selected, result in (
            ("false, recovered", true <= 0, "recovered"),
            (f"true {_ACCURATE}, recovered", true >= _ACCURATE, "recovered"),
            ("false, not supported", true <= 0, "not supported"),
            ("true, not supported", true > 0, "not supported"),
        ):
            count = int((state[selected] == result).sum())
            cells[f"{region}: {name}"] = f"{count} of {int(selected.sum())}"
    return cells


def select_groups(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the draws of each row of the table.

    Slabs, and kinds that end near the acquired Nyquist frequency, are only in rows of their own.
    """
    is_slab, ends = table["slices"] == SLAB, table["group"] == NYQUIST
    main = table[~is_slab & ~ends]
    groups = {name: table[~is_slab & (table["world"] == name)] for name in WORLDS}
    groups |= {f"participant {name}": main[main["person"] == name] for name in PEOPLE}
    groups |= {f"{n} slices": main[main["slices"] == n] for n in sorted(set(main["slices"]))}
    groups |= {group: main[main["group"] == group] for group in (KNOWN, NEW, DRAWN)}
    return groups | {
        "all": main,
        NYQUIST: table[~is_slab & ends],
        f"slabs of {SLAB}": table[is_slab & ~ends],
    }


def tabulate(draws: Mapping[Job, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the table; rows without draws are left out."""
    table = pd.DataFrame(
        [
            {
                "world": job.world,
                "group": WORLDS[job.world].group,
                "person": job.person,
                "slices": job.n_slices,
                **result,
            }
            for job, result in draws.items()
        ]
    )
    return [
        {"draws of": name} | count_states(group)
        for name, group in select_groups(table).items()
        if len(group)
    ]


def main() -> int:
    """Apply the rule to all draws of the seeds, and write the table."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    folder, seeds = Path(sys.argv[1]), sys.argv[2:]
    jobs = list(list_draws(seeds))
    missing = [job.file for job in jobs if not (folder / job.file).exists()]
    if missing:
        sys.exit(
            f"{folder}: {len(missing)} of {len(jobs)} draws are missing, such as {missing[0]}. Run"
            " drawn_worlds.py."
        )
    keep(
        "tested_worlds",
        "Test of `sbl` at half the resolution in simulated worlds, seeds "
        + ", ".join(seed.partition(":")[0] for seed in seeds),
        tabulate({job: classify_draw(folder / job.file) for job in jobs}),
        remarks=[
            "False: the explained variance of the known activity is at or below 0. True: it is"
            f" above 0. True {_ACCURATE}: it is at least {_ACCURATE}. The kinds, the participants,"
            f" and all draws are without slabs of {SLAB} slices. The participants, the numbers of"
            f" slices and all draws are without the kinds that end near the Nyquist frequency of"
            f" the acquired run.",
            *(f"{name} ({world.group}): {world.text}." for name, world in WORLDS.items()),
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
