"""How fast a trained network is applied to a whole series: benchmarks/inference.py [--threads 1 2]
[--repeats N].

For every network three ways are timed in one run, in turns, so that what else the machine does
falls on all of them:

- `plain`: what one writes first: for each volume and slice (for volumetric networks: for each
  volume) the image becomes a tensor of channels outermost, is interpolated where the network wants
  it, goes through the network in single precision without gradients, and comes back;
- `ours`: the upsampler of `bids_sr.sr.inference.apply_to_series`, which is what a run uses;
- `convolution`: one convolution of the network's width and kernel, in whatever batch, image size
  and memory format is fastest: with everything in the cache. Its rate is the peak against which
  `share` is taken.

`ratio` is plain over ours within each turn: median (and lowest to highest) over the turns. `share`
and `bound` compare the fastest turns with the fastest convolution: `bound` is the rate of the
convolution over that of the plain loop, what the ratio would be were everything as fast as the
fastest convolution. `difference` is the largest one between plain and ours over the range of the
image. Floating-point work is counted by torch (multiplications and additions of convolutions and
matrix products) in the plain network for one image, so that interpolation, motion, and work that
ours saves or does twice count for nothing. Networks are drawn at random, with last layers that say
something: time does not depend on what was learned.

With one thread, seconds are those of the processor, which other programs disturb less; with more,
they are the clock's, and the machine has to be quiet. `series` times all of the step: reading,
undoing head motion, writing. Writes benchmarks/results/inference.{json,md}.
"""

from __future__ import annotations

import argparse
import copy
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _table import keep
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.spatial.transforms import hr_grid, rigid_matrix
from bids_sr.sr.inference.acquired import UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import make_upsampler, super_resolve_series
from bids_sr.sr.method import get_method
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.resolution.matrices import upsample
from bids_sr.sr.resolution.operators import upsample_slices

Array = NDArray[np.float32]
SCALE = 1000.0
SEED = 0


@dataclass(frozen=True)
class Case:
    """A network and the volume it is applied to; width of its body and the convolution's sides
    that may be fastest.
    """

    method: str
    recipe: str
    factor: tuple[float, float, float]
    shape: tuple[int, int, int]
    width: int
    sides: tuple[tuple[int, ...], ...]

    @property
    def volumetric(self) -> bool:
        return get_method(self.method).ndim == 3


PLANE = (2.0, 2.0, 1.0)
CASES = (
    Case("srgan", "fast", PLANE, (64, 64, 30), 32, ((32, 32), (40, 40), (64, 64))),
    Case("srgan", "fast", PLANE, (40, 40, 35), 32, ((32, 32), (40, 40), (64, 64))),
    Case("srgan", "paper", PLANE, (64, 64, 2), 64, ((32, 32), (64, 64), (128, 128))),
    Case("resnet3d", "fast", PLANE, (64, 64, 30), 16, ((16, 16, 16), (24, 24, 24), (32, 32, 32))),
    Case("tv", "fast", (2.0, 2.0, 2.0), (40, 40, 20), 8, ((16, 16, 16), (32, 32, 32))),
)


def model_of(case: Case) -> LoadedModel:
    """The method's network with random weights, none of them zero."""
    torch.manual_seed(SEED)
    recipe = get_method(case.method).recipes[case.recipe]
    net = recipe.build_generator(1, case.factor)
    for parameter in net.parameters():
        if not parameter.abs().max() > 0:
            nn.init.normal_(parameter, std=0.03)
    card = {"method": case.method, "recipe": case.recipe}
    return LoadedModel(
        generator=net.eval().requires_grad_(False), recipe=recipe, card=ModelCard.from_json(card)
    )


