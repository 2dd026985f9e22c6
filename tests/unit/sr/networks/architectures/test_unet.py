"""Test the networks of the attention U-Net paper, their losses, attention masks and Grad-CAM."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from data.tiny_training import ball
from skimage.metrics import structural_similarity
from torch import nn
from torch.nn import functional

from bids_sr.sr.method import get_method
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.networks.architectures.critics import guiding_critic
from bids_sr.sr.networks.architectures.unet import WIDTHS, AttentionGate, UNet, attention_unet
from bids_sr.sr.networks.architectures.vision_transformer import VisionTransformer
from bids_sr.sr.networks.data.examples import Batch, Examples
from bids_sr.sr.networks.inference.explain import compute_attention_masks, compute_grad_cam
from bids_sr.sr.networks.losses.image import SSIMLoss
from bids_sr.sr.networks.training.update_steps import Networks
from bids_sr.sr.recipe_changes import apply_changes, change_of_method

SMALL = (4, 6, 8)


def gates_of(net):
    """Return attention gates in the order in which they act, from low to high resolution."""
    return [module for module in net.modules() if isinstance(module, AttentionGate)]


def count(build):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build().parameters())


def conv(before, after, taps=9):
    """Return the number of weights and biases of a convolution of 3 x 3 (or other) voxels."""
    return taps * before * after + after


def test_parameter_counts_are_sums_over_layers_and_attunet_is_the_smallest():
    pairs = list(pairwise(WIDTHS))
    up = sum(conv(after, before, 4) for before, after in pairs)
    ends = conv(64, 1, 1)
    double = (
        conv(1, 64)
        + conv(64, 64)
        + sum(
            conv(before, after)
            + conv(after, after)
            + conv(2 * before, before)
            + conv(before, before)
            for before, after in pairs
        )
    )
    single = conv(1, 64) + sum(
        conv(before, after) + conv(2 * before, before) for before, after in pairs
    )
    gates = sum(
        conv(channels, channels, 1) + channels * channels + conv(channels, 1, 1)
        for channels in WIDTHS[:-1]
    )
    assert count(UNet) == double + up + ends == 31_030_593
    assert count(attention_unet) == single + up + gates + ends == 16_021_829
    width = 576
    layer = (
        4 * width
        + conv(width, 4 * width, 1)
        + conv(4 * width, width, 1)
        + 3 * width**2
        + conv(width, width, 1)
    )
    ends = conv(1, width, 100) + 32 * 32 * width + 2 * width + conv(width, 100, 1)
    assert count(VisionTransformer) == 8 * layer + ends
    assert count(attention_unet) < count(UNet) < count(VisionTransformer)


def test_a_level_of_attunet_is_convolution_instance_normalization_and_leaky_relu():
    torch.manual_seed(0)
    net, x = attention_unet(1, widths=SMALL).requires_grad_(False), torch.rand(2, 1, 16, 16)
    convolution = net.first[0]
    expected = functional.conv2d(x, convolution.weight, convolution.bias, padding=1)
    expected = functional.leaky_relu(functional.instance_norm(expected), 0.01)
    assert float(expected.min()) < -0.01
    torch.testing.assert_close(net.first(x), expected)
    pooled = functional.max_pool2d(expected, 2)
    torch.testing.assert_close(net.down[0](expected), net.down[0][1](pooled))


@pytest.mark.parametrize(
    ("side", "power", "multiple"),
    [(137, 256, 144), (256, 256, 256), (16, 32, 32), (33, 64, 48), (7, 32, 32)],
)
def test_slices_are_padded_to_sizes_that_can_be_halved_four_times(side, power, multiple):
    padded = []
    for sizes in ("power of two", "multiple"):
        net = UNet(1, widths=(2, 2, 2, 2, 2), sizes=sizes)
        net.first.register_forward_pre_hook(lambda _, inputs: padded.append(inputs[0].shape[2:]))
        assert net(torch.rand(1, 1, side, 20)).shape == (1, 1, side, 20)
    assert padded == [(power, 32), (multiple, 32)]


RESIDUAL = [
    UNet(2, widths=SMALL, head="residual"),
    VisionTransformer(2, width=12, heads=2, depth=1, grid=2, head="residual"),
]


@pytest.mark.parametrize("net", RESIDUAL)
def test_an_untrained_residual_network_returns_its_input(net):
    image = torch.rand(1, 2, 21, 13)
    assert torch.equal(net(image), image)


def test_a_gate_is_the_additive_gate_of_oktay():
    torch.manual_seed(1)
    gate = AttentionGate(3)
    gating, skip = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    from_gating, from_skip = gate.from_raised, gate.from_skip
    voxel = (1, slice(None), 2, 3)
    inner = np.maximum(
        from_gating.weight[:, :, 0, 0].detach().numpy() @ gating[voxel].numpy()
        + from_gating.bias.detach().numpy()
        + from_skip.weight[:, :, 0, 0].detach().numpy() @ skip[voxel].numpy(),
        0,
    )
    score = float(
        gate.to_mask.weight[0, :, 0, 0].detach().numpy() @ inner + gate.to_mask.bias.item()
    )
    expected = skip[voxel].numpy() / (1 + np.exp(-score))
    np.testing.assert_allclose(gate(gating, skip)[voxel].detach().numpy(), expected, rtol=1e-5)


def test_attention_masks_are_read_from_the_gates():
    torch.manual_seed(0)
    net = attention_unet(1, widths=SMALL, sizes="multiple")
    for gate, level in zip(gates_of(net), (1.0, -2.0), strict=True):
        nn.init.zeros_(gate.to_mask.weight)
        nn.init.constant_(gate.to_mask.bias, level)
    masks = compute_attention_masks(net, torch.rand(2, 1, 17, 12))
    assert [mask.shape for mask in masks] == [(2, 1, 17, 12)] * 2
    assert torch.allclose(masks[0], torch.tensor(1 / (1 + np.exp(-1.0)), dtype=torch.float32))
    assert torch.allclose(masks[1], torch.tensor(1 / (1 + np.exp(2.0)), dtype=torch.float32))
    assert net.training
    assert compute_attention_masks(UNet(1, widths=SMALL), torch.rand(1, 1, 8, 8)) == ()
    with pytest.raises(RuntimeError, match="channels"):
        compute_attention_masks(net, torch.rand(1, 2, 16, 16))
    assert net.training
    assert not any(gate._forward_hooks for gate in gates_of(net))


def test_grad_cam_is_largest_where_the_critic_responds_and_does_not_change_the_critic():
    torch.manual_seed(0)
    critic = guiding_critic(1, width=2, grid=2)
    with torch.no_grad():
        for layer in critic.features:
            if isinstance(layer, nn.Conv2d):
                layer.weight.abs_()
                layer.bias.zero_()
        critic.score[0].weight.abs_()
        critic.score[3].weight.abs_()
    image = torch.zeros(1, 1, 128, 128)
    image[..., 80:96, 32:48] = 1.0
    cam = compute_grad_cam(critic, image)[0, 0]
    assert cam.shape == (128, 128)
    peak = divmod(int(cam.argmax()), 128)
    assert 76 <= peak[0] < 100
    assert 28 <= peak[1] < 52
    assert float(cam[:48, 72:].max()) == 0
    assert critic.training
    assert all(parameter.grad is None for parameter in critic.parameters())


def test_the_guiding_critic_has_the_published_layers():
    critic = guiding_critic(3)
    strided = [module for module in critic.features if isinstance(module, nn.Conv2d)]
    assert [(module.kernel_size, module.stride) for module in strided] == [((4, 4), (2, 2))] * 4
    assert [module.p for module in critic.features if isinstance(module, nn.Dropout)] == [0.5] * 4
    assert critic.score[0].out_channels == 1
    assert critic.features(torch.rand(1, 3, 256, 256)).shape == (1, 512, 16, 16)
    assert guiding_critic(1, width=2)(torch.rand(2, 1, 40, 31)).shape == (2, 1)
    paper = get_method("attunet").recipes["paper"].build_critic(3)
    slopes = [
        module.negative_slope for module in paper.modules() if isinstance(module, nn.LeakyReLU)
    ]
    assert slopes == [0.01] * 5
    assert isinstance(paper.score[1], nn.LeakyReLU)


def test_a_vision_transformer_depends_on_every_patch_and_returns_it_to_its_position():
    torch.manual_seed(0)
    net = VisionTransformer(1, patch=4, width=16, heads=2, depth=1, grid=3)
    image = torch.rand(1, 1, 11, 9, requires_grad=True)
    net(image)[0, 0, 0, 0].backward()
    assert int((image.grad != 0).sum()) == 11 * 9
    identity = VisionTransformer(1, patch=4, width=16, heads=2, depth=0, grid=3)
    with torch.no_grad():
        identity.embed.weight.copy_(torch.eye(16).view(16, 1, 4, 4))
        identity.embed.bias.zero_()
        identity.position.zero_()
        identity.norm = nn.Identity()
        identity.to_patch.weight.copy_(torch.eye(16))
        identity.to_patch.bias.zero_()
    assert torch.allclose(identity(image), image, atol=1e-6)


def scikit_similarity(first, second):
    """Return the map of SSIM of two images."""
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return structural_similarity(first, second, data_range=1.0, full=True, **options)[1]


def test_ssim_equals_scikit_image():
    rng = np.random.default_rng(0)
    first = rng.random((2, 24, 20))
    second = 0.7 * first + 0.3 * rng.random(first.shape)
    loss = SSIMLoss()
    similarity = loss.similarity(*(torch.tensor(x)[:, None] for x in (first, second)))[
        :, 0
    ].numpy()
    for k in range(2):
        full = scikit_similarity(first[k], second[k])
        np.testing.assert_allclose(similarity[k][5:-5, 5:-5], full[5:-5, 5:-5], atol=1e-9)
    weight = torch.zeros(1, 1, 24, 20)
    weight[..., 5:-5, 5:-5] = 1
    value = float(loss(*(torch.tensor(x)[:, None] for x in (first, second)), weight))
    assert value == pytest.approx(1 - similarity[:, 5:-5, 5:-5].mean(), abs=1e-9)


def test_the_recipe_of_attunet_has_the_values_of_the_paper_and_of_its_code():
    recipe = get_method("attunet").recipes["paper"]
    losses = {"MAE": 1.0, "SSIMLoss": 1.0, "PSNRLoss": 0.002}
    weights = {"attunet": {**losses, "CriticScore": 0.0}, "unet": losses, "vit": losses}
    for name, expected in weights.items():
        paper = get_method(name).recipes["paper"]
        assert {term.build.__name__: term.weight for term in paper.losses} == expected
        assert (paper.batch, paper.epochs, paper.patches, paper.intensity) == (
            32,
            100,
            5920,
            "unit",
        )
        steps = paper.steps_per_epoch
        rates = [paper.rate(epoch * steps, 1e-3) for epoch in (0, 19, 20, 59, 60, 99)]
        assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 2.5e-4, 1.25e-4, 6.25e-5])
        assert paper.rate(20 * steps - 1, 1e-3) == 1e-3
    assert (recipe.learning_rate, recipe.betas) == (1e-3, (0.9, 0.999))
    assert (recipe.critic_learning_rate, recipe.critic_betas) == (2e-4, (0.5, 0.999))
    assert recipe.critic_steps == 5  # in print; 1 in the code
    assert recipe.build_generator.settings["widths"][0] == 64
    sloppy = ModelRequest(method="attunet", recipe="paper", sloppy=True).effective_recipe
    assert (sloppy.steps, sloppy.epochs_of_slices) == (12, False)


def test_the_critic_has_its_own_optimizer_and_a_constant_rate():
    recipe = replace(
        get_method("attunet").recipes["paper"],
        build_generator=lambda channels, _: attention_unet(channels, widths=SMALL),
        build_critic=lambda channels: guiding_critic(channels, width=2, grid=2),
    )
    nets = Networks(recipe, (2.0, 2.0, 1.0))
    assert nets.set_rate(25 * recipe.steps_per_epoch, 1.0) == 5e-4
    groups = {name: optimizer.param_groups[0] for name, optimizer in nets.optimizers.items()}
    assert {name: (group["lr"], group["betas"]) for name, group in groups.items()} == {
        "generator": (5e-4, (0.9, 0.999)),
        "critic": (2e-4, (0.5, 0.999)),
    }


def test_a_step_of_section_4_3_weights_three_losses():
    paper = get_method("attunet").recipes["paper"]
    recipe = replace(
        paper,
        build_generator=lambda channels, _: attention_unet(channels, widths=SMALL),
        build_critic=None,
    )
    nets = Networks(recipe, (2.0, 2.0, 1.0))
    image = torch.rand(2, 1, 16, 16)
    batch = Batch(input=image, target=0.5 * image, weight=torch.ones_like(image))
    output = nets.generator(image)
    parts = nets.update_generators(batch, output, False)
    output, ones = output.detach(), torch.ones_like(output)
    expected = sum(
        term.weight * float(term.build()(output, batch.target, ones))
        for term in recipe.losses
        if term.weight
    )
    assert len([term for term in recipe.losses if term.weight]) == 3
    assert parts["loss"] == pytest.approx(expected, rel=1e-4)


def test_critic_and_generator_of_attunet_have_equations_1_and_2():
    recipe = apply_changes(
        get_method("attunet").recipes["paper"],
        [change_of_method("adversarial=0.5", "attunet")],
    )
    (term,) = (term for term in recipe.losses if term.kind == "adversarial")
    loss = term.build()
    real, fake = torch.tensor([0.3, 2.0]), torch.tensor([-1.0, 0.5])
    d_real, d_fake = real.sigmoid(), fake.sigmoid()
    equation_1 = d_real.log().mean() + (1 - d_fake).log().mean()
    assert float(loss.critic(real, fake)) == pytest.approx(-0.5 * float(equation_1))
    assert term.weight == 0.5
    assert float(loss(fake)) == pytest.approx(float((1 - d_fake).mean()))


IN_PLANE = (2.0, 2.0, 1.0)


def slices_of_steps(examples, steps, size):
    """Return (image, slice) of all members of the batches of some steps, one list per step."""
    rng = np.random.default_rng(0)
    return [
        [
            (image, box[2][0])
            for image, box in examples.draw_windows(
                rng, IN_PLANE, iteration=step, seed=1, size=size
            )
        ]
        for step in steps
    ]


@pytest.mark.parametrize("name", ["attunet", "unet", "vit"])
def test_an_epoch_of_the_published_training_contains_each_training_slice_once(name):
    paper = get_method(name).recipes["paper"]
    # Index 2 is held out; slices of the last image have another size.
    heads = [ball(seed, (16, 16, 9)) for seed in range(4)] + [ball(5, (20, 16, 7))]
    # One slice contains hardly any head, the next none.
    heads[0].mask[..., 0], heads[0].mask[..., 1] = False, False
    heads[0].mask[8, 8, 1] = True
    examples = Examples(tuple(heads), replace(paper, batch=4), IN_PLANE, 2)
    steps = examples.recipe.steps_per_epoch
    assert steps == 7 + 2, "26 slices and 7 of other sides, in batches of 4"
    assert examples.recipe.steps == 100 * steps
    assert examples.recipe.look_every == steps
    expected = [
        (k, z)
        for k, head in enumerate(heads)
        if k != 2
        for z in range(head.mask.shape[2])
        if head.mask[..., z].any()
    ]
    assert len(expected) == examples.slice_count == 33
    orders = []
    for epoch in range(3):
        batches = slices_of_steps(examples, range(epoch * steps, (epoch + 1) * steps), 4)
        assert all(len({heads[k].mask.shape[:2] for k, _ in batch}) == 1 for batch in batches)
        orders.append([member for batch in batches for member in batch])
        assert sorted(orders[-1]) == expected
    assert orders[0] != orders[1] != orders[2]


def test_validation_images_are_not_part_of_an_epoch_and_5920_slices_are_185_steps():
    paper = get_method("unet").recipes["paper"]
    assert paper.steps == 100 * 185
    head = ball(0, (8, 8, 148))
    head.mask[:] = True
    held = replace(head, name="held out", validation=True)
    examples = Examples((head, held), paper, IN_PLANE, 2)
    assert examples.slice_count == 148
    assert examples.recipe.steps == 100 * 5  # batches of 32 slices


@pytest.mark.parametrize(
    ("text", "count"), [("patches=12", 12), ("patch=8", 5920), ("epochs=2", None)]
)
def test_setting_a_number_of_patches_replaces_epochs_of_slices(text, count):
    recipe = apply_changes(
        get_method("attunet").recipes["paper"], [change_of_method(text, "attunet")]
    )
    assert recipe.epochs_of_slices is (count is None)
    examples = Examples((ball(0),), recipe, IN_PLANE, 2)
    if count is None:
        assert examples.recipe.steps == 2 * -(-examples.slice_count // 32)
    else:
        assert examples.recipe.steps_per_epoch == -(-count // 32)
