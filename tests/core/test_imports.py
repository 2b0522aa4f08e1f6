"""Who may know whom; and that the core reads no clock, no dice, no socket and no log."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "src" / "shop_poller" / "core"

OUTSIDE = {
    *("time", "random", "secrets", "socket", "ssl", "select", "selectors", "logging", "os", "io"),
    *("asyncio", "anyio", "trio", "threading", "multiprocessing", "concurrent", "subprocess", "signal"),
    *("sqlite3", "pathlib", "shutil", "tempfile", "http", "urllib.request", "httpx", "redis"),
    *("structlog", "prometheus_client", "tenacity", "pydantic", "pydantic_settings", "starlette", "uvicorn"),
}
IMPURE_CALLS = {"now", "utcnow", "today", "uuid1", "uuid4", "getnode", "open", "print", "input"}


def modules() -> list[Path]:
    return sorted(CORE.rglob("*.py"))


def imported(tree: ast.AST) -> set[str]:
    """Full names of the modules that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {"." * node.level + (node.module or "")}
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def called(tree: ast.AST) -> set[str]:
    """Last names of what a module calls."""
    functions = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {
        function.attr if isinstance(function, ast.Attribute) else function.id
        for function in functions
        if isinstance(function, ast.Attribute | ast.Name)
    }


def reaches_outside(source: str) -> set[str]:
    """What a module imports or calls that a pure one does not; or that it awaits."""
    tree = ast.parse(source)
    imports = {
        name for name in imported(tree) if OUTSIDE & {name, name.split(".")[0], name.rpartition(".")[0]}
    }
    ours = {
        name
        for name in imported(tree)
        if name.startswith((".", "shop_poller")) and not f"{name}.".startswith("shop_poller.core.")
    }
    asynchronous = {
        type(node).__name__
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith)
    }
    return imports | ours | (called(tree) & IMPURE_CALLS) | asynchronous


def test_there_is_a_core() -> None:
    assert {"transition", "cursor", "import_walk", "messages", "retry", "breaker", "schedule"} <= {
        path.stem for path in modules()
    }


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_the_core_reaches_for_nothing_outside(path: Path) -> None:
    assert reaches_outside(path.read_text()) == set()


@pytest.mark.parametrize(
    "impure",
    [
        "import time",
        "import random as dice",
        "from os import path",
        "import urllib.request",
        "from urllib import request",
        "def f():\n    import socket",
        "from datetime import datetime\nx = datetime.now()",
        "import uuid\nx = uuid.uuid4()",
        "async def f(): ...",
        "import shop_poller.ports",
        "from shop_poller import ports",
        "from . import model",
        "from ..ports import Store",
    ],
)
def test_this_test_would_notice(impure: str) -> None:
    assert reaches_outside(impure)


def test_nobody_knows_whom_they_should_not() -> None:
    # The contracts stand in pyproject.toml.
    lint = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-logo", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert lint.returncode == 0, lint.stdout + lint.stderr
