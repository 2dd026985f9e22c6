"""Structural scans for a fusion network: bias field, brain, frame and grid, [0, 1].

Every scan is aligned to the frame, the fine scan of the first contrast, and interpolated once:
rigidly where nothing else is asked for, so that no head changes its size, else by an affine or a
deformation, each of which begins where the one before it ended. An affine also takes up scaling
and shear, as gradients that are calibrated differently leave between scanners; a deformation (SyN)
what gradients that are not linear leave. Both follow noise and blur as well where there is nothing
to take up.

With "template", scans are aligned to the frame by an affine, and the frame to the template by
another; "template-rigid" and "template-warp" do the same with rigid transforms and deformations.
Both transforms are applied in the one interpolation, onto a grid of the frame's voxel size around
the template's intracranial volume.

Scans are extracted by the brain mask, or by an intracranial mask, which also contains the space
around the brain with its sinuses.

Source: attention_unet, section 3.1, which aligns to a template and names warping useless (section
4.4).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, cast

import numpy as np
from nibabel.affines import apply_affine

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.registration.ants import Stage, read_linear, register
from bids_sr.registration.bias_field import unbiased
from bids_sr.registration.brain import brain_from_head, coarse
from bids_sr.registration.placement import SINC, Placement, composed, deformed
from bids_sr.registration.rigid import linear_stages, orthonormal, rigid, rim_of, size_of
from bids_sr.registration.template_frame import placed_in_template, template_grid
from bids_sr.spatial import masks
from bids_sr.spatial.transforms import invert, points_in, rms_distance
from bids_sr.sr.training.fused import unit_range

_Transform = Literal["rigid", "affine", "nonlinear"]
Align = Literal["rigid", "affine", "nonlinear", "template-rigid", "template", "template-warp"]
Scale = Literal["percentile", "range"]
"""``percentile``: 1 is the 99.9th percentile of the coarse scan's brain, and the fine scan has its
mean. ``range``: each scan is scaled linearly from its minimum to its maximum.
"""
_OF_TEMPLATE: dict[str, _Transform] = {
    "template-rigid": "rigid",
    "template": "affine",
    "template-warp": "nonlinear",
}
"""Transforms of alignments to the template: between scans, and from frame to template."""
_INTRACRANIAL_MM = 6.0
"""Distance from the brain mask to the edge of the intracranial mask: subarachnoid space, dura with
its sinuses; the inner table of the skull begins within it."""


def _register_to(
    frame: Volume,
    image: Volume,
    mask: Array,
    *,
    align: _Transform = "rigid",
    seed: int,
    prefix: str,
    mm: float = 2.0,
) -> tuple[Placement, dict[str, float]]:
    """Register a scan to the frame as `align` allows, and return its displacement.

    The displacement is measured in the brain (`mask`).

    Both are looked at on voxels of `mm`, or their own where these are larger; the coarser one is
    fixed.

    `image`: scan of the same head as the frame (3D). Place of the scan, and figures of its
    displacement in mm, degrees and percent.
    """
    placed = _placements(frame, image, align=align, seed=seed, prefix=prefix, mm=mm)[align]
    return placed, _facts(placed, mask, frame.affine)


def _placements(
    frame: Volume, image: Volume, *, align: _Transform, seed: int, prefix: str, mm: float = 2.0
) -> dict[_Transform, Placement]:
    """Register a scan to the frame by each transform type up to the requested one.

    See `_register_to`.

    `image`: scan of the same head as the frame (3D). `align`: most general transform allowed:
    ``rigid``, ``affine`` or ``nonlinear``. `mm`: voxel size to reach along all axes (mm); larger
    voxels stay.
    """
    low_frame, low = coarse(frame, mm), coarse(image, mm)
    turned = np.prod(low.zooms) > 1.01 * np.prod(low_frame.zooms)
    fixed, moving = (low, low_frame) if turned else (low_frame, low)
    heads = [masks.head_mask(each.data, each.affine) for each in (fixed, moving)]
    xfm = rigid(fixed, moving, heads[0], heads[1], seed=seed, prefix=prefix).xfm
    placements: dict[_Transform, Placement] = {
        "rigid": Placement(xfm=invert(xfm) if turned else xfm)
    }
    if align == "rigid":
        return placements
    rim = rim_of(heads[0], fixed)
    size = float(fixed.zooms.min())
    stages = linear_stages("Affine", size)
    files = register(
        fixed, moving, stages, seed=seed, prefix=f"{prefix}affine_", start=xfm, fixed_mask=rim
    )
    xfm = read_linear(files[0])
    placements["affine"] = Placement(xfm=invert(xfm) if turned else xfm)
    if align == "nonlinear":
        stage = Stage(
            transform="SyN[0.1,3,0]", iterations=(40, 20), shrink=(2, 1), mm=(size, 0.5 * size)
        )
        files = register(
            fixed, moving, [stage], seed=seed, prefix=f"{prefix}syn_", start=xfm, fixed_mask=rim
        )
        placements["nonlinear"] = deformed(
            frame, placements["affine"].xfm, files[1] if turned else files[0]
        )
    return placements


def _facts(placed: Placement, mask: Array, affine: Array) -> dict[str, float]:
    """Return the size of a placement in the brain: rigid, scaling and deformation parts."""
    points = points_in(mask, affine, 7)
    turn = orthonormal(placed.xfm)
    turn[:3, 3] += (apply_affine(placed.xfm, points) - apply_affine(turn, points)).mean(axis=0)
    facts = size_of(turn, mask, affine)
    scales = 100 * (np.linalg.svd(placed.xfm[:3, :3], compute_uv=False) - 1)
    if np.abs(scales).max() > 1e-3:
        facts |= {
            "stretch_percent": round(float(scales.max()), 3),
            "shrink_percent": round(float(scales.min()), 3),
            "affine_rms_mm": round(rms_distance(turn, placed.xfm, points), 4),
        }
    if placed.moved is not None:
        warp = np.linalg.norm(placed.points(points) - apply_affine(placed.xfm, points), axis=1)
        facts |= {
            "warp_rms_mm": round(float(np.sqrt((warp**2).mean())), 4),
            "warp_max_mm": round(float(warp.max()), 4),
        }
    return facts


_ORDERS = {"bspline": 3, "linear": 1, "lanczos": SINC, "nearest": 0}
"""Interpolations that bring a coarse scan to the fine grid, with their spline order."""
_REGISTERED_MM = 2.0


_Key = tuple[str, str]
"""Contrast, and "highres" or "lowres"."""
Unbias = Callable[[Volume, str], Volume]
"""Corrects the bias field of a scan of a contrast."""
ExtractBrain = Callable[[Volume], Array]
"""Returns the brain mask of a bias-corrected scan (3D, boolean)."""
AlignLinear = Callable[[Volume, Volume], Array]
"""Returns the matrix from the frame to a scan, for the trilinear interpolation (4 x 4, RAS mm)."""


@frozen
class _PreparedContrasts:
    """All contrasts on one grid, in [0, 1], nothing outside the mask.

    `mask`: voxels that are kept: the brain, or the intracranial volume. `brain`: voxels of the
    brain. `to_template`: matrix from a point of the grid to its point in the template (4 x 4, RAS
    mm; affine).
    """

    hr: Mapping[str, Array]
    lr: Mapping[str, Mapping[str, Array]]
    mask: Array
    brain: Array
    affine: Array
    units: Mapping[str, float]
    facts: dict[str, dict[str, float]]
    to_template: Array

    def record(self, align: Align) -> dict[str, object]:
        """Return the facts of the preparation that later steps and the report read."""
        return {
            "units": self.units,
            "align": align,
            "offsets": self.facts,
            "to_template": self.to_template.tolist(),
        }


def prepare(
    scans: Mapping[_Key, Volume],
    template: Volume,
    template_mask: Array,
    *,
    interpolations: Sequence[str] = ("bspline",),
    align: Align = "rigid",
    scale: Scale = "percentile",
    extracted: Literal["brain", "intracranial"] = "brain",
    grid: Volume | None = None,
    unbias: Unbias | None = None,
    extract_brain: ExtractBrain | None = None,
    align_linear: AlignLinear | None = None,
    seed: int,
    prefix: str,
    sloppy: bool,
) -> _PreparedContrasts:
    """Prepare the scans of one head, as acquired; the first is the frame.

    Raise ValueError if a brain is nowhere above zero.

    The template is skull-stripped; of the `interpolations` (names in `_ORDERS`) "bspline" is one,
    which networks are fed with.

    Parameters
    ----------
    scans : Mapping[_Key, Volume]
        Scans by contrast and resolution (``highres`` or ``lowres``); of contrasts without a
        low-resolution scan, the 99.9th percentile of the other becomes 1. With a `grid`, all are
        of low resolution.
    template : Volume
        Skull-stripped T1w template (3D).
    template_mask : Array
        Voxels of the brain in the template (3D, boolean).
    interpolations : Sequence[str], optional
        Interpolations of low-resolution scans by name, ``bspline`` among them.
    align : Align, optional
        Most general transform allowed between scans: ``rigid``, ``affine`` or ``nonlinear``;
        ``template-rigid``, ``template`` (affine) or ``template-warp``: the same, and another
        transform of this type to the template, whose cropped grid takes the place of the frame.
    scale : Scale, optional
        How intensities are scaled to [0, 1].
    extracted : Literal["brain", "intracranial"], optional
        What remains of the scans: the brain, or everything within `_INTRACRANIAL_MM` of it.
    grid : Volume | None, optional
        Grid that all scans of a head without high-resolution scans are interpolated to. It is in
        the coordinates of the first scan; its values are not read. None: the grid of the
        high-resolution scan of the first contrast.
    unbias : Unbias | None, optional
        Function that corrects the bias field of a scan by contrast; None: N4.
    extract_brain : ExtractBrain | None, optional
        Function that returns the brain mask of the frame; None: the mask of the template, fitted
        to the head.
    align_linear : AlignLinear | None, optional
        Function that aligns low-resolution scans to the frame where they are interpolated
        trilinearly; None: as for all other interpolations.
    seed : int
        Seed of the random samples of ANTs.
    prefix : str
        Path and first letters of the files that ANTs writes.
    sloppy : bool
        Whether to be quick instead of accurate.

    Returns
    -------
    _PreparedContrasts
        Scans on the frame's grid, from 0 to 1, the masks and facts.
    """
    if unbias is None:
        rounds = (20,) if sloppy else (20, 15)
        even = {
            key: unbiased(image, None, seed=seed, iterations=rounds)
            for key, image in scans.items()
        }
    else:
        even = {key: unbias(image, key[0]) for key, image in scans.items()}
    first = next(iter(scans))[0]
    key_of_frame = (first, "highres" if grid is None else "lowres")
    frame = even[key_of_frame]
    if grid is not None:
        seen = Placement(xfm=np.eye(4)).seen(frame, grid, 3)
        frame = grid.like(np.maximum(seen, 0))
    mask, template_to_head, _ = brain_from_head(
        frame,
        template,
        template_mask,
        seed=seed,
        prefix=f"{prefix}brain_",
        sloppy=sloppy,
        fitted=first == "T1w",
    )
    if extract_brain is not None:
        mask = extract_brain(frame)
    transform = _OF_TEMPLATE.get(align)
    between = cast(_Transform, align) if transform is None else transform
    mm = 2 * _REGISTERED_MM if sloppy else _REGISTERED_MM
    places: dict[_Key, Placement] = {key_of_frame: Placement(xfm=np.eye(4))}
    facts: dict[str, dict[str, float]] = {}
    for (contrast, kind), image in even.items():
        if (contrast, kind) != key_of_frame:
            key = f"{contrast}_{kind}"
            places[contrast, kind], facts[key] = _register_to(
                frame,
                image,
                mask,
                align=between,
                seed=seed,
                prefix=f"{prefix}{key}_",
                mm=mm,
            )
    trilinear: dict[_Key, Placement] = {}
    if align_linear is not None and "linear" in interpolations:
        for (contrast, kind), image in even.items():
            if kind == "lowres":
                place = Placement(xfm=align_linear(frame, image))
                trilinear[contrast, kind] = place
                facts[f"{contrast}_lowres_trilinear"] = _facts(place, mask, frame.affine)
    to_template = invert(template_to_head)
    if transform is not None:
        cropped = template_grid(template, template_mask, frame)
        to_frame = placed_in_template(
            frame,
            mask,
            template,
            template_mask,
            template_to_head,
            transform=transform,
            grid=cropped,
            seed=seed,
            prefix=f"{prefix}template_",
            sloppy=sloppy,
        )
        places, trilinear = (
            {key: composed(cropped, to_frame, place) for key, place in group.items()}
            for group in (places, trilinear)
        )
        carried = to_frame.seen(frame.like(mask.astype(np.float32)), cropped, 1, zero_outside=True)
        facts["template"] = _facts(to_frame, template_mask, template.affine) | {
            "brain_cropped_percent": _cropped_percent(mask, frame, cropped, to_frame)
        }
        frame, mask = cropped, carried > 0.5
        to_template = np.eye(4)
    kept = mask
    if extracted == "intracranial":
        kept = masks.grow(mask, frame.affine, _INTRACRANIAL_MM)
    made = _assemble(even, (places, trilinear), frame, (mask, kept), interpolations, scale)
    return replace(made, facts=facts, to_template=to_template)


def _cropped_percent(brain: Array, frame: Volume, grid: Volume, to_frame: Placement) -> float:
    """Return the share of the brain outside a grid in template space, by the matrix alone (%)."""
    points = apply_affine(invert(to_frame.xfm), points_in(brain, frame.affine, 7))
    voxels = apply_affine(invert(grid.affine), points)
    outside = (voxels < -0.5) | (voxels > np.subtract(grid.data.shape, 0.5))
    return round(100 * float(outside.any(axis=1).mean()), 3)


def _assemble(
    even: Mapping[_Key, Volume],
    placements: tuple[Mapping[_Key, Placement], Mapping[_Key, Placement]],
    frame: Volume,
    masks_of_frame: tuple[Array, Array],
    interpolations: Sequence[str],
    scale: Scale,
) -> _PreparedContrasts:
    """All scans on the grid of the frame, each interpolated once from its place, in [0, 1].

    Scans without bias and their places are by contrast and "highres" or "lowres". `placements`: of
    all scans, and other ones for the trilinear interpolation, if any.
    `masks_of_frame`: brain, and voxels that are kept. Percentiles and means are taken from the
    brain, the range from all kept voxels.
    """
    brain, kept = masks_of_frame
    places, trilinear = placements
    hr: dict[str, Array] = {}
    lr: dict[str, dict[str, Array]] = {name: {} for name in interpolations}
    units: dict[str, float] = {}
    for (contrast, kind), image in even.items():
        place = places[contrast, kind]
        if kind == "highres":
            hr[contrast] = place.seen(image, frame, 3)
            continue
        seen = {
            name: (trilinear.get((contrast, kind), place) if name == "linear" else place).seen(
                image, frame, order
            )
            for name, order in _ORDERS.items()
            if name in lr
        }
        if scale == "range":
            units[contrast] = largest(seen["bspline"], kept)
        else:
            _, units[contrast] = unit_range(seen["bspline"], brain)
        for name, data in seen.items():
            unit = largest(data, kept) if scale == "range" else units[contrast]
            lr[name][contrast] = _scaled(data, unit, kept)
    for contrast, data in hr.items():
        if scale == "range":
            unit = largest(data, kept)
        elif contrast in lr["bspline"]:
            unit = _hr_unit(data, lr["bspline"][contrast], brain)
        else:
            unit = units[contrast] = unit_range(data, brain)[1]
        hr[contrast] = _scaled(data, unit, kept)
    return _PreparedContrasts(
        hr=hr,
        lr=lr,
        mask=kept,
        brain=brain,
        affine=frame.affine,
        units=units,
        facts={},
        to_template=np.eye(4),
    )


def largest(data: Array, mask: Array) -> float:
    """Return the largest intensity of an extracted scan, which becomes 1.

    Its smallest intensity is 0, outside the mask: splines that fall below it are cut off there.
    ValueError if nothing in the mask is above zero. Source: attention_unet, section 3.1, whose
    linear normalization this is; a single bright vessel decides it.

    `data`: scan in any unit of intensity (3D). `mask`: voxels that remain of the scan: the brain,
    or the intracranial volume (3D, boolean).
    """
    top = float(data[mask].max()) if mask.any() else 0.0
    if not np.isfinite(top) or top <= 0:
        raise ValueError("the scan has no positive intensities inside the brain mask")
    return top


def _scaled(data: Array, unit: float, mask: Array) -> Array:
    return np.where(mask, np.clip(data / np.float32(unit), 0, 1), 0).astype(np.float32)


def _hr_unit(hr: Array, lr: Array, mask: Array) -> float:
    """Return the high-resolution intensity set to 1, so that both scans share a brain mean.

    Each scan's own percentile would not do: averaging over larger voxels lowers it, and plain
    interpolation would then lose to a network by a mere factor. ValueError where nothing in the
    brain is above zero.
    """
    own, wanted = float(np.maximum(hr[mask], 0).mean()), float(lr[mask].mean())
    if not own > 0 or not wanted > 0:
        raise ValueError("the scan has no positive intensities inside the brain mask")
    return own / wanted
