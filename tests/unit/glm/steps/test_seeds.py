"""Test seeds: they are placed in the run by the transforms to the template, and seeds outside are
skipped.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level.design_matrix import create_cosine_drift
from scipy.ndimage import gaussian_filter

from bids_sr.glm.connectivity_seeds import Seed
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.steps.atlas_regions import Atlas
from bids_sr.glm.steps.linear_models import DesignInputs
from bids_sr.glm.steps.mapped_series import MaskedSeries
from bids_sr.glm.steps.seeds import SeedTemplate, component_series, own_seed_series, seed_series
from bids_sr.io.confound_names import MOTION_REGRESSORS
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.region_names import find_atlas
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import load
from bids_sr.preproc.templates import atlas_region
from bids_sr.spatial.itk_files import write_itk

SHAPE, T = (10, 10, 8), 40
AAL2 = pd.DataFrame({"index": find_atlas().labels.values(), "name": list(find_atlas().labels)})
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
AFFINE[:3, 3] = -18.0, -18.0, -14.0


def shift_xfm(x: float, y: float, z: float, turn: float = 0.0) -> np.ndarray:
    xfm = np.eye(4)
    xfm[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    xfm[:3, 3] = x, y, z
    return xfm


@pytest.fixture
def run(tmp_path: Path) -> dict[str, Any]:
    """Return a series with distinct voxels, its mask, and two transforms, as inputs of the
    steps.
    """
    write_itk(tmp_path / "t1w2std.txt", shift_xfm(-6.0, 0.0, 4.0))
    write_itk(tmp_path / "std2t1w.txt", shift_xfm(6.0, 0.0, -4.0))
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
        "confounds": pd.DataFrame(
            rng.normal(size=(T, len(MOTION_REGRESSORS))), columns=list(MOTION_REGRESSORS)
        ),
        "template": SeedTemplate(
            boldref2t1w_xfm=shift_xfm(2.0, -4.0, 0.0, 0.1)[None],
            t1w2std_xfm=tmp_path / "t1w2std.txt",
            atlas=Atlas(
                atlas_source=load(find_atlas().image),
                atlas_labels=AAL2,
                atlas_xfms=[tmp_path / "std2t1w.txt"],
            ),
        ),
        "here": tmp_path,
        "n_dummy": 2,
        "design": DesignSettings(),
        "nuisance": None,
    }


def test_a_seed_is_the_mean_of_its_voxels(run: dict[str, Any], tmp_path: Path) -> None:
    seeds = [
        Seed("here", radius_mm=4.1),
        Seed("far", (300.0, 0.0, 0.0), 4.1),
        Seed("visual", labels=("Calcarine_L",)),
    ]
    regressors, facts = seed_series(seeds=seeds, **run)
    assert "Calcarine_L" in facts["visual"]["Description"]
    regressors.write(tmp_path / "seeds_timeseries.tsv")
    table = pd.read_csv(tmp_path / "seeds_timeseries.tsv", sep="\t", na_values="n/a")
    assert list(table) == ["here"]
    assert len(table) == T
    assert table["here"].isna().sum() == 2
    voxel_mm = np.argwhere(np.ones(SHAPE)) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    inside = np.linalg.norm(voxel_mm - facts["here"]["CenterBoldref"], axis=1) <= 4.1
    assert f"{inside.sum()} voxels within 4.1 mm" in facts["here"]["Description"]
    mean = np.array([volume.ravel()[inside].mean() for volume in run["preproc"].volumes(2)])
    # Regression of a drift hardly changes differences.
    assert np.corrcoef(np.diff(mean), np.diff(table["here"][2:]))[0, 1] > 0.5
    assert np.abs(np.corrcoef(run["confounds"][2:].T, table["here"][2:])[-1, :-1]).max() < 1e-6
    assert (
        np.abs(np.corrcoef(np.arange(T - 2), mean)[0, 1])
        > 0.5
        > np.abs(np.corrcoef(np.arange(T - 2), table["here"][2:])[0, 1])
    )
    assert facts["far"]["Description"].startswith("skipped")


def test_without_a_template_centers_are_in_the_space_of_the_run(run: dict[str, Any]) -> None:
    seed = Seed("here", (2.0, 6.0, -2.0), 4.1)
    run["template"] = replace(run["template"], atlas=None)
    from_template, template_facts = seed_series(seeds=[seed], **run)
    center = template_facts["here"]["CenterBoldref"]
    run["template"] = None
    from_run, facts = seed_series(seeds=[Seed("here", tuple(center), 4.1)], **run)
    assert facts["here"]["CenterBoldref"] == center
    np.testing.assert_array_equal(from_run.table["here"], from_template.table["here"])
    uncorrected, facts = seed_series(seeds=[seed], **run)
    assert facts["here"]["CenterBoldref"] == [2.0, 6.0, -2.0] != center
    assert not np.allclose(uncorrected.table["here"][2:], from_run.table["here"][2:])


def test_without_a_seed_in_the_field_of_view_components_are_mapped(
    run: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    seeds = [Seed("far", (300.0, 0.0, 0.0), 3.0), Seed("farther", (400.0, 0.0, 0.0), 3.0)]
    regressors, facts = seed_series(seeds=seeds, **run)
    expected, _ = component_series(
        run["preproc"], run["bold_mask"], run["here"], n_dummy=run["n_dummy"]
    )
    # There are at most as many components as seeds.
    assert regressors.conditions == ["component1", "component2"]
    pd.testing.assert_frame_equal(regressors.table, expected.table[regressors.conditions])
    assert facts["far"]["Description"].startswith("skipped")
    assert "component2" in facts
    assert "far, farther" in caplog.text
    assert "--set activation.seeds" in caplog.text


def test_seeds_are_corrected_for_the_confounds_of_the_maps(run: dict[str, Any]) -> None:
    noise = np.random.default_rng(1).normal(size=T)
    run["confounds"] = run["confounds"].assign(csf=noise)
    seed = Seed("here", radius_mm=4.1)

    def correlations(nuisance: list[str] | None) -> np.ndarray:
        regressors, _ = seed_series(seeds=[seed], **run | {"nuisance": nuisance})
        values = regressors.table["here"][2:]
        return np.abs(
            [
                np.corrcoef(values, run["confounds"][confound][2:])[0, 1]
                for confound in ("csf", "rot_x")
            ]
        )

    assert correlations(["csf"])[0] < 1e-6 < correlations(["csf"])[1]
    assert correlations(["motion"])[1] < 1e-6 < correlations(["motion"])[0]
    np.testing.assert_array_equal(correlations(None), correlations(["motion", "acompcor"]))


def test_each_series_can_have_seeds_from_its_own_voxels(
    run: dict[str, Any], tmp_path: Path
) -> None:
    seeds = [
        Seed("here", radius_mm=4.1),
        Seed("beside", (12.0, 0.0, 0.0), 4.1),
        Seed("far", (300.0, 0.0, 0.0), 4.1),
    ]
    acquired, _ = seed_series(seeds=seeds, **run)
    rng = np.random.default_rng(7)
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    affine[:3, 3] = -19.0, -19.0, -14.0  # The field of view is the same.
    shape = (20, 20, 8)
    data = 1000 + rng.normal(size=(*shape, T))
    save_image(data.astype(np.float32), affine, tmp_path / "fine.nii", tr=2.0)
    inputs = DesignInputs(
        regressors=acquired,
        confounds=run["confounds"],
        n_dummy=run["n_dummy"],
        design=run["design"],
    )
    own_seeds = partial(
        own_seed_series,
        template=run["template"],
        here=tmp_path,
        seeds=seeds,
        nuisance=None,
        smoothing=[0.0, 5.0],
    )
    mask = Volume(np.ones(shape, dtype=bool), affine)
    with SeriesReader(tmp_path / "fine.nii") as series:
        masked = MaskedSeries(series_name="sbl", series=series, mask=mask)
        (own_regressors, smoothed), table, facts = own_seeds(masked, inputs)
    assert own_regressors.conditions == smoothed.conditions == ["here", "beside"]
    assert list(table) == ["here", "beside", "hereFwhm50", "besideFwhm50"] == list(facts)
    assert [fact["SmoothingFWHM"] for fact in facts.values()] == [0.0, 0.0, 5.0, 5.0]
    voxel_mm = np.argwhere(np.ones(shape)) @ affine[:3, :3].T + affine[:3, 3]
    inside = {
        name: np.linalg.norm(voxel_mm - facts[name]["CenterBoldref"], axis=1) <= 4.1
        for name in ("here", "beside")
    }
    sigmas = 5.0 / np.sqrt(8 * np.log(2)) / np.array([2.0, 2.0, 4.0])
    blurred = gaussian_filter(data, (*sigmas, 0.0), mode="nearest")
    for name, is_inside in inside.items():
        for column, volumes in ((name, data), (f"{name}Fwhm50", blurred)):
            closed_form = _without_nuisance(
                volumes.reshape(-1, T)[is_inside].mean(axis=0)[2:], run["confounds"]
            )
            np.testing.assert_allclose(table[column][2:], closed_form, atol=2e-4)
    assert (np.corrcoef(table[2:].T)[np.triu_indices(4, 1)] < 0.95).all()
    mean = data.reshape(-1, T)[inside["here"]].mean(axis=0)
    assert np.corrcoef(np.diff(mean[2:]), np.diff(own_regressors.table["here"][2:]))[0, 1] > 0.5
    assert (
        abs(np.corrcoef(acquired.table["here"][2:], own_regressors.table["here"][2:])[0, 1]) < 0.5
    )
    components, _ = component_series(
        run["preproc"], run["bold_mask"], run["here"], n_dummy=run["n_dummy"]
    )
    with SeriesReader(tmp_path / "fine.nii") as series:
        unchanged, table, _ = own_seeds(masked, replace(inputs, regressors=components))
    assert unchanged == [components, components]
    assert list(table) == components.conditions


def _without_nuisance(values: np.ndarray, confounds: pd.DataFrame) -> np.ndarray:
    """Return residuals of a time series without dummies from drift and motion (TR 2 s)."""
    nuisance = np.column_stack(
        [create_cosine_drift(1 / 128, np.arange(2, T) * 2.0), confounds[2:]]
    )
    return values - nuisance @ np.linalg.lstsq(nuisance, values, rcond=None)[0]


def test_an_atlas_region_is_placed_like_a_sphere_at_its_center(
    run: dict[str, Any], tmp_path: Path
) -> None:
    """The series of a voxel is a mixture of courses: three by its position, one by the scale."""
    region = atlas_region(load(find_atlas().image), ("Precentral_L",), find_atlas().labels)
    center = (np.argwhere(region.data) @ region.affine[:3, :3].T + region.affine[:3, 3]).mean(0)
    shape, affine = (32, 38, 32), np.diag([6.0, 6.0, 6.0, 1.0])
    affine[:3, 3] = -96.0, -140.0, -96.0
    positions = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    courses = np.random.default_rng(3).normal(size=(T, 4))
    mixture = np.concatenate([positions, np.full((*shape, 1), 50.0)], axis=-1)
    save_image((mixture @ courses.T).astype(np.float32), affine, tmp_path / "a.nii", tr=2.0)
    shift = shift_xfm(4.0, -12.0, -15.0)  # This head is lower and further back than the template.
    write_itk(tmp_path / "t1w2std.txt", shift)
    write_itk(tmp_path / "std2t1w.txt", np.linalg.inv(shift))
    x, y, z = map(float, center)
    regressors, facts = seed_series(
        seeds=[
            Seed("sphere", (x, y, z), 8.0),
            Seed("region", labels=("Precentral_L",)),
        ],
        **run
        | {
            "preproc": SeriesReader(tmp_path / "a.nii"),
            "bold_mask": Volume(np.ones(shape, dtype=bool), affine),
        },
    )
    residuals = _without_nuisance(courses[2:], run["confounds"])
    shares = [
        np.linalg.lstsq(residuals, regressors.table[name][2:], rcond=None)[0]
        for name in ("sphere", "region")
    ]
    sphere_center, region_center = (50 * share[:3] / share[3] for share in shares)
    assert np.linalg.norm(sphere_center - facts["sphere"]["CenterBoldref"]) < 3.0
    assert np.linalg.norm(region_center - sphere_center) < 3.0
    assert facts["region"]["Labels"] == ["Precentral_L"]
