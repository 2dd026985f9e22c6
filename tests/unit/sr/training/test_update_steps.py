"""The moves of the players: who learns from whom, what is compared, what is clipped; and the
schedules.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from engine_helpers import CONTENT, Tiny, TinyCritic, a_method, ball, balls, recipe, same
from torch import nn

from bids_sr.sr import method
from bids_sr.sr.data.examples import Batch, Examples, Region
from bids_sr.sr.data.images import TrainingImage
from bids_sr.sr.data.symmetries import turned
from bids_sr.sr.data.validation import validation_windows
from bids_sr.sr.losses.adversarial import AdversarialBCE, AdversarialWasserstein
from bids_sr.sr.losses.image import MAE, MSE
from bids_sr.sr.matrices import upsample
from bids_sr.sr.models.request import TrainingRequest
from bids_sr.sr.operators import get_operator
from bids_sr.sr.recipe import Augmentation, LossTerm
from bids_sr.sr.recipe_settings import plain_recipe
from bids_sr.sr.training.phase import Phase
from bids_sr.sr.training.update_steps import Networks, _freeze_but_last

CUBE = (2.0, 2.0, 2.0)


class Times(nn.Module):
    """x times one learned number."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(float(value)))

    def forward(self, x):
        return self.value * x


class Sum(nn.Module):
    """Scores an image by a learned number times its mean."""

    def __init__(self, _channels=1):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.5]]))

    def forward(self, image):
        return image.flatten(1).mean(1, keepdim=True) @ self.weight


def cycle(**given):
    """Players whose generators multiply by 3 and by 5, on an input of 1 and a target of 2."""
    made = iter((3, 5))
    how = recipe(
        build_generator=lambda channels, factor: Times(next(made)),
        objective="cycle",
        build_critic=Sum,
        learning_rate=1e-3,
        **given,
    )
    ones = torch.ones(2, 1, 4, 4, 4)
    return Networks(how, CUBE, ndim=3), Batch(input=ones, target=2 * ones, weight=ones)


def test_what_a_cycle_compares():
    terms = tuple(
        LossTerm(kind=k, build=MAE, weight=w) for k, w in (("cycle", 1.0), ("identity", 0.1))
    )
    nets, batch = cycle(losses=terms)
    parts = nets.generators_step(batch, nets.generator(batch.input), False)
    # F(G(1)) = 15 against 1, G(F(2)) = 30 against 2; G(2) = 6 against 2, F(1) = 5 against 1
    assert parts == pytest.approx({"cycle": 14 + 28, "identity": 4 + 4, "loss": 42.8})
    # d/dG and d/dF are positive: both numbers go down by Adam's first step
    assert [nets.generator.value.item(), nets.nets["backward"].value.item()] == pytest.approx(
        [2.999, 4.999]
    )


def test_both_critics_of_a_cycle_learn_and_neither_generator_does():
    nets, batch = cycle(
        losses=(LossTerm(kind="adversarial", build=AdversarialWasserstein, weight=1.0),),
        critic_game="wasserstein",
        weight_clip=0.4,
    )
    found = nets.critics_step(batch)
    # D(fake) - D(real): .5 (3 - 2) for the fine image, .5 (10 - 1) for the coarse one
    assert found == pytest.approx({"critic": 0.5, "backward_critic": 4.5})
    assert [
        nets.nets["critic"].weight.item(),
        nets.nets["backward_critic"].weight.item(),
    ] == pytest.approx([0.4, 0.4]), "not clipped"
    assert nets.generator.value.grad is None
    assert nets.nets["backward"].value.grad is None
    parts = nets.generators_step(batch, nets.generator(batch.input), True)
    assert parts["adversarial"] == pytest.approx(-0.4 * 3 - 0.4 * 10)
    assert nets.nets["critic"].weight.grad is None or nets.nets["critic"].weight.requires_grad
    assert nets.generator.value.item() == pytest.approx(3.001)


def test_the_penalty_of_a_linear_critic_is_added():
    nets, batch = cycle(
        losses=(LossTerm(kind="adversarial", build=AdversarialWasserstein, weight=1.0),),
        critic_game="wasserstein-gp",
        penalty_weight=10.0,
    )
    slope = 0.5 / 64 * 8  # .5 / 64 in each of 64 voxels: its length is that times 8
    assert nets.critics_step(batch)["critic"] == pytest.approx(
        0.5 + 10 * (1 - slope) ** 2, rel=1e-5
    )


