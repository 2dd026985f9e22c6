"""`--data-consistency enforce`: before head motion is undone every series holds what was acquired,
to 1e-4.
"""

import numpy as np
import pytest
import torch
from checking import inconsistency
from torch import nn

from bids_sr.io.nifti import SeriesReader, SeriesWriter, load_image
from bids_sr.series import INTERPOLATIONS, PAIR_BASELINES
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.inference import apply_to_series, guided_baselines, upsamplers
from bids_sr.sr.inference.acquired import UpsamplerInputs
from bids_sr.sr.method import get_method
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.model import LoadedModel

AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
_BOUND = 1e-4


def upsampler(
    name: str, factor: tuple[float, float, float], volume: np.ndarray
) -> apply_to_series.Upsampler:
    """An upsampler that departs from the data where its kind can."""
    rng = np.random.default_rng(3)
    if name in ("fast", "paper"):
        torch.manual_seed(0)
        recipe = get_method("dcnet" if name == "fast" else "srgan").recipes[name]
        net = recipe.build_generator(1, factor)
        if name == "fast":
            nn.init.normal_(net.tail.weight, std=0.1)
        model = LoadedModel(generator=net.eval(), recipe=recipe, card=ModelCard())
        return upsamplers.make_upsampler(
            "srgan", UpsamplerInputs(factor=factor, scale=900.0), model
        )
    shape, fine = hr_grid(volume.shape, AFFINE, factor)
    guide = guided_baselines.PosedImage(data=900 * rng.random(shape), affine=fine)
    mean = guided_baselines.PosedImage(data=volume + 20 * rng.random(volume.shape), affine=AFFINE)
    given = (
        {"affine": AFFINE, "guide": guide, "mean": mean, "scale": 900.0}
        if name in PAIR_BASELINES
        else {}
    )
    return upsamplers.make_upsampler(name, UpsamplerInputs(factor=factor, **given))


@pytest.mark.parametrize("factor", [(2.0, 2.0, 1.0), (1.5, 2.0, 1.0), (2.0, 2.0, 2.0)])
@pytest.mark.parametrize("name", [*INTERPOLATIONS, *PAIR_BASELINES, "fast", "paper"])
def test_what_was_acquired_is_kept_after_enforcing(
    tmp_path, name: str, factor: tuple[float, float, float]
) -> None:
    if name in ("fast", "paper") and factor[2] != 1:
        with pytest.raises(
            (ValueError, apply_to_series.InferenceError), match=r"in-plane|number of slices"
        ):
            upsampler(name, factor, np.ones((4, 4, 4)))
        return
    volumes = [
        900 * np.random.default_rng(t).random((12, 14, 4)).astype(np.float32) for t in range(2)
    ]
    shape, fine = hr_grid(volumes[0].shape, AFFINE, factor)
    left = {}
    for consistency in ("off", "enforce"):
        source, out = tmp_path / "in.nii", tmp_path / f"{consistency}.nii"
        with SeriesWriter(source, (*volumes[0].shape, 2), AFFINE, 2.0) as writer:
            for volume in volumes:
                writer.append(volume)
        with SeriesReader(source) as reader, SeriesWriter(out, (*shape, 2), fine, 2.0) as writer:
            up = upsampler(name, factor, volumes[0])
            # no motion: what is written is what was enforced
            still = np.repeat(np.eye(4)[None], 2, 0)
            apply_to_series.super_resolve_series(
                reader, writer, up, still, shape, fine, factor=factor, consistency=consistency
            )
        series = load_image(out)[0]
        left[consistency] = max(inconsistency(series[..., t], volumes[t]) for t in range(2))
    assert left["enforce"] <= _BOUND
    # those keep it of themselves, the fast network by what it predicts
    if name not in ("zerofill", "inject", "fast"):
        assert left["off"] > 10 * _BOUND  # there was something to enforce
