//! From a command line as written to the words of one process.
//!
//! `--upstream-cmd` is split as a POSIX shell splits it, and no shell runs. In any word `{port}`, `{socket}`, `{worker}`
//! and `{app_dir}` stand for the worker's own values, and so do `$PORT` and `${PORT}`. Written twice, as in
//! `{{port}}`, the braces mean themselves; all other braces are left alone, so JSON in an argument needs no care.
//!
//! `entrypoint:` of app.yaml is a shell command on App Engine. It is split in the same way as long as that gives the
//! same words; only if it needs a shell (`$HOME`, `&&`, `*`) is it given to `/bin/sh -c`.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::balance::Address;

/// Characters outside of quotes that mean something to a shell and nothing to us.
const SHELL: &[char] = &['$', '`', ';', '&', '|', '<', '>', '(', ')', '*', '?', '[', '#', '~', '\n', '!'];
/// Of those, the ones that make more than one command of a line: it cannot be an `exec`.
const COMPOUND: &[char] = &[';', '&', '|', '(', ')', '\n', '#', '!'];

/// The names that may stand in braces.
const NAMES: [(&str, Piece); 6] = [
    ("{port}", Piece::Port),
    ("{socket}", Piece::Socket),
    ("{worker}", Piece::Worker),
    ("{app_dir}", Piece::AppDir),
    ("${PORT}", Piece::Port),
    ("$PORT", Piece::Port),
];

/// Why a command cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CommandError {
    /// There is no word in it.
    #[error("the command is empty: name a program and its arguments")]
    Empty,
    /// A quote is not closed.
    #[error("`{0}` has a quote that is not closed")]
    Quotes(String),
    /// No such program in `PATH`.
    #[error("program `{0}` is not found in PATH: install it, or write its full path")]
    NotInPath(String),
    /// No such file.
    #[error("program `{0}` does not exist (a relative path starts at the application's directory)")]
    Missing(String),
    /// It may not be run.
    #[error("program `{0}` is not an executable file: `chmod +x` it, or put its interpreter before it")]
    NotExecutable(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Port,
    Socket,
    Worker,
    AppDir,
}

/// Where one worker listens, and what fills the placeholders of its command.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) worker: usize,
    pub(super) port: Option<u16>,
    pub(super) socket: Option<PathBuf>,
}

impl Place {
    /// The socket if there is one: then the port, if any, is for something else.
    pub(super) fn address(&self) -> Address {
        match (&self.socket, self.port) {
            (Some(path), _) => Address::Unix(path.clone()),
            (None, port) => Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(0)))),
        }
    }

    #[cfg(test)]
    pub(super) fn for_test(worker: usize, port: u16, socket: &str) -> Self {
        Self { worker, port: Some(port), socket: Some(socket.into()) }
    }
}

/// A command with its placeholders still in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    words: Vec<Vec<Piece>>,
    /// Values are put into shell text and must be quoted for it.
    shell: bool,
}

impl Template {
    /// Splits a command line as a shell does.
    ///
    /// # Errors
    /// If it is empty or a quote is not closed.
    pub fn parse(text: &str) -> Result<Self, CommandError> {
        let words = shell_words::split(text).map_err(|_| CommandError::Quotes(text.to_owned()))?;
        Self::from_words(&words)
    }

    /// A command that is split already. Placeholders work as in [`Template::parse`].
    ///
    /// # Errors
    /// If there is no word.
    pub fn from_words<W: AsRef<str>>(words: &[W]) -> Result<Self, CommandError> {
        if words.first().is_none_or(|word| word.as_ref().is_empty()) {
            return Err(CommandError::Empty);
        }
        Ok(Self { words: words.iter().map(|word| pieces(word.as_ref())).collect(), shell: false })
    }

    /// The `entrypoint:` of app.yaml, through a shell only if it needs one.
    ///
    /// # Errors
    /// If it is empty or a quote is not closed.
    pub fn entrypoint(text: &str) -> Result<Self, CommandError> {
        let text = text.trim();
        let plain = Self::parse(text)?;
        // A word such as `A=1` before the program sets a variable.
        let assigns = text.split_whitespace().next().is_some_and(|word| word.contains('='));
        if !assigns && !text.replace("${PORT}", "").replace("$PORT", "").contains(SHELL) {
            return Ok(plain);
        }
        // With `exec` the shell becomes the program: its pid is the worker's, and signals reach it.
        let exec = if assigns || text.contains(COMPOUND) || text.starts_with("exec ") { "" } else { "exec " };
        let line = pieces(&format!("{exec}{text}"));
        let word = |text: &str| vec![Piece::Text(text.to_owned())];
        Ok(Self { words: vec![word("/bin/sh"), word("-c"), line], shell: true })
    }

    /// Whether the command names its port.
    #[must_use]
    pub fn uses_port(&self) -> bool {
        self.uses(&Piece::Port)
    }

    /// Whether the command names a unix socket.
    #[must_use]
    pub fn uses_socket(&self) -> bool {
        self.uses(&Piece::Socket)
    }

    fn uses(&self, piece: &Piece) -> bool {
        self.words.iter().flatten().any(|other| other == piece)
    }

