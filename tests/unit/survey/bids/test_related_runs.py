"""Series that cannot be read as a run: header, sidecar, and repetition time."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import pytest
from data.calls import problem_of
from data.dataset import BidsMaker
from data.records import make_run

from bids_sr.survey.bids.related_runs import read_run
from bids_sr.survey.bids.run_files import choose_files
from bids_sr.survey.notices import InputError, judge
from bids_sr.survey.preflight.sidecar_checks import SIDECAR_RULES

ACROSS = {"SliceEncodingDirection": "k"}
NO_TIME = {"RepetitionTime": None}


def remove_orientation(path: Path) -> None:
    image = nb.load(path)
    header = image.header.copy()
    header.set_qform(None, 0)
    header.set_sform(None, 0)
    nb.Nifti1Image(np.asanyarray(image.dataobj), None, header).to_filename(path)


def break_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / ".git" / "annex" / "nowhere")


@pytest.mark.parametrize(
    ("fields", "sidecar", "values"),
    [
        ({"n_volumes": None}, {}, ["3D", "8×8×6"]),
        ({"n_volumes": 1}, {}, []),
        ({"data": np.zeros((8, 8, 6, 30), [(name, "u1") for name in "RGB"])}, {}, ["RGB"]),
        ({"data": np.ones((8, 8, 6, 30), "complex64")}, {}, ["_part-mag_bold.nii.gz"]),
        ({"zooms": (48.0, 6.0, 4.0)}, ACROSS, ["1×8", "SliceEncodingDirection"]),
        ({"zooms": (6.0, 48.0, 4.0)}, ACROSS, ["8×1", "SliceEncodingDirection"]),
        ({"zooms": (24.0, 6.0, 4.0), "tr": 0.0}, NO_TIME, ["2×8", "4"]),
        ({}, NO_TIME, ['"RepetitionTime": 1']),
        ({"header_tr": 2.5}, {}, ["1", "2.5"]),
        ({"tr": 0.001}, {}, []),  # as fast as sound
    ],
)
def test_a_series_that_is_no_run_is_refused(
    tmp_path: Path, fields: dict[str, Any], sidecar: Mapping[str, object], values: list[str]
) -> None:
    fields = {"zooms": (6.0, 6.0, 4.0), "n_volumes": 30, "tr": 1.0, **fields}
    path = BidsMaker(tmp_path).image("sub-01_task-tap_bold.nii.gz", "func", **fields)
    with pytest.raises(InputError) as refusal:
        read_run(path, {"RepetitionTime": fields["tr"], **sidecar})
    problem_of(refusal.value.problems, str(path), *values)


@pytest.mark.parametrize(
    ("spoil", "value", "code"),
    [
        (remove_orientation, "DICOM", "input"),
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "truncated", "input"),
        (lambda path: path.write_bytes(b"<html>not found</html>" * 100), "truncated", "input"),
        (break_link, "datalad", "annex"),
    ],
)
def test_a_file_that_is_no_image_is_refused(
    tmp_path: Path, spoil: Callable[[Path], object], value: str, code: str
) -> None:
    path = BidsMaker(tmp_path).bold()
    spoil(path)
    with pytest.raises(InputError) as refusal:
        read_run(path, {"RepetitionTime": 1.0})
    problem_of(refusal.value.problems, str(path), value, code=code)


def test_a_phase_image_named_as_a_magnitude_is_refused() -> None:
    run = make_run(sidecar={"ImageType": ["ORIGINAL", "PRIMARY", "P", "NORM"]})
    problem_of([*judge(SIDECAR_RULES, run)], "_bold", "part-phase")


def test_an_echo_and_a_magnitude_that_do_not_exist_are_refused() -> None:
    echoes = [make_run(f"sub-01_task-tap_echo-{number}").bold for number in (1, 2)]
    with pytest.raises(InputError) as refusal:
        choose_files(echoes, 4)
    problem_of(refusal.value.problems, "echo-1_bold", "4", echoes[1].name, "--echo-idx")
    with pytest.raises(InputError) as refusal:
        choose_files([make_run("sub-01_task-tap_part-phase").bold], None)
    problem_of(refusal.value.problems, "part-phase_bold", "part-mag")
