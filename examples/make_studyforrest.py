#!/usr/bin/env python3
"""Make `examples/studyforrest`, the real run of the quick start, from the measured run.

SOURCE is a BIDS data set of one participant with the run as it was measured (80 x 80, 3 mm), its
events and a T1w image at 1 mm; its description names license and source.  Each slice is truncated
in k-space to 40 x 40 (6 mm).  The first N_PAIR volumes, before the first block, are averaged for
the T2*w pair; the others are the run, in which all conditions have two blocks.  What is left out
to stay below 15 MB:

- field of view: columns without the head, and the slices above and below a slab of SLICES; the T1w
  image stays whole;
- precision: BOLD is stored in steps of STEP (acquired 8, measured 16), which adds 1 % to the
  variance over time;
- of the measured volumes, voxels outside the head, which are 0;
- the T1w image is given at 2 mm.

The measured run goes to `derivatives/highres-reference`, where bids-sr finds it.
"""

import argparse
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
from scipy import ndimage

STEM = "sub-01/func/sub-01_task-localizer"
PLACE = "derivatives/highres-reference"
BOX = (slice(8, 72), slice(0, 72), slice(5, 25))
"""Of the measured matrix: columns, rows and slices that are kept; even in plane, so that both
fields of view agree.
"""
N_PAIR = 6
STEP_ACQUIRED, STEP_MEASURED = 8, 16
MARGIN = 2  # voxels around the head that keep their values
ACQUIRED = "simulated 6 mm: 3 mm data, k-space cropped"
PAIR = (
    f"mean of {N_PAIR} earlier volumes of the same run, in which static detail is easier to"
    " recover than in a separate scan"
)
README = """# A real run for the quick start

One run of a block-design localizer of higher visual areas, 3 T, TR 2 s, {volumes} volumes, of one
participant of the studyforrest project, cropped so that it can be carried along:

    bids-sr examples/studyforrest out participant

`sub-01` is what a scanner with a matrix of 40 x 40 would have given: each slice of the measured
run (80 x 80, 3 mm) was truncated in k-space to 6 mm.  The T2*w pair is the mean of {pair} earlier
volumes of the same run, at both resolutions: it has the contrast, distortion and pose of the run.
For static detail this is an easy case; a real pair is harder.
`derivatives/highres-reference` holds the measured volumes, the reference against which bids-sr
assesses accuracy.  Twelve blocks of 16 images (1 Hz, 16 s), six categories; the participant looked
for repeated images (one-back task).

To stay small: columns without the head, {above} slices above and {below} below are cut off, BOLD
is stored in steps of {acquired} (acquired) and {measured} (measured) units, measured voxels
outside the head are 0, the T1w image is at 2 mm.

## License and source

Public Domain Dedication and License (PDDL) 1.0.  The images come from https://github.com/datalad/example-dicom-functional
and https://github.com/datalad/example-dicom-structural, where they were published anonymous and
with the face removed.
Sengupta et al. 2016, doi:10.1038/sdata.2016.93; Hanke et al. 2014, doi:10.1038/sdata.2014.3; http://studyforrest.org

Made by `examples/make_studyforrest.py`.
"""

CHANGES = """2.0.0 2026-11-30
  - The T2*w pair is the mean of fewer volumes, so that all conditions have two blocks in the run.
1.0.0 2026-11-21
  - First version.
"""


