//! Bytes to text, and the parser's complaints in words for people.

use std::sync::Arc;

use super::scalar::Dialect;
use super::{At, Findings, MOST_BYTES, Place, Problem, code};
use crate::appyaml::Severity;

/// The text of a file, or why it cannot be YAML at all.
pub(in crate::appyaml) fn decode(bytes: Vec<u8>, file: &Arc<str>) -> Result<String, Problem> {
    let problem = |at: At, message: String, hint: &str| Problem {
        severity: Severity::Error,
        place: at.in_file(file),
        message,
        hint: Some(hint.to_owned()),
    };
    let start = At { line: 1, column: 1 };
    if bytes.len() > MOST_BYTES {
        return Err(problem(start, format!("larger than {MOST_BYTES} bytes"), "is this the right file?"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good =
            String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
        problem(end_of(&good), "not valid UTF-8".to_owned(), "save the file as UTF-8")
    })?;
    // The SDK's reader takes YAML 1.1's printable characters; its extra line breaks would only surprise.
    let strange = |letter: char| {
        matches!(letter, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}'..='\u{9f}')
            || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}')
    };
    match text.find(strange) {
        None => Ok(text),
        Some(place) => {
            let letter = text[place..].chars().next().unwrap_or_default();
            let message = format!("the invisible character U+{:04X} cannot stand in YAML", u32::from(letter));
            Err(problem(
                end_of(&text[..place]),
                message,
                "delete it, or write it as an escape inside double quotes",
            ))
        }
    }
}

/// The place just behind `text`.
fn end_of(text: &str) -> At {
    let line = u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX).saturating_add(1);
    let last = text.rsplit('\n').next().unwrap_or_default();
    At { line, column: u32::try_from(last.chars().count()).unwrap_or(u32::MAX).saturating_add(1) }
}

/// YAML 1.1, unless a `%YAML` line in front of the document says otherwise.
pub(super) fn dialect(text: &str, file: &Arc<str>, findings: &mut Findings) -> Option<Dialect> {
    let mut lines = text.lines().zip(1..);
    let first = lines.find(|(line, _)| !line.starts_with('#') && !line.trim().is_empty());
    let Some((version, at)) = first.and_then(|(line, at)| Some((line.strip_prefix("%YAML ")?, at))) else {
        return Some(Dialect::Old);
    };
    match version.split('#').next().unwrap_or_default().trim() {
        "1.1" => Some(Dialect::Old),
        "1.2" => Some(Dialect::New),
        other => {
            findings
                .error(
                    &At { line: at, column: 7 }.in_file(file),
                    format!("YAML {} is not known", code(other)),
                )
                .hint("remove the `%YAML` line");
            None
        }
    }
}

/// What the parser stumbled over, said so that one knows what to change.
pub(super) fn scan_problem(text: &str, mut place: Place, info: &str) -> Problem {
    let line = text.lines().nth(place.line.saturating_sub(1) as usize).unwrap_or_default();
    let rest: String = line.chars().skip(place.column.saturating_sub(1) as usize).collect();
    let word = rest.split([' ', ',', ']', '}']).next().unwrap_or_default();
    let before = place.column.checked_sub(2).and_then(|column| line.chars().nth(column as usize));
    if before == Some('\t') {
        place.column -= 1;
    }
    let (message, hint) = match rest.chars().next() {
        _ if info.contains("tab") || before == Some('\t') => {
            let at = tab_from(text, &place);
            (place.line, place.column) = (at.line, at.column);
            (
                "a tab cannot stand here".to_owned(),
                "use spaces; a tab may stand only inside quotes".to_owned(),
            )
        }
        _ if info.contains("escape") => (
            "an unknown escape inside double quotes".to_owned(),
            "write every `\\` twice, or use single quotes: '…'".to_owned(),
        ),
        _ if info.contains("quoted scalar") => (
            "the quote that opens here is not closed".to_owned(),
            "close it on the same line, and write a quote inside '…' twice".to_owned(),
        ),
        _ if info.contains("comments must be separated") => {
            ("a comment needs a blank in front of its `#`".to_owned(), "put a blank there".to_owned())
        }
        _ if info.contains("mapping values") => {
            ("`:` makes a key of what stands before it, and no key can stand here".to_owned(), common(line))
        }
        Some('*') => {
            (format!("{} starts with `*`, which makes it a reference in YAML", code(word)), quote(word))
        }
        Some('&') => {
            (format!("{} starts with `&`, which makes it an anchor in YAML", code(word)), quote(word))
        }
        Some(mark @ ('@' | '`' | '%')) => (format!("a plain text cannot start with `{mark}`"), quote(word)),
        _ => (format!("not valid YAML: {}", info.trim_end_matches('.')), common(line)),
    };
    Problem { severity: Severity::Error, place, message, hint: Some(hint) }
}

/// The first tab from `place` on: the parser points to the start of what the tab is in.
fn tab_from(text: &str, place: &Place) -> At {
    let mut at = At { line: place.line, column: place.column };
    let mut skip = place.column.saturating_sub(1) as usize;
    for (line, number) in text.lines().zip(1_u32..).skip(place.line.saturating_sub(1) as usize) {
        if let Some((column, _)) = line.chars().enumerate().skip(skip).find(|(_, letter)| *letter == '\t') {
            at = At { line: number, column: u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1) };
            break;
        }
        skip = 0;
    }
    at
}

/// The usual slip on a line that does not parse.
fn common(line: &str) -> String {
    if line.contains("{{") {
        "this looks like a template that was not filled in".to_owned()
    } else if line.matches(": ").count() > 1 {
        "quote a text that holds `: `".to_owned()
    } else {
        "look at the indentation, the quotes and the colons of this line and the one before".to_owned()
    }
}

/// How to write a text so that YAML leaves it alone.
pub(in crate::appyaml) fn quote(text: &str) -> String {
    if text.is_empty() || text.chars().count() > 60 || text.contains(['"', '\\']) {
        return "put it in quotes".to_owned();
    }
    format!("quote it: \"{text}\"")
}
