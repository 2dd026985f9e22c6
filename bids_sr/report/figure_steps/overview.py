"""First screen of a run, with the reasons of its answers and the checks."""

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bids_sr.config.levels import StoredMaps
from bids_sr.engine.artifacts import Confounds, Facts, File, Image, Map, Rows, Verdict
from bids_sr.evaluation.run_evidence import RunEvidence, StoredEvidence
from bids_sr.evaluation.words import capitalize
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.steps.map_comparison import read_input_smoothing
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor, mm_text, size_text
from bids_sr.io.smoothing_words import smoothing_text
from bids_sr.report.figure_step import FigureDrawing, figure
from bids_sr.report.figure_steps import run_maps as run_maps_figures
from bids_sr.report.figure_steps.run_maps import SceneImages
from bids_sr.report.sections import HtmlSpec, run_text

if TYPE_CHECKING:
    from bids_sr.evaluation.result import RunResult
    from bids_sr.report.figure_steps.page_maps import PageMaps

FINER_EFFECTS = (
    "For simulated effects with finer spatial structure (3-mm texture), the actual error was 1.9"
    " to 2.6 times as large as the SD."
)
"""Range of the ratio error / SD for textures of 3 mm in
``benchmarks/results/posterior_foreign.md``.
"""


@frozen
class RunPage:
    """Facts of a run on its page.

    `entities` are labels by long entity name. The run has `n_volumes` volumes with voxels of
    `zooms` (mm), `factor` times the size of super-resolved voxels. `stored` determines which maps
    are stored, and `has_regions` states whether there is a table of regions.
    """

    entities: Mapping[str, str]
    n_volumes: int
    zooms: Sequence[float]
    factor: Factor
    stored: StoredMaps
    has_regions: bool

    @property
    def title(self) -> str:
        """Participant and run in words."""
        run = run_text(self.entities).removeprefix("task ")
        return f"sub-{self.entities['subject']} · {run}"

    def describe(self, evidence: RunEvidence, input_fwhm_mm: float) -> str:
        """Return the facts in the first line: volumes, voxel sizes, reference and smoothing."""
        final_mm = [size / factor for size, factor in zip(self.zooms, self.factor, strict=True)]
        facts = [
            f"{self.n_volumes} volumes",
            f"{size_text(self.zooms, unit='')} → {size_text(final_mm)}",
        ]
        if evidence.result.method and evidence.accuracy is None:
            facts.append("no reference")
        if input_fwhm_mm:
            facts.append(smoothing_text(0, input_fwhm_mm))
        return " · ".join(facts)


@frozen
class JudgedRun:
    """Verdict on a run, with the maps that its first screen shows.

    `maps` include maps of the reconstruction error, and `error_rows` are tables of their voxels.
    `truth_maps` are known activation (signal units) by contrast; None if there is none.
    `half_resolution_maps` is the file of the maps of the test; None if the run was not tested.
    """

    verdict: Verdict
    evidence: StoredEvidence
    registration: Facts
    maps: list[Map]
    images: SceneImages
    truth_maps: dict[str, Image] | None = None
    half_resolution_maps: File | None = None
    error_rows: Sequence[Rows] = ()


@figure(
    HtmlSpec(
        "overview",
        "overview",
        missing="overview of the run",
        remark="a required step did not finish",
    ),
    HtmlSpec(
        "error",
        "maps",
        subtitle="Error of the effect",
        caption=(
            "Effect and standard deviation (SD) of the reconstruction error. The SD was computed"
            " under the assumption that the effect has the same spatial spectrum as the"
            f" signal fluctuations in the run. {FINER_EFFECTS}"
        ),
    ),
)
def draw_overview(run: JudgedRun, *, page: RunPage) -> Iterator[FigureDrawing]:
    """Draw the first screen of a run at its first verdict, and the error of its effects."""
    yield from _draw_first_screen(run, page, "overview", "error", page.title)


@figure(
    HtmlSpec("networkOverview", "overview", place=1),
    HtmlSpec("networkError", "maps", subtitle="Error of the effect"),
)
def draw_network_overview(
    run: JudgedRun, first_evidence: StoredEvidence, *, page: RunPage
) -> Iterator[FigureDrawing]:
    """Draw the screen of a network that is better than the method of the first verdict.

    It is below the first screen, whose answers do not change. `first_evidence` is that of the
    first verdict. If its method was not applied, a network without detail that may be interpreted
    does not change the maps to use, either.
    """
    best = run.evidence.best
    is_used = run.evidence.result.shown is not None or not first_evidence.not_applied
    if best != first_evidence.best and is_used:
        title = f"{page.title} · {best}"
        yield from _draw_first_screen(run, page, "networkOverview", "networkError", title)


