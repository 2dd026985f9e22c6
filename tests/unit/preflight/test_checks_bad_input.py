"""Invalid input documented as rejected: exit code 2, file, reason and fix; no files are
written.
"""

from __future__ import annotations

import gzip
import re
import shutil
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from data.dataset import BidsMaker, snapshot

from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.io.nifti import save_image
from bids_sr.preflight import check, check_data, directories, validator

BOLD = "sub-01_task-tap_bold.nii.gz"
HIGH, LOW = "sub-01_acq-highres_T2starw.nii.gz", "sub-01_acq-lowres_T2starw.nii.gz"
Corruption = Callable[[BidsMaker], list[str] | None]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A way to corrupt a valid dataset, and required parts of the message."""

    spoil: Corruption
    file: str
    reason: str
    fix: str


def _missing_directory(maker: BidsMaker) -> None:
    shutil.rmtree(maker.root)


def _not_bids(maker: BidsMaker) -> None:
    (maker.root / "dataset_description.json").unlink()


def _no_participant(maker: BidsMaker) -> list[str]:
    return ["--participant-label", "sub-02"]


def _no_task(maker: BidsMaker) -> list[str]:
    return ["--task-id", "tape"]


def _no_session(maker: BidsMaker) -> list[str]:
    return ["--session-label", "2"]


def _events_without_durations(maker: BidsMaker) -> None:
    maker.events(rows=((2.0, "thumb"),), header="onset\ttrial_type")


def _events_without_numbers(maker: BidsMaker) -> None:
    maker.events(rows=(("soon", 4.0, "thumb"),))


def _events_without_times(maker: BidsMaker) -> None:
    maker.events(rows=(("n/a", 4.0, "thumb"), (4.0, "n/a", "little")))


def _only_rest(maker: BidsMaker) -> None:
    maker.events(rows=((2.0, 4.0, "rest"), (8.0, 4.0, "Fixation")))


def _contrast_unknown(maker: BidsMaker) -> list[str]:
    return ["--contrasts", "thump-little"]


def _events_late(maker: BidsMaker) -> None:
    maker.events(rows=((2.0, 4.0, "thumb"), (30.0, 4.0, "little"), (40.0, 4.0, "thumb")))


def _three_dimensions(maker: BidsMaker) -> None:
    maker.image(BOLD, "func", (6.0, 6.0, 4.0))


def _one_volume(maker: BidsMaker) -> None:
    maker.bold(n_volumes=1)


def _noise(n_volumes: int = 30) -> np.ndarray:
    return np.random.default_rng(0).normal(100, 5, (8, 8, 6, n_volumes)).astype("float32")


def _nan(maker: BidsMaker) -> None:
    data = _noise()
    data[3, 3, 3, 7] = np.nan
    maker.bold(data=data)


def _infinite_t1w(maker: BidsMaker) -> None:
    data = _noise(1)[..., 0]
    data[0, 0, 0] = np.inf
    maker.t1w(data=data)


def _constant(maker: BidsMaker) -> None:
    maker.bold(data=np.full((8, 8, 6, 30), 7, "int16"))


def _constant_volume(maker: BidsMaker) -> None:
    data = _noise()
    data[..., 23:] = 0
    maker.bold(data=data)


def _frozen(maker: BidsMaker) -> None:
    maker.bold(data=np.repeat(_noise(1), 30, axis=3))


def _truncate(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def _truncated(maker: BidsMaker) -> None:
    _truncate(maker.path(BOLD, "func"), 0.6)


def _truncated_header(maker: BidsMaker) -> None:
    path = maker.path(BOLD, "func")
    path.write_bytes(path.read_bytes()[:60])


def _truncated_highres(maker: BidsMaker) -> None:
    _truncate(maker.path(HIGH, "anat"), 0.5)


def _corrupt(maker: BidsMaker) -> None:
    path = maker.path(BOLD, "func")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def _no_gzip(maker: BidsMaker) -> None:
    maker.path(BOLD, "func").write_bytes(b"<html>not found</html>" * 100)


def _empty(maker: BidsMaker) -> None:
    maker.path(BOLD, "func").write_bytes(b"")


def _broken_link(maker: BidsMaker) -> None:
    path = maker.path(BOLD, "func")
    path.unlink()
    path.symlink_to(maker.root / ".git" / "annex" / "nowhere")


def _colored(maker: BidsMaker) -> None:
    data = np.zeros((8, 8, 6, 30), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    maker.bold(data=data)


def _one_column(maker: BidsMaker) -> None:
    maker.bold(zooms=(48.0, 6.0, 4.0), sidecar={"SliceEncodingDirection": "k"})


def _one_row(maker: BidsMaker) -> None:
    maker.bold(zooms=(6.0, 48.0, 4.0), sidecar={"SliceEncodingDirection": "k"})


def _no_orientation(maker: BidsMaker) -> None:
    path = maker.path(BOLD, "func")
    image = nb.load(path)
    data, header = np.asanyarray(image.dataobj), image.header.copy()
    header.set_qform(None, 0)
    header.set_sform(None, 0)
    nb.Nifti1Image(data, None, header).to_filename(path)


def _no_tr(maker: BidsMaker) -> None:
    maker.bold(sidecar={"RepetitionTime": None})


def _wrong_tr(maker: BidsMaker) -> None:
    maker.bold(header_tr=2.5)


def _bad_sidecar(maker: BidsMaker) -> None:
    maker.path("sub-01_task-tap_bold.json", "func").write_text('{"RepetitionTime": 1.0,')


def _equal_pair(maker: BidsMaker) -> None:
    maker.star("sub-01_acq-lowres", (3.0, 3.0, 4.0))


def _both_coarse(maker: BidsMaker) -> None:
    maker.star("sub-01_acq-highres", (6.0, 6.0, 4.0))


def _swapped_pair(maker: BidsMaker) -> None:
    maker.star("sub-01_acq-highres", (6.0, 6.0, 4.0))
    maker.star("sub-01_acq-lowres", (3.0, 3.0, 4.0))


def _elsewhere(maker: BidsMaker) -> None:
    maker.star("sub-01_acq-highres", (3.0, 3.0, 4.0), shift=(0, 200, 0))
    maker.star("sub-01_acq-lowres", (6.0, 6.0, 4.0), shift=(0, 200, 0))


def _two_pairs(maker: BidsMaker) -> None:
    maker.star("sub-01_acq-fine", (2.0, 2.0, 4.0))


def _two_sessions_with_pairs(maker: BidsMaker) -> None:
    for name in (HIGH, LOW):
        maker.path(name, "anat").unlink()
    for session in ("a", "b"):
        maker.star(f"sub-01_ses-{session}_acq-highres", (3.0, 3.0, 4.0))
        maker.star(f"sub-01_ses-{session}_acq-lowres", (6.0, 6.0, 4.0))


def _no_pair(maker: BidsMaker) -> None:
    for name in (HIGH, LOW):
        maker.path(name, "anat").unlink()


def _odd_ratio(maker: BidsMaker) -> None:
    maker.star("sub-01_acq-highres", (48 / 11, 48 / 11, 4.0))


def _wrong_factor(maker: BidsMaker) -> list[str]:
    return ["--sr-factor", "3"]


def _thin_slices(maker: BidsMaker) -> None:
    maker.star("sub-01_acq-highres", (3.0, 3.0, 2.0))


def _echoes(maker: BidsMaker) -> None:
    for name in (BOLD, "sub-01_task-tap_bold.json"):
        maker.path(name, "func").unlink()
    for echo in (1, 2):
        maker.bold(f"sub-01_task-tap_echo-{echo}")


def _phase_only(maker: BidsMaker) -> None:
    path = maker.path(BOLD, "func")
    path.rename(path.with_name("sub-01_task-tap_part-phase_bold.nii.gz"))


def _complex(maker: BidsMaker) -> None:
    maker.bold(data=_noise().astype("complex64"))


def _output_inside(maker: BidsMaker) -> list[str]:
    return ["OUT", str(maker.root / "sub-01" / "sr")]


def _input_inside(maker: BidsMaker) -> list[str]:
    return ["OUT", str(maker.root.parent)]


def _output_under_a_file(maker: BidsMaker) -> list[str]:
    (maker.root.parent / "file").write_text("")
    return ["OUT", str(maker.root.parent / "file" / "out")]


def _work_inside(maker: BidsMaker) -> list[str]:
    return ["-w", str(maker.root / "work")]


def _unknown_space(maker: BidsMaker) -> list[str]:
    return ["--output-spaces", "MNI152NLin2009cAsym:res-7"]


def _no_roi(maker: BidsMaker) -> list[str]:
    return ["--roi", str(maker.root.parent / "roi.nii.gz")]


def _empty_roi(maker: BidsMaker) -> list[str]:
    path = maker.root.parent / "roi.nii.gz"
    save_image(np.zeros((8, 8, 4), dtype=np.uint8), np.eye(4), path)
    return ["--roi", str(path)]


def _roi_of_nan(maker: BidsMaker) -> list[str]:
    path = maker.root.parent / "roi.nii.gz"
    nb.save(nb.Nifti1Image(np.full((8, 8, 4), np.nan, np.float32), np.eye(4)), path)
    return ["--roi", str(path)]


def _roi_of_colors(maker: BidsMaker) -> list[str]:
    path = maker.root.parent / "roi.nii.gz"
    colors = np.zeros((8, 8, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nb.save(nb.Nifti1Image(colors, np.eye(4)), path)
    return ["--roi", str(path)]


def _t1w_as_roi(maker: BidsMaker) -> list[str]:
    path = maker.root.parent / "roi.nii.gz"
    data = np.random.default_rng(0).integers(0, 900, (8, 8, 4), dtype=np.int16)
    save_image(data, np.eye(4), path)
    return ["--roi", str(path)]


def _roi_below_zero(maker: BidsMaker) -> list[str]:
    path = maker.root.parent / "roi.nii.gz"
    data = np.zeros((8, 8, 4), dtype=np.int16)
    data[2:4], data[6] = 1, -3
    save_image(data, np.eye(4), path)
    return ["--roi", str(path)]


def _roi(maker: BidsMaker, name: str, affine: np.ndarray) -> list[str]:
    data = np.zeros((8, 8, 6), dtype=np.uint8)
    data[2:5, 3:6, 1:4] = 1
    save_image(data, affine, maker.root.parent / name)
    return ["--roi", str(maker.root.parent / name)]


def _roi_in_unknown_space(maker: BidsMaker) -> list[str]:
    return _roi(maker, "roi.nii.gz", np.eye(4))


def _roi_with_unknown_entity(maker: BidsMaker) -> list[str]:
    return _roi(maker, "space-fsaverage_mask.nii.gz", np.eye(4))


def _roi_in_another_template(maker: BidsMaker) -> list[str]:
    return _roi(maker, "space-MNIInfant_cohort-2_mask.nii.gz", np.eye(4))


def _roi_of_another_run(maker: BidsMaker) -> list[str]:
    return _roi(maker, "space-boldref_mask.nii.gz", np.eye(4))


def _truncated_roi(maker: BidsMaker) -> list[str]:
    path = maker.root.parent / "roi.nii.gz"
    data = np.random.default_rng(0).integers(0, 2, (32, 32, 16), dtype=np.uint8)
    save_image(data, np.eye(4), path)
    _truncate(path, 0.7)
    return ["--roi", str(path)]


def _atlas(maker: BidsMaker, data: np.ndarray, more_rows: str = "") -> list[str]:
    """Write an atlas with a single label, Hand_L, of value 3."""
    path = maker.root.parent / "space-T1w_dseg.nii.gz"
    save_image(data, np.eye(4), path)
    path.with_name("space-T1w_dseg.tsv").write_text(f"index\tname\n3\tHand_L\n{more_rows}")
    return ["--set", f"activation.atlas={path}"]


def _atlas_in_unknown_space(maker: BidsMaker) -> list[str]:
    path = maker.root.parent / "atlas-Mine_dseg.nii.gz"
    save_image(np.full((8, 8, 4), 3, dtype=np.uint8), np.eye(4), path)
    path.with_name("atlas-Mine_dseg.tsv").write_text("index\tname\n3\tHand_L\n")
    return ["--set", f"activation.atlas={path}"]


def _region_without_voxels(maker: BidsMaker) -> list[str]:
    atlas = _atlas(maker, np.full((8, 8, 4), 3, dtype=np.uint8), "4\tFoot_L\n")
    return [*atlas, "--roi", "Foot_L"]


def _seed_without_voxels(maker: BidsMaker) -> list[str]:
    atlas = _atlas(maker, np.full((8, 8, 4), 3, dtype=np.uint8), "4\tFoot_L\n")
    return [*atlas, "--set", "activation.seeds=[Hand_L, Foot_L]"]


def _empty_atlas(maker: BidsMaker) -> list[str]:
    return _atlas(maker, np.zeros((8, 8, 4), dtype=np.uint8))


def _nameless_label(maker: BidsMaker) -> list[str]:
    return _atlas(maker, np.full((8, 8, 4), 7, dtype=np.uint8))


def _probabilities(maker: BidsMaker) -> list[str]:
    return _atlas(maker, np.full((8, 8, 4), 3.4, dtype=np.float32))


def _several_maps(maker: BidsMaker) -> list[str]:
    return _atlas(maker, np.full((8, 8, 4, 2), 3, dtype=np.uint8))


def _broken_atlas(maker: BidsMaker) -> list[str]:
    options = _atlas(maker, np.full((8, 8, 4), 3, dtype=np.uint8))
    (maker.root.parent / "space-T1w_dseg.nii.gz").write_bytes(b"no image")
    return options


def _little_memory(maker: BidsMaker) -> list[str]:
    return ["--mem", "0.5"]


def _no_model(maker: BidsMaker) -> list[str]:
    return ["--set", "superres.model_source=reuse"]


def _model_without_card(maker: BidsMaker) -> list[str]:
    path = maker.root.parent / "alone.safetensors"
    path.write_bytes(b"0" * 100)
    return ["--pretrained", str(path)]


def _bad_filter(maker: BidsMaker) -> list[str]:
    path = maker.root.parent / "filter.json"
    path.write_text('{"bold": {"session": "../../secret"}}')
    return ["--bids-filter-file", str(path)]


CASES = {
    "missing directory": Case(
        spoil=_missing_directory,
        file="bids",
        reason=("directory was not found"),
        fix="root directory",
    ),
    "not BIDS": Case(
        spoil=_not_bids,
        file="bids",
        reason="dataset_description.json is missing",
        fix="the directory",
    ),
    "no such participant": Case(
        spoil=_no_participant,
        file="sub-02",
        reason="participant '02' was not found",
        fix="Available: 01.",
    ),
    "no such task": Case(
        spoil=_no_task, file="--task-id tape", reason="no BOLD run", fix="Available: tap."
    ),
    "no such session": Case(
        spoil=_no_session, file="--session-label 2", reason="no BOLD run", fix="Available: none"
    ),
    "events without trial types": Case(
        spoil=_events_without_durations,
        file="_events.tsv",
        reason="required columns are missing: duration",
        fix="Specify an events table",
    ),
    "events without numbers": Case(
        spoil=_events_without_numbers,
        file="_events.tsv",
        reason="in line 2 must be times in seconds, but are 'soon'",
        fix="in seconds",
    ),
    "events without times": Case(
        spoil=_events_without_times,
        file="_events.tsv",
        reason="no trial type to model",
        fix="Specify an events table",
    ),
    "only rest": Case(
        spoil=_only_rest,
        file="_events.tsv",
        reason="no trial type to model",
        fix="Specify an events table",
    ),
    "unknown contrast": Case(
        spoil=_contrast_unknown,
        file="--contrasts thump-little",
        reason="'thump' is not a trial type",
        fix="The trial types of this run are little, thumb. Did you mean 'thumb'?",
    ),
    "events after the end": Case(
        spoil=_events_late,
        file="_events.tsv",
        reason="events that begin after the end",
        fix="Check that onsets",
    ),
    "3D": Case(
        spoil=_three_dimensions,
        file=BOLD,
        reason="3D image of 8×8×6 voxels",
        fix="Merge the volumes",
    ),
    "no orientation": Case(
        spoil=_no_orientation,
        file=BOLD,
        reason="left and right cannot be determined",
        fix="Convert the DICOM",
    ),
    "colors": Case(spoil=_colored, file=BOLD, reason="RGB colors", fix="exclude this file"),
    "one column": Case(
        spoil=_one_column,
        file=BOLD,
        reason="the slices have 1×8 voxels",
        fix="SliceEncodingDirection",
    ),
    "one row": Case(
        spoil=_one_row,
        file=BOLD,
        reason="the slices have 8×1 voxels",
        fix="SliceEncodingDirection",
    ),
    "one volume": Case(spoil=_one_volume, file=BOLD, reason="one volume", fix="conversion"),
    "truncated header": Case(
        spoil=_truncated_header, file=BOLD, reason="header cannot be read", fix="Copy the file"
    ),
    "no gzip": Case(
        spoil=_no_gzip, file=BOLD, reason="header cannot be read", fix="Copy the file"
    ),
    "empty file": Case(
        spoil=_empty, file=BOLD, reason="header cannot be read", fix="Copy the file"
    ),
    "broken link": Case(
        spoil=_broken_link, file=BOLD, reason="symbolic link is broken", fix="datalad get"
    ),
    "no RepetitionTime": Case(
        spoil=_no_tr,
        file=BOLD,
        reason="RepetitionTime is missing",
        fix='Add "RepetitionTime": 1 ',
    ),
    "RepetitionTime at odds": Case(
        spoil=_wrong_tr,
        file=BOLD,
        reason="1 s in the sidecar, but 2.5 s in the image header",
        fix="Correct the wrong value",
    ),
    "broken sidecar": Case(
        spoil=_bad_sidecar,
        file="task-tap_bold.json",
        reason="cannot be read as JSON",
        fix="Correct the file",
    ),
    "equal resolutions": Case(
        spoil=_equal_pair, file=HIGH, reason="the same resolution as", fix="--bids-filter-file"
    ),
    "equal and coarse": Case(
        spoil=_both_coarse, file=HIGH, reason="(6×6×4 mm)", fix="--bids-filter-file"
    ),
    "swapped resolutions": Case(
        spoil=_swapped_pair, file=HIGH, reason="images are swapped", fix="Swap the acq-"
    ),
    "pair elsewhere": Case(
        spoil=_elsewhere, file=HIGH, reason="at least 10% is required", fix="Check the orientation"
    ),
    "two pairs": Case(
        spoil=_two_pairs,
        file=BOLD,
        reason="several T2*-weighted pairs match",
        fix="--bids-filter-file",
    ),
    "pairs of two other sessions": Case(
        spoil=_two_sessions_with_pairs,
        file=BOLD,
        reason="several other sessions have one (ses-a, ses-b)",
        fix="filter-file",
    ),
    "no pair": Case(
        spoil=_no_pair,
        file=BOLD,
        reason="no file matches sub-01/[ses-*/]anat/*_T2starw.nii.gz",
        fix="--sr-method auto (the default), which requires only the run",
    ),
    "odd ratio": Case(
        spoil=_odd_ratio, file=HIGH, reason="is not a simple fraction", fix="Reconstruct"
    ),
    "wrong factor": Case(
        spoil=_wrong_factor, file=HIGH, reason="is 2×2, but --sr-factor is", fix="Omit --sr-factor"
    ),
    "other slices": Case(
        spoil=_thin_slices, file=HIGH, reason="differ in slice thickness", fix="--sr-factor 2 2 2"
    ),
    "echoes without times": Case(
        spoil=_echoes,
        file="echo-1_bold",
        reason="but the sidecar contains None",
        fix="--echo-idx N",
    ),
    "phase alone": Case(
        spoil=_phase_only, file="part-phase_bold", reason="only phase", fix="part-mag"
    ),
    "complex": Case(spoil=_complex, file=BOLD, reason="complex", fix="part-mag"),
    "output inside the input": Case(
        spoil=_output_inside,
        file="sub-01/sr",
        reason="must not be inside the dataset",
        fix="outside the dataset",
    ),
    "input inside the output": Case(
        spoil=_input_inside,
        file="",
        reason="the output directory must not contain the dataset",
        fix="does not contain",
    ),
    "output unwritable": Case(
        spoil=_output_under_a_file,
        file="file/out",
        reason="is not a directory",
        fix="Choose another directory",
    ),
    "work inside the input": Case(
        spoil=_work_inside,
        file="work",
        reason="the working directory must not be inside",
        fix="outside the dataset",
    ),
    "unknown output space": Case(
        spoil=_unknown_space,
        file="--output-spaces",
        reason="resolution 7 is not available for this template (available: res-1",
        fix="MNI152NLin2009cAsym without a resolution",
    ),
    "no ROI file": Case(
        spoil=_no_roi, file="roi.nii.gz", reason="file not found", fix="--roi motor"
    ),
    "empty ROI": Case(
        spoil=_empty_roi, file="roi.nii.gz", reason="the mask image is empty", fix="--roi motor"
    ),
    "ROI of NaN": Case(
        spoil=_roi_of_nan,
        file="roi.nii.gz",
        reason="all voxel values are NaN",
        fix="values above 0",
    ),
    "ROI of colors": Case(
        spoil=_roi_of_colors, file="roi.nii.gz", reason="RGB colors", fix="single mask image"
    ),
    "T1w image as ROI": Case(
        spoil=_t1w_as_roi,
        file="roi.nii.gz",
        reason="the image is not a mask",
        fix="the value 1 inside the region",
    ),
    "ROI with values below 0": Case(
        spoil=_roi_below_zero,
        file="roi.nii.gz",
        reason="the image is not a mask: it contains 1 different value below 0",
        fix="the value 1 inside the region",
    ),
    "ROI in an unknown space": Case(
        spoil=_roi_in_unknown_space,
        file="roi.nii.gz",
        reason="the space of the image is not known",
        fix="space-T1w, space-boldref or space-MNI152",
    ),
    "ROI with an unknown space in its name": Case(
        spoil=_roi_with_unknown_entity,
        file="space-fsaverage_mask.nii.gz",
        reason="the space fsaverage in the file name is not a space of sub-01",
        fix="space-T1w, space-boldref or space-MNI152",
    ),
    "ROI in another template": Case(
        spoil=_roi_in_another_template,
        file="space-MNIInfant_cohort-2_mask.nii.gz",
        reason="the space MNIInfant+2 in the file name is not a space of sub-01",
        fix="list it first in --output-spaces",
    ),
    "ROI of another run": Case(
        spoil=_roi_of_another_run,
        file="space-boldref_mask.nii.gz",
        reason="its field of view differs from sub-01_task-tap",
        fix="Process the runs separately",
    ),
    "truncated ROI": Case(
        spoil=_truncated_roi,
        file="roi.nii.gz",
        reason="truncated or corrupt",
        fix="single mask image",
    ),
    "atlas in an unknown space": Case(
        spoil=_atlas_in_unknown_space,
        file="atlas-Mine_dseg.nii.gz",
        reason="the space of the image is not known",
        fix="space-T1w or space-MNI152",
    ),
    "region without voxels": Case(
        spoil=_region_without_voxels,
        file="--roi Foot_L",
        reason="space-T1w_dseg.nii.gz has no voxels with the label Foot_L",
        fix="Hand_L",
    ),
    "seed without voxels": Case(
        spoil=_seed_without_voxels,
        file="--set activation.seeds=Foot_L",
        reason="space-T1w_dseg.nii.gz has no voxels with the label Foot_L",
        fix="Hand_L",
    ),
    "empty atlas": Case(
        spoil=_empty_atlas,
        file="--set activation.atlas=",
        reason="all voxels are 0",
        fix="a label image",
    ),
    "label without a name": Case(
        spoil=_nameless_label,
        file="--set activation.atlas=",
        reason="are missing in space-T1w_dseg.tsv: 7",
        fix="to the table",
    ),
    "atlas of probabilities": Case(
        spoil=_probabilities,
        file="--set activation.atlas=",
        reason="contains non-integer values",
        fix="label image",
    ),
    "atlas of several maps": Case(
        spoil=_several_maps,
        file="--set activation.atlas=",
        reason="not a 3D image",
        fix="single label image",
    ),
    "broken atlas": Case(
        spoil=_broken_atlas,
        file="--set activation.atlas=",
        reason="space-T1w_dseg.nii.gz",
        fix="or use AAL2",
    ),
    "little memory": Case(
        spoil=_little_memory,
        file="--mem 0.5",
        reason="of memory for its largest step",
        fix="Use --mem 1",
    ),
    "no model to reuse": Case(
        spoil=_no_model,
        file="out/sourcedata/models",
        reason="does not contain a model",
        fix="superres.model_dir",
    ),
    "model without its card": Case(
        spoil=_model_without_card,
        file="alone.safetensors",
        reason="the model card does not exist",
        fix="in the same directory",
    ),
    "path in a filter": Case(
        spoil=_bad_filter,
        file="filter.json",
        reason="not a valid BIDS label",
        fix="BIDS labels consist of",
    ),
}

DATA_CASES = {
    "NaN": Case(
        spoil=_nan,
        file=BOLD,
        reason="NaN or infinite values in 1 of 30 volumes (counted from 0: 7",
        fix="Convert",
    ),
    "infinite T1w": Case(
        spoil=_infinite_t1w,
        file="T1w.nii.gz",
        reason="NaN or infinite",
        fix="Convert the image again",
    ),
    "constant": Case(spoil=_constant, file=BOLD, reason="the image is constant", fix="Convert"),
    "constant volume": Case(
        spoil=_constant_volume,
        file=BOLD,
        reason="constant volumes were found (7 of 30 volumes",
        fix="Convert",
    ),
    "no change over time": Case(
        spoil=_frozen, file=BOLD, reason="30 volumes are identical", fix="Convert"
    ),
    "truncated gzip": Case(
        spoil=_truncated, file=BOLD, reason="truncated or corrupt", fix="Copy the file again"
    ),
    "truncated highres": Case(
        spoil=_truncated_highres, file=HIGH, reason="truncated or corrupt", fix="Copy the file"
    ),
    "corrupt gzip": Case(
        spoil=_corrupt, file=BOLD, reason="truncated or corrupt", fix="Copy the file again"
    ),
}


def _argv(maker: BidsMaker, extra: list[str] | None) -> list[str]:
    """Return the arguments of a call that requires the pair; with ``auto`` it would be
    optional.
    """
    out, options = maker.root.parent / "out", list(extra or [])
    if options[:1] == ["OUT"]:
        out, options = Path(options[1]), options[2:]
    method_options = [] if "--sr-method" in options else ["--sr-method", "srgan", "sbl"]
    return [
        str(maker.root),
        str(out),
        "participant",
        "--skip-bids-validation",
        *method_options,
        *options,
    ]


def test_the_uncorrupted_dataset_has_no_problem(maker: BidsMaker) -> None:
    """Otherwise, the cases below would prove nothing."""
    plan = check(parse_settings(_argv(maker, None)).resolve(run_uuid="x"))
    assert plan.problems == ()
    assert plan.warnings == ()
    assert check_data(plan) == ()


@pytest.mark.parametrize("name", CASES)
def test_preflight_reports_file_reason_and_fix(name: str, maker: BidsMaker) -> None:
    case = CASES[name]
    settings = parse_settings(_argv(maker, case.spoil(maker))).resolve(run_uuid="x")
    before = snapshot(maker.root.parent)
    problems = check(settings).problems
    matches = [
        p
        for p in problems
        if case.file in p.what and case.reason in p.why and case.fix in p.remedy
    ]
    assert len(matches) == 1, "\n".join(map(str, problems))
    assert snapshot(maker.root.parent) == before


def test_a_scaling_that_overflows_is_rejected(maker: BidsMaker) -> None:
    path = maker.path("sub-01_task-tap_bold.nii.gz", "func")
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[112:116] = np.float32(-2e37).tobytes()
    path.write_bytes(gzip.compress(bytes(content)))
    (problem,) = check_data(check(parse_settings(_argv(maker, None)).resolve(run_uuid="x")))
    assert "voxel values overflow" in problem.why


@pytest.mark.parametrize("name", DATA_CASES)
def test_invalid_voxel_values_are_reported_before_processing(name: str, maker: BidsMaker) -> None:
    case = DATA_CASES[name]
    plan = check(parse_settings(_argv(maker, case.spoil(maker))).resolve(run_uuid="x"))
    assert plan.problems == ()
    (problem,) = check_data(plan)
    assert case.file in problem.what
    assert case.reason in problem.why
    assert case.fix in problem.remedy


# a case of an option, a header and voxels; other cases do not differ after preflight
FAST_CASES = {"unknown contrast", "3D", "NaN"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in FAST_CASES else pytest.mark.slow)
        for name in (*CASES, *DATA_CASES)
    ],
)
def test_the_command_exits_with_code_2_and_writes_nothing(
    name: str, maker: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    case = {**CASES, **DATA_CASES}[name]
    argv = _argv(maker, case.spoil(maker))
    before = snapshot(maker.root.parent)
    assert main(argv) == 2
    message = capsys.readouterr().err
    for part in (case.file, case.reason, case.fix):
        assert part in message
    assert "Traceback" not in message
    assert snapshot(maker.root.parent) == before


def test_too_little_disk_space_is_rejected(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(
        directories.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000)
    )
    assert main(_argv(maker, None)) == 2
    message = capsys.readouterr().err
    free, required, reserve = map(float, re.findall(r"([0-9.]+) GB", message)[:3])
    assert required > reserve == 0.2, "the requirement includes the reserve for logs"
    assert free == 0.0
    assert not (maker.root.parent / "out").exists()


def test_an_output_directory_that_is_not_writable_is_rejected(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replace the answer of the system, because root may write anywhere."""
    monkeypatch.setattr(directories.os, "access", lambda path, mode: False)
    problems = check(parse_settings(_argv(maker, None)).resolve(run_uuid="x")).problems
    assert any("the output directory is not writable" in p.why for p in problems)


