//! The notation that rules are written in: `ghp_{alnum:36}` is the form of a token, and stands for examples of it, too.
//!
//! Outside of braces each character stands for itself. Inside stand a class and a count (`{hex:32}`, `{alnum:20-40}`,
//! `{b64url:16-}`), one character that is repeated (`{=x:36}`), words to choose from (`{live|test}`) or `{uuid}`.
//! The same text is compiled to a matcher and expanded to an example, so that the file of rules itself never holds a
//! string that looks like a secret. There is no nesting, and a count has a ceiling.

use super::rules::NetError;

/// An open count (`{hex:20-}`) ends here: the longest tokens of vendors are shorter, and a matcher needs a bound.
const OPEN_MAX: usize = 4096;
/// The shapes that the choices of one text come to.
const CHOICES_MAX: usize = 256;
/// The parts of one shape that somebody adds, and how often a matcher may have to begin again within it.
const PARTS_MAX: usize = 64;
const WAYS_MAX: usize = 256;
const FIX: &str = "write it as docs/POLICY.md shows";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Vec<u8>),
    Run { letters: Letters, min: usize, max: usize },
}

/// A set of ASCII characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letters(u128);

impl Letters {
    const fn of(text: &[u8]) -> Letters {
        let mut set = 0;
        let mut at = 0;
        while at < text.len() {
            set |= 1 << text[at];
            at += 1;
        }
        Letters(set)
    }

    pub const fn has(self, byte: u8) -> bool {
        byte < 128 && self.0 >> byte & 1 == 1
    }

    /// Its `index`th character, counted round and round.
    fn pick(self, index: u64) -> u8 {
        let index = index % u64::from(self.0.count_ones());
        (0..128).filter(|byte| self.has(*byte)).nth(index as usize).unwrap_or(b'x')
    }
}

