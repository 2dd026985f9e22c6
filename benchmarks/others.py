"""What learning on other people adds to `sbl`: a person left out at a time, in plane by two.

python benchmarks/others.py NAME=BIDS_DIR ...
    table people_others; NAME is a person, all runs below BIDS_DIR
python benchmarks/others.py --below NAME=BIDS_DIR ...
    one level of resolution down, where settings were chosen

Every form is trained on the other people and tried on the runs of the one left out, three seeds
each:

kernels: 5 x 5 taps a voxel, predicted by a small network from the standard deviation of the
zero-filled change, its
    surroundings, the mean and the correlations with 12 neighbors, and applied to the zero-filled
    change
linear, regressed, solved: a correction of the logarithm of the two maps of `sbl`, from these maps,
the standard
    deviation of what they reconstruct and the same features. linear is a weighted sum of features,
    trained as solved; regressed is five 3 x 3 convolutions of 32 channels, regressed on the maps
    that `sbl` finds from the *measured* components; solved is the same network trained on the
    share itself, through the reconstruction (conjugate gradients, and once more for the
    derivative)
blended: half of the correction, the mean of the logarithms of the corrected maps and of `sbl`'s
own

Training data are the runs, the same runs brought down once more, and fluctuations simulated from
the maps of the measured components. `itself, one level down` has the left-out person's own
acquired runs only, brought down: what needs no other people. `alone` is trained on the first
person: what weights that may be shipped could do. `teacher` has the maps of the left-out person's
own measured components: what the regression would reach without error.
"""

from __future__ import annotations

import multiprocessing
import pickle
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F
from _table import keep
from numpy.typing import NDArray
from people import FIRST, Problem, brought_down, oracle, prior_of, recipe_of, without_drift
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from bids_sr.sr.resolution.operators import Level
from bids_sr.sr.variance.prior import Prior, Window, _blocks
from bids_sr.sr.variance.variance_estimation import estimate_prior

