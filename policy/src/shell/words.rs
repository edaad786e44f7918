//! Words: what is known of a word's text after the shell has expanded it.
//!
//! Constants are followed (`x=rm; $x`, `${IFS}`, `$'..'`, braces, quotes). What only the run will tell is a mark in the
//! text: [`UNKNOWN`] where it may be anything, [`TAME`] where it can only be a number, a name or a date.

use super::scope::{Scope, Value};
use super::walk::Walk;
use shuck_ast::{
    ArithmeticExpr, ArithmeticExprNode, BourneParameterExpansion, HeredocBody, HeredocBodyPart, ParameterExpansion, ParameterExpansionSyntax, ParameterOp,
    Pattern, PatternPart, SourceText, VarRef, Word, WordPart, WordPartNode,
};

/// Noncharacters: no text that means anything holds them, and lines that do are refused.
pub const UNKNOWN: char = '\u{fdd0}';
pub const TAME: char = '\u{fdd1}';
/// A brace, comma or dot-dot that the shell would expand.
const OPEN: char = '\u{fdd2}';
const COMMA: char = '\u{fdd3}';
const CLOSE: char = '\u{fdd4}';
/// A gap at which an unquoted value falls apart.
const GAP: char = '\u{fdd5}';
/// Around and between the alternatives of a piece.
const SET: char = '\u{fdd6}';
const OR: char = '\u{fdd7}';
const END: char = '\u{fdd8}';

/// The text of one word.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Text(String);

impl Text {
    pub fn new(text: impl Into<String>) -> Text {
        Text(text.into())
    }

    pub fn unknown() -> Text {
        Text(UNKNOWN.to_string())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Something in it may be anything.
    pub fn has_unknown(&self) -> bool {
        self.0.contains(UNKNOWN)
    }

    /// Every character is known.
    pub fn is_exact(&self) -> bool {
        !self.0.contains([UNKNOWN, TAME])
    }
}

/// Words beyond these are cut off and the line is called unreadable.
const ALTERNATIVES_MAX: usize = 32;
pub(super) const WORD_BYTES_MAX: usize = 64 * 1024;
/// All words of one line together, as they are expanded: `x=$x$x` doubles with every time it is written.
const EXPANDED_BYTES_MAX: usize = 1024 * 1024;

impl Walk<'_> {
    /// What the word comes to: usually one text, several for braces, sets and lists, none for an empty unquoted value.
    pub(super) fn words(&mut self, word: &Word, source: &str, scope: &mut Scope) -> Vec<Text> {
        let mut out = String::new();
        let braces = word.has_active_brace_expansion();
        let plain = self.parts(&word.parts, source, scope, false, braces, &mut out);
        if self.overflows(&out) {
            return vec![Text::unknown()];
        }
        if plain && !braces && !out.contains([SET, GAP]) {
            return vec![Text(out)];
        }
        self.fall_apart(&out, word.has_quoted_parts()).into_iter().flatten().collect()
    }

    /// As `words`, but what the word may be instead of what is kept apart: for the place of the program's name.
    pub(super) fn choices(&mut self, word: &Word, source: &str, scope: &mut Scope) -> Vec<Vec<Text>> {
        let mut out = String::new();
        let braces = word.has_active_brace_expansion();
        let plain = self.parts(&word.parts, source, scope, false, braces, &mut out);
        if self.overflows(&out) {
            return vec![vec![Text::unknown()]];
        }
        let mut choices = if plain && !braces && !out.contains([SET, GAP]) { vec![vec![Text(out)]] } else { self.fall_apart(&out, word.has_quoted_parts()) };
        // `r${nothing}m`: what nobody has set is most likely empty.
        if choices.len() == 1
            && let [first] = choices[0].as_slice()
            && first.has_unknown()
        {
            let without = first.0.replace(UNKNOWN, "");
            if !without.is_empty() && (self.lexicon.has_rules(&without) || self.lexicon.programs.contains(&without)) {
                choices.push(vec![Text(without)]);
            }
        }
        choices
    }

