"""Pre-trained on one contrast, its last three layers tuned on another: mouse-sr, sections 2.3.4,
3.3 and 3.4.

benchmarks/transfer.py [BIDS_DIR] --work DIR [--seconds S] [--tuning S] [--seeds N] [--heads N]
[--test N]

A network learns from T1w images on the grid of a T2*w image (in-plane block means of 2 x 2
undone), and is used on another contrast: as it is; after its last three layers were trained on the
little there is of the target; beside it networks that see that little alone, for as long as the
tuning took, or for as long as both trainings took together. This is what `bids-sr-models train
--from MODEL --train-last 3` does, by the same function.

Phantoms: T1w of some heads, one head of the target contrast (T2*w, T2w, FLAIR), tested on others;
all contrasts of a head are acquired with one noise level and in one pose, so that contrast is what
differs. T1w as target is the control. BIDS_DIR: T1w and T2*w of one head. T1w of one half (a side
of the midline), brought to the T2*w grid in several poses; twelve slices of the T2*w of that half;
tested in eight slabs of the other half, 18 mm between the halves. Slabs of one head are no
independent subjects.

Contrast correlation is that of the paper's figure 6: Pearson's r of co-registered voxels in the
brain. Beside it (ours) that of what cubic interpolation leaves of the two images, which is what a
network has to add.

What cannot be had here: another species or another scanner, where the paper finds results worse
than cubic, with ringing. Models and their figures are kept in --work: a stopped benchmark goes on
where it was. They know their data and the model they began with: a folder whose files were made
from others (another --seconds for the source of a model that was tuned as long, other heads) is
refused.

Writes benchmarks/results/transfer.{json,md}.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from _files import one
from _kept import checksum, kept_rows, refuse_others
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

from bids_sr.io.atomic_files import whole_file
from bids_sr.io.nifti import load_image
from bids_sr.io.volume import Volume as Image
from bids_sr.phantom.poses import draw_pose
from bids_sr.phantom.presets import centered_affine
from bids_sr.registration.rigid import rigid
from bids_sr.spatial.masks import brain_mask, head_mask
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.data.images import TrainingImage
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.resolution.matrices import block_matrix, degrade
from bids_sr.stats.regions.map_summary import correlation

Array = NDArray[Any]
FACTOR = (2.0, 2.0, 1.0)
SHAPE = (88, 112, 16)
GRID: Grid = (SHAPE, centered_affine(SHAPE, (1.875, 1.875, 4.0), (0.0, -18.0, 24.0)))
SCENE = 1.5  # mm
SOURCE, TARGETS, CONTROL = "T1w", ("T2starw", "T2w", "FLAIR"), "T1w"
TRAINING, FEW, TESTED = 3000, 4000, 5000  # first seeds of the heads
AS_IT_IS, TUNED = "T1w network as it is", "T1w network, last 3 layers tuned"
SCRATCH, LONGER = "from scratch, time of the tuning", "from scratch, time of both"


class Phantoms:
    """Some heads in T1w, one in the target's contrast, others to test on."""

    name, targets, controls = "phantoms", TARGETS, (CONTROL,)

    def __init__(self, folder: Path, heads: int, test: int) -> None:
        self.folder, self.heads, self.test = folder, heads, test

    def origin(self) -> Row:
        """What figures are taken of."""
        return {"heads tested": list(range(TESTED, TESTED + self.test))}

    def _scan(self, seed: int, contrast: str) -> Volume:
        return phantom(seed, contrast, GRID, self.folder, SCENE)

    def source(self) -> list[TrainingImage]:
        """T1w images to train on."""
        seeds = range(TRAINING, TRAINING + self.heads)
        return [self._scan(seed, SOURCE).to_train(SOURCE, f"head-{seed}") for seed in seeds]

    def few(self, target: str) -> list[TrainingImage]:
        """What there is of the target."""
        return [self._scan(FEW, target).to_train(target, f"head-{FEW}")]

    def tested(self, target: str) -> Iterator[tuple[Volume, list[tuple[str, tuple[slice, ...]]]]]:
        """Volumes to test on, and their parts that are cases of their own."""
        for seed in range(TESTED, TESTED + self.test):
            yield self._scan(seed, target), [(f"head-{seed}", (slice(None),) * 3)]

    def both(self, target: str) -> Iterator[tuple[Volume, Volume]]:
        """The two contrasts of each head tested."""
        return (
            (self._scan(s, SOURCE), self._scan(s, target))
            for s in range(TESTED, TESTED + self.test)
        )


