"""The page: every section is there, nothing is asked of a network, nothing from outside is
interpreted.
"""

import base64
import hashlib
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from figure_helpers import noted

from bids_sr.figures import canvas, svg_files
from bids_sr.notices import RECORD, Notice, record
from bids_sr.report.assembler import write_subject_page
from bids_sr.report.participants_page import _build_report
from bids_sr.report.sections import Shown
from bids_sr.steps.figures import declared

SECTIONS = (
    "overview",
    "maps",
    "verdict",
    "summary",
    "anatomical",
    "registration",
    "motion",
    "superres-training",
    "superres",
    "activation",
    "evaluation",
    "placebos",
    "guards",
    "methods",
    "errors",
    "about",
)
ANAT = ("brain", "norm", "pair", "pairreg", "training")
FUNC = (
    "overview",
    "coreg",
    "highres",
    "motion",
    "carpet",
    "srslice",
    "madetsnr",
    "madecarpet",
    "variance",
    "splithalf",
    "beyond",
    "truth",
    "placebo",
)
SMOOTHED = "smoothed by 5 mm (FWHM)"
MAPS = {
    "activation": {"contrast": "thumb"},
    "activationFwhm50": {"contrast": "thumb", "smoothing": SMOOTHED},
    "uncertainty": {"contrast": "thumb"},
}
FUNC_TABLES = (
    "viewer",
    "overview",
    "runsummary",
    "clusters",
    "registration",
    "verdict",
    "splithalf",
    "truth",
    "placebo",
    "guards",
    "images",
    "holdout",
)


def crash(logs, text):
    """A step that failed, and its crash file."""
    file = logs / "crash-20250101-000000-user-estimate-1.txt"
    file.write_text(text)
    record(
        logs,
        [
            Notice(
                what="bids_sr_wf.sub_01_wf.hmc_wf.estimate",
                why="ValueError",
                subject="01",
                code="crashed",
                file=f"/elsewhere/{file.name}",
            )
        ],
    )


CRASH = """Node: bids_sr_wf.sub_01_wf.hmc_wf.estimate
Working directory: /somewhere

Node inputs:

in_file = <undefined>

Traceback (most recent call last):
{lines}
ValueError: <b>bad</b> & ugly
"""


