"""BOLD runs of a simulated subject: the run, its echoes, and a high-resolution calibration run.

A run depends on the echo time (TE) in two ways. Activity changes R2*, so its fraction of the
signal increases with TE. Drift, breathing, pulse and the approach to the steady state change the
magnetization (S0), and head motion changes positions; their effects are the same at all echoes.
Thermal noise has the same size at all echoes and is independent.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.phantom.block_design import Event, make_block_design, predict_response
from bids_sr.phantom.physiology import Fluctuations, Physiology, Transient, simulate_transient
from bids_sr.phantom.poses import ROTATION_CENTER, draw_motion, draw_pose
from bids_sr.phantom.presets import Preset
from bids_sr.phantom.scanner import Scanner, draw_distortion
from bids_sr.phantom.simulated_subject import SimulatedSubject
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import invert, rigid_matrix, rigid_params

BOLD_BRAIN_SIGNAL = 800.0
"""Mean of the brain in the written images."""
_DISTORTION_MM = 2.0  # mm, largest displacement along phase encoding inside the head
# s, shortest TR of the calibration run, which has four times as many voxels
_MIN_CALIBRATION_TR_S = 2.0
# head motion of the calibration run relative to the BOLD run, as it is shorter
_CALIBRATION_MOTION = 0.5
# fraction of a condition's signal change at given times (s)
_Responses = Callable[[str, Array], Array]


@dataclass(frozen=True, kw_only=True)
class SimulatedRun:
    """BOLD run, or one echo of a run.

    `scanner` has the geometry of the run. `pose` is the transform of a boldref point of the main
    run to its point in the reference volume (4 x 4, RAS+ mm), and `motion` are the transforms of a
    point of the reference volume to its position in each volume (T, 4, 4; RAS+ mm).

    `events` are empty at rest, and `responses` gives the fraction of a condition's signal change
    at given times. `transient` is the approach to the steady state. `sigma` is the standard
    deviation of the thermal noise in each complex component of a voxel, and `stream` the random
    stream of this noise. `te` is the echo time (s).
    """

    subject: SimulatedSubject
    preset: Preset
    scanner: Scanner
    pose: Array
    events: list[Event]
    responses: _Responses
    motion: Array
    transient: Transient
    sigma: float
    stream: tuple[str, *tuple[int, ...]]
    te: float

    @property
    def reference(self) -> int:
        """Number of the reference volume of motion, the first in the steady state."""
        return min(self.transient.dummies, self.preset.volumes - 1)

    @cached_property
    def scene(self) -> Array:
        """Signal of the head; its brain mean is `BOLD_BRAIN_SIGNAL` at the preset's TE."""
        head = self.subject.head
        preset_scene = self.preset.epi.scene(head)
        gain = np.float32(BOLD_BRAIN_SIGNAL / float(preset_scene[head.brain].mean()))
        return replace(self.preset.epi, te=self.te).scene(head) * gain

    @cached_property
    def resting(self) -> Array:
        """Scene at rest, on the dense grid of the scanner."""
        return self.scanner.resample_scene(self.scene)

    @cached_property
    def maps(self) -> dict[str, Array]:
        """Signal change by active focus, on the dense grid of the scanner.

        The amplitudes of the foci apply to the preset's TE and are converted to `te` with the same
        change of R2*.
        """
        level = np.float32(self.scene[self.subject.head.brain].mean())
        change_maps = {}
        for focus in () if self.subject.null else self.subject.foci:
            relative_change = np.expm1(
                np.log1p(focus.amplitude) * np.float32(self.te / self.preset.te)
            )
            change_maps[focus.label] = self.scanner.resample_scene(
                relative_change * (self.scene if focus.reference == "local" else level)
            )
        return change_maps

    @cached_property
    def changes(self) -> dict[str, Array]:
        """Signal change by condition, the sum of its foci; empty if there is no activity."""
        change_of_condition = {}
        for condition in self.conditions:
            focus_maps = [
                self.maps[focus.label]
                for focus in self.subject.foci
                if focus.label in self.maps and condition in focus.conditions
            ]
            if focus_maps:
                change_of_condition[condition] = np.sum(focus_maps, axis=0)
        return change_of_condition

    @property
    def conditions(self) -> tuple[str, ...]:
        """Conditions of the task, or networks at rest."""
        return self.subject.conditions

    @cached_property
    def prepared_scenes(self) -> tuple[Array, dict[str, Array]]:
        """Resting scene and changes by condition, as required by `Scanner.acquire_moving`."""
        prepare = self.scanner.prepare
        return prepare(self.resting), {
            name: prepare(change) for name, change in self.changes.items()
        }

    def simulate_still_volume(self, **activity: float) -> Array:
        """Return a volume without noise, motion and physiology at given levels of activity.

        Each keyword is a condition, and its value the fraction of the condition's signal change.
        The volume (X, Y, Z; float32) is in the reference position.
        """
        resting, changes = self.prepared_scenes
        weights = {
            name: np.full(self.preset.bold_shape[2], fraction)
            for name, fraction in activity.items()
        }
        return self.scanner.acquire_moving(
            resting, np.eye(4), {name: changes[name] for name in activity}, weights
        )

    def volumes(self, threads: int = 1, *, noise: bool = True) -> Iterator[Array]:
        """Yield the volumes of the run in order (X, Y, Z; float32).

        The number of threads affects only the computing time.
        """
        # the maps of physiology are the same in all runs of a subject; the time series differ,
        # because their number of samples differs
        draw = self.subject.draw
        physiology = Physiology(
            draw("physiology"), self.subject.head, self.preset, self.scanner, self.transient
        )
        times = np.arange(self.preset.volumes)[:, None] * self.preset.tr + self.preset.slice_times
        resting, changes = self.prepared_scenes
        responses = {name: self.responses(name, times) for name in changes}

        def acquire_volume(t: int) -> Array:
            return self.scanner.acquire_moving(
                resting,
                self.motion[t],
                changes,
                {name: fractions[t] for name, fractions in responses.items()},
                modulation=physiology.factor(t),
                sigma=self.sigma if noise else 0.0,
                rng=draw(*self.stream, t),
            )

        return _map_in_order(acquire_volume, self.preset.volumes, threads)


