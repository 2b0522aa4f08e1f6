"""The examples that the commands' help shows."""

COMMANDS = ("run", "check", "notify-test", "status", "audit", "backfill", "demo")
DEMO = "shop-poller demo --seconds 20"
EXAMPLES = (
    "shop-poller run",
    "shop-poller run --once --dry-run",
    "shop-poller check",
    "shop-poller notify-test",
    "shop-poller status",
    "shop-poller status --json",
    "shop-poller audit --since 2026-11-01",
    "shop-poller audit --since 2026-11-24T18:00:00 --json",
    "shop-poller backfill --since 2026-01-01",
    DEMO,
)


def examples(text: str) -> list[str]:
    """The example lines of a command's help."""
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line.startswith("shop-poller ")]
