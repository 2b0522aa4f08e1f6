"""Templates cannot reach out of themselves, cannot take long, and name the line of what is wrong."""

import tracemalloc
from typing import Any

import pytest

from shop_poller.core.template_errors import BadTemplateError
from shop_poller.core.template_filters import MAX_STEPS, MAX_TEXT, Formats
from shop_poller.core.template_sandbox import TemplateSet

FORMATS = Formats(
    money=lambda amount: f"{amount} €",
    date=lambda instant, pattern: f"{instant}/{pattern}",
    quantity=lambda number: f"×{number}",
)
VALUES: dict[str, Any] = {
    "text": "honey",
    "number": 3,
    "items": [{"name": "Honey"}, {"name": "Wax"}],
    "data": {"total": "5.00", "buyer": {"phone": "+7"}},
}


def rendered(source: str, **others: str) -> str:
    """Compile and render; raises the first error."""
    sources = {"t": source, "_part": "{{ number }} of {{ data.total|money }}", **others}
    templates = TemplateSet(sources, values=[*VALUES], data_fields=["total", "buyer"])
    for problem in templates.problems:
        raise problem
    return templates.render("t", VALUES, FORMATS)


def refused(source: str, **others: str) -> BadTemplateError:
    with pytest.raises(BadTemplateError) as caught:
        rendered(source, **others)
    return caught.value


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ text|upper }} {{ data.total|money }}", "HONEY 5.00 €"),
        ("{% for item in items %}\n{{ loop.index }}/{{ loop.length }} {{ item.name }}\n{% endfor %}\n", None),
        ("{% include '_part' %}; {% include '_part.txt.j2' %}", "3 of 5.00 €; 3 of 5.00 €"),
        ("{% macro bold(x) %}<b>{{ x }}</b>{% endmacro %}{{ bold(text) }}", "<b>honey</b>"),
        (
            "{% set ns = namespace(n=0) %}{% for i in items %}{% set ns.n = ns.n+2 %}{% endfor %}{{ ns.n }}",
            "4",
        ),
        ("{{ items|map(attribute='name')|join(', ') }}", "Honey, Wax"),
        ("{{ items|selectattr('name', 'eq', 'Wax')|list|length }}", "1"),
        ("{{ '2026-11-25'|date }} {{ '2026-11-25'|date('HH') }}", "2026-11-25/d MMMM, HH:mm 2026-11-25/HH"),
        ("{{ ['1.50', 2]|sum|round(1) }} {{ '0.5'|quantity }} {{ none|money }}{{ ''|date }}", "3.5 ×0.5 "),
        ("{{ 7 // 2 }} {{ 7 % 2 }} {{ 1 + 2 * 3 }} {{ 'a' + 'b' ~ 1 }}", "3 1 7 ab1"),
        (
            "{{ text|replace('ey', 'EY') }} {{ text[:2] }} {{ text|truncate(4, true, '…', 0) }}",
            "honEY ho hon…",
        ),
        ("{% for key, value in data.buyer|items %}{{ key }}={{ value }}{% endfor %}", "phone=+7"),
        ("{{ none }}{{ data.buyer.phone if data.buyer else '-' }}", "+7"),
        ("{% block a %}{{ number }}{% endblock %}{{ self.a() }}", "33"),
        ("{% from '_macros' import m %}{{ m(1) }}{% import '_macros' as all %}{{ all.m(2) }}", "<1><2>"),
        ("{{ '<b>' }}", "<b>"),
        ("{% autoescape true %}{{ number }}{% endautoescape %}", "3"),
    ],
)
def test_what_templates_can_do(source: str, expected: str | None) -> None:
    made = rendered(source, _macros="{% macro m(x) %}<{{ x }}>{% endmacro %}")
    assert made == (expected if expected is not None else "1/2 Honey\n2/2 Wax\n")


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ ()['__cla' ~ 'ss__'] }}",
    "{{ text|attr('__class__') }}",
    "{{ items|map(attribute='__class__')|map(attribute='__base__')|list }}",
    "{{ items|groupby('__class__') }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ self.__dict__ }}",
    "{{ range.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{% set ns = namespace() %}{{ ns.__class__ }}",
    "{% set ns = namespace() %}{{ ns['__init__'] }}",
    "{% macro m() %}{% endmacro %}{{ m.__call__.__globals__ }}",
    "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "{% macro m() %}{{ caller.__func__ }}{% endmacro %}{% call m() %}{% endcall %}",
    "{% for x in items %}{{ loop.__class__ }}{% endfor %}",
    "{% for x in items %}{{ loop._iterator }}{% endfor %}",
    "{% for x in items %}{{ loop.cycle.__func__ }}{% endfor %}",
    "{% import '_part' as part %}{{ part.__loader__ }}",
    "{% import '_macros' as part %}{{ part._body_stream }}",
    "{% import '_macros' as part %}{{ part.__class__ }}",
    "{{ missing.__init__.__globals__ }}",
    "{{ (data.buyer.missing).__init__.__globals__ }}",
    "{{ ''.format }}",
    "{{ '{0.__class__}'.format(text) }}",
    "{{ '{0.__class__}'|format(text) }}",
    "{{ '%s' % text }}",
    "{{ ('{0.__class__}' ~ '').format_map({}) }}",
    "{{ items.append(1) }}",
    "{{ items.pop() }}",
    "{{ data.update({}) }}",
    "{{ data.items() }}",
    "{{ text.upper() }}",
    "{{ lipsum.__globals__.os.popen('id').read() }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ joiner.__init__ }}",
    "{{ dict.mro() }}",
    "{{ config }}",
    "{{ request }}",
    "{{ context }}",
    "{{ environment }}",
    "{{ get_flashed_messages.__globals__ }}",
    "{{ url_for.__globals__ }}",
    "{{ items|tojson }}",
    "{{ items|pprint }}",
    "{{ text|safe }}",
    "{{ text|xmlattr }}",
    "{{ items|random }}",
    "{{ items }}",
    "{{ range }}",
    "{{ self }}",
    "{{ 'x'|counted }}",
    "{% include '../../etc/passwd' %}",
    "{% include '/etc/passwd' %}",
    "{% include ['/etc/passwd', '_' ~ 'nothing'] %}",
    "{% extends '/etc/' ~ 'passwd' %}",
    "{% import '/etc/passwd' as p %}",
    "{% debug %}",
    "{% do items.append(1) %}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_nothing_leads_out_of_a_template(source: str) -> None:
    error = refused(source, _macros="{% macro m() %}{% endmacro %}")
    assert error.line == 1
    assert "<function" not in str(error)


