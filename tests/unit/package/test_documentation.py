"""Documents that are made from the code, or that speak of it, still fit it."""

import ast
import importlib
import json
import pkgutil
import re
from pathlib import Path
from pkgutil import walk_packages

import pytest
from pages import loaded, scripts
from recipes import changes_of
from syntax import statements

from bids_sr import steps
from bids_sr.pipeline.step import Step

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
    """A script of docs/."""
    return loaded(ROOT / "docs" / f"{name}.py")


@pytest.fixture(scope="module")
def draw_layers():
    return script("draw_layers")


def test_the_figure_of_the_layers_is_of_today(draw_layers):
    drawn = (ROOT / "docs/figures/layers.svg").read_text()
    assert drawn == draw_layers.drawn(), "python docs/draw_layers.py draws it anew"


def test_imports_in_a_circle_are_refused(draw_layers):
    assert draw_layers.levels({"a": set(), "b": {"a"}, "c": {"a", "b"}}) == {
        "a": 0,
        "b": 1,
        "c": 2,
    }
    with pytest.raises(ValueError, match="circle among b, c"):
        draw_layers.levels({"a": set(), "b": {"c"}, "c": {"b"}})


def test_the_page_of_steps_is_of_today_and_has_all_of_them():
    page = (ROOT / "docs/graph.md").read_text()
    assert page == script("graph_page").page(), "python docs/graph_page.py writes it anew"
    modules = (
        importlib.import_module(found.name)
        for found in walk_packages(steps.__path__, f"{steps.__name__}.")
    )
    every = {
        name for module in modules for name, one in vars(module).items() if isinstance(one, Step)
    }
    listed = {
        name
        for pair in re.findall(r"\*\*`(\w+)`\*\* \(`[\w/]+\.py`(?:, `(\w+)`)?\): ", page)
        for name in pair
    }
    of_python_alone = {"find_motion_left", "motion_confounds"}
    assert every - listed == of_python_alone, "a data set of docs/graph_page.py must need it"


def test_every_page_of_the_reference_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text()
    pages = sorted(path.name for path in (ROOT / "docs/reference").glob("*.md"))
    assert sorted(re.findall(r"reference/(\w+\.md)", menu)) == pages


@pytest.mark.parametrize("page", [*PAGES, *GALLERY])
def test_files_that_a_page_names_are_there(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text):
        assert ((ROOT / page).parent / target).exists(), target
    for named in re.findall(
        r"`((?:benchmarks|docs|examples|tests|workflows|bids_sr|boilerplate)/[\w/.-]*)`", text
    ):
        assert (ROOT / named).exists(), named


def named_object(name):
    """Return the object of a dotted name below the package, `steps` or `pipeline`, or None."""
    for top in ("bids_sr", "bids_sr.steps", "bids_sr.pipeline"):
        try:
            return pkgutil.resolve_name(f"{top}.{name}")
        except (ImportError, AttributeError):
            continue
    return None


def test_names_on_the_page_of_the_architecture_are_in_the_code():
    text = re.sub(r"```.*?```", "", (ROOT / "docs/architecture.md").read_text(), flags=re.DOTALL)
    names = set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)*\.\w+)`", text))
    assert len(names) > 15
    assert {name for name in names if named_object(name) is None} == set()
    assert named_object("motion.no_such_step") is None


def test_the_examples_of_a_step_and_its_call_are_of_the_code():
    step, calls = scripts(ROOT / "docs/architecture.md")
    assert step in (ROOT / "bids_sr/steps/bold_reference.py").read_text()
    lines = (ROOT / "workflows/fit_run.py").read_text().splitlines()
    called = [line.strip() for line in lines]
    assert [line for line in calls.splitlines() if line not in called] == []


def test_scripts_that_write_pages_exist():
    text = (ROOT / "docs/architecture.md").read_text()
    named = re.findall(r"`python ((?:docs|paper)/\w+\.py)", text)
    assert len(named) > 8
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_changes_that_the_page_on_extending_shows_fit_the_code():
    """The lines before a change stand once in their file, so that the change has one meaning."""
    titles = re.findall(r"^## (.+)$", (ROOT / "docs/extending.md").read_text(), re.MULTILINE)
    changes = [change for title in titles for change in changes_of(title)]
    assert len(changes) > 20
    for file, before, _ in changes:
        assert (ROOT / file).exists() == bool(before), file
        assert not before or (ROOT / file).read_text().count(before) == 1, f"{file}: {before}"


