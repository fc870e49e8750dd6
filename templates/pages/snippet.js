import { AzureCommunicationTokenCredential } from "@azure/communication-common";

// For a page on this origin, with a signed-in user.
const service = "{{ settings.public_url }}";

async function tokenRefresher() {
  const me = await fetch(`${service}/api/me`);
  if (!me.ok) throw new Error(`Sign in again: ${me.status}`);
  const { csrfToken } = await me.json();
  const response = await fetch(`${service}/api/token`, {
    method: "POST",
    headers: { "X-CSRFToken": csrfToken },
  });
  if (!response.ok) throw new Error(`No token: ${response.status}`);
  const { token, expiresOn } = await response.json();
  // Before @azure/communication-common 2.5: return token.
  return { token, expiresOnTimestamp: Date.parse(expiresOn) };
}

const credential = new AzureCommunicationTokenCredential({
  tokenRefresher,
  refreshProactively: true,
});
