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
from math import isfinite, prod
from typing import Any, NamedTuple, TypeVar

from bids_sr.io.frozen import frozen
from bids_sr.io.notices import InvalidInput
from bids_sr.sr.method import Method, get_method, get_recipe, method_names, suggestion_text
from bids_sr.sr.recipe import (
    ATTENTION_UNET_PAPER,
    SMALLEST_SIDE,
    LossTerm,
    Recipe,
    SettingLimits,
    VarianceRecipe,
    loss,
)

Number = int | float
_AnyRecipe = TypeVar("_AnyRecipe", Recipe, VarianceRecipe)
_MAX_WEIGHT = 100.0
_MIN_SIDE_FOR_VGG = 16  # voxels, smallest side with features after four poolings of VGG-19
_TV_PAPER = "Pérez-Bueno et al."
_SQUARED_VARIATION = "SquaredVariation"
_OBJECTIVES = f"{ATTENTION_UNET_PAPER}, section 3.4"


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
        """Parse ``METHOD.FIELD=VALUE``, or raise `InvalidInput` if the text has another form.

        The names are checked by `check_changes`.
        """
        name, equals, number = text.partition("=")
        method, dot, field = name.strip().partition(".")
        if not (equals and dot and method and field):
            raise InvalidInput(
                "the change is not of the form METHOD.FIELD=VALUE",
                "Write, for example, tv.tv=0.02.",
            )
        return cls(method=method, field=field, value=parse_finite_number(number))


def parse_finite_number(text: str) -> Number:
    """Parse a finite number; whole numbers are returned as int.

    >>> parse_finite_number("5e3"), parse_finite_number(".02")
    (5000, 0.02)
    """
    try:
        value = float(text)
    except ValueError:
        raise InvalidInput(
            f"{text.strip()!r} is not a number", "Specify a single number."
        ) from None
    if not isfinite(value):
        raise InvalidInput(
            f"{text.strip()!r} is not a finite number", "Specify a single finite number."
        )
    return int(value) if value.is_integer() else value


def change_of_method(text: str, method: str) -> RecipeChange:
    """Parse ``FIELD=VALUE`` or ``METHOD.FIELD=VALUE`` for this method, or raise `InvalidInput`."""
    name, equals, _ = text.partition("=")
    if not (name.strip() and equals):
        raise InvalidInput(
            "the change is not of the form FIELD=VALUE", "Write, for example, batch=8.", text
        )
    if "." in name and not name.strip().startswith(f"{method}."):
        raise InvalidInput(
            f"the change must concern a setting of the method {method}",
            "Write FIELD=VALUE without the name of a method.",
            text,
        )
    try:
        return RecipeChange.from_text(text if "." in name else f"{method}.{text}")
    except InvalidInput as error:
        raise InvalidInput(error.reason, error.remedy, text) from None


@frozen
class VariableField:
    """Setting of a recipe that users can change.

    `default` is the value in the recipe: None if the recipe leaves the setting open, and several
    sides for a patch that is not a cube. `replace_value` returns the recipe with a new value.
    """

    name: str
    default: Number | tuple[int, ...] | None
    description: str
    limits: SettingLimits
    is_integer: bool = False
    replace_value: Callable[[Any, Number], Any]

    @property
    def range(self) -> str:
        """Limits as text, such as ``8 to 256``."""
        return f"{self.limits.minimum:g} to {self.limits.maximum:.9g}"

    @property
    def default_text(self) -> str:
        """Value in the unchanged recipe, as text."""
        if self.default is None:
            return self.limits.text_without_value
        if isinstance(self.default, tuple):
            return " x ".join(map(str, self.default))
        return f"{self.default:.9g}"

    def check(self, value: Number) -> Number:
        """Return a value in the type of the setting, or raise `InvalidInput` if it is invalid."""
        if self.is_integer and value != int(value):
            raise InvalidInput(
                f"{self.name} must be a whole number", f"Specify a whole number from {self.range}."
            )
        if not self.limits.minimum <= value <= self.limits.maximum:
            raise InvalidInput(
                f"{self.name} ({self.description}) must be from {self.range}",
                "Specify a value in this range.",
            )
        return int(value) if self.is_integer else float(value)


