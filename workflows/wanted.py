"""Series of a run: those stored, and placebos and ensemble members that are only evaluated.

What is requested and what was found, as preflight leaves it to the workflows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from bids_sr.bids import BoldRun, entities_of, guide_of, pretrained_for, vgg_weights_for
from bids_sr.boilerplate import HERE
from bids_sr.config import Settings
from bids_sr.config.settings import analysis_digest
from bids_sr.frozen import frozen
from bids_sr.io.grids import AS_STORED, AxisOrder
from bids_sr.io.uris import uri_of
from bids_sr.pipeline.outputs import Outputs
from bids_sr.preflight.plan import Plan
from bids_sr.series import (
    INTERPOLATIONS,
    PAIR_BASELINES,
    member_name,
    series_name,
    series_names,
)
from bids_sr.sr.method import Method, method_of_series
from bids_sr.sr.models.other_models import other_models
from bids_sr.sr.recipe_changes import changes_of
from bids_sr.steps.training import TrainingSettings

_LearnedFrom = Literal["pair", "volumes", "run"]


def learned_from(method: Method, *, paired: bool) -> _LearnedFrom:
    """Whether a method learns from a pair, from volumes of the run, or how the run changes.

    A model that was given needs no pair (not `paired`).
    """
    if method.trained_on == "series":
        return "run"
    return "pair" if paired and method.trained_on != "self" else "volumes"


@frozen
class Wanted:
    """A series that is made of a run besides ``raw``.

    `learned_from`: what its model learns from; empty without a model. `guided`: whether static
    detail of the high-resolution T2*w image enters. `placebo`: what sets a control apart from its
    method, such as ``Mirror``; empty for none. `model`: weights that take the place of its own;
    None if missing.
    """

    name: str
    method: Method | None = None
    learned_from: _LearnedFrom | Literal[""] = ""
    guided: bool = False
    seed: int = 0
    placebo: str = ""
    model: Path | None = None

    @property
    def stored(self) -> bool:
        """Whether it is kept and mapped, and not evaluated alone."""
        return not (self.seed or self.placebo)

    @property
    def judged(self) -> bool:
        """Whether it is a method under judgment, and no baseline."""
        return self.method is not None and not self.control

    @property
    def control(self) -> bool:
        """Whether it has a model and stands among the baselines, such as `sdmod`."""
        return self.method is not None and self.method.control

    @property
    def source(self) -> str:
        """Name of the series that it is a variant of; its own for all others."""
        return self.name if self.method is None else series_name(self.method.name)

    @property
    def network(self) -> bool:
        """Whether a network is applied to it volume by volume."""
        return self.learned_from in ("pair", "volumes")


def wanted_series(
    settings: Settings, run: BoldRun, names: Sequence[str], *, with_anat: bool
) -> tuple[Wanted, ...]:
    """Return the series of a run in order of computation.

    Those that are stored come first, then members of ensembles, then placebos.
    """
    stored = [_stored(settings, run, name) for name in names if name != "raw"]
    learned = [
        one
        for one in stored
        if one.method is not None and (one.network or one.learned_from == "run")
    ]
    members = [each for one in learned for each in _members(settings, one)]
    placebos = [
        each
        for one in learned
        if not one.control
        for each in _placebos(settings, run, one, with_anat)
    ]
    # kinds side by side, of all methods
    order = {"Phantom": 0, "Other": 0, "T1w": 1, "Mirror": 2, "Shift": 2}
    return (*stored, *members, *sorted(placebos, key=lambda one: order[one.placebo]))


def _stored(settings: Settings, run: BoldRun, name: str) -> Wanted:
    superres = settings.superres
    if name in PAIR_BASELINES:
        return Wanted(name=name, guided=True)
    if name in INTERPOLATIONS:
        return Wanted(name=name)
    method = method_of_series(name)
    alone = run.pair is None and pretrained_for(superres, method.name) is not None
    source = learned_from(method, paired=not alone)
    guided = source == "run" and guide_of(superres, run) != "none"
    return Wanted(name=name, method=method, learned_from=source, guided=guided)


def _variant(spec: Wanted, name: str, **how: object) -> Wanted:
    """A variant of a series, which is evaluated and not stored."""
    kept = {"method": spec.method, "learned_from": spec.learned_from, "guided": spec.guided}
    return Wanted(name=name, **kept, **how)  # type: ignore[arg-type]


def _members(settings: Settings, spec: Wanted) -> Iterator[Wanted]:
    """The further members of a method's ensemble; the method itself is the first."""
    assert spec.method is not None
    if spec.method.draws and pretrained_for(settings.superres, spec.method.name) is None:
        for seed in range(1, settings.superres.n_ensemble):
            yield _variant(spec, member_name(spec.name, seed), seed=seed)


