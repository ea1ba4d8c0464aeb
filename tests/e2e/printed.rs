//! What workers print, from outside: tracebacks in one piece, the request a line belongs to where that is certain, and
//! no secrets.

use std::time::Duration;

use serde_json::Value;

use crate::harness::client::Response;
use crate::harness::fleet::script;
use crate::harness::{App, Proxy, wait_for};

const TRACEBACK: &str = "ERROR:app:it failed
Traceback (most recent call last):
  File \"main.py\", line 3, in get
    fail()
KeyError: 'a'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File \"main.py\", line 5, in get
    raise ValueError(1)
ValueError: 1";

/// The fixture `talker` with one worker.
fn talker() -> App {
    App::from("talker").arg("--upstream-cmd").arg(script("server.py unix:{socket}")).args(["--workers", "1"])
}

/// Entries of workers, in the order they came out of one stream.
fn entries(lines: Vec<String>) -> Vec<Value> {
    let parsed = lines.into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    parsed.filter(|line| line.get("compat_proxy").is_some()).collect()
}

fn text(entry: &Value) -> &str {
    entry["msg"].as_str().or_else(|| entry["message"].as_str()).unwrap_or_default()
}

/// Waits for the entry of a worker with this text.
#[track_caller]
fn entry(proxy: &Proxy, wanted: &str) -> Value {
    let all = || entries([proxy.stdout_lines(), proxy.stderr_lines()].concat());
    let find = || all().into_iter().find(|entry| text(entry) == wanted);
    wait_for(&format!("`{wanted}` was printed"), || find().is_some(), || proxy.output());
    find().expect("just found")
}

/// The id the app was given.
fn id_of(answer: &Response) -> String {
    answer.json()["x-appengine-request-log-id"].as_str().expect("an id").to_owned()
}

mod tracebacks {
    use super::*;

    #[test]
    fn are_one_entry_of_level_error_however_they_are_written() {
        let proxy = talker().start();
        let body = format!("before\n{TRACEBACK}\nafter\n");
        proxy.request("POST", "/raw/stderr", &[], body.as_bytes());
        let found = entry(&proxy, TRACEBACK);
        assert_eq!((&found["level"], &found["compat_proxy"]["stream"]), (&"error".into(), &"stderr".into()));
        for around in ["before", "after"] {
            assert_eq!(entry(&proxy, around)["level"], "info");
        }
        // A few bytes at a time: what a busy machine makes of it may be several entries, but nothing is lost.
        proxy.request("POST", "/raw/stdout?slow", &[], body.as_bytes());
        let all = || {
            let all = entries(proxy.stdout_lines());
            all.iter().map(|entry| text(entry).to_owned()).collect::<Vec<_>>().join("\n")
        };
        wait_for("all of it came out", || all() + "\n" == body, || proxy.output());
    }

    #[test]
    fn are_one_entry_for_cloud_logging() {
        let proxy = talker().args(["--log-format", "gcp"]);
        let proxy = proxy.env("GOOGLE_CLOUD_PROJECT", "shop");
        // The harness reads addresses from JSON, which gcp is too, under other names.
        let done = proxy.file("last-words", format!("{TRACEBACK}\n")).run(&[
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ]);
        let done = done.expect_code(69);
        let all = entries(done.stderr.lines().map(str::to_owned).collect());
        assert!(!all.is_empty(), "{done:#?}");
        for entry in all {
            assert_eq!((&entry["severity"], &entry["message"]), (&"ERROR".into(), &TRACEBACK.into()));
        }
    }

    #[test]
    fn come_out_whole_when_the_worker_dies_of_them() {
        let proxy = talker().start();
        let answer = proxy.request("POST", "/die", &[], TRACEBACK.as_bytes());
        assert_eq!(answer.status, 502);
        assert_eq!(entry(&proxy, TRACEBACK)["level"], "error");
    }

    #[test]
    fn of_two_workers_are_not_mixed_in_text() {
        let app = App::from("talker").file("last-words", format!("{TRACEBACK}\n"));
        let app = app.arg("--upstream-cmd").arg(script("server.py unix:{socket}"));
        let app = app.args(["--log-format", "text", "--workers", "3"]);
        let done = app.run(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).expect_code(69);
        let lines: Vec<&str> = done.stderr.lines().filter(|line| line.starts_with("[worker ")).collect();
        let length = TRACEBACK.lines().count();
        assert!(lines.len() >= 3 * length && lines.len().is_multiple_of(length), "{done:#?}");
        for chunk in lines.chunks(length) {
            let tag = chunk[0].split_once("] ").expect("a tag").0;
            let texts: Vec<&str> =
                chunk.iter().map(|line| line.strip_prefix(tag).expect("the same worker")).collect();
            let expected: Vec<String> = TRACEBACK.lines().map(|line| format!("] {line}")).collect();
            assert_eq!(texts, expected);
        }
    }
}

mod requests {
    use super::*;

    /// A worker that has just answered may have more to say.
    fn leave_alone() {
        std::thread::sleep(Duration::from_millis(15));
    }

    /// The id in the tag of an entry.
    fn told(entry: &Value) -> Option<&str> {
        entry["compat_proxy"]["request_id"].as_str()
    }

