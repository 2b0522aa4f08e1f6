"""What happens to a shop's webhook. The shop's source verifies it."""

from enum import StrEnum


class Verdict(StrEnum):
    """The result for a webhook: the label `outcome` of the metric."""

    ACCEPTED = "accepted"  # genuine, and about an order
    IGNORED = "ignored"  # a ping, or genuine and about something else
    REFUSED = "refused"  # not signed with the shop's secret
