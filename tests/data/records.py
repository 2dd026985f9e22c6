"""Records of runs in memory, for tests of rules and choices without files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings
from bids_sr.glm.contrasts import label_types, order_types
from bids_sr.io.image_header import Header
from bids_sr.survey.bids.inputs import BoldRun, Subject
from bids_sr.survey.notices import attribute, is_problem, judge
from bids_sr.survey.preflight.estimability import TYPE_RULES, assess_types
from bids_sr.survey.preflight.events import RUN_RULES, TABLE_RULES, EventsTable, parse_events
from bids_sr.survey.preflight.linear_models import LinearModels, judge_model
from bids_sr.survey.preflight.plan import Plan
from bids_sr.survey.preflight.run_contrasts import resolve_run_contrasts
from data.dataset import EVENTS, FOV, affine_for

FUNC = Path("/bids/sub-01/func")


def make_settings(*options: str) -> Settings:
    """Return the settings of a call."""
    line = ["/bids", "/out", "participant", "-w", "/work", "--skip-bids-validation", *options]
    return parse_settings(line).resolve(run_uuid="x")


def make_header(
    name: str,
    zooms: tuple[float, float, float],
    *more_axes: int,
    tr: float | None = None,
    shift: Sequence[float] = (0, 0, 0),
) -> Header:
    """Return the header of an image over the field of view FOV; a series has a further axis."""
    return Header(
        path=FUNC / name,
        shape=(*(round(mm / zoom) for mm, zoom in zip(FOV, zooms, strict=True)), *more_axes),
        zooms=zooms,
        tr=tr,
        affine=affine_for(zooms, shift=shift),
        slice_axis=2,
        complex=False,
    )


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
    header = make_header(f"{stem}_bold.nii.gz", zooms, n_volumes, tr=tr)
    events = FUNC / f"{stem}_events.tsv" if has_events else None
    return BoldRun(**{"header": header, "tr": tr, "events": events, **fields})


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


def plan_run(run: BoldRun, table: EventsTable, settings: Settings) -> Plan:
    """Return a plan with the contrasts of a task run, and the notices about its model."""
    requests = settings.activation.contrasts
    names = order_types(table.list_types(run.duration))
    types = assess_types(run, names, table.make_events(), requests, settings)
    labels = {run.bold: label_types(names)}
    choice = resolve_run_contrasts({run.bold: types}, requests, labels)
    notices = [
        *judge(TABLE_RULES, table),
        *judge(RUN_RULES, table, run.bold, run.duration),
        *attribute(judge(TYPE_RULES, types), *run.owner),
        *choice.notices,
    ]
    models = LinearModels(
        types={run.bold: types},
        contrasts=choice.value.by_run,
        over_runs=choice.value.over_runs,
        nuisance=None,
    )
    broken = {notice.what for notice in notices if is_problem(notice)}
    notices += judge_model(run, models, broken, settings, with_anat=True)
    subject = Subject(label="01", t1w=(), runs=(replace(run, pauses=types.pauses),))
    return Plan(
        subjects=(subject,),
        contrasts=models.contrasts,
        problems=tuple(filter(is_problem, notices)),
        warnings=tuple(notice for notice in notices if not is_problem(notice)),
    )
