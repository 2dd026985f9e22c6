"""Presets of the phantom: matrix, voxel size and timing of the simulated acquisitions."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bids_sr.frozen import frozen
from bids_sr.io.grids import Factor, Shape
from bids_sr.phantom.sequences import PulseSequence

_SCENES = ("ribbon", "veins", "free")
_CONDITIONS = ("thumb", "little")
TASKS = {"tap": _CONDITIONS, "rest": ("motor", "defaultMode", "visual")}
"""What changes the signal: movements of a task, networks of a run at rest."""


@frozen
class Preset:
    """One kind of study; lengths in mm, times in s, angles in degrees.

    Centers of the fields of view are in RAS mm, in a head that lies as MNI152 does.

    `bold_shape`: matrix and voxel size of the BOLD (and of the lowres T2*w, which shares the
    geometry). `bold_voxel`: voxel size of the BOLD along each axis (mm). `bold_center`: center of
    the field of view of the BOLD (RAS+ mm). `volumes`: BOLD protocol; the last is the number of
    slices excited together. `te`: echo time of the BOLD, TE (s). `flip`: flip angle of the BOLD
    (degrees). `multiband`: number of slices of the BOLD excited together. `pair_te`: echo time of
    the T2*w pair, TE (s). `pair_tr`: repetition time of the T2*w pair, TR (s). `pair_flip`: flip
    angle of the T2*w pair (degrees). `t1w_shape`: numbers of voxels of the T1w image (x, y, z).
    `t1w_voxel`: voxel size of the T1w image along each axis (mm). `t1w_center`: center of the
    field of view of the T1w image (RAS+ mm). `t1w_sequence`: pulse sequence of the T1w image.
    `lead`: rest before the first block (s). `block`: length of each block of task or rest (s).
    `snr`: thermal signal-to-noise ratio of one BOLD volume, mean of the brain over the standard
    deviation of each of the two components. `pair_gain`: signal-to-noise ratio of the lowres T2*w
    divided by the ratio of the BOLD (longer readout); highres follows from the volume of its
    voxel.
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
    pair_te: float = 0.025
    pair_tr: float = 2.0
    pair_flip: float = 90.0
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
        """Voxel to RAS mm of the BOLD."""
        return _centered_affine(self.bold_shape, self.bold_voxel, self.bold_center)

    @property
    def t1w_affine(self) -> npt.NDArray[np.float64]:
        """Voxel to RAS mm of the T1w."""
        return _centered_affine(self.t1w_shape, self.t1w_voxel, self.t1w_center)

    @property
    def epi(self) -> PulseSequence:
        """Sequence of the BOLD."""
        return PulseSequence(te=self.te, tr=self.tr, flip=self.flip, fat=0.15)

    @property
    def pair_sequence(self) -> PulseSequence:
        """Sequence of the T2*w pair."""
        return PulseSequence(te=self.pair_te, tr=self.pair_tr, flip=self.pair_flip, fat=0.5)

    @property
    def least_volumes(self) -> int:
        """Return volumes of one cycle of the task, at which a run makes sense."""
        return math.ceil((self.lead + 4 * self.block) / self.tr)

    @property
    def slice_times(self) -> npt.NDArray[np.float64]:
        """Return (Z,) slice start times within the volume: interleaved, ascending, even first."""
        slices = self.bold_shape[2]
        shots = slices // self.multiband
        order = [*range(0, shots, 2), *range(1, shots, 2)]
        start = np.empty(slices)
        for position, first in enumerate(order):
            start[first::shots] = position * self.tr / shots
        return start


def _centered_affine(
    shape: Sequence[int], voxel: Sequence[float], center: Sequence[float]
) -> npt.NDArray[np.float64]:
    """Axis-aligned voxel-to-RAS matrix of a grid whose field of view has the given center (mm).

    `voxel`: edge lengths of the voxels along each axis (mm).
    """
    affine = np.diag([*voxel, 1.0])
    affine[:3, 3] = np.asarray(center) - np.asarray(voxel) * (np.asarray(shape) - 1) / 2
    return affine


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
    "tiny": Preset(
        bold_shape=(40, 40, 14),
        bold_voxel=(6.0, 6.0, 5.0),
        bold_center=(0.0, -18.0, 48.0),
        volumes=60,
        tr=2.0,
        te=0.030,
        flip=70.0,
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
        # sagittal slices of 1 mm, 256 x 256 over 250 mm; their number is not in the paper
        t1w_shape=(184, 256, 256),
        t1w_voxel=(1.0, 250 / 256, 250 / 256),
        # magnetization-prepared; the inversion time is not in the paper
        t1w_sequence=PulseSequence(te=0.00198, tr=2.3, flip=9.0, ti=0.9),
        lead=30.0,
        block=20.0,
        snr=80.0,
    ),
}
