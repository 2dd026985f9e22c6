"""``--reports-only`` needs only the outputs; pages of participants and their index."""

import json
import shutil
from pathlib import Path

import pytest
from data.page import Page

from bids_sr.cli.main import main
from bids_sr.engine.metric_rows import MetricRow, table_text
from bids_sr.io.dataset_description import write_dataset
from bids_sr.io.metric_flags import FLAGS
from bids_sr.report.index_page import write_index
from bids_sr.version import __version__

LABELS = ("01", "02", "03", "04")
RUN = "task-tap"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return outputs of four participants whose data set no longer exists."""
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    (data / "dataset_description.json").write_text("{}")
    write_dataset(out, bids_dir=data, version=__version__)
    for label in LABELS:
        figures = out / f"sub-{label}" / "figures"
        figures.mkdir(parents=True)
        (figures / f"sub-{label}_desc-summary_T1w.html").write_text("<p>found</p>")
    shutil.rmtree(data)
    return out


def call(out: Path, *options: str) -> int:
    return main([str(out.parent / "data"), str(out), "participant", "--reports-only", *options])


def write_verdict(out: Path, label: str, text: str) -> None:
    func = out / f"sub-{label}" / "func"
    func.mkdir(exist_ok=True)
    (func / f"sub-{label}_{RUN}_desc-verdict_metrics.json").write_text(text)


def test_reports_are_rebuilt_without_the_data_set(out: Path) -> None:
    assert call(out, "--dry-run") == 0
    assert not list(out.glob("*.html"))
    assert call(out, "--participant-label", "02") == 0
    assert [path.name for path in out.glob("sub-*.html")] == ["sub-02.html"]
    assert call(out) == 0
    assert len(list(out.glob("sub-*.html"))) == len(LABELS)
    assert {path.name for path in out.parent.iterdir()} == {"out"}


def test_participants_without_figures_and_other_versions_are_refused(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(out, "--participant-label", "01", "07") == 2
    error = capsys.readouterr().err
    assert "sub-07" in error
    assert ", ".join(LABELS) in error
    write_dataset(out, bids_dir=out.parent / "data", version="0.2.0")
    assert call(out) == 2
    assert "0.2.0" in capsys.readouterr().err
    for label in LABELS:
        shutil.rmtree(out / f"sub-{label}")
    assert call(out) == 2
    assert str(out) in capsys.readouterr().err
    assert not list(out.glob("*.html"))


def test_the_index_links_reports_and_group_pages(out: Path) -> None:
    write_verdict(out, "02", json.dumps({"headline": "It is <finer>."}))
    write_verdict(out, "01", "[]")
    assert call(out) == 0
    (out / "group.html").touch()
    (out / "sub-03.html").unlink()
    page = Page(write_index(out).read_text())
    places = {place for place in page.links.values() if not place.startswith(("#", "http"))}
    assert places == {"sub-01.html", "sub-02.html", "sub-04.html", "group.html"}
    assert "sub-03" in page.text
    assert "It is <finer>." in page.text


def test_the_index_lists_result_motion_flags_and_methods_not_applied(out: Path) -> None:
    """Numbers of the result are part of its sentence; self-tests are not listed."""
    func, run = out / "sub-01" / "func", f"sub-01_{RUN}"
    func.mkdir()
    (func / f"{run}_desc-confounds_timeseries.tsv").write_text(
        "framewise_displacement\nn/a\n0.2\n0.2\n1.1\n"
    )
    verdict = {"headline": "Found.", "best": "sbl", "not_applied": ["srgan"], "limits": []}
    write_verdict(out, "01", json.dumps(verdict))
    others = [
        MetricRow(
            series="sbl",
            statistic="tested_share",
            reference="oneLevelDown",
            region="brain",
            value=0.27,
            lower=0.2,
            upper=0.33,
            n=7,
        ),
        MetricRow(series="sbl", statistic="verdict_applied", value=1.0),
        MetricRow(series="run", statistic="flag_broad", value=1.0, contrast="all"),
    ]

    def cells(rows: list[MetricRow]) -> list[str]:
        (func / f"{run}_desc-evaluation_metrics.tsv").write_text(table_text(rows))
        page = Page(write_index(out).read_text())
        return [cell for line in page.table("Runs") for cell in line]

    shown = cells(others)
    for cell in ("0.50", "33 %", "srgan", RUN, "Found."):
        assert cell in shown
    assert any(FLAGS["broad"].failed in cell for cell in shown)
    assert not any("27 %" in cell for cell in shown)
    (func / f"{run}_desc-evaluation_metrics.tsv").write_text("cut sh")
    assert RUN in write_index(out).read_text()
