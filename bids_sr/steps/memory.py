"""Peak memory of steps, measured by ``benchmarks/resources.py`` in the processes of the steps.

Values are plain data, so that preflight can read them without importing the steps.
"""

from dataclasses import replace

from bids_sr.config.memory import Need, Sizes, step_gb


def _of_t1w(always: float, t1w: float) -> Need:
    """Return the memory of a step that only depends on the T1w image."""
    return Need(always=always, t1w=t1w, high=0.0)


# GB per million voxels: to compute gradients, ten dense layers keep about 2,000 feature maps of
# complete volumes in memory (``benchmarks/results/dense_memory.md``)
_DENSE_TRAINING = 14.0
# float32 points, a volume, and its copies; see `bids_sr.spatial.output_grids`
_SPACES = 0.03
SEGMENT = _of_t1w(0.31, 0.032)
REGION = _of_t1w(0.05, 0.052)
SHOW_IN_TEMPLATE = _of_t1w(0.35, 0.030)
TRAIN = Need(always=0.3, high=0.2, dense=_DENSE_TRAINING)
TRAIN_ON_VOLUMES = Need(always=0.45, high=0.0, learned=0.6, dense=_DENSE_TRAINING)
VARIANCE = Need(always=0.1, high=0.57)
SERIES = Need(always=0.06, high=0.25, dense_piece=1.6, spaces=_SPACES)
# A second thread takes .21 GB without and .30 GB with calibration on 64 x 64 x 34 voxels.
RESOLVE = replace(SERIES, calibrated=4e-3, threads=0.27)
# 100 volumes as float32, a copy of their brain voxels, and a slice in double precision
CALIBRATE = Need(always=0.06, high=0.7)
# 25 blocks: .32 GB on .79 million voxels, .91 GB if series are compared with a measured series
MAPS = Need(always=0.06, high=0.23)
EFFECTS = Need(always=0.06, high=0.33, measured=0.76)
TO_TEMPLATE = Need(always=0.35, spaces=_SPACES)
# At least the memory measured with three contrasts of a million voxels
# (`benchmarks/resources.py`); per further million voxels, as many float32 arrays as a step holds
# at the same time. On 1.2 million voxels, registration alone takes .44 GB (rigid) or .76 GB (with
# a deformation), including libraries.
PREPARE_SCANS, TRAIN_ON_SCANS = Need(always=0.45, scans=0.16), Need(always=0.6, trained=0.12)
RESOLVE_SCANS, MEASURE_SCANS = Need(always=0.35, scans=0.12), Need(always=0.25, scans=0.30)
LARGEST = (
    SEGMENT,
    REGION,
    SHOW_IN_TEMPLATE,
    TRAIN,
    TRAIN_ON_VOLUMES,
    VARIANCE,
    RESOLVE,
    CALIBRATE,
    EFFECTS,
    TO_TEMPLATE,
    PREPARE_SCANS,
    TRAIN_ON_SCANS,
    RESOLVE_SCANS,
    MEASURE_SCANS,
)
"""Largest needs of steps in any graph, so that preflight does not have to import the steps."""


def largest_gb(sizes: Sizes) -> float:
    """Return the largest peak memory of any step (GB) for the given sizes."""
    return max(step_gb(need, sizes) for need in LARGEST if need.is_there(sizes))
