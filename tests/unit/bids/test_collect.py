"""Test which inputs are found, selected and inherited in small data sets."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data.dataset import FOV, BidsMaker, affine_for
from hypothesis import given, strategies as st

from bids_sr.bids import (
    Findings,
    Pair,
    Subject,
    Survey,
    file_stem,
    headers as hd,
    needs_pair,
    parse_entities,
    slice_axis,
    survey,
    timing,
)
from bids_sr.bids.inheritance import find_inherited
from bids_sr.bids.pairs import measure_overlap, nearest_simple_ratio
from bids_sr.config import Paths, Selection, Settings, SuperRes
from bids_sr.config.sections.preprocessing import Preprocessing
from bids_sr.io.grids import size_text
from bids_sr.io.image_header import Header


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    return BidsMaker(tmp_path / "bids")


Look = Callable[..., Survey]


@pytest.fixture
def look(maker: BidsMaker) -> Look:
    def _look(**groups: object) -> Survey:
        return survey(settings_for(maker, **groups))

    return _look


def settings_for(maker: BidsMaker, **groups: object) -> Settings:
    paths = Paths(bids_dir=maker.root, output_dir=maker.root.parent / "out")
    return Settings(paths=paths, **groups)  # type: ignore[arg-type]


def sessions_of_pairs(subject: Subject) -> list[str | None]:
    return [parse_entities(run.pair.highres).get("session") for run in subject.runs if run.pair]


def inherited_tables(image: Path, tables: list[Path]) -> list[Path]:
    """Return the tables that apply to an image, nearest last."""
    tables_by_folder = {
        folder: [t for t in tables if t.parent == folder] for folder in image.parents
    }
    return find_inherited(image, Path("/d"), tables_by_folder.__getitem__)


def texts(result: Survey) -> str:
    return "\n".join([*map(str, result.problems), *map(str, result.notices)])


def test_all_inputs_of_a_participant_are_found(maker: BidsMaker) -> None:
    maker.subject()
    settings = settings_for(maker)
    (subject,) = survey(settings).subjects
    (run,) = subject.runs
    assert subject.label == "01"
    assert run.stem == "sub-01_task-tap"
    assert run.bold.is_absolute()
    assert run.events == maker.path("sub-01_task-tap_events.tsv", "func")
    assert (run.tr, run.n_volumes, run.shape, run.duration) == (1.0, 30, (8, 8, 6), 30.0)
    assert run.zooms == pytest.approx((6, 6, 4))
    np.testing.assert_allclose(run.affine, affine_for((6, 6, 4)))
    assert not run.affine.flags.writeable
    assert run.sidecar["TaskName"] == "tap"
    assert run.pair == Pair(
        highres=maker.path("sub-01_acq-highres_T2starw.nii.gz", "anat"),
        lowres=maker.path("sub-01_acq-lowres_T2starw.nii.gz", "anat"),
        factor=(2.0, 2.0, 1.0),
    )
    assert subject.pairs == (run.pair,)
    assert run.factor == (2.0, 2.0, 1.0)
    assert subject.t1w == (maker.path("sub-01_T1w.nii.gz", "anat"),)


def test_entities_preserve_labels_and_order(maker: BidsMaker) -> None:
    maker.subject()
    name = "sub-01_ses-pre_task-tap_acq-x_dir-AP_run-02"
    maker.bold(name)
    maker.events(name)
    (subject,) = survey(settings_for(maker)).subjects
    run = next(r for r in subject.runs if r.entities.get("session"))
    assert list(run.entities.items()) == [
        ("subject", "01"),
        ("session", "pre"),
        ("task", "tap"),
        ("acquisition", "x"),
        ("direction", "AP"),
        ("run", "02"),
    ]
    assert run.stem == name


@given(
    st.lists(st.sampled_from(["ses", "task", "acq", "run", "echo"]), unique=True),
    st.text("abc019", min_size=1),
)
def test_names_and_entities_agree(keys: list[str], label: str) -> None:
    stem = "_".join(["sub-01", *(f"{key}-{label}" for key in keys)])
    assert file_stem(Path(f"/data/{stem}_bold.nii.gz")) == stem
    assert list(parse_entities(Path(f"{stem}_bold.nii.gz")).values()) == [
        "01",
        *[label] * len(keys),
    ]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({}, {"01_tap1", "01_tap2", "01_rest", "02_tap1"}),
        ({"participant_label": ("sub-02",)}, {"02_tap1"}),
        ({"task_id": ("task-tap",)}, {"01_tap1", "01_tap2", "02_tap1"}),
        ({"run_id": (2,)}, {"01_tap2"}),
        ({"session_label": ("ses-b",)}, {"01_rest"}),
        ({"task_id": ("tap",), "run_id": (1,), "participant_label": ("01",)}, {"01_tap1"}),
    ],
)
def test_selection_options_choose_runs(
    maker: BidsMaker, look: Look, selection: dict[str, tuple[object, ...]], expected: set[str]
) -> None:
    stems = {
        "sub-01_task-tap_run-01": "01_tap1",
        "sub-01_task-tap_run-2": "01_tap2",
        "sub-01_ses-b_task-rest": "01_rest",
        "sub-02_task-tap_run-1": "02_tap1",
    }
    for stem in stems:
        maker.bold(stem)
        maker.events(stem)
    superres = SuperRes(method=("bspline",), factor=2.0)
    result = look(selection=Selection(**selection), superres=superres)  # type: ignore[arg-type]
    assert {stems[run.stem] for subject in result.subjects for run in subject.runs} == expected
    assert not result.problems


def test_a_participant_without_bold_is_skipped_with_a_notice(maker: BidsMaker, look: Look) -> None:
    maker.subject("01")
    maker.t1w("sub-02")
    result = look()
    assert [s.label for s in result.subjects] == ["01"]
    assert "sub-02: none of the requested BOLD runs were found" in texts(result)
    assert not result.problems
    selected = look(selection=Selection(participant_label=("02",)))
    assert "no BOLD runs were found" in selected.problems[0].why


def test_derivatives_are_not_indexed(maker: BidsMaker, look: Look) -> None:
    maker.subject()
    other = BidsMaker(maker.root / "derivatives" / "old")
    other.bold("sub-01_task-tap_run-9")
    assert list(look().files_by_run) == ["sub-01_task-tap"]


def test_a_database_can_be_used_for_other_participants(
    maker: BidsMaker, look: Look, tmp_path: Path
) -> None:
    maker.subject("01")
    maker.subject("02")
    database = tmp_path / "db"
    first = look(selection=Selection(participant_label=("01",), bids_database_dir=database))
    second = look(selection=Selection(participant_label=("02",), bids_database_dir=database))
    assert database.is_dir()
    assert [s.label for s in (*first.subjects, *second.subjects)] == ["01", "02"]
    assert second.subjects[0].runs[0].sidecar["RepetitionTime"] == 1.0


class TestInheritance:
    """Tables and sidecars above a run apply to the run; the nearest takes precedence."""

    def test_nearest_sidecar_overrides_metadata(self, maker: BidsMaker) -> None:
        maker.subject()
        maker.json(
            maker.root / "task-tap_bold.json",
            {"TaskName": "tap", "RepetitionTime": 1.0, "FlipAngle": 70},
        )
        maker.path("sub-01_task-tap_bold.json", "func").write_text('{"FlipAngle": 90}')
        (subject,) = survey(settings_for(maker)).subjects
        assert subject.runs[0].sidecar["FlipAngle"] == 90
        assert subject.runs[0].tr == 1.0

    def test_events_at_the_root_are_inherited(self, maker: BidsMaker) -> None:
        maker.subject()
        table = maker.path("sub-01_task-tap_events.tsv", "func")
        table.rename(maker.root / "task-tap_events.tsv")
        (subject,) = survey(settings_for(maker)).subjects
        assert subject.runs[0].events == maker.root / "task-tap_events.tsv"

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
    def test_tables_apply_if_entities_and_folder_match(self, table: str, applies: bool) -> None:
        bold = Path("/d/sub-01/func/sub-01_task-tap_run-1_part-mag_bold.nii.gz")
        assert bool(inherited_tables(bold, [Path("/d", table)])) is applies

    def test_the_nearest_table_comes_last(self) -> None:
        bold = Path("/d/sub-01/func/sub-01_task-tap_run-1_bold.nii.gz")
        names = ["sub-01/func/sub-01_task-tap_run-1", "sub-01/func/sub-01_task-tap", "task-tap"]
        tables = [Path(f"/d/{name}_events.tsv") for name in names]
        assert inherited_tables(bold, tables) == tables[::-1]
        assert inherited_tables(bold, []) == []


class TestFilterFile:
    """Queries have the format of fMRIPrep's filter file."""

    def filtered(self, maker: BidsMaker, content: object) -> Survey:
        path = maker.root.parent / "filter.json"
        path.write_text(json.dumps(content))
        return survey(settings_for(maker, selection=Selection(bids_filter_file=path)))

    def test_a_filter_selects_one_echo(self, maker: BidsMaker) -> None:
        maker.subject()
        maker.path("sub-01_task-tap_bold.nii.gz", "func").unlink()
        for echo in (1, 2):
            maker.bold(f"sub-01_task-tap_echo-{echo}")
        result = self.filtered(maker, {"bold": {"echo": 2}})
        assert [run.stem for run in result.subjects[0].runs] == ["sub-01_task-tap_echo-2"]
        assert "only echo 2 was found" in texts(result)

    def test_a_filter_selects_the_session_of_the_pair(self, maker: BidsMaker) -> None:
        maker.bold()
        maker.events()
        for session in "ab":
            maker.star(f"sub-01_ses-{session}_acq-highres", (3, 3, 4))
            maker.star(f"sub-01_ses-{session}_acq-lowres", (6, 6, 4))
        result = self.filtered(maker, {"t2starw": {"session": "b"}})
        assert parse_entities(result.subjects[0].pairs[0].highres)["session"] == "b"

    def test_a_filter_selects_the_images_of_the_pair(self, maker: BidsMaker) -> None:
        maker.subject()
        maker.star("sub-01_acq-finest", (2.0, 2.0, 4.0))
        result = self.filtered(maker, {"t2starw": {"acquisition": ["finest", "lowres"]}})
        (pair,) = result.subjects[0].pairs
        assert (pair.highres.name, pair.factor) == (
            "sub-01_acq-finest_T2starw.nii.gz",
            (3.0, 3.0, 1.0),
        )
        assert not result.problems

    def test_a_filter_selects_runs_without_session(self, maker: BidsMaker) -> None:
        maker.subject()
        maker.bold("sub-01_ses-a_task-tap")
        result = self.filtered(maker, {"bold": {"session": None}})
        assert list(result.files_by_run) == ["sub-01_task-tap"]

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ({"bolt": {}}, "'bolt' is not an image type"),
            ([1], "one query per image type"),
            ({"bold": {"nonsense": "x"}}, "does not occur in the dataset"),
            ({"bold": {"task": ["tap", "../.."]}}, "not a valid BIDS label"),
            (
                {"bold": {"task": "nope"}},
                "no BOLD runs in the dataset match the filters in --bids-filter-file",
            ),
        ],
    )
    def test_invalid_filters_are_rejected(
        self, maker: BidsMaker, content: object, reason: str
    ) -> None:
        maker.subject()
        (problem,) = self.filtered(maker, content).problems
        assert reason in problem.why


