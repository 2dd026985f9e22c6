"""The participant's page: a section per result, missing items, notices, errors, and no network."""

import base64
import hashlib
import json
import os
import re
from dataclasses import replace
from importlib.metadata import metadata
from pathlib import Path

import pytest
from data.page import MARKUP, Page
from figure_helpers import noted

from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.io.dataset_description import write_dataset
from bids_sr.io.notices import RECORD, Notice, record
from bids_sr.report.assembler import write_subject_page
from bids_sr.report.figures import canvas, svg_files
from bids_sr.report.index_page import write_index
from bids_sr.report.participants_page import write_first_page, write_participants
from bids_sr.report.sections import FigureSpec
from bids_sr.version import __version__
from bids_sr.workflows.figure_declarations import figure_declarations

SECTIONS = (
    *(
        "overview",
        "why",
        "regions",
        "maps",
        "verdict",
        "evaluation",
        "activation",
        "checks",
    ),
    *("guards", "registration", "motion", "anatomical", "superres-training", "superres"),
    *("methods", "summary", "errors", "about"),
)
TEXT_SECTIONS = ("methods", "errors", "about")
NOT_OF_A_RUN = ("participant",)
REQUESTED = re.compile(r"were not requested \(options in parentheses\): (.*?)\.$")
UNAVAILABLE = re.compile(r"The following items are not available: (.*?)\.$")
STILL_COMPUTED = re.compile(r"The following items are still computed: (.*?)\.$")
CRASH = """Node: bids_sr_wf.sub_01_wf.hmc_wf.estimate

Traceback (most recent call last):
{lines}
ValueError: <b>bad</b> & ugly
"""


def crash(logs: Path, lines: str = "") -> None:
    """Record a step that failed, with its crash file."""
    file = logs / "crash-20250101-000000-user-estimate-1.txt"
    file.write_text(CRASH.format(lines=lines))
    notice = Notice(
        what="bids_sr_wf.sub_01_wf.hmc_wf.estimate",
        why="ValueError",
        subject="01",
        code="crashed",
        file=f"/elsewhere/{file.name}",
    )
    record(logs, [notice])


@pytest.fixture(scope="module")
def drawing(tmp_path_factory) -> str:
    """Return a figure as the program writes it."""
    fig = canvas.new_figure(2, 1)
    fig.add_subplot().plot([0, 1])
    return svg_files.save_svg(fig, tmp_path_factory.mktemp("figure") / "x.svg").read_text()


def put(
    out: Path, figure: str, content: str, run: str = "", suffix: str = "svg", name="", **note
) -> Path:
    """Write a figure of the participant or of a run."""
    entities = {"subject": "01", **({"task": "tap", "run": run} if run else {})}
    place = f"task-tap_run-{run}_" if run else ""
    path = out / "sub-01" / "figures" / f"sub-01_{place}desc-{name or figure}_x.{suffix}"
    noted(path, content, figure, entities=entities, **note)
    return path


@pytest.fixture
def outputs(tmp_path, drawing):
    """Return outputs with all figures of a participant with two runs, and a figure of another
    participant; and the log folder.
    """
    out = tmp_path / "task-of_run-7" / "derivatives"
    for spec in figure_declarations():
        if spec.suffix == "metrics" or spec.desc in NOT_OF_A_RUN:
            continue
        content, suffix = ("<table><tr></tr></table>", "html") if spec.html else (drawing, "svg")
        for run in ("1", "2") if spec.suffix == "bold" else ("",):
            put(out, spec.desc, content, run, suffix, contrast="thumb")
    for run in ("1", "2"):
        smoothing = "smoothed by 5 mm (FWHM)"
        shown = {"contrast": "thumb", "smoothing": smoothing}
        put(out, "correlation", drawing, run, name="correlationFwhm50", **shown)
    other = out / "sub-011" / "figures" / "sub-011_desc-brain_T1w.svg"
    noted(other, drawing, "brain", entities={"subject": "011"})
    logs = out / "logs" / "u1"
    logs.mkdir(parents=True)
    (logs / "settings.toml").write_text('[paths]\nbids_dir = "a <b>"\n')
    (logs / "CITATION.md").write_text(f"Made with [@fmriprep] {MARKUP[:8]}.\n")
    return out, logs


