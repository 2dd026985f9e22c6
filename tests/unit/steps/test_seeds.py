"""Seeds are placed in the run by the transforms that bring its maps to the template; those outside
are left out.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bids_sr.config.seeds import Seed
from bids_sr.glm.model_confounds import MOTION
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.volume import Volume
from bids_sr.region_names import find_atlas
from bids_sr.registration.ants import apply, apply_to_points, load
from bids_sr.registration.bold_regions import boldref_onward
from bids_sr.registration.templates import atlas_region
from bids_sr.spatial.itk_files import write_itk
from bids_sr.steps.seeds import (
    _place_seeds,
    _voxels_in_region,
    component_series,
    own_seed_series,
    seed_series,
)

SHAPE, T = (10, 10, 8), 40
AAL2 = pd.DataFrame({"index": find_atlas().labels.values(), "name": list(find_atlas().labels)})
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
AFFINE[:3, 3] = -18.0, -18.0, -14.0


def moved(x: float, y: float, z: float, turn: float = 0.0) -> np.ndarray:
    out = np.eye(4)
    out[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    out[:3, 3] = x, y, z
    return out


@pytest.fixture
def run(tmp_path: Path) -> dict[str, Any]:
    """A series whose voxels tell where they are, its mask, and two transforms."""
    write_itk(tmp_path / "t1w2std.txt", moved(-6.0, 0.0, 4.0))
    write_itk(tmp_path / "std2t1w.txt", moved(6.0, 0.0, -4.0))
    rng = np.random.default_rng(0)
    data = (
        np.arange(np.prod(SHAPE)).reshape(SHAPE)[..., None]
        + 0.1 * np.arange(T)
        + rng.normal(size=(*SHAPE, T))
    )
    save_image(data.astype(np.float32), AFFINE, tmp_path / "bold.nii", tr=2.0)
    return {
        "preproc": SeriesReader(tmp_path / "bold.nii"),
        "bold_mask": Volume(np.ones(SHAPE, dtype=bool), AFFINE),
        "confounds": pd.DataFrame(rng.normal(size=(T, len(MOTION))), columns=list(MOTION)),
        "boldref2t1w_xfm": moved(2.0, -4.0, 0.0, 0.1)[None],
        "t1w2std_xfm": tmp_path / "t1w2std.txt",
        "atlas_source": load(find_atlas().image),
        "atlas_labels": AAL2,
        "atlas_xfms": [tmp_path / "std2t1w.txt"],
        "here": tmp_path,
        "n_dummy": 2,
        "tr": 2.0,
        "high_pass": 1 / 128,
        "start_time": 1.0,
        "nuisance": None,
    }


def test_points_go_where_images_come_from(run: dict[str, Any], tmp_path: Path) -> None:
    write_itk(tmp_path / "boldref2t1w.txt", run["boldref2t1w_xfm"])
    chain = [tmp_path / "boldref2t1w.txt", run["t1w2std_xfm"]]
    (point,) = apply_to_points([(2.0, 6.0, -2.0)], chain, seed=1)
    expected = moved(2.0, -4.0, 0.0, 0.1) @ moved(-6.0, 0.0, 4.0) @ np.array([2.0, 6.0, -2.0, 1.0])
    assert point == pytest.approx(expected[:3], abs=1e-4)
    # each voxel its own place along x
    x = np.arange(SHAPE[0])[:, None, None] * 4.0 - 18 + np.zeros(SHAPE)
    shown = apply(
        Volume(x, AFFINE), Volume(np.zeros((1, 1, 1)), moved(2.0, 6.0, -2.0)), chain, seed=1
    )
    assert float(shown[0, 0, 0]) == pytest.approx(point[0], abs=1e-3)


def test_a_seed_is_the_mean_of_its_voxels(run: dict[str, Any], tmp_path: Path) -> None:
    seeds = [Seed("here", radius_mm=4.1), Seed("far", (300.0, 0.0, 0.0), 4.1)]
    made, facts = seed_series(seeds=seeds, **run)
    made.write(tmp_path / "seeds_timeseries.tsv")
    table = pd.read_csv(tmp_path / "seeds_timeseries.tsv", sep="\t", na_values="n/a")
    assert list(table) == ["here"]
    assert len(table) == T
    assert table["here"].isna().sum() == 2
    places = np.argwhere(np.ones(SHAPE)) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    inside = np.linalg.norm(places - facts["here"]["CenterBoldref"], axis=1) <= 4.1
    about = facts["here"]["Description"]
    assert f"mean time series of {inside.sum()} voxels within 4.1 mm of the seed" in about
    assert "regression of drift and confounds" in about
    mean = np.array([volume.ravel()[inside].mean() for volume in run["preproc"].volumes(2)])
    # a drift differs little
    assert np.corrcoef(np.diff(mean), np.diff(table["here"][2:]))[0, 1] > 0.5
    assert np.abs(np.corrcoef(run["confounds"][2:].T, table["here"][2:])[-1, :-1]).max() < 1e-6
    assert (
        np.abs(np.corrcoef(np.arange(T - 2), mean)[0, 1])
        > 0.5
        > np.abs(np.corrcoef(np.arange(T - 2), table["here"][2:])[0, 1])
    )
    assert facts["far"]["Description"].startswith(
        "skipped: the brain mask contains no voxels within"
    )


def test_without_a_template_centers_are_those_of_the_run(run: dict[str, Any]) -> None:
    seed = Seed("here", (2.0, 6.0, -2.0), 4.1)
    run |= {"atlas_source": None, "atlas_labels": None, "atlas_xfms": ()}
    by_template, told = seed_series(seeds=[seed], **run)
    at = told["here"]["CenterBoldref"]
    run |= {"boldref2t1w_xfm": None, "t1w2std_xfm": None}
    made, facts = seed_series(seeds=[Seed("here", tuple(at), 4.1)], **run)
    assert facts["here"]["CenterBoldref"] == at
    np.testing.assert_array_equal(made.table["here"], by_template.table["here"])
    other, facts = seed_series(seeds=[seed], **run)
    assert facts["here"]["CenterBoldref"] == [2.0, 6.0, -2.0] != at
    assert not np.allclose(other.table["here"][2:], made.table["here"][2:])


def test_without_any_seed_in_the_field_of_view_components_are_mapped(
    run: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    seeds = [Seed("far", (300.0, 0.0, 0.0), 3.0), Seed("farther", (400.0, 0.0, 0.0), 3.0)]
    made, facts = seed_series(seeds=seeds, **run)
    expected, _ = component_series(
        run["preproc"], run["bold_mask"], run["here"], n_dummy=run["n_dummy"]
    )
    assert made.conditions == ["component1", "component2"]  # no more than there are seeds
    pd.testing.assert_frame_equal(made.table, expected.table[made.conditions])
    assert facts["far"]["Description"].startswith(
        "skipped: the brain mask contains no voxels within"
    )
    assert "component2" in facts
    assert "inside the field of view (far, farther)" in caplog.text
    assert "--seeds NAME=x,y,z" in caplog.text


def test_seeds_are_cleared_of_the_confounds_of_the_maps(run: dict[str, Any]) -> None:
    noise = np.random.default_rng(1).normal(size=T)
    run["confounds"] = run["confounds"].assign(csf=noise)
    seed = Seed("here", radius_mm=4.1)

    def correlations(nuisance: list[str] | None) -> np.ndarray:
        made, _ = seed_series(seeds=[seed], **run | {"nuisance": nuisance})
        values = made.table["here"][2:]
        return np.abs(
            [np.corrcoef(values, run["confounds"][c][2:])[0, 1] for c in ("csf", "rot_x")]
        )

    assert correlations(["csf"])[0] < 1e-6 < correlations(["csf"])[1]
    assert correlations(["motion"])[1] < 1e-6 < correlations(["motion"])[0]
    np.testing.assert_array_equal(correlations(None), correlations(["motion", "acompcor"]))


def test_each_series_has_the_seed_of_its_own_voxels(run: dict[str, Any], tmp_path: Path) -> None:
    seeds = [Seed("here", radius_mm=4.1), Seed("far", (300.0, 0.0, 0.0), 4.1)]
    acquired, _ = seed_series(seeds=seeds, **run)
    rng = np.random.default_rng(7)
    fine = np.diag([2.0, 2.0, 4.0, 1.0])
    fine[:3, 3] = -19.0, -19.0, -14.0  # the same field of view
    shape = (20, 20, 8)
    data = 1000 + rng.normal(size=(*shape, T))
    save_image(data.astype(np.float32), fine, tmp_path / "fine.nii", tr=2.0)
    given = {k: v for k, v in run.items() if k not in ("preproc", "bold_mask")}
    mask = Volume(np.ones(shape, dtype=bool), fine)
    with SeriesReader(tmp_path / "fine.nii") as series:
        made, facts = own_seed_series(
            series=series, mask=mask, regressors=acquired, seeds=seeds, **given
        )
    assert made.conditions == ["here"]
    places = np.argwhere(np.ones(shape)) @ fine[:3, :3].T + fine[:3, 3]
    inside = np.linalg.norm(places - facts["here"]["CenterBoldref"], axis=1) <= 4.1
    mean = data.reshape(-1, T)[inside].mean(axis=0)
    assert np.corrcoef(np.diff(mean[2:]), np.diff(made.table["here"][2:]))[0, 1] > 0.5
    assert abs(np.corrcoef(acquired.table["here"][2:], made.table["here"][2:])[0, 1]) < 0.5
    components, _ = component_series(
        run["preproc"], run["bold_mask"], run["here"], n_dummy=run["n_dummy"]
    )
    with SeriesReader(tmp_path / "fine.nii") as series:
        same, _ = own_seed_series(
            series=series, mask=mask, regressors=components, seeds=seeds, **given
        )
    assert same is components


def test_components_take_the_place_of_seeds(run: dict[str, Any], tmp_path: Path) -> None:
    made, _ = component_series(run["preproc"], run["bold_mask"], tmp_path, n_dummy=2)
    made.write(tmp_path / "seeds_timeseries.tsv")
    table = pd.read_csv(tmp_path / "seeds_timeseries.tsv", sep="\t", na_values="n/a")
    assert list(table) == ["component1", "component2", "component3"]
    assert np.allclose(table[2:].T @ table[2:], np.eye(3), atol=1e-5)


def test_a_region_of_the_atlas_is_a_seed(run: dict[str, Any]) -> None:
    seeds = [
        Seed("putamen", labels=("Putamen_L", "Putamen_R")),
        Seed("visual", labels=("Calcarine_L",)),
    ]
    made, facts = seed_series(seeds=seeds, **run)
    assert facts["putamen"]["Labels"] == ["Putamen_L", "Putamen_R"]
    assert "voxels with the specified labels" in facts["putamen"]["Description"]
    assert (
        facts["visual"]["Description"]
        == "skipped: the brain mask contains no voxels with the label Calcarine_L"
    )
    assert made.conditions == ["putamen"]


def test_a_region_of_the_atlas_lies_where_a_sphere_at_its_center_lies(tmp_path: Path) -> None:
    region = atlas_region(load(find_atlas().image), ("Precentral_L",), find_atlas().labels)
    center = (np.argwhere(region.data) @ region.affine[:3, :3].T + region.affine[:3, 3]).mean(0)
    shape, affine = (64, 76, 64), np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = -96.0, -140.0, -96.0
    shift = moved(4.0, -12.0, -15.0)  # a head that lies lower and further back than the template
    boldref2t1w = moved(2.0, -4.0, 0.0, 0.1)
    write_itk(tmp_path / "boldref2t1w.txt", boldref2t1w)
    write_itk(tmp_path / "t1w2std.txt", shift)
    write_itk(tmp_path / "std2t1w.txt", np.linalg.inv(shift))
    x, y, z = map(float, center)
    seeds = [Seed("sphere", (x, y, z), 6.0), Seed("region", labels=("Precentral_L",))]
    chain = [tmp_path / "boldref2t1w.txt", tmp_path / "t1w2std.txt"]
    points = apply_to_points([seed.center for seed in seeds], chain, seed=1)
    back = boldref_onward(boldref2t1w, [tmp_path / "std2t1w.txt"], tmp_path)
    brain = Volume(np.ones(shape, dtype=bool), affine)
    voxels, _ = _place_seeds(
        seeds, brain, points, {"region": _voxels_in_region(region, brain, back)}
    )
    sphere, own = (
        np.argwhere(voxels[name]).mean(0) @ affine[:3, :3].T + affine[:3, 3]
        for name in ("sphere", "region")
    )
    assert np.linalg.norm(own - sphere) < 3.0
