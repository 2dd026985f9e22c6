"""Tables of clusters, regions, comparisons and facts, and the card of a model."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from data.page import MARKUP, Page

from bids_sr.evaluation.statistics.comparisons import compare_pairs, correct
from bids_sr.glm.clusters import COLUMNS
from bids_sr.report import facts
from bids_sr.report.cluster_tables import clusters_html
from bids_sr.report.comparison_html import comparisons_html
from bids_sr.report.region_table import regions_html


def make_clusters(**cells: str) -> pd.DataFrame:
    """Return clusters of two contrasts and two smoothings; the last has a further peak."""
    shared = dict.fromkeys(COLUMNS, "0") | {"series": "sbl", "statistic": "z", "space": "MNI"}
    shared |= {"threshold": "Z31", "above": "3.1"}
    rows = []
    for contrast in ("all", "faces"):
        for fwhm, label in (("0", "Calcarine_L"), ("2.5", "n/a")):
            place = {"contrast": contrast, "fwhm_mm": fwhm, "label": label, "labels": label}
            for k in range(1, 8):
                peak = {"cluster": str(k), "peak": f"{9 - k}.104", "x": f"-{k}.4"}
                rows.append(shared | place | peak)
            rows.append(rows[-1] | {"cluster": "7a", "peak": "1.5"})
    return pd.DataFrame(rows, columns=list(COLUMNS)).assign(**cells)


def test_tables_of_clusters_list_the_peaks_of_the_widest_smoothing():
    clusters = make_clusters(label="Cuneus_R", label_mm="2", wrongsign="0.0004", scanner_x="-12")
    clusters = clusters.assign(effect="3", lower="2", upper="4")
    page = Page(clusters_html(clusters, "sbl", first="faces"))
    (first, second), captions = page.tables.values(), list(page.tables)
    assert "contrast faces: smoothed with a 2.5 mm FWHM kernel" in captions[0]
    assert "contrast all:" in captions[1]
    assert "|z| ≥ 3.1" in captions[0]
    assert [line[0] for line in first[1:]] == [*"1234567", "7a"]
    assert [line[0] for line in second[1:]] == [*"12345"], (
        "only the largest, without further peaks"
    )
    assert first[1][1] == "n/a", "the cluster is named by its labels, not by the peak"
    assert first[1][2:7] == ["−1, 0, 0", "8.104", "3 [2, 4]", "< 0.1 %", "Cuneus_R, 2 mm away"]
    assert first[1][7] == "0 z ≥ 3.1"
    assert (first[8][1], first[8][7:]) == ("", ["", "", ""]), "a further peak has no volume"
    targets = [value for found in page.all() for value in found.attributes.values()]
    assert "-12.0,0.0,0.0" in targets, "the crosshair moves to scanner coordinates"


@pytest.mark.parametrize(
    ("threshold", "statistic", "head", "words"),
    [
        ("Z31", "z", "z", "|z| ≥ 3.1"),
        ("Fdr", "t", "t", "FDR .05"),
        ("SignReliable", "tTotal", "t including the reconstruction error", "error included"),
        ("Quarter", "cc", "CC", "upper quarter"),
    ],
)
def test_clusters_name_their_threshold_and_statistic(threshold, statistic, head, words):
    clusters = make_clusters(threshold=threshold, statistic=statistic, fwhm_mm="0")
    page = Page(clusters_html(clusters, "sbl"))
    caption, lines = next(iter(page.tables.items()))
    assert words in caption
    assert "not smoothed" in caption
    assert lines[0][3] == head
    symbol = {"tTotal": "t", "cc": "CC"}.get(statistic, statistic)
    assert lines[1][7] == f"0 {symbol} ≥ 3.1"


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
        "noise_se": 0.3,
        "error_sd": math.nan,
        "lower": 1.39,
        "upper": 2.61,
        "acquired": 1.9,
        "measured": math.nan,
        "large_share": 0.125,
        "dark_share": 0.5,
        "q": math.nan,
    }
    return defaults | cells


def test_regions_clusters_and_active_labels_have_a_table_each():
    labels = {"origin": "atlas", "error_sd": 0.4, "measured": 2.1}
    regions = pd.DataFrame(
        [
            make_region(error_sd=0.4, voxels=14),
            make_region(series="acquired"),
            make_region(series="zerofill"),
            make_region(contrast="left", lower=math.nan, upper=math.nan),
            make_region(series="acquired", fwhm_mm=5.0),
            make_region(origin="cluster", region="cluster 1, Cuneus_L", measured=2.1),
            make_region(region="Cuneus_L", q=0.04, **labels),
            make_region(region="Cuneus_R", q=0.03, effect=-3.0, **labels),
            make_region(region="Heschl_L", q=0.06, **labels),
            make_region(region="Heschl_L", contrast="left", q=0.2, **labels),
        ]
    )
    page = Page(regions_html(regions, ["sbl"]))
    named, left, clusters, active = page.tables.values()
    veins = "12 %, 50 %"
    assert named[1:] == [
        ["v1", "acquired", "2.00 ± 0.300", "–", "[1.39, 2.61]", veins, "17"],
        ["v1", "sbl", "2.00 ± 0.300", "0.400", "[1.39, 2.61]", veins, "14 of 17"],
    ]
    assert left[1:] == [["v1", "sbl", "2.00 ± 0.300", "–", "–", veins, "17"]]
    assert "No clusters of left" in page.text
    assert "No atlas label has q ≤ .05 for left." in page.text
    assert [cells[:1] + cells[4:6] for cells in clusters[1:]] == [
        ["cluster 1, Cuneus_L", "1.90", "2.10"]
    ]
    assert [(cells[0], cells[-3]) for cells in active[1:]] == [
        ("Cuneus_R", ".030"),
        ("Cuneus_L", ".040"),
    ]
    assert "% of the brain's mean signal" in page.text
    assert regions_html(regions.iloc[:0], []) == ""
    differences = Page(regions_html(regions.assign(smallest_change=0.7), ["sbl"]))
    table = next(iter(differences.tables.values()))
    assert "probability of 80 %" in table[0][5]
    assert table[1][5] == "0.700"
    inactive = regions[(regions["origin"] == "atlas") & (regions["q"] > 0.05)]
    assert "No atlas label has q ≤ .05" in regions_html(inactive, [])


@pytest.mark.parametrize(
    ("large", "dark", "is_marked"),
    [(0.6, 0.0, True), (0.3, 0.3, True), (0.3, 0.1, False), (0.1, 0.9, False)],
)
def test_rows_with_signs_of_veins_are_marked(large, dark, is_marked):
    cluster = make_region(origin="cluster", large_share=large, dark_share=dark)
    _, cells = Page(regions_html(pd.DataFrame([cluster]), [])).table()
    assert cells[-2] == f"{'vein? ' * is_marked}{large:.0%}, {dark:.0%}".replace("%", " %")


def test_ten_labels_of_each_contrast_are_shown_the_chosen_contrast_first():
    count = {"house": 1, "all": 12, "face": 3}
    regions = pd.DataFrame(
        make_region(origin="atlas", contrast=contrast, region=f"label {k}", effect=k, q=0.01)
        for contrast, n in count.items()
        for k in range(n)
    )
    page = Page(regions_html(regions, [], "all"))
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
        clusters_html(make_clusters(label=MARKUP, contrast=MARKUP), "sbl"),
        regions_html(pd.DataFrame([make_region(region=MARKUP, contrast=MARKUP)]), []),
    ):
        page = Page(html)
        assert MARKUP in page.text
        assert not page.all("script")
