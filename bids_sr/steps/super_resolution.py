"""Steps that compute the series of a run (raw, baselines, methods, measured) and a T1w pair."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bids_sr.config.memory import Need
from bids_sr.evaluation.evidence import was_applied
from bids_sr.evaluation.negative_controls import PLACEBOS
from bids_sr.io.arrays import Array
from bids_sr.io.grids import AxisOrder, Factor, inverse
from bids_sr.io.nifti import SeriesReader, load_image
from bids_sr.io.volume import Volume
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
from bids_sr.pipeline.step import HERE, enumerated, step
from bids_sr.series import BASELINES, PAIR_BASELINES, RAW
from bids_sr.spatial import coarse_grids
from bids_sr.spatial.transforms import hr_grid, invert
from bids_sr.sr.device import Device, Precision, choose_device
from bids_sr.sr.inference.acquired import Displaced, InferenceError, UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import Keeping, make_upsampler, write_series
from bids_sr.sr.inference.guided_baselines import PosedImage
from bids_sr.sr.matrices import acquire
from bids_sr.sr.method import Cost, method_of_series
from bids_sr.sr.models.compatibility import check_model
from bids_sr.sr.models.model import LoadedModel, load_model
from bids_sr.sr.recipe import RecipeName
from bids_sr.sr.recipe_changes import RecipeChange, changed_recipe, changes_of, width_ratio
from bids_sr.steps.memory import RESOLVE, SERIES

_AS_ACQUIRED: Factor = (1.0, 1.0, 1.0)
# mm, spacing of samples of a high-resolution image that are averaged over pair voxels
_SAMPLE_MM = 1.0


def _corrections_text(corrected: bool) -> str:
    return f"head motion{' and susceptibility distortion' if corrected else ''}"


def describe_all_series(names: Sequence[str], corrected: bool, thinner: bool = False) -> str:
    """Return the methods text shared by all series except the acquired series, with baselines.

    Parameters
    ----------
    names : Sequence[str]
        Series of the run.
    corrected : bool
        Whether susceptibility distortion is also corrected.
    thinner : bool, optional
        Whether slices of the high-resolution grid are thinner than acquired slices.

    Returns
    -------
    str
        Paragraph of the methods section.
    """
    listed = [f"{BASELINES[name]} ({name})" for name in names if name in BASELINES]
    baselines = f" The following baselines were computed: {'; '.join(listed)}." if listed else ""
    if baselines and thinner:
        baselines += " Across slices, cubic spline interpolation was used instead of zero filling."
    return (
        "All other series were resampled to the high-resolution grid with a single interpolation"
        f" per volume, which also corrected for {_corrections_text(corrected)}.{baselines}\n"
    )


def describe_series(name: str) -> str:
    """Return methods text of one series; "" for baselines, see `describe_all_series`."""
    if name in BASELINES:
        return ""
    if method_of_series(name).trained_on == "series":
        return (
            "For this method, the signal change of the zero-filled series was estimated in the"
            " space of the boldref, and the part of the estimate outside the acquired band of"
            " k-space was added to the zero-filled series.\n"
        )
    return f"The method {name} was applied to each volume on its acquired grid.\n"


def series_sidecar(
    name: str,
    *,
    task_name: str,
    tr: float,
    start_time: float,
    slice_timing_corrected: bool,
    input_smoothing: float,
    resolution: str = "",
) -> dict[str, object]:
    """Return the sidecar of a series.

    Parameters
    ----------
    name : str
        Name of the series; `raw` for the acquired series.
    task_name : str
        Name of the task.
    tr : float
        Repetition time (s).
    start_time : float
        Reference time of a volume (s after its start).
    slice_timing_corrected : bool
        Whether slice timing was corrected, here or before.
    input_smoothing : float
        Smoothing of the acquired series (FWHM, mm); 0 if it was not smoothed.
    resolution : str, default=""
        Description of the resolution; "" for the acquired grid.

    Returns
    -------
    dict[str, object]
        Metadata by key.
    """
    computed = (
        "on the acquired grid"
        if name == RAW
        else f"on the high-resolution grid, computed with {name}"
    )
    return {
        "Description": f"BOLD series corrected for head motion, {computed}",
        "TaskName": task_name,
        "RepetitionTime": tr,
        "SkullStripped": False,
        **({"InputSmoothingFWHM": input_smoothing} if input_smoothing else {}),
        "SliceTimingCorrected": slice_timing_corrected,
        "StartTime": round(start_time, 6),
        **({"Resolution": resolution} if resolution else {}),
    }


def fine_resolution(name: str, factor: Factor, axis_order: AxisOrder) -> str:
    """Return the sidecar's description of resolution for a series on the high-resolution grid.

    `axis_order` is the axis of the file for each axis of the run.
    """
    in_file = [factor[axis] for axis in inverse(axis_order)]
    voxel_text = f"voxels {'x'.join(f'{ratio:g}' for ratio in in_file)} times smaller"
    return f"acquired field of view with {voxel_text}, computed with {name}"


def resolution_elsewhere(name: str) -> str:
    """Return the sidecar's description of resolution for a series in another space."""
    return (
        f"super-resolved with {name} on the acquired field of view, then"
        " resampled to this space by a single interpolation"
    )


