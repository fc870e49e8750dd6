// Entra ID sends the browser here; MSAL takes its answer to the page that asked.

import { broadcastResponseToMainFrame } from "@azure/msal-browser/redirect-bridge";

// Whoever comes here without an answer, by a bookmark say, is shown the start.
broadcastResponseToMainFrame().catch(() => location.replace("/"));
