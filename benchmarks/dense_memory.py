"""Memory of the dense network of tv-self-sr in its published size, trained on a whole volume and
applied to it.

python benchmarks/dense_memory.py [--sides 24 40 64] [--train-up-to VOXELS]

Each figure is the growth of a process of its own over what it held with the libraries loaded: two
steps of training (the second has Adam's moments), or one application, of `tv` in recipe `paper` on
a cube-like volume. Writes benchmarks/results/dense_memory.{json,md}.
"""

import argparse
import resource
import subprocess
import sys

import numpy as np
import torch
from _table import keep

from bids_sr.sr.data.examples import Examples
from bids_sr.sr.data.images import TrainingImage
from bids_sr.sr.inference.cpu_optimized import optimize_for_cpu
from bids_sr.sr.method import get_method
from bids_sr.sr.training.update_steps import Networks

FACTOR = (2.0, 2.0, 1.0)


def held() -> float:
    """The most this process has held (GB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measured(what: str, side: int) -> tuple[float, float]:
    """(millions of fine voxels, GB) of one training or application."""
    torch.set_num_threads(1)
    recipe = get_method("tv").recipes["paper"]
    volume = (
        np.random.default_rng(0)
        .uniform(50, 150, (side // 2, side // 2, side // 2))
        .astype(np.float32)
    )
    image = TrainingImage(
        coarse=volume,
        mask=np.ones(volume.shape, dtype=bool),
        affine=np.diag([2.0, 2.0, 2.0, 1.0]),
        contrast="bold",
        name="volume",
    )
    windows = Examples((image,), recipe, FACTOR, 3)
    shape = windows.at(0).shape
    batch = windows.cut([(0, tuple((0, n) for n in shape))], FACTOR, 0.0)
    nets = Networks(recipe, FACTOR, ndim=3)
    before = held()
    if what == "train":
        for _ in range(2):
            nets.generators_step(batch, nets.generator(batch.input), True)
    else:
        with torch.inference_mode():
            optimize_for_cpu(nets.generator.eval())(batch.input)
    return float(np.prod(shape)) / 1e6, held() - before


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", type=int, nargs="+", default=[24, 40, 64, 96])
    parser.add_argument("--train-up-to", type=float, default=0.15, help="millions of voxels")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        sys.stdout.write("{} {}\n".format(*measured(given.one[0], int(given.one[1]))))
        return
    rows = []
    for what in ("train", "apply"):
        for side in given.sides:
            if what == "train" and side**3 / 2e6 > given.train_up_to:
                continue
            said = subprocess.run(
                [sys.executable, __file__, "--one", what, str(side)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout.split()
            voxels, size = float(said[0]), float(said[1])
            rows.append(
                {
                    "what": what,
                    "fine voxels (1e6)": round(voxels, 4),
                    "GB": round(size, 3),
                    "GB a million": round(size / voxels, 1),
                }
            )
    keep("dense_memory", "Memory of ten dense layers on whole volumes", rows)


if __name__ == "__main__":
    main()
