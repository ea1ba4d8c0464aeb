//! Whole files through `load`: what comes out, what is told, and that nothing panics.

use std::io;
use std::path::Path;

use proptest::prelude::*;

use super::*;

/// The app that these files make; `app.yaml` is one of them.
fn load_files(files: &[(&str, &str)]) -> Loaded {
    load(Path::new("app.yaml"), &mut |path| {
        let file = files.iter().find(|(name, _)| Path::new(name) == path);
        file.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into())
    })
}

#[track_caller]
fn app(files: &[(&str, &str)]) -> App {
    let loaded = load_files(files);
    let told: Vec<String> = loaded.problems.iter().map(|problem| render(problem, &[], false)).collect();
    loaded.app.unwrap_or_else(|| panic!("{told:#?}"))
}

/// Everything told about `handlers:` of a python27 app.
fn told(handlers: &str) -> Vec<String> {
    let text = format!("runtime: python27\nhandlers:\n{handlers}");
    load_files(&[("app.yaml", &text)]).problems.iter().map(|problem| render(problem, &[], false)).collect()
}

fn places(app: &App) -> Vec<String> {
    app.handlers.iter().map(|handler| format!("{} {}", handler.url.as_str(), handler.place.file)).collect()
}

#[test]
fn the_smallest_app_has_the_defaults() {
    let app = app(&[("app.yaml", "runtime: python27\n")]);
    assert_eq!((app.runtime.as_str(), app.era, app.service.as_str()), ("python27", Era::Classic, "default"));
    assert!(app.handlers.is_empty() && app.version.is_none() && !app.warmup && !app.vm);
    assert_eq!(app.skip_files.as_str(), skip::DEFAULT);
    assert_eq!(app.sources, [Path::new("app.yaml")]);
}

#[test]
fn every_acting_field_is_read() {
    let app = app(&[(
        "app.yaml",
        "runtime: python312\nservice: api\nversion: v1\nproject: shop\nentrypoint: gunicorn main:app\nthreadsafe: no\n\
         default_expiration: 1h\ninbound_services: [warmup, mail]\nenv_variables:\n  ZIP: 01234\n  NAME: \"010\"\n\
         automatic_scaling:\n  max_concurrent_requests: 50\n  max_pending_latency: 1.5s\n\
         error_handlers:\n- file: a.html\n- error_code: timeout\n  file: b.txt\n  mime_type: text/plain\n\
         handlers:\n- url: /s\n  static_dir: ./s/\n- url: /f/(.*)\n  static_files: f/\\1\n  upload: ./f/.*\n  expiration: 1d\n  \
         http_headers:\n    X-A: yes\n    X-B:\n  secure: always\n  redirect_http_response_code: 301\n",
    )]);
    assert_eq!((app.era, app.service.as_str(), app.version.as_deref()), (Era::Modern, "api", Some("v1")));
    assert_eq!(
        (app.application.as_deref(), app.entrypoint.as_deref()),
        (Some("shop"), Some("gunicorn main:app"))
    );
    assert_eq!((app.threadsafe, app.warmup), (Some(false), true));
    assert_eq!(app.max_concurrent_requests, NonZeroU32::new(50));
    assert_eq!(app.max_pending_latency, Some(Duration::from_millis(1500)));
    assert_eq!((app.env_variables["ZIP"].as_str(), app.env_variables["NAME"].as_str()), ("668", "010"));
    assert_eq!(
        app.error_handlers.iter().map(|page| page.code).collect::<Vec<_>>(),
        [ErrorCode::Default, ErrorCode::Timeout]
    );
    let Target::StaticDir { dir, reachable: true, options } = &app.handlers[0].target else {
        panic!("a directory")
    };
    assert_eq!((dir.as_str(), options.expiration), ("s", Duration::from_secs(3600)));
    let Target::StaticFiles { path, upload: Some(upload), options } = &app.handlers[1].target else {
        panic!("files")
    };
    assert_eq!((path.as_str(), upload.as_str(), options.expiration.as_secs()), ("f/\\1", "f/.*", 86_400));
    assert_eq!(options.http_headers, [("X-A".to_owned(), "True".to_owned())]);
    assert_eq!((app.handlers[1].secure, app.handlers[1].redirect_code), (Secure::Always, 301));
}

