"""Space of a mask or an atlas that an option names: in the file name, or the space of its grid."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bids_sr.config import Settings
from bids_sr.io.grids import BOLDREF, size_text
from bids_sr.io.image_header import Header
from bids_sr.io.region_spaces import T1W, TEMPLATE, Grid, RegionSpace, find_space
from bids_sr.io.template_files import (
    DEFAULT_SPACE,
    available_templates,
    load_grid,
    read_resolutions,
)
from bids_sr.spatial.transforms import hr_grid
from bids_sr.survey.bids.entities import parse_entities
from bids_sr.survey.bids.headers import find_header, squeezed_shape
from bids_sr.survey.bids.inputs import Subject
from bids_sr.survey.notices import InputError, option_problem


class OptionImage(NamedTuple):
    """Image that an option names: text of the option, path, grid and voxels (3D)."""

    option: str
    path: Path
    grid: Grid
    voxels: np.ndarray


def option_error(option: str, why: str, remedy: str) -> InputError:
    """Return the exception for an option, which stops the whole call."""
    return InputError([option_problem(option, why, remedy)])


def find_mask_space(mask: OptionImage, subject: Subject, settings: Settings) -> RegionSpace:
    """Return the space of a mask for one participant, or raise `InputError`.

    A mask in the space of a run must have the field of view of all runs. Only a mask in the space
    of the template may be named after another participant.
    """
    space = _find_space(mask, _list_grids(subject, settings), subject)
    for run in subject.runs if space == BOLDREF else ():
        if not mask.grid.has_view_of(Grid(shape=run.shape, affine=run.affine)):
            raise option_error(
                mask.option,
                f"the mask is in the space of a BOLD run, but its field of view differs from"
                f" {run.stem}",
                "Process the runs separately, or provide the mask in the space of the T1w image.",
            )
    label = parse_entities(mask.path).get("subject", subject.label)
    if space != TEMPLATE and label != subject.label:
        raise option_error(
            mask.option,
            f"the mask is of sub-{label}, but the call processes sub-{subject.label}",
            f"Use --participant-label {label}, and one call per participant, or a mask in the"
            " space of the template.",
        )
    return space


def find_atlas_spaces(
    atlas: OptionImage, subjects: Sequence[Subject], settings: Settings
) -> dict[str, RegionSpace]:
    """Return the space of an atlas file by participant; raise `InputError` if one is unknown.

    Participants without T1w image do not use the atlas.
    """
    spaces: dict[str, RegionSpace] = {}
    for subject in (subject for subject in subjects if subject.runs and subject.t1w):
        grids = _list_grids(subject, settings)
        del grids[BOLDREF]  # atlases are resampled to the T1w image
        spaces[subject.label] = _find_space(atlas, grids, subject)
    return spaces


def _list_grids(subject: Subject, settings: Settings) -> dict[str, list[Grid]]:
    """Return the known grids of a participant by the label of their space.

    The spaces of BOLD runs have an acquired and a high-resolution grid, and a template one grid
    per resolution. Without a T1w image, its space has no grid.
    """
    template = choose_template(settings, subject)
    template_grids = [
        load_grid(template, resolution) for resolution in ("", *read_resolutions(template))
    ]
    t1w_headers = map(find_header, subject.t1w[:1])
    run_grids = []
    for run in subject.runs:
        shape, affine = hr_grid(run.shape, run.affine, run.factor)
        run_grids += [Grid(shape=run.shape, affine=run.affine), Grid(shape=shape, affine=affine)]
    return {
        T1W: [read_grid(header) for header in t1w_headers if header is not None],
        BOLDREF: run_grids,
        template: [
            Grid(shape=grid[0], affine=grid[1]) for grid in template_grids if grid is not None
        ],
    }


def choose_template(settings: Settings, subject: Subject) -> str:
    """Return the target template of the T1w image of a participant, its cohort after a plus sign.

    This is the first requested template. If no template was requested, a template with imported
    transforms is preferred to the default template.
    """
    if settings.preprocessing.templates:
        return settings.preprocessing.templates[0]
    spaces = () if subject.precomputed is None else subject.precomputed.spaces
    imported_spaces = filter(spaces.__contains__, available_templates() if spaces else ())
    return next(imported_spaces, DEFAULT_SPACE)


def read_grid(header: Header) -> Grid:
    """Return the grid of an image or of the volumes of a series."""
    return Grid(shape=squeezed_shape(header)[:3], affine=header.affine)


def _find_space(
    image: OptionImage, grids: Mapping[str, Sequence[Grid]], subject: Subject
) -> RegionSpace:
    """Return the space of an image for one participant, or raise `InputError`.

    The space is stated by the file name, or the image has one of the known `grids`.
    """
    entities = parse_entities(image.path)
    # names of TemplateFlow state the space as tpl
    name = entities.get("space") or entities.get("tpl", "")
    label = "+".join(filter(None, (name, entities.get("cohort", ""))))
    space = find_space(label, image.grid, grids)
    if space is not None:
        known_spaces: dict[str, RegionSpace] = {T1W: T1W, BOLDREF: BOLDREF}
        return known_spaces.get(space, TEMPLATE)
    reason = f"the space {label} in the file name is not a space of sub-{subject.label}"
    if not label:
        reason = (
            "the space of the image is not known: the file name does not contain a space, and the"
            f" grid of {size_text(image.grid.shape, unit='')} voxels is not the grid of exactly"
            f" one space of sub-{subject.label}"
        )
    choices = [f"space-{known.replace('+', '_cohort-')}" for known in grids]
    raise option_error(
        image.option,
        reason,
        f"Add the space to the file name: {', '.join(choices[:-1])} or {choices[-1]}. To use"
        " another template, list it first in --output-spaces.",
    )
