"""Windows that are scored at every validation step of a training."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bids_sr.io.arrays import evenly_spaced
from bids_sr.io.frozen import frozen
from bids_sr.spatial.matrices import upsample
from bids_sr.sr.networks.data.examples import Batch, Examples, Slab
from bids_sr.sr.networks.data.windows import Window, index_window, round_down

_MAX_WINDOWS = 8  # largest number of scored windows, evenly spaced over the held-out slabs
_MAX_SIDE = 48  # voxels, largest side of a volumetric window
# slices of context around held-out slices for volumetric networks; not scored, unless the
# held-out slices contain no mask voxels
_CONTEXT_SLICES = 6


@frozen
class ScoredWindow:
    """Window that is scored at every validation step.

    `image` is the index of the image, and `box` the bounds of the window along each axis. The
    weight in `batch` is 0 in voxels that are not scored.
    """

    image: int
    box: Window
    batch: Batch


def validation_windows(examples: Examples, slabs: Sequence[Slab]) -> tuple[ScoredWindow, ...]:
    """Return the windows to score: whole slices, or blocks of a volume with surrounding slices.

    At most 8 windows are returned, evenly spaced over the slabs, or all windows if the recipe
    trains on every slice.
    """
    candidates: list[tuple[Slab, Window]] = []
    for slab in slabs:
        if examples.ndim == 2:
            candidates += [(slab, window) for window in _list_slices_in_mask(examples, slab)]
        else:
            candidates.append((slab, _find_central_block(examples, slab)))
    max_count = max(_MAX_WINDOWS, len(candidates)) if examples.recipe.every_slice else _MAX_WINDOWS
    return tuple(
        _cut_scored_window(examples, *candidates[k])
        for k in evenly_spaced(len(candidates), max_count)
    )


def _list_slices_in_mask(examples: Examples, slab: Slab) -> list[Window]:
    """Return the windows of the whole slices of a slab that contain mask voxels."""
    image = examples.prepare(slab.image)
    first, end = slab.slices
    has_mask = image.mask[0, ..., first:end].any(0).any(0)
    return [image.get_slice_window(first + z) for z in torch.nonzero(has_mask).flatten().tolist()]


def _find_central_block(examples: Examples, slab: Slab) -> Window:
    """Return a block around the center of the mask in a slice range, with surrounding slices."""
    image = examples.prepare(slab.image)
    first, end = slab.slices
    mask_voxels = torch.nonzero(image.mask[0, ..., first:end]).double()
    center = mask_voxels.mean(0).tolist() if len(mask_voxels) else [n / 2 for n in image.shape]
    steps = [p if examples.is_aligned else 1 for p, _ in image.ratios]
    in_plane_bounds = [
        _center_interval(int(coordinate), n, step)
        for coordinate, n, step in zip(center[:2], image.shape[:2], steps[:2], strict=True)
    ]
    depth, step = image.shape[2], steps[2]
    start = max(0, first - _CONTEXT_SLICES, (first + end - _MAX_SIDE) // 2)
    aligned_start = round_down(start, step)
    stop = min(depth, end + _CONTEXT_SLICES, aligned_start + _MAX_SIDE)
    aligned_stop = max(round_down(stop, step), aligned_start + step)
    return (*in_plane_bounds, (aligned_start, aligned_stop))


def _center_interval(center: int, n: int, step: int) -> tuple[int, int]:
    """Return the largest interval around a voxel on an axis of n voxels, at most `_MAX_SIDE` wide.

    Both bounds are multiples of `step`.
    """
    side = round_down(min(n, _MAX_SIDE), step)
    start = round_down(min(max(center - side // 2, 0), n - side), step)
    return start, start + side


def _cut_scored_window(examples: Examples, slab: Slab, window: Window) -> ScoredWindow:
    """Cut a window and restrict its weight to the slices of its slab."""
    batch = examples.cut_windows([(slab.image, window)], examples.factor, 0.0)
    if examples.ndim == 3:
        is_compared_at_lowres = examples.recipe.objective == "self"
        p, q = examples.prepare(slab.image).ratios[2] if is_compared_at_lowres else (1, 1)
        first, end = ((z - window[2][0]) * q // p for z in slab.slices)
        weight = torch.zeros_like(batch.weight)
        weight[..., max(0, first) : end] = batch.weight[..., max(0, first) : end]
        # if the slab contains no mask voxels, the whole window is scored
        batch = replace(batch, weight=weight if weight.any() else torch.ones_like(batch.weight))
    return ScoredWindow(image=slab.image, box=window, batch=batch)


def interpolate_windows(
    examples: Examples, name: str, windows: Sequence[ScoredWindow]
) -> list[Tensor]:
    """Interpolate the scored windows, for comparison with the network's output.

    The windows belong to `examples`, and `name` is the name of the interpolation. Returns the
    interpolated image of each window (1, C, *grid).
    """
    volumes = {
        index: np.stack(
            [
                upsample(name, channel, examples.factor)
                for channel in examples.prepare(index).lowres.cpu().numpy()
            ]
        )
        for index in {window.image for window in windows}
    }
    interpolated_windows = []
    for window in windows:
        block = volumes[window.image][index_window(window.box)]
        image = block if examples.ndim == 3 else block[..., 0]
        tensor = torch.from_numpy(np.ascontiguousarray(image, np.float32))
        interpolated_windows.append(tensor.to(window.batch.target.device)[None])
    return interpolated_windows
