"""Test the map viewer of the report: maps are recovered on their own grids, and sizes are
limited.
"""

import base64
import gzip
import html
import json
import re
import weakref
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from data.maps import mapped
from data.page import Page
from data.rows import judge_rows, make_tested_rows
from figure_helpers import content_of
from scipy import ndimage

from bids_sr.config.levels import StoredMaps
from bids_sr.engine.artifacts import Derivative, Volume
from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.changes import Change
from bids_sr.evaluation.detail_support import ContrastResult, RegionResult
from bids_sr.evaluation.result import make_result
from bids_sr.evaluation.run_evidence import RunEvidence
from bids_sr.glm.contrasts import resolve_contrasts
from bids_sr.io.smoothing_words import smoothing_text
from bids_sr.report.figure_steps.map_viewer import ViewedMaps, show_viewer
from bids_sr.report.figure_steps.overview import (
    JudgedRun,
    RunPage,
    draw_network_overview,
    draw_overview,
    show_reasons,
)
from bids_sr.report.figure_steps.run_maps import SceneImages, sort_maps
from bids_sr.report.figures.map_viewer import (
    MAX_BYTES,
    LazyVolumes,
    bytes_per_run,
    encode_image,
    make_mni_nodes,
    viewer_html,
)
from bids_sr.report.figures.maps import CC_DISPLAY, T_DISPLAY
from bids_sr.report.figures.slices import reorient_to_ras

FINE, COARSE = np.diag([-3.0, 3, 3, 1]), np.diag([-6.0, 6, 3, 1])
MASK = np.ones((12, 12, 5))
BRAIN = Volume(MASK, FINE)
STORED = StoredMaps(
    level="standard",
    methods=["srgan", "sbl"],
    smoothing=[0.0, 5.0],
    thresholds=["quarter", "fdr"],
    kinds=["glm"],
    primary="sbl",
)
"""Settings that determine which maps are stored as files."""


def decode_map(text: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def content_of_viewer(page: str) -> dict:
    return json.loads(
        re.search(r"<script type='application/json'>(.*?)</script>", page, flags=re.DOTALL)[1]
    )


def simulated_maps(contrasts=("all",), smoothings=("none",), value=8.0) -> dict:
    rng = np.random.default_rng(0)
    maps = {}
    for contrast in contrasts:
        for smoothing in smoothings:
            coarse, fine = rng.standard_normal((6, 6, 5)), rng.standard_normal((12, 12, 5))
            fine[2, 3, 4] = coarse[1, 1, 4] = value
            maps[contrast, smoothing] = {
                "acquired": Volume(coarse, COARSE),
                "sbl": Volume(fine, FINE),
            }
    return maps


def test_faster_compression_is_at_most_3_percent_larger():
    values = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((60, 60, 40)), 1)
    values *= 3 / values.std()
    values[np.abs(values) < 2.5] = 0
    text = encode_image(Volume(values.astype(np.float32), FINE), slope=0.1)
    smallest = gzip.compress(gzip.decompress(base64.b64decode(text)), 9, mtime=0)
    assert len(base64.b64decode(text)) < 1.03 * len(smallest)
    assert len(base64.b64decode(text)) != len(smallest)


def test_a_map_is_recovered_in_ras_order_within_half_a_step():
    data = np.random.default_rng(1).normal(0, 4, (6, 5, 4))
    image = decode_map(encode_image(Volume(data, FINE), slope=0.1))
    assert image.get_data_dtype() == np.int8
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert np.abs(image.get_fdata() - data[::-1]).max() <= 0.05 + 1e-6
    corner = image.affine @ [0, 0, 0, 1]
    assert corner[0] == pytest.approx((FINE @ [5, 0, 0, 1])[0])
    assert encode_image(Volume(data, FINE), slope=0.1) == encode_image(
        Volume(data, FINE), slope=0.1
    )


