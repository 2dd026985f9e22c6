"""Detail above the acquired Nyquist frequency that methods with a run's own variance recover, over
participants.

python benchmarks/people.py settings BIDS_DIR
    settings tried in the self-test at half the resolution (BIDS_DIR is low)
python benchmarks/people.py share NAME=BIDS_DIR ...
    explained fraction of zero filling's error, one row per run
python benchmarks/people.py data DATA OUT
    data sets of the next three, and the calls that they make
python benchmarks/people.py runs DATA OUT [ONLY ...]
    the whole program, without and with calibration, on every run of DATA
python benchmarks/people.py noisy DATA OUT [ONLY ...]
    the same without calibration, with thermal noise restored
python benchmarks/people.py contrasts DATA OUT [ONLY ...]
    the same without calibration, by contrast
python benchmarks/people.py smoothed DATA OUT [ONLY ...]
    the same on runs that were smoothed before
python benchmarks/people.py harm DATA OUT [ONLY ...]
    wrong calibrations
python benchmarks/people.py protocol DATA OUT [ONLY ...]
    the same with other lengths, moments, distortions
python benchmarks/people.py all DATA OUT
    all of the above on the data sets of DATA

DATA contains studyforrest-localizer, -lowres, -lowres-truth, pydecnef and opennft; ONLY is RUN or
RUN:KIND, such as B2 or B2:blind. Results of a call are stored in OUT/RUN/kept/KIND, and no call is
repeated; tables are made from all stored results.

Each run is downsampled by two in plane (k-space crop about the center of the field of view) and
super-resolved. The share is 1 - |reconstruction - measured|^2 / |zero filling - measured|^2, mean
over the strongest temporal components of the measured run inside the brain; measured data contain
thermal noise, so 1 cannot be reached. Settings were fixed in the self-test on studyforrest
(`settings`, 40 to 20), which does not open its reference; every other value is an opening, and
TRUTH.md counts them. The participant is the unit: `share` ends with a row for the mean over
participants and its range.

`oracle` uses the standard deviation of the measured components as its map: the upper bound of
these methods with known w.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _minimum_norm import minimum_norm, prior_by
from _people_calibrations import make_calibration
from _people_data import TESTED, make_tested
from _people_measured import FACTOR, Array, Run, components, runs_of
from _people_runs import command
from _people_tables import contrasts, harm, noisy, protocol, runs, smoothed
from _table import keep
from torch import Tensor

from bids_sr.sr.matrices import crop_matrix
from bids_sr.sr.method import get_method
from bids_sr.sr.operators import ResolutionLevel
from bids_sr.sr.prior_maps.add_detail import Modulation
from bids_sr.sr.prior_maps.estimation import compute_filled_sd, estimate_prior
from bids_sr.sr.prior_maps.prior import Prior, Tile
from bids_sr.sr.prior_maps.self_test import (
    SelfTest,
    _average_scores,
    _compute_scores,
    _make_detail_function,
    score_maps,
)
from bids_sr.sr.recipe import VarianceRecipe

METHODS = ("sdmod", "wmn", "focuss", "sbl")


def recipe_of(name: str) -> VarianceRecipe:
    """Return the recipe of a method of variance maps."""
    recipe = get_method(name).variance
    assert recipe is not None
    return recipe


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A downsampled run: its components as measured and as acquired, and its mask."""

    run: Run
    level: ResolutionLevel
    tile: Tile
    measured: Tensor
    acquired: Tensor
    low: Array
    low_mask: Array
    mask: Tensor

    def share(self, prior: Prior | Modulation) -> float:
        """Return the explained fraction of all measured components."""
        with torch.inference_mode():
            detail_function = _make_detail_function(prior, self.level)
            return _average_scores(
                _compute_scores(detail_function, self.level, self.measured, self.mask)
            )


