"""A secret in the wrong variable, file, option or name is in no error; what a person mistyped still is."""

import re
from pathlib import Path

import pytest

from shop_poller.config.settings import Settings, SettingsError
from shop_poller.config.shops import load_shops
from shop_poller.core.showing import is_harmless, shown
from shop_poller.sinks.registry import parse_sink
from support.commands import run_command
from support.marked_language import assert_translatable

SECRETS = {
    "a consumer key": "ck_4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6",
    "a consumer secret": "cs_9e8d7c6b5a4f3e2d1c0b9a8f7e6d5c4b3a2f1e0d",
    "an application password": "xY7k Qw2m Zr9t Lp4v Nb6c Hd8s",
    "one without blanks": "xY7kQw2mZr9tLp4vNb6cHd8s",
    "one of letters only": "wxyz Qwem Zrtt Lpvv Nbcc Hdss",
    "a bot's token": "123456789:AAGk3Vx0pQ7Zs9YtuWaB2cD4eF6gH8iJk",
    "an address with a password": "redis://poller:Tr0ub4dor3Horse@redis.example:6379/0",
    "a hook with a token": "https://hooks.slack.example/services/T024BE7LD/B19AKF2QY/xYz81QmN4vLpR7sKw2HdC9ef",
    "a signing secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "its base64": "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "openssl rand -hex 24": "8f14e45fceea167a5a36dedd4bea2543e3b0c44298fc1c14",
    "long and random": "vQ4w~TzR!9xKp2&Lm7#Yd5Hn",
    "letters only": "kqvzjwxhgfpmtrbnlcdsyqwe",
    "a login": "poller:Tr0ub4dor3Horse",
    "a made-up password": "Tr0ub4dor3",
    "a phrase": "correct-horse-battery-staple",
    "a word with a number": "hunter2024",
    "two words with a sign": "qwerty!Zxcv",
    "words and signs": "Blue$moon^Tree",
    "two lines": "cs_9e8d7c6b5a4f3e2d1c0b\nck_4f5a6b7c8d9e0f1a2b3c",
    "with a blank": " cs_9e8d7c6b5a4f3e2d1c0b9a8f7e6d5c4b3a2f1e0d!",
    "JSON of it": '{"cs_9e8d7c6b5a4f3e2d1c0b": "xY7kQw2mZr9tLp4v"}',
}
BASE = {
    "WOOCOMMERCE_MCP_URL": "https://shop.example/wp-json/woocommerce/mcp",
    "WOOCOMMERCE_CONSUMER_KEY": "ck_key",
    "WOOCOMMERCE_CONSUMER_SECRET": "cs_secret",
}


def telling(secret: str) -> set[str]:
    """Parts of a secret of which none may be shown."""
    words = [word for word in re.split(r"[\s\"{}]+|(?<=//)|[@/]", secret) if len(word) >= 4]
    words = [
        word for word in words if not re.fullmatch(r"(redis|https?):|services|[a-z.]+\.example(:\d+)?", word)
    ]
    return {word[:12] for word in words if not word.startswith("poller")} | {"Tr0ub4"}


def problems(
    folder: Path, environ: dict[str, str], *, dotenv: str = "", config: str | None = None
) -> list[str]:
    path = folder / "shops.toml"
    (folder / ".env").write_text(dotenv, encoding="utf-8")
    if config is not None:
        path.write_text(config, encoding="utf-8")
    try:
        load_shops(
            path if config is not None else None,
            environ=environ,
            dotenv=folder / ".env",
            parse_sink=parse_sink,
        )
    except SettingsError as error:
        assert_translatable(error.problems)
        return error.problems
    return []


def hidden(found: list[str], secret: str) -> None:
    for line in found:
        assert not [part for part in telling(secret) if part in line], line
        assert len(line.splitlines()) == 1, line


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("name", [*map(str.upper, Settings.model_fields)])
def test_no_setting_shows_a_secret(tmp_path: Path, name: str, kind: str) -> None:
    secret = SECRETS[kind]
    for value in (secret, f'"{secret}"', f"{secret} {secret}", f"x={secret}", f"[{secret}"):
        found = problems(tmp_path, {**BASE, name: value})
        hidden(found, secret)
        assert all(line.startswith(("SHOP_", "WOOCOMMERCE_", "WORDPRESS_", "REDIS_URL")) for line in found)


