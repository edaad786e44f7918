//! Long runs of letters and digits: tokens of vendors, tokens of vendors that nobody has listed, and values that only
//! chance can have written.
//!
//! Most text has few runs of this length; what follows is done only for those. A vendor's shape is tried where the run begins, after its first joints, and at the dotted words before it
//! (`hvs.…`). A run that no shape knows is judged by the name before it.

use super::Catch;
use super::names::Promise;
use super::rules::{Form, Token};
use super::value::{self, Looks};
use crate::sieve::Sieve;

/// Shorter runs are the business of `context`, which asks for a name first.
const RUN_BYTES_MIN: usize = 16;
/// Runs beyond this, joined by `+` and `/`, are files and pictures, not keys.
const BLOB_BYTES_MIN: usize = 1400;
/// How far before a run the first words of a dotted token may begin.
const DOTTED_BYTES_MAX: usize = 48;

/// How far a run is followed back over the other signs of base64.
const LEFT_BYTES_MAX: usize = 90;

const RUN: u8 = 1;
/// Also stands in base64 and in tokens of several parts.
const WIDE: u8 = 2;

const KIND: [u8; 256] = {
    let mut kind = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let letter = byte as u8;
        if letter.is_ascii_alphanumeric() || letter == b'_' || letter == b'-' {
            kind[byte] = RUN | WIDE;
        } else if matches!(letter, b'+' | b'/' | b'=' | b'.' | b'~') {
            kind[byte] = WIDE;
        }
        byte += 1;
    }
    kind
};

fn is_run(byte: u8) -> bool {
    KIND[usize::from(byte)] & RUN != 0
}

fn is_wide(byte: u8) -> bool {
    KIND[usize::from(byte)] & WIDE != 0
}

pub fn scan(catch: &mut Catch, sieve: &Sieve) {
    let text = catch.text.as_bytes();
    // INVARIANT: runs that end before `done` were judged.
    let mut done = 0;
    for &(first, last) in &sieve.runs {
        let mut at = first;
        while at + RUN_BYTES_MIN <= last {
            // A run of ours is one of the sieve's without `+` and `/`.
            let end = memchr::memchr2(b'+', b'/', &text[at..last]).map_or(last, |found| at + found);
            let start = at.max(done);
            if start + RUN_BYTES_MIN <= end {
                done = judge(catch, start, end).max(end);
            }
            at = end + 1;
        }
    }
}

/// Looks at one run; answers up to where the text is done with.
fn judge(catch: &mut Catch, start: usize, end: usize) -> usize {
    let text = catch.text.as_bytes();
    let start = start + colour(text, start);
    if end - start < RUN_BYTES_MIN {
        return end;
    }
    let run = &text[start..end];
    let first = dotted(text, start);
    for at in first..=start {
        if (at == 0 || !is_run(text[at - 1]) || !is_run(text[at]))
            && let Some(done) = token_at(catch, at, end)
            && done > start
        {
            return done;
        }
    }
    let (mut digits, mut upper, mut turns, mut before) = (0, 0, 0, 0);
    for byte in &run[..run.len().min(64)] {
        let digit = byte.is_ascii_digit();
        let capital = byte.is_ascii_uppercase();
        let kind = u8::from(digit) | u8::from(capital) << 1;
        digits += usize::from(digit);
        upper += usize::from(capital);
        turns += usize::from(kind != before);
        before = kind;
    }
    let alone = (start == 0 || !is_wide(text[start - 1])) && text.get(end).is_none_or(|byte| !is_wide(*byte));
    // Chance changes between small letters, capitals and digits more often than this.
    if alone && turns * 9 < run.len().min(64) {
        return end;
    }
    // Names in camel case have fewer capitals than chance gives, and names with a number in them fewer digits.
    let name = digits == 0 && upper * 10 < run.len().min(64) * 3 || digits <= 1 && upper <= 1;
    if name && !matches!(text.get(end), Some(b'/' | b'+' | b'=')) {
        return end;
    }
    let before_is_wide = start > 0 && is_wide(text[start - 1]);
    let (mut left, mut right) = (start, end);
    if before_is_wide || text.get(end).is_some_and(|byte| is_wide(*byte)) {
        right += text[end..].iter().take_while(|byte| is_wide(**byte)).count();
        left -= text[..start].iter().rev().take(LEFT_BYTES_MAX).take_while(|byte| is_wide(**byte)).count();
        let blob = right - left >= BLOB_BYTES_MIN && text[left..right].contains(&b'/');
        // The middle of a long one was judged at its beginning.
        if blob && catch.net.rules.words.before(text, left).promise < Promise::Secret || start - left >= LEFT_BYTES_MAX {
            return right;
        }
    }
    let looks = Looks::of(&run[..run.len().min(256)]);
    let plain = left == start && right == end && !looks.is_random() && looks.turns * 8 < looks.len;
    if plain || looks.digit + looks.upper < 2 && looks.surprise < 5.0 {
        return end;
    }
    if let Some(done) = inner_token(catch, first, start, end, &looks) {
        return done;
    }
    if prefixed(catch, start, end) {
        return end;
    }
    unnamed(catch, start, end, (left, right), &looks)
}

