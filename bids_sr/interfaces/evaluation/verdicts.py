"""What a run's figures amount to: the paper's claim taken apart, flags, the grown region of interest, the verdict."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, InputMultiObject, TraitedSpec, traits

from bids_sr.interfaces.steps import FACTOR, MapsInputSpec, RowsOutputSpec, Step, saved, saved_json, write_rows
from bids_sr.io import atomic_files
from bids_sr.series import parse_map_label
from bids_sr.stats.regions.attribution import plan_claim as plan_claim

CARDS = InputMultiObject(File(exists=True), desc="cards of models, which tell whether theirs was applied")
CARD_NAMES = traits.List(traits.Str, desc="methods of the cards, in the same order")


class ClaimTable(Step):
    """Region size and overlap by series, smoothing and threshold, and which part of the change is owed to what."""

    class input_spec(BaseInterfaceInputSpec):
        in_files = InputMultiObject(
            File(exists=True), mandatory=True, desc="activation tables; first of equal rows counts"
        )
        pair = traits.List(traits.Str, minlen=2, maxlen=2, mandatory=True, desc="the two conditions")
        voxel_mm = traits.Tuple(traits.Float, traits.Float, traits.Float, mandatory=True, desc="acquired voxel (mm)")
        factor = FACTOR

    output_spec = RowsOutputSpec

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.metrics.long_tables import SERIES, read_table
        from bids_sr.stats.regions.attribution import attribution_rows

        rows = attribution_rows(
            [row for path in inputs.in_files for row in read_table(path, SERIES)], (inputs.pair[0], inputs.pair[1]),
            voxel_mm=inputs.voxel_mm, factor=inputs.factor,
        )  # fmt: skip
        return {"out_file": write_rows(here / "claim.tsv", rows)}


def correlation_maps(files: Sequence[str], entities: Sequence[Mapping[str, str]], names: Sequence[str]) -> dict:
    """Files of raw's correlation maps at its widest smoothing, by contrast; only of the contrasts named."""
    found: dict[str, tuple[float, str]] = {}
    for path, own in zip(files, entities, strict=True):
        if own["suffix"] == "statmap" and own["stat"] == "cc" and own["contrast"] in names:
            series, width, _ = parse_map_label(own["desc"])
            if series == "raw" and width >= found.get(own["contrast"], (-1.0, ""))[0]:
                found[own["contrast"]] = (width, path)
    return {name: path for name, (_, path) in found.items()}


def _fdr_regions(files: Sequence[str], entities: Sequence[Mapping[str, str]], names: Sequence[str]) -> dict:
    """Files of raw's FDR regions, by contrast."""
    return {
        own["label"]: path
        for path, own in zip(files, entities, strict=True)
        if own["suffix"] == "mask"
        and own.get("label") in names
        and parse_map_label(own["desc"]).series == "raw"
        and "res" not in own
        and own["desc"].endswith("Fdr")
    }


