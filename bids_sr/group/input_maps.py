"""Effect maps of runs, combined maps of participants, and their transforms to templates."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from bids_sr.bids import parse_entities
from bids_sr.bids.entities import file_stem, run_number_order, short_run_name
from bids_sr.bids.inheritance import find_sidecars, merge_sidecars, parse_suffix
from bids_sr.frozen import frozen
from bids_sr.group.input_tables import TABLES, RunFilter, iter_func_folders
from bids_sr.group.run_names import run_columns, run_name
from bids_sr.io.atomic_files import read_json
from bids_sr.metrics.rows import MISSING
from bids_sr.series import THIN, parse_map_label

MapKey = tuple[str, str, float, str]
"""Contrast, series, FWHM (mm), statistic."""


BOLDREF = "boldref"
"""Space in the names of a participant's maps: the boldref of the first run."""


@frozen
class RunMaps:
    """Effect and t maps of one run, or combined maps of all runs of a participant.

    Attributes
    ----------
    participant : str
        Label of the participant, such as ``sub-01``.
    task, variant : str
        Task label, and the entities other than session, task and run; n/a if there are none.
    name : str
        Start of the file names of the maps.
    folder : Path
        Folder of the maps.
    maps : Mapping[str, Mapping[MapKey, str]]
        File names without the participant label, which many runs share, by template space ("" for
        the space of the boldref) and key.
    mask, boldref : Path or None
        Images on the acquired grid; combined maps have the images of the first run.
    boldref2t1w : Path or None
        ITK file that maps T1w points to boldref points.
    t1w2std : Mapping[str, Path]
        Files that map template points to T1w points, by space.
    session : str
        Session label; n/a if there are no sessions, or for maps of all sessions.
    in_percent : bool
        Whether effects are already in percent of the mean brain signal.
    """

    participant: str
    task: str
    variant: str
    name: str
    folder: Path
    maps: Mapping[str, Mapping[MapKey, str]]
    mask: Path | None
    boldref: Path | None
    boldref2t1w: Path | None
    t1w2std: Mapping[str, Path]
    session: str = MISSING
    in_percent: bool = False

    @property
    def entities(self) -> dict[str, str]:
        """Entities of the run, long names to labels."""
        return parse_entities(self.folder / f"{self.name}_bold")

    def short_name(self, *, over_sessions: bool) -> str:
        """Return the name of the run among the runs of its task (`short_run_name`)."""
        return short_run_name(self.entities, over_sessions=over_sessions)

    def map_file(self, key: MapKey, space: str = "") -> Path | None:
        """Return the file of a map, or None if the map does not exist.

        Parameters
        ----------
        key : MapKey
            Contrast, series, FWHM (mm) and statistic.
        space : str
            Name of a template; "" for the space of the boldref.
        """
        ending = self.maps.get(space, {}).get(key)
        return None if ending is None else self.folder / f"{self.participant}{ending}"

    def map_keys(self) -> set[MapKey]:
        """Return the keys of all maps in any space."""
        return {key for space_maps in self.maps.values() for key in space_maps}

    def drop_contrasts(self, contrasts: Collection[str]) -> "RunMaps":
        """Return a copy without the maps of some contrasts."""
        maps = {
            space: {key: name for key, name in space_maps.items() if key[0] not in contrasts}
            for space, space_maps in self.maps.items()
        }
        return replace(self, maps=maps)

    def is_available_in(self, space: str) -> bool:
        """Return whether the maps are available or can be resampled in a template space.

        The brain mask and the boldref are also required, because effects are scaled by the mean
        brain signal.

        Parameters
        ----------
        space : str
            TemplateFlow name of the template, with the cohort after a plus sign.
        """
        has_transform = self.boldref2t1w is not None and space in self.t1w2std
        return (
            self.mask is not None
            and self.boldref is not None
            and (has_transform or space in self.maps)
        )


@frozen
class DerivativeMaps:
    """Maps in a derivatives folder (single runs, and combined maps), sorted by name.

    `outdated`: participant label (``sub-…``) and a sentence for each task with stored combined
    maps that no longer match the runs.
    """

    runs: Sequence[RunMaps] = ()
    combined: Sequence[RunMaps] = ()
    outdated: Sequence[tuple[str, str]] = ()


