"""Contrasts of all runs, from options and events."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from bids_sr.bids import Findings
from bids_sr.bids.entities import parse_entities, stem_of_echoes
from bids_sr.glm.contrasts import Contrast, resolve_contrasts
from bids_sr.notices import UsageError
from bids_sr.preflight.estimability import TypesOfRun, select_estimable


def resolve_run_contrasts(
    types: Mapping[Path, TypesOfRun],
    requested: Sequence[str | tuple[str, Contrast]],
    tables: Mapping[Path, Path],
    findings: Findings,
) -> dict[Path, dict[str, Contrast]]:
    """Return the contrasts of each run.

    Default contrasts that cannot be estimated are left out, with a note. A requested contrast
    must be possible in at least one run. For runs without one of its trial types it is omitted,
    with a note.

    Parameters
    ----------
    types : Mapping[Path, TypesOfRun]
        Trial types by BOLD file.
    requested : Sequence[str | tuple[str, Contrast]]
        Contrasts as written by the user, or name and weights from ``--model``; if empty, default
        contrasts are used.
    tables : Mapping[Path, Path]
        Events table by BOLD file.
    findings : Findings
        Collects problems and notes.
    """
    texts_by_run: dict[Path, list[str | tuple[str, Contrast]]] = {path: [] for path in types}
    all_types = tuple(dict.fromkeys(name for run in types.values() for name in run.modeled))
    unmodeled = {name: cause for run in types.values() for name, cause in run.unmodeled.items()}
    is_reported = not requested
    for text in requested:
        n_runs = 0
        option = f"--contrasts {text}" if isinstance(text, str) else f"--model, contrast {text[0]}"
        for path, run in types.items():
            with contextlib.suppress(UsageError):
                resolve_contrasts(run.modeled, [text])
                texts_by_run[path].append(text)
                n_runs += 1
        if 0 < n_runs < len(types):
            findings.note(
                option,
                f"the contrast is computed for {n_runs} of {len(types)} runs; the other runs lack"
                " at least one of its trial types.",
            )
        elif not n_runs:
            is_reported = True
            try:
                resolved = resolve_contrasts(all_types, [text])
            except UsageError as error:
                reason = _explain_unmodeled(text, all_types, unmodeled) or error.notice.why
                findings.refuse_option(option, reason, error.notice.remedy)
                continue
            names = ", ".join(name for weights in resolved.values() for name in weights)
            reason = f"no run contains all trial types of the contrast ({names})"
            findings.refuse_option(
                option,
                reason,
                "Use trial types that occur in the same run; contrasts are computed within runs.",
            )
    for path, texts in texts_by_run.items():
        if not texts and not is_reported:
            reason = (
                "none of the requested contrasts can be computed for this run, so the run would"
                " not have any activation maps"
            )
            with findings.about(parse_entities(path).get("subject", ""), stem_of_echoes(path)):
                findings.add_problem(
                    path, reason, "Exclude the run (--task-id, --run-id), or add a contrast."
                )
            is_reported = True  # the first run is sufficient as an example
    contrasts: dict[Path, dict[str, Contrast]] = {}
    for path, texts in texts_by_run.items():
        run = types[path]
        contrasts[path] = {}
        if texts or not requested:
            contrasts[path] = resolve_contrasts(
                run.modeled, texts, described_types=run.described, averaged=run.averaged
            )
        if not requested:
            entities = parse_entities(path)
            with findings.about(entities["subject"], stem_of_echoes(path), code="events"):
                contrasts[path] = select_estimable(run, contrasts[path], tables[path], findings)
    return contrasts


def _explain_unmodeled(
    text: str | tuple[str, Contrast], modeled: Sequence[str], unmodeled: Mapping[str, str]
) -> str:
    """Return why a trial type of a contrast is not modeled in any run, or "" if it is modeled."""
    with contextlib.suppress(UsageError):
        resolved = resolve_contrasts((*modeled, *unmodeled), [text])
        names = {name for weights in resolved.values() for name in weights} - {*modeled}
        return " ".join(
            f"the trial type {name!r} is not modeled in any run because {unmodeled[name]}"
            for name in sorted(names)[:1]
        )
    return ""
