"""Work, traffic and speed of the slowest parts of a whole run, and the best rates of this machine;
for paper_subject.py.

Floating-point operations: convolutions and matrix products in networks (torch's counter); 2 per
product of a matrix along an axis; for a cubic spline, the operations of its algorithm: along each
axis 9 per sample for the coefficients (a gain, and 2 products and 2 sums each way), and at each
target voxel 18 for the coordinates, 40 for the weights of three axes, and 256 for adding up 64
samples times three weights.

Bytes: every operation of torch, including backward and Adam, and every pass over an image reads
its inputs and writes its outputs once, as if no cache kept data of the previous operation. If
caches do keep data, the traffic to memory is smaller, and the GB/s given here may exceed the rate
of copying large arrays. Times are of the processor, one thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from _pair import Pair
from numpy.typing import NDArray
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode

from bids_sr.networks.training.update_steps import Networks
from bids_sr.spatial.resampling import PAD, sample_volume
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.inference.posed_image import PosedImage
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.sr.matrices import Factor, downsample, upsample
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.recipe import Recipe

Array = NDArray[Any]
FLOAT = 4
_COEFFICIENT, _TARGET = 9 * 3, 18 + 40 + 256


@dataclass(frozen=True, kw_only=True)
class Work:
    """Floating-point operations and bytes of one call."""

    flops: float
    bytes: float

    def __add__(self, work: Work) -> Work:
        return Work(flops=self.flops + work.flops, bytes=self.bytes + work.bytes)


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """Computation that a stage repeats.

    `parts`: names of the series that contain it, or "training"; `run`: makes one unit; `share`:
    fraction of the units of these parts.
    """

    name: str
    unit: str
    parts: tuple[str, ...]
    work: Work
    run: Callable[[], Any] = field(repr=False)
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """Best rates of the machine (GFLOP/s, GB/s); `convolution` and `cached` for data in a
    cache.
    """

    convolution: float
    product: float
    copy: float
    triad: float
    cached: float


def seconds(act: Callable[[], Any], *, shortest_s: float = 0.3, times: int = 3) -> float:
    """Return processor seconds of one call: the shortest of several rounds, each long enough to
    time.
    """
    act()
    begun = time.process_time()
    act()
    count = max(1, math.ceil(shortest_s / max(time.process_time() - begun, 1e-7)))
    best = math.inf
    for _ in range(times):
        begun = time.process_time()
        for _ in range(count):
            act()
        best = min(best, (time.process_time() - begun) / count)
    return best


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Run torch and the libraries behind numpy on a number of threads."""
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)


def measure_peaks() -> Peaks:
    """Measure the rates of this machine now, on the threads that are set."""
    best = 0.0
    for width in (32, 48, 64):
        for batch in (2, 4, 8):
            layer = nn.Conv2d(width, width, 3, padding=1, bias=False).to(
                memory_format=torch.channels_last
            )
            image = torch.rand(batch, width, 64, 64).contiguous(memory_format=torch.channels_last)
            with torch.inference_mode():
                took = seconds(lambda layer=layer, image=image: layer(image))
            best = max(best, 2 * 9 * width * width * batch * 64 * 64 / took)
    square = torch.rand(2048, 2048)
    with torch.inference_mode():
        product = 2 * 2048**3 / seconds(lambda: square @ square)
    # 268 MB each: beyond any cache
    a, b, c = (np.random.default_rng(k).random(2**26, np.float32) for k in range(3))
    copy = 2 * a.nbytes / seconds(lambda: np.copyto(a, b))
    first, second, third = map(torch.from_numpy, (a, b, c))
    triad = 3 * a.nbytes / seconds(lambda: torch.add(second, third, alpha=3.0, out=first))
    small, source = a[: 2**16].copy(), b[: 2**16].copy()  # 262 kB each
    cached = 2 * small.nbytes / seconds(lambda: np.copyto(small, source))
    return Peaks(
        **{
            name: value / 1e9
            for name, value in {
                "convolution": best,
                "product": product,
                "copy": copy,
                "triad": triad,
                "cached": cached,
            }.items()
        }
    )


