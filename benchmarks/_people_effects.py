"""Block effects of measured runs at half and at the final resolution, stored for any rule.

The steps of the program that depend on events are repeated with their inputs from the working
directory of a call (`_people_runs`), with the events of the run and with recoded events. The
super-resolved series does not depend on events and is not computed again.
"""

import gzip
import json
import pickle
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

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
from bids_sr.glm.blocks import find_blocks
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.regressors import Events
from bids_sr.glm.steps.activation import map_series
from bids_sr.glm.steps.block_effects import measure_effects
from bids_sr.glm.steps.linear_models import LinearModel
from bids_sr.io.arrays import Float32
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader, load_image
from bids_sr.preproc.steps.outlier_volumes import reasons_by_volume
from bids_sr.spatial.itk_files import Transforms
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.models.model import load_model
from bids_sr.sr.recipe import VarianceRecipe

OWN_EVENTS = "events"
"""Name of the events of a run among its recodings."""
RECODINGS = {
    "trials": "blocks as trials of about a second; if the table lists trials, they are joined",
    "seconds": "onsets rounded to seconds",
    "volumes": "onsets and durations of blocks rounded to volumes",
    "impulses": "an impulse about every second of a block",
    "onsets": "a single impulse at the onset of each block",
}
"""Recodings of the events of a run."""
METHOD = "sbl"
_SERIES = (METHOD, "measured")
_BASELINES = ("zerofill", "bspline")  # series that are only stored for the events of the run
_STEPS_WITH_EVENTS = {"measure_effects", "map_series", "check_intervals", "draw_design"}
_Table = pd.DataFrame


@dataclass(frozen=True)
class StoredEffects:
    """Block effects of a run with one coding of its events, in one folder.

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
    """Store the effects of a run with its own and with recoded events, unless they are stored.

    `run` is the folder of the run in a working directory. Each events table has a folder in
    `folder`, see `StoredEffects`. Raises `ValueError` if effects at half the resolution differ
    from those of the call.
    """
    _check_dependencies(run)
    test_inputs = read_inputs(run / METHOD / "check_intervals")
    own_events = Events.read(Path(test_inputs["regressors"]))
    with SeriesReader(Path(test_inputs["preproc"])) as reader:
        tr = reader.tr
    for name, table in recode_events(own_events, tr).items():
        outputs = folder / name
        if (outputs / "about.json").exists():
            continue
        shutil.rmtree(outputs, ignore_errors=True)
        outputs.mkdir(parents=True)
        with tempfile.TemporaryDirectory() as temporary:
            scratch = Path(temporary)
            events = {"regressors": str(Events(table, own_events.source).write(scratch))}
            for series in (*_SERIES, *(_BASELINES if name == OWN_EVENTS else ())):
                inputs = read_inputs(run / series / "measure_effects") | {"has_measured": False}
                measure_effects.run_on_files({**inputs, **events}, scratch)
                shutil.move(scratch / "effects.npz", outputs / f"{series}.npz")
            _store_acquired_t(run, events, outputs, scratch)
            store_half_effects.run_on_files({**test_inputs, **events}, outputs)
        _join_t_maps(outputs)
        about = {
            "contrasts": test_inputs["contrasts"],
            "factor": test_inputs["factor"],
            "events": table.astype(object).values.tolist(),
        }
        (outputs / "about.json").write_text(json.dumps(about, indent=1))
        if name == OWN_EVENTS:
            _check_rows(outputs, run / METHOD / "check_intervals" / "coverage_rows.tsv")


def _check_dependencies(run: Path) -> None:
    """Raise `ValueError` if a step that is not repeated depends on the events."""
    names = {
        file.parent.name
        for file in run.rglob("_inputs.pklz")
        if "regressors" in read_inputs(file.parent)
    }
    if not names <= _STEPS_WITH_EVENTS:
        raise ValueError(f"{run}: events are inputs of {', '.join(names - _STEPS_WITH_EVENTS)}")


def read_inputs(step_folder: Path) -> dict[str, Any]:
    """Return the inputs of a step from its folder in a working directory."""
    with gzip.open(step_folder / "_inputs.pklz") as stream:
        return dict(pickle.load(stream))


def _store_acquired_t(run: Path, events: Mapping[str, str], outputs: Path, scratch: Path) -> None:
    """Write t maps of the acquired run, interpolated to the grid of the measured series."""
    map_series.run_on_files({**read_inputs(run / "acquired" / "map_series"), **events}, scratch)
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


def recode_events(events: Events, tr: float) -> dict[str, _Table]:
    """Return the events of a run and its `RECODINGS`, as tables by name; `tr` is in s."""
    blocks = _join_blocks(events)
    trials = _split_blocks(blocks)
    has_trials = len(blocks) < len(events.table)
    volumes = blocks.assign(
        onset=(blocks["onset"] / tr).round() * tr,
        duration=(blocks["duration"] / tr).round() * tr,
    )
    return {
        OWN_EVENTS: events.table,
        "trials": blocks if has_trials else trials,
        "seconds": events.table.assign(onset=events.table["onset"].round()),
        "volumes": volumes,
        "impulses": trials.assign(duration=0.0),
        "onsets": blocks.assign(duration=0.0),
    }


def _join_blocks(events: Events) -> _Table:
    """Return one row per block, with the blocks of the split-half analysis."""
    rows = [
        (onset, duration, block.condition)
        for block in find_blocks(events)
        for onset, duration in block.events
    ]
    return pd.DataFrame(rows, columns=["onset", "duration", "trial_type"])


def _split_blocks(blocks: _Table) -> _Table:
    """Return consecutive trials of about one second, with breaks of a tenth of their length."""
    rows = []
    for onset, duration, name in blocks.itertuples(index=False):
        count = max(1, round(duration))
        length = duration / count
        rows += [(onset + length * index, 0.9 * length, name) for index in range(count)]
    return pd.DataFrame(rows, columns=["onset", "duration", "trial_type"])
