"""The maps of all participants that a group analysis needs, and the way of each run to the template; names only."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bids_sr.frozen import frozen
from bids_sr.series import parse_map_label
from bids_sr.stats.group.metric_tables import entities_of

_STATMAP = re.compile(
    r"(?P<run>.+?)(?:_space-(?P<space>[A-Za-z0-9]+))?(?:_cohort-(?P<cohort>[A-Za-z0-9]+))?(?:_res-[A-Za-z0-9]+)?"
    r"_contrast-(?P<contrast>[A-Za-z0-9]+)_stat-(?P<stat>effect|t)_desc-(?P<desc>[A-Za-z0-9]+)_statmap\.nii\.gz"
)
_XFM = re.compile(r".+_from-T1w_to-(?P<space>[A-Za-z0-9+]+)_mode-image_xfm\.h5")
MapKey = tuple[str, str, float, str]
"""Contrast, series, FWHM (mm), statistic."""


@frozen
class RunMaps:
    """The maps of one run."""

    participant: str  # of the run; variant holds the entities besides session, task and run
    task: str
    variant: str
    name: str  # start of the names of its files
    native: Mapping[MapKey, Path]  # map file on a grid in boldref's space, by key
    in_space: Mapping[str, Mapping[MapKey, Path]]  # the same in a template's space, by space and key
    mask: Path | None  # brain and mean image on the acquired grid, or None
    boldref: Path | None
    boldref2t1w: Path | None  # ITK file that takes a T1w point to its boldref point, or None
    t1w2std: Mapping[str, Path]  # file that takes a template point to its T1w point, by space

    def reaches(self, space: str) -> bool:
        """Whether the maps can be had in a template's space, and their scale is known."""
        by_transform = self.boldref2t1w is not None and space in self.t1w2std
        return self.mask is not None and self.boldref is not None and (by_transform or space in self.in_space)


def find_runs(output_dir: Path, wanted: Callable[[Mapping[str, str]], bool] = lambda _: True) -> list[RunMaps]:
    """Runs with effect maps below a folder of derivatives, in the order of their names.

    Parameters
    ----------
    wanted : told the entities of a run (short names), whether it takes part
    """
    found = []
    for folder, names in _func_folders(output_dir):
        native: dict[str, dict[MapKey, Path]] = {}
        in_space: dict[str, dict[str, dict[MapKey, Path]]] = {}
        for name in names:
            match = _STATMAP.fullmatch(name) if name.endswith("_statmap.nii.gz") else None
            if match is None:
                continue
            series, fwhm, _ = parse_map_label(match["desc"])
            key = (match["contrast"], series, fwhm, match["stat"])
            if match["space"] == "T1w":
                continue  # of one head alone
            if match["space"]:
                space = "+".join(filter(None, (match["space"], match["cohort"])))
                in_space.setdefault(match["run"], {}).setdefault(space, {})[key] = folder / name
            else:
                native.setdefault(match["run"], {})[key] = folder / name
        for run in sorted({*native, *in_space}):
            entities = entities_of(run)
            if wanted(entities):
                found.append(_run(folder / run, entities, native.get(run, {}), in_space.get(run, {})))
    return sorted(found, key=lambda run: run.name)


def _func_folders(output_dir: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders ``func`` of all participants and their names; matching paths by pattern takes many times as long."""
    for participant in output_dir.glob("sub-*"):
        for place, _, names in os.walk(participant):
            if os.path.basename(place) == "func":
                yield Path(place), sorted(names)


def _run(
    run: Path, entities: dict[str, str], native: Mapping[MapKey, Path], in_space: Mapping[str, Mapping[MapKey, Path]]
) -> RunMaps:
    names = (
        "desc-rawBrain_mask.nii.gz",
        "desc-hmc_boldref.nii.gz",
        "from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt",
    )
    mask, boldref, coreg = (run.with_name(f"{run.name}_{name}") for name in names)
    if not mask.exists():
        mask = run.with_name(f"{run.name}_desc-brain_mask.nii.gz")  # its name before
    rest = [f"{key}-{value}" for key, value in entities.items() if key not in ("sub", "ses", "task", "run")]
    subject = next(parent for parent in run.parents if parent.name == f"sub-{entities['sub']}")
    return RunMaps(
        participant=f"sub-{entities['sub']}",
        task=entities.get("task", "n/a"),
        variant="_".join(rest) or "n/a",
        name=run.name,
        native=native,
        in_space=in_space,
        mask=mask if mask.exists() else None,
        boldref=boldref if boldref.exists() else None,
        boldref2t1w=coreg if coreg.exists() else None,
        t1w2std=_normalizations(subject, run.parent.parent),
    )


def _normalizations(subject: Path, session: Path) -> dict[str, Path]:
    """Transforms to templates by space; those of the run's own session come first, then those of no session."""
    found: dict[str, Path] = {}
    places = [*sorted((session / "anat").glob("*_xfm.h5")), *sorted((subject / "anat").glob("*_xfm.h5"))]
    for path in [*places, *sorted(subject.glob("ses-*/anat/*_xfm.h5"))]:
        match = _XFM.fullmatch(path.name)
        if match:
            found.setdefault(match["space"], path)
    return found


def common_space(runs: Sequence[RunMaps]) -> str | None:
    """The space that most participants reach; of several, the first by name. None where nobody reaches any."""
    reached: Counter[str] = Counter()
    for participant in {run.participant for run in runs}:
        own = [run for run in runs if run.participant == participant]
        reached.update({space for run in own for space in (*run.t1w2std, *run.in_space) if run.reaches(space)})
    return min(reached, key=lambda space: (-reached[space], space)) if reached else None


def first_smoothing(runs: Sequence[RunMaps]) -> float | None:
    """The smallest smoothing above 0 (mm) that the maps have, 0 where there is none other; None without maps."""
    widths = {key[2] for run in runs for maps in (run.native, *run.in_space.values()) for key in maps}
    above = [width for width in widths if width > 0]
    return min(above) if above else min(widths, default=None)