def write_text(out: Path, logs: Path, **options) -> str:
    """Write the page of participant 01 and return its HTML."""
    (path,) = write_participants(
        out, ["01"], declarations=figure_declarations(), log_dir=logs, **options
    )
    return path.read_text(encoding="utf-8")


def write_page(out: Path, logs: Path, **options) -> Page:
    return Page(write_text(out, logs, **options))


def find_sections(page: Page) -> list[str]:
    return [section.attributes["id"] for section in page.all("section")]


def find_notes(page: Page, pattern: re.Pattern[str]) -> list[str]:
    """Return what the notes of missing items list."""
    return [match[1] for found in page.all("p") if (match := pattern.search(found.text))]


def remove(out: Path, *names: str, run: str = "") -> None:
    """Remove figures of the participant, or only of one run."""
    for name in names:
        pattern = f"*run-{run}*desc-{name}_*" if run else f"*desc-{name}_*"
        paths = list((out / "sub-01" / "figures").glob(pattern))
        assert paths, name
        for path in paths:
            path.unlink()


def test_every_section_exists_has_figures_and_is_linked(outputs):
    page = write_page(*outputs, command="bids-sr '<script>' out")
    assert find_sections(page) == list(SECTIONS)
    ids = [found.attributes["id"] for found in page.all() if "id" in found.attributes]
    assert len(ids) == len(set(ids))
    for name in SECTIONS:
        shown = [page.section(name).all(tag) for tag in ("img", "object", "table")]
        assert any(shown) or name in TEXT_SECTIONS, name
    targets = {link[1:] for link in page.links.values() if link.startswith("#")}
    assert targets <= set(ids)
    folds = [fold.all("h2")[0].text for fold in page.all("details", "fold") if fold.all("h2")]
    folded = ["Why", "Regions", "Maps", "Evidence", "Checks", "Paper", "About"]
    assert folds == [*folded, "Do not conclude"]
    assert not find_notes(page, UNAVAILABLE)
    assert not find_notes(page, REQUESTED)
    assert "No errors to report!" in page.text
    assert "bids-sr '<script>' out" in page.section("about").text
    assert "Made with (" in page.section("methods").text


def test_the_page_makes_no_network_requests_and_runs_only_its_own_script(outputs):
    text = write_text(*outputs)
    page = Page(text)
    addresses = [
        found.attributes[name]
        for found in page.all()
        for name in ("src", "data", "srcset", "poster")
        if name in found.attributes
    ]
    assert addresses
    assert all(address.startswith("data:image/svg+xml") for address in addresses)
    local = r"index\.html|CITATION\.\w+|logs/u1/settings\.toml|#.*|https://doi\.org/.*"
    manual = re.escape(metadata("bids-sr")["Home-page"])
    assert all(re.fullmatch(f"{local}|{manual}", link) for link in page.links.values())
    assert not re.search(r"url\((?!%23)|@import", text)  # Figures refer to their own parts.
    assert not page.all("link") + page.all("iframe")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none'; ")
    assert not re.search("http|connect-src|unsafe-eval", policy)
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert len(page.all("script")) == 1


def test_runs_are_grouped_and_figures_without_a_run_come_first(outputs):
    page = write_page(*outputs)
    registration = page.section("registration").text
    parts = ("Registration of the T2* pair", "Task tap, run 1", "Task tap, run 2")
    order = [registration.index(part) for part in parts]
    assert order == sorted(order)
    titles = [found.text for found in page.section("activation").all("h4")]
    assert sum(title.startswith("thumb, smoothed by 5 mm") for title in titles) == 2


def test_only_declared_figures_of_the_participant_are_shown_and_none_is_changed(outputs, drawing):
    out, logs = outputs
    put(out, "reactivation", drawing, "1")
    folder = out / "sub-01" / "figures"
    (folder / "sub-01_task-tap_run-1_desc-correlation_other.svg").write_text(drawing)
    files = sorted(folder.iterdir())
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in files]
    text = write_text(out, logs)
    assert text.count('alt="Brain mask and tissues"') == 1
    assert not re.search("reactivation|correlation_other|sub-011_|run 7", text)
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in files] == before
    assert write_text(out, logs) == text
    assert not list(out.glob(".*.html"))


def test_the_page_does_not_depend_on_the_working_directory(outputs, monkeypatch):
    out, logs = outputs
    expected = write_text(out, logs)
    monkeypatch.chdir(out.parent)
    assert write_text(Path(os.path.relpath(out)), logs) == expected


