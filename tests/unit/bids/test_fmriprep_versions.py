"""Read outputs of fMRIPrep 20 to 26: names of every version, missing parts, and files not
downloaded.
"""

import json
import re
import shutil
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from data.dataset import BidsMaker, affine_for
from data.fmriprep import SPACE, FmriprepMaker, planned, prepared, refusals, rigid, settings_of

from bids_sr.bids.precomputed import PrecomputedRun
from bids_sr.preflight import Plan
from bids_sr.preflight.exclusions import describe_skipped_runs
from bids_sr.preflight.plan_text import dry_run_text, format_problems

STEM = "sub-01/func/sub-01_task-tap"
ANAT = "sub-01/anat/sub-01"


@pytest.fixture
def data(tmp_path: Path) -> BidsMaker:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    return maker


def precomputed_run(plan: Plan) -> PrecomputedRun:
    """Return the derivatives of the only run."""
    assert plan.problems == ()
    precomputed = plan.subjects[0].runs[0].precomputed
    assert precomputed is not None
    return precomputed


def notices_text(plan: Plan) -> str:
    return "\n".join(map(str, plan.warnings))


def break_link(path: Path) -> None:
    """Replace a file by a broken link, as DataLad does for a file not downloaded."""
    path.unlink()
    path.symlink_to("../../.git/annex/objects/aa/bb/MD5E-s9--00/MD5E-s9--00")


def surface_options(data: BidsMaker, *spaces: str) -> list[str]:
    """Return command-line options for maps on surfaces."""
    output_spaces = spaces or ("fsnative", "fsaverage:den-10k")
    return ["-d", f"fmriprep={data.root.parent / 'prep'}", "--output-spaces", *output_spaces]


@pytest.mark.parametrize(
    ("version", "hmc", "coreg", "table"),
    [
        ("20.0.7", "", "", "desc-confounds_regressors.tsv"),
        ("20.2.7", "", "from-scanner_to-T1w_mode-image_xfm.txt", "desc-confounds_timeseries.tsv"),
        ("22.0.2", "", "from-scanner_to-T1w_mode-image_xfm.txt", "desc-confounds_timeseries.tsv"),
        (
            "23.0.2",
            "from-scanner_to-boldref_mode-image_xfm.txt",
            "from-scanner_to-T1w_mode-image_xfm.txt",
            "desc-confounds_timeseries.tsv",
        ),
        (
            "25.2.5",
            "from-orig_to-boldref_mode-image_desc-hmc_xfm.txt",
            "from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt",
            "desc-confounds_timeseries.tsv",
        ),
        (
            "26.0.0",
            "from-orig_to-run_mode-image_desc-hmc_xfm.txt",
            "from-run_to-T1w_mode-image_desc-coreg_xfm.txt",
            "desc-confounds_timeseries.tsv",
        ),
    ],
)
def test_file_names_of_every_fmriprep_version_are_recognized(data, version, hmc, coreg, table):
    maker = prepared(data, version=version, n_dummy=2)
    precomputed = precomputed_run(planned(data))
    stem = maker.root / STEM
    assert precomputed.confounds == Path(f"{stem}_{table}")
    assert precomputed.hmc == (Path(f"{stem}_{hmc}") if hmc else None)
    assert precomputed.coreg == (Path(f"{stem}_{coreg}") if coreg else None)
    space = "_space-run" if version == "26.0.0" else ""
    assert precomputed.mask == Path(f"{stem}{space}_desc-brain_mask.nii.gz")
    assert precomputed.n_dummy == 2


@pytest.mark.parametrize("name", ["desc-confounds_regressors.tsv", "bold_confounds.tsv"])
def test_a_table_with_the_column_names_of_fmriprep_1_is_used_with_a_note(data, name):
    old = prepared(data, version="20.0.7").root / f"{STEM}_desc-confounds_regressors.tsv"
    old.with_suffix(".json").unlink()
    table = old.rename(old.with_name(f"sub-01_task-tap_{name}"))
    header, _, rows = table.read_text().partition("\n")
    kinds = {"trans_": "", "rot_": "Rot"}
    for kind, axis in [(kind, axis) for kind in kinds for axis in "xyz"]:
        header = re.sub(rf"\b{kind}{axis}\b", f"{kinds[kind]}{axis.upper()}", header)
    header = re.sub(r"\S+_(derivative1|power2)", r"other\g<0>", header)
    table.write_text(f"{header}\n{rows}")
    plan = planned(data)
    assert precomputed_run(plan).confounds == table
    assert "X, Y, Z, RotX, RotY and RotZ are used as trans_x" in notices_text(plan)


