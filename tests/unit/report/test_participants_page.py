"""Test the participant's page: all sections exist, no network access, external text is escaped."""

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
from bids_sr.report.sections import FigureSpec
from bids_sr.steps.figures import figure_declarations

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
    """Record a step that failed, with its crash file."""
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
    """A page as a browser sees it: ids, addresses, and number of figures per section."""

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
        attributes = dict(attrs)
        self.tags.append(tag)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "section":
            self.section = attributes["id"]
        for name in ("src", "data", "srcset", "poster"):
            if name in attributes:
                self.resources.append(attributes[name])
        if tag in ("img", "object", "table"):
            self.figures[self.section] = self.figures.get(self.section, 0) + 1
        if "href" in attributes:
            (self.links if tag == "a" else self.resources).append(attributes["href"])


@pytest.fixture(scope="module")
def svg_text(tmp_path_factory) -> str:
    """Return a figure as the program writes it."""
    fig = canvas.new_figure(2, 1)
    fig.add_subplot().plot([0, 1])
    return svg_files.save_svg(fig, tmp_path_factory.mktemp("figure") / "x.svg").read_text()


def put(
    folder: Path,
    figure: str,
    content: str,
    run: str = "",
    suffix: str = "svg",
    name: str = "",
    **note,
) -> None:
    """Write a figure of the participant or of a run."""
    run_entities = {"task": "tap", "run": run} if run else {}
    path = folder / f"sub-01_{f'task-tap_run-{run}_' * bool(run)}desc-{name or figure}_x.{suffix}"
    noted(path, content, figure, entities={"subject": "01", **run_entities}, **note)


@pytest.fixture
def outputs(tmp_path, svg_text):
    """Return outputs with all figures of a participant with two runs, and a figure of another
    participant; and the log folder.
    """
    out = tmp_path / "task-of_run-7" / "derivatives"
    folder = out / "sub-01" / "figures"
    folder.mkdir(parents=True)
    for name in ANAT:
        put(folder, name, svg_text)
    for run in ("1", "2"):
        for name in FUNC:
            put(folder, name, svg_text, run)
        for name, note in MAPS.items():
            put(folder, name.removesuffix("Fwhm50"), svg_text, run, name=name, **note)
        for name in FUNC_TABLES:
            put(folder, name, "<table><tr></tr></table>", run, "html")
    put(folder, "summary", "<table class='facts'></table>", suffix="html")
    put(folder, "card", "<p>card</p>", suffix="html")
    put(folder, "pairinfo", "<p>pair</p>", suffix="html")
    noted(
        out / "sub-011" / "figures" / "sub-011_desc-brain_T1w.svg",
        svg_text,
        "brain",
        entities={"subject": "011"},
    )
    logs = out / "logs" / "u1"
    logs.mkdir(parents=True)
    (logs / "settings.toml").write_text('[paths]\nbids_dir = "a <b>"\n')
    (logs / "CITATION.md").write_text("Made with [@fmriprep] <script>.\n")
    return out, logs


def page_of(out: Path, logs: Path, **options) -> tuple[Page, str]:
    page = _build_report(
        out, "sub-01", declarations=figure_declarations(), log_dir=logs, **options
    )
    text = page.read_text(encoding="utf-8")
    return Page(text), text


def test_every_section_exists_and_has_figures(outputs):
    page, text = page_of(*outputs, command="bids-sr in out participant")
    assert [i for i in page.ids if i in SECTIONS] == list(SECTIONS)
    assert len(page.ids) == len(set(page.ids))
    for section in SECTIONS[:-3]:
        assert page.figures.get(section), section
    assert "items are not available" not in text
    assert "were not requested" not in text
    assert "No errors to report!" in text
    assert "bids-sr in out participant" in text


def test_the_page_makes_no_network_requests(outputs):
    page, text = page_of(*outputs)
    assert page.resources
    assert all(
        address.startswith(("data:image/svg+xml;base64,", "data:image/svg+xml,"))
        for address in page.resources
    )
    local_files = (
        "index.html",
        "CITATION.html",
        "CITATION.md",
        "CITATION.bib",
        "logs/u1/settings.toml",
    )
    assert all(
        address in local_files or address.startswith(("#", "https://doi.org/"))
        for address in page.links
    )
    assert not re.search(r"url\((?!%23)", text)  # Figures refer to their own parts.
    assert "@import" not in text
    assert not {"link", "iframe"} & set(page.tags)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none'; ")
    assert not re.search("http|connect-src|unsafe-eval", policy)


def test_the_content_security_policy_allows_only_the_script_of_the_page(outputs):
    page, text = page_of(*outputs)
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert page.tags.count("script") == 1


