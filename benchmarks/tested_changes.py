"""Tested detail of measured runs with one block left out, and with recoded events.

python benchmarks/tested_changes.py OUT [ONLY ...]

OUT contains the effects of `people.py effects DATA OUT`, and ONLY are names of runs. The rule and
the formulas of the program are applied to the stored effects. The first table has a row per run,
contrast and region, the second counts the changes between *recovered* and *not supported*, and the
third compares tested with measured values for each coding of the events.

If a block is left out, its condition is split without it, and the t map that selects active voxels
is unchanged.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from _people_data import SMOOTHED, TESTED, TYPES, Tested
from _people_effects import METHOD, OWN_EVENTS, RECODINGS, StoredEffects
from _table import keep
from tested_detail import REGIONS, compare_with_measured, summarize, text

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.detail_support import RegionResult, classify_detail
from bids_sr.evaluation.missing_blocks import iterate_block_counts
from bids_sr.evaluation.tested_detail import iterate_tested_detail
from bids_sr.glm.block_effects import Effects
from bids_sr.glm.blocks import TaskBlock, count_used_blocks

LEFT_OUT = "one block left out"
_Row = dict[str, Any]
_Results = Mapping[tuple[str, str], RegionResult]
"""Results by contrast of the maps and region."""


@dataclass(frozen=True)
class Change:
    """Result for a contrast in a region before and after a change of the blocks or events."""

    kind: str
    run: str
    contrast: str
    region: str
    before: RegionResult
    after: RegionResult

    @property
    def is_flip(self) -> bool:
        """Whether *recovered* became *not supported*, or the reverse."""
        return {self.before.state, self.after.state} == {"recovered", "not supported"}

    @property
    def difference(self) -> float:
        """Change of the explained variance; NaN unless it is recovered before and after."""
        if not self.before.state == self.after.state == "recovered":
            return math.nan
        assert self.before.row is not None
        assert self.after.row is not None
        return self.after.row.value - self.before.row.value


def classify(rows: Sequence[MetricRow], contrasts: Sequence[str]) -> _Results:
    """Return the results of a test by contrast of the maps and region."""
    return {
        (support.map_contrast, label): result
        for support in classify_detail(rows, METHOD, contrasts).values()
        for label, result in zip(REGIONS, (support.active, support.brain), strict=True)
    }


def leave_out(effects: Effects, index: int) -> Effects:
    """Return effects without a block; the other blocks of its condition alternate again."""
    blocks: list[TaskBlock] = []
    counts: Counter[str] = Counter()
    for number, block in enumerate(effects.blocks):
        is_used = block.used and number != index
        blocks.append(replace(block, used=is_used, half=counts[block.condition] % 2))
        counts[block.condition] += is_used
    return replace(effects, blocks=tuple(blocks))


def test_without_block(stored: StoredEffects, index: int) -> list[MetricRow]:
    """Return the rows of the test at half the resolution without one block."""
    reconstructed, acquired = (
        leave_out(effects, index) for effects in (stored.half.reconstructed, stored.half.acquired)
    )
    missing = iterate_block_counts(METHOD, count_used_blocks(acquired.blocks), stored.contrasts)
    x, y, _ = stored.factor
    detail = iterate_tested_detail(
        reconstructed,
        acquired,
        stored.half.active_t,
        stored.contrasts,
        (x, y, 1.0),
        task_free=stored.half.task_free,
    )
    other_rows = [row for row in stored.run_rows if row.statistic != "blocks"]
    return [*detail, *other_rows, *missing]


def iterate_left_out(stored: StoredEffects, run: str, before: _Results) -> Iterator[Change]:
    """Yield the changes of all contrasts of a block's condition, for each block of a run."""
    for index, block in enumerate(stored.half.acquired.blocks):
        if block.used:
            after = classify(test_without_block(stored, index), list(stored.contrasts))
            changed = [
                name for name, weights in stored.contrasts.items() if weights.get(block.condition)
            ]
            for contrast, region in before:
                if contrast in changed:
                    key = contrast, region
                    yield Change(LEFT_OUT, run, *key, before=before[key], after=after[key])


def describe_contrast(measured: str, changes: Sequence[Change]) -> _Row:
    """Return the row of one contrast and region of a run."""
    before = changes[0].before
    row: _Row = {
        "run": changes[0].run,
        "contrast": changes[0].contrast,
        "region": changes[0].region,
        "measured": measured,
        "tested": text(before.row),
        "result": before.state,
    }
    left_out = [change.after for change in changes if change.kind == LEFT_OUT]
    states = Counter(result.state for result in left_out)
    values = [result.row.value for result in left_out if result.row is not None]
    finite = [value for value in values if math.isfinite(value)]
    row[LEFT_OUT] = ", ".join(f"{count} {state}" for state, count in states.most_common())
    row["tested without a block"] = f"{min(finite):.2f} to {max(finite):.2f}" if finite else "n/a"
    for change in changes:
        if change.kind != LEFT_OUT:
            after = change.after
            value = "n/a" if after.row is None else f"{after.row.value:.2f}"
            row[change.kind] = f"{value}, {after.state}"
    return row


