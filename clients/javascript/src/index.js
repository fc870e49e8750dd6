// Gets tokens from the trusted service for AzureCommunicationTokenCredential.

import { oneInFlight } from "./one-in-flight.js";
import { isToken, requestJson } from "./requests.js";
import { readOrigin } from "./service-url.js";
import { TokenRequestError } from "./token-request-error.js";

export { TokenRequestError };

export function createTokenRefresher(options = {}) {
  const { scopes, expiresInMinutes } = options;
  const chosen = scopes !== undefined || expiresInMinutes !== undefined;
  return createRefresher(options, "/api/token", () => (chosen ? { scopes, expiresInMinutes } : undefined));
}

export function createTeamsTokenRefresher({ getTeamsUserAadToken, ...options }) {
  const makeBody = async (signal) => ({
    teamsUserAadToken: readToken(await getTeamsUserAadToken(signal), "getTeamsUserAadToken"),
  });
  return createRefresher(options, "/api/token/teams", makeBody);
}

function createRefresher({ serviceUrl, getAccessToken, onSignInRequired, withExpiry, ...options }, path, makeBody) {
  const pageOrigin = globalThis.location?.origin;
  const service = readOrigin(serviceUrl ?? pageOrigin);
  if (!getAccessToken && pageOrigin && pageOrigin !== new URL(service).origin) {
    throw new TypeError("The session cookie works on the service's own origin only: pass getAccessToken");
  }
  if (typeof (options.fetch ?? globalThis.fetch) !== "function") {
    throw new TypeError("fetch must be a function: pass one where there is no global one, as in Node.js before 18");
  }
  const fetch = options.fetch ?? ((...request) => globalThis.fetch(...request));
  const request = (route, init, member, signal) => requestJson(fetch, service + route, init, member, signal);
  const caller = getAccessToken ? byAccessToken(getAccessToken) : bySession(request);

  async function requestToken(signal, refused) {
    const { headers, credentials } = await caller.identify(signal, refused);
    const body = await makeBody(signal);
    const init = { method: "POST", credentials, headers };
    if (body !== undefined) {
      init.headers = { ...headers, "Content-Type": "application/json" };
      init.body = JSON.stringify(body);
    }
    return request(path, init, "token", signal);
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

  const shared = oneInFlight(refresh);
  // Not an arrow function: its `this` is the credential that calls it.
  return async function tokenRefresher(abortSignal) {
    const { token, expiresOn } = await shared(abortSignal);
    const expiresOnTimestamp = Date.parse(expiresOn);
    const takes = withExpiry ?? takesExpiry(this);
    return takes && !Number.isNaN(expiresOnTimestamp) ? { token, expiresOnTimestamp } : token;
  };
}

// @azure/communication-common calls a refresher as a method of its credential. Since 2.5, which takes the expiry
// beside the token, the credential has this property; older ones refuse anything but a string.
function takesExpiry(caller) {
  return typeof caller === "object" && caller !== null && "undecodableTokenExpiryIntervalInSeconds" in caller;
}

// Not in the message: what was returned, which may be a token. One read from a file may end with a line break.
function readToken(returned, name) {
  const token = typeof returned === "string" ? returned.trim() : returned;
  if (isToken(token)) return token;
  throw new TypeError(`${name} must return the access token's text, for example result.accessToken`);
}

// How a caller authenticates. After a `refusal`, `identify` is called once more with `refused`.

function byAccessToken(getAccessToken) {
  return {
    refusal: "invalid_token",
    async identify(signal, refused) {
      const accessToken = readToken(await getAccessToken(signal, { forceRefresh: refused }), "getAccessToken");
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
        const me = await request("/api/me", { credentials: "same-origin" }, "user", signal);
        const key = `${me.user.tenantId}/${me.user.objectId}`;
        if (!userKey) userKey = key;
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
