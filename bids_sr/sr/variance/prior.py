"""Gaussian prior of a run's fluctuations, and the reconstruction that follows from it.

A fluctuation on the high-resolution grid is ``x = sum_q W_q z_q`` with ``z_q ~ N(0, K_q)``: W_q =
diag(w_q) carries where the run fluctuates, K_q is a stationary Gaussian correlation. What was
acquired is ``y = D x + noise``, where D crops k-space in plane (and averages across slices where
these get thinner). The conditional mean is

    x = C D' (D C D' + s2 I)^-1 y,        C = sum_q W_q K_q W_q

which for one q and K = I is the weighted minimum-norm solution (Gorodnitsky and Rao 1997, eq. 8).
Only its part beyond the acquired band is used. The covariance of two samples of k-space is a
Fourier coefficient of the variance map at their *difference*, so fluctuations carry that map out
to twice the acquired band (Dertinger et al. 2009).

Tensors are (..., Z, X, Y), slices first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from bids_sr.io.array_types import Array
from bids_sr.sr.resolution.operators import Level

# Of conjugate gradients at most: 10, 15 and 20 miss 9, 4 and 1.7 % of what is added (studyforrest,
# one level down)
_ITERATIONS = 20
_TOLERANCE = 2e-3  # residual over data of a system at which it counts as solved
_MARGIN = 4  # acquired voxels around the mask whose data and fluctuations count
# voxels of an axis that are correlated at once: a third to a half of the time of a whole axis is
# saved
_BLOCK = 32
_REACH = 2.25  # full widths after which a correlation is below 1e-6 and left out

_LEAST = 1e-20  # correlations below it are 0: many processors are slow with subnormal numbers


@lru_cache(maxsize=64)
def _correlation(size: int, fwhm: float) -> Tensor:
    """Return the (size, size) Gaussian correlation along one axis; FWHM in voxels, 0 for none."""
    with torch.inference_mode(False):
        if fwhm <= 0:
            return torch.eye(size)
        at = torch.arange(size, dtype=torch.float64)
        return torch.exp(-4 * math.log(2) * (at[:, None] - at) ** 2 / fwhm**2).float()


def reach_of(fwhm: float) -> int:
    """Return voxels over which a correlation of some full width reaches.

    Parameters
    ----------
    fwhm : float
        Full width at half maximum of the correlation (voxels); 0 for none.

    Returns
    -------
    int
        Distance in whole voxels, beyond which the correlation is left out.
    """
    return math.ceil(_REACH * max(fwhm, 0))


@lru_cache(maxsize=64)
def correlation(size: int, fwhm: float) -> Tensor:
    """Return `_correlation` with 0 in place of what no sum would feel.

    `_root` is of the whole one, so that draws stay.

    Parameters
    ----------
    size : int
        Number of voxels along the axis.
    fwhm : float
        Full width at half maximum of the correlation (voxels); 0 for none.

    Returns
    -------
    Tensor
        Gaussian correlation between all voxels of the axis (size, size).
    """
    with torch.inference_mode(False):
        whole = _correlation(size, fwhm)
        return torch.where(whole < _LEAST, 0.0, whole)


@lru_cache(maxsize=64)
def _blocks(size: int, fwhm: float) -> tuple[tuple[slice, Tensor], ...]:
    """Yield rows of `_correlation`, some at a time.

    With them come the voxels that they see, and what they make of them.
    """
    whole, reach, out = correlation(size, fwhm), reach_of(fwhm), []
    for start in range(0, size, _BLOCK):
        stop = min(size, start + _BLOCK)
        seen = slice(max(0, start - reach), min(size, stop + reach))
        out.append((seen, whole[start:stop, seen].contiguous()))
    return tuple(out)


@lru_cache(maxsize=64)
def _root(size: int, fwhm: float) -> Tensor:
    """Symmetric square root of `_correlation`."""
    with torch.inference_mode(False):
        values, vectors = torch.linalg.eigh(_correlation(size, fwhm).double())
        return ((vectors * values.clamp_min(0).sqrt()) @ vectors.T).float()


def _along_slices(matrix: Tensor, image: Tensor) -> Tensor:
    """A matrix (a, b) times (..., b, x, y)."""
    return torch.einsum("ab,...bxy->...axy", matrix, image)


@dataclass(frozen=True, kw_only=True)
class Window:
    """The part of a `Level` around a mask, with the matrices of D on it.

    Parameters
    ----------
    level : Level
        Both grids.
    coarse : tuple[slice, slice, slice]
        Slices (Z, X, Y) of the acquired and of the high-resolution grid.
    fine : tuple[slice, slice, slice]
        Ranges of the high-resolution voxels along Z, X and Y.
    """

    level: Level
    coarse: tuple[slice, slice, slice]
    fine: tuple[slice, slice, slice]

    @classmethod
    def around(cls, level: Level, mask: Array, margin: int = _MARGIN) -> Self:
        """Window around a mask (x, y, z) on the acquired grid.

        Parameters
        ----------
        level : Level
            Step between the acquired and the high-resolution grid.
        mask : Array
            Voxels of the brain in boldref (3D, boolean).
        margin : int, optional
            Acquired voxels in plane that are kept on each side of the mask.

        Returns
        -------
        Self
            Window of all slices, cropped in plane.
        """
        coarse, fine = [], []
        for axis in (2, 0, 1):
            hit = np.flatnonzero(np.asarray(mask).any(tuple(a for a in range(3) if a != axis)))
            m, n = level.coarse[axis], level.fine[axis]
            start, stop = (
                (0, m)
                if axis == 2
                else (max(0, int(hit[0]) - margin), min(m, int(hit[-1]) + 1 + margin))
            )
            coarse.append(slice(start, stop))
            fine.append(slice(math.floor(start * n / m), math.ceil(stop * n / m)))
        return cls(
            level=level, coarse=(coarse[0], coarse[1], coarse[2]), fine=(fine[0], fine[1], fine[2])
        )

    @cached_property
    def matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of D on the window, along x, y and across slices."""
        rows, columns, across = self.level.down_matrices
        return rows[self.coarse[1], self.fine[1]], columns[self.coarse[2], self.fine[2]], across

    @property
    def thins(self) -> bool:
        """Whether slices get thinner."""
        return self.level.coarse[2] != self.level.fine[2]

    def down(self, fine: Tensor) -> Tensor:
        """D: (..., Z, X, Y) to (..., z, x, y).

        Parameters
        ----------
        fine : Tensor
            Images on the high-resolution window (..., Z, X, Y).

        Returns
        -------
        Tensor
            Images on the acquired window (..., z, x, y).
        """
        return self._sampled(fine, self.matrices)

    def adjoint(self, coarse: Tensor) -> Tensor:
        """D': (..., z, x, y) to (..., Z, X, Y).

        Parameters
        ----------
        coarse : Tensor
            Images on the acquired window (..., z, x, y).

        Returns
        -------
        Tensor
            Images on the high-resolution window (..., Z, X, Y).
        """
        rows, columns, across = self.matrices
        out = _along_slices(across.T, coarse) if self.thins else coarse
        return rows.T @ out @ columns

    def squared(self, fine: Tensor) -> Tensor:
        """What D makes of variances: its matrices squared, element by element.

        Parameters
        ----------
        fine : Tensor
            Variances of independent voxels on the high-resolution window (..., Z, X, Y).

        Returns
        -------
        Tensor
            Variances on the acquired window (..., z, x, y).
        """
        return self._sampled(fine, [matrix.square() for matrix in self.matrices])

    def _sampled(self, fine: Tensor, matrices: Sequence[Tensor]) -> Tensor:
        rows, columns, across = matrices
        out = rows @ fine @ columns.T
        return _along_slices(across, out) if self.thins else out