def find_maps(output_dir: Path, is_selected: RunFilter = lambda _: True) -> DerivativeMaps:
    """Find the effect maps of participants in a derivatives folder.

    A map of all runs has no run entity in its name, and a map of all sessions has no session
    entity. It is skipped if `is_selected` only accepts some runs or sessions, because it also
    contains the others, and if it does not match the runs in the folder: if a run is not included,
    for example because it was mapped later, if a run no longer exists, or if a run was mapped
    again with other settings.

    Parameters
    ----------
    output_dir : Path
        Derivatives folder.
    is_selected : RunFilter
        Filter of runs by their entities.
    """
    runs: list[RunMaps] = []
    combined: list[tuple[Path, Mapping[str, Mapping[MapKey, str]], dict[str, str]]] = []
    for folder, names in iter_func_folders(output_dir, "_statmap.nii.gz"):
        participant = names[0].partition("_")[0] if names else ""
        endings = tuple(name.removeprefix(participant) for name in names)
        for (run, is_combined), maps in _maps_named(endings).items():
            stem = folder / f"{participant}_{run}"
            if is_selected(entities := parse_entities(stem.with_name(f"{stem.name}_statmap"))):
                columns = run_columns(entities)
                if is_combined:
                    combined.append((stem, maps, columns))
                else:
                    runs.append(_run(stem, maps, columns))
    runs.sort(key=lambda run: run.name)
    combined_maps: list[RunMaps] = []
    outdated: list[tuple[str, str]] = []
    for stem, maps, columns in combined:
        of_task = [run for run in runs if _belongs_to(run, columns)]
        reasons = _outdated(output_dir, stem, maps, columns, of_task)
        current = {
            space: {key: name for key, name in paths_by_name.items() if key not in reasons}
            for space, paths_by_name in maps.items()
        }
        if reasons:
            outdated.append((columns["participant"], _outdated_text(stem, maps, reasons)))
        if current[""]:
            combined_maps.append(_make_combined_maps(output_dir, stem, current, columns, of_task))
    return DerivativeMaps(
        runs=runs,
        combined=sorted(combined_maps, key=lambda run_maps: run_maps.name),
        outdated=sorted(outdated),
    )


def find_runs(output_dir: Path, is_selected: RunFilter = lambda _: True) -> list[RunMaps]:
    """Find runs with effect maps in a derivatives folder, sorted by name.

    Combined maps of several runs are not included. For the parameters, see `find_maps`.
    """
    return list(find_maps(output_dir, is_selected).runs)


@lru_cache(maxsize=1024)
def _maps_named(
    endings: tuple[str, ...],
) -> Mapping[tuple[str, bool], Mapping[str, Mapping[MapKey, str]]]:
    """Sort the file names of a folder, without participant labels, by run, space and key.

    File names of participants only differ in their labels, so that thousands of participants share
    one cached result. The second part of a run's key is True for combined maps of several runs.
    Only combined maps have the space of their boldref in their names.
    """
    by_run: dict[str, dict[str, dict[MapKey, str]]] = defaultdict(lambda: defaultdict(dict))
    for ending in endings:
        entities = parse_entities(Path(ending))
        # maps in T1w space are in individual anatomy, and few participants have thin-slice maps
        if (
            entities["stat"] in ("effect", "t")
            and entities.get("space") != "T1w"
            and entities.get("res") != THIN
        ):
            space = "+".join(entities[key] for key in ("space", "cohort") if key in entities)
            label = parse_map_label(entities["desc"])
            key = (entities["contrast"], label.series, label.fwhm_mm, entities["stat"])
            by_run[run_name(entities)][space][key] = ending
    sorted_maps: dict[tuple[str, bool], dict[str, dict[MapKey, str]]] = {}
    for run, spaces in by_run.items():
        boldref_maps = spaces.pop(BOLDREF, None)
        if boldref_maps is not None:
            # without run entities there is a single run, and the template maps belong to it
            sorted_maps[run, True] = {**({} if "" in spaces else spaces), "": boldref_maps}
        if boldref_maps is None or "" in spaces:
            sorted_maps[run, False] = dict(spaces)
    return sorted_maps


