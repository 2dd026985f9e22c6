"""Filter files in the format of fMRIPrep (``--bids-filter-file``)."""

import re
from pathlib import Path

from bids_sr.io.atomic_files import read_text
from bids_sr.io.json_values import parse_json
from bids_sr.survey.bids.layout import KINDS
from bids_sr.survey.notices import input_error

_SAFE_VALUE = re.compile(r"[0-9A-Za-z.+]+")
# value in a filter → member of pybids' ``Query``; null becomes NONE
_QUERIES = {
    "*": "ANY",
    "query.any": "ANY",
    "query.none": "NONE",
    "query.optional": "OPTIONAL",
}
_EXAMPLE = 'Use for example {"bold": {"echo": 2}, "t2starw": {"session": "01"}}.'
# image types in filter files of other programs that are not used here
_UNUSED_KINDS = ("fmap", "sbref", "roi", "dwi", "asl", "pet")


def read_filters(path: Path | None) -> dict[str, dict[str, object]]:
    """Read a filter file in the format of fMRIPrep.

    An example is ``{"bold": {"echo": 2}, "t2starw": {"session": "hires"}}``. Returns pybids
    queries by kind of image. Raises `InputError` if the file is missing, is not valid JSON,
    contains an unknown kind of image, or contains a value that could lead out of the data set.
    """
    if path is None:
        return {}
    filters: dict[str, dict[str, object]] = {}
    for kind, query in _read_queries(path).items():
        if kind in _UNUSED_KINDS:
            continue
        if kind not in KINDS:
            fix = f"Valid image types are {', '.join(KINDS)}. {_EXAMPLE}"
            raise input_error(path, f"{kind!r} is not an image type used by bids-sr", fix)
        filters[kind] = {entity: _convert_value(path, value) for entity, value in query.items()}
    return filters


def _read_queries(path: Path) -> dict[str, dict[str, object]]:
    """Return the queries in a filter file by kind of image, or raise `InputError`."""
    try:
        queries = parse_json(read_text(path))
    except OSError as error:
        raise input_error(
            path, f"the BIDS filter file cannot be read ({error.strerror})", "Check the path."
        ) from error
    except ValueError as error:
        raise input_error(
            path, f"the BIDS filter file is not valid JSON ({error})", "Correct the file."
        ) from error
    if not isinstance(queries, dict) or not all(
        isinstance(query, dict) for query in queries.values()
    ):
        raise input_error(
            path, "the filter file must be a JSON object with one query per image type", _EXAMPLE
        )
    return queries


def _convert_value(path: Path, value: object) -> object:
    """Return a filter value in the form that pybids expects."""
    if isinstance(value, list):
        return [_convert_value(path, item) for item in value]
    name = "NONE" if value is None else _QUERIES.get(str(value).lower())
    if name:
        from bids.layout import Query

        return Query[name]
    if isinstance(value, str) and (not _SAFE_VALUE.fullmatch(value) or ".." in value):
        raise input_error(
            path,
            f"{value!r} is not a valid BIDS label",
            "BIDS labels consist of letters and digits; file paths are not allowed.",
        )
    return value
