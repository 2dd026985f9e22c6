"""Write small BIDS data sets for tests: images of a few hundred voxels with sidecars and
events.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np

EVENTS = ((2.0, 4.0, "thumb"), (8.0, 4.0, "little"), (14.0, 4.0, "thumb"), (19.0, 4.0, "little"))
FOV = (48.0, 48.0, 24.0)  # mm


def affine_for(
    zooms: Sequence[float], fov: Sequence[float] = FOV, shift: Sequence[float] = (0, 0, 0)
) -> np.ndarray:
    """Return the affine of an image whose field of view is centered at `shift` (mm)."""
    affine = np.diag([*zooms, 1.0])
    affine[:3, 3] = np.asarray(shift) - np.asarray(fov) / 2 + np.asarray(zooms) / 2
    return affine


class BidsMaker:
    """Writer of one data set.

    Every method overwrites its earlier files, so that a test can damage a single file.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        # regular expression: a message that must appear if the data set is accepted
        self.expected = ""
        self.accepted = False  # True: the data set must not be rejected
        self.description()

    def description(self) -> None:
        """Write the files at the root that the validator requires."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.json(self.root / "dataset_description.json", {"Name": "tiny", "BIDSVersion": "1.9.0"})
        (self.root / "README").write_text(
            "A data set of noise, made for tests of this program. " * 5
        )

    @staticmethod
    def json(path: Path, content: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    def path(self, name: str, folder: str) -> Path:
        """Return the path of a file from its name."""
        labels = dict(part.split("-", 1) for part in name.split("_") if "-" in part)
        parts = [f"sub-{labels['sub']}"] + ([f"ses-{labels['ses']}"] if "ses" in labels else [])
        return self.root.joinpath(*parts, folder, name)

    def image(
        self,
        name: str,
        folder: str,
        zooms: Sequence[float],
        *,
        n_volumes: int | None = None,
        tr: float = 1.0,
        dtype: str = "int16",
        data: np.ndarray | None = None,
        shift: Sequence[float] = (0, 0, 0),
        header_tr: float | None = None,
    ) -> Path:
        """Write an image of noise, or of `data`, over the field of view FOV."""
        path = self.path(name, folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        shape: tuple[int, ...] = tuple(round(f / z) for f, z in zip(FOV, zooms, strict=True))
        if n_volumes is not None:
            shape = (*shape, n_volumes)
        if data is None:
            rng = np.random.default_rng(sum(map(ord, name)))
            data = rng.integers(50, 1000, shape).astype(dtype)
        image = nb.Nifti1Image(data, affine_for(zooms, shift=shift))
        image.header.set_xyzt_units("mm", "sec")
        if n_volumes is not None:
            image.header["pixdim"][4] = tr if header_tr is None else header_tr
        nb.save(image, path)
        return path

    def bold(
        self,
        stem: str = "sub-01_task-tap",
        *,
        zooms: Sequence[float] = (6.0, 6.0, 4.0),
        n_volumes: int = 30,
        tr: float = 1.0,
        sidecar: Mapping[str, Any] | None = None,
        **image: Any,
    ) -> Path:
        """Write a BOLD run with its sidecar; `sidecar` values of None remove a key."""
        path = self.image(
            f"{stem}_bold.nii.gz", "func", zooms, n_volumes=n_volumes, tr=tr, **image
        )
        content: dict[str, Any] = {"TaskName": "tap", "RepetitionTime": tr, **(sidecar or {})}
        self.json(
            self.path(f"{stem}_bold.json", "func"),
            {k: v for k, v in content.items() if v is not None},
        )
        return path

    def events(
        self,
        stem: str = "sub-01_task-tap",
        rows: Sequence[Sequence[object]] = EVENTS,
        header: str | None = None,
    ) -> Path:
        """Write an events table."""
        path = self.path(f"{stem}_events.tsv", "func")
        lines = [header or "onset\tduration\ttrial_type"] + [
            "\t".join(map(str, row)) for row in rows
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
        return path

    def star(self, stem: str, zooms: Sequence[float], **image: Any) -> Path:
        """Write a T2*-weighted image."""
        self.json(self.path(f"{stem}_T2starw.json", "anat"), {"EchoTime": 0.03})
        return self.image(f"{stem}_T2starw.nii.gz", "anat", zooms, **image)

    def t1w(
        self, stem: str = "sub-01", zooms: Sequence[float] = (3.0, 3.0, 3.0), **image: Any
    ) -> Path:
        """Write a T1w image."""
        return self.image(f"{stem}_T1w.nii.gz", "anat", zooms, **image)

    def remove_pair(self, subject: str = "sub-01") -> None:
        """Remove the images of `subject`'s pair."""
        for kind in ("highres", "lowres"):
            self.path(f"{subject}_acq-{kind}_T2starw.nii.gz", "anat").unlink()

    def subject(self, label: str = "01", session: str | None = None) -> None:
        """Write all files of one participant."""
        stem = f"sub-{label}" + (f"_ses-{session}" if session else "")
        self.bold(f"{stem}_task-tap")
        self.events(f"{stem}_task-tap")
        self.star(f"{stem}_acq-highres", (3.0, 3.0, 4.0))
        self.star(f"{stem}_acq-lowres", (6.0, 6.0, 4.0))
        self.t1w(stem)


def snapshot(*folders: Path) -> dict[str, bytes | None]:
    """Return all paths below folders with the contents of files, to check that nothing was
    written.
    """
    contents: dict[str, bytes | None] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")) if folder.exists() else []:
            contents[str(path)] = path.read_bytes() if path.is_file() else None
    return contents