@pytest.mark.parametrize("kind", SECRETS)
def test_neither_do_files_and_their_names(tmp_path: Path, kind: str) -> None:
    secret = SECRETS[kind].replace("\n", " ")
    quoted = '"' + secret.replace('"', '\\"') + '"'
    for name in ("SHOP_LOCALE", "SHOP_SENDERS", "SHOP_ID", "SHOP_LEVEL_MAP"):
        hidden(problems(tmp_path, BASE, dotenv=f"{name}='{secret}'"), secret)
        hidden(problems(tmp_path, BASE, config=f"{name.lower()} = {quoted}"), secret)
        hidden(problems(tmp_path, BASE, config=f"{name.lower()} = [{quoted}]"), secret)
    for written in (
        f"{quoted} = 1",
        f"{secret}",
        f"shop_locale = {secret}",
        f"[{secret}]",
        f"[[shops]]\n{quoted} = 1",
    ):
        found = problems(tmp_path, BASE, config=written)
        hidden(found, secret)
    for of in (
        "shop_id",
        "shop_locale",
        "woocommerce_consumer_key_env",
        "woocommerce_consumer_key_file",
        "shops",
    ):
        tables = f"[[shops]]\n{of} = {quoted}\n" * 2
        hidden(problems(tmp_path, BASE, config=tables), secret)
    for variable in ("WOOCOMMERCE_CONSUMER_SECRET_FILE", "SHOP_NOTIFY_SECRET_FILE", "CREDENTIALS_DIRECTORY"):
        hidden(problems(tmp_path, {**BASE, variable: secret}), secret)


@pytest.mark.parametrize("kind", SECRETS)
def test_neither_does_a_typing_error_in_a_sinks_address(tmp_path: Path, kind: str) -> None:
    secret = SECRETS[kind].split("\n")[0].replace(" ", "")
    if "://" in secret or "{" in secret:
        return
    for address in (
        f"https://h.example/?events={secret}",
        f"https://h.example/?levels={secret}",
        f"redis://h/0?{secret}=1&channel=c",
        f"redis://h/0?chanel={secret}",  # codespell:ignore chanel
        f"redis+stream://h/0?stream=s&maxlen={secret}",
        f"{secret}://h.example/",
        f"console:?{secret}",
        f"apprise+{secret}://x",
        f"https://h.example/a#{secret}!",
    ):
        hidden(problems(tmp_path, {**BASE, "SHOP_NOTIFY_URLS": address}), secret)


@pytest.mark.parametrize("kind", [kind for kind in SECRETS if kind not in {"two lines", "a login"}])
def test_neither_does_the_command_line(tmp_path: Path, kind: str) -> None:
    secret = SECRETS[kind].strip()
    settings = {**BASE, "SHOP_STATE_URL": f"sqlite:///{tmp_path}/state.db", "SHOP_HTTP_LISTEN": ""}
    for args in (
        [secret],
        [f"--{secret}"],
        ["run", secret],
        ["audit", "--since", secret],
        ["audit", f"--since={secret}"],
        ["dead", "show", secret],
        ["dead", "list", "--sink", secret],
        ["replay", "--since", "2026-01-01", "--event", secret],
        ["status", "--shop", secret],
        ["status", "--config", secret.replace("/", "-")],
    ):
        done = run_command(args, home=tmp_path, env=settings)
        hidden([re.sub(r"\s+", " ", done.stdout + done.stderr)], secret)
        assert done.code != 0


MISTYPED = [
    "soap", "de", "1 min", "2.5", "-1", "8785", "one day", "two words", "9108", "woocommerce", "INFO",
    "10min", "error=critical", "rest,mcp", '{"bad":"x"}', "сборка", "off", "v2",
]  # fmt: skip


@pytest.mark.parametrize("text", MISTYPED)
def test_what_was_mistyped_is_shown(text: str) -> None:
    assert shown(text) == repr(text)


@pytest.mark.parametrize(
    "name",
    [
        "shop_polling_intervall",
        "woocommerce_comsumer_key",
        "shop.order.packed",
        "te/a",  # codespell:ignore te
    ],
)
def test_a_name_may_be_longer(name: str) -> None:
    assert shown(name, is_name=True) == repr(name)


@pytest.mark.parametrize("kind", SECRETS)
def test_of_a_secret_the_length_is_told(kind: str) -> None:
    secret = SECRETS[kind]
    assert not is_harmless(secret)
    assert not is_harmless(secret, is_name=True)
    assert shown(secret) == f"a text of {len(secret)} characters"
