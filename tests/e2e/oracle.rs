//! The golden vectors of the App Engine SDK, asked of the running binary over HTTP and of `explain`. They lie
//! outside this repository: in `../shared/oracle/vectors` beside it, or where `ORACLE_VECTORS` points; without
//! them these tests say so and pass.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::harness::client::{Connection, Response};
use crate::harness::origin::Origin;
use crate::harness::{App, Proxy};

/// Cases run at the same time.
const SIDE_BY_SIDE: usize = 2;

struct Case {
    name: String,
    tree: BTreeMap<String, Value>,
    value: Value,
}

impl Case {
    fn app(&self) -> App {
        let mut app = App::new();
        for (path, content) in &self.tree {
            app = match content {
                Value::String(text) => app.file(path, text),
                Value::Object(entry) => match entry.get("symlink").and_then(Value::as_str) {
                    Some(target) => app.link(path, target),
                    None => {
                        std::fs::create_dir_all(app.path().join(path)).expect("a folder");
                        app
                    }
                },
                other => panic!("{}: what is {other}?", self.name),
            };
        }
        let text = self.value["app_yaml"].as_str().expect("app_yaml");
        // The SDK does not look at error pages; here a missing one is an error (spec section g).
        if text.contains("file: e.html") {
            app = app.file("e.html", "an error page");
        }
        app.yaml(text)
    }

    fn probes(&self) -> Vec<Probe<'_>> {
        let probes = self.value["probes"].as_array().map(Vec::as_slice).unwrap_or_default();
        probes.iter().map(|value| Probe { value }).collect()
    }

    fn is_valid(&self) -> bool {
        self.value["load"]["expect"] == "ok"
    }

    fn content(&self, file: &str) -> Option<&str> {
        let mut file = file.to_owned();
        // Links lead to files beside them.
        while let Some(Value::Object(entry)) = self.tree.get(&file) {
            let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
            file = format!("{folder}/{}", entry.get("symlink")?.as_str()?);
        }
        self.tree.get(&file)?.as_str()
    }
}

struct Probe<'a> {
    value: &'a Value,
}

impl Probe<'_> {
    fn text(&self, key: &str) -> &str {
        self.value[key].as_str().unwrap_or_default()
    }

    fn expect(&self) -> &Value {
        &self.value["expect"]
    }

    fn told(&self) -> String {
        format!("{} {} {}", self.text("method"), self.text("scheme"), self.text("url"))
    }
}

fn cases() -> Option<Vec<Case>> {
    let folder = std::env::var_os("ORACLE_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/oracle/vectors"),
        PathBuf::from,
    );
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: there are no vectors in {}", folder.display());
        return None;
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let mut cases = Vec::new();
    for path in files {
        let text = std::fs::read(&path).expect("a vector file");
        let file: Value = serde_json::from_slice(&text).expect("JSON");
        let tree = |value: &Value| -> BTreeMap<String, Value> {
            value.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        let common = tree(&file["common_files"]);
        for value in file["cases"].as_array().expect("cases") {
            let mut all = common.clone();
            all.extend(tree(&value["files"]["+"]));
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let name = format!("{stem}/{}", value["name"].as_str().unwrap_or("?"));
            cases.push(Case { name, tree: all, value: value.clone() });
        }
    }
    assert!(!cases.is_empty(), "no case in {}", folder.display());
    Some(cases)
}

/// Runs `judge` over all cases; it returns how many answers it compared and what differs.
fn judge_all(what: &str, judge: impl Fn(&Case) -> (usize, Vec<String>) + Sync) {
    let Some(cases) = cases() else { return };
    let next = AtomicUsize::new(0);
    let total = AtomicUsize::new(0);
    let differences = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let (compared, found) = judge(case);
                    total.fetch_add(compared, Ordering::SeqCst);
                    let named = found.into_iter().map(|text| format!("{}: {text}", case.name));
                    differences.lock().expect("no panic before").extend(named);
                }
            });
        }
    });
    let differences = differences.into_inner().expect("no panic before");
    let total = total.into_inner();
    println!("{what}: {} of {total} answers in {} cases agree", total - differences.len(), cases.len());
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn every_vector_agrees_over_http() {
    judge_all("over HTTP", |case| if case.is_valid() { over_http(case) } else { refused_start(case) });
}

#[test]
fn every_vector_agrees_in_explain_and_check() {
    judge_all("explain and check", |case| {
        let app = case.app();
        let (mut compared, mut found) = verdict(case, &app);
        if case.is_valid() {
            for (more, differences) in [explained(case, &app), tabled(case, &app)] {
                compared += more;
                found.extend(differences);
            }
        }
        (compared, found)
    });
}

