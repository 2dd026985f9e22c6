"""Reportlets of anatomy, registrations, head motion, training and calibration, drawn from files."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bids_sr.interfaces.reporting import figure_data as tools
from bids_sr.interfaces.reporting.reportlet import ANATOMICAL, NO_FILE, PAIR, Drawn, FileName, reportlet


@reportlet
def AnatReport(
    *, t1w: FileName, mask: FileName, tpms: Sequence[FileName] = (), roi: FileName = NO_FILE
) -> Iterator[Drawn]:
    """Brain mask, tissues (GM, WM, CSF probabilities) and region of interest, where it is smaller, on the T1w image."""
    from bids_sr.reports.figures.anat_figures import Outline, mosaic_figure
    from bids_sr.reports.figures.style import PURPLE, RED, ROI_COLOR, YELLOW, is_brain

    colors = (("brain mask", RED), ("gray matter", YELLOW), ("white matter", PURPLE))
    grid = tools.native_or_display(tools.load(mask))
    shown = [tools.onto(each, *grid) for each in [mask, *[tpms[k] for k in (0, 1) if k < len(tpms)]]]
    lines = [Outline(name=name, data=d, color=color) for (name, color), d in zip(colors, shown, strict=False)]
    region = tools.onto(roi, *grid) if roi else None
    if region is not None and not is_brain(region > 0.5, shown[0] > 0.5):
        lines.append(Outline(name="region of interest", data=region, color=ROI_COLOR))
    yield Drawn(mosaic_figure(tools.onto(t1w, *grid), grid[1], lines, mask=shown[0]), "brain", ANATOMICAL)


@reportlet
def NormReport(
    *, t1w: FileName, std_t1w: FileName, template: FileName, template_mask: FileName = NO_FILE
) -> Iterator[Drawn]:
    """T1w against the template, before and after normalization."""
    from bids_sr.reports.figures.anat_figures import isolines, registration_figure

    target = tools.load(template)
    inside = tools.load(template_mask).data if template_mask else None
    before, after = (tools.onto(path, target.data.shape, target.affine) for path in (t1w, std_t1w))
    yield Drawn(registration_figure(
        target.data, before, after, target.affine, isolines(target.data, inside),
        names=("template", "T1w before", "T1w after"), mask=inside,
    ), "norm", ANATOMICAL)  # fmt: skip


@reportlet
def PairReport(
    *,
    train_highres: FileName,
    train_lowres: FileName,
    pair_mask: FileName = NO_FILE,
    highres: FileName = NO_FILE,
    pair_json: FileName = NO_FILE,
) -> Iterator[Drawn]:
    """The T2*w pair as used for training (in the frame of lowres), and its register before and after."""
    from bids_sr.reports.figures.anat_figures import AXIAL_VIEWS, isolines, registration_figure
    from bids_sr.reports.figures.style import NamedImage
    from bids_sr.reports.figures.superres_figures import pair_figure
    from bids_sr.reports.tables.html_tables import pair_html

    high, low = tools.load(train_highres), tools.load(train_lowres)
    mask = tools.load(pair_mask) if pair_mask else None
    below = NamedImage(name="low resolution", data=low.data, affine=low.affine)
    above = NamedImage(name="high resolution", data=high.data, affine=high.affine)
    yield Drawn(pair_figure(below, above, None if mask is None else mask.data), "pair", PAIR)
    if highres:
        grid = high.data.shape, high.affine
        reference, before = tools.onto(low, *grid), tools.onto(highres, *grid)
        inside = None if mask is None else tools.onto(mask, *grid) > 0.5
        yield Drawn(registration_figure(
            reference, before, high.data, high.affine, isolines(reference, inside), mask=inside, views=AXIAL_VIEWS,
            names=("low resolution", "high res. before", "high res. after"),
        ), "pairreg", PAIR)  # fmt: skip
    if pair_json:
        yield Drawn(pair_html(tools.read_json(pair_json)), "pairinfo", PAIR)


@reportlet
def TrainingReport(
    *, log_file: FileName, card_file: FileName, method: str = "", of_run: bool = False
) -> Iterator[Drawn]:
    """The training curve with the levels of plain interpolation, and what the model's card says.

    Parameters
    ----------
    method : its name, where several are trained: goes into desc
    of_run : trained on the volumes of a run, not on the pair
    """
    from bids_sr.reports.figures.superres_figures import training_figure
    from bids_sr.reports.tables.html_tables import card_html
    from bids_sr.reports.text.training_text import read_training
    from bids_sr.sr.models.card_checks import ModelCard

    kept = tools.read_json(card_file)
    card = {**kept, "recipe": ModelCard.from_json(kept).recipe}
    stem, suffix = ("volume", "bold") if of_run else ("", PAIR)
    label = method[:1].upper() + method[1:]
    figure = training_figure(read_training(tools.table(log_file), card))
    yield Drawn(figure, f"{stem}training{label}", suffix)
    yield Drawn(card_html(card), f"{stem}card{label}", suffix)


@reportlet
def CoregReport(
    *,
    boldref: FileName,
    t1w_preproc: FileName,
    t1w_mask: FileName,
    t1w_tpms: Sequence[FileName] = (),
    boldref2t1w_xfm: FileName,
) -> Iterator[Drawn]:
    """BOLD reference against T1w, before and after registration."""
    from bids_sr.reports.figures.anat_figures import Outline, registration_figure
    from bids_sr.reports.figures.style import PURPLE, RED

    grid = tools.display_grid(tools.load(t1w_mask))
    inside = tools.onto(t1w_mask, *grid)
    lines = [Outline(name="brain mask of T1w", data=inside, color=RED)]
    if len(t1w_tpms) > 1:
        lines.append(Outline(name="white matter of T1w", data=tools.onto(t1w_tpms[1], *grid), color=PURPLE))
    before = tools.onto(boldref, *grid)
    after = tools.onto(boldref, *grid, tools.first_matrix(boldref2t1w_xfm))
    brain = inside > 0.5
    covered = brain & (after > 0)
    yield Drawn(registration_figure(
        tools.onto(t1w_preproc, *grid), before, after, grid[1], lines, names=("T1w", "boldref before", "boldref after"),
        mask=covered if covered.any() else brain,
    ), "coreg")  # fmt: skip


@reportlet
def GuideReport(
    *, boldref: FileName, guide_hr: FileName, highres: FileName = NO_FILE, mask_hr: FileName = NO_FILE
) -> Iterator[Drawn]:
    """Highres T2*w against the BOLD reference, before and after registration (`guide_hr`: on its high-res. grid)."""
    from bids_sr.reports.figures.anat_figures import AXIAL_VIEWS, isolines, registration_figure

    guide = tools.load(guide_hr)
    grid = guide.data.shape, guide.affine
    reference = tools.onto(boldref, *grid)
    mask = tools.load(mask_hr).data if mask_hr else None
    yield Drawn(registration_figure(
        reference, tools.onto(highres or guide, *grid), guide.data, guide.affine, isolines(reference, mask), mask=mask,
        views=AXIAL_VIEWS, names=("boldref", "highres before", "highres after"),
    ), "highres")  # fmt: skip


@reportlet
def MotionReport(
    *, confounds_tsv: FileName, preproc_file: FileName, mask: FileName, tpms: Sequence[FileName] = (), n_dummy: int = 0
) -> Iterator[Drawn]:
    """Motion parameters, FD and DVARS, and the carpet plot of the motion-corrected series."""
    from bids_sr.reports.figures.motion_figures import carpet_figure, carpet_rows, motion_figure

    columns = tools.table(confounds_tsv)
    tissues = {name: tools.load(path).data for name, path in zip(("GM", "WM", "CSF"), tpms, strict=False)}
    rows, groups, tr = tools.carpet(preproc_file, tools.load(mask).data, tissues)
    yield Drawn(motion_figure(columns, tr, n_dummy=n_dummy), "motion")
    wanted = (("FD (mm)", "framewise_displacement"), ("DVARS", "std_dvars"), ("global", "global_signal"))
    traces = {label: columns[name] for label, name in wanted if name in columns}
    yield Drawn(carpet_figure(carpet_rows(rows, n_dummy), groups, tr, traces=traces, n_dummy=n_dummy), "carpet")


@reportlet
def RegistrationReport(*, in_json: FileName) -> Iterator[Drawn]:
    """How well the run was registered, with a warning for whatever seems wrong."""
    from bids_sr.reports.tables.html_tables import registration_html

    yield Drawn(registration_html(tools.read_json(in_json)), "registration")


@reportlet
def CalibrationReport(
    *,
    boldref: FileName,
    bold_mask: FileName,
    calibration_ref: FileName,
    sd_file: FileName,
    boldref2calibration_xfm: FileName,
    calibration_json: FileName,
) -> Iterator[Drawn]:
    """The calibration against the run, its standard deviation map in the place of the run, and what it told."""
    from bids_sr.reports.figures.anat_figures import AXIAL_VIEWS, isolines, registration_figure
    from bids_sr.reports.figures.style import NamedImage
    from bids_sr.reports.figures.superres_figures import pair_figure
    from bids_sr.reports.tables.html_tables import calibration_html
    from bids_sr.spatial.masks import voxel_sizes
    from bids_sr.spatial.transforms import hr_grid

    facts: dict[str, Any] = tools.read_json(calibration_json)
    low, own, mask = tools.load(boldref), tools.load(calibration_ref), tools.load(bold_mask)
    ratio = voxel_sizes(low.affine) / voxel_sizes(own.affine)
    grid = hr_grid(low.data.shape, low.affine, [max(float(each), 1.0) for each in ratio])
    matrix = tools.first_matrix(boldref2calibration_xfm)
    inside, reference = tools.onto(mask, *grid) > 0.5, tools.onto(low, *grid)
    yield Drawn(registration_figure(
        reference, tools.onto(own, *grid), tools.onto(own, *grid, matrix), grid[1], isolines(reference, inside),
        mask=inside, views=AXIAL_VIEWS, names=("boldref", "calibration before", "calibration after"),
    ), "calibrationreg")  # fmt: skip
    if facts["usable"]:
        shown = NamedImage(name="standard deviation", data=tools.onto(sd_file, *grid, matrix), affine=grid[1])
        below = NamedImage(name="boldref", data=low.data, affine=low.affine)
        yield Drawn(pair_figure(below, shown, mask.data), "calibrationsd")
    yield Drawn(calibration_html(facts, float(voxel_sizes(low.affine)[:2].max())), "calibrationfacts")


@reportlet
def SummaryReport(
    *, summary: Mapping[str, Any], n_dummy: int | None = None, desc: str = "summary", suffix: str = ANATOMICAL
) -> Iterator[Drawn]:
    """What was found and what was done, with warnings aloud; see `summary_html`."""
    from bids_sr.reports.tables.html_tables import summary_html

    dummies = {} if n_dummy is None else {"Non-steady volumes": n_dummy}
    yield Drawn(summary_html({**summary, **dummies}), desc, suffix)
