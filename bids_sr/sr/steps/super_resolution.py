"""Super-resolution of a run: baselines and methods on the high-resolution grid."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from bids_sr.engine.artifacts import Derivative, Facts, File, Map, Series
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.engine.step_memory import SUPER_RESOLVE
from bids_sr.io.frozen import frozen
from bids_sr.io.nifti import SeriesReader, load_image
from bids_sr.io.notices import InvalidInput
from bids_sr.io.series import ACQUIRED_BAND, get_need
from bids_sr.preproc.steps.aligned_series import AlignedSeries
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.itk_files import Transforms
from bids_sr.spatial.output_grids import OutputGrid
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.device import Device, choose_device
from bids_sr.sr.inference.apply_to_series import Consistency, write_series
from bids_sr.sr.inference.posed_image import PosedImage
from bids_sr.sr.inference.upsampler_inputs import (
    UpsamplerInputs,
)
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.sr.models.card import ModelCard, explain_not_applied, was_applied
from bids_sr.sr.models.compatibility import check_model
from bids_sr.sr.models.model import LoadedModel, load_model

_ERROR_SAMPLES_FILE, _ACQUIRED_SAMPLES_FILE = "error_draws.nii", "acquired_draws.nii"


@frozen
class Guide:
    """High-resolution T2*-weighted image, and its registration to the boldref of a run.

    `highres_file` is the image as acquired, and `highres2boldref_xfm` the transform of boldref
    points to points of this image (1, 4, 4; RAS mm).
    """

    highres_file: File
    highres2boldref_xfm: Transforms


@frozen
class Inference:
    """Settings of the application of a model.

    With `data_consistency` "enforce", the acquired data are restored in their band of k-space.
    `force` applies a model even if its contrast or voxel size differs from the images.
    `random_seed` is the seed of the samples of the reconstruction error, which are drawn if
    `with_error_samples`, for a method with prior SD maps of the run.
    """

    data_consistency: Consistency = "off"
    force: bool = False
    omp_nthreads: int = 1
    device: Device = "cpu"
    random_seed: int = 0
    with_error_samples: bool = False


@frozen
class SuperResolvedSeries:
    """Series on the high-resolution grid and on the grids of other spaces.

    `series` is motion-corrected (signal units). `space_series` are on the grids of other spaces.
    `series_facts` are outlier volumes, and whether a method was applied. `error_draws` are samples
    of the reconstruction error (4D, unit scale), see `bids_sr.sr.prior_maps.add_detail`; None if
    no samples are drawn. `acquired_draws` are the acquired part of the same samples.
    """

    series: Series
    space_series: list[Map]
    series_facts: Facts
    error_draws: Series | None
    acquired_draws: Series | None


@step(Stage.SUPER_RESOLUTION, memory=SUPER_RESOLVE)
def super_resolve(
    aligned: AlignedSeries,
    model_file: File | None = None,
    zerofilled: Series | None = None,
    guide: Guide | None = None,
    space_grids: Sequence[OutputGrid] = (),
    *,
    here: Path = HERE,
    series_name: str,
    inference: Inference,
) -> SuperResolvedSeries:
    """Compute one series on the high-resolution grid, with a single interpolation per volume.

    Volumes are upsampled on their acquired grid and then interpolated.

    `model_file` has the weights of a trained method, with the model card in the same folder.
    Variance methods add detail to `zerofilled`; None to compute it here. `guide` is the image for
    `inject` and `ratio`, and for variance methods with static detail. Upsampled volumes are also
    interpolated to `space_grids` in other spaces. `series_name` is an interpolation, a baseline
    with the guide, or the series of a method. The series is zero filled if the method is not
    applied.

    Raises `UsageError` if the model is for another resolution, contrast, orientation or factor,
    and `InvalidInput` if the mask is empty, or if a required input is missing.
    """
    model = None if model_file is None else load_model(model_file)
    if model is not None:
        check_model(model.card, aligned.stc.affine, "bold", aligned.factor, force=inference.force)
    run_model = model if model is not None and model.card.trained_on == "series" else None
    posed_guide = _pose_guide(series_name, guide, aligned.distortion, run_model)
    inputs = _make_upsampler_inputs(aligned, posed_guide, model, inference)
    target = here / "series.nii"
    space_series = [_locate_space_series(space_grid, here) for space_grid in space_grids]
    space_targets = {
        Path(str(derivative.content)): space_grid
        for derivative, space_grid in zip(space_series, space_grids, strict=True)
    }
    if run_model is None:
        _write_upsampled(aligned, series_name, model, inputs, target, space_targets, inference)
    else:
        _write_with_detail(
            aligned, run_model, inputs, zerofilled, target, space_targets, inference
        )
    application_entries = {} if model is None else _describe_application(model.card)
    return SuperResolvedSeries(
        series=SeriesReader(target),
        space_series=space_series,
        series_facts={**application_entries, **(aligned.outliers or {})},
        error_draws=_open_if_written(here / _ERROR_SAMPLES_FILE),
        acquired_draws=_open_if_written(here / _ACQUIRED_SAMPLES_FILE),
    )


def _pose_guide(
    series_name: str,
    guide: Guide | None,
    distortion: Distortion | None,
    run_model: LoadedModel | None,
) -> PosedImage | None:
    """Return the high-resolution image, which can be resampled to any head position.

    The result is None if the series does not use the image. Run-trained methods use the image if
    it exists and if they are applied.
    """
    if run_model is None:
        is_guided = get_need(series_name) == "pair"
    else:
        is_guided = guide is not None and was_applied(run_model.card.json)
    if not is_guided:
        return None
    if guide is None:
        raise InvalidInput(f"{series_name} requires a high-resolution T2*-weighted image (guide)")
    image, affine = load_image(guide.highres_file)
    return PosedImage(
        data=image,
        affine=affine,
        from_boldref=guide.highres2boldref_xfm[0],
        distortion=distortion,
    )


def _make_upsampler_inputs(
    aligned: AlignedSeries,
    guide: PosedImage | None,
    model: LoadedModel | None,
    inference: Inference,
) -> UpsamplerInputs:
    """Return what volumes of a run are upsampled with, apart from the model."""
    return UpsamplerInputs(
        factor=aligned.factor,
        affine=aligned.stc.affine,
        guide=guide,
        distortion=aligned.distortion,
        device="cpu" if model is None else choose_device(inference.device),
        threads=inference.omp_nthreads,
    ).with_boldref(aligned.boldref.data, aligned.boldref.affine, aligned.bold_mask.data)


def _locate_space_series(space_grid: OutputGrid, here: Path) -> Derivative:
    """Return a series in another space, with its file, which does not exist yet."""
    entities = {**space_grid.entities, "desc": "preproc", "suffix": "bold"}
    return Derivative(here / f"{Derivative(None, entities).name}.nii", entities)


def _make_writer(aligned: AlignedSeries, inference: Inference) -> Callable[..., None]:
    """Return the function that writes the upsampled series of a run to a file."""
    shape, affine = hr_grid(aligned.stc.shape[:3], aligned.boldref.affine, aligned.factor)
    return partial(
        write_series,
        aligned.stc,
        xfms=aligned.hmc_xfms,
        shape=shape,
        affine=affine,
        factor=aligned.factor,
        distortion=aligned.distortion,
        threads=inference.omp_nthreads,
    )


def _write_upsampled(
    aligned: AlignedSeries,
    series_name: str,
    model: LoadedModel | None,
    inputs: UpsamplerInputs,
    target: Path,
    space_targets: Mapping[Path, OutputGrid],
    inference: Inference,
) -> None:
    """Write a series whose volumes are upsampled one by one, also in other spaces.

    The series is zero filled if its `model` is not applied. `space_targets` are output files and
    grids in other spaces.
    """
    is_applied = model is None or was_applied(model.card.json)
    upsampler = make_upsampler(
        series_name if is_applied else ACQUIRED_BAND, inputs, model if is_applied else None
    )
    _make_writer(aligned, inference)(
        target,
        upsampler,
        consistency=inference.data_consistency,
        other_spaces=space_targets,
    )


def _write_with_detail(
    aligned: AlignedSeries,
    model: LoadedModel,
    inputs: UpsamplerInputs,
    zerofilled: Series | None,
    target: Path,
    space_targets: Mapping[Path, OutputGrid],
    inference: Inference,
) -> None:
    """Write a zero-filled series with the detail of a run-trained method, also in other spaces.

    A temporary zero-filled series is computed if `zerofilled` is None. Error samples are written
    to files in the folder of `target`. `space_targets` are output files and grids in other spaces.
    """
    from bids_sr.sr.prior_maps.add_detail import make_detail

    # If slices become thinner, zero filling alone does not preserve their means.
    consistency: Consistency = "enforce" if aligned.factor[2] != 1 else inference.data_consistency
    write = partial(
        _make_writer(aligned, inference),
        upsampler=make_upsampler(ACQUIRED_BAND, inputs),
        consistency=consistency,
    )
    detail = make_detail(model, inputs, aligned.stc.shape[:3])
    temporary_file = target.with_name("zerofilled.nii")
    if zerofilled is None:
        write(temporary_file)
    zerofilled_series = zerofilled or SeriesReader(temporary_file)
    sample_files = (
        (target.with_name(_ERROR_SAMPLES_FILE), target.with_name(_ACQUIRED_SAMPLES_FILE))
        if inference.with_error_samples
        else None
    )
    detail.add(zerofilled_series, target, sample_files, seed=inference.random_seed)
    if space_targets:
        detailed = SeriesReader(target)
        write(
            None,
            other_spaces=space_targets,
            add_volume=lambda t: detailed.volume(t) - zerofilled_series.volume(t),
        )
    temporary_file.unlink(missing_ok=True)


def _describe_application(card: ModelCard) -> dict[str, object]:
    """Return sidecar entries on a method: whether it was applied, or why not."""
    if was_applied(card.json):
        return {"Applied": True}
    return {
        "Applied": False,
        "ReasonNotApplied": explain_not_applied(card.json),
        "Description": "zero-filled BOLD series corrected for head motion (the super-resolution"
        " method was not applied)",
    }


def _open_if_written(path: Path) -> SeriesReader | None:
    """Return a reader of a series; None if the file does not exist."""
    return SeriesReader(path) if path.exists() else None
