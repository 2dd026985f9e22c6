"""Phantom heads with structural scans at two resolutions, prepared by each alignment and kept, for
structural.py.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _kept import kept, write_arrays, write_note
from nibabel.affines import apply_affine as apply
from numpy.typing import NDArray

from bids_sr.io.volume import Volume
from bids_sr.phantom.poses import draw_pose
from bids_sr.phantom.presets import PRESETS
from bids_sr.phantom.simulated_subject import Draw, SimulatedSubject
from bids_sr.phantom.still_scans import CONTRASTS, structural, t1w, tissue_shares
from bids_sr.registration.brain import brain_from_head, unbiased
from bids_sr.registration.structural_preparation import (
    ORDERS,
    Align,
    Placement,
    assemble,
    placements,
)
from bids_sr.registration.templates import load_template
from bids_sr.registration.tissues import segment_tissues, tissue_masks
from bids_sr.spatial.transforms import invert
from bids_sr.sr.training.fused import unit_range

Array = NDArray[Any]
Key = tuple[str, str]
ALIGNMENTS: tuple[Align, ...] = ("rigid", "affine", "nonlinear")
# around the brain, kept of every scan: networks see no more air than they must
BOX_MM = (160.0, 192.0, 160.0)
TISSUES = ("gm", "wm", "csf")
# added to a head's seed for the noise, the receive field and the position of its second session
_RETEST = 10_000


@dataclass(frozen=True, kw_only=True)
class Heads:
    """Which heads there are and how they are prepared; all of it is written beside them.

    Attributes
    ----------
    preset, gradient : of the phantom; largest relative error of the coarse scanner's gradients
    mm : voxels on which scans are registered
    train, test : seeds of the phantom
    """

    preset: str
    gradient: float
    mm: float
    train: tuple[int, ...]
    test: tuple[int, ...]

    def check(self, work: Path, training: Mapping[str, Any]) -> None:
        """Refuse a folder with heads or models that were made in another way; more test heads are
        no other way.

        training : whatever else models depend on that their names do not tell
        """
        own = {
            "preset": self.preset,
            "gradient": self.gradient,
            "mm": self.mm,
            "train": list(self.train),
        }
        own = json.loads(json.dumps(own | dict(training)))
        there = kept(work / "heads.json", lambda: own)
        others = [
            name for name in sorted(own.keys() | there.keys()) if own.get(name) != there.get(name)
        ]
        if others:
            raise SystemExit(
                f"{work} holds heads and models of another call ({', '.join(others)}); give"
                " another --work"
            )


@dataclass(frozen=True, kw_only=True)
class PreparedHead:
    """One head on one grid, cropped to the box.

    Attributes
    ----------
    name : sub-SEED
    fine : (C, X, Y, Z), [0, 1]
    coarse : (C, X, Y, Z) by interpolation
    mask, affine : brain, and voxel to RAS mm
    """

    name: str
    fine: Array
    coarse: Mapping[str, Array]
    mask: NDArray[np.bool_]
    affine: Array

    @property
    def zooms(self) -> list[float]:
        """Voxel size in mm."""
        return [float(v) for v in np.sqrt((self.affine[:3, :3] ** 2).sum(0))]


def acquire(
    subject: SimulatedSubject, seed: int, gradient: float
) -> tuple[dict[Key, Volume], dict[Key, Array]]:
    """(scans by contrast and kind, where a point of the fine T1w lies in each).

    The coarse scanner's gradients are off by up to `gradient` along each axis, about its center;
    headers do not know.
    """
    off = np.diag([*(1 + np.random.default_rng([seed, 1]).uniform(-gradient, gradient, 3)), 1.0])
    scan = t1w(subject)
    images, known = (
        {("T1w", "highres"): Volume(data=scan.image, affine=scan.affine)},
        {("T1w", "highres"): np.eye(4)},
    )
    for scan in structural(subject):
        wrong = off if scan.acquisition == "lowres" else np.eye(4)
        key = (scan.contrast, scan.acquisition)
        images[key] = Volume(data=scan.image, affine=wrong @ scan.affine)
        known[key] = wrong @ scan.pose @ invert(subject.t1w_pose)
    return images, known


def second_session(subject: SimulatedSubject, seed: int) -> SimulatedSubject:
    """The same head in the same scanner on another day: position, receive field and noise are
    others.
    """
    again = copy(subject)
    again.draw = Draw(seed=seed + _RETEST, subject=0)
    again.t1w_pose = draw_pose(again.draw("poses"), (1.0, 4.0), (1.0, 4.0)) @ subject.t1w_pose
    return again


def _even(images: Mapping[Key, Volume]) -> dict[Key, Volume]:
    rounds = (20, 15)
    return {key: unbiased(image, None, seed=0, iterations=rounds) for key, image in images.items()}


def _brain(frame: Volume, prefix: str) -> NDArray[np.bool_]:
    template = load_template()
    return brain_from_head(
        frame, template.t1, template.mask.data > 0.5, seed=0, prefix=prefix, sloppy=False
    )[0]


def box_of(mask: NDArray[np.bool_], zooms: Sequence[float]) -> tuple[slice, slice, slice]:
    """The box around a brain, of whole multiples of 16 voxels in-plane, inside the grid.

    Raises
    ------
    ValueError : the brain does not fit into it
    """
    out = []
    for axis, (size, zoom) in enumerate(zip(BOX_MM, zooms, strict=True)):
        side = int(np.ceil(size / zoom))
        side = min(-(-side // 16) * 16 if axis < 2 else side, mask.shape[axis])
        filled = np.flatnonzero(mask.any(tuple(a for a in range(3) if a != axis)))
        low = min(max((filled[0] + filled[-1] + 1 - side) // 2, 0), mask.shape[axis] - side)
        if filled[0] < low or filled[-1] >= low + side:
            raise ValueError(
                f"a brain from {filled[0]} to {filled[-1]} does not fit into {side} voxels"
            )
        out.append(slice(int(low), int(low + side)))
    return out[0], out[1], out[2]


def path_of(work: Path, seed: int, align: Align) -> Path:
    """Where a prepared head is kept."""
    return work / f"head-{seed}_{align}.npz"


def prepare_head(work: Path, heads: Heads, seed: int) -> None:
    """Make the scans of a head and prepare them by each alignment, unless that is done."""
    notes = work / f"head-{seed}.json"
    if notes.exists():
        return
    subject = SimulatedSubject(PRESETS[heads.preset], "ribbon", seed=seed)
    images, known = acquire(subject, seed, heads.gradient)
    even = _even(images)
    frame = even["T1w", "highres"]
    with tempfile.TemporaryDirectory() as folder:
        mask = _brain(frame, f"{folder}/brain_")
        found = {
            key: placements(
                frame,
                image,
                align="nonlinear",
                seed=0,
                prefix=f"{folder}/{key[0]}{key[1]}_",
                mm=heads.mm,
            )
            for key, image in even.items()
            if image is not frame
        }
    box = box_of(mask, frame.zooms)
    points = np.argwhere(mask)[::37] @ frame.affine[:3, :3].T + frame.affine[:3, 3]
    facts: dict[str, Any] = {"errors_mm": {}}
    for align in ALIGNMENTS:
        places = {key: kinds[align] for key, kinds in found.items()} | {
            ("T1w", "highres"): Placement(xfm=np.eye(4))
        }
        made = assemble(even, places, frame, mask, {}, tuple(ORDERS))
        affine = frame.affine.copy()
        affine[:3, 3] = (frame.affine @ [*(side.start for side in box), 1.0])[:3]
        write_arrays(
            path_of(work, seed, align),
            mask=mask[box],
            affine=affine,
            fine=np.stack([made.hr[c][box] for c in CONTRASTS]),
            **{
                name: np.stack([stack[c][box] for c in CONTRASTS])
                for name, stack in made.lr.items()
            },
        )
        facts["errors_mm"][align] = {
            f"{contrast} {kind}": _error(place, known[contrast, kind], points)
            for (contrast, kind), place in places.items()
            if (contrast, kind) != ("T1w", "highres")
        }
    if seed in heads.test:
        facts |= _yardsticks(subject, seed, mask, frame, heads.mm)
    write_note(notes, facts)


def _error(place: Placement, known: Array, points: Array) -> float:
    """Root mean square distance (mm) in the brain between where points are put and belong."""
    away = np.linalg.norm(place.points(points) - apply(known, points), axis=1)
    return float(np.sqrt((away**2).mean()))


def _yardsticks(
    subject: SimulatedSubject, seed: int, mask: NDArray[np.bool_], frame: Volume, mm: float
) -> dict[str, Any]:
    """Volumes (ml) of the tissues that the phantom is made of, and those found in a second session
    of the fine scans.

    The second session is prepared by itself, in its own frame and with its own brain mask, as a
    study would.
    """
    ml = float(np.prod(frame.zooms)) / 1000
    shares = {
        label.lower(): float(share[mask].sum()) * ml
        for label, share in tissue_shares(subject).items()
    }
    images, _ = acquire(second_session(subject, seed), seed, 0.0)
    even = _even({key: image for key, image in images.items() if key[1] == "highres"})
    again = even["T1w", "highres"]
    with tempfile.TemporaryDirectory() as folder:
        inside = _brain(again, f"{folder}/brain_")
        seen = {"T1w": again.data}
        for (contrast, _), image in even.items():
            if contrast != "T1w":
                prefix = f"{folder}/{contrast}_"
                placed = placements(again, image, align="rigid", seed=0, prefix=prefix, mm=mm)[
                    "rigid"
                ]
                seen[contrast] = placed.seen(image, again, 3)
    # as prepared scans are
    seen = {contrast: unit_range(seen[contrast], inside)[0] for contrast in CONTRASTS}
    found = tissue_masks(segment_tissues(seen, inside, again.affine, seed=0))
    return {
        "shares_ml": shares,
        "retest_ml": {name: float(found[name].sum()) * ml for name in TISSUES},
    }


def read_head(work: Path, seed: int, align: Align) -> PreparedHead:
    """A head that was prepared."""
    with np.load(path_of(work, seed, align)) as kept:
        return PreparedHead(
            name=f"sub-{seed}",
            fine=kept["fine"],
            coarse={name: kept[name] for name in ORDERS},
            mask=kept["mask"],
            affine=kept["affine"],
        )


def facts_of(work: Path, seed: int) -> dict[str, Any]:
    """Errors of its registrations; of a test head also the yardsticks of its volumes."""
    found: dict[str, Any] = json.loads((work / f"head-{seed}.json").read_text())
    return found


def with_channel(head: PreparedHead, channel: int) -> PreparedHead:
    """A head of which one contrast is left."""
    one = slice(channel, channel + 1)
    return replace(
        head, fine=head.fine[one], coarse={name: data[one] for name, data in head.coarse.items()}
    )
