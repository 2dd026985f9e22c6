"""Corrections of p values for multiple comparisons."""

from collections.abc import Sequence

import numpy as np
from scipy import stats


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values by Holm's step-down procedure.

    `statsmodels.stats.multitest.multipletests` collects garbage in each call, which takes half a
    second per family.

    Parameters
    ----------
    p_values : Sequence[float]
        Uncorrected p values; NaN are ignored and stay NaN.
    """
    p = np.array(p_values, dtype=np.float64)
    defined = np.flatnonzero(np.isfinite(p))
    order = defined[np.argsort(p[defined], kind="stable")]
    p[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return p.tolist()


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return false discovery rates of p values (Benjamini and Hochberg 1995).

    Parameters
    ----------
    p_values : Sequence[float]
        Uncorrected p values; NaN are ignored and stay NaN.
    """
    p = np.array(p_values, dtype=np.float64)
    defined = np.isfinite(p)
    if defined.any():
        p[defined] = stats.false_discovery_control(p[defined])
    return p.tolist()
