"""Participants' tables of metrics of structural scans, as one data frame."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from bids_sr.engine.metric_rows import MISSING, read_frame
from bids_sr.group.input_tables import read_table_sidecar, reject_table
from bids_sr.survey.bids.entities import parse_entities

ALL_PROTOCOLS = "all"
"""Protocol label if no column was specified."""


def find_scan_tables(
    output_dir: Path, is_selected: Callable[[Mapping[str, str]], bool] = lambda _: True
) -> pd.DataFrame:
    """Find the metrics tables of structural scans, sorted by participant and session.

    `is_selected` filters tables by their entities (pybids names). There is one row per table:
    participant, session (n/a if there are no sessions), name, path, set of the split (split), and
    version and hash of the settings (digest), all "" if not recorded. Raises `InputError` if a
    sidecar cannot be read.
    """
    paths = [
        path
        for folder in ("sub-*/anat", "sub-*/ses-*/anat")
        for path in sorted(output_dir.glob(f"{folder}/*_desc-anat_metrics.tsv"))
        if is_selected(parse_entities(path))
    ]
    table = pd.DataFrame([_read_row(path) for path in paths])
    if table.empty:
        return table
    return table.sort_values(["participant", "session"], ignore_index=True)


def _read_row(path: Path) -> dict[str, object]:
    """Return the row of a metrics table from its name and sidecar; see `find_scan_tables`."""
    entities = parse_entities(path)
    sidecar = read_table_sidecar(path)
    participant = f"sub-{entities['subject']}"
    session = entities.get("session", MISSING)
    return {
        "participant": participant,
        "session": session,
        "name": participant if session == MISSING else f"{participant} ses-{session}",
        "path": path,
        "split": str(sidecar.get("Split", "")),
        "version": str(sidecar.get("GeneratedByVersion", "")),
        "digest": str(sidecar.get("SettingsDigest", "")),
    }


def read_values(
    tables: pd.DataFrame,
    protocols: Mapping[str, str],
    months: Mapping[tuple[str, str], float] = MappingProxyType({}),
) -> pd.DataFrame:
    """Return the rows of all tables, preceded by participant, session, month and protocol.

    `tables` are from `find_scan_tables`. `protocols` has a protocol by name of the table's row;
    tables without an entry have `ALL_PROTOCOLS`. `months` are the months since the first session,
    by participant and session. Raises `UsageError` if a table cannot be read, or its columns
    differ from the columns of this version.
    """
    frames = []
    for row in tables.itertuples():
        try:
            frame = read_frame(row.path)
        except (ValueError, KeyError, OSError) as error:
            raise reject_table(row.path, str(error)) from error
        frame.insert(0, "participant", row.participant)
        frame.insert(1, "session", row.session)
        frame.insert(2, "month", months.get((row.participant, row.session), math.nan))
        frame.insert(3, "protocol", protocols.get(row.name, ALL_PROTOCOLS))
        frames.append(frame)
    values = pd.concat(frames, ignore_index=True)
    return values.fillna({"region": MISSING, "contrast": MISSING})
