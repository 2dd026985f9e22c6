"""Test that another run, as a reference, has the scale of the evaluated run."""

import numpy as np
import pandas as pd
import pytest
from data.many_runs import write_runs

from bids_sr.evaluation.steps.another_run import measure_other_run
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.regressors import read_events
from bids_sr.io.nifti import SeriesReader, load_image
from bids_sr.io.volume import Volume
from bids_sr.preproc.steps.aligned_series import RunBrain
from bids_sr.spatial.masks import brain_mask


@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_effects_have_the_scale_of_the_evaluated_run(tmp_path, caplog, gain):
    scene = write_runs(tmp_path, ["task-tap"])
    stem = tmp_path / "bids/sub-01/func/sub-01_task-tap"
    data, affine = load_image(stem.with_name(f"{stem.name}_bold.nii.gz"))
    mean = Volume(data.mean(-1), affine)
    mask = Volume(brain_mask(mean.data, affine), affine)
    n_volumes = data.shape[3]
    still = pd.DataFrame(
        np.zeros((n_volumes, 6)),
        columns=["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"],
    )
    with SeriesReader(stem.with_name(f"{stem.name}_bold.nii.gz")) as series:
        effects = measure_other_run(
            series,
            mean,
            mask,
            np.stack([np.eye(4)] * n_volumes),
            still,
            read_events(stem.with_name(f"{stem.name}_events.tsv")),
            RunBrain(
                boldref=Volume(mean.data / gain, affine),
                bold_mask=mask,
                bold_mask_hr=mask,
                factor=(1.0, 1.0, 1.0),
            ),
            tmp_path,
            n_dummy=0,
            design=DesignSettings(),
            random_seed=0,
        )
    weights = effects.run_weights({"thumb": 1.0})
    inside = (scene.truth("thumb") != 0) & mask.data
    ratio = gain * effects.effect(weights)[inside] / scene.truth("thumb")[inside]
    assert np.median(ratio) == pytest.approx(1, abs=0.15)
    assert len([record for record in caplog.records if "divided" in record.message]) == (gain > 1)
