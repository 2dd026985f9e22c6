"""Test the group level with series that were smoothed before super-resolution."""

import math
import tomllib
from pathlib import Path

from data.group_tables import detail, joined, sizes, write_tables
from data.page import Page

from bids_sr.engine.metric_rows import COLUMNS, read_table
from bids_sr.group.comparisons import compare
from bids_sr.group.input_checks import require_readable
from bids_sr.group.paper_table import paper_html, paper_sizes
from bids_sr.group.verdicts import context_text

PRESET = Path(__file__).parents[3] / "boilerplate" / "presets" / "ota2022.toml"


def write_cohort(output_dir: Path, *, input_smoothing: float, first: int, count: int = 4) -> None:
    """Write the tables of participants whose regions overlap more with more smoothing."""
    for number in range(first, first + count):
        dice = 0.4 + 0.01 * input_smoothing + 0.001 * number
        write_tables(
            output_dir,
            f"{number:02d}",
            rows=[detail("bspline", 0.02), detail("srgan", 0.02 + 0.001 * number)],
            activation=[*sizes("acquired", 100, 120, dice), *sizes("srgan", 80, 90, dice - 0.1)],
            facts={},
            input_smoothing=input_smoothing,
        )


def drop_column(path: Path) -> None:
    """Remove the smoothing before super-resolution, as in tables of earlier versions."""
    position = list(COLUMNS).index("input_fwhm_mm")
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    path.write_text("".join("\t".join(r[:position] + r[position + 1 :]) + "\n" for r in rows))


def paper_rows(output_dir: Path) -> dict[tuple[str, str], str]:
    """Return the cells with the Dice coefficient by series and smoothing before."""
    ((sizes_of_pair),) = paper_sizes(joined(output_dir).values)
    table = next(iter(Page(paper_html(sizes_of_pair, ["srgan"])).tables.values()))
    return {(row[0], row[1]): row[-3] for row in table}


def test_the_paper_table_of_the_preset_states_the_smoothing_of_the_series(tmp_path: Path) -> None:
    width = tomllib.loads(PRESET.read_text())["preprocessing"]["input_smoothing"]
    write_cohort(tmp_path, input_smoothing=width, first=1)
    rows = paper_rows(tmp_path)
    assert {("acquired", "13.2"), ("srgan", "13.2"), ("paper: acquired", "σ = 1.5")} <= set(rows)
    assert not {before for series, before in rows if series == "acquired"} - {"13.2"}
    comparison = next(compare(joined(tmp_path).values, ["srgan"]).itertuples())
    assert "13.2 mm" in context_text(comparison)
    assert "not smoothed" not in context_text(comparison)


def test_results_with_other_smoothing_before_are_not_pooled(tmp_path: Path) -> None:
    write_cohort(tmp_path, input_smoothing=13.2, first=1)
    write_cohort(tmp_path, input_smoothing=0.0, first=5)
    rows = paper_rows(tmp_path)
    assert rows["acquired", "13.2"].startswith("0.534")
    assert rows["acquired", "0"].startswith("0.406")
    comparisons = compare(joined(tmp_path).values, ["srgan"])
    is_pair = (comparisons["series"] == "srgan") & (comparisons["minus"] == "bspline")
    counts = comparisons[is_pair & (comparisons["statistic"] == "ev")].set_index("input_fwhm_mm")
    assert dict(counts["n"]) == {"13.2": 4, "0": 4}


def test_tables_of_earlier_versions_have_unknown_smoothing(tmp_path: Path) -> None:
    write_cohort(tmp_path, input_smoothing=13.2, first=1)
    write_cohort(tmp_path, input_smoothing=13.2, first=5)
    tables = sorted(tmp_path.rglob("*_metrics.tsv"))
    for path in tables[8:]:
        drop_column(path)
    require_readable(tables=tables)
    assert all(math.isnan(row.input_fwhm_mm) for row in read_table(tables[-1]))
    values = joined(tmp_path).values
    assert set(values["input_fwhm_mm"]) == {"13.2", "n/a"}
    unknown = next(compare(values[values["input_fwhm_mm"] == "n/a"], ["srgan"]).itertuples())
    assert unknown.n == 4
    assert "unknown" in context_text(unknown)
