"""Effect maps of participants' runs, with their transforms to templates."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from bids_sr.bids import entities_of
from bids_sr.frozen import frozen
from bids_sr.group.input_tables import RunFilter, func_files, run_columns, run_name
from bids_sr.series import parse_map_label

MapKey = tuple[str, str, float, str]
"""Contrast, series, FWHM (mm), statistic."""


@frozen
class RunMaps:
    """The maps of one run.

    `task`, `variant`: label of the task, and entities besides session, task and run; n/a for none.
    `maps`: by space of a template (empty: that of the boldref) and key, the name of a map without
    the participant, as many runs share it. `mask`, `boldref`: on the acquired grid. `boldref2t1w`:
    ITK file that takes a T1w point to its boldref point, or None. `t1w2std`: file that takes a
    template point to its T1w point, by space.
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


def find_runs(output_dir: Path, asked: RunFilter = lambda _: True) -> list[RunMaps]:
    """Find runs with effect maps in a derivatives folder, sorted by name.

    The parameters are those of `find_tables`.
    """
    runs = []
    for folder, names in func_files(output_dir, "_statmap.nii.gz"):
        whose = names[0].partition("_")[0] if names else ""
        endings = tuple(name.removeprefix(whose) for name in names)
        for run, maps in _maps_named(endings).items():
            stem = folder / f"{whose}_{run}"
            if asked(entities := entities_of(stem.with_name(f"{stem.name}_statmap"))):
                runs.append(_run(stem, maps, run_columns(entities)))
    return sorted(runs, key=lambda run: run.name)


@lru_cache(maxsize=1024)
def _maps_named(endings: tuple[str, ...]) -> Mapping[str, Mapping[str, Mapping[MapKey, str]]]:
    """Maps by run, space and key, from the names of a folder without their participant.

    Participants have the same names but for their label, so that thousands share one answer.
    """
    by_run: dict[str, dict[str, dict[MapKey, str]]] = defaultdict(lambda: defaultdict(dict))
    for ending in endings:
        entities = entities_of(Path(ending))
        # which is of one head alone
        if entities["stat"] in ("effect", "t") and entities.get("space") != "T1w":
            space = "+".join(entities[key] for key in ("space", "cohort") if key in entities)
            label = parse_map_label(entities["desc"])
            key = (entities["contrast"], label.series, label.fwhm_mm, entities["stat"])
            by_run[run_name(entities)][space][key] = ending
    return {run: dict(spaces) for run, spaces in by_run.items()}


def _run(
    stem: Path, maps: Mapping[str, Mapping[MapKey, str]], columns: Mapping[str, str]
) -> RunMaps:
    mask, before, boldref, coreg = (
        path if (path := stem.with_name(f"{stem.name}_{name}")).exists() else None
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
        t1w2std=_normalizations(subject, stem.parent.parent),
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