def brought_down(run: Run) -> Problem:
    """Downsample a run by two in plane."""
    x, y, z = run.mask.shape
    level = ResolutionLevel((x // 2, y // 2, z), (x, y, z))
    across, along = (crop_matrix(n, n // 2).astype(np.float32) for n in (x, y))
    low = np.einsum("ia,acZt,jc->ijZt", across, run.series, along, optimize=True)
    low_mask = np.einsum("ia,acZ,jc->ijZ", across, run.mask.astype(np.float32), along) > 0.5
    return Problem(
        run=run,
        level=level,
        tile=Tile.from_mask(level, low_mask),
        measured=components(run.series, run.mask),
        acquired=components(low, low_mask),
        low=low,
        low_mask=low_mask,
        mask=torch.from_numpy(run.mask.transpose(2, 0, 1).copy()),
    )


def prior_of(name: str, problem: Problem, seed: int = 0) -> Prior | Modulation:
    """Return the prior that a method estimates from the acquired run."""
    if name == "sdmod":
        return Modulation(
            region=problem.tile, weight=compute_filled_sd(problem.acquired, problem.tile)
        )
    return prior_by(name, problem.acquired, problem.tile, recipe_of("sbl"), seed=seed)


def oracle(problem: Problem) -> Prior:
    """Return the map of the measured components."""
    sd = problem.measured.square().mean(0).sqrt()
    return minimum_norm(problem.acquired, problem.tile, start=sd)


def gate_of(problem: Problem, name: str = "sbl") -> float:
    """Return the self-test score of the gate, between halves of the acquired run."""
    middle = problem.low.shape[-1] // 2
    halves = [
        np.moveaxis(components(problem.low[..., part], problem.low_mask).numpy(), 1, 3)
        for part in (slice(middle), slice(middle, None))
    ]
    return score_maps(SelfTest(halves, problem.low_mask, FACTOR), recipe_of(name))[0.0].mean


def share(arguments: list[str]) -> None:
    """Tabulate the explained fraction, one row per run."""
    rows: list[dict[str, Any]] = []
    for run in runs_of(arguments):
        problem = brought_down(run)
        shares = {name: problem.share(prior_of(name, problem)) for name in METHODS}
        rows.append(
            {
                "run": run.name,
                "person": run.person,
                "components": len(problem.measured),
                **{name: round(value, 4) for name, value in shares.items()},
                "oracle": round(problem.share(oracle(problem)), 4),
                "gate": round(gate_of(problem), 4),
            }
        )
        print(rows[-1], flush=True)
    columns = (*METHODS, "oracle")
    people = {
        person: [r for r in rows if r["person"] == person]
        for person in dict.fromkeys(r["person"] for r in rows)
    }
    means = {
        name: [float(np.mean([r[name] for r in person_rows])) for person_rows in people.values()]
        for name in columns
    }
    rows.append(
        {
            "run": f"mean over {len(people)} people",
            "person": "",
            "components": "",
            **{name: round(float(np.mean(values)), 4) for name, values in means.items()},
            "gate": "",
        }
    )
    lead = [a - b for a, b in zip(means["sbl"], means["focuss"], strict=True)]
    keep(
        "people_share",
        "Share of zero filling's error explained, in plane by 2",
        rows,
        remarks=[
            "sbl less focuss, a person each:"
            f" {', '.join(f'{difference:+.3f}' for difference in lead)}.",
        ],
    )


TRIED: Mapping[str, Mapping[str, Any]] = {
    "sbl": {},
    "one correlation, 2": {"fwhm": (2.0,)},
    "one correlation, 2.5": {"fwhm": (2.5,)},
    "one, 3": {"fwhm": (3.0,)},
    "4 and 2 and 1": {"fwhm": (4.0, 2.0, 1.0)},
    "noise 1e-4": {"noise": 1e-4},
    "noise 1e-2": {"noise": 1e-2},
    "components equal": {"equalize": 1.0},
    "half equal": {"equalize": 0.5},
    "as they are": {"equalize": 0.0},
    "not pulled": {"pull": 0.0},
    "pulled by .2": {"pull": 0.2},
    "smooth .5": {"smooth": 0.5},
    "smooth 1": {"smooth": 1.0},
    "3 rounds": {"rounds": 3},
    "12 rounds": {"rounds": 12},
    "24 draws": {"draws": 24},
    "128 draws": {"draws": 128},
}


def settings(arguments: list[str]) -> None:
    """Tabulate the settings tried in the self-test on one run; no other results were used to fix
    them.
    """
    (run,) = runs_of([f"run={arguments[0]}"])
    problem = brought_down(run)
    rows = [
        {"setting": name, "share": round(problem.share(prior_of(name, problem)), 4), "s": ""}
        for name in METHODS[:3]
    ]
    for name, changed in TRIED.items():
        start_s = time.monotonic()
        estimator: VarianceRecipe = replace(recipe_of("sbl"), **changed)
        shares = [
            problem.share(estimate_prior(problem.acquired, problem.tile, estimator, seed=s))
            for s in range(3)
        ]
        rows.append(
            {
                "setting": name,
                "share": round(float(np.mean(shares)), 4),
                "s": round((time.monotonic() - start_s) / 3, 1),
            }
        )
        print(rows[-1], flush=True)
    rows.append({"setting": "oracle", "share": round(problem.share(oracle(problem)), 4), "s": ""})
    keep(
        "people_settings",
        "Settings of sbl, tried one level of resolution down (three seeds)",
        rows,
    )


def data(arguments: list[str]) -> None:
    """Make the data sets of `runs`, and print the calls of the program that `runs` makes."""
    folder, out = Path(arguments[0]), Path(arguments[1])
    for tested in TESTED.values():
        low, truth = make_tested(tested, folder, out)
        fine = make_calibration("fine", tested, folder, out)
        for calibration in ("none", fine):
            print(
                " ".join(
                    command(
                        low,
                        out / tested.name / "results",
                        truth,
                        calibration,
                        out / tested.name / "work",
                    )
                )
            )


def everything(arguments: list[str]) -> None:
    """Make every table on participants that README and docs show."""
    folder = Path(arguments[0])
    people = [
        f"A={folder / 'studyforrest-lowres-truth'}",
        f"B={folder / 'pydecnef'}",
        f"C={folder / 'opennft'}",
    ]
    settings([str(folder / "studyforrest-lowres")])
    share(people)
    for command_ in (runs, noisy, contrasts, smoothed, harm, protocol):
        command_(arguments[:2])


def main() -> int:
    """Run one subcommand."""
    commands = {
        "settings": settings,
        "share": share,
        "data": data,
        "runs": runs,
        "noisy": noisy,
        "contrasts": contrasts,
        "smoothed": smoothed,
        "harm": harm,
        "protocol": protocol,
        "all": everything,
    }
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    commands[sys.argv[1]](sys.argv[2:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
