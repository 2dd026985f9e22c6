"""Fused structural scans: preparation against known positions, held-out slices, and the steps on
files.
"""

import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from checking import listed
from nibabel.affines import apply_affine, voxel_sizes
from scipy import ndimage

from bids_sr.io.nifti import load_image, save_image
from bids_sr.io.volume import Volume
from bids_sr.notices import UsageError
from bids_sr.pipeline.artifacts import Derivative
from bids_sr.pipeline.store import derivative_path
from bids_sr.registration import structural_preparation, tissues
from bids_sr.registration.model_grid import grid_around
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import rigid_matrix
from bids_sr.sr.models.held_out import held_out_slices
from bids_sr.steps.figures.structural import draw_lowres, draw_scans, explain_scans
from bids_sr.steps.structural import measures as structural_measures
from bids_sr.steps.structural import preparation, training
from bids_sr.steps.structural import scans as structural

SHAPE = (40, 44, 36)
AFFINE = np.array([[2.0, 0, 0, -40], [0, 2, 0, -44], [0, 0, 2, -36], [0, 0, 0, 1]])
CONTRASTS = ["T1w", "FLAIR"]


@pytest.fixture(scope="module")
def head():
    """A textured ellipsoid of three tissues, brain inside a rim, as arrays on the fine grid."""
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
    """Pairs whose coarse members are blurred, moved and sampled at 4 mm."""
    arrays, _ = head
    low = np.diag([4.0, 4, 4, 1])
    low[:3, 3] = AFFINE[:3, 3] + 1
    out = {}
    for contrast in CONTRASTS:
        blurred = ndimage.gaussian_filter(arrays[contrast], 0.8)
        coarse = sample_volume(blurred, AFFINE, (20, 22, 18), low, np.linalg.inv(poses[contrast]))
        out[contrast, "highres"] = Volume(arrays[contrast].astype(np.float32), AFFINE)
        out[contrast, "lowres"] = Volume(coarse, low)
    return out


@pytest.fixture(scope="module")
def poses():
    return {
        "T1w": rigid_matrix([2.0, -1.5, 1.0, 0.03, -0.02, 0.02], (0, 0, 0)),
        "FLAIR": rigid_matrix([-1.0, 2.5, 0.5, -0.02, 0.03, 0.01], (0, 0, 0)),
    }


def prepare(head, poses, tmp_path_factory, **options):
    """Prepare the scans with the true brain (the template's is another test's business)."""
    patch = pytest.MonkeyPatch()
    patch.setattr(
        structural_preparation,
        "brain_from_head",
        lambda *_args, **_how: (head[1], np.eye(4), None),
    )
    patch.setattr(structural_preparation, "unbiased", lambda image, *_mask, **_how: image)
    prefix = str(tmp_path_factory.mktemp("prepared") / "x_")
    made = structural_preparation.prepare(
        scans(head, poses),
        Volume(np.ones((2, 2, 2)), np.eye(4)),
        np.ones((2, 2, 2), bool),
        interpolations=("bspline", "nearest"),
        seed=0,
        prefix=prefix,
        sloppy=True,
        **options,
    )
    patch.undo()
    return made


@pytest.fixture(scope="module")
def prepared(head, poses, tmp_path_factory):
    return prepare(head, poses, tmp_path_factory)


def test_each_scan_can_be_scaled_by_its_own_range(head, poses, prepared, tmp_path_factory):
    made = prepare(head, poses, tmp_path_factory, scale="range")
    arrays, brain = head
    for contrast in CONTRASTS:
        for image in (made.hr[contrast], *(scans[contrast] for scans in made.lr.values())):
            assert (image.min(), image.max()) == (0, 1)
    # the frame itself: linear up to its maximum, nothing is cut off
    inside = arrays["T1w"][brain]
    np.testing.assert_allclose(made.hr["T1w"][brain], inside / inside.max(), atol=1e-6)
    assert (made.hr["T1w"] == 1).sum() == 1
    # the same image in another unit, so the mean is no longer that of the coarse scan
    ratio = made.lr["bspline"]["T1w"][brain].mean() / prepared.lr["bspline"]["T1w"][brain].mean()
    assert ratio < 0.999
    assert made.units["T1w"] > prepared.units["T1w"]


