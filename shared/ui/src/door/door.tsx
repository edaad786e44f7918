// The pages in front of the gate: log in, the owner's first visit, and the operator's log-in. One small bundle, because
// they share the same form and are opened by people who have nothing cached yet.

import { start, SkipLink, Switches, Wordmark } from "../core/frame.tsx";
import { t, type Key } from "../core/text.ts";
import { FirstPage } from "./first.tsx";
import { LoginPage, OperatorLoginPage } from "./login.tsx";

const pages = {
  login: { Page: LoginPage, title: "login.page_title" },
  first: { Page: FirstPage, title: "first.page_title" },
  "operator-login": { Page: OperatorLoginPage, title: "operator_login.page_title" },
} as const satisfies Record<string, { Page: unknown; title: Key }>;

const asked = document.documentElement.dataset["page"] ?? "";
const { Page, title } = asked in pages ? pages[asked as keyof typeof pages] : pages.login;

start(function Door() {
  document.title = t(title);
  return (
    <>
      <SkipLink />
      <header class="door-header">
        <Wordmark />
        <Switches />
      </header>
      <main id="main" class="door" tabIndex={-1}>
        <Page />
      </main>
    </>
  );
});
