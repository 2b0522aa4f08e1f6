"""Reads the owner's templates: files of a directory, or a table in the TOML file. Does not compile them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shop_poller.core.known_lines import known
from shop_poller.core.showing import shown
from shop_poller.core.translatable import Text

SUFFIX = ".txt.j2"
MAX_TEMPLATES = 200
MAX_BYTES = 16 * 1024
"""Of one template."""

TemplateSource = Path | tuple[tuple[str, str], ...] | None
"""Where templates are: a directory, or names with texts. None if there are none."""


@dataclass(frozen=True, slots=True)
class TemplateTexts:
    """Templates as they were read.

    Attributes:
        texts: by name, without the end of a file's name.
        directory: where the files are; None for a table.
        problems: what could not be read, one line per problem.
    """

    texts: Mapping[str, str]
    directory: Path | None = None
    problems: tuple[str, ...] = ()

    def place(self, name: str) -> str:
        """Return how errors name a template: its path, or its name in the table."""
        return f"shop_templates.{name}" if self.directory is None else str(self.directory / f"{name}{SUFFIX}")


def parse(value: object) -> TemplateSource:
    """Parse SHOP_TEMPLATES.

    Raises:
        ValueError: it is neither an absolute path nor a table of texts.
    """
    if isinstance(value, str):
        if not value:
            return None
        path = Path(value)
        if not path.is_absolute():
            raise ValueError(Text("should be an absolute path, e.g. /etc/shop-poller/templates"))
        return path
    if isinstance(value, dict):
        for name, text in value.items():
            if not isinstance(text, str):
                raise ValueError(  # noqa: TRY004 - pydantic collects ValueErrors
                    Text(
                        "{name} should be the text of a template; put a name with dots into quotes",
                        name=shown(name, is_name=True),
                    )
                )
        return tuple(value.items())
    if value is None:
        return None
    raise ValueError(Text("should be a directory of templates, or a table of them"))


def read(source: Path | tuple[tuple[str, str], ...]) -> TemplateTexts:
    """Read all templates."""
    if not isinstance(source, Path):
        return _bounded(source, None, [])
    try:
        paths = sorted(path for path in source.iterdir() if not path.name.startswith("."))
    except OSError as error:
        return TemplateTexts(
            {},
            source,
            (Text("{source}: cannot be read: {error}", source=source, error=known(error.strerror or "")),),
        )
    files = [path for path in paths if path.name.endswith(SUFFIX)]
    problems: list[str] = [
        Text("{path}: is no template; the names of templates end with {suffix}", path=path, suffix=SUFFIX)
        for path in paths
        if path.suffix == ".j2" and path not in files
    ]
    if not files:
        problems.append(
            Text("{source}: has no file whose name ends with {suffix}", source=source, suffix=SUFFIX)
        )
    found: list[tuple[str, str]] = []
    for path in files[: MAX_TEMPLATES + 1]:
        try:
            with path.open("rb") as file:
                found.append((path.name.removesuffix(SUFFIX), file.read(MAX_BYTES + 1).decode("utf-8-sig")))
        except OSError as error:
            problems.append(
                Text("{path}: cannot be read: {error}", path=path, error=known(error.strerror or ""))
            )
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            # A character of a text that is too long may be cut.
            too_long = len(error.object) > MAX_BYTES
            problems.append(
                _too_long(str(path))
                if too_long
                else Text("{path}, line {line}: is not UTF-8", path=path, line=line)
            )
    return _bounded(found, source, problems)


def _bounded(found: Iterable[tuple[str, str]], directory: Path | None, problems: list[str]) -> TemplateTexts:
    texts = {name: text.replace("\r\n", "\n") for name, text in found}
    read = TemplateTexts(texts, directory)
    if len(texts) > MAX_TEMPLATES:
        problems.append(
            Text(
                "{place}: has more than {most} templates",
                place=directory or "shop_templates",
                most=MAX_TEMPLATES,
            )
        )
    problems += [
        _too_long(read.place(name)) for name, text in texts.items() if len(text.encode()) > MAX_BYTES
    ]
    kept = {name: text for name, text in texts.items() if len(text.encode()) <= MAX_BYTES}
    return TemplateTexts(kept, directory, tuple(problems))


def _too_long(place: str) -> str:
    return Text("{place}: has more than {most} KiB", place=place, most=MAX_BYTES // 1024)
