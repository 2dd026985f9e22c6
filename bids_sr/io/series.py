"""Names of the series of a run: acquired and measured series, baselines, controls and methods.

Only this module forms and parses names of series and ``desc-`` labels of their maps. It only
imports the standard library, so that options, settings, statistics and reports can use it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal, NamedTuple

KindOfSeries = Literal["acquired", "baseline", "control", "method", "placebo", "measured", "run"]

ACQUIRED, ACQUIRED_SPLINE = "acquired", "acquiredSpline"
"""Acquired series, and its maps interpolated by cubic splines to the high-resolution grid."""
MEASURED = "measured"
"""High-resolution reference that was acquired in the same run."""
OTHER_RUN = "otherRun"
"""Another acquired run of the same task, used as a reference."""
_RUN = "run"  # in tables: rows about the run as a whole
ACQUIRED_NAMES = (ACQUIRED, ACQUIRED_SPLINE)
_DEFAULT_BASELINES = {
    "bspline": "cubic B-spline interpolation",
    "zerofill": "in-plane zero filling of k-space",
    "sdmod": (
        "zero filling with the signal change in each voxel weighted by its temporal standard"
        " deviation (SD), relative to the surrounding voxels"
    ),
    "inject": (
        "zero filling with the missing band of k-space added from the high-resolution"
        " T2*-weighted image"
    ),
    "ratio": (
        "product of the high-resolution T2*-weighted image and the interpolated relative signal"
        " change"
    ),
}
BASELINES: Mapping[str, str] = MappingProxyType(
    {
        **_DEFAULT_BASELINES,
        "nearest": "nearest-neighbor interpolation",
        "linear": "trilinear interpolation",
        "lanczos": "Lanczos interpolation with three lobes",
    }
)
"""Description of each baseline, in the order of the tables. Only `sdmod` estimates a model."""
DEFAULT_BASELINES = tuple(_DEFAULT_BASELINES)
ALL_BASELINES = "all"
"""Request for all baselines."""
SDMOD = "sdmod"
SIMPLE_BASELINES = ("zerofill", SDMOD)
"""Simple baselines that every method is compared with if the run has their series."""
PAIR_BASELINES = ("inject", "ratio")
"""Baselines that add detail of the high-resolution T2*-weighted image."""
INTERPOLATIONS = ("nearest", "linear", "bspline", "lanczos", "zerofill")
"""Linear operators on a single volume."""
VALIDATION_BASELINES = ("bspline", "zerofill")
"""Baselines that networks are compared with on held-out patches and images."""
IMAGE_REFERENCES = ("bspline", "inject")
"""Series that images are compared with."""
ACQUIRED_BAND = "zerofill"
"""Series that series of other programs are compared with; it only contains acquired frequencies.
"""
SMOOTH, PCA = "bsplineSmooth", "bsplinePca"
CONTROLS: Mapping[str, str] = MappingProxyType(
    {
        SMOOTH: "bspline with optimal spatial smoothing",
        PCA: "bspline with temporal PCA denoising",
    }
)
"""Description of each denoising control; the evaluation computes them from the B-spline series."""
PCA_RANKS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50)
"""Numbers of temporal components that the control `PCA` chooses from."""
SAME = "Same"
"""Variant of a compared series: acquired series smoothed to the resolution of this series."""
_VARIANT_PATTERN = re.compile(
    rf"(?P<method>.+?)(?P<variant>Phantom|Other|T1w|Mirror|Shift|{SAME})"
)
_LABEL_PATTERN = re.compile(
    r"(?P<series>.+?)(?:Fwhm(?P<tenths>\d+))?(?P<region>Quarter|Fdr|Z\d+)?"
)


@dataclass(frozen=True, slots=True)
class SeriesLabel:
    """Name of a series with its parts.

    `method` is the original series of a variant, otherwise the name. `variant` is ``Phantom``,
    ``Other``, ``T1w``, ``Mirror`` or ``Shift`` for a placebo, `SAME` for a control of a compared
    series, and "" for other series.
    """

    name: str
    kind: KindOfSeries
    method: str
    variant: str = ""


def series_names(methods: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the series of methods."""
    return tuple(map(series_name, methods))


def same_name(compared: str) -> str:
    """Return the name of the acquired series smoothed to the resolution of a compared series."""
    return series_name(compared, SAME)


def series_name(method: str, variant: str = "") -> str:
    """Return the series name of a method or variant.

    Hyphens are removed, because names of files and nodes do not support them. `variant`: suffix
    such as ``Mirror``; "" for the series of the method itself.

    >>> series_name("li-agnostic"), series_name("sbl", "Mirror")
    ('liagnostic', 'sblMirror')
    """
    return method.replace("-", "") + variant


def get_kind(name: str) -> KindOfSeries:
    """Return the kind of a series from its name."""
    return parse_series_name(name).kind


def is_variant_of(name: str, methods: Iterable[str]) -> bool:
    """Return whether a series is a variant of one of some methods, such as a placebo."""
    label = parse_series_name(name)
    return bool(label.variant) and label.method in methods


@cache
def parse_series_name(name: str) -> SeriesLabel:
    """Return the parts of the name of a series; an unknown name is the name of a method.

    >>> parse_series_name("srganMirror")
    SeriesLabel(name='srganMirror', kind='placebo', method='srgan', variant='Mirror')
    """
    names_by_kind: tuple[tuple[KindOfSeries, Iterable[str]], ...] = (
        ("acquired", ACQUIRED_NAMES),
        ("baseline", BASELINES),
        ("control", CONTROLS),
        ("measured", (MEASURED,)),
        ("run", (_RUN, OTHER_RUN)),
    )
    kind = next((kind for kind, names in names_by_kind if name in names), None)
    match = None if kind else _VARIANT_PATTERN.fullmatch(name)
    if match is None:
        return SeriesLabel(name, kind or "method", name)
    variant_kind: KindOfSeries = "control" if match["variant"] == SAME else "placebo"
    return SeriesLabel(name, variant_kind, match["method"], match["variant"])


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
