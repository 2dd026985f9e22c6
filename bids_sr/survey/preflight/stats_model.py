"""BIDS Stats Model at the run level, read by pybids: contrasts and confounds.

The rest of the model is fixed: trial types convolved with the response of
``activation.hrf_model``, drift and mean, fitted to each run separately. A model with other
components is rejected as a whole.
"""

import fnmatch
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

from bids_sr.config import suggest_name
from bids_sr.glm.contrasts import Contrast, camel_case, order_types
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.io.atomic_files import read_text
from bids_sr.io.confound_names import COSINE, match_columns
from bids_sr.io.frozen import frozen
from bids_sr.io.json_values import parse_json
from bids_sr.io.notices import Notice
from bids_sr.io.tables import MISSING_MARKS
from bids_sr.survey.bids.entities import parse_entities, same_run
from bids_sr.survey.notices import InputError, option_problem, warning
from bids_sr.survey.preflight.estimability import TypesOfRun
from bids_sr.survey.preflight.events import MISSING_TYPE

_TYPE_PREFIX = "trial_type."  # prefix that `Factor` adds to trial types
_MEAN_COLUMNS = ("1", "intercept")  # names of the mean of a run
_FACTOR = {"name": "Factor", "input": ["trial_type"]}  # transformation that splits trial types


@frozen
class StatsModel:
    """Content of a model.

    `contrasts` are as `resolve_contrasts` takes them, and `confounds` columns, which may contain
    wildcards. `ignored` are sentences about parts of the model without effect.
    """

    path: Path
    contrasts: Sequence[tuple[str, Contrast]]
    confounds: Sequence[str]
    ignored: Sequence[str] = ()


def read_model(
    path: Path,
    types: Mapping[Path, TypesOfRun],
    *,
    hrf: HemodynamicResponse,
    confound_columns: Collection[str],
    levels: Sequence[str] = (),
) -> StatsModel:
    """Read a model; `InputError` lists all reasons why it cannot be used.

    `types` are the trial types of the selected runs with events, by BOLD file. `hrf` is the
    response of all models, and `confound_columns` are all columns that confounds tables can have.
    `levels` are trial types in the order of ``Levels`` at the root of the data set, which is also
    the order of dummy contrasts of all trial types.
    """
    terms = _TermsOfRuns.from_types(types.values(), levels)
    try:
        content = parse_json(read_text(path))
        return _parse_model(path, content, list(types), terms, hrf, confound_columns)
    except OSError as error:
        reason = f"the model file cannot be read ({error.strerror})"
    except (
        ValueError,
        ArithmeticError,
        LookupError,
        TypeError,
        AttributeError,
        RuntimeError,
    ) as error:
        reason = f"the file is not a valid BIDS Stats Model ({error!r})"
    raise InputError([_refuse_model(path, reason)])


def _refuse_model(path: Path, reason: str) -> Notice:
    """Return the problem of a model that cannot be used."""
    return option_problem(
        f"--model {path}",
        reason,
        "Change the model as described in docs/downstream.md, or fit it to the"
        " super-resolved series with FitLins.",
    )


def ignored_parts(model: StatsModel) -> Iterator[Notice]:
    """Warn of parts of a model without effect."""
    for text in model.ignored:
        yield warning(f"--model {model.path}", text, code="events")


def list_named_types(path: Path | None) -> list[tuple[str, Contrast]]:
    """Return a contrast per trial type that a model names without wildcards.

    [] without a model, and if the file cannot be read, which `read_model` reports.
    """
    if path is None:
        return []
    try:
        names = re.findall(rf'"{re.escape(_TYPE_PREFIX)}([^"]+)"', read_text(path))
    except (OSError, ValueError):
        return []
    return [(name, {name: 1.0}) for name in names]