class TestPair:
    """Selection of the T2*-weighted pair of a run."""

    def test_a_pair_of_the_same_session_is_preferred(self, maker: BidsMaker) -> None:
        for session in "ab":
            maker.subject(session=session)
        (subject,) = survey(settings_for(maker)).subjects
        assert [run.entities["session"] for run in subject.runs] == ["a", "b"]
        assert sessions_of_pairs(subject) == [
            "a",
            "b",
        ]
        assert len(subject.pairs) == 2

    def test_a_pair_of_another_session_is_used(self, maker: BidsMaker) -> None:
        maker.subject(session="a")
        maker.bold("sub-01_ses-b_task-tap")
        maker.events("sub-01_ses-b_task-tap")
        (subject,) = survey(settings_for(maker)).subjects
        assert sessions_of_pairs(subject) == [
            "a",
            "a",
        ]
        assert len(subject.pairs) == 1

    def test_a_complete_pair_of_another_session_is_preferred_to_one_image(
        self, maker: BidsMaker
    ) -> None:
        maker.subject(session="a")
        maker.bold("sub-01_ses-b_task-tap")
        maker.events("sub-01_ses-b_task-tap")
        maker.star("sub-01_ses-b_acq-highres", (3, 3, 4))
        (subject,) = survey(settings_for(maker)).subjects
        assert sessions_of_pairs(subject) == [
            "a",
            "a",
        ]

    def test_a_high_resolution_image_without_its_low_resolution_image_is_downsampled(
        self, maker: BidsMaker, look: Look
    ) -> None:
        maker.subject()
        maker.path("sub-01_acq-lowres_T2starw.nii.gz", "anat").unlink()
        result = look()
        pair = result.subjects[0].runs[0].pair
        assert pair is not None
        assert (pair.lowres, pair.factor) == (None, (2.0, 2.0, 1.0))
        assert "k-space-truncated copy of this image (factor 2 in plane)" in texts(result)

    @pytest.mark.parametrize(("zoom", "factor"), [(3.2, 2.0), (4.0, 1.5), (4.8, 1.25)])
    def test_factor_of_a_single_high_resolution_image(
        self, maker: BidsMaker, look: Look, zoom: float, factor: float
    ) -> None:
        """The ratio 6 / 3.2 is not simple, but a copy downsampled by 2 has 6.4 mm voxels, similar
        to the BOLD voxels (6 mm).
        """
        maker.subject()
        maker.path("sub-01_acq-lowres_T2starw.nii.gz", "anat").unlink()
        maker.star("sub-01_acq-highres", (zoom, zoom, 4.0))
        assert [pair.factor for pair in look().subjects[0].pairs] == [(factor, factor, 1.0)]

    def test_phase_images_are_ignored(self, maker: BidsMaker, look: Look) -> None:
        maker.subject()
        maker.star("sub-01_acq-highres_part-phase", (3.0, 3.0, 4.0))
        result = look()
        assert not result.problems
        assert "the part-phase image is ignored because only magnitude images are used" in texts(
            result
        )

    def test_baselines_require_no_pair(self, maker: BidsMaker, look: Look) -> None:
        maker.subject()
        for kind in ("highres", "lowres"):
            maker.path(f"sub-01_acq-{kind}_T2starw.nii.gz", "anat").unlink()
        superres = SuperRes(method=("bspline", "zerofill"), factor=2.0)
        result = look(superres=superres)
        assert not result.problems
        run = result.subjects[0].runs[0]
        assert run.pair is None
        assert run.factor == (2.0, 2.0, 1.0)

    def test_an_invalid_pair_is_reported_if_no_method_requires_a_pair(
        self, maker: BidsMaker, look: Look
    ) -> None:
        maker.subject()
        maker.star("sub-01_acq-lowres", (3.0, 3.0, 4.0))
        result = look(superres=SuperRes(method=("bspline",), factor=2.0))
        assert not result.problems
        assert "the T2*-weighted pair is not used" in texts(result)

    def test_methods_that_require_a_pair(self) -> None:
        assert needs_pair(SuperRes(method=("bspline", "inject"))) == ("inject",)
        assert needs_pair(SuperRes(method=("zerofill",))) == ()
        assert needs_pair(SuperRes(method=("srgan", "sbl"))) == ("srgan",)
        assert needs_pair(SuperRes()) == ()


