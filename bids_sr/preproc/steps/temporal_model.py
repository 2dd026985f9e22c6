"""Censoring, band-pass filtering and drift of a run, as columns of the confounds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bids_sr.engine.artifacts import Confounds, Facts
from bids_sr.engine.step import Stage, step
from bids_sr.io.atomic_files import read_json
from bids_sr.io.confound_names import CENSORED
from bids_sr.io.json_values import as_number
from bids_sr.preproc import temporal_regressors
from bids_sr.preproc.model_confounds import model_confounds


def describe_censored(
    model: temporal_regressors.TimeModel, folders: Sequence[Path], _unfinished: int
) -> str:
    """Return methods text with the numbers of censored volumes.

    `folders` are the folders of finished `add_temporal_regressors` steps.
    """
    model_text = describe_time_model(model)
    if not model.censors:
        return model_text
    tables = [read_json(folder / "censoring.json") for folder in folders]
    shares = [as_number(table["share"]) for table in tables]
    counts = [f"{table['censored']} of {table['steady']}" for table in tables]
    count_sentence = (
        f"{counts[0]} volumes ({shares[0]:.1%}) were censored."
        if len(tables) == 1
        else f"In {len(tables)} runs, {min(shares):.1%} to {max(shares):.1%} of the"
        f" volumes were censored ({', '.join(counts)})."
    )
    return f"{model_text} {count_sentence}"


def describe_time_model(model: temporal_regressors.TimeModel) -> str:
    """Return methods text of the temporal model of a run."""
    sentences = []
    if model.censors:
        sentences.append(
            f"Volumes with {model.rules} were censored [@power2012]. Censored volumes were"
            " excluded from models, correlations, seed time series and split-half analyses of"
            " all series, and were not replaced by interpolated values."
        )
    if model.band_pass is not None:
        low, high = model.band_pass
        sentences.append(
            f"Band-pass filtering ({low:g} to {high:g} Hz) was performed within the models:"
            " discrete cosines of all other frequencies were included as nuisance regressors in"
            " all models and correlations."
        )
    if model.legendre is not None:
        sentences.append(
            "Low-frequency drift was modeled with Legendre polynomials up to order"
            f" {model.legendre}."
        )
    return " ".join(sentences)


@step(
    Stage.HEAD_MOTION,
    makes=("confounds", "confounds_columns", "time_columns", "censoring"),
    small=True,
)
def add_temporal_regressors(
    gathered_confounds: Confounds,
    gathered_columns: Facts | None = None,
    *,
    model: temporal_regressors.TimeModel,
    high_pass: float,
    n_regressors: int,
    nuisance: list[str] | None,
    at_rest: bool,
    tr: float,
    n_dummy: int,
) -> tuple[Confounds, Facts, Confounds, Facts]:
    """Add confounds that censor volumes, filter by frequency, and model drift.

    `gathered_columns` are descriptions of the confounds of the run. `high_pass` is the cut-off of
    the cosines that model drift (Hz); 0 if the added columns model drift. `n_regressors` is the
    number of regressors of conditions, or of seeds if the run has no events (`at_rest`).
    `nuisance` are the columns of the confounds in the linear models; None for motion and aCompCor.
    `tr` is in s.

    Returns confounds with the added columns; descriptions of all columns; only the added columns;
    and counts of censored volumes. Raises `InvalidInput` if too few volumes remain for the model.
    """
    time_table, descriptions = temporal_regressors.time_columns(
        gathered_confounds, model, tr=tr, n_dummy=n_dummy
    )
    table = pd.concat([gathered_confounds, time_table], axis=1)
    # Outlier volumes have columns in the gathered confounds.
    is_included = temporal_regressors.uncensored_volumes(gathered_confounds, len(table))[n_dummy:]
    is_uncensored = temporal_regressors.uncensored_volumes(time_table, len(table))[n_dummy:]
    confound_names = [
        name for name in model_confounds(table, nuisance) if not name.startswith(CENSORED)
    ]
    n_cosines = max(1, int(2 * (len(is_uncensored) * tr) * high_pass))
    temporal_regressors.check_volumes(
        int((is_included & is_uncensored).sum()),
        int(is_included.sum()),
        n_regressors + len(confound_names) + 1 + n_cosines,
        model,
        tr=tr,
        least_s=temporal_regressors.LEAST_AT_REST_S if at_rest else 0.0,
    )
    facts = dict(temporal_regressors.censoring_facts(is_uncensored, model))
    facts["volumes"] = [n_dummy + int(row) for row in np.flatnonzero(~is_uncensored)]
    facts["model"] = model.words
    return table, {**(gathered_columns or {}), **descriptions}, time_table, facts