def test_missing_figures_are_named_with_their_run(outputs):
    out, logs = outputs
    remove(out, "norm", "training")
    remove(out, "carpet", run="2")
    page = write_page(out, logs)
    assert find_notes(page, UNAVAILABLE) == [
        "carpet plot of task tap, run 2",
        "T1w to template",
        "training curve (this figure requires a method that trains a network)",
    ]


def test_the_first_page_has_the_figures_of_this_call_and_says_what_is_still_computed(outputs):
    out, logs = outputs
    figures = out / "sub-01" / "figures"
    first_screen = put(out, "overview", "<p>answer</p>", "1", "html")
    put(out, "overview", "<p>answer of an earlier call</p>", "2", "html")
    options = {"declarations": figure_declarations(), "log_dir": logs, "command": "bids-sr x"}
    path = write_first_page(out, "01", stored_files={first_screen}, **options)
    page = Page(path.read_text(encoding="utf-8"))
    assert "answer" in page.section("overview").text
    assert "earlier call" not in page.text
    assert not find_notes(page, UNAVAILABLE)
    still = " ".join(find_notes(page, STILL_COMPUTED))
    assert all(item in still for item in ("carpet plot", "quality checks", "viewer of the maps"))
    # what is added later does not change it
    complete = write_page(out, logs)
    assert "answer" in complete.section("overview").text
    assert not find_notes(complete, STILL_COMPUTED)
    everything = Page(
        write_first_page(out, "01", stored_files={*figures.iterdir()}, **options).read_text()
    )
    assert not find_notes(everything, STILL_COMPUTED)


def test_analyses_that_were_not_requested_are_no_failure(outputs):
    out, logs = outputs
    remove(out, "agreement", run="2")
    page = write_page(out, logs)
    assert not find_notes(page, UNAVAILABLE)
    (missing,) = find_notes(page, REQUESTED)
    assert "--truth" in missing
    assert "BOLD run of task tap, run 2 (" in missing


def test_a_missing_pair_is_called_incomplete_only_if_a_step_failed(outputs):
    out, logs = outputs
    remove(out, "pair", "pairreg", "pairinfo", "training", "card")
    text = write_text(out, logs)
    assert "not complete" not in text
    assert "require a T2* pair" in text
    crash(logs)
    assert "not complete" in write_text(out, logs)


def test_a_run_without_figures_still_gets_a_page(tmp_path):
    page = write_page(tmp_path, tmp_path / "logs")
    absent = ("evaluation", "activation", "why", "regions", "checks")
    assert find_sections(page) == [name for name in SECTIONS if name not in absent]
    n_without_figures = len(absent) + len(TEXT_SECTIONS)
    assert len(find_notes(page, UNAVAILABLE)) == len(SECTIONS) - n_without_figures
    assert "The methods text was not written" in page.text


def test_notices_of_the_participant_are_shown_and_counted(tmp_path):
    (logs := tmp_path / "logs" / "run").mkdir(parents=True)
    warning = Notice(what="wf.fit", why="the <fit> is poor", level="warning", code="step")
    record(
        logs,
        [
            Notice(what="a.tsv", why="it has no unit", level="note", subject="01"),
            Notice(what="a.tsv", why="it is about all", level="note"),
            Notice(what="a.tsv", why="it is of another", level="note", subject="02"),
            *(replace(warning, subject="01", run=f"sub-01_run-{number}") for number in (1, 1, 2)),
            Notice(what="/x/e.tsv", why="no onset", subject="01", run="sub-01_b", code="left-out"),
        ],
    )
    for series, participant in (("sbl", "01"), ("srgan", "02")):
        (tmp_path / "derivatives" / f"bids-sr-{series}" / f"sub-{participant}").mkdir(parents=True)
    page = write_page(tmp_path, logs)
    assert page.links["2 warnings"] == "#summary"
    assert page.links["2 notes"] == "#summary"
    assert "sub-01_b: skipped: e.tsv: no onset" in page.section("overview").text
    assert "sub-01_run-2: the <fit> is poor" in page.section("summary").text
    summary = page.section("summary")
    assert "it is about all" in summary.text
    assert "it is of another" not in page.text
    assert "No errors" in page.text
    # data sets for other programs
    assert "derivatives/bids-sr-sbl" in [code.text for code in summary.all("code")]
    assert "bids-sr-srgan" not in page.text