SEEDS = (0, 1, 2)
SLICES, COMPONENTS, WIDTH = 2, 8, 32
STEPS = {"kernels": 300, "linear": 100, "regressed": 200, "solved": 500}
RATES = {"kernels": 4e-3, "linear": 1e-2, "regressed": 4e-3, "solved": 2e-3}
# 12 of 5 x 5
AROUND = [(i, j) for i in range(5) for j in range(5) if 0 < (i - 2) ** 2 + (j - 2) ** 2 <= 4]
MAPS = 2  # the first two features, which `kernels` does not see
Array = NDArray[Any]
Turn = tuple[bool, bool, bool]  # first axis flipped, second axis flipped, axes exchanged
STAYS, ALL = (False, False, False), slice(None)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A run brought down, what a network sees of it and what it may learn; images are (Z, ..., X,
    Y) on the window.
    """

    kind: str  # "true", "below", "simulated"
    problem: Problem
    prior: Prior
    plain: Tensor  # (Z, P, X, Y) features, the logarithms of the two maps first
    near: Tensor  # (Z, 5, 5, X, Y) correlations with neighbors
    mask: Tensor  # (Z, 1, X, Y)
    filled: Tensor  # (Z, C, X, Y) zero-filled components
    missed: Tensor  # (Z, C, X, Y) measured less zero-filled
    coarse: Tensor  # (Z, C, x, y)
    energy: Tensor  # (C, 1, 1) of what zero filling misses
    teacher: Prior
    target: Tensor  # (Z, 2, X, Y) correction to the teacher's maps

    def beyond(self, image: Tensor) -> Tensor:
        """The part beyond the acquired band of images (..., X, Y) that are zero outside the
        window.
        """
        _, xs, ys = self.problem.window.fine
        x, y, _ = self.problem.level.fine
        whole = F.pad(image, (ys.start, y - ys.stop, xs.start, x - xs.stop))
        return self.problem.level.beyond(whole)[..., xs, ys]

    def share(self, found: Tensor) -> float:
        """Explained share of found (Z, C, X, Y)."""
        left = ((self.missed - found).square() * self.mask).sum((0, 2, 3))
        return float((1 - left / self.energy[:, 0, 0]).mean())

    def corrected(self, log: Tensor) -> Prior:
        """The prior with a correction (Z, 2, X, Y) of its logarithms."""
        return replace(self.prior, weight=self.prior.weight * log.transpose(0, 1).exp())


def window_of_truth(problem: Problem) -> Window:
    """The measured grid as its own data, on the same window."""
    fine = problem.level.fine
    return Window(level=Level(fine, fine), coarse=problem.window.fine, fine=problem.window.fine)


def teacher_of(problem: Problem) -> Prior:
    """The maps that sbl finds from the measured components, as a prior for the acquired ones."""
    found = estimate_prior(problem.known, window_of_truth(problem), recipe_of("sbl"))
    variance = float(
        problem.level.down(problem.known)[(ALL, *problem.window.coarse)].square().sum(0).mean()
    )
    own = replace(found, window=problem.window, noise=recipe_of("sbl").noise * variance)
    return replace(own, weight=own.weight * (variance / own.mean_variance) ** 0.5)


def case_of(problem: Problem, mean: Array, kind: str, teacher: Prior | None = None) -> Case:
    """A case of a run; mean is (x, y, z) as acquired."""
    level, window, fine = problem.level, problem.window, problem.window.fine
    prior, teacher = prior_of("sbl", problem), teacher_of(problem) if teacher is None else teacher
    assert isinstance(prior, Prior)
    with torch.inference_mode():
        at = (ALL, *fine)
        series = level.up(problem.acquired)[at]
        sd = series.square().sum(0).sqrt()
        again = (
            torch.stack([(level.up(c) + prior.beyond(c))[fine] for c in problem.acquired])
            .square()
            .sum(0)
            .sqrt()
        )
        low = torch.from_numpy(gaussian_filter(sd.numpy(), (0, 3, 3)))
        image = level.up(torch.from_numpy(mean.transpose(2, 0, 1).copy()))[fine].clamp_min(
            1e-3 * float(mean.max())
        )
        unit = series / sd.clamp_min(1e-6 * float(sd.max()))
        padded = F.pad(unit, (2, 2, 2, 2))
        x, y = sd.shape[1:]
        near = torch.stack(
            [
                (padded[..., i : i + x, j : j + y] * unit).sum(0)
                for i in range(5)
                for j in range(5)
            ],
            1,
        )
        inside, near = problem.mask[fine], near.clamp(-0.95, 0.99).atanh()
        plain = torch.stack(
            [*prior.weight.log(), sd.log(), (sd / low).log(), image.log(), again.log()], 1
        )
        known, coarse = problem.known, level.down(problem.known)
        filled = level.up(coarse)
        missed = (known - filled) * problem.mask
        case = Case(
            kind=kind,
            problem=problem,
            prior=prior,
            teacher=teacher,
            plain=_normalized(plain, inside),
            mask=inside[:, None].float(),
            near=_normalized(near, inside).unflatten(1, (5, 5)),
            filled=filled[at].transpose(0, 1),
            missed=missed[at].transpose(0, 1),
            coarse=coarse[(ALL, *window.coarse)].transpose(0, 1),
            energy=missed.square().sum((1, 2, 3))[:, None, None],
            target=(teacher.weight.log() - prior.weight.log()).clamp(-2, 2).transpose(0, 1),
        )
    own = {
        name: each.clone().contiguous()
        for name, each in vars(case).items()
        if isinstance(each, Tensor)
    }
    return replace(case, **own, prior=replace(prior, weight=prior.weight.clone()))  # type: ignore[arg-type]


def _normalized(features: Tensor, inside: Tensor) -> Tensor:
    chosen = features.transpose(0, 1)[:, inside, None, None]
    return ((features - chosen.mean(1)) / chosen.std(1).clamp_min(1e-6)).clamp(-5, 5)


def simulated(case: Case, seed: int) -> tuple[Problem, Prior]:
    """A run whose fluctuations are drawn from the maps of the measured one, changed at random, and
    these maps.
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    problem, teacher = case.problem, case.teacher
    power, known = rng.uniform(0.7, 1.3), torch.zeros_like(problem.known)
    texture = gaussian_filter(rng.normal(size=teacher.weight.shape[1:]), (0, 1.5, 1.5))
    change = torch.from_numpy((0.4 * texture / texture.std()).astype(np.float32))
    weight = (teacher.weight.log() * power + change).exp()
    level = float(teacher.weight.square().sum(0).mean() / weight.square().sum(0).mean())
    fine = replace(teacher, window=window_of_truth(problem), weight=weight * level**0.5)
    for number, image in enumerate(problem.known):
        drawn = fine.draw(generator)
        drawn += 0.1 * float(drawn.std()) * torch.randn(drawn.shape, generator=generator)
        known[number][problem.window.fine] = drawn * float(
            image[problem.window.fine].std() / drawn.std()
        )
    return replace(problem, known=known, acquired=problem.level.down(known)), replace(
        teacher, weight=fine.weight
    )


