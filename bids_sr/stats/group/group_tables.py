"""The group's tables: the long one of all values, that of all comparisons, and the paper's."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bids_sr.frozen import frozen
from bids_sr.io.atomic_files import whole_file, write_json, write_whole
from bids_sr.metrics.long_tables import MISSING, number_text, tsv_text
from bids_sr.metrics.measure_names import better, metric_of
from bids_sr.series import BASELINES, MEASURED
from bids_sr.stats.group import group_tests, metric_tables
from bids_sr.stats.group.group_tests import Comparison
from bids_sr.stats.group.metric_tables import Joined, Question, Source, Values
from bids_sr.stats.group.paired_tests import Spread, Wilcoxon, differences, spread, wilcoxon

_P = "p value, two-sided"
COLUMN_TEXT: Mapping[str, dict[str, str]] = {
    "task": {"Description": "Label of the task"},
    "variant": {"Description": "Other entities in the names of the runs; n/a where there are none"},
    "table": {"Description": "The participants' table that the values come from"},
    "measure": {"Description": "What was measured; see group_metrics_columns.json"},
    "against": {"Description": "What the values are compared with, see group_metrics_columns.json"},
    "region": {"Description": "Voxels that entered, see group_metrics_columns.json"},
    "contrast": {"Description": "The contrast, or two joined by +"},
    "fwhm_mm": {"Description": "Smoothing, full width at half maximum", "Units": "mm"},
    "series": {"Description": "The series under test"},
    "reference": {"Description": "The series that it is compared with"},
    "role": {
        "Description": "Of the reference: acquired, baseline, control, method or placebo; strongest: the largest value "
        "of each participant among baselines, denoising controls and simple arithmetic"
    },
    "better": {"Description": "What is better: higher, lower, near 1, or neither (a difference is no merit by itself)"},
    "n": {"Description": "Participants that enter, one value each; runs were combined by fixed effects"},
    "n_undefined": {"Description": "Participants left out because a value is not defined (an empty region)"},
    "n_above": {"Description": "Participants whose difference (series - reference) is above 0"},
    **{
        f"{part}_{whose}": {"Description": f"{words} of the {text} over participants"}
        for whose, text in (("series", "series"), ("reference", "reference"))
        for part, words in (("median", "Median"), ("q1", "First quartile"), ("q3", "Third quartile"))
    },
    "difference": {"Description": "Hodges-Lehmann estimate of series - reference; distances from 1 where that counts"},
    "lower": {"Description": "Lower end of its exact interval from the signed-rank test"},
    "upper": {"Description": "Upper end of its interval"},
    "level": {"Description": "Confidence of the interval; below .95 where there are too few participants for that"},
    "effect_size": {"Description": "Matched-pairs rank-biserial correlation, -1 to 1"},
    "w_plus": {"Description": "Sum of the ranks of the positive differences (Wilcoxon)"},
    "n_nonzero": {"Description": "Differences that are not zero; the others do not enter the signed-rank test"},
    "method": {"Description": "How its p value was computed: exact, normal, or identical (all differences are zero)"},
    "p_wilcoxon": {"Description": f"{_P}, Wilcoxon signed-rank test, not corrected"},
    "p_smallest": {"Description": "Smallest p value that this test could have reached with so many differences"},
    "family": {"Description": "Comparisons corrected together: one series and question, placebos apart"},
    "p_holm": {"Description": "p_wilcoxon corrected within the family (Holm)"},
    "p_fdr": {"Description": "False discovery rate over all comparisons of the measure (Benjamini and Hochberg)"},
    "t": {"Description": "Paired t; n/a where the differences do not vary"},
    "dof": {"Description": "Its degrees of freedom"},
    "p_t": {"Description": f"{_P}, paired t test, not corrected"},
    "p_friedman": {
        "Description": "p value of Friedman's test over all series of this question, of participants that have them all"
    },
    "margin": {
        "Description": "Margin of equivalence: --margin for pure numbers, else a tenth of the median gap between "
        "bspline and measured; n/a without a gap"
    },
    "p_equivalence": {"Description": "p value of two one-sided paired t tests within the margin, not corrected"},
    "p_equivalence_holm": {"Description": "The same, corrected within the family (Holm)"},
    "word": {
        "Description": "better, worse, larger, smaller: p_holm < .05; same: p_equivalence_holm < .05 or all identical; "
        "undecided: neither; not comparable: fewer than two participants"
    },
    "part": {
        "Description": "primary: the one comparison of a task that was fixed beforehand (default method minus each "
        "participant's strongest reference, explained variance beyond the acquired Nyquist limit), which is corrected "
        "for the number of tasks alone; exploratory: every other"
    },
    "n_needed": {"Description": "Participants for 80 % power of the primary comparison if its effect is as observed"},
    "note": {"Description": "What else must be known"},
}  # fmt: skip
COLUMNS = tuple(COLUMN_TEXT)
COLUMNS_OF = "_columns"
"""Between the name of a table and ``.json``: as ``group_metrics.json``, participants' metrics would inherit it."""


