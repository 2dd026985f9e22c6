"""Test settings: invalid values are rejected, and settings are written and read without loss."""

import dataclasses
import tomllib
import typing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from bids_sr.config import Paths, Resources, Selection, Settings, SuperRes, UsageError
from bids_sr.config.sections.activation import Activation
from bids_sr.config.sections.evaluation import Evaluation
from bids_sr.config.sections.preprocessing import Preprocessing
from bids_sr.config.sections.run import Run
from bids_sr.config.seeds import choose_seeds, seed_names
from bids_sr.config.settings import analysis_digest, differing_settings, read_toml
from bids_sr.config.values import as_annotated, as_toml

PATHS = Paths(bids_dir=Path("/data"), output_dir=Path("/out"))
text = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
paths = text.map(Path)
labels = st.lists(st.text("abcXYZ019", min_size=1, max_size=5), max_size=3, unique=True).map(tuple)
frequencies = st.floats(0.001, 0.009)


def maybe(values: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | values


ANY_SETTINGS = st.builds(
    Settings,
    paths=st.builds(Paths, bids_dir=paths, output_dir=paths, work_dir=maybe(paths)),
    selection=st.builds(
        Selection,
        participant_label=labels,
        run_id=st.lists(st.integers(0, 99), max_size=3, unique=True).map(tuple),
        bids_filter_file=maybe(paths),
        skip_bids_validation=st.booleans(),
    ),
    superres=st.builds(
        SuperRes,
        method=st.lists(st.sampled_from(["srgan", "sbl", "bspline", "ratio"]), min_size=1).map(
            tuple
        ),
        factor=st.just(())
        | st.floats(1.01, 8).map(lambda f: (f,))
        | st.tuples(*[st.floats(1.01, 8)] * 3),
        max_train_minutes=maybe(st.floats(1e-9, 1e9)),
        data_consistency=st.sampled_from(["off", "enforce"]),
    ),
    preprocessing=st.builds(
        Preprocessing,
        dummy_scans=maybe(st.integers(0, 99)),
        slice_time_ref=st.floats(0, 1),
        ignore=st.sampled_from([(), ("slicetiming",)]),
    ),
    activation=st.builds(
        Activation,
        contrasts=st.lists(text, max_size=3).map(tuple),
        smoothing=st.lists(
            st.floats(0, 50), min_size=1, max_size=3, unique_by=lambda mm: round(mm * 10)
        ).map(tuple),
        low_pass=maybe(st.floats(0.01, 1)),
        high_pass=frequencies,
        roi=st.sampled_from(["auto", "brain", "motor", "precentral,heschl_r", "./roi.nii.gz"]),
        thresholds=st.lists(st.sampled_from(["quarter", "fdr", "3.1", "2"]), max_size=3).map(
            tuple
        ),
    ),
    evaluation=st.builds(
        Evaluation,
        truth=st.sampled_from(["auto", "none"]) | paths.map(str),
        null_checks=st.booleans(),
        margin=maybe(st.floats(1e-9, 1e9)),
    )
    | st.builds(Evaluation, retrospective=maybe(st.sampled_from(["clean", "noisy"]))),
    resources=st.builds(
        Resources, nprocs=maybe(st.integers(1, 512)), mem_gb=maybe(st.floats(0.01, 1e4))
    ),
    run=st.builds(
        Run,
        sloppy=st.booleans(),
        verbose=st.integers(0, 5),
        run_uuid=text,
        config_file=st.lists(text, max_size=3).map(tuple),
    ),
)


@given(ANY_SETTINGS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_settings_are_unchanged_after_writing_and_reading(
    tmp_path_factory: pytest.TempPathFactory, original: Settings
) -> None:
    file = tmp_path_factory.mktemp("toml") / "settings.toml"
    file.write_text(original.to_toml(), encoding="utf-8")
    assert Settings.from_toml(file) == original


@given(text)
def test_any_text_can_be_written_as_toml(value: str) -> None:
    assert tomllib.loads(f"x = {as_toml(value)}") == {"x": value}


def test_a_single_factor_of_older_settings_files_is_read(tmp_path: Path) -> None:
    current = Settings(paths=PATHS, superres=SuperRes(factor=(1.5,)))
    (tmp_path / "s.toml").write_text(current.to_toml().replace("factor = [1.5]", "factor = 1.5"))
    assert "factor = 1.5" in (tmp_path / "s.toml").read_text()
    assert Settings.from_toml(tmp_path / "s.toml") == current


def test_the_digest_depends_on_the_axis_of_a_factor() -> None:
    def digest(*factor: float) -> str:
        return analysis_digest(Settings(paths=PATHS, superres=SuperRes(factor=factor)))

    assert digest(2, 1, 2) != digest(2, 2, 1)
    assert digest(2, 2, 1) == digest(2)
    assert differing_settings(
        Settings(paths=PATHS, superres=SuperRes(factor=(1, 2, 2))),
        Settings(paths=PATHS, superres=SuperRes(factor=(2, 1, 2))),
    ) == {"superres.factor": "[1.0, 2.0, 2.0] and [2.0, 1.0, 2.0]"}


def test_a_setting_switched_off_is_not_read_as_its_default(tmp_path: Path) -> None:
    disabled = Settings(paths=PATHS, activation=Activation(low_pass=None))
    (tmp_path / "s.toml").write_text(disabled.to_toml())
    assert Activation().low_pass is not None
    assert Settings.from_toml(tmp_path / "s.toml").activation.low_pass is None


@pytest.mark.parametrize(
    ("written", "suggested"),
    [
        ("[superres]\nrecipee = 'fast'\n", "superres.recipe"),
        ("[suprres]\nrecipe = 'fast'\n", "superres.recipe"),
        ("[resources]\nnproc = 2\n", "resources.nprocs"),
        ("recipe = 'fast'\n", "superres.recipe"),
    ],
)
def test_an_unknown_key_is_rejected_with_a_suggestion(
    tmp_path: Path, written: str, suggested: str
) -> None:
    (tmp_path / "s.toml").write_text(written)
    with pytest.raises(UsageError, match="unknown setting") as refusal:
        read_toml(tmp_path / "s.toml")
    assert suggested in refusal.value.notice.remedy


def test_an_unknown_empty_group_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("[superess]\n")
    with pytest.raises(UsageError, match="superess"):
        read_toml(tmp_path / "s.toml")


@pytest.mark.parametrize("content", [b"[paths\n", b"\xff\xfe"])
def test_a_file_that_is_not_valid_toml_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.toml").write_bytes(content)
    with pytest.raises(UsageError, match=r"s\.toml") as refusal:
        read_toml(tmp_path / "s.toml")
    assert "not valid TOML" in refusal.value.notice.why


def test_a_missing_settings_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.toml") as refusal:
        read_toml(tmp_path / "gone.toml")
    assert refusal.value.notice.remedy


def test_settings_of_a_single_call_are_not_reused(tmp_path: Path) -> None:
    earlier = Settings(
        paths=PATHS,
        superres=SuperRes(recipe="paper"),
        run=Run(run_uuid="old", dry_run=True, sloppy=True),
    )
    (tmp_path / "s.toml").write_text(earlier.to_toml())
    reused = read_toml(tmp_path / "s.toml", reusable_only=True)
    assert reused["superres"]["recipe"] == "paper"
    assert reused["run"]["sloppy"] is True
    assert not {"run_uuid", "dry_run"} & set(reused["run"])
    assert not {"bids_dir", "output_dir"} & set(reused["paths"])


@pytest.mark.parametrize(
    ("group", "values", "says"),
    [
        (SuperRes, {"method": ("srgn",)}, "srgan"),
        (SuperRes, {"method": ()}, "at least one"),
        (SuperRes, {"factor": 1.0}, "above 1"),
        (SuperRes, {"recipe": "slow"}, "fast, paper"),
        (SuperRes, {"max_train_minutes": 0}, "expected a value above 0"),
        (SuperRes, {"max_train_minutes": float("nan")}, "type float"),
        (Selection, {"participant_label": ("01,02",)}, "by spaces or commas"),
        (Selection, {"task_id": "tap"}, "type list"),
        (Selection, {"run_id": (-1,)}, "at least 0"),
        (Preprocessing, {"dummy_scans": -1}, "at least 0"),
        (Preprocessing, {"fd_spike_threshold": 0.0}, "above 0"),
        (Preprocessing, {"dvars_spike_threshold": -1.5}, "above 0"),
        (Preprocessing, {"dummy_scans": True}, "type int"),
        (Preprocessing, {"slice_time_ref": 1.5}, "at most 1"),
        (
            Preprocessing,
            {"output_spaces": ("MNI 152",)},
            "MNI 152: MNI 152 is not the name of an output space",
        ),
        (Preprocessing, {"output_spaces": ("func", "func")}, "duplicate space func"),
        (Preprocessing, {"output_spaces": ("A:res-02", "A:res-2")}, "duplicate space A:res-2"),
        (Preprocessing, {"output_spaces": ("A:2",)}, "expected res-LABEL or cohort-LABEL"),
        (Preprocessing, {"output_spaces": ("T1w:res-2",)}, "res-2 must be omitted"),
        (Preprocessing, {"output_spaces": ("anat", "T1w")}, "duplicate space"),
        (Preprocessing, {"output_spaces": ("fsaverage5", "fsaverage:den-10k")}, "duplicate space"),
        (Preprocessing, {"output_spaces": ("fsaverage",)}, "fsnative or fsaverage:den-10k"),
        (Preprocessing, {"output_spaces": ("fsaverage:den-164k",)}, "Other densities"),
        (
            Preprocessing,
            {"output_spaces": ("fsLR:den-32k",)},
            "subcortical voxels required for CIFTI",
        ),
        (
            Preprocessing,
            {"output_spaces": ("T1w:den-10k",)},
            "den-10k is not a valid template modifier",
        ),
        (Activation, {"smoothing": ()}, "at least one"),
        (Activation, {"smoothing": (5.0, -1.0)}, "at least 0"),
        (Activation, {"smoothing": (51.0,)}, "at most 50"),
        (Activation, {"smoothing": (5.0, 5.04)}, "equal after rounding to 0.1"),
        (Activation, {"thresholds": ("3.1", "fdr", "3.10")}, "equal after rounding to 0.1"),
        (Activation, {"kinds": ("ccc",)}, "cc, glm"),
        (Activation, {"low_pass": 0.005}, "higher than the high-pass"),
        (Activation, {"thresholds": ("half",)}, "3.1"),
        (Activation, {"band_pass": (0.1,)}, "two frequencies in ascending order"),
        (Activation, {"band_pass": (0.1, 0.01)}, "two frequencies in ascending order"),
        (Activation, {"band_pass": (0.0, 0.1)}, "above 0"),
        (Activation, {"drift": "legendre"}, "legendre:N with N between 1 and 20"),
        (Activation, {"drift": "legendre:0"}, "legendre:N with N between 1 and 20"),
        (Activation, {"drift": "spline"}, "cosine, or legendre:N"),
        (Activation, {"censor": ("fd:0",)}, "above 0"),
        (Activation, {"censor": ("enorm:-1",)}, "above 0"),
        (Activation, {"censor": ("enorm:nan",)}, "above 0"),
        (Activation, {"censor": ("fd",)}, "above 0"),
        (Activation, {"censor": ("enrom:.3",)}, "did you mean 'enorm'?"),
        (Activation, {"censor": ("dvars:2",)}, "choose one of these kinds"),
        (Activation, {"censor": ("fd:.5", "fd:.3")}, "one limit per kind"),
        (SuperRes, {"factor": (9.0,)}, "at most 8"),
        (Evaluation, {"truth": "x", "retrospective": "clean"}, "--truth"),
        (Evaluation, {"retrospective": "dirty"}, "clean, noisy"),
        (Evaluation, {"margin": 0.0}, "above 0"),
        (Resources, {"nprocs": 0}, "at least 1"),
        (Resources, {"mem_gb": -1.0}, "above 0"),
        (Resources, {"random_seed": 2**32}, "at most 4294967295"),
        (Run, {"boilerplate_only": True, "reports_only": True}, "cannot be combined with"),
    ],
)
def test_invalid_values_are_rejected(group: type, values: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError) as refusal:
        group(**values)
    assert says in str(refusal.value)
    assert refusal.value.notice.remedy


def test_a_pass_band_or_polynomials_replace_the_cutoffs() -> None:
    default = Activation()
    assert not default.models_time
    assert (default.cosine_cutoff, default.correlation_cutoff) == (
        default.high_pass,
        default.low_pass,
    )
    band = Activation(band_pass=(0.01, 0.08))
    assert (band.cosine_cutoff, band.correlation_cutoff) == (0.0, None)
    slow = Activation(drift="legendre:4")
    assert (slow.legendre_order, slow.cosine_cutoff) == (4, 0.0)
    assert slow.correlation_cutoff == default.low_pass
    censored = Activation(censor=("fd:.5",))
    assert censored.models_time
    assert censored.cosine_cutoff == default.high_pass


def test_limits_of_censoring_are_the_same_in_any_notation() -> None:
    censored = Activation(censor=("fd:.5", "enorm:3"))
    assert censored.censoring_limits == {"fd": 0.5, "enorm": 3.0}
    assert censored == Activation(censor=("fd:0.50", "enorm:3.0"))


def test_an_error_describes_accepted_values() -> None:
    with pytest.raises(UsageError) as refusal:
        Activation(smoothing=(51.0,))
    expected = "Description: FWHM in mm of the kernels"
    assert expected in refusal.value.notice.remedy


def test_prefixes_and_duplicates_of_labels_are_removed() -> None:
    selection = Selection(
        participant_label=("sub-01", "01", "02"), session_label=("ses-a",), task_id=("task-tap",)
    )
    assert selection.participant_label == ("01", "02")
    assert (selection.session_label, selection.task_id) == (("a",), ("tap",))


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PATHS.bids_dir = Path("/other")  # type: ignore[misc]


OTHERS = ("nearest", "linear", "lanczos")


@pytest.mark.parametrize(
    ("methods", "series"),
    [
        (("srgan",), ("bspline", "zerofill", "sdmod", "inject", "ratio", "srgan")),
        (
            ("sbl", "srgan"),
            ("bspline", "zerofill", "sdmod", "inject", "ratio", "sbl", "srgan"),
        ),
        (
            ("srgan", "linear"),
            ("bspline", "zerofill", "sdmod", "inject", "ratio", "linear", "srgan"),
        ),
        (("bspline", "zerofill"), ("bspline", "zerofill")),
        (("all",), ("bspline", "zerofill", "sdmod", "inject", "ratio", *OTHERS)),
        (("lanczos", "all"), ("bspline", "zerofill", "sdmod", "inject", "ratio", *OTHERS)),
        (("sbl", "all"), ("bspline", "zerofill", "sdmod", "inject", "ratio", *OTHERS, "sbl")),
        (("lanczos",), ("lanczos",)),
        (("inject",), ("inject",)),
    ],
)
def test_series_include_baselines_and_methods(
    methods: tuple[str, ...], series: tuple[str, ...]
) -> None:
    assert SuperRes(method=methods).series == series


def test_methods_are_grouped_by_their_training_data() -> None:
    superres = SuperRes()
    assert (superres.method, superres.auto, superres.chosen) == (
        ("auto",),
        True,
        ("srgan", "sbl"),
    )
    assert SuperRes(target="anat").chosen == ("attunet",)
    assert SuperRes(method=("auto", "tv")).chosen == ("srgan", "sbl", "tv")
    assert (superres.learned, superres.pair_trained, superres.run_trained) == (
        ("srgan", "sbl"),
        ("srgan",),
        ("sbl", "sdmod"),
    )
    assert SuperRes(method=("bspline",)).run_trained == ()
    control = SuperRes(method=("bspline", "sdmod"))
    assert (control.learned, control.run_trained) == ((), ("sdmod",))


def test_the_path_of_the_reference_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    resolved_settings = Settings(paths=PATHS, evaluation=Evaluation(truth="t")).resolve(
        run_uuid="u"
    )
    assert resolved_settings.evaluation.truth_dir == tmp_path / "t"


def test_resolved_settings_do_not_depend_on_directory_or_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    relative = Settings(
        paths=Paths(bids_dir=Path("in"), output_dir=Path("~/out")),
        activation=Activation(roi="roi.nii"),
    )
    resolved_settings = relative.resolve(run_uuid="u")
    assert resolved_settings.paths.bids_dir == tmp_path / "in"
    assert resolved_settings.paths.output_dir == Path("/home/someone/out")
    assert resolved_settings.activation.roi == str(tmp_path / "roi.nii")
    assert resolved_settings.paths.work_dir is not None
    assert resolved_settings.paths.work_dir.parent == tmp_path / "work"
    assert resolved_settings.resources.nprocs is not None
    assert resolved_settings.resources.omp_nthreads is not None
    assert resolved_settings.run.run_uuid == "u"
    assert resolved_settings.resolve(run_uuid="u") == resolved_settings


def test_two_data_sets_have_different_working_directories() -> None:
    first = Settings(paths=PATHS).resolve(run_uuid="u")
    second = Settings(paths=Paths(bids_dir=Path("/data2"), output_dir=Path("/out"))).resolve(
        run_uuid="u"
    )
    repeated = Settings(paths=PATHS).resolve(run_uuid="v")
    assert first.paths.work_dir != second.paths.work_dir
    assert first.paths.work_dir == repeated.paths.work_dir


def test_summary_lists_every_setting_and_marks_changed_values() -> None:
    lines = Settings(paths=PATHS, superres=SuperRes(recipe="paper")).summary()
    shown = "\n".join(lines)
    for group in dataclasses.fields(Settings):
        for item in dataclasses.fields(typing.get_type_hints(Settings)[group.name]):
            assert f"{item.name}=" in shown
    assert "recipe=paper*" in shown
    assert "recipe_changes=-," in shown
    assert "bids_dir=/data," in shown


def test_values_are_converted_to_the_annotated_type() -> None:
    assert as_annotated(2, float, "x") == 2.0
    assert isinstance(as_annotated(2, float, "x"), float)
    assert as_annotated("none", float | None, "x") is None
    assert as_annotated("none", str | None, "x") is None
    assert as_annotated("none", Path | None, "x") is None
    with pytest.raises(UsageError, match="x: True"):
        as_annotated(True, float, "x")


def test_usage_errors_consist_of_what_why_and_fix() -> None:
    assert str(UsageError("a", "b", "c")) == "a\n  why: b\n  fix: c"
    assert str(UsageError("a")) == "a"


def test_seeds_are_coordinates_or_atlas_labels() -> None:
    seed_options = (
        "motor",
        "hand=-38,-24,58",
        "precentral",
        "Calcarine_L",
        "v1=Calcarine_L,Calcarine_R",
    )
    assert seed_names(choose_seeds(Activation(seeds=seed_options).seeds, with_anat=True)) == (
        "motor",
        "hand",
        "precentral",
        "CalcarineL",
        "v1",
    )
    labels = [seed.labels for seed in choose_seeds(seed_options, with_anat=True)]
    assert labels == [
        (),
        (),
        ("Precentral_L", "Precentral_R"),
        ("Calcarine_L",),
        ("Calcarine_L", "Calcarine_R"),
    ]
    with pytest.raises(UsageError, match="several seeds have the same name"):
        Activation(seeds=("v1=Calcarine_L", "v1=Calcarine_R"))
    with pytest.raises(UsageError, match="an atlas label") as error:
        Activation(seeds=("Calcarin_L",))
    assert "Calcarine_L" in str(error.value)
