"""Test option names of other programs.

Every option of fMRIPrep, MRIQC and XCP-D has an effect, is accepted with a notice, or is rejected
with an alternative; so are command lines of fMRIPrep with the program name changed.
"""

import argparse
import dataclasses
import json
import tomllib
from pathlib import Path

import pytest
from bidsmaker import BidsMaker

from bids_sr.boilerplate import data_of
from bids_sr.cli.main import main
from bids_sr.cli.parser import build_parser, parse_settings
from bids_sr.config import Settings, UsageError, machine
from bids_sr.config.readers import parse_fraction, parse_gigabytes, parse_labels

ROOT = Path(__file__).parents[3]
REQUIRED = ["in", "out", "participant"]
PROGRAMS = tomllib.loads((ROOT / "docs/field_options.toml").read_text(encoding="utf-8"))["program"]
LINES = tomllib.loads(Path(__file__).with_name("fmriprep_lines.toml").read_text(encoding="utf-8"))
NAMES = sorted(
    {name for program in PROGRAMS for names in program["options"] for name in names.split()}
)
FOREIGN = data_of("foreign_options.json")
UNUSED = {spec.split()[0]: why for why, specs in FOREIGN["unused"].items() for spec in specs}


def parse(line: str) -> Settings:
    return parse_settings([*REQUIRED, *line.split()])


def refusal_of(line: str) -> UsageError:
    with pytest.raises(UsageError) as refusal:
        parse(line)
    return refusal.value


def active_flags() -> set[str]:
    return {
        flag
        for action in build_parser()._actions
        if action.dest not in UNUSED
        for flag in action.option_strings
    }


def test_the_option_list_covers_the_programs() -> None:
    assert {program["name"] for program in PROGRAMS} >= {"fMRIPrep", "MRIQC", "XCP-D"}
    assert len(NAMES) > 130


@pytest.mark.parametrize("name", NAMES)
def test_every_option_of_other_programs_is_handled(name: str) -> None:
    if name in active_flags():
        return
    if name in UNUSED:
        action = next(
            option for option in build_parser()._actions if name in option.option_strings
        )
        value = [] if action.nargs == 0 else ["x"]
        settings = parse_settings([*REQUIRED, name, *value])
        assert settings.run.without_effect == ((name, UNUSED[name]),)
        return
    error = refusal_of(f"{name} x")
    assert error.notice.what.startswith(f"unrecognized arguments: {name}")
    assert "see bids-sr --help" not in error.notice.remedy


def test_synonymous_options_set_the_same_setting() -> None:
    dests = {
        flag: action.dest
        for action in build_parser()._actions
        if action.dest not in UNUSED
        for flag in action.option_strings
    }
    for names in (names.split() for program in PROGRAMS for names in program["options"]):
        assert len({dests.get(name) for name in names}) == 1, names


@pytest.mark.parametrize("line", ["group", "participant --reports-only"])
def test_unused_options_of_a_call_without_steps_are_recorded(line: str) -> None:
    flags = ["--clean-workdir", "--md-only-boilerplate", "--model", "model.json"]
    settings = parse_settings(["in", "out", *line.split(), *flags]).resolve(run_uuid="x")
    assert settings.run.without_effect == tuple(
        (flag, "the selected settings do not use this option") for flag in flags[:3]
    )


def test_suggested_options_exist_and_rejected_options_do_not() -> None:
    """Options that a refusal names exist, and no option is both refused and taken."""
    flags = {flag for action in build_parser()._actions for flag in action.option_strings}
    for fix, names in FOREIGN["refused"].items():
        suggested = [word.strip("'?;,") for word in fix.split() if word.strip("'").startswith("-")]
        assert set(suggested) <= flags
        assert not set(names) & flags


def test_help_omits_options_without_effect() -> None:
    parser = build_parser(show_all=True)
    assert "--notrack" not in parser.format_help()
    assert {action.help for action in parser._actions if action.dest in UNUSED} == {
        argparse.SUPPRESS
    }


def dry_run(line: str, maker: BidsMaker, tmp_path: Path) -> int:
    """Return the exit code of a dry run on a data set of one participant."""
    (tmp_path / "FILE").touch()
    paths = {
        "IN": maker.root,
        **{name: tmp_path / name for name in ("OUT", "WORK", "FILE", "DIR")},
    }
    words = [str(paths.get(word, word)) for word in line.split()]
    return main([*words, "--dry-run", "--skip-bids-validation"])


