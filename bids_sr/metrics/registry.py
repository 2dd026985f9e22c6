"""Registry of metrics: unit, description and direction of merit of all that tables, tests and report name.

To add a metric: `register` it here, and let the function that measures it give it as a row
(`bids_sr.metrics.long_tables.MetricRow`). Sidecars, group statistics and tables of the report follow.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Better = Literal["higher", "lower", "near 1", "neither"]
HIGHER, LOWER, ONE, NEITHER = Better.__args__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric."""

    name: str  # as in the column `measure`
    unit: str  # 1 for a pure number, signal for the unit of the BOLD series
    description: str  # for the sidecar
    # direction of merit; NEITHER: a difference is no merit by itself (a smaller region can be a smaller piece of the
    # truth); None: the group does not compare it (places, counts, thresholds, differences)
    better: Better | None = None


class UndeclaredMetric(KeyError):
    """A name that no metric is registered under."""


METRICS: dict[str, Metric] = {}
REGION_METRICS: dict[str, Metric] = {}
"""Metrics of a thresholded region; their full names have the threshold as prefix (quarter_, fdr_, z31_)."""


def register(*metrics: Metric) -> None:
    """Add metrics; ValueError where a name is taken."""
    for metric in metrics:
        if metric.name in METRICS:
            raise ValueError(f"measure {metric.name!r} is declared twice")
        METRICS[metric.name] = metric


def metric(name: str) -> Metric:
    """The metric of a name; UndeclaredMetric where there is none.

    Examples
    --------
    >>> metric("z31_volume").unit
    'mm^3'
    """
    if name in METRICS:
        return METRICS[name]
    prefix, _, rest = name.partition("_")
    if rest in REGION_METRICS and (prefix in ("quarter", "fdr") or (prefix[:1] == "z" and prefix[1:].isdigit())):
        return replace(REGION_METRICS[rest], name=name)
    raise UndeclaredMetric(f"measure {name!r} is declared nowhere")


def metric_of(name: str) -> Metric:
    """The metric of a name; one without unit, words and direction of merit where it is not registered."""
    try:
        return metric(name)
    except UndeclaredMetric:
        return Metric(name, "", "")


def better(name: str) -> Better | None:
    """Direction of merit of a metric; None where it is not compared or not registered."""
    return metric_of(name).better


def _with_gains(metrics: Iterable[Metric]) -> None:
    """Register metrics, and their differences between two series."""
    for each in metrics:
        text = f"difference to the series named in against, of: {each.description}"
        register(each, Metric(f"gain_{each.name}", each.unit, text))


# Regions, by threshold
for _region in (
    Metric("threshold", "1", "threshold that was applied: CC for quarter, z for the others"),
    Metric("voxels", "voxel", "voxels of the region, on the grid of the series"),
    Metric("volume", "mm^3", "volume of the region", NEITHER),
    Metric("paper", "acquired voxel",
           "voxels of the region divided by the super-resolution factor, as in Ota et al. 2022", NEITHER),
    Metric("roi_volume", "mm^3", "volume of the region's part inside the region of interest"),
    *(
        Metric(f"centroid_{axis}", "mm", "center of the region's part inside the region of interest, RAS")
        for axis in "xyz"
    ),
    Metric("dice", "1", "overlap of the regions of two conditions, 2|A∩B|/(|A|+|B|); n/a where either is empty",
           NEITHER),
    Metric("centroid_distance", "mm", "distance between the centers of the regions of two conditions", NEITHER),
):  # fmt: skip
    REGION_METRICS[_region.name] = _region

