"""Generated pages and figures are up to date, and links within the repository work.

`mkdocs build --strict` checks menu, links and anchors of the site; here, pages are also read on
GitHub.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from data.dataset import BidsMaker
from data.fmriprep import prepared, use
from pages import ROOT, Change, changes, loaded
from PIL import Image

from bids_sr.engine.metric_rows import read_table
from bids_sr.evaluation.run_evidence import gather_evidence
from bids_sr.evaluation.verdict import make_verdict
from bids_sr.preproc.steps import registration
from bids_sr.workflows.figure_declarations import figure_declarations

PAGES = [
    *ROOT.glob("*.md"),
    *(path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "examples"),
    *(ROOT / "benchmarks").glob("*.md"),
    *(path for path in (ROOT / "examples/gallery").iterdir() if path.is_file()),
]
HISTORY = ("CHANGES.md", "benchmarks/archive.md")
"""Pages that name files of earlier versions."""
FOLDERS = "benchmarks|docs|examples|paper|tests|workflows|bids_sr|boilerplate"
EXAMPLES = [*changes((ROOT / "docs/changing.md").read_text(encoding="utf-8"))]
"""Lines of the program on the page for developers, and their replacements."""
NEW_FILES = {change.file for change in EXAMPLES if not change.before}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def generated(name: str) -> Iterator[tuple[object, object]]:
    """Yield content of the repository and what a script makes of its sources, in pairs."""
    script = loaded(ROOT / f"{name}.py")
    match name:
        case "docs/draw_run":
            yield script.FIGURE.read_text(encoding="utf-8"), script.drawn()
        case "docs/make_figures":  # numbers of the stored run on the example
            results = json.loads(read("docs/figures/example.json"))
            for page, text_of in script.PAGES.items():
                text = read(page).partition(f"{script.START}\n")[2].partition(f"\n{script.END}")[0]
                yield text, text_of(results)
            shown = re.findall(r">(−?\d+ %)<", read("docs/figures/detail.svg"))
            yield shown, [*script.shares(results).values()]
        case "docs/measured_numbers":
            for page in script.PAGES:
                yield read(page), script.filled(read(page))
        case "docs/options_page":
            yield read("docs/options.md"), script.page()
        case "docs/papers_page":
            yield read("docs/papers/index.md"), script.filled(read("docs/papers/index.md"))
        case "docs/people_tables":
            yield read("docs/index.md"), script.with_table(read("docs/index.md"))
            yield script.FIGURE.read_text(encoding="utf-8"), script.figure()
        case "paper/make_paper":
            yield read("paper/paper.md"), script.paper()
            description = Image.open(ROOT / "paper/people.png").text["Description"]
            yield json.loads(description), script.drawn()


@pytest.mark.parametrize(
    "name",
    [
        *("docs/make_figures", "docs/measured_numbers", "docs/options_page", "docs/papers_page"),
        *("docs/draw_run", "docs/people_tables", "paper/make_paper"),
    ],
)
def test_a_script_writes_what_the_repository_contains(name: str) -> None:
    pairs = [*generated(name)]
    assert pairs
    for stored, written in pairs:
        assert stored == written, f"run python {name}.py"


def test_the_quoted_result_is_what_the_program_states_of_the_stored_metrics() -> None:
    results = json.loads(read("docs/figures/example.json"))
    rows = read_table(ROOT / "docs/figures/example.tsv")
    evidence = gather_evidence(rows, methods=[results["best"]], baselines=())
    headline = make_verdict(evidence).headline.replace("\N{NO-BREAK SPACE}", " ")
    assert headline == results["headline"]
    assert headline in " ".join(read("README.md").split())


def test_figures_of_the_tutorial_have_the_names_of_their_tabs() -> None:
    tabs = {spec.desc: spec.tab.replace("*", "\\*") for spec in figure_declarations()}
    names = re.findall(
        r"figures/report/(\w+)\.png\)(?: \| |\n\n)\*\*(.*?)\.\*\*", read("docs/tutorial.md")
    )
    assert len(names) == len(loaded(ROOT / "docs/make_figures.py").FIGURES)
    assert names == [(desc, tabs[desc]) for desc, _ in names]


def test_the_flow_chart_fails_if_a_step_is_renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    script = loaded(ROOT / "docs/draw_run.py")
    monkeypatch.setattr(registration.register_to_t1w, "__name__", "register_to_head")
    with pytest.raises(AssertionError, match="register_to_t1w"):
        script.drawn()


def test_the_flow_chart_names_the_stages_that_use_fmriprep(maker: BidsMaker) -> None:
    script = loaded(ROOT / "docs/draw_run.py")
    prepared(maker)
    folders = [str(maker.root), "out", "participant", "-w", "work"]
    nodes, _ = script.build_graph([*folders, *use(maker)])
    names = {stage: {node.name for node in added} for stage, added in nodes.items()}
    imports = {
        stage: {name for name in steps if name.startswith("import_")} - {"import_series"}
        for stage, steps in names.items()
    }
    assert {stage: {*steps} for stage, steps in script.IMPORTS.items()} == {
        stage: steps for stage, steps in imports.items() if steps
    }


def test_files_named_on_pages_exist() -> None:
    missing = set()
    for page in PAGES:
        text, name = page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix()
        for target in re.findall(r"\]\(([^)#:\s]+?)(?:#[^)]*)?\)", text):
            if not (page.parent / target).exists():
                missing.add((name, target))
        for path in re.findall(rf"`(?:python )?((?:{FOLDERS})/[\w/.-]*)[`: ]", text):
            if name not in HISTORY and path not in NEW_FILES and not (ROOT / path).exists():
                missing.add((name, path))
        for table in re.findall(r"results/([\w-]+\.md)", text):
            if name not in HISTORY and not (ROOT / "benchmarks/results" / table).exists():
                missing.add((name, table))
    assert missing == set()


def anchors_on_github(page: Path) -> set[str]:
    """Return anchors of the headings of a page as on GitHub; mkdocs joins hyphens."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    texts = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in texts}


