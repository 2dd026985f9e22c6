"""Shells of training on the run and of applying what was learned, on files."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_sr.interfaces.guided import TrainGuided
from bids_sr.interfaces.superres import SuperResolve
from bids_sr.spatial.nifti import save_image
from bids_sr.spatial.transforms import write_itk
from bids_sr.sr.degrade import kspace_crop
from bids_sr.sr.guards import ModelMismatch
from bids_sr.sr.levels import level_above, to_slices
from bids_sr.sr.model import load_model, save_model

FACTOR = (2.0, 2.0, 1.0)
COUNT = 14


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A run of an odd matrix whose head drifts, boldref, mask, transforms, and a guide off the grid of the run."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    x, y, _ = np.indices((30, 26, 6), dtype=float)
    head = ((x - 14.5) / 15) ** 2 + ((y - 12.5) / 13) ** 2 < 0.8
    highres = (head * (500 + 500 * rng.random(head.shape))).astype(np.float32)
    fine = np.diag([-1.5, 1.5, 4, 1.0])
    lowres, affine = kspace_crop(highres, fine, factor=FACTOR)
    bold = np.stack([1.5 * lowres + rng.normal(0, 5, lowres.shape) for _ in range(COUNT)], -1).astype(np.float32)
    bold[..., :2] *= 1.3
    poses = np.repeat(np.eye(4)[None], COUNT, 0)
    poses[:, 0, 3] = 0.1 * np.arange(COUNT)
    save_image(highres, fine, folder / "guide.nii")
    save_image(head[::2, ::2].astype(np.uint8), affine, folder / "mask.nii", dtype=np.uint8)
    save_image(bold, affine, folder / "bold.nii", tr=2.0)
    save_image(bold, affine, folder / "bold.nii.gz", tr=2.0)
    save_image(bold[..., 2:].mean(-1), affine, folder / "boldref.nii")
    write_itk(folder / "hmc.txt", poses)
    write_itk(folder / "guide.txt", np.eye(4)[None])
    return folder


def train(files, folder, kind="highres", **given):
    """Outputs of a sloppy training in a folder."""
    folder.mkdir(exist_ok=True)
    inputs = {"in_file": "bold.nii", "boldref": "boldref.nii", "mask": "mask.nii"}
    if kind != "none":
        inputs |= {"guide_image": "guide.nii", "guide_xfm": "guide.txt"}
    paths = {trait: str(files / name) for trait, name in inputs.items()}
    settings = {"factor": FACTOR, "n_dummy": 2, "sloppy": True, "guide_kind": kind}
    return TrainGuided(**(paths | settings | given)).run(cwd=str(folder)).outputs


def resolve(files, folder, made, kind="highres", **given):
    """Outputs of the series in a folder."""
    folder.mkdir(exist_ok=True)
    inputs = {"in_file": "bold.nii", "boldref": "boldref.nii", "mask": "mask.nii", "hmc_xfms": "hmc.txt"}
    if kind != "none":
        inputs |= {"highres": "guide.nii", "highres2boldref_xfm": "guide.txt"}
    paths = {trait: str(files / name) for trait, name in inputs.items()}
    paths |= {"model_file": made.model_file, "temporal_file": made.temporal_file}
    return SuperResolve(**(paths | {"series": "guided", "factor": FACTOR, "guide_kind": kind} | given)).run(
        cwd=str(folder)
    ).outputs  # fmt: skip


@pytest.fixture(scope="module")
def made(files, tmp_path_factory):
    return train(files, tmp_path_factory.mktemp("trained") / "node")


def test_training_leaves_model_card_log_statistics_and_kernels(files, made):
    card = json.loads(Path(made.card_file).read_text())
    assert (card["method"], card["trained_on"], card["guide_kind"]) == ("guided", "series", "highres")
    assert set(card["data_sha256"]) == {"series", "mask", "guide"}
    assert Path(made.log_file).read_text().startswith("phase\titeration\tloss")
    temporal, kernels = nib.load(made.temporal_file), nib.load(made.kernels_file)
    bold = nib.load(files / "bold.nii")
    assert temporal.shape == (15, 13, 6, 2 + 8)
    np.testing.assert_allclose(temporal.affine, bold.affine)
    steady = np.asarray(bold.dataobj)[..., 2:]
    np.testing.assert_allclose(np.asarray(temporal.dataobj)[..., 0], steady.mean(-1), rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(np.asarray(temporal.dataobj)[..., 1], steady.std(-1), rtol=1e-3, atol=1e-2)
    assert kernels.shape == (30, 26, 6, 4)
    np.testing.assert_allclose(kernels.affine, nib.load(files / "guide.nii").affine, atol=1e-5)


@pytest.mark.parametrize("kind", ["highres", "t1w", "none"])
def test_a_series_on_its_grid_consistent_with_the_data(files, tmp_path, made, kind):
    made = made if kind == "highres" else train(files, tmp_path / "node", kind)
    out = resolve(files, tmp_path / "series", made, kind)
    image = nib.load(out.out_file)
    assert image.shape == (30, 26, 6, COUNT)
    np.testing.assert_allclose(image.affine, nib.load(files / "guide.nii").affine, atol=1e-5)
    rows = [float(row) for row in Path(out.consistency_file).read_text().split()[1:]]
    assert len(rows) == COUNT
    assert max(rows) < 1e-5
    save_image(np.asarray(image.dataobj)[..., 0], image.affine, tmp_path / "frame.nii")
    beyond = level_above((15, 13, 6), FACTOR).beyond
    frame, guide = (to_slices(np.asarray(nib.load(p).dataobj)) for p in (tmp_path / "frame.nii", files / "guide.nii"))
    alike = np.corrcoef(beyond(frame).numpy().ravel(), beyond(guide).numpy().ravel())[0, 1]
    assert alike > 0.95 if kind == "highres" else alike < 0.5, "detail of the anatomy comes with a T2* guide only"


def test_a_compressed_run_teaches_the_same(files, tmp_path, made):
    other = train(files, tmp_path / "node", in_file=str(files / "bold.nii.gz"))
    assert Path(other.model_file).read_bytes() == Path(made.model_file).read_bytes()


def test_a_model_of_the_same_run_is_found_and_one_of_another_is_not(files, tmp_path, made):
    folder = str(Path(made.model_file).parent)
    same = train(files, tmp_path / "same", model_dir=folder)
    assert not (tmp_path / "same" / "checkpoints").exists()
    assert Path(same.model_file).read_bytes() == Path(made.model_file).read_bytes()
    train(files, tmp_path / "seed", model_dir=folder, seed=5)
    assert (tmp_path / "seed" / "checkpoints").exists()


def test_kernels_of_another_run_need_no_training(files, tmp_path, made):
    used = train(files, tmp_path / "node", pretrained=made.model_file, in_file=str(files / "bold.nii"), n_dummy=4)
    assert not (tmp_path / "node" / "checkpoints").exists()
    assert Path(used.model_file).read_bytes() == Path(made.model_file).read_bytes()
    assert nib.load(used.temporal_file).shape[3] == 2 + 8
    assert Path(resolve(files, tmp_path / "series", used).out_file).exists()


def test_kernels_of_another_guide_or_factor_are_refused(files, tmp_path, made):
    with pytest.raises(ValueError, match=r"guided by 'highres', the guide here is 'none'"):
        train(files, tmp_path / "kind", "none", pretrained=made.model_file)
    with pytest.raises(ModelMismatch, match="factor"):
        train(files, tmp_path / "factor", pretrained=made.model_file, factor=(1.5, 1.5, 1.0))
    paths = {"in_file": "bold.nii", "boldref": "boldref.nii", "mask": "mask.nii", "hmc_xfms": "hmc.txt"}
    given = {trait: str(files / name) for trait, name in paths.items()} | {"model_file": made.model_file}
    with pytest.raises(ValueError, match="temporal_file"):
        SuperResolve(series="guided", factor=FACTOR, **given).run(cwd=str(tmp_path))
    with pytest.raises(ValueError, match=r"guided by 'highres', the guide here is 'none'"):
        resolve(files, tmp_path, made, "none")


def test_a_killed_training_goes_on_in_its_folder(files, tmp_path, made, monkeypatch):
    from bids_sr.sr import checkpoint, loop

    real, saved = checkpoint.write_checkpoint, []

    def killed(path, tensors, values):
        real(path, tensors, values)
        saved.append(path)
        if len(saved) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "write_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        train(files, tmp_path / "node")
    again = train(files, tmp_path / "node")
    assert len(saved) == 2, "it began anew"
    assert Path(again.model_file).read_bytes() == Path(made.model_file).read_bytes()
    assert TrainGuided._can_resume


def test_voxels_half_as_large_again_are_near_enough(files, tmp_path, made):
    model = load_model(made.model_file)
    card = dict(model.card)
    for size, fits in ((4.0, True), (6.5, False)):
        card["resolution"] = {**card["resolution"], "lowres_mm": [size, size, 4.0]}
        other = save_model(tmp_path / f"size{size:g}", model.generator.state_dict(), card)[0]
        if fits:
            train(files, tmp_path / "fits", pretrained=str(other))
        else:
            with pytest.raises(ModelMismatch, match=r"50 % are allowed"):
                train(files, tmp_path / "not", pretrained=str(other))