def check_changes(
    changes: Sequence[RecipeChange], methods: Sequence[str], recipe: str, *, vgg: bool
) -> None:
    """Raise `InvalidInput` for changes that the selected methods do not use or cannot train with.

    `methods` are the selected methods, `recipe` is the name of the recipe, and `vgg` is whether
    VGG-19 weights are available.
    """
    n_changes = Counter((change.method, change.field) for change in changes)
    for change in changes:
        _check_target(change, methods, vgg=vgg)
        if n_changes[change.method, change.field] > 1:
            reason = f"{change.method}.{change.field} is specified twice"
            raise InvalidInput(reason, "Specify the setting only once.", str(change))
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
                raise InvalidInput(reason, fix, " ".join(map(str, method_changes)))


def _check_target(change: RecipeChange, methods: Sequence[str], *, vgg: bool) -> None:
    """Raise `InvalidInput` if the method of a change is not run, or its loss is not used."""
    name = change.method
    if name not in method_names():
        reason = f"unknown method {name!r}; expected one of {', '.join(method_names())}"
        fix = suggestion_text(name, method_names()) or "Choose one of these methods."
        raise InvalidInput(reason, fix, str(change))
    if name not in methods:
        reason = (
            f"the method {name} is not run by this command (selected methods: "
            f"{', '.join(methods) or 'none'})"
        )
        fix = f"Add --sr-method {name}, or remove the change."
        raise InvalidInput(reason, fix, str(change))
    if change.field == "perceptual" and not vgg:
        reason = "the perceptual loss is not used, because no VGG-19 weights were specified"
        fix = "Specify the weights with --vgg-weights, or remove the change."
        raise InvalidInput(reason, fix, str(change))


def change_recipe(method: Method, name: str, changes: Sequence[RecipeChange]) -> Recipe:
    """Return the recipe of a method with the changes that concern this method."""
    method_changes = select_changes(changes, method.name)
    return apply_changes(get_recipe(method, name), method_changes, f"{method.name} ({name})")


def select_changes(changes: Sequence[RecipeChange], method: str) -> tuple[RecipeChange, ...]:
    """Return the changes that concern a method."""
    return tuple(change for change in changes if change.method == method)


def apply_changes(
    recipe: _AnyRecipe, changes: Sequence[RecipeChange], recipe_label: str = ""
) -> _AnyRecipe:
    """Return a recipe with the changes of its method; repeated changes have no further effect.

    `recipe_label` contains method and recipe for error messages. InvalidInput is raised if a
    setting is unknown, if a value is outside its range, or if no loss term compares the output
    with an image.
    """
    changed_recipe = recipe
    for change in changes:
        try:
            field = variable_field(recipe, change.field, recipe_label or change.method)
            value = field.check(change.value)
        except InvalidInput as error:
            raise InvalidInput(error.reason, error.remedy, str(change)) from None
        changed_recipe = field.replace_value(changed_recipe, value)
    if changes and isinstance(changed_recipe, Recipe) and not changed_recipe.compares_images:
        alternatives = [
            weight.name
            for weight in _WEIGHTS
            if weight.is_of_image_loss and _accepts_loss(changed_recipe, weight)
        ]
        raise InvalidInput(
            "all loss terms that compare the output with an image would have a weight of 0",
            f"Specify a weight above 0 for at least one of {', '.join(alternatives)}."
            if alternatives
            else "Keep the default of at least one weight.",
            " ".join(map(str, changes)),
        )
    return changed_recipe


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


def changed_values(
    recipe: Recipe | VarianceRecipe, changes: Sequence[RecipeChange]
) -> dict[str, Number]:
    """Return the changed values that differ from the recipe, by name of the setting.

    InvalidInput is raised as in `apply_changes`.
    """
    values: dict[str, Number] = {}
    for change in changes:
        field = variable_field(recipe, change.field, change.method)
        value = field.check(change.value)
        if value != field.default:
            values[field.name] = value
    return dict(sorted(values.items()))


