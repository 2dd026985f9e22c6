"""Test ``--set SECTION.FIELD=VALUE``: every setting, its readers, and its errors."""

import dataclasses
import typing
from pathlib import Path

import pytest

from bids_sr.cli.assignments import list_settings
from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings, UsageError
from bids_sr.config.values import as_toml
from bids_sr.sr.method import get_method, method_names
from bids_sr.sr.recipe_changes import base_recipe, variable_fields

REQUIRED = ["in", "out", "participant"]
WITHOUT_DOOR = {
    "paths.bids_dir",
    "paths.output_dir",
    "selection.analysis_level",
    "superres.recipe_changes",
    "run.run_uuid",
    "activation.draws_cc",
}


def parse(*texts: str) -> Settings:
    return parse_settings([*REQUIRED, "--set", *texts])


def refusal_of(*argv: str) -> UsageError:
    with pytest.raises(UsageError) as refusal:
        parse_settings([*REQUIRED, *argv])
    return refusal.value


def test_every_setting_can_be_set() -> None:
    """Set each field to its own default, as written in settings.toml."""
    settings = parse_settings(REQUIRED)
    for section in dataclasses.fields(Settings):
        values = getattr(settings, section.name)
        for item in dataclasses.fields(typing.get_type_hints(Settings)[section.name]):
            name = f"{section.name}.{item.name}"
            if name in WITHOUT_DOOR:
                assert name not in list_settings()
                continue
            value = getattr(values, item.name)
            text = "none" if value is None else as_toml(value)
            parsed = parse(f"{name}={text}")
            assert getattr(getattr(parsed, section.name), item.name) == value, name


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("activation.smoothing=[0, 5]", (0.0, 5.0)),
        ("activation.smoothing=paper", (3.5, 13.2)),
        ("activation.smoothing=4", (4.0,)),
        ("activation.thresholds=[quarter, fdr]", ("quarter", "fdr")),
        ("activation.thresholds=['fdr', 3.1]", ("fdr", "3.1")),
        ('activation.thresholds="fdr"', ("fdr",)),
        ('activation.seeds=["hand=-38,-26,58,3", visual]', ("hand=-38,-26,58,3", "visual")),
        ("activation.seeds=hand=-38,-26,58,3", ("hand=-38,-26,58,3",)),
        ("activation.low_pass=none", None),
        ("activation.low_pass = 0.2", 0.2),
        ("activation.contrasts=[]", ()),
        ("evaluation.roi_grow=true", True),
        ("evaluation.retrospective=noisy", "noisy"),
        ("evaluation.margin=0.02", 0.02),
        ("preprocessing.derivatives=fmriprep=a_b", ("fmriprep=a_b",)),
        ("resources.mem_gb=512M", 0.5),
        ("selection.participant_label=[sub-01, '02']", ("01", "02")),
        ("superres.pretrained=[a.safetensors, b.safetensors]", None),
        ("paths.work_dir=~/w", Path("~/w")),
    ],
)
def test_values_are_written_as_in_toml(text: str, value: object) -> None:
    section, _, field = text.partition("=")[0].strip().partition(".")
    if field == "pretrained":
        value = (Path("a.safetensors"), Path("b.safetensors"))
    assert getattr(getattr(parse(text), section), field) == value


def test_settings_and_changes_of_recipes_share_the_option() -> None:
    settings = parse("tv.tv=0.02", "activation.roi=motor", "superres.method=tv")
    assert list(map(str, settings.superres.recipe_changes)) == ["tv.tv=0.02"]
    assert settings.activation.roi == "motor"
    assert parse("sbl.guide=none").sbl.guide == "none"
    for method in map(get_method, method_names()):
        for recipe in ("fast", "paper") if method.variance is None else ("",):
            if method.variance is not None or recipe in method.recipes:
                numbers = variable_fields(base_recipe(method, recipe))
                assert not {f"{method.name}.{item.name}" for item in numbers} & set(
                    list_settings()
                )


def test_the_option_overrides_the_config_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[superres]\nmethod = ["tv"]\nrecipe_changes = ["tv.tv=0.5"]\n')
    argv = ["--config-file", str(file), "--set", "superres.method=[tv, sbl]"]
    settings = parse_settings([*REQUIRED, *argv])
    assert settings.superres.method == ("tv", "sbl")
    assert list(map(str, settings.superres.recipe_changes)) == ["tv.tv=0.5"]


@pytest.mark.parametrize(
    ("argv", "message", "remedy"),
    [
        ("activation.smothing=3", "has the fields contrasts,", "'activation.smoothing'"),
        ("activaton.smoothing=3", "one of the sections paths,", "'activation.smoothing'"),
        ("smoothing=3", "expected SECTION.FIELD=VALUE", "'activation.smoothing'"),
        ("untt.filters=8", "expected SECTION.FIELD=VALUE", "'unet.filters'"),
        ("activation.smoothing", "expected SECTION.FIELD=VALUE", "activation.smoothing=VALUE"),
        ("run.run_uuid=x", "has the fields", ""),
        ("activation.smoothing=wide", "--set activation.smoothing: wide", "FWHM"),
        ("activation.smoothing=99", "--set activation.smoothing: 99", "FWHM"),
        ("activation.smoothing=[]", "at least one width", "FWHM"),
        ("preprocessing.dummy_scans=two", "expected a value of type int", "non-steady-state"),
        ("preprocessing.dummy_scans=[1, 2]", "expected a single value", "non-steady-state"),
        ("selection.participant_label=", "does not contain any labels", "labels"),
        ("evaluation.roi_grow=yes", "expected true or false", "region of interest"),
        ("sbl.gudie=none", "has the fields guide", "'sbl.guide'"),
        ("sbl.guide=mri", "must be one of auto, none", "choose one of these"),
        ("superres.recipe=papr", "--set superres.recipe", "'paper'"),
        ("activation.roi=a activation.roi=b", "also specified by --set", "only once"),
        ("activation.roi=a --roi b", "also specified by --roi", "only once"),
    ],
)
def test_errors_end_with_2_and_name_the_nearest_setting(
    argv: str, message: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = argv.split(" ") if " --" in argv or "roi=b" in argv else [argv]
    assert main([*REQUIRED, "--set", *words]) == 2
    stderr = " ".join(capsys.readouterr().err.split())
    assert message in stderr
    assert remedy in stderr.partition("fix: ")[2]
    if argv.startswith("activation.smoothing=wide"):
        notice = refusal_of("--smoothing", "wide").notice
        assert "--set" not in str(notice)
