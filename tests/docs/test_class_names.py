"""One thing has one name, and one name means one thing: no two classes of the product share one."""

import ast
from collections import defaultdict
from pathlib import Path

CODE = Path(__file__).parents[2] / "src/shop_poller"


def test_no_two_classes_share_a_name() -> None:
    places = defaultdict[str, list[str]](list)
    for path in sorted(CODE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(f"{path.relative_to(CODE)}:{node.lineno}")
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
