"""The same run stored in other orders of axes: maps that agree, and left that is left.

python benchmarks/orientations.py BIDS_DIR SCRATCH [--orders AIL LIA ... | --all] [-- options of
bids-sr ...]

Every image of a participant is stored with its axes in another order and direction (no value
changes), BOLD series in the order named and anatomical images in that order reversed; sidecars
name the axes of slices and phase encoding anew. The data set is a phantom: it tells where the
thumb is active, and t there is compared with t at the mirrored place.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
from _table import keep

BIDS_SR = str(Path(sys.executable).parent / "bids-sr")
HANDFUL = ("LAS", "PIR", "ASR", "RSA", "ILP", "SAL")
OPTIONS = (
    "--sr-method",
    "inject",
    "zerofill",
    "--activation",
    "glm",
    "--smoothing",
    "0",
    "--threshold",
    "quarter",
    "--sloppy",
    "--nprocs",
    "1",
    "--omp-nthreads",
    "1",
    "--skip-bids-validation",
    "--output-dtype",
    "float32",
)
PAIRS = ("RL", "AP", "SI")


def every_order() -> list[str]:
    """The 48 ways in which axes can be stored: six orders, eight sets of directions."""
    return ["".join(way) for order in permutations(PAIRS) for way in product(*order)]


def turned(image: nib.Nifti1Image, code: str) -> nib.Nifti1Image:
    """An image with its axes in the order and directions of a code such as PIR."""
    return image.as_reoriented(way_to(image, code))


def way_to(image: nib.Nifti1Image, code: str) -> np.ndarray:
    """How nibabel reorients an image to a code."""
    own = nib.orientations.io_orientation(image.affine)
    return nib.orientations.ornt_transform(own, nib.orientations.axcodes2ornt(tuple(code)))


def renamed(direction: str, way: np.ndarray) -> str:
    """Name of a direction of the stored image (``j-``) after it was reoriented."""
    axis, sign = way["ijk".index(direction[0])]
    backward = direction.endswith("-") != (sign < 0)
    return "ijk"[int(axis)] + ("-" if backward else "")


def store(source: Path, target: Path, code: str) -> None:
    """Copy a data set with its images in an order of axes: series in that of `code`, anatomy in
    the reverse.
    """
    shutil.copytree(
        source, target, ignore=shutil.ignore_patterns("derivatives"), dirs_exist_ok=False
    )
    for path in sorted(target.rglob("*.nii.gz")):
        image = nib.load(path)
        series = path.parent.name == "func"
        wanted = code if series else code[::-1]
        way = way_to(image, wanted)
        data = np.asanyarray(image.dataobj)
        fresh = turned(nib.Nifti1Image(data, image.affine, image.header), wanted)
        beside = path.with_name(path.name.replace(".nii.gz", ".json"))
        fresh.to_filename(path)
        if series:
            sidecar = json.loads(beside.read_text())
            sidecar["SliceEncodingDirection"] = renamed(
                sidecar.get("SliceEncodingDirection", "k"), way
            )
            sidecar["PhaseEncodingDirection"] = renamed(
                sidecar.get("PhaseEncodingDirection", "j"), way
            )
            beside.write_text(json.dumps(sidecar))


def maps_of(out: Path) -> dict[str, nib.Nifti1Image]:
    """Maps of t of a participant, by name."""
    return {
        path.name: nib.load(path) for path in sorted(out.rglob("sub-*_stat-t_*statmap.nii.gz"))
    }


def in_ras(image: nib.Nifti1Image) -> np.ndarray:
    """Values with the axes right, anterior, superior."""
    return np.asarray(nib.as_closest_canonical(image).dataobj, dtype=float)


def around(image: nib.Nifti1Image, place: np.ndarray) -> float:
    """Largest value of a map within 6 mm of a place (RAS mm)."""
    data = np.nan_to_num(np.asarray(image.dataobj, dtype=float))
    voxels = np.argwhere(np.isfinite(data)) @ image.affine[:3, :3].T + image.affine[:3, 3]
    return float(data.ravel()[np.linalg.norm(voxels - place, axis=1) <= 6].max())


def thumb_of(data: Path) -> np.ndarray:
    """Where the thumb is active in a phantom (RAS mm), on the left."""
    table = next(data.rglob("*_desc-truth_foci.tsv"))
    rows = [line.split("\t") for line in table.read_text().splitlines()]
    (row,) = (row for row in rows if row[0] == "thumb")
    return np.array([float(row[rows[0].index(axis)]) for axis in "xyz"])


def run(data: Path, out: Path, work: Path, options: list[str]) -> tuple[int, float]:
    """Exit code and seconds of the program on a data set."""
    begun = time.monotonic()
    command = [BIDS_SR, str(data), str(out), "participant", "-w", str(work), *OPTIONS, *options]
    with out.with_suffix(".log").open("w") as log:
        code = subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, check=False, cwd=out.parent
        ).returncode
    shutil.rmtree(work, ignore_errors=True)
    return code, time.monotonic() - begun


def compared(out: Path, first: Path, data: Path, thumb: np.ndarray) -> dict[str, object]:
    """How the maps of a run stored otherwise agree with those of the first, and whether its grid
    came back.
    """
    own, other = maps_of(out), maps_of(first)
    if not own or own.keys() != other.keys():
        return {
            "r, acquired": None,
            "r, high resolution": None,
            "t, left": None,
            "t, right": None,
            "grid": "no maps",
        }
    rs: dict[bool, list[float]] = {True: [], False: []}
    left = right = 0.0
    for name, image in own.items():
        a, b = in_ras(image), in_ras(other[name])
        used = (a != 0) & (b != 0) & np.isfinite(a) & np.isfinite(b)
        rs["res-hr" in name].append(float(np.corrcoef(a[used], b[used])[0, 1]))
        if "contrast-thumb_" in name and "desc-zerofill" in name:
            left, right = around(image, thumb), around(image, thumb * [-1, 1, 1])
    bold = nib.load(next(data.rglob("*_bold.nii.gz")))
    kept = nib.load(next(out.rglob("*_desc-raw_bold.nii.gz")))
    mask = nib.load(next(out.rglob("*task*_desc-rawBrain_mask.nii.gz")))
    same = all(
        each.shape[:3] == bold.shape[:3] and np.allclose(each.affine, bold.affine, atol=1e-3)
        for each in (kept, mask)
    )
    return {
        "r, acquired": min(rs[False]),
        "r, high resolution": min(rs[True]),
        "t, left": left,
        "t, right": right,
        "grid": "as stored" if same else "another",
    }


def main() -> None:
    """Run the program over orders of axes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--orders", nargs="+", default=list(HANDFUL), help="codes such as PIR")
    parser.add_argument("--all", action="store_true", help="all 48")
    parser.add_argument("options", nargs="*", help="of bids-sr, after --")
    given = parser.parse_args()
    given.scratch.mkdir(parents=True, exist_ok=True)
    first, thumb = "stored", thumb_of(given.bids_dir)
    rows = []
    for code in [first, *(every_order() if given.all else given.orders)]:
        data, out = given.scratch / f"data-{code}", given.scratch / f"out-{code}"
        if code == first:
            data = given.bids_dir
        elif not data.exists():
            store(given.bids_dir, data, code)
        done = out.with_suffix(".json")
        if not done.exists():
            exit_code, seconds = run(
                data, out, given.scratch / f"work-{code}", ["--level", "full", *given.options]
            )
            done.write_text(json.dumps({"exit": exit_code, "seconds": seconds}))
        told = json.loads(done.read_text())
        axes = [
            "".join(nib.aff2axcodes(nib.load(next(data.rglob(name))).affine))
            for name in ("sub-*_bold.nii.gz", "sub-*_T1w.nii.gz")
        ]
        rows.append(
            {
                "BOLD": axes[0],
                "slices on axis": axes[0].index(next(c for c in axes[0] if c in "SI")) + 1,
                "T2*w, T1w": axes[1],
                "exit": told["exit"],
                **compared(out, given.scratch / f"out-{first}", data, thumb),
                "s": round(told["seconds"]),
            }
        )
        keep(
            "orientations",
            "One run stored in other orders of axes",
            rows,
            remarks=[
                (
                    "Smallest correlation over the t maps of all series and contrasts with those"
                    " of the first row, voxels brought to right, anterior, superior; largest t"
                    " (zero filling, thumb) within 6 mm of where the phantom is active, on the"
                    " left, and of its mirror image; whether the preprocessed series and the"
                    f" brain mask lie on the voxels of the input. Options: `{' '.join(OPTIONS)}`."
                ),
            ],
        )


if __name__ == "__main__":
    main()