def test_maps_stay_on_their_grids_and_small_values_are_set_to_0():
    content = content_of_viewer(viewer_html(simulated_maps(), Volume(100 * MASK, FINE), BRAIN))
    acquired, fine = (
        decode_map(content["maps"][f"all|none|t|{name}"]) for name in ("acquired", "sbl")
    )
    assert acquired.shape == (6, 6, 5)
    assert fine.shape == (12, 12, 5)
    values = np.abs(fine.get_fdata())
    assert values.max() == pytest.approx(8.0, abs=0.05)
    assert not ((values > 0) & (values < content["least"] - 0.1)).any()
    # a voxel of the peak of the first map
    assert content["at"] == [round(8.5 / 12, 5), round(2.5 / 12, 5), 0.9]
    assert content["first"] == {
        "contrast": "all",
        "smoothing": "none",
        "statistic": "t",
        "series": "acquired",
    }


def test_effects_are_included_where_t_is():
    t, effect = np.full((12, 12, 5), 2.0), np.full((12, 12, 5), 1.25)
    t[:2], effect[0] = -4.0, -0.5
    maps, effects = ({("all", "none"): {"sbl": Volume(data, FINE)}} for data in (t, effect))
    html = viewer_html(maps, Volume(MASK, FINE), BRAIN, effects=effects)
    content = content_of_viewer(html)
    shown = decode_map(content["maps"]["all|none|effect|sbl"]).get_fdata()[::-1]
    assert shown[0] == pytest.approx(-0.5, abs=0.01)
    assert shown[1] == pytest.approx(1.25, abs=0.01)
    assert not shown[2:].any()
    assert content["first"]["statistic"] == "effect"
    assert content["limits"] == {"all|none|t": 6.0, "all|none|effect": 1.0}


def test_maps_that_exceed_the_page_size_are_omitted_and_named():
    by_smoothing = [simulated_maps(("all", "faces"), (width,)) for width in ("none", "5 mm")]
    maps = by_smoothing[0] | by_smoothing[1]
    background = Volume(MASK, FINE)
    complete = content_of_viewer(viewer_html(maps, background, BRAIN))
    size = sum(len(text) for key, text in complete["maps"].items() if "|none|" in key)
    size += len(complete["background"])
    html = viewer_html(maps, background, BRAIN, max_bytes=size + 200)
    content = content_of_viewer(html)
    assert {key.split("|")[1] for key in content["maps"]} == {"none"}
    assert content["contrasts"] == ["all", "faces"]
    assert content["smoothings"] == ["none"]
    assert "size of the page: all, faces (smoothing: 5 mm)." in html


def test_at_most_two_contrasts_are_in_memory():
    """Typical runs have 26 contrasts and smoothings with about a million voxels per series."""
    references, alive_counts = [], []

    class Stored:
        @property
        def volume(self) -> Volume:
            data = np.random.default_rng(0).normal(0, 4, (12, 12, 5))
            references.append(weakref.ref(data))
            alive_counts.append(sum(reference() is not None for reference in references))
            return Volume(data, FINE)

    maps = {
        (contrast, smoothing): LazyVolumes({"acquired": Stored(), "sbl": Stored()})
        for contrast in "abc"
        for smoothing in ("none", "5 mm")
    }
    content = content_of_viewer(viewer_html(maps, Volume(MASK, FINE), BRAIN))
    assert len(content["maps"]) == 12
    assert max(alive_counts) <= 4


def test_contrast_names_cannot_close_the_data_block():
    maps = simulated_maps(("</script><b>",))
    html = viewer_html(maps, Volume(MASK, FINE), BRAIN)
    assert html.count("</script>") == 1
    assert "</script><b>|none|t|sbl" in content_of_viewer(html)["maps"]


def test_no_maps_give_an_empty_viewer():
    assert viewer_html({}, Volume(MASK, FINE), BRAIN) == ""


