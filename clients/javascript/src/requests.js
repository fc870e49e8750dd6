// Requests to the service. Returns JSON or throws a TokenRequestError; retries errors that are temporary.

import { TokenRequestError } from "./token-request-error.js";

const MAX_TRIES = 4;
// The service responds within 15 s, whatever its upstreams do.
const TIMEOUT_MILLISECONDS = 30_000;
// The window of the service's rate limit is one minute. Retrying earlier than requested would only add to the load.
const MAX_WAIT_SECONDS = 120;

export async function requestJson(fetch, url, options, signal) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await requestOnce(fetch, url, options, signal);
    } catch (error) {
      signal.throwIfAborted();
      const seconds = error.retryAfter ?? 2 ** (tries - 1);
      if (!isTemporary(error) || tries === MAX_TRIES || seconds > MAX_WAIT_SECONDS) throw error;
      await sleep(seconds * (1 + Math.random() / 10), signal); // jitter
    }
  }
}

async function requestOnce(fetch, url, options, signal) {
  let response, text;
  try {
    const inTime = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MILLISECONDS)]);
    response = await fetch(url, { ...options, redirect: "manual", signal: inTime });
    text = await response.text();
  } catch (cause) {
    throw new TokenRequestError("The service did not respond", { cause });
  }
  const body = parseObject(text);
  if (response.ok && body !== null) return body;
  const { code = null, detail = "The response is not from the service", requestId = null } = body ?? {};
  throw new TokenRequestError([response.status, code, `(${detail})`].filter(Boolean).join(" "), {
    status: response.status,
    code,
    requestId: requestId ?? response.headers.get("X-Request-ID"),
    retryAfter: readRetryAfter(response.headers),
  });
}

function isTemporary({ status }) {
  return status === null || status === 429 || status === 503;
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
  const value = headers.get("Retry-After")?.trim();
  if (!value) return null;
  if (/^\d+$/.test(value)) return Number(value);
  // By the server's clock if possible, because this computer's may be wrong.
  const now = Date.parse(headers.get("Date")) || Date.now();
  const seconds = (Date.parse(value) - now) / 1000;
  return Number.isNaN(seconds) ? null : Math.max(0, seconds);
}

function sleep(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
