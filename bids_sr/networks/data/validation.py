"""Windows that are scored at every validation step of a training."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bids_sr.frozen import frozen
from bids_sr.io.arrays import evenly_spaced
from bids_sr.networks.data.examples import Batch, Examples, Region
from bids_sr.networks.data.windows import Window
from bids_sr.sr.matrices import upsample

_MAX_WINDOWS = 8  # largest number of scored windows, evenly spaced over the held-out regions
_MAX_SIDE = 48  # voxels, largest side of a volumetric window
# slices of context around held-out slices for volumetric networks; excluded from the score
_CONTEXT_SLICES = 6


@frozen
class ScoredWindow:
    """Window that is scored at every validation step.

    Parameters
    ----------
    image : int
        Index of the image.
    box : Window
        Bounds of the window along each axis.
    batch : Batch
        Input, target and weight of the window. The weight is 0 in voxels that are not scored.
    """

    image: int
    box: Window
    batch: Batch


def validation_windows(examples: Examples, regions: Sequence[Region]) -> tuple[ScoredWindow, ...]:
    """Return the windows to score: whole slices, or blocks of a volume with surrounding slices.

    At most 8 windows are returned, evenly spaced over the regions, or all windows if the recipe
    trains on every slice.
    """
    candidates: list[tuple[Region, Window]] = []
    for region in regions:
        image, (low, high) = examples.prepare(region.image), region.slices
        if examples.ndim == 2:
            slices_in_mask = (
                torch.nonzero(image.inside[0, ..., low:high].any(0).any(0)).flatten().tolist()
            )
            candidates += [(region, image.slice_box(low + z)) for z in slices_in_mask]
        else:
            candidates.append((region, _block(examples, region)))
    max_count = max(_MAX_WINDOWS, len(candidates)) if examples.recipe.every_slice else _MAX_WINDOWS
    return tuple(
        _window(examples, *candidates[k]) for k in evenly_spaced(len(candidates), max_count)
    )


def _block(examples: Examples, region: Region) -> Window:
    """Return a block around the center of the mask in a slice range, with surrounding slices."""
    image, (low, high) = examples.prepare(region.image), region.slices
    inside_indices = torch.nonzero(image.inside[0, ..., low:high]).double()
    middle = (
        inside_indices.mean(0).tolist() if len(inside_indices) else [n / 2 for n in image.shape]
    )
    box = []
    for axis, (n, (p, _)) in enumerate(zip(image.shape, image.steps, strict=True)):
        step = p if examples.aligned else 1
        if axis < 2:
            side = min(n, _MAX_SIDE) // step * step
            start = min(max(int(middle[axis]) - side // 2, 0), n - side) // step * step
            box.append((start, start + side))
        else:
            start = max(0, low - _CONTEXT_SLICES, (low + high - _MAX_SIDE) // 2) // step * step
            stop = min(n, high + _CONTEXT_SLICES, start + _MAX_SIDE) // step * step
            box.append((start, max(stop, start + step)))
    return tuple(box)


def _window(examples: Examples, region: Region, box: Window) -> ScoredWindow:
    """Cut a window and restrict its weight to the slices of its region."""
    batch = examples.cut_windows([(region.image, box)], examples.factor, 0.0)
    if examples.ndim == 3:
        on_coarse = examples.recipe.objective == "self"
        p, q = examples.prepare(region.image).steps[2] if on_coarse else (1, 1)
        first, last = ((z - box[2][0]) * q // p for z in region.slices)
        weight = torch.zeros_like(batch.weight)
        weight[..., max(0, first) : last] = batch.weight[..., max(0, first) : last]
        # if a region contains no mask voxels, all of its voxels are scored
        batch = replace(batch, weight=weight if weight.any() else torch.ones_like(batch.weight))
    return ScoredWindow(image=region.image, box=box, batch=batch)


def interpolate_windows(
    examples: Examples, name: str, windows: Sequence[ScoredWindow]
) -> list[Tensor]:
    """Interpolate the scored windows, for comparison with the network's output.

    Parameters
    ----------
    examples : Examples
        Training examples that the windows belong to.
    name : str
        Name of the interpolation.
    windows : Sequence[ScoredWindow]
        Windows to interpolate.

    Returns
    -------
    list[Tensor]
        Interpolated image of each window (1, C, *grid).
    """
    volumes: dict[int, NDArray[np.float32]] = {}
    out = []
    for window in windows:
        if window.image not in volumes:
            low = examples.prepare(window.image).coarse.cpu().numpy()
            volumes[window.image] = np.stack([upsample(name, c, examples.factor) for c in low])
        part = volumes[window.image][(slice(None), *(slice(a, b) for a, b in window.box))]
        part = part if examples.ndim == 3 else part[..., 0]
        image = torch.from_numpy(np.ascontiguousarray(part, np.float32))
        out.append(image.to(window.batch.target.device)[None])
    return out
