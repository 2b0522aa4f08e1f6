"""Problems that pydantic finds: their English is pydantic's, whichever version of it is installed."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from shop_poller.config.pydantic_errors import problem_of
from shop_poller.core.translatable import Text


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (bool, []),
        (bool, "perhaps"),
        (int, []),
        (int, "many"),
        (int, "1" * 5000),
        (int, 1.5),
        (float, []),
        (float, "many"),
        (Annotated[float, Field(allow_inf_nan=False)], "inf"),
        (str, 1),
        (str, b"\xff"),
        (tuple[str, ...], 1),
        (Annotated[float, Field(gt=0)], 0),
        (Annotated[float, Field(ge=1)], 0),
        (Annotated[float, Field(lt=1)], 1),
        (Annotated[int, Field(le=86_400)], 86_401),
        (Annotated[str, Field(max_length=2)], "abc"),
        (Annotated[str, Field(pattern="^[!-~]+$")], " "),
        (Literal["ru", "en"], "klingon"),
        (Literal["auto", "rest", "execute"], "x"),
    ],
)
def test_a_problem_of_pydantic_can_be_translated(type_: Any, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(type_).validate_python(value)
    (detail,) = caught.value.errors()
    problem = problem_of(detail)
    assert problem == detail["msg"][0].lower() + detail["msg"][1:]
    assert isinstance(problem, Text)


def test_an_unknown_problem_stays_as_it_is() -> None:
    assert problem_of({"type": "new_in_pydantic_9", "msg": "Input is odd"}) == "input is odd"
