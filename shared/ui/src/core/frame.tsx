// What stands around every page: the mark, the skip link, the switches for language and appearance, and the start of a
// page. The switches are also the only place where a preference changes.

import { Component, render, type ComponentChildren } from "preact";
import { keepTheme, readTheme, type Theme } from "./preference.ts";
import { lang, onLanguage, startLanguage, t, chooseLanguage } from "./text.ts";

export function start(Page: () => ComponentChildren): void {
  const place = document.getElementById("page");
  if (place === null) throw new Error("the page has no #page");
  const paint = () => render(<Page />, place);
  startLanguage();
  onLanguage(paint);
  paint();
}

export function SkipLink() {
  // The address keeps no fragment: on the first-visit page a fragment is a token.
  const jump = (event: Event) => {
    event.preventDefault();
    document.getElementById("main")?.focus();
  };
  return <a class="skip" href="#main" onClick={jump}>{t("app.skip")}</a>;
}

/** A gate: an arch with its keystone open. */
export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <path class="mark-wall" d="M3 29V15a13 13 0 0 1 26 0v14h-7V15.5a6 6 0 0 0-12 0V29z" />
      <path class="mark-key" d="M12.4 0h7.2l-1.3 9h-4.6z" />
    </svg>
  );
}

export function Wordmark() {
  return (
    <span class="wordmark">
      <Mark />
      <span>{t("app.name")}</span>
    </span>
  );
}

export function Switches() {
  return (
    <div class="switches">
      <LanguageSwitch />
      <ThemeSwitch />
    </div>
  );
}

function LanguageSwitch() {
  return (
    <div class="segments" role="group" aria-label={t("app.language")}>
      {(["de", "en"] as const).map((code) => (
        <button type="button" lang={code} aria-pressed={lang.value === code} onClick={() => chooseLanguage(code)}>
          {code.toUpperCase()}
          <span class="unseen"> {t(`app.language.${code}`)}</span>
        </button>
      ))}
    </div>
  );
}

const themes = {
  auto: { next: "light", path: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 3v18a9 9 0 0 0 0-18z" },
  light: { next: "dark", path: "M12 7.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM12 2v2.5M12 19.5V22M2 12h2.5M19.5 12H22M4.9 4.9l1.8 1.8M17.3 17.3l1.8 1.8M4.9 19.1l1.8-1.8M17.3 6.7l1.8-1.8" },
  dark: { next: "auto", path: "M20 14.2A8.2 8.2 0 0 1 9.8 4 8.2 8.2 0 1 0 20 14.2z" },
} as const;

// A class, because hooks would be a tenth of what the pages in front of the gate weigh.
class ThemeSwitch extends Component<object, { theme: Theme }> {
  override state = { theme: readTheme() };

  override render() {
    const { theme } = this.state;
    const { next, path } = themes[theme];
    const choose = () => {
      keepTheme(next);
      this.setState({ theme: next });
    };
    const label = `${t("app.theme")}: ${t(`app.theme.${theme}`)}`;
    return (
      <button type="button" class="icon-button" onClick={choose} aria-label={label} title={label}>
        <Glyph name={theme} path={path} />
      </button>
    );
  }
}

export function Glyph({ name, path }: { name: string; path: string }) {
  return (
    <svg class={`icon icon-${name}`} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={path} />
    </svg>
  );
}
