"""Overlap and volumes of tissues and lesions in super-resolved structural scans.

Source: attention-unet, section 3.8. All images of a contrast are on one grid and have the same
unit, scaled to [0, 1].
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bids_sr.engine.metric_rows import MetricRow, metric_rows
from bids_sr.io.arrays import MaskArray

# names of ratios in the table of metrics, if they differ from the names in `overlap`
_OVERLAP_STATISTICS = {"dice": "tissue_dice", "jaccard": "tissue_jaccard"}


def segmentation_rows(
    contrast: str,
    masks: Mapping[str, Mapping[str, MaskArray]],
    mask: MaskArray,
    zooms: Sequence[float],
) -> Iterator[MetricRow]:
    """Yield the volume (ml) of each class in each series, and its overlap with ``measured``.

    Parameters
    ----------
    contrast : str
        BIDS suffix of the scans.
    masks : Mapping[str, Mapping[str, MaskArray]]
        Voxels of each class (3D, boolean) by name, for each series.
    mask : MaskArray
        Brain voxels on the grid of the scans (3D, boolean), for the overlap.
    zooms : Sequence[float]
        Voxel size along each axis (mm).

    Yields
    ------
    MetricRow
        Metrics of each series and class.
    """
    voxel_ml = float(np.prod([float(zoom) for zoom in zooms[:3]])) / 1000
    for name, classes in masks.items():
        for label, voxels in classes.items():
            volume = float(np.asarray(voxels, dtype=np.float64).sum()) * voxel_ml
            yield from metric_rows(
                name, {"tissue_volume": volume}, contrast=contrast, region=label
            )
            if name != "measured":
                overlaps = overlap(masks["measured"][label], voxels, mask)
                values = {
                    _OVERLAP_STATISTICS.get(ratio, ratio): value
                    for ratio, value in overlaps.items()
                }
                yield from metric_rows(
                    name, values, contrast=contrast, reference="measured", region=label
                )


def overlap(
    reference: MaskArray, voxels: MaskArray, region: MaskArray | None = None
) -> dict[str, float | None]:
    """Return Dice, Jaccard, true positive and negative fractions, positive predictive value.

    True negatives are counted in the brain (`region`) instead of the whole field of view, see
    attention-unet, section 3.8.3. The value of 0/0 is None. The masks are boolean and have one
    shape; None for `region` counts all voxels. The keys are ``dice``, ``jaccard``, ``tpf``,
    ``tnf`` and ``ppv``.

    Examples
    --------
    >>> overlap(np.array([True, True, False]), np.array([True, False, False]))["tpf"]
    0.5
    """
    counted = slice(None) if region is None else np.asarray(region, dtype=bool)
    in_reference = np.asarray(reference, dtype=bool)[counted]
    in_image = np.asarray(voxels, dtype=bool)[counted]
    true_positive = int((in_reference & in_image).sum())
    false_positive = int((~in_reference & in_image).sum())
    false_negative = int((in_reference & ~in_image).sum())
    true_negative = int((~in_reference & ~in_image).sum())
    ratios = {
        "dice": (2 * true_positive, 2 * true_positive + false_positive + false_negative),
        "jaccard": (true_positive, true_positive + false_positive + false_negative),
        "tpf": (true_positive, true_positive + false_negative),
        "tnf": (true_negative, true_negative + false_positive),
        "ppv": (true_positive, true_positive + false_positive),
    }
    return {
        name: numerator / denominator if denominator else None
        for name, (numerator, denominator) in ratios.items()
    }
