"""Warnings about trial types that look alike and pass bands above the Nyquist frequency."""

from pathlib import Path

import pytest
from data.dataset import BidsMaker
from data.fmriprep import planned


@pytest.fixture
def data(tmp_path: Path) -> BidsMaker:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    return maker


def notices(data: BidsMaker, *options: str) -> str:
    return " ".join(map(str, planned(data, "--sr-method", "bspline", *options).warnings))


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        ("caf\u00e9", "cafe\u0301", r"'caf\xe9', 'cafe\u0301'"),
        ("thumb", "Thumb", "'Thumb', 'thumb'"),
        ("thumb", "thu\u200bmb", r"'thu\u200bmb', 'thumb'"),
    ],
)
def test_types_that_look_alike_are_reported(data, first, second, names):
    data.events(rows=[(0, 4, first), (8, 4, second), (16, 4, first), (24, 4, second)])
    message = notices(data)
    assert names in message
    assert "differ only in case, spaces, invisible characters or Unicode representation" in message


def test_distinct_types_are_not_reported(data):
    data.events(rows=[(0, 4, "x2"), (8, 4, "x\u00b2"), (16, 4, "x2"), (24, 4, "x\u00b2")])
    assert "differ only" not in notices(data)


def test_a_pass_band_above_nyquist_is_reported(data):
    data.bold(n_volumes=200)
    assert "above the Nyquist frequency of the run (0.5 Hz" in notices(
        data, "--band-pass", "0.005", "2"
    )
    assert "Nyquist frequency of the run" not in notices(data, "--band-pass", "0.005", "0.4")
