"""Structural scans for a fusion network: bias field, brain, frame and grid, [0, 1].

Every scan is aligned to the frame, the fine scan of the first contrast, and interpolated once:
rigidly where nothing else is asked for, so that no head changes its size, else by an affine or a
deformation, each of which begins where the one before it ended. An affine also takes up scaling
and shear, as gradients that are calibrated differently leave between scanners; a deformation (SyN)
what gradients that are not linear leave. Both follow noise and blur as well where there is nothing
to take up.

With "template", scans are aligned to the frame by an affine, and the frame to the template by
another; both are applied in the one interpolation, onto a grid of the frame's voxel size around
the template's intracranial volume.

Source: attention_unet, section 3.1, which aligns to a template and names warping useless (section
4.4).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from nibabel.affines import apply_affine
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.io.grids import Array, Volume
from bids_sr.registration.ants import Stage, read_linear, register
from bids_sr.registration.brain import brain_from_head, coarse, unbiased
from bids_sr.registration.rigid import linear_stages, orthonormal, rigid, rim_of, size_of
from bids_sr.spatial import masks
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import carry, hr_grid, invert, points_in, rms_distance
from bids_sr.spatial.windowed_sinc import resample_sinc
from bids_sr.sr.training.fused import unit_range

Align = Literal["rigid", "affine", "nonlinear", "template"]
SINC = -1
"""Takes the place of the order of a spline: a sinc with Lanczos' window."""
_CROP_MM = 4.0  # margin of the grid around the template's brain
# grid on which a deformation is read from its file; SyN smooths its own over three voxels
_WARP_MM = 4.0


@frozen
class Placement:
    """Where points of the frame lie in another scan.

    `moved`: displacement added after the transform (3, X, Y, Z; RAS+ mm), or None. `grid`:
    voxel-to-world matrix of the displacements (4 x 4, RAS+ mm), or None.
    """

    xfm: Array
    moved: Array | None = None
    grid: Array | None = None

    def seen(self, image: Volume, frame: Volume, order: int) -> Array:
        """The scan on the grid of the frame, in one interpolation by a spline of that order.

        `image`: scan of the same head as the frame (3D). `order`: order of the spline, such as 0
        (nearest), 1 (linear) or 3 (cubic), or `SINC`. ValueError for `SINC` with a deformation.
        Resampled values on the grid of the frame (3D,
        float32).
        """
        target = (frame.data.shape, frame.affine)
        if order == SINC and self.moved is None:
            x, y, z = frame.data.shape
            return resample_sinc(image.data, image.affine, (x, y, z), self.xfm @ frame.affine)
        if order == SINC:
            raise ValueError("deformations are only available with spline interpolation")
        moved = None
        if self.moved is not None and self.grid is not None:
            parts = [sample_volume(part, self.grid, *target, order=1) for part in self.moved]
            moved = np.stack(parts)
        return sample_volume(image.data, image.affine, *target, self.xfm, order=order, moved=moved)

    def points(self, points: Array) -> Array:
        """Return (N, 3) points of the frame in the scan, RAS mm."""
        there = apply_affine(self.xfm, points)
        if self.moved is None or self.grid is None:
            return there
        at = apply_affine(invert(self.grid), points).T
        shifts = [
            ndimage.map_coordinates(part, at, order=1, mode="nearest") for part in self.moved
        ]
        return there + np.stack(shifts, axis=1)


def _register_to(
    frame: Volume,
    image: Volume,
    mask: Array,
    *,
    align: Align = "rigid",
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
    frame: Volume, image: Volume, *, align: Align, seed: int, prefix: str, mm: float = 2.0
) -> dict[Align, Placement]:
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
    placements: dict[Align, Placement] = {"rigid": Placement(xfm=invert(xfm) if turned else xfm)}
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
        placements["nonlinear"] = _warped(
            frame, placements["affine"].xfm, files[1] if turned else files[0]
        )
    return placements


def _warped(frame: Volume, xfm: Array, composite: Path) -> Placement:
    """What a composite transform does beyond a matrix, on a coarse grid over the frame."""
    factor = [min(1.0, float(zoom) / _WARP_MM) for zoom in frame.zooms]
    shape, grid = hr_grid(frame.data.shape, frame.affine, factor)
    points = apply_affine(grid, np.indices(shape).reshape(3, -1).T)
    moved = carry(points, [composite]) - apply_affine(xfm, points)
    return Placement(xfm=xfm, moved=moved.T.reshape(3, *shape).astype(np.float32), grid=grid)


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


@frozen
class _PreparedContrasts:
    """All contrasts on one grid, in [0, 1], nothing outside the brain."""

    hr: Mapping[str, Array]
    lr: Mapping[str, Mapping[str, Array]]
    mask: Array
    affine: Array
    units: Mapping[str, float]
    facts: dict[str, dict[str, float]]


