// A small Markdown reader for answers of a model: text in, a tree of known shapes out, never HTML. What it does not
// know stays text. Links are kept only for http, https and mailto; images become links, because loading one would tell
// its server something. Limits: nesting of 6, and a line longer than `longestLine` stays plain.

export type Inline =
  | { type: "text"; text: string }
  | { type: "code"; text: string }
  | { type: "strong" | "em" | "strike"; children: Inline[] }
  | { type: "link"; href: string; image: boolean; children: Inline[] };

export type Block =
  | { type: "paragraph"; children: Inline[] }
  | { type: "heading"; level: number; children: Inline[] }
  | { type: "code"; lang: string; text: string }
  | { type: "quote"; blocks: Block[] }
  | { type: "list"; ordered: boolean; start: number; items: Block[][] }
  | { type: "table"; head: Inline[][]; rows: Inline[][][] }
  | { type: "rule" };

const deepest = 6;
const longestLine = 20_000;
const mostTries = 64; // closers looked at for one opener; keeps hostile text from costing the square of its length

const fence = /^ {0,3}(`{3,}|~{3,})\s*([^`\s]*)[^`]*$/;
const heading = /^ {0,3}(#{1,6})\s+(.+?)\s*#*\s*$/;
const rule = /^ {0,3}(?:(?:-\s*){3,}|(?:\*\s*){3,}|(?:_\s*){3,})$/;
const bullet = /^( {0,3})([-*+]|\d{1,9}[.)])( +|$)(.*)$/;
const tableRule = /^ {0,3}\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;

export function parse(source: string): Block[] {
  return blocks(source.replace(/\r\n?/g, "\n").split("\n"), 0);
}

/** Where the part ends that later text cannot change any more: after the last blank line outside a code fence. */
export function settledLength(source: string): number {
  let offset = 0;
  let settled = 0;
  let open = "";
  for (const line of source.split("\n")) {
    offset += line.length + 1;
    if (offset > source.length) break; // the last line is still being written
    const mark = fence.exec(line)?.[1];
    if (open !== "") {
      if (closes(line, open)) {
        open = "";
        settled = offset;
      }
    } else if (mark !== undefined) {
      open = mark;
    } else if (line.trim() === "") {
      settled = offset;
    }
  }
  return Math.min(settled, source.length);
}

function closes(line: string, open: string): boolean {
  const bare = line.trim();
  return bare.length >= open.length && bare[0] === open[0] && bare === open[0]!.repeat(bare.length);
}

function blocks(lines: string[], depth: number): Block[] {
  const found: Block[] = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at]!;
    if (line.trim() === "") {
      at += 1;
      continue;
    }
    const [block, next] = fenced(lines, at) ?? single(line, at) ?? quote(lines, at, depth) ?? list(lines, at, depth) ?? table(lines, at) ?? paragraph(lines, at);
    found.push(block);
    at = next;
  }
  return found;
}

type Read = [Block, number];

function fenced(lines: string[], at: number): Read | null {
  const start = fence.exec(lines[at]!);
  if (start === null) return null;
  let end = at + 1;
  while (end < lines.length && !closes(lines[end]!, start[1]!)) end += 1;
  return [{ type: "code", lang: start[2] ?? "", text: lines.slice(at + 1, end).join("\n") }, end + 1];
}

function single(line: string, at: number): Read | null {
  const title = heading.exec(line);
  if (title !== null) return [{ type: "heading", level: title[1]!.length, children: inline(title[2]!) }, at + 1];
  return rule.test(line) ? [{ type: "rule" }, at + 1] : null;
}

function quote(lines: string[], at: number, depth: number): Read | null {
  if (!/^ {0,3}>/.test(lines[at]!) || depth >= deepest) return null;
  let end = at;
  const inner: string[] = [];
  while (end < lines.length && /^ {0,3}>/.test(lines[end]!)) {
    inner.push(lines[end]!.replace(/^ {0,3}> ?/, ""));
    end += 1;
  }
  return [{ type: "quote", blocks: blocks(inner, depth + 1) }, end];
}

function list(lines: string[], at: number, depth: number): Read | null {
  const first = bullet.exec(lines[at]!);
  if (first === null || depth >= deepest) return null;
  const ordered = /\d/.test(first[2]!);
  const items: string[][] = [];
  let end = at;
  let indent = 0;
  while (end < lines.length) {
    const line = lines[end]!;
    const item = bullet.exec(line);
    if (item !== null && (items.length === 0 || item[1]!.length < indent) && /\d/.test(item[2]!) === ordered && !rule.test(line)) {
      indent = item[1]!.length + item[2]!.length + Math.min(Math.max(item[3]!.length, 1), 4);
      items.push([item[4]!]);
    } else if (items.length > 0 && line.trim() === "") {
      const after = lines[end + 1];
      const goesOn = after !== undefined && (leading(after) >= indent || bullet.test(after));
      if (!goesOn) break;
      items.at(-1)!.push("");
    } else if (items.length > 0 && leading(line) >= Math.min(indent, 2) && leading(line) > 0) {
      items.at(-1)!.push(line.slice(Math.min(indent, leading(line))));
    } else if (items.length > 0 && items.at(-1)!.at(-1) !== "" && !startsBlock(line)) {
      items.at(-1)!.push(line); // a lazy continuation of the item's paragraph
    } else {
      break;
    }
    end += 1;
  }
  if (items.length === 0) return null;
  const start = ordered ? Number.parseInt(first[2]!, 10) : 1;
  return [{ type: "list", ordered, start, items: items.map((item) => blocks(item, depth + 1)) }, end];
}

function leading(line: string): number {
  return line.length - line.trimStart().length;
}

function startsBlock(line: string): boolean {
  return fence.test(line) || heading.test(line) || rule.test(line) || bullet.test(line) || /^ {0,3}>/.test(line);
}

function table(lines: string[], at: number): Read | null {
  const under = lines[at + 1];
  if (!lines[at]!.includes("|") || under === undefined || !under.includes("-") || !tableRule.test(under)) return null;
  const head = cells(lines[at]!);
  if (cells(under).length !== head.length) return null;
  let end = at + 2;
  const rows: Inline[][][] = [];
  while (end < lines.length && lines[end]!.includes("|")) {
    const row = cells(lines[end]!);
    rows.push(head.map((_, column) => inline(row[column] ?? "")));
    end += 1;
  }
  return [{ type: "table", head: head.map(inline), rows }, end];
}

function cells(line: string): string[] {
  return line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
}

function paragraph(lines: string[], at: number): Read {
  let end = at + 1;
  while (end < lines.length && lines[end]!.trim() !== "" && !startsBlock(lines[end]!)) end += 1;
  return [{ type: "paragraph", children: inline(lines.slice(at, end).map((line) => line.trim()).join("\n")) }, end];
}

/** The href if it may be followed, otherwise null. Anything that a browser would clean up first is refused. */
export function safeHref(href: string): string | null {
  if (!/^(?:https?:\/\/|mailto:)[^\s\u0000-\u0020\u007f⟦]+$/i.test(href)) return null;
  try {
    return ["http:", "https:", "mailto:"].includes(new URL(href).protocol) ? href : null;
  } catch {
    return null;
  }
}

export function inline(text: string, depth = 0): Inline[] {
  if (depth >= deepest || text.length > longestLine) return text === "" ? [] : [{ type: "text", text }];
  const found: Inline[] = [];
  const missing = new Set<string>(); // closers that do not come any more, so that reading stays linear
  let plain = "";
  let at = 0;
  const take = (node: Inline, next: number) => {
    if (plain !== "") found.push({ type: "text", text: plain });
    plain = "";
    found.push(node);
    at = next;
  };
  while (at < text.length) {
    const rest = span(text, at, depth, missing);
    if (rest === null) {
      plain += text[at] === "\\" && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "") ? text[(at += 1)] : text[at];
      at += 1;
    } else {
      take(rest[0], rest[1]);
    }
  }
  if (plain !== "") found.push({ type: "text", text: plain });
  return found;
}

function span(text: string, at: number, depth: number, missing: Set<string>): [Inline, number] | null {
  const sign = text[at]!;
  if (sign === "`") return codeSpan(text, at, missing);
  if (sign === "*" || sign === "_" || sign === "~") return emphasis(text, at, depth, missing);
  if (sign === "[" || (sign === "!" && text[at + 1] === "[")) return link(text, at, depth, missing);
  if (sign === "<" || sign === "h") return bareLink(text, at);
  return null;
}

