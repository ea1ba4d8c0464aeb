//! Escapes, in sets and outside: `\d`, `\n`, `\x2f`, `\057`, `\1`, `\b`.

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use super::node::{Anchor, Node};
use super::parse::Parser;
use super::source::Source;
use super::{PatternError, set};

/// What an escape in a set stands for.
pub(super) enum Member {
    Code(u32),
    Category(ClassUnicode),
}

/// Reads the escape `\letter` outside a set; the backslash and the letter are taken already.
pub(super) fn node(parser: &mut Parser, letter: char) -> Result<Node, PatternError> {
    let unicode = parser.flags.unicode;
    Ok(match letter {
        'A' => Node::Anchor(Anchor::Start),
        'Z' => Node::Anchor(Anchor::TextEnd),
        'b' => Node::Anchor(Anchor::Word { unicode }),
        'B' => Node::Anchor(Anchor::NotWord { unicode }),
        '0' => {
            let digits = parser.source.take_while(2, is_octal)?;
            parser.literal(octal(&digits))
        }
        '1'..='9' => return reference(parser, letter),
        _ => match member(&mut parser.source, letter, unicode)? {
            Member::Code(code) => parser.literal(code),
            Member::Category(category) => Node::Set(category),
        },
    })
}

/// Reads the escape `\letter` inside a set.
pub(super) fn member(source: &mut Source, letter: char, unicode: bool) -> Result<Member, PatternError> {
    if let Some(category) = set::category(letter, unicode) {
        return Ok(Member::Category(category));
    }
    let code = match letter {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => 0x0a,
        'r' => 0x0d,
        't' => 0x09,
        'v' => 0x0b,
        'x' => hexadecimal(source, letter, 2)?,
        'u' => hexadecimal(source, letter, 4)?,
        'U' => hexadecimal(source, letter, 8)?,
        'N' if source.peek_char() != Some('{') => return Err(source.error("missing {", 0)),
        'N' => {
            let message = r"characters by name (`\N{…}`) are not supported, write the character itself";
            return Err(source.error(message, 2));
        }
        '0'..='7' => {
            let digits = format!("{letter}{}", source.take_while(2, is_octal)?);
            byte(source, &digits)?
        }
        _ if letter.is_ascii_alphanumeric() => return Err(source.error(format!("bad escape \\{letter}"), 2)),
        _ => u32::from(letter),
    };
    Ok(Member::Code(code))
}

/// `\12` is a group, `\012` and `\123` are characters.
fn reference(parser: &mut Parser, first: char) -> Result<Node, PatternError> {
    let mut digits = String::from(first);
    if let Some(second) = parser.source.peek_char().filter(char::is_ascii_digit) {
        parser.source.get()?;
        digits.push(second);
        if let (true, true, Some(third)) =
            (is_octal(first), is_octal(second), parser.source.peek_char().filter(|&third| is_octal(third)))
        {
            parser.source.get()?;
            digits.push(third);
            let code = byte(&parser.source, &digits)?;
            return Ok(parser.literal(code));
        }
    }
    parser.back_reference(digits.parse().unwrap_or(usize::MAX), digits.len() + 1)
}

fn byte(source: &Source, digits: &str) -> Result<u32, PatternError> {
    let code = octal(digits);
    if code <= 0o377 {
        return Ok(code);
    }
    let message = format!("octal escape value \\{digits} outside of range 0-0o377");
    Err(source.error(message, digits.len() + 1))
}

fn octal(digits: &str) -> u32 {
    u32::from_str_radix(digits, 8).unwrap_or(0)
}

fn is_octal(letter: char) -> bool {
    matches!(letter, '0'..='7')
}

fn hexadecimal(source: &mut Source, letter: char, count: usize) -> Result<u32, PatternError> {
    let digits = source.take_while(count, |letter| letter.is_ascii_hexdigit())?;
    let back = digits.len() + 2;
    if digits.len() != count {
        return Err(source.error(format!("incomplete escape \\{letter}{digits}"), back));
    }
    match u32::from_str_radix(&digits, 16) {
        Ok(code) if code <= u32::from(char::MAX) => Ok(code),
        _ => Err(source.error(format!("bad escape \\{letter}{digits}"), back)),
    }
}

/// One character as a set.
pub(super) fn single(code: u32) -> Option<ClassUnicodeRange> {
    char::from_u32(code).map(|letter| ClassUnicodeRange::new(letter, letter))
}
