"""``--set`` of ``bids-sr-models train`` and ``search``: models with other settings of a recipe."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from bids_sr.cli.models import search as models_search
from bids_sr.cli.models.main import main
from bids_sr.io.nifti import save_image
from bids_sr.sr.models.card import ModelError, read_card
from bids_sr.sr.models.model import load_model
from bids_sr.sr.training.phase import TrainingDiverged

AFFINE = np.diag([-3.0, 3.0, 4.0, 1.0])
SMALL = ["iterations=3", "batch=1"]


def head() -> np.ndarray:
    """A textured ball on a dark ground."""
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
    """A model of `unet` with fewer filters than its recipe has."""
    out = tmp_path_factory.mktemp("trained") / "model"
    assert main(["train", "unet", str(out), "--fine", fine, "--set", "filters=4", *SMALL]) == 0
    return out.with_name("model.safetensors")


def test_a_model_with_other_settings_says_so_and_is_rebuilt(trained: Path) -> None:
    card = read_card(trained)
    assert card.json["changed_settings"] == {"batch": 1, "filters": 4, "iterations": 3}
    assert (card.settings["batch"], card.settings["iterations"]) == (1, 3)
    model = load_model(trained)
    assert model.generator.first[0].out_channels == 4  # type: ignore[index, union-attr]


def test_it_is_applied(trained: Path, fine: str, tmp_path: Path) -> None:
    out = tmp_path / "made.nii.gz"
    assert main(["apply", str(trained), fine, str(out), "--force"]) == 0
    assert out.exists()


def test_a_card_with_another_change_does_not_go_with_the_weights(
    trained: Path, tmp_path: Path
) -> None:
    for name in ("model.safetensors", "model.json"):
        (tmp_path / name).write_bytes(trained.with_name(name).read_bytes())
    card = json.loads((tmp_path / "model.json").read_text())
    for changes, why in (
        ({**card["changed_settings"], "batch": 2}, "was changed after the model was saved"),
        ({**card["changed_settings"], "filters": 8}, "weights do not match the network of unet"),
        ({"filters": "4"}, "not a number"),
        ({"filters": 1e9}, "from 4 to 256"),
    ):
        (tmp_path / "model.json").write_text(json.dumps(card | {"changed_settings": changes}))
        with pytest.raises(ModelError, match=why):
            load_model(tmp_path / "model.safetensors")


def test_training_begins_with_a_model_of_as_many_filters(
    trained: Path, fine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["train", "unet", str(tmp_path / "tuned"), "--fine", fine, "--from", str(trained)]
    assert main([*argv, "--set", *SMALL]) == 2
    assert "use --set filters=4" in capsys.readouterr().err
    assert main([*argv, "--set", "filters=4", *SMALL]) == 0
    card = read_card(tmp_path / "tuned.safetensors")
    assert card.start_sha256 == read_card(trained).weights_sha256


@pytest.mark.parametrize(
    ("argv", "why", "fix"),
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
def test_what_cannot_be_set_is_refused_before_training(
    command: str,
    argv: list[str],
    why: str,
    fix: str,
    fine: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    method, *changes = argv
    assert main([command, method, str(tmp_path / "out"), "--fine", fine, *changes]) == 2
    text = capsys.readouterr().err
    # the search has another form of values
    assert why in text or (command == "search" and why == "FIELD=VALUE")
    assert fix in text or why == "FIELD=VALUE"
    assert not list(tmp_path.iterdir())


def test_list_shows_the_settings_of_a_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "tv", "sbl"]) == 0
    text = capsys.readouterr().out
    assert (
        "Settings of --recipe paper (change a setting with bids-sr ... --set tv.SETTING=VALUE)"
        in text
    )
    rows = [line for line in text.splitlines() if line.startswith("  tv ")]
    assert len(rows) == 2  # of both recipes
    assert all("0.01" in row and "0 to 0.1, equation 2" in row for row in rows)
    assert "sbl: sparse Bayesian learning" in text
    assert "does not train a network" in text
    assert main(["list", "tvv"]) == 2
    assert "did you mean 'tv'?" in capsys.readouterr().err


SPACE = ["--set", "filters=4,8", "learning_rate=1e-4..1e-1", *SMALL]


def searched(fine: str, out: Path, *more: str) -> int:
    return main(["search", "unet", str(out), "--fine", fine, *SPACE, *more])


class Killed(BaseException):
    """A search that is killed in a trial."""


def test_a_search_that_was_killed_continues_to_the_same_table(
    fine: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, halted = tmp_path / "whole", tmp_path / "halted"
    assert searched(fine, whole, "--trials", "3") == 0
    capsys.readouterr()

    trained, fit = [], models_search.fit

    def killed(*given: object) -> object:
        if len(trained) == 1:
            raise Killed
        trained.append(given)
        return fit(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(models_search, "fit", killed)
    with pytest.raises(Killed):
        searched(fine, halted, "--trials", "3")
    table = halted.with_name("halted.tsv")
    assert len(table.read_text().splitlines()) == 2
    monkeypatch.setattr(models_search, "fit", lambda *given: trained.append(given) or fit(*given))
    assert searched(fine, halted, "--trials", "3") == 0
    assert len(trained) == 3, "a finished trial was trained again"
    assert table.read_bytes() == whole.with_name("whole.tsv").read_bytes()
    assert not halted.with_name("halted.work").exists()

    # the table, its description, and the best trial
    lines = [line.split("\t") for line in table.read_text().splitlines()]
    described = json.loads(halted.with_name("halted.json").read_text())
    assert lines[0] == [name for name in described if name != "Search"]
    rows = [dict(zip(lines[0], cells, strict=True)) for cells in lines[1:]]
    assert [row["trial"] for row in rows] == ["1", "2", "3"]
    assert {row["outcome"] for row in rows} == {"done"}
    assert len({row["learning_rate"] for row in rows}) == 3
    best = max(rows, key=lambda row: float(row["psnr"]))
    text = capsys.readouterr().out
    assert f"Best trial: trial {best['trial']}, held-out PSNR {best['psnr']} dB" in text

    # the printed command gives a model with the score of the table
    command = next(
        line for line in text.splitlines() if line.startswith("To train the model with")
    )
    program, *argv = shlex.split(command.partition(": ")[2])
    assert program == "bids-sr-models"
    assert main(argv) == 0
    card = read_card(halted.with_name("halted-best.safetensors"))
    assert card.psnr["network"] == float(best["psnr"])


def test_a_table_of_another_search_is_not_continued(
    fine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "table"
    assert searched(fine, out, "--trials", "1") == 0
    before = out.with_name("table.tsv").read_bytes()
    assert searched(fine, out, "--trials", "1", "--seed", "1") == 2
    assert "written by a search with other settings or images" in capsys.readouterr().err
    assert out.with_name("table.tsv").read_bytes() == before


def test_a_trial_that_diverges_has_no_score_and_is_not_the_best(
    fine: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def diverged(*given: object) -> object:
        raise TrainingDiverged

    monkeypatch.setattr(models_search, "fit", diverged)
    assert searched(fine, tmp_path / "table", "--trials", "2") == 0
    rows = (tmp_path / "table.tsv").read_text().splitlines()
    assert [row.split("\t")[-1] for row in rows] == ["outcome", "diverged", "diverged"]
    assert "No trial has a score" in capsys.readouterr().out


def test_alpha_of_tv_is_chosen_by_a_grid_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for number in range(4):
        files.append(tmp_path / f"sub-{number}_T1w.nii.gz")
        rng = np.random.default_rng(number)
        save_image(head() + rng.normal(0, 20, (24, 28, 6)).astype(np.float32), AFFINE, files[-1])
    trained, fit = [], models_search.fit

    def watched(*given: object) -> object:
        trained.append([image.name for image in given[1]])  # type: ignore[attr-defined]
        return fit(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(models_search, "fit", watched)
    table = tmp_path / "alpha"
    argv = ["search", "tv", str(table), "--factor", "2", "--grid"]
    argv += ["--set", "tv=0,0.01,1", "filters=4", "iterations=12"]
    assert main([*argv, "--fine", *map(str, files)]) == 0
    assert trained == [["sub-0_T1w", "sub-1_T1w", "sub-3_T1w"]] * 3
    rows = [line.split("\t") for line in table.with_name("alpha.tsv").read_text().splitlines()]
    values = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    assert [row["tv"] for row in values] == ["0", "0.01", "1"]
    scores = [float(row["psnr"]) for row in values]
    assert len(set(scores)) == 3
    # a weight of 1 smooths everything away
    assert scores[2] < min(scores[:2]) - 0.5
    best = max(range(3), key=scores.__getitem__)
    said = capsys.readouterr().out
    assert f"Best trial: trial {best + 1}" in said
    search = json.loads(table.with_name("alpha.json").read_text())["Search"]
    assert (search["Grid"], search["ScoredOn"]) == (True, ["sub-2_T1w"])
    # the score is that of the evaluation of the best model's network in the held-out image
    assert float(values[0]["psnr_bspline"]) == float(values[2]["psnr_bspline"])
    # the table of another grid is not continued
    argv[argv.index("tv=0,0.01,1")] = "tv=0,0.01"
    assert main([*argv, "--fine", *map(str, files)]) == 2


def test_a_search_with_one_image_scores_what_training_does_not_see(
    fine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["search", "tv", str(tmp_path / "one"), "--factor", "2", "--fine", fine]
    small = ["filters=4", "iterations=2", "tv=0.01"]
    assert main([*argv, "--grid", "--set", *small]) == 0
    assert json.loads((tmp_path / "one.json").read_text())["Search"]["ScoredOn"] == ["sub-01_T1w"]
    capsys.readouterr()
    for more, why in (
        (["--grid", "--set", "tv=0..0.1"], "a list of values instead of a range"),
        (["--grid", "--trials", "3"], "number of combinations"),
    ):
        assert main([*argv, *more]) == 2
        assert why in capsys.readouterr().err
    argv = ["search", "tv", str(tmp_path / "none"), "--coarse", fine]
    assert main(argv) == 2
    assert "specify --fine FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "recipe", "why", "fix"),
    [
        ("srgan", "paper", "the recipe does not use held-out data", "paper-mse"),
        ("sbl", "fast", "does not train a network", "a method that trains a network"),
    ],
)
def test_a_recipe_without_held_out_scores_is_not_searched(
    method: str,
    recipe: str,
    why: str,
    fix: str,
    fine: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["search", method, str(tmp_path / "out"), "--fine", fine, "--recipe", recipe]
    assert main(argv) == 2
    text = capsys.readouterr().err
    assert why in text
    assert fix in text
