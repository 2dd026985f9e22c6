"""Registration against known offsets: python benchmarks/registration.py PHANTOM [--draws 3].

PHANTOM is a data set made by `bids-sr-phantom`. Its true poses are known; on top of them one image
is given a further known rigid offset in its header (nothing is interpolated for it): translations
and rotations of the stated size in random directions. Errors are displacements over the head,
against the phantom's truth; the BOLD's includes what its mild distortion leaves between it and any
rigid pose. CPU seconds on one thread. Writes benchmarks/results/registration.{json,md}.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for variable in (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402
from _table import keep  # noqa: E402
from nibabel.affines import apply_affine as apply  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from bids_sr.io.nifti import SeriesReader  # noqa: E402
from bids_sr.io.volume import Volume  # noqa: E402
from bids_sr.registration.ants import load, load_ants  # noqa: E402
from bids_sr.registration.bold_to_anat import register_pair_to_bold, register_to_t1w  # noqa: E402
from bids_sr.registration.brain import brain_from_head, unbiased  # noqa: E402
from bids_sr.registration.pair_frames import registered_pair  # noqa: E402
from bids_sr.registration.templates import load_template  # noqa: E402
from bids_sr.spatial.masks import brain_mask  # noqa: E402
from bids_sr.spatial.transforms import displacement, invert, read_itk, rigid_matrix  # noqa: E402

Array = NDArray[Any]
OFFSETS = ((0.0, 0.0), (1.0, 1.0), (3.0, 3.0), (10.0, 10.0), (20.0, 15.0))  # mm, degrees
SLICES = 14
Estimate = Callable[[Array, str], Array]


def one(root: Path, pattern: str) -> Path:
    """The only file of a pattern."""
    found = sorted(root.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"{root}: {len(found)} files match {pattern}")
    return found[0]


def offset(rng: np.random.Generator, size: tuple[float, float], center: Array) -> Array:
    """A rigid matrix of the stated size in a random direction."""
    shift, axis = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    return rigid_matrix([*(size[0] * shift), *(np.deg2rad(size[1]) * axis)], center)


def moved(image: Volume, by: Array) -> Volume:
    """The image with another header: a point p of it now lies at `by` p."""
    return Volume(data=image.data, affine=by @ image.affine)


def rows_of(
    name: str, estimate: Estimate, truth: Array, mask: Array, affine: Array, draws: int
) -> list[dict[str, Any]]:
    """Errors of one registration over offsets; `truth` takes a point of the mask's image to the
    other's.
    """
    points = apply(affine, np.argwhere(mask))
    rows = []
    for size in OFFSETS:
        errors, worst, seconds = [], [], []
        for draw in range(draws if size[0] else 1):
            by = offset(
                np.random.default_rng([draw, int(10 * size[0])]), size, points.mean(axis=0)
            )
            with tempfile.TemporaryDirectory() as folder:
                start = time.process_time()
                found = estimate(by, f"{folder}/reg_")
                seconds.append(time.process_time() - start)
            miss = displacement(found, by @ truth, points)
            errors.append(float(np.sqrt((miss**2).mean())))
            worst.append(float(miss.max()))
        rows.append(
            {
                "registration": name,
                "offset mm": size[0],
                "offset deg": size[1],
                "rms mm": round(float(np.mean(errors)), 4),
                "worst rms mm": round(max(errors), 4),
                "max mm": round(max(worst), 4),
                "CPU s": round(float(np.mean(seconds)), 2),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("phantom", type=Path)
    parser.add_argument("--draws", type=int, default=3)
    args = parser.parse_args()
    load_ants(1)
    truth = args.phantom / "derivatives" / "ground-truth" / "sub-01"
    anat = args.phantom / "sub-01" / "anat"
    highres, lowres = (
        load(one(anat, f"*acq-{kind}_T2starw.nii.gz")) for kind in ("highres", "lowres")
    )
    head = load(one(anat, "*_T1w.nii.gz"))
    reader = SeriesReader(one(args.phantom / "sub-01" / "func", "*_bold.nii.gz"))
    boldref = Volume(data=next(reader.volumes(2, 3)), affine=reader.affine)
    part = slice((boldref.data.shape[2] - SLICES) // 2, (boldref.data.shape[2] + SLICES) // 2)
    cut = boldref.affine.copy()
    cut[:3, 3] += cut[:3, 2] * part.start
    partial = Volume(data=boldref.data[:, :, part], affine=cut)
    ratio = np.round(lowres.zooms / highres.zooms)
    factor = (float(ratio[0]), float(ratio[1]), float(ratio[2]))
    to_low, to_high, to_t1w = (
        read_itk(one(truth, f"*/*from-{a}_to-{b}_mode-image_desc-truth_xfm.txt"))[0]
        for a, b in (("highres", "lowres"), ("highres", "boldref"), ("T1w", "boldref"))
    )
    template = load_template()
    with tempfile.TemporaryDirectory() as folder:
        flat = unbiased(head, None, seed=1, iterations=(20, 15))
        brain, *_ = brain_from_head(
            flat, template.t1, template.mask.data, seed=1, prefix=f"{folder}/head_", sloppy=False
        )
    low_mask, bold_mask = (brain_mask(image.data, image.affine) for image in (lowres, boldref))

    def pair(by: Array, prefix: str) -> Array:
        return registered_pair(moved(highres, by), lowres, factor, seed=1, prefix=prefix)[3][0]

    def bold(by: Array, prefix: str) -> Array:
        return register_pair_to_bold(boldref, moved(highres, by), None, seed=1, prefix=prefix)[0]

    def t1w(by: Array, prefix: str) -> Array:
        return invert(register_to_t1w(boldref, moved(flat, by), brain, seed=1, prefix=prefix)[0])

    def t1w_partial(by: Array, prefix: str) -> Array:
        return invert(register_to_t1w(partial, moved(flat, by), brain, seed=1, prefix=prefix)[0])

    rows = rows_of("T2*w highres to lowres", pair, to_low, low_mask, lowres.affine, args.draws)
    rows += rows_of("T2*w highres to BOLD", bold, to_high, bold_mask, boldref.affine, args.draws)
    rows += rows_of("BOLD to T1w", t1w, to_t1w, bold_mask, boldref.affine, args.draws)
    rows += rows_of(
        f"BOLD, {SLICES} slices, to T1w",
        t1w_partial,
        to_t1w,
        bold_mask[:, :, part],
        cut,
        args.draws,
    )
    remark = (
        "What is left between BOLD and the other images does not depend on the offset and lies"
        " along the phase-encoding axis: it is the EPI's distortion, which no rigid transform can"
        " take away."
    )
    keep("registration", "Registration: known offsets recovered", rows, remarks=[remark])


if __name__ == "__main__":
    main()
