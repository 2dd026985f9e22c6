"""Run the whole program on the runs of `_people_data`, once per run and calibration, and store its
results.

Files that tables need (evaluation, verdict, model card, effects of the blocks, explained fraction
of zero filling's error) are stored in a separate folder, so that no call is repeated and tables
only need these files. Calls on one run share a working directory: steps that do not depend on the
calibration run once. The name of this directory contains a hash of the program, because results of
another version must not be reused.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from _labels import label
from _people_measured import FACTOR, FIRST, components, without_drift

import bids_sr
from bids_sr import workflows
from bids_sr.engine.metric_rows import MetricRow, read_table
from bids_sr.evaluation.agreement import agreement_rows
from bids_sr.evaluation.effects_of_run import RunEffects
from bids_sr.evaluation.references import make_half_reference
from bids_sr.glm.block_effects import Effects
from bids_sr.glm.contrasts import resolve_contrasts
from bids_sr.io.arrays import Float32
from bids_sr.spatial.resampling import sample_volume

SECONDS = 1800  # s, longest duration of one call
OPTIONS = (
    "--sr-method",
    "sbl",
    "--smoothing",
    "0",
    "--set",
    "activation.kinds=glm",
    "--set",
    "activation.thresholds=quarter",
    "--level",
    "minimal",
    "--skip-bids-validation",
)
PROCESSORS = "1"
REFUSED = "it cannot calibrate"  # in the log
SERIES = ("zerofill", "sbl", "measured")
ACQUIRED_T = "space-boldref_contrast-all_stat-t_desc-acquired_statmap.nii"


@dataclass(frozen=True)
class Kept:
    """Stored results of one call on a run, with or without a calibration."""

    folder: Path

    @property
    def done(self) -> bool:
        """True if the call ended and all files exist."""
        return (self.folder / "about.json").exists()

    @property
    def about(self) -> dict[str, Any]:
        """Exit status, hash of the program, explained fraction of zero filling's error."""
        return dict(json.loads((self.folder / "about.json").read_text()))

    @property
    def rows(self) -> list[MetricRow]:
        """The evaluation table."""
        return read_table(self.folder / "evaluation.tsv")

    @property
    def held_out(self) -> dict[str, Any]:
        """Result of the gate, from the model card."""
        return dict(json.loads((self.folder / "card.json").read_text())["held_out"])

    @property
    def applied(self) -> bool:
        """True if `sbl` was applied."""
        return bool(json.loads((self.folder / "card.json").read_text())["applied"])

    @property
    def tested(self) -> float:
        """Self-test score: explained fraction of zero filling's error at half the resolution."""
        return value(self.rows, "sbl", "tested_share", "brain").value

    def acquired_t(self, like: Effects) -> Float32:
        """Return t of the acquired run, interpolated by a cubic B-spline to the grid of
        effects.
        """
        image: Any = nib.load(self.folder / ACQUIRED_T)  # type: ignore[attr-defined]
        return sample_volume(np.asarray(image.dataobj), image.affine, like.mask.shape, like.affine)

    @property
    def calibration(self) -> dict[str, Any]:
        """Facts about the calibration: volumes, displacement, whether it was usable."""
        file = self.folder / "calibration.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}


def command(
    low: Path,
    results: Path,
    truth: Path | str,
    calibration: str | Path,
    work: Path,
    contrasts: Sequence[str] = ("all",),
) -> list[str]:
    """Return one call of the program."""
    return [
        str(Path(sys.executable).with_name("bids-sr")),
        str(low),
        str(results),
        "participant",
        *OPTIONS,
        "--contrasts",
        *contrasts,
        "--truth",
        str(truth),
        "--calibration",
        str(calibration),
        "-w",
        str(work),
        "--nprocs",
        PROCESSORS,
    ]


