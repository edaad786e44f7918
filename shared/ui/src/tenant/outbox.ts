// Messages on their way: kept in sessionStorage until the history shows them, so that neither a reload nor a dropped
// connection loses one; the idempotency key makes a second sending harmless. An outbox belongs to one person, because
// the next one to log in in the same tab must not send it. Limits: `mostItems` waiting, `mostBytes` in one message.

export interface Item {
  key: string;
  text: string;
  state: "sending" | "sent" | "failed";
  created_ms: number;
  /** When the server acknowledged it; the history may show it only a little later. */
  sent_ms: number | null;
  /** The code of what went wrong. */
  error: string | null;
}

export interface Shelf {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

export const mostItems = 20;
export const mostBytes = 200_000; // a frame may have 256 KiB, and JSON may need more bytes than the text
export const confirmMs = 30_000;

export function add(items: readonly Item[], key: string, text: string, now_ms: number): Item[] {
  return [...items, { key, text, state: "sending", created_ms: now_ms, sent_ms: null, error: null }];
}

export function acknowledged(items: readonly Item[], key: string, now_ms: number): Item[] {
  return change(items, key, { state: "sent", sent_ms: now_ms, error: null });
}

/** Some failures pass by themselves; such a message goes on waiting. */
export function refused(items: readonly Item[], key: string, code: string): Item[] {
  const passing = code === "link_lost" || code === "timeout" || code === "gateway_not_ready";
  return change(items, key, passing ? { state: "sending", error: code } : { state: "failed", error: code });
}

export function retried(items: readonly Item[], key: string): Item[] {
  return change(items, key, { state: "sending", error: null });
}

export function removed(items: readonly Item[], key: string): Item[] {
  return items.filter((item) => item.key !== key);
}

/** After the history was read: what it shows has arrived; what was acknowledged long ago and is not there, has not. */
export function reconciled(items: readonly Item[], shown: ReadonlySet<string>, running: string | null, now_ms: number): Item[] {
  return items
    .filter((item) => !shown.has(item.key))
    .map((item) => {
      const late = item.state === "sent" && item.key !== running && now_ms - (item.sent_ms ?? now_ms) >= confirmMs;
      return late ? { ...item, state: "failed", error: "not_confirmed" } : item;
    });
}

export function load(shelf: Shelf, person: string): Item[] {
  try {
    const kept = JSON.parse(shelf.getItem("gatehouse.outbox") ?? "null") as { person?: string; items?: Item[] } | null;
    return kept?.person === person && Array.isArray(kept.items) ? kept.items.slice(-mostItems) : [];
  } catch {
    return [];
  }
}

export function keep(shelf: Shelf, person: string, items: readonly Item[]): void {
  try {
    shelf.setItem("gatehouse.outbox", JSON.stringify({ person, items: items.slice(-mostItems) }));
  } catch {
    return; // storage is full or switched off: the message still goes out, only a reload would lose it
  }
}

function change(items: readonly Item[], key: string, to: Partial<Item>): Item[] {
  return items.map((item) => (item.key === key ? { ...item, ...to } : item));
}