@pytest.mark.parametrize(
    "page",
    [*PAGES, *(f"benchmarks/{name}.md" for name in ("README", "archive", "FINDINGS", "TRUTH"))],
)
def test_tables_of_results_that_a_page_names_are_there(page):
    text = (ROOT / page).read_text()
    named = set(re.findall(r"results/([\w-]+\.md)", text))
    assert {name for name in named if not (ROOT / "benchmarks/results" / name).exists()} == set()


def _on_github(page: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub makes them; mkdocs joins hyphens."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES)
def test_anchors_work_on_github_too(page: str) -> None:
    path = ROOT / page
    for target, anchor in re.findall(
        r"\]\(([^)#:\s]*)#([^)\s]+)\)", path.read_text(encoding="utf-8")
    ):
        there = path.parent / target if target else path
        if there.suffix == ".md" and there.exists():
            assert anchor in _on_github(there), f"{page}: {target}#{anchor}"


def _docstrings():
    """Every docstring of the tree with its file."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for top in ("bids_sr", "workflows", "boilerplate", "benchmarks", "docs", "tests"):
        for path in sorted((ROOT / top).rglob("*.py")):
            for node in statements(ast.parse(path.read_text())):
                if isinstance(node, documented) and (text := ast.get_docstring(node)):
                    yield path.relative_to(ROOT), text.splitlines()


def test_lists_in_docstrings_are_lists():
    """No item begins within a line, and what belongs to an item is indented below it."""
    within = re.compile(
        r"\S.*[.;?:)] (- [A-Z`]|\d\. [A-Za-z])|^- .*; - |[^-\s] python benchmarks/\w+\.py .* {3}"
    )
    item, continued = re.compile(r"(- |\d\. )"), re.compile(r"( |- |\d\. |$)")
    broken = [
        f"{path}: {line}"
        for path, lines in _docstrings()
        for before, line in zip(["", *lines], lines, strict=False)
        if within.search(line) or (item.match(before) and not continued.match(line))
    ]
    assert broken == []


def test_numbers_of_the_example_are_those_of_its_run():
    made = script("make_figures")
    found = json.loads((ROOT / "docs/figures/example.json").read_text())
    for page, words in made.PAGES.items():
        assert f"{made.START}\n{words(found)}\n{made.END}" in (ROOT / page).read_text(), page


def test_every_page_is_in_the_menu_and_every_picture_is_of_a_script():
    menu = (ROOT / "mkdocs.yml").read_text()
    made = script("make_figures")
    drawn = {"layers.svg", "people.svg", "spaces.svg", "example.png", "accuracy.png", "report.png"}
    drawn |= {f"report/{name.split('_')[0]}.png" for name in made.FIGURES}
    for path in (ROOT / "docs/recipes").glob("*.md"):
        assert f"recipes/{path.name}" in menu
    for path in (ROOT / "docs").glob("*.md"):
        assert path.name in menu
        shown = re.findall(r"!\[[^\]]*\]\(figures/([^)]+)\)", path.read_text())
        assert set(shown) <= drawn, path.name


@pytest.mark.parametrize("flip", [1, -1])
def test_the_picture_of_the_readme_names_left_and_right(tmp_path, monkeypatch, flip):
    """And has the person's left at the left, in whatever order the voxels are stored."""
    import nibabel as nib
    import numpy as np

    drawing = script("make_figures")
    x = np.arange(16) if flip > 0 else np.arange(16)[::-1]  # from left to right
    tmap = np.tile(np.where(x < 4, 9.0, 0.0)[:, None, None], (1, 16, 4))  # active at the left
    image = nib.Nifti1Image(tmap, np.diag([3.0 * flip, 3, 3, 1]))
    figures = []
    names = ("acquired", "B-spline", "super-resolved (sbl)", "measured")
    monkeypatch.setattr(drawing, "panels", lambda *_: dict.fromkeys(names, (image, image)))
    monkeypatch.setattr(drawing, "best_method", lambda _: "sbl")
    monkeypatch.setattr(drawing, "rows", lambda _: None)
    monkeypatch.setattr(drawing, "save", lambda figure, _: figures.append(figure))
    drawing.draw_example(tmp_path, tmp_path / "example.png")
    for axis in figures[0].axes[:4]:
        places = {text.get_text(): text.get_position()[0] for text in axis.texts}
        assert places["L"] < 0.5 < places["R"]
        columns = np.ma.filled(axis.images[1].get_array(), 0).sum(0)
        middle = np.average(np.arange(16), weights=columns)
        assert (middle < 8) == (not axis.xaxis_inverted())


def test_the_page_of_options_is_of_today_and_has_all_of_them() -> None:
    from bids_sr.boilerplate import data_of
    from bids_sr.cli.parser import build_parser

    text = (ROOT / "docs/options.md").read_text(encoding="utf-8")
    assert text == script("options_page").page(), "python docs/options_page.py writes it anew"
    flags = [flag for action in build_parser()._actions for flag in action.option_strings]
    assert {flag for flag in flags if f"`{flag}`" not in text} <= {
        "-h",
        "--help",
        *(
            spec.split()[0]
            for specs in data_of("foreign_options.json")["unused"].values()
            for spec in specs
        ),
    }


def test_the_descriptor_is_of_today_and_has_every_option() -> None:
    made = script("descriptor")
    stored = made.DESCRIPTOR.read_text(encoding="utf-8")
    assert stored == made.text(), "python docs/options_page.py writes it anew"
    known = {
        flag
        for each in json.loads(stored)["inputs"]
        for flag in (each.get("command-line-flag"), *each.get("value-choices", ()))
    }
    page = (ROOT / "docs/options.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?`) \|", page.partition("## bids-sr report")[0], re.MULTILINE)
    without = [names for names in rows if known.isdisjoint(re.findall(r"`(.+?)`", names))]
    assert without == ["`bids_dir`", "`output_dir`", "`{participant,group}`", "`--help-all`"]


def test_the_page_of_the_options_of_the_field_is_of_today() -> None:
    text = (ROOT / "docs/field_options.md").read_text(encoding="utf-8")
    assert text == script("field_options_page").page(), (
        "python docs/field_options_page.py writes it anew"
    )


def test_table_and_figure_of_people_are_those_of_the_benchmark() -> None:
    people = script("people_tables")
    for page in people.PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert text == people.with_tables(text, page), (
            f"{page}: python docs/people_tables.py writes it anew"
        )
        assert people.table() in text, "the page shows what was found on people"
    assert people.FIGURE.read_text(encoding="utf-8") == people.figure()
    assert people.figure().count("<title>") == 1 + len(people.runs()), "a dot for every run"


def test_numbers_within_sentences_are_those_of_the_benchmarks() -> None:
    made = script("measured_numbers")
    placed = 0
    for page in made.PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert text == made.filled(text), f"{page}: python docs/measured_numbers.py writes it anew"
        assert "{W}" not in text, page
        placed += len(made.PLACE.findall(text))
    assert placed >= 30, "the pages hold numbers of benchmarks"


def test_no_line_begins_with_the_comment_of_a_number() -> None:
    """Markdown takes such a line for a block of HTML, which ends the paragraph before it."""
    made = script("measured_numbers")
    begins = re.compile(r"^[ ]*<!--:", re.MULTILINE)
    assert begins.search("explains\n<!--:sbl-->52<!--/--> %")
    pages = {page for page in made.PAGES if begins.search((ROOT / page).read_text("utf-8"))}
    assert pages == set()


def test_an_old_number_is_replaced_and_an_unknown_name_refused() -> None:
    made = script("measured_numbers")
    now = made.numbers()["sbl"]
    assert (
        made.filled("explains <!--:sbl-->old<!--/--> %") == f"explains <!--:sbl-->{now}<!--/--> %"
    )
    with pytest.raises(KeyError, match="unheard"):
        made.filled("<!--:unheard-->1<!--/-->")


def test_the_table_of_people_has_the_means_over_people_of_the_runs() -> None:
    people = script("people_tables")
    for series, (mean, low, high) in people.means().items():
        found = {}
        for data, name, percent in people.runs():
            if name == series:
                found.setdefault(data, []).append(percent)
        each = [sum(percents) / len(percents) for percents in found.values()]
        assert (mean, low, high) == pytest.approx(
            (sum(each) / len(each), min(each), max(each)), abs=0.75
        )


def test_the_newest_changes_have_the_usual_headings() -> None:
    changes = (ROOT / "CHANGES.md").read_text(encoding="utf-8")
    newest = re.split(r"^## ", changes, flags=re.MULTILINE)[1]
    assert re.findall(r"^### (.*)$", newest, re.MULTILINE) == [
        "Highlights",
        "Breaking",
        "Added",
        "Results that changed",
        "Fixed",
    ]