def plain_loop(model: LoadedModel, case: Case) -> Callable[[Array], Array]:
    """Slice by slice or volume by volume, as one writes it first."""
    net, by = copy.deepcopy(model.generator), model.recipe.upsampled_by

    def slices(volume: Array) -> Array:
        out = np.empty(
            (*(int(n * f) for n, f in zip(volume.shape, case.factor, strict=True)),), np.float32
        )
        with torch.no_grad():
            for z in range(volume.shape[2]):
                x = torch.from_numpy(np.ascontiguousarray(volume[:, :, z]) / np.float32(SCALE))[
                    None, None
                ]
                out[:, :, z] = net(upsample_slices(x, case.factor[:2], by))[0, 0].numpy() * SCALE
        return out

    def whole(volume: Array) -> Array:
        with torch.no_grad():
            x = upsample(by, volume, case.factor) if by else volume
            return net(torch.from_numpy(x / np.float32(SCALE))[None, None])[0, 0].numpy() * SCALE

    return whole if case.volumetric else slices


def work_of(model: LoadedModel, case: Case) -> float:
    """Floating-point operations of the network for one volume."""
    shape = [
        int(n * f) if model.recipe.upsampled_by else n
        for n, f in zip(case.shape, case.factor, strict=True)
    ]
    image = torch.zeros(1, 1, *(shape if case.volumetric else shape[:2]))
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        copy.deepcopy(model.generator)(image)
    return counted.get_total_flops() * (1 if case.volumetric else case.shape[2])


def convolutions(case: Case) -> Mapping[str, tuple[float, Callable[[], Tensor]]]:
    """(work, call) of one convolution of the case's width in several batches, sizes and memory
    formats.
    """
    found = {}
    kind, last = (
        (nn.Conv3d, torch.channels_last_3d)
        if case.volumetric
        else (nn.Conv2d, torch.channels_last)
    )
    for side in case.sides:
        for batch in (1, 2, 4, 8):
            if batch * int(np.prod(side)) * case.width > 1 << 21:
                continue
            for name, layout in (("outermost", torch.contiguous_format), ("innermost", last)):
                layer = (
                    kind(case.width, case.width, 3, padding=1)
                    .to(memory_format=layout)
                    .requires_grad_(False)
                )
                image = torch.randn(batch, case.width, *side).contiguous(memory_format=layout)
                work = 2.0 * 3 ** len(side) * case.width**2 * batch * int(np.prod(side))
                found[f"{batch} x {'x'.join(map(str, side))}, channels {name}"] = (
                    work,
                    _bound(layer, image),
                )
    return found


def _bound(layer: nn.Module, image: Tensor) -> Callable[[], Tensor]:
    return lambda: layer(image)


def seconds(call: Callable[[], Any], clock: Callable[[], float], at_least: float = 0.0) -> float:
    """Of one call; of as many as take `at_least` seconds together."""
    count, started = 0, clock()
    while True:
        call()
        count += 1
        taken = clock() - started
        if taken >= at_least:
            return taken / count


def fastest(case: Case, clock: Callable[[], float]) -> tuple[str, float, Callable[[], Tensor]]:
    """The convolution of the highest rate in a first round: its name, work and call."""
    rates = {}
    with torch.inference_mode():
        for name, (work, call) in convolutions(case).items():
            call()
            rates[name] = (max(work / seconds(call, clock, 0.02) for _ in range(3)), work, call)
    name = max(rates, key=lambda key: rates[key][0])
    return name, rates[name][1], rates[name][2]


def measured(case: Case, threads: int, repeats: int) -> dict[str, Any]:
    """One row: all three ways in turns."""
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    model = model_of(case)
    volume = np.random.default_rng(SEED).random(case.shape, dtype=np.float32) * np.float32(SCALE)
    plain, work = plain_loop(model, case), work_of(model, case)
    ours = make_upsampler(
        case.method, UpsamplerInputs(factor=case.factor, scale=SCALE, threads=threads), model
    )
    which, amount, convolution = fastest(case, clock)
    expected, made = plain(volume), ours(volume, np.eye(4))
    again = ours(volume, np.eye(4))
    turns = []
    for _ in range(repeats):
        with torch.inference_mode():
            one = min(seconds(convolution, clock, 0.02) for _ in range(5))
        turns.append(
            (
                seconds(lambda: plain(volume), clock),
                seconds(lambda: ours(volume, np.eye(4)), clock),
                one,
            )
        )
    loops, mine, ones = np.array(turns).T
    ratio, peak = loops / mine, amount / ones.min()
    return {
        "network": f"{case.method} {case.recipe}",
        "volume": "x".join(map(str, case.shape)),
        "threads": threads,
        "plain, s a volume": float(np.median(loops)),
        "ours, s a volume": float(np.median(mine)),
        "ratio": float(np.median(ratio)),
        "lowest": float(ratio.min()),
        "highest": float(ratio.max()),
        "difference": float(np.abs(made - expected).max() / np.ptp(expected)),
        "same twice": bool(np.array_equal(made, again)),
        "GFLOP a volume": work / 1e9,
        "plain, GFLOP/s": work / np.median(loops) / 1e9,
        "ours, GFLOP/s": work / np.median(mine) / 1e9,
        "fastest turn": float(work / mine.min() / 1e9),
        "convolution, GFLOP/s": peak / 1e9,
        "share": float(work / mine.min() / peak),
        "bound": float(peak / (work / loops.min())),
        "convolution": which,
    }


