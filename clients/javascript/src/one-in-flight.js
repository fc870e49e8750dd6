// Concurrent calls share one request. It is aborted once every caller has aborted.

import { onAbort, reasonOf } from "./abort.js";

export function oneInFlight(start) {
  let current = null;

  function take() {
    const controller = new AbortController();
    const flight = { controller, waiting: 0, result: start(controller.signal) };
    const land = () => {
      if (current === flight) current = null;
    };
    flight.result.then(land, land);
    return flight;
  }

  function leave(flight) {
    flight.waiting -= 1;
    if (flight.waiting > 0) return;
    if (current === flight) current = null; // new callers must not join a request that is being aborted
    flight.controller.abort();
  }

  return async (abortSignal) => {
    if (abortSignal?.aborted) throw reasonOf(abortSignal);
    if (!current) current = take();
    const flight = current;
    flight.waiting += 1;
    let forget;
    const aborted = new Promise((_, reject) => {
      if (abortSignal) forget = onAbort(abortSignal, reject);
    });
    try {
      return await Promise.race([flight.result, aborted]);
    } finally {
      forget?.();
      leave(flight);
    }
  };
}
