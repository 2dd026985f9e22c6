"""A complete run, looked at from all sides: files, images, sidecars, tables, the page, other
programs that read the output, and a second run.
"""

import json
import re
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from data.outputs import expected_outputs
from nilearn.interfaces.fmriprep import load_confounds_strategy
from scipy.ndimage import binary_erosion

from bids_sr.io.map_metadata import select_map_metadata
from bids_sr.io.nifti import SeriesReader
from bids_sr.preproc.ants import apply, load
from bids_sr.survey.bids.inheritance import find_sidecars, merge_sidecars

from .conftest import BIN, call

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMED, VOLUMES = "sub-01_task-tap", 68
PRIMARY = "derivatives/bids-sr-sbl"
BOTH_DATASETS = pytest.mark.parametrize("root", ["", PRIMARY])
TEMPLATE = "MNI152NLin2009cAsym_res-2"
TO_T1W = f"sub-01/func/{NAMED}_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt"
TO_TEMPLATE = "sub-01/anat/sub-01_from-T1w_to-MNI152NLin2009cAsym_mode-image_xfm.h5"


@pytest.fixture(scope="module")
def func(finished):
    """Return the folder of the run."""
    return finished.out / "sub-01" / "func"


@pytest.fixture(scope="module")
def exported(finished):
    """Return the folder of the run in the data set of the primary series."""
    return finished.out / PRIMARY / "sub-01" / "func"


def test_a_run_writes_the_promised_files_and_no_others(finished):
    assert "Finished" in finished.text.splitlines()[-1]
    names = (
        p.relative_to(finished.out).as_posix() for p in finished.out.rglob("*") if p.is_file()
    )
    outputs = {re.sub(r"^logs/[^/]+", "logs/RUN", name) for name in names}
    assert outputs == set(expected_outputs())