def test_anchors_work_on_github() -> None:
    count, missing = 0, []
    for page in PAGES:
        links = re.findall(r"\]\(([^)#:\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8"))
        for target, anchor in links:
            linked = (page.parent / target) if target else page
            if linked.suffix == ".md" and linked.exists():
                count += 1
                if anchor not in anchors_on_github(linked):
                    missing.append(f"{page.name}: {target}#{anchor}")
    assert missing == []
    assert count > 100


def test_examples_add_the_files_that_readers_write() -> None:
    assert {
        "bids_sr/evaluation/steps/signal_drift.py",
        "bids_sr/sr/methods/new_net.py",
        "bids_sr/report/figure_steps/tsnr.py",
    } == NEW_FILES


@pytest.mark.parametrize("change", [change for change in EXAMPLES if change.before])
def test_lines_of_the_program_on_the_page_are_in_it_once(change: Change) -> None:
    assert read(change.file).count(change.before) == 1, f"{change.file}:\n{change.before}"


def test_tables_of_participants_have_one_accuracy_of_a_run() -> None:
    """Tables that stand side by side on a page are of the same code, contrast and voxels."""
    rows = {
        name: json.loads(read(f"benchmarks/results/{name}.json"))["rows"]
        for name in ("people_runs", "people_baselines")
    }
    values = [
        {row["run"]: row[column].split()[0] for row in rows[name] if row["series"] == series}
        for name, series, column in (
            ("people_runs", "`sbl`, blind", "explained variance, active"),
            ("people_baselines", "`sbl`", "active"),
        )
    ]
    assert len(values[0]) == 4
    assert values[0] == values[1]


def test_the_table_of_participants_averages_runs_before_participants() -> None:
    tables = loaded(ROOT / "docs/people_tables.py")
    for series, (mean, low, high) in tables.means().items():
        by_participant: dict[str, list[float]] = {}
        for data, name, percent in tables.runs():
            if name == series:
                by_participant.setdefault(data, []).append(percent)
        means = [sum(percents) / len(percents) for percents in by_participant.values()]
        assert (mean, low, high) == pytest.approx(
            (sum(means) / len(means), min(means), max(means)), abs=0.75
        )
