"""Volumes and overlap of tissues and lesions in super-resolved structural scans.

Source: attention-unet, section 3.8, equations 6 to 8, in the form that MRIQC (Esteban et al. 2017)
gives them. All images of a contrast lie on one grid and in one unit, scaled to [0, 1].
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import Mask, Real
from bids_sr.metrics.rows import MetricRow, metric_rows

_LESION_SD = 1.3  # standard deviations above the brain's mean
_LESION_SMOOTHING_MM = 2.0  # FWHM
_LESION_SHARE = 0.1  # smoothed value below which a voxel is removed
_LESION_Z = 0.95  # z score below which a voxel is removed
FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))
"""Full width at half maximum of a Gaussian of standard deviation 1."""


def white_matter_hyperintensities(
    flair: Real, brain: Mask, zooms: Sequence[float], likely: Mask | None = None
) -> Mask:
    """Return white-matter hyperintensities of a bias-corrected FLAIR (X, Y, Z).

    Voxels above the brain's mean + 1.3 SD, where lesions are likely, are smoothed by a Gaussian;
    voxels of a smoothed value below 0.1 and of a z score below .95 are removed.

    Source: attention-unet, section 3.8.3. The paper prints no width of the Gaussian; it is
    `_LESION_SMOOTHING_MM` here. Its template of where lesions occur is not public: without
    `likely`, the mask also contains bright gray matter, so that it compares images of one head and
    is not a lesion load.

    Parameters
    ----------
    flair : Real
        Image in any unit of intensity.
    brain : Mask
        Voxels of the brain on the same grid.
    zooms : Sequence[float]
        Voxel size along each axis (mm).
    likely : Mask | None, optional
        Voxels in which lesions occur; None: everywhere in the brain.

    Raises
    ------
    ValueError
        The brain mask is empty.
    """
    inside = np.asarray(brain, dtype=bool)
    values = np.asarray(flair, dtype=np.float64)
    if not inside.any():
        raise ValueError("the brain mask is empty")
    spread = values[inside].std()
    if not spread > 0:
        return np.zeros(inside.shape, dtype=bool)
    z = (values - values[inside].mean()) / spread
    seeds = inside & (z > _LESION_SD)
    if likely is not None:
        seeds &= np.asarray(likely, dtype=bool)
    sigma = [_LESION_SMOOTHING_MM / FWHM_PER_SIGMA / float(mm) for mm in zooms[:3]]
    smooth = ndimage.gaussian_filter(seeds.astype(np.float64), sigma)
    kept = inside & (smooth >= _LESION_SHARE) & (z >= _LESION_Z)
    return np.asarray(kept, dtype=bool)


def overlap(reference: Mask, voxels: Mask, within: Mask | None = None) -> dict[str, float | None]:
    """Return Dice, Jaccard, true positive and negative fractions, positive predictive value.

    Nothing over nothing (0/0) is None.

    True negatives are counted `within` the brain, not the whole field of view. Source:
    attention-unet, section 3.8.3. ValueError for masks on different grids.

    >>> overlap(np.array([True, True, False]), np.array([True, False, False]))["tpf"]
    0.5
    """
    if reference.shape != voxels.shape or (within is not None and within.shape != voxels.shape):
        raise ValueError(
            f"the masks have different shapes, {reference.shape} and {voxels.shape}, and "
            "cannot be compared"
        )
    keep = slice(None) if within is None else np.asarray(within, dtype=bool)
    a, b = (np.asarray(mask, dtype=bool)[keep] for mask in (reference, voxels))
    hit, wrong, missed, left = (int(part.sum()) for part in (a & b, ~a & b, a & ~b, ~a & ~b))
    ratios = {
        "dice": (2 * hit, 2 * hit + wrong + missed),
        "jaccard": (hit, hit + wrong + missed),
        "tpf": (hit, hit + missed),
        "tnf": (left, left + wrong),
        "ppv": (hit, hit + wrong),
    }
    return {name: part / whole if whole else None for name, (part, whole) in ratios.items()}


def _tissue_volumes(
    tissues: Mapping[str, Mask | Real], zooms: Sequence[float]
) -> dict[str, float]:
    """Return the volume (ml) of each tissue, given as a mask or a probability map.

    Each voxel counts by its probability.

    `tissues`: mask, or probability from 0 to 1, of each tissue by name.
    """
    voxel = float(np.prod([float(z) for z in zooms[:3]])) / 1000
    return {
        name: float(np.asarray(part, dtype=np.float64).sum()) * voxel
        for name, part in tissues.items()
    }


def segmentations(
    contrast: str, masks: Mapping[str, Mapping[str, Mask]], mask: Mask, zooms: Sequence[float]
) -> Iterator[MetricRow]:
    """Return the volume (ml) of each class of each series, and its overlap with ``measured``.

    The overlap with the series ``measured`` is taken in the brain.

    Parameters
    ----------
    contrast : str
        BIDS suffix of the scans.
    masks : Mapping[str, Mapping[str, Mask]]
        Voxels of each class (3D, boolean) by name, for each series.
    mask : Mask
        Voxels of the brain on the grid of the scans (3D, boolean).
    zooms : Sequence[float]
        Voxel size along each axis (mm).

    Yields
    ------
    MetricRow
        Rows of each series and class.
    """
    for name, classes in masks.items():
        for label, volume in _tissue_volumes(classes, zooms).items():
            yield from metric_rows(
                name, {"tissue_volume": volume}, contrast=contrast, region=label
            )
            if name != "measured":
                shared = overlap(masks["measured"][label], classes[label], mask)
                shared = {
                    "tissue_dice": shared.pop("dice"),
                    "tissue_jaccard": shared.pop("jaccard"),
                    **shared,
                }
                yield from metric_rows(
                    name, shared, contrast=contrast, reference="measured", region=label
                )


def lesions(
    series: Mapping[str, Real], mask: Mask, zooms: Sequence[float], likely: Mask | None = None
) -> dict[str, dict[str, Mask]]:
    """Return each series' FLAIR white-matter hyperintensities as a class for `segmentations`.

    `series`: scans of one contrast (3D, 0 to 1) by series. `zooms`: voxel size along each axis
    (mm). `likely`: voxels in which lesions occur (3D, boolean); None: everywhere in the brain.
    """
    return {
        name: {"wmh": white_matter_hyperintensities(image, mask, zooms, likely)}
        for name, image in series.items()
    }
