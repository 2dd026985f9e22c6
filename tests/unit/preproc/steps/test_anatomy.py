"""Test anatomy offline: templates and atlases, bias, brain mask, normalization, tissues and
regions against known truth.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data.head import brain, head_with_neck, template, whole_head
from nibabel.affines import apply_affine as apply

from bids_sr.glm.steps import atlas_regions
from bids_sr.glm.steps.atlas_regions import Atlas
from bids_sr.io.nifti import save_image
from bids_sr.io.region_names import find_atlas, region_labels
from bids_sr.io.region_spaces import T1W, TEMPLATE, RegionSpace
from bids_sr.io.template_files import DEFAULT_SPACE, available_templates
from bids_sr.io.volume import Volume
from bids_sr.preproc import templates
from bids_sr.preproc.ants import apply as resample, load
from bids_sr.preproc.brain import check_brain
from bids_sr.preproc.steps import anatomy
from bids_sr.preproc.steps.aligned_series import BrainMasks
from bids_sr.preproc.steps.registration import region_to_bold
from bids_sr.preproc.template_regions import find_region
from bids_sr.spatial import low_resolution_grids, similarity
from bids_sr.spatial.itk_files import write_itk
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import invert, rigid_matrix

# maps a template point to its point in the head
POSE = rigid_matrix([6, -25, 18, 0.30, 0.05, -0.08], [0, -18, 10])


@dataclass(frozen=True)
class Heads:
    """Template at 2 mm and its brain, a head in another pose, its true brain, and the head without
    skull.
    """

    template: Volume
    template_mask: Volume
    head: Volume
    true: Volume
    stripped: Volume


def write_image(path: Path, image: Volume) -> Path:
    save_image(image.data, image.affine, path)
    return path


@pytest.fixture(scope="module")
def heads() -> Heads:
    t1, mask = brain(2.0)
    head, inside = whole_head(2.5)
    # The voxels of the head stay, but the scanner has another orientation.
    turned_affine = POSE @ head.affine
    noise = np.random.default_rng(0).normal(0, 8, head.data.shape)
    grid = grid_around(turned_affine, head.data.shape)
    data = sample_volume(
        np.maximum(head.data + noise, 0), turned_affine, *grid, order=1, zero_outside=True
    )
    true_brain = (
        sample_volume(inside.astype(np.float32), turned_affine, *grid, order=1, zero_outside=True)
        > 0.5
    )
    scanned = Volume(data, grid[1])
    return Heads(
        t1, t1.like(mask), scanned, scanned.like(true_brain), scanned.like(data * true_brain)
    )


def grid_around(
    affine: np.ndarray, shape: tuple[int, ...]
) -> tuple[tuple[int, int, int], np.ndarray]:
    """Return a 2.5 mm grid along the scanner axes that contains the center of an oblique field of
    view.
    """
    middle = affine @ [*(np.array(shape) - 1) / 2, 1]
    size = (88, 104, 96)
    grid_affine = np.diag([2.5, 2.5, 2.5, 1.0])
    grid_affine[:3, 3] = middle[:3] - 2.5 * (np.array(size) - 1) / 2
    return size, grid_affine


@pytest.mark.parametrize("space", ["MNI152NLin2009cAsym", "MNI152NLin2009aSym"])
def test_installed_templates_with_tissue_maps_are_complete(space: str) -> None:
    t1, mask, (gray, white) = anatomy.load_template(template_space=space)
    assert 1.7e6 < mask.data.sum() * abs(np.linalg.det(t1.affine[:3, :3])) < 2.0e6
    assert not t1.data[~mask.data].any()
    assert 0.9 < np.percentile(t1.data[mask.data], 99) <= 1.2
    assert np.percentile(white.data[mask.data & (t1.data > 0.95)], 20) > 0.9
    assert gray.data.max() <= 1 + 1e-6


def test_the_default_template_does_not_depend_on_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file in the cache replaces other installed templates, but not the default template."""
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
    spaces = (DEFAULT_SPACE, "MNI152NLin2009aSym")
    loaded = [templates.load_template(space) for space in spaces]
    cube = np.random.default_rng(0).integers(1, 250, (20, 20, 20)).astype(np.uint8)
    for space in spaces:
        (folder := tmp_path / f"tpl-{space}").mkdir()
        for ending in ("T1w", "desc-brain_mask", "label-GM_probseg", "label-WM_probseg"):
            save_image(cube, np.eye(4), folder / f"tpl-{space}_res-01_{ending}.nii.gz")
    default, other = (templates.load_template(space) for space in spaces)
    for image, before in zip(
        (default.t1, default.mask, *default.tissues),
        (loaded[0].t1, loaded[0].mask, *loaded[0].tissues),
        strict=True,
    ):
        assert np.array_equal(image.data, before.data)
        assert np.array_equal(image.affine, before.affine)
    assert other.t1.data.shape == cube.shape != loaded[1].t1.data.shape


