"""The commands, and the examples that their help shows."""

COMMANDS = (
    "setup", "run", "check", "notify-test", "preview", "status", "audit", "backfill", "replay",
    "mute", "unmute", "mutes", "backup", "restore", "demo",
    "install-service", "as-service", "healthy", "completion",
)  # fmt: skip
AS_SERVICE = ("shop-poller as-service check", "shop-poller as-service dead list --json")
GROUPS = {
    "dead": ("list", "show", "replay", "drop"),
    "deliveries": ("list", "show", "tail"),
    "poll": ("now",),
    "shops": ("list", "check"),
    "state": ("check", "aside"),
}
SETUP = ("shop-poller setup", "shop-poller setup --locale en")
DEMO = "shop-poller demo --seconds 20"
INSTALL = "shop-poller install-service --yes"
EXAMPLES = (
    *SETUP,
    "shop-poller shops list --config shops.toml",
    "shop-poller shops list --config shops.toml --json",
    "shop-poller shops check --config shops.toml",
    "shop-poller shops check --config shops.toml --json",
    "shop-poller run",
    "shop-poller run --once --dry-run",
    "shop-poller check",
    "shop-poller check --all",
    "shop-poller notify-test",
    "shop-poller notify-test --all",
    "shop-poller preview",
    "shop-poller preview --since yesterday --event failed",
    "shop-poller preview --examples --event new",
    "shop-poller status",
    "shop-poller status --json",
    "shop-poller status --watch",
    "shop-poller status --all",
    "shop-poller audit --since 2026-11-01",
    "shop-poller audit --since 2026-11-24T18:00:00 --all --json",
    "shop-poller backfill --since 2026-01-01",
    "shop-poller backfill --since 2026-01-01 --all",
    "shop-poller replay --since 2026-11-24T18:00:00 --dry-run",
    "shop-poller replay --since 2026-11-01 --sink crm --event new --yes",
    "shop-poller replay --since 2026-11-24 --all --dry-run",
    "shop-poller mute telegram --for 2h",
    "shop-poller mute telegram --events new,failed",
    "shop-poller unmute telegram",
    "shop-poller unmute telegram --events new",
    "shop-poller mutes",
    "shop-poller mutes --json",
    "shop-poller backup shop-poller.tar",
    "shop-poller backup shop-poller.tar --overwrite",
    "shop-poller restore shop-poller.tar",
    DEMO,
    "shop-poller install-service --print",
    INSTALL,
    *AS_SERVICE,
    "shop-poller healthy",
    "shop-poller healthy --listen 127.0.0.1:9108",
    "shop-poller completion bash",
    "shop-poller dead list",
    "shop-poller dead list --sink crm --limit 500 --json",
    "shop-poller dead list --all",
    "shop-poller dead show 1",
    "shop-poller dead replay 1",
    "shop-poller dead replay --sink crm --newer-than 2 --yes",
    "shop-poller dead replay --all --all-shops",
    "shop-poller dead drop 1",
    "shop-poller dead drop --older-than 14 --yes",
    "shop-poller deliveries list",
    "shop-poller deliveries list --sink crm --limit 500 --json",
    "shop-poller deliveries list --all",
    "shop-poller deliveries show 1",
    "shop-poller deliveries tail",
    "shop-poller poll now",
    "shop-poller poll now --all",
    "shop-poller state check",
    "shop-poller state check --json",
    "shop-poller state check --repair",
    "shop-poller state aside",
    "shop-poller state aside --forget",
)


def examples(text: str) -> list[str]:
    """The example lines of a command's help."""
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line.startswith("shop-poller ")]
