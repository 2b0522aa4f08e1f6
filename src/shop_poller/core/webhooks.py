"""What a webhook of a shop leads to. Its source verifies it."""

from enum import StrEnum


class Verdict(StrEnum):
    """What a webhook leads to: the label `outcome` of the metric."""

    ACCEPTED = "accepted"  # genuine, and about an order
    IGNORED = "ignored"  # a ping, or genuine and about something else
    REFUSED = "refused"  # not signed with the shop's secret
