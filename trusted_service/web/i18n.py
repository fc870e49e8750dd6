"""Pages and messages in English and French, by the browser's preference.

English is the language of the source; `translations/<language>.po` holds the others, read at start,
so there is no compiled file that could be stale.
"""

from datetime import date, datetime
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from pathlib import Path

from babel.dates import format_datetime, format_skeleton
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from flask import Flask, request
from jinja2 import StrictUndefined

LOCALES = {"en": "en_GB", "fr": "fr_FR"}
"""The languages, each with the locale of its times."""


def _read_translations(name: str) -> NullTranslations:
    compiled = BytesIO()
    with (Path(__file__).parent.parent / "translations" / f"{name}.po").open("rb") as file:
        write_mo(compiled, read_po(file, locale=name))
    compiled.seek(0)
    return GNUTranslations(compiled)


TRANSLATIONS = {"en": NullTranslations(), "fr": _read_translations("fr")}


def init_app(app: Flask) -> None:
    app.jinja_env.undefined = StrictUndefined  # a name that is not there is an error, not an empty text
    app.jinja_env.add_extension("jinja2.ext.i18n")
    app.jinja_env.install_gettext_callables(gettext, ngettext, newstyle=True)  # type: ignore[attr-defined]
    for template_filter in (moment, day_name, number):
        app.add_template_filter(template_filter)
    app.context_processor(lambda: {"language": language()})


def language() -> str:
    """The language of this request: one of LOCALES."""
    # werkzeug's best_match would prefer an exact `fr` to an earlier `en-GB`.
    preferred = (tag.split("-")[0].lower() for tag, quality in request.accept_languages if quality)
    return next((name for name in preferred if name in LOCALES), "en")


def gettext(message: str) -> str:
    return TRANSLATIONS[language()].gettext(message)


def ngettext(singular: str, plural: str, number: int) -> str:
    return TRANSLATIONS[language()].ngettext(singular, plural, number)


def mark_for_translation(message: str) -> str:
    """The message as it is: its language is not known yet, and `gettext` translates it later."""
    return message


def moment(value: datetime) -> str:
    """A time to the second, in UTC."""
    return f"{format_datetime(value, 'medium', locale=LOCALES[language()])} UTC"


def day_name(value: date, skeleton: str = "yMMMd") -> str:
    """A day, by default with its year, in the form of the CLDR skeleton."""
    return format_skeleton(skeleton, value, locale=language())


def number(value: int) -> str:
    """A number with separators between its thousands."""
    return format_decimal(value, locale=language())
