"""Test maps of two series with different seeds: each correlates with the seed of its own
series.
"""

import numpy as np
import pandas as pd
import pytest

from bids_sr.evaluation.reference_maps import reference_map_rows
from bids_sr.glm.activation_maps import ActivationSettings, map_activation
from bids_sr.glm.connectivity_seeds import Seed
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.regressors import Seeds
from bids_sr.glm.steps.linear_models import DesignInputs, LinearModel
from bids_sr.glm.steps.mapped_series import MaskedSeries
from bids_sr.glm.steps.seeds import own_seed_series, seed_series
from bids_sr.io.confound_names import MOTION_REGRESSORS
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.volume import Volume

SHAPE, T, TR = (12, 8, 4), 200, 2.0
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
SEED = Seed("motor", (4.5, 12.0, 6.0), 4.0)
MODEL = {"n_dummy": 0, "design": DesignSettings(), "nuisance": []}


@pytest.fixture(scope="module")
def maps(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, dict[str, dict[tuple[str, str], np.ndarray]]]:
    """Return maps of two series by the source of the seed: acquired, or own.

    The same voxels form a network in both series, with unrelated time series.
    """
    tmp_path = tmp_path_factory.mktemp("series")
    rng = np.random.default_rng(1)
    cosines = np.cos(np.pi / T * (np.arange(T) + 0.5)[:, None] * np.arange(8, 81))
    time_courses = np.linalg.qr(cosines @ rng.normal(size=(cosines.shape[1], 2)))[0] * np.sqrt(T)
    mask = Volume(np.ones(SHAPE, dtype=bool), AFFINE)
    confounds = pd.DataFrame(
        rng.normal(size=(T, len(MOTION_REGRESSORS))), columns=list(MOTION_REGRESSORS)
    )
    maps_by_seed: dict[str, dict[str, dict[tuple[str, str], np.ndarray]]] = {}
    acquired = None
    for name, time_course in zip(("sbl", "measured"), time_courses.T, strict=True):
        data = 1000 + rng.normal(0, 8, (*SHAPE, T))
        data[:4] += 12 * time_course
        save_image(data.astype(np.float32), AFFINE, path := tmp_path / f"{name}.nii", tr=TR)
        with SeriesReader(path) as series:
            inputs = {"confounds": confounds, "here": tmp_path, "seeds": [SEED], **MODEL}
            if acquired is None:  # The acquired series is similar to the first.
                acquired, _ = seed_series(series, mask, **inputs)
            acquired_inputs = DesignInputs(
                regressors=acquired, confounds=confounds, n_dummy=0, design=DesignSettings()
            )
            (own_seeds,), _, _ = own_seed_series(
                MaskedSeries(series_name=name, series=series, mask=mask),
                acquired_inputs,
                tmp_path,
                seeds=[SEED],
                nuisance=[],
                smoothing=[0.0],
            )
            for kind, regressors in (("acquired", acquired), ("own", own_seeds)):
                assert isinstance(regressors, Seeds)
                model = LinearModel(
                    inputs=DesignInputs(regressors=regressors, n_dummy=0, design=DesignSettings()),
                    contrasts={"motor": {"motor": 1.0}},
                )
                (result,) = map_activation(
                    series,
                    mask.data,
                    {0.0: model.build_design(series)},
                    model.mapped_contrasts,
                    ActivationSettings(low_pass=0.1),
                    scratch=tmp_path,
                ).values()
                maps_by_seed.setdefault(kind, {})[name] = dict(result.maps)
    return maps_by_seed


CC = ("motor", "cc")


def test_own_seeds_reveal_the_network_of_each_series(maps: dict) -> None:
    inside = np.zeros(SHAPE, dtype=bool)
    inside[:4] = True
    for name in ("sbl", "measured"):
        assert maps["own"][name][CC][inside].min() > 0.6
        assert np.abs(maps["own"][name][CC][~inside]).max() < 0.5
    np.testing.assert_allclose(maps["acquired"]["sbl"][CC], maps["own"]["sbl"][CC])
    assert (
        np.abs(maps["acquired"]["measured"][CC]).max() < 0.5
    )  # The network of this series has another time course.


@pytest.mark.parametrize(
    ("kind", "accuracy", "fdr"), [("own", 1.0, 0.0), ("acquired", 2 / 3, 1.0)]
)
def test_connectivity_accuracy_and_false_discovery_rate(
    maps: dict, kind: str, accuracy: float, fdr: float
) -> None:
    rows = reference_map_rows(
        {0.0: maps[kind]},
        lambda values: values,
        {"motor": {"motor": 1.0}},
        grid=Volume(np.ones(SHAPE, dtype=bool), AFFINE),
        roi=np.ones(SHAPE, dtype=bool),
        known={},
    )
    metrics = {
        row.statistic: row.value for row in rows if row.series == "sbl" and row.region == "brain"
    }
    assert metrics["connected_accuracy"] == pytest.approx(accuracy)
    assert metrics["connected_fdr"] == pytest.approx(fdr)
