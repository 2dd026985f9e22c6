"""Steps that make the series of a run, and a pair of another contrast.

The series are raw, the baselines, the methods and the measured one.
"""

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
_SAMPLE_MM = 1.0  # of a finer image, before it is averaged over the voxels of the pair's grid


def _undone(corrected: bool) -> str:
    return f"head motion{' and susceptibility distortion' if corrected else ''}"


def describe_all_series(names: Sequence[str], corrected: bool, thinner: bool = False) -> str:
    """Return the methods text shared by all series but the acquired one, and of the baselines.

    Parameters
    ----------
    names : Sequence[str]
        Series of the run.
    corrected : bool
        Whether susceptibility distortion is undone, too.
    thinner : bool, optional
        Whether slices of the high-resolution grid are thinner than the acquired ones.

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
        f" per volume, which also corrected for {_undone(corrected)}.{baselines}\n"
    )


def describe_series(name: str) -> str:
    """Return methods text of one series; baselines stand together in `describe_all_series`."""
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
        Name of the series; `raw` for the acquired one.
    task_name : str
        Name of the task.
    tr : float
        Repetition time (s).
    start_time : float
        Moment of a volume for which its values hold (s after its start).
    slice_timing_corrected : bool
        Whether slice timing was corrected, here or before.
    input_smoothing : float
        FWHM (mm) of the smoothing of the acquired series; 0 for none.
    resolution : str, default=""
        What the resolution rests on; empty on the acquired grid.

    Returns
    -------
    dict[str, object]
        Metadata by key.
    """
    made = (
        "on the acquired grid"
        if name == RAW
        else f"on the high-resolution grid, computed with {name}"
    )
    return {
        "Description": f"BOLD series corrected for head motion, {made}",
        "TaskName": task_name,
        "RepetitionTime": tr,
        "SkullStripped": False,
        **({"InputSmoothingFWHM": input_smoothing} if input_smoothing else {}),
        "SliceTimingCorrected": slice_timing_corrected,
        "StartTime": round(start_time, 6),
        **({"Resolution": resolution} if resolution else {}),
    }


def fine_resolution(name: str, factor: Factor, axis_order: AxisOrder) -> str:
    """Return what a sidecar says of the resolution of a series on the high-resolution grid.

    `axis_order`: axis of the file that each axis of the run is.
    """
    in_file = [factor[axis] for axis in inverse(axis_order)]
    finer = f"voxels {'x'.join(f'{each:g}' for each in in_file)} times smaller"
    return f"acquired field of view with {finer}, computed with {name}"


def resolution_elsewhere(name: str) -> str:
    """Return what a sidecar says of the resolution of a series in another space."""
    return (
        f"super-resolved with {name} on the acquired field of view, then"
        " resampled to this space by a single interpolation"
    )


_INTERPOLATION = Cost(volumes=0.025)


def cost_of_series(name: str, recipe: RecipeName, changes: Sequence[RecipeChange]) -> Cost:
    """Return the processor time of a series, whose model was trained with a recipe.

    `changes`: settings of recipes of any method that were changed.
    """
    if name in BASELINES:
        return _INTERPOLATION
    method = method_of_series(name)
    added = method.cost(recipe).series
    if own := changes_of(tuple(changes), method.name):
        added *= width_ratio(
            changed_recipe(method, recipe, ()), changed_recipe(method, recipe, own)
        )
    return Cost(volumes=_INTERPOLATION.volumes + added)


