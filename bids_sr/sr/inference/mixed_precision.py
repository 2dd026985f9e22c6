"""A few slices of every volume super-resolved in two precisions of the network's arithmetic.

bf16 errs by about .7 % of the image's range, which is the size of activity. Errors that do not follow the task average
out, others do not: a lower precision must show on the run itself that it leaves the statistics alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from bids_sr.io.array_types import Array
from bids_sr.sr.resolution.interpolation import upsample

if TYPE_CHECKING:
    from bids_sr.io.nifti import SeriesReader
    from bids_sr.sr.inference.apply_to_series import Upsampler
    from bids_sr.sr.resolution.degradation import Factor


def some_slices(mask: Array, count: int) -> tuple[int, ...]:
    """At most `count` slices, spread evenly over those that hold at least half as much mask as the fullest."""
    area = np.asarray(mask > 0).sum((0, 1))
    if not area.any():
        raise ValueError("the mask is empty")
    full = np.flatnonzero(area >= 0.5 * area.max())
    chosen = full[np.unique(np.linspace(0, len(full) - 1, min(count, len(full))).round().astype(int))]
    return tuple(int(z) for z in chosen)


def fine_mask(mask: Array, slices: tuple[int, ...], factor: Factor) -> Array:
    """The mask in some slices, on their high-resolution grid."""
    part = np.asarray(mask > 0)[:, :, list(slices)].astype(np.float32)
    return upsample("nearest", part, (factor[0], factor[1], 1.0)) > 0.5


def in_both(
    reader: SeriesReader, full: Upsampler, low: Upsampler, slices: tuple[int, ...], inside: Array, *, start: int = 0
) -> Iterator[tuple[Array, Array]]:
    """Yield (V,) values inside a mask of each volume from `start`, of either upsampler; head motion is not undone."""
    for volume in reader.volumes(start):
        yield _in_slices(full, volume, slices)[inside], _in_slices(low, volume, slices)[inside]


def _in_slices(upsampler: Upsampler, volume: Array, slices: tuple[int, ...]) -> Array:
    """Super-resolved slices of a volume; where they get thinner, the one at the middle of each."""
    if not getattr(upsampler, "volumetric", False):
        return upsampler(np.ascontiguousarray(volume[:, :, list(slices)]), np.eye(4))
    fine = upsampler(volume, np.eye(4))
    step = fine.shape[2] / volume.shape[2]
    return fine[:, :, [int((z + 0.5) * step) for z in slices]]