def test_self_supervision_compares_what_the_operator_makes_of_the_output():
    how = recipe(objective="self", build_generator=lambda channels, factor: Times(2))
    nets = Networks(how, CUBE, ndim=3)
    fine, coarse = torch.ones(1, 1, 4, 4, 4), torch.ones(1, 1, 2, 2, 2)
    batch = Batch(
        input=fine,
        target=5 * coarse,
        weight=coarse,
        operator=get_operator("block", (4, 4, 4), CUBE),
    )
    parts = nets.generators_step(batch, nets.generator(fine), False)
    assert parts["content"] == pytest.approx(9)
    assert nets.generator.value.item() == pytest.approx(2.01)


def test_a_term_that_stands_in_is_there_without_weights_only(monkeypatch):
    stand = LossTerm(kind="content", build=MAE, weight=0.5, stands_in=True)
    how = recipe(losses=(CONTENT, stand))
    built = Networks(how, CUBE, ndim=3).terms
    assert [(kind, type(m), w) for kind, m, w in built] == [
        ("content", MSE, 1.0),
        ("content", MAE, 0.5),
    ]
    assert len(Networks(how, CUBE, vgg_weights="vgg.safetensors", ndim=3).terms) == 1
    assert plain_recipe(how, vgg=True)["losses"] == {"content:MSE": 1.0}
    assert plain_recipe(how, vgg=False)["losses"] == {"content:MSE": 1.0, "content:MAE": 0.5}


def test_a_card_names_no_term_that_was_off():
    """Without weights of VGG-19 no features; with them no stand-in; without a critic no
    adversarial term.
    """
    cpce = method.get_method("cpce").recipes["paper"]
    kinds = {
        vgg: {key.partition(":")[0] for key in plain_recipe(cpce, vgg=vgg)["losses"]}
        for vgg in (True, False)
    }
    assert kinds == {True: {"adversarial", "perceptual"}, False: {"adversarial", "content"}}
    assert "adversarial" not in {t.kind for t in replace(cpce, build_critic=None).terms_on(True)}


@pytest.mark.parametrize(
    ("count", "trained"), [(1, ["c.weight", "c.bias"]), (2, ["b.weight", "n.weight", "n.bias"])]
)
def test_layers_are_counted_from_the_end(count, trained):
    net = nn.Sequential()
    for name, layer in (
        ("a", nn.Conv3d(1, 2, 3)),
        ("b", nn.Conv3d(2, 2, 3, bias=False)),
        ("n", nn.InstanceNorm3d(2, affine=True)),
        ("c", nn.Conv3d(2, 1, 3)),
    ):
        net.add_module(name, layer)
    _freeze_but_last(net, count)
    assert {n for n, p in net.named_parameters() if p.requires_grad} == {
        *trained,
        "c.weight",
        "c.bias",
    }
    with pytest.raises(ValueError, match=r"3 layers with weights.*from 1 to 3 \(got 4\)"):
        _freeze_but_last(net, 4)


def test_linear_decay_is_constant_and_then_a_line():
    how = recipe(
        schedule="linear-decay",
        epochs=10,
        patches=4,
        batch=2,
        decay_from=5,
        learning_rate=1e-4,
        final_learning_rate=2e-6,
    )
    assert (how.steps, how.look_every) == (20, 2)
    rates = [how.rate(k, how.learning_rate) for k in range(20)]
    np.testing.assert_allclose(rates[:11], 1e-4)
    np.testing.assert_allclose(np.diff(rates[10:]), (2e-6 - 1e-4) / 9)
    assert rates[-1] == pytest.approx(2e-6)
    with pytest.raises(ValueError, match="must also specify `patches`"):
        recipe(epochs=3)


def examples(how, images, ndim=3, factor=CUBE):
    """Images as a training with this recipe sees them."""
    return Examples(images, how, factor, ndim, "cpu")


def phase(how, images, tmp_path, ndim=3, factor=CUBE):
    """A phase that is not run."""
    seen = examples(how, images, ndim, factor)
    return Phase(
        name="search",
        training=TrainingRequest(method=a_method(ndim), changed=how, seed=1),
        iterations=how.steps,
        examples=seen,
        parts=seen.train,
        windows=(),
        signature="",
        folder=tmp_path,
    )


def drawn(made, factor):
    """Windows of the phase's next step."""
    return made.examples.windows(
        made.rng,
        made.parts,
        factor,
        iteration=made.at.iteration,
        seed=made.training.seed,
        size=made.batch_size,
    )


