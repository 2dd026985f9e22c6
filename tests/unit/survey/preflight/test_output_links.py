"""Links in the output and working directories that lead into the data are refused, others not."""

from __future__ import annotations

import pytest
from data.calls import arguments, settings_for
from data.dataset import snapshot

from bids_sr.cli import main
from bids_sr.io.dataset_description import write_dataset
from bids_sr.survey.preflight.directories import judge_directories
from bids_sr.version import __version__

DATA, SCRATCH = "bids/sub-01", "scratch"


@pytest.fixture
def used(maker):
    """Return a data set with output, working directory, derivatives and scratch."""
    root = maker.root.parent
    write_dataset(root / "out", bids_dir=maker.root, version=__version__)
    for name in ("out/logs", "out/sourcedata", "work/bids_sr_wf", "scratch", "prep/sub-01"):
        (root / name).mkdir(parents=True, exist_ok=True)
    version = root / "work" / "bids_sr_wf" / "version.txt"
    version.write_text(__version__)
    (root / "prep" / "dataset_description.json").write_text(
        '{"GeneratedBy": [{"Name": "fMRIPrep", "Version": "24.1.1"}]}'
    )
    return maker


def link(maker, name, target):
    path = maker.root.parent / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(maker.root.parent / target)
    return path


def refused(maker, *options, out=None):
    """Return the directories and files that a call may not write."""
    return [notice.what for notice in judge_directories(settings_for(maker, *options, out=out))]


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("out/sub-01", DATA),
        ("out/sub-01", "prep/sub-01"),
        ("out/sub-01", "bids/derivatives"),
        ("out/sub-01", "bids/sub-new"),  # would be created there
        ("out/sub-01/func", f"{DATA}/func"),
        ("out/sub-01/figures", f"{DATA}/anat"),
        ("out/sub-01/ses-a/func", f"{DATA}/func"),
        (
            "out/sub-01/func/sub-01_task-tap_bold.nii.gz",
            f"{DATA}/func/sub-01_task-tap_bold.nii.gz",
        ),
        ("out/sourcedata/earlier", "bids"),
        ("out/sourcedata/earlier/sub-01", DATA),
        ("out/sourcedata/models", "bids"),
        ("out/derivatives", "bids/derivatives"),
        ("out/derivatives/bids-sr-sbl", "bids"),
        ("out/derivatives/bids-sr-sbl/sub-01", DATA),
        ("out/logs/latest", "bids"),
        ("out/group", "bids"),
        ("out/group.html", "bids/dataset_description.json"),
        ("work/bids_sr_wf/sub_01_wf", DATA),
        ("work/bids_sr_wf/sub_01_wf/step", f"{DATA}/func"),
        ("work/locks", "bids"),
    ],
)
def test_a_link_into_the_data_is_refused(used, name, target):
    path = link(used, name, target)
    assert refused(used, "-d", str(used.root.parent / "prep")) == [str(path)]


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_nothing_is_written_by_a_call_with_a_link_into_the_data(used, more):
    link(used, "out/sub-01/func", f"{DATA}/func")
    before = snapshot(used.root.parent)
    assert main.main(arguments(used, *more)) == 2
    assert snapshot(used.root.parent) == before


@pytest.mark.parametrize("is_chain", [False, True])
def test_links_of_links_are_followed(used, *, is_chain):
    first = link(used, "out/sub-01", "scratch/a")
    if is_chain:
        link(used, "scratch/a", DATA)
    else:
        (used.root.parent / "scratch" / "a").mkdir()
        link(used, "scratch/a/func", f"{DATA}/func")
    expected = first if is_chain else first / "func"
    assert refused(used) == [str(expected)]


def test_derivatives_in_the_output_are_data(used):
    root = used.root.parent
    prep = root / "out" / "sourcedata" / "fmriprep"
    (root / "prep").rename(prep)
    path = link(used, "out/sub-01", "out/sourcedata/fmriprep/sub-01")
    assert refused(used, "-d", str(prep)) == [str(path)]


def test_links_within_an_output_in_the_derivatives_of_the_data_are_accepted(maker):
    out = maker.root / "derivatives" / "bids-sr"
    write_dataset(out, bids_dir=maker.root, version=__version__)
    (out / "objects").mkdir()
    (out / "sub-01").symlink_to(out / "objects")
    assert refused(maker, out=out) == []
    (out / "sub-01").unlink()
    (out / "sub-01").symlink_to(maker.root / "derivatives")
    assert refused(maker, out=out) == [str(out / "sub-01")]


@pytest.mark.parametrize("options", [["group"], ["participant", "--reports-only"]])
def test_links_are_also_refused_by_the_group_level_and_for_reports(used, options, capsys):
    path = link(used, "out/logs/latest", "bids")
    before = snapshot(used.root.parent)
    assert main.main([str(used.root), str(used.root.parent / "out"), *options]) == 2
    assert str(path) in "".join(capsys.readouterr().err.split())
    assert snapshot(used.root.parent) == before
