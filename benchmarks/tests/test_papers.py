"""Test the tables of the papers: their numbers, and their page."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import _papers_curves as papers_curves
import _papers_heads as heads
import _papers_lesions as lesions
import _papers_mouse as mouse
import _papers_ota as ota
import _papers_portions as portions
import _papers_slices as slices
import _papers_training as training
import _papers_tv as tv
import _table
import numpy as np
import papers
import papers_data
import pytest
from pages import ROOT, loaded

from bids_sr.spatial.matrices import downsample, upsample
from bids_sr.sr.method import get_method

PAGE = loaded(ROOT / "docs/papers_page.py")
PARSERS = dict(loaded(ROOT / "docs/options_page.py").commands())


def test_numbers_and_tables_of_the_page_are_read_from_stored_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PAGE, "RESULTS", tmp_path)
    monkeypatch.setattr(_table, "RESULTS", tmp_path)
    monkeypatch.setattr(_table, "commit", lambda: "85ca1a4b")
    rows = [
        {"trained": "a-1", "tested": "b", "gain": "-0.25 ± 0.10", "paper": 10.5},
        {"trained": "b", "tested": "b", "gain": "1.50 ± 0.10", "paper": "–"},
        {"trained": "b", "tested": "c", "gain": "0.75 (0.10 to 2.00)", "paper": "–"},
    ]
    _table.keep("papers_new", "Title", rows)
    filled = PAGE.filled(
        "<!--=papers_new / a-1 / gain-->?<!--/--> <!--=papers_new / tested=b / gain--><!--/-->"
    )
    assert "-->−.25<!--/-->" in filled
    assert "-->−.25 to 1.50<!--/-->" in filled
    assert PAGE.filled(filled) == filled
    assert PAGE.chosen("papers_new", {"trained": "network"})[0] == {"network": "a-1"}
    assert PAGE.crossed(rows, "trained", "tested", "gain", "paper") == [
        {"trained": "a-1", "b": "−.25 (10.5)"},
        {"trained": "b", "b": "1.50 (–)", "c": ".75 (–)"},
    ]


def test_block_mean_averages_blocks_and_drops_incomplete_blocks() -> None:
    image = np.arange(4 * 4 * 5, dtype=np.float32).reshape(4, 4, 5)
    small = mouse.block_mean(image, 2)
    assert small.shape == (2, 2, 2)
    assert small[0, 0, 0] == image[:2, :2, :2].mean()
    assert small[1, 1, 1] == image[2:, 2:, 2:4].mean()


def test_scores_use_voxels_of_the_head_and_differences_the_baseline() -> None:
    reference = np.zeros((12, 12, 6), np.float32)
    reference[2:10, 2:10] = np.linspace(50, 100, 8, dtype=np.float32)[:, None, None]
    noisy = reference + np.where(reference > 0, 5, 99)  # errors outside the head do not count
    metrics = training.scores(reference, noisy.astype(np.float32))
    assert metrics["rmse"] == pytest.approx(5)
    assert metrics["psnr"] == pytest.approx(20 * math.log10(50 / 5))
    assert training.scores(reference, reference)["ssim"] == pytest.approx(1)


def test_a_row_of_table_1_has_differences_in_the_same_volumes() -> None:
    values = [{"psnr": 31.256, "ssim": 0.9}, {"psnr": 33.256, "ssim": 0.9}]
    base = [{"psnr": 30.0, "ssim": 0.85}, {"psnr": 32.0, "ssim": 0.85}]
    spline = [{"psnr": 32.0, "ssim": 0.9}, {"psnr": 33.0, "ssim": 0.9}]
    row = tv.row_of(3, "tv", values, base, spline, (73.53, 0.9218))
    assert row["factor"] == "×2"
    assert row["PSNR"] == "32.26 ± 1.41"
    assert row["PSNR − trilinear"] == "1.26 ± 0.00"
    assert row["PSNR − cubic spline"] == "-0.24 ± 0.71"
    assert row["SSIM − trilinear"] == "0.0500 ± 0.0000"
    assert row["paper: PSNR − trilinear"] == 3.94
    assert row["paper: PSNR − cubic spline"] == 6.11


def test_a_short_training_is_reproducible() -> None:
    rng = np.random.default_rng(0)
    fine = (100 + 10 * rng.standard_normal((24, 24, 8))).astype(np.float32)
    image = training.image_of(fine, (1.0, 1.0, 1.0), "T1w", "noise")
    factor = (2.0, 2.0, 2.0)
    low, covered = training.downsample(fine, "block", factor)
    recipe = training.short_recipe("ccnn3d", 3, patch=8, batch=1, upsampled_by="bspline")
    first, second = (
        training.upsample(training.train("ccnn3d", recipe, [image], factor), low, factor)
        for _ in range(2)
    )
    assert first.shape == covered.shape
    assert np.array_equal(first, second)


def noise_training(steps: int) -> dict[str, Any]:
    """Arguments of a short training on noise, with a score of its output."""
    rng = np.random.default_rng(0)
    fine = (100 + 10 * rng.standard_normal((24, 24, 8))).astype(np.float32)
    factor = (2.0, 2.0, 2.0)
    low, covered = training.downsample(fine, "block", factor)
    return {
        "method": "ccnn3d",
        "recipe": training.short_recipe(
            "ccnn3d", steps, patch=8, batch=1, upsampled_by="bspline", evaluate_every=2
        ),
        "images": [training.image_of(fine, (1.0, 1.0, 1.0), "T1w", "noise")],
        "factor": factor,
        "score": lambda network: training.scores(covered, training.upsample(network, low, factor))[
            "psnr"
        ],
    }


def test_a_training_in_portions_equals_one_in_a_single_call(tmp_path: Path) -> None:
    arguments = noise_training(6)
    whole, curve = portions.Portion(tmp_path / "whole").train("a", **arguments)
    assert list(curve) == [2, 4, 6]
    # each step is later than this limit, so that a call makes one step
    for _ in range(5):
        with pytest.raises(portions.PortionEnded, match="a"):
            portions.Portion(tmp_path / "parts", minutes=1e-5).train("a", **arguments)
    parts, curve_of_parts = portions.Portion(tmp_path / "parts").train("a", **arguments)
    assert curve_of_parts == curve
    for key, value in whole.generator.state_dict().items():
        assert np.array_equal(value, parts.generator.state_dict()[key])
    # a finished training is read and not repeated
    again, curve_again = portions.Portion(tmp_path / "parts", minutes=-1).train("a", **arguments)
    assert curve_again == curve
    assert again.card.weights_sha256 == parts.card.weights_sha256
    with pytest.raises(portions.PortionEnded):
        portions.Portion(tmp_path / "parts", minutes=-1).train("b", **arguments)


def test_the_last_value_of_a_curve_is_the_score_of_the_trained_network(tmp_path: Path) -> None:
    arguments = noise_training(4)
    arguments["recipe"] = replace(arguments["recipe"], keep="last")
    network, curve = portions.Portion(tmp_path).train("a", **arguments)
    assert curve[4] == pytest.approx(arguments["score"](network), abs=1e-4)
    assert curve[2] != pytest.approx(curve[4], abs=1e-4)


def test_figures_are_drawn_from_the_stored_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_table, "RESULTS", tmp_path)
    monkeypatch.setattr(_table, "commit", lambda: "85ca1a4b")
    monkeypatch.setattr(papers_curves, "FIGURES", tmp_path)
    panel = papers_curves.Panel("×2", {"tv": {200: 23.5, 100: 22.0}}, {"cubic spline": 22.5})
    papers_curves.keep_curves("new", "Title", [panel], "Remark.")
    (stored,) = papers_curves.stored_panels("curves_new")
    assert stored == replace(panel, curves={"tv": {100: 22.0, 200: 23.5}})
    figure = papers_curves.figure_path("curves_new").read_text()
    # the curve begins below the line of the spline and ends above it (y grows downward)
    ((_, first), (_, last)) = [
        map(float, point.split(","))
        for point in re.findall(r'polyline points="([^"]*)"', figure)[0].split()
    ]
    (line,) = re.findall(rf"M{papers_curves.LEFT} ([\d.]+)h{papers_curves.WIDTH}", figure)
    assert first > float(line) > last


def test_stored_figures_show_the_stored_curves() -> None:
    names = [path.stem for path in papers_curves.FIGURES.glob("papers_curves_*.svg")]
    assert names
    for name in (name.removeprefix("papers_") for name in names):
        figure = papers_curves.figure_path(name).read_text()
        assert figure == papers_curves.draw(papers_curves.stored_panels(name))


def test_a_resampled_volume_keeps_its_center_and_its_intensities_in_mm() -> None:
    axes = np.meshgrid(*(3.0 * (np.arange(n) - (n - 1) / 2) for n in (20, 16, 24)), indexing="ij")
    ramp = axes[0] + 2 * axes[1] - axes[2]
    other = tv.resampled(ramp.astype(np.float32), (3.0, 3.0, 3.0), (3.0, 2.4, 4.0))
    assert other.shape == (20, 20, 18)
    step = other[10, 10, 9] - other[9, 10, 9], other[10, 11, 9] - other[10, 10, 9]
    assert step == pytest.approx((3.0, 4.8), abs=0.01)
    assert other[9:11, 9:11, 8:10].mean() == pytest.approx(0, abs=0.01)


def test_the_peak_of_dip_is_stated_with_the_loss_until_the_end() -> None:
    text = tv.describe_peaks({1.5: {50: 25.0, 100: 25.5, 150: 25.25}, 2.0: {50: 23.0, 100: 24.0}})
    assert "×1.5: step 100, 0.25 dB above step 150" in text
    assert "×2: step 100, 0.00 dB" in text


def test_a_paper_has_all_its_tables_and_a_table_stands_alone() -> None:
    assert papers.makers("tv_3") == [tv.table_3]
    assert tv.table_3 in papers.makers("tv")
    assert papers.makers("cpce")[-1] is slices.table
    assert len(papers.makers("all")) == sum(map(len, papers.PAPERS.values()))


def test_networks_of_a_run_are_found_where_voxels_follow_the_seed() -> None:
    rng = np.random.default_rng(0)
    data = rng.standard_normal((12, 12, 6, 120))
    common = np.sin(np.arange(120) * 2 * np.pi * 0.05 * 2)
    data[2:5, 2:5, 2:5] += 5 * common
    unit = tv.prepared_series(data, (3.0, 3.0, 3.0), tr=2.0)
    assert np.allclose(np.linalg.norm(unit, axis=1), 1)
    mask = np.ones((12, 12, 6), dtype=bool)
    seeds = tv.choose_seeds(unit, mask, (3.0, 3.0, 3.0))
    assert len(seeds) == tv.SEEDS
    found = tv.network_of(unit, seeds[0], mask).reshape(mask.shape)
    assert found[2:5, 2:5, 2:5].all()
    assert not found[7:].any()


def test_rows_of_slices_compare_folds_with_zero_filling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_table, "RESULTS", tmp_path)
    monkeypatch.setattr(_table, "commit", lambda: "85ca1a4b")
    monkeypatch.setattr(papers_curves, "FIGURES", tmp_path)
    zero = [{"psnr": value, "ssim": 0.9} for value in (30.0, 32.0)]
    network = [{"psnr": value, "ssim": 0.95} for value in (31.0, 32.5)]
    values = dict.fromkeys(slices.INTERPOLATIONS, zero) | {"cpce": network}
    slices.write(values, {"cpce": {1: 30.0}})
    rows = json.loads((tmp_path / "papers_cpce.json").read_text())["rows"]
    (row,) = (row for row in rows if row["images"] == "cpce")
    assert row["PSNR − zero filling (dB)"] == "0.75 ± 0.35"
    assert row["paper: PSNR"] == 33.2031
    assert "circle" not in (tmp_path / "papers_cpce.md").read_text().lower().split("table 1")[1]


def test_a_short_training_starts_the_adversarial_term() -> None:
    for method in ("gan3d", "cpce", "circle"):
        assert training.short_recipe(method, 90).adversarial_from == 30


def sample_values(index: int) -> ota.Values:
    """Return values of a participant in which every series is smaller than the one before."""
    values = {
        smoothing: {
            name: {
                measure: (0.9 if measure == "Dice" else 60.0) - index - 0.5 * index * order
                for measure in ota.MEASURES
            }
            for order, name in enumerate(ota.SERIES)
        }
        for smoothing in ota.READINGS
    }
    return {ota.NOISE_FREE: {"acquired": {"Dice": 0.5}, "truth": {"Dice": 0.4}}, **values}


def test_the_table_of_srgan_has_the_published_values_and_exact_p() -> None:
    people = [sample_values(index) for index in range(1, 9)]
    free, *rows = ota.rows_of(people)
    assert free["acquired"] == "0.500"
    assert free["zero filling"] == "–"
    assert [row["smoothing"] for row in rows] == [name for name in ota.READINGS for _ in range(3)]
    for row in rows:
        for title in ("B-spline", "zero filling", "srgan", "truth"):
            # eight negative differences: the smallest p of an exact two-sided test
            assert row[title].endswith("p = .008"), row
        assert row["srgan − B-spline"] == "p = .008"
    sizes = [row for row in rows if row["measure"] == "size, thumb"]
    assert {row["acquired"] for row in sizes} == {"55.5"}
    assert [row["paper: acquired → SRGAN"] for row in sizes] == ["–"] + 5 * [
        "140.0 → 83.4, p < .001"
    ]
    larger = {row["srgan larger than acquired"] for row in rows if row["measure"] == "Dice"}
    assert larger == {"0"}
    assert ota.rows_of(people[:1])[1]["truth"].endswith("–")
    assert [ota.p_text(p) for p in (1.0, 0.042, 0.0042, 4e-9)] == [
        "p = 1.00",
        "p = .04",
        "p = .004",
        "p < .001",
    ]


def test_an_empty_region_is_left_out_of_its_comparison() -> None:
    people = [sample_values(index) for index in range(1, 10)]
    people[0]["none"]["truth"]["Dice"] = None  # type: ignore[index]
    row = ota.rows_of(people)[3]
    assert row["measure"] == "Dice"
    assert row["truth"].endswith("p = .008")
    assert row["srgan"].endswith("p = .004")


def test_the_lost_detail_of_an_image_is_above_the_acquired_frequencies() -> None:
    rng = np.random.default_rng(0)
    effects = rng.standard_normal((2, 16, 12, 3)).astype(np.float32)
    detail = ota.lost_detail(effects)
    low = np.stack([downsample(effect, (8, 6, 3)) for effect in effects])
    assert np.abs(np.stack([downsample(image, (8, 6, 3)) for image in detail])).max() < 1e-5
    restored = np.stack([upsample("zerofill", image, ota.FACTOR) for image in low])
    np.testing.assert_allclose(restored + detail, effects, atol=1e-5)
    assert detail.std() > 0.5


def test_regions_have_the_same_voxels_of_the_area_on_both_grids() -> None:
    rng = np.random.default_rng(0)
    area = np.zeros((6, 5, 4), bool)
    area[1:5, 1:4, 1:3] = True
    maps = rng.uniform(0, 1, (2, *area.shape))
    fine_area = ota.fine_mask(area)
    assert fine_area.sum() == 4 * area.sum()
    fine_maps = np.stack([image.repeat(2, axis=0).repeat(2, axis=1) for image in maps])
    coarse = ota.region_values(maps[:, area], area, 1)
    assert ota.region_values(fine_maps[:, fine_area], fine_area, 4) == pytest.approx(coarse)
    assert 0 < coarse["size, thumb"] < area.sum()


def test_a_stopped_benchmark_continues_with_the_next_participant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, ...]] = []
    tables: list[tuple[str, list[str]]] = []

    def call(*words: str | Path) -> None:
        calls.append(tuple(map(str, words)))
        (tmp_path / "work").mkdir(exist_ok=True)

    monkeypatch.setattr(ota, "call", call)
    monkeypatch.setattr(ota, "commit", lambda: "85ca1a4b")
    monkeypatch.setattr(
        ota, "participant_values", lambda person: sample_values(int(person.name[-2:]))
    )

    def keep(name: str, *_: object, remarks: list[str]) -> None:
        tables.append((name, remarks))

    monkeypatch.setattr(ota, "keep", keep)
    (tmp_path / "values").mkdir()
    (tmp_path / "values" / "sub-02.json").write_text(json.dumps(sample_values(2)))
    with pytest.raises(portions.PortionEnded, match="sub-01"):
        ota.table(portions.Portion(tmp_path, minutes=-1), 3)
    assert [words[0] for words in calls] == ["bids-sr-phantom"]
    (tmp_path / "simulated").mkdir()
    ota.table(portions.Portion(tmp_path), 3)
    labels = [words[words.index("--participant-label") + 1] for words in calls[1:]]
    assert labels == ["01", "03"]
    ((name, remarks),) = tables
    assert name == "papers_srgan"
    assert "3 simulated participants" in remarks[0]
    assert "85ca1a4b" in remarks[0]
    critic = get_method("srgan").recipes["fast"].build_critic
    assert ("without critic" in remarks[0]) is (critic is None)
    assert "median difference 0.100" in remarks[1]
    for words in calls:
        assert PARSERS[words[0]].parse_args(words[1:])


def test_lesions_replace_white_matter_at_likely_locations() -> None:
    shape = (48, 64, 48)
    healthy, head = heads.scene(0, shape), heads.scene(0, shape, lesions.LESIONS)
    assert healthy.lesion_locations is None
    assert head.lesion_locations is not None
    fractions = head.fractions
    for name in ("gm", "csf", "veins"):
        assert np.array_equal(fractions[name], healthy.fractions[name])
    np.testing.assert_allclose(
        fractions["wm"] + fractions["lesion"], healthy.fractions["wm"], atol=1e-6
    )
    known = fractions["lesion"] >= 0.5
    assert 50 < known.sum() < 1000
    assert head.lesion_locations[known].mean() > 0.9
    counts = sum(mask.astype(int) for mask in lesions.known_tissues(head).values())
    assert counts[head.mask].max() == 1
    assert counts[head.mask].mean() > 0.95


def test_scans_of_a_head_differ_in_resolution_and_noise_only() -> None:
    scans = lesions.scans_of(1)
    other = lesions.scans_of(1, "linear")
    assert np.array_equal(other.fine, scans.fine)
    errors = {
        name: float(np.sqrt(np.mean((image - scans.truth)[:, scans.mask] ** 2)))
        for name, image in {
            "fine": scans.fine,
            "B-spline": scans.coarse,
            "trilinear": other.coarse,
        }.items()
    }
    assert errors["fine"] < errors["B-spline"] < errors["trilinear"]


def simple_head() -> tuple[heads.Scene, Any]:
    """Return a head of four blocks of tissue and one lesion, and its scans with little noise."""
    rng = np.random.default_rng(0)
    shape = (16, 16, 16)
    names = ("gm", "wm", "csf", "lesion", "veins")
    fractions = {name: np.zeros(shape) for name in names}
    fractions["gm"][:8] = 1
    fractions["wm"][8:] = 1
    for name, x in (("csf", 0), ("veins", 2)):
        fractions["gm"][x : x + 2], fractions[name][x : x + 2] = 0, 1
    fractions["wm"][12:14, 6:9, 6:9], fractions["lesion"][12:14, 6:9, 6:9] = 0, 1
    signals = {  # gm, wm, csf, lesion, veins
        "T1w": (0.5, 0.7, 0.1, 0.5, 0.35),
        "T2w": (0.5, 0.4, 1.0, 0.55, 0.1),
        "FLAIR": (0.6, 0.5, 0.1, 1.0, 0.4),
    }
    images = np.stack(
        [
            sum(level * fractions[name] for name, level in zip(names, levels, strict=True))
            for levels in signals.values()
        ]
    )
    head = heads.Scene(
        images={},
        mask=np.ones(shape, bool),
        tissues={},
        fractions=fractions,
        lesion_locations=np.arange(16)[:, None, None] * np.ones(shape) >= 8,
    )
    return head, images + rng.normal(0, 0.01, images.shape)


def test_segmentations_are_compared_with_the_simulated_tissue() -> None:
    head, images = simple_head()
    values = lesions.values_of(images, images, head)
    assert values[lesions.DICE_OF_LESIONS] == 1
    assert values[lesions.FALSE_LESIONS] == 0
    assert values[lesions.VOLUME] == 0
    assert values["csfSpaces: Dice"] == 1
    assert values["veins: Dice"] == 1
    # classes belong to the intensities of the measured scans, lesions to the mean of an image
    darker = lesions.values_of(0.5 * images, images, head)
    assert darker["brainTissue: Dice"] < 0.9
    assert darker[lesions.DICE_OF_LESIONS] == 1
    worse = images.copy()
    worse[2, 10, 2:4, 2] = 1.0  # two bright voxels of white matter
    worse[2, 6, 2:4, 2] = 1.0  # lesions are not searched in gray matter
    worse[:, 1, 4] = images[:, 6, 4]  # one row of CSF with the intensities of gray matter
    changed = lesions.values_of(worse, images, head)
    assert changed[lesions.FALSE_LESIONS] == pytest.approx(2 * 0.027)
    assert changed[lesions.DICE_OF_LESIONS] == pytest.approx(2 * 18 / (2 * 18 + 2))
    assert changed[lesions.VOLUME] == pytest.approx(100 * 2 / 18)
    assert changed["csfSpaces: Dice"] == pytest.approx(2 * 496 / (2 * 496 + 16))
    assert changed[lesions.FALSE_TISSUES] - values[lesions.FALSE_TISSUES] == pytest.approx(
        16 * 0.027, abs=0.06
    )


def rows_of_lesions(**gains: float) -> list[dict[str, Any]]:
    """Return rows in which images differ from B-spline interpolation by a gain in all measures."""
    noise = np.array([-0.01, 0.0, 0.01])
    names = (lesions.TRUTH, lesions.MEASURED, *lesions.INTERPOLATIONS, *lesions.NETWORKS)
    gain = dict.fromkeys(names, 0.2) | {"B-spline": 0.0, "trilinear": -0.1} | gains
    return lesions.rows_of(
        {
            name: [
                {
                    measure: 0.5 + (-gain[name] if "false" in measure else gain[name]) + shift
                    for measure in (*lesions.CLAIMED, lesions.VOLUME)
                }
                # the noise of an image is not in the interpolation
                for shift in noise * (name != "B-spline")
            ]
            for name in names
        }
    )


def test_rows_of_lesions_have_differences_from_the_better_interpolation() -> None:
    rows = {(row["measure"], row["images"]): row for row in rows_of_lesions(vit=-0.3, unet=0.001)}
    row = rows[lesions.FALSE_LESIONS, "attunet"]
    assert row["best interpolation"] == "B-spline"
    assert row["mean"] == "0.30"
    # t(.975, 2) x .01 / sqrt(3) = .0248
    assert rows[lesions.DICE_OF_LESIONS, "attunet"]["95 % interval"] == "0.675 to 0.725"
    assert rows[lesions.DICE_OF_LESIONS, "attunet"]["difference"] == "0.200"
    assert (row["difference"], row["interval of the difference"]) == ("-0.20", "-0.22 to -0.18")
    for measure in lesions.CLAIMED:
        outcomes = [rows[measure, name]["outcome"] for name in ("attunet", "vit", "unet")]
        assert outcomes == [lesions.BETTER, lesions.WORSE, lesions.SAME]
        assert rows[measure, "B-spline"]["outcome"] == "–"
        assert rows[measure, "trilinear"]["outcome"] == lesions.WORSE
    assert rows[lesions.VOLUME, "attunet"]["difference"] == "–"


def test_the_claim_is_judged_by_testable_measures_only() -> None:
    assert lesions.verdict(rows_of_lesions())[0] == "yes"
    assert lesions.verdict(rows_of_lesions(attunet=0.0))[0] == "no"
    assert lesions.verdict(rows_of_lesions(truth=0.0))[0] == "not tested"
    assert lesions.verdict(rows_of_lesions(**{lesions.MEASURED: -0.2}))[0] == "not tested"
    better, same = rows_of_lesions(), rows_of_lesions(attunet=0.0, truth=0.0)
    mixed = [row for row in better if row["measure"] == lesions.FALSE_TISSUES] + [
        row for row in same if row["measure"] != lesions.FALSE_TISSUES
    ]
    assert lesions.verdict(mixed) == (
        "in part",
        [lesions.FALSE_TISSUES],
        [lesions.FALSE_TISSUES],
    )


def test_a_verdict_needs_a_test_or_a_difference_above_the_spread() -> None:
    seen, tested, weak = PAGE.Part(1.0, 0.5), PAGE.Part(1.0, 2.0, p=0.01), PAGE.Part(1.0)
    opposite = PAGE.Part(-1.0, 0.5, p=0.01)
    for parts, verdict in (
        ([], "not tested"),
        ([seen, tested], "yes, short training"),
        ([seen, weak], "in part, short training"),
        ([seen, opposite], "in part, short training"),
        ([PAGE.Part(1.0, 0.5, p=0.2)], "in part, short training"),
        ([opposite], "no, short training"),
    ):
        assert PAGE.judge(parts) == verdict


def test_the_page_has_the_verdict_of_the_stored_table() -> None:
    found, _testable, _seen = lesions.verdict(PAGE.rows("papers_attunet_lesions"))
    (line,) = (
        line
        for line in PAGE.PAGE.read_text(encoding="utf-8").splitlines()
        if "papers_attunet_lesions" in line and line.startswith("| **Li:**")
    )
    assert line.split(" | ")[3].split(",")[0] == found


def test_data_are_not_fetched_without_the_programs_or_over_existing_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None if name == "dcm2niix" else name)
    assert papers_data.check(tmp_path) == "dcm2niix: not on the PATH. Install before fetching."
    monkeypatch.setattr("shutil.which", lambda name: name)
    assert papers_data.check(tmp_path) == ""
    (tmp_path / "measured").mkdir()
    assert "exists" in papers_data.check(tmp_path)
