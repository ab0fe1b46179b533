"""Keep the house rules: sizes, words, floors and where things may stand."""

from __future__ import annotations

import ast
import importlib
import statistics
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("registry", "compress", "merge", "transfer", "api")
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def sources() -> tuple[Path, ...]:
    """Return every source file of the five rooms."""
    return tuple(sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")))


@cache
def tree(path: Path) -> ast.Module:
    """Parse a file once."""
    return ast.parse(path.read_text())


def relative(path: Path) -> str:
    """Name a file as people do."""
    return path.relative_to(ROOT).as_posix()


def functions() -> Iterator[tuple[Path, Function]]:
    """Yield every function of the rooms with its file."""
    for path in sources():
        for node in ast.walk(tree(path)):
            if isinstance(node, Function):
                yield path, node


def length(node: Function) -> int:
    """Count the lines of a function, without its docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def percentile(values: list[int], share: float) -> int:
    """Return the value below which `share` of the sorted values lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_resolve_to_this_checkout(room: str) -> None:
    module = importlib.import_module(room)
    assert module.__file__ is not None
    assert Path(module.__file__).resolve().is_relative_to(ROOT)


def test_packages_are_listed_explicitly() -> None:
    listed = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    )
    present = {relative(path.parent).replace("/", ".") for path in sources()}
    assert listed == present


def test_files_stay_one_idea_long() -> None:
    counts = {relative(path): path.read_text().count("\n") for path in sources()}
    assert not {name: n for name, n in counts.items() if n > 400}
    assert percentile(list(counts.values()), 0.9) <= 250
    assert statistics.median(counts.values()) <= 140


def test_functions_stay_short() -> None:
    lengths = [
        (length(node), f"{relative(path)}:{node.lineno} {node.name}") for path, node in functions()
    ]
    assert not [entry for entry in lengths if entry[0] > 60]
    assert percentile([n for n, _ in lengths], 0.9) <= 30
    assert statistics.median(n for n, _ in lengths) <= 12


def _decorated_as_route(node: Function) -> bool:
    called = (d.func for d in node.decorator_list if isinstance(d, ast.Call))
    return any(
        isinstance(f, ast.Attribute) and f.attr in {"get", "put", "post", "delete", "head"}
        for f in called
    )


def _decorated_as_command(node: Function) -> bool:
    return any(
        "command" in ast.unparse(d) or "option" in ast.unparse(d) for d in node.decorator_list
    )


def _is_kernel(decorator: str) -> bool:
    return "triton.jit" in decorator or decorator.startswith("njit")


def test_functions_take_few_arguments() -> None:
    crowded = []
    for path, node in functions():
        if any(_is_kernel(ast.unparse(d)) for d in node.decorator_list):
            continue
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        names = [a.arg for a in arguments if a.arg not in {"self", "cls"}]
        if len(names) > 6 and not (_decorated_as_route(node) or _decorated_as_command(node)):
            crowded.append(f"{relative(path)}:{node.lineno} {node.name} takes {len(names)}")
    assert not crowded


def test_everything_public_has_a_docstring() -> None:
    silent = [relative(path) for path in sources() if not ast.get_docstring(tree(path))]
    for path in sources():
        inner = _inner_nodes(path)
        for node in ast.walk(tree(path)):
            if not isinstance(node, Function | ast.ClassDef) or node in inner:
                continue
            if not node.name.startswith("_") and not ast.get_docstring(node):
                silent.append(f"{relative(path)}:{node.lineno} {node.name}")
    assert not silent


def _inner_nodes(path: Path) -> set[ast.AST]:
    """Return what stands inside a function, which nobody calls from outside."""
    outer = [node for node in ast.walk(tree(path)) if isinstance(node, Function)]
    return {child for node in outer for child in ast.walk(node) if child is not node}


def _calls(path: Path, name: str) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
        for node in ast.walk(tree(path))
    )


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_print_stands_only_in_the_command_line() -> None:
    assert not [
        relative(p)
        for p in sources()
        if _calls(p, "print") and not relative(p).startswith("api/cli/")
    ]


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("boto3", ("registry/storage/blobs_s3.py",)),
        ("triton", ("compress/kernels/",)),
        ("numba", ("compress/kernels/cpu/",)),
        ("pickle", ()),
        ("torch", ("api/cli/tour_check.py", "api/forward/", "compress/kernels/")),
        (
            "matplotlib",
            ("api/cli/plot.py", "api/cli/plot_conflicts.py", "api/cli/similarity_plot.py"),
        ),
        ("scipy", ("api/workflows/gradient_free.py", "merge/compressed/clusters.py")),
    ],
)
def test_a_foreign_package_has_one_home(package: str, allowed: tuple[str, ...]) -> None:
    users = {relative(p) for p in sources() if any(n.split(".")[0] == package for n in _imports(p))}
    assert not [name for name in users if not name.startswith(allowed)]


def test_sql_stands_in_the_catalog_only() -> None:
    sql = {"sqlmodel", "sqlalchemy", "alembic"}
    users = {relative(p) for p in sources() if any(n.split(".")[0] in sql for n in _imports(p))}
    assert not [name for name in users if not name.startswith("registry/catalog/")]


def _reads_environment(path: Path) -> bool:
    return any(
        isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "putenv"}
        for node in ast.walk(tree(path))
    )


def test_the_environment_is_read_in_one_file() -> None:
    assert {relative(p) for p in sources() if _reads_environment(p)} <= {"api/settings.py"}


def test_nothing_is_asserted_or_caught_blindly() -> None:
    asserts, broad = [], []
    for path in sources():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Assert):
                asserts.append(f"{relative(path)}:{node.lineno}")
            if isinstance(node, ast.ExceptHandler) and (
                node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
            ):
                broad.append(f"{relative(path)}:{node.lineno}")
    assert not asserts
    assert len(broad) <= 1, broad


def test_type_ignores_are_few_and_explained() -> None:
    lines = [
        line
        for path in sources()
        for line in path.read_text().splitlines()
        if "type: ignore" in line
    ]
    assert len(lines) <= 5, lines
    assert all(
        "type: ignore[" in line and "#" in line.split("type: ignore", 1)[1] for line in lines
    ), lines


def test_no_file_is_named_for_nothing() -> None:
    vague = {"utils", "helpers", "manager", "common", "misc", "util", "helper"}
    assert not [relative(p) for p in sources() if p.stem in vague]


def _code_lines(path: Path) -> int:
    """Count the lines that are neither blank, nor comment, nor docstring."""
    documented: set[int] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Module | ast.ClassDef | Function) and ast.get_docstring(node):
            documented |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(path.read_text().splitlines(), 1)
    return sum(bool(n not in documented and x.strip() and x.strip()[0] != "#") for n, x in lines)


def test_tests_outweigh_sources() -> None:
    source = sum(_code_lines(path) for path in sources())
    tests = sum(_code_lines(path) for path in (ROOT / "tests").rglob("*.py"))
    assert tests >= 0.9 * source
