/** The part of `AbortSignal` that is used; that of `@azure/abort-controller` fits too. */
export interface AbortSignalLike {
  readonly aborted: boolean;
  addEventListener(type: "abort", listener: (this: AbortSignalLike, event: any) => any, options?: any): void;
  removeEventListener(type: "abort", listener: (this: AbortSignalLike, event: any) => any, options?: any): void;
}

/**
 * Resolves to an access token of Communication Services, a bare JWT. Rejects with a `TokenRequestError`, with what
 * `getAccessToken` rejected with, or with the signal's reason. Calls at the same time share one request; a caller who
 * aborts leaves the others waiting.
 */
export type TokenRefresher = (abortSignal?: AbortSignalLike) => Promise<string>;

export interface ServiceOptions {
  /** Origin of the trusted service. Default: the origin of this page. */
  serviceUrl?: string | URL;
  /**
   * Resolves to an Entra ID access token for the service; without it, the cookie of a session says who asks.
   * `forceRefresh` is true, once per request, after the service refused the token that it got before.
   */
  getAccessToken?: (abortSignal: AbortSignal, options: { forceRefresh: boolean }) => Promise<string> | string;
  /** Called once for each request that ends because the person has to sign in: `error.status` is 401. */
  onSignInRequired?: (error: TokenRequestError) => void;
  /** Used instead of the global `fetch`. */
  fetch?: (url: string, init: RequestInit) => Promise<Response>;
}

export interface TokenRefresherOptions extends ServiceOptions {
  /** Scopes of the token, from those that the service allows. Default: all of them. */
  scopes?: readonly TokenScope[];
  /** 60 to 1440, at most what the service allows. Default: what the service allows. */
  expiresInMinutes?: number;
}

export type TokenScope = "chat" | "voip" | "chat.join" | "chat.join.limited" | "voip.join";

export interface TeamsTokenRefresherOptions extends ServiceOptions {
  /** Resolves to the caller's own Entra ID access token with the Teams scopes of Communication Services. */
  getTeamsUserAadToken: (abortSignal: AbortSignal) => Promise<string> | string;
}

/** Makes the `tokenRefresher` of an `AzureCommunicationTokenCredential`. */
export function createTokenRefresher(options?: TokenRefresherOptions): TokenRefresher;

/** The same for the tokens of a person's Teams account. */
export function createTeamsTokenRefresher(options: TeamsTokenRefresherOptions): TokenRefresher;

/** Why there is no token. */
export class TokenRequestError extends Error {
  constructor(
    message: string,
    members?: Partial<Pick<TokenRequestError, "status" | "code" | "requestId" | "retryAfter" | "cause">>,
  );
  /** Status of the answer; null where none came. */
  readonly status: number | null;
  /** The service's word for it, `not_signed_in` say; `user_changed` where somebody else has signed in in this browser. */
  readonly code: string | null;
  /** Stands in the service's log, too. */
  readonly requestId: string | null;
  /** Seconds after which it is worth another try. */
  readonly retryAfter: number | null;
}
