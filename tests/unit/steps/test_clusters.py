"""Clusters have size, MNI peak and labels of the atlas; without a T1w image coordinates are the scanner's."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bids_sr.interfaces.reporting.map_reportlets import ClustersReport
from bids_sr.interfaces.statmap_interfaces import ClusterTable
from bids_sr.io.nifti import load_image, save_image
from bids_sr.region_names import atlas_labels
from bids_sr.registration.templates import atlas_file
from bids_sr.reports.tables.html_tables import clusters_html
from bids_sr.spatial.transforms import write_itk
from bids_sr.stats.regions.activation_regions import COLUMNS, largest_clusters

SHAPE = (40, 48, 30)
AFFINE = np.diag([4.0, 4.0, 5.0, 1.0])
AFFINE[:3, 3] = -78.0, -110.0, -62.0
SHIFT = (6.0, -4.0, 10.0)  # of the head in the scanner, against the template


def blob(values: np.ndarray, mni: tuple[float, float, float], size: int, height: float) -> None:
    """A cube of voxels around a place that is given in MNI coordinates."""
    at = np.linalg.inv(AFFINE) @ [*(np.array(mni) + SHIFT), 1.0]
    x, y, z = np.round(at[:3]).astype(int)
    values[x : x + size, y : y + size, z : z + size] = 4.0
    values[x, y, z] = height


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, object]:
    """A z map with a large cluster in the left calcarine and a smaller, higher one in the right precentral gyrus."""
    move = np.eye(4)
    move[:3, 3] = SHIFT
    write_itk(tmp_path / "boldref2t1w.txt", move)
    write_itk(tmp_path / "std2t1w.txt", np.eye(4))
    values = np.zeros(SHAPE, dtype=np.float32)
    blob(values, (-10.0, -80.0, 6.0), 3, 5.0)
    blob(values, (40.0, -12.0, 52.0), 2, 9.0)
    files, entities = [], []
    for series in ("raw", "bspline", "nearest"):
        for name, data, own in (
            ("z", values, {"contrast": "all", "stat": "z", "desc": f"{series}Fwhm50", "suffix": "statmap"}),
            ("fdr", values > 3, {"label": "all", "desc": f"{series}Fwhm50Fdr", "suffix": "mask"}),
            ("quarter", values > 8, {"label": "all", "desc": f"{series}Fwhm50Quarter", "suffix": "mask"}),
        ):
            save_image(data, AFFINE, tmp_path / f"{series}_{name}.nii")
            files.append(str(tmp_path / f"{series}_{name}.nii"))
            entities.append(own)
    return {"in_files": files, "in_entities": entities, "series": ["raw", "bspline"]}


def placed(tmp_path: Path) -> dict[str, str]:
    return {"boldref2t1w_xfm": str(tmp_path / "boldref2t1w.txt"), "std2t1w_xfm": str(tmp_path / "std2t1w.txt")}


def made(inputs: dict[str, object], tmp_path: Path, **more: str) -> pd.DataFrame:
    done = ClusterTable(**inputs, **more).run(cwd=tmp_path)
    return pd.read_csv(done.outputs.out_file, sep="\t", keep_default_na=False)


def test_clusters_have_mni_coordinates_and_labels(inputs: dict[str, object], tmp_path: Path) -> None:
    table = made(inputs, tmp_path, **placed(tmp_path))
    assert list(table) == list(COLUMNS)
    assert table["series"].tolist() == ["raw", "raw", "bspline", "bspline"]  # only those asked for
    assert (table["space"] == "MNI").all()
    assert (table["threshold"] == "Fdr").all()
    large, small = table.iloc[0], table.iloc[1]
    assert (large["volume_mm3"], small["volume_mm3"]) == (27 * 80, 8 * 80)
    assert (large["peak"], small["peak"]) == (5.0, 9.0)
    assert large["labels"].startswith("Calcarine_L")
    for row, at in ((large, (-10.0, -80.0, 6.0)), (small, (40.0, -12.0, 52.0))):
        assert np.abs(row[["x", "y", "z"]].to_numpy(float) - at).max() <= 2.6  # half a voxel
        atlas, affine = load_image(atlas_file())
        index = np.round(np.linalg.inv(affine)[:3] @ [*row[["x", "y", "z"]].astype(float), 1.0]).astype(int)
        number = int(atlas[tuple(index)])
        name = next((name for name, value in atlas_labels().items() if value == number), "n/a")
        assert row["label"] == name


def test_without_a_t1w_image_coordinates_are_the_scanners(inputs: dict[str, object], tmp_path: Path) -> None:
    table = made(inputs, tmp_path)
    assert (table["space"] == "scanner").all()
    assert (table[["label", "labels"]] == "n/a").all(axis=None)
    with_anat = made(inputs, tmp_path, **placed(tmp_path))
    shift = table[["x", "y", "z"]].to_numpy(float) - with_anat[["x", "y", "z"]].to_numpy(float)
    assert np.allclose(shift, SHIFT, atol=0.06)


def test_the_ten_largest_are_kept() -> None:
    values = np.zeros((60, 3, 3))
    for n in range(12):
        values[5 * n : 5 * n + 1 + n // 3, 1, 1] = 3.0 + n
    found = largest_clusters(values, values > 0)
    assert [len(each.voxels) for each in found] == [4, 4, 4, 3, 3, 3, 2, 2, 2, 1]
    assert [each.value for each in found][:3] == [14.0, 13.0, 12.0]  # the higher first where sizes are equal
    assert largest_clusters(values, values > 99) == []


def test_the_report_shows_the_series_that_are_compared(inputs: dict[str, object], tmp_path: Path) -> None:
    done = ClusterTable(**inputs, **placed(tmp_path)).run(cwd=tmp_path)
    drawn = ClustersReport(clusters_tsv=done.outputs.out_file, series_names=["bspline", "sbl"]).run(cwd=tmp_path)
    html = Path(drawn.outputs.out_files[0]).read_text()
    assert "Calcarine_L" in html
    assert "MNI, mm" in html
    assert "bspline" in html
    assert ">raw<" not in html


def test_the_clusters_of_the_judged_contrast_are_open() -> None:
    row = dict.fromkeys(COLUMNS, "1") | {"series": "sbl", "fwhm_mm": "0"}
    html = clusters_html([row | {"contrast": name} for name in ("faces", "houses")], ["sbl"], first="houses")
    titles = re.findall(r'data-title="Largest clusters: (\w+),', html)
    assert titles == ["houses", "faces"]  # the page shows the first of several tables


def test_a_map_without_activity_is_said(inputs: dict[str, object], tmp_path: Path) -> None:
    for path in inputs["in_files"]:
        save_image(np.zeros(SHAPE, dtype=np.float32), AFFINE, path)
    done = ClusterTable(**inputs, **placed(tmp_path)).run(cwd=tmp_path)
    drawn = ClustersReport(clusters_tsv=done.outputs.out_file, series_names=["bspline"]).run(cwd=tmp_path)
    assert "No voxel of any series is above the threshold" in Path(drawn.outputs.out_files[0]).read_text()