def count_changes(changes: Sequence[Change]) -> _Row:
    """Return counts of changes of one kind in one region."""
    differences = [
        (abs(change.difference), _name_place(change))
        for change in changes
        if math.isfinite(change.difference)
    ]
    largest, location = max(differences, default=(math.nan, ""))
    flips = [change for change in changes if change.is_flip]
    recovered = [change for change in changes if change.before.state == "recovered"]
    return {
        "change": changes[0].kind,
        "region": changes[0].region,
        "compared": len(changes),
        "recovered to not supported or back": len(flips),
        "in": "; ".join(dict.fromkeys(map(_name_place, flips))) or "none",
        "recovered before": len(recovered),
        "recovered after": sum(change.after.state == "recovered" for change in recovered),
        "largest difference": round(largest, 3),
        "largest difference in": location,
        "differences above .05": sum(value > 0.05 for value, _ in differences),
    }


def _name_place(change: Change) -> str:
    """Return the run and the contrast of a change."""
    return f"{change.run}: {change.contrast}"


def read_runs(out: Path, only: Sequence[str]) -> Iterator[tuple[Tested, dict[str, StoredEffects]]]:
    """Yield the stored runs with their effects by coding of the events."""
    unsmoothed = [TYPES.get(f"{name}-types", run) for name, run in TESTED.items()]
    for tested in (*unsmoothed, *SMOOTHED.values()):
        files = sorted((out / tested.name / "effects").glob("*/about.json"))
        if files and (not only or tested.name in only):
            yield tested, {file.parent.name: StoredEffects(file.parent) for file in files}


def compare_codings(
    tested: Tested, codings: Mapping[str, StoredEffects]
) -> tuple[list[Change], dict[str, list[_Row]]]:
    """Return the changes of a run, and its rows of `compare_with_measured` by coding."""
    tests = {name: stored.test() for name, stored in codings.items()}
    results = {
        name: classify(tests[name], list(stored.contrasts)) for name, stored in codings.items()
    }
    before = results[OWN_EVENTS]
    changes = list(iterate_left_out(codings[OWN_EVENTS], tested.title, before))
    for name, after in results.items():
        if name != OWN_EVENTS:
            changes += [
                Change(name, tested.title, *key, before=result, after=after[key])
                for key, result in before.items()
            ]
    rows = {
        name: list(compare_with_measured(tested, [*tests[name], *stored.measure()]))
        for name, stored in codings.items()
    }
    return changes, rows


def describe_run(changes: Sequence[Change], rows: Sequence[_Row]) -> Iterator[_Row]:
    """Yield one row per contrast and region of a run; `rows` are with the events of the run."""
    measured = {(row["map_contrast"], row["region"]): row["measured"] for row in rows}
    for key, measured_text in measured.items():
        yield describe_contrast(
            measured_text,
            [change for change in changes if (change.contrast, change.region) == key],
        )


def main() -> int:
    """Write the tables."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    contrast_rows: list[_Row] = []
    changes: list[Change] = []
    rows_by_coding: dict[str, list[_Row]] = {}
    for tested, codings in read_runs(Path(sys.argv[1]), sys.argv[2:]):
        run_changes, run_rows = compare_codings(tested, codings)
        contrast_rows += describe_run(run_changes, run_rows[OWN_EVENTS])
        changes += run_changes
        for name, rows in run_rows.items():
            rows_by_coding.setdefault(name, []).extend(rows)
    keep(
        "tested_changes",
        "Tested detail of `sbl` with one block left out, and with recoded events",
        contrast_rows,
        remarks=[
            "One block left out: results over the blocks of the conditions of the contrast.",
            *(f"{name}: {text}." for name, text in RECODINGS.items()),
        ],
    )
    keep(
        "tested_changes_counts",
        "Changes of the tested detail with one block left out, and with recoded events",
        [
            count_changes([c for c in changes if (c.kind, c.region) == (kind, region)])
            for kind in dict.fromkeys(change.kind for change in changes)
            for region in REGIONS
        ],
        remarks=["Differences: explained variance, if recovered before and after."],
    )
    keep(
        "tested_changes_measured",
        "Agreement of tested and measured explained variance by coding of the events",
        [
            {"events": name} | summarize(rows, region)
            for name, rows in rows_by_coding.items()
            for region in REGIONS
        ],
        remarks=["Columns: as in tested_detail_counts.md."],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