def test_a_registration_named_to_anat_is_recognized(data):
    maker = prepared(data, version="25.2.5")
    old = maker.root / f"{STEM}_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt"
    new = old.rename(old.with_name(old.name.replace("to-T1w", "to-anat")))
    assert precomputed_run(planned(data)).coreg == new


@pytest.mark.parametrize("name", ["space-run_boldref", "space-orig_desc-hmc_boldref"])
def test_a_boldref_with_its_newest_name_is_checked(data, name):
    path = prepared(data, version="26.0.0").root / f"{STEM}_{name}.nii.gz"
    nb.Nifti1Image(np.zeros((3, 4, 5), np.float32), np.eye(4)).to_filename(path)
    assert f"{path}\n  why: the matrix size is" in refusals(data)


def test_a_registration_to_a_session_template_is_not_a_field_map(data):
    """Option `--bold-coreg-level session` writes a registration to a session template."""
    data.bold(sidecar={"PhaseEncodingDirection": "j-", "TotalReadoutTime": 0.05})
    maker = prepared(data, version="26.0.0")
    maker.field(data.path("sub-01_task-tap_bold.nii.gz", "func"), np.zeros((4, 4, 4)), np.eye(4))
    registration = maker.root / f"{STEM}_from-run_to-T1w_mode-image_desc-coreg_xfm.txt"
    registration.rename(registration.with_name(registration.name.replace("to-T1w", "to-session")))
    plan = planned(data)
    precomputed = precomputed_run(plan)
    assert precomputed.coreg is None
    assert precomputed.field is not None
    assert precomputed.field.name == "auto00000"
    text = notices_text(plan)
    assert "registration to T1w (fMRIPrep writes this file by default since version 20.2" in text
    assert "26.0 and later require `--bold-coreg-level run`" in text


def test_motion_is_read_from_confounds_if_a_version_stores_no_transforms(data):
    prepared(data, version="21.0.1", func=False)
    notices = [
        str(notice) for notice in planned(data).warnings if "fMRIPrep 21.0.1" in str(notice)
    ]
    assert [
        ("six motion parameters" in text, "not include brain mask" in text) for text in notices
    ] == [
        (False, True),
        (True, False),
    ]
    assert (
        "(fMRIPrep writes this file with `--output-spaces func`, and by default since version"
        " 23.2.3)" in notices[0]
    )
    assert "fMRIPrep writes this file by default since version 22.1" in notices[1]


def test_notices_that_hold_for_all_runs_are_shown_once(data):
    data.bold("sub-01_task-rest")
    data.events("sub-01_task-rest")
    maker = prepared(data, version="21.0.1", func=False)
    maker.run(data.path("sub-01_task-rest_bold.nii.gz", "func"), func=False)
    text = dry_run_text(planned(data), settings_of(data))
    assert text.count("six motion parameters in the confounds") == 1
    derivatives_text = (
        "head motion (from the motion parameters in the confounds file), registration to T1w,"
        " confounds of fMRIPrep 21.0.1"
    )
    assert text.count(f"used from derivatives: {derivatives_text}") == 2
    assert (
        "sub-01_task-rest_bold.nii.gz and 1 more: the fMRIPrep 21.0.1 output does not include"
        " head-motion transforms" in text
    )


def test_missing_derivatives_are_named_with_the_fmriprep_option(data):
    maker = prepared(data, version="23.2.0", func=False)
    for path in [
        *maker.root.rglob("*confounds*"),
        *maker.root.rglob("*probseg*"),
        *maker.root.rglob("*to-T1w*"),
    ]:
        path.unlink()
    text = notices_text(planned(data))
    assert (
        "brain mask on the BOLD grid (fMRIPrep writes this file with `--output-spaces func`"
        in text
    )
    assert "registration to T1w (fMRIPrep writes this file by default since version 20.2" in text
    assert "confounds (fMRIPrep writes this file with `--level full`, the default)" in text
    assert (
        "not include tissue maps (label-{GM,WM,CSF}_probseg) (fMRIPrep always writes these files"
        " to the anat directory)" in text
    )
    assert "(fMRIPrep writes these transforms with `--output-spaces MNI152NLin2009cAsym`)" in text