    /// The word as exactly one text, for places where the shell does not split.
    pub(super) fn word(&mut self, word: &Word, source: &str, scope: &mut Scope) -> Text {
        let mut out = String::new();
        self.parts(&word.parts, source, scope, true, false, &mut out);
        if self.overflows(&out) {
            return Text::unknown();
        }
        // One of several: the caller wants one text, so nobody knows which.
        if out.contains(SET) { Text::unknown() } else { Text(out.replace(GAP, " ")) }
    }

    /// Every text that an assignment's value may be.
    pub(super) fn values(&mut self, word: &Word, source: &str, scope: &mut Scope) -> Vec<String> {
        let mut out = String::new();
        self.parts(&word.parts, source, scope, true, false, &mut out);
        if self.overflows(&out) {
            return vec![UNKNOWN.to_string()];
        }
        alternatives(&out).into_iter().map(|text| text.replace(GAP, " ")).collect()
    }

    /// Whether the word, or all words of the line so far, came to more than anybody reads.
    fn overflows(&mut self, out: &str) -> bool {
        self.expanded += out.len();
        let overflows = out.len() > WORD_BYTES_MAX || self.expanded > EXPANDED_BYTES_MAX;
        if overflows {
            self.judgement.unreadable("shell.too_long");
        }
        overflows
    }

    fn fall_apart(&mut self, out: &str, quoted: bool) -> Vec<Vec<Text>> {
        let alternatives = alternatives(out);
        if alternatives.len() > ALTERNATIVES_MAX {
            self.judgement.unreadable("shell.too_long");
            return vec![vec![Text::unknown()]];
        }
        let mut choices = Vec::new();
        for one in alternatives {
            let mut words = Vec::new();
            for expanded in braces(&one) {
                if expanded.contains(GAP) {
                    words.extend(expanded.split(GAP).filter(|piece| !piece.is_empty()).map(Text::new));
                } else if !expanded.is_empty() || quoted {
                    words.push(Text(expanded));
                }
            }
            choices.push(words);
        }
        choices
    }

    /// Appends the text of the parts. True when it holds nothing that may fall apart.
    fn parts(&mut self, parts: &[WordPartNode], source: &str, scope: &mut Scope, quoted: bool, active_braces: bool, out: &mut String) -> bool {
        let (mut plain, mut several) = (true, false);
        for node in parts {
            match &node.kind {
                WordPart::Literal(literal) => {
                    let text = literal.as_str(source, node.span);
                    if active_braces && !quoted {
                        out.extend(text.chars().map(|c| match c {
                            '{' => OPEN,
                            ',' => COMMA,
                            '}' => CLOSE,
                            c => c,
                        }));
                    } else if quoted || !text.contains('\\') {
                        out.push_str(text);
                    } else {
                        unescape(text, out);
                    }
                }
                WordPart::SingleQuoted { value, .. } => out.push_str(value.slice(source)),
                WordPart::DoubleQuoted { parts, .. } => plain &= self.parts(parts, source, scope, true, false, out),
                other => {
                    plain &= self.expansion(other, source, scope, quoted, out);
                    several = true;
                }
            }
        }
        // In quotes, too, a value may be one of several, and `"${list[@]}"` is as many words as the list has.
        if several && out.contains([SET, GAP]) { false } else { plain }
    }