#[test]
fn included_handlers_go_in_front_and_tails_behind() {
    let app = app(&[
        (
            "app.yaml",
            "runtime: python27\nbuiltins:\n- deferred: on\n- django_wsgi: on\nincludes:\n- lib\nhandlers:\n- url: /own\n  script: a.b\n",
        ),
        (
            "lib/include.yaml",
            "includes:\n- more.yaml\nhandlers:\n- url: /head\n  script: a.b\n- url: /tail\n  script: a.b\n  position: tail\n",
        ),
        (
            "lib/more.yaml",
            "includes:\n- include.yaml\nbuiltins:\n- appstats: on\nhandlers:\n- url: /more\n  script: a.b\n  position: head\n",
        ),
    ]);
    let expected = [
        "/_ah/queue/deferred builtin:deferred",
        "/head lib/include.yaml",
        "/more lib/more.yaml",
        "/_ah/stats.* builtin:appstats",
        "/own app.yaml",
        "/.* builtin:django_wsgi",
        "/tail lib/include.yaml",
    ];
    assert_eq!(places(&app), expected);
    assert_eq!(app.sources, ["app.yaml", "lib/include.yaml", "lib/more.yaml"].map(PathBuf::from));
}

#[test]
fn includes_merge_variables_skip_files_and_scaling() {
    let app = app(&[
        (
            "app.yaml",
            "runtime: python27\nincludes: [a.yaml, b.yaml]\nenv_variables: {A: app, B: app}\nmanual_scaling: {instances: 2}\n",
        ),
        ("a.yaml", "env_variables: {B: a, C: a}\nskip_files: ^a$\nmanual_scaling: {instances: 5}\n"),
        ("b.yaml", "env_variables: {C: b}\nskip_files: [^b$, ^c$]\n"),
    ]);
    let texts: Vec<&str> = app.env_variables.values().map(String::as_str).collect();
    assert_eq!(texts, ["app", "a", "b"]);
    assert_eq!(app.skip_files.as_str(), format!("{}|^a$|^b$|^c$", skip::DEFAULT));
    assert_eq!(app.manual_instances, NonZeroU32::new(5));
}

#[test]
fn a_builtin_switched_off_stays_off() {
    let app = app(&[
        ("app.yaml", "runtime: python27\nbuiltins:\n- appstats: off\nincludes: [a.yaml]\n"),
        ("a.yaml", "builtins:\n- appstats: on\n- remote_api: on\n"),
    ]);
    assert_eq!(places(&app), ["/_ah/remote_api(/.*)? builtin:remote_api"]);
}

#[test]
fn no_include_leaves_the_application() {
    let mut asked = Vec::new();
    let text = "runtime: python27\nincludes: [../a.yaml, /etc/passwd, lib/../../b.yaml, lib/../c.yaml]\n";
    let loaded = load(Path::new("app.yaml"), &mut |path| {
        asked.push(path.to_owned());
        if path == Path::new("app.yaml") { Ok(text.into()) } else { Err(io::ErrorKind::NotFound.into()) }
    });
    assert!(loaded.app.is_none());
    asked.sort();
    asked.dedup();
    assert_eq!(asked, ["app.yaml", "c.yaml", "c.yaml/include.yaml"].map(PathBuf::from));
}

#[test]
fn a_hundred_handlers_are_the_limit_with_those_of_includes() {
    let handler = |count: usize| {
        (0..count).map(|number| format!("- url: /{number}\n  script: a.b\n")).collect::<String>()
    };
    let own = format!("runtime: python27\nincludes: [a.yaml]\nhandlers:\n{}", handler(99));
    let one = format!("handlers:\n{}", handler(1));
    let two = format!("handlers:\n{}", handler(2));
    assert!(load_files(&[("app.yaml", &own), ("a.yaml", &one)]).app.is_some());
    assert!(load_files(&[("app.yaml", &own), ("a.yaml", &two)]).app.is_none());
}

#[test]
fn a_login_handler_is_told_to_be_404() {
    assert_eq!(
        told("- url: /admin/.*\n  script: a.b\n  login: admin\n"),
        [
            "app.yaml:5:10: warning: `/admin/.*` with `login: admin` is always answered 404: there are no accounts here"
        ]
    );
}

#[test]
fn a_url_that_only_its_last_slash_completes_is_none_for_a_directory() {
    assert_eq!(
        told("- url: /a\\/\n  static_dir: a\n"),
        [
            "app.yaml:3:8: error: `/a\\/` is not the url of a directory: bad escape (end of pattern) at position 2 \
             (end it in plain text: the slash before the rest of the path is added)"
        ]
    );
    assert_eq!(told("- url: /a\\/\n  script: a.b\n"), Vec::<String>::new());
}

