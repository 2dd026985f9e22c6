"""Applicable methods of a run, and options that have no effect with the selected methods."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from bids_sr.config import Settings, SuperRes
from bids_sr.config.vgg19_weights import find_vgg19
from bids_sr.io.notices import Notice
from bids_sr.io.series import PAIR_BASELINES, SDMOD, get_need, series_names
from bids_sr.sr.method import get_method, method_names, method_names_without_controls
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.survey.bids.pretrained_models import (
    factor_without_pair,
    find_pretrained,
    judge_given_models,
)
from bids_sr.survey.notices import option_problem, problem


def uses_guide(settings: Settings, run: BoldRun) -> bool:
    """Return whether the static detail of the pair is added by methods that estimate variance."""
    return settings.sbl.guide == "auto" and run.pair is not None


def series_of_run(run: BoldRun, superres: SuperRes) -> tuple[str, ...]:
    """Return the series that a run allows in order of computation, ``acquired`` first.

    By default, baselines that take their detail from the pair or the run are only computed if a
    reference can evaluate them, or if they were selected.
    """
    excluded = [
        name
        for name in (*superres.learned, *PAIR_BASELINES)
        if unavailable_reason(name, run, superres)
    ]
    if run.truth is None and not superres.all_baselines:
        excluded += [name for name in (SDMOD, *PAIR_BASELINES) if name not in superres.chosen]
    return ("acquired", *(name for name in superres.series if name not in series_names(excluded)))


def unavailable_reason(name: str, run: BoldRun, superres: SuperRes) -> str:
    """Return the reason why an optional method or baseline is not available for a run, or ""."""
    if get_need(name) == "pair":
        return "" if run.pair is not None else "no T2*w pair"
    if run.factor[2] != 1 and works_in_plane(name) and (superres.auto or name == SDMOD):
        return "this slice-wise method cannot reduce the slice thickness"
    is_optional = superres.auto and name in superres.pair_trained
    if not is_optional or find_pretrained(superres, name) is not None:
        return ""
    if run.pair is None:
        return "no T2*w pair"
    return "a single slice" if run.shape[2] == 1 else ""


def judge_options(settings: Settings) -> Iterator[Notice]:
    """Reject options that have no effect with the selected methods."""
    superres = settings.superres
    for item in fields(settings.anat):
        value = getattr(settings.anat, item.name)
        if value == item.default:
            continue
        words = value if isinstance(value, tuple) else (value,)
        text = ",".join("true" if word is True else str(word) for word in words)
        yield problem(
            f"--set anat.{item.name}={text}",
            "this option applies only to structural scans, but the inputs are BOLD runs",
            "Omit the option, or add --sr-target anat.",
        )
    yield from judge_given_models(superres)
    yield from _judge_through_slices(superres)
    if settings.evaluation.retrospective is not None and settings.preprocessing.derivatives:
        yield problem(
            "--derivatives",
            "--retrospective processes downsampled copies of the runs, but the fMRIPrep"
            " output is on the grid of the original runs",
            "Omit one of the two options.",
        )


def _judge_through_slices(superres: SuperRes) -> Iterator[Notice]:
    """Reject slice-wise methods if the slice thickness is to be reduced."""
    factor = factor_without_pair(superres)
    if factor is None or factor[2] == 1:
        return
    volumetric = [name for name in method_names_without_controls() if not works_in_plane(name)]
    source, alternative = "--pretrained", ""
    if superres.factor:
        source = "--sr-factor"
        alternative = f" To keep the slice thickness instead, use --sr-factor {factor[0]:g}."
    for name in superres.method:
        if not works_in_plane(name):
            continue
        yield option_problem(
            f"--sr-method {name}",
            f"this slice-wise method cannot reduce the slice thickness, but {source} requests the"
            f" factors {factor[0]:g} {factor[1]:g} {factor[2]:g}",
            f"Choose a 3D method ({', '.join(volumetric)}), or omit --sr-method to use the default"
            f" for this factor (tv).{alternative}",
        )


def works_in_plane(name: str) -> bool:
    """Return whether a method, or a control such as ``sdmod``, keeps the slice thickness.

    Interpolation, ``inject`` and ``ratio`` can also reduce it; they are not methods in this sense.
    """
    return name in method_names() and get_method(name).ndim == 2


def find_vgg_weights(superres: SuperRes, method: str) -> Path | None:
    """Return the VGG-19 weights for the training of this method, or None."""
    return find_vgg19(get_method(method), superres.recipe, superres.vgg_weights)
