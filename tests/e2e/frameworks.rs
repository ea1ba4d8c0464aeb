//! Real frameworks, each as a small but real app, run by the built-in launcher: Flask and Django on the machine's
//! Python 3 and on Python 2.7, webapp2 on 2.7, CGI scripts on both, with gunicorn and without, not a byte changed.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::client::Response;
use crate::harness::pythons::{self, Python};
use crate::harness::{App, Proxy};

/// Every combination of Python and server there is.
fn everywhere(mut check: impl FnMut(&Python, bool)) {
    for python in pythons::all() {
        for gunicorn in [true, false] {
            println!(
                "on Python {}, {}",
                python.version,
                if gunicorn { "gunicorn" } else { "built-in server" }
            );
            check(python, gunicorn);
        }
    }
}

fn start(fixture: &str, python: &Python, gunicorn: bool) -> Proxy {
    let proxy = App::from(fixture).on(python, gunicorn).workers(1).start();
    let builtin = proxy.output().contains("the built-in server answers");
    assert_eq!(builtin, !gunicorn, "which server\n{}", proxy.output());
    proxy
}

/// What every one of the three shows.
fn pages(proxy: &Proxy, name: &str, python: &Python) {
    let home = proxy.get("/");
    assert_eq!(home.status, 200, "{home}\n{}", proxy.output());
    assert!(home.text().starts_with(&format!("{name} on Python {}.", python.version)), "{home}");
    assert_eq!(proxy.get("/static/style.css").header("content-type"), Some("text/css"));
    assert_eq!(proxy.get("/admin/page").status, 404);

    let head = proxy.request("HEAD", "/", &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0), "{head}");
    assert_eq!(head.header("content-length"), home.header("content-length"), "{head}\n{home}");

    let missing = proxy.get("/no/such/page");
    assert_eq!((missing.status, missing.text().as_str()), (404, "no such page of the app"));
    assert_eq!(proxy.get("/gone").status, 410);

    let path = proxy.get("/caf%C3%A9/%E2%82%AC%20and%20more");
    assert_eq!((path.status, path.text().as_str()), (200, "served € and more"), "{}", proxy.output());

    let cached = proxy.get("/cached");
    assert_eq!((cached.status, cached.header("etag")), (200, Some("\"v1\"")), "{cached}");
    let again = proxy.request("GET", "/cached", &[("If-None-Match", "\"v1\"")], b"");
    assert_eq!((again.status, again.body.len()), (304, 0), "{again}");
}

/// Cookies, as a browser keeps them.
fn cookies(answer: &Response) -> String {
    let all = answer.all("set-cookie").into_iter();
    all.filter_map(|cookie| cookie.split(';').next()).collect::<Vec<_>>().join("; ")
}

fn sessions(proxy: &Proxy) {
    let first = proxy.get("/visits");
    assert_eq!(first.text(), "visit 1");
    let mut jar = cookies(&first);
    for visit in 2..5 {
        let next = proxy.request("GET", "/visits", &[("Cookie", &jar)], b"");
        assert_eq!(next.text(), format!("visit {visit}"), "{next}");
        jar = cookies(&next);
    }
}

fn forms(proxy: &Proxy) {
    let form = proxy.get("/form");
    let mut jar = cookies(&form);
    let text = form.text();
    let token = text.split_once("csrfmiddlewaretoken").and_then(|(_, rest)| rest.split_once("value="));
    let token = token.and_then(|(_, rest)| rest.split(['"', '\'']).nth(1)).unwrap_or_default();
    let body = format!("name=Ad%C3%A9le&message=caf%C3%A9+%26+cake&csrfmiddlewaretoken={token}");
    let kind = ("Content-Type", "application/x-www-form-urlencoded");
    let mut headers = vec![kind];
    if !jar.is_empty() {
        headers.push(("Cookie", &jar));
    }
    let posted = proxy.request("POST", "/form", &headers, body.as_bytes());
    assert_eq!(posted.status, 303, "{posted}\n{}", proxy.output());
    // A relative address on today's frameworks, and one of the site, not of the worker, on old ones.
    let location = posted.header("location").unwrap().to_owned();
    assert!(["/form", "http://localhost/form"].contains(&location.as_str()), "{location}");
    let set = cookies(&posted);
    jar = if jar.is_empty() { set } else { format!("{jar}; {set}") };
    let said = proxy.request("GET", "/form", &[("Cookie", &jar)], b"").text();
    assert!(said.contains("said: ") && said.contains("Adéle says café &"), "{said}");
}

