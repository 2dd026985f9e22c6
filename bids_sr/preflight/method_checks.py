"""Checks of methods and models by headers: slices, patches, factors and model cards."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bids_sr.bids import BoldRun, Findings, Subject
from bids_sr.bids.given_models import method_of_model, pretrained_for
from bids_sr.bids.method_options import obstacle, refuse_all, vgg_weights_for
from bids_sr.config import Settings, SuperRes
from bids_sr.config.vgg19_weights import VGG19_COMMAND
from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.notices import UsageError
from bids_sr.sr.method import get_method, get_recipe, recipe_name
from bids_sr.sr.missing_features import features_notice
from bids_sr.sr.models.card import ModelError, read_card
from bids_sr.sr.models.compatibility import check_model
from bids_sr.sr.models.model import load_model, verify
from bids_sr.sr.recipe_changes import changed_recipe, changes_of

_LOAD = (
    "import json, sys; from bids_sr.preflight.method_checks import refusal; "
    "sys.stdout.write(json.dumps(list(map(refusal, sys.argv[1:]))))"
)


def check_pretrained(superres: SuperRes, findings: Findings) -> None:
    """Refuse ``--pretrained`` models that are damaged, foreign, or not as their cards say."""
    reasons = {}
    for file in superres.pretrained if superres.learned else ():
        if file.is_file() and file.suffix == ".safetensors":  # others are refused as no such file
            try:
                verify(file)
                reasons[file] = ""
            except ModelError as error:
                reasons[file] = str(error)
    sound = [file for file, reason in reasons.items() if not reason]
    reasons |= dict(zip(sound, _networks_refuse(sound), strict=True))
    fix = (
        "Specify the .safetensors file of a model. Its model card (a .json file with the same"
        " name) must be in the same directory, and both files must be unmodified."
    )
    refuse_all(
        findings,
        [(bool(reason), f"--pretrained {file}", reason, fix) for file, reason in reasons.items()],
    )
    for file in sound:
        changes = changes_of(superres.recipe_changes, method_of_model(file) or "")
        if changes:
            findings.refuse_option(
                f"--set {' '.join(map(str, changes))}",
                f"{changes[0].method} is not trained because its model is loaded from"
                f" --pretrained {file}, so this training setting has no effect",
                "Omit one of the two options.",
            )


def _networks_refuse(files: Sequence[Path]) -> list[str]:
    """For each file why weights do not fit the network that their card names, or "".

    Asked in a process of its own, so that this one, from which workers are forked, stays small;
    not where torch is here already. What that process cannot tell (no memory for it, say) is left
    to the step that loads the model.
    """
    if "torch" in sys.modules or not files:
        return [refusal(file) for file in files]
    command = [sys.executable or "python3", "-c", _LOAD, *map(str, files)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    except (OSError, subprocess.TimeoutExpired):
        return [""] * len(files)
    told: list[str] = json.loads(done.stdout) if done.returncode == 0 else [""] * len(files)
    return told


def refusal(file: str | Path) -> str:
    """Why a model cannot be loaded, or "".

    `file`: weights of the model (.safetensors), with the card beside them. Reason in words, or an
    empty text.
    """
    try:
        load_model(Path(file))
    except ModelError as error:
        return str(error)
    return ""


def check_methods(settings: Settings, subjects: Sequence[Subject], findings: Findings) -> None:
    """Report methods that cannot work on the runs and models trained on other images."""
    superres = settings.superres
    if not superres.learned:
        return
    runs = [run for subject in subjects for run in subject.runs]
    before = len(findings.problems)
    for run in runs:
        with findings.about(run.entities["subject"], run.stem):
            _check_slices(superres, run, findings)
    if len(findings.problems) > before:
        return
    files = [
        file
        for file in superres.pretrained
        if file.is_file() and method_of_model(file) in superres.learned
    ]
    for run in runs:
        with findings.about(run.entities["subject"], run.stem):
            for file in files:
                where = f"{run.bold} with --pretrained {file}"
                check_card(
                    file, np.asarray(run.affine), "bold", run.factor, where, findings, superres
                )
            if superres.model_source != "reuse":
                _check_patches(settings, run, findings)


def tell_recipe(superres: SuperRes, findings: Findings) -> None:
    """What recipe `paper` does otherwise than it did, and than the other recipes do."""
    if superres.recipe != "paper" or superres.model_source == "reuse":
        return
    limited = superres.max_train_minutes is not None
    until = " until --max-train-minutes is reached" * limited
    text = (
        f"the model is trained as published{until}: the loss uses VGG-19 features without squared"
        " error, all slices are used for training, and training is not stopped early. Held-out"
        " accuracy is therefore not reported. The former --recipe paper is now named --recipe"
        " paper-mse, also in settings files."
    )
    for name in superres.learned:
        if get_method(name).needs_vgg and pretrained_for(superres, name) is None:
            findings.tell(f"--sr-method {name} --recipe paper", text)


def tell_vgg19(superres: SuperRes, findings: Findings) -> None:
    """Tell which weights of VGG-19 a training uses, also if nobody named them."""
    for name in superres.learned if superres.model_source != "reuse" else ():
        weights = vgg_weights_for(superres, name)
        if weights is not None and pretrained_for(superres, name) is None:
            kept = "" if superres.vgg_weights else f" (stored by {VGG19_COMMAND})"
            findings.tell(
                f"--sr-method {name} --recipe {superres.recipe}",
                f"VGG-19 weights are loaded from {weights}{kept}.",
            )


def tell_missing_features(superres: SuperRes, findings: Findings) -> None:
    """Report trainings whose loss lacks features of VGG-19 because there are no weights.

    Of the methods that run by default, in which the term is optional, nothing is reported.
    """
    if superres.model_source == "reuse":
        return
    default = SuperRes().learned
    for name in superres.learned:
        notice = features_notice(get_method(name), superres.recipe)
        if notice is None or pretrained_for(superres, name) is not None:
            continue
        if vgg_weights_for(superres, name) is not None:
            continue
        level, text = notice
        report = findings.warn if level == "warning" else findings.tell
        if level == "warning" or name not in default:
            report(f"--sr-method {name} --recipe {superres.recipe}", text, code="method")


def _check_slices(superres: SuperRes, run: BoldRun, findings: Findings) -> None:
    """Report runs of one slice, which 3D methods and networks cannot use.

    A 3D method needs a volume and a network needs slices to hold out; variance maps need neither.
    """
    for name in superres.learned if run.shape[2] == 1 else ():
        if obstacle(name, run, superres):
            continue
        ndim = get_method(name).ndim
        if ndim == 2 and (
            name in superres.run_trained or pretrained_for(superres, name) is not None
        ):
            continue
        why = "is a 3D method" if ndim == 3 else "requires held-out slices for training"
        fix = (
            "Use only baselines (--sr-method bspline zerofill), or a slice-wise method with"
            " --pretrained MODEL."
        )
        findings.refuse(
            run.bold,
            (
                f"super-resolution by {name} is not possible because the run has a single slice,"
                f" but {name} {why}"
            ),
            fix,
        )


def check_card(
    file: Path,
    affine: Array,
    contrast: str,
    factor: Factor,
    where: str,
    findings: Findings,
    superres: SuperRes,
) -> None:
    """Refuse a model whose card says that it was trained on other images than these."""
    try:
        check_model(
            read_card(file),
            affine,
            contrast,
            factor,
            align=None if contrast == "bold" else superres.anat_align,
            scale=None if contrast == "bold" else superres.scaling_of_scans,
            force=superres.force,
        )
    except ModelError:
        return  # told by `check_pretrained`
    except UsageError as error:
        told = error.notice
        findings.refuse(where, f"{told.what}: {told.why}", told.remedy)


def _check_patches(settings: Settings, run: BoldRun, findings: Findings) -> None:
    """Report training patches larger in plane than their images; thin slabs reduce them."""
    superres = settings.superres
    x, y, _ = (int(n * f + 0.5) for n, f in zip(run.shape, run.factor, strict=True))
    for name in (*superres.pair_trained, *superres.volume_trained):
        method = get_method(name)
        other = "paper" if superres.recipe == "fast" else "fast"
        recipe_label = recipe_name(method, superres.recipe)
        if recipe_label not in method.recipes:
            findings.refuse(
                f"--sr-method {name} --recipe {superres.recipe}",
                f"this training recipe is not available for {name}",
                f"Use --recipe {' or '.join(method.recipes)}.",
            )
            continue
        recipe = changed_recipe(method, recipe_label, superres.recipe_changes)
        away = obstacle(name, run, superres) or pretrained_for(superres, name) is not None
        if recipe.flat_patch is None or away or recipe.fits(x, y):
            continue
        sides = " × ".join(map(str, recipe.flat_patch))
        fits = other in method.recipes and get_recipe(method, other).fits(x, y)
        whole = "dcnet" if run.factor[2] == 1 else "tv --recipe fast"
        fix = f"Choose a method that is trained on whole slices ({whole})."
        if any(change.field == "patch" for change in changes_of(superres.recipe_changes, name)):
            fix += f" Alternatively, use a smaller patch size for --set {name}.patch."
        elif fits:
            fix += f" Alternatively, use --recipe {other}."
        findings.refuse(
            f"{run.bold} with --sr-method {name} --recipe {superres.recipe}",
            f"the training patches of {sides} voxels are larger than the slices of {x} × {y}"
            " voxels at the high resolution",
            fix,
        )
