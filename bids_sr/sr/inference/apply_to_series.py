"""Super-resolution of a series.

Each volume is upsampled as acquired, then interpolated once to boldref. All volumes of a run share
one intensity scale. Scaling each volume separately would remove the global signal, and thus part
of the activity, from the series.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np

from bids_sr.io.arrays import Array, Float32
from bids_sr.io.grids import Factor, Shape
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.io.notices import InvalidInput
from bids_sr.io.storage import working_writer
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.matrices import downsample, upsample_residual
from bids_sr.spatial.output_grids import OutputGrid
from bids_sr.spatial.resampling import sample_volume, spline_coefficients
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.inference.upsampler_inputs import Upsampler

Consistency = Literal["off", "enforce"]


def write_series(
    reader: SeriesReader,
    target: Path | None,
    upsampler: Upsampler,
    xfms: Array,
    shape: Shape,
    affine: Array,
    *,
    factor: Factor,
    consistency: Consistency = "off",
    distortion: Distortion | None = None,
    threads: int = 1,
    other_spaces: Mapping[Path, OutputGrid] = MappingProxyType({}),
    add_volume: Callable[[int], Array] | None = None,
) -> None:
    """Upsample each volume as acquired, and write it on the high-resolution grid of a boldref.

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
    shape : Shape
        Shape of the high-resolution boldref grid.
    affine : Array
        Voxel-to-world matrix of this grid (4 x 4, RAS+ mm).
    factor : Factor
        Ratio of acquired to high-resolution voxel size along each axis.
    consistency : Consistency, optional
        "enforce" restores the acquired data in the acquired band of k-space before motion
        correction.
    distortion : Distortion | None, optional
        Susceptibility distortion of the volumes, corrected by the same interpolation.
    threads : int, optional
        Number of torch threads. The BLAS library of numpy is limited to one thread, because its
        threads would occupy the cores while they wait.
    other_spaces : Mapping[Path, OutputGrid], optional
        Output files of the same series in other spaces, with their grids. Upsampled volumes are
        interpolated once to each grid.
    add_volume : Callable[[int], Array] | None, optional
        Function that returns the image added to a volume in other spaces, on the high-resolution
        grid, given the volume number.

    Raises
    ------
    InvalidInput
        If the numbers of transforms and volumes differ, or a super-resolved volume contains NaN or
        infinite values.
    """
    from threadpoolctl import threadpool_limits

    n_volumes = reader.shape[3]
    if len(xfms) != n_volumes:
        raise InvalidInput(
            f"expected one head-motion transform per volume, got {len(xfms)} transforms for "
            f"{n_volumes} volumes"
        )
    acquired_affine = np.asarray(reader.affine, float)
    shift = None if distortion is None else distortion.shift_on_grid(shape, affine)
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits({"blas": 1, "openmp": threads}))
        writer = None
        if target is not None:
            writer = stack.enter_context(working_writer(target, reader, shape, affine))
        series_in_spaces = []
        for path, output_grid in other_spaces.items():
            space_writer = stack.enter_context(
                SeriesWriter(path, (*output_grid.shape, n_volumes), output_grid.affine, reader.tr)
            )
            series_in_spaces.append(_SeriesInSpace(output_grid, space_writer, affine, distortion))
        for t, volume in enumerate(reader.volumes()):
            upsampled = upsampler(volume, xfms[t])
            if not np.isfinite(upsampled).all():
                raise InvalidInput(
                    f"super-resolution of volume {t} produced NaN or infinite values"
                )
            if consistency == "enforce":
                upsampled = enforce_consistency(upsampled, volume, factor)
            _, upsampled_affine = hr_grid(volume.shape, acquired_affine, factor)
            coefficients = spline_coefficients(upsampled) if other_spaces else None
            if writer is not None:
                writer.append(
                    sample_volume(
                        upsampled,
                        upsampled_affine,
                        shape,
                        affine,
                        xfms[t],
                        coefficients=coefficients,
                        shift=shift,
                    )
                )
            if coefficients is not None:
                detail = None if add_volume is None else add_volume(t)
                for series_in_space in series_in_spaces:
                    series_in_space.append(coefficients, upsampled_affine, xfms[t], detail)


class _SeriesInSpace:
    """Series to be written in another space, resampled by one interpolation per volume.

    `added_affine` is the voxel-to-world matrix of the images that are added to volumes (4 x 4,
    RAS+ mm), in the boldref frame. `distortion` is the susceptibility distortion of the volumes;
    None if they are not corrected.
    """

    def __init__(
        self,
        output_grid: OutputGrid,
        writer: SeriesWriter,
        added_affine: Array,
        distortion: Distortion | None,
    ) -> None:
        self._output_grid, self._writer, self._added_affine = output_grid, writer, added_affine
        self._shift = (
            None if distortion is None else (output_grid.signal_shift(distortion), distortion.step)
        )

    def append(
        self, coefficients: Float32, affine: Array, pose: Array, detail: Array | None
    ) -> None:
        """Resample and write the next volume.

        `coefficients` are the spline coefficients of the upsampled volume (see
        `OutputGrid.sample_volume`), and `detail` is an image to add, or None.
        """
        values = self._output_grid.sample_volume(coefficients, affine, pose, self._shift)
        if detail is not None:
            addition = self._output_grid.sample_volume(
                spline_coefficients(detail), self._added_affine
            )
            values = np.where(values == 0, 0, values + addition)  # zero outside the field of view
        self._writer.append(self._output_grid.to_volume(values))


def enforce_consistency(upsampled: Array, volume: Array, factor: Factor) -> Array:
    """Replace the acquired band of an upsampled volume, or of a guide, by the acquired data.

    If the factor is above 1 across slices, the correction is a cubic spline there, whose means
    over the acquired slices match the missing values.

    `upsampled` is (X, Y, Z) and `volume` is the acquired volume (x, y, z). The result equals the
    acquired volume after downsampling.
    """
    return upsampled + upsample_residual(volume - downsample(upsampled, volume.shape), factor)
