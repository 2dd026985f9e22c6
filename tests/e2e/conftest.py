"""Share one run on the smallest phantom among all end-to-end tests."""

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

BIN = Path(sys.executable).parent
SLOPPY = ("--set", "run.sloppy=true", "--nprocs", "2")


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished call of the program."""

    bids_dir: Path
    out: Path
    command: list[str]
    text: str
    seconds: float


def call(command: list[str]) -> tuple[int, str, float]:
    """Return exit code, output and wall time (s) of a command."""
    start = time.monotonic()
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout, time.monotonic() - start


def make_phantom(folder: Path, *options: str) -> Path:
    """Make the smallest phantom with its command and return the folder."""
    command = [str(BIN / "bids-sr-phantom"), str(folder), "--preset", "tiny", *options]
    code, text, _ = call(command)
    assert code == 0, text
    return folder


def run_participants(data: Path, base: Path, *options: str) -> Finished:
    """Run the participant level, with output and working directory below `base`."""
    out = base / "out"
    command = [str(BIN / "bids-sr"), str(data), str(out), "participant", *options]
    command += ["-w", str(base / "work")]
    code, text, seconds = call(command)
    assert code == 0, text
    return Finished(bids_dir=data, out=out, command=command, text=text, seconds=seconds)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Finished:
    """Run the participant level on the phantom.

    The run has 68 volumes, so that other programs find a cosine regressor.
    """
    base = tmp_path_factory.mktemp("run")
    data = make_phantom(base / "data", "--volumes", "68")
    spaces = ("func", "T1w", "MNI152NLin2009cAsym:res-2")
    return run_participants(data, base, *SLOPPY, "--truth", "none", "--output-spaces", *spaces)


@pytest.fixture(scope="session")
def copied(finished, tmp_path_factory) -> Path:
    """Return a folder with RAW and OUT, the names on the pages of the documentation.

    The second participant is a copy of the first with other noise and without dummy volumes.
    Images in template space only keep the center of the brain, because the whole brain takes other
    programs twenty times as long.
    """
    root = tmp_path_factory.mktemp("two")
    primary = "derivatives/bids-sr-sbl"
    for name, source in (("RAW", finished.bids_dir), (f"OUT/{primary}", finished.out / primary)):
        shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("derivatives"))
    func = root / "OUT" / primary / "sub-01" / "func"
    stem = func / "sub-01_task-tap_space-MNI152NLin2009cAsym_res-2"
    brain = np.argwhere(np.asarray(nib.load(f"{stem}_desc-brain_mask.nii.gz").dataobj))
    box = tuple(slice(n - 12, n + 12) for n in np.median(brain, axis=0).astype(int))
    for kind in ("desc-preproc_bold", "desc-brain_mask", "boldref"):
        path = Path(f"{stem}_{kind}.nii.gz")
        image = nib.load(path)
        part = nib.Nifti1Image(
            image.get_fdata(dtype=np.float32)[box], image.slicer[box].affine, image.header
        )
        path.unlink()
        nib.save(part, path)
    for name in ("RAW", f"OUT/{primary}"):
        for path in sorted((root / name / "sub-01").rglob("*")):
            copy = root / name / str(path.relative_to(root / name)).replace("sub-01", "sub-02")
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                shutil.copy(path, copy)
    shutil.copy(finished.out / "dataset_description.json", root / "OUT")
    shutil.copytree(finished.out / "sub-01", root / "OUT" / "sub-01")
    (second := root / "OUT" / "sub-02" / "func").mkdir(parents=True)
    shutil.copy(func / "sub-01_task-tap_events.tsv", second / "sub-02_task-tap_events.tsv")
    bold = Path(str(stem).replace("sub-01", "sub-02") + "_desc-preproc_bold.nii.gz")
    image = nib.load(bold)
    data = image.get_fdata(dtype=np.float32)
    data += np.random.default_rng(0).normal(0, 1, data.shape) * (data != 0)
    nib.save(nib.Nifti1Image(data, image.affine, image.header), bold)
    (table,) = bold.parent.glob("*_desc-confounds_timeseries.tsv")
    confounds = pd.read_csv(table, sep="\t", na_values="n/a")
    steady = confounds.loc[:, ~confounds.columns.str.startswith("non_steady")]
    assert steady.shape < confounds.shape, "the first participant has dummy volumes"
    steady.to_csv(table, sep="\t", index=False, na_rep="n/a")
    return root


@pytest.fixture(scope="session")
def judged(tiny, tmp_path_factory) -> Finished:
    """Run `tiny` with the option of validation: retrospective."""
    options = ("--retrospective", "--level", "full")
    smoothed = ("--set", "activation.smoothing=5")
    return run_participants(tiny, tmp_path_factory.mktemp("judged"), *SLOPPY, *options, *smoothed)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory) -> Finished:
    """Run two participants with known activation and two pairs each, and the group level."""
    base = tmp_path_factory.mktemp("cohort")
    data = make_phantom(base / "data", "--subjects", "2", "--seed", "5", "--pairs", "2")
    # the known activation is in the data set
    maps = ("--smoothing", "0", "--set", "activation.kinds=glm", "--contrasts", "thumb", "little")
    finished = run_participants(data, base, *SLOPPY, *maps)
    code, text, _ = call([str(BIN / "bids-sr"), str(data), str(finished.out), "group"])
    assert code == 0, text
    return finished
