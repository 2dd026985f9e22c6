"""Variance maps of a run: a shell around `bids_sr.sr.variance`."""

from pathlib import Path
from typing import Any

from nipype.interfaces.base import File, traits

from bids_sr.interfaces.learning.training_inputs import TrainingInputSpec, TrainingOutputSpec, obtain
from bids_sr.interfaces.steps import FACTOR, Step


class EstimateVariance(Step):
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

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from threadpoolctl import threadpool_limits

        from bids_sr.sr.data.temporal_components import save_statistics
        from bids_sr.sr.models.compatibility import describe
        from bids_sr.sr.models.model import load_model

        temporal, weight = here / "temporal.nii", here / "weight.nii"
        with threadpool_limits(inputs.threads):
            data, header = _run_data(inputs, here)
            save_statistics(data.statistics, data.affine, temporal, header)
            made = obtain(inputs, data, here, describe(data.affine, data.contrast, data.factor))
            _save_weight(load_model(made["model_file"]), data, weight)
        return made | {"temporal_file": str(temporal), "weight_file": str(weight)}


def _run_data(inputs: Any, folder: Path) -> tuple[Any, Any]:
    """(`RunData`, header of the run)."""
    from bids_sr.io.nifti import load_image
    from bids_sr.spatial.transforms import read_itk
    from bids_sr.sr.data.temporal_components import open_uncompressed
    from bids_sr.sr.method import get_method, get_recipe, recipe_name
    from bids_sr.sr.recipe import VarianceRecipe
    from bids_sr.sr.variance.run_data import run_data

    mask = load_image(inputs.mask)[0] > 0.5
    method = get_method(inputs.method)
    recipe = get_recipe(method, recipe_name(method, inputs.recipe))
    if not isinstance(recipe, VarianceRecipe):
        raise ValueError(f"{inputs.method} finds no variance maps")
    with open_uncompressed(inputs.in_file, folder) as reader:
        data = run_data(
            reader, mask, recipe, tuple(inputs.factor), n_dummy=inputs.n_dummy,
            poses=read_itk(inputs.hmc_xfms) if inputs.hmc_xfms else None,
            measured=_measured(inputs, mask.shape, reader.affine),
        )  # fmt: skip
        return data, reader.header


def _measured(inputs: Any, shape: Any, affine: Any) -> Any:
    """Standard deviation maps of the calibration on the run's two grids; None where none can be used."""
    import json

    from bids_sr.io.nifti import load_image
    from bids_sr.spatial.transforms import read_itk
    from bids_sr.sr.variance.run_data import measured_on_run

    if inputs.calibration_sd is None:
        return None
    if not json.loads(Path(inputs.calibration_json).read_text(encoding="utf-8"))["usable"]:
        return None
    maps = load_image(inputs.calibration_sd), load_image(inputs.calibration_sd_low)
    return measured_on_run(*maps, read_itk(inputs.calibration_xfm)[0], shape, affine, tuple(inputs.factor))


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
