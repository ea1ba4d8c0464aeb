//! The pattern's text as a stream of characters and escapes, one ahead, as Python's `re` parser reads it.

use super::PatternError;

/// One character of the pattern, or a backslash and the character behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Char(char),
    Escape(char),
}

/// Reads tokens; positions count characters.
#[derive(Debug)]
pub(super) struct Source {
    chars: Vec<char>,
    index: usize,
    next: Option<Token>,
}

impl Source {
    pub(super) fn new(text: &str) -> Result<Self, PatternError> {
        let mut source = Self { chars: text.chars().collect(), index: 0, next: None };
        source.advance()?;
        Ok(source)
    }

    fn advance(&mut self) -> Result<(), PatternError> {
        self.next = match (self.chars.get(self.index), self.chars.get(self.index + 1)) {
            (None, _) => None,
            (Some('\\'), Some(&escaped)) => {
                self.index += 2;
                return self.found(Token::Escape(escaped));
            }
            (Some('\\'), None) => {
                return Err(PatternError::new("bad escape (end of pattern)", self.chars.len() - 1));
            }
            (Some(&plain), _) => {
                self.index += 1;
                return self.found(Token::Char(plain));
            }
        };
        Ok(())
    }

    fn found(&mut self, token: Token) -> Result<(), PatternError> {
        self.next = Some(token);
        Ok(())
    }

    pub(super) fn peek(&self) -> Option<Token> {
        self.next
    }

    pub(super) fn peek_char(&self) -> Option<char> {
        match self.next {
            Some(Token::Char(next)) => Some(next),
            _ => None,
        }
    }

    pub(super) fn get(&mut self) -> Result<Option<Token>, PatternError> {
        let token = self.next;
        self.advance()?;
        Ok(token)
    }

    /// Takes the next token if it is this very character.
    pub(super) fn take(&mut self, wanted: char) -> Result<bool, PatternError> {
        let here = self.next == Some(Token::Char(wanted));
        if here {
            self.advance()?;
        }
        Ok(here)
    }

    /// Takes at most `most` characters for which `fits` holds.
    pub(super) fn take_while(&mut self, most: usize, fits: fn(char) -> bool) -> Result<String, PatternError> {
        let mut taken = String::new();
        while let Some(next) = self.peek_char().filter(|&next| taken.len() < most && fits(next)) {
            taken.push(next);
            self.advance()?;
        }
        Ok(taken)
    }

    /// Takes everything up to `end`, which is taken too.
    pub(super) fn take_until(&mut self, end: char, what: &str) -> Result<String, PatternError> {
        let mut taken = String::new();
        loop {
            match self.get()? {
                Some(Token::Char(next)) if next == end => break,
                Some(Token::Char(next)) => taken.push(next),
                Some(Token::Escape(next)) => taken.extend(['\\', next]),
                None if taken.is_empty() => return Err(self.error(format!("missing {what}"), 0)),
                None => {
                    let message = format!("missing {end}, unterminated name");
                    return Err(self.error(message, taken.chars().count()));
                }
            }
        }
        if taken.is_empty() { Err(self.error(format!("missing {what}"), 1)) } else { Ok(taken) }
    }

    /// Where the next token begins.
    pub(super) fn position(&self) -> usize {
        self.index
            - match self.next {
                None => 0,
                Some(Token::Char(_)) => 1,
                Some(Token::Escape(_)) => 2,
            }
    }

    pub(super) fn seek(&mut self, position: usize) -> Result<(), PatternError> {
        self.index = position;
        self.advance()
    }

    /// An error `back` characters before the next token.
    pub(super) fn error(&self, message: impl Into<String>, back: usize) -> PatternError {
        PatternError::new(message, self.position().saturating_sub(back))
    }
}

/// Python's `str.isidentifier`, near enough for group names.
pub(super) fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|first| first == '_' || first.is_alphabetic())
        && chars.all(|next| next == '_' || next.is_alphanumeric())
}

/// Python's `int(text)` for what is not negative.
pub(super) fn group_number(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.strip_prefix('+').unwrap_or(text);
    let well_placed = !digits.starts_with('_') && !digits.ends_with('_') && !digits.contains("__");
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    (well_placed && plain).then(|| digits.replace('_', "").parse().ok()).flatten()
}