@pytest.mark.parametrize("top", [3.3, 8.0, 15.7, 40.0])
def test_viewer_and_figures_show_the_same_voxels_at_the_threshold(top):
    """Quantization steps are aligned so that no value is rounded across the threshold."""
    rng = np.random.default_rng(3)
    data = rng.uniform(2.6, 3.6, (12, 12, 5))
    data[0, 0, 0] = top
    maps = {("all", "none"): {"sbl": Volume(data, FINE)}}
    content = content_of_viewer(viewer_html(maps, Volume(MASK, FINE), BRAIN))
    shown = decode_map(content["maps"]["all|none|t|sbl"]).get_fdata() > content["threshold"]
    assert np.array_equal(shown, data[::-1] > T_DISPLAY.threshold)


@pytest.mark.parametrize(("display", "step"), [(T_DISPLAY, 0.1), (CC_DISPLAY, 0.01)])
def test_the_slider_step_depends_on_the_statistic(display, step):
    html = viewer_html(simulated_maps(), Volume(MASK, FINE), BRAIN, display=display)
    assert content_of_viewer(html)["step"] == step


def test_runs_share_the_size_limit_of_a_page():
    assert bytes_per_run(1) == MAX_BYTES
    assert 5 * bytes_per_run(4) <= MAX_BYTES, "four runs, and all together"


SERIES = {
    "acquired": (COARSE, (6, 6, 5)),
    **dict.fromkeys(("bspline", "srgan", "sbl"), (FINE, (12, 12, 5))),
}
BRAIN = Volume(MASK > 0, FINE)
ENTITIES = {"subject": "01", "session": "b", "task": "a", "datatype": "func"}


def maps_of_run(
    data_of=lambda number, shape: np.full(shape, 5, np.float32), tilt=None
) -> list[Derivative]:
    """Return maps of three methods and two contrasts."""
    derivatives = []
    for series, (affine, shape) in SERIES.items():
        for contrast in ("faces", "all"):
            for fwhm in ("Fwhm50", ""):
                entities = {
                    "contrast": contrast,
                    "stat": "t",
                    "desc": series + fwhm,
                    "suffix": "statmap",
                }
                grid = (
                    affine
                    if tilt is None
                    else tilt @ np.diag([12 / shape[0], 12 / shape[1], 1, 1])
                )
                derivatives.append(
                    mapped(Volume(data_of(len(derivatives), shape), grid), entities)
                )
    return derivatives


BEST = RunEvidence(best="sbl")


def fragment_of(maps, evidence, brain=BRAIN, level="full") -> str:
    """Return the viewer of a run."""
    drawn = show_viewer(
        maps,
        SceneImages(
            bold_mask_hr=brain, roi_hr=brain, boldref=brain.like(brain.data.astype(np.float32))
        ),
        evidence,
        series_names=["bspline", "srgan", "sbl"],
        n_runs=1,
        entities=ENTITIES,
        stored=replace(STORED, level=level),
    )
    return content_of(drawn, "viewer", html=True)


def viewer_of(maps, evidence=BEST, brain=BRAIN) -> dict:
    """Return the content of the viewer."""
    return content_of_viewer(fragment_of(maps, evidence, brain))


@pytest.mark.parametrize(
    ("best", "judged", "contrast", "series"),
    [
        ("sbl", "faces", "faces", "sbl"),
        ("srgan", "all", "all", "srgan"),
        ("", "faces", "all", "bspline"),
    ],
)
def test_the_viewer_starts_with_method_and_contrast_of_the_verdict(best, judged, contrast, series):
    """Show the best method, unless not applied, and the contrast of the verdict."""
    row = MetricRow(
        series="sbl",
        statistic="ev",
        band="beyond",
        reference="measured",
        value=0.2,
        lower=0.1,
        upper=0.3,
        contrast=judged,
    )
    methods = [best] if best else []
    evidence = judge_rows([row, replace(row, series="srgan")], methods).evidence
    content = viewer_of(maps_of_run(), evidence)
    first = {"contrast": contrast, "smoothing": "none", "statistic": "t", "series": series}
    assert content["first"] == first
    assert content["series"] == ["acquired", "bspline", "srgan", "sbl"]
    assert content["smoothings"] == ["none", "5 mm"]
    assert len(content["maps"]) == 16


