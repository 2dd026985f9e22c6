"""Bias correction, brain extraction, segmentation and registration with FSL through nipype.

FSL is not part of this package: its programs have to be on the PATH. Images are passed as files,
because the programs read and write only NIfTI.

Source: attention_unet, section 3.1. FAST corrects the bias field of the whole head, then BET2
extracts the brain. Scans that are interpolated trilinearly are aligned with the correlation ratio
as cost function, as FLIRT does.
"""

import os
from pathlib import Path

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.nifti import load_image, save_image
from bids_sr.io.volume import Volume

PROGRAMS = ("fast", "bet", "bet2", "flirt")
"""Programs that have to be on the PATH; bet is the FSL script that runs bet2."""
_N_CLASSES = 3  # gray matter, white matter and CSF, FAST's default
# intensity of the brightest voxel in the input of FAST; scans are in [0, 1] before
_MAX_INTENSITY = 1000.0
# image type for FAST: 1 for T1-weighted; all other contrasts count as T2-weighted (2)
_IMAGE_TYPES = {"T1w": 1}


def correct_bias_with_fast(image: Volume, contrast: str, folder: Path) -> Volume:
    """Correct the bias field of an image with FAST.

    The bias field is estimated during the segmentation of the image. `contrast` is the BIDS
    suffix, and `folder` an existing empty directory for the files of FAST. The result is on the
    same grid (3D, float32). Raises `RuntimeError` if FAST failed.
    """
    corrected = _run_fast(image, _IMAGE_TYPES.get(contrast, 2), folder, "restore")
    return image.like(np.maximum(corrected, 0))


def segment_with_fast(image: Volume, brain: Array, folder: Path) -> dict[str, Array]:
    """Segment the brain of a T1w image with the defaults of FAST.

    Source: attention_unet, section 3.8.1. Masks for quality metrics are computed from the
    brain-extracted high-resolution T1-weighted scan.

    `folder` is an existing empty directory for the files of FAST. `brain` and the returned voxels
    by tissue are 3D and boolean: ``gm``, ``wm`` and ``csf``. Raises `RuntimeError` if FAST failed
    or found fewer tissues.
    """
    highest = max(float(np.abs(image.data[brain]).max(initial=0)), 1e-9)
    brain_image = np.where(brain, image.data * (_MAX_INTENSITY / highest), 0)
    class_image = _run_fast(image.like(brain_image), _IMAGE_TYPES["T1w"], folder, "seg")
    labels = np.where(brain, np.round(class_image), 0)
    classes = [labels == label for label in range(1, _N_CLASSES + 1)]
    if not all(voxels.any() for voxels in classes):
        raise RuntimeError(f"FSL FAST found fewer than {_N_CLASSES} tissue classes")
    classes.sort(key=lambda voxels: float(image.data[voxels].mean()))
    return dict(zip(("csf", "gm", "wm"), classes, strict=True))


def _run_fast(image: Volume, image_type: int, folder: Path, result: str) -> Array:
    """Run FAST and return one of its images.

    `image_type` is 1 for T1-weighted and 2 for T2-weighted contrast. `folder` is an existing empty
    directory for the files of FAST. `result` is the output to return: ``restore`` or ``seg``.
    Values are on the grid of the image (3D).
    """
    from nipype.interfaces.fsl import FAST

    interface = FAST(
        in_files=[str(_save_input(image, folder))],
        img_type=image_type,
        number_classes=_N_CLASSES,
        output_biascorrected=result == "restore",
        no_pve=True,
        out_basename=str(folder / "fast"),
        output_type="NIFTI_GZ",
        environ=_make_environment(),
    )
    interface.run(cwd=str(folder))
    data, _ = load_image(_require_output(folder / f"fast_{result}.nii.gz", "fast"))
    return _check_grid(data, image, "fast")


