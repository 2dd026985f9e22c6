"""Learned kernels applied to a run, volume by volume, in the pose of the head.

fine volume = zero-filled volume + what the kernels add to the zero-filled change, without its measured band.
The change is the volume minus the run's mean carried into the volume's pose. The detail of the fine anatomy, where
there is some, is not part of the change; it is one image (`constant`) that is added after the volume has been
interpolated to the pose of the reference: carried there and back with every volume it would leave its interpolation
error in the series, and that error moves with the head.

Kernels and gradients of the mean are made for a pose and serve all volumes in which the head lies within a small
tolerance of it. Between, the mean follows the head by its gradient: to first order where the head moved by less than a
tenth of a voxel, which leaves a few thousandths of the contrast at an edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..spatial.distortion import Distortion
from ..spatial.resample import Spline, sample_volume, spline_coefficients
from ..spatial.transforms import displacement, hr_grid
from .degrade import Factor
from .guides import PosedImage
from .levels import Level, level_above, to_slices, to_volume
from .networks.kernelnet import apply_kernels, offsets
from .temporal import TemporalStatistics, filled_sd, guide_channels

Array = NDArray[Any]
TOLERANCE = 0.1  # acquired voxels, rms over the head
_KEPT = 4  # poses whose kernels are kept: a head that nods comes back
_MARGIN = 8  # fine voxels around the mask that get kernels


class Guides:
    """What is static of a run, ready to be seen in any pose.

    Parameters
    ----------
    statistics : of the run, on the acquired grid
    mask : (x, y, z), the brain
    affine : voxel -> RAS mm of that grid
    factor : acquired over wanted voxel size
    anatomy : image of the anatomy (already as smooth as the fine grid wants it), or None: the mean takes its place
    device : of torch
    distortion : of the volumes, which the mean is free of, or None; the anatomy brings its own
    """

    def __init__(
        self, statistics: TemporalStatistics, mask: Array, affine: Array, factor: Factor, anatomy: PosedImage | None,
        device: str = "cpu", distortion: Distortion | None = None,
    ) -> None:  # fmt: skip
        x, y, z = statistics.mean.shape
        self.shape, self.affine = (x, y, z), np.asarray(affine, float)
        self.level: Level = level_above(self.shape, factor, device)
        self.fine, self.fine_affine = hr_grid(self.shape, self.affine, factor)
        self.mask, self.anatomy, self.device = np.asarray(mask) > 0, anatomy, device
        self.mean = PosedImage(data=statistics.mean, affine=self.affine, distortion=distortion)
        components = torch.stack([to_slices(image) for image in statistics.components]).to(device)
        sd = to_volume(filled_sd(components, self.level)) / statistics.sd_unit(self.mask)
        self.sd = PosedImage(data=np.ascontiguousarray(sd), affine=self.fine_affine, distortion=distortion)
        acquired = to_volume(self.level.down(self.static(None)))
        self.unit = float(np.percentile(acquired[self.mask], 99))
        if not np.isfinite(self.unit) or self.unit <= 0:
            raise ValueError("the guide shows nothing inside the mask of the run")

    def static(self, pose: Array | None) -> Tensor:
        """The anatomy on the fine grid in a pose, (Z, X, Y); None is the boldref, without distortion."""
        if self.anatomy is None:
            return self.level.up(to_slices(self.mean.seen(self.shape, self.affine, pose)).to(self.device))
        return to_slices(self.anatomy.seen(self.fine, self.fine_affine, pose)).to(self.device)

    def channels(self, pose: Array | None) -> Tensor:
        """What the network sees in a pose, (5, Z, X, Y)."""
        sd = to_slices(self.sd.seen(self.fine, self.fine_affine, pose)).to(self.device).clamp_min(0)
        return guide_channels(self.static(pose) / self.unit, sd, self.level)


def predict_kernels(net: nn.Module, channels: Tensor) -> Tensor:
    """Taps of what is added to the change, (taps, Z, X, Y)."""
    with torch.inference_mode():
        if getattr(net, "ndim", 2) == 3:
            return net(channels[None])[0]
        return torch.cat([net(channels[:, z][None]) for z in range(channels.shape[1])]).transpose(0, 1).contiguous()


@dataclass(frozen=True, kw_only=True)
class _Anchor:
    """What was made for one pose: taps inside the box, the mean there, its gradient along the voxel axes."""

    pose: Array
    taps: Tensor
    mean: Array
    gradient: tuple[Array, Array, Array]


class GuidedUpsampler:
    """Zero filling plus what the kernels add to the change; see the module.

    Parameters
    ----------
    net : gives taps for guides
    guides : of the run
    constant : fine image on the boldref's fine grid that is added after the interpolation, or None
    tolerance : movement in acquired voxels (rms over the head) after which kernels are made anew
    """

    def __init__(
        self, net: nn.Module, guides: Guides, *, constant: Array | None = None, tolerance: float = TOLERANCE
    ) -> None:
        self.net, self.guides, self.constant, self.tolerance = net.to(guides.device), guides, constant, tolerance
        self.ndim = int(getattr(net, "ndim", 2))
        self.anchors = 0
        hit = [np.flatnonzero(guides.mask.any(tuple(a for a in range(3) if a != axis))) for axis in range(3)]
        corners = np.stack(np.meshgrid(*[[h[0], (h[0] + h[-1]) / 2, h[-1]] for h in hit], indexing="ij"), -1)
        self._points = corners.reshape(-1, 3) @ guides.affine[:3, :3].T + guides.affine[:3, 3]
        self._voxel = float(np.sqrt((guides.affine[:3, :3] ** 2).sum(0)).min())
        scale = [n / m for n, m in zip(guides.fine, guides.shape, strict=True)]
        self._box = tuple(
            slice(max(0, int(h[0] * s) - _MARGIN), min(n, int((h[-1] + 1) * s) + 1 + _MARGIN))
            for h, s, n in zip(hit, scale, guides.fine, strict=True)
        )
        self._kept: list[_Anchor] = []  # the one used last stands last

    def moved(self, pose: Array) -> float:
        """How far the head lies from the nearest pose for which there are kernels, in acquired voxels, rms."""
        return min((self._away(kept, pose) for kept in self._kept), default=np.inf)

    def _away(self, kept: _Anchor, pose: Array) -> float:
        return float(np.sqrt((displacement(pose, kept.pose, self._points) ** 2).mean())) / self._voxel

    def anchor(self, pose: Array) -> _Anchor:
        """What belongs to a pose: made anew where the head is farther than the tolerance from all that are kept."""
        if self._kept and self.moved(pose) <= self.tolerance:
            nearest = min(range(len(self._kept)), key=lambda i: self._away(self._kept[i], pose))
            found = self._kept.pop(nearest)
        else:
            x, y, z = self._box
            taps = predict_kernels(self.net, self.guides.channels(pose)[:, z, x, y])
            mean = self.guides.mean.seen(self.guides.shape, self.guides.affine, pose)
            found = _Anchor(pose=np.array(pose), taps=taps, mean=mean, gradient=_gradient(mean))
            self.anchors += 1
        self._kept = [*self._kept[-(_KEPT - 1) :], found]
        return found

    def change(self, volume: Array, pose: Array) -> Array:
        """The volume minus the run's mean in its pose, (x, y, z)."""
        at = self.anchor(pose)
        affine = self.guides.affine
        step = np.linalg.inv(affine) @ at.pose @ np.linalg.inv(pose) @ affine - np.eye(4)
        out = np.subtract(volume, at.mean, dtype=np.float32)
        if np.abs(step).max() > 1e-7:
            x, y, z = (np.arange(n, dtype=np.float32) for n in volume.shape)
            for row, slope in zip(step[:3].astype(np.float32), at.gradient, strict=True):
                way = (row[0] * x)[:, None, None] + (row[1] * y)[:, None] + (row[2] * z + row[3])
                way *= slope
                out -= way
        return out

    def _added(self, change: Array, pose: Array) -> Tensor:
        """What the kernels add to the zero-filled change, with its measured band still in it."""
        x, y, z = self._box
        level = self.guides.level
        filled = level.up(to_slices(change).to(self.guides.device))[z, x, y]
        out = torch.zeros(level.fine[2], *level.fine[:2], device=filled.device)
        out[z, x, y] = _applied(filled, self.anchor(pose).taps, self.ndim)
        return out

    def detail(self, change: Array, pose: Array) -> Tensor:
        """What is added to the zero-filled volume, (Z, X, Y): linear in the change, nothing of the measured band."""
        with torch.inference_mode():
            return self.guides.level.beyond(self._added(change, pose))

    def __call__(self, volume: Array, pose: Array) -> Array:
        level = self.guides.level
        with torch.inference_mode():
            added = self._added(self.change(volume, pose), pose)
            left = to_slices(volume).to(added.device) - level.down(added)  # one way up serves volume and projection
            return to_volume(added.add_(level.up(left)))


