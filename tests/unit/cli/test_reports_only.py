"""Test ``--reports-only``: it needs only the outputs, and refuses what it cannot rebuild."""

import shutil
from pathlib import Path

import pytest

from bids_sr.cli.main import main
from bids_sr.io.dataset_description import write_dataset
from bids_sr.version import __version__


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return outputs of two participants whose data set no longer exists."""
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    (data / "dataset_description.json").write_text("{}")
    write_dataset(out, bids_dir=data, version=__version__)
    for label in ("01", "02"):
        figures = out / f"sub-{label}" / "figures"
        figures.mkdir(parents=True)
        (figures / f"sub-{label}_desc-summary_T1w.html").write_text("<p>found</p>")
    shutil.rmtree(data)
    return out


def call(out: Path, *options: str) -> int:
    return main([str(out.parent / "data"), str(out), "participant", "--reports-only", *options])


def test_reports_are_rebuilt_without_the_data_set(out: Path) -> None:
    assert call(out, "--dry-run") == 0
    assert not (out / "sub-01.html").exists()
    assert call(out, "--participant-label", "02") == 0
    assert not (out / "sub-01.html").exists()
    assert call(out) == 0
    for page in ("sub-01.html", "sub-02.html", "index.html"):
        assert "sub-02" in (out / page).read_text()
    assert {path.name for path in out.parent.iterdir()} == {"out"}


def test_participants_without_figures_are_refused(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(out, "--participant-label", "01", "07") == 2
    message = capsys.readouterr().err
    assert "sub-07" in message
    assert "01, 02" in message
    shutil.rmtree(out / "sub-01")
    shutil.rmtree(out / "sub-02")
    assert call(out) == 2
    assert str(out) in capsys.readouterr().err


def test_outputs_of_an_earlier_version_are_refused(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(out, bids_dir=out.parent / "data", version="0.2.0")
    assert call(out) == 2
    assert "0.2.0" in capsys.readouterr().err
    assert not (out / "sub-01.html").exists()