def test_a_run_without_motion_estimates_is_processed_by_bids_sr(data):
    maker = prepared(data, version="20.2.7")
    for path in maker.root.rglob("*confounds*"):
        path.unlink()
    plan = planned(data)
    assert plan.problems == ()
    assert plan.subjects[0].runs[0].precomputed is None
    assert (
        "output does not include motion estimates for this run (fMRIPrep writes this file by"
        " default since version 22.1" in notices_text(plan)
    )


def test_a_run_without_derivatives_is_reported(data):
    maker = prepared(data)
    shutil.rmtree(maker.root / "sub-01" / "func")
    assert (
        "fMRIPrep 24.1.1 output does not include any files for this run, so head motion"
        in notices_text(planned(data))
    )


def test_confounds_without_their_json_are_used_with_a_notice(data):
    maker = prepared(data)
    (maker.root / f"{STEM}_desc-confounds_timeseries.json").unlink()
    plan = planned(data)
    assert precomputed_run(plan).confounds is not None
    assert "the masks of the aCompCor components are unknown" in notices_text(plan)


def test_a_field_map_without_registration_is_reported_as_not_used(data):
    maker = prepared(data, version="21.0.1")
    figure = maker.root / "sub-01" / "figures" / "sub-01_task-tap_desc-sdc_bold.svg"
    figure.parent.mkdir()
    figure.write_text("<svg/>")
    text = notices_text(planned(data))
    assert "registration to the field map (fMRIPrep saves it since version 23.2)" in text
    assert "not corrected by bids-sr" in text


@pytest.mark.parametrize(
    ("raw", "fmriprep_name"),
    [
        ("sub-01_ses-02_task-tap_run-1", "sub-01_ses-02_task-tap_run-01"),
        ("sub-01_ses-02_task-tap_echo-1_part-mag", "sub-01_ses-02_task-tap"),
        ("sub-01_ses-02_task-tap_part-mag", "sub-01_ses-02_task-tap_part-mag"),
        ("sub-01_ses-02_task-tap_dir-AP_run-2", "sub-01_ses-02_task-tap_run-2"),
    ],
)
def test_runs_are_found_under_the_names_of_combined_outputs(tmp_path, raw, fmriprep_name):
    data = BidsMaker(tmp_path / "bids")
    data.bold(raw)
    data.events(raw)
    data.t1w("sub-01_ses-02")
    maker = FmriprepMaker(tmp_path / "prep", "23.1.4")
    maker.anat(data.path("sub-01_ses-02_T1w.nii.gz", "anat"))
    maker.run(data.path(f"{raw}_bold.nii.gz", "func"), name=fmriprep_name)
    precomputed = precomputed_run(planned(data))
    assert precomputed.hmc is not None
    assert precomputed.hmc.name.startswith(f"{fmriprep_name}_from-scanner")
    assert set(precomputed.files) == {"hmc_xfms", "bold_mask", "boldref2t1w_xfm", "confounds_tsv"}


def test_an_ambiguous_name_without_direction_matches_no_run(tmp_path):
    data = BidsMaker(tmp_path / "bids")
    for direction in ("AP", "PA"):
        data.bold(f"sub-01_task-tap_dir-{direction}")
        data.events(f"sub-01_task-tap_dir-{direction}")
    maker = FmriprepMaker(tmp_path / "prep", "23.1.4")
    maker.run(data.path("sub-01_task-tap_dir-AP_bold.nii.gz", "func"), name="sub-01_task-tap")
    plan = planned(data)
    assert [run.precomputed for run in plan.subjects[0].runs] == [None, None]


