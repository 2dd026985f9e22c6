"""Checks of the model files of ``--pretrained``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bids_sr.config import SuperRes
from bids_sr.io.notices import Notice
from bids_sr.sr.models.card import ModelError
from bids_sr.sr.models.model import load_model, verify_model
from bids_sr.sr.recipe_changes import select_changes
from bids_sr.survey.bids.pretrained_models import method_of_model
from bids_sr.survey.notices import option_problem, problem

_LOADING_CODE = (
    "import json, sys; from bids_sr.survey.preflight.pretrained_models import unreadable_reason; "
    "sys.stdout.write(json.dumps(list(map(unreadable_reason, sys.argv[1:]))))"
)


def judge_pretrained(superres: SuperRes) -> Iterator[Notice]:
    """Reject ``--pretrained`` models that are damaged or foreign, or differ from their cards."""
    reasons = {}
    for file in superres.pretrained if superres.learned else ():
        # missing files and other formats are reported elsewhere
        if file.is_file() and file.suffix == ".safetensors":
            try:
                verify_model(file)
                reasons[file] = ""
            except ModelError as error:
                reasons[file] = str(error)
    intact = [file for file, reason in reasons.items() if not reason]
    reasons |= dict(zip(intact, _find_load_failures(intact), strict=True))
    fix = (
        "Specify the .safetensors file of a model. Its model card (a .json file with the same"
        " name) must be in the same directory, and both files must be unmodified."
    )
    for file, reason in reasons.items():
        if reason:
            yield problem(f"--pretrained {file}", reason, fix)
    for file in intact:
        changes = select_changes(superres.recipe_changes, method_of_model(file) or "")
        if changes:
            yield option_problem(
                f"--set {' '.join(map(str, changes))}",
                f"{changes[0].method} is not trained because its model is loaded from"
                f" --pretrained {file}, so this training setting has no effect",
                "Omit one of the two options.",
            )


def _find_load_failures(files: Sequence[Path]) -> list[str]:
    """Return for each file why its weights do not fit the network on its card, or "".

    Models are loaded in a separate process, unless torch is already imported, so that this process
    stays small for forking workers. If that process fails (for example for lack of memory),
    problems are left to the step that loads the model.
    """
    if "torch" in sys.modules or not files:
        return [unreadable_reason(file) for file in files]
    command = [sys.executable or "python3", "-c", _LOADING_CODE, *map(str, files)]
    try:
        process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    except (OSError, subprocess.TimeoutExpired):
        return [""] * len(files)
    reasons: list[str] = (
        json.loads(process.stdout) if process.returncode == 0 else [""] * len(files)
    )
    return reasons


def unreadable_reason(file: str | Path) -> str:
    """Return why a model cannot be loaded, or "" if it can.

    `file` contains the weights of the model (.safetensors); the model card must be next to it.
    """
    try:
        load_model(Path(file))
    except ModelError as error:
        return str(error)
    return ""
