"""What methods that use a run's own variance recover beyond the acquired band, over people.

python benchmarks/people.py settings BIDS_DIR            what was tried, one level of resolution down (BIDS_DIR is low)
python benchmarks/people.py share NAME=BIDS_DIR ...      share of zero filling's error explained, one row a run
python benchmarks/people.py noise NAME=BIDS_DIR ...      the same with thermal noise added, and what the gate says
python benchmarks/people.py predict NAME=BIDS_DIR ...    whether the share tested one level down predicts the true one
python benchmarks/people.py turns BIDS_DIR OUT           data sets in which one of two runs calibrates the other

Each run is brought down by two in plane (k-space crop about the center of the field of view) and raised again. The
share is 1 - |reconstruction - measured|^2 / |zero filling - measured|^2, mean over the strongest temporal components of
the measured run inside the brain; thermal noise is part of what was measured, so 1 cannot be reached. Settings were
fixed on studyforrest one level down (`settings`, 40 to 20), which does not open its truth; every other figure is an
opening, and TRUTH.md counts them. The participant is the unit: `share` ends with a row for the mean over people and its
range.

`oracle` takes the standard deviation of the measured components as its map: what the class could reach with w known.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from _people_predicted import FACTOR, predict, recipe_of
from _table import keep
from numpy.typing import NDArray
from torch import Tensor

from bids_sr.io.nifti import save_image
from bids_sr.sr.recipe import Estimator
from bids_sr.sr.resolution.matrices import crop_matrix, kspace_crop
from bids_sr.sr.resolution.operators import Level
from bids_sr.sr.variance.one_level_down import Trial, explained_share, try_maps
from bids_sr.sr.variance.prior import Prior, Window
from bids_sr.sr.variance.upsampler import Modulation
from bids_sr.sr.variance.variance_estimation import estimate_prior, filled_sd

FIRST = 5  # volumes before the steady state
COUNT, NOISE, DRIFTS = 40, 1.5, 6
METHODS = ("sdmod", "wmn", "focuss", "sbl")
Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One measured run as it is compared: (X, Y, Z, T) without drift, the brain, and who it is."""

    name: str
    person: str
    series: Array
    mask: Array

    def part(self, volumes: slice) -> Run:
        """Some of its volumes."""
        return replace(self, series=self.series[..., volumes])


