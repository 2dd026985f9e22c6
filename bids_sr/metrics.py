"""Metrics table: how it is written, read and described.

It has one value per row, and columns for all that the value is about.

Registry of statistics in the metrics tables: unit, description and direction of merit.

To add one: an entry in ``boilerplate/statistics.json``, and rows with its values by the function
that computes it (`bids_sr.metrics.MetricRow`). Sidecars, group statistics and tables
of the report follow.

Quality control flags: what each checks, and its wording when passed and when raised.

Numbers and intervals as pages, sentences and figures show them; nothing else formats them.

Image similarity: MAE, RMSE, NMSE, PSNR and SSIM.

Nothing is scaled or cropped, and the data range is stated.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np

from bids_sr.boilerplate import data_of
from bids_sr.frozen import frozen
from bids_sr.io.grids import Float, Mask, Real

if TYPE_CHECKING:
    import pandas as pd


@frozen
class _FlagKind:
    """One kind of flag; the metric ``flag_NAME`` is 1 where it is raised."""

    rule: str  # what is looked for, for the table
    # passed, failed: in few words
    passed: str
    failed: str
    remedy: str = ""  # what to do where it is raised


FLAGS: Mapping[str, _FlagKind] = {
    name: _FlagKind(**told) for name, told in data_of("flags.json").items()
}


_Better = Literal["higher", "lower", "near 1", "neither"]
HIGHER, LOWER, ONE, NEITHER = _Better.__args__  # type: ignore[attr-defined]


@frozen
class _Statistic:
    """What the value of a row is."""

    unit: str  # 1 for a pure number, signal for the unit of the series
    description: str  # for the sidecar
    # direction of merit; NEITHER: a difference is no merit by itself (a smaller region can be a
    # smaller piece of the truth); None: the group does not compare it (places, counts, thresholds)
    better: _Better | None = None
    label: str = ""  # in a few words, for tables of the report, which show those that have one


STATISTICS: dict[str, _Statistic] = {}


def register(
    name: str, unit: str, description: str, better: _Better | None = None, *, label: str = ""
) -> None:
    """Add a statistic; ValueError where the name is taken.

    `unit`: unit of its values; ``1`` for pure numbers, ``signal`` for the series' unit. `better`:
    direction of merit; None where groups do not compare it. `label`: few words for tables of the
    report; empty: it is not shown there.
    """
    if name in STATISTICS:
        raise ValueError(f"the statistic {name!r} is declared twice")
    STATISTICS[name] = _Statistic(unit=unit, description=description, better=better, label=label)


def statistic(name: str) -> _Statistic:
    """Unit, description, direction of merit and label of a statistic; KeyError where undeclared.

    >>> statistic("volume").unit
    'mm^3'
    """
    if name not in STATISTICS:
        raise KeyError(f"unknown statistic {name!r}")
    return STATISTICS[name]


for _name, _about in data_of("statistics.json").items():
    register(_name, **_about)
for _name, _flag in FLAGS.items():
    register(f"flag_{_name}", "1", f"1 if {_flag.rule}, otherwise 0")


MISSING = "n/a"
BRAIN, SCAN = "brain", "scan"
"""Regions in which structural scans are compared: the brain mask, and all voxels of the slices."""
COLUMNS: Mapping[str, Mapping[str, object]] = data_of("columns.json")["metrics"]
"""Columns of the tables of metrics, with what the sidecar says of them."""
_NUMBERS = ("fwhm_mm", "value", "lower", "upper")
_SSIM_WINDOW = 11  # pixels, side of the Gaussian window of SSIM
_DTYPES = {
    name: "Int64" if name == "n" else "float64" if name in _NUMBERS else "str" for name in COLUMNS
}


class VerdictFacts(TypedDict, total=False):
    """A verdict as its JSON has it; empty if the file is missing or damaged.

    `lines`: one per method, with ``text`` and ``status``; `headline` is the same as one text.
    """

    headline: str
    lines: Sequence[Mapping[str, str]]
    status: str
    best: str
    not_applied: Sequence[str]
    motion_text: str
    not_applied_text: str
    sentences: Sequence[Mapping[str, Any]]
    limits: Sequence[str]
    compared: Sequence[Mapping[str, Any]]


@frozen
class MetricRow:
    """One value of a metric, see `COLUMNS`. NaN stands for not defined.

    `value`: value in the unit of the statistic. `minus`: series that was subtracted; n/a for a
    value by itself. `band`: spatial frequencies that entered: ``all``, ``within`` or
    ``beyond``. `reference`: what the series is held against; n/a for nothing. `lower`: lower end
    of the 95 % interval; NaN without one. `upper`: upper end of the 95 % interval; NaN without
    one. `n`: number of units resampled for the interval; None without one.
    """

    series: str
    statistic: str
    value: float
    minus: str = MISSING
    band: str = MISSING
    reference: str = MISSING
    region: str = MISSING
    threshold: str = MISSING
    contrast: str = MISSING
    fwhm_mm: float = 0.0
    lower: float = math.nan
    upper: float = math.nan
    n: int | None = None

    @property
    def unit(self) -> str:
        """Unit of the value; KeyError where the statistic is not registered."""
        return statistic(self.statistic).unit

    @property
    def is_difference(self) -> bool:
        """Whether another series was subtracted."""
        return self.minus != MISSING

    @property
    def has_interval(self) -> bool:
        """Whether both ends of its interval are known."""
        return math.isfinite(self.lower) and math.isfinite(self.upper)

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval and it lies on one side of 0."""
        return self.lower > 0 or self.upper < 0

    def cells(self) -> list[str]:
        """The row as it stands in a table."""
        return [self._cell(name) for name in COLUMNS]

    def _cell(self, column: str) -> str:
        value = getattr(self, column)
        if column == "fwhm_mm":
            return f"{value:g}"
        if column in _NUMBERS:
            return cell_number(value)
        return MISSING if value is None else str(value)


