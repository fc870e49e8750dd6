/** Claims of an ACS token, for display only. A client needs just its expiry, which the credential reads. */
export function readClaims(token) {
  const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
  const { skypeid, acsScope, exp } = JSON.parse(atob(payload));
  return { identity: `8:${skypeid}`, scopes: acsScope.split(",").join(", "), expiresAt: exp * 1000 };
}
