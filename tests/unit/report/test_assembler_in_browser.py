"""A participant's page in a browser without a network: viewer, tabs, folding, files, print.

Skipped without Chromium. `BIDS_SR_AXE=FILE` (``axe.min.js`` of the npm package axe-core) also
checks the accessibility of the page, or of the page `BIDS_SR_PAGE`.
"""

import io
import os
import shutil
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from data.rows import judge_rows, make_measured_rows, make_tested_rows
from figure_helpers import noted
from markupsafe import Markup
from PIL import Image

from bids_sr.io.volume import Volume
from bids_sr.report.assembler import write_subject_page
from bids_sr.report.facts import facts_html, messages_html
from bids_sr.report.figures import canvas
from bids_sr.report.figures.map_viewer import make_mni_nodes, viewer_html
from bids_sr.report.figures.maps import MAP_COLORS
from bids_sr.report.figures.result_picture import (
    PanelGroup,
    PicturePanel,
    choose_square,
    render_picture,
)
from bids_sr.report.figures.svg_files import save_svg
from bids_sr.report.first_screen import (
    UseRow,
    make_first_screen,
    make_view,
    render_first_screen,
)
from bids_sr.report.markup import render, render_selector, table
from bids_sr.report.region_table import regions_html
from bids_sr.workflows.figure_declarations import figure_declarations

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
browsers = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
FINE, COARSE = np.diag([3.0, 3, 3, 1]), np.diag([6.0, 6, 3, 1])
SVG = "{http://www.w3.org/2000/svg}"
ENTITIES = {"subject": "01", "task": "tap", "run": "1"}
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
BAR_COLORS = """() => {
  const canvas = document.querySelector("[data-viewer] canvas"), ratio = devicePixelRatio;
  const context = canvas.getContext("2d");
  const x = canvas.width - 46 * ratio;
  const one = (y) => [...context.getImageData(x, y, 1, 1).data.slice(0, 3)];
  const tall = Math.min(canvas.height - 36 * ratio, 240 * ratio);
  return [23 * ratio, 22 * ratio + tall / 2, 21 * ratio + tall].map(one);
}"""
IN_SIGHT = """document.querySelector("[data-viewer]")
  .scrollIntoView({block: "center", behavior: "instant"})"""
OVERFLOWING = """() => [...document.querySelectorAll("#overview *")]
  .filter((each) => getComputedStyle(each).position !== "absolute")
  .filter((each) => each.getBoundingClientRect().right > innerWidth
      || (each.clientWidth && each.scrollWidth > each.clientWidth + 1))
  .map((each) => each.outerHTML.slice(0, 80))"""