function closer(text: string, mark: string, from: number, missing: Set<string>): number {
  if (missing.has(mark)) return -1;
  const found = text.indexOf(mark, from);
  if (found === -1) missing.add(mark);
  return found;
}

function codeSpan(text: string, at: number, missing: Set<string>): [Inline, number] | null {
  const mark = /^`+/.exec(text.slice(at, at + 32))![0];
  const end = closer(text, mark, at + mark.length, missing);
  if (end === -1) return null;
  const inner = text.slice(at + mark.length, end);
  const trimmed = /^ .*[^ ].* $|^ [^ ] $/s.test(inner) ? inner.slice(1, -1) : inner;
  return [{ type: "code", text: trimmed }, end + mark.length];
}

function emphasis(text: string, at: number, depth: number, missing: Set<string>): [Inline, number] | null {
  const sign = text[at]!;
  const doubled = text[at + 1] === sign;
  if (sign === "~" && !doubled) return null;
  const mark = doubled ? sign + sign : sign;
  const from = at + mark.length;
  if (/\s/.test(text[from] ?? " ")) return null;
  if (sign === "_" && /[\p{L}\p{N}_]/u.test(text[at - 1] ?? " ")) return null; // snake_case is not emphasis
  let end = closer(text, mark, from + 1, missing);
  for (let tries = 0; tries < mostTries && end !== -1 && (/\s/.test(text[end - 1]!) || (!doubled && (text[end + 1] === sign || text[end - 1] === sign))); tries += 1) {
    end = tries + 1 === mostTries ? -1 : text.indexOf(mark, end + 1 + (text[end + 1] === sign ? 1 : 0));
  }
  if (end === -1 || (sign === "_" && /[\p{L}\p{N}]/u.test(text[end + mark.length] ?? " "))) return null;
  if (doubled && text[end + 2] === sign) end += 1; // ***both***
  const type = sign === "~" ? "strike" : doubled ? "strong" : "em";
  return [{ type, children: inline(text.slice(from, end), depth + 1) }, end + mark.length];
}

function link(text: string, at: number, depth: number, missing: Set<string>): [Inline, number] | null {
  const image = text[at] === "!";
  const from = at + (image ? 2 : 1);
  const middle = closer(text, "](", from, missing);
  if (middle === -1) return null;
  const end = closer(text, ")", middle + 2, missing);
  const label = text.slice(from, middle);
  if (end === -1 || label.includes("[")) return null;
  let target = text.slice(middle + 2, end).trim();
  let close = end;
  if (target.includes("(") && text[end + 1] === ")") {
    target += ")"; // one pair of brackets inside an address, as encyclopaedias use them
    close += 1;
  }
  const href = safeHref(target.replace(/\s+["'(].*$/s, "").replace(/^<(.*)>$/, "$1"));
  if (href === null) return null;
  return [{ type: "link", href, image, children: inline(label, depth + 1) }, close + 1];
}

function bareLink(text: string, at: number): [Inline, number] | null {
  const angled = text[at] === "<";
  if (!angled && /[\p{L}\p{N}]/u.test(text[at - 1] ?? " ")) return null;
  const found = (angled ? /^<((?:https?:\/\/|mailto:)[^\s<>]+)>/ : /^(https?:\/\/[^\s<>"'`|*\]]+)/).exec(text.slice(at, at + 2_048));
  if (found === null) return null;
  let address = found[1]!;
  if (!angled) {
    address = address.replace(/[.,;:!?]+$/, "");
    if (!address.includes("(")) address = address.replace(/\)+.*$/, "");
  }
  const href = safeHref(address);
  if (href === null) return null;
  return [{ type: "link", href, image: false, children: [{ type: "text", text: address }] }, at + (angled ? found[0].length : address.length)];
}
