"""Outputs of fMRIPrep: they are found by their names, and unusable ones are rejected.

`find_anatomy` and `find_run` read the outputs of a participant and of a run; whole surveys are in
`test_fmriprep_versions`.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from data.calls import about, problem_of
from data.dataset import BidsMaker, affine_for
from data.fmriprep import SPACE, FmriprepMaker, break_link, prepared, rigid, write_linear

from bids_sr.config.spaces import FSAVERAGE, Space
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.fmriprep import RUN_FILE_RULES, find_run, note_missing_run
from bids_sr.survey.bids.fmriprep_anatomy import find_anatomy, judge_anatomy, judge_surfaces
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.survey.bids.precomputed import DerivativeFolder, PrecomputedAnat, PrecomputedRun
from bids_sr.survey.bids.related_runs import read_run
from bids_sr.survey.notices import is_problem, judge

RUN = "sub-01_task-tap"
BOLD = f"{RUN}_bold.nii.gz"
STEM = f"sub-01/func/{RUN}"
ANAT = "sub-01/anat/sub-01"
HMC = f"{STEM}_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt"
COREG = f"{STEM}_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt"
TABLE = f"{STEM}_desc-confounds_timeseries.tsv"
MASK = f"{STEM}_desc-brain_mask.nii.gz"
TO_TEMPLATE = f"{ANAT}_from-T1w_to-{SPACE}_mode-image_xfm.h5"
FIELD_SIDECAR = {"PhaseEncodingDirection": "j-", "TotalReadoutTime": 0.05}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a data set and derivatives of version 24.1.1, to be copied."""
    data = BidsMaker(tmp_path_factory.mktemp("made") / "bids")
    data.subject()
    inside = np.zeros((8, 8, 6), bool)
    inside[1:-1, 1:-1, 1:-1] = True
    maker = prepared(data, mask=inside, n_dummy=2)
    maker.surfaces(data.path("sub-01_T1w.nii.gz", "anat"))
    bold = data.path(BOLD, "func")
    maker.field(bold, np.zeros((4, 4, 4)), np.eye(4), to_field=rigid(1))
    return data.root.parent


@pytest.fixture
def data(made: Path, tmp_path: Path) -> BidsMaker:
    """Return a copy of data set and derivatives without surfaces and field map."""
    for name in ("bids", "prep"):
        ignored = shutil.ignore_patterns("*.surf.gii", "fmap", "*to-auto00000*")
        shutil.copytree(made / name, tmp_path / name, ignore=ignored)
    return BidsMaker(tmp_path / "bids")


def prep(data: BidsMaker) -> Path:
    return data.root.parent / "prep"


def folder(data: BidsMaker, version: str = "24.1.1") -> DerivativeFolder:
    return DerivativeFolder(root=prep(data), name="prep", program="fMRIPrep", version=version)


def series(
    data: BidsMaker, name: str = RUN, sidecar: Mapping[str, object] | None = None
) -> BoldRun:
    path = data.path(f"{name}_bold.nii.gz", "func")
    return read_run(path, {"RepetitionTime": 1.0, **(sidecar or {})})


def anatomy(data: BidsMaker, t1w: str = "sub-01_T1w.nii.gz") -> PrecomputedAnat | None:
    return find_anatomy([folder(data)], "01", [data.path(t1w, "anat")]).value


def found(
    data: BidsMaker, run: BoldRun | None = None, version: str = "24.1.1"
) -> tuple[PrecomputedRun | None, set[Notice]]:
    """Return the derivatives of a run, and what is reported about them and the anatomy."""
    source, run = folder(data, version), run or series(data)
    choice = find_anatomy([source], "01", [data.path("sub-01_T1w.nii.gz", "anat")])
    notices = set(choice.notices)
    if choice.value is not None:
        notices |= set(judge_anatomy("01", choice.value, []))
    files = find_run([source], run, choice.value)
    if files is None:
        return None, notices | set(note_missing_run([source], run))
    return files.select(), notices | set(judge(RUN_FILE_RULES, files))


def problems(data: BidsMaker, run: BoldRun | None = None) -> list[Notice]:
    """Return the problems of the derivatives of a run."""
    return list(filter(is_problem, found(data, run)[1]))


def valid(data: BidsMaker, run: BoldRun | None = None) -> PrecomputedRun:
    """Return the derivatives of a run, which have no problem."""
    assert problems(data, run) == []
    precomputed, _ = found(data, run)
    assert precomputed is not None
    return precomputed


# ---- names


