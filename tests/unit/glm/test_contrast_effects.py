"""Effects of contrasts for complete slices."""

import numpy as np
import pandas as pd

from bids_sr.glm.contrast_effects import compute_contrast_effects
from bids_sr.glm.design import DesignSettings, build_design, contrast_vector
from bids_sr.glm.regressors import Events
from bids_sr.io.nifti import SeriesReader, save_image

SHAPE, N_VOLUMES, TR = (5, 4, 3), 60, 2.0
CONTRASTS = {"difference": {"hand": 1.0, "foot": -1.0}, "hand": {"hand": 1.0}}


def test_effects_are_least_squares_estimates_in_all_voxels(tmp_path):
    events = Events(
        pd.DataFrame(
            {
                "onset": [10.0, 40.0, 70.0, 95.0],
                "duration": 10.0,
                "trial_type": ["hand", "foot"] * 2,
            }
        )
    )
    design = build_design(events, DesignSettings(), n_volumes=N_VOLUMES, tr=TR, n_dummy=3)
    rng = np.random.default_rng(0)
    data = (500 + rng.normal(size=(*SHAPE, N_VOLUMES))).astype(np.float32)
    data[0, 0, 0] = 0
    save_image(data, np.eye(4), tmp_path / "bold.nii", tr=TR)
    with SeriesReader(tmp_path / "bold.nii") as reader:
        effects = compute_contrast_effects(reader, design, CONTRASTS)
    betas = np.linalg.lstsq(design.matrix, data[..., 3:].reshape(-1, N_VOLUMES - 3).T, rcond=None)
    for name, effect in zip(CONTRASTS, effects, strict=True):
        vector = contrast_vector(design, name, CONTRASTS[name])
        np.testing.assert_allclose(effect, (vector @ betas[0]).reshape(SHAPE), atol=1e-3)
