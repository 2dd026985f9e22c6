"""What the reconstruction weighted by variance costs, and how far it is solved.

python benchmarks/variance.py cost                 seconds of one processor a volume, by matrix; maps are drawn
python benchmarks/variance.py solved BIDS_DIR      what is missed by the steps of conjugate gradients, one level of
                                                   resolution down (BIDS_DIR is low): no truth is opened
"""

import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from _table import keep
from people import brought_down, prior_of, runs_of

from bids_sr.sr.levels import level_above
from bids_sr.sr.variance.prior import ITERATIONS, Prior, Window
from bids_sr.sr.variance.settings import Estimator

MATRICES = ((40, 40, 35), (64, 64, 30), (96, 96, 40), (128, 128, 40))
STEPS = (5, 10, 15, 20, 30)
END = 300


def head(shape: tuple[int, int, int]) -> Window:
    """A window around an ellipse that fills a plane as a head does."""
    x, y, _ = ((g - (n - 1) / 2) / n for g, n in zip(np.indices(shape), shape, strict=True))
    return Window.around(level_above(shape, (2.0, 2.0, 1.0)), (x / 0.36) ** 2 + (y / 0.43) ** 2 < 1)


def seconds(call: Callable[[], object], times: int = 5) -> float:
    """Processor time of the fastest of a few calls."""
    found = []
    for _ in range(times):
        began = time.process_time()
        call()
        found.append(time.process_time() - began)
    return min(found)


def cost() -> None:
    """By matrix."""
    rows = []
    for shape in MATRICES:
        window, fwhm = head(shape), Estimator().fwhm
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn((len(fwhm), *(s.stop - s.start for s in window.fine)), generator=generator).mul(0.8).exp()
        plain = Prior(window=window, weight=weight, fwhm=fwhm, noise=0.0)
        prior = Prior(window=window, weight=weight, fwhm=fwhm, noise=1e-3 * plain.mean_variance)
        data = torch.zeros(shape[2], *shape[:2])
        data[window.coarse] = prior.draw(generator)
        cut = data[window.coarse].contiguous()
        row = {"acquired": " x ".join(map(str, shape)), f"s, {ITERATIONS} steps": seconds(partial(prior.beyond, data))}
        rows.append(row | {"of these 10 steps": seconds(partial(prior.solve, cut, 10, 0.0))})
    keep("variance_cost", "Seconds of one processor for what is added to a volume", rows)


def solved(folder: str) -> None:
    """Against the solution to the end, mean over components."""
    problem = brought_down(next(runs_of([f"A={folder}"])))
    prior, level = prior_of("sbl", problem), problem.level
    missed, ends, shares = {}, {}, {}
    for steps in (END, *STEPS):
        found, far = [], []
        for number, image in enumerate(problem.known):
            coarse = level.down(image)
            solution = prior.solve(coarse[prior.window.coarse].contiguous(), steps, 0.0 if steps < END else 1e-6)
            out = torch.zeros_like(image)
            out[prior.window.fine] = prior.spread(solution)
            added = level.beyond(out)[problem.mask]
            left = (image - level.up(coarse))[problem.mask]
            found.append(1 - float((left - added).square().sum() / left.square().sum()))
            ends.setdefault(number, added)
            far.append(float((added - ends[number]).norm() / ends[number].norm()))
        missed[steps], shares[steps] = float(np.mean(far)), float(np.mean(found))
    rows = [{"steps": s, "missed of what is added": missed[s], "explained share": shares[s]} for s in (*STEPS, END)]
    keep("variance_solved", "Steps of conjugate gradients, one level of resolution down", rows)


def main() -> int:
    torch.set_num_threads(1)
    with torch.inference_mode():
        if sys.argv[1:] == ["cost"]:
            cost()
        elif len(sys.argv) == 3 and sys.argv[1] == "solved":
            solved(sys.argv[2])
        else:
            sys.stderr.write(__doc__ or "")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
