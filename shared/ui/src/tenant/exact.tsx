// Text exactly as it will be used: monospaced, hidden characters named, long text clipped until asked for. What is
// clipped says so; nobody should approve a command whose end is out of sight without noticing.

import { useId, useState } from "preact/hooks";
import { pieces } from "../core/reveal.ts";
import { count, t } from "../core/text.ts";

const linesShown = 12;
const charactersShown = 1_200;

export function Exact({ text }: { text: string }) {
  const [all, setAll] = useState(false);
  const id = useId();
  const lines = text.split("\n");
  const clipped = lines.slice(0, linesShown).join("\n").slice(0, charactersShown);
  const long = clipped.length < text.length;
  return (
    <div class="exact">
      <pre id={id} tabIndex={all ? 0 : undefined}>
        {pieces(all || !long ? text : clipped, "exact").map((piece) =>
          "code" in piece ? <mark title={t("app.hidden_character", { code: piece.code })}>⟦{piece.code}⟧</mark> : piece.text,
        )}
        {long && !all && "…"}
      </pre>
      {long && (
        <button type="button" class="quiet" aria-expanded={all} aria-controls={id} onClick={() => setAll(!all)}>
          {all ? t("app.show_less") : count("app.show_all", lines.length)}
        </button>
      )}
    </div>
  );
}