@pytest.mark.parametrize("kind", ["highres", "lowres"])
def test_the_range_is_taken_from_all_that_is_kept(kind, head):
    """A sinus beside the brain is brighter than the brain; nothing may be cut off at 1."""
    arrays, brain = head
    bright = np.where(brain, arrays["T1w"], 3 * arrays["T1w"]).astype(np.float32)
    kept = ndimage.distance_transform_edt(~brain, sampling=2.0) <= 6
    top = bright[kept].max()
    assert top > 1.3 * bright[brain].max()
    at_origin = structural_preparation.Placement(xfm=np.eye(4))
    places = {("T1w", "highres"): at_origin, ("T1w", "lowres"): at_origin}
    scan = Volume(bright, AFFINE)
    made = structural_preparation._assemble(
        dict.fromkeys(places, scan), (places, {}), scan, (brain, kept), ("bspline",), "range"
    )
    image = made.hr["T1w"] if kind == "highres" else made.lr["bspline"]["T1w"]
    np.testing.assert_allclose(image[kept], bright[kept] / top, atol=1e-5)
    assert made.units["T1w"] == pytest.approx(top, rel=1e-5)


def test_prepared_scans_lie_on_one_another_in_one_range(head, prepared):
    assert set(prepared.lr) == {"bspline", "nearest"}
    for contrast in CONTRASTS:
        fine, coarse = prepared.hr[contrast], prepared.lr["bspline"][contrast]
        assert fine.shape == coarse.shape == SHAPE
        for image in (fine, coarse):
            assert image.min() >= 0
            assert image.max() <= 1
            assert not image[~head[1]].any()
        assert np.corrcoef(fine[head[1]], coarse[head[1]])[0, 1] > 0.8
        assert fine[head[1]].mean() == pytest.approx(coarse[head[1]].mean(), rel=0.02)
    assert set(prepared.facts) == {"T1w_lowres", "FLAIR_highres", "FLAIR_lowres"}
    assert prepared.facts["FLAIR_highres"]["offset_mm"] < 0.3
    seen = prepared.lr["bspline"]["T1w"]
    # in the unit of the coarse scan, which is that of the fine one here
    back = seen[head[1]] * prepared.units["T1w"]
    assert back.mean() == pytest.approx(head[0]["T1w"][head[1]].mean(), rel=0.1)
    assert np.percentile(seen[head[1]], 99.9) == pytest.approx(1.0, abs=1e-3)


def test_scans_without_a_measured_one_are_drawn_next_to_each_other(prepared):
    def series(name):
        return [
            Derivative(
                Volume(prepared.lr["bspline"][contrast], AFFINE),
                {"res": "hr", "desc": name, "suffix": contrast},
            )
            for contrast in CONTRASTS
        ]

    facts = {"align": "rigid", "offsets": {"FLAIR_lowres": {"offset_mm": 1.5}}}
    mask = Volume(prepared.mask, AFFINE)
    drawn = {
        one.entities["desc"]: one.content
        for one in draw_lowres(
            series("bspline"), series("linear"), series("unet"), mask, facts, session="later"
        )
    }
    assert list(drawn) == ["lowresscans", "lowresslice", "lowrescoronal", "lowresfacts"]
    assert (
        "Session later. This session has only low-resolution scans (T1w, FLAIR)"
        in drawn["lowresscans"]
    )
    assert "1.5" in drawn["lowresfacts"]
    for name in ("lowresslice", "lowrescoronal"):
        titles = [text.get_text() for ax in drawn[name].axes for text in (ax.title, *ax.texts)]
        shown = [title for title in titles if title in ("linear", "bspline", "unet", "measured")]
        assert shown == ["linear", "bspline", "unet"]


@pytest.mark.parametrize("orientation", ["I-S", "P-A"])
def test_a_grid_around_a_scan_has_its_center_and_the_slices_of_the_model(orientation):
    # stored from left to right, then inferior to superior, then anterior to posterior
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


