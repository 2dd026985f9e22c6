"""Finding variance maps of a run, and applying them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest
import torch
from checking import inconsistency
from scipy.ndimage import gaussian_filter
from shortnames import against_of, measure_of

from bids_sr.io.nifti import SeriesReader, load_image, save_image
from bids_sr.io.volume import Volume
from bids_sr.notices import UsageError
from bids_sr.spatial.output_grids import PlacedGrid
from bids_sr.sr.matrices import kspace_crop
from bids_sr.sr.models.model import load_model, save_model
from bids_sr.sr.operators import level_above, to_slices
from bids_sr.sr.variance.in_reference import _displaced
from bids_sr.steps import training
from bids_sr.steps.self_test import gather_tested
from bids_sr.steps.super_resolution import super_resolve
from bids_sr.steps.training import estimate_variance

FACTOR = (2.0, 2.0, 1.0)
COUNT = 44
DUMMIES = 2
FINE = np.diag([-1.5, 1.5, 4, 1.0])
METHODS = ("sbl", "sdmod")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A run of an odd matrix whose head drifts and fluctuates along folds, what belongs to it, and
    a fine image.
    """
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    x, y, _ = np.indices((62, 58, 5), dtype=float)
    head = ((x - 26) / 23) ** 2 + ((y - 28) / 25) ** 2 < 1
    anatomy = (head * (500 + 500 * rng.random(head.shape))).astype(np.float32)
    where = head * (np.abs(np.sin(x / 3.1 + 0.8 * np.sin(y / 7))) > 0.85) * (1 + (x > 30))
    white = rng.standard_normal((12, *head.shape))
    modes = (
        60
        * where
        * gaussian_filter(white, (0, 1.5, 1.5, 0))
        / gaussian_filter(white, (0, 1.5, 1.5, 0)).std()
    )
    courses = rng.standard_normal((COUNT, 12))
    lowres, affine = kspace_crop(anatomy, FINE, factor=FACTOR)
    bold = np.stack(
        [
            1.5 * kspace_crop(anatomy + np.tensordot(course, modes, 1), FINE, factor=FACTOR)[0]
            + rng.normal(0, 0.5, lowres.shape)
            for course in courses
        ],
        -1,
    ).astype(np.float32)
    bold[..., :DUMMIES] *= 1.3
    poses = np.repeat(np.eye(4)[None], COUNT, 0)
    poses[:, 0, 3] = 0.03 * np.arange(COUNT)
    save_image(anatomy, FINE, folder / "fine.nii")
    save_image(head[::2, ::2].astype(np.uint8), affine, folder / "mask.nii", dtype=np.uint8)
    save_image(bold, affine, folder / "bold.nii", tr=2.0)
    save_image(bold, affine, folder / "bold.nii.gz", tr=2.0)
    save_image(bold[..., : DUMMIES + 20], affine, folder / "short.nii", tr=2.0)
    save_image(bold[..., DUMMIES:].mean(-1), affine, folder / "boldref.nii")
    np.save(folder / "hmc.npy", poses)
    return folder


def volume(path):
    return Volume(*load_image(path))


def mask_of(files):
    found = volume(files / "mask.nii")
    return found.like(found.data > 0.5)


class Made(NamedTuple):
    model_file: Path
    card_file: Path
    log_file: Path
    weight: Volume
    tested: dict

    @property
    def card(self):
        return json.loads(self.card_file.read_text())


def estimate(files, folder, method="sbl", *, bold="bold.nii", where=None, hmc_xfms=None, **given):
    """What a sloppy estimation in a folder makes."""
    folder.mkdir(exist_ok=True)
    where = where or files
    settings = {"factor": FACTOR, "n_dummy": DUMMIES, "sloppy": True}
    with SeriesReader(where / bold) as preproc:
        found = estimate_variance(
            preproc, mask_of(where), hmc_xfms, here=folder, method=method, **(settings | given)
        )
    return Made(*found)


