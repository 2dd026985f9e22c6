"""Request for a trained model, passed as a single value to the training steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bids_sr.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.sr.method import Method, get_recipe, recipe_name
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.recipe_changes import Number, RecipeChange, apply_changes, changed_values

if TYPE_CHECKING:
    from bids_sr.sr.device import TrainPrecision
    from bids_sr.sr.recipe import Recipe, VarianceRecipe

_ModelSource = Literal["auto", "train", "reuse"]


@frozen
class TrainingRequest:
    """Requested model, settings of its training, and sources of existing models.

    Parameters
    ----------
    method : Method
        Method to train.
    recipe : str
        Name of the recipe.
    changed : Recipe | None
        Recipe that replaces the method's recipe of this name; None if there is none.
    changes : tuple[RecipeChange, ...]
        Changed settings of the recipe. Changes of other methods are ignored.
    factor : Factor | None
        Ratio of low-resolution to high-resolution voxel size.
    seed : int
        Seed of weights, batches and augmentation. Results are identical for the same seed and
        number of threads.
    threads : int
        Number of CPU threads.
    device : str
        Torch device.
    max_train_minutes : float | None
        Time limit. A model whose training was stopped by the time limit is marked as not
        reproducible in its card.
    vgg_weights : Path | None
        Weights for the perceptual loss. Without them, the term is disabled.
    start : LoadedModel | None
        Model of the same network whose weights initialize the training (see
        `Recipe.freeze_but_last`).
    precision : TrainPrecision
        "mixed" computes the generator in bf16 until a validation step shows that this changes the
        held-out score (or, without held-out slices, the score of training slices) by more than
        .01 dB. Methods without high-resolution images remain in fp32. "auto" is "mixed" on a GPU.
    sloppy : bool
        Whether to train for only a few iterations, for tests. This is recorded in the card.
    align, scale : str | None
        Registration method and intensity scaling of structural scans, for the card.
    source : {"auto", "train", "reuse"}
        "train" always trains and "reuse" never trains. "auto" reuses a model trained with the same
        data, settings and seed if there is one.
    model_dir : Path | None
        Directory that is searched for models, including its subdirectories.
    pretrained : Path | None
        Weights file that is used regardless of `source`.
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
    source: _ModelSource = "auto"
    model_dir: Path | None = None
    pretrained: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "recipe", recipe_name(self.method, self.recipe))
        method_changes = tuple(
            change for change in self.changes if change.method == self.method.name
        )
        object.__setattr__(self, "changes", method_changes)

    @property
    def variance(self) -> VarianceRecipe | None:
        """Recipe of the prior SD maps; None if a network is trained."""
        recipe = self.method.variance
        if recipe is None or not self.sloppy:
            return recipe
        return replace(recipe, rounds=min(recipe.rounds, 2), draws=8)

    @property
    def effective_recipe(self) -> Recipe:
        """Recipe with the requested changes, shortened if `sloppy` is set."""
        recipe = apply_changes(self._base_recipe, self.changes)
        return _sloppy_recipe(recipe) if self.sloppy else recipe

    @property
    def mixed(self) -> bool:
        """Whether training begins in mixed precision."""
        on_gpu = self.device.startswith("cuda")
        return self.precision == "mixed" or (self.precision == "auto" and on_gpu)

    @property
    def _base_recipe(self) -> Recipe:
        """Recipe before changes."""
        return self.changed or get_recipe(self.method, self.recipe)

    @property
    def changed_settings(self) -> dict[str, Number]:
        """Settings whose values differ from the recipe, by name."""
        if not self.changes:
            return {}
        return changed_values(get_recipe(self.method, self.recipe), self.changes)

    @property
    def start_checksum(self) -> str | None:
        """Checksum of the initial weights, or None for random weights."""
        return None if self.start is None else self.start.card.weights_sha256


def _sloppy_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe shortened to a few seconds."""
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
