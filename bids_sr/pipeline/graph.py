"""Build graphs from names: each parameter of a step is connected to the artifact of that name.

The artifact comes from the step that makes it.

Steps stand in scopes, such as a participant, a run, a series of the run. What a step asks for is
looked up in its own scope, in those beside it, then outward; a parameter that is a list, or a
dictionary by the names of scopes, takes what all inner scopes make under that name. `Graph`
resolves all of it before anything runs and imports nothing that it does not need;
`bids_sr.pipeline.nipype_workflow` makes a workflow of it.

Sources of stored files, from the graph: the stored or given files that each is made of.

From a stored artifact each wire is followed upward to the nearest artifact that is stored
(``bids::…``) or file that was given; what is not stored is passed through, and names only what the
other sources do not tell themselves. Settings that a step makes, such as a number of volumes, are
no files and are passed over. The image on whose grid a stored image lies is known in its scope as
``reference``.
"""

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar, cast

from bids_sr.config.section import reaches
from bids_sr.io.dataset_description import dataset_of
from bids_sr.pipeline.artifacts import REQUIRED, Port
from bids_sr.pipeline.step import Keep, Lookup, Part, Step
from bids_sr.pipeline.store import derivative_path
from bids_sr.sr.method import Cost

_T = TypeVar("_T")
_Wires = Mapping["Placed", Mapping[str, "Wire"]]
_Found = Iterator[tuple[str, bool]]
"""URIs, and whether each is a source itself, rather than a source of what is not stored."""
_NO_SIDECAR = frozenset({".safetensors"})
"""Files that tell nothing of themselves: what they are made of is named beside them."""
_SERIES = "_bold.nii.gz"  # the parent of a series is always named
_IN_THE_FUTURE = (
    "Sentences in the future tense describe steps that were not completed when this text was"
    " written. The methods text of a completed run describes all steps in the past tense."
)
_ALIGNED = {"": "reference", "T1w": "t1w_preproc"}
"""What images of a space lie on, by its name in the graph; the template's spaces are none of the
graph.
"""


class Provenance:
    """What stored files are made of."""

    def __init__(self, wires: _Wires, store: object, uri: Callable[[Path], str]) -> None:
        self.wires, self.uri = wires, uri
        self.stored: dict[Maker, str] = {}
        for placed in (each for each in wires if each.step is store):
            (maker,) = wires[placed]["files"].makers
            if path := _stored_path(placed, maker):
                self.stored[maker] = f"bids::{path}"
        self.maker = {uri: maker for maker, uri in self.stored.items()}
        self._made_of = cache(self._made_of_once)
        self._before = cache(self._before_once)

    def told(self, placed: "Placed") -> dict[str, object]:
        """Return the metadata for a storing step: its sources, and spatial reference by space.

        A storing step is the step that stores an artifact.

        Settings ``sources`` and ``references``; empty for figures and given files.
        """
        (maker,) = self.wires[placed]["files"].makers
        source = maker.placed
        if source is None or (maker.port is not None and maker.port.kind.drawn):
            return {}
        uri = self.stored.get(maker, "")
        own = placed.settings["own_entities"]
        spaces = [own.get("space", "")] if isinstance(own, Mapping) else [*_ALIGNED]
        spaces = spaces if not uri or uri.endswith(".nii.gz") else []
        lies_on = {
            space: (
                placed.scope.find(_ALIGNED[space])
                if placed.references is None
                else placed.references.get(space)
            )
            for space in spaces
            if space in _ALIGNED
        }
        references = {
            space: self.stored[one]
            for space, one in lies_on.items()
            if one is not None and one.placed and one in self.stored
        }
        return {
            "sources": [each for each in self._told_once(source) if each != uri],
            "references": {space: one for space, one in references.items() if one != uri},
        }

    def _told_once(self, placed: "Placed") -> list[str]:
        """Sources of what a step makes, without those that others of them tell."""
        uris = self._made_of(placed)
        further = [self._before(self.maker[uri]) for uri in uris if uri in self.maker]
        return [
            uri
            for uri, itself in uris.items()
            if itself or uri.endswith(_SERIES) or not any(uri in before for before in further)
        ]

    def _before_once(self, maker: "Maker") -> frozenset[str]:
        """All that a stored artifact goes back to."""
        assert maker.placed is not None
        found = frozenset(self._made_of(maker.placed))
        return found.union(*(self._before(self.maker[uri]) for uri in found if uri in self.maker))

    def _made_of_once(self, placed: "Placed") -> dict[str, bool]:
        """What a step takes, by URI."""
        uris = {each if isinstance(each, str) else self.uri(each): True for each in placed.reads}
        for name in (n for n in placed.step.inputs if n not in placed.step.monitored):
            wire = self.wires[placed].get(name)
            for maker in wire.makers if wire else ():
                for uri, itself in self._above(maker):
                    uris[uri] = uris.get(uri, False) or itself
        return uris

    def _above(self, maker: "Maker") -> _Found:
        """An artifact where it is stored or given, else what it is made of."""
        if maker.placed is None:
            yield from ((self.uri(path), True) for path in _files(maker.source))
            return
        stored = self.stored.get(maker)
        if stored is None:
            yield from ((uri, False) for uri in self._made_of(maker.placed))
            return
        yield stored, True
        if Path(stored).suffix in _NO_SIDECAR:
            yield from self._made_of(maker.placed).items()


