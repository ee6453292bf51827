//! The page: one file without scripts, which loads nothing. Sections without figures are left out.
//!
//! Text from another host cannot become markup: maud escapes each value, and [`page`] replaces
//! control characters at the end.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::document::facts::HostFacts;
use crate::document::report::{Mode, Report, Setting};
use crate::report::charts;
use crate::report::findings::{headlines, warnings};
use crate::report::tables::{self, Table, Tone};
use ringest_base::text::figures::{self, bytes, count, date, printable, real};

const STYLE: &str = include_str!("style.css");

/// The content security policy. It forbids everything that the page does not need, so that not even a
/// mistake in the page could load anything.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
                      base-uri 'none'; form-action 'none'";

/// Returns the report as one self-contained HTML page.
#[must_use]
pub fn page(report: &Report) -> String {
    let title = format!("ringest bench {}", report.mode.as_str());
    let answers = html! {
        (charts::loss(report)) (charts::compare(report)) (charts::burst(report)) (charts::latency(report))
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) ": " (figures::cut(&report.host.hostname, 60)) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
                "\n"
            }
            body {
                main {
                    (head(report, &title))
                    (section(answers_title(report.mode), &answers, &tables::answers(report)))
                    (section(
                        "Where every datagram went",
                        &charts::waterfall(report),
                        &[tables::ledger(report)],
                    ))
                    (section("What a datagram cost", &charts::costs(report), &[tables::costs(report)]))
                    (setting(report))
                    (hosts(report))
                    (repeat(report))
                    (section("Trials", &html! {}, &[tables::trials(report)]))
                }
            }
        }
    };
    // Line by line: the style and the command keep their line feeds.
    page.into_string().lines().flat_map(|line| [printable(line), "\n".to_owned()]).collect()
}

fn answers_title(mode: Mode) -> &'static str {
    match mode {
        Mode::Ndr | Mode::Curve => "Rates and losses",
        Mode::Compare => "Receive APIs compared",
        Mode::Burst => "Bursts",
        Mode::Latency => "Latency, and the rates it was taken at",
    }
}

fn question(mode: Mode) -> &'static str {
    match mode {
        Mode::Ndr => "The highest rate without loss",
        Mode::Compare => "The same work with each receive API",
        Mode::Burst => "The longest burst without loss",
        Mode::Latency => "How long a datagram takes",
        Mode::Curve => "Loss against rate",
    }
}

fn head(report: &Report, title: &str) -> Markup {
    let between = if report.loopback { "over loopback" } else { "over a network" };
    let (warnings, figures) = (warnings(report), headlines(report));
    html! {
        header {
            h1 { (title) }
            p {
                (question(report.mode)) " on " b { (figures::cut(&report.host.hostname, 80)) }
                ", " (between) ", " time { (date(report.started_at_unix_s)) } ", ringest " (report.ringest)
            }
        }
        @if !warnings.is_empty() {
            section.warnings aria-labelledby="warnings" {
                h2 #warnings { "Know this first" }
                ul { @for warning in &warnings { li { (warning) } } }
            }
        }
        @if !figures.is_empty() {
            dl.figures {
                @for figure in figures {
                    div { dt { (figure.name) } dd { b { (figure.figure) } (figure.note) } }
                }
            }
        }
    }
}

fn section(title: &str, charts: &Markup, tables: &[Table]) -> Markup {
    let tables: Vec<&Table> = tables.iter().filter(|table| !table.lines.is_empty()).collect();
    html! {
        @if !(charts.0.is_empty() && tables.is_empty()) {
            section { h2 { (title) } (charts) @for of in tables { (table(of)) } }
        }
    }
}

