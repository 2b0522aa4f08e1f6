"""The systemd unit: what systemd itself says of it, and what `install-service` does with it."""

import os
import re
import shutil
import stat
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest
import typer

from shop_poller.cli import service as service_commands
from shop_poller.cli import systemd_unit as service
from shop_poller.config.loader import CONFIG_CREDENTIAL
from shop_poller.config.settings import SECRETS
from shop_poller.runtime.leader_session import Grace
from support.commands import COMMAND, run_command

ROOT = Path(__file__).parents[2]
UNITS = ("shop-poller.service", "back-off.conf", "shop-poller.env", "redis.conf")
WORST_EXPOSURE = 1.5
SHOPS = "".join(
    f"""
[[shops]]
shop_id = "{shop}"
woocommerce_mcp_url = "https://{shop}.example/wp-json/woocommerce/mcp"
woocommerce_consumer_key = "ck_{shop}"
woocommerce_consumer_secret = "cs_{shop}"
"""
    for shop in ("honey", "tea")
)
ELSEWHERE = Path("/bin/true")  # systemd looks whether what a unit starts is there

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze here; apt-get install systemd"
)


def unit() -> str:
    return service.unit(ELSEWHERE)


def values(name: str) -> list[str]:
    """What the unit says under a name, line by line."""
    return re.findall(rf"^{name}=(.*)$", unit(), re.MULTILINE)


def seconds(value: str) -> float:
    number, word = re.fullmatch(r"(\d+)(s|min)", value).groups()  # type: ignore[union-attr] # fails if it is not
    return int(number) * {"s": 1, "min": 60}[word]


def analyze(*args: str | Path) -> tuple[int, str]:
    done = subprocess.run(["systemd-analyze", *args], capture_output=True, text=True, check=False)  # noqa: S607
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "shop-poller.service"
    path.write_text(unit())
    return path


@needs_systemd
def test_systemd_has_nothing_to_say_against_the_unit(written: Path) -> None:
    assert analyze("verify", written) == (0, "")


@needs_systemd
def test_systemd_has_nothing_to_say_against_the_unit_with_the_example_for_redis(written: Path) -> None:
    drop_ins = written.with_name("shop-poller.service.d")
    drop_ins.mkdir()
    text = files("shop_poller").joinpath("units", "redis.conf").read_text()
    for name, lines in (
        ("redis.conf", text),
        ("all.conf", re.sub(r"^#(\w+=)", r"\1", text, flags=re.MULTILINE)),
    ):
        (drop_ins / name).write_text(lines)
    assert analyze("verify", written) == (0, "")


@needs_systemd
def test_systemd_calls_the_sandbox_tight(written: Path) -> None:
    threshold = f"--threshold={WORST_EXPOSURE * 10:.0f}"
    code, said = analyze("security", "--offline=true", "--no-pager", threshold, written)
    found = re.search(r"exposure level for shop-poller.service: ([\d.]+)", said)
    assert found, said
    assert float(found[1]) <= WORST_EXPOSURE
    assert code == 0


def test_every_setting_of_the_unit_has_its_reason_above_it() -> None:
    for paragraph in unit().split("\n\n"):
        lines = [line for line in paragraph.splitlines() if not line.startswith("[")]
        assert (
            not lines
            or lines[0].startswith("#")
            or lines == ["WantedBy=multi-user.target"]
            or (lines[0].startswith("Description="))
        ), paragraph


def test_every_secret_may_be_a_credential_and_none_has_to_be() -> None:
    names = [*(name.upper() for name in SECRETS), CONFIG_CREDENTIAL]
    assert sorted(service.credentials()) == sorted(names)
    assert sorted(values("LoadCredential")) == sorted(
        f"{name}:{service.CREDENTIALS}/{name}" for name in names
    )
    assert sorted(values("SetCredential")) == sorted(rf"{name}:\n" for name in names)


