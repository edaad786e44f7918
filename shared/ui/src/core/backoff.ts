// How long to wait before the next attempt: doubling from half a second to fifteen, with half of it drawn, so that many
// pages that lost one server do not come back in one wave.

export const firstMs = 500;
export const longestMs = 15_000;

/** `attempt` counts from 0; `drawn` is a number in [0, 1). */
export function backoffMs(attempt: number, drawn: number): number {
  const ceiling = Math.min(longestMs, firstMs * 2 ** Math.min(attempt, 10));
  return Math.round(ceiling * (0.5 + drawn / 2));
}