def prepare(
    scans: Mapping[_Key, Volume],
    template: Volume,
    template_mask: Array,
    *,
    interpolations: Sequence[str] = ("bspline",),
    align: Align = "rigid",
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
        Scans by contrast and resolution (``highres`` or ``lowres``).
    template : Volume
        Skull-stripped T1w template (3D).
    template_mask : Array
        Voxels of the brain in the template (3D, boolean).
    interpolations : Sequence[str], optional
        Interpolations of low-resolution scans by name, ``bspline`` among them.
    align : Align, optional
        Most general transform allowed: ``rigid``, ``affine`` or ``nonlinear``; ``template``: an
        affine, and another one to the template, whose cropped grid takes the place of the frame.
    seed : int
        Seed of the random samples of ANTs.
    prefix : str
        Path and first letters of the files that ANTs writes.
    sloppy : bool
        Whether to be quick instead of accurate.

    Returns
    -------
    _PreparedContrasts
        Scans on the frame's grid, from 0 to 1, the brain mask and facts.
    """
    rounds = (20,) if sloppy else (20, 15)
    even = {
        key: unbiased(image, None, seed=seed, iterations=rounds) for key, image in scans.items()
    }
    first = next(iter(scans))[0]
    frame = even[first, "highres"]
    mask, template_to_head, _ = brain_from_head(
        frame,
        template,
        template_mask,
        seed=seed,
        prefix=f"{prefix}brain_",
        sloppy=sloppy,
        fitted=first == "T1w",
    )
    mm = 2 * _REGISTERED_MM if sloppy else _REGISTERED_MM
    places: dict[_Key, Placement] = {(first, "highres"): Placement(xfm=np.eye(4))}
    facts: dict[str, dict[str, float]] = {}
    for (contrast, kind), image in even.items():
        if image is not frame:
            key = f"{contrast}_{kind}"
            places[contrast, kind], facts[key] = _register_to(
                frame,
                image,
                mask,
                align="affine" if align == "template" else align,
                seed=seed,
                prefix=f"{prefix}{key}_",
                mm=mm,
            )
    if align == "template":
        cropped = template_grid(template, template_mask, frame)
        carried = sample_volume(
            mask.astype(np.float32),
            frame.affine,
            cropped.data.shape,
            cropped.affine,
            template_to_head,
            order=1,
            zero_outside=True,
        )
        places = {
            key: Placement(xfm=place.xfm @ template_to_head) for key, place in places.items()
        }
        frame, mask = cropped, carried > 0.5
    return _assemble(even, places, frame, mask, facts, interpolations)


def template_grid(template: Volume, template_mask: Array, frame: Volume) -> Volume:
    """Return an empty image around the template's intracranial volume.

    It has the axes of the template, the mean voxel size of the frame along each (the voxel volume
    of both is equal), and a margin of `_CROP_MM`.

    `template_mask`: voxels of the intracranial volume in the template (3D, boolean). `frame`: scan
    whose voxel size is taken.
    """
    size = float(np.prod(frame.zooms[:3])) ** (1 / 3)
    voxels = np.argwhere(template_mask)
    zooms = np.asarray(template.zooms[:3], dtype=np.float64)
    low = voxels.min(axis=0) - _CROP_MM / zooms
    high = voxels.max(axis=0) + _CROP_MM / zooms
    shape = tuple(int(n) for n in np.ceil((high - low) * zooms / size) + 1)
    affine = np.array(template.affine, dtype=np.float64)
    affine[:3, 3] = apply_affine(template.affine, low)
    affine[:3, :3] = affine[:3, :3] * (size / zooms)
    return Volume(np.zeros(shape, dtype=np.float32), affine)


def _assemble(
    even: Mapping[_Key, Volume],
    places: Mapping[_Key, Placement],
    frame: Volume,
    mask: Array,
    facts: dict[str, dict[str, float]],
    interpolations: Sequence[str],
) -> _PreparedContrasts:
    """All scans on the grid of the frame, each interpolated once from its place, in [0, 1].

    Scans without bias and their places are by contrast and "highres" or "lowres"; `mask` is the
    brain in the frame.
    """
    hr: dict[str, Array] = {}
    lr: dict[str, dict[str, Array]] = {name: {} for name in interpolations}
    units: dict[str, float] = {}
    for (contrast, kind), image in even.items():
        place = places[contrast, kind]
        if kind == "highres":
            hr[contrast] = place.seen(image, frame, 3)
            continue
        seen = {
            name: place.seen(image, frame, order) for name, order in _ORDERS.items() if name in lr
        }
        _, units[contrast] = unit_range(seen["bspline"], mask)
        for name, data in seen.items():
            lr[name][contrast] = _scaled(data, units[contrast], mask)
    for contrast, data in hr.items():
        hr[contrast] = _scaled(data, _hr_unit(data, lr["bspline"][contrast], mask), mask)
    return _PreparedContrasts(
        hr=hr, lr=lr, mask=mask, affine=frame.affine, units=units, facts=facts
    )


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
        raise ValueError("no voxel of the brain mask is above zero")
    return own / wanted
