"""Harm of wrong detail by width, and two candidates for the safe map, in draws called recovered.

python benchmarks/safe_map.py draw DATA OUT SEED[:SLICES,...[:KIND,...]] ...
python benchmarks/safe_map.py table OUT [NAME]

Draws are as of `drawn_worlds.py`, but the run is first tested at half the resolution. If only the
fineness might refuse its detail, the run is super-resolved, and its effect is compared with the
known activity: in all frequencies, in active voxels and in the brain, after the same smoothing of
map and activity. OUT has a file of values per draw, and the effects at half the resolution, so
that another rule needs no new draws. If the detail is wrong, intervals are tested, too, in some
seeds. NAME is that of the table; by default safe_map, with a table of intervals.

Candidates are smoothing of the map by 5 mm, and detail up to 4/3 of the acquired Nyquist frequency
with smoothing by 4 mm (acquired voxels of 6 mm).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
from _table import keep
from _worlds_draws import Level, explained_variance, load_draw, save_draw, super_resolve, test_run
from _worlds_kinds import FACTOR, WORLDS, Simulation, simulate_run
from _worlds_people import CONTRAST, Array, Person
from drawn_worlds import Job, list_draws, read_cached_person
from region_coverage import grow
from scipy import ndimage, sparse
from tested_worlds import classify_effects

from bids_sr.evaluation.reference_maps import TRUE_T
from bids_sr.glm.activation_maps import ActivationSettings, map_activation
from bids_sr.glm.design import contrast_vector
from bids_sr.glm.region_means import fit_mean_series
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.volume import Volume
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.smoothing import smooth
from bids_sr.spatial.transforms import resize_affine
from bids_sr.sr.operators import level_below, to_slices, to_volume
from bids_sr.sr.prior_maps import lower_resolution_errors
from bids_sr.sr.prior_maps.posterior import N_SAMPLES, draw_errors, effect_scale, mean_error_sd
from bids_sr.sr.steps.error_samples import interpolate_to_shape, scale_variance

WIDTHS = (0.0, 3.0, 4.0, 5.0, 6.0)
CUT = "cut"  # detail up to 4/3 of the acquired Nyquist frequency
_CUT_FACTOR = (1.5, 1.5, 1.0)
_CUT_MM = 4.0
_SHOWN = ("0 mm", "4 mm", "5 mm", CUT)
_PLACED = ("own fluctuations", "own fluctuations of both signs", "maxima")
_N_REGIONS = 40
_INTERVAL_SEEDS = range(2001, 2005)  # intervals take longer than the other values
_Z_95 = 1.96


def store_scores(data: Path, out: Path, job: Job) -> str:
    """Store the values of a draw unless another call has stored them, and return a line."""
    file = (out / job.file).with_suffix(".json")
    if file.exists():
        return f"{file.name} exists"
    start = time.process_time()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            person = read_cached_person(data, job.person, job.n_slices)
            values = score_draw(person, job, Path(folder), out / job.file)
    except Exception:  # the other draws do not depend on this draw
        return f"{file.name} failed\n{traceback.format_exc()}"
    values |= {"seconds": time.process_time() - start}
    file.write_text(json.dumps(values))
    shown = ("state", "tested", "true", "own_sd", "seconds")
    return f"{file.name} " + " ".join(
        f"{key} {values[key]:.2f}" if isinstance(values.get(key), float) else str(values.get(key))
        for key in shown
    )


def score_draw(person: Person, job: Job, folder: Path, file: Path) -> dict[str, Any]:
    """Test a draw, and score its maps if its detail may be recovered."""
    simulation = simulate_run(
        person, WORLDS[job.world], [job.seed, *job.world.encode(), *job.person.encode()]
    )
    measured, acquired = folder / "measured.nii", folder / "acquired.nii"
    save_image(simulation.series, person.affine, measured, tr=person.tr)
    level, window = level_below(person.mask.shape, FACTOR)
    assert all(extent.start == 0 for extent in window)
    low_mask = to_volume(level.downsample(to_slices(person.mask))) > 0.5
    low = level.restrict_to_plane().downsample(to_slices(np.moveaxis(simulation.series, -1, 0)))
    low_affine = resize_affine(person.affine, person.mask.shape, low_mask.shape)
    series = np.moveaxis(low.numpy(), (0, 1), (3, 2))
    save_image(series, low_affine, acquired, tr=person.tr)
    test, smoothness = test_run(acquired, person, low_mask, folder)
    facts = {"smoothness": smoothness} | {
        f"true, {region}": float("nan") for region in ("active", "brain")
    }
    save_draw(file, test, facts)
    result = classify_effects(load_draw(file))
    values = {
        "person": job.person,
        "slices": job.n_slices,
        "seed": job.seed,
        "world": job.world,
        "own_sd": simulation.own_sd,
        "lag": simulation.lag,
        "state": result["active, state"],
        "brain": result["brain, state"],
        "tested": result["active, tested"],
    }
    if values["state"] != "recovered" and not result["fineness decides"]:
        return values
    return values | _score_maps(person, simulation, measured, folder, job.seed)


def _score_maps(
    person: Person, simulation: Simulation, measured: Path, folder: Path, seed: int
) -> dict[str, Any]:
    """Super-resolve a run, and compare its effect with the known activity."""
    samples: list[tuple[Array, Array]] = []

    def keep_errors(*arguments: Any) -> tuple[Array, Array]:
        drawn = draw_errors(*arguments)
        samples.append((drawn[0].numpy(), drawn[1].numpy()))
        return drawn

    with mock.patch.object(lower_resolution_errors, "draw_errors", keep_errors):
        final = super_resolve(measured, person, person.mask, folder, n_samples=N_SAMPLES)
    weights = final.acquired.run_weights(CONTRAST)
    assert weights is not None
    effect = final.reconstructed @ weights.astype(np.float32)
    low = sample_volume(
        final.low_effects @ weights.astype(np.float32),
        final.low_affine,
        person.mask.shape,
        person.affine,
    )
    strengths = [person.design.weights.T @ response for response in simulation.responses]
    known = sum(
        activity * float(weights @ strength)
        for activity, strength in zip(simulation.activities, strengths, strict=True)
    )
    known = np.asarray(known, np.float32)
    is_active = person.mask & (np.abs(final.active_t) > TRUE_T)
    zooms = person.zooms.tolist()
    detail = beyond_nyquist(effect, FACTOR)
    base = effect - detail
    cut = effect - beyond_nyquist(effect, _CUT_FACTOR)
    values: dict[str, Any] = {
        "true": explained_variance(detail, beyond_nyquist(known, FACTOR), is_active),
        "true, brain": explained_variance(detail, beyond_nyquist(known, FACTOR), person.mask),
        "active voxels": int(is_active.sum()),
    }
    for name, fine, width in (
        *((f"{width:g} mm", effect, width) for width in WIDTHS),
        (CUT, cut, _CUT_MM),
        ("cut, 5 mm", cut, 5.0),
    ):
        maps = {
            "map": smooth(fine, zooms, width),
            "without": smooth(base, zooms, width),
            "bspline": smooth(low, zooms, width),
        }
        target = smooth(known, zooms, width)
        for region, voxels in (("active", is_active), ("brain", person.mask)):
            for kind, image in maps.items():
                values[f"{name}, {region}, {kind}"] = explained_variance(image, target, voxels)
        strong = is_active & (
            np.abs(target) > 0.1 * np.quantile(np.abs(target[person.mask]), 0.99)
        )
        for kind, image in maps.items():
            wrong = np.sign(image[strong]) != np.sign(target[strong])
            values[f"{name}, wrong sign, {kind}"] = float(wrong.mean()) if strong.any() else None
    if values["true"] <= 0 and seed in _INTERVAL_SEEDS:
        values |= _test_intervals(person, simulation, final, measured, folder, samples, is_active)
    return values


def _test_intervals(
    person: Person,
    simulation: Simulation,
    final: Level,
    measured: Path,
    folder: Path,
    samples: list[tuple[Array, Array]],
    is_active: Array,
) -> dict[str, Any]:
    """Return coverage of the total SD and of intervals of means of regions and clusters."""
    rng = np.random.default_rng(7)
    # slices may have been reconstructed in several threads, but this call has one
    errors = np.stack([error for error, _ in samples], axis=-1)  # samples, X, Y, Z
    low_samples = np.stack([low for _, low in samples], axis=-1)
    with SeriesReader(measured) as reader, SeriesReader(final.errors) as error_reader:
        series = np.stack(
            [a + b for a, b in zip(reader.volumes(), error_reader.volumes(), strict=True)], axis=-1
        ).astype(np.float32)
    variance_scale = effect_scale(
        final.low_maps["stimulus", "effect"],
        final.low_maps["stimulus", "variance"],
        np.square(low_samples).mean(0),
        final.lowres_mask,
        (person.zooms * FACTOR).tolist(),
    )
    scale = interpolate_to_shape(variance_scale, person.mask.shape)
    zooms = person.zooms.tolist()
    brain = Volume(person.mask, person.affine)
    model = person.linear_model
    values: dict[str, Any] = {}
    fitted: dict[str, Array] = {}
    for name, width in (("0 mm", 0.0), ("5 mm", 5.0), (CUT, _CUT_MM)):
        drawn, file = errors, folder / "series.nii"
        used = series
        if name == CUT:
            used = series - beyond_nyquist(series, _CUT_FACTOR)
            moved = np.moveaxis(errors, 0, -1)
            drawn = np.moveaxis(moved - beyond_nyquist(moved, _CUT_FACTOR), -1, 0)
        save_image(used, person.affine, file, tr=person.tr)
        with SeriesReader(file) as reader:
            design = model.build_design(reader)
            maps = map_activation(
                reader,
                person.mask,
                {width: design},
                model.mapped_contrasts,
                ActivationSettings(kinds=("glm",)),
                scratch=folder,
            )[width].maps
            effect, noise = maps["stimulus", "effect"], maps["stimulus", "variance"]
        strengths = _measure_strengths(design, simulation)
        known = sum(a * s for a, s in zip(simulation.activities, strengths, strict=True))
        power = np.mean([np.square(smooth(sample, zooms, width)) for sample in drawn], axis=0)
        total = noise + scale_variance(scale, power.astype(np.float32), width, brain)
        difference = effect - smooth(np.asarray(known, np.float32), zooms, width)
        is_inside = np.square(difference) < _Z_95**2 * total
        values[f"{name}, covered"] = float(is_inside[is_active].mean())
        values[f"{name}, covered, brain"] = float(is_inside[person.mask].mean())
        fitted[name] = np.asarray(known)
    labels, count = ndimage.label(is_active)
    clusters = [labels == i for i in range(1, count + 1) if (labels == i).sum() >= 20]
    drawn_regions = [
        grow(is_active, round(float(np.exp(rng.uniform(np.log(20), np.log(300))))), rng)
        for _ in range(_N_REGIONS)
    ]
    for kind, regions in (
        ("clusters", clusters),
        ("regions", [region for region in drawn_regions if region is not None]),
    ):
        if not regions:
            continue
        weights = np.stack([region.ravel() / region.sum() for region in regions])
        means = (weights @ series.reshape(person.mask.size, -1)).T
        effects = fit_mean_series(
            means,
            design,
            contrast_vector(design, "stimulus", CONTRAST)[None],
            ["stimulus"],
            sizes=[float(region.sum()) for region in regions],
        )
        scaled = sparse.csr_array(weights * np.sqrt(scale.ravel()))
        sds = mean_error_sd((sample.ravel() for sample in errors), scaled)
        truths = weights @ fitted["0 mm"].ravel()
        inside = []
        for fit, sd, truth in zip(effects, np.ravel(sds), truths, strict=True):
            lower, upper = fit["stimulus"].compute_interval(float(sd), len(errors))
            inside.append(bool(lower <= truth <= upper))
        values[kind] = len(inside)
        values[f"{kind}, covered"] = sum(inside)
    return values


def _measure_strengths(design: Any, simulation: Simulation) -> list[float]:
    """Return the effect of each response of unit strength in the linear model."""
    row = np.linalg.pinv(design.matrix)[design.conditions.index("stimulus")]
    return [float(row @ response) for response in simulation.responses]


def tabulate(draws: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the table of harm: groups of recovered draws, by map."""
    table = pd.DataFrame(draws)
    is_placed = table["world"].isin(_PLACED)
    groups = {name: table[table["world"] == name] for name in dict.fromkeys(table["world"])}
    groups |= {"own fluctuations or maxima": table[is_placed], "other kinds": table[~is_placed]}
    rows = []
    for name, group in groups.items():
        recovered = group[group["state"] == "recovered"]
        right = recovered[recovered["true"] > 0]
        for shown in _SHOWN if len(recovered) else ():
            harm = recovered[f"{shown}, active, map"] - recovered[f"{shown}, active, without"]
            brain = recovered[f"{shown}, brain, map"] - recovered[f"{shown}, brain, without"]
            gain = right[f"{shown}, active, map"] - right[f"{shown}, active, bspline"]
            rows.append(
                {
                    "draws of": name,
                    "draws": len(group),
                    "recovered": len(recovered),
                    "wrong": int((recovered["true"] <= 0).sum()),
                    "map": shown,
                    "below -.02": int((harm < -0.02).sum()),
                    "below -.10": int((harm < -0.1).sum()),
                    "worst": harm.min(),
                    "brain below -.02": int((brain < -0.02).sum()),
                    "right, over B-spline": gain.median(),
                    "right, least": gain.min(),
                    "wrong signs": recovered[f"{shown}, wrong sign, map"].max(),
                }
            )
    return rows


