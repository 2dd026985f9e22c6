"""Tables of clusters, regions, comparisons and facts, and the card of a model."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from data.page import MARKUP, Page

from bids_sr.evaluation.statistics.comparisons import compare_pairs, correct
from bids_sr.report import facts
from bids_sr.report.comparison_html import comparisons_html
from bids_sr.report.region_table import regions_html


def make_region(**cells):
    defaults = {
        "region": "v1",
        "origin": "roi",
        "contrast": "all",
        "series": "sbl",
        "input_fwhm_mm": 0.0,
        "fwhm_mm": 0.0,
        "voxels_given": 17,
        "voxels": 17,
        "effect": 2.0,
        "noise_dof": 20.0,
        "lower": 1.39,
        "upper": 2.61,
        "acquired": 1.9,
        "measured": math.nan,
        "large_share": 0.125,
        "q": math.nan,
        "peak": math.nan,
        **dict.fromkeys(("x", "y", "z"), math.nan),
        **dict.fromkeys(("scanner_x", "scanner_y", "scanner_z"), 0.0),
    }
    return defaults | cells


def test_regions_clusters_and_active_labels_have_a_table_each():
    labels = {"origin": "atlas", "measured": 2.1}
    cluster = {"origin": "cluster", "region": "cluster 7, Cuneus_L", "measured": 2.1}
    cluster |= dict(zip("xyz", (12.0, -80.4, 3.0), strict=True))
    regions = pd.DataFrame(
        [
            make_region(voxels=14),
            make_region(series="acquired"),
            make_region(series="bspline", effect=1.5),
            make_region(contrast="left", lower=math.nan, upper=math.nan),
            make_region(series="bspline", contrast="left", effect=1.5),
            make_region(series="acquired", fwhm_mm=5.0),
            make_region(**cluster, scanner_x=7.0, peak=5.25),
            make_region(**cluster, lower=math.nan, upper=math.nan, contrast="few"),
            make_region(region="Cuneus_L", q=0.04, **labels),
            make_region(region="Cuneus_R", q=0.03, effect=-3.0, **labels),
            make_region(region="Heschl_L", q=0.06, **labels),
            make_region(region="Heschl_L", contrast="left", q=0.2, **labels),
        ]
    )
    used = {"all": "sbl", "left": "bspline"}
    page = Page(regions_html(regions, ["sbl"], used))
    named, left, clusters, few, active = page.tables.values()
    assert named[1:] == [["v1", "2.00 [1.39, 2.61]", "1.90", "–", "12 %", "14 of 17"]]
    assert left[1:] == [["v1", "1.50 [1.39, 2.61]", "1.90", "–", "12 %", "17"]]
    assert clusters[1:] == [
        [
            *("cluster 7, Cuneus_L", "2.00 [1.39, 2.61]", "1.90", "2.10"),
            *("12, −80, 3 t = 5.25", "12 %", "17"),
        ]
    ]
    targets = [value for found in page.all() for value in found.attributes.values()]
    assert "7.0,0.0,0.0" in targets, "the crosshair moves to scanner coordinates"
    assert few[1][1] == "2.00 too few data"
    titles = list(page.tables)
    assert [("in sbl" in titles[0]), ("in bspline" in titles[1])] == [True, True]
    assert "Clusters: none found for left." in page.text
    assert "Atlas labels: none with q ≤ .05 for left." in page.text
    assert [(cells[0], cells[-3]) for cells in active[1:]] == [
        ("Cuneus_R", ".030"),
        ("Cuneus_L", ".040"),
    ]
    assert "% of the brain's mean signal" in page.text
    assert regions_html(regions.iloc[:0], [], {}) == ""
    differences = Page(regions_html(regions.assign(smallest_change=0.7), ["sbl"], used))
    table = next(iter(differences.tables.values()))
    assert "probability of 80 %" in table[0][2]
    assert table[1][2] == "0.700"


@pytest.mark.parametrize(("large", "is_marked"), [(0.6, True), (0.3, False)])
def test_regions_with_many_large_effects_are_marked(large, is_marked):
    cluster = make_region(origin="cluster", large_share=large)
    _, cells = Page(regions_html(pd.DataFrame([cluster]), [], {})).table()
    assert cells[-2] == f"{'vein? ' * is_marked}{large:.0%}".replace("%", " %")


def test_ten_labels_of_each_contrast_are_shown_the_chosen_contrast_first():
    count = {"house": 1, "all": 12, "face": 3}
    regions = pd.DataFrame(
        make_region(origin="atlas", contrast=contrast, region=f"label {k}", effect=k, q=0.01)
        for contrast, n in count.items()
        for k in range(n)
    )
    page = Page(regions_html(regions, [], {}, "all"))
    titles = list(page.tables)
    assert [title.rpartition("contrast ")[2] for title in titles] == [
        *("all (10 of 12 rows)", "house", "face")
    ]
    labels = [cells[0] for cells in page.table(titles[0])[1:]]
    assert labels == [f"label {k}" for k in range(11, 1, -1)]


def test_columns_of_comparisons_are_columns_of_the_table_that_was_written():
    values = {"unet": np.array([2.0, 3.0, 5.5, 4.0]), "linear": np.array([1.0, 2.5, 2.0, 2.0])}
    (pair,) = correct(compare_pairs(values, [("unet", "linear")]), ["psnr"], least_n=2)
    html = comparisons_html("models_tests", [pair], "Pairs", {"metric": ["psnr"]})
    cells = dict(zip(*Page(html).table("Pairs"), strict=True))
    assert (cells["metric"], cells["series"], cells["n"]) == ("psnr", "unet", "4")
    assert cells["mean difference [interval]"].startswith("+1.75 [")
    assert cells["p, t test"] == cells["p, t test, Holm"] != cells["p, Holm"]
    # four differences have an interval of lower confidence and cannot be significant
    assert cells["difference [interval]"].endswith("88 %")
    assert cells["p"].endswith("smallest possible: .125")
    assert not {"result", "FDR", "p, equivalence"} & set(cells)
    group_row = SimpleNamespace(**pair.cells(), p_fdr=0.125, word="unclear", note=MARKUP)
    group_page = Page(comparisons_html("stats", [group_row], "Pairs"))
    group_cells = dict(zip(*group_page.table(), strict=True))
    assert (group_cells["result"], group_cells["FDR"]) == ("unclear", ".125")
    assert group_cells["note"] == MARKUP
    assert not {"p, t test", "mean difference [interval]"} & set(group_cells)


SCORES = {
    "network": {"psnr": 36.0, "ssim": 0.95},
    "bspline": {"psnr": 33.5, "ssim": 0.94},
    "zerofill": {"psnr": 36.5},
}


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ({"held_out": {"slices": [3, 9], **SCORES}}, "On 2 held-out slices"),
        (
            {"held_out": {"parts": [{"slices": [0, 3]}, {"slices": [5, 7]}], **SCORES}},
            "On 5 held-out slices",
        ),
        ({"on_trained_slices": {"slices": [1, 2, 3], **SCORES}}, "all 3 slices"),
    ],
)
def test_the_card_of_a_model_reports_differences_in_its_scores(card, words):
    text = Page(facts.card_html({"method": "srgan", **card})).text
    for part in (
        words,
        "srgan 36.00 dB, SSIM 0.950",
        "srgan − bspline +2.50 dB, SSIM +0.010",
        "srgan − zerofill −0.50 dB.",
    ):
        assert part in text


def test_names_and_texts_from_outside_are_escaped():
    for html in (
        facts.facts_html({MARKUP: MARKUP, "x": {MARKUP: [MARKUP, {"a": MARKUP}]}}),
        facts.messages_html("note", [MARKUP]),
        regions_html(pd.DataFrame([make_region(region=MARKUP, contrast=MARKUP)]), [], {}),
    ):
        page = Page(html)
        assert MARKUP in page.text
        assert not page.all("script")
