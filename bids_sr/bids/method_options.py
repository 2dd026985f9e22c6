"""What options say of methods: whose static detail is added, which model they are given, and what could do nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from bids_sr.bids.inputs import BoldRun, Problem, Subject
from bids_sr.config import Settings, SuperRes
from bids_sr.sr.method import REMOVED, get_method

GuideKind = Literal["highres", "none"]


def guide_of(superres: SuperRes, run: BoldRun) -> GuideKind:
    """Image whose static detail variance methods add: what was asked for, or the pair's where there is one."""
    if superres.guide == "auto":
        return "highres" if run.pair is not None else "none"
    return superres.guide


def check_guide(superres: SuperRes, subject: Subject) -> list[Problem]:
    """A guide that was asked for by name and is not there."""
    if not superres.run_trained or superres.guide != "highres":
        return []
    return [
        Problem(
            file=str(run.bold), reason="--guide highres: there is no T2*-weighted pair",
            fix="Leave --guide out: then static detail is added where there is a pair.",
        )
        for run in subject.runs
        if run.pair is None
    ]  # fmt: skip


def check_options(settings: Settings) -> list[Problem]:
    """Options that could do nothing with the methods chosen."""
    superres, problems = settings.superres, []
    if superres.train_on != "own":
        problems.append(
            Problem(
                file=f"--train-on {superres.train_on}",
                reason="it tells what networks of structural scans are trained on, and these are BOLD runs",
                fix="Leave it out, or add --sr-target anat.",
            )
        )
    if superres.anat_align != "rigid":
        problems.append(
            Problem(
                file=f"--anat-align {superres.anat_align}",
                reason="it tells how structural scans are brought together, and these are BOLD runs",
                fix="Leave it out, or add --sr-target anat.",
            )
        )
    if superres.n_ensemble > 1 and not superres.learned:
        problems.append(
            Problem(
                file=f"--n-ensemble {superres.n_ensemble}",
                reason="there is no method that learns among --sr-method, so there are no models to vary",
                fix="Leave the option out, or name a method.",
            )
        )
    problems += check_given_models(superres)
    problems += _warm_start(superres)
    problems += check_perceptual(settings)
    if settings.evaluation.retrospective is not None and settings.preprocessing.derivatives:
        problems.append(
            Problem(
                file="--derivatives",
                reason="--retrospective works on coarser copies of the runs, for whose grids nothing of it holds",
                fix="Leave one of the two options out.",
            )
        )
    if settings.evaluation.pair_holdout and not superres.pair_trained:
        problems.append(
            Problem(
                file="--pair-holdout",
                reason="no method that learns from the pair is among --sr-method, so there is nothing to score",
                fix="Leave the option out, or add such a method: srgan.",
            )
        )
    return problems


def check_given_models(superres: SuperRes) -> list[Problem]:
    """Models given with ``--pretrained`` that no method asks for, or of which there are two of one method."""
    problems: list[Problem] = []
    first: dict[str, Path] = {}
    for file in superres.pretrained:
        method = method_of_model(file)
        if method is None:
            continue  # no file or no card, which is told where the file is opened
        if method in REMOVED:
            problems.append(
                Problem(
                    file=f"--pretrained {file}",
                    reason=f"it is a model of the method {method}, which was removed from the program",
                    fix=f"Leave the file out: {REMOVED[method]} takes its place, and is found from the run alone.",
                )
            )
        elif method not in superres.learned:
            problems.append(
                Problem(
                    file=f"--pretrained {file}",
                    reason=f"it is a model of the method {method}, which is not among --sr-method",
                    fix=f"Add {method} to --sr-method, or leave the file out of --pretrained.",
                )
            )
        elif method in first:
            problems.append(
                Problem(
                    file=f"--pretrained {file}",
                    reason=f"it is a model of the method {method}, and so is {first[method]}",
                    fix="Give one model a method; run twice, with two output directories, to compare two of them.",
                )
            )
        first.setdefault(method, file)
    if superres.n_ensemble > 1 and superres.learned and set(superres.learned) <= set(first):
        problems.append(
            Problem(
                file=f"--n-ensemble {superres.n_ensemble}",
                reason="every method has its model given with --pretrained, so there is nothing to vary",
                fix="Leave one of the two options out.",
            )
        )
    return problems


def _warm_start(superres: SuperRes) -> list[Problem]:
    """A network to begin with, where nothing could begin with it; the factor is told by the images (`preflight`)."""
    if not superres.warm_start:
        return []
    out = "Leave --warm-start out"
    found = {
        "it is what srgan begins with, which is not among --sr-method": (
            "srgan" not in superres.learned, f"Add srgan to --sr-method, or l{out[1:]}.",
        ),
        f"the network to begin with is that of --recipe fast, and this is {superres.recipe}": (
            superres.recipe != "fast", f"{out}, or take --recipe fast.",
        ),
        "the model of srgan is given with --pretrained, so there is no training to begin": (
            "srgan" in superres.learned and pretrained_for(superres, "srgan") is not None,
            "Leave one of the two options out.",
        ),
        "--model-source reuse never trains, so there is no training to begin": (
            superres.model_source == "reuse", "Leave one of the two options out.",
        ),
    }  # fmt: skip
    return [Problem(file="--warm-start", reason=reason, fix=fix) for reason, (holds, fix) in found.items() if holds]


def check_perceptual(settings: Settings) -> list[Problem]:
    """A training that features of VGG-19 alone would tie to the fine image, without their weights.

    Where the model is there already only the placebo of ``--null-checks`` is trained, on the T1w image.
    """
    superres, placebo = settings.superres, settings.evaluation.null_checks > 0
    if superres.recipe != "paper" or superres.vgg_weights is not None:
        return []
    trained = [
        name
        for name in superres.learned
        if placebo or (superres.model_source != "reuse" and pretrained_for(superres, name) is None)
    ]
    return [
        Problem(
            file=f"--sr-method {name} --recipe paper",
            reason="as published it is taught by features of VGG-19, and there are no weights of that network",
            fix="Give them with --vgg-weights, or take --recipe paper-mse, which has squared error in their place, "
            "or --recipe fast.",
        )
        for name in trained
        if get_method(name).recipes["paper"].needs_vgg
    ]


def method_of_model(model: Path) -> str | None:
    """Method that a ``.safetensors`` file belongs to, as the card beside it says; None where it does not say."""
    try:
        card = json.loads(model.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    method = card.get("method") if isinstance(card, dict) else None
    return method if isinstance(method, str) else None


def pretrained_for(superres: SuperRes, method: str) -> Path | None:
    """The model given with ``--pretrained`` that is one of this method; the other methods are trained as usual."""
    return next((file for file in superres.pretrained if method_of_model(file) == method), None)
