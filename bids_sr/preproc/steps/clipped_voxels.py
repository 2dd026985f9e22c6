"""Voxels of the brain whose signal was clipped; no series has maps there."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bids_sr.engine.artifacts import Derivative, Facts, File, Map, Mask, Series
from bids_sr.engine.step import Stage, step
from bids_sr.io.grids import AS_STORED, BOLDREF, AxisOrder, reorder
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.orientation import storage_order
from bids_sr.io.volume import Volume
from bids_sr.preproc.clipped_values import ClippedVoxelSearch
from bids_sr.preproc.steps.aligned_series import BrainMasks
from bids_sr.spatial.resampling import sample_volume

_ENTITIES = {"space": BOLDREF, "label": "clipped", "suffix": "mask"}
_SIDECAR = {
    "Description": "voxels of the brain whose signal was clipped at the largest stored value in"
    " at least 5 % of the volumes; maps contain no effects there"
}
N_CLIPPED_KEY = "clipped_voxels"
"""Key of the number of clipped voxels of the brain, in the facts on the registration."""


@step(
    Stage.HEAD_MOTION,
    makes=("bold_mask", "bold_mask_hr", "clipped_masks", "clipped_facts"),
)
def exclude_clipped(
    acquired: Series,
    masks: BrainMasks,
    echo_files: Sequence[File] = (),
    *,
    n_dummy: int,
    axis_order: AxisOrder = AS_STORED,
) -> tuple[Mask, Mask, list[Map], Facts]:
    """Exclude clipped voxels from the brain masks of a run on both grids.

    `acquired` contains all volumes as acquired; the first `n_dummy` are not examined.
    `echo_files` are the series of the echoes as stored if `acquired` is their combination, whose
    axes have the order `axis_order`. A voxel is clipped if it is clipped in any echo.

    Returns both masks; the mask of the clipped voxels of the brain, an empty list if there are
    none; and their number.
    """
    is_clipped = (
        _find_in_echoes(echo_files, n_dummy, axis_order)
        if echo_files
        else _find_clipped(acquired, n_dummy)
    )
    brain, brain_hr = masks.bold_mask, masks.bold_mask_hr
    is_clipped = brain.data & is_clipped
    n_clipped = int(np.count_nonzero(is_clipped))
    facts: Facts = {N_CLIPPED_KEY: n_clipped}
    if not n_clipped:
        return brain, brain_hr, [], facts
    is_clipped_hr = (
        sample_volume(
            is_clipped.astype(np.float32),
            brain.affine,
            brain_hr.data.shape,
            brain_hr.affine,
            order=0,
        )
        > 0.5
    )
    clipped = Derivative(Volume(is_clipped, brain.affine), _ENTITIES, _SIDECAR)
    return (
        brain.like(brain.data & ~is_clipped),
        brain_hr.like(brain_hr.data & ~is_clipped_hr),
        [clipped],
        facts,
    )


def _find_in_echoes(echo_files: Sequence[Path], n_dummy: int, axis_order: AxisOrder) -> np.ndarray:
    """Return the voxels that are clipped in any echo, in the order of axes of the run."""
    echo_masks = []
    first_affine = None
    for path in echo_files:
        with SeriesReader(path) as reader:
            first_affine = reader.affine if first_affine is None else first_affine
            order = storage_order(reader.affine, first_affine)
            echo_masks.append(reorder(order.turn(_find_clipped(reader, n_dummy)), axis_order))
    return np.logical_or.reduce(echo_masks)


def _find_clipped(series: SeriesReader, n_dummy: int) -> np.ndarray:
    """Return the clipped voxels of a series (X, Y, Z)."""
    search = ClippedVoxelSearch()
    for volume in series.volumes(n_dummy):
        search.add(volume)
    clipped = search.find()
    return np.zeros(series.shape[:3], dtype=bool) if clipped is None else clipped[1]