fn refused_start(case: &Case) -> (usize, Vec<String>) {
    let app = case.app();
    let done =
        app.run(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--upstream", "127.0.0.1:9", "."]);
    let named = done.stderr.contains(".yaml:");
    match done.code {
        Some(65) if named => (1, Vec::new()),
        code => (
            1,
            vec![format!(
                "load: wanted exit 65 and a place ({}), got {code:?}: {}",
                case.value["load"]["raw"], done.stderr
            )],
        ),
    }
}

fn verdict(case: &Case, app: &App) -> (usize, Vec<String>) {
    // Attached: what the launcher would do with the app is no matter of the vectors.
    let done = app.run(&["check", "--upstream", "127.0.0.1:9"]);
    let wanted = i32::from(!case.is_valid());
    if done.code == Some(wanted) {
        return (1, Vec::new());
    }
    (
        1,
        vec![format!(
            "check: wanted exit {wanted} ({}), got {:?}: {}",
            case.value["load"], done.code, done.stdout
        )],
    )
}

/// The merged handlers, in order.
fn tabled(case: &Case, app: &App) -> (usize, Vec<String>) {
    let done = app.run(&["routes", "--json"]);
    if done.code != Some(0) {
        return (1, vec![format!("routes: {done:?}")]);
    }
    let ours = done.json();
    let text = |value: &Value, key: &str, other: &str| value[key].as_str().unwrap_or(other).to_owned();
    let row = |handler: &Value| {
        let secure = text(handler, "secure", "optional").replace("default", "optional");
        format!("{} login={} secure={secure}", text(handler, "url", ""), text(handler, "login", "optional"))
    };
    let rows = |value: &Value| -> Vec<String> { value.as_array().into_iter().flatten().map(row).collect() };
    let (ours, theirs) = (rows(&ours), rows(&case.value["handlers"]));
    if ours == theirs {
        (1, Vec::new())
    } else {
        (1, vec![format!("routes: wanted {theirs:#?}, got {ours:#?}")])
    }
}

fn over_http(case: &Case) -> (usize, Vec<String>) {
    let origin = Origin::echoing();
    let proxy = case
        .app()
        .upstream(&origin)
        .args(["--threads", "1", "--trusted-proxy", "127.0.0.0/8", "--access-log", "off"])
        .start();
    let mut differences = Vec::new();
    let mut per_handler: BTreeMap<u64, u64> = BTreeMap::new();
    let probes = case.probes();
    let mut connection = proxy.connect();
    for probe in &probes {
        origin.clear();
        let method = probe.text("method");
        match ask(&proxy, &mut connection, probe) {
            Ok(response) => {
                let reached = origin.targets();
                if let Err(difference) = judge_http(case, probe, &response, &reached) {
                    differences.push(format!("{}: {difference}", probe.told()));
                }
                if method == "HEAD" && !response.body.is_empty() {
                    differences.push(format!("{}: a body after HEAD", probe.told()));
                }
            }
            Err(error) => differences.push(format!("{}: {error}", probe.told())),
        }
        if let Some(handler) = probe.expect()["handler"].as_u64() {
            *per_handler.entry(handler).or_default() += 1;
        }
    }
    // A request is counted when it is over, a moment after its answer.
    let counted = |status: &Value| {
        let counts = status["handlers"].as_array().into_iter().flatten().enumerate();
        let asked = counts.filter(|(_, handler)| handler["requests"] != 0);
        asked.map(|(index, handler)| (index as u64, handler["requests"].as_u64().unwrap_or(0))).collect()
    };
    proxy.wait_until(&format!("{}: the handlers count {per_handler:?}", case.name), |status| {
        let counts: BTreeMap<u64, u64> = counted(status);
        counts == per_handler
    });
    (probes.len(), differences)
}

fn ask(proxy: &Proxy, connection: &mut Connection, probe: &Probe<'_>) -> std::io::Result<Response> {
    let method = probe.text("method");
    let headers = [("X-Forwarded-Proto", probe.text("scheme"))];
    connection.request(method, probe.text("url"), &headers, b"");
    let response = connection.response_to(method)?;
    if response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
        *connection = proxy.connect();
    }
    Ok(response)
}