const CLASSES: &[(&str, Letters)] = &[
    ("alnum", Letters::of(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")),
    ("letter", Letters::of(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")),
    ("lower", Letters::of(b"0123456789abcdefghijklmnopqrstuvwxyz")),
    ("upper", Letters::of(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")),
    ("az", Letters::of(b"abcdefghijklmnopqrstuvwxyz")),
    ("digit", Letters::of(b"0123456789")),
    ("hex", Letters::of(b"0123456789abcdef")),
    ("HEX", Letters::of(b"0123456789ABCDEF")),
    ("xdigit", Letters::of(b"0123456789abcdefABCDEF")),
    ("word", Letters::of(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")),
    ("b64", Letters::of(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/")),
    ("b64url", Letters::of(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-")),
    ("b64any", Letters::of(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-+/=")),
    ("dotted", Letters::of(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-.~")),
    ("base32", Letters::of(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")),
    ("base58", Letters::of(b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")),
    ("bech32", Letters::of(b"023456789acdefghjklmnpqrstuvwxyz")),
    ("BECH32", Letters::of(b"023456789ACDEFGHJKLMNPQRSTUVWXYZ")),
    ("any", Letters::of(b"!#$%&()*+,-./0123456789:;=?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_abcdefghijklmnopqrstuvwxyz{|}~")),
];

fn class(name: &str) -> Option<Letters> {
    match name.strip_prefix('=') {
        Some(one) if one.len() == 1 && one.is_ascii() => Some(Letters::of(one.as_bytes())),
        Some(_) => None,
        None => CLASSES.iter().find(|(class, _)| *class == name).map(|(_, letters)| *letters),
    }
}

impl Shape {
    /// One shape for each choice that the text leaves open.
    pub fn parse(text: &str) -> Result<Vec<Shape>, NetError> {
        let wrong = |why: &str| NetError::one(format!("shape `{text}`"), why, FIX);
        let mut shapes = vec![Shape { parts: Vec::new() }];
        let mut rest = text;
        while !rest.is_empty() {
            let open = rest.find('{').unwrap_or(rest.len());
            for shape in &mut shapes {
                shape.literal(&rest.as_bytes()[..open]);
            }
            rest = &rest[open..];
            let Some(inside) = rest.strip_prefix('{') else { break };
            let close = inside.find('}').ok_or_else(|| wrong("a brace is not closed"))?;
            let (field, after) = (&inside[..close], &inside[close + 1..]);
            rest = after;
            if field == "uuid" {
                shapes.iter_mut().for_each(Shape::uuid);
            } else if field.contains('|') {
                let choices: Vec<&str> = field.split('|').collect();
                if shapes.len() * choices.len() > CHOICES_MAX {
                    return Err(wrong("it leaves more than 256 choices open"));
                }
                shapes = shapes.iter().flat_map(|shape| choices.iter().map(|choice| shape.clone().with(choice))).collect();
            } else {
                let (name, count) = field.rsplit_once(':').unwrap_or((field, "1"));
                let letters = class(name).ok_or_else(|| wrong("there is no such class"))?;
                let number = |text: &str| text.parse::<usize>().map_err(|_| wrong("a count is not a number"));
                let (min, max) = match count.split_once('-') {
                    None => (number(count)?, number(count)?),
                    Some((min, "")) => (number(min)?, OPEN_MAX),
                    Some((min, max)) => (number(min)?, number(max)?),
                };
                if min > max || max > OPEN_MAX {
                    return Err(wrong("a count is too large or upside down"));
                }
                shapes.iter_mut().for_each(|shape| shape.parts.push(Part::Run { letters, min, max }));
            }
        }
        Ok(shapes)
    }

    fn literal(&mut self, text: &[u8]) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Literal(before)) => before.extend_from_slice(text),
            _ => self.parts.push(Part::Literal(text.to_vec())),
        }
    }

    fn with(mut self, text: &str) -> Shape {
        self.literal(text.as_bytes());
        self
    }

    fn uuid(&mut self) {
        let hex = Letters::of(b"0123456789abcdefABCDEF");
        for (index, count) in [8, 4, 4, 4, 12].into_iter().enumerate() {
            self.literal(if index == 0 { b"" } else { b"-" });
            self.parts.push(Part::Run { letters: hex, min: count, max: count });
        }
    }

    /// What every text of this shape begins with.
    pub fn prefix(&self) -> &[u8] {
        match self.parts.first() {
            Some(Part::Literal(text)) => text,
            _ => b"",
        }
    }

    /// A byte that every text of this shape has, as rare a one as it names; 0 if it names none.
    pub fn anchor(&self) -> u8 {
        let literals = self.parts.iter().filter_map(|part| if let Part::Literal(text) = part { Some(text) } else { None });
        let bytes = literals.flatten().copied();
        bytes.min_by_key(|byte| byte.is_ascii_alphanumeric()).unwrap_or(0)
    }

    /// Where a text of this shape that begins at `at` ends; the longest one.
    pub fn end(&self, text: &[u8], at: usize) -> Option<usize> {
        end(&self.parts, text, at)
    }

    /// The one text that has this shape, if there is only one.
    pub fn text(&self) -> Option<Vec<u8>> {
        let is_fixed =
            |part: &Part| matches!(part, Part::Literal(_)) || matches!(part, Part::Run { letters, min, max } if min == max && letters.0.count_ones() == 1);
        self.parts.iter().all(is_fixed).then(|| self.example(&mut 1).into_bytes())
    }

    pub fn bytes_min(&self) -> usize {
        let bytes = |part: &Part| match part {
            Part::Literal(text) => text.len(),
            Part::Run { min, .. } => *min,
        };
        self.parts.iter().map(bytes).sum()
    }

    pub fn has_blank(&self) -> bool {
        let is_blank = |byte: u8| byte <= b' ';
        self.parts.iter().any(|part| match part {
            Part::Literal(text) => text.iter().any(|byte| is_blank(*byte)),
            Part::Run { letters, .. } => (0..128).any(|byte| is_blank(byte) && letters.has(byte)),
        })
    }

    /// Refuses what could keep a matcher busy: counts in its middle that end wherever the next part lets them.
    pub fn bounded(self, text: &str) -> Result<Shape, NetError> {
        let ways = self.parts.windows(2).map(|pair| match pair {
            [Part::Run { letters, .. }, Part::Literal(next)] if next.first().is_some_and(|byte| !letters.has(*byte)) => 1,
            [Part::Run { min, max, .. }, _] => max - min + 1,
            _ => 1,
        });
        if self.parts.len() > PARTS_MAX || ways.fold(1, usize::saturating_mul) > WAYS_MAX {
            let fix = "give the counts in its middle bounds, or end them with a character that they cannot hold";
            return Err(NetError::one(format!("shape `{text}`"), "it can be read in too many ways", fix));
        }
        Ok(self)
    }

    /// A text of this shape; which one, `seed` decides.
    pub fn example(&self, seed: &mut u64) -> String {
        let mut text = Vec::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.extend_from_slice(literal),
                Part::Run { letters, min, max } => {
                    let count = (*min).max((*max).min(48));
                    text.extend((0..count).map(|_| letters.pick(next(seed))));
                }
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

fn end(parts: &[Part], text: &[u8], at: usize) -> Option<usize> {
    let Some((first, rest)) = parts.split_first() else { return Some(at) };
    match first {
        Part::Literal(literal) => text.get(at..)?.starts_with(literal).then(|| end(rest, text, at + literal.len()))?,
        Part::Run { letters, min, max } => {
            let most = text.get(at..)?.iter().take(*max).take_while(|byte| letters.has(**byte)).count();
            (*min..=most).rev().find_map(|count| end(rest, text, at + count))
        }
    }
}

/// Xorshift: examples must differ from each other and be the same on every load.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed >> 11
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Shape {
        Shape::parse(text).unwrap().remove(0)
    }

    #[test]
    fn a_shape_matches_the_longest_text() {
        for (shape, text, found) in [
            ("ab_{hex:4}", "ab_12f0", Some(7)),
            ("ab_{hex:4}", "ab_12f", None),
            ("ab_{hex:2-}z", "ab_12f0z", Some(8)),
            ("{digit:2-9}{hex:2}", "12345", Some(5)),
            ("k-{uuid}", "k-01234567-89ab-cdef-0123-456789abcdef", Some(38)),
            ("{=x:3}", "xxx", Some(3)),
        ] {
            assert_eq!(one(shape).end(text.as_bytes(), 0), found, "{shape} {text}");
        }
    }

    #[test]
    fn choices_become_shapes_and_examples_have_their_shape() {
        let shapes = Shape::parse("{sk|rk}_{live|test}_{alnum:24-}").unwrap();
        assert_eq!(shapes.iter().map(|shape| shape.prefix()).collect::<Vec<_>>(), [b"sk_live_", b"sk_test_", b"rk_live_", b"rk_test_"]);
        let mut seed = 7;
        for shape in shapes {
            let example = shape.example(&mut seed);
            assert_eq!(shape.end(example.as_bytes(), 0), Some(example.len()), "{example}");
        }
    }

    #[test]
    fn what_is_not_notation_is_refused() {
        for text in ["a{hex:2", "a{nothing:2}", "a{hex:x}", "a{hex:3-2}", "a{hex:9999}", "a{=xy:2}"] {
            assert!(Shape::parse(text).is_err(), "{text}");
        }
    }
}
