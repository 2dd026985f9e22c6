"""Trained generators applied to volumes of a series, slice by slice or volumetric.

What goes through the intensity scale is only the generator's departure from its plain
interpolation, so that an identity network returns its input to the last bit.
"""

import numpy as np
import torch
from torch import Tensor

from bids_sr.io.array_types import Array
from bids_sr.sr.inference.acquired import InferenceError, Upsampler, UpsamplerInputs
from bids_sr.sr.inference.cpu_optimized import channels_innermost, optimize_for_cpu, widest
from bids_sr.sr.inference.sliding_window import apply_in_patches
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.networks.residual2d import SubPixelNet
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.resolution.matrices import upsample
from bids_sr.sr.resolution.operators import upsample_slices
from bids_sr.sr.training.update_steps import channels_last

# voxels of a slice-wise network's grid that go through it at once: few enough for the cache of
# each thread, and enough for a GPU
_AT_ONCE, _AT_ONCE_CUDA = 1 << 13, 1 << 14
# voxels that go through a volumetric network at once: a layer of 64 channels then takes .13 GB
_VOLUME_AT_ONCE = 1 << 19
# for narrower networks, values of what their widest layer reads or makes: .17 GB
_VALUES_AT_ONCE = 5 << 23
_PATCH, _OVERLAP, _MARGIN = 64, 24, 8


class NetworkUpsampler(Upsampler):
    """A generator applied slice by slice, or to volumes.

    Volumes are taken in one piece where memory allows, else in patches without seams, which would
    be computed again where they overlap (twice over in the plane where an axis takes three). A
    volumetric network on the acquired grid is always applied in one piece.

    Raises MaskError for a scale that is no positive number, ResolutionError for thinner slices of
    a slice-wise network.

    `acquired`: precision "auto" is fp32 (TF32 off) on every device: bf16 errs by .7 % of the
    range, as much as activity.
    """

    def __init__(
        self, model: LoadedModel, acquired: UpsamplerInputs, *, volumetric: bool = False
    ) -> None:
        self.volumetric = volumetric
        factor, device, headroom = acquired.factor, acquired.device, model.card.headroom
        # a network that was trained on images whose largest value was 1 gets as much headroom here
        scale = acquired.scale * (1.0 if headroom is None else headroom)
        if not np.isfinite(scale) or scale <= 0:
            raise InferenceError(
                f"an intensity scale of {scale} cannot be used: is the mask empty?"
            )
        if factor[2] != 1 and not self.volumetric:
            raise InferenceError(
                f"a slice-wise network keeps the slices; the factor {factor} asks for thinner ones"
            )
        self.factor, self.scale, self.device = factor, float(scale), device
        assert isinstance(model.recipe, Recipe)
        self.upsampled_by, self.lower = model.recipe.upsampled_by, acquired.precision == "bf16"
        if device == "cpu" and not self.lower:
            self.generator = optimize_for_cpu(model.generator)
        else:
            order = channels_last(3 if self.volumetric else 2)
            self.generator = model.generator.to(device, memory_format=order)  # type: ignore[call-overload]
        width = widest(model.generator)
        # voxels of a volume in one piece
        self.at_once = _VOLUME_AT_ONCE if width >= 64 else _VALUES_AT_ONCE // width
        torch.set_num_threads(acquired.threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def __call__(self, volume: Array, pose: Array) -> Array:
        base = upsample(self.upsampled_by or "zerofill", volume, self.factor)
        with (
            torch.inference_mode(),
            torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.lower),
        ):
            departure = self._of_volume if self.volumetric else self._of_all_slices
            return base + self.scale * departure(volume, base)

    def _scaled(self, image: Array) -> Tensor:
        return (
            torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)).to(self.device)
            / self.scale
        )

    def _of_all_slices(self, volume: Array, base: Array) -> Array:
        """Return what the network adds to an interpolated volume, (X, Y, Z) on its scale."""
        slices = self._scaled(np.moveaxis(volume, 2, 0)[:, None])
        # in memory as the interpolated volume, to which it is added
        detail = np.empty(base.shape[::-1], np.float32)
        size = int(np.prod(base.shape[:2] if self.upsampled_by else volume.shape[:2]))
        on_cpu = self.device == "cpu"
        step = max(1, (_AT_ONCE * torch.get_num_threads() if on_cpu else _AT_ONCE_CUDA) // size)
        for z in range(0, len(slices), step):
            made = self._of_slices(slices[z : z + step])[:, 0]
            detail[z : z + step] = made.transpose(1, 2).cpu().numpy()
        return detail.T

    def _of_slices(self, slices: Tensor) -> Tensor:
        """The departure, (Z, 1, x, y) -> (Z, 1, X, Y)."""
        if isinstance(self.generator, SubPixelNet):
            return self.generator.departure(channels_innermost(slices)).float()
        plain = upsample_slices(slices, self.factor[:2], self.upsampled_by or "zerofill")
        return (
            self.generator(channels_innermost(plain if self.upsampled_by else slices)).float()
            - plain
        )

    def _of_volume(self, volume: Array, base: Array) -> Array:
        """The same of a volumetric network."""
        plain = self._scaled(base)
        if self.upsampled_by is None:
            made = self.generator(self._scaled(volume)[None, None])[0, 0]
        elif plain.numel() <= self.at_once:
            made = self.generator(plain[None, None])[0, 0]
        else:
            made = apply_in_patches(
                self.generator, plain[None], patch=_PATCH, overlap=_OVERLAP, margin=_MARGIN
            )[0]
        return (made.float() - plain).cpu().numpy()


def network_upsampler(model: LoadedModel, acquired: UpsamplerInputs) -> Upsampler:
    """Return the upsampler of a network, by slice or volume, with its training scale.

    `acquired`: grid, intensity and images of the run that upsamplers need.
    """
    card = model.card
    if card.channels != 1:
        raise InferenceError(
            f"the model fuses {card.channels} contrasts ({card.contrast}), and a series has one:"
            " see --sr-target"
        )
    volumetric = card.method != "" and get_method(card.method).ndim == 3
    return NetworkUpsampler(model, acquired, volumetric=volumetric)
