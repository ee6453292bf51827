//! `--plan`: prints the plan of an engine on stdout, without opening anything.

use std::io::{self, Write};

use ringest::Plan;
use ringest_engine::control::bind::Membership;

use crate::cli::failure::Failure;
use crate::cli::show::paint;
use crate::cli::show::paint::Paint;

/// Prints the plan.
pub(crate) fn print(plan: &Plan) -> Result<(), Failure> {
    let text = render(plan, Paint::stdout());
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::stdout(&error))
}

fn render(plan: &Plan, paint: Paint) -> String {
    let mut text = format!("{}\n\n", paint.bold("ringest plan: nothing was opened"));
    for address in &plan.listen {
        let alone = if address.only_v6 { " (IPv6 alone)" } else { "" };
        text += &format!("  {:<14}{}{alone}\n", "listen", address.address);
        for Membership { group, receiver } in &address.groups {
            text += &format!("  {:<14}{group}, by receiver {receiver}\n", "  join");
        }
    }
    text.push('\n');
    for (index, core) in plan.receiver_cores.iter().enumerate() {
        text += &format!("  {:<14}core {core}\n", format!("receiver {index}"));
    }
    for (index, core) in plan.worker_cores.iter().enumerate() {
        text += &format!("  {:<14}core {core}\n", format!("worker {index}"));
    }
    if plan.worker_cores.is_empty() {
        text += "  no workers    datagrams are handled on the receivers\n";
    }
    text += &format!("\n  {}\n", paint.bold("Memory of the process"));
    for line in plan.bill.iter().filter(|line| !line.kernel && line.bytes > 0) {
        text += &row(line.bytes, &line.holder);
    }
    text += &paint.bold(row(plan.memory_bytes(), "total, held from start to end").trim_end());
    text.push('\n');
    for line in plan.bill.iter().filter(|line| line.kernel) {
        text += &row(line.bytes, &format!("{} (not in the total)", line.holder));
    }
    for warning in &plan.warnings {
        text += &format!("\n{} {warning}\n", paint.yellow("warning:"));
    }
    text
}

fn row(bytes: usize, holder: &str) -> String {
    format!("  {:>10}  {holder}\n", paint::bytes(bytes as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringest::{Engine, ListenAddr};

    #[test]
    fn every_thread_and_every_line_of_the_bill_is_shown() {
        let address: ListenAddr = "127.0.0.1:9000".parse().unwrap();
        let plan = Engine::builder().listen(address).receivers(1).workers(1).plan().unwrap();
        let text = render(&plan, Paint::PLAIN);
        for wanted in ["127.0.0.1:9000", "receiver 0", "worker 0", "total"] {
            assert!(text.contains(wanted), "{wanted}:\n{text}");
        }
        assert!(plan.bill.iter().all(|line| line.bytes == 0 || text.contains(&line.holder)));
        let inline = Engine::builder().listen(address).workers(0).plan().unwrap();
        assert!(render(&inline, Paint::PLAIN).contains("handled on the receivers"));
    }
}
