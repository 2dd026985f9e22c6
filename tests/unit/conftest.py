"""What several unit tests begin with."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from data.dataset import BidsMaker

if TYPE_CHECKING:
    from bids_sr.sr.networks.data.images import TrainingImage


@pytest.fixture(autouse=True)
def global_settings() -> Iterator[None]:
    """Whatever a test changes in nipype's settings and in how much is logged, which are global, is
    undone.
    """
    from nipype import config

    before = {name: dict(options) for name, options in config._config._sections.items()}
    loggers = [
        logging.getLogger(name) for name in ("bids_sr", "nipype.workflow", "nipype.interface")
    ]
    logged = [(logger.level, logger.propagate) for logger in loggers]
    yield
    if config._config._sections != before:
        config._config.clear()
        config._config.read_dict(before)
    for logger, (level, propagate) in zip(loggers, logged, strict=True):
        logger.setLevel(level)
        logger.propagate = propagate


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BidsMaker:
    """A data set of one participant, in the folder in which the test then stands, without
    templates.
    """
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "templateflow"))
    monkeypatch.chdir(tmp_path)
    made = BidsMaker(tmp_path / "bids")
    made.subject()
    return made


@pytest.fixture(scope="session")
def small_pair() -> "TrainingImage":
    """Return a pair to train on: a textured ellipse, 24 x 24 x 6, and its k-space crop."""
    from bids_sr.spatial.matrices import kspace_crop
    from bids_sr.sr.networks.data.images import pair_image

    rng = np.random.default_rng(5)
    shape = (24, 24, 6)
    x, y, _ = np.indices(shape) / 11.5 - 1
    head = (x**2 + y**2) < 0.8
    texture = np.repeat(np.repeat(rng.random((12, 12, 6)), 2, 0), 2, 1)
    highres = (head * (500 + 500 * texture)).astype(np.float32)
    lowres, affine = kspace_crop(highres, np.diag([3.0, 3, 4, 1]), factor=(2, 2, 1))
    return pair_image(lowres, highres, head[::2, ::2], affine, (2.0, 2.0, 1.0))
