"""Maps inside the page: what is read back is the map, on its own grid, and nothing larger than its room."""

import base64
import gzip
import json
import re

import nibabel as nib
import numpy as np
import pytest

from bids_sr.interfaces.reporting.overview_reportlets import ViewerReport
from bids_sr.reports.figures import map_viewer
from bids_sr.reports.figures.activation_figures import T_DISPLAY
from bids_sr.reports.figures.map_viewer import ViewedMaps, packed, viewer_html
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


def test_what_has_no_room_is_left_out_last_smoothing_first_and_named(monkeypatch):
    maps = given(("all", "faces"), ("none", "5 mm"))
    below = NamedImage(name="", data=MASK, affine=FINE)
    whole = content_of(viewer_html(maps, below, MASK))
    size = sum(len(text) for key, text in whole["maps"].items() if "|none|" in key)
    monkeypatch.setattr(map_viewer, "MAX_BYTES", size + 10)
    html = viewer_html(maps, below, MASK)
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


def test_the_reportlet_begins_with_all_conditions_and_the_first_method(tmp_path):
    paths, entities = [], []
    for series, affine, shape in (
        ("raw", COARSE, (6, 6, 5)),
        ("bspline", FINE, (12, 12, 5)),
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
    (drawn,) = ViewerReport.draw(
        maps=paths, entities=entities, background=str(mask), mask_hr=str(mask), series_names=["raw", "bspline", "sbl"]
    )
    content = content_of(drawn.content)
    assert content["first"] == {"contrast": "all", "smoothing": "none", "series": "sbl"}
    assert content["series"] == ["raw", "bspline", "sbl"]
    assert content["smoothings"] == ["none", "5 mm"]
    assert len(content["maps"]) == 12
