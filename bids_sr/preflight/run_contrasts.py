"""Contrasts of all runs, from options and events."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from bids_sr.bids import Findings
from bids_sr.bids.entities import parse_entities, stem_of_echoes
from bids_sr.glm.contrasts import Contrast, resolve_contrasts
from bids_sr.notices import UsageError


def contrasts_of_runs(
    types: Mapping[Path, Sequence[str]],
    requested: Sequence[str | tuple[str, Contrast]],
    findings: Findings,
) -> dict[Path, dict[str, Contrast]]:
    """Return the contrasts of each run.

    A requested contrast must be possible in at least one run. For runs without one of its trial
    types it is omitted, with a note.

    `requested` contains contrasts as written by the user, or name and weights from ``--model``; if
    empty, default contrasts are used.
    """
    texts_by_run: dict[Path, list[str | tuple[str, Contrast]]] = {path: [] for path in types}
    all_types = tuple(dict.fromkeys(name for names in types.values() for name in names))
    is_reported = not requested
    for text in requested:
        n_runs = 0
        option = f"--contrasts {text}" if isinstance(text, str) else f"--model, contrast {text[0]}"
        for path, names in types.items():
            with contextlib.suppress(UsageError):
                resolve_contrasts(names, [text])
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
                findings.refuse_option(option, error.notice.why, error.notice.remedy)
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
    return {
        path: resolve_contrasts(types[path], texts) if texts or not requested else {}
        for path, texts in texts_by_run.items()
    }
