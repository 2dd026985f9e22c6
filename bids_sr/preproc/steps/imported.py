"""Import of estimates of other programs, in the form that other steps require."""

from collections.abc import Sequence

import numpy as np

from bids_sr.engine.artifacts import Confounds, Facts, File, Image, Mask, Series, Table
from bids_sr.engine.memory import Need
from bids_sr.engine.step import Stage, step
from bids_sr.engine.step_memory import SHOW_IN_TEMPLATE
from bids_sr.io.arrays import Array
from bids_sr.io.confound_names import MOTION_PARAMETERS
from bids_sr.io.grids import AxisOrder, Factor, inverse_order, reorder, reorder_affine
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import apply, load, load_like
from bids_sr.preproc.bold_to_anat import measure_coregistration, upsample_mask
from bids_sr.preproc.boldref import average_realigned_volumes
from bids_sr.preproc.brain import check_brain, empty_grid_2mm, volume_ml
from bids_sr.preproc.head_motion import motion_table
from bids_sr.preproc.imported_confounds import import_confound_columns, rename_old_columns
from bids_sr.preproc.imported_motion import convert_mcflirt_motion, precomputed_motion
from bids_sr.preproc.mixture_segmentation import label_tissues
from bids_sr.preproc.outlier_volumes import interpolation_weights
from bids_sr.preproc.steps import anatomy
from bids_sr.preproc.steps.outlier_volumes import add_alternation, reasons_by_volume
from bids_sr.spatial.distortion import Distortion, distortion_from_field_map
from bids_sr.spatial.itk_files import Transforms
from bids_sr.spatial.masks import brain_mask
from bids_sr.spatial.transforms import hr_grid, invert

_ANATOMY_NEED = Need(always=0.05, t1w=0.030, high=0.0)


@step(Stage.OTHER_PROGRAMS, makes=("t1w_preproc", "t1w_mask", "brain_facts"), memory=_ANATOMY_NEED)
def import_anatomy(t1w_file: File, given_t1w_mask: File) -> tuple[Image, Mask, Facts]:
    """Copy anatomical images to uncompressed images with unchanged values.

    The image `t1w_file` is bias-corrected. Returns both images; and metrics of the mask, with
    doubts about its plausibility.
    """
    mask = load(given_t1w_mask)
    brain = mask.like(mask.data > 0.5)
    brain_facts = check_brain(volume_ml(brain.data, brain.affine))
    return load(t1w_file), brain, anatomy.warn_of_doubts(brain_facts)


@step(Stage.OTHER_PROGRAMS, makes=("t1w_dseg", "t1w_tpms"), memory=_ANATOMY_NEED)
def import_tissues(
    t1w_preproc: Image, given_tpms: Sequence[File], given_t1w_dseg: File | None = None
) -> tuple[Image, list[Image]]:
    """Copy tissue labels (1 GM, 2 WM, 3 CSF) and probabilities.

    Missing labels are derived from the probabilities.
    """
    tpms = [load(path) for path in given_tpms]
    labels = (
        np.round(load(given_t1w_dseg).data).astype(np.uint8)
        if given_t1w_dseg
        else label_tissues(np.stack([image.data for image in tpms]))
    )
    return Volume(labels, t1w_preproc.affine), tpms


@step(
    Stage.OTHER_PROGRAMS,
    makes=("t1w2std_xfm", "std2t1w_xfm", "std_t1w"),
    memory=SHOW_IN_TEMPLATE,
)
def show_in_template(
    t1w_preproc: Image,
    template: Image,
    given_t1w2std_xfm: File,
    given_std2t1w_xfm: File,
    *,
    random_seed: int,
) -> tuple[File, File, Image]:
    """Resample the T1w image to template space (2 mm) with given transforms.

    The transforms are returned unchanged. `given_t1w2std_xfm` resamples images to the template,
    and `given_std2t1w_xfm` resamples template images to the T1w image.
    """
    grid = empty_grid_2mm(template)
    std_t1w = apply(t1w_preproc, grid, [given_t1w2std_xfm], seed=random_seed)
    return given_t1w2std_xfm, given_std2t1w_xfm, Volume(std_t1w, grid.affine)


