"""Models that other participants left."""

import json

from bids_sr.sr.models.other_models import other_models

FACTOR = (2.0, 2.0, 1.0)


def model(
    root,
    subject,
    method="srgan",
    lowres=(3.0, 3.0, 4.0),
    factor=FACTOR,
    session="",
    upsampled_by="lanczos",
):
    folder = root / f"sub-{subject}" / session
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / f"sub-{subject}_desc-{method}_model.safetensors"
    weights.write_bytes(b"x")
    card = {"factor": list(factor), "resolution": {"lowres_mm": list(lowres)}}
    card |= {"method": method, "recipe": "fast", "contrast": "T2starw", "orientation": "I-S"}
    card |= {"card_version": 1, "weights_sha256": 64 * "0"}
    card |= {"settings": {"upsampled_by": upsampled_by}}
    weights.with_suffix(".json").write_text(json.dumps(card))
    return weights


def test_the_other_subject_is_the_next_one(tmp_path):
    one, two, three = (model(tmp_path, label) for label in ("01", "02", "03"))
    model(tmp_path, "02", method="sbl")
    assert other_models(tmp_path, "srgan", "02") == [three, one]
    assert other_models(tmp_path, "srgan", "sub-03") == [one, two]
    assert other_models(tmp_path / "missing", "srgan", "01") == []
    deep = model(tmp_path, "04", session="ses-1")
    assert other_models(tmp_path, "srgan", "03")[0] == deep


def test_models_of_another_resolution_or_factor_are_left_out(tmp_path):
    fits = model(tmp_path, "02", lowres=(3.1, 3.0, 4.0))
    model(tmp_path, "03", lowres=(2.0, 2.0, 4.0))
    model(tmp_path, "04", factor=(3.0, 3.0, 1.0))
    model(tmp_path, "05").with_suffix(".json").unlink()
    assert other_models(tmp_path, "srgan", "01", factor=FACTOR, zooms=(3.0, 3.0, 4.0)) == [fits]


def test_what_was_srgan_fast_stands_in_for_dcnet_and_not_for_srgan(tmp_path):
    old = model(tmp_path, "02", upsampled_by=None)
    new = model(tmp_path, "03")
    named = model(tmp_path, "04", method="dcnet", upsampled_by=None)
    assert other_models(tmp_path, "srgan", "01") == [new]
    assert other_models(tmp_path, "dcnet", "01") == [old, named]
