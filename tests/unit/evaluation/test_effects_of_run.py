"""The control at the resolution of a compared series is one series with one width for all
values.
"""

import numpy as np
from data.block_effects import make_blocks, make_effects

from bids_sr.evaluation.compared_series.smoothness_matching import select_control_width
from bids_sr.evaluation.effects_of_run import RunEffects
from bids_sr.spatial.smoothing import smooth

SHAPE, ZOOMS = (24, 24, 6), (2.0, 2.0, 3.0)


def simulated_effects(noise: float):
    """Simulate a smooth effect with white noise in each block."""
    rng = np.random.default_rng(2)
    true = smooth(rng.standard_normal(SHAPE), ZOOMS, 8.0)
    betas = (true / true.std())[..., None] + noise * rng.standard_normal((*SHAPE, 8))
    return make_effects("zerofill", betas, make_blocks("a" * 8), np.diag([*ZOOMS, 1.0]))


def test_the_control_is_a_single_series_whose_width_depends_on_noise(tmp_path):
    inside = np.ones(SHAPE, bool)
    widths = [select_control_width(simulated_effects(noise), inside, 6.0) for noise in (0.2, 8.0)]
    assert widths[0] < 6.0 < widths[1]
    effects = simulated_effects(1.0)
    assert select_control_width(effects, inside, 0.0) == 0.0
    run = RunEffects(
        files={"zerofill": effects.save(tmp_path / "zerofill")},
        contrasts={},
        mask=inside,
        affine=effects.affine,
        roi=inside,
        factor=(2, 2, 1),
        same_widths={"NORDIC": 6.0},
    )
    assert [name for name, _, _ in run.series()] == ["zerofill", "NORDICSame"]
