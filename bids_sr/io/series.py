"""Names of the series of a run: acquired and measured series, baselines, controls and methods.

Only this module forms and parses names of series and ``desc-`` labels of their maps. It only
imports the standard library, so that options, settings, statistics and reports can use it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

KindOfSeries = Literal["acquired", "baseline", "control", "method", "measured", "run"]
Need = Literal["", "volume", "pair", "run"]
"""Data that a baseline is computed from: a single volume, also the T2*w pair, or a whole run."""


@dataclass(frozen=True, slots=True)
class SeriesLabel:
    """Name of a series with its kind.

    The other fields are for series with a fixed name: `words` define the series, and `label`
    replaces its name in figures and tables unless it is "". `is_default` baselines are computed
    with every method. `order` is the order of an interpolating spline, or "sinc" for a windowed
    sinc; None if points cannot be interpolated.
    """

    name: str
    kind: KindOfSeries
    words: str = ""
    needs: Need = ""
    order: int | Literal["sinc"] | None = None
    is_default: bool = True
    label: str = ""


ACQUIRED, ACQUIRED_SPLINE = "acquired", "acquiredSpline"
"""Acquired series, and its maps interpolated by cubic splines to the high-resolution grid."""
MEASURED = "measured"
"""High-resolution reference that was acquired in the same run."""
SDMOD = "sdmod"
SMOOTH, PCA = "bsplineSmooth", "bsplinePca"
_ACQUIRED = (
    "acquired series after motion correction; maps are interpolated to the high-resolution grid by"
    " cubic splines"
)
# in the order of tables and figures
_FIXED_SERIES = (
    SeriesLabel(ACQUIRED, "acquired", _ACQUIRED),
    SeriesLabel(ACQUIRED_SPLINE, "acquired", _ACQUIRED, label="acquired (interpolated maps)"),
    SeriesLabel("bspline", "baseline", "cubic B-spline interpolation", "volume", 3),
    SeriesLabel("zerofill", "baseline", "in-plane zero filling of k-space", "volume"),
    SeriesLabel(
        SDMOD,
        "baseline",
        "zero filling with the signal change in each voxel weighted by its temporal standard"
        " deviation (SD), relative to the surrounding voxels",
        "run",
    ),
    SeriesLabel(
        "inject",
        "baseline",
        "zero filling with the missing band of k-space added from the high-resolution"
        " T2*-weighted image",
        "pair",
    ),
    SeriesLabel(
        "ratio",
        "baseline",
        "product of the high-resolution T2*-weighted image and the interpolated relative signal"
        " change",
        "pair",
    ),
    SeriesLabel("nearest", "baseline", "nearest-neighbor interpolation", "volume", 0, False),
    SeriesLabel("linear", "baseline", "trilinear interpolation", "volume", 1, False),
    SeriesLabel(
        "lanczos", "baseline", "Lanczos interpolation with three lobes", "volume", "sinc", False
    ),
    SeriesLabel(
        SMOOTH,
        "control",
        "B-spline series with spatial smoothing; the kernel width is the one that agrees best with"
        " the reference",
        label="bspline with optimal spatial smoothing",
    ),
    SeriesLabel(
        PCA,
        "control",
        "B-spline series with temporal PCA denoising; the number of components is the one that"
        " agrees best with the reference",
        label="bspline with temporal PCA denoising",
    ),
    SeriesLabel(MEASURED, "measured", "series measured at the high resolution (reference)"),
    SeriesLabel("run", "run"),  # in tables: rows about the run as a whole
)
_BY_NAME = {series.name: series for series in _FIXED_SERIES}
ACQUIRED_NAMES = (ACQUIRED, ACQUIRED_SPLINE)
BASELINES: Mapping[str, str] = MappingProxyType(
    {series.name: series.words for series in _FIXED_SERIES if series.kind == "baseline"}
)
"""Description of each baseline, in the order of the tables. Only `sdmod` estimates a model."""
CONTROLS = tuple(series.name for series in _FIXED_SERIES if series.kind == "control")
"""Denoising controls, which the evaluation computes from the B-spline series."""
REFERENCE_NAMES = (*ACQUIRED_NAMES, *BASELINES, *CONTROLS)
"""Series that methods are compared with, in the order of tables and figures."""
INTERPOLATIONS = tuple(name for name in BASELINES if _BY_NAME[name].needs == "volume")
"""Baselines that upsample single volumes; their matrices are in `bids_sr.spatial.matrices`."""
DEFAULT_BASELINES = tuple(name for name in BASELINES if _BY_NAME[name].is_default)
ALL_BASELINES = "all"
"""Request for all baselines."""
PAIR_BASELINES = tuple(name for name in BASELINES if _BY_NAME[name].needs == "pair")
"""Baselines that add detail of the high-resolution T2*-weighted image."""
MODEL_FREE_BASELINES = tuple(name for name in BASELINES if _BY_NAME[name].needs != "run")
"""Baselines without a model."""
SIMPLE_BASELINES = ("zerofill", SDMOD)
"""Simple baselines that every method is compared with if the run has their series."""
VALIDATION_BASELINES = ("bspline", "zerofill")
"""Baselines that networks are compared with on held-out patches and images."""
IMAGE_REFERENCES = ("bspline", "inject")
"""Series that images are compared with."""
ACQUIRED_BAND = "zerofill"
"""Series that only contains the acquired frequencies."""
PCA_RANKS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50)
"""Numbers of temporal components that the control `PCA` chooses from."""
_LABEL_PATTERN = re.compile(
    r"(?P<series>.+?)(?:Fwhm(?P<tenths>\d+))?(?P<region>Quarter|Fdr|Z\d+)?"
)


def series_names(methods: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the series of methods."""
    return tuple(map(series_name, methods))


def series_name(method: str) -> str:
    """Return the series name of a method.

    Hyphens are removed, because names of files and nodes do not support them.

    >>> series_name("li-agnostic")
    'liagnostic'
    """
    return method.replace("-", "")


def get_kind(name: str) -> KindOfSeries:
    """Return the kind of a series from its name."""
    return parse_series_name(name).kind


def get_need(name: str) -> Need:
    """Return the data that a baseline is computed from; "" for other series."""
    return parse_series_name(name).needs


def parse_series_name(name: str) -> SeriesLabel:
    """Return a series by its name; an unknown name is the name of a method."""
    return _BY_NAME.get(name) or SeriesLabel(name, "method")


def map_label(series: str, fwhm_mm: float = 0.0, region: str = "") -> str:
    """Return the ``desc-`` label of a map.

    The label consists of the series, ``Fwhm`` with the smoothing in tenths of mm (unless 0), and
    the region. `region`: kind of region, such as ``Quarter`` or ``Fdr``; "" for a map.

    >>> map_label("srgan", 5.0, "Quarter")
    'srganFwhm50Quarter'
    """
    tenths = round(fwhm_mm * 10)
    return f"{series}Fwhm{tenths}{region}" if tenths else f"{series}{region}"


class _MapLabel(NamedTuple):
    """Series, smoothing (mm FWHM) and kind of region ("" for a map) of a ``desc-`` label."""

    series: str
    fwhm_mm: float
    region: str


def parse_map_label(label: str) -> _MapLabel:
    """Return series, smoothing (mm FWHM) and kind of region of a label from `map_label`.

    Raises `ValueError` if the label is empty.
    """
    match = _LABEL_PATTERN.fullmatch(label)
    if match is None:
        raise ValueError(f"desc-{label} is not a valid series label")
    return _MapLabel(match["series"], int(match["tenths"] or 0) / 10, match["region"] or "")