def test_all_outputs_are_found_and_nothing_is_reported(data: BidsMaker) -> None:
    precomputed, notices = found(data)
    assert notices == set()
    assert precomputed is not None
    names = {"hmc_xfms": HMC, "bold_mask": MASK, "boldref2t1w_xfm": COREG, "confounds_tsv": TABLE}
    assert precomputed.files == {key: prep(data) / name for key, name in names.items()}
    assert precomputed.n_dummy == 2
    assert precomputed.origin.uri(precomputed.hmc) == f"bids:prep:{HMC}"
    anat = anatomy(data)
    assert anat is not None
    assert set(anat.spaces) == {SPACE}
    assert anat.tpms == tuple(
        prep(data) / f"{ANAT}_label-{tissue}_probseg.nii.gz" for tissue in ("GM", "WM", "CSF")
    )


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("sub-01_ses-02_task-tap_run-1", "sub-01_ses-02_task-tap_run-01"),
        ("sub-01_ses-02_task-tap_echo-1_part-mag", "sub-01_ses-02_task-tap"),
        ("sub-01_ses-02_task-tap_part-mag", "sub-01_ses-02_task-tap_part-mag"),
        ("sub-01_ses-02_task-tap_dir-AP_run-2", "sub-01_ses-02_task-tap_run-2"),
    ],
)
def test_runs_are_found_under_the_names_of_combined_outputs(
    tmp_path: Path, raw: str, name: str
) -> None:
    data = BidsMaker(tmp_path / "bids")
    data.bold(raw)
    data.t1w("sub-01_ses-02")
    maker = FmriprepMaker(tmp_path / "prep", "23.1.4")
    maker.anat(data.path("sub-01_ses-02_T1w.nii.gz", "anat"))
    bold = data.path(f"{raw}_bold.nii.gz", "func")
    maker.run(bold, name=name)
    maker.run(bold, name="sub-01_ses-02_task-tap_run-3")
    precomputed = valid(data, series(data, raw))
    assert {path.name.partition("_from")[0] for path in (precomputed.hmc, precomputed.coreg)} == {
        name
    }
    assert set(precomputed.files) == {"hmc_xfms", "bold_mask", "boldref2t1w_xfm", "confounds_tsv"}


def test_a_name_without_direction_matches_no_run_if_directions_differ(tmp_path: Path) -> None:
    data = BidsMaker(tmp_path / "bids")
    names = [f"{RUN}_dir-{direction}" for direction in ("AP", "PA")]
    paths = [data.bold(name) for name in names]
    FmriprepMaker(tmp_path / "prep", "23.1.4").run(paths[0], name=RUN)
    assert [found(data, series(data, name))[0] for name in names] == [None, None]


def test_sessions_may_share_the_anatomy_of_one_of_them(tmp_path: Path) -> None:
    """A registration to the T1w image of another session is not used."""
    data, maker = BidsMaker(tmp_path / "bids"), FmriprepMaker(tmp_path / "prep", "25.2.5")
    for session in ("1", "2"):
        data.t1w(f"sub-01_ses-{session}")
        maker.anat(data.path(f"sub-01_ses-{session}_T1w.nii.gz", "anat"))
        maker.run(data.bold(f"sub-01_ses-{session}_task-tap"))
    first, second = (series(data, f"sub-01_ses-{session}_task-tap") for session in ("1", "2"))
    assert valid(data, first).coreg is not None
    precomputed, notices = found(data, second)
    assert precomputed is not None
    assert precomputed.coreg is None
    images = [f"sub-01_ses-{session}_desc-preproc_T1w.nii.gz" for session in ("2", "1")]
    (notice,) = about(notices, str(second.bold), *images)
    assert notice.why.index(images[0]) < notice.why.index(images[1]), "image of the registration"
    anat = anatomy(data, "sub-01_ses-2_T1w.nii.gz")
    assert anat is not None
    assert anat.preproc.name == images[0], "the session of the raw image"
    # one anatomy of the participant
    shared = maker.root / "sub-01" / "anat"
    shutil.move(maker.root / "sub-01" / "ses-1" / "anat", shared)
    shutil.rmtree(maker.root / "sub-01" / "ses-2" / "anat")
    for path in list(shared.iterdir()):
        path.rename(path.with_name(path.name.replace("_ses-1", "")))
    assert [valid(data, run).coreg.parent.parent.name for run in (first, second)] == [
        "ses-1",
        "ses-2",
    ]


