"""How often activity is found in series of a phantom without any: a hundred shuffles of each.

python benchmarks/placebo.py [PHANTOM] [--shuffles N] [--subjects N] [--series NAME ...] [--name
NAME]

Without PHANTOM null phantoms of preset `tiny` are made. Each run goes through the pipeline's own
steps: motion, slice timing, confounds, training on the pair, super-resolution.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _shuffles import NullSettings, mean_interval, null_rates, share_interval
from _table import keep
from threadpoolctl import threadpool_limits

from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.phantom.simulated_dataset import make_dataset
from bids_sr.phantom.study import Study
from bids_sr.stats.glm.design import default_confounds
from bids_sr.stats.glm.regressors import read_events
from bids_sr.steps import motion, registration, super_resolution, training

FACTOR = (2.0, 2.0, 1.0)
VARIANCE = ("sdmod", "sbl")
SERIES = ("raw", "bspline", "zerofill", "sdmod", "inject", "ratio", "srgan", "sbl")
NOMINAL_FWE = 0.05


class Run:
    """The first run of a subject, prepared as the pipeline prepares it."""

    def __init__(self, subject: Path, work: Path) -> None:
        func = subject / "func"
        self.work, self.anat = work, subject / "anat"
        self.events = read_events(next(func.glob("*_events.tsv")))
        bold_file = next(func.glob("*_bold.nii.gz"))
        sidecar = json.loads(
            bold_file.with_name(bold_file.name.replace(".nii.gz", ".json")).read_text()
        )
        self.tr = float(sidecar["RepetitionTime"])
        bold = motion.import_series(
            bold_file, self.folder("import"), tr=self.tr, axis_order=(0, 1, 2)
        )
        self.n_dummy = motion.count_dummies(bold, dummy_scans=None)
        self.boldref = motion.average_volumes(bold, n_dummy=self.n_dummy)
        self.mask, self.mask_hr, _ = registration.mask_bold(self.boldref, factor=FACTOR)
        head = motion.mask_head(self.boldref)
        self.hmc, parameters = motion.estimate_motion(
            bold, self.boldref, head, n_dummy=self.n_dummy
        )
        self.stc = motion.correct_slice_timing(
            bold,
            self.folder("stc"),
            slice_times=sidecar["SliceTiming"],
            slice_time_ref=0.5,
            n_dummy=self.n_dummy,
        )
        self.raw = super_resolution.undo_motion(
            self.stc, self.boldref, self.hmc, here=self.folder("raw")
        )
        self.confounds, _ = motion.gather_confounds(
            self.raw,
            self.mask,
            parameters,
            self.hmc,
            n_dummy=self.n_dummy,
            fd_spike_threshold=0.5,
            dvars_spike_threshold=1.5,
            return_all_components=False,
        )
        self.highres, lowres = (
            next(self.anat.glob(f"*acq-{name}*_T2starw.nii.gz")) for name in ("highres", "lowres")
        )
        *self.pair, offset, _ = registration.register_pair(
            self.highres, lowres, here=self.folder("pair"), factor=FACTOR, random_seed=1
        )
        self.guide_xfm, _, _ = registration.register_to_pair(
            self.boldref,
            self.highres,
            offset,
            here=self.folder("guide"),
            factor=FACTOR,
            random_seed=1,
        )

    def folder(self, name: str) -> Path:
        """A folder of its own for a step."""
        (path := self.work / name).mkdir(parents=True)
        return path

    def resolve(self, series: str, **more: Any) -> SeriesReader:
        """A series."""
        return super_resolution.super_resolve(
            self.stc,
            self.boldref,
            self.mask,
            self.hmc,
            here=self.folder(f"series_{series}"),
            series_name=series,
            factor=FACTOR,
            data_consistency="off",
            precision="auto",
            force=False,
            omp_nthreads=1,
            device="auto",
            **more,
        )[0]

    def series(self, name: str) -> SeriesReader:
        """A series by its name, its model trained first where it has one."""
        guide = {"highres_file": self.highres, "highres2boldref_xfm": self.guide_xfm}
        if name == "raw":
            return self.raw
        if name in ("inject", "ratio"):
            return self.resolve(name, **guide)
        if name in VARIANCE:
            model_file, _, _, temporal, *_ = training.estimate_variance(
                self.raw,
                self.mask,
                self.hmc,
                here=self.folder(f"variance_{name}"),
                n_dummy=self.n_dummy,
                method=name,
                factor=FACTOR,
            )
            return self.resolve(name, model_file=model_file, temporal=temporal, **guide)
        if name == "srgan":
            model_file, *_ = training.train_on_pair(
                *self.pair,
                here=self.folder("train_srgan"),
                method=name,
                factor=FACTOR,
                model_source="train",
            )
            return self.resolve(name, model_file=model_file)
        return self.resolve(name)

    def mask_of(self, name: str) -> Volume:
        """The brain on the grid of a series."""
        return self.mask if name == "raw" else self.mask_hr


def figures(whole: Run, name: str, n_shuffles: int, seed: int) -> dict[str, Any]:
    """One line of the table."""
    series = whole.series(name)
    began = time.monotonic()
    how = NullSettings(
        confound_names=default_confounds(whole.confounds),
        n_shuffles=n_shuffles,
        seed=seed,
        tr=whole.tr,
        n_dummy=whole.n_dummy,
        high_pass=1 / 128,
        slice_time_ref=0.5,
        has_stc=True,
    )
    with threadpool_limits(1):
        found = null_rates(
            series,
            whole.mask_of(name).data,
            whole.events,
            how,
            scratch=whole.folder(f"null_{name}") / "courses.raw",
            confounds=whole.confounds,
        )
    count = int(found.any_corrected.sum())
    lower, upper = mean_interval(found.rates, seed)
    low, high = share_interval(count, n_shuffles)
    return {
        "subject": whole.anat.parent.name,
        "series": name,
        "rate of p < .001": float(found.rates.mean()),
        "lower": lower,
        "upper": upper,
        "covers nominal": "yes" if lower <= found.p <= upper else "no",
        "any voxel, corrected": count / n_shuffles,
        "fwe lower": low,
        "fwe upper": high,
        "covers .05": "yes" if low <= NOMINAL_FWE <= high else "no",
        "shuffles": n_shuffles,
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("phantom", nargs="?", type=Path)
    parser.add_argument("--shuffles", type=int, default=100)
    parser.add_argument("--series", nargs="+", choices=SERIES, default=SERIES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--subjects", type=int, default=3)
    parser.add_argument("--name", default="placebo", help="of the table among the results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        phantom = options.phantom or Path(scratch) / "null"
        if options.phantom is None:
            make_dataset(phantom, Study(preset="tiny", null=True, subjects=options.subjects))
        rows = []
        for subject in sorted(phantom.glob("sub-*"))[: options.subjects]:
            whole = Run(subject, Path(scratch) / "work" / subject.name)
            rows += [
                figures(whole, name, options.shuffles, options.seed) for name in options.series
            ]
    keep(
        options.name,
        "False activity in series without signal (null phantoms, preset tiny)",
        rows,
        remarks=[
            (
                "Rates are those of z, whose degrees of freedom are reduced for the error of the"
                " noise's coefficient. The interval is over shuffles of one run, and says how"
                " exactly the rate of this run's noise is known. Runs differ by more, as the"
                " spectrum of each is not that of a first-order process. All series of a run share"
                " their draws."
            ),
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
