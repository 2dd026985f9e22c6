"""The upsampler of a series of a run: scale, guides and gain from the boldref, then `make_upsampler`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bids_sr.io.array_types import Array
from bids_sr.series import PAIR_BASELINES
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.inference.apply_to_series import InferenceError, Precision, Upsampler, make_upsampler
from bids_sr.sr.inference.guided_baselines import PosedImage, match_gain
from bids_sr.sr.models.compatibility import check_model, describe
from bids_sr.sr.resolution.degradation import Factor

if TYPE_CHECKING:
    from bids_sr.sr.data.temporal_components import TemporalStatistics
    from bids_sr.sr.models.model import LoadedModel


def series_upsampler(
    name: str, factor: Factor, *, affine: Array, boldref: tuple[Array, Array], mask: Array,
    model: LoadedModel | None = None, guide: PosedImage | None = None, statistics: TemporalStatistics | None = None,
    distortion: Distortion | None = None, displace: str = "", precision: Precision = "auto", device: str = "cpu",
    threads: int = 1, force: bool = False,
) -> Upsampler:  # fmt: skip
    """The upsampler of a series on the intensities of its run.

    Parameters
    ----------
    name : baseline, "raw", or method with its `model`
    factor : acquired over high-resolution voxel size
    affine : voxel to RAS mm of the volumes
    boldref : (x, y, z) reference of the run, and its affine
    mask : (x, y, z) brain in the boldref; the 99th percentile within it is the intensity scale
    guide : high-resolution image; of methods of the run its static detail is added, networks do not take it
    statistics : of the run, for its variance maps
    distortion, displace, precision, device, threads : see `make_upsampler`
    force : use a model that does not fit the series

    Raises
    ------
    ModelMismatch : the model is for another resolution, contrast, orientation or factor
    InferenceError : the mask is empty, or something that the name needs is not there
    """
    reference, own = boldref
    if not mask.any():
        raise InferenceError("the mask is empty")
    given: dict[str, Any] = {"scale": float(np.percentile(reference[mask], 99))}
    if model is not None:
        check_model(model.card, describe(affine, "bold", factor), force=force)
        if model.card.trained_on == "series":
            if statistics is None:
                raise InferenceError(f"{name} needs the temporal statistics of its estimation")
            given |= {"statistics": statistics, "mask": mask, "distortion": distortion, "displace": displace}
            if guide is not None:
                given |= {"guide": guide, "gain": _gain(guide, reference, own, mask, factor)}
        given |= {"model": model, "precision": precision, "device": device, "threads": threads}
    elif name in PAIR_BASELINES:
        if guide is None:
            raise InferenceError(f"{name} needs the subject's high-resolution image and its transform to the BOLD")
        given |= {"guide": guide, "gain": _gain(guide, reference, own, mask, factor)}
        given["mean"] = PosedImage(data=reference, affine=own, distortion=distortion)
    return make_upsampler(name, factor, affine=affine, **given)


def _gain(guide: PosedImage, reference: Array, affine: Array, mask: Array, factor: Factor) -> float:
    """What brings the guide to the intensity of the run."""
    shape, grid = hr_grid(reference.shape, affine, factor)
    return match_gain(guide.seen(shape, grid, None), reference, mask)
