// The live picture of the fleet: an event stream that comes back by itself. The picture that was last seen stays on the
// page with its time while there is no connection; a session that has ended leads back to the log-in.

import { signal } from "@preact/signals";
import { backoffMs } from "../core/backoff.ts";
import { read } from "../core/door.ts";
import type { Fleet } from "../core/wire.ts";

export const fleet = signal<Fleet | null>(null);
export const lost = signal<{ since_ms: number } | null>(null);
export const connected = signal(false);
/** The hub's time, advanced by this browser's clock: ages must not depend on how well that clock is set. */
export const now = signal(Date.now());

let skew_ms = 0;
let seen_ms = 0;
let attempt = 0;
let stream: EventSource | null = null;
let timer: ReturnType<typeof setTimeout> | undefined;

export function startLive(): void {
  setInterval(() => (now.value = Date.now() + skew_ms), 1_000);
  addEventListener("online", retryNow);
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible" && !connected.value) retryNow();
  });
  connect();
}

export function lastSeen(): number {
  return seen_ms;
}

function retryNow(): void {
  attempt = 0;
  connect();
}

function connect(): void {
  clearTimeout(timer);
  stream?.close();
  const source = new EventSource("/api/live");
  stream = source;
  source.addEventListener("open", () => {
    if (stream !== source) return;
    attempt = 0;
    connected.value = true;
    lost.value = null;
  });
  source.addEventListener("fleet", (event) => {
    if (stream === source) take((event as MessageEvent<string>).data);
  });
  source.addEventListener("error", () => {
    if (stream === source) lose();
  });
}

function take(data: string): void {
  const next = JSON.parse(data) as Fleet;
  const before = fleet.peek();
  // A hub that was restarted may count from the beginning; its clock still says which picture is newer.
  if (before !== null && next.revision < before.revision && next.now_ms < before.now_ms) return;
  skew_ms = next.now_ms - Date.now();
  seen_ms = Date.now();
  now.value = next.now_ms;
  fleet.value = next;
}

// The browser would retry too, but neither with a growing pause nor after a refusal.
function lose(): void {
  stream?.close();
  stream = null;
  connected.value = false;
  lost.value ??= { since_ms: Date.now() };
  timer = setTimeout(() => void again(), backoffMs(attempt++, Math.random()));
}

async function again(): Promise<void> {
  const answer = await read<Fleet>("/api/fleet");
  if (!answer.ok && answer.status === 401) location.replace("/login");
  else connect();
}