def test_low_resolution_scans_are_prepared_around_the_first(head, poses, tmp_path, monkeypatch):
    arrays, brain = head
    low = {key: scan for key, scan in scans(head, poses).items() if key[1] == "lowres"}
    first = np.linalg.inv(poses["T1w"])

    def known_brain(frame, *_args, **_how):
        inside = sample_volume(brain, AFFINE, frame.data.shape, frame.affine, first, order=1)
        return inside > 0.5, np.eye(4), None

    monkeypatch.setattr(structural_preparation, "brain_from_head", known_brain)
    monkeypatch.setattr(structural_preparation, "unbiased", lambda image, *_mask, **_how: image)
    made = structural_preparation.prepare(
        low,
        Volume(np.ones((2, 2, 2)), np.eye(4)),
        np.ones((2, 2, 2), bool),
        interpolations=("bspline",),
        grid=grid_around(low["T1w", "lowres"], (2.0, 2.0, 2.0), "I-S"),
        seed=0,
        prefix=str(tmp_path / "x_"),
        sloppy=True,
    )
    assert made.hr == {}
    assert set(made.facts) == {"FLAIR_lowres"}
    assert made.mask.shape == (40, 44, 36)
    np.testing.assert_allclose(voxel_sizes(made.affine), 2.0)
    for contrast in CONTRASTS:
        image = made.lr["bspline"][contrast]
        truth = sample_volume(arrays[contrast], AFFINE, image.shape, made.affine, first)
        inside = made.mask
        assert not image[~inside].any()
        assert np.percentile(image[inside], 99.9) == pytest.approx(1, abs=1e-3)
        assert np.corrcoef(image[inside], truth[inside])[0, 1] > 0.8


def test_slices_that_any_model_was_trained_on_are_no_test():
    cards = []
    for parts in ([[2, 3], [7, 9]], [[7, 8]]):
        found = [{"image": "a", "slices": slices} for slices in parts] + [
            {"image": "b", "slices": [0, 9]}
        ]
        cards.append({"data_sha256": {"a": "x", "b": "y"}, "held_out": {"parts": found}})
    assert held_out_slices(cards[:1], 10, "x") == [2, 7, 8]
    assert held_out_slices(cards, 10, "x") == [7]
    # of another study, whatever its name
    assert held_out_slices(cards, 3, "z") == [0, 1, 2]


def test_a_head_that_was_trained_on_whole_leaves_no_slice_to_judge_by():
    held = {"parts": [{"image": "b", "slices": [0, 9]}]}
    assert held_out_slices([{"data_sha256": {"a": "x", "b": "y"}, "held_out": held}], 9, "x") == []


def test_measures_of_the_measured_scan_itself_are_perfect(prepared):
    rows, labels, _ = structural_measures._measure_rows(
        prepared.hr,
        {"same": prepared.hr, "bspline": prepared.lr["bspline"]},
        prepared.mask,
        prepared.affine,
        range(SHAPE[2]),
        seed=0,
    )
    found = {(row.contrast, row.series, row.statistic, row.region): row.value for row in rows}
    assert found["T1w", "same", "mae", "brain"] == 0
    assert found["all", "same", "tissue_dice", "gm"] == 1
    assert (
        found["FLAIR", "same", "tissue_volume", "wmh"]
        == found["FLAIR", "measured", "tissue_volume", "wmh"]
    )
    assert found["T1w", "bspline", "ssim", "brain"] < 0.99
    assert 0.4 < found["all", "bspline", "tissue_dice", "wm"] < 1
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    ml = prepared.mask.sum() * 8 / 1000
    assert sum(
        found["all", "measured", "tissue_volume", t] for t in ("gm", "wm", "csf")
    ) == pytest.approx(ml)


def test_without_tissues_the_other_measures_remain(prepared, monkeypatch):
    def fails(*_args, **_how):
        raise RuntimeError("Atropos failed")

    monkeypatch.setattr(tissues, "segment_tissues", fails)
    rows, labels, _ = structural_measures._measure_rows(
        prepared.hr,
        {"bspline": prepared.lr["bspline"]},
        prepared.mask,
        prepared.affine,
        [18],
        seed=0,
    )
    measures = {row.statistic for row in rows}
    assert {"psnr", "efc", "tissue_volume"} <= measures
    assert "cjv" not in measures
    assert {row.region for row in rows if row.statistic == "tissue_volume"} == {"wmh"}
    assert not labels.any()


