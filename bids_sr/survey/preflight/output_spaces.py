"""Rules on ``--output-spaces``, with download of missing templates.

The client of TemplateFlow is only imported for templates that are not on this computer: with its
first query, it takes 2.3 s.
"""

import contextlib
import difflib
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bids_sr.config import Settings
from bids_sr.config.spaces import FUNC, T1W, Space
from bids_sr.io.atomic_files import atomic_file
from bids_sr.io.data_folders import templateflow_home
from bids_sr.io.notices import Notice
from bids_sr.io.template_files import (
    DESCRIPTION,
    available_templates,
    is_available,
    list_resolutions,
    load_grid,
    read_resolutions,
)
from bids_sr.survey.notices import InputError, attribute, judge, note, option_problem

_LOGGER = logging.getLogger(__name__)
# Entities of files at TemplateFlow; None for an entity that the file names lack.
_Query = Mapping[str, Any]
_VOLUME: _Query = {"atlas": None, "extension": ".nii.gz"}
_REQUIRED_IMAGES: Mapping[str, _Query] = {
    "T1w image": {**_VOLUME, "suffix": "T1w", "desc": None},
    "brain mask": {**_VOLUME, "suffix": "mask", "desc": "brain"},
}
_TISSUES: _Query = {**_VOLUME, "suffix": "probseg", "label": ["GM", "WM"]}
_OTHER_SPACE_FIX = "Choose another output space, or omit this space."


def judge_spaces(
    settings: Settings, *, labels: Sequence[str], without_anat: Sequence[str]
) -> Iterator[Notice]:
    """Reject spaces without T1w images, and download templates unless the call is a dry run.

    `labels` lists the participants, `without_anat` the participants without T1w image.
    """
    spaces = [space for space in settings.preprocessing.spaces if space.name != FUNC]
    if not spaces:
        return
    if labels and set(labels) <= set(without_anat):
        reason = "all output spaces except func require a T1w image, but no participant has one"
        yield option_problem("--output-spaces", reason, "Omit the option, or add a T1w image.")
        return
    for label in without_anat:
        text = (
            "no T1w image was found, so results cannot be transformed to"
            f" {', '.join(map(str, spaces))} and remain in the native space of the run."
        )
        yield from attribute([note(f"sub-{label}", text)], label)
    provide = _note_download if settings.run.dry_run else _provide_template
    for space in spaces:
        if space.is_template and not is_available(space.template):
            yield from judge((provide,), space)


def _note_download(space: Space) -> Iterator[Notice]:
    """Report a template that is downloaded later."""
    yield note(
        f"--output-spaces {space}",
        "the template is not stored on this machine and will be downloaded when processing"
        " starts. For machines without network access, store it beforehand:"
        f" {_format_download(space)}",
    )


def _provide_template(space: Space) -> tuple[()]:
    """Store a template on this machine, or raise `InputError`."""
    with _open_templateflow(space) as client:
        files = _download_template(space, client)
        try:
            for path in files:
                target = templateflow_home() / path.relative_to(client.cache.config.root)
                target.parent.mkdir(parents=True, exist_ok=True)
                with atomic_file(target) as partial:
                    shutil.copyfile(path, partial)
        except OSError as error:
            raise _unwritable_cache(space, error) from error
    return ()


def _download_template(space: Space, client: Any) -> list[Path]:
    """Download the images and the description of a template to the folder of a client.

    The images are the T1w image, the brain mask, tissue maps if they exist, and the T1w image at
    the requested resolution. Raises `InputError` if a file cannot be downloaded.
    """
    grid = _choose_grid(space, client)
    queries = [{**grid, **image} for image in (*_REQUIRED_IMAGES.values(), _TISSUES)]
    if space.resolution:
        queries.append({**queries[0], "resolution": space.resolution})
    files = [client.cache.config.root / f"tpl-{space.name}" / DESCRIPTION]
    for query in queries:
        images = client.ls(space.name, **query)
        try:
            client.get(space.name, **query)
        # the client does not catch exceptions of its different download methods
        except Exception as error:
            name = images[0].relative_to(client.cache.config.root)
            _LOGGER.debug("TemplateFlow could not provide %s: %s", name, error)
            refusal = option_problem(
                f"--output-spaces {space}",
                f"the template is not stored on this machine, and {name} could not be downloaded"
                f" ({type(error).__name__})",
                "Download the template on a machine with network access"
                f" (`{_format_download(space)}`), copy its TemplateFlow directory to this machine"
                f" and set TEMPLATEFLOW_HOME (now {templateflow_home()}) to that directory."
                " Alternatively, use one of the templates available on this machine:"
                f" {', '.join(available_templates())}.",
            )
            raise InputError([refusal]) from error
        files += images
    return files


def _format_download(space: Space) -> str:
    """Return the command that stores the images of a template in the TemplateFlow directory."""
    cohort_text = f" cohort='{space.cohort}'," if space.cohort else ""
    return (
        f"python -c \"from templateflow import api; api.get('{space.name}',{cohort_text}"
        " atlas=None, suffix=['T1w', 'mask', 'probseg'])\""
    )


