"""Columns of the confounds table, compared with nipype and niworkflows as used by fMRIPrep."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from bids_sr.frozen import frozen
from bids_sr.glm.confound_table import build_confound_table
from bids_sr.glm.confounds import MOTION, select_most_variable, tissue_masks
from bids_sr.glm.drift import drift_basis, slow_cosines
from bids_sr.io.nifti import SeriesReader, SeriesWriter

SHAPE, VOLUMES, DUMMIES, TR = (16, 14, 8), 200, 3, 2.0


@frozen
class Run:
    """A run on disk and its confounds table."""

    folder: Path
    data: np.ndarray
    mask: np.ndarray
    tpms: list[np.ndarray]
    table: pd.DataFrame
    described: dict[str, dict[str, Any]]

    def image(self, name: str, values: np.ndarray) -> str:
        nib.Nifti1Image(values, np.eye(4)).to_filename(path := self.folder / f"{name}.nii.gz")
        return str(path)


def _series(rng: np.random.Generator) -> np.ndarray:
    """Return a series of shared signals and drifts in autocorrelated noise.

    The first volumes are brighter (non-steady state), and three later volumes have a motion spike.
    """
    signals = rng.normal(size=(6, VOLUMES)).cumsum(axis=1) * 0.5 + rng.normal(size=(6, VOLUMES))
    loads = rng.normal(size=(*SHAPE, 6)) * rng.uniform(0.2, 2, (*SHAPE, 1))
    data = 700 + 40 * rng.normal(size=(*SHAPE, 1)) + 4 * loads @ signals
    noise = rng.normal(size=(*SHAPE, VOLUMES)) * 6
    noise[..., 1:] += 0.4 * noise[..., :-1]
    data += noise + np.linspace(-20, 20, VOLUMES) * rng.normal(size=(*SHAPE, 1))
    data[..., [60, 61, 130]] += 25 * rng.normal(size=(*SHAPE, 3))
    data[..., :DUMMIES] *= [1.6, 1.2, 1.05]
    return data.astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder, rng = tmp_path_factory.mktemp("confounds"), np.random.default_rng(5)
    data = _series(rng)
    with SeriesWriter(folder / "bold.nii", data.shape, np.eye(4), TR) as writer:
        for t in range(VOLUMES):
            writer.append(data[..., t])
    mask = np.zeros(SHAPE, bool)
    mask[:, 1:-1, 1:-1] = True
    gm, wm, csf = (np.zeros(SHAPE, np.float32) for _ in range(3))
    gm[:5], wm[5:11], csf[11:] = 1, 1, 1
    six = rng.normal(size=(VOLUMES, 6)).cumsum(axis=0) * [0.05, 0.05, 0.05, 5e-4, 5e-4, 5e-4]
    motion, still = pd.DataFrame(six, columns=list(MOTION)), np.tile(np.eye(4), (VOLUMES, 1, 1))
    with SeriesReader(folder / "bold.nii") as reader:
        table, described = build_confound_table(
            reader, mask, motion, still, tpms=[gm, wm, csf], n_dummy=DUMMIES
        )
    table.to_csv(folder / "ours.tsv", sep="\t", index=False, na_rep="n/a")
    return Run(
        folder=folder, data=data, mask=mask, tpms=[gm, wm, csf], table=table, described=described
    )


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a temporary working directory; interfaces of nipype write files there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_derivatives_and_squares_equal_niworkflows(run: Run, workdir: Path) -> None:
    from niworkflows.interfaces.confounds import ExpandModel

    names = [*MOTION, "csf", "white_matter", "global_signal", "csf_wm"]
    run.table[names].to_csv(workdir / "base.tsv", sep="\t", index=False)
    expected = pd.read_csv(
        ExpandModel(confounds_file="base.tsv").run().outputs.confounds_file, sep="\t"
    )
    assert len(expected.columns) == 36 + 1
    assert set(expected) <= set(run.table)
    for name in expected:
        np.testing.assert_allclose(run.table[name], expected[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("fd_mm", "std_dvars"), [(0.5, 1.5), (0.2, 1.1), (99.0, 99.0)])
def test_motion_outliers_equal_niworkflows(
    run: Run, workdir: Path, fd_mm: float, std_dvars: float
) -> None:
    from niworkflows.interfaces.confounds import SpikeRegressors

    with SeriesReader(run.folder / "bold.nii") as reader:
        table, described = build_confound_table(
            reader,
            run.mask,
            run.table[list(MOTION)],
            np.tile(np.eye(4), (VOLUMES, 1, 1)),
            n_dummy=DUMMIES,
            fd_mm=fd_mm,
            std_dvars=std_dvars,
        )
    table[["framewise_displacement", "std_dvars"]].to_csv(
        workdir / "base.tsv", sep="\t", index=False, na_rep="n/a"
    )
    spikes = SpikeRegressors(
        confounds_file="base.tsv", fd_thresh=fd_mm, dvars_thresh=std_dvars, concatenate=False
    )
    try:
        expected = pd.read_csv(spikes.run().outputs.confounds_file, sep="\t")
    except pd.errors.EmptyDataError:  # no volume is a motion outlier
        expected = pd.DataFrame()
    names = [name for name in table if name.startswith("motion_outlier")]
    assert names == list(expected)
    assert bool(names) == (fd_mm < 99)
    assert all(f"{fd_mm:g} mm" in described[name]["Description"] for name in names)
    for name in names:
        np.testing.assert_array_equal(table[name], expected[name])


def test_fd_and_dvars_equal_nipype(
    run: Run, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare FD and DVARS with nipype; unstandardized DVARS up to a scale.

    nipype scales the series to a median of 1000 before DVARS. It imports nitime for a Yule-Walker
    estimate of the lag-1 autocorrelation, which is replaced here.
    """
    from nipype.algorithms.confounds import ComputeDVARS, FramewiseDisplacement

    replacement = ModuleType("nitime.algorithms")
    vars(replacement)["AR_est_YW"] = lambda x, order, rxx: (
        np.array([x[1:] @ x[:-1] / (x @ x)]),
        None,
    )
    monkeypatch.setitem(sys.modules, "nitime", ModuleType("nitime"))
    monkeypatch.setitem(sys.modules, "nitime.algorithms", replacement)
    np.savetxt(workdir / "motion.txt", run.table[list(MOTION)].to_numpy())
    fd = (
        FramewiseDisplacement(in_file=str(workdir / "motion.txt"), parameter_source="SPM")
        .run()
        .outputs.out_file
    )
    np.testing.assert_allclose(
        run.table["framewise_displacement"][1:], np.loadtxt(fd, skiprows=1), rtol=1e-4
    )
    steady = run.image("steady", run.data[..., DUMMIES:])
    mask = run.image("mask", run.mask.astype(np.uint8))
    outputs = (
        ComputeDVARS(in_file=steady, in_mask=mask, save_nstd=True, save_std=True).run().outputs
    )
    expected = np.loadtxt(outputs.out_std)
    np.testing.assert_allclose(run.table["std_dvars"][DUMMIES + 1 :], expected, rtol=2e-3)
    ratio = run.table["dvars"][DUMMIES + 1 :] / np.loadtxt(outputs.out_nstd)
    assert ratio.std() / ratio.mean() < 1e-5


