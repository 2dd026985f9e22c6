"""Costs of training, from the costs of a method with unchanged recipe."""

import math
from collections.abc import Mapping
from dataclasses import replace

from bids_sr.io.run_time import RunTime
from bids_sr.sr.method import get_method
from bids_sr.sr.models.request import ModelSettings, TrainingSettings
from bids_sr.sr.recipe import RecipeName
from bids_sr.sr.recipe_changes import apply_changes, change_recipe, variance_work_ratio, work_ratio

# fraction of the training time with one thread that is divided by the number of threads
# (benchmarks/training_threads.py). The small networks of `fast` were between -.03 and .82 in
# repeated measurements on a busy machine.
_DIVIDED_FRACTIONS: Mapping[RecipeName, float] = {"fast": 0.0, "paper": 0.94}


def network_cost(training: TrainingSettings) -> RunTime:
    """Return the cost of training a network with its threads and time limit."""
    return schedule_training(model_cost(training), training)


def schedule_training(cost: RunTime, training: TrainingSettings) -> RunTime:
    """Return the cost of a training with its threads and time limit from its processor time."""
    if training.is_given:
        return cost
    share = compute_time_share(training.recipe, training.omp_nthreads)
    limit = 60 * (training.max_train_minutes or math.inf)
    return replace(_multiply(cost, share), limit=limit, trains=True)


def _multiply(cost: RunTime, share: float) -> RunTime:
    """Return a cost with a share of its time for training."""
    return replace(cost, always=cost.always * share, low=cost.low * share, high=cost.high * share)


def compute_time_share(recipe: RecipeName, threads: int) -> float:
    """Return the training time relative to the time with one thread (Amdahl's law)."""
    divided = _DIVIDED_FRACTIONS[recipe]
    return 1 - divided + divided / threads


def model_cost(training: ModelSettings) -> RunTime:
    """Return the cost of a model without a time limit; reuse of a given model costs 0.5 s."""
    if training.is_given:
        return RunTime(always=0.5)
    cost = get_method(training.method).cost(training.recipe)
    return _multiply(cost, training_work(training))


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
