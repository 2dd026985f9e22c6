"""Ratings of pairs of maps joined with their key, and counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

ANSWERS = ("left", "right", "equal", "n/a")


@dataclass(frozen=True, kw_only=True, slots=True)
class Count:
    """How often a series was preferred to its rival on one question, of those judgments that preferred one."""

    question: str
    series: str
    rival: str
    preferred: int
    of: int
    equal: int
    unanswered: int
    raters: int
    # lower, upper: exact (Clopper-Pearson) 95 % interval of the share; p_value: two-sided binomial test against 1/2
    lower: float
    upper: float
    p_value: float


def joined_ratings(
    ratings: Sequence[Mapping[str, str]], key: Sequence[Mapping[str, str]], questions: Sequence[str]
) -> list[dict[str, str]]:
    """A row for each rating, with ``series``, ``rival``, ``question`` and ``answer``: series, rival, equal or n/a.

    The series is that of the two which is not ``bspline``. Raises ValueError for a rating that the key does not have,
    one given twice, or an answer that is none.
    """
    known = {(row["sheet"], row["item"]): row for row in key}
    seen: set[tuple[str, str]] = set()
    out = []
    for row in ratings:
        place = (row["sheet"], row["item"])
        if place not in known:
            raise ValueError(f"item {row['item']} of sheet {row['sheet']} is not in the key")
        if place in seen:
            raise ValueError(f"item {row['item']} of sheet {row['sheet']} is rated twice")
        seen.add(place)
        sides = {side: known[place][side] for side in ("left", "right")}
        rival, series = sorted(sides.values(), key=lambda name: name != "bspline")
        for question in questions:
            if row[question] not in ANSWERS:
                raise ValueError(f"item {row['item']} of sheet {row['sheet']}: {row[question]!r} is no answer")
            answer = sides.get(row[question], row[question])
            said = {**known[place], "question": question, "series": series, "rival": rival, "answer": answer}
            out.append({name: value for name, value in said.items() if name not in sides})
    return out


def counts(joined: Sequence[Mapping[str, str]]) -> list[Count]:
    """Counts of `joined_ratings` for each question and pair of series, in the order of the ratings.

    Judgments are counted as independent, which those of several raters on the same maps are not: the interval is then
    too narrow.
    """
    out = []
    for place in dict.fromkeys((row["question"], row["series"], row["rival"]) for row in joined):
        own = [row for row in joined if (row["question"], row["series"], row["rival"]) == place]
        answers = [row["answer"] for row in own]
        preferred, of = answers.count(place[1]), answers.count(place[1]) + answers.count(place[2])
        test = stats.binomtest(preferred, of) if of else None
        interval = test.proportion_ci(method="exact") if test else None
        out.append(Count(
            question=place[0], series=place[1], rival=place[2], preferred=preferred, of=of,
            equal=answers.count("equal"), unanswered=answers.count("n/a"), raters=len({row["rater"] for row in own}),
            lower=float(interval.low) if interval else 0.0, upper=float(interval.high) if interval else 1.0,
            p_value=float(test.pvalue) if test else 1.0,
        ))  # fmt: skip
    return out
