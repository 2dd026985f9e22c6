"""Bias correction by FAST, brain extraction by BET2 and FLIRT, programs of FSL, through nipype.

FSL is not part of this package: its programs have to be on the PATH. Images go through files,
because the programs read and write NIfTI only.

Source: attention_unet, section 3.1: FAST removes the bias field of the whole head, then BET2
extracts the brain. Scans that are interpolated trilinearly are aligned with the correlation ratio
as cost function, which FLIRT has.
"""

import os
from pathlib import Path

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.nifti import load_image, save_image
from bids_sr.io.volume import Volume

PROGRAMS = ("fast", "bet", "bet2", "flirt")
"""Programs that have to be on the PATH; bet is FSL's script around bet2."""
_CLASSES = 3  # gray matter, white matter and CSF, FAST's default
_LARGEST = 1000.0  # intensity of the brightest voxel that FAST segments, whose scan is in [0, 1]
_TYPES = {"T1w": 1}
"""Type of image that FAST is given: 1 is T1-weighted; all others count as T2-weighted (2)."""


def unbiased_by_fast(image: Volume, contrast: str, folder: Path) -> Volume:
    """Divide an image by its bias field, as FAST estimates it while it segments the image.

    `contrast`: BIDS suffix. `folder`: existing empty folder for the files of FAST. Return the
    restored image on the same grid (3D, float32). RuntimeError: FAST failed.
    """
    restored = _by_fast(image, _TYPES.get(contrast, 2), folder, "restore")
    return image.like(np.maximum(restored, 0))


def _by_fast(image: Volume, image_type: int, folder: Path, result: str) -> Array:
    """Run FAST and return one of its images: ``restore`` or ``seg`` (3D).

    `image_type`: 1 for T1-weighted, 2 for T2-weighted contrast.
    """
    from nipype.interfaces.fsl import FAST

    interface = FAST(
        in_files=[str(_saved(image, folder))],
        img_type=image_type,
        number_classes=_CLASSES,
        output_biascorrected=result == "restore",
        no_pve=True,
        out_basename=str(folder / "fast"),
        output_type="NIFTI_GZ",
        environ=_environment(),
    )
    interface.run(cwd=str(folder))
    data, _ = load_image(_written(folder / f"fast_{result}.nii.gz", "fast"))
    return _on_grid(data, image, "fast")


def tissues_by_fast(image: Volume, brain: Array, contrast: str, folder: Path) -> dict[str, Array]:
    """Segment the brain of a scan into gray matter, white matter and CSF, by FAST's defaults.

    Source: attention_unet, section 3.8.1: masks for quality metrics are from the brain-extracted
    high-resolution T1-weighted scan.

    `image`: scan (3D). `brain`: voxels of the brain (3D, boolean). `contrast`: T1w, in which CSF
    is dark and white matter bright. `folder`: existing empty folder for the files of FAST. Return
    voxels by tissue: ``gm``, ``wm`` and ``csf`` (3D, boolean). RuntimeError: FAST failed, or found
    fewer tissues.
    """
    top = max(float(np.abs(image.data[brain]).max(initial=0)), 1e-9)
    extracted = np.where(brain, image.data * (_LARGEST / top), 0)
    segmented = _by_fast(image.like(extracted), _TYPES[contrast], folder, "seg")
    labels = np.where(brain, np.round(segmented), 0)
    found = [labels == label for label in range(1, _CLASSES + 1)]
    if not all(voxels.any() for voxels in found):
        raise RuntimeError(f"FSL FAST found fewer than {_CLASSES} tissue classes")
    found.sort(key=lambda voxels: float(image.data[voxels].mean()))
    return dict(zip(("csf", "gm", "wm"), found, strict=True))


