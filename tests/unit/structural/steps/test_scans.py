"""Test fused structural scans: preparation with known positions, held-out slices, and the steps on
files.
"""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from checking import listed
from nibabel.affines import apply_affine, voxel_sizes
from scipy import ndimage

from bids_sr.engine.artifacts import Derivative
from bids_sr.io.nifti import load_image, save_image
from bids_sr.io.notices import UsageError
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import AntsOptions
from bids_sr.spatial.matrices import downsample, interpolate
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import rigid_matrix
from bids_sr.sr.method import get_method
from bids_sr.sr.models.request import TrainingSettings
from bids_sr.structural import preparation as structural_preparation
from bids_sr.structural.held_out import list_held_out_slices
from bids_sr.structural.model_grid import grid_around
from bids_sr.structural.steps import (
    measures as structural_measures,
    network_training,
    preparation,
    scans as structural,
)
from bids_sr.structural.steps.figures import (
    draw_scans,
    explain_scans,
)
from bids_sr.structural.steps.scans import PreparedScans

SHAPE = (40, 44, 36)
AFFINE = np.array([[2.0, 0, 0, -40], [0, 2, 0, -44], [0, 0, 2, -36], [0, 0, 0, 1]])
CONTRASTS = ["T1w", "FLAIR"]


@pytest.fixture(scope="module")
def head():
    """Return a textured ellipsoid of three tissues, brain inside a rim, as arrays on the
    high-resolution grid, and the brain mask.
    """
    rng = np.random.default_rng(3)
    x, y, z = (np.indices(SHAPE) - (np.array(SHAPE)[:, None, None, None] - 1) / 2) * 2
    radius = np.sqrt((x / 31) ** 2 + (y / 36) ** 2 + (z / 29) ** 2)
    texture = ndimage.gaussian_filter(rng.normal(size=SHAPE), 3.0)
    texture /= texture.std()
    fluid, gray = (
        (radius < 1) & (texture > 1.2),
        (radius < 1) & (texture <= 1.2) & (texture > -0.1),
    )
    white = (radius < 1) & (texture <= -0.1)
    rim = (radius >= 1.08) & (radius < 1.2)
    t1w = 100 * fluid + 400 * gray + 650 * white + 500.0 * rim
    flair = 60 * fluid + 600 * gray + 400 * white + 300.0 * rim
    noisy = {
        name: image + rng.normal(0, 12, SHAPE) for name, image in (("T1w", t1w), ("FLAIR", flair))
    }
    return {name: np.maximum(image, 0) for name, image in noisy.items()}, radius < 1


def scans(head, poses):
    """Return pairs whose low-resolution scans are blurred, moved and sampled at 4 mm."""
    arrays, _ = head
    low_affine = np.diag([4.0, 4, 4, 1])
    low_affine[:3, 3] = AFFINE[:3, 3] + 1
    pairs = {}
    for contrast in CONTRASTS:
        blurred = ndimage.gaussian_filter(arrays[contrast], 0.8)
        to_scan = np.linalg.inv(poses[contrast])
        low_res = sample_volume(blurred, AFFINE, (20, 22, 18), low_affine, to_scan)
        pairs[contrast, "highres"] = Volume(arrays[contrast].astype(np.float32), AFFINE)
        pairs[contrast, "lowres"] = Volume(low_res, low_affine)
    return pairs


@pytest.fixture(scope="module")
def poses():
    return {
        "T1w": rigid_matrix([2.0, -1.5, 1.0, 0.03, -0.02, 0.02], (0, 0, 0)),
        "FLAIR": rigid_matrix([-1.0, 2.5, 0.5, -0.02, 0.03, 0.01], (0, 0, 0)),
    }