class TestHeaders:
    """Repetition time and slices from headers and sidecars."""

    def header(self, **changes: object) -> Header:
        base = Header(
            path=Path("x_bold.nii.gz"),
            shape=(8, 8, 6, 30),
            zooms=(6.0, 6.0, 4.0),
            tr=2.0,
            affine=affine_for((6, 6, 4)),
            slice_axis=None,
            complex=False,
        )
        return dataclasses.replace(base, **changes)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("header_tr", "value", "expected"), [(2.0, 2.0, 2.0), (1.9999, 2, 2.0), (None, 2.0, 2.0)]
    )
    def test_repetition_time_of_header_and_sidecar(
        self, header_tr: float | None, value: float, expected: float
    ) -> None:
        result = Findings()
        assert timing.check_repetition_time(self.header(tr=header_tr), value, result) == expected
        assert result.problems == []
        assert bool(result.notices) is (header_tr is None)

    @pytest.mark.parametrize(
        ("header_tr", "text"), [(2000.0, "2000 s, probably 2000 ms"), (0.002, "probably 2 s")]
    )
    def test_a_header_in_a_wrong_unit_is_rejected_unless_the_sidecar_has_the_time(
        self, header_tr: float, text: str
    ) -> None:
        result = Findings()
        assert timing.check_repetition_time(self.header(tr=header_tr), None, result) is None
        (problem,) = result.problems
        assert text in problem.why
        assert problem.remedy.startswith('Add "RepetitionTime": 2 ')
        result = Findings()
        assert timing.check_repetition_time(self.header(tr=header_tr), 2, result) == 2.0
        assert result.problems == []
        assert "wrong unit; 2 s from the sidecar is used" in result.notices[0].why

    def test_milliseconds_in_the_sidecar_are_rejected_with_a_remedy(self) -> None:
        result = Findings()
        assert timing.check_repetition_time(self.header(), 2000, result) is None
        assert result.problems[0].remedy == (
            'If 2000 is in milliseconds, replace it with "RepetitionTime": 2.'
        )

    @pytest.mark.parametrize("value", [None, 2000, "2", True, 0, -1, [2.0]])
    def test_an_invalid_repetition_time_is_rejected(self, value: object) -> None:
        result = Findings()
        assert timing.check_repetition_time(self.header(), value, result) is None
        assert len(result.problems) == 1

    def test_milliseconds_in_the_header_are_converted(self, maker: BidsMaker) -> None:
        import nibabel as nb

        path = maker.bold(tr=2.0)
        image = nb.load(path)
        image.header.set_xyzt_units("mm", "msec")  # type: ignore[attr-defined]
        image.header["pixdim"][4] = 2000  # type: ignore[index]
        nb.save(image, path)
        result = hd.read_header(path, Findings())
        assert isinstance(result, Header)
        assert result.tr == pytest.approx(2.0)

    def test_slice_times_follow_the_encoding_direction(self) -> None:
        times = [0.0, 0.3, 0.6, 0.9, 1.2, 1.5]
        result, flipped = Findings(), {"SliceTiming": times, "SliceEncodingDirection": "k-"}
        assert timing.read_slice_times(
            self.header(), {"SliceTiming": times}, 2.0, result
        ) == tuple(times)
        assert timing.read_slice_times(self.header(), flipped, 2.0, result) == tuple(
            reversed(times)
        )
        assert (
            timing.read_slice_times(self.header(), {"SliceTiming": [0.0] * 6}, 2.0, result) is None
        )
        assert timing.read_slice_times(self.header(), {}, 2.0, result) is None
        assert result == Findings()

    @pytest.mark.parametrize(
        ("sidecar", "text"),
        [
            ({"SliceTiming": [0.0, 1.0]}, "2 entries, but the image has 6 slices"),
            ({"SliceTiming": [0, 1, 2, 3, 4, 5.0]}, "outside the TR of 2 s"),
            ({"SliceTiming": "0 1"}, "not a list of times"),
            (
                {"SliceTiming": [0, 0.1, 0.2, 0.3, 0.4, 0.5], "SliceEncodingDirection": "i"},
                "along axis i",
            ),
        ],
    )
    def test_invalid_slice_times_are_ignored_with_a_notice(
        self, sidecar: dict[str, object], text: str
    ) -> None:
        result = Findings()
        assert timing.read_slice_times(self.header(), sidecar, 2.0, result) is None
        (notice,) = result.notices
        assert text in notice.why
        assert "not corrected" in notice.why

    @pytest.mark.parametrize(
        ("zooms", "dim_info", "direction", "expected"),
        [
            ((3, 3, 3), None, "", 2),
            ((3, 3, 4), None, "", 2),
            ((4, 3, 3), None, "", 0),
            ((3, 4, 3), None, "", 1),
            ((2, 3, 4), None, "", 2),
            ((4, 3, 3), 2, "", 2),
            ((3, 3, 3), 1, "", 1),
            ((3, 3, 3), 1, "k-", 2),
        ],
    )
    def test_slice_axis_from_voxel_size_header_and_sidecar(
        self,
        zooms: tuple[float, float, float],
        dim_info: int | None,
        direction: str,
        expected: int,
    ) -> None:
        header = self.header(zooms=zooms, slice_axis=dim_info)
        assert (
            slice_axis.find_slice_axis(header, {"SliceEncodingDirection": direction})[0]
            == expected
        )

    @pytest.mark.parametrize(
        ("shape", "n_times", "expected"),
        [
            ((9, 8, 6), 6, 2),
            ((6, 8, 9), 6, 0),
            ((8, 6, 9), 6, 1),
            ((6, 8, 6), 6, 2),
            ((6, 6, 9), 6, 2),
            ((6, 8, 9), 5, 2),
            ((1, 8, 9), 5, 0),  # a single slice
            ((1, 8, 9), 9, 2),
        ],
    )
    def test_the_number_of_slice_times_determines_the_slice_axis(
        self, shape: tuple[int, int, int], n_times: int, expected: int
    ) -> None:
        header = self.header(shape=(*shape, 30), zooms=(3.0, 3.0, 3.0))
        assert slice_axis.find_slice_axis(header, {"SliceTiming": [0.1] * n_times})[0] == expected


