"""Test ``--config-file``: presets, settings files, their order, and unknown names and keys."""

import shlex
from pathlib import Path

import pytest
from data.calls import about

from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings
from bids_sr.config.presets import find_config_file, preset_names
from bids_sr.config.settings import read_toml
from bids_sr.io.notices import UsageError
from bids_sr.sr.method import get_method

REQUIRED = ["in", "out", "participant"]


def parse(line: str = "") -> Settings:
    return parse_settings(REQUIRED + shlex.split(line))


def write_settings(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "my.toml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_sets_its_values(name: str) -> None:
    settings, file = parse(f"--config-file {name}"), find_config_file(name)
    assert settings.run.config_file == (name,)
    for group, values in read_toml(file).items():
        section = getattr(settings, group)
        assert {key: getattr(section, key) for key in values} == {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in values.items()
        }


def test_a_preset_sets_all_unspecified_options() -> None:
    settings = parse("--config-file ota2022")
    assert settings.superres.method == ("srgan",)
    assert settings.superres.recipe == "paper"
    assert settings.preprocessing.dummy_scans == 60
    assert settings.preprocessing.ignore == ("slicetiming",)
    activation = settings.activation
    assert (activation.kinds, activation.low_pass, activation.roi) == (("cc",), 0.1, ("motor",))
    assert (settings.preprocessing.input_smoothing, activation.smoothing) == (13.2, (0.0,))
    assert activation.thresholds == ("quarter",)


def test_options_override_the_preset_in_any_order() -> None:
    options = "--recipe fast --set activation.low_pass=none --smoothing 5 --roi brain"
    for line in (f"--config-file ota2022 {options}", f"{options} --config-file ota2022"):
        settings = parse(line)
        assert settings.superres.recipe == "fast"
        assert settings.activation.low_pass is None
        assert settings.activation.smoothing == (0.0, 5.0)
        assert settings.activation.roi == ("brain",)
        assert settings.preprocessing.dummy_scans == 60


def test_the_preset_of_the_tv_paper_sets_its_preprocessing() -> None:
    settings = parse("--config-file perezbueno2025")
    superres, activation = settings.superres, settings.activation
    assert (superres.method, superres.recipe) == (("tv",), "paper")
    assert superres.factor_by_axis == (2.0, 2.0, 2.0)
    assert settings.evaluation.retrospective == "clean"
    operator = get_method("tv").recipes["paper"].degradation
    assert settings.evaluation.retrospective_operator == operator
    assert settings.preprocessing.dummy_scans == 5
    assert (activation.drift, activation.band_pass) == ("legendre:4", (0.005, 0.2))
    assert (activation.confounds, activation.censoring_limits) == (("motion",), {"enorm": 0.3})
    assert (activation.smoothing, activation.seed_series) == ((3.0,), "own")
    assert [seed.rpartition(",")[2] for seed in activation.seeds] == ["3", "3", "3"]


def test_the_preset_of_the_attention_u_net_processes_structural_scans() -> None:
    settings = parse("--config-file li2022 --recipe fast")
    superres, anat = settings.superres, settings.anat
    assert (superres.target, anat.split) == ("anat", (40, 11, 10))
    assert superres.chosen == ("attunet", "unet", "vit")
    assert (anat.align, anat.mask) == ("template", "intracranial")
    assert (superres.all_baselines, superres.recipe) == (True, "fast")
    assert parse("--config-file li2022").scaling_of_scans == "range"


def test_later_files_override_earlier_files(tmp_path: Path) -> None:
    file = write_settings(tmp_path, '[activation]\nroi = "visual"\nhigh_pass = 0.02\n')
    rois = {
        names: parse(f"--config-file {names} --dummy-scans 3").activation.roi
        for names in (f"ota2022 {file}", f"{file} ota2022")
    }
    assert rois == {f"ota2022 {file}": ("visual",), f"{file} ota2022": ("motor",)}
    settings = parse(f"--config-file {file} ota2022")
    assert (settings.activation.high_pass, settings.activation.kinds) == (0.02, ("cc",))


def test_the_settings_of_a_call_record_its_files_and_repeat_it(tmp_path: Path) -> None:
    file = write_settings(tmp_path, '[activation]\nroi = "visual"\n')
    settings = parse(f"--config-file ota2022 {file} --dummy-scans 3").resolve(run_uuid="x")
    assert settings.run.config_file == ("ota2022", str(file))
    stored = tmp_path / "settings.toml"
    stored.write_text(settings.to_toml())
    assert Settings.from_toml(stored) == settings
    repeated = parse(f"--config-file {stored}")
    assert repeated.preprocessing == settings.preprocessing
    assert repeated.activation == settings.activation
    assert repeated.run.config_file == (str(stored),)


@pytest.mark.parametrize("level", ["participant", "group"])
@pytest.mark.parametrize(
    ("name", "mentioned"),
    [("ota2202", ["li2022, ota2022, perezbueno2025", "'ota2022'"]), ("spm", ["ota2022"])],
)
def test_an_unknown_name_is_refused_with_the_nearest_preset(
    level: str, name: str, mentioned: list[str]
) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_settings(["in", "out", level, "--config-file", name])
    assert about([refusal.value.notice], f"--config-file: {name}", *mentioned)


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("[activation]\nfd_censor = 0.5\n", "activation.fd_censor", "activation.censor"),
        ('[superres]\nrecip = "fast"\n', "superres.recip", "superres.recipe"),
        ('[run]\npreset = "ota2022"\n', "run.preset", "paths"),
    ],
)
def test_a_settings_file_with_an_unknown_key_is_refused(
    text: str, key: str, nearest: str, tmp_path: Path
) -> None:
    file = write_settings(tmp_path, text)
    for options in (["participant"], ["participant", "--reports-only"], ["group"]):
        with pytest.raises(UsageError) as refusal:
            parse_settings(["in", "out", *options, "--config-file", "ota2022", str(file)])
        notice = refusal.value.notice
        assert str(file) in notice.what
        assert key in notice.what
        assert nearest in notice.remedy
