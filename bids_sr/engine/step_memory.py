"""Peak memory of steps, measured by ``benchmarks/resources.py`` in the processes of the steps.

Values are plain data, so that preflight can read them without importing the steps.
"""

from dataclasses import replace

from bids_sr.engine.memory import Need, Sizes, step_gb

# GB per million voxels to train the network of the `tv` paper, which keeps about 2,200 feature
# maps of whole volumes for the gradients. The value is 1.15 times the memory of a network of
# dense layers, which was also measured for larger volumes.
_DENSE_TRAINING_GB = 16.5
# GB per million voxels of an output grid, for point coordinates (float32), a volume and its
# copies; see `bids_sr.spatial.output_grids`
_OUTPUT_GRID_GB = 0.03
TRAIN = Need(always=0.3, high=0.2, dense=_DENSE_TRAINING_GB)
TRAIN_ON_VOLUMES = Need(always=0.45, high=0.0, learned=0.6, dense=_DENSE_TRAINING_GB)
VARIANCE = Need(always=0.1, high=0.57)
SERIES = Need(always=0.06, high=0.25, dense_piece=1.7, spaces=_OUTPUT_GRID_GB)
# On 64 x 64 x 34 voxels, a second thread requires .21 GB without and .30 GB with a calibration.
SUPER_RESOLVE = replace(SERIES, calibrated=4e-3, threads=0.27)
# for 100 volumes as float32, a copy of their brain voxels, and a slice in double precision
CALIBRATE = Need(always=0.06, high=0.7)
# measured for 25 task blocks and .79 million voxels: .32 GB, or .91 GB if series are compared with
# a measured series
MAPS = Need(always=0.06, high=0.23)
EFFECTS = Need(always=0.06, high=0.33, measured=0.76)
TO_TEMPLATE = Need(always=0.35, spaces=_OUTPUT_GRID_GB)
# Needs for structural scans are at least the memory that was measured with three contrasts of a
# million voxels (`benchmarks/resources.py`). Each further million voxels adds the float32 arrays
# that a step keeps at the same time. On 1.2 million voxels, registration alone takes .44 GB
# (rigid) or .76 GB (with a deformation), including libraries.
PREPARE_SCANS, TRAIN_ON_SCANS = Need(always=0.45, scans=0.16), Need(always=0.6, trained=0.12)
RESOLVE_SCANS, MEASURE_SCANS = Need(always=0.35, scans=0.12), Need(always=0.25, scans=0.30)
# needs of steps that only depend on the T1w image
SEGMENT = Need(always=0.31, t1w=0.032, high=0.0)
REGION = Need(always=0.05, t1w=0.052, high=0.0)
SHOW_IN_TEMPLATE = Need(always=0.35, t1w=0.030, high=0.0)
LARGEST_NEEDS = (
    SEGMENT,
    REGION,
    SHOW_IN_TEMPLATE,
    TRAIN,
    TRAIN_ON_VOLUMES,
    VARIANCE,
    SUPER_RESOLVE,
    CALIBRATE,
    EFFECTS,
    TO_TEMPLATE,
    PREPARE_SCANS,
    TRAIN_ON_SCANS,
    RESOLVE_SCANS,
    MEASURE_SCANS,
)
"""Memory needs of the most demanding steps, available to preflight without importing the steps."""


def find_largest_gb(sizes: Sizes) -> float:
    """Return the largest peak memory of any step (GB) for the given sizes."""
    return max(step_gb(need, sizes) for need in LARGEST_NEEDS if need.has_grids(sizes))