def _run(
    stem: Path,
    maps: Mapping[str, Mapping[MapKey, str]],
    columns: Mapping[str, str],
    reference: Path | None = None,
    *,
    in_percent: bool = False,
) -> RunMaps:
    """Return maps with the files of their frame.

    Parameters
    ----------
    stem : Path
        Folder and common start of the file names of the maps.
    maps : Mapping[str, Mapping[MapKey, str]]
        Maps by space and key.
    columns : Mapping[str, str]
        Cells of `run_columns`.
    reference : Path or None
        Stem of the run that defines the frame; None for the run itself.
    in_percent : bool
        Whether effects are already in percent of the mean brain signal.
    """
    frame = reference or stem
    mask, brain_mask, boldref, coreg = (
        path if (path := frame.with_name(f"{frame.name}_{name}")).exists() else None
        for name in (
            "desc-rawBrain_mask.nii.gz",
            "desc-brain_mask.nii.gz",
            "desc-hmc_boldref.nii.gz",
            "from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt",
        )
    )
    subject = next(parent for parent in stem.parents if parent.name == columns["participant"])
    return RunMaps(
        participant=columns["participant"],
        task=columns["task"],
        variant=columns["variant"],
        name=stem.name,
        folder=stem.parent,
        maps=maps,
        mask=mask or brain_mask,
        boldref=boldref,
        boldref2t1w=coreg,
        t1w2std=_normalizations(subject, frame.parent.parent),
        session=columns["session"],
        in_percent=in_percent,
    )


def _make_combined_maps(
    output_dir: Path,
    stem: Path,
    maps: Mapping[str, Mapping[MapKey, str]],
    columns: Mapping[str, str],
    runs: Sequence[RunMaps],
) -> RunMaps:
    """Return combined maps of several runs in the frame that their sidecar specifies.

    `runs` are the runs of the participant and task; if the sidecar does not specify a boldref, the
    first of them defines the frame.
    """
    sidecar = _sidecar(output_dir, stem.parent / f"{columns['participant']}{_effect_name(maps)}")
    reference_path = str(sidecar.get("SpatialReference", ""))
    boldref = output_dir / reference_path.removeprefix("bids::")
    reference = boldref.with_name(boldref.name.removesuffix("_desc-hmc_boldref.nii.gz"))
    if not reference_path.startswith("bids::") or reference.name == boldref.name:
        first = next(iter(sort_runs(runs)), None)
        reference = stem if first is None else first.folder / first.name
    return _run(stem, maps, columns, reference, in_percent=sidecar.get("Units") == "percent")


def _outdated(
    output_dir: Path,
    stem: Path,
    maps: Mapping[str, Mapping[MapKey, str]],
    columns: Mapping[str, str],
    runs: Sequence[RunMaps],
) -> dict[MapKey, str]:
    """Return why stored combined maps do not match the runs, by map.

    `runs` are the runs of the participant and task. Without runs, for example because only
    combined maps were kept, maps cannot be compared. For the other parameters, see `_run`.
    """
    over_sessions = columns["session"] == MISSING
    by_name = {run.short_name(over_sessions=over_sessions): run for run in sort_runs(runs)}
    digests = {name: _digests(run) for name, run in by_name.items()}
    reasons = {}
    for key, ending in maps[""].items() if by_name else ():
        metadata = _combination_metadata(
            output_dir, stem.parent / f"{columns['participant']}{ending}"
        )
        weights, left_out = metadata.get("RunWeights"), metadata.get("RunsLeftOut", {})
        if not isinstance(weights, Mapping) or not isinstance(left_out, Mapping):
            continue
        digest = str(metadata.get("SettingsDigest", ""))
        changes = {
            "no longer exists": [name for name in weights if name not in by_name],
            "is not included": [
                name for name in by_name if name not in weights and name not in left_out
            ],
            "was mapped again with other settings": [
                name
                for name in weights
                if digest and digests.get(name) and digest not in digests[name]
            ],
        }
        texts = [
            f"{name} {change}" for change, names in changes.items() for name in map(str, names)
        ]
        if texts:
            reasons[key] = ", ".join(texts)
    return reasons


