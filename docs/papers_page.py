"""Numbers and verdicts of `docs/papers/index.md`, from the stored tables of `benchmarks/results`.

Call: ``python docs/papers_page.py``. ``<!--here NAME-->…<!--/-->`` has the differences of a claim,
``<!--seen NAME-->…<!--/-->`` its verdict (NAME is a key of `CLAIMS`), and
``<!--=FILE / CELL / COLUMN-->…<!--/-->`` the number in a row with this cell.
"""

import json
import math
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scipy import stats

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/papers/index.md"
RESULTS = ROOT / "benchmarks" / "results"
NUMBER = re.compile(r"<!--=(.*?)-->.*?<!--/-->", re.DOTALL)
CLAIM = re.compile(r"<!--(here|seen) (\w+)-->.*?<!--/-->", re.DOTALL)
FACTORS = ("×1.25", "×1.5", "×1.75", "×2")
CONFIDENCE, ALPHA = 0.95, 0.05
LARGEST_LOSS = 0.03
"""Loss of explained variance, relative to zero filling, up to which information is kept."""
Row = dict[str, Any]


class Part(NamedTuple):
    """Part of a claim: the mean of paired differences of units, positive in its direction.

    `upper` is the upper end of the 95 % interval. With a `margin`, the difference is the benefit
    or loss that the claim denies. `p_is_limit` is whether p is an upper limit.
    """

    name: str
    difference: float
    p: float
    upper: float = math.nan
    margin: float | None = None
    p_is_limit: bool = False

    @property
    def sign(self) -> int:
        """1 if the part is seen, -1 if its opposite is seen, and 0 if neither is."""
        if self.margin is not None:
            if self.upper < self.margin:
                return 1
            return -1 if self.p < ALPHA and self.difference > 0 else 0
        return 0 if self.p >= ALPHA else int(math.copysign(1, self.difference))

    @property
    def text(self) -> str:
        """Name, difference and p, and the margin if there is one."""
        text = f"{self.name} {number_text(self.difference)}"
        if self.margin is not None:
            upper = number_text(self.upper)
            return f"{text} (up to {upper}; margin {number_text(self.margin)})"
        p = p_text(self.p)
        return f"{text} ({p.replace('=', '≤') if self.p_is_limit else p})"


def judge(parts: Sequence[Part]) -> str:
    """Return the verdict on a claim from its parts."""
    signs = {part.sign for part in parts}
    if not signs:
        return "not tested"
    if signs == {1}:
        return "yes"
    if 1 in signs:
        return "in part, in part opposite" if -1 in signs else "in part"
    return "opposite" if -1 in signs else "no"


def rows(name: str) -> list[Row]:
    """Return the rows of a stored table."""
    stored: list[Row] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))["rows"]
    return stored


def row_of(name: str, *cells: str) -> Row:
    """Return the row of a table that has some cells, in any column."""
    return next(row for row in rows(name) if {*cells} <= {*map(str, row.values())})


def number_text(value: float) -> str:
    """Return a number with three digits, without a leading zero and with a minus."""
    return plain(f"{value:.3g}")


def plain(text: str) -> str:
    """Return a cell without SD or interval, without a leading zero, and with a minus."""
    text = re.sub(r" (?:±|\().*", "", text)
    text = re.sub(r"(?<![\w.])-(?=[\d.])", "−", text)
    return re.sub(r"(?<![\d.])0\.(?=\d)", ".", text)


def p_text(p: float) -> str:
    """Return p as text, with two digits, or three below .01 and near the limit of .05."""
    if p < 0.001:
        return "p < .001"
    is_near = 0.045 <= p < 0.055 and p != ALPHA
    return f"p = {plain(f'{p:.3f}' if p < 0.01 or is_near else f'{p:.2f}')}"


def number(place: str) -> str:
    """Return the number at ``FILE / CELL / … / COLUMN``."""
    name, *cells, column = place.strip().split(" / ")
    return plain(str(row_of(name, *cells)[column]))


def value_of(row: Row, column: str) -> tuple[float, float]:
    """Return mean and SD of a cell; NaN without an SD."""
    mean, _, spread = str(row[column]).partition(" ± ")
    return float(mean.partition(",")[0]), float(spread or "nan")


def t_part(name: str, difference: float, spread: float, units: int, limit: float = 0) -> Part:
    """Return a part from mean and SD of its paired differences (Student's t).

    Without this SD, the sum of the SDs of both methods, `spread` and `limit`, is its upper limit.
    """
    error = (spread + limit) / math.sqrt(units)
    p = 2 * stats.t.sf(abs(difference) / error, units - 1) if error > 0 else 0.0
    return Part(name, difference, float(p), p_is_limit=limit > 0)


