/** The part of `AbortSignal` that the client uses; the one of `@azure/abort-controller` fits, too. */
export interface AbortSignalLike {
  readonly aborted: boolean;
  addEventListener(type: "abort", listener: (this: AbortSignalLike, event: any) => any, options?: any): void;
  removeEventListener(type: "abort", listener: (this: AbortSignalLike, event: any) => any, options?: any): void;
}

/**
 * Resolves to an access token of Communication Services: to the bare token where you call it, and to an
 * `AccessToken` where the credential of `@azure/communication-common` 2.5 or newer does. Rejects with a `TokenRequestError`, with the
 * rejection of `getAccessToken`, or with the signal's reason. Concurrent calls share one request; aborting one of them
 * does not affect the others.
 */
export type TokenRefresher = (abortSignal?: AbortSignalLike) => Promise<string>;

/** A token and its end in milliseconds since 1970, as `@azure/communication-common` takes it since version 2.5. */
export interface AccessToken {
  token: string;
  expiresOnTimestamp: number;
}

export type AccessTokenRefresher = (abortSignal?: AbortSignalLike) => Promise<AccessToken>;

export interface ServiceOptions {
  /** Origin of the trusted service. Default: the origin of this page. Anything else is a `TypeError`. */
  serviceUrl?: string | URL;
  /**
   * Resolves to an Entra ID access token for the service. Without it, the session cookie authenticates the caller.
   * `forceRefresh` is true, once per request, after the service refused the previous token.
   */
  getAccessToken?: (abortSignal: AbortSignal, options: { forceRefresh: boolean }) => Promise<string> | string;
  /** Called once for each request that fails because the user has to sign in: `error.status` is 401. */
  onSignInRequired?: (error: TokenRequestError) => void;
  /**
   * True: an `AccessToken`, whoever calls. False: the bare token. Default: what the calling credential takes. Say true
   * if a function of your own calls the refresher and passes the result to version 2.5 or newer.
   */
  withExpiry?: boolean;
  /** Used instead of the global `fetch`. */
  fetch?: (url: string, init: RequestInit) => Promise<Response>;
}

export interface TokenRefresherOptions extends ServiceOptions {
  /** Scopes of the token, from those that the service allows. Default: all of them. */
  scopes?: readonly TokenScope[];
  /** From 60 to the maximum that the service allows, which is at most 1440. Default: that maximum. */
  expiresInMinutes?: number;
}

export type TokenScope = "chat" | "voip" | "chat.join" | "chat.join.limited" | "voip.join";

export interface TeamsTokenRefresherOptions extends ServiceOptions {
  /** Resolves to the caller's own Entra ID access token with the Teams scopes of Communication Services. */
  getTeamsUserAadToken: (abortSignal: AbortSignal) => Promise<string> | string;
}

/** Creates the `tokenRefresher` of an `AzureCommunicationTokenCredential`. */
export function createTokenRefresher(options: TokenRefresherOptions & { withExpiry: true }): AccessTokenRefresher;
export function createTokenRefresher(options?: TokenRefresherOptions): TokenRefresher;

/** Creates the same for tokens of the user's Teams account. */
export function createTeamsTokenRefresher(
  options: TeamsTokenRefresherOptions & { withExpiry: true },
): AccessTokenRefresher;
export function createTeamsTokenRefresher(options: TeamsTokenRefresherOptions): TokenRefresher;

/** The reason why there is no token. */
export class TokenRequestError extends Error {
  constructor(
    message: string,
    members?: Partial<Pick<TokenRequestError, "status" | "code" | "requestId" | "retryAfter" | "cause">>,
  );
  /** Status of the response; null if there was none. */
  readonly status: number | null;
  /** The service's code, for example `not_signed_in`; `user_changed` if another user has signed in in this browser. */
  readonly code: string | null;
  /** Identifies the request in the service's log. */
  readonly requestId: string | null;
  /** Seconds to wait before another try. */
  readonly retryAfter: number | null;
}
