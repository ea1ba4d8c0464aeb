//! A parsed pattern in the syntax of the engines: `regex-automata` for one automaton, `fancy-regex` for the rest.

use std::fmt::Write as _;

use regex_syntax::hir::ClassUnicode;

use super::node::{Anchor, Kind, Node};
use super::set;

/// For which question, and for which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The whole text, as one automaton.
    Full,
    /// A beginning of the text, as one automaton.
    Starts,
    /// For the engine that backtracks.
    Backtracking,
    /// One automaton that matches at least what the pattern matches.
    Superset,
}

/// A set without a character.
const NEVER: &str = r"[^\x{0}-\x{10FFFF}]";

/// Writes the pattern in the engine's words.
pub(super) fn translate(node: &Node, form: Form) -> String {
    let mut text = String::new();
    write(node, form, &mut text);
    text
}

fn write(node: &Node, form: Form, out: &mut String) {
    match node {
        Node::Set(set) => write_set(set, out),
        Node::Anchor(anchor) => write_anchor(*anchor, form, out),
        Node::Concat(nodes) => nodes.iter().for_each(|node| write_part(node, form, out)),
        Node::Either(branches) => {
            for (index, branch) in branches.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "|" });
                write(branch, form, out);
            }
        }
        Node::Capture(body) => wrap("(", body, form, out),
        Node::Plain(body) => wrap("(?:", body, form, out),
        Node::Repeat { body, min, max, kind } => write_repeat(body, (*min, *max), *kind, form, out),
        Node::Look { .. } if form == Form::Superset => {}
        Node::Look { ahead, wanted, body } => {
            let open = match (ahead, wanted) {
                (true, true) => "(?=",
                (true, false) => "(?!",
                (false, true) => "(?<=",
                (false, false) => "(?<!",
            };
            wrap(open, body, form, out);
        }
        Node::Atomic(body) => wrap(if form == Form::Superset { "(?:" } else { "(?>" }, body, form, out),
        Node::Back { .. } if form == Form::Superset => out.push_str("(?s:.*)"),
        Node::Back { group, any_case } => {
            let open = if *any_case { "(?i:" } else { "(?:" };
            let _ = write!(out, "{open}\\{group})");
        }
        Node::If { group, yes, no } => {
            if form == Form::Superset {
                out.push_str("(?:");
            } else {
                let _ = write!(out, "(?({group})");
            }
            wrap("(?:", yes, form, out);
            out.push('|');
            wrap("(?:", no, form, out);
            out.push(')');
        }
    }
}

fn wrap(open: &str, body: &Node, form: Form, out: &mut String) {
    out.push_str(open);
    write(body, form, out);
    out.push(')');
}

/// A part of a sequence: alternatives need brackets there.
fn write_part(node: &Node, form: Form, out: &mut String) {
    if matches!(node, Node::Either(_)) { wrap("(?:", node, form, out) } else { write(node, form, out) }
}

fn write_repeat(body: &Node, (min, max): (u32, Option<u32>), kind: Kind, form: Form, out: &mut String) {
    let possessive = kind == Kind::Possessive && form != Form::Superset;
    // In Python each round of a possessive repeat is final, not only the last.
    out.push_str(if possessive { "(?>" } else { "" });
    match body {
        _ if possessive => wrap("(?>", body, form, out),
        _ if form == Form::Backtracking && is_bare(body) => {
            // The engine refuses to repeat a bare look-around; a branch that never matches makes it a choice.
            out.push_str("(?:");
            write_part(body, form, out);
            out.push('|');
            out.push_str(NEVER);
            out.push(')');
        }
        Node::Set(_) | Node::Capture(_) | Node::Plain(_) => write(body, form, out),
        _ => wrap("(?:", body, form, out),
    }
    let _ = match (min, max) {
        (0, None) => write!(out, "*"),
        (1, None) => write!(out, "+"),
        (0, Some(1)) => write!(out, "?"),
        (min, None) => write!(out, "{{{min},}}"),
        (min, Some(max)) if min == max => write!(out, "{{{min}}}"),
        (min, Some(max)) => write!(out, "{{{min},{max}}}"),
    };
    out.push_str(if kind == Kind::Lazy { "?" } else { "" });
    out.push_str(if possessive { ")" } else { "" });
}

/// Nothing but a look-around, or nothing at all.
fn is_bare(node: &Node) -> bool {
    match node {
        Node::Look { .. } | Node::Anchor(Anchor::End | Anchor::LineEnd) => true,
        Node::Plain(body) => is_bare(body),
        Node::Concat(nodes) => nodes.iter().all(is_bare),
        _ => false,
    }
}

fn write_anchor(anchor: Anchor, form: Form, out: &mut String) {
    let look = |unicode| {
        let mut word = String::new();
        write_set(&set::word(unicode), &mut word);
        word
    };
    match (anchor, form) {
        (Anchor::Start, _) => out.push_str(r"\A"),
        (Anchor::TextEnd, _) => out.push_str(r"\z"),
        // Nothing follows here (`Node::is_linear`): for the whole text this is its end.
        (Anchor::End, Form::Full) => out.push_str(r"\z"),
        (Anchor::End, Form::Starts) => out.push_str(r"(?:\n?\z)"),
        (Anchor::LineStart, Form::Full | Form::Starts) => out.push_str("(?m:^)"),
        (Anchor::LineEnd, Form::Full | Form::Starts) => out.push_str("(?m:$)"),
        (Anchor::Word { .. }, Form::Full | Form::Starts) => out.push_str(r"(?-u:\b)"),
        (_, Form::Superset) | (Anchor::NotWord { .. }, Form::Full | Form::Starts) => {}
        (Anchor::End, _) => out.push_str(r"(?=\n?\z)"),
        (Anchor::LineStart, _) => out.push_str(r"(?:\A|(?<=\n))"),
        (Anchor::LineEnd, _) => out.push_str(r"(?=\n|\z)"),
        (Anchor::Word { unicode }, _) => {
            let word = look(unicode);
            let _ = write!(out, "(?:(?<={word})(?!{word})|(?<!{word})(?={word}))");
        }
        (Anchor::NotWord { unicode }, _) => {
            let word = look(unicode);
            let _ = write!(out, r"(?!\A\z)(?:(?<={word})(?={word})|(?<!{word})(?!{word}))");
        }
    }
}

fn write_set(set: &ClassUnicode, out: &mut String) {
    let mut ranges = set.iter();
    if let (Some(range), None) = (ranges.next(), ranges.next())
        && range.start() == range.end()
    {
        write_char(range.start(), out);
        return;
    }
    if set.ranges().is_empty() {
        out.push_str(NEVER);
        return;
    }
    out.push('[');
    for range in set.iter() {
        write_char(range.start(), out);
        if range.start() != range.end() {
            out.push('-');
            write_char(range.end(), out);
        }
    }
    out.push(']');
}

/// Letters, digits, `/` and `_` as they are, everything else by number: no engine sees a sign it could read.
fn write_char(letter: char, out: &mut String) {
    if letter.is_ascii_alphanumeric() || matches!(letter, '/' | '_') {
        out.push(letter);
    } else {
        let _ = write!(out, "\\x{{{:X}}}", u32::from(letter));
    }
}