    fn expansion(&mut self, part: &WordPart, source: &str, scope: &mut Scope, quoted: bool, out: &mut String) -> bool {
        match part {
            WordPart::Variable(name) => self.variable(name.as_str(), scope, quoted, out),
            WordPart::CommandSubstitution { body, .. } => {
                let text = self.substitution(body, source, scope);
                push_value(&text, quoted, out);
                quoted
            }
            WordPart::ProcessSubstitution { body, .. } => {
                self.substitution(body, source, scope);
                out.push(TAME);
                true
            }
            WordPart::ArithmeticExpansion { expression_ast, expression_word_ast, .. } => {
                self.arithmetic(expression_ast.as_deref(), Some(expression_word_ast), source, scope);
                out.push(TAME);
                true
            }
            WordPart::Parameter(expansion) => self.parameter(expansion, source, scope, quoted, out),
            WordPart::ParameterExpansion { reference, operator, operand_word_ast, .. } => {
                self.operation(reference, operator, operand_word_ast.as_deref(), source, scope, quoted, out)
            }
            WordPart::Length(_) | WordPart::ArrayLength(_) => {
                out.push(TAME);
                true
            }
            WordPart::ArrayAccess(reference) => self.reference(reference, source, scope, quoted, out),
            WordPart::Substring { reference, offset, length, .. } | WordPart::ArraySlice { reference, offset, length, .. } => {
                self.slice(reference, offset, length.as_deref(), source, scope, quoted, out)
            }
            WordPart::IndirectExpansion { reference, operand_word_ast, .. } => {
                if let Some(word) = operand_word_ast {
                    self.word(word, source, scope);
                }
                let name = self.one_value(reference, source, scope);
                match name {
                    Some(name) if !name.contains([UNKNOWN, TAME]) => self.variable(&name, scope, quoted, out),
                    _ => {
                        out.push(UNKNOWN);
                        quoted
                    }
                }
            }
            // `${x@P}` runs substitutions that are written in the value.
            WordPart::Transformation { operator: 'P', .. } => {
                self.judgement.unreadable("shell.hidden_code");
                out.push(UNKNOWN);
                quoted
            }
            WordPart::Transformation { reference, operator, .. } => self.transformed(reference, *operator, source, scope, quoted, out),
            WordPart::ArrayIndices(_) | WordPart::PrefixMatch { .. } => {
                out.push(UNKNOWN);
                quoted
            }
            WordPart::ZshQualifiedGlob(_) => {
                self.judgement.unreadable("shell.unreadable");
                out.push(UNKNOWN);
                quoted
            }
            WordPart::Literal(_) | WordPart::SingleQuoted { .. } | WordPart::DoubleQuoted { .. } => true,
        }
    }

    fn transformed(&mut self, reference: &VarRef, operator: char, source: &str, scope: &mut Scope, quoted: bool, out: &mut String) -> bool {
        match (operator, self.one_value(reference, source, scope)) {
            ('U', Some(text)) => push_value(&text.to_uppercase(), quoted, out),
            ('L', Some(text)) => push_value(&text.to_lowercase(), quoted, out),
            _ => out.push(UNKNOWN),
        }
        quoted
    }

    fn variable(&mut self, name: &str, scope: &mut Scope, quoted: bool, out: &mut String) -> bool {
        match scope.value(name) {
            // A line that has set `IFS` says itself where values fall apart.
            Some(Value::Some(texts)) if !quoted && !scope.separators.is_empty() => {
                let apart = texts.iter().map(|text| text.replace(|c| scope.separators.contains(c), " ")).collect();
                push_alternatives(&Value::Some(apart), quoted, out);
            }
            Some(Value::List(items)) if matches!(name, "@" | "*") => {
                push_list(&items, out);
                return false;
            }
            Some(value) => push_alternatives(&value, quoted, out),
            None => match well_known(name, scope) {
                Some(text) => push_value(&text, quoted, out),
                None => out.push(UNKNOWN),
            },
        }
        quoted
    }

    fn reference(&mut self, reference: &VarRef, source: &str, scope: &mut Scope, quoted: bool, out: &mut String) -> bool {
        let Some(subscript) = &reference.subscript else { return self.variable(reference.name.as_str(), scope, quoted, out) };
        if let Some(word) = subscript.word_ast() {
            self.word(word, source, scope);
        }
        match scope.value(reference.name.as_str()) {
            Some(Value::List(items)) if subscript.is_array_selector() => {
                push_list(&items, out);
                return false;
            }
            Some(Value::List(items)) => match subscript.syntax_text(source).trim().parse::<usize>().ok().and_then(|index| items.get(index)) {
                Some(item) => push_value(item, quoted, out),
                None => out.push(UNKNOWN),
            },
            Some(value) => push_alternatives(&value, quoted, out),
            None => out.push(UNKNOWN),
        }
        quoted
    }

