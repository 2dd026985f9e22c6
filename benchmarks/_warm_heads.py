"""Simulated T2*-weighted pairs of many heads, for benchmarks/warm_start.py: nothing of a pair but
the pair is made.
"""

from pathlib import Path

import numpy as np
from _kept import write_arrays
from _pair import Pair
from superres import FACTOR, brain

from bids_sr.phantom.head import make_head
from bids_sr.phantom.poses import draw_pose
from bids_sr.phantom.presets import centered_affine
from bids_sr.phantom.scanner import Scanner
from bids_sr.phantom.sequences import PulseSequence
from bids_sr.spatial.transforms import hr_grid

LEVEL = 900.0  # mean of the brain
CENTER = (0.0, -18.0, 24.0)
SCENE_MM = 1.0
# coarse matrix in plane: field of view drawn between these (mm)
MATRICES = {40: (210.0, 256.0), 64: (200.0, 256.0)}


def acquired(seed: int, matrix: int, scene: np.ndarray, affine: np.ndarray, slices: int) -> Pair:
    """The pair of one scene; matrix given, field of view, slices, pose, coil and noise drawn."""
    rng = np.random.default_rng([seed, matrix])
    side = float(rng.uniform(*MATRICES[matrix])) / matrix
    thickness = float(rng.uniform(3.0, 4.5))
    shape = (matrix, matrix, slices)
    low = centered_affine(shape, (side, side, thickness), CENTER)
    pose, coil = draw_pose(rng, (0.5, 6.0), (0.5, 8.0)), int(rng.integers(2**31))
    sigma = LEVEL / float(np.exp(rng.uniform(np.log(150), np.log(600))))
    images = [
        Scanner(grid=grid, pose=pose, head_affine=affine, coil=coil, low_shape=shape).still(
            scene, noise, rng
        )
        for grid, noise in (
            (hr_grid(shape, low, FACTOR), sigma * float(np.prod(FACTOR))),
            ((shape, low), sigma),
        )
    ]
    return Pair(
        lowres=images[1],
        highres=images[0],
        mask=brain(images[1]),
        lowres_affine=low,
        factor=FACTOR,
    )


def pairs_of_head(seed: int, slices: int = 30) -> dict[int, Pair]:
    """One head with its own anatomy and contrast (echo time, flip angle, fat), acquired with every
    matrix.
    """
    rng = np.random.default_rng([seed, 0])
    head = make_head(rng, SCENE_MM)
    sequence = PulseSequence(
        te=float(rng.uniform(0.020, 0.040)),
        tr=2.0,
        flip=float(rng.uniform(60, 90)),
        fat=float(rng.uniform(0.1, 0.5)),
    )
    scene = sequence.scaled_scene(head, LEVEL)
    return {matrix: acquired(seed, matrix, scene, head.affine, slices) for matrix in MATRICES}


def kept_pairs(seeds: range, folder: Path) -> dict[int, list[Pair]]:
    """Pairs of several heads by matrix; they are kept in a folder and found again."""
    out: dict[int, list[Pair]] = {matrix: [] for matrix in MATRICES}
    for seed in seeds:
        paths = {matrix: folder / f"head{seed}_{matrix}.npz" for matrix in MATRICES}
        if not all(path.exists() for path in paths.values()):
            for matrix, pair in pairs_of_head(seed).items():
                write_arrays(
                    paths[matrix],
                    lowres=pair.lowres,
                    highres=pair.highres,
                    mask=pair.mask,
                    affine=pair.lowres_affine,
                )
        for matrix, path in paths.items():
            found = np.load(path)
            out[matrix].append(
                Pair(
                    lowres=found["lowres"],
                    highres=found["highres"],
                    mask=found["mask"],
                    lowres_affine=found["affine"],
                    factor=FACTOR,
                )
            )
    return out
