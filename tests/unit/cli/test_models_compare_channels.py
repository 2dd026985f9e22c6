"""``bids-sr-models compare --channels``: T1w, T2w and FLAIR of participants as channels."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from bids_sr import metrics
from bids_sr.cli import models_compare
from bids_sr.cli.models_main import main
from bids_sr.io.nifti import load_image, save_image
from bids_sr.sr.models.model import load_model
from bids_sr.sr.training.trainer import fit

AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
PEOPLE = ["sub-01", "sub-02", "sub-03", "sub-04"]
CONTRASTS = ["T1w", "T2w", "FLAIR"]
QUICK = ["--set", "iterations=3", "filters=4", "batch=2"]


def scan(seed: int, contrast: int) -> np.ndarray:
    x, y, z = np.indices((50, 52, 3), float)
    inside = ((x - 24.5) / 22) ** 2 + ((y - 25.5) / 23) ** 2 < 1
    phase = x * (0.5 + 0.1 * seed) + 0.7 * contrast
    return np.where(inside, 0.5 + 0.3 * np.sin(phase) * np.cos(0.7 * y) + 0.02 * z, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    for k, who in enumerate(PEOPLE):
        for number, contrast in enumerate(CONTRASTS):
            fine = scan(k, number)
            low = np.where(fine > 0, ndimage.gaussian_filter(fine, (1.5, 1.5, 0)), 0)
            for desc, data in (("measured", fine), ("bspline", low)):
                file = folder / f"{who}_res-hr_desc-{desc}_{contrast}.nii.gz"
                save_image(data.astype(np.float32), AFFINE, file)
    return folder


def given(folder: Path) -> list[str]:
    words = ["--channels", *CONTRASTS]
    for flag, desc in (("--fine", "measured"), ("--coarse", "bspline")):
        words += [flag]
        words += [
            str(folder / f"{who}_res-hr_desc-{desc}_{contrast}.nii.gz")
            for contrast in CONTRASTS
            for who in PEOPLE
        ]
    return words


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open() as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def test_participants_are_split_and_their_contrasts_are_channels(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watched(training, images, work, progress=None):  # type: ignore[no-untyped-def]
        seen.append({image.name: (image.validation, image.channels) for image in images})
        return fit(training, images, work, progress)

    monkeypatch.setattr(models_compare, "fit", watched)
    argv = ["compare", "unet", str(tmp_path / "c"), *given(folder), "--split", "2", "1", "1"]
    assert main([*argv, *QUICK]) == 0
    about = json.loads((tmp_path / "c.json").read_text())["Comparison"]
    (fold,) = about["Folds"]
    assert about["Channels"] == CONTRASTS
    assert sorted(fold["Train"] + fold["Validation"] + fold["Test"]) == PEOPLE
    assert seen == [
        {who: (who in fold["Validation"], 3) for who in (*fold["Train"], *fold["Validation"])}
    ]
    (weights,) = (tmp_path / "c_models").glob("*.safetensors")
    card = load_model(weights).card
    assert (card.channels, card.contrast) == (3, "T1w+T2w+FLAIR")
    rows = rows_of(tmp_path / "c.tsv")
    (tested,) = fold["Test"]
    test = [row for row in rows if row["set"] == "test"]
    assert {row["participant"] for row in test} == {tested}
    assert sorted((row["name"], Path(row["reference"]).name) for row in test) == sorted(
        (name, f"{tested}_res-hr_desc-measured_{contrast}.nii.gz")
        for name in ("unet", "bspline")
        for contrast in CONTRASTS
    )
    for contrast in CONTRASTS:
        fine, coarse = (
            load_image(folder / f"{tested}_res-hr_desc-{desc}_{contrast}.nii.gz")[0]
            for desc in ("measured", "bspline")
        )
        (row,) = [
            row
            for row in test
            if row["name"] == "bspline" and row["reference"].endswith(f"{contrast}.nii.gz")
        ]
        mask = fine > 0
        top = metrics.reference_range(fine, mask)
        expected = metrics.psnr(fine, coarse, data_range=top, mask=mask)
        assert float(row["psnr"]) == pytest.approx(expected, rel=1e-4)
    seen.clear()
    assert main([*argv, *QUICK]) == 0
    assert not seen, "a comparison that is done is not computed again"


def without(words: list[str], name: str) -> list[str]:
    return [word for word in words if name not in word]


REFUSED = {
    "empty set": (lambda folder: [*given(folder), "--split", "3", "0", "1"], "set is empty"),
    "two sets": (
        lambda folder: [*given(folder), "--test-on", "01", "--validate-on", "sub-01"],
        "sub-01: in the validation set",
    ),
    "missing contrast": (
        lambda folder: [
            *without(given(folder), "sub-02_res-hr_desc-measured_FLAIR"),
            "--folds",
            "2",
        ],
        "there are 11 high-resolution images",
    ),
    "one channel": (
        lambda folder: ["--channels", "T1w", *given(folder)[4:], "--folds", "2"],
        "two or three different contrasts",
    ),
    "no coarse scans": (
        lambda folder: [*given(folder)[: 4 + 1 + 12], "--folds", "2"],
        "without --coarse",
    ),
    "factor": (lambda folder: [*given(folder), "--folds", "2", "--factor", "2"], "--factor with"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_code_2_before_any_training(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, reason = REFUSED[name]
    assert main(["compare", "unet", str(tmp_path / "c"), *words(folder)]) == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def refusal(
    words: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str = "unet"
) -> str:
    code = main(["compare", method, str(tmp_path / "c"), *words, "--folds", "2", "--dry-run"])
    assert code == 2
    return capsys.readouterr().err


def test_scans_that_are_no_prepared_heads_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = given(folder)
    lacking = [word for word in words if "sub-02" not in word or "FLAIR" not in word]
    assert "no scan of FLAIR" in refusal(lacking, tmp_path, capsys)
    first_coarse = words.index("--coarse") + 1
    swapped = [*words[:first_coarse], *reversed(words[first_coarse:])]
    assert "specify both lists in the same order" in refusal(swapped, tmp_path, capsys)
    assert "uses a single contrast" in refusal(words, tmp_path, capsys, "srgan")
    bright = tmp_path / "bright" / "sub-01_res-hr_desc-measured_T1w.nii.gz"
    bright.parent.mkdir()
    save_image((900 * scan(0, 0)).astype(np.float32), AFFINE, bright)
    first = str(folder / bright.name)
    changed = [str(bright) if word == first else word for word in words]
    assert "not from 0 to 1" in refusal(changed, tmp_path, capsys)
    save_image(scan(0, 0)[1:].astype(np.float32), AFFINE, bright)
    assert "differs from the grid" in refusal(changed, tmp_path, capsys)
    again = folder / "again" / Path(first).name
    again.parent.mkdir()
    save_image(scan(0, 0).astype(np.float32), AFFINE, again)
    twice = [*words[: first_coarse - 1], str(again), *words[first_coarse - 1 :]]
    twice += [word for word in words if "sub-01_res-hr_desc-bspline_T1w" in word]
    assert "second T1w scan of sub-01" in refusal(twice, tmp_path, capsys)
