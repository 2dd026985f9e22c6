"""Lists of runs, as nilearn takes them, each worked on alone; and what `verbose` shows of the work."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeGuard, TypeVar, cast

from bids_sr.api.image_inputs import ImageInputError, ImageLike, Say, silent

if TYPE_CHECKING:
    import nibabel as nib

    from bids_sr.api.evaluator import Evaluator
    from bids_sr.api.super_resolver import SuperResolver

T = TypeVar("T")
E = TypeVar("E", "Evaluator", "SuperResolver")


def is_several(what: object) -> TypeGuard[Sequence[ImageLike]]:
    """Whether something is given run by run: a list or a tuple."""
    return isinstance(what, (list, tuple))


def each_run(runs: Sequence[T], given: Mapping[str, object]) -> Iterator[tuple[T, dict[str, object]]]:
    """Every run with its own arguments.

    Parameters
    ----------
    runs : list of series
    given : arguments by name; a list has one for each run, anything else holds for all

    Raises
    ------
    ImageInputError : no run, or a list of another length
    """
    if not runs:
        raise ImageInputError("an empty list of runs; give one image or path for each run")
    for name, value in given.items():
        if is_several(value) and len(value) != len(runs):
            raise ImageInputError(f"{name}: {len(value)} for {len(runs)} runs; give a list with one for each run")
    for k, run in enumerate(runs):
        yield run, {name: value[k] if is_several(value) else value for name, value in given.items()}


def of_one_run(given: Mapping[str, object]) -> None:
    """ImageInputError where one of the arguments of a single run is a list."""
    for name, value in given.items():
        if is_several(value):
            raise ImageInputError(f"{name}: a list, but there is a single run; give a list of runs, too, or one {name}")


def transform_each(
    fitted: SuperResolver, runs: Sequence[ImageLike], motion: object, out_file: object
) -> list[nib.Nifti1Image]:
    """Images of several runs, each by the estimator that was fitted to it, or all by the one that there is."""
    if out_file is not None and not is_several(out_file):
        raise ImageInputError("out_file: one file for several runs; give a list with one for each run")
    made = {"SuperResolver.fit": fitted.runs_ or [fitted] * len(runs), "motion": motion, "out_file": out_file}
    images = []
    for one, own in each_run(runs, made):
        estimator = cast("SuperResolver", own.pop("SuperResolver.fit"))
        images.append(cast("nib.Nifti1Image", estimator.transform(one, **own)))  # type: ignore[arg-type]
    return images


def gather(target: E, fitted: Sequence[E], names: Sequence[str]) -> None:
    """Give an estimator of several runs their fitted attributes, as lists."""
    target.runs_ = list(fitted)
    for name in names:
        setattr(target, name, [getattr(each, name) for each in fitted])


def notes(estimator: Evaluator | SuperResolver, method: str) -> Say:
    """What prints the next piece of work, with the seconds so far, where `verbose` asks for it."""
    if not estimator.verbose:
        return silent
    began = time.monotonic()

    def say(text: str) -> None:
        sys.stdout.write(f"[{type(estimator).__name__}.{method}] {time.monotonic() - began:.0f} s: {text}\n")
        sys.stdout.flush()

    return say
