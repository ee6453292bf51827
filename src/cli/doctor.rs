//! `ringest doctor`: examines this host, and prints the commands that fix what it finds.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::Args;
use ringest::ListenAddr;
use ringest_base::text::values::{ByteSize, Cores, Threads};
use ringest_doctor::check::{Check, Status};
use ringest_doctor::examine::examine;
use ringest_doctor::wanted::Wanted;
use ringest_engine::control::listen::ListenTarget;
use ringest_engine::control::settings::Settings;
use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::show::json;
use crate::cli::show::paint;
use crate::cli::show::paint::Paint;

const EXAMPLES: &str = "\
Examples:
  ringest doctor                                   find what loses datagrams on this host
  ringest doctor '*:514'                           and what prevents listening there
  ringest doctor '*:9000' --receivers 4            with the queues and buffers 4 receivers need
  ringest doctor '*:514' --json                    the same for a script
  ringest doctor --sysctl > /etc/sysctl.d/60-ringest.conf && sysctl --system

A failure prevents receiving. A warning loses datagrams under load, or shows that some were lost since \
boot. Info is a fact to know. Nothing is changed. Run it as root to see other users' processes and the \
packet filter.

Exit codes: 0 no failure, 1 a failure was found, 2 wrong usage.";

/// Find what loses datagrams on this host, and the commands that fix it
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// Where to listen: IP:PORT, [IP6]:PORT or *:PORT [default: examine the host only]
    #[arg(value_name = "ADDR", value_parser = address)]
    address: Option<ListenAddr>,

    /// Receiver threads to examine the host for [default: half of the cores]
    #[arg(
        long,
        value_name = "N|auto",
        default_value = "auto",
        hide_default_value = true,
        help_heading = "For what"
    )]
    receivers: Threads,
    /// Worker threads [default: the other cores]
    #[arg(
        long,
        value_name = "N|auto",
        default_value = "auto",
        hide_default_value = true,
        help_heading = "For what"
    )]
    workers: Threads,
    /// Cores to use, such as 0,2-3 [default: all this process may use]
    #[arg(long, value_name = "LIST", help_heading = "For what")]
    cores: Option<Cores>,
    /// Receive buffer per socket, such as 65536, 64K, 1.5G (powers of 1024) or 10MB (powers of 1000)
    #[arg(long, value_name = "SIZE", default_value = "4M", help_heading = "For what")]
    rcvbuf: ByteSize,

    /// Explain good results too: what they mean and where they were read
    #[arg(long, short, help_heading = "Output")]
    verbose: bool,
    /// Print all checks as one JSON object on stdout
    #[arg(long, conflicts_with_all = ["sysctl", "verbose"], help_heading = "Output")]
    json: bool,
    /// Print the recommended kernel settings on stdout, as a file for /etc/sysctl.d
    #[arg(long, conflicts_with = "verbose", help_heading = "Output")]
    sysctl: bool,
}

fn address(text: &str) -> Result<ListenAddr, String> {
    match text.parse()? {
        ListenTarget::Address(address) => Ok(address),
        ListenTarget::Name(..) => {
            Err("expected IP:PORT, [IP6]:PORT or *:PORT; names are not looked up here".to_owned())
        }
    }
}

pub(crate) fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let checks = examine(&args.wanted()?);
    if args.json {
        json::print_line(&result(&checks))?;
    } else if args.sysctl {
        print(&drop_in(&checks))?;
    } else {
        print(&render(&checks, args.verbose, Paint::stdout()))?;
    }
    judge(&checks)
}

impl DoctorArgs {
    fn wanted(&self) -> Result<Wanted, Failure> {
        let settings = Settings {
            receivers: Some(self.receivers),
            workers: Some(self.workers),
            cores: self.cores.clone(),
            rcvbuf: Some(self.rcvbuf),
            ..Settings::default()
        };
        let mut wanted = Wanted::plan(&settings.config([])?)?;
        if let Some(address) = self.address {
            // `*:PORT` is one address with IPv6 and another without: both are looked at.
            let (six, four) = (address.resolve(true), address.resolve(false));
            wanted.any = six != four;
            wanted.addresses = if wanted.any { vec![four, six] } else { vec![six] };
        }
        Ok(wanted)
    }
}

