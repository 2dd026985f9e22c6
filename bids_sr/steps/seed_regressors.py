"""Time series of seeds and of temporal components of a run without events."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bids_sr.config.seed_options import N_COMPONENTS, Seed, seed_names
from bids_sr.glm import design as arithmetic
from bids_sr.glm.block_effects import temporal_components
from bids_sr.glm.design import Seeds, build_design, model_confounds
from bids_sr.io.grids import Array, Float
from bids_sr.pipeline.artifacts import (
    Confounds,
    Facts,
    File,
    Image,
    Mask,
    Regressors,
    Series,
    Table,
    Transforms,
    Volume,
)
from bids_sr.pipeline.step import Keep, Lookup, Part, step
from bids_sr.region_names import atlas_title
from bids_sr.registration.ants import apply, apply_to_points, atlas_region
from bids_sr.registration.bold_to_anat import boldref_onward
from bids_sr.spatial.transforms import write_itk
from bids_sr.sr.method import Cost

_LOGGER = logging.getLogger(__name__)
_KEPT = {"regressors": Keep({"desc": "seeds", "suffix": "timeseries"}, "seeds_columns")}
_ANTS_SEED = 1  # nothing that ANTs does here is random


def _text(setting: Lookup) -> str:
    seeds: Sequence[Seed] = setting("seeds")
    spheres = [
        f"{seed.name} ({' '.join(f'{mm:g}' for mm in seed.center)}; {seed.radius_mm:g} mm)"
        for seed in seeds
        if not seed.labels
    ]
    regions = [f"{seed.name} ({' and '.join(seed.labels)})" for seed in seeds if seed.labels]
    parts = (
        [f"spherical seeds at MNI coordinates [@vandijk2010] {', '.join(spheres)}"]
        if spheres
        else []
    )
    parts += (
        [f"seed regions of the {atlas_title(setting('atlas'))} {', '.join(regions)}"]
        if regions
        else []
    )
    return (
        "The run had no events; functional connectivity [@biswal1995] was mapped with"
        f" {' and '.join(parts)}, as far as the brain mask of the run holds them."
        " The time series of each seed was read from the acquired series,"
        " cleared of drift and confounds, and used in place of a condition in every series;"
        " halves of the run were made of segments of about 30 s.\n"
    )


@step(
    makes=("regressors", "seeds_columns"),
    part=Part.PREPROCESSING,
    text=_text,
    keep=_KEPT,
    cost=Cost(volumes=0.02),
)
def seed_series(
    preproc: Series,
    bold_mask: Mask,
    confounds: Confounds,
    here: Path,
    boldref2t1w_xfm: Transforms | None = None,
    t1w2std_xfm: File | None = None,
    atlas_source: Image | None = None,
    atlas_labels: Table | None = None,
    atlas_xfms: Sequence[File] = (),
    *,
    seeds: Sequence[Seed],
    n_dummy: int,
    tr: float,
    high_pass: float,
    slice_time_ref: float,
    has_stc: bool,
) -> tuple[Regressors, Facts]:
    """Return mean time series of seeds, without drift and confounds.

    Seeds are spheres and atlas regions that are given in the template.

    `preproc`: acquired series, head motion undone, dummies included. `boldref2t1w_xfm`: takes a
    T1w point to its boldref point (RAS mm). `t1w2std_xfm`: takes a template point to its T1w
    point; without it, seeds are spheres whose centers are given in the frame of the run. `tr,
    high_pass`: repetition time (s); slower (Hz) is drift. `slice_time_ref, has_stc`: moment within
    a TR of slice timing correction, and whether there was any. A column a seed, a row a volume;
    what the columns are, and where.
    """
    regions: dict[str, Array] = {}
    if boldref2t1w_xfm is None or t1w2std_xfm is None:
        points = np.array([seed.center for seed in seeds])
    else:
        points = _points_in_run(seeds, boldref2t1w_xfm, t1w2std_xfm, here)
    if boldref2t1w_xfm is not None and atlas_source is not None and atlas_labels is not None:
        chain = boldref_onward(boldref2t1w_xfm[0], atlas_xfms, here)
        numbers = dict(zip(atlas_labels["name"], atlas_labels["index"], strict=True))
        named = {
            seed.name: atlas_region(atlas_source, seed.labels, numbers)
            for seed in seeds
            if seed.labels
        }
        regions = {name: _on_mask(region, bold_mask, chain) for name, region in named.items()}
    voxels, facts = _place_seeds(seeds, bold_mask, points, regions)
    if not voxels:
        raise ValueError(
            f"no seed lies in the field of view of {preproc.path}"
            f" ({', '.join(seed.name for seed in seeds)}); name others with --seeds NAME=x,y,z, or"
            " take --seeds components"
        )
    measured = arithmetic.seed_series(preproc, voxels, n_dummy)
    design = build_design(
        Seeds.of(measured),
        n_volumes=len(measured),
        tr=tr,
        n_dummy=n_dummy,
        slice_time_ref=slice_time_ref,
        has_stc=has_stc,
        high_pass=high_pass,
        confounds=confounds,
        confound_names=model_confounds(confounds),
    )
    return (
        Seeds.of(
            arithmetic.without(measured, design.matrix[:, len(design.conditions) :], n_dummy)
        ),
        facts,
    )


def _points_in_run(seeds: Sequence[Seed], boldref2t1w: Array, t1w2std: Path, here: Path) -> Float:
    """Centers of seeds in the frame of the boldref, (n, 3), RAS mm."""
    write_itk(here / "boldref2t1w.txt", boldref2t1w)
    # the other way round than for an image of the template
    chain = [here / "boldref2t1w.txt", t1w2std]
    return apply_to_points([seed.center for seed in seeds], chain, seed=_ANTS_SEED)


def _place_seeds(
    seeds: Sequence[Seed], bold_mask: Volume, points: Float, regions: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, dict[str, object]]]:
    """Return voxels of the seeds that lie in the field of view, and what is told of every one.

    `seeds`: spheres and atlas regions, given in template space. Voxels by seed (3D, boolean), and
    description of each seed.
    """
    voxels: dict[str, Array] = {}
    facts: dict[str, dict[str, object]] = {}
    for seed, point in zip(seeds, points, strict=True):
        try:
            if seed.labels:
                if not regions[seed.name].any():
                    raise ValueError(f"no voxel of the brain lies in {', '.join(seed.labels)}")
                voxels[seed.name] = regions[seed.name]
            else:
                voxels[seed.name] = arithmetic.seed_voxels(
                    bold_mask.data, bold_mask.affine, point, seed.radius_mm
                )
            within = "of the labels" if seed.labels else f"within {seed.radius_mm:g} mm"
            about = (
                f"mean of {int(voxels[seed.name].sum())} voxels {within}, without drift and"
                " confounds"
            )
        except ValueError as error:
            _LOGGER.warning("the seed %s is left out: %s", seed.name, error)
            about = f"left out: {error}"
        facts[seed.name] = {"Description": about}
        if seed.labels:
            facts[seed.name]["Labels"] = list(seed.labels)
        else:
            facts[seed.name] |= {
                "CenterMNI": _rounded(seed.center),
                "CenterBoldref": _rounded(point),
            }
    return voxels, facts


def _rounded(point: Sequence[float] | Float) -> list[float]:
    return [round(float(mm), 3) for mm in point]


def _on_mask(region: Volume, mask: Volume, chain: Sequence[Path]) -> Array:
    """Voxels of the mask whose center `chain` takes into a region."""
    moving, reference = (
        region.like(region.data.astype(np.float32)),
        mask.like(mask.data.astype(np.float32)),
    )
    inside = apply(moving, reference, chain, seed=_ANTS_SEED, interpolator="nearestNeighbor") > 0.5
    return mask.data & inside


@step(
    makes=("regressors", "seeds_columns"),
    part=Part.PREPROCESSING,
    text=(
        "The run had neither events nor an anatomical image by which seeds could be placed; its"
        " leading temporal components were mapped.\n"
    ),
    keep=_KEPT,
    cost=Cost(volumes=0.02),
)
def component_series(
    preproc: Series, bold_mask: Mask, here: Path, *, n_dummy: int
) -> tuple[Regressors, Facts]:
    """The leading temporal components of a run, in the place of seeds; as `seed_series`.

    `preproc`: acquired series, head motion undone (4D).
    """
    found = temporal_components(preproc, bold_mask.data, n_dummy, N_COMPONENTS, here)
    values = np.full((preproc.shape[3], found.shape[1]), np.nan)
    values[n_dummy:] = found
    names = seed_names(())[: found.shape[1]]
    facts = {
        name: {"Description": "leading temporal component of the acquired series"}
        for name in names
    }
    return Seeds.of(pd.DataFrame(values, columns=list(names))), facts
