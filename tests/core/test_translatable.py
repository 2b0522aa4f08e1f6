from shop_poller.core.translatable import Catalogue, Text, joined, translated


def one_or_many(count: float) -> str:
    return "one" if count == 1 else "many"


CATALOGUE = Catalogue(
    {
        "{shop} has {count:,} orders": {
            "one": "{shop}: {count:,} Bestellung",
            "many": "{shop}: {count:,} Bestellungen",
        },
        "not found": "nicht gefunden",
        "{problem}; {count} left": "{problem}; noch {count}",
    },
    one_or_many,
)


def test_a_text_is_its_english_line() -> None:
    text = Text("{shop} has {count:,} orders", shop="a {b}", count=1200)
    assert text == "a {b} has 1,200 orders"
    assert isinstance(text, str)


def test_it_is_translated_with_its_values_and_its_plural_form() -> None:
    assert translated(Text("{shop} has {count:,} orders", shop="a", count=1), CATALOGUE) == "a: 1 Bestellung"
    assert (
        translated(Text("{shop} has {count:,} orders", shop="a", count=1200), CATALOGUE)
        == "a: 1,200 Bestellungen"
    )


def test_what_is_not_in_the_catalogue_stays_english() -> None:
    assert translated(Text("new: {problem}", problem=Text("not found")), CATALOGUE) == "new: nicht gefunden"
    assert translated("not found", CATALOGUE) == "not found", "a line of somebody else's"


def test_lines_are_joined() -> None:
    text = joined("{;} ", [Text("not found"), "{b}"])
    assert text == "not found{;} {b}"
    assert translated(text, CATALOGUE) == "nicht gefunden{;} {b}"
    assert joined(", ", []) == ""
    assert translated(joined(Text("not found"), ["a", "b"]), CATALOGUE) == "anicht gefundenb"
