"""What is asked for and what was found, as preflight leaves it to the workflows."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bids_sr.bids import BoldRun, entities_of, pretrained_for
from bids_sr.config import Settings
from bids_sr.config.settings import analysis_digest
from bids_sr.io.dataset_description import uri_of
from bids_sr.preflight.plan import Plan
from bids_sr.series import series_names
from bids_sr.workflows.wanted import Wanted, wanted_series


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

    def uri(self, path: Path) -> str:
        """URI of a file that was given.

        Address such as ``bids:raw:sub-01/func/…``.
        """
        paths = self.settings.paths
        roots = {each.name: each.root for each in self.plan.sources}
        return uri_of(path, {"": paths.output_dir, "raw": paths.bids_dir, **roots})

    def model_settings(self, one: Wanted) -> dict[str, object]:
        """Return the settings of a series' model beside the general ones.

        The model is trained with these, or found by them.

        Method, folder of models, given weights and seed by name.
        """
        assert one.method is not None
        superres, seed = self.settings.superres, self.settings.resources.random_seed
        return {
            "method": one.method.name,
            "model_dir": superres.models_to_reuse(self.settings.paths.output_dir),
            "pretrained": pretrained_for(superres, one.method.name),
            "random_seed": seed + one.seed,
        }


def named(path: Path, *names: str) -> dict[str, str]:
    """Those of the entities in a file name.

    `ArgumentTypeError`: the name or the file is missing. Labels by long name; those that are
    missing are left out.
    """
    return {name: label for name, label in entities_of(path).items() if name in names}
