"""BOLD runs of a simulated subject: the run, its echoes, and a high-resolution calibration.

What a run shows depends on the echo time (TE) in two ways. Activity changes R2*, so that its share
of the signal grows with TE. Drift, breathing, pulse and the approach to the steady state change
the magnetization (S0), head motion changes where things lie: their shares are the same at every
echo. Thermal noise is of one size at every echo, and independent.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.phantom.activity import FOCI
from bids_sr.phantom.block_design import Event, block_design, response
from bids_sr.phantom.physiology import Fluctuations, Physiology, Transient, approach
from bids_sr.phantom.poses import CENTER, draw_motion, draw_pose
from bids_sr.phantom.presets import Preset
from bids_sr.phantom.scanner import Scanner, distortion
from bids_sr.phantom.simulated_subject import SimulatedSubject
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import invert, rigid_matrix, rigid_params

BOLD_LEVEL = 800.0  # mean of the brain in the written images
_DISTORTION_MM = 2.0  # largest displacement along phase encoding inside the head
_LEAST_TR = 2.0  # s; a matrix of four times as many voxels is not measured in half a second
_CALM = 0.5  # of the head motion of the long run: a minute is easier to lie still
_Courses = Callable[[str, Array], Array]
"""How much of a condition's change is there at given times (s)."""


@dataclass(frozen=True, kw_only=True)
class SimulatedRun:
    """A BOLD run, or one echo of it.

    `events, courses, motion`: of this run; the last is (T, 4, 4), and takes a point of the
    reference to the volume's. `sigma, stream`: thermal noise of each component of a voxel, and
    where it is drawn from.
    """

    subject: SimulatedSubject
    preset: Preset
    scanner: Scanner
    pose: Array
    events: list[Event]
    courses: _Courses
    motion: Array
    transient: Transient
    sigma: float
    stream: tuple[str, *tuple[int, ...]]
    te: float

    @property
    def reference(self) -> int:
        """Volume to which motion refers, the first in the steady state."""
        return min(self.transient.dummies, self.preset.volumes - 1)

    @cached_property
    def scene(self) -> Array:
        """Signal of the head; the receiver's gain is that of a single echo at the preset's TE."""
        head = self.subject.head
        single = self.preset.epi.scene(self.subject.head)
        gain = np.float32(BOLD_LEVEL / float(single[head.brain].mean()))
        return replace(self.preset.epi, te=self.te).scene(head) * gain

    @cached_property
    def resting(self) -> Array:
        """The scene at rest, on the dense grid of the scanner."""
        return self.scanner.bring(self.scene)

    @cached_property
    def maps(self) -> dict[str, Array]:
        """Change of the signal by each active focus, on the dense grid of the scanner.

        The amplitudes of the foci are those at the preset's TE; the change of R2* that makes them
        acts for `te`.
        """
        level = np.float32(self.scene[self.subject.head.brain].mean())
        out = {}
        for focus in () if self.subject.null else self.subject.foci:
            share = np.expm1(np.log1p(focus.amplitude) * np.float32(self.te / self.preset.te))
            out[focus.label] = self.scanner.bring(
                share * (self.scene if focus.reference == "local" else level)
            )
        return out

    @cached_property
    def changes(self) -> dict[str, Array]:
        """Change of the signal by each condition, the sum of its foci; none without activity."""
        maps = self.maps.items()
        driven = {
            name: [each for label, each in maps if name in FOCI[label].driven_by]
            for name in self.conditions
        }
        return {name: np.sum(maps, axis=0) for name, maps in driven.items() if maps}

    @property
    def conditions(self) -> tuple[str, ...]:
        """Return conditions of the task, or networks at rest."""
        return self.subject.conditions

    @cached_property
    def parts(self) -> tuple[Array, dict[str, Array]]:
        """Return (rest, changes by condition) as `Scanner.moving` takes them."""
        prepare = self.scanner.prepare
        return prepare(self.resting), {
            name: prepare(change) for name, change in self.changes.items()
        }

    def still(self, **active: float) -> Array:
        """Return the image without noise, motion and physiology at given levels of activity.

        A level is the share of each condition's signal change.

        Volume in the reference position (X, Y, Z), float32.
        """
        rest, changes = self.parts
        weights = {
            name: np.full(self.preset.bold_shape[2], share) for name, share in active.items()
        }
        return self.scanner.moving(
            rest, np.eye(4), {name: changes[name] for name in active}, weights
        )

    def volumes(self, threads: int = 1, *, noise: bool = True) -> Iterator[Array]:
        """Yield the run volume by volume, float32.

        The number of threads only affects the time.
        """
        # the maps of physiology are those of every run; the time series are not, as their number
        # of samples differs
        draw = self.subject.draw
        physiology = Physiology(
            draw("physiology"), self.subject.head, self.preset, self.scanner, self.transient
        )
        times = np.arange(self.preset.volumes)[:, None] * self.preset.tr + self.preset.slice_times
        rest, changes = self.parts
        responses = {name: self.courses(name, times) for name in changes}

        def volume(t: int) -> Array:
            return self.scanner.moving(
                rest,
                self.motion[t],
                changes,
                {name: course[t] for name, course in responses.items()},
                modulation=physiology.factor(t),
                sigma=self.sigma if noise else 0.0,
                rng=draw(*self.stream, t),
            )

        return _in_order(volume, self.preset.volumes, threads)


