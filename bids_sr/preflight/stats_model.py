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
from bids_sr.bids.inputs import entities_of, same_run
from bids_sr.glm.contrasts import Contrast, camel
from bids_sr.io.atomic_files import read_text

_TYPE = "trial_type."  # what `Factor` puts before the name of a trial type
# columns that X may have; wildcards mean those of the run
_COLUMN = re.compile(
    r"1|intercept|trial_type\..+|csf_wm|rmsd|(std_)?dvars|framewise_displacement|\w+[*?\[].*"
    r"|((trans|rot)_[xyz]|global_signal|csf|white_matter)(_derivative1)?(_power2)?"
    r"|([acwt]_comp_cor_|cosine|motion_outlier|non_steady_state_outlier)\d\d"
)
_NO_CONFOUND = ("1", "intercept", _TYPE, "cosine")  # mean and drift are part of every model


def read_model(
    path: Path, types: Mapping[Path, Iterable[str]], found: Findings
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
        single, columns = nodes[0].dummy_contrasts, map(str, nodes[0].model["x"])
        contrasts = [
            {"name": name, "condition_list": [name], "weights": [1]} | single
            for name in (single.get("contrasts", every) if single else ())
        ] + nodes[0].contrasts
        refused = [*_asks_more(nodes, document.get("input", {}), types, every, contrasts)]
        if not refused:
            confounds = [name for name in columns if not name.startswith(_NO_CONFOUND)]
            return list(map(_weighted, contrasts)), confounds
    except OSError as error:
        refused = [f"it cannot be read ({error.strerror})"]
    except (
        ValueError,
        ArithmeticError,
        LookupError,
        TypeError,
        AttributeError,
        RuntimeError,
    ) as error:
        refused = [f"it is no BIDS Stats Model ({error!r})"]
    for why in refused:
        fix = "Change the model (docs/recipes/stats_model.md), or fit the results by fitlins."
        found.refuse_option(f"--model {path}", why, fix)
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
    node, runs = nodes[0], {bold.name: entities_of(bold) for bold in types}
    if not runs:
        yield "no run has events that it could model; select runs of a task, or leave it out"
        return
    if [each.level for each in nodes] != ["run"]:
        yield f"its levels are {', '.join(each.level for each in nodes)}; here it is run alone"
    for key, labels in chosen.items():
        named = [{key: str(label)} for label in labels]
        out = [
            name for name, own in runs.items() if not any(same_run(own, n, [key]) for n in named)
        ]
        if out:
            yield f"its Input leaves out {out[0]} by {key}; select the same runs, as by --task-id"
    if len({tuple(map(own.get, node.group_by)) for own in runs.values()}) < len(runs):
        yield "its GroupBy joins runs; here each is fitted on its own"
    if {"type": "glm", **node.model, "x": []} != {"type": "glm", "x": []}:
        yield f"its Model has {', '.join(node.model)}; here it is X, and the Type glm"
    convolved: list[str] = []
    for each in node.transformations["instructions"]:
        inputs = [name for name in each["input"] if name.startswith(_TYPE)]
        if {"model": "spm", **each} == {"name": "Convolve", "input": inputs, "model": "spm"}:
            convolved += inputs
        elif each != {"name": "Factor", "input": ["trial_type"]}:
            yield f"its transformation {each['name']} is not known here, or not with these inputs"
    columns = list(map(str, node.model["x"]))
    for where, names in (("X", columns), ("Convolve", convolved)):
        if absent := every - {one for name in names for one in matching(every, name)}:
            yield f"{where} lacks {', '.join(sorted(absent))}; here it has every trial type"
    if strange := [name for name in columns if not _COLUMN.fullmatch(name)]:
        yield f"X has {', '.join(strange)}, neither trial types nor confounds"
    for each in contrasts:
        if each.get("test") != "t" or not every >= {*each["condition_list"]}:
            yield f"contrast {each['name']} is no t test of trial types"
