"""A run super-resolved by its variance maps, volume by volume, in the pose of the head.

Output = zero-filled volume + what the prior reconstructs beyond the acquired band of the change,
which is the volume minus the run's mean. Mean and maps belong to the head and are carried into its
pose; poses within a small tolerance share them, and the mean follows by its gradient. Static
detail of a high-resolution image is one image (`constant`), added after the volume has been
interpolated to the reference, so that its interpolation error is not in the series.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from nibabel.affines import voxel_sizes
from scipy import ndimage
from torch import Tensor

from bids_sr.io.array_types import Array
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.resampling import sample_volume, spline_coefficients
from bids_sr.spatial.transforms import displacement, hr_grid
from bids_sr.sr.inference.acquired import InferenceError, Upsampler, UpsamplerInputs
from bids_sr.sr.inference.guided_baselines import PosedImage
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.resolution.matrices import Factor
from bids_sr.sr.resolution.operators import Level, level_above, to_slices, to_volume
from bids_sr.sr.variance.exemplars import FWHM
from bids_sr.sr.variance.in_reference import ReferenceUpsampler
from bids_sr.sr.variance.prior import Prior, Window

_TOLERANCE = 0.1  # acquired voxels, rms over the head
# standard deviation of the surroundings of `sdmod` (high-resolution voxels, in plane)
_SURROUNDINGS = 3.0
_SHIFT = 3  # acquired voxels, of the placebo
_KEPT = 4  # poses whose maps are kept: a head that nods comes back


@dataclass(frozen=True, kw_only=True)
class Modulation:
    """Control `sdmod`: the zero-filled change scaled by its local standard deviation.

    The scale is its standard deviation over that of its surroundings.

    Parameters
    ----------
    window : Window
        Both grids around the mask.
    weight : Tensor
        (Z, X, Y) standard deviation of the zero-filled change on the fine window.
    """

    window: Window
    weight: Tensor

    @cached_property
    def gain(self) -> Tensor:
        """Return (Z, X, Y) factor of the zero-filled change on the fine window."""
        low = ndimage.gaussian_filter(self.weight.numpy(), (0, _SURROUNDINGS, _SURROUNDINGS))
        return self.weight / torch.from_numpy(low).clamp_min(
            1e-6 * float(self.weight.max()) + 1e-30
        )

    def expect(self, coarse: Tensor) -> Tensor:
        """The modulated change, (Z, X, Y) of the whole grid, of data (z, x, y).

        Parameters
        ----------
        coarse : Tensor
            Change of a volume on the whole acquired grid (z, x, y).

        Returns
        -------
        Tensor
            Zero-filled change on the whole grid, scaled inside the window.
        """
        out = self.window.level.up(coarse)
        out[self.window.fine] *= self.gain
        return out

    def beyond(self, coarse: Tensor) -> Tensor:
        """The part of `expect` beyond the acquired band.

        Parameters
        ----------
        coarse : Tensor
            Change of a volume on the whole acquired grid (z, x, y).

        Returns
        -------
        Tensor
            Detail on the whole high-resolution grid (Z, X, Y).
        """
        return self.window.level.beyond(self.expect(coarse))


@dataclass(frozen=True, kw_only=True)
class _PosedPrior:
    """What was made for one pose: the prior, the mean, and its gradient along the voxel axes."""

    pose: Array
    prior: Prior | Modulation | None
    mean: Array
    gradient: tuple[Array, Array, Array]


class VarianceUpsampler(Upsampler):
    """Zero filling plus what a run's variance maps reconstruct of its change; see the module.

    Parameters
    ----------
    weight : Tensor
        (Q, Z, X, Y) maps on the whole high-resolution grid of the boldref; all zero means zero
        filling.
    noise, fwhm : float
        Of the prior; no widths for `sdmod`.
    mean, mask, affine : Array
        (x, y, z) mean of the run and brain in the pose of the boldref; voxel -> RAS mm.
    factor : Factor
        Acquired over wanted voxel size.
    distortion : Distortion | None
        Of the volumes, of which mean and maps are free; or None.
    tolerance : float
        Movement in acquired voxels (rms over the head) after which maps are posed anew.
    """

    def __init__(
        self,
        *,
        weight: Tensor,
        noise: float,
        fwhm: tuple[float, ...],
        mean: Array,
        mask: Array,
        affine: Array,
        factor: Factor,
        distortion: Distortion | None = None,
        tolerance: float = _TOLERANCE,
    ) -> None:
        x, y, z = mean.shape
        self.shape, self.affine = (x, y, z), np.asarray(affine, float)
        self.tolerance = tolerance
        # image on the boldref's high-resolution grid that is added after the interpolation
        self.constant: Array | None = None
        self.level: Level = level_above(self.shape, factor)
        self.fine, self.fine_affine = hr_grid(self.shape, self.affine, factor)
        self.noise, self.fwhm = float(noise), fwhm
        inside = np.asarray(mask) > 0
        self.window = Window.around(self.level, inside)
        # patterns of a calibration
        used, self._signed = bool(weight.any()), (weight < 0).flatten(1).any(1)
        self._maps = (
            [
                PosedImage(
                    data=np.ascontiguousarray(to_volume(each)),
                    affine=self.fine_affine,
                    distortion=distortion,
                )
                for each in onto_grid(weight, self.level.fine)
            ]
            if used
            else []
        )
        self._mean = PosedImage(data=mean, affine=self.affine, distortion=distortion)
        hit = [
            np.flatnonzero(inside.any(tuple(a for a in range(3) if a != axis)))
            for axis in range(3)
        ]
        corners = np.stack(
            np.meshgrid(*[[h[0], (h[0] + h[-1]) / 2, h[-1]] for h in hit], indexing="ij"), -1
        )
        self._points = corners.reshape(-1, 3) @ self.affine[:3, :3].T + self.affine[:3, 3]
        self._voxel = float(voxel_sizes(self.affine).min())
        self._kept: list[_PosedPrior] = []  # the one used last stands last
        self.poses = 0

    def posed(self, pose: Array) -> _PosedPrior:
        """Return the maps and mean of a pose.

        They are made anew where the head is farther than the tolerance from all that are kept.

        Parameters
        ----------
        pose : Array
            Transform of a boldref point to its volume point (4 x 4, RAS+ mm).

        Returns
        -------
        _PosedPrior
            Prior (None for zero filling), mean and its gradient, maybe of a nearby pose.
        """
        moved = (displacement(pose, kept.pose, self._points) for kept in self._kept)
        ways = [float(np.sqrt((mm**2).mean())) / self._voxel for mm in moved]
        if ways and min(ways) <= self.tolerance:
            found = self._kept.pop(int(np.argmin(ways)))
        else:
            mean = self._mean.seen(self.shape, self.affine, pose)
            found = _PosedPrior(
                pose=np.array(pose), prior=self._prior(pose), mean=mean, gradient=_gradient(mean)
            )
            self.poses += 1
        self._kept = [*self._kept[-(_KEPT - 1) :], found]
        return found

    def _prior(self, pose: Array) -> Prior | Modulation | None:
        if not self._maps:
            return None
        seen = [
            to_slices(each.seen(self.fine, self.fine_affine, pose))[self.window.fine]
            for each in self._maps
        ]
        weight = torch.stack(seen)
        weight = torch.where(self._signed[:, None, None, None], weight, weight.clamp_min(0))
        if not self.fwhm:
            return Modulation(window=self.window, weight=weight[0])
        return Prior(window=self.window, weight=weight, fwhm=self.fwhm, noise=self.noise)

    def change(self, volume: Array, pose: Array) -> Array:
        """The volume minus the run's mean in its pose, (x, y, z).

        Parameters
        ----------
        volume : Array
            Volume as acquired (x, y, z).
        pose : Array
            Transform of a boldref point to its volume point (4 x 4, RAS+ mm).

        Returns
        -------
        Array
            Change in signal units on the acquired grid (float32).
        """
        at = self.posed(pose)
        step = np.linalg.inv(self.affine) @ at.pose @ np.linalg.inv(pose) @ self.affine - np.eye(4)
        out = np.subtract(volume, at.mean, dtype=np.float32)
        if np.abs(step).max() > 1e-7:
            x, y, z = (np.arange(n, dtype=np.float32) for n in volume.shape)
            for row, slope in zip(step[:3].astype(np.float32), at.gradient, strict=True):
                way = (row[0] * x)[:, None, None] + (row[1] * y)[:, None] + (row[2] * z + row[3])
                way *= slope
                out -= way
        return out

    def added(self, number: int) -> Array | None:
        """Return what is added to a volume after its interpolation.

        Parameters
        ----------
        number : int
            Number of the volume, counted from 0; it makes no difference.

        Returns
        -------
        Array | None
            Static detail on the boldref's high-resolution grid (X, Y, Z); None for none.
        """
        return self.constant

    def __call__(self, volume: Array, pose: Array) -> Array:
        with torch.inference_mode():
            slices = to_slices(volume)
            prior = self.posed(pose).prior
            if prior is None:
                return to_volume(self.level.up(slices))
            added = prior.expect(to_slices(self.change(volume, pose)))
            # one way up serves the volume and the projection
            left = slices - self.level.down(added)
            return to_volume(added.add_(self.level.up(left)))


def variance_upsampler(model: LoadedModel, acquired: UpsamplerInputs) -> Upsampler:
    """Return the upsampler of a run's variance maps.

    Static detail of the guide, if any, is its `constant`.

    With the patterns of a calibration it is one that works in the reference, unless slices get
    thinner.

    Parameters
    ----------
    model : LoadedModel
        Variance maps of the run with their recipe and card.
    acquired : UpsamplerInputs
        Grid, intensity and images of the run that upsamplers need.

    Returns
    -------
    Upsampler
        Upsampler in the pose of each volume, or in that of boldref.

    Raises
    ------
    InferenceError : mean and components of the run, its mask or its affine are missing
    """
    affine, statistics, mask, factor = (
        acquired.affine,
        acquired.statistics,
        acquired.mask,
        acquired.factor,
    )
    if affine is None or statistics is None or mask is None:
        raise InferenceError(
            f"{model.card.method} needs the run's mean and components, its mask and its affine"
        )
    if not isinstance(model.recipe, VarianceRecipe):
        raise InferenceError(f"the recipe of {model.card.method} is not one of variance maps")
    torch.set_num_threads(acquired.threads)
    state, own = model.generator.state_dict(), model.recipe.fwhm
    weight = _displaced(state["weight"].float(), acquired.displaced, affine, factor)
    made = VarianceUpsampler(
        weight=weight,
        noise=float(state["noise"]),
        fwhm=_widths_of(weight, own),
        mean=statistics.mean,
        mask=mask,
        affine=affine,
        factor=factor,
        distortion=acquired.distortion,
    )
    if acquired.guide is not None:
        seen = to_slices(acquired.guide.seen(made.fine, made.fine_affine, None))
        made.constant = acquired.gain * np.ascontiguousarray(to_volume(made.level.beyond(seen)))
    if own and len(weight) > len(own) and not made.window.thins:
        on_grid = onto_grid(weight, made.level.fine)[:, *made.window.fine].contiguous()
        prior = Prior(window=made.window, weight=on_grid, fwhm=made.fwhm, noise=made.noise)
        return ReferenceUpsampler(prior, affine, factor, made.constant)
    return made


def _widths_of(weight: Tensor, own: tuple[float, ...]) -> tuple[float, ...]:
    """Return the FWHM of the correlations of maps (Q, Z, X, Y).

    The first of the maps are the run's own, the others patterns.
    """
    return (*own, *(FWHM,) * (len(weight) - len(own))) if own else own


def onto_grid(weight: Tensor, fine: tuple[int, int, int]) -> Tensor:
    """Return maps (Q, Z, X, Y) of another run or person on the grid of this one.

    Parameters
    ----------
    weight : Tensor
        Variance maps on a grid of the same field of view (Q, Z, X, Y).
    fine : tuple[int, int, int]
        Numbers of voxels of the wanted grid (X, Y, Z).

    Returns
    -------
    Tensor
        Maps by linear interpolation, or as given where the size fits.
    """
    x, y, z = fine
    if weight.shape[1:] == (z, x, y):
        return weight
    ratio = (z / weight.shape[1], x / weight.shape[2], y / weight.shape[3])
    maps = [
        ndimage.zoom(each.numpy(), ratio, order=1, mode="nearest", grid_mode=True)
        for each in weight
    ]
    return torch.from_numpy(np.stack(maps).astype(np.float32))


def _displaced(weight: Tensor, how: str, affine: Array, factor: Factor) -> Tensor:
    """Return maps (Q, Z, X, Y) of the wrong place, as a placebo.

    how : "mirror" exchanges left and right about the middle of the maps, so that a head off center
        stays where it is, "shift" moves them by three acquired voxels along both axes of the
        slice, "" leaves them; affine: voxel -> RAS mm, which tells the axis from left to right

    Parameters
    ----------
    weight : Tensor
        Variance maps on the high-resolution grid (Q, Z, X, Y).
    how : str
        Placebo that moves variance maps: ``mirror`` or ``shift``; empty for none.
    affine : Array
        Voxel-to-world matrix of the acquired grid (4 x 4, RAS+ mm).
    factor : Factor
        Low- over high-resolution voxel size along each axis.

    Returns
    -------
    Tensor
        Moved maps of the same shape, which wrap around at the edges.

    Raises
    ------
    ValueError
        There is no displacement of that name.
    """
    if not how:
        return weight
    if how == "shift":
        return weight.roll([round(_SHIFT * factor[0]), round(_SHIFT * factor[1])], (2, 3))
    if how != "mirror":
        raise ValueError(f"maps can be displaced by mirror or shift, not by {how!r}")
    across = int(np.argmax(np.abs(np.asarray(affine, float)[0, :3])))
    axis = (2, 3, 1)[across]
    n = weight.shape[axis]
    along = weight.abs().sum([a for a in range(4) if a != axis], dtype=torch.float64)
    total = float(along.sum())
    twice = (
        round(2 * float(along @ torch.arange(n, dtype=torch.float64)) / total)
        if total > 0
        else n - 1
    )
    return weight.index_select(axis, (twice - torch.arange(n)) % n)


def _gradient(image: Array) -> tuple[Array, Array, Array]:
    """Derivative of the spline through an image along its voxel axes, a unit a voxel."""
    coefficients = spline_coefficients(image)
    out = []
    for axis in range(3):
        shift = np.eye(4)
        shift[axis, 3] = 0.25
        ahead, behind = (
            sample_volume(image, np.eye(4), image.shape, np.eye(4), xfm, coefficients=coefficients)
            for xfm in (shift, np.linalg.inv(shift))
        )
        out.append(2 * (ahead - behind))
    return out[0], out[1], out[2]