def test_errors_name_the_node_and_end_with_the_cause(outputs):
    out, logs = outputs
    crash(logs, "\n".join(f'  File "x.py", line {k}' for k in range(40)))
    page = write_page(out, logs)
    errors = page.section("errors")
    assert "No errors" not in errors.text
    assert "bids_sr_wf.sub_01_wf.hmc_wf.estimate" in errors.text
    end, whole = (found.text for found in errors.all("pre"))
    assert end.endswith("ValueError: <b>bad</b> & ugly")
    assert "line 2 " not in end
    assert "line 2 " in whole
    record = (logs / RECORD).read_text().replace('"subject": "01"', '"subject": "02"')
    (logs / RECORD).write_text(record)
    assert "No errors" in write_page(out, logs).text, "of another participant"


def test_failures_without_a_participant_concern_all_participants(outputs):
    out, logs = outputs
    record(logs, [Notice(what="wf.other", why="x", subject="02", code="crashed")])
    assert "No errors" in write_page(out, logs).text
    record(logs, [Notice(what="wf.all", why="x", code="crashed")])
    errors = write_page(out, logs).section("errors").text
    assert "wf.all" in errors
    assert "wf.other" not in errors


def test_a_crash_file_without_a_notice_is_shown(outputs):
    out, logs = outputs
    (logs / "crash-2.txt").write_text(CRASH.format(lines='  File "x.py", line 1'))
    errors = write_page(out, logs).section("errors").text
    assert "crash-2.txt" in errors
    assert "ValueError: <b>bad" in errors


def test_a_new_declaration_shows_the_figure_per_run_or_names_it_as_missing(outputs, drawing):
    out, _ = outputs
    drift = FigureSpec("drift", "motion", subtitle="Drift <x>", missing="drift <x>")
    declarations = [*figure_declarations(), drift]
    for count, missing in ((0, ["drift <x>"]), (1, ["drift <x> of task tap, run 2"]), (2, [])):
        if count:
            put(out, "drift", drawing, str(count), section="motion")
        path = write_subject_page(out, "01", declarations=declarations, custom={})
        page = Page(path.read_text(encoding="utf-8"))
        titles = [found.text for found in page.section("motion").all("h4")]
        assert titles.count("Drift <x>") == count
        assert find_notes(page, UNAVAILABLE) == missing


def test_tables_and_model_cards_are_linked(outputs):
    out, logs = outputs
    files = [
        "sub-01/func/sub-01_task-tap_run-2_desc-evaluation_metrics.tsv",
        "sourcedata/models/sub-01/sub-01_desc-srgan_model.json",
    ]
    for name in files:
        (out / name).parent.mkdir(parents=True)
        (out / name).write_text("{}")
    links = write_page(out, logs).all("a")
    assert {link.attributes["href"] for link in links if "sub-01" in link.attributes["href"]} == {
        *files
    }


def test_the_map_of_all_runs_comes_first_and_runs_are_sorted_by_number(tmp_path):
    for run in ("10", "2", "1", "a"):
        put(tmp_path, "overview", f"<p>map of run {run}.</p>", run, "html")
    assert "participant" not in find_sections(write_page(tmp_path, tmp_path))
    entities = {"subject": "01", "task": "tap"}
    path = tmp_path / "sub-01" / "figures" / "sub-01_task-tap_desc-participant_bold.html"
    noted(path, "<p>all-runs</p>", "participant", entities=entities)
    page = write_page(tmp_path, tmp_path)
    places = [
        page.text.index(text)
        for text in ("all-runs", *(f"map of run {run}." for run in ("a", "1", "2", "10")))
    ]
    assert places == sorted(places)
    assert find_sections(page)[:2] == ["participant", "overview"]
    left_out = Notice(what="sub-01_task-tap_run-3_bold.nii.gz", why="too short", code="left-out")
    record(tmp_path, [replace(left_out, subject="01", run="sub-01_task-tap_run-3")])
    page = write_page(tmp_path, tmp_path)
    assert "run-3" in page.section("participant").text, "it is not folded with the single runs"
    assert "run-3" not in page.section("overview").text


