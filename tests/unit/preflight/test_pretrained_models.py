"""Models and methods that do not fit: rejected with reason and fix before anything is written."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from checking import problems_of
from data.dataset import BidsMaker, snapshot
from safetensors.torch import load, save

from bids_sr.cli.main import main
from bids_sr.config import SuperRes
from bids_sr.preflight import pretrained_models
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import save_model

CARD = {
    "method": "srgan",
    "recipe": "fast",
    "factor": [2.0, 2.0, 1.0],
    "contrast": "T2starw",
    "orientation": "I-S",
    "resolution": {"lowres_mm": [6.0, 6.0, 4.0]},
}


@pytest.fixture(scope="module")
def valid_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save an untrained model that fits the dataset; return its path."""
    network = get_method("srgan").recipes["fast"].build_generator(1, (2.0, 2.0, 1.0))
    return save_model(tmp_path_factory.mktemp("sound") / "srgan", network.state_dict(), CARD)[0]


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    data = BidsMaker(tmp_path / "bids")
    data.subject()
    return data


def copy_model(maker: BidsMaker, valid_model: Path) -> Path:
    for path in (valid_model, valid_model.with_suffix(".json")):
        shutil.copy(path, maker.root.parent)
    return maker.root.parent / valid_model.name


def use_model(path: Path, *options: str) -> list[str]:
    return ["--sr-method", "srgan", "--pretrained", str(path), *options]


def resave_model(maker: BidsMaker, valid_model: Path, *options: str, **card: object) -> list[str]:
    """Save the model with a card of other training images; return the options to use it."""
    path, _ = save_model(
        maker.root.parent / "other", load(valid_model.read_bytes()), {**CARD, **card}
    )
    return use_model(path, *options)


def remove_pair(maker: BidsMaker) -> None:
    for resolution in ("highres", "lowres"):
        maker.path(f"sub-01_acq-{resolution}_T2starw.nii.gz", "anat").unlink()


Corruption = Callable[[BidsMaker, Path], list[str]]


@dataclass(frozen=True, kw_only=True)
class Case:
    spoil: Corruption
    reason: str
    fix: str


def unknown(maker: BidsMaker, valid_model: Path) -> list[str]:
    return ["--sr-method", "resnet3"]


def without_pair(maker: BidsMaker, valid_model: Path) -> list[str]:
    remove_pair(maker)
    return ["--sr-method", "resnet3d", "tv", "--sr-factor", "2"]


def other_factor(maker: BidsMaker, valid_model: Path) -> list[str]:
    return ["--sr-method", "srgan", "--sr-factor", "3"]


def large_patch(maker: BidsMaker, valid_model: Path) -> list[str]:
    return ["--sr-method", "srgan", "--recipe", "paper"]


def large_patch_in_3d(maker: BidsMaker, valid_model: Path) -> list[str]:
    return ["--sr-method", "resnet3d"]


def single_slice(maker: BidsMaker, valid_model: Path) -> list[str]:
    remove_pair(maker)
    maker.bold(zooms=(6.0, 6.0, 24.0))
    return ["--sr-method", "tv", "--sr-factor", "2"]


def single_slice_2d(maker: BidsMaker, valid_model: Path) -> list[str]:
    maker.bold(zooms=(6.0, 6.0, 24.0))
    maker.star("sub-01_acq-lowres", (6.0, 6.0, 24.0))
    maker.star("sub-01_acq-highres", (3.0, 3.0, 24.0))
    return ["--sr-method", "srgan"]


def truncated(maker: BidsMaker, valid_model: Path) -> list[str]:
    path = copy_model(maker, valid_model)
    path.write_bytes(path.read_bytes()[:-1])
    return use_model(path)


def foreign(maker: BidsMaker, valid_model: Path) -> list[str]:
    """Save weights of another network with a card of ours."""
    state = {"conv.weight": next(iter(load(valid_model.read_bytes()).values()))}
    return use_model(save_model(maker.root.parent / "other", state, CARD)[0])


def edited(maker: BidsMaker, valid_model: Path) -> list[str]:
    path = copy_model(maker, valid_model)
    card = path.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | {"orientation": "R-L"}))
    return use_model(path)


def malicious(maker: BidsMaker, valid_model: Path) -> list[str]:
    path = copy_model(maker, valid_model)
    card = path.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | {"method": "..os"}))
    return use_model(path)


def not_finite(maker: BidsMaker, valid_model: Path) -> list[str]:
    state = {
        name: tensor * float("nan") for name, tensor in load(valid_model.read_bytes()).items()
    }
    return use_model(save_model(maker.root.parent / "other", state, CARD)[0])


def other_resolution(maker: BidsMaker, valid_model: Path) -> list[str]:
    return resave_model(maker, valid_model, resolution={"lowres_mm": [3.0, 3.0, 4.0]})


def other_contrast(maker: BidsMaker, valid_model: Path) -> list[str]:
    return resave_model(maker, valid_model, contrast="T1w")


def other_orientation(maker: BidsMaker, valid_model: Path) -> list[str]:
    return resave_model(maker, valid_model, orientation="R-L")


def other_model_factor(maker: BidsMaker, valid_model: Path) -> list[str]:
    """Use a model of another factor with force, which cannot help.

    The factor of 2 x 2 is part of the network weights.
    """
    maker.star("sub-01_acq-highres", (2.0, 2.0, 4.0))
    return use_model(copy_model(maker, valid_model), "--set", "superres.force=true")


