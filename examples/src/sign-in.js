// Signs users in with MSAL.js: authorization code flow with PKCE, by redirecting the whole page.

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
      // Only for the local Entra ID: see README.md.
      authorityMetadata: JSON.stringify(settings.authorityMetadata),
      knownAuthorities: [new URL(settings.authority).host],
    }),
  },
});
await msal.initialize();

const scopes = [settings.scope];

/** Returns the signed-in account or null, after completing a sign-in that is in progress. */
export async function findAccount() {
  const response = await msal.handleRedirectPromise();
  return response?.account ?? msal.getAllAccounts()[0] ?? null;
}

/** Redirects to Entra ID and back to this page. */
export function signIn() {
  return msal.loginRedirect({ scopes, prompt: "select_account" });
}

/** Redirects to Entra ID, which ends its own session, too, and back to this page. */
export function signOut(account) {
  return msal.logoutRedirect({ account });
}

/** Returns an access token for the service, from MSAL's cache or by the refresh token. */
export async function getAccessToken(account, forceRefresh) {
  const { accessToken } = await msal.acquireTokenSilent({ scopes, account, forceRefresh });
  return accessToken;
}
