// Error messages for users. The service's errors are distinguished by `code`.

import { AuthError, InteractionRequiredAuthError } from "@azure/msal-browser";
import { TokenRequestError } from "../../clients/javascript/src/index.js";

import { settings } from "./settings.js";

const SENTENCES = {
  blocked: "Your account is blocked here. Ask an administrator of the service to unblock it.",
  invalid_token: "The service does not accept this account. Sign in again with an account that may use it.",
  insufficient_scope: "This app has no permission to request tokens: its scope is missing.",
  forbidden: "This app may not request tokens.",
  rate_limited: "Too many requests.",
  upstream_throttled: "Azure is busy.",
  upstream_unavailable: "The service cannot reach Azure at the moment.",
};

export function explain(error) {
  if (error instanceof InteractionRequiredAuthError) return "Your sign-in has ended. Sign in again.";
  if (error instanceof AuthError) return `The sign-in failed: ${error.errorCode}.`;
  if (!(error instanceof TokenRequestError)) return `Something went wrong: ${error.message}`;
  if (error.status === null) {
    return `${settings.serviceUrl} does not respond, or does not allow pages from ${location.origin} (CORS_ORIGINS).`;
  }
  const sentences = [SENTENCES[error.code] ?? `The service refused: ${error.message}.`];
  if (error.retryAfter) sentences.push(`Try again in ${Math.ceil(error.retryAfter / 60)} min.`);
  if (error.requestId) sentences.push(`(Request ${error.requestId})`);
  return sentences.join(" ");
}

/** Whether the user has to sign in again. */
export function needsSignIn(error) {
  return error instanceof InteractionRequiredAuthError || error?.status === 401;
}