def test_participant_labels_that_differ_only_in_case_are_reported(
    maker: BidsMaker, look: Look
) -> None:
    maker.subject("a1")
    assert "differ only in case" not in texts(look())
    maker.subject("A1")
    result = look()
    assert result.problems == []
    (notice,) = [message for message in result.notices if "differ only in case" in message.why]
    assert "participants A1 and a1" in notice.why


def test_sizes_of_single_precision_headers_are_rounded(maker: BidsMaker, look: Look) -> None:
    """Headers in single precision contain 3.7499998 for 3.75 mm."""
    assert size_text((3.75, 3.7499998, 3.1250002)) == "3.75 × 3.75 × 3.12 mm"
    maker.subject()
    (run,) = look().subjects[0].runs
    header = dataclasses.replace(run.header, zooms=(3.75, 3.7499998, 4.0))
    run = dataclasses.replace(run, header=header)
    assert run.voxel == "3.75 × 3.75 × 4 mm"


@pytest.mark.parametrize(
    ("thickness", "text"), [(24.0, "one slice"), (8.0, "3 slices"), (6.0, "")]
)
def test_motion_in_few_slices_is_estimated_in_plane_with_a_notice(
    maker: BidsMaker, look: Look, thickness: float, text: str
) -> None:
    maker.subject()
    maker.bold(zooms=(6.0, 6.0, thickness))
    result = look()
    assert len(result.subjects[0].runs) == 1
    assert ("head motion is estimated in-plane only" in texts(result)) == bool(text)
    assert f"the run has {text}, " in texts(result) or not text


