"""Time series of seeds and of temporal components of a run without events."""

import logging
from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec, traits

from bids_sr.interfaces.steps import Step, saved_json, timing

LOGGER = logging.getLogger(__name__)


class _RunInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="acquired series, head motion undone, dummies included")
    bold_mask = File(exists=True, mandatory=True, desc="brain on its grid")
    n_dummy = traits.Range(low=0, value=0, usedefault=True, desc="volumes at the start that are left out")


class _SeriesOutputSpec(TraitedSpec):
    out_file = File(exists=True, desc="a column a seed, a row a volume; n/a in volumes that are left out")
    out_json = File(exists=True, desc="what the columns are")


class SeedSeries(Step):
    """Mean time series of spheres and atlas regions that are given in the template, without drift and confounds."""

    class input_spec(_RunInputSpec):
        seeds = traits.List(mandatory=True, desc="`bids_sr.config.seed_options.Seed`")
        confounds_tsv = File(exists=True, mandatory=True, desc="one row a volume; what the linear model has of it goes")
        high_pass = traits.Float(mandatory=True, desc="Hz; slower is drift")
        tr = traits.Float(mandatory=True, desc="repetition time (s)")
        slice_time_ref = traits.Float(0.5, usedefault=True, desc="moment within a TR of slice timing correction")
        has_stc = traits.Bool(False, usedefault=True, desc="slice timing was corrected")
        boldref2t1w_xfm = File(exists=True, mandatory=True, desc="takes a T1w point to its boldref point")
        t1w2std_xfm = File(exists=True, mandatory=True, desc="takes a template point to its T1w point")
        std2t1w_xfm = File(exists=True, desc="takes a T1w point to its template point; needed with labels")
        seed = traits.Int(1, usedefault=True, desc="of everything random in antspyx")

    output_spec = _SeriesOutputSpec

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.io.nifti import SeriesReader
        from bids_sr.stats.glm.seeds import seed_series

        voxels, facts = _placed(inputs, here)
        if not voxels:
            names = ", ".join(seed.name for seed in inputs.seeds)
            raise ValueError(
                f"no seed lies in the field of view of {inputs.in_file} ({names}); name others with --seeds "
                "NAME=x,y,z, or take --seeds components"
            )
        with SeriesReader(inputs.in_file) as reader:
            table = _cleared(seed_series(reader, voxels, inputs.n_dummy), inputs)
        return _write(table, facts, here)


def _placed(inputs: Any, cwd: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Voxels of the seeds that lie in the field of view, and what is told of every one."""
    from bids_sr.interfaces.statmap_interfaces import to_template
    from bids_sr.io.nifti import load_image
    from bids_sr.registration.ants import apply_to_points
    from bids_sr.stats.glm.seeds import seed_voxels

    mask, affine = load_image(inputs.bold_mask)
    chain = [inputs.boldref2t1w_xfm, inputs.t1w2std_xfm]  # the other way round than for an image of the template
    points = apply_to_points([seed.center for seed in inputs.seeds], chain, seed=inputs.seed)
    voxels, facts = {}, {}
    for seed, point in zip(inputs.seeds, points, strict=True):
        name, own, radius = seed.name, list(seed.labels), seed.radius_mm
        placed = {"Labels": own} if own else {"CenterMNI": _rounded(seed.center), "CenterBoldref": _rounded(point)}
        try:
            if own:
                voxels[name] = _atlas_voxels(own, mask > 0.5, affine, to_template(inputs, cwd), inputs.seed)
            else:
                voxels[name] = seed_voxels(mask > 0.5, affine, point, radius)
            within = "of the labels" if own else f"within {radius:g} mm"
            about = f"mean of {int(voxels[name].sum())} voxels {within}, without drift and confounds"
        except ValueError as error:
            LOGGER.warning("the seed %s is left out: %s", name, error)
            about = f"left out: {error}"
        facts[name] = {"Description": about, **placed}
    return voxels, facts


def _atlas_voxels(labels: list[str], mask: Any, affine: Any, chain: list[str], seed: int) -> Any:
    """Voxels of the mask whose center `chain` takes into labels of the atlas; ValueError where there is none."""
    import numpy as np

    from bids_sr.registration.ants import Image, apply, load
    from bids_sr.registration.templates import atlas_file, atlas_region

    region = atlas_region(load(atlas_file()), labels)
    moving = Image(data=region.data.astype(np.float32), affine=region.affine)
    reference = Image(data=mask.astype(np.float32), affine=affine)
    found = mask & (apply(moving, reference, chain, seed=seed, interpolator="nearestNeighbor") > 0.5)
    if not found.any():
        raise ValueError(f"no voxel of the brain lies in {', '.join(labels)}")
    return found


def _cleared(table: Any, inputs: Any) -> Any:
    """Time series without drift and without the confounds of the linear model."""
    from bids_sr.interfaces.statmap_interfaces import default_confounds
    from bids_sr.stats.glm.design import build_design, read_confounds
    from bids_sr.stats.glm.regressors import Seeds
    from bids_sr.stats.glm.seeds import without

    names = default_confounds(inputs.confounds_tsv)
    design = build_design(
        Seeds.of(table), n_volumes=len(table), confounds=read_confounds(inputs.confounds_tsv),
        confound_names=names, **timing(inputs),
    )  # fmt: skip
    return without(table, design.matrix[:, len(design.conditions) :], inputs.n_dummy)


class ComponentSeries(Step):
    """The leading temporal components of a run, in the place of seeds."""

    input_spec = _RunInputSpec
    output_spec = _SeriesOutputSpec

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        import numpy as np
        import pandas as pd

        from bids_sr.config.seed_options import N_COMPONENTS, seed_names
        from bids_sr.io.nifti import SeriesReader, load_image
        from bids_sr.stats.glm.block_effects import temporal_components

        mask = load_image(inputs.bold_mask)[0] > 0.5
        with SeriesReader(inputs.in_file) as reader:
            found = temporal_components(reader, mask, inputs.n_dummy, N_COMPONENTS, here / "components.raw")
            values = np.full((reader.shape[3], found.shape[1]), np.nan)
        values[inputs.n_dummy :] = found
        names = seed_names(())[: found.shape[1]]
        facts = {name: {"Description": "leading temporal component of the acquired series"} for name in names}
        return _write(pd.DataFrame(values, columns=names), facts, here)


def _rounded(point: Any) -> list[float]:
    return [round(float(mm), 3) for mm in point]


def _write(table: Any, facts: dict[str, Any], cwd: Path) -> dict[str, str]:
    """Table and description under names by which they are known as time series."""
    from bids_sr.stats.glm.regressors import Seeds

    Seeds(table).write(cwd / "seeds_timeseries.tsv")
    out_json = saved_json(cwd / "seeds_timeseries.json", facts)
    return {"out_file": str(cwd / "seeds_timeseries.tsv"), "out_json": out_json}
