"""Atlas or region of interest that is given as an image."""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bids_sr.config import Settings, machine
from bids_sr.config.seeds import COMPONENTS, parse_seed
from bids_sr.io.checksums import once_per_state
from bids_sr.io.notices import Notice
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
from bids_sr.survey.bids.headers import COLOR_REASON, READ_ERRORS, read_header, squeezed_shape
from bids_sr.survey.bids.inputs import Subject
from bids_sr.survey.bids.label_lists import list_some
from bids_sr.survey.notices import Choice, InputError, is_problem, option_problem, warning
from bids_sr.survey.preflight.plan import RegionMask
from bids_sr.survey.preflight.region_spaces import (
    OptionImage,
    find_atlas_spaces,
    find_mask_space,
    option_error,
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


class Regions(NamedTuple):
    """Masks by the text of the region, and the space of an atlas file by participant."""

    masks: dict[str, RegionMask]
    atlas_spaces: dict[str, RegionSpace]


def read_regions(settings: Settings, subjects: Sequence[Subject]) -> Choice[Regions]:
    """Read the atlas and the masks of regions of interest; warnings name labels without voxels.

    Raises `InputError` for images that cannot be read, that are empty or not masks, and for images
    in an unknown space.
    """
    activation = settings.activation
    masks: dict[str, RegionMask] = {}
    problems: list[Notice] = []
    for roi in filter(is_file, activation.roi):
        try:
            masks[roi] = _read_mask(roi, settings, subjects)
        except InputError as error:
            problems += error.problems
    atlas = Choice(value=dict[str, RegionSpace]())
    if not is_aal2(activation.atlas):
        try:
            atlas = _read_atlas(settings, subjects)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return Choice(value=Regions(masks, atlas.value), notices=atlas.notices)


def _read_mask(roi: str, settings: Settings, subjects: Sequence[Subject]) -> RegionMask:
    """Read a mask of ``--roi``; raise `InputError` if it cannot be used."""
    option = f"--roi {roi}"
    fix = f"Specify a mask image. {_NAMES_FIX}"
    image = _read_image(Path(roi), option, fix, settings)
    voxels = image.voxels
    values = np.unique(voxels[voxels > 0])
    if not values.size:
        content = "NaN" if np.isnan(voxels).all() else "0, negative or NaN"
        raise option_error(
            option,
            f"the mask image is empty: all voxel values are {content}",
            f"Specify a mask image with values above 0 inside the region. {_NAMES_FIX}",
        )
    if values.size > 1 or (voxels < 0).any():
        raise option_error(
            option,
            f"the image is not a mask: it contains {_describe_values(voxels, values)}",
            "Specify an image with the value 1 inside the region and 0 outside. Threshold an"
            " image of probabilities, and use --set activation.atlas=FILE"
            " --roi LABELS for a label image.",
        )
    spaces = {
        subject.label: find_mask_space(image, subject, settings)
        for subject in subjects
        if subject.runs
    }
    return RegionMask(n_voxels=int(np.count_nonzero(voxels > 0)), spaces=spaces)


def _describe_values(voxels: np.ndarray, positive_values: np.ndarray) -> str:
    """Return the values of an image that is not a mask, as text."""
    texts = []
    if positive_values.size > 1:
        texts.append(f"{positive_values.size} different values above 0")
    if n_negative := np.unique(voxels[voxels < 0]).size:
        texts.append(f"{n_negative} different value{'s' * (n_negative > 1)} below 0")
    return " and ".join(texts)


def _read_atlas(settings: Settings, subjects: Sequence[Subject]) -> Choice[dict[str, RegionSpace]]:
    """Return the space of an atlas file by participant; empty if it is selected by name.

    The image must be 3D and contain integers with a name for each label. Raises `InputError` if
    the image cannot be used, or if requested regions have no voxels.
    """
    activation = settings.activation
    atlas = find_atlas(activation.atlas)
    option = f"--set activation.atlas={activation.atlas}"
    fix = "Specify a label image, or use AAL2."
    image = _read_image(
        atlas.image, option, "Specify a single label image in NIfTI format, or use AAL2.", settings
    )
    voxels = image.voxels
    label_numbers = np.unique(voxels[voxels != 0])
    if not label_numbers.size:
        raise option_error(
            option, f"the label image {atlas.image} is empty: all voxels are 0", fix
        )
    if (label_numbers != np.round(label_numbers)).any():
        reason = f"the label image {atlas.image} contains non-integer values"
        raise option_error(option, reason, fix)
    numbers = set(label_numbers.astype(int).tolist())
    notices: list[Notice] = []
    if unnamed_labels := sorted(numbers - set(atlas.labels.values())):
        unnamed = option_problem(
            option,
            f"some labels of {atlas.image} are missing in {atlas.table.name}:"
            f" {list_some([*map(str, unnamed_labels)], _MAX_LABELS)}",
            "Add one row per missing label to the table.",
        )
        notices.append(unnamed)
    existing_labels = {name for name, number in atlas.labels.items() if number in numbers}
    for region_option, labels in _list_regions(settings):
        notices += _judge_labels(region_option, labels, existing_labels, atlas.image)
    spaces: dict[str, RegionSpace] = {}
    if is_file(activation.atlas):
        try:
            spaces = find_atlas_spaces(image, subjects, settings)
        except InputError as error:
            notices += error.problems
    if problems := list(filter(is_problem, notices)):
        raise InputError(problems)
    return Choice(value=spaces, notices=tuple(notices))


def _read_image(file: Path, option_text: str, fix: str, settings: Settings) -> OptionImage:
    """Return the 3D image that an option names, or raise `InputError`.

    Its voxels are only read if they fit into the memory.
    """
    import nibabel as nb

    limit_gb = settings.resources.mem_gb or machine.memory_gb()
    try:
        header = read_header(file)
    except InputError as error:
        reason = f"the file {file}: {error.problems[0].why}"
        raise option_error(option_text, reason, fix) from error
    if len(squeezed_shape(header)) != 3:
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
    raise option_error(option_text, reason, fix)


def _list_regions(settings: Settings) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the options that name regions of the atlas, with the labels of each region."""
    activation = settings.activation
    for roi in activation.roi:
        yield f"--roi {roi}", region_labels(roi, activation.atlas)
    for text in activation.seeds if activation.seeds != (COMPONENTS,) else ():
        yield f"--set activation.seeds={text}", parse_seed(text, activation.atlas).labels


def _judge_labels(
    option: str, labels: Collection[str], existing_labels: Collection[str], image: Path
) -> Iterator[Notice]:
    """Reject a region without any voxel in the label image, and warn of labels without voxels."""
    missing_labels = [name for name in labels if name not in existing_labels]
    if not missing_labels:
        return
    names = list_some(missing_labels, _MAX_LABELS)
    reason = f"{image} has no voxels with the label{'s' * (len(missing_labels) > 1)} {names}"
    if len(missing_labels) < len(labels):
        yield warning(option, f"{reason}. The region consists of the other labels.")
        return
    yield option_problem(
        option,
        f"the region is empty: {reason}",
        f"Choose labels with voxels: {list_some(sorted(existing_labels))}.",
    )
