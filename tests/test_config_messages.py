"""What is said about bad settings: a sentence for each, all at once, no secret in it; settings from files."""

from pathlib import Path

import pytest

from tests.support.service import ROOT
from tests.support.settings import CLIENT, KEY, NAMES, REQUIRED, TENANT
from trusted_service.config import Settings
from trusted_service.environment import SettingsError

EXACTLY_ONE = [
    ("ENTRA_CLIENT_SECRET", "ENTRA_CLIENT_CERTIFICATE_PATH", "ENTRA_MANAGED_IDENTITY_CLIENT_ID"),
    ("COMMUNICATION_SERVICES_CONNECTION_STRING", "COMMUNICATION_SERVICES_ENDPOINT"),
    ("TABLE_STORAGE_CONNECTION_STRING", "TABLE_STORAGE_ENDPOINT"),
]
GOOD_ALTERNATIVES = {
    "ENTRA_CLIENT_CERTIFICATE_PATH": "/nowhere",
    "ENTRA_MANAGED_IDENTITY_CLIENT_ID": CLIENT,
    "COMMUNICATION_SERVICES_ENDPOINT": "https://acs.example",
    "TABLE_STORAGE_ENDPOINT": "https://acc.table.core.windows.net",
}
MARK = "canary"


def read_problems(variables: dict[str, str]) -> list[str]:
    """What is wrong with these variables, sentence by sentence."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(variables)
    for problem in caught.value.problems:
        assert problem in str(caught.value)
    return caught.value.problems


def test_nothing_set_names_all_that_is_required() -> None:
    problems = read_problems({})
    for name in [*REQUIRED, *GOOD_ALTERNATIVES]:
        assert any(name in problem for problem in problems), name
    assert all("is missing" in problem for problem in problems)


def test_every_bad_setting_is_named_at_once_and_no_value_is_repeated() -> None:
    bad = {name: f"{MARK}-{number}" for number, name in enumerate(NAMES)}
    free = {"ENTRA_ADMIN_ROLE", "ENTRA_API_SCOPE"}  # any text will do
    chosen = {name: value for name, value in bad.items() if name not in free | set(GOOD_ALTERNATIVES)}
    chosen.pop("ENTRA_CLIENT_SECRET")  # any text will do, too
    problems = read_problems(chosen | {"ENTRA_MANAGED_IDENTITY_CLIENT_ID": MARK})
    for name in chosen:
        assert any(problem.startswith(name) for problem in problems), name
    assert len(problems) == len(chosen) + 1
    assert MARK not in "\n".join(problems)


@pytest.mark.parametrize("name", REQUIRED)
def test_each_required_setting_is_named_where_it_alone_is_missing(name: str) -> None:
    (problem,) = read_problems({other: value for other, value in REQUIRED.items() if other != name})
    assert name in problem
    assert "missing" in problem


@pytest.mark.parametrize("names", EXACTLY_ONE, ids=" or ".join)
def test_more_than_one_of_several_is_refused(names: tuple[str, ...]) -> None:
    (problem,) = read_problems(
        REQUIRED | {name: GOOD_ALTERNATIVES.get(name, REQUIRED.get(name, "")) for name in names}
    )
    for name in names:
        assert name in problem


@pytest.mark.parametrize(
    "name", ["ENTRA_MANAGED_IDENTITY_CLIENT_ID", "COMMUNICATION_SERVICES_ENDPOINT", "TABLE_STORAGE_ENDPOINT"]
)
def test_each_of_several_will_do(name: str) -> None:
    group = next(names for names in EXACTLY_ONE if name in names)
    variables = {other: value for other, value in REQUIRED.items() if other not in group}
    Settings.from_env(variables | {name: GOOD_ALTERNATIVES[name]})


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_can_come_from_a_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "value"
    path.write_text(REQUIRED.get(name, "") or MARK)
    variables = {other: value for other, value in REQUIRED.items() if other != name}
    from_file = outcome(variables | {f"{name}_FILE": str(path)})
    assert from_file == outcome(variables | {name: path.read_text()})
    assert from_file != outcome(variables)


def outcome(variables: dict[str, str]) -> Settings | list[str]:
    """The settings, or what is wrong with them."""
    try:
        return Settings.from_env(variables)
    except SettingsError as error:
        return error.problems


def test_line_break_at_the_end_of_a_file_is_not_part_of_the_value(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("k" * 32 + "\r\n")
    variables = REQUIRED | {"SECRET_KEY": "", "SECRET_KEY_FILE": str(path)}
    assert Settings.from_env(variables).secret_keys == ("k" * 32,)


@pytest.mark.parametrize(
    "content", [None, b"", b" \n", b"\xff" * 40], ids=["missing", "empty", "blank", "not UTF-8"]
)
def test_unusable_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / MARK
    if content is not None:
        path.write_bytes(content)
    (problem,) = read_problems(REQUIRED | {"SECRET_KEY": "", "SECRET_KEY_FILE": str(path)})
    assert problem.startswith("SECRET_KEY_FILE")


def test_setting_given_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("k" * 32)
    (problem,) = read_problems(REQUIRED | {"SECRET_KEY_FILE": str(path)})
    assert "SECRET_KEY_FILE" in problem


def test_no_representation_of_the_settings_holds_a_secret() -> None:
    secret = MARK * 8
    variables = REQUIRED | {
        "SECRET_KEY": secret,
        "SECRET_KEY_FALLBACKS": secret + "2",
        "ENTRA_CLIENT_SECRET": secret,
        "RATE_LIMIT_STORAGE_URI": f"redis://:{MARK}@redis.example",
        "APPLICATIONINSIGHTS_CONNECTION_STRING": f"InstrumentationKey={MARK}",
    }
    text = repr(Settings.from_env(variables))
    assert MARK not in text
    assert KEY not in text
    assert TENANT in text


@pytest.mark.parametrize("document", [".env.example", "README.md"])
def test_every_setting_is_documented(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert [name for name in NAMES if name not in text] == []
