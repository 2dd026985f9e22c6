"""Confounds of the linear models of a run: selection, and checks of precomputed tables.

Confounds of another program are read before processing, so that an unusable table is rejected, or
changed with a note, at once.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.config import Settings, suggest_name
from bids_sr.config.sections.activation import NO_CONFOUNDS
from bids_sr.io.confound_names import (
    COMPONENTS_SET,
    CONFOUND_SETS,
    MOTION_REGRESSORS,
    MOTION_SET,
    list_columns,
    match_columns,
    select_tissue_columns,
)
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import Notice
from bids_sr.io.tables import TABLE_ERRORS
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.survey.bids.label_lists import list_some
from bids_sr.survey.notices import note, option_problem, problem, warning
from bids_sr.survey.preflight.run_model import time_model

if TYPE_CHECKING:
    import pandas as pd

_N_LISTED_COLUMNS = 4  # largest number of columns that a message lists


@frozen
class ImportedConfounds:
    """Confounds table of another program, with the names since fMRIPrep 1.2.

    `names` are all columns, and `table` contains numbers, without the `text_columns`. Motion
    columns that were missing or incomplete are `computed` from the six motion parameters.
    """

    path: Path
    names: Sequence[str]
    table: "pd.DataFrame"
    computed: Sequence[str]
    text_columns: Sequence[str]


def read_imported(run: BoldRun) -> ImportedConfounds | None:
    """Read the confounds of a run from another program; None without such a table.

    The table must be valid according to `bids_sr.survey.bids.precomputed_checks`.
    """
    path = run.imported_confounds
    if path is None:
        return None
    from bids_sr.preproc.imported_confounds import convert_to_numbers, read_confounds

    frame = read_confounds(path)
    table, computed, text_columns = convert_to_numbers(frame)
    return ImportedConfounds(
        path=path,
        names=tuple(map(str, frame)),
        table=table,
        computed=computed,
        text_columns=text_columns,
    )


def select_confounds(
    settings: Settings, model_confounds: Sequence[str] | None
) -> list[str] | None:
    """Return the selected confounds as `model_confounds` takes them; None for the default.

    ``--confounds`` takes precedence over the confounds of a BIDS Stats Model.

    `model_confounds` are the confounds of the model, None if no model was given.
    """
    names = settings.activation.confounds
    if not names:
        return None if model_confounds is None else list(model_confounds)
    return [] if names == (NO_CONFOUNDS,) else list(names)


def unknown_confounds(runs: Sequence[BoldRun], settings: Settings) -> Iterator[Notice]:
    """Reject names of ``--confounds`` that no confounds table of the runs can have."""
    names = [name for name in settings.activation.confounds if name != NO_CONFOUNDS]
    if not names:
        return
    known_names = [*CONFOUND_SETS, *list_known_columns(runs, settings)]
    for name in names:
        if not match_columns(known_names, [name]):
            fix = (
                f"Predefined sets are {' and '.join(CONFOUND_SETS)}. Columns are listed in"
                " docs/outputs.md; wildcards such as csf* are allowed."
            )
            suggestion = suggest_name(name, known_names)
            yield option_problem(
                f"--confounds {name}",
                "this name is neither a predefined set of confounds nor a column of the confounds"
                " table",
                f"{suggestion[0].upper()}{suggestion[1:]} {fix}" if suggestion else fix,
            )


def list_known_columns(runs: Sequence[BoldRun], settings: Settings) -> list[str]:
    """Return all columns that the confounds tables of the runs can have.

    Tables of other programs are read, with the names since fMRIPrep 1.2.
    """
    from bids_sr.preproc.imported_confounds import read_confounds

    imported_columns = dict[str, None]()
    for run in runs:
        if (path := run.imported_confounds) is not None:
            with suppress(*TABLE_ERRORS):  # reported by `precomputed_checks`
                imported_columns |= dict.fromkeys(map(str, read_confounds(path)))
    n_volumes = max((run.n_volumes for run in runs), default=0)
    columns = list_columns(n_volumes, time_model(settings).column_prefixes)
    return [*columns, *(name for name in imported_columns if name not in columns)]


def missing_confounds(
    run: BoldRun,
    imported: ImportedConfounds | None,
    confound_names: Sequence[str] | None,
    *,
    with_anat: bool,
) -> Iterator[Notice]:
    """Warn of selected confounds that the models of a run will not contain.

    Without a T1w image, there are no tissue maps to compute them from; a precomputed table may
    lack columns.

    `confound_names` is the result of `select_confounds`; the default confounds are noted with the
    image.
    """
    if confound_names is None:
        return
    if imported is not None:
        missing_names = [
            name
            for name in confound_names
            if name not in CONFOUND_SETS and not match_columns(imported.names, [name])
        ]
        reason = "the confounds table of the derivatives has no such column"
    elif not with_anat:
        tissue_columns = select_tissue_columns(list_columns(run.n_volumes))
        missing_names = [
            name
            for name in confound_names
            if name == COMPONENTS_SET or match_columns(tissue_columns, [name])
        ]
        reason = "these confounds are computed from tissue maps, and no T1w image was found"
    else:
        return
    if missing_names:
        yield warning(
            f"--confounds {' '.join(missing_names)}",
            f"the models of the runs of sub-{run.entities['subject']} do not contain these"
            f" confounds because {reason}.",
        )


def unusable_confounds(
    imported: ImportedConfounds, confound_names: Sequence[str] | None
) -> Iterator[Notice]:
    """Reject precomputed confounds that the models of a run cannot include.

    Only the columns in use are checked. Missing or incomplete motion columns are later recomputed
    from the six parameters, and components with missing values and text are omitted; these are
    notes. A selected column with missing values or text is a problem.

    `confound_names` is the result of `select_confounds`.
    """
    from bids_sr.preproc.model_confounds import COMPCOR_VOLUMES, is_complete

    path, table, text_columns = imported.path, imported.table, imported.text_columns
    if imported.computed:
        yield note(
            path,
            "missing or incomplete confounds are recomputed from the six motion parameters"
            f" ({_format_columns(imported.computed)}).",
        )
    names = list(CONFOUND_SETS if confound_names is None else confound_names)
    if unusable := [name for name in text_columns if match_columns([name], names)]:
        yield problem(
            path,
            f"confounds must be numeric, but text was found in {_format_columns(unusable)}",
            "Correct the confounds table, or choose other confounds with --confounds.",
        )
        return
    if text_columns:
        yield note(
            path,
            f"text was found in {_format_columns(text_columns)}, so these confounds are omitted.",
        )
    if COMPONENTS_SET in names and len(table) >= COMPCOR_VOLUMES:
        yield from _incomplete_components(path, table)
    columns = match_columns(map(str, table), names)
    incomplete = [name for name in columns if not is_complete(table[name])]
    if incomplete:
        yield problem(
            path,
            f"values are missing (n/a) in {_format_columns(incomplete)}, so the linear model"
            " cannot include these confounds",
            "Choose other confounds with --confounds, or change X in the BIDS Stats Model"
            " (--model).",
        )


def _incomplete_components(path: Path, table: "pd.DataFrame") -> Iterator[Notice]:
    """Note aCompCor components with missing values in a confounds table at `path`."""
    from bids_sr.preproc.model_confounds import is_complete

    components = [name for name in table if str(name).startswith("a_comp_cor")]
    incomplete = [name for name in components if not is_complete(table[name])]
    if incomplete:
        other_components = (
            "The remaining components are included."
            if len(incomplete) < len(components)
            else "No other components are available."
        )
        yield note(
            path,
            f"values are missing (n/a) in {_format_columns(incomplete)}, so these components are"
            f" omitted from the linear models. {other_components}",
        )


def _format_columns(names: Sequence[str]) -> str:
    """Return ``column x`` or ``columns x, y and 3 more`` for a message."""
    return f"column{'s' * (len(names) > 1)} {list_some(names, _N_LISTED_COLUMNS)}"


def count_confounds(
    imported: ImportedConfounds | None, confound_names: Sequence[str] | None
) -> int:
    """Return the minimum number of confounds in the linear model of a run.

    Components that are computed by this program are not counted, because their number is not known
    yet. A precomputed table must pass `unusable_confounds`.

    `confound_names` is the result of `select_confounds`.
    """
    from bids_sr.preproc.model_confounds import model_confounds

    if imported is not None:
        return len(model_confounds(imported.table, confound_names))
    if confound_names is None:
        return len(MOTION_REGRESSORS)
    names = [name for name in confound_names if name not in (MOTION_SET, COMPONENTS_SET)]
    columns = set(match_columns((*MOTION_REGRESSORS, *names), names))
    if MOTION_SET in confound_names:
        columns |= set(MOTION_REGRESSORS)
    return len(columns)