def judge_nothing():
    """Return verdict and evidence of a run without any metrics."""
    verdict = judge_rows([], ["sbl"])
    return verdict.to_json(), verdict.evidence


PAGE = RunPage(
    entities={"subject": "01", "task": "a"},
    n_volumes=1,
    zooms=(6.26, 6.26, 3.0),
    factor=(2, 2, 1),
    stored=replace(STORED, minus_others=("allMinusOthers", "facesMinusOthers")),
    has_regions=False,
)


def draw_first_screen(verdict, evidence, maps, images) -> list[Derivative]:
    run = JudgedRun(verdict=verdict, evidence=evidence, registration={}, maps=maps, images=images)
    return draw_overview(run, page=PAGE)


def explain_first_screen(verdict, evidence, contrasts) -> list[Derivative]:
    confounds = pd.DataFrame({"framewise_displacement": [0.1]})
    return show_reasons(
        [],
        verdict,
        evidence,
        {},
        confounds,
        zooms=PAGE.zooms,
        factor=PAGE.factor,
        contrasts=contrasts,
        minus_others=PAGE.stored.minus_others,
        description="simulated 6 mm",
    )


def test_the_answers_of_the_first_verdict_stay_and_another_method_is_added_below():
    rows = make_tested_rows({"all": ((0.5, 0.1), (0.4, 0.1))}, series="sbl")
    measured = [
        MetricRow(
            series=name,
            statistic="ev",
            band="beyond",
            reference="measured",
            value=value,
            lower=value - 0.05,
            upper=value + 0.05,
            contrast="all",
            region=region,
        )
        for name, value in (("sbl", 0.3), ("srgan", 0.6), ("bspline", 0.0), ("measured", 0.9))
        for region in ("acquired40", "brain")
    ]
    first_rows = [*rows, *(row for row in measured if row.series != "srgan")]
    images = SceneImages(
        bold_mask_hr=BRAIN, roi_hr=BRAIN, boldref=BRAIN.like(BRAIN.data.astype(np.float32))
    )

    def gather(judged) -> JudgedRun:
        return JudgedRun(
            verdict=judged.to_json(),
            evidence=judged.evidence,
            registration={},
            maps=maps_of_run(),
            images=images,
        )

    def text_of(drawn) -> str:
        (item,) = drawn
        return Page(item.content).text.replace("\N{NO-BREAK SPACE}", " ")

    first = judge_rows(first_rows, ["sbl"])
    last = judge_rows([*rows, *measured], ["srgan", "sbl"])
    assert (first.evidence.best, last.evidence.best) == ("sbl", "srgan")
    assert "sbl explains 30 %" in text_of(draw_overview(gather(first), page=PAGE))
    added = draw_network_overview(gather(last), first.evidence, page=PAGE)
    assert "srgan explains 60 %" in text_of(added)
    weaker = [row for row in measured if row.series != "srgan"]
    weaker += [
        replace(row, value=0.1, lower=0.05, upper=0.15)
        for row in measured
        if row.series == "srgan"
    ]
    last = judge_rows([*rows, *weaker], ["srgan", "sbl"])
    assert last.evidence.result == first.evidence.result
    assert draw_network_overview(gather(last), first.evidence, page=PAGE) == []