/// Draws a table in a frame that scrolls sideways, by keyboard too, so that the page never has to.
fn table(table: &Table) -> Markup {
    let class = |column| table.holds_figures(column).then_some("n");
    let tone = |tone| match tone {
        Tone::Plain => None,
        Tone::Good => Some("good"),
        Tone::Bad => Some("bad"),
        Tone::Faint => Some("faint"),
    };
    html! {
        div.scroll tabindex="0" role="region" aria-label=(table.title) {
            table {
                caption { span { (table.title) } }
                thead {
                    tr {
                        @for (column, name) in table.head.iter().enumerate() {
                            th scope="col" class=[class(column)] { (name) }
                        }
                    }
                }
                tbody {
                    @for line in &table.lines {
                        tr class=[tone(line.tone)] {
                            @for (column, cell) in line.cells.iter().enumerate() {
                                @if column == 0 {
                                    th scope="row" { (cell) }
                                } @else {
                                    td class=[class(column)] { (cell) }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if !table.note.is_empty() { p.note { (table.note) } }
    }
}

/// Lists names and values; those without a value are left out.
fn facts(facts: &[(&str, String)]) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

fn cores(cores: &[usize], none: &str) -> String {
    if cores.is_empty() {
        return none.to_owned();
    }
    cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn setting(report: &Report) -> Markup {
    let Setting { size, train, flows, threads, pattern, trial_s, seed, backend, gro, .. } =
        &report.setting;
    let setting = &report.setting;
    let number = |size: usize| real(u64::try_from(size).unwrap_or(u64::MAX));
    let train = match train {
        0 | 1 => "one datagram".to_owned(),
        train => format!("up to {train} datagrams (UDP_SEGMENT)"),
    };
    let rcvbuf = format!(
        "{} a socket asked for, {} granted",
        bytes(number(setting.rcvbuf_asked_bytes)),
        bytes(number(setting.rcvbuf_granted_bytes))
    );
    let senders = cores(&setting.sender_cores, "not pinned");
    html! {
        section {
            h2 { "What ran where" }
            (facts(&[
                ("Payload, bytes", size.clone()),
                ("One send holds", train),
                ("Flows (source ports)", flows.to_string()),
                ("Pattern", pattern.clone()),
                ("Seconds a trial", figures::seconds(*trial_s)),
                ("Received with", format!("{backend}, UDP_GRO {}", if *gro { "on" } else { "off" })),
                ("Receive buffer", rcvbuf),
                ("Receivers on cores", cores(&setting.receiver_cores, "not pinned")),
                ("Workers on cores", cores(&setting.worker_cores, "none: handled inline")),
                ("Senders on cores", format!("{senders} ({threads} threads)")),
                ("Seed", seed.to_string()),
            ]))
        }
    }
}

fn hosts(report: &Report) -> Markup {
    html! {
        section {
            h2 { "Hosts" }
            @if report.loopback || report.host.boot_id == report.sender.boot_id {
                (host("Receiver and sender, one host", &report.host))
            } @else {
                (host("Receiver", &report.host))
                (host("Sender", &report.sender))
            }
        }
    }
}

fn host(role: &str, host: &HostFacts) -> Markup {
    let mitigations = match host.mitigations.as_slice() {
        [] => "none needed".to_owned(),
        some => some.join("; "),
    };
    let machine = if host.virtual_machine { ", in a virtual machine" } else { "" };
    let mut nics =
        Table::new("Network interfaces", &["name", "driver", "Mbit/s", "MTU", "queues rx/tx"]);
    nics.words = vec![1];
    for nic in &host.interfaces {
        let speed = nic.speed_mbps.map_or_else(figures::dash, count);
        let queues = format!("{}/{}", nic.queues.0, nic.queues.1);
        let cells = [nic.name.clone(), nic.driver.clone(), speed, nic.mtu.to_string(), queues];
        nics.line(Tone::Plain, cells);
    }
    let mut sysctls = Table::new("Kernel settings", &["sysctl", "value"]);
    sysctls.words = vec![1];
    for (name, value) in &host.sysctls {
        sysctls.line(Tone::Plain, [name.clone(), value.clone()]);
    }
    html! {
        h3 { (role) ": " (figures::cut(&host.hostname, 80)) }
        (facts(&[
            ("CPU", format!("{}{machine}", host.cpu)),
            ("Cores it may use", cores(&host.cores, "unknown")),
            ("Kernel", host.kernel.clone()),
            ("Governor", host.governor.clone()),
            ("Mitigations", mitigations),
        ]))
        @for facts in [nics, sysctls].iter().filter(|facts| !facts.lines.is_empty()) { (table(facts)) }
    }
}

fn repeat(report: &Report) -> Markup {
    html! {
        @if !report.command.trim().is_empty() {
            section {
                h2 { "To have it again" }
                pre tabindex="0" { code { (report.command) } }
                p.note {
                    "Seed " (report.setting.seed) " gives the same order of trials. To see what changed \
                     beyond noise, keep both results with " code { "--json FILE" } " and compare them with "
                    code { "ringest bench diff A.json B.json" } "."
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn every_mode_has_a_page_with_its_charts() {
        for (mode, charts) in sample::CHARTS {
            let page = page(&sample::report(*mode));
            for chart in *charts {
                assert!(page.contains(&format!("<figure id=\"{chart}\"")), "{mode:?} {chart}");
            }
            assert_eq!(page.matches("<figure id=").count(), charts.len(), "{mode:?}");
            assert!(page.contains(&format!("<h1>ringest bench {}</h1>", mode.as_str())));
        }
    }

    #[test]
    fn a_report_without_figures_has_a_page() {
        for (mode, _) in sample::CHARTS {
            let page = page(&sample::empty(*mode));
            assert!(!page.contains("<figure") && !page.contains("NaN"), "{mode:?}");
            assert!(page.contains("What ran where"));
        }
    }

    #[test]
    fn the_page_asks_nobody_for_anything() {
        for (mode, _) in sample::CHARTS {
            let page = page(&sample::report(*mode));
            for unwanted in ["http:", "https:", "src=", "url(", "@import", "<script", "//", "=\"#"]
            {
                assert!(!page.contains(unwanted), "{mode:?}: {unwanted} is in the page");
            }
        }
    }

    #[test]
    fn light_and_dark_name_the_same_colours() {
        let (light, dark) = STYLE.split_once("prefers-color-scheme: dark").unwrap();
        let named = |css: &str| -> Vec<String> {
            let lines = css.lines().filter_map(|line| line.trim().strip_prefix("--"));
            let names = lines.filter_map(|line| Some(line.split_once(':')?.0.to_owned()));
            let mut names: Vec<String> = names.collect();
            names.sort();
            names
        };
        assert!(named(light).len() > 14);
        let light: Vec<String> = named(light).into_iter().filter(|n| n != "font").collect();
        assert_eq!(light, named(dark));
        for index in 0..6 + 8 {
            for class in ['s', 'f'] {
                assert!(STYLE.contains(&format!(".{class}{index} ")), "{class}{index}");
            }
        }
    }

    #[test]
    fn what_another_host_says_of_itself_stays_text() {
        for (mode, _) in sample::CHARTS {
            let page = page(&sample::hostile(*mode));
            for unwanted in ["<script", "<img", "onerror=\"", "\x1b", "\u{202e}", "</style><"] {
                assert!(!page.contains(unwanted), "{mode:?}: {unwanted:?} is in the page");
            }
            assert!(page.contains("&lt;script&gt;"), "{mode:?}");
        }
    }

    #[test]
    fn warnings_stand_before_figures_and_the_generator_before_all() {
        let mut report = sample::report(Mode::Ndr);
        report.warnings = vec!["The clock moved.".into()];
        report.trials[0].lost.unsent = 5;
        let page = page(&report);
        let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is not there"));
        let order = ["Know this first", "The generator could not", "The clock moved.", "Loopback:"];
        assert!(order.windows(2).all(|pair| at(pair[0]) < at(pair[1])));
        assert!(at("Loopback:") < at("class=\"figures\""));
    }
}
