// The Markdown reader and the characters that must not hide.

import assert from "node:assert/strict";
import { test } from "node:test";
import { inline, parse, safeHref, settledLength } from "../src/core/markdown.ts";
import { hasHidden, pieces, revealed } from "../src/core/reveal.ts";

const text = (words) => ({ type: "text", text: words });
const p = (...children) => ({ type: "paragraph", children });

test("blocks", () => {
  const cases = [
    ["one\ntwo\n\nthree", [p(text("one\ntwo")), p(text("three"))]],
    ["# A #\ntext", [{ type: "heading", level: 1, children: [text("A")] }, p(text("text"))]],
    ["```js\nlet a = 1;\n\n# no\n```\nafter", [{ type: "code", lang: "js", text: "let a = 1;\n\n# no" }, p(text("after"))]],
    ["~~~\n```\n~~~", [{ type: "code", lang: "", text: "```" }]],
    ["```\nnever closed", [{ type: "code", lang: "", text: "never closed" }]],
    ["> said\n> twice", [{ type: "quote", blocks: [p(text("said\ntwice"))] }]],
    ["---", [{ type: "rule" }]],
    ["- a\n- b\n  - c\n\nend", [{ type: "list", ordered: false, start: 1, items: [[p(text("a"))], [p(text("b")), { type: "list", ordered: false, start: 1, items: [[p(text("c"))]] }]] }, p(text("end"))]],
    [" - a\n - b", [{ type: "list", ordered: false, start: 1, items: [[p(text("a"))], [p(text("b"))]] }]],
    ["3. x\n4. y", [{ type: "list", ordered: true, start: 3, items: [[p(text("x"))], [p(text("y"))]] }]],
    ["1. x\n   ```\n   code\n   ```\n2. y", [{ type: "list", ordered: true, start: 1, items: [[p(text("x")), { type: "code", lang: "", text: "code" }], [p(text("y"))]] }]],
    ["| a | b |\n|---|:-:|\n| 1 | 2 |", [{ type: "table", head: [[text("a")], [text("b")]], rows: [[[text("1")], [text("2")]]] }]],
    ["a | b", [p(text("a | b"))]],
    ["", []],
  ];
  for (const [source, expected] of cases) assert.deepEqual(parse(source), expected, JSON.stringify(source));
});

test("inline", () => {
  const cases = [
    ["a **b** c", [text("a "), { type: "strong", children: [text("b")] }, text(" c")]],
    ["*a* and _b_ and ~~c~~", [{ type: "em", children: [text("a")] }, text(" and "), { type: "em", children: [text("b")] }, text(" and "), { type: "strike", children: [text("c")] }]],
    ["***both***", [{ type: "strong", children: [{ type: "em", children: [text("both")] }] }]],
    ["snake_case_name 2*3*4 * x", [text("snake_case_name 2"), { type: "em", children: [text("3")] }, text("4 * x")]],
    ["`a **b**` ``c ` d``", [{ type: "code", text: "a **b**" }, text(" "), { type: "code", text: "c ` d" }]],
    ["\\*no\\* <b>tag</b>", [text("*no* <b>tag</b>")]],
    ["[a](https://example.org/x)", [{ type: "link", href: "https://example.org/x", image: false, children: [text("a")] }]],
    ["see https://example.org/a.", [text("see "), { type: "link", href: "https://example.org/a", image: false, children: [text("https://example.org/a")] }, text(".")]],
    ["<mailto:a@example.org>", [{ type: "link", href: "mailto:a@example.org", image: false, children: [text("mailto:a@example.org")] }]],
    ["![pixel](https://example.org/p.png)", [{ type: "link", href: "https://example.org/p.png", image: true, children: [text("pixel")] }]],
  ];
  for (const [source, expected] of cases) assert.deepEqual(inline(source), expected, source);
});

test("no link leads anywhere but the web and the post", () => {
  const refused = ["javascript:alert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)", "java\nscript:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd", "//example.org", "/relative", "https://exa mple.org", "https://", "blob:https://example.org/1", "https://example.org/\u0000", "https://exa⟦U+200B⟧mple.org"];
  for (const href of refused) {
    assert.equal(safeHref(href), null, href);
    const found = [...JSON.stringify(parse(`[x](${href}) ![y](${href}) <${href}>`)).matchAll(/"href":"([^"]*)"/g)].map((link) => link[1]);
    assert.ok(found.every((link) => link !== href && /^https:\/\//.test(link)), `${href} became ${found}`);
  }
  for (const href of ["https://example.org", "http://localhost:8080/a?b=c#d", "mailto:a@example.org"]) assert.equal(safeHref(href), href);
});

test("what is settled while text still comes", () => {
  const cases = [["half a sent", ""], ["one\n\ntwo", "one\n\n"], ["one\n\n```\ncode\n\nmore", "one\n\n"], ["```\ncode\n```\nnext", "```\ncode\n```\n"], ["a\n", ""], ["a\n\n", "a\n\n"]];
  for (const [source, expected] of cases) assert.equal(source.slice(0, settledLength(source)), expected, JSON.stringify(source));
});

test("hostile text costs no more than its length allows", () => {
  const started = performance.now();
  for (const unit of ["*a ", "[", "[a](", "**", "`", "_a_", "> ", "- ", "![", "<http", "~~a", "|-"]) parse(unit.repeat(20_000));
  parse(`${"> ".repeat(500)}x`);
  parse(Array.from({ length: 300 }, (_, depth) => `${" ".repeat(depth * 2)}- x`).join("\n"));
  assert.ok(performance.now() - started < 4_000, `${performance.now() - started} ms`);
});

test("hidden characters are named", () => {
  assert.equal(revealed("rm \u202Etxt.exe", "prose"), "rm ⟦U+202E⟧txt.exe");
  assert.deepEqual(pieces("a\u200Bb", "exact"), [{ text: "a" }, { code: "U+200B" }, { text: "b" }]);
  assert.equal(revealed("\u{E0041}\u0007\r\u2066\uFEFF", "exact"), "⟦U+E0041⟧⟦U+0007⟧⟦U+000D⟧⟦U+2066⟧⟦U+FEFF⟧");
  assert.equal(revealed("\uD800", "exact"), "⟦U+D800⟧");
  assert.equal(revealed("line\n\ttab äöü 日本 👩\u200D💻", "prose"), "line\n\ttab äöü 日本 👩\u200D💻");
  assert.equal(revealed("a\u00A0b 👩\u200D💻", "exact"), "a⟦U+00A0⟧b 👩⟦U+200D⟧💻");
  assert.equal(hasHidden("plain äöü"), false);
  assert.equal(hasHidden("soft\u00ADhyphen"), true);
});
