"""Runs JavaScript that uses clients/javascript with the credential of Communication Services."""

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

// The outcome of each call: a token, or the members of the error.
const settle = (...calls) => Promise.all(calls.map((call) => call.then(
  (token) => ({{ token }}),
  ({{ name, message, status, code, requestId, retryAfter }}) =>
    ({{ name, message, status, code, requestId, retryAfter }}),
)));
const print = (value) => console.log(JSON.stringify(value));
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
"""
REQUEST_TOKENS = """
const tokenRefresher = newRefresher({ onSignInRequired, ...input.options });
const outcomes = await settle(...Array.from({ length: input.times ?? 1 }, () => tokenRefresher()));
print({ outcomes, refused });
"""
"""Prints the outcomes of concurrent calls, and the error codes that `onSignInRequired` received."""

BAD_URLS = ["", " ", "calls.contoso.com", "localhost:8000", "//calls.contoso.com", "/", "undefined"]
BAD_URLS += [
    "ftp://calls.contoso.com",
    "https://",
    "https://a b.example",
    "https://[::1",
    "https://h.example:99999",
]
BAD_URLS += ["https://h.example/calls", "https://h.example/apis"]
BAD_URLS += [f"https://h.example{rest}" for rest in ("?x=1", "/?x", "#a", "/api#", "/api/token?code=hunter2")]
BAD_URLS += ["https://ann:hunter2@h.example"]  # pragma: allowlist secret
"""What no client takes for the address of the service."""


def run_client(person: Person, code: str, **inputs: object) -> dict[str, Any]:
    """Run code after the prelude, with `inputs` as `input`; return the object that it prints."""
    document = {"serviceUrl": person.url} | inputs
    prelude = PRELUDE.format(client=(CLIENT / "src" / "index.js").as_uri(), input=json.dumps(document))
    return run_code(person, prelude + code)
