"""Application of trained generators to volumes of a series, slice by slice or volumetrically.

Only the difference between the generator and its interpolation is rescaled to the intensity of the
series, so that an identity network returns exactly the interpolated volume.
"""

import numpy as np
import torch
from torch import Tensor, nn

from bids_sr.io.arrays import Array
from bids_sr.io.notices import InvalidInput
from bids_sr.spatial.matrices import upsample
from bids_sr.sr.inference.upsampler_inputs import Upsampler, UpsamplerInputs
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.networks.architectures.srresnet import SubPixelNet
from bids_sr.sr.networks.inference.sliding_window import apply_in_patches, compute_margin
from bids_sr.sr.networks.training.update_steps import get_memory_format
from bids_sr.sr.operators import upsample_slices
from bids_sr.sr.recipe import Recipe

# voxels processed at once by a slice-wise network, per CPU thread (limited by its cache) and per
# GPU
_MAX_SLICE_VOXELS, _MAX_SLICE_VOXELS_CUDA = 1 << 13, 1 << 14
_WIDE_NETWORK = 64  # smallest number of channels of a wide network
# voxels processed at once by a wide volumetric network (.13 GB per layer of 64 channels)
_MAX_VOLUME_VOXELS = 1 << 19
# largest number of values in the widest layer of another network (.17 GB)
_MAX_LAYER_VALUES = 5 << 23
_PATCH, _OVERLAP, _MARGIN = 64, 24, 8  # voxels, patches of larger volumes (see `apply_in_patches`)


class NetworkUpsampler:
    """Upsampler that applies a generator slice by slice or to volumes.

    Volumes are processed in one piece if memory allows, otherwise in seamless patches. Patches
    compute overlapping voxels repeatedly (about twice in plane if an axis requires three patches).
    A volumetric network on the acquired grid is always applied in one piece. If patches are
    requested, or part of the model's recipe, they have the requested size, and slices are divided
    into patches in plane.

    If the recipe scales each image by its range, each volume is scaled by its own range.

    Networks are applied in fp32 (TF32 off) on every device, because bf16 causes errors of .7 % of
    the intensity range, which is as large as the signal change of activity.

    Raises `InvalidInput` if the intensity scale is not a positive number, if a slice-wise
    network is applied with a factor other than 1 across slices, or if patches are requested for a
    network on the acquired grid.
    """

    def __init__(
        self, model: LoadedModel, inputs: UpsamplerInputs, *, volumetric: bool = False
    ) -> None:
        assert isinstance(model.recipe, Recipe)
        self.scales_by_range = model.recipe.intensity == "range"
        self.in_slices = not volumetric
        self.scale = _compute_scale(model, inputs)
        if inputs.factor[2] != 1 and self.in_slices:
            raise InvalidInput(
                "a slice-wise network does not change the number of slices, so the factor "
                f"across slices must be 1 (got {inputs.factor})"
            )
        self.factor = inputs.factor
        self.device = inputs.device
        self.upsampled_by = model.recipe.upsampled_by
        self.patch = model.recipe.patch_applied if inputs.patch is None else inputs.patch
        self.overlap = inputs.overlap
        if self.patch and self.upsampled_by is None:
            raise InvalidInput(
                f"{model.card.method} cannot be applied patch by patch, because its network "
                "processes whole slices or volumes on the acquired grid"
            )
        channel_order = get_memory_format(2 if self.in_slices else 3)
        self.generator = model.generator.to(self.device, memory_format=channel_order).eval()  # type: ignore[call-overload]
        width = _find_largest_width(model.generator)
        # voxels, largest volume that is processed in one piece
        self.max_voxels = (
            _MAX_VOLUME_VOXELS if width >= _WIDE_NETWORK else _MAX_LAYER_VALUES // width
        )
        torch.set_num_threads(inputs.threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def __call__(self, volume: Array, _pose: Array) -> Array:
        """Upsample a volume (x, y, z)."""
        base = upsample(self.upsampled_by or "zerofill", volume, self.factor)
        with torch.inference_mode():
            compute_detail = self._compute_all_slices if self.in_slices else self._compute_volume
            if not self.scales_by_range:
                return base + self.scale * compute_detail(volume, base)
            lowest = float(volume.min())
            span = float(volume.max()) - lowest
            if not span > 0:  # detail is not added to a constant volume
                return base
            return base + span * compute_detail((volume - lowest) / span, (base - lowest) / span)

    def _compute_all_slices(self, volume: Array, base: Array) -> Array:
        """Return the difference between network and interpolation for all slices (X, Y, Z)."""
        slices = self._to_network_unit(np.moveaxis(volume, 2, 0)[:, None])
        # same memory order as the interpolated volume, so that their addition is fast
        detail = np.empty(base.shape[::-1], np.float32)
        voxels_per_slice = int(np.prod(base.shape[:2] if self.upsampled_by else volume.shape[:2]))
        max_voxels = (
            _MAX_SLICE_VOXELS * torch.get_num_threads()
            if self.device == "cpu"
            else _MAX_SLICE_VOXELS_CUDA
        )
        n_slices = max(1, max_voxels // voxels_per_slice)
        for z in range(0, len(slices), n_slices):
            difference = self._compute_slices(slices[z : z + n_slices])[:, 0]
            detail[z : z + n_slices] = difference.transpose(1, 2).cpu().numpy()
        return detail.T

    def _compute_slices(self, slices: Tensor) -> Tensor:
        """Return the difference of network and interpolation, (Z, 1, x, y) -> (Z, 1, X, Y)."""
        if isinstance(self.generator, SubPixelNet):
            return self.generator.compute_added_detail(_make_channels_innermost(slices)).float()
        interpolated_slices = upsample_slices(
            slices, self.factor[:2], self.upsampled_by or "zerofill"
        )
        if self.patch:
            output = torch.stack([self._apply_in_patches(image) for image in interpolated_slices])
        else:
            source = interpolated_slices if self.upsampled_by else slices
            output = self.generator(_make_channels_innermost(source)).float()
        return output - interpolated_slices

    def _compute_volume(self, volume: Array, base: Array) -> Array:
        """Return the difference between a volumetric network and its interpolation (X, Y, Z)."""
        interpolated_volume = self._to_network_unit(base)
        if self.upsampled_by is None:
            output = self.generator(self._to_network_unit(volume)[None, None])[0, 0]
        elif self.patch:
            output = self._apply_in_patches(interpolated_volume[None])[0]
        elif interpolated_volume.numel() <= self.max_voxels:
            output = self.generator(interpolated_volume[None, None])[0, 0]
        else:
            output = apply_in_patches(
                self.generator,
                interpolated_volume[None],
                patch=_PATCH,
                overlap=_OVERLAP,
                margin=_MARGIN,
            )[0]
        return (output.float() - interpolated_volume).cpu().numpy()

    def _to_network_unit(self, image: Array) -> Tensor:
        """Return an image on the device, in the intensity unit of the network."""
        tensor = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)).to(self.device)
        return tensor if self.scales_by_range else tensor / self.scale

    def _apply_in_patches(self, interpolated_image: Tensor) -> Tensor:
        """Apply the network to an image (1, *grid) in patches of the requested size."""
        assert self.patch

        def apply_generator(patch: Tensor) -> Tensor:
            return self.generator(
                _make_channels_innermost(patch) if self.in_slices else patch
            ).float()

        return apply_in_patches(
            apply_generator,
            interpolated_image,
            patch=self.patch,
            overlap=self.overlap,
            margin=compute_margin(self.overlap),
        )


