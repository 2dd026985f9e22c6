"""Settings of a recipe that users can change, because papers vary them.

`variable_fields` lists the settings of a recipe with their ranges. It is derived from the recipe,
so that a method only offers settings that affect it. A change is parsed once from
``METHOD.FIELD=VALUE`` (`RecipeChange.from_text`) and applied by `apply_changes`. This module needs
only the standard library.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from itertools import pairwise
from math import isfinite, prod
from typing import Any, TypeVar

from bids_sr.frozen import frozen
from bids_sr.sr.method import Method, get_method, get_recipe, method_names
from bids_sr.sr.recipe import LossTerm, Recipe, SettingLimits, VarianceRecipe, loss

Number = int | float
_AnyRecipe = TypeVar("_AnyRecipe", Recipe, VarianceRecipe)
_MAX_WEIGHT = 100.0
_MAX_SIDE = 256  # voxels, largest side of a patch
_MIN_SIDE_FOR_VGG = 16  # voxels, smallest side with features after four poolings of VGG-19
_MAX_EPOCHS, _MAX_STEPS, _MAX_PATCHES = 100_000, 10_000_000, 10_000_000
_MIN_LEARNING_RATE = 1e-7
SMALLEST_SIDE = 8  # voxels, smallest side of a patch
_TV_PAPER = "Pérez-Bueno et al."
_ATTENTION_UNET_PAPER = "Li et al. 2022"
_MOUSE_PAPER = "Liang & Zhang 2023"


class ChangeError(ValueError):
    """Error raised for a change that a recipe does not allow.

    The message is the reason (`why`); `fix` is the remedy. `change` is the text of the change or
    changes, or "" if unknown.
    """

    def __init__(self, why: str, fix: str, change: str = "") -> None:
        super().__init__(why)
        self.why, self.fix, self.change = why, fix, change


@frozen
class RecipeChange:
    """Changed value of a setting in a method's recipe.

    >>> str(RecipeChange.from_text("tv.tv=2e-2"))
    'tv.tv=0.02'
    """

    method: str
    field: str
    value: Number

    def __str__(self) -> str:
        return f"{self.method}.{self.field}={self.value!r}"

    @classmethod
    def from_text(cls, text: str) -> RecipeChange:
        """Parse ``METHOD.FIELD=VALUE``, or raise `ChangeError` if the text has another form.

        The names are checked by `check_changes`.
        """
        name, equals, number = text.partition("=")
        method, dot, field = name.strip().partition(".")
        if not (equals and dot and method and field):
            raise ChangeError(
                "the change is not of the form METHOD.FIELD=VALUE",
                "Write, for example, tv.tv=0.02.",
            )
        return cls(method=method, field=field, value=parse_number(number))


def change_of_method(text: str, method: str) -> RecipeChange:
    """Parse ``FIELD=VALUE`` or ``METHOD.FIELD=VALUE`` for this method, or raise `ChangeError`."""
    name, equals, _ = text.partition("=")
    if not (name.strip() and equals):
        raise ChangeError(
            "the change is not of the form FIELD=VALUE", "Write, for example, batch=8.", text
        )
    if "." in name and not name.strip().startswith(f"{method}."):
        raise ChangeError(
            f"the change must concern a setting of the method {method}",
            "Write FIELD=VALUE without the name of a method.",
            text,
        )
    try:
        return RecipeChange.from_text(text if "." in name else f"{method}.{text}")
    except ChangeError as error:
        raise ChangeError(error.why, error.fix, text) from None


def parse_number(text: str) -> Number:
    """Parse a finite number; whole numbers are returned as int.

    >>> parse_number("5e3"), parse_number(".02")
    (5000, 0.02)
    """
    try:
        value = float(text)
    except ValueError:
        raise ChangeError(
            f"{text.strip()!r} is not a number", "Specify a single number."
        ) from None
    if not isfinite(value):
        raise ChangeError(
            f"{text.strip()!r} is not a finite number", "Specify a single finite number."
        )
    return int(value) if value.is_integer() else value


@frozen
class VariableField:
    """Setting of a recipe that users can change.

    `default` is the value in the recipe; None if the recipe leaves the setting open, and several
    sides for a patch that is not a cube. `unit` is "" for weights. `text_without_default`
    describes the behavior if `default` is None. `source` is the paper that varies the setting,
    with its values; "" if there is none. `replace_value` returns the recipe with a new value.
    """

    name: str
    default: Number | tuple[int, ...] | None
    minimum: Number
    maximum: Number
    is_integer: bool = False
    unit: str = ""
    text_without_default: str = ""
    description: str
    source: str = ""
    replace_value: Callable[[Any, Number], Any]

    @property
    def range(self) -> str:
        """Limits as text, such as ``8 to 256``."""
        return f"{self.minimum:g} to {self.maximum:.9g}"

    @property
    def default_text(self) -> str:
        """Value in the unchanged recipe, as text."""
        if self.default is None:
            return self.text_without_default
        if isinstance(self.default, tuple):
            return " x ".join(map(str, self.default))
        return f"{self.default:.9g}"

    def check(self, value: Number) -> Number:
        """Return a value in the type of the setting, or raise `ChangeError` if it is invalid."""
        if self.is_integer and value != int(value):
            raise ChangeError(
                f"{self.name} must be a whole number", f"Specify a whole number from {self.range}."
            )
        if not self.minimum <= value <= self.maximum:
            raise ChangeError(
                f"{self.name} ({self.description}) must be from {self.range}",
                "Specify a value in this range.",
            )
        return int(value) if self.is_integer else float(value)


@frozen
class _WeightSetting:
    """Loss term whose weight can be changed.

    `class_name` is the name of a loss class; "" matches any term of the kind whose class has no
    weight with another name.
    """

    name: str
    kind: str
    class_name: str = ""
    maximum: float = _MAX_WEIGHT
    description: str
    source: str = ""

    def belongs_to(self, term: LossTerm) -> bool:
        """Return whether this is the weight of a loss term."""
        if term.kind != self.kind:
            return False
        class_name = getattr(term.build, "__name__", "")
        return class_name == self.class_name or (
            not self.class_name and class_name != _SQUARED_VARIATION
        )


_SQUARED_VARIATION = "SquaredVariation"
_OBJECTIVES_SECTION = f"{_ATTENTION_UNET_PAPER}, section 3.4"
_IMAGE_LOSSES = (
    _WeightSetting(
        name="mae",
        kind="content",
        class_name="MAE",
        description="weight of the mean absolute error",
        source=_OBJECTIVES_SECTION,
    ),
    _WeightSetting(
        name="mse",
        kind="content",
        class_name="MSE",
        description="weight of the mean squared error",
        source=_OBJECTIVES_SECTION,
    ),
    _WeightSetting(
        name="bce",
        kind="content",
        class_name="BCE",
        description="weight of the binary cross-entropy of intensities",
        source=_OBJECTIVES_SECTION,
    ),
    _WeightSetting(
        name="ssim",
        kind="ssim",
        class_name="SSIMLoss",
        description="weight of 1 - SSIM",
        source=_OBJECTIVES_SECTION,
    ),
    _WeightSetting(
        name="psnr",
        kind="psnr",
        class_name="PSNRLoss",
        description="weight of the peak signal-to-noise ratio (PSNR), expressed as the distance in"
        " dB from a perfect image",
        source=f"{_ATTENTION_UNET_PAPER}, section 4.3",
    ),
)
_OTHER_WEIGHTS = (
    _WeightSetting(
        name="tv",
        kind="tv",
        description="weight of the total variation",
        source=f"{_TV_PAPER}: 0 to 0.1, equation 2",
    ),
    _WeightSetting(
        name="squared_tv",
        kind="tv",
        class_name=_SQUARED_VARIATION,
        description="weight of the mean of squared differences between neighboring voxels",
        source=f"{_TV_PAPER}: 0.07 in the authors' code",
    ),
    _WeightSetting(
        name="adversarial", kind="adversarial", description="weight of the adversarial loss"
    ),
    _WeightSetting(
        name="perceptual",
        kind="perceptual",
        description="weight of the perceptual loss (VGG-19 features)",
    ),
    _WeightSetting(name="cycle", kind="cycle", description="weight of the cycle-consistency loss"),
    _WeightSetting(name="identity", kind="identity", description="weight of the identity loss"),
    _WeightSetting(
        name="sparsify", kind="sparsify", description="weight of the joint sparsity term"
    ),
)


def _find_term(recipe: Recipe, weight: _WeightSetting) -> LossTerm | None:
    """Return the term of a recipe with this weight, or None."""
    return next((term for term in recipe.losses if weight.belongs_to(term)), None)


def _replace_weight(recipe: Recipe, value: Number, weight: _WeightSetting) -> Recipe:
    """Return the recipe with a changed weight; a missing term is added.

    A term that replaces VGG-19 features is always used once its weight is specified.
    """
    term = _find_term(recipe, weight)
    if term is None:
        # only terms that have a class can be missing, see `_accepts_loss`
        added = loss(weight.kind, f"image.{weight.class_name}", float(value))  # type: ignore[arg-type]
        return replace(recipe, losses=(*recipe.losses, added)) if value else recipe
    changed_term = replace(term, weight=float(value), stands_in=False)
    return replace(
        recipe,
        losses=tuple(
            changed_term if loss_term is term else loss_term for loss_term in recipe.losses
        ),
    )


def _iterate_weight_fields(recipe: Recipe) -> Iterable[VariableField]:
    """Yield the weights of all loss terms, and of the image losses that can be added."""
    for weight in (*_IMAGE_LOSSES, *_OTHER_WEIGHTS):
        term = _find_term(recipe, weight)
        if weight in _IMAGE_LOSSES and recipe.objective == "self":
            # self-supervised losses have two terms, and the weight of the other term determines
            # their ratio
            continue
        if term is None and not _accepts_loss(recipe, weight):
            continue
        maximum, description, source = weight.maximum, weight.description, weight.source
        if term is not None and getattr(term.build, "__name__", "") == "CriticScore":
            # the term of the attention U-Net is 1 - D in equation 2, and its weight is lambda
            maximum, description = 1.0, "weight lambda of the critic's score, 1 - D"
            source = f"{_ATTENTION_UNET_PAPER}: 0 to 1, equation 2"
        default = 0.0 if term is None else term.weight
        yield VariableField(
            name=weight.name,
            default=None if term is not None and term.stands_in else default,
            text_without_default=f"{default:g} without VGG-19",
            minimum=0,
            maximum=maximum,
            description=description,
            source=source,
            replace_value=partial(_replace_weight, weight=weight),
        )


def _accepts_loss(recipe: Recipe, weight: _WeightSetting) -> bool:
    """Return whether a loss can be added to a recipe.

    The cross-entropy can only be added if intensities are from 0 to 1, and squared differences
    only to a recipe with total variation.
    """
    if weight.class_name == _SQUARED_VARIATION:
        return any(term.kind == "tv" for term in recipe.losses)
    return (
        weight in _IMAGE_LOSSES
        and recipe.objective == "supervised"
        and (weight.name != "bce" or recipe.intensity != "percentile")
    )


def _get_network_settings(recipe: Recipe) -> Mapping[str, object]:
    """Return the settings of the recipe's generator, or an empty mapping if there are none."""
    settings: Mapping[str, object] = getattr(recipe.build_generator, "settings", {})
    return settings


