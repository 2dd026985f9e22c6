"""Guards against false detail: uncertainty, unrepeated detail, precision, edges, images unlike those trained on."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, InputMultiObject, traits

from bids_sr.interfaces.learning.training_inputs import DeviceInputSpec, choose_device
from bids_sr.interfaces.statmap_interfaces import filename
from bids_sr.interfaces.steps import AXIS_ORDER, FACTOR, ModelInputSpec, RowsOutputSpec, Step, saved, timing, write_rows
from bids_sr.stats.regions import map_sidecars

LOGGER = logging.getLogger(__name__)


class PrecisionRefused(ValueError):
    """A lower precision was asked for that changes the statistics; the message has the figure and the remedy."""


class _MapsOutputSpec(RowsOutputSpec):
    maps = traits.List(File(exists=True), desc="maps, one a contrast")
    entities = traits.List(traits.Dict, desc="BIDS entities of each")
    sidecars = traits.List(traits.Dict, desc="metadata of each")


def _write_maps(found: Sequence[Any], affine: Any, axis_order: Any, cwd: Path) -> dict[str, Any]:
    """Images with their entities and sidecars; `found` are `stats.guardmaps.GuardMap`."""
    from bids_sr.spatial.masks import voxel_sizes

    files, entities, sidecars = [], [], []
    for each in found:
        own = map_sidecars.entities(
            series=each.series, contrast=each.contrast, stat=each.stat, desc=each.series, suffix="statmap"
        )
        common = map_sidecars.common_sidecar(
            series=each.series, fwhm_mm=0.0, zooms=voxel_sizes(affine).tolist(), axis_order=axis_order
        )
        files.append(saved(cwd / filename(own), each.values, affine))
        entities.append(own)
        sidecars.append({**each.sidecar, **common})
    return {"maps": files, "entities": entities, "sidecars": sidecars}


class EnsembleUncertainty(Step):
    """Standard deviation of the effect between members of an ensemble, and its calibration where truth is known."""

    class input_spec(BaseInterfaceInputSpec):
        effects_files = InputMultiObject(
            File(exists=True), mandatory=True, desc="of all members, the method's own among them"
        )
        method = traits.Str(mandatory=True, desc="series whose ensemble this is")
        measured_file = File(exists=True, desc="effects of the measured series")
        truth_files = traits.Dict(desc="known activation in signal units: contrast to image in the frame of the mask")
        mask = File(exists=True, mandatory=True, desc="brain mask on the high-resolution grid")
        contrasts = traits.Dict(mandatory=True, desc="name to weights of trial types")
        n_boot = traits.Range(low=0, value=1000, usedefault=True, desc="resamples of slices")
        seed = traits.Int(0, usedefault=True, desc="of the resamples")
        axis_order = AXIS_ORDER

    output_spec = _MapsOutputSpec

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.io.nifti import load_image
        from bids_sr.spatial.resampling import sample_volume
        from bids_sr.stats.controls.uncertainty import uncertainty_maps
        from bids_sr.stats.glm.block_effects import load_effects

        mask, affine = load_image(inputs.mask)
        truth = {}
        for name, path in (inputs.truth_files or {}).items():
            truth[name] = sample_volume(*load_image(path), mask.shape, affine)
        rows, maps = uncertainty_maps(
            load_effects(inputs.effects_files[0]), [Path(path) for path in inputs.effects_files[1:]], inputs.contrasts,
            mask > 0.5, affine, truth=truth,
            measured=load_effects(inputs.measured_file) if inputs.measured_file else None,
            n_boot=inputs.n_boot, seed=inputs.seed,
        )  # fmt: skip
        return {
            "out_file": write_rows(here / "uncertainty.tsv", rows),
            **_write_maps(maps, affine, inputs.axis_order, here),
        }


class UnrepeatedMap(Step):
    """Fine detail of one series that neither the pair nor the course of time supports."""

    class input_spec(BaseInterfaceInputSpec):
        effects_file = File(exists=True, mandatory=True, desc="effects of the series, as BlockEffects gives")
        guide_hr = File(exists=True, desc="high-resolution image on the grid of the mask, in the boldref's pose")
        mask = File(exists=True, mandatory=True, desc="brain mask on the high-resolution grid")
        factor = FACTOR
        contrasts = traits.Dict(mandatory=True, desc="name to weights of trial types")
        seed = traits.Int(0, usedefault=True, desc="of the sign flips")
        axis_order = AXIS_ORDER

    output_spec = _MapsOutputSpec

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from threadpoolctl import threadpool_limits

        from bids_sr.io.nifti import load_image
        from bids_sr.stats.controls.uncertainty import unrepeated_maps
        from bids_sr.stats.glm.block_effects import load_effects

        mask, affine = load_image(inputs.mask)
        with threadpool_limits(1):
            rows, maps = unrepeated_maps(
                load_effects(inputs.effects_file), inputs.contrasts, mask > 0.5, affine, inputs.factor,
                guide=load_image(inputs.guide_hr)[0] if inputs.guide_hr else None, seed=inputs.seed,
            )  # fmt: skip
        return {
            "out_file": write_rows(here / "unrepeated.tsv", rows),
            **_write_maps(maps, affine, inputs.axis_order, here),
        }


class PrecisionGuard(Step):
    """Choose the network's precision: a lower one only where it leaves t alone.

    ``fp32`` tries nothing. ``auto`` tries bf16 on CUDA devices and takes it where it passes; elsewhere it is fp32.
    ``bf16`` is tried, and refused where it fails unless forced. Variance maps of the run are applied in fp32 whatever
    is asked for.
    """

    class input_spec(DeviceInputSpec, ModelInputSpec):
        precision = traits.Enum("auto", "fp32", "bf16", usedefault=True, desc="what was asked for")
        model_file = File(exists=True, mandatory=True, desc="weights with the card beside them")
        boldref = File(exists=True, mandatory=True, desc="reference of the run, on the acquired grid")
        factor = FACTOR
        contrasts = traits.Dict(mandatory=True, desc="name to weights of trial types")
        threshold = traits.Float(0.01, usedefault=True, desc="largest change of t, in units of its noise")
        n_slices = traits.Range(low=1, value=3, usedefault=True, desc="slices that are tried, all volumes of each")
        force = traits.Bool(False, usedefault=True, desc="use the lower precision whatever it does")

    class output_spec(RowsOutputSpec):
        precision = traits.Enum("fp32", "bf16", desc="what inference is to use")
        passes = traits.Bool(desc="the lower precision leaves the statistics alone, or was not tried")
        change = traits.Either(None, traits.Float, desc="largest change of t over contrasts; None: not tried")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.sr.models.model import read_card

        rows = []
        device = choose_device(inputs.device)
        lower = inputs.precision == "bf16" or (inputs.precision == "auto" and device.startswith("cuda"))
        tried = lower and read_card(inputs.model_file).trained_on != "series"
        if lower and not tried:
            LOGGER.info("%s is applied in fp32, whatever precision is asked for", inputs.series)
        chosen, passes, change = "fp32", True, None
        if tried:
            found = _change_of_t(inputs, device)
            change = max(found.values())
            passes = change <= inputs.threshold
            rows = [_brain_row(inputs.series, "precision_change", each, contrast=name) for name, each in found.items()]
            chosen = "bf16" if passes or (inputs.precision == "bf16" and inputs.force) else "fp32"
            if not passes:
                _refuse_or_warn(inputs, change)
        out = write_rows(here / "precision.tsv", rows)
        return {"out_file": out, "precision": chosen, "passes": passes, "change": change}


def _brain_row(series: str, measure: str, value: float, **more: Any) -> Any:
    from bids_sr.metrics.long_tables import MetricRow

    return MetricRow(series=series, measure=measure, value=float(value), region="brain", **more)


def _refuse_or_warn(inputs: Any, change: float) -> None:
    text = (
        f"{inputs.series}: bf16 changes t by {change:.3g} of its noise (root mean square, worst contrast); at most "
        f"{inputs.threshold:g} is allowed"
    )
    if inputs.precision == "bf16" and not inputs.force:
        raise PrecisionRefused(f"{text}. Use --precision fp32 or auto, or overrule with --force")
    LOGGER.warning("%s; %s", text, "overruled by --force" if inputs.force else "fp32 is used")


def _change_of_t(inputs: Any, device: str) -> dict[str, float]:
    """Change of t from fp32 to bf16, by contrast, on some slices of all volumes."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    from bids_sr.interfaces.statmap_interfaces import confounds_of
    from bids_sr.io.nifti import SeriesReader, load_image
    from bids_sr.sr.inference.acquired import Acquired
    from bids_sr.sr.inference.apply_to_series import fine_mask, in_both, make_upsampler, some_slices
    from bids_sr.sr.models.model import load_model
    from bids_sr.stats.controls.t_perturbation import t_change
    from bids_sr.stats.glm.design import build_design, read_confounds
    from bids_sr.stats.glm.regressors import read_regressors

    boldref, mask = load_image(inputs.boldref)[0], load_image(inputs.mask)[0] > 0.5
    slices = some_slices(mask, inputs.n_slices)
    inside = fine_mask(mask, slices, inputs.factor)
    scale = float(np.percentile(boldref[mask], 99))
    acquired = Acquired(factor=inputs.factor, scale=scale, device=device, threads=inputs.threads)
    lower = replace(acquired, precision="bf16")
    full, less = (make_upsampler(inputs.series, each, load_model(inputs.model_file)) for each in (acquired, lower))
    design = timing(inputs)
    if inputs.confounds_tsv:
        design |= {"confounds": read_confounds(inputs.confounds_tsv), "confound_names": confounds_of(inputs)}
    with SeriesReader(inputs.in_file) as reader, threadpool_limits(inputs.threads):
        events = read_regressors(inputs.events_file)
        model = build_design(events, n_volumes=reader.shape[3], **design)
        pairs = in_both(reader, full, less, slices, inside, start=inputs.n_dummy)
        return t_change(pairs, model, events.contrasts(inputs.contrasts))


