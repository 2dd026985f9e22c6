"""The control at the resolution of a compared series is one series with one width for all
values.
"""

import numpy as np

from bids_sr.compared_series.smoothness_matching import _WIDTH_RATIOS, select_control_width
from bids_sr.evaluation.effects_of_run import RunEffects
from bids_sr.glm.block_effects import Effects, save_effects
from bids_sr.glm.blocks import TaskBlock, _assign_halves
from bids_sr.glm.smoothing import smooth

SHAPE, ZOOMS = (24, 24, 6), (2.0, 2.0, 3.0)
BLOCKS = tuple(
    _assign_halves([TaskBlock(condition="a", events=((20.0 * k, 10.0),)) for k in range(8)])
)


def simulated_effects(noise: float) -> Effects:
    """Simulate a smooth effect with white noise in each block."""
    rng = np.random.default_rng(2)
    true = smooth(rng.standard_normal(SHAPE), ZOOMS, 8.0)
    betas = (true / true.std())[..., None] + noise * rng.standard_normal((*SHAPE, len(BLOCKS)))
    return Effects(
        series="zerofill",
        affine=np.diag([*ZOOMS, 1.0]),
        mask=np.ones(SHAPE, bool),
        betas=betas.astype(np.float32),
        mean=np.ones(SHAPE, np.float32),
        blocks=BLOCKS,
        covariance=np.eye(8),
        leak=np.zeros((8, 9)),
    )


def test_the_width_of_the_control_depends_on_noise():
    inside = np.ones(SHAPE, bool)
    widths = [select_control_width(simulated_effects(noise), inside, 6.0) for noise in (0.2, 8.0)]
    assert widths == [6.0 * _WIDTH_RATIOS[0], 6.0 * _WIDTH_RATIOS[-1]]
    assert select_control_width(simulated_effects(1.0), inside, 0.0) == 0.0


def test_the_control_is_a_single_series(tmp_path):
    effects = simulated_effects(1.0)
    files = {"zerofill": save_effects(effects, tmp_path / "zerofill.npz")}
    run = RunEffects(
        files=files,
        contrasts={},
        mask=effects.mask,
        affine=effects.affine,
        roi=effects.mask,
        factor=(2, 2, 1),
        same_widths={"NORDIC": 6.0},
    )
    names = [name for name, _, _ in run.series()]
    assert names == ["zerofill", "NORDICSame"]