def _is_doubling(widths: object) -> bool:
    """Return whether each width is twice the previous width."""
    return isinstance(widths, tuple) and all(
        width == 2 * previous_width for previous_width, width in pairwise(widths)
    )


def _get_filters(recipe: Recipe) -> Number | None:
    """Return the number of filters in the generator's first layer, if it determines all layers.

    None is returned for other generators, including transformers, whose token width is not a
    number of filters.
    """
    settings = _get_network_settings(recipe)
    widths, width = settings.get("widths"), settings.get("width")
    if isinstance(widths, tuple) and _is_doubling(widths):
        return int(widths[0])
    return width if isinstance(width, int) and "heads" not in settings else None


def _replace_filters(recipe: Recipe, value: Number) -> Recipe:
    """Return the recipe with another number of filters in the generator's first layer."""
    settings = dict(_get_network_settings(recipe))
    widths = settings.get("widths")
    if isinstance(widths, tuple):
        settings["widths"] = tuple(int(value) * 2**level for level in range(len(widths)))
    else:
        settings["width"] = int(value)
    build = replace(recipe.build_generator, settings=settings)  # type: ignore[type-var]
    return replace(recipe, build_generator=build)


def _find_smallest_side(recipe: Recipe) -> int:
    """Return the side of the smallest patch that all networks of a recipe support."""
    sides = [
        getattr(network, "smallest", 1)
        for network in (recipe.build_generator, recipe.build_critic)
        if network is not None
    ]
    perceptual = any(term.kind == "perceptual" for term in recipe.losses)
    return max(SMALLEST_SIDE, *sides, _MIN_SIDE_FOR_VGG if perceptual else 1)


