"""One training as a value, which passes whole from who asks for it down to its steps."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from bids_sr.frozen import frozen
from bids_sr.sr.method import Method, get_recipe, recipe_name
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.recipe import Recipe, VarianceRecipe
from bids_sr.sr.resolution.matrices import Factor

_Source = Literal["auto", "train", "reuse"]


@frozen
class TrainingRequest:
    """Which model is wanted, how it is trained, and where one may be had instead.

    `changed`: takes the place of the method's recipe of that name; None: the recipe as it is.
    `start`: A model of the same network, with whose weights training begins (see
    `Recipe.freeze_but_last`). `precision`: "mixed" computes the generator in bf16 until that
    changes the held-out score by more than .01 dB at a validation step (in fp32 without held-out
    data); "auto" is "mixed" for a set of images on a GPU. `sloppy`: A handful of iterations, for
    tests; marked in the card. `align`: structural scans: what registered those of a head, for the
    card. `source`: "train" always trains; "reuse" never does; "auto" takes a model of the same
    data, settings and seed, and trains otherwise. `pretrained`: A weights file that is used
    whatever `source` says.
    """

    method: Method
    recipe: str = "fast"
    changed: Recipe | None = None
    factor: Factor | None = None
    seed: int = 0
    threads: int = 1
    device: str = "cpu"
    max_train_minutes: float | None = None
    vgg_weights: Path | None = None
    start: LoadedModel | None = None
    precision: Literal["auto", "fp32", "mixed"] = "auto"
    sloppy: bool = False
    align: str | None = None
    source: _Source = "auto"
    model_dir: Path | None = None
    pretrained: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "recipe", recipe_name(self.method, self.recipe))

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
        recipe = self.changed or get_recipe(self.method, self.recipe)
        return _sloppy_recipe(recipe) if self.sloppy else recipe

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
