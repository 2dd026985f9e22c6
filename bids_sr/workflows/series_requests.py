"""Requested and computed series of a run, and settings and plan that all workflows share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from bids_sr.config import Settings
from bids_sr.config.settings import analysis_digest
from bids_sr.engine.artifacts import Facts, File, Rows
from bids_sr.engine.outputs import Outputs
from bids_sr.glm.steps.mapped_series import SampledSeries
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import AS_STORED, AxisOrder
from bids_sr.io.series import ACQUIRED, ACQUIRED_BAND, get_need, series_names
from bids_sr.io.uris import file_uri
from bids_sr.sr.method import Method, method_of_series
from bids_sr.sr.models.request import TrainingSettings
from bids_sr.sr.recipe_changes import select_changes
from bids_sr.sr.steps.training import ModelFiles, VarianceModel
from bids_sr.survey.bids.entities import parse_entities
from bids_sr.survey.bids.inputs import BoldRun
from bids_sr.survey.bids.method_options import find_vgg_weights, uses_guide
from bids_sr.survey.bids.pretrained_models import find_pretrained
from bids_sr.survey.preflight.plan import Plan

_LearnedFrom = Literal["pair", "volumes", "run"]


@frozen
class SeriesRequest:
    """Series that is computed from a run in addition to ``acquired``.

    `learned_from` is the training data of the model; "" if there is no model. `uses_guide` states
    whether static detail of the high-resolution T2*w image is added, and `is_mapped` whether
    activation is mapped.
    """

    name: str
    method: Method | None = None
    learned_from: _LearnedFrom | Literal[""] = ""
    uses_guide: bool = False
    is_mapped: bool = True

    @property
    def is_evaluated(self) -> bool:
        """Whether the series is from an evaluated method, not from a baseline."""
        return self.method is not None and not self.is_control

    @property
    def is_control(self) -> bool:
        """Whether the series has a model but is evaluated as a baseline, such as `sdmod`."""
        return self.method is not None and self.method.is_baseline

    @property
    def uses_network(self) -> bool:
        """Whether the series is computed by a network, volume by volume."""
        return self.learned_from in ("pair", "volumes")


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Settings and checked plan of a call, with the version of the program."""

    settings: Settings
    plan: Plan
    version: str

    @cached_property
    def provenance(self) -> dict[str, str]:
        """Provenance metadata for sidecars of tables: version and digest of the settings."""
        return {
            "GeneratedByVersion": self.version,
            "SettingsDigest": analysis_digest(self.settings),
        }

    @cached_property
    def smoothing(self) -> tuple[float, ...]:
        """Smoothing of the maps of all runs (FWHM, mm)."""
        return self.plan.choose_smoothing(self.settings.activation)

    def list_requests(self, run: BoldRun) -> tuple[SeriesRequest, ...]:
        """Return the series that are computed from a run in addition to ``acquired``."""
        names = self.plan.list_series(run)
        return tuple(
            _request_in_run(self.settings, run, name) for name in names if name != ACQUIRED
        )

    def primary(self, run: BoldRun) -> str:
        """Return the name of the exported series of a run.

        This is the series of the last method of the run. Without methods, it is the B-spline
        series or, if that was not requested, the last series.
        """
        names = [name for name in self.plan.list_series(run) if name != ACQUIRED]
        methods = [name for name in series_names(self.settings.superres.learned) if name in names]
        if methods:
            return methods[-1]
        return "bspline" if "bspline" in names else names[-1]

    def datasets(self, runs: Iterable[BoldRun]) -> tuple[str, ...]:
        """Return the unique primary series of some runs; each is exported as a dataset.

        Without stored series, there are no such datasets.
        """
        stored_runs = runs if self.settings.run.store_series else ()
        return tuple(dict.fromkeys(map(self.primary, stored_runs)))

    def outputs(
        self,
        entities: Mapping[str, str],
        *,
        datasets: Sequence[str] = (),
        provenance: Mapping[str, object] = MappingProxyType({}),
        axis_order: AxisOrder = AS_STORED,
    ) -> Outputs:
        """Return the storage of files with common entities; see `Outputs`.

        `entities` are common to the files: labels by long entity name. `datasets` are primary
        series whose datasets receive exported files. `provenance` is metadata for sidecars of
        tables. `axis_order` is the axis order of the input files.
        """
        return Outputs(
            output_dir=self.settings.paths.output_dir,
            entities=entities,
            level=self.settings.run.level,
            provenance=provenance,
            axis_order=axis_order,
            dtype=self.settings.preprocessing.output_dtype,
            datasets=datasets,
            with_series=self.settings.run.store_series,
        )

    def uri(self, path: Path) -> str:
        """Return the BIDS URI of an input file, such as ``bids:raw:sub-01/func/…``."""
        paths = self.settings.paths
        roots = {source.name: source.root for source in self.plan.sources}
        return file_uri(path, {"": paths.output_dir, "raw": paths.bids_dir, **roots})

    def make_training(self, method: str) -> TrainingSettings:
        """Return the training settings of a method, including any existing model to use."""
        superres, resources = self.settings.superres, self.settings.resources
        return TrainingSettings(
            method=method,
            recipe=superres.recipe,
            recipe_changes=select_changes(superres.recipe_changes, method),
            model_source=superres.model_source,
            model_dir=superres.models_to_reuse(self.settings.paths.output_dir),
            pretrained=find_pretrained(superres, method) or self.plan.kept_networks.get(method),
            vgg_weights=find_vgg_weights(superres, method),
            random_seed=resources.random_seed,
            omp_nthreads=resources.omp_nthreads or 1,
            device=resources.device,
            train_precision=superres.train_precision,
            max_train_minutes=superres.max_train_minutes,
            force=superres.force,
            sloppy=self.settings.run.sloppy,
        )


