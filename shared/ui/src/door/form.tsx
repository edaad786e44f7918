// The form of the door pages: labelled fields, one button, and the error next to it, spoken at once. Sending is refused
// while one is under way, so that an impatient second click does not use up a one-time password. The fields keep their
// own values; they are read when the form is sent.

import { Component, type ComponentChildren } from "preact";
import { post, type Answer } from "../core/door.ts";
import { count, t } from "../core/text.ts";

export type Refusal = Extract<Answer<unknown>, { ok: false }>;
export type Values = (name: string) => string;

interface FormProps {
  path: string;
  body: (values: Values) => unknown;
  /** What is left to do once the server has taken it. */
  done?: (answer: unknown) => Promise<void>;
  check?: (values: Values) => string | null;
  reason?: (refusal: Refusal) => string;
  submit: string;
  busy: string;
  children: ComponentChildren;
}

/** The server answers in the language that the request asked for, so its own sentence is the one to show. */
export function reasonFor({ code, message, retry_secs }: Refusal): string {
  if (code === "network") return t("error.network");
  if (code === "timeout") return t("error.timeout");
  if (code === "login_limited" && retry_secs !== null) return count("login.limited", Math.ceil(retry_secs / 60));
  return message !== "" ? message : t("error.unknown", { code });
}

export class DoorForm extends Component<FormProps, { error: string; turn: number; sending: boolean }> {
  override state = { error: "", turn: 0, sending: false };

  override render({ submit, busy, children }: FormProps) {
    const { error, turn, sending } = this.state;
    return (
      <form class="door-form" method="post" noValidate onSubmit={(event) => void this.send(event)}>
        {children}
        <div role="alert" class="alert-place">{error !== "" && <p class="alert" key={turn}>{error}</p>}</div>
        <button type="submit" class="primary wide" aria-disabled={sending}>{sending ? busy : submit}</button>
      </form>
    );
  }

  private async send(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    if (this.state.sending) return;
    const { path, body, check, done, reason = reasonFor } = this.props;
    const form = event.currentTarget as HTMLFormElement;
    const values: Values = (name) => String(new FormData(form).get(name) ?? "");
    const wrong = check?.(values) ?? null;
    if (wrong !== null) return this.fail(wrong);
    this.setState({ sending: true });
    const answer = await post(path, await body(values));
    if (answer.ok) {
      await done?.(answer.body);
      return location.replace("/");
    }
    this.fail(reason(answer));
    form.querySelector<HTMLInputElement>(".password input")?.focus();
  }

  // The same error twice is a new paragraph, so that it is spoken twice.
  private fail(error: string): void {
    this.setState({ error, turn: this.state.turn + 1, sending: false });
  }
}

export function NameField({ label, hint }: { label: string; hint?: string }) {
  return (
    <div class="field">
      <label for="name">{label}</label>
      <input id="name" name="name" type="text" autocomplete="username" autocapitalize="none" spellcheck={false} required aria-describedby={hint && "name-hint"} />
      {hint && <p id="name-hint" class="hint">{hint}</p>}
    </div>
  );
}

interface PasswordProps {
  name: string;
  label: string;
  autocomplete: string;
  hint?: string;
  onLength?: (length: number) => void;
}

export class PasswordField extends Component<PasswordProps, { shown: boolean }> {
  override state = { shown: false };

  override render({ name, label, autocomplete, hint, onLength }: PasswordProps) {
    const { shown } = this.state;
    const type = (shown ? "text" : "password") as "text"; // the element's types do not allow a choice
    return (
      <div class="field">
        <label for={name}>{label}</label>
        <div class="password">
          <input
            id={name} name={name} type={type} autocomplete={autocomplete} autocapitalize="none" spellcheck={false} required aria-describedby={hint && `${name}-hint`}
            onInput={(event) => onLength?.([...event.currentTarget.value].length)}
          />
          <button type="button" class="quiet" aria-label={shown ? t("login.hide_password") : t("login.show_password")} onClick={() => this.setState({ shown: !shown })}>
            {shown ? t("login.hide") : t("login.show")}
          </button>
        </div>
        {hint && <p id={`${name}-hint`} class="hint">{hint}</p>}
      </div>
    );
  }
}
