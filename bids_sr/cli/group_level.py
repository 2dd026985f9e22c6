"""The group level: from the participants' tables and maps in the output folder to statistics and one page.

No image of the data set is read; of ``bids_dir`` only the names of participants and runs are asked.
"""

import csv
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bids_sr.config import Settings, UsageError
from bids_sr.config.superres import SuperRes
from bids_sr.io.atomic_files import whole_file, write_json, write_whole
from bids_sr.series import BASELINES, MEASURED, RAW
from bids_sr.sr.method import offered_methods
from bids_sr.stats.group import group_tests, group_text, metric_tables
from bids_sr.stats.group.metric_tables import Joined, Source
from bids_sr.version import __version__

if TYPE_CHECKING:
    from bids_sr.execution.execute import RunOutcome
    from bids_sr.group.group_inputs import RunMaps
    from bids_sr.group.group_maps import GroupMaps
    from bids_sr.reports.group_report import MapFigure

LOGGER = logging.getLogger(__name__)
COLUMNS_OF = "_columns"
"""Between the name of a table and ``.json``: as ``group_metrics.json``, participants' metrics would inherit it."""
RUN_PARTICIPANTS = "run the participant level first; partial results are enough"


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """What the group level works on: tables and maps of the runs asked for, who has any, who and what is missing."""

    sources: tuple[Source, ...]
    participants: tuple[str, ...]
    absent: tuple[str, ...]
    runs: "tuple[RunMaps, ...]" = ()  # with the maps that there are


def prepare(settings: Settings) -> Group:
    """Find the tables; raises `UsageError` for none, one participant, or those of other versions or settings."""
    output_dir, bids_dir = settings.paths.output_dir, settings.paths.bids_dir
    if not bids_dir.is_dir():
        raise UsageError(
            f"{bids_dir} is not a folder", "its list of participants shows who is missing", "check the path"
        )
    from bids_sr.group.group_inputs import find_runs

    chosen = _chooser(settings)
    sources = metric_tables.find_sources(output_dir, lambda s: chosen(s.participant, s.session, s.task, s.run))
    if not sources:
        why = "the group level combines these tables"
        raise UsageError(f"no tables of metrics in {output_dir}", why, RUN_PARTICIPANTS)
    if lines := metric_tables.mixed(sources):
        what = "\n  ".join(["metrics of different versions or settings cannot be combined", *lines])
        why = "; ".join(_what_differs(sources, output_dir)) or "their values are not comparable"
        fix = "run the participant level again for those, with one version and the same settings; --force does not help"
        raise UsageError(what, why, fix)
    people = tuple(dict.fromkeys(source.participant for source in sources))
    expected = expected_participants(settings)
    absent = metric_tables.absent(expected, sources)
    absent += metric_tables.absent_runs(expected_runs(bids_dir, chosen), sources)
    if not expected:
        absent.append(f"missing participants cannot be identified: {bids_dir} lists no participants")
    if len(people) < 2:
        what = "\n  ".join([f"one participant ({people[0]}) at the group level", *absent])
        why = "statistics over participants need at least two"
        raise UsageError(what, why, "run the participant level for more of them")
    runs = find_runs(
        output_dir, lambda own: chosen(f"sub-{own['sub']}", *(own.get(k, "") for k in ("ses", "task", "run")))
    )
    absent = _with_crashes(absent, output_dir)
    return Group(sources=tuple(sources), participants=people, absent=tuple(absent), runs=tuple(runs))


def _chooser(settings: Settings) -> Callable[[str, str, str, str], bool]:
    """Whether a run (participant, session, task, run) was asked for."""
    selection = settings.selection
    asked = (selection.participant_label, selection.session_label, selection.task_id, [*map(str, selection.run_id)])

    def chosen(participant: str, session: str, task: str, run: str) -> bool:
        labels = (participant.removeprefix("sub-"), session, task, run.lstrip("0") or run)
        return all(not wanted or label in wanted for wanted, label in zip(asked, labels, strict=True))

    return chosen


def expected_participants(settings: Settings) -> list[str]:
    """Participants that were asked for, else those of ``participants.tsv`` and the folders of the data set."""
    if settings.selection.participant_label:
        return [f"sub-{label}" for label in settings.selection.participant_label]
    bids_dir = settings.paths.bids_dir
    found = {path.name for path in bids_dir.glob("sub-*") if path.is_dir()}
    listing = bids_dir / "participants.tsv"
    if listing.exists():
        with listing.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
        names = [row.get("participant_id") for row in rows]
        found |= {f"sub-{name.strip().removeprefix('sub-')}" for name in names if name and name.strip()}
    return sorted(found)


