"""Checks of ``--output-spaces``, with download of missing templates.

Templates on this machine are found quickly. For other templates, niworkflows checks whether the
space exists, and the client of TemplateFlow downloads the images. Importing both takes seconds and
fills the TemplateFlow directory with empty files, so they are only imported if a template is
missing.
"""

import contextlib
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
from bids_sr.config.spaces import FUNC, Space
from bids_sr.io.installed_files import templateflow_home
from bids_sr.io.template_cache import (
    available_templates,
    cached_file,
    is_available,
    load_grid,
    read_resolutions,
)

_LOGGER = logging.getLogger(__name__)
_IMAGES: tuple[dict[str, object], ...] = (
    {"suffix": "T1w", "desc": None},
    {"suffix": "mask", "desc": "brain"},
)
_TISSUES: tuple[dict[str, object], ...] = tuple(
    {"suffix": "probseg", "label": tissue} for tissue in ("GM", "WM")
)
_OTHER_SPACE = "Choose another output space, or omit this space."


def check_spaces(
    settings: Settings, findings: Findings, *, labels: Sequence[str], without_anat: Sequence[str]
) -> None:
    """Reject unavailable output spaces, and download templates unless the call is a dry run.

    `labels` lists the participants, `without_anat` the participants without T1w image.
    """
    spaces = [space for space in settings.preprocessing.spaces if space.name != FUNC]
    if spaces and labels and set(labels) <= set(without_anat):
        reason = "all output spaces except func require a T1w image, but no participant has one"
        findings.refuse_option("--output-spaces", reason, "Omit the option, or add a T1w image.")
        return
    for label in without_anat if spaces else ():
        text = (
            "no T1w image was found, so results cannot be transformed to"
            f" {', '.join(map(str, spaces))} and remain in the native space of the run."
        )
        with findings.about(label):
            findings.note(f"sub-{label}", text)
    for space in (space for space in spaces if space.is_template):
        _check_template(space, findings, dry=settings.run.dry_run)


def _check_template(space: Space, findings: Findings, *, dry: bool) -> None:
    """Reject a template or resolution that is neither stored locally nor available."""
    where = f"--output-spaces {space}"
    if not is_available(space.template):
        with _templateflow(where, findings) as client:
            if (
                client is not None
                and _is_known(space, where, findings)
                and _has_resolution(space, where, client, findings)
            ):
                if dry:
                    findings.note(
                        where,
                        "the template is not stored on this machine and will be downloaded when"
                        " processing starts.",
                    )
                else:
                    _fetch(space, where, client, findings)
        return
    if space.resolution and load_grid(space.template, space.resolution) is None:
        _refuse_resolution(space, where, read_resolutions(space.template), findings)


def _refuse_resolution(
    space: Space, where: str, available: dict[str, float], findings: Findings
) -> None:
    """Report a resolution that the template does not have; `available` maps resolutions to mm."""
    names = ", ".join(
        f"res-{label}" + (f" ({mm:g} mm)" if mm else "") for label, mm in available.items()
    )
    fix = (
        f"Use {space.template.replace('+', ':cohort-')} without a resolution to keep the voxel"
        " size of the series, or choose one of the available resolutions."
    )
    findings.refuse_option(
        where,
        f"the resolution {space.resolution} is not available for this template (available:"
        f" {names or 'no named resolution'})",
        fix,
    )


def _is_known(space: Space, where: str, findings: Findings) -> bool:
    """Return whether niworkflows has the space and its cohort; report a problem otherwise."""
    from niworkflows.utils.spaces import SpatialReferences

    spec = {"cohort": space.cohort} if space.cohort else {}
    try:
        SpatialReferences([(space.name, spec)])
    except ValueError as error:
        _LOGGER.debug("%s: %s", where, error)
        reason = (
            "TemplateFlow does not provide a template with this name and cohort"
            if space.cohort
            else "TemplateFlow does not provide this template, or the template requires a cohort"
        )
        findings.refuse_option(
            where,
            reason,
            f"Templates available on this machine: {', '.join(available_templates())}.",
        )
        return False
    return True