class EdgeMismatch(Step):
    """How far edges of the boldref lie from those of the T2*-weighted image: distortion by susceptibility."""

    class input_spec(BaseInterfaceInputSpec):
        boldref = File(exists=True, mandatory=True, desc="reference of the run, on the acquired grid")
        guide_hr = File(exists=True, mandatory=True, desc="image of the pair on the fine grid, in the boldref's pose")
        mask_hr = File(exists=True, mandatory=True, desc="brain mask on that grid")
        phase_encoding = traits.Enum(
            "", "i", "j", "k", "i-", "j-", "k-", usedefault=True, desc="as in BIDS; '': unknown"
        )
        guided = traits.List(traits.Str, desc="series that lay the guide's detail over the BOLD, for the warning")

    class output_spec(RowsOutputSpec):
        mismatch = traits.Float(desc="median displacement of edges, mm; NaN where too few have a counterpart")
        warnings = traits.List(traits.Str, desc="what the user should know")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.io.nifti import load_image
        from bids_sr.spatial.edges import edge_mismatch
        from bids_sr.spatial.masks import voxel_sizes
        from bids_sr.spatial.resampling import sample_volume

        (boldref, acquired), (guide, affine) = load_image(inputs.boldref), load_image(inputs.guide_hr)
        mask = load_image(inputs.mask_hr)[0] > 0.5
        axis = {"i": 0, "j": 1}.get(inputs.phase_encoding[:1])
        sizes = voxel_sizes(acquired)
        found = edge_mismatch(
            sample_volume(boldref, acquired, guide.shape, affine), guide, mask, affine,
            blur_mm=float(sizes[:2].max()), axis=axis,
        )  # fmt: skip
        limit = 0.5 * float(sizes[1 if axis is None else axis])
        values = {
            "edge_mismatch": found.median,
            "edge_mismatch_p90": found.p90,
            "flag_distortion": found.median > limit,
        }
        rows = [_brain_row("run", name, value, n=found.n) for name, value in values.items()]
        return {
            "out_file": write_rows(here / "edges.tsv", rows),
            "mismatch": found.median,
            "warnings": _edge_warnings(found, limit, inputs.guided or ()),
        }