def test_a_matrix_that_is_too_narrow_is_the_only_problem_reported(
    maker: BidsMaker, look: Look
) -> None:
    maker.subject()
    maker.bold(zooms=(24.0, 6.0, 4.0), sidecar={"RepetitionTime": None}, tr=0.0)
    (problem,) = look().problems
    assert "voxels, but at least 4 voxels are required" in problem.why


def test_slice_timing_can_be_ignored(maker: BidsMaker, look: Look) -> None:
    maker.subject()
    maker.bold(sidecar={"SliceTiming": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]})
    assert look().subjects[0].runs[0].slice_timing == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    ignoring = look(preprocessing=Preprocessing(ignore=("slicetiming",)))
    assert ignoring.subjects[0].runs[0].slice_timing is None


def test_the_magnitude_part_of_a_run_is_used(maker: BidsMaker, look: Look) -> None:
    maker.subject()
    maker.path("sub-01_task-tap_bold.nii.gz", "func").unlink()
    for part in ("mag", "phase"):
        maker.bold(f"sub-01_task-tap_part-{part}")
    result = look()
    assert [run.stem for run in result.subjects[0].runs] == ["sub-01_task-tap_part-mag"]
    assert result.subjects[0].runs[0].events.name == "sub-01_task-tap_events.tsv"
    assert "the part-phase image is ignored because only magnitude" in texts(result)


