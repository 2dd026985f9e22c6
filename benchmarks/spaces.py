"""What each output space costs: explained variance of the measured effect by a series that went
there, read back.

python benchmarks/spaces.py DATA OUT [--n-boot N]

DATA is a data set with a measured reference, OUT its results with `--sr-method sbl` and a T1w
image, at a level that stores the measured series. Of sbl and of B-spline each volume is
super-resolved on its acquired grid and interpolated once, onto the grid of the run (`func`) or
onto that of a space. A series in a space is then read at the voxels of the run by a cubic spline,
as one reads any point of an image, and goes through the program's own comparison with the measured
series in the other half of the blocks, in the same voxels for all spaces. The measured series goes
the same way: what a space takes of detail that is there. Voxels are those whose whole neighborhood
lies in the field of view.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _labels import label
from _table import keep
from nibabel.affines import apply_affine as apply

from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.io.template_cache import DEFAULT_SPACE
from bids_sr.io.volume import Volume
from bids_sr.metrics.long_tables import MetricRow
from bids_sr.pipeline.artifacts import Confounds
from bids_sr.registration.ants import load
from bids_sr.registration.brain import two_mm_grid
from bids_sr.registration.templates import load_template
from bids_sr.reports.figures import style
from bids_sr.reports.figures.svg_files import save_svg
from bids_sr.spatial.output_grids import PlacedGrid, grid_around, place_grid, zooms_in_ras
from bids_sr.spatial.resampling import sample_points, spline_coefficients
from bids_sr.spatial.transforms import carry, invert, moved, read_itk
from bids_sr.sr.data.temporal_components import load_statistics
from bids_sr.sr.inference.acquired import UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import make_upsampler, write_series
from bids_sr.sr.models.model import load_model
from bids_sr.stats.glm.block_effects import save_effects
from bids_sr.stats.glm.regressors import read_events
from bids_sr.steps import evaluation, motion, super_resolution, training

SHOWN = {"nearest": "bspline", "sbl": "sbl", "ratio": "measured"}
"""Names under which the program's comparison knows the series: B-spline's own would also be
denoised.
"""
NATIVE = "of the series"
FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "spaces.svg"


class Head:
    """One run of OUT, and its ways to other spaces."""

    def __init__(self, data: Path, out: Path, work: Path) -> None:
        self.work, func, anat = work, out / "sub-01" / "func", out / "sub-01" / "anat"
        bold = next((data / "sub-01" / "func").glob("*_bold.nii.gz"))
        stem = bold.name.removesuffix("_bold.nii.gz")
        sidecar = json.loads(bold.with_name(f"{stem}_bold.json").read_text())
        self.tr, self.events = (
            float(sidecar["RepetitionTime"]),
            bold.with_name(f"{stem}_events.tsv"),
        )
        self.measured = func / f"{stem}_res-hr_desc-measured_bold.nii.gz"
        self.boldref = load(func / f"{stem}_desc-hmc_boldref.nii.gz")
        masks = (
            load(func / f"{stem}_{name}_mask.nii.gz")
            for name in ("desc-rawBrain", "res-hr_desc-brain")
        )
        self.mask, self.mask_hr = (each.like(each.data > 0.5) for each in masks)
        self.factor = tuple(
            round(high / low, 4)
            for high, low in zip(self.mask_hr.data.shape, self.mask.data.shape, strict=True)
        )
        self.hmc = read_itk(func / f"{stem}_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt")
        self.coreg = read_itk(func / f"{stem}_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt")[
            0
        ]
        self.t1w_mask = load(anat / "sub-01_desc-brain_mask.nii.gz")
        ends = (("T1w", DEFAULT_SPACE), (DEFAULT_SPACE, "T1w"))
        self.there, self.back = (
            anat / f"sub-01_from-{a}_to-{b}_mode-image_xfm.h5" for a, b in ends
        )
        series = motion.import_series(
            bold, self.folder("import"), tr=self.tr, axis_order=(0, 1, 2)
        )
        self.n_dummy = motion.count_dummies(series, dummy_scans=None)
        times = sidecar.get("SliceTiming")
        self.timed = times is not None
        self.stc = (
            series
            if times is None
            else motion.correct_slice_timing(
                series,
                self.folder("stc"),
                slice_times=times,
                slice_time_ref=0.5,
                n_dummy=self.n_dummy,
            )
        )
        table = func / f"{stem}_desc-confounds_timeseries.tsv"
        self.confounds = Confounds.__metadata__[0].load(table)

    def folder(self, name: str) -> Path:
        """A folder of its own for a step."""
        (path := self.work / name.replace(" ", "_")).mkdir(parents=True)
        return path

    def to_t1w(self, points: np.ndarray) -> np.ndarray:
        """T1w points of template points."""
        return carry(points, [self.there])

    def from_t1w(self, points: np.ndarray) -> np.ndarray:
        """Template points of T1w points: those that the way there leads back, refined until it
        does.
        """
        found = carry(points, [self.back])
        for _ in range(5):
            found = found + (points - self.to_t1w(found))
        return found

    def spaces(self) -> Iterator[tuple[str, str, PlacedGrid, np.ndarray]]:
        """Name, voxels, grid, and where in the space each voxel of the run lies (N, 3; RAS mm)."""
        zooms = zooms_in_ras(self.mask_hr.affine)
        at = apply(
            self.mask_hr.affine, np.argwhere(np.ones(self.mask_hr.data.shape)).astype(float)
        )
        in_t1w = apply(invert(self.coreg), at)
        reference = (self.boldref.data.shape, self.boldref.affine)
        grid = grid_around(self.t1w_mask.data > 0.5, self.t1w_mask.affine, zooms)
        yield (
            "T1w",
            NATIVE,
            place_grid({}, *grid, lambda p: apply(self.coreg, p), *reference),
            in_t1w,
        )
        template = load_template(DEFAULT_SPACE)
        in_template = self.from_t1w(in_t1w)
        coarse = two_mm_grid(template.t1)
        for words, (shape, affine) in {
            NATIVE: grid_around(template.mask.data, template.mask.affine, zooms),
            "2 mm": (coarse.data.shape, coarse.affine),
        }.items():
            placed = place_grid(
                {}, shape, affine, lambda p: apply(self.coreg, self.to_t1w(p)), *reference
            )
            yield DEFAULT_SPACE, words, placed, in_template

    def model(self) -> dict[str, Path]:
        """The model of sbl, and the components of the run that it needs."""
        here = self.folder("raw")
        raw = super_resolution.undo_motion(self.stc, self.boldref, self.hmc, here=here)
        file, _, _, temporal, *_ = training.estimate_variance(
            raw,
            self.mask,
            self.hmc,
            here=self.folder("variance"),
            n_dummy=self.n_dummy,
            method="sbl",
            factor=self.factor,
            model_source="train",
        )
        return {"model_file": file, "temporal": temporal}

    def write(
        self, name: str, target: Path, model: dict[str, Path], elsewhere: dict[Path, PlacedGrid]
    ) -> None:
        """A series in func and in the spaces."""
        if name == "ratio":
            # motion is undone: one interpolation more than the others have
            with SeriesReader(self.measured) as reader:
                still = np.tile(np.eye(4), (reader.shape[3], 1, 1))
                raw = make_upsampler("raw", UpsamplerInputs(factor=(1.0, 1.0, 1.0)))
                write_series(
                    reader,
                    target,
                    raw,
                    still,
                    reader.affine,
                    factor=(1.0, 1.0, 1.0),
                    elsewhere=elsewhere,
                )
            return
        loaded = load_model(model["model_file"]) if name == "sbl" else None
        acquired = UpsamplerInputs(
            factor=self.factor,
            affine=self.stc.affine,
            statistics=load_statistics(model["temporal"])[0] if loaded else None,
        ).in_run(self.boldref.data, self.boldref.affine, self.mask.data)
        upsampler = make_upsampler("sbl" if loaded else "bspline", acquired, loaded)
        write_series(
            self.stc,
            target,
            upsampler,
            self.hmc,
            self.boldref.affine,
            factor=self.factor,
            elsewhere=elsewhere,
        )

    def read_back(self, path: Path, points: np.ndarray, target: Path) -> None:
        """A series of a space at the voxels of the run."""
        shape = self.mask_hr.data.shape
        with SeriesReader(path) as reader:
            at = moved(np.linalg.inv(reader.affine), points)
            with SeriesWriter(
                target, (*shape, reader.shape[3]), self.mask_hr.affine, self.tr
            ) as writer:
                for volume in reader.volumes():
                    writer.append(sample_points(spline_coefficients(volume), at).reshape(shape))

    def explained(
        self, files: dict[str, Path], inside: np.ndarray, name: str, n_boot: int
    ) -> list[MetricRow]:
        """The program's own comparison of series with the measured one, of the mean of all
        conditions.
        """
        mask, events = Volume(inside, self.mask_hr.affine), read_events(self.events)
        found = {}
        for series, path in files.items():
            here = self.folder(f"effects {name} {series}")
            with SeriesReader(path) as reader:
                effects = evaluation.measure_effects(
                    reader,
                    mask,
                    events,
                    here,
                    self.confounds,
                    series_name=series,
                    tr=self.tr,
                    n_dummy=self.n_dummy,
                    high_pass=1 / 128,
                    slice_time_ref=0.5,
                    has_stc=self.timed,
                )
            found[series] = save_effects(effects, here / "effects.npz")
        conditions = sorted(set(events.table["trial_type"]))
        return evaluation.compare_halves(
            found,
            mask,
            mask,
            factor=self.factor,
            random_seed=0,
            n_boot=n_boot,
            contrasts={"all": dict.fromkeys(conditions, 1 / len(conditions))},
        )


def _key(row: MetricRow) -> tuple[str, str, str]:
    return row.series, row.region, label(row)


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Explained variance in active voxels, by space and series."""
    spaces = list(dict.fromkeys((row["space"], row["voxels"]) for row in rows))
    names = {NATIVE: "same voxels", DEFAULT_SPACE: "template"}
    labels = ["\n".join(names.get(each, each) for each in space) for space in spaces]
    bands = {"signal": "whole effect", "beyond": "detail beyond the acquired Nyquist limit"}
    colors = {"bspline": style.SOFT, "sbl": style.BLUE, "measured": style.ORANGE}
    with style.style():
        figure = style.new_figure(8.0, 2.8)
        for n, (band, words) in enumerate(bands.items()):
            axes = figure.add_axes((0.07 + 0.48 * n, 0.2, 0.43, 0.66))
            for k, (series, color) in enumerate(colors.items()):
                values = [row[f"{band}, active30"] for row in rows if row["series"] == series]
                axes.bar(
                    np.arange(len(values)) + 0.27 * (k - 1),
                    values,
                    0.25,
                    color=color,
                    label=series,
                )
            axes.set(title=words, xticks=range(len(labels)), xticklabels=labels, ylim=(0, 1.15))
            axes.tick_params(axis="x", labelsize=6.5)
        axes.legend(fontsize=7, loc="upper left", ncols=3)
        figure.axes[0].set_ylabel("explained variance")
        save_svg(figure, path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--n-boot", type=int, default=200)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        head = Head(options.data, options.out, Path(scratch))
        spaces = list(head.spaces())
        model = head.model()
        func = {
            name: (
                head.folder("func") / f"{name}.nii"
                if not n
                else head.work / "func" / f"{name}.nii"
            )
            for n, name in enumerate(SHOWN)
        }
        paths = {
            name: {
                head.work / "func" / f"{name}_{n}.nii": each[2] for n, each in enumerate(spaces)
            }
            for name in SHOWN
        }
        for name in SHOWN:
            head.write(name, func[name], model, paths[name])
        points = [each[3] for each in spaces]
        inside = head.mask_hr.data.copy()
        for (_, _, placed, _), at in zip(spaces, points, strict=True):
            ones = placed.filled(np.ones(len(placed.points), np.float32))
            seen = sample_points(
                spline_coefficients(ones), moved(np.linalg.inv(placed.affine), at)
            )
            inside &= np.abs(seen.reshape(inside.shape) - 1) < 0.01
        told = [("func", NATIVE, func)]
        for n, ((name, words, _, at), number) in enumerate(
            zip(spaces, range(len(spaces)), strict=True)
        ):
            back = {series: head.folder(f"back {n} {series}") / "series.nii" for series in SHOWN}
            for series, target in back.items():
                head.read_back([*paths[series]][number], at, target)
            told.append((name, words, back))
        for name, words, files in told:
            shown = {"measured": func["ratio"], **files}
            found = head.explained(shown, inside, f"{name} {words}", options.n_boot)
            for series, label in SHOWN.items():
                row = {"space": name, "voxels": words, "series": label}
                for region in ("brain", "active30"):
                    for measure in ("split_ev_signal", "split_ev_beyond"):
                        (value,) = [
                            each for each in found if _key(each) == (series, region, measure)
                        ]
                        row[f"{measure.removeprefix('split_ev_')}, {region}"] = round(
                            value.value, 3
                        )
                rows.append(row)
    draw(rows, FIGURE)
    share = f"{inside.sum() / head.mask_hr.data.sum():.0%}"
    keep(
        "spaces",
        "Explained variance of the measured effect, by the space that a series went to",
        rows,
        remarks=[
            (
                f"Effect of all conditions, in {share} of the brain's voxels, those whose"
                " neighborhood every space holds; `active30`: of these the voxels with |t| above"
                " 3 in the other half. `signal` is all of the effect, `beyond` its detail beyond"
                " the acquired Nyquist limit. `measured` is the measured high-resolution series"
                " brought to the space: against its own other half, so that its noise counts, and"
                " from the grid of the run, where it was interpolated once already."
            ),
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