def describe_raw(corrected: bool) -> str:
    """Return methods text of the acquired series.

    `corrected`: whether susceptibility distortion is undone, too.
    """
    return (
        "The acquired series was resampled once on its own grid to correct for"
        f" {_undone(corrected)}."
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
    """Make the raw series: undo head motion on the acquired grid.

    This uses the same code as for every other series.

    `hmc_xfms`: (T, 4, 4) boldref point to its point in each volume (RAS mm). `distortion`: of the
    volumes; it is undone by the same interpolation. Returns the series on the grid of the boldref,
    in signal units.
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
    """One series on the high-resolution grid: upsampled where it was acquired, interpolated once.

    `model_file`: weights of a trained method, with the card beside them. `zerofilled`: the
    zero-filled series, to which variance methods add; None: it is made here. `highres_file`:
    T2*-weighted image as acquired, for `inject` and `ratio`, and for variance methods where its
    static detail is added. `highres2boldref_xfm`: (1, 4, 4) takes a boldref point to its highres
    point. `space_grids`: grids in other spaces that the upsampled volumes are brought to as well.
    `data_consistency`: "enforce" puts what was acquired back into its band of k-space.
    `precision`: arithmetic of the network: ``fp32``, ``bf16``, or ``auto`` to choose. `displaced`:
    placebo: variance maps that are mirrored or shifted. `draws`: whether to draw the
    reconstruction's error, of maps of a run that are a prior. `UsageError`: the model is for
    another resolution, contrast, orientation or factor. `InferenceError`: the mask is empty, or
    something that the series needs is not there. Makes the series on the boldref's high-resolution
    grid, head motion undone, in signal units, and on each other grid, by one interpolation of the
    upsampled volumes; `series_facts`: whether a run-trained method was applied, and what the
    series is where it was not; `error_draws`, `acquired_draws`: draws of the error (4D, unit
    scale), and what is acquired of them; see `bids_sr.sr.variance.in_reference`; None without.
    """
    model = None if model_file is None else load_model(model_file)
    of_run = model is not None and model.card.trained_on == "series"
    if model is not None:
        check_model(model.card, stc.affine, "bold", factor, force=force)
    application = _applied(model) if of_run else {}
    guided = series_name in PAIR_BASELINES
    if of_run:
        guided = highres_file is not None and bool(application["Applied"])
    acquired = UpsamplerInputs(
        factor=factor,
        affine=stc.affine,
        guide=(
            _guide(series_name, highres_file, highres2boldref_xfm, distortion) if guided else None
        ),
        distortion=distortion,
        displaced=displaced,
        precision=precision,
        device="cpu" if model is None else choose_device(device),
        threads=omp_nthreads,
    ).in_run(boldref.data, boldref.affine, bold_mask.data)
    named = [
        Derivative(None, {**each.entities, "desc": "preproc", "suffix": "bold"})
        for each in space_grids
    ]
    files = [here / f"{each.name}.nii" for each in named]
    elsewhere, target = dict(zip(files, space_grids, strict=True)), here / "series.nii"
    upsampling = (series_name, acquired, model) if not of_run else ("zerofill", acquired)
    write = partial(
        write_series,
        stc,
        upsampler=make_upsampler(*upsampling),
        xfms=hmc_xfms,
        reference_affine=boldref.affine,
        factor=factor,
        # where slices get thinner, zero filling does not keep their means by itself
        consistency="enforce" if of_run and factor[2] != 1 else data_consistency,
        distortion=distortion,
        threads=omp_nthreads,
    )
    if model is not None and of_run:
        from bids_sr.sr.variance.in_reference import detail_of

        if zerofilled is None:
            write(target=here / "zerofilled.nii")
        filled = zerofilled or SeriesReader(here / "zerofilled.nii")
        drawn = (here / "error_draws.nii", here / "acquired_draws.nii") if draws else None
        detail_of(model, acquired, stc.shape[:3]).add(filled, target, drawn, seed=random_seed)
        if elsewhere:
            made = SeriesReader(target)
            write(
                target=None,
                elsewhere=elsewhere,
                added=lambda t: made.volume(t) - filled.volume(t),
            )
        (here / "zerofilled.nii").unlink(missing_ok=True)
    else:
        write(target=target, elsewhere=elsewhere)
    others = [Derivative(path, each.entities) for path, each in zip(files, named, strict=True)]
    errors, seen = (
        SeriesReader(path) if path.exists() else None
        for path in (here / "error_draws.nii", here / "acquired_draws.nii")
    )
    return SeriesReader(target), others, application, errors, seen


def _applied(model: LoadedModel | None) -> dict[str, object]:
    """Return sidecar entries on a run-trained method: whether it was applied."""
    if model is None or was_applied(model.card.json):
        return {"Applied": True}
    return {
        "Applied": False,
        "Description": "zero-filled BOLD series corrected for head motion (the super-resolution"
        " method was not applied)",
    }


def _guide(
    name: str,
    highres_file: Path | None,
    highres2boldref_xfm: Array | None,
    distortion: Distortion | None,
) -> PosedImage:
    """The high-resolution image, in whatever pose it is asked for."""
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
    """The measured series on the high-resolution grid of the run, head motion of the run undone.

    Nothing is estimated from it, so that it stays a reference.

    `hmc_xfms, distortion`: of the run under test; see `undo_motion`.
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
    """A training pair of the subject's T1w image, at the resolutions of the run and in its frame.

    `boldref2t1w_xfm`: (1, 4, 4) takes a T1w point to its boldref point (RAS mm).
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
    """Return methods text of the placebos among series, by their names.

    Sentence of the methods text; empty without placebos.
    """
    changed = {
        "Mirror": "left-right mirrored variance maps",
        "Shift": "shifted variance maps",
    }
    changed["T1w"] = (
        "a network trained on the T1w image and its k-space-truncated copy instead of the T2* pair"
    )
    repeated: dict[str, list[str]] = {}
    for name in names:
        if name in PLACEBOS:
            how = changed.get(
                PLACEBOS[name].suffix, "a model that was not trained on this participant"
            )
            repeated.setdefault(PLACEBOS[name].method, []).append(f"with {how}")
    listed = [f"{method} was repeated {enumerated(ways)}" for method, ways in repeated.items()]
    return f"As negative controls, {'; '.join(listed)}. " if listed else ""
