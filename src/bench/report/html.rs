//! The page: one file, no script, nothing loaded. Sections without figures are not there.

use std::fmt::Write;

use crate::document::facts::HostFacts;
use crate::document::report::{Mode, Report, Setting};
use crate::report::charts;
use crate::report::findings::{headlines, warnings};
use crate::report::tables;
use crate::report::tables::{Table, Tone};
use ringest_base::text::figures;
use ringest_base::text::figures::{bytes, count, date, escape, real};

const STYLE: &str = include_str!("style.css");

/// Forbids all that the page does not need, so that even a mistake in it could load nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
                      base-uri 'none'; form-action 'none'";

/// The report as one self-contained HTML page.
#[must_use]
pub fn page(report: &Report) -> String {
    let title = format!("ringest bench {}", report.mode.as_str());
    let name = format!("{title}: {}", figures::cut(&report.host.hostname, 60));
    let answers = section(
        answers_title(report.mode),
        &(charts::loss(report)
            + &charts::compare(report)
            + &charts::burst(report)
            + &charts::latency(report)),
        &tables::answers(report),
    );
    let sections = [
        head(report, &title),
        answers,
        section("Where every datagram went", &charts::waterfall(report), &[tables::ledger(report)]),
        section("What a datagram cost", &charts::costs(report), &[tables::costs(report)]),
        setting(report),
        hosts(report),
        repeat(report),
        section("Trials", "", &[tables::trials(report)]),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n<link rel=\"icon\" href=\"data:,\">\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{}</main>\n</body>\n</html>\n",
        escape(&name),
        sections.concat()
    )
}

fn answers_title(mode: Mode) -> &'static str {
    match mode {
        Mode::Ndr => "Rates and losses",
        Mode::Compare => "Receive APIs compared",
        Mode::Burst => "Bursts",
        Mode::Latency => "Latency, and the rates it was taken at",
        Mode::Curve => "Rates and losses",
    }
}

fn head(report: &Report, title: &str) -> String {
    let between = if report.loopback { "over loopback" } else { "over a network" };
    let mut html = format!(
        "<header>\n<h1>{}</h1>\n<p>{} on <b>{}</b>, {between}, <time>{}</time>, ringest {}</p>\n\
         </header>\n",
        escape(title),
        question(report.mode),
        escape(&figures::cut(&report.host.hostname, 80)),
        date(report.started_at_unix_s),
        escape(&report.ringest)
    );
    let warnings = warnings(report);
    if !warnings.is_empty() {
        html += "<section class=\"warnings\" aria-labelledby=\"warnings\">\n\
                 <h2 id=\"warnings\">Know this first</h2>\n<ul>\n";
        for warning in &warnings {
            let _ = writeln!(html, "<li>{}</li>", escape(warning));
        }
        html += "</ul>\n</section>\n";
    }
    let figures = headlines(report);
    if !figures.is_empty() {
        html += "<dl class=\"figures\">\n";
        for figure in figures {
            let _ = writeln!(
                html,
                "<div><dt>{}</dt><dd><b>{}</b>{}</dd></div>",
                escape(&figure.name),
                escape(&figure.figure),
                escape(&figure.note)
            );
        }
        html += "</dl>\n";
    }
    html
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

fn section(title: &str, charts: &str, tables: &[Table]) -> String {
    let tables: Vec<String> =
        tables.iter().filter(|table| !table.lines.is_empty()).map(table).collect();
    if charts.is_empty() && tables.is_empty() {
        return String::new();
    }
    format!("<section>\n<h2>{}</h2>\n{charts}{}</section>\n", escape(title), tables.concat())
}

/// A table in a frame of its own that scrolls, by keyboard too, so that the page never has to.
fn table(table: &Table) -> String {
    let mut html = format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\">\n\
         <table>\n<caption><span>{0}</span></caption>\n<thead><tr>",
        escape(&table.title)
    );
    let class = |column| if table.holds_figures(column) { " class=\"n\"" } else { "" };
    for (column, name) in table.head.iter().enumerate() {
        let _ = write!(html, "<th scope=\"col\"{}>{}</th>", class(column), escape(name));
    }
    html += "</tr></thead>\n<tbody>\n";
    for line in &table.lines {
        html += match line.tone {
            Tone::Plain => "<tr>",
            Tone::Good => "<tr class=\"good\">",
            Tone::Bad => "<tr class=\"bad\">",
            Tone::Faint => "<tr class=\"faint\">",
        };
        for (column, cell) in line.cells.iter().enumerate() {
            let _ = match column {
                0 => write!(html, "<th scope=\"row\">{}</th>", escape(cell)),
                _ => write!(html, "<td{}>{}</td>", class(column), escape(cell)),
            };
        }
        html += "</tr>\n";
    }
    html += "</tbody>\n</table>\n</div>\n";
    if !table.note.is_empty() {
        let _ = writeln!(html, "<p class=\"note\">{}</p>", escape(&table.note));
    }
    html
}