# Activation maps
register(
    *(
        Metric(f"peak_{stat}", "1", f"highest {text} in the region of interest", direction)
        for stat, text, direction in (("cc", "CC", NEITHER), ("t", "t", NEITHER), ("z", "z", None))
    ),
    *(Metric(f"peak_at_{axis}", "mm", "where the highest t (CC, if there is no t) lies, RAS") for axis in "xyz"),
    Metric("peak_effect", "signal", "effect at the highest t in the region of interest; in the report in percent of "
           "the mean signal of the brain, too", NEITHER),
    Metric("brain_peak_cc", "1", "highest CC in the brain"),
    Metric("brain_peak_t", "1", "highest t in the brain"),
    Metric("peak_distance", "mm", "distance between the highest t (or CC) of two conditions in the region of interest",
           NEITHER),
    Metric("effect_separation", "signal",
           "how far each condition's effect exceeds the other's at its own peak, mean of both: contrast between the "
           "foci", NEITHER),
    Metric("roi_voxels", "voxel", "voxels of the region of interest inside the mask"),
    Metric("mask_voxels", "voxel", "voxels of the mask"),
    Metric("dof", "1", "degrees of freedom of the linear model"),
    Metric("design_rank", "1", "rank of the linear model's design"),
    Metric("design_columns", "1",
           "columns of the linear model's design; more than its rank where some repeat each other"),
    *(
        Metric(f"r_{stat}_with_{other}", "1", f"correlation over the brain of the {stat} map with that of {other}")
        for stat in ("cc", "effect", "t", "z")
        for other in ("raw", "bspline")
    ),
)  # fmt: skip

# Quality of a series and likeness of images; structural scans have a unit of their own
register(
    Metric("tsnr_median", "1",
           "temporal signal-to-noise ratio: mean divided by standard deviation over time, quadratic trend removed; "
           "median over the mask", NEITHER),
    Metric("mean_signal", "signal", "mean of the series in the mask"),
    Metric("noise_median", "signal", "standard deviation over time, quadratic trend removed; median over the mask"),
    *(
        Metric(f"fwhm_{axis}", "mm", f"smoothness of the noise along voxel axis {axis}, from temporal differences")
        for axis in "xyz"
    ),
    Metric("fwhm_mean", "mm", "geometric mean of the smoothness along the three axes", NEITHER),
    Metric("psnr", "dB", "peak signal-to-noise ratio against the reference, its range in the mask as the peak", HIGHER),
    Metric("ssim", "1", "structural similarity with the reference, mean over the mask; 1 is equal", HIGHER),
    Metric("rmse", "signal", "root of the mean squared difference from the reference in the mask", LOWER),
    Metric("mae", "signal", "mean absolute difference from the reference in the mask", LOWER),
    Metric("nmse", "1", "squared difference from the reference over the squared reference, in the mask", LOWER),
    Metric("volumes", "volume", "volumes analyzed, without those before the steady state"),
    Metric("efc", "1", "entropy focus criterion in the brain"),
    Metric("fwhm", "mm", "smoothness of the image, mean over axes"),
    Metric("cjv", "1", "coefficient of joint variation of gray and white matter"),
    Metric("wm2max", "1", "median of white matter over the brightest of the image"),
    *(
        Metric(f"ratio_{one}_over_{other}_{statistic}", "1", f"{statistic} of {one} over that of {other}")
        for one, other in (("gm", "wm"), ("csf", "gm"), ("csf", "wm"))
        for statistic in ("mean", "sd", "p05", "p95")
    ),
    *(
        Metric(f"{name}_{tissue}", unit, f"{text} {tissue}")
        for tissue in ("gm", "wm", "csf", "wmh")
        for name, unit, text in (
            ("volume", "ml", "volume of"),
            ("dice", "1", "overlap with the measured scan's"),
            ("tpf", "1", "true positive fraction of"),
            ("tnf", "1", "true negative fraction of"),
            ("ppv", "1", "positive predictive value of"),
        )
    ),
)  # fmt: skip

