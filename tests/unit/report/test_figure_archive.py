"""Test the archive of a participant's figures: it is written completely or not at all, and read
like the folder.
"""

import os
import zipfile
from pathlib import Path

import pytest
from figure_helpers import noted

from bids_sr.io import atomic_files
from bids_sr.report.figure_archive import _archive_path, _pack_figures, pack_figures, read_figures
from bids_sr.report.participants_page import _build_report
from bids_sr.steps.figures import figure_declarations

MOTION = "sub-01_task-tap_desc-motion_bold.svg"
SVG = "<svg xmlns='http://www.w3.org/2000/svg'><title>{}</title></svg>"


def _draw_figures(root: Path, **texts: str) -> Path:
    """Write one figure per desc below `root`, as steps do."""
    folder = root / "sub-01" / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for desc, text in texts.items():
        path, entities = folder / MOTION.replace("motion", desc), {"subject": "01", "task": "tap"}
        noted(path, SVG.format(text) if text else "", desc, entities=entities, alt=text)
    return root


def _texts(root: Path) -> dict[str, str]:
    return {
        figure.figure: figure.path.read_text(encoding="utf-8")
        for figure in read_figures(root, "01")
    }


def test_packed_figures_are_shown_like_those_in_the_folder(tmp_path: Path) -> None:
    staged, out = (
        _draw_figures(tmp_path / "work", motion="head", carpet="voxels", empty=""),
        tmp_path / "out",
    )
    _pack_figures(staged, out, "01")
    assert [path.name for path in (out / "sub-01").rglob("*") if path.is_file()] == [
        "sub-01_figures.zip"
    ]
    assert _texts(out) == {"motion": SVG.format("head"), "carpet": SVG.format("voxels")}
    page = {}
    for name, root in {"packed": out, "loose": staged}.items():
        page[name] = _build_report(
            root, "01", declarations=figure_declarations(), log_dir=tmp_path / "logs"
        ).read_text(encoding="utf-8")
    assert page["packed"] == page["loose"]
    assert 'alt="head"' in page["packed"] or 'aria-label="head"' in page["packed"]


def test_unchanged_figures_leave_the_archive_untouched_and_new_ones_are_added(
    tmp_path: Path,
) -> None:
    staged, out = _draw_figures(tmp_path / "work", motion="head"), tmp_path / "out"
    _pack_figures(staged, out, "01")
    os.utime(_archive_path(out, "01"), (1, 1))
    _pack_figures(staged, out, "01")
    assert _archive_path(out, "01").stat().st_mtime == 1
    _pack_figures(_draw_figures(tmp_path / "other", carpet="voxels", motion="again"), out, "01")
    assert _texts(out) == {"motion": SVG.format("again"), "carpet": SVG.format("voxels")}


def test_a_figure_no_longer_drawn_is_removed_and_figures_of_other_runs_stay(
    tmp_path: Path,
) -> None:
    out, other_name = tmp_path / "out", "sub-01_task-other_desc-carpet_bold.svg"
    staged = _draw_figures(tmp_path / "work", motion="head", carpet="voxels")
    for path in (staged / "sub-01" / "figures").glob("*carpet*"):
        name = path.name.replace(path.name.partition(".")[0], other_name[:-4])
        text = path.read_text(encoding="utf-8").replace(
            path.name.removesuffix(".json"), other_name
        )
        path.with_name(name).write_text(text, encoding="utf-8")
    _pack_figures(staged, out, "01")
    assert len(read_figures(out, "01")) == 3
    _pack_figures(_draw_figures(tmp_path / "later", motion="head"), out, "01")
    assert [figure.figure for figure in read_figures(out, "01")] == ["carpet", "motion"]
    assert other_name in {figure.path.name for figure in read_figures(out, "01")}


def test_the_newer_of_a_loose_and_a_packed_figure_is_shown(tmp_path: Path) -> None:
    """Earlier calls may have stored figures as single files and the next one packed them."""
    out = _draw_figures(tmp_path / "out", motion="single")
    _pack_figures(_draw_figures(tmp_path / "work", motion="packed"), out, "01")
    single = out / "sub-01" / "figures" / MOTION
    for seconds, text in ((-10, "packed"), (10, "single")):
        moment = _archive_path(out, "01").stat().st_mtime + seconds
        os.utime(single, (moment, moment))
        assert _texts(out)["motion"] == SVG.format(text)


def test_an_interrupted_update_leaves_the_previous_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    _pack_figures(_draw_figures(tmp_path / "work", motion="head"), out, "01")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic_files, "put_in_place", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _pack_figures(_draw_figures(tmp_path / "work", carpet="voxels"), out, "01")
    assert _texts(out) == {"motion": SVG.format("head")}
    assert zipfile.ZipFile(_archive_path(out, "01")).testzip() is None


def test_a_damaged_archive_is_rewritten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    staged = _draw_figures(tmp_path / "work", motion="head")
    _pack_figures(staged, out, "01")
    _archive_path(out, "01").write_bytes(_archive_path(out, "01").read_bytes()[:40])
    assert read_figures(out, "01") == []
    _pack_figures(staged, out, "01")
    assert _texts(out) == {"motion": SVG.format("head")}


def test_an_interrupted_run_keeps_the_figures_already_drawn(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def run_until_interrupted() -> None:
        with pack_figures(tmp_path / "work", out, ["01", "02"]):
            _draw_figures(tmp_path / "work", motion="head")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_until_interrupted()
    assert _texts(out) == {"motion": SVG.format("head")}
    assert not (out / "sub-02").exists()


def test_nothing_is_packed_if_work_and_output_folder_are_the_same(tmp_path: Path) -> None:
    out = _draw_figures(tmp_path / "out", motion="head")
    _pack_figures(out, out, "01")
    assert not _archive_path(out, "01").exists()
