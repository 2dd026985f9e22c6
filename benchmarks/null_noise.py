"""False-positive rate of the linear model at p < .001 without effects: simulated noise of known
kinds, and noise of participants.

python benchmarks/null_noise.py [--runs N] [--shuffles N] [--volumes N …] [--data DIR] [--fwhm MM
…]
    [--only noise|people]

One-sided p < .001 by z; the rate is the mean over both tails, as in `_shuffles.py`. Known
noise: 16,384 independent voxels, another design of 17 confounds in every run. `own` is the same
model with each voxel's own autocorrelation instead of the autocorrelation of its neighborhood.
People: residuals of the acquired runs after task, drift, head motion and its derivatives, with
random phases that are equal in all voxels, and random onsets (`null_rates` of `_shuffles.py`).
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _noise_kinds import KINDS, SHAPE, TR, ZOOMS, noise, study, tissues
from _shuffles import NullSettings, mean_interval, null_rates
from _table import keep
from scipy import special

from bids_sr.glm.design import build_design, contrast_vector
from bids_sr.glm.linear_model import ContrastModel
from bids_sr.glm.model_confounds import MOTION
from bids_sr.glm.noise import FWHM_MM, estimate_noise
from bids_sr.glm.regressors import read_events
from bids_sr.io.nifti import SeriesReader
from bids_sr.spatial.boldref import estimate_run, make_boldref
from bids_sr.spatial.masks import brain_mask

BEYOND = -float(special.ndtri(0.001))
BARS = {"noise": (0.8, 1.25), "people": (0.7, 1.4)}


def hits(courses: Any, design: Any, fwhm_mm: float) -> Any:
    """Return (voxels,) whether |z| of all conditions against rest is beyond p < .001,
    one-sided.
    """
    names = design.conditions
    vector = contrast_vector(design, "all", {name: 1 / len(names) for name in names})[None]
    all_voxels = slice(0, courses.shape[1])
    noise_model = estimate_noise(
        [(all_voxels, courses)], design.matrix, np.ones(SHAPE, bool), ZOOMS, fwhm_mm=fwhm_mm
    )
    return (
        np.abs(
            ContrastModel(design.matrix, vector, noise_model, rank=design.rank).fit(courses)["z"][
                0
            ]
        )
        > BEYOND
    )


def known_noise(kind: str, varied: bool, n: int, runs: int) -> dict[str, Any]:
    """Return rates per mille over runs of one kind of noise."""
    kinds, rates, own_rates, cost = tissues(), [], [], 0.0
    for seed in range(runs):
        rng = np.random.default_rng([n, seed])
        events, confounds = study(n, rng)
        design = build_design(
            events,
            n_volumes=n,
            tr=TR,
            confounds=confounds,
            confound_names=tuple(confounds.columns),
        )
        courses = noise(kind, varied, n, rng)
        begin = time.perf_counter()
        voxel_hits = hits(courses, design, FWHM_MM)
        cost += time.perf_counter() - begin
        rates.append(
            [
                500 * voxel_hits.mean(),
                *(500 * voxel_hits[kinds == tissue].mean() for tissue in range(3)),
            ]
        )
        if seed < runs // 3:
            own_rates.append(500 * hits(courses, design, 1e-3).mean())
    table = np.array(rates)
    return {
        "volumes": n,
        "noise": kind,
        "over voxels": "by tissue and place" if varied else "alike",
        "runs": runs,
        "per mille": round(float(table[:, 0].mean()), 2),
        "± (runs)": round(float(table[:, 0].std(ddof=1)) / np.sqrt(runs), 2),
        "by tissue": ", ".join(f"{rate:.2f}" for rate in table[:, 1:].mean(axis=0)),
        "own, per mille": round(float(np.mean(own_rates)), 2),
        "s a run": round(cost / runs, 2),
        "holds": _holds("noise", table[:, 0].mean()),
    }


def _holds(kind: str, rate: float) -> str:
    low, high = BARS[kind]
    return "yes" if low <= rate <= high else "no"


def motion(reader: SeriesReader, reference: Any, mask: Any) -> pd.DataFrame:
    """Return six parameters of head motion and their derivatives, with the names of the
    confounds.
    """
    params = estimate_run(reader, reference, mask).params
    return pd.DataFrame(
        np.hstack([params, np.diff(params, axis=0, prepend=params[:1])]), columns=list(MOTION)
    )


def people(folder: Path, shuffles: int, widths: Sequence[float]) -> list[dict[str, Any]]:
    """Return a row per run of each participant and width of smoothing (mm)."""
    rows = []
    for name in ("studyforrest-localizer", "pydecnef", "opennft"):
        for bold in sorted((folder / name).glob("sub-*/func/*_bold.nii.gz")):
            stem = bold.name.removesuffix("_bold.nii.gz")
            tr = float(
                json.loads(bold.with_name(f"{stem}_bold.json").read_text())["RepetitionTime"]
            )
            events = read_events(bold.with_name(f"{stem}_events.tsv"))
            with tempfile.TemporaryDirectory() as scratch, SeriesReader(bold) as reader:
                reference = make_boldref(reader)
                mask = brain_mask(reference, reader.affine)
                confounds = motion(reader, reference, mask)
                for fwhm in widths:
                    settings = NullSettings(tr=tr, n_shuffles=shuffles, fwhm_mm=fwhm, max_voxels=0)
                    begin = time.perf_counter()
                    null = null_rates(
                        reader,
                        mask,
                        events,
                        settings,
                        scratch=Path(scratch),
                        confounds=confounds,
                    )
                    low, high = mean_interval(null.rates, 0)
                    rows.append(
                        {
                            "person": name,
                            "run": stem.split("_")[-1],
                            "volumes": reader.shape[3],
                            "fwhm (mm)": fwhm,
                            "voxels": null.n_voxels,
                            "shuffles": shuffles,
                            "per mille": round(1000 * float(null.rates.mean()), 2),
                            "interval": f"{1000 * low:.2f} to {1000 * high:.2f}",
                            "threshold (z)": round(null.threshold, 2),
                            "peak (z)": round(float(null.observed.max()), 2),
                            "beyond": int((null.observed > null.threshold).sum()),
                            "s a shuffle": round((time.perf_counter() - begin) / shuffles, 2),
                            "holds": _holds("people", 1000 * float(null.rates.mean())),
                        }
                    )
                    sys.stderr.write(f"{rows[-1]}\n")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--shuffles", type=int, default=60)
    parser.add_argument("--volumes", type=int, nargs="+", default=[60, 136, 300])
    parser.add_argument(
        "--fwhm", type=float, nargs="+", default=[0.0], help="smoothing of people's runs (mm)"
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", choices=("noise", "people"))
    options = parser.parse_args()
    if options.only != "people":
        rows = []
        for n in options.volumes:
            for kind in KINDS:
                for varied in (False, True):
                    rows.append(known_noise(kind, varied, n, options.runs))
                    sys.stderr.write(f"{rows[-1]}\n")
        keep(
            "null_noise",
            "Voxels beyond p < .001 (one-sided, mean of both tails) in noise of known kinds",
            rows,
        )
    if options.only != "noise":
        keep(
            "null_noise_people",
            "Voxels beyond p < .001 in the noise of people's runs, and the threshold it sets",
            people(options.data, options.shuffles, options.fwhm),
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