/// Returns an error that names the failed checks. It goes to stderr: with --json or --sysctl stdout may be a file.
fn judge(checks: &[Check]) -> Result<(), Failure> {
    let failed: Vec<&str> =
        checks.iter().filter(|c| c.status == Status::Failure).map(|c| c.id.as_str()).collect();
    match failed.as_slice() {
        [] => Ok(()),
        failed => Err(Failure::Failed(format!(
            "this host cannot receive as asked: {} failed",
            failed.join(", ")
        ))),
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::stdout(&error))
}

/// The JSON object of `--json`. Its keys and their order are a contract with scripts.
#[derive(Serialize)]
struct DoctorResult<'a> {
    version: u32,
    checks: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    status: Status,
    found: &'a str,
    source: &'a str,
    meaning: &'a str,
    fix: &'a str,
}

fn result(checks: &[Check]) -> DoctorResult<'_> {
    DoctorResult { version: 1, checks: checks.iter().map(Row::of).collect() }
}

impl<'a> Row<'a> {
    fn of(check: &'a Check) -> Self {
        let Check { id, status, found, source, meaning, fix, .. } = check;
        Self { id, status: *status, found, source, meaning, fix }
    }
}

/// Returns a file for /etc/sysctl.d (sysctl.d(5)): each setting once, with the value that was found.
fn drop_in(checks: &[Check]) -> String {
    let mut settings: BTreeMap<&str, (&Check, &str)> = BTreeMap::new();
    for (check, sysctl) in checks.iter().filter_map(|c| Some((c, c.sysctl.as_ref()?))) {
        let entry = settings.entry(sysctl.key).or_insert((check, &sysctl.value));
        let number = |value: &str| value.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok());
        if number(&sysctl.value) > number(entry.1) {
            *entry = (check, &sysctl.value);
        }
    }
    let mut text = String::from("# By `ringest doctor --sysctl`.\n");
    if settings.is_empty() {
        text +=
            "# Every kernel setting that ringest examines is as it should be: nothing to set.\n";
    }
    for (key, (check, value)) in settings {
        text += "\n";
        let why = format!("{}: found {}. {}", check.id, check.found, check.meaning);
        for line in paint::lines(&why, 96) {
            text += &format!("# {line}\n");
        }
        text += &format!("{key} = {value}\n");
    }
    text
}

/// Columns of a status and of a name. A longer one moves the text beside it.
const STATUS_WIDTH: usize = 9;
const NAME_WIDTH: usize = 28;
const INDENT: usize = 4 + STATUS_WIDTH;

/// Returns all checks as text.
fn render(checks: &[Check], verbose: bool, paint: Paint) -> String {
    let mut text = String::new();
    let mut area = None;
    for check in checks {
        if area.replace(check.area) != Some(check.area) {
            text += &format!("\n{}\n", paint.bold(check.area.title()));
        }
        text += &shown(check, verbose, paint);
    }
    text + &counts(checks, paint)
}

fn name(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Info => "info",
        Status::Unknown => "unknown",
        Status::Warning => "warning",
        Status::Failure => "FAILURE",
    }
}

fn coloured(status: Status, text: &str, paint: Paint) -> String {
    match status {
        Status::Ok => paint.green(text),
        Status::Info => paint.bold(text),
        Status::Unknown => paint.dim(text),
        Status::Warning => paint.yellow(text),
        Status::Failure => paint.red(text),
    }
}

/// Returns one check: a line with the finding; unless the result is good, also what it means, the command that fixes
/// it, and where it was read.
fn shown(check: &Check, verbose: bool, paint: Paint) -> String {
    let status = coloured(check.status, &format!("{:<STATUS_WIDTH$}", name(check.status)), paint);
    let found = paint::paragraph(&check.found, INDENT + NAME_WIDTH);
    let mut text = format!("  {status}  {:<NAME_WIDTH$}{}\n", check.id, found.trim());
    let quiet = matches!(check.status, Status::Ok | Status::Unknown);
    if quiet && !verbose {
        return text;
    }
    text += &paint::paragraph(&check.meaning, INDENT);
    if !check.fix.is_empty() {
        // Never wrapped: it is made to be copied.
        text += &format!("{:INDENT$}{} {}\n", "", paint.dim("run: "), paint.bold(&check.fix));
    }
    let from = format!("{:INDENT$}from  {}", "", check.source);
    text + &paint.dim(&from) + "\n"
}

