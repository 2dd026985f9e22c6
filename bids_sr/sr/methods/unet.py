"""U-Net, for comparison with the attention U-Net.

`paper` is the published network (Ronneberger et al. 2015) with 31 million parameters, trained like
the attention U-Net (attention_unet, section 4.6), with its final sigmoid and without
normalization. The `unet` in the code of Li et al. 2022 has normalized
convolutions. `fast` is the fast attention U-Net without its gates, and thus shows their benefit.
There is no critic, because it would only serve for inspection.
"""

from dataclasses import replace

from bids_sr.io.run_time import RunTime
from bids_sr.sr.method import Method
from bids_sr.sr.methods import attunet
from bids_sr.sr.recipe import ImportedWhenCalled, network

_PAPER = replace(
    attunet.remove_critic(attunet.PAPER),
    build_generator=network("unet.UNet", widths=attunet.PAPER_WIDTHS, head="sigmoid"),
)
_FAST = replace(
    attunet.remove_critic(attunet.FAST),
    build_generator=network(
        "unet.UNet",
        widths=attunet.FAST_WIDTHS,
        head="residual",
        block=ImportedWhenCalled("architectures.unet.normalized_convolution"),
    ),
)

METHOD = Method(
    name="unet",
    ndim=2,
    recipes={"fast": _FAST, "paper": _PAPER},
    reference="unet",
    summary="U-Net that processes whole slices, for comparison with the attention U-Net",
    trained_on="images",
    fuses_contrasts=True,
    paper_precision="mixed",
    costs={"fast": RunTime(high=345.0, series=0.99)},
)
