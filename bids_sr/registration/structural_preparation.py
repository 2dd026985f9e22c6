"""Preparation of structural scans for a network that fuses them: bias field, brain, one frame, one grid, [0, 1].

Everything is brought to the high-resolution scan of the first contrast. The paper aligns to a template; here scans are
aligned to each other, rigidly where nothing else is asked for, so that no head changes its size and each scan is
interpolated once. Source: attention_unet, section 3.1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bids_sr.io.array_types import Array
from bids_sr.registration.alignment import Align, Placement, register_to
from bids_sr.registration.ants import Image
from bids_sr.registration.brain import bias_field, brain_from_head
from bids_sr.sr.training.fused import unit_range

ORDERS = {"bspline": 3, "linear": 1, "nearest": 0}
"""Interpolations that bring a coarse scan to the fine grid, with their spline order."""
_REGISTERED_MM = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Scans:
    """One contrast at both resolutions, as acquired."""

    contrast: str
    highres: Image
    lowres: Image


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """All contrasts on one grid, in [0, 1], nothing outside the brain."""

    hr: Mapping[str, Array]
    lr: Mapping[str, Mapping[str, Array]]
    mask: Array
    affine: Array
    units: Mapping[str, float]
    facts: dict[str, Any]


def prepare(
    scans: Sequence[Scans], template: Image, template_mask: Array, *, interpolations: Sequence[str] = ("bspline",),
    align: Align = "rigid", seed: int, prefix: str, sloppy: bool,
) -> Prepared:  # fmt: skip
    """Prepare the scans of one head.

    Parameters
    ----------
    scans : the first is the frame
    template, template_mask : skull-stripped T1w template and its brain
    interpolations : names in `ORDERS`; "bspline", which networks are fed with, is among them
    align : what the transforms between scans may do
    prefix : start of the names of temporary files
    sloppy : coarser and quicker, for tests

    Raises
    ------
    ValueError : nothing in the brain of a scan is above zero
    """
    even = {
        (scan.contrast, kind): unbiased(getattr(scan, kind), seed=seed, sloppy=sloppy)
        for scan in scans
        for kind in ("highres", "lowres")
    }
    first = scans[0].contrast
    frame = even[first, "highres"]
    mask, *_ = brain_from_head(
        frame, template, template_mask, seed=seed, prefix=f"{prefix}brain_", sloppy=sloppy, fitted=first == "T1w"
    )
    mm = 2 * _REGISTERED_MM if sloppy else _REGISTERED_MM
    places: dict[tuple[str, str], Placement] = {(first, "highres"): Placement(xfm=np.eye(4))}
    facts: dict[str, Any] = {}
    for (contrast, kind), image in even.items():
        if image is not frame:
            key = f"{contrast}_{kind}"
            places[contrast, kind], facts[key] = register_to(
                frame, image, mask, align=align, seed=seed, prefix=f"{prefix}{key}_", mm=mm
            )
    return assemble(even, places, frame, mask, facts, interpolations)


def assemble(
    even: Mapping[tuple[str, str], Image], places: Mapping[tuple[str, str], Placement], frame: Image, mask: Array,
    facts: dict[str, Any], interpolations: Sequence[str],
) -> Prepared:  # fmt: skip
    """All scans on the grid of the frame, each interpolated once from its place, in [0, 1].

    Scans without bias and their places are by contrast and "highres" or "lowres"; `mask` is the brain in the frame.
    """
    hr: dict[str, Array] = {}
    lr: dict[str, dict[str, Array]] = {name: {} for name in interpolations}
    units: dict[str, float] = {}
    for (contrast, kind), image in even.items():
        place = places[contrast, kind]
        if kind == "highres":
            hr[contrast] = place.seen(image, frame, 3)
            continue
        seen = {name: place.seen(image, frame, order) for name, order in ORDERS.items() if name in lr}
        _, units[contrast] = unit_range(seen["bspline"], mask)
        for name, data in seen.items():
            lr[name][contrast] = _scaled(data, units[contrast], mask)
    for contrast, data in hr.items():
        hr[contrast] = _scaled(data, hr_unit(data, lr["bspline"][contrast], mask), mask)
    return Prepared(hr=hr, lr=lr, mask=mask, affine=frame.affine, units=units, facts=facts)


def _scaled(data: Array, unit: float, mask: Array) -> Array:
    return np.where(mask, np.clip(data / np.float32(unit), 0, 1), 0).astype(np.float32)


def hr_unit(hr: Array, lr: Array, mask: Array) -> float:
    """Intensity of the high-resolution scan that becomes 1, so that both scans have one mean in the brain.

    Each scan's own percentile would not do: averaging over larger voxels lowers it, and plain interpolation would then
    lose to a network by a mere factor. ValueError where nothing in the brain is above zero.
    """
    own, wanted = float(np.maximum(hr[mask], 0).mean()), float(lr[mask].mean())
    if not own > 0 or not wanted > 0:
        raise ValueError("nothing inside the brain mask is above zero")
    return own / wanted


def unbiased(image: Image, *, seed: int, sloppy: bool) -> Image:
    """An image over its bias field (N4 on the head), negative values set to zero."""
    data = np.maximum(image.data, 0)
    field = bias_field(Image(data=data, affine=image.affine), None, seed=seed, iterations=(20,) if sloppy else (20, 15))
    return Image(data=np.asarray(data / field, dtype=np.float32), affine=image.affine)