fn upload_of_20_mb(proxy: &Proxy) {
    let file: Vec<u8> =
        (0..20 * 1024 * 1024_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut body = b"--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"big.bin\"\r\n\
                     Content-Type: application/octet-stream\r\n\r\n"
        .to_vec();
    body.extend_from_slice(&file);
    body.extend_from_slice(b"\r\n--edge--\r\n");
    let answer =
        proxy.request("POST", "/upload", &[("Content-Type", "multipart/form-data; boundary=edge")], &body);
    assert_eq!(answer.status, 200, "{answer}\n{}", proxy.output());
    let seen = answer.json();
    assert_eq!((&seen["size"], &seen["name"]), (&json!(file.len()), &json!("big.bin")));
    assert_eq!(seen["sha256"], sha256(proxy, &file), "{seen}");
}

/// By the machine's own Python: no crate for one sum.
fn sha256(proxy: &Proxy, data: &[u8]) -> String {
    let path = proxy.path().join("sum");
    std::fs::write(&path, data).unwrap();
    let script = "import hashlib; print(hashlib.sha256(open('sum', 'rb').read()).hexdigest())";
    let python = crate::harness::fleet::python();
    let output =
        std::process::Command::new(python).args(["-c", script]).current_dir(proxy.path()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn stream(proxy: &Proxy) {
    let mut connection = proxy.connect();
    connection.request("GET", "/stream", &[], b"");
    connection.head().unwrap();
    assert_eq!(connection.chunk().unwrap().as_deref(), Some(b"first\n".as_slice()), "{}", proxy.output());
    // The app holds the rest back until it sees this file: the first piece has not waited for it.
    proxy.open_gate("gate");
    assert_eq!(connection.chunk().unwrap().as_deref(), Some(b"second\n".as_slice()));
    assert_eq!(connection.chunk().unwrap(), None);
}

fn errors(proxy: &Proxy, name: &str) {
    let trace = "0123456789abcdef0123456789abcdef";
    let failed = proxy.request("GET", "/error", &[("X-Cloud-Trace-Context", &format!("{trace}/1"))], b"");
    assert_eq!(failed.status, 500, "{failed}");
    assert!(!failed.text().contains("Traceback"), "{failed}");
    let line = proxy.wait_event("the traceback", |event| {
        let text = event["message"].as_str().unwrap_or_default();
        text.contains(&format!("RuntimeError: the {name} app was asked to fail"))
    });
    assert_eq!((&line["traceId"], &line["severity"]), (&json!(trace), &json!("ERROR")), "{line}");

    assert_eq!(proxy.get("/broken").status, 500);
    assert!(proxy.output().contains("no_such_library"), "the reason is in the log\n{}", proxy.output());
    assert_eq!(proxy.get("/").status, 200, "the others live");
}

/// The environment an old app looks at, and one request's beside another's.
fn environ(proxy: &Proxy) {
    let ask = |proxy: &Proxy, who: &str| -> Value {
        let headers = [
            ("Host", "www.example.com:81"),
            ("X-Who", who),
            ("X-AppEngine-User-Is-Admin", "1"),
            ("X-Compat-Script", "admin.app"),
        ];
        let answer = proxy.request("GET", "/environ", &headers, b"");
        assert_eq!(answer.status, 200, "{answer}\n{}", proxy.output());
        answer.json()
    };
    let seen = ask(proxy, "me");
    assert_eq!(seen["SERVER_NAME"], "www.example.com:81", "{seen}");
    assert_eq!(seen["SERVER_PORT"], "80", "{seen}");
    assert_eq!(seen["REMOTE_ADDR"], "127.0.0.1", "{seen}");
    assert_eq!(seen["USER_IS_ADMIN"], "0", "a client is never admin: {seen}");
    assert_eq!(
        (&seen["CURRENT_MODULE_ID"], &seen["APPENGINE_RUNTIME"]),
        (&json!("default"), &json!("python27"))
    );
    assert_eq!(seen["SECRET_KEY"], "not so secret");
    assert_eq!(seen["HTTP_X_COMPAT_SCRIPT"], Value::Null);
    assert_eq!(seen["url"], "http://www.example.com:81/environ", "the app's own address is the site's");

    let proxy = Arc::new(proxy);
    std::thread::scope(|scope| {
        for client in 0..8 {
            let proxy = Arc::clone(&proxy);
            scope.spawn(move || {
                for number in 0..25 {
                    let who = format!("{client}-{number}");
                    assert_eq!(ask(&proxy, &who)["HTTP_X_WHO"], who);
                }
            });
        }
    });
}

#[test]
fn flask_runs_unchanged_on_every_python_with_gunicorn_and_without() {
    everywhere(|python, gunicorn| {
        let proxy = start("flask", python, gunicorn);
        pages(&proxy, "Flask", python);
        sessions(&proxy);
        forms(&proxy);
        upload_of_20_mb(&proxy);
        stream(&proxy);
        errors(&proxy, "flask");
        environ(&proxy);
        assert_eq!(proxy.get("/shop/hat").text(), "one hat");
        // Asked once, past the login rule, as App Engine asked, and by its own address.
        assert_eq!(proxy.get("/shop/warm").json(), json!([["0.1.0.3", "0.1.0.3", false]]));
        assert_eq!(proxy.get("/_ah/warmup").status, 404);
        assert_eq!(proxy.terminate().0, Some(0));
    });
}

#[test]
fn django_runs_unchanged_on_every_python_with_gunicorn_and_without() {
    everywhere(|python, gunicorn| {
        let proxy = start("django", python, gunicorn);
        pages(&proxy, "Django", python);
        sessions(&proxy);
        forms(&proxy);
        upload_of_20_mb(&proxy);
        stream(&proxy);
        errors(&proxy, "django");
        environ(&proxy);
        assert_eq!(proxy.terminate().0, Some(0));
    });
}

#[test]
fn webapp2_runs_unchanged_on_python_2_7_with_gunicorn_and_without() {
    let Some(python) = pythons::old() else { return };
    for gunicorn in [true, false] {
        let proxy = start("webapp2", python, gunicorn);
        pages(&proxy, "webapp2", python);
        sessions(&proxy);
        forms(&proxy);
        upload_of_20_mb(&proxy);
        errors(&proxy, "webapp2");
        environ(&proxy);
        let greeting = proxy.get("/guestbook?who=Ada");
        assert_eq!(greeting.text(), "Good day, Ada", "a package, and a library of lib/");
        assert_eq!(greeting.header("x-middleware"), Some("appengine_config"));
        assert_eq!(proxy.get("/guestbook/ended").text(), "ended", "request-end callbacks run");
        assert_eq!(proxy.terminate().0, Some(0));
    }
}

#[test]
fn cgi_scripts_run_for_each_request_or_hand_over_an_application_that_stays() {
    everywhere(|python, gunicorn| {
        let proxy = start("cgi", python, gunicorn);
        let kind = [("Content-Type", "text/plain")];
        let printed = proxy.request("POST", "/print/it?a=b", &kind, b"a body");
        let expected = "POST /print/it a=b [a body] as __main__\n";
        assert_eq!((printed.status, printed.text().as_str()), (201, expected), "{}", proxy.output());
        for _ in 0..3 {
            assert_eq!(proxy.get("/jobs/count").text(), "run 1\n", "a fresh module each time");
        }
        for number in 1..4 {
            let text = format!("request {number} of this process: /page");
            assert_eq!(proxy.get("/page").text(), text, "captured once\n{}", proxy.output());
        }
        assert_eq!(proxy.get("/missing").status, 500, "a script that is not there");
        assert_eq!(proxy.get("/page").status, 200);
        assert_eq!(proxy.terminate().0, Some(0));
    });
}
