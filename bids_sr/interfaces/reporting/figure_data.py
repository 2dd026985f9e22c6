"""Files to the arrays that figures are drawn from: grids for display, thinned carpets, maps found by their entities."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_sr.registration.ants import Image
from bids_sr.registration.ants import load as load
from bids_sr.series import parse_map_label

Array = npt.NDArray[Any]
MAX_CARPET_ROWS = 1500
DISPLAY_MM = 1.5
FINE_MM = 0.85


def read_json(path: str) -> Any:
    """What a JSON file holds."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def judged_contrast(rows: Sequence[Any], verdict: Mapping[str, Any]) -> str:
    """The contrast of the evidence that a verdict rests on; empty where no method was applied or none was compared."""
    from bids_sr.stats.evaluation.evidence import best_table

    table = best_table(rows, [verdict["best"]]) if verdict["best"] else None
    return "" if table is None else table.contrast


def onto(image: Image | str, shape: Sequence[int], affine: Array, xfm: Array | None = None) -> Array:
    """An image (or its file) on a display grid, linearly, zero outside; ``xfm`` takes a grid point to the image's."""
    from bids_sr.spatial.resampling import Spline, sample_volume

    image = load(image) if isinstance(image, str) else image
    same = image.data.shape == tuple(shape) and np.allclose(image.affine, affine, atol=1e-4)
    if xfm is None and same:
        return image.data
    spline = Spline(order=1, mode="constant")
    return sample_volume(image.data, image.affine, tuple(shape), affine, xfm=xfm, spline=spline)


def percent_of(boldref: str, bold_mask: str) -> float | None:
    """What turns signal into percent of the mean signal of the run's brain; None without the reference of the run."""
    from bids_sr.spatial.masks import percent_scale

    return percent_scale(load(boldref).data, load(bold_mask).data > 0.5) if boldref and bold_mask else None


def first_matrix(path: str) -> Array:
    """The first transform of an ITK text file, as a 4 × 4 RAS matrix."""
    from bids_sr.spatial.transforms import read_itk

    return np.asarray(read_itk(path)[0])


def display_grid(mask: Image, *, zoom: float = DISPLAY_MM, margin: float = 12.0) -> tuple[tuple[int, int, int], Array]:
    """An isotropic grid along the axes of a mask's image that holds the mask and a margin (mm); never finer than it.

    Returns
    -------
    shape and affine (voxel → RAS mm)
    """
    filled = np.argwhere(mask.data > 0)
    if not len(filled):
        filled = np.array([[0, 0, 0], np.array(mask.data.shape) - 1])
    sizes = np.sqrt((mask.affine[:3, :3] ** 2).sum(axis=0))
    zoom = max(zoom, float(sizes.min()))
    first, last = filled.min(axis=0) - margin / sizes, filled.max(axis=0) + margin / sizes
    affine = np.eye(4)
    affine[:3, :3] = mask.affine[:3, :3] / sizes * zoom
    affine[:3, 3] = mask.affine[:3, :3] @ first + mask.affine[:3, 3]
    shape = np.maximum(np.ceil((last - first) * sizes / zoom).astype(int), 1)
    return (int(shape[0]), int(shape[1]), int(shape[2])), affine


def native_or_display(mask: Image) -> tuple[tuple[int, int, int], Array]:
    """The grid of a mask itself, which costs no interpolation; an isotropic one of 1 mm where voxels are much finer."""
    if float(np.sqrt((mask.affine[:3, :3] ** 2).sum(axis=0)).min()) < FINE_MM:
        return display_grid(mask, zoom=1.0)
    x, y, z = mask.data.shape
    return (x, y, z), mask.affine


def carpet(path: str, mask: Array, tissues: Mapping[str, Array]) -> tuple[Array, list[tuple[str, int]], float]:
    """Time series of a thinned set of voxels, grouped by tissue, read one volume at a time.

    Parameters
    ----------
    path : the series
    mask : (X, Y, Z) on its grid
    tissues : probabilities on its grid by name, in the order of the groups; none: one group, ``brain``

    Returns
    -------
    (voxels, T) float32 with at most ``MAX_CARPET_ROWS`` rows; name and size of each group; repetition time (s)
    """
    from bids_sr.io.nifti import SeriesReader

    inside = np.asarray(mask) > 0
    groups = {"brain": np.flatnonzero(inside)}
    if tissues:
        stack = np.stack([np.asarray(each) for each in tissues.values()])
        label = np.where(inside & (stack.max(axis=0) > 0.5), stack.argmax(axis=0), -1)
        groups = {name: np.flatnonzero(label == k) for k, name in enumerate(tissues)}
    total = sum(len(voxels) for voxels in groups.values())
    step = max(1, -(-total // MAX_CARPET_ROWS))
    groups = {name: voxels[::step] for name, voxels in groups.items() if len(voxels[::step])}
    chosen = np.concatenate(list(groups.values())) if groups else np.zeros(0, dtype=int)
    with SeriesReader(path) as reader:
        rows = np.empty((len(chosen), reader.shape[3]), dtype=np.float32)
        for t, volume in enumerate(reader.volumes()):
            rows[:, t] = volume.reshape(-1)[chosen]
        repetition = reader.tr
    return rows, [(name, len(voxels)) for name, voxels in groups.items()], repetition or 1.0


def table(path: str) -> dict[str, Array]:
    """Columns of a TSV of numbers; n/a and text become NaN."""
    import pandas as pd

    frame = pd.read_csv(path, sep="\t", na_values=["n/a"])
    return {name: pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float) for name in frame}


def ordered(names: Iterable[str], wanted: Sequence[str]) -> list[str]:
    """Names in the wanted order, then the others; each once."""
    known = list(dict.fromkeys(names))
    return [name for name in wanted if name in known] + [name for name in known if name not in wanted]


@dataclass(frozen=True, kw_only=True, slots=True)
class MapFiles:
    """Statistical maps and region masks of a run, by what their entities say."""

    # (contrast, stat, smoothing in tenths of mm) to series name to file
    stats: dict[tuple[str, str, int], dict[str, str]] = field(default_factory=dict)
    # (contrast, kind of region, smoothing in tenths of mm) to series name to file
    regions: dict[tuple[str, str, int], dict[str, str]] = field(default_factory=dict)
    # (stat, smoothing in tenths of mm) to series name to file, of a run at rest
    amplitudes: dict[tuple[str, int], dict[str, str]] = field(default_factory=dict)


def sort_maps(paths: Sequence[str], entities: Sequence[Mapping[str, str]]) -> MapFiles:
    """Order files by contrast, statistic or region, smoothing and series; maps in another space are left out."""
    found = MapFiles()
    for path, each in zip(paths, entities, strict=True):
        if each.get("space"):
            continue
        series, fwhm_mm, region = parse_map_label(each["desc"])
        fwhm = round(10 * fwhm_mm)
        if each.get("suffix") == "statmap":
            found.stats.setdefault((each["contrast"], each["stat"], fwhm), {})[series] = path
        elif each.get("suffix") == "boldmap" and each.get("stat") in ("alff", "falff"):
            found.amplitudes.setdefault((each["stat"], fwhm), {})[series] = path
        elif each.get("suffix") == "mask" and region:
            found.regions.setdefault((each["label"], region, fwhm), {})[series] = path
    return found


def flat(lists: Iterable[Any]) -> list[Any]:
    """One list of what may be lists of lists (as joins of workflows make them)."""
    return [item for each in lists for item in (flat(each) if isinstance(each, list) else [each])]
