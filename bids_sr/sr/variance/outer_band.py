"""Test whether a calibration fits a run.

It must help to predict the outermost acquired frequencies from the others.

The acquired components of one half of the run lose the outer fifth of their k-space; the prior,
whose variance maps come from the other half, predicts it. A prior with exemplars of the same
person in their place predicts it better; of a calibration that is mirrored, of another person, or
displaced by a fine voxel, it hardly does, because what is asked for lies just below the limit of
the acquired resolution. (One whole level of resolution down, such a displacement is not seen; the
likelihood of components that were held out sees it, but also takes a mirrored calibration for
better than none, as a wrong covariance with many patterns is still less sure of itself than the
maps of half a run.)

The same measure tells where the calibration fits best: its registration is refined by it.

Place of a calibration relative to the run, and its share of the prior; see `outer_band`.

The registration of the two references is refined: rigidly, then by scale and shear in the plane of
the slices, because two echo-planar scans need not be distorted alike. Each parameter is moved a
step up and down, which is looked at in every third slice. Where the parabola through the three
values promises more, its vertex is looked at in all slices, and taken if clearly more is predicted
there.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from math import cos, radians, sin

import numpy as np
import torch
from nibabel.affines import voxel_sizes
from torch import Tensor

from bids_sr.io.grids import Array, evenly_spaced
from bids_sr.spatial.transforms import hr_grid, points_in, rms_distance
from bids_sr.sr.device import side_by_side
from bids_sr.sr.operators import Level, to_slices
from bids_sr.sr.variance.prior import FWHM, SHARE, Exemplars, Prior, Tile, covariance

_KEPT = 0.8  # of the acquired k-space along each axis
SURE = 2.0  # standard errors by which one prediction must exceed another
WORTH = 0.003
"""Of the predicted share, which is what a fifth of a fine voxel costs: no place is found more
exactly.
"""
_SLICES, _TILES = 6, 16
_INNER, _HALO = 12, 6  # acquired voxels of a tile that count, and around it that are seen
_LEAST_BRAIN = 0.6  # of a tile


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Predicted share of outermost frequencies by half and tile, without and with calibration."""

    without: tuple[float, ...]
    having: tuple[float, ...]

    @property
    def gain(self) -> float:
        """Mean over tiles of what the calibration adds."""
        return float(np.mean(np.subtract(self.having, self.without)))

    @property
    def error(self) -> float:
        """Standard error of the gain, over tiles."""
        return _standard_error(np.subtract(self.having, self.without))

    def exceeds(self, other: "Predicted") -> bool:
        """Whether clearly more is predicted than at another place, in the same tiles.

        True if more by 0.003 and by two standard errors.
        """
        added = np.subtract(self.having, other.having)
        return bool(added.mean() > max(WORTH, SURE * _standard_error(added)))


def _standard_error(values: Array) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf


def chosen_slices(mask: Array) -> list[int]:
    """Return slices (x, y, z) with much brain, evenly spread over it.

    Numbers of the slices, counted from 0, in ascending order, as far apart from one another.
    """
    area = np.asarray(mask).sum((0, 1))
    full = np.flatnonzero(area >= 0.5 * area.max())
    first, last = int(full[0]), int(full[-1])
    count = min(_SLICES, last - first + 1)
    step = max(1, round((last - first) / (count + 1)))
    start = first + (last - first - step * (count - 1)) // 2
    return list(range(start, start + step * count, step))


