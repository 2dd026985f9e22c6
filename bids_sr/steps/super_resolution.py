"""Super-resolution of a run: baselines and methods on the high-resolution grid."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

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
from bids_sr.sr.inference.posed_image import PosedImage
from bids_sr.sr.inference.upsampler_inputs import InferenceError, Placebo, UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.sr.method import method_of_series
from bids_sr.sr.models.compatibility import check_model
from bids_sr.sr.models.model import LoadedModel, load_model
from bids_sr.sr.recipe import RecipeName
from bids_sr.sr.recipe_changes import RecipeChange, change_recipe, select_changes, width_ratio
from bids_sr.steps.memory import SUPER_RESOLVE

if TYPE_CHECKING:
    from bids_sr.sr.prior_maps.add_detail import Detail

_INTERPOLATION = RunTime(volumes=0.025)
_ERROR_SAMPLES, _ACQUIRED_SAMPLES = "error_draws.nii", "acquired_draws.nii"


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

    `stc`: series after slice-timing correction (signal units). `hmc_xfms`: transforms of boldref
    points to points of each volume (T, 4, 4; RAS mm). `distortion`: None if there is no field map.
    `outliers`: outlier volumes; None if they were not searched.
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
    arithmetic of the network, ``fp32``, ``bf16``, or ``auto`` to choose. `force`: apply a model
    even if its contrast or voxel size differs from the images. `omp_nthreads`: number of CPU
    threads. `device`: device of the network. `random_seed`: seed of samples of the reconstruction
    error. `with_error_samples`: draw such samples, for a method with variance maps of the run.
    `placebo`: mirror or shift variance maps, for a negative control.
    """

    data_consistency: Consistency = "off"
    precision: Precision = "fp32"
    force: bool = False
    omp_nthreads: int = 1
    device: Device = "cpu"
    random_seed: int = 0
    with_error_samples: bool = False
    placebo: Placebo = ""


@frozen
class SuperResolvedSeries:
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


@step(memory=SUPER_RESOLVE, cost=_INTERPOLATION)
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
) -> SuperResolvedSeries:
    """Compute one series on the high-resolution grid, with a single interpolation per volume.

    Volumes are upsampled on their acquired grid and then interpolated.

    Parameters
    ----------
    acquired : AlignedSeries
        Series on the acquired grid, with the estimates that align its volumes.
    model_file : File | None
        Weights of a trained method, with the model card in the same folder.
    zerofilled : Series | None
        Zero-filled series that variance methods add detail to; None to compute it here.
    guide : Guide | None
        Image for `inject` and `ratio`, and for variance methods with static detail.
    space_grids : Sequence[SpaceGrid]
        Grids in other spaces; upsampled volumes are also interpolated to these grids.
    here : Path
        Folder for the output files.
    series_name : str
        Name of the series: an interpolation, a baseline with the guide, or the series of a method.
    factor : Factor
        Ratio of acquired to high-resolution voxel size along each axis.
    inference : Inference
        Settings of the application of the model.

    Raises
    ------
    UsageError
        If the model is for another resolution, contrast, orientation or factor.
    InferenceError
        If the mask is empty, or if a required input is missing.
    """
    stc, boldref, distortion = acquired.stc, acquired.boldref, acquired.distortion
    model = None if model_file is None else load_model(model_file)
    if model is not None:
        check_model(model.card, stc.affine, "bold", factor, force=inference.force)
    run_model = model if model is not None and model.card.trained_on == "series" else None
    posed_guide = None
    if _is_guided(series_name, guide, run_model):
        posed_guide = _make_guide(series_name, guide, distortion)
    inputs = _make_upsampler_inputs(
        acquired,
        posed_guide,
        factor=factor,
        device="cpu" if model is None else choose_device(inference.device),
        inference=inference,
    )
    target = here / "series.nii"
    space_series = [_locate_space_series(space_grid, here) for space_grid in space_grids]
    space_files = [Path(str(derivative.content)) for derivative in space_series]
    space_targets = dict(zip(space_files, space_grids, strict=True))
    write = partial(
        write_series,
        stc,
        xfms=acquired.hmc_xfms,
        reference_affine=boldref.affine,
        factor=factor,
        distortion=distortion,
        threads=inference.omp_nthreads,
    )
    if run_model is None:
        write(
            target=target,
            other_spaces=space_targets,
            upsampler=make_upsampler(series_name, inputs, model),
            consistency=inference.data_consistency,
        )
        application_entries: dict[str, object] = {}
    else:
        from bids_sr.sr.prior_maps.add_detail import make_detail

        write_zerofilled = partial(
            write,
            upsampler=make_upsampler("zerofill", inputs),
            # If slices become thinner, zero filling alone does not preserve their means.
            consistency="enforce" if factor[2] != 1 else inference.data_consistency,
        )
        detail = make_detail(run_model, inputs, stc.shape[:3])
        _write_run_trained(write_zerofilled, detail, zerofilled, target, space_targets, inference)
        application_entries = _application_entries(run_model)
    return SuperResolvedSeries(
        series=SeriesReader(target),
        space_series=space_series,
        series_facts={**application_entries, **(acquired.outliers or {})},
        error_draws=_open_if_written(here / _ERROR_SAMPLES),
        acquired_draws=_open_if_written(here / _ACQUIRED_SAMPLES),
    )


