"""Checks of methods and models by headers: slices, patches, factors and model cards."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bids_sr.bids import BoldRun, Findings, Subject
from bids_sr.bids.inputs import method_of_model, obstacle, pretrained_for, refuse_all
from bids_sr.config import Settings, SuperRes
from bids_sr.io.grids import Array
from bids_sr.notices import UsageError
from bids_sr.sr.matrices import Factor
from bids_sr.sr.method import REMOVED, get_method, get_recipe, recipe_name
from bids_sr.sr.models.card import ModelError, check_model, read_card
from bids_sr.sr.models.model import load_model, verify

_LOAD = (
    "import json, sys; from bids_sr.preflight.method_checks import refusal; "
    "sys.stdout.write(json.dumps(list(map(refusal, sys.argv[1:]))))"
)


def check_pretrained(superres: SuperRes, found: Findings) -> None:
    """Return problems of ``--pretrained`` models: damaged, foreign, not as their cards say."""
    reasons = {}
    for file in superres.pretrained if superres.learned else ():
        if method_of_model(file) in REMOVED:
            continue  # told by `check_given_models`
        if file.is_file() and file.suffix == ".safetensors":  # others are refused as no such file
            try:
                verify(file)
                reasons[file] = ""
            except ModelError as error:
                reasons[file] = str(error)
    sound = [file for file, reason in reasons.items() if not reason]
    reasons |= dict(zip(sound, _networks_refuse(sound), strict=True))
    fix = (
        "Name the .safetensors file of a model whose card (.json, the same name) lies beside it,"
        " both unchanged."
    )
    refuse_all(
        found,
        [(bool(reason), f"--pretrained {file}", reason, fix) for file, reason in reasons.items()],
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


def check_methods(settings: Settings, subjects: Sequence[Subject], found: Findings) -> None:
    """Report methods that cannot work on the runs and models trained on other images."""
    superres = settings.superres
    if not superres.learned:
        return
    runs = [run for subject in subjects for run in subject.runs]
    before = len(found.problems)
    for run in runs:
        with found.about(run.entities["subject"], run.stem):
            _check_slices(superres, run, found)
    if len(found.problems) > before:
        return
    given = [
        file
        for file in superres.pretrained
        if file.is_file() and method_of_model(file) in superres.learned
    ]
    for run in runs:
        with found.about(run.entities["subject"], run.stem):
            for file in given:
                where = f"{run.bold} with --pretrained {file}"
                check_card(
                    file, np.asarray(run.affine), "bold", run.factor, where, found, superres
                )
            if superres.model_source != "reuse":
                _check_patches(settings, run, found)


def tell_recipe(superres: SuperRes, found: Findings) -> None:
    """What recipe `paper` does otherwise than it did, and than the other recipes do."""
    if superres.recipe != "paper" or superres.model_source == "reuse":
        return
    text = (
        "trained as published: VGG-19 features without squared error, all slices, no early"
        " stopping, so that no held-out accuracy can be reported. What --recipe paper meant"
        " earlier, also in settings files, is now --recipe paper-mse."
    )
    for name in superres.learned:
        if get_method(name).needs_vgg and pretrained_for(superres, name) is None:
            found.tell(f"--sr-method {name} --recipe paper", text)


def _check_slices(superres: SuperRes, run: BoldRun, found: Findings) -> None:
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
        why = "works in three dimensions" if ndim == 3 else "is trained with held-out slices"
        fix = (
            "Use baselines only (--sr-method bspline zerofill), or a slice-wise method with"
            " --pretrained MODEL."
        )
        found.refuse(run.bold, f"it has a single slice, and {name} {why}", fix)


def check_card(
    file: Path,
    affine: Array,
    contrast: str,
    factor: Factor,
    where: str,
    found: Findings,
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
            force=superres.force,
        )
    except ModelError:
        return  # told by `check_pretrained`
    except UsageError as error:
        told = error.notice
        found.refuse(where, f"{told.what}: {told.why}", told.remedy)


def _check_patches(settings: Settings, run: BoldRun, found: Findings) -> None:
    """Report training patches larger in plane than their images; thin slabs reduce them."""
    superres = settings.superres
    x, y, _ = (int(n * f + 0.5) for n, f in zip(run.shape, run.factor, strict=True))
    for name in (*superres.pair_trained, *superres.volume_trained):
        method, other = get_method(name), "paper" if superres.recipe == "fast" else "fast"
        wanted = recipe_name(method, superres.recipe)
        if wanted not in method.recipes:
            found.refuse(
                f"--sr-method {name} --recipe {superres.recipe}",
                f"{name} has no such recipe",
                f"give --recipe {' or '.join(method.recipes)}.",
            )
            continue
        recipe = get_recipe(method, wanted)
        away = obstacle(name, run, superres) or pretrained_for(superres, name) is not None
        if recipe.flat_patch is None or away or recipe.fits(x, y):
            continue
        sides = " × ".join(map(str, recipe.flat_patch))
        fits = other in method.recipes and get_recipe(method, other).fits(x, y)
        first = f"give --recipe {other}, or " if fits else ""
        fix = f"{first}take a method that is trained on whole slices: srgan --recipe fast."
        found.refuse(
            f"{run.bold} with --sr-method {name} --recipe {superres.recipe}",
            f"patches of {sides} voxels do not fit into its slices of {x} × {y} (at the high"
            " resolution)",
            fix[:1].upper() + fix[1:],
        )