def variable_field(recipe: Recipe | VarianceRecipe, name: str, recipe_label: str) -> VariableField:
    """Return a setting of a recipe by its name, or raise `InvalidInput` with a list of settings.

    `recipe_label` contains method and recipe for the error message.
    """
    settings = {field.name: field for field in variable_fields(recipe)}
    if name in settings:
        return settings[name]
    if name == "bce" and isinstance(recipe, Recipe) and recipe.objective == "supervised":
        raise InvalidInput(
            "the cross-entropy loss requires intensities between 0 and 1, but intensities "
            f"can exceed 1 in {recipe_label}",
            "Use --recipe paper with attunet, unet, vit, ccnn3d, resnet2d, resnet3d or gan3d.",
        )
    raise InvalidInput(
        f"{recipe_label} has no setting {name!r}; expected one of {', '.join(settings)}",
        suggestion_text(name, list(settings)) or "Choose one of these settings.",
    )


def variable_fields(recipe: Recipe | VarianceRecipe) -> tuple[VariableField, ...]:
    """Return the settings of a recipe that can be changed: weights, network, and its fields.

    Limits and descriptions of fields are in `bids_sr.sr.recipe`.
    """
    own_fields = tuple(_iterate_own_fields(recipe))
    if isinstance(recipe, VarianceRecipe):
        return own_fields
    return (
        *_iterate_weight_fields(recipe),
        *_iterate_network_fields(recipe),
        *(_adapt_field(field, recipe) for field in own_fields),
    )


def _iterate_own_fields(recipe: Recipe | VarianceRecipe) -> Iterable[VariableField]:
    """Yield the fields of a recipe that have limits and that the recipe uses."""
    has_prior = isinstance(recipe, Recipe) or bool(recipe.fwhm)
    for item in fields(recipe):
        limits = item.metadata.get("limits")
        if not isinstance(limits, SettingLimits) or not limits.is_used(recipe):
            continue
        if has_prior or not limits.requires_prior:
            yield VariableField(
                name=item.name,
                default=getattr(recipe, item.name),
                description=item.metadata["doc"],
                limits=limits,
                is_integer=str(item.type).startswith("int"),
                replace_value=partial(_replace_setting, name=item.name, limits=limits),
            )


def _replace_setting(
    recipe: _AnyRecipe, value: Number, name: str, limits: SettingLimits
) -> _AnyRecipe:
    """Return the recipe with another value of a field, which has the type of the field."""
    changes: dict[str, Any] = {name: value, **limits.replaced_fields}
    return replace(recipe, **changes)


def _iterate_weight_fields(recipe: Recipe) -> Iterable[VariableField]:
    """Yield the weights of all loss terms, and of the image losses that can be added."""
    for weight in _WEIGHTS:
        term = _find_term(recipe, weight)
        # self-supervised losses have two terms, and the weight of the other term determines their
        # ratio
        is_fixed = weight.is_of_image_loss and recipe.objective == "self"
        if is_fixed or (term is None and not _accepts_loss(recipe, weight)):
            continue
        default = 0.0 if term is None else term.weight
        limits = SettingLimits(
            minimum=0,
            maximum=_MAX_WEIGHT,
            source=weight.source,
            text_without_value=f"{default:g} without VGG-19",
        )
        description = weight.description
        if term is not None and _get_class_name(term) == "CriticScore":
            # the term of the attention U-Net is 1 - D in equation 2, and its weight is lambda
            description = "weight lambda of the critic's score, 1 - D"
            source = f"{ATTENTION_UNET_PAPER}: 0 to 1, equation 2"
            limits = replace(limits, maximum=1.0, source=source)
        yield VariableField(
            name=weight.name,
            default=None if term is not None and term.stands_in else default,
            description=description,
            limits=limits,
            replace_value=partial(_replace_weight, weight=weight),
        )


class _Weight(NamedTuple):
    """Weight of a loss term: name, kind and class of the term, description and source.

    The class "" stands for all classes of the kind that have no weight with another name.
    """

    name: str
    kind: str
    class_name: str
    description: str
    source: str = ""

    @property
    def is_of_image_loss(self) -> bool:
        """Whether the term compares the output with the target in any recipe."""
        return self.kind in ("content", "ssim", "psnr")

    def belongs_to(self, term: LossTerm) -> bool:
        """Return whether this is the weight of a loss term."""
        class_name = _get_class_name(term)
        return term.kind == self.kind and (
            class_name == self.class_name
            or (not self.class_name and class_name != _SQUARED_VARIATION)
        )


