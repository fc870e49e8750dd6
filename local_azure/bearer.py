"""Prints a bearer token of a running `make run`: `python -m local_azure.bearer DATA ACCOUNT`."""

import sys
from pathlib import Path

from local_azure.loopback import get_json
from local_azure.published import CONTROL_URL, read_published
from local_azure.supervision import RunError

SHOWN = 4


def main() -> None:
    data, wanted = sys.argv[1:]
    try:
        sys.stdout.write(describe_token(Path(data), wanted.strip()))
    except RunError as error:
        sys.exit(str(error))


def describe_token(data: Path, wanted: str) -> str:
    """Return the account's token, and a command that uses it. Raises RunError for an unknown account."""
    settings = read_published(data)
    accounts = get_json(f"{settings[CONTROL_URL]}/accounts")
    usernames = [account["username"] for account in accounts]
    username = next((one for one in usernames if one.lower() == wanted.lower()), None)
    if username is None:
        known = ", ".join(usernames[:SHOWN])  # the initial ones: `make demo-data` adds hundreds
        raise RunError(f"There is no account {wanted!r}. Try one of these: {known}.")
    token = get_json(f"{settings[CONTROL_URL]}/entra/token", {"username": username})["access_token"]
    url = f"{settings['PUBLIC_URL']}/api/token"
    return f'{token}\n\ncurl -X POST {url} -H "Authorization: Bearer {token}"\n'


if __name__ == "__main__":
    main()
