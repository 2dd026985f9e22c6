"""``bids-sr-models series``: files equal those of `SuperResolver`; maps are in percent."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from data.short_run import COUNT, DUMMIES, EVENTS, TR, make_run

from bids_sr import SuperResolver
from bids_sr.cli.models.commands.main import main
from bids_sr.glm.design import DesignSettings, build_design
from bids_sr.glm.regressors import Events
from bids_sr.io.nifti import load_image, save_image

CONTRASTS = ("all", "little", "thumb", "littleMinusThumb")


def call(*words: object) -> int:
    return main(["series", *map(str, words)])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of a short run; see `data.short_run.make_run`."""
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def mapped(run, tmp_path_factory):
    """Output series of sbl with a mask and events."""
    out = tmp_path_factory.mktemp("out") / "fine_bold.nii.gz"
    options = ("--mask", run / "mask.nii", "--realigned", "--events", run / "events.tsv")
    assert call(run / "bold.nii.gz", out, "--method", "sbl", "--factor", 2, 2, 1, *options) == 0
    return out


def load(out, suffix):
    return load_image(out.with_name(f"fine_bold_{suffix}.nii.gz"))[0]


def read_json(out, suffix=""):
    return json.loads(out.with_name(f"fine_bold{suffix}.json").read_text())


def test_series_mask_and_prior_sd_equal_the_python_interface(run, mapped):
    resolver = SuperResolver("sbl", (2, 2, 1), realigned=True)
    series = resolver.fit_transform(run / "bold.nii", mask_img=run / "mask.nii")
    values, affine = load_image(mapped)
    assert np.array_equal(values, series.get_fdata(dtype=np.float32))
    assert np.allclose(affine, series.affine)
    mask = load_image(run / "mask.nii")[0]
    assert np.array_equal(load(mapped, "mask")[::2, ::2], mask)
    prior_sd = load(mapped, "priorsd")
    assert prior_sd.shape == values.shape[:3]
    assert prior_sd[load(mapped, "mask") > 0].min() > 0
    assert not mapped.with_name("fine_bold_motion.tsv").exists()
    sidecar = read_json(mapped)
    assert sidecar["Applied"] is True
    assert (sidecar["Method"], sidecar["Factor"]) == ("sbl", [2, 2, 1])
    files = {file.name for file in mapped.parent.iterdir()}
    assert files == {mapped.name, "fine_bold.json", *sidecar["Outputs"]}


def test_effects_and_total_sds_are_in_percent_and_cover_the_true_effects(run, mapped):
    """The true effects are a least-squares fit of the high-resolution series without noise."""
    events = Events.from_rows(list(EVENTS), enumerate(EVENTS.astype(str).to_dict("records")))
    design = build_design(
        events, DesignSettings(), n_volumes=COUNT, tr=TR, n_dummy=DUMMIES, confound_names=()
    )
    truth = load_image(run / "truth.nii")[0][..., DUMMIES:]
    brain = load(mapped, "mask") > 0
    weights, *_ = np.linalg.lstsq(np.asarray(design.matrix), truth[brain].T, rcond=None)
    column = list(design.columns).index("thumb")
    mean_signal = read_json(mapped)["MeanSignal"]
    boldref = load_image(run / "boldref.nii")[0]
    assert mean_signal == pytest.approx(
        boldref[load_image(run / "mask.nii")[0] > 0].mean(), rel=0.01
    )
    true_effect = 100 * weights[column] / mean_signal
    effect, sd = (
        load(mapped, f"contrast-thumb_stat-{stat}")[brain] for stat in ("effect", "sdTotal")
    )
    assert np.polyfit(true_effect, effect, 1)[0] == pytest.approx(1, abs=0.1)
    assert (np.abs(effect - true_effect) < 1.96 * sd).mean() > 0.9
    assert not load(mapped, "contrast-thumb_stat-sdTotal")[~brain].any()
    for contrast in CONTRASTS:
        for stat in ("effect", "sdTotal"):
            sidecar = read_json(mapped, f"_contrast-{contrast}_stat-{stat}")
            assert (sidecar["Units"], sidecar["MeanSignal"]) == ("percent", mean_signal)
            assert sidecar["ErrorOfReconstruction"].startswith("included")