@frozen
class _TermsOfRuns:
    """Terms of a model that stand for the trial types of all runs.

    `modeled` are terms of modeled types in the order of contrasts, and `unmodeled` maps other
    types of events tables to the reason why they are not modeled.
    """

    modeled: tuple[str, ...]
    unmodeled: Mapping[str, str]

    @classmethod
    def from_types(cls, types: Collection[TypesOfRun], levels: Sequence[str]) -> "_TermsOfRuns":
        """Return the terms of the types of all runs; `levels` come first, in this order."""
        names = chain.from_iterable(run_types.modeled for run_types in types)
        return cls(
            modeled=tuple(_TYPE_PREFIX + name for name in order_types(names, levels)),
            unmodeled=dict.fromkeys(MISSING_MARKS, MISSING_TYPE)
            | dict(chain.from_iterable(run_types.unmodeled.items() for run_types in types)),
        )

    def find_unknown(self, patterns: Iterable[str]) -> list[str]:
        """Return the patterns of trial types that match no modeled type, once each."""
        return [
            pattern
            for pattern in dict.fromkeys(patterns)
            if pattern.startswith(_TYPE_PREFIX) and not fnmatch.filter(self.modeled, pattern)
        ]

    def describe_unknown(self, term: object) -> str:
        """Return a term that is not a modeled trial type, with the reason and similar types."""
        text = str(term)
        if _TYPE_PREFIX + text in self.modeled:
            return f"{text!r} without the prefix {_TYPE_PREFIX}"
        if not text.startswith(_TYPE_PREFIX):
            return f"{text!r}, which is not a trial type"
        name = text.removeprefix(_TYPE_PREFIX)
        if name in self.unmodeled:
            return f"the trial type {name!r}, which is not modeled because {self.unmodeled[name]}"
        names = sorted(modeled.removeprefix(_TYPE_PREFIX) for modeled in self.modeled)
        hints = (f"modeled trial types: {', '.join(names)}", suggest_name(name, names))
        return (
            f"the trial type {name!r}, which is not modeled in any selected run"
            f" ({'; '.join(filter(None, hints))})"
        )


def _parse_model(
    path: Path,
    content: Any,
    bolds: Sequence[Path],
    terms: _TermsOfRuns,
    hrf: HemodynamicResponse,
    confound_columns: Collection[str],
) -> StatsModel:
    """Return the content of a model; `InputError` if bids-sr does not support it.

    `bolds` are BOLD files of the selected runs with events. Errors of pybids, and of content of an
    unexpected type, are not caught.
    """
    from bids.modeling import BIDSStatsModelsNode
    from bids.modeling.statsmodels import validate_model
    from bids.utils import convert_JSON

    document = convert_JSON(content)
    validate_model(document)
    nodes = [BIDSStatsModelsNode(**node) for node in document["nodes"]]
    run_node = nodes[0]
    dummy_contrasts = run_node.dummy_contrasts
    dummy_names = dummy_contrasts.get("contrasts", terms.modeled) if dummy_contrasts else ()
    contrasts = [
        {"name": name, "condition_list": [name], "weights": [1]} | dummy_contrasts
        for name in dummy_names
    ] + run_node.contrasts
    reasons = [*_list_unsupported_features(nodes, document.get("input", {}), bolds, terms, hrf)]
    columns = list(map(str, run_node.model["x"]))
    confounds = [
        name for name in columns if name not in _MEAN_COLUMNS and not name.startswith(_TYPE_PREFIX)
    ]
    unknown_columns = [name for name in confounds if not match_columns(confound_columns, [name])]
    if unknown_columns:
        reasons.append(
            "X contains columns that are neither trial types nor confounds:"
            f" {', '.join(unknown_columns)}"
        )
    if bolds:
        reasons += _list_unusable_contrasts(contrasts, terms)
    if reasons:
        raise InputError([_refuse_model(path, reason) for reason in reasons])
    return StatsModel(
        path=path,
        contrasts=list(map(_parse_contrast, contrasts)),
        # Cosines are part of every model.
        confounds=[name for name in confounds if not name.startswith(COSINE)],
        ignored=[
            f"{field} contains {terms.describe_unknown(name)}. The entry is ignored."
            for field, names in (("X", columns), ("Convolve", _list_convolved(run_node)))
            for name in terms.find_unknown(names)
        ],
    )