def test_the_templateflow_cache_is_used_only_if_it_contains_images(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
    folder = tmp_path / "tpl-MNIColin27"
    folder.mkdir()
    for ending in ("T1w.nii.gz", "desc-brain_mask.nii.gz"):
        # The skeleton of TemplateFlow has file names without content.
        (folder / f"tpl-MNIColin27_res-01_{ending}").touch()
    assert available_templates() == ("MNI152NLin2009cAsym", "MNI152NLin2009aSym")
    with pytest.raises(templates.InvalidInput, match="MNI152NLin2009cAsym"):
        templates.load_template("MNIColin27")
    rng = np.random.default_rng(0)
    mask = np.zeros((30, 30, 30), dtype=np.uint8)
    mask[5:25, 5:25, 5:25] = 1
    save_image(
        rng.random(mask.shape).astype(np.float32),
        np.eye(4),
        folder / "tpl-MNIColin27_res-01_T1w.nii.gz",
    )
    noisy = (mask * rng.integers(1, 250, mask.shape)).astype(np.uint8)
    save_image(noisy, np.eye(4), folder / "tpl-MNIColin27_res-01_desc-brain_mask.nii.gz")
    assert "MNIColin27" in available_templates()
    loaded = templates.load_template("MNIColin27")
    assert loaded.mask.data.sum() == 8000
    assert loaded.tissues == []


def test_the_motor_area_is_around_the_central_sulcus() -> None:
    atlas = find_atlas()
    motor = templates.atlas_region(load(atlas.image), region_labels("motor"), atlas.labels)
    points = apply(motor.affine, np.argwhere(motor.data))
    assert 120e3 < len(points) * 8 < 200e3
    # hand knobs, supplementary motor area; occipital, frontal and cerebellar points
    inside = ([-38, -22, 56], [38, -22, 56], [-4, -4, 60])
    outside = ([0, -90, 0], [-42, 22, 10], [0, -55, -30])
    mm = [np.linalg.norm(points - point, axis=1).min() for point in (*inside, *outside)]
    assert max(mm[:3]) < 2 < 10 < min(mm[3:])


def test_a_known_bias_field_is_removed(tmp_path: Path) -> None:
    image, mask = brain(4.0)
    points = apply(image.affine, np.argwhere(np.ones(mask.shape))).reshape(*mask.shape, 3)
    field = np.exp(
        0.004 * points[..., 2] - 0.003 * points[..., 1] + 2e-5 * (points**2).sum(axis=-1)
    )
    biased = image.like((500 * image.data * field).astype(np.float32))
    inside = mask & (image.data > 0.5)
    for corrected, bound in (
        (anatomy.correct_brain(biased, image.like(mask), random_seed=1, sloppy=False), 0.3),
        (anatomy.correct_head(write_image(tmp_path / "t1w.nii", biased), random_seed=1), 0.8),
    ):
        spread = [
            np.std(np.log(values[inside] / image.data[inside]))
            for values in (biased.data, corrected.data)
        ]
        assert spread[1] < bound * spread[0]
        assert np.allclose(corrected.affine, image.affine)
        assert corrected.data.dtype == np.float32


@pytest.mark.parametrize(
    ("image_name", "sloppy", "bound"),
    [
        ("head", False, 0.95),
        pytest.param("stripped", False, 0.95, marks=pytest.mark.slow),
        pytest.param("head", True, 0.93, marks=pytest.mark.slow),
    ],
)
def test_the_brain_is_found_in_a_head_and_in_a_skull_stripped_image(
    heads: Heads, image_name: str, sloppy: bool, bound: float, tmp_path: Path
) -> None:
    images = (getattr(heads, image_name), heads.template, heads.template_mask)
    mask, start, _ = anatomy.mask_brain(*images, here=tmp_path, random_seed=1, sloppy=sloppy)
    assert mask.data.shape == heads.true.data.shape
    assert similarity.dice(mask.data, heads.true.data) > bound
    points = apply(heads.template_mask.affine, np.argwhere(heads.template_mask.data))
    error_mm = np.linalg.norm(apply(start[0], points) - apply(POSE, points), axis=1)
    # The transform maps a template point to its head point, as documented.
    assert error_mm.mean() < 3
    if sloppy:
        repeated = anatomy.find_start(*images, here=tmp_path, random_seed=1, sloppy=True)
        assert np.array_equal(repeated, start)


@pytest.mark.parametrize("slice_mm", [pytest.param(2.5, marks=pytest.mark.slow), 5.0])
def test_the_template_is_not_stretched_into_the_scalp_of_a_head_with_face_and_neck(
    heads: Heads, slice_mm: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head, true_brain = head_with_neck(slice_mm=slice_mm)
    mask, start, facts = anatomy.mask_brain(
        head, heads.template, heads.template_mask, here=tmp_path, random_seed=1, sloppy=False
    )
    assert similarity.dice(mask.data, true_brain) > 0.97
    assert np.linalg.det(start[0, :3, :3]) == pytest.approx(0.9**3, abs=0.04)
    assert facts["brain_volume_ml"] == pytest.approx(
        true_brain.sum() * abs(np.linalg.det(head.affine)) / 1000, rel=0.06
    )
    assert facts["brain_nmi"] > facts["brain_nmi_headers"]
    assert facts["brain_template_dice"] > 0.9
    assert facts["brain_doubts"] == []
    assert not caplog.records


@pytest.mark.slow
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_brain_is_found_if_the_header_is_wrong_by_a_quarter_turn(
    axis: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head, true_brain = whole_head(2.5)
    turn = rigid_matrix([9, -7, 5, *(np.pi / 2 * np.eye(3)[axis])], [0, -18, 10])
    turned = Volume(head.data, turn @ head.affine)
    t1, mask = brain(2.0)
    head_brain, start, facts = anatomy.mask_brain(
        turned, t1, t1.like(mask), here=tmp_path, random_seed=1, sloppy=True
    )
    assert similarity.dice(head_brain.data, true_brain) > 0.97
    points = apply(t1.affine, np.argwhere(mask))
    shifts = np.linalg.norm(apply(start[0], points) - apply(turn, points), axis=1)
    assert shifts.mean() < 2.5
    assert abs(facts["brain_turned_deg"] - 90) < 3
    assert "rotated the head by" in caplog.text


@pytest.mark.parametrize(
    ("facts", "number"),
    [
        ({"volume": 1901.0}, "1901 ml"),
        ({"volume": 899.0}, "899 ml"),
        ({"determinant": 1.11}, "1.11"),
        ({"nmi": 1.01}, ""),
        ({"template_dice": 0.84}, "0.84"),
    ],
)
def test_implausible_brains_are_reported(facts: dict[str, float], number: str) -> None:
    plausible = {"volume": 1300.0, "determinant": 0.8, "nmi": 1.05, "nmi_headers": 1.02}
    plausible["template_dice"] = 0.95
    assert check_brain(**plausible)["brain_doubts"] == []
    (doubt,) = check_brain(**plausible | facts)["brain_doubts"]
    assert number in doubt


def test_transforms_between_template_and_t1w_are_inverse(heads: Heads, tmp_path: Path) -> None:
    start = POSE @ rigid_matrix([2, 1, -2, 0.02, 0, 0], [0, 0, 0])
    to_std, from_std, std = anatomy.normalize_t1w(
        heads.head,
        heads.true,
        start[None],
        heads.template,
        heads.template_mask,
        here=tmp_path,
        random_seed=1,
        sloppy=True,
    )
    t1, mask = brain(2.0)
    assert np.allclose(std.zooms, 2)
    full = template().t1
    expected = sample_volume(full.data, full.affine, std.data.shape, std.affine)
    assert np.corrcoef(std.data[expected > 0.1], expected[expected > 0.1])[0, 1] > 0.8
    blob_at = np.array([-38.0, -22.0, 56.0])
    points = apply(t1.affine, np.argwhere(np.ones(mask.shape))).reshape(*mask.shape, 3)
    blob = t1.like(np.exp(-0.5 * ((points - blob_at) ** 2).sum(axis=-1) / 50).astype(np.float32))
    head = heads.head
    blob_in_head = resample(blob, head, [from_std], seed=1)
    center = (
        apply(head.affine, np.argwhere(np.ones(blob_in_head.shape))) * blob_in_head.reshape(-1, 1)
    ).sum(axis=0) / blob_in_head.sum()
    assert np.linalg.norm(center - apply(POSE, blob_at[None])[0]) < 2.5
    blob_in_template = resample(head.like(blob_in_head), t1, [to_std], seed=1)
    recovered_center = (points.reshape(-1, 3) * blob_in_template.reshape(-1, 1)).sum(
        axis=0
    ) / blob_in_template.sum()
    assert np.linalg.norm(recovered_center - blob_at) < 0.7


def test_tissues_of_the_template_are_recovered(heads: Heads, tmp_path: Path) -> None:
    t1, mask = brain(2.0)
    tissues = template().tissues
    assert tissues is not None
    priors = [
        t1.like(low_resolution_grids.downsample_volume(image.data, image.affine, 2.0)[0])
        for image in tissues
    ]
    write_itk(tmp_path / "std.txt", np.eye(4))
    for tissue_priors in (priors, []):
        labels, probabilities = anatomy.segment_tissues(
            heads.template, heads.template_mask, tmp_path / "std.txt", tissue_priors, random_seed=1
        )
        for label, prior in ((1, priors[0]), (2, priors[1])):
            assert similarity.dice(labels.data == label, prior.data > 0.5) > 0.8
        assert np.allclose(sum(tissue.data for tissue in probabilities)[mask], 1, atol=1e-4)
        for label, tissue in enumerate(probabilities, 1):  # GM, WM, CSF
            assert tissue.data[labels.data == label].mean() > 0.8


@pytest.fixture
def to_std(tmp_path: Path) -> Path:
    # maps a T1w point to its template point
    write_itk(path := tmp_path / "std2t1w.txt", invert(POSE))
    return path


def resample_atlas(
    heads: Heads, to_std: Path, atlas: str = "AAL2", atlas_space: RegionSpace = TEMPLATE
) -> tuple[Volume, Volume, pd.DataFrame, list[Path]]:
    space = "MNI152NLin2009aSym"
    return atlas_regions.resample_atlas(
        heads.head,
        to_std,
        atlas=atlas,
        atlas_space=atlas_space,
        template_space=space,
        random_seed=1,
    )


def region_of(
    heads: Heads,
    to_std: Path,
    roi: str,
    atlas: str = "AAL2",
    space: RegionSpace = T1W,
    atlas_space: RegionSpace = TEMPLATE,
) -> tuple[Volume, Volume, list[Path]]:
    image, _, table, xfms = resample_atlas(heads, to_std, atlas, atlas_space)
    return atlas_regions.define_region(
        heads.head,
        heads.true,
        to_std,
        Atlas(atlas_source=image, atlas_labels=table, atlas_xfms=xfms),
        roi=roi,
        roi_space=space,
        atlas_name=atlas,
        random_seed=1,
    )


def test_the_motor_area_is_transformed_to_the_participant(heads: Heads, to_std: Path) -> None:
    region, source, xfms = region_of(heads, to_std, "motor")
    _, atlas, table, _ = resample_atlas(heads, to_std)
    points = apply(region.affine, np.argwhere(region.data))
    for hand_point in ([-38, -22, 56], [38, -22, 56]):
        assert (
            np.linalg.norm(
                points - apply(POSE, np.array([hand_point], dtype=float))[0], axis=1
            ).min()
            < 3
        )
    assert xfms == [to_std]
    volumes = [
        np.count_nonzero(mask.data) * abs(np.linalg.det(mask.affine[:3, :3]))
        for mask in (region, source)
    ]
    assert abs(volumes[0] / volumes[1] - 1) < 0.03
    assert {2001, 2002, 6001, 6002} <= set(np.unique(atlas.data).astype(int))
    assert atlas.data.dtype == np.int16
    assert dict(zip(table["name"], table["index"], strict=True)) == dict(find_atlas().labels)


def test_the_motor_area_is_transformed_from_the_template_to_both_bold_grids(
    heads: Heads, to_std: Path, tmp_path: Path
) -> None:
    on_t1w, source, xfms = region_of(heads, to_std, "motor")
    center = apply(on_t1w.affine, np.argwhere(on_t1w.data)).mean(axis=0)
    boldref2t1w = rigid_matrix([9, -6, 4, 0.1, 0.0, 0.2], center)
    grids = []
    for n, mm in ((30, 6.0), (60, 3.0)):
        affine = np.diag([mm, mm, mm, 1.0])
        affine[:3, 3] = apply(boldref2t1w, center) - mm * (n - 1) / 2
        grids.append(Volume(np.ones((n, n, n), dtype=bool), affine))
    *regions, facts = region_to_bold(
        source,
        BrainMasks(bold_mask=grids[0], bold_mask_hr=grids[1]),
        boldref2t1w[None],
        xfms,
        here=tmp_path,
        random_seed=1,
    )
    assert facts["roi_fraction_in_fov"] == 1
    for region in regions:
        expected = sample_volume(
            on_t1w.data.astype(np.float32),
            on_t1w.affine,
            region.data.shape,
            invert(boldref2t1w) @ region.affine,
            order=1,
            zero_outside=True,
        )
        assert similarity.dice(region.data, expected > 0.5) > 0.8


def test_an_atlas_of_the_user_may_be_in_t1w_or_template_space(
    heads: Heads, to_std: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.tsv").write_text("index\tname\n0\tBackground\n70000\tHand_L\n")
    spaces: dict[RegionSpace, Volume] = {T1W: heads.head, TEMPLATE: heads.template}
    for space, image in spaces.items():
        (tmp_path / space).mkdir()
        data = np.zeros(image.data.shape, np.int32)
        data[40:50, 50:60, 45:55] = 70000
        path = write_image(tmp_path / space / "mine.nii.gz", image.like(data))
        (tmp_path / space / "mine.tsv").write_text((tmp_path / "mine.tsv").read_text())
        source, on_t1w, table, xfms = resample_atlas(heads, to_std, str(path), space)
        assert xfms == ([] if space == T1W else [to_std])
        assert set(np.unique(on_t1w.data)) == {0, 70000}
        (label,) = table.to_dict("records")
        assert (label["index"], label["name"]) == (70000, "Hand_L")
        voxel_mm3 = np.prod(on_t1w.zooms)
        assert label["volume_mm3"] == pytest.approx((on_t1w.data > 0).sum() * voxel_mm3)
        if space == T1W:
            assert np.array_equal(on_t1w.data, data)
        region, _, region_xfms = region_of(heads, to_std, "hand", str(path), atlas_space=space)
        assert region_xfms == xfms
        assert similarity.dice(region.data, on_t1w.data > 0) > 0.95
        assert source.data.shape == image.data.shape


def test_the_region_may_be_the_brain_or_a_mask_file(
    heads: Heads, to_std: Path, tmp_path: Path
) -> None:
    brain_region, _, xfms = region_of(heads, to_std, "brain")
    assert xfms == []
    assert np.array_equal(brain_region.data, heads.true.data)
    data = np.zeros(heads.head.data.shape, dtype=np.float32)
    data[40:50, 50:60, 55:65] = 7
    path = write_image(tmp_path / "own.nii", heads.head.like(data))
    file_region, _, xfms = region_of(heads, to_std, str(path))
    assert xfms == []
    assert np.array_equal(file_region.data, data > 0)
    _, _, xfms = region_of(heads, to_std, str(path), space=TEMPLATE)
    assert xfms == [to_std]


def test_a_region_file_must_exist_and_contain_voxels(tmp_path: Path) -> None:
    t1w = Volume(np.zeros((88, 104, 96)), np.diag([2.5, 2.5, 2.5, 1]))
    with pytest.raises(ValueError, match="specify brain, names of atlas regions"):
        find_region(str(tmp_path / "missing.nii"), t1w)
    with pytest.raises(ValueError, match="empty"):
        find_region(str(write_image(tmp_path / "none.nii", t1w)), t1w)
