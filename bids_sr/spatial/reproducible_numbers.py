"""Rounding and sign conventions that make results equal on every processor.

Linear algebra libraries sum in an order that depends on the processor, so the last digits of
results differ, and the sign of eigenvectors is arbitrary. Algorithms that amplify such
differences, such as iterative registration, start from the rounded values computed here.
"""

import numpy as np

from bids_sr.io.arrays import Array, Float

# Without rounding, a difference of 1e-16 in an initial transform or a grid can become 0.04 mm in a
# registration.
_ROUNDING_STEP = 2.0**-26
# relative difference up to which entries of a component count as equally large
_EQUALITY_TOLERANCE = 1e-6


def round_values(values: Array) -> Float:
    """Round transforms or parameters (mm, rad, voxels) to multiples of 1.5e-8.

    At 200 mm from the origin rounding moves a point by 3e-6 mm.

    >>> float(round_values(0.1 + 0.2) - round_values(0.3))
    0.0
    """
    return np.rint(np.asarray(values, dtype=np.float64) / _ROUNDING_STEP) * _ROUNDING_STEP + 0.0


def fix_signs(components: Array) -> Array:
    """Flip the signs of components (T, K) so that the largest entry of each is positive.

    Among equally large entries, the first is used.

    >>> fix_signs(np.array([[-3.0, 1.0], [3.0000001, -0.5]])).tolist()
    [[3.0, 1.0], [-3.0000001, -0.5]]
    """
    magnitudes = np.abs(components)
    leading_index = (magnitudes >= (1 - _EQUALITY_TOLERANCE) * magnitudes.max(axis=0)).argmax(
        axis=0
    )
    leading_values = components[leading_index, np.arange(components.shape[1])]
    return components * np.where(leading_values < 0, -1.0, 1.0)
