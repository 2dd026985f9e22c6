"""What a training log and a model card say, ready to be drawn."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bids_sr.reports.figures import Array

STEP_COLUMNS = ("step", "iteration", "epoch")
CHOSEN_KEYS = ("best_step", "step_kept", "stopped_at", "chosen_step")
_INTERPOLATIONS = {"nearest", "linear", "bspline", "lanczos", "zerofill", "inject", "ratio"}
_NOT_LOSSES = {"lr", "learning_rate", "seconds", "time", "elapsed", "minutes", "best"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRecord:
    """The course of a training.

    Parameters
    ----------
    steps : (N,)
    curves : held-out PSNR (dB) by name, (N,), NaN where none was taken
    levels : held-out PSNR (dB) of plain interpolation by name
    losses : by name, (N,)
    chosen_step : step of the weights that were kept, if the card tells
    """

    steps: Array
    curves: Mapping[str, Array]
    levels: Mapping[str, float]
    losses: Mapping[str, Array]
    chosen_step: float | None


def numbers(card: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    """All numbers of a nested mapping with the keys that lead to them."""
    for key, value in card.items():
        here = (*path, str(key))
        if isinstance(value, Mapping):
            yield from numbers(value, here)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield here, float(value)


def read_training(columns: Mapping[str, Array], card: Mapping[str, Any]) -> TrainingRecord:
    """Sort the columns of a log into PSNR curves and losses, and find the baselines' levels in the card.

    Parameters
    ----------
    columns : of the log; one of them counts the steps, those with ``psnr`` in the name are held-out measures
    card : of the model; numbers below a key with ``psnr`` (but the method's own) or under the name of an interpolation
        beside ``psnr`` are levels
    """
    lower = {name.lower(): np.asarray(values, dtype=float) for name, values in columns.items()}
    length = len(next(iter(lower.values()))) if lower else 0
    steps = next((lower[name] for name in STEP_COLUMNS if name in lower), np.arange(length, dtype=float))
    curves, losses = {}, {}
    for name, values in lower.items():
        if "psnr" in name:
            curves[name.replace("_", " ").replace("psnr", "PSNR")] = values
        elif name not in STEP_COLUMNS and name not in _NOT_LOSSES and "ssim" not in name:
            losses[name.replace("_", " ")] = values
    own = str(card.get("method", ""))
    levels = {}
    for path, value in numbers(card):
        names = [key.lower() for key in path]
        label = next((key for key in reversed(path) if "psnr" not in key.lower()), "")
        if any("psnr" in key for key in names) and label.lower() in _INTERPOLATIONS and label != own:
            levels[label] = value
    chosen = next((value for path, value in numbers(card) if path[-1] in CHOSEN_KEYS), None)
    return TrainingRecord(steps=steps, curves=curves, levels=levels, losses=losses, chosen_step=chosen)
