"""Lists of runs as nilearn takes them, each run processed alone, and output of `verbose`."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeGuard, TypeVar

from bids_sr.api.image_inputs import ImageInputError, ImageLike

_T = TypeVar("_T")


def is_several(what: object) -> TypeGuard[Sequence[ImageLike]]:
    """Whether something is given run by run: a list or a tuple.

    Parameters
    ----------
    what : object
        Argument of an estimator.

    Returns
    -------
    TypeGuard[Sequence[ImageLike]]
        True for a list or a tuple, also an empty one.
    """
    return isinstance(what, (list, tuple))


def each_run(
    runs: Sequence[_T], given: Mapping[str, object]
) -> Iterator[tuple[_T, dict[str, object]]]:
    """Every run with its own arguments.

    Parameters
    ----------
    runs : Sequence[T]
        List of series.
    given : Mapping[str, object]
        Arguments by name; a list has one for each run, anything else holds for all.

    Yields
    ------
    tuple[T, dict[str, object]]
        Series of one run, and its arguments by name.

    Raises
    ------
    ImageInputError : no run, or a list of another length
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
    """ImageInputError where one of the arguments of a single run is a list.

    Parameters
    ----------
    given : Mapping[str, object]
        Arguments by name.

    Raises
    ------
    ImageInputError
        An argument is a list.
    """
    for name, value in given.items():
        if is_several(value):
            raise ImageInputError(
                f"{name}: a list, but there is a single run; give a list of runs, too, or one"
                f" {name}"
            )


def in_lists(fitted: Sequence[object], names: Sequence[str]) -> dict[str, list[object]]:
    """Fitted attributes of the estimators of several runs, each as a list.

    Parameters
    ----------
    fitted : Sequence[object]
        Fitted estimator of each run.
    names : Sequence[str]
        Names of the attributes.

    Returns
    -------
    dict[str, list[object]]
        List by attribute, one value for each run.
    """
    return {name: [getattr(each, name) for each in fitted] for name in names}


def notes(what: str, verbose: int) -> Callable[[str], object]:
    """What prints the next piece of work, with the seconds so far, where `verbose` asks for it.

    Parameters
    ----------
    what : str
        Name of the estimator and its method, in brackets before each line.
    verbose : int
        Whether to print; 0 prints nothing.

    Returns
    -------
    Callable[[str], object]
        Function that takes the next piece of work in words.
    """
    if not verbose:
        return str
    began = time.monotonic()

    def say(text: str) -> None:
        sys.stdout.write(f"[{what}] {time.monotonic() - began:.0f} s: {text}\n")
        sys.stdout.flush()

    return say
