"""``bids-sr-models compare``: sets of participants, settings as candidates, and the same tables
after an interruption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data.scans import AFFINE, read_rows, scan

from bids_sr.cli.models.commands import compare as models_compare
from bids_sr.cli.models.commands.main import main
from bids_sr.io.nifti import load_image, save_image
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import load_model
from bids_sr.sr.networks.data.examples import Examples
from bids_sr.sr.networks.data.images import TrainingImage
from bids_sr.sr.networks.training.phase import TrainingDiverged
from bids_sr.sr.networks.training.trainer import train_network

SHAPE = (50, 52, 3)
PARTICIPANTS = ["sub-01", "sub-02", "sub-03", "sub-04"]
QUICK_SETTINGS = ["--set", "iterations=3", "filters=4", "batch=2", "--factor", "2"]


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("scans")
    files = [folder / f"{participant}_T1w.nii.gz" for participant in PARTICIPANTS]
    for k, file in enumerate(files):
        save_image(scan(k, SHAPE), AFFINE, file)
    return [str(file) for file in files]


def compare(method: str, out: Path, *options: str) -> int:
    return main(["compare", method, str(out), *options])


def tables(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.glob("c*.tsv"))}


class Killed(BaseException):
    """A signal that ends the program."""


def test_a_killed_comparison_resumes_with_the_same_tables(
    scans: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--fine", *scans, "--folds", "2", "--validation", "1", *QUICK_SETTINGS]
    complete, resumed = tmp_path / "whole" / "c", tmp_path / "cut" / "c"
    assert compare("unet", complete, *options) == 0
    calls = []

    def interrupted_fit(training, images, work, progress=None):  # type: ignore[no-untyped-def]
        calls.append([image.name for image in images])

        def step(phase: str, done: int, count: int) -> None:
            if len(calls) == 2 and done == 2:
                raise Killed

        return train_network(training, images, work, step)

    monkeypatch.setattr(models_compare, "train_network", interrupted_fit)
    with pytest.raises(Killed):
        compare("unet", resumed, *options)
    assert {row["fold"] for row in read_rows(resumed.with_suffix(".tsv"))} == {"1"}
    for n_trainings in (3, 3):  # the second fold, and nothing
        assert compare("unet", resumed, *options) == 0
        assert len(calls) == n_trainings
    assert tables(resumed.parent) == tables(complete.parent)
    assert set(tables(resumed.parent)) == {"c.tsv", "c_summary.tsv", "c_tests.tsv"}
    rows = [row for row in read_rows(complete.with_suffix(".tsv")) if row["name"] == "unet"]
    assert sorted(row["participant"] for row in rows if row["set"] == "test") == PARTICIPANTS
    assert len([row for row in rows if row["set"] == "validation"]) == 2


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
    sets = ["--test-on", "03", "sub-04", "--validate-on", "02", "--train-coarser", "1", "1.04"]
    assert compare("unet", tmp_path / "c", "--fine", *scans, *sets, *QUICK_SETTINGS) == 0
    assert trained_images[0] == {"sub-01": (False, 3.0), "sub-02": (True, 3.0)}
    assert trained_images[1]["sub-01"][1] == pytest.approx(3 * 1.04, rel=0.01)
    rows = read_rows(tmp_path / "c.tsv")
    test_participants = {row["participant"] for row in rows if row["set"] == "test"}
    assert test_participants == {"sub-03", "sub-04"}
    assert {"unet", "unet-at-1.04x", "bspline"} <= {row["name"] for row in rows}
    (row,) = (row for row in read_rows(tmp_path / "c_anova.tsv") if row["metric"] == "psnr")
    assert row["groups"] == "unet (n = 2); unet-at-1.04x (n = 2)"


def test_models_can_be_tested_at_half_the_resolution(tmp_path: Path) -> None:
    files = []
    for number, participant in enumerate(PARTICIPANTS[:3]):
        files.append(tmp_path / participant / "T1w.nii.gz")  # the folder is the participant label
        files[-1].parent.mkdir()
        save_image(scan(number, (48, 48, 3)), AFFINE, files[-1])
    options = ["--fine", *map(str, files), "--test-on", "03", *QUICK_SETTINGS]
    options += ["--degradation", "block", "--train-coarser", "1", "2", "--test-coarser", "2"]
    out = tmp_path / "c"
    assert compare("unet", out, *options) == 0
    models = tmp_path / "c_models"
    sizes = {
        path.stem: load_model(path).card.lowres_mm[0] for path in models.glob("*.safetensors")
    }
    assert sizes == {"fold-1_unet": 6.0, "fold-1_unet-at-2x": 12.0}
    rows = read_rows(tmp_path / "c.tsv")
    assert {row["participant"] for row in rows} == {"sub-03"}
    assert {"unet", "unet-at-2x", "bspline"} <= {row["name"] for row in rows}
    # the test image has half the resolution, averaged here by hand
    (reference,) = models.rglob("T1w.nii.gz")
    low, affine = load_image(reference)
    fine = scan(2, (48, 48, 3))
    np.testing.assert_allclose(low, fine.reshape(24, 2, 24, 2, 3).mean((1, 3)), rtol=1e-5)
    np.testing.assert_allclose(np.diag(affine), [-6, 6, 4, 1])
    model = str(models / "fold-1_unet-at-2x.safetensors")
    scoring = ["--degradation", "block", "--factor", "2", "-m", model]
    assert main(["evaluate", str(reference), *scoring, "-o", str(tmp_path / "e.tsv")]) == 0
    (matched,) = (row for row in rows if row["name"] == "unet-at-2x")
    (scored,) = (row for row in read_rows(tmp_path / "e.tsv") if row["name"].startswith("unet"))
    assert float(scored["nmse"]) == pytest.approx(float(matched["nmse"]), rel=1e-3)
    # a comparison at another test resolution must not resume this one
    assert compare("unet", out, *options[:-1], "1") == 2


SPLIT = ["--split", "2", "1", "1"]


def test_settings_are_candidates_and_the_best_is_selected_on_the_validation_set(
    scans: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--fine", *scans, "--factor", "2", *SPLIT, "--set", "filters=4", "iterations=12"]
    assert compare("tv", tmp_path / "c", *options, "tv=0,0.01,1") == 0
    rows = read_rows(tmp_path / "c.tsv")
    names = ["tv tv=0", "tv tv=0.01", "tv tv=1"]
    scores = {row["name"]: float(row["psnr"]) for row in rows if row["set"] == "validation"}
    assert {row["name"] for row in rows if row["set"] == "test"} == set(scores) > {*names}
    # a weight of 1 smooths all detail
    assert scores["tv tv=1"] < min(scores["tv tv=0"], scores["tv tv=0.01"]) - 0.5
    best = max(names, key=scores.__getitem__)
    shown = capsys.readouterr().out
    assert f"{best}, {scores[best]:.2f} dB" in shown
    assert f"--set {best.partition(' ')[2]}" in shown
    models = {path.stem: path for path in (tmp_path / "c_models").glob("*.safetensors")}
    assert set(models) == {f"fold-1_{name.replace(' ', '_')}" for name in names}
    card = load_model(models["fold-1_tv_tv=1"]).card
    assert card.json["changed_settings"] == {"filters": 4, "iterations": 12, "tv": 1}
    # another grid does not resume this table
    assert compare("tv", tmp_path / "c", *options, "tv=0,0.01") == 2


def test_settings_whose_training_diverges_have_no_scores(
    scans: Sequence[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without other candidates the command fails."""

    def diverging_fit(training, images, work, progress=None):  # type: ignore[no-untyped-def]
        if training.effective_recipe.learning_rate > 0.1:
            raise TrainingDiverged("the loss is not finite")
        return train_network(training, images, work, progress)

    monkeypatch.setattr(models_compare, "train_network", diverging_fit)
    options = ["--fine", *scans, *SPLIT, *QUICK_SETTINGS, "--set"]
    assert compare("unet", tmp_path / "c", *options, "learning_rate=1e-3,0.9") == 0
    shown = capsys.readouterr().out
    assert "unet learning_rate=0.9: the loss is not finite" in shown
    assert "use --set learning_rate=0.001" in shown
    names = {row["name"] for row in read_rows(tmp_path / "c.tsv")}
    assert {name for name in names if name.startswith("unet")} == {"unet learning_rate=0.001"}
    assert not list((tmp_path / "c_models").glob("*.work"))
    assert compare("unet", tmp_path / "d", *options, "learning_rate=0.9") == 1