def test_mean_signals_equal_niworkflows(run: Run, workdir: Path) -> None:
    from niworkflows.interfaces.images import SignalExtraction

    masks = tissue_masks(run.tpms, run.mask)
    names = {
        "global_signal": run.mask,
        "csf": masks["csf"],
        "white_matter": masks["white_matter"],
        "csf_wm": masks["deep"],
    }
    files = [run.image(name, mask.astype(np.uint8)) for name, mask in names.items()]
    extraction = SignalExtraction(
        in_file=str(run.folder / "bold.nii"), label_files=files, class_labels=list(names)
    ).run()
    expected = pd.read_csv(extraction.outputs.out_file, sep="\t")
    for name in names:
        np.testing.assert_allclose(run.table[name], expected[name], rtol=1e-5)


def _compcor(
    run: Run, series: np.ndarray, mask: np.ndarray, **options: Any
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Run nipype's aCompCor; return components, their metadata and the path of the cosines."""
    from nipype.algorithms.confounds import ACompCor

    outputs = (
        ACompCor(
            realigned_file=run.image("series", series),
            mask_files=[run.image("where", mask.astype(np.uint8))],
            pre_filter="cosine",
            high_pass_cutoff=128.0,
            repetition_time=TR,
            ignore_initial_volumes=DUMMIES,
            save_pre_filter="cosines.tsv",
            save_metadata="about.tsv",
            **options,
        )
        .run()
        .outputs
    )
    return (
        pd.read_csv(outputs.components_file, sep="\t"),
        pd.read_csv(outputs.metadata_file, sep="\t"),
        outputs.pre_filter_file,
    )


def _absolute_correlation(ours_column: np.ndarray, expected: np.ndarray) -> float:
    return float(abs(np.corrcoef(ours_column, expected)[0, 1]))


def test_cosines_equal_nipype_plus_one_slower_than_the_cutoff(run: Run, workdir: Path) -> None:
    """nipype omits the last cosine whose period is above the cutoff."""
    _, _, file = _compcor(run, run.data, run.mask, num_components=2)
    expected = pd.read_csv(file, sep="\t")
    names = [name for name in run.table if name.startswith("cosine")]
    slow = [name for name in expected if name.lower().startswith("cosine")]
    assert names == [f"cosine{k:02d}" for k in range(6)]
    assert len(slow) == 5
    for name, slow_name in zip(names, slow, strict=False):
        np.testing.assert_allclose(run.table[name], expected[slow_name], atol=1e-6)
    last = run.described[names[-1]]["Description"]
    assert f"period of {2 * (VOLUMES - DUMMIES) * TR / 6:.4g} s" in last


MASKS: dict[str, Callable[[Run], np.ndarray]] = {
    "a": lambda run: tissue_masks(run.tpms, run.mask)["deep"],
    "w": lambda run: tissue_masks(run.tpms, run.mask)["deep_white_matter"],
    "c": lambda run: tissue_masks(run.tpms, run.mask)["deep_csf"],
    "t": lambda run: _most_variable_voxels(run),
}


def _most_variable_voxels(run: Run) -> np.ndarray:
    with SeriesReader(run.folder / "bold.nii") as reader:
        return select_most_variable(reader, run.mask, DUMMIES)


@pytest.mark.parametrize("prefix", list(MASKS))
def test_components_equal_nipype_after_the_same_drift_removal(
    run: Run, workdir: Path, prefix: str
) -> None:
    """Compare components after trend and slow cosines were removed from nipype's input.

    nipype's own high-pass filter spans a subset of these drifts.
    """
    basis = drift_basis(VOLUMES - DUMMIES, TR)
    detrended = run.data.astype(np.float64)
    steady = detrended[..., DUMMIES:]
    steady -= (steady @ basis) @ basis.T - steady.mean(axis=-1, keepdims=True)
    expected, metadata, _ = _compcor(run, detrended, MASKS[prefix](run), variance_threshold=0.5)
    names = [name for name in run.table if name.startswith(f"{prefix}_comp_cor")]
    retained = metadata[metadata.retained]
    assert len(names) == max(len(retained), 5)
    for k, name in enumerate(names[: len(retained)]):
        assert _absolute_correlation(run.table[name], expected.iloc[:, k]) > 1 - 1e-6
    for k, name in enumerate(names):
        entry = run.described[name]
        assert entry["Method"] == ("tCompCor" if prefix == "t" else "aCompCor")
        assert entry.get("Mask") == {"a": "combined", "w": "WM", "c": "CSF", "t": None}[prefix]
        assert entry["SingularValue"] == pytest.approx(metadata.singular_value[k], rel=1e-4)
        assert entry["VarianceExplained"] == pytest.approx(
            metadata.variance_explained[k], rel=1e-4
        )
        assert entry["CumulativeVarianceExplained"] == pytest.approx(
            metadata.cumulative_variance_explained[k], rel=1e-4
        )
        assert entry["Retained"] is True


def test_components_differ_from_nipype_by_the_ramp_and_the_last_cosine(
    run: Run, workdir: Path
) -> None:
    """nipype's components are orthogonal to its own cosines but not to our drift basis."""
    expected, _, _ = _compcor(run, run.data, MASKS["a"](run), num_components=5)
    components = run.table[[f"a_comp_cor_{k:02d}" for k in range(5)]].to_numpy()[DUMMIES:]
    slow = drift_basis(VOLUMES - DUMMIES, TR)
    plain = np.linalg.qr(slow_cosines(VOLUMES - DUMMIES, TR)[:, :6])[0]
    assert np.abs(slow.T @ components).max() < 1e-6
    nipype_components = expected.to_numpy()[DUMMIES:]
    assert np.abs(plain.T @ nipype_components).max() < 1e-5
    assert np.abs(slow.T @ nipype_components).max() > 0.1


def test_the_voxels_of_tcompcor_equal_nipype(run: Run, workdir: Path) -> None:
    from nipype.algorithms.confounds import TCompCor

    outputs = (
        TCompCor(
            realigned_file=run.image("series", run.data),
            mask_files=[run.image("where", run.mask.astype(np.uint8))],
            pre_filter="cosine",
            repetition_time=TR,
            ignore_initial_volumes=DUMMIES,
            num_components=2,
            percentile_threshold=0.02,
        )
        .run()
        .outputs
    )
    (file,) = np.atleast_1d(outputs.high_variance_masks)
    np.testing.assert_array_equal(_most_variable_voxels(run), nib.load(file).get_fdata() > 0)


def test_all_components_are_returned_if_requested(run: Run) -> None:
    with SeriesReader(run.folder / "bold.nii") as reader:
        still, motion = np.tile(np.eye(4), (VOLUMES, 1, 1)), run.table[list(MOTION)]
        full, described = build_confound_table(
            reader,
            run.mask,
            motion,
            still,
            tpms=run.tpms,
            n_dummy=DUMMIES,
            all_components=True,
        )
    for prefix in MASKS:
        names = [name for name in full if name.startswith(f"{prefix}_comp_cor")]
        assert len(names) > len(
            [name for name in run.table if name.startswith(f"{prefix}_comp_cor")]
        )
        assert described[names[-1]]["CumulativeVarianceExplained"] == pytest.approx(1, abs=1e-6)
    assert described["a_comp_cor_100"]["Mask"] == "combined"
    np.testing.assert_array_equal(full[run.table.columns], run.table)