/// How much of the run is the end of a terminal's colour (`ESC[94m`), written as such or as an escape.
fn colour(text: &[u8], start: usize) -> usize {
    if start == 0 || !matches!(text[start - 1], b'[' | b';') {
        return 0;
    }
    let digits = text[start..].iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
    if text.get(start + digits) == Some(&b'm') && (digits > 0 || text[start - 1] == b'[') { digits + 1 } else { 0 }
}

/// A listed token that begins right at `at`.
fn token_at(catch: &mut Catch, at: usize, run_end: usize) -> Option<usize> {
    let (net, text) = (catch.net, catch.text.as_bytes());
    net.rules.tokens.at(text, at).find_map(|token| matched(catch, token, at, run_end))
}

fn matched(catch: &mut Catch, token: &Token, at: usize, run_end: usize) -> Option<usize> {
    let text = catch.text.as_bytes();
    let mut end = token.shape.end(text, at)?;
    if token.exact && text.get(end).is_some_and(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    if !token.plain && is_sample(&text[at + token.shape.prefix().len()..end], token.shape.prefix().len()) {
        return None;
    }
    if !token.near.is_empty() && !is_near(text, at, &token.near) {
        return None;
    }
    if !token.exact && end < run_end && end > at + 8 {
        end = run_end;
    }
    let told = token.told.clone();
    catch.add(&told, at, end).then_some(end)
}

/// Whether this is unlikely to be a vendor's, after a beginning of this length.
fn is_sample(body: &[u8], prefix: usize) -> bool {
    let looks = Looks::of(body);
    // Two letters at the beginning are no sign by themselves.
    if prefix <= 3 && !looks.is_random() {
        return true;
    }
    // A long prefix is sign enough that poorly chosen letters after it still make a token.
    let poor = if prefix >= 4 { looks.distinct < 5 } else { looks.is_monotone() };
    let filled_in = || std::str::from_utf8(body).is_ok_and(is_filled_in);
    body.len() >= 6 && (poor || filled_in() || looks.is_jointed() || prefix < 6 && looks.is_wordy())
}

/// A sample somebody made from a form: `ghp_your_token_here`, `AKIA…EXAMPLE`.
fn is_filled_in(body: &str) -> bool {
    let lower = body.to_ascii_lowercase();
    value::is_stand_in(body.as_bytes())
        || ["xxxx", "example", "your_", "your-", "_here", "-here", "placeholder", "redacted", "abcdefghijkl", "1234567890123", "0123456789ab", "fedcba98"]
            .iter()
            .any(|word| lower.contains(word))
}

/// One of `words` in the line before, not far away.
fn is_near(text: &[u8], at: usize, words: &[Box<[u8]>]) -> bool {
    let before = &text[at.saturating_sub(64)..at];
    words.iter().any(|word| before.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word)))
}

