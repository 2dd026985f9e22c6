"""Trained models on disk: safetensors weights and a JSON card with each other's checksums.

One training as a value, which passes whole from who asks for it down to its steps.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bids_sr.frozen import frozen
from bids_sr.io import atomic_files
from bids_sr.io.grids import Factor
from bids_sr.sr.method import Method, get_recipe, recipe_name
from bids_sr.sr.models.card import (
    CARD_VERSION,
    ModelCard,
    ModelError,
    card_path,
    digest,
    read_card,
    size_of_file,
)
from bids_sr.sr.recipe import Recipe, VarianceRecipe
from bids_sr.sr.recipe_changes import (
    Number,
    RecipeChange,
    apply_changes,
    changes_from,
    differing_settings,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bids_sr.sr.device import TrainPrecision
    from bids_sr.sr.recipe import Recipe, VarianceRecipe
    from bids_sr.sr.training.optimization import LogRow


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


_Source = Literal["auto", "train", "reuse"]


@frozen
class TrainingRequest:
    """Which model is wanted, how it is trained, and where one may be had instead.

    `changed`: takes the place of the method's recipe of that name; None: the recipe as it is.
    `changes`: settings of that recipe that take other values; those of other methods have no
    effect.
    `seed`: of weights, batches and augmentation; with as many `threads` the result is the same bit
    for bit. `max_train_minutes`: stop on the clock; the card then says that the model cannot be
    reproduced. `vgg_weights`: for the perceptual term, which is off without them. `start`: a model
    of the same network, with whose weights training begins (see `Recipe.freeze_but_last`).
    `precision`: "mixed" computes the generator in bf16 until that changes the score of the
    held-out slices (without these, of the trained ones) by more than .01 dB at a validation step;
    methods without high-resolution images stay in fp32; "auto" is "mixed" on a GPU. `sloppy`: a
    handful of iterations, for tests; marked in the card.
    `align`, `scale`: structural scans: what registered those of a head and how they were brought
    to [0, 1], for the card. `source`: "train"
    always trains; "reuse" never does; "auto" takes a model of the same data, settings and seed,
    and trains otherwise. `model_dir`: searched for models with its subfolders. `pretrained`: a
    weights file that is used whatever `source` says.
    """

    method: Method
    recipe: str = "fast"
    changed: Recipe | None = None
    changes: tuple[RecipeChange, ...] = ()
    factor: Factor | None = None
    seed: int = 0
    threads: int = 1
    device: str = "cpu"
    max_train_minutes: float | None = None
    vgg_weights: Path | None = None
    start: LoadedModel | None = None
    precision: TrainPrecision = "auto"
    sloppy: bool = False
    align: str | None = None
    scale: str | None = None
    source: _Source = "auto"
    model_dir: Path | None = None
    pretrained: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "recipe", recipe_name(self.method, self.recipe))
        own = tuple(change for change in self.changes if change.method == self.method.name)
        object.__setattr__(self, "changes", own)

    @property
    def variance(self) -> VarianceRecipe | None:
        """How variance maps are found; None where a network is trained."""
        found = self.method.variance
        if found is None or not self.sloppy:
            return found
        return replace(found, rounds=min(found.rounds, 2), draws=8)

    @property
    def effective_recipe(self) -> Recipe:
        """The recipe with what this training changes in it."""
        recipe = apply_changes(self._base_recipe, self.changes)
        return _sloppy_recipe(recipe) if self.sloppy else recipe

    @property
    def mixed(self) -> bool:
        """Whether training begins in mixed precision."""
        on_gpu = self.device.startswith("cuda")
        return self.precision == "mixed" or (self.precision == "auto" and on_gpu)

    @property
    def _base_recipe(self) -> Recipe:
        return self.changed or get_recipe(self.method, self.recipe)

    @property
    def changed_settings(self) -> dict[str, Number]:
        """Settings whose value is not the recipe's own, by their names."""
        if not self.changes:
            return {}
        return differing_settings(get_recipe(self.method, self.recipe), self.changes)

    @property
    def started_with(self) -> str | None:
        """Checksum of the weights with which training begins, or None."""
        return None if self.start is None else self.start.card.weights_sha256


def _sloppy_recipe(recipe: Recipe) -> Recipe:
    """A recipe cut down to seconds."""
    return replace(
        recipe,
        iterations=12,
        epochs=None,
        patches=None,
        decay_from=0,
        evaluate_every=6,
        batch=2,
        adversarial_from=min(recipe.adversarial_from, 6),
    )