    fn parameter(&mut self, expansion: &ParameterExpansion, source: &str, scope: &mut Scope, quoted: bool, out: &mut String) -> bool {
        let ParameterExpansionSyntax::Bourne(bourne) = &expansion.syntax else {
            self.judgement.unreadable("shell.unreadable");
            out.push(UNKNOWN);
            return quoted;
        };
        match bourne {
            BourneParameterExpansion::Access { reference } => self.reference(reference, source, scope, quoted, out),
            BourneParameterExpansion::Length { .. } => {
                out.push(TAME);
                true
            }
            BourneParameterExpansion::Operation { reference, operator, operand_word_ast, .. } => {
                self.operation(reference, operator, operand_word_ast.as_deref(), source, scope, quoted, out)
            }
            BourneParameterExpansion::Slice { reference, offset, length, .. } => self.slice(reference, offset, length.as_ref(), source, scope, quoted, out),
            BourneParameterExpansion::Indirect { reference, operand_word_ast, .. } => {
                if let Some(word) = operand_word_ast {
                    self.word(word, source, scope);
                }
                match self.one_value(reference, source, scope) {
                    Some(name) if !name.contains([UNKNOWN, TAME]) => self.variable(&name, scope, quoted, out),
                    _ => {
                        out.push(UNKNOWN);
                        quoted
                    }
                }
            }
            BourneParameterExpansion::Transformation { operator: 'P', .. } => {
                self.judgement.unreadable("shell.hidden_code");
                out.push(UNKNOWN);
                quoted
            }
            BourneParameterExpansion::Transformation { reference, operator } => self.transformed(reference, *operator, source, scope, quoted, out),
            BourneParameterExpansion::Indices { .. } | BourneParameterExpansion::PrefixMatch { .. } => {
                out.push(UNKNOWN);
                quoted
            }
        }
    }