def variable_fields(recipe: Recipe | VarianceRecipe) -> tuple[VariableField, ...]:
    """Return the settings of a recipe that can be changed: weights, network, samples and steps.

    For prior SD maps, they are the fields with limits.
    """
    if isinstance(recipe, VarianceRecipe):
        return tuple(_iterate_variance_fields(recipe))
    return (
        *_iterate_weight_fields(recipe),
        *_iterate_network_fields(recipe),
        *_iterate_patch_fields(recipe),
        *_iterate_step_fields(recipe),
    )


def _iterate_patch_fields(recipe: Recipe) -> Iterable[VariableField]:
    """Yield the settings for size and number of the training patches."""
    if recipe.augmentation.of_whole_slices:
        return
    # patches would change the total variation and the data consistency of self-supervised recipes
    if recipe.objective != "self":
        yield VariableField(
            name="patch",
            default=recipe.patch,
            text_without_default="whole images",
            minimum=_find_smallest_side(recipe),
            maximum=_MAX_SIDE,
            is_integer=True,
            unit="high-resolution voxels",
            description="side length of training patches",
            source=f"{_ATTENTION_UNET_PAPER}: 8 to 64, section 4.1.2",
            replace_value=_replace_patch,
        )
    if recipe.patch is None and recipe.epochs is not None and not recipe.each_slice_once:
        unit = "volumes"
        description = "number of training volumes per epoch, which are drawn at random"
        source = ""
    else:
        unit = "patches in total across all images"
        description = "number of training patches, which are drawn once before training"
        source = (
            f"{_ATTENTION_UNET_PAPER}: 100 to 5000 per scan, section 4.1.3;"
            f" {_MOUSE_PAPER}: 5000 and 20000, table 1"
        )
    yield VariableField(
        name="patches",
        default=None if recipe.epochs_of_slices else recipe.patches,
        text_without_default=(
            "all slices once per epoch" if recipe.epochs_of_slices else "new patches in every step"
        ),
        minimum=1,
        maximum=_MAX_PATCHES,
        is_integer=True,
        unit=unit,
        description=description,
        source=source,
        replace_value=_replace_patches,
    )


