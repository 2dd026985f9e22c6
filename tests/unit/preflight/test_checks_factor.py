"""How --sr-factor, pairs, references and given models agree on a factor, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bidsmaker import BidsMaker, snapshot

from bids_sr.bids.given_models import factor_of_models
from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings, SuperRes
from bids_sr.preflight import Plan, check, dry_run_text
from bids_sr.preflight.plan_text import _choice_text
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import save_model

THIN = ("--sr-factor", "2", "2", "2")


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    made = BidsMaker(tmp_path / "bids")
    made.subject()
    return made


def line(maker: BidsMaker, *extra: str) -> list[str]:
    out = str(maker.root.parent / "out")
    return [str(maker.root), out, "participant", "--skip-bids-validation", *extra]


def settings_for(maker: BidsMaker, *extra: str) -> Settings:
    return parse_settings(line(maker, *extra)).resolved(run_uuid="x")


def planned(maker: BidsMaker, *extra: str) -> Plan:
    return check(settings_for(maker, *extra))


def refused(maker: BidsMaker, capfd: pytest.CaptureFixture[str], *extra: str) -> str:
    """The text of a refusal: exit code 2, and nothing is written."""
    before = snapshot(maker.root.parent)
    assert main(line(maker, *extra)) == 2
    assert snapshot(maker.root.parent) == before
    return capfd.readouterr().err


def thin_pair(maker: BidsMaker) -> None:
    maker.star("sub-01_acq-highres", (3.0, 3.0, 2.0))


def model(maker: BidsMaker, factor: tuple[float, float, float], method: str = "mse3d") -> str:
    """An untrained model of a 3D method, whose card fits the run."""
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


def test_with_thinner_slices_tv_is_the_default_and_the_console_says_why(maker: BidsMaker) -> None:
    settings = settings_for(maker, *THIN, "--baselines", "all")
    plan = check(settings)
    assert plan.problems == ()
    (run,) = plan.subjects[0].runs
    assert run.factor == (2.0, 2.0, 2.0)
    assert plan.series_of(run) == (
        *("raw", "bspline", "zerofill", "nearest", "linear", "lanczos", "tv"),
    )
    text = _choice_text(run, settings)
    assert text == (
        "tv by 2×2×2 (the default method is tv because the slices become thinner; srgan and sbl"
        " are slice-wise methods; the baseline sdmod is skipped because the slices become"
        " thinner; factor from --sr-factor)"
    )
    assert text in dry_run_text(plan, settings)
    assert plan.estimate.sizes.high == pytest.approx(8 * 8 * 8 * 6 / 1e6)


def test_the_factor_of_a_retrospective_run_is_that_of_its_copy(maker: BidsMaker) -> None:
    """And not the factor of the pair, which is 2 in plane."""
    settings = settings_for(maker, *THIN, "--retrospective", "--sr-method", "tv")
    plan = check(settings)
    assert plan.problems == ()
    assert plan.subjects[0].runs[0].factor == (2.0, 2.0, 1.0)
    assert "super-resolution: tv by 2×2×2" in dry_run_text(plan, settings)


def test_one_number_stays_in_plane(maker: BidsMaker) -> None:
    for extra in (["--sr-factor", "2"], ["--sr-factor", "2", "2", "1"]):
        plan = planned(maker, *extra)
        assert plan.problems == ()
        (run,) = plan.subjects[0].runs
        assert run.factor == (2.0, 2.0, 1.0)
        assert {"sbl", "srgan"} <= set(plan.series_of(run))


@pytest.mark.parametrize("method", ["sbl", "srgan", "sdmod", "unet"])
def test_a_method_that_works_in_plane_is_refused(
    maker: BidsMaker, method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    text = refused(maker, capfd, *THIN, "--sr-method", method, "tv")
    assert f"--sr-method {method}" in text
    assert (
        "why: this slice-wise method cannot reduce the slice thickness, but --sr-factor requests"
        " the factors 2 2 2"
    ) in text
    assert "Choose a 3D method (ccnn3d, dip, gan3d, li, li-agnostic, mse3d, resnet3d, tv)" in text
    assert "To keep the slice thickness instead, use --sr-factor 2." in text
    assert "--sr-method tv\n" not in text


@pytest.mark.parametrize("numbers", ["2 2", "0.5", "2 2 0.5", "1", "1 1 1", "2 2 2 2", "nan"])
def test_other_numbers_are_refused(
    maker: BidsMaker, numbers: str, capfd: pytest.CaptureFixture[str]
) -> None:
    text = refused(maker, capfd, "--sr-factor", *numbers.split())
    assert "--sr-factor: " in text
    assert "why: " in text
    assert "fix: " in text


def test_a_pair_with_thinner_slices_serves_3d_methods(maker: BidsMaker) -> None:
    thin_pair(maker)
    for extra in (THIN, ()):
        plan = planned(maker, *extra, "--sr-method", "mse3d", "--recipe", "paper")
        assert plan.problems == ()
        (run,) = plan.subjects[0].runs
        assert run.pair is not None
        assert run.pair.factor == run.factor == (2.0, 2.0, 2.0)
        assert run.pair.lowres is not None
    maker.path("sub-01_acq-lowres_T2starw.nii.gz", "anat").unlink()
    plan = planned(maker, *THIN, "--sr-method", "mse3d", "--recipe", "paper")
    assert plan.subjects[0].runs[0].pair is not None
    assert any("factor 2×2×2, averaged across slices" in note.why for note in plan.warnings)
    plan = planned(maker, "--sr-method", "mse3d", "--recipe", "paper")
    assert plan.subjects[0].runs[0].factor == (2.0, 2.0, 1.0), "no thinner slices were requested"


def test_a_pair_with_thinner_slices_is_no_pair_of_a_method_in_plane(
    maker: BidsMaker, capfd: pytest.CaptureFixture[str]
) -> None:
    thin_pair(maker)
    text = refused(maker, capfd, "--sr-method", "srgan", "--force")
    assert "the images of the pair differ in slice thickness" in text
    assert "--sr-method mse3d --sr-factor 2 2 2" in text
    (run,) = planned(maker).subjects[0].runs
    assert (run.pair, run.factor) == (None, (2.0, 2.0, 1.0))


def test_a_pair_may_differ_across_slices_alone(maker: BidsMaker) -> None:
    maker.star("sub-01_acq-highres", (6.0, 6.0, 2.0))
    extra = ["--sr-factor", "1", "1", "2", "--sr-method", "mse3d", "--recipe", "paper"]
    plan = planned(maker, *extra)
    assert plan.problems == ()
    (run,) = plan.subjects[0].runs
    assert run.pair is not None
    assert run.pair.highres.name == "sub-01_acq-highres_T2starw.nii.gz"
    assert run.factor == (1.0, 1.0, 2.0)


def test_a_pair_with_thicker_slices_is_refused(
    maker: BidsMaker, capfd: pytest.CaptureFixture[str]
) -> None:
    maker.star("sub-01_acq-highres", (3.0, 3.0, 8.0))
    text = refused(maker, capfd, "--sr-method", "mse3d")
    assert "are thicker than the slices of sub-01_acq-lowres_T2starw.nii.gz" in text


def test_a_factor_that_contradicts_the_pair_is_refused_unless_forced(
    maker: BidsMaker, capfd: pytest.CaptureFixture[str]
) -> None:
    for extra in ([], ["--sr-method", "sbl"], ["--sr-method", "bspline"]):
        text = refused(maker, capfd, "--sr-factor", "1.5", *extra)
        assert "is 2×2, but --sr-factor is 1.5×1.5" in text
        assert "Omit --sr-factor" in text
        assert "--force" in text
    plan = planned(maker, "--sr-factor", "1.5", "--force")
    assert plan.problems == ()
    (run,) = plan.subjects[0].runs
    assert (run.pair, run.factor) == (None, (1.5, 1.5, 1.0))
    # across slices, pairs as thick as the run are the rule: a note is enough
    plan = planned(maker, *THIN)
    assert plan.problems == ()
    assert any("is 2×2×1, but --sr-factor is 2×2×2" in n.why for n in plan.warnings)


def test_a_factor_that_contradicts_the_reference_in_the_data_is_refused_unless_forced(
    maker: BidsMaker, capfd: pytest.CaptureFixture[str]
) -> None:
    for kind in ("highres", "lowres"):
        maker.path(f"sub-01_acq-{kind}_T2starw.nii.gz", "anat").unlink()
    inside = BidsMaker(maker.root / "derivatives" / "highres-reference")
    inside.bold(zooms=(3.0, 3.0, 4.0))
    assert planned(maker).subjects[0].runs[0].truth is not None
    text = refused(maker, capfd, "--sr-factor", "1.5")
    assert "--sr-factor is 1.5×1.5×1, but" in text
    assert "Omit --sr-factor, ignore the reference with --truth none" in text
    for extra in (["--force"], ["--truth", "none"]):
        plan = planned(maker, "--sr-factor", "1.5", *extra)
        assert plan.problems == ()
        assert plan.subjects[0].runs[0].truth is None
    thick = planned(maker, *THIN)
    assert thick.problems == ()
    assert thick.subjects[0].runs[0].truth is None


def test_without_a_factor_that_of_the_given_model_is_taken_and_named(maker: BidsMaker) -> None:
    for kind in ("highres", "lowres"):
        maker.path(f"sub-01_acq-{kind}_T2starw.nii.gz", "anat").unlink()
    extra = ["--sr-method", "mse3d", "--pretrained", model(maker, (2.0, 2.0, 2.0))]
    settings = settings_for(maker, *extra)
    plan = check(settings)
    assert plan.problems == ()
    (run,) = plan.subjects[0].runs
    assert run.factor == (2.0, 2.0, 2.0)
    assert "factor from the --pretrained model" in _choice_text(run, settings)
    assert planned(maker, *extra, *THIN).problems == ()


def test_one_number_does_not_fit_a_model_of_three_and_the_fix_names_them(
    maker: BidsMaker, capfd: pytest.CaptureFixture[str]
) -> None:
    extra = ["--sr-method", "mse3d", "--pretrained", model(maker, (2.0, 2.0, 2.0))]
    text = refused(maker, capfd, *extra, "--sr-factor", "2")
    assert (
        "trained for a factor of (2.0, 2.0, 2.0), but a factor of (2.0, 2.0, 1.0) was requested"
        in text
    )
    assert "use the factor of the model with --sr-factor 2 2 2" in text


def test_models_of_several_factors_state_none(maker: BidsMaker) -> None:
    two, three = model(maker, (2.0, 2.0, 2.0)), model(maker, (3.0, 3.0, 3.0), "resnet3d")

    def stated(*files: str, methods: tuple[str, ...]) -> object:
        return factor_of_models(SuperRes(methods=methods, pretrained=tuple(map(Path, files))))

    assert stated(two, three, methods=("mse3d", "resnet3d")) is None
    assert stated(two, three, methods=("mse3d",)) == (2.0, 2.0, 2.0)
    assert stated(two, methods=("tv",)) is None
    card = Path(two).with_suffix(".json")
    content = json.loads(card.read_text())
    card.write_text(json.dumps({**content, "factors": [1.5, 2.0]}))
    assert stated(two, methods=("mse3d",)) is None
    card.write_text("{")
    assert stated(two, methods=("mse3d",)) is None


def test_a_method_in_plane_is_refused_beside_a_model_of_thinner_slices(
    maker: BidsMaker, capfd: pytest.CaptureFixture[str]
) -> None:
    given = ["--pretrained", model(maker, (2.0, 2.0, 2.0))]
    text = refused(maker, capfd, "--sr-method", "mse3d", "sbl", *given)
    assert (
        "this slice-wise method cannot reduce the slice thickness, but --pretrained requests the"
        " factors 2 2 2"
    ) in text
    assert "--sr-factor" not in text.partition("fix:")[2].partition("\n")[0]


def test_a_reference_with_thinner_slices_is_taken(maker: BidsMaker) -> None:
    truth = BidsMaker(maker.root.parent / "truth")
    coarse = np.asarray(np.random.default_rng(0).integers(50, 1000, (8, 8, 6, 30)), "int16")
    maker.bold(data=coarse)
    fine = coarse.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    truth.bold(zooms=(3.0, 3.0, 2.0), data=fine)
    plan = planned(maker, *THIN, "--truth", str(truth.root))
    assert plan.problems == ()
    assert plan.subjects[0].runs[0].truth is not None
    flat = planned(maker, "--truth", str(truth.root))
    assert "matrix size 16×16×12 is larger" in flat.problems[0].why


def test_an_image_far_sharper_than_the_run_is_no_pair_by_default(
    maker: BidsMaker, capfd: pytest.CaptureFixture[str]
) -> None:
    """A susceptibility-weighted image of .8 mm for a run of 6 mm."""
    maker.path("sub-01_acq-lowres_T2starw.nii.gz", "anat").unlink()
    maker.star("sub-01_acq-highres", (0.8, 0.8, 4.0))
    plan = planned(maker)
    (run,) = plan.subjects[0].runs
    assert (run.pair, run.factor) == (None, (2.0, 2.0, 1.0))
    (why,) = [note.why for note in plan.warnings if "factor 7.5" in note.why]
    assert (
        "pair is not used: this T2*-weighted pair implies factor 7.5 in plane, but factors above 4"
    ) in why
    assert "To use this image, specify --sr-factor 7.5." in why
    assert planned(maker, "--sr-factor", "2").subjects[0].runs[0].pair is None
    for asked in (("--sr-factor", "7.5"), ("--hr-acq", "highres")):
        (run,) = planned(maker, *asked).subjects[0].runs
        assert run.pair is not None
        assert run.factor == (7.5, 7.5, 1.0)
    text = refused(maker, capfd, "--sr-method", "srgan")
    assert "To use this image, specify --sr-factor 7.5" in text
    maker.star("sub-01_acq-highres", (1.5, 1.5, 4.0))
    (run,) = planned(maker).subjects[0].runs
    assert run.factor == (4.0, 4.0, 1.0)
