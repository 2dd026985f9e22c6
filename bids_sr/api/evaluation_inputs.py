"""Inputs of an evaluation: checks before processing, and conversion for the steps."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bids_sr.api.image_inputs import (
    ImageInputError,
    ImageLike,
    SuperResolutionWarning,
    check_file,
    check_is_series,
    check_slice_axis,
    header_tr,
    load_mask,
    load_volume,
    open_series,
    series_file,
)
from bids_sr.api.run_basics import make_empty_mask
from bids_sr.api.run_inputs import RunInputs
from bids_sr.glm.blocks import TooFewBlocks
from bids_sr.glm.contrasts import resolve_contrasts
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.model_confounds import model_confounds
from bids_sr.glm.regressors import DesignError, Events, read_events
from bids_sr.io.confound_names import find_renamed_columns
from bids_sr.io.fields_of_view import (
    EDGE_TOLERANCE,
    corner_distance,
    find_grid_problems,
    is_inside_field,
)
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import ImageError, SeriesReader
from bids_sr.io.tables import read_frame
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import VerdictFacts
from bids_sr.notices import UsageError
from bids_sr.registration.series_alignment import ComparedError, check_alignment, check_nan_voxels
from bids_sr.series import BASELINES, get_kind
from bids_sr.spatial.transforms import hr_grid
from bids_sr.steps.block_effects import check_blocks
from bids_sr.steps.default_contrasts import choose_default_contrasts

_DISPLACEMENT = "framewise_displacement"


def check_names(series: object, not_applied: Sequence[str] = (), compared: object = None) -> None:
    """Raise ImageInputError for reserved or invalid names of series, and for invalid values.

    Reserved names have other meanings in tables. Names may only have letters and digits.

    Parameters
    ----------
    series : object
        Series to evaluate by name; may be None or empty if `compared` has series.
    not_applied : Sequence[str]
        Names of methods that fell back to zero filling.
    compared : object
        Series of other programs by name, or None.
    """
    if compared is not None and not isinstance(compared, Mapping):
        raise ImageInputError(
            f"compared: expected a dictionary that maps names to images, got {compared!r:.60}"
        )
    compared_series = dict(compared) if isinstance(compared, Mapping) else {}
    series = {} if series is None and compared_series else series
    if not isinstance(series, Mapping) or not (series or compared_series):
        raise ImageInputError(
            f"series: expected a dictionary, got {series!r:.60}. Pass a dictionary "
            "that maps names to images or fitted SuperResolver objects, for example "
            "{'sbl': resolver}."
        )
    names = [str(name) for name in series]
    if unknown := [name for name in not_applied if name not in names]:
        raise ImageInputError(
            f"not_applied: {', '.join(map(repr, unknown))} not found in series. Choose from "
            f"{', '.join(names)}."
        )
    if duplicates := sorted({*names} & {*map(str, compared_series)}):
        raise ImageInputError(
            f"compared: {', '.join(duplicates)} is also a name in series. Use different names."
        )
    for name in (*names, *map(str, compared_series)):
        if not (name.isascii() and name.isalnum()) or get_kind(name) != "method":
            reserved_names = ", ".join((*BASELINES, "raw", "run", "measured"))
            argument = "compared" if name in map(str, compared_series) else "series"
            raise ImageInputError(
                f"{argument}: {name!r} is not a valid name. Names may contain only letters and "
                f"digits, and must differ from the reserved names ({reserved_names}). The "
                "baselines need not be passed: Evaluator computes them."
            )


def load_confounds(
    confounds: pd.DataFrame | np.ndarray | str | Path, n_volumes: int
) -> pd.DataFrame:
    """Return the confounds of the models, one row per volume.

    Parameters
    ----------
    confounds : pd.DataFrame | ndarray | str | Path
        Table, array (t, columns) or file, as in nilearn.
    n_volumes : int
        Number of volumes of the series.

    Returns
    -------
    pd.DataFrame
        Named columns; only values of the first row may be missing. From a table of the program or
        of fMRIPrep, framewise displacement and the columns of the program's models are returned.
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
            "confounds: the table cannot be read, or contains values that are not numbers "
            f"({error}). Pass a DataFrame or the path of a TSV file with numeric columns."
        ) from error
    if len(table) != n_volumes:
        raise ImageInputError(
            f"confounds: the table has {len(table)} rows, but the series has {n_volumes} "
            "volumes. Provide one row per volume, including the non-steady-state volumes."
        )
    if table.iloc[1:].isna().any(axis=None):
        incomplete = ", ".join(table.columns[table.iloc[1:].isna().any()])
        raise ImageInputError(
            f"confounds: missing values were found after the first row in {incomplete}. Fill in "
            "these values or drop the columns."
        )
    return table


