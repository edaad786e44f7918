// Log-in of persons and of operators: one small bundle, opened by people who have nothing cached yet.

import { startDoor } from "./frame.tsx";
import { LoginPage, OperatorLoginPage } from "./login.tsx";

if (document.documentElement.dataset["page"] === "operator-login") startDoor("operator_login.page_title", OperatorLoginPage);
else startDoor("login.page_title", LoginPage);
