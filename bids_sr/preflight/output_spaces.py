"""Checks of ``--output-spaces``, with download of missing templates.

Names, cohorts and resolutions are compared with the list of files that is installed with the
client of TemplateFlow. Importing the client takes seconds and fills the TemplateFlow directory
with empty files, so it is only imported to download a template.
"""

import contextlib
import difflib
import fcntl
import importlib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bids_sr.bids import Findings
from bids_sr.config import Settings
from bids_sr.config.spaces import FUNC, T1W, Space
from bids_sr.io.installed_files import templateflow_home
from bids_sr.io.template_cache import (
    available_templates,
    find_missing_image,
    is_available,
    list_templates,
    load_grid,
    read_resolutions,
    template_file,
)

_LOGGER = logging.getLogger(__name__)
_Image = dict[str, object]
"""Entities of an image of a template."""
_IMAGES: tuple[_Image, ...] = (
    {"suffix": "T1w", "desc": None},
    {"suffix": "mask", "desc": "brain"},
)
_TISSUES: tuple[_Image, ...] = tuple(
    {"suffix": "probseg", "label": tissue} for tissue in ("GM", "WM")
)
_DOWNLOADED_RESOLUTIONS = ("1", "2")  # of the images for registration, in order of preference
_OTHER_SPACE_FIX = "Choose another output space, or omit this space."


def check_spaces(
    settings: Settings, findings: Findings, *, labels: Sequence[str], without_anat: Sequence[str]
) -> None:
    """Reject spaces without T1w images, and download templates unless the call is a dry run.

    `labels` lists the participants, `without_anat` the participants without T1w image.
    """
    spaces = [space for space in settings.preprocessing.spaces if space.name != FUNC]
    if not spaces:
        return
    if labels and set(labels) <= set(without_anat):
        reason = "all output spaces except func require a T1w image, but no participant has one"
        findings.refuse_option("--output-spaces", reason, "Omit the option, or add a T1w image.")
        return
    for label in without_anat:
        text = (
            "no T1w image was found, so results cannot be transformed to"
            f" {', '.join(map(str, spaces))} and remain in the native space of the run."
        )
        with findings.about(label):
            findings.note(f"sub-{label}", text)
    for space in spaces:
        if space.is_template:
            _provide_template(space, findings, dry_run=settings.run.dry_run)


def check_templates(settings: Settings, findings: Findings) -> None:
    """Reject templates, cohorts and resolutions that do not exist, without using the network."""
    for space in (space for space in settings.preprocessing.spaces if space.is_template):
        option_text = f"--output-spaces {space}"
        if is_available(space.template):
            if space.resolution and load_grid(space.template, space.resolution) is None:
                sizes = read_resolutions(space.template)
                _refuse_resolution(space, option_text, sizes, findings)
            continue
        known_templates = list_templates()
        # a newer list of the client, or templates of the user
        in_home = (templateflow_home() / f"tpl-{space.name}").is_dir()
        files = known_templates.get(space.template)
        if files is None and known_templates and not in_home:
            findings.refuse_option(option_text, *_describe_unknown(space))
        elif files is not None and (image := find_missing_image(files)):
            findings.refuse_option(option_text, *_describe_missing_image(image))
        elif files is not None and space.resolution not in ("", *files.resolutions):
            sizes = read_resolutions(space.template)
            available_mm = {label: sizes.get(label, 0.0) for label in sorted(files.resolutions)}
            _refuse_resolution(space, option_text, available_mm, findings)


def _describe_unknown(space: Space) -> tuple[str, str]:
    """Return reason and remedy for a space that is neither a template nor another known space."""
    templates = [name for name, files in list_templates().items() if not find_missing_image(files)]
    names = dict.fromkeys(name.partition("+")[0] for name in templates)
    cohorts = [name.partition("+")[2] for name in templates if name.startswith(f"{space.name}+")]
    if cohorts:
        reason = (
            f"the template has no cohort {space.cohort}"
            if space.cohort
            else "the template requires a cohort"
        )
        cohort_text = ", ".join(sorted(cohorts, key=lambda label: (len(label), label)))
        return reason, f"Add :cohort-LABEL; the cohorts are {cohort_text}."
    if space.name in names:
        return "the template has no cohorts", f"Use {space.name} without a cohort."
    names_by_lowercase = {name.lower(): name for name in (FUNC, T1W, *names)}
    similar_names = difflib.get_close_matches(space.name.lower(), names_by_lowercase, n=1)
    hint = f"Did you mean {names_by_lowercase[similar_names[0]]}? " if similar_names else ""
    return (
        "no output space has this name",
        f"{hint}Output spaces are {FUNC}, {T1W}, fsnative, fsaverage:den-10k and the templates"
        f" {', '.join(names)}. Available on this machine: {', '.join(available_templates())}.",
    )


def _describe_missing_image(image: str) -> tuple[str, str]:
    """Return reason and remedy for a template without T1w image or brain mask."""
    return (
        f"the template does not include a {image}, which is required for registration",
        _OTHER_SPACE_FIX,
    )