def _stored_path(placed: "Placed", maker: "Maker") -> str:
    """Return the path of a stored artifact relative to all results.

    It is "" for nowhere, or where the names of its files tell it.
    """
    own_entities = placed.settings["own_entities"]
    if not isinstance(own_entities, Mapping) or maker.port is None:
        return ""
    entities = placed.setting("entities")
    assert isinstance(entities, Mapping)
    extension = own_entities.get("extension") or maker.port.kind.extension_stored
    name_entities = {**entities, **own_entities, "extension": extension}
    if not extension or placed.settings["in_output"]:
        return derivative_path(name_entities) if extension else ""
    names = placed.setting("datasets")
    exported_as = placed.settings["exported_as"]
    assert isinstance(names, Sequence)
    assert isinstance(exported_as, Mapping)
    return (
        dataset_of(Path(), names[0])
        .joinpath(derivative_path({**name_entities, **exported_as}))
        .as_posix()
        if names
        else ""
    )


def _files(value: object) -> Iterator[Path]:
    """Files among what was given."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _files(each)


AnyStep = Step[..., object]


class GraphError(ValueError):
    """An artifact or setting that is missing, made twice, or of the wrong kind."""


def scope_of(name: str) -> str:
    """Return the scope name of a participant or run.

    Nipype takes letters, digits and underscores alone.

    >>> scope_of("sub-01_task-tap+rest")
    'sub_01_task_tap__rest_wf'
    """
    return name.replace("+", "__").replace("-", "_") + "_wf"


def whom_of(node: object) -> tuple[str, str]:
    """Participant (label) and run of a node, see `Scope.whom`; "" of one that is in no graph.

    Label and name of the run, each empty where there is none.
    """
    return getattr(node, "whom", ("", ""))


@dataclass(frozen=True)
class Maker:
    """Source of an artifact: a step, or what was given (file, files or value).

    In a `bids_sr.pipeline.flow.Flow` it stands for the value, of which nothing is known before the
    workflow runs.
    """

    source: "Placed | object"
    name: str

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{self.source}: {self.name} is not known before the workflow runs")

    __iter__ = __len__ = __bool__

    @property
    def placed(self) -> "Placed | None":
        """The step; None for what was given."""
        return self.source if isinstance(self.source, Placed) else None

    @property
    def port(self) -> Port | None:
        """What a step makes; None for a plain value, and for what is given."""
        return self.source.step.outputs[self.name] if isinstance(self.source, Placed) else None


Wires = Mapping[str, Maker | Sequence[Maker] | Mapping[str, Maker]]


class Passage(NamedTuple):
    """Sentences of the methods text, as they are before a run.

    `placed`: step that they are about, if what it did is described after it has ended; None for
    sentences that stay. `describe`: gives that description, of the folders of the steps of one
    text that have ended, and of the number of those that have not.
    """

    part: Part
    text: str
    placed: "Placed | None" = None
    describe: Callable[[Sequence[Path], int], str] | None = None


@dataclass(eq=False, slots=True)
class Placed:
    """A step in a scope, with the settings and connections that it has there of its own.

    `wires`: makers by input, where the name of the input does not tell. `light`: it only copies
    small files, in less time than a process needs to start. `explicit`: whether all that it takes
    was given in the call, so that nothing is looked up. `references`: see
    `bids_sr.pipeline.flow.Flow.store`; None looks them up. `expected_cost`: see
    `bids_sr.pipeline.flow.expect_cost`; None: that of the step with its settings.
    """

    step: AnyStep
    scope: "Scope"
    name: str
    settings: Mapping[str, object]
    wires: Wires
    light: bool = False
    explicit: bool = False
    references: Mapping[str, Maker] | None = None
    expected_cost: Cost | None = None

    @property
    def cost(self) -> Cost:
        """Processor time of the step with its settings."""
        cost = self.step.cost if self.expected_cost is None else self.expected_cost
        return cost if isinstance(cost, Cost) else self.evaluate(cost)

    @property
    def reads(self) -> Sequence[Path | str]:
        """Files, or their URIs, that the step reads because its settings name them."""
        reads = self.step.reads
        return () if reads is None else self.evaluate(reads)

    def evaluate(self, function: Callable[..., _T]) -> _T:
        """Call a function with the settings that its parameters name."""
        names = tuple(inspect.signature(function).parameters)
        if names == ("setting",):
            return function(self.lookup)
        return function(**{name: self.setting(name) for name in names})

    def __str__(self) -> str:
        return f"{self.scope.path}.{self.name}"

    @property
    def lookup(self) -> Lookup:
        """Look up settings for texts and file names."""
        return cast("Lookup", self.setting)

    def setting(self, name: str) -> object:
        """Return a setting.

        It is its own, else that of the nearest scope, else the default of the function; `KeyError`
        for none.

        `name`: parameter of the step, or another setting that scopes have.
        """
        if name in self.settings:
            return self.settings[name]
        if self.explicit:
            return self.step.settings[name].default
        try:
            return self.scope.setting(name)
        except KeyError:
            if name in self.step.settings and self.step.settings[name].default is not REQUIRED:
                return self.step.settings[name].default
            raise


@dataclass(eq=False)
class Scope:
    """Part of a graph: its steps, and settings and given artifacts that inner scopes share.

    `outer`: scope around this one; None for the outermost scope. `beside`: scopes whose artifacts
    are known here too, such as that of the pair of a run. `store`: outermost scope only: the step
    that stores what is kept; None stores nothing. `uri`: outermost scope only: how a given file is
    named among the sources of what is stored.
    """

    name: str
    settings: Mapping[str, object] = field(default_factory=dict)
    outer: "Scope | None" = None
    beside: tuple["Scope", ...] = ()
    alias: dict[str, str] = field(default_factory=dict)
    store: AnyStep | None = None
    uri: Callable[[Path], str] = str
    inner: list["Scope"] = field(default_factory=list)
    steps: list[Placed] = field(default_factory=list)
    makers: dict[str, Maker] = field(default_factory=dict)
    texts: list[Passage] = field(default_factory=list)
    participant: str = ""
    run: str = ""

    def within(
        self,
        name: str,
        known: Mapping[str, object] | None = None,
        /,
        *,
        beside: tuple["Scope", ...] = (),
        alias: Mapping[str, str] | None = None,
        **settings: object,
    ) -> "Scope":
        """Add an inner scope and return it; its settings are `known`, overridden by keywords.

        `alias`: names of artifacts to those they stand for there; None for none.
        """
        own = {**(known or {}), **settings}
        inner = Scope(name, own, self, beside, dict(alias or {}), self.store, texts=self.texts)
        self.inner.append(inner)
        return inner

    def give(self, **artifacts: object) -> None:
        """Add existing artifacts: files, lists of files, or outputs of steps in other scopes."""
        for name, value in artifacts.items():
            self._enter(name, value if isinstance(value, Maker) else Maker(value, name))

    def say(self, part: Part, text: str) -> None:
        """Add sentences to the methods text that belong to no single step.

        `text`: sentences in Markdown; a final line feed ends the paragraph.
        """
        self.texts.append(Passage(part, text))

    def add(
        self,
        *steps: AnyStep,
        name: str = "",
        wires: Wires | None = None,
        rename: Mapping[str, str] | None = None,
        keep: bool = True,
        quiet: bool = False,
        **settings: object,
    ) -> None:
        """Place steps.

        `name`: of the node; that of the function where there is none.
        """
        for step in steps:
            placed = Placed(step, self, name or step.__name__, settings, wires or {})
            if unknown := settings.keys() - step.settings.keys() | placed.wires.keys() - {
                *step.inputs,
                *step.settings,
            }:
                raise GraphError(f"{placed} has no {', '.join(sorted(unknown))}")
            self.steps.append(placed)
            for made in step.outputs:
                self._enter((rename or {}).get(made, made), Maker(placed, made))
            if step.text and not quiet:
                text = step.text if isinstance(step.text, str) else step.text(placed.lookup)
                changes = step.text_after is not None
                self.texts.append(Passage(step.part, text, placed if changes else None))
            if keep and self.store is not None:
                for artifact, how in step.keep.items():
                    self._keep(placed, artifact, how, (rename or {}).get(artifact, artifact))

    def _keep(self, placed: Placed, artifact: str, keep: Keep, name: str) -> None:
        """Add the step that stores an artifact, if it has files at the requested level."""
        assert self.store is not None
        exported_as = keep.exported_as
        if callable(exported_as):
            exported_as = exported_as(placed.lookup)
        in_output, among = _chosen(placed, keep)
        if keep.dataset == "primary":
            in_output = False
            exported_as = {} if keep.exported_as is None else exported_as
        if not in_output and exported_as is None:
            return
        entities = keep.entities(placed.lookup) if callable(keep.entities) else keep.entities
        sidecar = keep.sidecar(placed.lookup) if callable(keep.sidecar) else keep.sidecar
        wires: dict[str, Maker] = {"files": Maker(placed, artifact)}
        settings: dict[str, object] = {
            "own_entities": None if entities is None else dict(entities),
            "in_output": in_output,
        }
        where = [
            one.settings["figures_dir"] for one in self.outward() if "figures_dir" in one.settings
        ]
        if keep.dataset == "figures" and where:
            settings["output_dir"] = where[0]
        if exported_as is not None:
            settings["exported_as"] = dict(exported_as)
        if among is not None:
            settings["among"] = among
        if varies := keep.varies(placed.lookup) if callable(keep.varies) else keep.varies:
            settings["varies"] = {entity: list(keys) for entity, keys in varies.items()}
        if made := sidecar if isinstance(sidecar, str) else keep.facts:
            wires["sidecar"] = Maker(placed, made)
        if not isinstance(sidecar, str):
            settings["own_sidecar"] = dict(sidecar)
        if not keep.provenance:
            settings["provenance"] = {}
        port = placed.step.outputs[artifact]
        self.steps.append(
            Placed(
                self.store, self, f"keep_{name}", settings, wires, bool(port and port.kind.light)
            )
        )

    def _enter(self, name: str, maker: Maker) -> None:
        if name in self.makers:
            raise GraphError(
                f"{self.path}: the steps {self.makers[name].source} and {maker.source} both have"
                f" an output named {name}"
            )
        self.makers[name] = maker

    @property
    def path(self) -> str:
        """Return names of the scopes, outermost first."""
        return ".".join(one.name for one in [*self.outward()][::-1])

    @property
    def whom(self) -> tuple[str, str]:
        """Participant (label) and run that its steps belong to; "" for none in particular."""
        known: dict[str, object] = {}
        for one in self.outward():
            known = {**one.settings, **known}
        entities = cast("Mapping[str, str]", known.get("entities", {}))
        participant = next((one.participant for one in self.outward() if one.participant), "")
        run = next((one.run for one in self.outward() if one.run), "")
        return (
            participant or entities.get("subject", ""),
            run or str(known.get("run_name", "")),
        )

    def outward(self) -> Iterator["Scope"]:
        """Return this scope and those around it."""
        yield self
        if self.outer:
            yield from self.outer.outward()

    def inward(self) -> Iterator["Scope"]:
        """Return this scope and those in it, in the order in which they were made."""
        yield self
        for scope in self.inner:
            yield from scope.inward()

    def find(self, name: str) -> Maker | None:
        """Who makes an artifact, nearest first; None where nobody does."""
        for scope in self.outward():
            while name in scope.alias:
                name = scope.alias[name]
            for one in (scope, *scope.beside):
                if name in one.makers:
                    return one.makers[name]
        return None

    def __getitem__(self, name: str) -> Maker:
        """Who makes an artifact, as seen from this scope."""
        if (maker := self.find(name)) is None:
            there = {each for one in self.outward() for each in one.makers}
            similar = ", ".join(difflib.get_close_matches(name, there, 3))
            raise GraphError(
                f"{self.path}: no step has an output named {name}"
                + (f". Similar names are {similar}" if similar else "")
            )
        return maker

    def gather(self, name: str, among: Sequence[str] | None = None) -> dict[str, Maker]:
        """Return makers of an artifact in inner scopes, by scope name.

        `among` selects the scopes, in this order.
        """
        found = {one.name: one.makers[name] for one in self.inward() if name in one.makers}
        return found if among is None else {each: found[each] for each in among}

    def setting(self, name: str) -> object:
        """A setting of this scope or of one around it; `KeyError` where there is none."""
        return next((one.settings for one in self.outward() if name in one.settings), {})[name]


def _chosen(placed: Placed, keep: Keep) -> tuple[bool, list[dict[str, str]] | None]:
    """Return whether an artifact is stored at the requested level.

    If it is several files, return also which of them.

    A standalone graph, without a level, stores all that it keeps.
    """
    try:
        asked = placed.lookup("level")
    except KeyError:
        return True, None
    least = keep.level(placed.lookup) if callable(keep.level) else keep.level
    among = None if keep.among is None else [dict(each) for each in keep.among(placed.lookup)]
    return reaches(asked, least) and among != [], among


class Wire(NamedTuple):
    """Makers of one input of a step; `names`: scope of each, empty where not told apart."""

    makers: tuple[Maker, ...]
    names: tuple[str, ...] = ()


class Graph:
    """The resolved graph of a scope and all in it.

    `GraphError`: the message names the step, its scope and artifacts of similar names.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.placed = [placed for one in scope.inward() for placed in one.steps]
        self.wires = {placed: dict(_wires(placed)) for placed in self.placed}
        provenance = Provenance(self.wires, scope.store, scope.uri)
        for placed in (each for each in self.placed if each.step is scope.store):
            placed.settings = {**placed.settings, **provenance.told(placed)}
        self.settings = {
            placed: dict(_settings(placed, self.wires[placed])) for placed in self.placed
        }

    def methods_text(self, ended: "Callable[[Placed], Path | None]" = lambda _: None) -> str:
        """Return the methods text in processing order.

        Each text is there once, however many runs there are.

        A text that ends with a line feed ends a paragraph, and so does a part.

        Parameters
        ----------
        ended : Callable[[Placed], Path | None], optional
            Folder of a step that has ended, None for others; by default, no step has ended. Steps
            with a `text_after` are described from their folders, as far as they have ended.

        Returns
        -------
        str
            Paragraphs in Markdown, separated by empty lines. If sentences are about steps that
            have not ended, the last paragraph says so.
        """
        passages: dict[tuple[Part, str], list[Passage]] = {}
        for passage in self.scope.texts:
            passages.setdefault((passage.part, passage.text), []).append(passage)
        parts: dict[Part, dict[str, None]] = {part: {} for part in Part}
        waits = False
        for (part, before), alike in passages.items():
            steps = [passage.placed for passage in alike if passage.placed is not None]
            text, folders = before, [path for placed in steps if (path := ended(placed))]
            waits |= len(folders) < len(steps)
            n_others = len(steps) - len(folders)
            describe = next((one.describe for one in alike if one.describe is not None), None)
            if folders and describe is not None:
                text = describe(folders, n_others)
            elif folders and (tell := steps[0].step.text_after) is not None:
                text = tell(steps[0].lookup, folders, n_others)
            parts[part].setdefault(text if text.endswith("\n") else f"{text} ")
        found = "\n".join("".join(texts) + "\n" for texts in parts.values())
        paragraphs = [" ".join(lines.split()) for lines in found.split("\n")]
        paragraphs += [_IN_THE_FUTURE] * waits
        return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def _wires(placed: Placed) -> Iterator[tuple[str, Wire]]:
    """Yield the makers of a step's inputs.

    These are its artifacts, and settings that a step makes, such as a number of volumes.
    """
    if placed.explicit:
        yield from _explicit_wires(placed)
        return
    for name in placed.step.settings:
        makers = placed.wires.get(name)
        if makers is None and name not in placed.settings:
            makers = placed.scope.find(name)
        # it asks for one and makes another of that name
        own_output = isinstance(makers, Maker) and makers.source is placed
        if (
            isinstance(makers, Maker)
            and isinstance(makers.source, Placed)
            and makers.port is None
            and not own_output
        ):
            yield name, Wire((makers,))
    for name, port in placed.step.inputs.items():
        if wire := _wire(placed, name, port):
            for maker in wire.makers:
                if isinstance(maker.source, Placed) and not (
                    maker.port and port.takes(maker.port)
                ):
                    raise GraphError(
                        f"{placed}: the input {name} has type {port}, but {maker.source} provides"
                        f" type {maker.port}"
                    )
            yield name, wire
        elif port.default is REQUIRED and (port.many is None or name in placed.wires):
            placed.scope[name]  # raises if nothing makes it
            raise GraphError(f"{placed}: the required input {name} is not connected")


