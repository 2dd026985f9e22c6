"""Run on top of fMRIPrep derivatives, including a field map: nothing is estimated again."""

import json
import subprocess
import warnings
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from data.fmriprep import of_phantom

from bids_sr.spatial.itk_files import read_itk
from bids_sr.survey.bids.inheritance import find_sidecars
from bids_sr.survey.preflight.validator import _find_validator

from .conftest import SLOPPY, Finished, run_participants

pytestmark = pytest.mark.slow
FUNC = "sub-01/func/sub-01_task-tap"
SIDES = ("left", "right")


@pytest.fixture(scope="module")
def on_top(tiny: Path, tmp_path_factory) -> Finished:
    base = tmp_path_factory.mktemp("fmriprep")
    of_phantom(tiny, base / "prep", with_field=True)
    spaces = ("MNI152NLin2009cAsym", "fsnative", "fsaverage:den-10k")
    maps = ("--sr-method", "all", "--smoothing", "0", "--truth", "none")
    derivatives = ("-d", f"fmriprep={base / 'prep'}", "--output-spaces", *spaces)
    return run_participants(tiny, base, *SLOPPY, *maps, *derivatives)


def test_derivatives_are_imported_and_not_estimated(on_top):
    steps = {path.name for path in (on_top.out.parent / "work").rglob("*") if path.is_dir()}
    assert not steps & {
        "correct_head",
        "mask_brain",
        "normalize_t1w",
        "segment_tissues",
        "average_volumes",
        "estimate_motion",
        "gather_confounds",
    }
    assert steps >= {"import_anatomy", "import_motion", "field_to_shift", "import_confounds"}


def test_motion_registration_mask_and_confounds_equal_the_derivatives(on_top):
    prep = on_top.out.parent / "prep"
    page = (on_top.out / "sub-01.html").read_text()
    assert "sub-01_fmapid-auto00000_desc-preproc_fieldmap.nii.gz" in page
    for kind in (
        "from-orig_to-boldref_mode-image_desc-hmc_xfm.txt",
        "from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt",
    ):
        np.testing.assert_allclose(
            read_itk(on_top.out / f"{FUNC}_{kind}"), read_itk(prep / f"{FUNC}_{kind}"), atol=1e-4
        )
    np.testing.assert_array_equal(
        nb.load(
            on_top.out / f"{FUNC}_space-boldref_label-brain_desc-acquired_mask.nii.gz"
        ).get_fdata(),
        nb.load(prep / f"{FUNC}_desc-brain_mask.nii.gz").get_fdata(),
    )
    ours, theirs = (
        pd.read_csv(root / f"{FUNC}_desc-confounds_timeseries.tsv", sep="\t")
        for root in (on_top.out, prep)
    )
    for column in ("trans_x", "a_comp_cor_03"):
        np.testing.assert_allclose(ours[column], theirs[column], atol=1e-6)


def test_sidecars_list_files_of_fmriprep_as_sources(on_top):
    described = json.loads((on_top.out / "dataset_description.json").read_text())
    link = described["DatasetLinks"]["fmriprep"]
    assert (on_top.out / link).resolve() == (on_top.out.parent / "prep").resolve()
    motion = f"{FUNC}_from-orig_to-boldref_mode-image_desc-hmc_xfm"
    for name in (motion, "sub-01/anat/sub-01_desc-preproc_T1w"):
        uris = json.loads((on_top.out / f"{name}.json").read_text())["Sources"]
        paths = [
            uri.removeprefix("bids:fmriprep:") for uri in uris if uri.startswith("bids:fmriprep:")
        ]
        assert paths
        assert all((on_top.out.parent / "prep" / path).is_file() for path in paths)


def test_maps_are_resampled_to_the_template_of_fmriprep(on_top):
    maps = list((on_top.out / "sub-01/func").glob("*_space-MNI152NLin2009cAsym_*_statmap.nii.gz"))
    assert maps
    assert any(np.abs(nb.load(path).get_fdata()).max() > 0 for path in maps)


@pytest.mark.parametrize("space", ["fsnative", "fsaverage_den-10k"])
def test_nilearn_plots_the_surface_maps(on_top, space):
    """Both spaces have the vertices of fsaverage here, a stand-in for a FreeSurfer
    reconstruction.
    """
    import matplotlib.pyplot as plt
    from nilearn.plotting import plot_surf_stat_map
    from nilearn.surface import SurfaceImage

    maps = sorted(
        (on_top.out / "sub-01/func").glob(f"*hemi-L_space-{space}_*stat-t_desc-bspline_*.func.gii")
    )
    assert maps
    prep = on_top.out.parent / "prep/sub-01/anat"
    for left in maps:
        right = left.with_name(left.name.replace("hemi-L", "hemi-R"))
        image = SurfaceImage(
            {side: prep / f"sub-01_hemi-{side[0].upper()}_pial.surf.gii" for side in SIDES},
            dict(zip(SIDES, (left, right), strict=True)),
        )
        for values in image.data.parts.values():
            assert np.isfinite(values).mean() > 0.3
            assert np.nanmax(np.abs(values)) > 2
        assert plot_surf_stat_map(stat_map=image, hemi="left") is not None
        plt.close("all")
        (file,) = find_sidecars(left, on_top.out)
        sidecar = json.loads(file.read_text())
        assert sidecar["SpatialReference"].endswith("_white.surf.gii")
        assert sidecar["Sources"]


def test_surface_maps_equal_the_volume_at_their_vertices(on_top):
    """Recompute the maps with nilearn from the registered surfaces and the volume."""
    from nibabel.affines import apply_affine
    from nilearn.surface import load_surf_data, load_surf_mesh, vol_to_surf

    func, prep = on_top.out / "sub-01/func", on_top.out.parent / "prep/sub-01"
    to_bold = read_itk(next(prep.glob("func/*_desc-coreg_xfm.txt")))[0]
    for side in "LR":
        left = sorted(func.glob(f"*hemi-{side}_space-fsnative_*stat-t_desc-bspline_*.func.gii"))[0]
        volume = next(
            func.glob(
                f"*_space-boldref_res-hr_contrast-{left.name.split('contrast-')[1].split('.')[0]}.nii.gz"
            )
        )
        white, pial = (
            load_surf_mesh(prep / f"anat/sub-01_hemi-{side}_{name}.surf.gii")
            for name in ("white", "pial")
        )
        inner, outer = (
            (apply_affine(to_bold, mesh.coordinates), mesh.faces) for mesh in (white, pial)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # vertices outside the field of view
            expected = vol_to_surf(volume, outer, inner_mesh=inner)
        stored = load_surf_data(left)
        both = np.isfinite(expected) & np.isfinite(stored)
        assert both.sum() > 1000
        assert np.corrcoef(expected[both], stored[both])[0, 1] > 0.95


def test_the_validator_accepts_surfaces(on_top):
    program = _find_validator()
    assert program is not None
    done = subprocess.run(
        [program, "--format", "json", "--ignoreWarnings", on_top.out],
        capture_output=True,
        text=True,
        check=False,
    )
    issues = json.loads(done.stdout[done.stdout.index("{") :])["issues"]["issues"]
    assert not [issue["location"] for issue in issues if issue["severity"] == "error"]
