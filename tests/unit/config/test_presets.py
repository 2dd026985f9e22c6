"""Test presets: every choice has the value of its option, and options of the user override it."""

import copy
import shlex
from pathlib import Path

import pytest

from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.cli.preset_text import make_preset_notices
from bids_sr.config import Settings, UsageError
from bids_sr.config.presets import OTA2022, PRESETS, Choice, find_preset, with_preset
from bids_sr.config.vgg19_weights import VGG19_VARIABLE

REQUIRED = ["in", "out", "participant"]


def parse(line: str = "") -> Settings:
    return parse_settings(REQUIRED + shlex.split(line))


def value(settings: Settings, setting: tuple[str, str]) -> object:
    group, name = setting
    return getattr(getattr(settings, group), name)


def console(settings: Settings) -> str:
    return "\n".join(f"{notice.what} {notice.why}" for notice in make_preset_notices(settings))


@pytest.mark.parametrize(
    "choice",
    [choice for preset in PRESETS.values() for choice in preset.choices],
    ids=lambda choice: choice.option,
)
def test_choices_of_a_preset_equal_the_values_of_their_options(choice: Choice) -> None:
    option_value = value(parse(choice.option), choice.setting)
    if isinstance(option_value, tuple):  # tuples are compared in any order
        assert sorted(map(str, option_value)) == sorted(map(str, choice.value))  # type: ignore[call-overload]
    else:
        assert option_value == choice.value
    assert choice.source


def test_a_preset_sets_all_unspecified_options() -> None:
    settings = parse("--preset ota2022")
    assert settings.superres.methods == ("srgan",)
    assert settings.superres.recipe == "paper-mse"
    assert settings.preprocessing.dummy_scans == 60
    assert settings.preprocessing.ignore == ("slicetiming",)
    activation = settings.activation
    assert (activation.kinds, activation.low_pass, activation.roi) == (("cc",), 0.1, "motor")
    assert (settings.preprocessing.input_smoothing, activation.smoothing) == (13.2, (0.0,))
    assert activation.thresholds == ("quarter",)
    assert activation.overlap == ("auto",)
    assert activation.overlap_names == ()


def test_options_override_the_preset_in_any_order() -> None:
    options = (
        "--recipe fast --set activation.low_pass=none --smoothing 5 --overlap a b --roi brain"
    )
    for line in (f"--preset ota2022 {options}", f"{options} --preset ota2022"):
        settings = parse(line)
        assert settings.superres.recipe == "fast"
        assert settings.activation.low_pass is None
        assert settings.activation.smoothing == (5.0,)
        assert settings.activation.overlap_names == ("a", "b")
        assert settings.activation.roi == "brain"
        assert settings.preprocessing.dummy_scans == 60


def test_vgg_weights_determine_the_recipe_of_the_preset(tmp_path: Path) -> None:
    assert parse("--preset ota2022 --vgg-weights vgg.safetensors").superres.recipe == "paper"
    file = tmp_path / "settings.toml"
    file.write_text('[superres]\nvgg_weights = "vgg.safetensors"\n')
    assert parse(f"--preset ota2022 --config-file {file}").superres.recipe == "paper"


def test_installed_vgg_weights_determine_the_recipe_of_the_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "vgg19.safetensors"
    monkeypatch.setenv(VGG19_VARIABLE, str(weights))
    assert parse("--preset ota2022").superres.recipe == "paper-mse"
    weights.write_bytes(b"")
    settings = parse("--preset ota2022")
    assert settings.superres.recipe == "paper"
    assert "--recipe paper: training as published" in console(settings)
    assert parse("--preset ota2022 --recipe paper-mse").superres.recipe == "paper-mse"


def test_the_preset_of_the_tv_paper_sets_its_preprocessing() -> None:
    settings = parse("--preset perezbueno2025")
    superres, activation = settings.superres, settings.activation
    assert (superres.methods, superres.recipe) == (("tv",), "paper")
    assert superres.factor_by_axis == (2.0, 2.0, 2.0)
    assert settings.evaluation.retrospective == "clean"
    assert settings.preprocessing.dummy_scans == 5
    assert (activation.drift, activation.band_pass) == ("legendre:4", (0.005, 0.2))
    assert (activation.confounds, activation.enorm_censor) == (("motion",), 0.3)
    assert (activation.smoothing, activation.seed_series) == ((3.0,), "own")
    assert [seed.rpartition(",")[2] for seed in activation.seeds] == ["3", "3", "3"]
    assert "--preset perezbueno2025 --recipe fast" in console(settings)


