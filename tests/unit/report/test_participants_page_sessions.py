"""A participant with many sessions has one page per session, as in fMRIPrep."""

import json
import re
from pathlib import Path

import pytest
from figure_helpers import noted

from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.io.dataset_description import write_dataset
from bids_sr.report.index_page import write_index
from bids_sr.report.participants_page import write_participants
from bids_sr.steps.figures import figure_declarations
from bids_sr.version import __version__


def put(root: Path, session: str, figure: str, content: str) -> None:
    run_entities = {"session": session, "task": "tap"} if session else {}
    stem = f"sub-01{f'_ses-{session}_task-tap' * bool(session)}_desc-{figure}"
    noted(
        root / "sub-01" / "figures" / f"{stem}_x.html",
        content,
        figure,
        entities={"subject": "01", **run_entities},
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return outputs of one participant with five sessions and one without sessions."""
    root = tmp_path / "out"
    put(root, "", "summary", "<p>of all</p>")
    # Anatomical figures belong to the participant, whichever session they were acquired in.
    noted(
        root / "sub-01" / "figures" / "sub-01_ses-1_desc-pairinfo_x.html",
        "<p>scanned in 1</p>",
        "pairinfo",
        entities={"subject": "01", "session": "1"},
    )
    for session in ("1", "2", "3", "4", "5"):
        put(root, session, "runsummary", f"<p>of session {session}</p>")
        func = root / "sub-01" / f"ses-{session}" / "func"
        func.mkdir(parents=True)
        (func / f"sub-01_ses-{session}_task-tap_desc-verdict_metrics.json").write_text(
            json.dumps({"headline": "It is finer."})
        )
    noted(
        root / "sub-02" / "figures" / "sub-02_desc-summary_T1w.html",
        "<p>other</p>",
        "summary",
        entities={"subject": "02"},
    )
    return root


def write_pages(root: Path, sessions: int = 4) -> dict[str, str]:
    """Write all pages and return their text by name."""
    logs = root / "logs"
    write_participants(
        root, ["01", "02"], declarations=figure_declarations(), log_dir=logs, sessions=sessions
    )
    write_index(root)
    return {path.name: path.read_text() for path in root.glob("*.html")}


def links(page: str) -> dict[str, str]:
    chips = re.findall(r'class="chip" href="([^"#]+)">([^<]+)<', page)
    return {text: address for address, text in chips}


def test_each_session_has_a_page_if_there_are_more_than_four(root: Path) -> None:
    pages = write_pages(root)
    session_pages = {f"sub-01_ses-{n}.html" for n in range(1, 6)}
    assert set(pages) == {"index.html", "sub-01.html", "sub-02.html", *session_pages}
    for n in range(1, 6):
        page = pages[f"sub-01_ses-{n}.html"]
        assert "of all" in page
        assert "scanned in 1" in page
        assert re.findall(r"of session (\d)<", page) == [str(n)]
        assert f"<h1>bids-sr: sub-01_ses-{n}</h1>" in page
        assert 'id="errors"' in page
    participant_page = pages["sub-01.html"]
    assert "of all" in participant_page
    assert "scanned in 1" in participant_page
    assert "of session" not in participant_page
    # Figures on the pages of sessions are not listed as missing.
    assert "items are not available" not in participant_page
    assert 'id="motion"' not in participant_page
    assert 'id="errors"' in participant_page


def test_pages_of_sessions_link_each_other_and_other_participants(root: Path) -> None:
    pages = write_pages(root)
    sessions = {f"sub-01_ses-{n}": f"sub-01_ses-{n}.html" for n in range(1, 6)}
    neighbors = {"sub-02 ›": "sub-02.html", "All participants": "index.html"}
    assert links(pages["sub-01.html"]) == {**sessions, **neighbors}
    other_sessions = {text: page for text, page in sessions.items() if text != "sub-01_ses-2"}
    assert links(pages["sub-01_ses-2.html"]) == {
        "sub-01": "sub-01.html",
        **other_sessions,
        **neighbors,
    }
    assert links(pages["sub-02.html"]) == {
        "‹ sub-01": "sub-01.html",
        "All participants": "index.html",
    }
    assert '<a href="sub-01.html">sub-01</a>' in pages["index.html"]
    for n in range(1, 6):
        assert f'<a href="sub-01_ses-{n}.html">ses-{n}_task-tap</a>' in pages["index.html"]


def test_fewer_sessions_share_one_page_and_older_session_pages_are_removed(root: Path) -> None:
    write_pages(root)
    pages = write_pages(root, sessions=5)
    assert set(pages) == {"index.html", "sub-01.html", "sub-02.html"}
    assert set(re.findall(r"of session (\d)<", pages["sub-01.html"])) == set("12345")
    assert "sub-01_ses" not in pages["index.html"]


def test_the_limit_of_sessions_is_a_setting_and_an_option(root: Path) -> None:
    assert parse_settings(["in", "out", "participant"]).run.aggregate_session_reports == 4
    arguments = ["in", "out", "participant", "--set", "run.aggregate_session_reports=9"]
    assert parse_settings(arguments).run.aggregate_session_reports == 9
    write_dataset(root, bids_dir=root.parent / "in", version=__version__)
    call = ["in", str(root), "participant", "--reports-only"]
    assert main([*call, "--set", "run.aggregate_session_reports=5"]) == 0
    assert not list(root.glob("*_ses-*.html"))
    assert main(call) == 0
    assert len(list(root.glob("*_ses-*.html"))) == 5
    assert main([*call, "--set", "run.aggregate_session_reports=0"]) == 2
