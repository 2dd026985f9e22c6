"""Find outputs of fMRIPrep by name, and reject unusable outputs before processing starts."""

import json
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from data.dataset import BidsMaker
from data.fmriprep import (
    SPACE,
    FmriprepMaker,
    planned,
    prepared,
    refusals,
    rigid,
    settings_of,
    write_linear,
)

from bids_sr.cli.main import main
from bids_sr.config.settings import analysis_digest
from bids_sr.io.dataset_description import dataset_root, write_dataset, write_series_dataset
from bids_sr.preflight import check_data
from bids_sr.preflight.region_spaces import choose_template

STEM = "sub-01/func/sub-01_task-tap"
HMC = f"{STEM}_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt"
TABLE = f"{STEM}_desc-confounds_timeseries.tsv"
ANAT = "sub-01/anat/sub-01"


@pytest.fixture
def data(tmp_path: Path) -> BidsMaker:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    return maker


def test_complete_derivatives_are_used_and_nothing_is_recomputed(data):
    prepared(data, n_dummy=2)
    plan = planned(data)
    assert plan.problems == ()
    subject = plan.subjects[0]
    assert set(subject.precomputed.spaces) == {SPACE}
    assert [path.name for path in subject.precomputed.tpms] == [
        f"sub-01_label-{t}_probseg.nii.gz" for t in ("GM", "WM", "CSF")
    ]
    assert subject.t1w == (subject.precomputed.preproc,)
    precomputed = subject.runs[0].precomputed
    assert set(precomputed.files) == {"hmc_xfms", "bold_mask", "boldref2t1w_xfm", "confounds_tsv"}
    assert precomputed.n_dummy == 2
    assert precomputed.origin.text == "fMRIPrep 24.1.1"
    assert precomputed.origin.uri(precomputed.hmc) == f"bids:fmriprep:{HMC}"
    assert not [
        notice
        for notice in plan.warnings
        if "Missing outputs are computed by bids-sr" in str(notice)
    ]


def test_derivatives_without_a_name_are_named_by_their_software(data):
    maker = prepared(data)
    plan = planned(data, "-d", str(maker.root))
    assert plan.subjects[0].precomputed.origin.name == "fmriprep"


def test_derivatives_are_not_searched_without_the_option(data):
    prepared(data)
    plan = planned(data, "--sr-method", "bspline")
    assert plan.subjects[0].precomputed is None
    assert plan.subjects[0].runs[0].precomputed is None


def test_runs_are_matched_by_entities_and_run_number(data):
    for path in data.root.rglob("*task-tap*"):
        path.unlink()
    for run in ("1", "2"):
        data.bold(f"sub-01_task-tap_dir-AP_run-{run}")
        data.events(f"sub-01_task-tap_dir-AP_run-{run}")
    maker = FmriprepMaker(data.root.parent / "prep")
    maker.anat(data.path("sub-01_T1w.nii.gz", "anat"))
    for run in ("1", "2"):
        maker.run(data.path(f"sub-01_task-tap_dir-AP_run-{run}_bold.nii.gz", "func"))
    for path in (maker.root / "sub-01" / "func").iterdir():
        path.rename(path.with_name(path.name.replace("_run-", "_run-0")))
    runs = planned(data).subjects[0].runs
    assert [
        ("run-01" in r.precomputed.hmc.name, "run-02" in r.precomputed.hmc.name) for r in runs
    ] == [
        (True, False),
        (False, True),
    ]


def test_sessions_may_share_anatomical_derivatives(tmp_path):
    data = BidsMaker(tmp_path / "bids")
    data.subject(session="b")
    maker = prepared(data, session="b")
    for path in list((maker.root / "sub-01" / "ses-b" / "anat").iterdir()):
        target = maker.root / "sub-01" / "anat" / path.name.replace("_ses-b", "")
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    subject = planned(data).subjects[0]
    assert subject.precomputed.preproc.parent == maker.root / "sub-01" / "anat"
    assert "ses-b" in subject.runs[0].precomputed.hmc.name


def test_the_t1w_image_of_fmriprep_is_used_if_the_raw_image_is_missing(data):
    prepared(data)
    data.path("sub-01_T1w.nii.gz", "anat").unlink()
    plan = planned(data)
    assert plan.subjects[0].t1w[0].name == "sub-01_desc-preproc_T1w.nii.gz"
    assert not [notice for notice in plan.warnings if "no T1w" in str(notice)]