def _judged(contrasts: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Conditions against rest, or all contrasts where there is none."""
    from bids_sr.stats.regions.map_summary import single_conditions

    return single_conditions(contrasts) or list(contrasts)


class GrowRoi(Step):
    """Grow the region of interest into activity of the acquired series that its border cuts off."""

    class input_spec(MapsInputSpec):
        mask_hr = File(exists=True, mandatory=True, desc="brain mask on the high-resolution grid")
        roi_hr = File(exists=True, mandatory=True, desc="region of interest on the high-resolution grid")

    class output_spec(TraitedSpec):
        roi = File(exists=True, desc="grown region on the acquired grid")
        roi_hr = File(exists=True, desc="the same on the high-resolution grid")
        out_json = File(exists=True, desc="voxels added and the CC from which they were")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        import numpy as np

        from bids_sr.io.nifti import load_image
        from bids_sr.stats.regions.activation_regions import REACH_MM, carry_over, grow_roi

        (roi, affine), (fine_roi, fine_affine) = load_image(inputs.roi), load_image(inputs.roi_hr)
        mask, fine_mask = (load_image(path)[0] > 0.5 for path in (inputs.mask, inputs.mask_hr))
        maps = correlation_maps(inputs.in_files, inputs.in_entities, _judged(inputs.contrasts))
        if not maps:
            raise ValueError("--roi-grow follows the correlation maps of the acquired series; add cc to --activation")
        highest = np.max([load_image(path)[0] for path in maps.values()], axis=0)
        try:
            grown = grow_roi(roi > 0.5, highest, mask, affine, REACH_MM)
        except ValueError as err:
            raise ValueError(f"{inputs.roi}: {err}; check the registration or give another --roi") from err
        fine = carry_over(grown.roi & ~(roi > 0.5), affine, fine_roi > 0.5, fine_mask, fine_affine)
        facts = {
            "roi_grown_voxels": grown.added,
            "roi_grown_level": round(grown.level, 3),
            "roi_grown_max_mm": REACH_MM,
        }
        return {
            "roi": saved(here / "roi.nii.gz", grown.roi.astype(np.uint8), affine),
            "roi_hr": saved(here / "roi_hr.nii.gz", fine.astype(np.uint8), fine_affine),
            "out_json": saved_json(here / "grown.json", facts),
        }


class Flags(Step):
    """Look for what was wrong where the paper's method failed."""

    class input_spec(MapsInputSpec):
        factor = FACTOR
        train_highres = File(exists=True, desc="highres of the pair in the frame of lowres")
        train_lowres = File(exists=True, desc="lowres of the pair")
        pair_mask = File(exists=True, desc="brain on the grid of lowres")
        tables = InputMultiObject(File(exists=True), desc="rows of the evaluation, such as edge_mismatch")
        methods = traits.List(traits.Str, desc="series whose added detail must not be worse than none")
        card_files = CARDS
        card_names = CARD_NAMES

    class output_spec(TraitedSpec):
        out_file = File(exists=True, desc="rows flag_* that tables lack: 1 or 0, n/a where it is not known")
        flags_json = File(exists=True, desc="list of flags in words: name, raised, text, remedy, contrast, series")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from dataclasses import asdict

        from bids_sr.metrics.long_tables import read_table

        given = [row for path in inputs.tables or () for row in read_table(path)]
        flags = [*_activation_flags(inputs), *_pair_flags(inputs), *_table_flags(inputs, given)]
        known = {(row.series, row.measure, row.contrast) for row in given}
        rows = [row for flag in flags if ((row := flag.row()).series, row.measure, row.contrast) not in known]
        told = [{**asdict(flag), "remedy": flag.remedy} for flag in flags]
        text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
        return {
            "out_file": write_rows(here / "flags.tsv", rows),
            "flags_json": str(atomic_files.write_whole(here / "flags.json", text)),
        }


def _activation_flags(inputs: Any) -> list[Any]:
    from bids_sr.io.nifti import load_image
    from bids_sr.stats.controls.qc_flags import activation_flags

    names = _judged(inputs.contrasts)
    (mask, affine), roi = load_image(inputs.mask), load_image(inputs.roi)[0] > 0.5
    given = inputs.in_files, inputs.in_entities, names
    maps = {name: load_image(path)[0] for name, path in correlation_maps(*given).items()}
    fdr = {name: load_image(path)[0] > 0.5 for name, path in _fdr_regions(*given).items()}
    return activation_flags(maps, roi, mask > 0.5, affine, fdr)


def _pair_flags(inputs: Any) -> list[Any]:
    """The pair's flag, where there is a pair."""
    if not (inputs.train_highres and inputs.train_lowres and inputs.pair_mask):
        return []
    from bids_sr.io.nifti import load_image
    from bids_sr.spatial.masks import head_mask
    from bids_sr.spatial.resampling import sample_volume
    from bids_sr.sr.resolution.matrices import kspace_crop
    from bids_sr.stats.controls.qc_flags import artifact_flag

    (high, affine), (low, low_affine) = load_image(inputs.train_highres), load_image(inputs.train_lowres)
    degraded, made = kspace_crop(high, affine, factor=inputs.factor)
    if degraded.shape != low.shape:
        degraded = sample_volume(degraded, made, low.shape, low_affine)
    brain = load_image(inputs.pair_mask)[0] > 0.5
    return [artifact_flag(low, degraded, brain, head_mask(low, low_affine) | brain)]


def _table_flags(inputs: Any, rows: Sequence[Any]) -> list[Any]:
    """Flags that follow from figures of others."""
    import numpy as np

    from bids_sr.io.nifti import load_image
    from bids_sr.spatial.masks import voxel_sizes
    from bids_sr.stats.controls.qc_flags import distortion_flag, harm_flags, unrepeated_flags

    acquired = float(np.sqrt(np.prod(voxel_sizes(load_image(inputs.mask)[1])[:2])))
    distortion = distortion_flag(rows, acquired)
    idle = _idle_by_card(inputs)
    applied = [method for method in inputs.methods or () if method not in idle]
    return [*([distortion] if distortion else []), *unrepeated_flags(rows), *harm_flags(rows, applied)]


def _idle_by_card(inputs: Any) -> list[str]:
    """Methods whose card says that zero filling was used in their place."""
    from bids_sr.stats.evaluation.evidence import was_applied

    if not inputs.card_files:
        return []
    cards = [json.loads(Path(path).read_text(encoding="utf-8")) for path in inputs.card_files]
    return [name for name, card in zip(inputs.card_names, cards, strict=True) if not was_applied(card)]


def _displacement(path: str) -> list[float]:
    """Framewise displacement (mm) of each volume; NaN for the first."""
    import pandas as pd

    return [float(value) for value in pd.read_csv(path, sep="\t", na_values="n/a")["framewise_displacement"]]


class Verdict(Step):
    """Say in plain words what the evaluation of a run allows to say."""

    class input_spec(BaseInterfaceInputSpec):
        in_files = InputMultiObject(File(exists=True), mandatory=True, desc="tables of the evaluation")
        methods = traits.List(traits.Str, mandatory=True, desc="series under judgment")
        baselines = traits.List(traits.Str, mandatory=True, desc="series that must be beaten")
        margin = traits.Either(None, traits.Float, desc="differences within it count as none; default: from measured")
        card_files = CARDS
        card_names = CARD_NAMES
        confounds_tsv = File(exists=True, desc="head motion of the run; large motion is said first")
        one_level_down_json = File(exists=True, desc="facts of the test of the run one level of resolution down")

    class output_spec(TraitedSpec):
        out_file = File(exists=True, desc="rows of the evaluation: verdict and verdict_*")
        verdict_json = File(exists=True, desc="headline, sentences and limits in words")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.metrics.long_tables import read_table
        from bids_sr.stats.evaluation.verdict import make_verdict

        one_level = Path(inputs.one_level_down_json) if inputs.one_level_down_json else None
        found = make_verdict(
            [row for path in inputs.in_files for row in read_table(path)], methods=inputs.methods,
            baselines=inputs.baselines, margin=inputs.margin, not_applied=_idle_by_card(inputs),
            displacement=_displacement(inputs.confounds_tsv) if inputs.confounds_tsv else (),
            one_level=json.loads(one_level.read_text(encoding="utf-8")) if one_level else None,
        )  # fmt: skip
        return {
            "out_file": write_rows(here / "verdict.tsv", found.rows),
            "verdict_json": saved_json(here / "verdict.json", found.to_json()),
        }
