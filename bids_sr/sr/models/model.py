"""Trained models on disk: safetensors weights, and a JSON card that contains their checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.io import atomic_files
from bids_sr.io.frozen import frozen
from bids_sr.sr.models.card import (
    CARD_VERSION,
    ModelCard,
    ModelError,
    card_checksum,
    card_path,
    read_card,
    size_of_file,
)
from bids_sr.sr.recipe_changes import apply_changes, changes_from

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bids_sr.sr.models.training_log import LogRow
    from bids_sr.sr.recipe import Recipe, VarianceRecipe

_METADATA_KEY = "bids_sr_card"
COMPANIONS = ("critic", "backward", "backward_critic")
"""Names of networks that are trained together with the generator.

They are also the prefixes of their tensors in the generator's file.
"""


@frozen
class NewModel:
    """Model that is not stored yet: tensors on the CPU, JSON card and rows of the log."""

    state: Mapping[str, Tensor]
    card: Mapping[str, object]
    log: tuple[LogRow, ...]


@frozen
class LoadedModel:
    """Model for inference, in evaluation mode.

    `generator` is a network, or prior SD maps. `critic` is a network that scores images; None if
    it was not stored. `companions` are the weights of all networks stored with the generator, by
    name (see `COMPANIONS`).
    """

    generator: nn.Module
    recipe: Recipe | VarianceRecipe
    card: ModelCard
    critic: nn.Module | None = None
    companions: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)


def save_model(
    path_stem: Path, state: Mapping[str, Tensor], card: Mapping[str, object]
) -> tuple[Path, Path]:
    """Write the weights to STEM.safetensors, then the card to STEM.json.

    The model is complete only after the card was written.

    Parameters
    ----------
    path_stem : Path
        Path of both files without their extension.
    state : Mapping[str, Tensor]
        Tensors of the networks by name.
    card : Mapping[str, object]
        Entries of the card by name.

    Returns
    -------
    tuple[Path, Path]
        Paths of weights and card.
    """
    from safetensors.torch import save

    weights = path_stem.with_name(f"{path_stem.name}.safetensors")
    card_file = path_stem.with_name(f"{path_stem.name}.json")
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    data = save(tensors, metadata={_METADATA_KEY: card_checksum(card)})
    full_card = {
        "card_version": CARD_VERSION,
        **card,
        "weights_sha256": hashlib.sha256(data).hexdigest(),
    }
    card_file.unlink(missing_ok=True)
    atomic_files.write_bytes(weights, data)
    atomic_files.write_bytes(
        card_file, (json.dumps(full_card, indent=2, sort_keys=True) + "\n").encode()
    )
    return weights, card_file


def load_model(path: Path) -> LoadedModel:
    """Load STEM.safetensors and its card from the same directory.

    Raises `ModelError` if a file is missing, damaged or inconsistent, or this version cannot use
    the model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    from bids_sr.sr.method import UnknownMethod, get_method

    card, data = verify_model(path)
    try:
        method = get_method(card.method)
        state = load(data)
        if method.variance is not None:
            model = _load_prior_maps(card, method.variance, state)
        else:
            model = _load_networks(card, state)
    except (UnknownMethod, SafetensorError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"this version of bids-sr cannot use the model ({error})", file=path
        ) from error
    if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
        raise ModelError(
            "the model weights contain NaN or infinite values, because the training failed",
            file=path,
        )
    if _read_card_checksum(data) not in (None, card_checksum(card.json)):
        raise ModelError(
            f"{card_path(path)}: the model card was changed after the model was saved, and no "
            "longer matches the weights"
        )
    return model


def verify_model(path: Path) -> tuple[ModelCard, bytes]:
    """Check a model's files, and return the card and the bytes of the weights file.

    Torch is not imported. Raises `ModelError` if a file is missing or damaged, or the files do not
    match.
    """
    from safetensors import SafetensorError, deserialize

    card = read_card(path)
    try:
        size_of_file(path)
        data = path.read_bytes()
    except FileNotFoundError:
        raise ModelError("the file with the model weights does not exist", file=path) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"the model weights cannot be read ({error})", file=path) from None
    if hashlib.sha256(data).hexdigest() != card.weights_sha256:
        raise ModelError(
            f"the model weights are truncated or were changed, because their checksum "
            f"differs from the checksum in {card_path(path).name}",
            file=path,
        )
    try:
        deserialize(data)
    except SafetensorError as error:
        raise ModelError(
            f"the file is not a valid safetensors file ({error})", file=path
        ) from None
    return card, data


