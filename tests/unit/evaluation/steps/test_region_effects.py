"""Test the table of regions: regions of interest, clusters and atlas labels in all series."""

import numpy as np
import pandas as pd
import pytest
from data.rows import make_tested_rows

from bids_sr.engine.artifacts import Derivative
from bids_sr.evaluation.statistics.multiple_comparisons import benjamini_hochberg
from bids_sr.evaluation.steps import region_effects
from bids_sr.evaluation.steps.region_effects import COLUMNS, join_regions, measure_regions
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.regressors import Events
from bids_sr.glm.steps.atlas_regions import AtlasOfRun
from bids_sr.glm.steps.linear_models import DesignInputs, LinearModel
from bids_sr.glm.steps.mapped_series import SampledSeries
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.series import map_label
from bids_sr.io.volume import Volume
from bids_sr.preproc.steps.aligned_series import BoldBrain
from bids_sr.spatial.transforms import hr_grid

SHAPE, FACTOR, VOLUMES, TR = (14, 12, 3), (2.0, 2.0, 1.0), 90, 2.0
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
HIGH_SHAPE, HIGH_AFFINE = hr_grid(SHAPE, AFFINE, FACTOR)
HIGH_GRID = (HIGH_SHAPE, HIGH_AFFINE)
GRIDS = {"acquired": (SHAPE, AFFINE), "bspline": HIGH_GRID, "sbl": HIGH_GRID}
CONTRASTS = {"hand": {"hand": 1.0}, "foot": {"foot": 1.0}}
WIDTHS = (0.0, 5.0)
MODEL = LinearModel(
    inputs=DesignInputs(
        regressors=Events(
            pd.DataFrame(
                {
                    "onset": np.arange(10.0, 170.0, 20.0),
                    "duration": 8.0,
                    "trial_type": ["hand", "foot"] * 4,
                }
            )
        ),
        n_dummy=2,
        design=DesignSettings(),
    ),
    contrasts=CONTRASTS,
)
MEAN_SIGNAL = 500.0
LABELS = pd.DataFrame(
    {"index": [7, 8, 9], "name": ["Left", "Cut", "Right"], "volume_mm3": [12000.0, 3000.0, 9000.0]}
)


def enlarge(data):
    """Return acquired voxels on the high-resolution grid."""
    return np.kron(data, np.ones((2, 2, 1))).astype(data.dtype)


def make_mask(grid, data):
    return Volume(data if grid == "acquired" else enlarge(data), GRIDS[grid][1])


