"""BIDS Stats Model of the run level, read by pybids: its contrasts and confounds.

The rest of the model is fixed here: every trial type convolved with SPM's response, drift and
mean, each run on its own. A model that asks for more is refused, and not fitted in part.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from fnmatch import filter as matching
from fractions import Fraction
from pathlib import Path
from typing import Any

from bids_sr.bids import Findings
from bids_sr.bids.entities import entities_of, same_run
from bids_sr.glm.contrasts import Contrast, camel
from bids_sr.io.atomic_files import read_text

_TYPE = "trial_type."  # what `Factor` puts before the name of a trial type
# columns that X may have; wildcards mean those of the run
_COLUMN = re.compile(
    r"1|intercept|trial_type\..+|csf_wm|rmsd|(std_)?dvars|framewise_displacement|\w+[*?\[].*"
    r"|((trans|rot)_[xyz]|global_signal|csf|white_matter)(_derivative1)?(_power2)?"
    r"|([acwt]_comp_cor_|cosine|motion_outlier|non_steady_state_outlier)\d\d"
)
_OF_TYPE = re.compile(r"1|intercept|trial_type\..+")  # those of them that are not confounds
_NO_CONFOUND = ("1", "intercept", _TYPE, "cosine")  # mean and drift are part of every model


def is_confound(name: str) -> bool:
    """Return whether a name, possibly with wildcards, can be one of a column of confounds."""
    return bool(_COLUMN.fullmatch(name)) and not _OF_TYPE.fullmatch(name)


def read_model(
    path: Path, types: Mapping[Path, Iterable[str]], findings: Findings
) -> tuple[list[tuple[str, Contrast]], list[str]]:
    """Return the contrasts of a model, as `resolve_contrasts` takes them, and its confounds.

    Names and weights of contrasts, and columns of the confounds, some with wildcards; none where
    the model is refused.
    """
    from bids.modeling import BIDSStatsModelsNode
    from bids.modeling.statsmodels import validate_model
    from bids.utils import convert_JSON

    every = dict.fromkeys(_TYPE + name for names in types.values() for name in names).keys()
    try:
        document = convert_JSON(json.loads(read_text(path)))
        validate_model(document)
        nodes = [BIDSStatsModelsNode(**each) for each in document["nodes"]]
        single = nodes[0].dummy_contrasts
        columns = map(str, nodes[0].model["x"])
        contrasts = [
            {"name": name, "condition_list": [name], "weights": [1]} | single
            for name in (single.get("contrasts", every) if single else ())
        ] + nodes[0].contrasts
        refused = [*_asks_more(nodes, document.get("input", {}), types, every, contrasts)]
        if not refused:
            confounds = [name for name in columns if not name.startswith(_NO_CONFOUND)]
            return list(map(_weighted, contrasts)), confounds
    except OSError as error:
        refused = [f"the model file cannot be read ({error.strerror})"]
    except (
        ValueError,
        ArithmeticError,
        LookupError,
        TypeError,
        AttributeError,
        RuntimeError,
    ) as error:
        refused = [f"the file is not a valid BIDS Stats Model ({error!r})"]
    for why in refused:
        fix = (
            "Change the model as described in docs/recipes/stats_model.md, or fit it to the"
            " super-resolved series with FitLins."
        )
        findings.refuse_option(f"--model {path}", why, fix)
    return [], []


def _weighted(contrast: Mapping[str, Any]) -> tuple[str, Contrast]:
    found: Contrast = {}
    for term, weight in zip(contrast["condition_list"], contrast["weights"], strict=True):
        name = term.removeprefix(_TYPE)
        found[name] = found.get(name, 0.0) + float(Fraction(weight))
    if not any(found.values()):
        raise ValueError(f"all weights of the contrast {contrast['name']} are zero")
    return camel(contrast["name"].removeprefix(_TYPE)), found


def _asks_more(
    nodes: Sequence[Any],
    chosen: Mapping[str, Any],
    types: Iterable[Path],
    every: Set[str],
    contrasts: Iterable[Mapping[str, Any]],
) -> Iterator[str]:
    """What is asked for besides t contrasts of trial types, with confounds, in each run."""
    node = nodes[0]
    runs = {bold.name: entities_of(bold) for bold in types}
    if not runs:
        yield (
            "the model requires runs with events, but no selected run has events. Select task"
            " runs, or omit --model"
        )
        return
    if [each.level for each in nodes] != ["run"]:
        yield (
            "only the run level is supported, but the model has the levels"
            f" {', '.join(each.level for each in nodes)}"
        )
    for key, labels in chosen.items():
        named = [{key: str(label)} for label in labels]
        out = [
            name for name, own in runs.items() if not any(same_run(own, n, [key]) for n in named)
        ]
        if out:
            yield (
                f"the model Input excludes {out[0]} by {key}. Select the same runs on the command"
                " line, for example with --task-id"
            )
    if len({tuple(map(own.get, node.group_by)) for own in runs.values()}) < len(runs):
        yield "GroupBy combines several runs, but bids-sr fits each run separately"
    if {"type": "glm", **node.model, "x": []} != {"type": "glm", "x": []}:
        yield (
            "only X and Type glm are supported in Model, but the file contains"
            f" {', '.join(node.model)}"
        )
    convolved: list[str] = []
    for instruction in node.transformations["instructions"]:
        inputs = [name for name in instruction["input"] if name.startswith(_TYPE)]
        if {"model": "spm", **instruction} == {
            "name": "Convolve",
            "input": inputs,
            "model": "spm",
        }:
            convolved += inputs
        elif instruction != {"name": "Factor", "input": ["trial_type"]}:
            name = instruction["name"]
            yield f"the transformation {name} is not supported, or not supported with these inputs"
    columns = list(map(str, node.model["x"]))
    for where, names in (("X", columns), ("Convolve", convolved)):
        if absent := every - {one for name in names for one in matching(every, name)}:
            yield (
                f"{where} must include all trial types, but the following are missing:"
                f" {', '.join(sorted(absent))}"
            )
    if strange := [name for name in columns if not _COLUMN.fullmatch(name)]:
        yield (
            f"X contains columns that are neither trial types nor confounds: {', '.join(strange)}"
        )
    for instruction in contrasts:
        if instruction.get("test") != "t" or not every >= {*instruction["condition_list"]}:
            yield f"contrast {instruction['name']} is not a t-test of trial types"
