//! Replacement templates as Python's `Match.expand` reads them: `\1`, `\g<1>`, `\g<name>`.

use std::borrow::Cow;

use super::source::{Source, Token, group_number, is_identifier};
use super::{Groups, Pattern, PatternError};

/// A template; the text as written is kept.
#[derive(Clone, Debug)]
pub struct Template {
    text: String,
    parts: Result<Vec<Part>, TemplateError>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Number(usize),
    Name(String),
}

/// Why a template cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template itself is wrong.
    #[error("{message} at position {offset}")]
    Syntax {
        /// What is wrong.
        message: String,
        /// Characters from the start of the template.
        offset: usize,
    },
    /// The url has fewer groups.
    #[error("the url has no group {0}")]
    NoGroup(usize),
    /// The url has no group of this name.
    #[error("the url has no group named `{0}`")]
    NoName(String),
}

impl From<PatternError> for TemplateError {
    fn from(PatternError { message, offset }: PatternError) -> Self {
        Self::Syntax { message, offset }
    }
}

impl Template {
    /// Reads a template; whether it can be expanded is a question for [`Template::fits`].
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self { text: text.to_owned(), parts: parts(text) }
    }

    /// The template as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The resulting text when no group takes part in it.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        match self.parts.as_deref() {
            Ok([]) => Some(""),
            Ok([Part::Text(text)]) => Some(text),
            _ => None,
        }
    }

    /// Whether every group it names exists in `url`.
    pub fn fits(&self, url: &Pattern) -> Result<(), TemplateError> {
        for part in self.parts.as_ref().map_err(Clone::clone)? {
            part.group(url)?;
        }
        Ok(())
    }

    /// The text with the groups put in; a group that took no part is empty text.
    pub fn expand<'a>(&'a self, groups: &Groups<'_>) -> Result<Cow<'a, str>, TemplateError> {
        if let Some(text) = self.literal() {
            return Ok(Cow::Borrowed(text));
        }
        let mut text = String::with_capacity(self.text.len() + groups.text.len());
        for part in self.parts.as_ref().map_err(Clone::clone)? {
            match part.group(&groups.pattern)? {
                Some(group) => text.push_str(groups.get(group).unwrap_or_default()),
                None => text.push_str(part.text()),
            }
        }
        Ok(Cow::Owned(text))
    }
}

impl Part {
    /// The number of the group it names; none for plain text.
    fn group(&self, url: &Pattern) -> Result<Option<usize>, TemplateError> {
        match self {
            Self::Text(_) => Ok(None),
            Self::Number(number) if *number <= url.group_count() => Ok(Some(*number)),
            Self::Number(number) => Err(TemplateError::NoGroup(*number)),
            Self::Name(name) => {
                url.group_index(name).map(Some).ok_or_else(|| TemplateError::NoName(name.clone()))
            }
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Number(_) | Self::Name(_) => "",
        }
    }
}

fn parts(text: &str) -> Result<Vec<Part>, TemplateError> {
    let mut source = Source::new(text)?;
    let mut parts = Vec::new();
    while let Some(token) = source.get()? {
        let part = match token {
            Token::Char(letter) => Part::Text(letter.into()),
            Token::Escape('g') => named(&mut source)?,
            Token::Escape(digit @ '0'..='9') => numbered(&mut source, digit)?,
            Token::Escape(letter) => Part::Text(escaped(&source, letter)?),
        };
        match (parts.last_mut(), part) {
            (Some(Part::Text(before)), Part::Text(text)) => before.push_str(&text),
            (_, part) => parts.push(part),
        }
    }
    Ok(parts)
}

/// `\g<1>`, `\g<name>`.
fn named(source: &mut Source) -> Result<Part, TemplateError> {
    if !source.take('<')? {
        return Err(source.error("missing <", 0).into());
    }
    let name = source.take_until('>', "group name")?;
    if is_identifier(&name) {
        return Ok(Part::Name(name));
    }
    let back = name.chars().count() + 1;
    let number = group_number(&name);
    let number = number.ok_or_else(|| source.error(format!("bad character in group name `{name}`"), back))?;
    Ok(Part::Number(number))
}

/// `\1`, `\12`, and the octal `\0`, `\07`, `\141`.
fn numbered(source: &mut Source, first: char) -> Result<Part, TemplateError> {
    let octal = |letter: char| matches!(letter, '0'..='7');
    let mut digits = String::from(first);
    if first == '0' {
        digits.push_str(&source.take_while(2, |letter| matches!(letter, '0'..='7'))?);
        return Ok(Part::Text(character(&digits)));
    }
    if let Some(second) = source.peek_char().filter(char::is_ascii_digit) {
        source.get()?;
        digits.push(second);
        if let (true, true, Some(third)) =
            (octal(first), octal(second), source.peek_char().filter(|&third| octal(third)))
        {
            source.get()?;
            digits.push(third);
            if first > '3' {
                let message = format!("octal escape value \\{digits} outside of range 0-0o377");
                return Err(source.error(message, 4).into());
            }
            return Ok(Part::Text(character(&digits)));
        }
    }
    Ok(Part::Number(digits.parse().unwrap_or(usize::MAX)))
}

fn character(octal: &str) -> String {
    let code = u32::from_str_radix(octal, 8).unwrap_or(0) & 0xff;
    char::from_u32(code).map(String::from).unwrap_or_default()
}

fn escaped(source: &Source, letter: char) -> Result<String, TemplateError> {
    let plain = match letter {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '\\' => '\\',
        _ if letter.is_ascii_alphabetic() => {
            return Err(source.error(format!("bad escape \\{letter}"), 2).into());
        }
        _ => return Ok(format!("\\{letter}")),
    };
    Ok(plain.into())
}
