"""Generated documents are up to date, and documents agree with the code."""

import json
import pkgutil
import re
import subprocess
from pathlib import Path

import pytest
from pages import loaded, scripts

ROOT = Path(__file__).parents[3]
PAGES = [
    "CONTRIBUTING.md",
    "README.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
    *sorted(f"docs/recipes/{path.name}" for path in (ROOT / "docs/recipes").glob("*.md")),
]
GALLERY = sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "examples/gallery").iterdir()
)


def script(name):
    """Return a script of docs/ as a module."""
    return loaded(ROOT / "docs" / f"{name}.py")


def test_the_figure_of_layers_is_up_to_date():
    figure = (ROOT / "docs/figures/layers.svg").read_text()
    assert figure == script("draw_layers").drawn(), "python docs/draw_layers.py draws it anew"


def test_all_pages_of_the_reference_are_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text()
    pages = sorted(path.name for path in (ROOT / "docs/reference").glob("*.md"))
    assert sorted(re.findall(r"reference/(\w+\.md)", menu)) == pages


@pytest.mark.parametrize("page", [*PAGES, *GALLERY])
def test_files_named_on_a_page_exist(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text):
        assert ((ROOT / page).parent / target).exists(), target
    for path in re.findall(
        r"`((?:benchmarks|docs|examples|tests|workflows|bids_sr|boilerplate)/[\w/.-]*)`", text
    ):
        assert (ROOT / path).exists(), path


def named_object(name):
    """Return the object of a dotted name in the package, `steps` or `pipeline`, or None."""
    for top in ("bids_sr", "bids_sr.steps", "bids_sr.pipeline"):
        try:
            return pkgutil.resolve_name(f"{top}.{name}")
        except (ImportError, AttributeError):
            continue
    return None


def test_names_on_the_architecture_page_exist_in_the_code():
    text = re.sub(r"```.*?```", "", (ROOT / "docs/architecture.md").read_text(), flags=re.DOTALL)
    names = set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)*\.\w+)`", text))
    assert len(names) > 15
    assert {name for name in names if named_object(name) is None} == set()
    assert named_object("motion.no_such_step") is None


def test_commits_named_as_examples_exist():
    git = ["git", "-C", str(ROOT)]
    shallow = subprocess.run(
        [*git, "rev-parse", "--is-shallow-repository"], capture_output=True, text=True, check=False
    )
    if shallow.stdout != "false\n":
        return  # without history
    commits = re.findall(r"`git show (\w+)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(commits) > 3
    for commit in commits:
        command = [*git, "cat-file", "-t", commit]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stdout == "commit\n", commit


def test_code_on_the_architecture_page_is_copied_from_the_code():
    step, calls = scripts(ROOT / "docs/architecture.md")
    assert step in (ROOT / "bids_sr/steps/bold_reference.py").read_text()
    lines = (ROOT / "workflows/fit_run.py").read_text().splitlines()
    code_lines = [line.strip() for line in lines]
    assert [line for line in calls.splitlines() if line not in code_lines] == []


def test_scripts_that_write_pages_exist():
    text = (ROOT / "docs/architecture.md").read_text()
    names = re.findall(r"`python ((?:docs|paper)/\w+\.py)", text)
    assert len(names) > 8
    assert [name for name in names if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    "page",
    [*PAGES, *(f"benchmarks/{name}.md" for name in ("README", "archive", "FINDINGS", "TRUTH"))],
)
def test_tables_of_results_named_on_a_page_exist(page):
    text = (ROOT / page).read_text()
    names = set(re.findall(r"results/([\w-]+\.md)", text))
    assert {name for name in names if not (ROOT / "benchmarks/results" / name).exists()} == set()


