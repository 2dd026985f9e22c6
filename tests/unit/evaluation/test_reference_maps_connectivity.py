"""Connectivity: known networks are found by their time series."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bids_sr.evaluation.reference_maps import _score_network
from bids_sr.glm.activation_maps import ActivationSettings, map_activation
from bids_sr.glm.regressors import Seeds
from bids_sr.io.nifti import SeriesReader, save_image

T, TR = 200, 2.0


def test_two_networks_are_found_again(tmp_path: Path) -> None:
    """Two networks of .01 to .1 Hz, of known size and place, with noise: correlation, effect."""
    rng = np.random.default_rng(1)
    # of .01 to .1 Hz
    cosines = np.cos(np.pi / T * (np.arange(T) + 0.5)[:, None] * np.arange(8, 81))
    courses, _ = np.linalg.qr(cosines @ rng.normal(size=(cosines.shape[1], 2)))
    courses *= np.sqrt(T)
    where = np.zeros((12, 8, 4), dtype=int)  # 0 none, 1 and 2 the networks
    where[:4], where[8:] = 1, 2
    size = np.array([0.0, 12.0, 12.0])[where]
    data = 1000 + rng.normal(0, 8, (*where.shape, T)).astype(np.float32)
    for network in (1, 2):
        data += (size * (where == network))[..., None] * courses[:, network - 1]
    save_image(
        data.astype(np.float32), np.diag([3.0, 3.0, 3.0, 1.0]), tmp_path / "bold.nii", tr=TR
    )
    table = pd.DataFrame(courses, columns=["one", "two"])
    settings = ActivationSettings(tr=TR, confound_names=())
    with SeriesReader(tmp_path / "bold.nii") as reader:
        found = map_activation(
            reader,
            np.ones(where.shape, dtype=bool),
            Seeds(table),
            {"one": {"one": 1.0}, "two": {"two": 1.0}},
            settings,
            scratch=tmp_path,
        )[0.0]
    for number, name in enumerate(("one", "two"), 1):
        effect = found.maps[name, "effect"]
        assert effect[where == number].mean() == pytest.approx(12, rel=0.05)
        assert np.abs(effect[where != number].mean()) < 0.3
        told = _score_network((found.maps[name, "cc"] >= 0.5).ravel(), (where == number).ravel())
        assert told["accuracy"] > 0.98
        assert told["fdr"] < 0.02
        assert told["jaccard"] > 0.95


def test_nothing_found_has_no_false_discovery_rate() -> None:
    none = np.zeros(4, dtype=bool)
    some = np.array([True, False, False, False])
    found = _score_network(none, some)
    assert found["accuracy"] == 0.75
    assert np.isnan(found["fdr"])
    assert found["jaccard"] == 0.0
    assert np.isnan(_score_network(none, none)["jaccard"])
