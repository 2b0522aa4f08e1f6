"""Gauges of which only values that mean trouble are exported, so that many shops do not need many series."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

MAX_SERIES = 100
"""The most series of one gauge. If more shops are in trouble, the others are not named."""


@dataclass(slots=True)
class TroubleSeries:
    """One series. It has no value until it is set."""

    value: float | None = None

    def set(self, value: float) -> None:
        """Set the value."""
        self.value = float(value)

    def inc(self, amount: float = 1) -> None:
        """Add to the value."""
        self.value = (self.value or 0.0) + amount


@dataclass(slots=True, eq=False)  # the registry keeps it as a key
class TroubleGauge(Collector):
    """A gauge with a label `shop`.

    Attributes:
        name: of the metric.
        text: its help.
        label_names: the first is `shop`.
        is_trouble: whether a value is exported.
    """

    name: str
    text: str
    label_names: tuple[str, ...]
    is_trouble: Callable[[float], bool]
    series: dict[tuple[str, ...], TroubleSeries] = field(default_factory=dict)

    def labels(self, *values: str) -> TroubleSeries:
        """Return the series with these values of the labels."""
        return self.series.setdefault(tuple(map(str, values)), TroubleSeries())

    def remove_by_labels(self, labels: dict[str, str]) -> None:
        """Remove the series of a shop."""
        for key in [key for key in self.series if key[0] == labels["shop"]]:
            del self.series[key]

    def collect(self) -> Iterable[Metric]:
        """Export what is in trouble."""
        family = GaugeMetricFamily(self.name, self.text, labels=self.label_names)
        left = MAX_SERIES
        for key, one in self.series.items():
            if one.value is not None and self.is_trouble(one.value) and left:
                family.add_metric(key, one.value)
                left -= 1
        yield family
