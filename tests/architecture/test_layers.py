"""The floors of the house: an import points down, and third-party code stays in its room."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import zt_agents

PACKAGE = Path(zt_agents.__file__).parent

FLOORS = {
    "zt_agents._internal": 1,
    "zt_agents.errors": 1,
    "zt_agents.provenance": 3,
    "zt_agents.catalog": 4,
    "zt_agents.identity": 4,
    "zt_agents.decisions": 5,
    "zt_agents.policy": 6,
    "zt_agents.approvals": 6,
    "zt_agents.audit": 6,
    "zt_agents.telemetry": 6,
    "zt_agents.credentials": 6,
    "zt_agents.identification": 7,
    "zt_agents.people": 7,
    "zt_agents.revocation": 7,
    "zt_agents.trail": 7,
    "zt_agents.sessions": 7,
    "zt_agents.lending": 7,
    "zt_agents.desk": 7,
    "zt_agents.funnel": 7,
    "zt_agents.permit": 7,
    "zt_agents.shells": 7,
    "zt_agents.evidence": 7,
    "zt_agents.invocation": 7,
    "zt_agents.guard": 7,
    "zt_agents.streams": 7,
    "zt_agents.stores": 7,
    "zt_agents": 8,  # the face: re-exports
    "zt_agents.integrations": 8,
    "zt_agents.config": 8,
    "zt_agents.testing": 8,
    "zt_agents.console": 9,
    "zt_agents.issuer": 9,
    "zt_agents.cli": 9,
    "zt_agents.demo": 9,
    "zt_agents.__main__": 9,
}
MECHANISMS = {name for name, floor in FLOORS.items() if floor == 6}

CONTAINED = {
    "jwt": ("zt_agents.identity", "zt_agents.credentials"),
    "cryptography": ("zt_agents.identity", "zt_agents.credentials"),
    "authlib": ("zt_agents.identity", "zt_agents.credentials"),
    "pkcs11": ("zt_agents.identity",),
    "spiffe": ("zt_agents.identity",),
    "opentelemetry": ("zt_agents.telemetry", "zt_agents.demo"),
    "cel_expr_python": ("zt_agents.policy.conditions",),
    "sqlalchemy": ("zt_agents.stores", "zt_agents.integrations", "zt_agents.demo"),
    "sqlite3": ("zt_agents.stores", "zt_agents.demo"),
    "langchain_core": ("zt_agents.integrations.langchain", "zt_agents.demo"),
    "langchain": ("zt_agents.integrations.langchain", "zt_agents.demo"),
    "langgraph": ("zt_agents.integrations.langchain", "zt_agents.demo"),
    "typer": ("zt_agents.cli",),
    "fastapi": ("zt_agents.console", "zt_agents.issuer", "zt_agents.integrations", "zt_agents.demo"),
    "starlette": ("zt_agents.console", "zt_agents.issuer", "zt_agents.integrations", "zt_agents.demo"),
    "jinja2": ("zt_agents.console",),
    "uvicorn": ("zt_agents.console", "zt_agents.issuer", "zt_agents.integrations", "zt_agents.demo"),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> Iterator[tuple[str, Path, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield module_name(path), path, ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.AST, *, typing_too: bool) -> Iterator[str]:
    """Yield the dotted names a module imports, inside functions too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not typing_too:
            for statement in node.orelse:
                yield from imports(ast.Module([statement], []), typing_too=typing_too)
        else:
            yield from imports(node, typing_too=typing_too)


def room(name: str) -> str:
    """Return the entry of FLOORS that *name* belongs to."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        candidate = ".".join(parts[:length])
        if candidate in FLOORS and (candidate != "zt_agents" or parts == ["zt_agents"] or length == 1):
            return candidate
    raise AssertionError(f"{name} has no floor: give it one")


@pytest.mark.parametrize(("name", "path", "tree"), [pytest.param(*item, id=item[0]) for item in sources()])
def test_imports_point_down(name: str, path: Path, tree: ast.Module) -> None:
    here = room(name)
    for imported in imports(tree, typing_too=False):
        if not imported.startswith("zt_agents.") or name == "zt_agents":
            continue
        there = room(imported)
        assert there != "zt_agents", f"{name} imports {imported} from the package's face"
        assert FLOORS[there] <= FLOORS[here], f"{name} imports {imported}, which is above it"
        if here in MECHANISMS and there in MECHANISMS:
            assert here == there, f"mechanism {here} imports mechanism {there}"


@pytest.mark.parametrize(("name", "path", "tree"), [pytest.param(*item, id=item[0]) for item in sources()])
def test_third_party_code_stays_in_its_room(name: str, path: Path, tree: ast.Module) -> None:
    for imported in imports(tree, typing_too=False):
        homes = CONTAINED.get(imported.split(".")[0])
        if homes is not None:
            assert name.startswith(homes), f"{name} imports {imported}, which belongs in {homes}"


def test_every_module_says_what_it_is_for_and_is_small_enough_to_read() -> None:
    for name, path, tree in sources():
        assert ast.get_docstring(tree), f"{name} has no docstring"
        lines = path.read_text(encoding="utf-8").count("\n")
        assert lines <= 600, f"{name} has {lines} lines: split it"


def test_no_module_has_a_name_that_says_nothing() -> None:
    for name, _, _ in sources():
        assert not {"utils", "helpers", "manager", "base", "core", "common", "misc"} & set(name.split("."))


def test_the_face_exports_what_it_says() -> None:
    assert sorted(zt_agents.__all__) == zt_agents.__all__
    for name in zt_agents.__all__:
        assert hasattr(zt_agents, name)
    face = ast.parse(Path(zt_agents.__file__).read_text(encoding="utf-8"))
    shown = {
        alias.name: node.module
        for node in ast.walk(face)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("zt_agents.")
        for alias in node.names
    }
    assert shown == zt_agents._HOMES, "a type checker sees what a program gets"
    assert {*shown} == {*zt_agents.__all__}
    assert {*zt_agents.__all__} <= {*dir(zt_agents)}
    with pytest.raises(AttributeError, match="no attribute 'Gaurd'"):
        _ = zt_agents.Gaurd


def test_who_only_verifies_a_log_loads_no_guard() -> None:
    code = (
        "import sys, zt_agents.audit, zt_agents.stores.sqlite_audit;"
        "print({'zt_agents.guard', 'zt_agents.approvals', 'pydantic', 'opentelemetry', 'rich'} & {*sys.modules})"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


def test_importing_the_package_loads_no_framework() -> None:
    code = (
        "import sys; from zt_agents import *;"
        "print(sorted({m.split('.')[0] for m in sys.modules} &"
        " {'langchain_core', 'langchain', 'langgraph', 'langsmith', 'sqlalchemy', 'typer', 'cel_expr_python',"
        " 'fastapi', 'starlette', 'jinja2', 'uvicorn'}))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_the_command_line_loads_no_web_server() -> None:
    code = "import sys, zt_agents.cli; print({'fastapi', 'starlette', 'jinja2', 'uvicorn'} & {*sys.modules})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


def test_errors_are_all_raised_somewhere_and_no_exception_class_hides_elsewhere() -> None:
    raised: set[str] = set()
    classes: dict[str, str] = {}
    bases: set[str] = set()
    for name, _, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                classes[node.name] = name
                bases.update(ast.unparse(base) for base in node.bases)
            elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
                raised.add(ast.unparse(node).split(".")[-1])
    for error, home in classes.items():
        assert home == "zt_agents.errors", f"{error} belongs in errors.py, not {home}"
        assert error in raised or error in bases, f"{error} is raised nowhere"