def _map_in_order(function: Callable[[int], Array], count: int, threads: int) -> Iterator[Array]:
    """Yield function(0), function(1), …, computed by several threads a few items ahead."""
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, count, 4 * threads):
            yield from pool.map(function, range(first, min(first + 4 * threads, count)))


def simulate_bold_run(subject: SimulatedSubject) -> SimulatedRun:
    """Simulate the BOLD run of a subject, a single echo at the preset's TE.

    The run has the task or networks of the subject, distortion and head motion.
    """
    preset, draw, head = subject.preset, subject.draw, subject.head
    undistorted_scanner = Scanner(
        grid=subject.bold_grid,
        pose=subject.bold_pose,
        head_affine=head.affine,
        coil=draw.number("coil", 0),
    )
    is_head = (
        sample_volume(
            head.brain.astype(np.float32),
            head.affine,
            *undistorted_scanner.dense_grid,
            subject.bold_pose,
        )
        > 0.5
    )
    scanner = replace(
        undistorted_scanner,
        shift=draw_distortion(
            draw("distortion"), undistorted_scanner.dense_grid, is_head, _DISTORTION_MM
        ),
    )
    transient = simulate_transient(head, preset, scanner)
    events = [] if subject.task == "rest" else make_block_design(preset)
    return SimulatedRun(
        subject=subject,
        preset=preset,
        scanner=scanner,
        pose=np.eye(4),
        events=events,
        responses=_make_responses(subject, preset, events),
        motion=draw_motion(draw("motion"), preset.volumes, preset.tr, transient.dummies),
        transient=transient,
        sigma=BOLD_BRAIN_SIGNAL / preset.snr,
        stream=("bold",),
        te=preset.te,
    )


def simulate_echo(run: SimulatedRun, number: int, te: float) -> SimulatedRun:
    """Return one echo of a run; `number` is 1 for the first echo, `te` is in s."""
    return replace(run, te=te, stream=("echoes", number))


def simulate_calibration(run: SimulatedRun, volumes: int) -> SimulatedRun:
    """Simulate a short high-resolution run of the same subject.

    Head, task and distortion are the same as in the BOLD run, but pose, motion and noise differ.
    The distortion is not larger than in the BOLD run, as if acceleration compensated for the
    additional lines.
    """
    subject, draw = run.subject, run.subject.draw
    preset = calibration_preset(run.preset, volumes)
    pose = draw_pose(draw("calibration"), (0.5, 1.5), (0.3, 1.0))
    scanner = replace(
        run.scanner,
        grid=(preset.bold_shape, preset.bold_affine),
        pose=run.scanner.pose @ invert(pose),
        shift=None,
    )
    if run.scanner.shift is not None:
        shift = sample_volume(
            run.scanner.shift, run.scanner.dense_grid[1], *scanner.dense_grid, invert(pose)
        )
        scanner = replace(scanner, shift=shift)
    transient = simulate_transient(subject.head, preset, scanner)
    motion = draw_motion(
        draw("calibration", 1), volumes, preset.tr, min(transient.dummies, volumes - 1)
    )
    smaller_motion = [
        rigid_matrix(_CALIBRATION_MOTION * rigid_params(matrix, ROTATION_CENTER), ROTATION_CENTER)
        for matrix in motion
    ]
    events = _make_calibration_events(preset) if run.events else []
    return SimulatedRun(
        subject=subject,
        preset=preset,
        scanner=scanner,
        pose=pose,
        events=events,
        responses=_make_responses(subject, preset, events, 1),
        transient=transient,
        motion=np.stack(smaller_motion),
        sigma=run.sigma * float(np.prod(run.preset.factor)),
        stream=("calibration", 2),
        te=preset.te,
    )


def calibration_preset(preset: Preset, volumes: int) -> Preset:
    """Return the protocol of the calibration run.

    It is the BOLD protocol with high-resolution voxels, fewer volumes, a TR of at least 2 s and no
    multiband acceleration.
    """
    x, y, z = (
        round(size * ratio) for size, ratio in zip(preset.bold_shape, preset.factor, strict=True)
    )
    dx, dy, dz = (
        voxel * size / highres_size
        for voxel, size, highres_size in zip(
            preset.bold_voxel, preset.bold_shape, (x, y, z), strict=True
        )
    )
    return replace(
        preset,
        bold_shape=(x, y, z),
        bold_voxel=(dx, dy, dz),
        volumes=volumes,
        tr=max(preset.tr, _MIN_CALIBRATION_TR_S),
        multiband=1,
    )


def _make_calibration_events(preset: Preset) -> list[Event]:
    """Return four blocks of equal length over the calibration run: rest, thumb, rest, little."""
    block_s = preset.duration / 4
    return [
        (index * block_s, block_s, trial_type)
        for index, trial_type in enumerate(("rest", "thumb", "rest", "little"))
    ]


def _make_responses(
    subject: SimulatedSubject, preset: Preset, events: list[Event], *indices: int
) -> _Responses:
    """Return the response to a run's blocks, or the fluctuations of networks at rest.

    Further arguments identify the run in the random stream of the fluctuations.
    """
    if subject.task == "rest":
        return Fluctuations(
            subject.draw("fluctuations", *indices), subject.conditions, preset.duration
        )
    return partial(predict_response, events)
