// Log-in of a person (name and password) and of an operator (a password that works once).

import { t } from "../core/text.ts";
import { DoorForm, NameField, PasswordField, reasonFor } from "./form.tsx";

export function LoginPage() {
  return (
    <>
      <h1>{t("login.title")}</h1>
      <p class="intro">{t("login.intro")}</p>
      <DoorForm path="/auth/login" body={(values) => ({ name: values("name").trim(), password: values("password") })} submit={t("login.submit")} busy={t("login.busy")}>
        <NameField label={t("login.name")} />
        <PasswordField name="password" label={t("login.password")} autocomplete="current-password" />
      </DoorForm>
      <p class="hint after">{t("login.help")}</p>
    </>
  );
}

export function OperatorLoginPage() {
  return (
    <>
      <h1>{t("operator_login.title")}</h1>
      <p class="intro">{t("operator_login.intro")}</p>
      <DoorForm
        path="/auth/login"
        body={(values) => ({ password: values("password").trim() })}
        reason={(refusal) => (refusal.code === "login_wrong" ? t("error.login_wrong_operator") : reasonFor(refusal))}
        submit={t("login.submit")}
        busy={t("login.busy")}
      >
        <PasswordField name="password" label={t("operator_login.password")} autocomplete="off" />
      </DoorForm>
    </>
  );
}