_INTERPOLATION = Cost(volumes=0.025)


def cost_of_series(name: str, recipe: RecipeName, changes: Sequence[RecipeChange]) -> Cost:
    """Return the processor time of a series whose model was trained with a recipe.

    `changes` are changed recipe settings of any method.
    """
    if name in BASELINES:
        return _INTERPOLATION
    method = method_of_series(name)
    added = method.cost(recipe).series
    if method_changes := changes_of(tuple(changes), method.name):
        added *= width_ratio(
            changed_recipe(method, recipe, ()), changed_recipe(method, recipe, method_changes)
        )
    return Cost(volumes=_INTERPOLATION.volumes + added)


def describe_raw(corrected: bool) -> str:
    """Return methods text of the acquired series.

    `corrected` is True if susceptibility distortion is also corrected.
    """
    return (
        "The acquired series was resampled once on its own grid to correct for"
        f" {_corrections_text(corrected)}."
    )


@step(
    makes="preproc",
    memory=SERIES,
    cost=Cost(volumes=0.026),
)
def undo_motion(
    stc: Series,
    boldref: Image,
    hmc_xfms: Transforms,
    distortion: Distortion | None = None,
    *,
    here: Path = HERE,
) -> Series:
    """Compute the raw series: correct head motion on the acquired grid.

    The code is the same as for every other series.

    Parameters
    ----------
    hmc_xfms : Transforms
        Transforms of boldref points to points of each volume (T, 4, 4; RAS mm).
    distortion : Distortion | None
        Distortion of the volumes, which is corrected by the same interpolation.

    Returns
    -------
    Series
        Series on the grid of the boldref, in signal units.
    """
    upsampler = make_upsampler(RAW, UpsamplerInputs(factor=_AS_ACQUIRED))
    write_series(
        stc,
        target := here / "preproc.nii",
        upsampler,
        hmc_xfms,
        boldref.affine,
        factor=_AS_ACQUIRED,
        distortion=distortion,
    )
    return SeriesReader(target)


