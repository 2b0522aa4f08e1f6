"""The language of `where=`: what an expression means, how it is written, what is refused."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core.expression_parser import MAX_DEPTH, MAX_LENGTH, MAX_TERMS, parse_expression
from shop_poller.core.expressions import FIELDS, OPERATORS, Comparison, Expression, Facts, Junction, Kind, Not

FACTS: Facts = {
    "total": ["5990.00"],
    "amount": [],
    "currency": ["RUB"],
    "product": ["Мёд липовый", "Прополис (50 ml)"],
    "payment": ["СБП", "sbp"],
    "shipping": [],
    "status": ["on-hold"],
    "previous_status": [],
    "number": ["A-1002"],
    "paid": ["true"],
    "shop": ["shop.example", "Пасека"],
    "event": ["shop.order.new"],
    "level": ["info"],
}
ALERT: Facts = {name: FACTS[name] for name in ("shop", "event", "level")} | {"event": ["service.unhealthy"]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("total = 5990", True),
        ("total=5990.00", True),
        ("total != 5990", False),
        ("total > 5990", False),
        ("total >= 5990", True),
        ("total < 5990.01", True),
        ("total <= 5989.99", False),
        ("total > 600", True),  # not as text
        ("total > -1", True),
        ("total in (1, 5990.0)", True),
        ("currency = rub", True),
        ("currency in (usd, eur)", False),
        ("not currency in (usd, eur)", True),
        ("product ~ мёд", True),
        ('product ~ "(50 ML)"', True),
        ("product ~ '50 ml'", True),
        ("product = мёд", False),
        ("product = 'мёд липовый'", True),
        ("product != 'мёд липовый'", False),
        ("product != воск", True),
        ("payment = SBP and payment = сбп", True),
        ("status = on-hold", True),
        ("status = WC-On-Hold", True),
        ("status in (processing, wc-on-hold)", True),
        ("number ~ 1002", True),
        ("paid", True),
        ("paid = true", True),
        ("paid = FALSE", False),
        ("paid != false", True),
        ("not paid or paid", True),
        ("shop = shop.example", True),
        ("shop = пасека", True),
        ("event = new", True),
        ("event = shop.order.*", True),
        ("event in (failed, NEW)", True),
        ("event = ne*", False),
        ("event ~ order", True),
        ("level in (error, critical)", False),
        ("TOTAL > 1 AND NOT Level = error", True),
        ("paid or paid and total = 1", True),  # `and` binds tighter
        ("(paid or paid) and total = 1", False),
        ("not paid and total = 1 or paid", True),
        ("not (paid and total = 1)", True),
        ("total>5000and paid", None),
        ("((((((((((paid))))))))))", True),
    ],
)
def test_an_expression_means(text: str, expected: bool | None) -> None:  # noqa: FBT001 - a table
    if expected is None:
        with pytest.raises(ValueError, match="a number is expected"):
            parse_expression(text)
    else:
        assert parse_expression(text).matches(FACTS) is expected


@pytest.mark.parametrize(
    "text", ["amount = 1", "amount != 1", "amount < 1", "amount in (1)", "shipping ~ dhl", "shipping != dhl"]
)
def test_a_comparison_with_an_unknown_value_is_false(text: str) -> None:
    assert parse_expression(text).matches(FACTS) is False
    assert parse_expression(f"not {text}").matches(FACTS) is True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("total > 5000", None),
        ("not total > 5000", None),
        ("total > 5000 and paid", None),
        ("event = new and total > 5000", False),
        ("event = new or total > 5000", None),
        ("event = service.* or total > 5000", True),
        ("level = error and total > 5000", False),
        ("shop = пасека and total > 5000", None),
        ("shop = other and total > 5000", False),
        ("not (shop = other and total > 5000)", True),
    ],
)
def test_facts_that_cannot_be_there_decide_only_together_with_others(
    text: str,
    expected: bool | None,  # noqa: FBT001 - a table
) -> None:
    assert parse_expression(text).matches(ALERT) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a field is expected; there are total, amount, .* (at character 1)"),
        ("total", 'after "total" one of = != < <= > >= in is expected (at character 6)'),
        ("total ~ 5", 'after "total" one of = != < <= > >= in is expected (at character 7)'),
        ("total >", 'after "total >" a number is expected (at character 8)'),
        ("total > 5 000", '"and", "or" or the end is expected; put .* in quotes (at character 11)'),
        ("total > 5,5", '"and", "or" or the end is expected (at character 10)'),
        ("total > 1e5", 'after "total >" a number is expected (at character 9)'),
        ("total > 5 and", "a field is expected; there are .* (at character 14)"),
        ("totl > 5", 'there is no field "totl"; there are total, .* (at character 1)'),
        ("'total' > 5", "a field is expected; there are .* (at character 1)"),
        ("customer = anna", 'there is no field "customer"; there are .* (at character 1)'),
        ("paid and (total > 5", '"and", "or" or a closing bracket is expected (at character 20)'),
        ("paid) and total > 5", '"and", "or" or the end is expected (at character 5)'),
        ("total == 5", 'after "total =" a number is expected (at character 8)'),
        ("total ! 5", "= is expected after ! (at character 7)"),
        ("product ~ 'honey", "the closing quote is missing (at character 11)"),
        ("product ~ ''", 'after "product ~" a value is expected (at character 11)'),
        ("product ~ and", 'after "product ~" a value is expected (at character 11)'),
        ("product ~ linden honey", '"and", "or" or the end is expected; put .* (at character 18)'),
        ("paid = yes", 'after "paid =" true or false is expected (at character 8)'),
        ("status in new", 'after "status in" values in brackets are expected (at character 11)'),
        ("status in ()", 'after "status in (" a value is expected (at character 12)'),
        ("status in (a b)", "a comma or a closing bracket is expected (at character 14)"),
        ("status in (a,)", 'after "status in (…," a value is expected (at character 14)'),
        ("event > new", 'after "event" one of = != ~ in is expected (at character 7)'),
    ],
)  # fmt: skip
def test_an_error_says_what_is_expected_and_where(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="at character") as caught:
        parse_expression(text)
    before, _, after = message.partition(".*")
    assert str(caught.value).startswith(before)
    assert str(caught.value).endswith(after)


@pytest.mark.parametrize(
    "text",
    [
        *("total > {}", "{} = 1", "product ~ a {}", "product ~ '{}"),
        *("paid = {}", "status in (a {}", "total in (1, {}", "hunter qwem {}", "hunter", "'hunter' = {}"),
    ],
)  # fmt: skip
def test_an_error_shows_no_value(text: str) -> None:
    with pytest.raises(ValueError, match="at character") as caught:
        parse_expression(text.format("token5hunter2SECRET9zz"))
    assert "hunter" not in str(caught.value)


def test_an_expression_is_bounded() -> None:
    def refused(text: str) -> str:
        with pytest.raises(ValueError, match=r".") as caught:
            parse_expression(text)
        return str(caught.value)

    longest = f"product ~ {'a' * (MAX_LENGTH - 10)}"
    parse_expression(longest)
    assert refused(longest + "a") == "it has more than 1,000 characters"
    parse_expression("not " * MAX_DEPTH + "paid")
    assert refused("not " * (MAX_DEPTH + 1) + "paid") == 'brackets and "not" may be 10 deep (at character 41)'
    assert refused("(" * 1000) == 'brackets and "not" may be 10 deep (at character 11)'
    parse_expression(f"status in ({','.join('a' * MAX_TERMS)})")
    assert refused(f"status in ({','.join('a' * (MAX_TERMS + 1))})").startswith(
        "there are more than 100 values"
    )
    parse_expression(" or ".join(["paid"] * MAX_TERMS))
    assert refused(" or ".join(["paid"] * (MAX_TERMS + 1))).startswith("there are more than 100 values")


# --- Any input ----------------------------------------------------------------------------------------------

texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="'\""), min_size=1, max_size=12
).filter(str.strip)
numbers = st.decimals(min_value=-9999, max_value=99999, places=2).map(str)
flags = st.sampled_from(["true", "false"])
VALUES = {Kind.NUMBER: numbers, Kind.TEXT: texts, Kind.EVENT: texts, Kind.FLAG: flags}


@st.composite
def comparisons(draw: Callable[..., str]) -> Comparison:
    field = draw(st.sampled_from(sorted(FIELDS)))
    operator = draw(st.sampled_from(OPERATORS[FIELDS[field]]))
    most = 3 if operator == "in" else 1
    return Comparison(
        field, operator, tuple(draw(st.lists(VALUES[FIELDS[field]], min_size=1, max_size=most)))
    )


expressions: st.SearchStrategy[Expression] = st.recursive(
    comparisons(),
    lambda some: st.one_of(
        some.map(Not),
        st.builds(
            lambda word, of: Junction(word, tuple(of)),
            st.sampled_from(["and", "or"]),
            st.lists(some, min_size=2, max_size=3),
        ),
    ),
    max_leaves=6,
)


@given(expressions)
def test_what_is_written_is_parsed_to_the_same(expression: Expression) -> None:
    assert parse_expression(str(expression)) == expression


@given(expressions)
def test_any_expression_decides(expression: Expression) -> None:
    assert expression.matches(FACTS) in {True, False}
    assert expression.matches(ALERT) in {True, False, None}
    assert Not(expression).matches(FACTS) is not expression.matches(FACTS)


@given(
    st.lists(
        st.one_of(
            st.sampled_from([*FIELDS, "and", "or", "not", "in", "5", *"""(),=<!~'" """]),
            st.text(max_size=5),
        ),
        max_size=60,
    ).map(" ".join)
)  # fmt: skip
def test_no_text_crashes_the_parser(text: str) -> None:
    try:
        expression = parse_expression(text)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017 - most texts are refused, some are not
        return
    assert isinstance(expression.matches(FACTS), bool)


@pytest.mark.parametrize(
    "part", ["(", "not ", "paid or ", "'", "total in (1,", "a", "! ", " ", ",", "product~'' "]
)
def test_no_text_is_slow(part: str) -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match=r"."):
        parse_expression((part * 1000)[:MAX_LENGTH])
    assert time.process_time() - began < 0.5