ASKED = SimpleNamespace(
    recipe="fast",
    model_source="auto",
    recipe_changes=(),
    model_dir=None,
    pretrained=None,
    vgg_weights=None,
    train_precision="auto",
    max_train_minutes=None,
    random_seed=0,
    omp_nthreads=1,
    device="cpu",
    force=False,
    sloppy=True,
)


def named(prepared, series, desc, shift=0):
    """Scans of a head that lies `shift` voxels to the right."""
    return [
        Derivative(
            Volume(np.roll(series[contrast], shift, 0), prepared.affine),
            {"res": "hr", "desc": desc, "suffix": contrast},
            {"Resolution": "grid of the first"},
        )
        for contrast in CONTRASTS
    ]


@pytest.fixture
def scans_of(prepared):
    """Fine and coarse scans, and brain."""

    def of(shift=0):
        mask = Volume(np.roll(prepared.mask, shift, 0), prepared.affine)
        return (
            named(prepared, prepared.hr, "measured", shift),
            named(prepared, prepared.lr["bspline"], "bspline", shift),
            mask,
        )

    return of


def test_one_head_from_training_to_measures(head, prepared, scans_of, tmp_path):
    fine, coarse, mask = scans_of()
    model, card_file, log_file = training.train_on_scans(
        mask,
        fine,
        coarse,
        {"sub-01": mask},
        here=tmp_path,
        method="attunet",
        anat_align="rigid",
        anat_scale="percentile",
        **vars(ASKED),
    )
    card = json.loads(card_file.read_text())
    assert (card["contrast"], card["channels"], card["sloppy"]) == ("T1w+FLAIR", 2, True)
    made = training.super_resolve_scans(
        coarse,
        mask,
        model,
        suffixes=("T1w", "FLAIR"),
        method="attunet",
        device="cpu",
        omp_nthreads=1,
    )
    assert [each.name for each in made] == ["res-hr_desc-attunet_T1w", "res-hr_desc-attunet_FLAIR"]
    assert all(each.sidecar["Resolution"] == "grid of the first" for each in made)
    for image, before in zip(made, coarse, strict=True):
        assert np.abs(image.volume.data - before.volume.data)[head[1]].mean() < 0.1
        assert not image.volume.data[~head[1]].any()
    rows, _, _, classes = structural_measures.measure_scans(
        fine,
        coarse,
        [],
        mask,
        mask,
        {},
        made,
        [card],
        here=tmp_path,
        suffixes=tuple(structural.suffixes_of(fine)),
        anat_tools="ants",
        random_seed=1,
    )
    assert {each.name for each in classes} == {
        f"res-hr_desc-{name}_label-WMH_mask" for name in ("measured", "bspline", "attunet")
    }, "classes of all contrasts also need T2w"
    psnr = {
        (row.contrast, row.series): row.value
        for row in rows
        if row.statistic == "psnr" and row.region == "brain"
    }
    sizes = {row.series: row.value for row in rows if row.statistic == "parameters"}
    assert sizes == {"attunet": card["parameters"]}
    assert set(psnr) == {(c, s) for c in CONTRASTS for s in ("bspline", "attunet")}
    kept = sorted({z for part in card["held_out"]["parts"] for z in range(*part["slices"])})
    assert 0 < len(kept) < SHAPE[2] / 3
    truth, seen = prepared.hr["T1w"][..., kept], prepared.lr["bspline"]["T1w"][..., kept]
    inside = prepared.mask[..., kept]
    expected = -10 * np.log10(((truth - seen)[inside] ** 2).mean())
    assert psnr["T1w", "bspline"] == pytest.approx(expected, abs=0.01)
    log = pd.read_csv(log_file, sep="\t", na_values="n/a")
    drawn = explain_scans(coarse, made, mask, model, card, log, fine)
    assert {each.entities["desc"] for each in drawn} == {"attention", "scantraining", "scancard"}
    (port,) = explain_scans.outputs.values()
    looked_at_by_gates_and_critic(
        next(
            path
            for path in Path(port.save(drawn, tmp_path / "x")).read_text().splitlines()
            if "attention" in path
        )
    )
    facts = {"align": "affine", "offsets": {"FLAIR_lowres": {"stretch_percent": 1.25}}}
    shown = draw_scans(
        fine,
        coarse,
        [],
        mask,
        made,
        [card],
        rows,
        classes,
        facts,
        subject_facts={"Participant": "01"},
    )
    assert [each.entities["desc"] for each in shown if not isinstance(each.content, str)] == [
        "scans",
        "scanscoronal",
        "scanmasks",
    ]
    told = "".join(each.content for each in shown if isinstance(each.content, str))
    assert "(affine)" in told
    assert "1.25" in told


