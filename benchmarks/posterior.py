"""Test the program's error estimates: coverage, voxels of the wrong sign, 5 mm maps.

python benchmarks/posterior.py runs DATA OUT [ONLY ...]
    every run of participants at half its resolution, without and with calibration, compared with
    its measured series
python benchmarks/posterior.py foreign DATA OUT
    effects that follow the prior of a run, and effects that do not

DATA is the folder of `people.py`, ONLY is RUN or RUN:KIND, such as B2 or B2:blind. The output of
each call stays in OUT/RUN/blind or OUT/RUN/calibrated, its values in OUT/RUN/KIND.json; existing
results are reused.

Truth is the same run as measured. Coverage: of effect +- 1.96 sqrt(SD^2 + SE^2), with the SE of
the linear model of the difference of both series, so that measured noise counts once. Wrong:
the measured effect of the other half of the blocks, made independent of this half, is negative.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _people_calibrations import make_calibration
from _people_data import TESTED, Tested, make_tested
from _posterior_foreign import REPEATS, foreign
from _posterior_maps import BELOW, CONTRASTS, FDR, Array, Halves, Stored, call, rounded, share
from _table import keep
from scipy import ndimage, special

from bids_sr.glm.activation_regions import nonempty_dice, sign_reliable_region
from bids_sr.sr.prior_maps.posterior import wrong_sign_probability

KINDS = ("blind", "fine")
WIDTHS = (0.0, 5.0)
Rows = list[dict[str, Any]]


def rms(values: Array) -> float:
    """Return the root of a mean square, which may be negative because of noise."""
    return float(np.sqrt(max(0.0, float(np.mean(values)))))


def coverage(stored: Stored) -> Iterator[dict[str, Any]]:
    """Yield the coverage of the stored intervals, by contrast and smoothing."""
    mask, difference_maps = stored.mask(), stored.difference(WIDTHS)
    below = {
        row.contrast: row.value
        for table in ("evaluation", "activation")
        for row in stored.rows(table)
        if row.statistic == BELOW and row.series == "sbl"
    }
    for contrast in stored.contrasts:
        for width, difference in difference_maps.items():
            effect, zero, measured = (
                stored.map(contrast, "effect", series, width)
                for series in ("sbl", "zerofill", "measured")
            )
            error, detail = effect - measured, np.abs(effect - zero)
            noise = difference.maps[contrast, "variance"]
            sd = stored.map(contrast, "sd", "sbl", width)
            regions = {
                "brain": mask,
                "strongest 5 %": mask & (detail >= np.quantile(detail[mask], 0.95)),
                "active in the truth": mask
                & (np.abs(stored.map(contrast, "t", "measured", width)) > 4),
            }
            row: dict[str, Any] = {"contrast": contrast, "mm": width}
            for term, variance in (("noise alone", noise), ("", noise + sd**2)):
                inside = error**2 < 1.96**2 * variance
                row |= {
                    f"{name}{', ' * bool(term)}{term}": float(inside[where].mean())
                    for name, where in regions.items()
                }
            yield row | {
                "one level down": below.get(contrast, "") if width == 0 else "",
                "r(SD, error)": float(np.corrcoef(sd[mask], np.abs(error[mask]))[0, 1]),
                # "" if the error is not above the measured noise
                "rms error / SD": rms((error**2 - noise)[mask]) / max(1e-9, rms(sd[mask] ** 2))
                or "",
            }


def highest(values: Array, count: int, mask: Array) -> Array:
    """Return a number of voxels of the mask with the highest values."""
    if count == 0:
        return np.zeros_like(mask)
    return np.asarray(mask & (values >= np.partition(values[mask], -count)[-count]))


def of_halves(
    stored: Stored, halves_by_series: Mapping[str, Mapping[float, Halves]]
) -> tuple[Rows, Rows]:
    """Compare regions of one half and smoothed maps with the measured other half, in both
    directions.
    """
    mask, sbl_halves = stored.mask(), stored.halves("sbl", WIDTHS)
    regions: Rows = []
    smoothed: Rows = []
    for contrast in stored.contrasts:
        for half in (0, 1):
            for width in WIDTHS:
                truth, noise = halves_by_series["measured"][width].other_half(contrast, half)
                variance = stored.error_variance(
                    halves_by_series["acquired"][0.0], contrast, half, width
                )
                halves_by_name = {"sbl": sbl_halves[width]} | {
                    name: halves_by_width[width]
                    for name, halves_by_width in halves_by_series.items()
                    if width in halves_by_width and name != "acquired"
                }
                maps = {
                    name: {s: h.map(contrast, half, s) for s in ("effect", "variance", "t", "z")}
                    for name, h in halves_by_name.items()
                }
                at = {"contrast": contrast, "half": half}
                if width == 0:
                    regions += [at | row for row in _regions(maps, variance, truth, noise, mask)]
                else:
                    smoothed += [at | row for row in _smoothed(maps, variance, truth, noise, mask)]
    return regions, smoothed


def _regions(
    maps: Mapping[str, Mapping[str, Array]],
    variance: Array,
    truth: Array,
    noise: Array,
    mask: Array,
) -> Iterator[dict[str, Any]]:
    sbl = maps["sbl"]
    claimed, total = sbl["variance"], sbl["variance"] + variance
    wrong = wrong_sign_probability(sbl["effect"], total)
    active = FDR.region(sbl["z"], mask, mask)[0]
    for name, region in (
        ("fdr", active),
        ("sign reliable", sign_reliable_region(sbl["t"], wrong, active)),
    ):
        count = int(region.sum())
        yield {
            "region": name,
            "voxels": count,
            "claimed": share(_below_zero(sbl["effect"], claimed + noise**2), region),
            "expected": share(_below_zero(sbl["effect"], total + noise**2), region),
            "actual": share(truth < 0, region),
            "without the half's noise": share(wrong, region),
            "measured": share(truth < 0, highest(maps["measured"]["t"], count, mask)),
            "bspline": share(truth < 0, highest(maps["bspline"]["t"], count, mask)),
        }


def _below_zero(effect: Array, variance: Array) -> Array:
    return np.asarray(special.ndtr(-effect / np.sqrt(np.maximum(variance, 1e-12))))


def _smoothed(
    maps: Mapping[str, Mapping[str, Array]],
    variance: Array,
    truth: Array,
    noise: Array,
    mask: Array,
) -> Iterator[dict[str, Any]]:
    t = truth / np.maximum(noise, 1e-12)
    active = mask & (t > 4)
    near = mask & ndimage.binary_dilation(active, iterations=2) & (np.abs(t) < 1)
    reference = FDR.region(t, mask, mask)[0]
    for series, width_maps in maps.items():
        for name, more in (("t", 0 * variance), ("tTotal", variance)):
            if name == "tTotal" and series != "sbl":
                continue
            total = width_maps["variance"] + more
            smaller = np.sqrt(width_maps["variance"] / np.maximum(total, 1e-12))
            region = FDR.region(width_maps["z"] * smaller, mask, mask)[0]
            inside = (width_maps["effect"] - truth) ** 2 < 1.96**2 * (total + noise**2)
            yield {
                "map": f"{series}, {name}",
                "voxels": int(region.sum()),
                "expected": share(_below_zero(width_maps["effect"], total + noise**2), region),
                "actual": share(truth < 0, region),
                "near-null": share(width_maps["t"] * smaller > 3.1, near),
                "near-null voxels": int(near.sum()),
                "Dice": nonempty_dice(region, reference) or 0.0,
                "coverage, active": share(inside, active),
            }


def measure(tested: Tested, data: Path, out: Path, only: Sequence[str]) -> None:
    """Compute the values of the calls on one run."""
    halves_by_series: dict[str, dict[float, Halves]] = {}
    for kind in KINDS:
        file = out / tested.name / f"{kind}.json"
        is_selected = not only or {tested.name, f"{tested.name}:{kind}"} & set(only)
        if file.exists() or not is_selected:
            continue
        low, truth = make_tested(tested, data, out)
        calibration = "none" if kind == "blind" else str(make_calibration(kind, tested, data, out))
        place, more = out / tested.name / LABELS[kind], ["--truth", str(truth)]
        stored = call(low, place, CONTRASTS[tested.name], *more, "--calibration", calibration)
        figures: dict[str, Any] = {"applied": stored.applied}
        if stored.applied:
            # the same with and without a calibration
            halves_by_series = halves_by_series or {
                series: stored.halves(series, widths)
                for series, widths in (
                    ("measured", WIDTHS),
                    ("acquired", WIDTHS[:1]),
                    ("bspline", WIDTHS[:1]),
                    ("zerofill", WIDTHS[1:]),
                )
            }
            figures["coverage"] = list(coverage(stored))
            figures["regions"], figures["smoothed"] = of_halves(stored, halves_by_series)
        file.write_text(json.dumps(figures))
        print(tested.name, kind, "measured", flush=True)


TITLES = {
    "coverage": "Coverage of 95 % intervals of the effect of `sbl` on the fine grid",
    "regions": "Share of voxels of the wrong sign: expected and actual, half against half",
    "smoothed": "Maps smoothed by 5 mm, half against measured half",
}
LABELS = {"blind": "blind", "fine": "calibrated"}


def runs(arguments: Sequence[str]) -> None:
    """Measure all runs, and make tables of all stored results."""
    data, out = Path(arguments[0]), Path(arguments[1])
    people = [replace(tested_run, one_type=False) for tested_run in TESTED.values()]
    for tested in people:
        measure(tested, data, out, arguments[2:])
    for name, title in TITLES.items():
        rows: Rows = []
        for tested in people:
            for kind in KINDS:
                file = out / tested.name / f"{kind}.json"
                figures = json.loads(file.read_text()) if file.exists() else {}
                about = {"run": tested.title, "sbl": LABELS[kind]}
                rows += [about | row for row in _both_ways(figures.get(name, []))]
        if rows:
            keep(f"posterior_{name}", title, [rounded(row) for row in rows])


def _both_ways(rows: Rows) -> Rows:
    """Average over the two halves."""
    groups: dict[tuple[Any, ...], Rows] = {}
    for row in rows:
        key = tuple(row.get(k) for k in ("contrast", "mm", "region", "map"))
        groups.setdefault(key, []).append({k: v for k, v in row.items() if k != "half"})
    return [
        {
            k: float(np.nanmean([row[k] for row in group])) if isinstance(v, int | float) else v
            for k, v in group[0].items()
        }
        for group in groups.values()
    ]


def _blind(arguments: Sequence[str]) -> Iterator[tuple[Tested, Stored]]:
    """Yield calls without calibration of all runs with an applied `sbl`."""
    data, out = Path(arguments[0]), Path(arguments[1])
    for tested_run in TESTED.values():
        tested = replace(tested_run, one_type=False)
        low, truth = make_tested(tested, data, out)
        more = ("--truth", str(truth), "--calibration", "none")
        stored = call(low, out / tested.name / "blind", CONTRASTS[tested.name], *more)
        if stored.applied:
            yield tested, stored


def foreign_effects(arguments: Sequence[str]) -> None:
    """Tabulate effects made from the prior of each run, and other effects."""
    rows = [{"run": t.title} | row for t, stored in _blind(arguments) for row in foreign(stored)]
    keep(
        "posterior_foreign",
        "Effects that follow the prior of a run and effects that do not",
        [rounded(row) for row in rows],
        remarks=[
            f"Means over {REPEATS} draws. Without noise, but for the columns that name noise and"
            " the regions: there noise and effect are as strong as those of the run."
        ],
    )


def main() -> int:
    """Run one subcommand."""
    commands = {"runs": runs, "foreign": foreign_effects}
    if len(sys.argv) < 4 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](sys.argv[2:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