@cache
def code() -> str:
    """Return a hash of the sources of the installed program."""
    files = [
        file
        for folder in (*bids_sr.__path__, *workflows.__path__)
        for file in sorted(Path(folder).rglob("*.py"))
    ]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def call(
    low: Path,
    truth: Path | str,
    folder: Path,
    kind: str,
    calibration: str | Path,
    contrasts: Sequence[str] = ("all",),
) -> Kept:
    """Run the whole program on a data set of one run, unless it has finished already.

    A calibration that is rejected at the start gives exit status 1, and the run is processed
    without it; any other failure ends this benchmark.

    Parameters
    ----------
    low, truth : data sets; truth may also be auto
    folder : folder of the run; files for tables are stored in its kept/KIND
    calibration : file, or none
    contrasts : values of `--contrasts`
    """
    outputs = Kept(folder / "kept" / kind)
    if outputs.done:
        return outputs
    results, work = folder / "results", _working_directory(folder)
    for place in (
        results,
        outputs.folder,
        *(old for old in folder.glob("work-*") if old.resolve() != work.resolve()),
    ):
        shutil.rmtree(place, ignore_errors=True)
    outputs.folder.mkdir(parents=True)
    with (outputs.folder / "log.txt").open("w") as log:
        program = ["nice", "-n", "5", *command(low, results, truth, calibration, work, contrasts)]
        done = subprocess.run(
            program,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    finished = next(results.glob("sub-*/**/func/*_desc-evaluation_metrics.tsv"), None) is not None
    refused = done.returncode == 1 and REFUSED in (outputs.folder / "log.txt").read_text()
    if not finished or not (done.returncode == 0 or refused):
        sys.exit(
            f"{folder.name} {kind}: exit status {done.returncode}, see"
            f" {outputs.folder / 'log.txt'}"
        )
    about: dict[str, Any] = {"status": done.returncode, "code": code()}
    # the working directory may contain an earlier calibration
    calibrated = calibration != "none" and done.returncode == 0
    about |= _store(
        results,
        find_working_run(folder),
        outputs.folder,
        calibrated=calibrated,
    )
    (outputs.folder / "about.json").write_text(json.dumps(about, indent=1))
    shutil.rmtree(results, ignore_errors=True)
    return outputs


def find_working_run(folder: Path) -> Path:
    """Return the folder of a run's steps in the working directory of its calls.

    `folder` is the folder of the run. The benchmark ends if another version of the program made
    the calls.
    """
    if not _working_directory(folder).exists():
        sys.exit(
            f"{folder}: working directory not found for this version of the program. Remove"
            f" {folder / 'kept'} to repeat the calls."
        )
    return _only_file(_working_directory(folder), "bids_sr_wf/sub_*_wf/sub_*_wf")


def _working_directory(folder: Path) -> Path:
    return folder / f"work-{code()}"


def _only_file(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def _store(results: Path, run: Path, folder: Path, *, calibrated: bool) -> dict[str, float]:
    """Copy the files that tables need.

    Returns the explained fraction of zero filling's error, if the run was measured at the high
    resolution.
    """
    shutil.copy(
        _only_file(results, "sub-*/**/func/*_desc-evaluation_metrics.tsv"),
        folder / "evaluation.tsv",
    )
    shutil.copy(
        _only_file(results, "sub-*/**/func/*_desc-verdict_metrics.json"), folder / "verdict.json"
    )
    shutil.copy(_only_file(run, "sbl/estimate_variance/sbl.json"), folder / "card.json")
    if calibrated:
        steps = run / "calibration_wf"
        shutil.copy(
            steps / "measure_calibration" / "calibration_facts.json", folder / "calibration.json"
        )
        shutil.copy(steps / "register_calibration" / "boldref2calibration_xfm.txt", folder)
    if not (run / "measured").exists():
        return {}
    shutil.copy(run / "acquired" / "map_series" / ACQUIRED_T, folder)
    for name in SERIES:
        shutil.copy(run / name / "measure_effects" / "effects.npz", folder / f"{name}.npz")
    return {"share": share(*(_series(run, name) for name in SERIES))}


def _series(run: Path, name: str) -> np.ndarray:
    """Read a series of the working directory, in the steady state."""
    file = (
        run / name / ("place_measured" if name == "measured" else "super_resolve") / "series.nii"
    )
    image: Any = nib.load(file)  # type: ignore[attr-defined]
    return np.asarray(image.dataobj, dtype=np.float32)[..., FIRST:]


def share(zero: np.ndarray, reconstruction: np.ndarray, measured: np.ndarray) -> float:
    """Compute the explained fraction of zero filling's squared error.

    Mean over the strongest components of the measured series in the brain.
    """
    reference = without_drift("measured", "", measured)
    inside = reference.series[reference.mask].astype(np.float64)
    count = len(components(reference.series, reference.mask))
    vectors = np.linalg.eigh(inside.T @ inside)[1][:, ::-1][:, :count]

    def error(series: np.ndarray) -> np.ndarray:
        values = without_drift("", "", series).series[reference.mask].astype(np.float64)
        return np.asarray((((values - inside) @ vectors) ** 2).sum(0))

    return float(np.mean(1 - error(reconstruction) / error(zero)))


def value(rows: Sequence[MetricRow], series: str, measure: str, region: str) -> MetricRow:
    """Return one value for all events against rest, unsmoothed."""
    candidates = [
        r
        for r in rows
        if (r.series, label(r), r.region, r.fwhm_mm) == (series, measure, region, 0)
    ]
    return min(candidates, key=lambda row: row.contrast != "all")


def gains(first: Kept, second: Kept) -> Mapping[tuple[str, str], MetricRow]:
    """Return `sbl` of the second call minus the first, by measure and region, with intervals over
    the same blocks.
    """
    effects = Effects.load(first.folder / "measured.npz")
    types = list(dict.fromkeys(block.condition for block in effects.blocks))
    contrast = resolve_contrasts(types, ["all"])
    with tempfile.TemporaryDirectory() as folder:
        files = {"measured": first.folder / "measured.npz"}
        for name, outputs in (("before", first), ("after", second)):
            named = replace(Effects.load(outputs.folder / "sbl.npz"), series=name)
            files[name] = named.save(Path(folder) / name)
        run = RunEffects(
            files=files,
            contrasts=contrast,
            mask=effects.mask,
            affine=effects.affine,
            roi=effects.mask,
            factor=FACTOR,
            acquired_t={"all": first.acquired_t(effects)},
        )
        rows = agreement_rows(run, make_half_reference)
    return {(label(r), r.region): r for r in rows if (r.series, r.minus) == ("after", "before")}