def test_navigation_links_every_section_and_run(outputs):
    page, _ = page_of(*outputs)
    targets = {
        link[1:] for link in page.links if link.startswith("#") and not link.startswith("#ref-")
    }
    assert set(SECTIONS) <= targets
    assert targets <= set(page.ids)


def test_external_text_is_escaped(outputs):
    _, text = page_of(*outputs, command="bids-sr '<script>' out")
    assert text.count("<script") == 1
    assert "&lt;script&gt;" in text


def test_runs_are_grouped_and_figures_without_a_run_come_first(outputs):
    _, text = page_of(*outputs)
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


def test_figures_of_other_participants_and_folder_names_do_not_appear(outputs):
    out, logs = outputs
    _, text = page_of(out, logs)
    assert text.count('alt="Brain mask and tissues"') == 1
    assert "sub-011" not in text
    assert "run 7" not in text


def test_figures_without_a_declaration_or_sidecar_are_not_shown(outputs, svg_text):
    out, logs = outputs
    folder = out / "sub-01" / "figures"
    put(folder, "reactivation", svg_text, "1")
    (folder / "sub-01_task-tap_run-1_desc-activation_other.svg").write_text(svg_text)
    _, text = page_of(out, logs)
    assert not re.search("reactivation|activation_other", text)


def test_figures_are_not_modified_and_the_page_is_reproducible(outputs):
    out, logs = outputs
    files = sorted((out / "sub-01" / "figures").iterdir())
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in files]
    _, first = page_of(out, logs)
    _, second = page_of(out, logs)
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in files] == before
    assert first == second
    assert not list(out.glob(".*.html"))


def test_missing_figures_are_named(outputs):
    out, logs = outputs
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


def test_a_missing_pair_is_called_incomplete_only_if_a_step_failed(outputs):
    out, logs = outputs
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


def test_the_summary_states_the_data_set_for_other_programs_if_it_has_the_participant(
    tmp_path,
):
    (logs := tmp_path / "logs" / "run").mkdir(parents=True)
    for series, participant in (("sbl", "01"), ("srgan", "02")):
        (tmp_path / "derivatives" / f"bids-sr-{series}" / f"sub-{participant}").mkdir(parents=True)
    _, text = page_of(tmp_path, logs)
    summary = text[text.index('<section id="summary"') :]
    assert "For XCP-D, fitlins, nilearn: <code>derivatives/bids-sr-sbl</code>" in summary
    assert "bids-sr-srgan" not in text


def test_analyses_not_requested_are_no_failure(outputs):
    out, logs = outputs
    for path in (out / "sub-01" / "figures").glob("*run-*desc-*"):
        if re.search("desc-(placebo|splithalf|truth|uncertainty)_", path.name):
            path.unlink()
    page, text = page_of(out, logs)
    assert "items are not available" not in text
    not_requested = re.findall(
        r"The following analyses were not requested \(options in parentheses\): ([^<]+)\.</p>",
        text,
    )
    assert len(not_requested) == 1
    assert "--truth" in not_requested[0]
    # The section contains only analyses that were not requested.
    assert "placebos" not in page.ids


def test_an_analysis_missing_in_one_run_is_named_with_the_run(outputs):
    out, logs = outputs
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


def test_a_run_without_figures_still_gets_a_page(tmp_path):
    page, text = page_of(tmp_path, tmp_path / "logs")
    assert [i for i in page.ids if i in SECTIONS] == [
        name for name in SECTIONS if name != "placebos"
    ]
    assert text.count("items are not available") == len(SECTIONS) - 1 - 3
    assert "The methods text was not written" in text


def test_errors_name_the_node_and_end_with_the_cause(outputs):
    out, logs = outputs
    lines = "\n".join(f'  File "x.py", line {k}' for k in range(40))
    crash(logs, CRASH.format(lines=lines))
    _, text = page_of(out, logs)
    assert "No errors" not in text
    errors = text[text.index('<section id="errors"') : text.index('<section id="about"')]
    assert "bids_sr_wf.sub_01_wf.hmc_wf.estimate" in errors
    assert "ValueError: &lt;b&gt;bad&lt;/b&gt; &amp; ugly" in errors.split("</pre>")[0]
    assert "line 2\n" not in errors.split("</pre>")[0]
    assert "line 2\n" in errors


def test_errors_of_another_participant_are_not_shown(outputs):
    out, logs = outputs
    record(logs, [Notice(what="wf.other", why="x", subject="02", code="crashed")])
    _, text = page_of(out, logs)
    assert "No errors" in text
    record(logs, [Notice(what="wf.all", why="x", code="crashed")])
    _, text = page_of(out, logs)
    assert "wf.all" in text
    assert "wf.other" not in text