class Halves:
    """T1w and T2*w of one head: one half to train on, the other to test on."""

    name, targets, controls = "real, halves of one head", ("T2starw",), ()
    gap, slices, slabs = 3, 12, 8

    def __init__(self, root: Path, folder: Path, poses: int) -> None:
        image, affine = load_image(one(root, "sub-*/anat/*acq-highres_T2starw.nii.gz"))
        mask = brain_mask(image, affine)
        self.fine = Volume(image=image, mask=mask, affine=affine)
        self.poses = [np.eye(4)]
        rng = np.random.default_rng(0)
        self.poses += [draw_pose(rng, (1.0, 3.0), (0.5, 1.5)) for _ in range(poses - 1)]
        self.images = {
            name: checksum(one(root, f"sub-*/anat/*{name}.nii.gz"))
            for name in ("acq-highres_T2starw", "_T1w")
        }
        self.t1w = self._t1w(root, folder)
        middle = round(float(np.argwhere(mask)[:, 0].mean()))
        self.left, self.right = (middle - self.gap) // 2 * 2, -(-(middle + self.gap) // 2) * 2
        usable = np.flatnonzero(mask.mean((0, 1)) > 0.05)
        self.low, self.high = int(usable[0]), int(usable[-1]) + 1

    def _t1w(self, root: Path, folder: Path) -> list[Array]:
        """T1w as means over the voxels of the T2*w, in its pose, then in others."""
        path = folder / f"t1w_{len(self.poses)}.npy"
        refuse_others(folder / "halves.json", self.images)
        if not path.exists():
            image, affine = load_image(one(root, "sub-*/anat/*_T1w.nii.gz"))
            moving, fixed = (
                Image(data=image, affine=affine),
                Image(data=self.fine.image, affine=self.fine.affine),
            )
            found = rigid(
                fixed,
                moving,
                self.fine.mask,
                head_mask(image, affine),
                seed=1,
                prefix=f"{folder}/t1w_",
            )
            shape, fine = hr_grid(self.fine.image.shape, self.fine.affine, (3.0, 3.0, 3.0))
            made = [
                degrade(
                    sample_volume(image, affine, shape, fine, found.xfm @ pose),
                    fine,
                    (3.0, 3.0, 3.0),
                    block_matrix,
                )[0]
                for pose in self.poses
            ]
            with whole_file(path) as part, part.open("wb") as stream:
                np.save(stream, np.maximum(np.stack(made), 0).astype(np.float32))
        return list(np.load(path))

    def origin(self) -> Row:
        """What figures are taken of."""
        return {"images": self.images, "slabs": self.slabs, "gap": self.gap}

    def source(self) -> list[TrainingImage]:
        """The known half in T1w."""
        whole = [
            Volume(image=image, mask=self.fine.mask, affine=self.fine.affine) for image in self.t1w
        ]
        return [
            volume.cut(slice(0, self.left)).to_train(SOURCE, f"pose-{k}")
            for k, volume in enumerate(whole)
        ]

    def few(self, target: str) -> list[TrainingImage]:
        """Slices in the middle of the known half."""
        first = (self.low + self.high - self.slices) // 2
        part = self.fine.cut(slice(0, self.left), slice(None), slice(first, first + self.slices))
        return [part.to_train(target, "slices")]

    def tested(self, target: str) -> Iterator[tuple[Volume, list[tuple[str, tuple[slice, ...]]]]]:
        """The other half, in slabs."""
        stop = self.right + (self.fine.image.shape[0] - self.right) // 2 * 2
        edges = np.linspace(self.low, self.high, self.slabs + 1).round().astype(int)
        cuts = [(slice(None), slice(None), slice(a, b)) for a, b in pairwise(edges.tolist())]
        yield (
            self.fine.cut(slice(self.right, stop)),
            [(f"slab-{k}", at) for k, at in enumerate(cuts)],
        )

    def both(self, target: str) -> Iterator[tuple[Volume, Volume]]:
        """The two contrasts of the whole brain."""
        yield Volume(image=self.t1w[0], mask=self.fine.mask, affine=self.fine.affine), self.fine