@dataclass(frozen=True, kw_only=True)
class Prior:
    """W, K and the noise on a window; see the module.

    Parameters
    ----------
    window : Window
        Both grids around the mask.
    weight : Tensor
        (Q, Z, X, Y), w_q on the high-resolution window, unit of the change.
    fwhm : tuple[float, ...]
        Q full widths of the correlations (high-resolution voxels).
    noise : float
        s2, in the squared unit of the change.
    """

    window: Window
    weight: Tensor
    fwhm: tuple[float, ...]
    noise: float

    def __post_init__(self) -> None:
        if len(self.fwhm) != len(self.weight):
            raise ValueError(f"{len(self.weight)} variance maps and {len(self.fwhm)} correlations")

    def correlate(self, number: int, image: Tensor) -> Tensor:
        """K_q image.

        Parameters
        ----------
        number : int
            Number of the variance map, counted from 0.
        image : Tensor
            Images on the high-resolution window (..., Z, X, Y).

        Returns
        -------
        Tensor
            Product with the correlation, of the same shape.
        """
        width = self.fwhm[number]
        if width <= 0:
            return image
        out = torch.cat(
            [part @ image[..., seen, :] for seen, part in _blocks(image.shape[-2], width)], -2
        )
        out = torch.cat(
            [out[..., seen] @ part.T for seen, part in _blocks(image.shape[-1], width)], -1
        )
        return (
            _along_slices(correlation(image.shape[-3], width), out) if self.window.thins else out
        )

    def _colored(self, number: int, white: Tensor) -> Tensor:
        """The square root of K_q times an image."""
        width = self.fwhm[number]
        out = _root(white.shape[-2], width) @ white @ _root(white.shape[-1], width)
        return _along_slices(_root(white.shape[-3], width), out) if self.window.thins else out

    def prior_times_adjoint(self, coarse: Tensor) -> Tensor:
        """C D' y: (z, x, y) to (Z, X, Y).

        Parameters
        ----------
        coarse : Tensor
            Image on the acquired window (z, x, y).

        Returns
        -------
        Tensor
            Image on the high-resolution window (Z, X, Y).
        """
        back = self.window.adjoint(coarse)
        out = torch.zeros_like(back)
        for number, weight in enumerate(self.weight):
            out.addcmul_(weight, self.correlate(number, weight * back))
        return out

    def covariance(self, coarse: Tensor) -> Tensor:
        """Return (D C D' + s2 I) y.

        Parameters
        ----------
        coarse : Tensor
            Image on the acquired window (z, x, y).

        Returns
        -------
        Tensor
            Product with the covariance of the data, of the same shape.
        """
        return self.window.down(self.prior_times_adjoint(coarse)).add_(coarse, alpha=self.noise)

    @cached_property
    def variance(self) -> Tensor:
        """Return the preconditioner: the diagonal of D C D', (z, x, y), up to a factor.

        It holds for correlations narrower than D.
        """
        sizes = self.weight.abs()  # maps that a calibration measured have signs
        return self.window.squared(sum(w * self.correlate(q, w) for q, w in enumerate(sizes)))

    @cached_property
    def mean_variance(self) -> float:
        """Return the exact mean of the diagonal of D C D'.

        D'D and K_q are products over the axes, and so is D'D times K_q.
        """
        total = 0.0
        for number, weight in enumerate(self.weight):
            rows, columns, across = (
                (m.T @ m) * _correlation(m.shape[1], self.fwhm[number])
                for m in self.window.matrices
            )
            out = rows @ weight @ columns
            total += float(
                (weight * (_along_slices(across, out) if self.window.thins else out)).sum()
            )
        return total / math.prod(s.stop - s.start for s in self.window.coarse)

    def solve(
        self, coarse: Tensor, iterations: int = _ITERATIONS, tolerance: float = _TOLERANCE
    ) -> Tensor:
        """Return (D C D' + s2 I)^-1 y for one image (z, x, y), by conjugate gradients.

        Where slices stay as they are, each is a system of its own with its own step sizes: a
        strong slice does not end the others. Step sizes follow from the data: the result is linear
        in them as far as it is solved.

        Parameters
        ----------
        coarse : Tensor
            Image on the acquired window (z, x, y).
        iterations : int, optional
            Largest number of steps of the conjugate gradients.
        tolerance : float, optional
            Residual over data at which a system counts as solved.

        Returns
        -------
        Tensor
            Approximate solution, of the same shape.
        """
        axes = (-3, -2, -1) if self.window.thins else (-2, -1)
        inverse = 1 / (self.variance + self.noise)
        out, left = torch.zeros_like(coarse), coarse.clone()
        preconditioned = inverse * left
        way, now = preconditioned.clone(), (left * preconditioned).sum(axes, keepdim=True)
        enough = tolerance**2 * now
        for _ in range(iterations):
            if not bool((now > enough).any()):
                break
            forward = self.covariance(way)
            step = now / (way * forward).sum(axes, keepdim=True).clamp_min(1e-30)
            out.addcmul_(step, way)
            left.addcmul_(-step, forward)
            torch.mul(inverse, left, out=preconditioned)
            after = (left * preconditioned).sum(axes, keepdim=True)
            way = torch.addcmul(preconditioned, after / now.clamp_min(1e-30), way)
            now = after
        return out

    def expect(self, coarse: Tensor) -> Tensor:
        """Conditional mean of the fluctuation, (Z, X, Y) of the whole grid, of data (z, x, y).

        Parameters
        ----------
        coarse : Tensor
            Change of a volume on the whole acquired grid (z, x, y).

        Returns
        -------
        Tensor
            Fluctuation on the whole high-resolution grid, 0 outside the window.
        """
        zi, xi, yi = self.window.coarse
        inside = self.prior_times_adjoint(self.solve(coarse[zi, xi, yi].contiguous()))
        x, y, z = self.window.level.fine
        out = torch.zeros(z, x, y)
        out[self.window.fine] = inside
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

    def draw(self, generator: torch.Generator) -> Tensor:
        """Data (z, x, y) of the window as the prior and the noise would make them.

        Parameters
        ----------
        generator : torch.Generator
            Source of random numbers.

        Returns
        -------
        Tensor
            Random image on the acquired window, with noise.
        """
        fine = torch.zeros_like(self.weight[0])
        for number, weight in enumerate(self.weight):
            white = torch.randn(fine.shape, generator=generator)
            fine.addcmul_(weight, self._colored(number, white))
        out = self.window.down(fine)
        return out + math.sqrt(self.noise) * torch.randn(out.shape, generator=generator)


class VarianceMaps(nn.Module):
    """What is kept of a `Prior`: its maps (Q, Z, X, Y) and the noise.

    The maps are on the whole high-resolution grid (zero where unused), which is that of a run and
    no property of the method: there is room for maps `like` these.

    Parameters
    ----------
    like : Tensor | None
        Maps of the shape to make room for (Q, Z, X, Y); None: one voxel.
    """

    weight: Tensor
    noise: Tensor

    def __init__(self, like: Tensor | None) -> None:
        super().__init__()
        like = torch.zeros(1, 1, 1, 1) if like is None else like
        if like.ndim != 4:
            raise ValueError(f"its maps {tuple(like.shape)} are not on one grid")
        self.register_buffer("weight", torch.zeros_like(like))
        self.register_buffer("noise", torch.zeros(()))
