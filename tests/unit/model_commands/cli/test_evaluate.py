"""Test ``bids-sr-models evaluate`` with several participants: scores, correlation and figures."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from bids_sr.io.nifti import load_image, save_image
from bids_sr.model_commands.cli.evaluate import find_participant
from bids_sr.model_commands.cli.main import main
from bids_sr.sr.matrices import kspace_crop
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import save_model

FACTOR = (2.0, 2.0, 1.0)
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
CARD = {
    "method": "srgan",
    "recipe": "fast",
    "factor": list(FACTOR),
    "contrast": "T1w",
    "orientation": "I-S",
    "resolution": {"lowres_mm": [6.0, 6.0, 4.0]},
}


def head(seed: int) -> np.ndarray:
    """Return a ball with texture and noise."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices((24, 28, 4), float)
    inside = ((x - 11.5) / 10) ** 2 + ((y - 13.5) / 12) ** 2 < 1
    texture = 500 + 100 * np.sin(x * (1 + 0.1 * seed)) * np.cos(y) + 20 * z
    return np.asarray(np.where(inside, texture, 5) + rng.normal(0, 5, x.shape), np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write references and low-resolution images of three participants, and two models."""
    folder = tmp_path_factory.mktemp("data")
    for k in (1, 2, 3):
        low, affine = kspace_crop(head(k), AFFINE, factor=FACTOR)
        save_image(head(k), AFFINE, folder / f"sub-0{k}_acq-high_T1w.nii.gz")
        save_image(low.astype(np.float32), affine, folder / f"sub-0{k}_acq-low_T1w.nii.gz")
    for name, mm in (("matched", 6.0), ("mismatched", 9.0)):
        torch.manual_seed(len(name))
        network = get_method("srgan").recipes["fast"].build_generator(1, FACTOR)
        card = {**CARD, "resolution": {"lowres_mm": [mm, mm, 4.0]}}
        save_model(folder / name, network.state_dict(), card)
    return folder


def references(data: Path) -> list[str]:
    return [str(data / f"sub-0{k}_acq-high_T1w.nii.gz") for k in (1, 2, 3)]


def images(data: Path) -> list[str]:
    return [str(data / f"sub-0{k}_acq-low_T1w.nii.gz") for k in (1, 2, 3)]


def read_rows(file: Path) -> list[dict[str, str]]:
    with file.open() as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def test_scores_are_summarized_and_methods_compared(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "t.tsv"
    argv = ["evaluate", *references(data), "--image", *images(data), "-o", str(out)]
    models = [str(data / f"{name}.safetensors") for name in ("matched", "mismatched")]
    assert main([*argv, "-m", *models, "--allow", "resolution"]) == 0
    scores: dict[str, list[float]] = {}
    for row in read_rows(out):
        scores.setdefault(row["name"], []).append(float(row["psnr"]))
    assert {row["participant"] for row in read_rows(out)} == {"sub-01", "sub-02", "sub-03"}
    summary = {(r["metric"], r["name"]): r for r in read_rows(tmp_path / "new" / "t_summary.tsv")}
    for name, values in scores.items():
        row = summary["psnr", name]
        assert float(row["mean"]) == pytest.approx(np.mean(values), rel=1e-4)
        assert float(row["sd"]) == pytest.approx(np.std(values, ddof=1), rel=2e-2)
    tests = read_rows(tmp_path / "new" / "t_tests.tsv")
    [pair] = [
        row
        for row in tests
        if (row["statistic"], row["minus"]) == ("psnr", "bspline") and "(matched" in row["series"]
    ]
    expected = stats.ttest_rel(scores["srgan (matched.safetensors)"], scores["bspline"])
    assert float(pair["t"]) == pytest.approx(float(expected.statistic), rel=2e-2)
    assert float(pair["p_t_holm"]) >= float(pair["p_t"])
    anova = {row["metric"]: row for row in read_rows(tmp_path / "new" / "t_anova.tsv")}
    assert anova["ssim"]["factor"] == "model"
    assert "srgan (mismatched.safetensors) (n = 3)" in anova["ssim"]["groups"]
    assert "lower" in json.loads((tmp_path / "new" / "t_summary.json").read_text())


def test_groups_of_references_are_compared_by_anova(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.tsv"
    fourth = tmp_path / "sub-04_acq-high_T1w.nii.gz"
    save_image(head(4), AFFINE, fourth)
    files = [*references(data), str(fourth)]
    argv = ["evaluate", *files, "--degradation", "kspace", "-o", str(out)]
    assert main([*argv, "--group", "old", "old", "new", "new"]) == 0
    anova = read_rows(tmp_path / "t_anova.tsv")
    assert {row["factor"] for row in anova} == {"group"}
    assert {row["groups"] for row in anova} == {"old (n = 2); new (n = 2)"}
    scores: dict[str, list[float]] = {}
    for row in read_rows(out):
        scores.setdefault(row["name"], []).append(float(row["psnr"]))
    [anova_row] = [row for row in anova if (row["metric"], row["name"]) == ("psnr", "bspline")]
    values = scores["bspline"]
    expected = stats.ttest_ind(values[:2], values[2:], equal_var=False)
    assert float(anova_row["f"]) == pytest.approx(float(expected.statistic) ** 2, rel=1e-2)


def test_a_single_participant_is_not_tested_and_the_reason_is_printed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.tsv"
    argv = ["evaluate", references(data)[0], "--degradation", "kspace", "-o", str(out)]
    assert main(argv) == 0
    output = capsys.readouterr().out
    assert "Note: Statistical tests and the analysis of variance were skipped" in output
    assert "at least two participants; only sub-01 was tested" in output
    assert not (tmp_path / "t_tests.tsv").exists()
    assert main([*argv[:1], *references(data), *argv[2:]]) == 0
    assert "were skipped" not in capsys.readouterr().out
    assert (tmp_path / "t_tests.tsv").exists()


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_figures_and_page_are_written_next_to_the_table(
    kind: str, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "t.tsv"
    reference = references(data)[0]
    argv = ["evaluate", reference, "--image", images(data)[0], "-o", str(out)]
    assert main([*argv, "--made", references(data)[1], "--figures", kind]) == 0
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {
        "t.tsv",
        "t.json",
        "t.html",
        f"t_1_images.{kind}",
        f"t_1_decorrelation.{kind}",
        f"t_1_correlation-1.{kind}",
    }
    page = (tmp_path / "t.html").read_text()
    assert page.count("<img") == 3
    assert "<th scope='col'>psnr</th>" in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    if kind == "svg":
        text = (tmp_path / "t_1_images.svg").read_text()
        for title in ("enlarged", "input − target", "output − target", "output − input"):
            assert title in text
        assert "zerofill" in text
        text = (tmp_path / "t_1_correlation-1.svg").read_text()
        assert "sub-02_acq-high_T1w.nii.gz" in text
        assert "r = " in text


@pytest.mark.parametrize(
    ("allow", "code"),
    [((), 2), (("contrast",), 2), (("resolution",), 0), (("contrast", "resolution"), 0)],
)
def test_a_mismatch_must_be_allowed_by_name(
    allow: tuple[str, ...],
    code: int,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = [
        "apply",
        str(data / "mismatched.safetensors"),
        images(data)[0],
        str(tmp_path / "o.nii"),
    ]
    assert main([*argv, *(["--allow", *allow] if allow else [])]) == code
    output = capsys.readouterr()
    if code:
        assert "--allow resolution" in output.err
        assert not list(tmp_path.iterdir())
    else:
        assert "allowed by --allow: resolution" in output.out


Argv = Callable[[Path, Path], list[object]]
HIGH, LOW = "sub-01_acq-high_T1w.nii.gz", "sub-01_acq-low_T1w.nii.gz"
INVALID: dict[str, tuple[Argv, str]] = {
    "fewer images": (
        lambda d, t: ["evaluate", *references(d), "--image", d / LOW],
        "--image: 1 value(s)\n  why: 3 references were specified",
    ),
    "fewer groups": (
        lambda d, t: ["evaluate", *references(d), "--degradation", "block", "--group", "a"],
        "--group: 1 value(s)",
    ),
    "a group of one": (
        lambda d, t: [
            *("evaluate", *references(d), "--degradation", "block"),
            *("--group", "a", "a", "b"),
        ],
        "--group b: the group contains only one participant\n  why: Welch's analysis of variance",
    ),
    "one group": (
        lambda d, t: [
            *("evaluate", *references(d), "--degradation", "block"),
            *("--group", "a", "a", "a"),
        ],
        "compares at least two groups",
    ),
    "one reference with a group": (
        lambda d, t: [
            *("evaluate", d / HIGH, "--degradation", "block", "--group", "a", "-o", t / "t.tsv")
        ],
        "--group a: the group contains only one participant",
    ),
    "two groups": (
        lambda d, t: [
            *("evaluate", d / HIGH, d / LOW, "--degradation", "block"),
            *("--group", "a", "b"),
        ],
        "the participant was assigned to two groups",
    ),
    "twice": (
        lambda d, t: ["evaluate", d / HIGH, d / HIGH, "--degradation", "block"],
        "the reference is listed more than once",
    ),
    "figures without a table": (
        lambda d, t: ["evaluate", d / HIGH, "--image", d / LOW, "--figures", "png"],
        "add --out",
    ),
    "made of another reference": (
        lambda d, t: ["evaluate", *references(d), "--degradation", "block", "--made", d / HIGH],
        "--made: 1 value(s)",
    ),
    "made on another grid": (
        lambda d, t: ["evaluate", d / HIGH, "--image", d / LOW, "--made", d / LOW],
        "expected the same grid as",
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_options_exit_with_code_2_and_write_nothing(
    name: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    make, reason = INVALID[name]
    assert main([str(word) for word in make(data, tmp_path)]) == 2
    assert reason in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_images_are_correlated_with_the_reference_over_voxels(data: Path, tmp_path: Path) -> None:
    first, second = references(data)[:2]
    flat, mask, out = (tmp_path / name for name in ("flat.nii", "mask.nii", "r.tsv"))
    save_image(np.ones((24, 28, 4), np.float32), AFFINE, flat)
    low, affine = load_image(Path(images(data)[0]))
    inside = low > 100
    save_image(inside.astype(np.uint8), affine, mask)
    argv = ["evaluate", first, "--image", images(data)[0], "--mask", str(mask), "-o", str(out)]
    assert main([*argv, "--made", second, str(flat)]) == 0
    voxels = inside.repeat(2, 0).repeat(2, 1)
    x, y = (load_image(Path(path))[0][voxels] for path in (first, second))
    rows = {row["name"]: row for row in read_rows(out)}
    line = stats.linregress(x, y)
    assert float(rows[second]["r"]) == pytest.approx(line.rvalue, rel=1e-3)
    assert float(rows[second]["slope"]) == pytest.approx(line.slope, rel=1e-3)
    expected = float(stats.spearmanr(x, y).statistic)
    assert float(rows[second]["rho"]) == pytest.approx(expected, rel=1e-3)
    assert rows[str(flat)]["r"] == "n/a"
    assert (
        "too small"
        in json.loads(out.with_suffix(".json").read_text())["p_independent"]["Description"]
    )


def test_the_correlation_of_series_is_computed_from_their_means(tmp_path: Path) -> None:
    reference = np.stack([head(1), head(2)], -1)
    other = np.stack([head(3), head(4)], -1)
    for name, series in (("a_bold.nii", reference), ("b_bold.nii", other)):
        save_image(series, AFFINE, tmp_path / name, tr=2.0)
    a, b, out = (str(tmp_path / name) for name in ("a_bold.nii", "b_bold.nii", "t.tsv"))
    low, affine = kspace_crop(head(1), AFFINE, factor=FACTOR)
    save_image(np.ones(low.shape, np.uint8), affine, tmp_path / "mask.nii")
    argv = ["evaluate", a, "--degradation", "kspace", "--mask", str(tmp_path / "mask.nii")]
    assert main([*argv, "--made", b, "-o", out]) == 0
    [row] = [row for row in read_rows(Path(out)) if row["name"] == b]
    expected = stats.pearsonr(reference.mean(-1).ravel(), other.mean(-1).ravel()).statistic
    assert float(row["r"]) == pytest.approx(float(expected), rel=1e-3)


def test_participant_labels_are_read_from_file_or_folder() -> None:
    assert find_participant(Path("sub-03/ses-1/anat/scan_T1w.nii.gz")) == "sub-03"
    assert find_participant(Path("sub-03/sub-04_T1w.nii.gz")) == "sub-04"
    assert find_participant(Path("mouse7_T2w.nii")) == "mouse7_T2w"
