//! Checks across the keys of sections that the proxy does not act on: wrong is wrong all the same.

use super::findings::{Findings, code};
use super::raw::Node;
use crate::pattern::Pattern;

/// The longest `source_reference`, in characters.
const LONGEST_REFERENCES: usize = 2048;

/// Whatever the SDK would refuse.
pub(super) fn check(node: Node<'_>, findings: &mut Findings) {
    if let Some(metrics) = node.get("automatic_scaling").and_then(|node| node.get("custom_metrics")) {
        metrics.items().for_each(|metric| custom_metric(metric, findings));
    }
    if let Some(service) = node.get("endpoints_api_service") {
        endpoints(service, findings);
    }
    if let Some(references) = node.get("beta_settings").and_then(|node| node.get("source_reference")) {
        source_references(references, findings);
    }
    if let Some(files) = node.get("nobuild_files").filter(|files| !files.is_broken()) {
        if files.value.is_mapping() {
            findings.error(&files.place(), "`nobuild_files` must be a pattern or a list of patterns");
        } else if let Err(error) = Pattern::parse(&files.text().replace(['\n', '\r'], "")) {
            findings.error(
                &files.place(),
                format!("{} is not a regular expression: {error}", code(&files.text())),
            );
        }
    }
}

fn custom_metric(metric: Node<'_>, findings: &mut Findings) {
    let given = |name: &str| metric.text_at(name).is_some_and(|text| text.trim().parse() != Ok(0.0));
    if metric.value.is_mapping() && given("target_utilization") == given("single_instance_assignment") {
        findings
            .error(
                &metric.place(),
                "a custom metric needs one of `target_utilization` and `single_instance_assignment`",
            )
            .hint("give one of the two, and not both");
    }
}

fn endpoints(service: Node<'_>, findings: &mut Findings) {
    let managed = service.text_at("rollout_strategy").as_deref() == Some("managed");
    match (managed, service.entry("config_id")) {
        (false, None) if service.value.is_mapping() => findings
            .error(&service.place(), "`endpoints_api_service` needs `config_id`")
            .hint("add it, or write `rollout_strategy: managed`"),
        (true, Some((key, _))) => {
            findings
                .error(&key.place(), "`config_id` cannot go with `rollout_strategy: managed`")
                .hint("remove it");
        }
        _ => {}
    }
}

/// Lines of `[repository_uri#]revision`.
fn source_references(node: Node<'_>, findings: &mut Findings) {
    let text = node.text();
    let good = |line: &str| {
        let (uri, revision) =
            line.split_once('#').map_or((None, line), |(uri, revision)| (Some(uri), revision));
        let hex = !revision.is_empty() && revision.chars().all(|digit| digit.is_ascii_hexdigit());
        hex && uri.is_none_or(|uri| {
            uri.split_once(':').is_some_and(|(scheme, _)| {
                scheme.starts_with(|first: char| first.is_ascii_lowercase())
                    && scheme.chars().all(|letter| {
                        letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-+.".contains(letter)
                    })
            })
        })
    };
    if text.chars().count() > LONGEST_REFERENCES || !text.lines().all(|line| good(line.trim())) {
        findings
            .error(&node.place(), format!("{} is not a source reference", code(&text)))
            .hint("write `[repository#]revision` with a hexadecimal revision, or remove it");
    }
}
