"""Test ``bids-sr-models``: outputs equal the results of the library, and invalid input exits with
code 2.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nb
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bids_sr.config import UsageError
from bids_sr.io.nifti import load_image, save_image
from bids_sr.model_commands.cli import train as models_train
from bids_sr.model_commands.cli.image_files import parse_contrast, parse_factor
from bids_sr.model_commands.cli.main import main, parsers
from bids_sr.model_commands.cli.options import TrainOptions
from bids_sr.model_commands.cli.show import _replace_unprintable
from bids_sr.networks.training.trainer import train_network
from bids_sr.quality.effective_resolution import effective_resolution
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.sr.matrices import kspace_crop, upsample
from bids_sr.sr.method import get_method
from bids_sr.sr.models.card import ModelError
from bids_sr.sr.models.model import load_model, save_model

FACTOR = (2.0, 2.0, 1.0)
AFFINE = np.array([[-3.0, 0, 0, 30], [0, 3, 0, -40], [0, 0, 4, -12], [0, 0, 0, 1]])
CARD = {
    "method": "srgan",
    "recipe": "fast",
    "factor": list(FACTOR),
    "contrast": "T2starw",
    "orientation": "I-S",
    "resolution": {"lowres_mm": [6.0, 6.0, 4.0]},
}


def head(shape: tuple[int, int, int] = (24, 28, 6), seed: int = 0) -> np.ndarray:
    """Return a textured ball on a dark background."""
    grid = np.indices(shape, float)
    middle = [(n - 1) / 2 for n in shape]
    radius = sum(((g - m) / (0.45 * n)) ** 2 for g, m, n in zip(grid, middle, shape, strict=True))
    texture = 1 + 0.3 * np.sin(grid[0] * 1.7) * np.cos(grid[1] * 1.3) + 0.1 * np.cos(grid[2])
    noise = np.random.default_rng(seed).normal(0, 2, shape)
    return np.asarray(np.where(radius < 1, 500 * texture, 5) + noise, np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a pair, a short series and an untrained model."""
    folder = tmp_path_factory.mktemp("data")
    coarse, affine = kspace_crop(head(), AFFINE, factor=FACTOR)
    save_image(head(), AFFINE, folder / "sub-01_acq-high_T2starw.nii.gz")
    save_image(coarse.astype(np.float32), affine, folder / "sub-01_acq-low_T2starw.nii.gz")
    series = np.stack([coarse * (1 + 0.01 * t) for t in range(3)], -1).astype(np.float32)
    save_image(series, affine, folder / "sub-01_task-x_bold.nii.gz", tr=1.5)
    torch.manual_seed(0)
    network = get_method("srgan").recipes["fast"].build_generator(1, FACTOR)
    save_model(folder / "srgan", network.state_dict(), CARD)
    return folder


def table(text: str) -> dict[str, dict[str, str]]:
    lines = [line.split("\t") for line in text.splitlines()]
    return {row[0]: dict(zip(lines[0], row, strict=True)) for row in lines[1:]}


