"""The group report: sentences derived from comparisons, figures, and escaped input."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data.group_tables import BEYOND, cohort, joined, values_of
from data.page import MARKUP, Page, read_numbers

from bids_sr.group import (
    comparisons as group_comparisons,
    figures as group_figures,
    verdicts as group_verdicts,
)
from bids_sr.group.input_tables import find_tables
from bids_sr.group.map_records import GroupMaps
from bids_sr.group.output_files import GroupNames
from bids_sr.group.page import write_group_page
from bids_sr.group.paired_values_figure import plot_paired_values
from bids_sr.group.report import RunsContent, count_runs_by_task, describe_runs
from bids_sr.group.tables import write_tables
from bids_sr.group.values import participants_by_series
from bids_sr.io.nifti import save_image
from bids_sr.io.volume import Volume
from bids_sr.report.figures.canvas import FigureInputError

NAMES = ("sbl", "srgan")


def make_comparisons(folder: Path, count: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return comparisons and values of a cohort."""
    cohort(folder, count)
    values = joined(folder).values
    return group_comparisons.compare(values, NAMES), values


def detail_rows(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["statistic"] == BEYOND["statistic"]]


def test_sizes_are_a_finding_of_each_condition_of_a_pair(tmp_path: Path) -> None:
    comparisons, _ = make_comparisons(tmp_path, 12)
    findings = group_verdicts.select_findings(comparisons, NAMES, {})
    sizes = [finding for finding in findings if finding[0].kind == group_verdicts.SIZE]
    assert len(sizes) == 3


def test_all_participants_are_plotted(tmp_path: Path) -> None:
    _, values = make_comparisons(tmp_path, 5)
    fig = plot_paired_values([("", group_figures.select_series(detail_rows(values), NAMES))])
    (ax,) = fig.axes
    labels = [text.get_text() for text in ax.get_xticklabels()]
    assert labels == ["bspline", "zerofill", "inject", "sbl", "srgan", "measured"]
    points = [line for line in ax.lines if line.get_marker() == "o"]
    assert [len(line.get_ydata()) for line in points] == [5] * 6
    medians = participants_by_series(detail_rows(values)).median()[labels].sort_values().tolist()
    plotted_medians = sorted(
        float(line.get_ydata()[0]) for line in ax.lines if line.get_linewidth() == 2.2
    )
    assert plotted_medians == pytest.approx(medians)


def test_undefined_values_cannot_be_plotted() -> None:
    with pytest.raises(FigureInputError):
        plot_paired_values(
            [("", group_figures.select_series(values_of({"sbl": {"sub-01": np.nan}}), NAMES))]
        )


def is_inside(fig) -> bool:
    box, (wide, tall) = fig.get_tightbbox(), fig.get_size_inches()
    return box.x0 >= 0 and box.y0 >= 0 and box.x1 <= wide and box.y1 <= tall


def test_long_labels_stay_within_the_figure(tmp_path: Path) -> None:
    _, values = make_comparisons(tmp_path, 5)
    participants = [f"sub-averylongparticipantlabel{n}" for n in range(5)]
    long = {label: 0.1 * n for n, label in enumerate(participants)}
    series = group_figures.select_series(
        pd.concat([values_of({"bsplineSmooth": long, "bsplinePca": long}), detail_rows(values)]),
        NAMES,
    )
    assert is_inside(plot_paired_values([("", series), ("", series)]))


def write_page(folder: Path, count: int, **overrides: object) -> Page:
    """Return the page of a cohort."""
    cohort(folder, count)
    tables = find_tables(folder)
    names, method = GroupNames(), "sbl"
    written = write_tables(folder, names, tables, default_method=method)
    contents = {
        "names": names,
        "runs": tables,
        "tables": joined(folder),
        "tasks": count_runs_by_task(tables),
        "comparisons": written.comparisons,
        "maps": GroupMaps(),
        "absent": [],
        "notes": [],
        "verdicts": [],
        "method": method,
        "requested_margin": None,
        "about": {"Command": "bids-sr"},
    }
    path = write_group_page(folder, describe_runs(folder, RunsContent(**contents | overrides)))
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_begins_with_the_values_of_all_participants_and_escapes_input(
    tmp_path: Path,
) -> None:
    page = write_page(tmp_path, 6, absent=[MARKUP], notes=[MARKUP], about={"Command": MARKUP})
    assert len(page.all("script")) == 1
    assert page.text.count(MARKUP) >= 3
    assert [section.attributes["id"] for section in page.all("section")] == [
        *("overview", "why", "comparisons", "maps", "paper", "participants", "methods", "about")
    ]
    assert "items are not available: group maps" in page.section("maps").text
    figures = [image for image in page.all("img") if "svg" in image.attributes["src"]]
    assert len(list((tmp_path / "group" / "figures").glob("*.svg"))) == len(figures)
    heads, *lines = next(
        table for table in page.tables.values() if {"sbl", "srgan"} <= set(table[0])
    )
    values = participants_by_series(detail_rows(joined(tmp_path).values))
    assert [line[0] for line in lines if line[0].startswith("sub-")] == list(values.index)
    for head in set(heads) & set(values):
        shown = {line[0]: read_numbers(line[heads.index(head)])[0] for line in lines}
        percents = 100 * values[head]
        assert [shown[label] for label in values.index] == pytest.approx(percents, abs=0.6)


