"""Windows that are held out from training on a set of images: fixed, looked at again and again, scored at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bids_sr.series import VALIDATION_BASELINES
from bids_sr.sr.data.patches import Batch
from bids_sr.sr.data.windows import Box, Windows
from bids_sr.sr.models import scores
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.resolution.interpolation import upsample
from bids_sr.sr.training import update_steps
from bids_sr.sr.training.update_steps import Networks

MOST = 8  # windows a look scores, spread evenly over what is held out
_SIDE = 48  # of a window in three dimensions
_CONTEXT = 6  # slices around what is held out that a network in three dimensions may see, and is not scored in
_SMALLEST_SSIM = 11  # side of the structural similarity's own window


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """One window: its image, its place on the fine grid, and its tensors; weight is 1 where it is scored."""

    image: int
    box: Box
    batch: Batch


def looks(windows: Windows, held: Sequence[tuple[int, tuple[int, int]]]) -> tuple[Look, ...]:
    """The windows of what is held out.

    Parameters
    ----------
    windows : the set
    held : (image, (first slice, last + 1)) of each part that is held out
    """
    chosen: list[tuple[int, Box, tuple[int, int]]] = []
    for index, (low, high) in held:
        if windows.ndim == 2:
            chosen += [(index, box, box[2]) for box in _slices(windows, index, low, high)]
        else:
            chosen.append((index, _block(windows, index, low, high), (low, high)))
    spread = np.unique(np.linspace(0, len(chosen) - 1, min(MOST, len(chosen))).round().astype(int))
    return tuple(_look(windows, *chosen[k]) for k in spread)


def _slices(windows: Windows, index: int, low: int, high: int) -> list[Box]:
    """Whole slices of a range with something of the mask."""
    shape = windows.at(index).shape
    part = windows.at(index).inside[0, ..., low:high].float().mean((0, 1))
    found = [low + int(z) for z in torch.nonzero(part > 0).flatten()]
    steps = windows.at(index).steps
    sides = [n // p * p if windows.aligned else n for n, (p, _) in zip(shape, steps, strict=True)]
    return [((0, sides[0]), (0, sides[1]), (z, z + 1)) for z in found]


def _block(windows: Windows, index: int, low: int, high: int) -> Box:
    """A block around the middle of the mask in a range of slices, with some context."""
    image = windows.at(index)
    places = torch.nonzero(image.inside[0, ..., low:high]).double()
    middle = places.mean(0).tolist() if len(places) else [n / 2 for n in image.shape]
    box = []
    for axis, (n, (p, _)) in enumerate(zip(image.shape, image.steps, strict=True)):
        step = p if windows.aligned else 1
        if axis < 2:
            side = min(n, _SIDE) // step * step
            start = min(max(int(middle[axis]) - side // 2, 0), n - side) // step * step
            box.append((start, start + side))
        else:
            start = max(0, low - _CONTEXT, (low + high - _SIDE) // 2) // step * step
            stop = min(n, high + _CONTEXT, start + _SIDE) // step * step
            box.append((start, max(stop, start + step)))
    return tuple(box)


def _look(windows: Windows, index: int, box: Box, scored: tuple[int, int]) -> Look:
    batch = windows.cut([(index, box)], windows.factor, 0.0)
    if windows.ndim == 3:
        p, q = windows.at(index).steps[2] if windows.recipe.objective == "self" else (1, 1)
        first, last = ((z - box[2][0]) * q // p for z in scored)
        weight = torch.zeros_like(batch.weight)
        weight[..., max(0, first) : last] = batch.weight[..., max(0, first) : last]
        # a part without any of the mask is scored whole: nothing else is there
        weight = weight if weight.any() else torch.ones_like(batch.weight)
        batch = replace(batch, weight=weight)
    return Look(image=index, box=box, batch=batch)


def outputs(generator: nn.Module, watched: Sequence[Look], lower: bool = False) -> list[Tensor]:
    """What the generator makes of each window, in bf16 where `lower`; it is back in training mode afterwards."""
    generator.eval()
    with torch.no_grad(), torch.autocast(watched[0].batch.input.device.type, torch.bfloat16, enabled=lower):
        out = [generator(look.batch.input).float() for look in watched]
    generator.train()
    return out


def _error(made: Sequence[Tensor], watched: Sequence[Look]) -> float:
    """Mean squared error where windows are scored, all together."""
    total = weight = 0.0
    for image, look in zip(made, watched, strict=True):
        seen = image if look.batch.operator is None else look.batch.operator.forward(image)
        shared = look.batch.weight.expand_as(seen)
        total += float((shared * (seen - look.batch.target).square()).sum())
        weight += float(shared.sum())
    return total / max(weight, 1e-12)


def score(nets: Networks, watched: Sequence[Look], recipe: Recipe, lower: bool = False) -> float:
    """In dB, higher is better: PSNR, or for the objective "self" the loss on the same scale.

    What is consistent with coarse data can be arbitrarily rough; therefore the variation counts there as it does in
    training.
    """
    made = outputs(nets.generator, watched, lower)
    error = _error(made, watched)
    if recipe.objective == "self":
        for kind, module, weight in nets.terms:
            if kind == "tv":
                found = [
                    update_steps.term_value(nets, kind, module, look.batch, image, {})
                    for image, look in zip(made, watched, strict=True)
                ]
                error += weight * float(np.mean([float(v) for v in found if v is not None]))
    return float(-10 * np.log10(max(error, 1e-12)))


def compare(generator: nn.Module, windows: Windows, watched: Sequence[Look]) -> dict[str, dict[str, float]]:
    """PSNR (dB) and SSIM of the network's windows, beside B-spline and zero filling of the same; range 1.

    Where images come interpolated already, what is beside is the input as it came. For the objective "self" there is no
    fine image: what is compared are coarse images, and only the network's.
    """
    made = outputs(generator, watched)
    if windows.recipe.objective == "self":
        return {"network": {"consistency_psnr": round(-10 * float(np.log10(max(_error(made, watched), 1e-12))), 4)}}
    # at factor 1 every interpolation is the input itself
    plain = (
        {"input": "bspline"} if all(f == 1 for f in windows.factor) else {name: name for name in VALIDATION_BASELINES}
    )
    rows = {"network": made} | {name: _interpolated(how, windows, watched) for name, how in plain.items()}
    return {name: _figures(images, watched) for name, images in rows.items()}


def _interpolated(name: str, windows: Windows, watched: Sequence[Look]) -> list[Tensor]:
    whole: dict[int, Any] = {}
    out = []
    for look in watched:
        if look.image not in whole:
            coarse = windows.at(look.image).coarse.cpu().numpy()
            whole[look.image] = np.stack([upsample(name, channel, windows.factor) for channel in coarse])
        part = whole[look.image][(slice(None), *(slice(a, b) for a, b in look.box))]
        part = part if windows.ndim == 3 else part[..., 0]
        out.append(torch.from_numpy(np.ascontiguousarray(part, np.float32)).to(look.batch.target.device)[None])
    return out


def _figures(images: Sequence[Tensor], watched: Sequence[Look]) -> dict[str, float]:
    out = {"psnr": round(-10 * float(np.log10(max(_error(images, watched), 1e-12))), 4)}
    found, counts = [], []
    for image, look in zip(images, watched, strict=True):
        if min(image.shape[2:4]) < _SMALLEST_SSIM:
            continue
        for made, truth in zip(image[0], look.batch.target[0], strict=True):
            inside = look.batch.weight[0, 0].cpu().numpy()
            stacks = [
                np.moveaxis(a[..., None] if a.ndim == 2 else a, 2, 0)
                for a in (made.cpu().numpy(), truth.cpu().numpy(), inside)
            ]
            if stacks[2].any():
                found.append(scores.ssim(stacks[0], stacks[1], stacks[2], 1.0))
                counts.append(float(stacks[2].sum()))
    return out | ({"ssim": round(float(np.average(found, weights=counts)), 5)} if found else {})
