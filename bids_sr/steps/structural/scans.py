"""Structural scans as artifacts: one map per series and contrast, stacked or sorted.

Scans are maps with entities of their own: `desc` is the series (measured, an interpolation, a
method), the suffix the contrast. All of one head lie on one grid, in [0, 1], nothing outside the
brain.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from bids_sr.io.arrays import Array, Float32
from bids_sr.io.volume import Volume
from bids_sr.pipeline.artifacts import Derivative

Align = Literal["rigid", "affine", "nonlinear", "template-rigid", "template", "template-warp"]
Scale = Literal["percentile", "range"]
Extracted = Literal["brain", "intracranial"]
Tools = Literal["ants", "fsl"]


def grid_text(first: str, align: str) -> str:
    """Describe the grid of aligned scans for sidecars; `first` is the suffix of the first scan."""
    if align.startswith("template"):
        return (
            f"grid with the voxel size of the high-resolution {first} scan, covering the"
            " template brain"
        )
    return f"grid of the high-resolution {first} scan"


def emptied(folder: Path) -> Path:
    """Return a new, empty folder in place of any of that name."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def scan_of(image: Volume, series: str, suffix: str, about: Mapping[str, object]) -> Derivative:
    """Return the scan of a series and contrast as an artifact with metadata."""
    return Derivative(image, {"res": "hr", "desc": series, "suffix": suffix}, about)


def stacked(scans: Sequence[Derivative]) -> Float32:
    """Return scans of one head as channels, (C, X, Y, Z).

    Values of the scans in this order (float32).
    """
    return np.stack([each.volume.data for each in scans])


def suffixes_of(scans: Sequence[Derivative]) -> list[str]:
    """Return the contrasts of scans (BIDS suffixes), in order."""
    return [each.entities["suffix"] for each in scans]


def by_series(scans: Sequence[Derivative]) -> dict[str, dict[str, Array]]:
    """Return images of scans by series and contrast."""
    found: dict[str, dict[str, Array]] = {}
    for each in scans:
        found.setdefault(each.entities["desc"], {})[each.entities["suffix"]] = each.volume.data
    return found


def untrained_slices(
    fine: Sequence[Derivative],
    coarse: Sequence[Derivative],
    mask: Volume,
    cards: Sequence[Mapping[str, object]],
) -> list[int]:
    """Return slices of a head that none of the models was trained on.

    Numbers of the slices along the third axis, counted from 0.
    """
    from bids_sr.sr.training.fused import contrast_image, held_out_slices

    own = contrast_image(
        stacked(fine), stacked(coarse), mask.data, mask.affine, suffixes_of(fine), "own"
    )
    return held_out_slices(cards, mask.data.shape[2], own.checksum())
