//! The command line as typed: the commands, what each takes besides the options of `run`, and their help.
//!
//! The options of `run` are in `options`; nothing here decides what a value means.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::key::{self, KEYS};
use super::options::Options;

const AFTER_HELP: &str = "\
Each option is also an environment variable and, by the same name without the dashes, a key of compat-proxy.yaml in \
APP_DIR (or --config FILE). The strongest is the flag, then COMPAT_PROXY_*, then PORT, WEB_CONCURRENCY and \
MODULE_YAML_PATH, then the file, then app.yaml, then the default. Empty variables count as not set. Several values: \
repeat the flag, separate them by commas or spaces, or write a list in the file.

Durations have units: 500ms, 10s, 2m, 1h 30m. Sizes too: 64KiB and 32MiB count by 1024, 64KB and 32MB by 1000.

Signals: TERM stops after the requests in flight, INT the same without --drain-quiet (twice: at once), HUP reads app.yaml \
and compat-proxy.yaml again and rolls the workers, USR1 switches the log to debug and back.

Exit codes: 0 clean stop, 1 findings or general error, 2 usage, 65 invalid app.yaml, 69 no worker ever became ready, \
71 the system refused (port taken), 78 invalid options or compat-proxy.yaml.";

const EXPLAIN_HELP: &str = "\
A URL starts with `/`, `http://` or `https://`. When more than one argument is given, the first is APP_DIR if it does \
not start like a URL, or if it is a directory that holds an app.yaml; otherwise APP_DIR is the current directory.

Every option of `run` is accepted too.";

const ALSO_HELP: &str = "Every option of `run` is accepted too.";

const EXPORT_HELP: &str = "\
Prints one Deployment in wrap mode with what stands around it: ServiceAccount, ConfigMap and Secret for env_variables, \
Service, PodDisruptionBudget, and a HorizontalPodAutoscaler unless app.yaml has manual_scaling. Remarks go to stderr. \
The app is expected at /app in IMAGE. Options of `run` given here become the container's, and compat-proxy.yaml in \
APP_DIR counts; variables of this environment do not.

Exit codes: 0 printed, 2 usage, 65 invalid app.yaml, 78 invalid options, or nothing says how to start the app.";

/// Runs App Engine Standard apps anywhere: a reverse proxy that enforces app.yaml and supervises the app.
#[derive(Debug, Parser)]
#[command(name = "compat-proxy", version, after_help = AFTER_HELP, max_term_width = 110)]
#[command(override_usage = "compat-proxy [OPTIONS] [APP_DIR]\n       compat-proxy COMMAND ...")]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// The directory of the app, which holds app.yaml [default: .]
    #[arg(value_name = "APP_DIR")]
    app_dir: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the app behind the proxy; the same as no command
    #[command(after_help = AFTER_HELP)]
    Run {
        /// The directory of the app, which holds app.yaml
        #[arg(value_name = "APP_DIR", default_value = ".")]
        app_dir: PathBuf,
        /// The options of `run`.
        #[command(flatten)]
        options: Options,
    },
    /// Check app.yaml, what it includes, and the options; print every finding
    #[command(
        after_help = "Exit codes: 0 clean or warnings only, 1 errors (with --deny-warnings: warnings too)."
    )]
    Check {
        /// The directory of the app, which holds app.yaml
        #[arg(value_name = "APP_DIR", default_value = ".")]
        app_dir: PathBuf,
        /// How findings are printed
        #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
        format: Format,
        /// Exit 1 for warnings too
        #[arg(long)]
        deny_warnings: bool,
        /// The options of `run`.
        #[command(flatten)]
        options: Options,
    },
    /// Tell what happens to each URL, without starting anything
    #[command(after_help = EXPLAIN_HELP)]
    #[command(override_usage = "compat-proxy explain [OPTIONS] [APP_DIR] URL...")]
    Explain {
        /// The URLs, paths or with scheme and host; before them APP_DIR, if it is not the current directory
        #[arg(value_name = "URL", required = true, num_args = 1..)]
        targets: Vec<String>,
        /// The request method
        #[arg(long, value_name = "METHOD", default_value = "GET")]
        method: String,
        /// The request came over https
        #[arg(long)]
        https: bool,
        /// Print one JSON object per URL
        #[arg(long)]
        json: bool,
        /// The options of `run`.
        #[command(flatten)]
        options: Options,
    },
    /// Print the handlers in the order they are tried, and what each does
    #[command(after_help = ALSO_HELP)]
    Routes {
        /// The directory of the app, which holds app.yaml
        #[arg(value_name = "APP_DIR", default_value = ".")]
        app_dir: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The options of `run`.
        #[command(flatten)]
        options: Options,
    },
    /// Ask the admin port of a running compat-proxy whether it is ready: exit 0 if so, else 1
    #[command(after_help = ALSO_HELP)]
    Healthcheck {
        /// The directory of the app, where compat-proxy.yaml may name the admin port
        #[arg(value_name = "APP_DIR", default_value = ".")]
        app_dir: PathBuf,
        /// The options of `run`.
        #[command(flatten)]
        options: Options,
    },
    /// Print what runs this app elsewhere, made from its app.yaml
    #[command(subcommand)]
    Export(Export),
    /// Copy this program into a directory, for an app whose image does not have it
    Install {
        /// Where it goes; the file is called compat-proxy
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// For what `export` writes.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Export {
    /// Objects for `kubectl apply -f -`
    #[command(after_help = EXPORT_HELP)]
    Kubernetes {
        /// The directory of the app, which holds app.yaml
        #[arg(value_name = "APP_DIR", default_value = ".")]
        app_dir: PathBuf,
        /// The image that has the app in /app, and compat-proxy unless --proxy-image is given
        #[arg(long, value_name = "IMAGE")]
        image: String,
        /// An image of compat-proxy: an init container copies the program from it into the app's container
        #[arg(long, value_name = "IMAGE")]
        proxy_image: Option<String>,
        /// What to call the objects [default: the service of app.yaml, else the directory]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// The options of `run`.
        #[command(flatten)]
        options: Options,
    },
}

