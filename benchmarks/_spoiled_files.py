"""Damage small data sets at random: headers, JSON, tables, names, sizes, paths; one function per
kind.

Every function of `KINDS` takes a random generator and the maker of a valid data set, damages one
thing in it, and returns command-line options.
"""

from __future__ import annotations

import gzip
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from data.dataset import BidsMaker

Rng = np.random.Generator
Kind = Callable[[Rng, BidsMaker], "list[str] | None"]
KINDS: dict[str, Kind] = {}
NUMBERS = (
    0.0,
    -1.0,
    1.0,
    2.0,
    1e-30,
    1e30,
    3e38,
    -1e30,
    float("nan"),
    float("inf"),
    float("-inf"),
)
HOSTILE = (
    "../../../etc/passwd",
    "..",
    "<script>alert(1)</script>",
    "a/b",
    "",
    " ",
    "a b",
    "ä½",
    "\u202e",
    "x" * 5000,
    "rest",
    "n/a",
    "all",
    "constant",
    "drift_1",
    "a+b",
    "a-b",
    "=x",
    "1e3",
    "$(touch x)",
    "'; DROP",
    "{subject}",
    "%s",
    "\\frac",
    "nan",
    "__class__",
    "\x00",
    "None",
    "&amp;",
    "trans_x",
    "-",
    "thumbMinusLittle",
)
_FIELDS = {  # name: offset, format, count
    "sizeof_hdr": (0, "i", 1),
    "dim_info": (39, "B", 1),
    "dim": (40, "h", 8),
    "datatype": (70, "h", 1),
    "bitpix": (72, "h", 1),
    "pixdim": (76, "f", 8),
    "vox_offset": (108, "f", 1),
    "scl": (112, "f", 2),
    "xyzt_units": (123, "B", 1),
    "cal": (124, "f", 4),
    "codes": (252, "h", 2),
    "quatern": (256, "f", 6),
    "srow": (280, "f", 12),
    "magic": (344, "B", 4),
    "extension": (348, "B", 4),
}


def kind(function: Kind) -> Kind:
    """Enter a function in `KINDS`."""
    KINDS[function.__name__] = function
    return function


def pick(rng: Rng, values: Any) -> Any:
    """Return one of some values unchanged (numpy would change its type)."""
    values = list(values)
    return values[int(rng.integers(len(values)))]


def images(maker: BidsMaker) -> list[Path]:
    return sorted(maker.root.rglob("*.nii.gz"))


def _image(rng: Rng, maker: BidsMaker) -> Path:
    bolds = sorted(maker.root.rglob("*_bold.nii.gz"))
    return Path(pick(rng, bolds if rng.random() < 0.5 else images(maker)))


