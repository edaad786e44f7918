// Makes characters visible that a person cannot see but a machine obeys: controls, direction marks, zero-width and tag
// characters. An approval shows all of them; running prose keeps those that emoji and hyphenation honestly need.

export type Piece = { text: string } | { code: string };
export type Manner = "prose" | "exact";

// Written as ranges of code points, because the characters themselves would be invisible here too.
const always: readonly (readonly [number, number])[] = [
  [0x00, 0x08], [0x0b, 0x1f], [0x7f, 0x9f], // controls, without tab and line feed
  [0x061c, 0x061c], [0x200e, 0x200f], [0x202a, 0x202e], [0x2066, 0x206f], // direction
  [0x180e, 0x180e], [0x200b, 0x200b], [0x2060, 0x2064], [0xfeff, 0xfeff], // zero width
  [0x2028, 0x2029], [0x115f, 0x1160], [0x17b4, 0x17b5], [0x3164, 0x3164], [0xffa0, 0xffa0], [0x2800, 0x2800], // look like nothing
  [0xfff0, 0xfffb], [0xd800, 0xdfff], [0xe0000, 0xe0fff], [0x1bca0, 0x1bca3], [0x1d173, 0x1d17a],
];
const exactly: readonly (readonly [number, number])[] = [
  [0xa0, 0xa0], [0xad, 0xad], [0x034f, 0x034f], [0x1680, 0x1680], [0x2000, 0x200a], [0x200c, 0x200d],
  [0x202f, 0x202f], [0x205f, 0x205f], [0x3000, 0x3000], [0xfe00, 0xfe0f],
];

export function pieces(text: string, manner: Manner): Piece[] {
  const found: Piece[] = [];
  let plain = "";
  for (const character of text) {
    const point = character.codePointAt(0) ?? 0;
    if (point < 0x7f && point > 0x1f) {
      plain += character;
    } else if (hidden(point, manner)) {
      if (plain !== "") found.push({ text: plain });
      plain = "";
      found.push({ code: `U+${point.toString(16).toUpperCase().padStart(4, "0")}` });
    } else {
      plain += character;
    }
  }
  if (plain !== "") found.push({ text: plain });
  return found;
}

export function revealed(text: string, manner: Manner): string {
  return pieces(text, manner).map((piece) => ("code" in piece ? `⟦${piece.code}⟧` : piece.text)).join("");
}

export function hasHidden(text: string): boolean {
  return pieces(text, "exact").some((piece) => "code" in piece);
}

function hidden(point: number, manner: Manner): boolean {
  const within = ([from, to]: readonly [number, number]) => point >= from && point <= to;
  return always.some(within) || (manner === "exact" && exactly.some(within));
}
