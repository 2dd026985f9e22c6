"""Test tables of clusters: size, MNI peak and atlas labels; without a T1w image, coordinates are
in scanner space.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data.maps import mapped

from bids_sr.engine.artifacts import Derivative
from bids_sr.glm.clusters import COLUMNS, find_nearest_label, largest_clusters
from bids_sr.glm.steps.atlas_regions import Atlas
from bids_sr.glm.steps.clusters import list_clusters
from bids_sr.io.nifti import load_image
from bids_sr.io.region_names import find_atlas
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import load
from bids_sr.preproc.steps.aligned_series import BoldBrain
from bids_sr.report.cluster_tables import clusters_html
from bids_sr.spatial.itk_files import write_itk

SHAPE = (40, 48, 30)
AFFINE = np.diag([4.0, 4.0, 5.0, 1.0])
AFFINE[:3, 3] = -78.0, -110.0, -62.0
SHIFT = (6.0, -4.0, 10.0)  # mm, position of the head in the scanner relative to the template


def blob(values: np.ndarray, mni: tuple[float, float, float], size: int, peak: float) -> None:
    """Set a cube of voxels at MNI coordinates."""
    voxel = np.linalg.inv(AFFINE) @ [*(np.array(mni) + SHIFT), 1.0]
    x, y, z = np.round(voxel[:3]).astype(int)
    values[x : x + size, y : y + size, z : z + size] = 4.0
    values[x, y, z] = peak


def maps_of(values: np.ndarray) -> list[Derivative]:
    """Return the map of three series, and two regions per series."""
    derivatives = []
    for series in ("acquired", "bspline", "nearest"):
        for data, entities in (
            (
                values,
                {"contrast": "all", "stat": "z", "desc": f"{series}Fwhm50", "suffix": "statmap"},
            ),
            (values > 3, {"label": "all", "desc": f"{series}Fwhm50Fdr", "suffix": "mask"}),
            (values > 8, {"label": "all", "desc": f"{series}Fwhm50Quarter", "suffix": "mask"}),
        ):
            derivatives.append(mapped(Volume(data, AFFINE), entities))
    return derivatives


@pytest.fixture
def maps() -> list[Derivative]:
    """Return a z map with a large cluster in the left calcarine and a smaller, higher one in the
    right precentral gyrus.
    """
    values = np.zeros(SHAPE, dtype=np.float32)
    blob(values, (-10.0, -80.0, 6.0), 3, 5.0)
    blob(values, (40.0, -12.0, 52.0), 2, 9.0)
    return maps_of(values)


def cluster_table(
    maps: list[Derivative], here: Path, *, in_template: bool = False
) -> pd.DataFrame:
    boldref = Volume(np.full(SHAPE, 500.0, np.float32), AFFINE)
    boldref.data[:, :12] = 200
    brain = Volume(np.ones(SHAPE, bool), AFFINE)
    to_scanner, atlas_inputs = np.eye(4), ()
    to_scanner[:3, 3] = SHIFT
    if in_template:
        write_itk(here / "std2t1w.txt", np.eye(4))
        labels = find_atlas().labels
        table = pd.DataFrame({"index": labels.values(), "name": list(labels)})
        atlas_inputs = (
            to_scanner[None],
            here / "std2t1w.txt",
            Atlas(
                atlas_source=load(find_atlas().image),
                atlas_labels=table,
                atlas_xfms=[here / "std2t1w.txt"],
            ),
        )
    bold_brain = BoldBrain(boldref=boldref, bold_mask=brain, factor=(2.0, 2.0, 1.0))
    table, columns = list_clusters(maps, bold_brain, here, *atlas_inputs, method_names=["sbl"])
    assert tuple(columns) == tuple(COLUMNS)
    return table


def numbers(table: pd.DataFrame, names: list[str]) -> np.ndarray:
    return table[names].to_numpy(dtype=float)


def test_clusters_have_mni_coordinates_and_labels_or_scanner_coordinates(
    maps: list[Derivative], tmp_path: Path
) -> None:
    table = cluster_table(maps, tmp_path, in_template=True)
    assert list(table) == list(COLUMNS)
    # Only requested series are listed.
    assert table["series"].tolist() == ["acquired", "acquired", "bspline", "bspline"]
    assert (table["space"] == "MNI").all()
    assert (table["threshold"] == "Fdr").all()
    large, small = table.iloc[0], table.iloc[1]
    assert (large["volume_mm3"], small["volume_mm3"]) == ("2160", "640")
    assert (large["peak"], small["peak"]) == ("5", "9")
    assert large["labels"].startswith("Calcarine_L")
    for row, mni in ((large, (-10.0, -80.0, 6.0)), (small, (40.0, -12.0, 52.0))):
        assert np.abs(row[["x", "y", "z"]].to_numpy(float) - mni).max() <= 2.6  # half a voxel
        atlas, affine = load_image(find_atlas().image)
        index = np.round(
            np.linalg.inv(affine)[:3] @ [*row[["x", "y", "z"]].astype(float), 1.0]
        ).astype(int)
        number = int(atlas[tuple(index)])
        name = next(
            (name for name, value in find_atlas().labels.items() if value == number), "n/a"
        )
        assert row["label"] == name
    in_scanner = cluster_table(maps, tmp_path)
    assert (in_scanner["space"] == "scanner").all()
    assert (in_scanner[["label", "labels"]] == "n/a").all(axis=None)
    shift = numbers(in_scanner, ["x", "y", "z"]) - numbers(table, ["x", "y", "z"])
    assert np.allclose(shift, SHIFT, atol=0.06)
    for suffix in ("statmap", "mask"):  # series without a map or without a region are not listed
        incomplete = [
            item
            for item in maps
            if item.entities["suffix"] != suffix or not item.entities["desc"].startswith("bspline")
        ]
        assert set(cluster_table(incomplete, tmp_path)["series"]) == {"acquired"}
    smoothed = [
        replace(item, sidecar={**item.sidecar, "InputSmoothingFWHM": 13.2}) for item in maps
    ]
    assert set(cluster_table(smoothed, tmp_path)["input_fwhm_mm"]) == {"13.2"}
    assert set(table["input_fwhm_mm"]) == {"0"}
    assert "13.2 mm" in clusters_html(cluster_table(smoothed, tmp_path), "bspline")
    no_clusters = cluster_table(maps_of(np.zeros(SHAPE, dtype=np.float32)), tmp_path)
    assert list(no_clusters) == list(COLUMNS)
    assert "no clusters" in clusters_html(no_clusters, "bspline")


def test_decreases_form_clusters_of_their_own_with_minima_as_peaks() -> None:
    values = np.zeros((12, 3, 3))
    values[2:5, 1, 1], values[5:9, 1, 1] = (3.0, 5.0, 4.0), (-3.0, -6.0, -4.0, -3.5)
    decrease, increase = largest_clusters(values, np.abs(values) > 2, np.eye(4))
    assert (len(decrease.voxels), decrease.values, decrease.threshold) == (4, (-6.0,), -3.0)
    assert (len(increase.voxels), increase.values, increase.threshold) == (3, (5.0,), 3.0)


def two_peaks(statistic: str) -> list[Derivative]:
    """Return a cluster of 60 mm with peaks at its ends, a lower one between them, and one next to
    the first; z has less range.
    """
    z, t = np.zeros(SHAPE, dtype=np.float32), np.zeros(SHAPE, dtype=np.float32)
    z[10:25, 20, 12] = 4.0
    for x, peak in ((11, 9.0), (12, 8.5), (17, 6.0), (23, 7.0)):
        z[x, 20, 12] = peak / 2 + 2
        t[x, 20, 12] = peak
    entities = {"contrast": "all", "desc": "sbl", "suffix": "statmap"}
    region = mapped(Volume(z > 3, AFFINE), {"label": "all", "desc": "sblFdr", "suffix": "mask"})
    derivatives = [mapped(Volume(z, AFFINE), {**entities, "stat": "z"}), region]
    return [*derivatives, mapped(Volume(t, AFFINE), {**entities, "stat": statistic})]


@pytest.mark.parametrize(
    ("stat", "shown", "peaks"), [("t", "t", ["9", "7", "6"]), ("other", "z", ["6.5", "5.5", "5"])]
)
def test_a_large_cluster_has_further_peaks_8_mm_apart_in_the_statistic_of_the_viewer(
    tmp_path: Path, stat: str, shown: str, peaks: list[str]
) -> None:
    """Without a t map, it is the thresholded map. The peak of 8.5 is only 4 mm from the first."""
    table = cluster_table(two_peaks(stat), tmp_path)
    assert table["cluster"].tolist() == ["1", "1a", "1b"]
    assert (set(table["statistic"]), table["peak"].tolist()) == ({shown}, peaks)
    assert table["volume_mm3"].tolist() == ["1200", "n/a", "n/a"]
    assert numbers(table, ["scanner_x"]).ravel().tolist() == [-34.0, 14.0, -10.0]


def ridge() -> np.ndarray:
    """Return two peaks of 9 and 7 on a connecting plateau of 24 x 24 x 24 mm, with voxels
    of 2 mm.
    """
    values = np.zeros((30, 12, 12), dtype=np.float32)
    values[1:29] = 2.0
    for x, peak in ((6, 9.0), (22, 7.0)):
        values[x - 3 : x + 4, 3:9, 3:9] = 4.0
        values[x, 5, 5] = peak
    return values


def test_a_large_cluster_is_split_at_a_threshold_that_separates_its_peaks() -> None:
    values, affine = ridge(), np.diag([2.0, 2, 2, 1])
    assert (values > 0).sum() * 8 > 10_000
    first, second = largest_clusters(values, values > 0, affine)[:2]
    assert (first.values[0], second.values[0]) == (9.0, 7.0)
    assert len(first.voxels) == len(second.voxels) == 7 * 6 * 6
    assert first.threshold == second.threshold == 4.0
    # With voxels of 1 mm, the region has only 4 cm³ and stays a single cluster at its own
    # threshold.
    (unsplit,) = largest_clusters(values, values > 0, np.eye(4))
    assert (len(unsplit.voxels), unsplit.threshold) == ((values > 0).sum(), 2.0)
    assert unsplit.values == (9.0, 7.0)


def test_a_peak_outside_of_all_labels_gets_the_nearest_label() -> None:
    atlas = np.zeros((20, 5, 5), dtype=int)
    atlas[8, 2, 2], atlas[2, 2, 2], atlas[7, 2, 2] = 3, 4, 99  # Label 99 has no name.
    names, affine = {3: "Cuneus_L", 4: "Lingual_L"}, np.diag([2.0, 3, 3, 1])
    assert find_nearest_label(atlas, (8, 2, 2), affine, names) == ("Cuneus_L", 0.0)
    assert find_nearest_label(atlas, (6, 2, 2), affine, names) == ("Cuneus_L", 4.0)
    assert find_nearest_label(atlas, (8, 4, 2), affine, names) == ("Cuneus_L", 6.0)
    assert find_nearest_label(atlas, (13, 2, 2), affine, names) == ("Cuneus_L", 10.0)
    name, distance = find_nearest_label(atlas, (14, 2, 2), affine, names)  # distance in mm: 12
    assert (name, np.isnan(distance)) == ("n/a", True)
    row = dict.fromkeys(COLUMNS, "1") | {"series": "sbl", "fwhm_mm": "5", "contrast": "all"}
    row |= {"label": "Cuneus_L", "threshold": "Fdr", "cluster": "1"}
    html = clusters_html(
        pd.DataFrame([row | {"label_mm": "4.0"}, row | {"label_mm": "0.0", "cluster": "2"}]), "sbl"
    )
    assert html.replace("\xa0", " ").count("Cuneus_L, 4 mm") == 1
    assert ">Cuneus_L<" in html
