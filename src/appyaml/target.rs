//! What a handler answers with: a script, a directory, or files named by a template.

use super::findings::{Findings, code};
use super::raw::Node;
use super::{Place, StaticOptions, Target};
use crate::pattern::{Pattern, Template};

/// What a handler of this kind answers with; none when its value is missing.
pub(super) fn read(
    node: Node<'_>,
    kind: &str,
    url: &Pattern,
    options: StaticOptions,
    findings: &mut Findings,
) -> Option<Target> {
    match kind {
        "static_dir" => {
            let place = node.get(kind)?.place();
            Some(directory(&node.text_at(kind)?, options, &place, findings))
        }
        "static_files" => {
            let path = Template::parse(&node.text_at(kind)?);
            fits(&path, url, node.get(kind)?, "every file is missing (404)", findings);
            let upload = upload(node.get("upload")?, findings);
            Some(Target::StaticFiles { path, upload, options })
        }
        _ => {
            let script = Template::parse(&node.text_at("script").unwrap_or_default());
            if let Some(node) = node.get("script") {
                fits(&script, url, node, "it is handed to the app as written", findings);
            }
            Some(Target::Script { script })
        }
    }
}

fn directory(written: &str, options: StaticOptions, place: &Place, findings: &mut Findings) -> Target {
    let reachable = !written.starts_with('/') && !written.split('/').any(|part| part == "..");
    if !reachable {
        let message =
            format!("{} is outside the application: every file in it is missing (404)", code(written));
        findings
            .warning(place, message)
            .hint("write a directory inside the application, without `/` in front");
    }
    let parts: Vec<&str> = written.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    Target::StaticDir { dir: parts.join("/"), reachable, options }
}

fn fits(template: &Template, url: &Pattern, node: Node<'_>, effect: &str, findings: &mut Findings) {
    if let Err(error) = template.fits(url) {
        findings
            .warning(
                &node.place(),
                format!("{} does not fit the url: {error}; {effect}", code(template.as_str())),
            )
            .hint("`\\1` stands for the first `(…)` of the url");
    }
}

fn upload(node: Node<'_>, findings: &mut Findings) -> Option<Pattern> {
    let text = node.text();
    let text = text.strip_prefix("./").unwrap_or(&text);
    match Pattern::parse(text) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let message = format!("{} is not a regular expression and is ignored: {error}", code(text));
            findings.warning(&node.place(), message).hint("write a pattern of files, such as `static/.*`");
            None
        }
    }
}