CASES = {
    "unknown method": Case(
        spoil=unknown, reason="mse3d, resnet2d, resnet3d, sbl, srgan, tv", fix="mean 'resnet3d'"
    ),
    "no pair": Case(
        spoil=without_pair,
        reason="(resnet3d) require a pair",
        fix="--sr-method auto (the default)",
    ),
    "factor and pair": Case(
        spoil=other_factor,
        reason="is 2×2, but --sr-factor is",
        fix="Omit --sr-f",
    ),
    "patch": Case(
        spoil=large_patch, reason="patches of 64 × 64 voxels are larger", fix="use --recipe fast"
    ),
    "3D patch": Case(
        spoil=large_patch_in_3d, reason="patches of 48 × 48 voxels are larger", fix="whole slices"
    ),
    "single slice": Case(
        spoil=single_slice, reason="a single slice, but tv is a 3D method", fix="only baselines"
    ),
    "slice, 2D": Case(
        spoil=single_slice_2d,
        reason="srgan requires held-out slices",
        fix="with --pretrained MODEL",
    ),
    "truncated": Case(
        spoil=truncated,
        reason="srgan.safetensors: the model weights are truncated",
        fix="both files must be unmodified",
    ),
    "foreign": Case(
        spoil=foreign,
        reason="this version of bids-sr cannot use the model",
        fix="Specify the .safetensors file",
    ),
    "edited": Case(
        spoil=edited,
        reason="changed after the model was saved",
        fix="both files must be unmodified",
    ),
    "malicious": Case(
        spoil=malicious, reason="method is not a valid name", fix="both files must be unmodified"
    ),
    "not finite": Case(
        spoil=not_finite,
        reason="weights contain NaN or infinite values",
        fix="Specify the .safetensors file",
    ),
    "resolution": Case(
        spoil=other_resolution,
        reason="trained at a resolution of 3 x 3 x 4 mm",
        fix="--set superres.force=true",
    ),
    "contrast": Case(
        spoil=other_contrast,
        reason="trained on T1w images, but the image contrast is bold",
        fix="--set superres.force=true",
    ),
    "orientation": Case(
        spoil=other_orientation,
        reason="trained on slices across R-L",
        fix="--set superres.force=true",
    ),
    "factor of the model": Case(
        spoil=other_model_factor,
        reason="a factor of (3.0, 3.0, 1.0) was requested",
        fix="Train a model for",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_models_that_do_not_fit_exit_with_code_2_and_nothing_is_written(
    name: str, maker: BidsMaker, valid_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    options = case.spoil(maker, valid_model)
    before = snapshot(maker.root.parent)
    out = maker.root.parent / "out"
    start = time.monotonic()
    assert (
        main([str(maker.root), str(out), "participant", "--skip-bids-validation", *options]) == 2
    )
    assert time.monotonic() - start < 60
    message = capsys.readouterr().err
    for part in (case.reason, case.fix):
        assert part in message
    assert "Traceback" not in message
    assert snapshot(maker.root.parent) == before


@pytest.mark.parametrize(
    "change", [{"resolution": {"lowres_mm": [3.0, 3.0, 4.0]}}, {"contrast": "T1w"}, {}]
)
def test_force_overrides_mismatches_of_the_image(
    change: dict[str, object],
    maker: BidsMaker,
    valid_model: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = resave_model(
        maker, valid_model, *["--set", "superres.force=true"] * bool(change), **change
    )
    out = str(maker.root.parent / "out")
    assert (
        main(
            [str(maker.root), out, "participant", "--skip-bids-validation", "--dry-run", *options]
        )
        == 0
    )
    assert "srgan" in capsys.readouterr().out


def test_model_files_are_not_unpickled(maker: BidsMaker, valid_model: Path) -> None:
    path = copy_model(maker, valid_model)
    assert save(load(path.read_bytes())) != b""
    path.write_bytes(
        b"\x80\x04cos\nsystem\n(S'touch %b'\ntR." % str(maker.root.parent / "run").encode()
    )
    assert (
        main([str(maker.root), "out", "participant", "--skip-bids-validation", *use_model(path)])
        == 2
    )
    assert not (maker.root.parent / "run").exists()


def test_the_damaged_model_of_several_is_named(maker: BidsMaker, valid_model: Path) -> None:
    first = copy_model(maker, valid_model)
    second, _ = save_model(
        maker.root.parent / "other", load(valid_model.read_bytes()), {**CARD, "method": "vit"}
    )
    problems = problems_of(
        pretrained_models.check_pretrained,
        SuperRes(method=("srgan", "vit"), pretrained=(first, second)),
    )
    assert [problem.what for problem in problems] == [f"--pretrained {second}"]


def test_a_separate_process_reports_the_same_error(
    maker: BidsMaker, valid_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If torch is not imported here, the network is checked in another process."""
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(pretrained_models, "unreadable_reason", lambda file: "not here")
    path = Path(foreign(maker, valid_model)[-1])
    (problem,) = problems_of(
        pretrained_models.check_pretrained, SuperRes(method=("srgan",), pretrained=(path,))
    )
    assert (
        "other.safetensors: this version of bids-sr cannot use the model (the weights do not match"
        " the network of srgan (fast) (missing tensors: " in problem.why
    )
    assert "(body.0.activation.weight, …); unknown tensors: 1 (conv.weight)" in problem.why
