"""What a mail server answers when it refuses a message. Pure.

Apprise logs these answers as details that it does not show, and returns only that the mail was not sent.
"""

import re
from operator import itemgetter
from smtplib import SMTPException, SMTPRecipientsRefused, SMTPResponseException

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError

ANSWER = re.compile(r"the mail server answered ([45][0-9]{2})\b|was refused: ([45][0-9]{2})\b")
SHUTTING_DOWN = 421


def answer_in_words(error: SMTPException) -> str | None:
    """Return the answer in an exception; None if there is none in it."""
    words: bytes | str
    match error:
        case SMTPRecipientsRefused():
            code, words = min(
                error.recipients.values(), key=itemgetter(0)
            )  # one that may be accepted later counts
        case SMTPResponseException():
            code, words = error.smtp_code, error.smtp_error
        case _:
            return None
    text = words if isinstance(words, str) else words.decode(errors="replace")
    return f"the mail server answered {code}: {text}"


def mail_refusal(said: str, message: str) -> ShopPollerError | None:
    """Return the error for a mail that its server refused; None if it did not answer.

    Args:
        said: what Apprise logged, and the answer in words.
        message: the text of the error, without a secret.
    """
    codes = [int(found[1] or found[2]) for found in ANSWER.finditer(said)]
    if not codes:
        return None
    code = min(codes)  # of several recipients, one that may be accepted later counts
    if code >= 500:  # some servers say so of a sender that they accept later
        return PermanentError(ErrorKind.REJECTED, message, may_pass=True)
    return TemporaryError(ErrorKind.UNAVAILABLE if code == SHUTTING_DOWN else ErrorKind.SERVER, message)