def test_a_crash_file_without_a_notice_is_shown_with_the_warnings(outputs):
    out, logs = outputs
    (logs / "crash-2.txt").write_text(CRASH.format(lines='  File "x.py", line 1'))
    fields = {"what": "sub-01", "why": "old words", "level": "warning", "subject": "01"}
    (logs / RECORD).write_text(json.dumps({**fields, "code": "step"}) + "\n")
    _, text = page_of(out, logs)
    assert "No errors" not in text
    errors = text[text.index('<section id="errors"') : text.index('<section id="about"')]
    assert "crash-2.txt" in errors
    assert "ValueError: &lt;b&gt;bad" in errors
    assert "old words" in text


def test_a_crash_file_is_shown_once_and_only_to_its_participant(outputs):
    out, logs = outputs
    crash(logs, CRASH.format(lines=""))
    # last line and full traceback
    assert len(re.findall("&lt;b&gt;bad", page_of(out, logs)[1])) == 2
    text = (logs / RECORD).read_text().replace('"subject": "01"', '"subject": "02"')
    (logs / RECORD).write_text(text)
    assert "No errors" in page_of(out, logs)[1]


def test_the_methods_text_of_the_run_is_shown(outputs):
    (outputs[1] / "CITATION.md").write_text("Other text [@fmriprep].")
    _, text = page_of(*outputs)
    assert "Other text (<a" in text
    assert "Made with" not in text


def test_the_page_does_not_depend_on_the_working_directory(outputs, monkeypatch):
    out, logs = outputs
    _, expected = page_of(out, logs)
    monkeypatch.chdir(out.parent)
    _, text = page_of(Path(os.path.relpath(out)), logs)
    assert text == expected


def test_a_new_declaration_shows_the_figure_per_run_or_names_it_as_missing(outputs, svg_text):
    out, _ = outputs
    drift = FigureSpec("drift", "motion", subtitle="Drift <x>", missing="drift <x>")
    for count in (0, 1, 2):
        if count:
            put(out / "sub-01" / "figures", "drift", svg_text, str(count), section="motion")
        page = write_subject_page(
            out, "01", declarations=[*figure_declarations(), drift], custom={}
        ).read_text(encoding="utf-8")
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


def test_runs_at_rest_show_connectivity_in_place_of_activation(outputs, svg_text):
    out, logs = outputs
    folder = out / "sub-01" / "figures"
    for run, title in (("2", "Activation and connectivity"), ("1", "Connectivity")):
        for path in folder.glob(f"*run-{run}*desc-activation*"):
            path.unlink()
        put(folder, "connectivity", svg_text, run, contrast="thumb")
        _, text = page_of(out, logs)
        assert f'<li><a href="#activation">{title}</a>' in text
        assert "maps of activation" not in text
    assert "<h4>Seed thumb, " in text


def test_a_table_links_the_file_of_its_run(outputs):
    out, logs = outputs
    name = "sub-01_task-tap_run-2_desc-evaluation_metrics.tsv"
    (out / "sub-01" / "func").mkdir()
    (out / "sub-01" / "func" / name).write_text("series\n")
    page, _ = page_of(out, logs)
    assert {link for link in page.links if link.endswith(".tsv")} == {f"sub-01/func/{name}"}


def test_model_cards_are_linked_in_the_training_section(outputs):
    out, logs = outputs
    card = out / "sourcedata" / "models" / "sub-01" / "sub-01_desc-srgan_model.json"
    card.parent.mkdir(parents=True)
    card.write_text("{}")
    page, _ = page_of(out, logs)
    assert {link for link in page.links if link.endswith(".json")} == {
        card.relative_to(out).as_posix()
    }


def test_the_page_of_several_runs_begins_with_the_map_of_all_runs(tmp_path):
    figures = tmp_path / "sub-01" / "figures"
    entities = {"subject": "01", "task": "tap"}
    for run in ("1", "2"):
        path = figures / f"sub-01_task-tap_run-{run}_desc-overview_bold.html"
        noted(path, f"<p>run {run}</p>", "overview", entities={**entities, "run": run})
    page_of_runs = write_subject_page(
        tmp_path, "01", declarations=figure_declarations(), custom={}
    ).read_text()
    assert "all-runs" not in page_of_runs
    assert 'id="participant"' not in page_of_runs  # The section is not listed as missing either.
    path = figures / "sub-01_task-tap_desc-participant_bold.html"
    noted(path, "<p>all-runs</p>", "participant", entities=entities)
    page = write_subject_page(
        tmp_path, "01", declarations=figure_declarations(), custom={}
    ).read_text()
    places = [page.index(text) for text in ("<p>all-runs", "<p>run 1", "<p>run 2")]
    assert places == sorted(places)
    assert page.index('<section id="participant"') < page.index('<section id="overview"')
    assert "Map of all runs" in page
