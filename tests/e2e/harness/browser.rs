//! A real browser: Debian's `chromium`, headless, spoken to over the pipe of the DevTools protocol (JSON messages, each
//! ended by a NUL; no port, no web socket). Where it is missing that is said past the test runner's capture, and it
//! fails where `COMPAT_PROXY_TESTS_STRICT` is set.

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::DEADLINE;
use crate::packages::missing;

/// The first run of a browser reads all of it from the disk.
const START: Duration = Duration::from_secs(90);

/// What it is started with, beside its folder. No sandbox, for it will not have one as root; it sees pages of ours only.
const WORDS: [&str; 15] = [
    "--headless=new",
    "--no-sandbox",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "about:blank",
];

/// A running browser; ends when dropped.
pub struct Browser {
    child: Child,
    to: RefCell<ChildStdin>,
    from: Receiver<Value>,
    /// What came that was no answer.
    events: RefCell<Vec<Value>>,
    next: Cell<u64>,
    _folder: TempDir,
}

impl Browser {
    /// Starts it; none where there is none.
    pub fn start() -> Option<Self> {
        let asked = Command::new("chromium").arg("--version").stderr(Stdio::null()).output();
        if !asked.is_ok_and(|done| done.status.success()) {
            missing(
                "NO CHROMIUM FOUND: the status page is not shown to work in a browser; install the package `chromium`",
            );
            return None;
        }
        let folder = tempfile::Builder::new().prefix("browser-").tempdir().expect("a temporary folder");
        // The pipes are descriptors 3 and 4 by definition; the shell puts them there.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >&2", "sh", "chromium"])
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .args(WORDS)
            .env("HOME", folder.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let to = RefCell::new(child.stdin.take().expect("a pipe"));
        let pipe = child.stdout.take().expect("a pipe");
        let (sender, from) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(pipe).split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("the protocol is JSON");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let browser =
            Self { child, to, from, events: RefCell::default(), next: Cell::new(1), _folder: folder };
        let version = browser.ask(None, "Browser.getVersion", &json!({}), START).expect("a version");
        println!("{}", version["product"]);
        Some(browser)
    }

    /// One method, its result or what the browser says is wrong.
    fn ask(
        &self,
        session: Option<&str>,
        method: &str,
        params: &Value,
        limit: Duration,
    ) -> Result<Value, String> {
        let id = self.next.replace(self.next.get() + 1);
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.borrow_mut().write_all(&bytes).map_err(|error| format!("{method}: {error}"))?;
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut answer = match self.from.recv_timeout(left) {
                Ok(answer) => answer,
                Err(RecvTimeoutError::Timeout) => return Err(format!("{method}: no answer in {limit:?}")),
                Err(RecvTimeoutError::Disconnected) => return Err(format!("{method}: the browser ended")),
            };
            if answer["id"] == id {
                let error = answer["error"].take();
                return if error.is_null() {
                    Ok(answer["result"].take())
                } else {
                    Err(format!("{method}: {error}"))
                };
            }
            self.events.borrow_mut().push(answer);
        }
    }

    /// A new tab, in a context of its own, that notes all that happens in it.
    pub fn tab(&self) -> Tab<'_> {
        let ask = |method: &str, params: Value| {
            self.ask(None, method, &params, DEADLINE).unwrap_or_else(|error| panic!("{error}"))
        };
        let context = ask("Target.createBrowserContext", json!({}))["browserContextId"].take();
        let target = ask("Target.createTarget", json!({ "url": "about:blank", "browserContextId": context }));
        let attached =
            ask("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        let tab =
            Tab { browser: self, session: attached["sessionId"].as_str().expect("a session").to_owned() };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            tab.send(&format!("{domain}.enable"), json!({}));
        }
        tab
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its processes are one group, so that none is left.
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// One tab.
pub struct Tab<'b> {
    browser: &'b Browser,
    session: String,
}

