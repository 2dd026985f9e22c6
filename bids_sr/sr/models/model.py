"""Trained models on disk: safetensors weights and a JSON card with each other's checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.frozen import frozen
from bids_sr.io import atomic_files
from bids_sr.sr.models import card_checks
from bids_sr.sr.models.card_checks import ModelCard

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bids_sr.sr.recipe import Recipe
    from bids_sr.sr.training.checkpoint import LogRow

_CARD_VERSION = 1
_REQUIRED = (
    "card_version",
    "method",
    "recipe",
    "factor",
    "resolution",
    "contrast",
    "orientation",
    "weights_sha256",
)


class ModelError(ValueError):
    """A model file that cannot be trusted or understood."""


@frozen
class TrainedModel:
    """Result of training: generator tensors on the CPU, JSON card, rows of the training log."""

    state: Mapping[str, Tensor]
    card: Mapping[str, object]
    log: tuple[LogRow, ...]


@frozen
class LoadedModel:
    """Model for inference: generator (and critic, if kept) in eval mode, recipe and card."""

    generator: nn.Module
    recipe: Recipe
    card: ModelCard
    critic: nn.Module | None = None


def card_path(weights: Path) -> Path:
    """Where the card of a weights file lies."""
    return Path(weights).with_suffix(".json")


def save_model(
    path_stem: Path, state: Mapping[str, Tensor], card: Mapping[str, object]
) -> tuple[Path, Path]:
    """Write STEM.safetensors, then STEM.json, which completes the model; return both paths."""
    from safetensors.torch import save

    stem = Path(path_stem)
    weights, card_file = (
        stem.with_name(stem.name + ".safetensors"),
        stem.with_name(stem.name + ".json"),
    )
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    data = save(tensors, metadata={card_checks.METADATA_KEY: card_checks.digest(card)})
    full = {
        "card_version": _CARD_VERSION,
        **card,
        "weights_sha256": hashlib.sha256(data).hexdigest(),
    }
    card_file.unlink(missing_ok=True)
    atomic_files.write_bytes(weights, data)
    atomic_files.write_bytes(
        card_file, (json.dumps(full, indent=2, sort_keys=True) + "\n").encode()
    )
    return weights, card_file


def read_card(path: Path) -> ModelCard:
    """The card of a weights file; `ModelError` where it is missing or not one of ours."""
    return ModelCard.from_json(_kept_card(path))


def _kept_card(path: Path) -> dict[str, object]:
    """A card as it was written."""
    path = card_path(path)
    try:
        if card_checks.size_of_file(path) > card_checks.LARGEST_CARD:
            raise ValueError(f"it has more than {card_checks.LARGEST_CARD / 1e6:g} MB")
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{path}: the model's card is missing; weights without a card are not used"
        ) from None
    # of JSON and of UTF-8 too, and nesting without end
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not a model card: {error}") from None
    missing = [key for key in _REQUIRED if not isinstance(card, dict) or key not in card]
    if missing:
        raise ModelError(f"{path}: not a model card: {', '.join(missing)} missing")
    if card["card_version"] != _CARD_VERSION:
        raise ModelError(
            f"{path}: card version {card['card_version']}; this program reads {_CARD_VERSION}"
        )
    wrong = card_checks.wrong_values(card)
    if wrong:
        raise ModelError(f"{path}: not a model card: {'; '.join(wrong)}")
    return card


def verify(path: Path) -> tuple[dict[str, object], bytes]:
    """Return (card as it was written, bytes) of an intact, matching model, else raise ModelError.

    Torch is not imported.
    """
    from safetensors import SafetensorError, deserialize

    card = _kept_card(path)
    try:
        card_checks.size_of_file(path)
        data = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path}: the model's weights are missing") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: the model's weights cannot be read: {error}") from None
    if hashlib.sha256(data).hexdigest() != card["weights_sha256"]:
        raise ModelError(
            f"{path}: truncated or changed: its checksum is not that in {card_path(path).name}"
        )
    try:
        deserialize(data)
    except SafetensorError as error:
        raise ModelError(f"{path}: does not fit this program: no safetensors ({error})") from None
    return card, data


def _fill(network: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Give a network its weights; ValueError, in one line, where they are those of another."""
    from bids_sr.sr.variance.prior import VarianceMaps

    # their grid is that of a run, and no property of the method
    if isinstance(network, VarianceMaps):
        network.take_shapes(state)
    own = network.state_dict()
    wrong = {
        "missing": sorted(own.keys() - state.keys()),
        "of another shape": sorted(
            key for key in own.keys() & state.keys() if own[key].shape != state[key].shape
        ),
        "unknown": sorted(state.keys() - own.keys()),
    }
    told = [
        f"{len(keys)} {words} ({keys[0]}{', …' if keys[1:] else ''})"
        for words, keys in wrong.items()
        if keys
    ]
    if told:
        raise ValueError(f"its tensors are not those of {name}: {', '.join(told)}")
    network.load_state_dict(state)


def load_model(path: Path) -> LoadedModel:
    """Load STEM.safetensors with the card beside it.

    Raises
    ------
    ModelError : as of `verify`; method or recipe unknown; tensors that do not fit the network. The
        message names the file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    from bids_sr.sr.method import UnknownMethod, get_method, get_recipe

    kept, data = verify(path)
    card = ModelCard.from_json(kept)
    try:
        recipe = get_recipe(get_method(card.method), card.recipe)
        generator = recipe.build_generator(card.channels, card.factor)
        state = load(data)
        own = {
            k: v for k, v in state.items() if not (recipe.keep_critic and k.startswith("critic."))
        }
        of_critic = {k.removeprefix("critic."): v for k, v in state.items() if k not in own}
        _fill(generator, own, f"{card.method} ({card.recipe})")
        critic = (
            None
            if not of_critic or recipe.build_critic is None
            else recipe.build_critic(card.channels)
        )
        if critic is not None:
            _fill(critic, of_critic, f"the critic of {card.method} ({card.recipe})")
            critic.eval().requires_grad_(False)
    except (UnknownMethod, SafetensorError, RuntimeError, ValueError) as error:
        raise ModelError(f"{path}: does not fit this program: {error}") from error
    if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
        raise ModelError(f"{path}: its weights are not finite; the training went wrong")
    if card_checks.bound_digest(data) not in (None, card_checks.digest(kept)):
        raise ModelError(
            f"{card_path(path)}: changed since the model was saved: it says something else of what"
            " the model serves"
        )
    return LoadedModel(
        generator=generator.eval().requires_grad_(False), recipe=recipe, card=card, critic=critic
    )
