//! The handlers' patterns as one automaton, and the handlers that match a path, in file order.

use crate::appyaml::{Handler, Problem, Severity, Target};
use crate::pattern::{MOST_SIZE, Overrun, Pattern, PatternError, Question, Union};

/// What is compiled of all handlers.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Row>,
    union: Union,
    /// The rows that are not in the union, in order.
    backtracking: Vec<usize>,
}

/// What is compiled of one handler.
#[derive(Debug)]
pub(super) struct Row {
    /// For `static_dir` the whole pattern, the rest of the path its last group.
    pub(super) pattern: Pattern,
    /// For `static_dir`: what the path begins with, if that is plain text.
    pub(super) prefix: Option<String>,
    /// For `static_dir`: the directory without needless segments; empty for the root.
    pub(super) dir: String,
    /// For `static_files`.
    pub(super) upload: Option<Pattern>,
}

impl Table {
    pub(super) fn compile(handlers: &[Handler]) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let rows: Vec<Row> = handlers
            .iter()
            .filter_map(|handler| Row::compile(handler).map_err(|problem| problems.push(problem)).ok())
            .collect();
        if problems.is_empty() {
            problems.extend(too_large(handlers, &rows));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        for (handler, row) in handlers.iter().zip(&rows) {
            if let Err(error) = row.prepare(handler) {
                problems.push(problem(handler, format!("`url: {}`: {error}", handler.url.as_str())));
            }
        }
        let union = Union::new(rows.iter().map(|row| &row.pattern));
        if let (Err(error), Some(first)) = (&union, handlers.first()) {
            problems.push(problem(first, format!("the handlers: {error}")));
        }
        let backtracking =
            (0..rows.len()).filter(|&index| rows[index].pattern.needs_backtracking()).collect();
        match union {
            Ok(union) if problems.is_empty() => Ok(Self { rows, union, backtracking }),
            _ => Err(problems),
        }
    }

    pub(super) fn row(&self, handler: usize) -> &Row {
        &self.rows[handler]
    }

    /// The handlers that match `path` and need no backtracking.
    pub(super) fn linear(&self, path: &str) -> Result<Vec<usize>, Overrun> {
        self.union.all(path)
    }

    /// The handlers that match `path`, in file order.
    pub(super) fn matches<'t>(&'t self, path: &'t str) -> Matches<'t> {
        Matches { table: self, path, from: 0, later: None }
    }
}

impl Row {
    fn compile(handler: &Handler) -> Result<Self, Problem> {
        let mut row = Self { pattern: handler.url.clone(), prefix: None, dir: String::new(), upload: None };
        match &handler.target {
            Target::Script { .. } => {}
            Target::StaticDir { dir, .. } => {
                let url = handler.url.as_str();
                row.pattern = Pattern::parse_directory(url)
                    .map_err(|error| problem(handler, format!("`url: {url}` for a directory: {error}")))?;
                row.prefix =
                    handler.url.literal().map(|text| format!("{}/", text.strip_suffix('/').unwrap_or(&text)));
                let segments = dir.split('/').filter(|segment| !matches!(*segment, "" | "."));
                row.dir = segments.collect::<Vec<_>>().join("/");
            }
            Target::StaticFiles { upload, .. } => {
                // A file's path never begins with `./`, so neither may its pattern.
                let stripped = upload.as_ref().and_then(|upload| upload.as_str().strip_prefix("./"));
                row.upload = match stripped {
                    Some(text) => Pattern::parse(text).ok(),
                    None => upload.clone(),
                };
            }
        }
        Ok(row)
    }

    /// Compiles what requests will ask of these patterns, and only that: most urls are only asked as one of many.
    fn prepare(&self, handler: &Handler) -> Result<(), PatternError> {
        let groups = match &handler.target {
            Target::Script { script: template } | Target::StaticFiles { path: template, .. } => {
                template.literal().is_none()
            }
            Target::StaticDir { .. } => self.prefix.is_none(),
        };
        if groups {
            self.pattern.prepare(Question::Groups)?;
        }
        if self.pattern.needs_backtracking() {
            self.pattern.prepare(Question::Full)?;
        }
        self.upload.as_ref().map_or(Ok(()), |upload| upload.prepare(Question::Full))
    }

    fn size(&self) -> u64 {
        self.pattern.size().saturating_add(self.upload.as_ref().map_or(0, Pattern::size))
    }
}

/// Each pattern may be small enough, and all of them still take seconds and gigabytes.
fn too_large(handlers: &[Handler], rows: &[Row]) -> Option<Problem> {
    let sum = rows.iter().fold(0, |sum: u64, row| sum.saturating_add(row.size()));
    let (handler, row) = handlers.iter().zip(rows).max_by_key(|(_, row)| row.size())?;
    if sum <= MOST_SIZE {
        return None;
    }
    let message = format!(
        "the patterns of all handlers are too large together: {sum} steps, at most {MOST_SIZE}; the largest is \
         `url: {}` with {}",
        handler.url.as_str(),
        row.size()
    );
    let hint = "use smaller repeats: `{1000}` writes what it repeats a thousand times".to_owned();
    Some(Problem { hint: Some(hint), ..problem(handler, message) })
}

fn problem(handler: &Handler, message: String) -> Problem {
    Problem { severity: Severity::Error, place: handler.place.clone(), message, hint: None }
}

/// Walks the matching handlers. Only the first is looked for at once: hardly any request needs a second.
pub(super) struct Matches<'t> {
    table: &'t Table,
    path: &'t str,
    from: usize,
    later: Option<Vec<usize>>,
}

impl Matches<'_> {
    /// The next handler; [`Overrun`] when nobody knows which it is.
    pub(super) fn next(&mut self) -> Result<Option<usize>, Overrun> {
        let Self { table, path, from, .. } = *self;
        let linear = if from == 0 { table.union.first(path)? } else { self.later_linear()? };
        for &index in &table.backtracking {
            if linear.is_some_and(|linear| index > linear) {
                break;
            }
            if index >= from && table.row(index).pattern.is_full_match(path)? {
                self.from = index + 1;
                return Ok(Some(index));
            }
        }
        self.from = linear.map_or(usize::MAX, |linear| linear + 1);
        Ok(linear)
    }

    fn later_linear(&mut self) -> Result<Option<usize>, Overrun> {
        let later = match self.later.take() {
            Some(later) => later,
            None => self.table.linear(self.path)?,
        };
        let next = later.iter().copied().find(|&index| index >= self.from);
        self.later = Some(later);
        Ok(next)
    }
}
