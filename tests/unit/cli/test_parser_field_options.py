"""Options by the names of the field: each of fMRIPrep, MRIQC and XCP-D acts, is taken and told, or
is refused with what serves; and command lines of fMRIPrep with the name of the program changed.
"""

import argparse
import dataclasses
import json
import tomllib
from pathlib import Path

import pytest
from bidsmaker import BidsMaker

from bids_sr.boilerplate import data_of
from bids_sr.cli import report_command
from bids_sr.cli.main import main
from bids_sr.cli.parser import build_parser, parse_settings
from bids_sr.cli.slurm.main import later_parser
from bids_sr.cli.slurm.options import LaterOptions
from bids_sr.config import Settings, UsageError, machine
from bids_sr.config.readers import fraction, gigabytes, labels

ROOT = Path(__file__).parents[3]
FIRST = ["in", "out", "participant"]
PROGRAMS = tomllib.loads((ROOT / "docs/field_options.toml").read_text(encoding="utf-8"))["program"]
LINES = tomllib.loads(Path(__file__).with_name("fmriprep_lines.toml").read_text(encoding="utf-8"))
NAMES = sorted({name for each in PROGRAMS for names in each["options"] for name in names.split()})
FOREIGN = data_of("foreign_options.json")
UNUSED = {spec.split()[0]: why for why, specs in FOREIGN["unused"].items() for spec in specs}


def parse(line: str) -> Settings:
    return parse_settings([*FIRST, *line.split()])


def refusal_of(line: str) -> UsageError:
    with pytest.raises(UsageError) as refusal:
        parse(line)
    return refusal.value


def acting() -> set[str]:
    return {
        flag
        for action in build_parser()._actions
        if action.dest not in UNUSED
        for flag in action.option_strings
    }


def test_the_list_of_options_is_long() -> None:
    assert {each["name"] for each in PROGRAMS} >= {"fMRIPrep", "MRIQC", "XCP-D"}
    assert len(NAMES) > 130


@pytest.mark.parametrize("name", NAMES)
def test_every_option_of_the_field_is_answered(name: str) -> None:
    if name in acting():
        return
    if name in UNUSED:
        action = next(each for each in build_parser()._actions if name in each.option_strings)
        value = [] if action.nargs == 0 else ["x"]
        settings = parse_settings([*FIRST, name, *value])
        assert settings.run.without_effect == ((name, UNUSED[name]),)
        return
    refused = refusal_of(f"{name} x")
    assert refused.notice.what.startswith(f"unrecognized arguments: {name}")
    assert "see bids-sr --help" not in refused.notice.remedy


def test_names_that_share_a_row_are_answered_alike() -> None:
    acts = {
        flag: each.dest
        for each in build_parser()._actions
        if each.dest not in UNUSED
        for flag in each.option_strings
    }
    for names in (names.split() for each in PROGRAMS for names in each["options"]):
        assert len({acts.get(name) for name in names}) == 1, names


@pytest.mark.parametrize("line", ["group", "participant --reports-only"])
def test_a_call_without_steps_tells_what_it_does_not_use(line: str) -> None:
    asked = ["--clean-workdir", "--md-only-boilerplate", "--model", "model.json"]
    told = parse_settings(["in", "out", *line.split(), *asked]).resolved(run_uuid="x")
    assert told.run.without_effect == tuple(
        (flag, "the selected settings do not use this option") for flag in asked[:3]
    )


def test_what_serves_is_there() -> None:
    """Options that a refusal names exist, and no option is both refused and taken."""
    flags = {flag for action in build_parser()._actions for flag in action.option_strings}
    for fix, names in FOREIGN["refused"].items():
        named = [word.strip("'?;,") for word in fix.split() if word.strip("'").startswith("-")]
        assert set(named) <= flags
        assert not set(names) & flags


def test_the_help_shows_no_option_without_effect() -> None:
    everything = build_parser(everything=True)
    assert "--notrack" not in everything.format_help()
    assert {each.help for each in everything._actions if each.dest in UNUSED} == {
        argparse.SUPPRESS
    }


def dry(line: str, maker: BidsMaker, tmp_path: Path) -> int:
    """The code of a call on a data set of one participant."""
    (tmp_path / "FILE").touch()
    there = {
        "IN": maker.root,
        **{name: tmp_path / name for name in ("OUT", "WORK", "FILE", "DIR")},
    }
    words = [str(there.get(word, word)) for word in line.split()]
    return main([*words, "--dry-run", "--skip-bids-validation"])


@pytest.mark.parametrize("line", LINES["line"], ids=lambda line: line["source"].split(":")[0])
def test_a_command_line_of_fmriprep_runs_or_is_refused_with_what_serves(
    line: dict[str, str],
    maker: BidsMaker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "memory_gb", lambda **_: 64.0)  # as those scripts ask for
    code = dry(line["words"], maker, tmp_path)
    shown = capsys.readouterr()
    if "refused" not in line:
        assert (code, shown.err) == (0, "")
        return
    assert code == 2
    assert line["refused"] in shown.err
    fix = shown.err.partition("fix: ")[2]
    flags = acting()
    assert any(word.strip("'?;,.") in flags for word in fix.split()) or "func T1w" in fix


def test_there_are_twenty_lines() -> None:
    assert len(LINES["line"]) == 20