def test_a_method_without_a_prior_has_no_total_sd_and_replaces_earlier_files(
    run, mapped, tmp_path, capsys
):
    shutil.copytree(mapped.parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / "fine_bold_notes.txt").write_text("mine")
    out = tmp_path / mapped.name
    events = ("--mask", run / "mask.nii", "--events", run / "events.tsv")
    assert call(run / "bold.nii", out, "--method", "bspline", *events) == 0
    stats = {file.name.split("_stat-")[1] for file in tmp_path.glob("*_stat-*")}
    assert stats == {"effect.nii.gz", "effect.json"}
    sidecar = read_json(out, "_contrast-all_stat-effect")
    assert sidecar["ErrorOfReconstruction"] == "unknown"
    assert (tmp_path / "fine_bold_notes.txt").exists()
    assert not (tmp_path / "fine_bold_priorsd.nii.gz").exists()
    motion = pd.read_csv(tmp_path / "fine_bold_motion.tsv", sep="\t")
    assert len(motion) == COUNT
    assert {"trans_x", "rot_z", "framewise_displacement"} <= set(motion)
    assert "Not applied" not in capsys.readouterr().out


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Series of noise, to which sbl is not applied, with a repetition time in the sidecar only."""
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(1)
    values = (500 + rng.normal(0, 5, (30, 28, 5, COUNT))).astype(np.float32)
    save_image(values, np.diag([3, 3, 4, 1.0]), folder / "noise_bold.nii")
    save_image(np.ones((30, 28, 5), np.uint8), np.diag([3, 3, 4, 1.0]), folder / "ones.nii")
    (folder / "noise_bold.json").write_text(f'{{"RepetitionTime": {TR}}}')
    EVENTS.to_csv(folder / "events.tsv", sep="\t", index=False)
    return folder


def test_a_method_that_was_not_applied_is_reported(noise, tmp_path, capsys):
    out, zero_filled = tmp_path / "fine_bold.nii", tmp_path / "zero.nii"
    options = ("--mask", noise / "ones.nii", "--realigned")
    events = ("--events", noise / "events.tsv")
    assert call(noise / "noise_bold.nii", out, *options, *events) == 0
    assert "Not applied: " in capsys.readouterr().out
    sidecar = read_json(out)
    assert sidecar["Applied"] is False
    assert sidecar["ReasonNotApplied"]
    assert not list(tmp_path.glob("*sdTotal*"))
    assert call(noise / "noise_bold.nii", zero_filled, "--method", "zerofill", *options) == 0
    assert np.array_equal(load_image(out)[0], load_image(zero_filled)[0])


def test_remaining_motion_is_noted_with_the_name_of_the_option(run, tmp_path, capsys):
    series, affine = load_image(run / "bold.nii")
    moved = np.concatenate([series[..., :40], np.roll(series[..., 40:], 2, axis=0)], axis=-1)
    save_image(moved, affine, tmp_path / "moved_bold.nii", tr=TR)
    out = tmp_path / "fine_bold.nii"
    options = ("--method", "bspline", "--realigned", "--mask", run / "mask.nii")
    assert call(tmp_path / "moved_bold.nii", out, *options) == 0
    (note,) = read_json(out)["Notes"]
    assert note.startswith("--realigned: volume")
    assert note.endswith("Omit --realigned.")
    assert f"Note: {note}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ("nowhere.nii o.nii", "nowhere.nii"),
        ("ones.nii o.nii", "ones.nii"),
        ("noise_bold.nii noise_bold.nii", "noise_bold.nii"),
        ("noise_bold.nii o.nii --method sbll", "Did you mean sbl"),
        ("noise_bold.nii o.nii --method srgan", "--method srgan"),
        ("noise_bold.nii o.nii --factor 2 2", "--factor"),
        ("noise_bold.nii o.nii --mask small.nii", "small.nii"),
        ("noise_bold.nii o.nii --mask empty.nii", "empty.nii"),
        ("noise_bold.nii o.nii --events none.tsv", "none.tsv"),
        ("noise_bold.nii o.nii --events late.tsv", "late.tsv"),
        ("timeless_bold.nii o.nii --events events.tsv", "timeless_bold.json"),
    ],
)
def test_invalid_calls_exit_with_code_2_before_anything_is_computed(
    noise, tmp_path, monkeypatch, capsys, options, part
):
    shutil.copytree(noise, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    affine = np.diag([3, 3, 4, 1.0])
    save_image(np.ones((15, 14, 5), np.uint8), affine, tmp_path / "small.nii")
    save_image(np.zeros((30, 28, 5), np.uint8), affine, tmp_path / "empty.nii")
    shutil.copy("noise_bold.nii", "timeless_bold.nii")
    late = EVENTS.assign(onset=EVENTS.onset + 1000)
    late.to_csv(tmp_path / "late.tsv", sep="\t", index=False)
    before = set(tmp_path.iterdir())
    assert call(*options.split()) == 2
    captured = capsys.readouterr()
    assert part in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert set(tmp_path.iterdir()) == before