def test_missing_derivatives_are_reported_and_recomputed(data):
    maker = prepared(data)
    (maker.root / TABLE).unlink()
    for path in (maker.root / "sub-01" / "anat").glob("*WM_probseg*"):
        path.unlink()
    plan = planned(data)
    assert plan.problems == ()
    notices = "\n".join(map(str, plan.warnings))
    assert (
        "does not include confounds (fMRIPrep writes this file with `--level full`, the default)"
        in notices
    )
    assert "does not include tissue maps" in notices
    assert plan.subjects[0].precomputed.tpms == ()
    assert plan.subjects[0].runs[0].precomputed.confounds is None


def test_a_registration_to_missing_anatomical_derivatives_is_not_used(data):
    maker = prepared(data)
    (maker.root / f"{ANAT}_desc-brain_mask.nii.gz").unlink()
    plan = planned(data)
    assert plan.subjects[0].precomputed is None
    assert plan.subjects[0].runs[0].precomputed.coreg is None
    assert "the anatomical images are processed by bids-sr" in "\n".join(map(str, plan.warnings))


def test_missing_transforms_are_reported_for_the_requested_space(data):
    prepared(data)
    options = ("-d", str(data.root.parent / "prep"), "--output-spaces", "MNI152NLin2009aSym")
    assert "transforms between T1w and MNI152NLin2009aSym" in "\n".join(
        map(str, planned(data, *options).warnings)
    )


def test_transforms_to_a_template_are_used_if_the_template_is_on_this_computer(
    data, tmp_path, monkeypatch
):
    """Otherwise, the T1w image is registered to the default template, which needs no network."""
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "flow"))
    other = "MNI152NLin6Asym"
    for path in [*prepared(data).root.rglob(f"*{SPACE}*_xfm.*")]:
        path.rename(str(path).replace(SPACE, other))

    def choose() -> tuple[str, str]:
        plan = planned(data)
        assert plan.problems == ()
        return choose_template(settings_of(data), plan.subjects[0]), str(plan.warnings)

    template, warnings = choose()
    assert template == SPACE
    assert f"not include transforms between T1w and {SPACE} (" in warnings
    assert f"To use the transforms to {other}, which is not available on this mac" in warnings
    (folder := tmp_path / "flow" / f"tpl-{other}").mkdir(parents=True)
    for ending in ("T1w", "desc-brain_mask"):
        (folder / f"tpl-{other}_res-01_{ending}.nii.gz").write_bytes(bytes(400))
    template, warnings = choose()
    assert template == other
    assert "transforms" not in warnings


def test_derivatives_are_part_of_the_settings_digest(data):
    prepared(data)
    without_derivatives, with_derivatives = (
        settings_of(data, "--sr-method", "srgan"),
        settings_of(data),
    )
    assert analysis_digest(without_derivatives) != analysis_digest(with_derivatives)
    assert with_derivatives.preprocessing.derivatives == (f"fmriprep={data.root.parent / 'prep'}",)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "the file is missing"),
        ("{", "the software that generated the derivatives is not recorded"),
        ({"Name": "x"}, "the software that generated the derivatives is not recorded"),
        ({"GeneratedBy": [{"Name": "HALFpipe"}]}, "generated by HALFpipe"),
        ({"GeneratedBy": [{"Name": " "}]}, "generated by unknown software, not by fMRIPrep"),
        ({"GeneratedBy": [{"Version": "1"}]}, "generated by unknown software, not by fMRIPrep"),
    ],
)
def test_derivatives_of_other_software_are_rejected(data, content, says):
    description = prepared(data).root / "dataset_description.json"
    description.unlink()
    if content is not None:
        description.write_text(content if isinstance(content, str) else json.dumps(content))
    assert says in refusals(data)


def _write_own_output(data: BidsMaker, **links: str) -> tuple[Path, Path]:
    """Write descriptions as bids-sr does: for all results, and for the exported series."""
    write_dataset(
        output_dir := data.root.parent / "results" / "out", bids_dir=data.root, version="1"
    )
    write_series_dataset(output_dir, "sbl", bids_dir=data.root, version="1")
    roots = output_dir, dataset_root(output_dir, "sbl")
    for root in roots:
        description = json.loads((root / "dataset_description.json").read_text())
        description["DatasetLinks"] |= links
        (root / "dataset_description.json").write_text(json.dumps(description))
    return roots