    /// `${x:-word}`, `${x%suffix}`, `${x/a/b}`, `${x^^}`: followed where every piece is known.
    #[allow(clippy::too_many_arguments, reason = "the pieces of one syntax node, and where they go")]
    fn operation(
        &mut self,
        reference: &VarRef,
        operator: &ParameterOp,
        operand: Option<&Word>,
        source: &str,
        scope: &mut Scope,
        quoted: bool,
        out: &mut String,
    ) -> bool {
        let operand = operand.map(|word| self.word(word, source, scope).0);
        let known = scope.value(reference.name.as_str()).is_some() || well_known(reference.name.as_str(), scope).is_some();
        let text = self.one_value(reference, source, scope);
        let exact = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.contains([UNKNOWN, TAME]));
        let literal = |pattern: &Pattern| literal(pattern, source);
        match operator {
            ParameterOp::UseDefault | ParameterOp::AssignDefault => {
                let default = operand.unwrap_or_default();
                if matches!(operator, ParameterOp::AssignDefault) && !known {
                    scope.set(reference.name.as_str(), Value::Some(vec![default.clone()]));
                }
                match text {
                    Some(text) if known && !text.is_empty() => push_value(&text, quoted, out),
                    _ if known => push_value(&default, quoted, out),
                    // A variable of the environment may be set; one in small letters hardly is.
                    _ if reference.name.as_str().chars().any(|c| c.is_ascii_lowercase()) => push_value(&default, quoted, out),
                    _ => push_alternatives(&Value::Some(vec![default, UNKNOWN.to_string()]), quoted, out),
                }
            }
            ParameterOp::UseReplacement => push_alternatives(&Value::Some(vec![operand.unwrap_or_default(), String::new()]), quoted, out),
            ParameterOp::Error => push_value(text.as_deref().unwrap_or("\u{fdd0}"), quoted, out),
            ParameterOp::UpperAll if exact(&text) => push_value(&text.unwrap_or_default().to_uppercase(), quoted, out),
            ParameterOp::LowerAll if exact(&text) => push_value(&text.unwrap_or_default().to_lowercase(), quoted, out),
            ParameterOp::RemovePrefixShort { pattern } | ParameterOp::RemovePrefixLong { pattern } if exact(&text) && literal(pattern).is_some() => {
                let (text, pattern) = (text.unwrap_or_default(), literal(pattern).unwrap_or_default());
                push_value(text.strip_prefix(&pattern).unwrap_or(&text), quoted, out);
            }
            ParameterOp::RemoveSuffixShort { pattern } | ParameterOp::RemoveSuffixLong { pattern } if exact(&text) && literal(pattern).is_some() => {
                let (text, pattern) = (text.unwrap_or_default(), literal(pattern).unwrap_or_default());
                push_value(text.strip_suffix(&pattern).unwrap_or(&text), quoted, out);
            }
            ParameterOp::ReplaceFirst { pattern, replacement_word_ast, .. } | ParameterOp::ReplaceAll { pattern, replacement_word_ast, .. }
                if exact(&text) && literal(pattern).is_some() =>
            {
                let with = self.word(replacement_word_ast, source, scope).0;
                let (text, pattern) = (text.unwrap_or_default(), literal(pattern).unwrap_or_default());
                let first = matches!(operator, ParameterOp::ReplaceFirst { .. });
                let times = if first { 1 } else { text.matches(&pattern).count() };
                if text.len() + times.saturating_mul(with.len()) > WORD_BYTES_MAX {
                    self.judgement.unreadable("shell.too_long");
                    out.push(UNKNOWN);
                } else {
                    push_value(&if first { text.replacen(&pattern, &with, 1) } else { text.replace(&pattern, &with) }, quoted, out);
                }
            }
            _ => {
                if let Some(word) = operator.replacement_word_ast() {
                    self.word(word, source, scope);
                }
                out.push(UNKNOWN);
            }
        }
        quoted
    }

    #[allow(clippy::too_many_arguments, reason = "the pieces of one syntax node, and where they go")]
    fn slice(
        &mut self,
        reference: &VarRef,
        offset: &SourceText,
        length: Option<&SourceText>,
        source: &str,
        scope: &mut Scope,
        quoted: bool,
        out: &mut String,
    ) -> bool {
        let number = |text: &SourceText| text.slice(source).trim().parse::<i64>().ok();
        let text = self.one_value(reference, source, scope).filter(|text| !text.contains([UNKNOWN, TAME]));
        let cut = text.and_then(|text| {
            let letters: Vec<char> = text.chars().collect();
            let count = i64::try_from(letters.len()).ok()?;
            let from = number(offset)?;
            let from = if from < 0 { (count + from).max(0) } else { from.min(count) };
            let to = match length {
                None => count,
                Some(length) => number(length).map(|length| if length < 0 { count + length } else { (from + length).min(count) })?,
            };
            (from <= to).then(|| letters.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?).map(|cut| cut.iter().collect::<String>()))?
        });
        match cut {
            Some(cut) => push_value(&cut, quoted, out),
            None => out.push(UNKNOWN),
        }
        quoted
    }

    /// The value when there is exactly one.
    fn one_value(&mut self, reference: &VarRef, source: &str, scope: &mut Scope) -> Option<String> {
        let mut out = String::new();
        self.reference(reference, source, scope, true, &mut out);
        (!out.contains([SET, GAP])).then_some(out)
    }

    pub(super) fn arithmetic(&mut self, node: Option<&ArithmeticExprNode>, word: Option<&Word>, source: &str, scope: &mut Scope) {
        if let Some(word) = word {
            self.word(word, source, scope);
        }
        let Some(node) = node else { return };
        match &node.kind {
            ArithmeticExpr::ShellWord(word) => {
                self.word(word, source, scope);
            }
            ArithmeticExpr::Number(_) | ArithmeticExpr::Variable(_) => {}
            ArithmeticExpr::Indexed { index, .. } => self.arithmetic(Some(index), None, source, scope),
            ArithmeticExpr::Parenthesized { expression } => self.arithmetic(Some(expression), None, source, scope),
            ArithmeticExpr::Unary { expr, .. } | ArithmeticExpr::Postfix { expr, .. } => self.arithmetic(Some(expr), None, source, scope),
            ArithmeticExpr::Binary { left, right, .. } => {
                self.arithmetic(Some(left), None, source, scope);
                self.arithmetic(Some(right), None, source, scope);
            }
            ArithmeticExpr::Conditional { condition, then_expr, else_expr } => {
                for node in [condition, then_expr, else_expr] {
                    self.arithmetic(Some(node), None, source, scope);
                }
            }
            ArithmeticExpr::Assignment { value, .. } => self.arithmetic(Some(value), None, source, scope),
        }
    }

    /// A heredoc's text after expansion.
    pub(super) fn heredoc(&mut self, body: &HeredocBody, source: &str, scope: &mut Scope) -> String {
        let mut out = String::new();
        for (part, span) in body.parts_with_spans() {
            match part {
                HeredocBodyPart::Literal(literal) => out.push_str(literal.as_str(source, span)),
                HeredocBodyPart::Variable(name) => {
                    self.variable(name.as_str(), scope, true, &mut out);
                }
                HeredocBodyPart::CommandSubstitution { body, .. } => {
                    let text = self.substitution(body, source, scope);
                    out.push_str(&text);
                }
                HeredocBodyPart::ArithmeticExpansion { expression_ast, expression_word_ast, .. } => {
                    self.arithmetic(expression_ast.as_deref(), Some(expression_word_ast), source, scope);
                    out.push(TAME);
                }
                HeredocBodyPart::Parameter(expansion) => {
                    self.parameter(expansion, source, scope, true, &mut out);
                }
            }
        }
        if out.contains(SET) { UNKNOWN.to_string() } else { out.replace(GAP, " ") }
    }
}

