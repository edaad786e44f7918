// What stands around every page: the mark, the skip link, the switches for language and appearance, and the start of a
// page. The switches are also the only place where a preference changes.

import { signal } from "@preact/signals";
import { render, type ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { keepTheme, readTheme, type Theme } from "./preference.ts";
import { chooseLanguage, lang, startLang, t } from "./text.ts";

const theme = signal<Theme>("auto");

export function start(page: () => ComponentChildren): void {
  startLang();
  theme.value = readTheme();
  const place = document.getElementById("page");
  if (place === null) throw new Error("the page has no #page");
  const Page = page;
  render(<Page />, place);
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
      <path class="mark-key" d="M13.9 1.2h4.2l-.7 6.3h-2.8z" />
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
        <button type="button" lang={code} aria-pressed={lang.value === code} aria-label={t(`app.language.${code}`)} onClick={() => chooseLanguage(code)}>
          {code.toUpperCase()}
        </button>
      ))}
    </div>
  );
}

const themes: readonly Theme[] = ["auto", "light", "dark"];

function ThemeSwitch() {
  const next = themes[(themes.indexOf(theme.value) + 1) % themes.length] ?? "auto";
  const choose = () => {
    keepTheme(next);
    theme.value = next;
  };
  const label = `${t("app.theme")}: ${t(`app.theme.${theme.value}`)}`;
  return (
    <button type="button" class="icon-button" onClick={choose} aria-label={label} title={label}>
      <Icon name={theme.value} />
    </button>
  );
}

/** On a narrow screen its children hide behind a button; on a wide one they simply stand in the header. */
export function Menu({ children }: { children: ComponentChildren }) {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    const away = (event: Event) => {
      if (!box.current?.contains(event.target as Node)) setOpen(false);
    };
    const escape = (event: KeyboardEvent) => {
      if (event.key !== "Escape") return;
      setOpen(false);
      box.current?.querySelector("button")?.focus();
    };
    document.addEventListener("pointerdown", away);
    document.addEventListener("focusin", away);
    document.addEventListener("keydown", escape);
    return () => {
      document.removeEventListener("pointerdown", away);
      document.removeEventListener("focusin", away);
      document.removeEventListener("keydown", escape);
    };
  }, [open]);
  return (
    <div class="menu" ref={box}>
      <button type="button" class="icon-button menu-button" aria-expanded={open} aria-controls="menu-panel" aria-label={t("app.menu")} onClick={() => setOpen(!open)}>
        <Icon name="menu" />
      </button>
      <div id="menu-panel" class={open ? "menu-panel open" : "menu-panel"}>{children}</div>
    </div>
  );
}

const shapes = {
  auto: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  light: "M12 7.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM12 2v2.5M12 19.5V22M2 12h2.5M19.5 12H22M4.9 4.9l1.8 1.8M17.3 17.3l1.8 1.8M4.9 19.1l1.8-1.8M17.3 6.7l1.8-1.8",
  dark: "M20 14.2A8.2 8.2 0 0 1 9.8 4 8.2 8.2 0 1 0 20 14.2z",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6L6 18",
  chevron: "M8 5l7 7-7 7",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  down: "M12 5v14M6 13l6 6 6-6",
  out: "M14 4h5v16h-5M4 12h10M10 8l4 4-4 4",
  bell: "M6 17h12l-1.5-2.5V11a4.5 4.5 0 0 0-9 0v3.5zM10.5 20h3",
  tool: "M5 19l7-7M14.5 4.5a4.5 4.5 0 0 0 5 6L12 12l-.5-2.5zM4 20l2-2",
  terminal: "M5 7l5 5-5 5M12 17h7",
  file: "M7 3h7l4 4v14H7zM14 3v4h4",
  globe: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM3 12h18M12 3c3 3 3 15 0 18M12 3c-3 3-3 15 0 18",
  check: "M5 12.5l4.5 4.5L19 7.5",
  warn: "M12 4l9 16H3zM12 10v4.5M12 17.2v.3",
} as const;

export type IconName = keyof typeof shapes;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class={`icon icon-${name}`} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={shapes[name]} />
    </svg>
  );
}
