"""Similarity of super-resolved and measured structural scans.

Source: attention-unet, section 3.8, equations 6 to 8, as implemented in MRIQC (Esteban et al.
2017). All images of a contrast are on one grid and have the same unit, scaled to [0, 1].
"""

from collections.abc import Iterator, Mapping, Sequence

from bids_sr.io.arrays import MaskArray, Real
from bids_sr.metrics import similarity
from bids_sr.metrics.rows import BRAIN, SCAN, MetricRow, metric_rows
from bids_sr.quality import printed_metrics

_DATA_RANGE = 1.0


def likeness(
    contrast: str,
    series: Mapping[str, Real],
    measured: Real,
    mask: MaskArray,
    slices: Sequence[int],
) -> Iterator[MetricRow]:
    """Yield MAE, RMSE, NMSE, PSNR and SSIM of each series in a selection of slices.

    The metrics are computed in the brain, and over all voxels of these slices (region `SCAN`),
    because attention-unet averages over the entire scan after background removal. Background
    increases PSNR and SSIM, so only values for the same region and field of view can be compared.
    The data range is 1. NMSE is computed by the usual definition and as in attention-unet
    (``nmse_voxel``).

    Parameters
    ----------
    contrast : str
        BIDS suffix of the scans.
    series : Mapping[str, Real]
        Scans of one contrast (3D, 0 to 1) by series.
    measured : Real
        High-resolution scan as measured (3D, 0 to 1).
    mask : MaskArray
        Brain voxels on the grid of the scans (3D, boolean).
    slices : Sequence[int]
        Numbers of the slices, counted from 0.

    Yields
    ------
    MetricRow
        Metrics of each series and region; no rows if the slices do not contain any brain voxel.
    """
    with_brain = [z for z in slices if mask[..., z].any()]
    if not with_brain:
        return
    for region, numbers in ((BRAIN, with_brain), (SCAN, list(slices))):
        reference = measured[..., numbers]
        inside = mask[..., numbers] if region == BRAIN else None
        for name, image in series.items():
            compared = image[..., numbers]
            values: dict[str, float | None] = {}
            for metric in ("mae", "rmse", "nmse", "psnr", "ssim"):
                scale = {"data_range": _DATA_RANGE} if metric in ("psnr", "ssim") else {}
                values[metric] = getattr(similarity, metric)(
                    reference, compared, mask=inside, **scale
                )
            values["nmse_voxel"] = printed_metrics.nmse_voxel(reference, compared, mask=inside)
            yield from metric_rows(
                name, values, contrast=contrast, reference="heldOut", region=region
            )
