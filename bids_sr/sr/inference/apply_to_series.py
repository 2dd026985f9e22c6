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

from bids_sr.series import INTERPOLATIONS, PAIR_BASELINES
from bids_sr.spatial.resampling import Spline, sample_volume
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.inference.guided_baselines import PosedImage, inject, ratio
from bids_sr.sr.resolution.degradation import Factor, apply_along, block_matrix, check_factor, downsample
from bids_sr.sr.resolution.interpolation import MATRICES, matrix_for, upsample

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bids_sr.io.nifti import SeriesReader, SeriesWriter
    from bids_sr.spatial.distortion import Distortion
    from bids_sr.sr.data.temporal_components import TemporalStatistics
    from bids_sr.sr.models.model import LoadedModel

Array = NDArray[Any]
Precision = Literal["auto", "fp32", "bf16"]
Consistency = Literal["off", "report", "enforce"]
# voxels of the network's grid that go through it at once: enough to keep the cores busy, few enough for their caches
_AT_ONCE = 1 << 14


class Upsampler(Protocol):
    """Takes a volume (x, y, z) and its pose (4x4, boldref point to the volume's point) to the volume's fine grid.

    One that has a `constant`, an image on the boldref's fine grid, wants it added after the interpolation.
    """

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
        self.generator = _made_for(model.generator, device, self.dtype)
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def __call__(self, volume: Array, pose: Array) -> Array:
        import torch

        base = upsample(self.upsampled_by or "zerofill", volume, self.factor)
        slices = torch.from_numpy(np.ascontiguousarray(np.moveaxis(volume, 2, 0)[:, None], dtype=np.float32))
        slices = slices.to(self.device) / self.scale
        detail = np.empty((len(slices), *base.shape[:2]), np.float32)
        voxels = int(np.prod(base.shape[:2] if self.upsampled_by else volume.shape[:2]))
        step = max(1, _AT_ONCE // voxels)
        with torch.inference_mode(), torch.autocast(self.device, self.dtype, enabled=self.dtype != torch.float32):
            for z in range(0, len(slices), step):
                detail[z : z + step] = self._departure(slices[z : z + step]).cpu().numpy()[:, 0]
        detail *= self.scale
        return base + np.moveaxis(detail, 0, 2)

    def _departure(self, slices: Tensor) -> Tensor:
        """What the network adds to the interpolation, (Z, 1, x, y) -> (Z, 1, X, Y) on the network's scale."""
        from bids_sr.sr.data.patches import upsample_slices
        from bids_sr.sr.inference.cpu_optimized import channels_innermost

        own = getattr(self.generator, "departure", None)
        if own is not None and self.upsampled_by is None:
            return own(channels_innermost(slices)).float()
        plain = upsample_slices(slices, self.factor[:2], self.upsampled_by or "zerofill")
        return self.generator(channels_innermost(plain if self.upsampled_by else slices)).float() - plain


def _made_for(generator: nn.Module, device: str, dtype: Any) -> nn.Module:
    """A generator as it is applied fastest, to the same values: on a processor in full precision without copies."""
    import torch

    from bids_sr.sr.inference.cpu_optimized import lean

    if device == "cpu" and dtype == torch.float32:
        return lean(generator)
    return generator.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _network(
    model: LoadedModel, factor: Factor, scale: float, precision: Precision, device: str, threads: int
) -> Upsampler:
    """The upsampler of a network, slice by slice or of volumes, with the scale on which it was trained."""
    from bids_sr.sr.method import get_method

    card = model.card
    if card.channels != 1:
        raise InferenceError(
            f"the model fuses {card.channels} contrasts ({card.contrast}), and a series has one: see --sr-target"
        )
    # a network that was trained on images whose largest value was 1 gets as much headroom here
    scale *= 1.0 if card.headroom is None else card.headroom
    if card.method and get_method(card.method).ndim == 3:
        from bids_sr.sr.inference.volumetric import VolumeUpsampler

        if not np.isfinite(scale) or scale <= 0:
            raise InferenceError(f"an intensity scale of {scale} cannot be used: is the mask empty?")
        return VolumeUpsampler(model, factor, scale, precision == "bf16", device, threads)
    return NetworkUpsampler(model, factor, scale, precision, device, threads)


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
    statistics: TemporalStatistics | None = None,
    mask: Array | None = None,
    precision: Precision = "auto",
    device: str = "cpu",
    threads: int = 1,
    distortion: Distortion | None = None,
    displace: str = "",
) -> Upsampler:
    """The upsampler of a series' name.

    Parameters
    ----------
    name : a baseline but `sdmod`, "raw" (nothing is upsampled), or a method's name together with its model
    factor : acquired over wanted voxel size
    affine : voxel -> RAS mm of the acquired grid; needed by `inject`, `ratio` and variance maps of a run
    model, scale, precision, device, threads : for a network, see `NetworkUpsampler`
    guide, gain, mean : for `inject` and `ratio`: the fine image, the factor to the run's intensity (`match_gain`), and
        for `ratio` the boldref. For variance maps of a run, the image whose static detail is added
    statistics, mask : of the run and the brain on the acquired grid; for variance maps of a run
    distortion : of the volumes, for variance maps of a run; guides bring their own
    displace : "mirror" or "shift", for variance maps as a placebo

    Raises
    ------
    InferenceError : something that the name needs is not there
    """
    factor = check_factor(factor)
    if model is not None and model.card.trained_on == "series":
        if affine is None or statistics is None or mask is None:
            raise InferenceError(f"{name} needs the run's mean and components, its mask and its affine")
        return _by_variance(model, factor, affine, statistics, mask, guide, gain, threads, distortion, displace)
    if model is not None:
        return _network(model, factor, scale, precision, device, threads)
    if name == "raw":
        if factor != (1.0, 1.0, 1.0):
            raise InferenceError(f"the raw series stays on its grid; a factor of {factor} makes no sense for it")
        return lambda volume, pose: volume
    if name in MATRICES:
        return lambda volume, pose: upsample(name, volume, factor)
    if name not in PAIR_BASELINES:
        raise InferenceError(
            f"{name} is no baseline ({', '.join((*INTERPOLATIONS, *PAIR_BASELINES))}) and came without a trained model"
        )
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