def _replace_patch(recipe: Recipe, side: Number) -> Recipe:
    """Return the recipe with patches of another size, which is not only an upper limit."""
    return replace(recipe, patch=int(side), patch_at_most=False)


def _replace_patches(recipe: Recipe, number: Number) -> Recipe:
    """Return the recipe with another number of patches in place of all slices once."""
    return replace(recipe, patches=int(number), each_slice_once=False)


def _iterate_variance_fields(recipe: VarianceRecipe) -> Iterable[VariableField]:
    """Yield the settings of the estimation of prior SD maps, from the fields of its recipe."""
    for item in fields(recipe):
        limits = item.metadata.get("limits")
        if isinstance(limits, SettingLimits) and (recipe.fwhm or not limits.requires_prior):
            default = getattr(recipe, item.name)
            yield VariableField(
                name=item.name,
                default=default,
                minimum=limits.minimum,
                maximum=limits.maximum,
                is_integer=isinstance(default, int),
                unit=limits.unit,
                description=item.metadata["doc"],
                replace_value=partial(_replace_setting, name=item.name),
            )


def _replace_setting(recipe: _AnyRecipe, value: Number, name: str) -> _AnyRecipe:
    """Return the recipe with another value of a field, which has the type of the field."""
    changes: dict[str, Any] = {name: value}
    return replace(recipe, **changes)


def _replace_network_setting(recipe: Recipe, value: Number, name: str) -> Recipe:
    """Return the recipe with another whole-number setting of its generator."""
    settings = {**_get_network_settings(recipe), name: int(value)}
    build = replace(recipe.build_generator, settings=settings)  # type: ignore[type-var]
    return replace(recipe, build_generator=build)


def _iterate_network_fields(recipe: Recipe) -> Iterable[VariableField]:
    """Yield the settings of the generator, such as its number of filters."""
    filters = _get_filters(recipe)
    if filters is not None:
        yield VariableField(
            name="filters",
            default=filters,
            minimum=4,
            maximum=256,
            is_integer=True,
            unit="channels",
            description="number of filters in the first layer of the generator",
            source=f"{_ATTENTION_UNET_PAPER}: 16 to 128, section 4.1.4",
            replace_value=_replace_filters,
        )
    yield from _iterate_depth_fields(recipe)


