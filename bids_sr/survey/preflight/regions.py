"""Checks of an atlas or region of interest that is given as an image."""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from bids_sr.config import Settings, machine
from bids_sr.config.seeds import COMPONENTS, parse_seed
from bids_sr.io.checksums import once_per_state
from bids_sr.io.region_names import (
    AUTO,
    BRAIN,
    find_atlas,
    is_aal2,
    is_file,
    region_labels,
    region_of_tasks,
)
from bids_sr.io.region_spaces import RegionSpace
from bids_sr.survey.bids.bridges import read_header
from bids_sr.survey.bids.findings import Findings, about, refuse_option, warn
from bids_sr.survey.bids.headers import COLOR_REASON, READ_ERRORS, squeezed_shape
from bids_sr.survey.bids.inputs import Subject
from bids_sr.survey.bids.label_lists import list_some
from bids_sr.survey.preflight.plan import RegionMask
from bids_sr.survey.preflight.region_spaces import (
    OptionImage,
    find_atlas_spaces,
    find_mask_space,
    read_grid,
)

_BYTES_PER_VOXEL = 16  # of an image that is scaled to double precision, and of a copy
_MAX_LABELS = 5  # number of labels in a message
_NAMES_FIX = "Alternatively, use --roi motor or --roi brain."


def choose_regions(settings: Settings, subject: Subject) -> tuple[str, ...]:
    """Return the requested regions of interest, or else one for the tasks of a participant."""
    activation = settings.activation
    if activation.roi != (AUTO,):
        return activation.roi
    # Default regions of tasks are defined by AAL2 labels.
    if not is_aal2(activation.atlas):
        return (BRAIN,)
    tasks = {run.entities.get("task", "") for run in subject.runs if run.events is not None}
    return (region_of_tasks(tasks),)


def count_label_voxels(labels: Collection[str], atlas: str) -> int:
    """Return the number of voxels with one of the labels in the image of an atlas."""
    atlas_files = find_atlas(atlas)
    n_voxels = _count_voxels(atlas_files.image)
    return sum(n_voxels[number] for number in {atlas_files.labels[name] for name in labels})


@once_per_state
def _count_voxels(image: Path) -> Counter[int]:
    """Return the number of voxels of each value of an image of labels."""
    import nibabel as nb

    voxels = np.asanyarray(nb.load(image).dataobj)  # type: ignore[attr-defined]
    values, counts = np.unique(voxels, return_counts=True)
    return Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))


@about(code="space")
def check_regions(
    settings: Settings, subjects: Sequence[Subject]
) -> tuple[dict[str, RegionMask], dict[str, RegionSpace]]:
    """Check the atlas and the masks of regions of interest.

    Images that cannot be read, that are empty or that are not masks, and images in an unknown
    space are rejected. Returns the valid masks by the text of the region, and the space of an
    atlas file by participant.
    """
    activation = settings.activation
    masks = {roi: _check_mask(roi, settings, subjects) for roi in activation.roi if is_file(roi)}
    atlas_spaces = dict[str, RegionSpace]()
    if not is_aal2(activation.atlas):
        atlas_spaces = _check_atlas(settings, subjects)
    return {roi: mask for roi, mask in masks.items() if mask is not None}, atlas_spaces


def _check_mask(roi: str, settings: Settings, subjects: Sequence[Subject]) -> RegionMask | None:
    """Check a mask of ``--roi``; return None with a problem if it cannot be used."""
    option = f"--roi {roi}"
    fix = f"Specify a mask image. {_NAMES_FIX}"
    image = _read_image(Path(roi), option, fix, settings)
    if image is None:
        return None
    voxels = image.voxels
    values = np.unique(voxels[voxels > 0])
    if not values.size:
        content = "NaN" if np.isnan(voxels).all() else "0, negative or NaN"
        refuse_option(
            option,
            f"the mask image is empty: all voxel values are {content}",
            f"Specify a mask image with values above 0 inside the region. {_NAMES_FIX}",
        )
        return None
    if values.size > 1 or (voxels < 0).any():
        refuse_option(
            option,
            f"the image is not a mask: it contains {_describe_values(voxels, values)}",
            "Specify an image with the value 1 inside the region and 0 outside. Threshold an"
            " image of probabilities, and use --set activation.atlas=FILE"
            " --roi LABELS for a label image.",
        )
        return None
    spaces = {}
    for subject in (subject for subject in subjects if subject.runs):
        space = find_mask_space(image, subject, settings)
        if space is None:
            return None
        spaces[subject.label] = space
    return RegionMask(n_voxels=int(np.count_nonzero(voxels > 0)), spaces=spaces)


