"""``bids-sr-models evaluate``: scores, tests, correlation and figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from data.scans import AFFINE, FACTOR, read_rows, save_pair, save_untrained, scan
from scipy import stats

from bids_sr.cli.models.commands.evaluate import find_participant
from bids_sr.cli.models.commands.main import main
from bids_sr.io.nifti import load_image, save_image
from bids_sr.spatial.effective_resolution import effective_resolution
from bids_sr.spatial.matrices import upsample


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Return references and low-resolution images of four participants."""
    folder = tmp_path_factory.mktemp("pairs")
    files = [save_pair(folder, f"sub-0{k}", "T1w", k) for k in (1, 2, 3, 4)]
    return [(str(fine), str(low)) for fine, low in files]


def evaluate(*words: object, out: Path) -> list[dict[str, str]]:
    """Evaluate with a table and return its rows."""
    assert main(["evaluate", *map(str, words), "-o", str(out)]) == 0
    return read_rows(out)


def by_name(rows: list[dict[str, str]], metric: str) -> dict[str, list[float]]:
    scores: dict[str, list[float]] = {}
    for row in rows:
        scores.setdefault(row["name"], []).append(float(row[metric]))
    return scores


def test_scores_use_the_mask_and_the_range_of_the_reference(files, tmp_path: Path) -> None:
    low, affine = load_image(files.low)
    inside = np.zeros(low.shape, bool)
    inside[3:9, 3:9, 1:5] = True
    save_image(inside.astype(np.uint8), affine, mask := tmp_path / "mask.nii.gz")
    out, fine = tmp_path / "table.tsv", files.high
    images = ["--image", files.low, "-m", files.untrained, "--made", fine, "--mask", mask]
    rows = {row["name"]: row for row in evaluate(fine, *images, out=out)}
    truth, _ = load_image(fine)
    voxels = upsample("nearest", inside.astype(np.float32), FACTOR) > 0.5
    error = (upsample("nearest", low, FACTOR) - truth)[voxels].astype(np.float64)
    mse, data_range = (error**2).mean(), float(np.ptp(truth[voxels]))
    assert float(rows["nearest"]["rmse"]) == pytest.approx(np.sqrt(mse), rel=1e-4)
    psnr = 10 * np.log10(data_range**2 / mse)
    assert float(rows["nearest"]["psnr"]) == pytest.approx(psnr, abs=2e-3)
    assert rows[str(fine)]["psnr"] == "inf"
    assert rows["nearest"]["resolution_mm"] == "n/a", "block edges have no defined resolution"
    resolution = effective_resolution(truth, (3.0, 3.0, 4.0), voxels)
    text = "n/a" if resolution is None else f"{resolution:.6g}"
    assert rows[str(fine)]["resolution_mm"] == text
    assert float(rows["srgan (srgan.safetensors)"]["parameters"]) == 14_257
    assert set(rows) >= {"nearest", "linear", "bspline", "lanczos", "zerofill"}
    metadata = json.loads((tmp_path / "table.json").read_text())
    assert metadata["DataRange"] == pytest.approx(data_range)
    assert metadata["CoarseImage"].startswith("measured")


def test_a_matrix_that_the_factor_does_not_divide_is_cropped(tmp_path: Path) -> None:
    """Zero filling recovers an image that is band-limited in the 24 of 25 voxels used."""
    fine = np.zeros((25, 28, 6), np.float32)
    fine[:24] = upsample("zerofill", scan(0, (12, 14, 6)), FACTOR)
    save_image(fine, AFFINE, file := tmp_path / "x_T1w.nii.gz")
    scores = by_name(evaluate(file, "--degradation", "kspace", out=tmp_path / "t.tsv"), "psnr")
    assert scores["zerofill"][0] > 90
    assert scores["linear"][0] < 40