def whole_step(case: Case, threads: int, volumes: int = 6) -> dict[str, Any]:
    """One row of the whole step on a series that moves: seconds a volume, ours and with the plain
    loop in its place.
    """
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    model, rng = model_of(case), np.random.default_rng(SEED)
    affine = np.diag([3.0, 3.0, 3.5, 1.0])
    drift = np.array([0.1, 0.05, 0, 0, 0, 0.002])  # mm, radians
    moves = np.array([rigid_matrix(t * drift, np.zeros(3)) for t in range(volumes)])
    plain = plain_loop(model, case)
    ours = make_upsampler(
        case.method, UpsamplerInputs(factor=case.factor, scale=SCALE, threads=threads), model
    )
    ways = {"plain": lambda volume, pose: plain(volume), "ours": ours, "nothing": _zeros(case)}
    took = {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.nii"
        with SeriesWriter(source, (*case.shape, volumes), affine, 2.0) as writer:
            for _ in range(volumes):
                writer.append(rng.random(case.shape, dtype=np.float32) * np.float32(SCALE))
        for name, way in ways.items():
            with SeriesReader(source) as reader:
                shape, grid = hr_grid(reader.shape[:3], reader.affine, case.factor)
                with SeriesWriter(
                    Path(folder) / "out.nii", (*shape, volumes), grid, 2.0
                ) as writer:
                    started = clock()
                    super_resolve_series(
                        reader, writer, way, moves, shape, grid, factor=case.factor
                    )
                    took[name] = (clock() - started) / volumes
    return {
        "network": f"{case.method} {case.recipe}, whole step",
        "volume": "x".join(map(str, case.shape)),
        "threads": threads,
        "plain, s a volume": took["plain"],
        "ours, s a volume": took["ours"],
        "ratio": took["plain"] / took["ours"],
        "of it beside the network, s": took["nothing"],
    }


def _zeros(case: Case) -> Callable[[Array, Array], Array]:
    fine = tuple(int(n * f) for n, f in zip(case.shape, case.factor, strict=True))
    return lambda volume, pose: np.zeros(fine, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    rows, steps = [], []
    for threads in given.threads:
        for case in CASES:
            few = (
                given.repeats
                if (case.method, case.recipe) == ("srgan", "fast")
                else max(3, given.repeats // 3)
            )
            # of numpy's library too, as in a run
            with threadpool_limits({"blas": 1, "openmp": threads}):
                rows.append(measured(case, threads, few))
        with threadpool_limits({"blas": 1, "openmp": threads}):
            steps.append(whole_step(CASES[0], threads))
    load = (
        "Processes that wanted to run, mean of the last minute at the end:"
        f" {os.getloadavg()[0]:.1f}."
    )
    keep(
        "inference",
        "Inference against a plain loop and against one convolution",
        rows,
        remarks=[*map(_told, steps), load],
    )


def _told(step: Mapping[str, Any]) -> str:
    return (
        f"{step['network']}, {step['volume']}, threads {step['threads']}:"
        f" {step['plain, s a volume']:.3f} s a volume with the plain loop,"
        f" {step['ours, s a volume']:.3f} s with ours (ratio {step['ratio']:.2f}); beside the"
        " network (reading, check of consistency, motion, writing)"
        f" {step['of it beside the network, s']:.3f} s."
    )


if __name__ == "__main__":
    main()
