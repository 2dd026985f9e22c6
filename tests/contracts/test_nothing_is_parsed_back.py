"""No module parses a text or a joined name that the program itself writes: the parts are passed as
values.

Parsing is allowed if somebody else wrote the text: a user on the command line, BIDS in file names,
another program, a table. `ALLOWED` lists each such place with its reason; a new one has to be
justified. `OWED` lists the places that still have to be fixed; it may only shrink.
"""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TAKEN_APART = frozenset(
    {"partition", "rpartition", "split", "rsplit", "removeprefix", "removesuffix"}
)
SEARCHED = frozenset({"match", "fullmatch", "search", "findall", "finditer", "split"})
PROSE = frozenset(
    {
        "text",
        "measure",
        "reason",
        "message",
        "what",
        "why",
        "said",
        "words",
        "told",
        "headline",
        "line",
    }
)
"""Names of variables and attributes that hold prose or names of measures."""
ERRORS = frozenset({"error", "failure", "exception", "issue"})


def _name(node: ast.expr) -> str:
    """Return the last name of an expression: ``text`` of ``row.text``."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is_prose(node: ast.expr) -> bool:
    """Return whether the name of an expression stands for prose, or the expression is an error as
    text.
    """
    if isinstance(node, ast.Call) and _name(node.func) == "str" and node.args:
        return _name(node.args[0]) in ERRORS
    return _name(node) in PROSE


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) > 1


def _reads(node: ast.AST) -> bool:
    """Return whether an expression parses a text or compares a part of it."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        value, method = node.func.value, node.func.attr
        # a pattern, compiled or not
        if _name(value) == "re" or (isinstance(value, ast.Name) and value.id.isupper()):
            return method in SEARCHED
        if _name(value) in ("np", "os", "torch", "path", "shlex"):
            return False
        if method == "count" and node.args:
            return _is_text(node.args[0])
        return method in TAKEN_APART or (method in ("startswith", "endswith") and _is_prose(value))
    if not isinstance(node, ast.Compare):
        return False
    left, operator, right = node.left, node.ops[0], node.comparators[0]
    if isinstance(left, ast.Subscript) and isinstance(left.slice, ast.Slice):
        return _is_text(right)
    if isinstance(operator, (ast.In, ast.NotIn)):
        return (_is_text(left) and _is_prose(right)) or (
            _is_prose(left) and isinstance(left, ast.Call)
        )
    return (
        isinstance(operator, (ast.Eq, ast.NotEq))
        and _is_prose(left)
        and isinstance(left, ast.Attribute)
        and (left.attr == "text")
    )


def readings(code: str) -> Iterator[tuple[str, str]]:
    """Yield the function (qualified name) and the expression of every place that parses a text."""

    def walk(node: ast.AST, where: str) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            inner = (
                f"{where}.{child.name}"
                if isinstance(child, (ast.FunctionDef, ast.ClassDef))
                else where
            )
            if _reads(child):
                yield inner.strip("."), ast.unparse(child)
            yield from walk(child, inner)

    yield from walk(ast.parse(code), "")