def is_program_table(confounds: pd.DataFrame) -> bool:
    """Return whether confounds are from the program or fMRIPrep, with columns of known meaning."""
    return _DISPLACEMENT in confounds


def list_runs(source: object) -> object:
    """Return a series to evaluate, or a list of images or estimators if it has several runs."""
    return getattr(source, "runs_", None) or source


def check_series(brain: Volume, image: ImageLike, n_volumes: int, folder: Path, name: str) -> Path:
    """Return the file of a super-resolved series, after checks of its grid and number of volumes.

    `brain` is on the high-resolution grid (3D, boolean). `n_volumes` includes dummies.
    """
    shape = (*brain.data.shape, n_volumes)
    with open_series(image, folder, name) as reader:
        if reader.shape != shape or not np.allclose(reader.affine, brain.affine, atol=1e-3):
            raise ImageInputError(
                f"series: {name} is not on the high-resolution grid of the run (its "
                f"shape is {reader.shape}; expected {shape}). Pass the output of "
                "SuperResolver.transform, or change factor."
            )
        return reader.path


def parse_contrasts(
    inputs: RunInputs, contrasts: Sequence[str], design: DesignSettings, n_volumes: int, tr: float
) -> dict[str, Mapping[str, float]]:
    """Return the weights of conditions (events or seeds) by contrast.

    Default contrasts are those that the events allow to estimate, as in the program. A warning
    names what is left out.

    Parameters
    ----------
    contrasts : Sequence[str]
        Requested contrasts; if empty, default contrasts are used.
    design : DesignSettings
        Options of the design.
    n_volumes : int
        Number of volumes, including dummies.
    tr : float
        Repetition time (s).
    """
    if inputs.seeds:
        return dict(resolve_contrasts(list(inputs.seeds), contrasts))
    events = load_events(inputs.events)
    if contrasts or not tr > 0:
        return dict(resolve_contrasts(events.conditions, contrasts))
    chosen, left_out = choose_default_contrasts(events, design, n_volumes, tr)
    if left_out:
        texts = (f"{text} {', '.join(names)}" for text, names in left_out.items())
        warnings.warn(
            f"default contrasts: {'; '.join(texts)}.", SuperResolutionWarning, stacklevel=2
        )
    return dict(chosen)


def load_events(events: pd.DataFrame | str | Path | None) -> Events:
    """Return events as in the program, from a table or a BIDS file.

    Events have an onset (s), a duration (s) and a trial type.
    """
    columns = "Events need the columns onset (s), duration (s) and trial_type."
    if not isinstance(events, (pd.DataFrame, str, os.PathLike)):
        raise ImageInputError(
            "events: expected a DataFrame or the path of a BIDS events file, got "
            f"{type(events).__name__}"
        )
    try:
        if not isinstance(events, pd.DataFrame):
            return read_events(check_file(events, "events"))
        text = events.astype(object).where(events.notna(), "n/a").astype(str)
        return Events.from_rows(list(text), enumerate(text.to_dict("records"), 2), "events")
    except DesignError as error:
        prefix = "" if isinstance(events, pd.DataFrame) else "events: "
        raise ImageInputError(f"{prefix}{error}. {columns}") from None


def _check_activation_names(known: Iterable[str], contrasts: Iterable[str]) -> None:
    """Raise ImageInputError if known activation has the name of an unknown contrast."""
    if unknown := [name for name in known if name not in contrasts]:
        names = ", ".join(map(repr, unknown))
        raise ImageInputError(
            f"truth: {names} not found among the contrasts of this evaluation. Choose from "
            f"{', '.join(contrasts)}."
        )


def load_activation(brain: Volume, image: ImageLike, folder: Path, name: str) -> Volume:
    """Return a map of known activation that covers the brain.

    `brain` is on the high-resolution grid (3D, boolean). `image` is a map (3D) in the frame of the
    boldref.
    """
    volume = load_volume(image, folder, f"truth_{name}")
    is_covered = is_inside_field(
        np.argwhere(brain.data), brain.affine, volume.data.shape, volume.affine, EDGE_TOLERANCE
    )
    if not is_covered.all():
        raise ImageInputError(
            f"truth: the field of view of {name} covers only {is_covered.mean():.0%} of "
            "the brain. Pass a map that covers the whole brain, in the coordinate "
            "frame of the boldref."
        )
    return volume


