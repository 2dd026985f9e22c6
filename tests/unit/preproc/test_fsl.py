"""FAST, BET2 and FLIRT replaced by scripts that check their arguments; FSL itself is not run."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from bids_sr.io.volume import Volume
from bids_sr.preproc.fsl import (
    correct_bias_with_fast,
    extract_brain_with_bet,
    register_with_flirt,
    segment_with_fast,
    world_matrix,
)
from bids_sr.spatial.transforms import rigid_matrix

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -10], [0, 0, 3, -5], [0, 0, 0, 1]])
SHAPE = (9, 10, 7)

FAST = """
base = words[words.index("-o") + 1]
classes = words[words.index("-n") + 1]
kind = words[words.index("-t") + 1]
assert "-B" in words and "--nopve" in words and classes == "3", words
assert os.environ["FSLOUTPUTTYPE"] == "NIFTI_GZ"
image = nib.load(words[-1])
data = image.get_fdata(dtype=np.float32) / 2 + 10 * int(kind)
nib.save(nib.Nifti1Image(data, image.affine), base + "_restore.nii.gz")
nib.save(nib.Nifti1Image(np.ones_like(data), image.affine), base + "_seg.nii.gz")
"""
BET = """
source, target, *options = words
assert options == ["-m"], words
image = nib.load(source)
mask = (image.get_fdata() > 100).astype(np.int16)
name = target.removesuffix(".nii.gz")
nib.save(nib.Nifti1Image(mask, image.affine), name + "_mask.nii.gz")
nib.save(image, target)
"""


def write_script(folder: Path, name: str, body: str) -> None:
    header = f"#!{sys.executable}\nimport os, sys\nimport nibabel as nib\nimport numpy as np\n"
    file = folder / name
    file.write_text(f"{header}words = sys.argv[1:]\n{body}")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def head() -> Volume:
    data = np.random.default_rng(0).uniform(0, 200, SHAPE).astype(np.float32)
    return Volume(data, AFFINE)


@pytest.mark.parametrize(("contrast", "image_type"), [("T1w", 1), ("FLAIR", 2)])
def test_fast_receives_the_image_type_and_its_restored_image_is_returned(
    programs: Path, head: Volume, tmp_path: Path, contrast: str, image_type: int
) -> None:
    write_script(programs, "fast", FAST)
    restored = correct_bias_with_fast(head, contrast, tmp_path)
    np.testing.assert_allclose(restored.data, head.data / 2 + 10 * image_type, rtol=1e-5)
    np.testing.assert_array_equal(restored.affine, AFFINE)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (BET.replace("> 100", "> 1000"), "empty"),
        (BET.replace("> 100)", "> 100)[1:]"), "grid"),
    ],
)
def test_failures_of_bet_are_reported(
    programs: Path, head: Volume, tmp_path: Path, body: str, reason: str
) -> None:
    write_script(programs, "bet", body)
    with pytest.raises(Exception, match=reason):  # nipype raises its own exception
        extract_brain_with_bet(head, tmp_path)


FLIRT = """
value = {flag: words[words.index(flag) + 1] for flag in ("-in", "-ref", "-omat", "-cost", "-dof")}
assert value["-cost"] == "corratio" and words[words.index("-searchcost") + 1] == "corratio", words
for flag in ("-in", "-ref"):
    nib.load(value[flag])
matrix = np.eye(4)
matrix[:3, 3] = (2, -3, float(value["-dof"]))
np.savetxt(value["-omat"], matrix)
open(words[words.index("-out") + 1], "w").close()
"""


@pytest.mark.parametrize(("affine", "dof"), [(False, 6), (True, 12)])
def test_flirt_uses_the_correlation_ratio_and_its_matrix_is_converted_to_ras(
    programs: Path, head: Volume, tmp_path: Path, affine: bool, dof: int
) -> None:
    write_script(programs, "flirt", FLIRT)
    xfm = register_with_flirt(head, head, tmp_path, affine=affine)
    # the first axis of this array points to the left, as in FSL: +2 mm there are -2 mm in RAS
    expected = np.eye(4)
    expected[:3, 3] = (2, 3, -dof)
    np.testing.assert_allclose(xfm, expected, atol=1e-9)


@pytest.mark.parametrize("flipped", ["frame", "image"])
def test_flirt_matrices_written_by_nitransforms_are_read(flipped: str) -> None:
    """nitransforms implements FSL's coordinates independently."""
    import nibabel as nib

    fsl = pytest.importorskip("nitransforms.io.fsl")
    turn = rigid_matrix([3.0, -2.0, 4.0, 0.2, -0.1, 0.15], (0, 0, 0)) @ np.diag([1.1, 0.9, 1, 1])
    oblique = rigid_matrix([5.0, 1.0, -2.0, 0.1, 0.2, -0.1], (0, 0, 0))
    grids = {
        "frame": (oblique @ np.diag([2.0, 2.5, 3.0, 1.0]), (9, 10, 7)),
        "image": (np.diag([4.0, 3.0, 2.0, 1.0]), (12, 8, 11)),
    }
    images = {}
    for name, (affine, shape) in grids.items():
        image_affine = affine @ np.diag([-1.0, 1, 1, 1]) if flipped == name else affine
        images[name] = Volume(np.zeros(shape, np.float32), image_affine)
    files = {name: nib.Nifti1Image(volume.data, volume.affine) for name, volume in images.items()}
    fsl_transform = fsl.FSLLinearTransform.from_ras(
        turn, moving=files["image"], reference=files["frame"]
    )
    matrix = np.asarray(fsl_transform["parameters"])
    np.testing.assert_allclose(
        world_matrix(matrix, images["frame"], images["image"]), turn, atol=1e-6
    )


CLASSES_BY_FAST = """
assert "-B" not in words and "--nopve" in words and words[words.index("-t") + 1] == "1", words
image = nib.load(words[-1])
data = image.get_fdata(dtype=np.float32)
assert abs(data.max() - 1000) < 1, data.max()
assert not data[0].any(), "not extracted"
# labels in another order than by intensity
labels = np.select([data > 700, data > 400, data > 0], [2, 1, 3])
base = words[words.index("-o") + 1]
nib.save(nib.Nifti1Image(labels.astype(np.int16), image.affine), base + "_seg.nii.gz")
"""


def test_tissue_classes_of_fast_are_named_by_intensity(
    programs: Path, head: Volume, tmp_path: Path
) -> None:
    write_script(programs, "fast", CLASSES_BY_FAST)
    brain = np.ones(SHAPE, bool)
    brain[0] = False
    tissues = segment_with_fast(head, brain, tmp_path)
    share = head.data / head.data[brain].max()
    np.testing.assert_array_equal(tissues["wm"], brain & (share > 0.7))
    np.testing.assert_array_equal(tissues["gm"], brain & (share > 0.4) & (share <= 0.7))
    np.testing.assert_array_equal(tissues["csf"], brain & (share <= 0.4))


def test_fewer_than_three_tissues_are_an_error(
    programs: Path, head: Volume, tmp_path: Path
) -> None:
    write_script(programs, "fast", CLASSES_BY_FAST.replace("data > 400", "data > 2000"))
    with pytest.raises(RuntimeError, match="3 tissue"):
        segment_with_fast(head, np.arange(9)[:, None, None] * np.ones(SHAPE) > 0, tmp_path)
