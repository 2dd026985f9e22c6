"""Lists of runs, as in nilearn; each run is processed separately."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from bids_sr.api.image_inputs import ImageInputError, ImageLike


def split_arguments(n_runs: int, values: Mapping[str, object]) -> list[dict[str, Any]]:
    """Return the arguments of every run.

    `values` are the arguments by name. A list has one value per run; other values apply to all
    runs.
    """
    if not n_runs:
        raise ImageInputError("the list of runs is empty; expected one image or path per run")
    for name, value in values.items():
        if is_several(value) and len(value) != n_runs:
            raise ImageInputError(
                f"{len(value)} value(s) were passed for {n_runs} runs",
                "Pass a list with one value per run.",
                name,
            )
    return [
        {name: value[index] if is_several(value) else value for name, value in values.items()}
        for index in range(n_runs)
    ]


def check_single_run(arguments: Mapping[str, object]) -> None:
    """Raise ImageInputError if an argument of a single run, by name, is a list."""
    for name, value in arguments.items():
        if is_several(value):
            raise ImageInputError(
                "a list was passed, but there is only a single run",
                f"Pass a list of runs, or a single value of {name}.",
                name,
            )


def is_several(value: object) -> TypeGuard[Sequence[ImageLike]]:
    """Return True if an argument is a list or tuple with one value per run, or empty."""
    return isinstance(value, (list, tuple))
