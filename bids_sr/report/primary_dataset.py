"""Derivatives that are only in the dataset of the exported series, for use by other programs."""

from collections.abc import Sequence

import numpy as np

from bids_sr.engine.artifacts import Derivative, File, Image, Map, Mask, Series
from bids_sr.engine.memory import Need
from bids_sr.engine.step import Stage, step
from bids_sr.engine.step_memory import TO_TEMPLATE
from bids_sr.io import template_files
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import apply
from bids_sr.spatial.itk_files import Transforms
from bids_sr.spatial.output_grids import OutputGrid
from bids_sr.spatial.resampling import spline_coefficients
from bids_sr.spatial.transforms import invert

_TISSUES = ("GM", "WM", "CSF")
SERIES_MEAN_SIDECAR = {
    "SkullStripped": False,
    "Description": "mean of the steady-state volumes of the preprocessed BOLD series",
}
_SPACE_RESOLUTION = "grid of the preprocessed BOLD series in this space"
SPACE_BOLDREF_SIDECAR = {
    "Description": (
        "mean of the steady-state volumes of the super-resolved series, resampled to this space"
        " by a second interpolation"
    ),
    "Resolution": _SPACE_RESOLUTION,
}
SPACE_MASK_SIDECAR = {
    "Description": (
        "brain mask of the super-resolved series, restricted to the field of view of the run"
    ),
    "Type": "Brain",
    "Resolution": _SPACE_RESOLUTION,
}


@step(
    Stage.EXPORT,
    makes="series_mean",
    memory=Need(always=0.03, high=0.02),
)
def average_series(series: Series, *, n_dummy: int) -> Image:
    """Average the steady-state volumes of a series on its own grid.

    The mean (X, Y, Z, float32) is a boldref with the resolution of the series.
    """
    return Volume(series.mean(n_dummy).astype(np.float32), series.affine, series.header)


@step(Stage.EXPORT, makes="t1w2boldref_xfm")
def invert_coreg(boldref2t1w_xfm: Transforms) -> Transforms:
    """Return the transform of boldref points to T1w points (1, 4, 4; RAS mm).

    Other programs can then use the registration without inverting it.
    """
    return np.asarray(invert(boldref2t1w_xfm[0]))[None]


@step(
    Stage.EXPORT,
    makes="tissue_maps",
    memory=Need(always=0.02, t1w=0.018, high=0.0),
)
def label_tissues(t1w_tpms: Sequence[Image]) -> list[Map]:
    """Label tissue probabilities as gray matter, white matter and CSF, in this order."""
    return [
        Derivative(probability, {"label": tissue, "suffix": "probseg"})
        for probability, tissue in zip(t1w_tpms, _TISSUES, strict=True)
    ]


@step(
    Stage.EXPORT,
    makes=("space_boldref", "space_mask"),
    memory=TO_TEMPLATE,
)
def show_in_space(
    series_mean: Image, bold_mask_hr: Mask, space_grid: OutputGrid
) -> tuple[Image, Mask]:
    """Resample the mean of a series, and its brain mask, to another space.

    Voxels outside the field of view of the run are 0 and not in the mask.
    """
    mask = bold_mask_hr.data
    mean = space_grid.sample_volume(spline_coefficients(series_mean.data), series_mean.affine)
    (brain_fraction,) = space_grid.resample_maps(
        [(mask.astype(np.float32), False)], mask, bold_mask_hr.affine
    )
    space_boldref = Volume(space_grid.to_volume(mean), space_grid.affine)
    return space_boldref, Volume(brain_fraction >= 0.5, space_grid.affine)


@step(Stage.EXPORT, makes="space_t1w_mask", memory=TO_TEMPLATE)
def mask_in_template(
    t1w_mask: Mask,
    template: Image,
    t1w2std_xfm: File,
    *,
    template_space: str,
    resolution: str,
    random_seed: int,
) -> Mask:
    """Resample the brain mask of the T1w image to a template; XCP-D requires it next to BOLD data.

    `template` is skull-stripped, and `t1w2std_xfm` resamples T1w images to it. `template_space` is
    named as in TemplateFlow, with the cohort after a plus sign. `resolution` is a resolution label
    of the template; "" for the grid of the template in the registration.
    """
    resolution_grid = template_files.load_grid(template_space, resolution) if resolution else None
    shape, affine = resolution_grid or (template.data.shape, template.affine)
    grid = Volume(np.zeros(shape, dtype=np.float32), affine)
    brain = t1w_mask.like(t1w_mask.data.astype(np.float32))
    brain_fraction = apply(brain, grid, [t1w2std_xfm], seed=random_seed)
    return Volume(brain_fraction >= 0.5, affine)