@pytest.mark.parametrize("line", LINES["line"], ids=lambda line: line["source"].split(":")[0])
def test_fmriprep_command_lines_run_or_are_rejected_with_an_alternative(
    line: dict[str, str],
    maker: BidsMaker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # memory requested by those scripts
    monkeypatch.setattr(machine, "memory_gb", lambda **_: 64.0)
    code = dry_run(line["words"], maker, tmp_path)
    output = capsys.readouterr()
    if "refused" not in line:
        assert (code, output.err) == (0, "")
        return
    assert code == 2
    assert line["refused"] in output.err
    fix = output.err.partition("fix: ")[2]
    flags = active_flags()
    assert any(word.strip("'?;,.") in flags for word in fix.split()) or "func T1w" in fix


def test_there_are_twenty_fmriprep_command_lines() -> None:
    assert len(LINES["line"]) == 20


def test_options_without_effect_are_reported_in_one_line(
    maker: BidsMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "IN OUT participant --notrack --ignore sbref slicetiming --fs-license-file FILE"
    assert dry_run(line, maker, tmp_path) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name in ("--notrack", "--fs-license-file"):
        assert f"note {name} has no effect: {UNUSED[name]}" in shown
    assert "note --ignore sbref has no effect: the selected settings" in shown
    assert "--ignore slicetiming has no effect" not in shown


def test_choices_of_ignore_without_effect_are_dropped() -> None:
    settings = parse("--ignore fieldmaps slicetiming t2w").resolve(run_uuid="x")
    assert settings.preprocessing.ignore == ("slicetiming",)
    assert settings.run.without_effect == (
        ("--ignore fieldmaps", "the selected settings do not use this option"),
        ("--ignore t2w", "the selected settings do not use this option"),
    )
    restored = Settings.from_mapping(dataclasses.asdict(settings)).resolve(run_uuid="x")
    assert restored == settings


def test_options_without_effect_are_not_read_from_a_config_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(parse("--notrack").resolve(run_uuid="x").to_toml())
    assert Settings.from_toml(path).run.without_effect == (("--notrack", UNUSED["--notrack"]),)
    assert parse(f"--config-file {path}").run.without_effect == ()


@pytest.mark.parametrize(
    ("line", "gb"),
    [
        ("--mem 8", 8.0),
        ("--mem-gb 8", 8.0),
        ("--mem_mb 8192", 8.0),
        ("--mem-mb=512", 0.5),
        ("--mem-mb 8G", 8.0),
        ("--mem 8000M", 7.8125),
    ],
)
def test_the_option_name_determines_the_unit_of_memory(line: str, gb: float) -> None:
    assert parse(line).resources.mem_gb == gb


def test_memory_sizes_in_mb_and_gb_are_equivalent() -> None:
    assert parse_gigabytes("2048", "m") == parse_gigabytes("2048M") == 2.0
    assert "512M" in str(refusal_of("--mem-mb lots"))


def test_more_memory_than_available_is_rejected_with_both_units(
    maker: BidsMaker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "memory_gb", lambda **_: 16.5)
    assert dry_run("IN OUT participant --mem 1999", maker, tmp_path) == 2
    stderr = capsys.readouterr().err
    assert "--mem 1999" in stderr
    assert "1999 GB exceeds the 16.5 GB of this machine or job" in stderr
    assert "Use at most --mem-gb 16 (--mem-mb 16384)." in stderr
    assert dry_run("IN OUT participant --mem-mb 8000", maker, tmp_path) == 0


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        ("--nthreads 3", "nprocs"),
        ("--n_cpus 3", "nprocs"),
    ],
)
def test_processor_options_have_synonyms(line: str, flag: str) -> None:
    assert getattr(parse(line).resources, flag) == 3