#[test]
fn what_works_otherwise_is_told() {
    for (handler, expected) in [
        ("- url: /a/(?!b).*\n  script: a.b\n", "`/a/(?!b).*` needs backtracking"),
        ("- url: /form\n  script: a.b\n", "`/form` is reserved on App Engine"),
        ("- url: /*\n  script: a.b\n", "`/*` matches only more slashes"),
        ("- url: /a\n  static_dir: ../up\n", "`../up` is outside the application"),
        ("- url: /a\n  static_dir: /abs\n", "`/abs` is outside the application"),
        ("- url: /a/(.*)\n  static_files: a/\\2\n  upload: a/.*\n", "`a/\\2` does not fit the url"),
        (
            "- url: /(a)/(.*)\n  static_files: \\1/\\2\n  upload: \\1/.*\n",
            "`\\1/.*` is not a regular expression and is ignored",
        ),
        (
            "- url: /a\n  static_dir: a\n  require_matching_file: \"false\"\n",
            "`false` is in quotes: read as false here",
        ),
        (
            "- url: /a\n  script: a.b\n  redirect_http_response_code: 301\n",
            "`redirect_http_response_code` has no effect",
        ),
    ] {
        let told = told(handler);
        assert!(
            told.iter().any(|text| text.contains(": warning: ") && text.contains(expected)),
            "{handler}: {told:?}"
        );
        assert!(!told.iter().any(|text| text.contains("error")), "{told:?}");
    }
}

#[test]
fn skip_files_that_match_everything_are_told() {
    let loaded = load_files(&[("app.yaml", "runtime: python27\nskip_files:\n- ^a$\n- b|\n")]);
    assert_eq!(loaded.problems.len(), 1);
    assert_eq!((loaded.problems[0].severity, loaded.problems[0].place.line), (Severity::Warning, 4));
}

#[test]
fn cgi_scripts_and_threadsafe_do_not_go_together() {
    let with = |more: &str, include: &str| {
        let text = format!("runtime: python27\n{more}includes: [a.yaml]\n");
        load_files(&[("app.yaml", &text), ("a.yaml", include)]).app.is_some()
    };
    let cgi = "handlers:\n- url: /a\n  script: a.py\n";
    assert!(!with(cgi, "vm: false\n"), "unset counts as threadsafe");
    assert!(with("", cgi), "unset does not, for a handler of an include");
    assert!(!with("threadsafe: true\n", cgi));
    assert!(with(&format!("threadsafe: false\n{cgi}"), cgi));
    assert!(with(&format!("automatic_scaling: {{max_concurrent_requests: 1}}\n{cgi}"), cgi));
    assert!(!with("automatic_scaling: {max_concurrent_requests: 2}\n", cgi));
}

#[test]
fn an_app_in_a_virtual_machine_is_classic_and_gets_a_handler() {
    let app = app(&[("app.yaml", "runtime: python39\nvm: true\n")]);
    assert_eq!((app.era, app.vm, app.vm_runtime.as_deref()), (Era::Classic, true, Some("python39")));
    assert_eq!(app.handlers[0].url.as_str(), ".*");
}

#[test]
fn a_finding_shows_its_line_and_a_caret() {
    let loaded = load_files(&[("app.yaml", "runtime: python27\nhandlers:\n- url: x\n  script: a\u{e9}\n")]);
    let text = render(&loaded.problems[0], &loaded.texts, true);
    let expected = "app.yaml:3:8: error: `x` cannot be the value of `url`\n   |\n 3 | - url: x\n   |        ^\n  \
                    hint: start it with `/`, `.` or `(`, and do not end a `(…)$` with `$`";
    assert_eq!(text, expected);
}

#[test]
fn long_lines_are_cut_around_the_caret_and_escapes_are_not_passed_on() {
    let text = format!("runtime: python27\nhandlers:\n- {{script: {}, url: \"\\e[1m\"}}\n", "x".repeat(300));
    let loaded = load_files(&[("app.yaml", &text)]);
    let shown = render(&loaded.problems[0], &loaded.texts, true);
    assert!(shown.lines().all(|line| line.chars().count() < 140) && !shown.contains('\u{1b}'), "{shown}");
}

proptest! {
    #[test]
    fn any_bytes_are_an_app_or_errors_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        never_both(&bytes)?;
    }

    #[test]
    fn any_text_around_an_app_is_an_app_or_errors(
        before in "(runtime: python27\n)?(builtins: \\[\\{deferred: on\\}\\]\n)?(includes: \\[a.yaml, b\\]\n)?",
        url in "\\PC{0,12}", key in "(script|static_dir|login|secure|expiration|http_headers|upload|position)",
        value in "\\PC{0,12}", after in "\\PC{0,12}\n",
    ) {
        never_both(format!("{before}handlers:\n- url: {url}\n  {key}: {value}\n  script: a.b\n{after}").as_bytes())?;
    }
}

fn never_both(bytes: &[u8]) -> Result<(), TestCaseError> {
    let loaded = load(Path::new("app.yaml"), &mut |_| Ok(bytes.to_vec()));
    let wrong = loaded.problems.iter().any(|problem| problem.severity == Severity::Error);
    prop_assert_eq!(loaded.app.is_none(), wrong);
    for problem in &loaded.problems {
        let text = render(problem, &loaded.texts, true);
        let escapes = text.contains('\u{1b}');
        prop_assert!(!escapes);
    }
    Ok(())
}