def judge_templates(settings: Settings) -> Iterator[Notice]:
    """Reject templates, cohorts and resolutions that do not exist, without using the network."""
    missing_spaces = []
    for space in (space for space in settings.preprocessing.spaces if space.is_template):
        if not is_available(space.template):
            missing_spaces.append(space)
        elif space.resolution and load_grid(space.template, space.resolution) is None:
            yield _describe_resolution(space, read_resolutions(space.template))
    if missing_spaces:
        with _open_templateflow(missing_spaces[0]) as client:
            for space in missing_spaces:
                yield from _judge_with_templateflow(space, client)


@contextlib.contextmanager
def _open_templateflow(space: Space) -> Iterator[Any]:
    """Provide a client of TemplateFlow whose folder has an empty file for each existing file.

    The folder is temporary: the client lists the files of its folder, but the cache may be
    read-only or contain only some templates. Raises `InputError` about the space if the cache is
    empty and read-only, because importing the client writes files to an empty cache.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from templateflow import TemplateFlowClient
    except OSError as error:
        raise _unwritable_cache(space, error) from error
    with tempfile.TemporaryDirectory() as folder:
        yield TemplateFlowClient(root=folder, use_datalad=False)


def _unwritable_cache(space: Space, error: OSError) -> InputError:
    """Return the error that the TemplateFlow directory is not writable."""
    refusal = option_problem(
        f"--output-spaces {space}",
        "the template is not stored on this machine, and the TemplateFlow directory"
        f" {templateflow_home()} is not writable ({error})",
        "Set the environment variable TEMPLATEFLOW_HOME to a writable directory.",
    )
    return InputError([refusal])


def _judge_with_templateflow(space: Space, client: Any) -> Iterator[Notice]:
    """Reject a space that TemplateFlow does not provide with all images for registration."""
    option_text = f"--output-spaces {space}"
    if not client.ls(space.name, cohort=space.cohort or None, **_VOLUME):
        yield option_problem(option_text, *_describe_unknown(space, client))
        return
    grid = _choose_grid(space, client)
    for name, query in _REQUIRED_IMAGES.items():
        if not client.ls(space.name, **grid, **query):
            yield option_problem(
                option_text,
                f"the template does not include a {name}, which is required for registration",
                _OTHER_SPACE_FIX,
            )
            return
    if space.resolution:
        sizes = list_resolutions(client.get_metadata(space.name))
        if space.resolution not in sizes:
            yield _describe_resolution(space, sizes)


def _describe_unknown(space: Space, client: Any) -> tuple[str, str]:
    """Return reason and remedy for a space that is neither a template nor another known space."""
    t1w, mask = _REQUIRED_IMAGES.values()
    cohorts = client.get_cohorts(template=space.name, **t1w)
    if cohorts:
        reason = (
            f"the template has no cohort {space.cohort}"
            if space.cohort
            else "the template requires a cohort"
        )
        cohort_text = ", ".join(map(str, sorted(cohorts)))
        return reason, f"Add :cohort-LABEL; the cohorts are {cohort_text}."
    names = sorted({*client.templates(**t1w)} & {*client.templates(**mask)})
    if space.name in names:
        return "the template has no cohorts", f"Use {space.name} without a cohort."
    own_folder = templateflow_home() / f"tpl-{space.name}"
    if own_folder.is_dir():
        return f"{own_folder} does not contain a T1w image and a brain mask", _OTHER_SPACE_FIX
    names_by_lowercase = {name.lower(): name for name in (FUNC, T1W, *names)}
    similar_names = difflib.get_close_matches(space.name.lower(), names_by_lowercase, n=1)
    hint = f"Did you mean {names_by_lowercase[similar_names[0]]}? " if similar_names else ""
    return (
        "no output space has this name",
        f"{hint}Output spaces are {FUNC}, {T1W}, fsnative, fsaverage:den-10k and the templates"
        f" {', '.join(names)}. Available on this machine: {', '.join(available_templates())}.",
    )


def _choose_grid(space: Space, client: Any) -> _Query:
    """Return cohort and resolution of the images for registration: label 1, 2 or no label."""
    cohort = {"cohort": space.cohort or None}
    labels = client.get_resolutions(template=space.name, **cohort, **_REQUIRED_IMAGES["T1w image"])
    return {**cohort, "resolution": next((label for label in (1, 2) if label in labels), None)}


def _describe_resolution(space: Space, sizes: Mapping[str, float]) -> Notice:
    """Return the problem of a resolution that a template lacks; `sizes` are its others in mm."""
    resolutions = ", ".join(f"res-{label} ({mm:g} mm)" for label, mm in sizes.items())
    return option_problem(
        f"--output-spaces {space}",
        f"the resolution {space.resolution} is not available for this template (available:"
        f" {resolutions or 'no named resolution'})",
        f"Use {space.template.replace('+', ':cohort-')} without a resolution to keep the voxel"
        " size of the series, or choose one of the available resolutions.",
    )
