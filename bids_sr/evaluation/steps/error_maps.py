"""Maps of the reconstruction error of an effect, for a run or for combined runs."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bids_sr.engine.artifacts import Derivative
from bids_sr.glm.activation_regions import (
    SIGN_RELIABLE,
    fdr_region,
    sign_reliable_region,
)
from bids_sr.glm.map_sidecars import PERCENT
from bids_sr.io.arrays import Array, MaskArray
from bids_sr.io.frozen import frozen
from bids_sr.io.json_values import as_number

# description and unit, by statistic
_STAT_TEXT = {
    "sd": (
        "Standard deviation (SD) of the reconstruction error, without thermal and physiological"
        " noise: this error is identical in all blocks and not part of the residuals of the"
        " linear model",
        PERCENT,
    ),
    "sdTotal": (
        "Total standard deviation of the effect, the square root of the sum of the variance of"
        " the effect and the squared standard deviation of the reconstruction error. A 95 %"
        " interval extends 1.96 of these to both sides of the effect",
        PERCENT,
    ),
    "wrongsign": (
        "Posterior probability that the effect has the wrong sign, computed from the"
        " variance of the effect and the standard deviation of the reconstruction error (not"
        " a p value)",
        "1",
    ),
    "tTotal": (
        "Effect divided by its total standard deviation, the square root of the sum of the"
        " variance of the effect and the squared standard deviation of the reconstruction"
        " error",
        "1",
    ),
    "zTotal": ("z value, scaled by the ratio of tTotal to t", "1"),
}
FITTED = ("effect", "variance", "t", "z")
"""Statistics of the linear model, from which error maps are computed."""
# descriptions of sign reliable voxels after narrow and after wide smoothing
_SIGN_RELIABLE_TEXT = (
    "Significant voxels (FDR .05 of z) with the lowest probability of the wrong sign, selected so"
    " that at most 5 % of the increases and at most 5 % of the decreases are expected to have the"
    " wrong sign. The sign is in the effect map. The mask is not a threshold of t"
)
_WIDE_SIGN_RELIABLE_TEXT = (
    "Significant voxels, at a false discovery rate of .05 of zTotal, which includes the"
    " reconstruction error (.025 for increases and .025 for decreases). This rate is not a rate of"
    " wrong signs. The sign is in the effect map"
)


@frozen
class ErrorImages:
    """Maps that follow from an effect, its variance and its reconstruction error.

    All arrays are (X, Y, Z).

    `images` are maps by statistic. `active` are active voxels, without regard to the
    reconstruction error. `sign_reliable` are voxels with a reliable sign. `is_safe` states
    whether the error is included in t and z; see `bids_sr.io.safe_width`. `wrong_sign` is the
    probability of the wrong sign.
    """

    images: Mapping[str, Array]
    active: MaskArray
    sign_reliable: MaskArray
    is_safe: bool
    wrong_sign: Array

    def list_regions(self, *, with_masks: bool) -> dict[str, MaskArray]:
        """Return active and, if requested, sign reliable voxels, by threshold in tables."""
        regions = {"fdr": self.active}
        return regions | {"signReliable": self.sign_reliable} if with_masks else regions

    def compute_expected_wrong(self, region: MaskArray) -> float | None:
        """Return the expected share of voxels with the wrong sign; None if the region is empty."""
        return float(self.wrong_sign[region].mean()) if region.any() else None


def error_images(
    *,
    effect: Array,
    variance: Array,
    t: Array,
    z: Array,
    error: Array,
    brain: MaskArray,
    is_safe: bool,
) -> ErrorImages:
    """Compute the maps of the reconstruction error of an effect, and its masks of voxels.

    `effect`, `variance`, `t` and `z` are maps of the linear model, and `error` is the variance of
    the reconstruction error, 0 outside the brain (all 3D). `is_safe` states whether the error is
    included in t and z; see `bids_sr.io.safe_width`.
    """
    from bids_sr.sr.prior_maps.posterior import wrong_sign_probability

    active = fdr_region(z, brain)[0]
    total_variance = variance + error
    wrong_sign = np.where(brain, wrong_sign_probability(effect, total_variance), 0)
    total_sd = np.where(brain, np.sqrt(total_variance), 0)
    images = {"sd": np.sqrt(error), "sdTotal": total_sd, "wrongsign": wrong_sign}
    if is_safe:
        sd_ratio = np.sqrt(variance / np.where(total_variance > 0, total_variance, 1))
        images |= {"tTotal": t * sd_ratio, "zTotal": z * sd_ratio}
        sign_reliable = fdr_region(images["zTotal"], brain)[0]
    else:
        sign_reliable = sign_reliable_region(t, wrong_sign, active)
    return ErrorImages(
        images=images,
        active=active,
        sign_reliable=sign_reliable,
        is_safe=is_safe,
        wrong_sign=wrong_sign,
    )


def iterate_contrasts(
    maps: Sequence[Derivative], width: float
) -> Iterator[tuple[str, dict[str, Derivative]]]:
    """Yield each contrast with its maps of the linear model, by statistic.

    `width` is the smoothing of the maps to select (FWHM, mm). Contrasts without all maps of
    `FITTED` are skipped.
    """
    maps_by_contrast: dict[str, dict[str, Derivative]] = {}
    for statmap in maps:
        entities = statmap.entities
        if entities["suffix"] != "statmap":
            continue
        if as_number(statmap.sidecar["SmoothingFWHM"]) == width:
            maps_by_contrast.setdefault(entities["contrast"], {})[entities["stat"]] = statmap
    for contrast, maps_by_stat in maps_by_contrast.items():
        if maps_by_stat.keys() >= set(FITTED):
            yield contrast, maps_by_stat


def describe_error_maps(
    images: Mapping[str, Array], effect: Derivative
) -> Iterator[tuple[Array, Derivative]]:
    """Yield error maps with the metadata of an effect, except description, unit and statistic.

    The keys of `images` are statistics.
    """
    for stat, values in images.items():
        description, units = _STAT_TEXT[stat]
        sidecar = {**effect.sidecar, "Description": description, "Units": units}
        derivative = Derivative(None, {**effect.entities, "stat": stat}, sidecar)
        yield values.astype(np.float32), derivative


def describe_mask(error: ErrorImages, effect: Derivative) -> tuple[Array, Derivative]:
    """Return the mask of sign reliable voxels with the metadata of an effect."""
    entities = {
        **{
            key: label for key, label in effect.entities.items() if key not in ("contrast", "stat")
        },
        "label": effect.entities["contrast"],
        "desc": effect.entities["desc"] + SIGN_RELIABLE,
        "suffix": "mask",
    }
    shared_keys = ("SkullStripped", "SourceSeries", "SmoothingFWHM", "Resolution")
    metadata = {
        **{key: effect.sidecar[key] for key in shared_keys if key in effect.sidecar},
        "Type": "ROI",
        "Description": _WIDE_SIGN_RELIABLE_TEXT if error.is_safe else _SIGN_RELIABLE_TEXT,
        "ThresholdLabel": SIGN_RELIABLE,
    }
    return error.sign_reliable.astype(np.uint8), Derivative(None, entities, metadata)
