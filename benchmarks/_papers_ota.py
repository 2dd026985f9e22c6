"""Table of Ota et al.: size and overlap of the regions of two fingers in simulated participants.

`bids-sr` processes each participant once, with motion correction, the motor area, the network of
the T2*w pair and all series without smoothing. The maps of all other rows are computed here from
these series by functions of the program. A call with a time limit continues with the next
participant.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from _table import commit, keep

from bids_sr.engine.number_text import number
from bids_sr.evaluation.statistics.comparisons import compare_pairs
from bids_sr.evaluation.statistics.summaries import quartiles
from bids_sr.glm.activation_regions import nonempty_dice, quarter_region
from bids_sr.glm.cross_correlation import cross_correlation, temporal_filter
from bids_sr.glm.design import frame_times
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.glm.regressors import read_events
from bids_sr.io.arrays import Array
from bids_sr.io.nifti import load_image
from bids_sr.phantom.block_design import predict_response
from bids_sr.spatial.matrices import downsample, upsample
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA
from bids_sr.spatial.smoothing import smooth
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import load_model

PEOPLE = 30
STEPS = 500
VOLUMES = 88  # three cycles of the task, so that it does not resemble the slow drift
DUMMIES = 2
FACTOR = (2.0, 2.0, 1.0)
LOW_PASS = 0.1  # Hz, as in the preset
KERNEL_MM = 13.2  # FWHM of 1.5 pixels of the paper (3.75 mm)
NARROW_KERNELS_MM = 3.5, 5.7  # FWHM of σ = 1.5 mm, and of σ = 2.4 mm
KERNEL_VOXELS = 1.5 * FWHM_PER_SIGMA  # FWHM
FINGERS = ("thumb", "little")
MEASURES = ("size, thumb", "size, little", "Dice")
METHODS = ("bspline", "zerofill", "srgan")
SERIES = ("acquired", *METHODS, "truth")
TITLES = {
    "acquired": "acquired",
    "bspline": "B-spline",
    "zerofill": "zero filling",
    "srgan": "srgan",
    "truth": "truth",
}
NOISE_FREE = "noise-free"
# smoothing by reading of the paper, and the published table that the rows correspond to
READINGS = {
    "none": "without",
    **dict.fromkeys((f"before, {mm} mm" for mm in (KERNEL_MM, *NARROW_KERNELS_MM)), "with"),
    "after, 13.2 mm": "with",
    "after, 1.5 voxels": "with",
}
PAPER = {
    ("with", "size, thumb"): "140.0 → 83.4, p < .001",
    ("with", "size, little"): "128.5 → 87.0, p < .001",
    ("with", "Dice"): ".590 → .490, p = .005",
    ("without", "Dice"): ".417 → .355, p < .001",
}
Values = Mapping[str, Mapping[str, Mapping[str, float | None]]]
"""Value by smoothing, series and measure."""


def call(*words: str | Path) -> None:
    """Run a command of bids-sr; a failure ends the benchmark."""
    program, *rest = map(str, words)
    subprocess.run([str(Path(sys.executable).with_name(program)), *rest], check=True)


def simulate(data: Path, people: int) -> None:
    """Simulate the participants with the default seed, unless they exist."""
    if not data.exists():
        scene = ("--preset", "tiny", "--scene", "overlap", "--volumes", str(VOLUMES))
        call("bids-sr-phantom", data, *scene, "--subjects", str(people))


def process(data: Path, out: Path, label: str, work: Path) -> None:
    """Compute all series of a participant without smoothing, with the preset of the paper."""
    changes = ("preprocessing.input_smoothing=0", f"srgan.iterations={STEPS}")
    options = ("--config-file", "ota2022", "--recipe", "fast", "--dummy-scans", str(DUMMIES))
    options += ("--nprocs", "1", "--smoothing", "0", "--set", *changes)
    options += ("--truth", "none", "--level", "full", "--skip-bids-validation")
    call("bids-sr", data, out, "participant", "--participant-label", label, *options, "-w", work)


@dataclass(frozen=True)
class Participant:
    """Files of a simulated and processed participant.

    `data` is the simulated data set, `out` the output directory of `bids-sr`, and `name` the name
    of the participant (sub-01).
    """

    data: Path
    out: Path
    name: str

    def _path(self, entities: str) -> Path:
        return self.out / self.name / "func" / f"{self.name}_task-tap_{entities}.nii.gz"

    def series(self, name: str) -> Array:
        """Return the steady-state volumes of a series (T, X, Y, Z; float32)."""
        grid = "" if name == "acquired" else "res-hr_"
        image = nib.load(self._path(f"space-boldref_{grid}desc-{name}_bold"))
        volumes = np.moveaxis(np.asarray(image.dataobj, np.float32), 3, 0)
        return np.ascontiguousarray(volumes[DUMMIES:])

    @cached_property
    def zooms(self) -> Array:
        """Voxel size of the acquired grid (mm)."""
        return np.abs(np.diag(self.boldref[1])[:3])

    @cached_property
    def boldref(self) -> tuple[Array, Array]:
        """Image to which volumes are registered (X, Y, Z), and its affine."""
        return load_image(self._path("desc-hmc_boldref"))

    @cached_property
    def brain(self) -> Array:
        """Brain on the acquired grid (X, Y, Z, boolean)."""
        return load_image(self._path("space-boldref_label-brain_desc-acquired_mask"))[0] > 0.5

    @cached_property
    def area(self) -> Array:
        """Motor area in the brain on the acquired grid (X, Y, Z, boolean)."""
        return self.brain & (load_image(self._path("space-boldref_label-roi_mask"))[0] > 0.5)

    @cached_property
    def sidecar(self) -> dict[str, Any]:
        """Metadata of the acquired run."""
        file = self.data / self.name / "func" / f"{self.name}_task-tap_bold.json"
        return dict(json.loads(file.read_text()))

    @property
    def events(self) -> Path:
        """Events table of the acquired run."""
        return self.data / self.name / "func" / f"{self.name}_task-tap_events.tsv"

    @cached_property
    def tasks(self) -> Array:
        """Predicted time series of both fingers (T, 2), as in the program."""
        times = frame_times(VOLUMES, self.sidecar["RepetitionTime"])
        responses = read_events(self.events).responses(times, HemodynamicResponse())
        return np.column_stack([responses[finger][DUMMIES:, 0] for finger in FINGERS])

    @cached_property
    def slice_responses(self) -> Array:
        """Simulated response to each finger in each slice when it was acquired (2, T, Z)."""
        starts = np.arange(DUMMIES, VOLUMES)[:, None] * self.sidecar["RepetitionTime"]
        times = starts + np.array(self.sidecar["SliceTiming"])
        events = list(pd.read_csv(self.events, sep="\t").itertuples(index=False, name=None))
        return np.stack([predict_response(events, finger, times) for finger in FINGERS])

    @cached_property
    def effects(self) -> Array:
        """Known change of each finger in signal units on the high-resolution grid (2, X, Y, Z)."""
        truth = self.data / "derivatives" / "ground-truth" / self.name / "func"
        stem = f"{self.name}_task-tap_res-hr_contrast-{{}}_stat-effect_desc-truth_statmap"
        effects = []
        for finger in FINGERS:
            sidecar = json.loads((truth / f"{stem.format(finger)}.json").read_text())
            percent, _ = load_image(truth / f"{stem.format(finger)}.nii.gz")
            effects.append(percent * np.float32(sidecar["MeanSignal"] / 100))
        return np.stack(effects)

    @cached_property
    def srgan(self) -> Callable[[Array], Array]:
        """Function that super-resolves a volume with the network of the participant."""
        image, affine = self.boldref
        folder = self.out / "sourcedata" / "models" / self.name
        model = load_model(folder / f"{self.name}_desc-srgan_model.safetensors")
        inputs = UpsamplerInputs(factor=FACTOR, affine=affine)
        upsampler = make_upsampler("srgan", inputs.with_boldref(image, affine, self.brain), model)
        return lambda volume: upsampler(volume, np.eye(4))

    def upsample(self, name: str, volumes: Array) -> Array:
        """Super-resolve volumes (T, X, Y, Z) by a method."""
        if name == "srgan":
            return np.stack([self.srgan(volume) for volume in volumes])
        return np.stack([upsample(name, volume, FACTOR) for volume in volumes])

    def change_over_time(self, effects: Array) -> Array:
        """Return the signal changes of both fingers (T, X, Y, Z) from their effects."""
        return np.einsum("cxyz,ctz->txyz", effects, self.slice_responses).astype(np.float32)


def lost_detail(effects: Array) -> Array:
    """Return the part of images (C, X, Y, Z) that zero filling does not restore."""
    fine_shape = effects.shape[1:]
    shape = tuple(round(n / ratio) for n, ratio in zip(fine_shape, FACTOR, strict=True))
    return np.stack(
        [effect - upsample("zerofill", downsample(effect, shape), FACTOR) for effect in effects]
    )


def fine_mask(mask: Array) -> Array:
    """Return the same voxels of the acquired grid on the high-resolution grid."""
    for axis, ratio in enumerate(FACTOR):
        mask = mask.repeat(round(ratio), axis=axis)
    return mask


def region_values(maps: Array, area: Array, per_acquired: float) -> dict[str, float | None]:
    """Return sizes and Dice of the regions of both fingers, from their maps (2, N) in the area."""
    regions = []
    for values in maps:
        image = np.zeros(area.shape)
        image[area] = values
        regions.append(quarter_region(image, area)[0])
    sizes = [float(region.sum() / per_acquired) for region in regions]
    return dict(zip(MEASURES, (*sizes, nonempty_dice(*regions)), strict=True))


def noise_free_dice(participant: Participant) -> dict[str, float | None]:
    """Return the Dice of the true regions on both grids.

    The correlation is the correlation of the true change with the task at the median noise of the
    acquired series in the area, without its random error: the variance of the noise is added to
    the variance of the true change.
    """
    _, band = temporal_filter(
        len(participant.tasks), participant.sidecar["RepetitionTime"], LOW_PASS
    )
    assert band is not None
    x = band.T @ participant.tasks
    y = band.T @ participant.series("acquired")[:, participant.area].astype(np.float64)
    residuals = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    noise = float(np.median((residuals**2).sum(0)))
    fine_effects = participant.effects
    coarse = np.stack([downsample(effect, participant.area.shape) for effect in fine_effects])
    dice = {}
    for name, effects in (("acquired", coarse), ("truth", fine_effects)):
        area = participant.area if name == "acquired" else fine_mask(participant.area)
        signal = band.T @ participant.change_over_time(effects)[:, area].astype(np.float64)
        norms = np.linalg.norm(x, axis=0)[:, None] * np.sqrt((signal**2).sum(0) + noise)
        dice[name] = region_values((x.T @ signal) / norms, area, 1)["Dice"]
    return dice


def smoothed(volumes: Array, zooms: Sequence[float], fwhm: float) -> Array:
    """Return smoothed volumes (T, X, Y, Z); the width has the unit of the voxel size."""
    return np.stack([smooth(volume, zooms, fwhm) for volume in volumes])


def participant_values(participant: Participant, methods: Sequence[str] = METHODS) -> Values:
    """Return sizes and Dice of all series with all kinds of smoothing."""
    unsmoothed = {name: participant.series(name) for name in ("acquired", *methods)}
    detail = participant.change_over_time(lost_detail(participant.effects))
    unsmoothed["truth"] = unsmoothed["zerofill"] + detail
    fine_zooms = participant.zooms / FACTOR

    def zooms(name: str) -> Array:
        return participant.zooms if name == "acquired" else fine_zooms

    def smooth_before(fwhm_mm: float) -> dict[str, Array]:
        series = {"acquired": smoothed(unsmoothed["acquired"], participant.zooms, fwhm_mm)}
        for name in methods:
            series[name] = participant.upsample(name, series["acquired"])
        smooth_effects = smoothed(participant.effects, fine_zooms, fwhm_mm)
        detail = participant.change_over_time(lost_detail(smooth_effects))
        return {**series, "truth": series["zerofill"] + detail}

    variants = {
        "none": unsmoothed,
        **{f"before, {mm} mm": smooth_before(mm) for mm in (KERNEL_MM, *NARROW_KERNELS_MM)},
        "after, 13.2 mm": {
            name: smoothed(volumes, zooms(name), KERNEL_MM) for name, volumes in unsmoothed.items()
        },
        "after, 1.5 voxels": {
            name: smoothed(volumes, (1, 1, 1), KERNEL_VOXELS)
            for name, volumes in unsmoothed.items()
        },
    }
    temporal = temporal_filter(
        len(participant.tasks), participant.sidecar["RepetitionTime"], LOW_PASS
    )
    values: dict[str, dict[str, dict[str, float | None]]] = {
        NOISE_FREE: {name: {"Dice": dice} for name, dice in noise_free_dice(participant).items()}
    }
    for smoothing, series in variants.items():
        values[smoothing] = {}
        for name, volumes in series.items():
            area = participant.area if name == "acquired" else fine_mask(participant.area)
            maps = cross_correlation(volumes[:, area], participant.tasks, temporal)
            per_acquired = 1 if name == "acquired" else float(np.prod(FACTOR))
            values[smoothing][name] = region_values(maps, area, per_acquired)
    return values


def columns(people: Sequence[Values], smoothing: str, measure: str) -> dict[str, Array]:
    """Return the values of all participants by series; NaN if a region is empty."""
    names = [name for name in SERIES if name in people[0][smoothing]]
    return {
        name: np.array(
            [np.nan if (v := values[smoothing][name][measure]) is None else v for values in people]
        )
        for name in names
    }


def signed_rank(values: Mapping[str, Array], name: str, reference: str) -> str:
    """Return p of the exact signed-rank test; a dash for fewer than two pairs."""
    complete = np.isfinite(values[name]) & np.isfinite(values[reference])
    pair = {key: values[key][complete] for key in (name, reference)}
    (comparison,) = compare_pairs(pair, [(name, reference)])
    return p_text(comparison.p_wilcoxon) if comparison.n > 1 else "–"


def p_text(p: float) -> str:
    """Return a p value with two or three decimals, or a bound."""
    if p < 0.001:
        return "p < .001"
    return f"p = {p:.3f}".replace("0.", ".") if p < 0.01 else f"p = {p:.2f}".replace("0.", ".")


def rows_of(people: Sequence[Values]) -> list[dict[str, str]]:
    """Return one row per kind of smoothing and measure.

    Cells have the median over participants, and p of the comparison with the acquired series.
    """
    rows = []
    for smoothing, published in {NOISE_FREE: "", **READINGS}.items():
        for measure in MEASURES if published else ("Dice",):
            values = columns(people, smoothing, measure)
            form = ".3f" if measure == "Dice" else ".1f"
            cells = {
                TITLES[name]: number(float(np.nanmedian(values[name])), form)
                + (f", {signed_rank(values, name, 'acquired')}" if name != "acquired" else "")
                if name in values
                else "–"
                for name in SERIES
            }
            method = signed_rank(values, "srgan", "bspline") if "srgan" in values else "–"
            is_dice = measure == "Dice" and "srgan" in values
            n_larger = int((values["srgan"] > values["acquired"]).sum()) if is_dice else "–"
            rows.append(
                {
                    "smoothing": smoothing,
                    "measure": measure,
                    **cells,
                    "srgan − B-spline": method,
                    "srgan larger than acquired": f"{n_larger}",
                    "paper: acquired → SRGAN": PAPER.get((published, measure), "–"),
                }
            )
    return rows


def range_text(values: Array, form: str) -> str:
    """Return the quartiles of values."""
    first, _, third = quartiles(values[np.isfinite(values)])
    return f"{number(first, form)} to {number(third, form)}"


def remarks_of(people: Sequence[Values], version: str) -> list[str]:
    """Return how the table was made, and which reading of the paper each kind of row tests."""
    free, noisy = columns(people, NOISE_FREE, "Dice"), columns(people, "none", "Dice")
    recipe = get_method("srgan").recipes["fast"]
    critic = "without" if recipe.build_critic is None else "with"
    lower = float(np.median(free["acquired"] - free["truth"]))
    n_lower = int((noisy["truth"] < noisy["acquired"]).sum())
    plain = {measure: columns(people, "none", measure)["acquired"] for measure in MEASURES}
    after = columns(people, "after, 13.2 mm", "Dice")["acquired"]
    return [
        f"Medians of {len(people)} simulated participants (`bids-sr-phantom OUT --preset tiny"
        f" --scene overlap --volumes {VOLUMES} --subjects {len(people)}`), processed at"
        f" {version} with `--config-file ota2022 --recipe fast` and {STEPS} training steps per"
        f" participant (`srgan` {critic} critic). p values are from exact Wilcoxon signed-rank"
        " tests against the acquired series, without correction for multiple comparisons. Sizes"
        " are in acquired voxels (180 mm³ here, 56.25 mm³ in the paper: 140 voxels of the paper"
        " are 43.75 voxels here). All series have the same voxels of the motor area.",
        "`truth` is the result of a perfect method: the zero-filled series plus the detail of the"
        " known activation (known activation minus known activation downsampled and zero filled)."
        " Its noise is the noise of the acquired series."
        f" Without smoothing, its Dice is lower than in the acquired series in {n_lower} of"
        f" {len(people)} participants. `noise-free` is the Dice of the known activation on both"
        " grids, with the variance of the acquired noise in the correlation, but without its"
        f" random error (median difference {number(lower, '.3f')}).",
        "`none` is the analysis of supplementary figure 2. `before` is the order of the paper's"
        " methods section, with σ = 1.5 pixels of 3.75 mm: the acquired series, or the known"
        " activation of `truth`, is smoothed before super-resolution. The smoothed activation has"
        " almost no detail, so that hardly a reduction can be expected from any method. `before,"
        f" {NARROW_KERNELS_MM[0]} mm` reads σ = 1.5 as mm, and `before, {NARROW_KERNELS_MM[1]} mm`"
        " is between both. In the paper, 7 of 30 participants have a larger Dice. `after,"
        " 13.2 mm` tests the other order with the same kernel for all series. `after, 1.5 voxels`"
        " tests this order with σ = 1.5 voxels of each series' own grid (in plane 21.2 mm FWHM for"
        " the acquired series and 10.6 mm for the others). There, interpolation alone reduces the"
        " regions, because the kernels differ.",
        "Quartiles of the acquired series: thumb"
        f" {range_text(plain['size, thumb'], '.1f')} and little finger"
        f" {range_text(plain['size, little'], '.1f')} voxels, Dice"
        f" {range_text(plain['Dice'], '.3f')} (paper .320 to .575), with smoothing"
        f" {range_text(after, '.3f')} (paper .408 to .735).",
    ]


def table(work: Path, people: int = PEOPLE) -> None:
    """Make the table of the paper; an interrupted call continues with the next participant."""
    data, out, version = work / "simulated", work / "out", work / "commit.txt"
    simulate(data, people)
    if not version.exists():
        version.write_text(commit())
    (work / "values").mkdir(exist_ok=True)
    values = []
    for index in range(1, people + 1):
        name = f"sub-{index:02d}"
        file = work / "values" / f"{name}.json"
        if not file.exists():
            process(data, out, name.removeprefix("sub-"), work / "work")
            result = participant_values(Participant(data, out, name))
            file.write_text(json.dumps(result))
            shutil.rmtree(work / "work")
        values.append(json.loads(file.read_text()))
    keep(
        "papers_srgan",
        "STSS-SRfMRI: size of activation regions and their overlap",
        rows_of(values),
        remarks=remarks_of(values, version.read_text().strip()),
    )
