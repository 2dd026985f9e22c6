"""What several unit tests begin with."""

from pathlib import Path

import pytest
from bidsmaker import BidsMaker


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BidsMaker:
    """A data set of one participant, in the folder in which the test then stands, without templates."""
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "templateflow"))
    monkeypatch.chdir(tmp_path)
    made = BidsMaker(tmp_path / "bids")
    made.subject()
    return made