def cropped(image: nb.Nifti1Image, by: int) -> nb.Nifti1Image:
    """The part of an image that lies in `BOX`; `by`: its voxel over the measured one, in plane."""
    part = (*(slice(s.start // by, s.stop // by) for s in BOX[:2]), BOX[2])
    affine = image.affine.copy()
    affine[:3, 3] = nb.affines.apply_affine(image.affine, [s.start for s in part])
    return nb.Nifti1Image(np.asanyarray(image.dataobj)[part], affine, image.header)


def truncated(data: np.ndarray) -> np.ndarray:
    """Truncate slices of magnitude images (X, Y, Z[, T]) in k-space to half the matrix.

    A phase ramp shifts the sampling points, so that both fields of view have the same edges.
    """
    low = data.astype(np.complex128)
    for axis in (0, 1):
        n = low.shape[axis]
        kept = np.r_[0 : n // 4, n - n // 4 : n]
        ramp = np.exp(1j * np.pi * np.fft.fftfreq(n)[kept]) / 2
        spectrum = np.moveaxis(np.fft.fft(low, axis=axis), axis, -1)[..., kept] * ramp
        low = np.moveaxis(np.fft.ifft(spectrum), -1, axis)
    return np.rint(np.abs(low))


def head_mask(series: np.ndarray) -> np.ndarray:
    """Voxels of the head and `MARGIN` around it, from the mean over time."""
    mean = series.mean(-1)
    opened = ndimage.binary_opening(mean > 0.15 * np.percentile(mean, 98))
    label, _ = ndimage.label(ndimage.binary_fill_holes(opened))
    largest = 1 + int(np.argmax(np.bincount(label.ravel())[1:]))
    return ndimage.binary_dilation(label == largest, iterations=MARGIN)


def halved(image: nb.Nifti1Image) -> nb.Nifti1Image:
    """An image at twice its voxel size, smoothed against aliasing; the field of view keeps its
    lower edges.
    """
    data = ndimage.gaussian_filter(
        np.asanyarray(image.dataobj).astype(np.float32), np.sqrt(3) / 2.355
    )
    step = np.diag([2.0, 2.0, 2.0, 1.0])
    step[:3, 3] = 0.5
    shape = tuple(n // 2 for n in data.shape)
    return nb.Nifti1Image(
        ndimage.affine_transform(data, step[:3, :3], step[:3, 3], output_shape=shape, order=1),
        image.affine @ step,
    )


def save(image: nb.Nifti1Image, path: Path, *, step: int = 1, tr: float | None = None) -> None:
    """Write an image as int16 in steps of `step`, which the header undoes; equal input makes equal
    bytes.
    """
    stored = np.clip(
        np.round(np.asanyarray(image.dataobj) / step), 0, np.iinfo(np.int16).max
    ).astype(np.int16)
    out = nb.Nifti1Image(stored, image.affine)
    out.header.set_xyzt_units("mm", "sec")
    out.header.set_slope_inter(step, 0)
    if tr is not None:
        out.header.set_zooms((*out.header.get_zooms()[:3], tr))
    out.set_qform(image.affine, 1)
    out.set_sform(image.affine, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(out.to_bytes(), 9, mtime=0))


def write_json(path: Path, content: Any) -> None:
    """Write content as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(path.read_text())


def shifted(table: str, seconds: float) -> str:
    """Return a table of events whose onsets, in the first column, count from a later volume."""
    head, *lines = table.splitlines()
    cells = [line.split("\t", 1) for line in lines]
    moved = [f"{float(onset) - seconds:.3f}\t{others}" for onset, others in cells]
    return "\n".join([head, *moved]) + "\n"


def make(source: Path, out: Path) -> None:
    """Write the example to `out`, which is removed first."""
    shutil.rmtree(out, ignore_errors=True)
    whole = nb.load(source / f"{STEM}_bold.nii.gz")
    data = np.asanyarray(whole.dataobj)
    low_affine = whole.affine @ np.array(
        [[2, 0, 0, 0.5], [0, 2, 0, 0.5], [0, 0, 1, 0], [0, 0, 0, 1]]
    )
    run, pair = data[..., N_PAIR:], np.rint(data[..., :N_PAIR].mean(-1))
    n_slices = data.shape[2]
    scanner = read_json(source / f"{STEM}_bold.json")
    sidecar = {**scanner, "SliceTiming": scanner["SliceTiming"][BOX[2]]}
    tr = sidecar["RepetitionTime"]
    acquired = cropped(nb.Nifti1Image(truncated(run), low_affine), 2)
    save(acquired, out / f"{STEM}_bold.nii.gz", step=STEP_ACQUIRED, tr=tr)
    write_json(out / f"{STEM}_bold.json", {**sidecar, "Description": ACQUIRED})
    measured = cropped(nb.Nifti1Image(run, whole.affine), 1)
    volumes = np.asanyarray(measured.dataobj)
    masked = nb.Nifti1Image(volumes * head_mask(volumes)[..., None], measured.affine)
    save(masked, out / PLACE / f"{STEM}_bold.nii.gz", step=STEP_MEASURED, tr=tr)
    more = {
        "SkullStripped": False,
        "Description": "as measured at 3 mm; voxels outside the head are 0",
    }
    write_json(out / PLACE / f"{STEM}_bold.json", {**sidecar, **more})
    events = (source / f"{STEM}_events.tsv").read_text()
    (out / f"{STEM}_events.tsv").write_text(shifted(events, N_PAIR * tr))
    # the order of trial types is taken from the root of the data set
    shutil.copyfile(source / f"{STEM}_events.json", out / "task-localizer_events.json")
    scan = {
        name: value
        for name, value in scanner.items()
        if name not in ("TaskName", "TaskDescription", "SliceTiming", "RepetitionTime")
    }
    for name, image, by in (
        ("acq-highres_T2starw", nb.Nifti1Image(pair, whole.affine), 1),
        ("acq-lowres_T2starw", nb.Nifti1Image(truncated(pair), low_affine), 2),
    ):
        anat = f"sub-01/anat/sub-01_{name}"
        save(cropped(image, by), out / f"{anat}.nii.gz")
        write_json(out / f"{anat}.json", {**scan, "RepetitionTime": tr, "Description": PAIR})
    t1w = "sub-01/anat/sub-01_T1w"
    save(halved(nb.load(source / f"{t1w}.nii.gz")), out / f"{t1w}.nii.gz")
    write_json(out / f"{t1w}.json", read_json(source / f"{t1w}.json"))
    about = read_json(source / "dataset_description.json")
    write_json(
        out / "dataset_description.json",
        {**about, "Name": "studyforrest localizer, cropped example of bids-sr"},
    )
    made_by = [
        {
            "Name": "make_studyforrest.py",
            "Description": "Crop and int16 packing of the measured run",
        }
    ]
    write_json(
        out / PLACE / "dataset_description.json",
        {
            **about,
            "Name": "studyforrest localizer as measured at 3 mm, cropped",
            "DatasetType": "derivative",
            "GeneratedBy": made_by,
        },
    )
    (out / "participants.tsv").write_text("participant_id\nsub-01\n")
    (out / "CHANGES").write_text(CHANGES)
    (out / "README").write_text(
        README.format(
            above=n_slices - BOX[2].stop,
            below=BOX[2].start,
            acquired=STEP_ACQUIRED,
            measured=STEP_MEASURED,
            volumes=run.shape[-1],
            pair=N_PAIR,
        )
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "source", type=Path, metavar="SOURCE", help="data set with the run as measured"
    )
    here = Path(__file__).parent / "studyforrest"
    parser.add_argument(
        "--out",
        type=Path,
        default=here,
        help="folder of the example (default: beside this script)",
    )
    args = parser.parse_args()
    make(args.source, args.out)


if __name__ == "__main__":
    main()
