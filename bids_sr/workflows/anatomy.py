"""Anatomical processing of a participant, from the T1w image to the region of interest."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bids_sr.config import Settings
from bids_sr.config.spaces import FSAVERAGE, FUNC, T1W, Space
from bids_sr.engine.artifacts import Facts, File, Image, Mask
from bids_sr.engine.flow import add_methods_text, subworkflow
from bids_sr.engine.outputs import Outputs
from bids_sr.engine.step import Part
from bids_sr.glm.steps import atlas_regions, surfaces as steps_surfaces
from bids_sr.glm.steps.atlas_regions import Atlas
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import BOLDREF
from bids_sr.io.region_names import BRAIN, region_labels
from bids_sr.io.region_spaces import T1W as T1W_SPACE, RegionSpace
from bids_sr.io.uris import TEMPLATEFLOW_URL
from bids_sr.preproc.steps import anatomy, imported
from bids_sr.report import primary_dataset
from bids_sr.report.figure_steps import anatomy as anatomy_figures
from bids_sr.spatial.itk_files import Transforms
from bids_sr.survey.bids.inputs import Subject
from bids_sr.workflows.series_requests import Analysis


@frozen
class TemplateRegistration:
    """Registration of the T1w image to a template.

    `space`: TemplateFlow name of the template. `t1w2std_xfm`, `std2t1w_xfm`: transform files of
    both directions.
    """

    space: str
    template: Image
    template_mask: Mask
    t1w2std_xfm: File
    std2t1w_xfm: File


@frozen
class Surfaces:
    """Target surfaces of maps.

    `uris`: URIs of the white surfaces, for sidecars.
    """

    space: Space
    surfaces: Sequence[File]
    uris: Sequence[str]


@frozen
class RegionSource:
    """Region of interest in its original space.

    `roi` is the text of the region in the option. `xfms` are transforms of T1w points to this
    space. There are no transforms in T1w space or, if `in_run_space`, the space of the runs.
    """

    roi: str
    mask: Mask
    xfms: Sequence[File] = ()
    in_run_space: bool = False


@frozen
class Anatomy:
    """Anatomy of a participant.

    `template`: registration to the template of the atlas. `templates`: registrations to all
    templates, by space. `regions`: regions of interest, except masks in the space of the runs; the
    brain if there are no others.
    """

    t1w_preproc: Image
    t1w_mask: Mask
    t1w_tpms: list[Image]
    brain_facts: Facts
    template: TemplateRegistration
    templates: Mapping[str, TemplateRegistration]
    atlas: Atlas
    regions: Sequence[RegionSource]
    surfaces: Sequence[Surfaces] = ()


def fit_anatomy(
    analysis: Analysis,
    subject: Subject,
    outputs: Outputs,
    *,
    template_space: str,
    rois: Sequence[str],
) -> Anatomy:
    """Process the anatomy of a participant, from the T1w image to the regions of interest.

    Derivatives of another program are used if they exist. Every step runs on one thread because
    multithreaded sums are not reproducible.

    The participant has a T1w image. `template_space` is the TemplateFlow name of the atlas
    template, followed by a plus sign and the cohort if the template has cohorts. Each region of
    interest in `rois` is labels of the atlas, a file, or the whole brain.
    """
    settings, precomputed = analysis.settings, subject.precomputed
    if precomputed is not None:
        text = anatomy.describe_imported_anatomy(
            precomputed.origin.text, template_space, precomputed.files(template_space)
        )
        add_methods_text(Part.ANATOMY, text)
    template, template_mask, priors = anatomy.load_template(template_space=template_space)
    extracted_brain = _find_brain(settings, subject, template, template_mask, template_space)
    t1w_preproc, t1w_mask = extracted_brain.t1w_preproc, extracted_brain.t1w_mask
    outputs = outputs.with_references(own=t1w_preproc, t1w=t1w_preproc)
    _store_brain(extracted_brain, outputs)
    template_registration, std_t1w = _register_to_template(
        settings, subject, extracted_brain, template, template_mask, outputs, template_space
    )
    t1w_tpms = _find_tissues(
        settings, subject, extracted_brain, template_registration, priors, outputs
    )
    atlas_name = settings.activation.atlas
    atlas_source, atlas_t1w, atlas_labels, atlas_xfms = atlas_regions.resample_atlas(
        t1w_preproc,
        template_registration.std2t1w_xfm,
        atlas=atlas_name,
        atlas_space=analysis.plan.find_atlas_space(subject.label),
        template_space=template_registration.space,
        random_seed=settings.resources.random_seed,
    )
    entities, sidecar = atlas_regions.describe_atlas(atlas_name, template_registration.space)
    outputs.store(atlas_t1w, {**entities, "extension": ".nii.gz"}, sidecar=sidecar)
    outputs.store(atlas_labels, {**entities, "extension": ".tsv"}, sidecar=sidecar)
    atlas = Atlas(atlas_source=atlas_source, atlas_labels=atlas_labels, atlas_xfms=atlas_xfms)
    roi_t1w, regions = _define_regions(
        settings,
        extracted_brain,
        template_registration,
        atlas,
        {roi: analysis.plan.find_region_space(roi, subject.label) for roi in rois},
        outputs,
    )
    templates = {template_space: template_registration} | _register_to_other_templates(
        settings, subject, extracted_brain, outputs, template_space
    )
    surfaces = _process_spaces(
        analysis, subject, t1w_mask, templates, template_registration, outputs
    )
    with subworkflow("anat_figures_wf"):
        figure_outputs = analysis.outputs({"subject": subject.label})
        figure_outputs.store_figures(
            anatomy_figures.draw_brain(t1w_preproc, t1w_mask, t1w_tpms, roi_t1w)
        )
        figure_outputs.store_figures(
            anatomy_figures.draw_normalization(t1w_preproc, std_t1w, template, template_mask)
        )
    return Anatomy(
        t1w_preproc=t1w_preproc,
        t1w_mask=t1w_mask,
        t1w_tpms=t1w_tpms,
        brain_facts=extracted_brain.brain_facts,
        template=template_registration,
        templates=templates,
        atlas=atlas,
        regions=regions,
        surfaces=surfaces,
    )


@frozen
class _ExtractedBrain:
    """Bias-corrected T1w image with its brain mask.

    `start_xfm`: initial alignment of the normalization; None if it still has to be estimated.
    """

    t1w_preproc: Image
    t1w_mask: Mask
    brain_facts: Facts
    start_xfm: Transforms | None


def _find_brain(
    settings: Settings, subject: Subject, template: Image, template_mask: Mask, template_space: str
) -> _ExtractedBrain:
    """Correct the bias field of the T1w image and extract the brain, or import both."""
    seed, sloppy = settings.resources.random_seed, settings.run.sloppy
    start_xfm: Transforms | None = None
    precomputed = subject.precomputed
    if precomputed is None:
        t1w_head = anatomy.correct_head(subject.t1w[0], random_seed=seed)
        t1w_mask, start_xfm, brain_facts = anatomy.mask_brain(
            t1w_head, template, template_mask, random_seed=seed, sloppy=sloppy
        )
        add_methods_text(Part.ANATOMY, anatomy.describe_mask(template_space))
        t1w_preproc = anatomy.correct_brain(t1w_head, t1w_mask, random_seed=seed, sloppy=sloppy)
        return _ExtractedBrain(
            t1w_preproc=t1w_preproc,
            t1w_mask=t1w_mask,
            brain_facts=brain_facts,
            start_xfm=start_xfm,
        )
    t1w_preproc, t1w_mask, brain_facts = imported.import_anatomy(
        precomputed.preproc, precomputed.mask
    )
    if template_space not in precomputed.spaces:
        # The precomputed derivatives lack a transform to this template, so the normalization
        # needs an initial alignment.
        start_xfm = anatomy.find_start(
            t1w_preproc, template, template_mask, random_seed=seed, sloppy=sloppy
        )
    return _ExtractedBrain(
        t1w_preproc=t1w_preproc, t1w_mask=t1w_mask, brain_facts=brain_facts, start_xfm=start_xfm
    )


def _store_brain(extracted_brain: _ExtractedBrain, outputs: Outputs) -> None:
    """Store the bias-corrected T1w image and its brain mask."""
    outputs.store(
        extracted_brain.t1w_preproc,
        {"desc": "preproc", "suffix": "T1w"},
        sidecar=anatomy.T1W_SIDECAR,
        exported_as={},
    )
    outputs.store(
        extracted_brain.t1w_mask,
        {"desc": "brain", "suffix": "mask"},
        sidecar=anatomy.BRAIN_SIDECAR,
        exported_as={},
    )


def _find_tissues(
    settings: Settings,
    subject: Subject,
    extracted_brain: _ExtractedBrain,
    template_registration: TemplateRegistration,
    priors: list[Image],
    outputs: Outputs,
) -> list[Image]:
    """Segment the tissues of the T1w image or import them, and store them.

    Returns probability maps of GM, WM and CSF on the grid of the T1w image.
    """
    precomputed = subject.precomputed
    files = {} if precomputed is None else precomputed.files(template_registration.space)
    if "gm" in files:
        t1w_dseg, t1w_tpms = imported.import_tissues(
            extracted_brain.t1w_preproc,
            [files[name] for name in ("gm", "wm", "csf")],
            files.get("t1w_dseg"),
        )
    else:
        t1w_dseg, t1w_tpms = anatomy.segment_tissues(
            extracted_brain.t1w_preproc,
            extracted_brain.t1w_mask,
            template_registration.std2t1w_xfm,
            priors,
            random_seed=settings.resources.random_seed,
        )
        if precomputed is None:
            add_methods_text(Part.ANATOMY, anatomy.TISSUES_TEXT)
    outputs.store(
        t1w_dseg,
        {"suffix": "dseg"},
        sidecar={"Description": "tissue segmentation: 1 GM, 2 WM, 3 CSF"},
        exported_as={},
    )
    outputs.store(
        primary_dataset.label_tissues(t1w_tpms),
        sidecar={"Description": "tissue probability map"},
        exported_only=True,
    )
    return t1w_tpms


def _define_regions(
    settings: Settings,
    extracted_brain: _ExtractedBrain,
    template_registration: TemplateRegistration,
    atlas: Atlas,
    spaces: Mapping[str, RegionSpace],
    outputs: Outputs,
) -> tuple[Mask, list[RegionSource]]:
    """Define regions of interest, and store their union on the grid of the T1w image.

    `spaces` are the spaces of the regions, by their text in the option. Masks in the space of the
    runs are only used on their grids, and the brain replaces them here if there are no others.

    Returns the union on the grid of the T1w image, and the regions.
    """
    atlas_name = settings.activation.atlas
    rois = [roi for roi, space in spaces.items() if space != BOLDREF]
    masks_t1w, regions = [], []
    for number, roi in enumerate(rois or [BRAIN], start=1):
        with subworkflow(f"roi_{number}_wf"):
            mask_t1w, source, xfms = atlas_regions.define_region(
                extracted_brain.t1w_preproc,
                extracted_brain.t1w_mask,
                template_registration.std2t1w_xfm,
                atlas if region_labels(roi, atlas_name) else None,
                roi=roi,
                roi_space=spaces.get(roi, T1W_SPACE),
                atlas_name=atlas_name,
                random_seed=settings.resources.random_seed,
            )
        masks_t1w.append(mask_t1w)
        regions.append(RegionSource(roi=roi, mask=source, xfms=xfms))
    roi_t1w = masks_t1w[0] if len(masks_t1w) == 1 else atlas_regions.unite_masks(masks_t1w)
    add_methods_text(Part.ANATOMY, atlas_regions.describe_regions(tuple(spaces), atlas_name))
    if rois:
        outputs.store(
            roi_t1w,
            {"label": "roi", "suffix": "mask"},
            sidecar={"Description": "region of interest", "Type": "ROI"},
        )
    return roi_t1w, regions


def _register_to_other_templates(
    settings: Settings,
    subject: Subject,
    extracted_brain: _ExtractedBrain,
    outputs: Outputs,
    template_space: str,
) -> dict[str, TemplateRegistration]:
    """Register the T1w image to the templates of the other output spaces."""
    preprocessing = settings.preprocessing
    fsaverage_templates = (
        ()
        if _has_spheres(subject) or FSAVERAGE not in preprocessing.spaces
        else (FSAVERAGE.template,)
    )
    templates = {}
    # The initial alignment was estimated for the atlas template and is not valid for others.
    unaligned_brain = replace(extracted_brain, start_xfm=None)
    for space in dict.fromkeys(preprocessing.templates + fsaverage_templates):
        if space == template_space:
            continue
        with subworkflow(f"template_{space.replace('+', '_')}_wf"):
            template, template_mask, _ = anatomy.load_template(template_space=space)
            templates[space], _ = _register_to_template(
                settings, subject, unaligned_brain, template, template_mask, outputs, space
            )
    return templates


def _register_to_template(
    settings: Settings,
    subject: Subject,
    extracted_brain: _ExtractedBrain,
    template: Image,
    template_mask: Mask,
    outputs: Outputs,
    space: str,
) -> tuple[TemplateRegistration, Image]:
    """Register the T1w image to a template, or import the transforms.

    Returns the registration and the T1w image in template space.
    """
    seed, sloppy = settings.resources.random_seed, settings.run.sloppy
    imported_xfms = {} if subject.precomputed is None else subject.precomputed.spaces
    if space in imported_xfms:
        t1w2std_xfm, std2t1w_xfm, std_t1w = imported.show_in_template(
            extracted_brain.t1w_preproc, template, *imported_xfms[space], random_seed=seed
        )
    else:
        start_xfm = extracted_brain.start_xfm
        if start_xfm is None:
            start_xfm = anatomy.find_start(
                extracted_brain.t1w_preproc,
                template,
                template_mask,
                random_seed=seed,
                sloppy=sloppy,
            )
        t1w2std_xfm, std2t1w_xfm, std_t1w = anatomy.normalize_t1w(
            extracted_brain.t1w_preproc,
            extracted_brain.t1w_mask,
            start_xfm,
            template,
            template_mask,
            random_seed=seed,
            sloppy=sloppy,
        )
    for xfm, origin, target in ((t1w2std_xfm, "T1w", space), (std2t1w_xfm, space, "T1w")):
        entities = {"from": origin, "to": target, "mode": "image", "suffix": "xfm"}
        outputs.store(xfm, {**entities, "extension": ".h5"}, exported_as={})
    template_registration = TemplateRegistration(
        space=space,
        template=template,
        template_mask=template_mask,
        t1w2std_xfm=t1w2std_xfm,
        std2t1w_xfm=std2t1w_xfm,
    )
    return template_registration, std_t1w


def _process_spaces(
    analysis: Analysis,
    subject: Subject,
    t1w_mask: Mask,
    templates: Mapping[str, TemplateRegistration],
    default: TemplateRegistration,
    outputs: Outputs,
) -> list[Surfaces]:
    """Resample the brain mask to the output templates, and return the output surfaces.

    Spaces without a registered template use the registration `default`.
    """
    precomputed_surfaces = {} if subject.precomputed is None else subject.precomputed.surfaces
    white_and_pial = [
        path for name in ("white", "pial") for path in precomputed_surfaces.get(name, ())
    ]
    output_surfaces = []
    for space in analysis.settings.preprocessing.spaces:
        if space.name in (FUNC, T1W):
            continue
        template = templates.get(space.template, default)
        with subworkflow("_".join(["anat_in", *space.entities.values()]) + "_wf"):
            if space.is_template:
                outputs.store(
                    primary_dataset.mask_in_template(
                        t1w_mask,
                        template.template,
                        template.t1w2std_xfm,
                        template_space=space.template,
                        resolution=space.resolution,
                        random_seed=analysis.settings.resources.random_seed,
                    ),
                    {**space.entities, "desc": "brain", "suffix": "mask"},
                    sidecar={**anatomy.BRAIN_SIDECAR, "Resolution": "grid of the template"},
                    exported_only=True,
                )
            elif space == FSAVERAGE:
                surfaces = steps_surfaces.transform_fsaverage(
                    template.t1w2std_xfm,
                    white_and_pial if _has_spheres(subject) else None,
                    list(precomputed_surfaces["sphere"]) if _has_spheres(subject) else None,
                )
                add_methods_text(Part.ANATOMY, steps_surfaces.FSAVERAGE_TEXT)
                uris = [
                    f"{TEMPLATEFLOW_URL}/tpl-fsaverage/tpl-fsaverage_hemi-{hemi}"
                    "_den-10k_white.surf.gii"
                    for hemi in ("L", "R")
                ]
                output_surfaces.append(Surfaces(space=space, surfaces=surfaces, uris=uris))
            else:
                uris = [analysis.uri(path) for path in white_and_pial[:2]]
                output_surfaces.append(Surfaces(space=space, surfaces=white_and_pial, uris=uris))
    return output_surfaces


def _has_spheres(subject: Subject) -> bool:
    """Return whether a participant has surfaces with a registration to fsaverage."""
    surfaces = {} if subject.precomputed is None else subject.precomputed.surfaces
    return {"white", "pial", "sphere"} <= surfaces.keys()
