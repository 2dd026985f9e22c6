"""Attribution of region size: how much of a change is due to grid, smoothing, threshold and method.

The paper compares maps of the acquired series with maps of the finer one, each smoothed with σ = 1.5 of its *own*
voxels, each thresholded by its own maximum (equation 2). Here each is changed alone, in this order:

    raw, smoothed in its voxels → bspline, smoothed as wide in mm      the grid
                                → bspline, smoothed in its own voxels  the smoothing
                                → the series, likewise                 the method

The parts multiply (sizes) or add (overlaps) up to the whole. The whole under equation 2 against the whole under a fixed
threshold says what the moving threshold adds. Source: STSS-SRfMRI (stss-srfmri), results; the order is ours.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.metrics.long_tables import MetricRow
from bids_sr.series import RAW, RAW_SPLINE
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA
from bids_sr.stats.regions.activation_regions import parse_thresholds
from bids_sr.stats.regions.map_summary import single_conditions

SIGMA_VOXELS = 1.5
FIXED_Z = "3.1"
THRESHOLDS = ("quarter", "fdr", FIXED_Z)
# Name in the column `region`, to the prefix of the measures in the activation tables
PREFIXES: Mapping[str, str] = {"quarter": "quarter", "fixed": "z31", "fdr": "fdr"}
GRID_SERIES = "bspline"
_NEAR_MM = 0.051  # widths are rounded to tenths of mm, in file names as here


def attribution_widths(voxel_mm: Sequence[float], factor: Sequence[float]) -> tuple[float, float, float]:
    """FWHM (mm, to tenths) of no smoothing, of σ = 1.5 high-resolution voxels and of σ = 1.5 acquired voxels.

    `factor` is acquired over high-resolution voxel by axis. The voxel is the in-plane one (geometric mean of axes 0 and
    1): the paper is 2D, and its slices are thicker than its pixels. One width serves all three axes.
    """
    acquired = math.sqrt(voxel_mm[0] * voxel_mm[1])
    fine = acquired / math.sqrt(factor[0] * factor[1])
    low, high = (round(SIGMA_VOXELS * FWHM_PER_SIGMA * size, 1) for size in (acquired, fine))
    return 0.0, high, low


def attribution_pair(contrasts: Mapping[str, Mapping[str, float]]) -> tuple[str, str] | None:
    """The two conditions whose regions are compared: the first two against rest; None where there are fewer."""
    names = single_conditions(contrasts)
    return (names[0], names[1]) if len(names) > 1 else None


def widths_to_map(
    widths: Sequence[float], *, smoothing: Sequence[float], kinds: Sequence[str], thresholds: Sequence[str]
) -> tuple[float, ...]:
    """Widths that the run's own activation maps do not answer already, without repeats.

    The run's maps, of `smoothing`, serve only where they have every map (`kinds`) and threshold that is needed here.
    """
    complete = {"cc", "glm"} <= set(kinds) and set(parse_thresholds(THRESHOLDS)) <= set(parse_thresholds(thresholds))
    known = smoothing if complete else ()
    return tuple(w for w in dict.fromkeys(widths) if not any(abs(w - have) < _NEAR_MM for have in known))


@frozen
class Regions:
    """Regions of two conditions under one threshold, of one series at one smoothing."""

    sizes: tuple[float, float]  # volume of each in the region of interest (mm³); NaN where it was not measured
    dice: float  # overlap in the region of interest; NaN where a region is empty

    @property
    def size(self) -> float:
        """Mean volume of the two (mm³)."""
        return (self.sizes[0] + self.sizes[1]) / 2


Key = tuple[str, str, float]
"""Series, threshold (quarter, fixed, fdr), FWHM (mm)."""


def collect_regions(rows: Iterable[MetricRow], pair: tuple[str, str], widths: Sequence[float]) -> dict[Key, Regions]:
    """Regions of the two conditions at some widths (mm) from rows of any number of tables; the first of equals."""
    values: dict[tuple[str, float, str, str], float] = {}
    for row in rows:
        width = next((w for w in widths if abs(row.fwhm_mm - w) < _NEAR_MM), None)
        if width is not None:
            values.setdefault((row.series, width, row.contrast, row.measure), row.value)
    found: dict[Key, Regions] = {}
    for series, width in dict.fromkeys((series, width) for series, width, _, _ in values):
        for name, prefix in PREFIXES.items():
            first, second = ((series, width, condition, f"{prefix}_roi_volume") for condition in pair)
            if first in values and second in values:
                overlap = values.get((series, width, "+".join(pair), f"{prefix}_dice"), math.nan)
                found[series, name, width] = Regions(sizes=(values[first], values[second]), dice=overlap)
    return found


def _ratio(a: float, b: float) -> float:
    return a / b if a > 0 and b > 0 else math.nan


def take_apart(
    regions: Mapping[Key, Regions], series: str, threshold: str, *, own_mm: float, raw_mm: float, metric: str
) -> dict[str, float]:
    """The change from raw to one series under one threshold, and its parts: ratios of sizes, or differences of Dice.

    Parameters
    ----------
    own_mm, raw_mm : σ = 1.5 voxels of the high-resolution and of the acquired grid, as FWHM (mm)
    metric : ``size`` (parts multiply) or ``dice`` (parts add)
    """
    absent = Regions(sizes=(math.nan, math.nan), dice=math.nan)
    steps = [
        regions.get(key, absent)
        for key in (
            ("raw", threshold, raw_mm), (GRID_SERIES, threshold, raw_mm), (GRID_SERIES, threshold, own_mm),
            (series, threshold, own_mm),
        )
    ]  # fmt: skip
    levels = [step.size if metric == "size" else step.dice for step in steps]

    def change(before: float, after: float) -> float:
        return _ratio(after, before) if metric == "size" else after - before

    grid, smoothing, method = (change(levels[k], levels[k + 1]) for k in range(3))
    total = change(levels[0], levels[3])
    return {"total": total, "part_grid": grid, "part_smoothing": smoothing, "part_method": method}


def _level_rows(regions: Mapping[Key, Regions], pair: str, acquired_mm3: float) -> Iterator[MetricRow]:
    """Size and overlap by series, threshold and smoothing; and how often the overlap is not defined."""
    for (series, threshold, width), found in regions.items():
        size = found.size
        values = {"claim_size": size, "claim_size_paper": size / acquired_mm3, "claim_dice": found.dice}
        for name, value in values.items():
            yield MetricRow(series=series, measure=name, value=value, fwhm_mm=width, contrast=pair, region=threshold)
    for threshold in PREFIXES:
        overlaps = [found.dice for key, found in regions.items() if key[1] == threshold]
        if overlaps:
            yield MetricRow(
                series="run", measure="claim_undefined", value=int(np.isnan(overlaps).sum()), contrast=pair,
                region=threshold, n=len(overlaps),
            )  # fmt: skip


def _part_rows(regions: Mapping[Key, Regions], pair: str, *, own_mm: float, raw_mm: float) -> Iterator[MetricRow]:
    """The decomposition of each finer series against raw."""
    names = [s for s in dict.fromkeys(key[0] for key in regions) if s not in (RAW, RAW_SPLINE)]
    for series, metric in product(names, ("size", "dice")):
        parts = {
            threshold: take_apart(regions, series, threshold, own_mm=own_mm, raw_mm=raw_mm, metric=metric)
            for threshold in PREFIXES
        }
        fixed = parts["fixed"]["total"]
        for threshold, values in parts.items():
            if threshold != "fixed":
                whole = values["total"]
                values["part_threshold"] = _ratio(whole, fixed) if metric == "size" else whole - fixed
            for part, value in values.items():
                yield MetricRow(
                    series=series, against="raw", measure=f"claim_{part}_{metric}", value=value, fwhm_mm=own_mm,
                    contrast=pair, region=threshold,
                )  # fmt: skip


def attribution_rows(
    rows: Iterable[MetricRow], pair: tuple[str, str], *, voxel_mm: Sequence[float], factor: Sequence[float]
) -> list[MetricRow]:
    """The whole table and the decomposition, from rows of activation tables at `attribution_widths`.

    Returns
    -------
    ``claim_size``, ``claim_size_paper``, ``claim_dice`` (region: threshold; fwhm_mm: smoothing), ``claim_undefined``
    (series run, n: of how many), and for each finer series ``claim_total_*`` and ``claim_part_*`` against raw.
    """
    widths = attribution_widths(voxel_mm, factor)
    regions = collect_regions(rows, pair, widths)
    name = "+".join(pair)
    return [
        *_level_rows(regions, name, float(np.prod(voxel_mm))),
        *_part_rows(regions, name, own_mm=widths[1], raw_mm=widths[2]),
    ]
