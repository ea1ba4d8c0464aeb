//! One scalar: from its text and tag to a value, by the resolver of YAML 1.1 as the SDK uses it.
//!
//! The expressions are the SDK's own, tried in its order. After `%YAML 1.2` the newer set counts.

use std::sync::LazyLock;

use regex::Regex;
use serde_yaml::Value;

use super::code;
use super::number;
use super::time;

/// Which of YAML's word lists counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// YAML 1.1: what app.yaml is unless it says otherwise.
    Old,
    /// YAML 1.2, asked for by a `%YAML 1.2` line.
    New,
}

/// What a tag such as `!!int` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Int,
    Float,
    Timestamp,
    Text,
}

struct Expressions {
    float: Regex,
    int: Regex,
}

#[expect(clippy::expect_used, reason = "constant expressions, compiled by the tests")]
fn expressions(float: &str, int: &str) -> Expressions {
    Expressions {
        float: Regex::new(float).expect("a constant expression"),
        int: Regex::new(int).expect("a constant expression"),
    }
}

static OLD: LazyLock<Expressions> = LazyLock::new(|| {
    expressions(
        concat!(
            r"^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?",
            r"|[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)",
            r"|\.[0-9_]+(?:[eE][-+][0-9]+)?",
            r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*",
            r"|[-+]?\.(?:inf|Inf|INF)",
            r"|\.(?:nan|NaN|NAN))$",
        ),
        concat!(
            r"^(?:[-+]?0b[0-1_]+",
            r"|[-+]?0?[0-7_]+",
            r"|[-+]?(?:0|[1-9][0-9_]*)",
            r"|[-+]?0x[0-9a-fA-F_]+",
            r"|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$",
        ),
    )
});

static NEW: LazyLock<Expressions> = LazyLock::new(|| {
    expressions(
        concat!(
            r"^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?",
            r"|[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)",
            r"|[-+]?\.[0-9_]+(?:[eE][-+][0-9]+)?",
            r"|[-+]?\.(?:inf|Inf|INF)",
            r"|\.(?:nan|NaN|NAN))$",
        ),
        concat!(r"^(?:[-+]?0b[0-1_]+", r"|[-+]?0o?[0-7_]+", r"|[-+]?[0-9_]+", r"|[-+]?0x[0-9a-fA-F_]+)$"),
    )
});

#[expect(clippy::expect_used, reason = "a constant expression, compiled by the tests")]
static TIMESTAMP: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"^(?:[0-9]{4}-[0-9][0-9]-[0-9][0-9]",
        r"|[0-9]{4}-[0-9][0-9]?-[0-9][0-9]?(?:[Tt]|[ \t]+)[0-9][0-9]?:[0-9][0-9]:[0-9][0-9](?:\.[0-9]*)?",
        r"(?:[ \t]*(?:Z|[-+][0-9][0-9]?(?::[0-9][0-9])?))?)$",
    ))
    .expect("a constant expression")
});

/// A plain scalar without a tag.
pub(super) fn plain(text: &str, dialect: Dialect) -> Result<Value, String> {
    let old = dialect == Dialect::Old;
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "=" => return Err("`=` alone has a meaning of its own in YAML 1.1 and cannot be used".to_owned()),
        "<<" => return Err("`<<` alone is YAML's merge key and cannot be used".to_owned()),
        _ => {}
    }
    if let Some(truth) = truth(text, dialect) {
        return Ok(Value::Bool(truth));
    }
    if !text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '-' | '+' | '.')) {
        return Ok(Value::String(text.to_owned()));
    }
    let numbers: &Expressions = if old { &OLD } else { &NEW };
    if numbers.float.is_match(text) {
        number::float(text, old)
    } else if !text.starts_with('.') && numbers.int.is_match(text) {
        number::int(text, old)
    } else if text.starts_with(|first: char| first.is_ascii_digit()) && TIMESTAMP.is_match(text) {
        time::timestamp(text).map(Value::String)
    } else {
        Ok(Value::String(text.to_owned()))
    }
}

/// A scalar whose tag says what it is.
pub(super) fn tagged(text: &str, kind: Kind, dialect: Dialect) -> Result<Value, String> {
    let old = dialect == Dialect::Old;
    match kind {
        Kind::Null => Ok(Value::Null),
        Kind::Text => Ok(Value::String(text.to_owned())),
        Kind::Bool => words(&text.to_lowercase()).map(Value::Bool).ok_or_else(|| wrong(text, "bool")),
        Kind::Int if text.is_empty() => Err(wrong(text, "int")),
        Kind::Int => number::int(text, old).map_err(|_| wrong(text, "int")),
        Kind::Float => number::float(text, old).map_err(|_| wrong(text, "float")),
        Kind::Timestamp => time::timestamp(text).map(Value::String),
    }
}

fn wrong(text: &str, tag: &str) -> String {
    format!("{} cannot be read as `!!{tag}`", code(text))
}

fn truth(text: &str, dialect: Dialect) -> Option<bool> {
    // `yEs` is a word, not a boolean: all small, all capital, or the first one.
    let mut letters = text.chars();
    let first = letters.next()?;
    let rest = letters.as_str();
    let small = rest.chars().all(|letter| letter.is_ascii_lowercase());
    let capital = first.is_ascii_uppercase() && rest.chars().all(|letter| letter.is_ascii_uppercase());
    if !(small || capital) || text.len() > 5 {
        return None;
    }
    let word = text.to_ascii_lowercase();
    if dialect == Dialect::New && word != "true" && word != "false" {
        return None;
    }
    words(&word)
}

/// The boolean a word in small letters names.
pub(in crate::appyaml) fn words(word: &str) -> Option<bool> {
    match word {
        "y" | "yes" | "true" | "on" => Some(true),
        "n" | "no" | "false" | "off" => Some(false),
        _ => None,
    }
}
