"""Block effects of measured runs at half and at the final resolution, stored for any rule.

The steps of the program that compute effects are repeated with their inputs from the working
directory of a call (`_people_runs`).
"""

import gzip
import json
import pickle
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bids_sr.engine.artifacts import Facts, File, Mask, Series, read_entities
from bids_sr.engine.metric_rows import MetricRow, read_table, table_text
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.evaluation.agreement import agreement_rows
from bids_sr.evaluation.effects_of_run import RunEffects
from bids_sr.evaluation.references import make_half_reference
from bids_sr.evaluation.steps.half_resolution import (
    HalfResolutionEffects,
    HalfResolutionPrior,
    run_half_resolution_test,
)
from bids_sr.evaluation.tested_detail import iterate_tested_detail
from bids_sr.glm.block_effects import Effects
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.regressors import Events
from bids_sr.glm.steps.activation import map_series
from bids_sr.glm.steps.block_effects import measure_effects
from bids_sr.glm.steps.linear_models import LinearModel
from bids_sr.io.arrays import Float32
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import load_image
from bids_sr.preproc.steps.outlier_volumes import reasons_by_volume
from bids_sr.spatial.itk_files import Transforms
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.models.model import load_model
from bids_sr.sr.recipe import VarianceRecipe

PLACE = Path("effects", "events")
"""Folder of the effects in the folder of a run."""
METHOD = "sbl"
_SERIES = (METHOD, "measured")
_BASELINES = ("zerofill", "bspline")


@dataclass(frozen=True)
class StoredEffects:
    """Block effects of a run, in one folder.

    Files of `Effects.save` are SERIES.npz, on the high-resolution grid, and half_reconstructed.npz
    and half_acquired.npz, on the tested part of the acquired grid. half_task_free.npy contains the
    block effects with a prior of the run without its task. t_maps.npz contains t maps of the
    downsampled and of the acquired run, interpolated to these grids (half/WIDTH/CONTRAST and
    acquired/CONTRAST). half_rows.tsv contains rows of the test that do not depend on the rule, and
    about.json contrasts, factor and events.
    """

    folder: Path

    @property
    def done(self) -> bool:
        """True if all files exist."""
        return (self.folder / "about.json").exists()

    @cached_property
    def contrasts(self) -> Contrasts:
        """Weights of conditions by contrast."""
        return dict(self._about["contrasts"])

    @cached_property
    def factor(self) -> Factor:
        """Acquired over high-resolution voxel size by axis."""
        x, y, z = self._about["factor"]
        return x, y, z

    @cached_property
    def _about(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "about.json").read_text()))

    @cached_property
    def half(self) -> HalfResolutionEffects:
        """Effects at half the resolution."""
        active_t: dict[float, dict[str, Float32]] = {}
        with np.load(self.folder / "t_maps.npz") as maps:
            for name in maps.files:
                kind, *labels = name.split("/")
                if kind == "half":
                    width, contrast = labels
                    active_t.setdefault(float(width), {})[contrast] = maps[name]
        return HalfResolutionEffects(
            reconstructed=Effects.load(self.folder / "half_reconstructed.npz"),
            acquired=Effects.load(self.folder / "half_acquired.npz"),
            active_t=active_t,
            task_free=np.load(self.folder / "half_task_free.npy"),
        )

    @cached_property
    def run_rows(self) -> list[MetricRow]:
        """Rows of the test that do not depend on the rule."""
        return read_table(self.folder / "half_rows.tsv")

    def test(self) -> list[MetricRow]:
        """Return the rows of the test at half the resolution, as the program computes them."""
        half = self.half
        x, y, _ = self.factor
        detail_rows = iterate_tested_detail(
            half.reconstructed,
            half.acquired,
            half.active_t,
            self.contrasts,
            (x, y, 1.0),
            task_free=half.task_free,
        )
        return [*detail_rows, *self.run_rows]

    def measure(self) -> list[MetricRow]:
        """Return the agreement of `METHOD` with measured halves, as the program computes it."""
        effects = Effects.load(self.folder / "measured.npz")
        with np.load(self.folder / "t_maps.npz") as maps:
            acquired_t = {
                name.removeprefix("acquired/"): maps[name]
                for name in maps.files
                if name.startswith("acquired/")
            }
        run = RunEffects(
            files={name: self.folder / f"{name}.npz" for name in _SERIES},
            contrasts=self.contrasts,
            mask=effects.mask,
            affine=effects.affine,
            roi=effects.mask,
            factor=self.factor,
            acquired_t=acquired_t,
        )
        return agreement_rows(run, make_half_reference)


