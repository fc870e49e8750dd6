// Requests to the service: JSON comes back, or a TokenRequestError; what passes by itself is waited out.

import { TokenRequestError } from "./token-request-error.js";

const MOST_TRIES = 4;
// The service itself answers within 15 s, whatever its upstreams do.
const ANSWER_MILLISECONDS = 30_000;
// A window of the service's rate limit is a minute. To wait for less than was asked would only add to the load.
const LONGEST_WAIT_SECONDS = 120;

export async function requestJson(fetch, url, options, signal) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await requestOnce(fetch, url, options, signal);
    } catch (error) {
      signal.throwIfAborted();
      const seconds = error.retryAfter ?? 2 ** (tries - 1);
      if (!passesByItself(error) || tries === MOST_TRIES || seconds > LONGEST_WAIT_SECONDS) throw error;
      await sleep(seconds * (1 + Math.random() / 10), signal); // not all clients at the same moment
    }
  }
}

async function requestOnce(fetch, url, options, signal) {
  let answer, text;
  try {
    const inTime = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MILLISECONDS)]);
    answer = await fetch(url, { ...options, redirect: "manual", signal: inTime });
    text = await answer.text();
  } catch (cause) {
    throw new TokenRequestError("The service did not answer", { cause });
  }
  const body = parseObject(text);
  if (answer.ok && body !== null) return body;
  const { code = null, detail = "The answer is not one of the service", requestId = null } = body ?? {};
  throw new TokenRequestError([answer.status, code, `(${detail})`].filter(Boolean).join(" "), {
    status: answer.status,
    code,
    requestId: requestId ?? answer.headers.get("X-Request-ID"),
    retryAfter: readRetryAfter(answer.headers),
  });
}

function passesByItself({ status }) {
  return status === null || status === 429 || status === 503;
}

// An error of a proxy on the way may be a page.
function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

// In seconds, null where there is none: https://www.rfc-editor.org/rfc/rfc9110.html#section-10.2.3
function readRetryAfter(headers) {
  const value = headers.get("Retry-After")?.trim();
  if (!value) return null;
  if (/^\d+$/.test(value)) return Number(value);
  // By the server's clock where it can be read: this computer's may be wrong.
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
