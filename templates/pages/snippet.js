import { AzureCommunicationTokenCredential } from "@azure/communication-common";

// For a page of this origin, and the person who is signed in there.
const service = "{{ public_url }}";

async function tokenRefresher() {
  const me = await fetch(`${service}/api/me`);
  if (!me.ok) throw new Error(`Sign in again: ${me.status}`);
  const { csrfToken } = await me.json();
  const answer = await fetch(`${service}/api/token`, {
    method: "POST",
    headers: { "X-CSRFToken": csrfToken },
  });
  if (!answer.ok) throw new Error(`No token: ${answer.status}`);
  return (await answer.json()).token;
}

const credential = new AzureCommunicationTokenCredential({
  tokenRefresher,
  refreshProactively: true,
});