# Agreement with the truth: of split halves (split_), of the halves of one series (self_), of the whole run (truth_)
_BEYOND = "only in-plane Fourier coefficients at or beyond the acquired Nyquist limit"
_WITHIN = "only in-plane Fourier coefficients within the acquired Nyquist limit"
_SIGNAL = "signal units"
_AMPLITUDES: tuple[tuple[str, str, Better], ...] = (
    ("ev", "explained variance 1 - |e - t|²/|t|² of the true effect t by the series' effect e", HIGHER),
    ("amplitude", "recovered amplitude (slope of the series' effect over the true one; 1 is all of it)", ONE),
    ("right", "correct fraction (share of the energy of the series' effect that agrees with the truth; 0 to 1, "
     "negative where r is negative)", HIGHER),
)  # fmt: skip
for _kind, _direction, _bands in (  # reproducibility compares nothing
    ("split", HIGHER, {
        "signal": "the effect of one half of the blocks with the measured effect of the other half, signal units",
        "percent": "the same in percent of one common mean image",
        "beyond": f"the same, {_BEYOND}",
        "within": f"the same, {_WITHIN}",
    }),
    ("self", None, {
        "signal": "the effects of the two halves of the blocks of one series: reliability, not truth",
        "beyond": "the same beyond the acquired Nyquist limit: a filter that makes its own detail passes this",
        "within": "the same within the acquired Nyquist limit",
    }),
):  # fmt: skip
    register(
        *(
            Metric(f"{gain}{_kind}_r_{band}", "1", f"{what} {text}", None if gain else _direction)
            for gain, what in (
                ("", "correlation of"), ("gain_", "difference to the series named in against, of the r of"),
            )[: 2 if _kind == "split" else 1]
            for band, text in _bands.items()
        )
    )  # fmt: skip
_with_gains(
    Metric(f"split_{name}_{band}", "1",
           f"{text}; one half of the blocks against the other half as measured at high resolution, corrected for "
           f"its noise by the covariance of the measured halves; {where}", direction)
    for name, text, direction in _AMPLITUDES
    for band, where in (("signal", _SIGNAL), ("beyond", _BEYOND), ("within", _WITHIN))
)  # fmt: skip


def _truth_amplitude(band: str) -> dict[str, Metric]:
    where = {"beyond": _BEYOND, "within": _WITHIN}.get(band, _SIGNAL)
    return {
        name: Metric(f"truth_{name}_{band}", "1", f"{text}; known activation, at rest connectivity; {where}", direction)
        for name, text, direction in _AMPLITUDES
    }  # fmt: skip


_beyond, _effect, _within = (_truth_amplitude(band) for band in ("beyond", "effect", "within"))
_with_gains([
    _beyond["ev"],
    Metric("truth_r_beyond", "1",
           "correlation of the effect map with that of the truth beyond the acquired Nyquist limit", HIGHER),
    _beyond["amplitude"],
    _beyond["right"],
    *_effect.values(),
    *_within.values(),
    Metric("truth_r_within", "1",
           "correlation of the effect map with that of the truth within the acquired Nyquist limit", HIGHER),
    Metric("truth_r_effect", "1", "correlation of the effect map with that of the truth", HIGHER),
    Metric("truth_r_t", "1", "correlation of the t map with that of the truth", HIGHER),
    Metric("truth_ap", "1", "average precision of t for the truly active voxels", HIGHER),
    Metric("truth_auc", "1", "area under the receiver operating characteristic of t for the truly active voxels",
           HIGHER),
    Metric("truth_dice", "1", "Dice of the truly active voxels and as many voxels of highest t", HIGHER),
    Metric("truth_centroid", "mm", "distance of the centers of these two regions", LOWER),
    Metric("truth_connected_acc", "1",
           "share of voxels that seed correlation of .5 or more sorts as the truth does (Acc of the paper)", HIGHER),
    Metric("truth_connected_fdr", "1",
           "share of the voxels with a seed correlation of .5 or more that are not connected in truth (FDR of the "
           "paper)", LOWER),
    Metric("truth_connected_jaccard", "1",
           "overlap |A∩B|/|A∪B| of the voxels with a seed correlation of .5 or more and those connected in truth",
           HIGHER),
    Metric("truth_foci", "1",
           "contrast of the foci: effect of each condition less the other's at its focus, over the truth's", ONE),
    Metric("truth_psnr", "dB",
           "peak signal-to-noise ratio of single volumes, measured ones as reference, mean over volumes; the peak is "
           "the 99th percentile of the mean measured volume", HIGHER),
    Metric("truth_ssim", "1", "structural similarity of single volumes to the measured ones, mean over volumes",
           HIGHER),
])  # fmt: skip

