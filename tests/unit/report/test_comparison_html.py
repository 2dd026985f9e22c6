"""Table of comparisons on a page: its columns follow the table that was written."""

import re
from types import SimpleNamespace

import numpy as np

from bids_sr.report.comparison_html import comparisons_html
from bids_sr.statistics.comparisons import compare_pairs, correct

VALUES = {"unet": np.array([2.0, 3.0, 5.5, 4.0]), "linear": np.array([1.0, 2.5, 2.0, 2.0])}


def read_cells(html: str) -> dict[str, str]:
    """Return the cells of the only row by head."""
    cells = re.findall(r"<(?:th|td)\b[^>]*>(.*?)</(?:th|td)>", html, re.DOTALL)
    count = len(cells) // 2
    heads = [re.sub(r"<[^>]+>", "", head).strip() for head in cells[:count]]
    return dict(zip(heads, cells[count:], strict=True))


def test_columns_of_the_page_are_columns_of_the_table() -> None:
    (pair,) = correct(compare_pairs(VALUES, [("unet", "linear")]), ["psnr"], least_n=2)
    html = comparisons_html("models_tests", [pair], "Pairs", {"metric": ["psnr"]})
    cells = read_cells(html)
    assert (cells["metric"], cells["series"], cells["n"]) == ("psnr", "unet", "4")
    assert cells["mean difference [interval]"].startswith("+1.75 [")
    assert cells["p, t test"] == cells["p, t test, Holm"] != cells["p, Holm"]
    # four differences have an interval of lower confidence and cannot be significant
    assert "<small>88 %</small>" in cells["difference [interval]"]
    assert "smallest possible: .125" in cells["p"]
    assert not {"result", "FDR", "p, equivalence"} & set(cells)
    group_row = SimpleNamespace(**pair.cells(), p_fdr=0.125, word="unclear", note="")
    group_cells = read_cells(comparisons_html("stats", [group_row], "Pairs"))
    assert (group_cells["result"], group_cells["FDR"]) == ("unclear", ".125")
    assert not {"p, t test", "mean difference [interval]"} & set(group_cells)
