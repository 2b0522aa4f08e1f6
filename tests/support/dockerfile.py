"""Runs a Dockerfile's steps in plain directories, by chroot, where there is no Docker.

It reads the file itself. Only the instructions that ours uses are known; any other fails. Layers, and the
users of steps, are left out.
"""

import fnmatch
import json
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

INSTRUCTION = re.compile(r"(?P<word>[A-Z]+)\s+(?P<rest>.+)", re.DOTALL)
SAID = {"EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD", "LABEL", "USER", "VOLUME"}
"""What is kept in the image's description, and changes no file."""


@dataclass
class Stage:
    """A stage, or the image that it has become.

    Attributes:
        root: its file system.
        name: after AS.
        env: of its steps and of its process.
        said: instructions that only describe it, the last of each kind.
        shell: runs its steps.
        directory: WORKDIR.
    """

    root: Path
    name: str = ""
    env: dict[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    shell: list[str] = field(default_factory=lambda: ["/bin/sh", "-c"])
    directory: str = "/"

    def run(self, argv: list[str], **env: str) -> str:
        """Run a command in it, as root; returns what it printed."""
        whole = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", **self.env, **env}
        done = subprocess.run(
            ["/usr/sbin/chroot", self.root, *argv], env=whole, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{argv}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def words(self, instruction: str) -> list[str]:
        """What stands behind an instruction in its exec form, which is the only one without a shell."""
        return [
            str(word)
            for word in json.loads(self.said[instruction].partition("CMD ")[2] or self.said[instruction])
        ]

    def size_mb(self) -> float:
        """What its files hold, in megabytes of 10^6 bytes, as `docker images` counts."""
        sizes = {}
        for path in self.root.rglob("*"):
            info = path.lstat()
            sizes[info.st_ino] = info.st_size if not path.is_dir() else 0
        return sum(sizes.values()) / 1e6


def instructions(text: str) -> list[tuple[str, str]]:
    """Every instruction with what stands behind it; comments and line ends are gone."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        match = INSTRUCTION.fullmatch(line)
        assert match, f"no instruction: {line}"
        found.append((match["word"], match["rest"]))
    return found


def build(dockerfile: Path, *, base: Path, work: Path, env: dict[str, str]) -> Stage:
    """Build the last stage.

    Args:
        dockerfile: its directory is the build context.
        base: an unpacked image, that every FROM but `scratch` stands for.
        work: an empty directory for the stages.
        env: that every step gets besides, e.g. where the package index is.
    """
    stages: list[Stage] = []
    arguments: dict[str, str] = {}
    for word, rest in instructions(dockerfile.read_text(encoding="utf-8")):
        if word == "FROM":
            stages.append(_begin(rest, base, work / str(len(stages))))
            arguments = {}
            continue
        if word == "ARG":
            name, _, value = rest.partition("=")
            arguments[name] = value.strip('"')
            continue
        stage = stages[-1]
        if word == "RUN":
            argv = (
                json.loads(rest)
                if rest.startswith("[")
                else [*stage.shell, f"cd {stage.directory} && {rest}"]
            )
            stage.run(argv, **env, **arguments)
        elif word == "SHELL":
            stage.shell = json.loads(rest)
        elif word == "ENV":
            stage.env |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        elif word == "WORKDIR":
            stage.directory = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            _copy(rest.split(), stage, stages, dockerfile.parent)
        else:
            assert word in SAID, f"unknown instruction {word}"
            stage.said[word] = rest
    return stages[-1]


def _begin(rest: str, base: Path, root: Path) -> Stage:
    image, _, name = rest.partition(" AS ")
    if image == "scratch":
        root.mkdir()
    else:
        subprocess.run(["cp", "-a", "--reflink=auto", base, root], check=True)  # noqa: S607
    return Stage(root, name)


def _copy(words: list[str], to: Stage, stages: list[Stage], context: Path) -> None:
    *sources, target = [word for word in words if not word.startswith("--")]
    origin = next((word.removeprefix("--from=") for word in words if word.startswith("--from=")), None)
    place = Path(to.root, target.lstrip("/") if target.startswith("/") else f".{to.directory}/{target}")
    if origin is not None:
        (source,) = sources
        root = next(stage.root for stage in stages if stage.name == origin)
        subprocess.run(["cp", "-a", f"{root}{source}.", place], check=True)  # noqa: S607
        return
    for source in sources:
        assert not ignored(source, context), f"{source} is not in the build context"
        if (context / source).is_dir():
            shutil.copytree(context / source, place, dirs_exist_ok=True)
        else:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(context / source, place)


def ignored(name: str, context: Path) -> bool:
    """Whether .dockerignore keeps a name at the top of the context out; the last line that fits decides."""
    out = False
    for line in (context / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#") and fnmatch.fnmatchcase(name, pattern.removeprefix("!")):
            out = not pattern.startswith("!")
    return out