def scores(
    data: Phantoms | Halves, target: str, school: School, name: str, model: LoadedModel | None
) -> list[Row]:
    """Figures of each case."""
    out = []
    for fine, parts in data.tested(target):
        made = school.raised(name, model, fine)
        out += [{"case": case} | figures(fine.cut(*at), made[at]) for case, at in parts]
    return out


def measured(data: Phantoms | Halves, given: argparse.Namespace) -> list[Row]:
    """All figures of a data set."""
    folder = given.work / type(data).__name__.lower()
    folder.mkdir(parents=True, exist_ok=True)
    school = School(
        folder=folder, factor=FACTOR, patch=(32, 32, 8), batch=8, threads=given.threads
    )
    rows: list[Row] = []

    def add(
        target: str, arm: str, seed: int, model: LoadedModel | None, name: str = given.method
    ) -> None:
        path = folder / (
            f"{target}_{arm.replace(' ', '-').replace(',', '')}_{name}_{given.budget}_{seed}"
            ".scores.json"
        )
        own = data.origin() | {
            "model": None if model is None else model.card.json["weights_sha256"]
        }
        found = kept_rows(path, own, lambda: scores(data, target, school, name, model))
        rows.extend({"target": target, "arm": arm, "seed": seed} | row for row in found)

    for target in (*data.targets, *data.controls):
        add(target, "cubic", 0, None, "bspline")
        add(target, "zero filling", 0, None, "zerofill")
    for seed in range(given.seeds):
        source, _ = school.learn(SOURCE, given.method, data.source(), given.seconds, seed)
        for target in (*data.targets, *data.controls):
            add(target, AS_IT_IS, seed, source)
        for target in data.targets:
            few = data.few(target)
            learn = lambda label, *a, few=few, seed=seed, **k: school.learn(  # noqa: E731
                label, given.method, few, *a, seed, **k
            )[0]
            add(target, TUNED, seed, learn(f"{target}-tuned", given.tuning, start=source, last=3))
            add(target, SCRATCH, seed, learn(f"{target}-scratch", given.tuning))
            add(target, LONGER, seed, learn(f"{target}-scratch", given.seconds + given.tuning))
    return rows


def likeness(data: Phantoms | Halves, target: str, school: School) -> tuple[float, float]:
    """Mean correlation of source and target in the brain: of the images, and of what cubic
    interpolation leaves.
    """
    plain, left = [], []
    for source, other in data.both(target):
        plain.append(correlation(source.image, other.image, other.mask))
        rest = [each.image - school.raised("bspline", None, each) for each in (source, other)]
        left.append(correlation(rest[0], rest[1], other.mask))
    return float(np.mean([r for r in plain if r is not None])), float(
        np.mean([r for r in left if r is not None])
    )


def against(own: Array, other: Array) -> str:
    """How much smaller the errors are than another arm's (%), and p."""
    return f"{spread(gains(own, other))}, p = {paired_p(own - other):.2g}"