def _combination_metadata(root: Path, image: Path) -> dict[str, object]:
    """Return the metadata of a combined map, with weights and digest.

    They are in the sidecar next to the map. Sidecars that apply by inheritance are only read if
    the weights are not there, because finding them requires a listing of the folder for every map.
    """
    sidecar = read_json(image.with_name(f"{file_stem(image)}_{parse_suffix(image)}.json"))
    return sidecar if "RunWeights" in sidecar else _sidecar(root, image)


def _digests(run: RunMaps) -> set[str]:
    """Return the hashes of the settings in the sidecars of a run's metrics tables."""
    digests = set()
    for table in TABLES:
        path = run.folder / f"{run.name}_desc-{table}_metrics.json"
        if path.exists():
            digests.add(str(read_json(path).get("SettingsDigest", "")))
    return digests - {""}


def _outdated_text(
    stem: Path, maps: Mapping[str, Mapping[MapKey, str]], reasons: Mapping[MapKey, str]
) -> str:
    """Return a sentence on stored combined maps that do not match the runs."""
    contrasts = sorted({key[0] for key in reasons})
    is_part = len(reasons) < len(maps[""])
    contrast_text = f" of {', '.join(contrasts)}" if is_part else ""
    causes = "; ".join(dict.fromkeys(reasons.values()))
    return (
        f"{stem.name}: the stored maps of all runs{contrast_text} were not used, because they do"
        f" not match the runs in the output directory ({causes}). The maps of the existing runs"
        " were combined instead. Rerun the participant level to update the stored maps"
    )


def _effect_name(maps: Mapping[str, Mapping[MapKey, str]]) -> str:
    """Return the name of an effect map in boldref space, without the participant label."""
    return next(
        (name for key, name in maps[""].items() if key[3] == "effect"),
        next(iter(maps[""].values())),
    )


def _sidecar(root: Path, image: Path) -> dict[str, object]:
    return merge_sidecars(find_sidecars(image, root))


def sort_runs(runs: Sequence[RunMaps]) -> list[RunMaps]:
    """Return runs sorted by session and run number, ``run-10`` after ``run-2``."""

    def key(run: RunMaps) -> tuple[str, int, str]:
        return run.session, *run_number_order(run.entities)

    return sorted(runs, key=key)


def _belongs_to(run: RunMaps, columns: Mapping[str, str]) -> bool:
    """Return whether a run belongs to a map; `columns` are cells of `run_columns`."""
    matched = ("participant", "task", "variant")
    return all(getattr(run, name) == columns[name] for name in matched) and (
        columns["session"] in (MISSING, run.session)
    )


def _normalizations(subject: Path, session: Path) -> dict[str, Path]:
    """Return transforms to templates by space.

    Transforms of the run's session have priority over transforms without a session.
    """
    transforms: dict[str, Path] = {}
    folders = [session / "anat", subject / "anat", *sorted(subject.glob("ses-*/anat"))]
    for path in (path for folder in folders for path in sorted(folder.glob("*_xfm.h5"))):
        entities = parse_entities(path)
        if (entities.get("from"), entities.get("mode")) == ("T1w", "image"):
            transforms.setdefault(entities["to"], path)
    return transforms


@frozen
class ParticipantMaps:
    """Maps of one participant and task: maps per run, and stored maps of all runs.

    At least one of both exists.
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

    def origin(self, key: MapKey) -> Literal["stored", "computed", "single"]:
        """Return whether the participant's map is stored, computed, or the map of a single run."""
        if self.combined is not None and key in self.combined.map_keys():
            return "stored"
        n_runs = sum(key in run.map_keys() for run in self.runs)
        return "computed" if n_runs > 1 else "single"


