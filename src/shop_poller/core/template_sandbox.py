"""Runs the owner's templates: Jinja2 without anything that could reach out of a template, or take long. Pure.

Jinja2's sandbox forbids attributes that lead to Python's internals. Here a template can do less:

- It sees texts, numbers, lists and mappings. It cannot call their methods.
- It can call `range`, `namespace` and its own macros. The filters are those of FILTERS.
- Every loop, call, filter and printed value costs steps. So loops in loops, macros that call themselves and
  texts that double cannot take long, on any machine.
- It can include only templates of its own set. No file is read.
"""

import operator
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MethodType
from typing import Any, cast

from jinja2 import BaseLoader, FunctionLoader, StrictUndefined, Template, Undefined, nodes
from jinja2.environment import TemplateModule
from jinja2.filters import FILTERS as FILTERS_OF_JINJA
from jinja2.runtime import BlockReference, LoopContext, Macro, TemplateReference
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from shop_poller.core.template_check import KnownNames, check, stem
from shop_poller.core.template_errors import BadTemplateError, TemplateRefusedError, translated, unknown
from shop_poller.core.template_filters import (
    CHARACTERS_A_STEP,
    FILTERS,
    MAX_OUTPUT,
    OWN_FILTERS,
    Formats,
    bounded,
    bounded_range,
    charge,
    counted,
    joined,
    printed,
    rendering,
    weighed,
)
from shop_poller.core.translatable import Text

NODES_A_STEP = 20
COUNTED, JOINED, CHARGED, WEIGHED = "counted ", "joined ", "charged ", "weighed "
"""Filters that the compiled template uses. The blank keeps templates from naming them."""
LOOP = frozenset({
    "changed", "cycle", "depth", "depth0", "first", "index", "index0", "last", "length", "nextitem",
    "previtem", "revindex", "revindex0",
})  # fmt: skip
OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}
LARGEST = 2**63


