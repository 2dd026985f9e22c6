"""Confounds of a run computed by nipype and niworkflows, with the settings of fMRIPrep."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from bids_sr.io.confound_names import MOTION_PARAMETERS
from bids_sr.io.frozen import frozen
from bids_sr.io.nifti import SeriesReader
from bids_sr.preproc.confound_table import build_confound_table, tissue_masks

_SIGNAL_MASKS = {"csf": "csf", "white_matter": "white_matter", "csf_wm": "deep"}
_COMPONENT_MASKS = {"a": "deep", "w": "deep_white_matter", "c": "deep_csf"}


@frozen
class RunFiles:
    """Motion-corrected series (uncompressed) of a run, and what confounds are computed from.

    `motion` has the columns MOTION_PARAMETERS, `masks` are brain (``brain``) and tissue masks by
    name, and `tpms` the probabilities from which the tissue masks were made.
    """

    series: Path
    motion: pd.DataFrame
    masks: Mapping[str, np.ndarray]
    tpms: list[np.ndarray]
    n_dummy: int


@frozen
class LibraryConfounds:
    """Confounds table, metadata of all components by prefix, and voxels of tCompCor."""

    table: pd.DataFrame
    metadata: dict[str, pd.DataFrame]
    most_variable: np.ndarray


def make_run_files(
    series: Path, motion: pd.DataFrame, mask: np.ndarray, tpms: list[np.ndarray], n_dummy: int
) -> RunFiles:
    """Return the files of a run with tissue masks of bids-sr, without empty masks."""
    masks = {"brain": mask} | (tissue_masks(tpms, mask) if tpms else {})
    filled_masks = {name: tissue for name, tissue in masks.items() if tissue.any()}
    return RunFiles(series=series, motion=motion, masks=filled_masks, tpms=tpms, n_dummy=n_dummy)


def compute_own_confounds(run: RunFiles) -> tuple[pd.DataFrame, dict[str, dict[str, object]]]:
    """Return the confounds table of bids-sr and its descriptions; `rmsd` is that of no motion."""
    with SeriesReader(run.series) as reader:
        return build_confound_table(
            reader,
            run.masks["brain"],
            run.motion,
            np.tile(np.eye(4), (len(run.motion), 1, 1)),
            tpms=run.tpms or None,
            n_dummy=run.n_dummy,
        )


def compute_library_confounds(run: RunFiles, folder: Path) -> LibraryConfounds:
    """Return the confounds of a run as computed in fMRIPrep's confounds workflow.

    `folder` is a folder for the files of nipype.
    """
    from niworkflows.interfaces.confounds import ExpandModel, SpikeRegressors

    with contextlib.chdir(folder):
        image = nib.load(run.series)
        files = {}
        for name, mask in run.masks.items():
            files[name] = str(folder / f"{name}.nii.gz")
            nib.Nifti1Image(mask.astype(np.uint8), image.affine).to_filename(files[name])
        base = pd.concat(
            [_extract_means(run.series, files), _compute_changes(run, files["brain"]), run.motion],
            axis=1,
        )
        components, metadata, most_variable = _compute_components(run, files)
        pd.concat([base, *components], axis=1).to_csv(
            "base.tsv", sep="\t", index=False, na_rep="n/a"
        )
        if "csf" in base and "white_matter" in base:
            model = ExpandModel(confounds_file="base.tsv")
        else:
            model = ExpandModel(
                confounds_file="base.tsv", model_formula="(dd1(rps + gsr))^^2 + others"
            )
        expanded = model.run().outputs.confounds_file
        spikes = SpikeRegressors(confounds_file=expanded, fd_thresh=0.5, dvars_thresh=1.5)
        table = pd.read_csv(spikes.run().outputs.confounds_file, sep="\t")
    return LibraryConfounds(table=table, metadata=metadata, most_variable=most_variable)


def _extract_means(series: Path, files: Mapping[str, str]) -> pd.DataFrame:
    """Return the mean signals of the brain and of tissues."""
    from niworkflows.interfaces.images import SignalExtraction

    columns = {"global_signal": "brain", **_SIGNAL_MASKS}
    used = {column: files[name] for column, name in columns.items() if name in files}
    extraction = SignalExtraction(
        in_file=str(series), label_files=list(used.values()), class_labels=list(used)
    )
    return pd.read_csv(extraction.run().outputs.out_file, sep="\t")


def _compute_changes(run: RunFiles, mask_file: str) -> pd.DataFrame:
    """Return DVARS and framewise displacement, NaN in the first volume."""
    from nipype.algorithms.confounds import ComputeDVARS, FramewiseDisplacement

    np.savetxt("motion.txt", run.motion[list(MOTION_PARAMETERS)].to_numpy())
    dvars = ComputeDVARS(
        in_file=str(run.series),
        in_mask=mask_file,
        save_nstd=True,
        save_std=True,
        remove_zerovariance=True,
    ).run()
    displacement = FramewiseDisplacement(
        in_file=str(Path("motion.txt").resolve()), parameter_source="SPM"
    ).run()
    files = {
        "dvars": dvars.outputs.out_nstd,
        "std_dvars": dvars.outputs.out_std,
        "framewise_displacement": displacement.outputs.out_file,
    }
    return pd.DataFrame(
        {
            name: np.append(np.nan, np.loadtxt(file, skiprows=int("displacement" in name)))
            for name, file in files.items()
        }
    )


def _compute_components(
    run: RunFiles, files: Mapping[str, str]
) -> tuple[list[pd.DataFrame], dict[str, pd.DataFrame], np.ndarray]:
    """Return cosines, dummies and components; metadata by prefix; and the voxels of tCompCor."""
    from nipype.algorithms.confounds import ACompCor, TCompCor

    with SeriesReader(run.series) as reader:
        tr = float(reader.tr)
    options = {
        "realigned_file": str(run.series),
        "pre_filter": "cosine",
        "high_pass_cutoff": 128.0,
        "repetition_time": tr,
        "ignore_initial_volumes": run.n_dummy,
        "save_metadata": True,
        "save_pre_filter": True,
        "variance_threshold": 0.5,
    }
    tables, metadata = [], {}
    masks = {prefix: name for prefix, name in _COMPONENT_MASKS.items() if name in files}
    for prefix, name in {**masks, "t": "brain"}.items():
        interface = (TCompCor if prefix == "t" else ACompCor)(
            mask_files=[files[name]], header_prefix=f"{prefix}_comp_cor_", **options
        )
        outputs = interface.run().outputs
        tables.append(pd.read_csv(outputs.components_file, sep="\t"))
        metadata[prefix] = pd.read_csv(outputs.metadata_file, sep="\t")
    slow = pd.read_csv(outputs.pre_filter_file, sep="\t").rename(
        columns=lambda name: name.replace("Cosine", "cosine").replace(
            "NonSteadyStateOutlier", "non_steady_state_outlier"
        )
    )
    (file,) = np.atleast_1d(outputs.high_variance_masks)
    return [slow, *tables], metadata, np.asarray(nib.load(file).dataobj) > 0


def compare_columns(own: pd.DataFrame, expected: pd.DataFrame) -> dict[str, float]:
    """Return the largest difference of each common column, relative to its largest value.

    The sign of components is disregarded. Values that only one table has count as inf.
    """
    differences = {}
    for name in expected:
        if name not in own:
            continue
        values, others = own[name].to_numpy(float), expected[name].to_numpy(float)
        if not np.array_equal(np.isnan(values), np.isnan(others)):
            differences[name] = np.inf
            continue
        signs = (-1, 1) if "_comp_cor_" in name else (1,)
        scale = np.nanmax(np.abs(others)) or 1.0
        differences[name] = min(
            float(np.nanmax(np.abs(sign * values - others)) / scale) for sign in signs
        )
    return differences
