//! The variables App Engine sets for an app, old names and new (spec section j, step 12), after the app's own
//! `env_variables`: what the platform says wins over what the file says.

use crate::appyaml::{App, Era, Target};
use crate::settings::Settings;
use crate::worker::Request;

/// Where App Engine's own requests to an instance came from.
const OWN_ADDRESS: &str = "0.1.0.3";

/// Every variable of one worker but those that differ from worker to worker.
pub(super) fn variables(app: &App, settings: &Settings) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> =
        app.env_variables.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut set = |key: &str, value: &str| {
        all.retain(|(known, _)| known != key);
        all.push((key.to_owned(), value.to_owned()));
    };
    let version = app.version.as_deref().unwrap_or("1");
    let minor = "0";
    let full_version = format!("{version}.{minor}");
    let instance = format!("{:016x}", fastrand::u64(..));
    let runtime = if app.era == Era::Classic { "python27" } else { app.runtime.as_str() };
    for (key, value) in [
        ("GAE_ENV", "standard"),
        ("GAE_RUNTIME", app.runtime.as_str()),
        ("GAE_SERVICE", app.service.as_str()),
        ("GAE_VERSION", version),
        ("GAE_INSTANCE", instance.as_str()),
        ("GAE_DEPLOYMENT_ID", minor),
        ("GAE_MODULE_NAME", app.service.as_str()),
        ("GAE_MODULE_VERSION", version),
        ("GAE_MINOR_VERSION", minor),
        ("GAE_MODULE_INSTANCE", instance.as_str()),
        ("SERVER_SOFTWARE", concat!("compat-proxy/", env!("CARGO_PKG_VERSION"))),
        ("APPENGINE_RUNTIME", runtime),
        ("CURRENT_MODULE_ID", app.service.as_str()),
        ("CURRENT_VERSION_ID", full_version.as_str()),
        ("INSTANCE_ID", instance.as_str()),
        ("BACKEND_ID", version),
        ("AUTH_DOMAIN", "gmail.com"),
        ("MODULE_YAML_PATH", &settings.app_yaml.value.to_string_lossy()),
    ] {
        set(key, value);
    }
    if let Some(application) = &app.application {
        let (partition, project) = application.split_once('~').unwrap_or(("s", application));
        let long = format!("{partition}~{project}");
        for (key, value) in [
            ("GAE_APPLICATION", long.as_str()),
            ("GAE_LONG_APP_ID", project),
            ("GAE_PARTITION", partition),
            ("APPLICATION_ID", long.as_str()),
            ("GOOGLE_CLOUD_PROJECT", project),
            ("DEFAULT_VERSION_HOSTNAME", &format!("{project}.appspot.com")),
            ("GAE_APPENGINE_HOSTNAME", &format!("{project}.appspot.com")),
        ] {
            set(key, value);
        }
    }
    all
}

/// A request that the proxy itself makes to a worker, as App Engine made it: from [`OWN_ADDRESS`], past the login
/// rule, to the script of the first handler that has one for this path (spec section h).
pub(super) fn own_request(app: &App, target: &str) -> Request {
    let path = target.split('?').next().unwrap_or_default();
    let mut headers: Vec<(String, String)> = [
        ("X-AppEngine-Country", "ZZ"),
        ("X-AppEngine-Https", "off"),
        ("X-AppEngine-User-IP", OWN_ADDRESS),
        ("X-AppEngine-Remote-Addr", OWN_ADDRESS),
        ("X-AppEngine-Auth-Domain", "gmail.com"),
        ("X-AppEngine-User-Is-Admin", "0"),
        ("X-Forwarded-For", OWN_ADDRESS),
        ("X-Forwarded-Proto", "http"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let answering = app.handlers.iter().enumerate().find_map(|(index, handler)| {
        let Target::Script { script } = &handler.target else { return None };
        let groups = handler.url.full_match(path).ok()??;
        Some((index, script.expand(&groups).ok()?.into_owned()))
    });
    if let Some((index, script)) = answering {
        headers.push(("X-Compat-Script".to_owned(), script));
        headers.push(("X-Compat-Handler".to_owned(), index.to_string()));
    }
    Request { path: target.to_owned(), headers }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(yaml: &str, path: &str) -> (Option<String>, Option<String>) {
        let mut read = |_: &std::path::Path| Ok(yaml.as_bytes().to_vec());
        let app = crate::appyaml::load(std::path::Path::new("app.yaml"), &mut read).app.unwrap();
        let request = own_request(&app, path);
        let value = |name: &str| {
            request.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone())
        };
        assert_eq!(value("X-AppEngine-User-IP").as_deref(), Some("0.1.0.3"));
        (value("X-Compat-Handler"), value("X-Compat-Script"))
    }

    #[test]
    fn an_own_request_goes_to_the_script_its_path_has_past_files_and_the_login_rule() {
        let yaml = "runtime: python27\nhandlers:\n- url: /_ah\n  static_dir: s\n- url: /_ah/(warmup)\n  \
                    script: \\1.app\n  login: admin\n- url: /.*\n  script: main.app\n";
        let of = |index: &str, script: &str| (Some(index.to_owned()), Some(script.to_owned()));
        assert_eq!(said(yaml, "/_ah/warmup"), of("1", "warmup.app"));
        assert_eq!(said(yaml, "/_ah/start?x=/_ah/warmup"), of("2", "main.app"));
        assert_eq!(said("runtime: python39\n", "/_ah/start"), (None, None));
    }
}
