// The form of the door pages: labelled fields, one button, and the error next to it, spoken at once. Sending is refused
// while one is under way, so that an impatient second click does not use up a one-time password.

import type { ComponentChildren } from "preact";
import { useId, useRef, useState } from "preact/hooks";
import { post, type Answer } from "../core/door.ts";
import { t } from "../core/text.ts";

export type Refusal = Extract<Answer<unknown>, { ok: false }>;

const known = {
  network: "error.network",
  timeout: "error.timeout",
  login_wrong: "error.login_wrong",
  login_limited: "error.login_limited",
  first_link_spent: "error.first_link_spent",
  password_weak: "error.password_weak",
  name_invalid: "error.name_invalid",
  body_malformed: "error.body_malformed",
  body_too_large: "error.body_too_large",
  origin_foreign: "error.origin_foreign",
  host_unknown: "error.host_unknown",
  rate_limited: "error.rate_limited",
  unavailable: "error.unavailable",
  internal: "error.internal",
} as const;

export function reasonFor(refusal: Refusal): string {
  if (refusal.code === "login_limited" && refusal.retry_secs !== null) return t("error.login_limited_secs", { secs: refusal.retry_secs });
  if (refusal.code in known) return t(known[refusal.code as keyof typeof known]);
  return refusal.message !== "" ? refusal.message : t("error.unknown", { code: refusal.code });
}

export function DoorForm({ path, body, check, reason = reasonFor, submit, busy, children }: {
  path: string;
  body: () => unknown;
  check?: () => string | null;
  reason?: (refusal: Refusal) => string;
  submit: string;
  busy: string;
  children: ComponentChildren;
}) {
  const [error, setError] = useState<{ text: string; turn: number } | null>(null);
  const [sending, setSending] = useState(false);
  const form = useRef<HTMLFormElement>(null);
  const turn = useRef(0);
  const fail = (text: string) => setError({ text, turn: ++turn.current });
  const send = async (event: Event) => {
    event.preventDefault();
    if (sending) return;
    const wrong = check?.() ?? null;
    if (wrong !== null) return fail(wrong);
    setSending(true);
    const answer = await post(path, body());
    if (answer.ok) return location.replace("/");
    setSending(false);
    fail(reason(answer));
    form.current?.querySelector<HTMLInputElement>("input[type=password], input[data-secret]")?.focus();
  };
  return (
    <form ref={form} class="door-form" method="post" noValidate onSubmit={send}>
      {children}
      <div role="alert" class="alert-place">{error !== null && <p class="alert" key={error.turn}>{error.text}</p>}</div>
      <button type="submit" class="primary wide" aria-disabled={sending}>{sending ? busy : submit}</button>
    </form>
  );
}

export function Field({ label, hint, children }: { label: string; hint?: ComponentChildren; children: (ids: { id: string; "aria-describedby"?: string }) => ComponentChildren }) {
  const id = useId();
  const hintId = `${id}-hint`;
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children(hint === undefined ? { id } : { id, "aria-describedby": hintId })}
      {hint !== undefined && <p id={hintId} class="hint">{hint}</p>}
    </div>
  );
}

export function PasswordField({ label, hint, value, onValue, autocomplete }: {
  label: string;
  hint?: ComponentChildren;
  value: string;
  onValue: (value: string) => void;
  autocomplete: string;
}) {
  const [shown, setShown] = useState(false);
  return (
    <Field label={label} hint={hint}>
      {(ids) => (
        <div class="password">
          <input {...ids} type={shown ? "text" : "password"} data-secret autocomplete={autocomplete} spellcheck={false} autocapitalize="none" required value={value} onInput={(event) => onValue(event.currentTarget.value)} />
          <button type="button" class="quiet" aria-label={shown ? t("login.hide_password") : t("login.show_password")} onClick={() => setShown(!shown)}>
            {shown ? t("login.hide") : t("login.show")}
          </button>
        </div>
      )}
    </Field>
  );
}