def _load_prior_maps(
    card: ModelCard, recipe: VarianceRecipe, state: Mapping[str, Tensor]
) -> LoadedModel:
    """Return the prior SD maps of a card; `recipe` is the unchanged recipe of the method."""
    from bids_sr.sr.prior_maps.prior import PriorMaps

    maps = PriorMaps(state.get("weight"))
    _load_weights(maps, state, f"{card.method} ({card.recipe})")
    return LoadedModel(
        generator=maps.eval().requires_grad_(False),
        recipe=apply_changes(recipe, changes_from(card.method, card.changed_settings)),
        card=card,
    )


def _load_networks(card: ModelCard, state: Mapping[str, Tensor]) -> LoadedModel:
    """Return the networks of a card's recipe with their weights.

    ValueError or UnknownMethod is raised if this version cannot use the model.
    """
    from bids_sr.sr.method import get_method, get_recipe

    name = f"{card.method} ({card.recipe})"
    base_recipe = get_recipe(get_method(card.method), card.recipe)
    if card.edition != base_recipe.edition:
        images = (
            "--coarse FILE" if base_recipe.objective == "self" else "--fine FILE --coarse FILE"
        )
        raise ValueError(
            f"training used another edition of the recipe {card.recipe}, which had"
            " another network. Train the model again with bids-sr-models train"
            f" {card.method} OUT --recipe {card.recipe} {images}"
        )
    recipe = apply_changes(base_recipe, changes_from(card.method, card.changed_settings))
    recipe = _restore_settings(recipe, card)
    generator = recipe.build_generator(card.channels, card.factor)
    companions = _extract_companions(recipe, state)
    prefixes = tuple(f"{companion_name}." for companion_name in companions)
    generator_state = {key: value for key, value in state.items() if not key.startswith(prefixes)}
    _load_weights(generator, generator_state, name)
    critic = None
    for companion_name, tensors in companions.items():
        # all companions are built, because damaged weights of any of them are an error
        companion = _build_companion(companion_name, recipe, card)
        _load_weights(companion, tensors, f"the {companion_name.replace('_', ' ')} of {name}")
        if companion_name == "critic":
            critic = companion.eval().requires_grad_(False)
    return LoadedModel(
        generator=generator.eval().requires_grad_(False),
        recipe=recipe,
        card=card,
        critic=critic,
        companions=companions,
    )


def _restore_settings(recipe: Recipe, card: ModelCard) -> Recipe:
    """Return the recipe with the card's settings for applying a model.

    Recipes have changed since early models were trained. These models are applied with the
    settings of their training.
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


def _extract_companions(
    recipe: Recipe, state: Mapping[str, Tensor]
) -> dict[str, Mapping[str, Tensor]]:
    """Return the weights of the networks stored with the generator, by network name."""
    if recipe.build_critic is None:
        return {}
    network_names = COMPANIONS if recipe.objective == "cycle" else ("critic",)
    states = {name: remove_prefix(state, f"{name}.") for name in network_names}
    return {name: tensors for name, tensors in states.items() if tensors}


def remove_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names have a prefix, without this prefix."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _load_weights(network: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Load weights into a network.

    ValueError is raised, with a message of one line, if the tensors do not match the network.
    """
    expected = network.state_dict()
    mismatches = {
        "missing tensors": sorted(expected.keys() - state.keys()),
        "tensors with a different shape": sorted(
            key
            for key in expected.keys() & state.keys()
            if expected[key].shape != state[key].shape
        ),
        "unknown tensors": sorted(state.keys() - expected.keys()),
    }
    mismatch_texts = [
        f"{kind}: {len(keys)} ({keys[0]}{', …' if keys[1:] else ''})"
        for kind, keys in mismatches.items()
        if keys
    ]
    if mismatch_texts:
        raise ValueError(
            f"the weights do not match the network of {name} ({'; '.join(mismatch_texts)})"
        )
    network.load_state_dict(state)


def _build_companion(name: str, recipe: Recipe, card: ModelCard) -> nn.Module:
    """Return an untrained network of `COMPANIONS`."""
    if name == "backward" or recipe.build_critic is None:
        return recipe.build_generator(card.channels, card.factor)
    return recipe.build_critic(card.channels)


def _read_card_checksum(data: bytes) -> str | None:
    """Return the card checksum in the header of a valid safetensors file, or None.

    Files of early versions contain no checksum.
    """
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]).get("__metadata__", {}).get(_METADATA_KEY)
