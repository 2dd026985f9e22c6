"""Trained generators applied to volumes of a series, slice by slice or volumetric.

What goes through the intensity scale is only the generator's departure from its plain
interpolation, so that an identity network returns its input to the last bit.

Sliding-window inference: a network on an image too large for it, patch by patch, without seams.

Along each axis a patch fades out over the overlap with its neighbor; the weights of all patches
sum to 1 at every voxel. The outermost voxels of a patch, where the network's padding shows, can be
left out (`margin`), but not at the image's own border. The rule for blending is ours.

CPU-optimized copies of trained networks for inference.

- A convolution fills a processor's registers with output channels, sixteen at a time. The last one
  of `SRResNet` has one: here it makes a square of 4 x 4 neighboring voxels at once, as sixteen
  channels of a larger kernel with stride 4 (a seventh of the time for 9 x 9).
- A dense layer, which would copy all earlier ones into one image first, is the sum of one
  convolution for each of them.

Values are those of the plain network but for rounding.

Attention masks of a network's gates, and Grad-CAM of its critic.

Neither is proof: a mask says how much of a skip went through, Grad-CAM which places raised a
score.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_sr.io.grids import Array
from bids_sr.sr.inference.acquired import InferenceError, Upsampler, UpsamplerInputs
from bids_sr.sr.matrices import ResolutionError, upsample
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.networks.convolutional import (
    Critic,
    DenseResidualNet,
    SRResNet,
    SubPixelNet,
)
from bids_sr.sr.networks.unet_generator import AttentionGate, ResidualBlock3d
from bids_sr.sr.operators import upsample_slices
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.training.optimization import channels_last


def apply_in_patches(
    network: Callable[[Tensor], Tensor],
    volume: Tensor,
    *,
    patch: int | Sequence[int],
    overlap: int,
    margin: int = 0,
) -> Tensor:
    """What the network gives for a whole image, computed in patches.

    `network`: takes (1, C, *patch) to (1, C_out, *patch). `volume`: (C, *grid), two or three axes.
    `patch`: side of the patches (voxels), or one side per axis; at most the whole axis. `overlap`:
    voxels that neighbors share at least; less than the patch. `margin`: voxels at the inner edges
    of every patch that do not count, less than half the overlap; with the radius of the network's
    receptive field the result is that for the whole image.
    """
    grid = volume.shape[1:]
    sides = (patch,) * len(grid) if isinstance(patch, int) else tuple(patch)[: len(grid)]
    out: Tensor | None = None
    with torch.no_grad():
        axes = (
            _tiles(n, min(side, n), overlap, margin) for n, side in zip(grid, sides, strict=True)
        )
        for place in product(*axes):
            box = (slice(None), *(part for part, _ in place))
            made = network(volume[box][None])[0]
            if made.shape[1:] != volume[box].shape[1:]:
                raise ResolutionError(
                    f"the network returned an array of shape {tuple(made.shape[1:])} for a "
                    f"patch of shape {tuple(volume[box].shape[1:])}; both shapes must be equal"
                )
            if out is None:
                # sums of many weighted patches err by more than 1e-6 in single precision
                out = torch.zeros((len(made), *grid), dtype=torch.float64, device=volume.device)
                kind = made.dtype
            result = made.to(out)
            for axis, (_, weights) in enumerate(place):
                result = result * weights.to(result).reshape([-1] + [1] * (len(grid) - axis - 1))
            out[box] += result
    assert out is not None
    return out.to(kind)


def margin_of(overlap: int) -> int:
    """Return the voxels at the inner edges of a patch that do not count, given the overlap.

    Nearly half the overlap, so that the inner parts of neighbors meet: two voxels at most are the
    mean of both.

    >>> [margin_of(overlap) for overlap in (0, 1, 4, 16)]
    [0, 0, 1, 7]
    """
    return max(0, (overlap - 1) // 2)


def _patch_starts(n: int, side: int, overlap: int) -> list[int]:
    """Return evenly spread patch starts on an axis of n voxels, with at least the overlap."""
    if side >= n:
        return [0]
    if overlap >= side:
        raise ResolutionError(
            f"the overlap between patches must be smaller than the patch size ({side} voxels), "
            f"got {overlap}"
        )
    count = -(-(n - side) // (side - overlap))
    return [(n - side) * k // count for k in range(count + 1)]


def _tiles(n: int, side: int, overlap: int, margin: int) -> list[tuple[slice, Tensor]]:
    """Return (voxels, weights) of each patch of an axis; weights sum to 1."""
    if overlap < 0 or margin < 0 or (side < n and overlap <= 2 * margin and margin > 0):
        raise ResolutionError(
            f"the overlap between patches must exceed the sum of both margins ({margin} voxels "
            f"on each side), got {overlap}"
        )
    at = torch.arange(side, dtype=torch.float64) + 0.5
    ramp = max(overlap - 2 * margin, 1e-9)
    total = torch.zeros(n, dtype=torch.float64)
    windows = []
    for start in _patch_starts(n, side, overlap):
        part = slice(start, start + side)
        window = torch.ones(side, dtype=torch.float64)
        if start > 0:
            window = window * ((at - margin) / ramp).clamp(0, 1)
        if part.stop < n:
            window = window * ((side - at - margin) / ramp).clamp(0, 1)
        windows.append((part, window))
        total[part] += window
    return [(part, window / total[part]) for part, window in windows]


def optimize_for_cpu(network: nn.Module) -> nn.Module:
    """Return a faster CPU copy of a network in evaluation mode, with channels innermost."""
    changed = _changed(copy.deepcopy(network).to("cpu")).eval().requires_grad_(False)
    for module in changed.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        elif isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return changed


def channels_innermost(x: Tensor) -> Tensor:
    """Return (N, C, X, Y) with channels innermost in memory.

    Its strides say so too where one channel leaves that open.
    """
    _, channels, rows, columns = x.shape
    x = x.contiguous(memory_format=torch.channels_last)
    return x.as_strided(x.shape, (channels * rows * columns, 1, columns * channels, channels))


def widest(network: nn.Module) -> int:
    """The most channels that a convolution of a network reads or writes; 1 where it has none."""
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    return max((max(m.in_channels, m.out_channels) for m in layers), default=1)


def _changed(module: nn.Module) -> nn.Module:
    """The module, or what stands for it, with its parts changed likewise."""
    if isinstance(module, ResidualBlock3d):
        return _Block3d(module)
    if isinstance(module, DenseResidualNet):
        return _Dense(module)
    if isinstance(module, SRResNet) and module.tail.out_channels == 1:
        module.tail = _SquareTail(module.tail)  # type: ignore[assignment]
    for name, part in module.named_children():
        setattr(module, name, _changed(part))
    return module


class _Block3d(nn.Module):
    """`ResidualBlock3d`."""

    def __init__(self, block: ResidualBlock3d) -> None:
        super().__init__()
        self.first, _, self.second, _ = block.layers

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu_()).relu_().add_(x)


class _Dense(nn.Module):
    """`DenseResidualNet`, with half its memory."""

    def __init__(self, net: DenseResidualNet) -> None:
        super().__init__()
        width = net.head.out_channels
        self.head = net.head
        self.layers = nn.ModuleList(_split(layer, width) for layer in net.body)
        self.tail = _split(net.tail, width)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.head(x).relu_()]
        for parts in self.layers:
            features.append(_summed(parts, features).relu_())
        return _summed(self.tail, features).add_(x)


class _SquareTail(nn.Module):
    """Two-dimensional convolution to one channel with an odd, square kernel."""

    _SIDE = 4  # voxels of the square

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        side = self._SIDE
        assert layer.bias is not None
        self.margin = layer.kernel_size[0] // 2
        moves = product(range(side), repeat=2)
        kernels = [
            functional.pad(layer.weight[0], (y, side - 1 - y, x, side - 1 - x)) for x, y in moves
        ]
        weight = torch.stack(kernels).contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(layer.bias.expand(side * side).clone())

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = x.shape[2:]
        side, margin = self._SIDE, self.margin
        if rows % side or columns % side:
            x = functional.pad(x, (0, -columns % side, 0, -rows % side))
        squares = functional.conv2d(x, self.weight, self.bias, side, margin)
        return functional.pixel_shuffle(squares, side)[:, :, :rows, :columns]


def _split(layer: nn.Module, width: int) -> nn.ModuleList:
    """Split a convolution into one for each `width` input channels.

    The convolution is their sum; the first has the bias.
    """
    assert isinstance(layer, nn.Conv3d)
    parts: list[nn.Module] = []
    for first in range(0, layer.in_channels, width):
        part = nn.Conv3d(width, layer.out_channels, layer.kernel_size, padding=1, bias=not first)  # type: ignore[arg-type]
        part.weight = nn.Parameter(layer.weight[:, first : first + width].detach())
        if not first:
            part.bias = layer.bias
        parts.append(part)
    return nn.ModuleList(parts)


def _summed(parts: nn.Module, features: Sequence[Tensor]) -> Tensor:
    """The sum of each part of what it reads."""
    first, *others = parts.children()
    out = first(features[0])
    for part, seen in zip(others, features[1:], strict=True):
        out.add_(part(seen))
    return out


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
    volumetric network on the acquired grid is always applied in one piece. If patches are
    requested, or are part of the model's recipe, they are of the requested size, and slices are
    divided into patches in plane.

    If the recipe scales each image to its range, each volume is scaled to its own.

    Raises InferenceError for a scale that is no positive number, for thinner slices of a
    slice-wise network, and for patches of a network on the acquired grid.

    `acquired`: precision "auto" is fp32 (TF32 off) on every device: bf16 errs by .7 % of the
    range, as much as activity.
    """

    def __init__(
        self, model: LoadedModel, acquired: UpsamplerInputs, *, volumetric: bool = False
    ) -> None:
        assert isinstance(model.recipe, Recipe)
        self.by_range = model.recipe.intensity == "range"
        # the range is that of a whole volume
        self.volumetric = volumetric or self.by_range
        self.in_slices = not volumetric
        factor, device, headroom = acquired.factor, acquired.device, model.card.headroom
        # a network that was trained on images whose largest value was 1 gets as much headroom here
        scale = acquired.scale * (1.0 if headroom is None else headroom)
        if not np.isfinite(scale) or scale <= 0:
            raise InferenceError(
                f"the intensity scale must be positive and finite, got {scale}. Check that the "
                "mask contains voxels with signal."
            )
        if factor[2] != 1 and self.in_slices:
            raise InferenceError(
                "a slice-wise network does not change the number of slices, so the factor "
                f"across slices must be 1 (got {factor})"
            )
        self.factor = factor
        self.scale = float(scale)
        self.device = device
        self.upsampled_by = model.recipe.upsampled_by
        self.patch = model.recipe.patch_applied if acquired.patch is None else acquired.patch
        self.overlap = acquired.overlap
        if self.patch and self.upsampled_by is None:
            raise InferenceError(
                f"{model.card.method} cannot be applied patch by patch, because its network "
                "processes whole slices or volumes on the acquired grid"
            )
        self.lower = acquired.precision == "bf16"
        if device == "cpu" and not self.lower:
            self.generator = optimize_for_cpu(model.generator)
        else:
            order = channels_last(2 if self.in_slices else 3)
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
            departure = self._of_all_slices if self.in_slices else self._of_volume
            if not self.by_range:
                return base + self.scale * departure(volume, base)
            low = float(volume.min())
            span = float(volume.max()) - low
            if not span > 0:  # nothing to add to a constant volume
                return base
            return base + span * departure((volume - low) / span, (base - low) / span)

    def _scaled(self, image: Array) -> Tensor:
        on_device = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)).to(self.device)
        return on_device if self.by_range else on_device / self.scale

    def _in_patches(self, plain: Tensor) -> Tensor:
        """Apply the network to an image (1, *grid) in patches of the requested size."""
        assert self.patch

        def network(part: Tensor) -> Tensor:
            return self.generator(channels_innermost(part) if self.in_slices else part).float()

        return apply_in_patches(
            network,
            plain,
            patch=self.patch,
            overlap=self.overlap,
            margin=margin_of(self.overlap),
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
        if self.patch:
            return torch.stack([self._in_patches(image) for image in plain]) - plain
        return (
            self.generator(channels_innermost(plain if self.upsampled_by else slices)).float()
            - plain
        )

    def _of_volume(self, volume: Array, base: Array) -> Array:
        """The same of a volumetric network."""
        plain = self._scaled(base)
        if self.upsampled_by is None:
            made = self.generator(self._scaled(volume)[None, None])[0, 0]
        elif self.patch:
            made = self._in_patches(plain[None])[0]
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
            f"the model combines {card.channels} contrasts ({card.contrast}), but the series "
            "has only one contrast. Models of several contrasts require --sr-target anat."
        )
    volumetric = card.method != "" and get_method(card.method).ndim == 3
    return NetworkUpsampler(model, acquired, volumetric=volumetric)


