"""Trained models on disk: safetensors weights and a JSON card with each other's checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.frozen import frozen
from bids_sr.io import atomic_files
from bids_sr.sr.models.card import (
    CARD_VERSION,
    ModelCard,
    ModelError,
    card_path,
    digest,
    read_card,
    size_of_file,
)
from bids_sr.sr.recipe_changes import apply_changes, changes_from

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bids_sr.sr.recipe import Recipe, VarianceRecipe
    from bids_sr.sr.training.journal import LogRow

_METADATA_KEY = "bids_sr_card"
COMPANIONS = ("critic", "backward", "backward_critic")
"""Networks that are trained beside the generator, and prefixes of their tensors in its file."""


@frozen
class TrainedModel:
    """Result of training: generator tensors on the CPU, JSON card, rows of the training log."""

    state: Mapping[str, Tensor]
    card: Mapping[str, object]
    log: tuple[LogRow, ...]


@frozen
class LoadedModel:
    """Model for inference, in eval mode: network or variance maps, critic if kept, and card.

    `critic`: network that scores images; None where it was not kept. `companions`: weights of all
    networks that were kept beside the generator, by name (`COMPANIONS`).
    """

    generator: nn.Module
    recipe: Recipe | VarianceRecipe
    card: ModelCard
    critic: nn.Module | None = None
    companions: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)


def save_model(
    path_stem: Path, state: Mapping[str, Tensor], card: Mapping[str, object]
) -> tuple[Path, Path]:
    """Write STEM.safetensors, then STEM.json, which completes the model; return both paths.

    Parameters
    ----------
    path_stem : Path
        Path of both files up to their extension.
    state : Mapping[str, Tensor]
        Tensors of the networks by name.
    card : Mapping[str, object]
        Entries of the card by name.

    Returns
    -------
    tuple[Path, Path]
        Files of weights and card.
    """
    from safetensors.torch import save

    stem = Path(path_stem)
    weights = stem.with_name(stem.name + ".safetensors")
    card_file = stem.with_name(stem.name + ".json")
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    data = save(tensors, metadata={_METADATA_KEY: digest(card)})
    full = {
        "card_version": CARD_VERSION,
        **card,
        "weights_sha256": hashlib.sha256(data).hexdigest(),
    }
    card_file.unlink(missing_ok=True)
    atomic_files.write_bytes(weights, data)
    atomic_files.write_bytes(
        card_file, (json.dumps(full, indent=2, sort_keys=True) + "\n").encode()
    )
    return weights, card_file


def verify(path: Path) -> tuple[ModelCard, bytes]:
    """Return (card, bytes) of an intact, matching model, else raise ModelError.

    Torch is not imported.
    """
    from safetensors import SafetensorError, deserialize

    card = read_card(path)
    try:
        size_of_file(path)
        data = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path}: the file with the model weights does not exist") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: the model weights cannot be read ({error})") from None
    if hashlib.sha256(data).hexdigest() != card.weights_sha256:
        raise ModelError(
            f"{path}: the model weights are truncated or were changed, because their checksum "
            f"differs from the checksum in {card_path(path).name}"
        )
    try:
        deserialize(data)
    except SafetensorError as error:
        raise ModelError(f"{path}: the file is not a valid safetensors file ({error})") from None
    return card, data


def _bound_digest(data: bytes) -> str | None:
    """Checksum of the card in the bytes of a safetensors file; None in older ones."""
    if len(data) < 8:
        return None
    length = int.from_bytes(data[:8], "little")
    if length > len(data) - 8:
        return None
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError):
        return None
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    found = metadata.get(_METADATA_KEY) if isinstance(metadata, dict) else None
    return found if isinstance(found, str) else None


def _fill(network: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Give a network its weights; ValueError, in one line, where they are those of another."""
    own = network.state_dict()
    wrong = {
        "missing tensors": sorted(own.keys() - state.keys()),
        "tensors with a different shape": sorted(
            key for key in own.keys() & state.keys() if own[key].shape != state[key].shape
        ),
        "unknown tensors": sorted(state.keys() - own.keys()),
    }
    texts = [
        f"{words}: {len(keys)} ({keys[0]}{', …' if keys[1:] else ''})"
        for words, keys in wrong.items()
        if keys
    ]
    if texts:
        raise ValueError(f"the weights do not match the network of {name} ({'; '.join(texts)})")
    network.load_state_dict(state)


def _companions(recipe: Recipe, state: Mapping[str, Tensor]) -> dict[str, Mapping[str, Tensor]]:
    """Return the weights of the networks in a file beside the generator, by name."""
    names = (
        ()
        if recipe.build_critic is None
        else COMPANIONS[: 3 if recipe.objective == "cycle" else 1]
    )
    parts = {
        name: {
            key.removeprefix(f"{name}."): value
            for key, value in state.items()
            if key.startswith(f"{name}.")
        }
        for name in names
    }
    return {name: tensors for name, tensors in parts.items() if tensors}


def _applied_as_trained(recipe: Recipe, card: ModelCard) -> Recipe:
    """Return the recipe with what the application of a model shares with its training.

    Recipes changed since older models were made, which are applied as they were then.
    """
    if not card.settings:
        return recipe
    intensity = card.settings.get("intensity", "percentile")
    if intensity not in ("percentile", "unit", "range"):
        raise ValueError(
            f"unknown intensity scaling {intensity!r} in the model card; expected percentile, "
            "unit or range"
        )
    in_patches = card.settings.get("applied_in_patches") is True
    return replace(recipe, intensity=intensity, applied_in_patches=in_patches)


def load_model(path: Path) -> LoadedModel:
    """Load STEM.safetensors with the card beside it."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    from bids_sr.sr.method import UnknownMethod, get_method, get_recipe
    from bids_sr.sr.variance.prior import VarianceMaps

    card, data = verify(path)
    try:
        method = get_method(card.method)
        name = f"{card.method} ({card.recipe})"
        state = load(data)
        critic = None
        companions: dict[str, Mapping[str, Tensor]] = {}
        if method.variance is not None:
            recipe: Recipe | VarianceRecipe = method.variance
            generator: nn.Module = VarianceMaps(state.get("weight"))
            _fill(generator, state, name)
        else:
            recipe = how = apply_changes(
                get_recipe(method, card.recipe), changes_from(card.method, card.changed_settings)
            )
            recipe = how = _applied_as_trained(how, card)
            generator = how.build_generator(card.channels, card.factor)
            companions = _companions(how, state)
            kept = {f"{part}.{key}" for part, own in companions.items() for key in own}
            _fill(generator, {k: v for k, v in state.items() if k not in kept}, name)
            for part, own in companions.items():
                beside = (
                    how.build_generator(card.channels, card.factor)
                    if part == "backward" or how.build_critic is None
                    else how.build_critic(card.channels)
                )
                _fill(beside, own, f"the {part.replace('_', ' ')} of {name}")
                if part == "critic":
                    critic = beside.eval().requires_grad_(False)
    except (UnknownMethod, SafetensorError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"{path}: this version of bids-sr cannot use the model ({error})"
        ) from error
    if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
        raise ModelError(
            f"{path}: the model weights contain NaN or infinite values, because the training "
            "failed"
        )
    if _bound_digest(data) not in (None, digest(card.json)):
        raise ModelError(
            f"{card_path(path)}: the model card was changed after the model was saved, and no "
            "longer matches the weights"
        )
    return LoadedModel(
        generator=generator.eval().requires_grad_(False),
        recipe=recipe,
        card=card,
        critic=critic,
        companions=companions,
    )
