"""Series of an evaluation on one grid, effects of their blocks, and the rows of the table."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from bids_sr.api.image_inputs import ImageLike, InputError, Run, opened, there, undo_motion, volume_of
from bids_sr.io.array_types import Float, Float32, Mask
from bids_sr.io.grids import EDGE_TOLERANCE, corners_apart, inside_field
from bids_sr.io.nifti import SeriesReader
from bids_sr.metrics.long_tables import EVALUATION, MetricRow
from bids_sr.series import BASELINES, MEASURED, PCA_RANKS, kind_of
from bids_sr.stats.evaluation.reference_effects import effect_rows
from bids_sr.stats.evaluation.reference_images import image_rows, volume_scores
from bids_sr.stats.evaluation.split_half_table import split_half_rows
from bids_sr.stats.glm.block_effects import block_effects, save_effects
from bids_sr.stats.glm.blocks import BlockDesign
from bids_sr.stats.glm.regressors import DesignError, Events, Seeds, read_events, read_seeds
from bids_sr.stats.glm.seeds import seed_series, seed_voxels
from bids_sr.stats.regions.map_summary import Grid

MOST_VOLUMES = 60  # evenly spaced, of which single images are scored

Contrasts = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fine:
    """The high-resolution grid of a run: brain and region of interest on it."""

    mask: Mask
    roi: Mask
    affine: Float
    factor: tuple[float, float, float]


def checked_names(series: Any, not_applied: Sequence[str] = ()) -> None:
    """Refuse names that stand for something else in tables, or hold more than letters and digits, or are no series."""
    if not isinstance(series, Mapping) or not series:
        needed = "a mapping of name to image or fitted SuperResolver is needed, such as {'sbl': resolver}"
        raise InputError(f"series: {needed}, not {series!r:.60}")
    names = [str(name) for name in series]
    if strange := [name for name in not_applied if name not in names]:
        raise InputError(f"not_applied: {', '.join(map(repr, strange))} is no series; there are {', '.join(names)}")
    for name in names:
        if not (name.isascii() and name.isalnum()) or kind_of(name) != "method":
            taken = f"{', '.join(BASELINES)}, raw, run, measured, which stand for others (baselines are made here)"
            raise InputError(f"series: {name!r} cannot name a series; take letters and digits, and none of {taken}")


def of_runs(what: Any) -> Any:
    """One entry of the series to evaluate, as a list where it is of several runs: images, or estimators of a list."""
    return getattr(what, "runs_", None) or what


def series_on(fine: Fine, image: ImageLike, n_volumes: int, folder: Path, name: str) -> Path:
    """The file of a super-resolved series.

    Raises
    ------
    InputError : another grid than that of the run at the high resolution, or another number of volumes
    """
    wanted = (*fine.mask.shape, n_volumes)
    with opened(image, folder, name) as reader:
        if reader.shape != wanted or not np.allclose(reader.affine, fine.affine, atol=1e-3):
            what = f"{name} is {reader.shape}, and the run at the high resolution {wanted} on the grid of its reference"
            raise InputError(f"series: {what}; give what SuperResolver.transform returns, or another factor")
        return reader.path


def measured_on(fine: Fine, truth: ImageLike, run: Run, folder: Path) -> Path:
    """The measured series through the head motion of the run, on the high-resolution grid.

    Raises
    ------
    InputError : another number of volumes, or another grid or field of view than that of the run, raised by the factor
    """
    path = folder / "measured.nii"
    with opened(truth, folder, "truth") as reader:
        count = reader.shape[3]
        if count != len(run.poses):
            fix = "a measured reference is of the same run (or give known activation: {contrast: image})"
            raise InputError(f"truth: {count} volumes, the acquired series has {len(run.poses)}; {fix}")
        x, y, z = fine.mask.shape
        apart = corners_apart(reader.shape[:3], reader.affine, run.mask.shape, run.affine)
        limit = EDGE_TOLERANCE * min(reader.zooms)
        if reader.shape[:3] != (x, y, z) or apart > limit:
            raise InputError(
                f"truth: its grid is {reader.shape[:3]}, and {(x, y, z)} is that of the run at the high resolution; "
                f"the outer edges of the two fields of view lie up to {apart:.3g} mm apart, and {limit:.2g} mm are "
                "allowed; give the series measured in the same field of view, with axes in the same directions"
            )
        return undo_motion(reader, run, path, fine.affine)


def events_of(events: pd.DataFrame | str | Path) -> Events:
    """Events as the program reads them, from a table or a BIDS file.

    Raises
    ------
    InputError : there is no such file, or it is no table of events
    """
    columns = "give onset, duration (s) and trial_type"
    if not isinstance(events, (pd.DataFrame, str, os.PathLike)):
        raise InputError(f"events: a DataFrame or the path of a BIDS file is needed, not {type(events).__name__}")
    try:
        if not isinstance(events, pd.DataFrame):
            return read_events(there(events, "events"))
        text = events.astype(object).where(events.notna(), "n/a").astype(str)
        return Events.of(list(text), enumerate(text.to_dict("records"), 2), "events")
    except DesignError as error:
        reason = str(error).removeprefix("events: ")
        raise InputError(f"events: {reason}; {columns}") from None


def seeds_of(
    raw: SeriesReader, seeds: Mapping[str, Sequence[float]], run: Run, radius_mm: float, folder: Path
) -> Seeds:
    """Time series of seeds, in the place of events.

    Raises
    ------
    InputError : a seed outside the brain
    """
    voxels = {}
    for name, center in seeds.items():
        try:
            voxels[name] = seed_voxels(run.mask, run.affine, center, radius_mm)
        except ValueError as error:
            raise InputError(f"seeds: {name} at {tuple(center)}: {error}; give scanner coordinates (RAS mm)") from None
    path = folder / "seeds_timeseries.tsv"
    Seeds(seed_series(raw, voxels, run.n_dummy)).write(path)
    return read_seeds(path)


def effects_file(path: Path, name: str, mask: Mask, design: BlockDesign, *, with_t: bool, folder: Path) -> Path:
    """Effects of all blocks of one series."""
    with SeriesReader(path) as reader, threadpool_limits(1):
        found = block_effects(
            reader, mask, design, series=name, with_t=with_t, pca_ranks=PCA_RANKS if name == "bspline" else (),
            scratch=folder / "components.raw",
        )  # fmt: skip
    return save_effects(found, folder / f"{name}_effects.npz")


def checked_truths(known: Mapping[str, ImageLike], contrasts: Contrasts) -> None:
    """Refuse known activation of contrasts that there are not."""
    if strange := [name for name in known if name not in contrasts]:
        names = ", ".join(map(repr, strange))
        raise InputError(f"truth: {names} is no contrast of this evaluation; there are {', '.join(contrasts)}")


def _covering(fine: Fine, image: ImageLike, folder: Path, name: str) -> tuple[Float32, Float]:
    """Known activation of one contrast; InputError where its field of view leaves out a part of the brain."""
    data, affine = volume_of(image, folder, f"truth_{name}")
    inside = inside_field(np.argwhere(fine.mask), fine.affine, data.shape, affine, EDGE_TOLERANCE)
    if not inside.all():
        what = f"the field of view of {name} covers {inside.mean():.0%} of the brain"
        raise InputError(f"truth: {what}; give a map in the frame of the reference that covers all of it")
    return data, affine


def rows_of(
    effects: Mapping[str, Path], fine: Fine, contrasts: Contrasts, known: Mapping[str, ImageLike], folder: Path, *,
    n_boot: int, seed: int,
) -> list[MetricRow]:  # fmt: skip
    """Rows of split halves, and of the truth where there is one."""
    truths = {name: _covering(fine, image, folder, name) for name, image in known.items()}
    with threadpool_limits(1):
        rows = split_half_rows(
            effects, fine.mask, fine.affine, fine.roi, contrasts, factor=fine.factor, n_boot=n_boot, seed=seed
        )
        if MEASURED in effects or truths:
            grid = Grid(mask=fine.mask, affine=fine.affine)
            rows += effect_rows(
                effects, contrasts, grid=grid, roi=fine.roi, factor=fine.factor, known=truths, n_boot=n_boot, seed=seed
            )
    return rows


def rows_of_images(
    files: Mapping[str, Path], measured: Path, mask: Mask, *, n_dummy: int, n_boot: int, seed: int
) -> list[MetricRow]:  # fmt: skip
    """Rows of single volumes against the measured ones."""
    with ExitStack() as stack:
        readers = {name: stack.enter_context(SeriesReader(path)) for name, path in files.items()}
        truth = stack.enter_context(SeriesReader(measured))
        scores = volume_scores(readers, truth, mask, n_dummy=n_dummy, max_volumes=MOST_VOLUMES)
    return image_rows(scores, seed=seed, n_boot=n_boot)


def as_table(rows: Sequence[MetricRow]) -> pd.DataFrame:
    """Rows as a table of one value each, with the columns of the program's; numbers that are not defined are NaN."""
    table = pd.DataFrame([{name: getattr(row, name) for name in EVALUATION} for row in rows], columns=list(EVALUATION))
    return table.astype({"n": "Int64", "value": float, "lower": float, "upper": float})


def in_memory(data: Any, affine: Float) -> nib.Nifti1Image:
    """An image of an array; masks are stored as bytes."""
    return nib.Nifti1Image(np.asarray(data, np.uint8 if data.dtype == bool else np.float32), affine)