def tabulate_intervals(draws: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the table of intervals in recovered draws with wrong detail."""
    table = pd.DataFrame(draws)
    wrong = table[(table["state"] == "recovered") & (table["true"] <= 0)]
    rows = [
        {
            "values": f"voxels, {name}{region}",
            "covered": wrong[f"{name}, covered{region}"].median(),
            "least": wrong[f"{name}, covered{region}"].min(),
        }
        for name in ("0 mm", "5 mm", CUT)
        for region in ("", ", brain")
    ]
    for kind in ("clusters", "regions"):
        shares = wrong[f"{kind}, covered"] / wrong[kind]
        covered = wrong[f"{kind}, covered"].sum() / wrong[kind].sum()
        rows.append({"values": f"means of {kind}", "covered": covered, "least": shares.min()})
    return rows


def main() -> int:
    """Draw the missing draws, or write the tables."""
    if len(sys.argv) in (3, 4) and sys.argv[1] == "table":
        draws = [json.loads(file.read_text()) for file in sorted(Path(sys.argv[2]).glob("*.json"))]
        keep(
            sys.argv[3] if len(sys.argv) == 4 else "safe_map",
            "Harm of the detail of `sbl` in draws called recovered, by map",
            tabulate(draws),
            remarks=[
                "Explained variance of the known activity, all frequencies, map with minus without"
                " the detail of `sbl` after the same smoothing, active voxels: number of recovered"
                " draws below -.02 and -.10, and the worst; the same in the brain. Right draws"
                " (true detail above 0): median and least difference from the B-spline map. Wrong"
                " signs: largest share in active voxels with more than .1 of the largest activity."
                " Maps: smoothing (FWHM), or detail up to 4/3 of the acquired Nyquist frequency"
                f" and {_CUT_MM:g} mm ({CUT}). Acquired voxels have 6 mm.",
                *(
                    f"{name}: {WORLDS[name].text}."
                    for name in dict.fromkeys(d["world"] for d in draws)
                ),
            ],
        )
        if len(sys.argv) == 4:
            return 0
        keep(
            "safe_map_intervals",
            "Intervals in recovered draws with wrong detail",
            tabulate_intervals(draws),
            remarks=[
                "Share of the known effects within 95 % intervals: active voxels (total SD), with"
                " median and least over draws, and means of clusters of active voxels and of"
                " random regions of 20 to 300 active voxels.",
            ],
        )
        return 0
    if len(sys.argv) < 5 or sys.argv[1] != "draw":
        sys.exit(__doc__)
    data, out = Path(sys.argv[2]), Path(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    jobs = list(list_draws(sys.argv[4:]))
    for count, job in enumerate(jobs, 1):
        line = store_scores(data, out, job)
        print(time.strftime("%H:%M:%S"), f"{count} of {len(jobs)}:", line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
