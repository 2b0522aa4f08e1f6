"""By which answers a server of Redis' protocol takes no writes."""

import pytest

from shop_poller.core.redis_answers import says_no_writes


class ResponseError(Exception):
    """Of a library: any refusal."""


class ReadOnlyError(ResponseError):
    """Of a library: the text lacks the word READONLY."""


@pytest.mark.parametrize(
    "error",
    [
        ResponseError("READONLY You can't write against a read only replica."),
        ResponseError("LOADING Redis is loading the dataset in memory"),
        ResponseError("NOREPLICAS Not enough good replicas to write."),
        ResponseError("Error running script (call to f_1): @user_script:3: -MISCONF Redis is configured to"),
        ReadOnlyError("You can't write against a read only replica."),
        ConnectionError("The previous master is now a slave"),
    ],
    ids=repr,
)
def test_a_server_that_takes_no_writes_says_so(error: Exception) -> None:
    assert says_no_writes(error)


@pytest.mark.parametrize(
    "error",
    [
        ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
        ResponseError("NOAUTH Authentication required."),
        ResponseError("ERR unknown command NOTREADONLY"),
        ConnectionError("Connection reset by peer"),
    ],
    ids=repr,
)
def test_other_answers_do_not(error: Exception) -> None:
    assert not says_no_writes(error)
