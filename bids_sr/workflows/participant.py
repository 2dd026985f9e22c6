"""Graph of all participants, and processing of one participant with BOLD runs."""

from collections.abc import Mapping, Sequence

from bids_sr.config import Settings
from bids_sr.config.sections.paths import WORKFLOW
from bids_sr.engine.flow import Flow, add_methods_text, subworkflow
from bids_sr.engine.graph import Graph
from bids_sr.engine.nodes import Scope, scope_name
from bids_sr.engine.step import Part
from bids_sr.engine.storage_level import reaches
from bids_sr.engine.store import store
from bids_sr.report import call_description
from bids_sr.report.call_description import AcquiredRun
from bids_sr.report.evaluation_rows import label_series
from bids_sr.report.figure_steps import anatomy as anatomy_figures
from bids_sr.survey.bids.inputs import BoldRun, Subject
from bids_sr.survey.bids.pretrained_models import label_methods
from bids_sr.survey.preflight.plan import Plan
from bids_sr.survey.preflight.region_spaces import choose_template
from bids_sr.survey.preflight.regions import choose_regions
from bids_sr.workflows.anatomy import Anatomy, fit_anatomy
from bids_sr.workflows.combination import combine_participant, report_participant
from bids_sr.workflows.pair import fit_pair
from bids_sr.workflows.report_run import make_subject_facts
from bids_sr.workflows.run import process_run
from bids_sr.workflows.run_plan import plan_run
from bids_sr.workflows.series_requests import Analysis, select_entities
from bids_sr.workflows.structural import process_scans

_SCANS_TEXT = (
    "The acquired scans, their interpolated versions and the super-resolved scans were analyzed in"
    " the same way, so that the effect of super-resolution can be separated from the effects of"
    " interpolation and smoothing."
)


def make_graph(
    settings: Settings, plan: Plan, version: str, packages: Mapping[str, str] | None = None
) -> Graph:
    """Return the graph of all participants, without computation and without importing nipype.

    For the parameters, see `make_scope`.
    """
    return Graph(make_scope(settings, plan, version, packages))


def make_scope(
    settings: Settings, plan: Plan, version: str, packages: Mapping[str, str] | None = None
) -> Scope:
    """Return the outermost scope with the nodes of all participants, not yet checked.

    `version`: version of this program. `packages`: versions of packages by name, for the methods
    text; None to omit them.
    """
    analysis = Analysis(settings=settings, plan=plan, version=version)
    root = Scope(WORKFLOW, store=store, uri=analysis.uri)
    scans = [subject for subject in plan.subjects if subject.has_scans]
    runs = [run for subject in plan.subjects if subject not in scans for run in subject.runs]
    with Flow(root), label_series(label_methods(settings.superres)):
        if scans:
            add_methods_text(Part.ACQUISITION, _SCANS_TEXT)
        add_methods_text(
            Part.ACQUISITION,
            call_description.describe_acquisition([_read_acquisition(run) for run in runs]),
        )
        add_methods_text(
            Part.SOFTWARE, call_description.describe_software(version, packages or {})
        )
        process_scans(analysis, scans)
        for subject in plan.subjects:
            if subject not in scans:
                process_participant(analysis, subject)
    return root


def _read_acquisition(run: BoldRun) -> AcquiredRun:
    """Return the header of a run for the methods text."""
    return AcquiredRun(
        task=run.entities.get("task", ""),
        n_volumes=run.n_volumes,
        tr=run.tr,
        shape=run.shape,
        zooms=run.zooms,
        factor=run.factor,
        description=str(run.sidecar.get("Description", "")),
    )


def process_participant(analysis: Analysis, subject: Subject) -> None:
    """Process a participant with BOLD runs."""
    template = choose_template(analysis.settings, subject)
    rois = choose_regions(analysis.settings, subject)
    plans = [plan_run(analysis, subject, run) for run in subject.runs]
    with subworkflow(scope_name(f"sub-{subject.label}"), participant=subject.label):
        anat = _fit_anatomy(analysis, subject, template, rois) if subject.t1w else None
        pair_requests = {
            request.name: request
            for plan in plans
            for request in plan.stored_series
            if request.learned_from == "pair"
        }
        pairs = {
            pair: fit_pair(analysis, subject, pair, number, pair_requests)
            for number, pair in enumerate(subject.pairs, 1)
        }
        processed_runs = []
        for plan in plans:
            pair, networks = (None, {}) if plan.bold.pair is None else pairs[plan.bold.pair]
            outputs = analysis.outputs(
                plan.entities,
                datasets=analysis.datasets([plan.bold]),
                provenance=plan.provenance,
                axis_order=plan.bold.axis_order,
            )
            processed_runs.append(process_run(plan, anat, pair, networks, outputs))
        all_combined = combine_participant(analysis, processed_runs, anat)
        report_participant(analysis, all_combined)
        facts = make_subject_facts(
            analysis.settings,
            subject,
            ["acquired", *(name for plan in plans for name in plan.stored_names)],
            smoothing=analysis.smoothing,
            template=template,
            rois=rois,
        )
        outputs = analysis.outputs({"subject": subject.label})
        outputs.store_figures(anatomy_figures.summarize_subject(subject_facts=facts))


def _fit_anatomy(
    analysis: Analysis, subject: Subject, template: str, rois: Sequence[str]
) -> Anatomy:
    """Process the anatomy of a participant in a subworkflow."""
    entities = {
        "subject": subject.label,
        **select_entities(subject.t1w[0], "session"),
        "datatype": "anat",
    }
    outputs = analysis.outputs(entities, datasets=analysis.datasets(subject.runs))
    with subworkflow("anat_wf"):
        return fit_anatomy(analysis, subject, outputs, template_space=template, rois=rois)


def list_primary_series(settings: Settings, plan: Plan, version: str) -> list[str]:
    """Return the unique names of the exported (primary) series of all runs, sorted."""
    analysis = Analysis(settings=settings, plan=plan, version=version)
    runs = [run for subject in plan.subjects if not subject.has_scans for run in subject.runs]
    return sorted(set(analysis.datasets(runs)))


def stores_atlas(settings: Settings, plan: Plan) -> bool:
    """Return whether the results contain atlas labels."""
    with_anat = any(subject.t1w and not subject.has_scans for subject in plan.subjects)
    return with_anat and reaches(settings.run.level, "standard")
