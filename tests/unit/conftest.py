"""What several unit tests begin with."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from bidsmaker import BidsMaker


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
