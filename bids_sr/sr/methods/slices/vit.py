"""Vision transformer, for comparison with the attention U-Net.

`paper` is ViT-M of Lin & Heckel 2022, trained as attention_unet trains its own network (section 4.6). `fast` is ours: a
small transformer of the same kind, whose patches are added to the interpolated image.
"""

from __future__ import annotations

from dataclasses import replace

from bids_sr.sr.method import Method
from bids_sr.sr.methods.slices import attunet
from bids_sr.sr.networks.vision_transformer import VisionTransformer
from bids_sr.sr.resolution.degradation import Factor


def _paper_generator(channels: int, factor: Factor) -> VisionTransformer:
    attunet.in_plane(factor)
    return VisionTransformer(channels)


def _fast_generator(channels: int, factor: Factor) -> VisionTransformer:
    attunet.in_plane(factor)
    return VisionTransformer(channels, patch=8, width=96, heads=4, depth=4, grid=16, head="residual")


PAPER = replace(
    attunet.PAPER, build_generator=_paper_generator, build_critic=None, keep_critic=False,
    losses=attunet.without_critic(attunet.PAPER.losses), critic_steps=1,
)  # fmt: skip
FAST = replace(
    attunet.FAST, build_generator=_fast_generator, build_critic=None, keep_critic=False,
    losses=attunet.without_critic(attunet.FAST.losses), learning_rate=1e-3,
)  # fmt: skip

METHOD = Method(
    name="vit",
    ndim=2,
    needs_pair=True,
    recipes={"fast": FAST, "paper": PAPER},
    reference="vit_mri",
    summary="vision transformer on whole slices, the attention U-Net's comparison",
    trained_on="images",
)
