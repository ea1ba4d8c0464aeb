//! Handlers that can never match, because an earlier one matches all they would.

use super::UrlMap;
use super::decide::may_fall_on;
use crate::pattern::Cover;

/// A handler nobody reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Covered {
    /// The handler that never matches.
    pub handler: usize,
    /// The earlier one that takes all its paths.
    pub by: usize,
}

pub(super) fn unreachable(map: &UrlMap) -> Vec<Covered> {
    let pattern = |handler: usize| &map.table.row(handler).pattern;
    let covers: Vec<Cover<'_>> =
        (0..map.handlers.len()).map(|handler| Cover::new(pattern(handler))).collect();
    let covered = |handler: usize| {
        let candidates = candidates(map, handler);
        (0..handler)
            // A handler whose missing file sends the request on takes nothing for good (R-RMF).
            .filter(|&earlier| !may_fall_on(&map.handlers[earlier]))
            .filter(|earlier| {
                candidates.contains(earlier) || pattern(*earlier).as_str() == pattern(handler).as_str()
            })
            .find(|&earlier| covers[earlier].covers(&covers[handler], b'/'))
            .map(|by| Covered { handler, by })
    };
    (0..map.handlers.len()).filter_map(covered).collect()
}

/// The handlers that match some samples of what this one matches: only they can cover it, and comparing patterns is
/// dear. None when no sample is found.
fn candidates(map: &UrlMap, handler: usize) -> Vec<usize> {
    let pattern = &map.table.row(handler).pattern;
    let matching = [false, true].into_iter().filter_map(|long| {
        let sample = pattern.sample('/', long)?;
        let all = map.table.linear(&sample).ok()?;
        let itself = if pattern.needs_backtracking() {
            pattern.is_full_match(&sample) == Ok(true)
        } else {
            all.contains(&handler)
        };
        itself.then_some(all)
    });
    let common = |all: Vec<usize>, more: Vec<usize>| all.into_iter().filter(|it| more.contains(it)).collect();
    matching.reduce(common).unwrap_or_default()
}
