"""Vision transformer, for comparison with the attention U-Net.

`paper` is ViT-M (Lin & Heckel 2022), trained like the attention U-Net (attention_unet, section
4.6), with its final sigmoid (our choice). `fast` is ours: a small
transformer of the same type, whose output patches are added to the interpolated image.
"""

from dataclasses import replace

from bids_sr.io.run_time import RunTime
from bids_sr.sr.method import Method
from bids_sr.sr.methods import attunet
from bids_sr.sr.recipe import network

_NETWORK = "vision_transformer.VisionTransformer"
_PAPER = replace(
    attunet.remove_critic(attunet.PAPER),
    build_generator=network(_NETWORK, head="sigmoid"),
)
_FAST = replace(
    attunet.remove_critic(attunet.FAST),
    learning_rate=1e-3,
    build_generator=network(
        _NETWORK, patch=8, width=96, heads=4, depth=4, grid=16, head="residual"
    ),
)

METHOD = Method(
    name="vit",
    ndim=2,
    recipes={"fast": _FAST, "paper": _PAPER},
    reference="vit_mri",
    summary="vision transformer for whole slices, for comparison with the attention U-Net",
    trained_on="images",
    fuses_contrasts=True,
    paper_precision="mixed",
    costs={"fast": RunTime(high=147.0, series=0.29)},
)
