"""Simulated subject: the head, its activity, and its pose in each image.

Everything is drawn at random, and all of it is known.
"""

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.io.grids import Shape
from bids_sr.phantom.activity import FOCI, make_focus
from bids_sr.phantom.head import make_head
from bids_sr.phantom.poses import draw_pose
from bids_sr.phantom.presets import TASKS, Preset
from bids_sr.spatial.transforms import hr_grid

_STREAMS = (
    "head",
    "foci",
    "coil",
    "poses",
    "motion",
    "physiology",
    "distortion",
    "bold",
    "t1w",
    "pair",
    "anat",
    "calibration",
    "fluctuations",
    "echoes",
)


@frozen
class Draw:
    """Random numbers of a subject: an independent stream for each purpose.

    One more volume, subject or pair thus changes nothing that was there before.
    """

    seed: int
    subject: int

    def __call__(self, stream: str, *more: int) -> np.random.Generator:
        key = (self.subject, _STREAMS.index(stream), *more)
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))

    def number(self, stream: str, *more: int) -> int:
        """A seed for a coil."""
        return int(self(stream, *more).integers(2**31))


class SimulatedSubject:
    """A simulated subject.

    `scene` is how activity lies relative to the anatomy, `null` that there is none, and `task`
    what changes the signal: ``tap`` (movements) or ``rest`` (networks).

    `bold_pose` takes a point of the BOLD to its head point; `t1w_pose`, and `pair_poses` of each
    pair, a point of the BOLD to its point in that image (RAS mm).
    """

    def __init__(
        self,
        preset: Preset,
        scene: str,
        *,
        seed: int,
        number: int = 0,
        null: bool = False,
        pairs: int = 1,
        task: str = "tap",
    ) -> None:
        self.preset, self.null, self.task = preset, null, task
        self.conditions = TASKS[task]
        self.draw = draw = Draw(seed=seed, subject=number)
        self.head = make_head(draw("head"), preset.scene_mm)
        rng = draw("foci")
        driven = [
            label for label, place in FOCI.items() if set(place.driven_by) & set(self.conditions)
        ]
        self.foci = tuple(make_focus(rng, self.head, label, scene) for label in driven)
        poses = draw("poses")
        self.bold_pose = draw_pose(poses, (0.5, 2.0), (0.5, 2.0))
        self.t1w_pose = draw_pose(poses, (1.0, 4.0), (1.0, 4.0))
        self.pair_poses = tuple(_pair_poses(draw("pair", k)) for k in range(pairs))

    @property
    def bold_grid(self) -> tuple[Shape, Array]:
        """Return (shape, affine) of the BOLD."""
        return self.preset.bold_shape, self.preset.bold_affine

    @property
    def hr_grid(self) -> tuple[Shape, Array]:
        """Return (shape, affine) of the BOLD at the resolution of highres."""
        return hr_grid(*self.bold_grid, self.preset.factor)


def _pair_poses(rng: np.random.Generator) -> dict[str, Array]:
    """Poses of the members of a T2*w pair."""
    lowres = draw_pose(rng, (1.5, 3.0), (1.0, 3.0))
    return {"highres": draw_pose(rng, (0.1, 0.3), (0.05, 0.2)) @ lowres, "lowres": lowres}
