//! Chance that can be repeated, and the input that it makes.

pub struct Chance {
    state: u64,
    /// Pieces that the input being built may still have.
    left: usize,
}

const PIECES_MAX: usize = 300;
/// More than any door lets in.
const INPUT_BYTES_MAX: usize = 80 * 1024;

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, left: 0 }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap_or(1)).unwrap_or_default()
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// A new input: built from pieces, bent from the corpus, or bytes.
    pub fn input(&mut self, corpus: &[String], pieces: &[&str]) -> String {
        self.left = 1 + self.below(PIECES_MAX);
        let mut text = match self.below(8) {
            0 => self.bytes(),
            1..=3 => self.built(pieces, 0),
            4 => self.nested(pieces),
            _ if corpus.is_empty() => self.built(pieces, 0),
            _ => self.pick(corpus).clone(),
        };
        for _ in 0..self.below(6) {
            text = self.bent(text, corpus, pieces);
        }
        text.truncate(text.floor_char_boundary(INPUT_BYTES_MAX));
        text
    }

    fn bytes(&mut self) -> String {
        let length = self.below(200);
        let bytes: Vec<u8> = (0..length).map(|_| self.next().to_le_bytes()[0]).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn built(&mut self, pieces: &[&str], depth: usize) -> String {
        let mut text = String::new();
        for _ in 0..=self.below(12) {
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                break;
            }
            let piece = self.pick(pieces).to_owned();
            // `@` in a piece is the place for another input.
            match piece.split_once('@') {
                Some((before, after)) if depth < 12 => {
                    let deeper = depth + 1 + self.below(3);
                    text.push_str(&format!("{before}{}{after}", self.built(pieces, deeper)));
                }
                _ => text.push_str(piece),
            }
            if self.below(2) == 0 {
                text.push(' ');
            }
        }
        text
    }

    /// One piece in itself, many times: what recursion and backtracking stumble over.
    fn nested(&mut self, pieces: &[&str]) -> String {
        let piece = *self.pick(pieces);
        let many = [9, 12, 40, 400, 4_000][self.below(5)];
        match piece.split_once('@') {
            Some((before, after)) if self.below(3) > 0 => format!("{}x{}", before.repeat(many), after.repeat(many)),
            _ => piece.repeat(many),
        }
    }

    fn bent(&mut self, mut text: String, corpus: &[String], pieces: &[&str]) -> String {
        let at = text.floor_char_boundary(self.below(text.len() + 1));
        let to = text.ceil_char_boundary((at + self.below(24)).min(text.len()));
        match self.below(7) {
            0 => text.replace_range(at..to, ""),
            1 => text.insert_str(at, pieces[self.below(pieces.len())]),
            2 => {
                let again = text[at..to].repeat(1 + self.below(60));
                text.insert_str(at, &again);
            }
            3 if !corpus.is_empty() => {
                let other = self.pick(corpus).clone();
                let cut = other.floor_char_boundary(self.below(other.len() + 1));
                text.truncate(at);
                text.push_str(&other[cut..]);
            }
            4 => text.truncate(at),
            5 => {
                let odd = *self.pick(&['\u{0}', '\u{fdd0}', '\u{fdd6}', '\u{200b}', '\n', '\\', '\'', '"', '$', '`', '\u{1b}', 'ß', '𝕏', '\u{85}', '\r']);
                text.insert(at, odd);
            }
            _ => {
                let piece = text[at..to].to_owned();
                text.push_str(&piece);
            }
        }
        text
    }
}
