"""Structural scans as inputs and outputs of steps: one image per series and contrast.

The entity `desc` of a scan is its series (measured, an interpolation or a method), and the suffix
is the contrast. All scans of a head are on one grid, scaled to [0, 1], and 0 outside the mask.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bids_sr.config.sections.anat import AlignmentModel, Extraction, IntensityScaling, Tools
from bids_sr.engine.artifacts import Derivative, Facts, Map, Mask
from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.acquired_scan import acquired_scan_rows
from bids_sr.io.arrays import Array, Float32
from bids_sr.io.frozen import frozen
from bids_sr.io.volume import Volume


@frozen
class ScanPreparation:
    """Settings of the preparation of structural scans; the options have the same names."""

    anat_align: AlignmentModel
    anat_scale: IntensityScaling
    anat_mask: Extraction
    anat_tools: Tools
    random_seed: int
    sloppy: bool


def grid_text(first: str, align: str) -> str:
    """Describe the grid of aligned scans for sidecars; `first` is the suffix of the first scan."""
    if align.startswith("template"):
        return (
            f"grid with the voxel size of the high-resolution {first} scan, covering the"
            " template brain"
        )
    return f"grid of the high-resolution {first} scan"


@frozen
class PreparedScans:
    """Scans of one head in a common frame, on a common grid and from 0 to 1.

    `coarse_scans` are low-resolution scans, interpolated by cubic splines (simulated scans: zero
    filled), one per contrast, and `other_scans` are interpolated otherwise, in order; empty if
    there are none. `scan_mask` are the voxels that are used (`anat_mask`). `scan_facts` are
    alignment and position of each scan, intensities that were scaled to 1, and the transform to
    the template. `fine_scans` and `scan_brain` are high-resolution scans and brain mask; None if
    there are no high-resolution scans.
    """

    coarse_scans: list[Map]
    other_scans: list[Map]
    scan_mask: Mask
    scan_facts: Facts
    fine_scans: list[Map] | None = None
    scan_brain: Mask | None = None


def make_empty_folder(folder: Path) -> Path:
    """Return a new, empty folder; an existing folder of this name is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def make_scan(
    image: Volume, series: str, suffix: str, metadata: Mapping[str, object]
) -> Derivative:
    """Return the scan of a series and contrast as an artifact with metadata."""
    return Derivative(image, {"res": "hr", "desc": series, "suffix": suffix}, metadata)


def select_untrained_slices(
    scans: PreparedScans, cards: Sequence[Mapping[str, object]]
) -> list[int]:
    """Return the slices of a head that were not used to train any of the models.

    Slices are counted from 0 along the third axis.
    """
    from bids_sr.sr.networks.data.contrast_channels import contrast_image
    from bids_sr.structural.held_out import list_held_out_slices

    mask, fine_scans = scans.scan_mask, scans.fine_scans
    assert fine_scans is not None
    image = contrast_image(
        stack_scans(fine_scans),
        stack_scans(scans.coarse_scans),
        mask.data,
        mask.affine,
        list_suffixes(fine_scans),
        "own",
    )
    return list_held_out_slices(cards, mask.data.shape[2], image.checksum())


def stack_scans(scans: Sequence[Derivative]) -> Float32:
    """Return the values of scans of one head as channels, (C, X, Y, Z) float32."""
    return np.stack([scan.volume.data for scan in scans])


def list_suffixes(scans: Sequence[Derivative]) -> list[str]:
    """Return the contrasts of scans (BIDS suffixes), in order."""
    return [scan.entities["suffix"] for scan in scans]


def check_acquired(scans: PreparedScans, made_scans: Sequence[Derivative]) -> list[MetricRow]:
    """Compare scans with the acquired scans at the acquired resolution.

    `made_scans` are super-resolved. The facts on the scans have `largest_voxels` as
    ``acquired_mm``. The rows are from `acquired_scan_rows`, or [] if the voxel sizes are unknown.
    """
    mask, acquired_mm = scans.scan_mask, scans.scan_facts.get("acquired_mm")
    if not isinstance(acquired_mm, Mapping):
        return []
    acquired = {scan.entities["suffix"]: scan.volume.data for scan in scans.coarse_scans}
    return acquired_scan_rows(
        group_by_series([*scans.other_scans, *made_scans]),
        acquired,
        mask.data > 0.5,
        mask.zooms.tolist(),
        {str(contrast): float(mm) for contrast, mm in acquired_mm.items()},
    )


def group_by_series(scans: Sequence[Derivative]) -> dict[str, dict[str, Array]]:
    """Return the images of scans by series and contrast."""
    images: dict[str, dict[str, Array]] = {}
    for scan in scans:
        images.setdefault(scan.entities["desc"], {})[scan.entities["suffix"]] = scan.volume.data
    return images


def largest_voxels(scans: Mapping[tuple[str, str], Volume]) -> dict[str, float]:
    """Return the largest voxel size (mm) of each low-resolution scan by contrast.

    `scans` are as acquired, by contrast and ``highres`` or ``lowres``.
    """
    return {
        suffix: round(float(max(scan.zooms)), 4)
        for (suffix, resolution), scan in scans.items()
        if resolution == "lowres"
    }


def read_edited_mask(file: Path, grid: Volume) -> Array:
    """Return an edited mask of the brain or of hyperintensities (3D, boolean).

    `UsageError` is raised if the mask is not on the grid of the scans.
    """
    from bids_sr.io.fields_of_view import same_grid
    from bids_sr.io.nifti import load_image
    from bids_sr.io.notices import UsageError

    data, affine = load_image(Path(file))
    if not same_grid(data.shape, affine, grid.data.shape, grid.affine):
        raise UsageError(
            f"{file}",
            f"the mask has the grid {data.shape}, which differs in size or position from"
            f" the grid of the scans, {grid.data.shape}",
            "edit a copy of the mask that was written by an earlier run",
        )
    return np.asarray(data > 0.5)
