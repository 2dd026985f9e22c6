"""First screen of a run, with the reasons of its answers and the checks."""

import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from bids_sr.config.levels import StoredMaps
from bids_sr.engine.artifacts import Confounds, Facts, File, Image, Map, Rows, Verdict, Volume
from bids_sr.engine.number_text import number
from bids_sr.evaluation.run_evidence import StoredEvidence
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.words import capitalize
from bids_sr.glm.activation_regions import SIGN_RELIABLE
from bids_sr.glm.map_sidecars import MEAN_SIGNAL
from bids_sr.glm.steps.map_comparison import read_input_smoothing
from bids_sr.glm.vein_signs import LARGE_PERCENT
from bids_sr.io.grids import Factor, mm_text, size_text
from bids_sr.io.json_values import as_mapping, as_number
from bids_sr.io.series import ACQUIRED
from bids_sr.io.smoothing_words import smoothing_text
from bids_sr.report.figure_step import FigureDrawing, figure
from bids_sr.report.figure_steps import run_maps as run_maps_figures
from bids_sr.report.figure_steps.result_picture import PictureMaps, draw_error, draw_picture
from bids_sr.report.figure_steps.run_maps import SceneImages, ShownMaps
from bids_sr.report.sections import HtmlSpec, run_text

if TYPE_CHECKING:
    from bids_sr.evaluation.result import RunResult
    from bids_sr.report.first_screen import UseRow
    from bids_sr.report.reasons import ErrorCounts

FINER_EFFECTS = (
    "For simulated effects with finer spatial structure (3-mm texture), the actual error was 1.9"
    " to 2.6 times as large as the SD."
)
"""Range of the ratio error / SD for textures of 3 mm in
``benchmarks/results/posterior_foreign.md``.
"""