_WEIGHTS = (
    _Weight("mae", "content", "MAE", "weight of the mean absolute error", _OBJECTIVES),
    _Weight("mse", "content", "MSE", "weight of the mean squared error", _OBJECTIVES),
    _Weight(
        "bce", "content", "BCE", "weight of the binary cross-entropy of intensities", _OBJECTIVES
    ),
    _Weight("ssim", "ssim", "SSIMLoss", "weight of 1 - SSIM", _OBJECTIVES),
    _Weight(
        "psnr",
        "psnr",
        "PSNRLoss",
        "weight of the peak signal-to-noise ratio (PSNR), expressed as the distance in dB from a"
        " perfect image",
        f"{ATTENTION_UNET_PAPER}, section 4.3",
    ),
    _Weight("tv", "tv", "", "weight of the total variation", f"{_TV_PAPER}: 0 to 0.1, equation 2"),
    _Weight(
        "squared_tv",
        "tv",
        _SQUARED_VARIATION,
        "weight of the mean of squared differences between neighboring voxels",
        f"{_TV_PAPER}: 0.07 in the authors' code",
    ),
    _Weight("adversarial", "adversarial", "", "weight of the adversarial loss"),
    _Weight("perceptual", "perceptual", "", "weight of the perceptual loss (VGG-19 features)"),
    _Weight("cycle", "cycle", "", "weight of the cycle-consistency loss"),
    _Weight("identity", "identity", "", "weight of the identity loss"),
    _Weight("sparsify", "sparsify", "", "weight of the joint sparsity term"),
)


def _accepts_loss(recipe: Recipe, weight: _Weight) -> bool:
    """Return whether a loss can be added to a recipe.

    The cross-entropy can only be added if intensities are from 0 to 1, and squared differences
    only to a recipe with total variation.
    """
    if weight.class_name == _SQUARED_VARIATION:
        return any(term.kind == "tv" for term in recipe.losses)
    return (
        weight.is_of_image_loss
        and recipe.objective == "supervised"
        and (weight.name != "bce" or recipe.intensity != "percentile")
    )


def _get_class_name(term: LossTerm) -> str:
    """Return the name of the class of a loss term, "" if it has none."""
    return str(getattr(term.build, "__name__", ""))


def _replace_weight(recipe: Recipe, value: Number, weight: _Weight) -> Recipe:
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


def _find_term(recipe: Recipe, weight: _Weight) -> LossTerm | None:
    """Return the term of a recipe with this weight, or None."""
    return next((term for term in recipe.losses if weight.belongs_to(term)), None)


def _iterate_network_fields(recipe: Recipe) -> Iterable[VariableField]:
    """Yield the settings of the generator: its numbers of filters, blocks and convolutions."""
    settings = _get_network_settings(recipe)
    is_of_tv_paper = recipe.objective == "self" or recipe.edition > 1
    blocks_source = f"{_TV_PAPER}: 10, section 2.2, and 12 in the authors' code"
    for name, default, limits, description in (
        (
            "filters",
            _get_filters(recipe),
            SettingLimits(
                minimum=4,
                maximum=256,
                unit="channels",
                source=f"{ATTENTION_UNET_PAPER}: 16 to 128, section 4.1.4",
            ),
            "number of filters in the first layer of the generator",
        ),
        (
            "blocks",
            settings.get("blocks"),
            SettingLimits(
                minimum=1,
                maximum=64,
                unit="blocks",
                source=blocks_source if is_of_tv_paper else "",
            ),
            "number of residual blocks of the generator",
        ),
        (
            "convolutions",
            settings.get("convolutions"),
            SettingLimits(
                minimum=1,
                maximum=2,
                unit="convolutions",
                source=f"{ATTENTION_UNET_PAPER}: 1, section 3.3, and 2 in the authors' code",
            ),
            "number of convolutions per level of the generator",
        ),
    ):
        if isinstance(default, int):
            yield VariableField(
                name=name,
                default=default,
                description=description,
                limits=limits,
                is_integer=True,
                replace_value=partial(_replace_network_setting, name=name),
            )


