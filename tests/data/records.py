"""Records of runs in memory, for tests of rules and choices without files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings
from bids_sr.io.image_header import Header
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.survey.preflight.events import EventsTable, parse_events
from data.dataset import EVENTS, FOV, affine_for

FUNC = Path("/bids/sub-01/func")


def make_settings(*options: str) -> Settings:
    """Return the settings of a call."""
    line = ["/bids", "/out", "participant", "-w", "/work", "--skip-bids-validation", *options]
    return parse_settings(line).resolve(run_uuid="x")


def make_run(
    stem: str = "sub-01_task-tap",
    *,
    n_volumes: int = 30,
    tr: float = 1.0,
    zooms: tuple[float, float, float] = (6.0, 6.0, 4.0),
    has_events: bool = True,
    **fields: Any,
) -> BoldRun:
    """Return a run; `fields` are further fields of the record."""
    header = Header(
        path=FUNC / f"{stem}_bold.nii.gz",
        shape=(*(round(mm / zoom) for mm, zoom in zip(FOV, zooms, strict=True)), n_volumes),
        zooms=zooms,
        tr=tr,
        affine=affine_for(zooms),
        slice_axis=2,
        complex=False,
    )
    events = FUNC / f"{stem}_events.tsv" if has_events else None
    return BoldRun(header=header, tr=tr, **{"events": events, **fields})


def make_table(
    rows: Sequence[Sequence[object]] = EVENTS,
    columns: Sequence[str] = ("onset", "duration", "trial_type"),
    levels: Sequence[str] = (),
) -> EventsTable:
    """Return the events table of a run of `make_run`; line 1 has the columns."""
    records = [
        (line, dict(zip(columns, map(str, cells), strict=True)))
        for line, cells in enumerate(rows, 2)
    ]
    return parse_events(FUNC / "sub-01_task-tap_events.tsv", columns, records, levels)