def _list_unsupported_features(
    nodes: Sequence[Any],
    model_input: Mapping[str, Any],
    bolds: Sequence[Path],
    terms: _TermsOfRuns,
    hrf: HemodynamicResponse,
) -> Iterator[str]:
    """Yield each feature of a model beyond t contrasts of trial types with confounds, per run.

    `model_input` is the input of the model: labels by entity. `bolds` are BOLD files of the
    selected runs with events.
    """
    if not bolds:
        yield (
            "the model requires runs with events, but no selected run has events. Select task"
            " runs, or omit --model"
        )
        return
    node = nodes[0]
    levels = [level_node.level for level_node in nodes]
    if levels != ["run"]:
        yield (
            f"only the run level is supported, but the model has the levels {', '.join(levels)}"
        )
    entities_by_name = {bold.name: parse_entities(bold) for bold in bolds}
    yield from _list_excluded_runs(model_input, entities_by_name)
    label_groups = {tuple(map(run.get, node.group_by)) for run in entities_by_name.values()}
    if len(label_groups) < len(entities_by_name):
        yield "GroupBy combines several runs, but bids-sr fits each run separately"
    if {"type": "glm", **node.model, "x": []} != {"type": "glm", "x": []}:
        yield (
            "only X and Type glm are supported in Model, but the file contains"
            f" {', '.join(node.model)}"
        )
    for instruction in node.transformations["instructions"]:
        if _is_convolution(instruction):
            if not _has_response(instruction, hrf):
                yield (
                    "Convolve has another response than the models of bids-sr"
                    f" (activation.hrf_model is {hrf.hrf_model!r})"
                )
        elif instruction != _FACTOR:
            yield (
                f"the transformation {instruction['name']} is not supported, or not supported with"
                " these inputs"
            )
    for field, patterns in (("X", map(str, node.model["x"])), ("Convolve", _list_convolved(node))):
        yield from _list_missing_types(field, list(patterns), terms)


def _list_excluded_runs(
    model_input: Mapping[str, Any], entities_by_name: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    """Yield, for each entity of the Input of a model, the first run that it excludes."""
    for key, labels in model_input.items():
        selections = [{key: str(label)} for label in labels]
        for name, entities in entities_by_name.items():
            if not any(same_run(entities, selection, [key]) for selection in selections):
                yield (
                    f"the model Input excludes {name} by {key}. Select the same runs on the"
                    " command line, for example with --task-id"
                )
                break


def _has_response(convolution: Mapping[str, Any], hrf: HemodynamicResponse) -> bool:
    """Return whether a convolution has the response of all models; SPM's if it names none."""
    fields = {name: value for name, value in convolution.items() if value is not False}
    return {"model": "spm", **fields} == {
        "name": fields["name"],
        "input": fields["input"],
        "model": hrf.main.hrf_model,
        **dict.fromkeys(hrf.derivatives, True),
    }


def _list_missing_types(field: str, patterns: Sequence[str], terms: _TermsOfRuns) -> Iterator[str]:
    """Yield a reason if the patterns in a field of the model do not select all trial types."""
    selected = {term for pattern in patterns for term in fnmatch.filter(terms.modeled, pattern)}
    if missing := set(terms.modeled) - selected:
        unknown = terms.find_unknown(patterns)
        unknown_text = f". Unknown trial types: {', '.join(unknown)}" if unknown else ""
        yield (
            f"{field} must include all trial types, but the following are missing:"
            f" {', '.join(sorted(missing))}{unknown_text}"
        )


def _list_convolved(node: Any) -> list[str]:
    """Return the patterns of trial types that a node convolves."""
    return [
        str(name)
        for instruction in node.transformations["instructions"]
        if _is_convolution(instruction)
        for name in instruction["input"]
    ]


def _is_convolution(instruction: Mapping[str, Any]) -> bool:
    """Return whether a transformation convolves trial types, and nothing else."""
    return instruction["name"] == "Convolve" and all(
        name.startswith(_TYPE_PREFIX) for name in instruction["input"]
    )


def _list_unusable_contrasts(
    contrasts: Iterable[Mapping[str, Any]], terms: _TermsOfRuns
) -> Iterator[str]:
    """Yield a reason for each contrast that is not a t-test of modeled trial types.

    `contrasts` are contrasts and dummy contrasts of the first node.
    """
    for contrast in contrasts:
        name = contrast["name"]
        if contrast.get("test") != "t":
            yield f"contrast {name} is not a t-test (Test is {contrast.get('test', 'missing')!r})"
        for term in dict.fromkeys(contrast["condition_list"]):
            if term not in terms.modeled:
                yield f"contrast {name} contains {terms.describe_unknown(term)}"


def _parse_contrast(contrast: Mapping[str, Any]) -> tuple[str, Contrast]:
    """Return name and weights of a contrast of the model."""
    weights: Contrast = {}
    for term, weight in zip(contrast["condition_list"], contrast["weights"], strict=True):
        name = term.removeprefix(_TYPE_PREFIX)
        weights[name] = weights.get(name, 0.0) + float(Fraction(weight))
    if not any(weights.values()):
        raise ValueError(f"all weights of the contrast {contrast['name']} are zero")
    return camel_case(contrast["name"].removeprefix(_TYPE_PREFIX)), weights