def _compute_scale(model: LoadedModel, inputs: UpsamplerInputs) -> float:
    """Return the intensity that corresponds to 1 in the network.

    It includes the headroom above the 99th percentile that was used in training. InvalidInput is
    raised if it is not positive and finite.
    """
    headroom = model.card.headroom
    scale = inputs.scale * (1.0 if headroom is None else headroom)
    if not np.isfinite(scale) or scale <= 0:
        raise InvalidInput(
            f"the intensity scale must be positive and finite, got {scale}. Check that the "
            "mask contains voxels with signal."
        )
    return float(scale)


def _find_largest_width(network: nn.Module) -> int:
    """Return the largest number of channels of any convolution; 1 without convolutions."""
    convolutions = [
        module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)
    ]
    return max((max(layer.in_channels, layer.out_channels) for layer in convolutions), default=1)


def _make_channels_innermost(x: Tensor) -> Tensor:
    """Return images (N, C, X, Y) with channels innermost in memory.

    The strides are set explicitly, because they would be ambiguous for a single channel.
    """
    _, channels, rows, columns = x.shape
    strides = (channels * rows * columns, 1, columns * channels, channels)
    return x.contiguous(memory_format=torch.channels_last).as_strided(x.shape, strides)


def network_upsampler(model: LoadedModel, inputs: UpsamplerInputs) -> Upsampler:
    """Return the upsampler of a network, applied by slice or volume as it was trained.

    `inputs` contains grid, intensity and images of the run. InvalidInput is raised for models
    of several contrasts.
    """
    card = model.card
    if card.channels != 1:
        raise InvalidInput(
            f"the model combines {card.channels} contrasts ({card.contrast}), but the series "
            "has only one contrast. Models of several contrasts require --sr-target anat."
        )
    return NetworkUpsampler(model, inputs, volumetric=get_method(card.method).ndim == 3)
