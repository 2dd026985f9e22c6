"""A network trained at the resolution where it is used, or at another: mouse-sr, section 3.2 and
table 1.

benchmarks/training_resolution.py [BIDS_DIR] --work DIR [--seconds S] [--seeds N] [--heads N]
[--test N]

T1w images are brought to 1, 2 and 4 mm by block means, and at each resolution a network learns to
undo block means of 2 x 2 x 2 voxels (2 to 1, 4 to 2 and 8 to 4 mm; the human brain being some 15
times as long as the mouse's, that is where the paper's 100-50, 200-100 and 400-200 um lie). Every
network is then tested at every resolution.

Phantoms: networks learn from some heads and are tested on others: in the whole brain at 4 mm, in
64 mm of its height at 2 mm and in 16 mm at 1 mm, which take long otherwise. BIDS_DIR: networks
learn from one half of its T1w image (a side of the midline) and are tested in eight slabs of 16 mm
of the other half, 16 mm between the halves; slabs of one head are no independent subjects.

All trainings of one network take the same number of steps and run through their whole schedule;
`ccnn3d` and `gan3d` are trained at the middle resolution of the phantoms alone, for the same
processor time. Models and their figures are kept in --work, so that a stopped benchmark goes on
where it was; files made from other data or settings are refused. Fast recipes, but patches of 20
voxels a side (the paper's are 21), as the images of 4 mm are small.

Writes benchmarks/results/training_resolution.{json,md} and training_resolution_networks.{json,md}.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from _files import one
from _kept import checksum, kept_rows
from _table import keep
from _transfer_run import (
    Grid,
    Row,
    School,
    Volume,
    figures,
    gains,
    mean_over_seeds,
    paired_p,
    phantom,
    spread,
)
from numpy.typing import NDArray
from scipy.stats import friedmanchisquare

from bids_sr.io.nifti import load_image
from bids_sr.phantom.presets import centered_affine
from bids_sr.spatial.masks import head_mask
from bids_sr.sr.data.images import TrainingImage

Array = NDArray[Any]
LEVELS = (1, 2, 4)  # fine voxel in units of the images at hand
SHAPE = (160, 192, 160)
GRID: Grid = (SHAPE, centered_affine(SHAPE, (1.0, 1.0, 1.0), (0.0, -18.0, 5.0)))
# by level, in the middle; more on both sides, which are not scored
TESTED_SLICES, MARGIN = {1: 16, 2: 32, 4: 40}, 8
NETWORKS = ("resnet3d", "ccnn3d", "gan3d")
TRAINING, TESTED = 1000, 2000  # first seeds of the heads
PAPER = {4: "+4.7 ± 2.0 / +4.4 ± 1.1", 2: "+3.0 ± 1.4 / -0.8 ± 0.9", 1: "+2.1 ± 0.8 / -2.0 ± 1.5"}
Scores = list[tuple[str, Row]]  # (name of the case, figures)


def cube(side: int) -> tuple[float, float, float]:
    """A factor along all axes."""
    return (float(side),) * 3  # type: ignore[return-value]


class Phantoms:
    """Heads to train on and heads to test on."""

    name = "phantoms"

    def __init__(self, folder: Path, heads: int, test: int) -> None:
        self.folder, self.heads, self.test = folder, heads, test

    def origin(self) -> Row:
        """What figures are taken of."""
        return {
            "heads tested": list(range(TESTED, TESTED + self.test)),
            "slices": TESTED_SLICES,
            "margin": MARGIN,
        }

    def training(self, level: int) -> list[TrainingImage]:
        """The heads to train on, with voxels of `level` mm."""
        seeds = range(TRAINING, TRAINING + self.heads)
        found = [
            phantom(seed, "T1w", GRID, self.folder).brought_down(cube(level)) for seed in seeds
        ]
        return [volume.to_train("T1w", f"head-{k}") for k, volume in enumerate(found)]

    def scores(self, level: int, school: School, name: str, model: Any) -> Scores:
        """Figures of each head tested."""
        out = []
        for seed in range(TESTED, TESTED + self.test):
            fine = phantom(seed, "T1w", GRID, self.folder).brought_down(cube(level))
            depth, scored = fine.image.shape[2], TESTED_SLICES[level]
            first = max(0, (depth - scored) // 2 - MARGIN)
            fine = fine.cut(slice(None), slice(None), slice(first, depth - first))
            rim = (fine.image.shape[2] - scored) // 2
            inner = (slice(None), slice(None), slice(rim, rim + scored))
            made = school.raised(name, model, fine)
            out.append((f"head-{seed}", figures(fine.cut(*inner), made[inner])))
        return out


class Halves:
    """One half of a head to train on, slabs of the other to test on."""

    name = "real, halves of one head"
    slabs, thick, gap = 8, 16, 8

    def __init__(self, root: Path) -> None:
        path = one(root, "sub-*/anat/*_T1w.nii.gz")
        image, affine = load_image(path)
        self.image = checksum(path)
        mask = head_mask(image, affine)
        middle = round(float(np.argwhere(mask)[:, 0].mean()))
        top = int(np.flatnonzero(mask.any((0, 1)))[-1])
        high = top - top % 8
        z = slice(high - self.slabs * self.thick, high)
        y = slice(0, mask.shape[1] // 8 * 8)
        whole = Volume(image=image, mask=mask, affine=affine)
        left, right = (middle - self.gap) // 8 * 8, -(-(middle + self.gap) // 8) * 8
        stop = right + (mask.shape[0] - right) // 8 * 8
        self.known, self.held = (
            whole.cut(slice(0, left), y, z),
            whole.cut(slice(right, stop), y, z),
        )

    def origin(self) -> Row:
        """What figures are taken of."""
        return {"image": self.image, "slabs": [self.slabs, self.thick], "gap": self.gap}

    def training(self, level: int) -> list[TrainingImage]:
        """The known half."""
        return [self.known.brought_down(cube(level)).to_train("T1w", "half")]

    def scores(self, level: int, school: School, name: str, model: Any) -> Scores:
        """Figures of each slab."""
        fine = self.held.brought_down(cube(level))
        made, thick = school.raised(name, model, fine), self.thick // level
        cuts = [
            (slice(None), slice(None), slice(k * thick, (k + 1) * thick))
            for k in range(self.slabs)
        ]
        return [(f"slab-{k}", figures(fine.cut(*at), made[at])) for k, at in enumerate(cuts)]


def measured(data: Phantoms | Halves, given: argparse.Namespace) -> list[Row]:
    """All figures of a data set: interpolations, and each network at each resolution."""
    rows: list[Row] = []
    sort = type(data).__name__.lower()

    def add(
        network: str, trained: Any, seed: int, school: School, model: Any, levels: tuple[int, ...]
    ) -> None:
        for level in levels:
            of = (
                network
                if model is None
                else f"{trained}mm_{network}_{given.seconds:g}s_seed{seed}"
            )
            own = data.origin() | {
                "model": None if model is None else model.card.json["weights_sha256"]
            }
            begin = {"network": network, "trained": trained, "tested": level, "seed": seed}
            rows.extend(
                begin | row
                for row in kept_rows(
                    school.folder / f"{of}_at_{level}mm.scores.json",
                    own,
                    lambda level=level: [
                        {"case": case} | figure
                        for case, figure in data.scores(level, school, network, model)
                    ],
                )
            )

    school = School(
        folder=given.work / sort,
        factor=cube(2),
        patch=(20, 20, 20),
        batch=given.batch,
        threads=given.threads,
    )
    school.folder.mkdir(parents=True, exist_ok=True)
    for name in ("bspline", "zerofill"):
        add(name, "", 0, school, None, LEVELS)
    for level in LEVELS[::-1]:
        images = data.training(level)
        for network in NETWORKS if level == 2 and isinstance(data, Phantoms) else NETWORKS[:1]:
            for seed in range(given.seeds):
                model, _ = school.learn(f"{level}mm", network, images, given.seconds, seed)
                add(
                    network,
                    level,
                    seed,
                    school,
                    model,
                    LEVELS if network == "resnet3d" else (level,),
                )
    return rows


def of_seeds(rows: list[Row], trained: int, tested: int, cubic: Array) -> list[float]:
    """Mean gain in RMSE of each seed."""
    own = [
        r
        for r in rows
        if (r["network"], r["trained"], r["tested"]) == ("resnet3d", trained, tested)
    ]
    split = mean_over_seeds(own, ("seed",), "case")
    return [float(gains(each["rmse"], cubic).mean()) for each in split.values()]


def table(name: str, rows: list[Row]) -> tuple[list[Row], list[str]]:
    """(rows of the table, remarks) of one data set."""
    found = mean_over_seeds(rows, ("network", "trained", "tested"), "case")
    out, remarks = [], []
    for tested in LEVELS[::-1]:
        cubic = found["bspline", "", tested]
        own = {level: found["resnet3d", level, tested] for level in LEVELS[::-1]}
        better = {level: gains(each["rmse"], cubic["rmse"]) for level, each in own.items()}
        for what, each in (
            {"cubic": cubic, "zero filling": found["zerofill", "", tested]} | own
        ).items():
            more = gains(each["rmse"], cubic["rmse"])
            seeds = of_seeds(rows, what, tested, cubic["rmse"]) if isinstance(what, int) else [0.0]
            out.append(
                {
                    "data": name,
                    "tested at": f"{2 * tested} to {tested} mm",
                    "trained at": f"{2 * what} to {what} mm" if isinstance(what, int) else what,
                    "matched": "yes" if what == tested else "",
                    "RMSE (%)": round(float(each["rmse"].mean()), 3),
                    "RMSE gain over cubic (%)": "" if what == "cubic" else spread(more),
                    "p (RMSE)": (
                        "" if what == "cubic" else f"{paired_p(each['rmse'] - cubic['rmse']):.2g}"
                    ),
                    "SD over seeds (%)": (
                        round(float(np.std(seeds, ddof=1)), 2) if len(seeds) > 1 else ""
                    ),
                    "SSIM": round(float(each["ssim"].mean()), 4),
                    "SSIM over cubic": (
                        ""
                        if what == "cubic"
                        else spread(1000 * (each["ssim"] - cubic["ssim"])) + " e-3"
                    ),
                    "p (SSIM)": (
                        "" if what == "cubic" else f"{paired_p(each['ssim'] - cubic['ssim']):.2g}"
                    ),
                    "voxel / K (mm)": round(float(np.nanmean(each["resolution"])), 3),
                    "2 voxel / K (mm)": round(2 * float(np.nanmean(each["resolution"])), 3),
                    "paper, matched, 20,000 / 5,000 patches": (
                        PAPER[tested] if what == tested else ""
                    ),
                }
            )
        paired = friedmanchisquare(*better.values())
        others = [
            f"{2 * level} to {level} mm {(better[tested] - better[level]).mean():+.2f} points "
            f"(p = {paired_p(better[tested] - better[level]):.2g})"
            for level in LEVELS[::-1]
            if level != tested
        ]
        remarks.append(
            f"{name}, tested at {2 * tested} to {tested} mm: Friedman's test of the three gains,"
            f" by case: chi2 = {paired.statistic:.3g}, p = {paired.pvalue:.2g} (paper, at 200-100"
            " um: Welch's F = 7, p = .0019, which takes the three for independent, though each"
            " case is in all of them). The matched network above that of "
            + ", of ".join(others)
            + "."
        )
    return out, remarks


def networks(rows: list[Row]) -> list[Row]:
    """The three networks at the middle resolution."""
    found = {
        key[0]: value
        for key, value in mean_over_seeds(rows, ("network", "trained", "tested"), "case").items()
        if key[2] == 2 and key[1] in ("", 2)
    }
    cubic, first = found["bspline"], found["resnet3d"]
    return [
        {
            "network": "cubic" if name == "bspline" else name,
            "RMSE (%)": round(float(each["rmse"].mean()), 3),
            "gain over cubic (%)": (
                "" if each is cubic else spread(gains(each["rmse"], cubic["rmse"]))
            ),
            "p (RMSE), against cubic": (
                "" if each is cubic else f"{paired_p(each['rmse'] - cubic['rmse']):.2g}"
            ),
            "p (RMSE), against resnet3d": (
                "" if each is first else f"{paired_p(each['rmse'] - first['rmse']):.2g}"
            ),
            "SSIM": round(float(each["ssim"].mean()), 4),
            "p (SSIM), against cubic": (
                "" if each is cubic else f"{paired_p(each['ssim'] - cubic['ssim']):.2g}"
            ),
            "p (SSIM), against resnet3d": (
                "" if each is first else f"{paired_p(each['ssim'] - first['ssim']):.2g}"
            ),
            "voxel / K (mm)": round(float(np.nanmean(each["resolution"])), 3),
        }
        for name, each in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "bids_dir",
        type=Path,
        nargs="?",
        help="with a T1w of one person; phantoms alone without it",
    )
    parser.add_argument("--work", type=Path, required=True, help="where heads and models are kept")
    parser.add_argument("--seconds", type=float, default=16, help="of processor time a training")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--heads", type=int, default=4, help="phantoms to train on")
    parser.add_argument("--test", type=int, default=8, help="phantoms to test on")
    parser.add_argument("--batch", type=int, default=8, help="patches a step")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    sets: list[Phantoms | Halves] = [Phantoms(given.work, given.heads, given.test)]
    sets += [Halves(given.bids_dir)] if given.bids_dir else []
    rows, remarks = [], []
    for data in sets:
        found = measured(data, given)
        more, said = table(data.name, found)
        rows += more
        remarks += said
        if isinstance(data, Phantoms):
            keep_networks(found, given)
    about = (
        f"resnet3d, fast, patches of 20 voxels: as many steps as fit into {given.seconds:g} s of"
        f" processor, the same at all resolutions; {given.seeds} seeds. Figures of a case are"
        f" means over seeds, tests are paired t tests over {given.test} heads, or 8 slabs of one"
        " head, which are not independent; no p is corrected for the number of tests. Phantoms:"
        " inside the brain; real: inside the head. RMSE in % of the 99th percentile. A gain is an"
        " RMSE below that of cubic interpolation, in % of the latter (the paper prints no unit)."
    )
    title = "Networks trained at the resolution of their use, or not"
    keep("training_resolution", title, rows, remarks=[about, *remarks])


def keep_networks(rows: list[Row], given: argparse.Namespace) -> None:
    """The table of the three networks."""
    about = (
        f"Phantoms, 4 to 2 mm, {given.seconds:g} s of processor a training, {given.seeds} seeds,"
        f" {given.test} heads. In the paper (200-100 um) RMSE: resnet < gan < cubic, ccnn; SSIM:"
        " resnet above cubic and ccnn, not above gan."
    )
    keep(
        "training_resolution_networks",
        "The three networks of the mouse paper",
        networks(rows),
        remarks=[about],
    )


if __name__ == "__main__":
    main()
