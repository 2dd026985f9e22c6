"""Test ``bids-sr-models compare``: sets of participants, settings as candidates, and the same
tables after an interruption.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bids_sr.io.nifti import load_image, save_image
from bids_sr.model_commands.cli import compare as models_compare
from bids_sr.model_commands.cli.main import main
from bids_sr.networks.data.examples import Examples
from bids_sr.networks.data.images import TrainingImage
from bids_sr.networks.training.phase import TrainingDiverged
from bids_sr.networks.training.trainer import train_network
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import load_model

AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
PARTICIPANTS = ["sub-01", "sub-02", "sub-03", "sub-04"]
QUICK_SETTINGS = ["--set", "iterations=3", "filters=4", "batch=2", "--factor", "2"]


def head(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x, y, z = np.indices((50, 52, 3), float)
    inside = ((x - 24.5) / 22) ** 2 + ((y - 25.5) / 23) ** 2 < 1
    texture = 500 + 100 * np.sin(x * (0.5 + 0.1 * seed)) * np.cos(0.7 * y) + 20 * z
    return np.asarray(np.where(inside, texture, 5) + rng.normal(0, 5, x.shape), np.float32)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("scans")
    files = [folder / f"{participant}_T1w.nii.gz" for participant in PARTICIPANTS]
    for k, file in enumerate(files):
        save_image(head(k), AFFINE, file)
    return [str(file) for file in files]


def tables(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.glob("c*.tsv"))}


def read_rows(file: Path) -> list[dict[str, str]]:
    with file.open() as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


class Killed(BaseException):
    """A signal that ends the program."""


def test_a_killed_comparison_resumes_with_the_same_tables(
    scans: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["--fine", *scans, "--folds", "2", "--validation", "1", *QUICK_SETTINGS]
    complete, resumed = tmp_path / "whole" / "c", tmp_path / "cut" / "c"
    assert main(["compare", "unet", str(complete), *argv]) == 0
    calls = []

    def interrupted_fit(training, images, work, progress=None):  # type: ignore[no-untyped-def]
        calls.append([image.name for image in images])

        def step(phase: str, done: int, count: int) -> None:
            if len(calls) == 2 and done == 2:
                raise Killed

        return train_network(training, images, work, step)

    monkeypatch.setattr(models_compare, "train_network", interrupted_fit)
    with pytest.raises(Killed):
        main(["compare", "unet", str(resumed), *argv])
    assert {row["fold"] for row in read_rows(resumed.with_suffix(".tsv"))} == {"1"}
    calls += [[]]  # continue to the end
    assert main(["compare", "unet", str(resumed), *argv]) == 0
    assert len(calls) == 4, "the first fold was trained again"
    assert tables(resumed.parent) == tables(complete.parent)
    assert set(tables(resumed.parent)) == {"c.tsv", "c_summary.tsv", "c_tests.tsv"}
    rows = [row for row in read_rows(complete.with_suffix(".tsv")) if row["name"] == "unet"]
    assert sorted(row["participant"] for row in rows if row["set"] == "test") == PARTICIPANTS
    assert len([row for row in rows if row["set"] == "validation"]) == 2
    calls.clear()
    assert main(["compare", "unet", str(resumed), *argv]) == 0
    assert not calls
    assert tables(resumed.parent) == tables(complete.parent)


def test_models_of_two_resolutions_are_tested_on_held_out_participants(
    scans: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_images = []

    def recording_fit(training, images, work, progress=None):  # type: ignore[no-untyped-def]
        trained_images.append(
            {image.name[:6]: (image.validation, image.zooms[0]) for image in images}
        )
        return train_network(training, images, work, progress)

    monkeypatch.setattr(models_compare, "train_network", recording_fit)
    argv = ["--fine", *scans, "--test-on", "03", "sub-04", "--validate-on", "02", *QUICK_SETTINGS]
    argv += ["--train-coarser", "1", "1.04"]
    assert main(["compare", "unet", str(tmp_path / "c"), *argv]) == 0
    assert trained_images[0] == {"sub-01": (False, 3.0), "sub-02": (True, 3.0)}
    assert trained_images[1]["sub-01"][1] == pytest.approx(3 * 1.04, rel=0.01)
    rows = read_rows(tmp_path / "c.tsv")
    test_participants = {row["participant"] for row in rows if row["set"] == "test"}
    assert test_participants == {"sub-03", "sub-04"}
    assert {"unet", "unet-at-1.04x", "bspline"} <= {row["name"] for row in rows}
    [row] = [row for row in read_rows(tmp_path / "c_anova.tsv") if row["metric"] == "psnr"]
    assert row["groups"] == "unet (n = 2); unet-at-1.04x (n = 2)"


def test_models_can_be_tested_at_half_the_resolution(tmp_path: Path) -> None:
    files = []
    for number, participant in enumerate(PARTICIPANTS[:3]):
        files.append(tmp_path / participant / "T1w.nii.gz")  # the folder is the participant label
        files[-1].parent.mkdir()
        save_image(head(number)[:48, :48], AFFINE, files[-1])
    argv = [
        "--fine",
        *map(str, files),
        "--test-on",
        "03",
        *QUICK_SETTINGS,
        "--degradation",
        "block",
    ]
    argv += ["--train-coarser", "1", "2", "--test-coarser", "2"]
    out = tmp_path / "c"
    assert main(["compare", "unet", str(out), *argv]) == 0
    models = tmp_path / "c_models"
    sizes = {
        path.stem: load_model(path).card.lowres_mm[0] for path in models.glob("*.safetensors")
    }
    assert sizes == {"fold-1_unet": 6.0, "fold-1_unet-at-2x": 12.0}
    rows = read_rows(tmp_path / "c.tsv")
    assert {row["participant"] for row in rows} == {"sub-03"}
    assert {"unet", "unet-at-2x", "bspline"} <= {row["name"] for row in rows}
    # the test image has half the resolution, averaged here by hand
    [reference] = models.rglob("T1w.nii.gz")
    low, affine = load_image(reference)
    fine = head(2)[:48, :48]
    np.testing.assert_allclose(low, fine.reshape(24, 2, 24, 2, 3).mean((1, 3)), rtol=1e-5)
    np.testing.assert_allclose(np.diag(affine), [6, 6, 4, 1])
    table = tmp_path / "e.tsv"
    options = ["--degradation", "block", "--factor", "2", "-m", str(models / "fold-1_unet-at-2x")]
    options[-1] += ".safetensors"
    assert main(["evaluate", str(reference), *options, "-o", str(table)]) == 0
    [matched] = [row for row in rows if row["name"] == "unet-at-2x"]
    scores = [float(row["nmse"]) for row in read_rows(table) if row["name"].startswith("unet")]
    assert scores == [pytest.approx(float(matched["nmse"]), rel=1e-3)]
    # a comparison at another test resolution must not resume this one
    argv[-1] = "1"
    assert main(["compare", "unet", str(out), *argv]) == 2


SPLIT = ["--split", "2", "1", "1"]


def test_settings_are_candidates_and_the_best_is_selected_on_the_validation_set(
    scans: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["compare", "tv", str(tmp_path / "c"), "--fine", *scans, "--factor", "2", *SPLIT]
    argv += ["--set", "tv=0,0.01,1", "filters=4", "iterations=12"]
    assert main(argv) == 0
    rows = read_rows(tmp_path / "c.tsv")
    names = ["tv tv=0", "tv tv=0.01", "tv tv=1"]
    scores = {row["name"]: float(row["psnr"]) for row in rows if row["set"] == "validation"}
    assert {row["name"] for row in rows if row["set"] == "test"} == set(scores) > {*names}
    # a weight of 1 smooths all detail
    assert scores["tv tv=1"] < min(scores["tv tv=0"], scores["tv tv=0.01"]) - 0.5
    best = max(names, key=scores.__getitem__)
    text = capsys.readouterr().out
    assert f"Highest PSNR of tv on the validation set: {best}, {scores[best]:.2f} dB" in text
    assert f"use --set {best.partition(' ')[2]}" in text
    models = {path.stem: path for path in (tmp_path / "c_models").glob("*.safetensors")}
    assert set(models) == {f"fold-1_{name.replace(' ', '_')}" for name in names}
    card = load_model(models["fold-1_tv_tv=1"]).card
    assert card.json["changed_settings"] == {"filters": 4, "iterations": 12, "tv": 1}
    # another grid does not resume this table
    argv[argv.index("tv=0,0.01,1")] = "tv=0,0.01"
    assert main(argv) == 2


def test_without_a_validation_set_no_setting_is_selected(
    scans: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--fine", *scans, "--split", "2", "2", *QUICK_SETTINGS, "--set", "mae=1,2"]
    assert main(["compare", "unet", str(tmp_path / "c"), *argv]) == 0
    text = capsys.readouterr().out
    assert "no settings were selected, because there is no validation set" in text
    assert "Highest PSNR" not in text
    pairs = {(row["series"], row["minus"]) for row in read_rows(tmp_path / "c_tests.tsv")}
    assert ("unet mae=1", "unet mae=2") in pairs


def test_settings_whose_training_diverges_have_no_scores(
    scans: Sequence[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def diverging_fit(training, images, work, progress=None):  # type: ignore[no-untyped-def]
        if training.effective_recipe.learning_rate > 0.1:
            raise TrainingDiverged("the loss is not finite")
        return train_network(training, images, work, progress)

    monkeypatch.setattr(models_compare, "train_network", diverging_fit)
    argv = ["compare", "unet", str(tmp_path / "c"), "--fine", *scans, *SPLIT, *QUICK_SETTINGS]
    assert main([*argv, "--set", "learning_rate=1e-3,0.9"]) == 0
    text = capsys.readouterr().out
    assert "unet learning_rate=0.9: the loss is not finite" in text
    assert "Note: unet learning_rate=0.9 without scores" in text
    assert "Highest PSNR of unet on the validation set: unet learning_rate=0.001" in text
    names = {row["name"] for row in read_rows(tmp_path / "c.tsv")}
    assert "unet learning_rate=0.001" in names
    assert "unet learning_rate=0.9" not in names
    assert not list((tmp_path / "c_models").glob("*.work"))
    # a method without varied settings fails
    assert main([*argv[:2], str(tmp_path / "d"), *argv[3:], "--set", "learning_rate=0.9"]) == 1


def test_validation_images_are_not_used_for_training() -> None:
    recipe = replace(get_method("unet").recipes["fast"], hold_out=5)
    images = tuple(
        TrainingImage(
            fine=head(k),
            mask=head(k) > 100,
            affine=AFFINE,
            contrast="T1w",
            name=str(k),
            validation=k == 1,
        )
        for k in range(3)
    )
    examples = Examples(images, recipe, (2.0, 2.0, 1.0), 2)
    assert [part.image for part in examples.held_out_regions] == [1]
    assert [part.image for part in examples.training_regions] == [0, 2]


INVALID = {
    "no way": ([], "one of --folds, --split and --test-on is required"),
    "two ways": (["--folds", "2", "--split", "2", "2"], "cannot be combined: --folds --split"),
    "empty set": (["--split", "3", "0", "1"], "the validation set contains no participants"),
    "folds": (["--folds", "5"], "5 folds cannot be formed from 4 participants"),
    "two sets": (
        ["--test-on", "01", "--validate-on", "sub-01"],
        "in both the validation set and the test set: sub-01",
    ),
    "everyone": (["--test-on", *PARTICIPANTS], "the training set contains no participants"),
    "unknown": (["--test-on", "07"], "no images were found for these participants: sub-07"),
    "sizes": (["--split", "1", "1", "1"], "add up to 3 participants, but there are images from 4"),
    "one number": (["--split", "4"], "expected two or three numbers"),
    "measured images at another resolution": (
        ["--folds", "2", "--coarse", *PARTICIPANTS, "--test-coarser", "2"],
        "measured low-resolution images are available at only one resolution",
    ),
    "validation": (["--split", "3", "1", "--validation", "1"], "requires --folds"),
    "validate on": (["--split", "3", "1", "--validate-on", "01"], "requires --test-on"),
    "setting of another method": (
        ["--folds", "2", "--set", "tv.tv=0.1"],
        "tv is not one of the compared methods",
    ),
    "unknown setting": (["--folds", "2", "--set", "filter=8"], "Did you mean filters?"),
    "value of a setting": (["--folds", "2", "--set", "filters=8,1"], "from 4 to 256"),
    "no value": (["--folds", "2", "--set", "filters"], "is not a number"),
    "incompatible settings": (["--folds", "2", "--set", "mae=0,1", "ssim=0"], "weight of 0"),
    "range without trials": (
        ["--folds", "2", "--set", "filters=8..16"],
        "a range requires a number of trials",
    ),
}


@pytest.mark.parametrize("name", INVALID)
@pytest.mark.parametrize("dry_run", [True, False])
def test_invalid_options_exit_with_code_2_and_write_nothing(
    name: str,
    dry_run: bool,
    scans: Sequence[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options, reason = INVALID[name]
    argv = ["compare", "unet", str(tmp_path / "c"), "--fine", *scans, *options]
    assert main([*argv, *(["--dry-run"] if dry_run else [])]) == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_different_degradations_and_unknown_methods_are_rejected(
    scans: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [str(tmp_path / "c"), "--fine", *scans, "--folds", "2", "--factor", "2"]
    assert main(["compare", "unet,ccnn3d", *argv]) == 2
    assert "choose one degradation for all methods" in capsys.readouterr().err
    assert main(["compare", "unett", *argv]) == 2
    assert "did you mean 'unet'?" in capsys.readouterr().err.lower()


def test_a_dry_run_prints_the_sets_and_another_table_is_not_overwritten(
    scans: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["compare", "unet", str(tmp_path / "c"), "--fine", *scans, *QUICK_SETTINGS, "--dry-run"]
    assert main([*argv, "--split", "2", "1", "1"]) == 0
    output = capsys.readouterr().out
    assert "Fold 1 of 1: train on" in output
    assert "1 training run(s): unet; super-resolution factor 2 x 2 x 1" in output
    assert not list(tmp_path.iterdir())
    (tmp_path / "c.tsv").write_text("mine\n")
    assert main([*argv, "--split", "2", "1", "1"]) == 2
    assert "choose another OUT" in capsys.readouterr().err


def test_a_comparison_is_not_continued_with_another_initial_model(
    scans: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = ["--fine", scans[0], "--set", "iterations=2", "filters=4", "--factor", "2"]
    models = [tmp_path / f"{name}.safetensors" for name in ("first", "second")]
    for seed, model in enumerate(models):
        assert main(["train", "unet", str(model), *training, "--seed", str(seed)]) == 0
    argv = ["compare", "unet", str(tmp_path / "c"), "--fine", *scans, "--split", "2", "1", "1"]
    argv += [*QUICK_SETTINGS[:-2], "--factor", "2", "--from"]
    assert main([*argv, str(models[0])]) == 0
    assert main([*argv, str(models[0])]) == 0
    table = (tmp_path / "c.tsv").read_text()
    capsys.readouterr()
    assert main([*argv, str(models[1])]) == 2
    assert "choose another OUT" in capsys.readouterr().err
    assert (tmp_path / "c.tsv").read_text() == table


def test_a_note_on_a_method_is_printed_once_for_all_its_settings(
    scans: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The note is about missing weights of VGG-19; the suitable augmentation is not worth one."""
    argv = ["compare", "dcnet", str(tmp_path / "c"), "--fine", *scans, "--factor", "2"]
    argv += ["--split", "2", "1", "1", "--dry-run", "--set", "iterations=210,220"]
    assert main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    [note] = [line for line in lines if line.startswith("Note:")]
    assert "dcnet --recipe fast" in note
