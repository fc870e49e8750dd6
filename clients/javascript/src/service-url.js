// The service's address, as people set it.

// An origin, alone or as part of an address of the service's API.
const ORIGIN = /^(https?:\/\/[^/?#@\\\s]+)(\/|\/api(\/[^?#]*)?)?$/i;

// Returns the origin. Throws a TypeError for anything else, which does not repeat a password or a query.
export function readOrigin(serviceUrl) {
  const text = String(serviceUrl ?? "").trim();
  const origin = ORIGIN.exec(text)?.[1];
  if (origin && isUrl(origin)) return origin;
  const given = /[@?#]/.test(text) ? "" : `, not ${JSON.stringify(text)}`;
  const expected = "the service's origin, without a query or fragment, such as https://calls.contoso.com";
  throw new TypeError(`serviceUrl must be ${expected}${given}`);
}

function isUrl(text) {
  try {
    return Boolean(new URL(text));
  } catch {
    return false;
  }
}