# Participants with many sessions have one page per session.


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return outputs of one participant with five sessions and three without sessions."""
    root = tmp_path / "out"
    figures = root / "sub-01" / "figures"
    put(root, "summary", "<p>of all</p>", suffix="html")
    # Anatomical figures belong to the participant, whichever session they were acquired in.
    entities = {"subject": "01", "session": "1"}
    pair = figures / "sub-01_ses-1_desc-pairinfo_x.html"
    noted(pair, "<p>anat</p>", "pairinfo", entities=entities)
    for session in "12345":
        entities = {"subject": "01", "session": session, "task": "tap"}
        name = f"sub-01_ses-{session}_task-tap_desc-runsummary_x.html"
        noted(figures / name, f"<p>of session {session}</p>", "runsummary", entities=entities)
        func = root / "sub-01" / f"ses-{session}" / "func"
        func.mkdir(parents=True)
        verdict = func / f"sub-01_ses-{session}_task-tap_desc-verdict_metrics.json"
        verdict.write_text(json.dumps({"headline": "It is finer."}))
    for label in ("02", "03", "10"):
        path = root / f"sub-{label}" / "figures" / f"sub-{label}_desc-summary_T1w.html"
        noted(path, "<p>other</p>", "summary", entities={"subject": label})
    return root


def write_all_pages(root: Path, sessions: int = 4) -> dict[str, Page]:
    labels = ["01", "02", "03", "10"]
    write_participants(
        root,
        labels,
        declarations=figure_declarations(),
        log_dir=root / "logs",
        sessions=sessions,
    )
    write_index(root)
    return {path.name: Page(path.read_text()) for path in root.glob("*.html")}


def find_shown_sessions(page: Page) -> list[str]:
    return re.findall(r"of session (\d)", page.text)


def test_each_session_has_a_page_if_there_are_more_than_four(root):
    pages = write_all_pages(root)
    assert len(pages) == 10
    for session in "12345":
        page = pages[f"sub-01_ses-{session}.html"]
        assert find_shown_sessions(page) == [session]
        assert "of all" in page.text
        assert "anat" in page.section("registration").text
        assert page.headings[0] == f"bids-sr: sub-01_ses-{session}"
        assert "errors" in find_sections(page)
    participant = pages["sub-01.html"]
    assert "of all" in participant.text
    assert not find_shown_sessions(participant)
    # Figures on the pages of sessions are not listed as missing.
    assert not find_notes(participant, UNAVAILABLE)
    assert "errors" in find_sections(participant)
    pages = write_all_pages(root, sessions=5)
    assert len(pages) == 5, "pages of sessions are removed"
    assert find_shown_sessions(pages["sub-01.html"]) == [*"12345"]


def test_pages_link_sessions_and_the_previous_and_next_participant(root):
    pages = write_all_pages(root)
    linked = {
        name: {link: target for link, target in page.links.items() if target.endswith(".html")}
        for name, page in pages.items()
    }
    index = {"All participants": "index.html"}
    sessions = {f"sub-01_ses-{n}": f"sub-01_ses-{n}.html" for n in range(1, 6)}
    next_participant = {"sub-02 ›": "sub-02.html"}
    assert linked["sub-01.html"] == sessions | next_participant | index
    this = sessions.pop("sub-01_ses-2")
    assert linked[this] == {"sub-01": "sub-01.html"} | sessions | next_participant | index
    assert linked["sub-02.html"] == {"‹ sub-01": "sub-01.html", "sub-03 ›": "sub-03.html"} | index
    assert linked["sub-03.html"] == {"‹ sub-02": "sub-02.html", "sub-10 ›": "sub-10.html"} | index
    assert linked["sub-10.html"] == {"‹ sub-03": "sub-03.html"} | index
    assert linked["index.html"]["sub-01"] == "sub-01.html"
    for n in range(1, 6):
        assert linked["index.html"][f"ses-{n}_task-tap"] == f"sub-01_ses-{n}.html"


def test_the_limit_of_sessions_is_a_setting_and_an_option(root):
    assert parse_settings(["in", "out", "participant"]).run.aggregate_session_reports == 4
    write_dataset(root, bids_dir=root.parent / "in", version=__version__)
    call = ["in", str(root), "participant", "--reports-only"]
    assert main([*call, "--set", "run.aggregate_session_reports=5"]) == 0
    assert not list(root.glob("*_ses-*.html"))
    assert main(call) == 0
    assert len(list(root.glob("*_ses-*.html"))) == 5
    assert main([*call, "--set", "run.aggregate_session_reports=0"]) == 2