def group_by_participant(
    collected: DerivativeMaps,
) -> dict[tuple[str, str], list[ParticipantMaps]]:
    """Group maps by task and variant, and by participant in the order of labels.

    Stored combined maps are only used if they contain all sessions of the participant.
    """
    runs: dict[tuple[str, str], dict[str, list[RunMaps]]] = {}
    combined_maps: dict[tuple[str, str], dict[str, list[RunMaps]]] = {}
    for groups, map_list in ((runs, collected.runs), (combined_maps, collected.combined)):
        for maps in map_list:
            task_groups = groups.setdefault((maps.task, maps.variant), {})
            task_groups.setdefault(maps.participant, []).append(maps)
    participants_by_task = {}
    for task in dict.fromkeys([*runs, *combined_maps]):
        run_maps, combined = runs.get(task, {}), combined_maps.get(task, {})
        participants = [
            ParticipantMaps(
                runs=run_maps.get(name, ()),
                combined=_of_all_sessions(run_maps.get(name, ()), combined.get(name, ())),
            )
            for name in sorted({*run_maps, *combined})
        ]
        participants_by_task[task] = [
            maps for maps in participants if maps.runs or maps.combined is not None
        ]
    return participants_by_task


def _of_all_sessions(runs: Sequence[RunMaps], combined: Sequence[RunMaps]) -> RunMaps | None:
    """Return the stored combined maps of all sessions of a participant, or None."""
    sessions = {maps.session for maps in (runs or combined)}
    usable = {MISSING, *(sessions if len(sessions) == 1 else ())}
    order = sorted(combined, key=lambda maps: maps.session != MISSING)
    return next((maps for maps in order if maps.session in usable), None)


def exclude_contrasts(
    output_dir: Path, collected: DerivativeMaps, unequal: Mapping[str, Collection[str]]
) -> DerivativeMaps:
    """Exclude contrasts whose weights differ from the weights in most participants.

    A contrast is removed from a combined map if a run with other weights is among the sources of
    the map, or if the sidecar does not list sources. The remaining runs are then combined again.

    Parameters
    ----------
    output_dir : Path
        Derivatives folder.
    collected : DerivativeMaps
        Maps in the folder.
    unequal : Mapping[str, Collection[str]]
        Contrasts by run name, from `bids_sr.group.equal_contrasts.unequal_contrasts`.
    """
    combined = []
    for maps in collected.combined:
        columns = {name: getattr(maps, name) for name in ("participant", "task", "variant")}
        source_runs = [
            run for run in collected.runs if _belongs_to(run, {**columns, "session": maps.session})
        ]
        unequal_names = {name for run in source_runs for name in unequal.get(run.name, ())}
        dropped = {
            name for name in unequal_names if _is_made_from(output_dir, maps, name, unequal)
        }
        combined.append(maps.drop_contrasts(dropped))
    runs = [run.drop_contrasts(unequal.get(run.name, ())) for run in collected.runs]
    return replace(collected, runs=runs, combined=combined)


def _is_made_from(
    output_dir: Path, maps: RunMaps, contrast: str, unequal: Mapping[str, Collection[str]]
) -> bool:
    """Return whether a run with other weights of a contrast is among the sources of a map."""
    key = next((key for key in maps.maps[""] if (key[0], key[3]) == (contrast, "effect")), None)
    path = None if key is None else maps.map_file(key)
    sources = [] if path is None else _sidecar(output_dir, path).get("Sources", [])
    names = [Path(str(uri)).name for uri in sources] if isinstance(sources, list) else []
    unequal_runs = [name for name, contrasts in unequal.items() if contrast in contrasts]
    return not names or any(name.startswith(f"{run}_") for name in names for run in unequal_runs)


def common_space(runs: Sequence[RunMaps]) -> str | None:
    """Return the space that is available for most participants, or None if there is none.

    Ties are resolved by name.
    """
    counts = Counter(
        space
        for _, space in {
            (run.participant, space)
            for run in runs
            for space in {*run.t1w2std, *run.maps} - {""}
            if run.is_available_in(space)
        }
    )
    return min(counts, key=lambda space: (-counts[space], space)) if counts else None


def first_smoothing(runs: Sequence[RunMaps]) -> float | None:
    """Return the smallest nonzero smoothing (mm) of the maps.

    Returns
    -------
    float or None
        0 if all maps are unsmoothed, None if there are no maps.
    """
    widths = {key[2] for run in runs for key in run.map_keys()}
    nonzero = [width for width in widths if width > 0]
    return min(nonzero) if nonzero else min(widths, default=None)
