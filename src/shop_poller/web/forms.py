"""The small pages: the form to sign in, and the page about a failed action."""

from shop_poller.web.frame import document
from shop_poller.web.markup import Markup, fill, foreign, joined
from shop_poller.web.view_context import ViewContext


def form_page(view: ViewContext, title: str, *, label: str, problem: str = "", can_leave: bool = True) -> str:
    """Return the page with the form to sign in.

    Args:
        view: the reader.
        title: of the page.
        label: of the field.
        problem: why the reader is not signed in; "" for none.
        can_leave: whether there is a page to go back to without signing in.
    """
    back = fill('<p><a href="./?lang={lang}">{text}</a></p>', lang=view.locale, text=view.say("back"))
    body = fill(
        '<header><h1>{shop}</h1></header><main id="content">{notice}<section aria-labelledby="enter">'
        '<h2 id="enter">{title}</h2><form method="post" action="sign-in?lang={lang}">'
        '<label for="token">{token}</label>'
        '<input id="token" name="token" type="password" autocomplete="current-password" required'
        ' maxlength="1000">'
        '<div class="actions"><button class="main">{title}</button></div></form>'
        "{back}</section></main>",
        shop=foreign(title),
        notice=_problem(problem),
        title=view.say("sign in"),
        token=label,
        lang=view.locale,
        back=back if can_leave else Markup(),
    )
    return document(view, body, title=view.say("sign in"))


def trouble_page(view: ViewContext, title: str, *problems: str, back: str = "./") -> str:
    """Return the page about an action that failed.

    Args:
        view: the reader.
        title: of the page.
        problems: why.
        back: the address to go back to.
    """
    body = fill(
        '<header><h1>{shop}</h1></header><main id="content"><section aria-labelledby="failed">'
        '<h2 id="failed">{title}</h2><div role="alert">{problems}</div>'
        '<p><a href="{back}">{text}</a></p></section></main>',
        shop=foreign(title),
        title=view.say("failed"),
        problems=joined(fill("<p>{text}</p>", text=problem) for problem in problems),
        back=back,
        text=view.say("back"),
    )
    return document(view, body, title=view.say("failed"), verdict="bad")


def _problem(text: str) -> Markup:
    return fill('<section class="notice" role="alert">{text}</section>', text=text) if text else Markup()
