"""Data of a run for estimating prior SD maps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader
from bids_sr.sr.models.compatibility import describe_grids
from bids_sr.sr.prior_maps import temporal_components as temporal
from bids_sr.sr.prior_maps.calibration_prior import CalibrationPatterns
from bids_sr.sr.prior_maps.self_testing import SelfTest
from bids_sr.sr.prior_maps.temporal_components import SeriesError, TemporalStatistics
from bids_sr.sr.recipe import VarianceRecipe

_SURROUNDINGS_WIDTH = 2  # acquired voxels, width of the surroundings of the brain
# Smallest fraction of dark voxels in the surroundings of a masked run. The fraction was 0.999 in a
# masked run, and 0.02 to 0.04 in three participants without masking.
_MIN_DARK_FRACTION = 0.5
_MAX_DARK_INTENSITY = 0.01  # largest intensity of a dark voxel, relative to the brain
# smallest number of volumes in a half; with fewer, variance estimates are mostly noise
_MIN_HALF_VOLUMES = 15


@dataclass(frozen=True, kw_only=True)
class RunData:
    """Run on its acquired grid, for estimating prior SD maps.

    `statistics` are of the motion-corrected run. `halves` are statistics of the first and second
    half; None if the run is too short to be split. `mask` is the brain mask (x, y, z), and
    `affine` the voxel-to-world matrix (4 x 4, RAS+ mm). `calibration` are patterns of a
    calibration; None if there is none. `volumes` is the number of steady-state volumes.
    """

    statistics: TemporalStatistics
    halves: tuple[TemporalStatistics, TemporalStatistics] | None
    mask: Array
    affine: Array
    factor: Factor
    calibration: CalibrationPatterns | None = None
    volumes: int = 0

    @property
    def was_masked(self) -> bool:
        """Whether the series is 0 around the brain because it was masked.

        In a masked series, the edge of the mask is the strongest detail.
        """
        in_mask = np.asarray(self.mask) > 0
        # in-plane neighbors only
        plane = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])
        dilated = ndimage.binary_dilation(in_mask, plane, iterations=_SURROUNDINGS_WIDTH)
        surroundings = dilated & ~in_mask
        mean = np.abs(self.statistics.mean)
        # the threshold is above 0, because interpolation leaves small values near the edge
        is_dark = mean[surroundings] < _MAX_DARK_INTENSITY * np.median(mean[in_mask])
        return bool(surroundings.any()) and float(is_dark.mean()) > _MIN_DARK_FRACTION

    def make_self_test(self) -> SelfTest:
        """Return the self-test of the run.

        Raises `SeriesError` if the run is too short to be split, and `ResolutionError` if it
        cannot be downsampled.
        """
        if self.halves is None:
            raise SeriesError(
                "the run has too few volumes to distinguish signal fluctuations from noise"
            )
        return SelfTest(
            [half.components for half in self.halves],
            self.mask,
            self.factor,
            [half.segments for half in self.halves],
        )

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 checksums of the data.

        The data are series, mask, nuisance regressors and calibration patterns.
        """
        checksums = dict(self.statistics.checksums)
        if self.calibration is not None:
            checksums["calibration"] = self.calibration.checksum
        return checksums

    def describe(self) -> dict[str, object]:
        """Return the entries about the run for the model card."""
        return describe_grids(self.mask.shape, self.affine, self.factor) | {
            "contrast": "bold",
            "data_sha256": self.checksums(),
            "intensity": {"rule": "intensity units of the run"},
        }


def run_data(
    reader: SeriesReader,
    mask: Array,
    recipe: VarianceRecipe,
    factor: Factor,
    *,
    n_dummy: int = 0,
    poses: Array | None = None,
    calibration: CalibrationPatterns | None = None,
    outliers: Sequence[int] = (),
) -> RunData:
    """Compute temporal statistics of a run and of its halves.

    Parameters
    ----------
    reader : SeriesReader
        Uncompressed, motion-corrected series on its acquired grid.
    mask : Array
        Brain mask (x, y, z).
    recipe : VarianceRecipe
        Settings of the prior SD maps.
    factor : Factor
        Ratio of acquired to high-resolution voxel size.
    n_dummy : int, optional
        Number of volumes at the start that are excluded.
    poses : Array | None, optional
        Transforms of boldref points to points of each volume (T, 4, 4; RAS+ mm). Signal that
        follows head motion is regressed out.
    calibration : CalibrationPatterns | None, optional
        Patterns of a calibration.
    outliers : Sequence[int], optional
        Further volumes that are excluded, counted from 0.

    Returns
    -------
    RunData
        Statistics, mask and grid of the run, with the patterns.

    Raises
    ------
    SeriesError
        If the run cannot be used.
    """
    nuisance: Array | None = None
    if poses is not None:
        nuisance = temporal.motion_regressors(poses, mask, reader.affine)
    n_volumes = reader.shape[3] - n_dummy - len(outliers)
    if n_volumes < temporal.MIN_VOLUMES:
        statistics = temporal.mean_statistics(reader, n_dummy, outliers)
        halves = None
    else:
        statistics, halves = temporal.statistics_of_run_and_halves(
            reader, mask, n_dummy, recipe.components, nuisance, _MIN_HALF_VOLUMES, outliers
        )
    return RunData(
        statistics=statistics,
        halves=halves,
        volumes=n_volumes,
        mask=mask,
        affine=reader.affine,
        factor=factor,
        calibration=calibration,
    )
