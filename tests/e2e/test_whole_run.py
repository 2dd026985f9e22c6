"""A whole run: every file that is promised, nothing else, each sound; a second run does nothing
twice.
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

from bids_sr.bids.inheritance import merged, sidecars_on_disk
from bids_sr.config.levels import StoredMaps
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
    """Files of a run, with the name of the run's log folder left out."""
    names = (path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    return sorted(re.sub(r"^logs/[^/]+", "logs/RUN", name) for name in names)


def test_run_ends_well_and_says_so(finished):
    assert finished.code == 0, finished.text
    assert "Finished" in finished.text.splitlines()[-1]


def test_golden_list_of_outputs(finished):
    expected = EXPECTED.read_text().split()
    found = _outputs(finished.out)
    assert not set(expected) - set(found), "promised and not there"
    assert not set(found) - set(expected), "there and not promised"


def test_validator_finds_no_error(validated):
    errors = [issue for issue in validated["issues"]["issues"] if issue["severity"] == "error"]
    assert errors == []


@pytest.mark.parametrize("root", ["", "derivatives/bids-sr-sbl"])
def test_every_source_is_a_file_that_is_there(finished, root):
    """Also every image that another is said to lie on; URIs that are no BIDS URIs are those of
    packages.
    """
    folder = finished.out / root
    links = json.loads((folder / "dataset_description.json").read_text())["DatasetLinks"]
    sidecars = [json.loads(path.read_text()) for path in folder.glob("sub-01/**/*.json")]
    uris = {
        uri
        for each in sidecars
        for uri in (*each.get("Sources", ()), each.get("SpatialReference", "bids::"))
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
    found = subprocess.run(
        [str(BIN / "bids-validator-deno"), "--format", "json", str(finished.out / root)],
        capture_output=True,
        text=True,
        check=False,
    )
    issues = json.loads(found.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["code"] != "TOO_FEW_AUTHORS"] == []


@pytest.mark.parametrize("validate", [True, False])
def test_pybids_finds_the_entities_of_results(finished, validate):
    from bids import BIDSLayout

    layout = BIDSLayout(finished.bids_dir, derivatives=finished.out, validate=validate)
    (found,) = layout.get(
        scope="derivatives", task="tap", suffix="bold", desc="sbl", extension=".nii.gz"
    )
    assert found.get_metadata()["Sources"]


TO_T1W = "sub-01/func/sub-01_task-tap_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt"
TO_TEMPLATE = "sub-01/anat/sub-01_from-T1w_to-MNI152NLin2009cAsym_mode-image_xfm.h5"


@pytest.mark.parametrize(
    ("space", "transforms"),
    [("T1w", [TO_T1W]), ("MNI152NLin2009cAsym_res-2", [TO_T1W, TO_TEMPLATE])],
)
def test_the_series_lies_in_a_space_where_the_stored_transforms_bring_it(
    finished, space, transforms
):
    """ANTs brings the mean of the run there by the stored files; left is left."""
    stem = finished.out / "derivatives/bids-sr-sbl/sub-01/func/sub-01_task-tap"
    func, there = (load(f"{stem}_{each}boldref.nii.gz") for each in ("", f"space-{space}_"))
    inside = load(f"{stem}_space-{space}_desc-brain_mask.nii.gz").data > 0.5
    with SeriesReader(Path(f"{stem}_space-{space}_desc-preproc_bold.nii.gz")) as series:
        mean = np.mean(list(series.volumes(3)), axis=0)
        assert series.shape[:3] == there.data.shape == inside.shape
    assert np.corrcoef(mean[inside], there.data[inside])[0, 1] > 0.99
    seen = apply(
        func, there, [finished.out / name for name in transforms], seed=1, interpolator="bSpline"
    )
    assert np.corrcoef(seen[inside], there.data[inside])[0, 1] > 0.99
    mirrored = inside & inside[::-1]
    assert np.corrcoef(seen[::-1][mirrored], there.data[mirrored])[0, 1] < 0.9
    if space == "T1w":  # on voxels of the series, around the brain
        np.testing.assert_allclose(
            nib.affines.voxel_sizes(there.affine), nib.affines.voxel_sizes(func.affine), atol=1e-3
        )
    else:
        assert inside.shape == (97, 115, 97)


def test_every_image_is_sound_and_described(finished):
    images = list(finished.out.rglob("*.nii.gz"))
    assert len(images) > 50
    for path in images:
        image = nib.load(path)
        assert np.isfinite(image.get_fdata(dtype=np.float32)).all(), path.name
        assert image.header["sform_code"] > 0, path.name
        inside = path.relative_to(finished.out).parts
        root = finished.out / Path(*inside[:2]) if inside[0] == "derivatives" else finished.out
        sidecar = merged(sidecars_on_disk(path, root))
        assert sidecar["Sources"], path.name
        assert not any(source.startswith("/") for source in sidecar["Sources"])
        if "_res-" in path.name:
            assert sidecar["Resolution"], path.name
        if "_space-" in path.name:
            assert sidecar["SpatialReference"], path.name
        if not path.name.endswith(("_mask.nii.gz", "_dseg.nii.gz", "_probseg.nii.gz")):
            assert "SkullStripped" in sidecar, path.name


def test_fine_grid_covers_the_same_field_of_view(finished):
    func = finished.out / "sub-01" / "func"
    low = nib.load(func / "sub-01_task-tap_desc-raw_bold.nii.gz")
    high = nib.load(func / "sub-01_task-tap_res-hr_desc-srgan_bold.nii.gz")
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


def test_maps_of_a_contrast_are_told_what_it_is_by_a_sidecar_of_the_participant(finished):
    func = finished.out / "sub-01" / "func"
    found = sorted(func.glob("*_res-hr_contrast-*_desc-sbl*_statmap.nii.gz"))
    assert {path.name.partition("_stat-")[2].partition("_")[0] for path in found} == {
        "t",
        "effect",
        "variance",
    }
    assert not list(func.glob("*_res-hr_contrast-*_statmap.json"))
    for path in found:
        sidecar = merged(sidecars_on_disk(path, finished.out))
        contrast = path.name.partition("_contrast-")[2].partition("_")[0]
        wanted = {"thumb": {"thumb": 1.0}, "little": {"little": 1.0}}
        assert sidecar["ContrastWeights"] == wanted.get(contrast, sidecar["ContrastWeights"])
        assert {"Description", "Units", "Model", "SourceSeries", "SmoothingFWHM"} <= set(sidecar)


STORED = StoredMaps(
    level="standard", methods=["srgan", "sbl"], smoothing=[0.0, 5.0], kinds=["glm"], primary="sbl"
)


def _maps_of(out: Path) -> list[Derivative]:
    """Stored maps and regions of a run, with the facts that their sidecars have."""
    maps = []
    for path in sorted((out / "sub-01" / "func").glob("*_res-hr_*.nii.gz")):
        *parts, suffix = path.name.removesuffix(".nii.gz").split("_")
        entities = dict(part.split("-", 1) for part in parts)
        series, width, region = re.fullmatch(
            r"([a-z]+)(?:Fwhm(\d+))?([A-Z]\w*)?", entities["desc"]
        ).groups()
        if suffix == "statmap" or (suffix == "mask" and "label" in entities):
            own = {name: entities[name] for name in entities if name not in ("sub", "task")}
            about = {
                "SourceSeries": series,
                "SmoothingFWHM": int(width or 0) / 10,
                "ThresholdLabel": region,
            }
            maps.append(Derivative(path, {**own, "suffix": suffix}, about))
    return maps


@pytest.mark.parametrize("series", ["sbl", "srgan"])
def test_the_patterns_of_the_next_step_match_the_files_meant_and_no_others(finished, series):
    """The unsmoothed t maps of all contrasts; the reliable regions, of which this run has none."""
    task = next((finished.out / "sub-01" / "func").glob("*_boldref.nii.gz")).name.split("_")[1]
    run = {"subject": "01", "task": task.removeprefix("task-")}
    maps = run_maps_figures.sort_maps(_maps_of(finished.out))
    pattern, masks = file_patterns(maps, series, STORED, run)
    every = [path.relative_to(finished.out).as_posix() for path in finished.out.rglob("*.nii.gz")]
    meant = rf"sub-01/func/sub-01_{task}_res-hr_contrast-[^_]+_stat-t_desc-{series}_statmap.nii.gz"
    expected = {name for name in every if re.fullmatch(meant, name)}
    assert {path.relative_to(finished.out).as_posix() for path in finished.out.glob(pattern)} == (
        expected
    )
    assert len(expected) >= 2
    regions = {name for name in every if name.endswith(f"_desc-{series}Reliable_mask.nii.gz")}
    found = {path.relative_to(finished.out).as_posix() for path in finished.out.glob(masks or "-")}
    assert found == regions


def test_all_series_are_measured_alike(finished):
    table = pd.read_csv(
        finished.out / "sub-01" / "func" / "sub-01_task-tap_desc-activation_metrics.tsv",
        sep="\t",
        keep_default_na=True,
    )
    fine = table[
        table.series.isin(["bspline", "zerofill", "sdmod", "inject", "ratio", "srgan", "sbl"])
    ]
    counts = fine.groupby(["series", "fwhm_mm"]).statistic.nunique()
    assert counts.nunique() <= 2  # bspline has no comparison with itself
    assert set(table.fwhm_mm) == {0.0, 5.0}


def test_report_holds_every_section_and_opens_without_network(finished):
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


def test_deleted_output_comes_back(finished):
    """And what was linked to it is a link again."""
    lost = finished.out / "sub-01" / "func" / "sub-01_task-tap_res-hr_desc-sbl_bold.nii.gz"
    content = lost.read_bytes()
    lost.unlink()
    code, text, _ = call(finished.command)
    assert code == 0, text
    assert lost.read_bytes() == content
    assert lost.samefile(
        finished.out
        / "derivatives/bids-sr-sbl/sub-01/func/sub-01_task-tap_desc-preproc_bold.nii.gz"
    )


BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMED = "sub-01_task-tap"
VOLUMES = 68
SPACES = ("", "_space-T1w", "_space-MNI152NLin2009cAsym_res-2")


@pytest.fixture(scope="module")
def preprocessed(finished):
    """Folder of the run in the data set of the primary series."""
    return finished.out / "derivatives" / "bids-sr-sbl" / "sub-01" / "func"


def test_the_primary_series_is_no_second_file(finished, preprocessed):
    own = finished.out / "sub-01" / "func" / f"{NAMED}_res-hr_desc-sbl_bold.nii.gz"
    assert own.samefile(preprocessed / f"{NAMED}_desc-preproc_bold.nii.gz")


@pytest.mark.parametrize("space", SPACES)
def test_files_of_one_space_are_on_one_grid(preprocessed, space):
    series, mask, reference = _of_space(preprocessed, space)
    assert series.shape == (*mask.shape, VOLUMES)
    assert mask.shape == reference.shape
    code = {"": 1, "_space-T1w": 2}.get(space, 4)  # as niworkflows writes them
    for image in (series, mask, reference):
        np.testing.assert_array_equal(image.affine, series.affine)
        assert (image.header["qform_code"], image.header["sform_code"]) == (code, code)


@pytest.mark.parametrize("space", SPACES[1:])
def test_what_lies_outside_the_field_of_view_is_zero(preprocessed, space):
    """`fslmaths -Tmin -bin` takes all else as brain."""
    series, _, reference = _of_space(preprocessed, space)
    # a voxel at the edge may lie inside in the pose of a volume
    outside = binary_erosion(reference.get_fdata() == 0, border_value=1)
    assert outside.mean() > 0.05
    assert (series.get_fdata(dtype=np.float32)[outside] == 0).all()


def _of_space(folder, space):
    """Series, mask and reference."""
    kinds = ("desc-preproc_bold", "desc-brain_mask", "boldref")
    return [nib.load(folder / f"{NAMED}{space}_{kind}.nii.gz") for kind in kinds]


def test_the_reference_is_the_mean_of_the_series(preprocessed):
    """Within the rounding of its integers."""
    series, _, reference = _of_space(preprocessed, "")
    confounds = pd.read_csv(preprocessed / f"{NAMED}_desc-confounds_timeseries.tsv", sep="\t")
    mean = series.get_fdata()[..., confounds.filter(like="non_steady").shape[1] :].mean(-1)
    np.testing.assert_allclose(reference.get_fdata(), mean, atol=series.dataobj.slope)


@pytest.mark.parametrize("strategy", ["simple", "scrubbing", "compcor"])
def test_nilearn_loads_the_confounds(preprocessed, strategy):
    table, _ = load_confounds_strategy(
        str(preprocessed / f"{NAMED}_desc-preproc_bold.nii.gz"), strategy
    )
    assert len(table) == VOLUMES
    assert np.isfinite(table.to_numpy()).all()
    asked = {
        "simple": {"csf", "cosine00"},
        "scrubbing": {"csf_power2"},
        "compcor": {"a_comp_cor_00"},
    }[strategy]
    assert set(table) >= asked | {"trans_x_derivative1_power2"}


def test_nilearn_refuses_what_aroma_has_not_made(preprocessed):
    with pytest.raises(ValueError, match="Input must be desc-smoothAROMAnonaggr_bold"):
        load_confounds_strategy(
            str(preprocessed / f"{NAMED}_desc-preproc_bold.nii.gz"), "ica_aroma"
        )


@pytest.mark.parametrize(("space", "res"), [("T1w", ""), ("MNI152NLin2009cAsym", "2"), ("", "")])
def test_nilearn_finds_the_run_by_itself_and_maps_what_we_map(
    finished, preprocessed, copied, monkeypatch, space, res
):
    """Both by least squares; with our noise the maps are alike, and no longer the same. Of the
    template they are shown a part.
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
    found = pd.DataFrame(agreement(read)).set_index("contrast")
    assert {"thumb", "little", "little-rest"} <= set(found.index)
    assert found.ols.min() > 0.99
    assert found.own_noise.min() > 0.9


@pytest.mark.parametrize("filters", [[], [("desc", "preproc")]])
def test_nilearn_takes_no_series_of_all_results_for_the_preprocessed_one(finished, filters):
    """Pointed at them it finds several images of the run, or none; it read the acquired one
    without a word.
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

    mask = preprocessed / f"{NAMED}_desc-brain_mask.nii.gz"
    signals = NiftiMasker(mask_img=mask).fit_transform(
        preprocessed / f"{NAMED}_desc-preproc_bold.nii.gz"
    )
    assert signals.shape == (VOLUMES, np.asarray(nib.load(mask).dataobj).sum())
    assert np.isfinite(signals).all()
    assert (signals.std(0) > 0).all()


def test_the_sidecar_of_a_method_that_was_not_applied_says_so(finished):
    """In every space; of the other methods it says nothing."""
    primary = finished.out / "derivatives" / "bids-sr-sbl" / "sub-01" / "func"
    func = finished.out / "sub-01" / "func"
    found = [*primary.glob("*_desc-preproc_bold.json"), *func.glob("*_desc-sbl_bold.json")]
    told = [json.loads(path.read_text()) for path in found]
    assert len(found) == 4
    assert [(each["Applied"], "zero-filled" in each["Description"]) for each in told] == [
        (False, True)
    ] * 4
    assert all(each["RepetitionTime"] == 2.0 for each in told)
    assert "Applied" not in json.loads(
        (func / "sub-01_task-tap_res-hr_desc-srgan_bold.json").read_text()
    )
    about = json.loads((primary.parents[1] / "dataset_description.json").read_text())
    assert "zero-filled BOLD series of" in about["Name"]
    assert "sbl was not applied to sub-01_task-tap," in (finished.out / "CITATION.md").read_text()
    assert "Not super-resolved: sub-01_task-tap." in (primary.parents[1] / "README.md").read_text()
    assert "NOT super-resolved but zero filled: sub-01_task-tap" in " ".join(finished.text.split())


def test_a_higher_level_stores_more_computes_no_map_again_and_deletes_nothing(finished):
    """Last, as the outputs are others afterwards."""
    before = {path: path.stat().st_mtime_ns for path in finished.out.rglob("*.nii.gz")}
    code, text, _ = call([*finished.command, "--level", "full"])
    assert code == 0, text
    assert {path: path.stat().st_mtime_ns for path in before} == before
    func = finished.out / "sub-01" / "func"
    assert list(func.glob("*_stat-z_desc-zerofill_statmap.nii.gz"))
    assert (func / "sub-01_task-tap_res-hr_desc-zerofill_bold.nii.gz").exists()
    assert "activation maps" not in text  # no line of progress of that stage
    for name in ("sub-01_desc-srgan_log", "sub-01_task-tap_desc-sbl_log"):
        _assert_described(finished.out / "sourcedata" / "models" / "sub-01" / name)
