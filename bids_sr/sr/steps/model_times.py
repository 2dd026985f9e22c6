"""Time of models, from the time of a method with unchanged recipe."""

from collections.abc import Mapping
from dataclasses import replace

from bids_sr.io.run_time import RunTime
from bids_sr.sr.method import get_method
from bids_sr.sr.models.request import ModelSettings
from bids_sr.sr.recipe import RecipeName
from bids_sr.sr.recipe_changes import (
    apply_changes,
    change_recipe,
    variance_work_ratio,
    width_ratio,
    work_ratio,
)

# fraction of the training time with one thread that is divided by the number of threads
# (benchmarks/training_threads.py). The small networks of `fast` were between -.03 and .82 in
# repeated measurements on a busy machine.
_DIVIDED_FRACTIONS: Mapping[RecipeName, float] = {"fast": 0.0, "paper": 0.94}


def compute_time_share(recipe: RecipeName, threads: int) -> float:
    """Return the training time relative to the time with one thread (Amdahl's law)."""
    divided = _DIVIDED_FRACTIONS[recipe]
    return 1 - divided + divided / threads


def time_model(training: ModelSettings) -> RunTime:
    """Return the processor time of a model; reuse of a given model takes 0.5 s."""
    if training.is_given:
        return RunTime(always=0.5)
    time, work = get_method(training.method).cost(training.recipe), training_work(training)
    return replace(time, always=time.always * work, low=time.low * work, high=time.high * work)


def time_application(training: ModelSettings) -> float:
    """Return the seconds for applying a model, per million voxels of all volumes."""
    method = get_method(training.method)
    seconds = method.cost(training.recipe).series
    # settings of a network change its width and thus its time; prior maps have no network
    if training.recipe_changes and method.variance is None:
        seconds *= width_ratio(
            change_recipe(method, training.recipe, ()),
            change_recipe(method, training.recipe, training.recipe_changes),
        )
    return seconds


def training_work(training: ModelSettings) -> float:
    """Return the amount of computation in training relative to the unchanged recipe."""
    changes = training.recipe_changes
    if not changes:
        return 1.0
    method = get_method(training.method)
    if method.variance is not None:
        return variance_work_ratio(method.variance, apply_changes(method.variance, changes))
    original_recipe = change_recipe(method, training.recipe, ())
    changed_recipe = change_recipe(method, training.recipe, changes)
    return work_ratio(original_recipe, changed_recipe, method.ndim)
