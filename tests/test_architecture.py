"""Who imports whom: each part is imported only by those that stand to its right."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import polymix

ROOT = Path(polymix.__file__).parent
BASE = frozenset(
    {
        "built_in",
        "errors",
        "faults",
        "genotype",
        "plugins",
        "records",
        "registry",
        "seeds",
        "units",
        "version",
    }
)
ORDER = [
    {"data"},
    {"tables", "space"},
    {"datasets"},
    {"nn", "scoring"},
    {"store"},
    {"train"},
    {"search"},
    {"comparators"},
    {"methods"},
    {"runs"},
    {"predictor"},
    {"cli"},
]
"""From left to right: each part is imported only by those that stand to its right."""

TOOLS = frozenset({"testing", "console", "__main__"})
"""They stand beside the order, and may import anything."""

NO_TORCH_FILES = ("space.py", "genotype.py")
NO_TORCH_PARTS = BASE | {"space"}


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        names = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(names[:-1] if names[-1] == "__init__" else names)] = path
    return found


def nodes_of(tree: ast.AST, top_level: bool) -> Iterator[ast.AST]:
    """All nodes, or those that run on import: not in functions, nor for type checking alone."""
    for node in ast.iter_child_nodes(tree):
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if not (top_level and (later or checking)):
            yield node
            yield from nodes_of(node, top_level)


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    """Full names of what a file imports, anywhere or on its own import."""
    found: set[str] = set()
    for node in nodes_of(ast.parse(path.read_text(encoding="utf-8")), top_level):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            assert node.module
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def parts_imported(path: Path) -> set[str]:
    """The parts of polymix that a file imports: `errors`, `data`, …"""
    found = set()
    for name in imports(path):
        if name == "polymix" or name.startswith("polymix."):
            pieces = name.split(".")
            known = len(pieces) > 1 and ((ROOT / pieces[1]).is_dir() or
                                         (ROOT / f"{pieces[1]}.py").is_file())  # fmt: skip
            found.add(pieces[1] if known else "__init__")
    return found


def allowed(part: str) -> frozenset[str] | None:
    """What a part may import besides itself; none for anything."""
    if part in TOOLS:
        return None
    if part in BASE:
        return BASE
    if part == "__init__":
        return BASE | {name for parts in ORDER[:-1] for name in parts}
    place = next(i for i, parts in enumerate(ORDER) if part in parts)
    left = BASE | {name for parts in ORDER[:place] for name in parts}
    if part == "space":
        left -= {"data"}  # a genotype knows no rows
    if part == "cli":
        left |= {"console"}
    return frozenset(left)


def test_every_part_has_its_place():
    parts = {part_of(path) for path in ROOT.rglob("*.py")}
    known = {name for each in ORDER for name in each}
    assert parts == BASE | known | TOOLS | {"__init__"}


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_never_turn_back(path):
    part = part_of(path)
    may = allowed(part)
    if may is not None:
        assert parts_imported(path) - {part} <= may


def test_parts_do_not_import_each_other_in_circles():
    """No circle of files, whether they import at the top, in a function or for types alone."""
    known = modules()
    graph = {
        name: {wanted if wanted in known else wanted.rpartition(".")[0] for wanted in imports(path)}
        & known.keys() - {name}
        for name, path in known.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for target in graph[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def without_torch() -> list[Path]:
    """The files that know no torch: genotypes and spaces, by their names, and what they are of."""
    return [
        path
        for path in sorted(ROOT.rglob("*.py"))
        if path.name in NO_TORCH_FILES or part_of(path) in NO_TORCH_PARTS
    ]


@pytest.mark.parametrize("path", without_torch(), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_torch_by_its_imports(path):
    assert not {n for n in imports(path, top_level=True) if n.split(".")[0] == "torch"}


def loads(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after some code."""
    said = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint('\\n', *sys.modules, sep='\\n')"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return set(said.stdout.split())


def test_no_torch_when_imported():
    names = [name for name, path in modules().items() if path in without_torch()]
    assert {"polymix.space.mix", "polymix.methods.bm_nas.space"} <= set(names)
    loaded = loads("import " + ", ".join(names))
    assert set(names) <= loaded
    assert "torch" not in loaded


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["search", "--help"]])
def test_help_does_not_wait_for_torch(arguments):
    loaded = loads(
        "from polymix.cli import app\n"
        f"app({arguments!r}, standalone_mode=False)"
    )  # fmt: skip
    assert "polymix.cli" in loaded
    assert "torch" not in loaded


def test_the_contracts_need_no_pytest_and_nothing_needs_the_contracts():
    assert "pytest" not in loads("import polymix.testing")
    for path in ROOT.rglob("*.py"):
        if part_of(path) != "testing":
            assert "testing" not in parts_imported(path), path