@pytest.mark.parametrize("output", [0, 1], ids=["all results", "primary series"])
def test_output_of_bids_sr_is_rejected_with_a_remedy(data, tmp_path, output):
    root = _write_own_output(data)[output]
    text = refusals(data, "-d", f"fmriprep={root}")
    assert "the derivatives were generated by bids-sr" in text
    assert "Omit --derivatives. If the output and working directories" in text
    assert (
        main(
            [
                str(data.root),
                str(tmp_path / "new"),
                "participant",
                "-d",
                str(root),
                "--skip-bids-validation",
            ]
        )
        == 2
    )
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("form", ["relative", "uri"])
def test_output_of_bids_sr_refers_to_the_fmriprep_output_it_used(data, form):
    """Names may contain a space, and other links may be broken or lead to another machine."""
    (folder := data.root.parent / "else where").mkdir()
    prepared(data).root.rename(fmriprep_dir := folder / "prep")
    link = "../../else%20where/prep" if form == "relative" else fmriprep_dir.as_uri()
    root, _ = _write_own_output(data, gone="../nowhere", far="https://example.org/prep", prep=link)
    assert (
        "Specify the fMRIPrep output directory that was used to compute these derivatives:"
        f" {fmriprep_dir}." in refusals(data, "-d", str(root))
    )


def test_a_missing_derivatives_directory_is_rejected(data):
    assert "directory was not found" in refusals(data, "-d", "fmriprep=/nowhere/at/all")


def test_the_raw_dataset_is_rejected_as_derivatives(data):
    assert "the raw dataset, not its derivatives" in refusals(data, "-d", str(data.root))


def test_a_subdirectory_with_fmriprep_output_is_suggested(data):
    prepared(data).root.rename(data.root.parent / "inner")
    (data.root.parent / "prep").mkdir()
    (data.root.parent / "inner").rename(data.root.parent / "prep" / "fmriprep")
    assert (
        f"Specify the fMRIPrep output directory {data.root.parent / 'prep' / 'fmriprep'}"
        in refusals(data)
    )


def test_two_derivatives_directories_of_the_same_name_are_rejected(data):
    maker = prepared(data)
    second = FmriprepMaker(data.root.parent / "other")
    assert "two derivatives directories have the same name" in refusals(
        data, "-d", f"a={maker.root}", f"a={second.root}"
    )


def test_derivatives_cannot_be_combined_with_retrospective(data):
    maker = prepared(data)
    assert "downsampled copies" in refusals(data, "-d", str(maker.root), "--retrospective")


def _change_lines(path: Path, change) -> None:
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: lines[:-4], "29 transforms, but 30 transforms are expected"),
        (lambda lines: lines[:-1], "incomplete"),
        (
            lambda lines: [line.replace("Parameters: 1", "Parameters: nan") for line in lines],
            "non-numeric values",
        ),
        (
            lambda lines: [line.replace("AffineTransform", "BSplineTransform") for line in lines],
            "BSplineTransform",
        ),
        (lambda lines: lines[1:], "not an ITK transform text"),
    ],
)
def test_invalid_head_motion_transforms_are_rejected(data, change, says):
    maker = prepared(data)
    _change_lines(maker.root / HMC, change)
    text = refusals(data)
    assert says in text
    assert "desc-hmc_xfm.txt" in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: lines[:-1], "29 rows, but the run has 30 volumes"),
        (
            lambda lines: [lines[0].replace("rot_z\t", "rot_q\t"), *lines[1:]],
            "does not contain the columns rot_z (existing columns: global_signal, csf",
        ),
        (
            lambda lines: [*lines[:-1], lines[-1].rpartition("\t")[0]],
            "do not all have the same number of columns",
        ),
        (
            lambda lines: [*lines[:-1], "\t".join(["x"] * len(lines[0].split("\t")))],
            "trans_x contains non-numeric values",
        ),
        (lambda lines: [], "does not contain the columns trans_x"),
    ],
)
def test_invalid_confounds_are_rejected(data, change, says):
    maker = prepared(data)
    _change_lines(maker.root / TABLE, change)
    text = refusals(data)
    assert says in text
    # a second copy does not have other columns
    assert ("Copy the file again" in text) is not ("does not contain" in text or "rows," in text)


@pytest.mark.parametrize(
    "name", [f"{STEM}_desc-hmc_boldref", f"{STEM}_desc-brain_mask", f"{ANAT}_desc-brain_mask"]
)
@pytest.mark.parametrize("change", ["matrix", "place", "broken"])
def test_images_on_another_grid_are_rejected(data, name, change):
    maker = prepared(data)
    path = maker.root / f"{name}.nii.gz"
    image = nb.load(path)
    values, affine = np.asarray(image.dataobj), image.affine.copy()
    if change == "broken":
        path.write_bytes(b"nothing")
    elif change == "matrix":
        nb.Nifti1Image(values[1:], affine).to_filename(path)
    else:
        affine[0, 3] += 1
        nb.Nifti1Image(values, affine).to_filename(path)
    says = {
        "broken": "cannot be read",
        "matrix": "the matrix size is",
        "place": "by up to 1 mm",
    }[change]
    assert says in refusals(data)


