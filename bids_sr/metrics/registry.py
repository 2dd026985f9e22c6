"""Registry of statistics in the metrics tables: unit, description and direction of merit.

To add one: `register` it here, and let the function that computes it give its values as rows
(`bids_sr.metrics.long_tables.MetricRow`). Sidecars, group statistics and tables of the report
follow.
"""

from typing import Literal

from bids_sr.frozen import frozen
from bids_sr.metrics.flags import FLAGS

_Better = Literal["higher", "lower", "near 1", "neither"]
HIGHER, LOWER, ONE, NEITHER = _Better.__args__  # type: ignore[attr-defined]


@frozen
class _Statistic:
    """What the value of a row is."""

    unit: str  # 1 for a pure number, signal for the unit of the series
    description: str  # for the sidecar
    # direction of merit; NEITHER: a difference is no merit by itself (a smaller region can be a
    # smaller piece of the truth); None: the group does not compare it (places, counts, thresholds)
    better: _Better | None = None
    label: str = ""  # in a few words, for tables of the report, which show those that have one


STATISTICS: dict[str, _Statistic] = {}


def register(
    name: str, unit: str, description: str, better: _Better | None = None, *, label: str = ""
) -> None:
    """Add a statistic; ValueError where the name is taken.

    Parameters
    ----------
    name : str
        Name of the statistic in tables.
    unit : str
        Unit of its values; ``1`` for pure numbers, ``signal`` for the series' unit.
    description : str
        What it is, for the sidecars of tables.
    better : _Better | None, optional
        Direction of merit; None where groups do not compare it.
    label : str, optional
        Few words for tables of the report; empty: it is not shown there.

    Raises
    ------
    ValueError
        A statistic has that name already.
    """
    if name in STATISTICS:
        raise ValueError(f"statistic {name!r} is declared twice")
    STATISTICS[name] = _Statistic(unit=unit, description=description, better=better, label=label)


def statistic(name: str) -> _Statistic:
    """The statistic of a name; KeyError where there is none.

    Parameters
    ----------
    name : str
        Name of the statistic in tables.

    Returns
    -------
    _Statistic
        Unit, description, direction of merit and label.

    Raises
    ------
    UndeclaredMetric
        No statistic has that name.

    Examples
    --------
    >>> statistic("volume").unit
    'mm^3'
    """
    if name not in STATISTICS:
        raise KeyError(f"statistic {name!r} is declared nowhere")
    return STATISTICS[name]


# Effects held against a reference
register(
    "r", "1", "correlation of the effect with that of the reference", HIGHER, label="correlation r"
)
register(
    "ev",
    "1",
    "explained variance 1 - |e - t|²/|t|² of the true effect t by the series' effect e, corrected"
    " for noise of a measured reference by the covariance of its halves",
    HIGHER,
    label="explained variance",
)
register(
    "amplitude",
    "1",
    "recovered amplitude (slope of the series' effect over the true one; 1 is all of it)",
    ONE,
    label="recovered amplitude",
)
register(
    "correct_fraction",
    "1",
    "share of the energy of the series' effect that agrees with the truth; 0 to 1, negative "
    "where r is negative",
    HIGHER,
    label="correct fraction",
)
register(
    "r_t",
    "1",
    "correlation of the t map with that of the reference",
    HIGHER,
    label="r of the t map",
)
register(
    "average_precision",
    "1",
    "average precision of t for the truly active voxels",
    HIGHER,
    label="average precision",
)
register(
    "auc",
    "1",
    "area under the receiver operating characteristic of t for the truly active voxels",
    HIGHER,
)
register(
    "active_dice",
    "1",
    "Dice of the truly active voxels and as many voxels of highest t",
    HIGHER,
    label="Dice at matched size",
)
register("active_distance", "mm", "distance of the centers of these two regions", LOWER)
register(
    "connected_accuracy",
    "1",
    "share of voxels that seed correlation of .5 or more sorts as the truth does (Acc of "
    "the paper)",
    HIGHER,
)
register(
    "connected_fdr",
    "1",
    "share of the voxels with a seed correlation of .5 or more that are not connected in truth "
    "(FDR of the paper)",
    LOWER,
)
register(
    "connected_jaccard",
    "1",
    "overlap |A∩B|/|A∪B| of the voxels with a seed correlation of .5 or more and those "
    "connected in truth",
    HIGHER,
)
register(
    "foci_contrast",
    "1",
    "contrast of the foci: effect of each condition less the other's at its focus, over the "
    "truth's",
    ONE,
)
register(
    "tested_share",
    "1",
    "share of zero filling's squared error that the series explains one level of resolution down,"
    " where the acquired volumes are the truth: map of one half of the run, components of the"
    " other, mean over components and both ways; 1 is all, 0 is zero filling, below 0 is harm;"
    " interval over stretches of volumes",
    HIGHER,
)
register("control_fwhm", "mm", "smoothing that the control was given, the best of those tried")
register(
    "control_rank", "1", "temporal components that the control kept, chosen on the other half"
)

