"""Test ``--set`` of ``bids-sr-models train``: models with changed recipe settings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bids_sr.io.nifti import save_image
from bids_sr.model_commands.cli.main import main
from bids_sr.sr.models.card import ModelError, read_card
from bids_sr.sr.models.model import load_model

AFFINE = np.diag([-3.0, 3.0, 4.0, 1.0])
SMALL = ["iterations=3", "batch=1"]


def head() -> np.ndarray:
    """Return a textured ball on a dark background."""
    grid = np.indices((24, 28, 6), float)
    middle = [(n - 1) / 2 for n in grid.shape[1:]]
    radius = sum(
        ((g - m) / (0.45 * n)) ** 2 for g, m, n in zip(grid, middle, grid.shape[1:], strict=True)
    )
    texture = 1 + 0.3 * np.sin(grid[0] * 1.7) * np.cos(grid[1] * 1.3)
    noise = np.random.default_rng(0).normal(0, 2, grid.shape[1:])
    return np.asarray(np.where(radius < 1, 500 * texture, 5) + noise, np.float32)


@pytest.fixture(scope="module")
def fine(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("fine") / "sub-01_T1w.nii.gz"
    save_image(head(), AFFINE, file)
    return str(file)


@pytest.fixture(scope="module")
def trained(fine: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a `unet` model with fewer filters than its recipe."""
    out = tmp_path_factory.mktemp("trained") / "model"
    assert main(["train", "unet", str(out), "--fine", fine, "--set", "filters=4", *SMALL]) == 0
    return out.with_name("model.safetensors")


def test_changed_settings_are_stored_in_the_card_and_used_on_loading(trained: Path) -> None:
    card = read_card(trained)
    assert card.json["changed_settings"] == {"batch": 1, "filters": 4, "iterations": 3}
    assert (card.settings["batch"], card.settings["iterations"]) == (1, 3)
    model = load_model(trained)
    assert model.generator.first[0].out_channels == 4  # type: ignore[index, union-attr]


def test_a_model_with_changed_settings_can_be_applied(
    trained: Path, fine: str, tmp_path: Path
) -> None:
    out = tmp_path / "made.nii.gz"
    assert main(["apply", str(trained), fine, str(out), "--allow", "resolution"]) == 0
    assert out.exists()


def test_an_edited_card_is_rejected(trained: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "model.json"):
        (tmp_path / name).write_bytes(trained.with_name(name).read_bytes())
    card = json.loads((tmp_path / "model.json").read_text())
    for changes, message in (
        ({**card["changed_settings"], "batch": 2}, "was changed after the model was saved"),
        ({**card["changed_settings"], "filters": 8}, "weights do not match the network of unet"),
        ({"filters": "4"}, "not a number"),
        ({"filters": 1e9}, "from 4 to 256"),
    ):
        (tmp_path / "model.json").write_text(json.dumps(card | {"changed_settings": changes}))
        with pytest.raises(ModelError, match=message):
            load_model(tmp_path / "model.safetensors")


def test_training_from_a_model_requires_the_same_number_of_filters(
    trained: Path, fine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["train", "unet", str(tmp_path / "tuned"), "--fine", fine, "--from", str(trained)]
    assert main([*argv, "--set", *SMALL]) == 2
    assert "use --set filters=4" in capsys.readouterr().err
    assert main([*argv, "--set", "filters=4", *SMALL]) == 0
    card = read_card(tmp_path / "tuned.safetensors")
    assert card.start_sha256 == read_card(trained).weights_sha256


@pytest.mark.parametrize(
    ("argv", "reason", "fix"),
    [
        (["unet", "--set", "filter=8"], "no setting 'filter'", "Did you mean filters?"),
        (["unet", "--set", "filters=1"], "from 4 to 256", "in this range"),
        (
            ["unet", "--set", "tv.tv=1"],
            "a setting of the method unet",
            "without the name of a method",
        ),
        (["unet", "--set", "filters"], "FIELD=VALUE", "batch=8"),
        (["unet", "--set", "mae=0", "ssim=0"], "weight of 0", "above 0 for at least one of mae"),
        (["unet", "--set", "patch=64"], "patches of 64 x 64 voxels are larger", "larger images"),
        (["cpce", "--set", "perceptual=1"], "no VGG-19 weights", "--vgg-weights"),
    ],
)
def test_invalid_settings_are_rejected_before_training(
    argv: list[str],
    reason: str,
    fix: str,
    fine: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    method, *changes = argv
    assert main(["train", method, str(tmp_path / "out"), "--fine", fine, *changes]) == 2
    text = capsys.readouterr().err
    assert reason in text
    assert fix in text
    assert not list(tmp_path.iterdir())


def test_list_shows_the_settings_of_a_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "tv", "sbl"]) == 0
    text = capsys.readouterr().out
    assert (
        "Settings of --recipe paper (change a setting with bids-sr ... --set tv.SETTING=VALUE)"
        in text
    )
    rows = [line for line in text.splitlines() if line.startswith("  tv ")]
    assert len(rows) == 2  # one row per recipe
    assert all("0.01" in row and "0 to 0.1, equation 2" in row for row in rows)
    assert "sbl: sparse Bayesian learning" in text
    assert (
        "Settings of the prior SD maps (change a setting with bids-sr ... --set sbl.SETTING=VALUE)"
        in text
    )
    assert "number of updates of the prior SD maps" in text
    assert main(["list", "tvv"]) == 2
    assert "did you mean 'tv'?" in capsys.readouterr().err
