//! The dashboards against Grafana's own model of them, the package `grafana-foundation-sdk`, of the oldest and of a
//! newer Grafana: read and written again, nothing of them may be lost or changed.

use std::path::Path;
use std::process::{Command, Output};

use crate::packages::{missing, packages, python};

/// One for each version of Grafana.
const MODELS: [(&str, &str); 2] = [
    ("grafana-10.1", "grafana-foundation-sdk==1769699998!10.1.0"),
    ("grafana-11.6", "grafana-foundation-sdk==1769699379!11.6.0"),
];

fn round_trip(model: &Path, boards: &[&Path]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/grafana/round_trip.py");
    let mut command = Command::new(python());
    command.env("PYTHONPATH", model).env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg(script).args(boards).output().expect("python runs")
}

#[test]
fn grafanas_own_model_takes_every_dashboard_whole() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards");
    let entries = std::fs::read_dir(&root).expect("the dashboards").flatten().map(|entry| entry.path());
    let boards: Vec<_> = entries.filter(|path| path.extension().is_some_and(|kind| kind == "json")).collect();
    assert_eq!(boards.len(), 6, "{boards:?}");
    let boards: Vec<&Path> = boards.iter().map(|path| path.as_path()).collect();
    for (name, package) in MODELS {
        let model = match packages(name, &[package]) {
            Ok(model) => model,
            Err(error) => {
                return missing(&format!("NO {package}, dashboards are not shown to fit it: {error}"));
            }
        };
        let done = round_trip(&model, &boards);
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{name}: {said}{}", String::from_utf8_lossy(&done.stderr));
        // What Grafana does not know is seen: in a panel of this type, in its fields, in a query.
        let folder = tempfile::tempdir().expect("a temporary folder");
        let text = std::fs::read_to_string(root.join("compat-proxy-overview.json")).expect("a dashboard");
        for (right, wrong) in [
            ("\"showLegend\": true", "\"showsLegend\": true"),
            ("\"drawStyle\": \"line\"", "\"drawStyle\": \"lines\""),
            ("\"legendFormat\"", "\"legendFormt\""),
            ("\"gridPos\"", "\"gridPosition\""),
        ] {
            assert!(text.contains(right), "{right}");
            let file = folder.path().join("wrong.json");
            std::fs::write(&file, text.replacen(right, wrong, 1)).expect("a file");
            let done = round_trip(&model, &[&file]);
            assert!(!done.status.success(), "{name} takes {wrong}");
        }
    }
}
