"""Measured runs prepared for comparisons: without drift, the brain, and their strongest temporal
components.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FACTOR = (2.0, 2.0, 1.0)
FIRST = 5  # volumes before the steady state
COUNT, NOISE, DRIFTS = 40, 1.5, 6
Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One measured run: (X, Y, Z, T) without drift, the brain, and its participant."""

    name: str
    person: str
    series: Array
    mask: Array


def without_drift(name: str, person: str, data: Array) -> Run:
    """Return a run after regressing out drift; brain voxels have a mean above a quarter of its
    upper end.
    """
    mean, count = data.mean(-1), data.shape[-1]
    mask = mean > 0.25 * np.percentile(mean, 98)
    waves = np.cos(np.pi * (np.arange(count) + 0.5)[:, None] * np.arange(DRIFTS) / count)
    basis = np.linalg.qr(np.c_[np.linspace(-1, 1, count), waves])[0].astype(np.float32)
    return Run(name=name, person=person, series=data - (data @ basis) @ basis.T, mask=mask)


def components(series: Array, mask: Array) -> Tensor:
    """Return the (C, Z, X, Y) strongest temporal components, above the noise."""
    count = series.shape[-1]
    inside = series[mask].astype(np.float64)
    values, vectors = np.linalg.eigh(inside.T @ inside)
    above = int((values > NOISE * np.median(values[DRIFTS:])).sum())
    count_above_noise = min(COUNT, max(8, above))
    maps = series @ (vectors[:, ::-1][:, :count_above_noise] / np.sqrt(count)).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(maps.transpose(3, 2, 0, 1)))
