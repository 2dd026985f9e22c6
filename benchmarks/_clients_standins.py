"""Replacements for files that XCP-D downloads and for programs of ANTs, for tests rather than
results.

TemplateFlow's brain in MNI152NLin2009cAsym (1 mm) is the packaged template at 2 mm, with its mask.
The segmentation for carpet plots requires four tissue types; they are derived from the intensities
of the template and the position of the cerebellum. `antsApplyTransforms` calls antspyx.
"""

import stat
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from bids_sr.io.template_files import DEFAULT_SPACE as SPACE
from bids_sr.preproc.templates import load_template

# labels of the carpet segmentation
_CORTEX, _DEEP_GRAY, _WHITE_AND_FLUID, _CEREBELLUM = 150, 40, 5, 255


def make_templates(home: Path) -> list[str]:
    """Write the files of TemplateFlow that the call needs to a TEMPLATEFLOW_HOME; return their
    names.
    """
    folder = home / f"tpl-{SPACE}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "template_description.json").write_text('{"Name": "stand-in"}')
    template = load_template(SPACE)
    brain, affine = template.t1.data, template.t1.affine
    for name, values in (
        ("res-01_desc-brain_T1w", brain),
        ("res-02_desc-brain_mask", template.mask.data.astype(np.uint8)),
        ("res-01_desc-carpet_dseg", _carpet(brain, affine)),
    ):
        nib.Nifti1Image(values, affine).to_filename(folder / f"tpl-{SPACE}_{name}.nii.gz")
    return sorted(path.name for path in folder.glob("*.nii.gz"))


def _carpet(data: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Segment four tissue types: intensities between fluid and white matter are gray matter, or
    deep gray matter near the center.
    """
    dark, bright = np.percentile(data[data > 0], [20, 65])
    inside = ndimage.binary_erosion(data > 0)
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
