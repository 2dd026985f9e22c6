"""T1w image at both resolutions, as a training pair of another contrast."""

import numpy as np

from bids_sr.engine.artifacts import Image
from bids_sr.engine.memory import Need
from bids_sr.engine.step import Stage, step
from bids_sr.io.grids import Factor
from bids_sr.io.run_time import RunTime
from bids_sr.io.volume import Volume
from bids_sr.spatial import low_resolution_grids
from bids_sr.spatial.itk_files import Transforms
from bids_sr.spatial.matrices import acquire
from bids_sr.spatial.transforms import hr_grid, invert

# mm, spacing of samples of a high-resolution image that are averaged over pair voxels
_SAMPLE_MM = 1.0


@step(
    Stage.SUPER_RESOLUTION,
    makes=("train_highres", "train_lowres"),
    memory=Need(always=0.10, t1w=0.030, high=0.0),
    cost=RunTime(always=1.0),
)
def another_contrast(
    t1w_preproc: Image,
    boldref: Image,
    boldref2t1w_xfm: Transforms | None = None,
    *,
    factor: Factor,
) -> tuple[Image, Image]:
    """Compute a training pair from the T1w image, at both resolutions and in the frame of the run.

    `boldref2t1w_xfm` maps T1w points to boldref points (1, 4, 4; RAS mm).
    """
    t1w2boldref = None if boldref2t1w_xfm is None else invert(boldref2t1w_xfm[0])
    shape, affine = hr_grid(boldref.data.shape[:3], boldref.affine, factor)
    mean_t1w = low_resolution_grids.coverage(
        t1w_preproc.data, t1w_preproc.affine, shape, affine, t1w2boldref, mm=_SAMPLE_MM
    )
    highres = np.maximum(mean_t1w, 0)
    lowres, lowres_affine = acquire(highres, affine, factor=factor)
    return (
        Volume(highres.astype(np.float32), affine),
        Volume(np.maximum(lowres, 0).astype(np.float32), lowres_affine),
    )
