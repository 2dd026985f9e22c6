"""Search over the settings of a recipe: what is drawn or combined, and which trial is best.

Trial n of a random search depends on the seed and n alone, so that a search that was stopped goes
on as if it had not been, and a longer search begins with the trials of the shorter one.

Source: Bergstra & Bengio 2012, which shows that random trials find better settings than a grid of
as many. A grid is for one or two settings, as in tv-self-sr, which chose alpha by a grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import exp, log

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.recipe_changes import (
    ChangeError,
    Number,
    RecipeChange,
    apply_changes,
    change_of_method,
    variable_field,
    variable_fields,
)

_DIGITS = 4  # significant digits of a value that is drawn, so that it can be typed
_WIDE = 10  # ratio of the ends of a range from which values are drawn evenly in their logarithm
# weights of total variation in a search that names none: the interval of tv-self-sr, section 3.2,
# in steps of ours
_ALPHAS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1)
_ATTEMPTS = 100  # draws of a trial until its settings go together


@frozen
class SearchedSetting:
    """Values of one setting from which a trial draws.

    `choices`: values, each with the same probability; empty for a range. `low`, `high`: ends of
    the range. `whole`: whether values are whole numbers.
    """

    field: str
    choices: tuple[Number, ...] = ()
    low: Number = 0
    high: Number = 0
    whole: bool = False

    def __str__(self) -> str:
        values = ",".join(f"{value:.9g}" for value in self.choices)
        return f"{self.field}={values or f'{self.low:.9g}..{self.high:.9g}'}"

    @property
    def logarithmic(self) -> bool:
        """Whether values are drawn evenly in their logarithm: the ends differ tenfold or more."""
        return self.low > 0 and self.high >= _WIDE * self.low

    def draw(self, rng: np.random.Generator) -> Number:
        """Return one value."""
        if self.choices:
            return self.choices[int(rng.integers(len(self.choices)))]
        share = float(rng.random())
        if self.logarithmic:
            value = exp(log(self.low) + share * (log(self.high) - log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        value = round(value) if self.whole else float(f"{value:.{_DIGITS}g}")
        return min(max(value, self.low), self.high)


def read_drawn(text: str, method: str, recipe: Recipe) -> SearchedSetting:
    """Read ``FIELD=LOW..HIGH``, ``FIELD=A,B,C`` or ``FIELD=VALUE``.

    `ChangeError`: another form, an unknown setting, or a value that the recipe does not allow.
    """
    name, _, values = text.partition("=")
    low, dots, high = values.partition("..")
    several = [low, high] if dots else values.split(",")
    # each value is refused as a change to it would be
    changes = [change_of_method(f"{name}={value}", method) for value in several]
    field = variable_field(recipe, changes[0].field, method)
    try:
        numbers = tuple(field.checked(change.value) for change in changes)
    except ChangeError as error:
        raise ChangeError(error.why, error.fix, text) from None
    if not dots:
        return SearchedSetting(
            field=field.name, choices=tuple(dict.fromkeys(numbers)), whole=field.whole
        )
    if numbers[0] >= numbers[1]:
        raise ChangeError(
            "the lower limit of the range must be smaller than the upper limit",
            f"Specify the range as {field.name}=LOW..HIGH.",
            text,
        )
    return SearchedSetting(field=field.name, low=numbers[0], high=numbers[1], whole=field.whole)


def default_space(recipe: Recipe) -> tuple[SearchedSetting, ...]:
    """Return what is searched if nothing else is requested (ours).

    The learning rate, and the weights of the terms that are less than the largest, each from a
    tenth of the recipe's value to ten times it; the weight alpha of total variation, from a list
    of 0 to 0.1, if nothing else decides about detail.
    """
    if recipe.objective == "self" and any(field.name == "tv" for field in variable_fields(recipe)):
        return (SearchedSetting(field="tv", choices=_ALPHAS),)
    weights = {term.weight for term in recipe.losses}
    largest = max(weights, default=0.0)
    names = {"mae", "mse", "bce", "ssim", "psnr", "adversarial", "cycle", "identity", "sparsify"}
    space = []
    for field in variable_fields(recipe):
        value = field.default
        searched = field.name == "learning_rate" or (
            field.name in names and isinstance(value, float) and 0 < value < largest
        )
        if searched and isinstance(value, int | float):
            low, high = max(field.least, value / 10), min(field.most, value * 10)
            space.append(
                SearchedSetting(
                    field=field.name, low=float(f"{low:.4g}"), high=float(f"{high:.4g}")
                )
            )
    return tuple(space)


def draw_trial(
    space: Sequence[SearchedSetting], method: str, recipe: Recipe, *, seed: int, number: int
) -> tuple[RecipeChange, ...]:
    """Return the settings of a trial, counted from 1.

    Settings that do not go together, such as weights that are all 0, are drawn again.
    `ChangeError`: none of 100 draws go together.
    """
    reason: ChangeError | None = None
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([seed, number, attempt])
        changes = tuple(
            RecipeChange(method=method, field=drawn.field, value=drawn.draw(rng))
            for drawn in space
        )
        try:
            apply_changes(recipe, changes)
        except ChangeError as error:
            reason = error
            continue
        return changes
    assert reason is not None
    raise reason


def grid_trials(
    space: Sequence[SearchedSetting], method: str, recipe: Recipe
) -> list[tuple[RecipeChange, ...]]:
    """Return all combinations of the listed values; the last setting varies fastest.

    `ChangeError`: a range instead of a list, or settings that do not go together.
    """
    for searched in space:
        if not searched.choices:
            why = "a grid search requires a list of values instead of a range"
            raise ChangeError(
                why, f"List the values, for example {searched.field}=A,B,C.", str(searched)
            )
    trials = [
        tuple(
            RecipeChange(method=method, field=searched.field, value=value)
            for searched, value in zip(space, values, strict=True)
        )
        for values in product(*(searched.choices for searched in space))
    ]
    for changes in trials:
        apply_changes(recipe, changes)
    return trials


def best_trial(scores: Sequence[float | None]) -> int | None:
    """Return the place of the highest score, the first of equal ones; None without any score.

    `scores`: held-out PSNR (dB) of each trial; None if its training diverged.
    """
    known = [(score, -place) for place, score in enumerate(scores) if score is not None]
    return -max(known)[1] if known else None