# Activation maps
register("peak_cc", "1", "highest CC in the region of interest", NEITHER)
register("peak_t", "1", "highest t in the region of interest", NEITHER)
register("peak_z", "1", "highest z in the region of interest")
for _axis in "xyz":
    register(f"peak_at_{_axis}", "mm", "where the highest t (CC, if there is no t) lies, RAS")
register(
    "peak_effect",
    "signal",
    "effect at the highest t in the region of interest; in the report in percent of the mean "
    "signal of the brain, too",
    NEITHER,
)
register("brain_peak_cc", "1", "highest CC in the brain")
register("brain_peak_t", "1", "highest t in the brain")
register(
    "peak_distance",
    "mm",
    "distance between the highest t (or CC) of two conditions in the region of interest",
    NEITHER,
)
register(
    "effect_separation",
    "signal",
    "how far each condition's effect exceeds the other's at its own peak, mean of both: "
    "contrast between the foci",
    NEITHER,
)
register("roi_voxels", "voxel", "voxels of the region of interest inside the mask")
register("mask_voxels", "voxel", "voxels of the mask")
register("dof", "1", "degrees of freedom of the linear model")
register("design_rank", "1", "rank of the linear model's design")
register(
    "design_columns",
    "1",
    "columns of the linear model's design; more than its rank where some repeat each other",
)

# Thresholded regions
register("threshold_value", "1", "threshold that was applied: CC for quarter, z for the others")
register("voxels", "voxel", "voxels of the region, on the grid of the series")
register("volume", "mm^3", "volume of the region", NEITHER)
register(
    "size_acquired_voxels",
    "acquired voxel",
    "voxels of the region divided by the super-resolution factor, as in Ota et al. 2022",
    NEITHER,
    label="size of the region (acquired voxels)",
)
register("roi_volume", "mm^3", "volume of the region's part inside the region of interest")
for _axis in "xyz":
    register(
        f"centroid_{_axis}", "mm", "center of the region's part inside the region of interest, RAS"
    )
register(
    "dice",
    "1",
    "overlap of the regions of two conditions, 2|A∩B|/(|A|+|B|); n/a where either is empty",
    NEITHER,
    label="overlap of the two conditions (Dice)",
)
register(
    "centroid_distance",
    "mm",
    "distance between the centers of the regions of two conditions",
    NEITHER,
)

# Quality of a series and likeness of images
register(
    "tsnr_median",
    "1",
    "temporal signal-to-noise ratio: mean divided by standard deviation over time, quadratic trend"
    " removed; median over the mask",
    NEITHER,
)
register("mean_signal", "signal", "mean of the series in the mask")
register(
    "noise_median",
    "signal",
    "standard deviation over time, quadratic trend removed; median over the mask",
)
for _axis in "xyz":
    register(
        f"fwhm_{_axis}",
        "mm",
        f"smoothness of the noise along voxel axis {_axis}, from temporal differences",
    )
