"""CONTRIBUTING.md, the recipes, pre-commit, CI and the package's metadata against the repository."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "docs/contributing").glob("add-a*.md"))
EACH = pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
MAX_LINES = 60
"""A page."""
MAX_FILES_OF_A_SINK = 5


def text(path: Path | str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(text("pyproject.toml"))["project"]
    return found


def section(page: str, heading: str) -> str:
    return page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def named_paths(page: str) -> list[tuple[str, str]]:
    """The files that a page names, and for a test its name, else ""."""
    files = r"`((?:src|tests|docs|deploy)/[^`\s:]+|[\w-]+\.(?:md|toml|txt)|Makefile)(?:::(\w+))?`"
    return re.findall(files, page)


def words_of_the_code() -> set[str]:
    files = [ROOT / "Makefile", *(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    files += [*(ROOT / "src").rglob("*.sql"), *(ROOT / "docs").glob("*.py")]
    return {word for path in files for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}


def test_there_is_a_recipe_for_each_kind_of_part() -> None:
    kinds = {path.stem.rpartition("-")[2] for path in RECIPES}
    assert kinds == {"sink", "event", "setting", "metric", "store", "source"}
    for page, folder in (("CONTRIBUTING.md", "docs/contributing/"), ("docs/contributing/README.md", "")):
        for recipe in RECIPES:
            assert f"({folder}{recipe.name})" in text(page), f"{page} does not link to {recipe.name}"


@EACH
def test_a_recipe_is_one_page_in_the_usual_order(recipe: Path) -> None:
    page = text(recipe)
    assert len(page.splitlines()) <= MAX_LINES
    assert re.match(r"# Add an? \w+\n\nGoal: ", page)
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == ["Files", "Tests", "Docs", "Check"]


@EACH
def test_the_files_and_tests_that_a_recipe_names_exist(recipe: Path) -> None:
    named = named_paths(text(recipe))
    assert len(named) > 5
    for path, test in named:
        if "<" in path:  # the file to add; its folder exists
            path = path.partition("<")[0].rpartition("/")[0]  # noqa: PLW2901 - as the recipe means it
        assert (ROOT / path).exists(), path
        assert not test or re.search(rf"^(async )?def {test}\(", text(path), re.MULTILINE), f"{path}::{test}"


@EACH
def test_the_names_that_a_recipe_uses_are_in_the_code(recipe: Path) -> None:
    names = re.findall(r"`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)`", text(recipe))
    assert len(names) > 3
    known = words_of_the_code()
    missing = [name for name in names if not set(name.split(".")) <= known]
    assert [name for name in missing if not (ROOT / name).exists()] == []


@EACH
def test_the_checks_of_a_recipe_can_be_run(recipe: Path) -> None:
    commands = re.findall(r"^    (.+)$", section(text(recipe), "Check"), re.MULTILINE)
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    assert commands[-1] == "make test"
    for command in commands:
        program, *words = command.split()
        if program == "make":
            assert words[0] in targets, command
        else:
            assert program == ".venv/bin/pytest"
            assert [word for word in words if "/" in word and not (ROOT / word).exists()] == [], command


def test_a_sink_touches_few_files_outside_its_tests() -> None:
    page = text("docs/contributing/add-a-sink.md")
    steps = re.findall(r"^\d\. (.+)$", section(page, "Files") + section(page, "Docs"), re.MULTILINE)
    assert 1 < len({named_paths(step)[0] for step in steps}) <= MAX_FILES_OF_A_SINK


def checks_of_make_test() -> list[str]:
    (recipe,) = re.findall(r"^test: .*\n((?:\t.*\n)+)", text("Makefile"), re.MULTILINE)
    commands = re.findall(r"^\t\$\(BIN\)/(.+)$", recipe, re.MULTILINE)
    assert len(commands) > 3
    return commands


def test_pre_commit_runs_every_check_of_make_test_but_the_tests() -> None:
    (repository,) = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    hooks = [hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]]
    assert [hook for hook in hooks if not hook.startswith("pytest")] == checks_of_make_test()


def test_the_versions_of_python_are_the_same_everywhere() -> None:
    prefix = "Programming Language :: Python :: "
    classifiers = [one.removeprefix(prefix) for one in project()["classifiers"] if one.startswith(prefix)]
    versions = [version for version in classifiers if re.fullmatch(r"3\.\d+", version)]
    jobs = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"]
    assert versions == jobs["test"]["strategy"]["matrix"]["python"]
    assert project()["requires-python"] == f">={versions[0]}"
    settings = tomllib.loads(text("pyproject.toml"))["tool"]
    assert settings["ruff"]["target-version"] == "py" + versions[0].replace(".", "")


def test_ci_runs_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", text(".github/workflows/ci.yml")))
    assert {"test", "package", "coverage"} <= named <= targets


def test_the_addresses_of_the_project_are_under_one_host_that_is_named_in_one_place() -> None:
    urls = project()["urls"]
    assert {"Homepage", "Source", "Issues", "Documentation", "Changelog"} == urls.keys()
    assert all(url.startswith("https://") and url.startswith(urls["Homepage"]) for url in urls.values())
    host = urls["Homepage"].removeprefix("https://").partition("/")[0]
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob(".github/**/*.*")]
    assert [page.name for page in pages if host in page.read_text(encoding="utf-8")] == []


def test_no_line_is_kept_out_of_the_coverage() -> None:
    marked = [path.name for path in (ROOT / "src").rglob("*.py") if "pragma: no" in text(path)]
    assert marked == []
