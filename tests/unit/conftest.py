"""What several unit tests begin with."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from bidsmaker import BidsMaker


@pytest.fixture(autouse=True)
def nipype_settings() -> Iterator[None]:
    """nipype keeps its settings in one global place: whatever a test changes there is undone."""
    from nipype import config

    before = {name: dict(config._config[name]) for name in config._config.sections()}
    yield
    config._config.clear()
    config._config.read_dict(before)


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BidsMaker:
    """A data set of one participant, in the folder in which the test then stands, without templates."""
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "templateflow"))
    monkeypatch.chdir(tmp_path)
    made = BidsMaker(tmp_path / "bids")
    made.subject()
    return made
