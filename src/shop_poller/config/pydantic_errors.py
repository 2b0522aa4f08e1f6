"""Problems that pydantic finds, as texts that can be translated. Their English is pydantic's own."""

from typing import Any

from shop_poller.core.errors import text_of
from shop_poller.core.translatable import Text

FIXED = {
    "bool_type": Text("input should be a valid boolean"),
    "bool_parsing": Text("input should be a valid boolean, unable to interpret input"),
    "int_type": Text("input should be a valid integer"),
    "int_parsing": Text("input should be a valid integer, unable to parse string as an integer"),
    "int_parsing_size": Text("unable to parse input string as an integer, exceeded maximum size"),
    "int_from_float": Text("input should be a valid integer, got a number with a fractional part"),
    "float_type": Text("input should be a valid number"),
    "float_parsing": Text("input should be a valid number, unable to parse string as a number"),
    "finite_number": Text("input should be a finite number"),
    "string_type": Text("input should be a valid string"),
    "string_unicode": Text("input should be a valid string, unable to parse raw data as a unicode string"),
    "tuple_type": Text("input should be a valid tuple"),
}
"""By the types of errors, the lines that quote nothing."""


def problem_of(detail: Any) -> str:
    """Return one problem of a ValidationError, without its place.

    Args:
        detail: an item of its `errors()`.
    """
    message, context = str(detail["msg"]), detail.get("ctx", {})
    bound = message.rpartition(" ")[2]
    text: str
    match detail["type"]:
        case "value_error":
            text = text_of(context["error"])
        case "greater_than":
            text = Text("input should be greater than {bound}", bound=bound)
        case "greater_than_equal":
            text = Text("input should be greater than or equal to {bound}", bound=bound)
        case "less_than":
            text = Text("input should be less than {bound}", bound=bound)
        case "less_than_equal":
            text = Text("input should be less than or equal to {bound}", bound=bound)
        case "string_too_long":
            text = Text("string should have at most {most} characters", most=context["max_length"])
        case "string_pattern_mismatch":
            text = Text("string should match pattern '{pattern}'", pattern=context["pattern"])
        case "literal_error":
            others, _, last = context["expected"].rpartition(" or ")
            text = Text("input should be {others} or {last}", others=others, last=last)
        case kind:
            text = FIXED.get(kind, message[0].lower() + message[1:])
    return text
