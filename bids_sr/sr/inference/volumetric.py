"""A trained generator on whole volumes: in one piece where memory allows, else in patches without seams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from bids_sr.sr.inference.cpu_optimized import lean, widest
from bids_sr.sr.inference.sliding_window import apply_in_patches
from bids_sr.sr.resolution.degradation import Factor
from bids_sr.sr.resolution.interpolation import upsample

if TYPE_CHECKING:
    from bids_sr.sr.models.model import LoadedModel

Array = NDArray[Any]
# voxels that go through a network at once: a layer of 64 channels then takes .13 GB
_AT_ONCE = 1 << 19
# for narrower networks, values of what their widest layer reads or makes: .17 GB
_VALUES_AT_ONCE = 5 << 23
_PATCH, _OVERLAP, _MARGIN = 64, 24, 8


class VolumeUpsampler:
    """A generator in three dimensions.

    What goes through the scale is only the generator's departure from its plain interpolation, as for slices
    (`infer.NetworkUpsampler`).

    Parameters
    ----------
    model : generator, recipe and card
    factor : acquired over wanted voxel size
    scale : the run's intensity that is 1 for the network
    lower : compute in bf16
    device, threads : of torch
    at_once : voxels up to which a volume is not cut into patches; by default as many as the network's width allows,
        and no fewer than with 64 channels
    """

    volumetric = True

    def __init__(
        self, model: LoadedModel, factor: Factor, scale: float, lower: bool, device: str, threads: int,
        *, at_once: int | None = None,
    ) -> None:  # fmt: skip
        self.factor, self.scale, self.device = factor, float(scale), device
        self.upsampled_by, self.lower = model.recipe.upsampled_by, lower
        self.at_once = _in_one_piece(widest(model.generator)) if at_once is None else at_once
        if device == "cpu" and not lower:
            self.generator = lean(model.generator)
        else:
            self.generator = model.generator.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def __call__(self, volume: Array, pose: Array) -> Array:
        base = upsample(self.upsampled_by or "zerofill", volume, self.factor)
        plain = torch.from_numpy(np.ascontiguousarray(base, np.float32)).to(self.device) / self.scale
        source = plain
        if self.upsampled_by is None:
            source = torch.from_numpy(np.ascontiguousarray(volume, np.float32)).to(self.device) / self.scale
        with torch.inference_mode(), torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.lower):
            change = self._made(source).float() - plain
        return base + self.scale * change.cpu().numpy()

    def _made(self, source: torch.Tensor) -> torch.Tensor:
        """(x, y, z) through the generator, in patches where it is too large."""
        if source.numel() <= self.at_once:
            return self.generator(source[None, None])[0, 0]
        step = (1.0, 1.0, 1.0) if self.upsampled_by is not None else self.factor
        return apply_in_patches(
            self.generator, source[None], patch=_PATCH, overlap=_OVERLAP, margin=_MARGIN, factor=step, batch=1
        )[0]


def _in_one_piece(width: int) -> int:
    """Voxels up to which a volume is not cut for a network that has layers of so many channels.

    A patch of it is computed again where it overlaps others: twice over in the plane where an axis takes three.
    """
    return _AT_ONCE if width >= 64 else _VALUES_AT_ONCE // width
