"""Evidence without a reference: what each series explains of the run itself one level of resolution down."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, InputMultiObject, TraitedSpec, traits

from bids_sr.interfaces.steps import FACTOR, Step, saved_json, write_rows
from bids_sr.io.grids import mm_text
from bids_sr.series import PAIR_BASELINES


class OneLevelDown(Step):
    """Gather what the series of a run explain one level of resolution down, and why some were not tried."""

    class input_spec(BaseInterfaceInputSpec):
        tested_files = InputMultiObject(File(exists=True), desc="what was tried, as EstimateVariance gives it")
        series_names = traits.List(traits.Str, mandatory=True, desc="series of the run but zerofill, which is 0")
        networks = traits.List(traits.Str, mandatory=True, desc="those of them that a network makes")
        voxel = traits.Tuple(traits.Float, traits.Float, traits.Float, mandatory=True, desc="acquired voxel (mm)")
        factor = FACTOR

    class output_spec(TraitedSpec):
        out_file = File(exists=True, desc="rows of the evaluation: tested_share")
        one_level_down_json = File(
            exists=True, desc="shares with intervals, or the reason why there is none, by series"
        )

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        tried: dict[str, Any] = {}
        for path in inputs.tested_files or ():
            tried |= json.loads(Path(path).read_text(encoding="utf-8"))
        found = {name: tried.get(name) or {"reason": _why_not(name, inputs)} for name in inputs.series_names}
        known = [each for each in found.values() if "share" in each]
        told = {
            "from_mm": [round(mm * f, 4) for mm, f in zip(inputs.voxel, inputs.factor, strict=True)],
            "to_mm": [round(mm, 4) for mm in inputs.voxel],
            "stretches": max((each["stretches"] for each in known), default=0),
            "stretch_volumes": max((each["stretch_volumes"] for each in known), default=0),
            "calibrated": any(each.get("calibrated", False) for each in known),
            "series": {name: _plain(each) for name, each in found.items()},
        }  # fmt: skip
        return {
            "out_file": write_rows(here / "one_level_down.tsv", _rows(found)),
            "one_level_down_json": saved_json(here / "one_level_down.json", told),
        }


def _rows(found: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """Rows of the evaluation for the series that were tried."""
    from bids_sr.metrics.long_tables import MetricRow

    return [
        MetricRow(
            series=name, against="zerofill", measure="tested_share", value=each["share"], region="brain",
            lower=each.get("lower", float("nan")), upper=each.get("upper", float("nan")), n=each["stretches"] or None,
        )
        for name, each in found.items() if "share" in each
    ]  # fmt: skip


def _plain(each: Mapping[str, Any]) -> dict[str, Any]:
    """An entry without what is said once for all."""
    return {name: value for name, value in each.items() if name not in ("stretches", "stretch_volumes")}


def _why_not(name: str, inputs: Any) -> str:
    """Why a series was not tried one level down."""
    if name in inputs.networks:
        sizes = ([mm * f**power for mm, f in zip(inputs.voxel, inputs.factor, strict=True)] for power in (-1, 0, 1))
        fine, acquired, low = (mm_text(max(size[:2])) for size in sizes)
        trained = f"it was trained for {acquired} → {fine} mm"
        return f"{trained}; testing it at {low} → {acquired} mm would need a separate network"
    if name == "inject":
        return "the detail that it adds is constant over time, so its signal change is that of zero filling"
    if name in PAIR_BASELINES:
        return "it would need a T2*-weighted image at the acquired resolution"
    return "nothing was tested: too few volumes, or no variance-based method"
