"""`people.py word`: whether anything that a run tells without its reference separates much from
little (TRUTH.md).
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from _labels import label
from _people_data import TESTED, Tested, make_tested
from _people_predicted import OF_MEAN, acquired_data, recipe_of
from _table import RESULTS, keep

from bids_sr.metrics.long_tables import MetricRow, read_table
from bids_sr.sr.resolution.operators import level_above, to_slices
from bids_sr.sr.variance.one_level_down import quick_map, try_maps
from bids_sr.sr.variance.outer_band import OuterBand, chosen_slices, level_of_slices
from bids_sr.sr.variance.prior import Prior, Window
from bids_sr.sr.variance.run_data import RunData
from bids_sr.stats.evaluation.evidence import strongest

FEATURES = (
    "tested share",
    "tested share, active",
    "temporal SNR",
    "volumes",
    "outer fifth",
)
OUTCOMES = ("one type, active", "one type, brain", "own types, active", "own types, brain")
ACTIVE_T = 4.0


def page(tested: Tested, data: Path, out: Path, kind: str) -> Path:
    """Outputs of the program on the run, blind or with its measured volumes, unless they are
    there.
    """
    own = replace(tested, name=f"{tested.name}-own", one_type=False)
    low, truth = make_tested(own, data, out)
    if tested.low is not None:
        low = data / tested.low.split("/")[0]
    place = out / own.name / kind
    if not next(place.glob("sub-*.html"), None):
        subprocess.run(
            [
                str(Path(sys.executable).with_name("bids-sr")),
                str(low),
                str(place),
                "participant",
                "--sr-method",
                "sbl",
                "--skip-bids-validation",
                "--truth",
                str(truth) if kind == "opened" else "none",
                "-w",
                str(out / own.name / "work"),
                "--nprocs",
                "1",
                "--omp-nthreads",
                "1",
            ],
            check=True,
        )
    return place


def _file(place: Path, ending: str) -> Path:
    (found,) = place.glob(f"sub-*/**/func/*{ending}")
    return found


def features(place: Path, low: Path) -> dict[str, float]:
    """Features of a run, from its blind outputs and its acquired volumes."""
    rows = read_table(_file(place, "_desc-evaluation_metrics.tsv"))
    image: Any = nib.load(_file(low, "_bold.nii.gz"))  # type: ignore[attr-defined]
    shown = {
        str(file).split("_contrast-")[1].split("_")[0]: file
        for file in place.glob("sub-*/**/func/*_contrast-*_stat-t_desc-raw_statmap.nii.gz")
    }
    t_map: Any = nib.load(shown.get("all") or next(iter(shown.values())))  # type: ignore[attr-defined]
    active = np.abs(np.nan_to_num(np.asarray(t_map.dataobj, dtype=np.float32))) > ACTIVE_T
    with tempfile.TemporaryDirectory() as folder:
        run, data = acquired_data(image, Path(folder))
    with _file(place, "_desc-image_metrics.tsv").open() as stream:
        images = {
            (line["series"], line["measure"]): line["value"]
            for line in csv.DictReader(stream, delimiter="\t")
        }
    return {
        "tested share": _value(rows, "sbl", "tested_share"),
        "tested share, active": _tested_active(data, active & (run.bold_mask.data > 0)),
        "temporal SNR": float(images["raw", "tsnr_median"]),
        "volumes": float(data.volumes),
        "outer fifth": _outer_fifth(data),
    }


def _value(rows: Sequence[MetricRow], series: str, measure: str, region: str = "") -> float:
    own = [
        r for r in rows if (r.series, label(r)) == (series, measure) and region in ("", r.region)
    ]
    return min(own, key=lambda row: (row.fwhm_mm, row.contrast != "all")).value


def _tested_active(data: RunData, active: np.ndarray) -> float:
    """The share tested one level down, in active voxels alone; maps are those of the brain."""
    trial = data.trial()
    trial.mask = trial.mask & (to_slices(active[trial._cut].astype(np.float32)) > 0)
    return try_maps(trial, recipe_of("sbl"))[0.0].share


def _outer_fifth(data: RunData) -> float:
    """The share of the outer fifth of the acquired k-space that the map of the other half
    predicts, mean over tiles.
    """
    assert data.halves is not None
    x, y, z = data.mask.shape
    level, slices = level_above((x, y, z), data.factor), chosen_slices(data.mask)
    window = Window.around(level_of_slices(level, slices), np.asarray(data.mask)[:, :, slices])
    halves = [
        torch.stack([to_slices(image) for image in half.components])[:, slices]
        for half in data.halves
    ]
    with torch.inference_mode():
        priors = [quick_map(half, window, recipe_of("sbl"), 0) for half in halves]
        band = OuterBand(
            level,
            slices,
            data.mask,
            halves,
            [p for p in priors if isinstance(p, Prior)],
            data.affine,
        )
    return float(np.mean([share for half in band._without for share in half]))


def outcomes(place: Path) -> dict[str, float]:
    """What the verdict of a run with its reference rests on: explained variance of `sbl`, active
    voxels and brain.
    """
    found = strongest(
        "function", read_table(_file(place, "_desc-evaluation_metrics.tsv")), ["sbl"]
    )
    assert found is not None
    return {
        f"own types, {where}": found.value("sbl", region)
        for where, region in (("active", ""), ("brain", "brain"))
    }


def scored(tested: Tested, place: Path) -> list[dict[str, Any]]:
    """Explained variance of `sbl` in every contrast of a run with its reference, unsmoothed."""
    rows = [
        r
        for r in read_table(_file(place, "_desc-evaluation_metrics.tsv"))
        if (r.series, label(r), r.fwhm_mm) == ("sbl", "split_ev_beyond", 0)
    ]
    return [
        {
            "run": tested.title,
            "person": tested.person,
            "contrast": contrast,
            **{
                where: next(
                    (r.value for r in rows if (r.contrast, r.region) == (contrast, region)),
                    float("nan"),
                )
                for where, region in (("active", "active40"), ("brain", "brain"))
            },
        }
        for contrast in dict.fromkeys(row.contrast for row in rows)
    ]


def word(arguments: Sequence[str]) -> None:
    """Tables people_features, which opens nothing, and people_word."""
    data, out = Path(arguments[0]), Path(arguments[1])
    rows: list[dict[str, Any]] = []
    for tested in TESTED.values():
        place = page(tested, data, out, "blind")
        low = data / tested.low.split("/")[0] if tested.low else out / f"{tested.name}-own" / "low"
        rows.append({"run": tested.title, "person": tested.person, **features(place, low)})
        print(rows[-1], flush=True)
    keep(
        "people_features",
        "What a run tells without its reference",
        [_rounded(row) for row in rows],
    )
    contrasts: list[dict[str, Any]] = []
    known = {
        row["run"]: row
        for row in json.loads((RESULTS / "people_runs.json").read_text())["rows"]
        if row["series"] == "`sbl`, blind"
    }
    for tested, row in zip(TESTED.values(), rows, strict=True):
        for where in ("active", "brain"):
            said = known[tested.title][f"explained variance, {where}"].split()[0]
            row[f"one type, {where}"] = float("nan") if said == "n/a" else float(said)
        opened = page(tested, data, out, "opened")
        row |= outcomes(opened)
        contrasts += scored(tested, opened)
    write(rows)
    keep(
        "people_contrasts",
        "Explained variance of `sbl` by contrast, beyond the acquired Nyquist limit",
        [_rounded(row) for row in contrasts],
    )


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Floats with four decimals, None where they are not defined."""
    return {
        k: (round(v, 4) if np.isfinite(v) else None) if isinstance(v, float) else v
        for k, v in row.items()
    }


