//! How large a pod is and how many there may be. One instance of App Engine becomes one pod: its class says what it is
//! given, and it has as many workers as that has cores.

use super::Request;
use crate::settings::{Origin, Settings};

/// Name, thousandths of a core, MiB: App Engine's classes, 600 MHz taken as a quarter of a core.
const CLASSES: [(&str, u32, u32); 10] = [
    ("F1", 250, 384),
    ("F2", 500, 768),
    ("F4", 1000, 1536),
    ("F4_1G", 1000, 3072),
    ("F4_HIGHMEM", 1000, 3072),
    ("B1", 250, 384),
    ("B2", 500, 768),
    ("B4", 1000, 1536),
    ("B4_1G", 1000, 3072),
    ("B8", 2000, 3072),
];
/// Of the flexible environment, where `resources` does not say.
const FLEXIBLE: (u32, u32) = (1000, 614);
/// Of a pod that only serves files.
const FILES: (u32, u32) = (50, 64);
/// What compat-proxy takes beside its cache of static files, MiB.
const PROXY: u32 = 64;
/// Where nothing says how many pods there may be.
const LEAST: u32 = 2;
const MOST: u32 = 10;
/// App Engine's own default of `target_cpu_utilization`, in percent.
const TARGET_CPU: u32 = 60;
/// More of either is a slip in the file, and no sum below can overflow.
const MOST_MILLICORES: u32 = 512_000;
const MOST_MEBIBYTES: u32 = 4 * 1024 * 1024;

/// One pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// Worker processes; none when only files are served.
    pub(super) workers: Option<u32>,
    /// Thousandths of a core asked for. There is no limit: idle processor time is for whoever wants it.
    pub(super) millicores: u32,
    /// MiB asked for.
    pub(super) memory: u32,
    /// MiB at most.
    pub(super) memory_limit: u32,
    /// How many pods.
    pub(super) pods: Pods,
}

/// How many pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pods {
    /// `manual_scaling`.
    Fixed(u32),
    /// As many as the load asks for.
    Range {
        /// Never fewer.
        least: u32,
        /// Never more.
        most: u32,
        /// Percent of the processor asked for that each is to use.
        target_cpu: u32,
    },
}

/// The size of this app's pods. What app.yaml says and cannot be had is remarked upon.
pub(super) fn of(request: &Request<'_>, remarks: &mut Vec<String>) -> Size {
    let (millicores, memory) = if request.only_files { FILES } else { instance(request, remarks) };
    // As many workers as an instance has cores; who wants more of them wants them as large.
    let natural = millicores.div_ceil(1000);
    let workers = (!request.only_files).then(|| chosen(request.settings).unwrap_or(natural));
    let times = |amount: u32| match workers {
        Some(workers) => u32::try_from(u64::from(amount) * u64::from(workers) / u64::from(natural)),
        None => Ok(amount),
    };
    let millicores = times(millicores).unwrap_or(MOST_MILLICORES);
    let memory = times(memory).unwrap_or(MOST_MEBIBYTES);
    let cache = request.settings.static_cache.value.as_u64().div_ceil(bytesize::MIB);
    let cache = u32::try_from(cache).unwrap_or(MOST_MEBIBYTES);
    Size {
        workers,
        millicores,
        memory,
        memory_limit: memory.saturating_add(PROXY).saturating_add(cache),
        pods: pods(request, remarks),
    }
}

/// What an instance has on App Engine: thousandths of a core and MiB.
fn instance(request: &Request<'_>, remarks: &mut Vec<String>) -> (u32, u32) {
    let sizing = &request.app.sizing;
    let resident = request.app.manual_instances.is_some() || request.app.basic_scaling;
    let class = |name: &str| {
        let found = CLASSES.iter().find(|(known, ..)| *known == name);
        found.map(|(_, millicores, memory)| (*millicores, *memory))
    };
    let default = if request.app.vm { Some(FLEXIBLE) } else { class(if resident { "B2" } else { "F1" }) };
    let default = default.unwrap_or(FLEXIBLE);
    let (cores, memory) = match sizing.instance_class.as_deref() {
        Some(name) => class(&name.to_ascii_uppercase()).unwrap_or_else(|| {
            remarks.push(format!("`instance_class: {name}` is not one we know: check the pod's `resources`"));
            default
        }),
        None => default,
    };
    let whole = |amount: f64, most: u32| {
        // In range by `clamp`, and a fraction of a MiB is nobody's wish.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and a u32")]
        let whole = amount.clamp(1.0, f64::from(most)).ceil() as u32;
        whole
    };
    (
        sizing.cpu.map_or(cores, |cores| whole(cores * 1000.0, MOST_MILLICORES)),
        sizing.memory_gb.map_or(memory, |gigabytes| whole(gigabytes * 1024.0, MOST_MEBIBYTES)),
    )
}

/// The number of workers that somebody chose; `auto` would count the cores of the node.
fn chosen(settings: &Settings) -> Option<u32> {
    let workers = &settings.workers;
    let chosen = matches!(workers.origin, Origin::Flag | Origin::File(_)) && !workers.value.auto;
    chosen.then(|| u32::try_from(workers.value.number).ok()).flatten()
}

fn pods(request: &Request<'_>, remarks: &mut Vec<String>) -> Pods {
    if let Some(instances) = request.app.manual_instances {
        return Pods::Fixed(instances.get());
    }
    let sizing = &request.app.sizing;
    if sizing.least == Some(0) || request.app.basic_scaling {
        remarks.push(
            "App Engine would stop the last instance when there is nothing to do; here one pod stays"
                .to_owned(),
        );
    }
    let (least, most) = match (sizing.least.map(|least| least.max(1)), sizing.most) {
        (Some(least), Some(most)) => (least.min(most), most),
        (Some(least), None) => (least, MOST.max(least)),
        (None, Some(most)) => (if request.app.basic_scaling { 1 } else { LEAST.min(most) }, most),
        (None, None) => (LEAST, MOST),
    };
    let percent = |target: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 100")]
        let percent = (target * 100.0).round().clamp(1.0, 100.0) as u32;
        percent
    };
    Pods::Range { least, most, target_cpu: sizing.target_cpu.map_or(TARGET_CPU, percent) }
}
