"""Exploratory comparisons that the group page shows.

Comparisons are rows of the table from `bids_sr.group.comparisons`. A finding contains all
comparisons of one method on one question, that is, one metric of one task, contrast and region.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from bids_sr.engine.metric_rows import MISSING, parse_cell
from bids_sr.engine.number_text import p_value
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.words import (
    capitalize,
    measure_text,
    reference_phrase,
    region_text,
)
from bids_sr.group.comparisons import EXPLORATORY
from bids_sr.group.values import (
    QUESTION,
    EvidenceContrasts,
    rank_question,
)
from bids_sr.io.smoothing_words import smoothing_text

ComparisonRow = Any
"""Comparison with columns as attributes."""
FUNCTION, IMAGE, SIZE = "function", "image", "size"
_METRIC = ["statistic", "band", "reference", "threshold"]
# metrics that are reported, with the kind of evidence they provide; strongest evidence first
_EVIDENCE = (
    pd.DataFrame(
        [
            (FUNCTION, "ev", "beyond", ("measured", "truth")),
            (FUNCTION, "r", "beyond", ("measured", "truth", "measuredMap")),
            (FUNCTION, "r", "all", ("measured", "truth", "measuredMap")),
            (FUNCTION, "average_precision", MISSING, ("truth",)),
            (IMAGE, "psnr", MISSING, ("measured", "heldOut", MISSING)),
            (IMAGE, "ssim", MISSING, (MISSING,)),
            (SIZE, "dice", MISSING, (MISSING,)),
            (SIZE, "size_acquired_voxels", MISSING, (MISSING,)),
        ],
        columns=["kind", "statistic", "band", "reference"],
    )
    .explode("reference", ignore_index=True)
    .assign(threshold=lambda metrics: np.where(metrics["kind"] == SIZE, "quarter", MISSING))
    .rename_axis("strength")
    .reset_index()
)
_REGIONS = ("brain", ACQUIRED_ACTIVE, MISSING)  # regions of findings, in the order of the report


def select_findings(
    comparisons: pd.DataFrame, methods: Sequence[str], contrasts: EvidenceContrasts
) -> list[list[ComparisonRow]]:
    """Return the findings worth reporting, strongest evidence first.

    Each metric is reported for one contrast and the smallest smoothing: sizes for each condition
    of a pair, as in the paper, and other metrics for the brain and the active region. Contrasts of
    the runs' evidence (`contrasts`) come first. Rows have the additional columns ``kind`` (of
    evidence), ``strength`` (0 for the strongest evidence), ``question`` (number) and
    ``comparison_index`` (index of the row in `comparisons`).
    """
    exploratory = comparisons[
        comparisons["series"].isin(methods) & (comparisons["part"] == EXPLORATORY)
    ]
    candidates = exploratory.assign(comparison_index=exploratory.index).merge(
        _EVIDENCE, on=_METRIC
    )
    paired_contrasts = {
        contrast
        for pair in list_condition_pairs(comparisons["contrast"]).values()
        for contrast in pair
    }
    is_size = candidates["statistic"] == "size_acquired_voxels"
    is_unpaired = is_size & ~candidates["contrast"].isin(paired_contrasts)
    eligible = candidates[candidates["region"].isin(_REGIONS) & ~is_unpaired]
    ranked = eligible.assign(
        contrast_rank=[
            rank_question(task, variant, contrast, contrasts)
            for task, variant, contrast in zip(
                eligible["task"], eligible["variant"], eligible["contrast"], strict=True
            )
        ],
        size_contrast=eligible["contrast"].where(eligible["kind"] == SIZE, ""),
        region_rank=eligible["region"].map(_REGIONS.index),
        method_rank=eligible["series"].map(list(methods).index),
        question=eligible.groupby(QUESTION, sort=False).ngroup(),
    ).sort_values(["contrast_rank", "fwhm_mm", "contrast", "comparison_index"])
    metric_columns = [
        *("task", "variant", "table", *_METRIC, "region", "size_contrast", "input_fwhm_mm")
    ]
    reported_questions = ranked.drop_duplicates(metric_columns)["question"]
    reported = ranked[ranked["question"].isin(reported_questions)].sort_values(
        [
            "strength",
            "task",
            "region_rank",
            "contrast",
            "question",
            "method_rank",
            "comparison_index",
        ]
    )
    return [
        list(finding.itertuples())
        for _, finding in reported.groupby(["question", "method_rank"], sort=False)
    ]


def list_condition_pairs(contrasts: pd.Series) -> dict[str, tuple[str, str]]:
    """Return the pairs of contrasts that have a joint contrast, such as ``faces+houses``.

    The result has both contrasts by the name of the joint contrast; {} if there are no pairs.
    """
    available = list(contrasts.unique())
    pairs = {
        f"{first}+{second}": (first, second) for first, second in product(available, repeat=2)
    }
    return {name: pair for name, pair in pairs.items() if name in available}


def title_text(row: ComparisonRow) -> str:
    """Return the measured quantity with task, region, contrast and smoothing as a title.

    The first letter is a capital.
    """
    return f"{capitalize(question_text(row))}, {context_text(row)}"


def question_text(row: ComparisonRow) -> str:
    """Return the measured quantity, and the reference if it is known, as text."""
    return " ".join(filter(None, [measure_text(row), reference_phrase(row)]))


def context_text(question: ComparisonRow) -> str:
    """Return task, region, contrast and smoothing of a question as text."""
    special_texts = {MISSING: "", "all": "all conditions"}
    contrast = special_texts.get(question.contrast, question.contrast.replace("+", " and "))
    smoothing = smoothing_text(question.fwhm_mm, parse_cell(question.input_fwhm_mm))
    phrases = [task_text(question), region_text(question.region), contrast, smoothing]
    return ", ".join(filter(None, phrases))


def task_text(question: ComparisonRow) -> str:
    """Return the task (and the variant of its files) of a question as text."""
    variant = [] if question.variant == MISSING else [question.variant]
    return ", ".join([f"task {question.task}", *variant])


def p_text(value: float) -> str:
    """Return a p value as text."""
    return f"p {'' if value < 0.001 else '= '}{p_value(value)}"