def errors(
    rows: Sequence[Mapping[str, Any]], feature: str, outcome: str
) -> dict[str, tuple[float, float]]:
    """By person left out: mean error of the prediction by a feature, and that of the mean of the
    other people.
    """
    rows = [row for row in rows if np.isfinite(row[outcome])]
    people, found = dict.fromkeys(row["person"] for row in rows), {}
    for person in people:
        others = [[r for r in rows if r["person"] == other] for other in people if other != person]
        ratio = float(np.mean([np.mean([r[outcome] / r[feature] for r in own]) for own in others]))
        mean = float(np.mean([np.mean([r[outcome] for r in own]) for own in others]))
        own = [r for r in rows if r["person"] == person]
        found[person] = (
            float(np.mean([abs(ratio * r[feature] - r[outcome]) for r in own])),
            float(np.mean([abs(mean - r[outcome]) for r in own])),
        )
    return found


def write(rows: Sequence[Mapping[str, Any]]) -> None:
    """Table people_word: features and outcomes, whether a feature separates, and the range that
    pages give.
    """
    told = []
    for feature in FEATURES:
        holds, line = True, []
        for outcome in OUTCOMES:
            found = errors(rows, feature, outcome)
            holds &= len(found) > 2 and all(
                error <= OF_MEAN * mean for error, mean in found.values()
            )
            line.append(
                f"{outcome} " + ", ".join(f"{p} {e:.3f} ({m:.3f})" for p, (e, m) in found.items())
            )
        told.append(
            f"{feature} {'separates' if holds else 'does not separate'}: {'; '.join(line)}."
        )
    keep(
        "people_word",
        "What a run tells without its reference, and what is so",
        [_rounded(row) for row in rows],
        remarks=[
            "Errors of the prediction for the person left out (of the mean of the others):",
            *told,
        ],
    )
