"""Normalization of a brain to a template by SyN, and template tissue maps as priors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import AntsOptions, RegistrationStage, apply, register
from bids_sr.preproc.brain import downsample
from bids_sr.spatial import low_resolution_grids, masks
from bids_sr.spatial.resampling import sample_volume


def normalize(
    brain: Volume,
    mask: Array,
    template: Volume,
    template_mask: Array,
    start: Array,
    options: AntsOptions,
) -> tuple[Path, Path]:
    """Register a brain to a template by SyN at 3 mm (4 mm if sloppy).

    Parameters
    ----------
    brain : Volume
        T1w image (3D); voxels outside the mask are set to 0.
    mask : Array
        Brain voxels of the T1w image (3D, boolean).
    template : Volume
        Skull-stripped T1w template (3D).
    template_mask : Array
        Brain voxels of the template (3D, boolean).
    start : Array
        Transform of a template point to its T1w point (4 x 4, RAS+ mm).
    options : AntsOptions
        Seed and names of files.

    Returns
    -------
    tuple[Path, Path]
        Transform files of points (.h5). The first maps template points to T1w points and thus
        resamples the T1w image to the template; the second maps T1w points to template points.
    """
    mm = 4.0 if options.sloppy else 3.0
    low_template = downsample(template, mm)
    low_mask = low_resolution_grids.downsample_mask(template_mask, template.affine, mm)
    brain_image = Volume(data=np.where(mask, brain.data, 0), affine=brain.affine)
    affine = RegistrationStage(
        transform="Affine[0.1]",
        iterations=(50, 20),
        shrink=(3, 2),
        mm=(4.0, 2.0),
        sampling=0.25,
        masked=False,
    )
    if options.sloppy:
        syn = RegistrationStage(
            transform="SyN[0.25,3,0]",
            metric="MI",
            iterations=(20,),
            shrink=(2,),
            mm=(2.0,),
            masked=False,
        )
    else:
        syn = RegistrationStage(
            transform="SyN[0.2,3,0]",
            metric="CC",
            iterations=(30, 15, 5),
            shrink=(4, 2, 1),
            mm=(4.0, 2.0, 1.0),
        )
    metric_mask = masks.grow(low_mask, low_template.affine, 3.0)
    forward, inverse = register(
        low_template,
        downsample(brain_image, mm),
        [affine, syn],
        options,
        start=start,
        fixed_mask=metric_mask,
    )
    return forward, inverse


def resample_priors(
    t1w: Volume, mask: Array, maps: Sequence[Volume], std2t1w: Path, *, seed: int
) -> Array:
    """Resample template tissue maps to priors of GM, WM and CSF on the T1w grid.

    The template provides GM and WM; CSF is the remainder inside the mask.

    `mask` contains brain voxels of the T1w image (3D, boolean). Values of the `maps` of GM and WM
    are between 0 and 1, and `std2t1w` is the transform file that resamples template images to the
    T1w image. `seed` is the seed of the random samples of ANTs. Returns the probability of GM, WM
    and CSF in each T1w voxel, from 0 to 1 (3, X, Y, Z).
    """
    # Because template maps are smooth, they can be resampled at 2 mm, which is faster, and then
    # interpolated to the T1w grid.
    low_shape, low_affine, _ = low_resolution_grids.lowres_grid(t1w.data.shape, t1w.affine, 2.0)
    low_grid = Volume(np.zeros(low_shape, dtype=np.float32), low_affine)
    lowres_priors = [np.clip(apply(image, low_grid, [std2t1w], seed=seed), 0, 1) for image in maps]
    gray, white = (
        sample_volume(tissue, low_grid.affine, t1w.data.shape, t1w.affine, order=1)
        for tissue in lowres_priors
    )
    fluid = np.where(mask, np.clip(1 - gray - white, 0, 1), 0)
    return np.stack([gray, white, fluid])
