"""Contrasts of all runs, from options and events."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from bids_sr.glm.contrasts import (
    Contrast,
    is_possible,
    label_types,
    make_unique_label,
    resolve_contrasts,
)
from bids_sr.io.notices import UsageError
from bids_sr.io.tables import MISSING_MARKS
from bids_sr.survey.bids import Findings
from bids_sr.survey.bids.entities import parse_entities, stem_of_echoes
from bids_sr.survey.preflight.estimability import TypesOfRun, note_imprecise, select_estimable
from bids_sr.survey.preflight.events import MISSING_TYPE
from bids_sr.survey.preflight.shared_types import share_averaged_types

# contrast as written by the user, or name and weights from ``--model``
_Request = str | tuple[str, Contrast]


def resolve_run_contrasts(
    types: Mapping[Path, TypesOfRun],
    requested: Sequence[_Request],
    tables: Mapping[Path, Path],
    findings: Findings,
    labels: Mapping[Path, Mapping[str, str]] = MappingProxyType({}),
) -> dict[Path, dict[str, Contrast]]:
    """Return the contrasts of each run.

    Means over trial types are over the types that the runs of a task share
    (`bids_sr.survey.preflight.shared_types`). Default contrasts that cannot be estimated are left
    out, with a note. A requested contrast must be possible in at least one run. For runs without
    one of its trial types it is omitted, with a note.

    Names of requested contrasts are distinct without case among all requests, whatever types a run
    has, so that a name has the same meaning in all runs of a task.

    `types`, events `tables` and `labels` of trial types are by BOLD file; without labels, they are
    chosen among the types of the run. `requested` are contrasts as written by the user, or name
    and weights from ``--model``; if empty, default contrasts are used.
    """
    possible_requests = _select_possible(types, requested, findings)
    types = share_averaged_types(types, tables, findings)
    contrasts: dict[Path, dict[str, Contrast]] = {}
    for bold, run in types.items():
        run_labels = labels.get(bold) or label_types(run.modeled)
        if requested:
            contrasts[bold] = _resolve_requests(
                {position: requested[position] for position in possible_requests[bold]},
                run,
                run_labels,
                _change_names(requested, run_labels, findings),
            )
        else:
            contrasts[bold] = resolve_contrasts(
                run.modeled,
                described_types=run.described,
                averaged_types=run.averaged,
                labels=run_labels,
            )
        if run.information is None:  # the model was not built
            continue
        entities = parse_entities(bold)
        with findings.about(entities["subject"], stem_of_echoes(bold), code="events"):
            if not requested:
                contrasts[bold] = select_estimable(run, contrasts[bold], tables[bold], findings)
            note_imprecise(run, contrasts[bold], tables[bold], findings)
    return contrasts


def _change_names(
    requested: Sequence[_Request], labels: Mapping[str, str], findings: Findings
) -> dict[tuple[int, str], str]:
    """Return changed names by position and name of the requested contrasts, and report them.

    A name is changed if an earlier contrast of other weights has it, apart from case. `labels` are
    labels by trial type; contrasts of types without a label are not compared.
    """
    names: dict[str, Contrast] = {}
    changed_names: dict[tuple[int, str], str] = {}
    for position, request in enumerate(requested):
        try:
            resolved = resolve_contrasts([*labels], [request], labels=labels)
        except UsageError:
            continue
        ((name, weights),) = resolved.items()
        if weights in names.values():
            continue
        unique_name = make_unique_label(name, names)
        names[unique_name] = weights
        if unique_name != name:
            changed_names[position, name] = unique_name
            findings.note(
                _option_text(request),
                f"the contrast is named {unique_name}, because another contrast has the name"
                f" {name}, perhaps with letters of other case, which some file systems ignore.",
            )
    return changed_names


def _resolve_requests(
    requests: Mapping[int, _Request],
    run: TypesOfRun,
    labels: Mapping[str, str],
    changed_names: Mapping[tuple[int, str], str],
) -> dict[str, Contrast]:
    """Return the weights of requested contrasts of a run by name, without repeated weights.

    `requests` are by position, `labels` by trial type, and `changed_names` as in `_change_names`.
    """
    contrasts: dict[str, Contrast] = {}
    for position, request in requests.items():
        resolved = resolve_contrasts(
            run.modeled, [request], averaged_types=run.averaged, labels=labels
        )
        ((name, weights),) = resolved.items()
        if weights not in contrasts.values():
            contrasts[changed_names.get((position, name), name)] = weights
    return contrasts


def _select_possible(
    types: Mapping[Path, TypesOfRun], requested: Sequence[_Request], findings: Findings
) -> dict[Path, list[int]]:
    """Return the positions of the requested contrasts that are possible in each run.

    Contrasts with trial types that a run does not have are reported.

    If every contrast is possible in some run, the first run without any contrast is a problem.
    """
    possible_requests: dict[Path, list[int]] = {bold: [] for bold in types}
    are_all_possible = True
    for position, request in enumerate(requested):
        bolds = [bold for bold, run in types.items() if is_possible(request, run.modeled)]
        for bold in bolds:
            possible_requests[bold].append(position)
        if not bolds:
            are_all_possible = False
            _refuse_impossible(request, types.values(), findings)
        elif len(bolds) < len(types):
            findings.note(
                _option_text(request),
                f"the contrast is computed for {len(bolds)} of {len(types)} runs; the other runs"
                " lack at least one of its trial types.",
            )
    unmapped = [bold for bold, requests in possible_requests.items() if not requests]
    if requested and are_all_possible and unmapped:
        bold = unmapped[0]
        reason = (
            "none of the requested contrasts can be computed for this run, so the run would"
            " not have any activation maps"
        )
        fix = "Exclude the run (--task-id, --run-id), or add a contrast."
        with findings.about(parse_entities(bold).get("subject", ""), stem_of_echoes(bold)):
            findings.add_problem(bold, reason, fix)
    return possible_requests


def _refuse_impossible(request: _Request, types: Iterable[TypesOfRun], findings: Findings) -> None:
    """Report a contrast that is not possible in any run."""
    runs = list(types)
    all_types = tuple(dict.fromkeys(name for run in runs for name in run.modeled))
    unmodeled = dict.fromkeys(sorted(MISSING_MARKS), MISSING_TYPE)
    unmodeled |= {name: cause for run in runs for name, cause in run.unmodeled.items()}
    try:
        resolved = resolve_contrasts(all_types, [request])
    except UsageError as error:
        reason = _explain_unmodeled(request, all_types, unmodeled) or error.notice.why
        findings.refuse_option(_option_text(request), reason, error.notice.remedy)
        return
    names = ", ".join(name for weights in resolved.values() for name in weights)
    findings.refuse_option(
        _option_text(request),
        f"no run contains all trial types of the contrast ({names})",
        "Use trial types that occur in the same run; contrasts are computed within runs.",
    )


def _explain_unmodeled(
    request: _Request, modeled: Sequence[str], unmodeled: Mapping[str, str]
) -> str:
    """Return why a trial type of a contrast is not modeled in any run, or "" if it is modeled."""
    with contextlib.suppress(UsageError):
        resolved = resolve_contrasts((*modeled, *unmodeled), [request])
        names = {name for weights in resolved.values() for name in weights} - {*modeled}
        return " ".join(
            f"the trial type {name!r} is not modeled in any run because {unmodeled[name]}"
            for name in sorted(names)[:1]
        )
    return ""


def _option_text(request: _Request) -> str:
    """Return the option that requests a contrast, for messages."""
    return (
        f"--contrasts {request}" if isinstance(request, str) else f"--model, contrast {request[0]}"
    )