/// A pattern without wildcards.
fn literal(pattern: &Pattern, source: &str) -> Option<String> {
    let mut text = String::new();
    for (part, span) in pattern.parts_with_spans() {
        match part {
            PatternPart::Literal(literal) => text.push_str(literal.as_str(source, span)),
            PatternPart::Word(word) => text.push_str(&word.try_static_text(source)?),
            _ => return None,
        }
    }
    Some(text)
}

/// Unquoted, a backslash makes the next character an ordinary one, and joins lines.
fn unescape(text: &str, out: &mut String) {
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('\n') | None => {}
                Some(next) => out.push(next),
            },
            letter => out.push(letter),
        }
    }
}

/// INVARIANT: what is over the bound stays over it, and grows no more.
fn push_value(text: &str, quoted: bool, out: &mut String) {
    if out.len() > WORD_BYTES_MAX {
        return;
    }
    if quoted {
        out.push_str(text);
        return;
    }
    // Unquoted, white space separates words.
    let mut pieces = text.split([' ', '\t', '\n']).peekable();
    while let Some(piece) = pieces.next() {
        out.push_str(piece);
        if pieces.peek().is_some() {
            out.push(GAP);
        }
    }
}

fn push_alternatives(value: &Value, quoted: bool, out: &mut String) {
    match value {
        Value::Some(texts) => match texts.as_slice() {
            [] => {}
            [text] => push_value(text, quoted, out),
            texts => {
                out.push(SET);
                for text in texts {
                    push_value(text, quoted, out);
                    out.push(OR);
                }
                out.push(END);
            }
        },
        Value::List(items) => {
            if let Some(first) = items.first() {
                push_value(first, quoted, out);
            }
        }
    }
}

fn push_list(items: &[String], out: &mut String) {
    for (index, item) in items.iter().enumerate() {
        if out.len() > WORD_BYTES_MAX {
            return;
        }
        if index > 0 {
            out.push(GAP);
        }
        out.push_str(item);
    }
}

