"""Find the high-resolution reference of a run by labels, and reject references of another run,
grid or participant.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import nibabel as nb
import numpy as np
import pytest
from data.calls import Cases, about, arguments, only_run, plan_for, problem_of, settings_for
from data.dataset import FOV, BidsMaker, affine_for

from bids_sr.cli.main import main
from bids_sr.engine.execute import RunOutcome
from bids_sr.survey.bids.reference_runs import find_reference, require_reference_root
from bids_sr.survey.bids.related_runs import read_run
from bids_sr.survey.notices import InputError
from bids_sr.survey.preflight.exclusions import describe_skipped_runs
from bids_sr.survey.preflight.plan import Plan
from bids_sr.survey.preflight.unfit_references import drop_unfit_references
from bids_sr.survey.preflight.voxel_checks import check_data

OPTIONS = ("--sr-method", "sbl", "--sr-factor", "2")
FINE = (3.0, 3.0, 4.0)
TIMES = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
STEM = "sub-01_task-tap"
SERIES = f"{STEM}_bold.nii.gz"
TABLE = f"{STEM}_events.tsv"
FOLDERS = ("derivatives/highres-reference", "derivatives/ground-truth")
UNFIT = Cases()


@pytest.fixture
def maker(tmp_path, monkeypatch):
    """Return a run without pair; its reference repeats the low-resolution voxels."""
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "templateflow"))
    monkeypatch.chdir(tmp_path)
    data = BidsMaker(tmp_path / "bids")
    rng = np.random.default_rng(0)
    coarse = 500 + 100 * rng.random((8, 8, 6, 1)) + 40 * rng.standard_normal((8, 8, 6, 30))
    coarse = coarse.astype("int16")
    data.bold(data=coarse, sidecar={"SliceTiming": TIMES})
    data.events()
    data.t1w()
    write_reference(data, coarse.repeat(2, 0).repeat(2, 1))
    truth_of(data).events()
    return data


def truth_of(maker):
    return BidsMaker(maker.root.parent / "truth")


def write_reference(maker, data):
    truth_of(maker).bold(zooms=FINE, data=data.astype("int16"), sidecar={"SliceTiming": TIMES})


def with_truth(maker):
    return ["--truth", str(truth_of(maker).root)]


def read(maker, *options):
    """Return the run, with the events unless they are ignored."""
    path, events = maker.path(SERIES, "func"), maker.path(TABLE, "func")
    run = read_run(path, json.loads(maker.path(f"{STEM}_bold.json", "func").read_text()))
    has_events = events.exists() and "events" not in options
    return replace(run, events=events if has_events else None, slice_timing=tuple(TIMES))


def find(maker, *options):
    return find_reference(
        read(maker, *options), settings_for(maker, *OPTIONS, *options), with_anat=True
    )


def reference_of(maker, *options):
    """Return the measured reference of a call with the option --truth."""
    truth = find(maker, *with_truth(maker), *options).value
    assert truth is not None
    assert truth.series is not None
    return truth.series


def refused(maker, *options):
    """Return why the reference of ``--truth`` cannot be used."""
    with pytest.raises(InputError) as error:
        find(maker, *with_truth(maker), *options)
    return error.value.problems


def activation(maker, condition, space="", **image):
    """Write a known effect of one condition, named as in the phantom except for `space`."""
    name = f"{STEM}_{space}res-hr_contrast-{condition}_stat-effect_desc-truth_statmap.nii.gz"
    return maker.image(name, "func", FINE, **image)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sidecar", "mean_signals"),
    [
        ({"Units": "percent", "MeanSignal": 800}, {"thumb": 800.0}),
        ({"Units": "same units as the BOLD series"}, {}),
        ({"Units": "percent"}, None),
        ({"Units": "percent", "MeanSignal": 0}, None),
    ],
)
def test_known_activation_in_percent_needs_the_mean_signal(maker, sidecar, mean_signals):
    truth = BidsMaker(maker.root.parent / "known")
    path = activation(truth, "thumb")
    path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))
    options = ("--truth", str(truth.root))
    if mean_signals is None:
        (problem,) = refused(maker, *options)
        assert problem.what == str(path)
        assert "MeanSignal" in problem.remedy
    else:
        reference = find(maker, *options).value
        assert reference is not None
        assert reference.mean_signals == mean_signals


def test_the_high_resolution_series_is_found(maker):
    truth_of(maker).bold(f"{STEM}_space-MNI152NLin2009cAsym", zooms=FINE)  # another space
    plan = plan_for(maker, *OPTIONS, *with_truth(maker))
    assert plan.problems == ()
    truth = only_run(plan).truth
    assert truth is not None
    assert truth.series is not None
    assert truth.series.bold == maker.root.parent / "truth/sub-01/func" / SERIES
    assert truth.series.slice_timing == tuple(TIMES)
    assert truth.series.sidecar["RepetitionTime"] == 1.0
    assert truth.activations == {}
    assert check_data(plan) == ()
    assert reference_of(maker, "--ignore", "slicetiming").slice_timing is None
    assert find(maker).value is None


@pytest.mark.parametrize("place", FOLDERS)
def test_a_reference_in_the_dataset_is_used_and_reported(place, maker):
    root = maker.root / place
    shutil.copytree(truth_of(maker).root, root)
    choice = find(maker)
    truth = choice.value
    assert truth is not None
    assert truth.series is not None
    assert (truth.root, truth.series.bold) == (root, root / "sub-01/func" / SERIES)
    (notice,) = about(choice.notices, str(root), "--truth none")
    assert (notice.what, notice.code) == (str(root), "reference")
    for options in (["--truth", "none"], ["--retrospective"]):
        assert find(maker, *options).value is None
    assert reference_of(maker).bold.is_relative_to(truth_of(maker).root)


@pytest.mark.parametrize(
    ("damage", "file", "values"),
    [
        ("volumes", SERIES, ["29", "30"]),
        ("image", SERIES, ["datalad"]),
        ("sidecar", f"{STEM}_bold.json", ["datalad"]),
    ],
)
def test_an_unfit_reference_in_the_dataset_is_reported_and_not_used(maker, damage, file, values):
    root = maker.root / FOLDERS[0]
    shutil.copytree(truth_of(maker).root, root)
    path = root / "sub-01" / "func" / file
    if damage == "volumes":
        BidsMaker(root).bold(zooms=FINE, n_volumes=29)
    else:
        path.unlink()
        path.symlink_to("../../.git/annex/objects/nowhere")
    choice = find(maker)
    assert choice.value is None
    (notice,) = about(choice.notices, str(path), STEM, *values)
    assert notice.level == "note"


def test_a_reason_that_excludes_several_runs_is_reported_once(maker):
    """Participant 02 has three runs and no reference."""
    names = [f"sub-02_task-tap_run-{number}" for number in (1, 2, 3)]
    for name in names:
        maker.bold(name)
        maker.events(name)
    plan = plan_for(maker, *OPTIONS, *with_truth(maker))
    assert list(plan.skipped) == names
    (text,) = describe_skipped_runs(plan.skipped)
    assert ", ".join(names) in text


@pytest.mark.parametrize(
    ("condition", "has_events", "options", "is_used"),
    [
        ("thumb", True, [], True),
        ("thumb", True, ["--ignore", "events"], False),
        ("motor", False, [], True),  # the name of a default seed
        ("motor", False, ["--set", "activation.seeds=hand=-38,-24,58"], False),
    ],
)
def test_known_maps_are_a_reference_of_runs_that_map_them(
    maker, condition, has_events, options, is_used
):
    activation(BidsMaker(maker.root / FOLDERS[1]), condition)
    if not has_events:
        maker.path(TABLE, "func").unlink()
    truth = find(maker, *options).value
    assert (truth is not None) is is_used
    if truth is not None:
        assert set(truth.activations) == {condition}


def test_metadata_of_the_reference_is_inherited_and_slice_times_are_those_of_the_run(maker):
    truth = truth_of(maker)
    truth.path(f"{STEM}_bold.json", "func").unlink()
    truth.json(truth.root / "task-tap_bold.json", {"RepetitionTime": 1.0, "Origin": "root"})
    truth.json(truth.root / "task-rest_bold.json", {"RepetitionTime": 3.0})
    reference = reference_of(maker)
    assert reference.sidecar == {"RepetitionTime": 1.0, "Origin": "root"}
    assert reference.slice_timing == tuple(TIMES)
    notices = find(maker, *with_truth(maker)).notices
    assert about(notices, str(reference.bold), "SliceTiming")


def test_run_labels_are_compared_as_numbers(maker):
    for data, number in ((maker, "01"), (truth_of(maker), "1")):
        for end in ("bold.nii.gz", "bold.json", "events.tsv"):
            path = data.path(f"{STEM}_{end}", "func")
            path.rename(path.with_name(f"{STEM}_run-{number}_{end}"))
    run = read_run(maker.path(f"{STEM}_run-01_bold.nii.gz", "func"), {"RepetitionTime": 1.0})
    settings = settings_for(maker, *with_truth(maker))
    truth = find_reference(run, settings, with_anat=True).value
    assert truth.series.stem == f"{STEM}_run-1"


# ---- references that do not fit


@UNFIT.refused(f"bids/sub-01/func/{SERIES}", "--truth")
def the_run_itself(maker):
    return ["--truth", str(maker.root)]


@UNFIT.refused(f"truth/sub-01/func/{SERIES}", "--truth")
def a_link_to_the_run(maker):
    path = truth_of(maker).path(SERIES, "func")
    path.unlink()
    os.link(maker.path(SERIES, "func"), path)


@UNFIT.refused("truth/sub-01", "--participant-label sub-02")
def another_participant(maker):
    (truth_of(maker).root / "sub-01").rename(truth_of(maker).root / "sub-02")


@UNFIT.refused("truth/sub-01", STEM, "sub-01_task-rest_bold.nii.gz")
def another_task(maker):
    path = truth_of(maker).path(SERIES, "func")
    path.rename(path.with_name("sub-01_task-rest_bold.nii.gz"))


@UNFIT.refused("truth/sub-01", f"{STEM}_acq-b_bold.nii.gz", SERIES)
def two_series(maker):
    truth_of(maker).bold(f"{STEM}_acq-b", zooms=FINE)


@UNFIT.refused(SERIES, "29", "30")
def fewer_volumes(maker):
    truth_of(maker).bold(zooms=FINE, n_volumes=29)


@UNFIT.refused(SERIES, "2", "1")
def another_repetition_time(maker):
    truth_of(maker).bold(zooms=FINE, tr=2.0)


@UNFIT.refused(SERIES, "24×24×6", "16×16×6", "2×2×1")
def smaller_voxels(maker):
    truth_of(maker).bold(zooms=(2.0, 2.0, 4.0))


@UNFIT.refused(SERIES, "8×8×6", "16×16×6", "--sr-factor")
def voxels_of_the_run(maker):
    truth_of(maker).bold(zooms=(6.0, 6.0, 4.0))


@UNFIT.refused(SERIES, "1.5", "0.25", "0.3")
def a_shift(maker):
    truth_of(maker).bold(zooms=FINE, shift=(1.5, 0, 0))


@UNFIT.refused(SERIES, "LAS")
def voxels_stored_from_right_to_left(maker):
    path = truth_of(maker).path(SERIES, "func")
    image = nb.load(path)
    affine = image.affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] += image.affine[:3, 0] * (image.shape[0] - 1)
    nb.Nifti1Image(np.asarray(image.dataobj)[::-1], affine, image.header).to_filename(path)


@UNFIT.refused(SERIES, "3.39", "0.57")
def larger_voxels_of_the_same_matrix(maker):
    affine = affine_for((3.3, 3.3, 4.0), fov=(1.1 * FOV[0], 1.1 * FOV[1], FOV[2]))
    image = nb.Nifti1Image(np.ones((16, 16, 6, 30), "int16"), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 1.0
    nb.save(image, truth_of(maker).path(SERIES, "func"))


@UNFIT.refused(f"truth/sub-01/func/{TABLE}", "4")
def other_events(maker):
    times = ((3.0, "thumb"), (8.0, "little"), (14.0, "thumb"), (19.0, "little"))
    truth_of(maker).events(rows=[(onset, 4.0, name) for onset, name in times])


@UNFIT.refused(f"truth/sub-01/func/{TABLE}", "2", "UTF-8")
def events_in_latin1(maker):
    table = truth_of(maker).path(TABLE, "func")
    table.write_bytes(table.read_text().replace("thumb", "pouce gelé").encode("latin-1"))


@UNFIT.refused(f"truth/sub-01/func/{SERIES}")
def no_image(maker):
    truth_of(maker).path(SERIES, "func").write_bytes(b"no image")


@UNFIT.refused(f"truth/sub-01/func/{STEM}_bold.json", "JSON")
def a_broken_sidecar(maker):
    truth_of(maker).path(f"{STEM}_bold.json", "func").write_text("{")


@UNFIT.refused("contrast-thumb_stat-effect", "3", "0.3")
def a_map_elsewhere(maker):
    activation(truth_of(maker), "thumb", shift=(0, 3.0, 0))


@UNFIT.refused("space-T1w_res-hr_contrast-thumb", "space-T1w", "space-boldref")
def a_map_in_t1w_space(maker):
    activation(truth_of(maker), "thumb", "space-T1w_")


@UNFIT.refused("space-T1w_bold", "space-T1w", "space-boldref")
def a_series_in_t1w_space(maker):
    truth_of(maker).path(SERIES, "func").unlink()
    truth_of(maker).bold(f"{STEM}_space-T1w", zooms=FINE)


@UNFIT.refused("contrast-thumb_stat-effect", "3D")
def a_map_of_four_dimensions(maker):
    activation(truth_of(maker), "thumb", n_volumes=3)


@pytest.mark.parametrize("name", UNFIT)
def test_an_unfit_reference_is_refused_with_file_and_values(name, maker):
    case = UNFIT[name]
    options = case.spoil(maker) or []
    problems = refused(maker, *options)
    problem_of(problems, case.file, *case.values, code=case.code)
    assert {(problem.subject, problem.run) for problem in problems} <= {("01", STEM), ("", "")}


@pytest.mark.parametrize("exists", [False, True])
def test_a_directory_without_participants_is_refused(tmp_path, *, exists):
    if exists:
        (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as error:
        require_reference_root(tmp_path / "empty")
    problem_of(error.value.problems, "/empty")


@pytest.mark.parametrize(("delay", "fits"), [(0.0009, True), (0.002, False)])
def test_events_agree_within_a_millisecond(maker, delay, *, fits):
    rows = ((3.0004, 4.0, "thumb"), (3.0004, 4.0, "little"), (12.0, 4.0, "little"))
    maker.events(rows=rows)
    shifted = [(onset + delay * (kind == "thumb"), *rest, kind) for onset, *rest, kind in rows]
    truth_of(maker).events(rows=shifted)
    if fits:
        reference_of(maker)
    else:
        assert refused(maker)


def test_the_dataset_as_reference_suggests_its_ground_truth(maker):
    inner = maker.root / "derivatives" / "ground-truth"
    inner.mkdir(parents=True)
    (problem,) = refused(maker, "--truth", str(maker.root))
    assert str(inner) in problem.remedy


# ---- voxels of references


def noise_of_another_run(maker):
    write_reference(maker, np.random.default_rng(1).integers(50, 1000, (16, 16, 6, 30)))


def same_head_other_run(maker):
    """Write a series with the same anatomy and the fluctuations of another run."""
    mean = nb.load(maker.path(SERIES, "func")).get_fdata().mean(-1, keepdims=True)
    noise = 40 * np.random.default_rng(2).standard_normal((16, 16, 6, 30))
    write_reference(maker, mean.repeat(2, 0).repeat(2, 1) + noise)


def scaled(factor):
    def change(maker):
        path = truth_of(maker).path(SERIES, "func")
        write_reference(maker, nb.load(path).get_fdata() * factor)

    return change


def cut_data(maker):
    path = truth_of(maker).path(SERIES, "func")
    path.write_bytes(path.read_bytes()[:-2000])


UNFIT_VOXELS = [
    pytest.param(noise_of_another_run, ["0.5"], id="another head"),
    pytest.param(same_head_other_run, ["0.1"], id="another run"),
    pytest.param(scaled(0.75), ["0.75"], id="other units"),
    pytest.param(scaled(1.3), ["1.3"], id="larger units"),
]


@pytest.mark.parametrize(("spoil", "values"), UNFIT_VOXELS)
def test_images_of_another_run_are_refused(spoil, values, maker):
    spoil(maker)
    plan = plan_for(maker, *OPTIONS, *with_truth(maker))
    assert plan.problems == ()
    problem_of(check_data(plan), f"truth/sub-01/func/{SERIES}", *values, "--truth none")


@pytest.mark.parametrize("spoil", [same_head_other_run, cut_data])
def test_a_reference_in_the_dataset_with_unfit_voxels_is_reported_and_not_used(
    spoil, maker, capsys, monkeypatch
):
    spoil(maker)
    shutil.move(truth_of(maker).root, maker.root / FOLDERS[0])
    plans: list[Plan] = []

    def run(settings, plan):
        plans.append(plan)
        return RunOutcome()

    monkeypatch.setattr("bids_sr.cli.participant_level.run_participants", run)
    assert main(arguments(maker, *OPTIONS)) == 0
    (plan,) = plans
    assert only_run(plan).truth is None
    (notice,) = about(plan.warnings, f"{FOLDERS[0]}/sub-01/func/{SERIES}", STEM)
    assert not [notice for notice in plan.warnings if notice.code == "reference"]
    shown = " ".join(capsys.readouterr().out.split())
    assert notice.why.partition(":")[0] in shown


def test_a_reference_shared_by_two_runs_is_dropped_for_the_run_it_does_not_fit(maker):
    """Runs of one task that differ in their acquisition share a reference without that label."""
    data = np.random.default_rng(1).integers(50, 1000, (8, 8, 6, 30)).astype("int16")
    maker.bold(f"{STEM}_acq-b", data=data, sidecar={"SliceTiming": TIMES})
    maker.events(f"{STEM}_acq-b")
    shutil.move(truth_of(maker).root, maker.root / FOLDERS[0])
    plan = plan_for(maker, *OPTIONS)
    assert all(run.truth is not None for run in plan.runs)
    plan, problems = drop_unfit_references(plan, check_data(plan))
    assert not problems
    assert {run.stem: run.truth is not None for run in plan.runs} == {
        STEM: True,
        f"{STEM}_acq-b": False,
    }
    assert any(notice.code == "reference" for notice in plan.warnings)


def test_an_unfit_reference_with_another_label_excludes_only_its_run(maker):
    """Acquisition labels are not compared; the measured run may have another label."""
    truth = truth_of(maker)
    maker.bold("sub-01_task-rest", sidecar={"SliceTiming": TIMES})
    truth.bold("sub-01_task-rest", zooms=FINE, sidecar={"SliceTiming": TIMES})
    for name in (SERIES, f"{STEM}_bold.json", TABLE):
        truth.path(name, "func").unlink()
    truth.bold(f"{STEM}_acq-hr", zooms=FINE, n_volumes=29)
    plan = plan_for(maker, *OPTIONS, *with_truth(maker))
    assert plan.problems == ()
    assert list(plan.skipped) == [STEM]
    assert only_run(plan).stem == "sub-01_task-rest"