def resolve(
    files, folder, made, series="sbl", *, static=False, bold="bold.nii", where=None, **given
):
    """Path of the series in a folder."""
    folder.mkdir(exist_ok=True)
    where = where or files
    settings = {"factor": FACTOR, "data_consistency": "off", "precision": "auto", "force": False}
    guide = (
        {"highres_file": files / "fine.nii", "highres2boldref_xfm": np.eye(4)[None]}
        if static
        else {}
    )
    maps = {} if made is None else {"model_file": made.model_file}
    with SeriesReader(where / bold) as stc:
        found, *_ = super_resolve(
            stc,
            volume(where / "boldref.nii"),
            mask_of(where),
            np.load(files / "hmc.npy")[: stc.shape[3]],
            here=folder,
            series_name=series,
            omp_nthreads=1,
            device="cpu",
            **(settings | maps | guide | given),
        )
    return Path(found.path)


def zerofilled(files, folder, **given):
    """The series of the baseline."""
    return data(resolve(files, folder, None, "zerofill", **given))


def data(path):
    return np.asarray(nib.load(path).dataobj)


def steady(path):
    """The series without its dummies, after its mean over time."""
    found = data(path)[..., DUMMIES:].astype(float)
    return found - found.mean(-1, keepdims=True)


@pytest.fixture(scope="module")
def made(files, tmp_path_factory):
    return estimate(files, tmp_path_factory.mktemp("found") / "node")


@pytest.fixture(scope="module")
def series(files, made, tmp_path_factory):
    return resolve(files, tmp_path_factory.mktemp("series") / "node", made)


def test_an_estimation_leaves_model_card_log_and_the_map(files, made):
    card = made.card
    assert (card["method"], card["trained_on"], card["applied"]) == ("sbl", "series", True)
    assert card["held_out"]["explained_over_zerofill"] > 0.02
    assert set(card["data_sha256"]) == {"series", "mask"}
    assert made.log_file.read_text().startswith("phase\titeration\t")
    assert len(made.log_file.read_text().splitlines()) == 1 + 2, "a row for each round"
    assert made.weight.data.shape == (62, 58, 5)
    np.testing.assert_allclose(made.weight.affine, FINE, atol=1e-5)
    maps = load_model(made.model_file).generator.weight.numpy()
    np.testing.assert_allclose(
        made.weight.data, np.moveaxis(np.sqrt((maps**2).sum(0)), 0, 2), rtol=1e-5
    )


def test_series_are_tried_on_the_run_one_level_down_and_the_rest_has_a_reason(
    files, tmp_path, made
):
    own = estimate(files, tmp_path / "own", interpolations=("bspline",)).tested
    control = estimate(files, tmp_path / "control", "sdmod").tested
    card = made.card
    assert own["sbl"] == made.tested["sbl"]
    assert own["sbl"]["share"] == card["held_out"]["explained_over_zerofill"], "the gate's figure"
    assert own["sbl"]["lower"] < own["sbl"]["share"] < own["sbl"]["upper"]
    rows, told = gather_tested(
        [own, control],
        series_names=["bspline", "sdmod", "inject", "srgan", "sbl"],
        network_names=["srgan"],
        voxel=(6.00000013, 5.9999998, 4.0),
        factor=FACTOR,
    )
    assert (told["from_mm"], told["to_mm"], told["calibrated"]) == (
        [12.0, 12.0, 4.0],
        [6.0, 6.0, 4.0],
        False,
    )
    assert told["series"]["srgan"] == {
        "reason": (
            "the network was trained to super-resolve 6 mm data to 3 mm; a self-test from 12 mm to"
            " 6 mm would require a separately trained network"
        )
    }
    assert "is constant over time" in told["series"]["inject"]["reason"]
    rows = {row.series: row for row in rows}
    assert set(rows) == {"bspline", "sdmod", "sbl"}
    assert rows["sbl"].value > max(rows["bspline"].value, 0), (
        "the map is that of the run, and B-spline adds nothing"
    )
    for name, row in rows.items():
        entry = told["series"][name]
        assert (measure_of(row), against_of(row), row.region, row.n) == (
            "tested_share",
            "zerofill",
            "brain",
            told["stretches"],
        )
        assert (row.value, row.lower, row.upper) == tuple(
            entry[each] for each in ("share", "lower", "upper")
        )


