"""The examples that the commands' help shows."""

COMMANDS = ("run", "check", "notify-test", "status", "demo")
DEMO = "shop-poller demo --seconds 20"
EXAMPLES = (
    "shop-poller run",
    "shop-poller run --once --dry-run",
    "shop-poller check",
    "shop-poller notify-test",
    "shop-poller status",
    "shop-poller status --json",
    DEMO,
)


def examples(text: str) -> list[str]:
    """The example lines of a command's help."""
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line.startswith("shop-poller ")]
