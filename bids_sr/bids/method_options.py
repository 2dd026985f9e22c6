"""Options of methods: static detail, ``--pretrained`` models, and options without effect.

Static detail is taken from an image.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from bids_sr.bids.findings import Findings
from bids_sr.bids.inputs import BoldRun, Subject
from bids_sr.config import Settings, SuperRes
from bids_sr.io.atomic_files import read_json
from bids_sr.series import PAIR_BASELINES, series_names
from bids_sr.sr.method import REMOVED, get_method

_GuideKind = Literal["highres", "none"]


def guide_of(superres: SuperRes, run: BoldRun) -> _GuideKind:
    """Return the image whose static detail variance methods add, if any.

    It is the one asked for, or that of the pair where there is one.
    """
    if superres.guide == "auto":
        return "highres" if run.pair is not None else "none"
    return superres.guide


def obstacle(name: str, run: BoldRun, superres: SuperRes) -> str:
    """Why a run cannot have a method or baseline that needs not be there, or "".

    Reason in words; empty where there is no obstacle.
    """
    if name in PAIR_BASELINES:
        return "" if run.pair is not None else "no T2*w pair"
    if (
        name not in superres.pair_trained
        or not superres.auto
        or pretrained_for(superres, name) is not None
    ):
        return ""
    if run.pair is None:
        return "no T2*w pair"
    return "a single slice" if run.shape[2] == 1 else ""


def series_of_run(run: BoldRun, superres: SuperRes) -> tuple[str, ...]:
    """Return the series of a run in order of computation, ``raw`` first, as the data allow.

    Baselines of the pair stand beside a method where a reference judges both, and elsewhere where
    they are asked for.
    """
    without = [
        name for name in (*superres.learned, *PAIR_BASELINES) if obstacle(name, run, superres)
    ]
    if run.truth is None and superres.baselines == "default":
        without += [name for name in PAIR_BASELINES if name not in superres.chosen]
    return ("raw", *(name for name in superres.series if name not in series_names(without)))


def refuse_all(found: Findings, table: Iterable[tuple[bool, str, str, str]]) -> None:
    """Add the problems of a table that hold: whether it does, file, reason, fix.

    `table`: condition, file or option, reason and remedy of each possible problem.
    """
    for holds, file, reason, fix in table:
        if holds:
            found.refuse(file, reason, fix)


def check_guide(superres: SuperRes, subject: Subject, found: Findings) -> None:
    """A guide that was asked for by name and is not there."""
    for run in subject.runs:
        if superres.run_trained and superres.guide == "highres" and run.pair is None:
            fix = "Leave --guide out: then static detail is added where there is a pair."
            found.refuse(run.bold, "--guide highres: there is no T2*-weighted pair", fix)


def check_options(settings: Settings, found: Findings) -> None:
    """Return options that could do nothing with the methods chosen."""
    superres, evaluation = settings.superres, settings.evaluation
    anat = "Leave it out, or add --sr-target anat."
    refuse_all(
        found,
        [
            (
                superres.train_on != "own",
                f"--train-on {superres.train_on}",
                "it applies to structural scans only, and these are BOLD runs",
                anat,
            ),
            (
                superres.anat_align != "rigid",
                f"--anat-align {superres.anat_align}",
                "it applies to structural scans only, and these are BOLD runs",
                anat,
            ),
            (
                superres.n_ensemble > 1 and not superres.learned,
                f"--n-ensemble {superres.n_ensemble}",
                "no method of --sr-method is trained, so there are no models to vary",
                "Leave the option out, or name a method.",
            ),
        ],
    )
    check_given_models(superres, found)
    _check_perceptual(settings, found)
    refuse_all(
        found,
        [
            (
                evaluation.retrospective is not None and bool(settings.preprocessing.derivatives),
                "--derivatives",
                (
                    "--retrospective processes downsampled copies of the runs, on whose grid"
                    " fMRIPrep's output does not lie"
                ),
                "Leave one of the two options out.",
            ),
            (
                evaluation.pair_holdout and not superres.pair_trained,
                "--pair-holdout",
                "no method of --sr-method is trained on the pair, so there is nothing to evaluate",
                "Leave the option out, or add such a method: srgan.",
            ),
        ],
    )


def check_given_models(superres: SuperRes, found: Findings) -> None:
    """Refuse ``--pretrained`` models that no method asks for, or two models of one method."""
    first: dict[str, Path] = {}
    for file in superres.pretrained:
        method = method_of_model(file)
        if method is None:
            continue  # no file or no card, which is told where the file is opened
        where, what = f"--pretrained {file}", f"it is a model of the method {method}"
        if method in REMOVED:
            fix = f"Leave the file out: {REMOVED[method]} replaces it and needs no trained model."
            found.refuse_option(where, f"{what}, which was removed from the program", fix)
        elif method not in superres.learned:
            fix = f"Add {method} to --sr-method, or leave the file out of --pretrained."
            found.refuse_option(where, f"{what}, which is not among --sr-method", fix)
        elif method in first:
            fix = (
                "Give one model per method; run twice, with two output directories, to compare two"
                " of them."
            )
            found.refuse_option(where, f"{what}, and so is {first[method]}", fix)
        first.setdefault(method, file)
    if superres.n_ensemble > 1 and superres.learned and set(superres.learned) <= set(first):
        reason = "every method has its model given with --pretrained, so there is nothing to vary"
        found.refuse_option(
            f"--n-ensemble {superres.n_ensemble}", reason, "Leave one of the two options out."
        )


def _check_perceptual(settings: Settings, found: Findings) -> None:
    """Refuse a training that needs VGG-19 features if their weights are missing.

    Only these features would tie such a training to the high-resolution image.

    Where the model is there already only the placebo of ``--null-checks`` is trained, on the T1w
    image.
    """
    superres, placebo = settings.superres, settings.evaluation.null_checks
    if superres.recipe != "paper" or superres.vgg_weights is not None:
        return
    for name in superres.learned:
        trained = placebo or (
            superres.model_source != "reuse" and pretrained_for(superres, name) is None
        )
        if trained and get_method(name).needs_vgg:
            found.refuse_option(
                f"--sr-method {name} --recipe paper",
                "as published it is taught by features of VGG-19, and there are no weights of that"
                " network",
                "Give them with --vgg-weights, or take --recipe paper-mse, which has squared error"
                " in their place, or --recipe fast.",
            )


def method_of_model(model: Path) -> str | None:
    """Return the method of a ``.safetensors`` file by its model card, or None.

    It is None if the card beside the file does not name a method.
    """
    method = read_json(model.with_suffix(".json")).get("method")
    return method if isinstance(method, str) else None


def pretrained_for(superres: SuperRes, method: str) -> Path | None:
    """Return the ``--pretrained`` model of this method, or None.

    Methods without such a model are trained as usual.

    First file whose card names the method, or None.
    """
    return next((file for file in superres.pretrained if method_of_model(file) == method), None)