def _request_in_run(settings: Settings, run: BoldRun, name: str) -> SeriesRequest:
    """Return the request of a series of a run."""
    if get_need(name) in ("volume", "pair"):
        request = request_series(name, has_pair=False, uses_guide=False)
        return replace(request, is_mapped=_maps_baseline(settings, run, name))
    method = method_of_series(name)
    uses_trained_model = (
        run.pair is None and find_pretrained(settings.superres, method.name) is not None
    )
    return request_series(
        name, has_pair=not uses_trained_model, uses_guide=uses_guide(settings, run)
    )


def _maps_baseline(settings: Settings, run: BoldRun, name: str) -> bool:
    """Return whether activation in a baseline is mapped.

    Zero filling is only compared with references; without one, methods refine its series.
    """
    superres = settings.superres
    return (
        name != ACQUIRED_BAND
        or superres.all_baselines
        or name in superres.chosen
        or (run.truth is not None and run.truth.has_maps)
    )


def request_series(name: str, *, has_pair: bool, uses_guide: bool) -> SeriesRequest:
    """Return the request of a baseline or of the series of a method.

    `has_pair` states whether networks are trained on a pair of the participant, and `uses_guide`
    whether methods that estimate prior SD maps add the static detail of a guide.
    """
    need = get_need(name)
    if need in ("volume", "pair"):
        return SeriesRequest(name=name, uses_guide=need == "pair")
    method = method_of_series(name)
    source = find_training_data(method, has_pair=has_pair)
    return SeriesRequest(
        name=name, method=method, learned_from=source, uses_guide=uses_guide and source == "run"
    )


def find_training_data(method: Method, *, has_pair: bool) -> _LearnedFrom:
    """Return which data a method learns from: a pair, volumes of the run, or the whole run.

    `has_pair`: whether a pair is available; False for a trained model that is used without a pair.
    """
    if method.trained_on == "series":
        return "run"
    return "pair" if has_pair and method.trained_on != "self" else "volumes"


@frozen
class ComputedSeries(SampledSeries):
    """Series of a run, with its model and test results.

    Optional fields are None if they do not apply to the series.

    `request` is None for the acquired and measured series. `model_file` is the applied model, and
    `card_file` its model card. `network_files` is the network, if it was trained on volumes of the
    run. `variance` are the prior SD maps, if the method estimates them. `holdout` are metrics on a
    held-out pair.
    """

    request: SeriesRequest | None = None
    model_file: File | None = None
    card_file: Facts | None = None
    network_files: ModelFiles | None = None
    variance: VarianceModel | None = None
    holdout: Rows | None = None


def select_entities(path: Path, *names: str) -> dict[str, str]:
    """Return selected entities of a file name: labels by long entity name.

    `names`: long names of the entities; entities that the file name lacks are omitted.
    """
    return {name: label for name, label in parse_entities(path).items() if name in names}


def list_methods(requests: Sequence[SeriesRequest]) -> tuple[str, ...]:
    """Return the names of series whose methods are evaluated, networks first."""
    methods = [request for request in requests if request.is_evaluated]
    return tuple(
        request.name for request in sorted(methods, key=lambda request: not request.uses_network)
    )
