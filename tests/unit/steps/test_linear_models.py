"""Linear model of a run as a parameter of steps."""

from pathlib import Path

import numpy as np
import pandas as pd

from bids_sr.glm.blocks import block_design
from bids_sr.glm.design import DesignSettings, build_design
from bids_sr.glm.regressors import Events
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.steps.linear_models import DesignInputs, LinearModel

N, TR = 90, 0.72
EVENTS = Events(
    pd.DataFrame(
        {
            "onset": [4.0 + 14 * k for k in range(4)],
            "duration": 6.0,
            "trial_type": ["thumb", "little"] * 2,
        }
    )
)
CSF = pd.DataFrame({"csf": np.random.default_rng(0).standard_normal(N)})


def test_the_repetition_time_of_a_design_is_in_the_header_of_the_series(tmp_path: Path) -> None:
    save_image(np.zeros((2, 2, 2, N), dtype=np.float32), np.eye(4), tmp_path / "a.nii", tr=TR)
    design = DesignSettings(high_pass=0.02, start_time=0.1)
    inputs = DesignInputs(regressors=EVENTS, confounds=CSF, n_dummy=3, design=design)
    model = LinearModel(inputs=inputs, contrasts={}, nuisance=["csf", "missing"])
    options = {
        "n_volumes": N,
        "tr": TR,
        "n_dummy": 3,
        "confounds": CSF,
        "confound_names": ("csf",),
    }
    with SeriesReader(tmp_path / "a.nii") as series:
        of_run, of_blocks = (
            model.build_design(series),
            inputs.build_block_design(series, model.confound_names),
        )
    np.testing.assert_array_equal(of_run.matrix, build_design(EVENTS, design, **options).matrix)
    assert of_run.columns[:3] == ("little", "thumb", "csf")
    np.testing.assert_array_equal(of_blocks.matrix, block_design(EVENTS, design, **options).matrix)
