"""Finds names of settings that do not exist, above all misspelled ones.

docs/decisions/0026 explains which names are errors where.
"""

import io
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream

from shop_poller.config.settings import SECRETS, Settings
from shop_poller.core.showing import shown
from shop_poller.core.spelling import closest
from shop_poller.core.translatable import Text

OURS = ("SHOP_", "WOOCOMMERCE_")
"""How names begin that nothing else has in a file that is ours."""
BEGINNINGS = (*OURS, "WORDPRESS_")
VARIABLES = frozenset(
    {*(name.upper() for name in Settings.model_fields), *(f"{name.upper()}_FILE" for name in SECRETS)}
)
COMPARED = [name for name in sorted(VARIABLES) if name.startswith(BEGINNINGS)]
"""What a misspelled variable is compared with. REDIS_URL is not ours alone: others have names like it."""
LIKE_OURS = re.compile(r"(?i)s[hp]|w[oi]|o[ow]")
"""How misspelled names may begin; others are not compared."""
OF_SERVICES = re.compile(
    r".+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
"""Variables that Kubernetes sets in every container for a Service that is called `shop…`."""


def judge_environment(environ: Iterable[str], referred: Collection[str] = ()) -> tuple[list[str], list[str]]:
    """Judge the variables of the environment whose names are like those of settings, and are none.

    Args:
        environ: the names of the variables.
        referred: names that tables of [[shops]] refer to.

    Returns:
        One line per misspelled setting; and the names that begin as ours do, but may be another program's.
    """
    problems: list[str] = []
    ignored: list[str] = []
    for name in sorted({*environ} - {*referred}):
        upper = name.upper()
        if upper in VARIABLES or not LIKE_OURS.match(upper) or OF_SERVICES.fullmatch(upper):
            continue
        setting, _, suffix = upper.rpartition("_")
        is_longer = any(upper.startswith(f"{known}_") for known in COMPARED)
        if setting in VARIABLES and suffix == "FILE":
            problems.append(
                Text("{name}: only secrets are read from files; set {setting}", name=name, setting=setting)
            )
        elif not is_longer and (right := closest(upper, COMPARED)):
            problems.append(Text("{name}: is no setting; did you mean {right}?", name=name, right=right))
        elif upper.startswith(OURS):
            ignored.append(name)
    return problems, ignored


def credential_problems(directory: str) -> list[str]:
    """Return one line per systemd credential that is called like a setting, and is not read.

    Args:
        directory: where systemd puts the credentials; "" if there is none.
    """
    secrets = [name.upper() for name in SECRETS]
    try:
        names = sorted({path.name for path in Path(directory).iterdir()} - {*secrets}) if directory else []
    except OSError:  # each secret that is looked for there reports it
        return []
    found: list[str] = []
    for name in names:
        credential = f"CREDENTIALS_DIRECTORY/{name}"
        if name in VARIABLES:
            found.append(
                Text("{name}: only secrets are read from files; set {setting}", name=credential, setting=name)
            )
        elif right := closest(name, secrets):
            found.append(Text("{name}: is no setting; did you mean {right}?", name=credential, right=right))
    return found


def read_dotenv(path: Path, referred: Collection[str] = ()) -> tuple[dict[str, str | None], list[str]]:
    """Read a file of NAME=value lines, and find lines of ours that are none, or set no setting.

    Args:
        path: of the file.
        referred: names that tables of [[shops]] refer to.

    Returns:
        The values by their names, and one line per problem.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not UTF-8.
    """
    values: dict[str, str | None] = {}
    problems: list[str] = []
    for binding in parse_stream(io.StringIO(path.read_text(encoding="utf-8-sig"))):
        if binding.key is not None:
            values[binding.key] = binding.value
            if binding.key not in referred:
                problems += _unknown_in_file(binding.key, path)
        elif binding.error and any(beginning in binding.original.string.upper() for beginning in BEGINNINGS):
            problems.append(
                Text(
                    "{file}, line {line}: should be NAME=value; perhaps a quote or = is missing",
                    file=path,
                    line=binding.original.line,
                )
            )
    return values, problems


def _unknown_in_file(name: str, path: Path) -> list[str]:
    upper = name.upper()
    if upper in VARIABLES:
        return []
    if right := closest(upper, COMPARED):
        return [did_you_mean(path, name, right)]
    if not upper.startswith(OURS):
        return []
    return [
        Text(
            "{config}: there is no setting {name}; docs/configuration.md lists them",
            config=path,
            name=shown(name, is_name=True),
        )
    ]


def toml_problems(written: Mapping[str, Any], path: Path) -> list[str]:
    """Return one line per key above the first [[shops]] that is no setting."""
    problems: list[str] = []
    for name in sorted({*written} - {*Settings.model_fields}):
        secret, _, how = name.rpartition("_")
        if secret in SECRETS and how == "file":
            problems.append(
                Text(
                    "{config}: {name} is only for the tables of [[shops]]; set the variable {variable}",
                    config=path,
                    name=name,
                    variable=name.upper(),
                )
            )
        elif right := meant(name, ("shops",)):
            problems.append(did_you_mean(path, name, right))
        elif isinstance(written[name], dict) and not {*written[name]}.isdisjoint(Settings.model_fields):
            problems.append(
                Text(
                    "{config}: there is no table {name}; write settings for all shops at the top, "
                    "in no table",
                    config=path,
                    name=shown(name, is_name=True),
                )
            )
        else:
            problems.append(
                Text(
                    "{config}: there is no setting {name}; the names are those of the variables, "
                    "in lower case",
                    config=path,
                    name=shown(name, is_name=True),
                )
            )
    return problems


def meant(name: str, more: Collection[str] = ()) -> str:
    """Return the key of a TOML file that another key was probably meant to be; "" if there is none.

    Args:
        name: as it was written, e.g. `polling_interval` or `shop_poling_interval`.
        more: keys that are right besides the settings.
    """
    right = [*Settings.model_fields, *more]
    for beginning in BEGINNINGS:
        if (whole := f"{beginning.lower()}{name.lower()}") in right:
            return whole
    return name.lower() if name.lower() in right else closest(name, right)


def did_you_mean(path: Path, name: str, right: str) -> str:
    """Return the line about a key that is probably misspelled."""
    return Text(
        "{config}: there is no setting {name}; did you mean {right}?",
        config=path,
        name=shown(name, is_name=True),
        right=right,
    )


def referred_variables(tables: Iterable[Any]) -> set[str]:
    """Return the names of variables that tables of [[shops]] refer to."""
    return {
        str(table[key])
        for table in tables
        if isinstance(table, Mapping)
        for key in (f"{name}_env" for name in SECRETS)
        if key in table
    }