def _iterate_depth_fields(recipe: Recipe) -> Iterable[VariableField]:
    """Yield the settings for the depth of the generator, if it has such settings."""
    is_of_tv_paper = recipe.objective == "self" or recipe.edition > 1
    sources = {
        "blocks": f"{_TV_PAPER}: 10, section 2.2, and 12 in the authors' code"
        if is_of_tv_paper
        else "",
        "convolutions": f"{_ATTENTION_UNET_PAPER}: 1, section 3.3, and 2 in the authors' code",
    }
    for name, maximum, description in (
        ("blocks", 64, "number of residual blocks of the generator"),
        ("convolutions", 2, "number of convolutions per level of the generator"),
    ):
        default = _get_network_settings(recipe).get(name)
        if isinstance(default, int):
            yield VariableField(
                name=name,
                default=default,
                minimum=1,
                maximum=maximum,
                is_integer=True,
                unit=name,
                description=description,
                source=sources[name],
                replace_value=partial(_replace_network_setting, name=name),
            )


def _iterate_decay_fields(recipe: Recipe) -> Iterable[VariableField]:
    """Yield the settings that reduce the learning rate during a training."""
    if recipe.schedule == "plateau":
        yield _make_integer_field(
            recipe,
            "plateau_patience",
            maximum=_MAX_EPOCHS,
            unit="epochs",
            description="number of epochs without improvement after which the learning rate is"
            " halved",
        )
    if recipe.schedule == "step-decay":
        yield _make_integer_field(
            recipe,
            "decay_every",
            maximum=_MAX_EPOCHS,
            unit="epochs",
            description=f"number of epochs after which the learning rate is multiplied by "
            f"{recipe.decay_factor:g}",
        )


def _iterate_step_fields(recipe: Recipe) -> Iterable[VariableField]:
    """Yield the settings for number and size of the training steps."""
    if recipe.epochs is not None:
        yield _make_integer_field(
            recipe,
            "epochs",
            maximum=_MAX_EPOCHS,
            unit="epochs",
            description="maximum number of epochs",
        )
    else:
        yield _make_integer_field(
            recipe,
            "iterations",
            # fewer steps would end before the adversarial term is used
            minimum=recipe.adversarial_from + 1,
            maximum=_MAX_STEPS,
            unit="steps",
            description="maximum number of training steps",
        )
    yield _make_integer_field(
        recipe,
        "batch",
        maximum=512,
        unit="patches per step",
        description="number of patches per batch",
    )
    yield VariableField(
        name="learning_rate",
        default=recipe.learning_rate,
        minimum=_MIN_LEARNING_RATE,
        maximum=1,
        description="learning rate of the Adam optimizer for the generator",
        replace_value=partial(_replace_setting, name="learning_rate"),
    )
    yield from _iterate_decay_fields(recipe)
    if recipe.build_critic is not None:
        yield from _iterate_critic_fields(recipe)


def _iterate_critic_fields(recipe: Recipe) -> Iterable[VariableField]:
    """Yield the settings for number and size of the training steps of the critic."""
    yield VariableField(
        name="critic_learning_rate",
        default=recipe.critic_learning_rate,
        text_without_default="same as the generator",
        minimum=_MIN_LEARNING_RATE,
        maximum=1,
        description="learning rate of the Adam optimizer for the critic",
        replace_value=partial(_replace_setting, name="critic_learning_rate"),
    )
    yield _make_integer_field(
        recipe,
        "critic_steps",
        maximum=100,
        unit="steps",
        description="number of critic steps per generator step",
        source=f"{_ATTENTION_UNET_PAPER}: 5, section 3.5, and 1 in the authors' code",
    )


def _make_integer_field(
    recipe: Recipe,
    name: str,
    *,
    minimum: int = 1,
    maximum: int,
    unit: str,
    description: str,
    source: str = "",
) -> VariableField:
    """Return the field of a recipe that is a whole number, as a setting that users can change.

    `name` is the name of both; the other parameters are described in `VariableField`.
    """
    return VariableField(
        name=name,
        default=getattr(recipe, name),
        minimum=minimum,
        maximum=maximum,
        is_integer=True,
        unit=unit,
        description=description,
        source=source,
        replace_value=partial(_replace_setting, name=name),
    )


