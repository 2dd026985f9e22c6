"""Names, units and meaning of every figure in the metrics tables, in one place; the tables' JSON is made from it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

COLUMNS = ("series", "fwhm_mm", "contrast", "measure", "value", "unit")
MISSING = "n/a"

COLUMN_TEXT: Mapping[str, dict[str, str]] = {
    "series": {
        "Description": "The series the figure is about: raw is the acquired grid, rawSpline the raw maps brought to "
        "the high-resolution grid by a cubic spline, the others are baselines and methods"
    },
    "fwhm_mm": {"Description": "Full width at half maximum of the Gaussian smoothing before statistics", "Units": "mm"},
    "contrast": {"Description": "The contrast, or two joined by + where the figure compares two"},
    "measure": {"Description": "What was measured"},
    "value": {"Description": "The figure, in the unit of its row; n/a where it is not defined (an empty region)"},
    "unit": {"Description": "Unit of the value; 1 for pure numbers, signal for the unit of the BOLD series"},
}

# Measures made once per threshold carry its label as prefix (quarter, fdr, z31).
REGION_TEXT: Mapping[str, tuple[str, str]] = {
    "threshold": ("1", "threshold that was applied: CC for quarter, z for the others"),
    "voxels": ("voxel", "voxels of the region, on the grid of the series"),
    "volume": ("mm^3", "volume of the region"),
    "paper": ("acquired voxel", "voxels of the region divided by the factor of super-resolution, as in the paper"),
    "roi_volume": ("mm^3", "volume of the region's part inside the region of interest"),
    "centroid_x": ("mm", "center of the region's part inside the region of interest, RAS"),
    "centroid_y": ("mm", "center of the region's part inside the region of interest, RAS"),
    "centroid_z": ("mm", "center of the region's part inside the region of interest, RAS"),
    "dice": ("1", "overlap of the regions of two conditions, 2|A∩B|/(|A|+|B|); n/a where either is empty"),
    "centroid_distance": ("mm", "distance between the centers of the regions of two conditions"),
}

MEASURE_TEXT: Mapping[str, tuple[str, str]] = {
    **{
        f"peak_{stat}": (unit, f"highest {stat} in the region of interest")
        for stat, unit in (("cc", "1"), ("t", "1"), ("z", "1"))
    },
    **{f"peak_at_{axis}": ("mm", "where the highest t (CC, if there is no t) lies, RAS") for axis in "xyz"},
    "peak_effect": ("signal", "effect at the highest t in the region of interest"),
    "brain_peak_cc": ("1", "highest CC in the brain"),
    "brain_peak_t": ("1", "highest t in the brain"),
    "peak_distance": ("mm", "distance between the highest t (or CC) of two conditions in the region of interest"),
    "effect_separation": (
        "signal",
        "how far each condition's effect exceeds the other's at its own peak, mean of both: contrast between the foci",
    ),
    "roi_voxels": ("voxel", "voxels of the region of interest inside the mask"),
    "mask_voxels": ("voxel", "voxels of the mask"),
    "dof": ("1", "degrees of freedom of the linear model"),
    "design_rank": ("1", "rank of the linear model's design"),
    "design_columns": ("1", "columns of the linear model's design; more than its rank where some repeat each other"),
    "inconsistency_median": (
        "1",
        "median over volumes of |B(SR) - LR| / |LR|: what is lost of the acquired data when the series is brought back "
        "to the acquired resolution, before motion correction",
    ),
    "inconsistency_max": ("1", "largest of the same over volumes"),
    "tsnr_median": ("1", "median over the mask of mean over standard deviation in time, quadratic trend removed"),
    "mean_signal": ("signal", "mean of the series in the mask"),
    "noise_median": ("signal", "median over the mask of the standard deviation in time, quadratic trend removed"),
    **{
        f"fwhm_{axis}": ("mm", f"smoothness of the noise along voxel axis {axis}, from temporal differences")
        for axis in "xyz"
    },
    "fwhm_mean": ("mm", "geometric mean of the smoothness along the three axes"),
    "psnr": ("dB", "peak signal-to-noise ratio against the reference, its range in the mask as the peak"),
    "ssim": ("1", "structural similarity with the reference, mean over the mask; 1 is equal"),
    "rmse": ("signal", "root of the mean squared difference from the reference in the mask"),
    "mae": ("signal", "mean absolute difference from the reference in the mask"),
    "nmse": ("1", "squared difference from the reference over the squared reference, in the mask"),
    "consistency": ("1", "‖B(SR) - LR‖ / ‖LR‖: what of the acquired data the result, made coarse again, misses"),
    "volumes": ("volume", "volumes that entered, dummies left out"),
    **{
        f"r_{stat}_with_{other}": ("1", f"correlation over the brain of the {stat} map with that of {other}")
        for stat in ("cc", "effect", "t", "z")
        for other in ("raw", "bspline")
    },
}


def describe(measure: str) -> tuple[str, str]:
    """Unit and meaning of a measure.

    Raises
    ------
    KeyError : no such measure is declared here
    """
    if measure in MEASURE_TEXT:
        return MEASURE_TEXT[measure]
    prefix, _, rest = measure.partition("_")
    if rest in REGION_TEXT and (prefix in ("quarter", "fdr") or (prefix[:1] == "z" and prefix[1:].isdigit())):
        return REGION_TEXT[rest]
    raise KeyError(f"measure {measure!r} is declared nowhere")


def row(series: str, fwhm_mm: float, contrast: str, measure: str, value: float | None) -> dict[str, str]:
    """One row of a metrics table as text; None and values that are not finite become n/a."""
    finite = value is not None and abs(float(value)) < float("inf")
    return {
        "series": series,
        "fwhm_mm": f"{fwhm_mm:g}",
        "contrast": contrast or MISSING,
        "measure": measure,
        "value": f"{value:.6g}" if finite else MISSING,
        "unit": describe(measure)[0],
    }


def table_text(rows: Iterable[Mapping[str, str]]) -> str:
    """Rows as TSV text with a header line."""
    return "".join("\t".join(line) + "\n" for line in [COLUMNS, *([r[c] for c in COLUMNS] for r in rows)])


def read_table(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """Rows of a table that `table_text` made.

    Raises
    ------
    ValueError : other columns
    """
    header, *lines = Path(path).read_text().splitlines()
    if tuple(header.split("\t")) != COLUMNS:
        raise ValueError(f"{path}: columns {header!r}, expected {' '.join(COLUMNS)}")
    return [dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in lines]


def columns_json(measures: Iterable[str]) -> dict[str, dict[str, object]]:
    """What the columns mean, with a level for every measure that occurs; the JSON beside a metrics table."""
    out: dict[str, dict[str, object]] = {name: dict(text) for name, text in COLUMN_TEXT.items()}
    levels = {}
    for measure in sorted(set(measures)):
        unit, meaning = describe(measure)
        levels[measure] = f"{meaning} ({unit})"
    out["measure"]["Levels"] = levels
    return out
