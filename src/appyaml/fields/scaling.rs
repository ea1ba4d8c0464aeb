//! The tables of scaling and health checks.

use super::super::shape::{Rule, Shape, field};
use super::ANY_FLOAT;
use super::forms::{digits_or_automatic, idle_timeout, latency, natural, not_blank, target_type};
use Rule::{Bool, Float, Form, Int, List, Map, Text};

const COUNT: Rule = Int(1, i64::MAX);
const SECONDS: Rule = Int(0, i64::MAX);
const WHOLE: Rule = Int(i64::MIN, i64::MAX);
const IDLE: Rule = Form(digits_or_automatic, "write a whole number or `automatic`");
const LATENCY: Rule =
    Form(latency, "write seconds or milliseconds, such as `2.5s` or `30ms`, or `automatic`");
const NATURAL: Rule = Form(natural, "write a whole number, 1 or more");

pub(super) const AUTOMATIC: Shape = Shape {
    class: "AutomaticScaling",
    what: "`automatic_scaling`",
    fields: &[
        field("cool_down_period_sec", Int(60, i64::MAX)),
        field("cpu_utilization", Map(&CPU_UTILIZATION)),
        field("custom_metrics", List(&Map(&CUSTOM_METRIC))),
        field("max_concurrent_requests", NATURAL),
        field("max_idle_instances", IDLE),
        field("max_instances", WHOLE),
        field("max_num_instances", COUNT),
        field("max_pending_latency", LATENCY),
        field("min_idle_instances", IDLE),
        field("min_instances", WHOLE),
        field("min_num_instances", COUNT),
        field("min_pending_latency", LATENCY),
        field("target_concurrent_requests", COUNT),
        field("target_cpu_utilization", ANY_FLOAT),
        field("target_disk_read_bytes_per_sec", COUNT),
        field("target_disk_read_ops_per_sec", COUNT),
        field("target_disk_write_bytes_per_sec", COUNT),
        field("target_disk_write_ops_per_sec", COUNT),
        field("target_network_received_bytes_per_sec", COUNT),
        field("target_network_received_packets_per_sec", COUNT),
        field("target_network_sent_bytes_per_sec", COUNT),
        field("target_network_sent_packets_per_sec", COUNT),
        field("target_request_count_per_sec", COUNT),
        field("target_throughput_utilization", ANY_FLOAT),
    ],
};

const CPU_UTILIZATION: Shape = Shape {
    class: "CpuUtilization",
    what: "`cpu_utilization`",
    fields: &[field("aggregation_window_length_sec", COUNT), field("target_utilization", Float(1e-6, 1.0))],
};

const CUSTOM_METRIC: Shape = Shape {
    class: "CustomMetric",
    what: "a custom metric",
    fields: &[
        field("filter", Text),
        field("metric_name", Form(not_blank, "give it a name without blanks")).required(),
        field("single_instance_assignment", ANY_FLOAT),
        field("target_type", Form(target_type, "write `GAUGE`, `DELTA_PER_SECOND` or `DELTA_PER_MINUTE`"))
            .required(),
        field("target_utilization", ANY_FLOAT),
    ],
};

pub(super) const BASIC: Shape = Shape {
    class: "BasicScaling",
    what: "`basic_scaling`",
    fields: &[
        field("idle_timeout", Form(idle_timeout, "write seconds or minutes, such as `10m`")),
        field("max_instances", NATURAL).required(),
    ],
};

pub(super) const MANUAL: Shape = Shape {
    class: "ManualScaling",
    what: "`manual_scaling`",
    fields: &[field("instances", NATURAL).required()],
};

pub(super) const HEALTH: Shape = Shape {
    class: "HealthCheck",
    what: "`health_check`",
    fields: &[
        field("check_interval_sec", SECONDS),
        field("enable_health_check", Bool),
        field("healthy_threshold", SECONDS),
        field("host", Text),
        field("restart_threshold", SECONDS),
        field("timeout_sec", SECONDS),
        field("unhealthy_threshold", SECONDS),
    ],
};

pub(super) const LIVENESS: Shape = Shape {
    class: "LivenessCheck",
    what: "`liveness_check`",
    fields: &[
        field("check_interval_sec", SECONDS),
        field("failure_threshold", SECONDS),
        field("host", Text),
        field("initial_delay_sec", SECONDS),
        field("path", Text),
        field("success_threshold", SECONDS),
        field("timeout_sec", SECONDS),
    ],
};

pub(super) const READINESS: Shape = Shape {
    class: "ReadinessCheck",
    what: "`readiness_check`",
    fields: &[
        field("app_start_timeout_sec", SECONDS),
        field("check_interval_sec", SECONDS),
        field("failure_threshold", SECONDS),
        field("host", Text),
        field("path", Text),
        field("success_threshold", SECONDS),
        field("timeout_sec", SECONDS),
    ],
};