BRAIN = np.ones(SHAPE, bool)
BRAIN[:2] = False
ROI = np.zeros(SHAPE, bool)
ROI[1:4, 2:6, 1] = True  # one row of three is outside the brain
ACTIVE = np.zeros(SHAPE, bool)
ACTIVE[3:8, 3:8, 1:] = True
ATLAS = np.where(np.arange(SHAPE[0])[:, None, None] < 7, 7.0, 9.0) * np.ones(SHAPE)
ATLAS[-1, :, 0] = 8  # 12 voxels of 36 mm³, a seventh of the label


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Return the path of each series, with 2 % of activity in the active voxels."""
    folder, rng = tmp_path_factory.mktemp("series"), np.random.default_rng(1)
    design = MODEL.inputs.regressors.table
    times = np.arange(VOLUMES) * TR
    blocks = [
        ((times >= onset + 4) & (times < onset + 12)).astype(float)
        for onset in design["onset"][design["trial_type"] == "hand"]
    ]
    task = np.sum(blocks, axis=0)
    paths = {}
    for name, (shape, affine) in GRIDS.items():
        active = make_mask(name, ACTIVE).data
        data = MEAN_SIGNAL + rng.standard_normal((*shape, VOLUMES))
        data[active] += 0.02 * MEAN_SIGNAL * task
        paths[name] = folder / f"{name}.nii"
        save_image(data.astype(np.float32), affine, paths[name], tr=TR)
    return paths


def make_acquired_maps():
    derivatives = []
    for width in WIDTHS:
        for contrast in CONTRASTS:
            t = np.where(ACTIVE, 9.0, 0.5).astype(np.float32)
            if contrast == "foot":
                t = t - 20
            values = dict.fromkeys(("effect", "variance", "z"), np.ones(SHAPE, np.float32))
            for stat, data in (values | {"t": t}).items():
                entities = {
                    "contrast": contrast,
                    "stat": stat,
                    "desc": map_label("acquired", width),
                    "suffix": "statmap",
                }
                sidecar = {"SmoothingFWHM": width}
                derivatives.append(Derivative(Volume(data, AFFINE), entities, sidecar))
    return derivatives


BOLD_BRAIN = BoldBrain(
    boldref=Volume(np.full(SHAPE, MEAN_SIGNAL, np.float32), AFFINE),
    bold_mask=Volume(BRAIN, AFFINE),
    factor=(2.0, 2.0, 1.0),
)


def make_coverage_rows():
    """Return self-tests in which the detail of the contrast hand is recovered."""
    estimates = {"hand": ((0.5, 0.1), (0.5, 0.1)), "foot": ((-0.5, 0.1), (-0.5, 0.1))}
    return make_tested_rows(estimates)


def measure(series, name, **changes):
    own = {
        key: changes.pop(key)
        for key in ("own_regressors", "error_draws", "acquired_draws")
        if key in changes
    }
    atlas = AtlasOfRun(
        atlas_bold=Volume(ATLAS, AFFINE),
        atlas_bold_hr=Volume(enlarge(ATLAS), HIGH_AFFINE),
        atlas_labels=LABELS,
    )
    options = {"atlas": atlas, "coverage_rows": make_coverage_rows()} | changes
    with SeriesReader(series[name]) as reader, SeriesReader(series["acquired"]) as acquired:
        return measure_regions(
            SampledSeries(series_name=name, series=reader, mask=make_mask(name, BRAIN), **own),
            MODEL,
            BOLD_BRAIN,
            make_acquired_maps(),
            {"knob": make_mask(name, ROI)},
            exported_name="sbl",
            region_origin="roi",
            smoothing=WIDTHS,
            input_smoothing=0.0,
            **({"other_series": {"acquired": acquired}} | options),
        )


def test_regions_of_interest_have_rows_at_all_widths_with_unused_voxels(series):
    table = measure(series, "sbl", atlas=None)
    rows = table[table["origin"] == "roi"]
    assert len(rows) == len(WIDTHS) * len(CONTRASTS)
    assert set(rows["region"]) == {"knob"}
    assert set(rows["voxels_given"]) == {4 * 12}
    assert set(rows["voxels"]) == {4 * 8}
    assert rows[["error_sd", "q"]].isna().all(axis=None)
    assert list(table) == list(COLUMNS)


def test_effects_are_in_percent_and_the_interval_is_around_them(series):
    table = measure(series, "acquired").set_index(["region", "contrast", "fwhm_mm"])
    active_share = (ACTIVE & ROI).sum() / (BRAIN & ROI).sum()
    row = table.loc[("knob", "hand", 0.0)]
    assert row["effect"] == pytest.approx(2 * active_share, rel=0.25)
    assert row["lower"] < row["effect"] < row["upper"]
    assert row["effect"] - row["lower"] > 1.9 * row["noise_se"]


def test_clusters_and_labels_are_measured_in_the_series_to_use(series):
    """The detail of the contrast hand is recovered, and the detail of foot is not."""
    table = measure(series, "sbl")
    (cluster,) = table[table["origin"] == "cluster"].itertuples()
    # four of five rows are in the label Left
    assert (cluster.region, cluster.contrast) == ("cluster 1, Left", "hand")
    assert cluster.voxels == make_mask("sbl", ACTIVE).data.sum()
    assert cluster.effect == pytest.approx(2, rel=0.25)
    assert (cluster.peak, cluster.above) == (9, 9)
    assert (cluster.scanner_x, cluster.scanner_z) == (9, 4), "the first of equal values"
    others = measure(series, "bspline")
    clusters = others[others["origin"] == "cluster"]
    assert set(clusters["contrast"]) == {"foot"}
    assert set(clusters["region"]) == {"cluster 2, Right"}, "numbers are unique in the run"
    for found, contrast in ((table, "hand"), (others, "foot")):
        assert set(found.loc[found["origin"] == "atlas", "contrast"]) == {contrast}
    assert set(measure(series, "acquired")["origin"]) == {"roi"}
    assert "cluster 1" in set(measure(series, "sbl", atlas=None)["region"])
    assert set(measure(series, "sbl", coverage_rows=None)["origin"]) == {"roi"}
    unrecovered = measure(series, "bspline", coverage_rows=None)
    assert set(unrecovered.loc[unrecovered["origin"] == "atlas", "contrast"]) == set(CONTRASTS)
    differences = measure(series, "sbl", in_contrast_over_runs=True)
    labels = differences[differences["origin"] == "atlas"]
    assert set(labels["contrast"]) == set(CONTRASTS), "contrasts over runs need all labels"


def test_labels_count_voxels_outside_the_field_of_view_and_need_half_of_their_volume(series):
    table = measure(series, "sbl")
    labels = table[table["origin"] == "atlas"].set_index("region")
    assert list(labels.index) == ["Left", "Right"]
    assert labels.loc["Left", "voxels_given"] == 1333  # of 1.5 × 1.5 × 4 mm
    assert labels.loc["Left", "voxels"] == 5 * 12 * 3 * 4


def test_clusters_with_few_degrees_of_freedom_have_no_interval(series, monkeypatch):
    monkeypatch.setattr(region_effects, "_MIN_CLUSTER_DOF", 1e9)
    table = measure(series, "sbl")
    is_cluster = table["origin"] == "cluster"
    assert table.loc[is_cluster, ["lower", "upper"]].isna().all(axis=None)
    assert table.loc[~is_cluster, ["lower", "upper"]].notna().all(axis=None)


def test_q_is_over_all_labels_of_a_contrast(series):
    table = measure(series, "sbl")
    labels = table[table["origin"] == "atlas"]
    assert set(labels["region"]) == {"Left", "Right"}
    assert set(labels["fwhm_mm"]) == {0.0}
    hand = labels[labels["contrast"] == "hand"].set_index("region")
    assert hand.loc["Left", "q"] < 0.05
    for _, rows in labels.groupby("contrast"):
        smaller, larger = sorted(rows["q"])
        p_values = [2 * tail for tail in (smaller / 4, larger / 2)]
        assert benjamini_hochberg(p_values) == pytest.approx([smaller, larger])
    assert table.loc[table["origin"] != "atlas", "q"].isna().all()


def test_the_table_of_a_run_has_acquired_values(series):
    tables = [measure(series, name) for name in GRIDS]
    table, columns = join_regions(tables)
    assert list(columns) == list(table)
    assert set(table.loc[table["origin"] == "roi", "series"]) == set(GRIDS)
    is_hand = table["contrast"] == "hand"
    assert set(table.loc[is_hand & (table["origin"] != "roi"), "series"]) == {"sbl"}
    acquired = tables[0].set_index(["region", "contrast", "fwhm_mm"])["effect"]
    for row in table[table["origin"] == "roi"].itertuples():
        assert row.acquired == acquired[row.region, row.contrast, row.fwhm_mm]
    # two percent in the cluster; both labels have its voxels
    hand = table[is_hand].set_index("region")
    labels = {
        name: BRAIN & np.isin(ATLAS, label)
        for label, name, _ in LABELS.itertuples(index=False)
        if name != "Cut"
    }
    assert hand.loc["cluster 1, Left", "acquired"] == pytest.approx(2, rel=0.25)
    for name, label in labels.items():
        active_share = (ACTIVE & label).sum() / label.sum()
        assert hand.loc[name, "acquired"] == pytest.approx(2 * active_share, rel=0.25)
    assert table["measured"].isna().all()


def test_other_series_are_fitted_with_the_same_noise_model(series):
    """A series that equals another one has exactly its effects."""
    with SeriesReader(series["sbl"]) as same:
        table = measure(series, "sbl", other_series={"measured": same})
    found = table[table["origin"] != "roi"]
    np.testing.assert_array_equal(found["measured"], found["effect"])
    assert found["acquired"].isna().all()


def test_all_regions_have_an_interval_and_shares_of_voxels_with_signs_of_veins(series):
    table = measure(series, "sbl")
    assert table[["lower", "upper"]].notna().all(axis=None)
    assert (table["noise_dof"] >= 1).all()
    assert (table["large_share"] == 0).all()


def test_a_region_that_is_the_brain_has_no_rows(series):
    with SeriesReader(series["acquired"]) as reader:
        table = measure_regions(
            SampledSeries(
                series_name="acquired", series=reader, mask=make_mask("acquired", BRAIN)
            ),
            MODEL,
            BOLD_BRAIN,
            make_acquired_maps(),
            {"all": make_mask("acquired", BRAIN)},
            exported_name="sbl",
            region_origin="roi",
            smoothing=WIDTHS,
            input_smoothing=0.0,
        )
    assert table.empty
    assert list(table) == list(COLUMNS)