def test_maps_of_another_run_are_not_tested_on_this_one(files, tmp_path, made):
    other = estimate(files, tmp_path / "node", pretrained=made.model_file, n_dummy=DUMMIES + 2)
    assert "another run" in other.tested["sbl"]["reason"]


def test_head_motion_is_taken_out_where_it_is_known(files, tmp_path, made):
    card = estimate(files, tmp_path / "node", hmc_xfms=np.load(files / "hmc.npy")).card
    assert set(card["data_sha256"]) == {"series", "mask", "nuisance"}
    assert card["data_sha256"]["series"] == made.card["data_sha256"]["series"]


@pytest.mark.parametrize("method", METHODS)
def test_a_series_on_its_grid_consistent_with_the_data(files, tmp_path, method):
    found = estimate(files, tmp_path / "node", method)
    assert found.card["applied"]
    out = resolve(files, tmp_path / "series", found, method)
    image = nib.load(out)
    assert image.shape == (62, 58, 5, COUNT)
    np.testing.assert_allclose(image.affine, FINE, atol=1e-5)
    # no motion there to undo
    assert inconsistency(data(out)[..., 0], data(files / "bold.nii")[..., 0]) < 1e-5
    plain = zerofilled(files, tmp_path / "zerofill")
    assert np.abs(np.asarray(image.dataobj) - plain)[..., DUMMIES:].std() > 0.3


def test_a_network_of_no_maps_is_refused_by_name(files, tmp_path):
    with pytest.raises(ValueError, match="srgan does not use variance maps"):
        estimate(files, tmp_path / "node", "srgan")


@pytest.mark.parametrize("displace", ["mirror", "shift"])
def test_maps_of_the_wrong_place_make_another_series(files, tmp_path, made, series, displace):
    other = resolve(files, tmp_path / "series", made, displaced=displace)
    own, moved, plain = steady(series), steady(other), zerofilled(files, tmp_path / "zerofill")
    plain = plain[..., DUMMIES:] - plain[..., DUMMIES:].mean(-1, keepdims=True)
    added, instead = own - plain, moved - plain
    assert instead.std() > 0.2 * added.std(), "a placebo that adds nothing is beaten by anything"
    assert np.corrcoef(added.ravel(), instead.ravel())[0, 1] < 0.7
    assert inconsistency(data(other)[..., 0], data(files / "bold.nii")[..., 0]) < 1e-5


@pytest.mark.parametrize(("affine", "axis"), [(FINE, 2), (FINE[[1, 0, 2, 3]], 3)])
def test_a_mirrored_map_stays_on_a_head_off_center(affine, axis):
    weight = torch.zeros(2, 3, 30, 26)
    weight[:, :, 2:18, 1:17] = 1 + torch.rand(2, 3, 16, 16)
    moved = _displaced(weight, "mirror", affine, FACTOR)
    head = weight > 0
    assert float((moved[head] > 0).float().mean()) > 0.9, "it was taken off the head"
    assert not torch.equal(moved, weight)
    torch.testing.assert_close(moved.sum(axis), weight.sum(axis))  # along this axis and no other
    assert torch.equal(_displaced(moved, "mirror", affine, FACTOR), weight)
    none = torch.zeros_like(weight)
    assert torch.equal(_displaced(none, "mirror", affine, FACTOR), none)


def test_static_detail_is_added_only_with_a_fine_image(files, tmp_path, made, series):
    with_it, without = resolve(files, tmp_path / "series", made, static=True), series
    beyond = level_above((31, 29, 5), FACTOR).beyond
    frames = {}
    for name, path in (("with", with_it), ("without", without)):
        frames[name] = beyond(to_slices(data(path)[..., DUMMIES:].mean(-1))).numpy().ravel()
    fine = beyond(to_slices(data(files / "fine.nii"))).numpy().ravel()
    assert np.corrcoef(frames["with"], fine)[0, 1] > 0.8
    assert np.corrcoef(frames["without"], fine)[0, 1] < 0.5
    np.testing.assert_allclose(steady(with_it), steady(without), atol=1e-2)  # it is one image