fn facts(html: &mut String, facts: &[(&str, String)]) {
    *html += "<dl class=\"facts\">\n";
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(html, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value));
    }
    *html += "</dl>\n";
}

fn cores(cores: &[usize], none: &str) -> String {
    if cores.is_empty() {
        return none.to_owned();
    }
    cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn setting(report: &Report) -> String {
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
    let mut html = String::from("<section>\n<h2>What ran where</h2>\n");
    facts(
        &mut html,
        &[
            ("Payload, bytes", size.clone()),
            ("One send holds", train),
            ("Flows (source ports)", flows.to_string()),
            ("Pattern", pattern.clone()),
            ("Seconds a trial", figures::seconds(*trial_s)),
            ("Received with", format!("{backend}, UDP_GRO {}", if *gro { "on" } else { "off" })),
            ("Receive buffer", rcvbuf),
            ("Receivers on cores", cores(&setting.receiver_cores, "not pinned")),
            ("Workers on cores", cores(&setting.worker_cores, "none: handled inline")),
            (
                "Senders on cores",
                format!("{} ({threads} threads)", cores(&setting.sender_cores, "not pinned")),
            ),
            ("Seed", seed.to_string()),
        ],
    );
    html + "</section>\n"
}

fn hosts(report: &Report) -> String {
    let mut html = String::from("<section>\n<h2>Hosts</h2>\n");
    if report.loopback || report.host.boot_id == report.sender.boot_id {
        host(&mut html, "Receiver and sender, one host", &report.host);
    } else {
        host(&mut html, "Receiver", &report.host);
        host(&mut html, "Sender", &report.sender);
    }
    html + "</section>\n"
}

fn host(html: &mut String, role: &str, host: &HostFacts) {
    let _ = writeln!(html, "<h3>{role}: {}</h3>", escape(&figures::cut(&host.hostname, 80)));
    let mitigations = if host.mitigations.is_empty() {
        "none needed".to_owned()
    } else {
        host.mitigations.join("; ")
    };
    let machine = if host.virtual_machine { ", in a virtual machine" } else { "" };
    facts(
        html,
        &[
            ("CPU", format!("{}{machine}", host.cpu)),
            ("Cores it may use", cores(&host.cores, "unknown")),
            ("Kernel", host.kernel.clone()),
            ("Governor", host.governor.clone()),
            ("Mitigations", mitigations),
        ],
    );
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
    for facts in [nics, sysctls] {
        if !facts.lines.is_empty() {
            *html += &table(&facts);
        }
    }
}

fn repeat(report: &Report) -> String {
    if report.command.trim().is_empty() {
        return String::new();
    }
    format!(
        "<section>\n<h2>To have it again</h2>\n\
         <pre tabindex=\"0\"><code>{}</code></pre>\n\
         <p class=\"note\">Seed {} gives the same order of trials. To see what changed beyond noise, \
         keep both results with <code>--json FILE</code> and compare them with \
         <code>ringest bench diff A.json B.json</code>.</p>\n</section>\n",
        report.command.lines().map(escape).collect::<Vec<_>>().join("\n"),
        report.setting.seed
    )
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