def store_effects(run: Path, folder: Path) -> None:
    """Store the effects of a run in a folder (see `StoredEffects`), unless they are stored.

    `run` is the folder of the run in a working directory. Raises `ValueError` if effects at half
    the resolution differ from those of the call.
    """
    if StoredEffects(folder).done:
        return
    test_inputs = read_inputs(run / METHOD / "check_intervals")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        for series in (*_SERIES, *_BASELINES):
            inputs = read_inputs(run / series / "measure_effects") | {"has_measured": False}
            measure_effects.run_on_files(inputs, scratch)
            shutil.move(scratch / "effects.npz", folder / f"{series}.npz")
        _store_acquired_t(run, folder, scratch)
        store_half_effects.run_on_files(test_inputs, folder)
    _join_t_maps(folder)
    about = {
        "contrasts": test_inputs["contrasts"],
        "factor": test_inputs["factor"],
        "events": Events.read(Path(test_inputs["regressors"]))
        .table.astype(object)
        .values.tolist(),
    }
    (folder / "about.json").write_text(json.dumps(about, indent=1))
    _check_rows(folder, run / METHOD / "check_intervals" / "coverage_rows.tsv")


def read_inputs(step_folder: Path) -> dict[str, Any]:
    """Return the inputs of a step from its folder in a working directory."""
    with gzip.open(step_folder / "_inputs.pklz") as stream:
        return dict(pickle.load(stream))


def _store_acquired_t(run: Path, outputs: Path, scratch: Path) -> None:
    """Write t maps of the acquired run, interpolated to the grid of the measured series."""
    map_series.run_on_files(read_inputs(run / "acquired" / "map_series"), scratch)
    measured = Effects.load(outputs / "measured.npz")
    maps = {}
    for file in scratch.glob("*_stat-t_*_statmap.nii"):
        values, affine = load_image(file)
        maps[f"acquired/{read_entities(file)['contrast']}"] = sample_volume(
            values, affine, measured.mask.shape, measured.affine
        )
    np.savez(outputs / "acquired_t.npz", **maps)


@step(Stage.EVALUATION, makes="half_rows")
def store_half_effects(
    preproc: Series,
    bold_mask: Mask,
    hmc_xfms: Transforms,
    model_file: File,
    linear_model: LinearModel,
    outliers: Facts | None = None,
    here: Path = HERE,
    *,
    series_name: str,
    smoothing: Sequence[float],
    factor: Factor,
    random_seed: int,
    omp_nthreads: int,
) -> File:
    """Repeat the test of `check_intervals` without calibration, and write effects and t maps.

    The parameters are as in `check_intervals`. Returns the file of the rows.
    """
    recipe = load_model(model_file).recipe
    assert isinstance(recipe, VarianceRecipe)
    test = run_half_resolution_test(
        preproc,
        bold_mask,
        hmc_xfms,
        HalfResolutionPrior(recipe=recipe),
        linear_model,
        here,
        outliers=list(reasons_by_volume(outliers)),
        series_name=series_name,
        smoothing=smoothing,
        factor=factor,
        random_seed=random_seed,
        omp_nthreads=omp_nthreads,
    )
    assert test.effects is not None
    test.effects.reconstructed.save(here / "half_reconstructed")
    test.effects.acquired.save(here / "half_acquired")
    assert test.effects.task_free is not None
    np.save(here / "half_task_free.npy", test.effects.task_free)
    np.savez(
        here / "half_t.npz",
        **{
            f"half/{width:g}/{contrast}": values
            for width, maps in test.effects.active_t.items()
            for contrast, values in maps.items()
        },
    )
    rows = here / "half_rows.tsv"
    rows.write_text(table_text(test.run_rows))
    return rows


def _join_t_maps(outputs: Path) -> None:
    """Join the files with t maps at both resolutions."""
    maps: dict[str, Float32] = {}
    for name in ("half_t", "acquired_t"):
        with np.load(outputs / f"{name}.npz") as part:
            maps |= dict(part)
        (outputs / f"{name}.npz").unlink()
    np.savez(outputs / "t_maps.npz", **maps)


def _check_rows(outputs: Path, table: Path) -> None:
    """Raise `ValueError` if the test of the stored effects differs from the test of the call."""
    if table_text(StoredEffects(outputs).test()) != table.read_text():
        raise ValueError(f"{outputs}: the stored effects do not give the values in {table}")
