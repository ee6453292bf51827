//! `ringest bench show`: shows a saved report as a table, as Markdown or as a page.

use std::path::PathBuf;

use clap::Args;
use ringest_bench::document::read::read;
use ringest_bench::document::report::Report;
use ringest_bench::report::findings::{headlines, warnings};
use ringest_bench::report::tables;
use ringest_bench::report::tables::Table;

use crate::cli::bench::client::print;
use crate::cli::bench::table;
use crate::cli::failure::Failure;
use crate::cli::show::paint::Paint;

/// Show a saved report as a table, as Markdown or as a page
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ringest bench show ndr.json                     the tables that the run printed
  ringest bench show ndr.json --markdown          for a README
  ringest bench show ndr.json --report ndr.html   the page, without running it again")]
pub(crate) struct ShowArgs {
    /// A report, from `ringest bench … --json FILE`
    #[arg(value_name = "FILE.json")]
    file: PathBuf,
    /// Print Markdown
    #[arg(long, conflicts_with = "report")]
    markdown: bool,
    /// Write a web page instead
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

pub(crate) fn run(args: &ShowArgs) -> Result<(), Failure> {
    let report = read(&args.file).map_err(|error| Failure::Failed(error.to_string()))?;
    if let Some(path) = &args.report {
        return std::fs::write(path, ringest_bench::report::page(&report))
            .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())));
    }
    print(&if args.markdown { markdown(&report) } else { table::render(&report, Paint::stdout()) })
}

/// Makes text safe for a cell of a table: pipes and line ends would end it.
fn cell(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(clean).collect::<String>().replace('|', "\\|")
}

fn markdown(report: &Report) -> String {
    let mut text = format!("```sh\n{}\n```\n\n", cell(&report.command));
    for warning in warnings(report) {
        text += &format!("- {}\n", cell(&warning));
    }
    for headline in headlines(report) {
        let (name, figure, note) = (headline.name, headline.figure, headline.note);
        text += &format!("- {}: **{}** {}\n", cell(&name), cell(&figure), cell(&note));
    }
    tables::all(report).iter().fold(text, |text, table| text + &markdown_table(table))
}

fn markdown_table(table: &Table) -> String {
    let row = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule: Vec<&str> = (0..table.head.len())
        .map(|column| if table.holds_figures(column) { "---:" } else { "---" })
        .collect();
    let mut text =
        format!("\n**{}**\n\n{}|{}|\n", cell(&table.title), row(&table.head), rule.join("|"));
    for line in &table.lines {
        text += &row(&line.cells);
    }
    if !table.note.is_empty() {
        text += &format!("\n{}\n", cell(&table.note));
    }
    text
}

#[cfg(test)]
mod tests {
    use ringest_bench::document::report::Mode;

    use super::*;
    use crate::cli::bench::table::sample;

    #[test]
    fn every_row_of_a_markdown_table_has_all_its_cells() {
        for mode in [Mode::Ndr, Mode::Compare, Mode::Burst, Mode::Latency, Mode::Curve] {
            let mut report = sample::report(mode);
            report.host.hostname = "a|b\n# c".to_owned();
            let text = markdown(&report);
            let mut columns = None;
            for line in text.lines() {
                let pipes = line.replace("\\|", "").matches('|').count();
                match columns {
                    _ if !line.starts_with('|') => columns = None,
                    None => columns = Some(pipes),
                    Some(columns) => assert_eq!(pipes, columns, "{line}"),
                }
            }
        }
    }
}
