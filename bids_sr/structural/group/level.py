"""Group level of structural scans: from metrics tables of participants to tables and a report.

No images are read. Acquisition protocols are taken from ``participants.tsv`` or from the sidecars
of the low-resolution scans.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bids_sr.config import Settings, suggest_name
from bids_sr.engine.metric_rows import MISSING
from bids_sr.group.dataset_contents import DatasetContents
from bids_sr.group.input_checks import require_readable
from bids_sr.group.input_tables import iter_func_folders, mixed_settings_lines
from bids_sr.group.level import GroupInputs, describe_call, mixed_settings_error, too_few_error
from bids_sr.group.output_files import GroupNames
from bids_sr.io.atomic_files import read_json
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import UsageError
from bids_sr.io.tables import is_missing
from bids_sr.structural.group.inputs import find_scan_tables, read_values
from bids_sr.structural.group.values import compute_tables
from bids_sr.survey.bids.inheritance import find_sidecars
from bids_sr.survey.bids.participants_table import ParticipantsTable
from bids_sr.survey.bids.session_times import months_of_sessions

if TYPE_CHECKING:
    import pandas as pd

    from bids_sr.group.page import GroupPage

_RUN_PARTICIPANT_LEVEL = "run the participant level with --sr-target anat first"
_RAW_URI = "bids:raw:"


@frozen
class ScansGroup(GroupInputs):
    """Inputs of the group level of structural scans.

    `protocols` are acquisition protocols by name of a table, and `months` the months since the
    first session, by participant and session label. The results are ``group_scans_*.tsv`` with
    their JSON files, and ``group_scans.html``.
    """

    protocols: Mapping[str, str]
    months: Mapping[tuple[str, str], float]
    kind: ClassVar[str] = "metrics tables of structural scans"
    used_settings: ClassVar[tuple[str, ...]] = (
        "superres.target",
        "anat.protocol",
        "anat.months",
        "resources.random_seed",
    )

    def describe_tables(self) -> list[str]:
        """Describe the tables that would be combined."""
        lines = GroupInputs.describe_tables(self)
        if self.protocols:
            counts = dict(sorted(Counter(self.protocols.values()).items()))
            protocol_texts = [f"{name} ({count} tables)" for name, count in counts.items()]
            lines.append(f"protocols: {', '.join(protocol_texts)}")
        if self.months:
            months = sorted({round(month) for month in self.months.values()})
            lines.append(f"Months since the first session: {', '.join(map(str, months))}")
        return lines

    def compute(
        self, settings: Settings, print_line: Callable[[str], None], folder: Path
    ) -> "GroupPage":
        """Compute and write the tables, and return the contents of the page."""
        from bids_sr.structural.group.report import (
            ScansContent,
            describe_scans,
            write_structural_tables,
        )

        tables = compute_tables(read_values(self.tables, self.protocols, self.months))
        write_structural_tables(folder, self.names, tables)
        print_line("Writing the group report")
        content = ScansContent(
            names=self.names,
            tables=tables,
            protocol=settings.anat.protocol or "",
            absent=(*self.absent, *self.leftovers),
            about=describe_call(settings),
        )
        return describe_scans(folder, content)


def is_scans_group(settings: Settings) -> bool:
    """Return whether a call of the group level concerns structural scans.

    This is the case with ``--sr-target anat``, or if the output directory has tables of structural
    scans but not of functional runs.
    """
    if settings.superres.target == "anat":
        return True
    output_dir = settings.paths.output_dir
    has_runs = any(names for _, names in iter_func_folders(output_dir, "_metrics.tsv"))
    return not has_runs and not find_scan_tables(output_dir).empty


def find_scans_group(
    settings: Settings,
    is_selected: Callable[[Mapping[str, str]], bool],
    dataset: DatasetContents,
) -> ScansGroup:
    """Find the tables and the protocols.

    `is_selected` returns whether a table was requested, given its entities (pybids names).
    `dataset` decides whose results are used. Raises `UsageError` if there are no tables, fewer
    than two participants, tables of different versions or settings, files that cannot be read, an
    unknown protocol column, or an unknown column or time of sessions.
    """
    output_dir = settings.paths.output_dir
    all_tables = find_scan_tables(output_dir, is_selected)
    if all_tables.empty:
        raise UsageError(
            f"{output_dir} contains no metrics tables of structural scans",
            "the group level combines the files sub-*/anat/*_desc-anat_metrics.tsv that are"
            " written at the participant level",
            _RUN_PARTICIPANT_LEVEL,
        )
    leftovers = [
        sentence for _, sentence in dataset.describe_leftovers(all_tables, dataset.has_session)
    ]
    tables = all_tables[
        [dataset.has_session(row) for row in all_tables.to_dict("records")]
    ].reset_index(drop=True)
    require_readable(tables=tables["path"])
    if lines := mixed_settings_lines(tables):
        raise mixed_settings_error(lines, tables, output_dir)
    participants = list(tables["participant"].unique())
    for name in ("training", "validation"):
        if used := list(tables.loc[tables["split"] == name, "participant"].unique()):
            leftovers.append(f"in the {name} set of the networks: {', '.join(used)}")
    tables = tables[~tables["split"].isin(["training", "validation"])].reset_index(drop=True)
    remaining = list(tables["participant"].unique())
    if len(remaining) < 2:
        raise too_few_error(remaining, [("", sentence) for sentence in leftovers])
    absent = (
        *(
            f"no metrics table found for {name}"
            for name in dataset.select(settings.selection.participant_label)
            if name not in participants
        ),
        *dataset.table.list_skipped_lines(),
    )
    protocols = _find_protocols(settings, tables, dataset.table) if settings.anat.protocol else {}
    sessions = {
        str(name): list(labels) for name, labels in tables.groupby("participant")["session"]
    }
    months = months_of_sessions(settings.paths.bids_dir, sessions, settings.anat.months)
    return ScansGroup(
        names=GroupNames(sessions=settings.selection.session_label, kind="scans"),
        tables=tables,
        protocols=protocols,
        months=months,
        absent=absent,
        leftovers=tuple(leftovers),
    )


def _find_protocols(
    settings: Settings, tables: "pd.DataFrame", listing: ParticipantsTable
) -> dict[str, str]:
    """Return the protocol of each table from ``participants.tsv`` or from sidecars."""
    protocol = settings.anat.protocol or ""
    bids_dir = settings.paths.bids_dir
    if protocol in listing.columns:
        cells = {
            name: listing.rows.get(participant, {}).get(protocol)
            for name, participant in zip(tables["name"], tables["participant"], strict=True)
        }
        return {name: MISSING if is_missing(cell) else str(cell) for name, cell in cells.items()}
    protocols: dict[str, str] = {}
    keys: set[str] = set()
    for name, path in zip(tables["name"], tables["path"], strict=True):
        metadata = _read_scan_metadata(Path(path), bids_dir)
        keys |= metadata.keys()
        value = metadata.get(protocol)
        protocols[name] = MISSING if value is None else str(value)
    if any(value != MISSING for value in protocols.values()):
        return protocols
    columns = [column for column in listing.columns if column != "participant_id"]
    available = columns + sorted(keys)
    choices = f"choose one of {', '.join(available)}" if available else "omit the option"
    raise UsageError(
        f"--set anat.protocol={protocol}: neither a column of {listing.path} nor a key in"
        " the JSON sidecars of the scans",
        "participants are grouped by the values of this column or key",
        suggest_name(protocol, available) or choices,
    )


def _read_scan_metadata(table: Path, bids_dir: Path) -> dict[str, object]:
    """Return the metadata of the low-resolution scans of a metrics table.

    The scans are found through the sources of the stored interpolation. The first contrast takes
    precedence. The result is empty if ``--level minimal`` stored no images.
    """
    metadata: dict[str, object] = {}
    for interpolation_sidecar in sorted(table.parent.glob("*_desc-bspline_*.json"), reverse=True):
        content = read_json(interpolation_sidecar)
        scans = [
            bids_dir / source.removeprefix(_RAW_URI)
            for source in content.get("Sources", [])
            if source.startswith(_RAW_URI) and "/anat/" in source
        ]
        # high-resolution scans of all contrasts precede the low-resolution scans
        lowres_scans = scans[len(scans) // 2 :]
        for scan in reversed(lowres_scans):
            for sidecar in find_sidecars(scan, bids_dir):
                metadata |= read_json(sidecar)
        if metadata:
            break
    return metadata