def _edge_warnings(found: Any, limit: float, guided: Sequence[str]) -> list[str]:
    """Sentences for the report; those that matter are logged too."""
    out = []
    if found.median != found.median:
        out.append("Too few edges of the boldref were found in the T2*-weighted image to measure distortion.")
    elif found.median > limit:
        names = f" {', '.join(guided)} lay" if guided else " What takes detail from that image lays"
        out.append(
            f"Edges of the boldref and of the T2*-weighted image lie {found.median:.1f} mm apart (median; a tenth more "
            f"than {found.p90:.1f} mm), more than half an acquired voxel ({limit:.1f} mm): the BOLD is distorted."
            f"{names} detail where it does not belong."
        )
    for text in out:
        LOGGER.warning(text)
    return out


class DomainGate(Step):
    """Whether the run looks like what the model was trained on: its intensities, and how much edge is in it."""

    class input_spec(BaseInterfaceInputSpec):
        model_file = File(exists=True, mandatory=True, desc="weights with the card beside them")
        boldref = File(exists=True, mandatory=True, desc="reference of the run, on the acquired grid")
        mask = File(exists=True, mandatory=True, desc="brain on that grid")
        series = traits.Str(mandatory=True, desc="name of the method")

    class output_spec(RowsOutputSpec):
        warnings = traits.List(traits.Str, desc="what the user should know")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.io.nifti import load_image
        from bids_sr.sr.models.compatibility import domain_difference
        from bids_sr.sr.models.model import read_card

        boldref, mask = load_image(inputs.boldref)[0], load_image(inputs.mask)[0]
        found = domain_difference(read_card(inputs.model_file), boldref, mask > 0.5)
        rows, warnings = [], []
        if found is not None:
            warnings = [f"{inputs.series}: {text}" for text in found.warnings]
            values = {"domain_distance": found.distance, "domain_edges": found.edges, "flag_domain": bool(warnings)}
            rows = [_brain_row(inputs.series, name, value) for name, value in values.items()]
        for text in warnings:
            LOGGER.warning(text)
        return {"out_file": write_rows(here / "domain.tsv", rows), "warnings": warnings}
