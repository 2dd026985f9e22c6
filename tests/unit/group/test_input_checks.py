"""Files of participants that cannot be read: refused before the work, or left out by name."""

import contextlib
import gzip
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data.group_maps import Study, map_path, mean_value, read_sidecar
from data.page import Page

from bids_sr.io.nifti import load_image, save_image

TABLE, SIDECAR = "*activation_metrics.tsv", "*activation_metrics.json"
MAP, MASK, BOLDREF = "*stat-effect*", "*label-brain_desc-acquired_mask*", "*hmc_boldref*"
COREG, NORMALIZATION = "*desc-coreg_xfm.txt", "../anat/*_xfm.h5"


def link(path: Path) -> None:
    """Replace a file with a link whose content was not downloaded."""
    path.unlink()
    path.symlink_to("../../.git/annex/objects/aa/bb/MD5E-s1--0/MD5E-s1--0")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    """Keep the first 40 bytes of a file, which contain no complete header or row."""
    path.write_bytes(path.read_bytes()[:40])


def replace_text(old: str, new: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return damage


def write_latin(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\xfcber\n")


def write_text(path: Path) -> None:
    path.write_text("this is not a transform")


UNREADABLE = {
    TABLE: (
        link,
        empty,
        cut,
        write_latin,
        replace_text("series\t", "seriesX\t"),
        replace_text("\t44\t", "\tfourty\t"),
    ),
    SIDECAR: (link, empty, cut, replace_text("{", "[{")),
    MAP: (link, empty, cut),
    MASK: (link, empty, cut),
    BOLDREF: (link, empty, cut),
    COREG: (link, empty, write_text),
    NORMALIZATION: (link, empty, write_text),
}
"""Damage by file that is found before the work."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Return a study whose last participant has maps in the space of the boldref."""
    study = Study(tmp_path_factory.mktemp("study"))
    for participant in study.participants:
        study.write_run(participant, {"thumb": 1.0}, in_template=participant != "sub-04")
    return study


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [(pattern, damage) for pattern, damages in UNREADABLE.items() for damage in damages],
)
def test_unreadable_files_are_refused_before_the_work(
    study: Study,
    capsys: pytest.CaptureFixture[str],
    pattern: str,
    damage: Callable[[Path], None],
) -> None:
    (path,) = study.stem("sub-04").parent.glob(pattern)
    content = path.read_bytes()
    damage(path)
    try:
        for options in (("--dry-run",), ()) if damage is link else [()]:
            assert study.call(*options) == 2
            errors = " ".join(capsys.readouterr().err.split())
            assert path.name in errors
            assert re.search(r"(fix|Restore|Correct|Download|rerun)", errors)
            assert "Traceback" not in errors
    finally:
        path.unlink()
        path.write_bytes(content)
    assert not study.files()


@pytest.mark.parametrize("unit", ["mV", ""])
def test_maps_in_an_unknown_unit_are_refused_by_name(
    study: Study, capsys: pytest.CaptureFixture[str], unit: str
) -> None:
    (path,) = study.stem("sub-04").parent.glob(MAP)
    shared_name = path.name.replace("_contrast-thumb_stat-effect", "").replace(".nii.gz", ".json")
    sidecar = path.with_name(shared_name)
    sidecar.write_text(json.dumps({"Units": unit} if unit else {}))
    try:
        assert study.call("--dry-run") == 2
    finally:
        sidecar.unlink()
    errors = " ".join(capsys.readouterr().err.split())
    for words in (path.name, unit, "expected percent", "rerun the participant level"):
        assert words in errors


def cut_data(path: Path) -> None:
    """Remove the end of an image or transform, so that the header can be read."""
    if path.suffix == ".gz":
        content = gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=0)
        path.write_bytes(content[:-100])
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replace_values(value: float, share: float = 1.0) -> Callable[[Path], None]:
    """Return a function that replaces the first slices of an image."""

    def damage(path: Path) -> None:
        data, affine = load_image(path)
        data[: int(share * len(data))] = value
        save_image(data, affine, path)

    return damage


