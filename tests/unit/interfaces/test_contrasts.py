"""Fused structural scans: preparation against known positions, held-out slices, and the steps on files."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.interfaces.learning import fused_scores
from bids_sr.interfaces.learning.fused_contrasts import (
    MeasureContrasts,
    PrepareContrasts,
    ResolveContrasts,
    TrainContrasts,
)
from bids_sr.interfaces.learning.fused_scores import held_out_slices, measured_rows
from bids_sr.interfaces.reporting.structural_reportlets import ExplanationReport, ScansReport
from bids_sr.io.nifti import load_image, save_image
from bids_sr.registration import structural_preparation
from bids_sr.registration.ants import Image
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import rigid_matrix
from bids_sr.sr.models.compatibility import ModelMismatch
from bids_sr.sr.training.fused import contrast_set

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
    fluid, gray = (radius < 1) & (texture > 1.2), (radius < 1) & (texture <= 1.2) & (texture > -0.1)
    white = (radius < 1) & (texture <= -0.1)
    rim = (radius >= 1.08) & (radius < 1.2)
    t1w = 100 * fluid + 400 * gray + 650 * white + 500.0 * rim
    flair = 60 * fluid + 600 * gray + 400 * white + 300.0 * rim
    noisy = {name: image + rng.normal(0, 12, SHAPE) for name, image in (("T1w", t1w), ("FLAIR", flair))}
    return {name: np.maximum(image, 0) for name, image in noisy.items()}, radius < 1


def scans(head, poses):
    """Pairs whose coarse members are blurred, moved and sampled at 4 mm."""
    arrays, _ = head
    low = np.diag([4.0, 4, 4, 1])
    low[:3, 3] = AFFINE[:3, 3] + 1
    out = []
    for contrast in CONTRASTS:
        blurred = ndimage.gaussian_filter(arrays[contrast], 0.8)
        coarse = sample_volume(blurred, AFFINE, (20, 22, 18), low, np.linalg.inv(poses[contrast]))
        out.append(structural_preparation.Scans(
            contrast=contrast, highres=Image(data=arrays[contrast].astype(np.float32), affine=AFFINE),
            lowres=Image(data=coarse, affine=low),
        ))  # fmt: skip
    return out


@pytest.fixture(scope="module")
def poses():
    return {
        "T1w": rigid_matrix([2.0, -1.5, 1.0, 0.03, -0.02, 0.02], (0, 0, 0)),
        "FLAIR": rigid_matrix([-1.0, 2.5, 0.5, -0.02, 0.03, 0.01], (0, 0, 0)),
    }


@pytest.fixture(scope="module")
def prepared(head, poses, tmp_path_factory):
    """The scans, prepared with the true brain (the template's is another test's business)."""
    patch = pytest.MonkeyPatch()
    patch.setattr(structural_preparation, "brain_from_head", lambda *_args, **_how: (head[1], np.eye(4), None))
    patch.setattr(structural_preparation, "unbiased", lambda image, **_how: image)
    prefix = str(tmp_path_factory.mktemp("prepared") / "x_")
    made = structural_preparation.prepare(
        scans(head, poses), Image(data=np.ones((2, 2, 2)), affine=np.eye(4)), np.ones((2, 2, 2), bool),
        interpolations=("bspline", "nearest"), seed=0, prefix=prefix, sloppy=True,
    )  # fmt: skip
    patch.undo()
    return made


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
    back = seen[head[1]] * prepared.units["T1w"]  # in the unit of the coarse scan, which is that of the fine one here
    assert back.mean() == pytest.approx(head[0]["T1w"][head[1]].mean(), rel=0.1)
    assert np.percentile(seen[head[1]], 99.9) == pytest.approx(1.0, abs=1e-3)


def test_slices_that_any_model_was_trained_on_are_no_test(tmp_path):
    cards = []
    for number, parts in enumerate(([[2, 3], [7, 9]], [[7, 8]])):
        path = tmp_path / f"{number}.json"
        found = [{"image": "a", "slices": slices} for slices in parts] + [{"image": "b", "slices": [0, 9]}]
        path.write_text(json.dumps({"data_sha256": {"a": "x", "b": "y"}, "held_out": {"parts": found}}))
        cards.append(str(path))
    assert held_out_slices(cards[:1], 10, "x") == [2, 7, 8]
    assert held_out_slices(cards, 10, "x") == [7]
    # of another study, whatever its name
    assert held_out_slices(cards, 3, "z") == [0, 1, 2]


def test_a_head_that_was_trained_on_whole_leaves_no_slice_to_judge_by(tmp_path):
    path = tmp_path / "card.json"
    held = {"parts": [{"image": "b", "slices": [0, 9]}]}
    path.write_text(json.dumps({"data_sha256": {"a": "x", "b": "y"}, "held_out": held}))
    assert held_out_slices([str(path)], 9, "x") == []


def test_measures_of_the_measured_scan_itself_are_perfect(prepared):
    rows, labels = measured_rows(
        prepared.hr, {"same": prepared.hr, "bspline": prepared.lr["bspline"]}, prepared.mask, prepared.affine,
        range(SHAPE[2]), seed=0,
    )  # fmt: skip
    found = {(row.contrast, row.series, row.measure): row.value for row in rows}
    assert found["T1w", "same", "mae"] == 0
    assert found["all", "same", "dice_gm"] == 1
    assert found["FLAIR", "same", "volume_wmh"] == found["FLAIR", "measured", "volume_wmh"]
    assert found["T1w", "bspline", "ssim"] < 0.99
    assert 0.4 < found["all", "bspline", "dice_wm"] < 1
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    ml = prepared.mask.sum() * 8 / 1000
    assert sum(found["all", "measured", f"volume_{t}"] for t in ("gm", "wm", "csf")) == pytest.approx(ml)


def test_without_tissues_the_other_measures_remain(prepared, monkeypatch):
    def fails(*_args, **_how):
        raise RuntimeError("Atropos failed")

    monkeypatch.setattr(fused_scores, "segment_tissues", fails)
    rows, labels = measured_rows(
        prepared.hr, {"bspline": prepared.lr["bspline"]}, prepared.mask, prepared.affine, [18], seed=0
    )
    measures = {row.measure for row in rows}
    assert {"psnr", "efc", "volume_wmh"} <= measures
    assert not measures & {"cjv", "volume_gm"}
    assert not labels.any()


def test_the_steps_on_files(head, prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {}
    for kind, stack in (("fine", prepared.hr), ("coarse", prepared.lr["bspline"])):
        for contrast in CONTRASTS:
            files[kind, contrast] = str(tmp_path / f"{kind}_{contrast}.nii")
            save_image(stack[contrast], prepared.affine, files[kind, contrast])
    save_image(prepared.mask, prepared.affine, tmp_path / "mask.nii")
    fine, coarse = ([files[kind, contrast] for contrast in CONTRASTS] for kind in ("fine", "coarse"))
    shared = {"contrasts": CONTRASTS, "mask": str(tmp_path / "mask.nii")}
    trained = TrainContrasts(
        method="attunet", head="sub-01", fine_files=fine, coarse_files=coarse, sloppy=True, device="cpu", **shared
    ).run()  # fmt: skip
    card = json.loads(Path(trained.outputs.card_file).read_text())
    assert (card["contrast"], card["channels"], card["sloppy"]) == ("T1w+FLAIR", 2, True)
    resolved = ResolveContrasts(
        coarse_files=coarse, model_file=trained.outputs.model_file, device="cpu", **shared
    ).run()  # fmt: skip
    made = [load_image(path)[0] for path in resolved.outputs.out_files]
    assert [path.rpartition("/")[2] for path in resolved.outputs.out_files] == ["T1w.nii", "FLAIR.nii"]
    for image, before in zip(made, coarse, strict=True):
        assert np.abs(image - load_image(before)[0])[head[1]].mean() < 0.1
        assert not image[~head[1]].any()
    measured = MeasureContrasts(
        fine_files=fine, series_files=[*coarse, *resolved.outputs.out_files], card_files=[trained.outputs.card_file],
        series_names=["bspline"] * 2 + ["attunet"] * 2, **shared,
    ).run()  # fmt: skip
    lines = [line.split("\t") for line in Path(measured.outputs.out_file).read_text().splitlines()]
    psnr = {(row[0], row[1]): float(row[3]) for row in lines[1:] if row[2] == "psnr"}
    assert set(psnr) == {(c, s) for c in CONTRASTS for s in ("bspline", "attunet")}
    kept = sorted({z for part in card["held_out"]["parts"] for z in range(*part["slices"])})
    assert 0 < len(kept) < SHAPE[2] / 3
    truth, seen = prepared.hr["T1w"][..., kept], prepared.lr["bspline"]["T1w"][..., kept]
    inside = prepared.mask[..., kept]
    expected = -10 * np.log10(((truth - seen)[inside] ** 2).mean())
    assert psnr["T1w", "bspline"] == pytest.approx(expected, abs=0.01)
    facts = tmp_path / "facts.json"
    facts.write_text(json.dumps({"align": "affine", "offsets": {"FLAIR_lowres": {"stretch_percent": 1.25}}}))
    given = {"fine_files": fine, "coarse_files": coarse, "made_files": resolved.outputs.out_files, **shared}
    model = {name: getattr(trained.outputs, name) for name in ("model_file", "card_file", "log_file")}
    shown = ExplanationReport(**given, **model).run().outputs
    looked_at_by_gates_and_critic(next(path for path in shown.out_files if "attention" in path))
    assert {entities["desc"] for entities in shown.out_entities} == {"attention", "scantraining", "scancard"}
    scans_shown = ScansReport(
        fine_files=fine, series_files=[*coarse, *resolved.outputs.out_files], card_files=[trained.outputs.card_file],
        series_names=["bspline"] * 2 + ["attunet"] * 2, metrics_tsv=measured.outputs.out_file, facts_json=str(facts),
        **shared,
    ).run().outputs  # fmt: skip
    told = "".join(Path(path).read_text() for path in scans_shown.out_files if path.endswith("html"))
    assert "(affine)" in told
    assert "1.25" in told


def looked_at_by_gates_and_critic(svg):
    """The figure holds the masks of four gates and two maps of the critic, each of its own over the slice."""
    text = Path(svg).read_text()
    titles = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert [title for title in titles if "attention" in title] == [f"attention, gate {n} of 4" for n in (1, 2, 3, 4)]
    scores = [re.fullmatch(r"critic, (super-resolved|measured) \(score (0|1)\.\d\d\)", title) for title in titles]
    assert [found[1] for found in scores if found] == ["super-resolved", "measured"]
    pictures = re.findall(r'href="data:image/png;base64,([^"]+)"', text)
    assert len(pictures) == len(set(pictures)) == 7, "the slice once, and six maps over it"


def test_a_network_can_be_trained_on_several_other_heads(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    heads = []
    for number in (1, 2, 3):
        files = {"fine_files": [], "coarse_files": []}
        for kind, stack in (("fine_files", prepared.hr), ("coarse_files", prepared.lr["bspline"])):
            for contrast in CONTRASTS:
                files[kind].append(str(tmp_path / f"{number}_{kind}_{contrast}.nii"))
                save_image(np.roll(stack[contrast], number, 0), prepared.affine, files[kind][-1])
        mask = str(tmp_path / f"{number}_mask.nii")
        save_image(np.roll(prepared.mask, number, 0), prepared.affine, mask)
        heads.append({"head": f"sub-0{number}", "mask": mask, **files})
    paths = []
    for head in heads[1:]:
        paths.append(str(tmp_path / f"{head['head']}.json"))
        Path(paths[-1]).write_text(json.dumps(head))
    trained = TrainContrasts(
        method="unet", contrasts=CONTRASTS, heads=paths, sloppy=True, device="cpu", align="affine", **heads[0]
    ).run()  # fmt: skip
    card = json.loads(Path(trained.outputs.card_file).read_text())
    assert card["images"] == ["sub-02", "sub-03"]
    again = {
        "method": "unet", "contrasts": CONTRASTS, "heads": paths, "sloppy": True, "device": "cpu",
        "model_source": "reuse", "model_dir": str(tmp_path / "kept"), **heads[0],
    }  # fmt: skip
    (tmp_path / "kept").mkdir()
    for path in (trained.outputs.model_file, trained.outputs.card_file):
        Path(path).rename(tmp_path / "kept" / Path(path).name)
    with pytest.raises(ModelMismatch, match="by --anat-align affine, these are rigid"):
        TrainContrasts(align="rigid", **again).run()
    assert TrainContrasts(align="affine", **again).run().outputs.model_file


def test_the_step_of_preparation_keeps_the_order_of_its_files(prepared, head, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for contrast in CONTRASTS:
        names[contrast] = str(tmp_path / f"{contrast}.nii")
        save_image(head[0][contrast].astype(np.float32), AFFINE, names[contrast])
    monkeypatch.setattr(structural_preparation, "prepare", lambda *_args, **_how: prepared)
    done = PrepareContrasts(
        contrasts=CONTRASTS, highres=[names[c] for c in CONTRASTS], lowres=[names[c] for c in CONTRASTS],
        others=["nearest"], head="sub-07", template=names["T1w"], template_mask=names["T1w"],
    ).run()  # fmt: skip
    for files, stack in (
        (done.outputs.fine_files, prepared.hr),
        (done.outputs.other_files, prepared.lr["nearest"]),
    ):
        for contrast, path in zip(CONTRASTS, files, strict=True):
            np.testing.assert_array_equal(load_image(path)[0], stack[contrast])
    out = done.outputs
    head_json = json.loads(Path(out.head_json).read_text())
    assert (head_json["head"], head_json["mask"]) == ("sub-07", out.mask)
    assert [*head_json["fine_files"], *head_json["coarse_files"]] == [*out.fine_files, *out.coarse_files]
    own = contrast_set(*(np.stack([s[c] for c in CONTRASTS]) for s in (prepared.hr, prepared.lr["bspline"])),
                       prepared.mask, prepared.affine, CONTRASTS, "x")  # fmt: skip
    assert head_json["checksum"] == own.images[0].checksum()
    facts = json.loads(Path(done.outputs.facts_json).read_text())
    assert set(facts["units"]) == set(CONTRASTS)
