"""BIDS Stats Model at the run level, read by pybids: contrasts and confounds.

The rest of the model is fixed: trial types convolved with the response of
``activation.hrf_model``, drift and mean, fitted to each run separately. A model with other
components is rejected as a whole.
"""

import fnmatch
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from bids_sr.bids import Findings
from bids_sr.bids.entities import parse_entities, same_run
from bids_sr.config import suggest_name
from bids_sr.glm.contrasts import Contrast, camel_case, order_types
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.io.atomic_files import read_text
from bids_sr.io.confound_names import COSINE, match_columns

_TYPE_PREFIX = "trial_type."  # prefix that `Factor` adds to trial types
_MEAN_COLUMNS = ("1", "intercept")  # names of the mean of a run
_FACTOR = {"name": "Factor", "input": ["trial_type"]}  # transformation that splits trial types


def read_model(
    path: Path,
    types: Mapping[Path, Iterable[str]],
    findings: Findings,
    *,
    hrf: HemodynamicResponse,
    confound_columns: Collection[str],
    levels: Sequence[str] = (),
    unmodeled: Mapping[str, str] = {},
) -> tuple[list[tuple[str, Contrast]], list[str]]:
    """Return contrasts (as `resolve_contrasts` takes them) and confound columns of a model.

    Columns may contain wildcards. Both lists are empty if the model is rejected. `types` maps BOLD
    files to modeled trial types. `hrf` is the response of all models, and
    `confound_columns` are all columns that confounds tables can have. `levels` are trial types in
    the order of ``Levels`` at the root of the data set, which is also the order of dummy contrasts
    of all trial types. `unmodeled` maps types of events tables to the reason why they are not
    modeled.
    """
    try:
        model = _parse_model(
            json.loads(read_text(path)), types, hrf, confound_columns, levels, unmodeled
        )
        reasons = model.reasons
    except OSError as error:
        reasons = [f"the model file cannot be read ({error.strerror})"]
    except (
        ValueError,
        ArithmeticError,
        LookupError,
        TypeError,
        AttributeError,
        RuntimeError,
    ) as error:
        reasons = [f"the file is not a valid BIDS Stats Model ({error!r})"]
    if not reasons:
        for text in model.ignored:
            findings.warn(f"--model {path}", text, code="events")
        return model.contrasts, model.confounds
    for reason in reasons:
        fix = (
            "Change the model as described in docs/recipes/stats_model.md, or fit it to the"
            " super-resolved series with FitLins."
        )
        findings.refuse_option(f"--model {path}", reason, fix)
    return [], []


class _ParsedModel(NamedTuple):
    """Content of a model; `reasons` to reject the model are empty if the rest can be used.

    `ignored` are sentences about parts of the model without effect.
    """

    contrasts: list[tuple[str, Contrast]]
    confounds: list[str]
    reasons: list[str]
    ignored: list[str]


def _parse_model(
    content: Any,
    types: Mapping[Path, Iterable[str]],
    hrf: HemodynamicResponse,
    confound_columns: Collection[str],
    levels: Sequence[str],
    unmodeled: Mapping[str, str],
) -> _ParsedModel:
    """Return contrasts and confound columns of a model, and reasons to reject it.

    Contrasts and confounds are empty if there is a reason. Errors of pybids, and of content of an
    unexpected type, are not caught.
    """
    from bids.modeling import BIDSStatsModelsNode
    from bids.modeling.statsmodels import validate_model
    from bids.utils import convert_JSON

    ordered_types = order_types(chain.from_iterable(types.values()), levels)
    all_types = dict.fromkeys(_TYPE_PREFIX + name for name in ordered_types).keys()
    document = convert_JSON(content)
    validate_model(document)
    nodes = [BIDSStatsModelsNode(**node) for node in document["nodes"]]
    run_node = nodes[0]
    dummy_contrasts = run_node.dummy_contrasts
    dummy_names = dummy_contrasts.get("contrasts", all_types) if dummy_contrasts else ()
    contrasts = [
        {"name": name, "condition_list": [name], "weights": [1]} | dummy_contrasts
        for name in dummy_names
    ] + run_node.contrasts
    model_input = document.get("input", {})
    reasons = [*_list_unsupported_features(nodes, model_input, types, all_types, hrf)]
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
    if types:
        reasons += _list_unusable_contrasts(contrasts, all_types, unmodeled)
    if reasons:
        return _ParsedModel(contrasts=[], confounds=[], reasons=reasons, ignored=[])
    ignored = [
        f"{field} contains {_describe_unknown(name, all_types, unmodeled)}. The entry is ignored."
        for field, names in (("X", columns), ("Convolve", _list_convolved(run_node)))
        for name in _find_unknown_types(names, all_types)
    ]
    return _ParsedModel(
        contrasts=list(map(_parse_contrast, contrasts)),
        # Cosines are part of every model.
        confounds=[name for name in confounds if not name.startswith(COSINE)],
        reasons=[],
        ignored=ignored,
    )


