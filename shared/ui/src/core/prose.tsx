// Shows an answer: the Markdown tree as Preact nodes. While an answer is still being written only its settled part is
// read as Markdown; the rest stands as plain text, so that nothing jumps between two readings of half a sentence.

import { useMemo, useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { parse, settledLength, type Block, type Inline } from "./markdown.ts";
import { revealed } from "./reveal.ts";
import { t } from "./text.ts";

export function Prose({ text, open = false }: { text: string; open?: boolean }) {
  const shown = revealed(text, "prose");
  const settled = open ? shown.slice(0, settledLength(shown)) : shown;
  const tree = useMemo(() => parse(settled), [settled]);
  const tail = shown.slice(settled.length);
  return (
    <div class="prose">
      {withOutline(tree)}
      {tail !== "" && <p class="tail">{tail}</p>}
    </div>
  );
}

function block(node: Block): ComponentChildren {
  switch (node.type) {
    case "paragraph":
      return <p>{inline(node.children)}</p>;
    case "heading":
      return <p><strong>{inline(node.children)}</strong></p>; // inside a list or quotation it is no part of the outline
    case "code":
      return <CodeBlock lang={node.lang} text={node.text} />;
    case "quote":
      return <blockquote>{node.blocks.map(block)}</blockquote>;
    case "rule":
      return <hr />;
    case "list": {
      const items = node.items.map((item) => <li>{tight(item)}</li>);
      return node.ordered ? <ol start={node.start}>{items}</ol> : <ul>{items}</ul>;
    }
    case "table":
      return (
        <div class="table" tabIndex={0} role="group">
          <table>
            <thead><tr>{node.head.map((cell) => <th scope="col">{inline(cell)}</th>)}</tr></thead>
            <tbody>{node.rows.map((row) => <tr>{row.map((cell) => <td>{inline(cell)}</td>)}</tr>)}</tbody>
          </table>
        </div>
      );
  }
}

// Headings of an answer stand below that of the page, and however a model numbers them no level is left out.
function withOutline(tree: Block[]): ComponentChildren {
  const levels = [...new Set(tree.flatMap((node) => (node.type === "heading" ? [node.level] : [])))].sort();
  let depth = -1;
  return tree.map((node) => {
    if (node.type !== "heading") return block(node);
    depth = Math.min(levels.indexOf(node.level), depth + 1, 2);
    return title(depth, inline(node.children));
  });
}

function title(depth: number, children: ComponentChildren): ComponentChildren {
  if (depth === 0) return <h2>{children}</h2>;
  return depth === 1 ? <h3>{children}</h3> : <h4>{children}</h4>;
}

function tight(item: Block[]): ComponentChildren {
  return item.map((part) => (part.type === "paragraph" && item.length <= 2 ? <span class="line">{inline(part.children)}</span> : block(part)));
}

function inline(nodes: Inline[]): ComponentChildren {
  return nodes.map((node) => {
    switch (node.type) {
      case "text":
        return node.text;
      case "code":
        return <code>{node.text}</code>;
      case "strong":
        return <strong>{inline(node.children)}</strong>;
      case "em":
        return <em>{inline(node.children)}</em>;
      case "strike":
        return <del>{inline(node.children)}</del>;
      case "link":
        return (
          <a href={node.href} title={node.href} target="_blank" rel="noopener noreferrer">
            {node.image ? t("app.image", { alt: plain(node.children) || node.href }) : inline(node.children)}
          </a>
        );
    }
  });
}

function plain(nodes: Inline[]): string {
  return nodes.map((node) => ("text" in node ? node.text : plain(node.children))).join("");
}

function CodeBlock({ lang, text }: { lang: string; text: string }) {
  return (
    <figure class={lang === "" ? "code bare" : "code"}>
      {lang !== "" && <figcaption>{lang}</figcaption>}
      <CopyButton text={text} label={t("app.copy_code")} />
      <pre tabIndex={0}><code>{text}</code></pre>
    </figure>
  );
}

export function CopyButton({ text, label }: { text: string; label: string }) {
  const [copied, setCopied] = useState(false);
  const timer = useRef(0);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      return; // no permission: the text is still there to be selected
    }
    setCopied(true);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setCopied(false), 2_000);
  };
  return (
    <button type="button" class="quiet" onClick={copy} aria-label={copied ? t("app.copied") : label}>
      {copied ? t("app.copied") : t("app.copy")}
    </button>
  );
}
