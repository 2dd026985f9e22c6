"""Calibration of the phantom, a short BOLD run at the high resolution: same head and task, another pose and noise.

What else differs between the two scans is asked for: distortion, a larger displacement of the head, a drift.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Array
from bids_sr.phantom.activity import Event
from bids_sr.phantom.fields import polynomial
from bids_sr.phantom.ground_truth import MOTION_TEXT
from bids_sr.phantom.head import gradient_echo, scaled
from bids_sr.phantom.phantom_files import write_image, write_transform
from bids_sr.phantom.physiology import approach
from bids_sr.phantom.poses import CENTER, draw_motion, draw_pose
from bids_sr.phantom.presets import Preset
from bids_sr.phantom.scanner import BOLD_FRAME, READOUT, Coil, EpiScanner, MovingPart
from bids_sr.phantom.simulated_subject import BOLD_LEVEL, DISTORTION_MM, SimulatedSubject, run_volumes
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import invert, rigid_matrix, rigid_params

LEAST_TR = 2.0  # s; a matrix of four times as many voxels is not measured in half a second
CALM = 0.5  # of the head motion of the long run: a minute is easier to lie still


@frozen
class Differences:
    """What differs between the run and its calibration, beside resolution, noise and a small displacement."""

    distortion: float = 0.0  # more than the run's, fine voxels along phase encoding, where it is largest
    moved: float = 0.0  # the head since the run, mm and as many degrees; 0: drawn, .5 to 1.5 mm and .3 to 1 degree
    drift: float = 0.0  # percent by which the signal rises from the first to the last volume, unevenly over the head


def calibration_preset(preset: Preset, volumes: int) -> Preset:
    """Protocol of the calibration: the BOLD's, at the high resolution and short."""
    x, y, z = (round(n * f) for n, f in zip(preset.bold_shape, preset.factor, strict=True))
    dx, dy, dz = (v * n / m for v, n, m in zip(preset.bold_voxel, preset.bold_shape, (x, y, z), strict=True))
    return replace(
        preset, bold_shape=(x, y, z), bold_voxel=(dx, dy, dz), volumes=volumes, tr=max(preset.tr, LEAST_TR),
        multiband=1,
    )  # fmt: skip


def calibration_events(preset: Preset) -> list[Event]:
    """Rest and both movements in four blocks of one length, over the whole calibration."""
    block = preset.volumes * preset.tr / 4
    return [(k * block, block, kind) for k, kind in enumerate(("rest", "thumb", "rest", "little"))]