def bold_run(subject: SimulatedSubject) -> SimulatedRun:
    """The subject's run, a single echo at the preset's TE.

    `subject`: simulated head with its activity and poses. The run, with its task or networks,
    distortion and head motion.
    """
    p, draw, head = subject.preset, subject.draw, subject.head
    plain = Scanner(
        grid=subject.bold_grid,
        pose=subject.bold_pose,
        head_affine=head.affine,
        coil=draw.number("coil", 0),
    )
    inside = (
        sample_volume(
            head.brain.astype(np.float32), head.affine, *plain.dense_grid, subject.bold_pose
        )
        > 0.5
    )
    scanner = replace(
        plain, shift=distortion(draw("distortion"), plain.dense_grid, inside, _DISTORTION_MM)
    )
    transient = approach(head, p, scanner)
    events = [] if subject.task == "rest" else block_design(p)
    return SimulatedRun(
        subject=subject,
        preset=p,
        scanner=scanner,
        pose=np.eye(4),
        events=events,
        courses=_courses(subject, p, events),
        motion=draw_motion(draw("motion"), p.volumes, p.tr, transient.dummies),
        transient=transient,
        sigma=BOLD_LEVEL / p.snr,
        stream=("bold",),
        te=p.te,
    )


def echo_of(run: SimulatedRun, number: int, te: float) -> SimulatedRun:
    """One echo of a run; `number` is 1 for the first, `te` in s."""
    return replace(run, te=te, stream=("echoes", number))


def calibration_of(run: SimulatedRun, volumes: int) -> SimulatedRun:
    """Simulate a short run at high resolution.

    Head, task and distortion are the same; pose, motion and noise are others.

    Its distortion is that of the long run as if acceleration made up for lines.
    """
    subject, draw = run.subject, run.subject.draw
    p = calibration_preset(run.preset, volumes)
    pose = draw_pose(draw("calibration"), (0.5, 1.5), (0.3, 1.0))
    scanner = replace(
        run.scanner,
        grid=(p.bold_shape, p.bold_affine),
        pose=run.scanner.pose @ invert(pose),
        shift=None,
    )
    if run.scanner.shift is not None:
        shift = sample_volume(
            run.scanner.shift, run.scanner.dense_grid[1], *scanner.dense_grid, invert(pose)
        )
        scanner = replace(scanner, shift=shift)
    transient = approach(subject.head, p, scanner)
    moved = draw_motion(draw("calibration", 1), volumes, p.tr, min(transient.dummies, volumes - 1))
    events = _calibration_events(p) if run.events else []
    return SimulatedRun(
        subject=subject,
        preset=p,
        scanner=scanner,
        pose=pose,
        events=events,
        courses=_courses(subject, p, events, 1),
        transient=transient,
        motion=np.stack(
            [rigid_matrix(_CALM * rigid_params(matrix, CENTER), CENTER) for matrix in moved]
        ),
        sigma=run.sigma * float(np.prod(run.preset.factor)),
        stream=("calibration", 2),
        te=p.te,
    )


def calibration_preset(preset: Preset, volumes: int) -> Preset:
    """Protocol of the calibration: the BOLD's, at the high resolution and short.

    Same protocol with smaller voxels, at least 2 s of TR and no multiband.
    """
    x, y, z = (round(n * f) for n, f in zip(preset.bold_shape, preset.factor, strict=True))
    dx, dy, dz = (
        v * n / m for v, n, m in zip(preset.bold_voxel, preset.bold_shape, (x, y, z), strict=True)
    )
    return replace(
        preset,
        bold_shape=(x, y, z),
        bold_voxel=(dx, dy, dz),
        volumes=volumes,
        tr=max(preset.tr, _LEAST_TR),
        multiband=1,
    )


def _calibration_events(preset: Preset) -> list[Event]:
    """Rest and both movements in four blocks of one length, over the whole calibration."""
    block = preset.volumes * preset.tr / 4
    return [(k * block, block, kind) for k, kind in enumerate(("rest", "thumb", "rest", "little"))]


def _courses(
    subject: SimulatedSubject, preset: Preset, events: list[Event], *more: int
) -> _Courses:
    """Return the response to a run's blocks, or the fluctuations of networks at rest.

    `more` names the run of the fluctuations.
    """
    if subject.task == "rest":
        return Fluctuations(
            subject.draw("fluctuations", *more), subject.conditions, preset.volumes * preset.tr
        )
    return partial(response, events)


def _in_order(make: Callable[[int], Array], count: int, threads: int) -> Iterator[Array]:
    """Return make(0), make(1), …, made by a few threads and never far ahead of what was taken."""
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, count, 4 * threads):
            yield from pool.map(make, range(first, min(first + 4 * threads, count)))
