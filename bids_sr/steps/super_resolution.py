"""Super-resolution of a run: baselines and methods on the high-resolution grid."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bids_sr.evaluation.evidence import was_applied
from bids_sr.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader, load_image
from bids_sr.pipeline.artifacts import (
    Derivative,
    Distortion,
    Facts,
    File,
    Image,
    Map,
    Mask,
    Series,
    SpaceGrid,
    Transforms,
)
from bids_sr.pipeline.step import HERE, step
from bids_sr.run_time import RunTime
from bids_sr.series import BASELINES, PAIR_BASELINES
from bids_sr.sr.device import Device, Precision, choose_device
from bids_sr.sr.inference.apply_to_series import Consistency, write_series
from bids_sr.sr.inference.guided_baselines import PosedImage
from bids_sr.sr.inference.upsampler_inputs import Displaced, InferenceError, UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.sr.method import method_of_series
from bids_sr.sr.models.compatibility import check_model
from bids_sr.sr.models.model import LoadedModel, load_model
from bids_sr.sr.recipe import RecipeName
from bids_sr.sr.recipe_changes import RecipeChange, change_recipe, select_changes, width_ratio
from bids_sr.steps.memory import RESOLVE

_INTERPOLATION = RunTime(volumes=0.025)


def cost_of_series(name: str, recipe: RecipeName, changes: Sequence[RecipeChange]) -> RunTime:
    """Return the processor time of a series whose model was trained with a recipe.

    `changes` are changed recipe settings of any method.
    """
    if name in BASELINES:
        return _INTERPOLATION
    method = method_of_series(name)
    method_cost = method.cost(recipe).series
    method_changes = select_changes(tuple(changes), method.name)
    if method_changes and method.variance is None:
        method_cost *= width_ratio(
            change_recipe(method, recipe, ()), change_recipe(method, recipe, method_changes)
        )
    return RunTime(volumes=_INTERPOLATION.volumes + method_cost)


@frozen
class AlignedSeries:
    """Series before motion correction, with the estimates that align its volumes.

    `stc`: series after slice-timing correction. `hmc_xfms`: transforms of boldref points to points
    of each volume (T, 4, 4; RAS mm). `distortion`: None if there is no field map. `outliers`:
    outlier volumes; None if they were not searched.
    """

    stc: Series
    boldref: Image
    bold_mask: Mask
    hmc_xfms: Transforms
    distortion: Distortion | None = None
    outliers: Facts | None = None


@frozen
class Guide:
    """High-resolution T2*-weighted image, and its registration to the boldref of a run.

    `highres_file`: image as acquired. `highres2boldref_xfm`: transform of boldref points to points
    of this image (1, 4, 4; RAS mm).
    """

    highres_file: File
    highres2boldref_xfm: Transforms


@frozen
class Inference:
    """Settings of the application of a model.

    `data_consistency`: "enforce" restores the acquired data in their band of k-space. `precision`:
    arithmetic of the network, ``fp32``, ``bf16``, or ``auto`` to choose. `random_seed`: seed of
    samples of the reconstruction error.
    """

    data_consistency: Consistency = "off"
    precision: Precision = "fp32"
    force: bool = False
    omp_nthreads: int = 1
    device: Device = "cpu"
    random_seed: int = 0


@frozen
class ResolvedSeries:
    """Series on the high-resolution grid and on the grids of other spaces.

    `series`: motion-corrected series (signal units). `series_facts`: outlier volumes, and whether
    a run-trained method was applied. `error_draws`, `acquired_draws`: samples of the
    reconstruction error (4D, unit scale) and their acquired part, see
    `bids_sr.sr.prior_maps.add_detail`; None if no samples are drawn.
    """

    series: Series
    space_series: list[Map]
    series_facts: Facts
    error_draws: Series | None
    acquired_draws: Series | None


@step(memory=RESOLVE, cost=_INTERPOLATION)
def super_resolve(
    acquired: AlignedSeries,
    model_file: File | None = None,
    zerofilled: Series | None = None,
    guide: Guide | None = None,
    space_grids: Sequence[SpaceGrid] = (),
    *,
    here: Path = HERE,
    series_name: str,
    factor: Factor,
    inference: Inference,
    placebo: Displaced = "",
    with_error_samples: bool = False,
) -> ResolvedSeries:
    """Compute one series on the high-resolution grid, with a single interpolation per volume.

    Volumes are upsampled on their acquired grid and then interpolated.

    Parameters
    ----------
    model_file : File | None
        Weights of a trained method, with the model card in the same folder.
    zerofilled : Series | None
        Zero-filled series that variance methods add detail to; None to compute it here.
    guide : Guide | None
        Image for `inject` and `ratio`, and for variance methods with static detail.
    space_grids : Sequence[SpaceGrid]
        Grids in other spaces; upsampled volumes are also interpolated to these grids.
    placebo : Displaced
        Placebo: mirrored or shifted variance maps.
    with_error_samples : bool
        Whether samples of the reconstruction error are drawn; only for variance maps of the run.

    Raises
    ------
    UsageError
        If the model is for another resolution, contrast, orientation or factor.
    InferenceError
        If the mask is empty, or if a required input is missing.
    """
    stc, boldref, distortion = acquired.stc, acquired.boldref, acquired.distortion
    model = None if model_file is None else load_model(model_file)
    run_trained = model is not None and model.card.trained_on == "series"
    if model is not None:
        check_model(model.card, stc.affine, "bold", factor, force=inference.force)
    application = _application_entries(model) if run_trained else {}
    guided = series_name in PAIR_BASELINES
    if run_trained:
        guided = guide is not None and bool(application["Applied"])
    inputs = UpsamplerInputs(
        factor=factor,
        affine=stc.affine,
        guide=_make_guide(series_name, guide, distortion) if guided else None,
        distortion=distortion,
        displaced=placebo,
        precision=inference.precision,
        device="cpu" if model is None else choose_device(inference.device),
        threads=inference.omp_nthreads,
    ).with_boldref(boldref.data, boldref.affine, acquired.bold_mask.data)
    derivatives = [
        Derivative(None, {**space_grid.entities, "desc": "preproc", "suffix": "bold"})
        for space_grid in space_grids
    ]
    files = [here / f"{derivative.name}.nii" for derivative in derivatives]
    space_targets, target = dict(zip(files, space_grids, strict=True)), here / "series.nii"
    upsampling = (series_name, inputs, model) if not run_trained else ("zerofill", inputs)
    write = partial(
        write_series,
        stc,
        upsampler=make_upsampler(*upsampling),
        xfms=acquired.hmc_xfms,
        reference_affine=boldref.affine,
        factor=factor,
        # If slices become thinner, zero filling alone does not preserve their means.
        consistency="enforce" if run_trained and factor[2] != 1 else inference.data_consistency,
        distortion=distortion,
        threads=inference.omp_nthreads,
    )
    if model is not None and run_trained:
        from bids_sr.sr.prior_maps.add_detail import make_detail

        if zerofilled is None:
            write(target=here / "zerofilled.nii")
        zerofilled_series = zerofilled or SeriesReader(here / "zerofilled.nii")
        draw_files = (
            (here / "error_draws.nii", here / "acquired_draws.nii") if with_error_samples else None
        )
        make_detail(model, inputs, stc.shape[:3]).add(
            zerofilled_series, target, draw_files, seed=inference.random_seed
        )
        if space_targets:
            hr_series = SeriesReader(target)
            write(
                target=None,
                other_spaces=space_targets,
                add_volume=lambda t: hr_series.volume(t) - zerofilled_series.volume(t),
            )
        (here / "zerofilled.nii").unlink(missing_ok=True)
    else:
        write(target=target, other_spaces=space_targets)
    space_series = [
        Derivative(path, derivative.entities)
        for path, derivative in zip(files, derivatives, strict=True)
    ]
    errors, acquired_draws = (
        SeriesReader(path) if path.exists() else None
        for path in (here / "error_draws.nii", here / "acquired_draws.nii")
    )
    return ResolvedSeries(
        series=SeriesReader(target),
        space_series=space_series,
        series_facts={**application, **(acquired.outliers or {})},
        error_draws=errors,
        acquired_draws=acquired_draws,
    )


def _application_entries(model: LoadedModel | None) -> dict[str, object]:
    """Return sidecar entries on a run-trained method: whether it was applied."""
    if model is None or was_applied(model.card.json):
        return {"Applied": True}
    return {
        "Applied": False,
        "Description": "zero-filled BOLD series corrected for head motion (the super-resolution"
        " method was not applied)",
    }


def _make_guide(name: str, guide: Guide | None, distortion: Distortion | None) -> PosedImage:
    """Return the high-resolution image, which can be resampled to any head position."""
    if guide is None:
        raise InferenceError(f"{name} requires a high-resolution T2*-weighted image (guide)")
    data, affine = load_image(guide.highres_file)
    return PosedImage(
        data=data,
        affine=affine,
        from_boldref=guide.highres2boldref_xfm[0],
        distortion=distortion,
    )
