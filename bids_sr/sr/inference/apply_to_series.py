"""Super-resolution of a series.

Each volume is upsampled as acquired, then interpolated once to boldref. All volumes of a run share
one intensity scale. Scaling each volume separately would remove the global signal, and thus part
of the activity, from the series.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np

from bids_sr.io.arrays import Array, Float32, evenly_spaced
from bids_sr.io.grids import Factor, Shape
from bids_sr.io.nifti import SeriesReader, SeriesWriter, step_of
from bids_sr.series import INTERPOLATIONS, PAIR_BASELINES
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.output_grids import PlacedGrid
from bids_sr.spatial.resampling import sample_volume, spline_coefficients
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr import matrices
from bids_sr.sr.inference.acquired import (
    InferenceError,
    PlainUpsampler,
    Upsampler,
    UpsamplerInputs,
)
from bids_sr.sr.inference.guided_baselines import inject, ratio
from bids_sr.sr.matrices import check_factor, downsample, fill, upsample
from bids_sr.sr.method import get_method, method_of_series
from bids_sr.sr.models.model import LoadedModel

Keeping = Literal["off", "enforce"]


def make_upsampler(
    name: str, acquired: UpsamplerInputs, model: LoadedModel | None = None
) -> Upsampler:
    """Return the upsampler of a series.

    Parameters
    ----------
    name : str
        Name of the series: "raw" (no upsampling), a baseline or a method.
    acquired : UpsamplerInputs
        Grid, intensity and images of the run.
    model : LoadedModel | None, optional
        Trained network. None for "raw" and for baselines.

    Raises
    ------
    InferenceError
        If the model, the high-resolution image or another required input is missing, or if the
        method cannot be applied to single volumes.
    """
    factor = check_factor(acquired.factor)
    if model is not None:
        method = get_method(model.card.method) if model.card.method else method_of_series(name)
        if method.variance is not None:
            raise InferenceError(
                f"the method {method.name} requires a whole run and cannot be applied to "
                "single volumes"
            )
        from bids_sr.sr.inference.network_upsampler import network_upsampler

        return network_upsampler(model, acquired)
    if name == "raw":
        if factor != (1.0, 1.0, 1.0):
            raise InferenceError(
                "the acquired series (raw) is not upsampled, so the factor must be 1 along "
                f"all axes (got {factor})"
            )
        return PlainUpsampler(function=lambda volume, pose: volume)
    if name in matrices.MATRICES:
        return PlainUpsampler(function=lambda volume, pose: upsample(name, volume, factor))
    if name not in PAIR_BASELINES:
        raise InferenceError(
            f"{name} requires a trained model, but no model was specified. Without a model, "
            f"only baselines can be computed ({', '.join((*INTERPOLATIONS, *PAIR_BASELINES))})"
        )
    source, mean = acquired.guide, acquired.mean
    if source is None or acquired.affine is None or (name == "ratio" and mean is None):
        raise InferenceError(
            f"{name} requires the high-resolution image of the participant and its "
            "registration to the boldref"
        )
    grid = np.asarray(acquired.affine, float)

    def guided(volume: Array, pose: Array) -> Array:
        shape, fine = hr_grid(volume.shape, grid, factor)
        detail = acquired.gain * source.seen(
            (int(shape[0]), int(shape[1]), int(shape[2])), fine, pose
        )
        if name == "inject" or mean is None:
            return inject(volume, detail, factor)
        return ratio(volume, mean.seen(volume.shape, grid, pose), detail, factor, acquired.scale)

    return PlainUpsampler(function=guided)


def enforce(fine: Array, volume: Array, factor: Factor) -> Array:
    """Replace the acquired band of an upsampled volume by the acquired data.

    If the factor is above 1 across slices, the correction is a cubic spline there, whose means
    over the acquired slices match the missing values.

    Parameters
    ----------
    fine : Array
        Upsampled volume (X, Y, Z).
    volume : Array
        Acquired volume (x, y, z).
    factor : Factor
        Ratio of acquired to high-resolution voxel size.

    Returns
    -------
    Array
        Upsampled volume that equals the acquired volume after downsampling.
    """
    return fine + fill(volume - downsample(fine, volume.shape), factor)


def super_resolve_series(
    reader: SeriesReader,
    writer: SeriesWriter | None,
    upsampler: Upsampler,
    xfms: Array,
    hr_shape: Shape,
    hr_affine: Array,
    *,
    factor: Factor,
    consistency: Keeping = "off",
    distortion: Distortion | None = None,
    elsewhere: Sequence["_InSpace"] = (),
    added: Callable[[int], Array] | None = None,
) -> None:
    """Upsample each volume as acquired, and write it on the high-resolution boldref grid.

    Parameters
    ----------
    reader : SeriesReader
        Series to super-resolve (4D).
    writer : SeriesWriter | None
        Writer of the series on the high-resolution grid. None if the series is written only to
        other spaces.
    upsampler : Upsampler
        Upsampler of volumes on their acquired grid.
    xfms : Array
        Transforms of boldref points to their position in each volume (T, 4, 4; RAS+ mm).
    hr_shape, hr_affine : Shape
        Shape and voxel-to-world matrix (4 x 4, RAS+ mm) of the high-resolution boldref grid.
    factor : Factor
        Ratio of acquired to high-resolution voxel size along each axis.
    consistency : Keeping, optional
        "enforce" restores the acquired data in the acquired band of k-space before motion
        correction.
    distortion : Distortion | None, optional
        Susceptibility distortion of the volumes, corrected by the same interpolation.
    elsewhere : Sequence[_InSpace], optional
        Series in other spaces; upsampled volumes are also interpolated to their grids.
    added : Callable[[int], Array] | None, optional
        Function that returns the image added to a volume in other spaces, on the high-resolution
        grid, given the volume number.

    Raises
    ------
    InferenceError
        If the numbers of transforms and volumes differ, or a super-resolved volume contains NaN or
        infinite values.
    """
    count = reader.shape[3]
    if len(xfms) != count:
        raise InferenceError(
            f"expected one head-motion transform per volume, got {len(xfms)} transforms for "
            f"{count} volumes"
        )
    affine = np.asarray(reader.affine, float)
    shift = None if distortion is None else distortion.onto(hr_shape, hr_affine)
    for t, volume in enumerate(reader.volumes()):
        fine = upsampler(volume, xfms[t])
        if not np.isfinite(fine).all():
            raise InferenceError(f"super-resolution of volume {t} produced NaN or infinite values")
        if consistency == "enforce":
            fine = enforce(fine, volume, factor)
        _, grid = hr_grid(volume.shape, affine, factor)
        coefficients = spline_coefficients(fine) if elsewhere else None
        if writer is not None:
            writer.append(
                sample_volume(
                    fine,
                    grid,
                    hr_shape,
                    hr_affine,
                    xfms[t],
                    coefficients=coefficients,
                    shift=shift,
                )
            )
        addition = added(t) if elsewhere and added is not None else None
        for space in elsewhere:
            assert coefficients is not None
            space.append(coefficients, grid, xfms[t], addition)


class _InSpace:
    """Series to be written in another space, resampled by one interpolation per volume.

    Parameters
    ----------
    placed : PlacedGrid
        Grid of the series in the other space.
    writer : SeriesWriter
        Writer of the series.
    added_affine : Array
        Voxel-to-world matrix of the images that are added to volumes (4 x 4, RAS+ mm), in the
        boldref frame.
    distortion : Distortion | None
        Susceptibility distortion of the volumes; None if they are not corrected.
    """

    def __init__(
        self,
        placed: PlacedGrid,
        writer: SeriesWriter,
        added_affine: Array,
        distortion: Distortion | None,
    ) -> None:
        self._placed, self._writer, self._affine = placed, writer, added_affine
        self._shift = None if distortion is None else placed.shift_of(distortion)
        self._step = None if distortion is None else distortion.step

    def append(
        self, coefficients: Float32, affine: Array, pose: Array, added: Array | None
    ) -> None:
        """Resample and write the next volume.

        `coefficients` are the spline coefficients of the upsampled volume (see
        `PlacedGrid.sampled`), and `added` is an image to add, or None.
        """
        values = self._placed.sampled(coefficients, affine, pose, self._shift, self._step)
        if added is not None:
            addition = self._placed.sampled(spline_coefficients(added), self._affine)
            values = np.where(values == 0, 0, values + addition)  # zero outside the field of view
        self._writer.append(self._placed.filled(values))


def write_series(
    reader: SeriesReader,
    target: Path | None,
    upsampler: Upsampler,
    xfms: Array,
    reference_affine: Array,
    *,
    factor: Factor,
    consistency: Keeping = "off",
    distortion: Distortion | None = None,
    threads: int = 1,
    tr: float | None = None,
    elsewhere: Mapping[Path, PlacedGrid] = MappingProxyType({}),
    added: Callable[[int], Array] | None = None,
) -> None:
    """Write a series on the high-resolution grid of a boldref, and in other spaces.

    Parameters
    ----------
    reader : SeriesReader
        Series to super-resolve (4D).
    target : Path | None
        Output file of the series (NIfTI, 4D). None if the series is written only to other spaces.
    upsampler : Upsampler
        Upsampler of volumes on their acquired grid.
    xfms : Array
        Transforms of boldref points to their position in each volume (T, 4, 4; RAS+ mm).
    reference_affine : Array
        Voxel-to-world matrix of the boldref (4 x 4, RAS+ mm).
    factor : Factor
        Ratio of acquired to high-resolution voxel size along each axis.
    consistency : Keeping, optional
        See `super_resolve_series`.
    distortion : Distortion | None, optional
        See `super_resolve_series`.
    threads : int, optional
        Number of torch threads. The BLAS library of numpy is limited to one thread, because its
        threads would occupy the cores while they wait.
    tr : float | None, optional
        Repetition time (s), if it differs from the header.
    elsewhere : Mapping[Path, PlacedGrid], optional
        Output files of the same series in other spaces, with their grids.
    added : Callable[[int], Array] | None, optional
        See `super_resolve_series`.
    """
    from threadpoolctl import threadpool_limits

    shape, affine = hr_grid(reader.shape[:3], reference_affine, factor)
    size = (*shape, reader.shape[3])
    seconds = reader.tr if tr is None else tr
    limits = {"blas": 1, "openmp": threads}
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(limits))
        writer = None
        if target is not None:
            writer = stack.enter_context(
                SeriesWriter(
                    target,
                    size,
                    affine,
                    seconds,
                    header_like=reader.header,
                    step=step_of(size, reader.volume(0)),
                )
            )
        spaces = []
        for path, placed in elsewhere.items():
            space_writer = SeriesWriter(
                path, (*placed.shape, reader.shape[3]), placed.affine, seconds
            )
            spaces.append(_InSpace(placed, stack.enter_context(space_writer), affine, distortion))
        super_resolve_series(
            reader,
            writer,
            upsampler,
            xfms,
            shape,
            affine,
            factor=factor,
            consistency=consistency,
            distortion=distortion,
            elsewhere=spaces,
            added=added,
        )


def some_slices(mask: Array, count: int) -> tuple[int, ...]:
    """Return at most `count` evenly spaced slices with at least half the largest mask area.

    The slice numbers are in ascending order, counted from 0. ValueError is raised for an empty
    mask.
    """
    area = np.asarray(mask > 0).sum((0, 1))
    if not area.any():
        raise ValueError("the mask is empty")
    full = np.flatnonzero(area >= 0.5 * area.max())
    return tuple(int(full[k]) for k in evenly_spaced(len(full), count))


def fine_mask(mask: Array, slices: tuple[int, ...], factor: Factor) -> Array:
    """Return the mask of selected slices, upsampled in plane (X, Y, slices; boolean)."""
    part = np.asarray(mask > 0)[:, :, list(slices)].astype(np.float32)
    return upsample("nearest", part, (factor[0], factor[1], 1.0)) > 0.5


def in_both(
    reader: SeriesReader,
    full: Upsampler,
    low: Upsampler,
    slices: tuple[int, ...],
    inside: Array,
    *,
    start: int = 0,
) -> Iterator[tuple[Array, Array]]:
    """Yield the masked values (V,) of each volume in two precisions, without motion correction.

    The errors of bf16 are about .7 % of the intensity range, which is the size of activity. Errors
    unrelated to the task average out, but others do not. Therefore, each run is tested for an
    effect of lower precision on its statistics.

    Parameters
    ----------
    reader : SeriesReader
        Series to super-resolve (4D).
    full, low : Upsampler
        Upsamplers in full and lower precision.
    slices : tuple[int, ...]
        Numbers of the slices to compare.
    inside : Array
        Brain mask in these slices (X, Y, slices; boolean).
    start : int, optional
        Number of the first volume.
    """
    for volume in reader.volumes(start):
        yield _in_slices(full, volume, slices)[inside], _in_slices(low, volume, slices)[inside]


def _in_slices(upsampler: Upsampler, volume: Array, slices: tuple[int, ...]) -> Array:
    """Super-resolve selected slices of a volume.

    If the upsampler divides slices into thinner ones, the middle slice of each is returned.
    """
    if not upsampler.volumetric:
        return upsampler(np.ascontiguousarray(volume[:, :, list(slices)]), np.eye(4))
    fine = upsampler(volume, np.eye(4))
    step = fine.shape[2] / volume.shape[2]
    return fine[:, :, [int((z + 0.5) * step) for z in slices]]
