// Builds the credential that calling and chat clients use, as `{"token", "proactively", "csrfToken"}` in argv says.
// Prints `{"answers", "requests"}`: what two getToken() came to, and how often the service was called.

import { AzureCommunicationTokenCredential } from "@azure/communication-common";

import { requests } from "./as-browser.mjs";

const { token, proactively, csrfToken } = JSON.parse(process.argv[2]);
let noteRefreshed;
const refreshed = new Promise((resolve) => (noteRefreshed = resolve));

async function tokenRefresher() {
  const answer = await fetch("/api/token", { method: "POST", headers: { "X-CSRFToken": csrfToken } });
  if (!answer.ok) throw new Error(`No token: ${answer.status}`);
  const body = await answer.json();
  setImmediate(noteRefreshed); // the credential gets the token first
  return body.token;
}

const credential = new AzureCommunicationTokenCredential({ tokenRefresher, refreshProactively: true, token });

async function ask() {
  try {
    return await credential.getToken();
  } catch (error) {
    return { error: error.message };
  }
}

if (proactively) await refreshed; // without being asked
const answers = [await ask(), await ask()];
credential.dispose();
console.log(JSON.stringify({ answers, requests }));