def describe_motion(origin: str, *, rebuilt: bool) -> str:
    """Return methods text of head motion that another program estimated.

    `origin` is the name of the program with its version. `rebuilt` is True if transforms are
    computed from motion parameters in its confounds.
    """
    imported_text = (
        "the head-motion parameters (converted to transforms from the six parameters reported by"
        " MCFLIRT)"
        if rebuilt
        else "the head-motion transforms"
    )
    return (
        f"For each run, {imported_text} were taken from {origin} [@fmriprep]. Volumes were not"
        " resampled at this stage. The boldref was computed as the mean of the steady-state"
        " volumes after applying these transforms."
    )


@step(Stage.OTHER_PROGRAMS, makes=("hmc_xfms", "motion", "boldref"))
def import_motion(
    bold: Series,
    given_hmc_xfms: Transforms,
    distortion: Distortion | None = None,
    given_boldref: Image | None = None,
    outliers: Facts | None = None,
    *,
    n_dummy: int,
) -> tuple[Transforms, Table, Image]:
    """Import head motion of another program, and compute the boldref.

    `given_hmc_xfms` are transforms to the boldref, one per volume (RAS mm). `distortion` is the
    susceptibility distortion of the volumes; None if there is no field map. `given_boldref` is the
    boldref of these transforms; None to average the steady-state volumes. The transforms of
    `outliers` are replaced by the nearest other transform.

    Returns rigid transforms of boldref points to points of each volume; six motion parameters (mm,
    rad) and an empty residual, one row per volume; and the boldref in signal units of the run.
    """
    return _import_transforms(
        bold,
        given_hmc_xfms,
        boldref=given_boldref,
        distortion=distortion,
        outliers=outliers,
        n_dummy=n_dummy,
    )


@step(Stage.OTHER_PROGRAMS, makes=("hmc_xfms", "motion", "boldref"))
def rebuild_motion(
    bold: Series,
    given_confounds: Table,
    distortion: Distortion | None = None,
    outliers: Facts | None = None,
    *,
    n_dummy: int,
    axis_order: AxisOrder,
) -> tuple[Transforms, Table, Image]:
    """Import head motion from the MCFLIRT parameters in a confounds table.

    The results are as in `import_motion`.

    `given_confounds` is the confounds table of the other program, one row per volume. `distortion`
    is the shift of the signal along the phase-encoding axis of the run. `axis_order` is the axis
    of the file for each axis of the series; the parameters refer to the axes of the file.
    """
    motion_parameters = rename_old_columns(given_confounds)[list(MOTION_PARAMETERS)].to_numpy(
        np.float64
    )
    uncorrected_mean = average_realigned_volumes(
        bold, np.tile(np.eye(4), (bold.shape[3], 1, 1)), n_dummy=n_dummy
    )
    to_file_order = inverse_order(axis_order)
    matrices = convert_mcflirt_motion(
        motion_parameters,
        reorder(uncorrected_mean, to_file_order),
        reorder_affine(bold.affine, to_file_order),
    )
    return _import_transforms(
        bold, matrices, distortion=distortion, outliers=outliers, n_dummy=n_dummy
    )


def _import_transforms(
    bold: SeriesReader,
    matrices: Array,
    *,
    boldref: Volume | None = None,
    distortion: Distortion | None,
    outliers: Facts | None,
    n_dummy: int,
) -> tuple[Transforms, Table, Image]:
    """Return transforms, motion parameters and boldref, as described in `import_motion`."""
    if len(matrices) != bold.shape[3]:
        raise ValueError(
            f"{bold.path}: found head-motion transforms for {len(matrices)} volumes;"
            f" expected {bold.shape[3]}, the number of volumes in the run"
        )
    # An outlier takes the transform of the volume with the largest weight in its interpolation.
    source_volumes = np.arange(len(matrices))
    weights_by_outlier = interpolation_weights(
        list(reasons_by_volume(outliers)), len(matrices), n_dummy
    )
    for volume, weights in weights_by_outlier.items():
        source_volumes[volume] = max(weights, key=weights.__getitem__)
    hmc_xfms = matrices[source_volumes]
    if boldref is None:
        mean = average_realigned_volumes(bold, hmc_xfms, n_dummy=n_dummy, distortion=distortion)
        boldref = Volume(mean, bold.affine, bold.header)
    motion = precomputed_motion(hmc_xfms, brain_mask(boldref.data, bold.affine), bold.affine)
    table = motion_table(motion.params, np.full(len(hmc_xfms), np.nan))
    return motion.matrices, table, boldref