def map_with_peaks(shape, affine, peak) -> Volume:
    data = np.zeros(shape)
    data[tuple(np.array(shape) * peak // 10)] = 9.0
    data[tuple(np.array(shape) * 6 // 10)] = -4.0
    return Volume(data, affine)


def make_viewer() -> Markup:
    """Return a viewer of two series, contrasts and smoothings, and a table with one peak."""
    maps = {
        (contrast, smoothing): {
            "acquired": map_with_peaks((10, 12, 8), COARSE, 3),
            "sbl": map_with_peaks((20, 24, 8), FINE, 3 + shift),
        }
        for shift, contrast in enumerate(("all", "faces"))
        for smoothing in ("none", "5 mm")
    }
    x, y, z = np.indices((20, 24, 8))
    background = Volume((10.0 * x + 20 * y + 30 * z), FINE)
    files = {"all|none|effect|acquired": "sub-01/func/all_acquired.nii.gz"}
    mni = np.add(make_mni_nodes((20, 24, 8), FINE), [10, 0, -5])
    brain = background.like(np.ones((20, 24, 8)))
    mask = background.like(np.zeros((20, 24, 8)))
    mask.data[5:9, 6:10, 2] = 1
    masks = {("faces", "none"): mask}
    effects = {
        key: {name: image.like(-image.data / 3) for name, image in by_series.items()}
        for key, by_series in maps.items()
    }
    return viewer_html(maps, background, brain, effects=effects, masks=masks, files=files, mni=mni)


def make_clusters() -> Markup:
    """Return a table with one peak, in a map that the viewer does not show first."""
    position = dict(zip("xyz", (12.0, 24.0, 9.0), strict=True))
    peak = position | {f"scanner_{axis}": mm for axis, mm in position.items()}
    peak |= {"region": "cluster 1", "origin": "cluster", "series": "sbl", "contrast": "faces"}
    numbers = ("effect", "lower", "upper", "noise_dof", "acquired", "measured", "large_share")
    peak |= {"peak": 9.0, "fwhm_mm": 5.0, "input_fwhm_mm": 0.0, "voxels": 3, "voxels_given": 3}
    return regions_html(pd.DataFrame([peak | dict.fromkeys(numbers, 1.0)]), ["sbl"], {})


def draw_first_screen() -> Markup:
    """Return a first screen with a picture, long file names, many contrasts and an alert."""
    values = {"all": 0.35, **{f"condition{k}MinusOthersOfTheTask": -0.1 * k for k in range(1, 7)}}
    estimates = {name: ((0.4, 0.1), (value, 0.01)) for name, value in values.items()}
    rows = [*make_tested_rows(estimates), *make_measured_rows(estimates)]
    result = judge_rows(rows, ["sbl"], (), margin=0.0).evidence.result
    stem = "sub-01/ses-2/func/sub-01_ses-2_task-localizerOfHigherVisualAreas_run-1_res-hr"
    use = [
        UseRow(label, f"{stem}_space-boldref_contrast-all_stat-{stat}_desc-sbl_statmap.nii.gz")
        for label, stat in (("Map", "effect"), ("Total SD", "sdTotal"))
    ]
    effect = map_with_peaks((20, 24, 8), FINE, 3)
    brain = np.ones((20, 24, 8), dtype=bool)
    panels = [PicturePanel(title=name, note="3 mm", image=effect, brain=brain) for name in "ab"]
    picture = render_picture(
        [PanelGroup("Effect of all", "", panels)],
        choose_square(effect, brain),
        effect,
        limit=4.0,
        unit="% of signal",
        subject="effect of all",
    )
    return render_first_screen(
        make_first_screen(
            title="sub-01 · session 2, task localizerOfHigherVisualAreas",
            facts="136 volumes · 6 × 6 × 3.3 mm → 3 × 3 × 3.3 mm",
            result=result,
            views=[
                make_view(result.select(name), picture=picture, use=use, contrast=name)
                for name in ("all", "faces")
            ],
            alerts=["The registration of the BOLD and T1w images appears to be poor."],
        )
    )


def make_long_tables() -> Markup:
    """Return two tables that are larger than the screen, with a selector, and a long path."""
    heads, cells = ["series", *map(str, range(40))], ["0.5"] * 40
    tables = [
        (name, table(name, heads, [[f"s{k}", *cells] for k in range(60)]))
        for name in ("first", "second")
    ]
    note = messages_html("note", ["/" + "a-long-path-without-a-space/" * 5])
    facts = facts_html({"A rather long name of what is measured in the whole brain (mm)": "1.5"})
    return note + facts + render_selector(tables)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """Return the page of a participant with one run, as it is written from its figures."""
    root = tmp_path_factory.mktemp("page")

    def put(figure: str, content: str, suffix: str, label: str = "", **note) -> None:
        path = (
            root / "sub-01/figures" / f"sub-01_task-tap_run-1_desc-{figure}{label}_bold.{suffix}"
        )
        noted(path, content, figure, entities=ENTITIES, **note)

    def draw(word: str, padding: str = "") -> str:
        return f"<svg xmlns='{SVG[1:-1]}' viewBox='0 0 200 100'><text>{word}</text>{padding}</svg>"

    put("overview", draw_first_screen(), "html")
    put("viewer", make_viewer(), "html")
    put("regions", make_clusters(), "html")
    for contrast in ("all", "faces"):
        for smoothing in ("not smoothed", "smoothed"):
            label = f"{contrast}{smoothing.replace(' ', '')}"
            shown = {"contrast": contrast, "smoothing": smoothing}
            put("correlation", draw(label), "svg", label, **shown)
    put("agreement", make_long_tables(), "html")
    (root / "sub-01/func").mkdir()
    (root / "sub-01/func/sub-01_task-tap_run-1_desc-evaluation_metrics.tsv").write_text("series\n")
    # The first figure is shorter as text, the second as base64.
    put(
        "motion", draw("drawn", "<path d='M" + "1,1 " * 400 + "'/>"), "svg", caption="Größe < 1 %."
    )
    put("carpet", draw("&lt;drawn&gt;", "<g/>" * 100), "svg", caption="Of both.")
    with canvas.style():
        figure = canvas.new_figure(2.0, 1.0)
        figure.text(0.5, 0.5, "\u2588" * 9, ha="center", va="center")  # a bar of ink
        figure.add_axes((0.1, 0.8, 0.1, 0.1)).plot([0, 1], color=canvas.BLUE)
    put("beyond", save_svg(figure, root / "drawn.svg").read_text(encoding="utf-8"), "svg")
    return write_subject_page(
        root,
        "01",
        declarations=figure_declarations(),
        custom={"errors": "<p>none</p>", "results": render("results", "sbl explained 54 %.")},
    )


@pytest.fixture(scope="module")
def browser():
    with browsers.sync_playwright() as tool:
        chromium = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextmanager
def opened(browser, page, width=1300, script="", **options):
    """Open a page without a network; an error on the console fails the test."""
    console_errors: list[str] = []
    size = {"width": width, "height": 800}
    context = browser.new_context(viewport=size, offline=True, **options)
    context.set_default_timeout(8000)
    tab = context.new_page()
    tab.on(
        "console",
        lambda message: console_errors.append(message.text) if message.type == "error" else None,
    )
    tab.on("pageerror", lambda error: console_errors.append(str(error)))
    if script:
        tab.add_init_script(script)
    tab.goto(page.as_uri())
    tab.evaluate("document.querySelector('#regions > details').open = true")
    tab.evaluate("document.querySelector('#maps > details').open = true")
    tab.evaluate(IN_SIGHT)  # maps are decoded when the reader arrives
    if not script:
        tab.wait_for_selector("[data-viewer][data-ready=yes]")
        tab.evaluate(IN_SIGHT)
    yield tab
    context.close()
    assert not console_errors


@pytest.fixture
def tab(page, browser):
    with opened(browser, page) as tab:
        yield tab


def button(tab, name: str):
    return tab.get_by_role("button", name=name, exact=True)


def read_viewer(tab) -> dict[str, str]:
    return tab.evaluate("({...document.querySelector('[data-viewer]').dataset})")


def read_position(tab) -> list[int]:
    return [int(value) for value in read_viewer(tab)["at"].split(",")]


def read_out(tab) -> str:
    return tab.locator(".readout").inner_text().replace("−", "-")


def test_click_keys_wheel_and_peaks_move_the_crosshair(tab):
    # The crosshair starts at the peak of the acquired map.
    assert "effect -3.00 %, t 9.0" in read_out(tab)
    x, y, z = read_position(tab)
    assert f"scanner x {x}, y {y}, z {z} mm" in read_out(tab)
    assert f"MNI x {x + 10}, y {y}, z {z - 5} mm" in read_out(tab)
    first_planes = tab.evaluate(PLANES)
    places = []
    for right, up in ((0.1, 0.4), (0.2, 0.4), (0.2, 0.6)):
        box = tab.locator("[data-viewer] canvas").bounding_box()
        tab.mouse.click(box["x"] + box["width"] * right, box["y"] + box["height"] * (1 - up))
        places.append(read_position(tab))
    # In the first plane left is left: a click further right increases x, further up y.
    assert places[1][0] > places[0][0]
    assert places[1][1:] == places[0][1:]
    assert places[2][1] > places[1][1]
    planes = tab.evaluate(PLANES)
    assert all(before != after for before, after in zip(first_planes, planes, strict=True))

    tab.locator("[data-viewer] canvas").focus()
    places = [read_position(tab)]
    for key in ("ArrowRight", "ArrowUp", "PageUp"):
        tab.keyboard.press(key)
        places.append(read_position(tab))
    steps = [np.subtract(after, before) for before, after in pairwise(places)]
    # Each key moves by one voxel; the readout is in whole millimeters.
    assert np.abs(np.subtract(steps, 3 * np.eye(3))).max() <= 1

    tab.mouse.move(box["x"] + box["width"] * 0.15, box["y"] + box["height"] * 0.5)
    before, top = read_position(tab), tab.evaluate("scrollY")
    tab.mouse.wheel(0, -120)
    tab.wait_for_function(
        "at => document.querySelector('[data-viewer]').dataset.at !== at",
        arg=",".join(map(str, before)),
    )
    after = read_position(tab)
    # Only the axial plane moves, by one slice up, and the page does not scroll.
    assert (after[:2], after[2] - before[2]) == (before[:2], 3)
    assert tab.evaluate("scrollY") == top

    button(tab, "12, 24, 9").click()
    tab.wait_for_selector(
        "[data-viewer][data-series=sbl][data-contrast=faces][data-smoothing='5 mm']"
    )
    assert read_position(tab) == [12, 24, 9]


def test_the_mask_of_a_contrast_is_outlined(tab):
    """White pixels, which neither the background nor the maps have, appear with the mask."""
    count = """() => {
      const canvas = document.querySelector("[data-viewer] canvas");
      const [width, height] = [canvas.width * 0.4, canvas.height];
      const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
      let n = 0;
      for (let k = 0; k < data.length; k += 4) {
        n += Math.min(data[k], data[k + 1], data[k + 2]) > 250;
      }
      return n;
    }"""
    tab.locator("[data-viewer] canvas").focus()
    while read_position(tab)[2] > 6:
        tab.keyboard.press("PageDown")
    without = tab.evaluate(count)
    tab.locator("[data-viewer] select").first.select_option("faces")
    tab.wait_for_selector("[data-viewer][data-contrast=faces]")
    assert tab.evaluate(count) > without + 50


def test_series_contrast_smoothing_and_threshold_are_switched_in_place(tab):
    at, before = read_position(tab), tab.evaluate(PLANES)
    button(tab, "sbl").click()
    tab.wait_for_selector("[data-viewer][data-series=sbl]")
    assert button(tab, "sbl").get_attribute("aria-pressed") == "true"
    assert tab.evaluate(PLANES) != before
    assert read_position(tab) == at
    tab.get_by_role("button", name="Blink").click()
    for series in ("acquired", "sbl"):
        assert tab.wait_for_selector(f"[data-viewer][data-series={series}]", timeout=3000)
    tab.get_by_role("button", name="Blink").click()
    selects = tab.locator("[data-viewer] select")
    selects.nth(0).select_option("faces")
    selects.nth(1).select_option("5 mm")
    tab.wait_for_selector("[data-viewer][data-contrast=faces][data-smoothing='5 mm']")
    assert "faces, smoothed by 5 mm" in read_out(tab)

    before = tab.evaluate(PLANES)
    selects.nth(2).select_option("t")
    tab.wait_for_selector("[data-viewer][data-statistic=t]")
    assert tab.evaluate(PLANES) != before
    # the last color at the top, the first at the bottom, gray between the thresholds
    colors = [MAP_COLORS[-1], "#444444", MAP_COLORS[0]]
    for pixel, name in zip(tab.evaluate(BAR_COLORS), colors, strict=True):
        color = [int(name[k : k + 2], 16) for k in (1, 3, 5)]
        assert np.abs(np.subtract(pixel, color)).max() < 25

    before = tab.evaluate(PLANES)
    tab.locator("[data-viewer] input[type=range]").fill("9.5")
    tab.wait_for_selector("[data-viewer][data-threshold='9.5']")
    assert tab.evaluate(PLANES) != before
    assert tab.locator("[data-viewer] output").inner_text() == "9.5"


def save(tab, clicked, folder: Path) -> Path:
    """Click on a button and return the file that is downloaded."""
    with tab.expect_download() as waiting:
        clicked.click()
    target = folder / waiting.value.suggested_filename
    waiting.value.save_as(target)
    return target


def read_svg(path: Path) -> str:
    root = ElementTree.parse(path).getroot()
    assert root.tag == f"{SVG}svg"
    return " ".join(" ".join(root.itertext()).split())


def test_views_maps_and_figures_are_saved_with_names_that_describe_them(tab, tmp_path):
    stem = "sub-01-Task-tap-run-1_all_acquired_none_effect"
    preview = save(tab, tab.get_by_role("button", name="Save thresholded preview"), tmp_path)
    assert preview.name == f"{stem}_thresholded2.5-preview.nii.gz"
    assert nib.load(preview).shape == (10, 12, 8)
    assert b"preview" in nib.load(preview).header["descrip"].item()
    link = tab.locator("[data-viewer] .whole a")
    assert link.inner_text() == "all_acquired.nii.gz"
    assert link.get_attribute("href") == "sub-01/func/all_acquired.nii.gz"

    view = save(tab, tab.get_by_role("button", name="Save this view"), tmp_path)
    assert view.name == f"{stem}.svg"
    assert "Task tap, run 1. acquired, all, unsmoothed" in read_svg(view)
    assert "shown where |t| >" in read_svg(view)

    tab.get_by_role("button", name="Expand all").click()
    for figure, caption, word in (
        ("motion", "Größe < 1 %.", "drawn"),
        ("carpet", "Of both.", "<drawn>"),
    ):
        panel = tab.locator("#motion figure", has=tab.locator(f"img[alt^='{figure}' i], .save"))
        panel = panel.filter(has_text=caption)
        if not panel.first.is_visible():
            button(tab, "Carpet plot").click()
        path = save(tab, panel.locator(".save").first, tmp_path)
        text = read_svg(path)
        assert path.name == f"sub-01_task-tap_run-1_desc-{figure}_bold.svg"
        assert text.startswith(word)
        assert f"bids-sr: sub-01. {path.stem}" in text
        assert text.endswith(caption)
    root = ElementTree.parse(path).getroot()
    inner = root.find(f"{SVG}svg")
    assert inner.get("viewBox") == "0 0 200 100"
    assert float(root.get("height")) > 100 == float(inner.get("height"))


def test_one_choice_sets_the_contrast_of_the_whole_page(tab):
    views = tab.locator("#overview [data-for]:visible")
    figures = tab.locator("#activation figure:visible")
    tab.get_by_role("button", name="Expand all").click()

    def read_contrasts() -> set[str]:
        shown = [view.get_attribute("data-for") for view in views.all()]
        shown += [figure.get_attribute("data-contrast") for figure in figures.all()]
        return {*shown, read_viewer(tab)["contrast"], tab.locator(".line select").input_value()}

    assert read_contrasts() == {"all"}
    tab.locator(".line select").select_option("faces")
    tab.wait_for_selector("[data-viewer][data-contrast=faces]")
    assert read_contrasts() == {"faces"}
    tab.locator("[data-viewer] select").first.select_option("all")
    assert read_contrasts() == {"all"}


def test_one_of_several_figures_tabs_and_tables_is_shown_and_all_are_printed(tab):
    errors = tab.locator("#errors p").first
    assert not errors.is_visible()
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert errors.is_visible()
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not errors.is_visible()

    tab.evaluate("location.hash = '#activation'")
    tab.wait_for_selector("#activation > details[open]")
    figures = tab.locator("#activation figure")
    assert [figures.nth(k).is_visible() for k in range(4)] == [True, False, False, False]
    button(tab, "faces").click()
    button(tab, "smoothed").click()
    assert [figures.nth(k).is_visible() for k in range(4)] == [False, False, False, True]

    tab.get_by_role("button", name="Expand all").click()
    assert errors.is_visible()
    figure, boxes = tab.locator("#evaluation figure"), tab.locator("#evaluation .wide")
    assert [figure.first.is_visible(), boxes.first.is_visible()] == [True, False]
    button(tab, "Agreement").click()
    assert [figure.first.is_visible(), boxes.first.is_visible()] == [False, True]
    tab.locator("#evaluation select").select_option("second")
    assert [boxes.nth(k).is_visible() for k in range(2)] == [False, True]
    content = tab.locator("#evaluation table:visible").last
    assert boxes.nth(1).bounding_box()["height"] < 420 < content.bounding_box()["height"]
    tables = tab.locator("#evaluation a[href$='.tsv']:visible")
    name = "sub-01/func/sub-01_task-tap_run-1_desc-evaluation_metrics.tsv"
    assert tables.last.get_attribute("href") == name

    tab.emulate_media(media="print")
    assert all(figures.nth(k).is_visible() for k in range(4))
    assert figure.first.is_visible()
    assert all(boxes.nth(k).bounding_box()["height"] > 1000 for k in range(2))


@pytest.mark.parametrize("width", [1300, 400])
def test_nothing_on_the_first_screen_overflows(page, browser, width):
    with opened(browser, page, width) as tab:
        assert tab.locator("#overview .warning").is_visible()
        assert tab.locator("#overview .use code").count() == 4
        assert tab.locator("#overview .answers tbody tr").count() == 7
        bottom = "document.querySelector('#overview .columns').getBoundingClientRect().bottom"
        tab.evaluate("scrollTo({top: 0, behavior: 'instant'})")
        assert width < 1000 or tab.evaluate(bottom) < 800, "answers are seen without scrolling"
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert tab.evaluate(OVERFLOWING) == []


def test_a_phone_scrolls_only_vertically(page, browser):
    with opened(browser, page, 390) as tab:
        tab.get_by_role("button", name="Expand all").click()
        assert tab.evaluate("document.documentElement.scrollWidth") == 390


def test_the_results_are_copied_with_one_click(page, browser):
    with opened(browser, page, permissions=["clipboard-read", "clipboard-write"]) as tab:
        tab.evaluate("location.hash = '#results'")
        button(tab, "Copy").click()
        assert tab.evaluate("String(getSelection())").strip() == "sbl explained 54 %."
        assert button(tab, "Copied").is_visible()


def test_a_browser_that_cannot_decompress_maps_shows_a_text_instead(page, browser):
    with opened(browser, page, script="delete window.DecompressionStream") as tab:
        tab.wait_for_selector("[data-viewer] .failed")
        assert "JavaScript" in tab.locator("[data-viewer]").inner_text()
        assert tab.locator("[data-viewer] canvas").count() == 0
        # some versions of the browser start from the part of the page in sight
        tab.evaluate("document.body.tabIndex = -1; document.body.focus()")
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.className") == "skip"


def test_a_figure_has_the_background_and_text_color_of_the_page(page, browser):
    """Check that a figure is not a white box in a dark page."""
    for scheme, paper, ink in (("light", 255, 31), ("dark", 20, 228)):
        with opened(browser, page, color_scheme=scheme) as tab:
            tab.get_by_role("button", name="Expand all").click()
            screenshot = tab.locator("#evaluation img").first.screenshot()
        image = Image.open(io.BytesIO(screenshot)).convert("RGB")
        corner = image.getpixel((5, image.height - 5))
        middle = image.getpixel((image.width // 2, image.height // 2))
        assert (corner[0], middle[0]) == (paper, ink)


@pytest.mark.skipif("BIDS_SR_AXE" not in os.environ, reason="BIDS_SR_AXE names no axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_reports_no_serious_accessibility_problem(page, browser, scheme):
    checked = Path(os.environ.get("BIDS_SR_PAGE", page)).resolve()
    with opened(browser, checked, color_scheme=scheme) as tab:
        tab.get_by_role("button", name="Expand all").click()
        tab.evaluate(Path(os.environ["BIDS_SR_AXE"]).read_text(encoding="utf-8"))
        violations = tab.evaluate(
            "axe.run(document, {resultTypes: ['violations'], iframes: false})"
        )["violations"]
    assert [
        (violation["id"], violation["nodes"][0]["html"])
        for violation in violations
        if violation["impact"] in ("serious", "critical")
    ] == []
