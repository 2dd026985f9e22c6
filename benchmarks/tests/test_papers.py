"""Test the tables of the papers: their numbers, and their page."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import _papers_claims as claims
import _papers_heads as heads
import _papers_lesions as lesions
import _papers_mouse as mouse
import _papers_ota as ota
import _papers_slices as slices
import _papers_training as training
import _papers_tv as tv
import _table
import nibabel as nib
import numpy as np
import pytest
import srgan_training
from gpu import FACTOR
from pages import ROOT, loaded
from scipy import stats
from torch import nn

from bids_sr.glm.block_effects import Effects
from bids_sr.spatial.matrices import downsample, upsample
from bids_sr.sr.method import get_method
from bids_sr.sr.recipe import network

PAGE = loaded(ROOT / "docs/papers_page.py")
PARSERS = dict(loaded(ROOT / "docs/options_page.py").commands())


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


def test_rows_of_slices_compare_folds_with_zero_filling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_table, "RESULTS", tmp_path)
    monkeypatch.setattr(_table, "commit", lambda: "85ca1a4b")
    zero = [{"psnr": value, "ssim": 0.9} for value in (30.0, 32.0)]
    network = [{"psnr": value, "ssim": 0.95} for value in (31.0, 32.5)]
    slices.write(dict.fromkeys(slices.INTERPOLATIONS, zero) | {"cpce": network})
    rows = json.loads((tmp_path / "papers_cpce.json").read_text())["rows"]
    (row,) = (row for row in rows if row["images"] == "cpce")
    assert row["PSNR − zero filling (dB)"] == "0.75 ± 0.35"
    assert row["paper: PSNR"] == 33.2031


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


def test_a_benchmark_continues_with_the_participants_without_values(
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
    ota.table(tmp_path, 3)
    assert calls[0][0] == "bids-sr-phantom"
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


def test_a_training_is_made_once_and_resumes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    fine = (100 + 10 * rng.standard_normal((24, 24, 8))).astype(np.float32)
    images = [training.image_of(fine, (1.0, 1.0, 1.0), "T1w", "noise")]
    recipe = training.short_recipe("ccnn3d", 3, patch=8, batch=1, upsampled_by="bspline")
    recipe = replace(
        recipe, build_generator=network("volumetric.ConventionalNet3d", widths=(4, 2))
    )
    factor = (2.0, 2.0, 2.0)
    first = training.train(tmp_path, "ccnn3d", "a", recipe, images, factor)
    assert sum(value.numel() for value in first.generator.parameters()) < 2000
    (tmp_path / "a.training").rename(tmp_path / "moved")
    again = training.train(tmp_path, "ccnn3d", "a", recipe, images, factor)
    assert again.card.weights_sha256 == first.card.weights_sha256
    assert not (tmp_path / "a.training").exists()


def test_parts_of_a_claim_are_paired_differences_with_their_margin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_table, "RESULTS", tmp_path)
    monkeypatch.setattr(claims, "RESULTS", tmp_path)
    monkeypatch.setattr(_table, "commit", lambda: "85ca1a4b")
    monkeypatch.setattr(PAGE, "RESULTS", tmp_path)
    gains = np.array([0.5, 0.6, 0.7, 0.6])
    claims.keep_claim("li_vit", "small", [claims.Part("PSNR (dB)", gains)])
    claims.keep_claim("li_critic", "small", [claims.Part("SSIM", gains - 0.6, 0.2)])
    claims.keep_claim("li_vit", "small", [claims.Part("PSNR (dB)", -gains)])
    (vit,), (critic,) = PAGE.parts_of("li_vit"), PAGE.parts_of("li_critic")
    assert (vit.difference, vit.sign) == (-0.6, -1)
    assert vit.p == pytest.approx(stats.ttest_1samp(gains, 0).pvalue, rel=0.1)
    # t(.975, 3) x .0816 / 2 = .13
    assert critic.upper == pytest.approx(0.13, abs=0.001)
    assert (critic.margin, critic.sign) == (0.2, 1)


def test_a_verdict_has_one_rule() -> None:
    seen, opposite, none = (
        PAGE.Part("", 1.0, 0.01),
        PAGE.Part("", -1.0, 0.01),
        PAGE.Part("", 1, 0.2),
    )
    within = PAGE.Part("", 0.1, 0.01, upper=0.2, margin=0.3)
    beyond = PAGE.Part("", 0.1, 0.01, upper=0.4, margin=0.3)
    for parts, verdict in (
        ([], "not tested"),
        ([seen, within], "yes"),
        ([seen, none], "in part"),
        ([seen, opposite], "in part, in part opposite"),
        ([none], "no"),
        ([none, opposite], "opposite"),
        ([beyond], "opposite"),
        ([beyond._replace(p=0.2)], "no"),
    ):
        assert PAGE.judge(parts) == verdict


def test_no_verdict_depends_on_a_margin_within_ten_percent() -> None:
    for name in PAGE.CLAIMS:
        parts = PAGE.parts_of(name)
        for factor in (0.9, 1.1):
            moved = [
                part if part.margin is None else part._replace(margin=factor * part.margin)
                for part in parts
            ]
            assert PAGE.judge(moved) == PAGE.judge(parts), name


def test_lesions_of_the_page_have_the_outcomes_of_their_table() -> None:
    signs = {part.name: part.sign for part in PAGE.parts_of("li_lesions")}
    outcomes = {
        row["measure"]: {lesions.BETTER: 1, lesions.WORSE: -1, lesions.SAME: 0}[row["outcome"]]
        for row in PAGE.rows("papers_attunet_lesions")
        if row["images"] == "attunet" and row["measure"] in lesions.CLAIMED
    }
    assert signs == outcomes


def test_rows_of_the_published_training_change_one_setting() -> None:
    published, no_critic, late, light = map(srgan_training.recipe_of_row, srgan_training.ROWS)
    assert published.has_adversarial_loss
    assert no_critic.build_critic is None
    assert not no_critic.has_adversarial_loss
    assert (published.adversarial_from, late.adversarial_from) == (0, 500)
    weights = [
        {term.kind: term.weight for term in recipe.losses}["content"]
        for recipe in (published, no_critic, late, light)
    ]
    assert weights == [4.0, 4.0, 4.0, 1.0]


class CallOfNoise:
    """Call whose mean image is noise."""

    def __init__(self, folder: Path) -> None:
        self.run = folder
        self.boldref = np.random.default_rng(0).uniform(50, 100, (8, 6, 3)).astype(np.float32)
        files = {"boldref": self.boldref, "bold_mask": np.ones_like(self.boldref)}
        for name, data in files.items():
            nib.save(nib.Nifti1Image(data, np.eye(4)), folder / f"{name}.nii")

    def inputs(self, _folder: Path) -> dict[str, str]:
        return {name: str(self.run / f"{name}.nii") for name in ("boldref", "bold_mask")}


def test_effects_are_the_derivative_of_the_generator(tmp_path: Path) -> None:
    call = CallOfNoise(tmp_path)
    rng = np.random.default_rng(1)
    low = rng.standard_normal((2, *call.boldref.shape)).astype(np.float32)
    effects = Effects(
        series="zerofill",
        affine=np.eye(4),
        mask=np.ones((16, 12, 3), bool),
        betas=np.stack([upsample("zerofill", one, FACTOR) for one in low], axis=3),
        mean=upsample("zerofill", call.boldref, FACTOR),
        blocks=(),
        covariance=np.eye(2),
        leak=np.zeros((2, 0)),
    )
    generator = nn.Conv2d(1, 1, 1)
    nn.init.constant_(generator.weight, 3.0)
    found = srgan_training.differentiate(generator, call, effects)  # type: ignore[arg-type]
    for number, one in enumerate(low):
        expected = 3 * upsample("lanczos", one, FACTOR)
        np.testing.assert_allclose(found.betas[..., number], expected, atol=1e-3)
