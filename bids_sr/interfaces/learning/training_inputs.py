"""What every step with a network is told, where torch computes, and what steps give that train one."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nipype.interfaces.base import BaseInterfaceInputSpec, Directory, File, TraitedSpec, traits

if TYPE_CHECKING:
    from bids_sr.sr.models.compatibility import Acquisition
    from bids_sr.sr.models.model_store import Request
    from bids_sr.sr.resolution.matrices import Factor


class DeviceInputSpec(BaseInterfaceInputSpec):
    """Inputs of a step that may use the GPU, which the scheduler lends to one step at a time by `use_gpu`."""

    device = traits.Enum("auto", "cpu", "cuda", usedefault=True, desc="auto takes CUDA where there is some")
    threads = traits.Range(low=1, value=1, usedefault=True, desc="threads of torch and of matrix products")
    use_gpu = traits.Bool(False, usedefault=True, nohash=True, desc="waits for the GPU; set by the scheduler")


def choose_device(device: str) -> str:
    """The device of torch: "auto" is CUDA where a device works; asking for CUDA in vain is an error."""
    if device == "cpu" or (device == "auto" and why_no_cuda()):
        return "cpu"
    if device == "cuda" and why_no_cuda():
        raise RuntimeError(f"--device cuda: {why_no_cuda()}; use --device cpu or auto")
    return "cuda"


@cache
def why_no_cuda() -> str:
    """Why CUDA cannot be used in this process, or "": a device may be there and too old, taken, or out of order."""
    import torch

    if not torch.cuda.is_available():
        return "torch finds no CUDA device here"
    try:
        torch.ones(8, device="cuda").sum().item()
    except RuntimeError as error:
        return f"the CUDA device does not work: {str(error).strip().splitlines()[0]}"
    return ""


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
    factor, align : see `bids_sr.sr.models.model_store.Request`

    """
    from threadpoolctl import threadpool_limits

    from bids_sr.sr.models.compatibility import check_model
    from bids_sr.sr.models.model import read_card
    from bids_sr.sr.models.model_store import obtain_model

    with threadpool_limits(inputs.threads):
        model, card, log = obtain_model(request_of(inputs, factor, align), data, Path(folder))
    if image is not None:
        check_model(read_card(model), image, force=inputs.force)
    return {"model_file": str(model), "card_file": str(card), "log_file": str(log)}


def request_of(inputs: Any, factor: Factor | None = None, align: str | None = None) -> Request:
    """Traits to a `Request`; what is not given keeps the default of that class.

    Parameters
    ----------
    inputs : of the step
    factor : where the data do not tell it
    align : structural scans: what brought those of a head together
    """
    from bids_sr.sr.method import get_method, recipe_name
    from bids_sr.sr.models.model_store import Request

    names = ("model_dir", "pretrained", "vgg_weights", "start")
    paths = {name: getattr(inputs, name, None) for name in names}
    given: dict[str, Any] = {name: Path(path).absolute() for name, path in paths.items() if path is not None}
    if inputs.max_train_minutes is not None:
        given["max_minutes"] = inputs.max_train_minutes
    recipe = recipe_name(get_method(inputs.method), inputs.recipe)
    return Request(
        method=inputs.method, recipe=recipe, source=inputs.model_source, seed=inputs.seed, factor=factor, align=align,
        threads=inputs.threads, device=choose_device(inputs.device), sloppy=inputs.sloppy, **given,
    )  # fmt: skip