def expected_runs(bids_dir: Path, chosen: Callable[[str, str, str, str], bool]) -> list[str]:
    """Runs of the data set that were asked for, by the names of their series without suffix."""
    found = []
    for folder in ("sub-*/func", "sub-*/ses-*/func"):
        for path in sorted(bids_dir.glob(f"{folder}/*_bold.nii*")):
            stem = path.name.rpartition("_bold.nii")[0]
            labels = dict(part.split("-", 1) for part in stem.split("_") if "-" in part)
            if chosen(f"sub-{labels.get('sub', '')}", *(labels.get(key, "") for key in ("ses", "task", "run"))):
                found.append(stem)
    return found


def _what_differs(sources: Sequence[Source], output_dir: Path) -> list[str]:
    """Settings in which the runs that made the tables differ, as far as their logs tell."""
    from bids_sr.config.settings import analysis_digest, differing

    wanted = {source.digest for source in sources if source.digest}
    known: dict[str, Settings] = {}
    for path in sorted(output_dir.glob("logs/*/settings.toml")):
        try:
            settings = Settings.from_toml(path)
        except UsageError as error:
            LOGGER.info("settings of an earlier run cannot be read: %s", error)
        else:
            known.setdefault(analysis_digest(settings), settings)
    found = [settings for digest, settings in known.items() if digest in wanted]
    return [line for other in found[1:] for line in differing(found[0], other)]


def _with_crashes(absent: Sequence[str], output_dir: Path) -> list[str]:
    """The lines of who is missing, with the step that crashed where the logs name one."""
    from bids_sr.reports.participants_page import crash_files, read_crash

    crashes = [read_crash(path) for path in crash_files(output_dir / "logs") if path.suffix != ".pklz"]
    lines = []
    for line in absent:
        label = line.split(":")[0].split()[0].replace("-", "_")
        nodes = dict.fromkeys(crash.node for crash in crashes if f"{label}_" in crash.node.replace("-", "_"))
        lines.append(f"{line}; crashed: {', '.join(nodes)}" if nodes else line)
    return lines


def plan_text(prepared: Group) -> str:
    """What would be joined, and who is missing."""
    lines = [f"{len(prepared.sources)} tables of {len(prepared.participants)} participants"]
    return "\n".join([*lines, *(f"missing: {line}" for line in prepared.absent)])


def run_group(settings: Settings, prepared: Group, say: Callable[[str], None]) -> "RunOutcome":
    """Join, test, map, and write ``group_metrics``, ``group_stats`` and ``group.html``; `say` prints one line."""
    from concurrent.futures import ThreadPoolExecutor

    from bids_sr.execution.execute import RunOutcome
    from bids_sr.group.group_maps import Processes, group_maps
    from bids_sr.io.dataset_description import write_ignored
    from bids_sr.reports.tables.html_tables import meaning

    output_dir, margin = settings.paths.output_dir, settings.evaluation.margin
    for line in prepared.absent:
        say(f"missing: {line}")
    say(f"joining {len(prepared.sources)} tables of {len(prepared.participants)} participants")
    processes = Processes(most=settings.resources.nprocs or 1, busy=1)
    write_ignored(output_dir)
    series = (RAW, *BASELINES, *offered_methods(), MEASURED)

    def mapped() -> "GroupMaps":
        return group_maps(prepared.runs, output_dir, series=series, say=say, processes=processes)

    with ThreadPoolExecutor(1) as aside:
        making = aside.submit(mapped) if processes.most > 1 else None
        with whole_file(output_dir / "group_metrics.tsv") as beside:
            figures = _joined(prepared.sources, beside)
            methods = tuple(name for name in offered_methods() if name in figures.series)
            comparisons = group_tests.compare(figures.values, methods, units=figures.units, margin=margin)
            # fixed beforehand: of the methods that run unless others are named, the last
            default = SuperRes().learned[-1]
            comparisons = group_tests.with_primary(comparisons, figures.values, default)
        columns: dict[str, Any] = {name: dict(text) for name, text in metric_tables.COLUMN_TEXT.items()}
        columns["measure"]["Levels"] = {name: "{1} ({0})".format(*meaning(name)) for name in sorted(figures.units)}
        for table, text in (("group_metrics", columns), ("group_stats", group_text.COLUMN_TEXT)):
            write_json(output_dir / f"{table}{COLUMNS_OF}.json", text)
            (output_dir / f"{table}.json").unlink(missing_ok=True)  # of 0.2.0 and before, inherited by BIDS
        write_whole(output_dir / "group_stats.tsv", group_text.stats_text(comparisons))
        processes.busy = 0
        maps = making.result() if making else mapped()
    say("report")
    from bids_sr.reports.group_report import GroupContent, build_group_report
    from bids_sr.reports.text.group_verdicts import why_not_assessed

    figure_dir = output_dir / "group" / "figures"
    gap = "a tenth of the median gap between bspline and what was measured, where there is such a gap"
    flags = (f"{name}, {each}: {meaning(measure)[1].removeprefix('1 where ')}" for name, each, measure in figures.flags)
    idle: dict[str, list[str]] = {}
    for name, method in figures.idle:
        idle.setdefault(method, []).append(name)
    tasks = _tasks(prepared.sources)
    content = GroupContent(
        participants=prepared.participants, tasks=tasks,
        absent=(*prepared.absent, *metric_tables.without_methods(figures.present, methods)),
        left_out=maps.left_out, flags=list(dict.fromkeys(text.removesuffix(", else 0") for text in flags)),
        methods=methods, comparisons=comparisons, values=figures.values, units=figures.units,
        papers=group_text.paper_tables(figures.values, methods),
        claims=figures.claims,
        reasons={task: why_not_assessed(task, figures.values, figures.idle, default) for task in tasks},
        idle=[f"{', '.join(names)}: {method} fell back to zero filling" for method, names in idle.items()],
        maps=_map_rows(maps), map_figures=_map_figures(maps, figure_dir), space=maps.space,
        margin=gap if margin is None else f"{margin:g} for pure numbers; for others {gap}",
        about={
            "bids-sr version": __version__, "Run": settings.run.run_uuid, "Command": " ".join(sys.argv),
            "Tables made by version": prepared.sources[0].version or "not recorded",
            "Digest of their settings": prepared.sources[0].digest or "not recorded",
            "All values": "group_metrics.tsv (long table), group_stats.tsv (all comparisons)",
        },
    )  # fmt: skip
    page = build_group_report(output_dir / "group.html", content, figure_dir=figure_dir)
    return RunOutcome(reports=(page,))


