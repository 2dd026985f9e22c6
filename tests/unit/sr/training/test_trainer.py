"""Training on sets of images: it learns, in 2D and 3D, with and without fine images, and looks
only at what it may.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from engine_helpers import CONTENT, Tiny, TinyCritic, ball, balls, fit, recipe, same

from bids_sr.sr.data.images import TrainingDataError, TrainingImage
from bids_sr.sr.losses.adversarial import AdversarialBCE
from bids_sr.sr.losses.image import TotalVariation
from bids_sr.sr.models.card import ModelCard, ModelError
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.operators import get_operator
from bids_sr.sr.recipe import LossTerm

BEGUN = ModelCard.from_json({"method": "tiny", "recipe": "fast", "weights_sha256": "0"})


def edges(seed, shape=(20, 20, 12)):
    """Fine images that follow one rule: sharp stripes whose place differs from image to image."""
    x, y, _ = np.indices(shape)
    fine = 400.0 + 500 * ((x + 2 * seed) // 4 % 2) + 100 * (y // 4 % 2)
    return TrainingImage(
        fine=fine.astype(np.float32),
        mask=np.ones(shape),
        affine=np.eye(4),
        contrast="T1w",
        name=f"edges-{seed}",
    )


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("count", [1, 3])
def test_it_gains_on_what_it_has_not_seen(tmp_path, ndim, count):
    images = tuple(edges(seed) for seed in range(count))
    steps = 100 if ndim == 2 else 300
    how = recipe(
        ndim,
        iterations=steps,
        evaluate_every=50,
        batch=4,
        learning_rate=2e-2,
        schedule="one-cycle",
    )
    how = replace(how, build_generator=lambda channels, factor: Tiny(channels, ndim=ndim, width=8))
    found = fit(images, how, tmp_path, ndim).card["held_out"]
    assert found["network"]["psnr"] > found["bspline"]["psnr"] + 1
    assert found["network"]["ssim"] > found["bspline"]["ssim"]
    assert found["parts"][0]["image"] == ("edges-0" if count == 1 else "edges-2")


@pytest.mark.parametrize("change", ["image", "slices"])
def test_what_is_held_out_is_not_trained_on(tmp_path, change):
    images = balls(4 if change == "image" else 1)
    first = fit(images, recipe(evaluate_every=12), tmp_path / "a")
    part = first.card["held_out"]["parts"][0]
    names = [image.name for image in images]
    where = names.index(part["image"])
    fine = images[where].fine.copy()
    low, high = part["slices"]
    assert (low, high) == ((0, 12) if change == "image" else (8, 12))
    # the border between coarse voxels belongs to both sides when interpolated
    middle = slice(low + 1, high - 1)
    fine[..., middle] = fine[..., middle][::-1] * 0.9 + 1
    other = list(images)
    other[where] = replace(other[where], fine=fine)
    again = fit(tuple(other), recipe(evaluate_every=12), tmp_path / "b")
    if change == "image":
        assert same(first.state, again.state)
    assert first.log[-1]["psnr"] != again.log[-1]["psnr"]


def test_training_on_coarse_images_alone_agrees_with_them_and_prefers_smooth_ones(tmp_path):
    fine = ball(1).fine
    coarse = (
        get_operator("block", fine.shape, (2.0, 2.0, 2.0)).forward(torch.from_numpy(fine)).numpy()
    )
    image = TrainingImage(
        coarse=coarse,
        mask=coarse > 300,
        affine=np.diag([2.0, 2, 2, 1]),
        contrast="bold",
        name="volume",
    )
    tv = LossTerm(kind="tv", build=TotalVariation, weight=0.3)
    how = recipe(
        objective="self",
        hold_out=0,
        patch=None,
        batch=1,
        iterations=120,
        evaluate_every=20,
        background=1.0,
    )
    made = [
        fit((image,), replace(how, losses=terms), tmp_path / name)
        for name, terms in (("plain", (CONTENT,)), ("smooth", (CONTENT, tv)))
    ]
    start = torch.nn.functional.interpolate
    plain, smooth = ([row["content"] for row in model.log] for model in made)
    assert plain[-1] < 0.4 * plain[0]
    assert plain[-1] < smooth[-1]
    rough = []
    for model in made:
        net = Tiny()
        net.load_state_dict(model.state)
        unit = model.card["intensity"]["scale"][0]
        given = start(
            torch.from_numpy(coarse / unit)[None, None], scale_factor=2, mode="trilinear"
        )
        rough.append(float(TotalVariation()(net(given), given).detach()))
    assert rough[1] < 0.9 * rough[0]
    assert made[0].card["held_out"]["parts"] == []
    assert made[0].card["resolution"] == {
        "lowres_mm": [2, 2, 2],
        "highres_mm": [1, 1, 1],
        "lowres_shape": [8, 8, 6],
    }


def test_where_nothing_is_held_out_the_mean_loss_since_the_last_look_decides(tmp_path):
    how = recipe(hold_out=0, iterations=6, refit=True)
    each, pairs = (
        fit(balls(1), replace(how, evaluate_every=n), tmp_path / str(n)).log for n in (1, 2)
    )
    losses = [row["loss"] for row in each]
    np.testing.assert_allclose([row["psnr"] for row in each], -10 * np.log10(losses))
    means = np.mean(np.reshape(losses, (3, 2)), axis=1)
    np.testing.assert_allclose([row["psnr"] for row in pairs], -10 * np.log10(means))


def test_the_unit_of_intensity_does_not_matter(tmp_path):
    images = balls(3)
    brighter = tuple(replace(i, fine=i.fine * 8) for i in images)
    first, again = (
        fit(each, recipe(), tmp_path / str(k)) for k, each in enumerate((images, brighter))
    )
    assert same(first.state, again.state)
    assert again.card["intensity"]["scale"] == [8 * v for v in first.card["intensity"]["scale"]]


def test_contrasts_as_channels_are_scaled_one_by_one(tmp_path):
    one = ball()
    both = replace(one, fine=np.stack([one.fine, 100 * one.fine[::-1]]), contrast="T1w+T2w")
    made = fit((both,), recipe(2), tmp_path, 2)
    scale = made.card["intensity"]["scale"]
    assert (made.card["channels"], made.card["contrast"]) == (2, "T1w+T2w")
    assert scale[1] == pytest.approx(100 * scale[0], rel=0.05)
    assert made.state["first.weight"].shape == (4, 2, 3, 3)
    assert made.card["held_out"]["bspline"]["psnr"] > 15, "a channel is in another unit"


def test_in_units_of_the_largest_value_the_card_says_how_much_room_that_leaves(tmp_path):
    card = fit(balls(1), recipe(intensity="unit"), tmp_path).card["intensity"]
    coarse = (
        get_operator("block", (16, 16, 12), (2.0, 2.0, 2.0))
        .forward(torch.from_numpy(ball().fine))
        .numpy()
    )
    inside = (
        get_operator("block", (16, 16, 12), (2.0, 2.0, 2.0)).forward(
            torch.from_numpy(1.0 * ball().mask)
        )
        > 0.5
    )
    assert card["scale"] == [pytest.approx(coarse.max())]
    assert card["headroom"] == [
        pytest.approx(coarse.max() / np.percentile(coarse[inside.numpy()], 99), abs=1e-5)
    ]


def test_a_pair_is_a_set_of_one_with_its_measured_coarse_image(small_pair, tmp_path):
    np.testing.assert_allclose(small_pair.affine @ [0.5, 0.5, 0, 1], [1.5, 1.5, 0, 1], atol=1e-6)
    card = fit((small_pair,), recipe(2), tmp_path, 2).card
    assert card["coarse_images"] == "measured"
    assert card["resolution"]["highres_mm"] == [3, 3, 4]
    assert card["resolution"]["lowres_mm"] == [6, 6, 4]


def test_a_warm_start_trains_the_last_layers_and_leaves_the_others(tmp_path):
    begun = Tiny()
    start = LoadedModel(generator=begun, recipe=recipe(), card=BEGUN)
    made = fit(balls(3), recipe(freeze_but_last=1), tmp_path / "last", start=start)
    assert torch.equal(made.state["first.weight"], begun.first.weight)
    assert torch.equal(made.state["first.bias"], begun.first.bias)
    assert not torch.equal(made.state["last.weight"], begun.last.weight)
    assert not torch.equal(made.state["last.bias"], begun.last.bias)
    assert made.card["parameters_trained"] == 4 * 27 + 1
    assert made.card["started_from"] == BEGUN.json
    whole = fit(balls(3), recipe(), tmp_path / "all", start=start)
    assert not torch.equal(whole.state["first.weight"], begun.first.weight)
    assert whole.card["parameters_trained"] == whole.card["parameters"]


def test_a_start_of_another_network_is_refused(tmp_path):
    start = LoadedModel(generator=Tiny(width=5), recipe=recipe(), card=BEGUN)
    with pytest.raises(ModelError, match=r"differs from the network of .*first\.bias"):
        fit(balls(1), recipe(), tmp_path, start=start)


def test_more_layers_than_there_are_cannot_be_trained(tmp_path):
    start = LoadedModel(generator=Tiny(), recipe=recipe(), card=BEGUN)
    with pytest.raises(ModelError, match=r"has 2 layers with weights.* \(got 3\)"):
        fit(balls(1), recipe(freeze_but_last=3), tmp_path, start=start)


def test_slices_without_brain_are_named(tmp_path):
    mask = ball().mask.copy()
    mask[..., :10] = False
    with pytest.raises(TrainingDataError, match=r"ball-0, slices 0 to 9: the mask is empty"):
        fit((replace(ball(), mask=mask),), recipe(), tmp_path)


def test_two_runs_are_equal_and_another_seed_is_not(tmp_path):
    first, again = (fit(balls(1), recipe(), tmp_path / name) for name in "ab")
    assert same(first.state, again.state)
    assert not same(first.state, fit(balls(1), recipe(), tmp_path / "c", seed=4).state)


def test_a_refit_takes_all_images_for_as_many_steps_as_did_best(tmp_path):
    made = fit(balls(3), recipe(refit=True), tmp_path)
    assert made.card["phases"]["refit"]["iterations"] == made.card["held_out"]["iteration"]
    assert "retrained on all" in made.card["held_out"]["model"]


def test_a_kept_critic_travels_with_the_generator(tmp_path):
    game = LossTerm(kind="adversarial", build=AdversarialBCE, weight=0.0)
    how = recipe(build_critic=TinyCritic, losses=(CONTENT, game), keep_critic=True)
    made = fit(balls(1), how, tmp_path / "a")
    alone = fit(balls(1), replace(how, build_critic=None, keep_critic=False), tmp_path / "b")
    critic = {
        k.removeprefix("critic."): v for k, v in made.state.items() if k.startswith("critic.")
    }
    TinyCritic().load_state_dict(critic)
    # a game without weight teaches the critic and leaves the generator as it would be without
    assert same({k: v for k, v in made.state.items() if not k.startswith("critic.")}, alone.state)


def test_a_start_continues_with_its_critic(tmp_path):
    """With a rate of 0 the networks at the end are those at the beginning."""
    game = LossTerm(kind="adversarial", build=AdversarialBCE, weight=0.1)
    still = {"learning_rate": 0.0, "critic_learning_rate": 1e-12, "iterations": 2}
    how = recipe(build_critic=TinyCritic, losses=(CONTENT, game), keep_critic=True, **still)
    torch.manual_seed(7)
    critic = TinyCritic().state_dict()
    begun = LoadedModel(generator=Tiny(), recipe=how, card=BEGUN, companions={"critic": critic})

    def critic_of(start, name):
        made = fit(balls(1), how, tmp_path / name, start=start)
        return made, {key: made.state[f"critic.{key}"] for key in critic}

    made, after = critic_of(begun, "kept")
    for key, value in critic.items():
        torch.testing.assert_close(after[key], value, atol=1e-9, rtol=0)
    assert made.card["started_from"]["with"] == ["critic"]
    made, after = critic_of(replace(begun, companions={}), "new")
    assert not torch.allclose(after["look.weight"], critic["look.weight"])
    assert "with" not in made.card["started_from"]
    wide = replace(begun, companions={"critic": TinyCritic(width=5).state_dict()})
    with pytest.raises(ModelError, match="differs from the critic of tiny"):
        critic_of(wide, "wide")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fine": None}, "at least one image is required"),
        ({"fine": np.ones((16, 16, 12))}, "constant"),
        ({"mask": np.ones((16, 16, 11))}, "but the image has the shape"),
        ({"mask": np.zeros((16, 16, 12))}, "mask is empty"),
        ({"coarse": np.full((8, 8, 6), np.nan)}, "NaN or infinite"),
        (
            {"coarse": np.random.default_rng(0).random((2, 8, 8, 6))},
            "has 1 channels, but the low-resolution image has 2",
        ),
    ],
)
def test_an_image_that_cannot_be_trained_on_is_refused(change, message):
    with pytest.raises(TrainingDataError, match=message):
        replace(ball(), **change)


def test_sets_that_do_not_hold_together_are_refused(tmp_path):
    one = ball()
    with pytest.raises(TrainingDataError, match="list of training images is empty"):
        fit((), recipe(), tmp_path)
    with pytest.raises(TrainingDataError, match="the same contrast"):
        fit((one, replace(ball(1), contrast="T2w")), recipe(), tmp_path)
    with pytest.raises(TrainingDataError, match="names of training images must be unique"):
        fit((one, one), recipe(), tmp_path)
    coarse = TrainingImage(
        coarse=one.fine, mask=one.mask, affine=one.affine, contrast="T1w", name="low"
    )
    with pytest.raises(TrainingDataError, match="only low-resolution images"):
        fit((coarse,), recipe(), tmp_path)
    with pytest.raises(
        TrainingDataError, match=r"expected \(16, 16, 10\) .* factor \(2\.0, 2\.0, 2\.0\)"
    ):
        fit((replace(one, coarse=one.fine[::2, ::2, :5]),), recipe(), tmp_path)
    with pytest.raises(TrainingDataError, match="only one slice"):
        fit((ball(shape=(16, 16, 1)),), recipe(2), tmp_path, 2)
    with pytest.raises(TrainingDataError, match="slice by slice"):
        fit(balls(1), recipe(2), tmp_path, 2, factor=(2.0, 2.0, 2.0))
