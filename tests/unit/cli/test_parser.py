"""Test the command line: every documented form is parsed, and invalid input is rejected with a
fix.
"""

import argparse
import importlib
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from bids_sr import __version__
from bids_sr.cli.parser import build_parser, parse_settings
from bids_sr.config import Settings, UsageError
from bids_sr.config.readers import parse_frequency, parse_gigabytes, parse_run_number, parse_widths

REQUIRED = ["in", "out", "participant"]


def parse(line: str = "") -> Settings:
    return parse_settings(REQUIRED + line.split())


def test_defaults_of_the_parser_equal_defaults_of_the_settings() -> None:
    assert parse() == Settings.from_mapping({"paths": {"bids_dir": "in", "output_dir": "out"}})


@pytest.mark.parametrize(
    ("line", "section", "name", "value"),
    [
        ("--participant-label sub-01 02", "selection", "participant_label", ("01", "02")),
        (
            "--participant_label 01 --participant_label 02",
            "selection",
            "participant_label",
            ("01", "02"),
        ),
        ("-t tap task-rest", "selection", "task_id", ("tap", "rest")),
        ("--session_label ses-1", "selection", "session_label", ("1",)),
        ("--run-id 01 run-2", "selection", "run_id", (1, 2)),
        ("--skip_bids_validation", "selection", "skip_bids_validation", True),
        ("--sr-method bspline zerofill", "superres", "method", ("bspline", "zerofill")),
        ("--sr_factor=1.5", "superres", "factor", (1.5,)),
        ("--sr-factor 2 2 3", "superres", "factor", (2.0, 2.0, 3.0)),
        ("--sr-factor 2 2 1", "superres", "factor", (2.0,)),
        ("--set superres.model_dir=a_b", "superres", "model_dir", Path("a_b")),
        ("--dummy-scans 0", "preprocessing", "dummy_scans", 0),
        ("--ignore slicetiming", "preprocessing", "ignore", ("slicetiming",)),
        (
            "--contrasts thumb-little x=0.5*a-0.5*b",
            "activation",
            "contrasts",
            ("thumb-little", "x=0.5*a-0.5*b"),
        ),
        ("--set activation.kinds=glm", "activation", "kinds", ("glm",)),
        ("--smoothing 0", "activation", "smoothing", (0.0,)),
        ("--smoothing 4", "activation", "smoothing", (0.0, 4.0)),
        ("--smoothing 6 0 4 6", "activation", "smoothing", (0.0, 4.0, 6.0)),
        ("--smoothing 4 --smoothing paper", "activation", "smoothing", (0.0, 3.5, 4.0, 13.2)),
        ("--set activation.smoothing=[4]", "activation", "smoothing", (4.0,)),
        ("--set activation.low_pass=none", "activation", "low_pass", None),
        ("--set activation.low_pass=0.2", "activation", "low_pass", 0.2),
        ("--roi my_roi.nii.gz", "activation", "roi", "my_roi.nii.gz"),
        ("--set activation.thresholds=[fdr,3.1]", "activation", "thresholds", ("fdr", "3.1")),
        ("--truth there", "evaluation", "truth", "there"),
        ("--truth ./auto", "evaluation", "truth_dir", Path("auto")),
        ("--truth none", "evaluation", "truth_dir", None),
        ("", "evaluation", "truth", "auto"),
        ("--retrospective", "evaluation", "retrospective", "clean"),
        ("--retrospective noisy", "evaluation", "retrospective", "noisy"),
        ("--retrospective --set run.sloppy=true", "evaluation", "retrospective", "clean"),
        ("", "evaluation", "retrospective", None),
        ("--null-checks", "evaluation", "null_checks", True),
        ("--set evaluation.roi_grow=true", "evaluation", "roi_grow", True),
        ("--set evaluation.margin=0.02", "evaluation", "margin", 0.02),
        ("--set evaluation.group_permutations=5000", "evaluation", "group_permutations", 5000),
        ("--n_cpus 3", "resources", "nprocs", 3),
        ("--mem 512M", "resources", "mem_gb", 0.5),
        ("-w w", "paths", "work_dir", Path("w")),
        ("-vv", "run", "verbose", 2),
        ("--dry-run", "run", "dry_run", True),
    ],
)
def test_options_set_their_setting(line: str, section: str, name: str, value: object) -> None:
    assert getattr(getattr(parse(line), section), name) == value