def brain_by_bet(image: Volume, folder: Path) -> Array:
    """Return the brain mask of BET2 with its default settings (3D, boolean).

    `image`: bias-corrected image of a head (3D). `folder`: existing empty folder for the files of
    BET. RuntimeError: BET failed, or found no brain.
    """
    from nipype.interfaces.fsl import BET

    interface = BET(
        in_file=str(_saved(image, folder)),
        out_file=str(folder / "bet.nii.gz"),
        mask=True,
        output_type="NIFTI_GZ",
        environ=_environment(),
    )
    interface.run(cwd=str(folder))
    data, _ = load_image(_written(folder / "bet_mask.nii.gz", "bet"))
    mask = np.asarray(_on_grid(data, image, "bet") > 0.5)
    if not mask.any():
        raise RuntimeError(
            "FSL BET returned an empty brain mask. Check the scan, or use --anat-tools ants."
        )
    return mask


def aligned_by_flirt(frame: Volume, image: Volume, folder: Path, *, affine: bool) -> Array:
    """Align two images of a head with FLIRT by the correlation ratio.

    `frame`: fixed image (3D). `image`: moving image (3D). `folder`: existing empty folder for the
    files of FLIRT. `affine`: 12 degrees of freedom in place of 6. Return the matrix from a point
    of the frame to its point in the image (4 x 4, RAS mm). RuntimeError: FLIRT failed.
    """
    from nipype.interfaces.fsl import FLIRT

    paths = []
    for name, volume in (("frame", frame), ("image", image)):
        (folder / name).mkdir()
        paths.append(_saved(volume, folder / name))
    interface = FLIRT(
        in_file=str(paths[1]),
        reference=str(paths[0]),
        cost="corratio",
        cost_func="corratio",
        dof=12 if affine else 6,
        out_matrix_file=str(folder / "flirt.mat"),
        out_file=str(folder / "flirt.nii.gz"),
        output_type="NIFTI_GZ",
        environ=_environment(),
    )
    interface.run(cwd=str(folder))
    matrix = np.loadtxt(_written(folder / "flirt.mat", "flirt"))
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise RuntimeError(f"FSL FLIRT wrote a matrix with shape {matrix.shape}; expected 4 x 4")
    return world_matrix(matrix, frame, image)


def world_matrix(matrix: Array, frame: Volume, image: Volume) -> Array:
    """Return a matrix of FLIRT as one from a point of the frame to its point in the image.

    FLIRT's matrix takes a point of the image to its point in the frame, both in mm from the first
    voxel, along the axes of the array; the first axis is flipped if the array is not in
    radiological order.

    `matrix`: matrix written by FLIRT (4 x 4). Result in RAS mm (4 x 4).
    """
    return np.asarray(
        image.affine
        @ np.linalg.inv(_scaled_voxels(image))
        @ np.linalg.inv(matrix)
        @ _scaled_voxels(frame)
        @ np.linalg.inv(frame.affine)
    )


def _scaled_voxels(image: Volume) -> Array:
    """Return the matrix from voxel numbers to FSL's coordinates (4 x 4, mm)."""
    scaled = np.diag([*image.zooms, 1.0])
    if np.linalg.det(image.affine[:3, :3]) > 0:
        scaled[0, 0] *= -1
        scaled[0, 3] = (image.data.shape[0] - 1) * image.zooms[0]
    return scaled


def _environment() -> dict[str, str]:
    """Variables for FSL: compressed files, and one thread as for all other programs here."""
    return {"FSLOUTPUTTYPE": "NIFTI_GZ", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}


def _saved(image: Volume, folder: Path) -> Path:
    path = folder / "head.nii.gz"
    save_image(np.asarray(image.data, dtype=np.float32), image.affine, path)
    return path


def _written(path: Path, program: str) -> Path:
    if not path.is_file():
        raise RuntimeError(f"FSL {program} ended without an error but did not write {path.name}")
    return path


def _on_grid(data: Array, image: Volume, program: str) -> Array:
    """Return values of a program on the grid of its input."""
    values = data.reshape(data.shape[:3]) if data.ndim == 4 and data.shape[3] == 1 else data
    if values.shape != image.data.shape:
        raise RuntimeError(
            f"FSL {program} changed the image grid from {image.data.shape} to {data.shape}"
        )
    return values