class Net(nn.Module):
    """Features to maps: `depth` 3 x 3 convolutions, or a weighted sum of features if it is 0."""

    def __init__(self, features: int, maps: int, depth: int = 5) -> None:
        super().__init__()
        widths = [features, *[WIDTH] * (depth - 1), maps] if depth else []
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.LeakyReLU(0.1)]
        self.body = nn.Sequential(*(layers[:-1] or [nn.Conv2d(features, maps, 1)]))
        for parameter in self.body[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, case: Case, slices: slice | list[int], turn: Turn = STAYS) -> Tensor:
        """(slices, maps, X, Y): what is predicted of images turned, turned back."""
        plain, near = turned(case.plain[slices], turn), turned(case.near[slices], turn)
        around = torch.stack([near[:, i, j] for i, j in AROUND], 1)
        out: Tensor = self.body(torch.cat([plain, around], 1))
        if out.shape[1] == 25:
            return turned(out.unflatten(1, (5, 5)), turn, back=True).flatten(1, 2)
        return turned(out, turn, back=True)


def turned(image: Tensor, turn: Turn, back: bool = False) -> Tensor:
    """Last two axes (and those of kernels, (B, 5, 5, X, Y)) flipped and then swapped, or back."""
    for pair in ((-2, -1), (1, 2)) if image.ndim == 5 else ((-2, -1),):
        if back and turn[2]:
            image = image.transpose(*pair)
        image = torch.flip(
            image, [axis for axis, flip in zip(pair, turn[:2], strict=True) if flip]
        )
        if not back and turn[2]:
            image = image.transpose(*pair)
    return image


