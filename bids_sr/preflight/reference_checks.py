"""Whether a measured series is really of the run it is to be the truth of: told from the voxels.

Brought down to the resolution of the run, the truth has to look like it, and to change from a volume to the next as it
does. Noise and physiology of one run are those of no other, so that the second tells runs of one head apart.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_sr.bids import BoldRun, Problem
from bids_sr.sr.resolution.degradation import kspace_crop

PLACES = 10  # in time, at each of which two volumes that follow one another are read
ALIKE = 0.5  # correlation over voxels below which it is another head, or the same one elsewhere
TOGETHER = 0.1  # correlation of changes below which it is another run; it was .25 and more with much noise added
_BRIGHT = 0.25  # of the 98th percentile

Array = npt.NDArray[np.float64]


def check_truth(run: BoldRun) -> list[Problem]:
    """Hold the voxels of the truth against those of the run; both are sound images of as many volumes."""
    if run.truth is None or run.truth.bold is None:
        return []
    starts = np.unique(np.linspace(0, run.n_volumes - 2, PLACES).round().astype(int))
    wanted = sorted({int(t) for start in starts for t in (start, start + 1)})
    own, other = _read(run.bold, wanted), _read(run.truth.bold, wanted)
    factor = tuple(n / m for n, m in zip(other[wanted[0]].shape, run.shape, strict=True))
    low = {t: kspace_crop(v, np.eye(4), factor=factor, magnitude=True)[0] for t, v in other.items()}
    mean = np.mean([own[t] for t in wanted], axis=0)
    inside = mean > _BRIGHT * np.percentile(mean, 98)
    alike = _correlation(mean[inside], np.mean([low[t] for t in wanted], axis=0)[inside])
    changes = [np.concatenate([(v[t + 1] - v[t])[inside] for t in map(int, starts)]) for v in (own, low)]
    together = _correlation(*changes)
    fix = "Give the measured volumes of this very run with --truth."
    if alike < ALIKE:
        reason = (
            f"brought down, it looks unlike {run.bold.name} (correlation {alike:.2f}): another head, or one elsewhere"
        )
        return [Problem(file=str(run.truth.bold), reason=reason, fix=fix)]
    if together < TOGETHER:
        reason = f"it does not change as {run.bold.name} does (correlation {together:.2f}): another run of that head"
        return [Problem(file=str(run.truth.bold), reason=reason, fix=fix)]
    return []


def _correlation(first: Array, second: Array) -> float:
    a, b = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0


def _read(path: Path, wanted: list[int]) -> dict[int, Array]:
    """Some volumes of a series, in one forward pass."""
    import nibabel as nb

    image: Any = nb.load(path)
    dtype, shape = image.header.get_data_dtype(), image.shape[:3]
    slope, intercept = (
        default if value is None or not np.isfinite(value) else value
        for value, default in zip(image.header.get_slope_inter(), (1.0, 0.0), strict=True)
    )
    size = int(np.prod(shape)) * dtype.itemsize
    opener: Any = gzip.open if path.suffix == ".gz" else open
    found = {}
    with opener(path, "rb") as stream:
        for t in wanted:
            stream.seek(int(image.dataobj.offset) + t * size)
            raw = np.frombuffer(stream.read(size), dtype=dtype).astype(np.float64)
            found[t] = (raw * slope + intercept).reshape(shape, order="F")
    return found