def looked_at_by_gates_and_critic(svg):
    """The figure holds the masks of four gates and two maps of the critic, each of its own over
    the slice.
    """
    text = Path(svg).read_text()
    titles = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert [title for title in titles if "attention" in title] == [
        f"attention, gate {n} of 4" for n in (1, 2, 3, 4)
    ]
    scores = [
        re.fullmatch(r"critic, (super-resolved|measured) \(score (0|1)\.\d\d\)", title)
        for title in titles
    ]
    assert [found[1] for found in scores if found] == ["super-resolved", "measured"]
    pictures = re.findall(r'href="data:image/png;base64,([^"]+)"', text)
    assert len(pictures) == len(set(pictures)) == 7, "the slice once, and six maps over it"


def test_a_network_can_be_trained_on_several_other_heads(scans_of, tmp_path):
    heads = {f"sub-0{number}": scans_of(number) for number in (2, 3)}
    fine, coarse = (
        [each for scans in heads.values() for each in scans[which]] for which in (0, 1)
    )
    given = (scans_of(1)[2], fine, coarse, {name: scans[2] for name, scans in heads.items()})
    asked = vars(ASKED) | {"here": tmp_path, "method": "unet", "anat_scale": "percentile"}
    model, card, _ = training.train_on_scans(*given, anat_align="affine", **asked)
    assert json.loads(card.read_text())["images"] == ["sub-02", "sub-03"]
    (tmp_path / "kept").mkdir()
    (tmp_path / "again").mkdir()
    for path in (model, card):
        path.rename(tmp_path / "kept" / path.name)
    asked |= {"model_source": "reuse", "model_dir": tmp_path / "kept", "here": tmp_path / "again"}
    with pytest.raises(
        UsageError,
        match="aligned with --anat-align affine, but these",
    ):
        training.train_on_scans(*given, anat_align="rigid", **asked)
    with pytest.raises(
        UsageError, match="scaled with --anat-scale percentile, but these"
    ) as error:
        training.train_on_scans(*given, anat_align="affine", **asked | {"anat_scale": "range"})
    assert "Use --anat-scale percentile" in str(error.value)
    assert training.train_on_scans(*given, anat_align="affine", **asked)


def test_the_preparation_as_a_node_keeps_the_order_of_its_files(
    prepared, head, tmp_path, monkeypatch
):
    names = []
    for contrast in CONTRASTS:
        names.append(tmp_path / f"{contrast}.nii")
        save_image(head[0][contrast].astype(np.float32), AFFINE, names[-1])
    monkeypatch.setattr(structural_preparation, "prepare", lambda *_args, **_how: prepared)
    node = preparation.prepare_scans.interface(
        highres_files=names,
        lowres_files=names,
        template=names[0],
        template_mask=names[0],
        suffixes=tuple(CONTRASTS),
        baselines="all",
        anat_align="rigid",
        anat_scale="range",
        anat_mask="brain",
        anat_tools="ants",
        random_seed=0,
        sloppy=True,
    )
    prepared.lr.setdefault("linear", prepared.lr["nearest"])
    prepared.lr.setdefault("lanczos", prepared.lr["nearest"])
    out = node.run(cwd=str(tmp_path)).outputs
    for files, series, stack in (
        (listed(out.fine_scans), "measured", prepared.hr),
        (listed(out.other_scans)[-4:], "nearest", prepared.lr["nearest"]),
    ):
        images = [path for path in files if path.suffix == ".nii"]
        assert [path.name for path in images] == [
            f"res-hr_desc-{series}_{c}.nii" for c in CONTRASTS
        ]
        for contrast, path in zip(CONTRASTS, images, strict=True):
            np.testing.assert_array_equal(load_image(path)[0], stack[contrast])
    assert set(json.loads(Path(out.scan_facts).read_text())["units"]) == set(CONTRASTS)
    about = json.loads(listed(out.fine_scans)[1].read_text())
    assert about["Resolution"] == "grid of the high-resolution T1w scan"
    assert "0 and 1 are the minimum and maximum" in about["Description"]