def _github_anchors(page: Path) -> set[str]:
    """Return anchors of the headings of a page as on GitHub; mkdocs joins hyphens."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    texts = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in texts}


@pytest.mark.parametrize("page", PAGES)
def test_anchors_work_on_github(page: str) -> None:
    path = ROOT / page
    for target, anchor in re.findall(
        r"\]\(([^)#:\s]*)#([^)\s]+)\)", path.read_text(encoding="utf-8")
    ):
        linked_page = path.parent / target if target else path
        if linked_page.suffix == ".md" and linked_page.exists():
            assert anchor in _github_anchors(linked_page), f"{page}: {target}#{anchor}"


def test_numbers_of_the_example_equal_its_stored_results():
    figures = script("make_figures")
    results = json.loads((ROOT / "docs/figures/example.json").read_text())
    for page, text_of in figures.PAGES.items():
        assert (
            f"{figures.START}\n{text_of(results)}\n{figures.END}" in (ROOT / page).read_text()
        ), page


def test_all_pages_are_in_the_menu_and_all_figures_have_a_script():
    menu = (ROOT / "mkdocs.yml").read_text()
    figures = script("make_figures")
    known_figures = {
        "layers.svg",
        "people.svg",
        "spaces.svg",
        "tested_detail.svg",
        "example.png",
        "accuracy.png",
        "report.png",
    }
    # drawn by benchmarks/papers.py
    known_figures |= {path.name for path in (ROOT / "docs/figures").glob("papers_curves_*.svg")}
    known_figures |= {f"report/{name.split('_')[0]}.png" for name in figures.FIGURES}
    for path in (ROOT / "docs/recipes").glob("*.md"):
        assert f"recipes/{path.name}" in menu
    for path in (ROOT / "docs").glob("*.md"):
        assert path.name in menu
        used_figures = re.findall(r"!\[[^\]]*\]\(figures/([^)]+)\)", path.read_text())
        assert set(used_figures) <= known_figures, path.name


@pytest.mark.parametrize("flip", [1, -1])
def test_the_figure_of_the_readme_labels_left_and_right(tmp_path, monkeypatch, flip):
    """Left of the participant is on the left for both storage orders."""
    import nibabel as nib
    import numpy as np

    drawing = script("make_figures")
    x = np.arange(16) if flip > 0 else np.arange(16)[::-1]  # from left to right
    tmap = np.tile(np.where(x < 4, 9.0, 0.0)[:, None, None], (1, 16, 4))  # active at the left
    image = nib.Nifti1Image(tmap, np.diag([3.0 * flip, 3, 3, 1]))
    figures = []
    names = ("acquired", "B-spline", "super-resolved (sbl)", "measured")
    monkeypatch.setattr(drawing, "panels", lambda *_: dict.fromkeys(names, (image, image)))
    monkeypatch.setattr(drawing, "read_verdict", lambda _: {"best": "sbl"})
    monkeypatch.setattr(drawing, "save", lambda figure, _: figures.append(figure))
    drawing.draw_example(tmp_path, tmp_path / "example.png")
    for axis in figures[0].axes[:4]:
        positions = {text.get_text(): text.get_position()[0] for text in axis.texts}
        assert positions["L"] < 0.5 < positions["R"]
        columns = np.ma.filled(axis.images[1].get_array(), 0).sum(0)
        middle = np.average(np.arange(16), weights=columns)
        assert (middle < 8) == (not axis.xaxis_inverted())


def test_the_page_of_options_is_up_to_date_and_complete() -> None:
    from bids_sr.cli.parser import build_parser

    text = (ROOT / "docs/options.md").read_text(encoding="utf-8")
    assert text == script("options_page").page(), "python docs/options_page.py writes it anew"
    flags = [flag for action in build_parser()._actions for flag in action.option_strings]
    assert {flag for flag in flags if f"`{flag}`" not in text} <= {"-h", "--help"}


def test_table_and_figure_of_participants_equal_the_benchmark() -> None:
    tables = script("people_tables")
    for page in tables.PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert text == tables.with_tables(text, page), (
            f"{page}: python docs/people_tables.py writes it anew"
        )
        assert tables.table() in text, "the page contains the table of participants"
    assert tables.FIGURE.read_text(encoding="utf-8") == tables.figure()
    assert tables.figure().count("<title>") == 1 + len(tables.runs()), "one dot per run"


def test_numbers_in_sentences_equal_the_benchmarks() -> None:
    numbers = script("measured_numbers")
    count = 0
    for page in numbers.PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert text == numbers.filled(text), (
            f"{page}: python docs/measured_numbers.py writes it anew"
        )
        assert "{W}" not in text, page
        count += len(numbers.PLACE.findall(text))
    assert count >= 30, "the pages contain numbers of benchmarks"


def test_no_line_starts_with_the_comment_of_a_number() -> None:
    """Markdown treats such a line as an HTML block, which ends the preceding paragraph."""
    numbers = script("measured_numbers")
    pattern = re.compile(r"^[ ]*<!--:", re.MULTILINE)
    assert pattern.search("explains\n<!--:sbl-->52<!--/--> %")
    pages = {page for page in numbers.PAGES if pattern.search((ROOT / page).read_text("utf-8"))}
    assert pages == set()


def test_an_old_number_is_replaced_and_an_unknown_name_is_rejected() -> None:
    numbers = script("measured_numbers")
    current = numbers.numbers()["sbl"]
    assert (
        numbers.filled("explains <!--:sbl-->old<!--/--> %")
        == f"explains <!--:sbl-->{current}<!--/--> %"
    )
    with pytest.raises(KeyError, match="unheard"):
        numbers.filled("<!--:unheard-->1<!--/-->")


def test_the_table_of_participants_averages_runs_before_participants() -> None:
    tables = script("people_tables")
    for series, (mean, low, high) in tables.means().items():
        by_dataset = {}
        for data, name, percent in tables.runs():
            if name == series:
                by_dataset.setdefault(data, []).append(percent)
        means = [sum(percents) / len(percents) for percents in by_dataset.values()]
        assert (mean, low, high) == pytest.approx(
            (sum(means) / len(means), min(means), max(means)), abs=0.75
        )
