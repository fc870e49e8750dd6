export class TokenRequestError extends Error {
  constructor(message, { status = null, code = null, requestId = null, retryAfter = null, cause } = {}) {
    super(message);
    if (cause !== undefined) this.cause = cause; // older browsers ignore it as an option
    this.name = "TokenRequestError";
    this.status = status;
    this.code = code;
    this.requestId = requestId;
    this.retryAfter = retryAfter;
  }
}
