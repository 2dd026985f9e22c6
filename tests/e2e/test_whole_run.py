"""Check a complete run: all expected files and no others, valid images, and a second run that
recomputes nothing.
"""

import json
import re
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces.fmriprep import load_confounds_strategy
from scipy.ndimage import binary_erosion

from bids_sr.bids.inheritance import find_sidecars, merge_sidecars
from bids_sr.config.levels import StoredMaps
from bids_sr.io.map_metadata import select_map_metadata
from bids_sr.io.nifti import SeriesReader
from bids_sr.pipeline.artifacts import Derivative
from bids_sr.registration.ants import apply, load
from bids_sr.steps.figures import run_maps as run_maps_figures
from bids_sr.steps.figures.overview import file_patterns

from .conftest import BIN, call

EXPECTED = Path(__file__).parents[1] / "expected_outputs.txt"
SECTIONS = (
    "summary",
    "verdict",
    "anatomical",
    "registration",
    "motion",
    "superres-training",
    "superres",
    "activation",
    "evaluation",
    "guards",
    "methods",
    "errors",
    "about",
)


def _outputs(out: Path) -> list[str]:
    """Return the files of a run, with the name of its log folder replaced."""
    names = (path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    return sorted(re.sub(r"^logs/[^/]+", "logs/RUN", name) for name in names)


def test_the_run_succeeds_and_reports_it(finished):
    assert finished.code == 0, finished.text
    assert "Finished" in finished.text.splitlines()[-1]


def test_golden_list_of_outputs(finished):
    expected = EXPECTED.read_text().split()
    outputs = _outputs(finished.out)
    assert not set(expected) - set(outputs), "promised and not there"
    assert not set(outputs) - set(expected), "there and not promised"


def test_validator_finds_no_error(validated):
    errors = [issue for issue in validated["issues"]["issues"] if issue["severity"] == "error"]
    assert errors == []


@pytest.mark.parametrize("root", ["", "derivatives/bids-sr-sbl"])
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


@pytest.mark.parametrize("root", ["", "derivatives/bids-sr-sbl"])
def test_validator_warns_of_nothing_but_the_authors_of_the_phantom(finished, root):
    result = subprocess.run(
        [str(BIN / "bids-validator-deno"), "--format", "json", str(finished.out / root)],
        capture_output=True,
        text=True,
        check=False,
    )
    issues = json.loads(result.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["code"] != "TOO_FEW_AUTHORS"] == []


@pytest.mark.parametrize("validate", [True, False])
def test_pybids_finds_the_entities_of_results(finished, validate):
    from bids import BIDSLayout

    layout = BIDSLayout(finished.bids_dir, derivatives=finished.out, validate=validate)
    (image,) = layout.get(
        scope="derivatives", task="tap", suffix="bold", desc="sbl", extension=".nii.gz"
    )
    assert image.get_metadata()["Sources"]


TO_T1W = "sub-01/func/sub-01_task-tap_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt"
TO_TEMPLATE = "sub-01/anat/sub-01_from-T1w_to-MNI152NLin2009cAsym_mode-image_xfm.h5"


@pytest.mark.parametrize(
    ("space", "transforms"),
    [("T1w", [TO_T1W]), ("MNI152NLin2009cAsym_res-2", [TO_T1W, TO_TEMPLATE])],
)
def test_the_resampled_series_agrees_with_the_stored_transforms(finished, space, transforms):
    """Compare with the mean of the run that ANTs resamples with the stored files; left and right
    are kept.
    """
    stem = finished.out / "derivatives/bids-sr-sbl/sub-01/func/sub-01_task-tap"
    func, boldref = (load(f"{stem}_space-{name}_boldref.nii.gz") for name in ("boldref", space))
    inside = load(f"{stem}_space-{space}_desc-brain_mask.nii.gz").data > 0.5
    with SeriesReader(Path(f"{stem}_space-{space}_desc-preproc_bold.nii.gz")) as series:
        mean = np.mean(list(series.volumes(3)), axis=0)
        assert series.shape[:3] == boldref.data.shape == inside.shape
    assert np.corrcoef(mean[inside], boldref.data[inside])[0, 1] > 0.99
    resampled = apply(
        func, boldref, [finished.out / name for name in transforms], seed=1, interpolator="bSpline"
    )
    assert np.corrcoef(resampled[inside], boldref.data[inside])[0, 1] > 0.99
    mirrored = inside & inside[::-1]
    assert np.corrcoef(resampled[::-1][mirrored], boldref.data[mirrored])[0, 1] < 0.9
    if space == "T1w":  # the grid keeps the voxel size of the series
        np.testing.assert_allclose(
            nib.affines.voxel_sizes(boldref.affine),
            nib.affines.voxel_sizes(func.affine),
            atol=1e-3,
        )
    else:
        assert inside.shape == (97, 115, 97)


def test_every_image_is_finite_and_has_a_sidecar(finished):
    images = list(finished.out.rglob("*.nii.gz"))
    assert len(images) > 50
    for path in images:
        image = nib.load(path)
        assert np.isfinite(image.get_fdata(dtype=np.float32)).all(), path.name
        assert image.header["sform_code"] > 0, path.name
        inside = path.relative_to(finished.out).parts
        root = finished.out / Path(*inside[:2]) if inside[0] == "derivatives" else finished.out
        sidecar = merge_sidecars(find_sidecars(path, root))
        assert sidecar["Sources"], path.name
        assert not any(source.startswith("/") for source in sidecar["Sources"])
        if "_res-" in path.name:
            assert sidecar["Resolution"], path.name
        if "_space-" in path.name:
            assert sidecar["SpatialReference"], path.name
        if not path.name.endswith(("_mask.nii.gz", "_dseg.nii.gz", "_probseg.nii.gz")):
            assert "SkullStripped" in sidecar, path.name


@pytest.mark.parametrize("root", ["", "derivatives/bids-sr-sbl"])
def test_pybids_without_a_configuration_finds_the_content_of_exactly_one_sidecar(finished, root):
    """Statistical maps have the content of the sidecar that they share."""
    from bids import BIDSLayout

    folder = finished.out / root
    layout = BIDSLayout(folder, validate=False, is_derivative=True)
    files = [
        path
        for path in sorted((folder / "sub-01" / "func").iterdir())
        if path.name.endswith((".nii.gz", ".tsv", "_xfm.txt"))
    ]
    assert len(files) > 10
    for path in files:
        (sidecar,) = find_sidecars(path, folder)
        assert layout.get_file(str(path)).get_metadata() == json.loads(sidecar.read_text())


def test_high_resolution_grid_covers_the_same_field_of_view(finished):
    func = finished.out / "sub-01" / "func"
    low = nib.load(func / "sub-01_task-tap_space-boldref_desc-acquired_bold.nii.gz")
    high = nib.load(func / "sub-01_task-tap_space-boldref_res-hr_desc-srgan_bold.nii.gz")
    assert high.shape == (2 * low.shape[0], 2 * low.shape[1], low.shape[2], low.shape[3])
    corner_low = nib.affines.apply_affine(low.affine, [-0.5, -0.5, -0.5])
    corner_high = nib.affines.apply_affine(high.affine, [-0.5, -0.5, -0.5])
    np.testing.assert_allclose(corner_high, corner_low, atol=1e-3)
    assert high.header.get_zooms()[3] == low.header.get_zooms()[3] == 2.0


@pytest.mark.parametrize(
    "name",
    [
        "sub-01/func/sub-01_task-tap_desc-confounds_timeseries",
        "sub-01/func/sub-01_task-tap_desc-image_metrics",
        "sub-01/func/sub-01_task-tap_desc-activation_metrics",
        "sub-01/func/sub-01_task-tap_desc-evaluation_metrics",
    ],
)
def test_every_column_of_a_table_is_described(finished, name):
    _assert_described(finished.out / name)


def _assert_described(stem):
    columns = pd.read_csv(f"{stem}.tsv", sep="\t").columns
    described = json.loads(Path(f"{stem}.json").read_text())
    assert set(columns) <= set(described)
    assert all(described[column]["Description"] for column in columns)


def test_the_shared_sidecar_of_maps_describes_each_map(finished):
    func = finished.out / "sub-01" / "func"
    paths = sorted(func.glob("*_space-boldref_res-hr_contrast-*_desc-sbl*_statmap.nii.gz"))
    statistics = {path.name.partition("_stat-")[2].partition("_")[0] for path in paths}
    assert statistics == {"t", "effect", "variance"}
    for path in paths:
        (file,) = find_sidecars(path, finished.out)
        contrast = path.name.partition("_contrast-")[2].partition("_")[0]
        statistic = path.name.partition("_stat-")[2].partition("_")[0]
        metadata = select_map_metadata(json.loads(file.read_text()), contrast, statistic)
        expected = {"thumb": {"thumb": 1.0}, "little": {"little": 1.0}}
        assert metadata["ContrastWeights"] == expected.get(contrast, metadata["ContrastWeights"])
        assert {"Description", "Units", "Model", "SourceSeries", "SmoothingFWHM"} <= set(metadata)


STORED = StoredMaps(
    level="standard",
    smoothing=[0.0, 5.0],
    thresholds=["quarter", "fdr"],
    methods=["srgan", "sbl"],
    kinds=["glm"],
    primary="sbl",
)


def _maps_of(out: Path) -> list[Derivative]:
    """Return stored maps and regions of a run, with the facts in their sidecars."""
    maps = []
    for path in sorted((out / "sub-01" / "func").glob("*_space-boldref_res-hr_*.nii.gz")):
        *parts, suffix = path.name.removesuffix(".nii.gz").split("_")
        entities = dict(part.split("-", 1) for part in parts)
        series, width, region = re.fullmatch(
            r"([a-z]+)(?:Fwhm(\d+))?([A-Z]\w*)?", entities["desc"]
        ).groups()
        if suffix == "statmap" or (suffix == "mask" and "label" in entities):
            map_entities = {
                name: entities[name] for name in entities if name not in ("sub", "task")
            }
            about = {
                "SourceSeries": series,
                "SmoothingFWHM": int(width or 0) / 10,
                "ThresholdLabel": region,
            }
            maps.append(Derivative(path, {**map_entities, "suffix": suffix}, about))
    return maps


@pytest.mark.parametrize("series", ["sbl", "srgan"])
def test_the_file_patterns_of_the_report_match_exactly_the_intended_files(finished, series):
    """Patterns match the unsmoothed t maps of all contrasts, and the reliable regions, which this
    run lacks.
    """
    task = next((finished.out / "sub-01" / "func").glob("*_boldref.nii.gz")).name.split("_")[1]
    run = {"subject": "01", "task": task.removeprefix("task-")}
    maps = run_maps_figures.sort_maps(_maps_of(finished.out))
    pattern, masks = file_patterns(maps, series, STORED, run)
    names = [path.relative_to(finished.out).as_posix() for path in finished.out.rglob("*.nii.gz")]
    stem = f"sub-01/func/sub-01_{task}_space-boldref_res-hr"
    meant = rf"{stem}_contrast-[^_]+_stat-t_desc-{series}_statmap.nii.gz"
    expected = {name for name in names if re.fullmatch(meant, name)}
    assert {path.relative_to(finished.out).as_posix() for path in finished.out.glob(pattern)} == (
        expected
    )
    assert len(expected) >= 2
    regions = {name for name in names if name.endswith(f"_desc-{series}Reliable_mask.nii.gz")}
    matches = {
        path.relative_to(finished.out).as_posix() for path in finished.out.glob(masks or "-")
    }
    assert matches == regions


def test_all_series_have_the_same_metrics(finished):
    table = pd.read_csv(
        finished.out / "sub-01" / "func" / "sub-01_task-tap_desc-activation_metrics.tsv",
        sep="\t",
        keep_default_na=True,
    )
    fine = table[
        table.series.isin(["bspline", "zerofill", "sdmod", "inject", "ratio", "srgan", "sbl"])
    ]
    counts = fine.groupby(["series", "fwhm_mm"]).statistic.nunique()
    assert counts.nunique() <= 2  # bspline is not compared with itself
    assert set(table.fwhm_mm) == {0.0, 5.0}


def test_the_report_has_every_section_and_loads_nothing_from_the_network(finished):
    page = (finished.out / "sub-01.html").read_text()
    for section in SECTIONS:
        assert f'id="{section}"' in page, section
    loaded = re.findall(
        r'(?:src|xlink:href)="(?!data:|#)([^"]+)"|<link[^>]+href="(?!data:)([^"]+)"', page
    )
    assert not loaded
    assert "No errors to report" in page
    assert page.count("data:image/svg+xml") + page.count("<svg") >= 10


def test_second_run_recomputes_nothing(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.out.rglob("*.nii.gz")}
    code, text, seconds = call(finished.command)
    assert code == 0, text
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert seconds <= 45, text


def test_a_deleted_output_is_regenerated(finished):
    """Its hard link in the exported data set is restored."""
    lost = (
        finished.out
        / "sub-01"
        / "func"
        / "sub-01_task-tap_space-boldref_res-hr_desc-sbl_bold.nii.gz"
    )
    content = lost.read_bytes()
    lost.unlink()
    code, text, _ = call(finished.command)
    assert code == 0, text
    assert lost.read_bytes() == content
    exported = finished.out / "derivatives/bids-sr-sbl/sub-01/func"
    assert lost.samefile(exported / "sub-01_task-tap_space-boldref_desc-preproc_bold.nii.gz")


BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMED = "sub-01_task-tap"
VOLUMES = 68
SPACES = ("_space-boldref", "_space-T1w", "_space-MNI152NLin2009cAsym_res-2")


@pytest.fixture(scope="module")
def preprocessed(finished):
    """Return the folder of the run in the data set of the primary series."""
    return finished.out / "derivatives" / "bids-sr-sbl" / "sub-01" / "func"


def test_the_primary_series_is_linked_and_not_copied(finished, preprocessed):
    series = (
        finished.out / "sub-01" / "func" / f"{NAMED}_space-boldref_res-hr_desc-sbl_bold.nii.gz"
    )
    assert series.samefile(preprocessed / f"{NAMED}_space-boldref_desc-preproc_bold.nii.gz")


@pytest.mark.parametrize("space", SPACES)
def test_files_in_one_space_share_one_grid(preprocessed, space):
    series, mask, reference = _of_space(preprocessed, space)
    assert series.shape == (*mask.shape, VOLUMES)
    assert mask.shape == reference.shape
    code = {"_space-boldref": 1, "_space-T1w": 2}.get(space, 4)  # codes that niworkflows writes
    for image in (series, mask, reference):
        np.testing.assert_array_equal(image.affine, series.affine)
        assert (image.header["qform_code"], image.header["sform_code"]) == (code, code)


@pytest.mark.parametrize("space", SPACES[1:])
def test_voxels_outside_the_field_of_view_are_zero(preprocessed, space):
    """`fslmaths -Tmin -bin` takes all other voxels as brain."""
    series, _, reference = _of_space(preprocessed, space)
    # head motion moves edge voxels into the field of view of some volumes
    outside = binary_erosion(reference.get_fdata() == 0, border_value=1)
    assert outside.mean() > 0.05
    assert (series.get_fdata(dtype=np.float32)[outside] == 0).all()


def _of_space(folder, space):
    """Return series, mask and boldref."""
    kinds = ("desc-preproc_bold", "desc-brain_mask", "boldref")
    return [nib.load(folder / f"{NAMED}{space}_{kind}.nii.gz") for kind in kinds]


def test_the_reference_is_the_mean_of_the_series(preprocessed):
    """Differences are within the rounding of its integers."""
    series, _, reference = _of_space(preprocessed, SPACES[0])
    confounds = pd.read_csv(preprocessed / f"{NAMED}_desc-confounds_timeseries.tsv", sep="\t")
    mean = series.get_fdata()[..., confounds.filter(like="non_steady").shape[1] :].mean(-1)
    np.testing.assert_allclose(reference.get_fdata(), mean, atol=series.dataobj.slope)


@pytest.mark.parametrize("strategy", ["simple", "scrubbing", "compcor"])
def test_nilearn_loads_the_confounds(preprocessed, strategy):
    table, _ = load_confounds_strategy(
        str(preprocessed / f"{NAMED}_space-boldref_desc-preproc_bold.nii.gz"), strategy
    )
    assert len(table) == VOLUMES
    assert np.isfinite(table.to_numpy()).all()
    expected = {
        "simple": {"csf", "cosine00"},
        "scrubbing": {"csf_power2"},
        "compcor": {"a_comp_cor_00"},
    }[strategy]
    assert set(table) >= expected | {"trans_x_derivative1_power2"}


def test_nilearn_rejects_the_series_for_the_aroma_strategy(preprocessed):
    with pytest.raises(ValueError, match="Input must be desc-smoothAROMAnonaggr_bold"):
        load_confounds_strategy(
            str(preprocessed / f"{NAMED}_space-boldref_desc-preproc_bold.nii.gz"), "ica_aroma"
        )


@pytest.mark.parametrize(
    ("space", "res"), [("T1w", ""), ("MNI152NLin2009cAsym", "2"), ("boldref", "")]
)
def test_nilearn_finds_the_run_and_computes_similar_maps(
    finished, preprocessed, copied, monkeypatch, space, res
):
    """Ordinary least squares agree; with the program's noise model, maps are similar but not
    equal. In template space, only a part of the brain is compared.
    """
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from nilearn_agreement import agreement, read_and_fit

    raw, derivatives = finished.bids_dir, preprocessed.parents[1]
    if res:
        raw, derivatives = copied / "RAW", copied / "OUT" / "derivatives" / "bids-sr-sbl"
    read = next(read_and_fit(raw, derivatives, "tap", space=space, res=res, fwhm_mm=5.0))
    name = "".join(f"_{key}-{label}" for key, label in (("space", space), ("res", res)) if label)
    func = derivatives / "sub-01" / "func"
    assert read.series == func / f"{NAMED}{name}_desc-preproc_bold.nii.gz"
    assert read.model.slice_time_ref == pytest.approx(0.5, abs=0.05)
    table = pd.DataFrame(agreement(read)).set_index("contrast")
    assert {"thumb", "little", "little-rest"} <= set(table.index)
    assert table.ols.min() > 0.99
    assert table.own_noise.min() > 0.9


@pytest.mark.filterwarnings("ignore")
def test_nilearn_finds_series_events_confounds_and_mask_below_the_output_directory(finished):
    """The raw data set is not needed; the space is the default of nilearn."""
    from nilearn.glm.first_level import first_level_from_bids

    (model,), ((series,),), ((events,),), (confounds,) = first_level_from_bids(
        finished.out,
        "tap",
        derivatives_folder="derivatives/bids-sr-sbl",
        mask_img="derivatives",
        drift_model=None,
        confounds_strategy=("motion", "high_pass", "wm_csf"),
    )
    assert Path(series).name == f"{NAMED}{SPACES[2]}_desc-preproc_bold.nii.gz"
    raw = pd.read_csv(finished.bids_dir / "sub-01" / "func" / f"{NAMED}_events.tsv", sep="\t")
    pd.testing.assert_frame_equal(events, raw)
    assert len(confounds) == VOLUMES
    model.fit(series, events, confounds)
    assert model.compute_contrast("thumb").shape == nib.load(series).shape[:3]


@pytest.mark.parametrize("filters", [[], [("desc", "preproc")]])
def test_nilearn_rejects_the_output_directory_instead_of_choosing_a_series(finished, filters):
    """nilearn finds several images of the run, or none, and raises an error; otherwise it could
    read the acquired series without notice.
    """
    from nilearn.glm.first_level import first_level_from_bids

    with pytest.raises(ValueError, match=r"(3 bold|No BOLD) files"):
        first_level_from_bids(
            finished.bids_dir,
            "tap",
            space_label="",
            img_filters=filters,
            derivatives_folder=str(finished.out),
        )


def test_nilearn_reads_the_series_within_its_mask(preprocessed):
    from nilearn.maskers import NiftiMasker

    mask = preprocessed / f"{NAMED}_space-boldref_desc-brain_mask.nii.gz"
    signals = NiftiMasker(mask_img=mask).fit_transform(
        preprocessed / f"{NAMED}_space-boldref_desc-preproc_bold.nii.gz"
    )
    assert signals.shape == (VOLUMES, np.asarray(nib.load(mask).dataobj).sum())
    assert np.isfinite(signals).all()
    assert (signals.std(0) > 0).all()


def test_a_method_that_was_not_applied_is_marked_everywhere(finished):
    """All spaces are marked; sidecars of other methods are not."""
    primary = finished.out / "derivatives" / "bids-sr-sbl" / "sub-01" / "func"
    func = finished.out / "sub-01" / "func"
    paths = [*primary.glob("*_desc-preproc_bold.json"), *func.glob("*_desc-sbl_bold.json")]
    sidecars = [json.loads(path.read_text()) for path in paths]
    assert len(paths) == 4
    assert [
        (sidecar["Applied"], "zero-filled" in sidecar["Description"]) for sidecar in sidecars
    ] == [(False, True)] * 4
    assert all(sidecar["RepetitionTime"] == 2.0 for sidecar in sidecars)
    assert "Applied" not in json.loads(
        (func / "sub-01_task-tap_space-boldref_res-hr_desc-srgan_bold.json").read_text()
    )
    about = json.loads((primary.parents[1] / "dataset_description.json").read_text())
    assert "zero-filled BOLD series of" in about["Name"]
    assert "sbl was not applied to sub-01_task-tap," in (finished.out / "CITATION.md").read_text()
    assert "Not super-resolved: sub-01_task-tap." in (primary.parents[1] / "README.md").read_text()
    assert "NOT super-resolved but zero filled: sub-01_task-tap" in " ".join(finished.text.split())


@pytest.mark.slow
def test_a_higher_level_stores_more_and_keeps_existing_maps(finished):
    """This test is the last, because it changes the outputs."""
    before = {path: path.stat().st_mtime_ns for path in finished.out.rglob("*.nii.gz")}
    code, text, _ = call([*finished.command, "--level", "full"])
    assert code == 0, text
    assert {path: path.stat().st_mtime_ns for path in before} == before
    func = finished.out / "sub-01" / "func"
    assert list(func.glob("*_stat-z_desc-zerofill_statmap.nii.gz"))
    assert (func / "sub-01_task-tap_space-boldref_res-hr_desc-zerofill_bold.nii.gz").exists()
    assert "activation maps" not in text  # no progress line of this stage
    for name in ("sub-01_desc-srgan_log", "sub-01_task-tap_desc-sbl_log"):
        _assert_described(finished.out / "sourcedata" / "models" / "sub-01" / name)
