//! Everything that begins with `(`: groups, names, look-around, conditionals, comments and inline flags.

use super::PatternError;
use super::node::Node;
use super::parse::{Flags, Parser};
use super::source::{self, Token};

/// Reads a group; the `(` is taken already. None for comments and global flags. `first`: nothing came before.
pub(super) fn group(parser: &mut Parser, first: bool) -> Result<Option<Node>, PatternError> {
    let start = parser.source.position().saturating_sub(1);
    if !parser.source.take('?')? {
        return capture(parser, start, None).map(Some);
    }
    let Some(token) = parser.source.get()? else {
        return Err(parser.source.error("unexpected end of pattern", 0));
    };
    let Token::Char(letter) = token else { return Err(unknown(parser, "?", token)) };
    match letter {
        'P' => named(parser, start).map(Some),
        ':' => Ok(Some(Node::Plain(body(parser, start)?))),
        '>' => Ok(Some(Node::Atomic(body(parser, start)?))),
        '#' => comment(parser, start),
        '=' | '!' => {
            let body = body(parser, start)?;
            Ok(Some(Node::Look { ahead: true, wanted: letter == '=', body }))
        }
        '<' => look_behind(parser, start).map(Some),
        '(' => conditional(parser, start).map(Some),
        'i' | 'L' | 'm' | 's' | 'x' | 'a' | 't' | 'u' | '-' => flagged(parser, letter, start, first),
        _ => Err(unknown(parser, "?", token)),
    }
}

fn unknown(parser: &Parser, before: &str, token: Token) -> PatternError {
    let (text, length) = match token {
        Token::Char(letter) => (letter.to_string(), 1),
        Token::Escape(letter) => (format!("\\{letter}"), 2),
    };
    parser.source.error(format!("unknown extension {before}{text}"), before.len() + length)
}

/// What is in the group, and its `)`. Flags set inside end with it.
fn body(parser: &mut Parser, start: usize) -> Result<Box<Node>, PatternError> {
    let flags = parser.flags;
    parser.depth += 1;
    let body = parser.branches()?;
    parser.depth -= 1;
    parser.flags = flags;
    close(parser, start)?;
    Ok(Box::new(body))
}

fn close(parser: &mut Parser, start: usize) -> Result<(), PatternError> {
    if parser.source.take(')')? {
        return Ok(());
    }
    let back = parser.source.position() - start;
    Err(parser.source.error("missing ), unterminated subpattern", back))
}

fn capture(parser: &mut Parser, start: usize, name: Option<String>) -> Result<Node, PatternError> {
    let number = parser.widths.len();
    if let Some(name) = name {
        if let Some((_, old)) = parser.names.iter().find(|(own, _)| *own == name) {
            let message = format!("redefinition of group name `{name}` as group {number}; was group {old}");
            return Err(parser.source.error(message, name.chars().count() + 1));
        }
        parser.names.push((name, number));
    }
    parser.widths.push(None);
    let body = body(parser, start)?;
    let width = body.width(&parser.widths);
    if let Some(place) = parser.widths.get_mut(number) {
        *place = Some(width);
    }
    Ok(Node::Capture(body))
}

/// `(?P<name>…)` and `(?P=name)`.
fn named(parser: &mut Parser, start: usize) -> Result<Node, PatternError> {
    if parser.source.take('<')? {
        let name = parser.source.take_until('>', "group name")?;
        check_name(parser, &name)?;
        return capture(parser, start, Some(name));
    }
    if parser.source.take('=')? {
        let name = parser.source.take_until(')', "group name")?;
        check_name(parser, &name)?;
        let group = number_of(parser, &name)?;
        return parser.back_reference(group, name.chars().count() + 1);
    }
    match parser.source.get()? {
        None => Err(parser.source.error("unexpected end of pattern", 0)),
        Some(token) => Err(unknown(parser, "?P", token)),
    }
}

fn check_name(parser: &Parser, name: &str) -> Result<(), PatternError> {
    if source::is_identifier(name) {
        return Ok(());
    }
    Err(parser.source.error(format!("bad character in group name `{name}`"), name.chars().count() + 1))
}

fn number_of(parser: &Parser, name: &str) -> Result<usize, PatternError> {
    let found = parser.names.iter().find(|(own, _)| own == name).map(|(_, number)| *number);
    found.ok_or_else(|| parser.source.error(format!("unknown group name `{name}`"), name.chars().count() + 1))
}

fn comment(parser: &mut Parser, start: usize) -> Result<Option<Node>, PatternError> {
    loop {
        match parser.source.get()? {
            Some(Token::Char(')')) => return Ok(None),
            Some(_) => {}
            None => {
                let back = parser.source.position() - start;
                return Err(parser.source.error("missing ), unterminated comment", back));
            }
        }
    }
}

fn look_behind(parser: &mut Parser, start: usize) -> Result<Node, PatternError> {
    let wanted = match parser.source.get()? {
        Some(Token::Char('=')) => true,
        Some(Token::Char('!')) => false,
        Some(token) => return Err(unknown(parser, "?<", token)),
        None => return Err(parser.source.error("unexpected end of pattern", 0)),
    };
    let outer = parser.look_behind;
    parser.look_behind = outer.or(Some(parser.widths.len()));
    let body = body(parser, start)?;
    parser.look_behind = outer;
    let (low, high) = body.width(&parser.widths);
    if low != high {
        parser.uneven_look_behind.get_or_insert(start);
    }
    Ok(Node::Look { ahead: false, wanted, body })
}

