"""U-Net, for comparison with the attention U-Net.

`paper` is the network as published (Ronneberger et al. 2015), 31 million parameters, trained as
attention_unet trains its own (section 4.6): nothing is squeezed or normalized. `fast` is the fast
attention U-Net without its gates, and so tells what they are good for. The critic is left out:
nothing is read from it here.
"""

from dataclasses import replace

from bids_sr.sr.method import Cost, Method
from bids_sr.sr.methods import attunet
from bids_sr.sr.recipe import ImportedWhenCalled, network

_PAPER = replace(
    attunet.without_critic(attunet.PAPER),
    build_generator=network("unet.UNet", flat=True, widths=attunet.PAPER_WIDTHS),
)
_FAST = replace(
    attunet.without_critic(attunet.FAST),
    build_generator=network(
        "unet.UNet",
        flat=True,
        widths=attunet.FAST_WIDTHS,
        head="residual",
        block=ImportedWhenCalled("networks.unet.normalized_convolution"),
    ),
)

METHOD = Method(
    name="unet",
    ndim=2,
    recipes={"fast": _FAST, "paper": _PAPER},
    reference="unet",
    summary="U-Net that processes whole slices, for comparison with the attention U-Net",
    trained_on="images",
    fuses=True,
    costs={"fast": Cost(high=345.0, series=0.99)},
)
