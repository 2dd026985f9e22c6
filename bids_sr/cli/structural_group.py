"""The group level of structural scans: participants' tables to tables and a page.

No image is read. Acquisition protocols are taken from ``participants.tsv`` or from the sidecars of
the low-resolution scans.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.bids.inheritance import sidecars_on_disk
from bids_sr.bids.session_times import months_of_sessions
from bids_sr.config import Settings, UsageError, nearest_name
from bids_sr.frozen import frozen
from bids_sr.group.input_tables import find_tables, mixed
from bids_sr.group.structural_values import find_scan_tables, read_values, tables_of
from bids_sr.group.values import TableError
from bids_sr.io.tables import TABLE_ERRORS, read_rows
from bids_sr.metrics.rows import MISSING
from bids_sr.version import __version__

if TYPE_CHECKING:
    import pandas as pd

    from bids_sr.execution.execute import RunOutcome

_RUN_PARTICIPANTS = "run the participant level with --sr-target anat first"
_READ = ("superres.target", "evaluation.protocol", "evaluation.months", "resources.random_seed")
"""Decisive settings of this level."""
_SOURCE = "bids:raw:"


@frozen
class ScansGroup:
    """Inputs of the group level of structural scans.

    `tables`: as `find_scan_tables` returns them. `protocols`: protocol by name of a table.
    `months`: months since the first session by participant and session label.
    `absent`: a line for each participant without a table.
    """

    tables: "pd.DataFrame"
    protocols: Mapping[str, str]
    months: Mapping[tuple[str, str], float]
    absent: tuple[str, ...]


def is_structural(settings: Settings) -> bool:
    """Return whether a call of the group level is about structural scans.

    It is if ``--sr-target anat`` was given, or if the output directory has tables of structural
    scans and none of functional runs.
    """
    if settings.superres.target == "anat":
        return True
    output_dir = settings.paths.output_dir
    return find_tables(output_dir).empty and not find_scan_tables(output_dir).empty


def prepare(
    settings: Settings,
    chosen: Callable[[Mapping[str, str]], bool],
    expected: list[str],
) -> ScansGroup:
    """Find the tables and the protocols.

    Parameters
    ----------
    settings : Settings
        Settings of the call.
    chosen : Callable[[Mapping[str, str]], bool]
        Whether a table, given by its entities (pybids names), was requested.
    expected : list[str]
        Participants (``sub-…``) of the data set or of the call.

    Raises
    ------
    UsageError
        No tables, fewer than two participants, tables of different versions or settings, an
        unknown protocol column, or an unknown column or time of sessions.
    """
    output_dir = settings.paths.output_dir
    tables = find_scan_tables(output_dir, chosen)
    if tables.empty:
        raise UsageError(
            f"{output_dir} contains no metrics tables of structural scans",
            "the group level combines the files sub-*/anat/*_desc-anat_metrics.tsv that are"
            " written at the participant level",
            _RUN_PARTICIPANTS,
        )
    if lines := mixed(tables):
        raise UsageError(
            "\n  ".join(
                ["metrics from different versions or settings cannot be combined", *lines]
            ),
            "the values in these tables are not comparable",
            "rerun the participant level for all participants with the same version and settings",
        )
    people = list(tables["participant"].unique())
    if len(people) < 2:
        raise UsageError(
            f"the group level found structural scans for only one participant ({people[0]})",
            "group statistics require at least two participants",
            "run the participant level for more participants",
        )
    absent = tuple(f"no metrics table found for {name}" for name in expected if name not in people)
    protocols = _protocols(settings, tables) if settings.evaluation.protocol else {}
    sessions = {str(name): list(own) for name, own in tables.groupby("participant")["session"]}
    months = months_of_sessions(settings.paths.bids_dir, sessions, settings.evaluation.months)
    return ScansGroup(tables=tables, protocols=protocols, months=months, absent=absent)


def _protocols(settings: Settings, tables: "pd.DataFrame") -> dict[str, str]:
    """Return the protocol of each table by the column of ``participants.tsv`` or the sidecars."""
    wanted = settings.evaluation.protocol or ""
    bids_dir = settings.paths.bids_dir
    listing = bids_dir / "participants.tsv"
    columns: list[str] = []
    if listing.exists():
        try:
            columns, rows = read_rows(listing)
        except TABLE_ERRORS as error:
            raise UsageError(
                f"{listing} could not be read", str(error), "correct the table, or omit --protocol"
            ) from error
        if wanted in columns:
            by_person = {
                f"sub-{(row.get('participant_id') or '').removeprefix('sub-')}": row.get(wanted)
                for _, row in rows
            }
            return {
                row.name_: by_person.get(row.participant) or MISSING
                for row in tables.rename(columns={"name": "name_"}).itertuples()
            }
    found: dict[str, str] = {}
    keys: set[str] = set()
    for name, path in zip(tables["name"], tables["path"], strict=True):
        facts = _scan_sidecar(Path(path), bids_dir)
        keys |= facts.keys()
        value = facts.get(wanted)
        found[name] = MISSING if value is None else str(value)
    if any(value != MISSING for value in found.values()):
        return found
    known = [each for each in columns if each != "participant_id"] + sorted(keys)
    choices = f"choose one of {', '.join(known)}" if known else "omit the option"
    raise UsageError(
        f"--protocol {wanted}: neither a column of {listing} nor a key in the JSON sidecars"
        " of the scans",
        "participants are grouped by the values of this column or key",
        nearest_name(wanted, known) or choices,
    )


def _scan_sidecar(table: Path, bids_dir: Path) -> dict[str, object]:
    """Return the metadata of the low-resolution scans of a metrics table.

    They are found through the sources of the stored interpolation. Files of the first contrast
    take precedence; {} if ``--level minimal`` stored no image.
    """
    facts: dict[str, object] = {}
    for stored in sorted(table.parent.glob("*_desc-bspline_*.json"), reverse=True):
        about = json.loads(stored.read_text(encoding="utf-8"))
        scans = [
            bids_dir / source.removeprefix(_SOURCE)
            for source in about.get("Sources", [])
            if source.startswith(_SOURCE) and "/anat/" in source
        ]
        # high-resolution scans of all contrasts come first, then the low-resolution scans
        for scan in reversed(scans[len(scans) // 2 :]):
            for file in sidecars_on_disk(scan, bids_dir):
                try:
                    content = json.loads(file.read_text(encoding="utf-8"))
                except (OSError, ValueError):
                    continue
                if isinstance(content, dict):
                    facts |= content
        if facts:
            break
    return facts


def plan_text(group: ScansGroup) -> str:
    """Return what would be joined, and who is missing."""
    people = group.tables["participant"].nunique()
    lines = [
        f"Found {len(group.tables)} metrics tables of structural scans for {people} participants"
    ]
    if group.protocols:
        counts = {
            name: sum(each == name for each in group.protocols.values())
            for name in sorted(set(group.protocols.values()))
        }
        lines.append(
            "protocols: " + ", ".join(f"{name} ({n} tables)" for name, n in counts.items())
        )
    if group.months:
        times = sorted({round(month) for month in group.months.values()})
        lines.append(f"Months since the first session: {', '.join(map(str, times))}")
    return "\n".join([*lines, *(f"missing: {line}" for line in group.absent)])


def run_structural_group(
    settings: Settings, group: ScansGroup, say: Callable[[str], None]
) -> "RunOutcome":
    """Join the metrics of structural scans and write tables and the page; `say` prints a line.

    The results are ``group_scans_*.tsv`` with their JSON and ``group_scans.html``.
    """
    from bids_sr.config.settings import differing
    from bids_sr.execution.execute import RunOutcome
    from bids_sr.group.structural_report import (
        ScansContent,
        build_structural_report,
        write_structural_tables,
    )
    from bids_sr.report.index_page import write_index

    plain = Settings(paths=settings.paths, selection=settings.selection)
    if idle := [name for name in differing(plain, settings) if name not in _READ]:
        say(f"These settings have no effect at the group level: {', '.join(idle)}")
    for line in group.absent:
        say(f"missing: {line}")
    people = group.tables["participant"].nunique()
    say(
        f"Combining {len(group.tables)} metrics tables of structural scans from {people}"
        " participants"
    )
    try:
        tables = tables_of(read_values(group.tables, group.protocols, group.months))
    except TableError as error:
        raise UsageError(
            str(error),
            "the table was written by another version of bids-sr",
            "rerun the participant level for this participant",
        ) from error
    output_dir = settings.paths.output_dir
    write_structural_tables(output_dir, tables)
    say("Writing the group report")
    content = ScansContent(
        tables=tables,
        protocol=settings.evaluation.protocol or "",
        absent=group.absent,
        about={
            "bids-sr version": __version__,
            "Run": settings.run.run_uuid,
            "Command": " ".join(sys.argv),
        },
    )
    page = build_structural_report(output_dir, content)
    write_index(output_dir)
    return RunOutcome(reports=(page,))