def _draw_first_screen(
    run: JudgedRun, page: RunPage, screen_name: str, error_name: str, title: str
) -> Iterator[FigureDrawing]:
    """Draw the screen of a verdict, and the error of the effects of its method."""
    from bids_sr.report.first_screen import make_first_screen, render_first_screen
    from bids_sr.report.markup import render_by_contrast
    from bids_sr.report.registration_facts import registration_warnings

    result = _name_sizes(run.evidence, page.zooms, page.factor)
    page_maps = _gather_maps(run, page)
    screen = make_first_screen(
        title=title,
        facts=page.describe(run.evidence, max(map(read_input_smoothing, run.maps), default=0.0)),
        result=result,
        views=page_maps.make_views(result, run.evidence.shown_contrast),
        alerts=[*run.verdict.get("warnings", []), *registration_warnings(run.registration)],
    )
    yield FigureDrawing(screen_name, render_first_screen(screen))
    if errors := page_maps.draw_errors(result, run.evidence.shown_contrast):
        yield FigureDrawing(error_name, render_by_contrast(errors))


def _name_sizes(evidence: RunEvidence, zooms: Sequence[float], factor: Factor) -> "RunResult":
    """Return the result of a run with its voxel sizes in words, also if it was not tested."""
    if evidence.self_test.final is not None:
        return evidence.result
    return replace(
        evidence.result,
        acquired=f"{mm_text(zooms[0])} mm",
        final=f"{mm_text(zooms[0] / factor[0])} mm",
    )


def _gather_maps(run: JudgedRun, page: RunPage) -> "PageMaps":
    """Return the maps of the first screen, with the names of their files."""
    from bids_sr.report.figure_steps.page_maps import PageMaps
    from bids_sr.report.first_screen import locate_regions

    sizes = run.evidence.self_test.sizes
    return PageMaps(
        shown_maps=run_maps_figures.sort_maps(run.maps),
        images=run.images,
        factor=page.factor,
        rows=[row for rows in run.error_rows for row in rows],
        stored=page.stored,
        entities=page.entities,
        known=run.truth_maps or {},
        half_resolution=run.half_resolution_maps,
        reduced=f"{sizes[0]} mm" if sizes else "",
        further_files=[locate_regions(page.entities)] if page.has_regions else [],
    )


@figure(
    HtmlSpec("alerts", "overview", place=1),
    HtmlSpec("why", "why"),
    HtmlSpec("checks", "checks"),
)
def show_reasons(
    evaluation: Rows,
    verdict: Verdict,
    evidence: StoredEvidence,
    registration: Facts,
    confounds: Confounds,
    first_verdict: Verdict | None = None,
    *,
    zooms: Sequence[float],
    factor: Factor,
    contrasts: Contrasts,
    minus_others: Collection[str],
    description: str,
) -> Iterator[FigureDrawing]:
    """Show the reasons of the answers of a run, its checks, and alerts after the first verdict.

    `first_verdict` is None if no verdict preceded `verdict`. Acquired voxels have `zooms` (mm),
    `factor` times the size of super-resolved voxels. `contrasts` are weights of conditions by
    contrast, `minus_others` the default contrasts of a condition with all others, and the
    `description` of the run is from its sidecar.
    """
    from bids_sr.report.facts import messages_html
    from bids_sr.report.markup import join, render, render_by_contrast
    from bids_sr.report.reasons import explain_contrasts, list_reasons
    from bids_sr.report.run_checks import list_checks

    if first_verdict is not None:
        shown_alerts = first_verdict.get("warnings", [])
        alerts = [text for text in verdict.get("warnings", []) if text not in shown_alerts]
        if alerts:
            yield FigureDrawing("alerts", messages_html("warning", alerts))
    result, agreement = _name_sizes(evidence, zooms, factor), evidence.accuracy
    reference = agreement.reference.words if agreement else ""
    reasons = [
        *list_reasons(result, evaluation, evidence.self_test, reference=reference),
        *_suggest_difference(contrasts, minus_others),
        *([f"{capitalize(description)}."] if description else []),
    ]
    judged = {item.map_contrast for item in result.contrasts}
    reasons_by_contrast = {
        contrast: render("items", texts)
        for contrast in dict.fromkeys([evidence.shown_contrast, *contrasts])
        if contrast in judged and (texts := explain_contrasts(result.select(contrast), evaluation))
    }
    if reasons:
        by_contrast = render_by_contrast(reasons_by_contrast)
        yield FigureDrawing("why", join([by_contrast, render("items", reasons)]))
    displacement = [float(value) for value in confounds["framewise_displacement"]]
    checks = list_checks(displacement, registration, evidence)
    yield FigureDrawing("checks", render("checks", checks))


def _suggest_difference(contrasts: Contrasts, minus_others: Collection[str]) -> list[str]:
    """Return how to compare two conditions; [] if the user named contrasts or there are no two."""
    conditions = [
        trial_type
        for name, weights in contrasts.items()
        if f"{name}MinusOthers" in minus_others
        for trial_type in weights
    ]
    if len(conditions) < 2:
        return []
    first, second = conditions[:2]
    return [
        f"To compare two conditions, such as {first} and {second}, repeat the call with"
        f" --contrasts defaults {shlex.quote(f'{first} - {second}')}."
    ]