def write_tables(
    output_dir: Path, sources: Iterable[Source], *, method: str, margin: float | None = None
) -> tuple[Joined, list[Comparison]]:
    """Write ``group_metrics`` and ``group_stats``, and return what they hold; TableError as of `join_tables`.

    Parameters
    ----------
    method : of the primary comparisons, fixed beforehand
    margin : of equivalence, see `group_tests.margin_of`
    """
    with whole_file(output_dir / "group_metrics.tsv") as beside:
        with beside.open("w", encoding="utf-8") as stream:
            joined = metric_tables.join_tables(sources, stream)
        comparisons = group_tests.compare(joined.values, joined.methods, units=joined.units, margin=margin)
        comparisons = group_tests.with_primary(comparisons, joined.values, method)
    levels = {name: f"{metric_of(name).description} ({metric_of(name).unit})" for name in sorted(joined.units)}
    metrics = {**metric_tables.COLUMN_TEXT, "measure": {**metric_tables.COLUMN_TEXT["measure"], "Levels": levels}}
    for table, text in (("group_metrics", metrics), ("group_stats", COLUMN_TEXT)):
        write_json(output_dir / f"{table}{COLUMNS_OF}.json", text)
        (output_dir / f"{table}.json").unlink(missing_ok=True)  # of 0.2.0 and before, inherited by BIDS
    write_whole(output_dir / "group_stats.tsv", stats_text(comparisons))
    return joined, comparisons


def row(each: Comparison) -> dict[str, str]:
    """One comparison as it stands in ``group_stats.tsv``."""
    test, estimate, t = each.test, each.estimate, each.t
    found: dict[str, float | int | str | None] = {
        **each.question._asdict(),
        "series": each.series,
        "reference": each.reference,
        "role": each.role,
        "better": better(each.question.measure),
        "n": each.n,
        "n_undefined": each.n_undefined,
        "n_above": each.ahead,
    }
    for whose, part in (("series", each.own), ("reference", each.other)):
        found |= {f"median_{whose}": part.median, f"q1_{whose}": part.first, f"q3_{whose}": part.third}
    if estimate is not None:
        found |= {"difference": estimate.value, "lower": estimate.lower, "upper": estimate.upper}
        found["level"] = estimate.level
    if test is not None:
        found |= {"effect_size": test.effect_size, "w_plus": test.w_plus, "n_nonzero": test.n, "method": test.method}
        found |= {"p_wilcoxon": test.p_value, "p_smallest": test.smallest_p}
    if t is not None:
        found |= {"t": t.t, "dof": t.dof, "p_t": t.p_value}
    found |= {name: getattr(each, name) for name in ("family", "p_holm", "p_fdr", "p_friedman", "margin")}
    found |= {name: getattr(each, name) for name in ("p_equivalence", "p_equivalence_holm", "word", "note")}
    found |= {"part": "primary" if each.primary else "exploratory", "n_needed": each.needed}
    cells = {name: found.get(name) for name in COLUMNS}
    return {
        name: number_text(value) if isinstance(value, float) else MISSING if value in (None, "") else str(value)
        for name, value in cells.items()
    }


def stats_text(comparisons: Iterable[Comparison]) -> str:
    """The comparisons as TSV text with a header line."""
    return tsv_text(COLUMNS, (list(row(each).values()) for each in comparisons))


@frozen
class Cell:
    """One cell of the paper's table."""

    spread: Spread  # over participants in whom the metric is defined
    of: int  # participants that have the series
    # against_raw, against_spline: signed-rank test of the same participants against raw and bspline, not corrected;
    # None for these themselves
    against_raw: Wilcoxon | None
    against_spline: Wilcoxon | None


@frozen
class PaperTable:
    """Region sizes in paper units and their overlap for one pair of conditions."""

    # task, variant: which runs
    task: str
    variant: str
    conditions: tuple[str, str]  # the two
    # (smoothing in mm, series) to the cells of first size, second size and Dice, in this order
    lines: Mapping[tuple[float, str], tuple[Cell, Cell, Cell]]


def paper_questions(task: str, variant: str, conditions: tuple[str, str], fwhm: float) -> list[Question]:
    """What a line of the paper's table is made of: size of the one region, of the other, and their overlap."""
    asked = [*(("quarter_paper", name) for name in conditions), ("quarter_dice", "+".join(conditions))]
    return [Question(task, variant, "activation", measure, MISSING, MISSING, name, fwhm) for measure, name in asked]


def paper_tables(values: Values, methods: Sequence[str]) -> list[PaperTable]:
    """The paper's table for every task and pair of conditions, threshold by its equation 2."""
    pairs = dict.fromkeys(
        (q.task, q.variant, q.contrast) for q in values if q.measure == "quarter_dice" and "+" in q.contrast
    )
    tables = []
    for task, variant, contrast in pairs:
        a, b = contrast.split("+", 1)
        lines = {}
        widths = sorted({q.fwhm_mm for q in values if (q.task, q.variant, q.contrast) == (task, variant, contrast)})
        for fwhm in widths:
            of = [values.get(question, {}) for question in paper_questions(task, variant, (a, b), fwhm)]
            for series in ("raw", *BASELINES, *methods, MEASURED):
                if any(series in each for each in of):
                    one, two, three = (_paper_cell(each, series) for each in of)
                    lines[fwhm, series] = (one, two, three)
        if lines:
            tables.append(PaperTable(task=task, variant=variant, conditions=(a, b), lines=lines))
    return tables


def _paper_cell(series: Mapping[str, Mapping[str, float]], name: str) -> Cell:
    own = series.get(name, {})
    tests = [_test(own, series.get(other, {})) if name != other else None for other in ("raw", "bspline")]
    return Cell(spread=spread(list(own.values())), of=len(own), against_raw=tests[0], against_spline=tests[1])


def _test(own: Mapping[str, float], other: Mapping[str, float]) -> Wilcoxon | None:
    both = [who for who in sorted(own.keys() & other.keys()) if math.isfinite(own[who]) and math.isfinite(other[who])]
    if len(both) < 2:
        return None
    return wilcoxon(differences([own[who] for who in both], [other[who] for who in both]))