register("fwhm_mean", "mm", "geometric mean of the smoothness along the three axes", NEITHER)
register("volumes", "volume", "volumes analyzed, without those before the steady state")
register(
    "psnr",
    "dB",
    "peak signal-to-noise ratio against the reference; the peak is its range in the mask, of"
    " single volumes the 99th percentile of the mean measured volume",
    HIGHER,
    label="PSNR",
)
register(
    "ssim",
    "1",
    "structural similarity with the reference, mean over the mask (of single volumes over these);"
    " 1 is equal",
    HIGHER,
    label="SSIM",
)
register(
    "rmse", "signal", "root of the mean squared difference from the reference in the mask", LOWER
)
register(
    "mae", "signal", "mean absolute difference from the reference in the mask", LOWER, label="MAE"
)
register(
    "nmse",
    "1",
    "squared difference from the reference over the squared reference, in the mask",
    LOWER,
    label="NMSE",
)

# Structural scans
register("efc", "1", "entropy focus criterion in the brain", label="EFC")
register("fwhm", "mm", "smoothness of the image, mean over axes", label="FWHM")
register("cjv", "1", "coefficient of joint variation of gray and white matter", label="CJV")
register("wm2max", "1", "median of white matter over the brightest of the image", label="WM2max")
register(
    "ratio_mean",
    "1",
    "mean of one tissue over that of another, as in region",
    label="ratio of means",
)
register("ratio_sd", "1", "standard deviation of one tissue over that of another")
register("ratio_p05", "1", "5th percentile of one tissue over that of another")
register("ratio_p95", "1", "95th percentile of one tissue over that of another")
register(
    "tissue_volume",
    "ml",
    "volume of the tissue, or of white-matter hyperintensities (wmh)",
    label="volume",
)
register("tissue_dice", "1", "overlap of the tissue with that of the measured scan", label="Dice")
register("tpf", "1", "true positive fraction of the tissue", label="sensitivity")
register("tnf", "1", "true negative fraction of the tissue")
register("ppv", "1", "positive predictive value of the tissue", label="precision")

# Quality control: uncertainty, precision, distortion, domain, flags
register(
    "ensemble_sd",
    "signal",
    "median over the region of the standard deviation of the effect between ensemble members",
    label="disagreement of the ensemble",
)
register(
    "precision_change",
    "1",
    "change of t by lower precision, root mean square over the noise of t",
    label="effect of lower precision on t",
)
register(
    "edge_mismatch",
    "mm",
    "distance between edges of the BOLD reference and of the T2*-weighted image, median",
    label="distance of BOLD and T2* edges, median",
)
register(
    "edge_mismatch_p90",
    "mm",
    "90th percentile of that distance",
    label="distance of BOLD and T2* edges, 90th percentile",
)
register(
    "domain_distance",
    "1",
    "largest difference between intensity quantiles of the BOLD and of the training data, "
    "relative to the 99th percentile",
    label="intensity mismatch with training data",
)
register(
    "domain_edges",
    "1",
    "edge content of the BOLD relative to that of the training image",
    label="edge content relative to training data",
)
for _name, _flag in FLAGS.items():
    register(f"flag_{_name}", "1", f"1 where {_flag.rule}, else 0")

# The verdict
register("verdict", "1", "1 better than the series in minus, 0 the same, -1 worse; n/a: undecided")
for _name, _text in (
    (
        "function",
        "shows more true BOLD detail than every baseline, denoised B-spline and plain arithmetic",
    ),
    ("image", "gives better images than bspline and inject"),
    (
        "specific",
        "gains part of that from this participant's own data, as method - control excludes 0",
    ),
):
    register(
        f"verdict_{_name}",
        "1",
        f"1 where the evidence allows to say that the method {_text}, else 0",
    )
register(
    "verdict_applied",
    "1",
    "1 where the method was applied, 0 where it fell back to zero filling and was not compared",
)
register("verdict_margin", "1", "half width of the interval around 0 that counts as the same")
register(
    "compared_fwhm",
    "mm",
    "smoothing of the acquired series for its control at the resolution of this one",
)
register(
    "compared",
    "1",
    "1 where a series of another program is more accurate than the series in minus in the band, 0 "
    "where it is not, -1 where it is less accurate; n/a: undecided",
)
