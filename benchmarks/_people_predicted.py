"""Whether what is tried on a run one level of resolution down predicts what is reached at the true
level.

Each measured run is brought down by two in plane and goes through the steps of the program:
dummies, head motion, mask, components, halves. `tested` is the share that the program reports
(`bids_sr.sr.variance.one_level_down`), found without the measured volumes. `true` is the share of
the same series at the true level: its map of the whole run, held against the strongest components
of the measured run, whose volumes are brought into place by the head motion of the run under test.
The prediction is ``ratio x tested``; the ratio of a person left out is the mean over the other
people of theirs (mean over their runs).
"""

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from _minimum_norm import WMN, prior_by
from _table import keep
from scipy import stats

from bids_sr.api.image_inputs import opened
from bids_sr.api.placed_run import Given, place_run
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.pipeline.run_here import RunHere
from bids_sr.sr.data.temporal_components import motion_courses, temporal_statistics
from bids_sr.sr.inference.acquired import UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import make_upsampler, write_series
from bids_sr.sr.method import get_method
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.resolution.matrices import kspace_crop
from bids_sr.sr.resolution.operators import level_above, to_slices
from bids_sr.sr.variance.one_level_down import (
    _added_by,
    _added_by_interpolation,
    _explained_share,
    try_interpolation,
    try_maps,
)
from bids_sr.sr.variance.prior import Window
from bids_sr.sr.variance.run_data import RunData, run_data
from bids_sr.sr.variance.upsampler import Modulation
from bids_sr.sr.variance.variance_estimation import filled_sd

FACTOR = (2.0, 2.0, 1.0)
MAPS, PLAIN = ("sbl", "wmn", "sdmod"), "bspline"
SERIES = (*MAPS, PLAIN)
LARGEST_ERROR, OF_MEAN, WIDEST = 0.03, 0.5, 0.08
"""A prediction is used where it errs no more than this on each person left out, no more than this
part of what the mean of the other people errs, and where an interval no wider than this holds on
each."""


class FoundRun(NamedTuple):
    """Reference of a run, its brain, head motion (T, 4, 4) and volumes that are not steady."""

    boldref: Volume
    bold_mask: Volume
    hmc_xfms: np.ndarray
    n_dummy: int


def recipe_of(name: str) -> VarianceRecipe:
    """The recipe of a method of variance maps."""
    found = get_method(name).variance
    assert found is not None
    return found


def estimator_of(name: str) -> VarianceRecipe:
    """That of a method of variance maps, or of the weighted minimum norm."""
    return WMN if name == "wmn" else recipe_of(name)


def files_of(arguments: Sequence[str]) -> Iterator[tuple[str, str, Path]]:
    """(name, person, series) of every run of NAME=BIDS_DIR with at least 60 volumes."""
    for argument in arguments:
        person, _, folder = argument.partition("=")
        files = sorted(Path(folder).glob("sub-*/**/func/*_bold.nii.gz"))
        files = [file for file in files if nib.load(file).shape[3] >= 60]  # type: ignore[attr-defined]
        for number, file in enumerate(files, 1):
            yield f"{person} {number}" if len(files) > 1 else person, person, file


def shares_of(file: Path, folder: Path) -> dict[str, Any]:
    """Tested and true share of every series of a run."""
    image = nib.load(file)  # type: ignore[attr-defined]
    low, affine = kspace_crop(
        np.asarray(image.dataobj, dtype=np.float32), image.affine, factor=FACTOR
    )
    coarse = nib.Nifti1Image(low, affine, image.header)  # type: ignore[attr-defined]
    run, data = acquired_data(coarse, folder)
    out: dict[str, Any] = {"volumes": low.shape[3] - run.n_dummy}
    trial = data.trial()
    for name in SERIES:
        found = (
            try_interpolation(trial, name)
            if name == PLAIN
            else try_maps(trial, estimator_of(name))[0.0]
        )
        out |= {
            f"{name} tested": found.share,
            f"{name} lower": found.interval[0],
            f"{name} upper": found.interval[1],
        }
    return out | _true_shares(image, run, data, folder)


def undo_motion(reader: SeriesReader, run: FoundRun, path: Path, affine: np.ndarray) -> Path:
    """Write a series of the run on a grid of its matrix (voxel to RAS mm), head motion undone by
    one interpolation.
    """
    raw = make_upsampler("raw", UpsamplerInputs(factor=(1.0, 1.0, 1.0)))
    write_series(reader, path, raw, run.hmc_xfms, affine, factor=(1.0, 1.0, 1.0))
    return path


def acquired_data(image: Any, folder: Path) -> tuple[FoundRun, RunData]:
    """What the steps of the program make of an acquired run."""
    with opened(image, folder, "bold", any_order=True) as reader:
        scope = place_run(reader, Given(), {"factor": FACTOR, "realigned": False}, folder, "auto")
        run = FoundRun(*RunHere(scope, folder).load(*(scope[name] for name in FoundRun._fields)))
        with SeriesReader(undo_motion(reader, run, folder / "raw.nii", run.boldref.affine)) as raw:
            data = run_data(
                raw,
                run.bold_mask.data,
                recipe_of("sbl"),
                FACTOR,
                n_dummy=run.n_dummy,
                poses=run.hmc_xfms,
            )
    return run, data


