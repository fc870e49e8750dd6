// What both pages share: who is signed in, tokens of the service for them, and problems in plain words.

import { createTokenRefresher } from "../../clients/javascript/src/index.js";

import { explain, needsSignIn } from "./problems.js";
import { settings } from "./settings.js";
import { findAccount, getAccessToken, signIn, signOut } from "./sign-in.js";

export function element(id) {
  return document.getElementById(id);
}

/** Shows who is signed in and returns that account, or offers to sign in and returns null. */
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

/** What AzureCommunicationTokenCredential takes: a function that resolves to a new token. */
export function makeTokenRefresher(account) {
  return createTokenRefresher({
    serviceUrl: settings.serviceUrl,
    getAccessToken: (signal, { forceRefresh }) => getAccessToken(account, forceRefresh),
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

// The client waits by itself where the service asks for it; people like to know.
async function fetchAndTell(...request) {
  const answer = await fetch(...request);
  const seconds = answer.headers.get("Retry-After");
  if (seconds) {
    const reason = answer.status === 429 ? "Too many requests" : "The service is busy";
    showStatus(`${reason}: trying again in ${seconds} seconds.`);
  }
  return answer;
}

// A credential that renews its token by itself has nobody else to tell of a failure.
addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  showProblem(event.reason);
});