@figure(
    HtmlSpec(
        "overview",
        "overview",
        missing="overview of the run",
        remark="a required step did not finish",
    ),
    HtmlSpec("why", "why"),
    HtmlSpec("checks", "checks"),
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
def draw_overview(
    evaluation: Rows,
    verdict: Verdict,
    evidence: StoredEvidence,
    registration: Facts,
    confounds: Confounds,
    maps: list[Map],
    images: SceneImages,
    truth_maps: dict[str, Image] | None = None,
    error_maps: list[Map] | None = None,
    half_resolution_maps: File | None = None,
    *,
    entities: Mapping[str, str],
    factor: Factor,
    description: str,
    stored: StoredMaps,
    has_regions: bool,
) -> Iterator[FigureDrawing]:
    """Draw the first screen of a run, the reasons of its answers, its checks, and its error.

    `truth_maps` are known activation (signal units) by contrast; None if unknown. `error_maps` are
    maps of the reconstruction error. `half_resolution_maps` is the file of the maps of the test;
    None if the run was not tested. `entities` are labels by long entity name. `description` of the
    run is from its sidecar. `stored` determines which maps are stored, and `has_regions` states
    whether there is a table of regions.
    """
    from bids_sr.report.first_screen import (
        UseRow,
        make_first_screen,
        make_view,
        render_first_screen,
    )
    from bids_sr.report.markup import join, render, render_by_contrast
    from bids_sr.report.reasons import (
        count_error_voxels,
        explain_contrasts,
        list_reasons,
    )
    from bids_sr.report.registration_facts import registration_warnings
    from bids_sr.report.run_checks import list_checks

    shown_maps = run_maps_figures.sort_maps([*maps, *(error_maps or ())])
    result, agreement = evidence.result, evidence.accuracy
    acquired_mm, final_mm = (image.zooms for image in (images.boldref, images.bold_mask_hr))
    if evidence.self_test.final is None:
        result = replace(
            result,
            acquired=f"{mm_text(acquired_mm[0])} mm",
            final=f"{mm_text(final_mm[0])} mm",
        )
    displacement = [float(value) for value in confounds["framewise_displacement"]]
    regions = [UseRow("Regions", file=_locate_regions(entities))] if has_regions else []
    views, reasons_by_contrast, errors = [], {}, {}
    for contrast in shown_maps.list_contrasts(evidence.shown_contrast) or [""]:
        selected = result.select(contrast) if result.contrasts else result
        picture_maps = PictureMaps(
            shown_maps=shown_maps,
            images=images,
            result=selected,
            contrast=contrast,
            factor=factor,
            known=_scale_known(shown_maps, contrast, (truth_maps or {}).get(contrast)),
            half_resolution=half_resolution_maps,
            reduced=f"{evidence.self_test.sizes[0]} mm" if evidence.self_test.sizes else "",
        )
        used_files = list_used_files(shown_maps, selected, contrast, evaluation, stored, entities)
        counts = count_error_voxels(evaluation, result.method, contrast)
        views.append(
            make_view(
                selected,
                addition=_describe_veins(counts) if selected.shown is not None and counts else "",
                picture=draw_picture(picture_maps) if contrast else Markup(""),
                use=[*used_files, *regions],
                contrast=contrast,
            )
        )
        if reasons := explain_contrasts(selected, evaluation):
            reasons_by_contrast[contrast] = render("items", reasons)
        if contrast:
            errors[contrast] = draw_error(picture_maps)
    sizes = f"{size_text(acquired_mm.tolist(), unit='')} → {size_text(final_mm.tolist())}"
    facts = [f"{len(displacement)} volumes", sizes]
    if result.method and agreement is None:
        facts.append("no reference")
    if input_mm := max(map(read_input_smoothing, maps), default=0.0):
        facts.append(smoothing_text(0, input_mm))
    screen = make_first_screen(
        title=f"sub-{entities['subject']} · {run_text(entities).removeprefix('task ')}",
        facts=" · ".join(facts),
        result=result,
        views=views,
        alerts=[*verdict.get("warnings", []), *registration_warnings(registration)],
    )
    yield FigureDrawing("overview", render_first_screen(screen))
    reasons = list_reasons(
        result,
        evaluation,
        evidence.self_test,
        reference=agreement.reference.words if agreement else "",
    )
    weights = {
        item.entities["contrast"]: as_mapping(item.sidecar["ContrastWeights"])
        for item in maps
        if "ContrastWeights" in item.sidecar
    }
    conditions = [
        trial_type
        for name in shown_maps.list_contrasts("")
        if f"{name}MinusOthers" in stored.minus_others
        for trial_type in weights.get(name, ())
    ]
    if len(conditions) > 1:
        first, second = conditions[:2]
        reasons.append(
            f"To compare two conditions, such as {first} and {second}, repeat the call with"
            f" --contrasts defaults {shlex.quote(f'{first} - {second}')}."
        )
    if description:
        reasons.append(f"{capitalize(description)}.")
    if reasons:
        by_contrast = render_by_contrast(reasons_by_contrast)
        yield FigureDrawing("why", join([by_contrast, render("items", reasons)]))
    checks = list_checks(displacement, registration, evidence)
    yield FigureDrawing("checks", render("checks", checks))
    if any(errors.values()):
        yield FigureDrawing("error", render_by_contrast(errors))


def _locate_regions(entities: Mapping[str, str]) -> str:
    """Return the path of the table of regions, relative to the output directory."""
    from bids_sr.engine.store import derivative_path

    table = {"desc": "regions", "suffix": "metrics", "datatype": "func", "extension": ".tsv"}
    return derivative_path({**entities, **table})


def _describe_veins(counts: "ErrorCounts") -> str:
    """Return a sentence on signs of veins in the mask; "" without sign reliable voxels."""
    if not counts.n_sign_reliable or math.isnan(counts.large_share):
        return ""
    return Statement.VEINS_IN_MASK.format(
        n=f"{counts.n_sign_reliable:,.0f}",
        large=number(counts.large_share, ".0%"),
        limit=f"{LARGE_PERCENT:g} %",
    )


def _scale_known(shown_maps: ShownMaps, contrast: str, known: Volume | None) -> Volume | None:
    """Return known activation (signal units) in percent, None if there is none."""
    for (name, stat, _), by_series in shown_maps.stats.items():
        if known is not None and (name, stat) == (contrast, "effect") and ACQUIRED in by_series:
            mean_signal = as_number(by_series[ACQUIRED].sidecar[MEAN_SIGNAL])
            return known.like(known.data * np.float32(100 / mean_signal))
    return None


def list_used_files(
    shown_maps: ShownMaps,
    result: "RunResult",
    contrast: str,
    rows: Rows,
    stored: StoredMaps,
    entities: Mapping[str, str],
) -> "list[UseRow]":
    """Return the files to use: map, total SD and mask of a contrast, and effects in the mask.

    Files are named with the least smoothing that is stored. If no detail may be interpreted, the
    map is the B-spline map. `rows` of the evaluation give the share of the mask above 5 %.
    """
    from bids_sr.report.first_screen import UseRow
    from bids_sr.report.reasons import count_error_voxels

    series = "bspline" if result.shown is None else result.method
    map_stats = ("effect", shown_maps.display.statistic)
    stored_keys = [
        (width, map_stats.index(stat), stat)
        for (name, stat, width), by_series in shown_maps.stats.items()
        if name == contrast
        and stat in map_stats
        and series in by_series
        and stored.includes(series, contrast, width, stat)
    ]
    if not stored_keys:
        return [UseRow("Map", text=f"{series} maps were not stored; rerun with --level standard")]
    width, _, map_stat = min(stored_keys)
    uses = [
        UseRow(label, file=run_maps_figures.stored_path(statmap, entities))
        for stat, label in ((map_stat, "Map"), ("sdTotal", "Total SD"))
        if (statmap := shown_maps.stats.get((contrast, stat, width), {}).get(series)) is not None
    ]
    counts = count_error_voxels(rows, series, contrast)
    mask = shown_maps.regions.get((contrast, SIGN_RELIABLE, width), {}).get(series)
    if mask is not None and result.shown is not None:
        effect = shown_maps.stats[contrast, map_stat, width][series].volume.data
        effects = effect[mask.volume.data > 0.5]
        remark = f"{len(effects):,} voxels"
        if map_stat == "effect" and effects.size:
            sizes = np.abs(effects)
            median, p95 = (number(size, ".1f") for size in np.percentile(sizes, (50, 95)))
            remark += (
                f" ({np.count_nonzero(effects < 0):,} decreases), effects: median {median}, 95th"
                f" percentile {p95} %"
            )
        if counts is not None and not math.isnan(counts.large_share):
            remark += f", acquired above {LARGE_PERCENT:g} %: {number(counts.large_share, '.0%')}"
        path = run_maps_figures.stored_path(mask, entities)
        uses.append(UseRow("Mask", file=path, remark=remark))
    return uses
