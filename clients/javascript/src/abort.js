// What an abort signal offers in recent browsers only: neither Azure's AbortSignalLike nor React Native has a reason.

export function reasonOf(signal) {
  // Not a DOMException, which React Native lacks.
  return signal.reason ?? Object.assign(new Error("The token request was aborted"), { name: "AbortError" });
}

// Calls the listener with the reason, at once if the signal is aborted already; returns a function that removes it.
export function onAbort(signal, listener) {
  const onEvent = () => listener(reasonOf(signal));
  signal.addEventListener("abort", onEvent);
  if (signal.aborted) onEvent();
  return () => signal.removeEventListener("abort", onEvent);
}
