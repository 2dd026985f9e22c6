"""Find the high-resolution reference of a run by labels, and reject references of another run,
grid or participant.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from data.dataset import FOV, BidsMaker, affine_for, snapshot

from bids_sr.bids.reference_runs import _FOUND_IN_DATASET, _REFERENCE_FOLDERS
from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.execution.execute import RunOutcome
from bids_sr.preflight import Plan, check, check_data, drop_unfit_references
from bids_sr.preflight.exclusions import describe_skipped_runs

METHOD_OPTIONS = ["--sr-method", "sbl", "--sr-factor", "2"]
FINE = (3.0, 3.0, 4.0)
TIMES = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BidsMaker:
    """Return a run without pair; its reference repeats the low-resolution voxels."""
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "templateflow"))
    monkeypatch.chdir(tmp_path)
    data = BidsMaker(tmp_path / "bids")
    rng = np.random.default_rng(0)
    coarse = (
        500 + 100 * rng.random((8, 8, 6, 1)) + 40 * rng.standard_normal((8, 8, 6, 30))
    ).astype("int16")
    data.bold(data=coarse, sidecar={"SliceTiming": TIMES})
    data.events()
    data.t1w()
    truth = truth_of(data)
    truth.bold(zooms=FINE, data=coarse.repeat(2, 0).repeat(2, 1), sidecar={"SliceTiming": TIMES})
    truth.events()
    return data


def truth_of(maker: BidsMaker) -> BidsMaker:
    return BidsMaker(maker.root.parent / "truth")


def argv(maker: BidsMaker, *extra: str) -> list[str]:
    required = [
        str(maker.root),
        str(maker.root.parent / "out"),
        "participant",
        "--skip-bids-validation",
        *METHOD_OPTIONS,
    ]
    return [*required, "--truth", str(maker.root.parent / "truth"), *extra]


def planned(maker: BidsMaker, *extra: str) -> Plan:
    return check(parse_settings(argv(maker, *extra)).resolve(run_uuid="x"))


def activation(maker: BidsMaker, condition: str, space: str = "", **image: object) -> Path:
    """Write a known effect of one condition, named as in the phantom except for `space`."""
    name = (
        f"sub-01_task-tap_{space}res-hr_contrast-{condition}_stat-effect_desc-truth_statmap.nii.gz"
    )
    return maker.image(name, "func", FINE, **image)  # type: ignore[arg-type]


def test_the_high_resolution_series_is_found(maker: BidsMaker) -> None:
    plan = planned(maker)
    assert plan.problems == ()
    truth = plan.subjects[0].runs[0].truth
    assert truth is not None
    assert truth.series is not None
    assert truth.series.bold == maker.root.parent / "truth/sub-01/func/sub-01_task-tap_bold.nii.gz"
    assert truth.series is not None
    assert truth.series.slice_timing == tuple(TIMES)
    assert truth.series.sidecar["RepetitionTime"] == 1.0
    assert truth.activations == {}
    assert check_data(plan) == ()


def planned_without_option(maker: BidsMaker, *extra: str) -> Plan:
    arguments = [
        part
        for part in argv(maker, *extra)
        if part not in ("--truth", str(maker.root.parent / "truth"))
    ]
    return check(parse_settings(arguments).resolve(run_uuid="x"))


def test_series_in_other_spaces_are_not_references_of_the_run(maker: BidsMaker) -> None:
    truth = truth_of(maker)
    truth.bold("sub-01_task-tap_space-MNI152NLin2009cAsym", zooms=FINE)
    plan = planned(maker)
    assert plan.problems == ()
    reference = plan.subjects[0].runs[0].truth
    assert reference is not None
    assert reference.series is not None
    assert reference.series.bold.name == TRUTH


def test_a_reference_outside_the_dataset_is_not_searched_without_the_option(
    maker: BidsMaker,
) -> None:
    assert planned_without_option(maker).subjects[0].runs[0].truth is None


@pytest.mark.parametrize("place", _REFERENCE_FOLDERS)
def test_a_reference_in_the_dataset_is_used_and_reported(place: str, maker: BidsMaker) -> None:
    root = maker.root / place
    shutil.copytree(truth_of(maker).root, root)
    plan = planned_without_option(maker)
    truth = plan.subjects[0].runs[0].truth
    assert truth is not None
    assert truth.series is not None
    assert (truth.root, truth.series.bold) == (
        root,
        root / "sub-01/func/sub-01_task-tap_bold.nii.gz",
    )
    assert any(
        notice.what == str(root) and "--truth none" in notice.why for notice in plan.warnings
    )
    for options in (
        ["--truth", "none"],
        ["--retrospective"],
        ["--truth", str(truth_of(maker).root)],
    ):
        arguments = [*(argv(maker) if options[0] == "--truth" else argv(maker)[:-2]), *options]
        reference = (
            check(parse_settings(arguments).resolve(run_uuid="x")).subjects[0].runs[0].truth
        )
        assert reference is None or reference.root == truth_of(maker).root


def test_an_unfit_reference_in_the_dataset_is_reported_and_not_used(
    maker: BidsMaker,
) -> None:
    shutil.copytree(truth_of(maker).root, maker.root / _REFERENCE_FOLDERS[0])
    BidsMaker(maker.root / _REFERENCE_FOLDERS[0]).bold(zooms=FINE, n_volumes=29)
    plan = planned_without_option(maker)
    assert plan.problems == ()
    assert plan.subjects[0].runs[0].truth is None
    assert any(
        "this high-resolution reference cannot be used for sub-01_task-tap: the series has 29"
        " volumes" in n.why
        for n in plan.warnings
    )


@pytest.mark.parametrize("suffix", ["bold.nii.gz", "bold.json"])
def test_a_reference_in_the_dataset_not_downloaded_is_reported(
    suffix: str, maker: BidsMaker
) -> None:
    root = maker.root / _REFERENCE_FOLDERS[0]
    shutil.copytree(truth_of(maker).root, root)
    file = root / "sub-01" / "func" / f"sub-01_task-tap_{suffix}"
    file.unlink()
    file.symlink_to("../../.git/annex/objects/nowhere")
    plan = planned_without_option(maker)
    assert plan.problems == ()
    assert plan.subjects[0].runs[0].truth is None
    assert any(n.what == str(file) and "has not been downloaded" in n.why for n in plan.warnings)


def test_a_reason_that_excludes_several_runs_is_reported_once(
    maker: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    """Participant 02 has three runs and no reference."""
    for run in (1, 2, 3):
        maker.bold(f"sub-02_task-tap_run-{run}")
        maker.events(f"sub-02_task-tap_run-{run}")
    plan = planned(maker)
    assert len(plan.skipped) == 3
    (text,) = describe_skipped_runs(plan.skipped)
    assert "run-1, sub-02_task-tap_run-2, sub-02_task-tap_run-3" in text
    assert main(argv(maker, "--strict")) == 2
    assert capsys.readouterr().err.count("no high-resolution reference for sub-02") == 1


def test_known_activation_is_not_a_reference_of_a_resting_state_run(maker: BidsMaker) -> None:
    inner = BidsMaker(maker.root / "derivatives" / "ground-truth")
    activation(inner, "thumb")
    truth = planned_without_option(maker).subjects[0].runs[0].truth
    assert truth is not None
    assert set(truth.activations) == {"thumb"}
    assert planned_without_option(maker, "--ignore", "events").subjects[0].runs[0].truth is None


def test_known_networks_are_a_reference_of_a_resting_state_run(maker: BidsMaker) -> None:
    """Networks of the resting-state phantom have the names of the default seeds."""
    activation(BidsMaker(maker.root / "derivatives" / "ground-truth"), "motor")
    maker.path("sub-01_task-tap_events.tsv", "func").unlink()
    truth = planned_without_option(maker).subjects[0].runs[0].truth
    assert truth is not None
    assert set(truth.activations) == {"motor"}
    assert (
        planned_without_option(maker, "--set", "activation.seeds=hand=-38,-24,58")
        .subjects[0]
        .runs[0]
        .truth
        is None
    )


@pytest.mark.parametrize("space", ["", "space-boldref_"])
def test_known_activation_is_found(maker: BidsMaker, space: str) -> None:
    reference_data = truth_of(maker)
    for name in ("bold.nii.gz", "events.tsv"):
        reference_data.path(f"sub-01_task-tap_{name}", "func").unlink()
    files = {
        condition: activation(reference_data, condition, space)
        for condition in ("thumb", "little")
    }
    plan = planned(maker)
    assert plan.problems == ()
    reference = plan.subjects[0].runs[0].truth
    assert reference is not None
    assert reference.series is None
    assert reference.activations == files


def test_slice_times_of_the_reference_are_ignored_on_request(maker: BidsMaker) -> None:
    truth = planned(maker, "--ignore", "slicetiming").subjects[0].runs[0].truth
    assert truth is not None
    assert truth.series is not None
    assert truth.series.slice_timing is None


def test_slice_times_of_the_run_are_used_if_the_reference_has_none(maker: BidsMaker) -> None:
    sidecar = truth_of(maker).path("sub-01_task-tap_bold.json", "func")
    maker.json(sidecar, {"RepetitionTime": 1.0})
    plan = planned(maker)
    truth = plan.subjects[0].runs[0].truth
    assert truth is not None
    assert truth.series is not None
    assert truth.series.slice_timing == tuple(TIMES)
    assert any("the slice times of the run are used" in str(notice) for notice in plan.warnings)


def test_metadata_of_the_reference_is_inherited(maker: BidsMaker) -> None:
    truth = truth_of(maker)
    truth.path("sub-01_task-tap_bold.json", "func").unlink()
    truth.json(truth.root / "task-tap_bold.json", {"RepetitionTime": 1.0, "Origin": "root"})
    truth.json(truth.root / "task-rest_bold.json", {"RepetitionTime": 3.0})
    reference = planned(maker).subjects[0].runs[0].truth
    assert reference is not None
    assert reference.series is not None
    assert reference.series.sidecar == {"RepetitionTime": 1.0, "Origin": "root"}


def test_run_labels_are_compared_as_numbers(maker: BidsMaker) -> None:
    truth = truth_of(maker)
    for dataset, number in ((maker, "01"), (truth, "1")):
        for end in ("bold.nii.gz", "bold.json", "events.tsv"):
            path = dataset.path(f"sub-01_task-tap_{end}", "func")
            path.rename(path.with_name(f"sub-01_task-tap_run-{number}_{end}"))
    plan = planned(maker)
    assert plan.problems == ()
    assert plan.subjects[0].runs[0].truth is not None


@dataclass(frozen=True, kw_only=True)
class Case:
    """An unfit reference and the expected message."""

    spoil: Callable[[BidsMaker, BidsMaker], list[str] | None]
    file: str
    reason: str
    fix: str


def _missing_directory(maker: BidsMaker, truth: BidsMaker) -> list[str]:
    return ["--truth", "nowhere"]


def _no_images(maker: BidsMaker, truth: BidsMaker) -> list[str]:
    (maker.root.parent / "empty").mkdir()
    return ["--truth", "empty"]


def _run_itself(maker: BidsMaker, truth: BidsMaker) -> list[str]:
    return ["--truth", str(maker.root)]


def _copied(maker: BidsMaker, truth: BidsMaker) -> None:
    path = truth.path("sub-01_task-tap_bold.nii.gz", "func")
    path.unlink()
    os.link(maker.path("sub-01_task-tap_bold.nii.gz", "func"), path)


def _other_subject(maker: BidsMaker, truth: BidsMaker) -> None:
    (truth.root / "sub-01").rename(truth.root / "sub-02")


def _other_run(maker: BidsMaker, truth: BidsMaker) -> None:
    path = truth.path("sub-01_task-tap_bold.nii.gz", "func")
    path.rename(path.with_name("sub-01_task-rest_bold.nii.gz"))


def _two_series(maker: BidsMaker, truth: BidsMaker) -> None:
    truth.bold("sub-01_task-tap_acq-b", zooms=FINE)


def _fewer_volumes(maker: BidsMaker, truth: BidsMaker) -> None:
    truth.bold(zooms=FINE, n_volumes=29)


def _other_repetition_time(maker: BidsMaker, truth: BidsMaker) -> None:
    truth.bold(zooms=FINE, tr=2.0)


def _other_matrix(maker: BidsMaker, truth: BidsMaker) -> None:
    truth.bold(zooms=(2.0, 2.0, 4.0))


def _same_matrix(maker: BidsMaker, truth: BidsMaker) -> None:
    truth.bold(zooms=(6.0, 6.0, 4.0))


def _map_in_t1w_space(maker: BidsMaker, truth: BidsMaker) -> None:
    activation(truth, "thumb", "space-T1w_")


def _series_in_t1w_space(maker: BidsMaker, truth: BidsMaker) -> None:
    truth.path(TRUTH, "func").unlink()
    truth.bold("sub-01_task-tap_space-T1w", zooms=FINE)


def _shifted_series(maker: BidsMaker, truth: BidsMaker) -> None:
    truth.bold(zooms=FINE, shift=(1.5, 0, 0))


def _flipped_series(maker: BidsMaker, truth: BidsMaker) -> None:
    """Store the voxels of the reference from right to left."""
    import nibabel as nb

    path = truth.path("sub-01_task-tap_bold.nii.gz", "func")
    image = nb.load(path)
    affine = image.affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] += image.affine[:3, 0] * (image.shape[0] - 1)
    nb.Nifti1Image(np.asarray(image.dataobj)[::-1], affine, image.header).to_filename(path)


def _larger_voxels(maker: BidsMaker, truth: BidsMaker) -> None:
    """Write a series of the same matrix with larger voxels, and therefore a larger field of
    view.
    """
    path = truth.path("sub-01_task-tap_bold.nii.gz", "func")
    import nibabel as nb

    affine = affine_for((3.3, 3.3, 4.0), fov=(1.1 * FOV[0], 1.1 * FOV[1], FOV[2]))
    image = nb.Nifti1Image(np.ones((16, 16, 6, 30), "int16"), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 1.0
    nb.save(image, path)


def _events_in_latin1(maker: BidsMaker, truth: BidsMaker) -> None:
    table = truth.path("sub-01_task-tap_events.tsv", "func")
    table.write_bytes(table.read_text().replace("thumb", "pouce gelé").encode("latin-1"))


def _other_events(maker: BidsMaker, truth: BidsMaker) -> None:
    truth.events(
        rows=(
            (3.0, 4.0, "thumb"),
            (8.0, 4.0, "little"),
            (14.0, 4.0, "thumb"),
            (19.0, 4.0, "little"),
        )
    )


def _truncated(maker: BidsMaker, truth: BidsMaker) -> None:
    truth.path("sub-01_task-tap_bold.nii.gz", "func").write_bytes(b"no image")


def _bad_sidecar(maker: BidsMaker, truth: BidsMaker) -> None:
    truth.path("sub-01_task-tap_bold.json", "func").write_text("{")


def _map_elsewhere(maker: BidsMaker, truth: BidsMaker) -> None:
    activation(truth, "thumb", shift=(0, 3.0, 0))


def _map_of_four_dimensions(maker: BidsMaker, truth: BidsMaker) -> None:
    activation(truth, "thumb", n_volumes=3)


TRUTH = "sub-01_task-tap_bold.nii.gz"
CASES = {
    "no directory": Case(
        spoil=_missing_directory,
        file="--truth",
        reason="directory not found",
        fix="Check the path",
    ),
    "no images": Case(
        spoil=_no_images,
        file="--truth",
        reason="no sub-… directory",
        fix="A reference is a high-resolution series named sub-…/func",
    ),
    "the run itself": Case(
        spoil=_run_itself,
        file=TRUTH,
        reason="the file is identical to the run",
        fix="another directory",
    ),
    "a link to the run": Case(
        spoil=_copied,
        file=TRUTH,
        reason="the file is identical to the run",
        fix="another directory",
    ),
    "another subject": Case(
        spoil=_other_subject,
        file="sub-01",
        reason="no high-resolution reference",
        fix="--participant-label sub-02",
    ),
    "another run": Case(
        spoil=_other_run,
        file="sub-01",
        reason="reference was found for sub-01_task-tap, only references for other runs",
        fix="for this run",
    ),
    "two series": Case(
        spoil=_two_series,
        file="sub-01",
        reason="several series match the reference",
        fix="Keep only one",
    ),
    "fewer volumes": Case(
        spoil=_fewer_volumes,
        file=TRUTH,
        reason=f"29 volumes, but {TRUTH} has 30",
        fix="series of this run",
    ),
    "another repetition time": Case(
        spoil=_other_repetition_time,
        file=TRUTH,
        reason=f"repetition time of the series is 2 s, but the repetition time of {TRUTH} is 1 s",
        fix="correct the repetition time",
    ),
    "another matrix": Case(
        spoil=_other_matrix,
        file=TRUTH,
        reason="matrix size 24×24×6 is larger than the high-resolution matrix size 16×16×6"
        f", given the super-resolution factor 2×2×1 and the matrix size of {TRUTH}",
        fix="at the high resolution of the run",
    ),
    "no finer than the run": Case(
        spoil=_same_matrix,
        file=TRUTH,
        reason="8×8×6 is smaller than the high-resolution matrix size 16×16×6",
        fix="--sr-factor",
    ),
    "moved": Case(
        spoil=_shifted_series,
        file=TRUTH,
        reason="up to 1.5 mm (0.25 acquired voxels), but at most 0.3 mm",
        fix="same field of view",
    ),
    "stored from right to left": Case(
        spoil=_flipped_series,
        file=TRUTH,
        reason="the voxels are stored in another order (LAS)",
        fix="axes and directions of the run",
    ),
    "another field of view": Case(
        spoil=_larger_voxels,
        file=TRUTH,
        reason=f"field of view differs from {TRUTH}",
        fix="field of view",
    ),
    "other events": Case(
        spoil=_other_events,
        file="events.tsv",
        reason="4 events differ in onset, duration or trial type from the 4 events in",
        fix="shift the onsets",
    ),
    "events in latin-1": Case(
        spoil=_events_in_latin1,
        file="events.tsv",
        reason="not encoded in UTF-8: line 2",
        fix="UTF-8 text",
    ),
    "no image": Case(
        spoil=_truncated, file=TRUTH, reason="header cannot be read", fix="Copy the file"
    ),
    "bad sidecar": Case(
        spoil=_bad_sidecar,
        file="bold.json",
        reason="cannot be read as JSON",
        fix="Correct the file",
    ),
    "map elsewhere": Case(
        spoil=_map_elsewhere, file="statmap", reason="up to 3 mm (", fix="same field of view"
    ),
    "map in T1w space": Case(
        spoil=_map_in_t1w_space,
        file="space-T1w_res-hr_contrast-thumb",
        reason="space-T1w in the file name is not the space of the run",
        fix="space-boldref",
    ),
    "series in T1w space": Case(
        spoil=_series_in_t1w_space,
        file="space-T1w_bold",
        reason="space-T1w in the file name is not the space of the run",
        fix="space-boldref",
    ),
    "map of four dimensions": Case(
        spoil=_map_of_four_dimensions,
        file="statmap",
        reason="not a 3D",
        fix="one 3D map per condition",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_unfit_reference_is_rejected(
    name: str, maker: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    arguments = argv(maker, *(case.spoil(maker, truth_of(maker)) or ()))
    before = snapshot(maker.root.parent)
    problems = check(parse_settings(arguments).resolve(run_uuid="x")).problems
    matches = [
        p
        for p in problems
        if case.file in p.what and case.reason in p.why and case.fix in p.remedy
    ]
    assert len(matches) == 1, "\n".join(map(str, problems))
    assert main(arguments) == 2
    assert case.reason in capsys.readouterr().err
    assert snapshot(maker.root.parent) == before


@pytest.mark.parametrize(("delay", "fits"), [(0.0002, True), (0.0009, True), (0.002, False)])
def test_events_agree_within_a_millisecond(maker: BidsMaker, delay: float, *, fits: bool) -> None:
    rows = ((3.0004, 4.0, "thumb"), (3.0004, 4.0, "little"), (12.0, 4.0, "little"))
    maker.events(rows=rows)
    shifted_rows = [
        (onset + delay * (kind == "thumb"), *rest, kind) for onset, *rest, kind in rows
    ]
    truth_of(maker).events(rows=tuple(shifted_rows))
    assert (planned(maker).problems == ()) is fits


def test_the_dataset_as_reference_suggests_its_ground_truth(maker: BidsMaker) -> None:
    inner = maker.root / "derivatives" / "ground-truth"
    inner.mkdir(parents=True)
    (problem,) = planned(maker, "--truth", str(maker.root)).problems
    assert problem.remedy == f"Use {inner}."


def _noise_of_another_run(maker: BidsMaker) -> None:
    data = np.random.default_rng(1).integers(50, 1000, (16, 16, 6, 30)).astype("int16")
    truth_of(maker).bold(zooms=FINE, data=data, sidecar={"SliceTiming": TIMES})


def _same_head_other_run(maker: BidsMaker) -> None:
    """Write a series with the same anatomy and the fluctuations of another run."""
    import nibabel as nb

    mean_image = (
        nb.load(maker.path(TRUTH, "func"))
        .get_fdata()
        .mean(-1, keepdims=True)
        .repeat(2, 0)
        .repeat(2, 1)
    )
    data = mean_image + 40 * np.random.default_rng(2).standard_normal((16, 16, 6, 30))
    truth_of(maker).bold(zooms=FINE, data=data.astype("int16"), sidecar={"SliceTiming": TIMES})


def _halved(maker: BidsMaker) -> None:
    import nibabel as nb

    data = nb.load(truth_of(maker).path(TRUTH, "func")).get_fdata() / 2
    truth_of(maker).bold(zooms=FINE, data=data.astype("int16"), sidecar={"SliceTiming": TIMES})


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_noise_of_another_run, "another participant"),
        (_same_head_other_run, "another run"),
        (_halved, "0.5 times"),
    ],
)
def test_images_of_another_run_are_rejected(
    spoil: Callable[[BidsMaker], None], says: str, maker: BidsMaker
) -> None:
    spoil(maker)
    plan = planned(maker)
    assert plan.problems == ()
    (problem,) = check_data(plan)
    assert says in problem.why
    assert problem.what.endswith(TRUTH)


def test_a_noisier_reference_is_accepted(maker: BidsMaker) -> None:
    import nibabel as nb

    path = truth_of(maker).path(TRUTH, "func")
    data = nb.load(path).get_fdata() + 60 * np.random.default_rng(3).standard_normal(
        (16, 16, 6, 30)
    )
    truth_of(maker).bold(zooms=FINE, data=data.astype("int16"), sidecar={"SliceTiming": TIMES})
    assert check_data(planned(maker)) == ()


def _cut_data(maker: BidsMaker) -> None:
    path = truth_of(maker).path(TRUTH, "func")
    path.write_bytes(path.read_bytes()[:-2000])


@pytest.mark.parametrize(
    "spoil", [_noise_of_another_run, _same_head_other_run, _halved, _cut_data]
)
def test_a_reference_in_the_dataset_with_other_intensities_is_reported_and_not_used(
    spoil: Callable[[BidsMaker], None],
    maker: BidsMaker,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil(maker)
    shutil.move(truth_of(maker).root, maker.root / _REFERENCE_FOLDERS[0])
    plans: list[Plan] = []

    def run(settings: object, plan: Plan, print_line: object) -> RunOutcome:
        plans.append(plan)
        return RunOutcome()

    monkeypatch.setattr("bids_sr.cli.participant_level.run_participants", run)
    line = [
        str(maker.root),
        str(maker.root.parent / "out"),
        "participant",
        "--skip-bids-validation",
        *METHOD_OPTIONS,
    ]
    assert main([*line, "-w", str(maker.root.parent / "work")]) == 0
    (plan,) = plans
    (remaining_run,) = plan.subjects[0].runs
    assert remaining_run.truth is None
    assert any(
        "this high-resolution reference cannot be used for sub-01_task-tap: " in notice.why
        for notice in plan.warnings
    )
    assert not any(notice.why == _FOUND_IN_DATASET for notice in plan.warnings)
    shown = " ".join(capsys.readouterr().out.split())
    assert "this high-resolution reference cannot be used for sub-01_task-tap" in shown


def test_a_reference_shared_by_two_runs_is_dropped_for_the_run_it_does_not_fit(
    maker: BidsMaker,
) -> None:
    """Runs of one task that differ in their acquisition share a reference without that label."""
    data = np.random.default_rng(1).integers(50, 1000, (8, 8, 6, 30)).astype("int16")
    maker.bold("sub-01_task-tap_acq-b", data=data, sidecar={"SliceTiming": TIMES})
    maker.events("sub-01_task-tap_acq-b")
    shutil.move(truth_of(maker).root, maker.root / _REFERENCE_FOLDERS[0])
    plan = planned_without_option(maker)
    assert all(run.truth is not None for run in plan.subjects[0].runs)
    plan, problems = drop_unfit_references(plan, check_data(plan))
    assert not problems
    assert {run.stem: run.truth is not None for run in plan.subjects[0].runs} == {
        "sub-01_task-tap": True,
        "sub-01_task-tap_acq-b": False,
    }
    assert any(notice.why == _FOUND_IN_DATASET for notice in plan.warnings)


def test_an_unfit_reference_with_another_label_excludes_only_its_run(
    maker: BidsMaker,
) -> None:
    """Acquisition labels are not compared; the measured run may have another label."""
    truth = truth_of(maker)
    maker.bold("sub-01_task-rest", sidecar={"SliceTiming": TIMES})
    truth.bold("sub-01_task-rest", zooms=FINE, sidecar={"SliceTiming": TIMES})
    for suffix in ("bold.nii.gz", "bold.json", "events.tsv"):
        truth.path(f"sub-01_task-tap_{suffix}", "func").unlink(missing_ok=True)
    truth.bold("sub-01_task-tap_acq-hr", zooms=FINE, n_volumes=29)
    plan = planned(maker)
    assert plan.problems == ()
    assert list(plan.skipped) == ["sub-01_task-tap"]
    assert [run.stem for run in plan.subjects[0].runs] == ["sub-01_task-rest"]