def test_several_or_no_t1w_images_are_reported(maker: BidsMaker, look: Look) -> None:
    maker.subject()
    maker.t1w("sub-01_run-2")
    result = look()
    assert len(result.subjects[0].t1w) == 2
    assert "2 T1w images were found; this image is used" in texts(result)
    for path in result.subjects[0].t1w:
        path.unlink()
    bare = look()
    assert bare.subjects[0].t1w == ()
    assert "The whole brain is used as the region of interest" in texts(bare)
    assert not bare.problems


def test_all_problems_are_listed(maker: BidsMaker) -> None:
    maker.subject()
    maker.bold(n_volumes=1)
    maker.star("sub-01_acq-lowres", (3.0, 3.0, 4.0))
    result = survey(settings_for(maker, superres=SuperRes(method=("srgan", "sbl"))))
    assert "one volume" in texts(result)
    assert len(result.problems) == 2


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (2.0, 2.0),
        (2.03, 2.0),
        (1.94, None),
        (1.5, 1.5),
        (1.34, 4 / 3),
        (1.76, 1.75),
        (3.0, 3.0),
        (1.1, None),
    ],
)
def test_voxel_size_ratios_are_rounded_to_simple_ratios(
    ratio: float, expected: float | None
) -> None:
    assert nearest_simple_ratio(ratio) == (None if expected is None else pytest.approx(expected))


def test_overlap_is_a_fraction_of_the_first_field_of_view() -> None:
    def header(shift: float, zoom: float = 4.0) -> Header:
        affine = affine_for((zoom, zoom, 4.0), shift=(shift, 0, 0))
        shape = tuple(round(f / z) for f, z in zip(FOV, (zoom, zoom, 4.0), strict=True))
        return Header(
            path=Path("x"),
            shape=shape,
            zooms=(zoom, zoom, 4.0),
            tr=None,
            affine=affine,
            slice_axis=None,
            complex=False,
        )

    assert measure_overlap(header(0), header(0, 2.0)) == 1.0
    assert measure_overlap(header(0), header(12.0)) == pytest.approx(0.75)
    assert measure_overlap(header(0), header(48.1)) == 0.0


def test_importing_preflight_does_not_import_heavy_packages() -> None:
    code = (
        "import sys, bids_sr.preflight; print({'bids', 'nibabel', 'pandas', 'torch'} &"
        " set(sys.modules))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "set()"