/// Where the words begin that are joined to the run by dots and the like, since a token may begin there (`SG.…`).
fn dotted(text: &[u8], start: usize) -> usize {
    if start == 0 || !matches!(text[start - 1], b'.' | b'~' | b':' | b'/' | b'|' | b'+' | b'=' | b'%' | b'$' | b'#') {
        return start;
    }
    let joint = |byte: &&u8| is_run(**byte) || matches!(**byte, b'.' | b'~' | b':' | b'/' | b'|' | b'+' | b'$' | b'#');
    start - text[..start].iter().rev().take(DOTTED_BYTES_MAX).take_while(joint).count()
}

/// A listed token inside of the run (`KEY-ghp_…`), or one without a fixed beginning.
fn inner_token(catch: &mut Catch, first: usize, start: usize, end: usize, looks: &Looks) -> Option<usize> {
    let text = catch.text.as_bytes();
    let word = text[start..end].split(|byte| matches!(byte, b'_' | b'-')).next().unwrap_or(b"");
    if catch.net.rules.ids.contains(word) {
        return None;
    }
    for at in start + 2..(start + 28).min(end.saturating_sub(8)) {
        if matches!(text[at - 1], b'_' | b'-')
            && let Some(done) = token_at(catch, at, end)
        {
            return Some(done);
        }
    }
    // Those without a beginning of their own are mostly digits and hexadecimal: names are not looked at.
    if !looks.is_random() {
        return None;
    }
    let net = catch.net;
    let right = end + text[end..].iter().take(LEFT_BYTES_MAX).take_while(|byte| is_wide(**byte) || matches!(**byte, b':' | b'|')).count();
    let here = text[first..right].iter().fold(0u128, |here, byte| here | 1u128.unbounded_shl(u32::from(*byte)));
    for (anchor, number) in &net.rules.tokens.inner {
        if *anchor != 0 && here.unbounded_shr(u32::from(*anchor)) & 1 == 0 {
            continue;
        }
        let token = &net.rules.tokens.all[usize::from(*number)];
        for at in (first..=start).filter(|at| *at == 0 || !text[at - 1].is_ascii_alphanumeric()) {
            if let Some(done) = matched(catch, token, at, end)
                && done >= start
            {
                return Some(done);
            }
        }
    }
    None
}

