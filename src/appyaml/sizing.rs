//! What an app asks of whoever places it: how large an instance is and how many there may be. Nothing of this acts
//! while serving; `export` reads it.

use super::raw::Node;

/// The fields of app.yaml that say where and how often an app runs, as far as they are given and make sense.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sizing {
    /// `instance_class`, such as `F2`.
    pub instance_class: Option<String>,
    /// `resources.cpu` of the flexible environment, in cores.
    pub cpu: Option<f64>,
    /// `resources.memory_gb` of the flexible environment.
    pub memory_gb: Option<f64>,
    /// `automatic_scaling.min_instances`, else `min_num_instances`, else `min_idle_instances`.
    pub least: Option<u32>,
    /// `max_instances` of automatic or basic scaling, else `max_num_instances`.
    pub most: Option<u32>,
    /// `automatic_scaling.target_cpu_utilization`, else `cpu_utilization.target_utilization`: above 0, at most 1.
    pub target_cpu: Option<f64>,
    /// `readiness_check.path` of the flexible environment.
    pub readiness_path: Option<String>,
}

/// Reads app.yaml; the tables of `fields` have checked the values.
pub(super) fn read(node: Node<'_>) -> Sizing {
    let automatic = node.get("automatic_scaling");
    let number = |names: &[&str]| {
        let given = |name: &&str| automatic?.text_at(name)?.trim().parse().ok();
        names.iter().find_map(given)
    };
    let basic = || node.get("basic_scaling")?.text_at("max_instances")?.trim().parse().ok();
    let positive = |node: Option<Node<'_>>, name: &str| {
        let number: f64 = node?.text_at(name)?.trim().parse().ok()?;
        (number.is_finite() && number > 0.0).then_some(number)
    };
    let utilization = automatic.and_then(|node| node.get("cpu_utilization"));
    let target = positive(automatic, "target_cpu_utilization");
    let target = target.or_else(|| positive(utilization, "target_utilization"));
    let resources = node.get("resources");
    Sizing {
        instance_class: node.text_at("instance_class").filter(|text| !text.is_empty()),
        cpu: positive(resources, "cpu"),
        memory_gb: positive(resources, "memory_gb"),
        least: number(&["min_instances", "min_num_instances", "min_idle_instances"]),
        most: number(&["max_instances", "max_num_instances"]).or_else(basic).filter(|most| *most > 0),
        target_cpu: target.filter(|target| *target <= 1.0),
        readiness_path: node
            .get("readiness_check")
            .and_then(|check| check.text_at("path"))
            .filter(|path| path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(yaml: &str) -> Sizing {
        let text = format!("runtime: python39\n{yaml}");
        let mut read = |_: &std::path::Path| Ok(text.as_bytes().to_vec());
        crate::appyaml::load(std::path::Path::new("app.yaml"), &mut read).app.unwrap().sizing
    }

    #[test]
    fn each_kind_of_scaling_says_how_many() {
        let counts = |yaml: &str| (of(yaml).least, of(yaml).most);
        assert_eq!(counts(""), (None, None));
        assert_eq!(
            counts("automatic_scaling:\n  min_instances: 3\n  max_instances: 9\n"),
            (Some(3), Some(9))
        );
        assert_eq!(
            counts("automatic_scaling:\n  min_idle_instances: 4\n  max_idle_instances: 5\n"),
            (Some(4), None)
        );
        assert_eq!(counts("automatic_scaling:\n  min_idle_instances: automatic\n"), (None, None));
        assert_eq!(
            counts("automatic_scaling:\n  min_instances: -1\n  max_instances: 0\n"),
            (None, None),
            "the SDK takes them"
        );
        assert_eq!(counts("basic_scaling:\n  max_instances: 7\n  idle_timeout: 10m\n"), (None, Some(7)));
        assert_eq!(
            counts("env: flex\nautomatic_scaling:\n  min_num_instances: 2\n  max_num_instances: 6\n"),
            (Some(2), Some(6))
        );
    }

    #[test]
    fn sizes_and_targets_are_read_where_they_make_sense() {
        let sizing = of("instance_class: F4\nautomatic_scaling:\n  target_cpu_utilization: 0.75\n");
        assert_eq!((sizing.instance_class.as_deref(), sizing.target_cpu), (Some("F4"), Some(0.75)));
        assert_eq!(of("automatic_scaling:\n  target_cpu_utilization: 7.5\n").target_cpu, None);
        let flexible = "env: flex\nresources:\n  cpu: 2\n  memory_gb: 2.3\nautomatic_scaling:\n  cpu_utilization:\n    \
                        target_utilization: 0.5\nreadiness_check:\n  path: /ready\n";
        let sizing = of(flexible);
        assert_eq!((sizing.cpu, sizing.memory_gb, sizing.target_cpu), (Some(2.0), Some(2.3), Some(0.5)));
        assert_eq!(sizing.readiness_path.as_deref(), Some("/ready"));
    }
}
