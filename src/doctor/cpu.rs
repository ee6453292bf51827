//! Checks of the cores that receivers and workers are planned on.

use crate::check::{Check, Status, core_list, counted, on_cores, word};
use crate::files::Files;
use crate::nic::interface::{Interface, sys};
use crate::parse;
use crate::wanted::Wanted;

const CPU: &str = "/sys/devices/system/cpu";

pub(crate) fn checks(files: &Files, interfaces: &[Interface], wanted: &Wanted) -> Vec<Check> {
    let mut cores = wanted.receiver_cores.clone();
    cores.extend(&wanted.worker_cores);
    cores.sort_unstable();
    cores.dedup();
    let mut checks = vec![
        plan(wanted),
        governor(files, &cores),
        isolated(files, wanted, &cores),
        quota(files, &cores),
        clock(files),
        mitigations(files),
    ];
    checks.extend(interfaces.iter().filter_map(|interface| numa(files, interface, wanted, &cores)));
    checks
}

fn plan(wanted: &Wanted) -> Check {
    let (receivers, workers) = (&wanted.receiver_cores, &wanted.worker_cores);
    let workers = match workers.len() {
        0 => "handlers on the receivers".to_owned(),
        count => format!("{} on {}", counted(count, "worker"), on_cores(workers)),
    };
    let found =
        format!("{} on {}, {workers}", counted(receivers.len(), "receiver"), on_cores(receivers));
    Check::of("plan", "sched_getaffinity(2), cgroup").says(
        Status::Ok,
        &found,
        "What this host is examined for; --receivers, --workers and --cores change it.",
    )
}

fn governor(files: &Files, cores: &[usize]) -> Check {
    let check = Check::of("governor", format!("{CPU}/cpu*/cpufreq/scaling_governor"));
    let read = |core: &usize| files.read(&format!("{CPU}/cpu{core}/cpufreq/scaling_governor"));
    let mut named: Vec<String> = Vec::new();
    for text in cores.iter().map(read) {
        match text {
            Ok(text) => named.push(text.trim().to_owned()),
            Err(why) if why == "not there" && files.exists(CPU) => {
                return check.says(Status::Ok, "no frequency scaling",
            "The frequency is not this kernel's to choose (a virtual machine, or switched off).");
            }
            Err(why) => return check.unknown(&why),
        }
    }
    named.sort();
    named.dedup();
    let found = named.join(", ");
    if named.iter().all(|name| name == "performance") {
        return check.says(Status::Ok, &found, "The cores run at full speed when datagrams come.");
    }
    let status = if named
        .iter()
        .any(|name| name == "powersave" || name == "ondemand" || name == "conservative")
    {
        Status::Warning
    } else {
        Status::Info
    };
    check
        .says(
            status,
            &found,
            "A core that slept has to speed up first when a burst comes; the socket buffer fills \
             meanwhile.",
        )
        .mended_by("echo performance | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")
}

fn isolated(files: &Files, wanted: &Wanted, cores: &[usize]) -> Check {
    let path = format!("{CPU}/isolated");
    let check = Check::of("isolated_cores", path.clone());
    let text = match files.read(&path) {
        Ok(text) => text,
        Err(why) => return check.unknown(&why),
    };
    let Some(isolated) = parse::core_list(&text) else {
        return check.unknown(&format!("not a list of cores: {}", text.trim()));
    };
    let unused: Vec<usize> =
        isolated.iter().copied().filter(|core| !cores.contains(core)).collect();
    match (isolated.is_empty(), unused.is_empty()) {
        (true, _) => {
            check.says(Status::Ok, "none", "No core is kept free of other programs (isolcpus).")
        }
        (false, true) => check.says(
            Status::Ok,
            &core_list(&isolated),
            "The cores kept free of other programs are those planned.",
        ),
        (false, false) => check
            .says(
                Status::Info,
                &core_list(&isolated),
                &format!(
                    "Cores are kept free of other programs, and the plan uses {}.",
                    core_list(cores)
                ),
            )
            .mended_by(&format!(
                "taskset -c {0} {1} --cores {0}",
                core_list(&isolated),
                wanted.listen_command()
            )),
    }
}

fn quota(files: &Files, cores: &[usize]) -> Check {
    let check = Check::of("cgroup_quota", "cpu.max, cpu.cfs_quota_us of /proc/self/cgroup");
    let groups = match files.read("/proc/self/cgroup") {
        Ok(groups) => groups,
        Err(why) => return check.unknown(&why),
    };
    let Some(quota) = tightest(files, &groups) else {
        return check.says(Status::Ok, "none", "This process may use its cores all the time.");
    };
    let found = format!("{}.{:02} cores", quota.hundredths / 100, quota.hundredths % 100);
    if quota.hundredths >= cores.len() as u64 * 100 {
        return check.says(Status::Ok, &found, "Enough for every core planned.");
    }
    check
        .says(
            Status::Warning,
            &found,
            "The cgroup stops all its threads when its share of a period is used up: for tens of \
             milliseconds nothing is received. For good: CPUQuota= in a unit of systemd, --cpus of \
             a container.",
        )
        .mended_by(&format!("echo {} > {}", quota.none, word(&quota.file)))
}

/// A limit of a cgroup's CPU time.
struct Quota {
    /// CPU time granted, in hundredths of a core.
    hundredths: u64,
    file: String,
    /// Text that means no quota in that file.
    none: &'static str,
}