def edit(path: Path, change: Callable[[bytearray], bytes | bytearray | None]) -> None:
    """Change the bytes of a compressed image."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    changed = change(content)
    path.write_bytes(gzip.compress(bytes(content if changed is None else changed), 1))


@kind
def no_orientation(rng: Rng, maker: BidsMaker) -> None:
    """Unset qform and sform: left and right are unknown."""
    edit(_image(rng, maker), lambda content: content.__setitem__(slice(252, 256), bytes(4)))
    maker.expected = "skipped"


@kind
def forms_apart(rng: Rng, maker: BidsMaker) -> None:
    """Let qform and sform disagree, by little or much."""

    def change(content: bytearray) -> None:
        content[252:256] = struct.pack("<2h", 1, 1)
        content[268:280] = struct.pack("<3f", *rng.uniform(-60, 60, 3))

    edit(_image(rng, maker), change)
    maker.expected = "qform|skipped"


@kind
def no_events(rng: Rng, maker: BidsMaker) -> list[str]:
    """Remove the events, with seeds that may be invalid."""
    for path in maker.root.rglob("*_events.tsv"):
        path.unlink()
    return [
        [],
        ["--set", "activation.seeds=components"],
        ["--set", f"activation.seeds={pick(rng, HOSTILE)}"],
        ["--set", "activation.seeds=a=1,2,3"],
    ][int(rng.integers(4))]


@kind
def several_echoes(rng: Rng, maker: BidsMaker) -> list[str]:
    """Write echoes, with and without times, and select one that may not exist."""
    for name in ("sub-01_task-tap_bold.nii.gz", "sub-01_task-tap_bold.json"):
        maker.path(name, "func").unlink(missing_ok=True)
    for echo in range(1, int(rng.integers(2, 5))):
        te = pick(rng, (0.01 * echo, 0.02, 10.0 * echo, None, "n/a", float("nan")))
        maker.bold(f"sub-01_task-tap_echo-{echo}", sidecar={"EchoTime": te})
    return ["--echo-idx", str(rng.integers(1, 5))] if rng.random() < 0.3 else []


@kind
def header_field(rng: Rng, maker: BidsMaker) -> None:
    name = pick(rng, _FIELDS)
    offset, form, count = _FIELDS[name]
    size = struct.calcsize(form)

    def change(content: bytearray) -> None:
        for _ in range(int(rng.integers(1, 4))):
            at = offset + size * int(rng.integers(count))
            if form == "f":
                value: Any = pick(rng, NUMBERS)
            elif form == "h":
                value = pick(
                    rng,
                    (
                        -1,
                        0,
                        1,
                        2,
                        3,
                        4,
                        5,
                        7,
                        8,
                        16,
                        32,
                        64,
                        128,
                        256,
                        512,
                        768,
                        1536,
                        2048,
                        2304,
                        32767,
                    ),
                )
            elif form == "B":
                value = int(rng.integers(256))
            else:
                value = pick(rng, (0, 347, 348, 540, -1, 2**31 - 1))
            struct.pack_into("<" + form, content, at, value)

    edit(_image(rng, maker), change)


@kind
def header_bytes(rng: Rng, maker: BidsMaker) -> None:
    def change(content: bytearray) -> None:
        for _ in range(int(rng.integers(1, 30))):
            content[int(rng.integers(352))] = int(rng.integers(256))

    edit(_image(rng, maker), change)


@kind
def header_swapped(rng: Rng, maker: BidsMaker) -> None:
    edit(_image(rng, maker), lambda content: content[:348][::-1] + content[348:])


@kind
def dims_claimed(rng: Rng, maker: BidsMaker) -> None:
    """Change the dimensions in the header: up to petabytes, or another number of axes."""
    dims = pick(rng, (
        [4, 32767, 32767, 32767, 32767], [4, 2000, 2000, 500, 100], [5, 8, 8, 6, 30, 2],
        [3, 8, 8, 6], [2, 8, 8],
        [7, 8, 8, 6, 1, 1, 1, 30], [4, 8, 8, 6, 1], [4, 1, 1, 1, 30], [4, 8, 8, 6, 31],
    ))  # fmt: skip

    def change(content: bytearray) -> None:
        struct.pack_into("<8h", content, 40, *dims, *[1] * (8 - len(dims)))

    edit(_image(rng, maker), change)


@kind
def content_cut(rng: Rng, maker: BidsMaker) -> None:
    path = _image(rng, maker)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(rng.integers(len(raw)))])


@kind
def content_other(rng: Rng, maker: BidsMaker) -> None:
    path = _image(rng, maker)
    raw = path.read_bytes()
    plain = gzip.decompress(raw)
    noise = rng.bytes(2000)
    path.write_bytes(
        pick(
            rng,
            (
                b"",
                b"\x1f\x8b",
                plain,
                raw + noise,
                raw + raw,
                gzip.compress(noise),
                gzip.compress(b""),
                raw[:20] + noise,
                gzip.compress(plain[:352]),
                gzip.compress(plain[:340]),
                b"\0" * 400,
                b"#!/bin/sh\n",
                gzip.compress(raw),
            ),
        )
    )


@kind
def voxels(rng: Rng, maker: BidsMaker) -> None:
    value = pick(rng, (0, 1, -32768, "nan", "inf"))
    path = _image(rng, maker)
    bold = "_bold" in path.name
    if isinstance(value, str):
        shape = (8, 8, 6, 30) if bold else (8, 8, 6)
        data = rng.normal(100, 10, shape).astype(np.float32)
        data[tuple(int(rng.integers(n)) for n in shape)] = float(value)
        zooms = (6.0, 6.0, 4.0)
        maker.image(path.name, path.parent.name, zooms, n_volumes=30 if bold else None, data=data)
    else:
        edit(
            path,
            lambda content: content[:352] + struct.pack("<h", value) * ((len(content) - 352) // 2),
        )


@kind
def place(rng: Rng, maker: BidsMaker) -> None:
    """Replace a file by something else, which the program must not wait for or read endlessly."""
    path = Path(pick(rng, sorted(p for p in maker.root.rglob("*") if p.is_file())))
    path.unlink()
    variant = pick(
        rng, ("directory", "broken", "loop", "fifo", "zero", "null", "gone", "locked", "up")
    )
    if variant == "directory":
        path.mkdir()
    elif variant == "fifo":
        os.mkfifo(path)
    elif variant == "locked":
        path.write_text("{}")
        path.chmod(0)
    elif variant != "gone":
        target = {
            "broken": "nowhere",
            "loop": path.name,
            "zero": "/dev/zero",
            "null": "/dev/null",
            "up": "../..",
        }[variant]
        path.symlink_to(target)


def _sidecar(rng: Rng, maker: BidsMaker) -> Path:
    run_sidecar = maker.path("sub-01_task-tap_bold.json", "func")
    other_files = [
        maker.root / "dataset_description.json",
        maker.root / "task-tap_bold.json",
        maker.path("sub-01_task-tap_events.json", "func"),
        maker.root / "task-tap_events.json",
        maker.path("sub-01_acq-highres_T2starw.json", "anat"),
    ]
    return run_sidecar if rng.random() < 0.6 else Path(pick(rng, other_files))


@kind
def json_text(rng: Rng, maker: BidsMaker) -> None:
    good = json.dumps(
        {
            "TaskName": "tä",
            "RepetitionTime": 1.0,
            "Name": "x",
            "trial_type": {"Levels": {"a": "b"}},
        }
    )
    deep = 100_000
    _sidecar(rng, maker).write_bytes(
        pick(
            rng,
            (
                b"",
                b"[]",
                b"null",
                b"3",
                b'"x"',
                b"{",
                good[: len(good) // 2].encode(),
                good.encode("latin-1"),
                good.encode("utf-16"),
                b"\xef\xbb\xbf" + good.encode(),
                good.encode() + b"}",
                b"\0" * 100,
                rng.bytes(200),
                b'{"a":' * deep + b"1" + b"}" * deep,
                b"[" * deep,
                b'{"RepetitionTime": ' + b"9" * 5000 + b"}",
                b'{"RepetitionTime": ' + b"9" * 400 + b"}",
                b'{"Name": "' + b"x" * 5_000_000 + b'"}',
                b'{"RepetitionTime": 1, "RepetitionTime": 2}',
                b"{'a': 1}",
                b'{"a": NaN, "RepetitionTime": 1.0}',
            ),
        )
    )


@kind
def json_value(rng: Rng, maker: BidsMaker) -> None:
    path = _sidecar(rng, maker)
    content = json.loads(path.read_text()) if path.exists() else {}
    keys = (
        "RepetitionTime",
        "SliceTiming",
        "SliceEncodingDirection",
        "TaskName",
        "EchoTime",
        "Name",
        "IntendedFor",
        "trial_type",
        "PhaseEncodingDirection",
        "NumberOfVolumesDiscardedByScanner",
        "task",
        "subject",
        "run",
        "Sources",
        "BIDSVersion",
        "DatasetType",
    )
    content[pick(rng, keys)] = json_thing(rng)
    path.write_text(json.dumps(content))


def json_thing(rng: Rng) -> Any:
    """Return a value of any type, small or huge."""
    return pick(
        rng,
        (
            None,
            True,
            False,
            0,
            -1,
            1e-300,
            1e300,
            float("nan"),
            float("inf"),
            10**400,
            -(10**400),
            "",
            "1.0",
            [],
            {},
            [[]],
            [None],
            [True] * 6,
            [1e300] * 6,
            [10**400] * 6,
            [float("nan")] * 6,
            [0.1, "x"],
            ["../../x"] * 6,
            {"Levels": []},
            {"Levels": {"<b>": 1}},
            {"Levels": 3},
            {"Levels": {"": None}},
            {"a": {"b": [1]}},
            [0.0, 0.1, 0.2, 0.3, 0.4, 0.5],
            [-0.1] * 6,
            "i",
            "k-",
            "z",
            2.0,
            99.0,
            0.001,
            *HOSTILE,
        ),
    )


@kind
def json_many(rng: Rng, maker: BidsMaker) -> None:
    for _ in range(4):
        json_value(rng, maker)