def test_there_are_at_most_fifty_flags() -> None:
    """Count the entries of ``--help-all``, whose synonyms share an entry."""
    actions = build_parser(show_all=True)._actions
    assert len([action for action in actions if action.option_strings]) <= 50


@pytest.mark.parametrize(("option", "most"), [("--help", 50), ("--help-all", 250)])
def test_the_help_is_short(
    option: str,
    most: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        parse_settings([option])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= most
    assert max(map(len, lines)) < 80
    assert any("--sr-method" in line for line in lines)


def test_the_full_help_lists_settings_without_a_flag() -> None:
    text = build_parser(show_all=True).format_help()
    assert "    thresholds=[quarter, fdr] " in text
    assert "    low_pass=0.1 " in text
    assert "smoothing=[0, 5]" not in text.partition("settings for --set")[2]


def test_underscores_in_values_are_preserved() -> None:
    assert parse("--work_dir=/a_b/--c_d").paths.work_dir == Path("/a_b/--c_d")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--sr-methd srgan", "--sr-method"),
        ("--participant-lables 01", "--participant-label"),
        ("--part 01", "unrecognized"),
        ("--sr-method srgn", "'srgan'"),
        ("--sr-method bsplin", "'bspline'"),
        ("--recipe quick", "--recipe"),
        ("--sr-factor 1", "--sr-factor: 1"),
        ("--sr-factor 1 1 1", "the voxel size would not change"),
        ("--sr-factor 2 2", "2 numbers were given, but one number (in-plane) or three"),
        ("--sr-factor 2 2 2 2", "4 numbers were given, but one"),
        ("--sr-factor 2 2 0.5", "expected at least 1"),
        ("--sr-factor 2 2 9", "expected at most 8"),
        ("--sr-factor", "expected at least one argument"),
        ("--sr-factor two", "--sr-factor"),
        ("--mem lots", "512M"),
        ("--run-id one", "run-1"),
        ("--smoothing wide", "FWHM"),
        ("--set activation.low_pass=high", "Hz"),
        ("--set activation.low_pass=0.001", "--set activation.low_pass"),
        ("--set activation.thresholds=half", "quarter"),
        ("--dummy-scans -1", "--dummy-scans"),
        ("--work-dir=", "empty"),
        ("--truth=", "empty"),
        ("--truth x --retrospective", "--truth"),
        ("--retrospective dirty", "clean"),
        ("--set evaluation.margin=0", "--set evaluation.margin"),
        ("--set evaluation.group_permutations=-1", "--set evaluation.group_permutations"),
        ("--derivatives=", "the directory is missing"),
        ("-d fmriprep=", "the directory is missing"),
    ],
)
def test_invalid_options_and_values_are_rejected(line: str, says: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse(line)
    assert says in str(refusal.value)


@pytest.mark.parametrize(
    ("option", "proposed"),
    [
        ("--seed", "--random-seed"),
        ("--sr-methd", "--sr-method"),
        ("--task", "--task-id"),
        ("--smooth", "--smoothing"),
    ],
)
def test_only_similar_options_are_suggested(option: str, proposed: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse(f"{option} 3")  # options of other programs, misspelled or shortened
    assert refusal.value.notice.remedy == f"did you mean {proposed!r}?"
    assert refusal.value.notice.what.startswith(f"unrecognized arguments: {option}")


@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        ("--seeds", "use --set activation.seeds=VALUE"),
        ("--low-pass", "use --set activation.low_pass=VALUE"),
        ("--threshold", "did you mean --set activation.thresholds=VALUE?"),
        ("--group-permutation", "did you mean --set evaluation.group_permutations=VALUE?"),
        ("--not-an-option", "run bids-sr --help for the available options"),
    ],
)
def test_settings_are_suggested_for_unknown_flags(option: str, remedy: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse(f"{option} 3")
    assert refusal.value.notice.remedy == remedy


@pytest.mark.parametrize(
    "argv", [[], ["in"], ["--participant-label", "01", "in", "out", "participant"]]
)
def test_missing_directories_are_rejected_with_the_usage(argv: list[str]) -> None:
    with pytest.raises(UsageError, match="required") as refusal:
        parse_settings(argv)
    assert (
        "bids-sr bids_dir output_dir {participant,group} [options]" in refusal.value.notice.remedy
    )


def test_the_group_level_is_accepted() -> None:
    settings = parse_settings(["in", "out", "group", "--set", "evaluation.margin=0.5"])
    assert (settings.selection.analysis_level, settings.evaluation.margin) == ("group", 0.5)


def test_the_command_line_overrides_the_config_file(tmp_path: Path) -> None:
    earlier = parse("--recipe paper --random-seed 7 --dry-run").resolve(run_uuid="old")
    (tmp_path / "settings.toml").write_text(earlier.to_toml())
    settings = parse(f"--config-file {tmp_path / 'settings.toml'} --random-seed 8")
    assert (settings.superres.recipe, settings.resources.random_seed) == ("paper", 8)
    assert settings.run.dry_run is False
    assert settings.run.run_uuid == ""
    assert settings.paths.bids_dir == Path("in")


def test_a_config_file_with_an_invalid_value_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("[superres]\nfactor = 0.5\n")
    with pytest.raises(UsageError, match=r"superres\.factor: 0\.5"):
        parse(f"--config-file {tmp_path / 's.toml'}")


@given(
    st.floats(0, 1e6, allow_subnormal=False),
    st.sampled_from("kmgt"),
    st.sampled_from(["", "b", "ib"]),
    st.booleans(),
)
def test_memory_sizes_have_units(number: float, unit: str, ending: str, upper: bool) -> None:
    text = f"{number:.3f}{unit}{ending}"
    expected = float(f"{number:.3f}") * 1024.0 ** ("kmgt".index(unit) - 2)
    assert parse_gigabytes(text.upper() if upper else text) == pytest.approx(expected)
    if number <= 2000:  # larger numbers may be meant in MB
        assert parse_gigabytes(f"{number:.3f}") == float(f"{number:.3f}")


@given(st.text(max_size=6).filter(lambda text: not any(character.isdigit() for character in text)))
def test_a_memory_size_without_a_number_is_rejected(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="512M"):
        parse_gigabytes(text)


@given(st.integers(0, 10**6), st.sampled_from(["", "0", "run-", "run-0"]))
def test_run_numbers_may_have_prefix_and_zeros(number: int, prefix: str) -> None:
    assert parse_run_number(f"{prefix}{number}") == number


@given(st.floats(0, 50))
def test_widths_and_frequencies_are_parsed(value: float) -> None:
    assert parse_widths(str(value)) == (value,)
    assert parse_frequency(str(value)) == value


def test_version_and_help_exit_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as stop:
            parse_settings([option])
        assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert f"bids-sr {__version__}" in shown
    assert "not for clinical use" in shown


def test_help_is_fast_and_imports_only_the_standard_library() -> None:
    code = (
        "import sys\nbefore = set(sys.modules)\nfrom bids_sr.cli.main import main\nassert"
        " main(['--help']) == 0\nnew = {name.partition('.')[0] for name in set(sys.modules) -"
        " before}\nforeign = new - set(sys.stdlib_module_names) - {'bids_sr'}\nsys.exit(f'imported"
        " {sorted(foreign)}' if foreign else 0)"
    )
    times = []
    # the machine may be busy: compare the shortest processor time of three
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert process.returncode == 0, process.stderr
    assert min(times) < 0.3, times


@pytest.mark.parametrize(
    ("program", "argv", "usage"),
    [
        ("bids_sr.slurm.cli.main", [], "bids-sr-slurm bids_dir output_dir [options]"),
        ("bids_sr.model_commands.cli.main", [], "bids-sr-models COMMAND [options]"),
        ("bids_sr.model_commands.cli.main", ["rate"], "bids-sr-models rate KIT SHEET [options]"),
    ],
)
def test_every_command_prints_its_usage(
    program: str, argv: list[str], usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert importlib.import_module(program).main(argv) == 2
    stderr = capsys.readouterr().err
    assert f"fix: usage: {usage}" in stderr
    assert ("output_dir" in stderr) == ("bids_dir" in usage)


def test_labels_may_contain_a_plus_sign() -> None:
    """Allowed since BIDS 1.10."""
    settings = parse_settings(
        ["in", "out", "participant", "--participant-label", "sub-A+B", "--task-id", "tap+2"]
    )
    assert (settings.selection.participant_label, settings.selection.task_id) == (
        ("A+B",),
        ("tap+2",),
    )


def test_high_pass_none_removes_only_a_linear_trend() -> None:
    settings = parse_settings(["/in", "/out", "participant", "--set", "activation.high_pass=none"])
    assert settings.activation.cosine_cutoff == 0