def suggestion_text(name: str, known: Sequence[str]) -> str:
    """Return ``Did you mean x?`` for the closest known name, or "" if no name is similar."""
    from difflib import get_close_matches

    similar_names = get_close_matches(name, known, n=1)
    return f"Did you mean {similar_names[0]}?" if similar_names else ""


def variable_field(recipe: Recipe | VarianceRecipe, name: str, recipe_label: str) -> VariableField:
    """Return a setting of a recipe by its name, or raise `ChangeError` with a list of settings.

    `recipe_label` contains method and recipe for the error message.
    """
    settings = {field.name: field for field in variable_fields(recipe)}
    if name in settings:
        return settings[name]
    if name == "bce" and isinstance(recipe, Recipe) and recipe.objective == "supervised":
        raise ChangeError(
            "the cross-entropy loss requires intensities between 0 and 1, but intensities "
            f"can exceed 1 in {recipe_label}",
            "Use --recipe paper with attunet, unet, vit, ccnn3d, resnet2d, resnet3d or gan3d.",
        )
    raise ChangeError(
        f"{recipe_label} has no setting {name!r}; expected one of {', '.join(settings)}",
        suggestion_text(name, list(settings)) or "Choose one of these settings.",
    )


def apply_changes(
    recipe: _AnyRecipe, changes: Sequence[RecipeChange], recipe_label: str = ""
) -> _AnyRecipe:
    """Return a recipe with changes.

    `changes` are for the method of this recipe. `recipe_label` is the method and recipe, for error
    messages. Applying the changes again has no effect.

    Raises `ChangeError` if a setting is unknown, a value is outside its range, or no loss term
    compares the output with an image.
    """
    changed_recipe = recipe
    for change in changes:
        try:
            field = variable_field(recipe, change.field, recipe_label or change.method)
            value = field.check(change.value)
        except ChangeError as error:
            raise ChangeError(error.why, error.fix, str(change)) from None
        changed_recipe = field.replace_value(changed_recipe, value)
    if changes and isinstance(changed_recipe, Recipe) and not changed_recipe.compares_images:
        alternatives = [
            weight.name for weight in _IMAGE_LOSSES if _accepts_loss(changed_recipe, weight)
        ]
        raise ChangeError(
            "all loss terms that compare the output with an image would have a weight of 0",
            f"Specify a weight above 0 for at least one of {', '.join(alternatives)}."
            if alternatives
            else "Keep the default of at least one weight.",
            " ".join(map(str, changes)),
        )
    return changed_recipe


def base_recipe(method: Method, name: str) -> Recipe | VarianceRecipe:
    """Return the recipe of a method before changes: of its prior SD maps, or of its network."""
    return method.variance or get_recipe(method, name)


def change_recipe(method: Method, name: str, changes: Sequence[RecipeChange]) -> Recipe:
    """Return the recipe of a method with the changes that concern this method."""
    method_changes = select_changes(changes, method.name)
    return apply_changes(get_recipe(method, name), method_changes, f"{method.name} ({name})")


def select_changes(changes: Sequence[RecipeChange], method: str) -> tuple[RecipeChange, ...]:
    """Return the changes that concern a method."""
    return tuple(change for change in changes if change.method == method)


def check_changes(
    changes: Sequence[RecipeChange], methods: Sequence[str], recipe: str, *, vgg: bool
) -> None:
    """Raise `ChangeError` for changes that the selected methods do not use or cannot train with.

    `changes` are of all methods, and `methods` the names of the selected methods. `vgg` states
    whether VGG-19 weights are available.
    """
    n_changes = Counter((change.method, change.field) for change in changes)
    for change in changes:
        _check_target(change, methods, vgg=vgg)
        if n_changes[change.method, change.field] > 1:
            reason = f"{change.method}.{change.field} is specified twice"
            raise ChangeError(reason, "Specify the setting only once.", str(change))
    for name in dict.fromkeys(change.method for change in changes):
        method = get_method(name)
        if method.variance is not None:
            apply_changes(method.variance, select_changes(changes, name), name)
        elif recipe in method.recipes:  # others are reported elsewhere
            changed_recipe = change_recipe(method, recipe, changes)
            if changed_recipe.needs_vgg and not vgg:
                reason = (
                    "only VGG-19 features would compare the output with the image, but no VGG-19"
                    " weights were specified"
                )
                fix = "Specify the weights with --vgg-weights, or remove the change."
                method_changes = select_changes(changes, name)
                raise ChangeError(reason, fix, " ".join(map(str, method_changes)))