def _make_upsampler_inputs(
    acquired: AlignedSeries,
    guide: PosedImage | None,
    *,
    factor: Factor,
    device: str,
    inference: Inference,
) -> UpsamplerInputs:
    """Return the inputs of the upsampler of a series."""
    inputs = UpsamplerInputs(
        factor=factor,
        affine=acquired.stc.affine,
        guide=guide,
        distortion=acquired.distortion,
        placebo=inference.placebo,
        precision=inference.precision,
        device=device,
        threads=inference.omp_nthreads,
    )
    return inputs.with_boldref(
        acquired.boldref.data, acquired.boldref.affine, acquired.bold_mask.data
    )


def _locate_space_series(space_grid: SpaceGrid, here: Path) -> Derivative:
    """Return the series on a grid in another space, with the path of its file."""
    derivative = Derivative(None, {**space_grid.entities, "desc": "preproc", "suffix": "bold"})
    return replace(derivative, content=here / f"{derivative.name}.nii")


def _is_guided(series_name: str, guide: Guide | None, run_model: LoadedModel | None) -> bool:
    """Return whether a series uses the high-resolution image.

    Run-trained methods use it if it exists and if they are applied.
    """
    if run_model is None:
        return series_name in PAIR_BASELINES
    return guide is not None and was_applied(run_model.card.json)


def _write_run_trained(
    write_zerofilled: Callable[..., None],
    detail: "Detail",
    zerofilled: Series | None,
    target: Path,
    space_targets: Mapping[Path, SpaceGrid],
    inference: Inference,
) -> None:
    """Write a zero-filled series with added detail, also to the grids of other spaces.

    Parameters
    ----------
    write_zerofilled : Callable
        `write_series` with the inputs of zero filling.
    detail : Detail
        Detail that is added to each volume.
    zerofilled : Series | None
        Zero-filled series; None to write it for the duration of this function.
    target : Path
        Output file. Error samples are written to files in its folder.
    space_targets : Mapping[Path, SpaceGrid]
        Output files and grids in other spaces.
    inference : Inference
        Seed of the error samples, and whether they are drawn.
    """
    zerofilled_file = target.with_name("zerofilled.nii")
    if zerofilled is None:
        write_zerofilled(target=zerofilled_file)
    zerofilled_series = zerofilled or SeriesReader(zerofilled_file)
    sample_files = (
        (target.with_name(_ERROR_SAMPLES), target.with_name(_ACQUIRED_SAMPLES))
        if inference.with_error_samples
        else None
    )
    detail.add(zerofilled_series, target, sample_files, seed=inference.random_seed)
    if space_targets:
        hr_series = SeriesReader(target)
        write_zerofilled(
            target=None,
            other_spaces=space_targets,
            add_volume=lambda t: hr_series.volume(t) - zerofilled_series.volume(t),
        )
    zerofilled_file.unlink(missing_ok=True)


def _open_if_written(path: Path) -> SeriesReader | None:
    """Return a reader of a series; None if the file does not exist."""
    return SeriesReader(path) if path.exists() else None


def _application_entries(model: LoadedModel) -> dict[str, object]:
    """Return sidecar entries on a run-trained method: whether it was applied."""
    if was_applied(model.card.json):
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
    values, affine = load_image(guide.highres_file)
    return PosedImage(
        data=values,
        affine=affine,
        from_boldref=guide.highres2boldref_xfm[0],
        distortion=distortion,
    )
