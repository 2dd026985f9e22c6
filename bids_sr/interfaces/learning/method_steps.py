"""Steps of methods: training on the pair or on volumes of the run, variance maps, a series super-resolved, a score."""

from pathlib import Path
from typing import Any

from nipype.interfaces.base import File, TraitedSpec, traits
from numpy.typing import NDArray

from bids_sr.interfaces.learning.training_inputs import (
    DeviceInputSpec,
    PerceptualInputSpec,
    TrainingInputSpec,
    TrainingOutputSpec,
    choose_device,
    obtain,
)
from bids_sr.interfaces.steps import FACTOR, RowsOutputSpec, Step, saved_json, write_rows
from bids_sr.series import PAIR_BASELINES, VALIDATION_BASELINES, series_name
from bids_sr.sr.data.images import VOLUMES as VOLUMES


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
        from threadpoolctl import threadpool_limits

        from bids_sr.io.nifti import SeriesReader, SeriesWriter
        from bids_sr.spatial.distortion import load_distortion
        from bids_sr.spatial.transforms import hr_grid, read_itk
        from bids_sr.sr.inference.apply_to_series import super_resolve_series

        out = here / f"{inputs.series}_bold.nii"
        # threads of numpy's library wait busily, and would take the cores from those of torch
        limits = {"blas": 1, "openmp": inputs.threads}
        with threadpool_limits(limits), SeriesReader(inputs.in_file) as reader:
            distortion = load_distortion(inputs.shift_map) if inputs.shift_map else None
            upsampler, reference = _upsampler(inputs, reader.affine, distortion)
            shape, affine = hr_grid(reader.shape[:3], reference, inputs.factor)
            size = (*shape, reader.shape[3])
            with SeriesWriter(out, size, affine, reader.tr, header_like=reader.header) as writer:
                found = super_resolve_series(
                    reader, writer, upsampler, read_itk(inputs.hmc_xfms), shape, affine,
                    factor=inputs.factor, consistency=inputs.data_consistency, distortion=distortion,
                )  # fmt: skip
        table = here / "consistency.tsv"
        rows = ["n/a" if value != value else f"{value:.6g}" for value in found]
        table.write_text("\n".join(["inconsistency", *rows]) + "\n")
        return {"out_file": str(out), "consistency_file": str(table)}


def _upsampler(inputs: Any, affine: Any, distortion: Any) -> tuple[Any, Any]:
    """(upsampler of the series, affine of the boldref); `distortion` is that of the volumes, or None."""
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
        guide=_guide(inputs, distortion) if guided else None,
        statistics=load_statistics(inputs.temporal_file)[0] if of_run else None, distortion=distortion,
        displace=inputs.displace, precision=inputs.precision, threads=inputs.threads, force=inputs.force,
        device="cpu" if model is None else choose_device(inputs.device),
    )  # fmt: skip
    return upsampler, reference


def _guide(inputs: Any, distortion: Any) -> Any:
    """The high-resolution image, in whatever pose it is asked for."""
    from bids_sr.io.nifti import load_image
    from bids_sr.spatial.transforms import read_itk
    from bids_sr.sr.inference.guided_baselines import PosedImage

    if not (inputs.highres and inputs.highres2boldref_xfm):
        raise ValueError(f"{inputs.series} needs highres and highres2boldref_xfm")
    data, fine = load_image(inputs.highres)
    xfm = read_itk(inputs.highres2boldref_xfm)[0]
    return PosedImage(data=data, affine=fine, from_boldref=xfm, distortion=distortion)


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
        from bids_sr.sr.models.compatibility import describe

        factor = tuple(inputs.factor)
        images, affine = training_volumes(inputs.in_file, inputs.mask, inputs.n_dummy, inputs.seed)
        return obtain(inputs, images, here, describe(affine, "bold", factor), factor)


def training_volumes(series: str, mask_file: str, n_dummy: int, seed: int) -> tuple[Any, NDArray[Any]]:
    """(`ImageSet` of some volumes of a run, affine of its grid).

    Parameters
    ----------
    series, mask_file : (X, Y, Z, T) as acquired, and the brain on its grid
    seed : of the draw; volumes keep their order in time
    """
    from bids_sr.io.nifti import SeriesReader, load_image
    from bids_sr.sr.data.images import ImageSet

    mask = load_image(mask_file)[0] > 0.5
    with SeriesReader(series) as reader:
        return ImageSet.of_run(reader, mask, n_dummy, seed), reader.affine


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
        from threadpoolctl import threadpool_limits

        from bids_sr.sr.data.temporal_components import save_statistics
        from bids_sr.sr.models.compatibility import describe
        from bids_sr.sr.models.model import load_model

        temporal, weight = here / "temporal.nii", here / "weight.nii"
        with threadpool_limits(inputs.threads):
            data, header = _run_data(inputs, here)
            save_statistics(data.statistics, data.affine, temporal, header)
            made = obtain(inputs, data, here, describe(data.affine, data.contrast, data.factor))
            model = load_model(made["model_file"])
            _save_weight(model, data, weight)
            tested = saved_json(here / "tested.json", _tested(inputs, model.card, data))
        return made | {"temporal_file": str(temporal), "weight_file": str(weight), "tested_json": tested}


