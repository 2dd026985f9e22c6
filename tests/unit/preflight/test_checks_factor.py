"""Consistency of --sr-factor with pairs, references and models, and rejected combinations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from data.dataset import BidsMaker, snapshot

from bids_sr.bids.pretrained_models import factor_of_models
from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings, SuperRes
from bids_sr.preflight import Plan, check, dry_run_text
from bids_sr.preflight.plan_text import _describe_method
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import save_model

THIN = ("--sr-factor", "2", "2", "2")


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    data = BidsMaker(tmp_path / "bids")
    data.subject()
    return data


def line(maker: BidsMaker, *extra: str) -> list[str]:
    out = str(maker.root.parent / "out")
    return [str(maker.root), out, "participant", "--skip-bids-validation", *extra]


def settings_for(maker: BidsMaker, *extra: str) -> Settings:
    return parse_settings(line(maker, *extra)).resolve(run_uuid="x")


def plan_call(maker: BidsMaker, *extra: str) -> Plan:
    return check(settings_for(maker, *extra))


def reject_call(maker: BidsMaker, capfd: pytest.CaptureFixture[str], *extra: str) -> str:
    """Return the error message of a call with exit code 2 that writes nothing."""
    before = snapshot(maker.root.parent)
    assert main(line(maker, *extra)) == 2
    assert snapshot(maker.root.parent) == before
    return capfd.readouterr().err


def make_thin_pair(maker: BidsMaker) -> None:
    maker.star("sub-01_acq-highres", (3.0, 3.0, 2.0))


def model(maker: BidsMaker, factor: tuple[float, float, float], method: str = "mse3d") -> str:
    """Save an untrained model of a 3D method with a card that fits the run; return its path."""
    recipe = get_method(method).recipes["fast"]
    card = {
        "method": method,
        "recipe": "fast",
        "factor": list(factor),
        "contrast": "T2starw",
        "orientation": "I-S",
        "resolution": {"lowres_mm": [6.0, 6.0, 4.0]},
        "settings": {"upsampled_by": recipe.upsampled_by},
    }
    state = recipe.build_generator(1, factor).state_dict()
    name = f"{method}-{'-'.join(f'{f:g}' for f in factor)}"
    return str(save_model(maker.root.parent / name, state, card)[0])


def test_thinner_slices_make_tv_the_default_with_the_reason_on_the_console(
    maker: BidsMaker,
) -> None:
    settings = settings_for(maker, *THIN, "--sr-method", "auto", "all")
    plan = check(settings)
    assert plan.problems == ()
    (run,) = plan.subjects[0].runs
    assert run.factor == (2.0, 2.0, 2.0)
    assert plan.list_series(run) == (
        *("acquired", "bspline", "zerofill", "nearest", "linear", "lanczos", "tv"),
    )
    text = _describe_method(run, settings)
    assert text == (
        "tv by 2×2×2 (the default method is tv because the slices become thinner; srgan and sbl"
        " are slice-wise methods; the baseline sdmod is skipped because the slices become"
        " thinner; factor from --sr-factor)"
    )
    assert text in dry_run_text(plan, settings)
    assert plan.estimate.sizes.high == pytest.approx(8 * 8 * 8 * 6 / 1e6)


def test_the_factor_of_a_retrospective_run_applies_to_its_downsampled_copy(
    maker: BidsMaker,
) -> None:
    """Check that the factor of the pair (2 in plane) is not used."""
    settings = settings_for(maker, *THIN, "--retrospective", "--sr-method", "tv")
    plan = check(settings)
    assert plan.problems == ()
    assert plan.subjects[0].runs[0].factor == (2.0, 2.0, 1.0)
    assert "super-resolution: tv by 2×2×2" in dry_run_text(plan, settings)


def test_a_single_factor_applies_in_plane(maker: BidsMaker) -> None:
    for extra in (["--sr-factor", "2"], ["--sr-factor", "2", "2", "1"]):
        plan = plan_call(maker, *extra)
        assert plan.problems == ()
        (run,) = plan.subjects[0].runs
        assert run.factor == (2.0, 2.0, 1.0)
        assert {"sbl", "srgan"} <= set(plan.list_series(run))


@pytest.mark.parametrize("method", ["sbl", "srgan", "sdmod", "unet"])
def test_a_slice_wise_method_is_rejected_for_thinner_slices(
    maker: BidsMaker, method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    text = reject_call(maker, capfd, *THIN, "--sr-method", method, "tv")
    assert f"--sr-method {method}" in text
    assert (
        "why: this slice-wise method cannot reduce the slice thickness, but --sr-factor requests"
        " the factors 2 2 2"
    ) in text
    assert "Choose a 3D method (ccnn3d, dip, gan3d, li, li-agnostic, mse3d, resnet3d, tv)" in text
    assert "To keep the slice thickness instead, use --sr-factor 2." in text
    assert "--sr-method tv\n" not in text


@pytest.mark.parametrize("numbers", ["2 2", "0.5", "2 2 0.5", "1", "1 1 1", "2 2 2 2", "nan"])
def test_invalid_factors_are_rejected(
    maker: BidsMaker, numbers: str, capfd: pytest.CaptureFixture[str]
) -> None:
    text = reject_call(maker, capfd, "--sr-factor", *numbers.split())
    assert "--sr-factor: " in text
    assert "why: " in text
    assert "fix: " in text


def test_a_pair_with_thinner_slices_is_used_by_3d_methods(maker: BidsMaker) -> None:
    make_thin_pair(maker)
    for extra in (THIN, ()):
        plan = plan_call(maker, *extra, "--sr-method", "mse3d", "--recipe", "paper")
        assert plan.problems == ()
        (run,) = plan.subjects[0].runs
        assert run.pair is not None
        assert run.pair.factor == run.factor == (2.0, 2.0, 2.0)
        assert run.pair.lowres is not None
    maker.path("sub-01_acq-lowres_T2starw.nii.gz", "anat").unlink()
    plan = plan_call(maker, *THIN, "--sr-method", "mse3d", "--recipe", "paper")
    assert plan.subjects[0].runs[0].pair is not None
    assert any("factor 2×2×2, averaged across slices" in note.why for note in plan.warnings)
    plan = plan_call(maker, "--sr-method", "mse3d", "--recipe", "paper")
    assert plan.subjects[0].runs[0].factor == (2.0, 2.0, 1.0), "no thinner slices were requested"


def test_a_pair_with_thinner_slices_is_rejected_for_slice_wise_methods(
    maker: BidsMaker, capfd: pytest.CaptureFixture[str]
) -> None:
    make_thin_pair(maker)
    text = reject_call(maker, capfd, "--sr-method", "srgan", "--set", "superres.force=true")
    assert "the images of the pair differ in slice thickness" in text
    assert "--sr-method mse3d --sr-factor 2 2 2" in text
    (run,) = plan_call(maker).subjects[0].runs
    assert (run.pair, run.factor) == (None, (2.0, 2.0, 1.0))


def test_a_pair_may_differ_only_in_slice_thickness(maker: BidsMaker) -> None:
    maker.star("sub-01_acq-highres", (6.0, 6.0, 2.0))
    extra = ["--sr-factor", "1", "1", "2", "--sr-method", "mse3d", "--recipe", "paper"]
    plan = plan_call(maker, *extra)
    assert plan.problems == ()
    (run,) = plan.subjects[0].runs
    assert run.pair is not None
    assert run.pair.highres.name == "sub-01_acq-highres_T2starw.nii.gz"
    assert run.factor == (1.0, 1.0, 2.0)


def test_a_pair_with_thicker_slices_is_rejected(
    maker: BidsMaker, capfd: pytest.CaptureFixture[str]
) -> None:
    maker.star("sub-01_acq-highres", (3.0, 3.0, 8.0))
    text = reject_call(maker, capfd, "--sr-method", "mse3d")
    assert "are thicker than the slices of sub-01_acq-lowres_T2starw.nii.gz" in text


def test_a_factor_that_contradicts_the_pair_is_rejected_unless_forced(
    maker: BidsMaker, capfd: pytest.CaptureFixture[str]
) -> None:
    for extra in ([], ["--sr-method", "sbl"], ["--sr-method", "bspline"]):
        text = reject_call(maker, capfd, "--sr-factor", "1.5", *extra)
        assert "is 2×2, but --sr-factor is 1.5×1.5" in text
        assert "Omit --sr-factor" in text
        assert "--set superres.force=true" in text
    plan = plan_call(maker, "--sr-factor", "1.5", "--set", "superres.force=true")
    assert plan.problems == ()
    (run,) = plan.subjects[0].runs
    assert (run.pair, run.factor) == (None, (1.5, 1.5, 1.0))
    # pairs usually have the slice thickness of the run: a note is sufficient
    plan = plan_call(maker, *THIN)
    assert plan.problems == ()
    assert any("is 2×2×1, but --sr-factor is 2×2×2" in n.why for n in plan.warnings)


def test_a_factor_that_contradicts_the_reference_is_rejected_unless_forced(
    maker: BidsMaker, capfd: pytest.CaptureFixture[str]
) -> None:
    for resolution in ("highres", "lowres"):
        maker.path(f"sub-01_acq-{resolution}_T2starw.nii.gz", "anat").unlink()
    reference = BidsMaker(maker.root / "derivatives" / "highres-reference")
    reference.bold(zooms=(3.0, 3.0, 4.0))
    assert plan_call(maker).subjects[0].runs[0].truth is not None
    text = reject_call(maker, capfd, "--sr-factor", "1.5")
    assert "--sr-factor is 1.5×1.5×1, but" in text
    assert "Omit --sr-factor, ignore the reference with --truth none" in text
    for extra in (["--set", "superres.force=true"], ["--truth", "none"]):
        plan = plan_call(maker, "--sr-factor", "1.5", *extra)
        assert plan.problems == ()
        assert plan.subjects[0].runs[0].truth is None
    thin_slice_plan = plan_call(maker, *THIN)
    assert thin_slice_plan.problems == ()
    assert thin_slice_plan.subjects[0].runs[0].truth is None


def test_the_factor_of_a_given_model_is_the_default_and_is_reported(maker: BidsMaker) -> None:
    for resolution in ("highres", "lowres"):
        maker.path(f"sub-01_acq-{resolution}_T2starw.nii.gz", "anat").unlink()
    extra = ["--sr-method", "mse3d", "--pretrained", model(maker, (2.0, 2.0, 2.0))]
    settings = settings_for(maker, *extra)
    plan = check(settings)
    assert plan.problems == ()
    (run,) = plan.subjects[0].runs
    assert run.factor == (2.0, 2.0, 2.0)
    assert "factor from the --pretrained model" in _describe_method(run, settings)
    assert plan_call(maker, *extra, *THIN).problems == ()


def test_a_factor_that_differs_from_the_model_is_rejected_with_the_model_factor(
    maker: BidsMaker, capfd: pytest.CaptureFixture[str]
) -> None:
    extra = ["--sr-method", "mse3d", "--pretrained", model(maker, (2.0, 2.0, 2.0))]
    text = reject_call(maker, capfd, *extra, "--sr-factor", "2")
    assert (
        "trained for a factor of (2.0, 2.0, 2.0), but a factor of (2.0, 2.0, 1.0) was requested"
        in text
    )
    assert "use the factor of the model with --sr-factor 2 2 2" in text


def test_models_with_different_factors_have_no_common_factor(maker: BidsMaker) -> None:
    factor_2, factor_3 = model(maker, (2.0, 2.0, 2.0)), model(maker, (3.0, 3.0, 3.0), "resnet3d")

    def common_factor(*files: str, methods: tuple[str, ...]) -> object:
        return factor_of_models(SuperRes(method=methods, pretrained=tuple(map(Path, files))))

    assert common_factor(factor_2, factor_3, methods=("mse3d", "resnet3d")) is None
    assert common_factor(factor_2, factor_3, methods=("mse3d",)) == (2.0, 2.0, 2.0)
    assert common_factor(factor_2, methods=("tv",)) is None
    card = Path(factor_2).with_suffix(".json")
    content = json.loads(card.read_text())
    card.write_text(json.dumps({**content, "factors": [1.5, 2.0]}))
    assert common_factor(factor_2, methods=("mse3d",)) is None
    card.write_text("{")
    assert common_factor(factor_2, methods=("mse3d",)) is None


def test_a_slice_wise_method_is_rejected_next_to_a_model_for_thinner_slices(
    maker: BidsMaker, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--pretrained", model(maker, (2.0, 2.0, 2.0))]
    text = reject_call(maker, capfd, "--sr-method", "mse3d", "sbl", *options)
    assert (
        "this slice-wise method cannot reduce the slice thickness, but --pretrained requests the"
        " factors 2 2 2"
    ) in text
    assert "--sr-factor" not in text.partition("fix:")[2].partition("\n")[0]


def test_a_reference_with_thinner_slices_is_used(maker: BidsMaker) -> None:
    truth = BidsMaker(maker.root.parent / "truth")
    coarse = np.asarray(np.random.default_rng(0).integers(50, 1000, (8, 8, 6, 30)), "int16")
    maker.bold(data=coarse)
    fine = coarse.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    truth.bold(zooms=(3.0, 3.0, 2.0), data=fine)
    plan = plan_call(maker, *THIN, "--truth", str(truth.root))
    assert plan.problems == ()
    assert plan.subjects[0].runs[0].truth is not None
    in_plane_plan = plan_call(maker, "--truth", str(truth.root))
    assert "matrix size 16×16×12 is larger" in in_plane_plan.problems[0].why


def test_an_image_of_much_higher_resolution_is_not_used_as_pair_by_default(
    maker: BidsMaker, capfd: pytest.CaptureFixture[str]
) -> None:
    """Example: a susceptibility-weighted image of 0.8 mm for a run of 6 mm."""
    maker.path("sub-01_acq-lowres_T2starw.nii.gz", "anat").unlink()
    maker.star("sub-01_acq-highres", (0.8, 0.8, 4.0))
    plan = plan_call(maker)
    (run,) = plan.subjects[0].runs
    assert (run.pair, run.factor) == (None, (2.0, 2.0, 1.0))
    (reason,) = [note.why for note in plan.warnings if "factor 7.5" in note.why]
    assert (
        "pair is not used: this T2*-weighted pair implies factor 7.5 in plane, but factors above 4"
    ) in reason
    assert "To use this image, specify --sr-factor 7.5." in reason
    assert plan_call(maker, "--sr-factor", "2").subjects[0].runs[0].pair is None
    (run,) = plan_call(maker, "--sr-factor", "7.5").subjects[0].runs
    assert run.pair is not None
    assert run.factor == (7.5, 7.5, 1.0)
    text = reject_call(maker, capfd, "--sr-method", "srgan")
    assert "To use this image, specify --sr-factor 7.5" in text
    maker.star("sub-01_acq-highres", (1.5, 1.5, 4.0))
    (run,) = plan_call(maker).subjects[0].runs
    assert run.factor == (4.0, 4.0, 1.0)
