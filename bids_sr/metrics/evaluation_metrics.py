"""Names, units and meaning of every figure of the evaluation: what a finer map is worth, with its interval.

One long table a run. A row says what was measured on which series, over which voxels, for which contrast, and against
what: a truth, or another series of which the figure is the difference.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

COLUMNS = ("series", "against", "fwhm_mm", "contrast", "region", "measure", "value", "lower", "upper", "n", "unit")
MISSING = "n/a"
# Numbers of temporal components that the control bsplinePca chooses from
PCA_RANKS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50)

COLUMN_TEXT: Mapping[str, dict[str, str]] = {
    "series": {
        "Description": "The series the figure is about: a baseline, a method, a control (bsplineSmooth, bsplinePca), a "
        "placebo (such as sblMirror), measured (the truth itself) or run (no single series)"
    },
    "against": {
        "Description": "What it is held against: measured (high-resolution BOLD of the same run), truth (known "
        "activation), self (the other half of the same series), or the series that was subtracted in a difference "
        "(gain_truth_*: to the measured series where there is one, else to known activation); "
        "n/a where there is nothing of the kind"
    },
    "fwhm_mm": {"Description": "Full width at half maximum of the Gaussian smoothing before statistics", "Units": "mm"},
    "contrast": {"Description": "The contrast, or two joined by + where the figure compares two"},
    "region": {
        "Description": "Voxels that entered: brain, roi, or activeNN (measured |t| of at least NN/10 in the half of "
        "the blocks that is not the target, 4 mm FWHM), or of the whole run for its maps; active: where known "
        "activation is at least a quarter of its maximum; "
        "for claim_ measures how the region was thresholded: quarter, fixed or fdr"
    },
    "measure": {"Description": "What was measured"},
    "value": {"Description": "The figure, in the unit of its row; n/a where it is not defined"},
    "lower": {"Description": "Lower end of its 95 % interval (resampled blocks, shuffles or volumes); n/a without"},
    "upper": {"Description": "Upper end of its 95 % interval"},
    "n": {
        "Description": "Units that the interval rests on: blocks, shuffles, slices, stretches of volumes; n/a without"
    },
    "unit": {"Description": "Unit of the value; 1 for pure numbers, signal for the unit of the BOLD series"},
}

# What counts amplitude, see `bids_sr.stats.evaluation.explained_variance`
_AMPLITUDES: Mapping[str, str] = {
    "ev": "explained variance 1 - |e - t|²/|t|² of the true effect t by that of the series",
    "amplitude": "recovered amplitude (slope of the series' effect over the true one; 1 is all of it)",
    "right": "right share (of the energy of the series' effect that of the true one, 0 to 1, negative where r is)",
}
_BAND_TEXT: Mapping[str, str] = {
    "signal": "signal units", "effect": "signal units",
    "beyond": "only in-plane Fourier coefficients at or beyond the acquired Nyquist limit",
}  # fmt: skip
_GAINS = (("", ""), ("gain_", "difference to the series named in against, of: "))
# Measure to (unit, meaning). One place for all, so that a misspelt measure fails and the JSON is complete.
MEASURE_TEXT: Mapping[str, tuple[str, str]] = {
    **{
        f"{gain}split_r_{band}": ("1", f"{what} {text}")
        for gain, what in (("", "correlation of"), ("gain_", "difference to the series named in against, of the r of"))
        for band, text in (
            ("signal", "the effect of one half of the blocks with the measured effect of the other half, signal units"),
            ("percent", "the same in percent of one common mean image"),
            ("beyond", "the same, only in-plane Fourier coefficients at or beyond the acquired Nyquist limit"),
        )
    },
    **{
        f"{gain}self_r_{band}": ("1", f"{what} {text}")
        for gain, what in (("", "correlation of"), ("gain_", "difference to the series named in against, of the r of"))
        for band, text in (
            ("signal", "the effects of the two halves of the blocks of one series: reliability, not truth"),
            ("beyond", "the same beyond the acquired Nyquist limit: a filter that makes its own detail passes this"),
        )
    },
    **{
        f"{gain}split_{name}_{band}": (
            "1",
            f"{what}{text}; one half of the blocks against the measured other half, whose noise is taken out by the "
            f"covariance of the measured halves; {_BAND_TEXT[band]}",
        )
        for gain, what in _GAINS
        for name, text in _AMPLITUDES.items()
        for band in ("signal", "beyond")
    },
    **{
        f"{gain}truth_{name}_{band}": ("1", f"{what}{text}; known activation; {_BAND_TEXT[band]}")
        for gain, what in _GAINS
        for name, text in _AMPLITUDES.items()
        for band in ("effect", "beyond")
    },
    "control_fwhm": ("mm", "smoothing that the control was given, the best of those tried"),
    **{
        f"control_best_{name}": ("1", f"the split_{name} that the control reaches at the best setting in hindsight")
        for name in ("r_signal", "r_percent", "r_beyond", "ev_signal", "ev_beyond")
    },
    "control_rank": ("1", "temporal components that the control kept, chosen on the other half"),
    **{
        f"{gain}truth_{name}": (unit, ("difference to the series named in against, of: " if gain else "") + text)
        for gain in ("", "gain_")
        for name, unit, text in (
            ("r_t", "1", "correlation of the t map with that of the truth"),
            ("r_effect", "1", "correlation of the effect map with that of the truth"),
            ("r_beyond", "1", "correlation of the effect map with that of the truth beyond the acquired Nyquist limit"),
            ("ap", "1", "average precision of t for the truly active voxels"),
            ("auc", "1", "area under the receiver operating characteristic of t for the truly active voxels"),
            ("dice", "1", "Dice of the truly active voxels and as many voxels of highest t"),
            ("centroid", "mm", "distance of the centers of these two regions"),
            (
                "foci",
                "1",
                "contrast of the foci: effect of each condition less the other's at its focus, over the truth's",
            ),
            (
                "psnr",
                "dB",
                "peak signal-to-noise ratio of single volumes, measured ones as reference, mean over volumes; the peak "
                "is the 99th percentile of the mean measured volume",
            ),
            ("ssim", "1", "structural similarity of single volumes to the measured ones, mean over volumes"),
        )
    },
    "null_rate": ("1", "share of voxels with t beyond p < .001 where there is no signal, mean over shuffles"),
    "null_nominal": ("1", "the share that the test promises"),
    "null_fwe": ("1", "share of shuffles with any voxel beyond p < .05, corrected for all voxels (Bonferroni)"),
    "null_threshold": ("1", "z that the largest of all voxels passes in 5 % of the shuffles (maximum statistic)"),
    "null_peak": ("1", "largest z of the voxels tested in the run itself, all conditions against rest"),
    "null_active": ("1", "number of the voxels tested (n) whose z in the run itself is beyond null_threshold"),
    "pair_psnr": ("dB", "peak signal-to-noise ratio on the pair that was not trained on"),
    "pair_ssim": ("1", "structural similarity on the pair that was not trained on"),
    "pair_gain_psnr": ("dB", "peak signal-to-noise ratio less that of the series named in against, held-out pair"),
    "ensemble_sd": (
        "signal",
        "median over the region of the standard deviation of the effect between ensemble members",
    ),
    "ensemble_r": ("1", "correlation of the ensemble's standard deviation with the true absolute error of its mean"),
    "ensemble_coverage": ("1", "share of voxels whose true error lies within two standard deviations of the ensemble"),
    "ensemble_nominal": (
        "1",
        "the same share if the truth were one more member; less coverage: members share an error",
    ),
    "unrepeated_share": (
        "1",
        "share of voxels with fine detail that neither repeats between the halves nor follows the pair; wrong detail "
        "that a method makes alike in both halves is not seen",
    ),
    "precision_change": ("1", "change of t by lower precision, root mean square over the noise of t"),
    "edge_mismatch": ("mm", "distance of the edges of the boldref from those of the T2*-weighted image, median"),
    "edge_mismatch_p90": ("mm", "the same distance, which a tenth of the edges exceeds"),
    "domain_distance": (
        "1",
        "farthest quantile of the BOLD's intensities from those trained on, over the 99th percentile",
    ),
    "domain_edges": ("1", "edge content of the BOLD over that of the image trained on"),
    **{
        f"flag_{name}": ("1", f"1 where {text}, else 0")
        for name, text in (
            ("task_not_done", "CC exceeds .5 elsewhere and nowhere in the region of interest"),
            ("broad", "activation covers an unusually large part of the brain"),
            ("artifact", "the pair has an artifact"),
            ("roi_misplaced", "the region of interest misses the nearest activation"),
            ("distortion", "edges of boldref and T2*-weighted image lie apart"),
            ("unrepeated", "much fine detail neither repeats nor follows the pair"),
            ("domain", "intensities or edges of the BOLD are unlike those the model was trained on"),
        )
    },
    "claim_size": ("mm^3", "size of the region in the region of interest, mean of the two conditions"),
    "claim_dice": ("1", "overlap of the regions of the two conditions"),
    "claim_size_paper": ("acquired voxel", "the same in acquired voxels, as the paper counts"),
    "claim_undefined": (
        "1",
        "rows of this threshold whose overlap is not defined, because a region is empty; n of all",
    ),
    **{
        f"claim_{part}_{figure}": ("1", f"{what}, {text}")
        for figure, what in (("size", "ratio of sizes"), ("dice", "difference of overlaps"))
        for part, text in (
            ("total", "the series smoothed in its own voxels against raw in its own: what the paper reports"),
            ("part_grid", "bspline against raw, smoothed alike in mm: the finer grid alone"),
            ("part_smoothing", "bspline smoothed in its own voxels against bspline smoothed as raw in mm"),
            ("part_method", "the series against bspline, both smoothed in their own voxels"),
            ("part_threshold", "total of this threshold against the total of a fixed one"),
        )
    },
    "verdict": ("1", "1 better than the series in against, 0 the same, -1 worse; n/a: it cannot be told"),
    **{
        f"verdict_{name}": ("1", f"1 where the evidence allows to say that the method {text}, else 0")
        for name, text in (
            ("function", "shows more true BOLD detail than every baseline, control and plain arithmetic"),
            ("image", "gives better images than bspline and inject"),
            ("specific", "owes some of that to this subject's own data, as own less placebo excludes 0"),
        )
    },
    "verdict_applied": (
        "1",
        "1 where the method was applied, 0 where it fell back to zero filling and was not compared",
    ),
    "verdict_margin": ("1", "half width of the interval around 0 that counts as the same"),
}


class UndeclaredMeasure(KeyError):
    """A row was made with a measure that is declared nowhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalRow:
    """One figure of the evaluation; see `COLUMN_TEXT` for the columns. NaN stands for not defined."""

    series: str
    measure: str
    value: float
    against: str = MISSING
    fwhm_mm: float = 0.0
    contrast: str = MISSING
    region: str = MISSING
    lower: float = math.nan
    upper: float = math.nan
    n: int | None = None

    @property
    def unit(self) -> str:
        """Unit of the value."""
        if self.measure not in MEASURE_TEXT:
            raise UndeclaredMeasure(f"measure {self.measure!r} is declared nowhere")
        return MEASURE_TEXT[self.measure][0]

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval and it lies on one side of 0."""
        return self.lower > 0 or self.upper < 0

    def text(self) -> tuple[str, ...]:
        """The row as it stands in the table."""
        numbers = {name: _number(getattr(self, name)) for name in ("value", "lower", "upper")}
        count = MISSING if self.n is None else str(self.n)
        return (
            self.series, self.against, f"{self.fwhm_mm:g}", self.contrast, self.region, self.measure, numbers["value"],
            numbers["lower"], numbers["upper"], count, self.unit,
        )  # fmt: skip


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else MISSING


def table_text(rows: Iterable[EvalRow]) -> str:
    """Rows as TSV text with a header line."""
    return "".join("\t".join(line) + "\n" for line in [COLUMNS, *(row.text() for row in rows)])


def read_table(path: str | os.PathLike[str]) -> list[EvalRow]:
    """Rows of a table that `table_text` made.

    Raises
    ------
    ValueError : other columns
    """
    header, *lines = Path(path).read_text(encoding="utf-8").splitlines()
    if tuple(header.split("\t")) != COLUMNS:
        raise ValueError(f"{path}: columns {header!r}, expected {' '.join(COLUMNS)}")
    rows = []
    for line in lines:
        cells = dict(zip(COLUMNS, line.split("\t"), strict=True))
        value, lower, upper = (
            math.nan if cells[k] == MISSING else float(cells[k]) for k in ("value", "lower", "upper")
        )
        rows.append(
            EvalRow(
                series=cells["series"], against=cells["against"], fwhm_mm=float(cells["fwhm_mm"]),
                contrast=cells["contrast"], region=cells["region"], measure=cells["measure"], value=value, lower=lower,
                upper=upper, n=None if cells["n"] == MISSING else int(cells["n"]),
            )
        )  # fmt: skip
    return rows


def columns_json(measures: Iterable[str]) -> dict[str, dict[str, object]]:
    """What the columns mean, with a level for every measure that occurs; the JSON beside the table."""
    out: dict[str, dict[str, object]] = {name: dict(text) for name, text in COLUMN_TEXT.items()}
    out["measure"]["Levels"] = {
        name: f"{MEASURE_TEXT[name][1]} ({MEASURE_TEXT[name][0]})" for name in sorted(set(measures))
    }
    return out
