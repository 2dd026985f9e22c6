"""Test settings: invalid values are rejected, and settings are written and read without loss."""

from pathlib import Path
from typing import Any

import pytest
from data.calls import mentions
from hypothesis import HealthCheck, given, settings, strategies as st

from bids_sr.config import Paths, Resources, Selection, Settings, SuperRes
from bids_sr.config.sections.activation import Activation
from bids_sr.config.sections.evaluation import Evaluation
from bids_sr.config.sections.preprocessing import Preprocessing
from bids_sr.config.sections.run import Run
from bids_sr.config.seeds import choose_seeds
from bids_sr.config.settings import analysis_digest, differing_settings, read_toml
from bids_sr.config.values import as_annotated
from bids_sr.glm.connectivity_seeds import seed_names
from bids_sr.io.notices import UsageError

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
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
def test_settings_are_unchanged_after_writing_and_reading(
    tmp_path_factory: pytest.TempPathFactory, original: Settings
) -> None:
    file = tmp_path_factory.mktemp("toml") / "settings.toml"
    file.write_text(original.to_toml(), encoding="utf-8")
    assert Settings.from_toml(file) == original


def test_the_digest_depends_on_regions_but_not_on_their_order() -> None:
    def digest(*roi: str) -> str:
        return analysis_digest(Settings(paths=PATHS, activation=Activation(roi=roi)))

    assert digest("motor", "visual") == digest("visual", "motor")
    assert len({digest("motor"), digest("visual"), digest("motor", "visual")}) == 3


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
    with pytest.raises(UsageError) as refusal:
        read_toml(tmp_path / "s.toml")
    assert suggested in refusal.value.notice.remedy


@pytest.mark.parametrize("content", [b"[superess]\n", b"[paths\n", b"\xff\xfe", None])
def test_a_file_that_is_no_settings_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "s.toml").write_bytes(content)
    with pytest.raises(UsageError) as refusal:
        read_toml(tmp_path / "s.toml")
    notice = refusal.value.notice
    assert str(tmp_path / "s.toml") in notice.what
    assert notice.remedy


def test_settings_of_a_single_call_are_not_reused(tmp_path: Path) -> None:
    earlier = Settings(
        paths=PATHS,
        selection=Selection(analysis_level="group", task_id=("tap",)),
        superres=SuperRes(recipe="paper"),
        run=Run(run_uuid="old", dry_run=True, sloppy=True),
    )
    (tmp_path / "s.toml").write_text(earlier.to_toml())
    reused = read_toml(tmp_path / "s.toml", reusable_only=True)
    assert reused["superres"]["recipe"] == "paper"
    assert reused["run"]["sloppy"] is True
    assert not {"run_uuid", "dry_run"} & set(reused["run"])
    assert set(reused["selection"]) >= {"task_id"}
    assert "analysis_level" not in reused["selection"]
    assert not {"bids_dir", "output_dir"} & set(reused["paths"])


