// The service's address, as people set it.

// Returns the origin. Throws a TypeError for anything but an origin; the service's own /api may follow it.
export function readOrigin(serviceUrl) {
  const text = String(serviceUrl ?? "").trim();
  if (!text || text === "null") throw refuse("is missing");
  // Before the first path, it would be a password; so it is not repeated.
  if (/^([a-z][\w+.-]*:)?[/\\]*[^/?#]*@/i.test(text)) throw refuse("holds a user name");
  const [, origin, path = "/"] = /^(https?:\/\/[^/?#\\\s]+)(\/[^?#]*)?([?#].*)?$/i.exec(text) ?? [];
  if (!origin) throw refuse(`is ${JSON.stringify(text)}, not https:// and a host`);
  if (!/^\/(api(\/.*)?)?$/.test(path)) throw refuse(`has the path ${path}`);
  try {
    // React Native's URL has no origin, and refuses nothing.
    return readMember(new URL(origin), "origin") ?? origin;
  } catch {
    throw refuse(`is ${JSON.stringify(text)}, which is not a URL`);
  }
}

function readMember(object, name) {
  try {
    return object[name];
  } catch {
    return undefined;
  }
}

function refuse(why) {
  return new TypeError(`serviceUrl ${why}: it must be the service's origin, such as https://calls.contoso.com`);
}