def test_a_registration_to_the_t1w_image_of_another_session_is_not_used(tmp_path):
    data = BidsMaker(tmp_path / "bids")
    for session in ("1", "2"):
        data.subject(session=session)
    maker = FmriprepMaker(tmp_path / "prep", "25.2.5")
    for session in ("1", "2"):
        maker.anat(data.path(f"sub-01_ses-{session}_T1w.nii.gz", "anat"))
        maker.run(data.path(f"sub-01_ses-{session}_task-tap_bold.nii.gz", "func"))
    plan = planned(data)
    assert [run.precomputed.coreg is None for run in plan.subjects[0].runs] == [False, True]
    assert (
        "registers the run to sub-01_ses-2_desc-preproc_T1w.nii.gz, but the T1w image in use is"
        " sub-01_ses-1_desc-preproc_T1w.nii.gz" in notices_text(plan)
    )


def test_an_oblique_grid_may_differ_by_the_rounding_of_its_qform(data):
    maker = prepared(data)
    # the scalar part of the quaternion is almost zero
    turned = affine_for((3.0, 3.0, 4.0)) @ rigid(yaw=np.pi - 5e-4)
    path = data.path("sub-01_task-tap_bold.nii.gz", "func")
    series = np.asarray(nb.load(path).dataobj)
    image = nb.Nifti1Image(series, turned)
    image.header.set_zooms((*image.header.get_zooms()[:3], 1.0))
    image.to_filename(path)
    maker.run(path)
    mask = maker.root / f"{STEM}_desc-brain_mask.nii.gz"
    only_qform = nb.Nifti1Image(np.asarray(nb.load(mask).dataobj), turned)
    only_qform.set_qform(turned, 1)
    only_qform.set_sform(None, 0)
    only_qform.to_filename(mask)
    corners = np.array([[0, 0, 0, 1], [15, 15, 5, 1]]).T
    assert 0.01 < np.abs((nb.load(mask).affine - turned) @ corners).max() < 0.5
    assert precomputed_run(planned(data)).mask is not None


def test_a_participant_without_derivatives_is_rejected(data):
    data.subject("02")
    maker = prepared(data, "02")
    text = refusals(data, "-d", f"fmriprep={maker.root}", "--participant-label", "01")
    assert f"sub-01 was not found in {maker.root} (available participants: sub-02)" in text


def test_participants_without_derivatives_are_skipped(data):
    data.subject("02")
    prepared(data, "02")
    plan = planned(data)
    assert [subject.label for subject in plan.subjects] == ["02"]
    assert "sub-01 was not found in" in str(plan.skipped["sub-01_task-tap"])


def test_two_derivatives_directories_are_combined(data):
    maker = prepared(data)
    anatomy = FmriprepMaker(data.root.parent / "anatomy")
    shutil.move(maker.root / "sub-01" / "anat", anatomy.root / "sub-01" / "anat")
    (maker.root / "sub-02").mkdir()
    plan = planned(data, "-d", f"func={maker.root}", f"anat={anatomy.root}")
    assert plan.subjects[0].precomputed.origin.name == "anat"
    assert precomputed_run(plan).origin.name == "func"
    assert precomputed_run(plan).coreg is not None


@pytest.mark.parametrize(
    "name",
    [
        f"{STEM}_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt",
        f"{STEM}_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt",
        f"{STEM}_desc-confounds_timeseries.tsv",
        f"{STEM}_desc-confounds_timeseries.json",
        f"{STEM}_desc-brain_mask.nii.gz",
        f"{ANAT}_desc-preproc_T1w.nii.gz",
        f"{ANAT}_label-GM_probseg.nii.gz",
        f"{ANAT}_from-T1w_to-{SPACE}_mode-image_xfm.h5",
        "dataset_description.json",
    ],
)
def test_a_required_file_not_downloaded_is_named_with_the_datalad_command(data, name):
    maker = prepared(data)
    break_link(maker.root / name)
    text = refusals(data)
    assert "the file content has not been downloaded: the symbolic link is broken" in text
    assert f"`datalad get {maker.root / name}`" in text


def test_all_files_not_downloaded_are_listed_in_one_problem(data):
    maker = prepared(data)
    for path in maker.root.rglob("sub-01_*"):
        break_link(path)
    problems = planned(data).problems
    # T1w, mask, labels, three maps, two transforms; motion, registration, table, mask
    assert len(problems) == 12
    text = format_problems(problems)
    assert text.startswith("1 problem with the input")
    assert (
        f"`cd {maker.root / 'sub-01'} && datalad get anat/sub-01_desc-preproc_T1w.nii.gz anat/"
        in text
    )
    assert all(problem.what.rpartition("/")[2] in text for problem in problems)


