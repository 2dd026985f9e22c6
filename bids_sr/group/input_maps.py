"""Effect maps of runs, combined maps of participants, and their transforms to templates."""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Literal

from bids_sr.engine.metric_rows import MISSING
from bids_sr.group.dataset_contents import DatasetContents
from bids_sr.group.input_tables import TABLES, RunFilter, iter_func_folders
from bids_sr.group.run_names import run_columns, run_name
from bids_sr.io.atomic_files import read_json
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import BOLDREF, FIRST_BOLDREF
from bids_sr.io.map_metadata import SHARED_ENTITIES, select_map_metadata
from bids_sr.io.series import parse_map_label
from bids_sr.survey.bids.entities import (
    file_stem,
    parse_entities,
    run_number_order,
    short_run_name,
)
from bids_sr.survey.bids.inheritance import find_sidecars, merge_sidecars, parse_suffix

Task = tuple[str, str]
"""Task label, and the entities of the runs other than session, task and run."""
MapKey = tuple[str, str, float, str]
"""Contrast, series, FWHM (mm), statistic."""

# file names of maps without the participant label, by template space ("" for the space of the
# boldref) and key
_MapsBySpace = Mapping[str, Mapping[MapKey, str]]

Origin = Literal["stored", "computed", "single"]
"""Whether the map of a participant is a stored map of all runs, computed from the maps of several
runs, or the map of a single run."""

_LABELS_IN_NAME = re.compile("|".join(f"_{entity}-[^_]+" for entity in SHARED_ENTITIES))
_MASK_ENDING = "space-boldref_label-brain_desc-acquired_mask.nii.gz"
_BOLDREF_ENDING = "desc-hmc_boldref.nii.gz"


@frozen
class RunMaps:
    """Effect and t maps of one run, or combined maps of all runs of a `participant` (``sub-…``).

    `variant` are the entities other than session, task and run; n/a if there are none. `name` is
    the start of the file names of the maps. `maps` are file names by template space ("" for the
    space of the boldref) and key. The names do not contain the participant label, so that many
    participants share them. `mask` and `boldref` are images on the acquired grid; combined maps
    have the images of the first run. `boldref2t1w` is an ITK file that maps T1w points to boldref
    points, and `t1w2std` files that map template points to T1w points, by space. `session` is n/a
    if there are no sessions, or for maps of all sessions.
    """

    participant: str
    task: str
    variant: str
    name: str
    folder: Path
    maps: _MapsBySpace
    mask: Path | None
    boldref: Path | None
    boldref2t1w: Path | None
    t1w2std: Mapping[str, Path]
    session: str = MISSING
    is_combined: bool = False

    @property
    def task_key(self) -> Task:
        """Task, and entities other than session, task and run."""
        return self.task, self.variant

    @property
    def columns(self) -> dict[str, str]:
        """Cells of `run_columns` that a run and the combined maps of its task have in common."""
        return {
            "participant": self.participant,
            "task": self.task,
            "variant": self.variant,
            "session": self.session,
        }

    @property
    def entities(self) -> dict[str, str]:
        """Entities of the run, long names to labels."""
        return parse_entities(self.folder / f"{self.name}_bold")

    def short_name(self, *, over_sessions: bool) -> str:
        """Return the name of the run among the runs of its task (`short_run_name`)."""
        return short_run_name(self.entities, over_sessions=over_sessions)

    def map_file(self, key: MapKey, space: str = "") -> Path | None:
        """Return the file of a map, or None if the map does not exist.

        `space` is the name of a template, or "" for the space of the boldref.
        """
        ending = self.maps.get(space, {}).get(key)
        return None if ending is None else self.folder / f"{self.participant}{ending}"

    def find_file(self, key: MapKey, space: str) -> Path:
        """Return the file of a map in a template space, or else in the space of the boldref.

        Raises `KeyError` if the map exists in neither space.
        """
        path = self.map_file(key, space) or self.map_file(key)
        if path is None:
            raise KeyError(f"{self.name} has no map {key} in {space} or in its own space")
        return path

    def transforms_from(self, space: str) -> list[Path]:
        """Return the transforms of points of a template to the boldref; [] if one is missing.

        The last transform is applied first.
        """
        if self.boldref2t1w is None or space not in self.t1w2std:
            return []
        return [self.boldref2t1w, self.t1w2std[space]]

    def map_keys(self) -> set[MapKey]:
        """Return the keys of all maps in any space."""
        return {key for space_maps in self.maps.values() for key in space_maps}

    def keep_usable(self, space: str) -> "RunMaps":
        """Return a copy with only the maps that are stored or can be resampled in a template."""
        spaces = (space, "") if self.transforms_from(space) else (space,)
        maps = {name: self.maps[name] for name in spaces if name in self.maps}
        return self if len(maps) == len(self.maps) else replace(self, maps=maps)

    def drop_contrasts(self, contrasts: Collection[str]) -> "RunMaps":
        """Return a copy without the maps of some contrasts."""
        keys = {key for key in self.map_keys() if key[0] in contrasts}
        return replace(self, maps=_drop_maps(self.maps, keys))

    def explain_unavailable(self, space: str) -> str:
        """Return why the maps cannot be used in a template space, "" if they can.

        The brain mask and the boldref are required, because runs are combined at the scale of the
        first run, and maps of earlier versions are in signal units. Maps are resampled unless they
        are stored in the space. `space` is the TemplateFlow name of the template, with the cohort
        after a plus sign.
        """
        if self.mask is None:
            return f"{self.name} has no brain mask ({_MASK_ENDING})"
        if self.boldref is None:
            return f"{self.name} has no boldref ({_BOLDREF_ENDING})"
        if space in self.maps or self.transforms_from(space):
            return ""
        return f"no transform from {self.name} to {space} was found"


