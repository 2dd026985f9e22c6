"""Super-resolve a series: upsample each volume as acquired, then interpolate once to boldref.

One intensity scale serves the whole run, because a scale of each volume's own would divide the
global signal, and with it activity, out of the series.
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
    """Return the upsampler of a series: "raw" (none), a baseline, or a method with its model.

    `acquired`: grid, intensity and images of the run that upsamplers need. `model`: network or
    variance maps of a method; None for ``raw`` and baselines.
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
    """Replace what lies inside the acquired band by what was acquired.

    Across slices, where these get thinner, the correction is a cubic spline whose *means* over the
    acquired slices are what is missing.

    `fine`: upsampled volume (X, Y, Z). What is returned downsamples to the acquired one.
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
    """Upsample each volume as acquired, resample it to the high-resolution boldref grid, write it.

    Parameters
    ----------
    reader : SeriesReader
        Series whose volumes are upsampled (4D).
    writer : SeriesWriter | None
        Writer of the series on the high-resolution grid; None: it is wanted elsewhere alone.
    upsampler : Upsampler
        Upsampler of volumes on their acquired grid.
    xfms : Array
        (T, 4, 4), take a boldref point to where it lies in volume t (RAS mm).
    hr_shape, hr_affine : Shape
        The boldref's high-resolution grid.
    factor : Factor
        Low- over high-resolution voxel size along each axis.
    consistency : Keeping, optional
        "enforce" puts what was acquired back into its band of k-space, before motion is undone.
    distortion : Distortion | None, optional
        Of the volumes, undone by the same interpolation.
    elsewhere : Sequence['_InSpace'], optional
        Grids in other spaces, onto which the upsampled volume is interpolated too.
    added : Callable[[int], Array] | None, optional
        By the number of a volume, what is added to it elsewhere, on the high-resolution grid.

    Raises
    ------
    InferenceError : as many transforms as volumes are needed, and finite images
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
        more = added(t) if elsewhere and added is not None else None
        for one in elsewhere:
            assert coefficients is not None
            one.append(coefficients, grid, xfms[t], more)


class _InSpace:
    """Series being written in another space, each volume by one interpolation from its source.

    `added_affine`: voxel -> RAS mm of what is added to them, in the frame of the reference.
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
        """Write the next volume from coefficients (see `PlacedGrid.sampled`) and additions."""
        values = self._placed.sampled(coefficients, affine, pose, self._shift, self._step)
        if added is not None:
            more = self._placed.sampled(spline_coefficients(added), self._affine)
            values = np.where(
                values == 0, 0, values + more
            )  # outside the field of view it stays 0
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
    """Write a series on the high-resolution grid of a reference with the matrix of its volumes.

    Parameters
    ----------
    reader : SeriesReader
        Series whose volumes are upsampled (4D).
    target : Path | None
        File of the series (NIfTI, 4D); None: it is wanted elsewhere alone.
    upsampler : Upsampler
        Upsampler of volumes on their acquired grid.
    xfms : Array
        See `super_resolve_series`.
    reference_affine : Array
        Voxel -> RAS mm of the reference.
    factor : Factor
        See `super_resolve_series`.
    consistency : Keeping, optional
        See `super_resolve_series`.
    distortion : Distortion | None, optional
        See `super_resolve_series`.
    threads : int, optional
        Of torch; those of numpy's library wait busily, and would take the cores from them.
    tr : float | None, optional
        Repetition time (s), where it is another than the header has.
    elsewhere : Mapping[Path, PlacedGrid], optional
        Files of the same series on grids in other spaces, each by one interpolation too.
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
        others = []
        for path, placed in elsewhere.items():
            own = SeriesWriter(path, (*placed.shape, reader.shape[3]), placed.affine, seconds)
            others.append(_InSpace(placed, stack.enter_context(own), affine, distortion))
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
            elsewhere=others,
            added=added,
        )


def some_slices(mask: Array, count: int) -> tuple[int, ...]:
    """Return at most `count` evenly spaced slices with at least half the largest mask area.

    Numbers of the slices in ascending order, counted from 0.
    """
    area = np.asarray(mask > 0).sum((0, 1))
    if not area.any():
        raise ValueError("the mask is empty")
    full = np.flatnonzero(area >= 0.5 * area.max())
    return tuple(int(full[k]) for k in evenly_spaced(len(full), count))


def fine_mask(mask: Array, slices: tuple[int, ...], factor: Factor) -> Array:
    """The mask in some slices, on their high-resolution grid.

    Voxels of the brain, finer in plane only (X, Y, slices; boolean).
    """
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
    """Yield (V,) masked values of each volume from `start` in two precisions, without hmc.

    bf16 errs by about .7 % of the image's range, which is the size of activity. Errors that do not
    follow the task average out, others do not: a lower precision must show on the run itself that
    it leaves the statistics alone.

    `inside`: voxels of the brain in these slices (X, Y, slices; boolean).
    """
    for volume in reader.volumes(start):
        yield _in_slices(full, volume, slices)[inside], _in_slices(low, volume, slices)[inside]


def _in_slices(upsampler: Upsampler, volume: Array, slices: tuple[int, ...]) -> Array:
    """Super-resolved slices of a volume; where they get thinner, the one at the middle of each."""
    if not upsampler.volumetric:
        return upsampler(np.ascontiguousarray(volume[:, :, list(slices)]), np.eye(4))
    fine = upsampler(volume, np.eye(4))
    step = fine.shape[2] / volume.shape[2]
    return fine[:, :, [int((z + 0.5) * step) for z in slices]]