/// `(?(1)yes|no)`, `(?(name)yes)`.
fn conditional(parser: &mut Parser, start: usize) -> Result<Node, PatternError> {
    let name = parser.source.take_until(')', "group name")?;
    let back = name.chars().count() + 1;
    let group = if source::is_identifier(&name) {
        number_of(parser, &name)?
    } else {
        match source::group_number(&name) {
            None => return Err(parser.source.error(format!("bad character in group name `{name}`"), back)),
            Some(0) => return Err(parser.source.error("bad group number", back)),
            Some(group) => {
                parser.wanted.push((group, parser.source.position().saturating_sub(back)));
                group
            }
        }
    };
    parser.check_look_behind(group)?;
    let flags = parser.flags;
    parser.depth += 1;
    let yes = Box::new(parser.sequence(false)?);
    let no = if parser.source.take('|')? { parser.sequence(false)? } else { Node::Concat(Vec::new()) };
    parser.depth -= 1;
    parser.flags = flags;
    if parser.source.peek_char() == Some('|') {
        return Err(parser.source.error("conditional backref with more than two branches", 0));
    }
    close(parser, start)?;
    Ok(Node::If { group, yes, no: Box::new(no) })
}

/// `(?i)`, `(?i:…)`, `(?-i:…)`, `(?i-s:…)`.
fn flagged(
    parser: &mut Parser,
    letter: char,
    start: usize,
    first: bool,
) -> Result<Option<Node>, PatternError> {
    let Some((on, off)) = read_flags(parser, letter)? else {
        if !first {
            let back = parser.source.position() - start;
            return Err(parser.source.error("global flags not at the start of the expression", back));
        }
        return Ok(None);
    };
    let outer = parser.flags;
    let old = parser.flags;
    parser.flags = Flags {
        any_case: (old.any_case || on.contains('i')) && !off.contains('i'),
        lines: (old.lines || on.contains('m')) && !off.contains('m'),
        dot_newline: (old.dot_newline || on.contains('s')) && !off.contains('s'),
        verbose: (old.verbose || on.contains('x')) && !off.contains('x'),
        unicode: (old.unicode || on.contains('u')) && !on.contains('a'),
        template: old.template,
    };
    let node = Node::Plain(body(parser, start)?);
    parser.flags = outer;
    Ok(Some(node))
}

/// The letters turned on and off; none when they were global (and now hold).
fn read_flags(parser: &mut Parser, letter: char) -> Result<Option<(String, String)>, PatternError> {
    let mut on = String::new();
    let mut end = letter;
    while end != '-' {
        match end {
            'L' => {
                let message = "bad inline flags: cannot use 'L' flag with a str pattern";
                return Err(parser.source.error(message, 0));
            }
            'a' if on.contains('u') => return Err(type_flags(parser)),
            'u' if on.contains('a') => return Err(type_flags(parser)),
            _ => on.push(end),
        }
        end = next_flag(parser, ")-:", "missing -, : or )")?;
        if matches!(end, ')' | ':') {
            break;
        }
    }
    if end == ')' {
        set_global(parser, &on)?;
        return Ok(None);
    }
    if on.contains('t') {
        return Err(parser.source.error("bad inline flags: cannot turn on global flag", 1));
    }
    let mut off = String::new();
    if end == '-' {
        end = next_flag(parser, "", "missing flag")?;
        while end != ':' {
            if matches!(end, 'a' | 'u' | 'L') {
                let message = "bad inline flags: cannot turn off flags 'a', 'u' and 'L'";
                return Err(parser.source.error(message, 0));
            }
            off.push(end);
            end = next_flag(parser, ":", "missing :")?;
        }
    }
    if off.contains('t') {
        return Err(parser.source.error("bad inline flags: cannot turn off global flag", 1));
    }
    if on.chars().any(|flag| off.contains(flag)) {
        return Err(parser.source.error("bad inline flags: flag turned on and off", 1));
    }
    Ok(Some((on, off)))
}

fn type_flags(parser: &Parser) -> PatternError {
    parser.source.error("bad inline flags: flags 'a', 'u' and 'L' are incompatible", 0)
}

/// The next letter: a flag or one of `ends`.
fn next_flag(parser: &mut Parser, ends: &str, missing: &str) -> Result<char, PatternError> {
    match parser.source.get()? {
        Some(Token::Char(letter)) if "iLmsxatu".contains(letter) || ends.contains(letter) => Ok(letter),
        Some(Token::Char(letter)) if letter.is_alphabetic() => Err(parser.source.error("unknown flag", 1)),
        Some(Token::Char(_)) => Err(parser.source.error(missing, 1)),
        Some(Token::Escape(_)) => Err(parser.source.error(missing, 2)),
        None => Err(parser.source.error(missing, 0)),
    }
}

fn set_global(parser: &mut Parser, on: &str) -> Result<(), PatternError> {
    if on.contains('u') {
        return Err(parser
            .source
            .error("the flag `u` is incompatible: patterns are ASCII here (R-ASCII)", 0));
    }
    let old = parser.global;
    parser.global = Flags {
        any_case: old.any_case || on.contains('i'),
        lines: old.lines || on.contains('m'),
        dot_newline: old.dot_newline || on.contains('s'),
        verbose: old.verbose || on.contains('x'),
        unicode: false,
        template: old.template || on.contains('t'),
    };
    parser.flags = parser.global;
    Ok(())
}