/// A token with a beginning that no rule lists: words at joints, then chance (`acme_live_…`, `tss_…`, `FOO-…`).
fn prefixed(catch: &mut Catch, start: usize, end: usize) -> bool {
    let net = catch.net;
    let text = catch.text.as_bytes();
    let run = &text[start..end];
    // The beginning: up to three short words, each before a joint.
    let (mut body, mut words, mut marked, mut is_id, mut joint) = (0, 0, false, false, b'_');
    while words < 4 {
        let Some(length) = run[body..].iter().take(14).position(|byte| matches!(byte, b'_' | b'-')) else { break };
        let word = &run[body..body + length];
        let lower = word.to_ascii_lowercase();
        let looks = Looks::of(word);
        let known = net.rules.marks.contains(&lower[..]);
        if word.is_empty() || !known && (looks.digit > 2 || looks.digit == looks.len || looks.turns > 3 || words == 0 && !word[0].is_ascii_alphabetic()) {
            break;
        }
        is_id |= net.rules.ids.contains(&lower[..]) && words == 0;
        marked |= known;
        joint = run[body + length];
        words += 1;
        body += length + 1;
    }
    if words == 0 || is_id || run.len() - body < 16 {
        return false;
    }
    let looks = Looks::of(&run[body..]);
    if !looks.is_random() || looks.is_monotone() {
        return false;
    }
    let whole_word = start == 0 || !matches!(text[start - 1], b'/' | b'.' | b'\\' | b'@' | b'#');
    let is_file = text.get(end) == Some(&b'.') && text.get(end + 1).is_some_and(u8::is_ascii_alphabetic) || text.get(end) == Some(&b'/');
    let uuid = is_uuid(&run[body..]);
    let before = net.rules.words.before(text, start);
    if before.promise == Promise::Harmless || is_file || !whole_word && !marked {
        return false;
    }
    let solid = looks.len - looks.joint;
    let asked = before.promise >= Promise::Vendor;
    // Alone in its place: not a part of a name, of a file's name or of an address.
    let alone = words == 1
        && looks.joint == 0
        && [start.checked_sub(1).and_then(|at| text.get(at)), text.get(end)]
            .iter()
            .all(|next| next.is_none_or(|byte| matches!(byte, b' ' | b'\n' | b'"' | b'\'' | b'`')));
    let loud = words == 1 && run[..body - 1].iter().all(u8::is_ascii_uppercase) && body > 3;
    let small = run[..body].iter().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-') || byte.is_ascii_digit())
        && run[..2].iter().all(u8::is_ascii_lowercase);
    let enough = if looks.is_hex() || uuid {
        (marked || before.promise >= Promise::Key) && solid >= 24
            || alone && joint == b'_' && !uuid && solid >= 32 && before.promise == Promise::Nothing && !before.assigned
    } else if asked || marked {
        solid >= 16 && (looks.joint <= 1 || looks.is_surely_random())
    } else if !small {
        loud && looks.is_surely_random() && solid >= 24 && looks.joint <= 2
    } else {
        joint == b'_' && looks.is_surely_random() && solid >= 24 && looks.joint <= 3
            || looks.is_surely_random() && solid >= 32 && words == 1 && looks.joint <= 2
    };
    enough && catch.form(Form::PrefixedToken, start, end)
}

fn is_uuid(run: &[u8]) -> bool {
    run.len() == 36 && run.iter().enumerate().all(|(at, byte)| if matches!(at, 8 | 13 | 18 | 23) { *byte == b'-' } else { byte.is_ascii_hexdigit() })
}

