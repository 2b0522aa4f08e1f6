"""Makes text literal: a service shows it as it was typed, formats nothing in it, and notifies nobody by it.

Apprise escapes text for most services. It does not for those that format what it calls plain text: Discord,
Mattermost, Zulip. It knows no mentions: a buyer named `@everyone` would notify the whole channel. An
invisible character (ZERO WIDTH SPACE) after the first sign of a mention ends it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

INVISIBLE = "\u200b"
"""Not a blank in Markdown, so it does not change how the text around it is read."""
MENTION = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+|@")
"""An e-mail address, which stays as it is, or an @ that may begin a mention."""
MARKS = re.compile(r"[\\`*~\[\]]|(?<![^\W_])_|_(?![^\W_])")
"""Characters that format text. An underscore within a word formats nothing."""
PAIRS = re.compile(r"\|(?=\|)|\{(?=\{)|&(?=#?\w{1,32};)|:(?=[a-z0-9_+-]+:)", re.IGNORECASE)
"""What begins a spoiler, a function of a card, an entity, the name of an emoji."""
BLOCK = re.compile(r"\s*([#>+=-]|\d{1,9}[.)])")
"""What begins a heading, a quote or a list."""
BACKSLASHES = {mark: f"\\{mark}" for mark in "\\`*_~[]"}
LOOKALIKES = {
    "\\": "∖",
    "`": "ˋ",
    "*": "∗",
    "_": "ˍ",
    "~": "∼",
    "[": "[",
    "]": f"]{INVISIBLE}",
}
"""For services whose backslashes are shown, or of which nobody says what they do with them."""


def without_mentions(text: str) -> str:
    """Return the text with an invisible character in every mention; e-mail addresses stay as they are."""
    return MENTION.sub(lambda found: f"@{INVISIBLE}" if found[0] == "@" else found[0], text)


@dataclass(frozen=True, slots=True)
class Markdown:
    """How a service reads Markdown.

    Attributes:
        marks: what to write for a character that formats text.
        less_than: what to write for `<`, which begins a mention, a link or HTML.
        bold: how a title is written where the service gives it no style of its own.
        link: how a link is written.
        line_break: between two lines.
        without_mentions: ends mentions in a text.
    """

    marks: Mapping[str, str]
    less_than: str = f"<{INVISIBLE}"
    bold: str = "{}"
    link: str = "[{text}]({url})"
    line_break: str = "\n"
    without_mentions: Callable[[str], str] = without_mentions

    def literal(self, text: str) -> str:
        """Return one line of text, made literal."""
        text = PAIRS.sub(lambda found: f"{found[0]}{INVISIBLE}", text)
        text = MARKS.sub(lambda found: self.marks[found[0]], text)
        text = text.replace("<", self.less_than)
        text = self.without_mentions(text)
        return f"{INVISIBLE}{text}" if BLOCK.match(text) else text


COMMON = Markdown(BACKSLASHES, line_break="  \n")
DISCORD = Markdown(
    BACKSLASHES,
    bold="**{}**",
    link="[{text}](<{url}>)",  # the brackets prevent a preview
    without_mentions=lambda text: re.sub("@(?=everyone|here)", f"@{INVISIBLE}", without_mentions(text)),
)
"""It mentions @everyone even within a word."""
DISCORD_EMBED = Markdown(BACKSLASHES, without_mentions=lambda text: text.replace("@", f"@{INVISIBLE}"))
"""In anna@example.org Apprise sees a mention of @example."""
MATTERMOST = Markdown(BACKSLASHES, bold="**{}**")
ROCKET_CHAT = Markdown(LOOKALIKES)
SLACK = Markdown(LOOKALIKES, less_than=r"\<")  # Apprise makes it &lt;
TEAMS = Markdown(LOOKALIKES, line_break="\n\n")
ZULIP = Markdown(LOOKALIKES)

OF_PLAIN: Mapping[str, Markdown] = {
    "discord": DISCORD,
    "mmost": MATTERMOST,
    "mmosts": MATTERMOST,
    "zulip": ZULIP,
}
"""The services that format what Apprise calls plain text, by scheme."""
OF_MARKDOWN: Mapping[str, Markdown] = {
    "discord": DISCORD_EMBED,
    "gchat": SLACK,
    "rocket": ROCKET_CHAT,
    "rockets": ROCKET_CHAT,
    "slack": SLACK,
    "workflow": TEAMS,
    "workflows": TEAMS,
}
"""The services whose Markdown differs from what Apprise writes, by scheme."""
FORMATS_TITLE = frozenset({"discord", "workflow", "workflows"})
"""They format the title although it is a field of its own."""
NO_MENTIONS = frozenset({"gotify", "gotifys", "mailto", "mailtos", "ntfy", "ntfys", "pbul", "pover"})
"""They notify the same people whatever the text is."""
