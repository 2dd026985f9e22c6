"""Test which structural scans ``--sr-target anat`` uses, and its errors."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data.dataset import BidsMaker
from graphmaker import nodes_of

from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings
from bids_sr.io.notices import UsageError
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import save_model
from bids_sr.structural.survey import survey_structural
from bids_sr.survey.bids.inputs import Survey
from bids_sr.survey.preflight.plan_text import dry_run_text
from bids_sr.survey.preflight.voxel_checks import check_data
from bids_sr.workflows.call_checks import check
from bids_sr.workflows.participant import make_graph

FINE, COARSE = (3.0, 3.0, 3.0), (6.0, 6.0, 6.0)


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    return BidsMaker(tmp_path / "bids")


def scans(
    maker: BidsMaker, label: str = "01", contrasts: tuple[str, ...] = ("T1w", "T2w", "FLAIR")
) -> None:
    for contrast in contrasts:
        maker.image(f"sub-{label}_acq-fine_{contrast}.nii.gz", "anat", FINE)
        maker.image(f"sub-{label}_acq-coarse_{contrast}.nii.gz", "anat", COARSE)


def settings_for(maker: BidsMaker, *options: str) -> Settings:
    argv = [
        str(maker.root),
        str(maker.root.parent / "out"),
        "participant",
        "--sr-target",
        "anat",
        *options,
    ]
    return parse_settings(
        [*argv, "--skip-bids-validation", "-w", str(maker.root.parent / "work")]
    ).resolve(run_uuid="x")


def survey_of(maker: BidsMaker, *options: str) -> Survey:
    return survey_structural(settings_for(maker, *options))


def test_pairs_are_in_the_order_of_the_network_channels_and_participants_without_are_skipped(
    maker: BidsMaker,
) -> None:
    scans(maker, "01")
    scans(maker, "02", contrasts=("FLAIR",))
    for label in ("02", "03"):
        maker.image(f"sub-{label}_T1w.nii.gz", "anat", FINE)
    result = survey_of(maker)
    assert result.problems == []
    pairs = {
        subject.label: [
            (pair.contrast, pair.highres.name, pair.lowres.name) for pair in subject.structural
        ]
        for subject in result.subjects
    }
    assert pairs == {
        label: [
            (name, f"sub-{label}_acq-fine_{name}.nii.gz", f"sub-{label}_acq-coarse_{name}.nii.gz")
            for name in contrasts
        ]
        for label, contrasts in (("01", ("T1w", "T2w", "FLAIR")), ("02", ("FLAIR",)))
    }
    notices = [str(notice) for notice in result.notices]
    assert any("sub-02" in notice and "T1w" in notice for notice in notices)
    assert any("sub-03" in notice for notice in notices)
    # A participant that was requested is not skipped.
    (problem,) = survey_of(maker, "--participant-label", "03").problems
    assert problem.what == "sub-03"


def filter_by_label(maker: BidsMaker, labels: str | list[str]) -> list[str]:
    """Return the options that select the scans of all contrasts by their acq- labels."""
    file = maker.root.parent / "filter.json"
    query = {"acquisition": labels}
    file.write_text(json.dumps({"t1w": query, "t2w": query, "flair": query}))
    return ["--bids-filter-file", str(file)]


def test_a_filter_file_selects_scans(maker: BidsMaker) -> None:
    scans(maker, contrasts=("T2w",))
    maker.image("sub-01_acq-middle_T2w.nii.gz", "anat", (4.0, 4.0, 4.0))
    automatic = survey_of(maker)
    assert automatic.subjects[0].structural[0].lowres.name == "sub-01_acq-coarse_T2w.nii.gz"
    assert "3 T2w images were found" in "\n".join(map(str, automatic.notices))
    selected = survey_of(maker, *filter_by_label(maker, ["fine", "middle"]))
    assert selected.subjects[0].structural[0].lowres.name == "sub-01_acq-middle_T2w.nii.gz"


def test_only_methods_for_several_contrasts_are_accepted_and_one_is_the_default(
    maker: BidsMaker,
) -> None:
    scans(maker)
    assert settings_for(maker).superres.chosen == ("attunet",)
    plan = check(settings_for(maker, "--sr-method", "srgan", "unet", "bspline"))
    assert {problem.what for problem in plan.problems} == {
        "--sr-method srgan",
        "--sr-method bspline",
    }
    (problem,) = check(settings_for(maker, "--sr-method", "all")).problems
    assert "attunet all" in problem.remedy
    assert not check(settings_for(maker, "--sr-method", "auto", "all")).problems


@pytest.mark.parametrize(
    "option",
    [
        ["--truth", "x"],
        ["--retrospective"],
        ["--sr-factor", "2"],
        ["--model", "x"],
    ],
)
def test_options_of_functional_runs_are_rejected(maker: BidsMaker, option: list[str]) -> None:
    scans(maker)
    assert [problem.what for problem in survey_of(maker, *option).problems] == [option[0]]


def test_the_plan_names_the_pairs_and_reads_every_scan(maker: BidsMaker) -> None:
    scans(maker, contrasts=("T1w", "FLAIR"))
    settings = settings_for(maker)
    plan = check(settings)
    assert plan.problems == ()
    text = dry_run_text(plan, settings)
    assert "FLAIR: sub-01_acq-fine_FLAIR.nii.gz from sub-01_acq-coarse_FLAIR.nii.gz" in text
    assert "contrasts:" not in text
    assert plan.series == ("bspline", "linear", "attunet")
    every = ("bspline", "nearest", "linear", "lanczos", "attunet")
    assert check(settings_for(maker, "--sr-method", "attunet", "all")).series == every
    assert check_data(plan) == ()
    spoiled = maker.path("sub-01_acq-fine_FLAIR.nii.gz", "anat")
    spoiled.write_bytes(spoiled.read_bytes()[:-200])
    (problem,) = check_data(plan)
    assert problem.what == str(spoiled)
    spoiled.write_bytes(b"nothing")
    assert any(spoiled.name in problem.what for problem in check(settings).problems)


def sets_of(result: Survey) -> dict[str, str]:
    """Return the set of each participant of the split."""
    return {subject.label: subject.split_set for subject in result.split_subjects}


SPLIT = ("--set", "anat.split=40,11,10")


def test_the_split_covers_all_participants_whatever_is_selected(maker: BidsMaker) -> None:
    labels = [f"{number:02d}" for number in range(1, 8)]
    for label in labels:
        scans(maker, label)
    scans(maker, "08", contrasts=("T1w",))
    everybody = survey_of(maker, *SPLIT)
    assert everybody.problems == []
    assert [subject.label for subject in everybody.subjects] == labels
    sets = sets_of(everybody)
    counts = Counter(sets.values())
    assert (counts["training"], counts["validation"], counts["test"]) == (5, 1, 1)
    for label in labels:
        one = survey_of(maker, *SPLIT, "--participant-label", label)
        assert [subject.label for subject in one.subjects] == [label]
        assert (sets_of(one), one.problems) == (sets, [])
    assert sets_of(survey_of(maker, *SPLIT, "--random-seed", "1")) != sets
    notices = "\n".join(map(str, everybody.notices))
    (test,) = (label for label, name in sets.items() if name == "test")
    assert f"test: sub-{test}." in notices
    assert "sub-08" in notices
    (problem,) = survey_of(maker, *SPLIT, "--participant-label", "08").problems
    assert problem.what == "sub-08"
    (problem,) = survey_of(maker, *SPLIT, "--participant-label", "09").problems
    assert problem.what.endswith("sub-09")


def test_a_split_requires_three_participants_with_the_same_contrasts(maker: BidsMaker) -> None:
    scans(maker, "01")
    scans(maker, "02")
    scans(maker, "03", contrasts=("T1w",))
    (problem,) = survey_of(maker, *SPLIT, "--participant-label", "01").problems
    assert problem.what == "--set anat.split=40,11,10"
    assert "at least 3 participants" in problem.why
    assert "there are 2" in problem.why
    with pytest.raises(UsageError, match="three numbers"):
        settings_for(maker, "--set", "anat.split=40,11")


def test_the_alignment_option_reaches_the_plan_and_the_methods_text(
    maker: BidsMaker,
) -> None:
    scans(maker)
    for name, words in (
        ("", "rigid transform"),
        ("affine", "affine transform"),
        ("nonlinear", "deformation"),
        (
            "template-warp",
            "which was aligned to the template, with affine transforms and symmetric",
        ),
    ):
        settings = settings_for(maker, *(("--set", f"anat.align={name}") if name else ()))
        plan = check(settings)
        graph = make_graph(settings, plan, "0")
        [preparation], [summary] = (
            nodes_of(graph, "prepare_scans"),
            nodes_of(graph, "summarize_subject"),
        )
        facts = graph.settings[summary]["subject_facts"]
        assert (
            graph.settings[preparation]["anat_align"]
            == facts["Alignment of the scans"]
            == (name or "rigid")
        )
        assert words in graph.methods_text()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that saves an untrained network of the smallest width, described as
    trained on three contrasts.
    """
    folder = tmp_path_factory.mktemp("models")

    def make(name: str, method: str = "unet", channels: int = 3, **card: object) -> Path:
        network = get_method(method).recipes["fast"].build_generator(channels, (1.0, 1.0, 1.0))
        metadata = {
            "method": method,
            "recipe": "fast",
            "factor": [1.0, 1.0, 1.0],
            "contrast": "T1w+T2w+FLAIR",
            "orientation": "I-S",
            "resolution": {"lowres_mm": [3.0, 3.0, 3.0]},
            "channels": channels,
        }
        return save_model(folder / name, network.state_dict(), {**metadata, **card})[0]

    return make


