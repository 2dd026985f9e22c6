"""Check of the spaces of ``--output-spaces``, fetching templates that are not local.

What this machine has is looked up in a moment. For any other template niworkflows says whether
there is such a space, and TemplateFlow's own client brings the images: both take seconds to
import, and their first import lays out TemplateFlow's folder with empty files, so that neither is
imported for what is here.
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
from bids_sr.io.dataset_description import templateflow_home
from bids_sr.io.template_cache import (
    cached,
    described_resolutions,
    grid_of,
    is_here,
    templates_here,
)

_LOGGER = logging.getLogger(__name__)
_IMAGES: tuple[dict[str, object], ...] = (
    {"suffix": "T1w", "desc": None},
    {"suffix": "mask", "desc": "brain"},
)
_TISSUES: tuple[dict[str, object], ...] = tuple(
    {"suffix": "probseg", "label": tissue} for tissue in ("GM", "WM")
)
_OTHER_SPACE = "Choose another space, or leave it out."


def check_spaces(
    settings: Settings, found: Findings, *, labels: Sequence[str], without_anat: Sequence[str]
) -> None:
    """Refuse spaces that results cannot be had in; fetch templates, except for a dry run."""
    spaces = [space for space in settings.preprocessing.spaces if space.name != FUNC]
    if spaces and labels and set(labels) <= set(without_anat):
        reason = "no participant has a T1w image, which the way to any other space leads through"
        found.refuse_option("--output-spaces", reason, "Leave the option out, or add a T1w image.")
        return
    for label in without_anat if spaces else ():
        text = (
            f"without a T1w image there is no way to {', '.join(map(str, spaces))}; results stay"
            " in the run's space."
        )
        with found.about(label):
            found.tell(f"sub-{label}", text)
    for space in (space for space in spaces if space.is_template):
        _check_template(space, found, dry=settings.run.dry_run)


def _check_template(space: Space, found: Findings, *, dry: bool) -> None:
    """Refuse a template or resolution that is neither stored locally nor available."""
    where = f"--output-spaces {space}"
    if not is_here(space.template):
        with _templateflow(where, found) as client:
            if (
                client is not None
                and _is_known(space, where, found)
                and _has_resolution(space, where, client, found)
            ):
                if dry:
                    found.tell(
                        where,
                        "the template is not on this machine; it is downloaded when the run"
                        " begins.",
                    )
                else:
                    _fetch(space, where, client, found)
        return
    if space.resolution and grid_of(space.template, space.resolution) is None:
        _refuse_resolution(space, where, described_resolutions(space.template), found)


def _refuse_resolution(space: Space, where: str, known: dict[str, float], found: Findings) -> None:
    listed = ", ".join(
        f"res-{label}" + (f" ({mm:g} mm)" if mm else "") for label, mm in known.items()
    )
    fix = (
        f"Give {space.template.replace('+', ':cohort-')} alone, which has the voxels of the"
        " series, or one of its own."
    )
    found.refuse_option(
        where,
        f"the template has no resolution {space.resolution}; it has"
        f" {listed or 'none with a name'}",
        fix,
    )


def _is_known(space: Space, where: str, found: Findings) -> bool:
    """Return whether niworkflows knows a space, and its cohort is given only if required."""
    from niworkflows.utils.spaces import SpatialReferences

    spec = {"cohort": space.cohort} if space.cohort else {}
    try:
        SpatialReferences([(space.name, spec)])
    except ValueError as error:
        _LOGGER.debug("%s: %s", where, error)
        reason = (
            "TemplateFlow has no template of that name, or none with"
            + (" " if space.cohort else "out ")
            + "a cohort"
        )
        found.refuse_option(
            where, reason, f"Templates on this machine: {', '.join(templates_here())}."
        )
        return False
    return True


def _has_resolution(space: Space, where: str, client: Any, found: Findings) -> bool:
    own = {"cohort": space.cohort} if space.cohort else {}
    labels = {
        str(label).lstrip("0") for label in client.get_resolutions(template=space.name, **own)
    }
    if space.resolution and space.resolution not in labels:
        sizes = described_resolutions(space.template)
        _refuse_resolution(
            space, where, {label: sizes.get(label, 0.0) for label in sorted(labels)}, found
        )
        return False
    return True


@contextlib.contextmanager
def _templateflow(where: str, found: Findings) -> Iterator[Any]:
    """Return TemplateFlow's client while no other process fetches.

    The client is None, with a problem, where its folder cannot be used.
    """
    home = templateflow_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        # no file of ours: the client takes a folder with a file for laid out
        folder = os.open(home, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client = importlib.import_module("templateflow.api")
    except OSError as error:
        reason = (
            f"the template is not on this machine, and the folder of TemplateFlow {home} cannot be"
            f" written ({error})"
        )
        found.refuse_option(
            where, reason, "Name a folder that can be written in the variable TEMPLATEFLOW_HOME."
        )
        yield None
        return
    try:
        yield client
    finally:
        os.close(folder)


def _fetch(space: Space, where: str, client: Any, found: Findings) -> None:
    """Fetch a template's T1w image, brain mask, tissue maps and the requested grid.

    Tissue maps are fetched only where the template has them.
    """
    labels = {
        str(label).lstrip("0"): label for label in client.get_resolutions(template=space.name)
    }
    finest: str | None = next((label for label in ("1", "2") if label in labels), None)
    wanted = [(finest, image) for image in (*_IMAGES, *_TISSUES)]
    wanted += [
        (space.resolution, image) for image in _IMAGES[:1] if space.resolution not in ("", finest)
    ]
    for resolution, image in wanted:
        own: dict[str, Any] = {**image, "atlas": None, "extension": ".nii.gz"}
        own |= {"cohort": space.cohort} if space.cohort else {}
        own |= {"resolution": labels[resolution]} if resolution in labels else {}
        files = [Path(path) for path in client.ls(space.name, **own)]
        missing = [path for path in files if not path.is_file() or path.stat().st_size == 0]
        if not files and image in _IMAGES:
            what = "T1w image" if image is _IMAGES[0] else "brain mask"
            found.refuse_option(
                where, f"the template has no {what}, which registration needs", _OTHER_SPACE
            )
            return
        try:
            client.get(space.name, **own)
        # the client lets through what its several ways of fetching raise
        except Exception as error:
            for path in missing:
                _empty(path)
            _refuse_fetch(missing or files, error, space.name, where, found)
            return
    if cached(space.template, "T1w.nii.gz") is None:
        found.refuse_option(
            where,
            f"the T1w image of the template is not where it belongs in {templateflow_home()}",
            _OTHER_SPACE,
        )


def _empty(path: Path) -> None:
    """Empty a partly written file, which would be taken for a complete one.

    A DataLad link does not count as a file of its own.
    """
    if path.is_file() and not path.is_symlink():
        path.write_bytes(b"")


def _refuse_fetch(
    files: Sequence[Path], error: Exception, template: str, where: str, found: Findings
) -> None:
    name = (
        files[0].relative_to(templateflow_home())
        if files[0].is_relative_to(templateflow_home())
        else files[0]
    )
    _LOGGER.debug("TemplateFlow could not give %s: %s", name, error)
    found.refuse_option(
        where,
        f"the template is not on this machine, and {name} could not be downloaded"
        f" ({type(error).__name__})",
        'Run this once on a machine with network (`python -c "from templateflow import api; '
        f"api.get('{template}')\"`), copy its folder of TemplateFlow here and name it in the "
        f"variable TEMPLATEFLOW_HOME (now {templateflow_home()}); or use"
        f" {', '.join(templates_here())}.",
    )