/// How `check` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// `file:line:column: error: text`
    Text,
    /// One JSON document
    Json,
}

impl Cli {
    /// Reads a command line, program name first. No command is `run`.
    ///
    /// # Errors
    /// What clap has to say, help and version included; its `exit` ends with the right code (2 for usage).
    pub fn read<I, T>(args: I) -> Result<Command, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let mut cli = Self::from_arg_matches(&whole_command().try_get_matches_from(args)?)?;
        let Some(mut command) = cli.command else {
            return Ok(Command::Run {
                app_dir: cli.app_dir.unwrap_or_else(|| ".".into()),
                options: cli.options,
            });
        };
        if let Some(dir) = cli.app_dir {
            let message = format!("APP_DIR goes after the command; move `{}` there", dir.display());
            return Err(whole_command().error(ErrorKind::ArgumentConflict, message));
        }
        if let Some(options) = command.options_mut() {
            // Options before the command hold unless repeated after it.
            cli.options.overlay(std::mem::take(options));
            *options = cli.options;
        }
        Ok(command)
    }

    /// The usage error for a first word that is neither a command nor a directory.
    #[must_use]
    pub fn unknown_word(word: &Path) -> clap::Error {
        let shown = word.display().to_string();
        let commands = whole_command();
        let near = key::nearest(&shown, commands.get_subcommands().map(clap::Command::get_name));
        let hint = near.map(|name| format!("; did you mean `compat-proxy {name}`?")).unwrap_or_default();
        let message = format!("`{shown}` is neither a command nor a directory{hint}");
        whole_command().error(ErrorKind::InvalidSubcommand, message)
    }

    /// Tells APP_DIR from the URLs of `explain`. `holds_app` says whether a path is a directory with an app.yaml.
    ///
    /// # Errors
    /// A usage error when there is no URL.
    pub fn split_targets(
        targets: &[String],
        holds_app: impl Fn(&Path) -> bool,
    ) -> Result<(PathBuf, Vec<String>), clap::Error> {
        let is_url = |text: &str| ["/", "http://", "https://"].iter().any(|start| text.starts_with(start));
        match targets {
            [only] if !is_url(only) => {
                let message =
                    format!("`{only}` is not a URL: it starts with neither `/` nor `http://` nor `https://`");
                let mut command = whole_command();
                command.build();
                let explain = command.find_subcommand("explain").cloned();
                Err(explain.unwrap_or(command).error(ErrorKind::MissingRequiredArgument, message))
            }
            [first, rest @ ..] if !rest.is_empty() && (!is_url(first) || holds_app(Path::new(first))) => {
                Ok((PathBuf::from(first), rest.to_vec()))
            }
            all => Ok((PathBuf::from("."), all.to_vec())),
        }
    }
}

impl Command {
    /// The options of `run` that were given with this command.
    #[must_use]
    pub const fn options(&self) -> Option<&Options> {
        match self {
            Self::Run { options, .. }
            | Self::Check { options, .. }
            | Self::Explain { options, .. }
            | Self::Routes { options, .. }
            | Self::Healthcheck { options, .. }
            | Self::Export(Export::Kubernetes { options, .. }) => Some(options),
            Self::Install { .. } | Self::Completions { .. } => None,
        }
    }

    const fn options_mut(&mut self) -> Option<&mut Options> {
        match self {
            Self::Run { options, .. }
            | Self::Check { options, .. }
            | Self::Explain { options, .. }
            | Self::Routes { options, .. }
            | Self::Healthcheck { options, .. }
            | Self::Export(Export::Kubernetes { options, .. }) => Some(options),
            Self::Install { .. } | Self::Completions { .. } => None,
        }
    }
}

/// Completions for a shell, as the text of its script.
#[must_use]
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut whole_command(), "compat-proxy", &mut script);
    script
}

/// The derived command, with the options that do not matter to a command left out of its help.
pub(super) fn whole_command() -> clap::Command {
    let only = |names: &'static [&'static str]| {
        move |command: clap::Command| {
            command.mut_args(|arg| {
                let ours = KEYS.iter().any(|key| arg.get_id() == key.name);
                let hidden = ours && !names.iter().any(|name| arg.get_id() == name);
                arg.hide(hidden)
            })
        }
    };
    Cli::command()
        .mut_subcommand("explain", only(&[key::APP_YAML.name]))
        .mut_subcommand("routes", only(&[key::APP_YAML.name]))
        .mut_subcommand("healthcheck", only(&[key::ADMIN.name]))
}

#[cfg(test)]
#[path = "flags_tests.rs"]
mod tests;
