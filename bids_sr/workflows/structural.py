"""Super-resolution, measurement and display of structural scans."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from bids_sr.config import Settings
from bids_sr.engine.artifacts import Facts, Image, Map, Mask, Rows
from bids_sr.engine.flow import add_methods_text, concatenate, subworkflow
from bids_sr.engine.nodes import scope_name
from bids_sr.engine.outputs import Outputs
from bids_sr.engine.step import Part
from bids_sr.io.frozen import frozen
from bids_sr.io.template_files import DEFAULT_SPACE
from bids_sr.preproc.steps import anatomy
from bids_sr.report.figure_steps import anatomy as anatomy_figures
from bids_sr.sr.steps.training import ModelFiles
from bids_sr.structural.edited_masks import (
    corrected_brain_mask,
    entities_of_scans,
    lesion_reference,
)
from bids_sr.structural.kept_split import NETWORKS_SCOPE
from bids_sr.structural.steps import (
    figures as structural_figures,
    measures,
    network_training,
    preparation,
    preparation_text,
)
from bids_sr.structural.steps.scans import PreparedScans, ScanPreparation
from bids_sr.structural.survey import find_simulated_factor, parse_session
from bids_sr.survey.bids.inputs import LowresScan, ModelInput, Pair, Subject
from bids_sr.survey.bids.pretrained_models import input_of_models
from bids_sr.workflows.pair import store_model
from bids_sr.workflows.series_requests import Analysis


@frozen
class PreparedHead:
    """Prepared scans of one participant or session, with the BIDS suffix of each contrast.

    `label`: label of the participant.
    """

    label: str
    suffixes: tuple[str, ...]
    scans: PreparedScans


@frozen
class SuperResolvedScans:
    """Super-resolved scans of a method, and model card of its network."""

    superresolved_scans: list[Map]
    card_file: Facts


def process_scans(analysis: Analysis, subjects: Sequence[Subject]) -> None:
    """Process participants with structural scans.

    Participants of the training and validation sets are prepared as well, selected or not.
    """
    plan = analysis.plan
    paired_subjects = {subject.label: subject for subject in subjects if subject.structural}
    training_subjects = plan.training_subjects if paired_subjects else ()
    all_paired = {subject.label: subject for subject in training_subjects} | paired_subjects
    prepared_heads = {
        label: _prepare_scans(analysis, subject, is_stored=label in paired_subjects)
        for label, subject in all_paired.items()
    }
    for subject in subjects:
        if subject.controls:
            _process_controls(analysis, subject)
        if subject.lowres:
            _process_lowres(analysis, subject)
    networks: dict[str, ModelFiles] = {}
    if training_subjects:
        networks = _train_shared_networks(
            analysis, [prepared_heads[subject.label] for subject in training_subjects]
        )
    for label, subject in paired_subjects.items():
        _process_pairs(analysis, subject, prepared_heads[label], networks)


def _prepare_scans(analysis: Analysis, subject: Subject, *, is_stored: bool) -> PreparedHead:
    """Bring the scans of one participant into a common frame, and store them if requested."""
    settings, suffixes = analysis.settings, _list_suffixes(subject.structural)
    superres, space = settings.superres, _choose_template_space(analysis.settings)
    outputs = _make_outputs(analysis, subject, subject.structural, with_provenance=False)
    scan_settings = _make_preparation(settings)
    brain_mask = corrected_brain_mask(settings, subject)
    crop_factor = find_simulated_factor(settings)
    with subworkflow(
        scope_name(f"sub-{subject.label}_scans"),
        participant=subject.label,
        stored=is_stored,
        described=is_stored,
    ):
        template, template_mask, _ = anatomy.load_template(template_space=space)
        scans = preparation.prepare_scans(
            template,
            template_mask,
            [pair.highres for pair in subject.structural],
            [pair.lowres for pair in subject.structural if pair.lowres is not None],
            brain_mask,
            suffixes=suffixes,
            preparation=scan_settings,
            all_interpolations=superres.all_baselines,
            crop_factor=crop_factor,
        )
        text = preparation_text.describe_preparation(
            suffixes,
            scan_settings,
            is_corrected=brain_mask is not None,
            is_simulated=crop_factor is not None,
        )
        add_methods_text(Part.ANATOMY, text)
        assert scans.fine_scans is not None
        for images in (scans.fine_scans, scans.coarse_scans, scans.other_scans):
            outputs.store(images)
        _store_mask(scan_settings, scans.scan_mask, suffixes, outputs, is_model_grid=False)
    return PreparedHead(label=subject.label, suffixes=suffixes, scans=scans)


def _process_controls(analysis: Analysis, subject: Subject) -> None:
    """Measure each session of a participant without low-resolution scans."""
    settings = analysis.settings
    figures = analysis.outputs({"subject": subject.label})
    facts = {
        "Participant": subject.label,
        "Target": "structural scans (high resolution only)",
        "Scans": [scan.highres.name for scans in subject.controls for scan in scans],
        "Alignment of the scans": settings.anat.align,
        "Intensities": settings.scaling_of_scans,
        "Random seed": settings.resources.random_seed,
    }
    with subworkflow(scope_name(f"sub-{subject.label}"), participant=subject.label):
        for scans in subject.controls:
            session = parse_session(scans[0].highres)
            with subworkflow(f"control_{session}" if session else "control"):
                _process_control_session(analysis, subject, scans, session)
        figures.store_figures(anatomy_figures.summarize_subject(subject_facts=facts))


def _process_control_session(
    analysis: Analysis, subject: Subject, scans: Sequence[Pair], session: str
) -> None:
    """Measure the high-resolution scans of one session."""
    settings, suffixes = analysis.settings, _list_suffixes(scans)
    scan_settings = _make_preparation(settings)
    outputs = _make_outputs(analysis, subject, scans, with_provenance=True)
    template, template_mask, _ = anatomy.load_template(
        template_space=_choose_template_space(settings)
    )
    prepared_scans = preparation.prepare_scans(
        template,
        template_mask,
        [scan.highres for scan in scans],
        given_brain_mask=corrected_brain_mask(settings, subject, scans),
        suffixes=suffixes,
        preparation=scan_settings,
    )
    add_methods_text(Part.ANATOMY, preparation_text.CONTROL_PREPARATION_TEXT)
    assert prepared_scans.fine_scans is not None
    outputs.store(prepared_scans.fine_scans)
    _store_mask(scan_settings, prepared_scans.scan_mask, suffixes, outputs, is_model_grid=False)
    metrics, columns, dseg = measures.measure_control(
        prepared_scans,
        settings.anat.lesion_template,
        suffixes=suffixes,
        anat_tools=settings.anat.tools,
        random_seed=settings.resources.random_seed,
    )
    add_methods_text(Part.EVALUATION, measures.CONTROL_MEASURES_TEXT)
    _store_measures(settings, suffixes, metrics, columns, dseg, outputs)
    outputs.store_figures(
        structural_figures.draw_control(metrics, prepared_scans.scan_facts, session=session)
    )


def _process_lowres(analysis: Analysis, subject: Subject) -> None:
    """Super-resolve each session of a participant without high-resolution scans."""
    settings, superres = analysis.settings, analysis.settings.superres
    model = input_of_models(superres)
    assert model is not None, "participants without high-resolution scans require trained models"
    figures = analysis.outputs({"subject": subject.label})
    facts = {
        "Participant": subject.label,
        "Target": "structural scans (low resolution only)",
        "Contrasts used together": list(model.contrasts),
        "Scans": [scan.path.name for scans in subject.lowres for scan in scans],
        "Alignment of the scans": settings.anat.align,
        "Intensities": settings.scaling_of_scans,
        "Methods": list(superres.chosen),
        "Trained on": "other participants (see the model card)",
        "Random seed": settings.resources.random_seed,
    }
    with subworkflow(scope_name(f"sub-{subject.label}"), participant=subject.label):
        for scans in subject.lowres:
            session = parse_session(scans[0].path)
            with subworkflow(f"lowres_{session}" if session else "lowres"):
                _process_lowres_session(analysis, subject, scans, model, session)
        figures.store_figures(anatomy_figures.summarize_subject(subject_facts=facts))


def _process_lowres_session(
    analysis: Analysis,
    subject: Subject,
    scans: Sequence[LowresScan],
    model: ModelInput,
    session: str,
) -> None:
    """Super-resolve the low-resolution scans of one session with trained models.

    `model`: contrasts and grid of the models.
    """
    settings, suffixes = analysis.settings, _list_suffixes(scans)
    scan_settings = _make_preparation(settings)
    outputs = _make_outputs(analysis, subject, scans, with_provenance=True)
    template, template_mask, _ = anatomy.load_template(
        template_space=_choose_template_space(settings)
    )
    prepared_scans = preparation.prepare_scans(
        template,
        template_mask,
        lowres_files=[scan.path for scan in scans],
        given_brain_mask=corrected_brain_mask(settings, subject, scans),
        suffixes=suffixes,
        preparation=scan_settings,
        all_interpolations=settings.superres.all_baselines,
        grid_mm=model.mm,
        grid_orientation=model.orientation,
    )
    add_methods_text(
        Part.ANATOMY,
        preparation_text.describe_lowres_preparation(suffixes, scan_settings, model.mm),
    )
    outputs.store(prepared_scans.coarse_scans)
    outputs.store(prepared_scans.other_scans)
    _store_mask(scan_settings, prepared_scans.scan_mask, suffixes, outputs, is_model_grid=True)
    # there are no high-resolution scans
    prepared_scans = replace(prepared_scans, fine_scans=None, scan_brain=None)
    prepared_head = PreparedHead(label=subject.label, suffixes=suffixes, scans=prepared_scans)
    results = _apply_methods(analysis, subject, prepared_head, {}, outputs, outputs)
    outputs.store_figures(
        structural_figures.draw_lowres(
            prepared_scans,
            concatenate(result.superresolved_scans for result in results),
            session=session,
        )
    )


def _make_preparation(settings: Settings) -> ScanPreparation:
    """Return the settings of the preparation of scans."""
    return ScanPreparation(
        anat_align=settings.anat.align,
        anat_scale=settings.scaling_of_scans,
        anat_mask=settings.anat.mask,
        anat_tools=settings.anat.tools,
        random_seed=settings.resources.random_seed,
        sloppy=settings.run.sloppy,
    )


def _choose_template_space(settings: Settings) -> str:
    """Return the first requested template, or the default template."""
    return next(iter(settings.preprocessing.templates), DEFAULT_SPACE)


def _store_mask(
    scan_settings: ScanPreparation,
    mask: Mask,
    suffixes: Sequence[str],
    outputs: Outputs,
    *,
    is_model_grid: bool,
) -> None:
    """Store the mask of scans; `is_model_grid`: whether the model determines the grid."""
    sidecar = preparation.describe_scan_mask(suffixes, scan_settings, is_model_grid=is_model_grid)
    entities = {"res": "hr", "desc": scan_settings.anat_mask, "suffix": "mask"}
    outputs.store(mask, entities, sidecar=sidecar)


def _process_pairs(
    analysis: Analysis,
    subject: Subject,
    prepared_head: PreparedHead,
    networks: Mapping[str, ModelFiles],
) -> None:
    """Super-resolve the scans of a participant by each method, and measure the results.

    `networks`: networks that all participants share, by method; others are trained on the
    participant's own scans.
    """
    settings = analysis.settings
    outputs = _make_outputs(analysis, subject, subject.structural, with_provenance=True)
    figures = analysis.outputs({"subject": subject.label})
    facts = _make_facts(settings, subject)
    scans, suffixes = prepared_head.scans, prepared_head.suffixes
    with subworkflow(scope_name(f"sub-{subject.label}"), participant=subject.label):
        with subworkflow("measured"):
            results = _apply_methods(analysis, subject, prepared_head, networks, outputs, figures)
            metrics, columns, dseg, classes = measures.measure_scans(
                scans,
                concatenate(result.superresolved_scans for result in results),
                [result.card_file for result in results],
                settings.anat.lesion_template,
                lesion_reference(settings, subject),
                suffixes=suffixes,
                anat_tools=settings.anat.tools,
                random_seed=settings.resources.random_seed,
            )
            text = measures.describe_measures(
                suffixes,
                settings.anat.tools,
                is_simulated=find_simulated_factor(settings) is not None,
            )
            add_methods_text(Part.EVALUATION, text)
            _store_measures(settings, suffixes, metrics, columns, dseg, outputs)
            outputs.store(classes)
        figures.store_figures(
            structural_figures.draw_scans(
                scans,
                concatenate(result.superresolved_scans for result in results),
                [result.card_file for result in results],
                metrics,
                classes,
                lesion_reference(settings, subject),
                subject_facts=facts,
            )
        )
        figures.store_figures(anatomy_figures.summarize_subject(subject_facts=facts))


def _make_outputs(
    analysis: Analysis,
    subject: Subject,
    scans: Sequence[Pair | LowresScan],
    *,
    with_provenance: bool,
) -> Outputs:
    """Return the storage of scans.

    `scans`: scans of one session and resolution, or the pairs of a participant. `with_provenance`:
    whether the sidecars of tables contain provenance metadata.
    """
    entities = entities_of_scans(analysis.settings, subject, scans)
    provenance: dict[str, str] = {}
    if with_provenance:
        provenance |= analysis.provenance
        if subject.split_set:
            provenance["Split"] = subject.split_set
    return analysis.outputs({**entities, "datatype": "anat"}, provenance=provenance)


def _make_facts(settings: Settings, subject: Subject) -> dict[str, object]:
    """Return the summary of a participant with paired scans, by label of the report line."""
    target = "structural scans"
    if find_simulated_factor(settings) is not None:
        target += ", from their central quarter of k-space in plane"
    return {
        "Participant": subject.label,
        "Target": target,
        "Contrasts used together": list(_list_suffixes(subject.structural)),
        "Scans": [path.name for pair in subject.structural for path in pair.images],
        "Alignment of the scans": settings.anat.align,
        "Intensities": settings.scaling_of_scans,
        "Methods": list(settings.superres.chosen),
        "Trained on": f"{settings.anat.split_option}; this participant: {subject.split_set} set"
        if subject.split_set
        else "the same scans",
        "Training recipe": settings.superres.recipe_text,
        "Random seed": settings.resources.random_seed,
    }


def _list_suffixes(scans: Sequence[Pair | LowresScan]) -> tuple[str, ...]:
    """Return the BIDS suffix of each scan."""
    return tuple(scan.contrast for scan in scans)


def _train_shared_networks(
    analysis: Analysis, heads: Sequence[PreparedHead]
) -> dict[str, ModelFiles]:
    """Train the networks that all participants share, and return them by method."""
    outputs = analysis.outputs({})
    networks: dict[str, ModelFiles] = {}
    with subworkflow(NETWORKS_SCOPE):
        for method in analysis.settings.superres.chosen:
            if method in analysis.plan.kept_networks:
                continue
            with subworkflow(method):
                networks[method] = _train_network(
                    analysis, method, heads[0].suffixes, heads, outputs, _get_split(analysis)
                )
    return networks


def _get_split(analysis: Analysis) -> network_training.Split:
    """Return the labels of the participants in each set of the split."""
    subjects = analysis.plan.split_subjects
    return {
        name: tuple(subject.label for subject in subjects if subject.split_set == name)
        for name in ("training", "validation", "test")
    }


def _apply_methods(
    analysis: Analysis,
    subject: Subject,
    prepared_head: PreparedHead,
    networks: Mapping[str, ModelFiles],
    outputs: Outputs,
    figures: Outputs,
) -> list[SuperResolvedScans]:
    """Super-resolve the scans by each method, and draw explanatory figures.

    `networks`: networks that all participants share, by method. Other networks are trained on the
    participant's own scans, or are trained models if there are no high-resolution scans.
    """
    methods = analysis.settings.superres.chosen
    is_plural = len(methods) > 1
    return [
        _apply_method(
            analysis,
            method,
            subject,
            prepared_head,
            networks.get(method),
            outputs,
            figures,
            label=method if is_plural else "",
        )
        for method in methods
    ]


def _apply_method(
    analysis: Analysis,
    method: str,
    subject: Subject,
    prepared_head: PreparedHead,
    network: ModelFiles | None,
    outputs: Outputs,
    figures: Outputs,
    *,
    label: str,
) -> SuperResolvedScans:
    """Super-resolve the scans by a method, and draw explanatory figures.

    `network`: network that all participants share; None if there is none. `label`: name of the
    method for the figures; "" if there is only one method. See `_apply_methods` for other
    parameters.
    """
    settings, scans = analysis.settings, prepared_head.scans
    with subworkflow(method):
        if network is None:
            own_heads = [prepared_head] if scans.fine_scans is not None else []
            network = _train_network(
                analysis, method, prepared_head.suffixes, own_heads, outputs, {}
            )
        superresolved_scans = network_training.super_resolve_scans(
            scans.coarse_scans,
            scans.scan_mask,
            network.model_file,
            suffixes=prepared_head.suffixes,
            method=method,
            device=settings.resources.device,
            omp_nthreads=settings.resources.omp_nthreads or 1,
            anat_align=settings.anat.align,
            anat_scale=settings.scaling_of_scans,
            force=settings.superres.force,
            split_set=subject.split_set,
        )
        outputs.store(superresolved_scans, level="minimal")
        figures.store_figures(
            structural_figures.explain_scans(
                scans, superresolved_scans, network, method_label=label
            )
        )
    return SuperResolvedScans(superresolved_scans=superresolved_scans, card_file=network.card_file)


def _train_network(
    analysis: Analysis,
    method: str,
    suffixes: tuple[str, ...],
    heads: Sequence[PreparedHead],
    outputs: Outputs,
    split: network_training.Split,
) -> ModelFiles:
    """Train the network of a method on some heads, and store it.

    `suffixes`: contrasts of the network. Without heads, a trained model is used.
    """
    settings, training_settings = analysis.settings, analysis.make_training(method)
    training_scans = _gather_training_scans(heads)
    files = network_training.train_on_scans(
        training_scans.fine_scans,
        training_scans.coarse_scans,
        training_scans.scan_masks,
        training=training_settings,
        suffixes=suffixes,
        anat_align=settings.anat.align,
        anat_scale=settings.scaling_of_scans,
        split={name: labels for name, labels in split.items() if name != "test"},
    )
    add_methods_text(
        Part.SERIES,
        network_training.describe_scan_network(training_settings, split),
        output=files.model_file,
        describe=partial(network_training.describe_networks_of_scans, training_settings, split),
    )
    store_model(files, method, outputs, {"acquisition": "anat", "space": ""})
    return files


@frozen
class _TrainingScans:
    """Scans that a network is trained on, in the order of participants.

    `fine_scans`, `coarse_scans`: scans of high and of low resolution. `scan_masks`: mask of the
    scans by participant (``sub-01``). All are None if a trained model is used.
    """

    fine_scans: list[Map] | None = None
    coarse_scans: list[Map] | None = None
    scan_masks: dict[str, Mask] | None = None


def _gather_training_scans(heads: Sequence[PreparedHead]) -> _TrainingScans:
    """Gather the scans of several heads."""
    if not heads:
        return _TrainingScans()
    return _TrainingScans(
        fine_scans=concatenate(
            head.scans.fine_scans for head in heads if head.scans.fine_scans is not None
        ),
        coarse_scans=concatenate(head.scans.coarse_scans for head in heads),
        scan_masks={f"sub-{head.label}": head.scans.scan_mask for head in heads},
    )


def _store_measures(
    settings: Settings,
    suffixes: Sequence[str],
    metrics: Rows,
    columns: Facts,
    dseg: Image,
    outputs: Outputs,
) -> None:
    """Store metrics and tissue segmentation of measured scans."""
    outputs.store_metrics(metrics, "anat", columns)
    outputs.store(
        dseg,
        {"res": "hr", "desc": "measured", "suffix": "dseg"},
        sidecar=measures.describe_tissues(suffixes, settings.anat.align, settings.anat.tools),
    )
