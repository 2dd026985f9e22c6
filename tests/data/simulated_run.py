"""Write a small BOLD run with known effects as a BIDS data set, for tests of odd inputs.

The head is an ellipsoid with a texture. Two regions respond to two trial types by a known fraction
of the local mean, at the acquisition time of each slice. The response is SPM's, in closed form;
the program computes it with nilearn, so the two are independent.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import gammainc

SHAPE, ZOOMS = (24, 24, 6), (6.0, 6.0, 6.0)
EFFECTS = {"thumb": 0.03, "little": 0.02}
"""Response to a sustained event, relative to the local mean, by trial type."""
NOISE = 2.0
"""Standard deviation; the mean signal is about 600."""
STEM = "sub-01_task-tap"
HEADER = ("onset", "duration", "trial_type")

Event = tuple[float, float, str]
"""Onset (s), duration (s), trial type."""


def blocks(n_volumes: int, tr: float) -> list[Event]:
    """Return alternating blocks of both types with rest between them, to the end of a run."""
    length = max(12.0, 2 * tr)
    onsets = np.arange(length / 2, n_volumes * tr - length, 2 * length)
    return [(float(t), length, tuple(EFFECTS)[k % 2]) for k, t in enumerate(onsets)]


def interleaved(n_slices: int, acquisition: float) -> np.ndarray:
    """Return the time of each slice (s), interleaved over the acquisition time of a volume (s)."""
    order = [k // 2 + (n_slices + 1) // 2 * (k % 2) for k in range(n_slices)]
    return np.round(np.array(order) * acquisition / n_slices, 6)


def response(
    times: np.ndarray, events: Sequence[Event], amplitudes: Sequence[float] = ()
) -> np.ndarray:
    """Return the summed response at times (s), which is 1 during a sustained event.

    An event of duration 0 is an impulse of area 1 s. `amplitudes`: factor of each event; empty if
    all are 1.
    """

    def reached(since: np.ndarray) -> np.ndarray:
        after = np.maximum(since, 0.0)
        return np.asarray((gammainc(6, after) - gammainc(16, after) / 6) / (1 - 1 / 6))

    total = np.zeros_like(times)
    for (onset, duration, _), factor in zip(
        events, amplitudes or [1.0] * len(events), strict=True
    ):
        width = duration or 1e-3
        area = duration or 1.0
        since = times - onset
        total += (reached(since) - reached(since - width)) * factor * area / width
    return total


@dataclass
class Scene:
    """All properties of a run before it is written; alterations change them, or the files
    afterwards.

    `slice_times` and `volume_times`: true acquisition times of slices and volumes (s). `sidecar`:
    fields of the sidecar in addition to the fields that follow from the scene; None removes a
    field. `columns` and `rows`: the events table as text. `edits`: changes of the written files,
    in order. `series`: changes of the values before they are written, in order. `stored`: changes
    of the order of voxels, which also apply to results. `strength`: factor of the effects, for
    events that would be too brief to detect. `amplitudes`: factor of each event; empty if all are
    1.
    """

    root: Path
    seed: int = 0
    tr: float = 2.0
    n_volumes: int = 48
    slice_times: np.ndarray = field(default_factory=lambda: interleaved(SHAPE[2], 2.0))
    volume_times: np.ndarray | None = None
    events: list[Event] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    sidecar: dict[str, Any] = field(default_factory=dict)
    options: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=lambda: list(HEADER))
    rows: list[list[str]] | None = None
    at_rest: bool = False
    strength: float = 1.0
    amplitudes: list[float] = field(default_factory=list)
    dtype: str = "int16"
    affine: np.ndarray = field(default_factory=lambda: centered(SHAPE, ZOOMS))
    tables: list[Callable[[Scene], None]] = field(default_factory=list)
    series: list[Callable[[np.ndarray], np.ndarray]] = field(default_factory=list)
    edits: list[Callable[[Scene], None]] = field(default_factory=list)
    stored: list[Callable[[np.ndarray], np.ndarray]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.events:
            self.events = blocks(self.n_volumes, self.tr)

    @property
    def bids(self) -> Path:
        """Root of the data set."""
        return self.root / "bids"

    @property
    def func(self) -> Path:
        """Folder of the run."""
        return self.bids / "sub-01" / "func"

    @property
    def anat(self) -> Path:
        """Folder of the anatomical images, which may not exist yet."""
        return self.bids / "sub-01" / "anat"

    @property
    def bold(self) -> Path:
        """File of the series."""
        return self.func / f"{STEM}_bold.nii.gz"

    @property
    def table(self) -> Path:
        """Events table."""
        return self.func / f"{STEM}_events.tsv"

    @property
    def json(self) -> Path:
        """Sidecar of the series."""
        return self.func / f"{STEM}_bold.json"

    @property
    def head(self) -> np.ndarray:
        """Voxels of the head (X, Y, Z)."""
        x, y, z = self._unit()
        return np.asarray(x**2 + y**2 + (0.5 * z) ** 2 < 0.8**2)

    @property
    def mean(self) -> np.ndarray:
        """Mean signal (X, Y, Z)."""
        rng = np.random.default_rng(7)
        texture = gaussian_filter(rng.standard_normal(SHAPE), 1.0)
        return np.where(self.head, 600 + 120 * texture / texture.std(), 8.0)

    @property
    def regions(self) -> dict[str, np.ndarray]:
        """Responding voxels by trial type of `EFFECTS`."""
        x, y, z = self._unit()
        near = y**2 + (0.5 * z) ** 2 < 0.3**2
        return {
            name: (np.abs(x - side) < 0.2) & near
            for name, side in zip(EFFECTS, (0.4, -0.4), strict=True)
        }

    def truth(self, name: str) -> np.ndarray:
        """Effect of a trial type of `EFFECTS`, in signal units (X, Y, Z)."""
        return self.strength * self.regions[name] * EFFECTS[name] * self.mean

    def written_name(self, name: str) -> str:
        """Name of a trial type of `EFFECTS` in the table."""
        return self.names.get(name, name)

    def values(self) -> np.ndarray:
        """Simulate the series (X, Y, Z, T), without the changes in `series`."""
        times = self.tr * np.arange(self.n_volumes)
        times = times if self.volume_times is None else self.volume_times
        mean = self.mean
        out = np.repeat(mean[..., None], len(times), -1)
        for name in EFFECTS if not self.at_rest else ():
            type_events = [event for event in self.events if event[2] == name]
            type_amplitudes = [
                amplitude
                for event, amplitude in zip(self.events, self.amplitudes, strict=False)
                if event[2] == name
            ]
            truth = self.truth(name)
            for index, moment in enumerate(self.slice_times):
                out[:, :, index] += truth[:, :, index, None] * response(
                    times + moment, type_events, type_amplitudes
                )
        rng = np.random.default_rng(self.seed)
        if self.at_rest:
            slow = gaussian_filter(rng.standard_normal((6, len(times))), (0, 2.0))
            place = gaussian_filter(rng.standard_normal((6, *SHAPE)), (0, 2, 2, 1))
            change = np.tensordot(place / place.std(), slow / slow.std(), (0, 0))
            out += 6 * self.head[..., None] * change
        return np.asarray(out + rng.normal(0, NOISE, out.shape))

    def write(self) -> Scene:
        """Write the data set and apply the edits."""
        shutil.rmtree(self.bids, ignore_errors=True)
        self.func.mkdir(parents=True)
        self.put(self.bids / "dataset_description.json", {"Name": "odd", "BIDSVersion": "1.9.0"})
        (self.bids / "README").write_text("A simulated run with known effects. " * 5)
        values = self.values()
        for change in self.series:
            values = change(values)
        self.save(self.in_file(values), self.bold)
        content = {
            "TaskName": "tap",
            "RepetitionTime": self.tr,
            "SliceTiming": [float(time) for time in self.slice_times],
            **self.sidecar,
        }
        self.put(self.json, {key: value for key, value in content.items() if value is not None})
        if not self.at_rest:
            self.rows = [
                [f"{onset:.6g}", f"{duration:.6g}", self.written_name(name)]
                for onset, duration, name in self.events
            ]
            for alter in self.tables:
                alter(self)
            self.write_table()
        for edit in self.edits:
            edit(self)
        return self

    def in_file(self, values: np.ndarray) -> np.ndarray:
        """Return an image or a series with its voxels in the order of the file."""
        for order in self.stored:
            values = order(values)
        return values

    def write_table(self) -> None:
        """Write the events table from `columns` and `rows`."""
        lines = ["\t".join(cells) for cells in (self.columns, *(self.rows or []))]
        self.table.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def save(
        self, values: np.ndarray, path: Path, *, dtype: str = "", affine: np.ndarray | None = None
    ) -> None:
        """Write an image on the grid of the run; integers are rounded."""
        kind = np.dtype(dtype or self.dtype)
        if kind.kind in "iu":
            limits = np.iinfo(kind)
            values = np.clip(np.rint(values), limits.min, limits.max)
        affine = self.affine if affine is None else affine
        image = nb.Nifti1Image(values.astype(kind), affine, dtype=kind)
        image.header.set_xyzt_units("mm", "sec")
        if values.ndim > 3:
            image.header["pixdim"][4] = self.tr
        path.parent.mkdir(parents=True, exist_ok=True)
        nb.save(image, path)

    @staticmethod
    def put(path: Path, content: object) -> None:
        """Write a JSON file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")

    def edit_sidecar(self, path: Path | None = None, **fields: object) -> None:
        """Set fields of a written sidecar; None removes a field."""
        path = path or self.json
        content = {**json.loads(path.read_text(encoding="utf-8")), **fields}
        self.put(path, {key: value for key, value in content.items() if value is not None})

    def rename(self, old: str, new: str) -> None:
        """Replace a part of the names of all files of the run."""
        for path in sorted(self.func.iterdir()):
            path.rename(path.with_name(path.name.replace(old, new)))

    def _unit(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coordinates of voxels from -1 to 1 across the field of view."""
        x, y, z = ((2 * at + 1) / n - 1 for at, n in zip(np.indices(SHAPE), SHAPE, strict=True))
        return x, y, z


def centered(shape: Sequence[int], zooms: Sequence[float]) -> np.ndarray:
    """Return the affine of a grid that is centered at the origin."""
    affine = np.diag([*zooms, 1.0])
    affine[:3, 3] = -(np.array(shape[:3]) - 1) / 2 * np.array(zooms)
    return affine