def _tasks(sources: Sequence[Source]) -> dict[str, dict[str, int]]:
    """Participants of each task, with the number of their runs."""
    runs: dict[str, dict[str, set[str]]] = {}
    for each in sources:
        runs.setdefault(each.task, {}).setdefault(each.participant, set()).add(each.name)
    return {task: {name: len(own) for name, own in sorted(people.items())} for task, people in sorted(runs.items())}


def _joined(sources: Sequence[Source], path: Path) -> Joined:
    """Write the long table, one source in memory at a time, and keep what is compared."""
    joined = Joined(compared=group_tests.compared)
    with path.open("w", encoding="utf-8") as stream:
        stream.write("\t".join(metric_tables.COLUMNS) + "\n")
        for source in sources:
            try:
                table = metric_tables.read_cells(source)
                joined.add(source, table)
            except ValueError as error:
                raise UsageError(
                    str(error), "it is not a table of this version", "run that participant again"
                ) from error
            stream.writelines(metric_tables.lines_of(source, table))
    joined.close()
    return joined


def _map_rows(maps: "GroupMaps") -> list[dict[str, str]]:
    return [
        {
            "series": each.series,
            "contrast": each.contrast,
            "task": each.task,
            "smoothing (mm)": f"{each.fwhm_mm:g}",
            "participants": str(len(each.participants)),
            "highest z": f"{each.peak_z:.2f}",
            f"where ({maps.space}, mm)": " ".join(f"{mm:.0f}" for mm in each.peak_mm),
            "z > 3.1 (mm³)": f"{each.active_mm3:.0f}",
        }
        for each in maps.maps
    ]


def _map_figures(maps: "GroupMaps", folder: Path) -> "list[MapFigure]":
    """A figure of z for each task and contrast: a row each series, the same planes, one color scale."""
    from bids_sr.group.group_maps import Z_SHOWN
    from bids_sr.io.nifti import load_image
    from bids_sr.reports.figures.activation_figures import Display, Scene, activation_figure
    from bids_sr.reports.figures.style import NamedImage
    from bids_sr.reports.figures.svg_files import save_svg
    from bids_sr.reports.group_report import MapFigure

    if not maps.maps or maps.background is None or maps.mask is None or maps.affine is None:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    scene = Scene(background=maps.background, mask=maps.mask, roi=maps.mask, affine=maps.affine)
    display = Display(statistic="z", threshold=Z_SHOWN, floor=5.0)
    found = []
    for task, variant, contrast in dict.fromkeys((each.task, each.variant, each.contrast) for each in maps.maps):
        own = [m for m in maps.maps if (m.task, m.variant, m.contrast) == (task, variant, contrast)]
        rows = [NamedImage(name=m.series, data=load_image(m.files["z"])[0], affine=maps.affine) for m in own]
        kind = "" if variant == "n/a" else f"_{variant}"
        file = folder / f"group_task-{task}{kind}_contrast-{contrast}_desc-maps.svg"
        save_svg(activation_figure(rows, scene, display=display, n_slices=3), file)
        counts = sorted({len(m.participants) for m in own})
        found.append(MapFigure(
            heading=f"{contrast}, task {task}" + (f", {variant}" if variant != "n/a" else ""),
            caption=f"z of the mean over {' to '.join(map(str, counts))} participants in {maps.space}, "
            f"{own[0].fwhm_mm:g} mm smoothing; planes chosen by {own[0].series}. Not corrected for multiple tests.",
            file=file,
        ))  # fmt: skip
    return found