def test_help_of_every_subcommand_imports_only_the_standard_library() -> None:
    code = (
        "import sys\nfrom bids_sr.model_commands.cli.main import main\n"
        "for command in ([], ['list'], ['train'], ['apply'], ['evaluate'], ['rate']):\n"
        "    assert main([*command, '--help']) == 0\n"
        "assert not {'torch', 'numpy', 'nibabel'} & set(sys.modules)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert "--train-last" in process.stdout


@pytest.mark.parametrize("name", ["zerofill", "linear"])
def test_a_series_is_interpolated_volume_by_volume(name: str, data: Path, tmp_path: Path) -> None:
    source, out = data / "sub-01_task-x_bold.nii.gz", tmp_path / "new" / "fine_bold.nii.gz"
    assert main(["apply", name, str(source), str(out), "--factor", "1.5", "2", "2"]) == 0
    low, affine = load_image(source)
    series, grid = load_image(out)
    np.testing.assert_allclose(series, upsample(name, low, (1.5, 2.0, 2.0)), atol=1e-2)
    shape, expected_affine = hr_grid(low.shape[:3], affine, (1.5, 2.0, 2.0))
    assert series.shape == (*shape, 3)
    np.testing.assert_allclose(grid, expected_affine, atol=1e-5)
    assert nb.load(out).header["pixdim"][4] == 1.5
    metadata = json.loads((tmp_path / "new" / "fine_bold.json").read_text())
    assert (metadata["Method"], metadata["Factor"]) == (name, [1.5, 2.0, 2.0])


def test_a_model_applied_to_an_image_equals_the_result_of_the_library(
    data: Path, tmp_path: Path
) -> None:
    source, out = data / "sub-01_acq-low_T2starw.nii.gz", tmp_path / "fine.nii.gz"
    mask = tmp_path / "mask.nii.gz"
    image, affine = load_image(source)
    inside = image > 100
    save_image(inside.astype(np.uint8), affine, mask)
    assert (
        main(
            ["apply", str(data / "srgan.safetensors"), str(source), str(out), "--mask", str(mask)]
        )
        == 0
    )
    upsampler = make_upsampler(
        "srgan",
        UpsamplerInputs(factor=FACTOR, scale=float(np.percentile(image[inside], 99))),
        load_model(data / "srgan.safetensors"),
    )
    resolved, _ = load_image(out)
    assert resolved.ndim == 3
    np.testing.assert_allclose(resolved, upsampler(image, np.eye(4)), rtol=1e-5, atol=1e-3)
    assert "Model" in json.loads((tmp_path / "fine.json").read_text())


def test_a_network_is_applied_in_patches_of_the_requested_size(data: Path, tmp_path: Path) -> None:
    source, out = data / "sub-01_acq-low_T2starw.nii.gz", tmp_path / "fine.nii.gz"
    command = ["apply", str(data / "srgan.safetensors"), str(source), str(out)]
    images = {}
    for name in ("", "--patch 12", "--patch 12 --overlap 4", "--patch 0"):
        assert main([*command, *name.split()]) == 0
        images[name] = load_image(out)[0]
        metadata = json.loads((tmp_path / "fine.json").read_text())
        expected = (12, 4 if "overlap" in name else 0) if "12" in name else (None, None)
        assert (metadata.get("Patch"), metadata.get("PatchOverlap")) == expected
    np.testing.assert_array_equal(images[""], images["--patch 0"])
    largest_difference = {
        name: float(np.abs(image - images[""]).max()) for name, image in images.items()
    }
    # overlapping patches are closer to the result of whole slices
    assert largest_difference["--patch 12"] > largest_difference["--patch 12 --overlap 4"] > 0


def test_evaluate_uses_the_mask_and_the_range_of_the_reference(data: Path, tmp_path: Path) -> None:
    fine, coarse = data / "sub-01_acq-high_T2starw.nii.gz", data / "sub-01_acq-low_T2starw.nii.gz"
    low, affine = load_image(coarse)
    inside = np.zeros(low.shape, bool)
    inside[3:9, 3:9, 1:5] = True
    save_image(inside.astype(np.uint8), affine, tmp_path / "mask.nii.gz")
    out = tmp_path / "table.tsv"
    argv = [
        "evaluate",
        str(fine),
        "--image",
        str(coarse),
        "-m",
        str(data / "srgan.safetensors"),
        "-o",
        str(out),
    ]
    assert main([*argv, "--made", str(fine), "--mask", str(tmp_path / "mask.nii.gz")]) == 0
    rows = table(out.read_text())
    truth, _ = load_image(fine)
    voxels = upsample("nearest", inside.astype(np.float32), FACTOR) > 0.5
    error = (upsample("nearest", low, FACTOR) - truth)[voxels].astype(np.float64)
    data_range = float(np.ptp(truth[voxels]))
    assert float(rows["nearest"]["rmse"]) == pytest.approx(
        float(np.sqrt((error**2).mean())), rel=1e-4
    )
    assert float(rows["nearest"]["psnr"]) == pytest.approx(
        10 * np.log10(data_range**2 / (error**2).mean()), abs=2e-3
    )
    assert rows[str(fine)]["psnr"] == "inf"
    assert rows["nearest"]["resolution_mm"] == "n/a", "block edges have no defined resolution"
    resolution = effective_resolution(truth, (3.0, 3.0, 4.0), voxels)
    assert rows[str(fine)]["resolution_mm"] == (
        "n/a" if resolution is None else f"{resolution:.5g}"
    )
    assert float(rows["srgan (srgan.safetensors)"]["parameters"]) == 14_257
    assert set(rows) >= {"nearest", "linear", "bspline", "lanczos", "zerofill"}
    metadata = json.loads((tmp_path / "table.json").read_text())
    assert metadata["DataRange"] == pytest.approx(data_range)
    assert metadata["CoarseImage"].startswith("measured")


def test_evaluate_crops_a_matrix_that_the_factor_does_not_divide(
    tmp_path: Path,
) -> None:
    """Zero filling recovers an image that is band-limited in the 24 of 25 voxels used at factor
    2.
    """
    fine = np.zeros((25, 28, 6), np.float32)
    fine[:24] = upsample("zerofill", head((12, 14, 6)), FACTOR)
    save_image(fine, AFFINE, tmp_path / "x_T1w.nii.gz")
    argv = [
        "evaluate",
        str(tmp_path / "x_T1w.nii.gz"),
        "--degradation",
        "kspace",
        "-o",
        str(tmp_path / "t.tsv"),
    ]
    assert main(argv) == 0
    rows = table((tmp_path / "t.tsv").read_text())
    assert float(rows["zerofill"]["psnr"]) > 90
    assert float(rows["linear"]["psnr"]) < 40


def test_the_last_layers_of_a_model_can_be_tuned(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fine, coarse = data / "sub-01_acq-high_T2starw.nii.gz", data / "sub-01_acq-low_T2starw.nii.gz"
    argv = ["--fine", str(fine), "--coarse", str(coarse), "--max-minutes", "0.001"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["train", "unet", str(first), *argv]) == 0
    assert "held-out PSNR: network" in capsys.readouterr().out
    options = ["--from", f"{first}.safetensors", "--train-last", "1"]
    assert main(["train", "unet", str(second), *argv, *options]) == 0
    before, after = load_file(f"{first}.safetensors"), load_file(f"{second}.safetensors")
    changed = {
        name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])
    }
    assert len(changed) == 1
    card = json.loads(Path(f"{second}.json").read_text())
    assert (
        card["started_from"]["weights_sha256"]
        == json.loads(Path(f"{first}.json").read_text())["weights_sha256"]
    )
    assert card["contrast"] == "T2starw"
    assert card["factor"] == list(FACTOR)
    capsys.readouterr()
    assert main(["list", f"{second}.safetensors"]) == 0
    text = capsys.readouterr().out
    assert "the weights match the model card" in text
    assert f"  weights_sha256: {card['started_from']['weights_sha256']}" in text


