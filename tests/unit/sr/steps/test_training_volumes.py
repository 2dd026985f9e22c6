"""Test training on the volumes of a run: which volumes are used, and pretrained models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.notices import UsageError
from bids_sr.io.volume import Volume
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import save_model
from bids_sr.sr.models.request import TrainingSettings
from bids_sr.sr.networks.data.images import N_VOLUMES, volumes_of_run
from bids_sr.sr.steps.training import train_on_volumes

AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
FACTOR = (2.0, 2.0, 1.0)
MASK = Volume(np.ones((26, 26, 6), bool), AFFINE)


@pytest.fixture
def run(tmp_path: Path) -> SeriesReader:
    """Write forty volumes whose means are proportional to their numbers."""
    rng = np.random.default_rng(0)
    texture = rng.normal(0, 1, (26, 26, 6)).astype(np.float32)
    series = np.stack([100 * (t + 1) + texture - texture.mean() for t in range(40)], -1)
    save_image(series, AFFINE, tmp_path / "bold.nii", tr=2.0)
    return SeriesReader(tmp_path / "bold.nii")


def volume_numbers(run: SeriesReader, n_dummy: int, seed: int) -> list[int]:
    images = volumes_of_run(run, MASK.data, n_dummy, seed)
    assert all(image.fine is None and image.contrast == "bold" for image in images)
    return [
        round(float(image.coarse.mean()) / 100) - 1 for image in images if image.coarse is not None
    ]


def test_training_volumes_are_drawn_after_the_dummies_in_order_by_the_seed(
    run: SeriesReader,
) -> None:
    first = volume_numbers(run, 5, 0)
    assert len(first) == N_VOLUMES
    assert min(first) >= 5
    assert first == sorted(set(first))
    # Volumes are drawn from the entire run, not only from its beginning.
    assert max(first) - min(first) > 25
    assert first == volume_numbers(run, 5, 0)
    assert first != volume_numbers(run, 5, 1)


def test_a_model_is_trained_for_the_grid_of_the_run(run: SeriesReader, tmp_path: Path) -> None:
    training = TrainingSettings(method="dip", sloppy=True, random_seed=3)
    train_on_volumes(run, MASK, here=tmp_path, n_dummy=30, training=training, factor=FACTOR)
    card = json.loads((tmp_path / "dip.json").read_text())
    assert (card["method"], card["contrast"], card["seed"]) == ("dip", "bold", 3)
    assert card["resolution"]["lowres_mm"] == [3.0, 3.0, 4.0]
    assert card["resolution"]["highres_mm"] == [1.5, 1.5, 4.0]
    assert len(card["images"]) == 10


def test_a_pretrained_model_is_used_if_it_fits(run: SeriesReader, tmp_path: Path) -> None:
    """No pair is required, and nothing is trained."""
    state = get_method("resnet3d").recipes["fast"].build_generator(1, FACTOR).state_dict()
    card = {
        "method": "resnet3d",
        "recipe": "fast",
        "factor": [2.0, 2.0, 1.0],
        "contrast": "T2starw",
        "orientation": "I-S",
        "resolution": {"lowres_mm": [3.0, 3.0, 4.0]},
    }
    suitable, _ = save_model(tmp_path / "fits", state, card)
    (here := tmp_path / "node").mkdir()
    training = TrainingSettings(method="resnet3d", pretrained=suitable)
    files = train_on_volumes(run, MASK, here=here, n_dummy=0, training=training, factor=FACTOR)
    assert files.model_file.read_bytes() == suitable.read_bytes()
    unsuitable, _ = save_model(tmp_path / "other", state, {**card, "contrast": "T1w"})
    with pytest.raises(UsageError, match="trained on T1w images, but the image contrast is bold"):
        train_on_volumes(
            run,
            MASK,
            here=here,
            n_dummy=0,
            training=replace(training, pretrained=unsuitable),
            factor=FACTOR,
        )
