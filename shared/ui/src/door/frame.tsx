// What stands around the pages in front of the gate.

import type { ComponentChildren } from "preact";
import { start, SkipLink, Switches, Wordmark } from "../core/frame.tsx";
import { t, type Key } from "../core/text.ts";

export function startDoor(title: Key, Page: () => ComponentChildren): void {
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
}
