"""Simulated subject with a head, its activity, and its pose in each image.

All properties are drawn at random and known.
"""

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Shape
from bids_sr.phantom.activity import make_foci, select_foci
from bids_sr.phantom.head import make_head
from bids_sr.phantom.lesions import add_lesions
from bids_sr.phantom.poses import draw_pose
from bids_sr.phantom.presets import Preset
from bids_sr.spatial.transforms import hr_grid

TASKS = {"tap": ("thumb", "little"), "rest": ("motor", "defaultMode", "visual")}
"""Sources of signal changes by task: movements, or networks of a resting-state run."""
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
    "lesions",
)


@frozen
class RandomStreams:
    """Random numbers of a subject, with an independent stream for each purpose.

    An additional volume, subject or pair therefore does not change the existing ones. `seed` is
    the random seed of the study, and `subject` the number of the subject.
    """

    seed: int
    subject: int

    def __call__(self, stream: str, *indices: int) -> np.random.Generator:
        """Return the generator of a stream (`_STREAMS`); `indices` select one of its members."""
        key = (self.subject, _STREAMS.index(stream), *indices)
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))

    def number(self, stream: str, *indices: int) -> int:
        """Return a random seed for a coil."""
        return int(self(stream, *indices).integers(2**31))


class SimulatedSubject:
    """Simulated subject with random head, activity and poses.

    Attribute `bold_pose` is the transform of a BOLD point to its head point. Attributes `t1w_pose`
    and `pair_poses` (one dictionary per pair) contain the transforms of a BOLD point to its point
    in other images. All transforms are matrices (4 x 4, RAS+ mm).

    `scene` is the location of activity relative to the anatomy: ``ribbon``, ``veins``, ``free`` or
    ``overlap``. `seed` is the random seed of the study, and `number` the number of the subject. If
    `null`, there is no activity. `pairs` is the number of T2*w pairs, and `lesions` the number of
    lesions of the white matter. `task` is the source of signal changes: ``tap`` (movements) or
    ``rest`` (networks).
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
        lesions: int = 0,
    ) -> None:
        self.preset, self.null, self.task = preset, null, task
        self.conditions = TASKS[task]
        self.draw = draw = RandomStreams(seed=seed, subject=number)
        self.head = make_head(draw("head"), preset.scene_mm)
        if lesions:
            self.head = add_lesions(draw("lesions"), self.head, lesions)
        rng = draw("foci")
        labels = [
            label
            for label, focus in select_foci(scene).items()
            if set(focus.conditions) & set(self.conditions)
        ]
        self.foci = make_foci(rng, self.head, labels, scene)
        poses = draw("poses")
        self.bold_pose = draw_pose(poses, (0.5, 2.0), (0.5, 2.0))
        self.t1w_pose = draw_pose(poses, (1.0, 4.0), (1.0, 4.0))
        self.pair_poses = tuple(
            _draw_pair_poses(draw("pair", pair_number)) for pair_number in range(pairs)
        )

    @property
    def bold_grid(self) -> tuple[Shape, Array]:
        """Shape and affine of the BOLD run."""
        return self.preset.bold_shape, self.preset.bold_affine

    @property
    def hr_grid(self) -> tuple[Shape, Array]:
        """Shape and affine of the high-resolution grid over the field of view of the BOLD run."""
        return hr_grid(*self.bold_grid, self.preset.factor)


def _draw_pair_poses(rng: np.random.Generator) -> dict[str, Array]:
    """Draw the poses of both images of a T2*w pair."""
    lowres = draw_pose(rng, (1.5, 3.0), (1.0, 3.0))
    return {"highres": draw_pose(rng, (0.1, 0.3), (0.05, 0.2)) @ lowres, "lowres": lowres}
