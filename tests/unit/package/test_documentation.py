"""Documents that are made from the code, or that speak of it, still fit it."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = ["CONTRIBUTING.md", "README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def draw_layers():
    spec = importlib.util.spec_from_file_location("draw_layers", ROOT / "docs" / "draw_layers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_figure_of_the_layers_is_of_today(draw_layers):
    drawn = (ROOT / "docs/figures/layers.svg").read_text()
    assert drawn == draw_layers.drawn(), "python docs/draw_layers.py draws it anew"


def test_imports_in_a_circle_are_refused(draw_layers):
    assert draw_layers.levels({"a": set(), "b": {"a"}, "c": {"a", "b"}}) == {"a": 0, "b": 1, "c": 2}
    with pytest.raises(ValueError, match="circle among b, c"):
        draw_layers.levels({"a": set(), "b": {"c"}, "c": {"b"}})


def test_every_part_is_in_the_reference(draw_layers):
    found = {path.read_text().split(":::")[1].strip() for path in (ROOT / "docs/reference").glob("*.md")}
    modules = {"boilerplate", "series", "region_names"}  # data, and modules that the pages of the parts link to
    wanted = {part if part == "workflows" else f"bids_sr.{part}" for part in draw_layers.graph() if part not in modules}
    assert found - {"bids_sr.series", "bids_sr.region_names"} == wanted


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_are_there(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text):
        assert ((ROOT / page).parent / target).exists(), target
    for named in re.findall(r"`((?:benchmarks|docs|tests|workflows|bids_sr|boilerplate)/[\w/.-]+\.\w+)`", text):
        assert (ROOT / named).exists(), named
