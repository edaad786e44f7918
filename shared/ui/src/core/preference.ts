// What a person chose for this browser: language and appearance. Only these two are kept in localStorage; nothing that
// opens a door ever is. Used twice: by `early.ts` before the first paint and by the pages.

export type Lang = "de" | "en";
export type Theme = "auto" | "light" | "dark";

const langKey = "gatehouse.lang";
const themeKey = "gatehouse.theme";

/** German unless the person chose otherwise or the browser asks for English before German. */
export function chooseLang(stored: string | null, wanted: readonly string[]): Lang {
  if (stored === "de" || stored === "en") return stored;
  for (const tag of wanted) {
    const base = tag.toLowerCase().split("-")[0];
    if (base === "de" || base === "en") return base;
  }
  return "de";
}

export function chooseTheme(stored: string | null): Theme {
  return stored === "light" || stored === "dark" ? stored : "auto";
}

export function readLang(): Lang {
  return chooseLang(stored(langKey), navigator.languages);
}

export function readTheme(): Theme {
  return chooseTheme(stored(themeKey));
}

export function keepLang(lang: Lang): void {
  keep(langKey, lang);
  showLang(lang);
}

export function keepTheme(theme: Theme): void {
  keep(themeKey, theme);
  showTheme(theme);
}

export function showLang(lang: Lang): void {
  document.documentElement.lang = lang;
}

export function showTheme(theme: Theme): void {
  document.documentElement.dataset["theme"] = theme;
}

// Storage can be switched off by the person; a preference that is forgotten is no reason to fail.
function stored(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function keep(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    return;
  }
}
