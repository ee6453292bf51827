//! Single values as they are typed: sizes, durations, cores, addresses. Each reader says what it
//! expected.

use std::net::SocketAddr;
use std::time::Duration;

use ringest::{Interface, ListenAddr};
use ringest_engine::control::names;
use ringest_load::spec::{Gso, PAYLOAD_BYTES_MAX, Rate, Sizes, TRAIN_MAX};

/// Cores are numbered below the size of the kernel's `cpu_set_t`.
const CORES_MAX: usize = 1024;

/// Longer than any run, short enough that adding it to a clock cannot overflow.
const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Cores to pin to, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cores(pub(crate) Vec<usize>);

/// A number of threads; `None` is `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Threads(pub(crate) Option<usize>);

/// A bound on added latency; `None` is `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coalesce(pub(crate) Option<Duration>);

/// `8192`, `64K`, `4M`, `1G`, with `KiB` and so on meaning the same.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let expected = || "expected bytes, such as 65536, 64K, 4M or 1G (1K is 1024)".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let shift = match suffix.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err(expected()),
    };
    let number: usize = number.parse().map_err(|_| expected())?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text} is more than any host has"))
}

/// `5s`, `250ms`, `1m 30s`; longer than nothing.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|_| "expected a duration with its unit, such as 250ms, 5s or 1m".to_owned())?;
    if duration.is_zero() {
        return Err("expected longer than nothing, such as 250ms, 5s or 1m".to_owned());
    }
    if duration > DURATION_MAX {
        return Err("expected at most 100 years; leave it out to go on until stopped".to_owned());
    }
    Ok(duration)
}

/// `auto`, `0` or a duration.
pub(crate) fn coalesce(text: &str) -> Result<Coalesce, String> {
    match text {
        "auto" => Ok(Coalesce(None)),
        "0" => Ok(Coalesce(Some(Duration::ZERO))),
        _ => duration(text).map(|bound| Coalesce(Some(bound))).map_err(|_| {
            "expected auto, 0 (never wait) or a duration with its unit, such as 200us".to_owned()
        }),
    }
}

/// `auto` or a number.
pub(crate) fn threads(text: &str) -> Result<Threads, String> {
    if text == "auto" {
        return Ok(Threads(None));
    }
    let number = text.parse().map_err(|_| "expected auto or a number of threads".to_owned())?;
    Ok(Threads(Some(number)))
}

/// `0,2-3`.
pub(crate) fn cores(text: &str) -> Result<Cores, String> {
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (core(first)?, core(last)?);
        if first > last {
            return Err(format!("{part} runs backwards: write {last}-{first}"));
        }
        for core in first..=last {
            if cores.contains(&core) {
                return Err(format!("core {core} is given twice"));
            }
            cores.push(core);
        }
    }
    Ok(Cores(cores))
}

fn core(text: &str) -> Result<usize, String> {
    let core = text.parse().map_err(|_| "expected core numbers, such as 0 or 0,2-3".to_owned())?;
    if core >= CORES_MAX {
        return Err(format!("core {core}: cores are numbered below {CORES_MAX}"));
    }
    Ok(core)
}

/// Where to listen, as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenArg {
    /// An address, or all of them.
    Address(ListenAddr),
    /// A name to look up, and the port.
    Name(String, u16),
}

/// `IP:PORT`, `[IP6]:PORT`, `[IP6%IFACE]:PORT`, `*:PORT` or `NAME:PORT`.
pub(crate) fn listen_arg(text: &str) -> Result<ListenArg, String> {
    match text.parse() {
        // IPv4 written as IPv6 is IPv4: no socket takes it as the other.
        Ok(ListenAddr::At(address)) => {
            let ip = address.ip().to_canonical();
            let at = if ip == address.ip() { address } else { SocketAddr::new(ip, address.port()) };
            return Ok(ListenArg::Address(ListenAddr::At(at)));
        }
        Ok(any) => return Ok(ListenArg::Address(any)),
        Err(_) => {}
    }
    if let Some(address) = names::scoped(text)? {
        return Ok(ListenArg::Address(ListenAddr::At(address)));
    }
    let expected =
        || "expected IP:PORT, [IP6]:PORT, *:PORT or NAME:PORT, such as 127.0.0.1:9000".to_owned();
    let (name, port) = text.rsplit_once(':').ok_or_else(expected)?;
    let port = port.parse().map_err(|_| expected())?;
    // What is not a name was meant as an address, which the resolver would not explain.
    let like_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let like_address = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if name.is_empty() || like_address || !name.bytes().all(like_name) {
        return Err(expected());
    }
    Ok(ListenArg::Name(name.to_owned(), port))
}

/// The name of a network interface. An empty one would mean any, and a long one be cut.
pub(crate) fn device(text: &str) -> Result<String, String> {
    match text.parse()? {
        Interface::Name(name) => Ok(name),
        Interface::Index(_) => Err("expected the interface's name, such as eth0".to_owned()),
    }
}

