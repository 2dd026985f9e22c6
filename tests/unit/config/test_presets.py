"""Presets: each choice is an option with the same value; options of the user have precedence."""

import copy
import shlex
from pathlib import Path

import pytest

from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.cli.preset_text import preset_lines
from bids_sr.config import Settings, UsageError
from bids_sr.config.presets import OTA2022, PRESETS, Choice, find_preset, with_preset

FIRST = ["in", "out", "participant"]


def parse(line: str = "") -> Settings:
    return parse_settings(FIRST + shlex.split(line))


def value(settings: Settings, setting: tuple[str, str]) -> object:
    group, name = setting
    return getattr(getattr(settings, group), name)


def console(settings: Settings) -> str:
    return "\n".join(f"{each.what} {each.why}" for each in preset_lines(settings))


@pytest.mark.parametrize(
    "choice",
    [each for preset in PRESETS.values() for each in preset.choices],
    ids=lambda choice: choice.option,
)
def test_each_choice_is_the_value_of_its_option(choice: Choice) -> None:
    given = value(parse(choice.option), choice.setting)
    if isinstance(given, tuple):  # in any order
        assert sorted(map(str, given)) == sorted(map(str, choice.value))  # type: ignore[call-overload]
    else:
        assert given == choice.value
    assert choice.source


def test_a_preset_sets_all_that_was_not_given() -> None:
    settings = parse("--preset ota2022")
    assert settings.superres.methods == ("srgan",)
    assert settings.superres.recipe == "paper-mse"
    assert settings.preprocessing.dummy_scans == 60
    assert settings.preprocessing.ignore == ("slicetiming",)
    how = settings.activation
    assert (how.kinds, how.low_pass, how.roi) == (("cc",), 0.1, "motor")
    assert (how.smoothing, how.thresholds) == ((0.0, 3.5, 13.2), ("quarter",))
    assert how.overlap == ("auto",)
    assert how.overlap_names == ()


def test_options_win_over_the_preset_in_any_order() -> None:
    options = "--recipe fast --low-pass none --smoothing 5 --overlap a b --roi brain"
    for line in (f"--preset ota2022 {options}", f"{options} --preset ota2022"):
        settings = parse(line)
        assert settings.superres.recipe == "fast"
        assert settings.activation.low_pass is None
        assert settings.activation.smoothing == (5.0,)
        assert settings.activation.overlap_names == ("a", "b")
        assert settings.activation.roi == "brain"
        assert settings.preprocessing.dummy_scans == 60


def test_weights_of_vgg_decide_the_recipe(tmp_path: Path) -> None:
    assert parse("--preset ota2022 --vgg-weights vgg.safetensors").superres.recipe == "paper"
    file = tmp_path / "settings.toml"
    file.write_text('[superres]\nvgg_weights = "vgg.safetensors"\n')
    assert parse(f"--preset ota2022 --config-file {file}").superres.recipe == "paper"


def test_an_earlier_file_gives_way_to_a_preset_and_holds_the_effective_values(
    tmp_path: Path,
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[activation]\nroi = "visual"\nhigh_pass = 0.02\n')
    settings = parse(f"--config-file {file} --preset ota2022 --dummy-scans 3")
    assert (settings.activation.roi, settings.activation.high_pass) == ("motor", 0.02)
    file.write_text(settings.to_toml())
    assert Settings.from_toml(file) == settings
    again = parse(f"--config-file {file}")
    assert again.run.preset == ""
    for choice in OTA2022.choices:
        assert value(again, choice.setting) == value(settings, choice.setting)
    assert again.preprocessing.dummy_scans == 3


def test_an_unknown_preset_is_refused_with_the_list(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="--preset: ota\n") as raised:
        parse("--preset ota")
    assert "available presets: ota2022" in str(raised.value)
    assert "did you mean 'ota2022'?" in str(raised.value)
    with pytest.raises(UsageError, match="choose one of the available presets"):
        find_preset("spm")
    assert main([str(tmp_path), str(tmp_path / "out"), "group", "--preset", "spm"]) == 2
    assert "available presets: ota2022" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_preset_sets_nothing_at_the_group_level() -> None:
    line = ["in", "out", "group"]
    plain, preset = parse_settings(line), parse_settings([*line, "--preset", "ota2022"])
    assert (preset.superres, preset.activation) == (plain.superres, plain.activation)
    assert "has no effect at the group level" in console(preset)


def test_the_arguments_of_with_preset_stay_as_they_are() -> None:
    values: dict[str, dict[str, object]] = {"activation": {"roi": "visual"}}
    before = copy.deepcopy(values)
    completed = with_preset(OTA2022, values, {})
    assert completed["activation"]["roi"] == "motor"
    assert values == before
    kept = with_preset(OTA2022, values, {"activation": {"roi": "visual"}})
    assert kept["activation"]["roi"] == "visual"


def test_the_console_lists_what_was_set_what_was_given_and_the_cost() -> None:
    text = console(parse("--preset ota2022 --dummy-scans 3"))
    assert "--recipe paper-mse: training as published, but with the mean squared error" in text
    assert "--low-pass 0.1: the paper describes a low-pass filter without its cutoff" in text
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
        ("--overlap a b --activation glm", "--activation cc and --threshold quarter"),
        ("--overlap a b --threshold fdr", "--activation cc and --threshold quarter"),
    ],
)
def test_conditions_that_cannot_be_compared_are_refused(line: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as raised:
        parse(line)
    assert str(raised.value).startswith("--overlap")


def test_auto_is_no_reason_to_refuse_a_call_without_such_regions() -> None:
    assert parse("--preset ota2022 --activation glm").activation.overlap_names is None
    assert parse("--overlap auto").activation.overlap_names == ()
    assert parse().activation.overlap_names is None