    /// Finds the program the way it will be found when it is started in `app_dir` with this `PATH`.
    ///
    /// # Errors
    /// If it is not there or may not be run.
    pub fn find_program(&self, app_dir: &Path, path: Option<&OsStr>) -> Result<PathBuf, CommandError> {
        // A placeholder in the program's name is the operator's own affair; only a plain name is looked up.
        let name = match self.words.first().map(Vec::as_slice) {
            Some([Piece::Text(name)]) => name.as_str(),
            _ => return Ok(app_dir.to_owned()),
        };
        if name.contains('/') {
            let file = app_dir.join(name);
            return match may_run(&file) {
                Some(true) => Ok(file),
                Some(false) => Err(CommandError::NotExecutable(name.to_owned())),
                None => Err(CommandError::Missing(name.to_owned())),
            };
        }
        std::env::split_paths(path.unwrap_or_default())
            .map(|folder| app_dir.join(folder).join(name))
            .find(|file| may_run(file) == Some(true))
            .ok_or_else(|| CommandError::NotInPath(name.to_owned()))
    }

    /// The program as it was written, for messages.
    pub(super) fn program(&self) -> &str {
        match self.words.first().map(Vec::as_slice) {
            Some([Piece::Text(name)]) => name,
            _ => "the command",
        }
    }

    /// The words for one worker.
    pub(super) fn fill(&self, place: &Place, app_dir: &Path) -> Vec<String> {
        let value = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Port => place.port.map(|port| port.to_string()).unwrap_or_default(),
            Piece::Socket => {
                place.socket.as_deref().map(|path| path.display().to_string()).unwrap_or_default()
            }
            Piece::Worker => place.worker.to_string(),
            Piece::AppDir if self.shell => shell_words::quote(&app_dir.to_string_lossy()).into_owned(),
            Piece::AppDir => app_dir.to_string_lossy().into_owned(),
        };
        self.words.iter().map(|word| word.iter().map(value).collect()).collect()
    }
}

/// Whether the file may be run; none if there is no such file.
fn may_run(file: &Path) -> Option<bool> {
    let metadata = file.metadata().ok()?;
    Some(metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn pieces(word: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        // `{{port}}` is the text `{port}`.
        let doubled = NAMES[..4].iter().find_map(|(name, _)| {
            let tail = rest.strip_prefix('{')?.strip_prefix(name)?.strip_prefix('}')?;
            Some((*name, tail))
        });
        if let Some((name, tail)) = doubled {
            text.push_str(name);
            rest = tail;
            continue;
        }
        match NAMES.iter().find_map(|(name, piece)| Some((name, piece, tail_after(rest, name)?))) {
            Some((_, piece, tail)) => {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(piece.clone());
                rest = tail;
            }
            None => {
                text.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    if !text.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces
}

/// What follows `name` at the start of `rest`. `$PORTAL` is another variable than `$PORT`.
fn tail_after<'a>(rest: &'a str, name: &str) -> Option<&'a str> {
    let tail = rest.strip_prefix(name)?;
    let goes_on = tail.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    (!(name == "$PORT" && goes_on)).then_some(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &Template) -> Vec<String> {
        let place = Place::for_test(3, 8123, "/run/x/3.sock");
        template.fill(&place, Path::new("/srv/my app"))
    }

    #[track_caller]
    fn check(text: &str, words: &[&str]) {
        assert_eq!(filled(&Template::parse(text).expect("valid command")), words, "{text}");
    }

    #[test]
    fn words_are_split_as_a_shell_does_and_no_shell_runs() {
        check(
            r#"gunicorn -b 'unix:{socket}' "a b" c\ d && x"#,
            &["gunicorn", "-b", "unix:/run/x/3.sock", "a b", "c d", "&&", "x"],
        );
    }

    #[test]
    fn placeholders_stand_anywhere_in_a_word() {
        check(
            "a --bind=127.0.0.1:{port}x {worker} {app_dir}/w",
            &["a", "--bind=127.0.0.1:8123x", "3", "/srv/my app/w"],
        );
        check("a :$PORT :${PORT} $PORTAL", &["a", ":8123", ":8123", "$PORTAL"]);
    }

    #[test]
    fn other_braces_are_left_alone_and_doubled_ones_mean_themselves() {
        check(
            r#"a '{"k": {}}' {{port}} {{worker} {other} {"#,
            &["a", r#"{"k": {}}"#, "{port}", "{3", "{other}", "{"],
        );
    }

    #[test]
    fn empty_commands_and_open_quotes_are_refused() {
        assert_eq!(Template::parse("  "), Err(CommandError::Empty));
        assert_eq!(Template::parse("''"), Err(CommandError::Empty));
        assert_eq!(Template::parse("a 'b"), Err(CommandError::Quotes("a 'b".into())));
    }

    #[test]
    fn an_entrypoint_runs_without_a_shell_if_it_can() {
        let words = |text| filled(&Template::entrypoint(text).expect("valid entrypoint"));
        assert_eq!(words("gunicorn -b :$PORT main:app"), ["gunicorn", "-b", ":8123", "main:app"]);
        assert_eq!(words("serve $HOME/x"), ["/bin/sh", "-c", "exec serve $HOME/x"]);
        assert_eq!(words("a && b :$PORT"), ["/bin/sh", "-c", "a && b :8123"]);
        assert_eq!(words("X=1 serve"), ["/bin/sh", "-c", "X=1 serve"]);
        assert_eq!(words("serve {app_dir}/*"), ["/bin/sh", "-c", "exec serve '/srv/my app'/*"]);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let find = |text: &str| {
            let path = std::env::var_os("PATH");
            Template::parse(text).expect("valid command").find_program(Path::new("/"), path.as_deref())
        };
        assert!(find("sh -c true").is_ok());
        assert!(find("bin/sh").is_ok());
        assert_eq!(
            find("no-such-program-here x"),
            Err(CommandError::NotInPath("no-such-program-here".into()))
        );
        assert_eq!(find("./nothing"), Err(CommandError::Missing("./nothing".into())));
        assert_eq!(find("/etc/passwd"), Err(CommandError::NotExecutable("/etc/passwd".into())));
    }
}