@pytest.mark.parametrize(
    "name", ["anat/sub-01_desc-brain_mask", "func/sub-01_task-tap_desc-brain_mask"]
)
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("empty", "voxels in the brain mask is 0,"),
        ("one", "voxels in the brain mask is 1,"),
        ("all", "covers the whole field of view"),
        ("cut", "truncated"),
    ],
)
def test_an_implausible_brain_mask_is_rejected(data, name, kind, says):
    inside = np.zeros((8, 8, 6), bool)
    inside[1:-1, 1:-1, 1:-1] = True
    path = prepared(data, mask=inside).root / f"sub-01/{name}.nii.gz"
    assert check_data(planned(data)) == ()
    image = nb.load(path)
    values = np.full(image.shape, kind == "all", np.uint8)
    values[2, 2, 2] = kind != "empty"
    nb.Nifti1Image(values, image.affine).to_filename(path)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    plan = planned(data)
    # the header of a truncated file may be unreadable
    (problem,) = plan.problems or check_data(plan)
    assert problem.what.endswith(path.name)
    assert says in problem.why
    assert problem.remedy


def test_a_mask_larger_than_a_human_brain_is_rejected(data):
    data.t1w(zooms=(0.4, 0.4, 0.4))  # the voxel size is enlarged below
    path = data.path("sub-01_T1w.nii.gz", "anat")
    image = nb.load(path)
    affine = image.affine.copy()
    affine[:3, :3] *= 6
    nb.Nifti1Image(np.asarray(image.dataobj), affine).to_filename(path)
    prepared(data, mask=np.arange(8 * 8 * 6).reshape(8, 8, 6) % 4 > 0)
    (problem,) = check_data(planned(data))
    assert "human brains are at most" in problem.why


def test_an_invalid_composite_transform_is_rejected(data):
    maker = prepared(data)
    (maker.root / f"{ANAT}_from-T1w_to-{SPACE}_mode-image_xfm.h5").write_bytes(b"nothing")
    assert "not an HDF5 file" in refusals(data)
    path = maker.root / f"{ANAT}_from-{SPACE}_to-T1w_mode-image_xfm.h5"
    path.unlink()
    path.mkdir()
    assert refusals(data).count("not an HDF5 file") == 2


@pytest.fixture
def with_field(data) -> FmriprepMaker:
    data.bold(sidecar={"PhaseEncodingDirection": "j-", "TotalReadoutTime": 0.05})
    maker = prepared(data)
    maker.field(
        data.path("sub-01_task-tap_bold.nii.gz", "func"),
        np.zeros((4, 4, 4)),
        np.eye(4),
        to_field=rigid(1),
    )
    return maker


def test_the_field_map_of_a_run_is_found(data, with_field):
    field = planned(data).subjects[0].runs[0].precomputed.field
    assert (field.name, field.phase_encoding, field.readout) == ("auto00000", "j-", 0.05)
    assert field.fieldmap.name == "sub-01_fmapid-auto00000_desc-preproc_fieldmap.nii.gz"


@pytest.mark.parametrize(
    ("sidecar", "says"),
    [
        ({"PhaseEncodingDirection": "j"}, "TotalReadoutTime is missing or invalid"),
        ({"TotalReadoutTime": 0.05}, "PhaseEncodingDirection is missing or invalid"),
        (
            {"PhaseEncodingDirection": "j", "TotalReadoutTime": 50},
            "TotalReadoutTime is missing or invalid",
        ),
        ({"PhaseEncodingDirection": "j", "EffectiveEchoSpacing": 0.001}, ""),
    ],
)
def test_a_field_map_needs_direction_and_readout_time(data, with_field, sidecar, says):
    data.bold(sidecar=sidecar)
    if says:
        assert says in refusals(data)
    else:
        assert planned(data).subjects[0].runs[0].precomputed.field.readout == pytest.approx(0.007)


def test_a_missing_field_map_is_rejected(data, with_field):
    for path in (with_field.root / "sub-01" / "fmap").iterdir():
        path.unlink()
    assert "distortion cannot be corrected without the field map" in refusals(data)


def test_a_field_map_in_other_units_than_hz_is_rejected(data, with_field):
    path = with_field.root / "sub-01/fmap/sub-01_fmapid-auto00000_desc-preproc_fieldmap.json"
    path.write_text(json.dumps({"Units": "rad/s"}))
    assert "Hz is expected" in refusals(data)


def test_two_field_maps_of_one_run_are_rejected(data, with_field):
    write_linear(with_field.root / f"{STEM}_from-boldref_to-other_mode-image_xfm.txt", np.eye(4))
    assert "several field maps" in refusals(data)