def _has_resolution(space: Space, where: str, client: Any, findings: Findings) -> bool:
    """Return whether the template has the requested resolution, and report a problem if not."""
    cohort = {"cohort": space.cohort} if space.cohort else {}
    labels = {
        str(label).lstrip("0") for label in client.get_resolutions(template=space.name, **cohort)
    }
    if space.resolution and space.resolution not in labels:
        sizes = read_resolutions(space.template)
        _refuse_resolution(
            space, where, {label: sizes.get(label, 0.0) for label in sorted(labels)}, findings
        )
        return False
    return True


@contextlib.contextmanager
def _templateflow(where: str, findings: Findings) -> Iterator[Any]:
    """Provide the client of TemplateFlow while no other process downloads.

    The client is None, with a problem, if the TemplateFlow directory is not writable.
    """
    home = templateflow_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        # the directory itself is locked: the client would regard a directory with a lock file as
        # set up
        folder = os.open(home, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client = importlib.import_module("templateflow.api")
    except OSError as error:
        reason = (
            f"the template is not stored on this machine, and the TemplateFlow directory {home}"
            f" is not writable ({error})"
        )
        findings.refuse_option(
            where,
            reason,
            "Set the environment variable TEMPLATEFLOW_HOME to a writable directory.",
        )
        yield None
        return
    try:
        yield client
    finally:
        os.close(folder)


def _fetch(space: Space, where: str, client: Any, findings: Findings) -> None:
    """Download a template's T1w image, brain mask, tissue maps and the requested grid.

    Tissue maps are only downloaded if the template has them.
    """
    labels = {
        str(label).lstrip("0"): label for label in client.get_resolutions(template=space.name)
    }
    finest: str | None = next((label for label in ("1", "2") if label in labels), None)
    images = [(finest, image) for image in (*_IMAGES, *_TISSUES)]
    images += [
        (space.resolution, image) for image in _IMAGES[:1] if space.resolution not in ("", finest)
    ]
    for resolution, image in images:
        query: dict[str, Any] = {**image, "atlas": None, "extension": ".nii.gz"}
        query |= {"cohort": space.cohort} if space.cohort else {}
        query |= {"resolution": labels[resolution]} if resolution in labels else {}
        files = [Path(path) for path in client.ls(space.name, **query)]
        missing = [path for path in files if not path.is_file() or path.stat().st_size == 0]
        if not files and image in _IMAGES:
            image_name = "T1w image" if image is _IMAGES[0] else "brain mask"
            findings.refuse_option(
                where,
                f"the template does not include a {image_name}, which is required for"
                " registration",
                _OTHER_SPACE,
            )
            return
        try:
            client.get(space.name, **query)
        # the client does not catch exceptions of its different download methods
        except Exception as error:
            for path in missing:
                _empty(path)
            _refuse_fetch(missing or files, error, space.name, where, findings)
            return
    if cached_file(space.template, "T1w.nii.gz") is None:
        findings.refuse_option(
            where,
            f"the T1w image of the template was not found in {templateflow_home()}",
            _OTHER_SPACE,
        )


def _empty(path: Path) -> None:
    """Empty a partly written file, which would be regarded as complete.

    Symbolic links (DataLad) are left unchanged.
    """
    if path.is_file() and not path.is_symlink():
        path.write_bytes(b"")


def _refuse_fetch(
    files: Sequence[Path], error: Exception, template: str, where: str, findings: Findings
) -> None:
    """Report a template that could not be downloaded."""
    name = (
        files[0].relative_to(templateflow_home())
        if files[0].is_relative_to(templateflow_home())
        else files[0]
    )
    _LOGGER.debug("TemplateFlow could not provide %s: %s", name, error)
    findings.refuse_option(
        where,
        f"the template is not stored on this machine, and {name} could not be downloaded"
        f" ({type(error).__name__})",
        'Download the template on a machine with network access (`python -c "from templateflow'
        f" import api; api.get('{template}')\"`), copy its TemplateFlow directory to this machine"
        f" and set TEMPLATEFLOW_HOME (now {templateflow_home()}) to that directory."
        " Alternatively, use one of the templates available on this machine:"
        f" {', '.join(available_templates())}.",
    )
