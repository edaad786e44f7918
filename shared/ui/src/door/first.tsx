// The owner's first visit, by a link that works once. The token arrives as the fragment of the address and is taken out
// of it before anything else happens, so that neither history nor a shared screen keeps it; it lives in this page only.

import { useState } from "preact/hooks";
import { chooseLanguage, count, lang, t } from "../core/text.ts";
import { DoorForm, Field, PasswordField } from "./form.tsx";

const shortestPassword = 10;

const token = takeToken();

function takeToken(): string {
  if (document.documentElement.dataset["page"] !== "first") return "";
  const found = location.hash.slice(1);
  if (found !== "") history.replaceState(null, "", location.pathname);
  return found;
}

export function FirstPage() {
  return token === "" ? <NoToken /> : <FirstForm />;
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

function FirstForm() {
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [again, setAgain] = useState("");
  const length = [...password].length;
  const check = () => {
    if (name.trim() === "" || [...name.trim()].length > 64) return t("error.name_invalid");
    if (length < shortestPassword) return t("error.password_weak");
    return password === again ? null : t("first.mismatch");
  };
  const strength = length === 0 ? t("first.password_hint") : length < shortestPassword ? count("first.password_short", shortestPassword - length) : t("first.password_good");
  return (
    <>
      <h1>{t("first.title")}</h1>
      <p class="intro">{t("first.intro")}</p>
      <DoorForm path="/auth/first" body={() => ({ token, name: name.trim(), password, lang: lang.value })} check={check} submit={t("first.submit")} busy={t("first.busy")}>
        <Field label={t("first.name")} hint={t("first.name_hint")}>
          {(ids) => <input {...ids} type="text" autocomplete="username" spellcheck={false} required value={name} onInput={(event) => setName(event.currentTarget.value)} />}
        </Field>
        <PasswordField label={t("first.password")} hint={strength} value={password} onValue={setPassword} autocomplete="new-password" />
        <PasswordField label={t("first.password_again")} value={again} onValue={setAgain} autocomplete="new-password" />
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