def between(
    table: str, better: tuple[str, ...], worse: tuple[str, ...], columns: Sequence[str], units: int
) -> Iterator[Part]:
    """Yield the differences between two rows in some columns; a minus: lower values are better.

    The SD of the differences is at most the sum of the SDs of both rows, so that p is an upper
    limit.
    """
    for column in columns:
        key = column.removeprefix("-")
        (first, first_sd), (second, second_sd) = (
            value_of(row_of(table, *cells), key) for cells in (better, worse)
        )
        sign = -1 if column.startswith("-") else 1
        name = f"{key.partition(' relative')[0].partition(' −')[0]}:"
        yield t_part(name, sign * (first - second), first_sd, units, second_sd)


def p_of(cell: object) -> float:
    """Return the p value in a cell."""
    found = re.search(r"p ([=<]) (\S+)", str(cell))
    assert found is not None
    return float(found[2]) * (0.5 if found[1] == "<" else 1)


def of_ota(measure: str, smoothing: str) -> Iterator[Part]:
    """Yield the reductions by `srgan` of measures that the true detail reduces."""
    for row in rows("papers_srgan"):
        if row["measure"].startswith(measure) and row["smoothing"].startswith(smoothing):
            acquired, truth, found = (value_of(row, c)[0] for c in ("acquired", "truth", "srgan"))
            if truth < acquired and p_of(row["truth"]) < ALPHA:
                name = f"{row['measure'].removeprefix('size, ')}, {row['smoothing']}:"
                yield Part(name, acquired - found, p_of(row["srgan"]))


def of_kept_information() -> Iterator[Part]:
    """Yield the loss of explained variance by `srgan`, relative to zero filling, by region."""
    trained = row_of("small_srgan", "srgan")
    for region in ("active voxels", "brain"):
        gain, lower = (
            trained[f"{region}, {name}"] for name in ("minus zero filling", "lower end")
        )
        # the interval is from Student's t over the seeds
        freedom = trained["seeds"] - 1
        t = abs(gain) / (gain - lower) * stats.t.ppf((1 + CONFIDENCE) / 2, freedom)
        p = 2 * stats.t.sf(t, freedom)
        yield Part(f"loss in {region}", -gain, float(p), -lower, LARGEST_LOSS)


def of_interpolation() -> Iterator[Part]:
    """Yield the PSNR of `tv` on one volume relative to the cubic spline, by factor."""
    for factor in FACTORS:
        mean, spread = value_of(row_of("papers_tv_1", factor, "tv"), "PSNR − cubic spline")
        yield t_part(f"dB at {factor}:", mean, spread, 3)


def of_competitive() -> Iterator[Part]:
    """Yield how much closer `tv` is to the best supervised network than in the paper (dB)."""
    column, paper = "PSNR − cubic spline", "paper: PSNR − cubic spline"
    for factor in FACTORS:
        tv, *supervised = (
            row_of("papers_tv_2", factor, name) for name in ("tv", "li", "mse3d", "li-agnostic")
        )
        best = max(supervised, key=lambda row: value_of(row, column)[0])
        published = max(float(row[paper]) for row in supervised) - float(tv[paper])
        (mean, spread), (best_mean, best_spread) = value_of(tv, column), value_of(best, column)
        yield t_part(f"dB at {factor}:", published - (best_mean - mean), spread, 3, best_spread)


def of_dip() -> Iterator[Part]:
    """Yield the PSNR and SSIM of `tv` relative to `dip`, by factor."""
    for column in ("PSNR", "SSIM"):
        difference = f"{column} − {'cubic spline' if column == 'PSNR' else 'trilinear'}"
        for factor in FACTORS:
            (part,) = between("papers_tv_2", (factor, "tv"), (factor, "dip"), [difference], 3)
            yield part._replace(name=f"{column} at {factor}:")


def of_cpce() -> Iterator[Part]:
    """Yield the gains of `cpce` relative to zero filling, of which the PSNR is paired by fold."""
    column = "PSNR − zero filling (dB)"
    mean, spread = value_of(row_of("papers_cpce", "cpce"), column)
    yield t_part("PSNR (dB):", mean, spread, 4)
    yield from between("papers_cpce", ("cpce",), ("zero filling",), ["SSIM"], 4)


def of_circle() -> Iterator[Part]:
    """Yield the differences between `cpce` and `circle`, of which the PSNR is paired by fold."""
    gains, others = (
        map(float, row_of("papers_cpce", name)["PSNR − zero filling of the folds"].split())
        for name in ("cpce", "circle")
    )
    paired = [gain - other for gain, other in zip(gains, others, strict=True)]
    yield t_part("PSNR (dB):", statistics.mean(paired), statistics.stdev(paired), 4)
    yield from between("papers_cpce", ("cpce",), ("circle",), ["SSIM"], 4)