/// Returns the tightest quota on the way from this process's cgroup to the root; `None`: there is none.
fn tightest(files: &Files, groups: &str) -> Option<Quota> {
    let mut quotas = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let second = id == "0" && controllers.is_empty();
        if !second && !controllers.split(',').any(|controller| controller == "cpu") {
            continue;
        }
        let mut group = path.trim_matches('/');
        loop {
            quotas.extend(if second { quota_v2(files, group) } else { quota_v1(files, group) });
            if group.is_empty() {
                break;
            }
            group = group.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
    }
    quotas.into_iter().min_by_key(|quota| quota.hundredths)
}

/// Reads the quota of a cgroup v2: `50000 100000`, or `max 100000` where there is none.
fn quota_v2(files: &Files, group: &str) -> Option<Quota> {
    let file = format!("/sys/fs/cgroup/{group}/cpu.max").replace("//", "/");
    let &[quota, period] = parse::numbers(&files.read(&file).ok()?).as_slice() else { return None };
    let hundredths = quota.checked_mul(100)?.checked_div(period)?;
    Some(Quota { hundredths, file, none: "max" })
}

/// Reads the quota of a cgroup v1, mounted as `cpu` or together with `cpuacct`; -1 where there is none.
fn quota_v1(files: &Files, group: &str) -> Option<Quota> {
    ["cpu", "cpu,cpuacct"].iter().find_map(|mount| {
        let dir = format!("/sys/fs/cgroup/{mount}/{group}").trim_end_matches('/').to_owned();
        let file = format!("{dir}/cpu.cfs_quota_us");
        let quota = files.number(&file).ok()?;
        let period = files.number(&format!("{dir}/cpu.cfs_period_us")).ok()?;
        let hundredths = quota.checked_mul(100)?.checked_div(period)?;
        Some(Quota { hundredths, file, none: "-1" })
    })
}

fn clock(files: &Files) -> Check {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let check = Check::of("clock_source", path);
    let text = match files.read(path) {
        Ok(text) => text,
        Err(why) => return check.unknown(&why),
    };
    let name = text.trim();
    let dir = "/sys/devices/system/clocksource/clocksource0";
    let available = files.read(&format!("{dir}/available_clocksource")).unwrap_or_default();
    match name {
        "tsc" | "kvm-clock" | "arch_sys_counter" | "hyperv_clocksource_tsc_page" => {
            check.says(Status::Ok, name, "Time is read without a system call.")
        }
        _ => {
            let check = check.says(
                Status::Warning,
                name,
                "Every look at the clock is a system call: each batch and each timestamp pays it.",
            );
            match available.split_whitespace().find(|other| ["tsc", "kvm-clock"].contains(other)) {
                Some(better) => check.mended_by(&format!("echo {better} > {path}")),
                None => check,
            }
        }
    }
}

fn mitigations(files: &Files) -> Check {
    let dir = format!("{CPU}/vulnerabilities");
    let check = Check::of("mitigations", format!("{dir}/*"));
    let names = files.names(&dir);
    if names.is_empty() {
        return check.unknown("not there");
    }
    let active: Vec<String> = names
        .into_iter()
        .filter(|name| {
            files.read(&format!("{dir}/{name}")).is_ok_and(|text| text.starts_with("Mitigation"))
        })
        .collect();
    match active.is_empty() {
        true => {
            check.says(Status::Ok, "none active", "System calls cost what the CPU takes for them.")
        }
        false => check.says(
            Status::Info,
            &format!("against {}", active.join(", ")),
            "They make each system call dearer, which counts where datagrams come one by one; \
             batches and trains hardly notice.",
        ),
    }
}

/// Checks whether card and cores are of one NUMA node: cores of another node pay for every byte.
fn numa(files: &Files, interface: &Interface, wanted: &Wanted, cores: &[usize]) -> Option<Check> {
    let path = sys(&interface.name, "device/numa_node");
    if !interface.physical || !interface.up {
        return None;
    }
    let check = interface.check("numa", format!("{path}, /sys/devices/system/node"));
    let node = match files.read(&path) {
        Ok(node) => node,
        // A virtio device has it on the PCI device above.
        Err(_) => match files.read(&sys(&interface.name, "device/../numa_node")) {
            Ok(node) => node,
            Err(why) => return Some(check.unknown(&why)),
        },
    };
    let Ok(node) = node.trim().parse::<u32>() else {
        return Some(check.says(
            Status::Ok,
            "no node",
            "This host has one NUMA node, or the card's is not known.",
        ));
    };
    let list = files.read(&format!("/sys/devices/system/node/node{node}/cpulist")).ok();
    let Some(near) = list.as_deref().and_then(parse::core_list) else {
        return Some(check.unknown(&format!("the cores of node {node} are not known")));
    };
    let far: Vec<usize> = cores.iter().copied().filter(|core| !near.contains(core)).collect();
    let found = format!("node {node} (cores {}), planned {}", core_list(&near), core_list(cores));
    Some(match far.is_empty() {
        true => check.says(Status::Ok, &found, "Card and cores are of one node."),
        false => check
            .says(
                Status::Warning,
                &found,
                "Cores of another node fetch every frame across the interconnect.",
            )
            .mended_by(&format!("{} --cores {}", wanted.listen_command(), core_list(&near))),
    })
}
