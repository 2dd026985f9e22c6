"""Test training and super-resolution as steps: geometry, dtypes, errors, resuming after a kill,
and imports.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from checking import inconsistency

from bids_sr.io.nifti import SeriesReader, load_image, save_image
from bids_sr.io.notices import UsageError
from bids_sr.io.volume import Volume
from bids_sr.preproc.steps.aligned_series import AlignedSeries
from bids_sr.preproc.steps.registration import TrainingPair
from bids_sr.spatial.matrices import kspace_crop
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.sr.models.model import load_model
from bids_sr.sr.models.request import TrainingSettings
from bids_sr.sr.steps.resampled_series import correct_motion
from bids_sr.sr.steps.super_resolution import Guide, Inference, super_resolve
from bids_sr.sr.steps.training import train_on_pair

FACTOR = (2.0, 2.0, 1.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Write a pair, a run of four volumes whose head drifts by 0.1 mm per volume, boldref and
    mask; return the folder and transforms.
    """
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    x, y, _ = np.indices((24, 24, 6)) / 11.5 - 1
    head = x**2 + y**2 < 0.8
    highres = (head * (500 + 500 * rng.random((24, 24, 6)))).astype(np.float32)
    high_affine = np.diag([-1.5, 1.5, 4, 1.0])
    lowres, affine = kspace_crop(highres, high_affine, factor=FACTOR)
    mask = head[::2, ::2].astype(np.uint8)
    bold = np.stack([1.5 * lowres + rng.normal(0, 5, lowres.shape) for _ in range(4)], -1).astype(
        np.float32
    )
    poses = np.repeat(np.eye(4)[None], 4, 0)
    poses[:, 0, 3] = 0.1 * np.arange(4)
    save_image(highres, high_affine, folder / "highres.nii")
    save_image(lowres, affine, folder / "lowres.nii")
    save_image(mask, affine, folder / "mask.nii", dtype=np.uint8)
    save_image(bold, affine, folder / "bold.nii", tr=2.0)
    save_image(bold.mean(-1), affine, folder / "boldref.nii")
    return folder, poses


def volume(path):
    return Volume(*load_image(path))


def train(files, folder, **settings):
    """Return the files of a sloppy training in a folder."""
    folder.mkdir(exist_ok=True)
    names = {"train_highres": "highres", "train_lowres": "lowres", "pair_mask": "mask"}
    pair = TrainingPair(
        **{field: volume(files[0] / f"{name}.nii") for field, name in names.items()}
    )
    training = TrainingSettings(**{"method": "dcnet", "sloppy": True} | settings)
    return train_on_pair(pair, here=folder, training=training, factor=FACTOR)


def resolve(files, folder, series, *, bold=None, settings=None, **inputs):
    """Return the path of one series in a folder."""
    return Path(super_resolve_run(files, folder, series, bold, settings, **inputs).series.path)


def super_resolve_run(files, folder, series, bold=None, settings=None, **inputs):
    """Return one series in a folder with its facts; the acquired series has no facts."""
    folder.mkdir(exist_ok=True)
    data, poses = files
    boldref, mask = volume(data / "boldref.nii"), volume(data / "mask.nii")
    with SeriesReader(bold or data / "bold.nii") as stc:
        if series == "acquired":
            return SimpleNamespace(series=correct_motion(stc, boldref, poses, here=folder))
        inference = Inference(**settings or {})
        aligned = AlignedSeries(
            stc=stc,
            boldref=boldref,
            bold_mask=mask.like(mask.data > 0.5),
            hmc_xfms=poses,
            factor=FACTOR,
        )
        return super_resolve(
            aligned,
            here=folder,
            series_name=series,
            inference=inference,
            **inputs,
        )


@pytest.fixture(scope="module")
def model(files, tmp_path_factory):
    return train(files, tmp_path_factory.mktemp("trained") / "node")


@pytest.mark.parametrize("series", ["acquired", "bspline", "zerofill", "inject", "ratio", "dcnet"])
def test_a_series_has_the_right_grid_header_and_intensity(files, tmp_path, model, series):
    inputs = {"model_file": model.model_file} if series == "dcnet" else {}
    if series in ("inject", "ratio"):
        highres = files[0] / "highres.nii"
        inputs = {"guide": Guide(highres_file=highres, highres2boldref_xfm=np.eye(4)[None])}
    path = resolve(files, tmp_path / series, series, **inputs)
    image, source = nib.load(path), nib.load(files[0] / "bold.nii")
    assert image.shape == ((12, 12, 6, 4) if series == "acquired" else (24, 24, 6, 4))
    assert image.get_data_dtype() == np.float32
    assert image.header["pixdim"][4] == 2.0
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 1)
    expected = source if series == "acquired" else nib.load(files[0] / "highres.nii")
    np.testing.assert_allclose(image.affine, expected.affine, atol=1e-5)
    inside = np.asarray(nib.load(files[0] / "mask.nii").dataobj) > 0
    inside = inside if series == "acquired" else np.kron(inside, np.ones((2, 2, 1))) > 0
    brightness = (
        np.asarray(image.dataobj)[inside].mean() / np.asarray(expected.dataobj)[inside].mean()
    )
    assert brightness == pytest.approx(1.0 if series == "acquired" else 1.5, rel=0.05)
    if series in ("acquired", "zerofill", "inject", "dcnet"):
        first = np.asarray(source.dataobj)[..., 0]  # The first volume has no motion to correct.
        assert inconsistency(np.asarray(image.dataobj)[..., 0], first) < 1e-5