class CalibrationScan:
    """The calibration of a subject, of so many volumes."""

    def __init__(self, subject: SimulatedSubject, volumes: int, differences: Differences | None = None) -> None:
        self.subject, draw = subject, subject.draw
        self.differences = d = differences or Differences()
        self.preset = p = calibration_preset(subject.preset, volumes)
        self.grid = (p.bold_shape, p.bold_affine)
        mm, degrees = ((d.moved, d.moved),) * 2 if d.moved else ((0.5, 1.5), (0.3, 1.0))
        self.pose = draw_pose(draw("calibration"), mm, degrees)  # takes a BOLD point to its point here
        self.stretch = 1 + d.distortion * p.bold_voxel[1] / DISTORTION_MM  # of the displacement: it grows with readout
        self.scanner = self._make_scanner()
        scene = gradient_echo(subject.head, te=p.te, tr=p.tr, flip=p.flip, fat=0.15)
        scene = scaled(scene, subject.head, BOLD_LEVEL)
        self.rest = self.scanner.part(self.scanner.bring(scene))
        self.transient = approach(subject.head, p, self.scanner)
        reference = min(self.transient.dummies, volumes - 1)
        moved = draw_motion(draw("calibration", 1), volumes, p.tr, reference)
        self.motion = np.stack([rigid_matrix(CALM * rigid_params(pose, CENTER), CENTER) for pose in moved])
        self.events = [] if subject.task == "rest" else calibration_events(p)
        self.parts = self._make_parts(scene)
        shape, affine = self.scanner.sampling_grid
        self._uneven = 1 + 0.5 * polynomial(draw("calibration", 3), affine, shape)

    @property
    def readout(self) -> float:
        """Time from the first to the last line (s) that goes with the distortion."""
        return READOUT * self.stretch

    def _make_scanner(self) -> EpiScanner:
        """The larger matrix in the same coil.

        Its distortion is that of the long run, as if acceleration made up for lines; or it is stretched with the
        readout.
        """
        shape, affine = self.grid
        subject = self.subject
        shift = subject.scanner.shift
        grid = EpiScanner.grid_of_scene(shape, affine)
        return EpiScanner(
            shape, affine, coil=Coil(seed=subject.draw.number("coil", 0)), head_affine=subject.head.affine,
            pose=subject.bold_pose @ invert(self.pose),
            shift=None if shift is None else np.float32(self.stretch) * sample_volume(
                shift, subject.scanner.oversampled_grid[1], *grid, invert(self.pose)
            ),
        )  # fmt: skip

    def _make_parts(self, scene: Array) -> dict[str, MovingPart]:
        """Change of the scene by condition, ready for the scanner."""
        parts, subject = {}, self.subject
        for condition in subject.activity.parts:
            change = np.zeros_like(scene)
            for focus in subject.activity.foci:
                if condition in focus.conditions:
                    change += focus.amplitude * (scene if focus.reference == "local" else np.float32(BOLD_LEVEL))
            parts[condition] = self.scanner.part(self.scanner.bring(change), local=True)
        return parts

    @property
    def fieldmap(self) -> tuple[Array, Array]:
        """(displacement along y in mm, affine) on a grid of a few mm; the subject's phantom is distorted."""
        assert self.scanner.shift is not None
        return self.scanner.shift[::2, ::2, ::2], self.scanner.oversampled_grid[1] @ np.diag([2.0, 2.0, 2.0, 1.0])

    @property
    def sigma(self) -> float:
        """Thermal noise of each component of a voxel: voxels are smaller."""
        return self.subject.bold_sigma * float(np.prod(self.subject.preset.factor))

    def drift(self, t: int) -> Array:
        """Factor on the signal of volume t, on the sampling grid, float32; its mean over the calibration is 1."""
        part = t / (self.preset.volumes - 1) - 0.5
        return np.asarray(1 + self.differences.drift / 100 * part * self._uneven, dtype=np.float32)

    def volumes(self, threads: int = 1, *, noise: bool = True) -> Iterator[Array]:
        """The run, see `run_volumes`."""
        return run_volumes(
            self.subject, self.preset, self.scanner, self.transient, rest=self.rest, parts=self.parts,
            motion=self.motion, courses=self.subject.courses_of(self.preset, self.events, 1),
            sigma=self.sigma if noise else 0.0,
            rng=lambda t: self.subject.draw("calibration", 2, t), threads=threads,
            drift=self.drift if self.differences.drift else None,
        )  # fmt: skip

    def write_truth(self, name: str, root: Path) -> None:
        """Write the pose, the motion and the distortion of the calibration beside the subject's truth."""
        stem, dummies = root / name / "func" / f"{name}_task-{self.subject.task}_acq-highres", self.transient.dummies
        text = "Takes a point of boldref to where it lies in the reference volume of the calibration"
        write_transform(f"{stem}_from-calibration_to-boldref", self.pose, text, Frame=BOLD_FRAME)
        write_transform(
            f"{stem}_from-orig_to-boldref", self.motion, MOTION_TEXT,
            ReferenceVolume=min(dummies, self.preset.volumes - 1), NumberOfNonSteadyVolumes=dummies, Frame=BOLD_FRAME,
        )  # fmt: skip
        if self.scanner.shift is not None and self.differences.distortion:
            path = root / name / "func" / f"{name}_task-{self.subject.task}_acq-highres_desc-distortion_fieldmap"
            write_image(path, *self.fieldmap, {
                "Description": "Displacement along +y: the value at y comes from the undistorted y + displacement",
                "Units": "mm", "Frame": "scanner mm, head as in the reference volume of the calibration",
            })  # fmt: skip
