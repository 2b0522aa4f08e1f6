"""The goods and buyers of the simulated shop: made-up people with made-up contacts."""

from dataclasses import dataclass
from decimal import Decimal
from random import Random


@dataclass(frozen=True)
class Product:
    """A thing on sale; the price is in the shop's currency."""

    id: int
    name: str
    sku: str
    price: Decimal


@dataclass(frozen=True)
class LineItem:
    """One line of an order."""

    product: Product
    quantity: int = 1

    @property
    def total(self) -> Decimal:
        """The line's price, in the shop's currency."""
        return self.product.price * self.quantity


@dataclass(frozen=True)
class PaymentMethod:
    """A way to pay: its id in WooCommerce, and its name at the checkout."""

    code: str
    title: str


CARD = PaymentMethod("yookassa", "ЮKassa — банковская карта")
BANK_TRANSFER = PaymentMethod("bacs", "Банковский перевод")
CASH_ON_DELIVERY = PaymentMethod("cod", "Оплата при получении")


@dataclass(frozen=True)
class Customer:
    """A buyer as in the checkout form, including data that a notification must never contain."""

    first_name: str
    last_name: str
    city: str
    address_1: str
    postcode: str
    email: str
    phone: str


SHIPPING = Decimal(350)
GOODS = (
    Product(101, "Мёд гречишный 500 г", "MED-GR-500", Decimal(690)),
    Product(102, "Иван-чай ферментированный 100 г", "IVAN-CHAI", Decimal("384.50")),
    Product(103, "Варенье из шишек 250 г", "SHISHKI-250", Decimal(420)),
    Product(104, "Валенки серые, размер 40", "VALENKI-40", Decimal(3990)),
    Product(105, "Оренбургский платок", "PLATOK-OR", Decimal(5450)),
    Product(106, "Самовар угольный 5 л", "SAMOVAR-5", Decimal(18900)),
    Product(107, "Хохломская ложка", "HOHLOMA", Decimal("275.50")),
    Product(108, "Набор для бани", "BANYA", Decimal(2150)),
)

# (name, surname) in agreement; the surname appears nowhere but in an order.
_BUYERS = (
    ("Мария", "Соловьёва"),
    ("Иван", "Кузнецов"),
    ("Ольга", "Лебедева"),
    ("Пётр", "Ёлкин"),
    ("Анна", "Щукина"),
    ("Дмитрий", "Воронов"),
    ("Елена", "Журавлёва"),
    ("Алексей", "Гусев"),
    ("Наталья", "Синицына"),
    ("Сергей", "Орлов"),
)
_TOWNS = ("Москва", "Казань", "Новосибирск", "Санкт-Петербург", "Екатеринбург", "Самара")
_STREETS = ("ул. Мира", "ул. Садовая", "пр. Победы", "ул. Лесная", "Школьный пер.")


def random_customer(rng: Random, first_name: str | None = None) -> Customer:
    """Make up a buyer, with the given first name if there is one."""
    name, surname = rng.choice(_BUYERS)
    return Customer(
        first_name=name if first_name is None else first_name,
        last_name=surname,
        city=rng.choice(_TOWNS),
        address_1=f"{rng.choice(_STREETS)}, д. {rng.randint(1, 120)}, кв. {rng.randint(1, 300)}",
        postcode=str(rng.randint(101000, 690999)),
        email=f"pokupatel{rng.randint(1000, 9999)}@example.test",
        phone=f"+7 9{rng.randint(10, 99)} {rng.randint(100, 999)}-{rng.randint(10, 99)}-"
        f"{rng.randint(10, 99)}",
    )


def random_lines(rng: Random) -> tuple[LineItem, ...]:
    """Make up one to three lines of different goods."""
    chosen = rng.sample(GOODS, rng.randint(1, 3))
    return tuple(LineItem(product, rng.randint(1, 2)) for product in chosen)


def basket(total: Decimal) -> tuple[LineItem, ...]:
    """Make up a line with this total, including the shipping if it fits; none for a total of 0."""
    price = total - SHIPPING if total > SHIPPING else total
    return (LineItem(Product(900, "Подарочная корзина", "KORZINA", price)),) if price else ()
