"""``--set SECTION.FIELD=VALUE``: every setting, its readers, and its errors."""

import dataclasses
import typing
from operator import attrgetter
from pathlib import Path

import pytest

from bids_sr.cli.assignments import list_settings
from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings
from bids_sr.config.values import as_toml

REQUIRED = ["in", "out", "participant"]
NOT_SETTABLE = {
    "paths.bids_dir",
    "paths.output_dir",
    "selection.analysis_level",
    "superres.recipe_changes",
    "run.run_uuid",
    "activation.draws_cc",
}


def parse(*texts: str) -> Settings:
    return parse_settings([*REQUIRED, "--set", *texts])


def test_every_setting_can_be_set() -> None:
    """Set each field to its own default, as written in settings.toml."""
    defaults = parse_settings(REQUIRED)
    names = {
        f"{section}.{item.name}"
        for section, kind in typing.get_type_hints(Settings).items()
        for item in dataclasses.fields(kind)
    }
    assert names - set(list_settings()) == NOT_SETTABLE
    for name in names - NOT_SETTABLE:
        value = attrgetter(name)(defaults)
        text = "none" if value is None else as_toml(value)
        assert attrgetter(name)(parse(f"{name}={text}")) == value, name


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("activation.smoothing=[0, 5]", (0.0, 5.0)),
        ("activation.smoothing=paper", (3.5, 13.2)),
        ("activation.thresholds=[quarter, fdr]", ("quarter", "fdr")),
        ("activation.thresholds=['fdr', 3.1]", ("fdr", "3.1")),
        ('activation.thresholds="fdr"', ("fdr",)),
        ('activation.seeds=["hand=-38,-26,58,3", visual]', ("hand=-38,-26,58,3", "visual")),
        ("activation.seeds=hand=-38,-26,58,3", ("hand=-38,-26,58,3",)),
        ("activation.low_pass=none", None),
        ("activation.low_pass = 0.2", 0.2),
        ("activation.contrasts=[]", ()),
        ("evaluation.roi_grow=true", True),
        ("preprocessing.derivatives=fmriprep=a_b", ("fmriprep=a_b",)),
        ("resources.mem_gb=512M", 0.5),
        ("selection.participant_label=[sub-01, '02']", ("01", "02")),
        ("superres.pretrained=[a.safetensors, b.safetensors]", "ab"),
        ("paths.work_dir=~/w", Path("~/w")),
    ],
)
def test_values_are_written_as_in_toml(text: str, value: object) -> None:
    if value == "ab":
        value = (Path("a.safetensors"), Path("b.safetensors"))
    assert attrgetter(text.partition("=")[0].strip())(parse(text)) == value


def test_changes_of_recipes_share_the_option_and_override_the_config_file(tmp_path: Path) -> None:
    settings = parse("tv.tv=0.02", "activation.roi=motor", "superres.method=tv")
    assert list(map(str, settings.superres.recipe_changes)) == ["tv.tv=0.02"]
    assert settings.activation.roi == ("motor",)
    assert parse("sbl.guide=none").sbl.guide == "none"
    file = tmp_path / "settings.toml"
    file.write_text('[superres]\nmethod = ["tv"]\nrecipe_changes = ["tv.tv=0.5"]\n')
    argv = ["--config-file", str(file), "--set", "superres.method=[tv, sbl]"]
    settings = parse_settings([*REQUIRED, *argv])
    assert settings.superres.method == ("tv", "sbl")
    assert list(map(str, settings.superres.recipe_changes)) == ["tv.tv=0.5"]


@pytest.mark.parametrize(
    ("argv", "named", "remedy"),
    [
        (["activation.smothing=3"], "contrasts,", "'activation.smoothing'"),
        (["activaton.smoothing=3"], "paths,", "'activation.smoothing'"),
        (["smoothing=3"], "SECTION.FIELD=VALUE", "'activation.smoothing'"),
        (["untt.filters=8"], "SECTION.FIELD=VALUE", "'unet.filters'"),
        (["activation.smoothing"], "SECTION.FIELD=VALUE", "activation.smoothing=VALUE"),
        (["run.run_uuid=x"], "run.run_uuid", ""),
        (["activation.smoothing=wide"], "--set activation.smoothing: wide", "FWHM"),
        (["preprocessing.dummy_scans=two"], "type int", ""),
        (["preprocessing.dummy_scans=[1, 2]"], "preprocessing.dummy_scans", ""),
        (["evaluation.roi_grow=yes"], "true or false", ""),
        (["sbl.gudie=none"], "guide", "'sbl.guide'"),
        (["sbl.guide=mri"], "auto, none", ""),
        (["superres.recipe=papr"], "--set superres.recipe", "'paper'"),
        (["activation.roi=a", "activation.roi=b"], "--set", ""),
        (["activation.roi=a", "--roi", "b"], "--roi", ""),
    ],
)
def test_errors_end_with_2_and_name_the_nearest_setting(
    argv: list[str], named: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*REQUIRED, "--set", *argv]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert named in error
    assert remedy in error.partition("fix: ")[2]
