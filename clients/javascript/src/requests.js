// Requests to the service. Returns JSON or throws a TokenRequestError; retries errors that are temporary.

import { onAbort, reasonOf } from "./abort.js";
import { TokenRequestError } from "./token-request-error.js";

const MAX_TRIES = 4;
// The service responds within 15 s, whatever its upstreams do.
const TIMEOUT_MILLISECONDS = 30_000;
// The window of the service's rate limit is one minute. Retrying earlier than requested would only add to the load.
const MAX_WAIT_SECONDS = 120;
// Of the service, or of a front end while an instance restarts. Repeating a request for a token is safe.
const TEMPORARY = [408, 425, 429, 502, 503, 504];
// Node.js's and OpenSSL's codes of a wrong certificate, or of a server without TLS.
const TLS_CODE = /CERT|SIGNATURE|_SSL_|EPROTO/;

// What tells the service's response from another site's: a member of it.
const EXPECTED = { token: isToken, user: (value) => typeof value?.objectId === "string" };

export function isToken(value) {
  return typeof value === "string" && /^[!-~]+$/.test(value);
}

// Returns an object with the `member`, one of the expected ones.
export async function requestJson(fetch, url, init, member, signal) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await requestOnce(fetch, url, init, member, signal);
    } catch (error) {
      if (signal.aborted) throw reasonOf(signal);
      const seconds = error.retryAfter ?? 2 ** (tries - 1);
      if (!isTemporary(error) || tries === MAX_TRIES || seconds > MAX_WAIT_SECONDS) throw error;
      await sleep(seconds * (1 + Math.random() / 10), signal); // jitter
    }
  }
}

async function requestOnce(fetch, url, init, member, signal) {
  let response, text;
  try {
    [response, text] = await fetchText(fetch, url, init, signal);
  } catch (cause) {
    throw new TokenRequestError(`The service at ${url} did not respond: ${describe(cause, url)}`, { cause });
  }
  const body = parseObject(text);
  const ours = body !== null && (response.ok ? EXPECTED[member](body[member]) : typeof body.code === "string");
  if (response.ok && ours) return body;
  const { code = null, detail = describeStranger(response, url), requestId = null } = ours ? body : {};
  throw new TokenRequestError([response.status, code, `(${detail})`].filter(Boolean).join(" "), {
    status: response.status,
    code,
    requestId: requestId ?? response.headers.get("X-Request-ID"),
    retryAfter: readRetryAfter(response.headers),
  });
}

// Neither AbortSignal.any nor AbortSignal.timeout, which Safari before 17.4 and React Native lack.
async function fetchText(fetch, url, init, signal) {
  const controller = new AbortController();
  let timer, forget;
  const stopped = new Promise((_, reject) => {
    const stop = (reason) => {
      reject(reason);
      controller.abort();
    };
    const late = () => stop(new Error(`no response within ${TIMEOUT_MILLISECONDS / 1000} s`));
    timer = setTimeout(late, TIMEOUT_MILLISECONDS);
    forget = onAbort(signal, stop);
  });
  const exchange = async () => {
    const response = await fetch(url, { ...init, redirect: "manual", signal: controller.signal });
    return [response, await response.text()];
  };
  try {
    return await Promise.race([exchange(), stopped]);
  } finally {
    clearTimeout(timer);
    forget();
  }
}

function isTemporary({ status, cause }) {
  return status === null ? !TLS_CODE.test(rootOf(cause)?.code ?? "") : TEMPORARY.includes(status);
}

function rootOf(error) {
  return error?.cause ? rootOf(error.cause) : error;
}

// Node.js says in the cause why; browsers do not say, for they would tell pages about the user's network.
function describe(error, url) {
  const page = globalThis.location?.origin;
  const { message, code } = rootOf(error) ?? {};
  const reason = message || code || String(error);
  if (error?.cause || !page || url.startsWith(`${page}/`)) return reason;
  return `${reason}. Is the address right, and does the service's CORS_ORIGINS name ${page}?`;
}

function describeStranger(response, url) {
  if (TEMPORARY.includes(response.status)) {
    return `A front end answers with this status at ${url}, not the service, which may be restarting`;
  }
  const target = response.headers.get("Location");
  // What follows the path of a redirect may hold the state of a sign-in.
  const to = target && ` but redirects to ${target.split(/[?#]/)[0]}`;
  const kind = to || (response.type === "opaqueredirect" ? " but redirects" : "");
  return `The response of ${url} is not from the service${kind}: is serviceUrl right?`;
}

// An error from a proxy may be an HTML page.
function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

// In seconds; null if the header is missing or malformed: https://www.rfc-editor.org/rfc/rfc9110.html#section-10.2.3
function readRetryAfter(headers) {
  const value = headers.get("Retry-After") ?? "";
  const number = /^[\s,]*(\d+)\s*(,|$)/.exec(value); // the first one, if the header came twice
  if (number) return Number(number[1]);
  // By the server's clock if possible, because this computer's may be wrong.
  const now = parseDate(headers.get("Date") ?? "") || Date.now();
  const seconds = (parseDate(value) - now) / 1000;
  return Number.isNaN(seconds) ? null : Math.max(0, seconds);
}

// Date.parse alone takes "1, 1" for a day in 2001.
function parseDate(value) {
  return /\bGMT\s*$/.test(value) ? Date.parse(value) : NaN;
}

function sleep(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      forget();
      resolve();
    }, seconds * 1000);
    const forget = onAbort(signal, (reason) => {
      clearTimeout(timer);
      reject(reason);
    });
  });
}
