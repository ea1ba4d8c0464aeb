//! Every key of app.yaml and what it may hold, class by class as the SDK has them.
//!
//! Only tables: `shape` checks them, `app` and `handler` read what acts. Keys with a note are accepted and not acted on.

mod forms;
mod scaling;

use super::shape::{Rule, Shape, field};
use Rule::{Any, Bool, Float, Form, Int, List, Map, OneOf, Switch, Text, Words};
use forms::{
    env, expiration, file, forwarded_port, handler_url, ip_mode, lower_case, not_blank, resource,
    resource_path, runtime, service_name, source_language, word32,
};

pub(super) use forms::{RUNTIME, URL};

const NOT_HERE: &str = "is not acted on here";

/// app.yaml itself.
pub(super) const APP: Shape = Shape {
    class: "AppInfoExternal",
    what: "app.yaml",
    fields: &[
        field("admin_console", Map(&ADMIN_CONSOLE)),
        field("api_config", Map(&API_CONFIG)),
        field("api_version", Form(word32, "letters, digits, `_` and `.`, 32 at most")),
        field("app_engine_apis", Bool),
        field("application", Text),
        field("auto_id_policy", OneOf(&["default", "legacy"])),
        field("automatic_scaling", Map(&scaling::AUTOMATIC)),
        field("backends", List(&Map(&BACKEND))).noted(NOT_HERE),
        field("basic_scaling", Map(&scaling::BASIC)).noted("is not acted on here: set `--workers`"),
        field("beta_settings", Words("BetaSettings")).noted(NOT_HERE),
        field("build_env_variables", Words("EnvironmentVariables")),
        field("builtins", Any),
        field("code_lock", Bool),
        field("default_expiration", Form(expiration, EXPIRATION)),
        field("derived_file_type", List(&OneOf(&["java_precompiled", "python_precompiled"]))),
        field("endpoints_api_service", Map(&ENDPOINTS)).noted(NOT_HERE),
        field("entrypoint", Text),
        field("env", Form(env, "write `standard` or `flex`, or leave it out")),
        field("env_variables", Words("EnvironmentVariables")),
        field("error_handlers", List(&Map(&ERROR_HANDLER))),
        field("flexible_runtime_settings", Map(&FLEXIBLE_RUNTIME)),
        field("handlers", Any),
        field("health_check", Map(&scaling::HEALTH)),
        field(
            "inbound_services",
            List(&Form(inbound_service, "write `warmup`, or `mail`, `mail_bounce` or `rest`")),
        ),
        field("includes", Any),
        field("instance_class", Text),
        field("libraries", List(&Map(&LIBRARY)))
            .noted("are not installed by this proxy: the app brings its own"),
        field("liveness_check", Map(&scaling::LIVENESS)),
        field("main", Form(file, "give it a value")),
        field("manual_scaling", Map(&scaling::MANUAL)),
        field("module", Form(service_name, SERVICE)),
        field("network", Map(&NETWORK)),
        field("nobuild_files", Any).not_null(),
        field("pagespeed", Any).noted("is gone from App Engine and not acted on"),
        field("project", Text),
        field("readiness_check", Map(&scaling::READINESS)),
        field("resources", Map(&RESOURCES)),
        field("runtime", Form(runtime, RUNTIME)),
        field("runtime_channel", Text),
        field("runtime_config", Words("RuntimeConfig")),
        field("service", Form(service_name, SERVICE)),
        field("service_account", Text),
        field("skip_files", Any).not_null(),
        field("source_language", Form(source_language, "letters, digits, `_`, `.` and `-`, 32 at most")),
        field("standard_websocket", Bool),
        field("threadsafe", Bool),
        field("version", Text),
        field("vm", Bool),
        field("vm_health_check", Map(&scaling::HEALTH)),
        field("vm_settings", Words("VmSettings")).noted(NOT_HERE),
        field("vpc_access_connector", Map(&VPC)).noted(NOT_HERE),
        field("zones", List(&Text)),
    ],
};