@pytest.mark.parametrize("name", ["desc-confounds_regressors.tsv", "bold_confounds.tsv"])
def test_a_table_with_the_column_names_of_fmriprep_1_is_used(data: BidsMaker, name: str) -> None:
    old = prep(data) / TABLE
    old.with_suffix(".json").unlink()
    table = old.rename(old.with_name(f"{RUN}_{name}"))
    header, _, rows = table.read_text().partition("\n")
    for kind, axis in [(kind, axis) for kind in ("trans_", "rot_") for axis in "xyz"]:
        new = f"{'Rot' if kind == 'rot_' else ''}{axis.upper()}"
        header = re.sub(rf"\b{kind}{axis}\b", new, header)
    header = re.sub(r"\S+_(derivative1|power2)", r"other\g<0>", header)
    table.write_text(f"{header}\n{rows}")
    precomputed = valid(data)
    assert (precomputed.confounds, precomputed.n_dummy) == (table, 2)


def test_surfaces_of_every_version_are_recognized_by_name(data: BidsMaker) -> None:
    def names() -> dict[str, str]:
        anat = anatomy(data)
        assert anat is not None
        for left, right in anat.surfaces.values():
            assert right.name == left.name.replace("hemi-L", "hemi-R")
        return {
            kind: left.name.removeprefix("sub-01_hemi-L_").removesuffix(".surf.gii")
            for kind, (left, _) in anat.surfaces.items()
        }

    def add(*kinds: str) -> None:
        for kind in kinds:
            for side in "LR":
                (prep(data) / f"{ANAT}_hemi-{side}_{kind}.surf.gii").touch()

    add("smoothwm", "pial")
    assert names() == {"white": "smoothwm", "pial": "pial"}
    add("white", "space-fsLR_desc-reg_sphere")
    assert names() == {"white": "white", "pial": "pial"}
    add("desc-reg_sphere")
    assert names()["sphere"] == "desc-reg_sphere"
    add("space-fsaverage_desc-reg_sphere")
    assert names()["sphere"] == "space-fsaverage_desc-reg_sphere"
    (prep(data) / f"{ANAT}_hemi-R_pial.surf.gii").unlink()
    assert "pial" not in names()


# ---- outputs that are missing


@pytest.mark.parametrize(
    ("removed", "missing", "file", "values"),
    [
        ("*confounds*", "confounds_tsv", BOLD, ["--level full"]),
        ("*desc-confounds*.json", None, TABLE, ["JSON"]),
        ("func/*brain_mask*", "bold_mask", BOLD, ["--output-spaces func", "23.2.3"]),
        ("*desc-coreg_xfm*", "boldref2t1w_xfm", BOLD, ["26.0", "--bold-coreg-level run"]),
        ("*desc-hmc_xfm*", "hmc_xfms", BOLD, ["22.1"]),
        ("*WM_probseg*", None, "sub-01", ["label-{GM,WM,CSF}_probseg"]),
        ("anat/*brain_mask*", "boldref2t1w_xfm", "sub-01_desc-preproc_T1w.nii.gz", []),
        ("anat/*preproc_T1w*", "boldref2t1w_xfm", "sub-01", []),
    ],
)
def test_a_missing_output_is_reported_with_the_option_that_writes_it(
    data: BidsMaker, removed: str, missing: str | None, file: str, values: list[str]
) -> None:
    for path in prep(data).glob(
        f"sub-01/**/{removed}" if "/" not in removed else f"sub-01/{removed}"
    ):
        path.unlink()
    precomputed, notices = found(data)
    assert precomputed is not None
    outputs = {"hmc_xfms", "bold_mask", "boldref2t1w_xfm", "confounds_tsv"}
    assert set(precomputed.files) == outputs - {missing}
    assert {notice.level for notice in notices} == {"note"}
    assert about(notices, file, *values), notices
    if "WM" in removed:
        assert anatomy(data).tpms == ()


@pytest.mark.parametrize("removed", ["*confounds*", "*"])
def test_a_run_without_motion_estimates_is_processed_by_bids_sr(
    data: BidsMaker, removed: str
) -> None:
    for path in (prep(data) / "sub-01" / "func").glob(removed):
        path.unlink()
    (prep(data) / HMC).unlink(missing_ok=True)
    precomputed, notices = found(data)
    assert precomputed is None
    assert {notice.level for notice in notices} == {"note"}
    values = ["22.1"] if removed != "*" else []
    assert len(about(notices, BOLD, "24.1.1", *values)) == 1


