//! The commands: the only place that talks to a person. Each asks the rooms below and prints.

use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::appyaml::{self, Problem, Severity};
use crate::explain;
use crate::export::{self, ExportError};
use crate::plan;
use crate::run;
use crate::settings::{self, Cli, Command, Export, Format, Options, Resolved, Settings};
use crate::site::{self, LoadError, Reading};
use crate::worker::guard;

/// How long `healthcheck` waits for each step.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the command line.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if args.get(1).is_some_and(|word| word == guard::WORD) {
        return guard::main();
    }
    let command = match Cli::read(args) {
        Ok(command) => command,
        Err(error) => error.exit(),
    };
    ExitCode::from(match command {
        Command::Run { app_dir, options } => {
            if !app_dir.exists() {
                Cli::unknown_word(&app_dir).exit();
            }
            serve(&app_dir, &options)
        }
        Command::Check { app_dir, format, deny_warnings, options } => {
            check(&app_dir, format, deny_warnings, &options)
        }
        Command::Explain { targets, method, https, json, options } => {
            let holds_app = |path: &Path| path.is_dir() && path.join("app.yaml").exists();
            match Cli::split_targets(&targets, holds_app) {
                Ok((app_dir, urls)) => with_app(&app_dir, &options, |reading| {
                    explain::urls(reading, &app_dir, &urls, &method, https, json)
                }),
                Err(error) => error.exit(),
            }
        }
        Command::Routes { app_dir, json, options } => {
            with_app(&app_dir, &options, |reading| Ok(explain::routes(reading, json)))
        }
        Command::Healthcheck { app_dir, options } => healthcheck(&app_dir, &options),
        Command::Export(what) => export(&what),
        Command::Install { dir } => install(&dir),
        Command::Completions { shell } => {
            print(&String::from_utf8_lossy(&settings::completions(shell)));
            0
        }
    })
}

fn serve(app_dir: &Path, options: &Options) -> u8 {
    run::serve(app_dir, options, std::io::stdout().is_terminal()).unwrap_or_else(|error| {
        complain(&error.to_string());
        error.exit_code()
    })
}

/// Reads and compiles the app, then prints what `show` makes of it.
fn with_app(app_dir: &Path, options: &Options, show: impl FnOnce(&Reading) -> Result<String, String>) -> u8 {
    if let Err(error) = plan::app_dir(app_dir) {
        complain(&unopened(app_dir, error));
        return 65;
    }
    let settings = match Settings::load(options, app_dir, false) {
        Ok(settings) => settings,
        Err(errors) => {
            complain(&errors.to_string());
            return 78;
        }
    };
    let reading = site::read(app_dir, &settings.app_yaml.value);
    if reading.map.is_none() {
        complain(&reading.rendered(Severity::Error));
        return 65;
    }
    match show(&reading) {
        Ok(text) => {
            print(&text);
            0
        }
        Err(error) => {
            complain(&error);
            2
        }
    }
}

/// Prints what runs the app elsewhere; remarks and refusals go to stderr.
fn export(what: &Export) -> u8 {
    let Export::Kubernetes { app_dir, image, proxy_image, name, options } = what;
    let root = match plan::app_dir(app_dir) {
        Ok(root) => root,
        Err(error) => {
            complain(&unopened(app_dir, error));
            return 65;
        }
    };
    let settings = match Settings::load_for_elsewhere(options, app_dir) {
        Ok(settings) => settings,
        Err(errors) => {
            complain(&errors.to_string());
            return 78;
        }
    };
    let reading = site::read(app_dir, &settings.app_yaml.value);
    let Some(app) = &reading.app else {
        complain(&reading.rendered(Severity::Error));
        return 65;
    };
    let only_files = match plan::only_files(&settings, app, &root) {
        Ok(only_files) => only_files,
        Err(error) => {
            complain(&error.to_string());
            return 78;
        }
    };
    let (settings, app_dir) = (&settings, root.as_path());
    let (proxy_image, name) = (proxy_image.as_deref(), name.as_deref());
    let request = export::Request { app, settings, options, app_dir, only_files, image, proxy_image, name };
    match export::kubernetes(&request) {
        Ok(exported) => {
            exported.remarks.iter().for_each(|remark| complain(remark));
            print(&exported.yaml);
            0
        }
        Err(error) => {
            complain(&error.to_string());
            match error {
                ExportError::Name(_) | ExportError::Image { .. } => 2,
                ExportError::Attached => 78,
                ExportError::Yaml(_) => 1,
            }
        }
    }
}