def test_the_preset_of_the_attention_u_net_processes_structural_scans() -> None:
    settings = parse("--preset li2022 --recipe fast")
    superres = settings.superres
    assert (superres.target, superres.train_on) == ("anat", "others")
    assert superres.methods == ("attunet", "unet", "vit")
    assert (superres.anat_align, superres.anat_mask) == ("template", "intracranial")
    assert (superres.baselines, superres.recipe) == ("all", "fast")
    assert parse("--preset li2022").superres.scaling_of_scans == "range"


def test_a_preset_overrides_the_config_file_and_is_stored_as_plain_values(
    tmp_path: Path,
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[activation]\nroi = "visual"\nhigh_pass = 0.02\n')
    settings = parse(f"--config-file {file} --preset ota2022 --dummy-scans 3")
    assert (settings.activation.roi, settings.activation.high_pass) == ("motor", 0.02)
    file.write_text(settings.to_toml())
    assert Settings.from_toml(file) == settings
    restored = parse(f"--config-file {file}")
    assert restored.run.preset == ""
    for choice in OTA2022.choices:
        assert value(restored, choice.setting) == value(settings, choice.setting)
    assert restored.preprocessing.dummy_scans == 3


def test_an_unknown_preset_is_rejected_with_the_available_presets(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="--preset: ota\n") as error:
        parse("--preset ota")
    assert "available presets: ota2022" in str(error.value)
    assert "did you mean 'ota2022'?" in str(error.value)
    with pytest.raises(UsageError, match="choose one of the available presets"):
        find_preset("spm")
    assert main([str(tmp_path), str(tmp_path / "out"), "group", "--preset", "spm"]) == 2
    assert "available presets: ota2022" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_preset_sets_nothing_at_the_group_level() -> None:
    line = ["in", "out", "group"]
    without_preset, with_group_preset = (
        parse_settings(line),
        parse_settings([*line, "--preset", "ota2022"]),
    )
    assert (with_group_preset.superres, with_group_preset.activation) == (
        without_preset.superres,
        without_preset.activation,
    )
    assert "has no effect at the group level" in console(with_group_preset)


def test_with_preset_does_not_modify_its_arguments() -> None:
    values: dict[str, dict[str, object]] = {"activation": {"roi": "visual"}}
    before = copy.deepcopy(values)
    completed = with_preset(OTA2022, values, {})
    assert completed["activation"]["roi"] == "motor"
    assert values == before
    user_values = with_preset(OTA2022, values, {"activation": {"roi": "visual"}})
    assert user_values["activation"]["roi"] == "visual"


def test_the_console_lists_preset_options_overrides_and_cost() -> None:
    text = console(parse("--preset ota2022 --dummy-scans 3"))
    assert "--recipe paper-mse: training as published, but with the mean squared error" in text
    assert (
        "--set activation.low_pass=0.1: the paper describes a low-pass filter without its cutoff"
        in text
    )
    assert "override these options of the preset: --dummy-scans 60\n" in text
    assert "takes several days per participant on a CPU" in text
    assert "--preset ota2022 --recipe fast" in text
    quick = console(parse("--preset ota2022 --recipe fast"))
    assert "override these options of the preset: --recipe paper-mse\n" in quick
    assert "several days" not in quick
    weights = console(parse("--preset ota2022 --vgg-weights vgg.safetensors"))
    assert "--recipe paper: " in weights
    assert "override these options" not in weights
    assert console(parse()) == ""


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("--overlap thumb", "expected two different conditions"),
        ("--overlap thumb thumb", "expected two different conditions"),
        ("--overlap auto thumb", "expected two different conditions"),
        ("--overlap a b c", "expected two different conditions"),
        (
            "--overlap a b --set activation.kinds=glm",
            "cc in activation.kinds and quarter in activation.thresholds",
        ),
        (
            "--overlap a b --set activation.thresholds=fdr",
            "cc in activation.kinds and quarter in activation.thresholds",
        ),
    ],
)
def test_invalid_overlap_conditions_are_rejected(line: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as error:
        parse(line)
    assert str(error.value).startswith("--overlap")


def test_overlap_auto_is_ignored_without_correlation_regions() -> None:
    assert parse("--preset ota2022 --set activation.kinds=glm").activation.overlap_names is None
    assert parse("--overlap auto").activation.overlap_names == ()
    assert parse().activation.overlap_names is None
