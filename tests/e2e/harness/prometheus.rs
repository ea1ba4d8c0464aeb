//! A real Prometheus beside the proxy: started on a port of its own, asked through its HTTP API. It and `promtool` are
//! Debian's package `prometheus`; where they are missing that is said past the test runner's capture, and it fails
//! where `COMPAT_PROXY_TESTS_STRICT` is set.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;

use super::client::Connection;
use super::wait_for;
use crate::packages::missing;

/// Whether both programs are there.
pub fn is_there() -> bool {
    let runs = |program: &str| {
        let mut command = Command::new(program);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let there = ["prometheus", "promtool"].into_iter().all(runs);
    if !there {
        missing(
            "NO PROMETHEUS FOUND: dashboards, recording rules and alerts are not shown to work; install the package `prometheus`",
        );
    }
    there
}

/// Runs `promtool` in the repository.
pub fn promtool(words: &[&str]) -> Output {
    let mut command = Command::new("promtool");
    command.args(words).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.output().expect("promtool runs")
}

/// One series of an answer.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its values in the order of time, those that are numbers.
    pub values: Vec<f64>,
}

/// A running Prometheus; ends when dropped.
pub struct Prometheus {
    child: Child,
    address: String,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts it with this configuration.
    pub fn start(configuration: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("prometheus-").tempdir().expect("a temporary folder");
        let file = folder.path().join("prometheus.yaml");
        std::fs::write(&file, configuration).expect("the configuration is written");
        let mut child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .args(["--web.listen-address=127.0.0.1:0", "--log.format=json"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("prometheus starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let address = lines.by_ref().find_map(|line| {
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            said.push(line);
            (event["msg"] == "Listening on").then(|| event["address"].as_str().map(str::to_owned))?
        });
        let address = address.unwrap_or_else(|| panic!("prometheus does not listen: {said:#?}"));
        // Read on, or it would wait for us.
        std::thread::spawn(move || lines.for_each(drop));
        let prometheus = Self { child, address, _folder: folder };
        let ready = || prometheus.ask("/-/ready").is_some_and(|(status, _)| status == 200);
        wait_for("prometheus is ready", ready, String::new);
        prometheus
    }

    fn ask(&self, target: &str) -> Option<(u16, String)> {
        let mut connection = Connection::try_open(&self.address).ok()?;
        connection.request("GET", target, &[("Connection", "close")], b"");
        let response = connection.response_to("GET").ok()?;
        Some((response.status, response.text()))
    }

    /// `data` of an answer of the API, or what is wrong.
    pub fn api(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let query: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        let (_, text) =
            self.ask(&format!("/api/v1/{path}?{}", query.join("&"))).ok_or("prometheus does not answer")?;
        let mut answer: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        if answer["status"] == "success" {
            Ok(answer["data"].take())
        } else {
            Err(answer["error"].to_string())
        }
    }

    /// What an expression is now.
    pub fn now(&self, expression: &str) -> Result<Vec<Series>, String> {
        series(&self.api("query", &[("query", expression)])?)
    }

    /// What an expression was every second of the last `seconds`.
    pub fn lately(&self, expression: &str, seconds: u32) -> Result<Vec<Series>, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        // The last step is this very moment.
        let (start, end) = (format!("{:.3}", now - f64::from(seconds)), format!("{now:.3}"));
        let parameters = [("query", expression), ("start", &start), ("end", &end), ("step", "1")];
        series(&self.api("query_range", &parameters)?)
    }

    /// The values of a label over the series that match.
    pub fn label_values(&self, label: &str, selector: &str) -> Result<Vec<String>, String> {
        let values = self.api(&format!("label/{label}/values"), &[("match[]", selector)])?;
        serde_json::from_value(values).map_err(|error| error.to_string())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn series(data: &Value) -> Result<Vec<Series>, String> {
    let number = |pair: &Value| pair[1].as_str()?.parse::<f64>().ok().filter(|value| value.is_finite());
    if data["resultType"] == "scalar" {
        return Ok(vec![Series {
            labels: BTreeMap::new(),
            values: number(&data["result"]).into_iter().collect(),
        }]);
    }
    let results = data["result"].as_array().ok_or_else(|| format!("not an answer: {data}"))?;
    let one = |result: &Value| Series {
        labels: serde_json::from_value(result["metric"].clone()).unwrap_or_default(),
        values: match result["values"].as_array() {
            Some(values) => values.iter().filter_map(number).collect(),
            None => number(&result["value"]).into_iter().collect(),
        },
    };
    Ok(results.iter().map(one).collect())
}
