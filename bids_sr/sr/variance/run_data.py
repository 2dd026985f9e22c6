"""Temporal statistics for the estimation of prior SD maps, read off a series and a calibration."""

from dataclasses import dataclass

import numpy as np
from nibabel.affines import apply_affine
from scipy import ndimage

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader
from bids_sr.sr.matrices import check_factor
from bids_sr.sr.models.domain import image_entries
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.variance import temporal_components as temporal
from bids_sr.sr.variance.exemplars import Exemplars
from bids_sr.sr.variance.one_level_down import Trial
from bids_sr.sr.variance.temporal_components import SeriesError, TemporalStatistics

# Acquired voxels around the brain, of which so many are darker than this share of the brain where
# a run was masked: .999 in one that was, .02 to .04 in three people as acquired
_AROUND, _MOSTLY, _NOTHING = 2, 0.5, 0.01
_LEAST_HALF = 15  # volumes: with fewer, what a half shows of its variance is mostly chance


@dataclass(frozen=True, kw_only=True)
class RunData:
    """A run from which a variance map is found, on its acquired grid.

    Raises SeriesError: grids that do not belong together, or an empty mask.

    `statistics`, `halves`: of the run, motion corrected, and of its first and second half; None
    where it is too short to be split. `affine`: voxel to RAS mm. `exemplars`: of a calibration;
    None for none. `volumes`: number of volumes in the steady state.
    """

    statistics: TemporalStatistics
    halves: tuple[TemporalStatistics, TemporalStatistics] | None
    mask: Array
    affine: Array
    factor: Factor
    exemplars: Exemplars | None = None
    volumes: int = 0

    def __post_init__(self) -> None:
        check_factor(self.factor)
        shape = self.statistics.mean.shape
        if self.mask.shape != shape:
            raise SeriesError(
                f"the mask has the shape {self.mask.shape}, but the series has the shape {shape}"
            )
        if not (self.mask > 0).any():
            raise SeriesError("the mask of the series is empty")

    @property
    def is_cut_out(self) -> bool:
        """Whether the series is 0 around the brain.

        Then it was masked, and its edge is the strongest detail in it.
        """
        inside = np.asarray(self.mask) > 0
        # within the slices
        plane = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])
        around = ndimage.binary_dilation(inside, plane, iterations=_AROUND) & ~inside
        mean = np.abs(self.statistics.mean)
        # interpolation leaves traces at the edge
        dark = mean[around] < _NOTHING * np.median(mean[inside])
        return bool(around.any()) and float(dark.mean()) > _MOSTLY

    def trial(self) -> Trial:
        """The run one level of resolution down.

        `ResolutionError`: see `Trial`.
        """
        if self.halves is None:
            raise SeriesError(
                "the run has too few volumes to distinguish signal fluctuations from noise"
            )
        return Trial(
            [half.components for half in self.halves],
            self.mask,
            self.factor,
            [half.stretches for half in self.halves],
        )

    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of the series, mask, removed signal, and calibration patterns.

        The removed signal is what was taken out of the series.
        """
        out = dict(self.statistics.checksums)
        return out if self.exemplars is None else out | {"calibration": self.exemplars.checksum}

    def described(self) -> dict[str, object]:
        """What the card says of the run."""
        return image_entries(self.statistics.mean, self.mask, self.affine, self.factor) | {
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
    exemplars: Exemplars | None = None,
) -> RunData:
    """Temporal statistics of a run and of its halves, and what a calibration measured.

    Parameters
    ----------
    reader : SeriesReader
        Uncompressed series on its acquired grid, head motion undone.
    mask : Array
        (x, y, z) brain.
    recipe : VarianceRecipe
        Of the maps.
    factor : Factor
        Acquired over high-resolution voxel size.
    n_dummy : int, optional
        First volumes to leave out.
    poses : Array | None, optional
        (T, 4, 4), boldref point to the volume's point (RAS mm); what follows head motion is taken
        out.
    exemplars : Exemplars | None, optional
        Patterns of a calibration.

    Returns
    -------
    RunData
        Statistics, mask and grid of the run, with the patterns.

    Raises
    ------
    SeriesError : the run cannot be used
    """
    nuisance: Array | None = None
    if poses is not None:
        middle = apply_affine(reader.affine, np.argwhere(mask).mean(0))
        nuisance = temporal.motion_courses(poses, middle)
    if temporal.too_short(reader, n_dummy):
        statistics = temporal.mean_only(reader, n_dummy)
        halves = None
    else:
        statistics, halves = temporal.whole_and_halves(
            reader, mask, n_dummy, recipe.components, nuisance, _LEAST_HALF
        )
    return RunData(
        statistics=statistics,
        halves=halves,
        volumes=reader.shape[3] - n_dummy,
        mask=mask,
        affine=reader.affine,
        factor=factor,
        exemplars=exemplars,
    )
