"""Sidecars of statistical maps and regions."""

from collections.abc import Mapping, Sequence

from bids_sr.glm.activation_maps import ActivationSettings
from bids_sr.glm.activation_regions import Threshold
from bids_sr.glm.design import Design
from bids_sr.glm.noise import noise_words
from bids_sr.io.confound_names import ALTERNATING, CENSORED
from bids_sr.io.grids import AS_STORED, BOLDREF, inverse_order, size_text
from bids_sr.preproc.temporal_regressors import time_column_names

Sidecar = dict[str, object]
PERCENT, SQUARED_PERCENT = "percent", "percent^2"
"""Units of effects and their standard deviations, and of variances."""
MEAN_SIGNAL = "MeanSignal"
"""Key of the signal that equals 100 %: the mean of the boldref in the acquired brain mask."""
NO_ERROR = (
    "also have a reconstruction error, which was not estimated. In 4 runs of 3 participants, 10 to"
    " 16 % of the significant voxels in B-spline maps had the wrong sign."
)
"""Range of the column bspline in ``benchmarks/results/posterior_regions.md`` (without calibration,
all events, FDR region).
"""
_STAT_TEXT = {
    "cc": (
        "Correlation between the voxel's time series and the task regressor; both were "
        "detrended and filtered",
        "1",
    ),
    "effect": (
        "Signal change during a sustained block, in percent of the mean brain signal (MeanSignal,"
        " the same for all voxels: the mean of the boldref in the brain mask of the acquired"
        " series)",
        PERCENT,
    ),
    "variance": (
        "Variance of the effect due to residual noise of the model (reconstruction error is "
        "not included), in the squared units of the effect",
        SQUARED_PERCENT,
    ),
    "t": ("Two-sided t statistic of the contrast (reconstruction error is not included)", "1"),
    "z": (
        (
            "The t statistic converted to a z score with the same tail probability. The "
            "degrees of freedom account for the estimation of the noise autocorrelation."
        ),
        "1",
    ),
}
_REGION_TEXT = {
    "Quarter": (
        "Voxels of the region of interest whose correlation coefficient (CC) is at least max "
        "- (max - min)/4"
    ),
    "Fdr": (
        "Significant voxels in the brain, at a false discovery rate of .05 (Benjamini-Hochberg,"
        " .025 for increases and .025 for decreases). The sign is in the effect map"
    ),
}


def entities(*, series: str, **map_entities: str) -> dict[str, str]:
    """Return the entities of a map; ``res-hr`` is added unless the series is the acquired one."""
    resolution = {} if series == "acquired" else {"res": "hr"}
    return {"space": BOLDREF, **resolution, **map_entities}


def common_sidecar(
    *, series: str, fwhm_mm: float, zooms: Sequence[float], axis_order: Sequence[int] = AS_STORED
) -> Sidecar:
    """Return the metadata that all maps of a series share.

    `fwhm_mm` is the smoothing of the maps (FWHM), and `zooms` are voxel sizes (mm) in the axis
    order of the run. `axis_order` is the axis of the file for each axis of the run, see
    `bids_sr.io.grids`.
    """
    common: Sidecar = {"SkullStripped": True, "SourceSeries": series, "SmoothingFWHM": fwhm_mm}
    if series != "acquired":
        # The sidecar lists voxel sizes in the axis order of the file.
        sizes = size_text([zooms[k] for k in inverse_order(axis_order)], " x ")
        common["Resolution"] = f"Super-resolved grid of the BOLD run (voxel size: {sizes})"
    if series == "sbl":
        common["ErrorOfReconstruction"] = (
            "Statistics without Total in their names contain the noise of the run, but not the"
            " error of the added detail. If sbl was applied to this run, those with Total contain"
            " both"
        )
    elif series not in ("acquired", "measured"):
        common["ErrorOfReconstruction"] = f"Maps of {series} {NO_ERROR}"
    return common


def map_sidecar(
    stat: str, weights: Mapping[str, float], model: Sidecar, mean_signal: float
) -> Sidecar:
    """Return the sidecar of a statistical map.

    `model` is the result of `model_text`. `mean_signal` is the mean brain signal of the run,
    which equals 100 %.
    """
    text, units = _STAT_TEXT[stat]
    return {
        "Description": text,
        "Units": units,
        MEAN_SIGNAL: mean_signal,
        "ContrastWeights": dict(weights),
        "Model": model,
    }


def model_text(
    stat: str,
    design: Design,
    settings: ActivationSettings,
    *,
    noise_memory_s: float | None = None,
) -> Sidecar:
    """Return the sidecar's description of the model of a map.

    `noise_memory_s` is the longest lag of the noise model (s); 0 or None for white noise.
    """
    common: Sidecar = {"DummyVolumes": design.n_dummy}
    if design.hrf is not None:
        common = {"HRF": (design.hrf.main if stat == "cc" else design.hrf).hrf_model, **common}
    time_columns = time_column_names(design.columns)
    if time_columns:
        common["CensoredVolumes"] = list(design.censored)
    filter_columns = sorted({name.rstrip("0123456789") for name in time_columns} - {CENSORED})
    filters = f"columns {', '.join(f'{name}*' for name in filter_columns)} of the confounds table"
    nuisance = [name for name in design.nuisance_columns if name not in time_columns]
    if stat == "cc":
        return {
            **common,
            "Type": "correlation",
            "Detrending": "linear",
            "LowPassHz": settings.low_pass or "n/a",
            **({"FilteredBy": filters} if filter_columns else {}),
            **({"Confounds": nuisance} if settings.correlation_confounds else {}),
        }
    return {
        **common,
        "Type": "glm",
        "NoiseModel": noise_words(noise_memory_s or 0),
        "DegreesOfFreedom": design.dof,
        "DesignRank": design.rank,
        "HighPassHz": "n/a" if {*filter_columns} - {ALTERNATING} else design.settings.high_pass,
        **({"FilteredBy": filters} if filter_columns else {}),
        "Conditions": list(design.conditions),
        "Confounds": nuisance,
    }


def region_sidecar(threshold: Threshold) -> Sidecar:
    """Return the sidecar of a region.

    Thresholds that differ between maps are listed in a table instead.
    """
    fixed_text = (
        f"Voxels of the brain with a z score of at least {threshold.z} or at most -{threshold.z}"
    )
    return {
        "Type": "ROI",
        "Description": _REGION_TEXT.get(threshold.label, fixed_text),
        "ThresholdedMap": threshold.stat,
        "ThresholdLabel": threshold.label,
        "Threshold": (
            f"see threshold_value ({threshold.label.lower()}) of this contrast in "
            "desc-activation_metrics.tsv"
            if threshold.z is None
            else threshold.z
        ),
    }
