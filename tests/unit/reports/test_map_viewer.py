"""Maps inside the page: what is read back is the map, on its own grid, and nothing larger than its room."""

import base64
import gzip
import json
import re
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_sr.interfaces.reporting.overview_reportlets import ViewerReport
from bids_sr.metrics.long_tables import MetricRow, table_text
from bids_sr.reports.figures.activation_figures import CC_DISPLAY, T_DISPLAY
from bids_sr.reports.figures.map_viewer import MAX_BYTES, PAGE_BYTES, ViewedMaps, packed, room_of, viewer_html
from bids_sr.reports.figures.style import NamedImage

FINE, COARSE = np.diag([-3.0, 3, 3, 1]), np.diag([-6.0, 6, 3, 1])
MASK = np.ones((12, 12, 5))


def opened(text: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def content_of(html: str) -> dict:
    return json.loads(re.search(r"<script type='application/json'>(.*?)</script>", html, flags=re.DOTALL)[1])


def given(contrasts=("all",), smoothings=("none",), value=8.0) -> ViewedMaps:
    rng = np.random.default_rng(0)
    maps = {}
    for contrast in contrasts:
        for smoothing in smoothings:
            coarse, fine = rng.standard_normal((6, 6, 5)), rng.standard_normal((12, 12, 5))
            fine[2, 3, 4] = coarse[1, 1, 4] = value
            maps[contrast, smoothing] = [
                NamedImage(name="raw", data=coarse, affine=COARSE), NamedImage(name="sbl", data=fine, affine=FINE),
            ]  # fmt: skip
    return ViewedMaps(display=T_DISPLAY, maps=maps, series=["raw", "sbl"])


def test_a_map_comes_back_in_ras_order_within_half_a_step():
    data = np.random.default_rng(1).normal(0, 4, (6, 5, 4))
    image = opened(packed(data, FINE[:, [0, 1, 2, 3]], slope=0.1))
    assert image.get_data_dtype() == np.int8
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert np.abs(image.get_fdata() - data[::-1]).max() <= 0.05 + 1e-6
    corner = image.affine @ [0, 0, 0, 1]
    assert corner[0] == pytest.approx((FINE @ [5, 0, 0, 1])[0])
    assert packed(data, FINE, slope=0.1) == packed(data, FINE, slope=0.1)


def test_each_map_stays_on_the_grid_that_it_has_and_small_values_are_left_out():
    content = content_of(viewer_html(given(), NamedImage(name="", data=100 * MASK, affine=FINE), MASK))
    raw, fine = (opened(content["maps"][f"all|none|{name}"]) for name in ("raw", "sbl"))
    assert raw.shape == (6, 6, 5)
    assert fine.shape == (12, 12, 5)
    values = np.abs(fine.get_fdata())
    assert values.max() == pytest.approx(8.0, abs=0.05)
    assert not ((values > 0) & (values < content["least"] - 0.1)).any()
    assert content["at"] == [round(4.5 / 6, 4), round(1.5 / 6, 4), 0.9]  # the peak of the first map
    assert content["first"] == {"contrast": "all", "smoothing": "none", "series": "raw"}


def test_what_has_no_room_is_left_out_last_smoothing_first_and_named():
    maps = given(("all", "faces"), ("none", "5 mm"))
    below = NamedImage(name="", data=MASK, affine=FINE)
    whole = content_of(viewer_html(maps, below, MASK))
    size = sum(len(text) for key, text in whole["maps"].items() if "|none|" in key)
    html = viewer_html(maps, below, MASK, room=size + 10)
    content = content_of(html)
    assert {key.split("|")[1] for key in content["maps"]} == {"none"}
    assert content["contrasts"] == ["all", "faces"]
    assert content["smoothings"] == ["none"]
    assert "Not here, for the size of the page: all, 5 mm; faces, 5 mm." in html


def test_names_cannot_leave_the_data_block():
    maps = given(("</script><b>",))
    html = viewer_html(maps, NamedImage(name="", data=MASK, affine=FINE), MASK)
    assert html.count("</script>") == 1
    assert "</script><b>|none|sbl" in content_of(html)["maps"]


def test_nothing_to_see_makes_nothing():
    empty = ViewedMaps(display=T_DISPLAY, maps={}, series=[])
    assert viewer_html(empty, NamedImage(name="", data=MASK, affine=FINE), MASK) == ""


@pytest.mark.parametrize("top", [3.3, 8.0, 15.7, 40.0])
def test_the_threshold_of_the_figures_shows_the_same_voxels_in_the_viewer(top):
    """Steps are laid so that no value is rounded over the threshold, up or down."""
    rng = np.random.default_rng(3)
    data = rng.uniform(2.6, 3.6, (12, 12, 5))
    data[0, 0, 0] = top
    maps = ViewedMaps(
        display=T_DISPLAY, series=["sbl"], maps={("all", "none"): [NamedImage(name="sbl", data=data, affine=FINE)]}
    )
    content = content_of(viewer_html(maps, NamedImage(name="", data=MASK, affine=FINE), MASK))
    shown = opened(content["maps"]["all|none|sbl"]).get_fdata() > content["threshold"]
    assert np.array_equal(shown, data[::-1] > T_DISPLAY.threshold)


@pytest.mark.parametrize(("display", "step", "digits"), [(T_DISPLAY, 0.1, 1), (CC_DISPLAY, 0.01, 2)])
def test_the_slider_is_as_fine_as_the_statistic(display, step, digits):
    maps = ViewedMaps(display=display, maps=given().maps, series=["raw", "sbl"])
    content = content_of(viewer_html(maps, NamedImage(name="", data=MASK, affine=FINE), MASK))
    assert (content["step"], content["digits"]) == (step, digits)


def test_runs_share_the_room_of_a_page():
    assert room_of(1) == MAX_BYTES
    assert 4 * room_of(4) <= PAGE_BYTES


@pytest.fixture
def reported(tmp_path):
    """Inputs of the reportlet: three methods and two contrasts, of which the verdict is on the latter."""
    paths, entities = [], []
    for series, affine, shape in (
        ("raw", COARSE, (6, 6, 5)),
        ("bspline", FINE, (12, 12, 5)),
        ("srgan", FINE, (12, 12, 5)),
        ("sbl", FINE, (12, 12, 5)),
    ):
        for contrast in ("faces", "all"):
            for fwhm in ("Fwhm50", ""):
                path = tmp_path / f"{series}{contrast}{fwhm}.nii.gz"
                nib.save(nib.Nifti1Image(5 * np.ones(shape, dtype=np.float32), affine), path)
                paths.append(str(path))
                entities.append({"contrast": contrast, "stat": "t", "desc": series + fwhm, "suffix": "statmap"})
    mask = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(MASK.astype(np.float32), FINE), mask)
    return {
        "maps": paths, "entities": entities, "background": str(mask), "mask_hr": str(mask),
        "series_names": ["raw", "bspline", "srgan", "sbl"], "evaluation_tsv": str(tmp_path / "evaluation.tsv"),
        "verdict_json": str(tmp_path / "verdict.json"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("best", "judged", "contrast", "series"),
    [("sbl", "faces", "faces", "sbl"), ("srgan", "all", "all", "srgan"), ("", "faces", "all", "bspline")],
)
def test_the_reportlet_begins_with_what_the_verdict_is_about(reported, best, judged, contrast, series):
    """The best method, never one that was not applied, on the contrast that was judged."""
    row = MetricRow(series="sbl", measure="split_ev_beyond", value=0.2, against="measured", contrast=judged)
    rows = [row, replace(row, series="srgan")]
    Path(reported["evaluation_tsv"]).write_text(table_text(rows), encoding="utf-8")
    Path(reported["verdict_json"]).write_text(json.dumps({"best": best}), encoding="utf-8")
    (drawn,) = ViewerReport.draw(**reported)
    content = content_of(drawn.content)
    assert content["first"] == {"contrast": contrast, "smoothing": "none", "series": series}
    assert content["series"] == ["raw", "bspline", "srgan", "sbl"]
    assert content["smoothings"] == ["none", "5 mm"]
    assert len(content["maps"]) == 16
