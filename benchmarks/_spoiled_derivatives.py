"""Damage derivatives, and imitate oddities of public data sets; see `_spoiled_files`.

`maker.expected` is a regular expression for a message that the program has to print: without it,
the case was accepted silently. `maker.accepted` is set if an error is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
from _spoiled_files import HOSTILE, Kind, Rng, kind, pick
from _spoiled_tables import ALL as EARLIER
from data.dataset import EVENTS, BidsMaker
from data.fmriprep import FmriprepMaker, prepared

TEXT = (".tsv", ".json", ".txt")


def _folder(maker: BidsMaker, rng: Rng) -> tuple[FmriprepMaker, list[str]]:
    """Write valid derivatives of any fMRIPrep version, and return them with their option."""
    inside = np.zeros((8, 8, 6), bool)
    inside[1:-1, 1:-1, 1:-1] = True
    prep = prepared(
        maker,
        version=pick(rng, ("20.0.6", "20.2.7", "22.1.1", "23.2.3", "24.1.1", "25.0.0")),
        mask=inside,
    )
    return prep, ["-d", f"fmriprep={prep.root}"]


def _files(prep: FmriprepMaker, ending: str) -> list[Path]:
    return sorted(path for path in prep.root.rglob("*") if path.name.endswith(ending))


def _relabel(root: Path) -> None:
    for path in sorted(root.rglob("*sub-01*"), key=lambda item: -len(item.parts)):
        path.rename(path.with_name(path.name.replace("sub-01", "sub-02")))


@kind
def wrong_derivatives(rng: Rng, maker: BidsMaker) -> list[str]:
    """Use ``-d fmriprep`` with the folder of another participant, data set or program, or without
    content.
    """
    prep, option = _folder(maker, rng)
    variant = pick(
        rng,
        ("participant", "raw", "program", "nobody", "nothing", "file", "parent", "data", "length"),
    )
    maker.expected = r"sub-01 was not found in|skipped"
    if variant == "participant":
        _relabel(prep.root)
    elif variant == "raw":  # the data set itself is not a derivative
        option = ["-d", f"fmriprep={maker.root}"]
        maker.expected = r"skipped|derivative|not by fMRIPrep"
    elif variant in ("program", "nobody"):
        generators = (
            [{"Name": pick(rng, ("FreeSurfer", "QSIPrep", "SPM", "", "bids-sr"))}]
            if variant == "program"
            else []
        )
        maker.json(
            prep.root / "dataset_description.json",
            {"Name": "x", "BIDSVersion": "1.4.0", "GeneratedBy": generators},
        )
        maker.expected = r"skipped|fMRIPrep"
    elif variant == "nothing":
        option = ["-d", f"fmriprep={prep.root.parent / 'empty'}"]
        (prep.root.parent / "empty").mkdir()
    elif variant == "file":
        option = ["-d", f"fmriprep={prep.root / 'dataset_description.json'}"]
    elif variant == "parent":
        option = ["-d", f"fmriprep={prep.root / 'sub-01'}"]
    elif variant == "data":  # same labels, another head and grid
        foreign = BidsMaker(maker.root.parent / "other")
        foreign.bold(zooms=(4.0, 4.0, 4.0))
        foreign.t1w(zooms=(4.0, 4.0, 4.0))
        foreign.events()
        prepared(foreign, mask=np.arange(12 * 12 * 6).reshape(12, 12, 6) % 2 == 0)
        maker.expected = r"skipped|grid|voxels"
    else:  # same labels and grid, a run of another length
        foreign = BidsMaker(maker.root.parent / "other")
        foreign.bold(n_volumes=int(rng.integers(20, 29)))
        foreign.t1w()
        prepared(foreign)
        maker.expected = r"skipped|volumes|rows"
    return option


@kind
def derivatives_off_grid(rng: Rng, maker: BidsMaker) -> list[str]:
    """Put a brain mask on another grid than its run."""
    prep, option = _folder(maker, rng)
    path = pick(rng, [p for p in _files(prep, "desc-brain_mask.nii.gz") if "space-" not in p.name])
    image = nb.load(path)
    data, affine = np.asarray(image.dataobj), image.affine.copy()
    variant = pick(rng, ("shift", "shape", "zoom", "turn"))
    if variant == "shift":
        affine[:3, 3] += rng.choice([-1, 1], 3) * rng.uniform(5, 60, 3)
    elif variant == "shape":
        data = data[: -int(rng.integers(1, 4))]
    elif variant == "zoom":
        affine[:3, :3] *= rng.uniform(1.2, 3)
    else:
        affine[:3, :3] = affine[:3, :3] @ np.diag([-1.0, 1.0, 1.0])
    nb.Nifti1Image(data, affine).to_filename(path)
    maker.expected = r"skipped|grid"
    return option


@kind
def impossible_mask(rng: Rng, maker: BidsMaker) -> list[str]:
    """Write a brain mask that is empty, one voxel, or the whole field of view."""
    prep, option = _folder(maker, rng)
    path = pick(rng, [p for p in _files(prep, "desc-brain_mask.nii.gz") if "space-" not in p.name])
    image = nb.load(path)
    data = np.zeros(image.shape, np.uint8)
    variant = pick(rng, ("empty", "all", "one"))
    if variant == "all":
        data[:] = 1
    elif variant == "one":
        data[tuple(int(rng.integers(n)) for n in data.shape)] = 1
    nb.Nifti1Image(data, image.affine).to_filename(path)
    maker.expected = r"skipped|mask"
    return option


@kind
def derivatives_spoiled(rng: Rng, maker: BidsMaker) -> list[str]:
    """Remove or truncate one file, or replace it by a dangling link or noise."""
    prep, option = _folder(maker, rng)
    path = pick(rng, [p for p in prep.root.rglob("*") if p.is_file()])
    variant = pick(rng, ("gone", "cut", "link", "noise", "empty", "directory"))
    raw = path.read_bytes()
    path.unlink()
    if variant == "link":
        path.symlink_to(
            f"../../../.git/annex/objects/Xx/Yy/MD5E-s{len(raw)}--0/MD5E-s{len(raw)}--0"
        )
    elif variant == "directory":
        path.mkdir()
    elif variant != "gone":
        path.write_bytes(
            {"cut": raw[: len(raw) // 2], "noise": rng.bytes(300), "empty": b""}[variant]
        )
    return option


@kind
def derivatives_text(rng: Rng, maker: BidsMaker) -> list[str]:
    """Rewrite a text file with a byte order mark, other line ends, or other numbers."""
    prep, option = _folder(maker, rng)
    path = pick(rng, [p for end in TEXT for p in _files(prep, end)])
    raw = path.read_bytes()
    path.write_bytes(
        pick(
            rng,
            (
                b"\xef\xbb\xbf" + raw,
                raw.replace(b"\n", b"\r\n"),
                raw.replace(b"\n", b"\r"),
                raw.decode().encode("utf-16"),
                raw.replace(b".", b","),
                raw.replace(b"0.", b"nan"),
                raw.replace(b"\t", b" "),
                raw + raw,
                raw.upper(),
            ),
        )
    )
    return option


@kind
def retrospective_small(rng: Rng, maker: BidsMaker) -> list[str]:
    """Use ``--retrospective`` on a run that is too small to be downsampled."""
    zooms = tuple(float(pick(rng, (3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 48.0))) for _ in range(2))
    maker.bold(
        zooms=(*zooms, float(pick(rng, (2.0, 4.0, 12.0, 24.0)))),
        n_volumes=int(pick(rng, (2, 5, 12, 20, 30))),
    )
    if rng.random() < 0.5:
        for path in maker.root.rglob("*T2starw*"):
            path.unlink()
    if rng.random() < 0.3:
        maker.path("sub-01_task-tap_events.tsv", "func").unlink()
    return [
        "--retrospective",
        *pick(rng, ([], ["noisy"], ["clean"], ["--sr-method", "sbl"], ["--sr-factor", "4"])),
    ]


@kind
def axis_orders(rng: Rng, maker: BidsMaker) -> list[str]:
    """Reorder and flip the axes of every image; some are oblique."""
    for path in sorted(maker.root.rglob("*.nii.gz")):
        image = nb.load(path)
        order = nb.orientations.io_orientation(image.affine)
        order[:, 0], order[:, 1] = rng.permutation(3), rng.choice([-1, 1], 3)
        turned = image.as_reoriented(order)
        affine = turned.affine.copy()
        if rng.random() < 0.2:
            turn = np.eye(4)
            a = rng.uniform(-0.7, 0.7)
            turn[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
            affine = turn @ affine
        reoriented = nb.Nifti1Image(np.asarray(turned.dataobj), affine, turned.header)
        reoriented.to_filename(path)
    return [[], ["--retrospective"], ["--sr-method", "all"]][int(rng.integers(3))]


def _lines(rows: Any, header: str = "onset\tduration\ttrial_type") -> str:
    return "\n".join([header, *("\t".join(map(str, row)) for row in rows)]) + "\n"


def _foreign_events(rng: Rng) -> tuple[str, str]:
    """Return an events table with an oddity of public data sets, and the expected message."""
    rows = [list(row) for row in EVENTS]
    variant = pick(
        rng, ("type", "duration", "late", "script", "sign", "columns", "order", "quick")
    )
    if variant == "type":
        return _lines([(*row[:2], 5) for row in rows], "onset\tduration\tbid"), ""
    if variant == "duration":
        rows[int(rng.integers(4))][1] = "n/a"
        return _lines(rows), r"omitted|without"
    if variant == "late":
        return (
            _lines([*rows, (float(rng.uniform(31, 60)), 2.0, "thumb")]),
            r"omitted|after the end|outside",
        )
    names = {"script": ("左手", "большой", "θέα", "أحمر"), "sign": ("+1", "-1")}.get(
        variant, ("a b", "c/d")
    )
    for k, row in enumerate(rows):
        row[2] = names[k % len(names)]
    if variant == "columns":
        rows = [[*row[:2], f"x{k}", row[2]] for k, row in enumerate(rows)]
        return _lines(rows, "onset\tduration\tcue\ttrial_type"), ""
    if variant == "order":
        return _lines(rows[::-1]), ""
    if variant == "quick":
        return _lines([(float(t), 0.0, names[t % 2]) for t in range(1, 28)]), ""
    return _lines(rows), ""


@kind
def foreign_events(rng: Rng, maker: BidsMaker) -> None:
    """Write an unusual events table with any line ends, which the program has to read."""
    text, maker.expected = _foreign_events(rng)
    ends = pick(rng, ("\n", "\r\n"))
    mark = pick(rng, ("", "\ufeff"))
    maker.path("sub-01_task-tap_events.tsv", "func").write_bytes(
        (mark + text.replace("\n", ends)).encode()
    )
    maker.accepted = True


@kind
def tables_elsewhere(rng: Rng, maker: BidsMaker) -> None:
    """Write ``participants.tsv``, scans or JSON with a byte order mark, other line ends, or odd
    content.
    """
    name = pick(
        rng,
        (
            "participants.tsv",
            "participants.json",
            "sub-01/sub-01_scans.tsv",
            "README",
            ".bidsignore",
        ),
    )
    text = (
        "participant_id\tage\nsub-01\t30\nsub-07\tn/a\n"
        if name.endswith("ts.tsv")
        else "filename\tacq_time\n\t\n"
    )
    text = json.dumps({"age": {"Units": "year"}}) if name.endswith("json") else text
    spoil: tuple[Callable[[str], bytes], ...] = (
        lambda t: t.encode("utf-8-sig"),
        lambda t: t.replace("\n", "\r\n").encode("utf-8-sig"),
        lambda t: b"",
        lambda t: t.replace("\n", "\r").encode(),
        lambda t: t.encode("utf-16"),
        lambda t: (t * 2000).encode(),
        lambda t: t.replace("sub-01", pick(rng, HOSTILE)).encode("utf-8", "surrogatepass"),
        lambda t: rng.bytes(99),
    )
    (maker.root / name).write_bytes(pick(rng, spoil)(text))


@kind
def one_bad_run(rng: Rng, maker: BidsMaker) -> list[str]:
    """Add a damaged run: only this run is left out, or the program stops with `--strict`."""
    bad = maker.bold("sub-01_task-tap_run-2", n_volumes=int(pick(rng, (1, 2, 30))))
    maker.events("sub-01_task-tap_run-2")
    image = nb.load(bad)
    if image.shape[3] == 30:
        raw = bad.read_bytes()
        bad.write_bytes(pick(rng, (raw[:400], b"", rng.bytes(500))))
    maker.expected = "skipped"
    if rng.random() < 0.3:
        return ["--strict"]
    maker.accepted = True
    return []


@kind
def pair_unfit(rng: Rng, maker: BidsMaker) -> None:
    """Write T2*-weighted images that are not a pair: the program continues without them and
    reports it.
    """
    zooms = pick(rng, (((5.0, 5.0, 4.0), (6.0, 6.0, 4.0)), ((6.0, 6.0, 4.0), (6.0, 6.0, 4.0)),
                       ((3.0, 3.0, 3.0), (3.2, 3.2, 4.0))))  # fmt: skip
    maker.star("sub-01_acq-highres", zooms[0])
    maker.star("sub-01_acq-lowres", zooms[1])
    maker.expected = r"T2\*?w|T2star"


ALL: dict[str, Kind] = EARLIER
