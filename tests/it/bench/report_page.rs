//! The report's page in a browser: on a desk and on a phone, in light and in dark, everything is
//! there, nothing meets the edge or anything else, and nobody is asked for anything.

use std::path::Path;

use ringest_bench::document::{facts, report, trial};
use ringest_bench::report::page;
use serde_json::Value;

use crate::rigs::chromium::Chromium;

#[path = "../../page/sample.rs"]
mod sample;

const MEASURE: &str = include_str!("../../page/measure.js");

/// Starts a browser, or says why the test is skipped. Where everything must be tested, its absence is a
/// failure.
fn browser() -> Option<Chromium> {
    let browser = Chromium::start();
    if browser.is_none() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "chromium is not installed");
        println!("skipped: chromium is not installed (scripts/test installs it)");
    }
    browser
}

struct Look {
    measured: Value,
    problems: Vec<String>,
}

fn look(browser: &mut Chromium, file: &Path, width: u32, dark: bool) -> Look {
    let url = format!("file://{}", file.display());
    let requests = browser.open(&url, width, dark);
    let measured = browser.run(MEASURE);
    let mut problems: Vec<String> =
        measured["problems"].as_array().unwrap().iter().map(ToString::to_string).collect();
    // An inline `data:` icon is part of the page.
    let abroad = requests.iter().filter(|asked| **asked != url && !asked.starts_with("data:"));
    problems.extend(abroad.map(|asked| format!("it asked for {asked}")));
    if measured["width"] != width {
        problems.push(format!("the screen is {} wide", measured["width"]));
    }
    Look { measured, problems }
}

/// Keeps a picture for a person to look at: `target/tmp/report-*.png`.
fn keep_screenshot(browser: &mut Chromium, name: &str) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(directory.join(format!("{name}.png")), decode(&browser.screenshot())).unwrap();
}

/// Decodes Base64 (RFC 4648).
fn decode(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0u32);
    for c in text.bytes().filter(|c| *c != b'=') {
        (bits, held) = ((bits << 6 | u32::from(value(c))) & 0xffff, held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push(((bits >> held) & 0xff).try_into().unwrap());
        }
    }
    bytes
}

#[test]
fn the_page_is_right_on_a_desk_and_on_a_phone_in_light_and_in_dark() {
    let Some(mut browser) = browser() else { return };
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut problems = Vec::new();
    for (mode, charts) in sample::CHARTS {
        let file = directory.join(format!("report-{}.html", mode.as_str()));
        std::fs::write(&file, page(&sample::report(*mode))).unwrap();
        let mut grounds = Vec::new();
        // Between the two widths of the charts as well, where each is at its smallest.
        for (width, dark) in
            [(1280, false), (1280, true), (390, false), (390, true), (820, false), (819, true)]
        {
            let name =
                format!("report-{}-{width}-{}", mode.as_str(), if dark { "dark" } else { "light" });
            let look = look(&mut browser, &file, width, dark);
            problems.extend(look.problems.into_iter().map(|problem| format!("{name}: {problem}")));
            let mut shown: Vec<&str> = look.measured["charts"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(Value::as_str)
                .collect();
            shown.sort_unstable();
            let mut wanted = charts.to_vec();
            wanted.sort_unstable();
            assert_eq!(shown, wanted, "{name}");
            grounds.push(look.measured["page"].clone());
            keep_screenshot(&mut browser, &name);
        }
        assert_ne!(grounds[0], grounds[1], "{mode:?}: dark is as light");
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Everything the measure looks for, wrong at once.
const BROKEN: &str = "<!doctype html><meta name=viewport content='width=device-width'><style>body { margin: 0 } .pale { color: #ccc }</style>\
    <p style='width: 3000px'>wide</p><p class=pale>pale</p>\
    <img src='http://127.0.0.1:1/x.png'>\
    <figure id=over><svg class=chart width=300 height=60 viewBox='0 0 300 60'>\
    <text x=290 y=30>over</text><text x=10 y=30>one upon</text><text x=20 y=30>another</text>\
    <circle cx=-20 cy=30 r=5 /></svg></figure>\
    <figure id=small><svg class=chart width=100 height=60 viewBox='0 0 300 180'>\
    <text x=10 y=30>tiny</text></svg></figure>\
    <figure id=none><svg class=chart width=0 height=0></svg></figure>";

#[test]
fn the_measure_finds_what_is_wrong() {
    let Some(mut browser) = browser() else { return };
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report-broken.html");
    std::fs::write(&file, BROKEN).unwrap();
    let found = look(&mut browser, &file, 390, false).problems.join("\n");
    for wanted in [
        "the page is 3000 wide",
        "\\\"over\\\" is over the edge",
        "\\\"one upon\\\" overlaps \\\"another\\\"",
        "a circle is over the edge",
        "over has no name",
        "small: text of 5.3 px",
        "none shows 0 charts",
        "contrast 1.6",
        "it asked for http://127.0.0.1:1/x.png",
    ] {
        assert!(found.contains(wanted), "{wanted} is not in\n{found}");
    }
}

#[test]
fn a_hostile_report_neither_runs_nor_breaks_anything() {
    let Some(mut browser) = browser() else { return };
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut problems = Vec::new();
    for (mode, _) in sample::CHARTS {
        for (kind, report) in [("hostile", sample::hostile(*mode)), ("empty", sample::empty(*mode))]
        {
            let name = format!("report-{}-{kind}", mode.as_str());
            let file = directory.join(format!("{name}.html"));
            std::fs::write(&file, page(&report)).unwrap();
            for width in [1280, 390] {
                let look = look(&mut browser, &file, width, false);
                let scripts = browser.run("document.querySelectorAll('script, img').length");
                assert_eq!(scripts, 0, "{name}");
                problems
                    .extend(look.problems.into_iter().map(|problem| format!("{name}: {problem}")));
                keep_screenshot(&mut browser, &format!("{name}-{width}"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