class _Solved(torch.autograd.Function):
    """Zero in value; its derivative is that of (D C D' + s2 I)^-1 applied to the argument."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, prior: Prior) -> Tensor:
        ctx.prior = prior
        return torch.zeros_like(left)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.prior.solve(gradient.contiguous(), iterations=10), None


def reconstructed(case: Case, log: Tensor, slices: list[int], chosen: list[int]) -> Tensor:
    """What maps corrected by log (B, 2, X, Y) reconstruct of components, differentiable by log."""
    weight = case.prior.weight[:, slices].unsqueeze(2) * log.transpose(0, 1).unsqueeze(2).exp()
    prior = replace(case.prior, weight=weight)
    data = case.coarse[slices][:, chosen]
    with torch.no_grad():
        fixed = replace(case.prior, weight=weight.detach())
        solved = fixed.solve(data, iterations=10)
    solved = solved + _Solved.apply(data - prior.covariance(solved), fixed)
    return case.beyond(prior.prior_times_adjoint(solved))


def filtered(
    case: Case, taps: Tensor, slices: list[int] | slice, chosen: list[int] | slice
) -> Tensor:
    """Zero-filled components filtered by 5 x 5 taps (B, 25, X, Y), beyond the band."""
    padded = F.pad(case.filled[slices][:, chosen], (2, 2, 2, 2), mode="reflect")
    x, y = taps.shape[-2:]
    each = (padded[..., k // 5 :, k % 5 :][..., :x, :y] * taps[:, None, k] for k in range(25))
    return case.beyond(sum(each, start=torch.zeros(())))


def trained(net: Net, form: str, cases: Sequence[Case], seed: int) -> Net:
    """A network after its steps."""
    rng, optimizer = np.random.default_rng(seed), torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATES[form], STEPS[form])
    chances = np.array([float(case.mask.sum()) for case in cases])
    for _ in range(STEPS[form]):
        case = cases[int(rng.choice(len(cases), p=chances / chances.sum()))]
        slices = [int(z) for z in rng.permutation(len(case.mask))[:SLICES]]
        turn = tuple(bool(rng.integers(2)) for _ in range(3))
        out = net(case, slices, turn)
        if form == "regressed":
            loss = ((out - case.target[slices]).square() * (0.1 + case.mask[slices])).mean()
        else:
            chosen = [int(c) for c in rng.permutation(case.coarse.shape[1])[:COMPONENTS]]
            make = filtered if form == "kernels" else reconstructed
            found = make(case, out, slices, chosen)
            missed = case.missed[slices][:, chosen]
            wrong = (missed - found).square() * case.mask[slices] - missed.square()
            loss = (wrong / case.energy[chosen]).sum() * len(case.mask) / SLICES / len(chosen)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return net.eval()


def cases_of(argument: str, below: bool) -> Iterator[Case]:
    """Cases of the runs of NAME=BIDS_DIR."""
    person, _, folder = argument.partition("=")
    for file in sorted(Path(folder).glob("sub-*/**/func/*_bold.nii.gz")):
        image = nib.load(file)
        data = np.asarray(image.dataobj, dtype=np.float32)[..., FIRST:]  # type: ignore[attr-defined]
        data = data[: data.shape[0] // 8 * 8, : data.shape[1] // 8 * 8]
        problem = brought_down(without_drift(file.name, person, data))
        lower = brought_down(replace(problem.run, series=problem.low, mask=problem.low_mask))
        mean = _down(problem.level, data.mean(-1))
        if not below:
            yield case_of(lower, _down(lower.level, mean), "below")
        true, mean = (lower, _down(lower.level, mean)) if below else (problem, mean)
        first = case_of(true, mean, "true")
        yield first
        made, drawn_from = simulated(first, 1)
        yield case_of(made, mean, "simulated", drawn_from)


def _down(level: Level, mean: Array) -> Array:
    """(X, Y, Z) to (x, y, z)."""
    return level.down(torch.from_numpy(mean.transpose(2, 0, 1).copy())).numpy().transpose(1, 2, 0)


def taught(cases: Sequence[Case], seed: int, forms: Sequence[str]) -> dict[str, Net]:
    """Forms trained on cases."""
    features = cases[0].plain.shape[1] + len(AROUND)
    out: dict[str, Net] = {}
    _blocks.cache_clear()  # what was made for inference cannot be differentiated
    for form in forms:
        torch.manual_seed(seed)
        if form == "kernels":
            out[form] = trained(
                Net(features - MAPS - 1, 25), form, [_blind(case) for case in cases], seed
            )
        else:
            out[form] = trained(Net(features, 2, 0 if form == "linear" else 5), form, cases, seed)
    return out


def _blind(case: Case) -> Case:  # neither the maps nor what they reconstruct
    return replace(case, plain=case.plain[:, MAPS:-1])


def tried(nets: dict[str, Net], case: Case) -> dict[str, float]:
    """Shares on one run."""
    out: dict[str, float] = {}
    with torch.inference_mode():
        for form, net in nets.items():
            if form == "kernels":
                out[form] = case.share(filtered(case, net(_blind(case), ALL), ALL, ALL))
                continue
            for label, part in (("", 1.0), (", blended", 0.5)):
                out[form + label] = case.problem.share(case.corrected(part * net(case, ALL)))
    return out


PEOPLE: dict[str, list[Case]] = {}  # inherited by the processes that train
Task = tuple[str, tuple[str, ...], tuple[str, ...], int, tuple[str, ...]]


def held_out(task: Task) -> dict[tuple[str, int, str], float]:
    """Shares by (person, run, form): (people tried on, those who teach, kinds of cases, seed,
    forms).
    """
    who, teachers, kinds, seed, forms = task
    nets = taught(
        [each for name in teachers for each in PEOPLE[name] if each.kind in kinds], seed, forms
    )
    out: dict[tuple[str, int, str], float] = {}
    for name in who.split():
        for number, each in enumerate((each for each in PEOPLE[name] if each.kind == "true"), 1):
            out |= {(name, number, form): value for form, value in tried(nets, each).items()}
    print(teachers, kinds, seed, {key: round(value, 4) for key, value in out.items()}, flush=True)
    return out


def packed_cases(argument: str, below: bool) -> bytes:
    """Cases of one argument, pickled: a process's tensors do not outlive it."""
    return pickle.dumps(list(cases_of(argument, below)))


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(2, multiprocessing.get_context("fork"), torch.set_num_threads, (1,))


