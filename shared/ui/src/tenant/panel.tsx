// The panels of the tenant page: approvals, devices, levels and gates, templates, one at a time. Beside the conversation on a wide screen, above it on
// a narrow one; there the conversation behind it cannot be reached by Tab.

import { effect, signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Icon } from "../core/room.tsx";

export type PanelName = "inbox" | "devices" | "levels" | "templates";

export const panel = signal<PanelName | null>(null);

/** A button of the header opens its panel and closes it again. */
export function toggle(name: PanelName): void {
  if (panel.peek() === name) close();
  else panel.value = name;
}

export function open(name: PanelName): void {
  panel.value = name;
}

function close(): void {
  const name = panel.peek();
  panel.value = null;
  if (name !== null) document.getElementById(`${name}-button`)?.focus();
}

const query = matchMedia("(max-width: 63.99rem)");
const narrow = signal(query.matches);
query.addEventListener("change", () => { narrow.value = query.matches; });

effect(() => {
  const fenced = panel.value !== null && narrow.value;
  const main = document.getElementById("main");
  if (main !== null) main.inert = fenced;
});

export function Panel({ name, title, closing, children }: { name: PanelName; title: string; closing: string; children: () => ComponentChildren }) {
  const box = useRef<HTMLDivElement>(null);
  const isOpen = panel.value === name;
  useEffect(() => {
    if (!isOpen) return;
    box.current?.focus();
    const escape = (event: KeyboardEvent) => {
      if (event.key === "Escape" && !event.defaultPrevented) close();
    };
    document.addEventListener("keydown", escape);
    return () => document.removeEventListener("keydown", escape);
  }, [isOpen]);
  return (
    <div id={name} class={`inbox ${name}`} {...(narrow.value ? { role: "dialog", "aria-modal": true } : { role: "complementary" })} hidden={!isOpen} ref={box} tabIndex={-1} aria-label={title}>
      {isOpen && (
        <>
          <div class="inbox-head">
            <h2>{title}</h2>
            <button type="button" class="icon-button" aria-label={closing} onClick={close}><Icon name="close" /></button>
          </div>
          {children()}
        </>
      )}
    </div>
  );
}
