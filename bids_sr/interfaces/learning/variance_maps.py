"""Variance maps of a run: a shell around `bids_sr.sr.variance`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype.interfaces.base import File, SimpleInterface, isdefined, traits

from bids_sr.interfaces.learning.training_inputs import TrainingInputSpec, TrainingOutputSpec, obtain
from bids_sr.interfaces.shared_specs import FACTOR


class EstimateVariance(SimpleInterface):
    """Find where a run fluctuates on the high-resolution grid, or take maps that were found before."""

    class input_spec(TrainingInputSpec):
        in_file = File(exists=True, mandatory=True, desc="series on its acquired grid, head motion undone")
        mask = File(exists=True, mandatory=True, desc="brain on that grid")
        n_dummy = traits.Range(low=0, value=0, usedefault=True, desc="first volumes to leave out")
        method = traits.Str("sbl", usedefault=True, desc="method whose maps they are")
        factor = FACTOR
        hmc_xfms = File(exists=True, desc="ITK text, one transform a volume; what follows head motion is taken out")

        calibration_sd = File(exists=True, desc="standard deviation map of a calibration, on its own grid")
        calibration_sd_low = File(exists=True, desc="the same at the resolution of the run, on a grid of its own")
        calibration_xfm = File(exists=True, desc="ITK text, takes a boldref point to its point in the calibration")
        calibration_json = File(exists=True, desc="whether it is usable, and what was measured")

    class output_spec(TrainingOutputSpec):
        log_file = File(exists=True, desc="rounds of the estimation (TSV)")
        temporal_file = File(exists=True, desc="acquired grid: mean, SD of the change, then its strongest components")
        weight_file = File(
            exists=True, desc="high-resolution grid: standard deviation of the fluctuations, signal units"
        )

    def _run_interface(self, runtime: Any) -> Any:
        from threadpoolctl import threadpool_limits

        from bids_sr.sr.data.temporal_components import save_statistics
        from bids_sr.sr.models.compatibility import describe
        from bids_sr.sr.models.model import load_model

        inputs, out = self.inputs, Path(runtime.cwd)
        temporal, weight = out / "temporal.nii", out / "weight.nii"
        with threadpool_limits(inputs.threads):
            data, header = _run_data(inputs, out)
            save_statistics(data.statistics, data.affine, temporal, header)
            made = obtain(inputs, data, out, describe(data.affine, data.contrast, data.factor))
            _save_weight(load_model(made["model_file"]), data, weight)
        self._results |= made | {"temporal_file": str(temporal), "weight_file": str(weight)}
        return runtime


def _run_data(inputs: Any, folder: Path) -> tuple[Any, Any]:
    """(`RunData`, header of the run)."""
    from bids_sr.io.nifti import load_image
    from bids_sr.spatial.transforms import read_itk
    from bids_sr.sr.data.temporal_components import (
        halves_of,
        mean_only,
        motion_courses,
        open_uncompressed,
        temporal_statistics,
        too_short,
    )
    from bids_sr.sr.method import get_method, get_recipe, recipe_name
    from bids_sr.sr.recipe import VarianceRecipe
    from bids_sr.sr.variance.fit_variance import LEAST_HALF, RunData

    mask, moving = load_image(inputs.mask)[0] > 0.5, isdefined(inputs.hmc_xfms)
    method = get_method(inputs.method)
    recipe = get_recipe(method, recipe_name(method, inputs.recipe))
    if not isinstance(recipe, VarianceRecipe):
        raise ValueError(f"{inputs.method} finds no variance maps")
    with open_uncompressed(inputs.in_file, folder) as reader:
        nuisance = motion_courses(read_itk(inputs.hmc_xfms), _center(mask, reader.affine)) if moving else None
        if too_short(reader, inputs.n_dummy):
            statistics, halves = mean_only(reader, inputs.n_dummy), None
        else:
            statistics = temporal_statistics(reader, mask, inputs.n_dummy, recipe.components, nuisance=nuisance)
            halves = None
            if recipe.least_explained is not None:  # a control is not put to that test
                halves = halves_of(reader, mask, inputs.n_dummy, recipe.components, nuisance, LEAST_HALF)
        affine, header = reader.affine, reader.header
    data = RunData(
        statistics=statistics, halves=halves, mask=mask, affine=affine, factor=tuple(inputs.factor),
        **_measured(inputs, mask.shape, affine),
    )  # fmt: skip
    return data, header


def _measured(inputs: Any, shape: Any, affine: Any) -> dict[str, Any]:
    """Standard deviation maps of the calibration on the run's two grids; nothing where none can be used."""
    import json

    from bids_sr.io.nifti import load_image
    from bids_sr.spatial.transforms import hr_grid, read_itk
    from bids_sr.sr.inference.guided_baselines import PosedImage

    if not isdefined(inputs.calibration_sd):
        return {}
    if not json.loads(Path(inputs.calibration_json).read_text(encoding="utf-8"))["usable"]:
        return {}
    found = {}
    grids = {"measured": (inputs.calibration_sd, *hr_grid(shape, affine, inputs.factor))}
    grids["measured_low"] = (inputs.calibration_sd_low, shape, affine)
    for name, (path, size, grid) in grids.items():
        data, own = load_image(path)
        image = PosedImage(data=data, affine=own, from_boldref=read_itk(inputs.calibration_xfm)[0])
        found[name] = image.seen((int(size[0]), int(size[1]), int(size[2])), grid, None).clip(0)
    return found


def _center(mask: Any, affine: Any) -> Any:
    """Middle of a mask in mm."""
    import numpy as np

    return affine[:3, :3] @ np.argwhere(mask).mean(0) + affine[:3, 3]


def _save_weight(model: Any, data: Any, path: Path) -> None:
    """Root of the summed squared maps on the boldref's high-resolution grid."""
    import numpy as np

    from bids_sr.io.nifti import save_image
    from bids_sr.spatial.transforms import hr_grid
    from bids_sr.sr.resolution.operators import to_volume
    from bids_sr.sr.variance.upsampler import onto_grid

    shape, affine = hr_grid(data.statistics.mean.shape, data.affine, data.factor)
    maps = onto_grid(model.generator.weight, (int(shape[0]), int(shape[1]), int(shape[2])))
    save_image(to_volume(maps.square().sum(0).sqrt()), affine, path, dtype=np.float32)
