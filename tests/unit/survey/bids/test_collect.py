"""Which inputs are found, selected and inherited in small data sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from data.calls import about, only_run, settings_for, survey_for
from data.dataset import BidsMaker, affine_for
from hypothesis import given, strategies as st

from bids_sr.io.grids import size_text
from bids_sr.survey.bids.collect import survey
from bids_sr.survey.bids.entities import file_stem, parse_entities
from bids_sr.survey.bids.filter_file import read_filters
from bids_sr.survey.bids.inheritance import find_inherited
from bids_sr.survey.bids.inputs import Pair, Survey
from bids_sr.survey.notices import InputError

STEM = "sub-01_task-tap"
BOLD = f"{STEM}_bold.nii.gz"
HIGH = "sub-01_acq-highres_T2starw.nii.gz"
FINE, COARSE = (3.0, 3.0, 4.0), (6.0, 6.0, 4.0)


def valid(maker: BidsMaker, *options: str) -> Survey:
    """Return the survey of a call without problems."""
    result = survey_for(maker, *options)
    assert result.problems == []
    return result


def stems(result: Survey) -> list[str]:
    return [run.stem for subject in result.subjects for run in subject.runs]


def test_all_inputs_of_a_participant_are_found(maker: BidsMaker) -> None:
    result = valid(maker)
    (subject,) = result.subjects
    run = only_run(result)
    assert (subject.label, run.stem) == ("01", STEM)
    assert run.bold == maker.root / "sub-01" / "func" / BOLD
    assert run.events == maker.path(f"{STEM}_events.tsv", "func")
    assert (run.tr, run.n_volumes, run.shape, run.duration) == (1.0, 30, (8, 8, 6), 30.0)
    assert run.zooms == pytest.approx(COARSE)
    np.testing.assert_allclose(run.affine, affine_for(COARSE))
    assert not run.affine.flags.writeable
    assert run.sidecar["TaskName"] == "tap"
    assert run.pair == Pair(
        highres=maker.path(HIGH, "anat"),
        lowres=maker.path("sub-01_acq-lowres_T2starw.nii.gz", "anat"),
        factor=(2.0, 2.0, 1.0),
    )
    assert (subject.pairs, run.factor) == ((run.pair,), (2.0, 2.0, 1.0))
    assert subject.t1w == (maker.path("sub-01_T1w.nii.gz", "anat"),)
    # derivatives are not inputs
    BidsMaker(maker.root / "derivatives" / "old").bold("sub-01_task-tap_run-9")
    assert list(valid(maker).files_by_run) == [STEM]


def test_entities_preserve_labels_and_order(maker: BidsMaker) -> None:
    name = "sub-01_ses-pre_task-tap_acq-x_dir-AP_run-02"
    maker.bold(name)
    (run,) = [run for run in valid(maker).subjects[0].runs if run.stem == name]
    keys = ("subject", "session", "task", "acquisition", "direction", "run")
    assert list(run.entities.items()) == list(
        zip(keys, ("01", "pre", "tap", "x", "AP", "02"), strict=True)
    )


@given(
    st.lists(st.sampled_from(["ses", "task", "acq", "run", "echo"]), unique=True),
    st.text("abc019", min_size=1),
)
def test_names_and_entities_agree(keys: list[str], label: str) -> None:
    stem = "_".join(["sub-01", *(f"{key}-{label}" for key in keys)])
    assert file_stem(Path(f"/data/{stem}_bold.nii.gz")) == stem
    entities = parse_entities(Path(f"{stem}_bold.nii.gz"))
    assert list(entities.values()) == ["01", *[label] * len(keys)]


# ---- selection


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", "a b c d"),
        ("--participant-label sub-02", "d"),
        ("--task-id task-tap", "a b d"),
        ("--run-id 2", "b"),
        ("--session-label ses-b", "c"),
        ("--task-id tap --run-id 1 --participant-label 01", "a"),
    ],
)
def test_selection_options_choose_runs(tmp_path: Path, options: str, expected: str) -> None:
    names = {
        "sub-01_task-tap_run-01": "a",
        "sub-01_task-tap_run-2": "b",
        "sub-01_ses-b_task-rest": "c",
        "sub-02_task-tap_run-1": "d",
    }
    maker = BidsMaker(tmp_path / "bids")
    for name in names:
        maker.bold(name)
    result = valid(maker, "--sr-method", "bspline", "--sr-factor", "2", *options.split())
    assert {names[stem] for stem in stems(result)} == set(expected.split())


def test_a_participant_without_bold_is_skipped_or_refused(maker: BidsMaker) -> None:
    maker.t1w("sub-02")
    result = valid(maker)
    assert [subject.label for subject in result.subjects] == ["01"]
    assert about(result.notices, "sub-02")
    assert survey_for(maker, "--participant-label", "02").problems


def filter_options(maker: BidsMaker, content: object) -> list[str]:
    """Return the option with a filter file in the format of fMRIPrep."""
    path = maker.root.parent / "filter.json"
    path.write_text(json.dumps(content))
    return ["--bids-filter-file", str(path)]


def test_a_filter_selects_an_echo_or_runs_without_session(maker: BidsMaker) -> None:
    maker.bold("sub-01_ses-a_task-tap")
    result = valid(maker, *filter_options(maker, {"bold": {"session": None}}))
    assert list(result.files_by_run) == [STEM]
    maker.path(BOLD, "func").unlink()
    for echo in (1, 2):
        maker.bold(f"{STEM}_echo-{echo}")
    result = valid(maker, *filter_options(maker, {"bold": {"echo": 2}}))
    assert stems(result) == [f"{STEM}_echo-2"]
    assert about(result.notices, "echo-2", "2")


def test_a_filter_selects_the_pair(maker: BidsMaker) -> None:
    maker.star("sub-01_acq-finest", (2.0, 2.0, 4.0))
    query = {"t2starw": {"acquisition": ["finest", "lowres"]}}
    pair = only_run(valid(maker, *filter_options(maker, query))).pair
    assert pair is not None
    assert (pair.highres.name, pair.factor) == (
        "sub-01_acq-finest_T2starw.nii.gz",
        (3.0, 3.0, 1.0),
    )
    for session in "ab":
        maker.star(f"sub-01_ses-{session}_acq-highres", FINE)
        maker.star(f"sub-01_ses-{session}_acq-lowres", COARSE)
    pair = only_run(valid(maker, *filter_options(maker, {"t2starw": {"session": "b"}}))).pair
    assert pair is not None
    assert "ses-b" in pair.highres.name


@pytest.mark.parametrize(
    ("content", "values"),
    [
        ({"bolt": {}}, ["'bolt'"]),
        ([1], []),
        ({"bold": {"task": ["tap", "../.."]}}, ["../.."]),
    ],
)
def test_invalid_filters_are_refused(tmp_path: Path, content: object, values: list[str]) -> None:
    path = tmp_path / "filter.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as refusal:
        read_filters(path)
    (problem,) = refusal.value.problems
    assert problem.what == str(path) or f"--bids-filter-file {path}" in problem.what
    assert all(value in f"{problem.why} {problem.remedy}" for value in values)


@pytest.mark.parametrize(
    ("query", "value"), [({"task": "nope"}, "--bids-filter-file"), ({"nonsense": "x"}, "nonsense")]
)
def test_a_filter_that_matches_nothing_is_refused(
    maker: BidsMaker, query: dict[str, str], value: str
) -> None:
    (problem,) = survey_for(maker, *filter_options(maker, {"bold": query})).problems
    assert value in f"{problem.what} {problem.why} {problem.remedy}"


# ---- inheritance


def test_the_nearest_sidecar_overrides_and_events_are_inherited(maker: BidsMaker) -> None:
    maker.json(
        maker.root / "task-tap_bold.json",
        {"TaskName": "tap", "RepetitionTime": 1.0, "FlipAngle": 70},
    )
    maker.path(f"{STEM}_bold.json", "func").write_text('{"FlipAngle": 90}')
    table = maker.path(f"{STEM}_events.tsv", "func").rename(maker.root / "task-tap_events.tsv")
    run = only_run(valid(maker))
    assert (run.sidecar["FlipAngle"], run.tr, run.events) == (90, 1.0, table)


def inherited_tables(image: Path, tables: list[Path]) -> list[Path]:
    """Return the tables that apply to an image, nearest last."""
    by_folder = {folder: [t for t in tables if t.parent == folder] for folder in image.parents}
    return find_inherited(image, Path("/d"), by_folder.__getitem__)


@pytest.mark.parametrize(
    ("table", "applies"),
    [
        ("sub-01/func/sub-01_task-tap_events.tsv", True),
        ("sub-01/func/sub-01_task-tap_run-2_events.tsv", False),
        ("sub-01/sub-01_task-tap_run-1_events.tsv", True),
        ("sub-02/func/sub-02_task-tap_events.tsv", False),
        ("task-tap_events.tsv", True),
        ("task-rest_events.tsv", False),
        ("sub-01/ses-2/func/sub-01_task-tap_events.tsv", False),
    ],
)
def test_tables_apply_if_entities_and_folder_match(table: str, applies: bool) -> None:
    bold = Path("/d/sub-01/func/sub-01_task-tap_run-1_part-mag_bold.nii.gz")
    assert bool(inherited_tables(bold, [Path("/d", table)])) is applies


# ---- parts


def test_parts_that_are_not_magnitude_are_ignored(maker: BidsMaker) -> None:
    maker.star("sub-01_acq-highres_part-phase", FINE)
    maker.path(BOLD, "func").unlink()
    for part in ("mag", "phase"):
        maker.bold(f"{STEM}_part-{part}")
    result = valid(maker)
    assert stems(result) == [f"{STEM}_part-mag"]
    assert only_run(result).events.name == f"{STEM}_events.tsv"
    assert len(about(result.notices, "part-phase", "part-phase")) == 2


# ---- anatomy, slices and labels


def test_sizes_of_single_precision_headers_are_rounded() -> None:
    assert size_text((3.75, 3.7499998, 3.1250002)) == "3.75 × 3.75 × 3.12 mm"


def test_slice_timing_can_be_ignored(maker: BidsMaker) -> None:
    times = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    maker.bold(sidecar={"SliceTiming": times})
    assert only_run(valid(maker)).slice_timing == tuple(times)
    assert only_run(survey(settings_for(maker, "--ignore", "slicetiming"))).slice_timing is None


# ---- echoes


@pytest.mark.parametrize("combined", ["", "_part-mag"])
def test_a_series_without_echo_beside_echoes_is_left_out_and_can_be_chosen(
    maker: BidsMaker, combined: str
) -> None:
    maker.path(BOLD, "func").unlink()
    first, second = (
        maker.bold(f"{STEM}_echo-{number}", sidecar={"EchoTime": te})
        for number, te in ((1, 0.03), (2, 0.014))
    )
    name = f"{STEM}{combined}"
    maker.bold(name, sidecar={"EchoTime": 0.02})
    result = valid(maker)
    run = only_run(result)
    assert run.echoes == ((second, 14.0), (first, 30.0))
    assert (run.stem, run.bold, run.sidecar["EchoTime"]) == (STEM, second, 0.014)
    assert about(result.notices, f"{name}_bold.nii.gz", "--bids-filter-file", '"echo": null')
    assert only_run(valid(maker, "--echo-idx", "2")).bold == second
    chosen = only_run(valid(maker, *filter_options(maker, {"bold": {"echo": None}})))
    assert (chosen.bold.name, chosen.echoes) == (f"{name}_bold.nii.gz", ())