def _explicit_wires(placed: Placed) -> Iterator[tuple[str, Wire]]:
    """Yield the makers of a step's inputs, which are those of its call."""
    for name, makers in placed.wires.items():
        port = placed.step.inputs.get(name)
        if isinstance(makers, Maker):
            wire = Wire((makers,))
        elif isinstance(makers, Mapping):
            names = tuple(makers) if port is not None and port.many == "dict" else ()
            wire = Wire(tuple(makers.values()), names)
        else:
            wire = Wire(tuple(makers))
        if not wire.makers:
            continue
        for maker in wire.makers:
            if port and maker.placed and not (maker.port and port.takes(maker.port)):
                raise GraphError(
                    f"{placed}: the input {name} has type {port}, but {maker.source} provides"
                    f" type {maker.port}"
                )
        yield name, wire
    for name, port in placed.step.inputs.items():
        missing = name not in placed.wires and port.many is None
        if missing and port.default is REQUIRED:
            raise GraphError(f"{placed}: the required input {name} is not connected")


def _wire(placed: Placed, name: str, port: Port) -> Wire | None:
    makers_of = placed.wires.get(name)
    if isinstance(makers_of, Maker):
        return Wire((makers_of,))
    if isinstance(makers_of, Mapping):
        return (
            Wire(tuple(makers_of.values()), tuple(makers_of) if port.many == "dict" else ())
            if makers_of
            else None
        )
    if makers_of is not None:
        return Wire(tuple(makers_of)) if makers_of else None
    maker = placed.scope.find(name)
    # files by name, which were given
    if maker is not None and port.many and isinstance(maker.source, Mapping):
        return Wire(
            tuple(Maker(each, name) for each in maker.source.values()), tuple(maker.source)
        )
    if maker is not None and port.many != "dict":
        return Wire((maker,))
    inner = (
        [(one.name, one.makers[name]) for one in placed.scope.inward() if name in one.makers]
        if port.many
        else []
    )
    names, makers = zip(*inner, strict=True) if inner else ((), ())
    if len(set(names)) < len(names) and port.many == "dict":
        raise GraphError(
            f"{placed}: several scopes with the same name have an output {name}:"
            f" {', '.join(names)}"
        )
    return Wire(makers, names if port.many == "dict" else ()) if inner else None


def _settings(placed: Placed, wired: Mapping[str, Wire]) -> Iterator[tuple[str, object]]:
    if placed.explicit:
        for name in placed.step.settings:
            if name not in wired:
                if name not in placed.settings and (
                    placed.step.settings[name].default is REQUIRED
                ):
                    raise GraphError(f"{placed}: no setting {name}")
                yield name, placed.setting(name)
        return
    for name in placed.step.settings:
        try:
            if name not in wired:
                yield name, placed.setting(name)
        except KeyError:
            raise GraphError(f"{placed}: no setting {name}") from None
