"""Normalization of a brain to a template by SyN, and the template's tissues carried back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.registration.ants import Stage, apply, register
from bids_sr.registration.brain import coarse
from bids_sr.spatial import coarse_grids, masks
from bids_sr.spatial.resampling import sample_volume


def normalize(
    brain: Volume,
    mask: Array,
    template: Volume,
    template_mask: Array,
    start: Array,
    *,
    seed: int,
    prefix: str,
    sloppy: bool,
) -> tuple[Path, Path]:
    """SyN between brain and template at 3 mm (4 mm if sloppy).

    Returns two composite files: the first takes template points to T1w points (it resamples the
    T1w image into the template), the second T1w points to template points.

    Parameters
    ----------
    brain : Volume
        T1w image (3D); what lies outside the brain is set to 0 here.
    mask : Array
        Voxels of the brain in the T1w image (3D, boolean).
    template : Volume
        Skull-stripped T1w template (3D).
    template_mask : Array
        Voxels of the brain in the template (3D, boolean).
    start : Array
        Transform of a template point to its T1w point (4 x 4, RAS+ mm).
    seed : int
        Seed of the random samples of ANTs.
    prefix : str
        Path and first letters of the files that ANTs writes.
    sloppy : bool
        Whether to be quick instead of accurate.

    Returns
    -------
    tuple[Path, Path]
        Template-to-T1w and T1w-to-template transform files of points (.h5).
    """
    mm = 4.0 if sloppy else 3.0
    low = coarse(template, mm)
    inside = coarse_grids.coarse_mask(template_mask, template.affine, mm)
    stripped = Volume(data=np.where(mask, brain.data, 0), affine=brain.affine)
    levels: dict[str, Any] = {
        "iterations": (50, 20),
        "shrink": (3, 2),
        "mm": (4.0, 2.0),
        "sampling": 0.25,
    }
    affine = Stage(transform="Affine[0.1]", masked=False, **levels)
    if sloppy:
        syn = Stage(
            transform="SyN[0.25,3,0]",
            metric="MI",
            iterations=(20,),
            shrink=(2,),
            mm=(2.0,),
            masked=False,
        )
    else:
        syn = Stage(
            transform="SyN[0.2,3,0]",
            metric="CC",
            iterations=(30, 15, 5),
            shrink=(4, 2, 1),
            mm=(4.0, 2.0, 1.0),
        )
    rim = masks.grow(inside, low.affine, 3.0)
    forward, inverse = register(
        low,
        coarse(stripped, mm),
        [affine, syn],
        seed=seed,
        prefix=prefix,
        start=start,
        fixed_mask=rim,
    )
    return forward, inverse


def carried_priors(
    t1w: Volume, mask: Array, maps: Sequence[Volume], std2t1w: Path, *, seed: int
) -> Array:
    """Resample the template's tissues to T1w priors of GM, WM and CSF (3, X, Y, Z).

    The template gives GM and WM; CSF is the remainder.

    `std2t1w`: transform file that brings template images onto the T1w image. Tissue probabilities
    in T1w voxels, from 0 to 1 (3, X, Y, Z).
    """
    # template maps are smooth: carried to 2 mm, where it is quick, then interpolated
    low = coarse(t1w, 2.0)
    carried = [np.clip(apply(image, low, [std2t1w], seed=seed), 0, 1) for image in maps]
    gray, white = (
        sample_volume(m, low.affine, t1w.data.shape, t1w.affine, order=1) for m in carried
    )
    fluid = np.where(mask, np.clip(1 - gray - white, 0, 1), 0)
    return np.stack([gray, white, fluid])
