// Requests of the pages over plain HTTP: one place that knows the error shape, the deadline and the language header.

import { lang } from "./text.ts";

export type Answer<Body> =
  | { ok: true; body: Body }
  | { ok: false; status: number; code: string; message: string; retry_secs: number | null };

const deadlineMs = 20_000;

export function post<Body>(path: string, body: unknown): Promise<Answer<Body>> {
  return ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}

export function read<Body>(path: string): Promise<Answer<Body>> {
  return ask(path, { method: "GET" });
}

async function ask<Body>(path: string, init: RequestInit): Promise<Answer<Body>> {
  let response: Response;
  try {
    response = await fetch(path, {
      ...init,
      headers: { ...(init.headers as Record<string, string>), "accept-language": lang.value },
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.timeout(deadlineMs),
    });
  } catch (failure) {
    const code = failure instanceof DOMException && failure.name === "TimeoutError" ? "timeout" : "network";
    return { ok: false, status: 0, code, message: "", retry_secs: null };
  }
  const json: unknown = response.status === 204 ? null : await response.json().catch(() => null);
  if (response.ok) return { ok: true, body: json as Body };
  const error = (json as { error?: { code?: unknown; message?: unknown } } | null)?.error;
  const retry = Number(response.headers.get("retry-after"));
  return {
    ok: false,
    status: response.status,
    code: typeof error?.code === "string" ? error.code : `http_${response.status}`,
    message: typeof error?.message === "string" ? error.message : "",
    retry_secs: Number.isFinite(retry) && retry > 0 ? Math.ceil(retry) : null,
  };
}