def _by_variance(
    model: LoadedModel, factor: Factor, affine: Array, statistics: TemporalStatistics, mask: Array,
    guide: PosedImage | None, gain: float, threads: int, distortion: Distortion | None, displace: str,
) -> Upsampler:  # fmt: skip
    """The upsampler of a run's variance maps; static detail of the guide, where there is one, is added at the end."""
    import torch

    from bids_sr.sr.recipe import VarianceRecipe
    from bids_sr.sr.resolution.levels import to_slices, to_volume
    from bids_sr.sr.variance.upsampler import VarianceUpsampler, displaced

    if not isinstance(model.recipe, VarianceRecipe):
        raise InferenceError(f"the recipe of {model.card.method} is not one of variance maps")
    torch.set_num_threads(threads)
    state = model.generator.state_dict()
    upsampler = VarianceUpsampler(
        weight=displaced(state["weight"], displace, affine, factor),
        noise=float(state["noise"]), fwhm=model.recipe.estimator.fwhm, mean=statistics.mean,
        mask=mask, affine=affine, factor=factor, distortion=distortion,
    )  # fmt: skip
    if guide is not None:
        seen = to_slices(guide.seen(upsampler.fine, upsampler.fine_affine, None))
        upsampler.constant = gain * np.ascontiguousarray(to_volume(upsampler.level.beyond(seen)))
    return upsampler


def inconsistency(fine: Array, volume: Array) -> float:
    """|B(fine) - volume| / |volume| over the whole volume: what cropping k-space does not give back, as a fraction."""
    size = float(np.linalg.norm(volume))
    return float(np.linalg.norm(downsample(fine, volume.shape) - volume)) / size if size > 0 else 0.0


def enforce(fine: Array, volume: Array, factor: Factor) -> Array:
    """Replace what lies inside the acquired band by what was acquired.

    Across slices (where thinner) the correction is a cubic spline whose means over the acquired slices are what is
    missing: the spline through the missing values would leave a part of them.
    """
    missing = volume - downsample(fine, volume.shape)
    m, n = volume.shape[2], fine.shape[2]
    if m != n:
        means = block_matrix(n, m) @ matrix_for("zerofill", m, n, axis=2)
        missing = apply_along(np.linalg.inv(means), missing, 2)
    return fine + upsample("zerofill", missing, factor)


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
    distortion: Distortion | None = None,
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
    distortion : of the volumes; it is undone by the same interpolation, without changing intensities

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
    constant = getattr(upsampler, "constant", None)
    shift = None if distortion is None else distortion.onto(hr_shape, hr_affine)
    for t, volume in enumerate(reader.volumes()):
        fine = upsampler(volume, xfms[t])
        if not np.isfinite(fine).all():
            raise InferenceError(f"volume {t}: super-resolution gave values that are not finite")
        if consistency != "off":
            found[t] = inconsistency(fine, volume)
        if consistency == "enforce":
            fine = enforce(fine, volume, factor)
        _, grid = hr_grid(volume.shape, affine, factor)
        placed = sample_volume(fine, grid, hr_shape, hr_affine, xfms[t], spline or Spline(), shift=shift)
        writer.append(placed if constant is None else placed + constant)
        if progress is not None:
            progress(t + 1, count)
    return found
