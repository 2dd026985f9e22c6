"""Command lines: each kind of option is read, and invalid options are rejected by name."""

import argparse
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import pytest
from data.dataset import BidsMaker
from hypothesis import given, strategies as st

from bids_sr.cli.main import main
from bids_sr.cli.models.commands import main as models_main
from bids_sr.cli.parser import parse_settings
from bids_sr.cli.slurm import main as slurm_main
from bids_sr.config import Settings, machine
from bids_sr.config.readers import (
    parse_frequency,
    parse_gigabytes,
    parse_labels,
    parse_run_number,
    parse_widths,
)
from bids_sr.io.notices import UsageError

REQUIRED = ["in", "out", "participant"]


def parse(line: str = "") -> Settings:
    return parse_settings(REQUIRED + line.split())


def refusal_of(line: str) -> UsageError:
    with pytest.raises(UsageError) as refusal:
        parse(line)
    return refusal.value


def test_defaults_of_the_parser_equal_defaults_of_the_settings() -> None:
    assert parse() == Settings.from_mapping({"paths": {"bids_dir": "in", "output_dir": "out"}})
    settings = parse_settings(["in", "out", "group", "--set", "evaluation.margin=0.5"])
    assert (settings.selection.analysis_level, settings.evaluation.margin) == ("group", 0.5)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("--participant-label sub-01 02", "selection.participant_label", ("01", "02")),
        (
            "--participant_label 01,sub-02 --participant_label A+B",
            "selection.participant_label",
            ("01", "02", "A+B"),
        ),
        ("-t tap task-rest", "selection.task_id", ("tap", "rest")),
        ("--session_label ses-1", "selection.session_label", ("1",)),
        ("--session-id ses-1 2", "selection.session_label", ("1", "2")),
        ("--run-id 01 run-2", "selection.run_id", (1, 2)),
        ("--skip_bids_validation", "selection.skip_bids_validation", True),
        ("--sr-method bspline zerofill", "superres.method", ("bspline", "zerofill")),
        ("--sr_factor=1.5", "superres.factor", (1.5,)),
        ("--sr-factor 2 2 3", "superres.factor", (2.0, 2.0, 3.0)),
        ("--sr-factor 2 2 1", "superres.factor", (2.0,)),
        ("--set superres.model_dir=a_b", "superres.model_dir", Path("a_b")),
        ("--dummy-scans 0", "preprocessing.dummy_scans", 0),
        ("--echo-idx 2", "preprocessing.echo_idx", 2),
        ("--ignore outliers events", "preprocessing.ignore", ("outliers", "events")),
        ("--slice-time-ref start", "preprocessing.slice_time_ref", 0.0),
        ("--slice-time-ref middle", "preprocessing.slice_time_ref", 0.5),
        ("--slice-time-ref 0.25", "preprocessing.slice_time_ref", 0.25),
        ("--contrasts a-b x=0.5*a-0.5*b", "activation.contrasts", ("a-b", "x=0.5*a-0.5*b")),
        ("--smoothing 0", "activation.smoothing", (0.0,)),
        ("--smoothing 6 0 4 6", "activation.smoothing", (0.0, 4.0, 6.0)),
        ("--smoothing 4 --smoothing paper", "activation.smoothing", (0.0, 3.5, 4.0, 13.2)),
        ("--set activation.high_pass=none", "activation.cosine_cutoff", 0),
        ("", "activation.roi", ("auto",)),
        (
            "--roi my_roi.nii.gz Heschl_L,Heschl_R --roi motor motor",
            "activation.roi",
            ("my_roi.nii.gz", "Heschl_L,Heschl_R", "motor"),
        ),
        ("", "evaluation.truth", "auto"),
        ("--truth ./auto", "evaluation.truth_dir", Path("auto")),
        ("--truth none", "evaluation.truth_dir", None),
        ("", "evaluation.retrospective", None),
        ("--retrospective", "evaluation.retrospective", "clean"),
        ("--retrospective --set run.sloppy=true", "evaluation.retrospective", "clean"),
        ("--retrospective noisy", "evaluation.retrospective", "noisy"),
        ("--n_cpus 3", "resources.nprocs", 3),
        ("--nthreads 3", "resources.nprocs", 3),
        ("--mem 8", "resources.mem_gb", 8.0),
        ("--mem 512M", "resources.mem_gb", 0.5),
        ("--mem_mb 8192", "resources.mem_gb", 8.0),
        ("--mem-mb 8G", "resources.mem_gb", 8.0),
        ("--work_dir=/a_b/--c_d", "paths.work_dir", Path("/a_b/--c_d")),
        ("-vv", "run.verbose", 2),
        ("--dry-run", "run.dry_run", True),
    ],
)
def test_options_set_their_setting(line: str, name: str, value: object) -> None:
    assert attrgetter(name)(parse(line)) == value


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("--part 01", "--part"),
        ("--sr-method srgn", "'srgan'"),
        ("--sr-method bsplin", "'bspline'"),
        ("--recipe quick", "--recipe"),
        ("--ignore fieldmaps", "'fieldmaps'"),
        ("--sr-factor", "--sr-factor"),
        ("--sr-factor 1 1 1", "--sr-factor"),
        ("--sr-factor 2 2", "2 numbers"),
        ("--sr-factor 2 2 0.5", "at least 1"),
        ("--sr-factor 2 2 9", "at most 8"),
        ("--sr-factor two", "--sr-factor"),
        ("--mem-mb lots", "512M"),
        ("--run-id one", "run-1"),
        ("--slice-time-ref end", "end"),
        ("--smoothing wide", "FWHM"),
        ("--set activation.low_pass=0.001", "activation.low_pass"),
        ("--set activation.thresholds=half", "quarter"),
        ("--dummy-scans -1", "--dummy-scans"),
        ("--participant-label ,", "--participant-label"),
        ("--participant-label @absent.tsv", "absent.tsv"),
        ("--work-dir=", "--work-dir"),
        ("--truth=", "--truth"),
        ("--truth x --retrospective", "--truth"),
        ("--retrospective dirty", "clean"),
        ("--set evaluation.margin=0", "evaluation.margin"),
        ("--set evaluation.group_permutations=-1", "evaluation.group_permutations"),
        ("-d fmriprep=", "--derivatives"),
    ],
)
def test_invalid_options_and_values_are_rejected(line: str, word: str) -> None:
    assert word in str(refusal_of(line))