def add_axis(path: Path) -> None:
    data, affine = load_image(path)
    save_image(np.stack([data, data], axis=-1), affine, path)


DAMAGED = {
    "sub-04": (MAP, replace_values(np.nan, 0.5)),
    "sub-05": (MAP, replace_values(np.inf, 0.1)),
    "sub-06": (MAP, cut_data),
    "sub-07": (MAP, add_axis),
    "sub-08": (MASK, cut_data),
    "sub-09": (MASK, replace_values(0)),
    "sub-10": (BOLDREF, cut_data),
    "sub-11": (BOLDREF, replace_values(0)),
    "sub-12": (BOLDREF, replace_values(np.nan)),
    "sub-13": (COREG, cut_data),
    "sub-14": (NORMALIZATION, cut_data),
    "sub-15": (MASK, add_axis),
    "sub-16": (BOLDREF, add_axis),
}
"""Damage by participant that is only found while maps are computed."""


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Return a study with three intact participants after the group level."""
    study = Study(tmp_path_factory.mktemp("damaged"), [f"{n:02d}" for n in range(1, 17)])
    for number, participant in enumerate(study.participants, 1):
        percent = float(number) if number <= 3 else 100.0
        study.write_run(participant, {"thumb": percent}, in_template=False)
    for participant, (pattern, damage) in DAMAGED.items():
        (path,) = study.stem(participant).parent.glob(pattern)
        damage(path)
    return study


@pytest.fixture(scope="module")
def console(damaged: Study) -> str:
    """Return the output of a dry run, and of the group level of the damaged study."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        assert damaged.call("--dry-run") == 0
        assert damaged.call() == 0
    return " ".join(output.getvalue().split())


def test_damaged_data_are_not_in_the_map(damaged: Study, console: str) -> None:
    (path,) = damaged.out.glob("group/*stat-effect*.nii.gz")
    assert mean_value(path) == pytest.approx(2)
    sidecar = read_sidecar(path)
    assert sidecar["Participants"] == ["sub-01", "sub-02", "sub-03"]
    assert sidecar["Excluded"].keys() == DAMAGED.keys()


def test_damaged_data_are_named_with_their_participant(damaged: Study, console: str) -> None:
    (path,) = damaged.out.glob("group/*stat-effect*.nii.gz")
    page = Page(damaged.page()).text
    for participant, (pattern, _) in DAMAGED.items():
        reason = read_sidecar(path)["Excluded"][participant]
        (file,) = damaged.stem(participant).parent.glob(pattern)
        assert file.name in reason or damaged.stem(participant).name in reason
        text = " ".join(reason.split())
        assert f"{participant} is not in the group maps for task-tap: {text}" in console
        assert f"{participant}: {text}" in page


def test_an_unreadable_sidecar_of_a_map_of_all_runs_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = Study(tmp_path, ("01", "02", "03"))
    for participant in study.participants:
        for run in (1, 2):
            study.write_run(
                participant, {"thumb": 1.0}, run=f"task-tap_run-{run}", in_template=False
            )
    stem = study.stem("sub-02")
    image = map_path(stem, "thumb", space="_space-firstBoldref")
    image.write_bytes(
        map_path(study.stem("sub-02", "task-tap_run-1"), "thumb", space="").read_bytes()
    )
    sidecar = image.with_name(image.name.replace(".nii.gz", ".json"))
    sidecar.write_text(json.dumps({"RunWeights": {"run-1": 0.5, "run-2": 0.5}}))
    assert study.find().plan.records[0].members[1].origin == "stored"
    for damage in (cut, empty, link):
        damage(sidecar)
        assert study.call() == 2
        errors = " ".join(capsys.readouterr().err.split())
        assert sidecar.name in errors
        assert "Traceback" not in errors