def test_validation_images_are_not_used_for_training() -> None:
    recipe = replace(get_method("unet").recipes["fast"], hold_out=5)
    images = tuple(
        TrainingImage(
            fine=scan(k, SHAPE),
            mask=scan(k, SHAPE) > 100,
            affine=AFFINE,
            contrast="T1w",
            name=str(k),
            validation=k == 1,
        )
        for k in range(3)
    )
    examples = Examples(images, recipe, (2.0, 2.0, 1.0), 2)
    assert [part.image for part in examples.held_out_slabs] == [1]
    assert [part.image for part in examples.training_slabs] == [0, 2]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ("", "--folds, --split and --test-on"),
        ("--folds 2 --split 2 2", "--folds --split"),
        ("--folds 5", "5 folds"),
        ("--folds 2 --coarse SCANS --test-coarser 2", "--test-coarser"),
        ("--split 3 0 1", "validation set"),
        ("--split 1 1 1", "3 participants"),
        ("--split 4", "--split"),
        ("--split 3 1 --validation 1", "--folds"),
        ("--split 3 1 --validate-on 01", "--test-on"),
        ("--test-on 01 --validate-on sub-01", "sub-01"),
        ("--test-on 01 02 03 04", "training set"),
        ("--test-on 07", "sub-07"),
        ("--folds 2 --set tv.tv=0.1", "tv"),
        ("--folds 2 --set filter=8", "filters?"),
        ("--folds 2 --set filters=8,1", "from 4 to 256"),
        ("--folds 2 --set filters", "filters"),
        ("--folds 2 --set mae=0,1 ssim=0", "mae"),
        ("--folds 2 --set filters=8..16", "trials"),
    ],
)
def test_invalid_options_exit_with_code_2_before_training(
    options: str,
    part: str,
    scans: Sequence[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = options.replace("SCANS", " ".join(scans)).split()
    for more in ((), ("--dry-run",)):
        assert compare("unet", tmp_path / "c", "--fine", *scans, *words, *more) == 2
        assert part in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("methods", "part"), [("unet,ccnn3d", "--degradation"), ("unett", "'unet'")]
)
def test_different_degradations_and_unknown_methods_are_rejected(
    methods: str,
    part: str,
    scans: Sequence[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--fine", *scans, "--folds", "2", "--factor", "2"]
    assert compare(methods, tmp_path / "c", *options) == 2
    assert part in capsys.readouterr().err


def test_images_of_different_resolution_are_rejected_before_training(
    scans: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "sub-05_T1w.nii.gz", tmp_path / "out" / "c"
    for slice_mm, code in ((4.3, 0), (4.5, 2)):
        save_image(scan(4, SHAPE), np.diag([-3.0, 3.0, slice_mm, 1.0]), file)
        options = ["--fine", *scans, str(file), "--test-on", "05", "--factor", "2"]
        assert compare("unet", out, *options, "--dry-run") == code
    message = capsys.readouterr().err
    assert file.name in message
    assert "4.5 mm" in message


def test_a_dry_run_prints_the_sets_and_another_table_is_not_overwritten(
    scans: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--fine", *scans, *QUICK_SETTINGS, "--dry-run", *SPLIT]
    assert compare("unet", tmp_path / "c", *options) == 0
    shown = capsys.readouterr().out
    assert all(participant in shown for participant in PARTICIPANTS)
    assert "factor 2 x 2 x 1" in shown
    assert not list(tmp_path.iterdir())
    (tmp_path / "c.tsv").write_text("mine\n")
    assert compare("unet", tmp_path / "c", *options) == 2
    assert (tmp_path / "c.tsv").read_text() == "mine\n"


def test_a_comparison_is_not_continued_with_another_initial_model(
    scans: Sequence[str], tmp_path: Path
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
    assert main([*argv, str(models[1])]) == 2
    assert (tmp_path / "c.tsv").read_text() == table
