//! Exported records in the hands of the programs they are for: DuckDB, pandas and tshark, and Python's
//! reader of CSV. Every field and every byte is compared.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use ringest_base::text::escape;
use serde_json::Value;

use tempfile::TempDir;

use crate::client::rig::RINGEST;
use crate::journal::rig::temp_dir;
use crate::journal::tools::{Entry, entries, journal, journal_ok, same, write};

/// Returns the Python that scripts/test installs packages into, or prints why there is none.
fn python(needs: &str) -> Option<PathBuf> {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    let python = if venv.exists() { venv } else { PathBuf::from("python3") };
    let tried = Command::new(&python).args(["-c", &format!("import {needs}")]).output();
    match tried {
        Ok(output) if output.status.success() => Some(python),
        other => {
            println!("skipped: {needs} is not here, scripts/test installs it: {other:?}");
            None
        }
    }
}

/// Runs a script with `file` as its argument and returns its output, read as JSON.
fn run(python: &Path, script: &str, file: &Path) -> Value {
    let output = Command::new(python).args(["-c", script]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Reads a row: time, address, port, listener, length and payload in hex.
fn entry_of(row: &Value) -> Entry {
    let number = |at: usize| row[at].as_u64().unwrap_or_else(|| panic!("{at} of {row}"));
    let hex = row[5].as_str().unwrap();
    let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
    let payload: Vec<u8> = (0..hex.len() / 2).map(byte).collect();
    assert_eq!(number(4), payload.len() as u64);
    let ip: IpAddr = row[1].as_str().unwrap().parse().unwrap();
    Entry {
        unix_ns: number(0),
        peer: SocketAddr::new(ip, number(2).try_into().unwrap()),
        listener: number(3).try_into().unwrap(),
        payload,
    }
}

fn entries_of(rows: &Value) -> Vec<Entry> {
    rows.as_array().unwrap().iter().map(entry_of).collect()
}

/// Exports a journal. Returns its folder, the file, and its records.
fn export(args: &str) -> (TempDir, PathBuf, Vec<Entry>) {
    let place = temp_dir();
    let all = entries(700);
    let dir = place.path().join("journal");
    write(&dir, &all, true);
    let out = place.path().join("out");
    let args = format!("export {{}} --quiet --out {} {args}", out.display());
    journal_ok(&dir, &args);
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|one| one.unwrap().path()).collect();
    assert_eq!(left.len(), 2, "the file under its name, and no other: {left:?}");
    (place, out, all)
}

#[test]
fn ndjson_is_what_cat_prints() {
    let (place, out, all) = export("--format ndjson");
    let dir = place.path().join("journal");
    let printed = journal_ok(&dir, "cat {} --output json");
    assert!(fs::read(&out).unwrap() == printed);
    assert!(journal_ok(&dir, "export {} --format ndjson") == printed, "on stdout too");
    assert_eq!(printed.iter().filter(|byte| **byte == b'\n').count(), all.len());
    // A file that is there is replaced, a device is written to.
    let args = format!("export {{}} --format ndjson --grep RINGSEAL --out {}", out.display());
    journal_ok(&dir, &args);
    assert_eq!(fs::read_to_string(&out).unwrap().lines().count(), 1);
    journal_ok(&dir, "export {} --format ndjson --out /dev/null");
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

/// A reader that closes the pipe early, such as `head`, is no failure.
#[test]
fn a_reader_that_has_enough_is_the_quiet_end() {
    let place = temp_dir();
    write(place.path(), &entries(2000), false);
    let dir = place.path().to_str().unwrap();
    for (args, code) in [
        ("ls", 0),
        ("cat", 0),
        ("cat --output json", 0),
        ("tail -n 1000", 0),
        ("export --format ndjson", 0),
        ("export --format csv", 0),
        ("export --format pcapng", 0),
        // Its exit code is its answer.
        ("verify --json", 1),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let args = args.split_whitespace().chain([dir]);
        let mut command = Command::new(RINGEST);
        let output = command.arg("journal").args(args).stdout(writer).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.is_empty()), (Some(code), code == 0), "{said}");
    }
}

#[test]
fn csv_reads_back_in_python() {
    let Some(python) = python("csv") else { return };
    let (_place, out, all) = export("--format csv");
    let rows = run(
        &python,
        "import csv, json, sys\n\
         csv.field_size_limit(10**9)\n\
         json.dump(list(csv.reader(open(sys.argv[1], newline=''), strict=True)), sys.stdout)",
        &out,
    );
    let rows = rows.as_array().unwrap();
    let names = ["received", "peer_ip", "peer_port", "listener", "length", "payload"];
    assert_eq!(rows[0], serde_json::json!(names));
    assert_eq!(rows.len(), all.len() + 1);
    for (row, entry) in rows[1..].iter().zip(&all) {
        let mut text = Vec::new();
        escape::text(&mut text, &entry.payload);
        let text = String::from_utf8(text).unwrap();
        let cell = row[5].as_str().unwrap();
        match text.chars().next() {
            Some(first @ ('=' | '@')) => {
                assert_eq!(cell, format!("{}{}", first.escape_unicode(), &text[1..]));
            }
            _ => assert_eq!(cell, text),
        }
        assert!(!cell.starts_with(['=', '+', '-', '@']) && !cell.contains('\n'));
        let same = [
            humantime::parse_rfc3339(row[0].as_str().unwrap()).unwrap()
                == std::time::UNIX_EPOCH + std::time::Duration::from_nanos(entry.unix_ns),
            row[1] == entry.peer.ip().to_string(),
            row[2].as_str().unwrap().parse() == Ok(entry.peer.port()),
            row[3].as_str().unwrap().parse() == Ok(entry.listener),
            row[4].as_str().unwrap().parse() == Ok(entry.payload.len()),
        ];
        assert_eq!(same, [true; 5], "{row}");
    }
}

