"""Runs JavaScript that uses clients/javascript, beside the credential of Communication Services."""

import json
from pathlib import Path
from typing import Any

from tests.support.node import run_code
from tests.support.person import Person

CLIENT = Path(__file__).parents[2] / "clients" / "javascript"
PRELUDE = """
import {{ AzureCommunicationTokenCredential }} from "@azure/communication-common";
import {{ createTeamsTokenRefresher, createTokenRefresher, TokenRequestError }} from "{client}";
const input = {input};
const {{ serviceUrl }} = input;
const getAccessToken = () => input.accessToken;
const newRefresher = (options) => createTokenRefresher({{ serviceUrl, getAccessToken, ...options }});
const refused = [];
const onSignInRequired = (error) => refused.push(error.code);

// What each call comes to: a token, or what the error says.
const settle = (...calls) => Promise.all(calls.map((call) => call.then(
  (token) => ({{ token }}),
  ({{ name, message, status, code, requestId, retryAfter }}) =>
    ({{ name, message, status, code, requestId, retryAfter }}),
)));
const print = (value) => console.log(JSON.stringify(value));
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
"""
ASK = """
const tokenRefresher = newRefresher({ onSignInRequired, ...input.options });
const answers = await settle(...Array.from({ length: input.times ?? 1 }, () => tokenRefresher()));
print({ answers, refused });
"""
"""What so many calls at once come to, and the errors that `onSignInRequired` was told."""


def run_client(person: Person, code: str, **given: object) -> dict[str, Any]:
    """Run code after the prelude above, with what is `given` as `input`; return the object it prints."""
    document = {"serviceUrl": person.url} | given
    prelude = PRELUDE.format(client=(CLIENT / "src" / "index.js").as_uri(), input=json.dumps(document))
    return run_code(person, prelude + code)