    #[test]
    fn a_line_printed_for_a_request_that_is_alone_has_its_id_and_trace() {
        let proxy = talker().start();
        let trace = "0af7651916cd43dd8448eb211c80319c";
        for (path, word) in [("/say/hello", "hello"), ("/err/oops", "oops")] {
            leave_alone();
            let parent = format!("00-{trace}-b7ad6b7169203331-01");
            let answer = proxy.request("GET", path, &[("traceparent", &parent)], b"");
            let entry = entry(&proxy, word);
            assert_eq!(told(&entry), Some(id_of(&answer).as_str()), "{entry}\n{}", proxy.output());
            assert_eq!(entry["compat_proxy"]["trace_id"], trace);
            let access = proxy.wait_access(path, |line| line["path"] == path);
            assert_eq!(access["request_id"], entry["compat_proxy"]["request_id"]);
        }
        // A traceback is all of one request, too.
        leave_alone();
        let answer = proxy.request("POST", "/raw/stderr", &[], format!("{TRACEBACK}\n").as_bytes());
        assert_eq!(told(&entry(&proxy, TRACEBACK)), Some(id_of(&answer).as_str()));
    }

    #[test]
    fn a_line_printed_while_two_are_there_has_none() {
        let proxy = talker().start();
        let first = proxy.send("GET", "/wait/one/first", b"");
        proxy.wait_in_flight(1);
        let second = proxy.send("GET", "/wait/two/second", b"");
        proxy.wait_in_flight(2);
        proxy.open_gate("one");
        first.answer();
        assert_eq!(told(&entry(&proxy, "first")), None, "{}", proxy.output());
        // The other one is alone now, and was not all the time.
        proxy.wait_in_flight(1);
        proxy.open_gate("two");
        second.answer();
        assert_eq!(told(&entry(&proxy, "second")), None, "{}", proxy.output());
    }

    #[test]
    fn a_line_printed_after_the_answer_has_none() {
        let proxy = talker().start();
        proxy.get("/late/gate/late");
        proxy.wait_in_flight(0);
        proxy.open_gate("gate");
        assert_eq!(told(&entry(&proxy, "late")), None, "{}", proxy.output());
    }

    /// So many clients ask again and again, each request printing one line before its answer and one after it. Fails if a
    /// line printed before an answer is told to be another's; how many were told of at all.
    ///
    /// A line printed after the answer is left aside: on a machine so busy that it comes ten milliseconds late it may be
    /// the next one's by all that can be seen.
    fn around(clients: usize, times: usize, pause: Duration) -> usize {
        let proxy = talker().start();
        let ids: Vec<String> = std::thread::scope(|scope| {
            let client = |client: usize| {
                let proxy = &proxy;
                scope.spawn(move || {
                    let mut connection = proxy.connect();
                    let mut ids = Vec::new();
                    for number in client * times..(client + 1) * times {
                        connection.request("GET", &format!("/around/{number}"), &[], b"");
                        ids.push(id_of(&connection.response_to("GET").expect("an answer")));
                        std::thread::sleep(pause);
                    }
                    ids
                })
            };
            let running: Vec<_> = (0..clients).map(client).collect();
            running.into_iter().flat_map(|client| client.join().expect("no panic")).collect()
        });
        let lines = || entries(proxy.stdout_lines());
        wait_for("all is printed", || lines().len() == 2 * clients * times, || proxy.output());
        let told = lines().into_iter().filter_map(|entry| {
            let number: usize = text(&entry).strip_prefix("during ")?.parse().ok()?;
            let id = told(&entry)?;
            assert_eq!(id, ids[number], "{entry}");
            Some(())
        });
        told.count()
    }

    #[test]
    fn a_line_of_one_after_another_is_never_told_to_be_anothers() {
        let told = around(1, 100, Duration::from_millis(15));
        println!("{told} of 100 lines were told of");
        assert!(told > 0, "none was certain");
        around(1, 300, Duration::ZERO);
    }

    #[test]
    fn a_line_of_one_of_many_is_never_told_to_be_anothers() {
        let told = around(3, 100, Duration::from_millis(11));
        println!("{told} of 300 lines were told of");
    }
}

mod secrets {
    use super::*;

    #[test]
    fn of_env_variables_are_not_printed() {
        let proxy = talker().start();
        proxy.get("/secret");
        assert_eq!(entry(&proxy, "it is [redacted] in production")["level"], "info");
        assert_eq!(entry(&proxy, "it is [redacted]")["severity"], "NOTICE");
        let other = std::fs::read_to_string(proxy.path().join("app.yaml")).expect("it is there");
        proxy.write("app.yaml", other.replace("hunter2-hunter2", "correct-horse"));
        proxy.hang_up();
        proxy.wait_event("it is reloaded", |event| {
            event["msg"] == "configuration reloaded" && event["cause"] == "SIGHUP"
        });
        let before = proxy.stdout_lines().len();
        proxy.get("/secret");
        wait_for(
            "the new one is printed",
            || proxy.stdout_lines()[before..].iter().any(|line| line.contains("[redacted] in production")),
            || proxy.output(),
        );
        let output = proxy.output();
        assert!(!output.contains("hunter2") && !output.contains("correct-horse"), "{output}");
    }

    #[test]
    fn of_the_command_are_not_shown_at_the_start() {
        let app = App::from("talker").args(["--workers", "1"]);
        let command = script("server.py unix:{socket} --api-token=hunter2 --password hunter3");
        let proxy = app.arg("--upstream-cmd").arg(command).start();
        let event = proxy.wait_event("it starts", |event| event["msg"] == "starting");
        assert!(event["app"].as_str().expect("a command").contains("--api-token=[redacted]"), "{event}");
        let output = proxy.output();
        assert!(!output.contains("hunter2") && !output.contains("hunter3"), "{output}");
    }
}