def test_a_network_trained_on_the_pair_of_a_participant_adds_its_own_detail(files, tmp_path):
    model = train(files, tmp_path / "node", method="srgan")
    path = resolve(files, tmp_path / "srgan", "srgan", model_file=model.model_file)
    with SeriesReader(files[0] / "bold.nii") as series:
        first, affine = series.volume(0), series.affine  # has no motion to correct
        mean = np.mean([series.volume(t) for t in range(4)], axis=0)
    mask = volume(files[0] / "mask.nii").data > 0
    inputs = UpsamplerInputs(
        factor=FACTOR, affine=affine, scale=float(np.percentile(mean[mask], 99))
    )
    expected = make_upsampler("srgan", inputs, load_model(model.model_file))(first, np.eye(4))
    zero_filled = make_upsampler("zerofill", inputs)(first, np.eye(4))
    resolved = np.asarray(nib.load(path).dataobj)[..., 0]
    np.testing.assert_allclose(resolved, expected, rtol=1e-3, atol=0.5)
    assert np.abs(resolved - zero_filled).max() > 20


def test_a_model_of_another_resolution_is_rejected_unless_forced(files, tmp_path, model):
    image = nib.load(files[0] / "bold.nii")
    other_bold = tmp_path / "other.nii"
    save_image(
        np.asarray(image.dataobj), image.affine @ np.diag([1.3, 1.3, 1, 1]), other_bold, tr=2.0
    )
    inputs = {"model_file": model.model_file, "bold": other_bold}
    with pytest.raises(
        UsageError, match=r"resolution.*3\.9 x 3\.9(?s:.*)--set superres.force=true"
    ):
        resolve(files, tmp_path / "refused", "dcnet", **inputs)
    assert resolve(
        files, tmp_path / "forced", "dcnet", settings={"force": True}, **inputs
    ).exists()


def test_a_killed_training_continues_from_checkpoints_next_to_its_folder(
    files, tmp_path, model, monkeypatch
):
    from bids_sr.sr.networks.training import phase

    write_checkpoint, checkpoint_paths = phase.write_checkpoint, []

    def write_and_interrupt(path, tensors, values):
        write_checkpoint(path, tensors, values)
        checkpoint_paths.append(path)
        if len(checkpoint_paths) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(phase, "write_checkpoint", write_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(files, tmp_path / "node")
    assert checkpoint_paths[0].is_relative_to(tmp_path / "node_checkpoints")
    resumed = train(files, tmp_path / "node")
    assert len(checkpoint_paths) == 2, "it began anew"
    assert resumed.model_file.read_bytes() == model.model_file.read_bytes()


def test_a_network_stopped_early_is_zero_filled(files, tmp_path):
    stopped = train(files, tmp_path / "node", sloppy=False, max_train_minutes=1e-9)
    assert json.loads(stopped.card_file.read_text())["phases"]["search"]["iterations"] == 1
    inputs = {"model_file": stopped.model_file}
    result = super_resolve_run(files, tmp_path / "dcnet", "dcnet", **inputs)
    zerofilled = resolve(files, tmp_path / "zerofill", "zerofill").read_bytes()
    assert Path(result.series.path).read_bytes() == zerofilled
    assert result.series_facts["Applied"] is False
    assert "1 of 800 steps" in result.series_facts["ReasonNotApplied"]


def test_a_new_time_limit_continues_the_stopped_training(files, tmp_path, model):
    """Nipype empties the folder of a step if a setting has changed."""
    from nipype.pipeline import engine as pe

    from bids_sr.sr.models.card import read_card

    def call(minutes):
        """Run the step as the workflow does, and return the path of the model."""
        paths = {
            "train_highres": "highres",
            "train_lowres": "lowres",
            "pair_mask": "mask",
        }
        interface = train_on_pair.interface(
            **{name: str(files[0] / f"{file}.nii") for name, file in paths.items()},
            method="dcnet",
            factor=FACTOR,
            sloppy=True,
            **({} if minutes is None else {"max_train_minutes": minutes}),
        )
        node = pe.Node(interface, name="train_on_pair", base_dir=str(tmp_path))
        return Path(node.run().outputs.model_file)

    first_model = call(1e-9)  # The time limit is over in the first step.
    assert read_card(first_model).json["phases"]["search"]["iterations"] == 1
    assert not read_card(first_model).reproducible
    first_mtime = first_model.stat().st_mtime_ns
    assert call(1e-9).stat().st_mtime_ns == first_mtime, "a finished step ran again"
    second_model = call(2e-9)
    assert read_card(second_model).json["phases"]["search"]["iterations"] == 2
    final_model = call(None)
    assert read_card(final_model).reproducible
    assert final_model.read_bytes() == model.model_file.read_bytes()
    assert final_model.with_suffix(".json").read_text() == model.card_file.read_text()
