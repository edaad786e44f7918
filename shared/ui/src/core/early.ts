// Runs before the first paint, as a small blocking script: sets language and appearance, so that nothing flashes.

import { readLang, readTheme, showLang, showTheme } from "./preference.ts";

showLang(readLang());
showTheme(readTheme());
