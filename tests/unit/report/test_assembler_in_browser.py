"""The page in a browser without a network: the viewer by clicking, tabs, folding, print; skipped
without Chromium.

`BIDS_SR_AXE=FILE` (``axe.min.js`` of the npm package axe-core) checks its accessibility too, and
that of the page `BIDS_SR_PAGE`.
"""

import io
import os
import shutil
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from markupsafe import Markup
from PIL import Image

from bids_sr.evaluation.verdict import make_verdict
from bids_sr.figures import canvas
from bids_sr.figures.map_viewer import mni_nodes, viewer_html
from bids_sr.figures.maps import MAP_COLORS
from bids_sr.figures.svg_files import save_svg
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import MetricRow
from bids_sr.report.assembler import _embedded, _Reportlet, _Section, _Strip, write_page
from bids_sr.report.cluster_tables import clusters_html
from bids_sr.report.facts import facts_html, messages_html
from bids_sr.report.figure_archive import ArchivedFigure
from bids_sr.report.markup import picked, table
from bids_sr.report.overview import RunFacts, overview_html

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
browsers = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
FINE, COARSE = np.diag([3.0, 3, 3, 1]), np.diag([6.0, 6, 3, 1])
SVG = "{http://www.w3.org/2000/svg}"
NONE = Markup("<p>none</p>")
PLANES = """() => {
  const canvas = document.querySelector("[data-viewer] canvas");
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const sums = [0, 0, 0];
  for (let k = 0; k < pixels.length; k += 4) {
    const part = Math.min(2, Math.floor((3 * ((k / 4) % canvas.width)) / canvas.width));
    const added = pixels[k] + 2 * pixels[k + 1] + 3 * pixels[k + 2];
    sums[part] = (sums[part] * 31 + added) % 4294967296;
  }
  return sums;
}"""


def archived(path: Path) -> ArchivedFigure:
    words = dict.fromkeys(
        ("figure", "section", "contrast", "smoothing", "label", "heading", "caption", "alt"), ""
    )
    return ArchivedFigure(path=path, entities={"subject": "01"}, **words)