@frozen
class DerivativeMaps:
    """Maps in a derivatives folder (single runs, and combined maps), sorted by name.

    `outdated` has the participant label (``sub-…``) and a sentence for each task with stored
    combined maps that no longer match the runs.
    """

    runs: Sequence[RunMaps] = ()
    combined: Sequence[RunMaps] = ()
    outdated: Sequence[tuple[str, str]] = ()

    @property
    def all(self) -> list[RunMaps]:
        """Maps of runs, then combined maps."""
        return [*self.runs, *self.combined]

    def change(self, change: Callable[[RunMaps], RunMaps | None]) -> "DerivativeMaps":
        """Return a copy with the results of a function, without the maps that it drops (None)."""
        runs, combined = (
            [changed for maps in part if (changed := change(maps)) is not None]
            for part in (self.runs, self.combined)
        )
        return replace(self, runs=runs, combined=combined)


@frozen
class _MapFiles:
    """Map files of a run, or combined map files of several runs.

    `stem` is the folder and common start of the file names. `maps` are file names by space and
    key, and `columns` cells of `run_columns`. They are `is_selected` if maps with these entities
    were requested.
    """

    stem: Path
    maps: _MapsBySpace
    columns: Mapping[str, str]
    is_combined: bool
    is_selected: bool

    @property
    def participant(self) -> str:
        """Label of the participant, such as ``sub-01``."""
        return self.columns["participant"]


def _drop_maps(maps: _MapsBySpace, keys: Collection[MapKey]) -> _MapsBySpace:
    """Return a copy without some maps, in any space."""
    return {
        space: {key: name for key, name in names.items() if key not in keys}
        for space, names in maps.items()
    }


