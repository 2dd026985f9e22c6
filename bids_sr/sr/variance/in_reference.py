"""Super-resolve a run by a prior with calibration patterns, all volumes of a slice at a time.

A prior of some twenty maps is too slow to be carried into each pose of the head and solved for
each volume. Here the zero-filled volumes are brought to the reference first; downsampled they are
the data of all volumes in one pose, and one dense system a slice serves them all
(`bids_sr.sr.variance.dense`). What lies beyond the acquired band is kept in a file, volume by
volume, and added to each zero-filled volume after its interpolation. The data of all volumes are
held in memory (`calibrated` in `bids_sr.config.memory_model`).
"""

from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import torch
from torch import Tensor

from bids_sr.io.array_types import Array
from bids_sr.io.nifti import SeriesReader
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.inference.acquired import Upsampler
from bids_sr.sr.resolution.matrices import Factor
from bids_sr.sr.resolution.operators import Level, level_above, to_slices, to_volume
from bids_sr.sr.variance.dense import reconstructions
from bids_sr.sr.variance.prior import Prior


class ReferenceUpsampler(Upsampler):
    """Zero filling of each volume, and what a prior adds to it in the frame of the reference.

    Parameters
    ----------
    prior : Prior
        On a window of the boldref's grids; slices keep their thickness.
    affine : Array
        Voxel -> RAS mm of the acquired grid.
    factor : Factor
        Acquired over wanted voxel size.
    constant : Array | None
        Image on the boldref's high-resolution grid that is added to every volume, or None.
    """

    def __init__(
        self, prior: Prior, affine: Array, factor: Factor, constant: Array | None = None
    ) -> None:
        self.prior, self.affine, self.factor, self.constant = (
            prior,
            np.asarray(affine, float),
            factor,
            constant,
        )
        self._added: Array | None = None

    def __call__(self, volume: Array, pose: Array) -> Array:
        with torch.inference_mode():
            return to_volume(level_above(volume.shape, self.factor).up(to_slices(volume)))

    def settle(
        self, reader: SeriesReader, xfms: Array, distortion: Distortion | None, folder: Path
    ) -> None:
        """Find what is added to each volume of a series.

        It is kept in a file that has no name, so none is left behind.

        Parameters
        ----------
        reader : SeriesReader
            Series whose volumes are upsampled (4D).
        xfms : Array
            Transforms of a boldref point to each volume (T, 4, 4; RAS+ mm).
        distortion : Distortion | None
            Shift of the signal along the phase encoding; None for none.
        folder : Path
            Folder in which files may be kept.
        """
        level = self.prior.window.level
        with torch.inference_mode():
            change = self._in_reference(reader, xfms, distortion, level)
            x, y, z = level.fine
            with TemporaryFile(dir=folder) as file:  # the map keeps it open
                self._added = np.memmap(file, np.float32, "w+", shape=(len(change), z, x, y))
            for number, tile, made in reconstructions(self.prior, change):
                self._added[:, number, tile.made[0], tile.made[1]] = made.numpy()

    def added(self, number: int) -> Array | None:
        """Return what is added to a volume after its interpolation.

        Parameters
        ----------
        number : int
            Number of the volume, counted from 0.

        Returns
        -------
        Array | None
            Detail on the boldref's high-resolution grid (X, Y, Z); None for none.
        """
        if self._added is None:
            return self.constant
        with torch.inference_mode():
            own = to_volume(
                self.prior.window.level.beyond(torch.from_numpy(np.array(self._added[number])))
            )
        return own if self.constant is None else own + self.constant

    def _in_reference(
        self, reader: SeriesReader, xfms: Array, distortion: Distortion | None, level: Level
    ) -> Tensor:
        """Return the change over time (T, z, x, y) of all volumes in the reference pose.

        It is at the acquired resolution.
        """
        shape, grid = hr_grid(reader.shape[:3], self.affine, self.factor)
        _, own = hr_grid(reader.shape[:3], np.asarray(reader.affine, float), self.factor)
        shift = None if distortion is None else distortion.onto(shape, grid)
        x, y, z = level.coarse
        data = torch.empty(reader.shape[3], z, x, y)
        for t, volume in enumerate(reader.volumes()):
            placed = sample_volume(self(volume, xfms[t]), own, shape, grid, xfms[t], shift=shift)
            data[t] = level.down(to_slices(placed))
        # the median is that of the steady volumes, if some at the start are not
        for number in range(z):
            data[:, number] -= data[:, number].median(0).values
        return data