def test_the_first_screen_states_request_smoothing_and_voxel_sizes():
    """Slices are oblique."""
    tilted = FINE.copy()
    tilted[2, :3] = 0.9, -0.6, 3.0
    rng = np.random.default_rng(5)

    def data_of(number, shape):
        data = rng.normal(0, 3 + number, shape).astype(np.float32)
        data[-2, 1, 3] = 60
        return data

    types = {"all": "all", "faces": "2 faces"}
    maps = [
        replace(item, sidecar=item.sidecar | {"ContrastWeights": {types[name]: 1.0}})
        for item in maps_of_run(data_of, tilted)
        if (name := item.entities["contrast"])
    ]
    brain = Volume(MASK > 0, tilted)
    signal = brain.like(MASK.astype(np.float32))
    images = SceneImages(bold_mask_hr=brain, roi_hr=brain, boldref=signal)
    drawn = draw_first_screen(*judge_nothing(), maps, images)
    contrasts = {name: {trial_type: 1.0} for name, trial_type in types.items()}
    why = content_of(explain_first_screen(*judge_nothing(), contrasts), "why", html=True)
    assert "Simulated 6 mm" in why
    request = re.search(r"--contrasts defaults '(.+?)'", html.unescape(why))
    assert resolve_contrasts([*types.values()], [request[1]]) == {
        "typeAllMinus2Faces": {"all": 1.0, "2 faces": -1.0}
    }
    smoothed = [
        replace(item, sidecar={**item.sidecar, "InputSmoothingFWHM": 13.2}) for item in maps
    ]
    verdict, evidence = judge_nothing()
    for shown, is_named in ((maps, False), (smoothed, True)):
        drawn_overview = draw_first_screen(verdict, evidence, shown, images)
        overview = content_of(drawn_overview, "overview", html=True)
        assert (smoothing_text(0, 13.2) in overview) is is_named
    screen = Page(content_of(drawn, "overview", html=True))
    pictures = [part for part in screen.all("div") if part.all("div", "picture")][1:]
    assert [part.attributes["data-for"] for part in pictures] == ["all", "faces"]
    for picture in pictures:
        assert [caption.text for caption in picture.all("figcaption")] == [
            "acquired 6.26 mm",
            "B-spline 3.13 mm",
        ]


@pytest.mark.parametrize("state", ["recovered", "not supported", "not testable"])
def test_only_recovered_contrasts_have_a_picture_of_the_error(state):
    """The mask of sign reliable voxels exists in all cases, as in files of an earlier version."""
    reliable = np.zeros((12, 12, 5), np.uint8)
    reliable[4:8, 4:8] = 1
    names = {"contrast": "all", "desc": "sbl", "suffix": "statmap"}
    values = np.full((12, 12, 5), 5, np.float32)
    region = mapped(
        Volume(reliable, FINE), {"label": "all", "desc": "sblSignReliable", "suffix": "mask"}
    )
    maps = [
        *maps_of_run(),
        *(mapped(Volume(values, FINE), {**names, "stat": stat}) for stat in ("effect", "sd")),
        mapped(Volume(values, FINE), {**names, "stat": "effect", "desc": "acquired"}),
        replace(
            region,
            sidecar={**region.sidecar, "SourceSeries": "sbl", "ThresholdLabel": "SignReliable"},
        ),
    ]
    images = SceneImages(
        bold_mask_hr=BRAIN, roi_hr=BRAIN, boldref=BRAIN.like(MASK.astype(np.float32))
    )
    verdict, evidence = judge_nothing()
    test = RegionResult(state=state)
    result = ContrastResult(contrast="allWithoutFace", map_contrast="all", active=test, brain=test)
    evidence = replace(evidence, result=make_result("sbl", {"allWithoutFace": result}, []))
    drawn = draw_first_screen(verdict, evidence, maps, images)
    if state != "recovered":
        assert not [figure for figure in drawn if figure.entities["desc"] == "error"]
        return
    page = Page(content_of(drawn, "error", html=True))
    assert [path for path in page.all("path") if path.attributes["class"] == "mark"]
    assert "sign reliable voxels outlined" in page.text


