"""Texts of other people and programs, made fit to be stored, shown and logged."""

import re

from trusted_service.models import RAW_ID, without_secrets

MAX_NAME = 256


def without_acs_user_ids(text: str) -> str:
    """The text without ACS user ids: after an erasure, nothing may say whose an identity was."""
    return RAW_ID.sub("[identity]", text)


def display_text(value: object, limit: int = MAX_NAME) -> str:
    """Text fit to be stored and shown: one line, without invisible or direction-changing characters."""
    # Other blanks, of which the ideographic one parts names in Japanese, become a plain space.
    text = re.sub(r"[^\S ]+", " ", value[: 2 * limit]) if isinstance(value, str) else ""
    return "".join(character for character in text if character.isprintable()).strip()[:limit]


def join_lines(text: object, limit: int) -> str:
    """Such a text without secrets, with a blank for each run of white space."""
    return without_secrets(display_text(" ".join(str(text or "").split()), limit))[:limit]