def made(shape, affine, peak) -> Volume:
    data = np.zeros(shape)
    data[tuple(np.array(shape) * peak // 10)] = 9.0
    data[tuple(np.array(shape) * 6 // 10)] = -4.0
    return Volume(data, affine)


def overview() -> Markup:
    """A first screen with long file names, many contrasts below 0, and a failed check."""
    place = {"reference": "measured", "band": "beyond", "region": "brain"}
    values = {"all": 0.35, **{f"condition{k}MinusOthersOfTheTask": -0.1 * k for k in range(1, 7)}}
    rows = [
        MetricRow(
            series="sbl",
            statistic="ev",
            value=value,
            lower=value - 0.01,
            upper=value + 0.01,
            contrast=contrast,
            **place,
        )
        for contrast, value in values.items()
    ]
    verdict = make_verdict(rows, methods=["sbl"], baselines=[], margin=0.0)
    stem = "sub-01/ses-2/func/sub-01_ses-2_task-localizerOfHigherVisualAreas_run-1_res-hr"
    run = RunFacts(
        entities={"subject": "01", "session": "2", "task": "localizerOfHigherVisualAreas"},
        acquired_mm=(6, 6, 3.3),
        made_mm=(3, 3, 3.3),
        displacement=(0.1, 0.7, 0.9),
        described="simulated 6 mm: 3 mm data, k-space cropped",
        maps=f"{stem}_contrast-*_stat-t_desc-sbl_statmap.nii.gz",
        masks=f"{stem}_label-*_desc-sblReliable_mask.nii.gz",
    )
    said = {**verdict.to_json(), "status": "more accurate"}
    return overview_html(said, [*rows, *verdict.rows], {"bold_t1w_poor": True}, run)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    maps = {
        (contrast, smoothing): {
            "raw": made((10, 12, 8), COARSE, 3),
            "sbl": made((20, 24, 8), FINE, 3 + shift),
        }
        for shift, contrast in enumerate(("all", "faces"))
        for smoothing in ("none", "5 mm")
    }
    x, y, z = np.indices((20, 24, 8))
    below = Volume((10.0 * x + 20 * y + 30 * z), FINE)
    files = {"all|none|raw": "sub-01/func/all_raw.nii.gz"}
    mni = np.add(mni_nodes((20, 24, 8), FINE), [10, 0, -5])
    viewer = viewer_html(maps, below, below.like(np.ones((20, 24, 8))), files=files, mni=mni)
    row = {
        "space": "MNI",
        "x": "12",
        "y": "24",
        "z": "9",
        "scanner_x": "12",
        "scanner_y": "24",
        "scanner_z": "9",
    }
    row |= {
        "cluster": "1",
        "series": "sbl",
        "contrast": "faces",
        "fwhm_mm": "5",
        "statistic": "z",
        "peak": "9",
        "volume_mm3": "30",
    }
    clusters = clusters_html(pd.DataFrame([row | {"label": "n/a", "labels": "n/a"}]), "sbl")
    figures = [
        _Reportlet(content=f"figure {c} {s}", choices={"contrast": c, "smoothing": s})
        for c in ("all", "faces")
        for s in ("not smoothed", "smoothed")
    ]
    sections = [
        _Section(
            name="maps",
            title="Maps",
            blocks=[
                _Strip(
                    name="maps-0",
                    run="task tap, run 1",
                    panels=[_Reportlet(content=viewer + clusters)],
                )
            ],
        ),
        _Section(
            name="activation",
            title="Activation",
            blocks=[_Strip(name="a-0", panels=figures)],
            folded=True,
        ),
        _Section(
            name="errors",
            title="Errors",
            blocks=[_Strip(name="e-0", panels=[_Reportlet(content=NONE)])],
            folded=True,
        ),
    ]
    tables = [
        (
            name,
            table(
                name,
                ["series", *map(str, range(40))],
                [[f"s{k}", *["0.5"] * 40] for k in range(60)],
            ),
        )
        for name in ("first", "second")
    ]
    note = messages_html("note", "/" + "a-long-path-without-a-space/" * 5)
    facts = [
        _Reportlet(
            content=note
            + facts_html({"A rather long name of what is measured in the whole brain (mm)": "1.5"})
        )
    ]
    sections.append(
        _Section(
            name="tables",
            title="Tables",
            folded=True,
            blocks=[
                _Strip(name="t-0", panels=facts, run="task tap, run 1"),
                _Strip(
                    name="t-1", panels=[_Reportlet(content="one")], tab="One", subtitle="The first"
                ),
                _Strip(
                    name="t-2",
                    panels=[_Reportlet(content=picked(tables))],
                    tab="Two",
                    tables=["sub-01/func/x.tsv"],
                ),
            ],
        )
    )
    folder = tmp_path_factory.mktemp("page")
    drawn = []
    for number, word in enumerate(("drawn", "&lt;drawn&gt;")):
        file = folder / f"sub-01_desc-{number}_bold.svg"
        # shorter as text, and as base64
        more = "<g/>" * 100 if number else "<path d='M" + "1,1 " * 400 + "'/>"
        file.write_text(
            f"<svg xmlns='{SVG[1:-1]}' viewBox='0 0 200 100'><text>{word}</text>{more}</svg>"
        )
        caption = "" if number else "Größe < 1 % of one."
        drawn.append(
            _Reportlet(
                content=_embedded(archived(file), static=True, alt="A figure"), caption=caption
            )
        )
    sections.append(
        _Section(
            name="drawn",
            title="Drawn",
            blocks=[_Strip(name="d-0", panels=drawn, caption="Of both.")],
        )
    )
    target = folder / "sub-01.html"
    write_page(target, title="bids-sr: sub-01", sections=sections)
    return target


@pytest.fixture(scope="module")
def browser():
    with browsers.sync_playwright() as tool:
        started = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def shown(page, browser):
    """The page in a browser without a network; trouble on the console fails the test."""
    said: list[str] = []
    context = browser.new_context(viewport={"width": 1300, "height": 800}, offline=True)
    tab = context.new_page()
    tab.on(
        "console", lambda message: said.append(message.text) if message.type == "error" else None
    )
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto(page.as_uri())
    tab.wait_for_selector("[data-viewer][data-ready=yes]")
    yield tab
    context.close()
    assert not said


def facts(tab) -> dict[str, str]:
    return tab.evaluate("({...document.querySelector('[data-viewer]').dataset})")


def test_a_click_moves_all_planes(shown):
    before, first = shown.evaluate(PLANES), facts(shown)["at"]
    box = shown.locator("[data-viewer] canvas").bounding_box()
    shown.mouse.click(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.4)
    after = shown.evaluate(PLANES)
    assert facts(shown)["at"] != first
    assert all(one != other for one, other in zip(before, after, strict=True))


def test_the_crosshair_goes_where_the_click_was(shown):
    """In the first plane left is left: a click further right is a larger x, further up a larger y;
    z stays.
    """
    box = shown.locator("[data-viewer] canvas").bounding_box()
    places = []
    for right, up in ((0.1, 0.4), (0.2, 0.4), (0.2, 0.6)):
        shown.mouse.click(box["x"] + box["width"] * right, box["y"] + box["height"] * (1 - up))
        places.append([int(value) for value in facts(shown)["at"].split(",")])
    assert places[1][0] > places[0][0]
    assert places[1][1:] == places[0][1:]
    assert places[2][1] > places[1][1]


def test_keys_move_the_crosshair(shown):
    shown.locator("[data-viewer] canvas").focus()
    places = [[int(value) for value in facts(shown)["at"].split(",")]]
    for key in ("ArrowRight", "ArrowUp", "PageUp"):
        shown.keyboard.press(key)
        places.append([int(value) for value in facts(shown)["at"].split(",")])
    moved = [[b - a for a, b in zip(one, other, strict=True)] for one, other in pairwise(places)]
    # a voxel each; the readout is in whole millimeters
    assert np.abs(np.subtract(moved, 3 * np.eye(3))).max() <= 1


def test_series_contrast_and_smoothing_are_switched_in_place(shown):
    at, before = facts(shown)["at"], shown.evaluate(PLANES)
    shown.get_by_role("button", name="sbl", exact=True).click()
    shown.wait_for_selector("[data-viewer][data-series=sbl]")
    assert (
        shown.get_by_role("button", name="sbl", exact=True).get_attribute("aria-pressed") == "true"
    )
    assert shown.evaluate(PLANES) != before
    assert facts(shown)["at"] == at
    shown.locator("[data-viewer] select").nth(0).select_option("faces")
    shown.locator("[data-viewer] select").nth(1).select_option("5 mm")
    shown.wait_for_selector("[data-viewer][data-contrast=faces][data-smoothing='5 mm']")
    assert "sbl, faces, smoothed by 5 mm" in shown.locator(".readout").inner_text()


def test_the_value_at_the_crosshair_is_that_of_the_map(shown):
    # it begins at the peak of the acquired map
    assert "t 9.0" in shown.locator(".readout").inner_text()


def test_blink_switches_between_the_last_two_series(shown):
    shown.get_by_role("button", name="sbl", exact=True).click()
    shown.wait_for_selector("[data-viewer][data-series=sbl]")
    shown.get_by_role("button", name="Blink").click()
    assert shown.wait_for_selector("[data-viewer][data-series=raw]", timeout=3000)
    assert shown.wait_for_selector("[data-viewer][data-series=sbl]", timeout=3000)


def test_the_threshold_hides_what_is_below_it(shown):
    before = shown.evaluate(PLANES)
    slider = shown.locator("[data-viewer] input[type=range]")
    slider.fill("9.5")
    shown.wait_for_selector("[data-viewer][data-threshold='9.5']")
    assert shown.evaluate(PLANES) != before
    assert shown.locator("[data-viewer] output").inner_text() == "9.5"


def test_a_preview_is_saved_under_that_name_with_the_whole_map_beside(shown, tmp_path):
    import nibabel as nib

    with shown.expect_download() as waiting:
        shown.get_by_role("button", name="Save thresholded preview").click()
    target = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(target)
    assert nib.load(target).shape == (10, 12, 8)
    assert target.name == "sub-01-Task-tap-run-1_all_raw_none_t_thresholded2.5-preview.nii.gz"
    assert b"preview" in nib.load(target).header["descrip"].item()
    link = shown.locator("[data-viewer] .whole a")
    assert (link.inner_text(), link.get_attribute("href")) == (
        "all_raw.nii.gz",
        "sub-01/func/all_raw.nii.gz",
    )


def test_scanner_and_mni_coordinates_are_named(shown):
    x, y, z = facts(shown)["at"].split(",")
    assert f"scanner x {x}, y {y}, z {z} mm" in shown.locator(".readout").inner_text().replace(
        "−", "-"
    )
    assert f"MNI x {int(x) + 10}, y {y}, z {int(z) - 5} mm" in shown.locator(
        ".readout"
    ).inner_text().replace("−", "-")


def test_the_wheel_scrolls_the_slices_of_a_plane(shown):
    box = shown.locator("[data-viewer] canvas").bounding_box()
    shown.mouse.move(box["x"] + box["width"] * 0.15, box["y"] + box["height"] * 0.5)
    before, top = facts(shown)["at"].split(","), shown.evaluate("scrollY")
    shown.mouse.wheel(0, -120)
    shown.wait_for_function(
        "at => document.querySelector('[data-viewer]').dataset.at !== at", arg=",".join(before)
    )
    after = facts(shown)["at"].split(",")
    # of the axial plane alone: a slice up
    assert (after[:2], int(after[2]) - int(before[2])) == (before[:2], 3)
    assert shown.evaluate("scrollY") == top


def test_a_peak_of_the_table_moves_the_crosshair(shown):
    shown.get_by_role("button", name="12, 24, 9").click()
    shown.wait_for_selector(
        "[data-viewer][data-series=sbl][data-contrast=faces][data-smoothing='5 mm']"
    )
    assert facts(shown)["at"] == "12,24,9"


def test_the_color_bar_stands_beside_the_planes(shown):
    """At the right of the canvas: the last color at the top, the first below, gray between the
    thresholds.
    """
    picked = shown.evaluate("""() => {
          const canvas = document.querySelector("[data-viewer] canvas"), ratio = devicePixelRatio;
          const context = canvas.getContext("2d");
          const x = canvas.width - 46 * ratio;
          const one = (y) => [...context.getImageData(x, y, 1, 1).data.slice(0, 3)];
          const tall = Math.min(canvas.height - 36 * ratio, 240 * ratio);
          return [23 * ratio, 22 * ratio + tall / 2, 21 * ratio + tall].map(one);
        }""")
    wanted = [MAP_COLORS[-1], "#444444", MAP_COLORS[0]]
    for color, name in zip(picked, wanted, strict=True):
        assert np.abs(np.subtract(color, [int(name[k : k + 2], 16) for k in (1, 3, 5)])).max() < 25


def saved(shown, button, folder) -> str:
    with shown.expect_download() as waiting:
        button.click()
    target = folder / waiting.value.suggested_filename
    waiting.value.save_as(target)
    root = ElementTree.parse(target).getroot()
    assert root.tag == f"{SVG}svg"
    return " ".join(" ".join(root.itertext()).split())


def test_a_figure_is_saved_as_one_drawing_with_its_caption(shown, tmp_path):
    shown.get_by_role("button", name="Expand all").click()
    for number, (caption, word) in enumerate(
        (("Größe < 1 % of one.", "drawn"), ("Of both.", "<drawn>"))
    ):
        text = saved(shown, shown.locator("#drawn .save").nth(number), tmp_path)
        assert text.startswith(word)
        assert "bids-sr: sub-01. sub-01_desc-" in text
        assert text.endswith(caption)
    figure = ElementTree.parse(tmp_path / "sub-01_desc-0_bold.svg").getroot()
    inner = figure.find(f"{SVG}svg")
    assert inner is not None
    assert inner.get("viewBox") == "0 0 200 100"
    assert float(figure.get("height")) > 100 == float(inner.get("height"))


def test_the_view_is_saved_with_what_it_shows(shown, tmp_path):
    text = saved(shown, shown.get_by_role("button", name="Save this view"), tmp_path)
    assert "bids-sr: sub-01, Task tap, run 1. acquired, all, unsmoothed" in text
    assert [file.name for file in tmp_path.iterdir()] == [
        "sub-01-Task-tap-run-1_all_raw_none_t.svg"
    ]
    assert "shown where |t| >" in text


def test_one_figure_of_several_is_chosen_and_all_are_printed(shown):
    shown.evaluate("location.hash = '#activation'")
    shown.wait_for_selector("#activation > details[open]")
    figures = shown.locator("#activation figure")
    assert [figures.nth(k).is_visible() for k in range(4)] == [True, False, False, False]
    shown.get_by_role("button", name="faces", exact=True).click()
    shown.get_by_role("button", name="smoothed", exact=True).click()
    assert [figures.nth(k).is_visible() for k in range(4)] == [False, False, False, True]
    shown.emulate_media(media="print")
    assert all(figures.nth(k).is_visible() for k in range(4))


def test_one_tab_of_several_is_shown_and_a_link_opens_its_own(shown):
    shown.get_by_role("button", name="Expand all").click()
    parts = {name: shown.locator(f"#{name}") for name in ("t-0", "t-1", "t-2")}
    assert [each.is_visible() for each in parts.values()] == [True, True, False]
    shown.get_by_role("button", name="Two", exact=True).click()
    assert [each.is_visible() for each in parts.values()] == [True, False, True]
    shown.evaluate("location.hash = '#t-1'")
    shown.wait_for_selector("#t-1:visible")
    shown.emulate_media(media="print")
    assert all(each.is_visible() for each in parts.values())


def test_a_table_lies_in_a_box_beside_its_file_and_is_printed_whole(shown):
    shown.get_by_role("button", name="Expand all").click()
    shown.get_by_role("button", name="Two", exact=True).click()
    boxes = shown.locator("#t-2 .wide")
    assert [boxes.nth(k).is_visible() for k in range(2)] == [True, False]
    shown.locator("#t-2 select").select_option("second")
    assert [boxes.nth(k).is_visible() for k in range(2)] == [False, True]
    assert (
        boxes.nth(1).bounding_box()["height"]
        < 350
        < shown.locator("#t-2 table").nth(1).bounding_box()["height"]
    )
    assert shown.locator("#t-2 a").get_attribute("href") == "sub-01/func/x.tsv"
    shown.emulate_media(media="print")
    assert all(boxes.nth(k).bounding_box()["height"] > 1000 for k in range(2))


@pytest.mark.parametrize("width", [1300, 400])
def test_nothing_of_the_first_screen_overflows(browser, tmp_path, width):
    section = _Section(
        name="overview",
        title="Overview",
        blocks=[_Strip(name="o-0", panels=[_Reportlet(content=overview())])],
    )
    write_page(tmp_path / "page.html", title="bids-sr: sub-01", sections=[section])
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
    tab = context.new_page()
    tab.goto((tmp_path / "page.html").as_uri())
    assert tab.locator("#overview .caution").is_visible()
    assert tab.locator("#overview .next code").count() == 2
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    wider = tab.evaluate("""() => [...document.querySelectorAll("#overview *")]
        .filter((each) => getComputedStyle(each).position !== "absolute")
        .filter((each) => each.getBoundingClientRect().right > innerWidth
            || (each.clientWidth && each.scrollWidth > each.clientWidth + 1))
        .map((each) => each.outerHTML.slice(0, 80))""")
    context.close()
    assert wider == []


def test_a_phone_scrolls_down_alone_and_has_a_menu(page, browser):
    context = browser.new_context(viewport={"width": 390, "height": 844}, offline=True)
    tab = context.new_page()
    tab.goto(page.as_uri())
    tab.get_by_role("button", name="Expand all").click()
    tab.locator("[data-viewer]").scroll_into_view_if_needed()
    tab.wait_for_selector("[data-viewer][data-ready=yes]")
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    clip = "getComputedStyle(document.querySelector('h1')).clipPath"
    assert tab.locator("nav .brand").is_visible()
    # the bar has the title already, and would cover this one
    assert tab.evaluate(clip) == "inset(50%)"
    tab.emulate_media(media="print")
    assert tab.evaluate(clip) == "none"
    tab.emulate_media(media="screen")
    link = tab.locator("nav").get_by_role("link", name="Tables", exact=True)
    assert not link.is_visible()
    tab.get_by_role("button", name="Sections").click()
    link.click()
    assert not link.is_visible()
    context.close()


def test_what_is_folded_opens_for_print_and_by_the_button(shown):
    assert not shown.locator("#errors p").is_visible()
    shown.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert shown.locator("#errors p").is_visible()
    shown.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not shown.locator("#errors p").is_visible()
    shown.get_by_role("button", name="Expand all").click()
    assert shown.locator("#errors p").is_visible()


@pytest.mark.skipif("BIDS_SR_AXE" not in os.environ, reason="BIDS_SR_AXE names no axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_hinders_access(page, browser, scheme):
    address = Path(os.environ.get("BIDS_SR_PAGE", page)).resolve().as_uri()
    context = browser.new_context(
        viewport={"width": 1300, "height": 800}, color_scheme=scheme, offline=True
    )
    tab = context.new_page()
    tab.goto(address)
    tab.get_by_role("button", name="Expand all").click()
    tab.evaluate(Path(os.environ["BIDS_SR_AXE"]).read_text(encoding="utf-8"))
    found = tab.evaluate("axe.run(document, {resultTypes: ['violations'], iframes: false})")[
        "violations"
    ]
    context.close()
    assert [
        (each["id"], each["nodes"][0]["html"])
        for each in found
        if each["impact"] in ("serious", "critical")
    ] == []


def test_the_first_key_reaches_the_skip_link(shown):
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.className") == "skip"


def test_a_browser_that_cannot_unpack_maps_shows_the_text_instead(page, browser):
    context = browser.new_context(offline=True)
    tab = context.new_page()
    tab.add_init_script("delete window.DecompressionStream")
    tab.goto(page.as_uri())
    tab.wait_for_selector("[data-viewer] .failed")
    assert "see the slices in the Activation section" in tab.locator("[data-viewer]").inner_text()
    assert tab.locator("[data-viewer] canvas").count() == 0
    context.close()


@pytest.mark.parametrize(("scheme", "paper", "text"), [("light", 255, 31), ("dark", 20, 228)])
def test_a_figure_has_the_paper_and_the_ink_of_the_page(browser, tmp_path, scheme, paper, text):
    """In a dark page every figure was a white box."""
    with canvas.style():
        figure = canvas.new_figure(2.0, 1.0)
        figure.text(0.5, 0.5, "\u2588" * 9, ha="center", va="center")  # a bar of ink
        figure.add_axes((0.1, 0.8, 0.1, 0.1)).plot([0, 1], color=canvas.BLUE)
    file = save_svg(figure, tmp_path / "drawn.svg")
    section = _Section(
        name="drawn",
        title="Drawn",
        blocks=[
            _Strip(
                name="d-0",
                panels=[_Reportlet(content=_embedded(archived(file), static=True, alt=""))],
            )
        ],
    )
    write_page(tmp_path / "page.html", title="page", sections=[section])
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    seen = Image.open(io.BytesIO(page.locator("#drawn img").screenshot())).convert("RGB")
    context.close()
    corner, middle = (
        seen.getpixel((5, seen.height - 5)),
        seen.getpixel((seen.width // 2, seen.height // 2)),
    )
    assert (corner[0], middle[0]) == (paper, text)
