"""Models of a run: which collinear columns are reported."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bids_sr.glm.design import DesignSettings
from bids_sr.glm.regressors import Events
from bids_sr.glm.steps.linear_models import DesignInputs, LinearModel


@pytest.mark.parametrize("confound", ["same", "noise"])
def test_only_collinear_columns_of_the_model_of_the_maps_are_reported(caplog, confound):
    """A type and its modulator have equal columns for each block, but not in the maps."""
    rng = np.random.default_rng(0)
    onsets = 10.0 + 40 * np.arange(6)
    rows = [(onset, 16.0, "tap", 1.0) for onset in onsets]
    rows += [(onset, 16.0, "tapXrating", 1.0 * (-1) ** k) for k, onset in enumerate(onsets)]
    events = Events(pd.DataFrame(rows, columns=["onset", "duration", "trial_type", "modulation"]))
    confounds = pd.DataFrame({"first": rng.normal(size=130)})
    confounds["second"] = -confounds["first"] if confound == "same" else rng.normal(size=130)
    inputs = DesignInputs(
        regressors=events, confounds=confounds, n_dummy=0, design=DesignSettings()
    )
    model = LinearModel(inputs=inputs, contrasts={}, nuisance=list(confounds))
    series = SimpleNamespace(shape=(2, 2, 2, 130), tr=2.0)
    design = model.build_design(series)
    assert [f"rank {design.rank}" in record.getMessage() for record in caplog.records] == [
        True
    ] * (confound == "same")
    caplog.clear()
    inputs.build_block_design(series, model.confound_names)
    assert not caplog.records
