"""Steps of methods: training on the pair or on volumes of the run, variance maps, a series super-resolved, a score."""

from pathlib import Path
from typing import Any

from nipype.interfaces.base import File, TraitedSpec, traits

from bids_sr.interfaces.learning.training_inputs import (
    DeviceInputSpec,
    PerceptualInputSpec,
    TrainingInputSpec,
    TrainingOutputSpec,
)
from bids_sr.interfaces.steps import FACTOR, RowsOutputSpec, Step
from bids_sr.sr.data.images import VOLUMES as VOLUMES
from bids_sr.steps import super_resolution, training

RENAMED = {"seed": "random_seed", "threads": "omp_nthreads"}
PAIR = {"highres": "train_highres", "lowres": "train_lowres", "mask": "pair_mask"}


def on_files(step: Any, inputs: Any, here: Path, renamed: dict[str, str], more: Any = None) -> dict[str, Any]:
    """Outputs of a step, given inputs under the names of today."""
    given = {{**RENAMED, **renamed}.get(name, name): value for name, value in vars(inputs).items()}
    given = {name: value for name, value in given.items() if value is not None} | (more or {})
    return dict(step.on_files(given, here))


class TrainModel(Step):
    """Train a network on the subject's pair, or take one that was. A killed run goes on from its last checkpoint."""

    class input_spec(PerceptualInputSpec):
        highres = File(exists=True, desc="high-resolution image on the fine grid of lowres, in its pose")
        lowres = File(exists=True, desc="low-resolution image of the pair")
        mask = File(exists=True, desc="head or brain on the grid of lowres")
        factor = FACTOR
        start = File(exists=True, desc="weights to begin training with, for methods with a recipe for that")

    output_spec = TrainingOutputSpec
    _can_resume = True  # nipype keeps the directory of a node that was killed, and with it the checkpoint

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        return on_files(training.train_on_pair, inputs, here, PAIR)


class SuperResolve(Step):
    """One series on the high-resolution grid: upsampled where it was acquired, interpolated once."""

    class input_spec(DeviceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="series on the grid on which it was acquired")
        series = traits.Str(mandatory=True, desc="baseline or method")
        factor = FACTOR
        boldref = File(exists=True, mandatory=True, desc="reference of the run, on the acquired grid")
        mask = File(exists=True, mandatory=True, desc="brain on that grid; sets the intensity scale")
        hmc_xfms = File(exists=True, mandatory=True, desc="ITK text, boldref point to its point, one a volume")
        shift_map = File(exists=True, desc="distortion of the volumes (`bids_sr.spatial.distortion`); it is undone")
        model_file = File(exists=True, desc="weights of a trained method, with the card beside them")
        highres = File(exists=True, desc="T2*-weighted image as acquired (for inject, ratio, variance methods)")
        highres2boldref_xfm = File(exists=True, desc="ITK text, takes a boldref point to its highres point")
        temporal_file = File(exists=True, desc="mean of the run, for variance methods")
        displace = traits.Enum("", "mirror", "shift", usedefault=True, desc="placebo: variance maps that are displaced")
        data_consistency = traits.Enum("report", "off", "enforce", usedefault=True, desc="measured band of k-space")
        precision = traits.Enum("auto", "fp32", "bf16", usedefault=True, desc="arithmetic of the network")
        force = traits.Bool(False, usedefault=True, desc="use a model that does not fit the series")

    class output_spec(TraitedSpec):
        out_file = File(exists=True, desc="series on the boldref's fine grid, head motion undone, signal units")
        consistency_file = File(exists=True, desc="TSV, one row a volume: |B(SR) - LR| / |LR|; n/a where it is off")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        names = {
            "in_file": "stc", "mask": "bold_mask", "shift_map": "distortion", "highres": "highres_file",
            "temporal_file": "temporal", "series": "series_name", "displace": "displaced",
        }  # fmt: skip
        if inputs.series == "raw":
            made = on_files(super_resolution.undo_motion, inputs, here, names)
            return {"out_file": made["preproc"], "consistency_file": made["preproc_consistency"]}
        made = on_files(super_resolution.super_resolve, inputs, here, names)
        return {"out_file": made["series"], "consistency_file": made["consistency"]}


