"""What methods ask of the data, and whether models that were given fit them; told from headers and cards alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bids_sr.bids import BoldRun, Notice, Problem, Subject, factor_of, has_factor
from bids_sr.bids.method_options import method_of_model, pretrained_for
from bids_sr.config import Settings, SuperRes
from bids_sr.sr.method import REMOVED, get_method

WARM_FACTOR = (2.0, 2.0, 1.0)  # of the network that comes with the program
_LOAD = (
    "import json, sys; from bids_sr.preflight.method_checks import refusal; "
    "sys.stdout.write(json.dumps(list(map(refusal, sys.argv[1:]))))"
)


def check_pretrained(superres: SuperRes) -> list[Problem]:
    """Models given with ``--pretrained`` that are damaged, foreign or not what their cards say."""
    from bids_sr.sr.models.model import ModelError, verify

    if not superres.learned:
        return []  # no use for them
    reasons = {}
    for file in superres.pretrained:
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
    fix = "Name the .safetensors file of a model whose card (.json, the same name) lies beside it, both unchanged."
    return [Problem(file=f"--pretrained {file}", reason=reason, fix=fix) for file, reason in reasons.items() if reason]


def _networks_refuse(files: Sequence[Path]) -> list[str]:
    """For each file why weights do not fit the network that their card names, or "".

    Asked in a process of its own, so that this one, from which workers are forked, stays small; not where torch is here
    already. What that process cannot tell (no memory for it, say) is left to the step that loads the model.
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
    """Why a model cannot be loaded, or ""."""
    from bids_sr.sr.models.model import ModelError, load_model

    try:
        load_model(file)
    except ModelError as error:
        return str(error)
    return ""


def check_methods(settings: Settings, subjects: Sequence[Subject]) -> list[Problem]:
    """Methods that cannot work on these images, and models that were trained on others.

    Parameters
    ----------
    settings : of the call
    subjects : with the runs and pairs that are worked on
    """
    superres = settings.superres
    if not superres.learned:
        return []
    runs = [run for subject in subjects for run in subject.runs if has_factor(run, settings)]
    problems = [problem for run in runs for problem in _single_slice(superres, run)]
    if problems:
        return problems
    problems = [*_misfits(settings, runs), *_other_factors(settings, runs)]
    for run in runs:
        problems += _patches(settings, run)
    return list(dict.fromkeys(problems))


def notices_of_recipe(superres: SuperRes) -> list[Notice]:
    """What recipe `paper` does otherwise than it did, and than the other recipes do."""
    if superres.recipe != "paper" or superres.model_source == "reuse":
        return []
    text = (
        "this is the published run: features of VGG-19 without squared error beside them, all slices, no early end, "
        "so that nothing is held out and no held-out figure can be told. What --recipe paper stood for at first, in "
        "settings files too, is --recipe paper-mse now."
    )
    return [
        Notice(file=f"--sr-method {name} --recipe paper", text=text)
        for name in superres.learned
        if get_method(name).recipes["paper"].needs_vgg and pretrained_for(superres, name) is None
    ]


def _single_slice(superres: SuperRes, run: BoldRun) -> Iterator[Problem]:
    """A run of one slice: no volume for a 3D method, nothing to hold out for networks; variance maps need neither."""
    if run.shape[2] > 1:
        return
    for name in superres.learned:
        ndim = get_method(name).ndim
        if ndim == 2 and (name in superres.run_trained or pretrained_for(superres, name) is not None):
            continue
        why = "works in three dimensions" if ndim == 3 else "holds slices out while it is trained"
        yield Problem(
            file=str(run.bold),
            reason=f"it has a single slice, and {name} {why}",
            fix="Take baselines alone (--sr-method bspline zerofill), or a slice-wise method with --pretrained MODEL.",
        )


def _misfits(settings: Settings, runs: Sequence[BoldRun]) -> list[Problem]:
    """Runs that the given models were not trained for."""
    superres = settings.superres
    given = [file for file in superres.pretrained if file.is_file() and method_of_model(file) in superres.learned]
    return [problem for file in given for problem in _misfits_of(file, settings, runs)]


def _misfits_of(file: Path, settings: Settings, runs: Sequence[BoldRun]) -> list[Problem]:
    from bids_sr.sr.models.compatibility import ModelMismatch, check_model, describe
    from bids_sr.sr.models.model import ModelError, read_card

    superres = settings.superres
    try:
        card = read_card(file)
    except ModelError:
        return []  # told by `check_pretrained`
    problems = []
    for run in runs:
        try:
            check_model(card, describe(np.asarray(run.affine), "bold", factor_of(run, settings)), force=superres.force)
        except ModelMismatch as error:
            reason, _, remedy = str(error).partition(" Remedy: ")
            fix = f"{remedy[:1].upper()}{remedy[1:]}." if remedy else "Take another model."
            problems.append(Problem(file=f"{run.bold} with --pretrained {file}", reason=reason, fix=fix))
    return problems


def _other_factors(settings: Settings, runs: Sequence[BoldRun]) -> Iterator[Problem]:
    """Runs by another factor than that of the network with which ``--warm-start`` begins: there it is fixed."""
    superres = settings.superres
    if not superres.warm_start or not any(get_method(name).warm for name in superres.learned):
        return
    for run in runs:
        factor = factor_of(run, settings)
        if any(abs(own - wanted) > 1e-6 for own, wanted in zip(factor, WARM_FACTOR, strict=True)):
            told = [" × ".join(f"{f:.4g}" for f in each) for each in (factor, WARM_FACTOR)]
            yield Problem(
                file=f"{run.bold} with --warm-start",
                reason=f"its factor is {told[0]}, and the network to begin with is one of {told[1]}",
                fix="Leave --warm-start out, or run this factor in a call of its own.",
            )


def _patches(settings: Settings, run: BoldRun) -> Iterator[Problem]:
    """Training patches that are larger in plane than the images they are cut from; thin slabs cut them down."""
    superres = settings.superres
    if superres.model_source == "reuse":
        return
    x, y, _ = (int(n * f + 0.5) for n, f in zip(run.shape, factor_of(run, settings), strict=True))
    for name in (*superres.pair_trained, *superres.volume_trained):
        sides = get_method(name).patch(superres.recipe)
        if sides is None or pretrained_for(superres, name) is not None or _fits(sides, (x, y)):
            continue
        wanted = f"{sides[0]} × {sides[min(1, len(sides) - 1)]}"
        other = "paper" if superres.recipe == "fast" else "fast"
        instead = get_method(name).patch(other)
        first = f"give --recipe {other}, or " if instead is None or _fits(instead, (x, y)) else ""
        fix = f"{first}take a method that is trained on whole slices: srgan --recipe fast."
        yield Problem(
            file=f"{run.bold} with --sr-method {name} --recipe {superres.recipe}",
            reason=f"patches of {wanted} voxels do not fit into its slices of {x} × {y} (at the high resolution)",
            fix=fix[:1].upper() + fix[1:],
        )


def _fits(sides: Sequence[int], shape: tuple[int, int]) -> bool:
    """Whether a patch fits into a slice."""
    return sides[0] <= shape[0] and sides[min(1, len(sides) - 1)] <= shape[1]
