"""Trained models named by the user, opened and compared with an image."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal, NoReturn

from bids_sr.cli.models.commands.options import NetworkOptions, SeriesOptions
from bids_sr.config import machine, suggest_name
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.notices import UsageError
from bids_sr.spatial.matrices import MATRICES
from bids_sr.sr.method import get_method, method_names_without_controls
from bids_sr.sr.models.card import ModelError
from bids_sr.sr.models.compatibility import check_model
from bids_sr.sr.models.model import LoadedModel, load_model


def resolve_device_option(options: NetworkOptions | SeriesOptions) -> Literal["cpu", "cuda"]:
    """Return the torch device for the options: ``cuda`` if allowed and available, else ``cpu``.

    Raises `UsageError` if a CUDA device was requested but is not available.
    """
    uses_cuda = options.device != "cpu" and machine.has_gpu()
    if options.device == "cuda" and not uses_cuda:
        raise UsageError(
            "--device cuda", "torch did not find a usable CUDA device", "use --device cpu"
        )
    return "cuda" if uses_cuda else "cpu"


def open_model(name: str | Path) -> LoadedModel:
    """Open the file of a trained model; raise an error that also explains names of methods."""
    file = Path(name)
    if not file.exists() and file.suffix == "":
        _reject_name(str(name))
    if file.exists() and file.suffix != ".safetensors":
        raise ModelError(
            "expected a .safetensors file; files written by torch.save are not"
            " opened because they may contain executable code",
            file=file,
        )
    return load_model(file)


def _reject_name(name: str) -> NoReturn:
    """Raise `UsageError` for a word that is not a file, and explain names of methods."""
    methods = method_names_without_controls()
    if name in methods:
        raise UsageError(
            name,
            "this is the name of a method; expected the file of a trained model",
            f"train a model with bids-sr-models train {name} ..., or run bids-sr-models"
            " list to see the included models",
        )
    fix = (
        suggest_name(name, (*MATRICES, *methods))
        or "run bids-sr-models list to see the available models"
    )
    raise UsageError(name, "the name is neither an existing file nor an interpolation method", fix)


def check_applicable(
    model: LoadedModel,
    reader: SeriesReader,
    contrast: str,
    factor: Factor,
    *,
    allow: Collection[str] = (),
) -> list[str]:
    """Check that a model can be applied to an image, and return the accepted differences.

    `contrast` is the BIDS suffix of the image, and `factor` is the ratio of low-resolution to
    high-resolution voxel size. `allow` contains accepted properties (resolution, contrast, ...).
    Other differences raise `UsageError`.
    """
    card = model.card
    subject = f"a {card.method} model"
    run_options = f"--sr-method {card.method} --pretrained MODEL"
    if card.trained_on == "series":
        reason = (
            "the model describes the temporal variance of one run and is applied to signal"
            " changes relative to the mean of that run"
        )
        raise UsageError(subject, reason, f"use bids-sr ... {run_options}")
    if card.channels > 1:
        reason = (
            f"the model requires {card.channels} contrasts of the same participant, scaled"
            " together and on the same grid"
        )
        fix = f"use bids-sr ... --sr-target anat {run_options}, which prepares these contrasts"
        raise UsageError(
            f"{subject} for {card.contrast}", f"{reason}; only one contrast was specified", fix
        )
    method = get_method(card.method)
    if method.ndim == 3 and reader.shape[2] < 2:
        reason = f"{method.name} is a three-dimensional method, but the image has only one slice"
        raise UsageError(
            f"{reader.path}",
            reason,
            "use a slice-wise method; bids-sr-models list shows which methods are 2D",
        )
    if method.ndim == 2 and factor[2] != 1:
        reason = (
            f"{method.name} processes images slice by slice and cannot reduce the slice thickness"
        )
        raise UsageError(
            f"--factor {factor[0]:g} {factor[1]:g} {factor[2]:g}",
            reason,
            "set the third number to 1",
        )
    return check_model(card, reader.affine, contrast, factor, allow=allow)