def table(data: Phantoms | Halves, rows: list[Row], given: argparse.Namespace) -> list[Row]:
    """Rows of the table of one data set."""
    school = School(
        folder=given.work, factor=FACTOR, patch=(32, 32, 8), batch=8, threads=given.threads
    )
    found = mean_over_seeds(rows, ("target", "arm"), "case")
    out = []
    for target in (*data.targets, *data.controls):
        r, detail = likeness(data, target, school)
        cubic = found[target, "cubic"]
        for arm in ("cubic", "zero filling", AS_IT_IS, TUNED, SCRATCH, LONGER):
            if (target, arm) not in found:
                continue
            own = found[target, arm]

            def versus(
                other: str, arm: str = arm, target: str = target, own: dict[str, Array] = own
            ) -> str:
                if other == arm or (target, other) not in found or arm == "zero filling":
                    return ""
                return against(own["rmse"], found[target, other]["rmse"])

            out.append(
                {
                    "data": data.name,
                    "target": target,
                    "contrast r with T1w": round(r, 2),
                    "r of the detail": round(detail, 2),
                    "way": arm,
                    "RMSE (%)": round(float(own["rmse"].mean()), 3),
                    "gain over cubic (%)": (
                        "" if arm == "cubic" else against(own["rmse"], cubic["rmse"])
                    ),
                    "gain over the T1w network as it is (%)": (
                        versus(AS_IT_IS) if arm in (TUNED, SCRATCH, LONGER) else ""
                    ),
                    "tuned: gain over this (%)": (
                        against(found[target, TUNED]["rmse"], own["rmse"])
                        if arm in (SCRATCH, LONGER)
                        else ""
                    ),
                    "SSIM": round(float(own["ssim"].mean()), 4),
                    "SSIM over cubic": (
                        ""
                        if arm == "cubic"
                        else (
                            f"{own['ssim'].mean() - cubic['ssim'].mean():+.4f}, p ="
                            f" {paired_p(own['ssim'] - cubic['ssim']):.2g}"
                        )
                    ),
                    "voxel / K (mm)": round(float(np.nanmean(own["resolution"])), 3),
                }
            )
    return out


def remarks(given: argparse.Namespace) -> Sequence[str]:
    """What the table rests on."""
    return [
        (
            f"{given.method}, fast recipe with patches of 32 x 32 x 8: {given.seconds:g} s of"
            f" processor for T1w, {given.tuning:g} s for the tuning, {given.seeds} seeds. Figures"
            f" of a case are means over seeds; paired t tests over {given.test} heads, or over 8"
            " slabs of one head, which are not independent; p is not corrected for their number."
            " RMSE in % of the 99th percentile in the brain; a gain is an RMSE that is smaller,"
            " in % of the other one."
        ),
        (
            "The paper (its figures are in plots): T2w (r = .72 with the source) gains over cubic"
            " without transfer, FA (r = -.69) does not, and transfer lowers its RMSE"
            " significantly; a network of human MPRAGE on mouse T2w is worse than cubic, with"
            " ringing. Another species or scanner cannot be had here."
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "bids_dir",
        type=Path,
        nargs="?",
        help="with T1w and T2*w of a person; phantoms alone without",
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="where heads, models and figures are kept"
    )
    parser.add_argument("--method", choices=("resnet3d", "ccnn3d", "gan3d"), default="resnet3d")
    parser.add_argument(
        "--seconds", type=float, default=24, help="of processor time for the training on T1w"
    )
    parser.add_argument("--tuning", type=float, default=6, help="of processor time on the target")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--heads", type=int, default=4, help="phantoms in T1w, and poses of the real T1w"
    )
    parser.add_argument("--test", type=int, default=8, help="phantoms to test on")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    given.budget = f"{given.seconds:g}-{given.tuning:g}"
    sets: list[Phantoms | Halves] = (
        [Halves(given.bids_dir, given.work, given.heads)] if given.bids_dir else []
    )
    sets.append(Phantoms(given.work, given.heads, given.test))
    rows: list[Row] = []
    for data in sets:
        rows += table(data, measured(data, given), given)
    name = "transfer" if given.method == "resnet3d" else f"transfer_{given.method}"
    keep(
        name,
        "From one contrast to another: the last three layers, nothing, or from scratch",
        rows,
        remarks=remarks(given),
    )


if __name__ == "__main__":
    main()
