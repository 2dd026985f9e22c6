"""Memory of the network of tv-self-sr in its published size, trained on and applied to a volume.

    python benchmarks/tv_memory.py [--sides 24 40 64] [--train-up-to MILLIONS]

Each value is the increase in memory of a separate process relative to its memory after the
libraries were loaded: two steps of training (the second step has the moments of Adam), or one
application, of `tv` with recipe `paper`. Results are written to
benchmarks/results/tv_memory.{json,md}.
"""

import argparse
import resource
import subprocess
import sys

import numpy as np
import torch
from _table import keep

from bids_sr.networks.data.examples import Examples
from bids_sr.networks.data.images import TrainingImage
from bids_sr.networks.inference.cpu_optimized import optimize_for_cpu
from bids_sr.networks.training.update_steps import Networks
from bids_sr.sr.method import get_method

FACTOR = (2.0, 2.0, 1.0)


def peak_memory() -> float:
    """Return the largest memory of this process so far (GB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure(task: str, side: int) -> tuple[float, float]:
    """Return the size of the volume (millions of voxels) and the memory of a task (GB).

    `task` is "train" or "apply", and `side` the in-plane side of the volume (voxels).
    """
    torch.set_num_threads(1)
    recipe = get_method("tv").recipes["paper"]
    volume = np.random.default_rng(0).uniform(50, 150, (side // 2,) * 3).astype(np.float32)
    image = TrainingImage(
        coarse=volume,
        mask=np.ones(volume.shape, dtype=bool),
        affine=np.diag([2.0, 2.0, 2.0, 1.0]),
        contrast="bold",
        name="volume",
    )
    examples = Examples((image,), recipe, FACTOR, 3)
    shape = examples.prepare(0).shape
    batch = examples.cut_windows([(0, tuple((0, n) for n in shape))], FACTOR, 0.0)
    nets = Networks(recipe, FACTOR, ndim=3)
    before = peak_memory()
    if task == "train":
        for _ in range(2):
            nets.update_generators(batch, nets.generator(batch.input), True)
    else:
        with torch.inference_mode():
            optimize_for_cpu(nets.generator.eval())(batch.input)
    return float(np.prod(shape)) / 1e6, peak_memory() - before


def main() -> None:
    """Measure all sizes, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", type=int, nargs="+", default=[24, 40, 64])
    parser.add_argument("--train-up-to", type=float, default=0.15, help="millions of voxels")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sys.stdout.write("{} {}\n".format(*measure(options.one[0], int(options.one[1]))))
        return
    rows = []
    for task in ("train", "apply"):
        for side in options.sides:
            if task == "train" and side**3 / 2e6 > options.train_up_to:
                continue
            output = subprocess.run(
                [sys.executable, __file__, "--one", task, str(side)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout.split()
            voxels, size = float(output[0]), float(output[1])
            rows.append(
                {
                    "task": task,
                    "high-resolution voxels (1e6)": round(voxels, 4),
                    "GB": round(size, 3),
                    "GB per million": round(size / voxels, 1),
                }
            )
    keep("tv_memory", "Memory of the network of tv-self-sr on whole volumes", rows)


if __name__ == "__main__":
    main()
