"""The Python interface gives the recovered detail and the error of effects of the command line.

The graph of the program is run in this process and stores its files. The interface gets these
files and the slice-timed series, which the program does not store.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data.dataset import BidsMaker
from data.short_run import EVENTS, TR, make_run
from graphmaker import planned_graph
from graphrunner import GraphRunner, files_of, handle_of

from bids_sr import SuperResolver, recovered_detail
from bids_sr.evaluation.detail_support import RegionResult, classify_detail
from bids_sr.io.copies import copy_series
from bids_sr.io.nifti import load_image

RUN, SEED = "sub-01_task-tap", 7
CONTRASTS = ["little", "thumb", "all", "littleMinusThumb"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> GraphRunner:
    """Return a runner of the program's graph, for a run with slice timing."""
    root = tmp_path_factory.mktemp("program")
    images = make_run(tmp_path_factory.mktemp("images"))
    maker = BidsMaker(root / "data")
    func = maker.root / "sub-01" / "func"
    func.mkdir(parents=True)
    sidecar = {
        "RepetitionTime": TR,
        "TaskName": "tap",
        "SliceTiming": [0.0, 0.8, 0.4, 1.2, 0.6],
    }
    (func / f"{RUN}_bold.nii").symlink_to(images / "bold.nii")
    (func / f"{RUN}_bold.json").write_text(json.dumps(sidecar))
    EVENTS.to_csv(func / f"{RUN}_events.tsv", sep="\t", index=False)
    options = ("--sr-method", "sbl", "--random-seed", str(SEED), "--level", "full")
    graph = planned_graph(maker, root, *options)
    (root / "steps").mkdir()
    return GraphRunner(graph, root / "steps")


@pytest.fixture(scope="module")
def func(program: GraphRunner) -> Path:
    """Return the folder of stored files, with the slice-timed series."""
    graph = program.graph
    (slice_timed,) = program.load(handle_of(graph, "correct_slice_timing", "stc"))
    program.load(
        *(files_of(graph, name) for name in ("boldref", "hmc_xfms", "bold_mask", "confounds")),
        files_of(graph, "preproc"),
        files_of(graph, "maps", "acquired"),
        files_of(graph, "maps", "sbl"),
    )
    (boldref,) = Path(slice_timed.path).parents[2].rglob("*_desc-hmc_boldref.nii.gz")
    copy_series(Path(slice_timed.path), boldref.parent / "slicetimed.nii")
    return boldref.parent


@pytest.fixture(scope="module")
def start_time(func: Path) -> float:
    """Return the reference time of slice-timing correction."""
    sidecar = json.loads((func / f"{RUN}_space-boldref_desc-acquired_bold.json").read_text())
    return float(sidecar["StartTime"])


@pytest.fixture(scope="module")
def resolver(func: Path) -> SuperResolver:
    """Return the estimator, fitted to the files of the program."""
    return SuperResolver("sbl", random_state=SEED).fit(
        func / "slicetimed.nii",
        mask_img=func / f"{RUN}_space-boldref_label-brain_desc-acquired_mask.nii.gz",
        motion=func / f"{RUN}_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt",
        boldref=func / f"{RUN}_desc-hmc_boldref.nii.gz",
    )


def read_cells(result: RegionResult) -> tuple[str, float, float, float, str]:
    row = result.row
    values = (row.value, row.lower, row.upper) if row else (np.nan,) * 3
    return (result.state, *values, result.reason)


def test_recovered_detail_is_equal(
    program: GraphRunner, func: Path, start_time: float, resolver: SuperResolver
) -> None:
    (rows,) = program.load(handle_of(program.graph, "check_intervals", "coverage_rows"))
    table = recovered_detail(
        func / "slicetimed.nii",
        EVENTS,
        resolver=resolver,
        confounds=func / f"{RUN}_desc-confounds_timeseries.tsv",
        smoothing_fwhm=(0.0, 5.0),
        start_time=start_time,
    )
    keys = ["fwhm_mm", "contrast", "region"]
    cells = ["state", "explained_variance", "lower", "upper", "reason", "voxels", "coverage"]
    expected = {}
    for width in (0.0, 5.0):
        for contrast, support in classify_detail(rows, "sbl", ["all"], fwhm_mm=width).items():
            for region, name, result in (
                ("acquired40", "active voxels", support.active),
                ("brain", "brain", support.brain),
            ):
                voxels, coverage = (
                    row.value
                    for statistic, row_region, row_width in (
                        ("voxels", region, width),
                        ("coverage_one_level_down", "brain", 0.0),
                    )
                    for row in rows
                    if (row.statistic, row.contrast, row.region, row.fwhm_mm)
                    == (statistic, contrast, row_region, row_width)
                )
                expected[width, contrast, name] = (*read_cells(result), voxels, coverage)
    assert len(expected) == 16
    found = table.set_index(keys)[cells]
    assert list(found.index) == list(expected)
    assert found.explained_variance.notna().sum() >= 8
    reference = pd.DataFrame.from_dict(expected, orient="index", columns=cells)
    reference.index = found.index
    pd.testing.assert_frame_equal(found, reference, rtol=0, atol=1e-6, check_dtype=False)


@pytest.mark.parametrize(("fwhm_mm", "desc"), [(0.0, "sbl"), (5.0, "sblFwhm50")])
def test_the_error_of_effects_is_equal(
    func: Path, resolver: SuperResolver, fwhm_mm: float, desc: str
) -> None:
    effects, variances = (
        [
            func / f"{RUN}_space-boldref_contrast-{name}_stat-{stat}_desc-acquired_statmap.nii.gz"
            for name in CONTRASTS
        ]
        for stat in ("effect", "variance")
    )
    images = resolver.effect_sd(effects, variances, smoothing_fwhm=fwhm_mm)
    assert isinstance(images, list)
    for name, image in zip(CONTRASTS, images, strict=True):
        file = (
            func / f"{RUN}_space-boldref_res-hr_contrast-{name}_stat-sd_desc-{desc}_statmap.nii.gz"
        )
        expected, affine = load_image(file)
        assert expected.max() > 0.01  # percent
        np.testing.assert_allclose(np.asarray(image.dataobj), expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(image.affine, affine, atol=1e-6)


def test_the_motion_corrected_series_is_equal(
    program: GraphRunner, func: Path, resolver: SuperResolver
) -> None:
    (raw,) = program.load(handle_of(program.graph, "correct_motion", "preproc"))
    image = resolver.correct_motion(func / "slicetimed.nii")
    expected, _ = load_image(raw.path)
    np.testing.assert_allclose(np.asarray(image.dataobj), expected, rtol=1e-6, atol=1e-3)
