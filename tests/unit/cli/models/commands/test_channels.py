"""``--channels`` of ``bids-sr-models compare``: T1w, T2w and FLAIR as network channels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data.scans import AFFINE, read_rows, scan
from scipy import ndimage

from bids_sr.cli.models.commands import compare as models_compare
from bids_sr.cli.models.commands.channels import group_by_head
from bids_sr.cli.models.commands.main import main
from bids_sr.cli.models.commands.options import CompareOptions
from bids_sr.io.nifti import load_image, save_image
from bids_sr.spatial import image_similarity
from bids_sr.sr.models.model import load_model
from bids_sr.sr.networks.training.trainer import train_network

PARTICIPANTS = ["sub-01", "sub-02", "sub-03", "sub-04"]
CONTRASTS = ["T1w", "T2w", "FLAIR"]
SPLIT = ["--split", "2", "1", "1"]


def prepared(seed: int) -> np.ndarray:
    """Return a scan with values from 0 to 1, and 0 outside the head."""
    values = scan(seed, (50, 52, 3)) / 1000
    return np.where(values > 0.1, values, 0).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    for k, participant in enumerate(PARTICIPANTS):
        for number, contrast in enumerate(CONTRASTS):
            fine = prepared(3 * k + number)
            low = np.where(fine > 0, ndimage.gaussian_filter(fine, (1.5, 1.5, 0)), 0)
            for desc, data in (("measured", fine), ("bspline", low)):
                file = folder / f"{participant}_res-hr_desc-{desc}_{contrast}.nii.gz"
                save_image(data.astype(np.float32), AFFINE, file)
    return folder


def files(folder: Path, desc: str) -> list[str]:
    return [
        str(folder / f"{participant}_res-hr_desc-{desc}_{contrast}.nii.gz")
        for contrast in CONTRASTS
        for participant in PARTICIPANTS
    ]


@pytest.fixture
def words(folder: Path) -> list[str]:
    """Return the options for all contrasts of all participants."""
    images = ["--fine", *files(folder, "measured"), "--coarse", *files(folder, "bspline")]
    return ["--channels", *CONTRASTS, *images]


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, dict[str, tuple[bool, int]]]]:
    """List the critic's learning rate and the images of each training."""
    calls = []

    def recording_fit(training, images, work, progress=None):  # type: ignore[no-untyped-def]
        rate = training.effective_recipe.critic_learning_rate
        calls.append((rate, {image.name: (image.validation, image.channels) for image in images}))
        return train_network(training, images, work, progress)

    monkeypatch.setattr(models_compare, "train_network", recording_fit)
    return calls


def images_of(out: Path) -> tuple[dict[str, tuple[bool, int]], str]:
    """Return the images that a comparison must train on, and its test participant."""
    comparison = json.loads(out.with_suffix(".json").read_text())["Comparison"]
    (fold,) = comparison["Folds"]
    assert comparison["Channels"] == CONTRASTS
    assert sorted(fold["Train"] + fold["Validation"] + fold["Test"]) == PARTICIPANTS
    (test_participant,) = fold["Test"]
    training = [*fold["Train"], *fold["Validation"]]
    return {name: (name in fold["Validation"], 3) for name in training}, test_participant


def test_contrasts_of_a_participant_are_channels_in_one_set(
    folder: Path, words: list[str], tmp_path: Path, trainings: list
) -> None:
    """A finished comparison is not repeated."""
    settings = ["--set", "iterations=3", "filters=4", "batch=2"]
    for _ in range(2):
        assert main(["compare", "unet", str(tmp_path / "c"), *words, *SPLIT, *settings]) == 0
    expected, participant = images_of(tmp_path / "c")
    assert [images for _, images in trainings] == [expected]
    (weights,) = (tmp_path / "c_models").glob("*.safetensors")
    card = load_model(weights).card
    assert (card.channels, card.contrast) == (3, "T1w+T2w+FLAIR")
    rows = [row for row in read_rows(tmp_path / "c.tsv") if row["set"] == "test"]
    assert {row["participant"] for row in rows} == {participant}
    by_image = {(row["name"], Path(row["reference"]).name): row for row in rows}
    assert len(by_image) == 2 * len(CONTRASTS)
    for contrast in CONTRASTS:
        names = [
            f"{participant}_res-hr_desc-{desc}_{contrast}.nii.gz"
            for desc in ("measured", "bspline")
        ]
        fine, low = (load_image(folder / name)[0] for name in names)
        mask = fine > 0
        data_range = image_similarity.reference_range(fine, mask)
        psnr = image_similarity.psnr(fine, low, data_range=data_range, mask=mask)
        assert float(by_image["bspline", names[0]]["psnr"]) == pytest.approx(psnr, rel=1e-4)
        assert ("unet", names[0]) in by_image


def without(words: list[str], *parts: str) -> list[str]:
    return [word for word in words if not all(part in word for part in parts)]


def replaced(words: list[str], tmp_path: Path, values: np.ndarray) -> list[str]:
    """Replace the first scan."""
    save_image(values.astype(np.float32), AFFINE, file := tmp_path / Path(words[5]).name)
    return [*words[:5], str(file), *words[6:]]


def twice(words: list[str]) -> list[str]:
    """Add a second T1w scan of the first participant."""
    at = words.index("--coarse")
    return [*words[:at], words[5], *words[at:], words[at + 1]]


Change = Callable[[list[str], Path], list[str]]
INVALID: dict[str, tuple[Change, str]] = {
    # change of the words, and a part of the message
    "missing contrast": (lambda words, _: without(words, "sub-02", "measured_FLAIR"), "11"),
    "no scan of a participant": (lambda words, _: without(words, "sub-02", "FLAIR"), "FLAIR"),
    "one channel": (lambda words, _: ["--channels", "T1w", *words[4:]], "--channels"),
    "no coarse scans": (lambda words, _: words[: words.index("--coarse")], "--coarse"),
    "factor": (lambda words, _: [*words, "--factor", "2"], "--factor"),
    "order": (lambda words, _: [*words[:18], *reversed(words[18:])], "order"),
    "range": (lambda words, at: replaced(words, at, 900 * prepared(0)), "0 and 1"),
    "grid": (lambda words, at: replaced(words, at, prepared(0)[1:]), "grid"),
    "twice": (lambda words, _: twice(words), "sub-01"),
}


@pytest.mark.parametrize("name", INVALID)
def test_scans_that_do_not_belong_together_are_rejected(
    name: str,
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change, part = INVALID[name]
    options = [*change(words, tmp_path), "--folds", "2", "--dry-run"]
    assert main(["compare", "unet", str(tmp_path / "c"), *options]) == 2
    assert part in capsys.readouterr().err


def test_a_method_of_one_contrast_is_rejected(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "srgan", str(tmp_path / "c"), *words, "--folds", "2"]) == 2
    assert "srgan" in capsys.readouterr().err


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
