"""How variance maps are found, as plain values: no library is imported."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimator:
    """How w is found.

    Parameters
    ----------
    kind : "wmn", "focuss", "sbl", or "sdmod" for the control that multiplies by a standard deviation
    fwhm : full widths of the correlations K_q (voxels of the high-resolution grid), one variance map each; none for
        sdmod
    noise : s2 over the mean variance of the data
    power : to which standard deviations are raised (wmn, focuss)
    rounds : estimations of w again (focuss), updates (sbl)
    draws : from the prior, an update
    step : power of the ratio by which w is multiplied
    equalize : components are divided by this power of their size
    smooth, across : standard deviations of the smoothing of the ratios, in plane and across slices (voxels)
    pull : share by which log w is drawn towards its neighborhood (1 voxel) at each update
    """

    kind: str = "sbl"
    fwhm: tuple[float, ...] = (3.0, 1.5)
    noise: float = 1e-3
    power: float = 1.0
    rounds: int = 6
    draws: int = 48
    step: float = 0.5
    equalize: float = 0.75
    smooth: float = 0.7
    across: float = 0.4
    pull: float = 0.1
