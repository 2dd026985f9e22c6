"""Effect of the arithmetic precision of a network on statistics."""

import logging
from dataclasses import replace

import numpy as np
from threadpoolctl import threadpool_limits

from bids_sr.config.memory import Need
from bids_sr.evaluation.t_change import t_change
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.design import Design
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import MetricRow, metric_rows
from bids_sr.pipeline.artifacts import File, Image, Mask, Rows, Series
from bids_sr.pipeline.step import step
from bids_sr.sr.device import Device, Precision, choose_device
from bids_sr.sr.inference.precision_pairs import compare_precisions, highres_mask, select_slices
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.sr.models.card import read_card
from bids_sr.sr.models.model import load_model
from bids_sr.steps.linear_models import LinearModel

_LOGGER = logging.getLogger(__name__)
_MAX_CHANGE = 0.01
"""Largest change of t by a lower precision, in units of the noise of t."""
_N_TESTED_SLICES = 3
"""Number of slices for the test of a lower precision, in all volumes."""


PRECISION_TEXT = (
    "Networks were applied in single precision, except if bfloat16 changed t by less than 1 %"
    " of its noise in all contrasts, as tested in slices of the run. "
)
"""Methods text of the choice of the precision of networks."""


@step(makes=("precision", "precision_rows"), memory=Need(always=0.12, high=0.25))
def guard_precision(
    stc: Series,
    boldref: Image,
    bold_mask: Mask,
    model_file: File,
    linear_model: LinearModel,
    *,
    series_name: str,
    factor: Factor,
    precision: Precision,
    device: Device,
    force: bool,
    omp_nthreads: int,
) -> tuple[Precision, Rows]:
    """Return the precision of a network, fp32 or bf16; bf16 only if it hardly changes t.

    ``fp32`` is used without a test. ``auto`` tests bf16 on CUDA devices and uses it if it passes;
    on other devices, the precision is fp32. ``bf16`` is tested, and rejected if the test fails
    unless `force` is set. Variance maps of the run are always applied in fp32.

    Raises
    ------
    ValueError
        If bf16 was requested and changes t, and `force` is not set.
    """
    chosen_device = choose_device(device)
    is_tested = precision == "bf16" or (precision == "auto" and chosen_device.startswith("cuda"))
    if not is_tested:
        return "fp32", []
    if read_card(model_file).trained_on == "series":
        _LOGGER.info(
            "%s is always applied in fp32; the requested precision is ignored", series_name
        )
        return "fp32", []
    change_by_contrast = _measure_t_change(
        stc,
        boldref,
        bold_mask,
        linear_model.build_design(stc),
        linear_model.inputs.regressors.filter_contrasts(linear_model.contrasts),
        series_name=series_name,
        model_file=model_file,
        factor=factor,
        device=chosen_device,
        threads=omp_nthreads,
    )
    largest_change = max(change_by_contrast.values())
    is_small = largest_change <= _MAX_CHANGE
    if not is_small:
        _refuse_or_warn(series_name, largest_change, is_requested=precision == "bf16", force=force)
    rows: list[MetricRow] = []
    for contrast, change in change_by_contrast.items():
        rows += metric_rows(
            series_name, {"precision_change": change}, contrast=contrast, region="brain"
        )
    is_bf16_used = is_small or (precision == "bf16" and force)
    return "bf16" if is_bf16_used else "fp32", rows


def _refuse_or_warn(
    series_name: str, largest_change: float, *, is_requested: bool, force: bool
) -> None:
    """Raise a `ValueError` if bf16 was requested without `force`, otherwise log a warning."""
    change_text = (
        f"{series_name}: bf16 precision changes the t values by {largest_change:.3g} standard"
        " deviations of their noise (root mean square for the worst contrast); at most"
        f" {_MAX_CHANGE:g} is allowed"
    )
    if is_requested and not force:
        raise ValueError(
            f"{change_text}. Use --precision fp32 or auto, or override this check with --set "
            "superres.force=true."
        )
    choice = "bf16 is used because of superres.force" if force else "fp32 is used instead"
    _LOGGER.warning("%s; %s", change_text, choice)


def _measure_t_change(
    stc: SeriesReader,
    boldref: Volume,
    bold_mask: Volume,
    design: Design,
    contrasts: Contrasts,
    *,
    series_name: str,
    model_file: File,
    factor: Factor,
    device: str,
    threads: int,
) -> dict[str, float]:
    """Return the change of t from fp32 to bf16, by contrast, in some slices of all volumes.

    Parameters
    ----------
    stc : SeriesReader
        Series after slice-timing correction (signal units).
    boldref, bold_mask : Volume
        Boldref, and brain on the acquired grid.
    design : Design
        Design of the linear model of the run.
    contrasts : Contrasts
        Weights of the regressors by contrast.
    series_name : str
        Name of the series of the network.
    model_file : File
        Weights of the network, with the model card in the same folder.
    factor : Factor
        Ratio of acquired to high-resolution voxel size, per axis.
    device : str
        Torch device.
    threads : int
        Number of CPU threads.
    """
    slices = select_slices(bold_mask.data, _N_TESTED_SLICES)
    mask_hr = highres_mask(bold_mask.data, slices, factor)
    scale = float(np.percentile(boldref.data[bold_mask.data], 99))
    fp32_inputs = UpsamplerInputs(
        factor=factor, scale=scale, precision="fp32", device=device, threads=threads
    )
    fp32, bf16 = (
        make_upsampler(series_name, inputs, load_model(model_file))
        for inputs in (fp32_inputs, replace(fp32_inputs, precision="bf16"))
    )
    with threadpool_limits(threads):
        volume_pairs = compare_precisions(stc, fp32, bf16, slices, mask_hr, start=design.n_dummy)
        return t_change(volume_pairs, design, contrasts)
