"""How often activity is found in series of a phantom without any: a hundred shuffles of each.

python benchmarks/placebo.py [PHANTOM] [--shuffles N] [--subjects N] [--series NAME ...] [--name NAME]

Without PHANTOM null phantoms of preset `tiny` are made. Each run goes through the pipeline's own interfaces: motion,
slice timing, confounds, training on the pair, super-resolution.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _table import keep

from bids_sr.interfaces.coregistration import MaskBold, PreparePair, RegisterPairToBold
from bids_sr.interfaces.evaluation.placebos import NullShuffles
from bids_sr.interfaces.head_motion import (
    Confounds,
    EstimateDummies,
    EstimateMotion,
    ImportSeries,
    MakeBoldRef,
    SliceTiming,
)
from bids_sr.interfaces.learning.method_steps import EstimateVariance, SuperResolve, TrainModel
from bids_sr.metrics.long_tables import read_table

FACTOR = (2.0, 2.0, 1.0)
VARIANCE = ("sdmod", "wmn", "focuss", "sbl")
SERIES = ("raw", "bspline", "zerofill", "sdmod", "inject", "ratio", "srgan", "wmn", "focuss", "sbl")
NOMINAL_FWE = 0.05


def run(interface: Any, folder: Path) -> Any:
    """Outputs of an interface that works in a folder of its own."""
    folder.mkdir(parents=True)
    return interface.run(cwd=str(folder)).outputs


class Run:
    """The first run of a subject, prepared as the pipeline prepares it."""

    def __init__(self, subject: Path, work: Path) -> None:
        func = subject / "func"
        self.work, self.anat = work, subject / "anat"
        self.events = str(next(func.glob("*_events.tsv")))
        bold = next(func.glob("*_bold.nii.gz"))
        sidecar = json.loads(bold.with_name(bold.name.replace(".nii.gz", ".json")).read_text())
        self.tr = float(sidecar["RepetitionTime"])
        series = run(ImportSeries(in_file=str(bold)), work / "import").out_file
        self.n_dummy = run(EstimateDummies(in_file=series), work / "dummies").n_dummy
        self.boldref = run(MakeBoldRef(in_file=series, n_dummy=self.n_dummy), work / "boldref").out_file
        masks = run(MaskBold(boldref=self.boldref, factor=FACTOR), work / "mask")
        self.mask, self.mask_hr = masks.bold_mask, masks.bold_mask_hr
        motion = run(EstimateMotion(in_file=series, boldref=self.boldref, n_dummy=self.n_dummy), work / "motion")
        self.hmc = motion.hmc_xfms
        times = SliceTiming(in_file=series, slice_times=sidecar["SliceTiming"], n_dummy=self.n_dummy)
        self.stc = run(times, work / "stc").out_file
        self.raw = self.resolve("raw", factor=(1.0, 1.0, 1.0))
        self.confounds = run(
            Confounds(in_file=self.raw, mask=self.mask, motion_tsv=motion.motion_tsv, n_dummy=self.n_dummy),
            work / "confounds",
        ).out_file
        pair = {name: str(next(self.anat.glob(f"*acq-{name}*_T2starw.nii.gz"))) for name in ("highres", "lowres")}
        self.pair = run(PreparePair(**pair, factor=FACTOR), work / "pair")
        self.highres = pair["highres"]
        self.guide_xfm = run(
            RegisterPairToBold(
                boldref=self.boldref, highres=self.highres, highres2lowres_xfm=self.pair.highres2lowres_xfm,
                factor=FACTOR,
            ), work / "guide",
        ).highres2boldref_xfm  # fmt: skip

    def resolve(self, series: str, factor: tuple[float, float, float] = FACTOR, **more: Any) -> str:
        """File of a series."""
        node = SuperResolve(
            in_file=self.stc, series=series, factor=factor, boldref=self.boldref, mask=self.mask, hmc_xfms=self.hmc,
            **more,
        )  # fmt: skip
        return str(run(node, self.work / f"series_{series}").out_file)

    def series(self, name: str) -> str:
        """A series by its name, its model trained first where it has one."""
        guide = {"highres": self.highres, "highres2boldref_xfm": self.guide_xfm}
        if name == "raw":
            return self.raw
        if name in ("inject", "ratio"):
            return self.resolve(name, **guide)
        if name in VARIANCE:
            found = EstimateVariance(
                in_file=self.raw, mask=self.mask, n_dummy=self.n_dummy, hmc_xfms=self.hmc, factor=FACTOR, method=name
            )
            model = run(found, self.work / f"variance_{name}")
            return self.resolve(name, model_file=model.model_file, temporal_file=model.temporal_file, **guide)
        if name == "srgan":
            pair = {"highres": self.pair.train_highres, "lowres": self.pair.train_lowres, "mask": self.pair.pair_mask}
            model = run(TrainModel(**pair, method=name, factor=FACTOR, model_source="train"), self.work / "train_srgan")
            return self.resolve(name, model_file=model.model_file)
        return self.resolve(name)


def figures(whole: Run, name: str, n_shuffles: int, seed: int) -> dict[str, Any]:
    """One line of the table."""
    path = whole.series(name)
    began = time.monotonic()
    node = NullShuffles(
        in_file=path, mask=whole.mask if name == "raw" else whole.mask_hr, events_file=whole.events,
        confounds_tsv=whole.confounds, n_dummy=whole.n_dummy, tr=whole.tr, series=name, n_shuffles=n_shuffles,
        high_pass=1 / 128, has_stc=True, seed=seed,
    )  # fmt: skip
    found = {row.measure: row for row in read_table(run(node, whole.work / f"null_{name}").out_file)}
    rate, fwe, nominal = found["null_rate"], found["null_fwe"], found["null_nominal"].value
    return {
        "subject": whole.anat.parent.name, "series": name, "rate of p < .001": rate.value,
        "lower": rate.lower, "upper": rate.upper,
        "covers nominal": "yes" if rate.lower <= nominal <= rate.upper else "no",
        "any voxel, corrected": fwe.value, "fwe lower": fwe.lower, "fwe upper": fwe.upper,
        "covers .05": "yes" if fwe.lower <= NOMINAL_FWE <= fwe.upper else "no",
        "shuffles": rate.n, "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


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
            maker = Path(sys.executable).parent / "bids-sr-phantom"
            command = [maker, phantom, "--preset", "tiny", "--null", "--subjects", str(options.subjects)]
            subprocess.run(command, check=True)
        rows = []
        for subject in sorted(phantom.glob("sub-*"))[: options.subjects]:
            whole = Run(subject, Path(scratch) / "work" / subject.name)
            rows += [figures(whole, name, options.shuffles, options.seed) for name in options.series]
    keep(options.name, "False activity in series without signal (null phantoms, preset tiny)", rows, remarks=[
        "Rates are those of z, whose degrees of freedom are reduced for the error of the noise's coefficient. The "
        "interval is over shuffles of one run, and says how exactly the rate of this run's noise is known. Runs differ "
        "by more, as the spectrum of each is not that of a first-order process. All series of a run share their draws.",
    ])  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