def test_files_of_a_skipped_run_not_downloaded_have_one_command(data):
    maker = prepared(data)
    data.bold("sub-01_task-rest")
    data.events("sub-01_task-rest")
    maker.run(data.path("sub-01_task-rest_bold.nii.gz", "func"))
    for path in maker.root.rglob("sub-01_task-rest_*"):
        break_link(path)
    text = describe_skipped_runs(planned(data).skipped)
    assert len(text) == 1
    assert text[0].startswith("skipped: sub-01_task-rest\n")
    assert f"`cd {maker.root / 'sub-01' / 'func'} && datalad get sub-01_task-rest_" in text[0]


@pytest.mark.parametrize(
    "name",
    [
        "dataset_description.json",
        "sub-01/func/sub-01_task-tap_bold.json",
        "sub-01/func/sub-01_task-tap_events.tsv",
    ],
)
def test_sidecars_of_the_raw_dataset_must_be_downloaded(data, name):
    path = data.root / name
    if not path.exists():
        path.write_text("{}")
    break_link(path)
    text = refusals(data, "--sr-method", "bspline")
    assert (
        f"{path}\n  why: the file content has not been downloaded: the symbolic link is broken"
        in text
    )


def test_the_sidecar_of_a_field_map_must_be_downloaded(data):
    data.bold(sidecar={"PhaseEncodingDirection": "j-", "TotalReadoutTime": 0.05})
    maker = prepared(data)
    maker.field(data.path("sub-01_task-tap_bold.nii.gz", "func"), np.zeros((4, 4, 4)), np.eye(4))
    break_link(maker.root / "sub-01/fmap/sub-01_fmapid-auto00000_desc-preproc_fieldmap.json")
    assert "not been downloaded" in refusals(data)


def test_unused_images_need_not_be_downloaded(data):
    maker = prepared(data)
    for space in ("MNI152NLin6Asym", "fsnative"):
        for ends in (f"from-T1w_to-{space}", f"from-{space}_to-T1w"):
            (maker.root / f"{ANAT}_{ends}_mode-image_xfm.txt").unlink(missing_ok=True)
            (maker.root / f"{ANAT}_{ends}_mode-image_xfm.txt").symlink_to("nowhere")
    for name in ("desc-hmc_boldref", "desc-coreg_boldref", "space-T1w_boldref"):
        break_link(maker.root / f"{STEM}_{name}.nii.gz")
    break_link(maker.root / f"{ANAT}_space-{SPACE}_desc-preproc_T1w.nii.gz")
    assert set(precomputed_run(planned(data)).files) == {
        "hmc_xfms",
        "bold_mask",
        "boldref2t1w_xfm",
        "confounds_tsv",
    }


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("/annex/objects/MD5E-s693--78ca.json\n", "`datalad get "),
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "`git lfs pull -I ",
        ),
    ],
)
@pytest.mark.parametrize("name", ["dataset_description.json", f"{STEM}_desc-brain_mask.nii.gz"])
def test_pointer_files_are_reported_as_not_downloaded(data, name, content, says):
    maker = prepared(data)
    (maker.root / name).write_text(content)
    text = refusals(data)
    assert "the file content has not been downloaded: the file is a" in text
    assert says in text


def _described(folder: Path, program: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "Name": "x",
        "BIDSVersion": "1.9.0",
        "GeneratedBy": [{"Name": program, "Version": "1"}],
    }
    (folder / "dataset_description.json").write_text(json.dumps(content))


def test_the_subdirectory_of_fmriprep_is_suggested(data):
    maker = prepared(data)
    _described(maker.root.parent / "outer" / "aroma", "fMRIPost-AROMA")
    maker.root.rename(maker.root.parent / "outer" / "fmriprep")
    outer = maker.root.parent / "outer"
    assert f"Specify the fMRIPrep output directory {outer / 'fmriprep'}." in refusals(
        data, "-d", str(outer)
    )


def test_a_neighboring_fmriprep_directory_is_suggested(data):
    maker = prepared(data)
    other = maker.root.parent / "aroma"
    _described(other, "fMRIPost-AROMA")
    text = refusals(data, "-d", str(other))
    assert "the derivatives were generated by fMRIPost-AROMA, not by fMRIPrep" in text
    assert f"Specify the fMRIPrep output directory {maker.root}." in text