def test_a_run_of_too_few_volumes_is_zero_filled(files, tmp_path):
    found = estimate(files, tmp_path / "node", bold="short.nii")
    card = found.card
    assert not card["applied"]
    why = card["held_out"]["model"]
    assert why.startswith("zero filling: the run has too few volumes")
    assert "noise" in why
    assert not found.weight.data.any()
    series = data(resolve(files, tmp_path / "series", found, bold="short.nii"))
    plain = zerofilled(files, tmp_path / "zerofill", bold="short.nii")
    np.testing.assert_allclose(series, plain, atol=2e-6 * series.max())


@pytest.mark.parametrize("method", ["sbl", "sdmod"])
def test_a_run_of_five_volumes_has_no_variance(files, tmp_path, method):
    bold = nib.load(files / "bold.nii")
    save_image(np.asarray(bold.dataobj)[..., :5], bold.affine, tmp_path / "five.nii", tr=2.0)
    found = estimate(files, tmp_path / "node", method, bold=tmp_path / "five.nii", n_dummy=0)
    card = found.card
    assert (card["applied"], card["held_out"]["model"]) == (
        False,
        "zero filling: the run has too few volumes to estimate signal variance",
    )
    assert not found.weight.data.any()


def test_noise_is_zero_filled(files, tmp_path):
    bold = nib.load(files / "bold.nii")
    noise = 1000 + np.random.default_rng(1).normal(0, 10, bold.shape).astype(np.float32)
    save_image(noise, bold.affine, tmp_path / "noise.nii", tr=2.0)
    card = estimate(files, tmp_path / "node", bold=tmp_path / "noise.nii").card
    assert not card["applied"]
    assert "at least 2% is required" in card["held_out"]["model"]


def test_a_single_slice_is_enough(files, tmp_path):
    for name in ("bold.nii", "boldref.nii", "mask.nii"):
        image = nib.load(files / name)
        save_image(np.asarray(image.dataobj)[:, :, 2:3], image.affine, tmp_path / name, tr=2.0)
    found = estimate(files, tmp_path / "node", where=tmp_path)
    assert found.card["applied"]
    out = resolve(files, tmp_path / "series", found, where=tmp_path)
    assert nib.load(out).shape == (62, 58, 1, COUNT)


def test_a_compressed_run_gives_the_same_maps(files, tmp_path, made):
    other = estimate(files, tmp_path / "node", bold="bold.nii.gz")
    assert other.model_file.read_bytes() == made.model_file.read_bytes()
    assert other.log_file.read_bytes() == made.log_file.read_bytes(), (
        "times differ from run to run"
    )
    assert not (tmp_path / "node" / "unpacked.nii").exists()


def test_maps_of_the_same_run_are_found_and_those_of_another_are_not(
    files, tmp_path, made, monkeypatch
):
    from bids_sr.sr.models import model_store

    folder, real, fitted = made.model_file.parent, model_store.fit_variance, []
    monkeypatch.setattr(
        model_store, "fit_variance", lambda *a, **k: fitted.append(1) or real(*a, **k)
    )
    same = estimate(files, tmp_path / "same", model_dir=folder)
    assert not fitted
    assert same.model_file.read_bytes() == made.model_file.read_bytes()
    for name, given in {
        "seed": {"random_seed": 5},
        "run": {"n_dummy": DUMMIES + 1},
        "method": {"method": "sdmod"},
    }.items():
        estimate(files, tmp_path / name, model_dir=folder, **given)
    assert len(fitted) == 3, "another seed, another part of the run, another method"


def test_maps_of_another_run_are_used(files, tmp_path, made):
    used = estimate(files, tmp_path / "node", pretrained=made.model_file, n_dummy=4)
    assert used.model_file.read_bytes() == made.model_file.read_bytes()
    assert resolve(files, tmp_path / "series", used).exists()


