// What went wrong, in a sentence for the person in front of the page. The service's errors are told apart by `code`.

import { BrowserAuthError, InteractionRequiredAuthError } from "@azure/msal-browser";
import { TokenRequestError } from "../../clients/javascript/src/index.js";

import { settings } from "./settings.js";

const SENTENCES = {
  blocked: "Your account is blocked here. Ask an administrator of the service to unblock it.",
  invalid_token: "The service does not take your sign-in. Sign in again.",
  insufficient_scope: "This app has no permission to ask for tokens: its scope is missing.",
  forbidden: "This app, or your role, may not do that.",
  rate_limited: "Too many requests. Wait a minute, then try again.",
  upstream_throttled: "Azure is busy. Try again in a minute.",
  upstream_unavailable: "The service cannot reach Azure at the moment. Try again in a minute.",
};

export function explain(error) {
  if (needsSignIn(error)) return "Your sign-in has ended. Sign in again.";
  if (error instanceof BrowserAuthError) return `The sign-in failed: ${error.errorCode}.`;
  if (!(error instanceof TokenRequestError)) return `Something went wrong: ${error.message}`;
  if (error.status === null) {
    return `${settings.serviceUrl} does not answer, or does not allow pages of ${location.origin} (CORS_ORIGINS).`;
  }
  const sentence = SENTENCES[error.code] ?? `The service refused: ${error.message}.`;
  return error.requestId ? `${sentence} (Request ${error.requestId})` : sentence;
}

/** Whether only a new sign-in helps. */
export function needsSignIn(error) {
  return error instanceof InteractionRequiredAuthError || error?.status === 401;
}