class Traffic(TorchDispatchMode):
    """Counts bytes that operations of torch read and write; views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs, outputs = (
            [t for t in tree_flatten(tree)[0] if torch.is_tensor(t)]
            for tree in ((args, kwargs), result)
        )
        places = {t.untyped_storage().data_ptr() for t in inputs}
        in_place = func._schema.name.endswith("_") or "out" in (kwargs or {})
        if (
            in_place
            or not outputs
            or any(t.untyped_storage().data_ptr() not in places for t in outputs)
        ):
            self.bytes += sum(t.numel() * t.element_size() for t in (*inputs, *outputs))
        return result


def _as_plain(a: Any, b: Any, *_: Any, **__: Any) -> float:
    """Return the work of the plain convolution whose tiles are multiplied."""
    return 4 * 2 * math.prod(a) * b[-1]


def _added_as_plain(_: Any, a: Any, b: Any, *__: Any, **___: Any) -> float:
    return _as_plain(a, b)


_TILES: dict[Any, Any] = {
    torch.ops.aten.bmm: _as_plain,
    torch.ops.aten.baddbmm_: _added_as_plain,
}


def counted(act: Callable[[], Any]) -> Work:
    """Count the work of torch in a call."""
    with FlopCounterMode(display=False, custom_mapping=_TILES) as flops:
        act()
    with Traffic() as traffic:
        act()
    return Work(flops=float(flops.get_total_flops()), bytes=float(traffic.bytes))


class Step:
    """Training steps of a recipe on a pair, before or after the critic joins; see
    `bids_sr.networks.training.trainer`.
    """

    def __init__(self, recipe: Recipe, pair: Pair, *, adversarial: bool = True) -> None:
        self.adversarial = adversarial
        self.recipe, self.examples = recipe, pair.examples(recipe)
        self.nets = Networks(recipe, pair.factor)
        self.rng = np.random.default_rng(0)

    def __call__(self) -> None:
        examples = self.examples
        batch = examples.draw_batch(
            self.rng, examples.training_regions, iteration=0, seed=0, size=self.recipe.batch
        )
        batch = replace(batch, input=batch.input.contiguous(memory_format=torch.channels_last))
        fake = self.nets.generator(batch.input)
        for _ in range(self.recipe.critic_steps if self.adversarial else 0):
            self.nets.update_critics(batch, fake)
        self.nets.update_generators(batch, fake, self.adversarial)


def along(sizes: Sequence[int], target: Sequence[int]) -> Work:
    """Count products with matrices along the axes, from a grid of `sizes` to a grid of
    `target`.
    """
    now, total = list(sizes), Work(flops=0.0, bytes=0.0)
    for axis, n in enumerate(target):
        if now[axis] != n:
            rest = math.prod(now) // now[axis]
            moved = FLOAT * rest * (now[axis] + n)
            total += Work(flops=2.0 * rest * now[axis] * n, bytes=moved)
            now[axis] = n
    return total


def spline(shape: Sequence[int], target: Sequence[int], *, prepared: bool = False) -> Work:
    """Count one cubic interpolation; `prepared`: coefficients exist already."""
    padded = math.prod(n + 2 * PAD for n in shape)
    sampled = Work(flops=_TARGET * math.prod(target), bytes=FLOAT * (padded + math.prod(target)))
    if prepared:
        return sampled
    # padding, then a pass along each axis
    traffic = FLOAT * (math.prod(shape) + padded + 2 * 3 * padded)
    return sampled + Work(flops=_COEFFICIENT * padded, bytes=traffic)


def of_a_volume(
    volume: Array, affine: Array, factor: Factor, model: LoadedModel, highres: PosedImage
) -> list[Kernel]:
    """List the work for every volume: by all series, by `inject` and `ratio`, and by the network.

    volume, affine : as acquired; highres : the high-resolution T2*-weighted image; model :
    trained, 2D
    """
    shape, grid = hr_grid(volume.shape, affine, factor)
    fine = upsample("bspline", volume, factor)
    pose = np.eye(4)
    pose[:3, 3] = 0.3, -0.4, 0.2
    turned = np.cos(0.01), np.sin(0.01)
    pose[:2, :2] = [[turned[0], -turned[1]], [turned[1], turned[0]]]
    posed = PosedImage(data=np.asarray(highres.data, np.float32), affine=highres.affine)
    posed.resample(shape, grid, pose)  # computes the coefficients, once per run
    network = make_upsampler(
        "srgan", UpsamplerInputs(factor=factor, scale=float(np.percentile(volume, 99))), model
    )
    inside = counted(lambda: network(volume, pose))
    up, down = along(volume.shape, shape), along(shape, volume.shape)
    guided = ("inject", "ratio")
    series = ("bspline", "zerofill", *guided, "srgan")
    return [
        Kernel(
            name="network of srgan on all slices, with interpolation",
            unit="volume",
            parts=("srgan",),
            work=inside + up,
            run=lambda: network(volume, pose),
        ),
        Kernel(
            name="spline: coefficients, and samples in the head's pose",
            unit="volume",
            parts=series,
            work=spline(shape, shape),
            run=lambda: sample_volume(fine, grid, shape, grid, pose),
        ),
        Kernel(
            name="spline: the fine T2* image in the volume's pose",
            unit="volume",
            parts=guided,
            work=spline(highres.data.shape, shape, prepared=True),
            run=lambda: posed.resample(shape, grid, pose),
        ),
        Kernel(
            name="upsampling by matrices",
            unit="volume",
            parts=("bspline", "zerofill", *guided),
            work=up,
            run=lambda: upsample("zerofill", volume, factor),
        ),
        Kernel(
            name="cropping k-space, to compare with what was acquired",
            unit="volume",
            parts=(*series, *guided),
            work=down,
            run=lambda: downsample(fine, volume.shape),
        ),
    ]


def of_training(recipe: Recipe, pair: Pair) -> list[Kernel]:
    """List a step of the recipe with its critic, and a step before the critic joins."""
    alone = recipe.adversarial_from / recipe.steps
    kernels = []
    for adversarial, share in ((True, 1 - alone), (False, alone)):
        step = Step(recipe, pair, adversarial=adversarial)
        kernels.append(
            Kernel(
                name=f"training step, {'with' if adversarial else 'before'} the critic",
                unit="step",
                parts=("training",),
                work=counted(step),
                run=step,
                share=share,
            )
        )
    return kernels


def row(kernel: Kernel, peaks: Peaks, took: float) -> dict[str, Any]:
    """Return the rates of a kernel, and the roof at its intensity."""
    intensity = kernel.work.flops / kernel.work.bytes
    roof = min(peaks.convolution, intensity * max(peaks.copy, peaks.triad))
    rate = kernel.work.flops / took / 1e9
    return {
        "kernel": kernel.name,
        "ms": round(1e3 * took, 2),
        "of one": kernel.unit,
        "GFLOP": round(kernel.work.flops / 1e9, 3),
        "MB": round(kernel.work.bytes / 1e6, 1),
        "FLOP/byte": round(intensity, 2),
        "GFLOP/s": round(rate, 2),
        "GB/s": round(kernel.work.bytes / took / 1e9, 2),
        "% of best convolution": round(100 * rate / peaks.convolution, 1),
        "% of its roof": round(100 * rate / roof, 1),
        "roof": "arithmetic" if roof == peaks.convolution else "memory",
    }