def test_a_second_or_unused_pretrained_model_is_rejected(
    maker: BidsMaker, model: Callable[..., Path]
) -> None:
    scans(maker)
    first, second = model("first"), model("second")
    assert (
        check(settings_for(maker, "--sr-method", "unet", "--pretrained", str(first))).problems
        == ()
    )
    (problem,) = survey_of(
        maker, "--sr-method", "unet", "--pretrained", str(first), str(second)
    ).problems
    assert problem.what == f"--pretrained {second}"
    assert f"but {first} already specifies a model" in problem.why
    # attunet would be trained instead
    (problem,) = survey_of(maker, "--pretrained", str(first)).problems
    assert "a unet model, but --sr-method does not include this method" in problem.why


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        (
            {"channels": 2, "contrast": "T1w+T2w"},
            "required by the model is 2 (T1w+T2w), but the participant has T1w+T2w+FLAIR",
        ),
        ({"contrast": "T1w+FLAIR+T2w"}, "contrast: the model was trained on T1w+FLAIR+T2w"),
        (
            {"resolution": {"lowres_mm": [1.0, 1.0, 1.0]}},
            "resolution: the model was trained at a resolution of 1 x 1",
        ),
        (
            {"anat_align": "nonlinear"},
            "--set anat.align=nonlinear, but these scans were aligned with --set anat.align=rigid",
        ),
        (
            {"anat_align": "rigid", "anat_scale": "range"},
            "--set anat.scale=range, but these scans were scaled with --set anat.scale=percentile",
        ),
    ],
)
def test_a_pretrained_model_is_compared_with_the_scans_of_every_participant(
    maker: BidsMaker, model: Callable[..., Path], card: dict[str, Any], reason: str
) -> None:
    scans(maker)
    options = ("--sr-method", "unet", "--pretrained", str(model("other", **card)))
    (problem,) = check(settings_for(maker, *options)).problems
    assert problem.what.startswith("sub-01 with --pretrained ")
    assert reason in problem.why
    assert problem.remedy.endswith(".")
    forced = check(settings_for(maker, *options, "--set", "superres.force=true")).problems
    assert bool(forced) == ("channels" in card)  # another number of channels is another network