fn judge_http(case: &Case, probe: &Probe<'_>, got: &Response, reached: &[String]) -> Result<(), String> {
    let expect = probe.expect();
    let action = expect["action"].as_str().unwrap_or_default();
    let url = probe.text("url");
    let wanted = if action == "app" { 200 } else { expect["status"].as_u64().unwrap_or(0) };
    let equal = |what: &str, got: &str, wanted: &str| {
        if got == wanted {
            Ok(())
        } else {
            Err(format!("{what} should be `{wanted}` ({expect}), is `{got}`"))
        }
    };
    equal("status", &got.status.to_string(), &wanted.to_string())?;
    // The origin shows bytes as Latin-1.
    let sent: String = url.bytes().map(char::from).collect();
    equal("the app saw", &reached.join(" "), if action == "app" { &sent } else { "" })?;
    match action {
        "app" => {
            let handler = expect["handler"].as_u64().map(|index| index.to_string()).unwrap_or_default();
            equal("handler", got.header("echo-handler").unwrap_or_default(), &handler)?;
            equal(
                "script",
                got.header("echo-script").unwrap_or_default(),
                expect["script"].as_str().unwrap_or_default(),
            )
        }
        "static" => {
            let file = expect["file"].as_str().unwrap_or_default();
            let content = case.content(file).ok_or_else(|| format!("the vector has no file {file}"))?;
            let length = got.header("content-length").unwrap_or_default();
            equal("length", length, &content.len().to_string())?;
            if probe.text("method") != "HEAD" {
                equal("body", &got.text(), content)?;
            }
            if let Some(kind) = expect["content_type"].as_str() {
                equal("content-type", got.header("content-type").unwrap_or_default(), kind)?;
            }
            if let Some(age) = expect["max_age"].as_u64() {
                let wanted = format!("public, max-age={age}");
                equal("cache-control", got.header("cache-control").unwrap_or_default(), &wanted)?;
            }
            Ok(())
        }
        "secure" | "redirect" => {
            let wanted = location(probe);
            let location = got.header("location").unwrap_or_default();
            equal("location (decoded)", &decoded(location), &wanted)
        }
        "proxy" => {
            let body = if probe.text("method") == "HEAD" { "" } else { "healthy" };
            equal("body", &got.text(), body)
        }
        "reject" => Ok(()),
        other => Err(format!("what is `{other}`?")),
    }
}

fn decoded(url: &str) -> String {
    percent_decode_str(url).decode_utf8_lossy().into_owned()
}

/// Where a redirect should lead, decoded: absolute, the query kept unless it leads from https to http.
fn location(probe: &Probe<'_>) -> String {
    let expect = probe.expect();
    let (path, query) = match probe.text("url").split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (probe.text("url"), String::new()),
    };
    if let Some(path) = expect["path"].as_str() {
        return format!("{}://localhost{path}{}", probe.text("scheme"), decoded(&query));
    }
    let to = expect["to"].as_str().unwrap_or_default();
    let query = if to == "https" { query } else { String::new() };
    format!("{to}://localhost{}{}", decoded(path), decoded(&query))
}

fn explained(case: &Case, app: &App) -> (usize, Vec<String>) {
    let probes = case.probes();
    let mut groups: BTreeMap<&str, Vec<(&Probe<'_>, String)>> = BTreeMap::new();
    for probe in &probes {
        let url = probe.text("url");
        let url =
            if probe.text("scheme") == "https" { format!("https://localhost{url}") } else { url.to_owned() };
        groups.entry(probe.text("method")).or_default().push((probe, url));
    }
    let mut differences = Vec::new();
    for (method, group) in groups {
        let mut args = vec!["explain", "--json", "--method", method, "."];
        args.extend(group.iter().map(|(_, url)| url.as_str()));
        let done = app.run(&args);
        if done.code != Some(0) {
            differences.push(format!("explain: {done:?}"));
            continue;
        }
        let lines = done.json_lines();
        if lines.len() != group.len() {
            differences.push(format!("explain: {} lines for {} URLs", lines.len(), group.len()));
            continue;
        }
        for (line, (probe, url)) in lines.iter().zip(group) {
            if let Err(difference) = judge_explained(line, probe, &url) {
                differences.push(format!("explain {}: {difference}\n    {line}", probe.told()));
            }
        }
    }
    (probes.len(), differences)
}

fn judge_explained(line: &Value, probe: &Probe<'_>, url: &str) -> Result<(), String> {
    let expect = probe.expect();
    let action = expect["action"].as_str().unwrap_or_default();
    let equal = |key: &str, wanted: &Value| {
        if &line[key] == wanted { Ok(()) } else { Err(format!("{key} should be {wanted} ({expect})")) }
    };
    equal("url", &Value::from(url))?;
    let words: &[&str] = match action {
        "app" => &["script"],
        "static" => &["static"],
        "secure" | "redirect" => &["redirect"],
        "proxy" => &["health"],
        _ if expect["status"] == 400 => &["bad_request"],
        _ => &["not_found", "blocked_login"],
    };
    if !words.iter().any(|word| line["action"] == *word) {
        return Err(format!("action should be one of {words:?} ({expect})"));
    }
    equal("status", if action == "app" { &Value::Null } else { &expect["status"] })?;
    if action != "redirect" && action != "proxy" {
        equal("handler", expect.get("handler").unwrap_or(&Value::Null))?;
    }
    match action {
        "app" => equal("script", expect.get("script").unwrap_or(&Value::Null)),
        "static" => equal("file", &expect["file"]),
        "secure" | "redirect" => {
            let wanted = location(probe);
            let location = line["location"].as_str().unwrap_or_default();
            if decoded(location) == wanted {
                Ok(())
            } else {
                Err(format!("location should be {wanted} (decoded)"))
            }
        }
        _ => Ok(()),
    }
}
