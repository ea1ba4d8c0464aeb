//! Keeps what operators apply true to the program: manifests, Dockerfile, dashboards, and what the README tells them
//! to type. Nothing here needs a cluster, a Docker engine or Grafana; kubectl and the like come from the package registry.

#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::expect_used, reason = "a test that cannot go on should stop, with a reason")]

mod autoscaler;
mod compose;
mod dashboards;
mod export;
mod image;
mod kubernetes;
mod kustomize;
mod metrics;
#[path = "../support/packages.rs"]
mod packages;
mod pod;
mod promql;
mod readme;
mod rules;
mod scrape;
mod service;

use std::path::{Path, PathBuf};

/// The program that all of it is about.
const BINARY: &str = env!("CARGO_BIN_EXE_compat-proxy");

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The names in a folder of the repository, sorted.
fn names(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(path(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("a readable folder").file_name().to_string_lossy().into_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}
