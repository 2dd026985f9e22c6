"""An update of the program between calls with the same working directory repeats changed steps."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest
from data.simulated_run import STEM, Scene

import bids_sr

CALL = "import sys; from bids_sr.cli.main import main; sys.exit(main(sys.argv[1:]))"
EFFECT_LINE = 'effect = np.einsum("kn,kcn->cn", shares, model.weights @ coefficients)'
_RECORD = "_left-2.json"


class Outcome(NamedTuple):
    """Names of the steps that ran, and results."""

    steps: set[str]
    effect: np.ndarray
    version: str


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a copy of the program, which tests edit."""
    folder = tmp_path_factory.mktemp("program") / "bids_sr"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(bids_sr.__file__).parent, folder, ignore=ignored)
    return folder


@pytest.fixture(scope="module")
def call(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Outcome]:
    """Return a function that calls the copy of the program, always for the same run."""
    base = tmp_path_factory.mktemp("calls")
    scene = Scene(base).write()
    paths = [scene.bids, base / "out", "participant", "-w", base / "work"]
    options = (
        "--sr-method zerofill --set activation.kinds=glm --smoothing 0 --skip-bids-validation"
        " --nprocs 2"
    )
    command = [sys.executable, "-c", CALL, *map(str, paths), *options.split()]

    def read_times() -> dict[str, int]:
        return {
            file.parent.name: file.stat().st_mtime_ns for file in (base / "work").rglob(_RECORD)
        }

    def call_program() -> Outcome:
        before = read_times()
        done = subprocess.run(
            command,
            cwd=base,  # not the checkout, which would be imported first
            env={**os.environ, "PYTHONPATH": str(program.parent)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        func = base / "out" / "sub-01" / "func"
        maps = func.glob(f"{STEM}*_contrast-thumb_stat-effect_desc-acquired_statmap.nii.gz")
        table = func / f"{STEM}_desc-activation_metrics.json"
        return Outcome(
            steps={name for name, time in read_times().items() if before.get(name) != time},
            effect=nib.load(next(maps)).get_fdata(),
            version=json.loads(table.read_text(encoding="utf-8"))["GeneratedByVersion"],
        )

    return call_program


def test_only_steps_whose_code_changed_run_after_an_update(
    program: Path, call: Callable[[], Outcome]
) -> None:
    """A new version is written to stored files; a comment changes no step."""
    first = call()
    assert first.steps > {"estimate_motion", "map_series", "decide_verdict", "store_maps"}
    _edit(program / "version.py", 'RELEASE = "0.3', 'RELEASE = "0.3.9')
    motion = program / "preproc" / "steps" / "motion.py"
    motion.write_text(f"{motion.read_text(encoding='utf-8')}# a comment\n", encoding="utf-8")
    _edit(program / "glm" / "linear_model.py", EFFECT_LINE, f"{EFFECT_LINE} * 2")
    updated = call()
    assert updated.version.startswith("0.3.9")
    np.testing.assert_allclose(updated.effect, 2 * first.effect, rtol=1e-4)
    assert updated.steps > {"map_series", "decide_verdict", "store_maps"}
    assert not updated.steps & {"estimate_motion", "correct_motion", "super_resolve"}
