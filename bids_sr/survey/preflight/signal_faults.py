"""Faults of a signal that are found while all volumes of an image are read.

These are values that wrapped or were clipped when they were stored, steps of the scale, and
contrasts that alternate.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bids_sr.io.arrays import MaskArray
from bids_sr.io.notices import Notice
from bids_sr.preproc.alternation import (
    LARGEST_ALTERNATION,
    SPLIT_FIX,
    describe_alternation,
    measure_alternation,
)
from bids_sr.preproc.clipped_values import ClippedVoxelSearch
from bids_sr.preproc.gain_steps import GainStep, GainStepSearch
from bids_sr.spatial.wrapped_values import find_wrapped_values, may_be_wrapped
from bids_sr.survey.notices import note, problem, warning
from bids_sr.survey.preflight.stored_volumes import StoredVolumes

_N_MEAN_VOLUMES = 5  # volumes in the mean image that shows the brain
_MAX_EXAMINED = 20  # volumes with very negative values that are examined for wrapped values


class SignalFaultSearch:
    """Search for faults of the signal while the `stored` volumes of an image are read in order.

    `tr` is the repetition time of a run (s), which is searched for steps of the scale; None for
    other images. With `is_processed`, clipped voxels are searched, because the run is mapped.
    """

    def __init__(
        self, path: Path, stored: StoredVolumes, *, tr: float | None, is_processed: bool
    ) -> None:
        from bids_sr.preproc.multi_echo import limit_unsteady

        self._path = path
        self._shape = stored.shape[:3]
        slope, intercept = stored.storage.slope, stored.storage.inter
        self._steps = (
            GainStepSearch(self._shape, tr=tr, slope=slope, intercept=intercept)
            if tr is not None
            else None
        )
        self._clipped = ClippedVoxelSearch() if is_processed else None
        self._first_steady = limit_unsteady(int(np.prod(stored.shape[3:])), tr or 0.0)
        # With an intercept, stored 0 is not signal 0, and negative values can be the background.
        self._may_wrap = intercept == 0
        self._wrapped: tuple[int, int, int] | None = None
        self._n_examined = 0
        self._n_volumes = 0

    def add(self, volume: np.ndarray) -> None:
        """Add the stored values of the next volume, in the order of the file."""
        if self._steps is not None:
            self._steps.add(volume)
        if self._clipped is not None and self._n_volumes >= self._first_steady:
            self._clipped.add(volume)
        is_searched = self._may_wrap and self._wrapped is None
        if is_searched and self._n_examined < _MAX_EXAMINED and may_be_wrapped(volume):
            self._n_examined += 1
            wrapped = find_wrapped_values(volume.reshape(self._shape, order="F"))
            if wrapped is not None:
                self._wrapped = (*wrapped, self._n_volumes)
        self._n_volumes += 1

    def find_faults(self, alternative: str) -> Iterator[Notice]:
        """Yield all faults; `alternative` is a further remedy."""
        if self._wrapped is not None:
            yield self._describe_wrapped(*self._wrapped, alternative)
            return
        if self._steps is not None and (steps := self._steps.find()):
            yield self._describe_steps(steps, alternative)
        elif self._steps is not None and (share := measure_alternation(self._steps.signal)):
            yield self._describe_alternation(share, alternative)
        if self._clipped is not None and (clipped := self._clipped.find()) is not None:
            yield from self._find_clipped(*clipped)

    def _describe_wrapped(
        self, n_wrapped: int, modulus: int, volume: int, alternative: str
    ) -> Notice:
        """Describe `n_wrapped` values of a volume that wrapped by `modulus`."""
        bits = modulus.bit_length() - 1
        volume_text = f" of volume {volume} (counted from 0)" if self._n_volumes > 1 else ""
        return problem(
            self._path,
            f"unsigned {bits}-bit integers were stored as signed: the {n_wrapped:,} negative"
            f" values{volume_text} continue their neighbors if {modulus:,} is added. The brightest"
            " voxels are therefore negative",
            f"Convert the DICOM images with a program that keeps unsigned {bits}-bit integers, or"
            f" add {modulus:,} to the negative stored values (before scl_slope) and save the image"
            f" as uint{bits}.{alternative}",
        )

    def _describe_steps(self, steps: tuple[GainStep, ...], alternative: str) -> Notice:
        """Describe steps of the scale."""
        largest = max(steps, key=lambda step: abs(np.log(step.factor)))
        volumes = ", ".join(str(step.volume) for step in steps)
        steps_text = (
            f"the scale of the signal changes by a factor of {largest.factor:.2f} from volume"
            f" {volumes} on (counted from 0)"
            if len(steps) == 1
            else f"the scale of the signal changes at volumes {volumes} (counted from 0; largest"
            f" factor {largest.factor:.2f})"
        )
        return problem(
            self._path,
            f"{steps_text}, inside and outside the brain. Two runs may have been joined, or the"
            " receiver gain may have changed",
            "Split the series there into runs with one file of events each, with onsets counted"
            f" from the first volume of the run, or exclude this run.{alternative}",
        )

    def _describe_alternation(self, share: float, alternative: str) -> Notice:
        """Describe that every second volume is darker by a share."""
        reason = describe_alternation(share)
        if share > LARGEST_ALTERNATION:
            return problem(self._path, reason, f"{SPLIT_FIX}{alternative}")
        column = "Models have a column of 1 and -1 for it, but not with --ignore outliers."
        return note(self._path, f"{reason}. {column}")

    def _find_clipped(self, largest: float, is_clipped: MaskArray) -> Iterator[Notice]:
        """Warn of clipped voxels within the brain."""
        from bids_sr.io.nifti import SeriesReader
        from bids_sr.spatial.masks import MaskError, brain_mask

        with SeriesReader(self._path, stays_open=True) as reader:
            volumes = reader.volumes(self._first_steady, self._first_steady + _N_MEAN_VOLUMES)
            try:
                brain = brain_mask(np.mean(list(volumes), axis=0), reader.affine)
            except MaskError:
                return
        n_clipped = int(np.count_nonzero(is_clipped.reshape(self._shape, order="F") & brain))
        if not n_clipped:
            return
        share = n_clipped / np.count_nonzero(brain)
        yield warning(
            self._path,
            f"{n_clipped:,} voxels of the brain ({share:.2%}) have the largest stored value"
            f" ({largest:g}) in at least 5 % of the volumes, so their signal was clipped. Maps"
            " have no effects in these voxels. If the DICOM images contain larger values, convert"
            " them again without clipping; otherwise use a smaller receiver gain.",
        )
