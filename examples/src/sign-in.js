// Signs people in with MSAL.js: authorization code with PKCE, by a redirect of the whole page.

import { PublicClientApplication } from "@azure/msal-browser";

import { settings } from "./settings.js";

const REDIRECT_URI = new URL("/redirect.html", location.origin).href;

const msal = new PublicClientApplication({
  auth: {
    clientId: settings.clientId,
    authority: settings.authority,
    redirectUri: REDIRECT_URI,
    postLogoutRedirectUri: REDIRECT_URI,
    ...(settings.authorityMetadata && {
      // Only the local Entra ID needs this: README.md says why.
      authorityMetadata: JSON.stringify(settings.authorityMetadata),
      knownAuthorities: [new URL(settings.authority).host],
    }),
  },
});
await msal.initialize();

const scopes = [settings.scope];

/** The account that is signed in, or null; comes back from Entra ID where the page was on the way. */
export async function findAccount() {
  const answer = await msal.handleRedirectPromise();
  return answer?.account ?? msal.getAllAccounts()[0] ?? null;
}

/** Leaves the page for Entra ID, and comes back to it. */
export function signIn() {
  return msal.loginRedirect({ scopes, prompt: "select_account" });
}

/** Leaves the page for Entra ID, which ends its session too, and comes back to it. */
export function signOut(account) {
  return msal.logoutRedirect({ account });
}

/** An access token for the service: the one MSAL keeps while it lasts, else a new one by the refresh token. */
export async function getAccessToken(account, forceRefresh) {
  const { accessToken } = await msal.acquireTokenSilent({ scopes, account, forceRefresh });
  return accessToken;
}
