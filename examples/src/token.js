// Keeps the token of an AzureCommunicationTokenCredential fresh, and shows it.

import { AzureCommunicationTokenCredential } from "@azure/communication-common";

import { readClaims } from "./claims.js";
import { clearProblem, element, makeTokenRefresher, openPage, showProblem, showStatus } from "./page.js";

let credential;
let expiresAt = 0;
let refreshes = 0;

const account = await openPage({ onSignOut: () => credential?.dispose() });
if (account) {
  const refreshToken = makeTokenRefresher(account);
  element("try-again").addEventListener("click", () => start(refreshToken));
  setInterval(showTimeLeft, 1000);
  await start(refreshToken);
}

async function start(refreshToken) {
  clearProblem();
  showStatus("Requesting a token…");
  credential?.dispose();
  try {
    const token = await refreshToken();
    showToken(token);
    credential = new AzureCommunicationTokenCredential({
      token,
      refreshProactively: true,
      async tokenRefresher(abortSignal) {
        const newToken = await refreshToken(abortSignal);
        refreshes += 1;
        showToken(newToken);
        return newToken;
      },
    });
  } catch (error) {
    showProblem(error);
  }
}

function showToken({ token }) {
  const claims = readClaims(token);
  expiresAt = claims.expiresAt;
  element("identity").textContent = claims.identity;
  element("scopes").textContent = claims.scopes;
  element("refreshes").textContent = refreshes === 1 ? "once" : `${refreshes} times`;
  element("token").hidden = false;
  showTimeLeft();
  showStatus("");
}

function showTimeLeft() {
  const seconds = Math.max(0, Math.round((expiresAt - Date.now()) / 1000));
  const text = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  element("expires-in").textContent = text;
}
