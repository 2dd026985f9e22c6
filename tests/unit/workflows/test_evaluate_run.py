"""Test maps and evaluation of a run by calling steps, in Python as in a workflow."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bids_sr.engine.flow import Eager
from bids_sr.evaluation.steps.reference_comparisons import EffectsComparison
from bids_sr.glm.design import DesignSettings, frame_times
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.glm.regressors import Events
from bids_sr.glm.steps.activation import MapSettings, map_series
from bids_sr.glm.steps.linear_models import DesignInputs, LinearModel
from bids_sr.io.confound_names import MOTION_REGRESSORS
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.io.volume import Volume
from bids_sr.preproc.steps.aligned_series import BoldBrain
from bids_sr.workflows.evaluate_run import compare_with_references, measure_all_effects
from bids_sr.workflows.series_requests import ComputedSeries

SHAPE, N, TR = (14, 12, 2), 90, 2.0
AFFINE = np.diag([2.0, 2, 4, 1])
CONTRASTS = {"thumb": {"thumb": 1.0}, "little": {"little": 1.0}}
EVENTS = Events(
    pd.DataFrame(
        {
            "onset": [6.0 + 20 * k for k in range(8)],
            "duration": 10.0,
            "trial_type": ["thumb", "little"] * 4,
        }
    )
)
BRAIN = Volume(np.arange(SHAPE[0])[:, None, None] < np.full(SHAPE, SHAPE[0] - 1), AFFINE)
INPUTS = DesignInputs(
    regressors=EVENTS,
    confounds=pd.DataFrame(
        np.random.default_rng(1).normal(0, 1, (N, len(MOTION_REGRESSORS))),
        columns=MOTION_REGRESSORS,
    ),
    n_dummy=2,
    design=DesignSettings(start_time=1.0),
)
COMPARISON = EffectsComparison(
    bold_mask_hr=BRAIN,
    roi_hr=BRAIN,
    contrasts=CONTRASTS,
    factor=(2.0, 2.0, 1.0),
    random_seed=0,
    n_boot=50,
)


@pytest.fixture
def series(tmp_path):
    """Yield a measured series and a noisier series with the same effects."""
    rng = np.random.default_rng(0)
    responses = EVENTS.responses(frame_times(N, TR), HemodynamicResponse())
    regressors = {name: columns[:, 0] for name, columns in responses.items()}
    effects = {name: 20 * rng.random(SHAPE) for name in CONTRASTS}
    series_by_name = {}
    for name, noise in (("bspline", 4.0), ("measured", 1.0)):
        values = 500 + rng.normal(0, noise, (*SHAPE, N))
        values += sum(
            effects[contrast][..., None] * regressors[contrast] for contrast in CONTRASTS
        )
        path = tmp_path / f"{name}.nii"
        with SeriesWriter(path, values.shape, AFFINE, TR) as writer:
            for t in range(N):
                writer.append(values[..., t])
        series_by_name[name] = ComputedSeries(
            series_name=name, series=SeriesReader(path), mask=BRAIN
        )
    yield series_by_name
    for series_with_mask in series_by_name.values():
        series_with_mask.series.close()


def test_series_are_compared_with_the_measured_effects_if_they_exist(series, tmp_path):
    options = {"acquired_maps": [], "known": {}, "at_rest": False, "n_dummy": 2}
    only_series = {"bspline": series["bspline"]}
    with Eager(tmp_path):
        measured = measure_all_effects(series, INPUTS)
        halves, images = compare_with_references(
            series, measured, COMPARISON, maps=None, **options
        )
        without = measure_all_effects(only_series, INPUTS)
        tables = compare_with_references(only_series, without, COMPARISON, maps=[], **options)
    assert list(measured) == ["bspline", "measured"]
    detail = [row for row in halves if (row.statistic, row.band) == ("r", "beyond")]
    assert "bspline" in {row.series for row in detail}
    assert {row.statistic for row in images} >= {"psnr", "ssim"}
    assert (list(without), tables) == (["bspline"], [])


def test_a_series_is_mapped_with_its_own_regressors(series, tmp_path):
    model = LinearModel(inputs=INPUTS, contrasts=CONTRASTS, nuisance=list(MOTION_REGRESSORS))
    settings = MapSettings(
        kinds=["glm"],
        thresholds=["fdr"],
        smoothing=[0.0],
        axis_order=(0, 1, 2),
    )
    late = Events(EVENTS.table.assign(onset=EVENTS.table["onset"] + 10))
    with Eager(tmp_path):
        maps_of_series = [
            map_series(
                replace(series["bspline"], own_regressors=own_regressors),
                BRAIN,
                model,
                BoldBrain(
                    boldref=BRAIN.like(np.full(BRAIN.data.shape, 500.0, np.float32)),
                    bold_mask=BRAIN,
                    factor=(2.0, 2.0, 1.0),
                ),
                settings=settings,
            ).maps
            for own_regressors in ([], [late])
        ]
    map_by_events, map_by_late_events = (
        next(statmap for statmap in maps if statmap.entities.get("stat") == "t")
        for maps in maps_of_series
    )
    inside = BRAIN.data
    assert np.median(map_by_events.volume.data[inside]) > 3
    assert np.median(map_by_late_events.volume.data[inside]) < 0
