"""Contrasts of all runs, from options and events."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from bids_sr.bids import Findings
from bids_sr.bids.entities import parse_entities, stem_of_echoes
from bids_sr.glm.contrasts import Contrast, resolve_contrasts
from bids_sr.notices import UsageError
from bids_sr.preflight.estimability import TypesOfRun, select_estimable
from bids_sr.preflight.shared_types import share_averaged_types

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
    (`bids_sr.preflight.shared_types`). Default contrasts that cannot be estimated are left out,
    with a note. A requested contrast must be possible in at least one run. For runs without one of
    its trial types it is omitted, with a note.

    `types`, events `tables` and `labels` of trial types are by BOLD file; without labels, they are
    chosen among the types of the run. `requested` are contrasts as written by the user, or name
    and weights from ``--model``; if empty, default contrasts are used.
    """
    possible_requests = _select_possible(types, requested, findings)
    types = share_averaged_types(types, tables, findings)
    contrasts: dict[Path, dict[str, Contrast]] = {}
    for bold, run in types.items():
        contrasts[bold] = {}
        if possible_requests[bold] or not requested:
            contrasts[bold] = resolve_contrasts(
                run.modeled,
                possible_requests[bold],
                described_types=run.described,
                averaged_types=run.averaged,
                labels=labels.get(bold),
            )
        if not requested:
            entities = parse_entities(bold)
            with findings.about(entities["subject"], stem_of_echoes(bold), code="events"):
                contrasts[bold] = select_estimable(run, contrasts[bold], tables[bold], findings)
    return contrasts


def _select_possible(
    types: Mapping[Path, TypesOfRun], requested: Sequence[_Request], findings: Findings
) -> dict[Path, list[_Request]]:
    """Return the requested contrasts of each run whose trial types it has, and report the others.

    If every contrast is possible in some run, the first run without any contrast is a problem.
    """
    possible_requests: dict[Path, list[_Request]] = {bold: [] for bold in types}
    are_all_possible = True
    for request in requested:
        bolds = [bold for bold, run in types.items() if _is_possible(request, run.modeled)]
        for bold in bolds:
            possible_requests[bold].append(request)
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


def _is_possible(request: _Request, modeled: Sequence[str]) -> bool:
    """Return whether a contrast can be computed from the modeled trial types."""
    try:
        resolve_contrasts(modeled, [request])
    except UsageError:
        return False
    return True


def _refuse_impossible(request: _Request, types: Iterable[TypesOfRun], findings: Findings) -> None:
    """Report a contrast that is not possible in any run."""
    runs = list(types)
    all_types = tuple(dict.fromkeys(name for run in runs for name in run.modeled))
    unmodeled = {name: cause for run in runs for name, cause in run.unmodeled.items()}
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
