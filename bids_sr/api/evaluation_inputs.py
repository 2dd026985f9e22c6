"""What an evaluation is given, as the steps of the program take it, and its rows as a table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bids_sr.api.image_inputs import (
    ImageInputError,
    ImageLike,
    MaskLike,
    Motion,
    PreparedRun,
    opened,
    there,
    volume_of,
)
from bids_sr.frozen import frozen
from bids_sr.io.array_types import Float
from bids_sr.io.grids import EDGE_TOLERANCE, corners_apart, inside_field
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.series import BASELINES, kind_of
from bids_sr.stats.glm.regressors import DesignError, Events, Seeds, read_events
from bids_sr.stats.glm.seeds import seed_series, seed_voxels

Truth = ImageLike | Mapping[str, ImageLike]


@frozen
class Inputs:
    """What `Evaluator.fit` was given for one run beside the series; see there."""

    events: pd.DataFrame | str | Path | None = None
    seeds: Mapping[str, Sequence[float]] | None = None
    confounds: pd.DataFrame | None = None
    mask: MaskLike | None = None
    roi: MaskLike | None = None
    truth: Truth | None = None
    guide: ImageLike | None = None
    lowres: ImageLike | None = None
    motion: Motion | None = None
    boldref: ImageLike | None = None
    guide_xfm: Motion | None = None
    other_run: ImageLike | None = None
    other_events: pd.DataFrame | str | Path | None = None

    @property
    def known(self) -> Mapping[str, ImageLike]:
        """Known activation by contrast."""
        return self.truth if isinstance(self.truth, Mapping) else {}

    @property
    def measured(self) -> ImageLike | None:
        """The series that was measured at the high resolution."""
        return None if isinstance(self.truth, Mapping) else self.truth


def checked_names(
    series: object, not_applied: Sequence[str] = (), compared: object = None
) -> None:
    """Refuse reserved or malformed series names, and values that are not series.

    Reserved names stand for something else in tables; names may hold letters and digits only.
    """
    if compared is not None and not isinstance(compared, Mapping):
        raise ImageInputError(
            f"compared: a mapping of name to image is needed, not {compared!r:.60}"
        )
    others = dict(compared) if isinstance(compared, Mapping) else {}
    series = {} if series is None and others else series
    if not isinstance(series, Mapping) or not (series or others):
        needed = (
            "a mapping of name to image or fitted SuperResolver is needed, such as {'sbl':"
            " resolver}"
        )
        raise ImageInputError(f"series: {needed}, not {series!r:.60}")
    names = [str(name) for name in series]
    if strange := [name for name in not_applied if name not in names]:
        raise ImageInputError(
            f"not_applied: {', '.join(map(repr, strange))} is no series; there are"
            f" {', '.join(names)}"
        )
    if twice := sorted({*names} & {*map(str, others)}):
        raise ImageInputError(
            f"compared: {', '.join(twice)} is among series, too; give each a name of its own"
        )
    for name in (*names, *map(str, others)):
        if not (name.isascii() and name.isalnum()) or kind_of(name) != "method":
            taken = (
                f"{', '.join(BASELINES)}, raw, run, measured, which stand for others (baselines"
                " are made here)"
            )
            raise ImageInputError(
                f"series: {name!r} cannot name a series; take letters and digits, and none of"
                f" {taken}"
            )


def of_runs(what: object) -> object:
    """Return one series to evaluate, as a list (images or estimators) if it spans several runs."""
    return getattr(what, "runs_", None) or what


def series_on(brain: Volume, image: ImageLike, n_volumes: int, folder: Path, name: str) -> Path:
    """The file of a super-resolved series.

    Raises
    ------
    ImageInputError : another grid than that of the run at the high resolution, or another number
        of volumes
    """
    wanted = (*brain.data.shape, n_volumes)
    with opened(image, folder, name) as reader:
        if reader.shape != wanted or not np.allclose(reader.affine, brain.affine, atol=1e-3):
            what = (
                f"{name} is {reader.shape}, and the run at the high resolution {wanted} on the"
                " grid of its reference"
            )
            raise ImageInputError(
                f"series: {what}; give what SuperResolver.transform returns, or another factor"
            )
        return reader.path


def check_measured(
    reader: SeriesReader, acquired: Sequence[int], affine: Float, finest: Sequence[int]
) -> None:
    """Check the matrix and volumes of a measured series against the high-resolution run.

    Raises
    ------
    ImageInputError : another number of volumes, grid or field of view
    """
    count, shape = reader.shape[3], reader.shape[:3]
    if count != acquired[3]:
        fix = "a measured reference is of the same run (or give known activation by contrast)"
        raise ImageInputError(
            f"truth: {count} volumes, the acquired series has {acquired[3]}; {fix}"
        )
    apart = corners_apart(shape, reader.affine, tuple(acquired[:3]), affine)
    limit = EDGE_TOLERANCE * min(reader.zooms)
    if shape != tuple(finest) or apart > limit:
        raise ImageInputError(
            f"truth: its grid is {shape}, and {tuple(finest)} is that of the run at the high"
            f" resolution; the outer edges of the two fields of view lie up to {apart:.3g} mm"
            f" apart, and {limit:.2g} mm are allowed; give the series measured in the same field"
            " of view, with axes in the same directions"
        )


def events_of(events: pd.DataFrame | str | Path) -> Events:
    """Events as the program reads them, from a table or a BIDS file.

    Raises
    ------
    ImageInputError : there is no such file, or it is no table of events
    """
    columns = "give onset, duration (s) and trial_type"
    if not isinstance(events, (pd.DataFrame, str, os.PathLike)):
        raise ImageInputError(
            "events: a DataFrame or the path of a BIDS file is needed, not"
            f" {type(events).__name__}"
        )
    try:
        if not isinstance(events, pd.DataFrame):
            return read_events(there(events, "events"))
        text = events.astype(object).where(events.notna(), "n/a").astype(str)
        return Events.of(list(text), enumerate(text.to_dict("records"), 2), "events")
    except DesignError as error:
        named = "" if isinstance(events, pd.DataFrame) else "events: "
        raise ImageInputError(f"{named}{error}; {columns}") from None


def seeds_of(
    raw: SeriesReader, seeds: Mapping[str, Sequence[float]], run: PreparedRun, radius_mm: float
) -> Seeds:
    """Time series of seeds, in the place of events.

    Raises
    ------
    ImageInputError : a seed outside the brain
    """
    voxels = {}
    for name, center in seeds.items():
        try:
            voxels[name] = seed_voxels(run.brain.data, run.brain.affine, center, radius_mm)
        except ValueError as error:
            raise ImageInputError(
                f"seeds: {name} at {tuple(center)}: {error}; give scanner coordinates (RAS mm)"
            ) from None
    return Seeds.of(seed_series(raw, voxels, run.n_dummy))


def truths_on(
    brain: Volume,
    known: Mapping[str, ImageLike],
    contrasts: Mapping[str, Mapping[str, float]],
    folder: Path,
) -> dict[str, Volume]:
    """Known activation by contrast.

    Raises
    ------
    ImageInputError : there is no such contrast, or the field of view leaves out a part of the
        brain
    """
    check_known(known, contrasts)
    return {name: _covering(brain, image, folder, name) for name, image in known.items()}


def check_known(known: Iterable[str], contrasts: Iterable[str]) -> None:
    """Refuse known activation of what is no contrast."""
    if strange := [name for name in known if name not in contrasts]:
        names = ", ".join(map(repr, strange))
        raise ImageInputError(
            f"truth: {names} is no contrast of this evaluation; there are {', '.join(contrasts)}"
        )


def _covering(brain: Volume, image: ImageLike, folder: Path, name: str) -> Volume:
    found = volume_of(image, folder, f"truth_{name}")
    inside = inside_field(
        np.argwhere(brain.data), brain.affine, found.data.shape, found.affine, EDGE_TOLERANCE
    )
    if not inside.all():
        what = f"the field of view of {name} covers {inside.mean():.0%} of the brain"
        raise ImageInputError(
            f"truth: {what}; give a map in the frame of the reference that covers all of it"
        )
    return found
