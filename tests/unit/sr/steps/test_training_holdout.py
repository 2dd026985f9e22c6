"""Test scores of a model on a second pair."""

from pathlib import Path

import numpy as np
import pytest
from data.short_names import against_of, measure_of

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.io.volume import Volume
from bids_sr.preproc.steps.registration import TrainingPair
from bids_sr.spatial.matrices import kspace_crop
from bids_sr.sr.models.request import TrainingSettings
from bids_sr.sr.steps.training import score_pair, train_on_pair

FACTOR = (2.0, 2.0, 1.0)


def make_pair(seed: int, gain: float = 1.0) -> TrainingPair:
    """Return a pair of images of a random head and its mask; `gain` scales the high-resolution
    image.
    """
    rng = np.random.default_rng(seed)
    x, y, _ = np.indices((24, 24, 6)) / 11.5 - 1
    head = x**2 + y**2 < 0.8
    highres = (head * (500 + 500 * rng.random((24, 24, 6)))).astype(np.float32)
    high_affine = np.diag([-1.5, 1.5, 4, 1.0])
    lowres, affine = kspace_crop(highres, high_affine, factor=FACTOR)
    return TrainingPair(
        train_highres=Volume(gain * highres, high_affine),
        train_lowres=Volume(lowres, affine),
        pair_mask=Volume(head[::2, ::2], affine),
    )


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    training = TrainingSettings(method="srgan", sloppy=True)
    return train_on_pair(make_pair(0), here=folder, training=training, factor=FACTOR).model_file


def score(model_file: Path, pair: TrainingPair) -> dict[tuple[str, str, str], MetricRow]:
    training = TrainingSettings(method="srgan")
    rows = score_pair(pair, model_file, training=training, factor=FACTOR)
    return {(row.series, measure_of(row), against_of(row)): row for row in rows}


def test_there_are_rows_for_every_series(model_file: Path) -> None:
    rows = score(model_file, make_pair(1))
    assert {series for series, _, _ in rows} == {"srgan", "bspline", "zerofill"}
    for baseline in ("bspline", "zerofill"):
        gain = rows["srgan", "pair_gain_psnr", baseline]
        difference = (
            rows["srgan", "pair_psnr", "n/a"].value - rows[baseline, "pair_psnr", "n/a"].value
        )
        assert gain.value == pytest.approx(difference, abs=1e-3)
        assert gain.lower <= gain.value <= gain.upper
        assert gain.n == 6
    assert rows["zerofill", "pair_psnr", "n/a"].value > 5
    assert 0 < rows["zerofill", "pair_ssim", "n/a"].value < 1


def test_the_unit_of_the_high_resolution_image_does_not_matter(model_file: Path) -> None:
    scores, scaled_scores = (
        score(model_file, make_pair(1)),
        score(model_file, make_pair(1, gain=7.0)),
    )
    for key, row in scores.items():
        assert scaled_scores[key].value == pytest.approx(row.value, rel=1e-3, abs=1e-3)