def _tested(inputs: Any, card: Any, data: Any) -> dict[str, Any]:
    """What the map and plain interpolations explain of the run one level of resolution down, by series."""
    from bids_sr.sr.data.temporal_components import SeriesError
    from bids_sr.sr.resolution.matrices import ResolutionError
    from bids_sr.sr.variance.fit_variance import tested_entry, why_untried
    from bids_sr.sr.variance.one_level_down import try_interpolation

    own: dict[str, Any] = {"reason": "its maps are those of another run, or of an earlier version of the program"}
    if card.data_sha256 == data.checksums() and "tested" in card.held_out:
        own = {**card.held_out["tested"], "applied": card.json.get("applied", True)}
    found = {series_name(inputs.method): own}
    for name in inputs.interpolations or ():
        try:
            found[name] = tested_entry(try_interpolation(data.trial(), name), data.volumes)
        except (SeriesError, ResolutionError) as error:
            found[name] = {"reason": why_untried(error)}
    return found


def _run_data(inputs: Any, folder: Path) -> tuple[Any, Any]:
    """(`RunData`, header of the run)."""
    from bids_sr.io.nifti import load_image
    from bids_sr.spatial.transforms import read_itk
    from bids_sr.sr.data.temporal_components import open_uncompressed
    from bids_sr.sr.method import get_method, get_recipe, recipe_name
    from bids_sr.sr.recipe import VarianceRecipe
    from bids_sr.sr.variance.run_data import run_data

    mask = load_image(inputs.mask)[0] > 0.5
    method = get_method(inputs.method)
    recipe = get_recipe(method, recipe_name(method, inputs.recipe))
    if not isinstance(recipe, VarianceRecipe):
        raise ValueError(f"{inputs.method} finds no variance maps")
    with open_uncompressed(inputs.in_file, folder) as reader:
        data = run_data(
            reader, mask, recipe, tuple(inputs.factor), n_dummy=inputs.n_dummy,
            poses=read_itk(inputs.hmc_xfms) if inputs.hmc_xfms else None,
            measured=_measured(inputs, mask.shape, reader.affine),
        )  # fmt: skip
        return data, reader.header


def _measured(inputs: Any, shape: Any, affine: Any) -> Any:
    """Standard deviation maps of the calibration on the run's two grids; None where none can be used."""
    import json

    from bids_sr.io.nifti import load_image
    from bids_sr.spatial.transforms import read_itk
    from bids_sr.sr.variance.run_data import measured_on_run

    if inputs.calibration_sd is None:
        return None
    if not json.loads(Path(inputs.calibration_json).read_text(encoding="utf-8"))["usable"]:
        return None
    maps = load_image(inputs.calibration_sd), load_image(inputs.calibration_sd_low)
    return measured_on_run(*maps, read_itk(inputs.calibration_xfm)[0], shape, affine, tuple(inputs.factor))


def _save_weight(model: Any, data: Any, path: Path) -> None:
    """Root of the summed squared maps on the boldref's high-resolution grid."""
    import numpy as np

    from bids_sr.io.nifti import save_image
    from bids_sr.spatial.transforms import hr_grid
    from bids_sr.sr.resolution.operators import to_volume
    from bids_sr.sr.variance.upsampler import onto_grid

    shape, affine = hr_grid(data.statistics.mean.shape, data.affine, data.factor)
    maps = onto_grid(model.generator.weight, (int(shape[0]), int(shape[1]), int(shape[2])))
    save_image(to_volume(maps.square().sum(0).sqrt()), affine, path, dtype=np.float32)


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
        import numpy as np
        from threadpoolctl import threadpool_limits

        from bids_sr.sr.inference.apply_to_series import make_upsampler
        from bids_sr.sr.models.model import load_model
        from bids_sr.stats.image.pair_scores import holdout_rows, slice_scores

        pair = _load_pair(inputs)
        model = load_model(inputs.model_file)
        truth = pair.gain * pair.highres
        scores = {}
        with threadpool_limits(inputs.threads):
            for name in (*VALIDATION_BASELINES, inputs.series):
                given = {}
                if name == inputs.series:
                    device = choose_device(inputs.device)
                    given = {"model": model, "precision": inputs.precision, "device": device, "threads": inputs.threads}
                upsampler = make_upsampler(name, inputs.factor, affine=pair.lowres_affine, scale=pair.scale, **given)
                image = upsampler(pair.lowres, np.eye(4))
                scores[name] = slice_scores(image, truth, pair.highres_mask, data_range=pair.scale)
        rows = holdout_rows(scores, inputs.series, seed=inputs.seed)
        return {"out_file": write_rows(here / "holdout.tsv", rows)}