def sides_of(chosen):
    """Sides of windows."""
    return {tuple(b - a for a, b in box) for _, box in chosen}


def test_in_epochs_each_place_is_seen_once_in_every_epoch(tmp_path):
    made = phase(recipe(epochs=3, patches=6, batch=2, hold_out=0), balls(2), tmp_path)
    epochs = []
    for epoch in range(3):
        seen = []
        for step in range(3):
            made.at.iteration = 3 * epoch + step
            seen += drawn(made, CUBE)
        epochs.append(seen)
    assert [sorted(seen) for seen in epochs[1:]] == [sorted(epochs[0])] * 2
    assert epochs[0] != epochs[1]
    assert len(set(epochs[0])) == 6
    assert {image for image, _ in epochs[0]} == {0, 1}


def test_every_factor_is_drawn_and_the_coarse_image_is_that_of_the_factor(tmp_path):
    made = phase(
        recipe(factors=(1.25, 2.0), patch=None, batch=1, hold_out=0),
        balls(1, shape=(20, 20, 10)),
        tmp_path,
    )
    fine = torch.from_numpy(ball(shape=(20, 20, 10)).fine)
    seen = set()
    for _ in range(12):
        batch = made.draw()
        for drawn in (1.25, 2.0):
            coarse = get_operator("block", (20, 20, 10), (drawn,) * 3).forward(fine).numpy()
            unit = made.examples.at(0, (drawn,) * 3).level[0]
            wanted = upsample("linear", coarse, (drawn,) * 3) / unit
            if np.abs(batch.input[0, 0].numpy() - wanted).max() < 1e-5:
                seen.add(drawn)
    assert seen == {1.25, 2.0}


def test_slices_held_out_begin_at_whole_coarse_voxels_of_any_factor(tmp_path):
    how = recipe(objective="self", factors=(1.25, 2.0), hold_out=4)
    made = phase(how, balls(1, shape=(20, 20, 20)), tmp_path)
    assert made.examples.room(Region(image=0, slices=(14, 20)), (1.25,) * 3) == (10, 20)
    assert made.examples.room(Region(image=0, slices=(14, 20)), CUBE) == (14, 20)


def test_factors_are_exchanged_only_where_the_factor_changes_something():
    windows = Examples(balls(1), recipe(2), (2.0, 2.0, 1.0), 2, "cpu")
    assert windows.factor_of(1.5) == (1.5, 1.5, 1.0)


def test_windows_of_both_grids_belong_together(tmp_path):
    shape = (20, 15, 10)
    fine = np.random.default_rng(0).random(shape).astype(np.float32) + 1
    # constant in blocks: its mean is itself anywhere
    low = upsample("nearest", fine[::5, ::5, ::5], (5.0, 5.0, 5.0))
    image = TrainingImage(
        fine=low, mask=np.ones(shape), affine=np.eye(4), contrast="T1w", name="blocks"
    )
    coarse = get_operator("block", shape, (1.25,) * 3).forward(torch.from_numpy(low)).numpy()
    alone = replace(image, fine=None, coarse=coarse, mask=np.ones(coarse.shape))
    made = phase(
        recipe(objective="self", patch=10, hold_out=0), (alone,), tmp_path, factor=(1.25,) * 3
    )
    for _ in range(5):
        chosen = drawn(made, (1.25,) * 3)
        batch = made.examples.cut(chosen, (1.25,) * 3, 0.0)
        assert sides_of(chosen) == {(10, 10, 10)}
        for (_, box), target in zip(chosen, batch.target, strict=True):
            assert all(start % 5 == 0 for start, _ in box)
            truth = torch.from_numpy(low[tuple(slice(*side) for side in box)])
            seen = batch.operator.forward(truth) / made.examples.at(0).level[0]
            torch.testing.assert_close(target[0], seen.to(target))


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_generator_that_works_on_the_coarse_grid_gets_the_window_of_it(tmp_path, ndim):
    factor = (1.5, 1.5, 1.0) if ndim == 2 else (1.5, 1.5, 1.5)
    made = phase(
        recipe(ndim, upsampled_by=None, patch=9, batch=4),
        balls(1, shape=(18, 21, 12)),
        tmp_path,
        ndim,
        factor,
    )
    chosen = drawn(made, factor)
    assert sides_of(chosen) == {(9, 9, 1) if ndim == 2 else (9, 9, 9)}
    batch = made.examples.cut(chosen, factor, 0.0)
    assert batch.input.shape == (4, 1, 6, 6, *[6] * (ndim - 2))
    whole = made.examples.at(0)
    for (_, box), low, high in zip(chosen, batch.input, batch.target, strict=True):
        coarse = tuple(
            slice(int(a / f), int(b / f)) for (a, b), f in zip(box, factor, strict=True)
        )
        wanted = (
            whole.coarse[(slice(None), *coarse)],
            whole.target[(slice(None), *(slice(*side) for side in box))],
        )
        for found, truth in zip((low, high), wanted, strict=True):
            torch.testing.assert_close(found, truth if ndim == 3 else truth[..., 0])