BUSY = "{% if number %}{% endif %}" * 400
"""It prints nothing, and calls nothing."""
TOO_MUCH = {
    "loops in loops": "{% for a in range(1000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}",
    "loops with nothing to do": "{% for a in range(999) %}{% for b in range(9) if 0%}{%endfor%}{% endfor %}",
    "a long range": "{% for a in range(10 * 1000 * 1000) %}{% endfor %}",
    "a macro that calls itself": "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "macros that fork": "{% macro f(n) %}{% if n %}{{ f(n-1) ~ f(n-1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    "a block that calls itself": "{% block a %}{{ self.a() }}{% endblock %}",
    "an include of itself": "{% include 't' %}",
    "includes that fork": "{% include '_fork' %}",
    "a recursive loop": "{% for a in [[[]]] recursive %}{{ loop(a) }}{% endfor %}",
    "a text that doubles": "{% set ns = namespace(x='honey') %}{% for i in range(99) %}"
    "{% set ns.x = ns.x ~ ns.x %}"
    "{% endfor %}",
    "a captured text that doubles": "{% set ns = namespace(x='honey') %}{% for i in range(99) %}"
    "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
    "a large captured text": "{% set x %}{% for i in range(1000) %}"
    + "x" * 9000
    + "{% endfor %}{% endset %}",
    "a large text of a macro": "{% macro m() %}" + "x" * 9000 + "{% endmacro %}"
    "{% for i in range(1000) %}{% set x = m() %}{% endfor %}",
    "a list that doubles": "{% set a = ['x'] %}" + "{% set a = [a, a] %}" * 40 + "{{ a|join }}",
    "lists that are compared": "{% set a = [1] %}{% set b = [1] %}"
    + "{% set a = [a, a] %}{% set b = [b, b] %}" * 40
    + "{% if a == b %}{% endif %}",
    "a list that is only made": "{% set a = [1] %}" + "{% set a = [a, a] %}" * 40,
    "a key that doubles": "{% set a = (1, 2) %}" + "{% set a = (a, a) %}" * 40 + "{{ data[a] is defined }}",
    "a macro with much to do": "{% macro m() %}" + BUSY + "{% endmacro %}"
    "{% for i in range(900) %}{% set x = m() %}{% endfor %}",
    "a block with much to do": "{% block a %}" + BUSY + "{% endblock %}"
    "{% for i in range(900) %}{% set x = self.a() %}{% endfor %}",
    "a caller with much to do": "{% macro m() %}{% for i in range(900) %}{% set x = caller() %}{% endfor %}"
    "{% endmacro %}{% call m() %}" + BUSY + "{% endcall %}",
    "an included template with much to do": "{% for i in range(900) %}{% include '_busy' %}{% endfor %}",
    "a loop with much to do": "{% for i in range(900) %}" + BUSY + "{% endfor %}",
    "a loop with a long condition": "{% for i in range(900) if "
    + "number and " * 100
    + "false %}{% endfor %}",
    "a search in a range": "{% if 'x' in range(1000000000) %}{% endif %}",
    "a filter of ranges": "{% for i in range(900) %}{% set x = range(1000)|max %}{% endfor %}",
    "arguments that double": "{% set ns = namespace(x=[1]) %}"
    "{% macro m(ns) %}{% set ns.x = varargs %}{% endmacro %}"
    "{% for i in range(60) %}{% set _ = m(ns, ns.x, ns.x) %}{% endfor %}",
    "a mapping that doubles": "{% set a = {'x': 1} %}" + "{% set a = {'x': a, 'y': a} %}" * 40,
    "filters that multiply": "{% set a = range(1000)|map('string')|list %}"
    "{% set b = [0, 0, 0, 0]|map('default', a, true)|list %}",
    "a power": "{{ 9 ** 9 ** 9 }}",
    "large numbers": "{% set n = namespace(x=9) %}{% for i in range(9) %}{% set n.x = n.x*n.x %}{% endfor %}",
    "a text many times": "{{ 'x' * 1000000000 }}",
    "a wide text": "{{ 'x'|center(1000000000) }}",
    "a wide number": "{{ '%1000000000d' % 1 }}",
    "a list many times": "{{ [1] * 1000000000 }}",
    "a long replacement": "{{ ('a' ~ 'a' * 0)|replace('', '" + "b" * 9000 + "') }}",
    "a replacement that multiplies": "{{ '" + "a" * 7000 + "'|replace('a', '" + "b" * 7000 + "') }}",
    "a large list to sort": "{% for i in range(1000) %}{% set x = range(1000)|sort %}{% endfor %}",
    "a long search": "{% for i in range(1000) %}{% if '"
    + "a" * 6000
    + "b' in '"
    + "a" * 9000
    + "' %}{% endif %}"
    "{% endfor %}",
    "a test that searches": "{% for i in range(1000) %}{% if '"
    + "a" * 6000
    + "b' is in '"
    + "a" * 9000
    + "' %}"
    "{% endif %}{% endfor %}",
    "many decimals": "{{ 1.5|round(1000000000) }}",
    "an amount of many digits": "{{ '1e999999'|money }}",
    "a long pattern": "{{ '2026-11-25'|date('" + "y" * 9000 + "') }}",
    "deep brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "many parts": "{{ number }}" * 2500,
    "many loops in one another": "{% for a in [1] %}" * 90 + "{% endfor %}" * 90,
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_no_template_takes_long(what: str) -> None:
    error = refused(TOO_MUCH[what], _fork="{% include '_fork' %}{% include '_fork' %}", _busy=BUSY)
    assert error.problem
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    "source",
    [
        "{{ x|replace('', x) }}",
        "{{ x|replace('a', x) }}",
        "{{ " + "x ~ " * 900 + "x }}",
        "{% set y = [" + "x, " * 900 + "x]|join %}",
        "{% for i in range(1000) %}{% set y %}{{ x }}{{ x }}{{ x }}{% endset %}{% endfor %}",
    ],
)
def test_no_template_takes_much_memory(source: str) -> None:
    templates = TemplateSet({"t": source}, values=["x"], data_fields=[])
    assert templates.problems == []
    tracemalloc.start()
    try:
        with pytest.raises(BadTemplateError):
            templates.render("t", {"x": "a" * 9000}, FORMATS)
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()


def test_the_steps_are_those_of_one_rendering() -> None:
    templates = TemplateSet(
        {"t": "{% for i in range(900) %}{% set x = i %}{% endfor %}{{ number }}"},
        values=[*VALUES],
        data_fields=[],
    )
    for _ in range(2 * MAX_STEPS // 900):
        assert templates.render("t", VALUES, FORMATS) == "3"


def test_a_template_for_a_large_order_takes_an_eighth_of_the_steps_at_most() -> None:
    lines = {**VALUES, "items": [{"name": f"Honey {n}", "total": "5.00"} for n in range(40)]}
    line = "{{ loop.index }}. {{ item.name }}: {{ item.total|money }}\n"
    source = "{% for item in items %}\n" + line + "{% endfor %}\n"
    templates = TemplateSet({"t": source}, values=[*VALUES], data_fields=[])
    once = len(templates.render("t", lines, FORMATS))
    assert once > 700
    many = TemplateSet({"t": source * 8}, values=[*VALUES], data_fields=[])
    assert len(many.render("t", lines, FORMATS)) > 4000


def test_a_text_may_be_as_long_as_a_template() -> None:
    assert len(rendered("{% set x = '" + "a" * (MAX_TEXT - 99) + "' %}{{ (x ~ 'b')[:50] }}")) == 50


@pytest.mark.parametrize(
    ("source", "line", "problem"),
    [
        ("a\n{{ totl }}", 2, "there is no value totl; there are data, items, number, text"),
        ("a\n{{ txt }}", 2, "there is no value txt; did you mean text?"),
        ("\n\n{% if false %}{{ itms }}{% endif %}", 3, "there is no value itms; did you mean items?"),
        (
            "\n{% if false %}{{ data.totl }}{% endif %}",
            2,
            "there is no value data.totl; did you mean data.total?",
        ),
        ("\n{% if false %}{{ data['totl'] }}{% endif %}", 2, "there is no value data.totl; did you mean"),
        ("\n{% if false %}{{ text|upperx }}{% endif %}", 2, "there is no filter upperx; did you mean upper?"),
        ("{% if text is emptyx %}{% endif %}", 1, "there is no test emptyx"),
        ("\n{% include '_prt' %}", 2, "there is no template _prt; did you mean _part?"),
        (
            "\n{% for item in items %}\n{{ item.nme }}{% endfor %}",
            3,
            "there is no value nme; did you mean name?",
        ),
        ("\n{% for item in items %}", 2, "Unexpected end of template."),
        ("\n{{ text", 2, "unexpected end of template"),
        ("\n{% nothing %}", 2, "Encountered unknown tag 'nothing'."),
        ("\n{{ items }}", 2, "prints what is neither a text nor a number; loop over a list"),
        ("\n{% for c in text %}{% endfor %}", 2, "loops over what is no list"),
        ("\n{{ text|money }}", 2, "has no number where one is needed"),
        ("\n{{ text|round }}", 2, "round needs a number, and 0 to 8 decimals"),
        ("\n{{ text * 2 }}", 2, "* is only for numbers; join texts with ~"),
        ("\n{{ number() }}", 2, "calls what is no macro, range or namespace"),
        ("\n{{ number / 0 }}", 2, "division by zero"),
        ("\n{% for i in [[1]] recursive %}{% endfor %}", 2, "a loop cannot be recursive"),
    ],
)
def test_an_error_names_the_line_and_the_placeholder(source: str, line: int, problem: str) -> None:
    error = refused(source)
    assert (error.name, error.line) == ("t", line)
    assert error.problem.startswith(problem)


def test_an_error_in_an_included_template_names_that_one() -> None:
    error = refused("\n\n\n{% include '_broken' %}", _broken="\n{{ number }}\n{{ items.nothing }}")
    assert (error.name, error.line) == ("_broken", 3)


def test_an_error_for_a_log_quotes_no_value() -> None:
    templates = TemplateSet(
        {"t": "{{ text|int(default=none) + number }}{{ items[text] }}"}, values=[*VALUES], data_fields=[]
    )
    with pytest.raises(BadTemplateError) as caught:
        templates.render("t", {**VALUES, "text": "Anna"}, FORMATS)
    assert "Anna" not in caught.value.kind


def test_one_broken_template_does_not_break_the_others() -> None:
    templates = TemplateSet(
        {"a": "{{ text }}", "b": "{{", "_c": "{{ set_elsewhere }}"}, values=[*VALUES], data_fields=[]
    )
    assert [problem.name for problem in templates.problems] == ["b"]
    assert templates.render("a", VALUES, FORMATS) == "honey"