def test_a_difference_shows_the_method_at_the_safe_width_with_significant_voxels_outlined():
    """The detail of the contrast over runs and of the other contrast was not recovered."""
    significant = np.zeros((12, 12, 5), np.uint8)
    significant[4:8, 4:8] = 1
    names = {"label": "faces", "desc": "sblFwhm50Fdr", "suffix": "mask"}
    region = mapped(Volume(significant, FINE), names)
    sidecar = {"SourceSeries": "sbl", "ThresholdLabel": "Fdr", "SmoothingFWHM": 5.0}
    maps = [*maps_of_run(), replace(region, sidecar={**region.sidecar, **sidecar})]
    region_result = RegionResult(state="not supported")
    results = {
        name: ContrastResult(
            contrast=name, map_contrast=name, active=region_result, brain=region_result
        )
        for name in ("all", "faces")
    }
    change = Change(
        contrast="faces",
        name="faces",
        regions=(),
        n_labels=0,
        smallest_q=1.0,
        named=1.0,
        searched=1.0,
    )
    viewed = ViewedMaps(
        shown_maps=sort_maps(maps),
        images=SceneImages(bold_mask_hr=BRAIN, roi_hr=BRAIN, boldref=BRAIN.like(MASK)),
        result=replace(make_result("sbl", results, []), changes=(change,)),
        n_runs=2,
        entities=ENTITIES,
        stored=STORED,
        space="firstBoldref",
        over_runs={"faces": "faces@ses-post − faces@ses-pre"},
    )
    content = content_of_viewer(viewed.render("faces", "sbl", None, None))
    shown = {key.rpartition("|t|")[0] for key in content["maps"] if key.endswith("|sbl")}
    assert shown == {"faces|5 mm"}
    assert [key for key in content["maps"] if key.endswith("mask")] == ["faces|5 mm||mask"]
    assert "space-firstBoldref" in content["files"]["faces|none|t|bspline"]
    assert content["names"] == {"faces": "faces@ses-post − faces@ses-pre", "all": "all"}


def test_a_preview_is_described_as_such_and_names_its_file():
    content = viewer_of(maps_of_run())
    description = decode_map(content["maps"]["all|5 mm|t|sbl"]).header["descrip"].item().decode()
    assert description == "bids-sr preview: |t| < 2.5 set to 0, rounded to 8 bit; not the map"
    name = "sub-01_ses-b_task-a_space-boldref_contrast-all_stat-t_desc-sblFwhm50_statmap.nii.gz"
    assert content["files"]["all|5 mm|t|sbl"] == f"sub-01/ses-b/func/{name}"
    assert set(content["files"]) == set(content["maps"])


def test_the_viewer_shows_the_same_maps_at_each_level_and_names_stored_files():
    maps = maps_of_run()
    content_by_level = {
        level: content_of_viewer(fragment_of(maps, BEST, level=level))
        for level in ("minimal", "standard", "full")
    }
    assert (
        content_by_level["minimal"]["maps"]
        == content_by_level["standard"]["maps"]
        == content_by_level["full"]["maps"]
    )
    assert content_by_level["minimal"]["files"] == {}
    assert {*content_by_level["standard"]["maps"]} - {*content_by_level["standard"]["files"]} == {
        f"{contrast}|5 mm|t|{series}"
        for contrast in ("all", "faces")
        for series in ("acquired", "bspline", "srgan", "sbl")
    }
    assert "a link to the file is shown below the viewer" in fragment_of(
        maps, BEST, level="standard"
    )
    assert "maps are not stored" in fragment_of(maps, BEST, level="minimal")


def test_mni_coordinates_cover_the_whole_field_of_view():
    background = Volume(MASK, FINE)
    volume = reorient_to_ras(BRAIN)
    nodes = make_mni_nodes(volume.data.shape, volume.affine)
    html = viewer_html(simulated_maps(), background, BRAIN, mni=np.add(nodes, [1, 2, 3]))
    grid = content_of_viewer(html)["mni"]
    points = (
        np.frombuffer(base64.b64decode(grid["tenths"]), dtype="<i2").reshape(*grid["size"], 3) / 10
    )
    edges = [
        (volume.affine @ [*(-0.5 if end == 0 else n - 0.5 for n in volume.data.shape), 1])[:3]
        for end in (0, 1)
    ]
    assert points[0, 0, 0] == pytest.approx(edges[0] + [1, 2, 3])
    assert points[-1, -1, -1] == pytest.approx(edges[1] + [1, 2, 3])
