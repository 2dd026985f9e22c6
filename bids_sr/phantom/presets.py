"""Presets of the phantom: matrix, voxel size and timing of the simulated acquisitions."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor, Shape
from bids_sr.phantom.sequences import PulseSequence


@frozen
class Preset:
    """Protocol of a study; lengths are in mm, times in s, angles in degrees.

    `bold_shape`, `bold_voxel` and `bold_center` are matrix size, voxel size along each axis, and
    center of the field of view of the BOLD run (RAS mm, in a head positioned as in MNI152).
    `volumes`, `tr`, `te` and `flip` are of the BOLD run, and `multiband` is the number of slices
    excited together. `factor` is the ratio of acquired to high-resolution voxel size along each
    axis.

    Fields ``pair_…`` are of the T2*w pair, whose low-resolution image has the geometry of the BOLD
    run, and fields ``t1w_…`` of the T1w image (`t1w_center`: RAS mm). `anat_factor` is the ratio
    of low- to high-resolution voxel size of structural scans.

    `scene_mm` is the voxel size of the scene. `lead` is the rest before the first block, and
    `block` the length of each block of task or rest. `snr` is the thermal signal-to-noise ratio of
    a BOLD volume: mean of the brain over the standard deviation of each complex component.
    `pair_gain` is the signal-to-noise ratio of the low-resolution T2*w image relative to the BOLD
    run (longer readout); the high-resolution image has less signal in proportion to its voxel
    volume.
    """

    bold_shape: Shape
    bold_voxel: tuple[float, float, float]
    bold_center: tuple[float, float, float] = (0.0, -18.0, 24.0)
    volumes: int
    tr: float
    te: float
    flip: float
    multiband: int = 1
    factor: Factor = (2.0, 2.0, 1.0)
    # weaker fat suppression than in the BOLD run
    pair_sequence: PulseSequence = PulseSequence(te=0.025, tr=2.0, flip=90.0, fat=0.5)
    t1w_shape: Shape
    t1w_voxel: tuple[float, float, float]
    t1w_center: tuple[float, float, float] = (0.0, -16.0, 14.0)
    t1w_sequence: PulseSequence = PulseSequence(te=0.004, tr=0.018, flip=30.0)
    anat_factor: Factor = (2.0, 2.0, 4.0)
    scene_mm: float = 1.0
    lead: float
    block: float
    snr: float
    pair_gain: float = 2.5

    @property
    def bold_affine(self) -> npt.NDArray[np.float64]:
        """Voxel-to-world matrix of the BOLD run (4 x 4, RAS+ mm)."""
        return _make_centered_affine(self.bold_shape, self.bold_voxel, self.bold_center)

    @property
    def t1w_affine(self) -> npt.NDArray[np.float64]:
        """Voxel-to-world matrix of the T1w image (4 x 4, RAS+ mm)."""
        return _make_centered_affine(self.t1w_shape, self.t1w_voxel, self.t1w_center)

    @property
    def epi(self) -> PulseSequence:
        """Pulse sequence of the BOLD run, with fat suppression."""
        return PulseSequence(te=self.te, tr=self.tr, flip=self.flip, fat=0.15)

    @property
    def duration(self) -> float:
        """Length of the BOLD run (s)."""
        return self.volumes * self.tr

    @property
    def cycle(self) -> float:
        """Length of a cycle of the task (s), which has four blocks."""
        return 4 * self.block

    @property
    def min_volumes(self) -> int:
        """Smallest number of volumes of a run, one cycle of the task."""
        return math.ceil((self.lead + self.cycle) / self.tr)

    @property
    def slice_times(self) -> npt.NDArray[np.float64]:
        """Start time of each slice in a volume (Z,; s): interleaved, ascending, even first."""
        n_slices = self.bold_shape[2]
        n_shots = n_slices // self.multiband
        order = [*range(0, n_shots, 2), *range(1, n_shots, 2)]
        start_times = np.empty(n_slices)
        for position, first_slice in enumerate(order):
            start_times[first_slice::n_shots] = position * self.tr / n_shots
        return start_times


_DEMO = Preset(
    bold_shape=(64, 64, 30),
    bold_voxel=(3.75, 3.75, 4.0),
    volumes=144,
    tr=2.0,
    te=0.030,
    flip=70.0,
    t1w_shape=(184, 224, 192),
    t1w_voxel=(1.0, 1.0, 1.0),
    lead=16.0,
    block=16.0,
    snr=110.0,
)
PRESETS: dict[str, Preset] = {
    "tiny": replace(
        _DEMO,
        bold_shape=(40, 40, 14),
        bold_voxel=(6.0, 6.0, 5.0),
        bold_center=(0.0, -18.0, 48.0),
        volumes=60,
        t1w_shape=(92, 112, 96),
        t1w_voxel=(2.0, 2.0, 2.0),
        scene_mm=2.0,
        lead=6.0,
        block=14.0,
        snr=300.0,
        pair_gain=1.0,
        anat_factor=(2.0, 2.0, 2.0),
    ),
    "demo": _DEMO,
    "paper": replace(
        _DEMO,
        volumes=900,
        tr=0.5,
        te=0.025,
        flip=44.0,
        multiband=5,
        # sagittal slices of 1 mm, 256 x 256 over 250 mm; the paper does not report their number
        t1w_shape=(184, 256, 256),
        t1w_voxel=(1.0, 250 / 256, 250 / 256),
        # magnetization-prepared; the paper does not report the inversion time
        t1w_sequence=PulseSequence(te=0.00198, tr=2.3, flip=9.0, ti=0.9),
        lead=30.0,
        block=20.0,
        snr=80.0,
    ),
}


def _make_centered_affine(
    shape: Sequence[int], voxel: Sequence[float], center: Sequence[float]
) -> npt.NDArray[np.float64]:
    """Return the voxel-to-world matrix of an axis-aligned field of view with its center (mm).

    `voxel` is the voxel size along each axis (mm).
    """
    affine = np.diag([*voxel, 1.0])
    affine[:3, 3] = np.asarray(center) - np.asarray(voxel) * (np.asarray(shape) - 1) / 2
    return affine