INVALID: list[tuple[type, str, object, str]] = [
    (SuperRes, "method", ("srgn",), "'srgan'"),
    (SuperRes, "method", (), ""),
    (SuperRes, "factor", 1.0, "1"),
    (SuperRes, "factor", (9.0,), "8"),
    (SuperRes, "recipe", "slow", "fast, paper"),
    (SuperRes, "max_train_minutes", 0, "0"),
    (SuperRes, "max_train_minutes", float("nan"), "float"),
    (Selection, "participant_label", ("01,02",), "01,02"),
    (Selection, "task_id", "tap", "list"),
    (Selection, "run_id", (-1,), "0"),
    (Preprocessing, "dummy_scans", -1, "0"),
    (Preprocessing, "dummy_scans", True, "int"),
    (Preprocessing, "fd_spike_threshold", 0.0, "0"),
    (Preprocessing, "dvars_spike_threshold", -1.5, "0"),
    (Preprocessing, "slice_time_ref", 1.5, "1"),
    (Preprocessing, "output_spaces", ("MNI 152",), "MNI 152"),
    (Preprocessing, "output_spaces", ("func", "func"), "func"),
    (Preprocessing, "output_spaces", ("A:res-02", "A:res-2"), "A:res-2"),
    (Preprocessing, "output_spaces", ("A:2",), "res-LABEL"),
    (Preprocessing, "output_spaces", ("T1w:res-2",), "res-2"),
    (Preprocessing, "output_spaces", ("anat", "T1w"), "T1w"),
    (Preprocessing, "output_spaces", ("fsaverage5", "fsaverage:den-10k"), "fsaverage:den-10k"),
    (Preprocessing, "output_spaces", ("fsaverage",), "fsaverage:den-10k"),
    (Preprocessing, "output_spaces", ("fsaverage:den-164k",), "fsaverage:den-10k"),
    (Preprocessing, "output_spaces", ("fsLR:den-32k",), "CIFTI"),
    (Preprocessing, "output_spaces", ("T1w:den-10k",), "den-10k"),
    (Activation, "smoothing", (5.0, -1.0), "0"),
    (Activation, "smoothing", (51.0,), "50"),
    (Activation, "smoothing", (5.0, 5.04), "0.1"),
    (Activation, "thresholds", ("3.1", "fdr", "3.10"), "0.1"),
    (Activation, "thresholds", ("half",), "3.1"),
    (Activation, "kinds", ("ccc",), "cc, glm"),
    (Activation, "low_pass", 0.005, "0.005"),
    (Activation, "band_pass", (0.1,), "two"),
    (Activation, "band_pass", (0.1, 0.01), "two"),
    (Activation, "band_pass", (0.0, 0.1), "0"),
    (Activation, "drift", "legendre", "20"),
    (Activation, "drift", "legendre:0", "20"),
    (Activation, "drift", "legendre:21", "20"),
    (Activation, "drift", "spline", "cosine"),
    (Activation, "censor", ("fd:0",), "0"),
    (Activation, "censor", ("enorm:-1",), "0"),
    (Activation, "censor", ("enorm:nan",), "0"),
    (Activation, "censor", ("fd",), "0"),
    (Activation, "censor", ("enrom:.3",), "'enorm'"),
    (Activation, "censor", ("dvars:2",), "enorm"),
    (Activation, "censor", ("fd:.5", "fd:.3"), "fd"),
    (Evaluation, "retrospective", "dirty", "clean, noisy"),
    (Evaluation, "margin", 0.0, "0"),
    (Resources, "nprocs", 0, "1"),
    (Resources, "mem_gb", -1.0, "0"),
    (Resources, "random_seed", 2**32, "4294967295"),
]


@pytest.mark.parametrize(("group", "name", "value", "mentioned"), INVALID)
def test_invalid_values_are_refused(group: type, name: str, value: object, mentioned: str) -> None:
    with pytest.raises(UsageError) as refusal:
        group(**{name: value})
    notice = refusal.value.notice
    assert mentioned == "" or mentions(notice, mentioned) or mentioned in notice.what
    assert notice.remedy


@pytest.mark.parametrize(
    ("group", "values"),
    [
        (Evaluation, {"truth": "x", "retrospective": "clean"}),
        (Run, {"boilerplate_only": True, "reports_only": True}),
        (Resources, {"nprocs": 2, "omp_nthreads": 3}),
    ],
)
def test_values_that_contradict_each_other_are_refused(
    group: type, values: dict[str, object]
) -> None:
    for name, value in values.items():
        group(**{name: value})
    with pytest.raises(UsageError) as refusal:
        group(**values)
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


def test_prefixes_and_duplicates_of_labels_are_removed() -> None:
    selection = Selection(
        participant_label=("sub-01", "01", "02"), session_label=("ses-a",), task_id=("task-tap",)
    )
    assert selection.participant_label == ("01", "02")
    assert (selection.session_label, selection.task_id) == (("a",), ("tap",))


BASELINES = ("bspline", "zerofill", "sdmod", "inject", "ratio")
OTHERS = ("nearest", "linear", "lanczos")