def _provide_template(space: Space, findings: Findings, *, dry_run: bool) -> None:
    """Download a template that is not stored on this machine, or only report it in a dry run."""
    option_text = f"--output-spaces {space}"
    if is_available(space.template):
        return
    if dry_run:
        findings.note(
            option_text,
            "the template is not stored on this machine and will be downloaded when processing"
            " starts.",
        )
        return
    with _open_templateflow(option_text, findings) as client:
        if client is not None:
            _download_template(space, option_text, client, findings)


def _refuse_resolution(
    space: Space, option_text: str, available_mm: dict[str, float], findings: Findings
) -> None:
    """Report a resolution that a template lacks; `available_mm` maps its resolutions to mm."""
    resolutions = ", ".join(
        f"res-{label} ({mm:g} mm)" if mm else f"res-{label}" for label, mm in available_mm.items()
    )
    fix = (
        f"Use {space.template.replace('+', ':cohort-')} without a resolution to keep the voxel"
        " size of the series, or choose one of the available resolutions."
    )
    findings.refuse_option(
        option_text,
        f"the resolution {space.resolution} is not available for this template (available:"
        f" {resolutions or 'no named resolution'})",
        fix,
    )


@contextlib.contextmanager
def _open_templateflow(option_text: str, findings: Findings) -> Iterator[Any]:
    """Provide the client of TemplateFlow while no other process downloads.

    The client is None, with a problem, if the TemplateFlow directory is not writable.
    """
    template_dir = templateflow_home()
    try:
        template_dir.mkdir(parents=True, exist_ok=True)
        # the directory itself is locked: the client would regard a directory with a lock file as
        # set up
        folder = os.open(template_dir, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client = importlib.import_module("templateflow.api")
    except OSError as error:
        reason = (
            "the template is not stored on this machine, and the TemplateFlow directory"
            f" {template_dir} is not writable ({error})"
        )
        findings.refuse_option(
            option_text,
            reason,
            "Set the environment variable TEMPLATEFLOW_HOME to a writable directory.",
        )
        yield None
        return
    try:
        yield client
    finally:
        os.close(folder)


def _download_template(space: Space, option_text: str, client: Any, findings: Findings) -> None:
    """Download a template's T1w image, brain mask, tissue maps and the requested grid.

    Tissue maps are only downloaded if the template has them.
    """
    for image, query in _list_queries(space, client):
        files = [Path(path) for path in client.ls(space.name, **query)]
        missing_files = [path for path in files if not path.is_file() or path.stat().st_size == 0]
        if not files and image in _IMAGES:
            image_name = "T1w image" if image is _IMAGES[0] else "brain mask"
            findings.refuse_option(option_text, *_describe_missing_image(image_name))
            return
        try:
            client.get(space.name, **query)
        # the client does not catch exceptions of its different download methods
        except Exception as error:
            for path in missing_files:
                _truncate(path)
            _refuse_download(missing_files or files, error, space.name, option_text, findings)
            return
    if template_file(space.template, "T1w.nii.gz") is None:
        findings.refuse_option(
            option_text,
            f"the T1w image of the template was not found in {templateflow_home()}",
            _OTHER_SPACE_FIX,
        )


def _list_queries(space: Space, client: Any) -> Iterator[tuple[_Image, dict[str, Any]]]:
    """Yield the images of a template to download, each with its query for the client."""
    template_labels = {
        str(label).lstrip("0"): label for label in client.get_resolutions(template=space.name)
    }
    finest: str | None = next(
        (label for label in _DOWNLOADED_RESOLUTIONS if label in template_labels), None
    )
    images = [(finest, image) for image in (*_IMAGES, *_TISSUES)]
    if space.resolution not in ("", finest):
        images.append((space.resolution, _IMAGES[0]))
    for resolution, image in images:
        query: dict[str, Any] = {**image, "atlas": None, "extension": ".nii.gz"}
        if space.cohort:
            query["cohort"] = space.cohort
        if resolution in template_labels:
            query["resolution"] = template_labels[resolution]
        yield image, query


def _truncate(path: Path) -> None:
    """Empty a partly written file, which would be regarded as complete.

    Symbolic links (DataLad) are left unchanged.
    """
    if path.is_file() and not path.is_symlink():
        path.write_bytes(b"")


def _refuse_download(
    files: Sequence[Path], error: Exception, template: str, option_text: str, findings: Findings
) -> None:
    """Report a template that could not be downloaded."""
    name = (
        files[0].relative_to(templateflow_home())
        if files[0].is_relative_to(templateflow_home())
        else files[0]
    )
    _LOGGER.debug("TemplateFlow could not provide %s: %s", name, error)
    findings.refuse_option(
        option_text,
        f"the template is not stored on this machine, and {name} could not be downloaded"
        f" ({type(error).__name__})",
        'Download the template on a machine with network access (`python -c "from templateflow'
        f" import api; api.get('{template}')\"`), copy its TemplateFlow directory to this machine"
        f" and set TEMPLATEFLOW_HOME (now {templateflow_home()}) to that directory."
        " Alternatively, use one of the templates available on this machine:"
        f" {', '.join(available_templates())}.",
    )