def without_learning() -> dict[str, dict[tuple[str, int], list[float]]]:
    """Shares of what needs no other people, by form and (person, run)."""
    found: dict[str, dict[tuple[str, int], list[float]]] = {}
    for name, cases in PEOPLE.items():
        for number, each in enumerate((each for each in cases if each.kind == "true"), 1):
            for form, prior in (
                ("focuss", prior_of("focuss", each.problem)),
                ("sbl", each.prior),
                ("oracle", oracle(each.problem)),
                ("teacher", each.teacher),
            ):
                found.setdefault(form, {})[name, number] = [each.problem.share(prior)]
                print(name, number, form, found[form][name, number], flush=True)
    return found


def main() -> int:
    """The table."""
    arguments, below = [a for a in sys.argv[1:] if a != "--below"], "--below" in sys.argv
    if len(arguments) < 2:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    with _pool() as pool:
        packed = list(pool.map(packed_cases, arguments, [below] * len(arguments)))
    PEOPLE.update(
        (a.partition("=")[0], pickle.loads(each))
        for a, each in zip(arguments, packed, strict=True)
    )
    names, every = tuple(PEOPLE), ("true", "below", "simulated")
    tasks: dict[Task, str] = {}
    for seed in SEEDS:
        tasks |= {
            (name, tuple(n for n in names if n != name), every, seed, tuple(STEPS)): ""
            for name in names
        }
        if not below:
            own = ", taught by itself, one level down"
            tasks |= {(name, (name,), ("below",), seed, ("solved",)): own for name in names}
        if len(names) > 2:
            tasks[" ".join(names[1:]), names[:1], every, seed, ("linear", "solved")] = (
                f", taught by {names[0]} alone"
            )
    found = without_learning()
    with _pool() as pool:
        for label, shares in zip(tasks.values(), pool.map(held_out, tasks), strict=True):
            for (name, number, form), value in shares.items():
                found.setdefault(form + label, {}).setdefault((name, number), []).append(value)
    rows, remarks = table(found)
    name, level = (
        ("_below", "one level of resolution down") if below else ("", "at the true level")
    )
    keep(f"people_others{name}", f"What other people teach, {level}", rows, remarks=remarks)
    return 0


def table(
    found: dict[str, dict[tuple[str, int], list[float]]],
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows, a form each, and what they say of the bars."""
    rows, remarks = [], []
    for form, shares in found.items():
        row: dict[str, Any] = {"form": form}
        for name, number in found["sbl"]:
            values = shares.get((name, number))
            spread = (
                f" ({min(values):.4f} to {max(values):.4f})" if values and len(values) > 1 else ""
            )
            row[f"{name} {number}"] = f"{np.mean(values):.4f}{spread}" if values else ""
        people: dict[str, list[float]] = {}
        for (name, number), values in shares.items():
            people.setdefault(name, []).append(
                float(np.mean(values)) - found["sbl"][name, number][0]
            )
        rows.append(
            row
            | {
                "less sbl": ", ".join(
                    f"{name} {np.mean(each):+.4f}" for name, each in people.items()
                )
            }
        )
        if any(len(values) > 1 for values in shares.values()):
            worst = {
                bar: min(min(v) - found[bar][key][0] for key, v in shares.items())
                for bar in ("focuss", "sbl")
            }
            remarks.append(
                f"{form}: the worst seed on the worst run is {worst['focuss']:+.4f} beside focuss,"
                f" {worst['sbl']:+.4f} beside sbl."
            )
    return rows, remarks


if __name__ == "__main__":
    sys.exit(main())
