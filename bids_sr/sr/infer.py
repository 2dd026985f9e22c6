"""Super-resolve a series volume by volume.

One intensity scale for the whole run, because a scale of each volume's own would divide the global signal, and with it
activity, out of the series. A volume is upsampled on the grid on which it was acquired and then interpolated once, to
where head motion says, on the high-resolution grid of the reference. Memory holds one volume, however long the run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..spatial.resample import Spline, sample_volume
from ..spatial.transforms import hr_grid
from .degrade import Factor, check_factor
from .guides import PosedImage, inject, kspace_low, ratio
from .interpolate import MATRICES, upsample

if TYPE_CHECKING:
    from ..spatial.nifti import SeriesReader, SeriesWriter
    from .model import LoadedModel

Array = NDArray[Any]
Precision = Literal["auto", "fp32", "bf16"]
Consistency = Literal["off", "report", "enforce"]
GUIDED = ("inject", "ratio")
BASELINES = (*MATRICES, *GUIDED)
# slices a batch: enough to keep the cores busy, few enough to stay in their caches
_SLICES = 4


class Upsampler(Protocol):
    """Takes a volume (x, y, z) and its pose (4x4, boldref point to the volume's point) to the volume's fine grid."""

    def __call__(self, volume: Array, pose: Array) -> Array: ...


class InferenceError(ValueError):
    """An upsampler that lacks what it needs, or gives what no image is."""


class NetworkUpsampler:
    """A trained generator applied slice by slice.

    What goes through the scale is only the generator's departure from its plain interpolation, so that an identity
    network returns its input to the last bit.

    Parameters
    ----------
    model : generator, recipe and card
    factor : acquired over wanted voxel size
    scale : the run's intensity that is 1 for the network (99th percentile of the boldref in the mask)
    precision : "auto" is fp32 (TF32 off) on every device: bf16 errs by .7 % of the range, as much as activity
    device, threads : of torch
    """

    def __init__(
        self, model: LoadedModel, factor: Factor, scale: float, precision: Precision, device: str, threads: int
    ) -> None:
        import torch

        if not np.isfinite(scale) or scale <= 0:
            raise InferenceError(f"an intensity scale of {scale} cannot be used: is the mask empty?")
        if factor[2] != 1:
            raise InferenceError(f"a slice-wise network keeps the slices; the factor {factor} asks for thinner ones")
        self.factor, self.scale, self.device = factor, float(scale), device
        self.upsampled_by = model.recipe.upsampled_by
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.generator = model.generator.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def __call__(self, volume: Array, pose: Array) -> Array:
        import torch

        from .patches import upsample_slices

        base = upsample(self.upsampled_by or "zerofill", volume, self.factor)
        stack = np.ascontiguousarray(np.moveaxis(volume, 2, 0)[:, None], dtype=np.float32)
        slices = torch.from_numpy(stack).to(self.device) / self.scale
        plain = upsample_slices(slices, self.factor[:2], self.upsampled_by or "zerofill")
        source = plain if self.upsampled_by else slices
        detail = np.empty((len(slices), *base.shape[:2]), np.float32)
        with torch.inference_mode(), torch.autocast(self.device, self.dtype, enabled=self.dtype != torch.float32):
            for z in range(0, len(slices), _SLICES):
                part = source[z : z + _SLICES].contiguous(memory_format=torch.channels_last)
                change = self.generator(part).float() - plain[z : z + _SLICES]
                detail[z : z + _SLICES] = change[:, 0].cpu().numpy()
        return base + self.scale * np.moveaxis(detail, 0, 2)


def make_upsampler(
    name: str,
    factor: Factor,
    *,
    affine: Array | None = None,
    model: LoadedModel | None = None,
    scale: float = 1.0,
    guide: PosedImage | None = None,
    gain: float = 1.0,
    mean: PosedImage | None = None,
    precision: Precision = "auto",
    device: str = "cpu",
    threads: int = 1,
) -> Upsampler:
    """The upsampler of a series' name.

    Parameters
    ----------
    name : a baseline (`BASELINES`), "raw" (nothing is upsampled), or a method's name together with its model
    factor : acquired over wanted voxel size
    affine : voxel -> RAS mm of the acquired grid; needed by `inject` and `ratio`
    model, scale, precision, device, threads : for a network, see `NetworkUpsampler`
    guide, gain, mean : for `inject` and `ratio`: the fine image, the factor to the run's intensity (`match_gain`), and
        for `ratio` the boldref

    Raises
    ------
    InferenceError : something that the name needs is not there
    """
    factor = check_factor(factor)
    if model is not None:
        return NetworkUpsampler(model, factor, scale, precision, device, threads)
    if name == "raw":
        if factor != (1.0, 1.0, 1.0):
            raise InferenceError(f"the raw series stays on its grid; a factor of {factor} makes no sense for it")
        return lambda volume, pose: volume
    if name in MATRICES:
        return lambda volume, pose: upsample(name, volume, factor)
    if name not in GUIDED:
        raise InferenceError(f"{name} is no baseline ({', '.join(BASELINES)}) and came without a trained model")
    if guide is None or affine is None or (name == "ratio" and mean is None):
        raise InferenceError(f"{name} needs the subject's high-resolution image and its transform to the BOLD")
    source, grid = guide, np.asarray(affine, float)

    def guided(volume: Array, pose: Array) -> Array:
        shape, fine = hr_grid(volume.shape, grid, factor)
        detail = gain * source.seen((int(shape[0]), int(shape[1]), int(shape[2])), fine, pose)
        if name == "inject":
            return inject(volume, detail, factor)
        assert mean is not None
        return ratio(volume, mean.seen(volume.shape, grid, pose), detail, factor, scale)

    return guided


def inconsistency(fine: Array, volume: Array) -> float:
    """|B(fine) - volume| / |volume| over the whole volume: what cropping k-space does not give back, as a fraction."""
    size = float(np.linalg.norm(volume))
    return float(np.linalg.norm(kspace_low(fine, volume.shape) - volume)) / size if size > 0 else 0.0


def enforce(fine: Array, volume: Array, factor: Factor) -> Array:
    """Replace what lies inside the acquired band by what was acquired."""
    return fine + upsample("zerofill", volume - kspace_low(fine, volume.shape), factor)


def super_resolve_series(
    reader: SeriesReader,
    writer: SeriesWriter,
    upsampler: Upsampler,
    xfms: Array,
    hr_shape: tuple[int, int, int],
    hr_affine: Array,
    *,
    factor: Factor,
    spline: Spline | None = None,
    consistency: Consistency = "report",
    progress: Callable[[int, int], None] | None = None,
) -> Array:
    """Upsample each volume where it was acquired, interpolate it once onto the boldref's fine grid, write it.

    Parameters
    ----------
    reader, writer : acquired series in; fine series out
    upsampler : of `make_upsampler`
    xfms : (T, 4, 4), take a boldref point to where it lies in volume t (RAS mm)
    hr_shape, hr_affine : the boldref's fine grid
    factor : acquired over wanted voxel size
    spline : of the one interpolation
    consistency : "report" measures `inconsistency` before motion is undone, "enforce" also removes it, "off" does
        neither
    progress : called with (volumes done, volumes)

    Returns
    -------
    (T,) inconsistency of each volume as a fraction; NaN where it is off

    Raises
    ------
    InferenceError : as many transforms as volumes are needed, and finite images
    """
    count = reader.shape[3]
    if len(xfms) != count:
        raise InferenceError(f"{len(xfms)} transforms for {count} volumes")
    found = np.full(count, np.nan)
    affine = np.asarray(reader.affine, float)
    for t, volume in enumerate(reader.volumes()):
        fine = upsampler(volume, xfms[t])
        if not np.isfinite(fine).all():
            raise InferenceError(f"volume {t}: super-resolution gave values that are not finite")
        if consistency != "off":
            found[t] = inconsistency(fine, volume)
        if consistency == "enforce":
            fine = enforce(fine, volume, factor)
        _, grid = hr_grid(volume.shape, affine, factor)
        writer.append(sample_volume(fine, grid, hr_shape, hr_affine, xfms[t], spline or Spline()))
        if progress is not None:
            progress(t + 1, count)
    return found
