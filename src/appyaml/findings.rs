//! Collects what is found, so that one run tells every mistake.

use super::{Place, Problem, Severity};

/// More of one kind are counted, but not kept: nobody reads them.
const MOST: usize = 500;

/// Every [`Problem`] so far, in the order found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    problems: Vec<Problem>,
    errors: usize,
    others: usize,
}

impl Findings {
    pub(super) fn push(&mut self, problem: Problem) {
        let Problem { severity, place, message, hint } = problem;
        let added = self.add(severity, &place, message);
        if let (Some(problem), Some(hint)) = (added.0, hint) {
            problem.hint = Some(hint);
        }
    }

    pub(super) fn error(&mut self, place: &Place, message: impl Into<String>) -> Hinted<'_> {
        self.add(Severity::Error, place, message.into())
    }

    pub(super) fn warning(&mut self, place: &Place, message: impl Into<String>) -> Hinted<'_> {
        self.add(Severity::Warning, place, message.into())
    }

    pub(super) fn note(&mut self, place: &Place, message: impl Into<String>) -> Hinted<'_> {
        self.add(Severity::Note, place, message.into())
    }

    /// How many errors so far.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    fn add(&mut self, severity: Severity, place: &Place, message: String) -> Hinted<'_> {
        let count = if severity == Severity::Error { &mut self.errors } else { &mut self.others };
        *count += 1;
        if *count > MOST {
            return Hinted(None);
        }
        self.problems.push(Problem { severity, place: place.clone(), message, hint: None });
        Hinted(self.problems.last_mut())
    }
}

/// A finding that may still get a hint.
pub(super) struct Hinted<'a>(Option<&'a mut Problem>);

impl Hinted<'_> {
    pub(super) fn hint(self, hint: impl Into<String>) {
        if let Some(problem) = self.0 {
            problem.hint = Some(hint.into());
        }
    }

    /// The same for a hint that takes some work: not done when nobody will read it.
    pub(super) fn hint_with(self, hint: impl FnOnce() -> String) {
        if self.0.is_some() {
            self.hint(hint());
        }
    }
}

/// What the user wrote, in backticks: control characters escaped, long text cut.
pub(super) fn code(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut shown = String::from("`");
    for (count, letter) in text.chars().enumerate() {
        if count == LONGEST {
            shown.push('…');
            break;
        }
        if letter.is_control() { shown.extend(letter.escape_default()) } else { shown.push(letter) }
    }
    shown.push('`');
    shown
}

/// `a`, `b` or `c`.
pub(super) fn one_of(words: &[&str]) -> String {
    let mut text = String::new();
    for (place, word) in words.iter().enumerate() {
        text.push_str(match place {
            0 => "",
            _ if place + 1 == words.len() => " or ",
            _ => ", ",
        });
        text.push_str(&code(word));
    }
    text
}

/// The word of `known` that `word` is most likely a slip of.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let small = word.to_lowercase().replace('-', "_");
    known
        .map(|candidate| (distance(&small, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().min(small.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters to add, drop or change to come from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    if from.len().abs_diff(to.len()) > 4 {
        return usize::MAX;
    }
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (up, letter) in from.chars().enumerate() {
        let mut corner = row[0];
        row[0] = up + 1;
        for (left, other) in to.iter().enumerate() {
            let changed = corner + usize::from(letter != *other);
            corner = row[left + 1];
            row[left + 1] = changed.min(corner + 1).min(row[left] + 1);
        }
    }
    row[to.len()]
}