def test_scores_of_participants_are_summarized_and_methods_compared(pairs, tmp_path: Path) -> None:
    """The resolution of a model for 9 mm is allowed by an option."""
    out = tmp_path / "new" / "t.tsv"
    references, images = zip(*pairs, strict=True)
    far = {"lowres_mm": [9.0, 9.0, 4.0]}
    models = [
        save_untrained(tmp_path / "matched", contrast="T1w"),
        save_untrained(tmp_path / "mismatched", contrast="T1w", resolution=far),
    ]
    options = ["--allow", "resolution"]
    rows = evaluate(*references, "--image", *images, "-m", *models, *options, out=out)
    assert {row["participant"] for row in rows} == {f"sub-0{k}" for k in (1, 2, 3, 4)}
    scores = by_name(rows, "psnr")
    summary = {(r["metric"], r["name"]): r for r in read_rows(tmp_path / "new" / "t_summary.tsv")}
    for name, values in scores.items():
        row = summary["psnr", name]
        assert float(row["mean"]) == pytest.approx(np.mean(values), rel=1e-4)
        assert float(row["sd"]) == pytest.approx(np.std(values, ddof=1), rel=2e-2)
    (pair,) = (
        row
        for row in read_rows(tmp_path / "new" / "t_tests.tsv")
        if (row["statistic"], row["minus"]) == ("psnr", "bspline") and "(matched" in row["series"]
    )
    expected = stats.ttest_rel(scores["srgan (matched.safetensors)"], scores["bspline"])
    assert float(pair["t"]) == pytest.approx(float(expected.statistic), rel=2e-2)
    assert float(pair["p_t_holm"]) >= float(pair["p_t"])
    anova = {row["metric"]: row for row in read_rows(tmp_path / "new" / "t_anova.tsv")}
    assert anova["ssim"]["factor"] == "model"
    assert "srgan (mismatched.safetensors) (n = 4)" in anova["ssim"]["groups"]
    assert "lower" in json.loads((tmp_path / "new" / "t_summary.json").read_text())


def test_groups_of_references_are_compared_by_anova(
    pairs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A single participant is not tested, which is noted."""
    references = [reference for reference, _ in pairs]
    degradation = ["--degradation", "kspace"]
    evaluate(references[0], *degradation, out=tmp_path / "t.tsv")
    assert "sub-01" in capsys.readouterr().out.partition("Note: ")[2]
    assert not (tmp_path / "t_tests.tsv").exists()
    groups = ["--group", "old", "old", "new", "new"]
    rows = evaluate(*references, *degradation, *groups, out=tmp_path / "t.tsv")
    assert (tmp_path / "t_tests.tsv").exists()
    anova = read_rows(tmp_path / "t_anova.tsv")
    assert {row["factor"] for row in anova} == {"group"}
    assert {row["groups"] for row in anova} == {"old (n = 2); new (n = 2)"}
    values = by_name(rows, "psnr")["bspline"]
    (row,) = (row for row in anova if (row["metric"], row["name"]) == ("psnr", "bspline"))
    expected = stats.ttest_ind(values[:2], values[2:], equal_var=False)
    assert float(row["f"]) == pytest.approx(float(expected.statistic) ** 2, rel=1e-2)


def test_images_are_correlated_with_the_reference_over_voxels(pairs, tmp_path: Path) -> None:
    first, second = pairs[0][0], pairs[1][0]
    flat, mask, out = (tmp_path / name for name in ("flat.nii", "mask.nii", "r.tsv"))
    save_image(np.ones((24, 28, 6), np.float32), AFFINE, flat)
    low, affine = load_image(Path(pairs[0][1]))
    inside = low > 100
    save_image(inside.astype(np.uint8), affine, mask)
    options = ["--image", pairs[0][1], "--mask", mask, "--made", second, flat]
    rows = {row["name"]: row for row in evaluate(first, *options, out=out)}
    voxels = inside.repeat(2, 0).repeat(2, 1)
    x, y = (load_image(Path(path))[0][voxels] for path in (first, second))
    line = stats.linregress(x, y)
    assert float(rows[second]["r"]) == pytest.approx(line.rvalue, rel=1e-3)
    assert float(rows[second]["slope"]) == pytest.approx(line.slope, rel=1e-3)
    expected = float(stats.spearmanr(x, y).statistic)
    assert float(rows[second]["rho"]) == pytest.approx(expected, rel=1e-3)
    assert rows[str(flat)]["r"] == "n/a"


def test_participant_labels_are_read_from_file_or_folder() -> None:
    assert find_participant(Path("sub-03/ses-1/anat/scan_T1w.nii.gz")) == "sub-03"
    assert find_participant(Path("sub-03/sub-04_T1w.nii.gz")) == "sub-04"
    assert find_participant(Path("mouse7_T2w.nii")) == "mouse7_T2w"
