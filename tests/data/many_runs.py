"""Write several small BOLD runs of one participant with the same known effects, as a BIDS data
set.

The head moves between runs by a known translation, and each run has independent noise.
"""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from scipy.ndimage import shift

from data.simulated_run import STEM, ZOOMS, Scene


def write_runs(
    root: Path,
    names: Sequence[str],
    *,
    shifts_mm: Mapping[str, Sequence[float]] | None = None,
    scenes: Mapping[str, Mapping[str, object]] | None = None,
) -> Scene:
    """Write runs into one data set and return the scene of the first run.

    Parameters
    ----------
    root : Path
        Folder of the data set, which is in its folder ``bids``.
    names : Sequence[str]
        Entities after the participant, such as ``ses-A_task-tap_run-1``.
    shifts_mm : Mapping[str, Sequence[float]] | None, optional
        Shift of the head along each axis (mm) by name; 0 for runs that are not named.
    scenes : Mapping[str, Mapping[str, object]] | None, optional
        Further arguments of `Scene` by name.
    """
    bids = root / "bids"
    first = None
    for number, name in enumerate(names):
        scene = Scene(root / f"part{number}", seed=number + 1, **(scenes or {}).get(name, {}))  # type: ignore[arg-type]
        by = np.divide((shifts_mm or {}).get(name, (0.0, 0.0, 0.0)), ZOOMS)
        if by.any():
            scene.series.append(partial(shift, shift=(*by, 0), order=3, mode="nearest"))
        scene.write()
        folder = bids / "sub-01"
        if name.startswith("ses-"):
            folder /= name.partition("_")[0]
        (folder / "func").mkdir(parents=True, exist_ok=True)
        for path in scene.func.iterdir():
            path.rename(folder / "func" / path.name.replace(STEM, f"sub-01_{name}"))
        for path in scene.bids.iterdir():
            if path.is_file():
                shutil.copy(path, bids / path.name)
        shutil.rmtree(scene.root)
        first = first or scene
    assert first is not None
    return first