def check_inputs(
    acquired: SeriesReader,
    compared: Mapping[str, ImageLike],
    inputs: RunInputs,
    folder: Path,
    *,
    factor: Factor,
    tr: float,
    design: DesignSettings,
    contrasts: Sequence[str],
) -> None:
    """Check all inputs of a run before processing.

    All problems are reported together. For parameters, see `bids_sr.Evaluator`; `factor` is by
    axis, and `tr` is 0 if it is unknown.
    """
    problems = list[Exception]()

    def collect_problem(check: Callable[..., object], *args: object) -> None:
        try:
            check(*args)
        except (
            ImageInputError,
            ImageError,
            ComparedError,
            UsageError,
            TooFewBlocks,
            DesignError,
        ) as error:
            problems.append(error)

    if not tr > 0:
        problems.append(
            ImageInputError(
                "tr: the image header of the acquired series does not specify the "
                "repetition time or its unit. Pass tr in seconds."
            )
        )
    check_is_series(acquired, "acquired")
    collect_problem(_read_all_volumes, acquired)
    for name, image in compared.items():
        collect_problem(_check_compared, name, image, acquired, tr, factor, folder)
    if inputs.events is not None:
        collect_problem(_check_events, inputs, contrasts, design, acquired.shape[3], tr)
    if inputs.other_events is not None:
        collect_problem(load_events, inputs.other_events)
    if inputs.mask is not None:
        collect_problem(load_mask, inputs.mask, make_empty_mask(acquired), folder)
    if inputs.other_run is not None:
        collect_problem(_check_other_run, inputs.other_run, folder)
    for name, image in inputs.known.items():
        collect_problem(series_file, image, folder, f"truth {name}")
    if inputs.measured is not None:
        collect_problem(_check_truth, inputs.measured, acquired, factor, folder)
    if problems:
        raise problems[0] if len(problems) == 1 else ImageInputError("\n".join(map(str, problems)))


def _read_all_volumes(reader: SeriesReader) -> None:
    """Read a series, which raises an error if values are missing or infinite."""
    for _ in reader.volumes():  # Reading raises an error for NaN.
        pass


def _check_other_run(image: ImageLike, folder: Path) -> None:
    """Raise ImageInputError if the other run is not a series, or has another slice axis."""
    with SeriesReader(series_file(image, folder, "other_run")) as reader:
        check_is_series(reader, "other_run")
        check_slice_axis(reader)
        _read_all_volumes(reader)


def _check_events(
    inputs: RunInputs, contrasts: Sequence[str], design: DesignSettings, n_volumes: int, tr: float
) -> None:
    """Raise an error if events are invalid, or have too few blocks or unknown contrasts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SuperResolutionWarning)  # shown by the evaluation
        contrast_weights = parse_contrasts(inputs, contrasts, design, n_volumes, tr)
    _check_activation_names(inputs.known, contrast_weights)
    if tr > 0:
        check_blocks(load_events(inputs.events), design, n_volumes, tr)


def _check_truth(truth: ImageLike, acquired: SeriesReader, factor: Factor, folder: Path) -> None:
    """Raise ImageInputError if the measured series does not have the high-resolution grid."""
    hr_shape, _ = hr_grid(acquired.shape[:3], acquired.affine, factor)
    with SeriesReader(series_file(truth, folder, "truth")) as reader:
        count, shape = reader.shape[3], reader.shape[:3]
        gap = corner_distance(shape, reader.affine, acquired.shape[:3], acquired.affine)
        limit = EDGE_TOLERANCE * min(reader.zooms)
    if count != acquired.shape[3]:
        raise ImageInputError(
            f"truth: the image has {count} volumes, but the acquired series has "
            f"{acquired.shape[3]}. Pass a measurement of the same run, or a "
            "dictionary that maps contrasts to known activation maps."
        )
    if shape != hr_shape or gap > limit:
        raise ImageInputError(
            f"truth: the grid has shape {shape}, but the high-resolution grid of the run has "
            f"shape {hr_shape}. The outer edges of the two fields of view are up to {gap:.3g} "
            f"mm apart (limit: {limit:.2g} mm). Pass a series that was measured in the same "
            "field of view and whose axes point in the same directions."
        )


def _check_compared(
    name: str, image: ImageLike, acquired: SeriesReader, tr: float, factor: Factor, folder: Path
) -> None:
    """Raise ImageInputError if a series of another program does not match the acquired series."""
    with SeriesReader(series_file(image, folder, name, allow_nan=True), allow_nan=True) as reader:
        grid_problems = find_grid_problems(
            reader.shape,
            reader.affine,
            header_tr(reader.header),
            acquired.shape,
            acquired.affine,
            tr,
            factor,
        )
        problems = [f"{reason}. {fix}" for reason, fix in grid_problems]
        try:
            check_nan_voxels(reader.volumes())
            if not problems:
                check_alignment(acquired, reader)
        except ComparedError as error:
            problems.append(str(error))
    if problems:
        raise ImageInputError("\n".join(f"compared: {name}: {problem}" for problem in problems))


def list_evidence_and_limits(verdict: VerdictFacts) -> dict[str, Sequence[str]]:
    """Return the sentences and limitations of a verdict, by heading."""
    evidence = [sentence["text"] for sentence in verdict["sentences"]]
    return {"Evidence": evidence, "Limitations": verdict["limits"]}