def test_the_table_of_measures_is_stored_with_its_columns(scans_of, tmp_path):
    fine, coarse, mask = scans_of()
    rows, described, tissues_found, _ = structural_measures.measure_scans(
        fine,
        coarse,
        [],
        mask,
        mask,
        {},
        [],
        [],
        here=tmp_path,
        suffixes=tuple(structural.suffixes_of(fine)),
        anat_tools="ants",
        random_seed=1,
    )
    port = structural_measures.measure_scans.outputs["scan_metrics"]
    with Path(port.save(rows, tmp_path / "x")).open(newline="") as stream:
        lines = list(csv.DictReader(stream, delimiter="\t"))
    assert list(lines[0]) == list(described)
    assert len(lines) == len(rows)
    assert set(np.unique(tissues_found.data)) == {0, 1, 2, 3}


def test_a_lesion_template_is_carried_to_the_scans_and_limits_where_lesions_start(
    prepared, scans_of, tmp_path
):
    """Known spots inside and outside the template; the template has another grid and position."""
    fine, coarse, mask = scans_of()
    spots = {"inside": (18, 20, 20), "outside": (18, 28, 20)}
    flair = 0.5 * np.ones(SHAPE) + np.random.default_rng(0).normal(0, 0.01, SHAPE)
    places = {}
    for name, (x, y, z) in spots.items():
        places[name] = (slice(x, x + 4), slice(y, y + 4), slice(z, z + 4))
        flair[places[name]] = 0.9
    flair = np.where(prepared.mask, flair, 0).astype(np.float32)
    fine = [fine[0], Derivative(Volume(flair, AFFINE), fine[1].entities, {})]
    to_template = np.diag([0.9, 1.0, 1.1, 1.0])
    to_template[:3, 3] = (3.0, -2.0, 1.0)
    # the template contains the scan's box of the first spot and a margin of 2 voxels
    corners = np.array([(16, 18, 18), (24, 26, 26)]) @ AFFINE[:3, :3] + AFFINE[:3, 3]
    low, high = corners @ to_template[:3, :3] + to_template[:3, 3]
    prior = np.zeros((60, 60, 60), np.float32)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-60.0, -60.0, -60.0)
    (a, b, c), (d, e, f) = np.round((np.array([low, high]) + 60) / 2).astype(int)
    prior[a:d, b:e, c:f] = 0.02
    file = tmp_path / "lesions.nii.gz"
    save_image(prior, affine, file)
    found = {}
    for name, given in (("without", {}), ("with", {"given_lesion_template": file})):
        _, _, _, classes = structural_measures.measure_scans(
            fine,
            coarse,
            [],
            mask,
            mask,
            {"to_template": to_template.tolist()},
            [],
            [],
            here=tmp_path,
            suffixes=tuple(structural.suffixes_of(fine)),
            anat_tools="ants",
            random_seed=1,
            **given,
        )
        found[name] = next(
            each.volume.data for each in classes if each.entities["desc"] == "measured"
        )
    for name, place in places.items():
        assert found["without"][place].mean() > 0.8, name
    assert found["with"][places["inside"]].mean() > 0.8
    assert not found["with"][places["outside"]].any()


def test_tissues_are_segmented_in_the_brain_only_where_more_of_the_scans_remains(prepared):
    from bids_sr.registration.multispectral import CLASSES

    random = np.random.default_rng(1)
    around = ndimage.binary_dilation(prepared.mask, iterations=3)
    scans = {
        name: np.where(around, 0.6 + random.normal(0, 0.05, SHAPE), 0).astype(np.float32)
        for name in ("T1w", "T2w", "FLAIR")
    }
    rows, _, classes = structural_measures._measure_rows(
        scans, {}, around, AFFINE, [], brain=prepared.mask, seed=0
    )
    assert set(classes["all"]["measured"]) == set(CLASSES)
    brain_ml = prepared.mask.sum() * 8 / 1000
    assert sum(
        row.value
        for row in rows
        if row.statistic == "tissue_volume"
        and row.contrast == "all"
        and row.region in ("gm", "wm", "csf")
    ) == pytest.approx(brain_ml)


