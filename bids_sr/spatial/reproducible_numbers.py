"""Rounding and sign conventions that make results equal on every processor.

Linear algebra libraries sum in an order that depends on the processor, so the last digits of
results differ, and the sign of eigenvectors is arbitrary. Algorithms that amplify such
differences, such as iterative registration, start from the rounded values computed here.
"""

import numpy as np

from bids_sr.io.arrays import Array, Float

# Without rounding, a difference of 1e-16 in an initial transform or a grid can become .04 mm in a
# registration.
_ROUNDED = 2.0**-26
_EQUAL = 1e-6  # relative difference up to which entries of a component count as equally large


def round_values(values: Array) -> Float:
    """Round transforms or parameters (mm, rad, voxels) to multiples of 1.5e-8.

    At 200 mm from the origin rounding moves a point by 3e-6 mm.

    >>> float(round_values(0.1 + 0.2) - round_values(0.3))
    0.0
    """
    return np.rint(np.asarray(values, dtype=np.float64) / _ROUNDED) * _ROUNDED + 0.0


def fix_signs(components: Array) -> Array:
    """Flip the signs of components (T, K) so that the largest entry of each is positive.

    Among equally large entries, the first is used.

    >>> fix_signs(np.array([[-3.0, 1.0], [3.0000001, -0.5]])).tolist()
    [[3.0, 1.0], [-3.0000001, -0.5]]
    """
    sizes = np.abs(components)
    first = (sizes >= (1 - _EQUAL) * sizes.max(axis=0)).argmax(axis=0)
    leading = components[first, np.arange(components.shape[1])]
    return components * np.where(leading < 0, -1.0, 1.0)
