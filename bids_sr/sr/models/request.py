"""Settings for training or finding a model, and the request that adds its data."""

from collections.abc import Mapping, Sequence
from dataclasses import field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bids_sr.io.code_digests import PACKAGE, digest_files, digest_program, find_outside_file
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.sr.device import Device, TrainPrecision, choose_device
from bids_sr.sr.method import Method, find_method_file, get_method, get_recipe
from bids_sr.sr.recipe import Recipe, RecipeName, VarianceRecipe
from bids_sr.sr.recipe_changes import (
    Number,
    RecipeChange,
    apply_changes,
    base_recipe,
    changed_values,
    select_changes,
)

if TYPE_CHECKING:
    from bids_sr.sr.models.model import LoadedModel

ModelSource = Literal["auto", "train", "reuse"]


@frozen
class ModelSettings:
    """Settings of every model, including prior SD maps.

    `recipe_changes` are changed settings of the recipe; changes of other methods are ignored. The
    `model_source` "train" always trains and "reuse" never trains; "auto" reuses a model that was
    trained with the same data, settings and seed if there is one. `model_dir` is searched for
    models, including its subdirectories; it may not exist. `pretrained` is a weights file that is
    used regardless of `model_source`.

    `random_seed` is the seed of weights, batches and augmentation, or of samples from the prior.
    Results are identical for the same seed and number of threads. `force` only logs that the model
    does not match the images. `sloppy` trains for only a few iterations, for tests; this is
    recorded in the card.
    """

    method: str
    recipe: RecipeName = "fast"
    recipe_changes: tuple[RecipeChange, ...] = ()
    model_source: ModelSource = "auto"
    model_dir: Path | None = None
    pretrained: Path | None = None
    random_seed: int = 0
    omp_nthreads: int = 1
    force: bool = False
    sloppy: bool = False

    @property
    def is_given(self) -> bool:
        """Whether the model was trained before, and is specified or stored for reuse.

        It is False if the model will be trained, or may be found among models of this output.
        """
        return self.pretrained is not None or self.model_source == "reuse"


@frozen
class TrainingSettings(ModelSettings):
    """Settings of the training of a network.

    The `train_precision` "mixed" computes the generator in bf16 until a validation step shows that
    this changes the held-out score (or, without held-out slices, the score of training slices) by
    more than 0.01 dB. Methods without high-resolution images remain in fp32. "auto" is fp32 on the
    CPU. On a GPU, it is the published precision for the recipe ``paper`` and "mixed" for others.
    `max_train_minutes` is None if there is no limit. A model whose training was stopped by the
    time limit is marked as not reproducible in its card, and not applied to a run. `vgg_weights`
    are VGG-19 weights for the perceptual loss; without them, the term is disabled.
    """

    device: Device = "cpu"
    train_precision: TrainPrecision = "auto"
    max_train_minutes: float | None = None
    vgg_weights: Path | None = None


@frozen
class ModelRequest(TrainingSettings):
    """Settings of a model together with the values that depend on its data and caller.

    `replacement_recipe` replaces the method's recipe of this name; None if there is none.
    `start_model` is a model of the same network whose weights initialize the training (see
    `Recipe.freeze_but_last`). `anat_align` and `anat_scale` are registration method and intensity
    scaling of structural scans, for the card. `split` are the labels of participants by set
    (training, validation and test); empty if there is no split. `unregistered_method` is a method
    that is not registered under the name `method`; None for registered methods.
    """

    factor: Factor | None = None
    replacement_recipe: Recipe | VarianceRecipe | None = None
    start_model: "LoadedModel | None" = None
    anat_align: str | None = None
    anat_scale: str | None = None
    split: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unregistered_method: Method | None = None

    def __post_init__(self) -> None:
        method_changes = select_changes(self.recipe_changes, self.method)
        object.__setattr__(self, "recipe_changes", method_changes)

    @property
    def definition(self) -> Method:
        """Method to train."""
        return self.unregistered_method or get_method(self.method)

    @property
    def variance(self) -> VarianceRecipe | None:
        """Recipe of the prior SD maps with the requested changes; None for a network."""
        recipe = self.replacement_recipe or self.definition.variance
        if not isinstance(recipe, VarianceRecipe):
            return None
        recipe = apply_changes(recipe, self.recipe_changes)
        return replace(recipe, rounds=min(recipe.rounds, 2), draws=8) if self.sloppy else recipe

    @property
    def effective_recipe(self) -> Recipe:
        """Recipe with the requested changes, shortened if `sloppy` is set."""
        recipe = apply_changes(self._base_recipe, self.recipe_changes)
        return _shorten_recipe(recipe) if self.sloppy else recipe

    @property
    def mixed(self) -> bool:
        """Whether training begins in mixed precision."""
        if self.train_precision != "auto":
            return self.train_precision == "mixed"
        precision = self.definition.paper_precision if self.recipe == "paper" else "mixed"
        return precision == "mixed" and self.device.startswith("cuda")

    @property
    def _base_recipe(self) -> Recipe:
        """Recipe of a network before changes."""
        if isinstance(self.replacement_recipe, Recipe):
            return self.replacement_recipe
        return get_recipe(self.definition, self.recipe)

    @property
    def changed_settings(self) -> dict[str, Number]:
        """Settings whose values differ from the recipe, by name."""
        if not self.recipe_changes:
            return {}
        return changed_values(base_recipe(self.definition, self.recipe), self.recipe_changes)

    @property
    def start_checksum(self) -> str | None:
        """Checksum of the initial weights, or None for random weights."""
        return None if self.start_model is None else self.start_model.card.weights_sha256

    @property
    def code_sha256(self) -> str:
        """Digest of the code that decides whether an earlier model is still valid.

        Prior SD maps take a minute and depend on the whole program. A training takes hours.
        Therefore, it only depends on networks, models, the file of its method, and files outside
        of the program that define its networks and losses.
        """
        if self.variance is not None:
            return digest_program()
        recipe = self.effective_recipe
        builders = (
            recipe.build_generator,
            recipe.build_critic,
            *(term.build for term in recipe.losses),
        )
        files = {find_outside_file(builder) for builder in builders}
        if self.unregistered_method is None:
            files.add(find_method_file(self.method))
        folders = PACKAGE / "sr" / "models", PACKAGE / "sr" / "networks"
        return digest_files(*folders, *sorted(filter(None, files)))


def _shorten_recipe(recipe: Recipe) -> Recipe:
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


def request_model(settings: ModelSettings, factor: Factor) -> ModelRequest:
    """Return the request for a model with these settings, on an available device.

    `factor` is the ratio of low-resolution to high-resolution voxel size. RuntimeError is raised
    if a device was requested that cannot be used.
    """
    setting_values = {item.name: getattr(settings, item.name) for item in fields(settings)}
    request = ModelRequest(**setting_values, factor=factor)
    return replace(request, device=choose_device(request.device))
