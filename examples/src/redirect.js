// Entra ID redirects here; MSAL passes the response on to the page that requested it.

import { broadcastResponseToMainFrame } from "@azure/msal-browser/redirect-bridge";

// Without a response, after a bookmark for example, show the start page.
broadcastResponseToMainFrame().catch(() => location.replace("/"));