def _check_target(change: RecipeChange, methods: Sequence[str], *, vgg: bool) -> None:
    """Raise `ChangeError` if the method of a change is not run, or its loss is not used."""
    name = change.method
    if name not in method_names():
        reason = f"unknown method {name!r}; expected one of {', '.join(method_names())}"
        fix = suggestion_text(name, method_names()) or "Choose one of these methods."
        raise ChangeError(reason, fix, str(change))
    if name not in methods:
        reason = (
            f"the method {name} is not run by this command (selected methods: "
            f"{', '.join(methods) or 'none'})"
        )
        fix = f"Add --sr-method {name}, or remove the change."
        raise ChangeError(reason, fix, str(change))
    if change.field == "perceptual" and not vgg:
        reason = "the perceptual loss is not used, because no VGG-19 weights were specified"
        fix = "Specify the weights with --vgg-weights, or remove the change."
        raise ChangeError(reason, fix, str(change))


def changed_values(
    recipe: Recipe | VarianceRecipe, changes: Sequence[RecipeChange]
) -> dict[str, Number]:
    """Return the changed values that differ from the recipe, by name of the setting.

    ChangeError is raised as in `apply_changes`.
    """
    values: dict[str, Number] = {}
    for change in changes:
        field = variable_field(recipe, change.field, change.method)
        value = field.check(change.value)
        if value != field.default:
            values[field.name] = value
    return dict(sorted(values.items()))


def changes_from(method: str, values: Mapping[str, object]) -> tuple[RecipeChange, ...]:
    """Return the changes of a method from a mapping of names to values, as in a model card.

    ChangeError is raised if a value is not a finite number.
    """
    changes = []
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise ChangeError(
                f"the value of {name} in the model card is not a number",
                "Restore the original model card.",
            )
        changes.append(RecipeChange(method=method, field=name, value=value))
    return tuple(changes)


def changes_text(recipe: Recipe | VarianceRecipe, changes: Sequence[RecipeChange]) -> str:
    """Return a sentence about the changes for the methods text, or "" if there are none."""
    settings = {field.name: field for field in variable_fields(recipe)}
    phrases = [
        f"{settings[name].description} ({value:.9g} instead of {settings[name].default_text})"
        for name, value in changed_values(recipe, changes).items()
    ]
    if not phrases:
        return ""
    return f" The following settings of the recipe were changed: {'; '.join(phrases)}."


def work_ratio(recipe: Recipe, changed: Recipe, ndim: int) -> float:
    """Return the amount of computation in training relative to the unchanged recipe.

    The amount is estimated from the number of steps, the batch size, the patch volume and the
    squared number of filters. If the recipe uses whole slices, a change to patches is ignored,
    which overestimates the amount.
    """
    n_images_ratio = (changed.steps * changed.batch) / (recipe.steps * recipe.batch)
    ratio = n_images_ratio * width_ratio(recipe, changed)
    if recipe.patch is None or changed.patch is None:
        return ratio
    return ratio * (_count_voxels(changed.patch, ndim) / _count_voxels(recipe.patch, ndim))


def variance_work_ratio(recipe: VarianceRecipe, changed: VarianceRecipe) -> float:
    """Return the amount of computation for prior SD maps relative to the unchanged recipe."""
    changed_amount, amount = (
        settings.rounds * (settings.draws + settings.components) for settings in (changed, recipe)
    )
    return changed_amount / amount if amount else 1.0


def width_ratio(recipe: Recipe, changed: Recipe) -> float:
    """Return the squared ratio of the number of filters, or 1 if a recipe has no such number."""
    old_filters, new_filters = _get_filters(recipe), _get_filters(changed)
    return 1.0 if not old_filters or not new_filters else (new_filters / old_filters) ** 2


def _count_voxels(patch: int | tuple[int, ...], ndim: int) -> float:
    """Return the number of voxels of a patch."""
    return prod((patch,) * ndim if isinstance(patch, int) else patch[:ndim])
