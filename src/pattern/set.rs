//! Character sets: `[…]`, the categories `\d \s \w`, and what ignoring case means (ASCII only, R-ASCII).

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

use super::PatternError;
use super::escape::{self, Member};
use super::parse::{Flags, Parser};
use super::source::Token;

/// Reads a set; the `[` is taken already.
pub(super) fn bracket(parser: &mut Parser) -> Result<ClassUnicode, PatternError> {
    let open = parser.source.position().saturating_sub(1);
    let unfinished = |parser: &Parser| {
        let back = parser.source.position() - open;
        parser.source.error("unterminated character set", back)
    };
    let flags = parser.flags;
    let negated = parser.source.take('^')?;
    let mut set = ClassUnicode::empty();
    let mut empty = true;
    loop {
        let Some(token) = parser.source.get()? else { return Err(unfinished(parser)) };
        if token == Token::Char(']') && !empty {
            break;
        }
        empty = false;
        let low = read(parser, token)?;
        if !parser.source.take('-')? {
            add(&mut set, low);
            continue;
        }
        let Some(end) = parser.source.get()? else { return Err(unfinished(parser)) };
        if end == Token::Char(']') {
            add(&mut set, low);
            add(&mut set, Member::Code(u32::from('-')));
            break;
        }
        let high = read(parser, end)?;
        match (low, high) {
            (Member::Code(low), Member::Code(high)) if low <= high => add_range(&mut set, low, high),
            _ => {
                let range = format!("{}-{}", written(token), written(end));
                let back = range.chars().count();
                return Err(parser.source.error(format!("bad character range {range}"), back));
            }
        }
    }
    fold(&mut set, flags);
    if negated {
        set.negate();
    }
    Ok(set)
}

fn read(parser: &mut Parser, token: Token) -> Result<Member, PatternError> {
    match token {
        Token::Char(letter) => Ok(Member::Code(u32::from(letter))),
        Token::Escape(letter) => escape::member(&mut parser.source, letter, parser.flags.unicode),
    }
}

fn written(token: Token) -> String {
    match token {
        Token::Char(letter) => letter.to_string(),
        Token::Escape(letter) => format!("\\{letter}"),
    }
}

fn add(set: &mut ClassUnicode, member: Member) {
    match member {
        Member::Code(code) => set.union(&ClassUnicode::new(escape::single(code))),
        Member::Category(category) => set.union(&category),
    }
}

fn add_range(set: &mut ClassUnicode, low: u32, high: u32) {
    // Surrogates may bound a range in Python; no text holds one.
    let low = (low..=high).find_map(char::from_u32);
    let high = (0..=high).rev().find_map(char::from_u32);
    if let (Some(low), Some(high)) = (low, high) {
        set.push(ClassUnicodeRange::new(low, high));
    }
}

/// Adds the other case of every letter when case is ignored.
pub(super) fn fold(set: &mut ClassUnicode, flags: Flags) {
    if !flags.any_case {
        return;
    }
    if flags.unicode {
        // Fails only without the crate's Unicode tables; then nothing is folded.
        let _ = set.try_case_fold_simple();
        return;
    }
    for (own, other) in [(('a', 'z'), b'A'), (('A', 'Z'), b'a')] {
        let mut letters = ClassUnicode::new([ClassUnicodeRange::new(own.0, own.1)]);
        letters.intersect(set);
        let shift = |letter: char| char::from((letter as u8 & 0x1f) - 1 + other);
        let folded =
            letters.iter().map(|range| ClassUnicodeRange::new(shift(range.start()), shift(range.end())));
        set.union(&ClassUnicode::new(folded.collect::<Vec<_>>()));
    }
}

/// `.`
pub(super) fn dot(newline: bool) -> ClassUnicode {
    let mut set =
        if newline { ClassUnicode::empty() } else { ClassUnicode::new([ClassUnicodeRange::new('\n', '\n')]) };
    set.negate();
    set
}

/// The characters of `\w`.
pub(super) fn word(unicode: bool) -> ClassUnicode {
    if unicode { tables(r"[\p{L}\p{N}_]") } else { tables("[0-9A-Za-z_]") }
}

/// `\d \s \w` and their opposites.
pub(super) fn category(letter: char, unicode: bool) -> Option<ClassUnicode> {
    let mut set = match (letter.to_ascii_lowercase(), unicode) {
        ('d', false) => tables("[0-9]"),
        ('d', true) => tables(r"\p{Nd}"),
        ('s', false) => tables(r"[ \t\n\r\x0b\x0c]"),
        ('s', true) => tables(r"[\p{White_Space}\x1c-\x1f]"),
        ('w', _) => word(unicode),
        _ => return None,
    };
    if letter.is_ascii_uppercase() {
        set.negate();
    }
    Some(set)
}

/// A set in the regex crate's own words.
fn tables(text: &str) -> ClassUnicode {
    match regex_syntax::parse(text).map(regex_syntax::hir::Hir::into_kind) {
        Ok(HirKind::Class(Class::Unicode(set))) => set,
        // The texts above are all sets of more than one character.
        _ => ClassUnicode::empty(),
    }
}
