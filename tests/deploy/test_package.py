"""The wheel and the sdist: what is in them, and that they run where nothing else is."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from shop_poller import __version__
from support.commands import environment

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/shop_poller"
TO_DEPLOY = (
    "Dockerfile",
    ".dockerignore",
    "Makefile",
    "constraints.txt",
    "docs/start.md",
    "tests/conftest.py",
    "deploy/systemd/shop-poller.service",
    "deploy/compose/compose.yaml",
    "deploy/kubernetes/base/deployment.yaml",
)

pytestmark = pytest.mark.package


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and the wheel that was made of it."""
    place = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(place), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return built / f"shop_poller-{__version__}-py3-none-any.whl"


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    kinds = {".py", ".sql", ".lua", ".json", ".service", ".conf", ".env", ".typed", ".html", ".css", ".toml"}
    there = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path.suffix or path.name for path in there} <= kinds, "a new kind of file: is it in the wheel?"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"shop_poller/{path.relative_to(PACKAGE).as_posix()}" for path in there} == {
        name for name in names if name.startswith("shop_poller/")
    }
    for kind in (".sql", ".lua", ".service"):
        assert any(name.endswith(kind) for name in names)


def test_the_sdist_has_what_it_takes_to_test_and_to_deploy_it(built: Path) -> None:
    with tarfile.open(built / f"shop_poller-{__version__}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert set(TO_DEPLOY) <= names
    assert not [name for name in names if ".venv" in name or name.endswith(".db")]


def test_the_wheel_runs_where_nothing_else_is(wheel: Path, tmp_path: Path) -> None:
    """In a fresh environment, with the versions that are tested and without what only tests need."""
    where = tmp_path / "venv"
    venv.create(where, with_pip=False, symlinks=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(where),
        "install",
        "-q",
        "--disable-pip-version-check",
    ]
    subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), str(wheel)], check=True, capture_output=True)

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [where / "bin" / "shop-poller", *args],
            env=environment(tmp_path, {"PATH": os.defpath}),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    version = run("--version")
    assert (version.returncode, version.stdout) == (0, f"shop-poller {__version__}\n")
    unit = run("install-service", "--print")
    assert f"ExecStart={where.resolve()}/bin/shop-poller run" in unit.stdout
    demo = run("demo", "--seconds", "3")
    assert (demo.returncode, demo.stderr) == (0, "")
    assert "A simulated shop runs at" in demo.stdout