/// A run that no shape knows: its name decides, and where that says nothing, the run itself.
fn unnamed(catch: &mut Catch, start: usize, end: usize, wide: (usize, usize), looks: &Looks) -> usize {
    let net = catch.net;
    let text = catch.text.as_bytes();
    let run = &text[start..end];
    let uuid = is_uuid(run);
    if !uuid && !looks.is_random() && !Looks::of(&text[wide.0..wide.1]).is_random() {
        return end;
    }
    // base64 goes on over its own signs; a path, an address and a file name do not.
    let (mut left, mut right) = wide;
    let outside = |range: &[u8]| range.iter().any(|byte| matches!(byte, b'.' | b'~'));
    let slashes = text[left..right].iter().filter(|byte| **byte == b'/').count();
    let is_path = text[left] == b'/' && slashes > 1
        || text[left..right].starts_with(b"./")
        || left > 0 && matches!(text[left - 1], b':' | b'\\' | b'@' | b'%') && text[left] == b'/';
    // `name=value` and `key==value` are runs, too.
    if let Some(equals) = text[left..start].iter().rposition(|byte| *byte == b'=') {
        left += equals + 1;
    }
    if let Some(equals) = text[end..right].iter().position(|byte| *byte == b'=') {
        let signs = text[end + equals..right].iter().take_while(|byte| **byte == b'=').count();
        right = end + equals + if signs <= 2 { signs } else { 0 };
    }
    if is_path || outside(&text[left..start]) || outside(&text[end..right]) {
        let dotted_file = text.get(end) == Some(&b'.') && text[end + 1..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count().wrapping_sub(1) < 5;
        let before_is_path = start > 0 && matches!(text[start - 1], b'/' | b'\\');
        if is_path && before_is_path && slashes > 1 || dotted_file && looks.len < 32 || dotted_file && before_is_path {
            return end;
        }
        (left, right) = (if start > 0 && text[start - 1] == b'.' { dotted_left(text, start, left) } else { start }, end);
        if text.get(end) == Some(&b'.') || text.get(end) == Some(&b'~') {
            right = end + text[end..wide.1].iter().take_while(|byte| is_run(**byte) || matches!(**byte, b'.' | b'~')).count();
        }
    }
    let value = &text[left..right];
    let before = net.rules.words.before(text, left);
    let word = run.split(|byte| matches!(byte, b'_' | b'-')).next().unwrap_or(b"");
    let is_id = word.len() < run.len() && net.rules.ids.contains(word) || is_part_of_id(text, left);
    let solid = looks.len - looks.joint;
    let hex = looks.is_hex();
    let form = match before.promise {
        _ if is_id && before.promise < Promise::Password => return end,
        Promise::Harmless if before.query && is_signature(text, before.start) => Form::AssignedSecret,
        Promise::Harmless => return end,
        Promise::Password | Promise::Pin => Form::AssignedPassword,
        Promise::Secret => Form::AssignedSecret,
        // The fingerprint of a key of GnuPG.
        Promise::Key if hex && looks.lower == 0 && looks.len == 40 => return end,
        Promise::Key if before.assigned && (hex && solid >= 32 || !hex && solid >= 16) => Form::AssignedSecret,
        Promise::Vendor if before.assigned && (!hex || solid >= 24) => Form::VendorSecret,
        Promise::Vendor if !hex && !uuid && solid >= 24 => Form::VendorSecret,
        Promise::Nothing if before.assigned && !before.query && looks.is_surely_random() && solid >= 24 && is_quoted(text, left, right) => Form::RandomValue,
        _ => return end,
    };
    if !looks.is_random() && !uuid && form != Form::AssignedSecret {
        return end;
    }
    // Last, because it takes longest.
    let Ok(shown) = std::str::from_utf8(value) else { return end };
    if value::is_placeholder(shown) || value::is_code(shown) || value::is_cut(&text[right..]) {
        return end;
    }
    catch.form(form, left, right);
    right
}

/// `agent:main:…`, `urn:uuid:…`, `arn:aws:…`: a value of several parts that begins with a word.
fn is_part_of_id(text: &[u8], left: usize) -> bool {
    if left == 0 || text[left - 1] != b':' {
        return false;
    }
    let length = text[..left].iter().rev().take(80).take_while(|byte| is_wide(**byte) || **byte == b':').count();
    let parts = &text[left - length..left];
    parts.iter().filter(|byte| **byte == b':').count() >= 2 && parts.first().is_some_and(u8::is_ascii_lowercase)
}

fn dotted_left(text: &[u8], start: usize, floor: usize) -> usize {
    start - text[floor..start].iter().rev().take_while(|byte| is_run(**byte) || **byte == b'.').count()
}

/// `?X-Amz-Signature=…`, `&sig=…`: whoever has the address has the right.
fn is_signature(text: &[u8], name: usize) -> bool {
    let name = &text[name..(name + 16).min(text.len())];
    [&b"sig"[..], b"X-Amz-Sig", b"X-Goog-Sig", b"Signature", b"hmac"]
        .iter()
        .any(|begin| name.len() >= begin.len() && name[..begin.len()].eq_ignore_ascii_case(begin))
}

fn is_quoted(text: &[u8], left: usize, right: usize) -> bool {
    let quote = |byte: Option<&u8>| byte.is_some_and(|byte| matches!(byte, b'"' | b'\'' | b'`'));
    quote(left.checked_sub(1).and_then(|at| text.get(at))) && (quote(text.get(right)) || text.get(right) == Some(&b'\\'))
}