/// Every text that one with sets in it may be; more than the bound are cut off one over it.
fn alternatives(out: &str) -> Vec<String> {
    let mut done = vec![String::new()];
    let mut rest = out;
    while let Some(at) = rest.find(SET) {
        let (fixed, inner) = (&rest[..at], &rest[at + SET.len_utf8()..]);
        let end = inner.find(END).unwrap_or(inner.len());
        let items: Vec<&str> = inner[..end].split(OR).collect();
        // Each item ends with the mark, so the last piece is empty.
        let items = &items[..items.len().saturating_sub(1)];
        let multiply = |before: &String| items.iter().map(|item| format!("{before}{fixed}{item}")).collect::<Vec<_>>();
        done = done.iter().flat_map(multiply).take(ALTERNATIVES_MAX + 1).collect();
        rest = inner.get(end + END.len_utf8()..).unwrap_or_default();
    }
    for text in &mut done {
        text.push_str(rest);
    }
    done
}

/// Brace expansion of a text whose active braces are marked.
fn braces(text: &str) -> Vec<String> {
    let plain = |text: &str| text.replace(OPEN, "{").replace(COMMA, ",").replace(CLOSE, "}");
    let mut done = Vec::new();
    let mut open = vec![text.to_owned()];
    while let Some(text) = open.pop() {
        if done.len() + open.len() > ALTERNATIVES_MAX {
            return vec![UNKNOWN.to_string()];
        }
        // The innermost group: the last that opens before the first that closes.
        let Some(close) = text.find(CLOSE) else {
            done.push(plain(&text));
            continue;
        };
        let Some(start) = text[..close].rfind(OPEN) else {
            done.push(plain(&text));
            continue;
        };
        let (before, group, after) = (&text[..start], &text[start + OPEN.len_utf8()..close], &text[close + CLOSE.len_utf8()..]);
        let items: Vec<String> = match group.split_once("..") {
            _ if group.contains(COMMA) => group.split(COMMA).map(str::to_owned).collect(),
            Some((from, to)) => range(from, to),
            None => vec![format!("{{{group}}}")],
        };
        open.extend(items.iter().rev().map(|item| format!("{before}{item}{after}")));
    }
    done
}

fn range(from: &str, to: &str) -> Vec<String> {
    const RANGE_MAX: i64 = 24;
    if let (Ok(from), Ok(to)) = (from.parse::<i64>(), to.split("..").next().unwrap_or_default().parse::<i64>()) {
        // Numbers are harmless; only the ends of a long range are shown.
        return if (to - from).abs() <= RANGE_MAX {
            (from.min(to)..=from.max(to)).map(|number| number.to_string()).collect()
        } else {
            vec![from.to_string(), to.to_string()]
        };
    }
    match (single(from), single(to)) {
        (Some(from), Some(to)) => (from.min(to)..=from.max(to)).take(26).map(|letter| letter.to_string()).collect(),
        _ => vec![format!("{{{from}..{to}}}")],
    }
}

fn single(text: &str) -> Option<char> {
    let mut letters = text.chars();
    letters.next().filter(|letter| letter.is_ascii_alphabetic() && letters.next().is_none())
}

/// What a variable of the environment is when the line does not set it.
fn well_known(name: &str, scope: &Scope) -> Option<String> {
    Some(match name {
        "HOME" => "~".to_owned(),
        "PWD" => scope.folder.clone().unwrap_or_else(|| UNKNOWN.to_string()),
        "TMPDIR" | "TMP" | "TEMP" => "/tmp".to_owned(),
        "IFS" => " ".to_owned(),
        "USER" | "LOGNAME" | "HOSTNAME" | "HOSTTYPE" | "OSTYPE" | "UID" | "EUID" | "PPID" | "RANDOM" | "SECONDS" | "LINENO" | "COLUMNS" | "LINES" | "LANG"
        | "TERM" | "SHLVL" | "BASH_VERSION" | "EPOCHSECONDS" | "?" | "$" | "!" | "#" | "-" | "_" => TAME.to_string(),
        _ => return None,
    })
}
