"""Task of a run in Python: events, contrasts and confounds of its linear model."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd

from bids_sr.api.image_inputs import (
    ImageInputError,
    SuperResolutionWarning,
    check_file,
    check_repetition_time,
)
from bids_sr.engine.artifacts import Confounds
from bids_sr.glm.contrasts import Contrasts, list_levels
from bids_sr.glm.design import DesignSettings, build_design, contrast_vector
from bids_sr.glm.regressors import DesignError, Events, read_events
from bids_sr.glm.steps.default_contrasts import choose_contrasts
from bids_sr.glm.steps.linear_models import DesignInputs, LinearModel
from bids_sr.io.atomic_files import read_json
from bids_sr.io.confound_names import find_renamed_columns
from bids_sr.io.frozen import frozen
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.tables import read_frame
from bids_sr.preproc.model_confounds import model_confounds
from bids_sr.preproc.nonsteady import count_nonsteady_volumes
from bids_sr.preproc.steps import run_confounds
from bids_sr.workflows.fit_run import FittedRun

EventsLike: TypeAlias = pd.DataFrame | str | Path
ConfoundsLike: TypeAlias = pd.DataFrame | np.ndarray | str | Path
_DISPLACEMENT = "framewise_displacement"


@frozen
class RunTask:
    """Events of a run and the contrasts of its linear model, with the options of the design."""

    events: Events
    contrasts: Contrasts
    design: DesignSettings

    def build_model(
        self,
        fitted_run: FittedRun,
        confounds: Confounds | None = None,
        nuisance: list[str] | None = None,
    ) -> LinearModel:
        """Return the linear model of a run, with its head motion.

        `confounds` has one row per volume; None if there are no other confounds than head motion.
        `nuisance` are the columns in the model; None for the columns of the program.
        """
        inputs = DesignInputs(
            regressors=self.events,
            confounds=run_confounds.motion_confounds(
                fitted_run.motion, confounds, outliers=fitted_run.outliers
            ),
            n_dummy=fitted_run.n_dummy,
            design=self.design,
        )
        return LinearModel(inputs=inputs, contrasts=self.contrasts, nuisance=nuisance)


def load_confounds(confounds: ConfoundsLike, n_volumes: int) -> pd.DataFrame:
    """Return the confounds of the models, one row per volume.

    `confounds` is a table, an array (t, columns) or a file, as in nilearn. The result has named
    columns; only values of the first row may be missing. From a table of the program or of
    fMRIPrep, framewise displacement and the columns of the program's models are returned.
    """
    try:
        if isinstance(confounds, str | Path):
            confounds = read_frame(Path(confounds))
        table = pd.DataFrame(confounds).rename(columns=str)
        table = table.rename(columns=find_renamed_columns(table))
        if is_program_table(table):
            table = table[
                [_DISPLACEMENT, *(name for name in model_confounds(table) if name in table)]
            ]
        table = table.astype(float)
    except (OSError, ValueError, TypeError) as error:
        raise ImageInputError(
            f"the table cannot be read, or contains values that are not numbers ({error})",
            "Pass a DataFrame or the path of a TSV file with numeric columns.",
            "confounds",
        ) from error
    if len(table) != n_volumes:
        raise ImageInputError(
            f"the table has {len(table)} rows, but the series has {n_volumes} volumes",
            "Provide one row per volume, including the non-steady-state volumes.",
            "confounds",
        )
    if table.iloc[1:].isna().any(axis=None):
        incomplete = ", ".join(table.columns[table.iloc[1:].isna().any()])
        raise ImageInputError(
            f"missing values were found after the first row in {incomplete}",
            "Fill in these values or drop the columns.",
            "confounds",
        )
    return table


def is_program_table(confounds: pd.DataFrame) -> bool:
    """Return whether confounds are from the program or fMRIPrep, with columns of known meaning."""
    return _DISPLACEMENT in confounds


def plan_task(
    events: Events,
    contrasts: Sequence[str],
    design: DesignSettings,
    n_volumes: int,
    tr: float,
    *,
    n_dummy: int = 0,
) -> RunTask:
    """Return the task of a run.

    Default contrasts are those that the events allow to estimate, as in the program. A warning
    names what is left out or imprecise. If `contrasts` is empty, default contrasts are used.
    `n_volumes` includes the `n_dummy` volumes that are not fitted, and `tr` is the repetition time
    (s).
    """
    modeled_events, chosen, notes = choose_contrasts(
        events, contrasts, design, n_volumes, tr, n_dummy=n_dummy
    )
    if notes:
        texts = "; ".join(f"{text} {', '.join(names)}" for text, names in notes.items())
        warning = SuperResolutionWarning(f"{'' if contrasts else 'default '}contrasts: {texts}.")
        warnings.warn(warning, stacklevel=2)
    return RunTask(events=modeled_events, contrasts=chosen, design=design)


def load_events(events: EventsLike) -> Events:
    """Return events as in the program, from a table or a BIDS file.

    Events have an onset (s), a duration (s) and a trial type. Trial types such as NA are missing
    values, unless ``Levels`` in the sidecar next to the file list them.
    """
    if not isinstance(events, (pd.DataFrame, str, os.PathLike)):
        raise ImageInputError(
            f"expected a DataFrame or the path of a BIDS events file, got {type(events).__name__}",
            argument="events",
        )
    try:
        if not isinstance(events, pd.DataFrame):
            file = check_file(events, "events")
            return read_events(file, read_levels(file))
        stripped = events.rename(columns=lambda name: str(name).strip())
        text = stripped.astype(object).where(stripped.notna(), "n/a").astype(str)
        return Events.from_rows(list(text), enumerate(text.to_dict("records"), 2))
    except DesignError as error:
        fix = "Events need the columns onset (s), duration (s) and trial_type."
        raise ImageInputError(error.reason, fix, "events", error.file) from None


def load_task(events: EventsLike, reader: SeriesReader) -> RunTask:
    """Return events with their default contrasts; reject events without a linear model.

    `reader` is the series, whose repetition time must be known.
    """
    check_repetition_time(reader)
    n_volumes, tr, n_dummy = reader.shape[3], reader.tr, count_nonsteady_volumes(reader.path)
    try:
        task = plan_task(load_events(events), (), DesignSettings(), n_volumes, tr, n_dummy=n_dummy)
        model = build_design(
            task.events,
            task.design,
            n_volumes=n_volumes,
            tr=tr,
            n_dummy=n_dummy,
            confound_names=(),
        )
        for name, weights in task.contrasts.items():
            contrast_vector(model, name, weights)
    except DesignError as error:
        raise ImageInputError(error.reason, "Correct the events.", "events") from None
    if not task.contrasts:
        reason = f"no event is inside the run ({n_volumes} volumes of {tr:g} s)"
        raise ImageInputError(reason, "Correct the events.", "events")
    return task


def read_levels(events: Path) -> tuple[str, ...]:
    """Return the trial types in ``Levels`` of the sidecar next to an events file."""
    return list_levels(read_json(events.with_suffix(".json")))
