"""What the graph of structural scans has to know, as plain values; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bids_sr.bids import Subject, entities_of, pretrained_for
from bids_sr.config import Settings


def structural_values(settings: Settings, subject: Subject, notices: Sequence[str], template: str) -> dict[str, Any]:
    """Fields of `bids_sr.workflows.plans.StructuralPlan` for one participant."""
    pairs, superres = subject.structural, settings.superres
    files = [path for pair in pairs for path in (pair.highres, pair.lowres)]
    sessions = {entities_of(pair.highres).get("session", "") for pair in pairs}
    common = {"subject": subject.label, **({"session": s} if len(sessions) == 1 and (s := max(sessions)) else {})}
    return {
        "label": subject.label,
        "output_dir": str(settings.paths.output_dir),
        "contrasts": tuple(pair.contrast for pair in pairs),
        "highres": tuple(str(pair.highres) for pair in pairs),
        "lowres": tuple(str(pair.lowres) for pair in pairs),
        "common": common,
        "sources": tuple(f"bids:raw:{path.relative_to(settings.paths.bids_dir).as_posix()}" for path in files),
        "methods": superres.chosen,
        "others": ("linear", "nearest") if superres.baselines == "all" else ("linear",),
        "align": superres.anat_align,
        "from_others": superres.train_on == "others",
        "training": {method: _training(settings, method) for method in superres.chosen},
        "template": next(iter(settings.preprocessing.output_spaces), template),
        "omp_nthreads": settings.resources.omp_nthreads or 1,
        "seed": settings.resources.random_seed,
        "sloppy": settings.run.sloppy,
        "facts": _facts(settings, subject, files, notices),
    }


def _training(settings: Settings, method: str) -> dict[str, Any]:
    """Inputs of the step that trains or finds a model; what is not given is left out."""
    superres = settings.superres
    optional = {
        "model_dir": superres.models_to_reuse(settings.paths.output_dir),
        "pretrained": pretrained_for(superres, method),
        "vgg_weights": superres.vgg_weights,
    }
    given: dict[str, Any] = {name: str(path) for name, path in optional.items() if path is not None}
    if superres.max_train_minutes is not None:
        given["max_train_minutes"] = superres.max_train_minutes
    return given | {
        "recipe": superres.recipe, "model_source": superres.model_source, "seed": settings.resources.random_seed,
        "align": superres.anat_align, "device": settings.resources.device, "force": superres.force,
        "sloppy": settings.run.sloppy,
    }  # fmt: skip


def _facts(settings: Settings, subject: Subject, files: Sequence[Path], notices: Sequence[str]) -> dict[str, Any]:
    """What was found and what will be done, for the first section of the report."""
    return {
        "Participant": subject.label,
        "Target": "structural scans",
        "Contrasts, fused": [pair.contrast for pair in subject.structural],
        "Scans": [path.name for path in files],
        "Scans brought together": settings.superres.anat_align,
        "Methods": list(settings.superres.chosen),
        "Trained on": "all other participants of this call"
        if settings.superres.train_on == "others"
        else "these scans",
        "Training recipe": settings.superres.recipe,
        "Random seed": settings.resources.random_seed,
        "notices": list(notices),
    }