def _replace_network_setting(recipe: Recipe, value: Number, name: str) -> Recipe:
    """Return the recipe with another whole-number setting of its generator.

    The setting "filters" is the width of the first layer.
    """
    settings = dict(_get_network_settings(recipe))
    widths = settings.get("widths")
    if name == "filters" and isinstance(widths, tuple):
        settings["widths"] = _double_widths(int(value), len(widths))
    else:
        settings["width" if name == "filters" else name] = int(value)
    build = replace(recipe.build_generator, settings=settings)  # type: ignore[type-var]
    return replace(recipe, build_generator=build)


def _adapt_field(field: VariableField, recipe: Recipe) -> VariableField:
    """Return a setting with the limits and texts that depend on other fields of the recipe."""
    limits = field.limits
    match field.name:
        case "patch":
            return replace(field, limits=replace(limits, minimum=_find_smallest_side(recipe)))
        case "iterations":  # fewer steps would end before the adversarial term is used
            return replace(field, limits=replace(limits, minimum=recipe.adversarial_from + 1))
        case "decay_every":
            factor_text = f"{recipe.decay_factor:g}"
            return replace(
                field, description=field.description.replace("`decay_factor`", factor_text)
            )
        case "patches" if recipe.epochs_of_slices:
            limits = replace(limits, text_without_value="all slices once per epoch")
            return replace(field, default=None, limits=limits)
        case "patches" if (
            recipe.patch is None and recipe.epochs is not None and not recipe.each_slice_once
        ):
            description = "number of training volumes per epoch, which are drawn at random"
            limits = replace(limits, unit="volumes", source="")
            return replace(field, description=description, limits=limits)
    return field


def _find_smallest_side(recipe: Recipe) -> int:
    """Return the side of the smallest patch that all networks of a recipe support."""
    sides = [
        getattr(network, "smallest", 1)
        for network in (recipe.build_generator, recipe.build_critic)
        if network is not None
    ]
    return max(SMALLEST_SIDE, *sides, _MIN_SIDE_FOR_VGG if recipe.perceptual else 1)


def base_recipe(method: Method, name: str) -> Recipe | VarianceRecipe:
    """Return the recipe of a method before changes: of its prior SD maps, or of its network."""
    return method.variance or get_recipe(method, name)


def changes_from(method: str, values: Mapping[str, object]) -> tuple[RecipeChange, ...]:
    """Return the changes of a method from a mapping of names to values, as in a model card.

    InvalidInput is raised if a value is not a finite number.
    """
    changes = []
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise InvalidInput(
                f"the value of {name} in the model card is not a number",
                "Restore the original model card.",
            )
        changes.append(RecipeChange(method=method, field=name, value=value))
    return tuple(changes)


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


def width_ratio(recipe: Recipe, changed: Recipe) -> float:
    """Return the squared ratio of the number of filters, or 1 if a recipe has no such number."""
    old_filters, new_filters = _get_filters(recipe), _get_filters(changed)
    return 1.0 if not old_filters or not new_filters else (new_filters / old_filters) ** 2


def _get_filters(recipe: Recipe) -> Number | None:
    """Return the number of filters in the generator's first layer, if it determines all layers.

    None is returned for other generators, including transformers, whose token width is not a
    number of filters.
    """
    settings = _get_network_settings(recipe)
    widths, width = settings.get("widths"), settings.get("width")
    if isinstance(widths, tuple) and widths == _double_widths(widths[0], len(widths)):
        return int(widths[0])
    return width if isinstance(width, int) and "heads" not in settings else None


def _get_network_settings(recipe: Recipe) -> Mapping[str, object]:
    """Return the settings of the recipe's generator, or an empty mapping if there are none."""
    settings: Mapping[str, object] = getattr(recipe.build_generator, "settings", {})
    return settings


def _double_widths(first_width: int, count: int) -> tuple[int, ...]:
    """Return widths of levels, each twice the previous width."""
    return tuple(first_width * 2**level for level in range(count))


def _count_voxels(patch: int | tuple[int, ...], ndim: int) -> float:
    """Return the number of voxels of a patch."""
    return prod((patch,) * ndim if isinstance(patch, int) else patch[:ndim])


def variance_work_ratio(recipe: VarianceRecipe, changed: VarianceRecipe) -> float:
    """Return the amount of computation for prior SD maps relative to the unchanged recipe."""
    changed_amount, amount = (
        settings.rounds * (settings.draws + settings.components) for settings in (changed, recipe)
    )
    return changed_amount / amount if amount else 1.0