def test_a_credential_that_is_only_a_blank_is_as_good_as_none(tmp_path: Path) -> None:
    """As SetCredential makes it of a file that is not there."""
    for name in (*(name.upper() for name in SECRETS), CONFIG_CREDENTIAL):
        (tmp_path / name).write_text("\n")
    done = run_command(["check"], home=tmp_path, env={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert done.code == 2
    assert [line.split()[1] for line in done.complaints] == [
        "WOOCOMMERCE_MCP_URL:", "WOOCOMMERCE_CONSUMER_KEY:", "WOOCOMMERCE_CONSUMER_SECRET:",
    ]  # fmt: skip


def test_several_shops_are_a_credential_that_every_command_finds(tmp_path: Path) -> None:
    """Beside blank ones of keys, which are no shop's."""
    for name in SECRETS:
        (tmp_path / name.upper()).write_text("\n")
    (tmp_path / CONFIG_CREDENTIAL).write_text(SHOPS)
    done = run_command(["shops", "list"], home=tmp_path, env={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert done.code == 0, done.complaints
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["honey", "tea"]


def test_systemd_waits_longer_than_the_daemon_needs_to_stop() -> None:
    (timeout,) = values("TimeoutStopSec")
    assert seconds(timeout) > max(Grace().tick_s, Grace().sender_s) + 5


def test_wrong_settings_are_not_tried_again_and_again() -> None:
    assert values("Restart") == ["on-failure"]
    assert values("RestartPreventExitStatus") == ["2"]


@pytest.mark.parametrize("name", UNITS)
def test_the_files_in_deploy_are_those_of_the_package(name: str) -> None:
    there = (ROOT / "deploy/systemd" / name).read_text(encoding="utf-8")
    assert there == files("shop_poller").joinpath("units", name).read_text(encoding="utf-8")


def test_the_settings_template_names_settings_and_their_defaults() -> None:
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    template = files("shop_poller").joinpath("units", "shop-poller.env").read_text()
    named = re.findall(r"^#([A-Z_]+)=(.+)$", template, re.MULTILINE)
    assert len(named) > 3
    for name, value in named:
        assert f"| `{name}` |" in page
        assert name.lower() not in SECRETS
        assert f"| `{name}` | `{value}` |" in page or name == "WOOCOMMERCE_MCP_URL"


# --- install-service ----------------------------------------------------------------------------------------


def test_it_prints_the_unit_with_the_path_of_the_command(tmp_path: Path) -> None:
    done = run_command(["install-service", "--print"], home=tmp_path, env={})
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout == service.unit(COMMAND.resolve())
    assert f"\nExecStart={COMMAND.resolve()} run\n" in done.stdout


def test_it_writes_all_files_and_then_leaves_them_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service_commands.install(ELSEWHERE, tmp_path, 252, yes=False)
    told = capsys.readouterr().out
    made = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*")}
    assert {name for name, path in made.items() if path.is_file()} == {
        "etc/systemd/system/shop-poller.service", "etc/shop-poller/shop-poller.env",
    }  # fmt: skip
    assert made["etc/systemd/system/shop-poller.service"].read_text() == unit()
    assert stat.S_IMODE(made["etc/systemd/system/shop-poller.service"].stat().st_mode) == 0o644
    assert stat.S_IMODE(made["etc/shop-poller/shop-poller.env"].stat().st_mode) == 0o640
    assert stat.S_IMODE(made["etc/shop-poller/credentials"].stat().st_mode) == 0o700
    for name in ("WOOCOMMERCE_CONSUMER_KEY", "WOOCOMMERCE_CONSUMER_SECRET", "SHOP_NOTIFY_URLS"):
        assert f"/etc/shop-poller/credentials/{name}" in told
    assert f"{ELSEWHERE} as-service check" in told

    made["etc/shop-poller/shop-poller.env"].write_text("SHOP_LOCALE=en\n")
    service_commands.install(ELSEWHERE, tmp_path, 252, yes=False)
    assert capsys.readouterr().out.count("unchanged") == 2
    assert made["etc/shop-poller/shop-poller.env"].read_text() == "SHOP_LOCALE=en\n"


def test_a_unit_that_differs_is_shown_and_only_written_anew_if_that_is_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "etc/systemd/system/shop-poller.service"
    path.parent.mkdir(parents=True)
    path.write_text(unit().replace("WatchdogSec=60s", "WatchdogSec=5s"))
    with pytest.raises(typer.Exit) as refused:
        service_commands.install(ELSEWHERE, tmp_path, 252, yes=False)
    assert refused.value.exit_code == 2
    told = capsys.readouterr()
    assert "-WatchdogSec=5s\n+WatchdogSec=60s\n" in told.out
    assert "--yes" in told.err
    assert "WatchdogSec=5s" in path.read_text()

    service_commands.install(ELSEWHERE, tmp_path, 252, yes=True)
    assert path.read_text() == unit()


def test_a_directory_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "etc").write_text("no directory")
    with pytest.raises(typer.Exit) as failed:
        service_commands.install(ELSEWHERE, tmp_path, 252, yes=True)
    assert failed.value.exit_code == 2
    assert re.search(rf"shop-poller: {tmp_path}/etc\S* cannot be written: ", capsys.readouterr().err)


@pytest.mark.parametrize(("version", "wanted"), [(247, False), (253, False), (254, True), (259, True)])
def test_what_only_newer_versions_know_is_for_newer_versions(*, version: int, wanted: bool) -> None:
    paths = [file.path for file in service.service_files(ELSEWHERE, version)]
    assert (service.BACK_OFF in paths) is wanted
    assert "RestartSteps" not in unit()


def test_a_command_that_the_service_could_not_execute_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "HIDDEN", ("/home",))
    monkeypatch.setattr("sys.executable", "/bin/true")
    monkeypatch.setattr(service, "__file__", "/bin/true")
    assert list(service.obstacles(Path("/bin/true"))) == []
    (hidden,) = service.obstacles(Path("/home/anna/.local/bin/shop-poller"))
    assert hidden.startswith("/home/anna/.local/bin/shop-poller is in /home")
    assert "/opt" in hidden
    (odd,) = service.obstacles(Path("/opt/%h/shop-poller"))
    assert "characters" in odd
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "shop-poller").touch()
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if not parent.stat().st_mode & stat.S_IXOTH:
            closed = parent
    (shut,) = service.obstacles(tmp_path / "closed" / "shop-poller")
    assert f"chmod -R o+rX {closed}" in shut


# --- as-service ---------------------------------------------------------------------------------------------


def fake(directory: Path, name: str, script: str) -> None:
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


def test_a_command_as_the_service_has_its_user_settings_keys_and_state() -> None:
    argv = service.as_service(
        unit() + "EnvironmentFile=/etc/more.env\n", ["/bin/true", "dead", "list"], terminal=False
    )
    assert argv[:4] == ["systemd-run", "--quiet", "--wait", "--collect"]
    assert "--pipe" in argv
    assert argv[argv.index("--") :] == ["--", "/bin/true", "dead", "list"]
    for line in ("User=shop-poller", "DynamicUser=yes", "StateDirectory=shop-poller", "UMask=0077",
                 "EnvironmentFile=-/etc/shop-poller/shop-poller.env", "EnvironmentFile=/etc/more.env",
                 rf"SetCredential={SECRETS[0].upper()}:\n"):  # fmt: skip
        assert f"--property={line}" in argv
    for name in service.credentials():
        assert f"--property=LoadCredential={name}:{service.CREDENTIALS}/{name}" in argv
    assert not [word for word in argv if "ExecStart" in word or "Type=" in word or "Watchdog" in word]
    assert "--pty" in service.as_service(unit(), ["x"], terminal=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read the service's keys")
def test_the_whole_command_line_goes_on_to_the_command(tmp_path: Path) -> None:
    fake(tmp_path, "systemctl", f"exec cat {ROOT}/deploy/systemd/shop-poller.service")
    fake(tmp_path, "systemd-run", 'for word; do echo "$word"; done; exit 4')
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = run_command(["as-service", "dead", "list", "--json"], home=tmp_path, env=path)
    assert (done.code, done.stderr) == (4, "")
    words = done.lines
    assert words[words.index("--") :] == ["--", str(COMMAND.resolve()), "dead", "list", "--json"]
    assert "--property=StateDirectory=shop-poller" in words


def test_without_the_service_it_is_said_what_to_do(tmp_path: Path) -> None:
    fake(tmp_path, "systemctl", "echo 'No files found for shop-poller.service.' >&2; exit 1")
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = run_command(["as-service", "check"], home=tmp_path, env=path)
    assert done.code == 2
    assert done.complaints == [
        "shop-poller: there is no shop-poller.service; install it: sudo shop-poller install-service"
    ]


def test_without_systemd_it_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to(shutil.which("python3") or "")
    done = run_command(["as-service", "check"], home=tmp_path, env={"PATH": str(tmp_path)})
    assert done.code == 2
    assert done.complaints == [
        "shop-poller: systemctl: No such file or directory; does this machine run systemd?"
    ]
