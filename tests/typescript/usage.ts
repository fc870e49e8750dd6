// What users write, read by the compiler only. A line below `@ts-expect-error` must not compile.

import { AzureCommunicationTokenCredential } from "@azure/communication-common";
import {
  createTeamsTokenRefresher,
  createTokenRefresher,
  TokenRequestError,
  type TokenRefresherOptions,
} from "@trusted-service/client";

const options: TokenRefresherOptions = {
  serviceUrl: new URL("https://calls.contoso.com"),
  getAccessToken: async (abortSignal: AbortSignal, { forceRefresh }) => `${abortSignal.aborted} ${forceRefresh}`,
  scopes: ["chat", "voip"],
  expiresInMinutes: 60,
  onSignInRequired: ({ status, code, requestId, retryAfter }) => [status, code, requestId, retryAfter],
  fetch,
};
new AzureCommunicationTokenCredential({ tokenRefresher: createTokenRefresher(), refreshProactively: true });
new AzureCommunicationTokenCredential({ tokenRefresher: createTokenRefresher(options) });
new AzureCommunicationTokenCredential({
  tokenRefresher: createTeamsTokenRefresher({ getTeamsUserAadToken: () => "token", serviceUrl: "https://calls.contoso.com" }),
});

new AzureCommunicationTokenCredential({ tokenRefresher: createTokenRefresher({ ...options, withExpiry: true }) });
const { expiresOnTimestamp } = await createTeamsTokenRefresher({ getTeamsUserAadToken: () => "x", withExpiry: true })();
const token: string = await createTokenRefresher(options)(AbortSignal.timeout(1000));
const error = new TokenRequestError("why", { status: 503, retryAfter: 5 });
const retryAfter: number | null = error.retryAfter;
export { error, expiresOnTimestamp, retryAfter, token };

// @ts-expect-error a scope that there is not
createTokenRefresher({ scopes: ["video"] });
// @ts-expect-error an option that there is not
createTokenRefresher({ url: "https://calls.contoso.com" });
// @ts-expect-error the Teams token is not optional
createTeamsTokenRefresher({});
// @ts-expect-error a promise of a string
const wrong: number = await createTokenRefresher()();
// @ts-expect-error read-only
error.status = 200;
