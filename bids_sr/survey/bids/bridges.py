"""Readers for code that adds notices to the context."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ParamSpec, TypeVar

from bids_sr.io.image_header import Header
from bids_sr.io.notices import Notice
from bids_sr.survey.bids import headers, inheritance
from bids_sr.survey.bids.findings import Findings, InputError, add_notices, current_findings

Value = TypeVar("Value")
Arguments = ParamSpec("Arguments")


def collect(
    function: Callable[Arguments, Value], *arguments: Arguments.args, **named: Arguments.kwargs
) -> tuple[Value, list[Notice]]:
    """Return the value of a function that adds notices to the context, and these notices."""
    with Findings() as findings:
        value = function(*arguments, **named)
    return value, [*findings.problems, *findings.notices]


def read_header(path: Path) -> Header | None:
    """Return a header, or None with a problem, and add notes about it."""
    try:
        header = headers.read_header(path)
    except InputError as error:
        add_notices(error.problems)
        return None
    known = current_findings().headers
    if path not in known:
        known[path] = header
        add_notices(headers.note_header(header))
    return header


def read_volume_header(path: Path) -> Header | None:
    """Return the header of a 3D image, or None with a problem."""
    if read_header(path) is None:
        return None
    try:
        return headers.read_volume_header(path)
    except InputError as error:
        add_notices(error.problems)
        return None


def read_metadata(image: Path, root: Path) -> Mapping[str, object] | None:
    """Return the metadata of an image, or None with a problem."""
    try:
        return inheritance.read_metadata(image, root)
    except InputError as error:
        add_notices(error.problems)
        return None