def find_maps(
    output_dir: Path,
    is_selected: RunFilter = lambda _: True,
    dataset: DatasetContents | None = None,
) -> DerivativeMaps:
    """Find the effect maps of participants in a derivatives folder.

    A map of all runs has no run entity in its name, and a map of all sessions has no session
    entity. It is skipped if `is_selected` rejects one of the runs of its task, because it also
    contains this run, and if it does not match the runs in the folder: if a run is not included,
    for example because it was mapped later, if a run no longer exists, or if a run was mapped
    again with other settings. `is_selected` filters runs by their entities. `dataset` decides
    whose results are used; if it is None, all results are used. Raises `InputError` if the sidecar
    of a combined map cannot be read.
    """
    map_files = [
        files
        for files in _iter_map_files(output_dir, is_selected)
        if dataset is None
        or (
            dataset.lists(files.participant)
            if files.is_combined
            else dataset.has_run(files.columns)
        )
    ]
    run_files: dict[str, list[_MapFiles]] = defaultdict(list)
    for files in map_files:
        if not files.is_combined:
            run_files[files.participant].append(files)
    runs = {
        files.stem: _locate_run_maps(files)
        for participant_files in run_files.values()
        for files in participant_files
        if files.is_selected
    }
    combined: list[RunMaps] = []
    outdated: list[tuple[str, str]] = []
    for files in (files for files in map_files if files.is_combined):
        sources = [
            run for run in run_files[files.participant] if _belongs_to(run.columns, files.columns)
        ]
        # without its runs, only the entities of the map itself can be selected
        if not all(source.is_selected for source in sources or [files]):
            continue
        source_runs = [runs[source.stem] for source in sources]
        reasons = _find_outdated_maps(output_dir, files, source_runs)
        if reasons:
            outdated.append((files.participant, _outdated_text(files, reasons)))
        current_maps = _drop_maps(files.maps, reasons)
        if current_maps[""]:
            current_files = replace(files, maps=current_maps)
            combined.append(_locate_combined_maps(output_dir, current_files, source_runs))
    return DerivativeMaps(
        runs=sorted(runs.values(), key=attrgetter("name")),
        combined=sorted(combined, key=attrgetter("name")),
        outdated=sorted(outdated),
    )


def _iter_map_files(output_dir: Path, is_selected: RunFilter) -> Iterator[_MapFiles]:
    """Yield the map files of runs, and the combined map files of several runs."""
    for folder, names in iter_func_folders(output_dir, "_statmap.nii.gz"):
        participant = names[0].partition("_")[0] if names else ""
        endings = tuple(name.removeprefix(participant) for name in names)
        for (run_ending, is_combined), maps in _sort_map_names(endings).items():
            stem = folder / f"{participant}_{run_ending}"
            entities = parse_entities(stem.with_name(f"{stem.name}_statmap"))
            yield _MapFiles(
                stem=stem,
                maps=maps,
                columns=run_columns(entities),
                is_combined=is_combined,
                is_selected=is_selected(entities),
            )


@lru_cache(maxsize=1024)
def _sort_map_names(endings: tuple[str, ...]) -> Mapping[tuple[str, bool], _MapsBySpace]:
    """Sort the file names of a folder, without participant labels, by run, space and key.

    File names of participants only differ in their labels, so that thousands of participants share
    one cached result. Keys of the result are the common ending of a run's names, and whether the
    maps are combined maps of several runs. Only combined maps are in the space of the first
    boldref.
    """
    by_run: dict[str, dict[str, dict[MapKey, str]]] = defaultdict(lambda: defaultdict(dict))
    for ending in endings:
        entities = parse_entities(Path(ending))
        # maps in T1w space are in individual anatomy
        if entities["stat"] in ("effect", "t") and entities.get("space") != "T1w":
            space = "+".join(entities[key] for key in ("space", "cohort") if key in entities)
            label = parse_map_label(entities["desc"])
            key = (entities["contrast"], label.series, label.fwhm_mm, entities["stat"])
            by_run[run_name(entities)][space][key] = ending
    sorted_maps: dict[tuple[str, bool], _MapsBySpace] = {}
    for run, maps_by_space in by_run.items():
        combined_maps = maps_by_space.pop(FIRST_BOLDREF, None)
        run_maps = maps_by_space.pop(BOLDREF, None)
        own_maps = {} if run_maps is None else {"": run_maps}
        if combined_maps is not None:
            # without run entities there is a single run, and the template maps belong to it
            template_maps = {} if own_maps else maps_by_space
            sorted_maps[run, True] = {**template_maps, "": combined_maps}
        if combined_maps is None or own_maps:
            sorted_maps[run, False] = {**maps_by_space, **own_maps}
    return sorted_maps


