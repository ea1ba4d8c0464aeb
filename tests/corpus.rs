//! Real app.yaml files and what the App Engine SDK says of them.
//!
//! The files are not part of this repository; where `../shared/corpus` is absent the test says so and passes. Each
//! `NNN.app.yaml` lies beside an `NNN.verdict.json` with `expect`, `handlers` and, for files that name includes which
//! are not there, the same `without_includes`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use compat_proxy::appyaml::{App, Handler, Loaded, Secure, Severity, StaticOptions, Target, load};
use serde_json::{Map, Value, json};

/// Files where we differ from the SDK on purpose: number, and why.
const DELIBERATE: [(&str, &str); 0] = [];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus")
}

fn load_text(text: &[u8]) -> Loaded {
    load(Path::new("app.yaml"), &mut |path| {
        if path == Path::new("app.yaml") { Ok(text.to_vec()) } else { Err(io::ErrorKind::NotFound.into()) }
    })
}

/// The file with its `includes:` taken out.
fn without_includes(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.split_inclusive('\n') {
        let item = line.trim_start_matches([' ', '\t']);
        if inside && (item.is_empty() || item.starts_with(['-', '#', '\r', '\n'])) {
            continue;
        }
        inside = line.starts_with("includes:");
        if !inside {
            kept.push_str(line);
        }
    }
    kept
}

/// Our handlers in the words of the verdicts.
fn ours(handler: &Handler) -> Value {
    let mut out = Map::new();
    out.insert("url".into(), json!(handler.url.as_str()));
    out.insert("login".into(), json!(handler.login.as_str()));
    let secure = match handler.secure {
        Secure::Optional => "optional",
        Secure::Always => "always",
        Secure::Never => "never",
    };
    out.insert("secure".into(), json!(secure));
    out.insert("code".into(), json!(handler.redirect_code.to_string()));
    match &handler.target {
        Target::Script { script } => {
            out.insert("script".into(), json!(script.as_str()));
        }
        Target::StaticDir { dir, options, .. } => {
            out.insert("static_dir".into(), json!(dir));
            add(&mut out, options);
        }
        Target::StaticFiles { path, upload, options } => {
            out.insert("static_files".into(), json!(path.as_str()));
            out.insert("upload".into(), json!(upload.as_ref().map(|upload| upload.as_str().to_owned())));
            add(&mut out, options);
        }
    }
    Value::Object(out)
}

fn add(out: &mut Map<String, Value>, options: &StaticOptions) {
    out.insert("expiration".into(), json!(options.expiration.as_secs()));
    out.insert("mime_type".into(), json!(options.mime_type));
    out.insert("require_matching_file".into(), json!(options.require_matching_file));
    let mut headers = options.http_headers.clone();
    headers.sort();
    out.insert("http_headers".into(), json!(headers));
}

/// The SDK's handlers, brought to the same form.
fn theirs(handler: &Value, default_expiration: Option<&str>) -> Value {
    let text = |name: &str| handler.get(name).and_then(Value::as_str);
    let mut out = Map::new();
    out.insert("url".into(), json!(text("url")));
    out.insert("login".into(), json!(text("login").unwrap_or("optional")));
    let secure = text("secure").filter(|secure| *secure != "default").unwrap_or("optional");
    out.insert("secure".into(), json!(secure));
    out.insert("code".into(), json!(text("redirect_http_response_code").unwrap_or("302")));
    let plain_dir = |dir: &str| {
        dir.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
    };
    match text("type").unwrap_or_default() {
        "static_dir" => {
            out.insert("static_dir".into(), json!(text("static_dir").map(plain_dir)));
        }
        "static_files" => {
            let upload = text("upload").map(|upload| upload.strip_prefix("./").unwrap_or(upload));
            // A pattern that does not compile is noted and left out.
            let upload = upload.filter(|upload| compat_proxy::pattern::Pattern::parse(upload).is_ok());
            out.insert("static_files".into(), json!(text("static_files")));
            out.insert("upload".into(), json!(upload));
        }
        _ => {
            out.insert("script".into(), json!(text("script").unwrap_or_default()));
            return Value::Object(out);
        }
    }
    let expiration = text("expiration").or(default_expiration).map_or(600, seconds);
    out.insert("expiration".into(), json!(expiration));
    out.insert("mime_type".into(), json!(text("mime_type").filter(|text| !text.is_empty())));
    let matching = handler.get("require_matching_file").and_then(Value::as_bool).unwrap_or(false);
    out.insert("require_matching_file".into(), json!(matching));
    let mut headers: Vec<(&str, &str)> = handler
        .get("http_headers")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
        .filter(|(_, value)| !value.is_empty() && *value != "None")
        .collect();
    headers.sort_unstable();
    out.insert("http_headers".into(), json!(headers));
    Value::Object(out)
}