class TrainOnVolumes(Step):
    """Train a network on volumes of the run it is for, or take a model that was given for it.

    A killed training goes on from its last checkpoint.
    """

    class input_spec(TrainingInputSpec):
        in_file = File(exists=True, mandatory=True, desc="series on the grid on which it was acquired")
        mask = File(exists=True, mandatory=True, desc="brain on that grid")
        n_dummy = traits.Range(low=0, value=0, usedefault=True, desc="first volumes to leave out")
        factor = FACTOR

    output_spec = TrainingOutputSpec
    _can_resume = True  # nipype keeps the directory of a node that was killed, and with it the checkpoint

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        return on_files(training.train_on_volumes, inputs, here, {"in_file": "stc", "mask": "bold_mask"})


class EstimateVariance(Step):
    """Find where a run fluctuates on the high-resolution grid, or take maps that were found before."""

    class input_spec(TrainingInputSpec):
        in_file = File(exists=True, mandatory=True, desc="series on its acquired grid, head motion undone")
        mask = File(exists=True, mandatory=True, desc="brain on that grid")
        n_dummy = traits.Range(low=0, value=0, usedefault=True, desc="first volumes to leave out")
        method = traits.Str("sbl", usedefault=True, desc="method whose maps they are")
        factor = FACTOR
        hmc_xfms = File(exists=True, desc="ITK text, one transform a volume; what follows head motion is taken out")
        interpolations = traits.List(traits.Str, desc="plain interpolations that are tried one level down beside it")
        calibration_sd = File(exists=True, desc="standard deviation map of a calibration, on its own grid")
        calibration_sd_low = File(exists=True, desc="the same at the resolution of the run, on a grid of its own")
        calibration_xfm = File(exists=True, desc="ITK text, takes a boldref point to its point in the calibration")
        calibration_json = File(exists=True, desc="whether it is usable, and what was measured")

    class output_spec(TrainingOutputSpec):
        log_file = File(exists=True, desc="rounds of the estimation (TSV)")
        temporal_file = File(exists=True, desc="acquired grid: mean, SD of the change, then its strongest components")
        weight_file = File(exists=True, desc="high-resolution grid: SD of the fluctuations, signal units")
        tested_json = File(exists=True, desc="what each series explains one level down, or why that is not known")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        names = {
            "in_file": "preproc", "mask": "bold_mask", "calibration_xfm": "boldref2calibration_xfm",
            "calibration_json": "calibration_facts",
        }  # fmt: skip
        made = on_files(training.estimate_variance, inputs, here, names)
        renamed = {"temporal": "temporal_file", "weight": "weight_file", "tested": "tested_json"}
        return {renamed.get(name, name): value for name, value in made.items()}


class ScorePair(Step):
    """Super-resolve the coarse image of a held-out pair and compare it with the fine one, beside the baselines."""

    class input_spec(DeviceInputSpec):
        model_file = File(exists=True, mandatory=True, desc="weights trained on another pair, with their card")
        highres = File(exists=True, mandatory=True, desc="fine image in the pose of lowres, on its fine grid")
        lowres = File(exists=True, mandatory=True, desc="coarse image of the pair that was held out")
        mask = File(exists=True, mandatory=True, desc="brain on the grid of lowres")
        factor = FACTOR
        series = traits.Str(mandatory=True, desc="name of the method")
        precision = traits.Enum("auto", "fp32", "bf16", usedefault=True, desc="arithmetic of the network")
        seed = traits.Range(low=0, value=0, usedefault=True, desc="of the slices that are resampled")

    output_spec = RowsOutputSpec

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        return {"out_file": on_files(training.score_pair, inputs, here, {**PAIR, "series": "method"})["holdout"]}
