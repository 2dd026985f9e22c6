"""Detail beyond the acquired Nyquist limit that repeats neither between halves of the blocks nor in the pair.

Everything is local: means under a Gaussian window about one acquired voxel wide.

- Mean image: how much of the method's detail is not the detail of the high-resolution image of the pair, times a local
  factor between 0 and 1 (a method may show less of it, not more, and not its negative)?
- Effect: how much of what the map shows is fine detail that is supported neither by time (the detail of one half of the
  blocks agrees with that of the other half, more than when the signs of blocks are flipped) nor by the pair (it follows
  the detail of the high-resolution image, more than where that image is shifted)?

Both are shares of local energy within 0 and 1; a voxel counts beyond one half. This is no measure of wrong detail: a
method that is linear in the change makes the same wrong detail of the same signal in both halves, and reads 0 here with
70 % of its energy wrong. What is wrong is a matter of truth (explained variance) or of placebos.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Float, Float32, Mask, Real
from bids_sr.spatial.nyquist import beyond_nyquist

THRESHOLD = 0.5
_FLIPS = 63
_SHIFTS = ((1, 1), (1, -1), (1, 0), (0, 1), (2, 1), (1, 2), (2, -1), (1, -2))
_CONFIDENCE = 0.95


class DetailError(ValueError):
    """Maps that cannot be asked for unrepeated detail."""


@frozen
class HighResGrid:
    """The high-resolution grid and what of it was acquired."""

    mask: Mask  # (X, Y, Z) brain
    zooms: tuple[float, float, float]  # voxel sizes, mm
    factor: tuple[float, float, float]  # acquired over high-resolution voxel along each axis

    def detail(self, image: Real) -> Real:
        """See `beyond_nyquist`, in double precision."""
        return beyond_nyquist(np.asarray(image, dtype=np.float64), self.factor)

    def local(self, image: Real) -> Real:
        """Mean under a Gaussian of one acquired in-plane voxel as standard deviation, half of it across slices."""
        wide = [self.zooms[k] * self.factor[k] for k in (0, 1)]
        sigma = [wide[0] / self.zooms[0], wide[1] / self.zooms[1], 0.5 * max(wide) / self.zooms[2]]
        return ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=2.5)


def _check(grid: HighResGrid, *images: Real | None) -> None:
    for image in images:
        if image is not None and image.shape[-3:] != grid.mask.shape:
            raise DetailError(f"an image of {image.shape[-3:]} voxels and a mask of {grid.mask.shape}")
    if not grid.mask.any():
        raise DetailError("the mask is empty")
    if max(grid.factor[:2]) <= 1:
        raise DetailError(f"a factor of {grid.factor} leaves nothing beyond the acquired Nyquist limit")


def mean_detail(mean: Real, guided: Real, grid: HighResGrid) -> Real:
    """Share of local detail in a mean image (X, Y, Z) that is not the pair's.

    e / (e + g): e the local energy of detail that the pair does not explain, g that of the pair's own, at least a
    quarter of its median in the mask. One half: as much unexplained as the pair has. 0 outside the mask. `guided` is
    the mean of `inject`: what was acquired, with the detail of the pair's image in the run's intensity.
    """
    _check(grid, mean, guided)
    own, pair = grid.detail(mean), grid.detail(guided)
    energy, shared = grid.local(pair * pair), grid.local(own * pair)
    part = np.clip(np.divide(shared, energy, out=np.zeros_like(shared), where=energy > 0), 0, 1)
    left = np.maximum(grid.local(own * own) - 2 * part * shared + part * part * energy, 0)
    floor = 0.25 * float(np.median(energy[grid.mask]))
    total = left + np.maximum(energy, floor)
    return np.where(grid.mask, np.divide(left, total, out=np.zeros_like(left), where=total > 0), 0)


def block_terms(effects: Real, weights: Float) -> Real:
    """What each block of a half, (blocks, X, Y, Z), contributes to the effect of that half; the sum is the effect.

    Blocks of weight 0 are left out. In a contrast of conditions (weights that sum to 0) what all blocks have in common
    is taken out first: it does not count in the sum, and would where the signs of blocks are flipped.
    """
    used = np.abs(weights) > 0
    terms, weight = np.asarray(effects)[used].astype(np.float32), weights[used].astype(np.float32)
    if abs(float(weight.sum())) < 1e-6 * float(np.abs(weight).sum()):
        terms = terms - np.tensordot(np.abs(weight) / np.abs(weight).sum(), terms, 1)
    return terms * weight[:, None, None, None]


def _signs(count: int, rng: np.random.Generator) -> Float32:
    """(draws, count) signs: all there are where they are few, else drawn; the first row has no flip."""
    if 2**count <= _FLIPS + 1:
        return np.where(np.arange(2**count)[:, None] >> np.arange(count) & 1, -1, 1).astype(np.float32)
    drawn = rng.choice(np.array([-1, 1], np.float32), (_FLIPS, count))
    return np.concatenate([np.ones((1, count), np.float32), drawn])


def _agrees(fixed: Real, blocks: Sequence[Real], grid: HighResGrid, rng: np.random.Generator) -> Mask:
    """Voxels of the mask (N,) in which blocks agree with a fixed pattern more than with their signs drawn anew."""
    products = np.stack([grid.local(fixed * block)[grid.mask] for block in blocks])
    drawn = _signs(len(blocks), rng) @ products
    observed = products.sum(0)
    reached = (drawn >= observed - 1e-6 * np.abs(products).sum(0)).sum(0)  # the unflipped row is among them
    return np.asarray((reached <= max(1, int((1 - _CONFIDENCE) * len(drawn)))) & (observed > 0))


def time_support(first: Real, second: Real, grid: HighResGrid, *, seed: int = 0) -> Mask:
    """Voxels (X, Y, Z) around which the detail of the two halves, `block_terms` of each, agrees.

    The local product of both halves' detail exceeds its 95 % point when the signs of one half's blocks are drawn anew,
    whichever half is flipped. Both are asked, as strong detail of one half alone agrees with the noise of the other in
    half of all cases. Fewer than five blocks in a half cannot reach 95 %: then no flip may do as well.
    """
    rng = np.random.default_rng(seed)
    halves = [[grid.detail(block).astype(np.float32) for block in half] for half in (first, second)]
    sums = [np.sum(half, axis=0) for half in halves]
    out = np.zeros(grid.mask.shape, dtype=bool)
    out[grid.mask] = _agrees(sums[0], halves[1], grid, rng) & _agrees(sums[1], halves[0], grid, rng)
    return out


def pair_support(effect: Real, guided: Real, grid: HighResGrid) -> Mask:
    """Voxels around which the detail of an effect follows that of the pair's high-resolution image, with either sign.

    The local squared correlation of the two, the pair's energy held at a quarter of its median at least, exceeds its
    95 % point over the mask where the pair is shifted in-plane by 4 acquired voxels and more.
    """
    own, pair = grid.detail(effect), grid.detail(guided)
    energy = grid.local(own * own)
    floor = 0.25 * float(np.median(grid.local(pair * pair)[grid.mask]))

    def follows(other: Real) -> Real:
        product = energy * np.maximum(grid.local(other * other), floor)
        shared = grid.local(own * other) ** 2
        return np.divide(shared, product, out=np.zeros_like(shared), where=product > 0)

    step = [int(np.ceil(4 * f)) for f in grid.factor[:2]]
    null = [follows(np.roll(pair, (i * step[0], j * step[1]), axis=(0, 1)))[grid.mask] for i, j in _SHIFTS]
    return follows(pair) > np.quantile(np.concatenate(null), _CONFIDENCE)


def effect_detail(first: Real, second: Real, grid: HighResGrid, *, guided: Real | None = None, seed: int = 0) -> Real:
    """Share of what an effect shows locally that is fine detail without support.

    d / (d + a): d the local energy of the effect's detail, a that of what lies in the acquired band, at least its
    median in the mask; 0 where time or pair support the detail, and outside the mask.

    Parameters
    ----------
    first, second, seed : as `time_support` takes them; with few blocks little can be supported by time
    guided : as `mean_detail` takes it; None: there is no pair, so none supports anything

    Raises
    ------
    DetailError : a half without blocks, other grids, an empty mask, a factor of 1
    """
    _check(grid, first, second, guided)
    if not len(first) or not len(second):
        raise DetailError(f"halves of {len(first)} and {len(second)} blocks")
    effect = (first.sum(0, dtype=np.float64) + second.sum(0, dtype=np.float64)) / 2
    fine = grid.detail(effect)
    detail, acquired = grid.local(fine * fine), grid.local((effect - fine) ** 2)
    total = detail + np.maximum(acquired, float(np.median(acquired[grid.mask])))
    out = np.divide(detail, total, out=np.zeros_like(detail), where=total > 0)
    supported = time_support(first, second, grid, seed=seed)
    if guided is not None:
        supported |= pair_support(effect, guided, grid)
    return np.where(grid.mask & ~supported, out, 0)


def unrepeated_share(found: Real, mask: Mask) -> float:
    """Share of the mask's voxels in which more than half is unrepeated detail."""
    return float(np.mean(found[mask] > THRESHOLD))
