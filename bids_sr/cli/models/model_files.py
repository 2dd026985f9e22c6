"""Trained models that the user names: opened, checked against an image, or refused."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path

from bids_sr.cli.models.options import MachineOptions
from bids_sr.config import UsageError, machine, nearest_name
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import ImageError, SeriesReader
from bids_sr.spatial.masks import MaskError
from bids_sr.spatial.transforms import TransformError
from bids_sr.sr.data.images import TrainingDataError
from bids_sr.sr.former_names import renaming
from bids_sr.sr.inference.acquired import InferenceError
from bids_sr.sr.matrices import MATRICES, ResolutionError
from bids_sr.sr.method import UnknownMethod, get_method, offered_methods
from bids_sr.sr.models.card import ModelError
from bids_sr.sr.models.compatibility import check_model
from bids_sr.sr.models.model import LoadedModel, load_model

REFUSALS = (
    ImageError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    InferenceError,
    MaskError,
    ModelError,
    ResolutionError,
    TrainingDataError,
    TransformError,
    UnknownMethod,
)


def device_of(options: MachineOptions) -> str:
    """The device of torch; refuses what this machine has not.

    ``cuda`` where it is not ruled out and a GPU is usable, else ``cpu``.
    """
    found = options.device != "cpu" and machine.has_gpu()
    if options.device == "cuda" and not found:
        raise UsageError(
            "--device cuda", "torch did not find a usable CUDA device", "use --device cpu"
        )
    return "cuda" if found else "cpu"


def open_model(name: str | Path) -> LoadedModel:
    """A trained model by its file; a name of a method, or a misspelt one, gets its own refusal."""
    file = Path(name)
    if not file.exists() and file.suffix == "":
        known = offered_methods()
        if str(name) in known:
            fix = (
                f"train a model with bids-sr-models train {name} ..., or run bids-sr-models"
                " list to see the included models"
            )
            raise UsageError(
                f"{name}",
                "this is the name of a method; expected the file of a trained model",
                fix,
            )
        fix = (
            nearest_name(str(name), (*MATRICES, *known))
            or "run bids-sr-models list to see the available models"
        )
        raise UsageError(
            f"{name}", "the name is neither an existing file nor an interpolation method", fix
        )
    if file.exists() and file.suffix != ".safetensors":
        raise ModelError(
            f"{file}: expected a .safetensors file; files written by torch.save are not"
            " opened because they may contain executable code"
        )
    model = load_model(file)
    if renamed := renaming(model.card.json):
        # the standard output may be a card in JSON
        print(f"Note: {file}: {renamed}", file=sys.stderr)
    return model


def fit_for(
    model: LoadedModel,
    reader: SeriesReader,
    contrast: str,
    factor: Factor,
    *,
    force: bool,
    allow: Collection[str] = (),
) -> list[str]:
    """Refuse a misfit model (UsageError); return the differences that are allowed.

    `force` allows all differences, `allow` those that it names (resolution, contrast, ...).

    Misfits in words; empty for none.
    """
    card = model.card
    what, option = f"a {card.method} model", f"--sr-method {card.method} --pretrained MODEL"
    if card.trained_on == "series":
        why = (
            "the model describes the temporal variance of one run and is applied to signal"
            " changes relative to the mean of that run"
        )
        raise UsageError(what, why, f"use bids-sr ... {option}")
    if card.channels > 1:
        why = (
            f"the model requires {card.channels} contrasts of the same participant, scaled"
            " together and on the same grid"
        )
        fix = f"use bids-sr ... --sr-target anat {option}, which prepares these contrasts"
        raise UsageError(
            f"{what} for {card.contrast}", f"{why}; only one contrast was specified", fix
        )
    method = get_method(card.method)
    if method.ndim == 3 and reader.shape[2] < 2:
        why = f"{method.name} is a three-dimensional method, but the image has only one slice"
        raise UsageError(
            f"{reader.path}",
            why,
            "use a slice-wise method; bids-sr-models list shows which methods are 2D",
        )
    if method.ndim == 2 and factor[2] != 1:
        what = f"--factor {factor[0]:g} {factor[1]:g} {factor[2]:g}"
        why = (
            f"{method.name} processes images slice by slice and cannot reduce the slice thickness"
        )
        raise UsageError(what, why, "set the third number to 1")
    return check_model(card, reader.affine, contrast, factor, force=force, allow=allow)
