import { AzureCommunicationTokenCredential } from "@azure/communication-common";

// On a page of {{ public_url }}, for the person who is signed in there.
async function tokenRefresher() {
  const me = await fetch("{{ public_url }}/api/me");
  if (!me.ok) throw new Error(`Sign in again: ${me.status}`);
  const { csrfToken } = await me.json();
  const answer = await fetch("{{ public_url }}/api/token", {
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