def test_overlap_of_regions_is_plotted_and_has_p_values_as_in_the_paper(tmp_path: Path) -> None:
    cohort(tmp_path, 6)
    tables = joined(tmp_path)
    values = tables.values.copy()
    dice = (values["statistic"] == "dice") & (values["series"] == "sbl")
    values.loc[dice, "sub-02"] = 0.65  # 0.6 in the acquired series, which is larger otherwise
    page = write_page(tmp_path, 6, tables=replace(tables, values=values))
    heads, *lines = next(
        table for table in page.tables.values() if "Dice: median (IQR)" in table[0]
    )
    (cells,) = (line for line in lines if line[0] == "sbl")
    # the smallest of 5 differences has the other sign: 4 / 2**5
    assert cells[heads.index("Dice: median (IQR)") + 1].startswith(".125")
    (file,) = (tmp_path / "group" / "figures").glob("*desc-paper0*.svg")
    figure = file.read_text(encoding="utf-8")
    for title in ("size, thumb", "size, little", "Dice"):
        assert title in figure


@pytest.fixture(scope="module")
def group_maps(tmp_path_factory: pytest.TempPathFactory) -> GroupMaps:
    """Return maps of two variants of a task."""
    rng, folder = np.random.default_rng(3), tmp_path_factory.mktemp("maps")
    affine, ones = np.diag([4.0, 4.0, 4.0, 1.0]), np.ones((12, 12, 8))
    cells = {"task": "tap", "contrast": "thumb", "series": "bspline", "fwhm_mm": 0.0}
    cells |= {"participants": ("01", "02", "03"), "peak_z": 5.0, "peak_mm": (0.0, 0.0, 0.0)}
    cells |= {"active_mm3": 9.0, "fdr_z": 3.4, "fdr_mm3": 8.0}
    maps = []
    for variant in ("dir-AP", "dir-PA"):
        path = folder / f"{variant}.nii.gz"
        save_image(rng.normal(0, 3, ones.shape).astype(np.float32), affine, path)
        maps.append({**cells, "variant": variant, "z": path, "effect": path})
    return GroupMaps(
        space="MNI",
        maps=pd.DataFrame(maps),
        background=Volume(ones, affine),
        mask=Volume(ones > 0, affine),
    )


def test_each_variant_has_a_viewer_of_effect_and_z(tmp_path: Path, group_maps: GroupMaps) -> None:
    corrected = group_maps.maps.assign(fwe_t=[7.25, np.inf], fwe_mm3=[16.0, 0.0])
    page = write_page(tmp_path, 3, maps=replace(group_maps, maps=corrected))
    section = page.section("maps")
    viewers = [json.loads(script.children[0]) for script in section.all("script")]
    for viewer, variant in zip(viewers, ("dir-AP", "dir-PA"), strict=True):
        assert f"Task tap, {variant}" in section.text
        assert viewer["statistics"] == ["effect", "z"]
        assert viewer["space"] == "MNI"
        file = f"group/{variant}.nii.gz"
        assert viewer["files"] == dict.fromkeys(
            ("thumb|none|effect|bspline", "thumb|none|z|bspline"), file
        )
    assert viewers[0]["maps"] != viewers[1]["maps"]
    heads, line, *_ = next(
        table for table in page.tables.values() if any("FWE" in head for head in table[0])
    )
    column = next(k for k, head in enumerate(heads) if "FWE" in head)
    assert line[column : column + 2] == ["7.25", "16"]


def test_the_first_screen_shows_maps_of_interpolation_and_method_and_links_one(
    tmp_path: Path, group_maps: GroupMaps
) -> None:
    assert not write_page(tmp_path, 3).all(css="picture")
    (tmp_path / "group").mkdir(exist_ok=True)
    linked = tmp_path / "group" / group_maps.maps["z"].iloc[1].name
    linked.write_bytes(b"")
    series = group_maps.maps.assign(variant="n/a", series=["bspline", "sbl"])
    page = write_page(tmp_path, 3, maps=replace(group_maps, maps=series))
    (picture,) = page.section("overview").all(css="picture")
    assert [found.text for found in picture.all("figcaption")] == ["B-spline", "sbl"]
    assert "Group z map of thumb" in picture.text
    assert page.links[linked.name] == f"group/{linked.name}"
    other = replace(group_maps, maps=series.assign(task="rest"))
    assert not write_page(tmp_path, 3, maps=other).all(css="picture")