def _list_unsupported_features(
    nodes: Sequence[Any],
    model_input: Mapping[str, Any],
    bolds: Iterable[Path],
    all_types: Set[str],
    hrf: HemodynamicResponse,
) -> Iterator[str]:
    """Yield each feature of a model beyond t contrasts of trial types with confounds, per run.

    `model_input` is the input of the model: labels by entity. `bolds` are BOLD files of the
    selected runs with events. `all_types` are prefixed trial types of all runs.
    """
    node = nodes[0]
    entities_by_name = {bold.name: parse_entities(bold) for bold in bolds}
    if not entities_by_name:
        yield (
            "the model requires runs with events, but no selected run has events. Select task"
            " runs, or omit --model"
        )
        return
    levels = [level_node.level for level_node in nodes]
    if levels != ["run"]:
        yield (
            f"only the run level is supported, but the model has the levels {', '.join(levels)}"
        )
    yield from _list_excluded_runs(model_input, entities_by_name)
    label_groups = {tuple(map(run.get, node.group_by)) for run in entities_by_name.values()}
    if len(label_groups) < len(entities_by_name):
        yield "GroupBy combines several runs, but bids-sr fits each run separately"
    if {"type": "glm", **node.model, "x": []} != {"type": "glm", "x": []}:
        yield (
            "only X and Type glm are supported in Model, but the file contains"
            f" {', '.join(node.model)}"
        )
    instructions = node.transformations["instructions"]
    for instruction in instructions:
        if not _is_convolution(instruction):
            if instruction != _FACTOR:
                name = instruction["name"]
                yield (
                    f"the transformation {name} is not supported, or not supported with these"
                    " inputs"
                )
        elif not _has_response(instruction, hrf):
            yield (
                "Convolve has another response than the models of bids-sr"
                f" (activation.hrf_model is {hrf.hrf_model!r})"
            )
    columns = list(map(str, node.model["x"]))
    yield from _list_missing_types("X", columns, all_types)
    yield from _list_missing_types("Convolve", _list_convolved(node), all_types)


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


def _list_missing_types(field: str, patterns: Sequence[str], all_types: Set[str]) -> Iterator[str]:
    """Yield a reason if a field of the model does not select all (prefixed) trial types."""
    selected_types = {name for pattern in patterns for name in fnmatch.filter(all_types, pattern)}
    if missing_types := all_types - selected_types:
        unknown_types = _find_unknown_types(patterns, all_types)
        unknown_text = f". Unknown trial types: {', '.join(unknown_types)}"
        yield (
            f"{field} must include all trial types, but the following are missing:"
            f" {', '.join(sorted(missing_types))}{unknown_text if unknown_types else ''}"
        )


def _find_unknown_types(patterns: Iterable[str], all_types: Set[str]) -> list[str]:
    """Return the patterns of trial types that match no (prefixed) trial type, once each."""
    return [
        pattern
        for pattern in dict.fromkeys(patterns)
        if pattern.startswith(_TYPE_PREFIX) and not fnmatch.filter(all_types, pattern)
    ]


def _list_convolved(node: Any) -> list[str]:
    """Return the patterns of trial types that a node convolves."""
    instructions = node.transformations["instructions"]
    return [
        str(name)
        for instruction in instructions
        if _is_convolution(instruction)
        for name in instruction["input"]
    ]


def _is_convolution(instruction: Mapping[str, Any]) -> bool:
    """Return whether a transformation convolves trial types, and nothing else."""
    return instruction["name"] == "Convolve" and all(
        name.startswith(_TYPE_PREFIX) for name in instruction["input"]
    )


def _list_unusable_contrasts(
    contrasts: Iterable[Mapping[str, Any]], all_types: Set[str], unmodeled: Mapping[str, str]
) -> Iterator[str]:
    """Yield a reason for each contrast that is not a t-test of modeled trial types.

    `contrasts` are contrasts and dummy contrasts of the first node, `all_types` the prefixed trial
    types of all runs.
    """
    for contrast in contrasts:
        name = contrast["name"]
        if contrast.get("test") != "t":
            yield f"contrast {name} is not a t-test (Test is {contrast.get('test', 'missing')!r})"
        for term in dict.fromkeys(contrast["condition_list"]):
            if term not in all_types:
                yield f"contrast {name} contains {_describe_unknown(term, all_types, unmodeled)}"


def _describe_unknown(term: object, all_types: Set[str], unmodeled: Mapping[str, str]) -> str:
    """Return a term that is not a modeled trial type, with the reason and similar types.

    `all_types` are the prefixed trial types of all runs.
    """
    text = str(term)
    if _TYPE_PREFIX + text in all_types:
        return f"{text!r} without the prefix {_TYPE_PREFIX}"
    if not text.startswith(_TYPE_PREFIX):
        return f"{text!r}, which is not a trial type"
    name = text.removeprefix(_TYPE_PREFIX)
    if name in unmodeled:
        return f"the trial type {name!r}, which is not modeled because {unmodeled[name]}"
    names = sorted(prefixed.removeprefix(_TYPE_PREFIX) for prefixed in all_types)
    suggestion = suggest_name(name, names)
    choices = f"modeled trial types: {', '.join(names)}"
    return (
        f"the trial type {name!r}, which is not modeled in any selected run"
        f" ({'; '.join(filter(None, (choices, suggestion)))})"
    )


def _parse_contrast(contrast: Mapping[str, Any]) -> tuple[str, Contrast]:
    """Return name and weights of a contrast of the model."""
    weights: Contrast = {}
    for term, weight in zip(contrast["condition_list"], contrast["weights"], strict=True):
        name = term.removeprefix(_TYPE_PREFIX)
        weights[name] = weights.get(name, 0.0) + float(Fraction(weight))
    if not any(weights.values()):
        raise ValueError(f"all weights of the contrast {contrast['name']} are zero")
    return camel_case(contrast["name"].removeprefix(_TYPE_PREFIX)), weights
