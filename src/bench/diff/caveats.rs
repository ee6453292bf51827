//! Reasons why two reports may differ that have nothing to do with the change under study.

use crate::document::facts::HostFacts;
use crate::document::report::{Mode, Report, Setting};
use crate::report::findings::warnings;
use ringest_base::text::figures;

/// Returns the caveats, the most serious first.
pub(crate) fn caveats(before: &Report, after: &Report) -> Vec<String> {
    let mut caveats = Vec::new();
    let listed = |intro: &str, differences: Vec<String>| {
        (!differences.is_empty()).then(|| format!("{intro}: {}.", differences.join("; ")))
    };
    let mut settings = settings(&before.setting, &after.setting);
    if before.loopback != after.loopback {
        let over = |report: &Report| if report.loopback { "loopback" } else { "network" };
        settings.push(differs("over", &over(before), &over(after)));
    }
    caveats.extend(listed(
        "The settings differ, so the two answer different questions and a change says nothing of the \
         host or of ringest",
        settings,
    ));
    caveats.extend(listed("The receiving hosts differ", hosts(&before.host, &after.host)));
    if !(before.loopback && after.loopback) {
        caveats.extend(listed("The sending hosts differ", hosts(&before.sender, &after.sender)));
    }
    for (which, report) in [("first", before), ("second", after)] {
        let behind =
            warnings(report).into_iter().filter(|w| w.to_lowercase().contains("generator"));
        caveats.extend(behind.take(1).map(|warning| format!("In the {which}: {warning}")));
    }
    if before.ringest != after.ringest {
        caveats.push(format!(
            "{}.",
            differs("ringest itself differs", &before.ringest, &after.ringest)
        ));
    }
    match before.mode {
        Mode::Latency => caveats.push(
            "Intervals of percentiles take each datagram as independent. Delays come in groups, so \
             repeat the run before believing a small change."
                .to_owned(),
        ),
        Mode::Ndr => caveats.push(
            "Bounds of a search are not a confidence interval: repeat the run before believing a \
             small change."
                .to_owned(),
        ),
        Mode::Compare | Mode::Burst | Mode::Curve => {}
    }
    caveats
}

fn differs(name: &str, before: &impl ToString, after: &impl ToString) -> String {
    let [before, after] =
        [before.to_string(), after.to_string()].map(|text| figures::cut(&text, 80));
    format!("{name} {before} → {after}")
}

fn settings(before: &Setting, after: &Setting) -> Vec<String> {
    let all = |setting: &Setting| {
        [
            ("size", setting.size.clone()),
            ("train", setting.train.to_string()),
            ("flows", setting.flows.to_string()),
            ("threads", setting.threads.to_string()),
            ("pattern", setting.pattern.clone()),
            ("seconds a trial", setting.trial_s.to_string()),
            ("backend", setting.backend.clone()),
            ("UDP_GRO", setting.gro.to_string()),
            ("receiver cores", format!("{:?}", setting.receiver_cores)),
            ("worker cores", format!("{:?}", setting.worker_cores)),
            ("sender cores", format!("{:?}", setting.sender_cores)),
            ("rcvbuf granted", setting.rcvbuf_granted_bytes.to_string()),
        ]
    };
    let all = |setting| all(setting).map(|(name, value)| (name.to_owned(), value));
    pairs(all(before).into(), &all(after))
}

fn hosts(before: &HostFacts, after: &HostFacts) -> Vec<String> {
    let all = |host: &HostFacts| {
        let facts = [
            ("host", host.hostname.clone()),
            ("CPU", host.cpu.clone()),
            ("cores", host.cores.len().to_string()),
            ("kernel", host.kernel.clone()),
            ("governor", host.governor.clone()),
            ("mitigations", host.mitigations.join(", ")),
            ("virtual machine", host.virtual_machine.to_string()),
        ];
        let facts = facts.map(|(name, value)| (name.to_owned(), value));
        facts.into_iter().chain(host.sysctls.iter().cloned()).collect::<Vec<_>>()
    };
    pairs(all(before), &all(after))
}

/// Describes the facts that both reports have with different values.
fn pairs(before: Vec<(String, String)>, after: &[(String, String)]) -> Vec<String> {
    let changed = |(name, old): (String, String)| {
        let (_, new) = after.iter().find(|(other, _)| *other == name)?;
        (old != *new).then(|| differs(&figures::cut(&name, 40), &old, new))
    };
    before.into_iter().filter_map(changed).collect()
}
