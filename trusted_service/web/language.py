"""Pages and messages in English and French, by what the browser prefers.

English is the language of the source; `translations/<language>.po` holds the others, read at start,
so there is no compiled file that could be stale.
"""

import gettext as gettext_module
from datetime import date, datetime
from functools import cache
from io import BytesIO
from pathlib import Path

from babel.dates import format_date, format_datetime, format_skeleton
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from flask import Flask, request

LANGUAGES = ("en", "fr")
LOCALES = {"en": "en_GB", "fr": "fr_FR"}
"""How dates and numbers are written."""
TRANSLATIONS = Path(__file__).parent.parent / "translations"


def init_app(app: Flask) -> None:
    app.jinja_env.add_extension("jinja2.ext.i18n")
    app.jinja_env.install_gettext_callables(gettext, ngettext, newstyle=True)  # type: ignore[attr-defined]
    app.add_template_filter(moment)
    app.add_template_filter(day_name)
    app.add_template_filter(number)
    app.add_template_filter(action_name)
    app.add_template_filter(actor_kind)
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


def moment(value: datetime) -> str:
    """A time as people read it, to the minute, in UTC."""
    return f"{format_datetime(value, 'medium', locale=LOCALES[language()])} UTC"


def day_name(value: date) -> str:
    """A day as people read it."""
    return format_date(value, "medium", locale=language())


def short_day(value: date) -> str:
    """A day where the year goes without saying."""
    return format_skeleton("MMMd", value, locale=language())


def weekday(value: date) -> str:
    """The same with its day of the week."""
    return format_skeleton("MMMEd", value, locale=language())


def number(value: int) -> str:
    """A number with its thousands apart."""
    return format_decimal(value, locale=language())


def action_name(action: str) -> str:
    """What the audit trail calls an action, in words."""
    names = {
        "block": gettext("Block"),
        "unblock": gettext("Unblock"),
        "revoke": gettext("Revoke tokens"),
        "sign-out": gettext("End all sessions"),
        "end-session": gettext("End a session"),
        "delete": gettext("Delete"),
        "export": gettext("Export"),
        "import": gettext("Import"),
        "start-job": gettext("Start a job"),
        "cancel-job": gettext("Stop a job"),
        "identity-created": gettext("Identity created"),
        "identity-replaced": gettext("Identity replaced"),
        "identity-moved": gettext("Identity moved to another resource"),
        "restore": gettext("Restore an identity"),
        "move-resource": gettext("Move to another resource"),
    }
    return names.get(action, action)


def actor_kind(kind: str) -> str:
    """What kind of actor stands behind an event, in words."""
    names = {
        "administrator": gettext("administrator"),
        "application": gettext("application"),
        "operator": gettext("operator at the command line"),
        "user": gettext("the user"),
        "system": gettext("this service"),
    }
    return names.get(kind, kind)


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