/// Whether this can be a server's host: a name, an IPv4 address, or an IPv6 address in brackets.
pub(crate) fn is_host(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            !text.is_empty() && text.bytes().all(fits)
        }
    }
}

/// Records under way: too few and every one waits for the one before it, too many and memory is without
/// a bound.
pub(crate) fn window(text: &str) -> Result<usize, String> {
    let window = text.parse().ok().filter(|window| (1..=1 << 20).contains(window));
    window.ok_or_else(|| "expected a number from 1 to 1048576".to_owned())
}

/// The first of some flags that was given.
pub(crate) fn given<const N: usize>(flags: [(&'static str, bool); N]) -> Option<&'static str> {
    flags.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
}

/// A number in decimal, or in hexadecimal with 0x.
pub(crate) fn number(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "expected a number up to 4294967295, such as 7 or 0x1f".to_owned())
}

/// The same, of one byte.
pub(crate) fn byte(text: &str) -> Result<u8, String> {
    let byte = number(text).ok().and_then(|number| u8::try_from(number).ok());
    byte.ok_or_else(|| "expected 0 to 255, such as 184 or 0xb8".to_owned())
}

/// A decimal number with k, M or G for thousands, and how it ends otherwise.
fn scaled(text: &str) -> Option<(f64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let (factor, rest) = match rest.as_bytes().first() {
        Some(b'k' | b'K') => (1e3, &rest[1..]),
        Some(b'M') => (1e6, &rest[1..]),
        Some(b'G') => (1e9, &rest[1..]),
        _ => (1.0, rest),
    };
    Some((number * factor, rest))
}

/// `max`, `50000`, `50k`, `100Mbps`.
pub(crate) fn rate(text: &str) -> Result<Rate, String> {
    let expected = "expected datagrams a second (50000, 50k, 1M), bits a second (100Mbps, 2.5Gbps) or \
                    max";
    match (text, scaled(text)) {
        ("max", _) => Ok(Rate::Max),
        (_, Some((pps, "" | "pps"))) if pps > 0.0 => Ok(Rate::Pps(pps)),
        (_, Some((bps, "bps" | "bit" | "bit/s"))) if bps > 0.0 => Ok(Rate::Bps(bps)),
        (_, Some((number, "" | "pps" | "bps" | "bit" | "bit/s"))) if number <= 0.0 => {
            Err("a rate of 0 sends nothing; leave the load out, or give a rate above 0".to_owned())
        }
        _ => Err(expected.to_owned()),
    }
}

/// `2`, `0.5`, `10`.
pub(crate) fn speed(text: &str) -> Result<f64, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match text.parse::<f64>() {
        Ok(speed) if plain && speed > 0.0 && speed.is_finite() => Ok(speed),
        Ok(0.0) => Err("at a speed of 0 it never ends; give one above 0".to_owned()),
        _ => Err("expected how many times as fast, such as 0.5, 2 or 10".to_owned()),
    }
}

/// `64`, `64-1400` or `imix`.
pub(crate) fn sizes(text: &str) -> Result<Sizes, String> {
    let number = |text: &str| -> Result<usize, String> {
        let size = text
            .parse()
            .map_err(|_| "expected bytes (64), a range (64-1400) or imix".to_owned())?;
        if size > PAYLOAD_BYTES_MAX {
            return Err(format!("a UDP datagram carries at most {PAYLOAD_BYTES_MAX} bytes"));
        }
        Ok(size)
    };
    match text.split_once('-') {
        None if text == "imix" => Ok(Sizes::Imix),
        None => number(text).map(Sizes::Fixed),
        Some((low, high)) => {
            let (low, high) = (number(low)?, number(high)?);
            if low > high {
                return Err(format!("{text} runs backwards: write {high}-{low}"));
            }
            Ok(Sizes::Range(low, high))
        }
    }
}

/// `auto`, `off` or a number of datagrams per send.
pub(crate) fn gso(text: &str) -> Result<Gso, String> {
    match (text, text.parse()) {
        ("auto", _) => Ok(Gso::Auto),
        ("off", _) | (_, Ok(1)) => Ok(Gso::Off),
        (_, Ok(train @ 2..=TRAIN_MAX)) => Ok(Gso::Trains(train)),
        _ => Err(format!("expected auto, off or 2 to {TRAIN_MAX} datagrams per send")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_take_binary_suffixes() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65_536),
            ("64K", 65_536),
            ("64k", 65_536),
            ("4M", 4 << 20),
            ("4MiB", 4 << 20),
            ("1G", 1 << 30),
            ("7b", 7),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in
            ["", "K", "-1", "1.5M", "4 M", "1T", "0x10", "+5", "99999999999999999999", "4MM"]
        {
            assert!(size(text).is_err(), "{text}");
        }
        assert!(size("17179869185G").is_err(), "overflow");
    }

    #[test]
    fn durations_need_a_unit_and_a_length() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        for text in
            ["", "5", "s", "-5s", "0s", "0ms", "5 fortnights", "1000y", "99999999999999999y"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn coalesce_is_auto_nothing_or_a_duration() {
        assert_eq!(coalesce("auto"), Ok(Coalesce(None)));
        assert_eq!(coalesce("0"), Ok(Coalesce(Some(Duration::ZERO))));
        assert_eq!(coalesce("200us"), Ok(Coalesce(Some(Duration::from_micros(200)))));
        assert!(coalesce("200").is_err());
        assert!(coalesce("off").is_err());
    }

    #[test]
    fn cores_are_lists_and_ranges_in_order() {
        assert_eq!(cores("0"), Ok(Cores(vec![0])));
        assert_eq!(cores("3,0-1"), Ok(Cores(vec![3, 0, 1])));
        assert_eq!(cores("0,2-3").unwrap().0, [0, 2, 3]);
        for text in ["", ",", "0,", "a", "1-", "-1", "3-1", "0,0", "0-2,1", "1024", "0-99999999999"]
        {
            assert!(cores(text).is_err(), "{text}");
        }
    }

    #[test]
    fn threads_are_auto_or_a_number() {
        assert_eq!(threads("auto"), Ok(Threads(None)));
        assert_eq!(threads("0"), Ok(Threads(Some(0))));
        assert!(threads("many").is_err());
        assert!(threads("-1").is_err());
    }

    #[test]
    fn a_listen_address_may_be_a_name() {
        let name = |text: &str, port| Ok(ListenArg::Name(text.to_owned(), port));
        assert_eq!(listen_arg("localhost:9000"), name("localhost", 9000));
        assert_eq!(listen_arg("a-1.example_x.org:0"), name("a-1.example_x.org", 0));
        for text in ["*:514", "[::]:514", "127.0.0.1:0", "[fe80::1%lo]:9"] {
            assert!(matches!(listen_arg(text), Ok(ListenArg::Address(_))), "{text}");
        }
        for text in [
            "",
            ":9",
            "localhost",
            "1.2.3:9",
            "host:",
            "host:70000",
            "a b:9",
            "::1:9",
            "[::1%no-such-card]:9",
            "[::1]",
        ] {
            assert!(listen_arg(text).is_err(), "{text}");
        }
        assert_eq!((byte("0xb8"), byte("184")), (Ok(184), Ok(184)));
        assert!(byte("256").is_err() && byte("x").is_err());
        assert_eq!(number("0xffffffff"), Ok(u32::MAX));
    }

    #[test]
    fn rates_are_datagrams_or_bits_and_never_nothing() {
        assert_eq!(rate("max"), Ok(Rate::Max));
        assert_eq!(rate("50000"), Ok(Rate::Pps(50_000.0)));
        assert_eq!(rate("1.5k"), Ok(Rate::Pps(1500.0)));
        assert_eq!(rate("100Mbps"), Ok(Rate::Bps(1e8)));
        for text in ["", "0", "0bps", "-1", "fast", "1X", "1Mb", "1e9", "inf", "."] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_one_a_range_or_a_mix() {
        assert_eq!(sizes("64"), Ok(Sizes::Fixed(64)));
        assert_eq!(sizes("0-1400"), Ok(Sizes::Range(0, 1400)));
        assert_eq!(sizes("imix"), Ok(Sizes::Imix));
        for text in ["", "65508", "2-1", "-", "1-", "64K", "0-65508"] {
            assert!(sizes(text).is_err(), "{text}");
        }
        assert_eq!((gso("auto"), gso("off")), (Ok(Gso::Auto), Ok(Gso::Off)));
        assert_eq!((gso("1"), gso("64")), (Ok(Gso::Off), Ok(Gso::Trains(64))));
        assert!(gso("0").is_err() && gso("65").is_err() && gso("on").is_err());
        assert_eq!((speed("2"), speed("0.5")), (Ok(2.0), Ok(0.5)));
        for text in ["", ".", "0", "-1", "nan", "inf", "1e3", "2x", "+2"] {
            assert!(speed(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in any::<String>()) {
            let _ = (size(&text), duration(&text), coalesce(&text), threads(&text), cores(&text));
            let _ = (listen_arg(&text), rate(&text), sizes(&text), gso(&text));
            let _ = speed(&text);
        }

        #[test]
        fn a_size_is_its_number_shifted(number in 0usize..1 << 30, suffix in 0usize..4) {
            let text = format!("{number}{}", ["", "K", "M", "G"][suffix]);
            prop_assert_eq!(size(&text), Ok(number << (10 * suffix)));
        }
    }
}