USERS = "a user's text"
FILES = "names of files, which BIDS defines or a user chose"
FOREIGN = "a text of another program, the kernel or a library"
FORMAT = "a format of lines and cells"
CODE = "a name of the code, or of an option"
ALLOWED: dict[str, str] = {
    "bids_sr/config/*": USERS,
    "bids_sr/cli/options.py::Parser.error": FOREIGN,
    "bids_sr/cli/options.py::normalize_flags": USERS,
    "bids_sr/glm/hemodynamic_response.py::HemodynamicResponse._parts": USERS,
    "bids_sr/glm/temporal_regressors.py::time_model": USERS,
    "bids_sr/preflight/checks.py::check": FOREIGN,
    "bids_sr/preflight/output_spaces.py::_describe_unknown": USERS,
    "bids_sr/figures/comparison.py::wrap_name": CODE,
    "bids_sr/cli/options.py::Parser.*": CODE,
    "bids_sr/phantom/study.py::_parse_echo_times": USERS,
    "bids_sr/cli/group_level.py::_refuse_running_participants": FILES,
    "bids_sr/slurm/cli/main.py::*": USERS,
    "bids_sr/version.py::is_compatible": FORMAT,
    "bids_sr/cli/assignments.py::*": USERS,
    "bids_sr/cli/options.py::_HelpFormatter._split_lines": CODE,
    "bids_sr/execution/crash.py::_format_crash": FOREIGN,
    "bids_sr/slurm/*": FOREIGN,
    "bids_sr/structural/group/level.py::*": FILES,
    "bids_sr/model_commands/cli/*": FILES,
    "bids_sr/sr/recipe_changes.py::*": USERS,
    "bids_sr/model_commands/candidate_settings.py::parse_setting": USERS,
    "bids_sr/cli/interrupts.py::*": FOREIGN,
    "bids_sr/cli/stages.py::find_stage": CODE,
    "bids_sr/bids/*": FILES,
    "bids_sr/region_names.py::*": USERS,
    "bids_sr/compared_series/checks.py::_split_option": USERS,
    "bids_sr/preflight/directories.py::*": FOREIGN,
    "bids_sr/structural/checks.py::_read_3d_image": FOREIGN,
    "bids_sr/execution/usage.py::_kib": FOREIGN,
    "bids_sr/execution/step_warnings.py::_WarningRecorder.emit": FORMAT,
    "bids_sr/cli/participant_level.py::_move_earlier_files": FILES,
    "bids_sr/io/confound_names.py::_rename": FOREIGN,
    "bids_sr/io/code_*.py::*": CODE,
    "bids_sr/io/dataset_description.py::*": FILES,
    "bids_sr/io/earlier_files.py::*": FILES,
    "bids_sr/io/uris.py::*": FILES,
    "bids_sr/group/values.py::*": FILES,
    "bids_sr/group/dataset_contents.py::*": FILES,
    "bids_sr/group/input_checks.py::remedy_text": FILES,
    "bids_sr/group/input_checks.py::_find_table_problem": FORMAT,
    "bids_sr/group/output_files.py::*": FILES,
    "bids_sr/group/input_maps.py::*": FILES,
    "bids_sr/structural/group/volume_change.py::sort_times.*": FILES,
    "bids_sr/cli/console.py::_make_file_lines": FILES,
    "bids_sr/io/template_files.py::*": FILES,
    "bids_sr/io/tables.py::*": FORMAT,
    "bids_sr/preflight/checks.py::is_rest": FILES,
    "bids_sr/pipeline/artifacts.py::*": FILES,
    "bids_sr/pipeline/graph.py::Graph.methods_text": FORMAT,
    "bids_sr/pipeline/graph.py::_make_paragraphs": FORMAT,
    "bids_sr/pipeline/store.py::*": FILES,
    "bids_sr/figures/svg_files.py::*": FOREIGN,
    "bids_sr/figures/slices.py::*": FORMAT,
    "bids_sr/report/methods_text.py::*": FOREIGN,
    "bids_sr/report/index_page.py::_list_group_pages": FILES,
    "bids_sr/report/index_page.py::participants_with_figures": FILES,
    "bids_sr/report/participants_page.py::_labels_with_report": FILES,
    "bids_sr/report/participants_page.py::_build_report": FILES,
    "bids_sr/report/index_page.py::_run_cell": FILES,
    "bids_sr/report/run_notes.py::list_noted_labels": FILES,
    "bids_sr/report/run_notes.py::is_last_call": FILES,
    "bids_sr/report/run_summaries.py::read_run_summary": FILES,
    "bids_sr/report/run_summaries.py::_list_files": FILES,
    "bids_sr/report/run_summaries.py::strip_participant": FILES,
    "bids_sr/retrospective/preparation.py::*": FORMAT,
    "bids_sr/series.py::parse_map_label": FILES,
    "bids_sr/spatial/itk_files.py::*": FOREIGN,
    "bids_sr/sr/method.py::_list_module_names": CODE,
    "bids_sr/sr/models/*": FILES,
    "bids_sr/networks/inference/*": FOREIGN,
    "bids_sr/networks/training/*": CODE,
    "bids_sr/preflight/stats_model.py::*": USERS,
    "bids_sr/glm/contrasts.py::*": USERS,
    "bids_sr/glm/imported_confounds.py::*": FOREIGN,
    "workflows/report_run.py::_describe_pair": FILES,
}
"""Patterns of ``file::function`` that may parse a text, and who wrote the text."""
OWED = frozenset(
    {
        # names of variants, until a series refers to its original series
        "bids_sr/series.py::parse_series_name",
    }
)
"""``file::function`` that parses a text of the program itself."""


def read_back() -> dict[str, list[str]]:
    """Return expressions by ``file::function``."""
    out: dict[str, list[str]] = {}
    for folder in ("bids_sr", "workflows"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for where, expression in readings(path.read_text(encoding="utf-8")):
                out.setdefault(f"{path.relative_to(ROOT)}::{where}", []).append(expression)
    return out


def test_only_foreign_texts_are_parsed() -> None:
    places = {
        place for place in read_back() if not any(fnmatch(place, pattern) for pattern in ALLOWED)
    }
    assert places - OWED == set(), (
        "keep the parts as values, or name the place in ALLOWED with who wrote the text"
    )
    assert OWED - places == set(), "mended: take it off the list"


@pytest.mark.parametrize(
    "code",
    [
        'family, _, figure = measure.partition("_")',
        'pairs = path.stem.split("_")',
        'notices = text.get("summary", "").count("role=\'note\'")',
        'level = own if "_ev_" in question.measure else None',
        "flag = description.removeprefix('1 where ')",
        'short = p_text(test.p_value).removeprefix("p = ").removeprefix("p ")',
        'named = re.findall(r"sub-([0-9A-Za-z]+)", str(self))',
        'named = re.split(r" with --| \\(", problem.file)[0]',
        "known = [notice for notice in warnings if notice.text != USED]",
        'reason, _, remedy = str(error).partition(" Remedy: ")',
        'key = error.what.partition(":")[0]',
        "wrong = str(error) in GROUPS",
        'reason = str(error).removeprefix("events: ")',
        "lines = [line for line in lines if line.startswith(TOLD)]",
        'node = re.search(r"^Node:", content)',
        'full = FULL.search("".join(traceback))',
        'label = re.search(r"sub_([0-9A-Za-z]+)_wf", fullname)',
        'flags = [line for line in lines if line["measure"][:5] == "flag_"]',
        'name, _, path = text.partition("=")',
    ],
)
def test_code_that_parses_a_text_is_reported(code: str) -> None:
    """Former code of the program: it parsed metrics, notices, errors, crash files and options."""
    assert list(readings(code)), code


@pytest.mark.parametrize(
    "code", ["found = names.split", "text = a + b", 'os.path.split("x")', "x in names", "a == b"]
)
def test_code_that_parses_no_text_is_not_reported(code: str) -> None:
    assert not list(readings(code))