def test_derivatives_inside_the_dataset_are_suggested(data):
    maker = prepared(data)
    inner = data.root / "derivatives" / "fmriprep"
    inner.parent.mkdir()
    maker.root.rename(inner)
    assert f"Specify the fMRIPrep output directory {inner}." in refusals(
        data, "-d", str(data.root)
    )


def test_the_parent_of_a_participant_directory_is_suggested(data):
    maker = prepared(data)
    assert f"Specify the fMRIPrep output directory {maker.root}." in refusals(
        data, "-d", str(maker.root / "sub-01")
    )


def test_anatomical_derivatives_of_smriprep_are_used(data):
    maker = prepared(data)
    shutil.rmtree(maker.root / "sub-01" / "func")
    _described(maker.root, "sMRIPrep")
    plan = planned(data)
    assert plan.problems == ()
    assert plan.subjects[0].precomputed is not None
    assert (
        "the sMRIPrep 1 output does not include any files for this run, so head motion,"
        " registration, brain mask and confounds are computed" in notices_text(plan)
    )


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ("21.0.1", {"white": "smoothwm", "pial": "pial"}),
        ("24.1.1", {"white": "white", "pial": "pial", "sphere": "desc-reg_sphere"}),
        (
            "25.2.5",
            {"white": "white", "pial": "pial", "sphere": "space-fsaverage_desc-reg_sphere"},
        ),
    ],
)
def test_surface_names_of_every_version_are_recognized(data, version, names):
    maker = prepared(data, version=version)
    maker.surfaces(data.path("sub-01_T1w.nii.gz", "anat"))
    surfaces = planned(data, *surface_options(data)).subjects[0].precomputed.surfaces
    assert surfaces == {
        surface: tuple(maker.root / f"{ANAT}_hemi-{side}_{name}.surf.gii" for side in "LR")
        for surface, name in names.items()
    }


def test_a_sphere_in_fslr_space_is_not_used(data):
    maker = prepared(data)
    maker.surfaces(data.path("sub-01_T1w.nii.gz", "anat"))
    for side in "LR":
        sphere = maker.root / f"{ANAT}_hemi-{side}_desc-reg_sphere.surf.gii"
        sphere.rename(sphere.with_name(f"sub-01_hemi-{side}_space-fsLR_desc-reg_sphere.surf.gii"))
    assert set(planned(data, *surface_options(data)).subjects[0].precomputed.surfaces) == {
        "white",
        "pial",
    }


def test_fsnative_requires_surfaces_and_fsaverage_does_not(data):
    maker = prepared(data)
    text = refusals(data, *surface_options(data))
    assert "sub-01 (--output-spaces fsnative)" in text
    assert "hemi-{L,R}_{white,pial}.surf.gii" in text
    assert "--fs-no-reconall" in text
    assert not refusals(data, *surface_options(data, "fsaverage:den-10k"))
    maker.surfaces(data.path("sub-01_T1w.nii.gz", "anat"))
    assert not refusals(data, *surface_options(data))
    (maker.root / f"{ANAT}_hemi-R_pial.surf.gii").unlink()
    assert "omit fsnative" in refusals(data, *surface_options(data))


@pytest.mark.parametrize("content", [b"", b"x", b"<GIFTI></GIFTI>", b"<DataArray Dim0='7'/>"])
def test_invalid_or_mismatched_surfaces_are_rejected(data, content):
    maker = prepared(data)
    maker.surfaces(data.path("sub-01_T1w.nii.gz", "anat"))
    (maker.root / f"{ANAT}_hemi-R_pial.surf.gii").write_bytes(content)
    assert not refusals(data)
    text = refusals(data, *surface_options(data))
    assert "sub-01_hemi-R_white.surf.gii" in text
    assert "the same number of vertices" in text


def test_surfaces_that_were_not_downloaded_are_named(data):
    maker = prepared(data)
    maker.surfaces(data.path("sub-01_T1w.nii.gz", "anat"))
    break_link(maker.root / f"{ANAT}_hemi-L_white.surf.gii")
    assert f"{ANAT}_hemi-L_white.surf.gii" in refusals(data, *surface_options(data))
    assert not refusals(data)
