"""T1w image at both resolutions, as a training pair of another contrast."""

import numpy as np

from bids_sr.config.memory import Need
from bids_sr.io.grids import Factor
from bids_sr.io.volume import Volume
from bids_sr.pipeline.artifacts import Image, Transforms
from bids_sr.pipeline.step import step
from bids_sr.run_time import RunTime
from bids_sr.spatial import low_resolution_grids
from bids_sr.spatial.transforms import hr_grid, invert
from bids_sr.sr.matrices import acquire

# mm, spacing of samples of a high-resolution image that are averaged over pair voxels
_SAMPLE_MM = 1.0


@step(
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
    xfm = None if boldref2t1w_xfm is None else invert(boldref2t1w_xfm[0])
    shape, grid = hr_grid(boldref.data.shape[:3], boldref.affine, factor)
    high = np.maximum(
        low_resolution_grids.coverage(
            t1w_preproc.data, t1w_preproc.affine, shape, grid, xfm, mm=_SAMPLE_MM
        ),
        0,
    )
    low, low_affine = acquire(high, grid, factor=factor)
    if low.shape != boldref.data.shape[:3]:
        raise ValueError(
            f"boldref: downsampling the grid {shape} by {factor} results in {low.shape};"
            f" expected {boldref.data.shape[:3]}"
        )
    return Volume(high.astype(np.float32), grid), Volume(
        np.maximum(low, 0).astype(np.float32), low_affine
    )
