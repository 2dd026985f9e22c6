"""Test the page in a browser without a network: viewer, tabs, folding, print.

Skipped without Chromium. `BIDS_SR_AXE=FILE` (``axe.min.js`` of the npm package axe-core) also
checks the accessibility of the page and of the page `BIDS_SR_PAGE`.
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
from data.rows import judge_rows, make_measured_rows, make_tested_rows
from markupsafe import Markup
from PIL import Image

from bids_sr.figures import canvas
from bids_sr.figures.map_viewer import make_mni_nodes, viewer_html
from bids_sr.figures.maps import MAP_COLORS
from bids_sr.figures.svg_files import save_svg
from bids_sr.io.volume import Volume
from bids_sr.report.assembler import _embed, _PanelGroup, _Reportlet, _Section, write_page
from bids_sr.report.cluster_tables import clusters_html
from bids_sr.report.facts import facts_html, messages_html
from bids_sr.report.markup import render_selector, table
from bids_sr.report.overview import RunFacts, overview_html
from bids_sr.report.stored_figures import StoredFigure

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


def archived_figure(path: Path) -> StoredFigure:
    words = dict.fromkeys(
        ("figure", "section", "contrast", "smoothing", "label", "heading", "caption", "alt"), ""
    )
    return StoredFigure(path=path, entities={"subject": "01"}, **words)


def map_with_peaks(shape, affine, peak) -> Volume:
    data = np.zeros(shape)
    data[tuple(np.array(shape) * peak // 10)] = 9.0
    data[tuple(np.array(shape) * 6 // 10)] = -4.0
    return Volume(data, affine)


def overview() -> Markup:
    """Return a first screen with long file names, many contrasts below 0 and a failed check."""
    values = {"all": 0.35, **{f"condition{k}MinusOthersOfTheTask": -0.1 * k for k in range(1, 7)}}
    estimates = {name: ((0.4, 0.1), (value, 0.01)) for name, value in values.items()}
    rows = [
        *make_tested_rows(estimates),
        *make_measured_rows(estimates),
        *make_measured_rows(estimates, series="srgan"),
    ]
    verdict = judge_rows(rows, ["sbl", "srgan"], (), margin=0.0)
    stem = "sub-01/ses-2/func/sub-01_ses-2_task-localizerOfHigherVisualAreas_run-1_res-hr"
    run = RunFacts(
        entities={"subject": "01", "session": "2", "task": "localizerOfHigherVisualAreas"},
        acquired_mm=(6, 6, 3.3),
        super_resolved_mm=(3, 3, 3.3),
        displacement=(0.1, 0.7, 0.9),
        described="simulated 6 mm: 3 mm data, k-space cropped",
        maps=f"{stem}_space-boldref_contrast-*_stat-t_desc-sbl_statmap.nii.gz",
        masks=f"{stem}_label-*_desc-sblReliable_mask.nii.gz",
    )
    verdict_dict = {**verdict.to_json(), "status": "more accurate"}
    return overview_html(
        verdict_dict, verdict.evidence, [*rows, *verdict.rows], {"bold_t1w_poor": True}, run
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
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
    files = {"all|none|acquired": "sub-01/func/all_acquired.nii.gz"}
    mni = np.add(make_mni_nodes((20, 24, 8), FINE), [10, 0, -5])
    viewer = viewer_html(
        maps, background, background.like(np.ones((20, 24, 8))), files=files, mni=mni
    )
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
                _PanelGroup(
                    name="maps-0",
                    run="task tap, run 1",
                    panels=[_Reportlet(content=viewer + clusters)],
                )
            ],
        ),
        _Section(
            name="activation",
            title="Activation",
            blocks=[_PanelGroup(name="a-0", panels=figures)],
            folded=True,
        ),
        _Section(
            name="errors",
            title="Errors",
            blocks=[_PanelGroup(name="e-0", panels=[_Reportlet(content=NONE)])],
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
                _PanelGroup(name="t-0", panels=facts, run="task tap, run 1"),
                _PanelGroup(
                    name="t-1", panels=[_Reportlet(content="one")], tab="One", subtitle="The first"
                ),
                _PanelGroup(
                    name="t-2",
                    panels=[_Reportlet(content=render_selector(tables))],
                    tab="Two",
                    tables=["sub-01/func/x.tsv"],
                ),
            ],
        )
    )
    folder = tmp_path_factory.mktemp("page")
    figure_panels = []
    for number, word in enumerate(("drawn", "&lt;drawn&gt;")):
        file = folder / f"sub-01_desc-{number}_bold.svg"
        # The first figure is shorter as text, the second as base64.
        padding = "<g/>" * 100 if number else "<path d='M" + "1,1 " * 400 + "'/>"
        file.write_text(
            f"<svg xmlns='{SVG[1:-1]}' viewBox='0 0 200 100'><text>{word}</text>{padding}</svg>"
        )
        caption = "" if number else "Größe < 1 % of one."
        figure_panels.append(
            _Reportlet(
                content=_embed(archived_figure(file), static=True, alt="A figure"),
                caption=caption,
            )
        )
    sections.append(
        _Section(
            name="drawn",
            title="Drawn",
            blocks=[_PanelGroup(name="d-0", panels=figure_panels, caption="Of both.")],
        )
    )
    target = folder / "sub-01.html"
    write_page(target, title="bids-sr: sub-01", sections=sections)
    return target


@pytest.fixture(scope="module")
def browser():
    with browsers.sync_playwright() as tool:
        chromium = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def tab_of_page(page, browser):
    """Open the page in a browser without a network; an error on the console fails the test."""
    console_errors: list[str] = []
    context = browser.new_context(viewport={"width": 1300, "height": 800}, offline=True)
    tab = context.new_page()
    tab.on(
        "console",
        lambda message: console_errors.append(message.text) if message.type == "error" else None,
    )
    tab.on("pageerror", lambda error: console_errors.append(str(error)))
    tab.goto(page.as_uri())
    tab.wait_for_selector("[data-viewer][data-ready=yes]")
    yield tab
    context.close()
    assert not console_errors


def facts(tab) -> dict[str, str]:
    return tab.evaluate("({...document.querySelector('[data-viewer]').dataset})")


def test_a_click_moves_all_planes(tab_of_page):
    before, first = tab_of_page.evaluate(PLANES), facts(tab_of_page)["at"]
    box = tab_of_page.locator("[data-viewer] canvas").bounding_box()
    tab_of_page.mouse.click(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.4)
    after = tab_of_page.evaluate(PLANES)
    assert facts(tab_of_page)["at"] != first
    assert all(
        before_plane != after_plane
        for before_plane, after_plane in zip(before, after, strict=True)
    )


def test_the_crosshair_moves_to_the_clicked_position(tab_of_page):
    """In the first plane left is left: a click further right increases x, a click further up y."""
    box = tab_of_page.locator("[data-viewer] canvas").bounding_box()
    places = []
    for right, up in ((0.1, 0.4), (0.2, 0.4), (0.2, 0.6)):
        tab_of_page.mouse.click(
            box["x"] + box["width"] * right, box["y"] + box["height"] * (1 - up)
        )
        places.append([int(value) for value in facts(tab_of_page)["at"].split(",")])
    assert places[1][0] > places[0][0]
    assert places[1][1:] == places[0][1:]
    assert places[2][1] > places[1][1]


def test_keys_move_the_crosshair(tab_of_page):
    tab_of_page.locator("[data-viewer] canvas").focus()
    places = [[int(value) for value in facts(tab_of_page)["at"].split(",")]]
    for key in ("ArrowRight", "ArrowUp", "PageUp"):
        tab_of_page.keyboard.press(key)
        places.append([int(value) for value in facts(tab_of_page)["at"].split(",")])
    steps = [
        [end - start for start, end in zip(before, after, strict=True)]
        for before, after in pairwise(places)
    ]
    # Each key moves by one voxel; the readout is in whole millimeters.
    assert np.abs(np.subtract(steps, 3 * np.eye(3))).max() <= 1


def test_series_contrast_and_smoothing_are_switched_in_place(tab_of_page):
    at, before = facts(tab_of_page)["at"], tab_of_page.evaluate(PLANES)
    tab_of_page.get_by_role("button", name="sbl", exact=True).click()
    tab_of_page.wait_for_selector("[data-viewer][data-series=sbl]")
    assert (
        tab_of_page.get_by_role("button", name="sbl", exact=True).get_attribute("aria-pressed")
        == "true"
    )
    assert tab_of_page.evaluate(PLANES) != before
    assert facts(tab_of_page)["at"] == at
    tab_of_page.locator("[data-viewer] select").nth(0).select_option("faces")
    tab_of_page.locator("[data-viewer] select").nth(1).select_option("5 mm")
    tab_of_page.wait_for_selector("[data-viewer][data-contrast=faces][data-smoothing='5 mm']")
    assert "sbl, faces, smoothed by 5 mm" in tab_of_page.locator(".readout").inner_text()


def test_the_readout_shows_the_map_value_at_the_crosshair(tab_of_page):
    # The crosshair starts at the peak of the acquired map.
    assert "t 9.0" in tab_of_page.locator(".readout").inner_text()


def test_blink_switches_between_the_last_two_series(tab_of_page):
    tab_of_page.get_by_role("button", name="sbl", exact=True).click()
    tab_of_page.wait_for_selector("[data-viewer][data-series=sbl]")
    tab_of_page.get_by_role("button", name="Blink").click()
    assert tab_of_page.wait_for_selector("[data-viewer][data-series=acquired]", timeout=3000)
    assert tab_of_page.wait_for_selector("[data-viewer][data-series=sbl]", timeout=3000)


def test_the_threshold_hides_smaller_values(tab_of_page):
    before = tab_of_page.evaluate(PLANES)
    slider = tab_of_page.locator("[data-viewer] input[type=range]")
    slider.fill("9.5")
    tab_of_page.wait_for_selector("[data-viewer][data-threshold='9.5']")
    assert tab_of_page.evaluate(PLANES) != before
    assert tab_of_page.locator("[data-viewer] output").inner_text() == "9.5"


def test_a_thresholded_preview_is_named_as_preview_and_links_the_full_map(tab_of_page, tmp_path):
    import nibabel as nib

    with tab_of_page.expect_download() as waiting:
        tab_of_page.get_by_role("button", name="Save thresholded preview").click()
    target = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(target)
    assert nib.load(target).shape == (10, 12, 8)
    assert target.name == "sub-01-Task-tap-run-1_all_acquired_none_t_thresholded2.5-preview.nii.gz"
    assert b"preview" in nib.load(target).header["descrip"].item()
    link = tab_of_page.locator("[data-viewer] .whole a")
    assert (link.inner_text(), link.get_attribute("href")) == (
        "all_acquired.nii.gz",
        "sub-01/func/all_acquired.nii.gz",
    )


def test_scanner_and_mni_coordinates_are_named(tab_of_page):
    x, y, z = facts(tab_of_page)["at"].split(",")
    assert f"scanner x {x}, y {y}, z {z} mm" in tab_of_page.locator(
        ".readout"
    ).inner_text().replace("−", "-")
    assert f"MNI x {int(x) + 10}, y {y}, z {int(z) - 5} mm" in tab_of_page.locator(
        ".readout"
    ).inner_text().replace("−", "-")


def test_the_wheel_scrolls_the_slices_of_a_plane(tab_of_page):
    box = tab_of_page.locator("[data-viewer] canvas").bounding_box()
    tab_of_page.mouse.move(box["x"] + box["width"] * 0.15, box["y"] + box["height"] * 0.5)
    before, top = facts(tab_of_page)["at"].split(","), tab_of_page.evaluate("scrollY")
    tab_of_page.mouse.wheel(0, -120)
    tab_of_page.wait_for_function(
        "at => document.querySelector('[data-viewer]').dataset.at !== at", arg=",".join(before)
    )
    after = facts(tab_of_page)["at"].split(",")
    # Only the axial plane moves, by one slice up.
    assert (after[:2], int(after[2]) - int(before[2])) == (before[:2], 3)
    assert tab_of_page.evaluate("scrollY") == top


def test_a_peak_of_the_table_moves_the_crosshair(tab_of_page):
    tab_of_page.get_by_role("button", name="12, 24, 9").click()
    tab_of_page.wait_for_selector(
        "[data-viewer][data-series=sbl][data-contrast=faces][data-smoothing='5 mm']"
    )
    assert facts(tab_of_page)["at"] == "12,24,9"


def test_the_color_bar_is_drawn_next_to_the_planes(tab_of_page):
    """At the right of the canvas: the last color at the top, the first at the bottom, gray between
    the thresholds.
    """
    pixels = tab_of_page.evaluate("""() => {
          const canvas = document.querySelector("[data-viewer] canvas"), ratio = devicePixelRatio;
          const context = canvas.getContext("2d");
          const x = canvas.width - 46 * ratio;
          const one = (y) => [...context.getImageData(x, y, 1, 1).data.slice(0, 3)];
          const tall = Math.min(canvas.height - 36 * ratio, 240 * ratio);
          return [23 * ratio, 22 * ratio + tall / 2, 21 * ratio + tall].map(one);
        }""")
    colors = [MAP_COLORS[-1], "#444444", MAP_COLORS[0]]
    for color, name in zip(pixels, colors, strict=True):
        assert np.abs(np.subtract(color, [int(name[k : k + 2], 16) for k in (1, 3, 5)])).max() < 25


def saved_svg_text(tab_of_page, button, folder) -> str:
    with tab_of_page.expect_download() as waiting:
        button.click()
    target = folder / waiting.value.suggested_filename
    waiting.value.save_as(target)
    root = ElementTree.parse(target).getroot()
    assert root.tag == f"{SVG}svg"
    return " ".join(" ".join(root.itertext()).split())


def test_a_figure_is_saved_as_one_svg_with_its_caption(tab_of_page, tmp_path):
    tab_of_page.get_by_role("button", name="Expand all").click()
    for number, (caption, word) in enumerate(
        (("Größe < 1 % of one.", "drawn"), ("Of both.", "<drawn>"))
    ):
        text = saved_svg_text(
            tab_of_page, tab_of_page.locator("#drawn .save").nth(number), tmp_path
        )
        assert text.startswith(word)
        assert "bids-sr: sub-01. sub-01_desc-" in text
        assert text.endswith(caption)
    figure = ElementTree.parse(tmp_path / "sub-01_desc-0_bold.svg").getroot()
    inner = figure.find(f"{SVG}svg")
    assert inner is not None
    assert inner.get("viewBox") == "0 0 200 100"
    assert float(figure.get("height")) > 100 == float(inner.get("height"))


def test_the_view_is_saved_with_its_map_and_threshold(tab_of_page, tmp_path):
    text = saved_svg_text(
        tab_of_page, tab_of_page.get_by_role("button", name="Save this view"), tmp_path
    )
    assert "bids-sr: sub-01, Task tap, run 1. acquired, all, unsmoothed" in text
    assert [file.name for file in tmp_path.iterdir()] == [
        "sub-01-Task-tap-run-1_all_acquired_none_t.svg"
    ]
    assert "shown where |t| >" in text


def test_one_of_several_figures_is_shown_and_all_are_printed(tab_of_page):
    tab_of_page.evaluate("location.hash = '#activation'")
    tab_of_page.wait_for_selector("#activation > details[open]")
    figures = tab_of_page.locator("#activation figure")
    assert [figures.nth(k).is_visible() for k in range(4)] == [True, False, False, False]
    tab_of_page.get_by_role("button", name="faces", exact=True).click()
    tab_of_page.get_by_role("button", name="smoothed", exact=True).click()
    assert [figures.nth(k).is_visible() for k in range(4)] == [False, False, False, True]
    tab_of_page.emulate_media(media="print")
    assert all(figures.nth(k).is_visible() for k in range(4))


def test_one_of_several_tabs_is_shown_and_a_link_opens_its_tab(tab_of_page):
    tab_of_page.get_by_role("button", name="Expand all").click()
    parts = {name: tab_of_page.locator(f"#{name}") for name in ("t-0", "t-1", "t-2")}
    assert [panel.is_visible() for panel in parts.values()] == [True, True, False]
    tab_of_page.get_by_role("button", name="Two", exact=True).click()
    assert [panel.is_visible() for panel in parts.values()] == [True, False, True]
    tab_of_page.evaluate("location.hash = '#t-1'")
    tab_of_page.wait_for_selector("#t-1:visible")
    tab_of_page.emulate_media(media="print")
    assert all(panel.is_visible() for panel in parts.values())


def test_a_table_scrolls_in_a_box_links_its_file_and_is_printed_in_full(tab_of_page):
    tab_of_page.get_by_role("button", name="Expand all").click()
    tab_of_page.get_by_role("button", name="Two", exact=True).click()
    boxes = tab_of_page.locator("#t-2 .wide")
    assert [boxes.nth(k).is_visible() for k in range(2)] == [True, False]
    tab_of_page.locator("#t-2 select").select_option("second")
    assert [boxes.nth(k).is_visible() for k in range(2)] == [False, True]
    assert (
        boxes.nth(1).bounding_box()["height"]
        < 420
        < tab_of_page.locator("#t-2 table").nth(1).bounding_box()["height"]
    )
    assert tab_of_page.locator("#t-2 a").get_attribute("href") == "sub-01/func/x.tsv"
    tab_of_page.emulate_media(media="print")
    assert all(boxes.nth(k).bounding_box()["height"] > 1000 for k in range(2))


@pytest.mark.parametrize("width", [1300, 400])
def test_nothing_on_the_first_screen_overflows(browser, tmp_path, width):
    section = _Section(
        name="overview",
        title="Overview",
        blocks=[_PanelGroup(name="o-0", panels=[_Reportlet(content=overview())])],
    )
    write_page(tmp_path / "page.html", title="bids-sr: sub-01", sections=[section])
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
    tab = context.new_page()
    tab.goto((tmp_path / "page.html").as_uri())
    assert tab.locator("#overview .caution").is_visible()
    assert tab.locator("#overview .next code").count() == 2
    assert tab.locator("#overview .contrasts tbody tr").count() == 7
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    overflowing = tab.evaluate("""() => [...document.querySelectorAll("#overview *")]
        .filter((each) => getComputedStyle(each).position !== "absolute")
        .filter((each) => each.getBoundingClientRect().right > innerWidth
            || (each.clientWidth && each.scrollWidth > each.clientWidth + 1))
        .map((each) => each.outerHTML.slice(0, 80))""")
    context.close()
    assert overflowing == []


def test_a_phone_scrolls_only_vertically_and_has_a_menu(page, browser):
    context = browser.new_context(viewport={"width": 390, "height": 844}, offline=True)
    tab = context.new_page()
    tab.goto(page.as_uri())
    tab.get_by_role("button", name="Expand all").click()
    tab.locator("[data-viewer]").scroll_into_view_if_needed()
    tab.wait_for_selector("[data-viewer][data-ready=yes]")
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    clip = "getComputedStyle(document.querySelector('h1')).clipPath"
    assert tab.locator("nav .brand").is_visible()
    # The bar already shows the title and would cover the heading.
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


def test_folded_sections_open_for_print_and_with_the_button(tab_of_page):
    assert not tab_of_page.locator("#errors p").is_visible()
    tab_of_page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab_of_page.locator("#errors p").is_visible()
    tab_of_page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not tab_of_page.locator("#errors p").is_visible()
    tab_of_page.get_by_role("button", name="Expand all").click()
    assert tab_of_page.locator("#errors p").is_visible()


@pytest.mark.skipif("BIDS_SR_AXE" not in os.environ, reason="BIDS_SR_AXE names no axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_reports_no_serious_accessibility_problem(page, browser, scheme):
    address = Path(os.environ.get("BIDS_SR_PAGE", page)).resolve().as_uri()
    context = browser.new_context(
        viewport={"width": 1300, "height": 800}, color_scheme=scheme, offline=True
    )
    tab = context.new_page()
    tab.goto(address)
    tab.get_by_role("button", name="Expand all").click()
    tab.evaluate(Path(os.environ["BIDS_SR_AXE"]).read_text(encoding="utf-8"))
    violations = tab.evaluate("axe.run(document, {resultTypes: ['violations'], iframes: false})")[
        "violations"
    ]
    context.close()
    assert [
        (violation["id"], violation["nodes"][0]["html"])
        for violation in violations
        if violation["impact"] in ("serious", "critical")
    ] == []


def test_the_first_key_reaches_the_skip_link(tab_of_page):
    tab_of_page.keyboard.press("Tab")
    assert tab_of_page.evaluate("document.activeElement.className") == "skip"


def test_a_browser_that_cannot_decompress_maps_shows_a_text_instead(page, browser):
    context = browser.new_context(offline=True)
    tab = context.new_page()
    tab.add_init_script("delete window.DecompressionStream")
    tab.goto(page.as_uri())
    tab.wait_for_selector("[data-viewer] .failed")
    assert "see the slices in the Activation section" in tab.locator("[data-viewer]").inner_text()
    assert tab.locator("[data-viewer] canvas").count() == 0
    context.close()


@pytest.mark.parametrize(("scheme", "paper", "text"), [("light", 255, 31), ("dark", 20, 228)])
def test_a_figure_has_the_background_and_text_color_of_the_page(
    browser, tmp_path, scheme, paper, text
):
    """Check that a figure is not a white box in a dark page."""
    with canvas.style():
        figure = canvas.new_figure(2.0, 1.0)
        figure.text(0.5, 0.5, "\u2588" * 9, ha="center", va="center")  # a bar of ink
        figure.add_axes((0.1, 0.8, 0.1, 0.1)).plot([0, 1], color=canvas.BLUE)
    file = save_svg(figure, tmp_path / "drawn.svg")
    section = _Section(
        name="drawn",
        title="Drawn",
        blocks=[
            _PanelGroup(
                name="d-0",
                panels=[_Reportlet(content=_embed(archived_figure(file), static=True, alt=""))],
            )
        ],
    )
    write_page(tmp_path / "page.html", title="page", sections=[section])
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    screenshot = Image.open(io.BytesIO(page.locator("#drawn img").screenshot())).convert("RGB")
    context.close()
    corner, middle = (
        screenshot.getpixel((5, screenshot.height - 5)),
        screenshot.getpixel((screenshot.width // 2, screenshot.height // 2)),
    )
    assert (corner[0], middle[0]) == (paper, text)
