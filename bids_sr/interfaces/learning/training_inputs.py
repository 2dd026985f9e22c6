"""What every step with a network is told, where torch computes, and what steps give that train one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nipype.interfaces.base import BaseInterfaceInputSpec, Directory, File, TraitedSpec, traits

from bids_sr.sr.device import choose_device as choose_device

if TYPE_CHECKING:
    from bids_sr.sr.models.compatibility import Acquisition
    from bids_sr.sr.resolution.matrices import Factor


class DeviceInputSpec(BaseInterfaceInputSpec):
    """Inputs of a step that may use the GPU, which the scheduler lends to one step at a time by `use_gpu`."""

    device = traits.Enum("auto", "cpu", "cuda", usedefault=True, desc="auto takes CUDA where there is some")
    threads = traits.Range(low=1, value=1, usedefault=True, desc="threads of torch and of matrix products")
    use_gpu = traits.Bool(False, usedefault=True, nohash=True, desc="waits for the GPU; set by the scheduler")


class TrainingInputSpec(DeviceInputSpec):
    """Inputs that say which model is wanted and how it may be had."""

    method = traits.Str(mandatory=True, desc="super-resolution method")
    recipe = traits.Enum("fast", "paper", "paper-mse", usedefault=True, desc="how it is trained")
    model_source = traits.Enum("auto", "train", "reuse", usedefault=True, desc="whether a model may be reused")
    model_dir = Directory(desc="where models to reuse lie; it may be missing")
    pretrained = File(exists=True, desc="weights to use instead of training")
    seed = traits.Int(0, usedefault=True, desc="of all that is drawn: data, weights, batches and augmentation")
    max_train_minutes = traits.Float(desc="stop on the clock; the model cannot be reproduced then")
    force = traits.Bool(False, usedefault=True, desc="use a model that does not fit the data")
    sloppy = traits.Bool(False, usedefault=True, desc="a handful of iterations (tests only)")


class PerceptualInputSpec(TrainingInputSpec):
    """Inputs where recipes with a perceptual term may be asked for."""

    vgg_weights = File(exists=True, desc="VGG-19, for recipes with a perceptual term")


class TrainingOutputSpec(TraitedSpec):
    """The model."""

    model_file = File(exists=True, desc="weights (safetensors)")
    card_file = File(exists=True, desc="model card (JSON)")
    log_file = File(exists=True, desc="training log (TSV)")


def obtain(
    inputs: Any, data: Any, folder: str | Path, image: Acquisition | None,
    factor: Factor | None = None, align: str | None = None,
) -> dict[str, str]:  # fmt: skip
    """Train or find the model that is wanted, and refuse one that does not fit; returns its files by output.

    Parameters
    ----------
    data : to train on, or None
    image : that the model has to serve, or None
    factor, align : see `bids_sr.sr.training.job.Training`
    """
    from bids_sr.sr.method import get_method
    from bids_sr.sr.models.model import load_model
    from bids_sr.sr.training.job import Training
    from bids_sr.steps.training import obtained

    paths = {name: getattr(inputs, name, None) for name in ("model_dir", "pretrained", "vgg_weights")}
    given: dict[str, Any] = {name: Path(path).absolute() for name, path in paths.items() if path is not None}
    if getattr(inputs, "start", None):
        given["start"] = load_model(inputs.start)
    training = Training(
        method=get_method(inputs.method), recipe=inputs.recipe, source=inputs.model_source, seed=inputs.seed,
        factor=factor, align=align, threads=inputs.threads, device=choose_device(inputs.device), sloppy=inputs.sloppy,
        max_train_minutes=inputs.max_train_minutes, **given,
    )  # fmt: skip
    made = obtained(training, data, Path(folder), image, force=inputs.force)
    return {"model_file": str(made[0]), "card_file": str(made[1]), "log_file": str(made[2])}
