"""Test ``--channels`` of ``bids-sr-models compare``: T1w, T2w and FLAIR as network channels."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.io.nifti import load_image, save_image
from bids_sr.metrics import similarity
from bids_sr.model_commands.cli import compare as models_compare
from bids_sr.model_commands.cli.channels import group_by_head
from bids_sr.model_commands.cli.main import main
from bids_sr.model_commands.cli.options import CompareOptions
from bids_sr.networks.training.trainer import train_network
from bids_sr.sr.models.model import load_model

AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
PARTICIPANTS = ["sub-01", "sub-02", "sub-03", "sub-04"]
CONTRASTS = ["T1w", "T2w", "FLAIR"]
QUICK_SETTINGS = ["--set", "iterations=3", "filters=4", "batch=2"]


def scan(seed: int, contrast: int) -> np.ndarray:
    x, y, z = np.indices((50, 52, 3), float)
    inside = ((x - 24.5) / 22) ** 2 + ((y - 25.5) / 23) ** 2 < 1
    phase = x * (0.5 + 0.1 * seed) + 0.7 * contrast
    return np.where(inside, 0.5 + 0.3 * np.sin(phase) * np.cos(0.7 * y) + 0.02 * z, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    for k, participant in enumerate(PARTICIPANTS):
        for number, contrast in enumerate(CONTRASTS):
            fine = scan(k, number)
            low = np.where(fine > 0, ndimage.gaussian_filter(fine, (1.5, 1.5, 0)), 0)
            for desc, data in (("measured", fine), ("bspline", low)):
                file = folder / f"{participant}_res-hr_desc-{desc}_{contrast}.nii.gz"
                save_image(data.astype(np.float32), AFFINE, file)
    return folder


def image_options(folder: Path) -> list[str]:
    options = ["--channels", *CONTRASTS]
    for flag, desc in (("--fine", "measured"), ("--coarse", "bspline")):
        options += [flag]
        options += [
            str(folder / f"{participant}_res-hr_desc-{desc}_{contrast}.nii.gz")
            for contrast in CONTRASTS
            for participant in PARTICIPANTS
        ]
    return options


def read_rows(file: Path) -> list[dict[str, str]]:
    with file.open() as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def test_contrasts_of_a_participant_are_channels_in_one_set(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_images = []

    def recording_fit(training, images, work, progress=None):  # type: ignore[no-untyped-def]
        trained_images.append({image.name: (image.validation, image.channels) for image in images})
        return train_network(training, images, work, progress)

    monkeypatch.setattr(models_compare, "train_network", recording_fit)
    argv = [
        "compare",
        "unet",
        str(tmp_path / "c"),
        *image_options(folder),
        "--split",
        "2",
        "1",
        "1",
    ]
    assert main([*argv, *QUICK_SETTINGS]) == 0
    metadata = json.loads((tmp_path / "c.json").read_text())["Comparison"]
    (fold,) = metadata["Folds"]
    assert metadata["Channels"] == CONTRASTS
    assert sorted(fold["Train"] + fold["Validation"] + fold["Test"]) == PARTICIPANTS
    assert trained_images == [
        {
            participant: (participant in fold["Validation"], 3)
            for participant in (*fold["Train"], *fold["Validation"])
        }
    ]
    (weights,) = (tmp_path / "c_models").glob("*.safetensors")
    card = load_model(weights).card
    assert (card.channels, card.contrast) == (3, "T1w+T2w+FLAIR")
    rows = read_rows(tmp_path / "c.tsv")
    (test_participant,) = fold["Test"]
    test = [row for row in rows if row["set"] == "test"]
    assert {row["participant"] for row in test} == {test_participant}
    assert sorted((row["name"], Path(row["reference"]).name) for row in test) == sorted(
        (name, f"{test_participant}_res-hr_desc-measured_{contrast}.nii.gz")
        for name in ("unet", "bspline")
        for contrast in CONTRASTS
    )
    for contrast in CONTRASTS:
        fine, low = (
            load_image(folder / f"{test_participant}_res-hr_desc-{desc}_{contrast}.nii.gz")[0]
            for desc in ("measured", "bspline")
        )
        (row,) = [
            row
            for row in test
            if row["name"] == "bspline" and row["reference"].endswith(f"{contrast}.nii.gz")
        ]
        mask = fine > 0
        data_range = similarity.reference_range(fine, mask)
        expected = similarity.psnr(fine, low, data_range=data_range, mask=mask)
        assert float(row["psnr"]) == pytest.approx(expected, rel=1e-4)
    trained_images.clear()
    assert main([*argv, *QUICK_SETTINGS]) == 0
    assert not trained_images, "a finished comparison was repeated"


def without_name(words: list[str], name: str) -> list[str]:
    return [word for word in words if name not in word]


INVALID = {
    "empty set": (
        lambda folder: [*image_options(folder), "--split", "3", "0", "1"],
        "set contains no participants",
    ),
    "two sets": (
        lambda folder: [*image_options(folder), "--test-on", "01", "--validate-on", "sub-01"],
        "in both the validation set and the test set: sub-01",
    ),
    "missing contrast": (
        lambda folder: [
            *without_name(image_options(folder), "sub-02_res-hr_desc-measured_FLAIR"),
            "--folds",
            "2",
        ],
        "11 high-resolution images were specified",
    ),
    "one channel": (
        lambda folder: ["--channels", "T1w", *image_options(folder)[4:], "--folds", "2"],
        "two or three different contrasts",
    ),
    "no coarse scans": (
        lambda folder: [*image_options(folder)[: 4 + 1 + 12], "--folds", "2"],
        "without --coarse",
    ),
    "factor": (
        lambda folder: [*image_options(folder), "--folds", "2", "--factor", "2"],
        "--factor with",
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_options_exit_with_code_2_before_training(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, reason = INVALID[name]
    assert main(["compare", "unet", str(tmp_path / "c"), *words(folder)]) == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def refusal(
    words: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str = "unet"
) -> str:
    code = main(["compare", method, str(tmp_path / "c"), *words, "--folds", "2", "--dry-run"])
    assert code == 2
    return capsys.readouterr().err


def test_scans_that_were_not_prepared_are_rejected(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = image_options(folder)
    without_flair = [
        option for option in options if "sub-02" not in option or "FLAIR" not in option
    ]
    assert "no FLAIR scan" in refusal(without_flair, tmp_path, capsys)
    first_coarse = options.index("--coarse") + 1
    swapped = [*options[:first_coarse], *reversed(options[first_coarse:])]
    assert "in the same order" in refusal(swapped, tmp_path, capsys)
    assert "uses only one contrast" in refusal(options, tmp_path, capsys, "srgan")
    bright_scan = tmp_path / "bright" / "sub-01_res-hr_desc-measured_T1w.nii.gz"
    bright_scan.parent.mkdir()
    save_image((900 * scan(0, 0)).astype(np.float32), AFFINE, bright_scan)
    first = str(folder / bright_scan.name)
    with_bright_scan = [str(bright_scan) if option == first else option for option in options]
    assert "expected values between 0 and 1" in refusal(with_bright_scan, tmp_path, capsys)
    save_image(scan(0, 0)[1:].astype(np.float32), AFFINE, bright_scan)
    assert "differs from the grid" in refusal(with_bright_scan, tmp_path, capsys)
    duplicate = folder / "again" / Path(first).name
    duplicate.parent.mkdir()
    save_image(scan(0, 0).astype(np.float32), AFFINE, duplicate)
    with_duplicate = [*options[: first_coarse - 1], str(duplicate), *options[first_coarse - 1 :]]
    with_duplicate += [option for option in options if "sub-01_res-hr_desc-bspline_T1w" in option]
    assert "sub-01 already has a T1w scan" in refusal(with_duplicate, tmp_path, capsys)


def test_settings_are_drawn_for_several_contrasts(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = []

    def recording_fit(training, images, work, progress=None):  # type: ignore[no-untyped-def]
        rate = training.effective_recipe.critic_learning_rate
        trials.append((rate, {image.name: (image.validation, image.channels) for image in images}))
        return train_network(training, images, work, progress)

    monkeypatch.setattr(models_compare, "train_network", recording_fit)
    argv = ["compare", "attunet", str(tmp_path / "c"), *image_options(folder), "--trials", "2"]
    argv += ["--split", "2", "1", "1", "--set", "critic_learning_rate=1e-5..1e-2"]
    assert main([*argv, *QUICK_SETTINGS[1:]]) == 0
    (fold,) = json.loads((tmp_path / "c.json").read_text())["Comparison"]["Folds"]
    expected_images = {
        participant: (participant in fold["Validation"], 3)
        for participant in PARTICIPANTS
        if participant not in fold["Test"]
    }
    assert [images for _, images in trials] == [expected_images] * 2
    rates = [rate for rate, _ in trials]
    assert len(set(rates)) == 2
    assert all(1e-5 <= rate <= 1e-2 for rate in rates)
    names = {row["name"] for row in read_rows(tmp_path / "c.tsv")}
    assert {f"attunet critic_learning_rate={rate:.9g}" for rate in rates} < names


def test_scans_of_a_head_are_in_the_order_of_the_channels_with_its_own_mask() -> None:
    """Files are listed in any order; heads of two sessions are of one participant."""
    names = [
        f"{head}_{{}}_{contrast}.nii.gz"
        for contrast in ("FLAIR", "T1w")
        for head in ("sub-01_ses-b", "sub-02", "sub-01_ses-a")
    ]
    fine, coarse, mask = (
        tuple(Path(name.format(f"desc-{kind}")) for name in names)
        for kind in ("fine", "coarse", "brain")
    )
    options = CompareOptions(
        method="attunet",
        out=Path("c"),
        fine=fine,
        coarse=coarse,
        mask=mask,
        channels=("T1w", "FLAIR"),
        folds=2,
    )
    heads = {head.name: head for head in group_by_head(options)}
    assert {name: head.participant for name, head in heads.items()} == {
        "sub-01_ses-b": "sub-01",
        "sub-02": "sub-02",
        "sub-01_ses-a": "sub-01",
    }
    for number, name in enumerate(heads):
        assert heads[name].fine == (fine[3 + number], fine[number])
        assert heads[name].coarse == (coarse[3 + number], coarse[number])
        assert heads[name].mask == mask[3 + number]
