"""Training on the subject's pair and super-resolution of a series: shells around `bids_sr.sr`."""

from pathlib import Path
from typing import Any

from nipype.interfaces.base import File, TraitedSpec, traits

from bids_sr.interfaces.learning.device import DeviceInputSpec, choose_device
from bids_sr.interfaces.learning.training_inputs import PerceptualInputSpec, TrainingOutputSpec, obtain
from bids_sr.interfaces.steps import FACTOR, Step
from bids_sr.series import PAIR_BASELINES


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
        from bids_sr.sr.models.compatibility import describe

        pair = _load_pair(inputs)
        image = None if pair is None else describe(pair.lowres_affine, pair.contrast, pair.factor)
        return obtain(inputs, pair, here, image)


def _load_pair(inputs: Any) -> Any:
    """The `TrainingPair` of the files, or None where they are not given."""
    import numpy as np

    from bids_sr.io.nifti import load_image
    from bids_sr.sr.data.training_pair import TrainingPair

    if not (inputs.highres and inputs.lowres and inputs.mask):
        return None
    (lowres, affine), (highres, _), (mask, _) = map(load_image, (inputs.lowres, inputs.highres, inputs.mask))
    return TrainingPair(
        lowres=lowres, highres=highres, mask=np.asarray(mask > 0.5), lowres_affine=affine, factor=inputs.factor
    )


class SuperResolve(Step):
    """One series on the high-resolution grid: upsampled where it was acquired, interpolated once."""

    class input_spec(DeviceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="series on the grid on which it was acquired")
        series = traits.Str(mandatory=True, desc="baseline or method")
        factor = FACTOR
        boldref = File(exists=True, mandatory=True, desc="reference of the run, on the acquired grid")
        mask = File(exists=True, mandatory=True, desc="brain on that grid; sets the intensity scale")
        hmc_xfms = File(
            exists=True, mandatory=True, desc="ITK text, one transform a volume, boldref point to its point"
        )
        shift_map = File(exists=True, desc="distortion of the volumes (`bids_sr.spatial.distortion`); it is undone")
        model_file = File(exists=True, desc="weights of a trained method, with the card beside them")
        highres = File(
            exists=True, desc="T2*-weighted image as acquired (inject, ratio, static detail of variance methods)"
        )
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
        from threadpoolctl import threadpool_limits

        from bids_sr.io.nifti import SeriesReader, SeriesWriter
        from bids_sr.spatial.transforms import hr_grid, read_itk
        from bids_sr.sr.inference.apply_to_series import super_resolve_series

        out = here / f"{inputs.series}_bold.nii"
        # threads of numpy's library wait busily, and would take the cores from those of torch
        limits = {"blas": 1, "openmp": inputs.threads}
        with threadpool_limits(limits), SeriesReader(inputs.in_file) as reader:
            upsampler, reference = _upsampler(inputs, reader.affine)
            shape, affine = hr_grid(reader.shape[:3], reference, inputs.factor)
            size = (*shape, reader.shape[3])
            with SeriesWriter(out, size, affine, reader.tr, header_like=reader.header) as writer:
                found = super_resolve_series(
                    reader, writer, upsampler, read_itk(inputs.hmc_xfms), shape, affine,
                    factor=inputs.factor, consistency=inputs.data_consistency, distortion=_distortion(inputs),
                )  # fmt: skip
        table = here / "consistency.tsv"
        rows = ["n/a" if value != value else f"{value:.6g}" for value in found]
        table.write_text("\n".join(["inconsistency", *rows]) + "\n")
        return {"out_file": str(out), "consistency_file": str(table)}


def _distortion(inputs: Any) -> Any:
    """What a field map says of the volumes, or None."""
    from bids_sr.spatial.distortion import load_distortion

    return load_distortion(inputs.shift_map) if inputs.shift_map else None


def _upsampler(inputs: Any, affine: Any) -> tuple[Any, Any]:
    """(upsampler of the series, affine of the boldref)."""
    from bids_sr.io.nifti import load_image
    from bids_sr.sr.data.temporal_components import load_statistics
    from bids_sr.sr.inference.apply_to_series import series_upsampler
    from bids_sr.sr.models.model import load_model

    boldref, reference = load_image(inputs.boldref)
    mask = load_image(inputs.mask)[0] > 0.5
    if not mask.any():
        raise ValueError(f"{inputs.mask}: the mask is empty")
    model = load_model(inputs.model_file) if inputs.model_file else None
    of_run = model is not None and model.card.trained_on == "series"
    if of_run and inputs.temporal_file is None:
        raise ValueError(f"{inputs.series} needs the temporal_file of its estimation")
    guided = bool(inputs.highres) if of_run else model is None and inputs.series in PAIR_BASELINES
    upsampler = series_upsampler(
        inputs.series, inputs.factor, affine=affine, boldref=(boldref, reference), mask=mask, model=model,
        guide=_guide(inputs) if guided else None,
        statistics=load_statistics(inputs.temporal_file)[0] if of_run else None, distortion=_distortion(inputs),
        displace=inputs.displace, precision=inputs.precision, threads=inputs.threads, force=inputs.force,
        device="cpu" if model is None else choose_device(inputs.device),
    )  # fmt: skip
    return upsampler, reference


def _guide(inputs: Any) -> Any:
    """The high-resolution image, in whatever pose it is asked for."""
    from bids_sr.io.nifti import load_image
    from bids_sr.spatial.transforms import read_itk
    from bids_sr.sr.inference.guided_baselines import PosedImage

    if not (inputs.highres and inputs.highres2boldref_xfm):
        raise ValueError(f"{inputs.series} needs highres and highres2boldref_xfm")
    data, fine = load_image(inputs.highres)
    xfm = read_itk(inputs.highres2boldref_xfm)[0]
    return PosedImage(data=data, affine=fine, from_boldref=xfm, distortion=_distortion(inputs))
