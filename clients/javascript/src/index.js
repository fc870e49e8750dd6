// Gets tokens from the trusted service for AzureCommunicationTokenCredential.

import { oneInFlight } from "./one-in-flight.js";
import { requestJson } from "./requests.js";
import { TokenRequestError } from "./token-request-error.js";

export { TokenRequestError };

export function createTokenRefresher(options = {}) {
  const { scopes, expiresInMinutes } = options;
  const chosen = scopes !== undefined || expiresInMinutes !== undefined;
  return createRefresher(options, "/api/token", () => (chosen ? { scopes, expiresInMinutes } : undefined));
}

export function createTeamsTokenRefresher({ getTeamsUserAadToken, ...options }) {
  const makeBody = async (signal) => ({ teamsUserAadToken: await getTeamsUserAadToken(signal) });
  return createRefresher(options, "/api/token/teams", makeBody);
}

function createRefresher({ serviceUrl, getAccessToken, onSignInRequired, ...options }, path, makeBody) {
  const pageOrigin = globalThis.location?.origin;
  const service = new URL(serviceUrl ?? pageOrigin).origin;
  if (!getAccessToken && pageOrigin && pageOrigin !== service) {
    throw new TypeError("The session cookie works on the service's own origin only: pass getAccessToken");
  }
  const fetch = options.fetch ?? ((...request) => globalThis.fetch(...request));
  const request = (route, init, signal) => requestJson(fetch, service + route, init, signal);
  const caller = getAccessToken ? byAccessToken(getAccessToken) : bySession(request);

  async function requestToken(signal, refused) {
    const { headers, credentials } = await caller.identify(signal, refused);
    const body = await makeBody(signal);
    const init = { method: "POST", credentials, headers };
    if (body !== undefined) {
      init.headers = { ...headers, "Content-Type": "application/json" };
      init.body = JSON.stringify(body);
    }
    const { token } = await request(path, init, signal);
    return token;
  }

  async function refresh(signal) {
    try {
      return await requestToken(signal, false).catch((error) => {
        if (error?.code !== caller.refusal) throw error;
        return requestToken(signal, true);
      });
    } catch (error) {
      if (error instanceof TokenRequestError && error.status === 401) onSignInRequired?.(error);
      throw error;
    }
  }

  return oneInFlight(refresh);
}

// How a caller authenticates. After a `refusal`, `identify` is called once more with `refused`.

function byAccessToken(getAccessToken) {
  return {
    refusal: "invalid_token",
    async identify(signal, refused) {
      const accessToken = await getAccessToken(signal, { forceRefresh: refused });
      return { credentials: "omit", headers: { Authorization: `Bearer ${accessToken}` } };
    },
  };
}

function bySession(request) {
  let csrfToken, userKey;
  return {
    refusal: "csrf_failed", // another tab has signed in, which started another session
    async identify(signal, refused) {
      if (!csrfToken || refused) {
        const me = await request("/api/me", { credentials: "same-origin" }, signal);
        const key = `${me.user.tenantId}/${me.user.objectId}`;
        userKey ??= key;
        // A running client must not continue as another user.
        if (key !== userKey) {
          const why = { status: 401, code: "user_changed" };
          throw new TokenRequestError("Another user has signed in in this browser", why);
        }
        csrfToken = me.csrfToken;
      }
      return { credentials: "same-origin", headers: { "X-CSRFToken": csrfToken } };
    },
  };
}