def _describe_values(voxels: np.ndarray, positive_values: np.ndarray) -> str:
    """Return the values of an image that is not a mask, as text."""
    texts = []
    if positive_values.size > 1:
        texts.append(f"{positive_values.size} different values above 0")
    if n_negative := np.unique(voxels[voxels < 0]).size:
        texts.append(f"{n_negative} different value{'s' * (n_negative > 1)} below 0")
    return " and ".join(texts)


def _check_atlas(settings: Settings, subjects: Sequence[Subject]) -> dict[str, RegionSpace]:
    """Check the label image of an atlas, and that requested regions have voxels in it.

    The image must be 3D and contain integers with a name for each label. Returns the space of an
    atlas file by participant; empty for an atlas that is selected by name.
    """
    activation = settings.activation
    atlas = find_atlas(activation.atlas)
    option = f"--set activation.atlas={activation.atlas}"
    fix = "Specify a label image, or use AAL2."
    image = _read_image(
        atlas.image, option, "Specify a single label image in NIfTI format, or use AAL2.", settings
    )
    if image is None:
        return {}
    voxels = image.voxels
    label_numbers = np.unique(voxels[voxels != 0])
    if not label_numbers.size:
        refuse_option(option, f"the label image {atlas.image} is empty: all voxels are 0", fix)
        return {}
    if (label_numbers != np.round(label_numbers)).any():
        refuse_option(option, f"the label image {atlas.image} contains non-integer values", fix)
        return {}
    numbers = set(label_numbers.astype(int).tolist())
    if unnamed_labels := sorted(numbers - set(atlas.labels.values())):
        refuse_option(
            option,
            f"some labels of {atlas.image} are missing in {atlas.table.name}:"
            f" {list_some([*map(str, unnamed_labels)], _MAX_LABELS)}",
            "Add one row per missing label to the table.",
        )
    existing_labels = {name for name, number in atlas.labels.items() if number in numbers}
    for region_option, labels in _list_regions(settings):
        _check_labels(region_option, labels, existing_labels, atlas.image)
    if not is_file(activation.atlas):
        return {}
    return find_atlas_spaces(image, subjects, settings)


def _read_image(file: Path, option_text: str, fix: str, settings: Settings) -> OptionImage | None:
    """Return the 3D image that an option names, or None with a problem.

    Its voxels are only read if they fit into the memory.
    """
    import nibabel as nb

    limit_gb = settings.resources.mem_gb or machine.memory_gb()
    with Findings() as findings:
        header = read_header(file)
    if header is None:
        reason = f"the file {file}: {findings.problems[0].why}"
    elif len(squeezed_shape(header)) != 3:
        reason = f"the file {file} is not a 3D image"
    elif header.complex or header.colored:
        content = "the image contains complex values" if header.complex else COLOR_REASON
        reason = f"{content}, but a mask or label image is required"
    elif (need_gb := _BYTES_PER_VOXEL * math.prod(header.shape) / 1e9) > limit_gb:
        sizes = "×".join(map(str, squeezed_shape(header)))
        reason = (
            f"the file {file} has {sizes} voxels and requires {need_gb:.1f} GB of memory, but"
            f" {limit_gb:.1f} GB are available"
        )
    else:
        try:
            voxels = np.asanyarray(nb.load(file).dataobj)  # type: ignore[attr-defined]
            return OptionImage(option_text, file, read_grid(header), voxels)
        except READ_ERRORS as error:
            reason = f"the file {file} is truncated or corrupt ({error})"
    refuse_option(option_text, reason, fix)
    return None


def _list_regions(settings: Settings) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the options that name regions of the atlas, with the labels of each region."""
    activation = settings.activation
    for roi in activation.roi:
        yield f"--roi {roi}", region_labels(roi, activation.atlas)
    for text in activation.seeds if activation.seeds != (COMPONENTS,) else ():
        yield f"--set activation.seeds={text}", parse_seed(text, activation.atlas).labels


def _check_labels(
    option: str, labels: Collection[str], existing_labels: Collection[str], image: Path
) -> None:
    """Reject a region without any voxel in the label image, and warn of labels without voxels."""
    missing_labels = [name for name in labels if name not in existing_labels]
    if not missing_labels:
        return
    names = list_some(missing_labels, _MAX_LABELS)
    reason = f"{image} has no voxels with the label{'s' * (len(missing_labels) > 1)} {names}"
    if len(missing_labels) < len(labels):
        warn(option, f"{reason}. The region consists of the other labels.")
        return
    refuse_option(
        option,
        f"the region is empty: {reason}",
        f"Choose labels with voxels: {list_some(sorted(existing_labels))}.",
    )
