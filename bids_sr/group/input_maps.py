"""Effect maps of participants' runs, and of all runs together, with transforms to templates."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from bids_sr.bids import entities_of
from bids_sr.bids.inheritance import merged, sidecars_on_disk
from bids_sr.frozen import frozen
from bids_sr.group.input_tables import RunFilter, func_files, run_columns, run_name
from bids_sr.metrics.rows import MISSING
from bids_sr.series import THIN, parse_map_label

MapKey = tuple[str, str, float, str]
"""Contrast, series, FWHM (mm), statistic."""


_SHORT = {"session": "ses", "run": "run"}
BOLDREF = "boldref"
"""Space in the names of a participant's maps: the boldref of the first run."""


@frozen
class RunMaps:
    """The maps of one run, or of all runs of a participant together.

    `task`, `variant`: label of the task, and entities besides session, task and run; n/a for none.
    `maps`: by space of a template (empty: that of the boldref) and key, the name of a map without
    the participant, as many runs share it. `mask`, `boldref`: on the acquired grid; of the first
    run in maps of all runs. `boldref2t1w`: ITK file that takes a T1w point to its boldref point,
    or None. `t1w2std`: file that takes a template point to its T1w point, by space.
    `session`: label of the session; n/a without sessions, and for maps of all sessions.
    `in_percent`: whether effects are already in percent of the mean brain signal.
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

    def map_file(self, key: MapKey, space: str = "") -> Path | None:
        """Return the file of a map, or None.

        `key`: contrast, series, FWHM (mm) and statistic. `space`: name of a template; empty for
        the space of the boldref.
        """
        ending = self.maps.get(space, {}).get(key)
        return None if ending is None else self.folder / f"{self.participant}{ending}"

    def map_keys(self) -> set[MapKey]:
        """Return the keys of all its maps, in any space.

        Contrast, series, FWHM (mm) and statistic of each.
        """
        return {key for own in self.maps.values() for key in own}

    def without(self, contrasts: Collection[str]) -> "RunMaps":
        """Return the run without the maps of some contrasts."""
        maps = {
            space: {key: name for key, name in of_space.items() if key[0] not in contrasts}
            for space, of_space in self.maps.items()
        }
        return replace(self, maps=maps)

    def reaches(self, space: str) -> bool:
        """Whether the maps can be had in a template's space, and their scale is known.

        `space`: name of the template as in TemplateFlow, cohort after a plus sign. False also
        where the brain mask or boldref is missing.
        """
        by_transform = self.boldref2t1w is not None and space in self.t1w2std
        return (
            self.mask is not None
            and self.boldref is not None
            and (by_transform or space in self.maps)
        )


@frozen
class FoundMaps:
    """Maps in a derivatives folder, sorted by name: of runs, and of all runs of a participant."""

    runs: Sequence[RunMaps] = ()
    combined: Sequence[RunMaps] = ()


def find_maps(output_dir: Path, asked: RunFilter = lambda _: True) -> FoundMaps:
    """Find the effect maps of participants in a derivatives folder.

    The parameters are those of `find_tables`. A participant's map of all runs has no run in its
    name, and one of all sessions no session. It is skipped if `asked` selects only some runs or
    sessions, because it contains the other ones too, and if it neither contains a run that was
    mapped later nor names it among the runs that were left out.
    """
    runs: list[RunMaps] = []
    combined: list[tuple[Path, Mapping[str, Mapping[MapKey, str]], dict[str, str]]] = []
    for folder, names in func_files(output_dir, "_statmap.nii.gz"):
        whose = names[0].partition("_")[0] if names else ""
        endings = tuple(name.removeprefix(whose) for name in names)
        for (run, of_runs), maps in _maps_named(endings).items():
            stem = folder / f"{whose}_{run}"
            if asked(entities := entities_of(stem.with_name(f"{stem.name}_statmap"))):
                columns = run_columns(entities)
                if of_runs:
                    combined.append((stem, maps, columns))
                else:
                    runs.append(_run(stem, maps, columns))
    runs.sort(key=lambda run: run.name)
    stored = [_combined(output_dir, *found, runs) for found in combined]
    together = [known for known in stored if known is not None]
    return FoundMaps(runs=runs, combined=sorted(together, key=lambda maps: maps.name))


def find_runs(output_dir: Path, asked: RunFilter = lambda _: True) -> list[RunMaps]:
    """Find runs with effect maps in a derivatives folder, sorted by name.

    The parameters are those of `find_tables`. Maps of several runs together are no run.
    """
    return list(find_maps(output_dir, asked).runs)


@lru_cache(maxsize=1024)
def _maps_named(
    endings: tuple[str, ...],
) -> Mapping[tuple[str, bool], Mapping[str, Mapping[MapKey, str]]]:
    """Return maps by run, space and key, from the names of a folder without their participant.

    Participants have the same names but for their label, so that thousands share one result.
    The second part of the key of a run is whether the maps are of several runs together. Only
    these name the space of their boldref.
    """
    by_run: dict[str, dict[str, dict[MapKey, str]]] = defaultdict(lambda: defaultdict(dict))
    for ending in endings:
        entities = entities_of(Path(ending))
        # maps in T1w space are of one head only, and few participants have maps on thin slices
        if (
            entities["stat"] in ("effect", "t")
            and entities.get("space") != "T1w"
            and entities.get("res") != THIN
        ):
            space = "+".join(entities[key] for key in ("space", "cohort") if key in entities)
            label = parse_map_label(entities["desc"])
            key = (entities["contrast"], label.series, label.fwhm_mm, entities["stat"])
            by_run[run_name(entities)][space][key] = ending
    out: dict[tuple[str, bool], dict[str, dict[MapKey, str]]] = {}
    for run, spaces in by_run.items():
        together = spaces.pop(BOLDREF, None)
        if together is not None:
            # beside a run without a number nothing is combined, so that templates are its own
            out[run, True] = {**({} if "" in spaces else spaces), "": together}
        if together is None or "" in spaces:
            out[run, False] = dict(spaces)
    return out


def _run(
    stem: Path,
    maps: Mapping[str, Mapping[MapKey, str]],
    columns: Mapping[str, str],
    reference: Path | None = None,
    *,
    in_percent: bool = False,
) -> RunMaps:
    """Return maps with their files.

    `stem`: folder and start of the names of the maps. `reference`: `stem` of the run in whose
    frame they are; None: the same.
    """
    frame = reference or stem
    mask, before, boldref, coreg = (
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
        mask=mask or before,
        boldref=boldref,
        boldref2t1w=coreg,
        t1w2std=_normalizations(subject, frame.parent.parent),
        session=columns["session"],
        in_percent=in_percent,
    )


def _combined(
    output_dir: Path,
    stem: Path,
    maps: Mapping[str, Mapping[MapKey, str]],
    columns: Mapping[str, str],
    runs: Sequence[RunMaps],
) -> RunMaps | None:
    """Return maps of several runs together, in the frame that a sidecar names; None if outdated.

    `runs`: all runs; the first of the participant's is the frame if no sidecar names one.
    """
    about = _sidecar(output_dir, stem.parent / f"{columns['participant']}{_effect_name(maps)}")
    of_task = [run for run in runs if _is_of(run, columns)]
    if not _names_every_run(about, of_task, over_sessions=columns["session"] == MISSING):
        return None
    named = str(about.get("SpatialReference", ""))
    boldref = output_dir / named.removeprefix("bids::")
    reference = boldref.with_name(boldref.name.removesuffix("_desc-hmc_boldref.nii.gz"))
    if not named.startswith("bids::") or reference.name == boldref.name:
        first = next(iter(in_order(of_task)), None)
        reference = stem if first is None else first.folder / first.name
    return _run(stem, maps, columns, reference, in_percent=about.get("Units") == "percent")


def _names_every_run(
    about: Mapping[str, object], runs: Sequence[RunMaps], *, over_sessions: bool
) -> bool:
    """Return whether a map of all runs contains every run, or names it as left out.

    `about`: its sidecar; True if it does not list runs. `runs`: runs of the participant and task.
    """
    weights, left_out = about.get("RunWeights"), about.get("RunsLeftOut", {})
    if not isinstance(weights, Mapping) or not isinstance(left_out, Mapping):
        return True
    keys = ("session", "run") if over_sessions else ("run",)
    for run in runs:
        entities = entities_of(run.folder / f"{run.name}_bold")
        parts = [f"{_SHORT[key]}-{entities[key]}" for key in keys if key in entities]
        if ("_".join(parts) or "no run-") not in {*weights, *left_out}:
            return False
    return True


def _effect_name(maps: Mapping[str, Mapping[MapKey, str]]) -> str:
    """Return the name of an effect map in the space of the boldref, without its participant."""
    return next(
        (name for key, name in maps[""].items() if key[3] == "effect"),
        next(iter(maps[""].values())),
    )


def _sidecar(root: Path, image: Path) -> dict[str, object]:
    return merged(sidecars_on_disk(image, root))


def in_order(runs: Sequence[RunMaps]) -> list[RunMaps]:
    """Return runs by session and number, so that ``run-10`` comes after ``run-2``."""

    def key(run: RunMaps) -> tuple[str, int, str]:
        label = entities_of(run.folder / f"{run.name}_bold").get("run", "")
        return run.session, int(label) if label.isdigit() else 0, label

    return sorted(runs, key=key)


def _is_of(run: RunMaps, columns: Mapping[str, str]) -> bool:
    """Return whether a run is among the runs of a map; `columns` as of `run_columns`."""
    same = ("participant", "task", "variant")
    return all(getattr(run, name) == columns[name] for name in same) and (
        columns["session"] in (MISSING, run.session)
    )


def _normalizations(subject: Path, session: Path) -> dict[str, Path]:
    """Return transforms to templates by space.

    Those of the run's own session come first, then those of no session.
    """
    transforms: dict[str, Path] = {}
    folders = [session / "anat", subject / "anat", *sorted(subject.glob("ses-*/anat"))]
    for path in (path for folder in folders for path in sorted(folder.glob("*_xfm.h5"))):
        entities = entities_of(path)
        if (entities.get("from"), entities.get("mode")) == ("T1w", "image"):
            transforms.setdefault(entities["to"], path)
    return transforms


@frozen
class ParticipantMaps:
    """Maps of one participant and task: of each run, and of all runs together if they are stored.

    There is at least one of both.
    """

    runs: Sequence[RunMaps] = ()
    combined: RunMaps | None = None

    @property
    def participant(self) -> str:
        """Label of the participant, such as ``sub-01``."""
        return next(maps.participant for maps in (self.combined, *self.runs) if maps is not None)

    def map_keys(self) -> set[MapKey]:
        """Return the keys of all maps, in any space."""
        every = [*self.runs, *([] if self.combined is None else [self.combined])]
        return {key for maps in every for key in maps.map_keys()}

    def origin(self, key: MapKey) -> Literal["stored", "computed", "single"]:
        """Return whether a map of all runs is stored or computed, or is the map of one run."""
        if self.combined is not None and key in self.combined.map_keys():
            return "stored"
        n_runs = sum(key in run.map_keys() for run in self.runs)
        return "computed" if n_runs > 1 else "single"


def by_participant(found: FoundMaps) -> dict[tuple[str, str], list[ParticipantMaps]]:
    """Return the maps of participants, sorted by label, by task and variant.

    Stored maps of several runs are the participant's only if they are of all of its sessions.
    """
    runs: dict[tuple[str, str], dict[str, list[RunMaps]]] = {}
    together: dict[tuple[str, str], dict[str, list[RunMaps]]] = {}
    for groups, every in ((runs, found.runs), (together, found.combined)):
        for maps in every:
            of_task = groups.setdefault((maps.task, maps.variant), {})
            of_task.setdefault(maps.participant, []).append(maps)
    out = {}
    for task in dict.fromkeys([*runs, *together]):
        of_runs, combined = runs.get(task, {}), together.get(task, {})
        people = [
            ParticipantMaps(
                runs=of_runs.get(name, ()),
                combined=_of_all_sessions(of_runs.get(name, ()), combined.get(name, ())),
            )
            for name in sorted({*of_runs, *combined})
        ]
        out[task] = [maps for maps in people if maps.runs or maps.combined is not None]
    return out


def _of_all_sessions(runs: Sequence[RunMaps], combined: Sequence[RunMaps]) -> RunMaps | None:
    """Return the stored map of all runs of a participant, or None."""
    sessions = {maps.session for maps in (runs or combined)}
    usable = {MISSING, *(sessions if len(sessions) == 1 else ())}
    order = sorted(combined, key=lambda maps: maps.session != MISSING)
    return next((maps for maps in order if maps.session in usable), None)


def without_contrasts(
    output_dir: Path, found: FoundMaps, unequal: Mapping[str, Collection[str]]
) -> FoundMaps:
    """Return maps without contrasts whose weights differ from most participants'.

    Maps of several runs together lose a contrast if such a run is among their sources, or if their
    sidecar lists no sources. The other runs are then combined without it.

    Parameters
    ----------
    output_dir : Path
        Folder of the derivatives.
    found : FoundMaps
        Maps in it.
    unequal : Mapping[str, Collection[str]]
        Names of contrasts by the name of the run, as of
        `bids_sr.group.equal_contrasts.unequal_contrasts`.
    """
    combined = []
    for maps in found.combined:
        columns = {name: getattr(maps, name) for name in ("participant", "task", "variant")}
        of_runs = [run for run in found.runs if _is_of(run, {**columns, "session": maps.session})]
        doubtful = {name for run in of_runs for name in unequal.get(run.name, ())}
        dropped = {name for name in doubtful if _is_made_from(output_dir, maps, name, unequal)}
        combined.append(maps.without(dropped))
    runs = [run.without(unequal.get(run.name, ())) for run in found.runs]
    return FoundMaps(runs=runs, combined=combined)


def _is_made_from(
    output_dir: Path, maps: RunMaps, contrast: str, unequal: Mapping[str, Collection[str]]
) -> bool:
    """Return whether a run with other weights of a contrast is among the sources of a map."""
    key = next((key for key in maps.maps[""] if (key[0], key[3]) == (contrast, "effect")), None)
    path = None if key is None else maps.map_file(key)
    sources = [] if path is None else _sidecar(output_dir, path).get("Sources", [])
    names = [Path(str(uri)).name for uri in sources] if isinstance(sources, list) else []
    of_runs = [name for name, contrasts in unequal.items() if contrast in contrasts]
    return not names or any(name.startswith(f"{run}_") for name in names for run in of_runs)


def common_space(runs: Sequence[RunMaps]) -> str | None:
    """Return the space available for most participants, or None.

    Of several, the first by name is taken. None means that no participant has any.
    """
    reached = Counter(
        space
        for _, space in {
            (run.participant, space)
            for run in runs
            for space in {*run.t1w2std, *run.maps} - {""}
            if run.reaches(space)
        }
    )
    return min(reached, key=lambda space: (-reached[space], space)) if reached else None


def first_smoothing(runs: Sequence[RunMaps]) -> float | None:
    """Return the smallest nonzero smoothing (mm) of the maps.

    It is 0 where the maps have no other, and None without maps.
    """
    widths = {key[2] for run in runs for key in run.map_keys()}
    above = [width for width in widths if width > 0]
    return min(above) if above else min(widths, default=None)
