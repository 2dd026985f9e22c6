"""Share one run on the smallest phantom among all end-to-end tests."""

import json
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


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished call of the program."""

    bids_dir: Path
    out: Path
    command: list[str]
    code: int
    text: str
    seconds: float


def call(command: list[str]) -> tuple[int, str, float]:
    """Return exit code, output and wall time (s) of a command."""
    start = time.monotonic()
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout, time.monotonic() - start


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """Make the phantom `tiny` with its command."""
    root = tmp_path_factory.mktemp("data") / "tiny"
    code, text, _ = call([str(BIN / "bids-sr-phantom"), str(root), "--preset", "tiny"])
    assert code == 0, text
    return root


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Finished:
    """Run the participant level on the phantom.

    The run has 68 volumes, so that other programs find a cosine regressor.
    """
    base = tmp_path_factory.mktemp("run")
    data = base / "data"
    code, text, _ = call(
        [str(BIN / "bids-sr-phantom"), str(data), "--preset", "tiny", "--volumes", "68"]
    )
    assert code == 0, text
    command = [
        str(BIN / "bids-sr"),
        str(data),
        str(base / "out"),
        "participant",
        "-w",
        str(base / "work"),
        "--set",
        "run.sloppy=true",
        "--truth",
        "none",
        "--output-spaces",
        "func",
        "T1w",
        "MNI152NLin2009cAsym:res-2",
        "--nprocs",
        "2",
    ]
    code, text, seconds = call(command)
    return Finished(
        bids_dir=data, out=base / "out", command=command, code=code, text=text, seconds=seconds
    )


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
def validated(finished) -> dict:
    """Return the issues that the BIDS validator reports for the derivatives."""
    done = subprocess.run(
        [str(BIN / "bids-validator-deno"), "--json", str(finished.out)],
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def judged(tiny, tmp_path_factory) -> Finished:
    """Run `tiny` with all validation options: retrospective and placebos."""
    base = tmp_path_factory.mktemp("judged")
    command = [
        str(BIN / "bids-sr"),
        str(tiny),
        str(base / "out"),
        "participant",
        "-w",
        str(base / "work"),
        "--set",
        "run.sloppy=true",
        "--retrospective",
        "--null-checks",
        "--set",
        "activation.smoothing=5",
        "--nprocs",
        "2",
        "--level",
        "full",
    ]
    code, text, seconds = call(command)
    return Finished(
        bids_dir=tiny, out=base / "out", command=command, code=code, text=text, seconds=seconds
    )


@pytest.fixture(scope="session")
def cohort(tmp_path_factory) -> Finished:
    """Run two participants with known activation and two pairs each, and the group level."""
    base = tmp_path_factory.mktemp("cohort")
    data, out = base / "data", base / "out"
    code, text, _ = call(
        [
            str(BIN / "bids-sr-phantom"),
            str(data),
            "--preset",
            "tiny",
            "--subjects",
            "2",
            "--seed",
            "5",
            "--pairs",
            "2",
        ]
    )
    assert code == 0, text
    command = [
        str(BIN / "bids-sr"),
        str(data),
        str(out),
        "participant",
        "-w",
        str(base / "work"),
        "--set",
        "run.sloppy=true",
        "--smoothing",
        "0",
        "--set",
        "activation.kinds=glm",  # the known activation is in the data set
        "--contrasts",
        "thumb",
        "little",
        "--nprocs",
        "2",
    ]
    code, text, _ = call(command)
    assert code == 0, text
    code, text, seconds = call([str(BIN / "bids-sr"), str(data), str(out), "group"])
    return Finished(bids_dir=data, out=out, command=command, code=code, text=text, seconds=seconds)