def test_other_synonyms_of_fmriprep_options() -> None:
    assert parse("--session-id ses-1 2").selection.session_label == ("1", "2")
    assert parse("--echo-idx 2").preprocessing.echo == 2
    assert parse("--slice-time-ref start").preprocessing.slice_time_ref == 0.0
    assert parse("--slice-time-ref middle").preprocessing.slice_time_ref == 0.5
    assert parse("--output-spaces anat run").preprocessing.spaces == (
        parse("--output-spaces T1w func").preprocessing.spaces
    )
    assert parse_fraction("0.25") == 0.25
    assert "neither start nor middle" in str(refusal_of("--slice-time-ref end"))
    assert "--echo-idx" in refusal_of("--echo 2").notice.remedy
    assert "--derivatives" in refusal_of("--anat-derivatives x").notice.remedy


def test_all_rejected_options_are_listed_at_once() -> None:
    notice = refusal_of("--use-aroma --notrack --seed=3 --use-syn-sdc warn").notice
    assert notice.what == "unrecognized arguments: --use-aroma --seed --use-syn-sdc"
    assert notice.remedy.count("-d fmriprep=DIR") == 1
    assert notice.remedy.endswith("; did you mean '--random-seed'?")


def test_choices_of_fmriprep_force_are_rejected_with_an_alternative() -> None:
    assert "-d fmriprep=DIR" in refusal_of("--force bbr syn-sdc").notice.remedy
    assert parse("--force").superres.force


def test_a_label_may_equal_a_rejected_choice() -> None:
    assert parse("--task-id bbr").selection.task_id == ("bbr",)


def test_participants_can_be_listed_with_commas_or_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_text("sub-01\n02, 03\n\n")
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-01\t20\nsub-02\t30\n")
    assert parse("--participant-label 01,sub-02 03").selection.participant_label == (
        "01",
        "02",
        "03",
    )
    participant_labels = parse(
        f"--participant-label @{tmp_path}/some.txt 04"
    ).selection.participant_label
    assert participant_labels == ("01", "02", "03", "04")
    assert parse_labels(f"@{tmp_path}/participants.tsv") == ("sub-01", "sub-02")
    assert parse("--task-id tap,rest").selection.task_id == ("tap", "rest")
    (tmp_path / "excel.csv").write_text("\ufeffparticipant_id,age\nsub-01,20\nsub-02,30\n")
    assert parse_labels(f"@{tmp_path}/excel.csv") == ("sub-01", "sub-02")
    (tmp_path / "r.tsv").write_text('"age"\t"participant_id"\n20\t"sub-01"\n30\t"sub-02"\n')
    assert parse_labels(f"@{tmp_path}/r.tsv") == ("sub-01", "sub-02")
    for encoding in ("latin-1", "utf-16"):
        table = tmp_path / f"{encoding}.tsv"
        table.write_bytes("participant_id\tname\nsub-01\tRené\n".encode(encoding))
        with pytest.raises(argparse.ArgumentTypeError, match="Save the file as UTF-8") as caught:
            parse_labels(f"@{table}")
        assert str(table) in str(caught.value)


def test_an_empty_label_list_is_rejected(tmp_path: Path) -> None:
    """An empty list would select all participants."""
    (tmp_path / "none.txt").write_text("\n")
    for text in ("", ",", f"@{tmp_path}/none.txt"):
        with pytest.raises(UsageError, match="does not contain any labels"):
            parse_settings([*REQUIRED, "--participant-label", text])
    assert f"{tmp_path}/absent cannot be read" in str(
        refusal_of(f"--participant-label @{tmp_path}/absent")
    )


def test_filters_of_unused_image_types_are_reported(
    maker: BidsMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """These are the default queries of fMRIPrep with one session selected as in its
    documentation.
    """
    path = tmp_path / "filter.json"
    queries = {
        "fmap": {"datatype": "fmap"},
        "bold": {"datatype": "func", "suffix": "bold", "session": None},
        "sbref": {"datatype": "func", "suffix": "sbref"},
        "flair": {"datatype": "anat", "suffix": "FLAIR"},
        "t2w": {"datatype": "anat", "suffix": "T2w"},
        "t1w": {"datatype": "anat", "acquisition": None, "suffix": "T1w"},
        "roi": {"datatype": "anat", "suffix": "roi"},
    }
    path.write_text(json.dumps(queries))
    assert dry_run(f"IN OUT participant --bids-filter-file {path}", maker, tmp_path) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for kind in ("fmap", "sbref", "roi"):
        assert f"the filter for {kind} has no effect" in shown
    assert "the filter for bold" not in shown
