"""Means of regions in contrasts over runs, from simulated tables of runs."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from data.rows import make_tested_rows
from scipy import ndimage, stats

from bids_sr.engine.artifacts import Derivative
from bids_sr.evaluation.changes import find_change, write_change
from bids_sr.glm.steps.atlas_regions import AtlasOfRun
from bids_sr.group.combination.steps.contrasted_regions import add_clusters, contrast_regions
from bids_sr.io.volume import Volume
from bids_sr.spatial.itk_files import write_itk
from bids_sr.survey.preflight.combined_runs import RunTerm

SHAPE, AFFINE = (16, 16, 10), np.diag([3.0, 3.0, 3.0, 1.0])
TERMS = [
    RunTerm(label="ses-2", contrast="hand", weight=1.0, runs=("ses-2",)),
    RunTerm(label="ses-1", contrast="hand", weight=-1.0, runs=("ses-1",)),
]
PLACE = {"Covariance": np.diag([0.04] * 3 + [1e-9] * 3).tolist(), "Center": [0.0, 0.0, 0.0]}


def make_table(effects, *, noise=0.3, error=0.2, dof=40.0):
    """Return rows of atlas labels with known effects, and of a cluster, which is of one run."""
    count = len(effects)
    rows = {
        "series": "sbl",
        "contrast": "hand",
        "fwhm_mm": 0.0,
        "origin": ["atlas"] * (count - 1) + ["cluster"],
        "region": [f"label {k}" for k in range(count)],
        "voxels": 50,
        "voxels_given": 50,
        "input_fwhm_mm": 0.0,
        "effect": effects,
        "noise_se": noise,
        "noise_dof": dof,
        "error_sd": error,
    }
    return pd.DataFrame(rows)


def make_maps(tables):
    """Return maps of runs with the effects of their tables in slabs, and the same texture."""
    texture = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 1)
    texture = (texture - texture.mean(axis=(1, 2), keepdims=True)) / texture.std()
    maps = []
    for name, table in tables.items():
        effects = np.resize(table["effect"], SHAPE[0])[:, None, None]
        maps += [
            Derivative(
                Volume(values.astype(np.float32), AFFINE),
                {"space": "firstBoldref", "contrast": "hand", "stat": stat, "desc": "sbl"},
                {
                    "Run": name,
                    "SmoothingFWHM": 0.0,
                    "NotApplied": False,
                    "Model": {"DegreesOfFreedom": 100},
                },
            )
            for stat, values in (("effect", texture + effects), ("variance", np.ones(SHAPE)))
        ]
    return maps


def measure(first, second, maps=None, **changes):
    atlas = np.repeat(np.arange(SHAPE[0]), SHAPE[1] * SHAPE[2]).reshape(SHAPE)
    labels = pd.DataFrame({"index": range(16), "name": [f"label {k}" for k in range(16)]})
    image = Volume(atlas, AFFINE)
    arguments = {
        "place_errors": {"ses-2": PLACE},
        "run_agreement": {"OtherHead": {}},
        "atlas": AtlasOfRun(atlas_bold=image, atlas_bold_hr=image, atlas_labels=labels),
        "series_name": "sbl",
        "over_runs": {"change": TERMS},
        "calibrated": False,
        "voxel_mm": 6.0,
        **changes,
    }
    tables = {"ses-1": first, "ses-2": second}
    table, columns, _ = contrast_regions(tables, maps or make_maps(tables), **arguments)
    return table, columns


def test_regions_are_subtracted_with_their_errors():
    table, columns = measure(make_table(np.full(10, 1.0)), make_table(np.full(10, 3.0)))
    assert list(table.columns) == list(columns)
    assert len(table) == 9  # without the cluster
    assert set(table["contrast"]) == {"change"}
    np.testing.assert_allclose(table["effect"], 2.0, rtol=1e-6)
    np.testing.assert_allclose(table["noise_se"], 0.3 * np.sqrt(2))
    np.testing.assert_allclose(table["noise_dof"], 80.0)
    total = np.sqrt(np.square(table["noise_se"]) + np.square(table["error_sd"]))
    np.testing.assert_allclose(table["smallest_change"], 2.83 * total, rtol=0.01)
    assert set(table["detail"]) == {"not testable"}
    tested_rows = [
        replace(row, contrast="change") for row in make_tested_rows() if row.contrast == "body"
    ]
    recovered, _ = measure(
        make_table(np.full(10, 1.0)), make_table(np.full(10, 3.0)), tested_rows=tested_rows
    )
    assert set(recovered["detail"]) == {"recovered"}
    assert (table["q"] < 0.05).all()
    without_place, _ = measure(
        make_table(np.full(10, 1.0)), make_table(np.full(10, 3.0)), place_errors={}
    )
    # the mean |t| of both runs is above 4: .67 of the reconstruction error is shared
    np.testing.assert_allclose(without_place["error_sd"], 0.2 * np.sqrt(2 * (1 - 0.67)))
    place = np.square(table["error_sd"]) - np.square(without_place["error_sd"])
    # .2 mm in single voxels would be an SD of .1 or more
    assert (place > 0).all()
    assert np.sqrt(place).mean() < 0.03


def test_sums_have_the_written_weights():
    """Draw weights; effect, noise and its degrees of freedom are computed by hand."""
    rng = np.random.default_rng(6)
    for _ in range(10):
        weights, dofs = rng.uniform(0.1, 3, 2), rng.uniform(5, 90, 2)
        noise, effects = rng.uniform(0.1, 0.5, 2), rng.uniform(-2, 2, 2)
        tables = [
            make_table(np.full(10, effect), noise=sd, dof=dof)
            for effect, sd, dof in zip(effects, noise, dofs, strict=True)
        ]
        terms = [
            replace(term, weight=weight, runs=(f"ses-{number}",))
            for number, (term, weight) in enumerate(zip(TERMS, weights, strict=True), 1)
        ]
        table, _ = measure(*tables, over_runs={"sum": terms}, place_errors={})
        parts = np.square(weights * noise)
        np.testing.assert_allclose(table["effect"], weights @ effects, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(table["noise_se"], np.sqrt(parts.sum()))
        dof = parts.sum() ** 2 / (np.square(parts) / dofs).sum()
        np.testing.assert_allclose(table["noise_dof"], dof)


def test_regions_are_averaged_over_the_same_voxels_of_all_runs():
    """The tables are of other voxels; regions without a voxel in the frame keep their effects."""
    tables = [make_table(np.arange(20.0) + offset) for offset in (0.0, 2.0)]
    shifted = [
        table.assign(effect=table["effect"] + offset)
        for table, offset in zip(tables, (0.0, 0.7), strict=True)
    ]
    maps = make_maps(dict(zip(("ses-1", "ses-2"), tables, strict=True)))
    for image in maps[2:]:  # the second run lacks a part of the first region
        image.volume.data[0, 5:] = 0
    table, _ = measure(*shifted, maps=maps)
    np.testing.assert_allclose(table["effect"][:16], 2.0, atol=1e-5)
    np.testing.assert_allclose(table["effect"][16:], 2.7)
    n_voxels = SHAPE[1] * SHAPE[2]
    assert set(table["voxels"][1:16]) == {n_voxels}
    assert table["voxels"][0] == 5 * SHAPE[2]


def test_a_region_is_significant_as_often_as_stated():
    """Draw regions with noise, shared and own errors, without and with the smallest change."""
    rng = np.random.default_rng(3)
    count, noise, error, rho = 4001, 0.3, 0.2, 0.67
    truth = rng.normal(0, 3, count)
    shared = rng.normal(0, error * np.sqrt(rho), count)

    def draw(change):
        own = rng.normal(0, error * np.sqrt(1 - rho), count)
        return make_table(truth + change + shared + own + rng.normal(0, noise, count))

    null, _ = measure(draw(0), draw(0), place_errors={})
    significant = (null["lower"] > 0) | (null["upper"] < 0)
    assert significant.mean() == pytest.approx(0.04, abs=0.015)
    change = float(null["smallest_change"].median())
    changed, _ = measure(draw(0), draw(change), place_errors={})
    assert (changed["lower"] > 0).mean() == pytest.approx(0.8, abs=0.15)


def test_the_smallest_change_is_found_with_few_degrees_of_freedom():
    rng = np.random.default_rng(5)
    first = make_table(rng.normal(size=2001), error=np.nan, dof=3.0)
    table, _ = measure(first, first, place_errors={})
    assert table["error_sd"].isna().all()
    change, size = float(table["smallest_change"].median()), len(table)
    t = (change + rng.normal(0, 0.3 * np.sqrt(2), size)) / (
        0.3 * np.sqrt(rng.chisquare(3.0, (2, size)).sum(axis=0) / 3.0)
    )
    assert (t > stats.t.ppf(0.975, 6.0)).mean() == pytest.approx(0.8, abs=0.04)


def test_runs_with_another_head_have_no_regions():
    agreement = {"OtherHead": {"ses-1": "another head"}}
    table, _ = measure(make_table(np.ones(5)), make_table(np.ones(5)), run_agreement=agreement)
    assert table.empty


def test_clusters_of_differences_are_numbered_over_contrasts_without_intervals(tmp_path):
    """Two contrasts of 5 mm have a cluster each; their unsmoothed maps are not used."""
    place, active = {"space": "firstBoldref"}, np.zeros(SHAPE, bool)
    active[3:6, 4:6, 2] = True
    maps = []
    for contrast in ("change", "other"):
        for fwhm_mm, desc in ((0.0, "sbl"), (5.0, "sblFwhm50")):
            about = {**place, "contrast": contrast, "desc": desc, "suffix": "statmap"}
            mask = {**place, "label": contrast, "desc": f"{desc}Fdr", "suffix": "mask"}
            sidecar = {"SmoothingFWHM": fwhm_mm, "SourceSeries": "sbl"}
            sidecar["ThresholdLabel"] = "Fdr"
            maps += [
                Derivative(Volume(values.astype(np.float32), AFFINE), entities, sidecar)
                for values, entities in (
                    (np.where(active, -4.0, 0), {**about, "stat": "t"}),
                    (np.where(active, -1.5, 0), {**about, "stat": "effect"}),
                    (active, mask),
                )
            ]
    labels = Volume(np.full(SHAPE, 3), AFFINE)
    names = pd.DataFrame({"index": [3], "name": ["Cuneus_L"], "volume_mm3": [9e4]})
    to_scanner = np.eye(4)
    to_scanner[0, 3] = 10  # the T1w image is 10 mm to the left
    write_itk(tmp_path / "std2t1w.txt", np.eye(4))
    regions, _ = measure(make_table(np.ones(4)), make_table(np.ones(4)))
    nothing, _ = find_change("change", "b − a", {})
    table, changes = add_clusters(
        regions,
        maps,
        (nothing,),
        AtlasOfRun(atlas_bold=labels, atlas_bold_hr=labels, atlas_labels=names),
        to_scanner[None],
        tmp_path / "std2t1w.txt",
        tmp_path,
        series_name="sbl",
    )
    clusters = table[table["origin"] == "cluster"]
    assert list(clusters["region"]) == ["cluster 1, Cuneus_L", "cluster 2, Cuneus_L"]
    assert list(clusters["contrast"]) == ["change", "other"]
    assert set(clusters["fwhm_mm"]) == {5.0}
    assert set(clusters["effect"]) == {-1.5}
    assert clusters[["lower", "upper", "q"]].isna().all(axis=None)
    assert set(clusters["scanner_x"] - clusters["x"]) == {10.0}
    assert (table["origin"] == "atlas").sum() == 3
    (change,) = changes
    assert change.in_map is not None
    assert (change.in_map.n_voxels, change.in_map.is_increase) == (active.sum(), False)
    assert all(text in write_change(change) for text in ("6 voxels", "cluster 1, Cuneus_L"))
