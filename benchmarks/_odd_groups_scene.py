"""Outputs of the participant level of a group, described in memory and then written.

Effects are known in percent of the mean brain signal at each voxel of the template, so that group
maps can be computed from the description. No image is processed.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np

SPACE = "MNI152NLin2009cAsym"
ACQUIRED, SBL = "acquired", "sbl"
BLOCK = 8  # voxels of 2 mm, edge of blocks with equal effects, which compress fast
SPREAD = 0.3  # SD of the effect between blocks, relative to the effect of the participant
LEVELS = ("band", "reference", "region", "threshold", "contrast")
COLUMNS = (
    "series",
    "minus",
    "statistic",
    *LEVELS,
    "fwhm_mm",
    "value",
    "lower",
    "upper",
    "n",
    "unit",
)
CITIES = ("Zürich", "Málaga", "Århus", "Besançon")

Region = tuple[int, int, int]
"""Axis, first and last index (exclusive) of the voxels that a run covers."""


@dataclass(frozen=True)
class Grid:
    """Grid of group maps.

    `indices`: voxel indices in the brain mask, (3, N). `blocks`: block of each voxel, (N,).
    """

    mask: np.ndarray
    affine: np.ndarray
    indices: np.ndarray
    blocks: np.ndarray

    def covers(self, region: Region | None) -> np.ndarray:
        """Return the voxels of the brain mask in a region, (N,) boolean; None for all voxels."""
        if region is None:
            return np.ones(self.indices.shape[1], dtype=bool)
        axis, first, last = region
        return (self.indices[axis] >= first) & (self.indices[axis] < last)


@lru_cache
def load_grid() -> Grid:
    """Return the grid of group maps with the brain mask of the template."""
    from bids_sr.group.template_sampling import load_target

    target = load_target(SPACE)
    indices = np.stack(np.nonzero(target.mask))
    corners = indices // BLOCK
    blocks = np.ravel_multi_index(tuple(corners), tuple(corners.max(axis=1) + 1))
    return Grid(np.asarray(target.mask), np.asarray(target.affine), indices, blocks)


@dataclass(frozen=True)
class Contrast:
    """Contrast of a run.

    `key` identifies the effect. Contrasts with the same key and opposite signs have other names.
    """

    key: str
    name: str
    weights: Mapping[str, float]
    sign: int = 1


@dataclass(frozen=True, eq=False)
class Damage:
    """Damage of one file.

    Attributes
    ----------
    role
        File of a run: ``effect``, ``mask``, ``boldref``, ``table`` or ``sidecar`` (of the table).
        File of stored maps: ``effect`` or ``sidecar`` (of the map).
    how
        ``link`` without content, ``loop`` (link to itself), ``empty``, ``head`` (cut within the
        first bytes), ``text`` instead of an image, ``row`` (table cut in its last row), ``half``
        (data cut), ``flipped`` (compressed data that cannot be decoded), ``nan`` (NaN everywhere),
        or ``voxel`` and ``infinite`` (NaN and infinity in one voxel of the brain).
    name, series
        Contrast and series of an effect map.
    """

    role: str
    how: str
    name: str = ""
    series: str = ""

    @property
    def is_found_by_dry_run(self) -> bool:
        """True if the file cannot be opened, or its header or text is damaged."""
        return not self.is_not_finite and self.how not in ("half", "flipped")

    @property
    def is_not_finite(self) -> bool:
        """True if the file contains values that are not finite."""
        return self.how in ("nan", "voxel", "infinite")

    @property
    def is_in_table(self) -> bool:
        """True for a table of a run and its sidecar, which are needed without maps."""
        return self.role == "table" or (self.role == "sidecar" and not self.name)


@dataclass(eq=False)
class Run:
    """Outputs of one run.

    Attributes
    ----------
    task, variant, session, number
        Task label, entity such as ``acq-mb``, and labels of session and run; "" if absent.
    contrasts, series
        Maps exist for each contrast and series.
    signal
        Mean brain signal.
    in_percent
        Whether effect maps are in percent of this signal, otherwise in signal units as in earlier
        versions.
    shift
        Effect of the run minus the effect of the participant, in percent.
    region
        Voxels in the field of view; None for all.
    zero
        Keys of contrasts whose maps are 0 everywhere.
    at_rest
        Whether seeds or components replace events.
    absent
        Files that do not exist: ``maps``, ``mask`` or ``boldref``.
    damage
        Damaged files.
    """

    task: str = "tap"
    variant: str = ""
    session: str = ""
    number: str = ""
    contrasts: list[Contrast] = field(default_factory=list)
    series: list[str] = field(default_factory=lambda: [ACQUIRED])
    signal: float = 1000.0
    in_percent: bool = True
    shift: float = 0.0
    region: Region | None = None
    zero: set[str] = field(default_factory=set)
    at_rest: bool = False
    absent: set[str] = field(default_factory=set)
    damage: list[Damage] = field(default_factory=list)

    @property
    def unit(self) -> str:
        """Unit of the effect maps."""
        return "percent" if self.in_percent else "arbitrary"

    @property
    def short_name(self) -> str:
        """Name of the run among the runs of its task and session, as in ``RunWeights``."""
        return f"run-{self.number}" if self.number else "no run-"

    def has(self, name: str, series: str) -> bool:
        """Return whether the run has a map of a contrast and series."""
        return (
            "maps" not in self.absent
            and series in self.series
            and name in {contrast.name for contrast in self.contrasts}
        )


@dataclass(eq=False)
class Stored:
    """Stored maps of several runs together.

    `runs`: the runs in the maps, which need not exist. `session`: "" for maps of all sessions.
    `factor`: stored effect relative to the mean of the runs, which identifies the stored map.
    """

    runs: list[Run]
    session: str = ""
    factor: float = 1.1
    damage: list[Damage] = field(default_factory=list)


@dataclass(eq=False)
class Participant:
    """Participant of the data set, of the output folder, or of both.

    Attributes
    ----------
    label
        Label such as ``sub-01``.
    level
        Mean effect in percent.
    in_folders, in_table
        Whether the data set has a folder of the participant, and a row in participants.tsv.
    runs, stored
        Results of the participant level.
    has_empty_output
        Whether the output folder has a folder of the participant without results.
    """

    label: str
    level: float
    in_folders: bool = True
    in_table: bool = True
    runs: list[Run] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)
    has_empty_output: bool = False

    @property
    def is_listed(self) -> bool:
        """Whether the data set lists the participant."""
        return self.in_folders or self.in_table

    def effect(self, run: Run, contrast: Contrast, series: str) -> np.ndarray:
        """Return the effect in percent at the voxels of the brain mask, (N,)."""
        grid = load_grid()
        inside = grid.covers(run.region)
        if contrast.key in run.zero:
            return np.zeros(len(inside))
        parts = (
            self.label,
            run.task,
            run.variant,
            run.session,
            run.number,
            contrast.key,
            series,
        )
        rng = np.random.default_rng([*"_".join(parts).encode()])
        level = (self.level + run.shift) * rng.uniform(0.8, 1.2)
        pattern = level * (1 + SPREAD * rng.normal(size=grid.blocks.max() + 1))
        return np.where(inside, contrast.sign * pattern[grid.blocks], 0)

    def stored_effect(self, stored: Stored, name: str, series: str) -> np.ndarray:
        """Return the effect in percent of stored maps, 0 in voxels that a run does not cover."""
        effects = [
            self.effect(run, contrast, series)
            for run in stored.runs
            for contrast in run.contrasts
            if contrast.name == name
        ]
        covered = np.all([effect != 0 for effect in effects], axis=0)
        return np.where(covered, stored.factor * np.mean(effects, axis=0), 0)


@dataclass
class Call:
    """Options of a call of the group level; () for no filter, `flips` 0 for no permutations."""

    sessions: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    participants: tuple[str, ...] = ()
    flips: int = 0

    @property
    def session(self) -> str:
        """Session in the names of the results; "" if several or all sessions are pooled."""
        return self.sessions[0] if len(self.sessions) == 1 else ""

    def options(self) -> list[str]:
        """Return the command-line options."""
        filters = {
            "--session-label": self.sessions,
            "--task-id": self.tasks,
            "--run-id": self.runs,
            "--participant-label": [label.removeprefix("sub-") for label in self.participants],
        }
        chosen = [[option, *labels] for option, labels in filters.items() if labels]
        if self.flips:
            chosen.append(["--set", f"evaluation.group_permutations={self.flips}"])
        return [word for words in chosen for word in words]

    def selects(self, participant: Participant, run: Run) -> bool:
        """Return whether the call includes a run."""
        return (
            (not self.participants or participant.label in self.participants)
            and (not self.sessions or run.session in self.sessions)
            and (not self.tasks or run.task in self.tasks)
            and (not self.runs or run.number in self.runs)
        )


@dataclass
class Group:
    """Data set of a group with its outputs, and the call of the group level.

    Attributes
    ----------
    participants
        Participants of the data set and of the output folder.
    call
        The call whose results are checked.
    encoding, line_end, prefix
        Format of participants.tsv; labels begin with the prefix, which is ``sub-`` or "".
    more_labels
        Further cells of the column participant_id.
    has_table
        Whether participants.tsv exists.
    running
        Label of a participant who is being processed during the call; "" for none.
    earlier_call
        Call that ran before with the same files, or None.
    earlier
        Another state with a call that ran before, or None.
    """

    participants: list[Participant] = field(default_factory=list)
    call: Call = field(default_factory=Call)
    encoding: str = "utf-8"
    line_end: str = "\n"
    prefix: str = "sub-"
    more_labels: list[str] = field(default_factory=list)
    has_table: bool = True
    running: str = ""
    earlier_call: Call | None = None
    earlier: Group | None = None

    def known_participants(self) -> list[Participant]:
        """Return the participants of the data set or of the output folder."""
        return [
            participant
            for participant in self.participants
            if participant.is_listed or participant.runs or participant.has_empty_output
        ]

    def with_results(self) -> list[Participant]:
        """Return the listed participants of whom the call includes at least one run."""
        return [
            participant
            for participant in self.participants
            if participant.is_listed
            and any(self.call.selects(participant, run) for run in participant.runs)
        ]

    def runs(self) -> Iterator[tuple[Participant, Run]]:
        """Yield all runs that the call includes, of listed participants."""
        for participant in self.with_results():
            for run in participant.runs:
                if self.call.selects(participant, run):
                    yield participant, run


@dataclass(frozen=True)
class Folders:
    """Folders of the data set and of its outputs."""

    root: Path

    @property
    def bids(self) -> Path:
        """Folder of the data set."""
        return self.root / "bids"

    @property
    def out(self) -> Path:
        """Folder of the outputs."""
        return self.root / "out"

    def stem(self, participant: Participant, run: Run) -> Path:
        """Return the folder and the common start of the file names of a run."""
        number = f"run-{run.number}" if run.number else ""
        return self._stem(participant, run, run.session, number)

    def stored_stem(self, participant: Participant, stored: Stored) -> Path:
        """Return the folder and the common start of the file names of stored maps."""
        return self._stem(participant, stored.runs[0], stored.session, "")

    def _stem(self, participant: Participant, run: Run, session: str, number: str) -> Path:
        session = f"ses-{session}" if session else ""
        parts = (participant.label, session, f"task-{run.task}", run.variant, number)
        return self.out / participant.label / session / "func" / "_".join(filter(None, parts))

    def damaged_file(self, participant: Participant, run: Run | Stored, damage: Damage) -> Path:
        """Return the path of a damaged file."""
        if isinstance(run, Stored):
            path = _map_path(self.stored_stem(participant, run), damage.name, damage.series)
            return path if damage.role == "effect" else _sidecar_path(path)
        stem = self.stem(participant, run)
        if damage.role == "effect":
            return _map_path(stem, damage.name, damage.series)
        ending = {
            "mask": "space-boldref_label-brain_desc-acquired_mask.nii.gz",
            "boldref": "desc-hmc_boldref.nii.gz",
            "table": "desc-activation_metrics.tsv",
            "sidecar": "desc-activation_metrics.json",
        }[damage.role]
        return stem.with_name(f"{stem.name}_{ending}")


def write_group(group: Group, folders: Folders) -> None:
    """Write the data set and the outputs of the participant level; group results remain."""
    shutil.rmtree(folders.bids, ignore_errors=True)
    for path in folders.out.glob("sub-*"):
        shutil.rmtree(path)
    folders.bids.mkdir(parents=True)
    folders.out.mkdir(exist_ok=True)
    _write_descriptions(folders)
    rows = ["participant_id\tcity"]
    for index, participant in enumerate(group.participants):
        if participant.in_folders:
            (folders.bids / participant.label / "func").mkdir(parents=True)
        if participant.in_table:
            label = group.prefix + participant.label.removeprefix("sub-")
            rows.append(f"{label}\t{CITIES[index % len(CITIES)]}")
        if participant.has_empty_output:
            (folders.out / participant.label / "figures").mkdir(parents=True)
        for run in participant.runs:
            _write_run(folders, participant, run)
        for stored in participant.stored:
            _write_stored(folders, participant, stored)
    rows += [f"{label}\tn/a" for label in group.more_labels]
    table = "".join(f"{row}{group.line_end}" for row in rows)
    if group.has_table:
        (folders.bids / "participants.tsv").write_bytes(table.encode(group.encoding))


def _write_descriptions(folders: Folders) -> None:
    from bids_sr.version import __version__

    common = {"Name": "group", "BIDSVersion": "1.9.0"}
    url = f"../{folders.bids.name}"
    derivative = {
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "bids-sr", "Version": __version__}],
        "SourceDatasets": [{"URL": url}],
        "DatasetLinks": {"raw": url},
    }
    for folder, description in ((folders.bids, common), (folders.out, common | derivative)):
        (folder / "dataset_description.json").write_text(json.dumps(description))


def _write_run(folders: Folders, participant: Participant, run: Run) -> None:
    stem = folders.stem(participant, run)
    stem.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([20.0, 20, 20, 1])
    affine[:3, 3] = -100
    # stored without compression, so that a cut file still has its header
    for role, values in (
        ("mask", np.ones((10, 10, 10), "u1")),
        ("boldref", np.full((10, 10, 10), run.signal, "f4")),
    ):
        if role not in run.absent:
            path = folders.damaged_file(participant, run, Damage(role, ""))
            _write_image(path, values, affine, level=0)
    if "maps" not in run.absent:
        for contrast in run.contrasts:
            for series in run.series:
                effect = participant.effect(run, contrast, series)
                scale = 1.0 if run.in_percent else run.signal / 100
                path = _write_maps(stem, contrast.name, series, effect * scale)
                _sidecar_path(path).write_text(json.dumps({"Units": run.unit}))
    facts: dict[str, Any] = {
        "ContrastWeights": {
            contrast.name: dict(contrast.weights) for contrast in run.contrasts if contrast.weights
        }
    }
    if run.at_rest:
        facts["MappedBy"] = "seeds"
    _write_tables(stem, run.series, facts)
    for damage in run.damage:
        _damage_file(folders.damaged_file(participant, run, damage), damage)


def _write_tables(stem: Path, series: Sequence[str], facts: Mapping[str, Any]) -> None:
    from bids_sr.version import __version__

    sidecar = {"GeneratedByVersion": __version__, "SettingsDigest": "abc", **facts}
    for table, statistic in (("activation", "dof"), ("image", "tsnr_median")):
        lines = ["\t".join(COLUMNS)]
        for name in series:
            cells = dict.fromkeys(COLUMNS, "n/a") | {"series": name, "statistic": statistic}
            cells |= {"fwhm_mm": "0", "value": "44", "unit": "1"}
            lines.append("\t".join(cells.values()))
        path = stem.with_name(f"{stem.name}_desc-{table}_metrics.tsv")
        path.write_text("\n".join(lines) + "\n")
        path.with_suffix(".json").write_text(json.dumps(sidecar))


def _write_stored(folders: Folders, participant: Participant, stored: Stored) -> None:
    """Write maps of several runs on the template's grid and, with value 0, on the boldref's."""
    from bids_sr.version import __version__

    stem = folders.stored_stem(participant, stored)
    stem.parent.mkdir(parents=True, exist_ok=True)
    first = stored.runs[0]
    over_sessions = not stored.session and bool(first.session)
    names = [
        f"ses-{run.session}_{run.short_name}" if over_sessions else run.short_name
        for run in stored.runs
    ]
    names = [name.removesuffix("_no run-") for name in names]
    boldref = folders.damaged_file(participant, first, Damage("boldref", ""))
    facts: dict[str, Any] = {"RunWeights": dict.fromkeys(names, round(1 / len(names), 6))}
    in_percent = over_sessions or first.in_percent
    scale = 1.0 if in_percent else first.signal / 100
    _write_tables(stem, first.series, facts)
    for contrast in first.contrasts:
        for series in first.series:
            effect = participant.stored_effect(stored, contrast.name, series)
            path = _write_maps(stem, contrast.name, series, effect * scale)
            coarse = Path(str(path).replace(f"space-{SPACE}_res-2", "space-firstBoldref"))
            _write_image(coarse, np.ones((10, 10, 10), "f4"), np.diag([20.0, 20, 20, 1]), level=1)
            os.link(coarse, str(coarse).replace("stat-effect", "stat-t"))
            sources = [
                _map_path(folders.stem(participant, run), contrast.name, series)
                for run in stored.runs
            ]
            sidecar = facts | {
                "Units": "percent" if in_percent else "arbitrary",
                "SourceSeries": series,
                "SmoothingFWHM": 0,
                "ContrastWeights": dict(contrast.weights),
                "RunsLeftOut": {},
                "SpatialReference": f"bids::{boldref.relative_to(folders.out)}",
                "GeneratedByVersion": __version__,
                "SettingsDigest": "abc",
                "Sources": [f"bids::{source.relative_to(folders.out)}" for source in sources],
            }
            for image in (path, coarse):
                for stat in ("effect", "t"):
                    name = str(_sidecar_path(image)).replace("stat-effect", f"stat-{stat}")
                    Path(name).write_text(json.dumps(sidecar))
    for damage in stored.damage:
        _damage_file(folders.damaged_file(participant, stored, damage), damage)


def _write_maps(stem: Path, name: str, series: str, values: np.ndarray) -> Path:
    """Write values (N,) as maps of the effect and of t, and return the path of the effect map."""
    grid = load_grid()
    data = np.zeros(grid.mask.shape, dtype=np.float32)
    data[grid.mask] = values
    path = _map_path(stem, name, series)
    _write_image(path, data, grid.affine, level=1)
    os.link(path, _map_path(stem, name, series, stat="t"))
    return path


def _map_path(stem: Path, name: str, series: str, *, stat: str = "effect") -> Path:
    entities = f"space-{SPACE}_res-2_contrast-{name}_stat-{stat}_desc-{series}"
    return stem.with_name(f"{stem.name}_{entities}_statmap.nii.gz")


def _sidecar_path(image: Path) -> Path:
    return Path(str(image).replace(".nii.gz", ".json"))


def _write_image(path: Path, data: np.ndarray, affine: np.ndarray, *, level: int) -> None:
    content = nb.Nifti1Image(data, affine).to_bytes()
    path.write_bytes(gzip.compress(content, compresslevel=level))


def _damage_file(path: Path, damage: Damage) -> None:
    content = path.read_bytes()
    path.unlink()  # another file may be a link to it
    if damage.how in ("link", "loop"):
        annexed = "../../.git/annex/objects/aa/bb/MD5E-s1--0/MD5E-s1--0"
        path.symlink_to(annexed if damage.how == "link" else path.name)
    elif damage.is_not_finite:
        image = nb.Nifti1Image.from_bytes(gzip.decompress(content))
        data = image.get_fdata(dtype=np.float32).copy()
        selected = np.nonzero(data)
        if damage.how != "nan":
            selected = tuple(axis[len(axis) // 2 :][:1] for axis in selected)
        data[selected] = np.inf if damage.how == "infinite" else np.nan
        _write_image(path, data, image.affine, level=1)
    elif damage.how == "flipped":
        path.write_bytes(_flip_bytes(content))
    else:
        kept = {
            "empty": b"",
            "head": content[:20],
            "text": b"This file was moved to the archive.\n" * 20,
            "row": content.rstrip(b"\n").rpartition(b"\t")[0].rpartition(b"\t")[0],
            "half": content[: len(content) // 2],
        }
        path.write_bytes(kept[damage.how])


def _flip_bytes(content: bytes) -> bytes:
    """Return compressed content that can be decoded for the first half only."""
    for start in range(len(content) // 2, len(content) - 40):
        middle = bytes(255 - byte for byte in content[start : start + 20])
        flipped = content[:start] + middle + content[start + 20 :]
        try:
            zlib.decompressobj(wbits=31).decompress(flipped)
        except zlib.error:
            return flipped
    raise ValueError("the content can always be decoded")
