"""Verdicts of the program on series of other programs whose accuracy is known.

The graph of the program is run in this process up to the verdict. A masked, scaled or offset copy
of the acquired series is neither more nor less accurate.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.dataset import BidsMaker
from data.short_run import EVENTS, FACTOR, FINE, TR, make_run
from graphmaker import planned_graph
from graphrunner import GraphRunner, handle_of
from scipy import ndimage

from bids_sr.io.nifti import load_image, save_image
from bids_sr.spatial.matrices import kspace_crop, upsample
from bids_sr.spatial.smoothing import smooth

Series = dict[str, tuple[np.ndarray, np.ndarray]]
OPTIONS = ("--sr-method", "bspline", "zerofill", "--sr-factor", "2", "--smoothing", "0")
OPTIONS += ("--set", "activation.kinds=glm")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


def run_program(
    root: Path,
    runs: Mapping[str, Path],
    series: Series,
    *options: str,
    truth: Path | None = None,
) -> dict[str, Any]:
    """Return the verdicts on some series of the first run, by name, with all rows as `rows`."""
    maker = BidsMaker(root / "data")
    func = maker.root / "sub-01" / "func"
    func.mkdir(parents=True)
    for name, file in runs.items():
        stem = f"sub-01_task-tap_run-{name}"
        (func / f"{stem}_bold.nii").symlink_to(file)
        sidecar = {"RepetitionTime": TR, "TaskName": "tap"}
        (func / f"{stem}_bold.json").write_text(json.dumps(sidecar))
        EVENTS.to_csv(func / f"{stem}_events.tsv", sep="\t", index=False)
    argv = ["--run-id", "1", *OPTIONS, *options]
    if truth is not None:
        folder = maker.root / "derivatives" / "ground-truth" / "sub-01" / "func"
        folder.mkdir(parents=True)
        (folder / "sub-01_task-tap_run-1_bold.nii").symlink_to(truth)
        argv += ["--truth", "auto"]
    for name, (data, affine) in series.items():
        save_image(data.astype(np.float32), affine, root / f"{name}.nii", tr=TR)
        argv += ["--compare", f"{name}={root / name}.nii"]
    graph = planned_graph(maker, root, *argv)
    (root / "steps").mkdir()
    verdict, rows = GraphRunner(graph, root / "steps").load(
        handle_of(graph, "decide_verdict", "verdict"),
        handle_of(graph, "decide_verdict", "verdict_rows"),
    )
    return {entry["name"]: entry for entry in verdict["compared"]} | {"rows": rows}


@pytest.fixture(scope="module")
def verdicts(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Compare series with the measured detail, with mirrored detail, and smoothed."""
    bold, affine = load_image(images / "bold.nii")
    truth, _ = load_image(images / "truth.nii")
    times = range(bold.shape[3])

    def zero_fill(data: np.ndarray) -> np.ndarray:
        return np.stack([upsample("zerofill", data[..., t], FACTOR) for t in times], -1)

    lowres = np.stack([kspace_crop(truth[..., t], FINE, factor=FACTOR)[0] for t in times], -1)
    detail = truth - zero_fill(lowres)
    smoothed = np.stack([smooth(bold[..., t], (3, 3, 4), 6.0) for t in times], -1)
    series = {
        "smoothed": (smoothed, affine),
        "finer": (zero_fill(bold) + detail, FINE),
        "mirrored": (zero_fill(bold) + detail[::-1], FINE),
    }
    return run_program(
        tmp_path_factory.mktemp("detail"),
        {"1": images / "bold.nii"},
        series,
        truth=images / "truth.nii",
    )


def test_true_detail_is_more_accurate_and_mirrored_detail_less(verdicts: dict[str, Any]) -> None:
    assert {name: verdicts[name]["status"] for name in ("smoothed", "finer", "mirrored")} == {
        "smoothed": "less accurate",
        "finer": "more accurate",
        "mirrored": "less accurate",
    }
    assert verdicts["finer"]["decisions"]["beyond"] == "better"
    assert verdicts["mirrored"]["decisions"]["beyond"] == "worse"
    assert verdicts["smoothed"]["decisions"]["beyond"] != "better"
    (width,) = (
        row.value
        for row in verdicts["rows"]
        if (row.series, row.statistic) == ("smoothed", "compared_fwhm")
    )
    assert width == pytest.approx(6.0, abs=2.5)  # a Gaussian of two voxels, sampled coarsely


@pytest.fixture(scope="module")
def copies(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Compare altered copies of a run that is noisy enough for zeros to explain more than it."""
    bold, affine = load_image(images / "bold.nii")
    inside = load_image(images / "mask.nii")[0] > 0
    fine, _ = load_image(images / "truth.nii")
    rng = np.random.default_rng(3)
    noisy = bold + ndimage.gaussian_filter(rng.normal(0, 120, bold.shape), (1, 1, 0, 1))
    level = 0.3 * float(np.median(bold[inside]))
    folder = tmp_path_factory.mktemp("noisy")
    save_image(noisy.astype(np.float32), affine, folder / "noisy.nii", tr=TR)

    def mask_series(mask: np.ndarray, outside: float = 0.0) -> np.ndarray:
        return np.where(mask[..., None], noisy, outside)

    def select_left(data: np.ndarray) -> np.ndarray:
        return np.arange(data.shape[0])[:, None, None] < data.shape[0] / 2

    series = {
        "half": (mask_series(select_left(inside) & np.ones_like(inside)), affine),
        "nan": (mask_series(inside, np.nan), affine),
        "scaled": (30000 * noisy, affine),
        "lowered": (noisy - level, affine),
        "fineHalf": (np.where(select_left(fine)[..., None], fine, 0), FINE),
    }
    return run_program(
        folder,
        {"1": folder / "noisy.nii", "2": images / "bold.nii"},
        series,
        truth=images / "truth.nii",
    )


def test_an_altered_copy_is_neither_more_nor_less_accurate(copies: dict[str, Any]) -> None:
    for name in ("half", "nan", "scaled", "lowered"):
        verdict = copies[name]
        assert verdict["status"] == "not more accurate", verdict["text"]
        assert verdict["decisions"] == {"within": "same", "beyond": "same"}, verdict["text"]


def test_masked_voxels_are_counted_and_are_no_missing_detail(copies: dict[str, Any]) -> None:
    """The true series with one half set to 0 is correct in the other half."""
    frames = {name: copies[name]["frame"] for name in ("nan", "scaled", "half", "fineHalf")}
    shares = {name: f["left_out"] / f["brain_voxels"] for name, f in frames.items()}
    assert shares["scaled"] == 0 < shares["nan"] < 0.05
    assert shares["half"] == pytest.approx(0.5, abs=0.05)
    assert shares["fineHalf"] == pytest.approx(0.5, abs=0.05)
    assert f"{frames['half']['left_out']:,} of" in copies["half"]["text"]
    assert copies["fineHalf"]["status"] == "more accurate", copies["fineHalf"]["text"]
    assert copies["fineHalf"]["decisions"]["beyond"] == "better"