def test_a_required_file_that_was_not_downloaded_is_named(data: BidsMaker) -> None:
    break_link(sidecar := (prep(data) / TABLE).with_suffix(".json"))
    problem_of(problems(data), str(sidecar), "datalad get", code="annex")
    sidecar.unlink()
    path = prep(data) / MASK
    path.unlink()
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    problem_of(problems(data), str(path), "git lfs pull -I", code="lfs")


# ---- files that cannot be used


def change_lines(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


@pytest.mark.parametrize(
    ("name", "change", "values"),
    [
        (HMC, lambda lines: lines[:-4], ["29", "30"]),
        (HMC, lambda lines: lines[:-1], []),
        (HMC, lambda lines: [line.replace("rs: 1", "rs: nan") for line in lines], []),
        (
            HMC,
            lambda lines: [line.replace("AffineT", "BSplineT") for line in lines],
            ["BSplineTransform"],
        ),
        (HMC, lambda lines: lines[1:], []),
        (COREG, lambda lines: [*lines, *lines[1:]], ["2"]),
        (COREG, lambda lines: [re.sub("^(Par.*?:).*", r"\1 1 0 0", line) for line in lines], []),
        (
            COREG,
            lambda lines: [re.sub("^(Par.*?:).*", r"\1" + 12 * " 0", x) for x in lines],
            ["0"],
        ),
        (TABLE, lambda lines: lines[:-1], ["29", "30"]),
        (
            TABLE,
            lambda lines: [lines[0].replace("rot_z\t", "rot_q\t"), *lines[1:]],
            ["rot_z", "global_signal", "--derivatives"],
        ),
        (TABLE, lambda lines: [*lines[:-1], lines[-1].rpartition("\t")[0]], []),
        (
            TABLE,
            lambda lines: [*lines[:-1], "\t".join(["x"] * len(lines[0].split("\t")))],
            ["trans_x"],
        ),
        (TABLE, lambda lines: [], ["trans_x", "none"]),
    ],
)
def test_spoiled_transforms_and_tables_are_refused(
    data: BidsMaker, name: str, change: Callable[[list[str]], list[str]], values: list[str]
) -> None:
    change_lines(prep(data) / name, change)
    problem_of(problems(data), str(prep(data) / name), *values)


@pytest.mark.parametrize(
    "name", [f"{STEM}_desc-hmc_boldref", f"{STEM}_desc-brain_mask", f"{ANAT}_desc-brain_mask"]
)
def test_images_on_another_grid_are_refused(data: BidsMaker, name: str) -> None:
    path = prep(data) / f"{name}.nii.gz"
    image = nb.load(path)
    values, shifted = np.asarray(image.dataobj), image.affine.copy()
    size = " × ".join(map(str, values.shape))
    cut = " × ".join(map(str, values[1:].shape))
    nb.Nifti1Image(values[1:], image.affine).to_filename(path)
    problem_of(problems(data), str(path), size, cut)
    shifted[0, 3] += 1
    nb.Nifti1Image(values, shifted).to_filename(path)
    problem_of(problems(data), str(path), "1")
    path.write_bytes(b"nothing")
    problem_of(problems(data), str(path))


def test_an_oblique_grid_may_differ_by_the_rounding_of_its_qform(data: BidsMaker) -> None:
    # the scalar part of the quaternion is almost zero
    turned = affine_for((3.0, 3.0, 4.0)) @ rigid(yaw=np.pi - 5e-4)
    path = data.path(BOLD, "func")
    image = nb.Nifti1Image(np.asarray(nb.load(path).dataobj), turned)
    image.header.set_zooms((*image.header.get_zooms()[:3], 1.0))
    image.to_filename(path)
    FmriprepMaker(prep(data)).run(path)
    mask = prep(data) / MASK
    only_qform = nb.Nifti1Image(np.asarray(nb.load(mask).dataobj), turned)
    only_qform.set_qform(turned, 1)
    only_qform.set_sform(None, 0)
    only_qform.to_filename(mask)
    corners = np.array([[0, 0, 0, 1], [15, 15, 5, 1]]).T
    assert 0.01 < np.abs((nb.load(mask).affine - turned) @ corners).max() < 0.5
    assert valid(data).mask == mask


def test_a_composite_transform_must_be_an_hdf5_file(data: BidsMaker) -> None:
    path = prep(data) / TO_TEMPLATE
    path.write_bytes(b"nothing")
    problem_of(problems(data), str(path), "HDF5")
    other = prep(data) / f"{ANAT}_from-{SPACE}_to-T1w_mode-image_xfm.h5"
    other.unlink()
    other.mkdir()
    assert {problem.what for problem in problems(data)} == {str(path), str(other)}


@pytest.mark.parametrize("content", [b"", b"x", b"<GIFTI></GIFTI>", b"<DataArray Dim0='7'/>"])
def test_surfaces_must_match_if_they_are_requested(
    data: BidsMaker, made: Path, content: bytes
) -> None:
    def faults(*spaces: Space) -> list[Notice]:
        return list(judge_surfaces("01", anatomy(data), spaces))

    native = Space(name="fsnative")
    problem_of(faults(native, FSAVERAGE), "sub-01 (--output-spaces fsnative)", "--fs-no-reconall")
    assert faults(FSAVERAGE) == []
    for path in (made / "prep" / "sub-01" / "anat").glob("*.surf.gii"):
        shutil.copy(path, prep(data) / "sub-01" / "anat")
    assert faults(native) == []
    pial = prep(data) / f"{ANAT}_hemi-R_pial.surf.gii"
    pial.write_bytes(content)
    assert faults(Space(name="T1w")) == []
    problem_of(faults(native), f"{ANAT}_hemi-R_white.surf.gii")
    break_link(pial)
    problem_of(faults(native), str(pial), "datalad get", code="annex")


# ---- field maps


@pytest.fixture
def field(data: BidsMaker, made: Path) -> Path:
    """Return the field map of the run, which is added to the derivatives."""
    shutil.copytree(made / "prep" / "sub-01" / "fmap", prep(data) / "sub-01" / "fmap")
    for path in (made / "prep" / "sub-01" / "func").glob("*to-auto00000*"):
        shutil.copy(path, prep(data) / "sub-01" / "func")
    return prep(data) / "sub-01/fmap/sub-01_fmapid-auto00000_desc-preproc_fieldmap.nii.gz"


def test_the_field_map_of_a_run_is_found(data: BidsMaker, field: Path) -> None:
    """A registration to a session template, ``--bold-coreg-level session``, is not one to it."""
    registration = prep(data) / COREG
    registration.rename(registration.with_name(registration.name.replace("to-T1w", "to-session")))
    precomputed = valid(data, series(data, sidecar=FIELD_SIDECAR))
    assert precomputed.coreg is None
    used = precomputed.field
    assert used is not None
    assert (used.name, used.phase_encoding, used.readout) == ("auto00000", "j-", 0.05)
    assert used.fieldmap == field


@pytest.mark.parametrize(
    ("sidecar", "missing"),
    [
        ({"PhaseEncodingDirection": "j"}, "TotalReadoutTime"),
        ({"TotalReadoutTime": 0.05}, "PhaseEncodingDirection"),
        ({"PhaseEncodingDirection": "j", "TotalReadoutTime": 50}, "TotalReadoutTime"),
        ({"PhaseEncodingDirection": "j", "EffectiveEchoSpacing": 0.001}, None),
    ],
)
def test_a_field_map_needs_direction_and_readout_time(
    data: BidsMaker, field: Path, sidecar: dict[str, object], missing: str | None
) -> None:
    run = series(data, sidecar=sidecar)
    if missing is None:
        assert valid(data, run).field.readout == pytest.approx(0.007)
    else:
        problem_of(problems(data, run), BOLD, missing, "auto00000")


@pytest.mark.parametrize("damage", ["missing", "unit", "dimensions", "link", "two"])
def test_a_field_map_that_cannot_be_used_is_refused(
    data: BidsMaker, field: Path, damage: str
) -> None:
    other = prep(data) / f"{STEM}_from-boldref_to-other_mode-image_xfm.txt"
    own = f"{STEM}_from-boldref_to-auto00000"
    sidecar = field.with_name(field.name.replace(".nii.gz", ".json"))
    file, values, code = str(field), [], "input"
    if damage == "missing":
        shutil.rmtree(field.parent)
        file, values = own, ["auto00000"]
    elif damage == "unit":
        sidecar.write_text(json.dumps({"Units": "rad/s"}))
        values = ["rad/s", "Hz"]
    elif damage == "dimensions":
        nb.Nifti1Image(np.zeros((4, 4, 4, 2)), np.eye(4)).to_filename(field)
        values = ["(4, 4, 4, 2)"]
    elif damage == "link":
        break_link(sidecar)
        file, code = str(sidecar), "annex"
    else:
        write_linear(other, np.eye(4))
        file, values = own, [other.name]
    faults = problems(data, series(data, sidecar=FIELD_SIDECAR))
    problem_of(faults, file, *values, code=code)