/// A file named by `includes`.
pub(super) const INCLUDE: Shape = Shape {
    class: "AppInclude",
    what: "an included file",
    fields: &[
        field("admin_console", Map(&ADMIN_CONSOLE)),
        field("beta_settings", Words("BetaSettings")),
        field("build_env_variables", Words("EnvironmentVariables")),
        field("builtins", Any),
        field("env_variables", Words("EnvironmentVariables")),
        field("handlers", Any),
        field("includes", Any),
        field("manual_scaling", Map(&scaling::MANUAL)),
        field("skip_files", Any).not_null(),
        field("vm", Bool),
        field("vm_settings", Words("VmSettings")),
    ],
};

/// One of `handlers`.
pub(super) const HANDLER: Shape = Shape {
    class: "URLMap",
    what: "a handler",
    fields: &[
        field("api_endpoint", Switch),
        field("application_readable", Bool),
        field("auth_fail_action", OneOf(&["redirect", "unauthorized"])).not_null(),
        field("expiration", Form(expiration, EXPIRATION)),
        field("http_headers", Any),
        field("login", OneOf(&["optional", "required", "admin"])).not_null(),
        field("mime_type", Text),
        field("position", OneOf(&["head", "tail"])),
        field("redirect_http_response_code", OneOf(&["301", "302", "303", "307"])),
        field("require_matching_file", Bool),
        field("script", Form(file, "give it a value, such as `main.app`")),
        field("secure", OneOf(&["always", "never", "optional", "default"])).not_null(),
        field("static_dir", Form(file, "give it a directory")),
        field("static_files", Form(file, "give it a file")),
        field("upload", Form(file, "give it a pattern of the files that `static_files` may name")),
        field("url", Form(handler_url, URL)),
    ],
};

const EXPIRATION: &str = "write numbers with `d`, `h`, `m` or `s` and blanks between them, such as `4d 5h`";
const SERVICE: &str = "use small letters, digits and `-`, 63 at most, and no `-` at the ends";

const ADMIN_CONSOLE: Shape = Shape {
    class: "AdminConsole",
    what: "`admin_console`",
    fields: &[field("pages", List(&Map(&ADMIN_PAGE)))],
};

const ADMIN_PAGE: Shape = Shape {
    class: "AdminConsolePage",
    what: "a page of `admin_console`",
    fields: &[
        field("name", Form(file, "give it a name")).required(),
        field("url", Form(handler_url, URL)).required(),
    ],
};

const API_CONFIG: Shape = Shape {
    class: "ApiConfigHandler",
    what: "`api_config`",
    fields: &[
        field("auth_fail_action", OneOf(&["redirect", "unauthorized"])).not_null(),
        field("login", OneOf(&["optional", "required", "admin"])).not_null(),
        field("script", Form(file, "give it a value, such as `main.app`")).required(),
        field("secure", OneOf(&["always", "never", "optional", "default"])).not_null(),
        field("url", Form(handler_url, URL)).required(),
    ],
};

const BACKEND: Shape = Shape {
    class: "BackendEntry",
    what: "a backend",
    fields: &[
        field("class", Form(forms::backend_class, "write `B1`, `B2`, `B4` or `B8`")),
        field("dynamic", Bool),
        field("failfast", Bool),
        field("instances", Int(i64::MIN, i64::MAX)),
        field("max_concurrent_requests", Int(i64::MIN, i64::MAX)),
        field("name", Form(forms::backend_name, "use small letters, digits and `-`")).required(),
        field("options", Form(forms::backend_options, "use small letters, commas and blanks")),
        field("public", Bool),
        field("start", Form(file, "give it a value")),
        field("state", OneOf(&["START", "STOP", "DISABLED"])),
    ],
};

