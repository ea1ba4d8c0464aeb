//! Tabs: YAML 1.1 takes them inside quotes, block texts and comments only.
//!
//! The parser underneath is laxer (YAML 1.2), so the places are looked at once more.

use std::sync::Arc;

use super::build::Text;
use super::{At, Findings};

/// `texts` are the quoted and block scalars, in order.
pub(super) fn refuse(text: &str, texts: &[Text], file: &Arc<str>, findings: &mut Findings) {
    if !text.contains('\t') {
        return;
    }
    let letters: Vec<char> = text.chars().collect();
    let mut texts = texts.iter().peekable();
    let (mut line, mut column) = (1, 0);
    let mut comment = false;
    for (place, letter) in letters.iter().enumerate() {
        column += 1;
        while texts.next_if(|text| end(text, &letters) <= place).is_some() {}
        let inside = texts.peek().is_some_and(|(start, ..)| *start <= place);
        match letter {
            '\n' => (line, column, comment) = (line + 1, 0, false),
            '#' if !inside && (place == 0 || letters[place - 1].is_ascii_whitespace()) => comment = true,
            '\t' if !inside && !comment => {
                findings
                    .error(&At { line, column }.in_file(file), "a tab cannot stand here")
                    .hint("use spaces; a tab may stand only inside quotes or a comment");
                return;
            }
            _ => {}
        }
    }
}

/// The parser counts the blanks behind a closing quote as part of the text.
fn end((start, end, block): &Text, letters: &[char]) -> usize {
    let mut end = (*end).min(letters.len());
    while !block && end > *start && letters[end - 1].is_ascii_whitespace() {
        end -= 1;
    }
    end
}
