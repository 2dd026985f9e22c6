"""The card of a model: what it was made from, how, and what it reached, as plain values for JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bids_sr.sr.data.training_pair import TrainingPair
from bids_sr.sr.method import Method
from bids_sr.sr.models.compatibility import slice_orientation
from bids_sr.sr.models.training_domain import domain_entry
from bids_sr.sr.recipe import Recipe, VarianceRecipe
from bids_sr.sr.resolution.degradation import fine_size
from bids_sr.sr.training.journal import log_tsv as log_tsv

if TYPE_CHECKING:
    from bids_sr.sr.data.images import ImageSet
    from bids_sr.sr.data.windows import Windows
    from bids_sr.sr.models.model import LoadedModel
    from bids_sr.sr.variance.fit_variance import RunData

# of `Recipe`, added after models had been made
_YOUNGER = (
    "epochs", "patches", "look_epochs", "decay_from", "final_learning_rate", "plateau_patience", "plateau_factor",
    "critic_game", "weight_clip", "penalty_weight", "objective", "degradation", "factors", "freeze_but_last",
    "keep_critic", "intensity", "patch_at_most",
)  # fmt: skip


def plain_recipe(recipe: Recipe, *, vgg: bool | None = None) -> dict[str, Any]:
    """The recipe's numbers, for the card; of its losses those that are on with or without weights of VGG-19.

    Without `vgg` all losses that the recipe may have are listed, as in cards before 0.2.

    Settings younger than the first models appear only where they are not the default: what was trained before they
    came would be trained alike today, and is found again by comparing these.
    """
    if isinstance(recipe, VarianceRecipe):
        estimator = {"components": recipe.components, "least_explained": recipe.least_explained}
        return json.loads(json.dumps(asdict(recipe.estimator) | estimator))
    skip = ("build_generator", "build_critic", "losses", "augmentation", "build_penalty", "build_backward")
    out: dict[str, Any] = {
        f.name: getattr(recipe, f.name)
        for f in fields(recipe)
        if f.name not in skip and not (f.name in _YOUNGER and getattr(recipe, f.name) == f.default)
    }
    terms = recipe.losses if vgg is None else recipe.terms_on(vgg)
    out["losses"] = {f"{t.kind}:{getattr(t.build, '__name__', t.build)}": t.weight for t in terms}
    return json.loads(json.dumps(out | {"augmentation": asdict(recipe.augmentation)}))


def perceptual_entry(recipe: Recipe, checksum: str | None, weights: Path | None) -> dict[str, Any]:
    """Whether the perceptual term was on, with which weights, or why not."""
    if checksum is not None and weights is not None:
        return {"active": True, "weights_sha256": checksum, "file": weights.name}
    if not any(term.kind == "perceptual" for term in recipe.losses):
        return {"active": False, "reason": "the recipe has no such term"}
    return {"active": False, "reason": "no weights of VGG-19 given (--vgg-weights)"}


def started_from(model: LoadedModel) -> dict[str, Any]:
    """What a card says of the model that training began with."""
    keys = ("name", "method", "recipe", "contrast", "resolution", "weights_sha256", "trained_with", "started_from")
    return {key: model.card[key] for key in keys if key in model.card}


def data_entries(method: Method, recipe: Recipe, recipe_name: str, pair: TrainingPair, vgg: bool) -> dict[str, Any]:
    """The part of the card that is known before training; vgg: whether there are weights for the perceptual term."""
    from bids_sr import __version__

    zooms = np.sqrt((np.asarray(pair.lowres_affine)[:3, :3] ** 2).sum(0))
    finer = [n / fine_size(n, f) for n, f in zip(pair.lowres.shape, pair.factor, strict=True)]
    return {
        "method": method.name,
        "reference": method.reference,
        "recipe": recipe_name,
        "settings": plain_recipe(recipe, vgg=vgg),
        "factor": list(pair.factor),
        "contrast": pair.contrast,
        "orientation": slice_orientation(pair.lowres_affine),
        "resolution": {
            "lowres_mm": [round(float(z), 4) for z in zooms],
            "highres_mm": [round(float(z * f), 4) for z, f in zip(zooms, finer, strict=True)],
            "lowres_shape": list(pair.lowres.shape),
        },
        "domain": domain_entry(pair.lowres, pair.mask),
        "data_sha256": pair.checksums(),
        "intensity": {
            "scale": pair.scale,
            "highres_gain": pair.gain,
            "rule": "99th percentile of the coarse image in the mask is 1",
        },
        "versions": {"bids_sr": __version__, "torch": torch.__version__, "numpy": np.__version__},
    }


def run_entries(method: Method, recipe: Recipe, recipe_name: str, data: RunData) -> dict[str, Any]:
    """The part of the card that is known before training, for a method that learns from the run itself."""
    from bids_sr import __version__

    shape = data.statistics.mean.shape
    zooms = np.sqrt((np.asarray(data.affine)[:3, :3] ** 2).sum(0))
    finer = [n / fine_size(n, f) for n, f in zip(shape, data.factor, strict=True)]
    return {
        "method": method.name,
        "trained_on": method.trained_on,
        "reference": method.reference,
        "recipe": recipe_name,
        "settings": plain_recipe(recipe),
        "factor": list(data.factor),
        "contrast": data.contrast,
        "orientation": slice_orientation(data.affine),
        "resolution": {
            "lowres_mm": [round(float(z), 4) for z in zooms],
            "highres_mm": [round(float(z * f), 4) for z, f in zip(zooms, finer, strict=True)],
            "lowres_shape": list(shape),
        },
        "domain": domain_entry(data.statistics.mean, data.mask),
        "data_sha256": data.checksums(),
        "intensity": {"rule": "signal units of the run"},
        "versions": {"bids_sr": __version__, "torch": torch.__version__, "numpy": np.__version__},
    }


def image_entries(
    method: Method, recipe: Recipe, recipe_name: str, images: ImageSet, windows: Windows, vgg: bool
) -> dict[str, Any]:
    """The part of the card that is known before training, for a set of images; `vgg` as for a pair.

    The first image stands for the set in resolution, orientation and looks; the names of all are listed.
    """
    from bids_sr import __version__

    first, seen = images.images[0], windows.at(0)
    zooms = np.asarray(first.zooms)
    step = np.array([p / q for p, q in seen.steps])
    fine, coarse = (zooms, zooms * step) if first.fine is not None else (zooms / step, zooms)
    affine = np.asarray(first.affine, float)
    return {
        "method": method.name,
        "trained_on": method.trained_on,
        "objective": recipe.objective,
        "reference": method.reference,
        "recipe": recipe_name,
        "settings": plain_recipe(recipe, vgg=vgg),
        "factor": list(windows.factor),
        "factors": list(recipe.factors),
        "ndim": method.ndim,
        "channels": images.channels,
        "contrast": images.contrast,
        "orientation": slice_orientation(affine),
        "resolution": {
            "lowres_mm": [round(float(z), 4) for z in coarse],
            "highres_mm": [round(float(z), 4) for z in fine],
            "lowres_shape": list(seen.coarse.shape[1:]),
        },
        "domain": domain_entry(seen.coarse[0].cpu().numpy(), seen.inside_coarse[0].cpu().numpy()),
        "data_sha256": images.checksums(),
        "images": [image.name for image in images.images],
        "coarse_images": (
            "measured" if first.coarse is not None else f"made by {recipe.degradation} from the fine ones"
        ),
        "intensity": {
            "scale": [float(v) for v in seen.level],
            "headroom": [round(float(v), 6) for v in seen.headroom],
            "rule": (
                "99th percentile of each coarse image in the mask is 1"
                if recipe.intensity == "percentile"
                else "the largest value of each coarse image is 1"
            ),
        },
        "versions": {"bids_sr": __version__, "torch": torch.__version__, "numpy": np.__version__},
    }
