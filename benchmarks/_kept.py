"""Files of a benchmark's work folder, whose being there means that something was done; written in
whole, and told apart by what they were made from."""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_sr.io.atomic_files import whole_file, write_whole

Facts = Mapping[str, Any]
MADE = "made from"


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_note(path: Path, content: Any) -> None:
    """JSON on one line, in whole or not at all."""
    write_whole(path, json.dumps(content) + "\n")


def read_note(path: Path) -> Any:
    """What `write_note` wrote."""
    return json.loads(path.read_text())


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """An npz file, in whole or not at all."""
    with whole_file(path) as part, part.open("wb") as stream:
        np.savez(stream, **arrays)


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What is in a note, or is made now and written down."""
    if not path.exists():
        write_note(path, make())
    return read_note(path)


def plain(facts: Facts) -> dict[str, Any]:
    """As JSON gives it back, so that lists and tuples are alike."""
    return dict(json.loads(json.dumps(facts)))


def refuse_others(path: Path, own: Facts) -> None:
    """Write down what the files beside a note are made from, or end where they were made from
    something else.
    """
    if path.exists() and read_note(path) != plain(own):
        sys.exit(
            f"{path.parent} holds files made from {json.dumps(read_note(path))}; give another"
            " --work"
        )
    write_note(path, plain(own))


def kept_rows(
    path: Path, own: Facts, make: Callable[[], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Rows that were made before from the same, or now; ends where they were made from something
    else.
    """
    found = kept(path, lambda: {MADE: own, "rows": make()})
    if not isinstance(found, dict) or found.get(MADE) != plain(own):
        sys.exit(
            f"{path} was made from something else than {json.dumps(own)}; give another --work"
        )
    return list(found["rows"])