def metric_rows(
    series: str,
    values: Mapping[str, float | None],
    *,
    reference: str = MISSING,
    region: str = MISSING,
    threshold: str = MISSING,
    contrast: str = MISSING,
    fwhm_mm: float = 0.0,
    n: int | None = None,
) -> list[MetricRow]:
    """Return rows of several statistics of one series.

    They share one contrast, smoothing and so on. A value of None is not defined.

    `reference`: what the series is held against; n/a for nothing. `n`: number of units of the
    statistics; None for none.
    """
    return [
        MetricRow(
            series=series,
            statistic=name,
            value=math.nan if value is None else value,
            reference=reference,
            region=region,
            threshold=threshold,
            contrast=contrast,
            fwhm_mm=fwhm_mm,
            n=n,
        )
        for name, value in values.items()
    ]


def cell_number(value: float | None) -> str:
    """Return a number for a table: six significant digits, but all digits of a large count.

    n/a if the value is not defined or not finite.

    >>> cell_number(1 / 3), cell_number(1234567.0), cell_number(1234567.5), cell_number(None)
    ('0.333333', '1234567', '1.23457e+06', 'n/a')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    count = 1e6 <= abs(value) < 1e15 and float(value).is_integer()
    return f"{value:.0f}" if count else f"{value:.6g}"


def table_text(rows: Iterable[MetricRow]) -> str:
    """Return rows as TSV text with a header line."""
    return "".join("\t".join(line) + "\n" for line in (COLUMNS, *(row.cells() for row in rows)))


def frame(rows: Iterable[MetricRow]) -> pd.DataFrame:
    """Return rows as a table with all columns; n/a for a missing word, NaN for a number."""
    import pandas as pd

    table = pd.DataFrame(
        [{name: getattr(row, name) for name in COLUMNS} for row in rows], columns=list(COLUMNS)
    )
    return table.astype(_DTYPES)


def read_frame(path: Path) -> pd.DataFrame:
    """Return it as `frame`, from the file of a table; ValueError names one that is none.

    Parameters
    ----------
    path : Path
        Metrics table (.tsv).

    Returns
    -------
    pd.DataFrame
        Columns of `COLUMNS`, typed as numbers or words.

    Raises
    ------
    ValueError
        The file is no metrics table, or a line is cut short.
    """
    import pandas as pd

    numbers = {name: [MISSING] for name in (*_NUMBERS, "n")}
    try:
        table = pd.read_csv(
            path,
            sep="\t",
            quoting=csv.QUOTE_NONE,
            dtype=_DTYPES,
            keep_default_na=False,
            na_values=numbers,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if list(table) != list(COLUMNS):
        raise ValueError(
            f"{path}: the columns are {' '.join(table)!r}; expected {' '.join(COLUMNS)}"
        )
    if table["unit"].isna().any():
        raise ValueError(
            f"{path}: at least one row has fewer than {len(COLUMNS)} columns. The file is "
            "incomplete or was edited."
        )
    return table


def rows_of(table: pd.DataFrame) -> list[MetricRow]:
    """The rows of a table that `frame` or `read_frame` gave.

    Parameters
    ----------
    table : pd.DataFrame
        Metrics table with the columns of `COLUMNS`.

    Returns
    -------
    list[MetricRow]
        One row for each line, in the same order.
    """
    columns = {name: table[name].tolist() for name in COLUMNS if name != "unit"}
    columns["n"] = [
        int(count) if known else None
        for count, known in zip(table["n"], table["n"].notna(), strict=True)
    ]
    return [
        MetricRow(**dict(zip(columns, cells, strict=True)))
        for cells in zip(*columns.values(), strict=True)
    ]


def read_table(path: Path) -> list[MetricRow]:
    """The rows of the file of a table; ValueError as of `read_frame`."""
    return rows_of(read_frame(path))


def columns_json(statistics: Iterable[str]) -> dict[str, dict[str, object]]:
    """Describe the columns in the JSON beside the table.

    Every statistic that occurs has a level.

    `statistics`: names of registered statistics; repeated ones count once.
    """
    levels = {
        name: f"{statistic(name).description} ({statistic(name).unit})"
        for name in sorted(set(statistics))
    }
    told = {name: dict(text) for name, text in COLUMNS.items()}
    told["statistic"]["Levels"] = levels
    return told


def number(value: float, form: str = "") -> str:
    """Return a number with a true minus and no negative zero; n/a if it is not defined.

    The value of a percentage below -100 is not given: the error is more than twice the signal.

    `form`: as of `format`; empty: three decimals below 1, two below 10, else one.

    >>> number(0.12345), number(-12.345), number(0.274, ".0%")
    ('0.123', '−12.3', '27 %')
    >>> number(-0.0004, "+.3f"), number(math.nan), number(-156.2, ".0%")
    ('0.000', 'n/a', 'below −100 %')
    """
    if not math.isfinite(value):
        return MISSING
    if form.endswith("%") and value < -1:
        return "below −100 %"
    if not form:
        form = f".{3 if abs(value) < 1 else 2 if abs(value) < 10 else 1}f"
    text = f"{value:{form}}"
    if not float(text.rstrip("%")):
        text = text.lstrip("+-")
    return text.replace("-", "−").replace("%", " %")


def short(value: float) -> str:
    """A number in four significant digits, without decimals where it has none.

    >>> short(0.123456), short(-2.0), short(1200.0)
    ('0.1235', '−2', '1200')

    Text with a true minus sign; ``n/a`` where it is not defined.
    """
    whole = float(value).is_integer() and abs(value) < 1e6
    return number(value, ".0f" if whole else ".4g")


def interval(lower: float, upper: float, form: str = "", *, unit: bool = True) -> str:
    """Format an interval in brackets.

    It is empty if there is no interval. Without `unit` percentages have no sign.

    >>> interval(-0.04, 0.1), interval(-3.9, 0.41, ".0%"), interval(math.nan, 1.0)
    ('[−0.040, 0.100]', '[below −100, 41] %', '')
    """
    both = ends(lower, upper, form)
    sign = " %" if unit and form.endswith("%") else ""
    return f"[{', '.join(both)}]{sign}" if both else ""


def ends(lower: float, upper: float, form: str = "") -> tuple[str, ...]:
    """Format both ends of an interval, of percentages without the sign; none if it has none.

    >>> ends(-0.04, 0.1), ends(-3.9, 0.41, ".0%"), ends(math.nan, 1.0)
    (('−0.040', '0.100'), ('below −100', '41'), ())
    """
    if not (math.isfinite(lower) and math.isfinite(upper)):
        return ()
    if not form.endswith("%"):
        return number(lower, form), number(upper, form)
    return tuple("below −100" if end < -1 else number(end, form)[:-2] for end in (lower, upper))


def estimate(value: float, lower: float, upper: float, form: str = "") -> str:
    """A value with its interval; a sign in `form` is that of the value alone.

    >>> estimate(0.08, 0.07, 0.09, "+.2f"), estimate(0.08, math.nan, math.nan)
    ('+0.08 [0.07, 0.09]', '0.080 (no interval)')

    `value`: any number; NaN for not defined. `lower`: lower end; NaN for none. `upper`: upper end;
    NaN for none.
    """
    return f"{number(value, form)} {interval(lower, upper, form.lstrip('+')) or '(no interval)'}"


def p_value(value: float, form: str = ".3f") -> str:
    """A p value without its leading zero.

    >>> p_value(0.0312), p_value(0.0001), p_value(1.0), p_value(0.15625, ".3g")
    ('.031', '< .001', '1.000', '.156')

    `value`: probability from 0 to 1; NaN for not defined.
    """
    return "< .001" if value < 0.001 else number(value, form).replace("0.", ".", 1)


def _both(reference: Real, image: Real, mask: Mask | None) -> tuple[Float, Float]:
    if reference.shape != image.shape or (mask is not None and mask.shape != image.shape):
        shapes = [reference.shape, image.shape, *([] if mask is None else [mask.shape])]
        raise ValueError(
            f"images and mask must have the same shape, got {', '.join(map(str, shapes))}"
        )
    if mask is not None and not mask.any():
        raise ValueError("the mask is empty")
    inside = slice(None) if mask is None else mask
    return reference[inside].astype(np.float64).ravel(), image[inside].astype(np.float64).ravel()


def reference_range(reference: Real, mask: Mask | None = None) -> float:
    """Return the range of the reference (in the mask): the data range stated for PSNR and SSIM.

    It is the maximum minus the minimum, in the unit of the image.

    `reference`: image that is held for true, in any unit of intensity. `mask`: voxels that count
    (boolean, same shape); None for all of them.
    """
    inside = reference if mask is None else reference[mask]
    return float(inside.max()) - float(inside.min())


def mae(reference: Real, image: Real, *, mask: Mask | None = None) -> float:
    """Mean absolute error, in the images' unit.

    `reference`: image that is held for true, in any unit of intensity. `image`: image to judge, of
    the same shape and unit. `mask`: voxels that count (boolean, same shape); None for all of them.
    """
    x, y = _both(reference, image, mask)
    return float(np.abs(x - y).mean())


def rmse(reference: Real, image: Real, *, mask: Mask | None = None) -> float:
    """Root mean square error, in the images' unit.

    `reference`: image that is held for true, in any unit of intensity. `image`: image to judge, of
    the same shape and unit. `mask`: voxels that count (boolean, same shape); None for all of them.
    """
    x, y = _both(reference, image, mask)
    return float(np.sqrt(((x - y) ** 2).mean()))


def nmse(reference: Real, image: Real, *, mask: Mask | None = None) -> float:
    """Return ‖image − reference‖² / ‖reference‖².

    `reference`: image that is held for true, in any unit of intensity. `image`: image to judge, of
    the same shape and unit. `mask`: voxels that count (boolean, same shape); None for all of them.
    """
    x, y = _both(reference, image, mask)
    return float(((x - y) ** 2).sum() / (x**2).sum())


def psnr(reference: Real, image: Real, *, data_range: float, mask: Mask | None = None) -> float:
    """Peak signal-to-noise ratio, 10 log10(data_range² / MSE) in dB; infinite for equal images.

    `reference`: image that is held for true, in any unit of intensity. `image`: image to judge, of
    the same shape and unit. `data_range`: largest minus smallest possible value, in the unit of
    the images.
    """
    error = rmse(reference, image, mask=mask)
    return float("inf") if error == 0 else float(20 * np.log10(data_range / error))


def _ssim_map(x: Float, y: Float, data_range: float) -> Float:
    """Return the structural similarity of two images (X, Y) around each pixel.

    Wang et al. (2004), equation 13. scikit-image gives the same values; training on a machine
    without it does not need it. ValueError: an image smaller than the window of 11 pixels.
    """
    from scipy.ndimage import gaussian_filter

    if min(x.shape) < _SSIM_WINDOW:
        raise ValueError(
            f"the image has {x.shape} pixels; the structural similarity index requires at "
            f"least {_SSIM_WINDOW} pixels along each axis"
        )

    def local_mean(values: Float) -> Float:
        return gaussian_filter(values, sigma=1.5, radius=_SSIM_WINDOW // 2)

    mean_x, mean_y = local_mean(x), local_mean(y)
    variances = local_mean(x * x) - mean_x * mean_x + (local_mean(y * y) - mean_y * mean_y)
    covariance = local_mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    index: Float = above / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))
    return index


def ssim(reference: Real, image: Real, *, data_range: float, mask: Mask | None = None) -> float:
    """Return SSIM as the mean over the mask (or the image).

    An image (X, Y, Z) is compared slice by slice, as the methods see it.

    Gaussian window of σ = 1.5 pixels, K1 = .01, K2 = .03, biased covariance, as Wang et al. (2004)
    define it. The index is computed on whole slices and averaged over the mask, so that the mask's
    border is no edge in the images. `data_range` is the difference of the largest and the smallest
    value that is possible, in the images' unit.

    Parameters
    ----------
    reference : Real
        Image that is held for true (X, Y) or (X, Y, Z).
    image : Real
        Image to judge, of the same shape and unit.
    data_range : float
        Largest minus smallest possible value, in the unit of the images.
    mask : Mask | None, optional
        Voxels that count (boolean, same shape); None for all of them.

    Returns
    -------
    float
        Mean index, 1 for equal images.
    """
    _both(reference, image, mask)
    pairs = (
        [(reference, image)]
        if image.ndim == 2
        else list(zip(np.moveaxis(reference, -1, 0), np.moveaxis(image, -1, 0), strict=True))
    )
    index = [_ssim_map(x.astype(np.float64), y.astype(np.float64), data_range) for x, y in pairs]
    full = index[0] if image.ndim == 2 else np.stack(index, axis=-1)
    return float(full.mean() if mask is None else full[mask].mean())
