"""The container image: the Dockerfile's own steps, run in plain directories, since there is no Docker here.

The long test wants an unpacked base image, such as `docker export` makes of one:
    SHOP_BASE_ROOT=/var/tmp/base make soak ARGS=tests/deploy/test_image.py
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shop_poller import __version__
from shop_poller.simulator.keys import DEMO_KEY
from support.commands import PATIENCE_S, wait_until
from support.dockerfile import Stage, build, ignored, instructions
from support.receivers import receiving
from support.simulated import shop_in_thread

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
MOST_MB = 120
USER = 10001
BASE = os.environ.get("SHOP_BASE_ROOT", "")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def said(word: str) -> list[str]:
    return [
        rest
        for instruction, rest in instructions(DOCKERFILE.read_text(encoding="utf-8"))
        if instruction == word
    ]


def test_the_linter_has_nothing_to_say() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), DOCKERFILE], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_base_is_pinned_and_not_in_the_last_stage() -> None:
    base, *_ = said("ARG")
    assert base == "BASE=python:3.13.9-slim-bookworm"
    assert said("FROM") == ["${BASE} AS build", "scratch"]


def test_it_runs_as_a_number_without_a_shell_between() -> None:
    assert said("USER") == [f"{USER}:{USER}"]
    assert [json.loads(word) for word in (*said("ENTRYPOINT"), *said("CMD"))] == [["shop-poller"], ["run"]]
    assert said("STOPSIGNAL") == ["SIGTERM"]
    (check,) = said("HEALTHCHECK")
    assert json.loads(check.partition("CMD ")[2]) == ["shop-poller", "healthy"]


def test_its_label_has_the_version() -> None:
    assert f"VERSION={__version__}" in said("ARG")
    (labels,) = said("LABEL")
    assert 'org.opencontainers.image.version="${VERSION}"' in labels


def test_the_build_context_has_no_keys_and_no_history() -> None:
    for name in (".git", ".env", ".venv", "tests", "deploy", "shop-poller.db", "docs"):
        assert ignored(name, ROOT), name
    copied = [source for copy in said("COPY") for source in copy.split()[:-1] if "--from" not in copy]
    assert copied == ["pyproject.toml", "constraints.txt", "README.md", "LICENSE", "src"]
    assert not [source for source in copied if ignored(source, ROOT)]


# --- Built and run ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    if not BASE or os.geteuid() != 0:
        pytest.skip("SHOP_BASE_ROOT names no unpacked base image, or we are not root: see this file")
    env = {name: value for name, value in os.environ.items() if name in {"PIP_CERT", "PIP_INDEX_URL"}}
    return build(DOCKERFILE, base=Path(BASE), work=tmp_path_factory.mktemp("stages"), env=env)


@pytest.mark.soak
def test_it_is_small_and_has_nothing_in_it_to_build_or_look_around_with(image: Stage) -> None:
    packed = subprocess.run(["tar", "-C", image.root, "-cz", "."], capture_output=True, check=True).stdout  # noqa: S607
    print(f"the image holds {image.size_mb():.1f} MB, {len(packed) / 1e6:.1f} MB packed")  # noqa: T201 - for the docs
    assert image.size_mb() < MOST_MB
    names = {path.name for path in image.root.rglob("*")}
    assert not names & {"pip", "gcc", "cc", "sh", "bash", "dash", "apt", "dpkg", "ensurepip", "busybox"}
    writable = [
        path for path in image.root.rglob("*") if not path.is_symlink() and path.stat().st_uid == USER
    ]
    assert writable == [image.root / "var/lib/shop-poller"]


AS_DOCKER = (
    'root="$1"; mount --bind "$root" "$root"; mount --bind "$2" "$root/var/lib/shop-poller";'
    ' mount --rbind /dev "$root/dev"; mount -t proc proc "$root/proc"; mount -o remount,ro,bind "$root";'
    " shift 2;"
    f' exec setpriv --no-new-privs chroot --userspec={USER}:{USER} --groups= "$root" "$@"'
)
"""What an engine does for `--read-only --security-opt no-new-privileges`, and the image's USER."""


@contextmanager
def running(
    image: Stage, state: Path, settings: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run the image's command as process 1 of its own; yields what it runs in, and its log."""
    for name in ("dev", "proc"):  # an engine makes them, too
        (image.root / name).mkdir(exist_ok=True)
    log = state.with_name("log")
    # An engine looks for the command along the image's PATH.
    command = [f"{image.env['PATH']}/{image.words('ENTRYPOINT')[0]}", *image.words("CMD")]
    inside = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", AS_DOCKER, "sh"]
    with log.open("wb") as out:
        outer = subprocess.Popen(
            [*inside, image.root, state, *command],
            stdout=out,
            stderr=out,
            env={**image.env, "PATH": os.environ["PATH"], **settings},
        )
    try:
        yield outer, log
    finally:
        outer.kill()
        outer.wait(PATIENCE_S)


@pytest.mark.soak
def test_it_runs_where_nothing_can_be_written_and_ends_in_good_order(image: Stage, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, USER, USER)
    listen = f"0.0.0.0:{free_port()}"
    with shop_in_thread() as served, receiving() as receiver:
        served.shop.create_order("processing")
        settings = {
            "WOOCOMMERCE_MCP_URL": served.url,
            "WOOCOMMERCE_CONSUMER_KEY": DEMO_KEY.consumer_key,
            "WOOCOMMERCE_CONSUMER_SECRET": DEMO_KEY.consumer_secret,
            "SHOP_NOTIFY_URLS": receiver.url,
            "SHOP_HTTP_LISTEN": listen,
        }
        with running(image, state, settings) as (outer, log):
            wait_until(lambda: receiver.taken or outer.poll(), "a notification")
            assert outer.poll() is None, log.read_text()
            pid = int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text(encoding="ascii"))
            assert b"NSpid:\t%d\t1\n" % pid in Path(f"/proc/{pid}/status").read_bytes()
            assert {path.name for path in state.iterdir()} >= {"shop-poller.db"}
            assert '"healthy"' in image.run(image.words("HEALTHCHECK"), SHOP_HTTP_LISTEN=listen)
            os.kill(pid, signal.SIGTERM)
            assert outer.wait(PATIENCE_S) == 0
            assert '"stopped"' in log.read_text()
