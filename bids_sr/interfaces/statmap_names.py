"""Names and sidecars of statistical maps and regions; numbers only, no image is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bids_sr.io.grids import AS_STORED, inverse, size_text
from bids_sr.io.grids import finer_text as finer_text
from bids_sr.stats.glm.noise import FULL_ORDER_DOF as FULL_ORDER_DOF
from bids_sr.stats.glm.noise import noise_words as noise_words

SLOW = (0.01, 0.1)  # Hz, band of the amplitude of fluctuations
STAT_TEXT = {
    "cc": ("Correlation of the voxel's time series with the task, both detrended and filtered", "1"),
    "effect": ("Signal change of a sustained block, in the unit of the BOLD series", "arbitrary"),
    "t": ("t statistic of the contrast, two-sided sign", "1"),
    "z": ("Normal deviate of t's tail, with degrees of freedom as the noise's coefficient is an estimate", "1"),
}
AMPLITUDE_TEXT = {
    "alff": ("Standard deviation of the voxel's slow fluctuations, without drift and confounds", "arbitrary"),
    "falff": ("Standard deviation of the voxel's slow fluctuations over that at all frequencies", "1"),
}
REGION_TEXT = {
    "Quarter": "Voxels of the region of interest with CC at or above max - (max - min)/4",
    "Fdr": "Voxels of the brain that are active at a false discovery rate of .05 (one-sided, Benjamini-Hochberg)",
}


def entities(*, series: str, **own: str) -> dict[str, str]:
    """Entities of one map; ``res-hr`` for everything but the acquired grid."""
    return {**({} if series == "raw" else {"res": "hr"}), **own}


def filename(of: Mapping[str, str]) -> str:
    """Name in the work directory: the entities in a fixed order."""
    order = ("res", "contrast", "stat", "label", "desc")
    return "_".join([f"{key}-{of[key]}" for key in order if key in of] + [of["suffix"]]) + ".nii.gz"


def common_sidecar(
    *, series: str, fwhm_mm: float, zooms: Sequence[float], axis_order: Sequence[int] = AS_STORED
) -> dict[str, Any]:
    """What every map of a series says; `zooms` as worked on, `axis_order` as of `io.grids`."""
    common: dict[str, Any] = {"SkullStripped": True, "SourceSeries": series, "SmoothingFWHM": fwhm_mm}
    if series != "raw":
        sizes = size_text([zooms[k] for k in inverse(axis_order)], " x ")  # in the order of axes of the file
        common["Resolution"] = f"Super-resolved grid of the BOLD run, {sizes}"
    return common


def map_sidecar(stat: str, weights: Mapping[str, float], model: Mapping[str, Any]) -> dict[str, Any]:
    """What a statistical map says of itself; `model` as `model_text` gives it."""
    text, units = STAT_TEXT[stat]
    return {"Description": text, "Units": units, "ContrastWeights": dict(weights), "Model": dict(model)}


def model_text(stat: str, found: Any, settings: Any) -> dict[str, Any]:
    """The model behind a map, from `Activation` of `stats.glm.statmaps` and the `ActivationSettings` of it."""
    design = found.design
    shared = {"HRF": design.hrf, "DummyVolumes": design.n_dummy}
    if stat == "cc":
        return {**shared, "Type": "correlation", "Detrending": "linear", "LowPassHz": settings.low_pass or "n/a"}
    nuisance = [c for c in design.columns if c not in design.conditions and not c.startswith(("drift", "constant"))]
    return {
        **shared,
        "Type": "glm",
        "NoiseModel": noise_words(found.noise_order or 0),
        "DegreesOfFreedom": design.dof,
        "DesignRank": design.rank,
        "HighPassHz": design.high_pass,
        "Conditions": list(design.conditions),
        "Confounds": nuisance,
    }


def amplitude_sidecar(stat: str, found: Any, band: Sequence[float]) -> dict[str, Any]:
    """What a map of the amplitude of fluctuations says of itself; `found` as for `model_text`, band in Hz."""
    text, units = AMPLITUDE_TEXT[stat]
    out: dict[str, Any] = {"Description": text, "Units": units, "FrequencyBandHz": list(band)}
    model = model_text("alff", found, None)
    return {**out, "Model": {key: model[key] for key in ("DummyVolumes", "HighPassHz", "Confounds")}}


def region_sidecar(threshold: Any, applied: float | None) -> dict[str, Any]:
    """What a region says; `threshold` is a `stats.regions.Threshold`, `applied` None where the region is empty."""
    fixed = f"Voxels of the brain with z at or above {threshold.z}"
    return {
        "Type": "ROI",
        "Description": REGION_TEXT.get(threshold.label, fixed),
        "ThresholdedMap": threshold.stat,
        "Threshold": "n/a" if applied is None else round(applied, 6),
    }
