"""Data sets of the runs of `people.py runs`: a measured run downsampled by two, its reference, and
high-resolution runs.

A tested run and its calibration never share a volume. Calibrations are outside the data set, so
that one data set serves all of them (`--calibration FILE`). The task is only regressed out of
calibrations with events.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from _people_measured import FACTOR

from bids_sr.io.nifti import save_image
from bids_sr.spatial.matrices import kspace_crop
from bids_sr.spatial.smoothing import smooth
from bids_sr.survey.retrospective.downsampling import noise_to_add, thermal_noise, write_lr_series

ONE_TYPE = "stimulus"


@dataclass(frozen=True, kw_only=True)
class Part:
    """Volumes of a measured run: file below the folder of all data, first volume, and end
    (exclusive).
    """

    file: str
    first: int = 0
    end: int | None = None

    def series(self, data: Path) -> tuple[Any, np.ndarray]:
        """Return the image and its volumes, (X, Y, Z, T) float32."""
        image: Any = nib.load(data / self.file)  # type: ignore[attr-defined]
        return image, np.asarray(image.dataobj[..., self.first : self.end], dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Tested:
    """A tested run, and high-resolution volumes of the same session that calibrate it."""

    name: str  # name of its folder
    title: str
    person: str
    run: Part
    calibration: Part
    after: Part | None = None  # as many volumes after the run
    # the run at half its resolution, if a shared data set has it; otherwise it is computed
    low: str | None = None
    one_type: bool = False  # its events are merged into one type
    noisy: bool = False  # thermal noise is added, up to the level of a measured voxel of this size
    smoothed_mm: float = 0.0  # FWHM of a Gaussian that smooths the low-resolution run
    contrasts: tuple[str, ...] = ("all",)
    about: str = ""


_B = "pydecnef/sub-01/func/sub-01_task-perception_run-0{}_bold.nii.gz"
_C = "opennft/sub-01/func/sub-01_task-nfpsc_bold.nii.gz"
_A = "{}/sub-01/func/sub-01_task-localizer_bold.nii.gz"
_LOCALIZER = _A.format("studyforrest-localizer")
TESTED = {
    run.name: run
    for run in (
        Tested(
            name="A",
            title="studyforrest",
            person="A",
            run=Part(file=_A.format("studyforrest-lowres-truth")),
            low=_A.format("studyforrest-lowres"),
            contrasts=(
                "all",
                *("body", "house", "scene", "object", "scramble"),
                "body-house",
                "body-scene",
                "object-scramble",
            ),
            calibration=Part(file=_LOCALIZER, first=1, end=20),
            about="the 19 volumes before it; the very first is not in the steady state",
        ),
        Tested(
            name="B1",
            title="pydecnef, run 1",
            person="B",
            run=Part(file=_B.format(1)),
            one_type=True,
            calibration=Part(file=_B.format(2), first=70, end=90),
            about="volumes 70 to 89 of run 2",
        ),
        Tested(
            name="B2",
            title="pydecnef, run 2",
            person="B",
            run=Part(file=_B.format(2)),
            one_type=True,
            calibration=Part(file=_B.format(1), first=70, end=90),
            about="volumes 70 to 89 of run 1",
        ),
        Tested(
            name="C",
            title="opennft",
            person="C",
            run=Part(file=_C, first=25),
            one_type=True,
            calibration=Part(file=_C, first=5, end=25),
            about="volumes 5 to 24; volumes 25 to 154 are tested",
        ),
    )
}
MIDDLE = {
    run.name: run
    for run in (
        Tested(
            name="A-middle",
            title="studyforrest, middle",
            person="A",
            run=Part(file=_LOCALIZER, first=20, end=136),
            calibration=Part(file=_LOCALIZER, first=1, end=20),
            after=Part(file=_LOCALIZER, first=137, end=156),
        ),
        Tested(
            name="C-middle",
            title="opennft, middle",
            person="C",
            run=Part(file=_C, first=25, end=130),
            one_type=True,
            calibration=Part(file=_C, first=5, end=25),
            after=Part(file=_C, first=130, end=150),
        ),
    )
}
"""Runs with as many measured volumes before as after."""
NOISY = {
    f"{name}-noisy": replace(tested, name=f"{name}-noisy", noisy=True, contrasts=("all",))
    for name, tested in TESTED.items()
}
"""The same runs with thermal noise restored, as by `--retrospective noisy`."""
_STIMULI = ("living", "non_living", "gaussian")
TYPES = {
    f"{name}-types": replace(
        TESTED[name],
        name=f"{name}-types",
        one_type=False,
        contrasts=(
            "all",
            *_STIMULI,
            *(f"{first}-{second}" for first, second in combinations(_STIMULI, 2)),
        ),
    )
    for name in ("B1", "B2")
}
"""The same runs with their own event types."""
SMOOTHED = {
    f"{tested.name}-smoothed{width}": replace(
        tested,
        name=f"{tested.name}-smoothed{width}",
        title=f"{tested.title}, smoothed by {width} mm",
        smoothed_mm=width,
    )
    for tested in (TESTED["A"], TYPES["B2-types"])
    for width in (4, 6)
}
"""Runs that were smoothed before they were super-resolved."""


def make_tested(tested: Tested, data: Path, out: Path) -> tuple[Path, Path]:
    """Return the data sets at half and at full resolution, which are written unless they exist."""
    low, truth = out / tested.name / "low", out / tested.name / "truth"
    if (out / tested.name / "made").exists():
        return low, truth
    source = data / tested.run.file
    stem = source.name.removesuffix("_bold.nii.gz")
    inside = Path(*source.parts[-3:])
    image, measured = tested.run.series(data)
    for place in (low, truth):
        shutil.rmtree(place, ignore_errors=True)
        (place / inside).parent.mkdir(parents=True)
        for file in (data / tested.run.file.split("/")[0]).iterdir():
            if file.is_file():
                shutil.copy(file, place)
        shutil.copy(source.with_name(f"{stem}_bold.json"), (place / inside).parent)
        later = tested.run.first * float(image.header["pixdim"][4])
        events = moved_events(
            source.with_name(f"{stem}_events.tsv"), later, one_type=tested.one_type
        )
        (place / inside).with_name(f"{stem}_events.tsv").write_text(events)
    save_image(measured, image.affine, truth / inside, header_like=image.header)
    if tested.noisy:
        noise = noise_to_add(thermal_noise(truth / inside, 0), FACTOR)
        write_lr_series(
            truth / inside, low / inside, factor=FACTOR, first_volume=0, noise_sd=noise
        )
    elif tested.low is not None:
        shutil.copy(data / tested.low, low / inside)
    else:
        coarse, affine = kspace_crop(measured, image.affine, factor=FACTOR)
        save_image(coarse, affine, low / inside, header_like=image.header)
    if tested.smoothed_mm:
        smooth_file(low / inside, tested.smoothed_mm)
    (out / tested.name / "made").touch()
    return low, truth


def smooth_file(file: Path, fwhm_mm: float) -> None:
    """Smooth each volume of a series with a Gaussian."""
    image: Any = nib.load(file)  # type: ignore[attr-defined]
    series = np.asarray(image.dataobj, dtype=np.float32)
    for volume in range(series.shape[3]):
        series[..., volume] = smooth(series[..., volume], image.header.get_zooms()[:3], fwhm_mm)
    save_image(series, image.affine, file, header_like=image.header)


def moved_events(file: Path, seconds: float, *, one_type: bool) -> str:
    """Return an events table of a run that begins later by some seconds, with merged types if
    requested.
    """
    header, *rows = [line.split("\t") for line in file.read_text().splitlines() if line]
    at, kind = header.index("onset"), header.index("trial_type")
    for row in rows:
        row[at] = f"{float(row[at]) - seconds:.3f}"
        row[kind] = ONE_TYPE if one_type else row[kind]
    return "\n".join("\t".join(row) for row in (header, *rows)) + "\n"


def write_calibration(
    series: np.ndarray,
    like: Part,
    data: Path,
    file: Path,
    *,
    affine: np.ndarray | None = None,
    events: str = "",
) -> Path:
    """Write a high-resolution run with the header and sidecar of its source; `affine` for another
    grid.
    """
    image: Any = nib.load(data / like.file)  # type: ignore[attr-defined]
    file.parent.mkdir(parents=True, exist_ok=True)
    save_image(series, image.affine if affine is None else affine, file, header_like=image.header)
    about = json.loads((data / like.file.replace(".nii.gz", ".json")).read_text())
    Path(str(file).replace(".nii.gz", ".json")).write_text(json.dumps(about, indent=1))
    if events:
        Path(str(file).replace("_bold.nii.gz", "_events.tsv")).write_text(events)
    return file


def calibration_file(tested: Tested, out: Path, label: str) -> Path:
    """Return the path of a calibration: its own data set, of the same participant."""
    stem = Path(tested.run.file).name.removesuffix("_bold.nii.gz")
    subject, task, *rest = stem.split("_")
    return (
        out / tested.name / label / "_".join([subject, task, f"acq-{label}", *rest, "bold.nii.gz"])
    )