def test_maps_of_another_grid_are_carried_onto_that_of_the_run(files, tmp_path, made):
    model = load_model(made.model_file)
    half = model.generator.weight[:, :, ::2, ::2].contiguous()
    other = save_model(
        tmp_path / "half", model.generator.state_dict() | {"weight": half}, dict(model.card.json)
    )[0]
    used = estimate(files, tmp_path / "node", pretrained=other)
    found, own = used.weight.data, made.weight.data
    assert found.shape == own.shape
    assert (
        np.corrcoef(gaussian_filter(found, 2).ravel(), gaussian_filter(own, 2).ravel())[0, 1] > 0.9
    )
    assert resolve(files, tmp_path / "series", used).exists()


def test_maps_of_another_factor_are_refused(files, tmp_path, made):
    with pytest.raises(UsageError, match="factor"):
        estimate(files, tmp_path / "factor", pretrained=made.model_file, factor=(1.5, 1.5, 1.0))
    with pytest.raises(UsageError, match="factor"):
        resolve(files, tmp_path / "series", made, factor=(1.5, 1.5, 1.0))


def test_it_adds_to_the_zero_filled_series_that_is_there(files, tmp_path, made, series):
    plain = zerofilled(files, tmp_path / "zerofill", bold="bold.nii")
    given = tmp_path / "given.nii"
    save_image(plain + 1, FINE, given, tr=2.0)
    with SeriesReader(given) as reader:
        found = data(resolve(files, tmp_path / "series", made, zerofilled=reader))
    np.testing.assert_allclose(found, data(series) + 1, atol=0.1)


def test_another_space_gets_what_is_added(files, tmp_path, made, series):
    """On the same grid it is the same series, but for one more interpolation of the detail."""
    shape = (62, 58, 5)
    points = np.argwhere(np.ones(shape, bool)) @ FINE[:3, :3].T + FINE[:3, 3]
    grid = PlacedGrid(
        entities={"space": "T1w"},
        shape=shape,
        affine=FINE,
        inside=np.ones(shape, bool),
        points=points.astype(np.float32),
    )
    resolve(files, tmp_path / "series", made, space_grids=[grid])
    (space,) = (tmp_path / "series").glob("*space-T1w*.nii")
    found, known = data(space), data(series)
    assert np.abs(known - zerofilled(files, tmp_path / "zerofill")).max() > 5
    inside = found != 0  # 0 is what lies outside the field of view of a volume
    assert inside.mean() > 0.999
    np.testing.assert_allclose(found[inside], known[inside], atol=2e-3 * known.max())


def test_voxels_half_as_large_again_are_near_enough(files, tmp_path, made):
    model = load_model(made.model_file)
    card = dict(model.card.json)
    for size, fits in ((4.0, True), (6.5, False)):
        card["resolution"] = {**card["resolution"], "lowres_mm": [size, size, 4.0]}
        other = save_model(tmp_path / f"size{size:g}", model.generator.state_dict(), card)[0]
        if fits:
            estimate(files, tmp_path / "fits", pretrained=other)
        else:
            with pytest.raises(UsageError, match=r"allowed difference: 50 %"):
                estimate(files, tmp_path / "not", pretrained=other)
            estimate(files, tmp_path / "forced", pretrained=other, force=True)


def test_maps_kept_in_half_precision_make_a_finite_one():
    """Fluctuations of some hundred signal units, whose squares half precision does not hold."""
    network = torch.nn.Module()
    network.register_buffer("weight", torch.full((2, 3, 8, 8), 400.0).half())
    data = SimpleNamespace(
        statistics=SimpleNamespace(mean=np.zeros((4, 4, 3))), affine=np.eye(4), factor=FACTOR
    )
    made = training._prior_sd_map(SimpleNamespace(generator=network), data)
    np.testing.assert_allclose(made.data, 400 * 2**0.5, rtol=1e-3)