def test_all_problems_are_reported_at_once(
    maker: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    maker.bold(n_volumes=1)
    _events_without_durations(maker)
    _swapped_pair(maker)
    maker.subject("02")
    maker.bold("sub-02_task-tap", header_tr=2.0)
    maker.events("sub-02_task-tap", rows=((90.0, 1.0, "thumb"),))
    assert main(_argv(maker, ["--roi", "nowhere.nii"])) == 2
    message = capsys.readouterr().err
    for part in (
        "one volume",
        "required columns are missing",
        "images are swapped",
        "2 s in the image header",
        "nowhere.nii",
    ):
        assert part in message


@pytest.mark.skipif(
    validator._find_validator() is None, reason="bids-validator-deno is not installed"
)
def test_errors_of_the_installed_validator_are_reported(
    maker: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [option for option in _argv(maker, None) if option != "--skip-bids-validation"]
    description = {"Name": "tiny", "BIDSVersion": "1.9.0", "Authors": "one"}
    maker.json(maker.root / "dataset_description.json", description)
    assert main(argv) == 2
    message = capsys.readouterr().err
    assert "dataset_description.json" in message
    assert "JSON_SCHEMA_VALIDATION_ERROR" in message
    assert "--skip-bids-validation" in message
    assert not (maker.root.parent / "out").exists()
