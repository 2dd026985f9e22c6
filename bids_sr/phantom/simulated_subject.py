"""Simulated subject: everything drawn at random, everything known, and the acquisitions as arrays."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Array
from bids_sr.phantom.activity import DRIVEN_BY, FOCI, Event, Focus, block_design, make_focus, response
from bids_sr.phantom.fields import polynomial
from bids_sr.phantom.head import Head, gradient_echo, make_head, scaled
from bids_sr.phantom.physiology import Fluctuations, Physiology, Transient, approach
from bids_sr.phantom.poses import draw_motion, draw_pose
from bids_sr.phantom.presets import TASKS, Preset
from bids_sr.phantom.scanner import Coil, EpiScanner, MovingPart, acquire_static, complex_noise, distortion
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid, invert

BOLD_LEVEL, PAIR_LEVEL, T1W_LEVEL = 800.0, 900.0, 500.0  # mean of the brain in the written images
DISTORTION_MM = 2.0  # largest displacement along phase encoding inside the head
T1W_TR, T1W_TE, T1W_FLIP, T1W_SNR = 0.018, 0.004, 30.0, 50.0
_STREAMS = (
    "head", "foci", "coil", "poses", "motion", "physiology", "distortion", "bold", "t1w", "pair", "anat", "calibration",
    "fluctuations", "echoes",
)  # fmt: skip


@frozen
class Draw:
    """Random numbers of a subject: an independent stream for each purpose, so that one more volume, subject or pair
    changes nothing that was there before.
    """

    seed: int
    subject: int

    def __call__(self, stream: str, *more: int) -> np.random.Generator:
        key = (self.subject, _STREAMS.index(stream), *more)
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))

    def number(self, stream: str, *more: int) -> int:
        """A seed for `Coil`."""
        return int(self(stream, *more).integers(2**31))


@frozen
class PairTruth:
    """Poses of one T2*w pair: matrices that take a BOLD (or lowres) point to the image's own point, RAS mm."""

    highres: Array
    lowres: Array


@frozen
class Activity:
    """Activation in the frame of the BOLD: the foci as drawn, and what they change (signal units).

    `maps` are by focus, on the scanner's oversampled grid, and none without activity; `parts` are by condition the sum
    of its foci, ready for the scanner.
    """

    foci: tuple[Focus, ...]
    maps: dict[str, Array]
    parts: dict[str, MovingPart]

    def of(self, condition: str) -> Array | None:
        """Sum of a condition's foci on the oversampled grid, or None."""
        maps = [self.maps[label] for label in self.maps if condition in DRIVEN_BY[label]]
        return np.sum(maps, axis=0) if maps else None


Courses = Callable[[str, Array], Array]
"""How much of a condition's change is there at given times (s)."""


def run_volumes(
    subject: "SimulatedSubject", preset: Preset, scanner: EpiScanner, transient: Transient, *, rest: MovingPart,
    parts: dict[str, MovingPart], motion: Array, courses: Courses, sigma: float,
    rng: Callable[[int], np.random.Generator], threads: int, drift: Callable[[int], Array] | None = None,
) -> Iterator[Array]:  # fmt: skip
    """A BOLD run volume by volume, float32; the number of threads changes nothing but the time.

    Parameters
    ----------
    preset, scanner, transient : protocol, geometry, approach to the steady state
    rest, parts : resting scene and its change by condition, ready for the scanner
    motion, courses : (T, 4, 4); how much of each change is there at given times (s)
    sigma, rng : standard deviation of the noise, and its source for each volume
    drift : further factor on the signal of a volume, on the sampling grid
    """
    # the maps of physiology are those of every run; the time series are not, as their number of samples differs
    physiology = Physiology(subject.draw("physiology"), subject.head, preset, scanner, transient)
    times = np.arange(preset.volumes)[:, None] * preset.tr + preset.slice_times
    responses = {c: courses(c, times) for c in parts}

    def volume(t: int) -> Array:
        factor = physiology.factor(t) if drift is None else physiology.factor(t) * drift(t)
        return scanner.measure(
            rest, motion[t], active=parts, responses={c: r[t] for c, r in responses.items()},
            modulation=factor, sigma=sigma, rng=rng(t),
        )  # fmt: skip

    return in_order(volume, preset.volumes, threads)