/// Puts this program into a directory, whole or not at all.
fn install(dir: &Path) -> u8 {
    let copy = || {
        let new = tempfile::Builder::new().prefix(".compat-proxy").tempfile_in(dir)?;
        // With its mode: whoever runs it may be another user than the one who copies.
        std::fs::copy(std::env::current_exe()?, new.path())?;
        new.persist(dir.join("compat-proxy")).map_err(|error| error.error)
    };
    match copy() {
        Ok(_) => 0,
        Err(error) => {
            complain(&format!("cannot copy this program into `{}`: {error}", dir.display()));
            71
        }
    }
}

/// The directory is wrong, not what is in it.
fn unopened(app_dir: &Path, source: std::io::Error) -> String {
    LoadError::Root { path: app_dir.to_owned(), source }.to_string()
}

fn check(app_dir: &Path, format: Format, deny_warnings: bool, options: &Options) -> u8 {
    if let Err(error) = plan::app_dir(app_dir) {
        complain(&unopened(app_dir, error));
        return 1;
    }
    let loaded = Settings::load(options, app_dir, false);
    let default = Settings::defaults(1);
    let app_yaml = &loaded.as_ref().unwrap_or(&default).app_yaml.value;
    let mut reading = site::read(app_dir, app_yaml);
    if let (Some(app), Ok(settings)) = (&reading.app, &loaded) {
        let mut more = site::cautions(app, settings);
        if let Some(place) = plan::place_of_runtime(&reading.texts) {
            more.extend(plan::survey(settings, app, app_dir, &place));
        }
        reading.problems.extend(more);
    }
    let faults = loaded.as_ref().err().map(|errors| errors.0.as_slice()).unwrap_or_default();
    match format {
        Format::Text => {
            let source = std::io::stdout().is_terminal();
            for problem in &reading.problems {
                print(&(appyaml::render(problem, &reading.texts, source) + "\n"));
            }
            for fault in faults {
                print(&match fault.place() {
                    Some(_) => format!("{fault}\n"),
                    None => format!("options: error: {fault}\n"),
                });
            }
            print(&summary(&reading, faults.len()));
        }
        Format::Json => print(&findings_json(&reading, faults)),
    }
    let failed = reading.has(Severity::Error) || !faults.is_empty();
    u8::from(failed || (deny_warnings && reading.has(Severity::Warning)))
}

fn summary(reading: &Reading, faults: usize) -> String {
    let count = |severity| reading.problems.iter().filter(|problem| problem.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error) + faults, count(Severity::Warning));
    let plural = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    match (errors, &reading.app) {
        (0, Some(app)) => {
            format!("ok: {}, {}\n", plural(app.handlers.len(), "handler"), plural(warnings, "warning"))
        }
        _ => format!("{}, {}\n", plural(errors, "error"), plural(warnings, "warning")),
    }
}

fn findings_json(reading: &Reading, faults: &[settings::SettingsError]) -> String {
    let one = |problem: &Problem| {
        json!({
            "file": &*problem.place.file, "line": problem.place.line, "column": problem.place.column,
            "severity": problem.severity.as_str(), "message": problem.message, "hint": problem.hint,
        })
    };
    let mut findings: Vec<Value> = reading.problems.iter().map(one).collect();
    findings.extend(faults.iter().map(|fault| {
        let place = fault.place();
        json!({
            "file": place.map(|place| place.path.to_string()), "line": place.map(|place| place.line),
            "column": place.map(|place| place.column), "severity": "error", "message": fault.to_string(), "hint": null,
        })
    }));
    let ok = !findings.iter().any(|finding| finding["severity"] == "error");
    format!("{:#}\n", json!({ "ok": ok, "findings": findings }))
}

fn healthcheck(app_dir: &Path, options: &Options) -> u8 {
    let address = Settings::load(options, app_dir, false).and_then(|settings| settings.resolved_admin());
    let address = match address {
        Ok(address) => address.reachable(),
        Err(errors) => {
            complain(&errors.to_string());
            return 78;
        }
    };
    let answer = match &address {
        Resolved::Tcp(address) => TcpStream::connect_timeout(address, HEALTH_TIMEOUT).and_then(|stream| {
            stream.set_read_timeout(Some(HEALTH_TIMEOUT))?;
            ask(stream)
        }),
        Resolved::Unix(path) => UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(HEALTH_TIMEOUT))?;
            ask(stream)
        }),
    };
    match answer {
        Ok(text) if text.starts_with("HTTP/1.1 200") => 0,
        Ok(text) => {
            let body = text.split("\r\n\r\n").nth(1).unwrap_or_default().trim().replace('\n', ", ");
            complain(&format!("not ready: {body}"));
            1
        }
        Err(error) => {
            complain(&format!(
                "no answer from the admin listener: {error}; is compat-proxy running, with the same --admin?"
            ));
            1
        }
    }
}

fn ask(mut stream: impl Read + Write) -> std::io::Result<String> {
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = Vec::new();
    stream.take(64 * 1024).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A reader that went away (`| head`) is no fault of the command.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "compat-proxy: {text}");
}