def _placebos(settings: Settings, run: BoldRun, spec: Wanted, with_anat: bool) -> Iterator[Wanted]:
    """The placebos of a method that can be made of a run, where they were requested."""
    assert spec.method is not None
    offered = (
        {each.suffix for each in spec.method.placebos}
        if settings.evaluation.null_checks
        else set()
    )
    shipped = HERE / "models" / f"{spec.name}_phantom.safetensors"
    models = {"Phantom": [shipped] if shipped.exists() else []}
    if "Other" in offered:
        store = settings.paths.output_dir / "sourcedata" / "models"
        label = run.entities["subject"]
        factor = run.factor
        models["Other"] = other_models(store, spec.name, label, factor=factor, zooms=run.zooms)
    for placebo, found in models.items():
        if placebo in offered and found:
            yield _variant(spec, series_name(spec.name, placebo), placebo=placebo, model=found[0])
    for placebo in ("T1w", "Mirror", "Shift"):
        if placebo in offered and (with_anat or placebo != "T1w"):
            yield _variant(spec, series_name(spec.name, placebo), placebo=placebo)


@dataclass(frozen=True, kw_only=True)
class Planned:
    """Settings, and a plan without problems, of one version of the program."""

    settings: Settings
    plan: Plan
    version: str

    @cached_property
    def made_by(self) -> dict[str, str]:
        """What sidecars of tables say of what made them."""
        return {
            "GeneratedByVersion": self.version,
            "SettingsDigest": analysis_digest(self.settings),
        }

    def wanted(self, run: BoldRun, *, with_anat: bool) -> tuple[Wanted, ...]:
        """Return series that are made of a run besides ``raw``."""
        return wanted_series(self.settings, run, self.plan.series_of(run), with_anat=with_anat)

    def primary(self, run: BoldRun) -> str:
        """Return the series that other programs are given.

        It is that of the run's last method; without one, the B-spline series.
        """
        made = [name for name in self.plan.series_of(run) if name != "raw"]
        methods = [name for name in series_names(self.settings.superres.learned) if name in made]
        return next(
            iter([*methods[::-1], *(name for name in made if name == "bspline"), *made[::-1]])
        )

    def datasets(self, runs: Iterable[BoldRun]) -> tuple[str, ...]:
        """The primary series of some runs, each once: there is a data set of each."""
        return tuple(dict.fromkeys(map(self.primary, runs)))

    def outputs(
        self,
        entities: Mapping[str, str],
        *,
        datasets: Sequence[str] = (),
        provenance: Mapping[str, object] = MappingProxyType({}),
        axis_order: AxisOrder = AS_STORED,
    ) -> Outputs:
        """Return where and how files with some entities are stored; see `Outputs`."""
        return Outputs(
            output_dir=self.settings.paths.output_dir,
            figures_dir=self.settings.figures_dir,
            entities=entities,
            level=self.settings.run.level,
            provenance=provenance,
            axis_order=axis_order,
            dtype=self.settings.preprocessing.output_dtype,
            datasets=datasets,
        )

    def uri(self, path: Path) -> str:
        """URI of a file that was given.

        Address such as ``bids:raw:sub-01/func/…``.
        """
        paths = self.settings.paths
        roots = {each.name: each.root for each in self.plan.sources}
        return uri_of(path, {"": paths.output_dir, "raw": paths.bids_dir, **roots})

    def training(self, spec: Wanted) -> TrainingSettings:
        """Return how the model of a series is trained, or which one is taken in its place."""
        assert spec.method is not None
        return self.training_of(spec.method.name, seed=spec.seed)

    def training_of(self, method: str, *, seed: int = 0) -> TrainingSettings:
        """Return how a model of a method is trained, or which one is taken in its place.

        `seed`: is added to the seed of the call, for further members of an ensemble.
        """
        superres, resources = self.settings.superres, self.settings.resources
        return TrainingSettings(
            method=method,
            recipe=superres.recipe,
            recipe_changes=changes_of(superres.recipe_changes, method),
            model_source=superres.model_source,
            model_dir=superres.models_to_reuse(self.settings.paths.output_dir),
            pretrained=pretrained_for(superres, method),
            vgg_weights=vgg_weights_for(superres, method),
            random_seed=resources.random_seed + seed,
            omp_nthreads=resources.omp_nthreads or 1,
            device=resources.device,
            train_precision=superres.train_precision,
            max_train_minutes=superres.max_train_minutes,
            force=superres.force,
            sloppy=self.settings.run.sloppy,
        )


def named(path: Path, *names: str) -> dict[str, str]:
    """Those of the entities in a file name.

    `ArgumentTypeError`: the name or the file is missing. Labels by long name; those that are
    missing are left out.
    """
    return {name: label for name, label in entities_of(path).items() if name in names}


def methods_of(specs: Sequence[Wanted]) -> tuple[str, ...]:
    """Stored series that are under judgment, networks first."""
    found = [one for one in specs if one.stored and one.judged]
    return tuple(one.name for one in sorted(found, key=lambda one: not one.network))
