"""Checks of an atlas or region of interest that is given as an image."""

from pathlib import Path

import numpy as np

from bids_sr.bids import Findings
from bids_sr.config import Settings
from bids_sr.region_names import find_atlas, is_aal2, is_file

_MAX_LABELS = 5  # number of labels in a message


def check_region(settings: Settings, findings: Findings) -> None:
    """Reject an atlas or region-of-interest image that cannot be read or is empty."""
    activation = settings.activation
    if is_file(activation.roi):
        option = f"--roi {activation.roi}"
        fix = "Alternatively, use --roi motor or --roi brain."
        voxels = _read_voxels(
            Path(activation.roi), option, f"Specify a single mask or label image. {fix}", findings
        )
        if voxels is not None and not (voxels > 0).any():
            fix = f"Specify a mask image with values above 0 inside the region. {fix}"
            findings.refuse_option(
                option, "the mask image is empty: all voxel values are 0 or negative", fix
            )
    if not is_aal2(activation.atlas):
        _check_atlas(activation.atlas, findings)


def _read_voxels(image: Path, option_text: str, fix: str, findings: Findings) -> np.ndarray | None:
    """Return the voxels of a 3D image that an option names, or None with a problem."""
    import nibabel as nb

    from bids_sr.bids.headers import read_header, squeezed_shape

    image_findings = Findings()
    header = read_header(image, image_findings)
    if header is None or len(squeezed_shape(header)) != 3:
        reason = (
            f"the file {image} is not a 3D image"
            if header
            else f"file {image}: {image_findings.problems[0].why}"
        )
        findings.refuse_option(option_text, reason, fix)
        return None
    return np.asanyarray(nb.load(image).dataobj)  # type: ignore[attr-defined]


def _check_atlas(atlas_name: str, findings: Findings) -> None:
    """Check that a label image is 3D and contains integers with a name for each label."""
    atlas = find_atlas(atlas_name)
    option = f"--atlas {atlas_name}"
    fix = "Specify a label image, or use AAL2."
    voxels = _read_voxels(
        atlas.image,
        option,
        "Specify a single label image in NIfTI format, or use AAL2.",
        findings,
    )
    if voxels is None:
        return
    label_numbers = np.unique(voxels[voxels != 0])
    unnamed_labels = sorted(set(label_numbers.astype(int).tolist()) - set(atlas.labels.values()))
    if not label_numbers.size:
        findings.refuse_option(
            option, f"the label image {atlas.image} is empty: all voxels are 0", fix
        )
    elif (label_numbers != np.round(label_numbers)).any():
        findings.refuse_option(
            option, f"the label image {atlas.image} contains non-integer values", fix
        )
    elif unnamed_labels:
        labels = [*map(str, unnamed_labels[:_MAX_LABELS])]
        if len(unnamed_labels) > _MAX_LABELS:
            labels.append("…")
        reason = (
            f"some labels of {atlas.image} are missing in {atlas.table.name}: {', '.join(labels)}"
        )
        findings.refuse_option(option, reason, "Add one row per missing label to the table.")
