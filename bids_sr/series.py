"""Registry of a run's series: acquired, baselines, controls, methods, their variants, measured.

Names of series, and the ``desc-`` labels of their maps, are made and read here and nowhere else.
The module needs the standard library alone, so that options, settings, statistics and reports can
all ask it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal, NamedTuple

KindOfSeries = Literal[
    "acquired", "baseline", "control", "method", "placebo", "member", "measured", "run"
]

# as acquired; its maps as cubic splines on the high-resolution grid
RAW, RAW_SPLINE = "raw", "rawSpline"
THIN = "thin"
"""Label of the resolution of maps on slices of half the thickness."""
MEASURED = "measured"  # acquired at the high resolution in the same run: the truth
OTHER_RUN = "otherRun"  # another acquired run of the same task, as a reference
_RUN = "run"  # rows of tables that are about the run as a whole
ACQUIRED = (RAW, RAW_SPLINE)
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
"""Every baseline with what it does, in the order of the tables; none of them has a model."""
DEFAULT_BASELINES = tuple(_DEFAULT_BASELINES)
SDMOD = "sdmod"
PLAIN = ("zerofill", SDMOD)
"""Simple arithmetic that every method must beat where the run has it."""
# these take their detail from the high-resolution T2*-weighted image
PAIR_BASELINES = ("inject", "ratio")
# linear operators on a single volume
INTERPOLATIONS = ("nearest", "linear", "bspline", "lanczos", "zerofill")
# beside every network on held-out patches and images
VALIDATION_BASELINES = ("bspline", "zerofill")
IMAGE_REFERENCES = ("bspline", "inject")  # images are held against these
# what other programs' series are held against: the acquired band, and nothing beyond it
ACQUIRED_BAND = "zerofill"
SMOOTH, PCA = "bsplineSmooth", "bsplinePca"
CONTROLS: Mapping[str, str] = MappingProxyType(
    {
        SMOOTH: "bspline with optimal spatial smoothing",
        PCA: "bspline with temporal PCA denoising",
    }
)
"""Denoising controls with what was done, made of the B-spline series within the evaluation."""
PCA_RANKS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50)
"""Numbers of temporal components that the control `PCA` chooses from."""
SAME = "Same"
"""What sets the acquired series apart that was smoothed to the resolution of a series it is
compared with.
"""
_VARIANT = re.compile(
    rf"(?P<method>.+?)(?P<variant>Phantom|Other|T1w|Mirror|Shift|{SAME}|Seed(?P<seed>\d+))"
)
_SMOOTHED = r"(?:Fwhm(?P<tenths>\d+))?"
"""How the label of a map goes on that may be smoothed, as a regular expression."""
_LABEL = re.compile(rf"(?P<series>.+?){_SMOOTHED}(?P<region>Quarter|Fdr|Z\d+)?")


@dataclass(frozen=True, slots=True)
class SeriesLabel:
    """One series of a run.

    `kind`: "acquired", "baseline", "control", "method", "placebo", "member", "measured" or "run".
    `method`: that of which a placebo or member is a variant; else the name. `variant`: "" or what
    sets it apart: "Phantom", "Other", "T1w", "Mirror", "Shift" (placebos), "Seed1" (members),
    "Same".
    """

    name: str
    kind: KindOfSeries
    method: str
    variant: str = ""


def series_name(method: str, variant: str = "") -> str:
    """Return the series name of a method or variant; hyphens do not fit in files and graphs.

    >>> series_name("li-agnostic"), series_name("sbl", "Mirror")
    ('liagnostic', 'sblMirror')

    `variant`: what sets the series apart, such as ``Mirror``; empty for nothing.
    """
    return method.replace("-", "") + variant


def series_names(methods: Iterable[str]) -> tuple[str, ...]:
    """Return names of the series that methods make."""
    return tuple(map(series_name, methods))


def member_name(method: str, seed: int) -> str:
    """Name of another member of a method's ensemble; the method itself is the first."""
    return series_name(method, f"Seed{seed}")


def same_name(compared: str) -> str:
    """Name of the acquired series that was smoothed to the resolution of a compared one."""
    return series_name(compared, SAME)


@cache
def series(name: str) -> SeriesLabel:
    """Look a series up by its name; what is nothing else is a method.

    >>> series("srganSeed2")
    SeriesLabel(name='srganSeed2', kind='member', method='srgan', variant='Seed2')
    """
    fixed: tuple[tuple[KindOfSeries, Iterable[str]], ...] = (
        ("acquired", ACQUIRED),
        ("baseline", BASELINES),
        ("control", CONTROLS),
        ("measured", (MEASURED,)),
        ("run", (_RUN, OTHER_RUN)),
    )
    kind = next((kind for kind, names in fixed if name in names), None)
    match = None if kind else _VARIANT.fullmatch(name)
    if match is None:
        return SeriesLabel(name, kind or "method", name)
    variant: KindOfSeries = (
        "control" if match["variant"] == SAME else "placebo" if match["seed"] is None else "member"
    )
    return SeriesLabel(name, variant, match["method"], match["variant"])


def get_kind(name: str) -> KindOfSeries:
    """Kind of a series, from its name."""
    return series(name).kind


def is_variant_of(name: str, methods: Iterable[str]) -> bool:
    """Whether a series is a placebo of one of these methods, or a member of its ensemble."""
    return bool(series(name).variant) and series(name).method in methods


class _MapLabel(NamedTuple):
    """Series, smoothing (mm FWHM) and kind of region ("" for a map) of a ``desc-`` label."""

    series: str
    fwhm_mm: float
    region: str


def map_label(series: str, fwhm_mm: float = 0.0, region: str = "") -> str:
    """Return the ``desc-`` label of a map.

    It is the series, then Fwhm and tenths of mm (nothing for 0 mm), then the region.

    >>> map_label("srgan", 5.0, "Quarter")
    'srganFwhm50Quarter'

    `region`: kind of region, such as ``Quarter`` or ``Fdr``; empty for a map.
    """
    tenths = round(fwhm_mm * 10)
    return f"{series}Fwhm{tenths}{region}" if tenths else f"{series}{region}"


def parse_map_label(label: str) -> _MapLabel:
    """Read a label made by `map_label`; `ValueError` for an empty one.

    Series, smoothing (FWHM, mm) and kind of region.
    """
    match = _LABEL.fullmatch(label)
    if match is None:
        raise ValueError(f"desc-{label} is not a valid series label")
    return _MapLabel(match["series"], int(match["tenths"] or 0) / 10, match["region"] or "")