@pytest.mark.parametrize(
    ("options", "scale", "words"),
    [
        ((), "percentile", "mean intensity in the brain"),
        (("--recipe", "paper"), "range", "the minimum was 0 and the maximum was 1"),
        (("--recipe", "paper", "--set", "anat.scale=percentile"), "percentile", "mean intensity"),
        (("--set", "anat.scale=range"), "range", "the minimum was 0 and the maximum was 1"),
    ],
)
def test_the_paper_recipe_scales_scans_by_their_range(
    maker: BidsMaker, options: tuple[str, ...], scale: str, words: str
) -> None:
    scans(maker)
    settings = settings_for(maker, *options)
    graph = make_graph(settings, check(settings), "0")
    for name in ("prepare_scans", "train_on_scans"):
        [placed] = nodes_of(graph, name)
        assert graph.settings[placed]["anat_scale"] == scale
    assert words in graph.methods_text()


def controls(maker: BidsMaker, label: str = "02") -> None:
    """Write high-resolution scans only: two contrasts at baseline, one of them also in thick
    slices, and one later.
    """
    for session, contrasts in (("base", ("T1w", "FLAIR")), ("m1", ("T1w",))):
        for contrast in contrasts:
            maker.image(f"sub-{label}_ses-{session}_{contrast}.nii.gz", "anat", FINE)
    maker.image(f"sub-{label}_ses-base_acq-thick_T1w.nii.gz", "anat", (3.0, 3.0, 3.6))


