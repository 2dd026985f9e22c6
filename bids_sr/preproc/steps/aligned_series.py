"""Records of an aligned run, from which steps take the fields that they use.

`factor` is the ratio of acquired to high-resolution voxel size, per axis.
"""

from bids_sr.engine.artifacts import Facts, Image, Mask, Series
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.itk_files import Transforms


@frozen
class BrainMasks:
    """Brain masks on the acquired and on the high-resolution grid of a run."""

    bold_mask: Mask
    bold_mask_hr: Mask


@frozen
class BoldBrain:
    """Boldref of a run with its brain mask."""

    boldref: Image
    bold_mask: Mask
    factor: Factor


@frozen
class RunBrain(BoldBrain, BrainMasks):
    """Boldref of a run with its brain masks on both grids."""


@frozen
class PosedBrain:
    """Brain mask of a run with the head positions in its volumes.

    `hmc_xfms` are transforms of boldref points to points of each volume (T, 4, 4; RAS mm).
    `outliers` are outlier volumes; None if they were not searched.
    """

    bold_mask: Mask
    hmc_xfms: Transforms
    factor: Factor
    outliers: Facts | None = None


@frozen
class AlignedSeries:
    """Series before motion correction, with the estimates that align its volumes.

    `stc` is the series after slice-timing correction and requested smoothing (signal units).
    `distortion` is the susceptibility distortion of the volumes; None if there is no field map.
    See `PosedBrain` for other fields.
    """

    stc: Series
    boldref: Image
    bold_mask: Mask
    hmc_xfms: Transforms
    factor: Factor
    distortion: Distortion | None = None
    outliers: Facts | None = None