def _applied(filled: Tensor, taps: Tensor, ndim: int) -> Tensor:
    """Kernels (taps, Z, X, Y) applied to an image (Z, X, Y)."""
    if ndim == 3:
        return apply_kernels(filled[None, None], taps[None])[0, 0]
    padded = torch.nn.functional.pad(filled[None], (1, 1, 1, 1), mode="replicate")[0]
    rows, columns = filled.shape[-2:]
    out = torch.empty_like(filled)
    for image, kernels, into in zip(padded, taps.unbind(1), out, strict=True):  # a slice at a time stays in the cache
        steps = offsets(2)
        torch.mul(kernels[0], image[:rows, :columns], out=into)
        for tap, (i, j) in zip(kernels[1:], steps[1:], strict=True):
            into.addcmul_(tap, image[1 + i : 1 + i + rows, 1 + j : 1 + j + columns])
    return out


def _gradient(image: Array) -> tuple[Array, Array, Array]:
    """Derivative of the spline through an image along its voxel axes, a unit a voxel."""
    coefficients = spline_coefficients(image)
    out = []
    for axis in range(3):
        shift = np.eye(4)
        shift[axis, 3] = 0.25
        ahead, behind = (
            sample_volume(image, np.eye(4), image.shape, np.eye(4), xfm, Spline(), coefficients)
            for xfm in (shift, np.linalg.inv(shift))
        )
        out.append(2 * (ahead - behind))
    return out[0], out[1], out[2]


def kernel_maps(taps: Tensor) -> Array:
    """Where kernels sharpen, and along what: (X, Y, Z, 4) of taps (9 or 27, Z, X, Y).

    From the in-plane second moments M of what the kernel adds (fine voxels squared): sharpening is -(Mxx + Myy)/2,
    above 0 where neighbors are subtracted; anisotropy is half the difference of the eigenvalues of M; then cosine and
    sine of twice the angle, against the first axis, of the direction along which the kernel averages most (sharpens
    least).
    """
    steps = torch.tensor(offsets(2 if len(taps) == 9 else 3), dtype=taps.dtype, device=taps.device)[:, -2:]
    xx, yy, xy = (
        torch.einsum("t,t...->...", weight, taps)
        for weight in (steps[:, 0] ** 2, steps[:, 1] ** 2, steps[:, 0] * steps[:, 1])
    )
    half = (xx - yy) / 2
    anisotropy = torch.hypot(half, xy)
    safe = anisotropy.clamp_min(1e-12)
    maps = torch.stack([-(xx + yy) / 2, anisotropy, half / safe, xy / safe], -1)
    return np.moveaxis(maps.cpu().numpy(), 0, 2)