class TemplateSet:
    """Templates that may include one another.

    Args:
        sources: their texts, by name. One whose name begins with "_" is only there to be included.
        values: the names of all values that a rendering gets.
        data_fields: the names of what is in `data`.

    Attributes:
        problems: one error per template that cannot be rendered.
    """

    def __init__(
        self, sources: Mapping[str, str], *, values: Collection[str], data_fields: Collection[str]
    ) -> None:
        # The second value is what Jinja2 calls the file's name: errors then say which template it is.
        self._environment = _Environment(
            FunctionLoader(lambda name: (sources[name], name, None) if name in sources else None)
        )
        known = KnownNames(
            values=values,
            data_fields=data_fields,
            functions=[*self._environment.globals],
            filters=[*self._environment.filters],
            tests=[*self._environment.tests],
            templates=[*sources],
        )
        self._templates: dict[str, Template] = {}
        self.problems: list[BadTemplateError] = []
        for name, source in sources.items():
            try:
                check(name, self._environment.parse(source), known)
                self._templates[name] = self._environment.get_template(name)
            except Exception as error:  # noqa: BLE001 - whatever Jinja2 or Python's compiler raises
                self.problems.append(translated(name, error))

    def render(self, name: str, values: Mapping[str, Any], formats: Formats) -> str:
        """Render a template.

        Args:
            name: one without a problem.
            values: texts, numbers, None, and lists and dicts of them.
            formats: see Formats.

        Returns:
            At most MAX_OUTPUT characters and one; more if a single piece is longer.

        Raises:
            BadTemplateError: whatever went wrong.
        """
        made, length = list[str](), 0
        with rendering(formats):
            try:
                for piece in self._templates[name].generate(values):
                    made.append(piece)
                    length += len(piece)
                    if length > MAX_OUTPUT:
                        break
            except Exception as error:  # noqa: BLE001 - as above
                raise translated(name, error) from None
        return "".join(made)


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja2 with few functions and filters, which counts what a template does."""

    intercepted_binops = frozenset({*OPERATORS, "**"})

    def __init__(self, loader: BaseLoader) -> None:
        super().__init__(
            loader=loader,
            undefined=StrictUndefined,
            autoescape=False,
            optimized=False,  # else it would compute while it compiles
            finalize=printed,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self.globals = {"range": bounded_range, "namespace": Namespace}
        self.filters = {name: bounded(FILTERS_OF_JINJA[name]) for name in FILTERS}
        self.filters |= {name: bounded(function) for name, function in OWN_FILTERS.items()}
        self.filters |= {COUNTED: counted, JOINED: joined, CHARGED: charge, WEIGHED: weighed}
        self.tests = {name: bounded(cast("Any", function)) for name, function in self.tests.items()}

    def compile(self, source: Any, name: Any = None, filename: Any = None, *args: Any) -> Any:
        """Compile a template that counts its steps."""
        if isinstance(source, str):
            tree = self.parse(source, name, filename)
            source = _Counting(self).visit(tree)
        return super().compile(source, name, filename, *args)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return a value of a mapping, a namespace or a loop. Texts and numbers have no attributes."""
        if isinstance(obj, Undefined):
            str(obj)  # raises
        if isinstance(obj, dict):
            if attribute in obj:
                return obj[attribute]
            return self.undefined(
                unknown(Text("value {name}", name=attribute), attribute, [str(key) for key in obj])
            )
        is_public = not attribute.startswith("_")
        if (isinstance(obj, LoopContext) and attribute in LOOP) or (isinstance(obj, Namespace) and is_public):
            return super().getattr(obj, attribute)
        if isinstance(obj, TemplateReference) and is_public:
            return obj[attribute]
        if isinstance(obj, TemplateModule) and isinstance(found := getattr(obj, attribute, None), Macro):
            return found
        return self.undefined(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return an element of a mapping, a list or a text."""
        if isinstance(obj, list | tuple | str):
            try:
                return obj[argument]
            except (TypeError, LookupError):
                return self.undefined(obj=obj, name=argument)
        return self.getattr(obj, str(argument))

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a macro, or one of the few functions."""
        of_loop = isinstance(obj, MethodType) and isinstance(obj.__self__, LoopContext)
        if not (
            of_loop
            or obj is bounded_range
            or obj is Namespace
            or isinstance(obj, Macro | BlockReference | Undefined)
        ):
            raise TemplateRefusedError(Text("calls what is no macro, range or namespace"))
        weighed([args, kwargs])  # a macro gets them as a list
        return context.call(obj, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:  # noqa: ARG002 - Jinja2's
        """Compute with numbers; `+` joins texts too."""
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            return joined((left, right))
        for value in (left, right):
            if isinstance(value, Undefined):
                str(value)  # raises
            if not isinstance(value, int | float):
                raise TemplateRefusedError(
                    Text("{operator} is only for numbers; join texts with ~", operator=operator)
                )
            if abs(value) > LARGEST:
                raise TemplateRefusedError(Text("has a number that is too large"))
        if operator not in OPERATORS:
            raise TemplateRefusedError(Text("{operator} is not supported", operator=operator))
        charge(1)
        return OPERATORS[operator](left, right)

    def get_template(self, name: Any, parent: Any = None, globals: Any = None) -> Any:  # noqa: A002 - Jinja2's name
        """Return a template of the set, with or without the end of its file's name."""
        if isinstance(name, str):
            name = stem(name)
        return super().get_template(name, parent, globals)


class _Counting(NodeTransformer):
    """Puts counters into a template: into loops, macros and blocks, and before texts are joined."""

    def __init__(self, environment: _Environment) -> None:
        self._environment = environment

    def visit_Template(self, node: nodes.Template) -> nodes.Node:  # noqa: N802 - the names are Jinja2's
        return self._charged(node)

    def visit_Block(self, node: nodes.Block) -> nodes.Node:  # noqa: N802
        return self._charged(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        return self._charged(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802
        return self._charged(node)

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        weight = _weight(node.body) + (_weight([node.test]) if node.test is not None else 0)
        self.generic_visit(node)
        node.iter = self._filter(cast("nodes.Expr", node.iter), COUNTED, [nodes.Const(weight)])
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._filter(nodes.List(node.nodes), JOINED)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        for operand in node.ops:
            operand.expr = self._filter(operand.expr, WEIGHED)
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._filter(node, WEIGHED)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._filter(node, WEIGHED) if node.ctx == "load" else node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._filter(node, WEIGHED)

    def _charged(self, node: Any) -> nodes.Node:
        weight = _weight(node.body)
        self.generic_visit(node)
        first = nodes.ExprStmt(self._filter(nodes.Const(weight), CHARGED), lineno=node.lineno)
        node.body.insert(0, first)
        result: nodes.Node = node
        return result

    def _filter(self, of: nodes.Expr, name: str, args: list[nodes.Expr] | None = None) -> nodes.Filter:
        made = nodes.Filter(of, name, args or [], [], None, None, lineno=of.lineno)
        made.set_environment(self._environment)
        for argument in made.args:
            argument.set_environment(self._environment)
        return made


def _weight(body: Iterable[nodes.Node]) -> int:
    """Return how many steps a part of a template costs each time, by its length."""
    inside = [node for part in body for node in (part, *part.find_all(nodes.Node))]
    text = sum(len(node.data) for node in inside if isinstance(node, nodes.TemplateData))
    return 1 + text // CHARACTERS_A_STEP + len(inside) // NODES_A_STEP
