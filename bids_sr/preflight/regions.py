"""Checks of an atlas or region of interest that is given as an image."""

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from bids_sr.bids import Findings
from bids_sr.bids.headers import COLOR_REASON, READ_ERRORS, read_header, squeezed_shape
from bids_sr.bids.label_lists import list_some
from bids_sr.config import Settings
from bids_sr.config.seeds import COMPONENTS, parse_seed
from bids_sr.region_names import find_atlas, is_aal2, is_file, region_labels

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
            content = "NaN" if np.isnan(voxels).all() else "0, negative or NaN"
            findings.refuse_option(
                option,
                f"the mask image is empty: all voxel values are {content}",
                f"Specify a mask image with values above 0 inside the region. {fix}",
            )
    if not is_aal2(activation.atlas):
        _check_atlas(settings, findings)


def _read_voxels(image: Path, option_text: str, fix: str, findings: Findings) -> np.ndarray | None:
    """Return the voxels of a 3D image that an option names, or None with a problem."""
    import nibabel as nb

    image_findings = Findings()
    header = read_header(image, image_findings)
    if header is None:
        reason = f"the file {image}: {image_findings.problems[0].why}"
    elif len(squeezed_shape(header)) != 3:
        reason = f"the file {image} is not a 3D image"
    elif header.complex or header.colored:
        content = "the image contains complex values" if header.complex else COLOR_REASON
        reason = f"{content}, but a mask or label image is required"
    else:
        try:
            return np.asanyarray(nb.load(image).dataobj)  # type: ignore[attr-defined]
        except READ_ERRORS as error:
            reason = f"the file {image} is truncated or corrupt ({error})"
    findings.refuse_option(option_text, reason, fix)
    return None


def _check_atlas(settings: Settings, findings: Findings) -> None:
    """Check the label image of an atlas, and that requested regions have voxels in it.

    The image must be 3D and contain integers with a name for each label.
    """
    activation = settings.activation
    atlas = find_atlas(activation.atlas)
    option = f"--atlas {activation.atlas}"
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
    if not label_numbers.size:
        findings.refuse_option(
            option, f"the label image {atlas.image} is empty: all voxels are 0", fix
        )
        return
    if (label_numbers != np.round(label_numbers)).any():
        findings.refuse_option(
            option, f"the label image {atlas.image} contains non-integer values", fix
        )
        return
    numbers = set(label_numbers.astype(int).tolist())
    if unnamed_labels := sorted(numbers - set(atlas.labels.values())):
        findings.refuse_option(
            option,
            f"some labels of {atlas.image} are missing in {atlas.table.name}:"
            f" {list_some([*map(str, unnamed_labels)], _MAX_LABELS)}",
            "Add one row per missing label to the table.",
        )
    existing_labels = {name for name, number in atlas.labels.items() if number in numbers}
    for region_option, labels in _list_regions(settings):
        _check_labels(region_option, labels, existing_labels, atlas.image, findings)


def _list_regions(settings: Settings) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the options that name regions of the atlas, with the labels of each region."""
    activation = settings.activation
    yield f"--roi {activation.roi}", region_labels(activation.roi, activation.atlas)
    for text in activation.seeds if activation.seeds != (COMPONENTS,) else ():
        yield f"--seeds {text}", parse_seed(text, activation.atlas).labels


def _check_labels(
    option: str,
    labels: Collection[str],
    existing_labels: Collection[str],
    image: Path,
    findings: Findings,
) -> None:
    """Reject a region without any voxel in the label image, and warn of labels without voxels."""
    missing_labels = [name for name in labels if name not in existing_labels]
    if not missing_labels:
        return
    names = list_some(missing_labels, _MAX_LABELS)
    reason = f"{image} has no voxels with the label{'s' * (len(missing_labels) > 1)} {names}"
    if len(missing_labels) < len(labels):
        findings.warn(option, f"{reason}. The region consists of the other labels.")
        return
    findings.refuse_option(
        option,
        f"the region is empty: {reason}",
        f"Choose labels with voxels: {list_some(sorted(existing_labels))}.",
    )
