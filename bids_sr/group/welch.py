"""Welch's analysis of variance for groups with different variances."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from bids_sr.frozen import frozen


@frozen
class WelchAnova:
    """F, degrees of freedom and p value of Welch's ANOVA; NaN if not defined."""

    f: float = math.nan
    dof_between: float = math.nan
    dof_within: float = math.nan
    p: float = math.nan


def welch_anova(groups: Sequence[npt.ArrayLike]) -> WelchAnova:
    """Test whether groups have equal means, without the assumption of equal variances.

    Source: Welch 1951 (Biometrika 38:330), as implemented in GraphPad Prism and R's
    ``oneway.test``. For two groups, F is the square of Welch's t. scipy 1.16 and later contain the
    same test.

    Parameters
    ----------
    groups : Sequence[npt.ArrayLike]
        Independent values of each group (n,).

    Returns
    -------
    WelchAnova
        All values are NaN if there are fewer than two groups, or if a group has fewer than two
        values or no variance.

    >>> result = welch_anova([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    >>> round(result.f, 3), round(result.dof_within, 3)
    (2.4, 2.941)
    """
    values = [np.asarray(group, dtype=np.float64) for group in groups]
    if len(values) < 2 or any(len(group) < 2 for group in values):
        return WelchAnova()
    count = np.array([len(group) for group in values], dtype=np.float64)
    mean = np.array([group.mean() for group in values])
    variance = np.array([group.var(ddof=1) for group in values])
    if not (np.isfinite(variance).all() and (variance > 0).all()):
        return WelchAnova()
    k = len(values)
    weight = count / variance
    share = weight / weight.sum()
    between = float((weight * (mean - (share * mean).sum()) ** 2).sum()) / (k - 1)
    spread = float(((1 - share) ** 2 / (count - 1)).sum())
    f = between / (1 + 2 * (k - 2) / (k**2 - 1) * spread)
    dof = (k**2 - 1) / (3 * spread)
    return WelchAnova(
        f=f, dof_between=float(k - 1), dof_within=dof, p=float(stats.f.sf(f, k - 1, dof))
    )
