"""The group level: from the participants' tables and maps in the output folder to statistics and one page.

No image of the data set is read; of ``bids_dir`` only the names of participants and runs are asked.
"""

import csv
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.config import Settings, UsageError
from bids_sr.config.superres import SuperRes
from bids_sr.frozen import frozen
from bids_sr.group.group_inputs import RunMaps, find_runs
from bids_sr.pipeline.graph import run_of
from bids_sr.series import BASELINES, MEASURED, RAW
from bids_sr.sr.method import offered_methods
from bids_sr.stats.group import metric_tables
from bids_sr.stats.group.metric_tables import Source, entities_of
from bids_sr.version import __version__

if TYPE_CHECKING:
    from bids_sr.execution.execute import RunOutcome
    from bids_sr.stats.group.group_activation import GroupMaps

LOGGER = logging.getLogger(__name__)
RUN_PARTICIPANTS = "run the participant level first; partial results are enough"


@frozen
class Group:
    """What the group level works on: metrics tables and maps of the runs asked for, who and what is missing."""

    sources: tuple[Source, ...]
    runs: tuple[RunMaps, ...]
    participants: tuple[str, ...]  # of whom there are tables
    absent: tuple[str, ...]


def prepare(settings: Settings) -> Group:
    """Find the tables; raises `UsageError` for none, one participant, or those of other versions or settings."""
    output_dir, bids_dir = settings.paths.output_dir, settings.paths.bids_dir
    if not bids_dir.is_dir():
        raise UsageError(
            f"{bids_dir} is not a folder", "its list of participants shows who is missing", "check the path"
        )
    chosen = _chooser(settings)
    sources = metric_tables.find_sources(output_dir, chosen)
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
        absent.append(("", f"missing participants cannot be identified: {bids_dir} lists no participants"))
    if len(people) < 2:
        what = "\n  ".join([f"one participant ({people[0]}) at the group level", *(line for _, line in absent)])
        why = "statistics over participants need at least two"
        raise UsageError(what, why, "run the participant level for more of them")
    return Group(
        sources=tuple(sources), runs=tuple(find_runs(output_dir, chosen)), participants=people,
        absent=tuple(_with_crashes(absent, output_dir)),
    )  # fmt: skip


def _chooser(settings: Settings) -> Callable[[Mapping[str, str]], bool]:
    """Whether a run, told by its entities (short names), was asked for."""
    asked = settings.selection
    labels = {"sub": asked.participant_label, "ses": asked.session_label, "task": asked.task_id}

    def chosen(entities: Mapping[str, str]) -> bool:
        run = entities.get("run", "")
        numbered = not asked.run_id or (run.isdecimal() and int(run) in asked.run_id)
        return numbered and all(not wanted or entities.get(key) in wanted for key, wanted in labels.items())

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


def expected_runs(bids_dir: Path, chosen: Callable[[Mapping[str, str]], bool]) -> list[str]:
    """Runs of the data set that were asked for, by the names of their series without suffix."""
    found = []
    for folder in ("sub-*/func", "sub-*/ses-*/func"):
        for path in sorted(bids_dir.glob(f"{folder}/*_bold.nii*")):
            stem = path.name.rpartition("_bold.nii")[0]
            if chosen(entities_of(stem)):
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


def _with_crashes(absent: Sequence[tuple[str, str]], output_dir: Path) -> list[str]:
    """The lines of who is missing, with the step that crashed where the logs name one."""
    from bids_sr.reports.participants_page import crash_files, read_crash

    nodes = [read_crash(path).node for path in crash_files(output_dir / "logs") if path.suffix != ".pklz"]
    lines = []
    for whose, line in absent:
        own = dict.fromkeys(node for node in nodes if whose and f"{run_of(node)}_".startswith(f"{whose}_"))
        lines.append(f"{line}; crashed: {', '.join(own)}" if own else line)
    return lines


def plan_text(prepared: Group) -> str:
    """What would be joined, and who is missing."""
    lines = [f"{len(prepared.sources)} tables of {len(prepared.participants)} participants"]
    return "\n".join([*lines, *(f"missing: {line}" for line in prepared.absent)])


def maps_not_stored(series: Sequence[str], runs: Sequence[RunMaps]) -> list[str]:
    """What participants have tables of and nobody a map, and the level at which maps are stored.

    Parameters
    ----------
    series : of the tables
    """
    stored = {key[1] for run in runs for maps in (run.native, *run.in_space.values()) for key in maps}
    if not stored:
        return ["group maps: no maps are stored; the participant level stores them with --level standard or full"]
    lacking = [name for name in series if name not in stored]
    text = f"group maps of {', '.join(lacking)}: the participant level stores their maps with --level full"
    return [text] if lacking else []


def run_group(settings: Settings, group: Group, say: Callable[[str], None]) -> "RunOutcome":
    """Join, test, map, and write ``group_metrics``, ``group_stats`` and ``group.html``; `say` prints one line."""
    from concurrent.futures import ThreadPoolExecutor

    from bids_sr.execution.execute import RunOutcome
    from bids_sr.group.group_maps import Processes, group_maps
    from bids_sr.reports.group_report import GroupContent, build_group_report
    from bids_sr.reports.participants_page import write_index
    from bids_sr.stats.group.group_tables import write_tables

    output_dir, margin = settings.paths.output_dir, settings.evaluation.margin
    for line in group.absent:
        say(f"missing: {line}")
    say(f"joining {len(group.sources)} tables of {len(group.participants)} participants")
    processes = Processes(most=settings.resources.nprocs or 1, busy=1)
    # fixed beforehand: of the methods that run unless others are named, the last
    default = SuperRes().learned[-1]
    series = (RAW, *BASELINES, *offered_methods(), MEASURED)

    def mapped() -> "GroupMaps":
        return group_maps(group.runs, output_dir, series=series, say=say, processes=processes)

    with ThreadPoolExecutor(1) as aside:
        mapping = aside.submit(mapped) if processes.most > 1 else None
        try:
            joined, comparisons = write_tables(output_dir, group.sources, method=default, margin=margin)
        except metric_tables.TableError as error:
            raise UsageError(str(error), "it is not a table of this version", "run that participant again") from error
        processes.busy = 0
        maps = mapping.result() if mapping else mapped()
    present = {name for own in joined.present.values() for name in own}
    unstored = maps_not_stored([name for name in series if name in present], group.runs)
    for line in unstored:
        say(line)
    maps = replace(maps, left_out=(*maps.left_out, *unstored))
    say("report")
    content = GroupContent(
        sources=group.sources, absent=group.absent, joined=joined, comparisons=comparisons, maps=maps, method=default,
        margin=margin,
        about={"bids-sr version": __version__, "Run": settings.run.run_uuid, "Command": " ".join(sys.argv)},
    )  # fmt: skip
    page = build_group_report(output_dir, content)
    write_index(output_dir)
    return RunOutcome(reports=(page,))