def test_a_turned_window_is_turned_in_input_target_and_weight(tmp_path):
    made = phase(recipe(augmentation=Augmentation(dihedral=True), hold_out=0), balls(1), tmp_path)
    box = ((4, 12), (4, 12), (2, 10))
    turns = made.examples.turns(CUBE, (8, 8, 8))
    assert len(turns) == 48
    plain = made.examples.cut([(0, box)], CUBE, 0.0)
    moved = made.examples.cut([(0, box)] * 48, CUBE, 0.0, turns)
    arrangements = set()
    for k in range(48):
        for name in ("input", "target", "weight"):
            torch.testing.assert_close(
                getattr(moved, name)[k, 0], turned(getattr(plain, name)[0, 0], turns[k])
            )
        arrangements.add(moved.target[k].numpy().tobytes())
    assert len(arrangements) == 48


def test_what_is_held_out_of_few_images_are_slices_or_the_last_part():
    flat, deep = (
        Examples(balls(1), recipe(n), (2.0, 2.0, 1.0) if n == 2 else CUBE, n, "cpu")
        for n in (2, 3)
    )
    train, held = flat.train, flat.held
    assert {r.slices for r in train} | {r.slices for r in held} == {(z, z + 1) for z in range(12)}
    assert not {r.slices for r in train} & {r.slices for r in held}
    assert (deep.train, deep.held) == (
        (Region(image=0, slices=(0, 8)),),
        (Region(image=0, slices=(8, 12)),),
    )
    low = ball(shape=(16, 16, 24))
    mask = low.mask.copy()
    mask[..., 12:] = False
    short = Examples((replace(low, mask=mask),), recipe(), CUBE, 3, "cpu")
    # a quarter of the brain
    assert [r.slices for r in (*short.train, *short.held)] == [(0, 8), (8, 24)]
    many = Examples(balls(5), recipe(), CUBE, 3, "cpu")
    train, held = many.train, many.held
    assert ([r.image for r in train], [r.image for r in held]) == ([0, 1, 3, 4], [2])


def test_a_look_is_scored_in_what_is_held_out_and_sees_what_lies_around_it():
    windows = Examples(balls(1, shape=(16, 16, 20)), recipe(), CUBE, 3, "cpu")
    (look,) = validation_windows(windows, [Region(image=0, slices=(12, 20))])
    assert look.box == ((0, 16), (0, 16), (6, 20))
    counted = look.batch.weight[0, 0].sum((0, 1))
    inside = windows.at(0).inside[0].float().sum((0, 1))
    torch.testing.assert_close(counted[:6], torch.zeros(6))
    torch.testing.assert_close(counted[6:], inside[12:])
    assert (inside[6:12] > 0).all()
    tall = Examples(balls(1, shape=(16, 16, 120)), recipe(), CUBE, 3, "cpu")
    (most,) = validation_windows(tall, [Region(image=0, slices=(0, 120))])
    assert most.box[2] == (36, 84)


def test_each_step_of_the_critic_sees_other_images(tmp_path, monkeypatch):
    game = LossTerm(kind="adversarial", build=AdversarialBCE, weight=0.1)
    made = phase(
        recipe(build_critic=TinyCritic, losses=(CONTENT, game), critic_steps=3), balls(1), tmp_path
    )
    seen, real = [], Networks.critics_step

    def watched(nets, batch, fake=None, **precision):
        seen.append(batch.target.sum().item())
        return real(nets, batch, fake, **precision)

    monkeypatch.setattr(Networks, "critics_step", watched)
    before = {k: v.clone() for k, v in made.nets.nets["critic"].state_dict().items()}
    parts = made.step()
    assert len(set(seen)) == 3
    assert {"critic", "adversarial", "content", "loss"} <= parts.keys()
    assert not same(before, made.nets.nets["critic"].state_dict())
    assert a_method().ndim == 3
    assert isinstance(made.nets.generator, Tiny)