def test_control_scans_are_measured_by_session(maker: BidsMaker) -> None:
    scans(maker)
    controls(maker)
    assert [subject.label for subject in survey_of(maker).subjects] == ["01"]
    result = survey_of(maker, "--set", "anat.control=true")
    assert not result.problems
    assert not [notice for notice in result.notices if "one resolution" in str(notice)]
    first, second = result.subjects
    assert (len(first.structural), first.controls) == (3, ())
    assert second.structural == ()
    names = [[scan.highres.name for scan in session] for session in second.controls]
    assert names == [
        ["sub-02_ses-base_T1w.nii.gz", "sub-02_ses-base_FLAIR.nii.gz"],
        ["sub-02_ses-m1_T1w.nii.gz"],
    ]
    assert {path.name for path in second.images} == {
        name for session_names in names for name in session_names
    }
    settings = settings_for(maker, "--set", "anat.control=true")
    plan = check(settings)
    assert not plan.problems
    graph = make_graph(settings, plan, "0")
    assert len(nodes_of(graph, "train_on_scans")) == 1
    suffixes = [
        graph.settings[node]["suffixes"]
        for node in nodes_of(graph, "prepare_scans")
        if "lowres_files" not in graph.wires[node]
    ]
    assert suffixes == [("T1w", "FLAIR"), ("T1w",)]
    metrics_nodes = [node for node in graph.nodes if node.name == "store_scan_metrics"]
    sessions = [graph.settings[node]["entities"] for node in metrics_nodes]
    assert {"subject": "02", "session": "m1", "datatype": "anat"} in sessions
    assert "only high-resolution scans" in dry_run_text(plan, settings)


def lowres(maker: BidsMaker, label: str, *contrasts: str, session: str = "") -> None:
    """Write low-resolution scans only."""
    ses = f"_ses-{session}" if session else ""
    for contrast in contrasts:
        maker.image(f"sub-{label}{ses}_{contrast}.nii.gz", "anat", COARSE)


def test_low_resolution_scans_are_super_resolved_by_a_pretrained_model(
    maker: BidsMaker, model: Callable[..., Path]
) -> None:
    lowres(maker, "01", "T1w", "T2w", "FLAIR")
    options = ("--sr-method", "unet", "--pretrained", str(model("others")))
    settings = settings_for(maker, *options)
    plan = check(settings)
    assert not plan.problems
    (subject,) = plan.subjects
    assert subject.structural == ()
    assert [[scan.contrast for scan in session] for session in subject.lowres] == [
        ["T1w", "T2w", "FLAIR"]
    ]
    assert not [notice for notice in plan.warnings if "one resolution" in str(notice)]
    assert "sub-01_T1w.nii.gz, sub-01_T2w.nii.gz, sub-01_FLAIR.nii.gz" in (
        dry_run_text(plan, settings)
    )
    graph = make_graph(settings, plan, "0")
    (prepared,) = nodes_of(graph, "prepare_scans")
    assert graph.settings[prepared]["grid_mm"] == (3.0, 3.0, 3.0)
    assert graph.settings[prepared]["grid_orientation"] == "I-S"
    assert not nodes_of(graph, "measure_scans")
    assert len(nodes_of(graph, "super_resolve_scans")) == 1
    assert "3 × 3 × 3 mm" in graph.methods_text()


