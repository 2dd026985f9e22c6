"""The same volumes super-resolved in two precisions, in selected slices."""

from collections.abc import Iterator

import numpy as np

from bids_sr.io.arrays import Array, evenly_spaced
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader
from bids_sr.sr.inference.upsampler_inputs import Upsampler
from bids_sr.sr.matrices import upsample


def select_slices(mask: Array, count: int) -> tuple[int, ...]:
    """Return at most `count` evenly spaced slices with at least half the largest mask area.

    The slice numbers are in ascending order, counted from 0. ValueError is raised for an empty
    mask.
    """
    area = np.asarray(mask > 0).sum((0, 1))
    if not area.any():
        raise ValueError("the mask is empty")
    brain_slices = np.flatnonzero(area >= 0.5 * area.max())
    return tuple(int(brain_slices[index]) for index in evenly_spaced(len(brain_slices), count))


def highres_mask(mask: Array, slices: tuple[int, ...], factor: Factor) -> Array:
    """Return the mask of selected slices, upsampled in plane (X, Y, slices; boolean)."""
    mask_slices = np.asarray(mask > 0)[:, :, list(slices)].astype(np.float32)
    return upsample("nearest", mask_slices, (factor[0], factor[1], 1.0)) > 0.5


def compare_precisions(
    reader: SeriesReader,
    full_precision: Upsampler,
    low_precision: Upsampler,
    slices: tuple[int, ...],
    slice_mask: Array,
    *,
    start: int = 0,
) -> Iterator[tuple[Array, Array]]:
    """Yield the masked values (V,) of each volume in two precisions, without motion correction.

    The errors of bf16 are about 0.7 % of the intensity range, which is the size of activity.
    Errors unrelated to the task average out, but others do not. Therefore, each run is tested for
    an effect of lower precision on its statistics.

    Parameters
    ----------
    reader : SeriesReader
        Series to super-resolve (4D).
    full_precision, low_precision : Upsampler
        Upsamplers in full and lower precision.
    slices : tuple[int, ...]
        Numbers of the slices to compare.
    slice_mask : Array
        Brain mask in these slices (X, Y, slices; boolean).
    start : int, optional
        Number of the first volume.
    """
    for volume in reader.volumes(start):
        yield (
            _super_resolve_slices(full_precision, volume, slices)[slice_mask],
            _super_resolve_slices(low_precision, volume, slices)[slice_mask],
        )


def _super_resolve_slices(upsampler: Upsampler, volume: Array, slices: tuple[int, ...]) -> Array:
    """Super-resolve selected slices of a volume.

    If the upsampler divides slices into thinner slices, the middle slice of each is returned.
    """
    if not upsampler.volumetric:
        return upsampler(np.ascontiguousarray(volume[:, :, list(slices)]), np.eye(4))
    upsampled = upsampler(volume, np.eye(4))
    thinner_per_slice = upsampled.shape[2] / volume.shape[2]
    return upsampled[:, :, [int((z + 0.5) * thinner_per_slice) for z in slices]]
