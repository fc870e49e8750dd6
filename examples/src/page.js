// Shared by both pages: the signed-in account, tokens for it, and error messages.

import { createTokenRefresher } from "../../clients/javascript/src/index.js";

import { explain, needsSignIn } from "./problems.js";
import { settings } from "./settings.js";
import { findAccount, getAccessToken, signIn, signOut } from "./sign-in.js";

export function element(id) {
  return document.getElementById(id);
}

/** Shows the signed-in account and returns it, or shows a sign-in button and returns null. */
export async function openPage({ onSignOut }) {
  element("sign-in").addEventListener("click", () => signIn().catch(showProblem));
  const account = await findAccount().catch(showProblem);
  element("signed-out").hidden = Boolean(account);
  element("signed-in").hidden = !account;
  if (!account) return null;
  element("username").textContent = account.username;
  element("sign-out").addEventListener("click", () => {
    onSignOut();
    signOut(account).catch(showProblem);
  });
  return account;
}

/** Creates the `tokenRefresher` of an AzureCommunicationTokenCredential. */
export function makeTokenRefresher(account) {
  return createTokenRefresher({
    serviceUrl: settings.serviceUrl,
    getAccessToken: (signal, { forceRefresh }) => getAccessToken(account, forceRefresh),
    withExpiry: true, // for @azure/communication-common 2.5 or newer
    fetch: fetchAndTell,
  });
}

export function showStatus(text) {
  element("status").textContent = text;
}

export function showProblem(error) {
  showStatus("");
  element("problem").textContent = explain(error);
  if (needsSignIn(error)) element("signed-out").hidden = false;
}

export function clearProblem() {
  element("problem").textContent = "";
}

// The client waits as long as the service asks; tell the user.
async function fetchAndTell(...request) {
  const response = await fetch(...request);
  const seconds = response.headers.get("Retry-After");
  if (seconds) {
    const reason = response.status === 429 ? "Too many requests" : "The service is busy";
    showStatus(`${reason}: trying again in ${seconds} seconds.`);
  }
  return response;
}

// The credential reports a failed proactive refresh only as an unhandled rejection.
addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  showProblem(event.reason);
});
