//! What an `app.yaml` says, in types that cannot say anything else.
//!
//! 1. `reader`: the text as YAML 1.1, one `serde_yaml` value with the place of everything in it.
//! 2. `raw`: walks value and places together; `shape` (with `values`) checks them by the tables in `fields`.
//! 3. `part`: what app.yaml and included files share: `handler` (`target`, `headers`, `expiration`), `skip`, `builtins`.
//! 4. `app`: app.yaml itself, the checks across fields (`rare` for sections that do not act), the `notes`, the `sizing`.
//! 5. `include`: `includes` and `builtins` in the SDK's order, merged.
//! 6. `load`: the entry, which puts these together; `render`: a [`Problem`] as text for people.
//!
//! Nothing here opens a file by itself, listens or runs: the caller passes in how to read.

mod app;
mod builtin;
mod expiration;
mod fields;
mod findings;
mod handler;
mod headers;
mod include;
mod load;
mod notes;
mod part;
mod rare;
mod raw;
mod reader;
mod render;
mod shape;
mod sizing;
mod skip;
mod target;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::pattern::{Pattern, Template};

pub use load::load;
pub use render::render;
pub use sizing::Sizing;

/// What came of reading an `app.yaml`.
#[derive(Debug)]
pub struct Loaded {
    /// The application; none exactly when a problem is an error.
    pub app: Option<App>,
    /// Everything found, by file (app.yaml first, then in the order of reading) and place.
    pub problems: Vec<Problem>,
    /// The text of every file that could be read, for [`render`].
    pub texts: Vec<(Arc<str>, String)>,
}

/// A valid application: `app.yaml` with its includes and builtins merged.
#[derive(Debug, Clone)]
pub struct App {
    /// The `runtime:` name as written, for example `python27`.
    pub runtime: String,
    /// What the runtime name means for routing (rule R-MODERN).
    pub era: Era,
    /// `service` or `module`; `default` when absent.
    pub service: String,
    /// `version`, when given.
    pub version: Option<String>,
    /// `application` or `project`, when given.
    pub application: Option<String>,
    /// `entrypoint` as written (without the SDK's `exec ` prefix), when given.
    pub entrypoint: Option<String>,
    /// `threadsafe`, when given.
    pub threadsafe: Option<bool>,
    /// `env_variables` in the text PyYAML would give them.
    pub env_variables: BTreeMap<String, String>,
    /// Handlers in effective order: included heads, own, included tails.
    pub handlers: Vec<Handler>,
    /// `skip_files`; the SDK's default when absent.
    pub skip_files: Pattern,
    /// `inbound_services` has `warmup`.
    pub warmup: bool,
    /// `automatic_scaling.max_concurrent_requests`.
    pub max_concurrent_requests: Option<NonZeroU32>,
    /// `automatic_scaling.max_pending_latency` (`automatic` is none).
    pub max_pending_latency: Option<Duration>,
    /// `manual_scaling.instances`.
    pub manual_instances: Option<NonZeroU32>,
    /// `basic_scaling` is there.
    pub basic_scaling: bool,
    /// How large it is and how many of it there may be.
    pub sizing: Sizing,
    /// `error_handlers`, first of each code.
    pub error_handlers: Vec<ErrorHandler>,
    /// `vm: true`, `env: flex` or `runtime: vm`: the old flexible runtime.
    pub vm: bool,
    /// In a virtual machine: `vm_settings.vm_runtime`, else `runtime`; none otherwise.
    pub vm_runtime: Option<String>,
    /// Every yaml file read, relative to the application root: never served (R-CONFIG), watched for changes.
    pub sources: Vec<PathBuf>,
}

/// Whether a path that no handler matches goes to the app (R-MODERN).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// `python27`, `python`, `python-compat`, `vm`: no handler, no answer (404).
    Classic,
    /// `python3*` and every other runtime: no handler means the app.
    Modern,
}

/// One entry of `handlers:`.
#[derive(Debug, Clone)]
pub struct Handler {
    /// The `url:` pattern; for `static_dir` the prefix as written.
    pub url: Pattern,
    /// What a matching request gets.
    pub target: Target,
    /// `login:`; anything but optional is answered 404 (R-LOGIN404).
    pub login: Login,
    /// `secure:`.
    pub secure: Secure,
    /// `redirect_http_response_code`; 302 when absent.
    pub redirect_code: u16,
    /// Where the handler stands in the file.
    pub place: Place,
}

/// What a matching request gets. A file can name two of these; this type cannot.
#[derive(Debug, Clone)]
pub enum Target {
    /// `script:` (or `api_endpoint`): the app answers.
    Script {
        /// May hold backreferences to the url's groups.
        script: Template,
    },
    /// `static_dir:`: the rest of the path below a directory.
    StaticDir {
        /// As written, less a trailing `/` and leading `./`.
        dir: String,
        /// False when the directory is absolute or has a `..` segment: every file is missing.
        reachable: bool,
        /// The options shared with `static_files`.
        options: StaticOptions,
    },
    /// `static_files:`: a template expanded with the url's groups.
    StaticFiles {
        /// The path template.
        path: Template,
        /// `upload`; none when it did not compile (noted and ignored).
        upload: Option<Pattern>,
        /// The options shared with `static_dir`.
        options: StaticOptions,
    },
}

/// Options of both static kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticOptions {
    /// `mime_type`, used verbatim.
    pub mime_type: Option<String>,
    /// `http_headers` in file order, values as text, empty values dropped.
    pub http_headers: Vec<(String, String)>,
    /// The handler's `expiration`, else `default_expiration`, else 600 s.
    pub expiration: Duration,
    /// `require_matching_file` (R-RMF).
    pub require_matching_file: bool,
}

/// `login:`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Login {
    /// Anyone may ask.
    #[default]
    Optional,
    /// A signed-in user: 404 here.
    Required,
    /// An administrator: 404 here.
    Admin,
}

impl Login {
    /// The word app.yaml uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Optional => "optional",
            Self::Required => "required",
            Self::Admin => "admin",
        }
    }
}

/// `secure:`; `default` is read as optional.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Secure {
    /// Both schemes.
    #[default]
    Optional,
    /// http is redirected to https.
    Always,
    /// https is redirected to http.
    Never,
}

/// One entry of `error_handlers:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorHandler {
    /// Which failure it is for.
    pub code: ErrorCode,
    /// The file, relative to the application root.
    pub file: String,
    /// `mime_type`; `text/html` when absent.
    pub mime_type: String,
    /// Where it stands in the file.
    pub place: Place,
}

/// `error_code:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// `default`, and what an entry without a code means.
    Default,
    /// `over_quota`.
    OverQuota,
    /// `dos_api_denial`.
    DosApiDenial,
    /// `timeout`.
    Timeout,
}

/// A place in a yaml file; lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as the user would name it, relative to the application root (`app.yaml`, `include/a.yaml`), or `builtin:deferred`.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
}

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; logged once at start.
    Note,
    /// Works otherwise than on App Engine, or surely not as meant.
    Warning,
    /// The application is not loaded.
    Error,
}

/// A finding in a file, told the way a colleague would tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Error, warning or note.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// What is wrong: lower case, no full stop, backticks round what the user wrote.
    pub message: String,
    /// What to write instead, when we know.
    pub hint: Option<String>,
}
