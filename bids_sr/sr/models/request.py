"""One training as a value, passed as a whole from the caller down to its steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bids_sr.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.sr.method import Method, get_recipe, recipe_name
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.recipe_changes import Number, RecipeChange, apply_changes, differing_settings

if TYPE_CHECKING:
    from bids_sr.sr.device import TrainPrecision
    from bids_sr.sr.recipe import Recipe, VarianceRecipe

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
