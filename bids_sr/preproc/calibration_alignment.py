"""Registration of a BOLD run with its high-resolution calibration run.

Matrices are 4x4 (RAS mm) and map a boldref point of the run to its position in the calibration
run.
"""

import math

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.io.notices import InvalidInput
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import AntsOptions
from bids_sr.preproc.rigid import displacement_summary, register_rigid
from bids_sr.preproc.same_contrast import refine
from bids_sr.spatial import low_resolution_grids, similarity
from bids_sr.spatial.edges import measure_edge_mismatch
from bids_sr.spatial.matrices import acquire
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid


def register_to_calibration(
    boldref: Volume,
    mask: Array,
    calibration: Volume,
    calibration_mask: Array,
    factor: Factor,
    options: AntsOptions,
) -> tuple[Array, dict[str, object]]:
    """Register a calibration run to a BOLD run with a rigid transform.

    Mutual information is followed by Gauss-Newton on intensities, as both are echo-planar images
    of one contrast. For the second step the reference of the calibration run is smoothed to the
    voxel size of the BOLD run.

    Parameters
    ----------
    boldref : Volume
        Boldref of the BOLD run (3D).
    mask : Array
        Brain voxels of the boldref (3D, boolean).
    calibration : Volume
        Boldref of the calibration run (3D).
    calibration_mask : Array
        Brain voxels of the calibration run's boldref (3D, boolean).
    factor : Factor
        Ratio of the BOLD run's to the calibration run's voxel size along each axis.
    options : AntsOptions
        Seed and names of files.

    Returns
    -------
    tuple[Array, dict[str, object]]
        Transform of a boldref point to its calibration point (4 x 4, RAS+ mm), and metrics of its
        size and fit by name.
    """
    fit = register_rigid(
        boldref,
        calibration,
        mask,
        calibration_mask,
        options,
        soft=True,
    )
    fwhm_voxels = (
        np.sqrt(np.maximum(boldref.zooms**2 - calibration.zooms**2, 0)) / calibration.zooms
    )
    smoothed_calibration = ndimage.gaussian_filter(
        np.asarray(calibration.data, np.float32), fwhm_voxels / FWHM_PER_SIGMA, mode="nearest"
    )
    xfm = refine(
        boldref, Volume(data=smoothed_calibration, affine=calibration.affine), mask, fit.xfm
    )
    facts: dict[str, object] = {
        **displacement_summary(xfm, mask, boldref.affine),
        "start": fit.start,
        "nmi": round(fit.nmi, 4),
    }
    return xfm, facts | measure_agreement(
        boldref, mask, calibration, calibration_mask, xfm, factor
    )


def measure_agreement(
    boldref: Volume,
    mask: Array,
    calibration: Volume,
    calibration_mask: Array,
    xfm: Array,
    factor: Factor,
) -> dict[str, float | None]:
    """Compare brain masks, intensities and edges after registration.

    Parameters
    ----------
    boldref : Volume
        Boldref of the BOLD run (3D).
    mask : Array
        Brain voxels of the boldref (3D, boolean).
    calibration : Volume
        Boldref of the calibration run (3D).
    calibration_mask : Array
        Brain voxels of the calibration run's boldref (3D, boolean).
    xfm : Array
        Transform of a boldref point to its calibration point (4 x 4, RAS+ mm).
    factor : Factor
        Ratio of acquired to high-resolution voxel size along each axis.

    Returns
    -------
    dict[str, float | None]
        Overlap, Dice coefficient and correlation, and the displacement of edges in mm (None if
        edges cannot be compared).
    """
    shape = boldref.data.shape
    resampled_mask = (
        low_resolution_grids.coverage(
            calibration_mask, calibration.affine, shape, boldref.affine, xfm
        )
        >= 0.5
    )
    overlap = float((resampled_mask & mask).sum() / max(int(mask.sum()), 1))
    grid_shape, affine = hr_grid(shape, boldref.affine, factor)
    calibration_image = sample_volume(
        calibration.data, calibration.affine, grid_shape, affine, xfm
    )
    # The calibration image is reduced to the resolution of the BOLD run.
    lowres_image = np.asarray(acquire(calibration_image, affine, factor=factor, magnitude=True)[0])
    common_mask = resampled_mask & mask
    facts: dict[str, float | None] = {
        "overlap": round(overlap, 4),
        "dice": round(similarity.dice(mask, resampled_mask), 4),
        "correlation": round(
            similarity.pearson_correlation(lowres_image[common_mask], boldref.data[common_mask]), 4
        ),
        "edges_apart_mm": None,
        "edges_apart_p90_mm": None,
    }
    try:
        mismatch = measure_edge_mismatch(
            boldref.data,
            lowres_image,
            common_mask,
            boldref.affine,
            blur_mm=float(boldref.zooms[:2].max()),
        )
    except InvalidInput:
        return facts
    distances = {"edges_apart_mm": mismatch.median, "edges_apart_p90_mm": mismatch.p90}
    return facts | {
        key: round(value, 3) if math.isfinite(value) else None for key, value in distances.items()
    }