def _find_outdated_maps(
    output_dir: Path, files: _MapFiles, runs: Sequence[RunMaps]
) -> dict[MapKey, str]:
    """Return why stored combined maps do not match the runs, by map.

    `runs` are the runs of the participant and task. Without runs, for example because only
    combined maps were kept, maps cannot be compared.
    """
    if not runs:
        return {}
    over_sessions = files.columns["session"] == MISSING
    digests = {
        run.short_name(over_sessions=over_sessions): _read_settings_digests(run)
        for run in sort_runs(runs)
    }
    reasons = {}
    for key, ending in files.maps[""].items():
        image = files.stem.parent / f"{files.participant}{ending}"
        changes = _list_changes(_read_map_metadata(output_dir, image), digests)
        if changes:
            reasons[key] = ", ".join(changes)
    return reasons


def _read_settings_digests(run: RunMaps) -> set[str]:
    """Return the hashes of the settings in the sidecars of a run's metrics tables."""
    digests = set()
    for table in TABLES:
        path = run.folder / f"{run.name}_desc-{table}_metrics.json"
        if path.exists():
            digests.add(str(read_json(path).get("SettingsDigest", "")))
    return digests - {""}


def _list_changes(
    metadata: Mapping[str, object], digests: Mapping[str, Collection[str]]
) -> list[str]:
    """Return the runs that changed since a combined map was computed, with the change.

    `metadata` is the metadata of the combined map. `digests` has the hashes of the settings of all
    runs in the folder, by the short names of the runs.
    """
    weights, excluded_runs = metadata.get("RunWeights"), metadata.get("RunsLeftOut", {})
    if not isinstance(weights, Mapping) or not isinstance(excluded_runs, Mapping):
        return ["the sidecar of the map does not list its runs"]
    digest = str(metadata.get("SettingsDigest", ""))
    changes = {
        "no longer exists": [name for name in weights if name not in digests],
        "is not included": [
            name for name in digests if name not in weights and name not in excluded_runs
        ],
        "was mapped again with other settings": [
            name
            for name in weights
            if digest and digests.get(name) and digest not in digests[name]
        ],
    }
    return [f"{name} {change}" for change, names in changes.items() for name in map(str, names)]


def _outdated_text(files: _MapFiles, reasons: Mapping[MapKey, str]) -> str:
    """Return a sentence on stored combined maps that do not match the runs."""
    contrasts = sorted({key[0] for key in reasons})
    has_current_maps = len(reasons) < len(files.maps[""])
    contrast_text = f" of {', '.join(contrasts)}" if has_current_maps else ""
    causes = "; ".join(dict.fromkeys(reasons.values()))
    return (
        f"{files.stem.name}: the stored maps of all runs{contrast_text} were not used, because"
        f" they do not match the runs in the output directory ({causes}). The maps of the existing"
        " runs were combined instead. Rerun the participant level to update the stored maps"
    )


def _locate_combined_maps(output_dir: Path, files: _MapFiles, runs: Sequence[RunMaps]) -> RunMaps:
    """Return combined maps of several runs in the frame that their sidecar specifies.

    `runs` are the runs of the participant and task; if the sidecar does not specify a boldref, the
    first of them defines the frame.
    """
    # an effect map, or if there is none, the first map
    _, ending = min(files.maps[""].items(), key=lambda item: item[0][3] != "effect")
    image = files.stem.parent / f"{files.participant}{ending}"
    sidecar = _read_map_metadata(output_dir, image)
    boldref_uri = str(sidecar.get("SpatialReference", ""))
    boldref = output_dir / boldref_uri.removeprefix("bids::")
    frame_stem = boldref.with_name(boldref.name.removesuffix("_desc-hmc_boldref.nii.gz"))
    if not boldref_uri.startswith("bids::") or frame_stem.name == boldref.name:
        first = next(iter(sort_runs(runs)), None)
        frame_stem = files.stem if first is None else first.folder / first.name
    return _locate_run_maps(files, frame_stem)


