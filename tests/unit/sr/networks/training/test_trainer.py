"""Test training on sets of images: it improves held-out data in 2D and 3D, with and without
high-resolution images.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from data.tiny_training import CONTENT, Tiny, TinyCritic, ball, balls, equal_states, fit, recipe

from bids_sr.io.notices import InvalidInput
from bids_sr.sr.models.card import ModelCard, ModelError
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.networks.data.images import TrainingImage
from bids_sr.sr.networks.losses.adversarial import AdversarialBCE
from bids_sr.sr.networks.losses.image import TotalVariation
from bids_sr.sr.recipe import LossTerm

FIRST = ball()
START_CARD = ModelCard.from_json({"method": "tiny", "recipe": "fast", "weights_sha256": "0"})


def block_means(image):
    """Return the mean of each block of 2 x 2 x 2 voxels."""
    x, y, z = (n // 2 for n in image.shape)
    return image.reshape(x, 2, y, 2, z, 2).mean((1, 3, 5))


def edges(seed, shape=(20, 20, 12)):
    """Return a high-resolution image of sharp stripes, whose position depends on the seed."""
    x, y, _ = np.indices(shape)
    high_res = 400.0 + 500 * ((x + 2 * seed) // 4 % 2) + 100 * (y // 4 % 2)
    return TrainingImage(
        fine=high_res.astype(np.float32),
        mask=np.ones(shape),
        affine=np.eye(4),
        contrast="T1w",
        name=f"edges-{seed}",
    )


@pytest.mark.parametrize(("ndim", "count"), [(2, 1), (3, 3)])
def test_training_improves_held_out_images_and_slices(tmp_path, ndim, count):
    images = tuple(edges(seed) for seed in range(count))
    steps = 100 if ndim == 2 else 300
    changed_recipe = recipe(
        ndim,
        iterations=steps,
        evaluate_every=50,
        batch=4,
        learning_rate=2e-2,
        schedule="one-cycle",
    )
    changed_recipe = replace(
        changed_recipe, build_generator=lambda channels, factor: Tiny(channels, ndim=ndim, width=8)
    )
    scores = fit(images, changed_recipe, tmp_path, ndim).card["held_out"]
    # at the worst of three seeds .4 dB in 2D and 3.2 dB in 3D
    assert scores["network"]["psnr"] > scores["bspline"]["psnr"] + (0.2 if ndim == 2 else 2)
    assert scores["parts"][0]["image"] == ("edges-0" if count == 1 else "edges-2")


@pytest.mark.parametrize("change", ["image", "slices"])
def test_held_out_data_are_not_trained_on(tmp_path, change):
    images = balls(4 if change == "image" else 1)
    first = fit(images, recipe(evaluate_every=12), tmp_path / "a")
    part = first.card["held_out"]["parts"][0]
    names = [image.name for image in images]
    index = names.index(part["image"])
    high_res = images[index].fine.copy()
    start, stop = part["slices"]
    assert (start, stop) == ((0, 12) if change == "image" else (8, 12))
    # Voxels at the border of low-resolution voxels depend on both sides after interpolation.
    middle = slice(start + 1, stop - 1)
    high_res[..., middle] = high_res[..., middle][::-1] * 0.9 + 1
    changed_images = list(images)
    changed_images[index] = replace(changed_images[index], fine=high_res)
    second = fit(tuple(changed_images), recipe(evaluate_every=12), tmp_path / "b")
    if change == "image":
        assert equal_states(first.state, second.state)
    assert first.log[-1]["psnr"] != second.log[-1]["psnr"]


def test_training_on_only_low_resolution_images_fits_them_and_tv_makes_the_result_smoother(
    tmp_path,
):
    high_res = ball(1).fine
    low_res = block_means(high_res)
    image = TrainingImage(
        coarse=low_res,
        mask=low_res > 300,
        affine=np.diag([2.0, 2, 2, 1]),
        contrast="bold",
        name="volume",
    )
    tv = LossTerm(kind="tv", build=TotalVariation, weight=0.3)
    changed_recipe = recipe(
        objective="self",
        hold_out=0,
        patch=None,
        batch=1,
        iterations=120,
        evaluate_every=20,
        background=1.0,
    )
    results = [
        fit((image,), replace(changed_recipe, losses=terms), tmp_path / name)
        for name, terms in (("plain", (CONTENT,)), ("smooth", (CONTENT, tv)))
    ]
    interpolate = torch.nn.functional.interpolate
    misfit, misfit_with_tv = ([row["content"] for row in model.log] for model in results)
    assert misfit[-1] < 0.4 * misfit[0]
    assert misfit[-1] < misfit_with_tv[-1]
    variations = []
    for model in results:
        net = Tiny()
        net.load_state_dict(model.state)
        unit = model.card["intensity"]["scale"][0]
        source = interpolate(
            torch.from_numpy(low_res / unit)[None, None], scale_factor=2, mode="trilinear"
        )
        variations.append(float(TotalVariation()(net(source), source).detach()))
    assert variations[1] < 0.9 * variations[0]
    assert results[0].card["held_out"]["parts"] == []
    assert results[0].card["resolution"] == {
        "lowres_mm": [2, 2, 2],
        "highres_mm": [1, 1, 1],
        "lowres_shape": [8, 8, 6],
    }


def test_without_held_out_data_the_mean_training_loss_is_the_score(tmp_path):
    changed_recipe = recipe(hold_out=0, iterations=6)
    every_step, every_second_step = (
        fit(
            balls(1), replace(changed_recipe, evaluate_every=interval), tmp_path / str(interval)
        ).log
        for interval in (1, 2)
    )
    losses = [row["loss"] for row in every_step]
    np.testing.assert_allclose([row["psnr"] for row in every_step], -10 * np.log10(losses))
    means = np.mean(np.reshape(losses, (3, 2)), axis=1)
    np.testing.assert_allclose([row["psnr"] for row in every_second_step], -10 * np.log10(means))


def test_contrasts_as_channels_are_scaled_separately(tmp_path):
    image = ball()
    two_contrasts = replace(
        image, fine=np.stack([image.fine, 100 * image.fine[::-1]]), contrast="T1w+T2w"
    )
    result = fit((two_contrasts,), recipe(2), tmp_path, 2)
    scale = result.card["intensity"]["scale"]
    assert (result.card["channels"], result.card["contrast"]) == (2, "T1w+T2w")
    assert scale[1] == pytest.approx(100 * scale[0], rel=0.05)
    assert result.state["first.weight"].shape == (4, 2, 3, 3)
    assert result.card["held_out"]["bspline"]["psnr"] > 15, "a channel is in another unit"


def test_fine_tuning_trains_only_the_last_layers(tmp_path):
    start_network = Tiny()
    start = LoadedModel(generator=start_network, recipe=recipe(), card=START_CARD)
    result = fit(balls(3), recipe(freeze_but_last=1), tmp_path / "last", start_model=start)
    assert torch.equal(result.state["first.weight"], start_network.first.weight)
    assert torch.equal(result.state["first.bias"], start_network.first.bias)
    assert not torch.equal(result.state["last.weight"], start_network.last.weight)
    assert not torch.equal(result.state["last.bias"], start_network.last.bias)
    assert result.card["parameters_trained"] == 4 * 27 + 1
    assert result.card["started_from"] == START_CARD.json
    all_layers = fit(balls(3), recipe(), tmp_path / "all", start_model=start)
    assert not torch.equal(all_layers.state["first.weight"], start_network.first.weight)
    assert all_layers.card["parameters_trained"] == all_layers.card["parameters"]


@pytest.mark.parametrize(
    ("start_network", "freeze_but_last", "numbers"),
    [(Tiny(width=5), None, r"first\.bias"), (Tiny(), 3, r"2 layers.* \(got 3\)")],
    ids=["another network", "too many layers"],
)
def test_an_unusable_start_is_rejected(start_network, freeze_but_last, numbers, tmp_path):
    start = LoadedModel(generator=start_network, recipe=recipe(), card=START_CARD)
    changed_recipe = recipe(freeze_but_last=freeze_but_last)
    with pytest.raises(ModelError, match=numbers):
        fit(balls(1), changed_recipe, tmp_path, start_model=start)


def test_a_critic_can_be_saved_with_the_generator(tmp_path):
    adversarial = LossTerm(kind="adversarial", build=AdversarialBCE, weight=0.0)
    changed_recipe = recipe(
        build_critic=TinyCritic, losses=(CONTENT, adversarial), keep_critic=True
    )
    with_critic = fit(balls(1), changed_recipe, tmp_path / "a")
    without_critic = fit(
        balls(1), replace(changed_recipe, build_critic=None, keep_critic=False), tmp_path / "b"
    )
    critic = {
        key.removeprefix("critic."): value
        for key, value in with_critic.state.items()
        if key.startswith("critic.")
    }
    TinyCritic().load_state_dict(critic)
    # An adversarial loss without weight trains the critic and does not change the generator.
    assert equal_states(
        {key: value for key, value in with_critic.state.items() if not key.startswith("critic.")},
        without_critic.state,
    )


def test_a_start_continues_with_its_critic(tmp_path):
    """Networks do not change with a learning rate of 0."""
    adversarial = LossTerm(kind="adversarial", build=AdversarialBCE, weight=0.1)
    without_progress = {"learning_rate": 0.0, "critic_learning_rate": 1e-12, "iterations": 2}
    changed_recipe = recipe(
        build_critic=TinyCritic,
        losses=(CONTENT, adversarial),
        keep_critic=True,
        **without_progress,
    )
    torch.manual_seed(7)
    critic = TinyCritic().state_dict()
    start_model = LoadedModel(
        generator=Tiny(), recipe=changed_recipe, card=START_CARD, companions={"critic": critic}
    )

    def trained_critic(start, name):
        result = fit(balls(1), changed_recipe, tmp_path / name, start_model=start)
        return result, {key: result.state[f"critic.{key}"] for key in critic}

    result, critic_state = trained_critic(start_model, "kept")
    for key, value in critic.items():
        torch.testing.assert_close(critic_state[key], value, atol=1e-9, rtol=0)
    assert result.card["started_from"]["with"] == ["critic"]
    result, critic_state = trained_critic(replace(start_model, companions={}), "new")
    assert not torch.allclose(critic_state["look.weight"], critic["look.weight"])
    assert "with" not in result.card["started_from"]
    with_wide_critic = replace(
        start_model, companions={"critic": TinyCritic(width=5).state_dict()}
    )
    with pytest.raises(ModelError, match="differs from the critic of tiny"):
        trained_critic(with_wide_critic, "wide")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fine": None}, "at least one image"),
        ({"fine": np.ones((16, 16, 12))}, "constant"),
        ({"mask": np.ones((16, 16, 11))}, r"16, 16, 11\).*16, 16, 12\)"),
        ({"mask": np.zeros((16, 16, 12))}, "mask is empty"),
        ({"coarse": np.full((8, 8, 6), np.nan)}, "NaN"),
        ({"coarse": np.random.default_rng(0).random((2, 8, 8, 6))}, "1 channels.* 2"),
    ],
)
def test_an_unusable_image_is_rejected(change, message):
    with pytest.raises(InvalidInput, match=message):
        replace(ball(), **change)


EMPTY_BELOW = FIRST.mask.copy()
EMPTY_BELOW[..., :10] = False


@pytest.mark.parametrize(
    ("images", "ndim", "message"),
    [
        ((), 3, "empty"),
        ((FIRST, replace(ball(1), contrast="T2w")), 3, "the same contrast"),
        ((FIRST, FIRST), 3, "unique"),
        (
            (replace(FIRST, fine=None, coarse=FIRST.fine),),
            3,
            "only low-resolution images",
        ),
        (
            (replace(FIRST, coarse=FIRST.fine[::2, ::2, :5]),),
            3,
            r"expected \(16, 16, 10\) .* factor \(2\.0, 2\.0, 2\.0\)",
        ),
        ((replace(FIRST, mask=EMPTY_BELOW),), 3, "ball-0, slices 0 to 9"),
        ((ball(shape=(16, 16, 1)),), 2, "only one slice"),
    ],
)
def test_unusable_sets_are_rejected(images, ndim, message, tmp_path):
    with pytest.raises(InvalidInput, match=message):
        fit(images, recipe(ndim), tmp_path, ndim)