class SimulatedSubject:
    """A subject in the scanner; `scene` is how activity lies to the anatomy, `null` that there is none, `task` what is
    done (key of TASKS).
    """

    def __init__(
        self, preset: Preset, scene: str, *, seed: int, number: int = 0, null: bool = False, pairs: int = 1,
        task: str = "tap",
    ) -> None:  # fmt: skip
        self.preset, self.scene, self.null, self.task = preset, scene, null, task
        self.conditions = TASKS[task]
        self.draw = draw = Draw(seed=seed, subject=number)
        self.head: Head = make_head(draw("head"), preset.scene_mm)
        self.bold_grid = (preset.bold_shape, preset.bold_affine)
        poses = draw("poses")
        self.bold_pose = draw_pose(poses, (0.5, 2.0), (0.5, 2.0))  # takes a BOLD point to its head point
        self.t1w_pose = draw_pose(poses, (1.0, 4.0), (1.0, 4.0))  # takes a BOLD point to its T1w point
        self.pairs = tuple(self._draw_pair(draw("pair", k)) for k in range(pairs))
        self.scanner = self._make_scanner()
        steady = gradient_echo(self.head, te=preset.te, tr=preset.tr, flip=preset.flip, fat=0.15)
        self.steady = scaled(steady, self.head, BOLD_LEVEL)
        self.resting_scene = self.scanner.bring(self.steady)
        self.rest = self.scanner.part(self.resting_scene)
        self.transient: Transient = approach(self.head, preset, self.scanner)
        self.motion = draw_motion(draw("motion"), preset.volumes, preset.tr, self.transient.dummies)
        self.events: list[Event] = [] if task == "rest" else block_design(preset)
        self.courses = self.courses_of(preset, self.events)
        self.activity = self._make_activity()

    @staticmethod
    def _draw_pair(rng: np.random.Generator) -> PairTruth:
        lowres = draw_pose(rng, (1.5, 3.0), (1.0, 3.0))
        between = draw_pose(rng, (0.1, 0.3), (0.05, 0.2))
        return PairTruth(highres=between @ lowres, lowres=lowres)

    def _make_scanner(self) -> EpiScanner:
        shape, affine = self.bold_grid
        grid = EpiScanner.grid_of_scene(shape, affine)
        inside = sample_volume(self.head.brain.astype(np.float32), self.head.affine, *grid, self.bold_pose) > 0.5
        shift = distortion(self.draw("distortion"), grid, inside, DISTORTION_MM)
        return EpiScanner(
            shape, affine, coil=Coil(seed=self.draw.number("coil", 0)), head_affine=self.head.affine,
            pose=self.bold_pose, shift=shift,
        )  # fmt: skip

    def courses_of(self, preset: Preset, events: list[Event], *more: int) -> Courses:
        """Response to the blocks of a run, or at rest the fluctuations of its networks (`more`: of which run)."""
        if self.task == "rest":
            return Fluctuations(self.draw("fluctuations", *more), self.conditions, preset.volumes * preset.tr)
        return partial(response, events)

    def _make_activity(self) -> Activity:
        rng = self.draw("foci")
        driven = [label for label in FOCI if set(DRIVEN_BY[label]) & set(self.conditions)]
        foci = tuple(make_focus(rng, self.head, label, self.scene) for label in driven)
        maps: dict[str, Array] = {}
        for focus in () if self.null else foci:
            reference = self.steady if focus.reference == "local" else np.float32(BOLD_LEVEL)
            maps[focus.label] = self.scanner.bring(focus.amplitude * reference)
        activity = Activity(foci=foci, maps=maps, parts={})
        for condition in self.conditions:
            change = activity.of(condition)
            if change is not None:
                activity.parts[condition] = self.scanner.part(change, local=True)
        return activity

    @property
    def bold_sigma(self) -> float:
        """Thermal noise of each component of a BOLD voxel."""
        return BOLD_LEVEL / self.preset.snr

    @property
    def hr_grid(self) -> tuple[tuple[int, int, int], Array]:
        """(shape, affine) of the BOLD at the resolution of highres."""
        return hr_grid(*self.bold_grid, self.preset.factor)

    def bold(self, threads: int = 1, *, noise: bool = True) -> Iterator[Array]:
        """The BOLD run, see `run_volumes`."""
        return run_volumes(
            self, self.preset, self.scanner, self.transient, rest=self.rest, parts=self.activity.parts,
            motion=self.motion, courses=self.courses, sigma=self.bold_sigma if noise else 0.0,
            rng=lambda t: self.draw("bold", t), threads=threads,
        )  # fmt: skip

    def pair(self, number: int, *, noise: bool = True) -> dict[str, tuple[Array, Array]]:
        """{"highres": (image, affine), "lowres": …} of one pair; same field of view and slices as the BOLD."""
        p, truth = self.preset, self.pairs[number]
        scene = gradient_echo(self.head, te=p.pair_te, tr=p.pair_tr, flip=p.pair_flip, fat=0.5)
        scene = scaled(scene, self.head, PAIR_LEVEL)
        low_sigma = PAIR_LEVEL / (p.snr * p.pair_gain)
        kinds = (
            ("highres", self.hr_grid, truth.highres, low_sigma * float(np.prod(p.factor))),
            ("lowres", self.bold_grid, truth.lowres, low_sigma),
        )
        out = {}
        for k, (name, grid, pose, sigma) in enumerate(kinds):
            image = acquire_static(
                scene, self.head.affine, grid, self.bold_pose @ invert(pose), Coil(seed=self.draw.number("coil", 1)),
                low_shape=p.bold_shape, sigma=sigma if noise else 0.0, rng=self.draw("pair", number, k),
            )  # fmt: skip
            out[name] = (image, grid[1])
        return out

    def t1w(self) -> tuple[Array, Array]:
        """(image, affine) of the T1w; magnitude with noise, receive field of some 20 %."""
        p, rng = self.preset, self.draw("t1w")
        scene = scaled(gradient_echo(self.head, te=T1W_TE, tr=T1W_TR, flip=T1W_FLIP), self.head, T1W_LEVEL)
        affine = p.t1w_affine
        image = sample_volume(scene, self.head.affine, p.t1w_shape, affine, self.bold_pose @ invert(self.t1w_pose))
        image *= 1 + np.float32(0.2) * polynomial(rng, affine, p.t1w_shape)
        for z in range(image.shape[2]):  # by slices: complex noise of a whole head is large
            image[..., z] = np.abs(image[..., z] + complex_noise(rng, image.shape[:2], T1W_LEVEL / T1W_SNR))
        return image, affine

    def to_bold(self, point: Array) -> Array:
        """Where a head point (3,) in mm appears in the distorted BOLD image of the reference volume (RAS mm)."""
        target = (invert(self.bold_pose) @ [*point, 1.0])[:3]
        at = target.copy()
        inverse = np.linalg.inv(self.scanner.oversampled_grid[1])
        shift = self.scanner.shift
        for _ in range(20 if shift is not None else 0):
            index = np.rint((inverse @ [*at, 1.0])[:3]).astype(int)
            index = np.clip(index, 0, np.array(shift.shape) - 1)  # type: ignore[union-attr]
            at[1] = target[1] - shift[tuple(index)]  # type: ignore[index]
        return np.asarray(at)


def in_order(make: Callable[[int], Array], count: int, threads: int) -> Iterator[Array]:
    """make(0), make(1), …, computed by a few threads and never far ahead of what was taken."""
    if threads <= 1:
        yield from map(make, range(count))
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Array]] = deque()
        for t in range(count):
            waiting.append(pool.submit(make, t))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
