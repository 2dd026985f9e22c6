"""Test the index of a data set: same answers with and without a database, and updates when files
change.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from data.dataset import BidsMaker

from bids_sr.survey.bids import layout, participant_selection
from bids_sr.survey.bids.inheritance import read_object
from bids_sr.survey.bids.layout import Index, open_index
from bids_sr.survey.notices import InputError


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    data = BidsMaker(tmp_path / "bids")
    data.subject("01")
    data.subject("02", session="a")
    return data


def open_layout(
    maker: BidsMaker, database: Path | None = None, **filters: dict[str, object]
) -> Index:
    return open_index(maker.root, ["01", "02"], ["01", "02"], database, filters)


def answers(index: Index) -> list[object]:
    bolds = [path for label in ("01", "02", "03") for path in index.find("bold", label)]
    images = [
        index.find(kind, label) for kind in ("t1w", "t2starw") for label in ("01", "02", "03")
    ]
    return [
        bolds,
        images,
        [index.events(path) for path in bolds],
        [index.read_metadata(path) for path in bolds],
    ]


def databases(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_database_gives_the_same_answers_as_the_files(maker: BidsMaker, tmp_path: Path) -> None:
    plain = answers(open_layout(maker))
    assert [len(part) for part in plain] == [2, 6, 2, 2]  # type: ignore[arg-type]
    assert answers(open_layout(maker, tmp_path / "db")) == plain
    assert answers(open_layout(maker, tmp_path / "db")) == plain
    assert len(databases(tmp_path / "db")) == 1


def test_an_existing_database_is_read(
    maker: BidsMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_layout(maker, tmp_path / "db")
    monkeypatch.setattr(
        "bids.layout.index.BIDSLayoutIndexer.__call__", lambda *_: pytest.fail("indexed again")
    )
    assert open_layout(maker, tmp_path / "db").find("bold", "01")


def test_a_database_is_updated_when_files_change(maker: BidsMaker, tmp_path: Path) -> None:
    open_layout(maker, tmp_path / "db")
    before = databases(tmp_path / "db")
    maker.subject("03")
    assert open_layout(maker, tmp_path / "db").find("bold", "03")
    maker.path("sub-01_task-tap_bold.nii.gz", "func").rename(
        maker.root / "sub-01/func/sub-01_task-hum_bold.nii.gz"
    )
    assert "hum" in open_layout(maker, tmp_path / "db").find("bold", "01")[0].name
    (after,) = databases(tmp_path / "db")
    assert after != before[0]


def test_the_sidecars_of_events_are_merged_except_unreadable_ones(
    maker: BidsMaker, tmp_path: Path
) -> None:
    """The survey reports unreadable sidecars elsewhere."""
    table = maker.events("sub-01_task-tap")
    levels = {"trial_type": {"Levels": {"thumb": "thumb"}}, "onset": {"Units": "s"}}
    (maker.root / "task-tap_events.json").write_text(json.dumps(levels))
    own_sidecar = table.with_suffix(".json")
    own_sidecar.write_text('{"onset": {"Units": "ms"}, "duration": null}')
    index = open_layout(maker, tmp_path / "db")
    assert index.read_events_sidecar(table) == {**levels, "onset": {"Units": "ms"}}
    own_sidecar.write_text("{ cut short")
    assert open_layout(maker, tmp_path / "db").read_events_sidecar(table) == levels


def test_a_database_directory_that_cannot_be_written_is_rejected(
    maker: BidsMaker, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        open_layout(maker, tmp_path / "file" / "db")
    assert "--bids-database-dir" in str(caught.value)


def test_filters_can_use_metadata(maker: BidsMaker, tmp_path: Path) -> None:
    for database in (None, tmp_path / "db"):
        assert open_layout(maker, database, bold={"RepetitionTime": 1.0}).find("bold", "01")
        assert not open_layout(maker, database, bold={"RepetitionTime": 2.0}).find("bold", "01")
    before = databases(tmp_path / "db")
    sidecar = maker.path("sub-01_task-tap_bold.json", "func")
    content, state = sidecar.read_text(), sidecar.stat()
    os.utime(sidecar, ns=(1, 1))
    open_layout(maker, tmp_path / "db", bold={"RepetitionTime": 1.0})
    assert databases(tmp_path / "db") == before, "content is unchanged"
    # the same size and time
    sidecar.write_text(content.replace("1.0", "2.0"))
    os.utime(sidecar, ns=(state.st_atime_ns, state.st_mtime_ns))
    index = open_layout(maker, tmp_path / "db", bold={"RepetitionTime": 2.0})
    assert index.find("bold", "01")
    assert read_object(sidecar)["RepetitionTime"] == 2.0


@pytest.mark.parametrize("database", [True, False])
def test_a_pipe_is_rejected_before_sidecars_are_indexed(
    maker: BidsMaker, tmp_path: Path, *, database: bool
) -> None:
    sidecar = maker.path("sub-01_task-tap_bold.json", "func")
    sidecar.unlink()
    os.mkfifo(sidecar)
    with pytest.raises(InputError, match=sidecar.name):
        open_layout(maker, tmp_path / "index" if database else None, bold={"RepetitionTime": 2.0})


@pytest.mark.parametrize("folder", ["sub-02", "sub-02/ses-a", "sub-02/ses-a/func"])
def test_a_database_leaves_out_participants_that_may_not_be_read(
    maker: BidsMaker, tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The permissions are part of the name of the database, so that they can be corrected."""
    with monkeypatch.context() as denied:
        for module in (layout, participant_selection):
            denied.setattr(module, "is_denied", lambda path: path == maker.root / folder)
        index = open_layout(maker, tmp_path / "index")
        assert [len(index.find("bold", label)) for label in ("01", "02")] == [1, 0]
    index = open_layout(maker, tmp_path / "index")
    assert [len(index.find("bold", label)) for label in ("01", "02")] == [1, 1]


def test_circular_links_are_not_followed(maker: BidsMaker) -> None:
    for number in range(3):
        (maker.root / "sub-01" / "func" / f"again{number}").symlink_to(maker.root)
        (maker.root / "sub-01" / f"ses-{number}").symlink_to(maker.root / "sub-01")
    assert open_layout(maker).find("bold", "01")


@pytest.mark.parametrize(
    "text", ["", "[1]", "3", '{"a":', "[" * 100_000, '{"a": ' + "9" * 10_000 + "}", "\udcff"]
)
def test_json_other_than_an_object_is_rejected(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as caught:
        read_object(path)
    assert caught.value.problems[0].what == str(path)
