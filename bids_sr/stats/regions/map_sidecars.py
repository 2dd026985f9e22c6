"""Names and sidecars of statistical maps and regions; numbers only, no image is touched."""

from collections.abc import Mapping, Sequence

from bids_sr.io.grids import AS_STORED, inverse, size_text
from bids_sr.stats.glm.design import Design
from bids_sr.stats.glm.noise import noise_words
from bids_sr.stats.regions.activation_regions import Threshold

Sidecar = dict[str, object]
NO_ERROR = (
    "carry no error of reconstruction: in runs of three people 11 to 15 % of B-spline's most"
    " active voxels had the wrong sign"
)
_STAT_TEXT = {
    "cc": (
        "Correlation of the voxel's time series with the task, both detrended and filtered",
        "1",
    ),
    "effect": ("Signal change of a sustained block, in the unit of the BOLD series", "arbitrary"),
    "variance": (
        "Variance of the effect by noise of the scan alone, in the square of its unit",
        "arbitrary",
    ),
    "t": ("t statistic of the contrast by noise of the scan alone, two-sided sign", "1"),
    "z": (
        (
            "Normal deviate of t's tail, with degrees of freedom as the noise's coefficient is an"
            " estimate"
        ),
        "1",
    ),
}
_REGION_TEXT = {
    "Quarter": "Voxels of the region of interest with CC at or above max - (max - min)/4",
    "Fdr": (
        "Voxels of the brain that are active at a false discovery rate of .05 (one-sided,"
        " Benjamini-Hochberg)"
    ),
}


def entities(*, series: str, **own: str) -> dict[str, str]:
    """Return entities of one map; ``res-hr`` for everything but the acquired grid."""
    return {**({} if series == "raw" else {"res": "hr"}), **own}


def common_sidecar(
    *, series: str, fwhm_mm: float, zooms: Sequence[float], axis_order: Sequence[int] = AS_STORED
) -> Sidecar:
    """What every map of a series says; `zooms` as worked on, `axis_order` as of `io.grids`."""
    common: Sidecar = {"SkullStripped": True, "SourceSeries": series, "SmoothingFWHM": fwhm_mm}
    if series != "raw":
        # in the order of axes of the file
        sizes = size_text([zooms[k] for k in inverse(axis_order)], " x ")
        common["Resolution"] = f"Super-resolved grid of the BOLD run, {sizes}"
    if series == "sbl":
        common["ErrorOfReconstruction"] = "in stat-sd where the method was applied"
    elif series not in ("raw", "measured"):
        common["ErrorOfReconstruction"] = f"maps of {series} {NO_ERROR}"
    return common


def map_sidecar(stat: str, weights: Mapping[str, float], model: Sidecar) -> Sidecar:
    """What a statistical map says of itself; `model` as `model_text` gives it."""
    text, units = _STAT_TEXT[stat]
    return {"Description": text, "Units": units, "ContrastWeights": dict(weights), "Model": model}


def model_text(
    stat: str, design: Design, *, noise_order: int | None = None, low_pass: float | None = None
) -> Sidecar:
    """The model behind a map.

    `noise_order`: number of lags of the noise model; 0 or None for white noise. `low_pass`:
    cut-off of the low-pass filter (Hz); None for none.
    """
    shared: Sidecar = {"HRF": "spm", "DummyVolumes": design.n_dummy}
    if stat == "cc":
        return {
            **shared,
            "Type": "correlation",
            "Detrending": "linear",
            "LowPassHz": low_pass or "n/a",
        }
    nuisance = [
        c
        for c in design.columns
        if c not in design.conditions and not c.startswith(("drift", "constant"))
    ]
    return {
        **shared,
        "Type": "glm",
        "NoiseModel": noise_words(noise_order or 0),
        "DegreesOfFreedom": design.dof,
        "DesignRank": design.rank,
        "HighPassHz": design.high_pass,
        "Conditions": list(design.conditions),
        "Confounds": nuisance,
    }


def region_sidecar(threshold: Threshold) -> Sidecar:
    """Return the sidecar of a region.

    Where the applied threshold differs between maps, it is given in a table.
    """
    fixed = f"Voxels of the brain with z at or above {threshold.z}"
    return {
        "Type": "ROI",
        "Description": _REGION_TEXT.get(threshold.label, fixed),
        "ThresholdedMap": threshold.stat,
        "ThresholdLabel": threshold.label,
        "Threshold": (
            f"threshold_value ({threshold.label.lower()}) of the contrast in"
            " desc-activation_metrics.tsv"
            if threshold.z is None
            else threshold.z
        ),
    }
