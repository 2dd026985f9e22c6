"""Lists of runs as nilearn takes them, each run processed alone, and output of `verbose`."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeGuard, TypeVar

from bids_sr.api.image_inputs import ImageInputError, ImageLike

_T = TypeVar("_T")


def is_several(what: object) -> TypeGuard[Sequence[ImageLike]]:
    """Whether something is given run by run: a list or a tuple.

    True for a list or a tuple, also an empty one.
    """
    return isinstance(what, (list, tuple))


def each_run(
    runs: Sequence[_T], given: Mapping[str, object]
) -> Iterator[tuple[_T, dict[str, object]]]:
    """Every run with its own arguments.

    `given`: arguments by name; a list has one for each run, anything else holds for all.
    """
    if not runs:
        raise ImageInputError("an empty list of runs; give one image or path for each run")
    for name, value in given.items():
        if is_several(value) and len(value) != len(runs):
            raise ImageInputError(
                f"{name}: {len(value)} for {len(runs)} runs; give a list with one for each run"
            )
    for k, run in enumerate(runs):
        yield (
            run,
            {name: value[k] if is_several(value) else value for name, value in given.items()},
        )


def of_one_run(given: Mapping[str, object]) -> None:
    """ImageInputError where one of the arguments of a single run is a list."""
    for name, value in given.items():
        if is_several(value):
            raise ImageInputError(
                f"{name}: a list, but there is a single run; give a list of runs, too, or one"
                f" {name}"
            )


def in_lists(fitted: Sequence[object], names: Sequence[str]) -> dict[str, list[object]]:
    """Fitted attributes of the estimators of several runs, each as a list."""
    return {name: [getattr(each, name) for each in fitted] for name in names}


def notes(what: str, verbose: int) -> Callable[[str], object]:
    """What prints the next piece of work, with the seconds so far, where `verbose` asks for it.

    `what`: name of the estimator and its method, in brackets before each line.
    """
    if not verbose:
        return str
    began = time.monotonic()

    def say(text: str) -> None:
        sys.stdout.write(f"[{what}] {time.monotonic() - began:.0f} s: {text}\n")
        sys.stdout.flush()

    return say