impl Tab<'_> {
    /// One method of the protocol.
    #[track_caller]
    pub fn send(&self, method: &str, params: Value) -> Value {
        self.browser
            .ask(Some(&self.session), method, &params, DEADLINE)
            .unwrap_or_else(|error| panic!("{error}\n{params:#}"))
    }

    /// Goes there and waits until the page has loaded.
    #[track_caller]
    pub fn open(&self, url: &str) {
        let loads = self.events("Page.loadEventFired").len();
        let gone = self.send("Page.navigate", json!({ "url": url }));
        assert!(gone.get("errorText").is_none(), "{url}: {gone}");
        self.wait_load(loads);
    }

    /// Waits for one more load than `before`.
    #[track_caller]
    pub fn wait_load(&self, before: usize) {
        super::wait_for(
            "the page has loaded",
            || {
                // Whatever is asked brings the events with it; the tab may be on its way to another process.
                self.browser.ask(None, "Browser.getVersion", &json!({}), DEADLINE).expect("a version");
                self.events("Page.loadEventFired").len() > before
            },
            String::new,
        );
    }

    /// How often a page has loaded here.
    pub fn loads(&self) -> usize {
        self.events("Page.loadEventFired").len()
    }

    /// The value of an expression, promises awaited.
    #[track_caller]
    pub fn eval(&self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut told = self.send("Runtime.evaluate", params);
        assert!(told.get("exceptionDetails").is_none(), "{expression}: {told:#}");
        told["result"]["value"].take()
    }

    /// The text of the first element that a selector finds, as it is shown.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        let value = self.eval(&format!("document.querySelector({})?.innerText ?? null", json!(selector)));
        value.as_str().unwrap_or_else(|| panic!("there is no `{selector}`")).to_owned()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn wait(&self, what: &str, expression: &str) {
        super::wait_for(
            what,
            || self.eval(expression) == true,
            || self.eval("document.body.innerText").to_string(),
        );
    }

    /// The window and the colour scheme.
    pub fn view(&self, width: u32, height: u32, scheme: &str) {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.send("Emulation.setDeviceMetricsOverride", metrics);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.send("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// One key, pressed and released: `Tab`, `Enter`.
    pub fn press(&self, key: &str) {
        let (code, text) = match key {
            "Enter" => (13, "\r"),
            "Tab" => (9, ""),
            _ => panic!("what is `{key}`?"),
        };
        let event = |kind: &str| json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
        self.send("Input.dispatchKeyEvent", event(if text.is_empty() { "rawKeyDown" } else { "keyDown" }));
        self.send("Input.dispatchKeyEvent", event("keyUp"));
    }

    /// Types letter by letter.
    pub fn write(&self, text: &str) {
        for letter in text.chars() {
            self.send("Input.dispatchKeyEvent", json!({ "type": "char", "text": letter.to_string() }));
        }
    }

    /// Writes the whole page as a picture.
    pub fn picture(&self, path: &Path) {
        let taken = self.send("Page.captureScreenshot", json!({ "captureBeyondViewport": true }));
        let bytes = STANDARD.decode(taken["data"].as_str().expect("a picture")).expect("base64");
        std::fs::write(path, bytes).expect("a file");
    }

    /// What happened here under this name so far.
    pub fn events(&self, method: &str) -> Vec<Value> {
        let events = self.browser.events.borrow();
        let ours = events.iter().filter(|event| event["sessionId"] == self.session.as_str());
        ours.filter(|event| event["method"] == method).map(|event| event["params"].clone()).collect()
    }

    /// Addresses that were asked for.
    pub fn requests(&self) -> Vec<String> {
        let all = self.events("Network.requestWillBeSent");
        all.iter().map(|event| event["request"]["url"].as_str().unwrap_or("?").to_owned()).collect()
    }

    /// Exceptions, and whatever else would be red or yellow in the console.
    pub fn complaints(&self) -> Vec<String> {
        let thrown = self.events("Runtime.exceptionThrown").into_iter();
        let said = self.events("Runtime.consoleAPICalled").into_iter();
        let said =
            said.filter(|event| matches!(event["type"].as_str(), Some("error" | "warning" | "assert")));
        let noted = self.events("Log.entryAdded").into_iter();
        let noted =
            noted.filter(|event| matches!(event["entry"]["level"].as_str(), Some("error" | "warning")));
        thrown.chain(said).chain(noted).map(|event| event.to_string()).collect()
    }
}