const ENDPOINTS: Shape = Shape {
    class: "EndpointsApiService",
    what: "`endpoints_api_service`",
    fields: &[
        field("config_id", Form(not_blank, "give it a value without blanks")),
        field("name", Form(not_blank, "give it a value without blanks")).required(),
        field("rollout_strategy", OneOf(&["fixed", "managed"])),
        field("trace_sampling", Bool),
    ],
};

const ERROR_HANDLER: Shape = Shape {
    class: "ErrorHandlers",
    what: "an error handler",
    fields: &[
        field("error_code", OneOf(&["default", "over_quota", "dos_api_denial", "timeout"])),
        field("file", Form(file, "give it a file")).required(),
        field("mime_type", Text),
    ],
};

const FLEXIBLE_RUNTIME: Shape = Shape {
    class: "FlexibleRuntimeSettings",
    what: "`flexible_runtime_settings`",
    fields: &[
        field("operating_system", Form(lower_case, "use small letters and digits")).required(),
        field("runtime_version", Text),
    ],
};

const LIBRARY: Shape = Shape {
    class: "Library",
    what: "a library",
    fields: &[field("name", Text).required(), field("version", Text).required()],
};

const NETWORK: Shape = Shape {
    class: "Network",
    what: "`network`",
    fields: &[
        field(
            "forwarded_ports",
            List(&Form(forwarded_port, "write a port, or two with `:`, such as `8080:80/tcp`")),
        ),
        field("instance_ip_mode", Form(ip_mode, "write `external` or `internal`")),
        field("instance_tag", Form(resource, "use small letters, digits and `-`")),
        field("name", Form(resource_path, "use small letters, digits, `-` and `/`")),
        field("session_affinity", Bool),
        field("subnetwork_name", Form(resource, "use small letters, digits and `-`")),
    ],
};

const RESOURCES: Shape = Shape {
    class: "Resources",
    what: "`resources`",
    fields: &[
        field("cpu", ANY_FLOAT),
        field("disk_size_gb", Int(i64::MIN, i64::MAX)),
        field("memory_gb", ANY_FLOAT),
        field("volumes", List(&Map(&VOLUME))),
    ],
};

const VOLUME: Shape = Shape {
    class: "Volume",
    what: "a volume",
    fields: &[
        field("name", Text).required(),
        field("size_gb", ANY_FLOAT).required(),
        field("volume_type", Text).required(),
    ],
};

const VPC: Shape = Shape {
    class: "VpcAccessConnector",
    what: "`vpc_access_connector`",
    fields: &[
        field("egress_setting", OneOf(&["private-ranges-only", "all-traffic"])),
        field("name", Form(forms::connector, "use small letters, digits, `-` and `/`")).required(),
    ],
};

const ANY_FLOAT: Rule = Float(f64::MIN, f64::MAX);

/// The services of today, and those of another era (R-LENIENT).
fn inbound_service(name: &str) -> bool {
    matches!(name, "mail" | "mail_bounce" | "rest" | "warmup") || is_retired_service(name)
}

pub(super) fn is_retired_service(name: &str) -> bool {
    const RETIRED: [&str; 5] =
        ["xmpp_message", "xmpp_subscribe", "xmpp_presence", "xmpp_error", "channel_presence"];
    RETIRED.contains(&name)
}

/// Keys of [`HANDLER`] that a kind of handler may have, next to those all may have.
pub(super) fn allowed(kind: &str) -> &'static [&'static str] {
    match kind {
        "static_files" => STATIC,
        "static_dir" => &STATIC[1..],
        "api_endpoint" => &["position", "script"],
        _ => &["position"],
    }
}

const STATIC: &[&str] =
    &["upload", "mime_type", "expiration", "require_matching_file", "http_headers", "application_readable"];

/// Keys that every kind of handler may have.
pub(super) const COMMON: &[&str] =
    &["url", "login", "auth_fail_action", "secure", "redirect_http_response_code"];