def describe_distortion(origin: str) -> str:
    """Return methods text of distortion correction with a field map of another program."""
    return (
        f"Susceptibility distortion was corrected with the field map from {origin}."
        " The shift along the phase-encoding axis (field multiplied by total readout time) was"
        " corrected in the same interpolation as head motion, without intensity modulation."
        " Networks were applied to the distorted volumes, and the T2*-weighted images used as"
        " guides were transformed to these volumes."
    )


@step(Stage.OTHER_PROGRAMS, makes="distortion")
def field_to_shift(
    bold: Series,
    fieldmap: File,
    boldref2fmap_xfm: Transforms,
    *,
    readout: float,
    phase_encoding: str,
) -> Distortion:
    """Return the shift of a run's signal by a field (Hz), on the grid of the boldref.

    See `bids_sr.spatial.resampling`.

    `fieldmap` is in Hz, and `boldref2fmap_xfm` is the transform of field map points to boldref
    points (RAS mm). `readout` is the total readout time (s). `phase_encoding` is the direction as
    in BIDS, such as ``j-``.
    """
    field = load(fieldmap)
    fmap2boldref = invert(boldref2fmap_xfm[0])
    nx, ny, nz, _ = bold.shape
    return distortion_from_field_map(
        field.data,
        field.affine,
        fmap2boldref,
        (nx, ny, nz),
        bold.affine,
        phase_encoding,
        readout,
    )


@step(Stage.OTHER_PROGRAMS, makes=("boldref2t1w_xfm", "coreg_facts"))
def import_coreg(
    boldref: Image,
    t1w_preproc: Image,
    t1w_mask: Mask,
    given_boldref2t1w_xfm: Transforms,
    *,
    origin: str,
) -> tuple[Transforms, Facts]:
    """Import a registration of BOLD and T1w images, and measure the agreement of the brains.

    `given_boldref2t1w_xfm` maps T1w points to boldref points (RAS mm). The transform is returned
    with size and quality of the registration.
    """
    facts = measure_coregistration(boldref, t1w_preproc, t1w_mask.data, given_boldref2t1w_xfm[0])
    return given_boldref2t1w_xfm[:1], facts | {"bold_t1w_origin": origin}


@step(Stage.OTHER_PROGRAMS, makes=("bold_mask", "bold_mask_hr", "mask_facts"))
def import_mask(
    boldref: Image, given_bold_mask: File, *, factor: Factor, origin: str
) -> tuple[Mask, Mask, Facts]:
    """Import a brain mask, and resample it to the high-resolution grid.

    `given_bold_mask` is on the grid of the run, with axes in any order.
    """
    mask = load_like(given_bold_mask, boldref)
    brain = mask.data > 0.5
    if brain.shape != boldref.data.shape or not brain.any():
        raise ValueError(f"{given_bold_mask}: the mask is empty or is not on the grid of the run")
    shape, affine = hr_grid(brain.shape, mask.affine, factor)
    brain_hr = upsample_mask(brain, mask.affine, shape, affine)
    return mask.like(brain), Volume(brain_hr, affine), {"mask_source": origin}


def describe_confounds(origin: str) -> str:
    """Return methods text of confounds of another program."""
    return f"The confounds were taken from {origin} [@fmriprep]."


@step(Stage.OTHER_PROGRAMS, makes=("confounds", "confounds_columns"))
def import_confounds(
    given_confounds: File, outliers: Facts | None = None, *, origin: str, n_dummy: int
) -> tuple[Confounds, Facts]:
    """Import a confounds table, one row per volume, with all columns and descriptions.

    `given_confounds` is a table (TSV) of another program; its JSON sidecar is read if it exists.
    `outliers` are outlier volumes of the run, which get a column each.
    """
    columns = import_confound_columns(
        given_confounds, n_dummy=n_dummy, origin=origin, outliers=reasons_by_volume(outliers)
    )
    return add_alternation(*columns, outliers)