_with_gains([
    Metric("other_r_within", "1",
           "correlation of the effect map with that of another acquired run of the task, one half of its blocks at a "
           f"time; {_WITHIN}", HIGHER),
    Metric("other_ev_within", "1",
           "explained variance 1 - |e - t|²/|t|² of the effect t of another acquired run of the task by the series' "
           f"effect e, corrected for the other run's noise by the covariance of its halves; {_WITHIN}", HIGHER),
])  # fmt: skip

# Evidence without a reference: the run one level of resolution down, where what was acquired is the truth
register(
    Metric("tested_share", "1",
           "share of zero filling's squared error that the series explains one level of resolution down, where the "
           "acquired volumes are the truth: map of one half of the run, components of the other, mean over components "
           "and both ways; 1 is all, 0 is zero filling, below 0 is harm; interval over stretches of volumes", HIGHER),
)  # fmt: skip

# Denoising controls, images of a second pair
register(
    Metric("control_fwhm", "mm", "smoothing that the control was given, the best of those tried"),
    *(
        Metric(f"control_best_{name}", "1",
               f"the split_{name} that the control reaches at the best setting in hindsight")
        for name in ("r_signal", "r_percent", "r_beyond", "r_within", "ev_signal", "ev_beyond", "ev_within")
    ),
    Metric("control_rank", "1", "temporal components that the control kept, chosen on the other half"),
    Metric("pair_psnr", "dB", "peak signal-to-noise ratio on the pair that was not trained on", HIGHER),
    Metric("pair_ssim", "1", "structural similarity on the pair that was not trained on", HIGHER),
    Metric("pair_gain_psnr", "dB",
           "peak signal-to-noise ratio less that of the series named in against, held-out pair"),
)  # fmt: skip

# Quality control: uncertainty, precision, distortion, domain, flags
register(
    Metric("ensemble_sd", "signal",
           "median over the region of the standard deviation of the effect between ensemble members"),
    Metric("precision_change", "1", "change of t by lower precision, root mean square over the noise of t"),
    Metric("edge_mismatch", "mm", "distance between edges of the BOLD reference and of the T2*-weighted image, median"),
    Metric("edge_mismatch_p90", "mm", "90th percentile of that distance"),
    Metric("domain_distance", "1",
           "largest difference between intensity quantiles of the BOLD and of the training data, relative to the 99th "
           "percentile"),
    Metric("domain_edges", "1", "edge content of the BOLD relative to that of the training image"),
    *(
        Metric(f"flag_{name}", "1", f"1 where {text}, else 0")
        for name, text in (
            ("task_not_done", "CC exceeds .5 elsewhere and nowhere in the region of interest"),
            ("broad", "activation covers an unusually large part of the brain"),
            ("artifact", "the pair has an artifact"),
            ("roi_misplaced", "the region of interest misses the nearest activation"),
            ("distortion", "edges of boldref and T2*-weighted image lie apart"),
            ("domain", "intensities or edges of the BOLD are unlike those the model was trained on"),
            ("harm", "the detail that the method adds is worse than none: explained variance or tested share below 0"),
        )
    ),
)  # fmt: skip

# The verdict
register(
    Metric("verdict", "1", "1 better than the series in against, 0 the same, -1 worse; n/a: undecided"),
    *(
        Metric(f"verdict_{name}", "1", f"1 where the evidence allows to say that the method {text}, else 0")
        for name, text in (
            ("function", "shows more true BOLD detail than every baseline, denoised B-spline and plain arithmetic"),
            ("image", "gives better images than bspline and inject"),
            ("specific", "gains part of that from this participant's own data, as method - control excludes 0"),
        )
    ),
    Metric("verdict_applied", "1",
           "1 where the method was applied, 0 where it fell back to zero filling and was not compared"),
    Metric("compared_fwhm", "mm", "smoothing of the acquired series for its control at the resolution of this one"),
    *(
        Metric(f"compared_{band}", "1",
               "1 where a series of another program is more accurate than the acquired one "
               f"{band} the acquired Nyquist limit, 0 where it is not, -1 where it is less accurate; n/a: undecided")
        for band in ("within", "beyond")
    ),
    Metric("verdict_margin", "1", "half width of the interval around 0 that counts as the same"),
)  # fmt: skip
