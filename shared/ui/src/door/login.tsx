// Log-in of a person (name and password) and of an operator (a password that works once).

import { useState } from "preact/hooks";
import { t } from "../core/text.ts";
import { DoorForm, Field, PasswordField, reasonFor } from "./form.tsx";

export function LoginPage() {
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  return (
    <>
      <h1>{t("login.title")}</h1>
      <p class="intro">{t("login.intro")}</p>
      <DoorForm path="/auth/login" body={() => ({ name: name.trim(), password })} submit={t("login.submit")} busy={t("login.busy")}>
        <Field label={t("login.name")}>
          {(ids) => <input {...ids} type="text" autocomplete="username" autocapitalize="none" spellcheck={false} required value={name} onInput={(event) => setName(event.currentTarget.value)} />}
        </Field>
        <PasswordField label={t("login.password")} value={password} onValue={setPassword} autocomplete="current-password" />
      </DoorForm>
      <p class="hint after">{t("login.help")}</p>
    </>
  );
}

export function OperatorLoginPage() {
  const [password, setPassword] = useState("");
  return (
    <>
      <h1>{t("operator_login.title")}</h1>
      <p class="intro">{t("operator_login.intro")}</p>
      <DoorForm
        path="/auth/login"
        body={() => ({ password: password.trim() })}
        reason={(refusal) => (refusal.code === "login_wrong" ? t("error.login_wrong_operator") : reasonFor(refusal))}
        submit={t("login.submit")}
        busy={t("login.busy")}
      >
        <PasswordField label={t("operator_login.password")} value={password} onValue={setPassword} autocomplete="off" />
      </DoorForm>
    </>
  );
}