fn counts(checks: &[Check], paint: Paint) -> String {
    let order = [Status::Failure, Status::Warning, Status::Info, Status::Unknown, Status::Ok];
    let parts = order.iter().filter_map(|status| {
        let count = checks.iter().filter(|check| check.status == *status).count();
        let word = match (status, count) {
            (_, 0) => return None,
            (Status::Failure, 1) => "failure",
            (Status::Failure, _) => "failures",
            (Status::Warning, 2..) => "warnings",
            (status, _) => name(*status),
        };
        Some(coloured(*status, &format!("{count} {word}"), paint))
    });
    format!("\n{} checks: {}\n", checks.len(), parts.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringest_doctor::check::{Area, Sysctl};

    fn check(id: &str, status: Status, fix: &str) -> Check {
        Check {
            id: id.to_owned(),
            area: Area::Buffers,
            status,
            found: "208 KiB".to_owned(),
            source: "/proc/x".to_owned(),
            meaning: "It is small.".to_owned(),
            fix: fix.to_owned(),
            sysctl: None,
        }
    }

    fn setting(id: &str, key: &'static str, value: &str) -> Check {
        let sysctl = Some(Sysctl { key, value: value.to_owned() });
        Check { sysctl, ..check(id, Status::Warning, "x") }
    }

    #[test]
    fn keys_and_their_order_are_the_contract() {
        let checks = [check("rmem_max", Status::Warning, "sysctl -w net.core.rmem_max=1")];
        assert_eq!(
            serde_json::to_string(&result(&checks)).unwrap(),
            r#"{"version":1,"checks":[{"id":"rmem_max","status":"warning","found":"208 KiB","source":"/proc/x","meaning":"It is small.","fix":"sysctl -w net.core.rmem_max=1"}]}"#
        );
        let words: Vec<_> =
            [Status::Ok, Status::Info, Status::Warning, Status::Failure, Status::Unknown]
                .iter()
                .map(|status| serde_json::to_string(status).unwrap())
                .collect();
        assert_eq!(words, [r#""ok""#, r#""info""#, r#""warning""#, r#""failure""#, r#""unknown""#]);
    }

    #[test]
    fn what_is_fine_takes_a_line_and_the_rest_is_explained() {
        let checks = [
            check("a", Status::Ok, ""),
            check("b", Status::Warning, "do it"),
            check("c", Status::Failure, ""),
        ];
        let text = render(&checks, false, Paint::PLAIN);
        assert_eq!(text.matches("It is small.").count(), 2, "{text}");
        assert!(text.contains("run:  do it\n"), "{text}");
        assert!(text.ends_with("3 checks: 1 failure, 1 warning, 1 ok\n"), "{text}");
        assert_eq!(render(&checks, true, Paint::PLAIN).matches("It is small.").count(), 3);
        assert!(judge(&checks).is_err_and(|failure| failure.to_string().contains("c failed")));
        assert!(judge(&checks[..2]).is_ok());
    }

    #[test]
    fn the_drop_in_holds_each_setting_once_and_the_larger_one() {
        let checks = [
            setting("rmem_max", "net.core.rmem_max", "4194304"),
            setting("udp_rcvbuf_errors", "net.core.rmem_max", "8388608"),
            setting("udp_mem", "net.ipv4.udp_mem", "1 2 3"),
            check("b", Status::Warning, "do it"),
        ];
        let text = drop_in(&checks);
        let lines: Vec<&str> =
            text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
        assert_eq!(lines, ["net.core.rmem_max = 8388608", "net.ipv4.udp_mem = 1 2 3"]);
        assert!(text.contains("# udp_mem: found 208 KiB. It is small."), "{text}");
        assert!(drop_in(&[]).lines().all(|line| line.starts_with('#')));
    }
}