def _locate_run_maps(files: _MapFiles, frame_stem: Path | None = None) -> RunMaps:
    """Return maps with the files of their frame.

    `frame_stem` is the stem of the run that defines the frame; None for the run itself.
    """
    stem, columns = files.stem, files.columns
    frame_stem = frame_stem or stem
    mask, boldref, coreg = (
        # a link without content exists, and is reported as unreadable
        path
        if os.path.lexists(path := frame_stem.with_name(f"{frame_stem.name}_{name}"))
        else None
        for name in (
            _MASK_ENDING,
            _BOLDREF_ENDING,
            "from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt",
        )
    )
    participant_folder = next(
        parent for parent in stem.parents if parent.name == files.participant
    )
    return RunMaps(
        participant=files.participant,
        task=columns["task"],
        variant=columns["variant"],
        name=stem.name,
        folder=stem.parent,
        maps=files.maps,
        mask=mask,
        boldref=boldref,
        boldref2t1w=coreg,
        t1w2std=_find_normalizations(participant_folder, frame_stem.parent.parent),
        session=columns["session"],
        is_combined=files.is_combined,
    )


def _find_normalizations(participant_folder: Path, session_folder: Path) -> dict[str, Path]:
    """Return transforms to templates by space.

    Transforms of the run's session have priority over transforms without a session, and these over
    transforms of other sessions.
    """
    transforms: dict[str, Path] = {}
    folders = [
        session_folder / "anat",
        participant_folder / "anat",
        *sorted(participant_folder.glob("ses-*/anat")),
    ]
    for folder in folders:
        for path in sorted(folder.glob("*_xfm.h5")):
            entities = parse_entities(path)
            if (entities.get("from"), entities.get("mode")) == ("T1w", "image"):
                transforms.setdefault(entities["to"], path)
    return transforms


@frozen
class ParticipantMaps:
    """Maps of one participant and task: maps per run, and stored maps of all runs.

    There is at least one run, or there are stored maps.
    """

    runs: Sequence[RunMaps] = ()
    combined: RunMaps | None = None

    @property
    def participant(self) -> str:
        """Label of the participant, such as ``sub-01``."""
        return next(maps.participant for maps in (self.combined, *self.runs) if maps is not None)

    def map_keys(self) -> set[MapKey]:
        """Return the keys of all maps, in any space."""
        all_maps = [*self.runs, *([] if self.combined is None else [self.combined])]
        return {key for maps in all_maps for key in maps.map_keys()}

    def select_sources(self, keys: Collection[MapKey]) -> list[RunMaps]:
        """Return the sources of maps: stored maps of all runs, or runs."""
        stored = set() if self.combined is None else self.combined.map_keys()
        combined = [self.combined] if self.combined is not None and stored & {*keys} else []
        missing = {*keys} - stored
        return [*combined, *(run for run in sort_runs(self.runs) if missing & run.map_keys())]

    def origin(self, key: MapKey) -> Origin:
        """Return whether the participant's map is stored, computed, or the map of a single run."""
        if self.combined is not None and key in self.combined.map_keys():
            return "stored"
        n_runs = sum(key in run.map_keys() for run in self.runs)
        return "computed" if n_runs > 1 else "single"


def sort_runs(runs: Sequence[RunMaps]) -> list[RunMaps]:
    """Return runs sorted by session and run number, ``run-10`` after ``run-2``."""

    def key(run: RunMaps) -> tuple[str, int, str]:
        return run.session, *run_number_order(run.entities)

    return sorted(runs, key=key)


def group_by_participant(collected: DerivativeMaps) -> dict[Task, list[ParticipantMaps]]:
    """Group maps by task and variant, and by participant in the order of labels.

    Stored combined maps are only used if they contain all sessions of the participant.
    """
    # single runs and combined maps by participant
    grouped: dict[Task, dict[str, tuple[list[RunMaps], list[RunMaps]]]] = defaultdict(
        lambda: defaultdict(lambda: ([], []))
    )
    for maps in collected.all:
        grouped[maps.task_key][maps.participant][maps.is_combined].append(maps)
    participants_by_task = {}
    for task, maps_by_label in grouped.items():
        participants = []
        for _, (runs, task_combined) in sorted(maps_by_label.items()):
            combined = _select_maps_of_all_sessions(runs, task_combined)
            if runs or combined is not None:
                participants.append(ParticipantMaps(runs=runs, combined=combined))
        participants_by_task[task] = participants
    return participants_by_task