class OuterBand:
    """The test on one run.

    `level`: from the acquired to the high-resolution grid, of these slices, in plane alone.
    `slices`: numbers, as far apart from one another. `mask`: (x, y, z) brain. `halves`: components
    (K, n, x, y) of either half of the run in these slices. `priors`: of either half, on the level
    of these slices. `affine`: voxel -> RAS mm of the acquired grid.
    """

    def __init__(
        self,
        level: Level,
        slices: Sequence[int],
        mask: Array,
        halves: Sequence[Tensor],
        priors: Sequence[Prior],
        affine: Array,
    ) -> None:
        self.slices = list(slices)
        self.halves = halves
        self.priors = priors
        self.level = level
        inside = np.asarray(mask)[:, :, self.slices] > 0
        self.mask = to_slices(inside.astype(np.float32)) > 0
        x, y, n = level.coarse
        ratios = [big / small for big, small in zip(level.fine, (x, y, n), strict=True)]
        self._shape, self.affine = hr_grid(mask.shape, affine, ratios)
        self._sizes = [max(2, 2 * round(_KEPT * size / 2)) for size in (x, y)]
        # steps from the acquired and from the high-resolution grid to fewer voxels
        few = (self._sizes[0], self._sizes[1], n)
        kept = Level(few, (x, y, n))
        self._direct = Level(few, level.fine).down_matrices
        self._kept = [
            low @ down for low, down in zip(kept.low_matrices, level.down_matrices, strict=True)
        ]
        self.tiles = _counted_tiles(self.priors[0].whole, self.mask)
        # components without the outermost frequencies, on fewer voxels, and these alone
        self._data = [(kept.down(half), kept.beyond(half)) for half in halves]
        self._base = [self._covariances(p.weight, p.fwhm, self.tiles) for p in priors]
        self._without = self._shares(self._base, range(len(self.tiles)))

    def _rows(self, tile: Tile) -> tuple[slice, slice]:
        """Voxels of the reduced grid that lie inside what is seen of a tile."""
        out = []
        for seen, size, whole in zip(tile.seen, self._sizes, self.level.coarse[:2], strict=True):
            centers = (np.arange(size) + 0.5) * whole / size - 0.5
            hit = np.flatnonzero((centers >= seen.start - 0.5) & (centers <= seen.stop - 0.5))
            out.append(slice(int(hit[0]), int(hit[-1]) + 1))
        return out[0], out[1]

    def _covariance(self, maps: Tensor, at: tuple[int, Tile], fwhm: tuple[float, ...]) -> Tensor:
        """Of the outermost frequencies in a tile with what is kept, and of that with itself.

        One is above the other, (u v + x y, x y).
        """
        z, tile = at
        right, left, counts = [], [], []
        for axis, kept in enumerate(self._rows(tile)):
            inner = tile.inner[axis]
            fine = tile.fine[axis]
            right.append(self._direct[axis][kept, fine].contiguous())
            all_ = self.level.down_matrices[axis][inner, fine]
            left.append(torch.cat([all_, self._kept[axis][inner, fine], right[axis]]))
            counts.append(len(all_))
        (u, v), own = counts, maps[:, z, *tile.fine]
        out = covariance(own, fwhm, (right[0], right[1]), (left[0], left[1])).view(
            len(left[0]), len(left[1]), -1
        )
        outer = out[:u, :v] - out[u : 2 * u, v : 2 * v]
        return torch.cat([outer.flatten(0, 1), out[2 * u :, 2 * v :].flatten(0, 1)])

    def _covariances(
        self, maps: Tensor, fwhm: tuple[float, ...], tiles: Iterable[tuple[int, Tile]]
    ) -> list[Tensor]:
        """`_covariance` in each tile."""
        return list(side_by_side(lambda at: self._covariance(maps, at, fwhm), tiles))

    def _shares(
        self, priors: Iterable[Iterable[Tensor]], numbers: Sequence[int]
    ) -> tuple[float, ...]:
        """`_share` of each half in the tiles of these numbers, one half after the other."""
        jobs = (
            (h, n, each)
            for h, own in enumerate(priors)
            for n, each in zip(numbers, own, strict=True)
        )
        return tuple(side_by_side(lambda job: self._share(*job), jobs))

    def _share(self, half: int, number: int, prior: Tensor) -> float:
        """Return the share of the other half's outermost frequencies that a half predicts.

        It is predicted by the half's covariance, in a tile.
        """
        (z, tile), (inner, outer) = self.tiles[number], self._data[1 - half]
        data = inner[:, z, *self._rows(tile)].flatten(1)
        across, own = prior[: -data.shape[1]], prior[-data.shape[1] :]
        root = torch.linalg.cholesky(own + self.priors[half].noise * torch.eye(len(own)))
        counted = self.mask[z, *tile.inner].flatten()
        predicted = (across @ torch.cholesky_solve(data.T, root)).T[:, counted]
        known = outer[:, z, *tile.inner].flatten(1)[:, counted]
        energy = known.square().sum(1)
        left = (known - predicted).square().sum(1)
        return float((1 - left / energy.clamp_min(1e-30)).mean())

    def predicted(
        self,
        exemplars: Exemplars,
        correction: Array | None = None,
        share: float = SHARE,
        every: int = 1,
    ) -> Predicted:
        """Return what a calibration of a given weight adds, in place or moved by a correction.

        See `Exemplars.on`.

        `correction`: transform of a boldref point before its look-up (4 x 4, RAS+ mm); None:
        identity. `share`: share of the variance that the patterns get, from 0 to 1. `every`: look
        at one of so many slices of the test, where it has tiles in them.
        """
        places = range(every // 2, len(self.slices), every)
        numbers = [n for n, (z, _) in enumerate(self.tiles) if z in places]
        if not numbers:
            return self.predicted(exemplars, correction, share)
        tiles = [(places.index(z), tile) for z, tile in (self.tiles[n] for n in numbers)]
        halves = np.reshape(self._without, (2, -1))
        without = tuple(halves[:, numbers].ravel().tolist())
        patterns = self._patterns(exemplars, correction, places)
        if not bool(patterns[:, :, *self.priors[0].whole.fine].any()):
            return Predicted(without=without, having=without)
        alone = replace(self.priors[0], weight=patterns, fwhm=(FWHM,) * len(patterns))
        on_tiles = self._covariances(patterns, alone.fwhm, tiles)
        own = (replace(prior, weight=prior.weight[:, list(places)]) for prior in self.priors)
        levels = [each.mean_variance / alone.mean_variance for each in own]
        mixed = (
            (
                torch.lerp(base[n], level * other, share)
                for n, other in zip(numbers, on_tiles, strict=True)
            )
            for level, base in zip(levels, self._base, strict=True)
        )
        return Predicted(without=without, having=self._shares(mixed, numbers))

    def _patterns(self, exemplars: Exemplars, correction: Array | None, places: range) -> Tensor:
        """Patterns (C, n, X, Y) in these of the slices that are looked at."""
        x, y, _ = self._shape
        numbers = [self.slices[n] for n in places]
        some = np.array(self.affine)
        some[:3, 3] += some[:3, 2] * numbers[0]
        some[:3, 2] *= numbers[1] - numbers[0] if len(numbers) > 1 else 1
        return exemplars.on((int(x), int(y), len(numbers)), some, correction)


def _counted_tiles(whole: Tile, mask: Tensor) -> list[tuple[int, Tile]]:
    """Tiles that hold enough brain, as (number of the slice, tile), evenly over all slices."""
    out, parts = [], []
    for axis in whole.inner:
        count = max(1, (axis.stop - axis.start) // _INNER)
        start = axis.start + (axis.stop - axis.start - count * _INNER) // 2
        edges = [max(axis.start, start + k * _INNER) for k in range(count + 1)]
        parts.append([slice(a, min(b, axis.stop)) for a, b in pairwise(edges)])
    for z in range(len(mask)):
        for inner in product(*parts):
            if float(mask[z, inner[0], inner[1]].float().mean()) >= _LEAST_BRAIN:
                out.append((z, whole.part(inner[0], inner[1], _HALO)))
    return [out[k] for k in evenly_spaced(len(out), _TILES)]


_CAUTIOUS = 0.25
"""Weight at which it is decided whether a calibration helps at all, and with which a doubtful one
is used.
"""
_FARTHEST = 4.0  # high-resolution voxels (rms over the brain) that the registration may be moved
_STEPS = (0.5, 0.5, 0.25, 1.0, 1.0, 1.0, 0.01, 0.01, 0.01)  # voxels, degrees, and shares
_FINER = 0.4  # of the steps, in the last round
_TOLD_MM = 0.05
_REACH = 2.0  # steps to which a parabola is trusted
_EVERY = 3  # slices of which one is looked at for the parabola

_Look = Callable[..., Predicted | None]
"""What is predicted at some parameters, in one of so many slices; None where they are too far."""


@dataclass(frozen=True, kw_only=True)
class CalibrationFit:
    """What was decided, and on what grounds.

    `weight`: share of the prior, 0: the calibration is not used. `correction`: 4x4, moves a
    boldref point (RAS mm) before its look-up there. `moved_mm`: by it, rms over the brain.
    """

    weight: float
    correction: Array
    moved_mm: float
    cautious: Predicted | None = None
    full: Predicted | None = None

    @property
    def text(self) -> str:
        """What was decided, in words."""
        if not self.weight:
            fits = (
                self.cautious is not None
                and self.full is not None
                and _weight_of(self.cautious, self.full) > 0
            )
            why = (
                "the self-test score did not increase"
                if fits
                else "the prediction of the highest acquired spatial frequencies did not improve"
            )
            return f"the calibration run was not used, because {why}"
        sentence = f"the calibration run was used with a weight of {self.weight:g}"
        if self.moved_mm > _TOLD_MM:
            sentence += f" after its position was corrected by {self.moved_mm:.1f} mm"
        if (found := self.full if self.weight == SHARE else self.cautious) is None:
            return sentence
        having, without = (100 * float(np.mean(each)) for each in (found.having, found.without))
        return (
            f"{sentence}. With the calibration run, {having:.1f} % of the variance at the highest "
            f"acquired spatial frequencies was predicted, and {without:.1f} % without it"
        )

    @property
    def entries(self) -> dict[str, object]:
        """For the card."""
        facts: dict[str, object] = {
            "weight": self.weight,
            "position_correction_mm": round(self.moved_mm, 3),
        }
        if self.cautious is None or self.full is None:
            return facts
        return facts | {
            "predicted_without": round(float(np.mean(self.full.without)), 5),
            "predicted_gain_by_weight": {
                f"{_CAUTIOUS:g}": round(self.cautious.gain, 5),
                f"{SHARE:g}": round(self.full.gain, 5),
            },
            "predicted_gain_error": round(self.cautious.error, 5),
        }


def unrefined() -> CalibrationFit:
    """Return the fit of a calibration whose slices are thinner than those of the run.

    There the test of `outer_band` does not hold.

    It is taken where the registration found it, with caution, if it helps one level of resolution
    down.

    Fit with the cautious weight and without correction of the place.
    """
    return CalibrationFit(weight=_CAUTIOUS, correction=np.eye(4), moved_mm=0.0)


def fit_calibration(
    band: OuterBand, exemplars: Exemplars, mask: Array, affine: Array
) -> CalibrationFit:
    """Refine the place of a calibration and decide on its weight.

    `band`: test of how well the outermost acquired frequencies are predicted. `mask, affine`: (x,
    y, z) brain on the acquired grid, voxel -> RAS mm. Weight, 0 where it does not help, and
    correction of the place.
    """
    points = points_in(mask, affine, 7)
    if not band.tiles:
        return CalibrationFit(weight=0.0, correction=np.eye(4), moved_mm=0.0)
    center = points.mean(0)
    axes = affine[:3, :3] / voxel_sizes(affine)
    fine = voxel_sizes(band.affine)

    def predicted(params: Array, every: int = 1) -> Predicted | None:
        matrix = _correction(params, center, axes, fine)
        return (
            None
            if rms_distance(np.eye(4), matrix, points) > farthest
            else band.predicted(exemplars, matrix, every=every)
        )

    farthest = _FARTHEST * float(fine[:2].max())
    params, full = _climb(predicted)
    correction = _correction(params, center, axes, fine)
    cautious = band.predicted(exemplars, correction, _CAUTIOUS)
    return CalibrationFit(
        weight=_weight_of(cautious, full),
        correction=correction,
        moved_mm=rms_distance(np.eye(4), correction, points),
        cautious=cautious,
        full=full,
    )


def _weight_of(cautious: Predicted, full: Predicted) -> float:
    """Share of the prior that a calibration gets.

    None, unless it helps at the cautious weight by more than chance; the full one if it does no
    harm at that.
    """
    if not cautious.gain > SURE * cautious.error:
        return 0.0
    return SHARE if full.gain > 0 else _CAUTIOUS


def _correction(params: Array, center: Array, axes: Array, fine: Array) -> Array:
    """Return the 4x4 matrix (RAS mm) of a rigid motion with in-plane scales and shear.

    `params`: shifts (3, high-resolution voxels), rotations (3, degrees), scales of both axes of
    the plane, and their shear, along the axes of the slices. `center`: of the brain, RAS mm.
    `axes`: (3, 3) unit vectors of the voxel axes, as columns. `fine`: (3,) fine voxel size (mm).
    """
    inner = _rotation(params[3:6]) @ np.array(
        [[1 + params[6], params[8], 0], [0, 1 + params[7], 0], [0, 0, 1.0]]
    )
    out = np.eye(4)
    out[:3, :3] = axes @ inner @ np.linalg.inv(axes)
    out[:3, 3] = center - out[:3, :3] @ center + axes @ (params[:3] * fine)
    return out


def _rotation(degrees: Array) -> Array:
    """About the three axes, one after the other."""
    out = np.eye(3)
    for axis, angle in enumerate(degrees):
        c = cos(radians(angle))
        s = sin(radians(angle))
        a, b = (k for k in range(3) if k != axis)
        turn = np.eye(3)
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = c, -s, s, c
        out = turn @ out
    return out


def _climb(predicted: _Look) -> tuple[Array, Predicted]:
    """Parameters at which most is predicted, one after the other from nothing, and how much."""
    at = np.zeros(len(_STEPS))
    best, few = predicted(at), predicted(at, _EVERY)
    assert best is not None
    assert few is not None
    for numbers, finer in ((range(2), 2.0), (range(9), 1.0), (range(3), _FINER)):
        if finer < 1 and not at.any():
            break  # steps as small were promised nothing
        for number in numbers:
            way = _promising(predicted, at, few, number, finer * _STEPS[number])
            there = at if way is None else _moved(at, number, way)
            if way is None or (found := predicted(there)) is None or not found.exceeds(best):
                continue
            at = there
            best = found
            few = predicted(there, _EVERY)
            assert few is not None
    return at, best


def _promising(
    predicted: _Look, at: Array, here: Predicted, number: int, step: float
) -> float | None:
    """By how much to move one parameter so that more is predicted; None: stay."""
    down, up = (predicted(_moved(at, number, way * step), _EVERY) for way in (-1.0, 1.0))
    if down is None or up is None:
        return None
    slope = (up.gain - down.gain) / 2
    curve = (down.gain + up.gain) / 2 - here.gain
    way = (
        float(np.clip(-slope / (2 * curve), -_REACH, _REACH))
        if curve < 0
        else float(np.sign(slope))
    )
    return way * step if slope * way + curve * way**2 > WORTH else None


def _moved(at: Array, number: int, by: float) -> Array:
    out = at.copy()
    out[number] += by
    return out