fn seconds(text: &str) -> u64 {
    let unit = |item: &str| match item.chars().last().map(|unit| unit.to_ascii_lowercase()) {
        Some('d') => 86_400,
        Some('h') => 3600,
        Some('m') => 60,
        _ => 1,
    };
    let number = |item: &str| item.trim_end_matches(char::is_alphabetic).parse().unwrap_or(0);
    text.split_whitespace().map(|item| unit(item) * number(item)).sum()
}

/// How our reading differs from the SDK's, if it does.
fn difference(loaded: &Loaded, verdict: &Value) -> Option<String> {
    let expected = verdict["expect"] == "ok";
    let errors: Vec<&str> = loaded
        .problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
        .map(|problem| problem.message.as_str())
        .collect();
    match (&loaded.app, expected) {
        (None, false) => None,
        (Some(app), true) => handlers(app, verdict),
        (None, true) => Some(format!("refused: {}", errors.join("; "))),
        (Some(_), false) => Some(format!("accepted, but the SDK says {}", verdict["sdk"]["message"])),
    }
}

fn handlers(app: &App, verdict: &Value) -> Option<String> {
    let default_expiration = verdict.get("default_expiration").and_then(Value::as_str);
    let theirs: Vec<Value> = verdict["handlers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|handler| theirs(handler, default_expiration))
        .collect();
    let ours: Vec<Value> = app.handlers.iter().map(ours).collect();
    let pair = ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
    pair.map(|(ours, theirs)| format!("{ours} is not {theirs}")).or_else(|| {
        (ours.len() != theirs.len()).then(|| format!("{} handlers, not {}", ours.len(), theirs.len()))
    })
}

#[test]
fn real_files_are_read_as_the_sdk_reads_them() {
    let Ok(entries) = fs::read_dir(folder()) else {
        println!("skipped: there is no {}", folder().display());
        return;
    };
    let mut names: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    names.retain(|path| path.to_string_lossy().ends_with(".app.yaml"));
    names.sort();
    assert!(!names.is_empty(), "the corpus is empty");

    let mut differences = Vec::new();
    for path in &names {
        let number =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.get(..3)).expect("a number");
        let text = fs::read(path).expect("readable");
        let verdict = fs::read(path.with_file_name(format!("{number}.verdict.json"))).expect("a verdict");
        let verdict: Value = serde_json::from_slice(&verdict).expect("JSON");
        let mut found = difference(&load_text(&text), &verdict);
        if let Some(verdict) = verdict.get("without_includes") {
            let text = without_includes(&String::from_utf8_lossy(&text));
            found = found.or_else(|| difference(&load_text(text.as_bytes()), verdict));
        }
        let deliberate = DELIBERATE.iter().any(|(known, _)| *known == number);
        match found {
            Some(found) if !deliberate => differences.push(format!("{number}: {found}")),
            None if deliberate => {
                differences.push(format!("{number}: differs no more; take it off the list"))
            }
            _ => {}
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {} files:\n{}",
        differences.len(),
        names.len(),
        differences.join("\n")
    );
}
