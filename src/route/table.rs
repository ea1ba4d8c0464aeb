//! The handlers' patterns as one automaton, and the handlers that match a path, in file order.

use crate::appyaml::{Handler, Problem, Severity, Target};
use crate::pattern::{Overrun, Pattern, Union};

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
        if !problems.is_empty() {
            return Err(problems);
        }
        let falls_on = handlers.iter().any(super::decide::may_fall_on);
        let union = Union::new(rows.iter().map(|row| &row.pattern), falls_on).map_err(|error| {
            let first = handlers.first().map(|handler| problem(handler, format!("the handlers: {error}")));
            first.into_iter().collect::<Vec<_>>()
        })?;
        let backtracking =
            (0..rows.len()).filter(|&index| rows[index].pattern.needs_backtracking()).collect();
        Ok(Self { rows, union, backtracking })
    }

    pub(super) fn row(&self, handler: usize) -> &Row {
        &self.rows[handler]
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
        let linear = if from == 0 { table.union.first(path) } else { self.later_linear() };
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

    fn later_linear(&mut self) -> Option<usize> {
        let later = self.later.get_or_insert_with(|| self.table.union.all(self.path));
        later.iter().copied().find(|&index| index >= self.from)
    }
}
