"""The small pages: the form to sign in, and the page about a failed action."""

from shop_poller.web.frame import document
from shop_poller.web.markup import Markup, fill, foreign
from shop_poller.web.view_context import ViewContext


def form_page(view: ViewContext, shop: str, *, problem: str = "") -> str:
    """Return the page with the form to sign in."""
    body = fill(
        '<header><h1>{shop}</h1></header><main id="content">{notice}<section aria-labelledby="enter">'
        '<h2 id="enter">{title}</h2><form method="post" action="sign-in?lang={lang}">'
        '<label for="token">{token}</label>'
        '<input id="token" name="token" type="password" autocomplete="current-password" required'
        ' maxlength="1000">'
        '<div class="actions"><button class="main">{title}</button></div></form>'
        '<p><a href="./?lang={lang}">{back}</a></p></section></main>',
        shop=foreign(shop),
        notice=_problem(problem),
        title=view.say("sign in"),
        token=view.say("token"),
        lang=view.locale,
        back=view.say("back"),
    )
    return document(view, body, title=view.say("sign in"))


def trouble_page(view: ViewContext, shop: str, problem: str, *, back: str = "./") -> str:
    """Return the page about an action that failed."""
    body = fill(
        '<header><h1>{shop}</h1></header><main id="content"><section aria-labelledby="failed">'
        '<h2 id="failed">{title}</h2><p role="alert">{problem}</p>'
        '<p><a href="{back}">{text}</a></p></section></main>',
        shop=foreign(shop),
        title=view.say("failed"),
        problem=problem,
        back=back,
        text=view.say("back"),
    )
    return document(view, body, title=view.say("failed"), verdict="bad")


def _problem(text: str) -> Markup:
    return fill('<section class="notice" role="alert">{text}</section>', text=text) if text else Markup()
