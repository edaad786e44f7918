// The owner's first visit, by a link that works once. The token arrives as the fragment of the address and is taken out
// of it before anything else happens, so that neither history nor a shared screen keeps it; it lives in this page only.
// The browser makes a key of its own, which comes in with its owner.

import { Component } from "preact";
import { chooseLanguage, count, lang, t } from "../core/text.ts";
import { candidate, canSign, keep, makeKey, type Candidate } from "../core/signing.ts";
import type { Person } from "../core/wire.ts";
import { startDoor } from "./frame.tsx";
import { DoorForm, NameField, PasswordField, type Values } from "./form.tsx";

const shortestPassword = 10;
const longestName = 64;

const token = takeToken();

function takeToken(): string {
  const found = location.hash.slice(1);
  if (found !== "") history.replaceState(null, "", location.pathname);
  return found;
}

let pair: CryptoKeyPair | null = null;

/** This browser's own key comes in with its owner, where the browser can keep one. */
async function withKey(): Promise<{ device?: Candidate }> {
  if (!canSign()) return {};
  pair = await makeKey();
  return { device: await candidate(pair, token) };
}

async function keepKey(answer: unknown): Promise<void> {
  const { person, device } = answer as { person: Person; device?: string | null };
  if (pair !== null && device != null) await keep({ person: person.id, device, key: pair.privateKey });
}

function NoToken() {
  return (
    <>
      <h1>{t("first.no_token.title")}</h1>
      <p class="intro">{t("first.no_token.text")}</p>
      <p><a href="/login">{t("first.to_login")}</a></p>
    </>
  );
}

class FirstForm extends Component<object, { length: number }> {
  override state = { length: 0 };

  override render() {
    const { length } = this.state;
    const missing = shortestPassword - length;
    const strength = length === 0 ? t("first.password_hint") : missing > 0 ? count("first.password_short", missing) : t("first.password_good");
    return (
      <>
        <h1>{t("first.title")}</h1>
        <p class="intro">{t("first.intro")}</p>
        <DoorForm
          path="/auth/first" check={check} submit={t("first.submit")} busy={t("first.busy")}
          body={async (values) => ({ token, name: values("name").trim(), password: values("password"), lang: lang.value, ...(await withKey()) })}
          done={keepKey}
        >
          <NameField label={t("first.name")} hint={t("first.name_hint")} />
          <PasswordField name="password" label={t("first.password")} hint={strength} autocomplete="new-password" onLength={(length) => this.setState({ length })} />
          <PasswordField name="again" label={t("first.password_again")} autocomplete="new-password" />
          <fieldset class="field">
            <legend>{t("first.language")}</legend>
            <div class="choices">
              {(["de", "en"] as const).map((code) => (
                <label lang={code}>
                  <input type="radio" name="lang" value={code} checked={lang.value === code} onChange={() => chooseLanguage(code)} />
                  {t(`app.language.${code}`)}
                </label>
              ))}
            </div>
          </fieldset>
        </DoorForm>
      </>
    );
  }
}

function check(values: Values): string | null {
  const name = [...values("name").trim()];
  if (name.length === 0 || name.length > longestName) return t("error.name_invalid");
  if ([...values("password")].length < shortestPassword) return t("error.password_weak");
  return values("password") === values("again") ? null : t("first.mismatch");
}

startDoor("first.page_title", () => (token === "" ? <NoToken /> : <FirstForm />));