@step(
    makes=("series", "space_series", "series_facts", "error_draws", "acquired_draws"),
    memory=RESOLVE,
    cost=_INTERPOLATION,
)
def super_resolve(
    stc: Series,
    boldref: Image,
    bold_mask: Mask,
    hmc_xfms: Transforms,
    distortion: Distortion | None = None,
    model_file: File | None = None,
    zerofilled: Series | None = None,
    highres_file: File | None = None,
    highres2boldref_xfm: Transforms | None = None,
    space_grids: Sequence[SpaceGrid] = (),
    *,
    here: Path = HERE,
    series_name: str,
    factor: Factor,
    data_consistency: Keeping,
    precision: Precision,
    force: bool,
    omp_nthreads: int,
    device: Device,
    random_seed: int = 0,
    displaced: Displaced = "",
    draws: bool = False,
) -> tuple[Series, list[Map], Facts, Series | None, Series | None]:
    """Compute one series on the high-resolution grid, with a single interpolation per volume.

    Volumes are upsampled on their acquired grid and then interpolated.

    Parameters
    ----------
    model_file : File | None
        Weights of a trained method, with the model card in the same folder.
    zerofilled : Series | None
        Zero-filled series that variance methods add detail to; None to compute it here.
    highres_file : File | None
        T2*-weighted image as acquired, for `inject` and `ratio`, and for variance methods with
        static detail.
    highres2boldref_xfm : Transforms | None
        Transform of boldref points to points of this image (1, 4, 4).
    space_grids : Sequence[SpaceGrid]
        Grids in other spaces; upsampled volumes are also interpolated to these grids.
    data_consistency : Keeping
        "enforce" restores the acquired data in their band of k-space.
    precision : Precision
        Arithmetic of the network: ``fp32``, ``bf16``, or ``auto`` to choose.
    displaced : Displaced
        Placebo: mirrored or shifted variance maps.
    draws : bool
        Whether samples of the reconstruction error are drawn; only for variance maps of the run.

    Returns
    -------
    tuple[Series, list[Map], Facts, Series | None, Series | None]
        Motion-corrected series on the high-resolution grid, in signal units; series on each other
        grid; `series_facts`, whether a run-trained method was applied; and samples of the
        reconstruction error (4D, unit scale) and their acquired part, see
        `bids_sr.sr.variance.in_reference`, or None if no samples are drawn.

    Raises
    ------
    UsageError
        If the model is for another resolution, contrast, orientation or factor.
    InferenceError
        If the mask is empty, or if a required input is missing.
    """
    model = None if model_file is None else load_model(model_file)
    run_trained = model is not None and model.card.trained_on == "series"
    if model is not None:
        check_model(model.card, stc.affine, "bold", factor, force=force)
    application = _application_entries(model) if run_trained else {}
    guided = series_name in PAIR_BASELINES
    if run_trained:
        guided = highres_file is not None and bool(application["Applied"])
    acquired = UpsamplerInputs(
        factor=factor,
        affine=stc.affine,
        guide=(
            _posed_guide(series_name, highres_file, highres2boldref_xfm, distortion)
            if guided
            else None
        ),
        distortion=distortion,
        displaced=displaced,
        precision=precision,
        device="cpu" if model is None else choose_device(device),
        threads=omp_nthreads,
    ).in_run(boldref.data, boldref.affine, bold_mask.data)
    named = [
        Derivative(None, {**space_grid.entities, "desc": "preproc", "suffix": "bold"})
        for space_grid in space_grids
    ]
    files = [here / f"{derivative.name}.nii" for derivative in named]
    space_targets, target = dict(zip(files, space_grids, strict=True)), here / "series.nii"
    upsampling = (series_name, acquired, model) if not run_trained else ("zerofill", acquired)
    write = partial(
        write_series,
        stc,
        upsampler=make_upsampler(*upsampling),
        xfms=hmc_xfms,
        reference_affine=boldref.affine,
        factor=factor,
        # If slices become thinner, zero filling alone does not preserve their means.
        consistency="enforce" if run_trained and factor[2] != 1 else data_consistency,
        distortion=distortion,
        threads=omp_nthreads,
    )
    if model is not None and run_trained:
        from bids_sr.sr.variance.in_reference import detail_of

        if zerofilled is None:
            write(target=here / "zerofilled.nii")
        zerofilled_series = zerofilled or SeriesReader(here / "zerofilled.nii")
        draw_files = (here / "error_draws.nii", here / "acquired_draws.nii") if draws else None
        detail_of(model, acquired, stc.shape[:3]).add(
            zerofilled_series, target, draw_files, seed=random_seed
        )
        if space_targets:
            hr_series = SeriesReader(target)
            write(
                target=None,
                elsewhere=space_targets,
                added=lambda t: hr_series.volume(t) - zerofilled_series.volume(t),
            )
        (here / "zerofilled.nii").unlink(missing_ok=True)
    else:
        write(target=target, elsewhere=space_targets)
    space_series = [
        Derivative(path, derivative.entities)
        for path, derivative in zip(files, named, strict=True)
    ]
    errors, acquired_draws = (
        SeriesReader(path) if path.exists() else None
        for path in (here / "error_draws.nii", here / "acquired_draws.nii")
    )
    return SeriesReader(target), space_series, application, errors, acquired_draws


