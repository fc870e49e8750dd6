// Passes the token to Microsoft's chat and calling clients, step by step.

import { ChatClient } from "@azure/communication-chat";
import { AzureCommunicationTokenCredential } from "@azure/communication-common";

import { readClaims } from "./claims.js";
import { clearProblem, element, makeTokenRefresher, openPage, showProblem, showStatus } from "./page.js";
import { settings } from "./settings.js";

let credential;

const account = await openPage({ onSignOut: () => credential?.dispose() });
if (account) {
  element("ready").hidden = false;
  element("start").addEventListener("click", start);
}

async function start() {
  element("start").disabled = true;
  clearProblem();
  try {
    await takeSteps();
    showStatus("Done.");
  } catch (error) {
    showProblem(error);
  }
  credential?.dispose();
  element("start").disabled = false;
}

async function takeSteps() {
  await step("credential", async () => {
    credential = new AzureCommunicationTokenCredential({ tokenRefresher: makeTokenRefresher(account) });
    const { token } = await credential.getToken();
    const { identity, scopes } = readClaims(token);
    return `The credential has a token for ${identity} (${scopes}).`;
  });

  let chatClient;
  await step("chat-client", () => {
    // Without retries, so that the page shows at once that there is no chat.
    chatClient = new ChatClient(settings.communicationEndpoint, credential, { retryOptions: { maxRetries: 0 } });
    return `Created a ChatClient for ${settings.communicationEndpoint}.`;
  });
  await attempt("chat-threads", async () => {
    let threads = 0;
    for await (const _ of chatClient.listChatThreads()) threads += 1;
    return `Found ${threads} chats.`;
  });

  let callClient;
  await step("call-client", async () => {
    // Seven megabytes, so it is loaded only when needed.
    const { CallClient } = await import("@azure/communication-calling");
    callClient = new CallClient();
    return "Created a CallClient.";
  });
  await attempt("call-agent", async () => {
    const agent = await callClient.createCallAgent(credential, { displayName: account.name });
    const { kind, connectionState } = agent;
    await agent.dispose();
    return `Created a ${kind}. Its connection is ${connectionState}.`;
  });
}

/** Runs a step and shows its result; an exception ends the sequence. */
async function step(id, take) {
  showResult(id, "", "In progress…");
  try {
    showResult(id, "done", await take());
  } catch (error) {
    showResult(id, "failed", "Failed.");
    throw error;
  }
}

/** Runs a step that may fail without the cloud; the sequence continues. */
async function attempt(id, take) {
  await step(id, take).catch((error) => showResult(id, "failed", `Failed: ${error.message}`));
}

function showResult(id, outcome, text) {
  const item = element(id);
  item.dataset.outcome = outcome;
  const result = item.querySelector("p") ?? item.appendChild(document.createElement("p"));
  result.textContent = text;
}