def runs_of(arguments: list[str]) -> Iterator[Run]:
    """Runs of NAME=BIDS_DIR, every one with at least 60 volumes."""
    for argument in arguments:
        person, _, folder = argument.partition("=")
        files = sorted(Path(folder).glob("sub-*/**/func/*_bold.nii.gz"))
        for number, file in enumerate(files, 1):
            image = nib.load(file)  # type: ignore[attr-defined]
            if image.shape[3] < 60:
                continue
            data = np.asarray(image.dataobj, dtype=np.float32)[..., FIRST:]  # type: ignore[attr-defined]
            even = tuple(n // 4 * 4 for n in data.shape[:2])
            yield without_drift(f"{person} {number}" if len(files) > 1 else person, person, data[: even[0], : even[1]])


def without_drift(name: str, person: str, data: Array) -> Run:
    """A run with its drift taken out; the brain is where the mean exceeds a quarter of its upper end."""
    mean, count = data.mean(-1), data.shape[-1]
    mask = mean > 0.25 * np.percentile(mean, 98)
    waves = np.cos(np.pi * (np.arange(count) + 0.5)[:, None] * np.arange(DRIFTS) / count)
    basis = np.linalg.qr(np.c_[np.linspace(-1, 1, count), waves])[0].astype(np.float32)
    return Run(name=name, person=person, series=data - (data @ basis) @ basis.T, mask=mask)


def components(series: Array, mask: Array) -> Tensor:
    """(C, Z, X, Y) strongest temporal components, those above noise."""
    count = series.shape[-1]
    inside = series[mask].astype(np.float64)
    values, vectors = np.linalg.eigh(inside.T @ inside)
    above = int((values > NOISE * np.median(values[DRIFTS:])).sum())
    kept = min(COUNT, max(8, above))
    found = series @ (vectors[:, ::-1][:, :kept] / np.sqrt(count)).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(found.transpose(3, 2, 0, 1)))


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A run brought down: its components as measured and as acquired, and where they count."""

    run: Run
    level: Level
    window: Window
    known: Tensor
    acquired: Tensor
    low: Array
    low_mask: Array
    mask: Tensor

    def share(self, prior: Prior | Modulation) -> float:
        """Explained share of all measured components."""
        with torch.inference_mode():
            return explained_share(prior, self.level, self.known, self.mask)


def brought_down(run: Run) -> Problem:
    """A run at half its resolution in plane."""
    x, y, z = run.mask.shape
    level = Level((x // 2, y // 2, z), (x, y, z))
    across, along = (crop_matrix(n, n // 2).astype(np.float32) for n in (x, y))
    low = np.einsum("ia,acZt,jc->ijZt", across, run.series, along, optimize=True)
    low_mask = np.einsum("ia,acZ,jc->ijZ", across, run.mask.astype(np.float32), along) > 0.5
    return Problem(
        run=run, level=level, window=Window.around(level, low_mask), known=components(run.series, run.mask),
        acquired=components(low, low_mask), low=low, low_mask=low_mask,
        mask=torch.from_numpy(run.mask.transpose(2, 0, 1).copy()),
    )  # fmt: skip


def prior_of(name: str, problem: Problem, start: Tensor | None = None, seed: int = 0) -> Prior | Modulation:
    """What a method makes of the acquired run."""
    if name == "sdmod":
        return Modulation(window=problem.window, weight=filled_sd(problem.acquired, problem.window))
    return estimate_prior(problem.acquired, problem.window, recipe_of(name).estimator, start=start, seed=seed)


def oracle(problem: Problem) -> Prior:
    """The map of the measured components."""
    sd = problem.known.square().mean(0).sqrt()[problem.window.fine].contiguous()
    estimator = recipe_of("wmn").estimator
    return estimate_prior(problem.acquired, problem.window, estimator, start=sd)


def gate_of(problem: Problem, name: str = "sbl") -> float:
    """Share that the gate sees, one level down, between halves of the acquired run."""
    middle = problem.low.shape[-1] // 2
    halves = [
        np.moveaxis(components(problem.low[..., part], problem.low_mask).numpy(), 1, 3)
        for part in (slice(middle), slice(middle, None))
    ]
    return try_maps(Trial(halves, problem.low_mask, FACTOR), recipe_of(name).estimator)[0.0].share


def share(arguments: list[str]) -> None:
    """One row a run."""
    rows: list[dict[str, Any]] = []
    for run in runs_of(arguments):
        problem = brought_down(run)
        shares = {name: problem.share(prior_of(name, problem)) for name in METHODS}
        rows.append({
            "run": run.name, "person": run.person, "components": len(problem.known),
            **{name: round(value, 4) for name, value in shares.items()}, "oracle": round(problem.share(oracle(problem)),
            4), "gate": round(gate_of(problem), 4),
        })  # fmt: skip
        print(rows[-1], flush=True)
    columns = (*METHODS, "oracle")
    people = {person: [r for r in rows if r["person"] == person] for person in dict.fromkeys(r["person"] for r in rows)}
    means = {name: [float(np.mean([r[name] for r in own])) for own in people.values()] for name in columns}
    rows.append({"run": f"mean over {len(people)} people", "person": "", "components": "",
                 **{name: round(float(np.mean(values)), 4) for name, values in means.items()}, "gate": ""})  # fmt: skip
    lead = [a - b for a, b in zip(means["sbl"], means["focuss"], strict=True)]
    keep("people_share", "Share of zero filling's error explained, in plane by 2", rows, remarks=[
        f"sbl less focuss, a person each: {', '.join(f'{each:+.3f}' for each in lead)}.",
    ])  # fmt: skip


def noise(arguments: list[str]) -> None:
    """Shares and gate with thermal noise added to the measured run, and of nothing but noise."""
    rows: list[dict[str, Any]] = []
    for run in runs_of(arguments):
        typical = float(np.median(run.series[run.mask].std(-1)))
        for amount, only, volumes in ((0.0, False, None), (2.0, False, None), (4.0, False, None), (8.0, False, None),
                                      (1.0, True, None), (0.0, False, 60), (4.0, False, 60)):  # fmt: skip
            part = run.part(slice(volumes)) if volumes else run
            rng = np.random.default_rng(7)
            added = (amount * typical * rng.normal(size=part.series.shape)).astype(np.float32)
            problem = brought_down(replace(part, series=added if only else part.series + added))
            seen, reached = gate_of(problem), problem.share(prior_of("sbl", problem))
            top = _share_of_strongest(problem)
            applied = seen >= (recipe_of("sbl").least_explained or 0)
            rows.append({
                "run": run.name, "volumes": part.series.shape[-1], "noise over its SD": "only" if only else amount,
                "8 components hold": round(top, 3), "gate": round(seen, 4), "sbl without the gate": round(reached, 4),
                "applied": applied, "sbl": round(reached, 4) if applied else 0.0,
            })  # fmt: skip
            print(rows[-1], flush=True)
    keep("people_noise", "Thermal noise and the gate", rows)


def _share_of_strongest(problem: Problem) -> float:
    inside = problem.run.series[problem.run.mask].astype(np.float64)
    values = np.linalg.eigvalsh(inside.T @ inside)[::-1]
    return float(values[:8].sum() / values.sum())


TRIED: Mapping[str, Mapping[str, Any]] = {
    "sbl": {},
    "one correlation, 2": {"fwhm": (2.0,)}, "one correlation, 2.5": {"fwhm": (2.5,)}, "one, 3": {"fwhm": (3.0,)},
    "4 and 2 and 1": {"fwhm": (4.0, 2.0, 1.0)},
    "noise 1e-4": {"noise": 1e-4}, "noise 1e-2": {"noise": 1e-2},
    "components equal": {"equalize": 1.0},
    "half equal": {"equalize": 0.5}, "as they are": {"equalize": 0.0},
    "not pulled": {"pull": 0.0}, "pulled by .2": {"pull": 0.2}, "smooth .5": {"smooth": 0.5},
    "smooth 1": {"smooth": 1.0},
    "3 rounds": {"rounds": 3}, "12 rounds": {"rounds": 12}, "24 draws": {"draws": 24}, "128 draws": {"draws": 128},
}  # fmt: skip


def settings(arguments: list[str]) -> None:
    """What was tried on one run one level down; nothing else was looked at when settings were fixed."""
    (run,) = runs_of([f"run={arguments[0]}"])
    problem = brought_down(run)
    rows = [
        {"setting": name, "share": round(problem.share(prior_of(name, problem)), 4), "s": ""} for name in METHODS[:3]
    ]
    for name, changed in TRIED.items():
        began = time.monotonic()
        estimator: Estimator = replace(recipe_of("sbl").estimator, **changed)
        found = [problem.share(estimate_prior(problem.acquired, problem.window, estimator, seed=s)) for s in range(3)]
        rows.append({"setting": name, "share": round(float(np.mean(found)), 4),
                     "s": round((time.monotonic() - began) / 3, 1)})  # fmt: skip
        print(rows[-1], flush=True)
    rows.append({"setting": "oracle", "share": round(problem.share(oracle(problem)), 4), "s": ""})
    keep("people_settings", "Settings of sbl, tried one level of resolution down (three seeds)", rows)


def turns(arguments: list[str]) -> None:
    """Of two runs, one brought down by two, the other as it is for its calibration, and what was measured as truth."""
    source, out = Path(arguments[0]), Path(arguments[1])
    files = sorted(source.glob("sub-*/**/func/*_bold.nii.gz"))
    for number, file in enumerate(files[:2]):
        other, low, truth = files[1 - number], out / f"turn-{number + 1}", out / f"turn-{number + 1}-truth"
        for place in (low, truth):
            shutil.copytree(source, place, ignore=lambda _, names: [n for n in names if "_bold" in n or "_events" in n])
            folder = place / file.parent.relative_to(source)
            for beside in file.parent.glob(file.name.replace("_bold.nii.gz", "_*.[jt]s*")):
                shutil.copy(beside, folder)
        image = nib.load(file)  # type: ignore[attr-defined]
        data = np.asarray(image.dataobj, dtype=np.float32)  # type: ignore[attr-defined]
        coarse, affine = kspace_crop(data, image.affine, factor=FACTOR)
        folder = low / file.parent.relative_to(source)
        save_image(coarse, affine, folder / file.name, header_like=image.header)
        shutil.copy(file, truth / file.parent.relative_to(source))
        finer = other.name.replace("_run-", "_acq-highres_run-")
        shutil.copy(other, folder / finer)
        shutil.copy(str(other).replace(".nii.gz", ".json"), folder / finer.replace(".nii.gz", ".json"))
        print(f"bids-sr {low} {out}/out-{number + 1} participant --sr-method sbl --truth {truth}")


def main() -> int:
    """One subcommand."""
    wanted = {"settings": settings, "share": share, "noise": noise, "predict": predict, "turns": turns}
    if len(sys.argv) < 3 or sys.argv[1] not in wanted:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    wanted[sys.argv[1]](sys.argv[2:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