def _true_shares(image: Any, run: FoundRun, data: RunData, folder: Path) -> dict[str, float]:
    """Shares at the true level; this opens the measured run."""
    x, y, z = run.bold_mask.data.shape
    level = level_above((x, y, z), FACTOR)
    window = Window.around(level, run.bold_mask.data)
    fine = run.bold_mask.data.repeat(2, 0).repeat(2, 1)
    with opened(image, folder, "truth", any_order=True) as reader:
        path = undo_motion(reader, run, folder / "measured.nii", reader.affine)
    middle = (
        run.boldref.affine[:3, :3] @ np.argwhere(run.bold_mask.data).mean(0)
        + run.boldref.affine[:3, 3]
    )
    with SeriesReader(path) as reader:
        measured = temporal_statistics(
            reader,
            fine,
            run.n_dummy,
            recipe_of("sbl").components,
            nuisance=motion_courses(run.hmc_xfms, middle),
        )
    known = torch.stack([to_slices(each) for each in measured.components])
    acquired = torch.stack([to_slices(each) for each in data.statistics.components])
    mask, out = to_slices(fine) > 0, {}
    for name in SERIES:
        with torch.inference_mode():
            if name == PLAIN:
                added = _added_by_interpolation(name, level)
            elif name == "sdmod":
                control = Modulation(window=window, weight=filled_sd(acquired, window))
                added = _added_by(control)
            else:
                added = _added_by(prior_by(name, acquired, window, recipe_of("sbl")))
            out[f"{name} true"] = _explained_share(added, level, known, mask)
    return out


def ratio_of(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[float, list[float]]:
    """True over tested share, mean over people, and that of each person (mean over runs)."""
    people = list(dict.fromkeys(row["person"] for row in rows))
    own = [
        float(
            np.mean(
                [
                    row[f"{name} true"] / row[f"{name} tested"]
                    for row in rows
                    if row["person"] == person
                ]
            )
        )
        for person in people
    ]
    return float(np.mean(own)), own


def reach_of(own: Sequence[float]) -> float:
    """Half width of the 95 % interval of a new person's ratio."""
    count = len(own)
    return float(stats.t.ppf(0.975, count - 1) * np.std(own, ddof=1) * math.sqrt(1 + 1 / count))


def left_out(rows: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """Every run predicted from the other people: by the ratio, and by their mean; with the
    interval of all people.
    """
    reach = reach_of(ratio_of(rows, name)[1])
    out = []
    for row in rows:
        others = [each for each in rows if each["person"] != row["person"]]
        tested, true = row[f"{name} tested"], row[f"{name} true"]
        by_person = [
            [each[f"{name} true"] for each in others if each["person"] == person]
            for person in dict.fromkeys(each["person"] for each in others)
        ]
        predicted = ratio_of(others, name)[0] * tested
        mean = float(np.mean([np.mean(each) for each in by_person]))
        out.append(
            {
                "series": name,
                "run": row["run"],
                "person": row["person"],
                "tested": tested,
                "true": true,
                "predicted": predicted,
                "error": predicted - true,
                "mean of others": mean,
                "its error": mean - true,
                "width": 2 * reach * abs(tested),
                "inside": abs(true - predicted) <= reach * abs(tested),
            }
        )
    return out


def judged(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Whether the prediction of a series meets its bars, a person each the mean of its runs'
    errors.
    """
    people = dict.fromkeys(row["person"] for row in found)
    errors, means = (
        [
            float(np.mean([abs(row[key]) for row in found if row["person"] == person]))
            for person in people
        ]
        for key in ("error", "its error")
    )
    holds = (
        max(abs(row["error"]) for row in found) <= LARGEST_ERROR
        and all(error <= OF_MEAN * mean for error, mean in zip(errors, means, strict=True))
        and max(row["width"] for row in found) <= WIDEST
        and all(row["inside"] for row in found)
    )
    return {
        "series": found[0]["series"],
        "largest error": max(abs(row["error"]) for row in found),
        "mean error": float(np.mean(errors)),
        "mean error of the mean": float(np.mean(means)),
        "largest part of it": max(a / max(b, 1e-9) for a, b in zip(errors, means, strict=True)),
        "widest interval": max(row["width"] for row in found),
        "inside": sum(row["inside"] for row in found),
        "holds": holds,
    }


def predict(arguments: Sequence[str]) -> None:
    """Tables of every run, of every run left out with its person, and whether the prediction
    holds.
    """
    rows: list[dict[str, Any]] = []
    for name, person, file in files_of(arguments):
        with tempfile.TemporaryDirectory() as folder:
            rows.append({"run": name, "person": person, **shares_of(file, Path(folder))})
        print(rows[-1], flush=True)
    write(rows)


def write(rows: Sequence[Mapping[str, Any]]) -> None:
    """Tables people_tested, people_predicted, people_prediction."""
    rounded = [
        {key: round(v, 4) if isinstance(v, float) else v for key, v in row.items()} for row in rows
    ]
    people = list(dict.fromkeys(row["person"] for row in rows))
    remarks = []
    for name in SERIES:
        ratio, own = ratio_of(rows, name)
        each = ", ".join(
            f"{person} {value:.3f}" for person, value in zip(people, own, strict=True)
        )
        remarks.append(
            f"{name}: true over tested {ratio:.3f} ({each}), ± {reach_of(own):.3f} for a new"
            " person."
        )
    keep(
        "people_tested",
        "Share tested one level down and true share, in plane by 2",
        rounded,
        remarks=remarks,
    )
    found = [each for name in SERIES for each in left_out(rows, name)]
    keep(
        "people_predicted",
        "True share of a person left out, predicted from the tested one",
        [
            {key: round(v, 4) if isinstance(v, float) else v for key, v in each.items()}
            for each in found
        ],
    )
    keep(
        "people_prediction",
        "Whether the prediction holds",
        [
            {
                key: round(v, 4) if isinstance(v, float) else v
                for key, v in judged(left_out(rows, name)).items()
            }
            for name in SERIES
        ],
    )
