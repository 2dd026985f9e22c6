"""Test ``--set`` of ``bids-sr-models train`` and ``search``: models with changed recipe
settings.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from bids_sr.io.nifti import save_image
from bids_sr.model_commands.cli import search as models_search
from bids_sr.model_commands.cli.main import main
from bids_sr.networks.training.phase import TrainingDiverged
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
    assert main(["apply", str(trained), fine, str(out), "--force"]) == 0
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
@pytest.mark.parametrize("command", ["train", "search"])
def test_invalid_settings_are_rejected_before_training(
    command: str,
    argv: list[str],
    reason: str,
    fix: str,
    fine: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    method, *changes = argv
    assert main([command, method, str(tmp_path / "out"), "--fine", fine, *changes]) == 2
    text = capsys.readouterr().err
    # search accepts lists and ranges of values
    assert reason in text or (command == "search" and reason == "FIELD=VALUE")
    assert fix in text or reason == "FIELD=VALUE"
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
        "Settings of the variance maps (change a setting with bids-sr ... --set sbl.SETTING=VALUE)"
        in text
    )
    assert "number of updates of the prior SD maps" in text
    assert main(["list", "tvv"]) == 2
    assert "did you mean 'tv'?" in capsys.readouterr().err


SPACE = ["--set", "filters=4,8", "learning_rate=1e-4..1e-1", *SMALL]


def run_search(fine: str, out: Path, *more: str) -> int:
    return main(["search", "unet", str(out), "--fine", fine, *SPACE, *more])


class Killed(BaseException):
    """Ends a search during a trial."""


def test_a_killed_search_resumes_with_the_same_table(
    fine: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    complete, resumed = tmp_path / "whole", tmp_path / "halted"
    assert run_search(fine, complete, "--trials", "3") == 0
    capsys.readouterr()

    trained, fit = [], models_search.train_network

    def interrupted_fit(*arguments: object) -> object:
        if len(trained) == 1:
            raise Killed
        trained.append(arguments)
        return fit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(models_search, "train_network", interrupted_fit)
    with pytest.raises(Killed):
        run_search(fine, resumed, "--trials", "3")
    table = resumed.with_name("halted.tsv")
    assert len(table.read_text().splitlines()) == 2
    monkeypatch.setattr(
        models_search,
        "train_network",
        lambda *arguments: trained.append(arguments) or fit(*arguments),
    )
    assert run_search(fine, resumed, "--trials", "3") == 0
    assert len(trained) == 3, "a finished trial was trained again"
    assert table.read_bytes() == complete.with_name("whole.tsv").read_bytes()
    assert not resumed.with_name("halted.work").exists()

    # the table, its description, and the best trial
    lines = [line.split("\t") for line in table.read_text().splitlines()]
    metadata = json.loads(resumed.with_name("halted.json").read_text())
    assert lines[0] == [name for name in metadata if name != "Search"]
    rows = [dict(zip(lines[0], cells, strict=True)) for cells in lines[1:]]
    assert [row["trial"] for row in rows] == ["1", "2", "3"]
    assert {row["outcome"] for row in rows} == {"done"}
    assert len({row["learning_rate"] for row in rows}) == 3
    best = max(rows, key=lambda row: float(row["psnr"]))
    text = capsys.readouterr().out
    assert f"Best trial: trial {best['trial']}, held-out PSNR {best['psnr']} dB" in text

    # a model trained by the printed command has the score in the table
    command = next(
        line for line in text.splitlines() if line.startswith("To train the model with")
    )
    program, *argv = shlex.split(command.partition(": ")[2])
    assert program == "bids-sr-models"
    assert main(argv) == 0
    card = read_card(resumed.with_name("halted-best.safetensors"))
    assert card.psnr["network"] == float(best["psnr"])


def test_the_table_of_another_search_is_not_overwritten(
    fine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "table"
    assert run_search(fine, out, "--trials", "1") == 0
    before = out.with_name("table.tsv").read_bytes()
    assert run_search(fine, out, "--trials", "1", "--seed", "1") == 2
    assert "written by a search with other settings or images" in capsys.readouterr().err
    assert out.with_name("table.tsv").read_bytes() == before


def test_a_diverged_trial_has_no_score(
    fine: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def diverging_fit(*arguments: object) -> object:
        raise TrainingDiverged

    monkeypatch.setattr(models_search, "train_network", diverging_fit)
    assert run_search(fine, tmp_path / "table", "--trials", "2") == 0
    rows = (tmp_path / "table.tsv").read_text().splitlines()
    assert [row.split("\t")[-1] for row in rows] == ["outcome", "diverged", "diverged"]
    assert "No trial has a score" in capsys.readouterr().out


def test_grid_search_selects_the_weight_of_total_variation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for number in range(4):
        files.append(tmp_path / f"sub-{number}_T1w.nii.gz")
        rng = np.random.default_rng(number)
        save_image(head() + rng.normal(0, 20, (24, 28, 6)).astype(np.float32), AFFINE, files[-1])
    training_sets, fit = [], models_search.train_network

    def recording_fit(*arguments: object) -> object:
        training_sets.append([image.name for image in arguments[1]])  # type: ignore[attr-defined]
        return fit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(models_search, "train_network", recording_fit)
    table = tmp_path / "alpha"
    argv = ["search", "tv", str(table), "--factor", "2", "--grid"]
    argv += ["--set", "tv=0,0.01,1", "filters=4", "iterations=12"]
    assert main([*argv, "--fine", *map(str, files)]) == 0
    assert training_sets == [["sub-0_T1w", "sub-1_T1w", "sub-3_T1w"]] * 3
    rows = [line.split("\t") for line in table.with_name("alpha.tsv").read_text().splitlines()]
    values = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    assert [row["tv"] for row in values] == ["0", "0.01", "1"]
    scores = [float(row["psnr"]) for row in values]
    assert len(set(scores)) == 3
    # a weight of 1 smooths all detail
    assert scores[2] < min(scores[:2]) - 0.5
    best = max(range(3), key=scores.__getitem__)
    output = capsys.readouterr().out
    assert f"Best trial: trial {best + 1}" in output
    search = json.loads(table.with_name("alpha.json").read_text())["Search"]
    assert (search["Grid"], search["ScoredOn"]) == (True, ["sub-2_T1w"])
    # the baseline score is the same in every trial because the held-out image is the same
    assert float(values[0]["psnr_bspline"]) == float(values[2]["psnr_bspline"])
    # another grid does not resume this table
    argv[argv.index("tv=0,0.01,1")] = "tv=0,0.01"
    assert main([*argv, "--fine", *map(str, files)]) == 2


def test_a_search_with_one_image_is_scored_on_held_out_slices(
    fine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["search", "tv", str(tmp_path / "one"), "--factor", "2", "--fine", fine]
    settings = ["filters=4", "iterations=2", "tv=0.01"]
    assert main([*argv, "--grid", "--set", *settings]) == 0
    assert json.loads((tmp_path / "one.json").read_text())["Search"]["ScoredOn"] == ["sub-01_T1w"]
    capsys.readouterr()
    for options, message in (
        (["--grid", "--set", "tv=0..0.1"], "a list of values instead of a range"),
        (["--grid", "--trials", "3"], "number of combinations"),
    ):
        assert main([*argv, *options]) == 2
        assert message in capsys.readouterr().err
    argv = ["search", "tv", str(tmp_path / "none"), "--coarse", fine]
    assert main(argv) == 2
    assert "specify --fine FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "recipe", "reason", "fix"),
    [
        ("srgan", "paper", "the recipe does not use held-out data", "--recipe fast"),
        ("sbl", "fast", "does not train a network", "a method that trains a network"),
    ],
)
def test_search_rejects_recipes_without_held_out_scores(
    method: str,
    recipe: str,
    reason: str,
    fix: str,
    fine: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["search", method, str(tmp_path / "out"), "--fine", fine, "--recipe", recipe]
    assert main(argv) == 2
    text = capsys.readouterr().err
    assert reason in text
    assert fix in text
