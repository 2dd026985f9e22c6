"""BOLD runs of a simulated subject: the run, its echoes, and a high-resolution calibration.

What a run shows depends on the echo time (TE) in two ways. Activity changes R2*, so that its share
of the signal grows with TE. Drift, breathing, pulse and the approach to the steady state change
the magnetization (S0), head motion changes where things lie: their shares are the same at every
echo. Thermal noise is of one size at every echo, and independent.

Still images of the simulated subject: T1w, T2*w pairs and structural scans.

The structural scans are those that a clinic and a study acquire.

Structural scans of high resolution share the grid of the T1w image; the others are of another day:
thicker slices, larger voxels in-plane, another position of the head. Contrasts are within the
range of the literature at 3 T, chosen by us. Both members of a pair have one protocol: real pairs
differ in contrast too.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.grids import Array, Shape
from bids_sr.phantom.activity import FOCI, Event, SimulatedSubject, block_design, response
from bids_sr.phantom.head import TISSUES, PulseSequence, polynomial
from bids_sr.phantom.presets import CENTER, Preset, draw_motion, draw_pose
from bids_sr.phantom.scanner import (
    Fluctuations,
    Grid,
    Physiology,
    Scanner,
    Transient,
    approach,
    distortion,
    magnitude,
)
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid, invert, rigid_matrix, rigid_params

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


LEVEL, PAIR_LEVEL = 500.0, 900.0  # mean of the brain in the written images
# mean of the brain over the noise of each component
_SNR = {"T1w": 50.0, "highres": 40.0, "lowres": 60.0}
_UNEVENNESS = 0.15  # relative size of the receive field


def _nulling_time(t1: float, tr: float) -> float:
    """Inversion time (s) at which tissue of this T1 gives no signal.

    `t1`: longitudinal relaxation time, T1 (s).
    """
    return float(t1 * np.log(2 / (1 + np.exp(-tr / t1))))


PROTOCOLS = {
    "T1w": PulseSequence(te=0.004, tr=0.018, flip=30.0),
    "T2w": PulseSequence(te=0.090, tr=5.0, refocused=True),
    "FLAIR": PulseSequence(
        te=0.090, tr=9.0, ti=_nulling_time(TISSUES["csf"].t1, 9.0), refocused=True
    ),
}
CONTRASTS = tuple(PROTOCOLS)


@frozen
class StillScan:
    """A still image.

    `acquisition`: resolution, ``highres`` or ``lowres``; empty for every subject's own T1w image.
    `image`: magnitude of the signal (3D, float32). `pose`: transform of a BOLD point to its point
    in the scan (4 x 4, RAS+ mm).
    """

    contrast: str
    acquisition: str
    image: Array
    affine: Array
    pose: Array
    sidecar: dict[str, object]


def t1w(subject: SimulatedSubject) -> StillScan:
    """The T1w image; magnitude with noise, receive field of some 20 %.

    `subject`: simulated head with its activity and poses. Scan on the T1w grid of the protocol.
    """
    p = subject.preset
    rng = subject.draw("t1w")
    protocol = p.t1w_sequence
    pose = subject.t1w_pose
    scene = protocol.scaled_scene(subject.head, LEVEL)
    affine = p.t1w_affine
    image = sample_volume(
        scene, subject.head.affine, p.t1w_shape, affine, subject.bold_pose @ invert(pose)
    )
    image *= 1 + np.float32(0.2) * polynomial(rng, affine, p.t1w_shape)
    for z in range(image.shape[2]):  # by slices: complex noise of a whole head is large
        image[..., z] = magnitude(image[..., z], LEVEL / _SNR["T1w"], rng)
    sidecar = protocol.sidecar | {"MRAcquisitionType": "3D"}
    return StillScan(
        contrast="T1w", acquisition="", image=image, affine=affine, pose=pose, sidecar=sidecar
    )


def pair(subject: SimulatedSubject, number: int, *, noise: bool = True) -> dict[str, StillScan]:
    """Return the highres and lowres members of one T2*w pair.

    Field of view and slices are those of the BOLD.

    `subject`: simulated head with its activity and poses.
    """
    p = subject.preset
    out = {}
    scene = p.pair_sequence.scaled_scene(subject.head, PAIR_LEVEL)
    sidecar = p.pair_sequence.sidecar | {
        "MRAcquisitionType": "2D",
        "SliceThickness": p.bold_voxel[2],
    }
    low_sigma = PAIR_LEVEL / (p.snr * p.pair_gain) if noise else 0.0
    kinds = (
        ("highres", subject.hr_grid, low_sigma * float(np.prod(p.factor))),
        ("lowres", subject.bold_grid, low_sigma),
    )
    for k, (name, grid, sigma) in enumerate(kinds):
        pose = subject.pair_poses[number][name]
        scanner = _scanner(subject, grid, pose, coil=1, low_shape=p.bold_shape)
        out[name] = StillScan(
            contrast="T2starw",
            acquisition=name,
            image=scanner.still(scene, sigma, subject.draw("pair", number, k)),
            affine=grid[1],
            pose=pose,
            sidecar=sidecar,
        )
    return out


def structural(subject: SimulatedSubject) -> Iterator[StillScan]:
    """Yield T2w and FLAIR at high resolution, then T1w, T2w and FLAIR at low resolution.

    At the high resolution, every subject has a T1w image already.

    `subject`: simulated head with its activity and poses.
    """
    p = subject.preset
    rng = subject.draw("anat")
    grids = {"highres": (p.t1w_shape, p.t1w_affine), "lowres": _low_grid(p)}
    # sampled no finer than the highres voxels in-plane, because the scene has no more detail than
    # they do
    sampled = (p.t1w_shape[0] // 4, p.t1w_shape[1] // 4, p.t1w_shape[2])
    days = {
        "highres": subject.t1w_pose,
        "lowres": draw_pose(rng, (2.0, 5.0), (2.0, 5.0)) @ subject.t1w_pose,
    }
    for number, (kind, grid) in enumerate(grids.items()):
        thick = {
            "SliceThickness": float(grid[1][2, 2]),
            "MRAcquisitionType": "3D" if kind == "highres" else "2D",
        }
        for contrast, protocol in {**PROTOCOLS, "T1w": p.t1w_sequence}.items():
            pose = draw_pose(rng, (0.2, 0.6), (0.1, 0.4)) @ days[kind]
            if (kind, contrast) == ("highres", "T1w"):
                continue
            scanner = _scanner(
                subject, grid, pose, coil=2 + number, low_shape=sampled, unevenness=_UNEVENNESS
            )
            yield StillScan(
                contrast=contrast,
                acquisition=kind,
                affine=grid[1],
                pose=pose,
                sidecar=protocol.sidecar | thick,
                image=scanner.still(
                    protocol.scaled_scene(subject.head, LEVEL), LEVEL / _SNR[kind], rng
                ),
            )


def _scanner(
    subject: SimulatedSubject,
    grid: Grid,
    pose: Array,
    *,
    coil: int,
    low_shape: Shape,
    unevenness: float = 0.06,
) -> Scanner:
    """The scanner with a subject in it; `pose` takes a BOLD point to its point in the image."""
    return Scanner(
        grid=grid,
        pose=subject.bold_pose @ invert(pose),
        head_affine=subject.head.affine,
        coil=subject.draw.number("coil", coil),
        low_shape=low_shape,
        unevenness=unevenness,
    )


def _low_grid(preset: Preset) -> Grid:
    """Return the grid of the low-resolution scans.

    Its field of view is that of the T1w image, and its voxels are larger by `anat_factor`.

    Shape and voxel-to-world matrix (4 x 4, RAS+ mm).
    """
    wanted = tuple(1 / f for f in preset.anat_factor)
    return hr_grid(preset.t1w_shape, preset.t1w_affine, wanted)


def tissue_shares(subject: SimulatedSubject) -> dict[str, Array]:
    """Return the true shares of gray matter, white matter and CSF in T1w voxels, by BIDS label.

    `subject`: simulated head with its activity and poses.
    """
    p = subject.preset
    pose = subject.bold_pose @ invert(subject.t1w_pose)
    return {
        name.upper(): np.clip(
            sample_volume(
                subject.head.fractions[name], subject.head.affine, p.t1w_shape, p.t1w_affine, pose
            ),
            0,
            1,
        )
        for name in ("gm", "wm", "csf")
    }
