"""`people.py fluctuations`: how series fluctuate in time, in space and by place; a phantom beside
people.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _people_measured import DRIFTS, FIRST, NOISE
from _table import keep
from scipy import ndimage

from bids_sr.io.nifti import SeriesReader
from bids_sr.spatial.boldref import estimate_run, make_boldref
from bids_sr.spatial.masks import brain_mask
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.resolution.matrices import crop_matrix

BANDS = {"below .03 Hz": (0.0, 0.03), ".03 to .1 Hz": (0.03, 0.1), "above .1 Hz": (0.1, 9.0)}
APART_MM = (4.0, 8.0, 16.0, 32.0)


def fluctuations(arguments: Sequence[str]) -> None:
    """A column for each run of NAME=BIDS_DIR, brought in plane to about as many mm as a number
    before them says.
    """
    rows = []
    wanted = float(arguments[0]) if arguments[0].replace(".", "").isdigit() else 0.0
    for argument in arguments[1:] if wanted else arguments:
        name, _, folder = argument.partition("=")
        files = sorted(Path(folder).glob("sub-*/func/*_bold.nii.gz"))
        for number, file in enumerate(files, 1):
            rows.append(
                {"run": f"{name} {number}" if len(files) > 1 else name, **_row(file, wanted)}
            )
            print(rows[-1], flush=True)
    columns = [
        {"statistic": key, **{str(row["run"]): row[key] for row in rows}}
        for key in rows[0]
        if key != "run"
    ]
    keep(
        "people_fluctuations",
        "How series fluctuate: people and phantoms",
        columns,
        remarks=[
            (
                f"Without the first {FIRST} volumes, drift, and head motion (undone, and its six"
                " parameters and their steps regressed out), inside the brain. Thermal: the level"
                " of the lower half of the components. Structured: what is above it. Components:"
                f" above {NOISE} times the median. Edge: brain voxels next to the outside. Bright:"
                " the upper tenth of the mean image. Fine: beyond half the Nyquist limit in"
                " plane, of what 40 components hold above thermal noise. Grain: correlation of"
                " the map of structured standard deviation (logarithm, less its smooth part of 16"
                " mm) between neighbors in plane."
            ),
        ],
    )


def _row(file: Path, wanted: float) -> dict[str, Any]:
    with SeriesReader(file) as reader:
        reference = make_boldref(reader, n_dummy=FIRST)
        mask = brain_mask(reference, reader.affine)
        motion = estimate_run(reader, reference, mask, n_dummy=FIRST)
        still = [
            sample_volume(
                reader.volume(t),
                reader.affine,
                reader.shape[:3],
                reader.affine,
                motion.matrices[t],
            )
            for t in range(FIRST, reader.shape[3])
        ]
        tr, zooms = float(reader.tr), np.linalg.norm(reader.affine[:3, :3], axis=0)
    series = np.stack(still, -1)
    if wanted:
        for axis in (0, 1):
            n = series.shape[axis]
            down = crop_matrix(n, min(n, 2 * round(n * zooms[axis] / wanted / 2))).astype(
                np.float32
            )
            series = np.moveaxis(np.tensordot(down, series, (1, axis)), 0, axis)
            mask = (
                np.moveaxis(np.tensordot(down, mask.astype(np.float32), (1, axis)), 0, axis) > 0.5
            )
            zooms[axis] *= n / len(down)
    mean, count = series.mean(-1), series.shape[-1]
    mask &= mean > 0.2 * np.percentile(mean[mask], 90)
    params = motion.params[FIRST:]
    waves = np.cos(np.pi * (np.arange(count) + 0.5)[:, None] * np.arange(DRIFTS) / count)
    drift = np.linalg.qr(np.c_[np.linspace(-1, 1, count), waves])[0]
    nuisance = np.c_[
        np.linspace(-1, 1, count), waves, params, np.diff(params, axis=0, prepend=params[:1])
    ]
    nuisance = nuisance / np.maximum(np.linalg.norm(nuisance, axis=0), 1e-12)
    left, sizes, _ = np.linalg.svd(nuisance, full_matrices=False)
    basis = left[:, sizes > 1e-6 * sizes[0]]
    moved = 100 * series[mask] / mean[mask][:, None]
    moved = moved - (moved @ drift) @ drift.T
    percent = moved - (moved @ basis) @ basis.T
    free = count - basis.shape[1]
    values, vectors = np.linalg.eigh(percent.T @ percent / len(percent))
    values, vectors = values[::-1][:free], vectors[:, ::-1]
    thermal = float(values[free // 2 :].mean())
    total = float(values.sum())
    excess = np.maximum(values - thermal, 0)
    sd = percent.std(-1) * np.sqrt(count / free)
    top = min(40, free // 3)
    within = np.sqrt(np.square(percent @ vectors[:, :top]).sum(1) / count)
    edge = mask & ~ndimage.binary_erosion(mask, np.ones((3, 3, 1)))
    bright = mean[mask] > np.quantile(mean[mask], 0.9)
    inner = ~edge[mask]
    spectrum = np.square(np.abs(np.fft.rfft(percent, axis=1))).mean(0)
    frequency = np.fft.rfftfreq(count, tr)
    out: dict[str, Any] = {
        "volumes": count,
        "TR (s)": tr,
        "voxel (mm)": " x ".join(f"{z:.2f}" for z in zooms),
        "voxels": len(percent),
        "tSNR, median": round(float(np.median(100 / sd)), 1),
        "tSNR with motion's share, median": round(float(np.median(100 / moved.std(-1))), 1),
        "sd, median (%)": round(float(np.median(sd)), 2),
        "thermal sd (%)": round(float(np.sqrt(thermal)), 2),
        "structured, share of variance": round(float(excess.sum() / total), 3),
        "components": int((values > NOISE * np.median(values)).sum()),
        "first component, share": round(float(values[0] / total), 3),
        "8 components": round(float(values[:8].sum() / total), 3),
        "40 components": round(float(values[:40].sum() / total), 3),
        "brain's mean, share": round(float(percent.mean(0).var() / percent.var(1).mean()), 3),
        "sd, 90th percentile over median": round(float(np.quantile(sd, 0.9) / np.median(sd)), 2),
        "sd, 99th percentile over median": round(float(np.quantile(sd, 0.99) / np.median(sd)), 2),
        "sd at the edge over inside": round(
            float(np.median(sd[~inner]) / np.median(sd[inner])), 2
        ),
        "sd of bright voxels over inside": round(
            float(np.median(sd[bright & inner]) / np.median(sd[inner])), 2
        ),
    }
    for name, (low, high) in BANDS.items():
        chosen = (frequency >= low) & (frequency < high)
        out[f"variance {name}"] = round(float(spectrum[chosen].sum() / spectrum.sum()), 3)
    unit = percent / np.linalg.norm(percent, axis=1, keepdims=True)
    out["AR(1), median"] = round(float(np.median((unit[:, 1:] * unit[:, :-1]).sum(1))), 3)
    place = np.full(mask.shape, -1)
    place[mask] = np.arange(len(percent))
    for far in APART_MM:
        pairs = []
        for axis in (0, 1):
            step = max(1, round(far / zooms[axis]))
            first = np.moveaxis(place, axis, 0)[:-step].ravel()
            second = np.moveaxis(place, axis, 0)[step:].ravel()
            both = (first >= 0) & (second >= 0)
            pairs.append((unit[first[both]] * unit[second[both]]).sum(1))
        out[f"correlation {far:g} mm apart"] = round(float(np.concatenate(pairs).mean()), 3)
    out["fine, share of structured"] = round(
        _fine(percent, vectors[:, :top], thermal, mask, mean), 3
    )
    out["grain of the sd"], out["sd of log sd"] = _grain(
        within, thermal * top / count, mask, zooms
    )
    gradient = np.hypot(np.gradient(mean, axis=0), np.gradient(mean, axis=1))[mask] / mean[mask]
    ranks = [np.argsort(np.argsort(each)) for each in (within[inner], gradient[inner])]
    out["sd with gradient, rank r"] = round(float(np.corrcoef(*ranks)[0, 1]), 2)
    steps = np.abs(np.diff(params, axis=0))
    out["motion, mm a volume (framewise, mean)"] = round(
        float((steps[:, :3].sum(1) + 50 * steps[:, 3:].sum(1)).mean()), 3
    )
    return out


def _fine(percent: Any, courses: Any, thermal: float, mask: Any, mean: Any) -> float:
    """Share of the structured energy of components beyond half the Nyquist limit in plane (signal
    units).
    """
    energy = np.zeros(mask.shape[:2])
    noise = np.zeros(mask.shape[:2])
    rng = np.random.default_rng(0)
    for course in courses.T:
        for sum_, values in (
            (energy, percent @ course),
            (noise, np.sqrt(thermal) * rng.standard_normal(len(percent))),
        ):
            image = np.zeros(mask.shape)
            image[mask] = values * mean[mask]
            sum_ += np.square(np.abs(np.fft.fft2(image, axes=(0, 1)))).sum(-1)
    x, y = (np.abs(np.fft.fftfreq(n)) for n in mask.shape[:2])
    fine = np.maximum(x[:, None], y[None]) > 0.25
    structured = energy - noise
    return float(structured[fine].sum() / structured.sum())


def _grain(sd: Any, noise: float, mask: Any, zooms: Any) -> tuple[float, float]:
    """Correlation of the map of structured fluctuation between neighbors, without its smooth part;
    its spread.
    """
    image, weight = np.zeros(mask.shape), mask.astype(float)
    image[mask] = 0.5 * np.log(np.maximum(sd**2 - noise, 0.05 * np.median(sd) ** 2))
    width = 16.0 / 2.355 / zooms
    smooth = ndimage.gaussian_filter(image, width) / np.maximum(
        ndimage.gaussian_filter(weight, width), 1e-6
    )
    rough = (image - smooth) * mask
    pairs = []
    for axis in (0, 1):
        first, second = (
            np.moveaxis(rough, axis, 0)[part] for part in (slice(None, -1), slice(1, None))
        )
        both = np.moveaxis(mask, axis, 0)[:-1] & np.moveaxis(mask, axis, 0)[1:]
        pairs.append(np.corrcoef(first[both], second[both])[0, 1])
    return round(float(np.mean(pairs)), 3), round(float(rough[mask].std()), 3)