def test_fsl_corrects_each_scan_by_its_contrast_and_sets_the_brain(
    head, poses, tmp_path, monkeypatch
):
    from bids_sr.registration import fsl

    names = []
    for (contrast, kind), image in scans(head, poses).items():
        names.append(tmp_path / f"{kind}_{contrast}.nii")
        save_image(image.data.astype(np.float32), image.affine, names[-1])
    corrected = []

    def unbiased(image, contrast, folder):
        assert folder.is_dir()
        assert not list(folder.iterdir())
        (folder / "used").touch()
        corrected.append((contrast, image.data.shape))
        return image

    smaller = ndimage.binary_erosion(head[1], iterations=2)
    monkeypatch.setattr(fsl, "unbiased_by_fast", unbiased)
    monkeypatch.setattr(fsl, "brain_by_bet", lambda image, folder: smaller)
    away_mm = np.eye(4)
    away_mm[0, 3] = 30
    affines = []

    def flirt(frame, image, folder, *, affine):
        affines.append(affine)
        return away_mm

    monkeypatch.setattr(fsl, "aligned_by_flirt", flirt)
    monkeypatch.setattr(
        structural_preparation, "brain_from_head", lambda *_a, **_k: (head[1], np.eye(4), None)
    )
    found = {}
    for kept in ("brain", "intracranial"):
        _, coarse, other, mask, brain, facts = preparation.prepare_scans(
            [path for path in names if path.name.startswith("highres")],
            [path for path in names if path.name.startswith("lowres")],
            Volume(np.ones((2, 2, 2)), np.eye(4)),
            Volume(np.ones((2, 2, 2), bool), np.eye(4)),
            here=tmp_path,
            suffixes=tuple(CONTRASTS),
            baselines="default",
            anat_align="rigid",
            anat_mask=kept,
            anat_tools="fsl",
            anat_scale="percentile",
            random_seed=0,
            sloppy=True,
        )
        np.testing.assert_array_equal(brain.data, smaller)
        found[kept] = mask.data
    assert sorted(corrected[:4]) == sorted(
        (contrast, shape) for contrast in CONTRASTS for shape in (SHAPE, (20, 22, 18))
    )
    np.testing.assert_array_equal(found["brain"], smaller)
    assert affines == [False] * 4
    # trilinear scans are where FLIRT puts them, all others where ANTs does
    assert [each.entities["desc"] for each in other] == ["linear", "linear"]
    low = scans(head, poses)["T1w", "lowres"]
    direct = sample_volume(low.data, low.affine, SHAPE, AFFINE, away_mm, order=1)
    inside = smaller & (other[0].volume.data < 1)
    unit = facts["units"]["T1w"]
    np.testing.assert_allclose(other[0].volume.data[inside] * unit, direct[inside], rtol=1e-3)
    assert np.corrcoef(coarse[0].volume.data[inside], direct[inside])[0, 1] < 0.8
    assert facts["offsets"]["T1w_lowres_trilinear"]["offset_mm"] == pytest.approx(30, abs=0.01)
    away = ndimage.distance_transform_edt(~smaller, sampling=2.0)
    np.testing.assert_array_equal(found["intracranial"], away <= 6)
    assert facts["to_template"] == np.eye(4).tolist()


