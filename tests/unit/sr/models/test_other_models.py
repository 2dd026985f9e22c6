"""Test the search for models of other participants."""

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


def test_models_of_other_participants_begin_with_the_next_participant(tmp_path):
    first, second, third = (model(tmp_path, label) for label in ("01", "02", "03"))
    model(tmp_path, "02", method="sbl")
    assert other_models(tmp_path, "srgan", "02") == [third, first]
    assert other_models(tmp_path, "srgan", "sub-03") == [first, second]
    assert other_models(tmp_path / "missing", "srgan", "01") == []
    in_session = model(tmp_path, "04", session="ses-1")
    assert other_models(tmp_path, "srgan", "03")[0] == in_session


def test_models_of_another_resolution_or_factor_are_skipped(tmp_path):
    suitable = model(tmp_path, "02", lowres=(3.1, 3.0, 4.0))
    model(tmp_path, "03", lowres=(2.0, 2.0, 4.0))
    model(tmp_path, "04", factor=(3.0, 3.0, 1.0))
    model(tmp_path, "05").with_suffix(".json").unlink()
    assert other_models(tmp_path, "srgan", "01", factor=FACTOR, zooms=(3.0, 3.0, 4.0)) == [
        suitable
    ]