@pytest.mark.parametrize(
    ("program", "argv"),
    [
        (main, []),
        (main, ["in"]),
        (main, ["--participant-label", "01", "in", "out", "participant"]),
        (slurm_main.main, []),
        (models_main.main, []),
        (models_main.main, ["rate"]),
    ],
)
def test_missing_arguments_exit_with_2(program: object, argv: list[str]) -> None:
    assert program(argv) == 2  # type: ignore[operator]


def test_the_command_line_overrides_the_config_file(tmp_path: Path) -> None:
    """Settings of a single call are not taken from the file."""
    file = tmp_path / "settings.toml"
    earlier = parse("--recipe paper --random-seed 7 --dry-run").resolve(run_uuid="old")
    file.write_text(earlier.to_toml())
    settings = parse(f"--config-file {file} --random-seed 8")
    assert (settings.superres.recipe, settings.resources.random_seed) == ("paper", 8)
    assert (settings.run.dry_run, settings.run.run_uuid) == (False, "")
    assert settings.paths.bids_dir == Path("in")
    file.write_text("[superres]\nfactor = 0.5\n")
    assert "superres.factor: 0.5" in str(refusal_of(f"--config-file {file}"))


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


@given(st.integers(0, 10**6), st.sampled_from(["", "0", "run-", "run-0"]), st.floats(0, 50))
def test_numbers_are_read_with_prefixes_and_zeros(number: int, prefix: str, value: float) -> None:
    assert parse_run_number(f"{prefix}{number}") == number
    assert parse_widths(str(value)) == (value,)
    assert parse_frequency(str(value)) == value


TABLES = {
    "lines.txt": "sub-01\n02, 03\n\n",
    "participants.tsv": "participant_id\tage\nsub-01\t20\n02\t30\n03\t30\n",
    "excel.csv": "\ufeffparticipant_id,age\nsub-01,20\n02,30\n03,30\n",
    "quoted.csv": 'name,participant_id\n"Doe, Jo",sub-01\nx,02\ny,03\n',
    "r.tsv": '"age"\t"participant_id"\n20\t"sub-01"\n30\t"02"\n30\t"03"\n',
}


@pytest.mark.parametrize("name", TABLES)
def test_participants_can_be_listed_in_a_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(TABLES[name])
    labels = parse(f"--participant-label @{tmp_path / name} 04").selection.participant_label
    assert labels == ("01", "02", "03", "04")


@pytest.mark.parametrize(
    "content",
    [
        b"",  # would select all participants
        b'participant_id,name\nsub-01,"Doe\nsub-02,x\n',
        "participant_id\tname\nsub-01\tRené\n".encode("latin-1"),
        "participant_id\tname\nsub-01\tRené\n".encode("utf-16"),
    ],
)
def test_files_without_readable_labels_are_rejected_by_name(
    content: bytes, tmp_path: Path
) -> None:
    (file := tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(argparse.ArgumentTypeError, match=r"labels\.csv"):
        parse_labels(f"@{file}")


def dry_run(maker: BidsMaker, *options: str) -> int:
    return main([str(maker.root), "out", "participant", "--dry-run", *options])


def test_more_memory_than_available_is_rejected_with_the_limit(
    maker: BidsMaker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "memory_gb", lambda **_: 16.5)
    assert dry_run(maker, "--skip-bids-validation", "--mem", "1999") == 2
    error = capsys.readouterr().err
    assert [text in error for text in ("1999 GB", "16.5 GB", "--mem-gb 16", "16384")] == [True] * 4


@pytest.mark.parametrize(
    ("module", "commands"),
    [
        ("bids_sr.cli.main", [[]]),
        (
            "bids_sr.cli.models.commands.main",
            [[], ["list"], ["train"], ["apply"], ["evaluate"], ["rate"]],
        ),
    ],
)
def test_help_imports_only_the_standard_library(module: str, commands: list[list[str]]) -> None:
    code = f"""
import sys
before = set(sys.modules)
from {module} import main
for words in {commands}:
    assert main([*words, "--help"]) == 0
names = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(sorted(names - set(sys.stdlib_module_names) - {{"bids_sr"}}), file=sys.stderr)
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stderr == "[]\n"
