"""Stored outputs of a call on a run, and linear models of the halves of its blocks.

Only stored files are read: series, maps, masks, confounds, model, tables and sidecars, and the
events of the data set. Maps of halves are not stored; the program's functions compute them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from _people_measured import FACTOR
from numpy.typing import NDArray

from bids_sr.engine.metric_rows import MetricRow, read_table
from bids_sr.glm.activation_maps import ActivationMaps, ActivationSettings, map_activation
from bids_sr.glm.activation_regions import parse_thresholds
from bids_sr.glm.blocks import block_design
from bids_sr.glm.contrasts import resolve_contrasts
from bids_sr.glm.design import Design, DesignSettings, build_design, contrast_vector
from bids_sr.glm.halves import half_weights, select_split_conditions
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.glm.regressors import Events, read_events
from bids_sr.io.map_metadata import select_map_metadata
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.series import map_label
from bids_sr.spatial.smoothing import smooth
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.models.model import load_model
from bids_sr.sr.prior_maps.add_detail import make_detail
from bids_sr.sr.prior_maps.posterior import (
    N_SAMPLES,
    draw_errors,
    effect_scale,
)
from bids_sr.sr.prior_maps.prior import Prior
from bids_sr.sr.steps.error_samples import interpolate_to_shape

Array = NDArray[Any]
CONTRASTS = {
    "A": ("all", "faceBody=0.5*face+0.5*body-0.5*house-0.5*scene"),
    "B1": ("all", "living-gaussian"),
    "B2": ("all", "living-gaussian"),
    "C": ("all",),
}
OPTIONS = (
    *("--sr-method", "sbl", "--set", "activation.kinds=glm", "--smoothing", "0", "5"),
    *(
        "--set",
        "activation.thresholds=fdr",
        "--level",
        "full",
        "--skip-bids-validation",
        "--nprocs",
        "1",
    ),
)

BELOW = "coverage_one_level_down"
(FDR,) = parse_thresholds(["fdr"])


def call(low: Path, place: Path, contrasts: Sequence[str], *more: str) -> Stored:
    """Run the whole program on a data set of one run, unless it has finished already.

    Calls with outputs in the same folder share a working directory.
    """
    if not (place / "done").exists():
        program = [str(Path(sys.executable).with_name("bids-sr")), str(low), str(place)]
        program += ["participant", *OPTIONS, "--contrasts", *contrasts, *more]
        subprocess.run([*program, "-w", str(place.parent / f"work-{low.name}")], check=True)
        (place / "done").touch()
    return Stored(place, low, tuple(contrasts))


_ACQUIRED_MASK = "space-boldref_label-brain_desc-acquired_mask"
_HIGH_RESOLUTION_MASK = "space-boldref_res-hr_desc-brain_mask"


@dataclass(frozen=True)
class Halves:
    """Maps of both halves of the blocks in one series, by contrast, half, and statistic."""

    activation: ActivationMaps
    vectors: Mapping[tuple[str, int], Array]  # weights of the columns of the design

    def map(self, contrast: str, half: int, stat: str) -> Array:
        """Return a map (X, Y, Z)."""
        return self.activation.maps[f"{contrast} {half}", stat]

    def other_half(self, contrast: str, half: int) -> tuple[Array, Array]:
        """Return the effect of the other half and its standard error, independent of this half.

        Estimates of one model are correlated: B' = (B - lambda A) / (1 - lambda).
        """
        inverse = np.linalg.pinv(self.activation.design.matrix)
        a, b = (inverse.T @ self.vectors[contrast, h] for h in (half, 1 - half))
        share, r = (a @ b) / (a @ a), (a @ b) / np.sqrt((a @ a) * (b @ b))
        effect, other_effect = (self.map(contrast, h, "effect") for h in (half, 1 - half))
        error = np.sqrt(self.map(contrast, 1 - half, "variance"))
        return (other_effect - share * effect) / (1 - share), error * np.sqrt(1 - r**2) / (
            1 - share
        )


@dataclass(frozen=True)
class Stored:
    """Output of one call on one run."""

    place: Path
    low: Path
    expressions: tuple[str, ...]

    @cached_property
    def stem(self) -> str:
        """Entities of the run."""
        (file,) = (self.place / "sub-01/func").glob("*_desc-confounds_timeseries.tsv")
        return file.name.removesuffix("_desc-confounds_timeseries.tsv")

    def file(self, ending: str) -> Path:
        """Return the path of a file of the run."""
        return self.place / "sub-01/func" / f"{self.stem}_{ending}"

    def image(self, ending: str) -> Any:
        """Load a stored image."""
        return nib.load(self.file(f"{ending}.nii.gz"))  # type: ignore[attr-defined]

    def map(self, contrast: str, stat: str, series: str, fwhm_mm: float = 0.0) -> Array:
        """Load a map (X, Y, Z), on the acquired grid if the series is the acquired one.

        Effects, their SDs and variances are converted to signal units.
        """
        res = "" if series == "acquired" else "res-hr_"
        desc = map_label(series, fwhm_mm)
        image = self.image(
            f"space-boldref_{res}contrast-{contrast}_stat-{stat}_desc-{desc}_statmap"
        )
        values = np.asarray(image.dataobj, dtype=np.float32)
        power = {"effect": 1, "sd": 1, "sdTotal": 1, "variance": 2}.get(stat, 0)
        shared = self.file(f"space-boldref_{res}desc-{desc}_statmap.json")
        mean_signal = json.loads(shared.read_text())["MeanSignal"]
        return values * np.float32((mean_signal / 100) ** power)

    def mask(self, series: str = "") -> Array:
        """Load the brain mask on the acquired or on the high-resolution grid."""
        image = self.image(_ACQUIRED_MASK if series == "acquired" else _HIGH_RESOLUTION_MASK)
        return np.asarray(image.dataobj) > 0

    def rows(self, table: str) -> list[MetricRow]:
        """Read a table of metrics."""
        return read_table(self.file(f"desc-{table}_metrics.tsv"))

    @cached_property
    def _about(self) -> dict[str, Any]:
        """Sidecars of the series and of its maps."""
        series = json.loads(self.file("space-boldref_res-hr_desc-sbl_bold.json").read_text())
        shared = self.file("space-boldref_res-hr_desc-sbl_statmap.json")
        return series | select_map_metadata(json.loads(shared.read_text()), "all", "t")

    @property
    def applied(self) -> bool:
        """True if the gate applied the method."""
        return bool(self._about["Applied"])

    @cached_property
    def events(self) -> Events:
        """Events of the data set."""
        return read_events(next(self.low.glob("sub-*/func/*_events.tsv")))

    @cached_property
    def contrasts(self) -> dict[str, Mapping[str, float]]:
        """Weights of conditions by the name of the contrast."""
        return dict(resolve_contrasts(self.events.conditions, self.expressions))

    @property
    def tr(self) -> float:
        """Repetition time (s)."""
        return float(self._about["RepetitionTime"])

    @property
    def n_dummy(self) -> int:
        """Number of non-steady-state volumes at the start."""
        return int(self._about["Model"]["DummyVolumes"])

    @property
    def design_options(self) -> dict[str, Any]:
        """Arguments of `build_design` and `block_design` after the events."""
        model = self._about["Model"]
        return {
            "settings": DesignSettings(
                hrf=HemodynamicResponse(hrf_model=model["HRF"]),
                high_pass=model["HighPassHz"],
                start_time=self._about["StartTime"],
            ),
            "n_volumes": len(self.confounds),
            "tr": self.tr,
            "n_dummy": self.n_dummy,
            "confounds": self.confounds,
            "confound_names": tuple(model["Confounds"]),
        }

    @cached_property
    def confounds(self) -> pd.DataFrame:
        """Confounds of the run, one row per volume."""
        return pd.read_csv(self.file("desc-confounds_timeseries.tsv"), sep="\t")

    def _fit(
        self,
        path: Path,
        series: str,
        events: Events,
        contrasts: Mapping[str, Mapping[str, float]],
        smoothing: Sequence[float],
    ) -> dict[float, ActivationMaps]:
        with tempfile.TemporaryDirectory() as scratch:
            return map_activation(
                SeriesReader(path),
                self.mask(series),
                dict.fromkeys(smoothing, build_design(events, **self.design_options)),
                contrasts,
                ActivationSettings(kinds=("glm",)),
                scratch=Path(scratch),
            )

    def fit_unsmoothed(self, series: str) -> ActivationMaps:
        """Fit the model of the run to a stored series, for contrasts without stored maps."""
        resolution = "" if series == "acquired" else "res-hr_"
        path = self.file(f"space-boldref_{resolution}desc-{series}_bold.nii.gz")
        return self._fit(path, series, self.events, self.contrasts, (0.0,))[0.0]

    def difference(self, smoothing: Sequence[float]) -> dict[float, ActivationMaps]:
        """Fit the model of the run to the series `sbl` minus the measured series."""
        images = [
            self.image(f"space-boldref_res-hr_desc-{name}_bold") for name in ("sbl", "measured")
        ]
        series, measured = (np.asarray(image.dataobj, dtype=np.float32) for image in images)
        series -= measured
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "difference.nii"
            save_image(series, images[0].affine, path, header_like=images[0].header)
            return self._fit(path, "", self.events, self.contrasts, smoothing)

    def halves(self, series: str, smoothing: Sequence[float]) -> dict[float, Halves]:
        """Fit maps of both halves of the blocks, see `half_design`."""
        resolution = "" if series == "acquired" else "res-hr_"
        path = self.file(f"space-boldref_{resolution}desc-{series}_bold.nii.gz")
        events, contrasts = self._half_contrasts
        fits = self._fit(path, series, events, contrasts, smoothing)
        vectors = self.half_design()[1]
        return {width: Halves(activation, vectors) for width, activation in fits.items()}

    def half_design(self) -> tuple[Design, dict[tuple[str, int], Array]]:
        """Return the design of both halves, and weights of its columns by contrast and half."""
        events, contrasts = self._half_contrasts
        design = build_design(events, **self.design_options)
        return design, {
            (name, half): contrast_vector(design, name, contrasts[f"{name} {half}"])
            for name in self.contrasts
            for half in (0, 1)
        }

    @cached_property
    def _half_contrasts(self) -> tuple[Events, dict[str, dict[str, float]]]:
        """Events and contrasts of halves: first, third, ... blocks of conditions, and others."""
        blocks = block_design(
            self.events, n_volumes=len(self.confounds), tr=self.tr, n_dummy=self.n_dummy
        ).blocks
        rows = [
            (*event, f"{block.condition} {block.half if block.used else 'unused'}")
            for block in blocks
            for event in block.events
        ]
        events = Events(pd.DataFrame(rows, columns=["onset", "duration", "trial_type"]))
        contrasts: dict[str, dict[str, float]] = {}
        for name, weights in self.contrasts.items():
            # conditions that are missing in one half are left out of both
            shares = half_weights(blocks, select_split_conditions(blocks, weights))
            assert shares is not None
            for half in (0, 1):
                weights_by_condition = contrasts[f"{name} {half}"] = {}
                for block, share in zip(blocks, shares[half], strict=True):
                    if share:
                        key = f"{block.condition} {half}"
                        weights_by_condition[key] = weights_by_condition.get(key, 0.0) + float(
                            share
                        )
        return events, contrasts

    @cached_property
    def prior(self) -> Prior:
        """Prior of the stored model."""
        model = load_model(
            next(self.place.glob("sourcedata/models/*/*_desc-sbl_model.safetensors"))
        )
        acquired = self.image(_ACQUIRED_MASK)
        inputs = UpsamplerInputs(factor=FACTOR, affine=acquired.affine, mask=self.mask("acquired"))
        prior = make_detail(model, inputs, acquired.shape).source
        assert isinstance(prior, Prior)
        return prior

    @cached_property
    def draws(self) -> tuple[Array, Array]:
        """Errors of draws (N, X, Y, Z), and the mean square of the acquired part of draws."""
        shape, coarse = self.mask().shape, self.mask("acquired").shape
        errors, power = np.zeros((N_SAMPLES, *shape), np.float32), np.zeros(coarse, np.float32)
        with torch.inference_mode():
            for z in range(shape[2]):
                missed, acquired = draw_errors(
                    self.prior, z, self.prior.make_slice_function(z), N_SAMPLES, 1000 + z
                )
                errors[..., z], power[..., z] = missed, acquired.square().mean(0)
        return errors, power

    @cached_property
    def zooms(self) -> tuple[Array, Array]:
        """Voxel sizes of the acquired and of the fine grid (mm)."""
        masks = (_ACQUIRED_MASK, _HIGH_RESOLUTION_MASK)
        low, fine = (nib.affines.voxel_sizes(self.image(name).affine) for name in masks)
        return low, fine

    def error_variance(self, acquired: Halves, contrast: str, half: int, fwhm_mm: float) -> Array:
        """Return SD^2 of the effect of one half, from the same half of the acquired series."""
        errors, power = self.draws
        effect, variance = (acquired.map(contrast, half, stat) for stat in ("effect", "variance"))
        scale = effect_scale(effect, variance, power, self.mask("acquired"), self.zooms[0])
        # as `measure_error` computes it for maps of the complete run
        fine = smooth(
            interpolate_to_shape(scale, errors.shape[1:]), self.zooms[1], fwhm_mm / 2**0.5
        )
        drawn = (smooth(error, self.zooms[1], fwhm_mm) ** 2 for error in errors)
        return np.asarray(fine * (sum(drawn) / len(errors)))


def share(of: Array, where: Array) -> float:
    """Return the mean over a region, NaN if it is empty."""
    return float(of[where].mean()) if where.any() else float("nan")


def rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Round a row for a table."""
    return {
        k: (round(v, 3) if abs(v) < 100 else round(v)) if isinstance(v, float) else v
        for k, v in row.items()
    }
