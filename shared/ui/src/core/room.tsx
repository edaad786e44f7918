// What the pages behind the gate have and those in front of it need not: views that follow signals, the set of icons,
// sentences with code in them, and the menu in the header.

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Glyph, start } from "./frame.tsx";
import type { Lang } from "./preference.ts";
import { keepLanguageIn, t } from "./text.ts";

export function startRoom(Page: () => ComponentChildren): void {
  keepLanguageIn(signal<Lang>("de"));
  start(Page);
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
  spark: "M12 7.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM12 2v2.5M12 19.5V22M2 12h2.5M19.5 12H22M4.9 4.9l1.8 1.8M17.3 17.3l1.8 1.8M4.9 19.1l1.8-1.8M17.3 6.7l1.8-1.8",
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
  key: "M8 10a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM11 11.5L20 4M16.5 7l2.5 3",
  gauge: "M4 17a8.5 8.5 0 1 1 16 0M12 15l4-6",
  locked: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  unlocked: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 6.8-1.2",
  check: "M5 12.5l4.5 4.5L19 7.5",
  warn: "M12 4l9 16H3zM12 10v4.5M12 17.2v.3",
} as const;

/** A sentence of the catalogue or of a rule; what stands between backticks is code. */
export function Words({ text }: { text: string }) {
  return <>{text.split("`").map((part, index) => (index % 2 === 1 ? <code>{part}</code> : part))}</>;
}

/** The same where there is no place for marks. */
export function plain(text: string): string {
  return text.replaceAll("`", "");
}

export type IconName = keyof typeof shapes;

export function Icon({ name }: { name: IconName }) {
  return <Glyph name={name} path={shapes[name]} />;
}