class Page(HTMLParser):
    """What a browser would see: ids, addresses, and figures by section."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.resources: list[str] = []
        self.links: list[str] = []
        self.figures: dict[str, int] = {}
        self.section = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "section":
            self.section = given["id"]
        for name in ("src", "data", "srcset", "poster"):
            if name in given:
                self.resources.append(given[name])
        if tag in ("img", "object", "table"):
            self.figures[self.section] = self.figures.get(self.section, 0) + 1
        if "href" in given:
            (self.links if tag == "a" else self.resources).append(given["href"])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> str:
    """A figure as our interfaces write it."""
    fig = canvas.new_figure(2, 1)
    fig.add_subplot().plot([0, 1])
    return svg_files.save_svg(fig, tmp_path_factory.mktemp("figure") / "x.svg").read_text()


def put(
    folder: Path,
    figure: str,
    content: str,
    run: str = "",
    end: str = "svg",
    name: str = "",
    **note,
) -> None:
    """A figure of the participant, or of a run."""
    own = {"task": "tap", "run": run} if run else {}
    path = folder / f"sub-01_{f'task-tap_run-{run}_' * bool(run)}desc-{name or figure}_x.{end}"
    noted(path, content, figure, entities={"subject": "01", **own}, **note)


@pytest.fixture
def finished(tmp_path, drawn):
    """A folder of derivatives with all figures of one subject and two runs, and of another
    subject.
    """
    out = tmp_path / "task-of_run-7" / "derivatives"
    folder = out / "sub-01" / "figures"
    folder.mkdir(parents=True)
    for name in ANAT:
        put(folder, name, drawn)
    for run in ("1", "2"):
        for name in FUNC:
            put(folder, name, drawn, run)
        for name, more in MAPS.items():
            put(folder, name.removesuffix("Fwhm50"), drawn, run, name=name, **more)
        for name in FUNC_TABLES:
            put(folder, name, "<table><tr></tr></table>", run, "html")
    put(folder, "summary", "<table class='facts'></table>", end="html")
    put(folder, "card", "<p>card</p>", end="html")
    put(folder, "pairinfo", "<p>pair</p>", end="html")
    noted(
        out / "sub-011" / "figures" / "sub-011_desc-brain_T1w.svg",
        drawn,
        "brain",
        entities={"subject": "011"},
    )
    logs = out / "logs" / "u1"
    logs.mkdir(parents=True)
    (logs / "settings.toml").write_text('[paths]\nbids_dir = "a <b>"\n')
    (logs / "CITATION.md").write_text("Made with [@hunter2007] <script>.\n")
    return out, logs


def page_of(out: Path, logs: Path, **options) -> tuple[Page, str]:
    page = _build_report(out, "sub-01", shown=declared(), log_dir=logs, **options)
    text = page.read_text(encoding="utf-8")
    return Page(text), text


def test_every_section_is_there_and_has_something_to_see(finished):
    page, text = page_of(*finished, command="bids-sr in out participant")
    assert [i for i in page.ids if i in SECTIONS] == list(SECTIONS)
    assert len(page.ids) == len(set(page.ids))
    for section in SECTIONS[:-3]:
        assert page.figures.get(section), section
    assert "items are not available" not in text
    assert "on request" not in text
    assert "No errors to report!" in text
    assert "bids-sr in out participant" in text


def test_the_page_asks_no_network_for_anything(finished):
    page, text = page_of(*finished)
    assert page.resources
    assert all(
        each.startswith(("data:image/svg+xml;base64,", "data:image/svg+xml,"))
        for each in page.resources
    )
    beside = (
        "index.html",
        "CITATION.html",
        "CITATION.md",
        "CITATION.bib",
        "logs/u1/settings.toml",
    )
    assert all(each in beside or each.startswith(("#", "https://doi.org/")) for each in page.links)
    assert not re.search(r"url\((?!%23)", text)  # within a figure a part of it may be named
    assert "@import" not in text
    assert not {"link", "iframe"} & set(page.tags)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none'; ")
    assert not re.search("http|connect-src|unsafe-eval", policy)


def test_the_policy_of_the_page_lets_its_own_script_run_and_no_other(finished):
    page, text = page_of(*finished)
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert page.tags.count("script") == 1


def test_navigation_leads_to_every_section_and_run(finished):
    page, _ = page_of(*finished)
    targets = {
        link[1:] for link in page.links if link.startswith("#") and not link.startswith("#ref-")
    }
    assert set(SECTIONS) <= targets
    assert targets <= set(page.ids)


def test_text_from_outside_is_escaped(finished):
    _, text = page_of(*finished, command="bids-sr '<script>' out")
    assert text.count("<script") == 1
    assert "&lt;script&gt;" in text
    assert "<u>" not in text


def test_runs_are_grouped_and_figures_without_a_run_come_first(finished):
    _, text = page_of(*finished)
    registration = text[
        text.index('<section id="registration"') : text.index('<section id="motion"')
    ]
    order = [
        registration.index(part)
        for part in ("Registration of the T2* pair", "Task tap, run 1", "Task tap, run 2")
    ]
    assert order == sorted(order)
    activation = text[
        text.index('<section id="activation"') : text.index('<section id="evaluation"')
    ]
    assert activation.count("<h4>thumb, not smoothed") == 2
    assert activation.count("<h4>thumb, smoothed by 5 mm (FWHM)") == 2


def test_figures_of_others_and_names_of_folders_do_not_leak_in(finished):
    out, logs = finished
    _, text = page_of(out, logs)
    assert text.count('alt="Brain mask and tissues"') == 1
    assert "sub-011" not in text
    assert "run 7" not in text


def test_what_is_not_declared_or_not_noted_is_not_shown(finished, drawn):
    out, logs = finished
    folder = out / "sub-01" / "figures"
    put(folder, "reactivation", drawn, "1")
    (folder / "sub-01_task-tap_run-1_desc-activation_other.svg").write_text(drawn)
    _, text = page_of(out, logs)
    assert not re.search("reactivation|activation_other", text)


def test_figures_are_not_touched_and_the_page_is_the_same_again(finished):
    out, logs = finished
    files = sorted((out / "sub-01" / "figures").iterdir())
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in files]
    _, first = page_of(out, logs)
    _, second = page_of(out, logs)
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in files] == before
    assert first == second
    assert not list(out.glob(".*.html"))


def test_what_is_missing_is_named(finished):
    out, logs = finished
    for name in (
        "sub-01_desc-norm_x.svg",
        "sub-01_task-tap_run-2_desc-carpet_x.svg",
        "sub-01_desc-training_x.svg",
    ):
        (out / "sub-01" / "figures" / name).unlink()
    _, text = page_of(out, logs)
    missing = re.findall(r"The following items are not available: ([^<]+)\.</p>", text)
    assert missing == [
        "T1w to template",
        "carpet plot of task tap, run 2",
        "training curve (this figure requires a method that trains a network)",
    ]


def test_a_section_without_a_pair_is_not_called_incomplete_unless_steps_failed(finished):
    out, logs = finished
    for name in ("pair", "pairreg", "pairinfo", "training", "card"):
        for path in (out / "sub-01" / "figures").glob(f"*_desc-{name}_*"):
            path.unlink()
    _, text = page_of(out, logs)
    assert "not complete" not in text
    assert "require a T2* pair" in text
    crash(logs, CRASH.format(lines=""))
    assert "not complete" in page_of(out, logs)[1]


def test_notices_of_the_participant_are_shown_and_counted(tmp_path):
    logs = tmp_path / "logs" / "run"
    logs.mkdir(parents=True)
    warned = Notice(what="wf.fit", why="the <fit> is poor", level="warning", code="step")
    record(
        logs,
        [
            Notice(what="a.tsv", why="it has no unit", level="note", subject="01"),
            Notice(what="a.tsv", why="it is about all", level="note"),
            Notice(what="a.tsv", why="it is of another", level="note", subject="02"),
            *(replace(warned, subject="01", run=f"sub-01_run-{number}") for number in (1, 1, 2)),
            Notice(what="/x/e.tsv", why="no onset", subject="01", run="sub-01_b", code="left-out"),
        ],
    )
    _, text = page_of(tmp_path, logs)
    assert re.findall(r'<a class="chip" href="(#\w+)">([^<]+)</a>\n', text)[:2] == [
        ("#overview", "3 warnings"),
        ("#summary", "2 notes"),
    ]
    first = text[text.index('<section id="overview"') : text.index('<section id="maps"')]
    assert "sub-01_run-2: the &lt;fit&gt; is poor" in first
    assert "sub-01_b: skipped: e.tsv: no onset" in first
    assert "it is about all" in text[text.index('<section id="summary"') :]
    assert "it is of another" not in text
    assert "No errors" in text


def test_what_was_not_asked_for_is_no_failure(finished):
    out, logs = finished
    for path in (out / "sub-01" / "figures").glob("*run-*desc-*"):
        if re.search("desc-(placebo|splithalf|truth|uncertainty)_", path.name):
            path.unlink()
    page, text = page_of(out, logs)
    assert "items are not available" not in text
    asked = re.findall(
        r"The following analyses were not requested \(options in parentheses\): ([^<]+)\.</p>",
        text,
    )
    assert len(asked) == 2
    assert "--truth" in asked[0]
    assert "--n-ensemble" in asked[1]
    assert "placebos" not in page.ids  # a section of nothing but what was not asked for


def test_what_other_runs_have_is_named_with_the_run_that_lacks_it(finished):
    out, logs = finished
    for path in (out / "sub-01" / "figures").glob("*run-2*desc-splithalf_*"):
        path.unlink()
    _, text = page_of(out, logs)
    (missing,) = re.findall(
        r"The following analyses were not requested \(options in parentheses\): ([^<]+)\.</p>",
        text,
    )
    assert "items are not available" not in text
    assert "high-resolution BOLD run" in missing
    assert "BOLD run of task tap, run 2 (" in missing


def test_a_run_that_left_no_figures_still_gets_its_page(tmp_path):
    page, text = page_of(tmp_path, tmp_path / "logs")
    assert [i for i in page.ids if i in SECTIONS] == [
        name for name in SECTIONS if name != "placebos"
    ]
    assert text.count("items are not available") == len(SECTIONS) - 1 - 3
    assert "The methods text was not written" in text


def test_errors_name_the_node_and_end_with_the_cause(finished):
    out, logs = finished
    lines = "\n".join(f'  File "x.py", line {k}' for k in range(40))
    crash(logs, CRASH.format(lines=lines))
    _, text = page_of(out, logs)
    assert "No errors" not in text
    errors = text[text.index('<section id="errors"') : text.index('<section id="about"')]
    assert "bids_sr_wf.sub_01_wf.hmc_wf.estimate" in errors
    assert "ValueError: &lt;b&gt;bad&lt;/b&gt; &amp; ugly" in errors.split("</pre>")[0]
    assert "line 2\n" not in errors.split("</pre>")[0]
    assert "line 2\n" in errors


def test_errors_of_another_participant_stand_on_their_own_page(finished):
    out, logs = finished
    record(logs, [Notice(what="wf.other", why="x", subject="02", code="crashed")])
    _, text = page_of(out, logs)
    assert "No errors" in text
    record(logs, [Notice(what="wf.all", why="x", code="crashed")])
    _, text = page_of(out, logs)
    assert "wf.all" in text
    assert "wf.other" not in text


def test_a_crash_file_that_no_notice_names_is_told_beside_the_warnings(finished):
    out, logs = finished
    (logs / "crash-2.txt").write_text(CRASH.format(lines='  File "x.py", line 1'))
    fields = {"what": "sub-01", "why": "old words", "level": "warning", "subject": "01"}
    (logs / RECORD).write_text(json.dumps({**fields, "code": "log"}) + "\n")
    _, text = page_of(out, logs)
    assert "No errors" not in text
    errors = text[text.index('<section id="errors"') : text.index('<section id="about"')]
    assert "crash-2.txt" in errors
    assert "ValueError: &lt;b&gt;bad" in errors
    assert "old words" in text


def test_a_crash_file_of_a_notice_is_told_once_and_to_its_participant_alone(finished):
    out, logs = finished
    crash(logs, CRASH.format(lines=""))
    assert len(re.findall("&lt;b&gt;bad", page_of(out, logs)[1])) == 2  # end and whole of it
    text = (logs / RECORD).read_text().replace('"subject": "01"', '"subject": "02"')
    (logs / RECORD).write_text(text)
    assert "No errors" in page_of(out, logs)[1]


def test_methods_text_may_be_given_as_text(finished):
    (finished[1] / "CITATION.md").write_text("Other text [@power2017].")
    _, text = page_of(*finished)
    assert "Other text (<a" in text
    assert "Made with" not in text


def test_the_working_directory_does_not_matter(finished, tmp_path, monkeypatch):
    out, logs = finished
    _, expected = page_of(out, logs)
    monkeypatch.chdir(out.parent)
    _, text = page_of(Path(os.path.relpath(out)), logs)
    assert text == expected


def test_a_declaration_shows_a_figure_of_each_run_and_names_it_where_it_is_missing(
    finished, drawn
):
    out, _ = finished
    drift = Shown("drift", "motion", subtitle="Drift <x>", missing="drift <x>")
    for count in (0, 1, 2):
        if count:
            put(out / "sub-01" / "figures", "drift", drawn, str(count), section="motion")
        page = write_subject_page(out, "01", shown=[*declared(), drift], custom={}).read_text(
            encoding="utf-8"
        )
        section = page[
            page.index('<section id="motion"') : page.index('<section id="superres-training"')
        ]
        assert section.count("<h4>Drift &lt;x&gt;</h4>") == count
        assert ("The following items are not available: drift &lt;x&gt;." in section) == (
            count == 0
        )
        assert (
            "The following items are not available: drift &lt;x&gt; of task tap, run 2." in section
        ) == (count == 1)
        assert section.count('alt="Drift &lt;x&gt;, task tap, run 1"') == min(count, 1)


def test_runs_at_rest_have_connectivity_in_the_place_of_activation(finished, drawn):
    out, logs = finished
    folder = out / "sub-01" / "figures"
    for run, title in (("2", "Activation and connectivity"), ("1", "Connectivity")):
        for path in folder.glob(f"*run-{run}*desc-activation*"):
            path.unlink()
        put(folder, "connectivity", drawn, run, contrast="thumb")
        _, text = page_of(out, logs)
        assert f'<li><a href="#activation">{title}</a>' in text
        assert "maps of activation" not in text
    assert "<h4>Seed thumb, " in text


def test_a_table_is_linked_to_the_file_of_its_run(finished):
    out, logs = finished
    name = "sub-01_task-tap_run-2_desc-evaluation_metrics.tsv"
    (out / "sub-01" / "func").mkdir()
    (out / "sub-01" / "func" / name).write_text("series\n")
    page, _ = page_of(out, logs)
    assert {link for link in page.links if link.endswith(".tsv")} == {f"sub-01/func/{name}"}


def test_cards_of_models_are_linked_below_their_training(finished):
    out, logs = finished
    card = out / "sourcedata" / "models" / "sub-01" / "sub-01_desc-srgan_model.json"
    card.parent.mkdir(parents=True)
    card.write_text("{}")
    page, _ = page_of(out, logs)
    assert {link for link in page.links if link.endswith(".json")} == {
        card.relative_to(out).as_posix()
    }


def test_the_page_of_several_runs_opens_with_the_map_of_all_runs(tmp_path):
    figures = tmp_path / "sub-01" / "figures"
    entities = {"subject": "01", "task": "tap"}
    for run in ("1", "2"):
        path = figures / f"sub-01_task-tap_run-{run}_desc-overview_bold.html"
        noted(path, f"<p>run {run}</p>", "overview", entities={**entities, "run": run})
    alone = write_subject_page(tmp_path, "01", shown=declared(), custom={}).read_text()
    assert "all-runs" not in alone
    assert 'id="participant"' not in alone  # nothing is said to be missing either
    path = figures / "sub-01_task-tap_desc-participant_bold.html"
    noted(path, "<p>all-runs</p>", "participant", entities=entities)
    page = write_subject_page(tmp_path, "01", shown=declared(), custom={}).read_text()
    places = [page.index(text) for text in ("<p>all-runs", "<p>run 1", "<p>run 2")]
    assert places == sorted(places)
    assert page.index('<section id="participant"') < page.index('<section id="overview"')
    assert "Map of all runs" in page