@pytest.mark.parametrize(
    ("methods", "series"),
    [
        (("srgan",), (*BASELINES, "srgan")),
        (("sbl", "srgan"), (*BASELINES, "sbl", "srgan")),
        (("srgan", "linear"), (*BASELINES, "linear", "srgan")),
        (("bspline", "zerofill"), ("bspline", "zerofill")),
        (("lanczos", "all"), (*BASELINES, *OTHERS)),
        (("sbl", "all"), (*BASELINES, *OTHERS, "sbl")),
        (("lanczos",), ("lanczos",)),
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


def test_paths_in_options_become_absolute_and_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container binds the listed files and directories, besides data, output and work."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "atlas.nii.gz").touch()
    (tmp_path / "atlas.tsv").write_text("index\tname\n1\tleft\n")
    settings = Settings(
        paths=PATHS,
        selection=Selection(bids_database_dir=Path("index")),
        superres=SuperRes(pretrained=(Path("net.safetensors"),), calibration="c.nii"),
        preprocessing=Preprocessing(derivatives=("prep=folder", "/fmriprep")),
        activation=Activation(roi=("roi.nii",), atlas="atlas.nii.gz"),
        evaluation=Evaluation(truth="t"),
    ).resolve(run_uuid="u")
    assert settings.evaluation.truth_dir == tmp_path / "t"
    assert settings.activation.atlas == str(tmp_path / "atlas.nii.gz")
    assert settings.preprocessing.derivatives == (f"prep={tmp_path}/folder", "/fmriprep")
    names = ("index", "net.safetensors", "c.nii", "folder", "roi.nii", "atlas.nii.gz", "t")
    assert {*settings.list_paths()} == {*(tmp_path / name for name in names), Path("/fmriprep")}
    assert Settings(paths=PATHS).resolve(run_uuid="u").list_paths() == []


def test_resolved_settings_do_not_depend_on_directory_or_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    relative = Settings(
        paths=Paths(bids_dir=Path("in"), output_dir=Path("~/out")),
        activation=Activation(roi=("roi.nii", "motor")),
    )
    resolved_settings = relative.resolve(run_uuid="u")
    assert resolved_settings.paths.bids_dir == tmp_path / "in"
    assert resolved_settings.paths.output_dir == Path("/home/someone/out")
    assert resolved_settings.activation.roi == (str(tmp_path / "roi.nii"), "motor")
    assert resolved_settings.paths.work_dir is not None
    assert resolved_settings.paths.work_dir.parent == tmp_path / "work"
    assert resolved_settings.resources.nprocs is not None
    assert resolved_settings.resources.omp_nthreads is not None
    assert resolved_settings.run.run_uuid == "u"
    assert resolved_settings.resolve(run_uuid="u") == resolved_settings


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (2, float, 2.0),
        ("none", float | None, None),
        ("none", str | None, None),
        ("none", Path | None, None),
    ],
)
def test_values_are_converted_to_the_annotated_type(
    value: object, annotation: Any, expected: object
) -> None:
    converted = as_annotated(value, annotation, "x")
    assert (converted, type(converted)) == (expected, type(expected))
    with pytest.raises(UsageError, match="x: True"):
        as_annotated(True, float, "x")


def test_default_networks_have_the_coordinates_of_their_source() -> None:
    """Van Dijk et al. 2010, table 1; of bilateral regions, the left one."""
    seeds = choose_seeds(Activation().seeds, with_anat=True)
    assert {seed.name: seed.center for seed in seeds} == {
        "motor": (-36, -25, 57),
        "defaultMode": (0, -53, 26),
        "visual": (-30, -88, 0),
    }
    assert choose_seeds(("motor", "defaultMode", "visual"), with_anat=True) == seeds


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
    with pytest.raises(UsageError, match="v1"):
        Activation(seeds=("v1=Calcarine_L", "v1=Calcarine_R"))
    with pytest.raises(UsageError, match="V1"):
        Activation(seeds=("v1=Calcarine_L", "V1=Calcarine_R"))
    with pytest.raises(UsageError, match="Calcarine_L"):
        Activation(seeds=("Calcarin_L",))