def test_quality_metrics_use_the_tissues_of_fast_and_volumes_those_of_atropos(
    prepared, scans_of, tmp_path, monkeypatch
):
    from bids_sr.registration import fsl

    fine, coarse, mask = scans_of()
    brain = prepared.mask
    given = []
    # thirds of the brain: known masks that no program would find
    third = np.indices(SHAPE)[2] * 3 // SHAPE[2]
    masks = {name: brain & (third == k) for k, name in enumerate(("gm", "wm", "csf"))}

    def by_fast(image, inside, contrast, folder):
        assert folder.is_dir()
        given.append((image.data, inside, contrast))
        return masks

    monkeypatch.setattr(fsl, "tissues_by_fast", by_fast)
    found = {}
    for tools in ("ants", "fsl"):
        rows, _, dseg, _ = structural_measures.measure_scans(
            fine,
            coarse,
            [],
            mask,
            mask,
            {},
            [],
            [],
            here=tmp_path,
            suffixes=tuple(structural.suffixes_of(fine)),
            anat_tools=tools,
            random_seed=1,
        )
        found[tools] = {
            (row.contrast, row.series, row.statistic, row.region): row.value for row in rows
        }
    ((image, inside, contrast),) = given
    np.testing.assert_array_equal(image, prepared.hr["T1w"])
    np.testing.assert_array_equal(inside, brain)
    assert contrast == "T1w"
    for label, name in enumerate(("gm", "wm", "csf"), 1):
        np.testing.assert_array_equal(dseg.data == label, masks[name])
    scan = coarse[0].volume.data
    ratio = (scan[masks["wm"]].std() + scan[masks["gm"]].std()) / abs(
        scan[masks["wm"]].mean() - scan[masks["gm"]].mean()
    )
    assert found["fsl"]["T1w", "bspline", "cjv", "brain"] == pytest.approx(ratio, rel=1e-3)
    assert found["ants"]["T1w", "bspline", "cjv", "brain"] != pytest.approx(ratio, rel=0.05)
    volumes = [key for key in found["ants"] if key[2] in ("tissue_volume", "tissue_dice")]
    assert volumes
    np.testing.assert_array_equal(*([found[t][key] for key in volumes] for t in ("ants", "fsl")))


def test_classes_and_lesions_of_each_series_are_stored_with_their_meaning():
    box = np.zeros((4, 4, 4), bool)
    box[1:3, 1:3, 1:3] = True
    classes = {
        "all": {name: {"veins": box} for name in ("measured", "attunet")},
        "FLAIR": {name: {"wmh": box} for name in ("measured", "attunet")},
    }
    images = structural_measures._class_images(classes, AFFINE, {"Resolution": "as before"})
    assert [
        derivative_path(
            {**each.entities, "subject": "01", "datatype": "anat", "extension": ".nii.gz"}
        )
        for each in images
    ] == [
        f"sub-01/anat/sub-01_res-hr_label-{label}_desc-{name}_{suffix}.nii.gz"
        for label, suffix in (("classes", "dseg"), ("WMH", "mask"))
        for name in ("measured", "attunet")
    ]
    assert all(each.sidecar["Resolution"] == "as before" for each in images)
    np.testing.assert_array_equal(images[0].volume.data, 2 * box)
    assert "2 veins" in images[0].sidecar["Description"]
    assert images[2].sidecar["Type"] == "Lesion"


def test_an_edited_mask_is_the_reference_of_volumes_and_overlaps(prepared, scans_of, tmp_path):
    fine, coarse, mask = scans_of()
    edited = np.zeros(SHAPE, np.float32)
    edited[18:22, 20:25, 20:23] = 1
    file = tmp_path / "edited.nii.gz"
    save_image(edited, AFFINE, file)

    def measured(**given):
        rows, _, _, images = structural_measures.measure_scans(
            fine,
            coarse,
            [],
            mask,
            mask,
            {},
            [],
            [],
            here=tmp_path,
            suffixes=tuple(structural.suffixes_of(fine)),
            anat_tools="ants",
            random_seed=1,
            **given,
        )
        values = {
            (row.series, row.statistic): row.value
            for row in rows
            if row.contrast == "FLAIR" and row.region == "wmh"
        }
        lesions = {each.entities["desc"]: each.volume.data for each in images}
        return values, lesions

    automatic, stored = measured()
    values, stored_again = measured(given_wmh_reference=file)
    assert values["measured", "tissue_volume"] == pytest.approx(60 * 8 / 1000)
    assert automatic["measured", "tissue_volume"] != pytest.approx(60 * 8 / 1000)
    low = stored["bspline"]
    shared = (low & (edited > 0)).sum()
    assert values["bspline", "tpf"] == pytest.approx(shared / 60)
    assert values["bspline", "tissue_volume"] == automatic["bspline", "tissue_volume"]
    # automatic masks are stored as before, so that the edited file is never overwritten by itself
    for name, voxels in stored.items():
        np.testing.assert_array_equal(stored_again[name], voxels)
    moved = AFFINE.copy()
    moved[0, 3] += 1
    save_image(edited, moved, file)
    with pytest.raises(UsageError, match="differs in size or position"):
        measured(given_wmh_reference=file)
