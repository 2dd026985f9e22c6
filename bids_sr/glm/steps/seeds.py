"""Time series of seeds, and of temporal components, of a run without events."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from bids_sr.engine.artifacts import Confounds, Facts, File, Mask, Series, Table, Volume
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.glm import seeds as glm_seeds
from bids_sr.glm.block_effects import temporal_components
from bids_sr.glm.connectivity_seeds import N_COMPONENTS, Seed, seed_names
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.regressors import Regressors, Seeds
from bids_sr.glm.steps.atlas_regions import Atlas
from bids_sr.glm.steps.linear_models import DesignInputs
from bids_sr.glm.steps.mapped_series import MaskedSeries
from bids_sr.io.arrays import Array, Float
from bids_sr.io.frozen import frozen
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.region_names import atlas_title
from bids_sr.io.series import map_label
from bids_sr.io.tables import read_frame
from bids_sr.io.word_lists import enumerate_words
from bids_sr.preproc.ants import apply, apply_to_points
from bids_sr.preproc.bold_regions import chain_through_t1w
from bids_sr.preproc.model_confounds import model_confounds
from bids_sr.preproc.temporal_regressors import uncensored_volumes
from bids_sr.spatial.itk_files import Transforms, write_itk

_LOGGER = logging.getLogger(__name__)
_ANTS_SEED = 1  # seed of ANTs, which does not use random numbers here
OWN_SEEDS_TEXT = (
    "Seed time series were extracted separately from each series, smoothed with the kernel of the"
    " map, so each map shows the correlation with the seed time series of the same series.\n"
)
"""Methods text of seed time series that are extracted from each series."""
COMPONENTS_TEXT = (
    "Because the run had neither events nor an anatomical image for placing seeds, its"
    " leading temporal components were mapped.\n"
)
"""Methods text of temporal components that replace events."""


@frozen
class SeedTemplate:
    """Transforms from a run to the template of the seeds, and atlas of their labels.

    All fields are empty if seed centers are in the frame of the run.

    `boldref2t1w_xfm` is the transform of T1w points to boldref points (RAS mm), and `t1w2std_xfm`
    the transform of template points to T1w points. `atlas` is None if no seed is defined by
    labels.
    """

    boldref2t1w_xfm: Transforms | None = None
    t1w2std_xfm: File | None = None
    atlas: Atlas | None = None

    def locate(
        self, seeds: Sequence[Seed], mask: Volume, here: Path
    ) -> tuple[Float, dict[str, Array]]:
        """Return centers of seeds in the frame of the run, and voxels of atlas seeds.

        Centers are (n, 3), RAS mm; voxels are on the grid of the mask, by name of the seed.
        Files are written to the folder `here`.
        """
        if self.boldref2t1w_xfm is None or self.t1w2std_xfm is None:
            points: Float = np.array([seed.center for seed in seeds])
        else:
            points = _transform_centers(seeds, self.boldref2t1w_xfm, self.t1w2std_xfm, here)
        if self.boldref2t1w_xfm is None or self.atlas is None:
            return points, {}
        chain = chain_through_t1w(self.boldref2t1w_xfm[0], self.atlas.atlas_xfms, here)
        return points, {
            seed.name: _find_region_voxels(self.atlas.select_region(seed.labels), mask, chain)
            for seed in seeds
            if seed.labels
        }


def _transform_centers(
    seeds: Sequence[Seed], boldref2t1w: Array, t1w2std: Path, here: Path
) -> Float:
    """Return centers of seeds in the frame of the boldref, (n, 3), RAS mm."""
    write_itk(here / "boldref2t1w.txt", boldref2t1w)
    # Points are transformed in the direction opposite to images.
    chain = [here / "boldref2t1w.txt", t1w2std]
    return apply_to_points([seed.center for seed in seeds], chain)


def _find_region_voxels(region: Volume, mask: Volume, chain: Sequence[Path]) -> Array:
    """Return the mask voxels whose center is transformed into a region by `chain`."""
    moving = region.like(region.data.astype(np.float32))
    reference = mask.like(mask.data.astype(np.float32))
    labels = apply(moving, reference, chain, seed=_ANTS_SEED, interpolator="nearestNeighbor")
    return mask.data & (labels > 0.5)


def describe_seeds(
    seeds: Sequence[Seed], atlas: str, folders: Sequence[Path] = (), _: int = 0
) -> str:
    """Return methods text of seeds that replace events.

    `atlas` is the atlas of labels. `folders` are the folders of finished `seed_series` steps,
    whose tables name the seeds inside the brain masks.
    """
    spheres = [
        f"{seed.name} ({' '.join(f'{mm:g}' for mm in seed.center)}; {seed.radius_mm:g} mm)"
        for seed in seeds
        if not seed.labels
    ]
    regions = [f"{seed.name} ({' and '.join(seed.labels)})" for seed in seeds if seed.labels]
    phrases = []
    if spheres:
        phrases.append(
            "spherical seeds at the following MNI coordinates [@vandijk2010]:"
            f" {', '.join(spheres)}"
        )
    if regions:
        phrases.append(f"seed regions of the {atlas_title(atlas)}: {', '.join(regions)}")
    return (
        "Because the run had no events, functional connectivity [@biswal1995] was mapped with"
        f" {' and with '.join(phrases)}. {_describe_excluded(seeds, folders)} The time series of"
        " each seed was extracted from the acquired series after regressing out drift and"
        " confounds, and replaced the task conditions in the design matrix of all series. Split"
        " halves of the run consisted of segments of about 30 s.\n"
    )


def _describe_excluded(seeds: Sequence[Seed], folders: Sequence[Path]) -> str:
    """Return a sentence on seeds outside the brain mask, or on the rule before the run."""
    if not folders:
        return "Seeds outside the brain mask of the run were excluded."
    names = [seed.name for seed in seeds]
    excluded: dict[str, None] = {}
    n_replaced = 0
    for folder in folders:
        columns = set(read_frame(folder / "regressors_timeseries.tsv"))
        if columns.isdisjoint(names):
            n_replaced += 1
        else:
            excluded |= dict.fromkeys(name for name in names if name not in columns)
    sentences = []
    if excluded:
        runs_text = "" if len(folders) == 1 else " of some runs"
        sentences.append(
            f"Seeds outside the brain mask{runs_text} were excluded"
            f" ({enumerate_words(list(excluded))})."
        )
    if n_replaced:
        runs_text = "" if len(folders) == 1 else f"In {n_replaced} of {len(folders)} runs, "
        start = "all" if runs_text else "All"
        sentences.append(
            f"{runs_text}{start} seeds were outside the brain mask, and the leading temporal"
            " components of the run were used instead."
        )
    return " ".join(sentences) or "All seeds were inside the brain mask of the run."


@step(Stage.SEEDS, makes=("regressors", "seeds_columns"))
def seed_series(
    preproc: Series,
    bold_mask: Mask,
    confounds: Confounds,
    here: Path = HERE,
    template: SeedTemplate | None = None,
    *,
    seeds: Sequence[Seed],
    n_dummy: int,
    design: DesignSettings,
    nuisance: list[str] | None,
) -> tuple[Regressors, Facts]:
    """Return mean time series of seeds, after regression of drift and confounds.

    Seeds are spheres and atlas regions defined in template space. If all seeds are outside the
    brain mask, temporal components are returned instead.

    `preproc` is motion-corrected and includes dummies. `bold_mask` is on the acquired grid.
    `confounds` have one row per volume. `template` has transforms and atlas; None if seed centers
    are in the frame of the run. The drift of `design` is regressed out, and the columns `nuisance`
    of the confounds; None for motion and aCompCor.

    Returns time series with one column per seed and one row per volume; and descriptions and
    positions of the columns.
    """
    template = template or SeedTemplate()
    points, regions = template.locate(seeds, bold_mask, here)
    voxels, facts = _place_seeds(seeds, bold_mask, points, regions)
    if not voxels:
        _LOGGER.warning(
            "None of the seeds is inside the field of view (%s), so the leading temporal"
            " components of the run are used instead. To use seeds, specify seeds inside the"
            " field of view with --set activation.seeds=NAME=x,y,z.",
            ", ".join(seed.name for seed in seeds),
        )
        components, component_facts = _extract_components(
            preproc, bold_mask, here, confounds, n_dummy, len(seeds)
        )
        return components, {**facts, **component_facts}
    time_series = glm_seeds.seed_series(preproc, voxels, n_dummy)
    inputs = DesignInputs(
        regressors=Seeds.standardize(time_series),
        confounds=confounds,
        n_dummy=n_dummy,
        design=design,
    )
    return _regress_nuisance(time_series, preproc, inputs, nuisance), facts


@step(
    Stage.EVALUATION,
    makes=("own_regressors", "own_seeds", "own_seeds_columns"),
)
def own_seed_series(
    masked: MaskedSeries,
    inputs: DesignInputs,
    here: Path = HERE,
    template: SeedTemplate | None = None,
    *,
    seeds: Sequence[Seed],
    nuisance: list[str] | None,
    smoothing: Sequence[float],
) -> tuple[list[Regressors], Table, Facts]:
    """Return seed time series extracted from one series, by smoothing width of the maps.

    The seeds are the seeds of the acquired series. If the acquired series has temporal components
    instead of seeds, its components are returned for all series.

    The regressors of `inputs` are the time series of the acquired series. A seed time series is
    the mean of voxels smoothed with a width of `smoothing` (FWHM, mm). Other parameters are as in
    `seed_series`.

    Returns time series per width; a table of all of them, with columns as in `map_label`; and
    descriptions and positions of the columns.
    """
    series, mask, regressors = masked.series, masked.mask, inputs.regressors
    modeled_seeds = [seed for seed in seeds if seed.name in regressors.conditions]
    if not modeled_seeds:
        return [regressors] * len(smoothing), _get_unscaled_table(regressors), {}
    template = template or SeedTemplate()
    points, regions = template.locate(modeled_seeds, mask, here)
    voxels, facts = _place_seeds(modeled_seeds, mask, points, regions, nearest=True)
    own_regressors = {
        width: _regress_nuisance(time_series, series, inputs, nuisance)
        for width, time_series in glm_seeds.smoothed_seed_series(
            series, voxels, smoothing, inputs.n_dummy
        ).items()
    }
    columns = {
        map_label(str(name), width): column
        for width, width_regressors in own_regressors.items()
        for name, column in _get_unscaled_table(width_regressors).items()
    }
    column_facts = {
        map_label(name, width): {**seed_facts, "SmoothingFWHM": width}
        for width in smoothing
        for name, seed_facts in facts.items()
    }
    return list(own_regressors.values()), pd.DataFrame(columns), column_facts


def _get_unscaled_table(regressors: Regressors) -> pd.DataFrame:
    """Return seed time series before standardization, one column per seed."""
    measured = regressors.measured if isinstance(regressors, Seeds) else None
    return regressors.table if measured is None else measured


def _place_seeds(
    seeds: Sequence[Seed],
    bold_mask: Volume,
    points: Float,
    regions: Mapping[str, Array],
    *,
    nearest: bool = False,
) -> tuple[dict[str, Array], dict[str, dict[str, object]]]:
    """Return voxels of the seeds inside the field of view, and descriptions of all seeds.

    `bold_mask` is on the grid of the series. `points` are centers in the frame of the run (n, 3;
    RAS mm), and `regions` the voxels of atlas seeds by name. If `nearest`, the nearest voxel
    represents a sphere without voxels, at any distance.

    Returns voxels by seed (X, Y, Z, boolean), and metadata of each seed.
    """
    voxels: dict[str, Array] = {}
    facts: dict[str, dict[str, object]] = {}
    for seed, point in zip(seeds, points, strict=True):
        try:
            if seed.labels:
                voxels[seed.name] = _check_region(seed, regions[seed.name])
            else:
                voxels[seed.name] = glm_seeds.seed_voxels(
                    bold_mask.data, bold_mask.affine, point, seed.radius_mm, nearest=nearest
                )
            description = _describe_seed(seed, int(voxels[seed.name].sum()))
        except ValueError as error:
            _LOGGER.warning("The seed %s is skipped: %s", seed.name, error)
            description = f"skipped: {error}"
        facts[seed.name] = {"Description": description, **_describe_position(seed, point)}
    return voxels, facts


def _check_region(seed: Seed, region: Array) -> Array:
    """Return the voxels of an atlas seed; a `ValueError` is raised if there are none."""
    if not region.any():
        raise ValueError(
            f"the brain mask contains no voxels with the label {', '.join(seed.labels)}"
        )
    return region


def _describe_seed(seed: Seed, n_voxels: int) -> str:
    """Return the description of the time series of a seed with a number of voxels."""
    location = (
        "with the specified labels"
        if seed.labels
        else f"within {seed.radius_mm:g} mm of the seed coordinates"
    )
    return (
        f"mean time series of {n_voxels} voxels {location}, after regression of drift and"
        " confounds"
    )


def _describe_position(seed: Seed, point: Float) -> dict[str, object]:
    """Return metadata on the labels or the center of a seed.

    `point` is the center in the frame of the run (3,; RAS mm).
    """
    if seed.labels:
        return {"Labels": list(seed.labels)}
    return {"CenterMNI": _round_mm(seed.center), "CenterBoldref": _round_mm(point)}


def _round_mm(point: Sequence[float] | Float) -> list[float]:
    """Return coordinates (mm) with three decimals."""
    return [round(float(mm), 3) for mm in point]


def _regress_nuisance(
    time_series: pd.DataFrame,
    series: SeriesReader,
    inputs: DesignInputs,
    nuisance: list[str] | None,
) -> Seeds:
    """Return seed time series after regression of drift and the confounds of the linear model.

    `series` is the series that the time series were extracted from.
    """
    inputs = replace(inputs, regressors=Seeds.standardize(time_series))
    design = inputs.build_design(series, model_confounds(inputs.confounds, nuisance))
    nuisance_columns = design.matrix[:, len(design.conditions) :]
    return Seeds.standardize(
        glm_seeds.regress_out(time_series, nuisance_columns, inputs.n_dummy, design.censored)
    )


@step(Stage.SEEDS, makes=("regressors", "seeds_columns"))
def component_series(
    preproc: Series,
    bold_mask: Mask,
    here: Path = HERE,
    confounds: Confounds | None = None,
    *,
    n_dummy: int,
) -> tuple[Regressors, Facts]:
    """Return the leading temporal components of a run, which replace seeds.

    The results are as in `seed_series`.

    `preproc` is motion-corrected, and `bold_mask` is on the acquired grid. Censored volumes of
    `confounds` are not used; None to use all steady-state volumes.
    """
    return _extract_components(preproc, bold_mask, here, confounds, n_dummy, N_COMPONENTS)


def _extract_components(
    preproc: SeriesReader,
    bold_mask: Volume,
    here: Path,
    confounds: pd.DataFrame | None,
    n_dummy: int,
    count: int,
) -> tuple[Seeds, Facts]:
    """Return at most `count` leading temporal components of a run, and their descriptions."""
    n_volumes = preproc.shape[3]
    is_used = uncensored_volumes(confounds, n_volumes)
    is_used[:n_dummy] = False
    censored = [int(volume) for volume in np.flatnonzero(~is_used) if volume >= n_dummy]
    components = temporal_components(
        preproc, bold_mask.data, n_dummy, min(count, N_COMPONENTS), here, censored
    )
    time_series = np.full((n_volumes, components.shape[1]), np.nan)
    time_series[n_dummy:] = components
    time_series[~is_used] = np.nan
    component_names = seed_names(())[: components.shape[1]]
    facts = {
        name: {"Description": "leading temporal component of the acquired series"}
        for name in component_names
    }
    return Seeds.standardize(pd.DataFrame(time_series, columns=list(component_names))), facts
