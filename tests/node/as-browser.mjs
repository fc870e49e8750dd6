// What Node.js lacks of a browser on a page of the service: the cookies that go with each request to it.
// Reads `{"origin", "cookie"}` from the environment variable BROWSER, and counts the requests by path.

const { origin, cookie } = JSON.parse(process.env.BROWSER);
let cookies = cookie;
const plainFetch = globalThis.fetch;

export const requests = {};

globalThis.fetch = (address, options = {}) => {
  const url = new URL(address, origin);
  if (url.origin !== origin) throw new Error(`a request to a stranger: ${url}`);
  requests[url.pathname] = (requests[url.pathname] ?? 0) + 1;
  const headers = new Headers(options.headers);
  headers.set("Cookie", cookies);
  if (!["GET", "HEAD"].includes(options.method ?? "GET")) headers.set("Origin", origin);
  return plainFetch(url, { ...options, headers, redirect: "error" });
};

// As when another tab of the browser signs in.
export function takeCookies(others) {
  cookies = others;
}
