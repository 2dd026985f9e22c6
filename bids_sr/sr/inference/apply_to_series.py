"""Super-resolve a series volume by volume: upsampled where it was acquired, then interpolated once onto the reference.

One intensity scale serves the whole run, because a scale of each volume's own would divide the global signal, and with
it activity, out of the series.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

import numpy as np

from bids_sr.io.array_types import Array
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.series import INTERPOLATIONS, PAIR_BASELINES
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.resampling import Spline, sample_volume
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.data.temporal_components import TemporalStatistics
from bids_sr.sr.inference.guided_baselines import PosedImage, inject, match_gain, ratio
from bids_sr.sr.method import get_method
from bids_sr.sr.models.compatibility import check_model, describe
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.resolution import matrices
from bids_sr.sr.resolution.matrices import Factor, check_factor, downsample, upsample

Precision = Literal["auto", "fp32", "bf16"]
Consistency = Literal["off", "report", "enforce"]


class Upsampler(Protocol):
    """Takes a volume (x, y, z) and its pose (4x4, boldref point to the volume's point) to its high-resolution grid.

    A `constant`, an image on the boldref's high-resolution grid, is added after the interpolation.
    """

    def __call__(self, volume: Array, pose: Array) -> Array: ...


class InferenceError(ValueError):
    """An upsampler that lacks what it needs, or gives what no image is."""


def _network(
    model: LoadedModel, factor: Factor, scale: float, precision: Precision, device: str, threads: int
) -> Upsampler:
    """The upsampler of a network, slice by slice or of volumes, with the scale on which it was trained."""
    from bids_sr.sr.inference.network_upsampler import NetworkUpsampler, VolumeUpsampler

    card = model.card
    if card.channels != 1:
        raise InferenceError(
            f"the model fuses {card.channels} contrasts ({card.contrast}), and a series has one: see --sr-target"
        )
    # a network that was trained on images whose largest value was 1 gets as much headroom here
    scale *= 1.0 if card.headroom is None else card.headroom
    kind = VolumeUpsampler if card.method and get_method(card.method).ndim == 3 else NetworkUpsampler
    return kind(model, factor, scale, precision, device, threads)


def make_upsampler(
    name: str, factor: Factor, *, affine: Array | None = None, model: LoadedModel | None = None, scale: float = 1.0,
    guide: PosedImage | None = None, gain: float = 1.0, mean: PosedImage | None = None,
    statistics: TemporalStatistics | None = None, mask: Array | None = None, precision: Precision = "auto",
    device: str = "cpu", threads: int = 1, distortion: Distortion | None = None, displace: str = "",
) -> Upsampler:  # fmt: skip
    """The upsampler of a series' name.

    Parameters
    ----------
    name : a baseline but `sdmod`, "raw" (nothing is upsampled), or a method's name together with its model
    factor : acquired over wanted voxel size
    affine : voxel -> RAS mm of the acquired grid; needed by `inject`, `ratio` and variance maps of a run
    model, scale, precision, device, threads : for a network, see `NetworkUpsampler`
    guide, gain, mean : for `inject` and `ratio`: the high-resolution image, the factor to the run's intensity
        (`match_gain`), and for `ratio` the boldref. For variance maps, the image whose static detail is added
    statistics, mask, distortion, displace : for variance maps: of the run, the brain on the acquired grid, the volumes'
        distortion (guides bring their own), and "mirror" or "shift" for a placebo

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
    if name in matrices.MATRICES:
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
        if name == "inject" or mean is None:
            return inject(volume, detail, factor)
        return ratio(volume, mean.seen(volume.shape, grid, pose), detail, factor, scale)

    return guided


def _by_variance(
    model: LoadedModel, factor: Factor, affine: Array, statistics: TemporalStatistics, mask: Array,
    guide: PosedImage | None, gain: float, threads: int, distortion: Distortion | None, displace: str,
) -> Upsampler:  # fmt: skip
    """The upsampler of a run's variance maps; static detail of the guide, if any, is its `constant`."""
    import torch

    from bids_sr.sr.resolution.operators import to_slices, to_volume
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
    """|B(fine) - volume| / |volume|, where B crops k-space."""
    size = float(np.linalg.norm(volume))
    return float(np.linalg.norm(downsample(fine, volume.shape) - volume)) / size if size > 0 else 0.0


def enforce(fine: Array, volume: Array, factor: Factor) -> Array:
    """Replace what lies inside the acquired band by what was acquired.

    Across slices, where these get thinner, the correction is a cubic spline whose *means* over the acquired slices are
    what is missing.
    """
    missing = volume - downsample(fine, volume.shape)
    m, n = volume.shape[2], fine.shape[2]
    if m != n:
        means = matrices.block_matrix(n, m) @ matrices.matrix_for("zerofill", m, n, axis=2)
        missing = matrices.apply_along(np.linalg.inv(means), missing, 2)
    return fine + upsample("zerofill", missing, factor)


def super_resolve_series(
    reader: SeriesReader, writer: SeriesWriter, upsampler: Upsampler, xfms: Array, hr_shape: tuple[int, int, int],
    hr_affine: Array, *, factor: Factor, spline: Spline | None = None, consistency: Consistency = "report",
    progress: Callable[[int, int], None] | None = None, distortion: Distortion | None = None,
) -> Array:  # fmt: skip
    """Upsample each volume where it was acquired, interpolate it onto the boldref's high-resolution grid, write it.

    Parameters
    ----------
    xfms : (T, 4, 4), take a boldref point to where it lies in volume t (RAS mm)
    hr_shape, hr_affine : the boldref's high-resolution grid
    consistency : "report" measures `inconsistency` before motion is undone, "enforce" also removes it
    progress : called with (volumes done, volumes)
    distortion : of the volumes, undone by the same interpolation

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


def series_upsampler(
    name: str, factor: Factor, *, affine: Array, boldref: tuple[Array, Array], mask: Array,
    model: LoadedModel | None = None, guide: PosedImage | None = None, statistics: TemporalStatistics | None = None,
    distortion: Distortion | None = None, displace: str = "", precision: Precision = "auto", device: str = "cpu",
    threads: int = 1, force: bool = False,
) -> Upsampler:  # fmt: skip
    """The upsampler of a series on the intensities of its run.

    Parameters
    ----------
    name, factor, affine : see `make_upsampler`, as all that is not told here
    boldref : (x, y, z) reference of the run, and its affine
    mask : (x, y, z) brain in the boldref; the 99th percentile within it is the intensity scale
    guide : high-resolution image; of methods of the run its static detail is added, networks do not take it
    statistics : of the run, for its variance maps
    force : use a model that does not fit the series

    Raises
    ------
    ModelMismatch : the model is for another resolution, contrast, orientation or factor
    InferenceError : the mask is empty, or something that the name needs is not there
    """
    reference, own = boldref
    if not mask.any():
        raise InferenceError("the mask is empty")
    given: dict[str, Any] = {"scale": float(np.percentile(reference[mask], 99))}
    if model is not None:
        check_model(model.card, describe(affine, "bold", factor), force=force)
        if model.card.trained_on == "series":
            if statistics is None:
                raise InferenceError(f"{name} needs the temporal statistics of its estimation")
            given |= {"statistics": statistics, "mask": mask, "distortion": distortion, "displace": displace}
            if guide is not None:
                given |= {"guide": guide, "gain": _gain(guide, reference, own, mask, factor)}
        given |= {"model": model, "precision": precision, "device": device, "threads": threads}
    elif name in PAIR_BASELINES and guide is not None:
        given |= {"guide": guide, "gain": _gain(guide, reference, own, mask, factor)}
        given["mean"] = PosedImage(data=reference, affine=own, distortion=distortion)
    return make_upsampler(name, factor, affine=affine, **given)


def _gain(guide: PosedImage, reference: Array, affine: Array, mask: Array, factor: Factor) -> float:
    """What brings the guide to the intensity of the run."""
    shape, grid = hr_grid(reference.shape, affine, factor)
    return match_gain(guide.seen(shape, grid, None), reference, mask)


def some_slices(mask: Array, count: int) -> tuple[int, ...]:
    """At most `count` slices, spread evenly over those that hold at least half as much mask as the fullest."""
    area = np.asarray(mask > 0).sum((0, 1))
    if not area.any():
        raise ValueError("the mask is empty")
    full = np.flatnonzero(area >= 0.5 * area.max())
    chosen = full[np.unique(np.linspace(0, len(full) - 1, min(count, len(full))).round().astype(int))]
    return tuple(int(z) for z in chosen)


def fine_mask(mask: Array, slices: tuple[int, ...], factor: Factor) -> Array:
    """The mask in some slices, on their high-resolution grid."""
    part = np.asarray(mask > 0)[:, :, list(slices)].astype(np.float32)
    return upsample("nearest", part, (factor[0], factor[1], 1.0)) > 0.5


def in_both(
    reader: SeriesReader, full: Upsampler, low: Upsampler, slices: tuple[int, ...], inside: Array, *, start: int = 0
) -> Iterator[tuple[Array, Array]]:
    """Yield (V,) values inside a mask of each volume from `start`, in two precisions; head motion is not undone.

    bf16 errs by about .7 % of the image's range, which is the size of activity. Errors that do not follow the task
    average out, others do not: a lower precision must show on the run itself that it leaves the statistics alone.
    """
    for volume in reader.volumes(start):
        yield _in_slices(full, volume, slices)[inside], _in_slices(low, volume, slices)[inside]


def _in_slices(upsampler: Upsampler, volume: Array, slices: tuple[int, ...]) -> Array:
    """Super-resolved slices of a volume; where they get thinner, the one at the middle of each."""
    if not getattr(upsampler, "volumetric", False):
        return upsampler(np.ascontiguousarray(volume[:, :, list(slices)]), np.eye(4))
    fine = upsampler(volume, np.eye(4))
    step = fine.shape[2] / volume.shape[2]
    return fine[:, :, [int((z + 0.5) * step) for z in slices]]
