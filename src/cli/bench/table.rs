//! The results of a bench on a terminal: warnings first, then the figures to quote, then the tables.

use ringest_base::text::figures;
use ringest_bench::document::report::Report;
use ringest_bench::report::findings::{Headline, headlines, warnings};
use ringest_bench::report::tables;
use ringest_bench::report::tables::{Line, Table, Tone};

use crate::cli::show::paint;
use crate::cli::show::paint::Paint;

/// Spaces between columns.
const GAP: usize = 3;
/// Most characters of a name. Longer ones are cut.
const NAME_MOST: usize = 40;
/// Most characters of a line. Longer ones would wrap on most screens.
const LINE_MOST: usize = 120;

/// Returns all results as text.
pub(crate) fn render(report: &Report, paint: Paint) -> String {
    let title = paint.bold(&format!("ringest bench {}", report.mode.as_str()));
    let between = if report.loopback { "over loopback" } else { "over a network" };
    let mut text = format!(
        "\n{title}  {}, {between}, {}\n",
        figures::cut(&report.host.hostname, NAME_MOST),
        figures::date(report.started_at_unix_s)
    );
    text += &first(report, paint);
    text += &figures(&headlines(report), paint);
    for found in tables::all(report) {
        text += &table(&found, paint);
    }
    text
}

/// Returns the warnings, which stand before all figures; empty if there are none.
fn first(report: &Report, paint: Paint) -> String {
    let warnings = warnings(report);
    if warnings.is_empty() {
        return String::new();
    }
    let mut text = format!("\n  {}\n", paint.bold("Know this first"));
    for warning in &warnings {
        text += &noted(warning, paint);
    }
    text
}

/// Returns a warning as a paragraph.
pub(crate) fn noted(warning: &str, paint: Paint) -> String {
    let paragraph = paint::paragraph(&figures::printable(warning), 4);
    format!("{}\n", paint.yellow(paragraph.trim_end()))
}

fn figures(headlines: &[Headline], paint: Paint) -> String {
    let widest = |of: fn(&Headline) -> &str| {
        headlines.iter().map(|headline| of(headline).chars().count()).max().unwrap_or(0)
    };
    let (names, figures) = (widest(|h| &h.name), widest(|h| &h.figure));
    let mut text = String::from(if headlines.is_empty() { "" } else { "\n" });
    for Headline { name, figure, note } in headlines {
        let figure = paint.bold(&format!("{figure:>figures$}"));
        let line = format!("  {name:<names$}   {figure}   {}", figures::printable(note));
        text += &format!("{}\n", line.trim_end());
    }
    text
}

/// Returns a table, with columns as wide as their cells; words on the left, figures on the right.
pub(crate) fn table(table: &Table, paint: Paint) -> String {
    let cut = |column: usize, cell: &str| match column {
        0 => figures::cut(cell, NAME_MOST),
        _ => figures::printable(cell),
    };
    let head: Vec<String> = table.head.iter().map(|name| figures::cut(name, NAME_MOST)).collect();
    let width = |column: usize| {
        let cells = table.lines.iter().filter_map(|line| line.cells.get(column));
        let cells = cells.map(|cell| cut(column, cell).chars().count());
        cells.chain(head.get(column).map(|name| name.chars().count())).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = (0..head.len()).map(width).collect();
    // Columns that do not fit are named below the table: the page has them.
    let mut used = 2;
    let mut fits = |width: &usize| {
        used += width + GAP;
        used <= LINE_MOST
    };
    let fitting = widths.iter().take_while(|width| fits(width)).count().max(2);
    widths.truncate(fitting);
    let row = |cells: &[String]| {
        let mut text = String::from(" ");
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let cell = cut(column, cell);
            let gap = if column == 0 { 1 } else { GAP };
            text += &" ".repeat(gap);
            text += &match table.holds_figures(column) {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            };
        }
        text.trim_end().to_owned()
    };
    let mut text = format!("\n  {}\n", paint.bold(&figures::printable(&table.title)));
    text += &format!("{}\n", paint.dim(&row(&head)));
    for Line { cells, tone } in &table.lines {
        let row = row(cells);
        text += &match tone {
            Tone::Plain => row,
            Tone::Good => paint.green(&row),
            Tone::Bad => paint.yellow(&row),
            Tone::Faint => paint.dim(&row),
        };
        text.push('\n');
    }
    let mut note = table.note.clone();
    if head.len() > widths.len() {
        let left_out: Vec<String> = head.iter().skip(widths.len()).cloned().collect();
        note = format!("{note} In --report and --json also: {}.", left_out.join("; "));
    }
    if !note.is_empty() {
        let note = paint::paragraph(&figures::printable(&note), 2);
        text += &format!("{}\n", paint.dim(note.trim_end()));
    }
    text
}

#[cfg(test)]
use ringest_bench::document::{facts, report, trial};
#[cfg(test)]
#[path = "../../../tests/page/sample.rs"]
pub(crate) mod sample;

#[cfg(test)]
mod tests {
    use ringest_bench::document::report::Mode;

    use super::*;

    #[test]
    fn every_mode_has_a_sheet_that_fits_a_screen() {
        for (mode, _) in sample::CHARTS {
            let text = render(&sample::report(*mode), Paint::PLAIN);
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
            assert!(widest <= LINE_MOST, "{mode:?} is {widest} wide\n{text}");
            assert!(text.contains("Where every datagram went"), "{text}");
            assert!(
                !render(&sample::empty(*mode), Paint::PLAIN).contains("Where every"),
                "{mode:?}"
            );
        }
    }

    #[test]
    fn warnings_come_before_figures() {
        let text = render(&sample::report(Mode::Ndr), Paint::PLAIN);
        let at = |wanted: &str| text.find(wanted).unwrap_or_else(|| panic!("{wanted}\n{text}"));
        assert!(at("The generator could not") < at("1 of 12 trials are void"));
        assert!(at("trials are void") < at("NDR, no datagram lost   812,400/s"));
        assert!(at("NDR, no datagram lost") < at("Rates found"));
    }

    #[test]
    fn columns_stand_under_their_names() {
        let text = render(&sample::report(Mode::Ndr), Paint::PLAIN);
        let lines: Vec<&str> = text.lines().collect();
        let head = lines.iter().position(|line| line.contains("loss agreed to")).unwrap();
        let end = |line: &str, of: &str| line[..line.find(of).unwrap() + of.len()].chars().count();
        assert_eq!(end(lines[head], "not kept at"), end(lines[head + 1], "816,300/s"));
    }

    #[test]
    fn columns_that_do_not_fit_are_named() {
        let text = render(&sample::report(Mode::Compare), Paint::PLAIN);
        assert!(text.contains("In --report and --json also: ") && text.contains("bare recvmsg."));
    }

    #[test]
    fn another_host_cannot_steer_the_terminal() {
        for (mode, _) in sample::CHARTS {
            let text = render(&sample::hostile(*mode), Paint::PLAIN);
            assert!(!text.contains(['\x1b', '\u{202e}']), "{mode:?}");
        }
    }
}