def test_what_has_no_effect_is_told_in_one_line(
    maker: BidsMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "IN OUT participant --notrack --ignore sbref slicetiming --fs-license-file FILE"
    assert dry(line, maker, tmp_path) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name in ("--notrack", "--fs-license-file"):
        assert f"note {name} has no effect: {UNUSED[name]}" in shown
    assert "note --ignore sbref has no effect: the selected settings" in shown
    assert "--ignore slicetiming has no effect" not in shown


def test_what_is_ignored_anyway_does_not_decide_on_results() -> None:
    settings = parse("--ignore fieldmaps slicetiming t2w").resolved(run_uuid="x")
    assert settings.preprocessing.ignore == ("slicetiming",)
    assert settings.run.without_effect == (
        ("--ignore fieldmaps", "the selected settings do not use this option"),
        ("--ignore t2w", "the selected settings do not use this option"),
    )
    again = Settings.from_mapping(dataclasses.asdict(settings)).resolved(run_uuid="x")
    assert again == settings


def test_options_without_effect_are_in_the_settings_of_their_call_alone(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(parse("--notrack").resolved(run_uuid="x").to_toml())
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
def test_the_name_of_the_option_says_the_unit_of_memory(line: str, gb: float) -> None:
    assert parse(line).resources.mem_gb == gb


def test_a_size_in_another_unit_is_read_alike() -> None:
    assert gigabytes("2048", "m") == gigabytes("2048M") == 2.0
    assert "512M" in str(refusal_of("--mem-mb lots"))


def test_more_memory_than_the_machine_has_is_refused_with_both_units(
    maker: BidsMaker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "memory_gb", lambda **_: 16.5)
    assert dry("IN OUT participant --mem 1999", maker, tmp_path) == 2
    told = capsys.readouterr().err
    assert "--mem 1999" in told
    assert "1999 GB exceeds the 16.5 GB of this machine or job" in told
    assert "Use at most --mem-gb 16 (--mem-mb 16384)." in told
    assert dry("IN OUT participant --mem-mb 8000", maker, tmp_path) == 0


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        ("--nthreads 3", "nprocs"),
        ("--n_cpus 3", "nprocs"),
    ],
)
def test_processors_have_several_names(line: str, flag: str) -> None:
    assert getattr(parse(line).resources, flag) == 3


def test_other_names_of_the_field() -> None:
    assert parse("--session-id ses-1 2").selection.session_label == ("1", "2")
    assert parse("--echo-idx 2").preprocessing.echo == 2
    assert parse("--slice-time-ref start").preprocessing.slice_time_ref == 0.0
    assert parse("--slice-time-ref middle").preprocessing.slice_time_ref == 0.5
    assert parse("--output-spaces anat run").preprocessing.spaces == (
        parse("--output-spaces T1w func").preprocessing.spaces
    )
    assert fraction("0.25") == 0.25
    assert "neither start nor middle" in str(refusal_of("--slice-time-ref end"))
    assert "--echo-idx" in refusal_of("--echo 2").notice.remedy
    assert "--derivatives" in refusal_of("--anat-derivatives x").notice.remedy


def test_all_options_that_are_refused_are_named_at_once() -> None:
    refused = refusal_of("--use-aroma --notrack --seed=3 --use-syn-sdc warn").notice
    assert refused.what == "unrecognized arguments: --use-aroma --seed --use-syn-sdc"
    assert refused.remedy.count("-d fmriprep=DIR") == 1
    assert refused.remedy.endswith("; did you mean '--random-seed'?")


def test_choices_of_fmriprep_after_force_are_refused_with_what_serves() -> None:
    assert "-d fmriprep=DIR" in refusal_of("--force bbr syn-sdc").notice.remedy
    assert parse("--force").superres.force


def test_a_label_may_be_the_name_of_a_refused_choice() -> None:
    assert parse("--task-id bbr").selection.task_id == ("bbr",)


def test_participants_are_listed_by_commas_or_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_text("sub-01\n02, 03\n\n")
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-01\t20\nsub-02\t30\n")
    assert parse("--participant-label 01,sub-02 03").selection.participant_label == (
        "01",
        "02",
        "03",
    )
    found = parse(f"--participant-label @{tmp_path}/some.txt 04").selection.participant_label
    assert found == ("01", "02", "03", "04")
    assert labels(f"@{tmp_path}/participants.tsv") == ("sub-01", "sub-02")
    assert parse("--task-id tap,rest").selection.task_id == ("tap", "rest")
    (tmp_path / "excel.csv").write_text("\ufeffparticipant_id,age\nsub-01,20\nsub-02,30\n")
    assert labels(f"@{tmp_path}/excel.csv") == ("sub-01", "sub-02")
    again = later_parser("retry").options(["OUT", "--participant-label", "01,02"], LaterOptions)
    assert again.participant_label == ("01", "02")
    shown = report_command.report_parser().options(
        ["OUT", "--participant-label", "01,02"], report_command._ReportOptions
    )
    assert shown.participant_label == ("01", "02")


def test_a_list_without_labels_is_refused(tmp_path: Path) -> None:
    """It would mean all."""
    (tmp_path / "none.txt").write_text("\n")
    for text in ("", ",", f"@{tmp_path}/none.txt"):
        with pytest.raises(UsageError, match="does not contain any labels"):
            parse_settings([*FIRST, "--participant-label", text])
    assert f"{tmp_path}/absent cannot be read" in str(
        refusal_of(f"--participant-label @{tmp_path}/absent")
    )


def test_filters_of_images_that_are_not_used_are_told(
    maker: BidsMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """fMRIPrep's own queries, with one session chosen as its documentation shows."""
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
    assert dry(f"IN OUT participant --bids-filter-file {path}", maker, tmp_path) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for kind in ("fmap", "sbref", "roi"):
        assert f"the filter for {kind} has no effect" in shown
    assert "the filter for bold" not in shown