@BOTH_DATASETS
def test_the_validator_only_warns_of_the_authors_of_the_phantom(finished, root):
    command = [str(BIN / "bids-validator-deno"), "--format", "json", str(finished.out / root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["code"] != "TOO_FEW_AUTHORS"] == []


@BOTH_DATASETS
def test_every_source_exists_on_disk(finished, root):
    """Sources include the images of SpatialReference; other URIs refer to packages or websites."""
    folder = finished.out / root
    links = json.loads((folder / "dataset_description.json").read_text())["DatasetLinks"]
    sidecars = [json.loads(path.read_text()) for path in folder.glob("sub-01/**/*.json")]
    uris = {
        uri
        for sidecar in sidecars
        for uri in (*sidecar.get("Sources", ()), sidecar.get("SpatialReference", "bids::"))
    }
    assert len(uris) > 10
    for uri in uris:
        scheme, _, rest = uri.partition(":")
        if scheme != "bids":
            assert scheme in ("pkg", "https"), uri
            continue
        name, _, inside = rest.partition(":")
        assert (folder / links.get(name, ".") / inside).exists(), uri


@BOTH_DATASETS
def test_pybids_finds_the_content_of_exactly_one_sidecar_per_file(finished, root):
    """Statistical maps have the content of the sidecar that they share."""
    from bids import BIDSLayout

    folder = finished.out / root
    layout = BIDSLayout(folder, validate=False, is_derivative=True)
    ends = (".nii.gz", ".tsv", "_xfm.txt")
    files = [path for path in (folder / "sub-01" / "func").iterdir() if path.name.endswith(ends)]
    assert len(files) > 10
    for path in files:
        (sidecar,) = find_sidecars(path, folder)
        assert layout.get_file(str(path)).get_metadata() == json.loads(sidecar.read_text())


def test_pybids_finds_a_series_next_to_the_raw_data_set(finished):
    from bids import BIDSLayout

    layout = BIDSLayout(finished.bids_dir, derivatives=finished.out)
    query = {"task": "tap", "suffix": "bold", "desc": "sbl", "extension": ".nii.gz"}
    (image,) = layout.get(scope="derivatives", **query)
    assert image.get_metadata()["Sources"]


def test_every_image_is_finite_and_has_a_sidecar(finished):
    images = list(finished.out.rglob("*.nii.gz"))
    assert len(images) > 50
    for path in images:
        image = nib.load(path)
        assert np.isfinite(image.get_fdata(dtype=np.float32)).all(), path.name
        assert image.header["sform_code"] > 0, path.name
        exported = PRIMARY in path.as_posix()
        sidecar = merge_sidecars(find_sidecars(path, finished.out / (PRIMARY * exported)))
        assert sidecar["Sources"], path.name
        assert not any(source.startswith("/") for source in sidecar["Sources"])
        if "_res-" in path.name:
            assert sidecar["Resolution"], path.name
        if "_space-" in path.name:
            assert sidecar["SpatialReference"], path.name
        if not path.name.endswith(("_mask.nii.gz", "_dseg.nii.gz", "_probseg.nii.gz")):
            assert "SkullStripped" in sidecar, path.name


def test_the_shared_sidecar_of_maps_describes_each_map(finished, func):
    paths = sorted(func.glob("*_space-boldref_*contrast-*_statmap.nii.gz"))
    labels = [re.search(r"_contrast-([^_]+)_stat-([^_]+)_", path.name).groups() for path in paths]
    assert {statistic for _, statistic in labels} == {"t", "effect"}
    for path, (contrast, statistic) in zip(paths, labels, strict=True):
        (file,) = find_sidecars(path, finished.out)
        metadata = select_map_metadata(json.loads(file.read_text()), contrast, statistic)
        if contrast in ("thumb", "little"):
            assert metadata["ContrastWeights"] == {contrast: 1.0}
        assert {"Description", "Units", "Model", "SourceSeries", "SmoothingFWHM"} <= set(metadata)


def assert_described(stem):
    columns = pd.read_csv(f"{stem}.tsv", sep="\t").columns
    described = json.loads(Path(f"{stem}.json").read_text())
    assert all(described[column]["Description"] for column in columns)


def test_the_viewer_names_the_stored_file_of_each_map(finished):
    page = (finished.out / "sub-01.html").read_text()
    files = json.loads(re.search(r'"files":({[^}]+})', page).group(1))
    assert {key.split("|")[2] for key in files} == {"effect", "t"}
    for key, name in files.items():
        contrast, smoothing, statistic, series = key.split("|")
        width = "" if smoothing == "none" else "Fwhm50"
        assert (finished.out / name).is_file()
        end = f"_contrast-{contrast}_stat-{statistic}_desc-{series}{width}_statmap.nii.gz"
        assert name.endswith(end)


def test_a_method_that_was_not_applied_is_marked_everywhere(finished, func, exported):
    """All spaces are marked; sidecars of other methods are not."""
    paths = [*exported.glob("*_desc-preproc_bold.json"), *func.glob("*_desc-sbl_bold.json")]
    assert len(paths) == 4
    for path in paths:
        sidecar = json.loads(path.read_text())
        assert (sidecar["Applied"], sidecar["RepetitionTime"]) == (False, 2.0)
        assert "zero-filled" in sidecar["Description"]
    other = func / f"{NAMED}_space-boldref_res-hr_desc-srgan_bold.json"
    assert json.loads(other.read_text())["Applied"] is True
    root = finished.out / PRIMARY
    for file in (root / "README.md", finished.out / "CITATION.md"):
        assert NAMED in file.read_text()
    assert "zero-filled" in json.loads((root / "dataset_description.json").read_text())["Name"]
    assert NAMED in " ".join(finished.text.split()).partition("NOT super-resolved")[2]


def test_the_high_resolution_grid_covers_the_same_field_of_view(func):
    low = nib.load(func / f"{NAMED}_space-boldref_desc-acquired_bold.nii.gz")
    high = nib.load(func / f"{NAMED}_space-boldref_res-hr_desc-srgan_bold.nii.gz")
    assert high.shape == (2 * low.shape[0], 2 * low.shape[1], low.shape[2], low.shape[3])
    corners = [nib.affines.apply_affine(image.affine, [-0.5] * 3) for image in (low, high)]
    np.testing.assert_allclose(*corners, atol=1e-3)
    assert high.header.get_zooms()[3] == low.header.get_zooms()[3] == 2.0


@pytest.mark.parametrize(("space", "code"), [("boldref", 1), ("T1w", 2), (TEMPLATE, 4)])
def test_files_in_one_space_share_one_grid_and_are_0_outside_the_field_of_view(
    exported, space, code
):
    """Codes are those of niworkflows; `fslmaths -Tmin -bin` takes all other voxels as brain."""
    kinds = ("desc-preproc_bold", "desc-brain_mask", "boldref")
    series, mask, reference = (
        nib.load(exported / f"{NAMED}_space-{space}_{kind}.nii.gz") for kind in kinds
    )
    assert series.shape == (*mask.shape, VOLUMES)
    assert mask.shape == reference.shape
    for image in (series, mask, reference):
        np.testing.assert_array_equal(image.affine, series.affine)
        assert (image.header["qform_code"], image.header["sform_code"]) == (code, code)
    values = series.get_fdata(dtype=np.float32)
    if space == "boldref":
        confounds = pd.read_csv(exported / f"{NAMED}_desc-confounds_timeseries.tsv", sep="\t")
        mean = values[..., confounds.filter(like="non_steady").shape[1] :].mean(-1)
        # within the rounding of integers
        np.testing.assert_allclose(reference.get_fdata(), mean, atol=series.dataobj.slope)
        return
    # head motion moves edge voxels into the field of view of some volumes
    outside = binary_erosion(reference.get_fdata() == 0, border_value=1)
    assert outside.mean() > 0.05
    assert (values[outside] == 0).all()


@pytest.mark.parametrize(
    ("space", "transforms"), [("T1w", [TO_T1W]), (TEMPLATE, [TO_T1W, TO_TEMPLATE])]
)
def test_the_resampled_series_agrees_with_the_stored_transforms(
    finished, exported, space, transforms
):
    """Compare with the mean of the run that ANTs resamples with the stored files; left and right
    are kept.
    """
    stem = exported / NAMED
    boldref, target = (load(f"{stem}_space-{name}_boldref.nii.gz") for name in ("boldref", space))
    inside = load(f"{stem}_space-{space}_desc-brain_mask.nii.gz").data > 0.5
    with SeriesReader(Path(f"{stem}_space-{space}_desc-preproc_bold.nii.gz")) as series:
        mean = np.mean(list(series.volumes(3)), axis=0)
    assert np.corrcoef(mean[inside], target.data[inside])[0, 1] > 0.99
    files = [finished.out / name for name in transforms]
    resampled = apply(boldref, target, files, seed=1, interpolator="bSpline")
    assert np.corrcoef(resampled[inside], target.data[inside])[0, 1] > 0.99
    mirrored = inside & inside[::-1]
    assert np.corrcoef(resampled[::-1][mirrored], target.data[mirrored])[0, 1] < 0.9
    if space == "T1w":  # the grid keeps the voxel size of the series
        np.testing.assert_allclose(target.zooms, boldref.zooms, atol=1e-3)
    else:
        assert inside.shape == (97, 115, 97)


def test_nilearn_loads_the_confounds_of_its_strategies(exported):
    series = str(exported / f"{NAMED}_space-boldref_desc-preproc_bold.nii.gz")
    for strategy, column in (
        ("simple", "cosine00"),
        ("scrubbing", "csf_power2"),
        ("compcor", "a_comp_cor_00"),
    ):
        table, _ = load_confounds_strategy(series, strategy)
        assert len(table) == VOLUMES
        assert np.isfinite(table.to_numpy()).all()
        assert {column, "trans_x_derivative1_power2"} <= set(table)
    with pytest.raises(ValueError, match="smoothAROMAnonaggr"):
        load_confounds_strategy(series, "ica_aroma")


@pytest.mark.parametrize(("space", "res"), [("MNI152NLin2009cAsym", "2"), ("boldref", "")])
def test_nilearn_finds_the_run_and_computes_similar_maps(
    finished, copied, monkeypatch, space, res
):
    """Ordinary least squares agree; with the program's noise model, maps are similar but not
    equal. In template space, only a part of the brain is compared.
    """
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from nilearn_agreement import agreement, read_and_fit

    raw, out = (copied / "RAW", copied / "OUT") if res else (finished.bids_dir, finished.out)
    read = next(read_and_fit(raw, out / PRIMARY, "tap", space=space, res=res, fwhm_mm=5.0))
    name = f"{NAMED}_space-{space}" + (f"_res-{res}" if res else "")
    assert read.series == out / PRIMARY / "sub-01" / "func" / f"{name}_desc-preproc_bold.nii.gz"
    assert read.model.slice_time_ref == pytest.approx(0.5, abs=0.05)
    table = pd.DataFrame(agreement(read)).set_index("contrast")
    assert {"thumb", "little", "little-rest"} <= set(table.index)
    assert table.ols.min() > 0.99
    assert table.own_noise.min() > 0.9


@pytest.mark.filterwarnings("ignore")
def test_nilearn_finds_the_run_below_the_output_directory_but_chooses_no_series_in_it(finished):
    """The raw data set is not needed, and the space is the default of nilearn. In the output
    itself, nilearn finds several images or none, and could otherwise read the acquired series.
    """
    from nilearn.glm.first_level import first_level_from_bids

    _, ((series,),), ((events,),), (confounds,) = first_level_from_bids(
        finished.out,
        "tap",
        derivatives_folder=PRIMARY,
        mask_img="derivatives",
        drift_model=None,
        confounds_strategy=("motion", "high_pass", "wm_csf"),
    )
    assert Path(series).name == f"{NAMED}_space-{TEMPLATE}_desc-preproc_bold.nii.gz"
    raw = pd.read_csv(finished.bids_dir / "sub-01" / "func" / f"{NAMED}_events.tsv", sep="\t")
    pd.testing.assert_frame_equal(events, raw)
    assert len(confounds) == VOLUMES
    for filters in ([], [("desc", "preproc")]):
        options = {"img_filters": filters, "derivatives_folder": str(finished.out)}
        with pytest.raises(ValueError, match=r"(3 bold|No BOLD) files"):
            first_level_from_bids(finished.bids_dir, "tap", space_label="", **options)


def test_a_second_run_only_regenerates_a_deleted_output(finished, func, exported):
    """Its hard link in the exported data set is restored."""
    lost = func / f"{NAMED}_space-boldref_res-hr_desc-sbl_bold.nii.gz"
    link = exported / f"{NAMED}_space-boldref_desc-preproc_bold.nii.gz"
    assert lost.samefile(link)
    content = lost.read_bytes()
    images = {*finished.out.rglob("*.nii.gz")} - {lost, link}
    before = {path: path.stat().st_mtime_ns for path in images}
    lost.unlink()
    code, text, _ = call(finished.command)
    assert code == 0, text
    assert lost.read_bytes() == content
    assert lost.samefile(link)
    assert {path: path.stat().st_mtime_ns for path in images} == before


@pytest.mark.slow
def test_a_higher_level_stores_more_and_keeps_existing_maps(finished, func):
    """This test is the last, because it changes the outputs."""
    before = {path: path.stat().st_mtime_ns for path in finished.out.rglob("*.nii.gz")}
    code, text, _ = call([*finished.command, "--level", "full"])
    assert code == 0, text
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert list(func.glob("*_stat-z_desc-bspline_statmap.nii.gz"))
    assert (func / f"{NAMED}_space-boldref_res-hr_desc-zerofill_bold.nii.gz").exists()
    assert ": activation maps (" not in text  # no progress line of this stage
    for name in ("sub-01_desc-srgan_log", "sub-01_task-tap_desc-sbl_log"):
        assert_described(finished.out / "sourcedata" / "models" / "sub-01" / name)
