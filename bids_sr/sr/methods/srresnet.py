"""SRResNet: the published generator of `srgan`, trained without a critic.

The network, its input, patches, batch size and learning rate are those of `srgan` with recipe
`paper`. Squared error is the only loss, as in SRResNet-MSE of Ledig et al. 2017, and the number of
steps is ours. The pair of the example had its highest held-out PSNR at the largest of 250, 500,
750 and 1,000 steps; 750 steps take some minutes. With a critic, the same generator explains less
of the detail of effects (benchmarks/results/srgan_training.md).
"""

from dataclasses import replace

from bids_sr.io.run_time import RunTime
from bids_sr.sr.method import Method
from bids_sr.sr.methods import srgan
from bids_sr.sr.recipe import loss

METHOD = Method(
    name="srresnet",
    ndim=2,
    recipes={
        "fast": replace(
            srgan.PAPER,
            build_critic=None,
            losses=(loss("content", "image.MSE", 4.0),),
            iterations=750,
            evaluate_every=250,
            hold_out=5,
            every_slice=False,
            keep="last",
        )
    },
    reference="srgan",
    summary=(
        "SRResNet (the full generator of srgan, without a critic), trained slice by slice with"
        " squared error on the participant's own pair of T2*-weighted images"
    ),
    article="an",
    # .5 s of processor time per step with one thread (benchmarks/srgan_training.py)
    costs={"fast": RunTime(always=375.0, series=srgan.METHOD.costs["paper"].series)},
)
