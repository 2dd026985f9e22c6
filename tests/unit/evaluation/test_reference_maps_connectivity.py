"""Known networks are detected by their time series."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bids_sr.evaluation.reference_maps import _score_network
from bids_sr.glm.activation_maps import ActivationSettings, map_activation
from bids_sr.glm.regressors import Seeds
from bids_sr.io.nifti import SeriesReader, save_image

T, TR = 200, 2.0


def test_two_simulated_networks_are_recovered(tmp_path: Path) -> None:
    """Two networks with fluctuations from .01 to .1 Hz, known amplitude and location, and
    noise.
    """
    rng = np.random.default_rng(1)
    # .01 to .1 Hz
    cosines = np.cos(np.pi / T * (np.arange(T) + 0.5)[:, None] * np.arange(8, 81))
    time_series, _ = np.linalg.qr(cosines @ rng.normal(size=(cosines.shape[1], 2)))
    time_series *= np.sqrt(T)
    network_labels = np.zeros((12, 8, 4), dtype=int)  # 0: background; 1 and 2: networks
    network_labels[:4], network_labels[8:] = 1, 2
    size = np.array([0.0, 12.0, 12.0])[network_labels]
    data = 1000 + rng.normal(0, 8, (*network_labels.shape, T)).astype(np.float32)
    for network in (1, 2):
        data += (size * (network_labels == network))[..., None] * time_series[:, network - 1]
    save_image(
        data.astype(np.float32), np.diag([3.0, 3.0, 3.0, 1.0]), tmp_path / "bold.nii", tr=TR
    )
    table = pd.DataFrame(time_series, columns=["one", "two"])
    settings = ActivationSettings(confound_names=())
    with SeriesReader(tmp_path / "bold.nii") as reader:
        activation = map_activation(
            reader,
            np.ones(network_labels.shape, dtype=bool),
            Seeds(table),
            {"one": {"one": 1.0}, "two": {"two": 1.0}},
            settings,
            scratch=tmp_path,
        )[0.0]
    for number, name in enumerate(("one", "two"), 1):
        effect = activation.maps[name, "effect"]
        assert effect[network_labels == number].mean() == pytest.approx(12, rel=0.05)
        assert np.abs(effect[network_labels != number].mean()) < 0.3
        metrics = _score_network(
            (activation.maps[name, "cc"] >= 0.5).ravel(), (network_labels == number).ravel()
        )
        assert metrics["accuracy"] > 0.98
        assert metrics["fdr"] < 0.02
        assert metrics["jaccard"] > 0.95


def test_the_false_discovery_rate_is_nan_without_detections() -> None:
    no_voxels = np.zeros(4, dtype=bool)
    one_voxel = np.array([True, False, False, False])
    metrics = _score_network(no_voxels, one_voxel)
    assert metrics["accuracy"] == 0.75
    assert np.isnan(metrics["fdr"])
    assert metrics["jaccard"] == 0.0
    assert np.isnan(_score_network(no_voxels, no_voxels)["jaccard"])
