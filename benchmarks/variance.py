"""What the reconstruction weighted by variance costs, and how far it is solved.

python benchmarks/variance.py cost
    seconds of one processor a volume, by matrix; maps are drawn
python benchmarks/variance.py solved BIDS_DIR
    what is missed by the steps of conjugate gradients, one level of resolution down (BIDS_DIR
    is low): no truth is opened
python benchmarks/variance.py series PHANTOM
    a whole run through the steps of the program: set-up and volumes (bids-sr-phantom PHANTOM
    --preset paper); seconds on two processors"""

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _table import keep
from people import brought_down, prior_of, runs_of
from scenes import FACTOR, prepared, ungated

from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.inference.acquired import UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import make_upsampler, super_resolve_series
from bids_sr.sr.method import get_method
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.resolution.operators import level_above
from bids_sr.sr.training.job import TrainingRequest
from bids_sr.sr.variance.fit_variance import fit_variance
from bids_sr.sr.variance.prior import _ITERATIONS, Prior, Window
from bids_sr.sr.variance.upsampler import VarianceUpsampler

MATRICES = ((40, 40, 35), (64, 64, 30), (96, 96, 40), (128, 128, 40))
STEPS = (5, 10, 15, 20, 30)
END = 300
THREADS = 2


def head(shape: tuple[int, int, int]) -> Window:
    """A window around an ellipse that fills a plane as a head does."""
    x, y, _ = ((g - (n - 1) / 2) / n for g, n in zip(np.indices(shape), shape, strict=True))
    return Window.around(
        level_above(shape, (2.0, 2.0, 1.0)), (x / 0.36) ** 2 + (y / 0.43) ** 2 < 1
    )


def drawn_prior(shape: tuple[int, int, int]) -> Prior:
    """A prior whose maps are drawn, for a head that fills a plane."""
    window, fwhm = head(shape), VarianceRecipe().fwhm
    generator = torch.Generator().manual_seed(0)
    weight = (
        torch.randn((len(fwhm), *(s.stop - s.start for s in window.fine)), generator=generator)
        .mul(0.8)
        .exp()
    )
    plain = Prior(window=window, weight=weight, fwhm=fwhm, noise=0.0)
    return Prior(window=window, weight=weight, fwhm=fwhm, noise=1e-3 * plain.mean_variance)


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
        prior = drawn_prior(shape)
        window = prior.window
        data = torch.zeros(shape[2], *shape[:2])
        data[window.coarse] = prior.draw(torch.Generator().manual_seed(1))
        cut = data[window.coarse].contiguous()
        row = {
            "acquired": " x ".join(map(str, shape)),
            f"s, {_ITERATIONS} steps": seconds(partial(prior.beyond, data)),
        }
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
            solution = prior.solve(
                coarse[prior.window.coarse].contiguous(), steps, 0.0 if steps < END else 1e-6
            )
            out = torch.zeros_like(image)
            out[prior.window.fine] = prior.prior_times_adjoint(solution)
            added = level.beyond(out)[problem.mask]
            left = (image - level.up(coarse))[problem.mask]
            found.append(1 - float((left - added).square().sum() / left.square().sum()))
            ends.setdefault(number, added)
            far.append(float((added - ends[number]).norm() / ends[number].norm()))
        missed[steps], shares[steps] = float(np.mean(far)), float(np.mean(found))
    rows = [
        {"steps": s, "missed of what is added": missed[s], "explained share": shares[s]}
        for s in (*STEPS, END)
    ]
    keep("variance_solved", "Steps of conjugate gradients, one level of resolution down", rows)


def series(root: Path) -> None:
    """Set-up and application of `sbl`, its maps used whatever the gate says, beside zero filling
    and plain copying.
    """
    method, rows = get_method("sbl"), []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        began = time.perf_counter()
        data, poses = prepared(root, folder)
        prepared_in = time.perf_counter() - began
        acquired = folder / "acquired.nii"
        for name, own in (("gate", method), ("maps", ungated(method))):
            began = time.perf_counter()
            made = fit_variance(TrainingRequest(method=own, threads=THREADS), data)
            rows.append({"step": f"set-up: {name}", "s": time.perf_counter() - began})
        shape, affine = hr_grid(data.statistics.mean.shape, data.affine, FACTOR)
        upsampler = VarianceUpsampler(
            weight=made.state["weight"],
            noise=float(made.state["noise"]),
            fwhm=VarianceRecipe().fwhm,
            mean=data.statistics.mean,
            mask=data.mask,
            affine=data.affine,
            factor=FACTOR,
        )
        for name, each in (
            (
                "zerofill",
                make_upsampler("zerofill", UpsamplerInputs(factor=FACTOR, affine=data.affine)),
            ),
            ("sbl", upsampler),
        ):
            with SeriesReader(acquired) as reader:
                size, out, began = (
                    (*shape, reader.shape[3]),
                    folder / f"{name}.nii",
                    time.perf_counter(),
                )
                with SeriesWriter(out, size, affine, reader.tr) as writer:
                    super_resolve_series(reader, writer, each, poses, shape, affine, factor=FACTOR)
            rows.append({"step": f"application: {name}", "s": time.perf_counter() - began})
        for suffix in (".nii", ".nii.gz"):
            with SeriesReader(folder / "zerofill.nii") as source, SeriesReader(acquired) as reader:
                began = time.perf_counter()
                with SeriesWriter(
                    folder / f"again{suffix}", source.shape, affine, reader.tr
                ) as writer:
                    for _, fine in zip(reader.volumes(), source.volumes(), strict=True):
                        writer.append(fine)
            rows.append({"step": f"read and write, {suffix}", "s": time.perf_counter() - began})
    remarks = [
        f"{poses.shape[0]} volumes, {upsampler.poses} poses; preparation of the run, motion"
        f" included, {prepared_in:.0f} s. Both volumes are read where only reading and writing is"
        " timed."
    ]
    keep(
        "variance_series",
        "A run through the steps of the program, seconds on two processors",
        rows,
        remarks=remarks,
    )


def main() -> int:
    if len(sys.argv) == 3 and sys.argv[1] == "series":
        torch.set_num_threads(THREADS)
        series(Path(sys.argv[2]))
        return 0
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
