//! The variables App Engine sets for an app, old names and new (spec section j, step 12), after the app's own
//! `env_variables`: what the platform says wins over what the file says.

use crate::appyaml::{App, Era};
use crate::settings::Settings;

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

/// What a request that the proxy itself makes to a worker carries.
pub(super) fn own_headers() -> Vec<(String, String)> {
    vec![
        ("X-AppEngine-Country".to_owned(), "ZZ".to_owned()),
        ("X-AppEngine-Https".to_owned(), "off".to_owned()),
    ]
}
