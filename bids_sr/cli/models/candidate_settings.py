"""Settings that ``compare`` tries: listed values, or values drawn from lists and ranges.

Trial n depends only on the seed and n. Therefore, more trials begin with the trials of a smaller
number.

Bergstra & Bengio 2012 show that random trials find better settings than a grid of the same size. A
grid is useful for one or two settings; tv-self-sr selects alpha with a grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import exp, log

import numpy as np

from bids_sr.io.frozen import frozen
from bids_sr.io.notices import InvalidInput
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.recipe_changes import (
    Number,
    RecipeChange,
    apply_changes,
    change_of_method,
    variable_field,
    variable_fields,
)

_DIGITS = 4  # significant digits of drawn values, so that they can be typed
# smallest ratio of upper to lower limit for ranges that are sampled on a logarithmic scale
_MIN_LOG_RATIO = 10
# default weights of total variation: the interval of tv-self-sr, section 3.2, with our
# own steps
_ALPHAS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1)
# settings that are weights of loss terms
_LOSS_WEIGHTS = frozenset(
    {"mae", "mse", "bce", "ssim", "psnr", "adversarial", "cycle", "identity", "sparsify"}
)
_MAX_ATTEMPTS = 100  # attempts to draw settings that are compatible with each other


@frozen
class SearchedSetting:
    """Setting with the values that trials are drawn from.

    `field` is the name of the setting. `choices` have equal probability; () for a range, whose
    limits are `low` and `high`.
    """

    field: str
    choices: tuple[Number, ...] = ()
    low: Number = 0
    high: Number = 0
    is_integer: bool = False

    def __str__(self) -> str:
        values = ",".join(f"{value:.9g}" for value in self.choices)
        return f"{self.field}={values or f'{self.low:.9g}..{self.high:.9g}'}"

    @property
    def is_varied(self) -> bool:
        """Whether there are several values."""
        return len(self.choices) != 1

    @property
    def is_logarithmic(self) -> bool:
        """Whether values are drawn on a logarithmic scale.

        This requires limits that are positive and differ by a factor of at least 10.
        """
        return self.low > 0 and self.high >= _MIN_LOG_RATIO * self.low

    def draw(self, rng: np.random.Generator) -> Number:
        """Draw a value."""
        if self.choices:
            return self.choices[int(rng.integers(len(self.choices)))]
        fraction = float(rng.random())
        if self.is_logarithmic:
            value = exp(log(self.low) + fraction * (log(self.high) - log(self.low)))
        else:
            value = self.low + fraction * (self.high - self.low)
        rounded_value = round(value) if self.is_integer else _round_value(value)
        return min(max(rounded_value, self.low), self.high)


def list_trials(
    texts: Sequence[str], method: str, recipe: Recipe, *, n_trials: int | None, seed: int
) -> dict[str, tuple[RecipeChange, ...]]:
    """Return the changes of the recipe in each trial, by the settings that are varied.

    `texts` are settings with their values, as for `parse_setting`. `n_trials` is the number of
    trials with random values; settings that are varied by default are used if `texts` does not
    vary a setting. None combines all listed values. Raises `InvalidInput` if a setting or value is
    invalid, or if a range is given without a number of trials.
    """
    space = tuple(parse_setting(text, method, recipe) for text in texts)
    if n_trials is None:
        trials = _combine_values(space, method, recipe)
    else:
        if not any(setting.is_varied for setting in space):
            fixed_fields = {setting.field for setting in space}
            default_space = _make_default_space(recipe)
            space += tuple(
                setting for setting in default_space if setting.field not in fixed_fields
            )
        trials = [
            _draw_trial(space, method, recipe, seed=seed, number=number)
            for number in range(1, n_trials + 1)
        ]
    varied_fields = {setting.field for setting in space if setting.is_varied}
    return {
        " ".join(
            f"{change.field}={change.value:.9g}"
            for change in changes
            if change.field in varied_fields
        ): changes
        for changes in trials
    }


def parse_setting(text: str, method: str, recipe: Recipe) -> SearchedSetting:
    """Parse ``FIELD=LOW..HIGH``, ``FIELD=A,B,C`` or ``FIELD=VALUE``.

    InvalidInput is raised if the text has another form, the setting is unknown, or the recipe does
    not allow a value.
    """
    name, _, values_text = text.partition("=")
    low_text, dots, high_text = values_text.partition("..")
    value_texts = [low_text, high_text] if dots else values_text.split(",")
    # values are checked in the same way as changes of the recipe
    changes = [change_of_method(f"{name}={value}", method) for value in value_texts]
    field = variable_field(recipe, changes[0].field, method)
    try:
        numbers = tuple(field.check(change.value) for change in changes)
    except InvalidInput as error:
        raise InvalidInput(error.reason, error.remedy, text) from None
    if not dots:
        return SearchedSetting(
            field=field.name, choices=tuple(dict.fromkeys(numbers)), is_integer=field.is_integer
        )
    if numbers[0] >= numbers[1]:
        raise InvalidInput(
            "the lower limit of the range must be smaller than the upper limit",
            f"Specify the range as {field.name}=LOW..HIGH.",
            text,
        )
    return SearchedSetting(
        field=field.name, low=numbers[0], high=numbers[1], is_integer=field.is_integer
    )


def _combine_values(
    space: Sequence[SearchedSetting], method: str, recipe: Recipe
) -> list[tuple[RecipeChange, ...]]:
    """Return all combinations of the listed values; the last setting varies fastest.

    InvalidInput is raised if a setting has a range instead of a list, or if settings are
    incompatible.
    """
    for setting in space:
        if not setting.choices:
            raise InvalidInput(
                "a range requires a number of trials",
                f"Use --trials N, or list the values, for example {setting.field}=A,B,C.",
                str(setting),
            )
    trials = [
        tuple(
            RecipeChange(method=method, field=setting.field, value=value)
            for setting, value in zip(space, values, strict=True)
        )
        for values in product(*(setting.choices for setting in space))
    ]
    for changes in trials:
        apply_changes(recipe, changes)
    return trials


def _make_default_space(recipe: Recipe) -> tuple[SearchedSetting, ...]:
    """Return the settings that are varied by default (our choice).

    These are the learning rate and the weights of all loss terms that are smaller than the largest
    weight, from a tenth to ten times the value in the recipe. For self-supervised recipes with
    total variation, only its weight alpha is varied, over a list from 0 to 0.1.
    """
    if recipe.objective == "self" and any(field.name == "tv" for field in variable_fields(recipe)):
        return (SearchedSetting(field="tv", choices=_ALPHAS),)
    largest_weight = max((term.weight for term in recipe.losses), default=0.0)
    space = []
    for field in variable_fields(recipe):
        value = field.default
        is_smaller_weight = (
            field.name in _LOSS_WEIGHTS and isinstance(value, float) and 0 < value < largest_weight
        )
        is_searched = field.name == "learning_rate" or is_smaller_weight
        if is_searched and isinstance(value, int | float):
            low, high = (
                max(field.limits.minimum, value / 10),
                min(field.limits.maximum, value * 10),
            )
            space.append(
                SearchedSetting(field=field.name, low=_round_value(low), high=_round_value(high))
            )
    return tuple(space)


def _round_value(value: float) -> float:
    """Return a value rounded to the significant digits of drawn values."""
    return float(f"{value:.{_DIGITS}g}")


def _draw_trial(
    space: Sequence[SearchedSetting], method: str, recipe: Recipe, *, seed: int, number: int
) -> tuple[RecipeChange, ...]:
    """Draw the settings of a trial, counted from 1.

    Incompatible settings, for example weights that are all 0, are drawn again. InvalidInput is
    raised after 100 incompatible draws.
    """
    last_error: InvalidInput | None = None
    for attempt in range(_MAX_ATTEMPTS):
        rng = np.random.default_rng([seed, number, attempt])
        changes = tuple(
            RecipeChange(method=method, field=setting.field, value=setting.draw(rng))
            for setting in space
        )
        try:
            apply_changes(recipe, changes)
        except InvalidInput as error:
            last_error = error
        else:
            return changes
    assert last_error is not None
    raise last_error