def attention_masks(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Return masks of all attention gates for images (N, C, X, Y), low to high resolution.

    For each gate (N, 1, X, Y) between 0 and 1, interpolated to the size of the images; none
    without `AttentionGate`s.

    Source: attention_unet, sections 3.7 and 4.7.

    `network`: network from images to images, with or without gates. `images`: images that the
    network is given (N, C, X, Y).
    """
    seen: list[Tensor] = []

    def keep(gate: nn.Module, inputs: tuple[Tensor, ...], _out: Tensor) -> None:
        assert isinstance(gate, AttentionGate)
        seen.append(gate.mask(*inputs))

    was_training = network.training
    network.eval()
    with ExitStack() as hooks, torch.no_grad():
        for module in network.modules():
            if isinstance(module, AttentionGate):
                hooks.callback(module.register_forward_hook(keep).remove)
        network(images)
    network.train(was_training)
    (rows, columns), size = seen[-1].shape[-2:] if seen else (0, 0), images.shape[-2:]
    # the images lie in the middle of the padded ones
    x, y = (rows - size[0]) // 2, (columns - size[1]) // 2
    full = (
        functional.interpolate(m, size=(rows, columns), mode="bilinear", align_corners=False)
        for m in seen
    )
    return tuple(mask[..., x : x + size[0], y : y + size[1]] for mask in full)


def grad_cam(critic: nn.Module, images: Tensor) -> Tensor:
    """Return the Grad-CAM of a critic, (N, 1, X, Y), from 0 up.

    It shows where its convolutional features speak for a high score.

    In units of the score, which is taken before the sigmoid, whose slope vanishes where the critic
    is sure; interpolated to the size of the images (N, C, X, Y). ValueError for a network that is
    no `Critic`.

    Source: Selvaraju et al. 2017, equations 1 and 2; attention_unet, sections 3.7 and 4.8.
    """
    if not isinstance(critic, Critic):
        raise ValueError(
            f"Grad-CAM requires a network of type Critic, got {type(critic).__name__}"
        )
    kept: list[Tensor] = []
    was_training = critic.training
    critic.eval()
    hook = critic.features.register_forward_hook(lambda _module, _inputs, out: kept.append(out))
    try:
        with torch.enable_grad():
            score = critic(images.detach().requires_grad_(True)).flatten(1).mean(1).sum()
            slope = torch.autograd.grad(score, kept[0])[0]
    finally:
        hook.remove()
        critic.train(was_training)
    weight = slope.mean(dim=(-2, -1), keepdim=True)
    found = torch.relu((weight * kept[0]).sum(1, keepdim=True)).detach()
    return functional.interpolate(
        found, size=images.shape[-2:], mode="bilinear", align_corners=False
    )