#[test]
fn parquet_opens_in_duckdb_and_pandas() {
    if !cfg!(feature = "parquet") {
        println!("built without parquet: what is said then is looked at");
        let place = temp_dir();
        write(place.path(), &entries(3), false);
        let args = format!("export {{}} --format parquet --out {}/x", place.path().display());
        let output = journal(place.path(), &args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(said.contains("cargo build --release --features parquet"), "{said}");
        return;
    }
    let (_place, out, all) = export("--format parquet");
    if let Some(python) = python("duckdb") {
        let found = run(
            &python,
            "import duckdb, json, sys\n\
             db = duckdb.connect()\n\
             db.execute(\"create view j as select * from read_parquet('\" + sys.argv[1] + \"')\")\n\
             types = [row[1] for row in db.execute('describe j').fetchall()]\n\
             rows = db.execute('select epoch_ns(received), peer_ip, peer_port, listener, length, \
             hex(payload) from j').fetchall()\n\
             some = db.execute(\"select count(*) from j where peer_ip = '192.0.2.7' and \
             received >= '2026-05-28 20:26:40.3'\").fetchone()[0]\n\
             json.dump({'types': types, 'rows': rows, 'some': some}, sys.stdout)",
            &out,
        );
        let types: Vec<&str> =
            found["types"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        // Which of its types for a moment it takes depends on its version; it has the nanoseconds.
        assert!(types[0].starts_with("TIMESTAMP"), "{types:?}");
        assert_eq!(types[1..], ["VARCHAR", "USMALLINT", "USMALLINT", "UINTEGER", "BLOB"]);
        same(&entries_of(&found["rows"]), &all, "DuckDB");
        assert!(found["some"].as_u64().unwrap() > 100, "it takes part in queries");
    }
    if let Some(python) = python("pandas, pyarrow") {
        let found = run(
            &python,
            "import json, pandas, sys\n\
             table = pandas.read_parquet(sys.argv[1])\n\
             rows = [[int(time.value), ip, int(port), int(listener), int(length), payload.hex()]\n\
             for time, ip, port, listener, length, payload in table.itertuples(index=False)]\n\
             json.dump({'types': [str(kind) for kind in table.dtypes], 'rows': rows}, sys.stdout)",
            &out,
        );
        assert_eq!(found["types"][0], "datetime64[ns, UTC]");
        assert_eq!(found["types"][2], "uint16");
        same(&entries_of(&found["rows"]), &all, "pandas");
    }
}

#[test]
fn pcapng_opens_in_tshark() {
    let tshark = |file: &Path| {
        let fields = "frame.time_epoch ip.src ipv6.src udp.srcport frame.interface_name udp.length \
                      udp.payload ip.dst ipv6.dst udp.dstport udp.checksum.status ip.checksum.status \
                      _ws.malformed";
        Command::new("tshark")
            .arg("-r")
            .arg(file)
            .args(["-n", "-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"])
            .args(["-T", "fields", "-E", "separator=;"])
            .args(fields.split_whitespace().flat_map(|field| ["-e", field]))
            .output()
    };
    if let Err(error) = tshark(Path::new("/nonexistent")) {
        println!("skipped: tshark cannot be run, scripts/test installs it: {error}");
        return;
    }
    let told = "--listener 203.0.113.5:514 --listener [::]:515";
    for (args, ports) in [("", [60_000, 60_001, 60_002]), (told, [514, 515, 60_002])] {
        let (_place, out, all) = export(&format!("--format pcapng {args}"));
        let output = tshark(&out).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(';').collect()).collect();
        assert_eq!(rows.len(), all.len());
        let mut found = Vec::new();
        for (row, entry) in rows.iter().zip(&all) {
            let listener = usize::from(entry.listener);
            let six = entry.peer.is_ipv6();
            let to = match (six, listener, args) {
                (true, ..) => "2001:db8::1",
                (false, 0, "--listener 203.0.113.5:514 --listener [::]:515") => "203.0.113.5",
                _ => "192.0.2.1",
            };
            assert_eq!([row[7 + usize::from(six)], row[9]], [to, &ports[listener].to_string()]);
            // 1: good. IPv6 has no checksum of its own.
            assert_eq!([row[10], row[11]], ["1", if six { "" } else { "1" }], "{:?}", &row[..6]);
            assert!(row[4].starts_with(&format!("listener {listener}")));
            let (seconds, nanos) = row[0].split_once('.').unwrap();
            let unix_ns = format!("{seconds}{nanos:0<9}").parse::<u64>().unwrap();
            let ip = if six { row[2] } else { row[1] };
            let length = row[5].parse::<u64>().unwrap() - 8;
            let port: u16 = row[3].parse().unwrap();
            let row = serde_json::json!([unix_ns, ip, port, listener, length, row[6]]);
            found.push(entry_of(&row));
        }
        same(&found, &all, "tshark");
    }
}
