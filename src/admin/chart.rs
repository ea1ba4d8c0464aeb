//! One small chart of the last five minutes: lines in an SVG, what they say in words beside it, no library.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::history::{Point, SPAN};

/// The drawing's own units; it is stretched to the width there is.
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 72.0;

/// One line of a chart.
pub(super) struct Line {
    /// In the legend.
    pub(super) name: &'static str,
    /// `main` or `other`, for its colour and its dashes.
    pub(super) class: &'static str,
    /// Its value at a point; none leaves a gap.
    pub(super) value: fn(&Point) -> Option<f64>,
}

/// A chart and everything round it.
pub(super) struct Chart<'a> {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// The value now, large.
    pub(super) now: String,
    /// What the large value is.
    pub(super) unit: &'static str,
    pub(super) lines: [Line; 2],
    /// A value in words.
    pub(super) words: fn(f64) -> String,
    /// What the top of the chart is at least, so that noise does not look like a mountain.
    pub(super) least: f64,
    pub(super) points: &'a [Point],
}

impl Chart<'_> {
    // `{}` and not `;`: an element of SVG must be closed, or all after it is inside of it.
    pub(super) fn markup(&self) -> Markup {
        let values = |line: &Line| self.points.iter().filter_map(line.value).fold(0.0, f64::max);
        let highest = self.lines.iter().map(values).fold(0.0, f64::max);
        let top = nice(highest.max(self.least));
        let words = format!(
            "{} over the last five minutes: now {} {}, {}",
            self.title,
            self.now,
            self.unit,
            self.lines
                .iter()
                .map(|line| format!("{} at most {}", line.name, (self.words)(values(line))))
                .collect::<Vec<_>>()
                .join(", ")
        );
        html! {
            figure.chart.card id=(self.id) aria-labelledby={ (self.id) "-title" } {
                figcaption {
                    h2 id={ (self.id) "-title" } { (self.title) }
                    p.now { strong { (self.now) } " " span.unit { (self.unit) } }
                    ul.legend {
                        @for line in &self.lines {
                            li {
                                svg.swatch viewBox="0 0 18 4" width="18" height="4" aria-hidden="true" {
                                    path.line.(line.class) d="M0 2H18" {}
                                }
                                (line.name)
                            }
                        }
                    }
                }
                div.plot {
                    span.top aria-hidden="true" { ((self.words)(top)) }
                    svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(words) {
                        path.grid d={ "M0 " (HEIGHT / 2.0) "H" (WIDTH) "M0 0.5H" (WIDTH) } {}
                        path.axis d={ "M0 " (HEIGHT - 0.5) "H" (WIDTH) } {}
                        path.area d=(self.area(&self.lines[0], top)) {}
                        @for line in self.lines.iter().rev() {
                            path.line.(line.class) d=(self.path(line, top)) {}
                        }
                    }
                    span.from aria-hidden="true" { "5 min ago" }
                    span.to aria-hidden="true" { "now" }
                }
            }
        }
    }

    /// The places of a line's points, in runs without a gap.
    fn runs(&self, line: &Line, top: f64) -> Vec<Vec<(f64, f64)>> {
        let place = |point: &Point, value: f64| {
            let x = WIDTH * (1.0 - point.age.as_secs_f64() / SPAN.as_secs_f64());
            (x, 1.0 + (HEIGHT - 2.0) * (1.0 - (value / top).clamp(0.0, 1.0)))
        };
        let known = |point: &Point| (line.value)(point).map(|value| place(point, value));
        let runs = self.points.chunk_by(|one, next| known(one).is_some() == known(next).is_some());
        runs.map(|run| run.iter().filter_map(known).collect())
            .filter(|run: &Vec<_>| !run.is_empty())
            .collect()
    }

    /// The line as an SVG path. One of no length shows a dot where a value stands alone.
    fn path(&self, line: &Line, top: f64) -> String {
        let mut path = String::new();
        for run in self.runs(line, top) {
            for (at, (x, y)) in run.iter().enumerate() {
                // Writing to a string cannot fail.
                let _ =
                    if at == 0 { write!(path, "M{x:.1} {y:.1}h0") } else { write!(path, "L{x:.1} {y:.1}") };
            }
        }
        path
    }

    /// What lies beneath the line.
    fn area(&self, line: &Line, top: f64) -> String {
        let mut path = String::new();
        for run in self.runs(line, top) {
            let ends = run.first().zip(run.last()).map(|((from, _), (to, _))| (*from, *to));
            let Some((from, to)) = ends else { continue };
            let _ = write!(path, "M{from:.1} {HEIGHT}");
            for (x, y) in &run {
                let _ = write!(path, "L{x:.1} {y:.1}");
            }
            let _ = write!(path, "L{to:.1} {HEIGHT}Z");
        }
        path
    }
}

/// The next number that is round enough for an axis.
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= value * 0.999_999).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn point(seconds: u64, requests: f64, p95: Option<f64>) -> Point {
        Point { age: Duration::from_secs(seconds), requests, server_errors: 0.0, p50: None, p95 }
    }

    #[test]
    fn the_top_is_a_round_number_not_below_the_highest() {
        for (value, top) in [(1.0, 1.0), (1.1, 1.5), (3.0, 3.0), (7.0, 8.0), (0.031, 0.04), (850.0, 1000.0)] {
            assert!((nice(value) - top).abs() < 1e-9, "{value}: {}", nice(value));
        }
    }

    #[test]
    fn a_line_has_gaps_where_nothing_was_measured() {
        let points = [
            point(300, 0.0, Some(0.1)),
            point(298, 0.0, Some(0.05)),
            point(296, 0.0, None),
            point(0, 0.0, Some(9.0)),
        ];
        let line = |value| Line { name: "x", class: "main", value };
        let chart = Chart {
            id: "x",
            title: "X",
            now: "1".to_owned(),
            unit: "y",
            lines: [line(|point| point.p95), line(|_| None)],
            words: |value| format!("{value}"),
            least: 0.1,
            points: &points,
        };
        assert_eq!(chart.path(&chart.lines[0], 0.1), "M0.0 1.0h0L2.0 36.0M300.0 1.0h0");
        assert_eq!(chart.path(&chart.lines[1], 0.1), "");
        assert_eq!(
            chart.area(&chart.lines[0], 0.1),
            "M0.0 72L0.0 1.0L2.0 36.0L2.0 72ZM300.0 72L300.0 1.0L300.0 72Z"
        );
        let text = chart.markup().into_string();
        assert!(text.contains("now 1 y, x at most 9, x at most 0"), "{text}");
    }
}