def _select_maps_of_all_sessions(
    runs: Sequence[RunMaps], combined: Sequence[RunMaps]
) -> RunMaps | None:
    """Return the stored combined maps of all sessions of a participant, or None."""
    sessions = {maps.session for maps in (runs or combined)}
    complete_labels = [MISSING, *(sessions if len(sessions) == 1 else ())]
    return next(
        (maps for session in complete_labels for maps in combined if maps.session == session), None
    )


def exclude_contrasts(
    output_dir: Path, collected: DerivativeMaps, unequal: Mapping[str, Mapping[str, str]]
) -> DerivativeMaps:
    """Exclude contrasts whose weights differ from the weights that are kept.

    A contrast is removed from a combined map if a run with other weights is among the sources of
    the map, or if the sidecar does not list sources. The remaining runs are then combined again.
    `unequal` has reasons by run name and contrast, see
    `bids_sr.group.equal_contrasts.unequal_contrasts`.
    """
    combined = []
    for maps in collected.combined:
        source_runs = [run for run in collected.runs if _belongs_to(run.columns, maps.columns)]
        candidates = {contrast for run in source_runs for contrast in unequal.get(run.name, ())}
        excluded = {
            contrast
            for contrast in candidates
            if _is_computed_from_unequal_run(output_dir, maps, contrast, unequal)
        }
        combined.append(maps.drop_contrasts(excluded))
    runs = [run.drop_contrasts(unequal.get(run.name, ())) for run in collected.runs]
    return replace(collected, runs=runs, combined=combined)


def _belongs_to(run: Mapping[str, str], combined: Mapping[str, str]) -> bool:
    """Return whether a run belongs to a combined map, given cells of `run_columns` of both."""
    shared_columns = ("participant", "task", "variant")
    return all(run[name] == combined[name] for name in shared_columns) and (
        combined["session"] in (MISSING, run["session"])
    )


def _is_computed_from_unequal_run(
    output_dir: Path, maps: RunMaps, contrast: str, unequal: Mapping[str, Mapping[str, str]]
) -> bool:
    """Return whether a run with other weights of a contrast is among the sources of a map."""
    key = next((key for key in maps.maps[""] if (key[0], key[3]) == (contrast, "effect")), None)
    path = None if key is None else maps.map_file(key)
    sources = [] if path is None else _read_map_metadata(output_dir, path).get("Sources", [])
    source_names = [Path(str(uri)).name for uri in sources] if isinstance(sources, list) else []
    unequal_runs = [name for name, contrasts in unequal.items() if contrast in contrasts]
    return not source_names or any(
        name.startswith(f"{run}_") for name in source_names for run in unequal_runs
    )


def read_map_entry(image: Path, key: str) -> object:
    """Return an entry of the sidecar of a map, None if the sidecar does not contain it."""
    participant = image.name.partition("_")[0]
    folder = next((folder for folder in image.parents if folder.name == participant), image.parent)
    return _read_map_metadata(folder.parent, image).get(key)


def _read_map_metadata(root: Path, image: Path) -> dict[str, object]:
    """Return the metadata of a map from the sidecar that the maps of its series share.

    Other sidecars that apply by inheritance are only read if this sidecar is missing, because
    finding them requires a listing of the folder for every map.
    """
    labels = parse_entities(image)
    shared_name = _LABELS_IN_NAME.sub("", f"{file_stem(image)}_{parse_suffix(image)}.json")
    shared_sidecar = image.with_name(shared_name)
    if shared_sidecar.exists():
        content = _read_shared_sidecar(shared_sidecar, shared_sidecar.stat().st_mtime_ns)
    else:
        content = merge_sidecars(find_sidecars(image, root))
    return select_map_metadata(content, labels["contrast"], labels["stat"])


@lru_cache(maxsize=64)
def _read_shared_sidecar(path: Path, _modified_ns: int) -> Mapping[str, object]:
    """Read a sidecar once for all maps that share it, and again after it was modified."""
    return read_json(path)