def test_tuning_starts_from_the_stored_critic(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fine, coarse = data / "sub-01_acq-high_T2starw.nii.gz", data / "sub-01_acq-low_T2starw.nii.gz"
    argv = ["--fine", str(fine), "--coarse", str(coarse), "--set", "filters=4", "batch=1"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["train", "attunet", str(first), *argv, "iterations=2"]) == 0
    before = load_file(f"{first}.safetensors")
    # this step changes the weights little; another seed would give other weights
    options = ["iterations=1", "learning_rate=1e-7", "--seed", "9", "--from"]
    assert main(["train", "attunet", str(second), *argv, *options, f"{first}.safetensors"]) == 0
    assert "note" not in capsys.readouterr().out
    after = load_file(f"{second}.safetensors")
    critic = [name for name in before if name.startswith("critic.")]
    assert critic
    # the critic is trained at the learning rate of the recipe
    limit = 10 * get_method("attunet").recipes["fast"].critic_learning_rate
    assert all((after[name] - before[name]).abs().max() < limit for name in critic)
    assert json.loads(Path(f"{second}.json").read_text())["started_from"]["with"] == ["critic"]
    # a model without stored critic
    card = json.loads(Path(f"{first}.json").read_text())
    without_critic = {name: value for name, value in before.items() if name not in critic}
    save_model(tmp_path / "bare", without_critic, card)
    argv += [*options, str(tmp_path / "bare.safetensors")]
    assert main(["train", "attunet", str(tmp_path / "third"), *argv]) == 0
    output = capsys.readouterr().out
    assert "bare.safetensors does not contain weights of the critic" in output
    assert "train the model with --keep-critic" in output
    retrained = load_file(tmp_path / "third.safetensors")
    name = max(critic, key=lambda key: retrained[key].numel())
    assert (retrained[name] - before[name]).abs().max() > limit


def test_the_four_networks_of_a_cycle_are_stored(tmp_path: Path) -> None:
    recipe = get_method("circle").recipes["fast"]
    parts = {
        "": recipe.build_generator(1, FACTOR),
        "backward.": recipe.build_generator(1, FACTOR),
        "critic.": recipe.build_critic(1),
        "backward_critic.": recipe.build_critic(1),
    }
    state = {
        f"{name}{key}": value
        for name, network in parts.items()
        for key, value in network.state_dict().items()
    }
    card = {**CARD, "method": "circle"}
    weights, _ = save_model(tmp_path / "circle", state, card)
    loaded = load_model(weights)
    assert set(loaded.companions) == {"critic", "backward", "backward_critic"}
    for name, network in parts.items():
        loaded_state = loaded.companions[name[:-1]] if name else loaded.generator.state_dict()
        assert all(
            torch.equal(value, loaded_state[key]) for key, value in network.state_dict().items()
        )
    # state of another network
    state["backward.more"] = torch.zeros(1)
    weights, _ = save_model(tmp_path / "circle", state, card)
    with pytest.raises(ModelError, match="do not match the network of the backward of circle"):
        load_model(weights)


def test_tensorboard_files_are_kept_when_checkpoints_are_removed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Board:
        def __init__(self, folder: str, purge_step: int) -> None:
            self.events = Path(folder) / "events"

        def add_scalar(self, name: str, value: float, step: int) -> None:
            self.events.parent.mkdir(parents=True, exist_ok=True)
            self.events.touch()

        def flush(self) -> None:
            pass

        close = flush

    installed = SimpleNamespace(SummaryWriter=Board)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", installed)
    fine, coarse = data / "sub-01_acq-high_T2starw.nii.gz", data / "sub-01_acq-low_T2starw.nii.gz"
    argv = ["--fine", str(fine), "--coarse", str(coarse), "--set", "iterations=4"]
    assert main(["train", "unet", str(tmp_path / "new"), *argv]) == 0
    work = tmp_path / "new.work"
    event_folders = {path.relative_to(work).parts[0] for path in work.rglob("events")}
    assert event_folders == {"tensorboard"}
    assert [path.name for path in work.iterdir()] == ["tensorboard"]


@pytest.mark.parametrize(
    ("recipe", "level", "words"),
    [
        ("paper", "Warning", "squared error replaces the features"),
        ("fast", "Note", "This term is optional with --recipe fast"),
    ],
)
def test_missing_vgg19_features_are_reported(
    recipe: str, level: str, words: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fine = str(data / "sub-01_acq-high_T2starw.nii.gz")
    line = ["train", "cpce", str(data / "none"), "--fine", fine, "--recipe", recipe]
    assert main(line) == 2  # exit code 2 because patches do not fit, which is checked later
    out = capsys.readouterr().out
    assert f"{level}: cpce --recipe {recipe}: the loss will not include VGG-19 features" in out
    assert words in out


def test_training_on_low_resolution_volumes_only(tmp_path: Path) -> None:
    volumes = np.stack([head((26, 26, 8), seed) for seed in range(4)], -1)
    save_image(volumes, AFFINE, tmp_path / "s_bold.nii.gz", tr=2.0)
    argv = [
        "train",
        "dip",
        str(tmp_path / "m"),
        "--coarse",
        str(tmp_path / "s_bold.nii.gz"),
        "--factor",
        "2",
    ]
    assert main([*argv, "--volumes", "2", "--max-minutes", "0.001"]) == 0
    card = json.loads((tmp_path / "m.json").read_text())
    assert card["trained_on"] == "self"
    assert len(card["images"]) == 2
    assert card["resolution"]["lowres_mm"] == [3.0, 3.0, 4.0]
    assert (tmp_path / "m.tsv").read_text().startswith("phase\titeration")


def test_control_characters_of_a_card_are_not_printed(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = data / "srgan.safetensors"
    path = weights.with_suffix(".json")
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | {"note": "a\x1b[2Jb\nc\u202e"}))
    try:
        assert main(["list", str(weights)]) == 0
    finally:
        path.write_text(before)
    assert "note: a?[2Jb?c?" in capsys.readouterr().out
    assert _replace_unprintable("é × µ") == "é × µ"


def test_list_shows_methods_models_and_unusable_models(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"x")
    assert main(["list", str(data), str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "6 x 6 x 4 mm, factor 2 x 2 x 1" in text
    assert "bad.safetensors  cannot be used" in text
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    # srgan; METHODS, "Facts measured", has 1.23 M parameters for the paper's recipe
    assert "14,257 / 1,230,145" in text
    for name in ("tv", "li-agnostic", "attunet", "lanczos", "ratio"):
        assert f"  {name} " in text


@pytest.mark.parametrize(
    ("file", "option", "contrast"),
    [
        ("a_T1w.nii.gz", None, "T1w"),
        ("a_sbref.nii", None, "bold"),
        ("T2w.nii", None, "T2w"),
        ("x.nii", "PDw", "PDw"),
    ],
)
def test_the_contrast_is_read_from_the_file_name_unless_specified(
    file: str, option: str | None, contrast: str
) -> None:
    assert parse_contrast(Path(file), option) == contrast


def test_a_factor_has_one_or_three_numbers() -> None:
    assert parse_factor([1.5], FACTOR) == (1.5, 1.5, 1.0)
    assert parse_factor([1, 2, 3], FACTOR) == (1.0, 2.0, 3.0)
    assert parse_factor((), FACTOR) == FACTOR
    for numbers in ("2 2", "0.5", "9"):
        with pytest.raises(
            UsageError, match=r"--factor: .*\n.*(expected one or three numbers|expected at)"
        ):
            parsers()["train"].options(["tv", "out", "--factor", *numbers.split()], TrainOptions)


LOW, HIGH, BOLD = (
    "sub-01_acq-low_T2starw.nii.gz",
    "sub-01_acq-high_T2starw.nii.gz",
    "sub-01_task-x_bold.nii.gz",
)
Argv = Callable[[Path, Path], list[str]]
INVALID: dict[str, tuple[Argv, str]] = {
    "nothing": (lambda d, t: [], "the following arguments are required"),
    "command": (lambda d, t: ["aply"], "did you mean 'apply'?"),
    "a kit without scans or sheets": (
        lambda d, t: ["rate", t / "kit"],
        "specify either --make OUT or one or more sheets",
    ),
    "a kit from scans and sheets": (
        lambda d, t: ["rate", t / "kit", t / "sheet.tsv", "--make", t],
        "specify either --make OUT or one or more sheets",
    ),
    "series of a finished kit": (
        lambda d, t: ["rate", t / "kit", t / "sheet.tsv", "--series", "native"],
        "--series applies to a new kit",
    ),
    "scores of a new kit": (
        lambda d, t: ["rate", t / "kit", "--make", t, "-o", t / "scores.tsv"],
        "--out to completed sheets",
    ),
    "option": (lambda d, t: ["list", "--modle"], "--modle"),
    "method": (
        lambda d, t: ["train", "resnet3", t / "m", "--fine", d / HIGH],
        "Did you mean resnet3d?",
    ),
    "method for a model": (
        lambda d, t: ["apply", "srgan", d / LOW, t / "o.nii"],
        "this is the name of a method",
    ),
    "misspelt baseline": (
        lambda d, t: ["apply", "zerofil", d / LOW, t / "o.nii"],
        "did you mean 'zerofill'?",
    ),
    "guided baseline": (
        lambda d, t: ["apply", "inject", d / LOW, t / "o.nii"],
        "--sr-method inject ratio",
    ),
    "sbl": (
        lambda d, t: ["train", "sbl", t / "m", "--coarse", d / BOLD],
        "use bids-sr ... --sr-method sbl",
    ),
    "no image": (lambda d, t: ["train", "tv", t / "m"], "training requires at least one image"),
    "no fine image": (
        lambda d, t: ["train", "cpce", t / "m", "--coarse", d / LOW],
        "this is a supervised method",
    ),
    "counts": (
        lambda d, t: ["train", "cpce", t / "m", "--fine", d / HIGH, d / HIGH, "--coarse", d / LOW],
        "2 high-resolution images were specified",
    ),
    "single slice": (
        lambda d, t: ["apply", "M3D", t / "slice_T1w.nii", t / "o.nii"],
        "the image has only one slice",
    ),
    "single slice to train on": (
        lambda d, t: ["train", "cpce", t / "m", "--fine", t / "slice_T1w.nii"],
        "only one slice",
    ),
    "patch": (
        lambda d, t: ["train", "resnet3d", t / "m", "--fine", d / LOW],
        "patches of 48 x 48 voxels are larger than the slices",
    ),
    "patch of both recipes": (
        lambda d, t: ["train", "cpce", t / "m", "--fine", d / LOW],
        "or the fast recipes of srgan or unet",
    ),
    "patch of one recipe": (
        lambda d, t: ["train", "srgan", t / "m", "--fine", d / LOW, "--recipe", "paper"],
        "use larger images, or --recipe fast",
    ),
    "no features": (
        lambda d, t: ["train", "srgan", t / "m", "--fine", d / HIGH, "--set", "mse=0"],
        "only VGG-19 features would compare the output with the image",
    ),
    "last layers of nothing": (
        lambda d, t: ["train", "unet", t / "m", "--fine", d / HIGH, "--train-last", "3"],
        "--from",
    ),
    "critic of none": (
        lambda d, t: ["train", "unet", t / "m", "--fine", d / HIGH, "--keep-critic"],
        "unet with --recipe fast is trained without a critic",
    ),
    "another method's model": (
        lambda d, t: [
            "train",
            "unet",
            t / "m",
            "--fine",
            d / HIGH,
            "--from",
            d / "srgan.safetensors",
        ],
        "the model was trained with srgan, not with unet",
    ),
    "two contrasts": (
        lambda d, t: ["train", "unet", t / "m", "--fine", d / HIGH, t / "slice_T1w.nii"],
        "bids-sr ... --sr-target anat --sr-method attunet for a model of several contrasts",
    ),
    "fused contrasts": (
        lambda d, t: ["apply", "M2C", d / LOW, t / "o.nii"],
        "the model requires 2 contrasts of the same participant",
    ),
    "factor of a pair": (
        lambda d, t: [
            "train",
            "cpce",
            t / "m",
            "--fine",
            d / HIGH,
            "--coarse",
            d / LOW,
            "--factor",
            "3",
        ],
        "the two images have a ratio of 2 x 2 x 1",
    ),
    "factor of a model": (
        lambda d, t: ["apply", "M", d / LOW, t / "o.nii", "--factor", "3"],
        "a factor of (3.0, 3.0, 1.0) was requested",
    ),
    "thinner slices": (
        lambda d, t: ["apply", "M", d / LOW, t / "o.nii", "--factor", "2", "2", "2"],
        "slice by slice",
    ),
    "patches of an interpolation": (
        lambda d, t: ["apply", "linear", d / LOW, t / "o.nii", "--patch", "16"],
        "linear interpolates whole images",
    ),
    "small patches": (
        lambda d, t: ["apply", "M", d / LOW, t / "o.nii", "--patch", "7"],
        "srgan requires patches of at least 8 voxels",
    ),
    "overlap of patches": (
        lambda d, t: ["apply", "M", d / LOW, t / "o.nii", "--patch", "16", "--overlap", "16"],
        "--overlap 16\n  why: the overlap must be smaller than the patch size (--patch 16)",
    ),
    "overlap of whole images": (
        lambda d, t: ["apply", "M", d / LOW, t / "o.nii", "--overlap", "4"],
        "this model is applied to whole images",
    ),
    "overlap of no patches": (
        lambda d, t: ["apply", "M", d / LOW, t / "o.nii", "--patch", "0", "--overlap", "4"],
        "--overlap applies only to patch-based inference",
    ),
    "resolution": (
        lambda d, t: ["apply", "M", d / HIGH, t / "o.nii"],
        "the image has a resolution of 3 x 3 x 4 mm",
    ),
    "contrast": (
        lambda d, t: ["apply", "M", d / LOW, t / "o.nii", "--contrast", "T1w"],
        "the image contrast is T1w",
    ),
    "contrast not known": (
        lambda d, t: ["apply", "M", t / "plain.nii", t / "o.nii"],
        "the contrast cannot be determined",
    ),
    "shifted reference": (
        lambda d, t: ["evaluate", t / "moved_T2starw.nii", "--image", d / LOW],
        "does not have the same field of view",
    ),
    "no source": (
        lambda d, t: ["evaluate", d / HIGH],
        "one of --image and --degradation is required",
    ),
    "two sources": (
        lambda d, t: ["evaluate", d / HIGH, "--image", d / LOW, "--degradation", "kspace"],
        "both options were specified",
    ),
    "over itself": (
        lambda d, t: ["apply", "linear", d / LOW, d / LOW],
        "the output file is the same as the input image",
    ),
    "not a NIfTI": (
        lambda d, t: ["apply", "linear", t / "text.nii", t / "o.nii"],
        "not a readable NIfTI image",
    ),
    "no file": (
        lambda d, t: ["apply", "linear", t / "nowhere.nii", t / "o.nii"],
        "nowhere.nii: the file was not found",
    ),
    "name of the result": (
        lambda d, t: ["apply", "linear", d / LOW, t / "o.png"],
        "use a file name that ends in .nii.gz",
    ),
    "constant": (
        lambda d, t: ["apply", "linear", t / "flat_T1w.nii", t / "o.nii"],
        "all voxels have the same value",
    ),
    "mask of another grid": (
        lambda d, t: ["apply", "linear", d / LOW, t / "o.nii", "--mask", d / HIGH],
        "expected a non-empty mask with the shape of the image",
    ),
    "pickle": (
        lambda d, t: ["list", t / "x.pth"],
        "not opened because they may contain executable code",
    ),
    "threads": (
        lambda d, t: ["apply", "M", d / LOW, t / "o.nii", "--threads", "0"],
        "--threads: 0\n  why: expected at least 1",
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_input_exits_with_code_2_and_writes_nothing(
    name: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, affine = load_image(data / LOW)
    save_image(image[:, :, :1], affine, tmp_path / "slice_T1w.nii")
    save_image(image, affine, tmp_path / "plain.nii")
    save_image(np.ones((8, 8, 3), np.float32), affine, tmp_path / "flat_T1w.nii")
    moved = AFFINE.copy()
    moved[0, 3] += 1.5
    save_image(head(), moved, tmp_path / "moved_T2starw.nii")
    (tmp_path / "text.nii").write_text("no image")
    (tmp_path / "x.pth").write_bytes(b"\x80\x04.")
    state = get_method("dip").recipes["fast"].build_generator(1, FACTOR).state_dict()
    volumetric = save_model(tmp_path / "dip", state, {**CARD, "method": "dip", "contrast": "T1w"})[
        0
    ]
    state = get_method("unet").recipes["fast"].build_generator(2, FACTOR).state_dict()
    card = {**CARD, "method": "unet", "contrast": "T1w+T2w", "channels": 2}
    fused = save_model(tmp_path / "unet", state, card)[0]
    before = sorted(tmp_path.rglob("*"))
    make, reason = INVALID[name]
    models = {"M": str(data / "srgan.safetensors"), "M3D": str(volumetric), "M2C": str(fused)}
    assert main([models.get(str(word), str(word)) for word in make(data, tmp_path)]) == 2
    message = capsys.readouterr().err
    assert reason in message
    assert "Traceback" not in message
    assert sorted(tmp_path.rglob("*")) == before


def test_another_contrast_can_be_allowed_with_a_note(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [
        "apply",
        str(data / "srgan.safetensors"),
        str(data / LOW),
        str(tmp_path / "o.nii"),
        "--contrast",
        "T1w",
    ]
    assert main([*argv, "--allow", "contrast"]) == 0
    assert "allowed by --allow: contrast" in capsys.readouterr().out
    assert any(
        "contrast" in note for note in json.loads((tmp_path / "o.json").read_text())["Notes"]
    )


def test_defaults_of_train_options() -> None:
    options = parsers()["train"].options(["tv", "out"], TrainOptions)
    assert (options.recipe, options.seed, options.volumes, options.threads, options.device) == (
        "fast",
        0,
        10,
        1,
        "auto",
    )


SHORT = replace(
    get_method("srgan").recipes["fast"],
    iterations=12,
    evaluate_every=5,
    adversarial_from=4,
    batch=2,
    hold_out=3,
)


def train_stopped_at(
    step: int | None, monkeypatch: pytest.MonkeyPatch, data: Path, out: Path, *more: str
) -> list[tuple[str, int]]:
    """Train with a clock that exceeds the limit from a step on; return the completed steps.

    `step`: number of steps before the limit; None: never stop.
    """
    steps: list[tuple[str, int]] = []

    def fit_on_clock(training, images, work, progress):  # type: ignore[no-untyped-def]
        del progress
        return train_network(
            training,
            images,
            work,
            lambda phase, done, _: steps.append((phase, done)),
            clock=lambda: 3600.0 * (step is not None and len(steps) >= step - 1),
        )

    monkeypatch.setattr(models_train, "train_network", fit_on_clock)
    monkeypatch.setattr(models_train, "get_recipe", lambda method, name: SHORT)
    fine, coarse = (
        data / f"sub-01_acq-{resolution}_T2starw.nii.gz" for resolution in ("high", "low")
    )
    argv = ["train", "srgan", str(out), "--fine", str(fine), "--coarse", str(coarse)]
    assert main([*argv, *more]) == 0
    return steps


@pytest.mark.parametrize("has_work_dir", [False, True], ids=["OUT.work", "--work-dir"])
def test_training_stopped_by_the_time_limit_resumes_with_the_same_command(
    has_work_dir: bool,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uninterrupted, interrupted = tmp_path / "whole", tmp_path / "cut"
    train_stopped_at(None, monkeypatch, data, uninterrupted)
    work = tmp_path / "checkpoints" if has_work_dir else tmp_path / "cut.work"
    limit = ["--max-minutes", "10", *(["-w", str(work)] if has_work_dir else [])]
    capsys.readouterr()
    assert train_stopped_at(7, monkeypatch, data, interrupted, *limit)[:7][-1] == ("search", 7)
    text = capsys.readouterr().out
    assert "Training was stopped by --max-minutes (search: 7 of 12 steps)" in text
    assert f"Rerun the same command to continue training from the checkpoints in {work}" in text
    assert json.loads((tmp_path / "cut.json").read_text())["reproducible"] is False
    assert work.is_dir()
    # the next portion ends in its first step, the ninth in total
    steps = train_stopped_at(2, monkeypatch, data, interrupted, *limit)
    assert steps[:2] == [("search", 8), ("search", 9)]
    assert work.is_dir()
    capsys.readouterr()
    assert train_stopped_at(None, monkeypatch, data, interrupted, *limit)[0] == ("search", 10)
    assert "stopped by" not in capsys.readouterr().out
    assert work.is_dir() is has_work_dir
    first, second = (load_file(f"{model}.safetensors") for model in (uninterrupted, interrupted))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (tmp_path / "whole.tsv").read_text() == (tmp_path / "cut.tsv").read_text()
    assert (tmp_path / "whole.json").read_text() == (tmp_path / "cut.json").read_text()


def test_the_precision_of_training_is_an_option(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for precision in ("mixed", "fp32"):
        out = tmp_path / precision
        train_stopped_at(None, monkeypatch, data, out, "--train-precision", precision)
        entry = json.loads(out.with_suffix(".json").read_text())["mixed_precision"]
        assert entry["asked"] is (precision == "mixed")
        assert (entry["score_change_db"] is None) is (precision == "fp32")
