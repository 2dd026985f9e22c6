"""Training on the run itself: a shell around `bids_sr.sr.guided_train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    File,
    SimpleInterface,
    isdefined,
    traits,
)
from nipype.interfaces.base.support import Bunch

from bids_sr.interfaces._training import TrainingInputSpec, TrainingOutputSpec, factor_trait, request_of
from bids_sr.interfaces.superres import smoothed_guide

GUIDE_KINDS = ("highres", "t1w", "none")


class _TrainGuidedInputSpec(TrainingInputSpec):
    in_file = File(exists=True, mandatory=True, desc="series on its acquired grid, head motion undone")
    boldref = File(exists=True, mandatory=True, desc="reference of the run, on that grid")
    mask = File(exists=True, mandatory=True, desc="brain on that grid")
    n_dummy = traits.Range(low=0, value=0, usedefault=True, desc="first volumes to leave out")
    method = traits.Str("guided", usedefault=True, desc="method that is trained on the run")
    factor = factor_trait()
    hmc_xfms = File(
        exists=True, desc="ITK text, one transform a volume; motion is then no part of what is learned from"
    )
    guide_image = File(exists=True, desc="image of the anatomy as acquired")
    guide_xfm = File(exists=True, desc="ITK text, takes a boldref point to its point in the guide")
    calibration_sd = File(exists=True, desc="standard deviation map of a calibration, on its own grid")
    calibration_xfm = File(exists=True, desc="ITK text, takes a boldref point to its point in the calibration")
    calibration_json = File(exists=True, desc="what is known of the calibration: usable, reason")
    guide_kind = traits.Enum(*GUIDE_KINDS, usedefault=True, desc="what the guide is")


class _TrainGuidedOutputSpec(TrainingOutputSpec):
    log_file = File(exists=True, desc="training log (TSV); psnr is the gain over zero filling on held-out slices (dB)")
    temporal_file = File(exists=True, desc="acquired grid: mean, SD of the change, then its strongest components")
    kernels_file = File(exists=True, desc="fine grid: sharpening, anisotropy, cosine and sine of twice the angle")


class TrainGuided(SimpleInterface):
    """Learn from a run how its changes follow anatomy and their own variance, or take what was learned elsewhere.

    A killed training goes on from its last checkpoint.
    """

    input_spec = _TrainGuidedInputSpec
    output_spec = _TrainGuidedOutputSpec
    _can_resume = True  # nipype keeps the directory of a node that was killed, and with it the checkpoint

    def _run_interface(self, runtime: Bunch) -> Bunch:
        from threadpoolctl import threadpool_limits

        from bids_sr.sr.guards import check_model, describe
        from bids_sr.sr.model import load_model
        from bids_sr.sr.store import obtain_model
        from bids_sr.sr.temporal import save_statistics

        inputs, out = self.inputs, Path(runtime.cwd)
        temporal, kernels = out / "temporal.nii", out / "kernels.nii"
        with threadpool_limits(inputs.threads):
            data, guide, header = _training_series(inputs, out)
            save_statistics(data.statistics, data.affine, temporal, header)
            model, card, log = obtain_model(request_of(inputs), data, out)
            loaded = load_model(model)
            check_model(loaded.card, describe(data.affine, data.contrast, data.factor), force=inputs.force)
            if loaded.card.get("guide_kind") != inputs.guide_kind:
                raise ValueError(
                    f"{model}: guided by {loaded.card.get('guide_kind')!r}, the guide here is {inputs.guide_kind!r}"
                )
            _save_kernels(loaded, data, guide, kernels, inputs.threads)
        self._results |= {
            "model_file": str(model), "card_file": str(card), "log_file": str(log), "temporal_file": str(temporal),
            "kernels_file": str(kernels),
        }  # fmt: skip
        return runtime


def _training_series(inputs: Any, folder: Path) -> tuple[Any, Any, Any]:
    """(`TrainingSeries`, guide as `PosedImage` or None, header of the run)."""

    from bids_sr.spatial.nifti import load_image
    from bids_sr.spatial.transforms import hr_grid, read_itk
    from bids_sr.sr.guided_train import TrainingSeries
    from bids_sr.sr.method import SeriesRecipe, get_method, get_recipe
    from bids_sr.sr.temporal import COMPONENTS, motion_courses, open_uncompressed, temporal_statistics

    mask, moving = load_image(inputs.mask)[0] > 0.5, isdefined(inputs.hmc_xfms)
    recipe = get_recipe(get_method(inputs.method), inputs.recipe)
    count = recipe.components if isinstance(recipe, SeriesRecipe) else COMPONENTS
    with open_uncompressed(inputs.in_file, folder) as reader:
        nuisance = motion_courses(read_itk(inputs.hmc_xfms), _center(mask, reader.affine)) if moving else None
        statistics = temporal_statistics(reader, mask, inputs.n_dummy, count, nuisance=nuisance)
        affine, shape, header = reader.affine, reader.shape[:3], reader.header
    guide = _guide(inputs, shape, affine)
    fine, grid = hr_grid(shape, affine, inputs.factor)
    data = TrainingSeries(
        statistics=statistics, mask=mask, affine=affine, factor=tuple(inputs.factor), guide_kind=inputs.guide_kind,
        guide=None if guide is None else guide.seen(fine, grid, None),
    )  # fmt: skip
    return data, guide, header


def _center(mask: Any, affine: Any) -> Any:
    """Middle of a mask in mm."""
    import numpy as np

    return affine[:3, :3] @ np.argwhere(mask).mean(0) + affine[:3, 3]


def _guide(inputs: Any, shape: Any, affine: Any) -> Any:
    """The guide as a `PosedImage`, or None."""
    from bids_sr.spatial.nifti import load_image
    from bids_sr.spatial.transforms import read_itk
    from bids_sr.sr.guides import PosedImage

    if inputs.guide_kind == "none":
        return None
    if not (isdefined(inputs.guide_image) and isdefined(inputs.guide_xfm)):
        raise ValueError(f"a guide of kind {inputs.guide_kind} needs guide_image and guide_xfm")
    if inputs.guide_kind == "t1w":
        return smoothed_guide(inputs.guide_image, inputs.guide_xfm, shape, affine, inputs.factor)
    data, own = load_image(inputs.guide_image)
    return PosedImage(data=data, affine=own, from_boldref=read_itk(inputs.guide_xfm)[0])


def _save_kernels(model: Any, data: Any, guide: Any, path: Path, threads: int) -> None:
    """Where the kernels sharpen, in the pose of the reference."""
    import numpy as np

    from bids_sr.spatial.nifti import save_image
    from bids_sr.sr.guided_apply import Guides, kernel_maps, predict_kernels
    from bids_sr.sr.loop import torch_threads

    with torch_threads(threads):
        guides = Guides(data.statistics, data.mask, data.affine, data.factor, guide)
        taps = predict_kernels(model.generator, guides.channels(None))
    save_image(kernel_maps(taps), guides.fine_affine, path, dtype=np.float32, tr=1.0)