def prepare(pairs, brain, folder, **options):
    """Prepare scans with the true brain, because brain extraction is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            structural_preparation, "brain_from_head", lambda *_, **__: (brain, np.eye(4), None)
        )
        return structural_preparation.prepare(
            pairs,
            Volume(np.ones((2, 2, 2)), np.eye(4)),
            np.ones((2, 2, 2), bool),
            tools=structural_preparation.ScanTools(correct_bias=lambda image, *_: image),
            options=AntsOptions(seed=0, prefix=str(folder / "x_"), sloppy=True),
            **options,
        )


@pytest.fixture(scope="module")
def prepared(head, poses, tmp_path_factory):
    return prepare(
        scans(head, poses),
        head[1],
        tmp_path_factory.mktemp("prepared"),
        interpolations=("bspline", "nearest"),
    )


@pytest.mark.parametrize("kind", ["highres", "lowres"])
def test_scans_scaled_by_their_range_have_values_from_0_to_1_in_all_voxels_kept(
    kind, head, tmp_path
):
    """Surroundings that are brighter than the brain are not clipped."""
    arrays, brain = head
    bright = np.where(brain, arrays["T1w"], 3 * arrays["T1w"]).astype(np.float32)
    scan = Volume(bright, AFFINE)
    options = {"scale": "range", "extraction": "intracranial"}
    options |= {} if kind == "highres" else {"grid": scan}
    made = prepare({("T1w", kind): scan}, brain, tmp_path, **options)
    kept = ndimage.distance_transform_edt(~brain, sampling=2.0) <= 6
    top = bright[kept].max()
    assert top > 1.3 * bright[brain].max()
    image = made.highres["T1w"] if kind == "highres" else made.lowres["bspline"]["T1w"]
    np.testing.assert_allclose(image, np.where(kept, bright / top, 0), atol=1e-5)
    assert made.units["T1w"] == pytest.approx(top, rel=1e-5)


@pytest.mark.parametrize("value", [0.0, -3.0, np.nan, np.inf])
def test_scans_without_positive_intensities_are_rejected(value):
    scan, mask = np.full((4, 4, 4), value, np.float32), np.ones((4, 4, 4), bool)
    with pytest.raises(ValueError, match="positive"):
        structural_preparation.maximum_intensity(scan, mask)
    with pytest.raises(ValueError, match="positive"):
        structural_preparation.maximum_intensity(scan + 5, ~mask)


def test_prepared_scans_are_aligned_and_have_the_same_range(head, prepared):
    assert set(prepared.lowres) == {"bspline", "nearest"}
    for contrast in CONTRASTS:
        high_res, low_res = prepared.highres[contrast], prepared.lowres["bspline"][contrast]
        assert high_res.shape == low_res.shape == SHAPE
        for image in (high_res, low_res):
            assert image.min() >= 0
            assert image.max() <= 1
            assert not image[~head[1]].any()
        assert np.corrcoef(high_res[head[1]], low_res[head[1]])[0, 1] > 0.8
        assert high_res[head[1]].mean() == pytest.approx(low_res[head[1]].mean(), rel=0.02)
    assert set(prepared.facts) == {"T1w_lowres", "FLAIR_highres", "FLAIR_lowres"}
    assert prepared.facts["FLAIR_highres"]["offset_mm"] < 0.3
    scan = prepared.lowres["bspline"]["T1w"]
    # intensity unit of the low-resolution scan, which equals the unit of the high-resolution scan
    # here
    intensities = scan[head[1]] * prepared.units["T1w"]
    assert intensities.mean() == pytest.approx(head[0]["T1w"][head[1]].mean(), rel=0.1)
    assert np.percentile(scan[head[1]], 99.9) == pytest.approx(1.0, abs=1e-3)


def scans_of(high_res, low_res, mask, others=(), facts=None, brain=None):
    return PreparedScans(
        coarse_scans=low_res,
        other_scans=list(others),
        scan_mask=mask,
        scan_facts=facts or {},
        fine_scans=high_res,
        scan_brain=brain,
    )


@pytest.mark.parametrize("orientation", ["I-S", "P-A"])
def test_a_grid_around_a_scan_has_its_center_and_the_slice_orientation_of_the_model(orientation):
    # voxel order: left to right, inferior to superior, anterior to posterior
    affine = np.array([[-4.0, 0, 0, 30], [0, 0, -2, 50], [0, 5, 0, -40], [0, 0, 0, 1]])
    scan = Volume(np.zeros((16, 18, 50), np.float32), affine)
    grid = grid_around(scan, (1.5, 2.0, 2.5), orientation)
    directions = grid.affine[:3, :3] / voxel_sizes(grid.affine)
    order = [0, 1, 2] if orientation == "I-S" else [0, 2, 1]
    np.testing.assert_allclose(directions, np.eye(3)[:, order])
    np.testing.assert_allclose(voxel_sizes(grid.affine), (1.5, 2.0, 2.5))
    extent = np.array([64.0, 100, 90])[order]
    assert grid.data.shape == tuple(np.ceil(extent / (1.5, 2.0, 2.5)).astype(int))
    centers = [
        apply_affine(image.affine, (np.array(image.data.shape) - 1) / 2) for image in (scan, grid)
    ]
    np.testing.assert_allclose(*centers)


def test_low_resolution_scans_are_prepared_in_the_space_of_the_first_scan(head, poses, tmp_path):
    arrays, brain = head
    low_res_scans = {key: scan for key, scan in scans(head, poses).items() if key[1] == "lowres"}
    to_first = np.linalg.inv(poses["T1w"])

    first = low_res_scans["T1w", "lowres"]
    grid = grid_around(first, (2.0, 2.0, 2.0), "I-S")
    inside = sample_volume(brain, AFFINE, grid.data.shape, grid.affine, to_first, order=1) > 0.5
    prepared_scans = prepare(low_res_scans, inside, tmp_path, grid=grid)
    assert prepared_scans.highres == {}
    assert set(prepared_scans.facts) == {"FLAIR_lowres"}
    assert prepared_scans.mask.shape == (40, 44, 36)
    np.testing.assert_allclose(voxel_sizes(prepared_scans.affine), 2.0)
    for contrast in CONTRASTS:
        image = prepared_scans.lowres["bspline"][contrast]
        truth = sample_volume(
            arrays[contrast], AFFINE, image.shape, prepared_scans.affine, to_first
        )
        inside = prepared_scans.mask
        assert not image[~inside].any()
        assert np.percentile(image[inside], 99.9) == pytest.approx(1, abs=1e-3)
        assert np.corrcoef(image[inside], truth[inside])[0, 1] > 0.8


def test_only_slices_that_no_model_was_trained_on_are_scored():
    cards = []
    for parts in ([[2, 3], [7, 9]], [[7, 8]]):
        held_out = [{"image": "a", "slices": slices} for slices in parts] + [
            {"image": "b", "slices": [0, 9]}
        ]
        cards.append({"data_sha256": {"a": "x", "b": "y"}, "held_out": {"parts": held_out}})
    assert list_held_out_slices(cards[:1], 10, "x") == [2, 7, 8]
    assert list_held_out_slices(cards, 10, "x") == [7]
    # The data of another study have another checksum, whatever the name of the image.
    assert list_held_out_slices(cards, 3, "z") == [0, 1, 2]
    # The first head was completely trained on.
    trained = {"data_sha256": {"a": "x"}, "held_out": {"parts": []}}
    assert list_held_out_slices([trained], 9, "x") == []


SETTINGS = TrainingSettings(method="attunet", sloppy=True)


def make_derivatives(series, affine, desc, shift=0):
    """Return scans of a head shifted by `shift` voxels to the right."""
    return [
        Derivative(
            Volume(np.roll(image, shift, 0), affine),
            {"res": "hr", "desc": desc, "suffix": contrast},
            {"Resolution": "grid of the first"},
        )
        for contrast, image in series.items()
    ]


def make_head(prepared, shift=0):
    """Return high-resolution scans, low-resolution scans and the brain of a shifted head."""
    affine = prepared.affine
    return (
        make_derivatives(prepared.highres, affine, "measured", shift),
        make_derivatives(prepared.lowres["bspline"], affine, "bspline", shift),
        Volume(np.roll(prepared.mask, shift, 0), affine),
    )


def measure(high_res, low_res, mask, here, made=(), cards=(), brain=None, **options):
    """Return rows, columns, tissues and classes of scans."""
    settings = {"facts": {}, "anat_tools": "ants", **options}
    return structural_measures.measure_scans(
        scans_of(high_res, low_res, mask, facts=settings.pop("facts"), brain=brain or mask),
        list(made),
        list(cards),
        here=here,
        suffixes=tuple(structural.list_suffixes(high_res)),
        random_seed=1,
        **settings,
    )


def values_of(rows):
    return {(row.contrast, row.series, row.statistic, row.region): row.value for row in rows}


@pytest.fixture(scope="module")
def measured(prepared, tmp_path_factory):
    """Return rows, columns, tissues and classes of a head; the series `same` is measured."""
    same = make_derivatives(prepared.highres, prepared.affine, "same")
    return measure(*make_head(prepared), tmp_path_factory.mktemp("measured"), same)


def test_metrics_of_the_high_resolution_scan_itself_are_perfect(prepared, measured):
    rows, _, tissue_image, _ = measured
    metrics = values_of(rows)
    assert metrics["T1w", "same", "mae", "brain"] == 0
    assert metrics["all", "same", "tissue_dice", "gm"] == 1
    assert (
        metrics["FLAIR", "same", "tissue_volume", "wmh"]
        == metrics["FLAIR", "measured", "tissue_volume", "wmh"]
    )
    assert metrics["T1w", "bspline", "ssim", "brain"] < 0.99
    assert 0.4 < metrics["all", "bspline", "tissue_dice", "wm"] < 1
    assert set(np.unique(tissue_image.data)) == {0, 1, 2, 3}
    volumes = [metrics["all", "measured", "tissue_volume", name] for name in ("gm", "wm", "csf")]
    assert sum(volumes) == pytest.approx(prepared.mask.sum() * 8 / 1000)


def test_tissues_are_only_segmented_in_the_brain_and_classes_need_three_contrasts(
    prepared, tmp_path
):
    random = np.random.default_rng(1)
    head_mask = ndimage.binary_dilation(prepared.mask, iterations=3)
    images = {
        name: np.where(head_mask, 0.6 + random.normal(0, 0.05, SHAPE), 0).astype(np.float32)
        for name in ("T1w", "T2w", "FLAIR")
    }
    rows, _, _, classes = measure(
        make_derivatives(images, AFFINE, "measured"),
        make_derivatives(images, AFFINE, "bspline"),
        Volume(head_mask, AFFINE),
        tmp_path,
        brain=Volume(prepared.mask, AFFINE),
    )
    metrics = values_of(rows)
    volumes = [metrics["all", "measured", "tissue_volume", name] for name in ("gm", "wm", "csf")]
    assert sum(volumes) == pytest.approx(prepared.mask.sum() * 8 / 1000)
    assert {image.name for image in classes} == {
        f"res-hr_desc-{name}_label-{label}_{suffix}"
        for label, suffix in (("classes", "dseg"), ("WMH", "mask"))
        for name in ("measured", "bspline")
    }
    segmentation = next(image for image in classes if image.entities["label"] == "classes")
    assert set(np.unique(segmentation.volume.data)) <= {0, 1, 2, 3, 4}
    veins = (segmentation.volume.data == 2).sum() * 8 / 1000
    assert metrics["all", "measured", "tissue_volume", "veins"] == pytest.approx(veins)
    assert "2 veins" in segmentation.sidecar["Description"]


def test_quality_metrics_use_tissues_of_fast_and_volumes_use_tissues_of_atropos(
    prepared, measured, tmp_path, monkeypatch
):
    from bids_sr.preproc import fsl

    # Thirds of the brain are masks that no segmentation would return.
    third = np.indices(SHAPE)[2] * 3 // SHAPE[2]
    masks = {name: prepared.mask & (third == k) for k, name in enumerate(("gm", "wm", "csf"))}
    inputs = []

    def segment_into_thirds(image, inside, folder):
        assert folder.is_dir()
        inputs.append((image.data, inside))
        return masks

    monkeypatch.setattr(fsl, "segment_with_fast", segment_into_thirds)
    rows, _, dseg, _ = measure(*make_head(prepared), tmp_path, anat_tools="fsl")
    ((image, inside),) = inputs
    np.testing.assert_array_equal(image, prepared.highres["T1w"])
    np.testing.assert_array_equal(inside, prepared.mask)
    for label, name in enumerate(("gm", "wm", "csf"), 1):
        np.testing.assert_array_equal(dseg.data == label, masks[name])
    scan = prepared.lowres["bspline"]["T1w"]
    white, gray = scan[masks["wm"]], scan[masks["gm"]]
    cjv = (white.std() + gray.std()) / abs(white.mean() - gray.mean())
    metrics, with_ants = values_of(rows), values_of(measured[0])
    assert metrics["T1w", "bspline", "cjv", "brain"] == pytest.approx(cjv, rel=1e-3)
    assert with_ants["T1w", "bspline", "cjv", "brain"] != pytest.approx(cjv, rel=0.05)
    ratio = np.percentile(gray, 5) / np.percentile(white, 5)
    assert metrics["T1w", "bspline", "ratio_p05", "gm/wm"] == pytest.approx(ratio, rel=1e-3)
    volumes = [key for key in metrics if key[2] in ("tissue_volume", "tissue_dice")]
    assert volumes
    assert [metrics[key] for key in volumes] == [with_ants[key] for key in volumes]


def test_an_edited_mask_is_the_reference_of_volumes_and_overlaps(prepared, measured, tmp_path):
    edited = np.zeros(SHAPE, np.float32)
    edited[18:22, 20:25, 20:23] = 1
    file = tmp_path / "edited.nii.gz"
    save_image(edited, AFFINE, file)
    head = make_head(prepared)
    rows, _, _, stored_again = measure(*head, tmp_path, given_wmh_reference=file)
    values, automatic = values_of(rows), values_of(measured[0])
    volume = ("FLAIR", "measured", "tissue_volume", "wmh")
    assert values[volume] == pytest.approx(60 * 8 / 1000)
    assert automatic[volume] != pytest.approx(60 * 8 / 1000)
    stored = {image.entities["desc"]: image.volume.data for image in measured[3]}
    shared = (stored["bspline"] & (edited > 0)).sum()
    assert values["FLAIR", "bspline", "tpf", "wmh"] == pytest.approx(shared / 60)
    interpolated = ("FLAIR", "bspline", "tissue_volume", "wmh")
    assert values[interpolated] == automatic[interpolated]
    # Automatic masks are stored as before, so the edited file is never overwritten.
    for image in stored_again:
        np.testing.assert_array_equal(image.volume.data, stored[image.entities["desc"]])
    moved = AFFINE.copy()
    moved[0, 3] += 1
    save_image(edited, moved, file)
    with pytest.raises(UsageError, match="differs in size or position"):
        measure(*head, tmp_path, given_wmh_reference=file)


def test_a_model_is_trained_applied_and_measured_on_one_head(head, prepared, tmp_path):
    high_res, low_res, mask = make_head(prepared)
    files = network_training.train_on_scans(
        high_res,
        low_res,
        {"sub-01": mask},
        here=tmp_path,
        training=SETTINGS,
        anat_align="rigid",
        anat_scale="percentile",
    )
    card = json.loads(files.card_file.read_text())
    assert (card["contrast"], card["channels"], card["sloppy"]) == ("T1w+FLAIR", 2, True)
    super_resolved = network_training.super_resolve_scans(
        low_res,
        mask,
        files.model_file,
        suffixes=("T1w", "FLAIR"),
        method="attunet",
        device="cpu",
        omp_nthreads=1,
        anat_align="rigid",
        anat_scale="percentile",
        force=False,
        split_set="test",
    )
    assert {scan.sidecar["Split"] for scan in super_resolved} == {"test"}
    assert [scan.name for scan in super_resolved] == [
        "res-hr_desc-attunet_T1w",
        "res-hr_desc-attunet_FLAIR",
    ]
    assert all(scan.sidecar["Resolution"] == "grid of the first" for scan in super_resolved)
    for image, before in zip(super_resolved, low_res, strict=True):
        assert np.abs(image.volume.data - before.volume.data)[head[1]].mean() < 0.1
        assert not image.volume.data[~head[1]].any()
    rows, _, _, classes = measure(high_res, low_res, mask, tmp_path, super_resolved, [card])
    assert {class_image.name for class_image in classes} == {
        f"res-hr_desc-{name}_label-WMH_mask" for name in ("measured", "bspline", "attunet")
    }, "classes of all contrasts also need T2w"
    psnr = {
        (row.contrast, row.series): row.value
        for row in rows
        if row.statistic == "psnr" and row.region == "brain"
    }
    sizes = {row.series: row.value for row in rows if row.statistic == "parameters"}
    assert sizes == {"attunet": card["parameters"]}
    assert set(psnr) == {
        (contrast, series) for contrast in CONTRASTS for series in ("bspline", "attunet")
    }
    held_out_slices_of_card = sorted(
        {z for part in card["held_out"]["parts"] for z in range(*part["slices"])}
    )
    assert 0 < len(held_out_slices_of_card) < SHAPE[2] / 3
    high_res_slices, low_res_slices = (
        prepared.highres["T1w"][..., held_out_slices_of_card],
        prepared.lowres["bspline"]["T1w"][..., held_out_slices_of_card],
    )
    inside = prepared.mask[..., held_out_slices_of_card]
    expected = -10 * np.log10(((high_res_slices - low_res_slices)[inside] ** 2).mean())
    assert psnr["T1w", "bspline"] == pytest.approx(expected, abs=0.01)
    log = pd.read_csv(files.log_file, sep="\t", na_values="n/a")
    loaded = replace(files, card_file=card, log_file=log)
    explanations = explain_scans(scans_of(high_res, low_res, mask), super_resolved, loaded)
    assert {drawing.entities["desc"] for drawing in explanations} == {
        "attention",
        "scantraining",
        "scancard",
    }
    (port,) = explain_scans.outputs.values()
    check_attention_figure(
        next(
            path
            for path in Path(port.save(explanations, tmp_path / "x")).read_text().splitlines()
            if "attention" in path
        )
    )
    facts = {"align": "affine", "offsets": {"FLAIR_lowres": {"stretch_percent": 1.25}}}
    drawings = draw_scans(
        scans_of(high_res, low_res, mask, facts=facts),
        super_resolved,
        [card],
        rows,
        classes,
        subject_facts={"Participant": "01"},
    )
    assert [
        drawing.entities["desc"] for drawing in drawings if not isinstance(drawing.content, str)
    ] == [
        "scans",
        "scanscoronal",
        "scanmasks",
    ]
    plane = next(
        drawing
        for drawing in drawings
        if drawing.entities["desc"] == "scans" and not isinstance(drawing.content, str)
    )
    shown = plane.content.axes[0].images[0].get_array()
    volume = low_res[0].volume.data
    [z] = [z for z in range(SHAPE[2]) if np.isin(shown, volume[..., z]).all()]
    assert z in held_out_slices_of_card
    html = "".join(drawing.content for drawing in drawings if isinstance(drawing.content, str))
    assert "(affine)" in html
    assert "1.25" in html


def check_attention_figure(svg):
    """Check that the figure shows masks of four gates and two different maps of the critic over
    the slice.
    """
    text = Path(svg).read_text()
    titles = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert [title for title in titles if "attention" in title] == [
        f"attention, gate {n} of 4" for n in (1, 2, 3, 4)
    ]
    score_matches = [
        re.fullmatch(r"critic, (super-resolved|measured) \(score (0|1)\.\d\d\)", title)
        for title in titles
    ]
    assert [score_match[1] for score_match in score_matches if score_match] == [
        "super-resolved",
        "measured",
    ]
    pictures = re.findall(r'href="data:image/png;base64,([^"]+)"', text)
    assert len(pictures) == len(set(pictures)) == 7, "the slice once, and six maps over it"


def test_the_preparation_step_keeps_the_order_of_its_files(prepared, head, tmp_path, monkeypatch):
    names = []
    for contrast in CONTRASTS:
        names.append(tmp_path / f"{contrast}.nii")
        save_image(head[0][contrast].astype(np.float32), AFFINE, names[-1])
    monkeypatch.setattr(structural_preparation, "prepare", lambda *_args, **_options: prepared)
    node = preparation.prepare_scans.interface(
        highres_files=names,
        lowres_files=names,
        template=names[0],
        template_mask=names[0],
        suffixes=tuple(CONTRASTS),
        all_interpolations=True,
        anat_align="rigid",
        anat_scale="range",
        anat_mask="brain",
        anat_tools="ants",
        random_seed=0,
        sloppy=True,
    )
    prepared.lowres.setdefault("linear", prepared.lowres["nearest"])
    prepared.lowres.setdefault("lanczos", prepared.lowres["nearest"])
    outputs = node.run(cwd=str(tmp_path)).outputs
    for files, series, stack in (
        (listed(outputs.fine_scans), "measured", prepared.highres),
        (listed(outputs.other_scans)[:4], "nearest", prepared.lowres["nearest"]),
    ):
        images = [path for path in files if path.suffix == ".nii"]
        assert [path.name for path in images] == [
            f"res-hr_desc-{series}_{contrast}.nii" for contrast in CONTRASTS
        ]
        for contrast, path in zip(CONTRASTS, images, strict=True):
            np.testing.assert_array_equal(load_image(path)[0], stack[contrast])
    assert set(json.loads(Path(outputs.scan_facts).read_text())["units"]) == set(CONTRASTS)
    sidecar = json.loads(listed(outputs.fine_scans)[1].read_text())
    assert sidecar["Resolution"] == "grid of the high-resolution T1w scan"
    assert "0 and 1 are the minimum and maximum" in sidecar["Description"]


def test_a_lesion_template_is_transformed_to_the_scans_and_limits_lesions(prepared, tmp_path):
    """Use known spots inside and outside the template, which has another grid and position."""
    high_res, low_res, mask = make_head(prepared)
    spots = {"inside": (18, 20, 20), "outside": (18, 28, 20)}
    flair = 0.5 * np.ones(SHAPE) + np.random.default_rng(0).normal(0, 0.01, SHAPE)
    spot_slices = {}
    for name, (x, y, z) in spots.items():
        spot_slices[name] = (slice(x, x + 4), slice(y, y + 4), slice(z, z + 4))
        flair[spot_slices[name]] = 0.9
    flair = np.where(prepared.mask, flair, 0).astype(np.float32)
    high_res = [high_res[0], Derivative(Volume(flair, AFFINE), high_res[1].entities, {})]
    to_template = np.diag([0.9, 1.0, 1.1, 1.0])
    to_template[:3, 3] = (3.0, -2.0, 1.0)
    # The template contains the first spot with a margin of 2 voxels.
    corners = np.array([(16, 18, 18), (24, 26, 26)]) @ AFFINE[:3, :3] + AFFINE[:3, 3]
    lower_corner, upper_corner = corners @ to_template[:3, :3] + to_template[:3, 3]
    prior = np.zeros((60, 60, 60), np.float32)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-60.0, -60.0, -60.0)
    (x0, y0, z0), (x1, y1, z1) = np.round(
        (np.array([lower_corner, upper_corner]) + 60) / 2
    ).astype(int)
    prior[x0:x1, y0:y1, z0:z1] = 0.02
    file = tmp_path / "lesions.nii.gz"
    save_image(prior, affine, file)
    lesions = {}
    for name, options in (("without", {}), ("with", {"given_lesion_template": file})):
        facts = {"to_template": to_template.tolist()}
        *_, classes = measure(high_res, low_res, mask, tmp_path, facts=facts, **options)
        (image,) = (image for image in classes if image.entities["desc"] == "measured")
        lesions[name] = image.volume.data
    for name, spot in spot_slices.items():
        assert lesions["without"][spot].mean() > 0.8, name
    assert lesions["with"][spot_slices["inside"]].mean() > 0.8
    assert not lesions["with"][spot_slices["outside"]].any()


def test_fsl_corrects_each_scan_by_its_contrast_and_determines_the_brain(
    head, poses, tmp_path, monkeypatch
):
    from bids_sr.preproc import fsl

    names = []
    for (contrast, kind), image in scans(head, poses).items():
        names.append(tmp_path / f"{kind}_{contrast}.nii")
        save_image(image.data.astype(np.float32), image.affine, names[-1])
    corrected = []

    def record_correction(image, contrast, folder):
        assert folder.is_dir()
        assert not list(folder.iterdir())
        (folder / "used").touch()
        corrected.append((contrast, image.data.shape))
        return image

    smaller = ndimage.binary_erosion(head[1], iterations=2)
    monkeypatch.setattr(fsl, "correct_bias_with_fast", record_correction)
    monkeypatch.setattr(fsl, "extract_brain_with_bet", lambda image, folder: smaller)
    away_mm = np.eye(4)
    away_mm[0, 3] = 30
    affines = []

    def record_alignment(frame, image, folder, *, affine):
        affines.append(affine)
        return away_mm

    monkeypatch.setattr(fsl, "register_with_flirt", record_alignment)
    monkeypatch.setattr(
        structural_preparation, "brain_from_head", lambda *_a, **_k: (head[1], np.eye(4), None)
    )
    made = preparation.prepare_scans(
        Volume(np.ones((2, 2, 2)), np.eye(4)),
        Volume(np.ones((2, 2, 2), bool), np.eye(4)),
        [path for path in names if path.name.startswith("highres")],
        [path for path in names if path.name.startswith("lowres")],
        here=tmp_path,
        suffixes=tuple(CONTRASTS),
        preparation=structural.ScanPreparation(
            anat_align="rigid",
            anat_mask="intracranial",
            anat_tools="fsl",
            anat_scale="percentile",
            random_seed=0,
            sloppy=True,
        ),
    )
    np.testing.assert_array_equal(made.scan_brain.data, smaller)
    low_res, trilinear, facts = made.coarse_scans, made.other_scans, made.scan_facts
    assert sorted(corrected) == sorted(
        (contrast, shape) for contrast in CONTRASTS for shape in (SHAPE, (20, 22, 18))
    )
    assert affines == [False] * 2
    # Positions of trilinear scans are from FLIRT, positions of all others from ANTs.
    assert [scan.entities["desc"] for scan in trilinear] == ["linear", "linear"]
    low_res_scan = scans(head, poses)["T1w", "lowres"]
    direct = sample_volume(low_res_scan.data, low_res_scan.affine, SHAPE, AFFINE, away_mm, order=1)
    inside = smaller & (trilinear[0].volume.data < 1)
    unit = facts["units"]["T1w"]
    np.testing.assert_allclose(trilinear[0].volume.data[inside] * unit, direct[inside], rtol=1e-3)
    assert np.corrcoef(low_res[0].volume.data[inside], direct[inside])[0, 1] < 0.8
    assert facts["offsets"]["T1w_lowres_trilinear"]["offset_mm"] == pytest.approx(30, abs=0.01)
    away = ndimage.distance_transform_edt(~smaller, sampling=2.0)
    np.testing.assert_array_equal(made.scan_mask.data, away <= 6)
    assert facts["to_template"] == np.eye(4).tolist()


@pytest.mark.parametrize("method", ["cpce", "circle"])
def test_a_network_is_trained_on_a_scan_with_simulated_low_resolution(
    method, head, tmp_path, monkeypatch
):
    crop_factor = get_method(method).simulated_factor
    assert crop_factor == (2.0, 2.0, 1.0), "the central 25 % of k-space in plane"
    everywhere = np.ones(SHAPE, bool)
    monkeypatch.setattr(
        structural_preparation, "brain_from_head", lambda *_a, **_k: (everywhere, np.eye(4), None)
    )
    scan = tmp_path / "scan.nii"
    save_image(head[0]["T1w"].astype(np.float32), AFFINE, scan)
    made = preparation.prepare_scans(
        Volume(np.ones((2, 2, 2)), np.eye(4)),
        Volume(np.ones((2, 2, 2), bool), np.eye(4)),
        [scan],
        here=tmp_path,
        suffixes=("T1w",),
        preparation=structural.ScanPreparation(
            anat_align="rigid",
            anat_mask="brain",
            anat_tools="ants",
            anat_scale="range",
            random_seed=0,
            sloppy=True,
        ),
        crop_factor=crop_factor,
    )
    series = [image.entities["desc"] for image in (*made.coarse_scans, *made.other_scans)]
    assert series == ["zerofill", "bspline", "linear"]
    fine, coarse = made.fine_scans[0].volume.data, made.coarse_scans[0].volume.data
    x, y, z = fine.shape
    lowres = downsample(fine, (math.ceil(x / 2), math.ceil(y / 2), z))
    expected = np.maximum(interpolate("zerofill", lowres, fine.shape), 0)
    np.testing.assert_allclose(coarse, expected / expected.max(), atol=1e-3)
    network = replace(SETTINGS, method=method)
    prepared = {"anat_align": "rigid", "anat_scale": "range"}
    files = network_training.train_on_scans(
        made.fine_scans,
        made.coarse_scans,
        {"sub-01": made.scan_mask},
        here=tmp_path,
        training=network,
        **prepared,
    )
    (image,) = network_training.super_resolve_scans(
        made.coarse_scans,
        made.scan_mask,
        files.model_file,
        suffixes=("T1w",),
        method=method,
        device="cpu",
        omp_nthreads=1,
        force=False,
        **prepared,
    )
    assert image.name == f"res-hr_desc-{method}_T1w"
    assert np.corrcoef(image.volume.data[head[1]], fine[head[1]])[0, 1] > 0.8


def test_a_corrected_mask_determines_the_voxels_that_are_kept(head, tmp_path, monkeypatch):
    monkeypatch.setattr(
        structural_preparation, "brain_from_head", lambda *_a, **_k: (head[1], np.eye(4), None)
    )
    scan, file = tmp_path / "scan.nii", tmp_path / "mask.nii.gz"
    save_image(head[0]["T1w"].astype(np.float32), AFFINE, scan)
    corrected = ndimage.binary_dilation(head[1], iterations=2)
    corrected[:20] = False
    save_image(corrected.astype(np.float32), AFFINE, file)

    def prepare(extraction):
        return preparation.prepare_scans(
            Volume(np.ones((2, 2, 2)), np.eye(4)),
            Volume(np.ones((2, 2, 2), bool), np.eye(4)),
            [scan],
            given_brain_mask=file,
            here=tmp_path,
            suffixes=("T1w",),
            preparation=structural.ScanPreparation(
                anat_align="rigid",
                anat_mask=extraction,
                anat_tools="ants",
                anat_scale="percentile",
                random_seed=0,
                sloppy=True,
            ),
        )

    for extraction, brain in (("brain", corrected), ("intracranial", corrected & head[1])):
        made = prepare(extraction)
        np.testing.assert_array_equal(made.scan_mask.data, corrected)
        np.testing.assert_array_equal(made.scan_brain.data, brain)
        assert not made.fine_scans[0].volume.data[~corrected].any()
    save_image(corrected[:-1].astype(np.float32), AFFINE, file)
    with pytest.raises(UsageError, match="differs in size or position"):
        prepare("brain")