def _application_entries(model: LoadedModel | None) -> dict[str, object]:
    """Return sidecar entries on a run-trained method: whether it was applied."""
    if model is None or was_applied(model.card.json):
        return {"Applied": True}
    return {
        "Applied": False,
        "Description": "zero-filled BOLD series corrected for head motion (the super-resolution"
        " method was not applied)",
    }


def _posed_guide(
    name: str,
    highres_file: Path | None,
    highres2boldref_xfm: Array | None,
    distortion: Distortion | None,
) -> PosedImage:
    """Return the high-resolution image, which can be resampled to any head position."""
    if highres_file is None or highres2boldref_xfm is None:
        raise InferenceError(f"{name} requires highres_file and highres2boldref_xfm")
    data, affine = load_image(highres_file)
    return PosedImage(
        data=data, affine=affine, from_boldref=highres2boldref_xfm[0], distortion=distortion
    )


MEASURED_TEXT = (
    "The measured high-resolution series was processed with the same slice-timing correction,"
    " head-motion transforms, single interpolation, mask and model as the tested series. No"
    " parameters were estimated from the measured series.\n"
)
"""Methods text of the measured series."""


@step(makes="series", memory=SERIES, cost=Cost(volumes=0.05))
def place_measured(
    stc: Series,
    bold_mask_hr: Mask,
    hmc_xfms: Transforms,
    distortion: Distortion | None = None,
    *,
    here: Path = HERE,
) -> Series:
    """Resample the measured series to the high-resolution grid, with the head motion of the run.

    No parameters are estimated from the measured series, so that it remains an independent
    reference. `hmc_xfms` and `distortion` are from the evaluated run; see `undo_motion`.
    """
    upsampler = make_upsampler(RAW, UpsamplerInputs(factor=_AS_ACQUIRED))
    write_series(
        stc,
        target := here / "series.nii",
        upsampler,
        hmc_xfms,
        bold_mask_hr.affine,
        factor=_AS_ACQUIRED,
        distortion=distortion,
    )
    return SeriesReader(target)


@step(
    makes=("train_highres", "train_lowres"),
    memory=Need(always=0.10, t1w=0.030, high=0.0),
    cost=Cost(always=1.0),
)
def another_contrast(
    t1w_preproc: Image,
    boldref: Image,
    boldref2t1w_xfm: Transforms | None = None,
    *,
    factor: Factor,
) -> tuple[Image, Image]:
    """Compute a training pair from the T1w image, at both resolutions and in the frame of the run.

    `boldref2t1w_xfm` maps T1w points to boldref points (1, 4, 4; RAS mm).
    """
    xfm = None if boldref2t1w_xfm is None else invert(boldref2t1w_xfm[0])
    shape, grid = hr_grid(boldref.data.shape[:3], boldref.affine, factor)
    high = np.maximum(
        coarse_grids.coverage(
            t1w_preproc.data, t1w_preproc.affine, shape, grid, xfm, mm=_SAMPLE_MM
        ),
        0,
    )
    low, low_affine = acquire(high, grid, factor=factor)
    if low.shape != boldref.data.shape[:3]:
        raise ValueError(
            f"boldref: downsampling the grid {shape} by {factor} results in {low.shape};"
            f" expected {boldref.data.shape[:3]}"
        )
    return Volume(high.astype(np.float32), grid), Volume(
        np.maximum(low, 0).astype(np.float32), low_affine
    )


def placebos_text(names: Sequence[str]) -> str:
    """Return methods text of the placebos among series; "" if there are none."""
    changes_by_suffix = {
        "Mirror": "left-right mirrored variance maps",
        "Shift": "shifted variance maps",
    }
    changes_by_suffix["T1w"] = (
        "a network trained on the T1w image and its k-space-truncated copy instead of the T2* pair"
    )
    changes_by_method: dict[str, list[str]] = {}
    for name in names:
        if name in PLACEBOS:
            change = changes_by_suffix.get(
                PLACEBOS[name].suffix, "a model that was not trained on this participant"
            )
            changes_by_method.setdefault(PLACEBOS[name].method, []).append(f"with {change}")
    listed = [
        f"{method} was repeated {enumerated(method_changes)}"
        for method, method_changes in changes_by_method.items()
    ]
    return f"As negative controls, {'; '.join(listed)}. " if listed else ""
