"""Memory of the steps, as ``benchmarks/resources.py`` measured it in the processes that ran them.

Plain values, which preflight reads without importing the steps.
"""

from dataclasses import replace

from bids_sr.config.memory import Need, Sizes, step_gb


def _of_t1w(always: float, t1w: float) -> Need:
    return Need(always=always, t1w=t1w, high=0.0)


# Ten dense layers keep some 2,000 channels of whole volumes for their gradients
# (``benchmarks/results/dense_memory.md``)
_DENSE_TRAINING = 14.0
# Points of float32, a volume and its copies; see `bids_sr.spatial.output_grids`
_SPACES = 0.03
SEGMENT = _of_t1w(0.31, 0.032)
REGION = _of_t1w(0.05, 0.052)
SHOW_IN_TEMPLATE = _of_t1w(0.35, 0.030)
TRAIN = Need(always=0.3, high=0.2, dense=_DENSE_TRAINING)
TRAIN_ON_VOLUMES = Need(always=0.45, high=0.0, learned=0.6, dense=_DENSE_TRAINING)
VARIANCE = Need(always=0.1, high=0.57)
SERIES = Need(always=0.06, high=0.25, dense_piece=1.6, spaces=_SPACES)
# 0.21 and 0.30 GB for a second thread on 64 x 64 x 34 voxels, without and with a calibration
RESOLVE = replace(SERIES, calibrated=4e-3, threads=0.27)
# 100 volumes as float32, those of the brain once more, and a slice in double precision
CALIBRATE = Need(always=0.06, high=0.7)
# 25 blocks: 0.32 GB on 0.79 million voxels, 0.91 GB where those measured are compared
MAPS = Need(always=0.06, high=0.23)
EFFECTS = Need(always=0.06, high=0.33, measured=0.76)
TO_TEMPLATE = Need(always=0.35, spaces=_SPACES)
# No less than was measured on three contrasts of a million voxels (`benchmarks/resources.py`), and
# for a million voxels more as many float32 arrays as a step holds at one time; registration alone,
# on 1.2 million voxels: 0.44 GB rigidly, 0.76 GB with a deformation, with the libraries
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
"""Of the steps of every graph none needs more than these, so that preflight need not import the
steps.
"""


def largest_gb(sizes: Sizes) -> float:
    """The step that needs most (GB).

    Memory of its process at the peak (GB).
    """
    return max(step_gb(need, sizes) for need in LARGEST if need.is_there(sizes))
