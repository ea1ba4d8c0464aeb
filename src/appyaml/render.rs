//! A finding as text: `file:line:column: error: message`, the line, a caret, the hint.

use std::fmt::Write;
use std::sync::Arc;

use super::{Problem, Severity};

/// Longer lines are cut around the caret.
const WIDEST: usize = 120;

/// `file:line:column: error|warning|note: text`; with `with_source` also the line with a caret, and the hint.
#[must_use]
pub fn render(problem: &Problem, texts: &[(Arc<str>, String)], with_source: bool) -> String {
    let place = &problem.place;
    let mut text =
        format!("{}:{}:{}: {}: ", clean(&place.file), place.line, place.column, problem.severity.as_str());
    text.push_str(&clean(&problem.message));
    if !with_source {
        if let Some(hint) = &problem.hint {
            let _ = write!(text, " ({})", clean(hint));
        }
        return text;
    }
    let source = texts.iter().find(|(file, _)| *file == place.file).map(|(_, source)| source.as_str());
    let line = source.and_then(|source| source.lines().nth((place.line as usize).checked_sub(1)?));
    if let Some(line) = line.filter(|line| !line.trim().is_empty()) {
        let line = line.strip_prefix('\u{feff}').unwrap_or(line);
        let (shown, caret) = window(&clean(line), (place.column as usize).saturating_sub(1));
        let number = place.line.to_string();
        let margin = " ".repeat(number.len());
        let _ = write!(text, "\n {margin} |\n {number} | {shown}\n {margin} | {}^", " ".repeat(caret));
    }
    if let Some(hint) = &problem.hint {
        let _ = write!(text, "\n  hint: {}", clean(hint));
    }
    text
}

/// Control characters would move the cursor or colour the terminal: each becomes one blank or a replacement sign.
fn clean(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            '\t' => ' ',
            _ if letter.is_control() => '\u{fffd}',
            _ => letter,
        })
        .collect()
}

/// The part of a line around `column`, and where the column is in it.
fn window(line: &str, column: usize) -> (String, usize) {
    let length = line.chars().count();
    let column = column.min(length);
    if length <= WIDEST {
        return (line.trim_end().to_owned(), column);
    }
    let start = column.saturating_sub(WIDEST / 2);
    let mut shown: String = line.chars().skip(start).take(WIDEST).collect();
    let mut caret = column - start;
    if start > 0 {
        shown.insert(0, '…');
        caret += 1;
    }
    if start + WIDEST < length {
        shown.push('…');
    }
    (shown, caret)
}

impl Severity {
    /// The word in front of a finding.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}
