"""Pages and messages in English and French, by what the browser prefers.

English is the language of the source; `translations/<language>.po` holds the others, read at start,
so there is no compiled file that could be stale.
"""

import gettext as gettext_module
from functools import cache
from io import BytesIO
from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from flask import Flask, request

LANGUAGES = ("en", "fr")
TRANSLATIONS = Path(__file__).parent.parent / "translations"


def init_app(app: Flask) -> None:
    app.jinja_env.add_extension("jinja2.ext.i18n")
    app.jinja_env.install_gettext_callables(gettext, ngettext, newstyle=True)  # type: ignore[attr-defined]
    app.context_processor(lambda: {"language": language()})
    for name in LANGUAGES:
        _translations(name)


def language() -> str:
    """The language of this request: one of LANGUAGES."""
    # werkzeug's best_match would prefer an exact `fr` to an earlier `en-GB`.
    preferred = (tag.split("-")[0].lower() for tag, quality in request.accept_languages if quality)
    return next((name for name in preferred if name in LANGUAGES), LANGUAGES[0])


def gettext(message: str) -> str:
    return _translations(language()).gettext(message)


def ngettext(singular: str, plural: str, number: int) -> str:
    return _translations(language()).ngettext(singular, plural, number)


@cache
def _translations(name: str) -> gettext_module.NullTranslations:
    path = TRANSLATIONS / f"{name}.po"
    if not path.exists():
        return gettext_module.NullTranslations()
    compiled = BytesIO()
    with path.open("rb") as file:
        write_mo(compiled, read_po(file, locale=name))
    compiled.seek(0)
    return gettext_module.GNUTranslations(compiled)
