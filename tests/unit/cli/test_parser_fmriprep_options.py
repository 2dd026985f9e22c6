"""Test options that have the names and synonyms of fMRIPrep."""

import argparse
import json
from pathlib import Path

import pytest
from data.dataset import BidsMaker

from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings, UsageError, machine
from bids_sr.config.readers import parse_fraction, parse_gigabytes, parse_labels

REQUIRED = ["in", "out", "participant"]


def parse(line: str) -> Settings:
    return parse_settings([*REQUIRED, *line.split()])


def refusal_of(line: str) -> UsageError:
    with pytest.raises(UsageError) as refusal:
        parse(line)
    return refusal.value


def dry_run(line: str, maker: BidsMaker, tmp_path: Path) -> int:
    """Return the exit code of a dry run on a data set of one participant."""
    (tmp_path / "FILE").touch()
    paths = {
        "IN": maker.root,
        **{name: tmp_path / name for name in ("OUT", "WORK", "FILE", "DIR")},
    }
    words = [str(paths.get(word, word)) for word in line.split()]
    return main([*words, "--dry-run", "--skip-bids-validation"])


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
    assert parse("--echo-idx 2").preprocessing.echo_idx == 2
    assert parse("--slice-time-ref start").preprocessing.slice_time_ref == 0.0
    assert parse("--slice-time-ref middle").preprocessing.slice_time_ref == 0.5
    assert parse("--output-spaces anat run").preprocessing.spaces == (
        parse("--output-spaces T1w func").preprocessing.spaces
    )
    assert parse_fraction("0.25") == 0.25
    assert "neither start nor middle" in str(refusal_of("--slice-time-ref end"))
    assert "--echo-idx" in refusal_of("--echo 2").notice.remedy
    assert "--derivatives" in refusal_of("--anat-derivatives x").notice.remedy
    assert "--output-spaces" in refusal_of("--output-space x").notice.remedy
    assert "invalid choice: 'fieldmaps'" in str(refusal_of("--ignore fieldmaps"))


def test_all_choices_of_ignore_reach_the_run() -> None:
    settings = parse("--ignore outliers events").resolve(run_uuid="x")
    assert settings.preprocessing.ignore == ("outliers", "events")


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
    (tmp_path / "names.csv").write_text('name,participant_id\n"Doe, Jo",sub-01\n')
    assert parse_labels(f"@{tmp_path}/names.csv") == ("sub-01",)
    (tmp_path / "open.csv").write_text('participant_id,name\nsub-01,"Doe\nsub-02,x\n')
    with pytest.raises(argparse.ArgumentTypeError, match=r"open\.csv cannot be read"):
        parse_labels(f"@{tmp_path}/open.csv")
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
