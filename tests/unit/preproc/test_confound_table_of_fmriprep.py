"""Columns of the confounds table, compared with nipype and niworkflows as used by fMRIPrep."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data.fmriprep_confounds import (
    LibraryConfounds,
    RunFiles,
    compare_columns,
    compute_library_confounds,
    compute_own_confounds,
    make_run_files,
)

from bids_sr.io.confound_names import MOTION_PARAMETERS
from bids_sr.io.frozen import frozen
from bids_sr.io.nifti import SeriesReader, SeriesWriter, save_image
from bids_sr.preproc.confound_table import build_confound_table, measure_changes

SHAPE, VOLUMES, DUMMIES, TR = (16, 14, 8), 200, 3, 2.0


@frozen
class Run:
    """A run on disk, its confounds, and its confounds by nipype and niworkflows."""

    files: RunFiles
    table: pd.DataFrame
    described: dict[str, dict[str, object]]
    library: LibraryConfounds


def _series(rng: np.random.Generator) -> np.ndarray:
    """Return a series of shared signals and drifts in autocorrelated noise.

    The first volumes are brighter (non-steady state), three later volumes have a motion spike, and
    some voxels of gray matter are constant.
    """
    signals = rng.normal(size=(6, VOLUMES)).cumsum(axis=1) * 0.5 + rng.normal(size=(6, VOLUMES))
    loads = rng.normal(size=(*SHAPE, 6)) * rng.uniform(0.2, 2, (*SHAPE, 1))
    data = 700 + 40 * rng.normal(size=(*SHAPE, 1)) + 4 * loads @ signals
    noise = rng.normal(size=(*SHAPE, VOLUMES)) * 6
    noise[..., 1:] += 0.4 * noise[..., :-1]
    data += noise + np.linspace(-20, 20, VOLUMES) * rng.normal(size=(*SHAPE, 1))
    data[..., [60, 61, 130]] += 25 * rng.normal(size=(*SHAPE, 3))
    data[..., :DUMMIES] *= [1.6, 1.2, 1.05]
    data[1, 5:7, 4] = 500
    return data.astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder, rng = tmp_path_factory.mktemp("confounds"), np.random.default_rng(5)
    data = _series(rng)
    save_image(data, np.eye(4), folder / "bold.nii", tr=TR)
    mask = np.zeros(SHAPE, bool)
    mask[:, 1:-1, 1:-1] = True
    gm, wm, csf = (np.zeros(SHAPE, np.float32) for _ in range(3))
    gm[:5], wm[5:11], csf[11:] = 1, 1, 1
    six = rng.normal(size=(VOLUMES, 6)).cumsum(axis=0) * [0.05, 0.05, 0.05, 5e-4, 5e-4, 5e-4]
    motion = pd.DataFrame(six, columns=list(MOTION_PARAMETERS))
    files = make_run_files(folder / "bold.nii", motion, mask, [gm, wm, csf], DUMMIES)
    table, described = compute_own_confounds(files)
    library = compute_library_confounds(files, folder)
    return Run(files=files, table=table, described=described, library=library)


def test_every_column_of_fmriprep_is_equal(run: Run) -> None:
    differences = compare_columns(run.table, run.library.table)
    assert set(differences) == set(run.library.table)
    assert {name for name, value in differences.items() if value > 1e-5} == set()
    kinds = {name.rstrip("0123456789").rstrip("_") for name in differences}
    expected = {f"{prefix}_comp_cor" for prefix in "awct"}
    assert expected | {"cosine", "motion_outlier", "non_steady_state_outlier"} <= kinds
    assert {"dvars", "std_dvars", "csf_wm", "rot_z_derivative1_power2"} <= set(differences)


def test_a_table_without_tissues_equals_fmriprep(run: Run, tmp_path: Path) -> None:
    brain = make_run_files(
        run.files.series, run.files.motion, run.files.masks["brain"], [], DUMMIES
    )
    own, _ = compute_own_confounds(brain)
    differences = compare_columns(own, compute_library_confounds(brain, tmp_path).table)
    assert "global_signal_derivative1_power2" in differences
    assert max(differences.values()) < 1e-5
    assert not [name for name in own if name.startswith(("csf", "white", "a_", "w_", "c_"))]


@pytest.mark.parametrize("prefix", list("awct"))
def test_metadata_of_components_equals_nipype(run: Run, prefix: str) -> None:
    metadata = run.library.metadata[prefix]
    names = [name for name in run.table if name.startswith(f"{prefix}_comp_cor")]
    assert names == [f"{prefix}_comp_cor_{k:02d}" for k in range(len(names))]
    assert len(names) == max(metadata.retained.sum(), 5)
    for k, name in enumerate(names):
        entry = run.described[name]
        assert entry["Method"] == ("tCompCor" if prefix == "t" else "aCompCor")
        assert entry.get("Mask") == {"a": "combined", "w": "WM", "c": "CSF", "t": None}[prefix]
        assert entry["SingularValue"] == pytest.approx(metadata.singular_value[k])
        assert entry["VarianceExplained"] == pytest.approx(metadata.variance_explained[k])
        assert entry["CumulativeVarianceExplained"] == pytest.approx(
            metadata.cumulative_variance_explained[k]
        )
        assert entry["Retained"] is True


def test_the_voxels_of_tcompcor_equal_nipype(run: Run) -> None:
    with SeriesReader(run.files.series) as reader:
        changes = measure_changes(reader, run.files.masks["brain"], DUMMIES)
    np.testing.assert_array_equal(changes.most_variable, run.library.most_variable)


def test_replaced_volumes_are_motion_outliers_with_their_reason(run: Run) -> None:
    with SeriesReader(run.files.series) as reader:
        table, described = build_confound_table(
            reader,
            run.files.masks["brain"],
            run.files.motion,
            np.tile(np.eye(4), (VOLUMES, 1, 1)),
            n_dummy=DUMMIES,
            fd_mm=99.0,
            std_dvars=99.0,
            outliers={7: "a spike", 9: "a stripe"},
        )
    names = [name for name in table if name.startswith("motion_outlier")]
    assert [int(table[name].argmax()) for name in names] == [7, 9]
    assert "a stripe" in str(described[names[1]]["Description"])


def test_rotations_about_the_center_of_the_grid_displace_by_their_angle_alone(
    tmp_path: Path,
) -> None:
    """The displacement is then the radius of Jenkinson (80 mm) by the change of the matrix."""
    shape, n_volumes = (16, 14, 8), 6
    affine = np.diag([3.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = [-10.0, 20.0, 35.0]
    center = np.array([-10 + 3 * 7.5, 20 + 3 * 6.5, 35 + 4 * 3.5])
    data = np.random.default_rng(0).normal(500, 5, (*shape, n_volumes)).astype(np.float32)
    with SeriesWriter(tmp_path / "bold.nii", data.shape, affine, TR) as writer:
        for t in range(n_volumes):
            writer.append(data[..., t])
    angle = 0.03
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:3, 3] = center - turn[:3, :3] @ center
    motion = pd.DataFrame(np.zeros((n_volumes, 6)), columns=list(MOTION_PARAMETERS))
    matrices = np.stack([np.linalg.matrix_power(turn, t) for t in range(n_volumes)])
    with SeriesReader(tmp_path / "bold.nii") as reader:
        table, _ = build_confound_table(reader, np.ones(shape, bool), motion, matrices)
    expected = 80 * np.sqrt(4 * (1 - np.cos(angle)) / 5)
    np.testing.assert_allclose(table["rmsd"][1:], expected, rtol=1e-6)
