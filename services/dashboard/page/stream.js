// The event stream. EventSource reconnects by itself after a broken connection, but gives up for good on an error
// status (such as 503, all places taken): then a new one is made.

const AGAIN_MS = 3000;
const KINDS = ["history", "traffic", "lead", "replicas", "decision", "forecast", "mesh", "gap"];

/** Call `onEvent(kind, data)` for each event and `onState("live" | "connecting" | "lost", text)` as it changes. */
export function connect(onEvent, onState) {
  const source = new EventSource("/stream");
  for (const kind of KINDS) {
    source.addEventListener(kind, (event) => {
      if (kind === "history") onState("live", "live");
      if (kind === "gap") onState("live", `live, ${JSON.parse(event.data).dropped} updates skipped`);
      else onEvent(kind, JSON.parse(event.data));
    });
  }
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) {
      onState("lost", "refused, trying again");
      setTimeout(() => connect(onEvent, onState), AGAIN_MS);
    } else {
      onState("connecting", "connection lost, reconnecting");
    }
  };
}
