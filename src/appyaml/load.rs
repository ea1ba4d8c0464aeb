//! The entry: reads app.yaml and what it includes, and puts the steps together.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::app;
use super::findings::Findings;
use super::include;
use super::raw::Node;
use super::reader::{self, Content};
use super::{App, Loaded, Place, Problem};

/// Reads `app_yaml` and all it includes, and tells every problem.
///
/// Paths are relative to the application root, `app_yaml` too. `read` gets such a path, which does not leave the root
/// by its text (links are the reader's to refuse), and returns the file's bytes.
pub fn load(app_yaml: &Path, read: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>) -> Loaded {
    let mut findings = Findings::default();
    let mut files =
        Files { read, main: app_yaml.to_owned(), texts: Vec::new(), sources: vec![app_yaml.to_owned()] };
    let app = load_app(&mut files, &mut findings);
    let order = |problem: &Problem| {
        let file = files.texts.iter().position(|(file, _)| *file == problem.place.file).unwrap_or(usize::MAX);
        (file, problem.place.line, problem.place.column)
    };
    let mut problems = findings.into_problems();
    problems.sort_by_key(order);
    Loaded { app, problems, texts: files.texts }
}

/// How to read, and what has been read.
pub(super) struct Files<'r> {
    pub(super) read: &'r mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    pub(super) main: PathBuf,
    pub(super) texts: Vec<(Arc<str>, String)>,
    pub(super) sources: Vec<PathBuf>,
}

fn load_app(files: &mut Files<'_>, findings: &mut Findings) -> Option<App> {
    let file: Arc<str> = files.main.display().to_string().into();
    let start = Place { file: Arc::clone(&file), line: 1, column: 1 };
    let bytes = match (files.read)(&files.main) {
        Ok(bytes) => bytes,
        Err(error) => {
            findings
                .error(&start, format!("cannot read the file: {error}"))
                .hint("name the application's directory, or the file with `--app-yaml`");
            return None;
        }
    };
    let text = match reader::decode(bytes, &file) {
        Ok(text) => text,
        Err(problem) => {
            findings.push(problem);
            return None;
        }
    };
    let content = reader::read(&text, &file, findings);
    files.texts.push((Arc::clone(&file), text));
    let document = match content {
        Content::Document(document) => document,
        Content::Broken => return None,
        Content::Nothing => {
            findings
                .error(&start, "the file is empty")
                .hint("start it with `runtime: python27` and `handlers:`");
            return None;
        }
    };
    let mut draft = app::read(Node::root(&document, &file), findings);
    let around = draft.around;
    let included = include::resolve(&mut draft.part, files, around, findings);
    include::merge_into(&mut draft.part, included);
    draft.finish(std::mem::take(&mut files.sources), findings)
}
