"""Training on the volumes of a run: which volumes are seen, and what becomes of a model that was given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bids_sr.interfaces.learning.method_steps import TrainOnVolumes, training_volumes
from bids_sr.io.nifti import save_image
from bids_sr.sr.data.images import VOLUMES
from bids_sr.sr.method import get_method
from bids_sr.sr.models.compatibility import ModelMismatch
from bids_sr.sr.models.model import save_model

AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])


@pytest.fixture
def run(tmp_path: Path) -> tuple[str, str]:
    """Forty volumes of which each has its number as mean, and their mask."""
    rng = np.random.default_rng(0)
    texture = rng.normal(0, 1, (26, 26, 6)).astype(np.float32)
    series = np.stack([100 * (t + 1) + texture - texture.mean() for t in range(40)], -1)
    save_image(series, AFFINE, tmp_path / "bold.nii", tr=2.0)
    save_image(np.ones((26, 26, 6), np.uint8), AFFINE, tmp_path / "mask.nii")
    return str(tmp_path / "bold.nii"), str(tmp_path / "mask.nii")


def numbers(run: tuple[str, str], n_dummy: int, seed: int) -> list[int]:
    images, affine = training_volumes(*run, n_dummy, seed)
    np.testing.assert_allclose(affine, AFFINE)
    assert all(image.fine is None and image.contrast == "bold" for image in images.images)
    return [round(float(image.coarse.mean()) / 100) - 1 for image in images.images if image.coarse is not None]


def test_volumes_are_drawn_after_the_dummies_in_their_order_and_by_the_seed(run: tuple[str, str]) -> None:
    first = numbers(run, 5, 0)
    assert len(first) == VOLUMES
    assert min(first) >= 5
    assert first == sorted(set(first))
    assert max(first) - min(first) > 25  # of the whole run, not of its beginning
    assert first == numbers(run, 5, 0)
    assert first != numbers(run, 5, 1)


def test_a_short_run_is_taken_whole(run: tuple[str, str]) -> None:
    assert numbers(run, 30, 0) == list(range(30, 40))
    assert numbers(run, 99, 0) == [39]


def test_a_model_is_trained_for_the_grid_of_the_run(
    run: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = TrainOnVolumes(
        in_file=run[0], mask=run[1], n_dummy=30, method="dip", factor=(2.0, 2.0, 1.0), sloppy=True, seed=3
    )
    (tmp_path / "node").mkdir()
    monkeypatch.chdir(tmp_path / "node")
    card = json.loads(Path(node.run().outputs.card_file).read_text())
    assert (card["method"], card["contrast"], card["seed"]) == ("dip", "bold", 3)
    assert card["resolution"]["lowres_mm"] == [3.0, 3.0, 4.0]
    assert card["resolution"]["highres_mm"] == [1.5, 1.5, 4.0]
    assert len(card["images"]) == 10


def test_a_model_that_was_given_is_used_if_it_fits(
    run: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No pair is asked for, and nothing is trained."""
    state = get_method("resnet3d").recipes["fast"].build_generator(1, (2.0, 2.0, 1.0)).state_dict()
    card = {
        "method": "resnet3d", "recipe": "fast", "factor": [2.0, 2.0, 1.0], "contrast": "T2starw",
        "orientation": "I-S", "resolution": {"lowres_mm": [3.0, 3.0, 4.0]},
    }  # fmt: skip
    given = {"in_file": run[0], "mask": run[1], "method": "resnet3d", "factor": (2.0, 2.0, 1.0)}
    (tmp_path / "node").mkdir()
    monkeypatch.chdir(tmp_path / "node")
    fits, _ = save_model(tmp_path / "fits", state, card)
    made = TrainOnVolumes(**given, pretrained=str(fits)).run().outputs.model_file
    assert Path(made).read_bytes() == fits.read_bytes()
    other, _ = save_model(tmp_path / "other", state, {**card, "contrast": "T1w"})
    with pytest.raises(ModelMismatch, match="trained on T1w, the image is bold"):
        TrainOnVolumes(**given, pretrained=str(other)).run()
