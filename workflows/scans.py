"""Structural scans of participants, super-resolved jointly, measured and shown.

The scans are fused as channels.
"""

from collections.abc import Mapping, Sequence

from bids_sr.bids import Subject, entities_of, pretrained_for
from bids_sr.bids.fmriprep import SPACES
from bids_sr.config import Settings
from bids_sr.pipeline.graph import Scope, Wires, scope_of
from bids_sr.steps import structural
from bids_sr.steps.anatomy import load_template
from bids_sr.steps.figures import draw_anatomy, draw_scans
from bids_sr.workflows.planned import Planned

_MODEL = ("made_scans", "model_file", "card_file", "log_file")


def add_structural(root: Scope, planned: Planned, subjects: Sequence[Subject]) -> None:
    """Place the steps of participants with structural scans.

    All heads are prepared in scopes of their own, because networks may be trained on the heads of
    others.
    """
    prepared = {subject.label: _add_prepared(root, planned, subject) for subject in subjects}
    for subject in subjects:
        own = subject.label
        heads = {own: prepared[own]}
        if planned.settings.superres.train_on == "others":
            alike = {each.label for each in subjects if _suffixes(each) == _suffixes(subject)} - {
                own
            }
            heads = {label: scope for label, scope in prepared.items() if label in alike}
        _add_participant(root, planned, subject, prepared[own], heads)


def _suffixes(subject: Subject) -> tuple[str, ...]:
    return tuple(pair.contrast for pair in subject.structural)


def _scope(outer: Scope, name: str, planned: Planned, subject: Subject) -> Scope:
    """A scope whose artifacts are stored among the structural scans of a participant."""
    sessions = {entities_of(pair.highres).get("session", "") for pair in subject.structural}
    session = {"session": max(sessions)} if len(sessions) == 1 and max(sessions) else {}
    return outer.within(
        name,
        entities={"subject": subject.label, **session, "datatype": "anat"},
        provenance={},
        suffixes=_suffixes(subject),
        template_space=next(iter(planned.settings.preprocessing.templates), SPACES[0]),
    )


def _add_prepared(root: Scope, planned: Planned, subject: Subject) -> Scope:
    """The scans of one head in one frame."""
    scope = _scope(root, scope_of(f"sub-{subject.label}_scans"), planned, subject)
    scope.give(
        highres_files=[pair.highres for pair in subject.structural],
        lowres_files=[pair.lowres for pair in subject.structural],
    )
    scope.add(load_template, structural.prepare_scans)
    return scope


def _add_participant(
    root: Scope, planned: Planned, subject: Subject, prepared: Scope, heads: Mapping[str, Scope]
) -> None:
    """Add each method's network, what it makes of the prepared scans, and their metrics.

    Each network is trained on the heads that it learns from.
    """
    superres = planned.settings.superres
    scope = root.within(
        scope_of(f"sub-{subject.label}"),
        beside=(prepared,),
        entities={"subject": subject.label},
        provenance={},
        subject_facts=_facts(planned.settings, subject),
    )
    measured = _scope(scope, "measured", planned, subject)
    learned: Wires = {
        "heads_fine": [head["fine_scans"] for head in heads.values()],
        "heads_coarse": [head["coarse_scans"] for head in heads.values()],
        "heads_masks": {f"sub-{label}": head["scan_mask"] for label, head in heads.items()},
    }
    for method in superres.chosen:
        own = measured.within(
            method,
            method=method,
            pretrained=pretrained_for(superres, method),
            model_dir=superres.models_to_reuse(planned.settings.paths.output_dir),
        )
        own.add(structural.train_on_scans, wires=learned)
        own.add(structural.super_resolve_scans)
        scope.add(
            draw_scans.explain_scans,
            name=f"explain_{method}",
            wires={name: own[name] for name in _MODEL},
            rename={"explain_scans": f"explain_{method}"},
            method_label=method if len(superres.chosen) > 1 else "",
        )
    measured.add(structural.measure_scans)
    scope.add(draw_scans.draw_scans, wires={"scan_metrics": measured["scan_metrics"]})
    scope.add(draw_anatomy.summarize_subject)


def _facts(settings: Settings, subject: Subject) -> dict[str, object]:
    """What was found and what will be done, for the first section of the report."""
    others = settings.superres.train_on == "others"
    return {
        "Participant": subject.label,
        "Target": "structural scans",
        "Contrasts, fused": list(_suffixes(subject)),
        "Scans": [path.name for pair in subject.structural for path in pair.images],
        "Scans brought together": settings.superres.anat_align,
        "Methods": list(settings.superres.chosen),
        "Trained on": "all other participants of this call" if others else "these scans",
        "Training recipe": settings.superres.recipe,
        "Random seed": settings.resources.random_seed,
    }
