"""Alternation: every second volume has another contrast, such as label and control, or VASO."""

import numpy as np
import numpy.typing as npt

LARGEST_ALTERNATION = 0.105
"""Largest share by which every second volume may be darker in a model: 10 %, and rounding."""
EXAMINED_VOLUMES = 64
"""Largest number of successive volumes that are examined."""
_LEAST_ALTERNATION = 0.005  # of the brighter volumes; less can be physiology
_LEAST_AGREEMENT = 0.9  # of the volumes that differ from their neighbors in the same way
_MIN_VOLUMES = 16


def measure_alternation(signal: npt.ArrayLike) -> float:
    """Return the share by which every second volume is darker than the others.

    `signal` is the mean signal of successive volumes (T,). 0 if volumes do not alternate.

    >>> round(measure_alternation([100, 94] * 10), 3), measure_alternation([100, 101] * 4)
    (0.06, 0.0)
    """
    values = np.asarray(signal, dtype=np.float64)[:EXAMINED_VOLUMES]
    if len(values) < _MIN_VOLUMES or not np.median(values) > 0:
        return 0.0
    changes = values[1:-1] - (values[:-2] + values[2:]) / 2
    changes[::2] *= -1
    change = float(np.median(changes))
    share = abs(change) / (float(np.median(values[1:] + values[:-1])) / 2 + abs(change) / 2)
    agrees = np.mean(np.sign(changes) == np.sign(change)) >= _LEAST_AGREEMENT
    return share if agrees and share >= _LEAST_ALTERNATION else 0.0


def describe_alternation(share: float) -> str:
    """Return what was found as the start of a sentence."""
    return (
        f"every second volume is {share:.0%} darker than its neighbors, so two contrasts"
        " alternate, such as label and control, or nulled and not nulled (VASO)"
    )


SPLIT_FIX = "Split the series into odd and even volumes, runs of twice the repetition time."
"""What to do with a run that alternates more than models allow."""