def test_low_resolution_scans_are_processed_with_pairs_and_controls(
    maker: BidsMaker, model: Callable[..., Path]
) -> None:
    scans(maker)
    controls(maker)
    for session in ("a", "b"):
        lowres(maker, "03", "T1w", "T2w", "FLAIR", session=session)
    lowres(maker, "04", "T1w")
    maker.image("sub-03_ses-b_acq-thick_T1w.nii.gz", "anat", (6.0, 6.0, 7.0))
    options = ("--sr-method", "unet", "--pretrained", str(model("several")))
    result = survey_of(maker, *options, "--set", "anat.control=true")
    assert not result.problems
    first, second, third, fourth = result.subjects
    assert (len(first.structural), first.lowres) == (3, ())
    assert (len(second.controls), second.lowres) == (2, ())
    assert [scans_[0].path.name for scans_ in third.lowres] == [
        "sub-03_ses-a_T1w.nii.gz",
        "sub-03_ses-b_T1w.nii.gz",
    ]
    assert not [text for text in map(str, result.notices) if "not super-resolved" in text]
    assert ("2 low-resolution T1w images were found; this image is used") in "\n".join(
        map(str, result.notices)
    )
    assert (fourth.lowres, len(fourth.controls)) == ((), 1)
    assert {path.name for path in third.images} == {
        f"sub-03_ses-{session}_{contrast}.nii.gz"
        for session in "ab"
        for contrast in ("T1w", "T2w", "FLAIR")
    }
    settings = settings_for(maker, *options)
    plan = check(settings)
    assert not plan.problems
    assert [subject.label for subject in plan.subjects] == ["01", "03"]
    notices = "\n".join(map(str, plan.warnings))
    assert "sub-04: the --pretrained model requires low-resolution" in notices
    assert len(nodes_of(make_graph(settings, plan, "0"), "draw_lowres")) == 2


def test_low_resolution_scans_without_a_suitable_model_are_rejected(
    maker: BidsMaker, model: Callable[..., Path]
) -> None:
    lowres(maker, "01", "T1w", "T2w", "FLAIR")
    (problem,) = survey_of(maker, "--sr-method", "unet").problems
    assert "--pretrained" in problem.remedy
    method = ("--sr-method", "unet", "--pretrained")
    # 216 mm3 are less than 1.5 times 5.5 mm cubed
    size = {"resolution": {"lowres_mm": [5.5, 5.5, 5.5]}}
    (problem,) = survey_of(maker, *method, str(model("similar", **size))).problems
    assert problem.what == "sub-01"
    assert (
        "5.5 x 5.5 x 5.5 mm (their voxel volume must be at least 1.5 times as large)"
        in problem.why
    )
    aligned = str(model("aligned", anat_align="affine"))
    (problem,) = check(settings_for(maker, *method, aligned)).problems
    assert "these scans were aligned with --set anat.align=rigid" in problem.why
    assert not check(settings_for(maker, *method, aligned, "--set", "anat.align=affine")).problems
    # a second method without a model would have to be trained
    options = ("--sr-method", "unet", "vit", "--pretrained", str(model("one")))
    (problem,) = survey_of(maker, *options).problems
    assert "two resolutions" in problem.why


@pytest.mark.parametrize("method", ["cpce", "circle"])
def test_networks_of_one_contrast_need_no_measured_low_resolution_scan(
    maker: BidsMaker, method: str
) -> None:
    for label in ("01", "02", "03"):
        maker.image(f"sub-{label}_T2w.nii.gz", "anat", FINE)
    maker.image("sub-02_FLAIR.nii.gz", "anat", FINE)
    settings = settings_for(maker, "--sr-method", method, *SPLIT)
    plan = check(settings)
    assert plan.problems == ()
    assert {subject.contrasts for subject in plan.subjects} == {("T2w",)}
    assert all(subject.structural[0].lowres is None for subject in plan.subjects)
    graph = make_graph(settings, plan, "0")
    for node in nodes_of(graph, "prepare_scans"):
        assert node.settings["crop_factor"] == (2.0, 2.0, 1.0)
        assert not node.inputs.get("lowres_files")
    assert len(nodes_of(graph, "train_on_scans")) == 1
    text = graph.methods_text()
    assert "central quarter of k-space" in text
    assert "acquired resolution" not in text
    mixed = check(settings_for(maker, "--sr-method", "unet", method))
    assert f"--sr-method {method}" in {problem.what for problem in mixed.problems}
    notices = {
        split: "\n".join(map(str, survey_of(maker, "--sr-method", method, *options).notices))
        for split, options in (
            (False, ("--recipe", "paper")),
            (True, ("--recipe", "paper", *SPLIT)),
        )
    }
    assert ("not compared" in notices[False], "not compared" in notices[True]) == (True, False)
    for path in maker.root.glob("sub-*/anat/*"):
        path.unlink()
    (problem,) = check(settings_for(maker, "--sr-method", method)).problems
    assert problem.why == "no T1w, T2w or FLAIR scan was found"