def extract_brain_with_bet(image: Volume, folder: Path) -> Array:
    """Return the brain mask of BET2 with its default settings (3D, boolean).

    The image is bias-corrected, and `folder` is an existing empty directory for the files of BET.
    Raises `RuntimeError` if BET failed or found no brain.
    """
    from nipype.interfaces.fsl import BET

    interface = BET(
        in_file=str(_save_input(image, folder)),
        out_file=str(folder / "bet.nii.gz"),
        mask=True,
        output_type="NIFTI_GZ",
        environ=_make_environment(),
    )
    interface.run(cwd=str(folder))
    data, _ = load_image(_require_output(folder / "bet_mask.nii.gz", "bet"))
    mask = np.asarray(_check_grid(data, image, "bet") > 0.5)
    if not mask.any():
        raise RuntimeError(
            "FSL BET returned an empty brain mask. Check the scan, or use --set anat.tools=ants."
        )
    return mask


def _check_grid(data: Array, image: Volume, program: str) -> Array:
    """Return the output of a program after checking that it is on the grid of the input."""
    values = data.reshape(data.shape[:3]) if data.ndim == 4 and data.shape[3] == 1 else data
    if values.shape != image.data.shape:
        raise RuntimeError(
            f"FSL {program} changed the image grid from {image.data.shape} to {data.shape}"
        )
    return values


def register_with_flirt(frame: Volume, image: Volume, folder: Path, *, affine: bool) -> Array:
    """Register two images of a head with FLIRT by the correlation ratio.

    The frame is fixed and the image moving (3D). `folder` is an existing empty directory for the
    files of FLIRT. `affine` uses 12 degrees of freedom instead of 6. Returns the transform of a
    frame point to its point in the image (4 x 4, RAS+ mm). Raises `RuntimeError` if FLIRT failed.
    """
    from nipype.interfaces.fsl import FLIRT

    paths = []
    for name, volume in (("frame", frame), ("image", image)):
        (folder / name).mkdir()
        paths.append(_save_input(volume, folder / name))
    interface = FLIRT(
        in_file=str(paths[1]),
        reference=str(paths[0]),
        cost="corratio",
        cost_func="corratio",
        dof=12 if affine else 6,
        out_matrix_file=str(folder / "flirt.mat"),
        out_file=str(folder / "flirt.nii.gz"),
        output_type="NIFTI_GZ",
        environ=_make_environment(),
    )
    interface.run(cwd=str(folder))
    matrix = np.loadtxt(_require_output(folder / "flirt.mat", "flirt"))
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise RuntimeError(f"FSL FLIRT wrote a matrix with shape {matrix.shape}; expected 4 x 4")
    return world_matrix(matrix, frame, image)


def _save_input(image: Volume, folder: Path) -> Path:
    """Write an image to a folder as input of a program, and return its path."""
    path = folder / "head.nii.gz"
    save_image(np.asarray(image.data, dtype=np.float32), image.affine, path)
    return path


def _make_environment() -> dict[str, str]:
    """Return environment variables for FSL: compressed output and one thread."""
    return {"FSLOUTPUTTYPE": "NIFTI_GZ", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}


def _require_output(path: Path, program: str) -> Path:
    """Return the path of an output, or raise RuntimeError if the program did not write it."""
    if not path.is_file():
        raise RuntimeError(f"FSL {program} ended without an error but did not write {path.name}")
    return path


def world_matrix(matrix: Array, frame: Volume, image: Volume) -> Array:
    """Convert a FLIRT matrix to a transform of a frame point to its point in the image.

    FLIRT's matrix maps a point of the image to its point in the frame. Both are in mm from the
    first voxel along the axes of the array, with the first axis flipped if the array is not in
    radiological order. The frame is the reference image and the image the input image of FLIRT.
    Both matrices are 4 x 4, and the transform is in RAS+ mm.
    """
    return np.asarray(
        image.affine
        @ np.linalg.inv(_make_fsl_matrix(image))
        @ np.linalg.inv(matrix)
        @ _make_fsl_matrix(frame)
        @ np.linalg.inv(frame.affine)
    )


def _make_fsl_matrix(image: Volume) -> Array:
    """Return the matrix from voxel numbers to FSL coordinates (4 x 4, mm)."""
    voxel_to_fsl = np.diag([*image.zooms, 1.0])
    if np.linalg.det(image.affine[:3, :3]) > 0:
        voxel_to_fsl[0, 0] *= -1
        voxel_to_fsl[0, 3] = (image.data.shape[0] - 1) * image.zooms[0]
    return voxel_to_fsl
