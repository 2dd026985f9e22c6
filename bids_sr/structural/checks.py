"""Checks of the options of structural scans: FSL programs, lesion template and edited masks."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bids_sr.config import Settings
from bids_sr.io.arrays import Array
from bids_sr.io.fields_of_view import same_grid
from bids_sr.io.notices import InvalidInput, Notice, explain
from bids_sr.io.template_files import DEFAULT_SPACE
from bids_sr.structural.edited_masks import (
    LESIONS,
    automatic_mask_path,
    find_edited_mask,
    mask_name,
)
from bids_sr.survey.bids.inputs import LowresScan, Pair, Subject
from bids_sr.survey.notices import option_problem


def check_tools(settings: Settings) -> Iterator[Notice]:
    """Reject ``--set anat.tools=fsl`` if a program of FSL is not on the PATH."""
    if settings.anat.tools != "fsl":
        return
    from bids_sr.preproc.fsl import PROGRAMS

    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        yield option_problem(
            "--set anat.tools=fsl",
            f"the FSL programs {', '.join(missing)} were not found on the PATH. FSL is not part of"
            " bids-sr or its container image, because its license does not allow commercial use",
            "Install FSL (https://fsl.fmrib.ox.ac.uk/fsl/docs/) and add its bin directory to the"
            " PATH. In a container, mount your FSL installation (docs/cluster.md, section FSL)."
            " To use N4 bias field correction and the template brain mask instead of FSL, omit the"
            " option.",
        )


def check_lesion_template(settings: Settings, subjects: Sequence[Subject]) -> Iterator[Notice]:
    """Reject an unusable lesion template."""
    file = settings.anat.lesion_template
    if file is None:
        return
    option = f"--set anat.lesion_template={file}"
    if subjects and not _select_with_flair(subjects):
        yield option_problem(
            option,
            "white-matter hyperintensities are segmented on FLAIR scans, but no participant has"
            " FLAIR scans at two resolutions",
            "Omit the option.",
        )
    space = next(iter(settings.preprocessing.templates), DEFAULT_SPACE)
    try:
        _check_template(file, space)
    except InvalidInput as error:
        yield option_problem(option, error.reason, error.remedy)


def _check_template(file: Path, space: str) -> None:
    """Raise `InvalidInput` unless a file is a lesion template in a space.

    The file is accepted if the template of the space cannot be loaded.
    """
    from nibabel.affines import apply_affine

    from bids_sr.preproc.templates import load_template

    fix = (
        f"Specify a lesion map in {space}, that is, a 3D NIfTI image with values above 0 where"
        " lesions occur."
    )
    if not file.is_file():
        raise InvalidInput("the file was not found", "Check the path.")
    try:
        data, affine = _read_3d_image(file, "image")
    except InvalidInput as error:
        raise InvalidInput(error.reason, fix) from error
    voxels = np.argwhere(data > 0)
    if not len(voxels):
        raise InvalidInput("the image is empty: all voxel values are 0 or negative", fix)
    try:
        brain = load_template(space).mask
    except InvalidInput:
        return  # reported with the output spaces
    indices = np.round(
        apply_affine(np.linalg.inv(brain.affine), apply_affine(affine, voxels))
    ).astype(int)
    is_inside = ((indices >= 0) & (indices < brain.data.shape)).all(axis=1)
    if not brain.data[tuple(indices[is_inside].T)].any():
        explanation = (
            f"all voxels above 0 are outside the brain in {space}, so the image is probably in"
            " another space"
        )
        raise InvalidInput(explanation, f"{fix} To use another template, specify --output-spaces.")


def check_edited_masks(settings: Settings, subjects: Sequence[Subject]) -> Iterator[Notice]:
    """Reject directories without edited masks of the brain or lesions, and unusable masks."""
    anat = settings.anat
    for name, folder, kind, masked_subjects, contrasts in (
        ("brain_mask", anat.brain_mask, f"desc-{anat.mask}", subjects, ""),
        ("wmh_reference", anat.wmh_reference, LESIONS, _select_with_flair(subjects), "FLAIR "),
    ):
        if folder is None:
            continue
        option = f"--set anat.{name}={folder}"
        files = {
            subject.label: find_edited_mask(
                folder, kind, settings, subject, _select_scans(subject)
            )
            for subject in masked_subjects
        }
        if not folder.is_dir():
            yield option_problem(option, "the directory was not found", "Check the path.")
        elif subjects and not any(files.values()):
            reason = f"no participant has {contrasts}scans at two resolutions"
            if masked_subjects:
                first = masked_subjects[0]
                reason = (
                    "the directory does not contain an edited mask for the selected participants;"
                    " the expected file name is"
                    f" {mask_name(kind, settings, first, _select_scans(first))}"
                )
            yield option_problem(
                option,
                reason,
                "Name the edited masks like the masks written by bids-sr, or omit the option.",
            )
        for subject in masked_subjects:
            file = files[subject.label]
            if file is not None and (
                reason := _find_mask_problem(file, automatic_mask_path(kind, settings, subject))
            ):
                yield option_problem(
                    str(file),
                    reason,
                    "Edit a copy of the mask that was written by an earlier run.",
                )


def _select_scans(subject: Subject) -> Sequence[Pair | LowresScan]:
    """Return the pairs of a participant, or the scans of the first session if there are none."""
    groups: list[Sequence[Pair | LowresScan]] = [subject.structural]
    groups += [*subject.controls, *subject.lowres]
    return next(filter(None, groups), ())


def _select_with_flair(subjects: Sequence[Subject]) -> list[Subject]:
    """Return the participants with FLAIR scans at two resolutions."""
    return [
        subject
        for subject in subjects
        if any(pair.contrast == "FLAIR" for pair in subject.structural)
    ]


def _find_mask_problem(file: Path, stored_mask: Path) -> str:
    """Return why an edited mask cannot be used, "" if it can.

    If the mask of an earlier run exists (`stored_mask`), its grid is compared.
    """
    from bids_sr.io.nifti import load_image

    try:
        data, affine = _read_3d_image(file, "mask")
    except InvalidInput as error:
        return error.reason
    if stored_mask.is_file():
        stored_data, stored_affine = load_image(stored_mask)
        if not same_grid(data.shape, affine, stored_data.shape, stored_affine):
            return (
                f"the mask grid {data.shape} differs in size or position from the grid"
                f" {stored_data.shape} of {stored_mask}"
            )
    return ""


def _read_3d_image(file: Path, kind: str) -> tuple[Array, Array]:
    """Return the values (3D) and the affine of an image; `kind` is its name in the message.

    Raises `InvalidInput` if the file cannot be read or the image does not have three dimensions.
    """
    from bids_sr.io.nifti import SeriesReader

    try:
        with SeriesReader(file) as reader:
            if reader.ndim == 3:
                return reader.volume(0), reader.affine
    except (OSError, EOFError, ValueError) as error:
        reason = f"the file cannot be read as a NIfTI image ({explain(error)})"
        raise InvalidInput(reason) from error
    raise InvalidInput(
        f"the image has {reader.ndim} dimensions {reader.shape}, but a 3D {kind} is expected"
    )