def of_claim(name: str) -> Callable[[], Iterator[Part]]:
    """Return a function that yields the parts of a claim of `benchmarks/_papers_claims.py`."""

    def parts() -> Iterator[Part]:
        for row in rows("papers_claims"):
            if row["claim"] == name:
                margin = row["margin"]
                yield Part(
                    f"{row['part']}:",
                    row["difference"],
                    row["p"],
                    row["upper"],
                    None if margin == "" else margin,
                )

    return parts


MOUSE = "RMSE reduction relative to cubic (%)"


def of_resolutions() -> Iterator[Part]:
    """Yield gains of matched networks, and losses of others, relative to cubic interpolation."""
    for row in rows("papers_mouse_resolutions"):
        gain, spread = value_of(row, MOUSE)
        matched = row["matched"] == "yes"
        name = f"{row['trained at']} at {row['tested at']}:"
        yield t_part(name, gain if matched else -gain, spread, 8)


def of_transfer() -> Iterator[Part]:
    """Yield gains by transfer to FLAIR, no gain for T2w, and the gain of tuning for T2w."""
    table, source, tuned = (
        "papers_mouse_transfer",
        "T1w network",
        "T1w network, last three layers tuned",
    )
    for contrast, sign in (("FLAIR", 1), ("T2w", -1)):
        gain, spread = value_of(row_of(table, contrast, source), MOUSE)
        yield t_part(f"{contrast}:", sign * gain, spread, 3)
    (part,) = between(table, ("T2w", tuned), ("T2w", source), [MOUSE], 3)
    yield part._replace(name="tuning for T2w:")


def of_volumes() -> Iterator[Part]:
    """Yield distances of volumes from 40 %, and their improvement over interpolation."""
    column = "difference (% of the mean)"
    for name in ("csfSpaces", "veins", "pial"):
        error, spread = value_of(row_of("papers_attunet_volumes", name, "attunet"), column)
        yield t_part(f"within 40 %, {name}:", 40 - abs(error), spread, 4)
        base, base_spread = value_of(row_of("papers_attunet_volumes", name, "B-spline"), column)
        if name != "csfSpaces":
            gain = abs(base) - abs(error)
            yield t_part(f"gain, {name}:", gain, spread, 4, base_spread)


def of_lesions() -> Iterator[Part]:
    """Yield gains of `attunet` relative to the better interpolation."""
    for row in rows("papers_attunet_lesions"):
        if row["images"] == "attunet" and row["difference"] != "–" and ":" in row["measure"]:
            if not row["measure"].startswith(("lesions", "tissues")):
                continue
            lower, upper = map(float, row["interval of the difference"].split(" to "))
            sign = -1 if "false" in row["measure"] else 1
            spread = (upper - lower) / 2 / stats.t.ppf(0.975, 11) * math.sqrt(12)
            yield t_part(row["measure"], sign * float(row["difference"]), spread, 12)


CLAIMS: dict[str, Callable[[], Iterator[Part]]] = {
    "ota_sizes": lambda: of_ota("size", "before"),
    "ota_overlap": lambda: of_ota("Dice", "none"),
    "ota_smoothed_overlap": lambda: of_ota("Dice", "before"),
    "ota_information": of_kept_information,
    "tv_interpolation": of_interpolation,
    "tv_competitive": of_competitive,
    "tv_dip": of_dip,
    "cpce": of_cpce,
    "circle": of_circle,
    "liang_resolutions": of_resolutions,
    **{
        name: of_claim(name)
        for name in (
            "liang_ccnn",
            "liang_gan",
            "liang_samples",
            "liang_effective_resolution",
            "li_vit",
            "li_unet",
            "li_critic",
            "li_pretraining",
            "li_filters",
            "li_affine",
        )
    },
    "liang_transfer": of_transfer,
    "li_fused": lambda: between(
        "papers_attunet_settings",
        ("three contrasts",),
        ("one network per contrast",),
        ["PSNR − B-spline (dB)", "SSIM", "-MAE"],
        4,
    ),
    "li_volumes": of_volumes,
    "li_lesions": of_lesions,
}
"""Parts of each claim that was tested."""


def parts_of(name: str) -> list[Part]:
    """Return the parts of a claim; none if it was not tested."""
    return list(CLAIMS[name]())


def filled(text: str) -> str:
    """Return the page with its numbers and verdicts as they are now."""
    text = NUMBER.sub(lambda match: f"<!--={match[1]}-->{number(match[1])}<!--/-->", text)
    return CLAIM.sub(
        lambda match: (
            f"<!--{match[1]} {match[2]}-->"
            + (
                judge(parts_of(match[2]))
                if match[1] == "seen"
                else "; ".join(part.text for part in parts_of(match[2]))
            )
            + "<!--/-->"
        ),
        text,
    )


def main() -> None:
    """Write the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
